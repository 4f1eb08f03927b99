"""The hot loops: a reader for each kind of port drains up to 64 packets a wakeup.

What the flow caches know, in packets that need nothing but a rewrite, is done here in place: the header that a rewrite
holds ready is laid before the packet, in the same slot, over what it came with, and the packet waits for the end of the
batch. All else is copied out and given to `path`, `labels` or `tunnels`, which do the same and more, and count what
they drop.

`FrameReader.drain` and `GreReader.drain` are written flat on purpose, and benchmarked (benchmarks/dataplane). They take
IPv4 without options, of TOS 0; `take` has everything. An IPv4 header is read as five words: their sum modulo 0xFFFF is
its checksum (RFC 1071), and a TTL that is one less makes it 0x100 more (RFC 1624).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import ClassVar

from attrs import define, field

from stack.events import Ingress, NeighbourPacket
from stack.net import Port
from stack.wire import WireError
from tunnel.io.batch import BATCH, HEAD, STRIDE, TAIL, Arena, Intake, SendQueue
from tunnel.io.counters import Counters, Drop, Slow
from tunnel.io.inlet import Arrival, Flows, Inlet
from tunnel.io.labels import Labels
from tunnel.io.offload import VnetHeader, finish
from tunnel.io.path import Path
from tunnel.io.rewrite import Rewrite
from tunnel.io.tunnels import Peer, Tunnels
from tunnel.wire import ethernet, icmp

__all__ = ["BareReader", "FrameReader", "GreReader", "MplsInIpReader", "Reader"]

_VNET_FRAME = Struct(">H8x6s6xH")
_VNET_IPV4 = Struct(">H8x6s6xHIIIII")
_FRAME = Struct(">6s6xH")
_VNET = Struct(">H")
_IPV4 = Struct(">IIIII")
_IPV6 = Struct(">IHBB16x16s")
_LABELLED = Struct(">IIH")
_GRE = Struct(">B11xQII")
_GRE_LABEL_IPV4 = Struct(">B11xQIIIIIII")
_LABEL_IPV4 = Struct(">IIIIII")
_WORD = Struct(">I")
_GRE_MPLS, _GRE_KEY_MPLS, _GRE_IPV4, _GRE_IPV6, _KEYED = 0x8847, 0x20008847, 0x0800, 0x86DD, 0x2000
_ND = range(133, 138)

_ODD4 = frozenset((0, 127, *range(224, 256)))
_ODD6 = frozenset((0, 0xFE, 0xFF))
"""First octets of addresses that the whole path must look at: martian, link scope, multicast."""

BASES = tuple(range(HEAD, HEAD + BATCH * STRIDE, STRIDE))
"""Where the packet of each slot starts."""

_TCP, _SYN = 6, 2
_PLAIN = frozenset((17, 47, 50, 58))
"""Protocols in which no MSS is to be found (in IPv6 the others may be extension headers)."""


@define(eq=False)
class Reader(ABC):
    """What all readers share: the port, the path behind it, and the rewrites in place."""

    link: ClassVar[int] = 0
    """Octets of frame header before an IP packet."""

    port: Port
    path: Path
    labels: Labels
    arena: Arena
    counters: Counters = field(init=False)
    intake: Intake = field(init=False)
    closed: bool = field(default=False, init=False)
    again: Callable[[], None] = field(default=lambda: None, init=False)
    """Called after a port has reported an error: whoever listens to it may have to do so anew."""

    def __attrs_post_init__(self) -> None:
        self.counters = self.path.counters
        self.intake = Intake(self.port, self.arena)

    def close(self) -> None:
        """No packet comes any more. The port is the caller's to close."""
        self.closed = True
        self.intake.close()

    def drain(self) -> None:
        """Take what is there, at most a batch. Never raises because of a packet or a port."""
        self.path.refresh()
        for base, count in zip(BASES, self.fill(), strict=False):
            self.take(base, count)
        self.flush()

    def fill(self) -> Sequence[int]:
        """The lengths of what came, by slot. A port's error is counted, and cleared by having been told."""
        counts = self.intake.fill()
        if self.intake.error is not None:
            self.counters.error(self.port.name, self.intake.error)
            self.again()
        return counts

    @abstractmethod
    def take(self, base: int, count: int) -> None:
        """One packet of `count` octets at `base`."""

    def copy(self, base: int, count: int) -> bytes:
        """A packet for the whole path. What waits goes first, so that packets of a flow stay in order."""
        if self.arena.touched:
            self.flush()
        return bytes(self.arena.view[base : base + count])

    def ipv4(self, at: int, end: int, flows: Flows, cap: int) -> bool:
        """Send the IPv4 packet at `at`, in place; False if it needs more than that."""
        octets = self.arena.octets
        first, second, third, source, destination = _IPV4.unpack_from(octets, at)
        rewrite = flows.four.get(destination)
        if rewrite is None and destination >> 24 not in _ODD4:
            rewrite = flows.fixed
        size = first & 0xFFFF
        ttl = third >> 24
        if (
            rewrite is None
            or first >> 24 != 0x45
            or not 20 <= size <= end - at
            or (first + second + third + source + destination) % 0xFFFF
            or ttl < 2
            or cap < 2
            or source >> 24 in _ODD4
            or (size > rewrite.limit and not self.exempt(rewrite, size, at + 9, at + 33))
        ):
            return False
        third = _fallen(third, 1 if ttl <= cap else ttl - cap + 1)
        _WORD.pack_into(octets, at + 8, third)
        key = first >> 16 << 8 | third >> 24
        self.send(rewrite, rewrite.headers.get(key) or rewrite.header(key), at, size)
        return True

    def exempt(self, rewrite: Rewrite, size: int, protocol: int, flags: int) -> bool:
        """Whether a packet needs no look although its rewrite does: it fits, and is no SYN whose MSS is to be clamped.

        `protocol`, `flags`: where the packet's protocol and, in TCP, its flags stand.
        """
        octets = self.arena.octets
        if rewrite.hairpin or size > rewrite.room:
            return False
        return octets[protocol] in _PLAIN or (octets[protocol] == _TCP and not octets[flags] & _SYN)

    def ipv6(self, at: int, end: int, flows: Flows, cap: int) -> bool:
        """As `ipv4`."""
        octets = self.arena.octets
        first, length, _, hops, destination = _IPV6.unpack_from(octets, at)
        rewrite = flows.six.get(destination)
        if rewrite is None and destination[0] not in _ODD6:
            rewrite = flows.fixed
        size = length + 40
        hops = min(hops, cap) - 1
        if (
            rewrite is None
            or first >> 28 != 6
            or size > end - at
            or hops < 1
            or octets[at + 8] in _ODD6
            or (size > rewrite.limit and not self.exempt(rewrite, size, at + 6, at + 53))
        ):
            return False
        octets[at + 7] = hops
        key = first >> 20 << 8 | hops
        self.send(rewrite, rewrite.headers.get(key) or rewrite.header(key), at, size)
        return True

    def label(self, at: int, end: int, inlet: Inlet) -> bool:
        """Send the packet whose only label is at `at`, in place; False if it needs more than that."""
        word, first, third = _LABELLED.unpack_from(self.arena.octets, at)
        flow = inlet.labels.get(word >> 12)
        if flow is None or not word & 0x100:
            return False
        version = first >> 28
        if flow.version and version != flow.version:
            return False
        rewrite = flow.rewrite
        if rewrite is None:
            way = self.ipv4 if version == 4 else self.ipv6
            done = way(at + 4, end, flow.flows, word & 0xFF)
            flow.octets += end - at - 4 if done else 0
            return done
        size = first & 0xFFFF if version == 4 else third + 40
        if word & 0xFF < 2 or not 20 <= size <= rewrite.limit or size != end - at - 4:
            return False
        key = word & 0xFFF
        self.send(rewrite, rewrite.headers.get(key) or rewrite.header(key), at + 4, size)
        flow.octets += size
        return True

    def send(self, rewrite: Rewrite, header: bytes, at: int, size: int) -> None:
        """Lay `header` before the packet at `at` and send both, now or at the end of the batch."""
        start = at - rewrite.size
        rewrite.lay(self.arena.octets, start, header)
        queue = rewrite.queue
        if queue is None:
            packet = self.arena.view[start : at + size]
            try:
                rewrite.send(packet)
            except OSError as error:
                self.path.unsent(packet, size, rewrite, error)
                return
        else:
            if not queue.used:
                self.arena.touched.append(queue)
            part = len(queue.used) << 1
            queue.parts[part], queue.parts[part + 1] = self.arena.origin + start, size + rewrite.size
            queue.used.append(rewrite)
        tally = rewrite.tally
        tally[0] += 1
        tally[1] += size

    def packets(self, base: int, vnet: VnetHeader | None, payload: bytes, arrival: Arrival, flows: Flows) -> None:
        """An IP packet of an attachment, copied from the slot at `base`, or the many that its sender's hardware would
        have made of it."""
        if vnet is None or not (vnet.flags & 1 or vnet.kind):
            outer = self.path.outer.get(arrival.vrf)
            if outer is None or not outer.again(payload, arrival):
                self.path.ip(payload, arrival)
            return
        four = bool(payload) and payload[0] >> 4 == 4
        packet = self.path.checked4(payload, arrival) if four else self.path.checked6(payload, arrival)
        if isinstance(packet, Drop):
            self.path.drop(packet, arrival)
            return
        try:
            parts = finish(vnet, packet, self.link)
        except WireError:
            self.path.drop(Drop.OFFLOAD, arrival)
            return
        if len(parts) > 1:
            self.counters.note(Slow.SEGMENTED)
        self.segments(base, parts, arrival, flows)

    def segments(self, base: int, parts: list[bytes], arrival: Arrival, flows: Flows) -> None:
        """Packets of one flow, laid out in the slot that they came in and sent from there, as if they had come so."""
        octets = self.arena.octets
        way = self.ipv4 if parts[0][0] >> 4 == 4 else self.ipv6
        at, last, queued = base, base - HEAD + STRIDE - TAIL, 0
        for part in parts:
            end = at + len(part)
            if end > last or queued >= BATCH:
                self.flush()
                at, end, queued = base, base + len(part), 0
            octets[at:end] = part
            if not arrival.local and way(at, end, flows, 255):
                at, queued = end + HEAD, queued + 1
            else:
                self.flush()
                self.path.ip(part, arrival)
        self.flush()

    def flush(self) -> None:
        """Send all that waits."""
        for queue in self.arena.touched:
            try:
                sent = queue.send(0)
            except OSError as error:
                self._flush_slowly(queue, 0, error)
            else:
                if sent < len(queue.used):
                    self._flush_slowly(queue, sent, None)
            queue.clear()
        self.arena.touched.clear()

    def _flush_slowly(self, queue: SendQueue, first: int, error: OSError | None) -> None:
        """A batch that did not go as a whole, from packet `first` on, which failed for `error`.

        A full queue takes nothing more. Any other error has been cleared by having been told (data-plane trap 8): it is
        counted by its errno, and the packet tried once more.
        """
        tried = -1
        while first < len(queue.used):
            rewrite = queue.used[first]
            if error is None:
                try:
                    first += queue.send(first)
                    continue
                except OSError as caught:
                    error = caught
            full = isinstance(error, BlockingIOError)
            if not full:
                self.counters.error(rewrite.port, error)
                error = None
            if full or tried == first:
                self.counters.drop(Drop.QUEUE_FULL if full else Drop.PORT_ERROR, rewrite.interface)
                rewrite.tally[0] -= 1
                rewrite.tally[1] -= queue.size(first) - rewrite.size
                first += 1
            else:
                tried = first


