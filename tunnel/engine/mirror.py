"""What the host's own tables must hold so that the node's TCP, and its outer packets, find their way. Pure.

In the default VRF the physical interfaces stay with the kernel: configured addresses go onto their devices, and routes
that the kernel needs for outer packets are mirrored. Every other address of the node lives, as a host address, on the
host port of its VRF. A route that leaves by a tunnel is mirrored towards the default VRF's host port, through which such
packets enter our own FIB, except where it would cover a tunnel's destination: those packets must never come back to us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field, frozen

from stack.addr import DEFAULT_VRF, Prefix
from stack.events import HostPortRow, Interface, InterfaceKind, NextHopKey, Selected
from stack.nettypes import HostRoute
from stack.tables.nexthop import NextHopTable

__all__ = ["HostState", "is_kernels", "next_hops", "wanted_state"]

LINK_LOCAL = Prefix.parse("fe80::/10")


@frozen
class HostState:
    """`addresses`: (device, address, length). `drops`: device -> VLANs (None: untagged) whose packets the kernel must not
    route, since they are ours."""

    addresses: frozenset[tuple[str, bytes, int]] = frozenset()
    routes: frozenset[HostRoute] = frozenset()
    drops: Mapping[str, frozenset[int | None]] = field(factory=dict)


def is_kernels(interface: Interface) -> bool:
    """Whether the interface's device stays with the kernel: an untagged Ethernet interface of the default VRF."""
    row = interface.row
    return row.kind is InterfaceKind.ETHERNET and row.vrf == DEFAULT_VRF and row.vlan is None


def wanted_state(
    interfaces: Mapping[str, Interface],
    host_ports: Mapping[str, HostPortRow],
    selected: Mapping[Prefix, Selected],
    nexthops: NextHopTable,
    tunnel_destinations: Iterable[bytes],
) -> HostState:
    addresses = frozenset(_addresses(interfaces, host_ports))
    drops: dict[str, set[int | None]] = {}
    for interface in interfaces.values():
        row = interface.row
        if row.kind is InterfaceKind.ETHERNET and row.device and not is_kernels(interface):
            drops.setdefault(row.device, set()).add(row.vlan)
    destinations = tuple(tunnel_destinations)
    routes = frozenset(
        route
        for prefix, row in selected.items()
        if (route := _route(prefix, row, interfaces, host_ports, nexthops)) is not None
        and not (route.device == _port(host_ports) and any(prefix.covers(d) for d in destinations))
    )
    return HostState(addresses, routes, {device: frozenset(vlans) for device, vlans in drops.items()})


def _may_be_copied(row: Selected) -> bool:
    return row.route.kind not in ("kernel", "local") and row.next_hop != 0


def next_hops(selected: Mapping[Prefix, Selected]) -> set[NextHopKey]:
    """What the copies of these routes depend on."""
    return {via.key() for row in selected.values() if _may_be_copied(row) for via in row.route.vias}


def _port(host_ports: Mapping[str, HostPortRow]) -> str:
    row = host_ports.get(DEFAULT_VRF)
    return row.device if row else ""


def _addresses(
    interfaces: Mapping[str, Interface], host_ports: Mapping[str, HostPortRow]
) -> Iterable[tuple[str, bytes, int]]:
    for interface in interfaces.values():
        if not interface.row.admin_up:
            continue
        port = host_ports.get(interface.vrf)
        for address, row in interface.addresses.items():
            if is_kernels(interface):
                if interface.row.device:
                    yield interface.row.device, address, row.length
            elif port is not None and not LINK_LOCAL.covers(address):
                yield port.device, address, len(address) * 8


def _route(
    prefix: Prefix,
    row: Selected,
    interfaces: Mapping[str, Interface],
    host_ports: Mapping[str, HostPortRow],
    nexthops: NextHopTable,
) -> HostRoute | None:
    """The kernel's copy of a route of the default VRF; None: it needs none, or has it already."""
    if not _may_be_copied(row):
        return None
    hop = nexthops.get(row.next_hop)
    if hop is None or hop.adjacency is None:
        return None
    interface = interfaces.get(hop.adjacency.interface)
    if interface is None:
        return None
    port = _port(host_ports)
    if is_kernels(interface) and not hop.labels:
        if row.route.kind == "connected" or not interface.row.device:
            return None
        return HostRoute(prefix, hop.adjacency.address, interface.row.device)
    return HostRoute(prefix, b"", port) if port else None
