"""The floor's own lines: the node, its VRFs, interfaces and static routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import evolve

from stack.addr import DEFAULT_VRF, RT, Afi, Prefix
from stack.config import InterfaceAddress, InterfaceConfig, NodeConfig, StaticRoute, VrfConfig, VrfStyle
from stack.events import InterfaceKind
from stack.ios.grammar import (
    CONFIG,
    INTERFACE,
    INTERFACE_MODE,
    Draft,
    Line,
    Loose,
    Place,
    Refusal,
    Sections,
    Values,
    entry,
    flag,
    opening,
    refused,
    section,
    setting,
    value,
)
from stack.ios.interfaces import NULL0, parent_of
from stack.ios.no_effect import LATER, NO_EFFECT
from stack.ios.policy_lines import POLICY_LINES

__all__ = ["LATER", "LINES", "VRF"]

VRF_MODE, VRF_AF_MODE = "config-vrf", "config-vrf-af"
_NODE: Place[NodeConfig] = section(NodeConfig)

# --- the node ---------------------------------------------------------------------------------------------------------

_NODE_LINES = (
    setting(
        CONFIG,
        "hostname {hostname:word}",
        _NODE,
        lambda node, values: evolve(node, hostname=values["hostname"]),
        show=lambda node: ({"hostname": node.hostname},),
        remove=lambda node, _values: evolve(node, hostname=NodeConfig().hostname),
        help="the node's name",
        order=1,
    ),
    setting(
        CONFIG,
        "enable secret [0] {secret:text}",
        _NODE,
        lambda node, values: evolve(node, enable_secret=values["secret"]),
        show=lambda node: ({"secret": node.enable_secret, "0": True},) if node.enable_secret else (),
        remove=lambda node, _values: evolve(node, enable_secret=""),
        help="what the shell's `enable` asks for",
        order=1,
    ),
    refused(
        CONFIG,
        "enable secret {type:4|5|7|8|9} {text:text}",
        "secrets that are hashed or scrambled are not understood here: write it out, after `0`",
    ),
)

# --- VRFs -------------------------------------------------------------------------------------------------------------

VRF: Place[VrfConfig] = entry(NodeConfig, "vrfs", "vrf", lambda values: VrfConfig(values["vrf"]), mode=VRF_MODE)

_AFIS = {"ipv4": Afi.IPV4, "ipv6": Afi.IPV6}
_Rts = Mapping[Afi, frozenset[RT]]


def _open_vrf(style: VrfStyle) -> Callable[[VrfConfig, Values], VrfConfig]:
    """`ip vrf` is IPv4 by itself; under `vrf definition` the address families are opened one by one."""

    def put(vrf: VrfConfig, values: Values) -> VrfConfig:
        if not values["vrf"] or values["vrf"].lower() == "default":
            raise Refusal("no VRF can have that name: it is the global table's", "vrf")
        if style is VrfStyle.IP_VRF and values["vrf"].startswith("forwarding "):
            raise Refusal("`ip vrf forwarding` stands under an interface")
        families = vrf.families | {Afi.IPV4} if style is VrfStyle.IP_VRF else vrf.families
        return evolve(vrf, style=style if not vrf.families else vrf.style, families=families)

    return put


def _show_vrf(style: VrfStyle) -> Callable[[VrfConfig], Iterable[Values]]:
    return lambda vrf: ({"vrf": vrf.name},) if vrf.style is style else ()


def _of_families(held: _Rts, afis: Iterable[Afi], change: Callable[[frozenset[RT]], frozenset[RT]]) -> _Rts:
    new = {**held, **{afi: change(held.get(afi, frozenset())) for afi in afis}}
    return {afi: rts for afi, rts in new.items() if rts}


def _vrf_afis(vrf: VrfConfig, values: Values) -> Iterable[Afi]:
    """In an address family: that one. Else all that have no route targets of their own."""
    afi = values.get("afi")
    return [_AFIS[afi]] if afi else [a for a in Afi if a not in vrf.own_rts]


def _change_rts(vrf: VrfConfig, values: Values, change: Callable[[frozenset[RT]], frozenset[RT]]) -> VrfConfig:
    """The first route target in an address family replaces those of the whole VRF there, as IOS has it."""
    afi = _AFIS.get(values.get("afi", ""))
    if afi and afi not in vrf.own_rts:
        vrf = evolve(
            vrf,
            own_rts=vrf.own_rts | {afi},
            export_rts=_of_families(vrf.export_rts, (afi,), lambda _: frozenset()),
            import_rts=_of_families(vrf.import_rts, (afi,), lambda _: frozenset()),
        )
    afis = list(_vrf_afis(vrf, values))
    if values["direction"] in ("export", "both"):
        vrf = evolve(vrf, export_rts=_of_families(vrf.export_rts, afis, change))
    if values["direction"] in ("import", "both"):
        vrf = evolve(vrf, import_rts=_of_families(vrf.import_rts, afis, change))
    return vrf


def _add_rt(vrf: VrfConfig, values: Values) -> VrfConfig:
    return _change_rts(vrf, values, lambda rts: rts | {values["rt"]})


def _remove_rt(vrf: VrfConfig, values: Values) -> VrfConfig:
    if "rt" not in values:
        return _change_rts(vrf, values, lambda _rts: frozenset())
    return _change_rts(vrf, values, lambda rts: rts - {values["rt"]})


def _shared_rts(vrf: VrfConfig) -> tuple[frozenset[RT], frozenset[RT]] | None:
    """(export, import) that print for the whole VRF; None if each family prints its own."""
    afis = [afi for afi in (vrf.families or Afi) if afi not in vrf.own_rts]
    each = {(vrf.export_rts.get(afi, frozenset()), vrf.import_rts.get(afi, frozenset())) for afi in afis}
    return each.pop() if len(each) == 1 else None


def _rt_values(exports: frozenset[RT], imports: frozenset[RT]) -> Iterable[Values]:
    for rt in sorted(exports):
        yield {"direction": "export", "rt": rt}
    for rt in sorted(imports):
        yield {"direction": "import", "rt": rt}


def _show_rts(vrf: VrfConfig) -> Iterable[Values]:
    shared = _shared_rts(vrf)
    return () if shared is None else _rt_values(*shared)


def _show_family_rts(sections: Sections, values: Values) -> Iterable[Values]:
    vrf, afi = VRF.get(sections, values), _AFIS[values["afi"]]
    if afi not in vrf.own_rts and _shared_rts(vrf) is not None:
        return ()
    return _rt_values(vrf.export_rts.get(afi, frozenset()), vrf.import_rts.get(afi, frozenset()))


def _open_family(draft: Draft, values: Values) -> None:
    """A family opened later takes the route targets of the whole VRF, as they print."""
    vrf, afi = VRF.get(draft, values), _AFIS[values["afi"]]
    shared = _shared_rts(vrf)
    known = afi in vrf.families or afi in vrf.export_rts or afi in vrf.import_rts
    if shared is not None and vrf.families and not known:
        vrf = evolve(
            vrf,
            export_rts=_of_families(vrf.export_rts, (afi,), lambda _: shared[0]),
            import_rts=_of_families(vrf.import_rts, (afi,), lambda _: shared[1]),
        )
    VRF.store(draft, values, evolve(vrf, families=vrf.families | {afi}, style=VrfStyle.DEFINITION))


def _close_family(draft: Draft, values: Values) -> None:
    def put(vrf: VrfConfig, values: Values) -> VrfConfig:
        afi = _AFIS[values["afi"]]
        return evolve(
            vrf,
            families=vrf.families - {afi},
            own_rts=vrf.own_rts - {afi},
            export_rts={a: rts for a, rts in vrf.export_rts.items() if a != afi},
            import_rts={a: rts for a, rts in vrf.import_rts.items() if a != afi},
        )

    VRF.change(draft, values, put)


def _show_families(sections: Sections, values: Values) -> Iterable[Values]:
    vrf = VRF.get(sections, values)
    if vrf.style is VrfStyle.IP_VRF:
        return []
    return [{"afi": word} for word, afi in _AFIS.items() if afi in vrf.families and values.get("afi", word) == word]


def _finish_vrf(draft: Draft, values: Values) -> Iterable[Loose]:
    """Route targets of the whole VRF are those of the families that were opened."""
    vrf = VRF.fetch(draft, values)
    if vrf is not None and vrf.families:
        exports = {afi: rts for afi, rts in vrf.export_rts.items() if afi in vrf.families}
        imports = {afi: rts for afi, rts in vrf.import_rts.items() if afi in vrf.families}
        VRF.store(draft, values, evolve(vrf, export_rts=exports, import_rts=imports))
    return ()


def _leave_vrf(draft: Draft, values: Values) -> None:
    """`no vrf definition`: interfaces fall back to the global table, as IOS does it."""
    draft.shelf(NodeConfig, "vrfs").pop(values["vrf"], None)
    interfaces = draft.shelf(NodeConfig, "interfaces")
    for name, interface in list(interfaces.items()):
        if interface.vrf == values["vrf"]:
            interfaces[name] = evolve(interface, vrf=DEFAULT_VRF)


_RT_TEXT = "route-target {direction:export|import|both} {rt:rt}"
_VRF_LINES = (
    opening(
        CONFIG,
        "vrf definition {vrf:name:vrf}",
        VRF,
        VRF_MODE,
        put=_open_vrf(VrfStyle.DEFINITION),
        show=_show_vrf(VrfStyle.DEFINITION),
        undo=_leave_vrf,
        finish=_finish_vrf,
        help="a VRF, with address families",
        order=20,
    ),
    opening(
        CONFIG,
        "ip vrf {vrf:name:vrf}",
        VRF,
        VRF_MODE,
        put=_open_vrf(VrfStyle.IP_VRF),
        show=_show_vrf(VrfStyle.IP_VRF),
        undo=_leave_vrf,
        finish=_finish_vrf,
        help="a VRF of IPv4, in the older way of writing",
        order=20,
    ),
    value(VRF_MODE, "description {text:text}", VRF, "description", "text", help="a remark", order=1),
    value(VRF_MODE, "rd {rd:rd}", VRF, "rd", "rd", help="the route distinguisher of its routes in BGP", order=2),
    setting(
        VRF_MODE,
        _RT_TEXT,
        VRF,
        _add_rt,
        show=_show_rts,
        remove=_remove_rt,
        help="the route target that its routes carry, or of routes it takes, in every address family",
        order=3,
    ),
    Line(
        (VRF_MODE,),
        "address-family {afi:ipv4|ipv6} [unicast]",
        "open an address family",
        edit=_open_family,
        undo=_close_family,
        show=_show_families,
        enters=VRF_AF_MODE,
        order=4,
    ),
    Line(
        (VRF_AF_MODE,),
        _RT_TEXT,
        "a route target of this address family only",
        edit=lambda draft, values: VRF.change(draft, values, _add_rt),
        undo=lambda draft, values: VRF.change(draft, values, _remove_rt),
        show=_show_family_rts,
    ),
    Line((VRF_AF_MODE,), "exit-address-family", "leave the address family", edit=lambda _d, _v: None, leaves=True),
)

# --- interfaces -------------------------------------------------------------------------------------------------------


def _open_interface(interface: InterfaceConfig, values: Values) -> InterfaceConfig:
    if interface.name == NULL0:
        raise Refusal(f"{NULL0} has nothing to configure", "interface")
    if interface.name.startswith("Virtual-Access"):
        raise Refusal(
            "virtual access interfaces come and go by themselves: configure their Virtual-Template", "interface"
        )
    if values.get("tunnel") and interface.kind is not InterfaceKind.TEMPLATE:
        raise Refusal("only a Virtual-Template has a type", "tunnel")
    tunnel = interface.kind in (InterfaceKind.TUNNEL, InterfaceKind.TEMPLATE)
    fresh = interface == InterfaceConfig(interface.name, interface.kind)
    return evolve(
        interface,
        parent=parent_of(interface.name) if interface.kind is InterfaceKind.ETHERNET else "",
        point_to_point=interface.point_to_point or (fresh and tunnel),
    )


def _show_interface(interface: InterfaceConfig) -> Iterable[Values]:
    template = interface.kind is InterfaceKind.TEMPLATE
    yield {"interface": interface.name, "type": template, "tunnel": template}


def _put_address(interface: InterfaceConfig, values: Values) -> InterfaceConfig:
    """A primary IPv4 address replaces the one before it; an address that is there already is written anew."""
    new = InterfaceAddress(values["address"], values["mask"], secondary=bool(values.get("secondary")))
    host = int.from_bytes(new.address) & ((1 << (32 - new.length)) - 1)
    if new.length < 31 and host in (0, (1 << (32 - new.length)) - 1):
        raise Refusal("that is the network or the broadcast address of its subnet, not a host's", "address")
    if new.address[0] in (0, 127) or new.address[0] >= 224:
        raise Refusal("that is not a unicast address", "address")
    kept = [a for a in interface.addresses if a.address != new.address]
    if not new.secondary:
        kept = [a for a in kept if len(a.address) != 4 or a.secondary]
        return evolve(interface, addresses=(new, *kept), negotiated=False, unnumbered="")
    return evolve(interface, addresses=(*kept, new))


def _remove_address(interface: InterfaceConfig, values: Values) -> InterfaceConfig:
    """`no ip address` alone takes all IPv4 addresses away."""
    gone = values.get("address")
    kept = tuple(a for a in interface.addresses if len(a.address) != 4 or (gone is not None and a.address != gone))
    return evolve(interface, addresses=kept, negotiated=False)


def _show_addresses(interface: InterfaceConfig) -> Iterable[Values]:
    v4 = [a for a in interface.addresses if len(a.address) == 4]
    for a in sorted(v4, key=lambda a: a.secondary):
        yield {"address": a.address, "mask": a.length, "secondary": a.secondary}


_LINK_LOCAL = Prefix.parse("fe80::/10")


def _put_v6(interface: InterfaceConfig, values: Values) -> InterfaceConfig:
    if "alone" in values:
        if not _LINK_LOCAL.covers(values["alone"]):
            raise Refusal("a link-local address is in fe80::/10", "alone")
        new = InterfaceAddress(values["alone"], 64)
    else:
        octets, length = values["spread"]
        if values.get("eui-64") and length > 64:
            raise Refusal("eui-64 fills the last 64 bits: the prefix can have 64 at most", "spread")
        new = InterfaceAddress(octets, length, eui64=bool(values.get("eui-64")))
        if octets[0] == 0xFF:
            raise Refusal("that is a multicast address", "spread")
    kept = (a for a in interface.addresses if a.address != new.address)
    return evolve(interface, addresses=(*kept, new))


def _remove_v6(interface: InterfaceConfig, values: Values) -> InterfaceConfig:
    gone = values["spread"][0] if "spread" in values else values.get("alone")
    kept = tuple(a for a in interface.addresses if len(a.address) != 16 or (gone is not None and a.address != gone))
    return evolve(interface, addresses=kept)


def _show_v6(interface: InterfaceConfig) -> Iterable[Values]:
    for a in interface.addresses:
        if len(a.address) == 16 and _LINK_LOCAL.covers(a.address) and not a.eui64:
            yield {"alone": a.address, "link-local": True}
        elif len(a.address) == 16:
            yield {"spread": (a.address, a.length), "eui-64": a.eui64}


def _put_vrf(interface: InterfaceConfig, values: Values) -> InterfaceConfig:
    return evolve(interface, vrf=values["vrf"])


def _put_dot1q(interface: InterfaceConfig, values: Values) -> InterfaceConfig:
    if not interface.parent:
        raise Refusal(f"{interface.name} is no sub-interface: a dot1Q tag needs one, like {interface.name}.10")
    return evolve(interface, vlan=values["vlan"])


def _ip_mtu(interface: InterfaceConfig) -> bool:
    """Tunnels have only an IP MTU; the MTU of other interfaces is the device's."""
    return interface.kind in (InterfaceKind.TUNNEL, InterfaceKind.TEMPLATE)


