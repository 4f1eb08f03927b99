"""What an operator sees of routing: routes, VRFs, interfaces. Pure renderers, and the commands that call them.

The values behind `--json` hold all that the tables know: also the candidates that lost or cannot be used, and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from stack.addr import DEFAULT_VRF, Afi, Prefix, format_address
from stack.events import Interface, InterfaceKind, Selected, Via, Vrf
from stack.ios.command import Command, CommandError, Scene, Shown
from stack.ios.times import age
from stack.routing.show_cef import CEF_COMMANDS, known_vrf
from stack.tables.adjacency import Adjacency
from stack.tables.interface import InterfaceTable
from stack.tables.rib import Candidate, Entry, RibTable
from stack.tables.vrf import VrfTable

__all__ = ["COMMANDS", "interfaces", "route_entry", "routes4", "routes6", "vrfs"]

_CODES = {
    "connected": "C",
    "local": "L",
    "static": "S",
    "ibgp": "B",
    "ebgp": "B",
    "bgp": "B",
    "nhrp": "H",
    "ikev2": "S",
    "kernel": "K",
}
_AGED = frozenset({"B", "H"})
_LEGEND = (
    "Codes: L - local, C - connected, S - static, B - BGP, H - NHRP",
    "       K - kernel, * - candidate default, % - next hop override",
)

Winners = Mapping[Prefix, Selected]


def code_of(kind: str) -> str:
    return _CODES.get(kind, kind[:1].upper() or "?")


def _via_words(via: Via, lead: str, since: str = "") -> str:
    if not via.address:
        return f" is directly connected{since}, {via.interface}"
    return f" {lead} via {format_address(via.address)}{since}{', ' + via.interface if via.interface else ''}"


def _vias(entry: Entry, winner: Candidate) -> tuple[Via, ...]:
    return (entry.override or winner).route.vias


# --- show ip route ----------------------------------------------------------------------------------------------------


def _rows(rib: RibTable, vrf: str, afi: Afi) -> list[tuple[Prefix, Entry, Candidate]]:
    found = []
    for prefix, entry in sorted(rib.items(vrf, afi)):
        winner = entry.best()
        if winner is not None:
            found.append((prefix, entry, winner))
    return found


def _plain(rib: RibTable, vrf: str, afi: Afi, winners: Winners, now: float) -> list[dict[str, Any]]:
    return [_plain_entry(prefix, entry, winners.get(prefix), now) for prefix, entry in sorted(rib.items(vrf, afi))]


def _plain_entry(prefix: Prefix, entry: Entry, selected: Selected | None, now: float) -> dict[str, Any]:
    winner = entry.best()
    return {
        "prefix": str(prefix),
        "selected": winner.owner if winner else None,
        "next-hop-id": selected.next_hop if selected else None,
        "age-seconds": round(now - selected.since, 3) if selected else None,
        "override": _plain_candidate(entry.override) if entry.override else None,
        "candidates": [_plain_candidate(candidate) for candidate in entry.candidates],
    }


def _plain_candidate(candidate: Candidate) -> dict[str, Any]:
    route = candidate.route
    return {
        "owner": candidate.owner,
        "kind": route.kind,
        "code": code_of(route.kind),
        "distance": route.distance,
        "metric": route.metric,
        "tag": route.tag,
        "usable": candidate.usable,
        "reason": candidate.reason,
        "vias": [
            {
                "address": format_address(via.address) if via.address else "",
                "interface": via.interface,
                "vrf": via.vrf,
                "encapsulation": via.encap,
                "labels": list(via.labels),
            }
            for via in route.vias
        ],
    }


def _classful(network: bytes) -> int:
    """The length that the network's class implies (heading of `show ip route`)."""
    return 8 if network[0] < 128 else 16 if network[0] < 192 else 24


