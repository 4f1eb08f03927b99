"""The IOS lines of package bgp: rows of the one grammar table, and what `check` says of them.

They stand apart from bgp.config so that the engine, which needs the values, does not meet the language they are written in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import evolve

from bgp.config import (
    BgpConfig,
    ConnectionMode,
    Family,
    FamilyConfig,
    LabelMode,
    ListenRange,
    NeighborConfig,
    NeighborFamily,
    Redistribute,
    Timers,
)
from stack.addr import DEFAULT_VRF, Afi, Prefix, Safi, format_address
from stack.ios.grammar import (
    CONFIG,
    NO,
    Draft,
    Kind,
    Line,
    Loose,
    Place,
    Refusal,
    Sections,
    Values,
    entry,
    flag,
    register,
    section,
    setting,
    value,
)

__all__ = ["LINES"]

ROUTER_MODE, FAMILY_MODE = "config-router", "config-router-af"
_BOTH = (ROUTER_MODE, FAMILY_MODE)
_GROUP_NAME = re.compile(r"[A-Za-z][^\s:|]{0,63}")


def _group_name(text: str) -> str:
    if not _GROUP_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither an address nor the name of a peer group")
    return text


register(Kind("peer-group", "the name of a peer group", _group_name, rank=3))
_PEER = "neighbor ({peer:address} | {group:peer-group})"

_BGP: Place[BgpConfig] = section(BgpConfig, mode=ROUTER_MODE)
_GROUP: Place[NeighborConfig] = entry(BgpConfig, "peer_groups", "group", lambda _values: NeighborConfig())

_FAMILIES: Mapping[str, Family] = {
    "ipv4": (Afi.IPV4, Safi.UNICAST),
    "vpnv4": (Afi.IPV4, Safi.VPN),
    "ipv6": (Afi.IPV6, Safi.UNICAST),
    "vpnv6": (Afi.IPV6, Safi.VPN),
}
_FAMILY_WORDS = {family: word for word, family in _FAMILIES.items()}


def _family(values: Values) -> Family:
    """Lines of a family that stand in `router bgp` itself are about IPv4 unicast, as IOS has it."""
    return _FAMILIES[values.get("family", "ipv4")]


def _vrf(values: Values) -> str:
    return str(values.get("vrf", DEFAULT_VRF))


# Neighbours: in `router bgp` those of the default VRF and peer groups, in a VRF's address family that VRF's.


def _fetch_neighbor(sections: Sections, values: Values) -> NeighborConfig | None:
    bgp = sections[BgpConfig]
    if "group" in values:
        return bgp.peer_groups.get(values["group"])
    return bgp.neighbors.get((_vrf(values), values["peer"]))


def _make_neighbor(values: Values) -> NeighborConfig:
    if "group" in values:
        raise Refusal(
            f"there is no peer group {values['group']!r}: `neighbor {values['group']} peer-group` makes it", "group"
        )
    return NeighborConfig(address=values["peer"], vrf=_vrf(values))


def _store_neighbor(draft: Draft, values: Values, held: NeighborConfig) -> None:
    if "group" in values:
        draft.shelf(BgpConfig, "peer_groups")[values["group"]] = held
    elif held == NeighborConfig(address=held.address, vrf=held.vrf):
        draft.shelf(BgpConfig, "neighbors").pop((held.vrf, held.address), None)
    else:
        draft.shelf(BgpConfig, "neighbors")[held.vrf, held.address] = held


def _neighbor_keys(sections: Sections, values: Values) -> Iterable[Values]:
    """Whose session lines print here."""
    bgp, vrf = sections[BgpConfig], _vrf(values)
    if "family" in values and not vrf:
        return
    if not vrf:
        yield from ({"group": name} for name in bgp.peer_groups)
    for held in bgp.neighbors.values():
        afi = Afi.IPV4 if len(held.address) == 4 else Afi.IPV6
        if held.vrf == vrf and (not vrf or _family(values)[0] is afi):
            yield {"peer": held.address}


_NEIGHBOR: Place[NeighborConfig] = Place(_fetch_neighbor, _store_neighbor, _make_neighbor, _neighbor_keys)


def _fetch_member(sections: Sections, values: Values) -> NeighborFamily | None:
    held = _fetch_neighbor(sections, values)
    return held.families.get(_family(values)) if held else None


def _make_member(values: Values) -> NeighborFamily:
    """What no line says: IPv4 unicast is on, so are the families of a VRF; others have to be activated."""
    on = bool(_vrf(values)) or _family(values) == (Afi.IPV4, Safi.UNICAST)
    return NeighborFamily(activate=on)


def _store_member(draft: Draft, values: Values, member: NeighborFamily) -> None:
    held = _NEIGHBOR.get(draft, values)
    _store_neighbor(draft, values, evolve(held, families={**held.families, _family(values): member}))


def _member_keys(sections: Sections, values: Values) -> Iterable[Values]:
    if "family" not in values:
        return
    bgp, vrf, family = sections[BgpConfig], _vrf(values), _family(values)
    if not vrf:
        yield from ({"group": name} for name, held in bgp.peer_groups.items() if family in held.families)
    yield from ({"peer": n.address} for n in bgp.neighbors.values() if n.vrf == vrf and family in n.families)


_MEMBER: Place[NeighborFamily] = Place(_fetch_member, _store_member, _make_member, _member_keys)


def _family_key(values: Values) -> tuple[Afi, Safi, str]:
    return (*_family(values), _vrf(values))


_FAMILY: Place[FamilyConfig] = Place(
    fetch=lambda sections, values: sections[BgpConfig].families.get(_family_key(values)),
    store=lambda draft, values, held: draft.shelf(BgpConfig, "families").__setitem__(_family_key(values), held),
    make=lambda _values: FamilyConfig(),
    keys=lambda _sections, values: ({},) if "family" in values else (),
)


def _mark_activation(values: Values) -> tuple[Any, ...]:
    return ("activate", _vrf(values), values.get("peer"), values.get("group"), _family(values))


def _activate(draft: Draft, values: Values) -> None:
    """A VPN family needs route targets, so extended communities are sent, as IOS does it by itself."""
    draft.notes.add(_mark_activation(values))
    vpn = _family(values)[1] is Safi.VPN
    _MEMBER.change(draft, values, lambda m, _values: evolve(m, activate=True, send_extended=m.send_extended or vpn))


def _deactivate(draft: Draft, values: Values) -> None:
    draft.notes.add(_mark_activation(values))
    _MEMBER.change(draft, values, lambda m, _values: evolve(m, activate=False))


def _show_activation(sections: Sections, values: Values) -> Iterable[Values]:
    member = _fetch_member(sections, values)
    return () if member is None else ({NO: not member.activate},)


def _send(member: NeighborFamily, values: Values, *, on: bool) -> NeighborFamily:
    """`send-community` alone means the standard ones; `no send-community` alone, all."""
    which = values.get("which") or ("standard" if on else "both")
    return evolve(
        member,
        send_standard=on if which in ("standard", "both") else member.send_standard,
        send_extended=on if which in ("extended", "both") else member.send_extended,
    )


def _show_sending(sections: Sections, values: Values) -> Iterable[Values]:
    member = _fetch_member(sections, values)
    if member is None:
        return
    if member.send_standard or member.send_extended:
        both = member.send_standard and member.send_extended
        yield {"which": "both" if both else "standard" if member.send_standard else "extended"}
    if _family(values)[1] is Safi.VPN and member.activate and not member.send_extended:
        yield {"which": "extended", NO: True}


def _directed(name: str) -> Callable[[NeighborFamily, Values], NeighborFamily]:
    def put(member: NeighborFamily, values: Values) -> NeighborFamily:
        changed: dict[str, Any] = {f"{name}_{values['direction']}": values["name"]}
        return evolve(member, **changed)

    return put


def _undirected(name: str) -> Callable[[NeighborFamily, Values], NeighborFamily]:
    def remove(member: NeighborFamily, values: Values) -> NeighborFamily:
        changed: dict[str, Any] = {f"{name}_{values['direction']}": ""}
        return evolve(member, **changed)

    return remove


def _show_directed(name: str) -> Callable[[NeighborFamily], Iterable[Values]]:
    return lambda member: [
        {"name": getattr(member, f"{name}_{way}"), "direction": way}
        for way in ("in", "out")
        if getattr(member, f"{name}_{way}")
    ]


def _no_member(name: str) -> str:
    return f"{_PEER} {name} ([{{name:name:{name}}}] {{direction:in|out}})"


def _timers(neighbor: NeighborConfig | BgpConfig, values: Values) -> Any:
    held = neighbor.timers or Timers()
    if "retry" in values:
        return evolve(neighbor, timers=held._replace(connect_retry=values["retry"]))
    if 0 < values["hold"] < 3 or (values["hold"] and values["keepalive"] >= values["hold"]):
        raise Refusal("the hold time is 0, or at least 3 and longer than the keepalive interval", "hold")
    return evolve(neighbor, timers=held._replace(keepalive=values["keepalive"], hold=values["hold"]))


def _show_timers(held: Timers | None) -> Iterable[Values]:
    usual = Timers()
    if held is not None and (held[:2] != usual[:2] or held == usual):
        yield {"keepalive": held.keepalive, "hold": held.hold}
    if held is not None and held.connect_retry != usual.connect_retry:
        yield {"retry": held.connect_retry}


_SECONDS = "{keepalive:int:0-65535} {hold:int:0-65535}"
_RETRY = "connect {retry:int:1-65535}"

_SESSION_LINES = (
    setting(
        ROUTER_MODE,
        "neighbor {group:peer-group} peer-group",
        _NEIGHBOR,
        None,
        show=lambda held: () if held.address else ({},),
        help="a peer group",
        order=20,
    ),
    setting(
        _BOTH,
        f"{_PEER} remote-as {{remote:asn}}",
        _NEIGHBOR,
        lambda n, values: evolve(n, remote_as=values["remote"]),
        show=lambda n: ({"remote": n.remote_as},) if n.remote_as else (),
        remove=lambda n, _values: evolve(n, remote_as=0),
        help="its AS; this makes it a neighbour",
        order=20,
    ),
    setting(
        _BOTH,
        "neighbor {peer:address} peer-group {member:peer-group}",
        _NEIGHBOR,
        lambda n, values: evolve(n, peer_group=values["member"]),
        show=lambda n: ({"member": n.peer_group},) if n.peer_group else (),
        remove=lambda n, _values: evolve(n, peer_group=""),
        help="take what is not said here from a peer group",
        order=20,
    ),
    value(_BOTH, f"{_PEER} description {{text:text}}", _NEIGHBOR, "description", "text", help="a remark", order=20),
    setting(
        _BOTH,
        f"{_PEER} ebgp-multihop [{{ttl:int:1-255}}]",
        _NEIGHBOR,
        lambda n, values: evolve(n, ebgp_multihop=values.get("ttl", 255)),
        show=lambda n: ({"ttl": n.ebgp_multihop},) if n.ebgp_multihop else (),
        remove=lambda n, _values: evolve(n, ebgp_multihop=0),
        help="it is not directly connected; the TTL to send with",
        order=20,
    ),
    value(
        _BOTH,
        f"{_PEER} ttl-security hops {{hops:int:1-254}}",
        _NEIGHBOR,
        "ttl_security",
        "hops",
        help="take packets only from so many hops away at most (RFC 5082)",
        order=20,
    ),
    value(
        _BOTH,
        f"{_PEER} update-source {{source:interface}}",
        _NEIGHBOR,
        "update_source",
        "source",
        help="the interface whose address is our end",
        order=20,
    ),
    setting(
        _BOTH,
        f"{_PEER} transport connection-mode {{way:active|passive}}",
        _NEIGHBOR,
        lambda n, values: evolve(n, mode=ConnectionMode(values["way"])),
        show=lambda n: () if n.mode is ConnectionMode.BOTH else ({"way": n.mode.value},),
        remove=lambda n, _values: evolve(n, mode=ConnectionMode.BOTH),
        help="only connect, or only wait to be connected to",
        order=20,
    ),
    setting(
        _BOTH,
        f"{_PEER} password [0] {{secret:text}}",
        _NEIGHBOR,
        lambda n, values: evolve(n, password=values["secret"]),
        show=lambda n: ({"secret": n.password, "0": True},) if n.password else (),
        remove=lambda n, _values: evolve(n, password=""),
        help="the MD5 key of its TCP connection (RFC 2385)",
        order=20,
    ),
    setting(
        _BOTH,
        f"{_PEER} timers ({_SECONDS} | {_RETRY})",
        _NEIGHBOR,
        _timers,
        show=lambda n: _show_timers(n.timers),
        remove=lambda n, _values: evolve(n, timers=None),
        no=f"{_PEER} timers [{_SECONDS} | {_RETRY}]",
        help="keepalive interval and hold time in seconds; or how long to wait before connecting again",
        order=20,
    ),
    flag(_BOTH, f"{_PEER} shutdown", _NEIGHBOR, "shutdown", help="no session", order=20),
)


def _drop_neighbor(draft: Draft, values: Values) -> None:
    if _fetch_neighbor(draft, values) is None:
        raise Refusal("there is no such neighbour", "peer" if "peer" in values else "group")
    if "group" in values:
        draft.shelf(BgpConfig, "peer_groups").pop(values["group"])
    else:
        draft.shelf(BgpConfig, "neighbors").pop((_vrf(values), values["peer"]))


_DROP_LINES = (
    Line(
        (ROUTER_MODE,),
        "neighbor {group:peer-group} peer-group",
        "a peer group",
        edit=lambda draft, values: _GROUP.change(draft, values, lambda held, _values: held),
        undo=_drop_neighbor,
        order=20,
    ),
    Line(_BOTH, _PEER, "a neighbour", undo=_drop_neighbor, no=_PEER, order=20),
)

_FAMILY_NEIGHBOR_LINES = (
    Line(
        _BOTH,
        f"{_PEER} activate",
        "exchange routes of this address family with it",
        edit=_activate,
        undo=_deactivate,
        show=_show_activation,
        place=_MEMBER,
        order=40,
    ),
    Line(
        _BOTH,
        f"{_PEER} send-community [{{which:both|standard|extended}}]",
        "send communities to it",
        edit=lambda draft, values: _MEMBER.change(draft, values, lambda m, v: _send(m, v, on=True)),
        undo=lambda draft, values: _MEMBER.change(draft, values, lambda m, v: _send(m, v, on=False)),
        show=_show_sending,
        place=_MEMBER,
        order=40,
    ),
    flag(_BOTH, f"{_PEER} next-hop-self", _MEMBER, "next_hop_self", help="be the next hop of all we send it", order=40),
    flag(
        _BOTH,
        f"{_PEER} next-hop-unchanged",
        _MEMBER,
        "next_hop_unchanged",
        help="leave next hops as they are, to an eBGP neighbour too",
        order=40,
    ),
    flag(
        _BOTH,
        f"{_PEER} route-reflector-client",
        _MEMBER,
        "route_reflector_client",
        help="reflect routes to and from it (RFC 4456)",
        order=40,
    ),
    flag(
        _BOTH,
        f"{_PEER} soft-reconfiguration inbound",
        _MEMBER,
        "soft_reconfiguration",
        help="keep what it sent, to apply changed policy to",
        order=40,
    ),
    setting(
        _BOTH,
        f"{_PEER} allowas-in [{{times:int:1-10}}]",
        _MEMBER,
        lambda m, values: evolve(m, allowas_in=values.get("times", 3)),
        show=lambda m: ({"times": m.allowas_in},) if m.allowas_in else (),
        remove=lambda m, _values: evolve(m, allowas_in=0),
        help="take routes with our own AS in the path, so many times at most (3)",
        order=40,
    ),
    flag(
        _BOTH, f"{_PEER} as-override", _MEMBER, "as_override", help="put our AS in place of its own in paths", order=40
    ),
    flag(
        _BOTH,
        f"{_PEER} default-originate",
        _MEMBER,
        "default_originate",
        help="send it a default route",
        order=40,
    ),
    value(
        _BOTH,
        f"{_PEER} maximum-prefix {{number:int:1-4294967295}}",
        _MEMBER,
        "maximum_prefix",
        "number",
        help="end the session if it sends more routes",
        order=40,
    ),
    setting(
        _BOTH,
        f"{_PEER} prefix-list {{name:name:prefix-list}} {{direction:in|out}}",
        _MEMBER,
        _directed("prefix_list"),
        show=_show_directed("prefix_list"),
        remove=_undirected("prefix_list"),
        no=_no_member("prefix-list"),
        help="what to take, or to send, by prefix",
        order=40,
    ),
    setting(
        _BOTH,
        f"{_PEER} route-map {{name:name:route-map}} {{direction:in|out}}",
        _MEMBER,
        _directed("route_map"),
        show=_show_directed("route_map"),
        remove=_undirected("route_map"),
        no=_no_member("route-map"),
        help="what to take, or to send, and how to change it",
        order=40,
    ),
)

# Address families, and what is put into BGP.


def _all_families(sections: Sections, values: Values) -> Iterable[Values]:
    bgp = sections[BgpConfig]
    if "family" in values:
        return [{}]
    found = dict.fromkeys(bgp.families)
    found |= dict.fromkeys((*family, "") for held in bgp.peer_groups.values() for family in held.families)
    for held in bgp.neighbors.values():
        found |= dict.fromkeys((*family, held.vrf) for family in held.families)
        if held.vrf:
            found[Afi.IPV4 if len(held.address) == 4 else Afi.IPV6, Safi.UNICAST, held.vrf] = None
    words = list(_FAMILY_WORDS)
    ordered = sorted(found, key=lambda key: (key[2] != "", key[2], words.index((key[0], key[1]))))
    return [{"family": _FAMILY_WORDS[afi, safi], "vrf": vrf} for afi, safi, vrf in ordered]


def _open_family(draft: Draft, values: Values) -> None:
    _FAMILY.change(draft, values, lambda held, _values: held)


def _close_family(draft: Draft, values: Values) -> None:
    """`no address-family`: what it held, and what its neighbours were told for it."""
    vrf, family = _vrf(values), _family(values)
    draft.shelf(BgpConfig, "families").pop((*family, vrf), None)
    neighbors = draft.shelf(BgpConfig, "neighbors")
    for key, held in list(neighbors.items()):
        if held.vrf == vrf and family in held.families:
            neighbors[key] = evolve(held, families={f: m for f, m in held.families.items() if f != family})


def _redistribute(family: FamilyConfig, values: Values) -> FamilyConfig:
    kept = tuple(one for one in family.redistribute if one.source != values["source"])
    return evolve(family, redistribute=(*kept, Redistribute(values["source"], values.get("map", ""))))


def _classful(address: bytes) -> int:
    """The length that `network` without a mask means: the class's, and 0.0.0.0 is the default route."""
    if not any(address):
        return 0
    return 8 if address[0] < 128 else 16 if address[0] < 192 else 24


