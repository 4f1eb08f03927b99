"""The whole path of an IP packet, for whatever the readers' caches do not know: look-up, TTL, delivery, MTU, errors.

Pure over the read-only tables: octets and where they came from in, octets into ports and facts to the bus out. Nothing a
packet holds makes it raise; what goes nowhere is counted under a reason of `Drop`.

RFC 1812 (routers), RFC 8200, RFC 1122 3.2.2 and RFC 4443 2.4 (what errors are about), RFC 3443 (TTL, uniform model: the
TTL of a popped label caps the one of the packet under it, so that a peer which does not copy TTLs cannot raise it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from attrs import define, field

from stack.addr import Prefix
from stack.events import (
    AdjacencyKey,
    Fact,
    Hairpin,
    Ingress,
    Interface,
    InterfaceKind,
    NeighbourUnresolved,
    NhrpReceived,
    SendNhrp,
)
from stack.tables import Tables
from stack.tables.adjacency import AdjacencyKind
from stack.tables.fib import Leaf, LeafKind
from stack.wire import WireError, internet_checksum
from tunnel.io.batch import Arena
from tunnel.io.counters import Budgets, Counters, Drop, Slow
from tunnel.io.errors import Complaint, answer_echo, build, header_of, may_complain, reseal4
from tunnel.io.inlet import Arrival, Flows, Inlet
from tunnel.io.ports import Outlets, Unsent
from tunnel.io.resolve import Refusal, Resolver
from tunnel.io.rewrite import VNET, Rewrite, key4, key6
from tunnel.io.sealing import Seals
from tunnel.io.usage import Usage
from tunnel.wire import icmp, ipv4, ipv6, tcp

__all__ = ["FACT_RATE", "ICMP_BURST", "ICMP_RATE", "NHRP_RATE", "Path"]

ICMP_RATE, ICMP_BURST = 100, 50
"""ICMP errors a second and at once, of each kind in each VRF (RFC 1812 4.3.2.8, RFC 4443 2.4 f): a scan that has no
route must not cost others their path MTU discovery."""

FACT_RATE, NHRP_RATE = 500, 10_000
"""Facts a second, and at once, of each kind from each interface; NHRP packets, of which a hub gets as many as it has spokes."""

MAX_WAITING, WAIT = 256, 3.0
"""Packets that wait for a neighbour's MAC, one each (RFC 1122 2.3.2.2), and for how many seconds."""

_TCP, _UDP, _GRE, _MPLS_IN_IP = 6, 17, 47, 137
_LOOSE_ROUTE, _STRICT_ROUTE = 131, 137
_HOST_PROTOCOLS = frozenset((_TCP, _UDP))
_LINK_LOCAL = Prefix.parse("fe80::/10")
_MARTIANS6 = (Prefix.parse("::/127"), Prefix.parse("::ffff:0:0/96"))


class Outer(Protocol):
    def again(self, octets: bytes, arrival: Arrival) -> bool: ...
    def takes(self, packet: bytes, arrival: Arrival) -> bytes | None: ...


