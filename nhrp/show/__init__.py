"""The commands of NHRP: show, clear, debug. Pure renderers of the speaker's snapshot; `clear` and `debug` ask the service.

What they ask of it: `snapshot()`, `clear(address=None, afi=None, vrf=None, counters=False) -> int` (how many entries that
meant), `debugging` (a set of words, to be set), `failures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nhrp.config import NhrpConfig
from nhrp.engine.snapshot import SpeakerSnapshot
from nhrp.show.cache import KINDS, bindings, brief, chosen
from nhrp.show.dmvpn import Setting, dmvpn
from nhrp.show.samples import samples
from nhrp.show.servers import counters, redirects, servers, traffic
from nhrp.show.words import explain
from stack.addr import DEFAULT_VRF, Afi, format_address
from stack.events import SaState, TunnelState
from stack.ios.command import Command, CommandError, Scene, Shown

__all__ = ["COMMANDS", "explain", "samples"]

Values = Mapping[str, Any]
Run = Callable[[Scene, Values], Shown]

DEBUGS = ("packet", "event")


def _service(scene: Scene) -> Any:
    if scene.service is None:
        raise CommandError("NHRP is not running; `show processes` says why")
    return scene.service


def _snapshot(scene: Scene) -> SpeakerSnapshot:
    found: SpeakerSnapshot = _service(scene).snapshot()
    return found


def _vrf(scene: Scene, values: Values) -> str | None:
    """The VRF that a command names; None: it names none, and all are meant."""
    name: str | None = values.get("vrf")
    known = sorted(one.name for one in scene.tables.vrfs if one.name != DEFAULT_VRF)
    if name is None or name in known:
        return name
    if name == "default":
        return DEFAULT_VRF
    raise CommandError(f"there is no VRF {name}; there are: {', '.join(known) or 'none'}")


# --- show -------------------------------------------------------------------------------------------------------------------


def _cache(afi: Afi) -> Run:
    def run(scene: Scene, values: Values) -> Shown:
        entries = chosen(
            _snapshot(scene),
            afi,
            vrf=_vrf(scene, values),
            address=values.get("address"),
            interface=values.get("interface", ""),
            kind=values.get("kind", ""),
        )
        if values.get("brief"):
            return brief(entries, scene.now)
        return bindings(entries, scene.now, detail=bool(values.get("detail")), marked="vrf" not in values)

    return run


def _servers(afi: Afi) -> Run:
    def run(scene: Scene, values: Values) -> Shown:
        detail = bool(values.get("detail"))
        return servers(_snapshot(scene), scene.now, afi, interface=values.get("interface", ""), detail=detail)

    return run


def _traffic(scene: Scene, values: Values) -> Shown:
    return traffic(_snapshot(scene), values.get("interface", ""))


def _dmvpn(scene: Scene, values: Values) -> Shown:
    config: NhrpConfig = scene.config[NhrpConfig]
    interfaces = scene.tables.interfaces.rows

    def shortcut(name: str) -> bool:
        parent = interfaces[name].row.parent if name in interfaces else ""
        return any(family.shortcut for family in config.of(name, parent).families.values())

    setting = Setting(
        interfaces,
        {name: row for held in scene.bus.rows(TunnelState).values() for name, row in held.items()},
        {key: row for held in scene.bus.rows(SaState).values() for key, row in held.items()},
        shortcut,
    )
    detail = bool(values.get("detail"))
    return dmvpn(_snapshot(scene), setting, scene.now, interface=values.get("interface", ""), detail=detail)


# --- clear and debug --------------------------------------------------------------------------------------------------------


def _clear(afi: Afi) -> Run:
    """What was learned goes, and those that were told of it hear so; what the configuration says stays."""

    def run(scene: Scene, values: Values) -> Shown:
        address, vrf = values.get("address"), _vrf(scene, values)
        meant = _service(scene).clear(address=address, afi=afi, vrf=vrf)
        if address is not None and not meant:
            raise CommandError(f"nothing that was learned covers {format_address(address)}")
        return Shown("", {"cleared": meant})

    return run


def _clear_counters(scene: Scene, _values: Values) -> Shown:
    _service(scene).clear(counters=True)
    return Shown("", {"cleared": "counters"})


def _debug(*, on: bool) -> Run:
    def run(scene: Scene, values: Values) -> Shown:
        service = _service(scene)
        what = frozenset((values["what"],) if "what" in values else DEBUGS)
        service.debugging = service.debugging | what if on else service.debugging - what
        return _debugging(service.debugging)

    return run


def _debugging(words: frozenset[str]) -> Shown:
    lines = [f"NHRP {word} debugging is {'on' if word in words else 'off'}" for word in DEBUGS]
    return Shown("\n".join(lines), {"debugging": sorted(words)})


def _family(word: str, afi: Afi, kind: str) -> tuple[Command, ...]:
    vrf = "[vrf {vrf:vrf}]"
    of = f"[{{address:{kind}}}] [{{kind:{'|'.join(KINDS)}}}] [interface {{interface:interface}}]"
    return (
        Command(f"show {word} nhrp {vrf} {of} [(brief|detail)]", _cache(afi), "mapping entries: who is where, until when"),
        Command(f"show {word} nhrp nhs [{{interface:interface}}] [detail]", _servers(afi),
                "next hop servers, and whether we are registered there"),
        Command(f"show {word} nhrp traffic [interface {{interface:interface}}]", _traffic, "NHRP packets by kind"),
        Command(f"show {word} nhrp redirect", lambda scene, _values: redirects(_snapshot(scene)),
                "redirects sent, taken and left out"),
        Command(f"show {word} nhrp counters",
                lambda scene, _values: counters(_snapshot(scene), _service(scene).failures),
                "what was refused and why, and what was done"),
        Command(f"clear {word} nhrp {vrf} [{{address:{kind}}}]", _clear(afi), "forget what was learned"),
        Command(f"clear {word} nhrp counters", _clear_counters, "count anew"),
    )  # fmt: skip


_WHAT = f"[{{what:{'|'.join(DEBUGS)}}}]"

COMMANDS: tuple[Command, ...] = (
    *_family("ip", Afi.IPV4, "ipv4"),
    *_family("ipv6", Afi.IPV6, "ipv6"),
    Command("show dmvpn [interface {interface:interface}] [detail]", _dmvpn, "far ends of tunnels, by interface"),
    Command(
        "show debugging nhrp", lambda scene, _values: _debugging(_service(scene).debugging), "what is being debugged"
    ),
    Command(f"debug nhrp {_WHAT}", _debug(on=True), "log what happens in detail"),
    Command(f"undebug nhrp {_WHAT}", _debug(on=False), "log only what matters again"),
    Command(f"no debug nhrp {_WHAT}", _debug(on=False), "log only what matters again"),
)
"""Exec commands of package nhrp."""