_INTERFACE_LINES = (
    opening(
        CONFIG,
        "interface {interface:interface} [type tunnel]",
        INTERFACE,
        INTERFACE_MODE,
        put=_open_interface,
        show=_show_interface,
        help="an interface",
        order=50,
    ),
    value(INTERFACE_MODE, "description {text:text}", INTERFACE, "description", "text", help="a remark", order=1),
    setting(
        INTERFACE_MODE,
        "encapsulation dot1Q {vlan:int:1-4094}",
        INTERFACE,
        _put_dot1q,
        show=lambda i: () if i.vlan is None else ({"vlan": i.vlan},),
        remove=lambda i, _values: evolve(i, vlan=None),
        help="the 802.1Q tag of this sub-interface",
        order=2,
    ),
    value(INTERFACE_MODE, "vrf forwarding {vrf:name:vrf}", INTERFACE, "vrf", "vrf", help="the VRF it is in", order=3),
    setting(
        INTERFACE_MODE,
        "ip vrf forwarding {vrf:name:vrf}",
        INTERFACE,
        _put_vrf,
        remove=lambda i, _values: evolve(i, vrf=DEFAULT_VRF),
        help="the VRF it is in, in the older way of writing",
        printed="vrf forwarding {vrf:name:vrf}",
        order=3,
    ),
    setting(
        INTERFACE_MODE,
        "ip address {address:ipv4} {mask:mask} [secondary]",
        INTERFACE,
        _put_address,
        show=_show_addresses,
        remove=_remove_address,
        help="an IPv4 address",
        order=5,
    ),
    flag(
        INTERFACE_MODE,
        "ip address negotiated",
        INTERFACE,
        "negotiated",
        help="the IPv4 address that the other end gives it",
        order=5,
    ),
    value(
        INTERFACE_MODE,
        "ip unnumbered {lender:interface}",
        INTERFACE,
        "unnumbered",
        "lender",
        help="use the IPv4 address of another interface",
        order=6,
    ),
    setting(
        INTERFACE_MODE,
        "ipv6 address ({spread:spread6} [eui-64] | {alone:ipv6} link-local)",
        INTERFACE,
        _put_v6,
        show=_show_v6,
        remove=_remove_v6,
        help="an IPv6 address; eui-64: its last 64 bits come from the MAC",
        order=7,
    ),
    setting(
        INTERFACE_MODE,
        "mtu {octets:int:68-65535}",
        INTERFACE,
        lambda i, values: evolve(i, mtu=values["octets"]),
        show=lambda i: ({"octets": i.mtu},) if i.mtu and not _ip_mtu(i) else (),
        remove=lambda i, _values: evolve(i, mtu=0),
        help="the largest packet, in octets",
        order=8,
    ),
    setting(
        INTERFACE_MODE,
        "ip mtu {octets:int:68-65535}",
        INTERFACE,
        lambda i, values: evolve(i, mtu=values["octets"]),
        show=lambda i: ({"octets": i.mtu},) if i.mtu and _ip_mtu(i) else (),
        remove=lambda i, _values: evolve(i, mtu=0),
        help="the largest IP packet, in octets",
        order=8,
    ),
    value(
        INTERFACE_MODE,
        "ip tcp adjust-mss {mss:int:500-65495}",
        INTERFACE,
        "mss",
        "mss",
        help="lower the MSS of TCP connections that pass to this",
        order=9,
    ),
    flag(INTERFACE_MODE, "ip unreachables", INTERFACE, "unreachables", help="send ICMP unreachables", order=10),
    flag(INTERFACE_MODE, "shutdown", INTERFACE, "shutdown", help="take it down", order=90),
)