def _network(values: Values) -> Prefix:
    if "prefix" in values:
        return values["prefix"]  # type: ignore[no-any-return]  # the slot's kind gives a Prefix
    prefix = Prefix.of(values["network"], values.get("mask", _classful(values["network"])))
    if prefix.network != values["network"]:
        raise Refusal("the address has bits outside its mask", "network")
    return prefix


def _put_network(family: FamilyConfig, values: Values) -> FamilyConfig:
    prefix = _network(values)
    if prefix.afi is not _family(values)[0] or _family(values)[1] is Safi.VPN:
        raise Refusal("that network is of another address family", "network" if "network" in values else "prefix")
    kept = tuple(one for one in family.networks if one[0] != prefix)
    return evolve(family, networks=(*kept, (prefix, values.get("map", ""))))


def _show_networks(family: FamilyConfig) -> Iterable[Values]:
    for prefix, name in family.networks:
        if prefix.afi is Afi.IPV4:
            yield {"network": prefix.network, "mask": prefix.length, "map": name}
        else:
            yield {"prefix": prefix, "map": name}


_MAP = "[route-map {map:name:route-map}]"
_FAMILY_LINES = (
    Line(
        (ROUTER_MODE,),
        "address-family ({family:ipv4|ipv6} [unicast] [vrf {vrf:name:vrf}] "
        "| {family:vpnv4|vpv4=vpnv4|vpnv6|vpv6=vpnv6} [unicast])",
        "an address family of BGP, or of one VRF",
        edit=_open_family,
        undo=_close_family,
        show=_all_families,
        enters=FAMILY_MODE,
        order=60,
    ),
    Line((FAMILY_MODE,), "exit-address-family", "leave the address family", edit=lambda _d, _v: None, leaves=True),
    setting(
        _BOTH,
        f"redistribute {{source:connected|static}} {_MAP}",
        _FAMILY,
        _redistribute,
        show=lambda family: [{"source": one.source, "map": one.route_map} for one in family.redistribute],
        remove=lambda family, values: evolve(
            family, redistribute=tuple(one for one in family.redistribute if one.source != values["source"])
        ),
        help="put connected or static routes into BGP",
        order=30,
    ),
    flag(
        _BOTH,
        "default-information originate",
        _FAMILY,
        "default_information",
        help="let the default route be redistributed too",
        order=31,
    ),
    setting(
        _BOTH,
        f"network ({{network:ipv4}} [mask {{mask:mask}}] | {{prefix:prefix6}}) {_MAP}",
        _FAMILY,
        _put_network,
        show=_show_networks,
        remove=lambda family, values: evolve(
            family, networks=tuple(one for one in family.networks if one[0] != _network(values))
        ),
        no=f"network ({{network:ipv4}} [mask {{mask:mask}}] | {{prefix:prefix6}}) {_MAP}",
        help="put one prefix into BGP, if there is a route to it",
        order=32,
    ),
)

