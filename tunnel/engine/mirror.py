"""What the host's own tables must hold so that the node's TCP, and its outer packets, find their way. Pure.

In the default VRF the physical interfaces stay with the kernel: configured addresses go onto their devices, and routes
that the kernel needs for outer packets are mirrored. Every other address of the node lives, as a host address, on the
host port of its VRF. A route that leaves by a tunnel is mirrored towards the default VRF's host port, through which such
packets enter our own FIB, except where it would cover a tunnel's destination: those packets must never come back to us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from attrs import define, field, frozen

from stack.addr import DEFAULT_VRF, Prefix
from stack.events import HostPortRow, Interface, InterfaceKind, NextHopKey, Selected
from stack.nettypes import HostRoute
from stack.tables.nexthop import NextHopTable

__all__ = ["HostChange", "HostState", "RouteCopies", "is_kernels", "wanted_addresses", "wanted_drops"]

LINK_LOCAL = Prefix.parse("fe80::/10")


@frozen
class HostState:
    """`addresses`: (device, address, length). `drops`: device -> VLANs (None: untagged) whose packets the kernel must not
    route, since they are ours."""

    addresses: frozenset[tuple[str, bytes, int]] = frozenset()
    routes: frozenset[HostRoute] = frozenset()
    drops: Mapping[str, frozenset[int | None]] = field(factory=dict)


@frozen
class HostChange:
    """`addresses` and `drops` are all of them, as in HostState; `routes` only those that changed, None: it must go."""

    addresses: frozenset[tuple[str, bytes, int]] = frozenset()
    drops: Mapping[str, frozenset[int | None]] = field(factory=dict)
    routes: Mapping[Prefix, HostRoute | None] = field(factory=dict)


def is_kernels(interface: Interface) -> bool:
    """Whether the interface's device stays with the kernel: an untagged Ethernet interface of the default VRF."""
    row = interface.row
    return row.kind is InterfaceKind.ETHERNET and row.vrf == DEFAULT_VRF and row.vlan is None


def wanted_drops(interfaces: Iterable[Interface]) -> Mapping[str, frozenset[int | None]]:
    """As HostState has them."""
    drops: dict[str, set[int | None]] = {}
    for interface in interfaces:
        row = interface.row
        if row.kind is InterfaceKind.ETHERNET and row.device and not is_kernels(interface):
            drops.setdefault(row.device, set()).add(row.vlan)
    return {device: frozenset(vlans) for device, vlans in drops.items()}


def wanted_addresses(
    interfaces: Mapping[str, Interface], host_ports: Mapping[str, HostPortRow]
) -> frozenset[tuple[str, bytes, int]]:
    """As HostState has them."""
    return frozenset(_addresses(interfaces, host_ports))


class _Way(NamedTuple):
    """How the host's copies leave that use one next hop. `kernels`: out of a device that is the kernel's."""

    via: bytes
    device: str
    kernels: bool


@define(eq=False)
class RouteCopies:
    """The kernel's copies of the default VRF's routes. A route, a next hop or an interface that changes touches only what
    hangs on it: there may be 100,000 routes, and hardly more than some hundreds of next hops. `routes` is what the host
    must hold; nothing here is larger than the routes that were told."""

    nexthops: NextHopTable
    routes: dict[Prefix, HostRoute] = field(factory=dict)
    _rows: dict[Prefix, Selected] = field(factory=dict)
    _users: dict[int, set[Prefix]] = field(factory=dict)
    _ways: dict[int, _Way | None] = field(factory=dict)
    _keys: dict[NextHopKey, int] = field(factory=dict)
    _destinations: frozenset[bytes] = frozenset()
    _covering: dict[Prefix, int] = field(factory=dict)
    _port: str = ""
    _dirty: set[Prefix] = field(factory=set)

    def select(self, prefix: Prefix, row: Selected | None) -> bool:
        """A route came, changed or (None) went. Whether `next_hops` is another set now."""
        if row is not None and not _may_be_copied(row):
            row = None
        old = self._rows.pop(prefix, None)
        if old is None and row is None:
            return False
        if old is not None:
            users = self._users[old.next_hop]
            users.discard(prefix)
            if not users:
                del self._users[old.next_hop]
                self._ways.pop(old.next_hop, None)
        if row is not None:
            self._rows[prefix] = row
            self._users.setdefault(row.next_hop, set()).add(prefix)
        self._dirty.add(prefix)
        came, went = (_count(self._keys, row, 1), _count(self._keys, old, -1))
        return came or went

    def next_hops(self) -> Iterable[NextHopKey]:
        """What the copies depend on."""
        return self._keys

    def keep_from(self, destinations: Iterable[bytes]) -> None:
        """Far ends of tunnels, all of them, which no copy that leads back to us may cover."""
        new = frozenset(destinations)
        for address in new ^ self._destinations:
            step = 1 if address in new else -1
            for length in range(len(address) * 8 + 1):
                prefix = Prefix.of(address, length)
                count = self._covering.get(prefix, 0) + step
                if count:
                    self._covering[prefix] = count
                else:
                    del self._covering[prefix]
                if prefix in self._rows:
                    self._dirty.add(prefix)
        self._destinations = new

    def look(self, interfaces: Mapping[str, Interface], host_ports: Mapping[str, HostPortRow]) -> None:
        """Next hops, interfaces or host ports changed."""
        self._port = _port(host_ports)
        for hop, users in self._users.items():
            way = self._way(hop, interfaces)
            if hop not in self._ways or self._ways[hop] != way:
                self._ways[hop] = way
                self._dirty |= users

    def settle(self, interfaces: Mapping[str, Interface]) -> Mapping[Prefix, HostRoute | None]:
        """The copies that changed; None: it must go."""
        changed: dict[Prefix, HostRoute | None] = {}
        for prefix in self._dirty:
            new = self._copy(prefix, interfaces)
            if new != self.routes.get(prefix):
                changed[prefix] = new
                if new is None:
                    del self.routes[prefix]
                else:
                    self.routes[prefix] = new
        self._dirty.clear()
        return changed

    def _copy(self, prefix: Prefix, interfaces: Mapping[str, Interface]) -> HostRoute | None:
        """None: the kernel needs no copy, or has the route already."""
        row = self._rows.get(prefix)
        if row is None:
            return None
        hop = row.next_hop
        if hop not in self._ways:
            self._ways[hop] = self._way(hop, interfaces)
        way = self._ways[hop]
        if way is None or (way.kernels and row.route.kind == "connected"):
            return None
        if way.device == self._port and prefix in self._covering:
            return None
        return HostRoute(prefix, way.via, way.device)

    def _way(self, number: int, interfaces: Mapping[str, Interface]) -> _Way | None:
        hop = self.nexthops.get(number)
        if hop is None or hop.adjacency is None:
            return None
        interface = interfaces.get(hop.adjacency.interface)
        if interface is None:
            return None
        if is_kernels(interface) and not hop.labels:
            device = interface.row.device
            return _Way(hop.adjacency.address, device, kernels=True) if device else None
        return _Way(b"", self._port, kernels=False) if self._port else None


def _may_be_copied(row: Selected) -> bool:
    return row.route.kind not in ("kernel", "local") and row.next_hop != 0


def _count(keys: dict[NextHopKey, int], row: Selected | None, step: int) -> bool:
    """Whether a key came or went."""
    changed = False
    for key in {via.key() for via in row.route.vias} if row is not None else ():
        count = keys.get(key, 0) + step
        changed = changed or count in (0, step)
        if count:
            keys[key] = count
        else:
            del keys[key]
    return changed


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