def _headings(rows: Iterable[tuple[Prefix, Entry, Candidate]]) -> dict[Prefix, tuple[Prefix, str]]:
    """Prefix -> (its major network, the line that stands above that network's subnets)."""
    majors: dict[Prefix, list[Prefix]] = {}
    for prefix, _, _ in rows:
        length = _classful(prefix.network)
        if prefix.length >= length:
            majors.setdefault(Prefix.of(prefix.network, length), []).append(prefix)
    found: dict[Prefix, tuple[Prefix, str]] = {}
    for major, members in majors.items():
        masks = {member.length for member in members}
        if masks == {major.length}:
            continue
        if len(masks) == 1:
            mask = masks.pop()
            line = f"      {format_address(major.network)}/{mask} is subnetted, {len(members)} subnets"
        else:
            line = f"      {major} is variably subnetted, {len(members)} subnets, {len(masks)} masks"
        found.update((member, (major, line)) for member in members)
    return found


def _gateway(rows: Iterable[tuple[Prefix, Entry, Candidate]]) -> str:
    for prefix, entry, winner in rows:
        if prefix.length == 0:
            via = next(iter(_vias(entry, winner)), Via())
            return f"Gateway of last resort is {format_address(via.address or bytes(4))} to network 0.0.0.0"
    return "Gateway of last resort is not set"


def routes4(rib: RibTable, vrf: str, winners: Winners, now: float) -> Shown:
    """`show ip route [vrf V]`."""
    rows = _rows(rib, vrf, Afi.IPV4)
    lines = ["", f"Routing Table: {vrf}"] if vrf else []
    lines += [*_LEGEND, "", _gateway(rows), ""]
    headings, above = _headings(rows), None
    for prefix, entry, winner in rows:
        major, heading = headings.get(prefix, (None, ""))
        if major is not None and major != above:
            lines.append(heading)
        above = major
        lines += _route_lines(prefix, entry, winner, winners.get(prefix), now, indent=3 if major else 0)
    return Shown("\n".join(lines), _plain(rib, vrf, Afi.IPV4, winners, now))


def _route_lines(
    prefix: Prefix, entry: Entry, winner: Candidate, selected: Selected | None, now: float, *, indent: int
) -> list[str]:
    route = winner.route
    code = code_of(route.kind)
    mark = f"{code}{'*' if prefix.length == 0 else ''}"
    mark = f"{mark:<4}%" if entry.override else f"{mark:<5}"
    since = f", {age(now - selected.since)}" if selected and (code in _AGED or entry.override) else ""
    lead = f"[{route.distance}/{route.metric}]"
    vias = _vias(entry, winner)
    if not vias:
        return [f"{mark} {' ' * indent}{prefix} is directly connected, Null0"]
    first = f"{mark} {' ' * indent}{prefix}"
    lines = [f"{first}{_via_words(vias[0], lead, since)}"]
    lines += [f"{' ' * len(first)}{_via_words(via, lead, since)}" for via in vias[1:]]
    return lines


def routes6(rib: RibTable, vrf: str, winners: Winners, now: float) -> Shown:
    """`show ipv6 route [vrf V]`."""
    rows = _rows(rib, vrf, Afi.IPV6)
    lines = [f"IPv6 Routing Table - {vrf or 'default'} - {len(rows)} entries", *_LEGEND]
    for prefix, entry, winner in rows:
        route = winner.route
        mark = f"{code_of(route.kind):<3}{'%' if entry.override else ' '}"
        lines.append(f"{mark}{prefix} [{route.distance}/{route.metric}]")
        vias = _vias(entry, winner)
        own = route.kind == "local" or (route.kind == "connected" and prefix.length == 128)
        if not vias:
            lines.append("     via Null0, directly connected")
        for via in vias:
            lines.append(f"     via {_via6(via, vrf, own=own)}")
    return Shown("\n".join(lines), _plain(rib, vrf, Afi.IPV6, winners, now))


def _via6(via: Via, vrf: str, *, own: bool) -> str:
    if not via.address:
        return f"{via.interface}, {'receive' if own else 'directly connected'}"
    table = f"%{via.vrf or 'default'}" if via.vrf != vrf or via.encap else ""
    tail = f", {via.interface}" if via.interface else ", indirectly connected" if table else ""
    return f"{format_address(via.address)}{table}{tail}"