# The process.


def _open_router(bgp: BgpConfig, values: Values) -> BgpConfig:
    if bgp.asn not in (0, values["asn"]):
        raise Refusal(f"BGP runs already, in AS {bgp.asn}: `no router bgp {bgp.asn}` first", "asn")
    return evolve(bgp, asn=values["asn"])


def _close_router(draft: Draft, values: Values) -> None:
    if draft[BgpConfig].asn != values.get("asn", draft[BgpConfig].asn):
        raise Refusal(f"BGP runs in AS {draft[BgpConfig].asn}", "asn")
    draft.put(BgpConfig())


def _finish_router(draft: Draft, _values: Values) -> Iterable[Loose]:
    """Peer groups may be named before they are made; a member follows its group where it was not told otherwise."""
    bgp = draft[BgpConfig]
    for one in bgp.listen_ranges:
        if one.peer_group not in bgp.peer_groups:
            line = f"bgp listen range {one.prefix} peer-group {one.peer_group}"
            yield Loose(line, f"there is no peer group {one.peer_group!r}")
    neighbors = draft.shelf(BgpConfig, "neighbors")
    for key, held in list(neighbors.items()):
        if not held.peer_group:
            continue
        group = bgp.peer_groups.get(held.peer_group)
        if group is None:
            line = f"neighbor {format_address(held.address)} peer-group {held.peer_group}"
            yield Loose(line, f"there is no peer group {held.peer_group!r}")
            continue
        families = {
            family: evolve(member, activate=group.families[family].activate)
            for family, member in held.families.items()
            if family in group.families and ("activate", held.vrf, held.address, None, family) not in draft.notes
        }
        neighbors[key] = evolve(held, families={**held.families, **families})
    shelf = draft.shelf(BgpConfig, "families")
    for held in (*bgp.peer_groups.values(), *neighbors.values()):
        for family in held.families:
            shelf.setdefault((*family, held.vrf), FamilyConfig())


