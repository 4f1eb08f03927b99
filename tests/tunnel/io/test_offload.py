"""Trap 1: TCP of a local sender comes in pieces of up to 64 KB, with checksums that nobody has filled in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.wire import WireError
from tests.tunnel.io.world import (
    CE,
    CE6,
    CE_MAC,
    E0,
    KEY,
    OUR_MAC,
    OURS,
    REMOTE,
    REMOTE6,
    TUN0,
    World,
    frame,
    ip,
    lower_ttl,
    tcp4,
    tcp_segment,
    udp4,
    unwrapped,
)
from tunnel.io.counters import Drop, Slow
from tunnel.io.offload import VnetHeader, finish
from tunnel.wire import ethernet, icmp, ipv4, ipv6
from tunnel.wire.checksum import transport_checksum, transport_sum


def vnet(flags: int = 0, kind: int = 0, header: int = 0, size: int = 0, start: int = 0, offset: int = 0) -> bytes:
    return struct.pack("=BBHHHH", flags, kind, header, size, start, offset)


def unfilled(packet: bytes, start: int, at: int, protocol: int = 6) -> bytes:
    """The packet with the pseudo-header's sum in its checksum field, as the kernel leaves it."""
    octets = bytearray(packet)
    ends = (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])
    value = transport_sum(*ends, protocol, len(packet) - start) % 0xFFFF
    octets[at : at + 2] = value.to_bytes(2)
    return bytes(octets)


def good(packet: bytes) -> bool:
    if packet[0] >> 4 == 4:
        decoded = ipv4.decode(packet)
        return transport_checksum(decoded.source, decoded.destination, decoded.protocol, decoded.payload) in (0, 0xFFFF)
    six = ipv6.decode(packet)
    return transport_checksum(six.source, six.destination, six.next_header, six.payload) in (0, 0xFFFF)


@pytest.fixture(params=[False, True], ids=["one by one", "batch"])
def world(request):
    made = World(headroom=10, batch=request.param)
    yield made
    for port in made.ports.values():
        port.close()


def give(world: World, header: bytes, packet: bytes, name: str = E0) -> dict[str, list[bytes]]:
    world.ports[name].put(header + (packet if name == TUN0 else frame(packet)))
    world.readers[name].drain()
    return world.sent()


def test_trap_1_a_checksum_that_was_left_out_is_filled_in(world):
    tcp = tcp4(body=b"hello")
    for _ in range(2):
        out = give(world, vnet(1, start=34, offset=16), unfilled(tcp, 20, 36))
        assert unwrapped(out["raw 47 2"][0])[3] == lower_ttl(tcp)
    out = give(world, vnet(1, start=20, offset=16), unfilled(tcp4(ip("10.3.0.2"), CE), 20, 36), TUN0)
    assert ethernet.decode(out[E0][0]).payload == lower_ttl(tcp4(ip("10.3.0.2"), CE))


def test_trap_1_64_kilobytes_of_tcp_are_segmented(world):
    body = bytes(range(256)) * 252
    packet = tcp4(body=body, flags=0x19 | 0x80, identification=0xFFFE)
    out = give(world, vnet(1, 1, 54, 1388, 34, 16), unfilled(packet, 20, 36))["raw 47 2"]
    parts = [unwrapped(octets)[3] for octets in out]
    decoded = [ipv4.decode(part) for part in parts]
    assert all(good(part) for part in parts)
    assert all(len(octets) <= 1500 for octets in out)
    assert b"".join(p.payload[20:] for p in decoded) == body
    assert [int.from_bytes(p.payload[4:8]) for p in decoded] == [1 + n * 1388 for n in range(len(parts))]
    assert [p.identification for p in decoded] == [(0xFFFE + n) & 0xFFFF for n in range(len(parts))]
    flags = [p.payload[13] for p in decoded]
    assert flags == [
        0x90,
        *[0x10] * (len(parts) - 2),
        0x19,
    ]  # CWR on the first, FIN and PSH on the last (RFC 3168 6.1.2)
    assert world.noted()[Slow.SEGMENTED] == 1


def test_trap_1_tcp_over_ipv6(world):
    body = bytes(5000)
    packet = ipv6.encode(ipv6.Ipv6(CE6, REMOTE6, 6, tcp_segment(CE6, REMOTE6, 0x18, body=body)))
    parts = [unwrapped(o)[3] for o in give(world, vnet(1, 4, 74, 1300, 54, 16), unfilled(packet, 40, 56))["raw 47 2"]]
    assert [len(part) for part in parts] == [1360, 1360, 1360, 1160]
    assert all(good(part) for part in parts)


