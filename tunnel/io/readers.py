"""The hot loops: a reader for each kind of port drains up to 64 packets a wakeup.

What the flow caches know, in packets that need nothing but a rewrite, is done here in place: the header that a rewrite
holds ready is laid before the packet, in the same buffer, over what it came with. All else is copied out and given to
`path`, `labels` or `tunnels`, which do the same and more, and count what they drop.

These loops are written flat on purpose, and benchmarked (benchmarks/dataplane). An IPv4 header is read as five words:
their sum modulo 0xFFFF is its checksum (RFC 1071), and a TTL that is one less makes it 0x100 more (RFC 1624).
"""

from __future__ import annotations

from struct import Struct

from attrs import define, field

from stack.events import Ingress, NeighbourPacket
from stack.net import Port
from stack.wire import WireError
from tunnel.io.counters import Counters, Drop, Slow
from tunnel.io.inlet import Arrival, Flows, Inlet
from tunnel.io.labels import Labels
from tunnel.io.offload import VnetHeader, finish
from tunnel.io.path import Path
from tunnel.io.rewrite import Rewrite
from tunnel.io.tunnels import Tunnels
from tunnel.wire import ethernet, icmp

__all__ = ["BATCH", "BareReader", "Buffer", "FrameReader", "GreReader", "MplsInIpReader", "Reader"]

BATCH = 64
"""Packets a wakeup, so that no port starves the others, nor the node's keepalives."""

_HEAD = 192
"""Octets before what is received, for the longest header that may have to go there."""

_SIZE = 66_000
_SLACK = 64
"""Octets behind it, so that a header that is cut short is read as what was there, and refused by its length."""

_VNET_FRAME = Struct(">H8x6s6xH")
_FRAME = Struct(">6s6xH")
_VNET = Struct(">H")
_IPV4 = Struct(">IIIII")
_IPV6 = Struct(">IHBB16x16s")
_LABELLED = Struct(">IIH")
_GRE = Struct(">B11xQII")
_WORD = Struct(">I")
_GRE_MPLS, _GRE_KEY_MPLS, _GRE_IPV4, _GRE_IPV6 = 0x8847, 0x20008847, 0x0800, 0x86DD
_ND = range(133, 138)
_ODD4 = frozenset((0, 127, *range(224, 256)))
_ODD6 = frozenset((0, 0xFE, 0xFF))
"""First octets of addresses that the whole path must look at: martian, link scope, multicast."""

_TCP, _SYN = 6, 2
_PLAIN = frozenset((17, 47, 50, 58))
"""Protocols in which no MSS is to be found (in IPv6 the others may be extension headers)."""


@define(eq=False)
class Buffer:
    """One for all readers of a forwarder: they drain in turn, and nothing of a packet is kept in it."""

    octets: bytearray = field(factory=lambda: bytearray(_HEAD + _SIZE + _SLACK))
    view: memoryview = field(init=False)
    window: memoryview = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.view = memoryview(self.octets)
        self.window = self.view[_HEAD : _HEAD + _SIZE]