def _put_listen(bgp: BgpConfig, values: Values) -> BgpConfig:
    kept = tuple(one for one in bgp.listen_ranges if one.prefix != values["prefix"])
    return evolve(bgp, listen_ranges=(*kept, ListenRange(values["prefix"], values["member"])))


_PROCESS_LINES = (
    Line(
        (CONFIG,),
        "router bgp {asn:asn}",
        "the BGP speaker",
        edit=lambda draft, values: _BGP.change(draft, values, _open_router),
        undo=_close_router,
        show=lambda sections, values: (
            ({"asn": sections[BgpConfig].asn},) if sections[BgpConfig].asn or "asn" in values else ()
        ),
        enters=ROUTER_MODE,
        order=60,
        finish=_finish_router,
    ),
    value(ROUTER_MODE, "bgp router-id {id:ipv4}", _BGP, "router_id", "id", help="our BGP identifier", order=1),
    flag(
        ROUTER_MODE,
        "bgp log-neighbor-changes",
        _BGP,
        "log_neighbor_changes",
        always=True,
        help="log sessions that come and go",
        order=2,
    ),
    setting(
        ROUTER_MODE,
        "bgp listen range {prefix:prefix} peer-group {member:peer-group}",
        _BGP,
        _put_listen,
        show=lambda bgp: [{"prefix": one.prefix, "member": one.peer_group} for one in bgp.listen_ranges],
        remove=lambda bgp, values: evolve(
            bgp, listen_ranges=tuple(one for one in bgp.listen_ranges if one.prefix != values.get("prefix"))
        ),
        no="bgp listen range {prefix:prefix} [peer-group {member:peer-group}]",
        help="take sessions from any address in a prefix, as members of a peer group",
        order=3,
    ),
    value(
        ROUTER_MODE,
        "bgp listen limit {limit:int:1-5000}",
        _BGP,
        "listen_limit",
        "limit",
        help="how many such sessions at most",
        order=4,
    ),
    flag(
        ROUTER_MODE,
        "bgp default ipv4-unicast",
        _BGP,
        "default_ipv4_unicast",
        help="IPv4 unicast is on for every neighbour unless said otherwise",
        order=5,
    ),
    flag(
        ROUTER_MODE,
        "bgp default route-target filter",
        _BGP,
        "retain_all_route_targets",
        sets=False,
        help="drop VPN routes that no VRF here imports",
        order=6,
    ),
    flag(ROUTER_MODE, "bgp graceful-restart", _BGP, "graceful_restart", help="RFC 4724", order=7),
    value(
        ROUTER_MODE,
        "bgp next-hop {source:interface}",
        _BGP,
        "next_hop_interface",
        "source",
        help="the interface whose address is the next hop of the VPN routes we send",
        order=8,
    ),
    setting(
        ROUTER_MODE,
        f"timers bgp ({_SECONDS} | {_RETRY})",
        _BGP,
        _timers,
        show=lambda bgp: () if bgp.timers == Timers() else _show_timers(bgp.timers),
        remove=lambda bgp, _values: evolve(bgp, timers=Timers()),
        no=f"timers bgp [{_SECONDS} | {_RETRY}]",
        help="keepalive interval and hold time of all neighbours, in seconds; or the time between connection attempts",
        order=9,
    ),
    value(ROUTER_MODE, "bgp port {port:int:1-65535}", _BGP, "port", "port", help="another TCP port than 179", order=10),
)

