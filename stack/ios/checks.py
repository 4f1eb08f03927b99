"""What is legal but wrong: the floor's own findings, those of every package, and what shows only when they are compared.

A package's check takes the configuration and yields findings, claims (`there is an L3VPN profile called X`) and references
(`this line speaks of route map Y`). Here they meet, so that no package needs to know another.

Claims that are compared: `update-source`, `bgp-next-hop` and `transport-source` (interfaces); `automatic-source` (a profile
that takes its source from BGP); `tunnel` (an interface; `about`: the VRF and address of its far end); `profile`;
`static-labels` (`about`: first and last) and `static-label` (`about`: the label).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from attrs import evolve

from stack.addr import DEFAULT_VRF, Afi, Prefix, format_address
from stack.config import Config, InterfaceAddress, NodeConfig, StaticRoute
from stack.ios.faults import masked
from stack.ios.grammar import Claim, Finding, Reference
from stack.ios.reader import Reading
from stack.policy.routemap import (
    Match,
    MatchAccess,
    MatchCommunity,
    MatchExtCommunity,
    MatchNextHop,
    MatchPrefix,
    SetEncapsulate,
)

__all__ = ["Check", "check", "check_config", "check_files"]

Said = Finding | Claim | Reference
Check = Callable[[Any], Iterable[Any]]

NEAR = 0.6
"""How alike a name must be to one that exists to be suggested (difflib's ratio)."""

_RANKS = {"error": 0, "warning": 1, "note": 2}


def check(reading: Reading, specs: Iterable[Any] | None = None) -> tuple[Finding, ...]:
    """Everything to say about a text that was read: findings, worst first, and a note for each line without effect."""
    notes = [Finding("note", f"has no effect: {one.reason}", masked(one.line), one.number) for one in reading.no_effect]
    found = [
        evolve(one, number=_number(reading, one)) if one.line and one.number is None else one
        for one in check_config(reading.config, specs)
    ]
    return tuple(sorted((*reading.warnings, *found, *notes), key=_rank))


def check_files(reading: Reading, specs: Iterable[Any] | None = None) -> tuple[Finding, ...]:
    """What the files are found to be that the configuration names, on this host. A node does not start with an error."""
    if specs is None:
        from stack.registry import load_specs

        specs = load_specs()
    found: list[Finding] = []
    for spec in specs:
        look = getattr(spec, "files", None)
        if look is not None and spec.config is not None:
            found += (evolve(one, number=_number(reading, one)) for one in look(reading.config[spec.config]))
    return tuple(found)


def _number(reading: Reading, finding: Finding) -> int | None:
    """Where the line is; if it was written in another way, where its mode was entered."""
    found = reading.locate(finding.line, finding.under)
    return reading.locate(finding.under) if found is None and finding.under else found


def check_config(config: Config, specs: Iterable[Any] | None = None) -> tuple[Finding, ...]:
    """Findings about a configuration, worst first. `specs`: the services that have a say (None: every installed one)."""
    if specs is None:
        from stack.registry import load_specs

        specs = load_specs()
    said: list[Said] = list(_node(config.node))
    for spec in specs:
        for rule in spec.checks:
            said += rule(config)
        route_maps = getattr(spec, "route_maps", None)
        if route_maps is not None and spec.config is not None:
            said += [Claim("route-map", one.name) for one in route_maps(config[spec.config])]
    claims: defaultdict[str, dict[str, Claim]] = defaultdict(dict)
    for one in said:
        if isinstance(one, Claim):
            claims[one.kind].setdefault(one.name, one)
    found = dict.fromkeys(one for one in said if isinstance(one, Finding))
    found |= dict.fromkeys(_undefined(said, claims))
    found |= dict.fromkeys(_sources(claims))
    found |= dict.fromkeys(_unused_profiles(config.node, claims))
    found |= dict.fromkeys(_looping_tunnels(config.node, claims))
    found |= dict.fromkeys(_static_labels(claims))
    return tuple(sorted(found, key=_rank))


def _rank(finding: Finding) -> tuple[int, int]:
    return _RANKS.get(finding.severity, 3), finding.number or 0


# --- the floor's own --------------------------------------------------------------------------------------------------


def _node(node: NodeConfig) -> Iterator[Said]:
    yield from (Claim("vrf", name) for name in (DEFAULT_VRF, *node.vrfs))
    yield from (Claim("interface", name) for name in node.interfaces)
    yield from (Claim("route-map", name) for name in node.route_maps)
    yield from (Claim("prefix-list", name) for name in node.prefix_lists)
    yield from (Claim("access-list", name) for name in node.access_lists)
    yield from (Claim("community-list", name) for name in node.community_lists)
    yield from (Claim("extcommunity-list", name) for name in node.extcommunity_lists)
    yield from _vrfs(node)
    yield from _interfaces(node)
    yield from _addresses(node)
    yield from _static_routes(node)
    yield from _route_maps(node)


def _vrfs(node: NodeConfig) -> Iterator[Said]:
    by_rd: dict[Any, str] = {}
    imported = {rt for vrf in node.vrfs.values() for rts in vrf.import_rts.values() for rt in rts}
    for vrf in node.vrfs.values():
        line = f"{vrf.style.value} {vrf.name}"
        if vrf.rd is None:
            yield Finding("warning", f"VRF {vrf.name!r} has no route distinguisher: BGP cannot carry its routes", line)
        elif vrf.rd in by_rd:
            text = (
                f"VRFs {by_rd[vrf.rd]!r} and {vrf.name!r} have the same route distinguisher: their routes would be one"
            )
            yield Finding("error", text, line)
        else:
            by_rd[vrf.rd] = vrf.name
        if not vrf.families:
            yield Finding("warning", f"no address family of VRF {vrf.name!r} is open: it carries nothing", line)
        exported = {rt for rts in vrf.export_rts.values() for rt in rts}
        for rt in sorted(exported - imported):
            yield Finding(
                "note", f"route target {rt} is imported by no VRF here: another PE has to", f"route-target export {rt}"
            )
        if vrf.rd is not None and not any(vrf.import_rts.values()):
            yield Finding(
                "warning", f"VRF {vrf.name!r} imports no route target: it learns nothing from other PEs", line
            )
        if vrf.rd is not None and not exported:
            yield Finding("warning", f"VRF {vrf.name!r} exports no route target: no other PE takes its routes", line)


def _interfaces(node: NodeConfig) -> Iterator[Said]:
    tags: dict[tuple[str, int], str] = {}
    for interface in node.interfaces.values():
        line = f"interface {interface.name}"
        if interface.vrf:
            means = f"{interface.name} would be in no table"
            yield Reference("vrf", interface.vrf, f"vrf forwarding {interface.vrf}", means, "error", line)
        if interface.unnumbered:
            lent = f"ip unnumbered {interface.unnumbered}"
            yield Reference("interface", interface.unnumbered, lent, "it has no address", under=line)
            lender = node.interfaces.get(interface.unnumbered)
            if lender is not None and not (lender.negotiated or any(len(a.address) == 4 for a in lender.addresses)):
                yield Finding("warning", f"{lender.name} has no IPv4 address to lend", lent, under=line)
        if interface.parent and interface.vlan is None:
            yield Finding("warning", f"sub-interface {interface.name} has no dot1Q tag: it gets no packets", line)
        if interface.vlan is not None:
            key = (interface.parent, interface.vlan)
            if key in tags:
                text = f"{tags[key]} and {interface.name} have the same dot1Q tag: packets cannot be told apart"
                yield Finding("error", text, line)
            tags.setdefault(key, interface.name)


def _addresses(node: NodeConfig) -> Iterator[Said]:
    """Two interfaces of one VRF with one address, or on one subnet."""
    owners: dict[tuple[str, bytes], str] = {}
    subnets: dict[tuple[str, Prefix], str] = {}
    for interface in node.interfaces.values():
        for held in interface.addresses:
            if held.eui64 or held.address[:2] == b"\xfe\x80":
                continue
            where = f"VRF {interface.vrf!r}" if interface.vrf else "the global table"
            line = f"interface {interface.name}"
            owner = owners.setdefault((interface.vrf, held.address), interface.name)
            subnet = subnets.setdefault((interface.vrf, Prefix.of(held.address, held.length)), interface.name)
            if owner != interface.name:
                text = f"{owner} and {interface.name} have the same address {format_address(held.address)} in {where}"
                yield Finding("error", text, line)
            elif subnet != interface.name:
                yield Finding("warning", f"{subnet} and {interface.name} are on one subnet in {where}", line)


def _static_routes(node: NodeConfig) -> Iterator[Said]:
    for route in node.static_routes:
        word = "ip" if len(route.prefix.network) == 4 else "ipv6"
        line = f"{word} route vrf {route.vrf}" if route.vrf else f"{word} route {_route_start(route)}"
        if route.vrf:
            yield Reference("vrf", route.vrf, line, f"the route to {route.prefix} would be in no table", "error")
        if route.interface:
            yield Reference("interface", route.interface, line, f"the route to {route.prefix} cannot be used")


def _route_start(route: StaticRoute) -> str:
    from stack.addr import netmask

    if len(route.prefix.network) == 16:
        return str(route.prefix)
    return f"{format_address(route.prefix.network)} {netmask(route.prefix.length)}"


def _route_maps(node: NodeConfig) -> Iterator[Said]:
    for route_map in node.route_maps.values():
        for sequence in route_map.sequences:
            line = f"route-map {route_map.name} {'permit' if sequence.permit else 'deny'} {sequence.number}"
            for clause in sequence.matches:
                for kind, name in _lists(clause):
                    yield Reference(kind, name, line, "a list that does not exist permits all")
            for change in sequence.sets:
                if isinstance(change, SetEncapsulate):
                    means = "routes that this sequence permits are unusable"
                    word = "ip" if change.afi is Afi.IPV4 else "ipv6"
                    told = f"set {word} next-hop encapsulate l3vpn {change.profile}"
                    yield Reference("profile", change.profile, told, means, under=line)


def _lists(clause: Match) -> Iterator[tuple[str, str]]:
    match clause:
        case MatchPrefix(_, names) | MatchNextHop(_, names):
            yield from (("prefix-list", name) for name in names)
        case MatchAccess(_, names):
            yield from (("access-list", name) for name in names)
        case MatchCommunity(names, _):
            yield from (("community-list", name) for name in names)
        case MatchExtCommunity(names):
            yield from (("extcommunity-list", name) for name in names)
        case _:
            return


# --- what shows only in comparison ------------------------------------------------------------------------------------

_WORDS = {
    "vrf": "VRF",
    "interface": "interface",
    "route-map": "route map",
    "prefix-list": "prefix list",
    "access-list": "access list",
    "community-list": "community list",
    "extcommunity-list": "extended community list",
    "profile": "L3VPN profile",
    "ipsec-profile": "IPsec profile",
}

Claims = Mapping[str, Mapping[str, Claim]]


def _undefined(said: Iterable[Said], claims: Claims) -> Iterator[Finding]:
    for one in said:
        if isinstance(one, Reference) and one.name not in claims.get(one.kind, {}):
            means = f": {one.means}" if one.means else ""
            word = _WORDS.get(one.kind, one.kind)
            near = get_close_matches(one.name, [name for name in claims.get(one.kind, {}) if name], 1, NEAR)
            text = f"there is no {word} called {one.name!r}{means}"
            yield Finding(one.severity, text, one.line, under=one.under, suggestion=near[0] if near else "")


def _sources(claims: Claims) -> Iterator[Finding]:
    """BGP's next hop is where other PEs send tunnel packets to, so it must be where the tunnel takes them."""
    use = "bgp-next-hop" if claims.get("bgp-next-hop") else "update-source"
    ours = claims.get(use, {})
    word = "`bgp next-hop`" if use == "bgp-next-hop" else "BGP's update-source"
    for source, claim in claims.get("transport-source", {}).items():
        if ours and source not in ours:
            text = (
                f"{word} is {', '.join(sorted(ours))}, but the L3VPN transport source is {source}: other PEs would send "
                f"tunnel packets to an address that does not take them"
            )
            yield Finding("warning", text, claim.line)
    for name, claim in claims.get("automatic-source", {}).items():
        if not ours:
            yield Finding(
                "warning",
                f"L3VPN profile {name!r} takes its source from BGP, which names none (`update-source`)",
                claim.line,
            )
        elif len(ours) > 1:
            text = f"L3VPN profile {name!r} takes its source from BGP, which names several: {', '.join(sorted(ours))}"
            yield Finding("warning", text, claim.line)


def _unused_profiles(node: NodeConfig, claims: Claims) -> Iterator[Finding]:
    """A profile that no route is sent by. The map that the system makes for it counts if a neighbour uses it."""
    used = {
        change.profile
        for route_map in node.route_maps.values()
        for sequence in route_map.sequences
        for change in sequence.sets
        if isinstance(change, SetEncapsulate)
    }
    used |= set(claims.get("profile-used", {}))
    for name, claim in claims.get("profile", {}).items():
        own_map = claim.about
        if name not in used and own_map not in claims.get("route-map-used", {}):
            text = f"no route map sends routes by L3VPN profile {name!r}: they take an LSP (`{own_map}` sends all)"
            yield Finding("note", text, claim.line)


def _looping_tunnels(node: NodeConfig, claims: Claims) -> Iterator[Finding]:
    """A tunnel whose own packets would be routed into it, by static routes or by its own subnet."""
    for name, claim in claims.get("tunnel", {}).items():
        vrf, destination = claim.about
        if _leaves_by(node, vrf, destination) == name:
            text = f"{name}'s destination {format_address(destination)} is routed into {name} itself"
            yield Finding("error", text, claim.line)


def _static_labels(claims: Claims) -> Iterator[Finding]:
    """Labels given by hand that are not among those kept for it: another prefix may have them already."""
    for kept in claims.get("static-labels", {}).values():
        first, last = kept.about
        for claim in claims.get("static-label", {}).values():
            if not first <= claim.about <= last:
                text = f"label {claim.about} is not among the static ones ({first} to {last}): it may be in use already"
                yield Finding("warning", text, claim.line)


def _leaves_by(node: NodeConfig, vrf: str, address: bytes) -> str:
    """The interface that static and connected routes send `address` to ('' if they do not say)."""
    for _ in range(8):
        best: tuple[int, int, str, bytes] | None = None
        for interface in node.interfaces.values():
            if interface.vrf == vrf:
                for held in interface.addresses:
                    best = _better(best, held, interface.name, address)
        for route in node.static_routes:
            candidate = (route.prefix.length, -route.distance, route.interface, route.address)
            if route.vrf == vrf and route.prefix.covers(address) and (best is None or candidate[:2] > best[:2]):
                best = candidate
        if best is None or best[2]:
            return best[2] if best else ""
        if not best[3] or best[3] == address:
            return ""
        address = best[3]
    return ""


def _better(
    best: tuple[int, int, str, bytes] | None, held: InterfaceAddress, name: str, address: bytes
) -> tuple[int, int, str, bytes] | None:
    if len(held.address) != len(address) or not Prefix.of(held.address, held.length).covers(address):
        return best
    found = (held.length, 0, name, b"")
    return found if best is None or found[:2] > best[:2] else best