@define(eq=False)
class Reader:
    """What all readers share: the port, the path behind it, and the rewrites in place."""

    port: Port
    path: Path
    labels: Labels
    buffer: Buffer
    counters: Counters = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.counters = self.path.counters

    def drain(self) -> None:
        """Take what is there, at most a batch. Never raises because of a packet or a port."""
        self.path.refresh()
        receive, window, take = self.port.recv_into, self.buffer.window, self.take
        for _ in range(BATCH):
            try:
                count = receive(window)
            except BlockingIOError:
                return
            except OSError as error:
                # A socket's pending error (an ICMP error, a device that went down) is cleared by having been told.
                self.counters.error(self.port.name, error)
            else:
                take(count)

    def take(self, count: int) -> None:
        """One packet of `count` octets at the start of the window."""
        raise NotImplementedError

    def ipv4(self, at: int, end: int, flows: Flows, cap: int) -> bool:
        """Send the IPv4 packet at `at`, in place; False if it needs more than that."""
        first, second, third, source, destination = _IPV4.unpack_from(self.buffer.octets, at)
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
        if ttl <= cap:
            third -= 0xFFFF00 if third & 0xFFFF < 0xFEFF else 0x100FEFF
        else:
            third = _fallen(third, ttl - cap + 1)
        key = first >> 16 << 8 | third >> 24
        self.rewrite(rewrite, rewrite.headers.get(key) or rewrite.header(key), at, size, third)
        return True

    def rewrite(self, rewrite: Rewrite, header: bytes, at: int, size: int, third: int) -> None:
        """Lay `header` before the packet at `at`, the word with its new TTL into it, and send both."""
        octets = self.buffer.octets
        start = at - rewrite.size
        octets[start:at] = header
        _WORD.pack_into(octets, at + 8, third)
        packet = self.buffer.view[start : at + size]
        try:
            rewrite.send(packet)
        except OSError as error:
            self.path.unsent(packet, size, rewrite, error)
        else:
            tally = rewrite.tally
            tally[0] += 1
            tally[1] += size

    def exempt(self, rewrite: Rewrite, size: int, protocol: int, flags: int) -> bool:
        """Whether a packet needs no look although its rewrite does: it fits, and is no SYN whose MSS is to be clamped.

        `protocol`, `flags`: where the packet's protocol and, in TCP, its flags stand.
        """
        octets = self.buffer.octets
        if rewrite.hairpin or size > rewrite.room:
            return False
        return octets[protocol] in _PLAIN or (octets[protocol] == _TCP and not octets[flags] & _SYN)

    def ipv6(self, at: int, end: int, flows: Flows, cap: int) -> bool:
        """As `ipv4`."""
        octets = self.buffer.octets
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
        header = rewrite.headers.get(key) or rewrite.header(key)
        self.send(rewrite, header, at, size)
        return True

    def send(self, rewrite: Rewrite, header: bytes, at: int, size: int) -> None:
        """Lay `header` before the packet at `at` and send both."""
        start = at - rewrite.size
        self.buffer.octets[start:at] = header
        packet = self.buffer.view[start : at + size]
        try:
            rewrite.send(packet)
        except OSError as error:
            self.path.unsent(packet, size, rewrite, error)
        else:
            rewrite.tally[0] += 1
            rewrite.tally[1] += size

    def label(self, at: int, end: int, inlet: Inlet) -> bool:
        """Send the packet whose only label is at `at`, in place; False if it needs more than that."""
        word, first, third = _LABELLED.unpack_from(self.buffer.octets, at)
        flow = inlet.labels.get(word >> 12)
        if flow is None or not word & 0x100:
            return False
        version = first >> 28
        if flow.version and version != flow.version:
            return False
        if flow.flows is not None:
            if version == 4:
                return self.ipv4(at + 4, end, flow.flows, word & 0xFF)
            return self.ipv6(at + 4, end, flow.flows, word & 0xFF)
        rewrite = flow.rewrite
        size = first & 0xFFFF if version == 4 else third + 40
        if rewrite is None or word & 0xFF < 2 or not 20 <= size <= rewrite.limit or size != end - at - 4:
            return False
        key = word & 0xFFF
        self.send(rewrite, rewrite.headers.get(key) or rewrite.header(key), at + 4, size)
        return True


def _fallen(third: int, fall: int) -> int:
    """The third word of an IPv4 header after its TTL fell by `fall`: its checksum grows by as much, end around."""
    checksum = (third & 0xFFFF) + (fall << 8)
    return (third & 0xFFFF0000) - (fall << 24) | (checksum - 0xFFFF if checksum >= 0xFFFF else checksum)


@define(eq=False)
class FrameReader(Reader):
    """Ethernet frames of one attachment. `kernel`: the device's IP packets are the kernel's, only labels are ours."""

    inlet: Inlet
    mac: bytes
    kernel: bool = False
    flows: Flows = field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.flows = self.path.flows(self.inlet, self.inlet.vrf)

    def take(self, count: int) -> None:
        headroom = self.port.headroom
        at = _HEAD + headroom + 14
        if headroom:
            offload, mac, kind = _VNET_FRAME.unpack_from(self.buffer.octets, _HEAD)
        else:
            mac, kind = _FRAME.unpack_from(self.buffer.octets, _HEAD)
            offload = 0
        end = _HEAD + count
        tally = self.inlet.tally
        tally[0] += 1
        tally[1] += count - headroom - 14
        if (
            (mac == self.mac or not (self.mac or mac[0] & 1))
            and end >= at + 20
            and not offload & 0x1FF
            and (
                (kind == 0x0800 and not self.kernel and self.ipv4(at, end, self.flows, 255))
                or (kind == 0x86DD and not self.kernel and self.ipv6(at, end, self.flows, 255))
                or (kind == 0x8847 and self.inlet.mpls and self.label(at, end, self.inlet))
            )
        ):
            return
        self.slow(bytes(self.buffer.window[:count]), headroom)

    def slow(self, octets: bytes, headroom: int) -> None:
        """Everything that a frame may be."""
        inlet = self.inlet
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
        elif group:
            self.counters.drop(_group_drop(kind, payload), inlet.name)
        else:
            self.packets(vnet, payload, 14)

    def arrival(self) -> Arrival:
        return Arrival(self.inlet, Ingress(self.inlet.interface, self.inlet.vrf), self.inlet.vrf)

    def packets(self, vnet: VnetHeader | None, payload: bytes, link: int) -> None:
        """An IP packet of this attachment, or the many that its sender's hardware would have made of it."""
        _ip(self.path, self.arrival(), vnet, payload, link)


