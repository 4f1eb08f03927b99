"""BGP's commands: show and clear. Pure renderers of snapshots, but for `clear`, which asks the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bgp.engine.rib.ribs import Ribs
from bgp.engine.rib.snapshot import NetView, TableView, Wanted, family_counts, unicast_table, vpn_table
from bgp.show.detail import net_text
from bgp.show.neighbors import neighbor_text, neighbor_value
from bgp.show.summary import family_title, summaries, summary_text, summary_value
from bgp.show.tables import label_text, table_text
from bgp.show.values import net_value, table_value
from bgp.wire import IPV4_UNICAST, IPV6_UNICAST, VPNV4, VPNV6, Family
from stack.addr import RD, Afi, Prefix, Safi, format_address
from stack.ios.command import Command, CommandError, Scene, Shown

__all__ = ["COMMANDS"]

Values = Mapping[str, Any]
Run = Callable[[Scene, Values], Shown]


def _service(scene: Scene) -> Any:
    if scene.service is None:
        raise CommandError("BGP is not running; `show processes` says why")
    return scene.service


def _ribs(scene: Scene) -> Ribs:
    ribs: Ribs = _service(scene).ribs
    return ribs


# --- tables -----------------------------------------------------------------------------------------------------------


def _wanted(values: Values) -> Wanted | None:
    """The prefix that was named; for an address, whatever covers it (the longest is picked later)."""
    prefix: Prefix | None = values.get("prefix")
    address: bytes | None = values.get("address")
    if prefix is not None:
        return lambda one: one == prefix
    return None if address is None else lambda one: one.covers(address)


def _vpn(afi: Afi) -> Run:
    def run(scene: Scene, values: Values) -> Shown:
        ribs = _ribs(scene)
        vrf = _vrf(ribs, values)
        view = vpn_table(ribs, afi, rd=values.get("rd"), vrf=vrf, wanted=_wanted(values))
        if values.get("label") or values.get("labels"):
            return Shown(label_text(view), table_value(view))
        return _detail(view) if _wanted(values) else Shown(table_text(view), table_value(view))

    return run


def _unicast(afi: Afi) -> Run:
    def run(scene: Scene, values: Values) -> Shown:
        ribs = _ribs(scene)
        family = Family(afi, Safi.UNICAST)
        view = unicast_table(ribs, _vrf(ribs, values) or "", family, _wanted(values))
        return _detail(view) if _wanted(values) else Shown(table_text(view), table_value(view))

    return run


def _vrf(ribs: Ribs, values: Values) -> str | None:
    name: str | None = values.get("vrf")
    if name is not None and name not in ribs.vpn.vrfs:
        known = ", ".join(sorted(ribs.vpn.vrfs)) or "none"
        raise CommandError(f"there is no VRF {name!r}; there are: {known}")
    return name


def _detail(view: TableView) -> Shown:
    """One prefix in full; for an address, the longest match in EACH RD."""
    found: list[tuple[RD | None, str, NetView]] = []
    groups: list[tuple[RD | None, str, tuple[NetView, ...]]] = [(rd.rd, rd.vrf, rd.nets) for rd in view.rds]
    for rd, table, nets in groups or [(None, view.vrf or "default", view.nets)]:
        if nets:
            longest = max(nets, key=lambda net: net.prefix.length)
            found.append((rd, table, longest))
    if not found:
        return Shown("% Network not in table", [])
    text = "\n".join(net_text(net, rd=rd, table=table) for rd, table, net in found)
    value = [
        {"route-distinguisher": None if rd is None else str(rd), "table": table, **net_value(net)}
        for rd, table, net in found
    ]
    return Shown(text, value)


def _all(scene: Scene, _values: Values) -> Shown:
    """Every family that has routes, one after the other, each with its title."""
    ribs = _ribs(scene)
    views = [unicast_table(ribs, "", family) for family in (IPV4_UNICAST, IPV6_UNICAST)]
    views += [vpn_table(ribs, afi) for afi in Afi]
    texts = [f"For address family: {family_title(view.family)}\n\n{table_text(view)}".rstrip() for view in views]
    return Shown("\n\n".join(texts), [table_value(view) for view in views])


# --- neighbours -------------------------------------------------------------------------------------------------------


def _summary(*families: Family) -> Run:
    """Of one family as IOS prints it; of several with a title each, those with neighbours only."""

    def run(scene: Scene, _values: Values) -> Shown:
        speaker, counts = _service(scene).snapshot(), family_counts(_ribs(scene))
        found = [summaries(speaker, counts, family) for family in families]
        if len(families) > 1:
            found = [one for one in found if one.peers]
        texts = [summary_text(speaker, one, scene.now) for one in found]
        if len(families) > 1:
            titles = [f"For address family: {family_title(one.family)}" for one in found]
            texts = [f"{title}\n{text}" for title, text in zip(titles, texts, strict=True)]
        values = [summary_value(speaker, one, scene.now) for one in found]
        return Shown("\n\n".join(texts), values)

    return run


def _neighbors(scene: Scene, values: Values) -> Shown:
    speaker, counts = _service(scene).snapshot(), family_counts(_ribs(scene))
    address, vrf = values.get("address"), values.get("vrf")
    peers = [p for p in speaker.peers if address in (None, p.key[1]) and vrf in (None, p.key[0])]
    if address is not None and not peers:
        raise CommandError(f"there is no neighbor {format_address(address)}")
    texts = [neighbor_text(peer, counts, scene.now) for peer in peers]
    return Shown("\n\n".join(texts), [neighbor_value(peer, counts, scene.now) for peer in peers])


# --- clear ------------------------------------------------------------------------------------------------------------


def _clear(scene: Scene, values: Values) -> Shown:
    """Without a target it means all. `soft` without a direction means both."""
    target: bytes | int | None = values.get("address", values.get("asn"))
    soft = bool(values.get("soft"))
    direction = values.get("direction") or "both"
    number = _service(scene).clear(target, soft=soft, direction=direction, vrf=values.get("vrf"))
    if not number and target is not None:
        name = format_address(target) if isinstance(target, bytes) else f"AS {target}"
        raise CommandError(f"no neighbor matches {name}")
    return Shown("", {"neighbors": number, "soft": soft, "direction": direction if soft else None})


_ONE = "[({prefix:prefix}|{address:address})]"
_SOFT = "[soft [{direction:in|out}]]"

COMMANDS: tuple[Command, ...] = (
    Command(f"show ip bgp {_ONE}", _unicast(Afi.IPV4), "IPv4 routes"),
    Command(f"show ip bgp ipv4 unicast {_ONE}", _unicast(Afi.IPV4), "IPv4 routes"),
    Command(f"show bgp ipv4 unicast {_ONE}", _unicast(Afi.IPV4), "IPv4 routes"),
    Command(f"show bgp ipv6 [unicast] {_ONE}", _unicast(Afi.IPV6), "IPv6 routes"),
    Command(f"show ip bgp vpnv4 all {_ONE}", _vpn(Afi.IPV4), "VPNv4 routes of every route distinguisher"),
    Command(f"show ip bgp vpnv6 all {_ONE}", _vpn(Afi.IPV6), "VPNv6 routes of every route distinguisher"),
    Command(f"show bgp vpnv4 unicast all {_ONE}", _vpn(Afi.IPV4), "VPNv4 routes of every route distinguisher"),
    Command(f"show bgp vpnv6 unicast all {_ONE}", _vpn(Afi.IPV6), "VPNv6 routes of every route distinguisher"),
    Command("show ip bgp vpnv4 all (label|labels)", _vpn(Afi.IPV4), "labels of VPNv4 routes"),
    Command("show ip bgp vpnv6 all (label|labels)", _vpn(Afi.IPV6), "labels of VPNv6 routes"),
    Command(f"show ip bgp vpnv4 rd {{rd:rd}} {_ONE}", _vpn(Afi.IPV4), "VPNv4 routes of one route distinguisher"),
    Command(f"show ip bgp vpnv6 rd {{rd:rd}} {_ONE}", _vpn(Afi.IPV6), "VPNv6 routes of one route distinguisher"),
    Command(f"show ip bgp vpnv4 vrf {{vrf:vrf}} {_ONE}", _vpn(Afi.IPV4), "VPNv4 routes of one VRF"),
    Command(f"show ip bgp vpnv6 vrf {{vrf:vrf}} {_ONE}", _vpn(Afi.IPV6), "VPNv6 routes of one VRF"),
    Command("show bgp all", _all, "the routes of every address family"),
    Command("show bgp summary", _summary(IPV4_UNICAST, IPV6_UNICAST, VPNV4, VPNV6), "neighbors, by address family"),
    Command("show bgp all summary", _summary(IPV4_UNICAST, IPV6_UNICAST, VPNV4, VPNV6), "neighbors, by address family"),
    Command("show ip bgp summary", _summary(IPV4_UNICAST), "IPv4 neighbors"),
    Command("show bgp ipv4 unicast summary", _summary(IPV4_UNICAST), "IPv4 neighbors"),
    Command("show bgp ipv6 [unicast] summary", _summary(IPV6_UNICAST), "IPv6 neighbors"),
    Command("show ip bgp vpnv4 all summary", _summary(VPNV4), "VPNv4 neighbors, those in VRFs too"),
    Command("show ip bgp vpnv6 all summary", _summary(VPNV6), "VPNv6 neighbors, those in VRFs too"),
    Command("show bgp vpnv4 unicast all summary", _summary(VPNV4), "VPNv4 neighbors, those in VRFs too"),
    Command("show bgp vpnv6 unicast all summary", _summary(VPNV6), "VPNv6 neighbors, those in VRFs too"),
    Command("show bgp neighbors [{address:address}]", _neighbors, "sessions in full"),
    Command("show ip bgp neighbors [{address:address}]", _neighbors, "sessions in full"),
    Command(
        f"clear ip bgp [(*|all|{{address:address}}|{{asn:asn}})] [vrf {{vrf:vrf}}] {_SOFT}",
        _clear,
        "end sessions (they start anew), or apply policy again (soft)",
    ),
)
