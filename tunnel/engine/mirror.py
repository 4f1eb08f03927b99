"""What the host's own tables must hold so that the node's TCP, and its outer packets, find their way. Pure.

In the default VRF the physical interfaces stay with the kernel: configured addresses go onto their devices, and routes
that the kernel needs for outer packets are mirrored. Every other address of the node lives, as a host address, on the
host port of its VRF. A route that leaves by a tunnel is mirrored towards the default VRF's host port, through which such
packets enter our own FIB, except where it would draw the packets to a tunnel's far end, which must never come back to us: a
default route by a tunnel is copied only if more specific routes by the kernel's own devices lead to all far ends. So is a
route to Null0: what the node itself sends there must not follow a route of the host's, in clear, to wherever that leads.
A default route to Null0 is not: it would cut off the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from attrs import define, field, frozen

from stack.addr import DEFAULT_VRF, Prefix
from stack.events import HostPortRow, Interface, InterfaceKind, NextHopKey, Selected
from stack.nettypes import HostRoute
from stack.tables.nexthop import NextHopTable

__all__ = ["HostChange", "HostState", "Local", "RouteCopies", "is_kernels"]

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


AddressKey = tuple[str, bytes, int]
"""(device, address, length)."""


@define(eq=False)
class Local:
    """Addresses and filters that the interfaces need on devices, counted: thousands of interfaces may borrow one address.
    `state` is as HostChange has it, without routes, and the same object until something is different."""

    state: HostChange = field(factory=HostChange)
    _held: dict[str, tuple[frozenset[AddressKey], tuple[str, int | None] | None]] = field(factory=dict)
    _addresses: dict[AddressKey, int] = field(factory=dict)
    _drops: dict[tuple[str, int | None], int] = field(factory=dict)
    _changed: bool = False

    def names(self) -> Iterable[str]:
        """The interfaces that need something."""
        return self._held

    def look(self, name: str, interface: Interface | None, host_ports: Mapping[str, HostPortRow]) -> None:
        """An interface, or the host port of its VRF, came, changed or went."""
        new = (frozenset(_addresses(interface, host_ports)), _drop(interface)) if interface is not None else _NOTHING
        old = self._held.get(name, _NOTHING)
        if new == old:
            return
        if new == _NOTHING:
            del self._held[name]
        else:
            self._held[name] = new
        for address in new[0] - old[0]:
            self._changed |= _counted(self._addresses, address, 1)
        for address in old[0] - new[0]:
            self._changed |= _counted(self._addresses, address, -1)
        for drop, step in ((new[1], 1), (old[1], -1)):
            if drop is not None:
                self._changed |= _counted(self._drops, drop, step)

    def settle(self) -> HostChange:
        if self._changed:
            self._changed = False
            drops: dict[str, set[int | None]] = {}
            for device, vlan in self._drops:
                drops.setdefault(device, set()).add(vlan)
            kept = {device: frozenset(vlans) for device, vlans in drops.items()}
            new = HostChange(frozenset(self._addresses), kept)
            self.state = self.state if new == self.state else new
        return self.state


_NOTHING: tuple[frozenset[AddressKey], None] = (frozenset(), None)


def _drop(interface: Interface) -> tuple[str, int | None] | None:
    """(device, VLAN) of which the kernel must route nothing, since it is ours."""
    row = interface.row
    ours = row.kind is InterfaceKind.ETHERNET and row.device and not is_kernels(interface)
    return (row.device, row.vlan) if ours else None


def _counted(counts: dict[Any, int], key: Any, step: int) -> bool:
    """Whether `key` came or went."""
    count = counts.get(key, 0) + step
    if count:
        counts[key] = count
    else:
        del counts[key]
    return count in (0, step)


Hop = int | str
"""What a copy hangs on: a next hop; or an interface to which its destinations are attached; or '' (they are discarded)."""


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
    _users: dict[Hop, set[Prefix]] = field(factory=dict)
    _ways: dict[Hop, _Way | None] = field(factory=dict)
    _leaves: dict[Hop, str] = field(factory=dict)
    _leaving: dict[str, set[Hop]] = field(factory=dict)
    """Next hop -> the interface it leaves by, and back."""
    _keys: dict[NextHopKey, int] = field(factory=dict)
    _moved: set[NextHopKey] = field(factory=set)
    _guards: dict[bytes, int] = field(factory=dict)
    """Far end -> how long the longest route is that leads to it by a device of the kernel's; -1: there is none."""
    _near: dict[Prefix, int] = field(factory=dict)
    """Prefixes that far ends are in; of these, those that are longer than the far end's guard would draw its packets."""
    _covering: dict[Prefix, int] = field(factory=dict)
    _unguarded: set[bytes] = field(factory=set)
    _moved_rows: set[Prefix] = field(factory=set)
    """Far ends to be judged anew; prefixes whose routes, or ways, are others than when far ends were judged."""
    _port: str = ""
    _dirty: set[Prefix] = field(factory=set)

    def select(self, prefix: Prefix, row: Selected | None) -> None:
        """A route came, changed or (None) went."""
        if row is not None and not _may_be_copied(prefix, row):
            row = None
        old = self._rows.pop(prefix, None)
        if old is None and row is None:
            return
        if old is not None:
            users = self._users[_hop(old)]
            users.discard(prefix)
            if not users:
                del self._users[_hop(old)]
                self._forget_way(_hop(old))
        if row is not None:
            self._rows[prefix] = row
            self._users.setdefault(_hop(row), set()).add(prefix)
        self._dirty.add(prefix)
        self._moved_rows.add(prefix)
        for one, step in ((row, 1), (old, -1)):
            for key in {via.key() for via in one.route.vias} if one is not None and one.next_hop else ():
                if _counted(self._keys, key, step):
                    self._moved.add(key)

    def next_hops(self) -> Iterable[NextHopKey]:
        """What the copies depend on."""
        return self._keys

    def depends_on(self, key: NextHopKey) -> bool:
        return key in self._keys

    def take_moved(self) -> set[NextHopKey]:
        """The keys of `next_hops` that came or went since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def destinations(self) -> Iterable[bytes]:
        return self._guards

    def keep_from(self, address: bytes, *, far_end: bool) -> None:
        """Whether an address is the far end of a tunnel, which no copy that leads back to us may draw."""
        if far_end == (address in self._guards):
            return
        for length in range(len(address) * 8 + 1):
            _counted(self._near, Prefix.of(address, length), 1 if far_end else -1)
        if far_end:
            self._guard(address, -1)
            self._unguarded.add(address)
        else:
            self._guard(address, None)
            self._unguarded.discard(address)

    def _guard(self, address: bytes, guard: int | None) -> None:
        """None: it is no far end any more."""
        bits = len(address) * 8
        before = self._guards.get(address, bits)
        if guard is None:
            del self._guards[address]
            guard = bits
        else:
            self._guards[address] = guard
        low, high = sorted((before, guard))
        for length in range(low + 1, high + 1):
            prefix = Prefix.of(address, length)
            _counted(self._covering, prefix, 1 if guard < before else -1)
            if prefix in self._rows:
                self._dirty.add(prefix)

    def _judge_guards(self, interfaces: Mapping[str, Interface]) -> None:
        """Of new far ends, and of those to which a route that changed may lead."""
        doubtful = set(self._unguarded)
        for prefix in self._moved_rows:
            if prefix in self._near:
                doubtful.update(address for address in self._guards if prefix.covers(address))
        self._unguarded.clear()
        self._moved_rows.clear()
        for address in doubtful:
            lengths = range(len(address) * 8, -1, -1)
            self._guard(address, next((n for n in lengths if self._is_guard(Prefix.of(address, n), interfaces)), -1))

    def _is_guard(self, prefix: Prefix, interfaces: Mapping[str, Interface]) -> bool:
        """Whether packets by that route leave by a device of the kernel's, which knows the connected ones itself."""
        row = self._rows.get(prefix)
        if row is None:
            return False
        if row.route.kind == "connected":
            interface = interfaces.get(row.route.vias[0].interface) if row.route.vias else None
            return interface is not None and is_kernels(interface)
        way = self._way_of(row, interfaces)
        return way is not None and way.kernels

    def look(
        self,
        interfaces: Mapping[str, Interface],
        host_ports: Mapping[str, HostPortRow],
        names: Iterable[str],
        hops: Iterable[int] | None,
    ) -> None:
        """These interfaces and next hops changed, or host ports. `hops` None: any may have."""
        port = _port(host_ports)
        judged: Iterable[Hop]
        if port != self._port or hops is None:
            judged = list(self._users)
        else:
            judged = {*hops, *(hop for name in names for hop in self._leaving.get(name, ()))}
        self._port = port
        for hop in judged:
            users = self._users.get(hop)
            if users is None:
                continue
            known, before = hop in self._ways, self._ways.get(hop)
            way = self._find_way(hop, interfaces)
            if not known or way != before:
                self._dirty |= users
                self._moved_rows |= users

    def _find_way(self, hop: Hop, interfaces: Mapping[str, Interface]) -> _Way | None:
        """Judge a next hop anew. An interface that it leaves by is remembered even while there is no such interface."""
        self._forget_way(hop)
        row = self.nexthops.get(hop) if isinstance(hop, int) else None
        name = hop if isinstance(hop, str) else row.adjacency.interface if row and row.adjacency else ""
        if name:
            self._leaves[hop] = name
            self._leaving.setdefault(name, set()).add(hop)
        way = self._ways[hop] = self._way(hop, interfaces)
        return way

    def _way_of(self, row: Selected, interfaces: Mapping[str, Interface]) -> _Way | None:
        hop = _hop(row)
        return self._ways[hop] if hop in self._ways else self._find_way(hop, interfaces)

    def _forget_way(self, hop: Hop) -> None:
        self._ways.pop(hop, None)
        name = self._leaves.pop(hop, None)
        if name is not None:
            hops = self._leaving[name]
            hops.discard(hop)
            if not hops:
                del self._leaving[name]

    def settle(self, interfaces: Mapping[str, Interface]) -> Mapping[Prefix, HostRoute | None]:
        """The copies that changed; None: it must go. In an order in which none leads a far end's packets back to us meanwhile:
        what leads to us goes first and comes last."""
        self._judge_guards(interfaces)
        changed: dict[Prefix, HostRoute | None] = {}
        leading: dict[Prefix, HostRoute | None] = {}
        gone: dict[Prefix, HostRoute | None] = {}
        for prefix in self._dirty:
            new = self._copy(prefix, interfaces)
            old = self.routes.get(prefix)
            if new != old:
                if new is None:
                    del self.routes[prefix]
                else:
                    self.routes[prefix] = new
                ours = new is not None and new.device == self._port
                part = leading if ours else gone if old is not None and old.device == self._port else changed
                part[prefix] = new
        self._dirty.clear()
        return {**gone, **changed, **leading}

    def _copy(self, prefix: Prefix, interfaces: Mapping[str, Interface]) -> HostRoute | None:
        """None: the kernel needs no copy, or has the route already."""
        row = self._rows.get(prefix)
        if row is None:
            return None
        way, hop = self._way_of(row, interfaces), _hop(row)
        if way is None or (way.kernels and row.route.kind == "connected"):
            return None
        if way.device == self._port and (prefix in self._covering or _is_own(prefix, hop, interfaces)):
            return None
        return HostRoute(prefix, way.via, way.device)

    def _way(self, number: Hop, interfaces: Mapping[str, Interface]) -> _Way | None:
        ours = _Way(b"", self._port, kernels=False) if self._port else None
        if isinstance(number, str):
            attached = interfaces.get(number)
            return ours if not number or (attached and attached.row.kind is InterfaceKind.TUNNEL) else None
        hop = self.nexthops.get(number)
        if hop is None or hop.adjacency is None:
            return None
        interface = interfaces.get(hop.adjacency.interface)
        if interface is None:
            return None
        if is_kernels(interface) and not hop.labels:
            device = interface.row.device
            return _Way(hop.adjacency.address, device, kernels=True) if device else None
        return ours


def _may_be_copied(prefix: Prefix, row: Selected) -> bool:
    return row.route.kind not in ("kernel", "local") and bool(row.next_hop or row.route.vias or prefix.length)


def _hop(row: Selected) -> Hop:
    return row.next_hop or (row.route.vias[0].interface if row.route.vias else "")


def _is_own(prefix: Prefix, hop: Hop, interfaces: Mapping[str, Interface]) -> bool:
    """Whether it is an address of the interface that it is attached to: the host port has it."""
    if not isinstance(hop, str) or prefix.length < len(prefix.network) * 8:
        return False
    interface = interfaces.get(hop)
    return interface is not None and prefix.network in interface.addresses


def _port(host_ports: Mapping[str, HostPortRow]) -> str:
    row = host_ports.get(DEFAULT_VRF)
    return row.device if row else ""


def _addresses(interface: Interface, host_ports: Mapping[str, HostPortRow]) -> Iterable[AddressKey]:
    if not interface.row.admin_up:
        return
    port = host_ports.get(interface.vrf)
    for address, row in interface.addresses.items():
        if is_kernels(interface):
            if interface.row.device:
                yield interface.row.device, address, row.length
        elif port is not None and not LINK_LOCAL.covers(address):
            yield port.device, address, len(address) * 8