def route_entry(rib: RibTable, vrf: str, address: bytes, winners: Winners, now: float) -> Shown:
    """`show ip route ADDRESS`: the longest match, with every candidate and why the others are not used."""
    found = rib.match(vrf, address)
    if found is None:
        raise CommandError(f"no route to {format_address(address)} in {f'VRF {vrf}' if vrf else 'the default table'}")
    prefix, winner = found
    entry = rib.get(vrf, prefix)
    assert entry is not None
    route, selected = winner.route, winners.get(prefix)
    lines = [f"Routing entry for {prefix}{', supernet' if prefix.length == 0 else ''}"]
    kind = {"ibgp": ", type internal", "ebgp": ", type external"}.get(route.kind, "")
    source = winner.owner if kind else route.kind
    lines.append(f'  Known via "{source}", distance {route.distance}, metric {route.metric}{kind}')
    if route.tag:
        lines.append(f"  Tag {route.tag}")
    lines.append("  Routing Descriptor Blocks:")
    since = f", {age(now - selected.since)} ago" if selected else ""
    vias = _vias(entry, winner)
    for mark, via in zip("*" + " " * len(vias), vias, strict=False):
        where = f"directly connected, via {via.interface}" if not via.address else format_address(via.address)
        where += f" ({via.vrf or 'default'})" if via.address and via.vrf != vrf else ""
        where += f", via {via.interface}" if via.address and via.interface else ""
        lines.append(f"  {mark} {where}{since}")
        lines.append(f"      Route metric is {route.metric}, traffic share count is 1")
        if via.labels:
            lines.append(f"      MPLS label: {' '.join(map(str, via.labels))}")
        if via.encap:
            lines.append(f"      Encapsulation: L3VPN profile {via.encap}")
    if not vias:
        lines.append("  * directly connected, via Null0")
    if winner.reason:
        lines.append(f"  Packets are dropped: {winner.reason}")
    if entry.override:
        lines.append(f"  Next hop override by {entry.override.owner}")
    for other in entry.candidates:
        if other is not winner:
            reason = other.reason or "a better route is there"
            lines.append(f"  Not used: {other.owner} [{other.route.distance}/{other.route.metric}]: {reason}")
    return Shown("\n".join(lines), _plain_entry(prefix, entry, selected, now))


# --- show vrf, show interfaces ----------------------------------------------------------------------------------------


def vrfs(table: VrfTable, interfaces_: InterfaceTable, name: str | None = None) -> Shown:
    """`show vrf [NAME]`: name, RD, protocols, interfaces."""
    lines = [f"  {'Name':<32} {'Default RD':<21} {'Protocols':<11} Interfaces"]
    value = []
    for vrf in sorted(table, key=lambda row: row.name):
        if vrf.name == DEFAULT_VRF or name not in {None, vrf.name}:
            continue
        members = sorted(i.name for i in interfaces_ if i.vrf == vrf.name)
        families = ",".join("ipv4" if afi == Afi.IPV4 else "ipv6" for afi in sorted(vrf.families))
        rd = str(vrf.rd) if vrf.rd else "<not set>"
        lines.append(f"  {vrf.name:<32} {rd:<21} {families:<11} {members[0] if members else ''}".rstrip())
        lines += [f"{'':<69}{member}" for member in members[1:]]
        value.append(_plain_vrf(vrf, members))
    if name is not None and not value:
        known = ", ".join(sorted(vrf.name for vrf in table if vrf.name != DEFAULT_VRF)) or "none"
        raise CommandError(f"there is no VRF {name}; there are: {known}")
    return Shown("\n".join(lines), value)


def _plain_vrf(vrf: Vrf, members: list[str]) -> dict[str, Any]:
    def targets(held: Mapping[Afi, frozenset[Any]]) -> dict[str, list[str]]:
        return {f"ipv{4 if afi == Afi.IPV4 else 6}": sorted(map(str, rts)) for afi, rts in held.items()}

    return {
        "name": vrf.name,
        "rd": str(vrf.rd) if vrf.rd else None,
        "families": [f"ipv{4 if afi == Afi.IPV4 else 6}" for afi in sorted(vrf.families)],
        "export": targets(vrf.export_rts),
        "import": targets(vrf.import_rts),
        "interfaces": members,
        "description": vrf.description,
    }