# --- static routes ----------------------------------------------------------------------------------------------------


def _route_key(route: StaticRoute) -> tuple[Any, ...]:
    return route.vrf, route.prefix, route.address, route.interface


def _routes(draft: Draft) -> dict[Any, Any]:
    return draft.pile(
        "static routes",
        lambda: {_route_key(route): route for route in draft[NodeConfig].static_routes},
        lambda draft, pile: draft.put(evolve(draft[NodeConfig], static_routes=tuple(pile.values()))),
    )


def _prefix_of(values: Values) -> Prefix:
    return values["prefix"] if "prefix" in values else Prefix.of(values["network"], values["mask"])


def _put_route(draft: Draft, values: Values) -> None:
    out, address = values.get("out", ""), values.get("via", b"")
    if "network" in values and _prefix_of(values).network != values["network"]:
        raise Refusal("the address has bits outside its mask", "network")
    if address and _LINK_LOCAL.covers(address) and not out:
        raise Refusal("a link-local next hop needs its interface before it", "via")
    if out == NULL0 and address:
        raise Refusal(f"{NULL0} has no next hop", "via")
    route = StaticRoute(
        vrf=values.get("vrf", DEFAULT_VRF),
        prefix=_prefix_of(values),
        address=address,
        interface="" if out == NULL0 else out,
        distance=values.get("distance", 1),
        tag=values.get("tag", 0),
        name=values.get("name", ""),
        null=out == NULL0,
    )
    _routes(draft)[_route_key(route)] = route