def _ip(path: Path, arrival: Arrival, vnet: VnetHeader | None, payload: bytes, link: int) -> None:
    if vnet is None or not (vnet.flags & 1 or vnet.kind):
        path.ip(payload, arrival)
        return
    four = bool(payload) and payload[0] >> 4 == 4
    packet = path.checked4(payload, arrival) if four else path.checked6(payload, arrival)
    if isinstance(packet, Drop):
        path.drop(packet, arrival)
        return
    try:
        parts = finish(vnet, packet, link)
    except WireError:
        path.drop(Drop.OFFLOAD, arrival)
        return
    if len(parts) > 1:
        path.counters.note(Slow.SEGMENTED)
    for part in parts:
        path.ip(part, arrival)


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

    def take(self, count: int) -> None:
        headroom = self.port.headroom
        octets = self.buffer.octets
        at, end = _HEAD + headroom, _HEAD + count
        tally = self.inlet.tally
        tally[0] += 1
        tally[1] += count - headroom
        if not self.local and end >= at + 20 and not (headroom and _VNET.unpack_from(octets, _HEAD)[0] & 0x1FF):
            version = octets[at] >> 4
            if version == 4 and self.ipv4(at, end, self.flows, 255):
                return
            if version == 6 and self.ipv6(at, end, self.flows, 255):
                return
        packet = bytes(self.buffer.window[:count])
        inlet = self.inlet
        if len(packet) <= headroom:
            self.counters.drop(Drop.MALFORMED, inlet.name)
            return
        arrival = Arrival(inlet, Ingress(inlet.interface, inlet.vrf), inlet.vrf, local=self.local)
        _ip(self.path, arrival, VnetHeader.of(packet) if headroom else None, packet[headroom:], 0)


@define(eq=False)
class GreReader(Reader):
    """IPv4 packets of protocol 47 from the host's raw socket."""

    tunnels: Tunnels

    def take(self, count: int) -> None:
        if count >= 48:
            first, addresses, gre, key = _GRE.unpack_from(self.buffer.octets, _HEAD)
            peer = self.tunnels.peers.get(addresses)
            if peer is not None and first == 0x45:
                at, inlet = 24, peer.plain
                if gre == _GRE_KEY_MPLS:
                    at, inlet = 28, peer.keyed.get(key)
                if inlet is not None and self.inside(gre, _HEAD + at, _HEAD + count, inlet):
                    tally = inlet.tally
                    tally[0] += 1
                    tally[1] += count - at
                    return
        self.tunnels.gre(bytes(self.buffer.window[:count]))

    def inside(self, gre: int, at: int, end: int, inlet: Inlet) -> bool:
        if gre in (_GRE_MPLS, _GRE_KEY_MPLS):
            return inlet.mpls and self.label(at, end, inlet)
        if gre == _GRE_IPV4:
            return inlet.ip and self.ipv4(at, end, self.path.flows(inlet, inlet.vrf), 255)
        if gre == _GRE_IPV6:
            return inlet.ip and self.ipv6(at, end, self.path.flows(inlet, inlet.vrf), 255)
        return False


@define(eq=False)
class MplsInIpReader(Reader):
    """IPv4 packets of protocol 137 from the host's raw socket."""

    tunnels: Tunnels

    def take(self, count: int) -> None:
        self.tunnels.mpls_in_ip(bytes(self.buffer.window[:count]))
