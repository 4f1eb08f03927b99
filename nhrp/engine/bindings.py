"""The table of bindings: which overlay address is at which NBMA address, who says so, and for how long.

An entry is made by configuration (`map`, `nhs`) or by a registration, and in that order one takes precedence. On an interface
with many far ends it claims the endpoint, and where the interface's own subnets do not cover the address, the host route to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

from attrs import define, field

from nhrp.engine.indexed import Network
from nhrp.engine.node import Node
from nhrp.engine.reach import DISTANCE, IMPLICIT_NULL
from nhrp.engine.snapshot import BindingKind, BindingSnapshot
from nhrp.wire.packet import CieCode
from stack.addr import Prefix, format_address
from stack.claims import Slot
from stack.events import BindingOffered, EndpointOffered, EndpointRow, Interface, Route, RouteOffered, Via
from stack.values import value

__all__ = ["MOST_OF_ONE", "TIMER", "Binding", "Bindings", "Registration", "Source"]

TIMER = "binding"
"""First word of the timers' keys: (TIMER, (network, overlay address))."""

MOST_OF_ONE = 1_024
"""Addresses that are registered from one NBMA address (several clients, behind a NAT): nobody takes the table from others."""


class Source(IntEnum):
    """Who says so; the higher one counts."""

    REGISTERED = 1
    STATIC = 2


@define(eq=False)
class Binding:
    """`address` (overlay) is at `nbma`, by `interface`; `claimed`: where it says it is. `expires` None: never."""

    network: Network
    address: bytes
    source: Source
    interface: str
    vrf: str
    nbma: bytes
    claimed: bytes
    claimant: int
    created: float
    unique: bool = False
    holding_time: int = 0
    expires: float | None = None
    mtu: int = 0

    @property
    def nat(self) -> bool:
        return self.claimed != self.nbma

    @property
    def key(self) -> tuple[Network, bytes]:
        return self.network, self.address

    def is_of(self, nbma: bytes, claimed: bytes) -> bool:
        """Whether it is the entry of the station at `nbma` that says it is at `claimed`: several may stand behind one NAT."""
        return self.nbma == nbma and self.claimed in (claimed, nbma)


@value
class Registration:
    """What a client has registered, so that a restart of ours costs it nothing: it says so again only when a third of its
    holding time is over. `expires` None: never."""

    nbma: bytes
    claimed: bytes
    holding_time: int
    unique: bool
    mtu: int
    expires: float | None


_Shape = tuple[int, str, bool, bytes, bool, tuple[tuple[bytes, int], ...]]
"""Of an interface, as far as entries depend on it: network, VRF, whether it is a tunnel, its far end, MPLS, own prefixes."""