def _fallen(third: int, fall: int) -> int:
    """The third word of an IPv4 header after its TTL fell by `fall`: its checksum grows by as much, end around."""
    checksum = (third & 0xFFFF) + (fall << 8)
    return (third & 0xFFFF0000) - (fall << 24) | (checksum - 0xFFFF if checksum >= 0xFFFF else checksum)


def _add(tally: list[int], packets: int, octets: int) -> None:
    tally[0] += packets
    tally[1] += octets


@define(eq=False)
class FrameReader(Reader):
    """Ethernet frames of one attachment. `kernel`: the device's IP packets are the kernel's, only labels are ours."""

    link = 14

    inlet: Inlet
    mac: bytes
    kernel: bool = False
    flows: Flows = field(init=False)
    headroom: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.flows = self.path.flows(self.inlet, self.inlet.vrf)
        self.headroom = self.port.headroom

    def drain(self) -> None:
        """As of every reader."""
        self.path.refresh()
        counts = self.fill()
        tally = self.inlet.tally
        tally[0] += len(counts)
        tally[1] += sum(counts) - len(counts) * (self.headroom + 14)
        if self.headroom and not self.kernel:
            self.flat(counts)
        else:
            for base, count in zip(BASES, counts, strict=False):
                self.take(base, count)
        self.flush()

    def flat(self, counts: Sequence[int]) -> None:
        """What most customer packets need, and nothing else; `take` for the rest."""
        arena, four, own, skip = self.arena, self.flows.four, self.mac, self.headroom + 14
        octets, origin, touched = arena.octets, arena.origin, arena.touched
        unpack = _VNET_IPV4.unpack_from
        tally, packets, total = self.inlet.tally, 0, 0
        for base, count in zip(BASES, counts, strict=False):
            offload, mac, kind, first, second, third, source, destination = unpack(octets, base)
            rewrite = four.get(destination)
            size = first & 0xFFFF
            if (
                rewrite is None
                or kind != 0x0800
                or first >> 16 != 0x4500
                or mac != own
                or offload & 0x1FF
                or not 20 <= size <= count - skip
                or size > rewrite.limit
                or (first + second + third + source + destination) % 0xFFFF
                or third < 0x2000000
                or source >> 24 in _ODD4
                or (header := rewrite.plain[third >> 24]) is None
                or (queue := rewrite.queue) is None
            ):
                self.take(base, count)
                continue
            start = base + skip - rewrite.size
            third -= 0xFFFF00 if third & 0xFFFF < 0xFEFF else 0x100FEFF
            rewrite.lay4(octets, start, header, first, second, third)
            used = queue.used
            if not used:
                touched.append(queue)
            parts, part = queue.parts, len(used) << 1
            parts[part] = origin + start
            parts[part + 1] = size + rewrite.size
            used.append(rewrite)
            if rewrite.tally is not tally:
                _add(tally, packets, total)
                tally, packets, total = rewrite.tally, 0, 0
            packets += 1
            total += size
        _add(tally, packets, total)

    def take(self, base: int, count: int) -> None:
        """Any frame."""
        headroom = self.headroom
        if headroom:
            offload, mac, kind = _VNET_FRAME.unpack_from(self.arena.octets, base)
        else:
            mac, kind = _FRAME.unpack_from(self.arena.octets, base)
            offload = 0
        at, end = base + headroom + 14, base + count
        if (mac == self.mac or not (self.mac or mac[0] & 1)) and end >= at + 20 and not offload & 0x1FF:
            if kind == ethernet.MPLS:
                if self.inlet.mpls and self.label(at, end, self.inlet):
                    return
            elif self.kernel:
                pass
            elif kind == ethernet.IPV4:
                if self.ipv4(at, end, self.flows, 255):
                    return
            elif kind == ethernet.IPV6 and self.ipv6(at, end, self.flows, 255):
                return
        self.slow(base, self.copy(base, count))

    def slow(self, base: int, octets: bytes) -> None:
        """Everything that a frame may be."""
        inlet, headroom = self.inlet, self.headroom
        if len(octets) < headroom + 14:
            self.counters.drop(Drop.SHORT_FRAME, inlet.name)
            return
        vnet = VnetHeader.of(octets) if headroom else None
        frame = octets[headroom:]
        mac, source, kind, payload = frame[:6], frame[6:12], int.from_bytes(frame[12:14]), frame[14:]
        group = bool(mac[0] & 1)
        if not group and self.mac and mac != self.mac:
            self.counters.drop(Drop.OTHER_STATION, inlet.name)
        elif kind == ethernet.ARP or (kind == ethernet.IPV6 and _is_nd(payload)):
            fact = NeighbourPacket(inlet.interface, source, kind == ethernet.ARP, payload)
            self.path.punt(fact, inlet.name)
        elif kind == ethernet.MPLS_MULTICAST or (kind == ethernet.MPLS and group):
            self.counters.drop(Drop.LABEL_MULTICAST, inlet.name)
        elif kind == ethernet.MPLS:
            self.labels.labelled(payload, self.arrival())
        elif self.kernel:
            return  # the kernel has its own copy
        elif kind not in (ethernet.IPV4, ethernet.IPV6):
            self.counters.drop(Drop.ETHERTYPE, inlet.name)
        elif not payload or payload[0] >> 4 != (4 if kind == ethernet.IPV4 else 6):
            self.counters.drop(Drop.NOT_IP, inlet.name)
        elif group:
            self.counters.drop(_group_drop(kind, payload), inlet.name)
        else:
            self.packets(base, vnet, payload, self.arrival(), self.flows)

    def arrival(self) -> Arrival:
        return Arrival(self.inlet, Ingress(self.inlet.interface, self.inlet.vrf), self.inlet.vrf)