_HARDWARE = {
    InterfaceKind.ETHERNET: "Ethernet",
    InterfaceKind.LOOPBACK: "Loopback",
    InterfaceKind.TUNNEL: "Tunnel",
    InterfaceKind.TEMPLATE: "Virtual Template interface",
    InterfaceKind.TUN: "TUN",
}


def _in_order(name: str) -> tuple[str, tuple[int, ...]]:
    """Sorts Ethernet0/2 before Ethernet0/10."""
    return re.split(r"\d", name, maxsplit=1)[0], tuple(map(int, re.findall(r"\d+", name)))


def interfaces(rows: Iterable[Interface], name: str | None = None, adjacencies: Iterable[Adjacency] = ()) -> Shown:
    """`show interfaces [NAME]`. `adjacencies`: what tunnels have behind them."""
    behind: dict[str, list[Adjacency]] = {}
    for adjacency in adjacencies:
        if name in {None, adjacency.key.interface}:
            behind.setdefault(adjacency.key.interface, []).append(adjacency)
    lines: list[str] = []
    value = []
    for interface in sorted(rows, key=lambda row: _in_order(row.name)):
        if name in {None, interface.name}:
            neighbours = behind.get(interface.name, []) if interface.row.kind is InterfaceKind.TUNNEL else []
            lines += [*_interface_lines(interface), *_tunnel_lines(interface, neighbours)]
            value.append({**_plain_interface(interface), "security": _plain_security(interface, neighbours)})
    if name is not None and not value:
        raise CommandError(f"there is no interface {name}")
    return Shown("\n".join(lines), value)


def _interface_lines(interface: Interface) -> list[str]:
    row, mac = interface.row, interface.mac.hex()
    admin = "up" if row.admin_up else "administratively down"
    state = admin if interface.up or not row.admin_up or row.kind is InterfaceKind.TUNNEL else "down"
    lines = [f"{interface.name} is {state}, line protocol is {'up' if interface.up else 'down'}"]
    cloned = row.kind is InterfaceKind.TUNNEL and row.parent
    hardware = f"  Hardware is {f'Virtual Access, a clone of {row.parent}' if cloned else _HARDWARE[row.kind]}"
    lines.append(hardware + (f", address is {mac[:4]}.{mac[4:8]}.{mac[8:]}" if mac else ""))
    if interface.reason:
        lines.append(f"  Reason: {interface.reason}")
    if row.description:
        lines.append(f"  Description: {row.description}")
    if row.unnumbered:
        lines.append(f"  Interface is unnumbered. Using address of {row.unnumbered}")
    for address, own in sorted(interface.addresses.items(), key=lambda item: len(item[0])):
        if own.origin != "unnumbered":
            kind = "Secondary address" if own.secondary else "Internet address is" if len(address) == 4 else "IPv6"
            lines.append(f"  {kind} {format_address(address)}/{own.length}")
    if row.negotiated and not any(own.origin == "negotiated" for own in interface.addresses.values()):
        lines.append("  Internet address will be negotiated using IKEv2")
    lines.append(f"  MTU {interface.mtu} bytes" + (f", VRF {row.vrf}" if row.vrf else ""))
    if row.vlan is not None:
        lines.append(f"  Encapsulation 802.1Q Virtual LAN, Vlan ID {row.vlan}, on {row.parent}")
    if row.mpls:
        lines.append("  Labelled packets are taken and sent")
    return lines


def _tunnel_lines(interface: Interface, neighbours: list[Adjacency]) -> list[str]:
    """The ends of a point-to-point tunnel, and how its protection is."""
    lines = []
    if interface.row.point_to_point and neighbours:
        one = neighbours[0]
        source = format_address(one.source) if one.source else "UNKNOWN"
        lines.append(f"  Tunnel source {source}, destination {format_address(one.destination)}")
    if interface.row.protection:
        lines.append(f'  Tunnel protection via IPSec (profile "{interface.row.protection}")')
        up = sum(one.complete for one in neighbours)
        reason = next((f": {one.reason}" for one in neighbours if not one.complete), "")
        lines.append(f"  Protected neighbours: {up} of {len(neighbours)} can be sent to{reason}")
    return lines


