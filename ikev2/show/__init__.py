"""The commands of IKEv2 and IPsec: show, clear, debug. Pure renderers of the speaker's snapshot and of the configuration;
`clear` and `debug` ask the service.

What they ask of it: `snapshot()`, `clear(remote=b"", number=0) -> int` (how many IKE SAs that meant), `debugging` (to be set).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ikev2.config import Ikev2Config
from ikev2.engine.snapshot import SpeakerSnapshot
from ikev2.show.ipsec import ipsec_sas
from ikev2.show.ipsec import sessions as crypto_sessions
from ikev2.show.pki import certificates, trustpoints
from ikev2.show.sas import of_peer, sas, sessions
from ikev2.show.settings import (
    authorization_policies,
    ipsec_profiles,
    policies,
    profiles,
    proposals,
    transform_sets,
)
from ikev2.show.stats import pools, samples, stats
from stack.addr import format_address
from stack.ios.command import Command, CommandError, Scene, Shown

__all__ = ["COMMANDS", "samples"]

Values = Mapping[str, Any]
Run = Callable[[Scene, Values], Shown]


def _service(scene: Scene) -> Any:
    if scene.service is None:
        raise CommandError("IKEv2 is not running; `show processes` says why")
    return scene.service


def _snapshot(scene: Scene) -> SpeakerSnapshot:
    found: SpeakerSnapshot = _service(scene).snapshot()
    return found


def _config(scene: Scene) -> Ikev2Config:
    found: Ikev2Config = scene.config[Ikev2Config]
    return found


def _link(scene: Scene) -> Callable[[bytes], tuple[str, int]]:
    """An address of ours -> its interface and that one's MTU."""

    def link(address: bytes) -> tuple[str, int]:
        for interface in scene.tables.interfaces.rows.values():
            if address in interface.addresses:
                return interface.name, interface.mtu
        return "", 0

    return link


def _vrf(scene: Scene) -> Callable[[str], str]:
    def vrf(name: str) -> str:
        found = scene.tables.interfaces.rows.get(name)
        return "" if found is None else str(found.vrf)

    return vrf


# --- show -------------------------------------------------------------------------------------------------------------------


def _sas(render: Callable[..., Shown]) -> Run:
    def run(scene: Scene, values: Values) -> Shown:
        snapshot = _snapshot(scene)
        found = of_peer(snapshot, values.get("remote"), values.get("local"))
        return render(snapshot, found, detailed=bool(values.get("detailed") or values.get("detail")))

    return run


def _ipsec_sas(scene: Scene, values: Values) -> Shown:
    interface, peer = values.get("interface", ""), values.get("peer")
    return ipsec_sas(
        _snapshot(scene),
        _link(scene),
        _vrf(scene),
        interface=interface,
        peer=peer,
        detail=bool(values.get("detail") or values.get("detailed")),
    )


def _crypto_sessions(scene: Scene, values: Values) -> Shown:
    detail = bool(values.get("detail") or values.get("detailed"))
    return crypto_sessions(_snapshot(scene), _vrf(scene), remote=values.get("remote"), detail=detail)


def _configured(render: Callable[[Ikev2Config, str], Shown]) -> Run:
    return lambda scene, values: render(_config(scene), values.get("name", ""))


def _running(render: Callable[[SpeakerSnapshot, str], Shown]) -> Run:
    return lambda scene, values: render(_snapshot(scene), values.get("name", ""))


# --- clear and debug --------------------------------------------------------------------------------------------------------


def _clear(scene: Scene, values: Values) -> Shown:
    """Both ends are told by a DELETE; what is still wanted is negotiated anew."""
    remote, number = values.get("remote", b""), values.get("number", 0)
    meant = _service(scene).clear(remote=remote, number=number)
    if not meant and (remote or number):
        who = f"with {format_address(remote)}" if remote else f"number {number}"
        raise CommandError(f"there is no IKE SA {who}")
    return Shown("", {"cleared": meant})


