"""A PE's packet path on hand-filled tables, with ports that a test fills and reads.

             CE1 10.1.0.2 -- Ethernet0/0  (cust1, 10.1.0.1)                 PE2 192.0.2.2: label 102 (cust1), 202 (cust2)
             CE2 10.1.0.2 -- Ethernet0/1.20  (cust2, 10.1.0.1, VLAN 20)  PE1 192.0.2.1 = Tunnel0
             CE3          -- TUN0  (cust1, 10.3.0.1)                        PE3 192.0.2.3: label 140
             P  10.9.0.2  -- Ethernet1/0  (default VRF, MPLS, the kernel's)

Both VRFs have the same addresses. Local labels: 18/19 cust1, 28/29 cust2 (IPv4/IPv6, pop and look up), 30 pop and send to
CE1, 40 swap to 140 at PE3, 50 pop to PE3 (a stack goes on), 60 swap to 160 at P.
`batch`: the ports name descriptors, so that packets go through recvmmsg and sendmmsg.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from contextlib import suppress
from pathlib import Path

from attrs import define, evolve, field

from stack.addr import Prefix, parse_address
from stack.events import AddressRow, AdjacencyKey, Fact, Interface, InterfaceKind, InterfaceRow, NextHopKey, Vrf
from stack.tables import Tables
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.fib import Leaf, LeafKind
from stack.tables.lfib import Nhlfe, Operation
from stack.tables.nexthop import NextHop
from stack.tables.reception import Reception
from stack.wire import internet_checksum
from tunnel.io.counters import Drop, Slow
from tunnel.io.forwarder import Forwarder
from tunnel.wire import ethernet, gre, icmp, ipv4, ipv6, mpls
from tunnel.wire.checksum import transport_checksum

ip = parse_address
US, PE2, PE3, STRANGER = (ip(f"192.0.2.{n}") for n in (1, 2, 3, 66))
CE, OURS, REMOTE, CE_TUN = ip("10.1.0.2"), ip("10.1.0.1"), ip("10.2.3.4"), ip("10.3.0.2")
CE6, OURS6, REMOTE6 = ip("2001:db8:1::2"), ip("2001:db8:1::1"), ip("2001:db8:2::4")
OUR_MAC, CE_MAC, P_MAC = (bytes.fromhex(f"0200000000{n}") for n in ("01", "02", "09"))
CUST1, CUST2 = "cust1", "cust2"
E0, E1, TUN0, CORE, TUNNEL = "Ethernet0/0", "Ethernet0/1.20", "TUN0", "Ethernet1/0", "Tunnel0"
KEY = 0x1234


class FakePort:
    """A port whose far side a test holds. `errors`: raised by the next calls of `send` or `recv_into`."""

    def __init__(self, name: str, headroom: int = 0, *, batch: bool = False, mtu: int = 1500) -> None:
        self.name, self.mtu, self.headroom = name, mtu, headroom
        self.closed = False
        self.send_errors: deque[OSError] = deque()
        self.recv_errors: deque[OSError] = deque()
        self._sent: list[bytes] = []
        self._inbox: deque[bytes] = deque()
        self._batch = batch
        if batch:
            kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
            self._rx, self._tx = socket.socketpair(socket.AF_UNIX, kind), socket.socketpair(socket.AF_UNIX, kind)
            for end in (*self._rx, *self._tx):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self.receive_fd, self.send_fd = self._rx[1].fileno(), self._tx[0].fileno()

    def put(self, octets: bytes) -> None:
        """The far side sends."""
        if self._batch:
            self._rx[0].send(octets)
        else:
            self._inbox.append(octets)

    def recv_into(self, buffer) -> int:
        if self.recv_errors:
            raise self.recv_errors.popleft()
        if self._batch:
            return self._rx[1].recv_into(buffer)
        if not self._inbox:
            raise BlockingIOError(errno.EAGAIN, "empty")
        octets = self._inbox.popleft()
        buffer[: len(octets)] = octets
        return len(octets)

    def send(self, octets) -> int:
        if self.send_errors:
            raise self.send_errors.popleft()
        if self._batch:
            return self._tx[0].send(octets)
        self._sent.append(bytes(octets))
        return len(octets)

    def take(self) -> list[bytes]:
        """What was sent since the last call, without virtio-net headers (which must be zero)."""
        if self._batch:
            with suppress(BlockingIOError):
                while True:
                    self._sent.append(self._tx[1].recv(1 << 17))
        taken, self._sent = self._sent, []
        assert all(octets[: self.headroom] == bytes(self.headroom) for octets in taken)
        return [octets[self.headroom :] for octets in taken]

    def listen(self, readable) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        if self._batch:
            for end in (*self._rx, *self._tx):
                end.close()


def sealed(outer: bytes) -> bytes:
    """An outer IPv4 packet as the raw socket would send it: length and checksum filled in."""
    octets = bytearray(outer)
    assert octets[2:6] == bytes(4), "length and identification are the host's"
    octets[2:4] = len(octets).to_bytes(2)
    octets[10:12] = internet_checksum(octets[:20]).to_bytes(2)
    return bytes(octets)


def interface(name: str, kind: InterfaceKind, index: int, addresses: dict | None = None, **row) -> Interface:
    made = InterfaceRow(name, kind, device=name.lower(), **row)
    rows = {ip(text): AddressRow(length) for text, length in (addresses or {}).items()}
    mac = OUR_MAC if kind is InterfaceKind.ETHERNET else b""
    return Interface(made, index, up=True, mtu=made.mtu, mac=mac, addresses=rows)


@define(eq=False, slots=False)
class World:
    headroom: int = 10
    batch: bool = False
    now: float = 100.0
    facts: list[Fact] = field(factory=list)
    tables: Tables = field(factory=Tables)
    ports: dict[str, FakePort] = field(factory=dict)
    refused: OSError | None = None

    def __attrs_post_init__(self) -> None:
        t = self.tables
        self.w = {name: getattr(t, name).writer("test") for name in ("vrfs", "interfaces", "nexthops", "fib", "lfib")}
        self.w["adjacencies"], self.w["receptions"] = t.adjacencies.writer("test"), t.receptions.writer("test")
        self.forwarder = Forwarder(t, self.open_raw, self.facts.append, lambda: self.now)
        self.readers = {}
        self._fill()
        for name in (E0, E1, TUN0, CORE):
            self.readers[name] = self.forwarder.add_attachment(t.interfaces.get(name), self.port(name))
        for vrf in ("", CUST1, CUST2):
            self.readers[f"host {vrf}"] = self.forwarder.add_host_port(vrf, self.port(f"host {vrf}"))
        self.readers["gre"] = self.forwarder.gre(self.port("gre", 0))
        self.readers["mpls-in-ip"] = self.forwarder.mpls_in_ip(self.port("mpls-in-ip", 0))

    def port(self, name: str, headroom: int | None = None) -> FakePort:
        headroom = self.headroom if headroom is None else headroom
        self.ports[name] = FakePort(name, headroom, batch=self.batch)
        return self.ports[name]

    def open_raw(self, protocol: int, remote: bytes) -> FakePort:
        if self.refused:
            raise self.refused
        return self.port(f"raw {protocol} {remote[-1]}", 0)

    def _fill(self) -> None:
        for index, name in enumerate(("", CUST1, CUST2)):
            self.w["vrfs"].put(name, Vrf(name, index))
            self.w["fib"].create(name)
        v6 = {"2001:db8:1::1": 64, "fe80::1": 64}
        for row in (
            interface(E0, InterfaceKind.ETHERNET, 1, {"10.1.0.1": 24, **v6}, vrf=CUST1),
            interface(E1, InterfaceKind.ETHERNET, 2, {"10.1.0.1": 24, **v6}, vrf=CUST2, vlan=20),
            interface(TUN0, InterfaceKind.TUN, 3, {"10.3.0.1": 30}, vrf=CUST1, point_to_point=True),
            interface(CORE, InterfaceKind.ETHERNET, 4, {"10.9.0.1": 24}, mpls=True),
            interface(TUNNEL, InterfaceKind.TUNNEL, 5, mtu=1472, mpls=True),
        ):
            self.w["interfaces"].put(row.name, row)
        rewrite = ethernet.head(CE_MAC, OUR_MAC)
        self.adjacency(E0, CE, AdjacencyKind.ETHERNET, rewrite=rewrite)
        self.adjacency(E0, CE6, AdjacencyKind.ETHERNET, rewrite=rewrite)
        self.adjacency(E1, CE, AdjacencyKind.ETHERNET, rewrite=ethernet.head(CE_MAC, OUR_MAC, 20))
        self.adjacency(E1, CE6, AdjacencyKind.ETHERNET, rewrite=ethernet.head(CE_MAC, OUR_MAC, 20))
        self.adjacency(TUN0, b"", AdjacencyKind.TUN)
        self.adjacency(CORE, ip("10.9.0.2"), AdjacencyKind.HOST, rewrite=ethernet.head(P_MAC, OUR_MAC))
        for pe in (PE2, PE3):
            self.adjacency(TUNNEL, pe, AdjacencyKind.GRE, mtu=1472, source=US, destination=pe, gre_key=KEY)
        keys = [(TUNNEL, PE2), (TUNNEL, PE3), (E0, CE), (CORE, ip("10.9.0.2")), (E1, CE), (E0, CE6)]
        for number, (name, address) in enumerate(keys, 1):
            self.next_hop(number, name, address)
        for vrf, name, label in ((CUST1, E0, 102), (CUST2, E1, 202)):
            self.route(vrf, "10.1.0.0/24", LeafKind.ATTACHED, interface=name)
            self.route(vrf, "2001:db8:1::/64", LeafKind.ATTACHED, interface=name)
            self.route(vrf, "10.1.0.1/32", LeafKind.RECEIVE)
            self.route(vrf, "2001:db8:1::1/128", LeafKind.RECEIVE)
            self.route(vrf, "10.2.0.0/16", LeafKind.FORWARD, 1, (label,))
            self.route(vrf, "2001:db8:2::/48", LeafKind.FORWARD, 1, (label + 1,))
            self.route(vrf, "10.66.0.0/16", LeafKind.DISCARD)
        self.route(CUST1, "10.3.0.0/30", LeafKind.ATTACHED, interface=TUN0)
        self.route(CUST1, "10.3.0.1/32", LeafKind.RECEIVE)
        self.route("", "10.9.0.0/24", LeafKind.ATTACHED, interface=CORE)
        mgre, either = frozenset(("mgre",)), frozenset(("mgre", "ethernet"))
        self.label(18, Operation.POP_LOOKUP, CUST1, mgre, 1)
        self.label(19, Operation.POP_LOOKUP, CUST1, mgre, 2)
        self.label(28, Operation.POP_LOOKUP, CUST2, mgre, 1)
        self.label(29, Operation.POP_LOOKUP, CUST2, mgre, 2)
        self.label(30, Operation.POP_FORWARD, CUST1, either, 1, 3)
        self.label(40, Operation.SWAP, CUST1, either, 0, 2, (140,))
        self.label(50, Operation.POP_FORWARD, "", either, 0, 2)
        self.label(60, Operation.SWAP, "", either, 0, 4, (160,))
        self.reception(Reception(TUNNEL, US, frozenset((47,)), "", KEY, frozenset((PE2, PE3)), ip=False))

    # --- tables ---

    def adjacency(self, name: str, address: bytes, kind: AdjacencyKind, **more) -> None:
        key = AdjacencyKey(name, address)
        fields = {"complete": True, "mtu": 1500, **more}
        self.w["adjacencies"].put(key, Adjacency(key, kind, **fields))

    def change_adjacency(self, name: str, address: bytes, **more) -> None:
        key = AdjacencyKey(name, address)
        self.w["adjacencies"].put(key, evolve(self.tables.adjacencies.get(key), **more))

    def next_hop(self, number: int, name: str, address: bytes, labels: tuple[int, ...] = ()) -> None:
        self.w["nexthops"].put(number, NextHop(NextHopKey("", address, name), AdjacencyKey(name, address), labels))

    def route(self, vrf: str, prefix: str, kind: LeafKind, next_hop: int = 0, labels=(), interface: str = "") -> None:
        self.w["fib"].put(vrf, Prefix.parse(prefix), Leaf(kind, next_hop, labels, interface))

    def label(self, value: int, operation, vrf, scope, afi=0, next_hop=0, out=()) -> None:
        self.w["lfib"].put(value, Nhlfe(operation, vrf, scope, afi, next_hop, out))

    def reception(self, row: Reception) -> None:
        self.w["receptions"].put(row.interface, row)

    def change_interface(self, name: str, **row) -> None:
        old = self.tables.interfaces.get(name)
        self.w["interfaces"].put(name, evolve(old, row=evolve(old.row, **row)))

    # --- packets ---

    def into(self, name: str, *packets: bytes) -> dict[str, list[bytes]]:
        """Packets come in by a port, one drain; what every port sent because of them."""
        port = self.ports[name]
        for packet in packets:
            port.put(bytes(port.headroom) + packet)
        self.readers[name].drain()
        return self.sent()

    def sent(self) -> dict[str, list[bytes]]:
        out = {}
        for name, port in self.ports.items():
            if not port.closed and (taken := port.take()):
                out[name] = [sealed(octets) for octets in taken] if name.startswith("raw") else taken
        return out

    def same(self, name: str, packet: bytes) -> dict[str, list[bytes]]:
        """As `into`, but first with cold caches, then with warm ones, alone and in a batch: all alike."""
        first = self.into(name, packet)
        assert self.into(name, packet) == first
        assert self.into(name, packet) == first
        assert self.into(name, packet, packet) == {port: sent * 2 for port, sent in first.items()}
        return first

    def dropped(self) -> dict[Drop, int]:
        found: dict[Drop, int] = {}
        for (reason, _), count in self.forwarder.counters.drops.items():
            found[reason] = found.get(reason, 0) + count
        return found

    def noted(self) -> dict[Slow, int]:
        return dict(self.forwarder.counters.slow)


def frame(packet: bytes, source: bytes = CE_MAC, destination: bytes = OUR_MAC, kind: int | None = None) -> bytes:
    ethertype = kind if kind is not None else (0x0800 if packet[:1] and packet[0] >> 4 == 4 else 0x86DD)
    return ethernet.encode(ethernet.Ethernet(destination, source, ethertype, packet))


def udp4(source: bytes = CE, destination: bytes = REMOTE, size: int = 20, **more) -> bytes:
    return ipv4.encode(ipv4.Ipv4(source, destination, 17, (bytes(range(256)) * (size // 256 + 1))[:size], **more))


def udp6(source: bytes = CE6, destination: bytes = REMOTE6, size: int = 20, **more) -> bytes:
    return ipv6.encode(ipv6.Ipv6(source, destination, 17, bytes(size), **more))


def tcp_segment(source: bytes, destination: bytes, flags: int, options: bytes = b"", body: bytes = b"") -> bytes:
    segment = bytearray(
        bytes.fromhex("1234 00b3 00000001 00000000") + bytes((5 + len(options) // 4 << 4, flags)) + bytes(6)
    )
    segment += options + body
    segment[16:18] = transport_checksum(source, destination, 6, segment).to_bytes(2)
    return bytes(segment)


def tcp4(
    source: bytes = CE, destination: bytes = REMOTE, flags: int = 0x10, options: bytes = b"", body: bytes = b"", **more
) -> bytes:
    return ipv4.encode(
        ipv4.Ipv4(source, destination, 6, tcp_segment(source, destination, flags, options, body), **more)
    )


def echo4(source: bytes, destination: bytes, **more) -> bytes:
    text = icmp.encode(icmp.Message(8, 0, b"\0\1\0\2", b"ping"))
    return ipv4.encode(ipv4.Ipv4(source, destination, 1, text, **more))


def echo6(source: bytes, destination: bytes, **more) -> bytes:
    text = icmp.encode6(icmp.Message(128, 0, b"\0\1\0\2", b"ping"), source, destination)
    return ipv6.encode(ipv6.Ipv6(source, destination, 58, text, **more))


def stacked(packet: bytes, *labels: int, ttl: int = 64, tc: int = 0) -> bytes:
    entries = [mpls.LabelEntry(label, tc, place == len(labels) - 1, ttl) for place, label in enumerate(labels)]
    return mpls.encode(entries) + packet


def tunnelled(packet: bytes, protocol: int = gre.MPLS, source: bytes = PE2, destination: bytes = US, **more) -> bytes:
    """GRE inside IPv4, as the raw socket hands it over."""
    fields = {"key": KEY, **more}
    return ipv4.encode(ipv4.Ipv4(source, destination, 47, gre.encode(gre.Gre(protocol, packet, **fields)), ttl=250))


def labelled(packet: bytes, *labels: int, ttl: int = 64, **more) -> bytes:
    return tunnelled(stacked(packet, *labels, ttl=ttl), **more)


def unwrapped(outer: bytes) -> tuple[ipv4.Ipv4, gre.Gre, tuple[mpls.LabelEntry, ...], bytes]:
    """Outer header, GRE, label stack and what is under it, of a packet that we sent."""
    packet = ipv4.decode(outer)
    inner = gre.decode(packet.payload)
    stack = mpls.decode(inner.payload) if inner.protocol == gre.MPLS else ()
    return packet, inner, stack, inner.payload[4 * len(stack) :]


def lower_ttl(packet: bytes, by: int = 1) -> bytes:
    """The packet after `by` routers."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes((packet[7] - by,)) + packet[8:]
    decoded = ipv4.decode(packet)
    return ipv4.encode(evolve(decoded, ttl=decoded.ttl - by))


def fd_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