@define(eq=False)
class Path:
    """`now` in seconds on any monotonic scale; `post` takes facts for the bus."""

    tables: Tables
    outlets: Outlets
    counters: Counters
    post: Callable[[Fact], None]
    now: Callable[[], float]
    arena: Arena
    resolver: Resolver = field(init=False)
    inlets: dict[str, Inlet] = field(factory=dict, init=False)
    warm: set[Inlet] = field(factory=set, init=False)
    """Those that have something in their caches: a hub has thousands, and few of them between two changes."""
    outer: dict[str, Outer] = field(factory=dict, init=False)
    """By VRF, where tunnels' own packets travel in it: what takes those that come to an address of ours."""
    nested: int = field(default=0, init=False)
    """How many tunnels of such VRFs the packet at hand has been put into."""
    changed: Callable[[], None] = field(default=lambda: None)
    _stamp: int = field(default=-1, init=False)
    _neighbours: int = field(default=-1, init=False)
    _routes: int = field(default=-1, init=False)
    waiting: dict[AdjacencyKey, tuple[float, bytes, Arrival]] = field(factory=dict, init=False, repr=False)
    _errors: Budgets = field(init=False)
    _facts: Budgets = field(init=False)
    _nhrp: Budgets = field(init=False)
    usage: Usage = field(factory=Usage, init=False)

    def __attrs_post_init__(self) -> None:
        seals = Seals(self.arena, self.outlets, self.counters, self.now, self.punt)
        self.resolver = Resolver(self.tables, self.outlets, self.counters, seals)
        self._errors = Budgets(ICMP_RATE, ICMP_BURST, self.now)
        self._facts = Budgets(FACT_RATE, FACT_RATE, self.now)
        self._nhrp = Budgets(NHRP_RATE, NHRP_RATE, self.now)

    # --- caches -----------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Forget what the tables no longer say. Cheap when nothing changed; every drain begins with it."""
        tables = self.tables
        stamp = (
            tables.nexthops.generation
            + tables.lfib.generation
            + tables.interfaces.generation
            + tables.receptions.generation
            + self.outlets.generation
        )
        if stamp != self._stamp:
            self._stamp, self._neighbours = stamp, tables.adjacencies.generation + tables.sad.generation
            self.forget()
        elif tables.adjacencies.generation + tables.sad.generation != self._neighbours:
            # Whoever scans a network makes neighbours come and go all the time: no other packet may pay for that.
            self._neighbours = tables.adjacencies.generation + tables.sad.generation
            if self.resolver.moved():
                self.forget()
            else:
                self.release()
        if tables.fib.generation != self._routes:
            self._routes = tables.fib.generation
            self._forget_routes()

    def forget(self) -> None:
        self.resolver.forget()
        for inlet in self.warm:
            inlet.harvest(self.counters.labels)
            inlet.clear()
        self.warm.clear()
        self.changed()
        self.release()

    def _forget_routes(self) -> None:
        for inlet in self.warm:
            for flows in inlet.flows.values():
                fib = self.tables.fib.get(flows.vrf)
                if fib is not flows.fib or (fib is not None and fib.generation != flows.generation):
                    flows.clear()
                    flows.fib, flows.generation = fib, fib.generation if fib is not None else 0

    def flows(self, inlet: Inlet, vrf: str) -> Flows:
        flows = inlet.flows.get(vrf)
        if flows is None:
            fib = self.tables.fib.get(vrf)
            flows = inlet.flows[vrf] = Flows(vrf, fib, fib.generation if fib is not None else 0, usage=self.usage)
        return flows

    def host_inlet(self, vrf: str) -> Inlet:
        """The ingress of what this node itself sends into a VRF."""
        name = f"host {vrf or 'default'}"
        inlet = self.inlets.get(name)
        if inlet is None:
            inlet = self.inlets[name] = Inlet(name, "", vrf, "", self.counters.into(name))
        return inlet

    # --- in ---------------------------------------------------------------------------------------------------------------

    def drop(self, reason: Drop, arrival: Arrival) -> None:
        self.counters.drop(reason, arrival.inlet.name)

    def ip(self, octets: bytes, arrival: Arrival) -> None:
        """A bare IP packet, maybe with padding behind it."""
        version = octets[0] >> 4 if octets else 0
        if version == 4:
            packet = self.checked4(octets, arrival)
        elif version == 6:
            packet = self.checked6(octets, arrival)
        else:
            packet = Drop.NOT_IP
        if isinstance(packet, Drop):
            self.drop(packet, arrival)
            return
        self._route(packet, arrival, packet[16:20] if version == 4 else packet[24:40])

    def checked4(self, octets: bytes, arrival: Arrival) -> bytes | Drop:
        """The packet without its padding, its header found good (RFC 1812 5.2.2), or why it is not."""
        if len(octets) < 20:
            return Drop.MALFORMED
        header, total = (octets[0] & 15) * 4, int.from_bytes(octets[2:4])
        if not 20 <= header <= total <= len(octets):
            return Drop.MALFORMED
        if internet_checksum(octets[:header]):
            return Drop.CHECKSUM
        if header > 20:
            try:
                kinds = {kind for kind, _ in ipv4.options(octets[20:header])}
            except WireError:
                return Drop.MALFORMED
            if _LOOSE_ROUTE in kinds or _STRICT_ROUTE in kinds:
                return Drop.SOURCE_ROUTE
        return _class4(octets[12:16], octets[16:20], local=arrival.local) or octets[:total]

    def checked6(self, octets: bytes, arrival: Arrival) -> bytes | Drop:
        if len(octets) < 40:
            return Drop.MALFORMED
        total = 40 + int.from_bytes(octets[4:6])
        if total > len(octets):
            return Drop.MALFORMED
        return _class6(octets[8:24], octets[24:40], local=arrival.local) or octets[:total]

    def _route(self, packet: bytes, arrival: Arrival, destination: bytes) -> None:
        fib = self.tables.fib.get(arrival.vrf)
        if fib is None:
            self.drop(Drop.NO_VRF, arrival)
            return
        if len(destination) == 16 and (_LINK_LOCAL.covers(destination) or _LINK_LOCAL.covers(packet[8:24])):
            self._link_local(packet, arrival, destination)
            return
        leaf = fib.lookup(destination)
        if leaf is None:
            self.drop(Drop.NO_ROUTE, arrival)
            self.complain(packet, arrival, Complaint.NO_ROUTE)
        elif leaf.kind is LeafKind.RECEIVE:
            self._receive(packet, arrival)
        elif leaf.kind is LeafKind.DISCARD:
            self.drop(Drop.DISCARD, arrival)
            self.complain(packet, arrival, Complaint.HOST)
        elif leaf.kind is LeafKind.ATTACHED and self._is_broadcast(leaf.interface, destination):
            self.drop(Drop.BROADCAST, arrival)
        else:
            self._onward(packet, arrival, leaf, destination)

    def _link_local(self, packet: bytes, arrival: Arrival, destination: bytes) -> None:
        """To an address of the interface it came in by: ours. Anything else of link scope is never forwarded, by
        RFC 4291 2.5.6."""
        interface = self.tables.interfaces.get(arrival.inlet.interface)
        if arrival.local:
            self.drop(Drop.LINK_LOCAL, arrival)
        elif interface is not None and interface.vrf == arrival.vrf and destination in interface.addresses:
            self._receive(packet, arrival)
        else:
            self.drop(Drop.LINK_LOCAL, arrival)

    def _is_broadcast(self, interface: str, destination: bytes) -> bool:
        """Whether it is the directed broadcast of a prefix on `interface` (RFC 2644: MUST default to not forwarding)."""
        if len(destination) != 4:
            return False
        row = self.tables.interfaces.get(interface)
        value = int.from_bytes(destination)
        for address, at in row.addresses.items() if row else ():
            if len(address) == 4 and at.length < 31:
                host = (1 << (32 - at.length)) - 1
                if value == int.from_bytes(address) | host:
                    return True
        return False

    # --- on ---------------------------------------------------------------------------------------------------------------

    def _onward(self, packet: bytes, arrival: Arrival, leaf: Leaf, destination: bytes) -> None:
        out = self.aged(packet, arrival)
        if out is None:
            return
        rewrite = self.resolver.leaf(arrival.inlet.interface, leaf, destination)
        if isinstance(rewrite, Refusal):
            self.refused(rewrite, packet, arrival)
            return
        if arrival.local and not arrival.quiet and rewrite.adjacency.kind is AdjacencyKind.HOST and not rewrite.labels:
            self.drop(Drop.HOST_LOOP, arrival)
            return
        if arrival.local and not arrival.inlet.outer:
            self.usage.note(arrival.vrf, destination)
        else:
            self.flows(arrival.inlet, arrival.vrf).learn(destination, rewrite)
            self.warm.add(arrival.inlet)
        self.emit(out, rewrite, packet, arrival)

    def aged(self, packet: bytes, arrival: Arrival) -> bytearray | None:
        """A copy with the TTL that it leaves with; None if that is 0 (counted, and the sender told)."""
        out = bytearray(packet)
        if arrival.local:
            return out
        at = 8 if packet[0] >> 4 == 4 else 7
        ttl = min(packet[at], arrival.cap)
        if ttl <= 1:
            self.expired(packet, arrival)
            return None
        out[at] = ttl - 1
        if at == 8:
            reseal4(out)
        return out

    def expired(self, packet: bytes, arrival: Arrival) -> None:
        self.drop(Drop.TTL_EXPIRED, arrival)
        self.complain(packet, arrival, Complaint.EXPIRED)

    def refused(self, refusal: Refusal, packet: bytes, arrival: Arrival) -> None:
        """Nothing can be sent there: hold it if only a MAC is missing, else drop it and say so."""
        if refusal.neighbour is not None and not refusal.dead:
            self.punt(NeighbourUnresolved(refusal.neighbour.interface, refusal.neighbour.address), refusal.interface)
            self._hold(refusal.neighbour, packet, arrival)
            return
        self.counters.drop(refusal.reason, refusal.interface or arrival.inlet.name)
        if refusal.dead or refusal.reason in (Drop.NO_NEXT_HOP, Drop.INTERFACE_DOWN):
            self.complain(packet, arrival, Complaint.HOST)

    def _hold(self, neighbour: AdjacencyKey, packet: bytes, arrival: Arrival) -> None:
        """The latest packet for a neighbour waits until it is resolved; the one before it is dropped."""
        if neighbour in self.waiting or len(self.waiting) >= MAX_WAITING:
            self.counters.drop(Drop.UNRESOLVED, neighbour.interface)
        if neighbour in self.waiting or len(self.waiting) < MAX_WAITING:
            self.waiting[neighbour] = (self.now(), packet, arrival)

    def release(self) -> None:
        """Send what waited for a neighbour that is there now; give up what has waited too long."""
        if not self.waiting:
            return
        now = self.now()
        for key, (since, packet, arrival) in list(self.waiting.items()):
            adjacency = self.tables.adjacencies.get(key)
            if adjacency is not None and adjacency.takes(labelled=True):
                del self.waiting[key]
                self.ip(packet, arrival)
            elif since + WAIT <= now or (adjacency is not None and adjacency.reason):
                del self.waiting[key]
                self.counters.drop(Drop.UNRESOLVED, key.interface)
                self.complain(packet, arrival, Complaint.HOST)

    def tick(self) -> None:
        """Release by what the tables say now, and not by what was remembered before."""
        self.refresh()
        self.release()

    def gives_up(self) -> float | None:
        """When `tick` must be called at the latest."""
        return min((since + WAIT for since, _, _ in self.waiting.values()), default=None)

    def emit(self, out: bytearray, rewrite: Rewrite, original: bytes, arrival: Arrival) -> None:
        """An IP packet, ready but for its size. `original` is as it came, for errors about it."""
        if rewrite.hairpin:
            self.hairpin(original, rewrite, arrival)
        if rewrite.mss:
            self.clamp(out, rewrite.mss)
        if len(out) <= rewrite.room:
            self.send(out, rewrite)
            return
        for part in self.fragments(out, rewrite.room, original, arrival):
            self.send(part, rewrite)

    def fragments(self, packet: bytearray, mtu: int, original: bytes, arrival: Arrival) -> list[bytearray]:
        """The counted slow path of packets that must be fragmented; none of those that must not be."""
        if packet[0] >> 4 == 6 or packet[6] & 0x40:
            self.drop(Drop.TOO_BIG, arrival)
            self.complain(original, arrival, Complaint.TOO_BIG, mtu=mtu)
            return []
        try:
            parts = ipv4.fragments(ipv4.decode(bytes(packet)), mtu)
        except WireError:
            self.drop(Drop.MALFORMED, arrival)
            return []
        self.counters.note(Slow.FRAGMENTED)
        return [bytearray(ipv4.encode(part)) for part in parts]

    def clamp(self, packet: bytearray, limit: int) -> None:
        """Lower the MSS of a SYN, in place."""
        start = transport_at(packet, _TCP)
        if start is not None and tcp.clamp_mss(memoryview(packet)[start:], limit):
            self.counters.note(Slow.CLAMPED)

    def send(self, packet: bytearray, rewrite: Rewrite) -> None:
        """Out of the port, the header before it by TTL and class."""
        six = packet[0] >> 4 == 6
        key = key6(int.from_bytes(packet[:2]) >> 4 & 0xFF, packet[7]) if six else key4(packet[1], packet[8])
        self.transmit(rewrite.header(key), packet, rewrite)

    def transmit(self, header: bytes, packet: bytes | bytearray, rewrite: Rewrite) -> None:
        octets = header + packet
        try:
            rewrite.send(octets)
        except OSError as error:
            self.unsent(octets, len(packet), rewrite, error)
        else:
            rewrite.tally[0] += 1
            rewrite.tally[1] += len(packet)

    def unsent(self, octets: bytes | memoryview, size: int, rewrite: Rewrite, error: OSError) -> None:
        """A port's send failed. An ICMP error that a connected raw socket had collected is cleared by having been told,
        so what is not a full queue is counted by its errno and tried once more."""
        if isinstance(error, Unsent):
            self.counters.drop(error.reason, rewrite.interface)
            return
        if not isinstance(error, BlockingIOError):
            self.counters.error(rewrite.port, error)
            try:
                rewrite.send(octets)
            except BlockingIOError:
                pass
            except OSError as again:
                self.counters.drop(again.reason if isinstance(again, Unsent) else Drop.PORT_ERROR, rewrite.interface)
                return
            else:
                rewrite.tally[0] += 1
                rewrite.tally[1] += size
                return
        self.counters.drop(Drop.QUEUE_FULL, rewrite.interface)

    # --- for this node ----------------------------------------------------------------------------------------------------

    def _receive(self, packet: bytes, arrival: Arrival) -> None:
        """To an address of ours: echo is answered here, TCP, UDP and other ICMP go to the host.

        From an address of ours it is forged, and the host, which lets local sources in (accept_local), would not notice.
        """
        four = packet[0] >> 4 == 4
        fib = self.tables.fib.get(arrival.vrf)
        leaf = fib.lookup(packet[12:16] if four else packet[8:24]) if fib is not None else None
        if leaf is not None and leaf.kind is LeafKind.RECEIVE and not arrival.local:
            self.drop(Drop.MARTIAN, arrival)
            return
        outer = self.outer.get(arrival.vrf) if four else None
        if outer is not None:
            whole = outer.takes(packet, arrival)
            if whole is None:
                return
            packet = whole
        try:
            if not (four and int.from_bytes(packet[6:8]) & 0x3FFF):
                reply = answer_echo(packet)
                if reply is not None:
                    self.counters.note(Slow.ECHO)
                    self.originate(reply, arrival)
                    return
            protocol = packet[9] if four else ipv6.upper_layer(packet).protocol
        except WireError:
            self.drop(Drop.MALFORMED, arrival)
            return
        if protocol in _HOST_PROTOCOLS or protocol == (icmp.ICMP if four else icmp.ICMP6):
            self._to_host(packet, arrival)
        elif protocol in (_GRE, _MPLS_IN_IP):
            # The kernel would hand it to our raw socket: a tunnel inside a tunnel, without end (RFC 2784 3).
            self.drop(Drop.NESTED, arrival)
        else:
            self.drop(Drop.PROTOCOL, arrival)
            if four or protocol == packet[6]:
                self.complain(packet, arrival, Complaint.PROTOCOL, mtu=0 if four else 6)

    def _to_host(self, packet: bytes, arrival: Arrival) -> None:
        """Through the VRF's host port, with the TTL that it has travelled down to."""
        port = self.outlets.hosts.get(arrival.vrf)
        if port is None:
            self.drop(Drop.NO_HOST_PORT, arrival)
            return
        try:
            port.send(VNET[: port.headroom] + capped(packet, arrival.cap))
        except BlockingIOError:
            self.drop(Drop.QUEUE_FULL, arrival)
        except OSError as error:
            self.counters.error(port.name, error)
            self.drop(Drop.PORT_ERROR, arrival)
        else:
            self.counters.note(Slow.TO_HOST)

    def originate(self, packet: bytes, arrival: Arrival) -> None:
        """A packet of our own, in answer to what arrived, into the VRF of that."""
        own = Arrival(self.host_inlet(arrival.vrf), Ingress("", arrival.vrf), arrival.vrf, local=True, quiet=True)
        destination = packet[24:40]
        if packet[0] >> 4 == 4 or not _LINK_LOCAL.covers(destination):
            self.ip(packet, own)
            return
        way = self.resolver.adjacency("", AdjacencyKey(arrival.inlet.interface, destination), ())
        if isinstance(way, Refusal):
            self.counters.drop(way.reason, way.interface)
        else:
            self.emit(bytearray(packet), way, packet, own)

    # --- errors and facts -------------------------------------------------------------------------------------------------

    def complain(self, packet: bytes, arrival: Arrival, what: Complaint, *, mtu: int = 0) -> None:
        """An ICMP error about `packet`, into the VRF it belongs to, if RFCs, configuration and rate allow it."""
        interface = self.tables.interfaces.get(arrival.inlet.interface)
        silent = what.value.unreachable and interface is not None and not interface.row.unreachables
        if arrival.quiet or silent or not may_complain(packet):
            self.counters.note(Slow.ICMP_WITHHELD)
        elif not self._errors.take((arrival.vrf, what)):
            self.counters.note(Slow.ICMP_LIMITED)
        elif (source := self._own_address(packet, arrival)) is None:
            self.counters.note(Slow.ICMP_WITHHELD)
        else:
            self.counters.note(Slow.ICMP_SENT)
            self.originate(build(packet, what, source, mtu=mtu, stack=arrival.stack), arrival)

    def _own_address(self, packet: bytes, arrival: Arrival) -> bytes | None:
        """The source of an error: an address of the ingress interface if it is in the packet's VRF, else the VRF's first
        (loopbacks before others)."""
        size = 4 if packet[0] >> 4 == 4 else 16
        interfaces = self.tables.interfaces
        came = interfaces.get(arrival.inlet.interface)
        if came is not None and came.row.unnumbered:
            came = interfaces.get(came.row.unnumbered)
        if came is not None and came.vrf == arrival.vrf and (address := _address_of(came, size)):
            return address
        others = [i for i in interfaces if i.vrf == arrival.vrf and i.up]
        for other in sorted(others, key=lambda i: (i.row.kind is not InterfaceKind.LOOPBACK, i.index)):
            if address := _address_of(other, size):
                return address
        return None

    def hairpin(self, packet: bytes, rewrite: Rewrite, arrival: Arrival) -> None:
        fact = Hairpin(arrival.ingress, arrival.vrf, rewrite.interface, header_of(packet))
        self.punt(fact, arrival.inlet.name)

    def punt(self, fact: Fact, interface: str) -> bool:
        """Post a fact if the budget of its kind and interface allows it; whether it did."""
        if self.affords(fact, interface):
            self.counters.note(Slow.PUNTED)
            self.post(fact)
            return True
        return False

    def affords(self, fact: Fact, interface: str) -> bool:
        """Whether the budget of a fact's kind and interface allows one more; if not, that is counted."""
        budget = self._nhrp if isinstance(fact, NhrpReceived | SendNhrp) else self._facts
        if budget.take((type(fact), interface)):
            return True
        self.counters.drop(Drop.PUNT_BUDGET, interface)
        return False

    def used(self, vrf: str, prefixes: Iterable[Prefix]) -> frozenset[Prefix]:
        """Which of `prefixes` packets of `vrf` went to since they were asked about last."""
        return self.usage.ask(vrf, prefixes, (inlet.flows.get(vrf) for inlet in self.inlets.values()))