def _plain_security(interface: Interface, neighbours: list[Adjacency]) -> dict[str, Any] | None:
    if not interface.row.protection:
        return None
    return {
        "profile": interface.row.protection,
        "neighbours": len(neighbours),
        "usable": sum(one.complete for one in neighbours),
        "reasons": sorted({one.reason for one in neighbours if not one.complete}),
    }


def _plain_interface(interface: Interface) -> dict[str, Any]:
    row = interface.row
    return {
        "name": interface.name,
        "kind": row.kind.value,
        "index": interface.index,
        "up": interface.up,
        "admin-up": row.admin_up,
        "reason": interface.reason,
        "vrf": row.vrf,
        "mtu": interface.mtu,
        "mac": interface.mac.hex(":"),
        "addresses": [
            {
                "address": format_address(address),
                "length": own.length,
                "secondary": own.secondary,
                "origin": own.origin,
            }
            for address, own in interface.addresses.items()
        ],
        "description": row.description,
        "parent": row.parent,
        "vlan": row.vlan,
        "device": row.device,
        "mpls": row.mpls,
        "point-to-point": row.point_to_point,
        "unnumbered": row.unnumbered,
        "protection": row.protection,
        "negotiated": row.negotiated,
    }


def interface_brief(rows: Iterable[Interface]) -> Shown:
    """`show ip interface brief`."""
    lines = [f"{'Interface':<26} {'IP-Address':<15} OK? Method {'Status':<21} Protocol"]
    value = []
    for interface in sorted(rows, key=lambda row: _in_order(row.name)):
        address, method = "unassigned", "unset"
        for octets, own in interface.addresses.items():
            if len(octets) == 4:
                address, method = format_address(octets), _METHODS.get(own.origin, own.origin)
                break
        status = "administratively down" if not interface.row.admin_up else "up" if interface.up else "down"
        protocol = "up" if interface.up else "down"
        lines.append(f"{interface.name:<26} {address:<15} YES {method:<6} {status:<21} {protocol}")
        value.append({"name": interface.name, "address": address, "method": method, "status": status, "up": protocol})
    return Shown("\n".join(lines), value)


_METHODS = {"configured": "manual", "unnumbered": "TFTP", "negotiated": "IPCP"}

# --- commands ---------------------------------------------------------------------------------------------------------


def _route(scene: Scene, values: Mapping[str, Any], afi: Afi) -> Shown:
    vrf = known_vrf(scene, values)
    winners = scene.service.engine.selected.get(vrf, {})
    if "address" in values:
        return route_entry(scene.tables.rib, vrf, values["address"], winners, scene.now)
    return (routes4 if afi == Afi.IPV4 else routes6)(scene.tables.rib, vrf, winners, scene.now)


COMMANDS: tuple[Command, ...] = (
    Command(
        "show ip route [vrf {vrf:vrf}] [{address:ipv4}]",
        lambda scene, values: _route(scene, values, Afi.IPV4),
        "IPv4 routes in use, by VRF",
    ),
    Command(
        "show ipv6 route [vrf {vrf:vrf}] [{address:ipv6}]",
        lambda scene, values: _route(scene, values, Afi.IPV6),
        "IPv6 routes in use, by VRF",
    ),
    *CEF_COMMANDS,
    Command(
        "show vrf [{name:vrf}]",
        lambda scene, values: vrfs(scene.tables.vrfs, scene.tables.interfaces, values.get("name")),
        "VRFs, their route distinguishers and interfaces",
    ),
    Command(
        "show interfaces [{name:interface}]",
        lambda scene, values: interfaces(scene.tables.interfaces, values.get("name"), scene.tables.adjacencies),
        "interfaces: state, addresses, MTU",
    ),
    Command(
        "show ip interface brief",
        lambda scene, _values: interface_brief(scene.tables.interfaces),
        "interfaces and their first address",
    ),
)