def test_trap_1_udp_segments_and_ufo(world):
    packet = ipv4.encode(ipv4.Ipv4(CE, REMOTE, 17, b"\0\1\0\2\0\0\0\0" + bytes(range(250)) * 8))
    parts = [unwrapped(o)[3] for o in give(world, vnet(1, 5, 42, 1000, 34, 6), packet)["raw 47 2"]]
    assert [len(p) for p in parts] == [1028, 1028]
    assert all(good(p) and int.from_bytes(p[24:26]) == 1008 for p in parts)
    whole = [unwrapped(o)[3] for o in give(world, vnet(1, 3, 42, 1480, 34, 6), packet)["raw 47 2"]]
    assert [ipv4.decode(p).offset for p in whole] == [0, 1448]  # one datagram, in fragments


def test_trap_1_segments_larger_than_the_tunnel_are_told(world):
    packet = tcp4(body=bytes(10000), dont_fragment=True)
    out = give(world, vnet(1, 1, 54, 1448, 34, 16), unfilled(packet, 20, 36))
    assert "raw 47 2" in out  # the last segment is small enough
    error = icmp.decode_error(icmp.decode(ipv4.decode(ethernet.decode(out[E0][0]).payload).payload), 4)
    assert (error.kind, error.code, error.mtu) == (3, 4, 1468)


def test_trap_1_from_the_host_port(world):
    """BGP's own TCP leaves the kernel in one large piece."""
    packet = tcp4(OURS, REMOTE, body=bytes(4000))
    world.ports["host cust1"].put(vnet(1, 1, 40, 1400, 20, 16) + unfilled(packet, 20, 36))
    world.readers["host cust1"].drain()
    parts = [unwrapped(octets)[3] for octets in world.sent()["raw 47 2"]]
    assert [len(p) for p in parts] == [1440, 1440, 1240]
    assert all(good(p) for p in parts)
    assert all(p[8] == 64 for p in parts)


def test_data_valid_is_no_work(world):
    """Flag 2: the hardware has verified the checksum."""
    out = give(world, vnet(2), udp4())
    assert unwrapped(out["raw 47 2"][0])[3] == lower_ttl(udp4())


SENSELESS = [
    (vnet(1, start=34, offset=5000), tcp4()),
    (vnet(1, start=3, offset=1), tcp4()),
    (vnet(1, 1, 54, 0, 34, 16), tcp4()),
    (vnet(1, 1, 54, 100, 34, 16), udp4()),
    (vnet(1, 5, 54, 100, 34, 16), tcp4()),
    (vnet(1, 2, 54, 100, 34, 16), tcp4()),
    (vnet(1, 4, 54, 1, 34, 16), tcp4()),
    (vnet(1, 1, 54, 100, 34, 16), ipv4.encode(ipv4.Ipv4(CE, REMOTE, 6, bytes(12) + b"\xf0" + bytes(7)))),
    (vnet(1, 1, 54, 100, 34, 16), ipv4.encode(ipv4.Ipv4(CE, REMOTE, 6, bytes(10)))),
    (vnet(1, 3, 54, 100, 34, 16), ipv4.encode(ipv4.Ipv4(CE, REMOTE, 17, bytes(4)))),
    (
        vnet(1, 4, 54, 100, 34, 16),
        ipv6.encode(ipv6.Ipv6(CE6, REMOTE6, 44, bytes.fromhex("0600000100000001") + bytes(20))),
    ),
    (vnet(1, 1, 54, 1, 34, 16), tcp4(body=bytes(3000))),
]


@pytest.mark.parametrize(("header", "packet"), SENSELESS)
def test_offload_headers_that_make_no_sense_are_counted(world, header, packet):
    if packet[9] == 6 and header[1] == 4 and packet[0] >> 4 == 4:
        assert give(world, header, packet)  # TCP is TCP, whatever its family is called
        return
    assert give(world, header, packet) == {}
    assert world.dropped() == {Drop.OFFLOAD: 1}


def test_a_broken_packet_under_an_offload_header(world):
    assert give(world, vnet(1, start=34, offset=16), tcp4()[:-1]) == {}
    assert world.dropped() == {Drop.MALFORMED: 1}


@given(st.binary(min_size=10, max_size=10), st.binary(max_size=80), st.integers(0, 20))
def test_finish_is_total(header, tail, link):
    for head in (tcp4(), udp4(), b"\x60" + bytes(39)):
        packet = bytearray(head + tail)
        packet[2:4] = len(packet).to_bytes(2)
        try:
            parts = finish(VnetHeader.of(header), bytes(packet), link)
        except WireError:
            continue
        assert parts


def test_what_goes_out_has_an_empty_header(world):
    """FakePort.take asserts that the ten octets are zero; here, that they are there."""
    from tests.tunnel.io.world import labelled

    world.ports["gre"].put(labelled(udp4(REMOTE, CE), 18))
    world.readers["gre"].drain()
    assert world.ports[E0].take() == [frame(lower_ttl(udp4(REMOTE, CE)), OUR_MAC, CE_MAC)]
    assert KEY