def _is_nd(payload: bytes) -> bool:
    """Neighbour discovery, by the type of an ICMPv6 packet without extension headers (RFC 4861 4)."""
    return len(payload) > 40 and payload[6] == icmp.ICMP6 and payload[40] in _ND


def _group_drop(kind: int, payload: bytes) -> Drop:
    """Why a packet in a multicast or broadcast frame goes no further (RFC 1812 5.3.4)."""
    first = payload[16:17] if kind == ethernet.IPV4 else payload[24:25]
    if not first:
        return Drop.MALFORMED
    if (224 <= first[0] < 240) if kind == ethernet.IPV4 else first[0] == 0xFF:
        return Drop.MULTICAST
    return Drop.BROADCAST if payload[16:20] == b"\xff" * 4 else Drop.LINK_BROADCAST


@define(eq=False)
class BareReader(Reader):
    """Bare IP packets: a TUN attachment, or (`local`) the host port of a VRF, whose packets this node itself sends."""

    inlet: Inlet
    local: bool = False
    flows: Flows = field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.flows = self.path.flows(self.inlet, self.inlet.vrf)

    def take(self, base: int, count: int) -> None:
        headroom = self.port.headroom
        octets = self.arena.octets
        at, end = base + headroom, base + count
        tally = self.inlet.tally
        tally[0] += 1
        tally[1] += count - headroom
        if not self.local and end >= at + 20 and not (headroom and _VNET.unpack_from(octets, base)[0] & 0x1FF):
            version = octets[at] >> 4
            if version == 4 and self.ipv4(at, end, self.flows, 255):
                return
            if version == 6 and self.ipv6(at, end, self.flows, 255):
                return
        packet = self.copy(base, count)
        inlet = self.inlet
        if len(packet) <= headroom:
            self.counters.drop(Drop.MALFORMED, inlet.name)
            return
        arrival = Arrival(inlet, Ingress(inlet.interface, inlet.vrf), inlet.vrf, local=self.local)
        vnet = VnetHeader.of(packet) if headroom else None
        self.packets(base, vnet, packet[headroom:], arrival, self.flows)