# Label mode.

_LABEL_AFIS = {"bgp-vpnv4": Afi.IPV4, "bgp-vpnv6": Afi.IPV6}


def _put_label_mode(draft: Draft, values: Values) -> None:
    key = (_LABEL_AFIS[values["protocol"]], values.get("vrf", "*"))
    draft.shelf(BgpConfig, "label_modes")[key] = LabelMode(values["label_mode"])


def _drop_label_mode(draft: Draft, values: Values) -> None:
    draft.shelf(BgpConfig, "label_modes").pop((_LABEL_AFIS[values["protocol"]], values.get("vrf", "*")), None)


def _show_label_modes(sections: Sections, _values: Values) -> Iterable[Values]:
    words = {afi: word for word, afi in _LABEL_AFIS.items()}
    for (afi, vrf), mode in sections[BgpConfig].label_modes.items():
        named = {"all": "all-vrfs"} if vrf == "*" else {"vrf": vrf}
        yield {**named, "protocol": words[afi], "label_mode": mode.value}


_LABEL_MODE = Line(
    (CONFIG,),
    "mpls label mode (vrf {vrf:name:vrf} | {all:=all-vrfs}) protocol {protocol:bgp-vpnv4|bgp-vpnv6} "
    "{label_mode:per-prefix|per-vrf}",
    "one label a prefix, or one a VRF and address family",
    edit=_put_label_mode,
    undo=_drop_label_mode,
    show=_show_label_modes,
    no="mpls label mode (vrf {vrf:name:vrf} | {all:=all-vrfs}) protocol {protocol:bgp-vpnv4|bgp-vpnv6} "
    "[{label_mode:per-prefix|per-vrf}]",
    order=31,
)

LINES: tuple[Line, ...] = (
    *_PROCESS_LINES,
    *_DROP_LINES,
    *_SESSION_LINES,
    *_FAMILY_LINES,
    *_FAMILY_NEIGHBOR_LINES,
    _LABEL_MODE,
)
"""The rows of package bgp."""