def _keep_counters(_scene: Scene, _values: Values) -> Shown:
    raise CommandError(
        "lifetimes are measured by the counters of an SA: they begin anew with the next one (`clear crypto sa`)"
    )


def _debug(*, on: bool) -> Run:
    def run(scene: Scene, _values: Values) -> Shown:
        _service(scene).debugging = on
        return Shown(f"IKEv2 debugging is {'on' if on else 'off'}", {"debugging": on})

    return run


def _show_debug(scene: Scene, _values: Values) -> Shown:
    on = bool(_service(scene).debugging)
    return Shown("IKEv2 debugging is on" if on else "", {"debugging": on})


_DETAIL = "[(detail|detailed)]"
_PEER = "[remote {remote:address} | local {local:address}]"
_NAMED = "[{name:name}]"

COMMANDS: tuple[Command, ...] = (
    Command(f"show crypto ikev2 sa {_PEER} {_DETAIL}", _sas(sas), "IKE SAs"),
    Command(f"show crypto ikev2 session {_DETAIL}", _sas(sessions), "IKE SAs with their CHILD_SAs"),
    Command(f"show crypto ikev2 profile {_NAMED}", lambda s, v: profiles(_config(s), _snapshot(s), v.get("name", "")),
            "IKEv2 profiles, and why one cannot be used"),
    Command(f"show crypto ikev2 proposal {_NAMED}", _configured(proposals), "IKEv2 proposals"),
    Command(f"show crypto ikev2 policy {_NAMED}", _configured(policies), "IKEv2 policies"),
    Command(f"show crypto ikev2 authorization policy {_NAMED}", _configured(authorization_policies),
            "what authenticated peers get"),
    Command("show crypto ikev2 stats", lambda scene, _values: stats(_snapshot(scene)),
            "half-open SAs, cookies, refusals by reason"),
    Command(f"show crypto ipsec sa [interface {{interface:interface}} | peer {{peer:address}}] {_DETAIL}", _ipsec_sas,
            "CHILD_SAs and their packets"),
    Command(f"show crypto ipsec profile {_NAMED}", _configured(ipsec_profiles), "IPsec profiles"),
    Command(f"show crypto ipsec transform-set {_NAMED}", _configured(transform_sets), "transform sets"),
    Command(f"show crypto session [remote {{remote:address}}] {_DETAIL}", _crypto_sessions,
            "protected neighbours, those that are down too"),
    Command(f"show crypto pki certificates {_NAMED}", _running(certificates), "certificates that were loaded"),
    Command(f"show crypto pki trustpoints {_NAMED}", _running(trustpoints), "trust points, and why one is not usable"),
    Command(f"show ip local pool {_NAMED}", _running(pools), "pools and their leases"),
    Command(f"show ipv6 local pool {_NAMED}", lambda s, v: pools(_snapshot(s), v.get("name", ""), family=16),
            "IPv6 pools and their leases"),
    Command("show debugging", _show_debug, "what is being debugged"),
    Command("clear crypto ikev2 sa [remote {remote:address} | {number:int:1-4294967295}] [fast]", _clear,
            "end IKE SAs; what is wanted comes up anew"),
    Command("clear crypto session [remote {remote:address}]", _clear, "end IKE SAs; what is wanted comes up anew"),
    Command("clear crypto sa [peer {remote:address}]", _clear, "end CHILD_SAs, with the IKE SAs that made them"),
    Command("clear crypto sa counters", _keep_counters, "cannot be: see `clear crypto sa`"),
    Command("debug crypto ikev2 [{what:error|packet|internal}]", _debug(on=True), "log what happens in detail"),
    Command("undebug crypto ikev2 [{what:error|packet|internal}]", _debug(on=False), "log only what matters again"),
    Command("no debug crypto ikev2 [{what:error|packet|internal}]", _debug(on=False), "log only what matters again"),
)  # fmt: skip
"""Exec commands of package ikev2."""