def _remove_route(draft: Draft, values: Values) -> None:
    """Without a next hop: all routes to that prefix."""
    routes, prefix, vrf = _routes(draft), _prefix_of(values), values.get("vrf", DEFAULT_VRF)
    out, address = values.get("out", ""), values.get("via", b"")
    gone = [
        key
        for key, route in routes.items()
        if (route.vrf, route.prefix) == (vrf, prefix)
        and (not address or route.address == address)
        and (not out or (NULL0 if route.null else route.interface) == out)
    ]
    if not gone:
        raise Refusal("there is no such route")
    for key in gone:
        del routes[key]


def _show_routes(afi: Afi) -> Callable[[Sections, Values], Iterable[Values]]:
    def show(sections: Sections, _values: Values) -> Iterable[Values]:
        for route in sections[NodeConfig].static_routes:
            if route.prefix.afi is afi:
                bare = route.null or not (route.interface or route.address)
                yield {
                    "vrf": route.vrf,
                    "network": route.prefix.network,
                    "mask": route.prefix.length,
                    "prefix": route.prefix,
                    "out": NULL0 if bare else route.interface,
                    "via": route.address,
                    "distance": route.distance if route.distance != 1 else None,
                    "tag": route.tag or None,
                    "name": route.name,
                }

    return show


_TAIL = "[{distance:int:1-255}] [tag {tag:int:1-4294967295} [name {name:word}] | name {name:word} [tag {tag:int:1-4294967295}]]"
_ROUTE_LINES = tuple(
    Line(
        (CONFIG,),
        f"{start} ({{via:{kind}}} | {{out:interface}} [{{via:{kind}}}]) {_TAIL}",
        "a static route",
        edit=_put_route,
        undo=_remove_route,
        show=_show_routes(afi),
        no=f"{start} [{{via:{kind}}} | {{out:interface}} [{{via:{kind}}}]] {_TAIL}",
        order=order,
    )
    for afi, kind, start, order in (
        (Afi.IPV4, "ipv4", "ip route [vrf {vrf:name:vrf}] {network:ipv4} {mask:mask}", 70),
        (Afi.IPV6, "ipv6", "ipv6 route [vrf {vrf:name:vrf}] {prefix:prefix6}", 71),
    )
)

LINES: tuple[Line, ...] = (*_NODE_LINES, *_VRF_LINES, *_INTERFACE_LINES, *_ROUTE_LINES, *POLICY_LINES, *NO_EFFECT)
"""All of the floor's rows."""