@define(eq=False)
class Bindings:
    """`others`: how many entries elsewhere count for the limit."""

    node: Node
    kept: dict[tuple[str, bytes], Registration] = field(factory=dict)
    """(interface, overlay address) -> what outlives the speaker, bounded as the table is."""
    others: Callable[[], int] = lambda: 0
    _entries: dict[tuple[Network, bytes], Binding] = field(factory=dict)
    _by_vrf: dict[tuple[str, bytes], Binding] = field(factory=dict)
    _on: dict[str, dict[bytes, Binding]] = field(factory=dict)
    _at: dict[tuple[str, bytes], dict[bytes, Binding]] = field(factory=dict)
    _servers: dict[tuple[str, bytes], bytes] = field(factory=dict)
    """(interface, overlay address) -> NBMA address of servers that have said themselves what they are called."""
    _shapes: dict[str, _Shape] = field(factory=dict)
    _old: dict[str, list[tuple[bytes, Registration]]] = field(factory=dict)
    """By interface: what an earlier incarnation kept, until that interface is there."""

    def __attrs_post_init__(self) -> None:
        for (interface, address), one in self.kept.items():
            self._old.setdefault(interface, []).append((address, one))
        self.kept.clear()

    # --- look-ups -------------------------------------------------------------------------------------------------------

    def on(self, interface: str, address: bytes) -> Binding | None:
        """What is known of an address in the network of an interface."""
        return self._entries.get((self.node.network(interface), address))

    def known(self, vrf: str, address: bytes) -> Binding | None:
        """As `on`, in whatever network of that (inside) VRF."""
        return self._by_vrf.get((vrf, address))

    def of(self, interface: str) -> Iterator[Binding]:
        return iter(list(self._on.get(interface, {}).values()))

    def at(self, interface: str, nbma: bytes) -> tuple[Binding, ...]:
        """All that is at one NBMA address: several, behind a NAT."""
        return tuple(self._at.get((interface, nbma), {}).values())

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Binding]:
        return iter(list(self._entries.values()))

    @property
    def full(self) -> bool:
        return len(self._entries) + self.others() >= self.node.config.cache_limit

    # --- entries ----------------------------------------------------------------------------------------------------------

    def register(
        self,
        interface: str,
        address: bytes,
        nbma: bytes,
        holding_time: int,
        *,
        claimed: bytes = b"",
        unique: bool = False,
        bound: bool = False,
        mtu: int = 0,
    ) -> CieCode:
        """What a registration says. `bound`: the address is this peer's beyond doubt (IKEv2 has assigned it).

        RFC 2332 5.2.3: with U set, "the first NHC to register wins": code 14 to whoever comes with another NBMA address.
        """
        claimed = claimed or nbma
        entry = self.on(interface, address)
        if entry is not None and entry.source is Source.STATIC:
            return CieCode.OK if entry.nbma == nbma else CieCode.PROHIBITED
        if entry is not None and entry.source is Source.REGISTERED:
            same = (entry.interface, entry.nbma, entry.claimed) == (interface, nbma, claimed)
            if not same and entry.unique and not bound:
                return CieCode.UNIQUE_ALREADY_REGISTERED
        elif entry is None and (self.full or len(self._at.get((interface, nbma), ())) >= MOST_OF_ONE):
            return CieCode.INSUFFICIENT_RESOURCES
        made = self._enter(interface, address, Source.REGISTERED, nbma, claimed, holding_time, unique=unique, mtu=mtu)
        self.kept[interface, address] = Registration(nbma, claimed, holding_time, unique, mtu, made.expires)
        return CieCode.OK

    def _enter(
        self,
        interface: str,
        address: bytes,
        source: Source,
        nbma: bytes,
        claimed: bytes,
        holding_time: int,
        *,
        unique: bool = False,
        mtu: int = 0,
    ) -> Binding:
        node = self.node
        entry = self.on(interface, address)
        if entry is not None and (entry.interface != interface or entry.source > source):
            self.remove(entry, "replaced")
            entry = None
        if entry is None:
            network, vrf = node.network(interface), node.vrf(interface)
            entry = Binding(network, address, source, interface, vrf, nbma, claimed, node.claimant(), node.now)
            self._entries[entry.key] = entry
            self._by_vrf[vrf, address] = entry
            self._on.setdefault(interface, {})[address] = entry
            self._at.setdefault((interface, nbma), {})[address] = entry
            moved = True
        else:
            moved = entry.nbma != nbma or entry.source is not source
            if entry.nbma != nbma:
                self._leave(entry)
                self._at.setdefault((interface, nbma), {})[address] = entry
                node.log("nhrp.moved", address=format_address(address), nbma=format_address(nbma), interface=interface)
            entry.source, entry.nbma, entry.claimed = source, nbma, claimed
        entry.unique, entry.holding_time, entry.mtu = unique, holding_time, mtu
        entry.expires = node.now + holding_time if holding_time else None
        node.timers.set((TIMER, entry.key), entry.expires)
        if moved:
            node.claims.hold(entry.claimant, self._rows(entry))
        return entry

    def _rows(self, entry: Binding) -> dict[Slot, Any]:
        """What an entry makes true."""
        node, name = self.node, entry.interface
        interface, tunnel = node.interfaces.get(name), node.tunnels.get(name)
        if interface is None or tunnel is None:
            return {}
        rows: dict[Slot, Any] = {}
        if not tunnel.remote:
            rows[Slot(EndpointOffered, "", (name, entry.address))] = EndpointRow(entry.nbma)
        if not _covered(interface, entry.address):
            host, via = Prefix.host(entry.address), Via(address=entry.address, interface=name, vrf=entry.vrf)
            rows[Slot(RouteOffered, entry.vrf, host)] = Route(DISTANCE, (via,), "nhrp")
            if interface.row.mpls:
                rows[Slot(BindingOffered, "", (entry.vrf, host, entry.address))] = IMPLICIT_NULL
        return rows

    def remove(self, entry: Binding, reason: str) -> None:
        if self._entries.get(entry.key) is not entry:
            return
        del self._entries[entry.key]
        self.kept.pop((entry.interface, entry.address), None)
        if self._by_vrf.get((entry.vrf, entry.address)) is entry:
            del self._by_vrf[entry.vrf, entry.address]
        _take(self._on, entry.interface, entry.address)
        self._leave(entry)
        self.node.timers.set((TIMER, entry.key), None)
        self.node.claims.drop(entry.claimant)
        self.node.count(f"binding gone: {reason}")

    def _leave(self, entry: Binding) -> None:
        _take(self._at, (entry.interface, entry.nbma), entry.address)

    def due(self, key: tuple[Any, ...]) -> None:
        entry = self._entries.get(key[1])
        if entry is not None:
            self.node.log("nhrp.expired", address=format_address(entry.address), interface=entry.interface)
            self.remove(entry, "expired")

    # --- static ones ------------------------------------------------------------------------------------------------------

    def serve(self, interface: str, address: bytes, nbma: bytes | None) -> None:
        """A server has said what its overlay address is (None: forget it)."""
        if self._servers.get((interface, address)) == nbma:
            return
        if nbma is None:
            self._servers.pop((interface, address), None)
        else:
            self._servers[interface, address] = nbma
        self._statics(interface)

    def _wanted(self, name: str) -> dict[bytes, bytes]:
        """Overlay -> NBMA address, as configured."""
        node, tunnel = self.node, self.node.tunnels.get(name)
        if not node.network(name) or tunnel is None:
            return {}
        wanted = {address: nbma for (interface, address), nbma in self._servers.items() if interface == name}
        for family in node.nhrp(name).families.values():
            wanted.update((one.address, one.nbma) for one in family.maps)
            for server in family.nhs:
                if server.address:
                    wanted[server.address] = server.nbma or wanted.get(server.address, b"")
        return {address: tunnel.remote or nbma for address, nbma in wanted.items() if tunnel.remote or nbma}

    def _statics(self, name: str) -> None:
        wanted = self._wanted(name)
        for entry in self.of(name):
            if entry.source is Source.STATIC and entry.address not in wanted:
                self.remove(entry, "unconfigured")
        for address, nbma in wanted.items():
            other = self.on(name, address)
            # The same map on two interfaces of one network: the first counts.
            taken = other is not None and other.source is Source.STATIC and other.interface != name
            if not taken and not self.node.is_own(self.node.vrf(name), address):
                self._enter(name, address, Source.STATIC, nbma, nbma, 0)

    # --- what changed -----------------------------------------------------------------------------------------------------

    def interface_changed(self, name: str) -> None:
        """InterfaceState or TunnelState of `name`."""
        shape, before = self._shape(name), self._shapes.get(name)
        if shape == before:
            return
        self._shapes[name] = shape
        if before is not None and shape[:4] != before[:4]:
            for entry in self.of(name):
                self.remove(entry, "interface changed")
        for entry in self.of(name):
            self.node.claims.hold(entry.claimant, self._rows(entry))
        self._statics(name)
        if shape[0] and shape[2]:
            self._restore(name)
        if name not in self.node.interfaces:
            del self._shapes[name]

    def _restore(self, name: str) -> None:
        """Registrations of an earlier incarnation, as long as they last."""
        for address, one in self._old.pop(name, ()):
            over = one.expires is not None and one.expires <= self.node.now
            if over or self.on(name, address) is not None or self.node.is_own(self.node.vrf(name), address):
                continue
            if not self.node.is_at(name, one.nbma):
                continue  # the name is another peer's interface now
            entry = self._enter(
                name,
                address,
                Source.REGISTERED,
                one.nbma,
                one.claimed,
                one.holding_time,
                unique=one.unique,
                mtu=one.mtu,
            )
            entry.expires = one.expires
            self.node.timers.set((TIMER, entry.key), entry.expires)
            self.kept[name, address] = one
            self.overlay_changed(name, address)

    def overlay_changed(self, interface: str, address: bytes) -> None:
        """OverlayState: IKEv2 has assigned `address` to a peer. Whoever said before that it is there, and is not, goes (N05).

        An assignment that ends takes nothing along: the peer may be back before it registers again."""
        row, entry = self.node.overlays.get((interface, address)), self.on(interface, address)
        if row is None:
            return
        remote = self._remote(interface)
        there = entry is not None and (entry.interface, entry.nbma) in ((interface, row.transport), (interface, remote))
        if entry is not None and not there and entry.source is not Source.STATIC:
            self.remove(entry, "assigned to another")
        assigned = self.node.assigned(interface, row.transport)
        for one in self.at(interface, remote or row.transport):
            if one.source is not Source.STATIC and one.address not in assigned:
                self.remove(one, "not the address that IKEv2 has assigned")

    def _shape(self, name: str) -> _Shape:
        node = self.node
        interface, tunnel = node.interfaces.get(name), node.tunnels.get(name)
        if interface is None:
            return 0, "", False, b"", False, ()
        prefixes = tuple((address, row.length) for address, row in interface.addresses.items())
        remote = tunnel.remote if tunnel is not None else b""
        row = interface.row
        return row.network_id, row.vrf, tunnel is not None, remote, row.mpls, prefixes

    def _remote(self, interface: str) -> bytes:
        tunnel = self.node.tunnels.get(interface)
        return tunnel.remote if tunnel is not None else b""

    def reconfigured(self) -> None:
        for name in list(self.node.interfaces):
            self._statics(name)

    def snapshot(self) -> tuple[BindingSnapshot, ...]:
        return tuple(_snapshot(entry) for entry in self._entries.values())


def _snapshot(entry: Binding) -> BindingSnapshot:
    flags = [
        *(["unique"] if entry.unique else []),
        *(["registered"] if entry.source is Source.REGISTERED else []),
        *(["nat"] if entry.nat else []),
    ]
    return BindingSnapshot(
        entry.interface,
        entry.vrf,
        Prefix.host(entry.address),
        BindingKind.STATIC if entry.source is Source.STATIC else BindingKind.DYNAMIC,
        entry.address,
        entry.nbma,
        entry.claimed if entry.nat else b"",
        entry.created,
        entry.expires,
        tuple(flags),
    )


def _covered(interface: Interface, address: bytes) -> bool:
    """Whether a connected prefix of the interface leads there already."""
    return any(
        len(own) == len(address) and Prefix.of(own, row.length).covers(address)
        for own, row in interface.addresses.items()
    )


def _take(index: dict[Any, dict[bytes, Binding]], key: Any, address: bytes) -> None:
    members = index[key]
    members.pop(address, None)
    if not members:
        del index[key]