def capped(packet: bytes, cap: int) -> bytes:
    """The packet with a TTL not above `cap`."""
    at = 8 if packet[0] >> 4 == 4 else 7
    if packet[at] <= cap:
        return packet
    out = bytearray(packet)
    out[at] = cap
    if at == 8:
        reseal4(out)
    return bytes(out)


def transport_at(packet: bytes | bytearray, protocol: int) -> int | None:
    """Where the transport header starts, if the packet is of `protocol` and no later fragment."""
    if packet[0] >> 4 == 4:
        first = not int.from_bytes(packet[6:8]) & 0x1FFF
        return (packet[0] & 15) * 4 if packet[9] == protocol and first else None
    try:
        upper = ipv6.upper_layer(bytes(packet))
    except WireError:
        return None
    return upper.start if upper.protocol == protocol and not upper.fragment else None


def _address_of(interface: Interface, size: int) -> bytes | None:
    """The interface's primary address of a family; never one of link scope."""
    found = [
        (row.secondary, address)
        for address, row in interface.addresses.items()
        if len(address) == size and not (size == 16 and _LINK_LOCAL.covers(address))
    ]
    return min(found)[1] if found else None


def _class4(source: bytes, destination: bytes, *, local: bool) -> Drop | None:
    """Addresses that are never forwarded (RFC 1812 4.2.2.11, 5.3.7)."""
    first = destination[0]
    if destination == b"\xff\xff\xff\xff":
        return Drop.BROADCAST
    if 224 <= first < 240:
        return Drop.MULTICAST
    if first in (0, 127) or first >= 240 or (not local and (source[0] in (0, 127) or source[0] >= 224)):
        return Drop.MARTIAN
    return None


def _class6(source: bytes, destination: bytes, *, local: bool) -> Drop | None:
    if destination[0] == 0xFF:
        return Drop.MULTICAST
    bad = any(martian.covers(destination) or (not local and martian.covers(source)) for martian in _MARTIANS6)
    return Drop.MARTIAN if bad or source[0] == 0xFF else None