@define(eq=False)
class GreReader(Reader):
    """IPv4 packets of protocol 47 from the host's raw socket, or from a transport VRF. `peers`: what has been admitted, by
    (source, destination)."""

    tunnels: Tunnels
    vrf: str = field(default="", kw_only=True)
    peers: dict[int, Peer] = field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.peers = self.tunnels.peers(self.vrf)

    def drain(self) -> None:
        """As of every reader."""
        self.path.refresh()
        self.flat(zip(BASES, self.fill(), strict=False))
        self.flush()

    def flat(self, packets_at: Iterable[tuple[int, int]]) -> None:
        """GRE, with a key or without, and IPv4 under one label that is popped or swapped; `take` for the rest.

        `packets_at`: (where the outer header is, octets) of each.
        """
        octets, origin, touched = self.arena.octets, self.arena.origin, self.arena.touched
        unpack, unpack_more = _GRE_LABEL_IPV4.unpack_from, _LABEL_IPV4.unpack_from
        peers = self.peers
        came, gone, packets, total_in, total_out = [0, 0], [0, 0], 0, 0, 0
        for base, count in packets_at:
            outer, addresses, gre, word, first, second, third, source, destination = unpack(octets, base)
            peer, at, inlet = peers.get(addresses), base + 28, None
            if peer is None:
                pass
            elif gre == _GRE_MPLS:
                inlet = peer.plain
            elif gre == _GRE_KEY_MPLS:
                inlet, at = peer.keyed.get(word), base + 32
                word, first, second, third, source, destination = unpack_more(octets, base + 28)
            size, room = first & 0xFFFF, base + count - at
            if (
                inlet is None
                or (flow := inlet.labels.get(word >> 12)) is None
                or outer != 0x45
                or not word & 0x100
                or first >> 16 != 0x4500
                or flow.version == 6
                or not 20 <= size <= room
                or (rewrite := (swap := flow.rewrite) or flow.flows.four.get(destination)) is None
                or size > rewrite.limit
                or (queue := rewrite.queue) is None
                or (header := rewrite.headers.get(word & 0xFFF) if swap else rewrite.plain[third >> 24]) is None
                or (
                    size != room or word & 0xFF < 2
                    if swap
                    else third < 0x2000000
                    or third >> 24 > word & 0xFF
                    or (first + second + third + source + destination) % 0xFFFF
                    or source >> 24 in _ODD4
                )
            ):
                self.take(base, count)
                continue
            start = at - rewrite.size
            if swap:
                rewrite.lay(octets, start, header)
            else:
                third -= 0xFFFF00 if third & 0xFFFF < 0xFEFF else 0x100FEFF
                rewrite.lay4(octets, start, header, first, second, third)
            used = queue.used
            if not used:
                touched.append(queue)
            parts, part = queue.parts, len(used) << 1
            parts[part] = origin + start
            parts[part + 1] = size + rewrite.size
            used.append(rewrite)
            flow.octets += room
            if rewrite.tally is not gone or inlet.tally is not came:
                _add(came, packets, total_in)
                _add(gone, packets, total_out)
                came, gone, packets, total_in, total_out = inlet.tally, rewrite.tally, 0, 0, 0
            packets += 1
            total_in += room + 4
            total_out += size
        _add(came, packets, total_in)
        _add(gone, packets, total_out)

    def take(self, base: int, count: int) -> None:
        """Any GRE packet."""
        if count >= 48:
            first, addresses, gre, key = _GRE.unpack_from(self.arena.octets, base)
            peer = self.peers.get(addresses)
            if peer is not None and first == 0x45:
                at, inlet = 24, peer.plain
                if gre >> 16 == _KEYED:
                    at, inlet, gre = 28, peer.keyed.get(key), gre & 0xFFFF
                if inlet is not None and self.inside(gre, base + at, base + count, inlet):
                    inlet.tally[0] += 1
                    inlet.tally[1] += count - at
                    return
        self.whole(self.copy(base, count))

    def whole(self, octets: bytes) -> None:
        """A packet that is not in the caches."""
        self.tunnels.gre(octets, self.vrf)

    def inside(self, gre: int, at: int, end: int, inlet: Inlet) -> bool:
        if gre == _GRE_MPLS:
            return inlet.mpls and self.label(at, end, inlet)
        if gre == _GRE_IPV4:
            return inlet.ip and self.ipv4(at, end, self.path.flows(inlet, inlet.vrf), 255)
        if gre == _GRE_IPV6:
            return inlet.ip and self.ipv6(at, end, self.path.flows(inlet, inlet.vrf), 255)
        return False


@define(eq=False)
class MplsInIpReader(Reader):
    """IPv4 packets of protocol 137 from the host's raw socket, or from a transport VRF."""

    tunnels: Tunnels
    vrf: str = field(default="", kw_only=True)

    def take(self, base: int, count: int) -> None:
        self.tunnels.mpls_in_ip(self.copy(base, count), self.vrf)
