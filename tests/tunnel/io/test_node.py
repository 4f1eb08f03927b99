"""The node as a router and a host in each VRF: echo, errors, host ports, neighbours, MTU. Data-plane traps 5 and 6."""

from __future__ import annotations

import pytest

from stack.events import AddressRow, NeighbourPacket
from stack.tables.adjacency import AdjacencyKind
from stack.tables.fib import LeafKind
from stack.tables.lfib import Operation
from stack.wire import internet_checksum
from tests.tunnel.io.world import (
    CE,
    CE6,
    CE_MAC,
    CORE,
    CUST1,
    E0,
    E1,
    OUR_MAC,
    OURS,
    OURS6,
    P_MAC,
    PE2,
    REMOTE,
    REMOTE6,
    TUN0,
    TUNNEL,
    World,
    echo4,
    echo6,
    frame,
    ip,
    labelled,
    lower_ttl,
    tcp4,
    tcp_segment,
    tunnelled,
    udp4,
    udp6,
    unwrapped,
)
from tunnel.io.counters import Drop, Slow
from tunnel.io.path import ICMP_BURST
from tunnel.wire import arp, ethernet, icmp, ipv4, ipv6, mpls, nd, tcp
from tunnel.wire.checksum import transport_checksum


def error_in(packet: bytes) -> tuple[bytes, bytes, icmp.Error]:
    """(source, destination, error) of an ICMP packet, everything verified."""
    if packet[0] >> 4 == 4:
        outer = ipv4.decode(packet)
        return outer.source, outer.destination, icmp.decode_error(icmp.decode(outer.payload), 4)
    outer = ipv6.decode(packet)
    return (
        outer.source,
        outer.destination,
        icmp.decode_error(icmp.decode6(outer.payload, outer.source, outer.destination), 6),
    )


def only_frame(out: dict[str, list[bytes]], name: str = E0) -> bytes:
    assert list(out) == [name]
    assert len(out[name]) == 1
    return ethernet.decode(out[name][0]).payload


# --- echo and the host port ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [E0, E1])
def test_trap_6_echo_to_a_vrf_address_rfc1122_3_2_2_6(world, name):
    reply = ipv4.decode(only_frame(world.same(name, frame(echo4(CE, OURS, ttl=1, tos=0xB8))), name))
    assert (reply.source, reply.destination, reply.tos) == (OURS, CE, 0xB8)
    assert icmp.decode(reply.payload) == icmp.Message(0, 0, b"\0\1\0\2", b"ping")


@pytest.mark.parametrize("name", [E0, E1])
def test_trap_6_echo6_rfc4443_4_2(world, name):
    reply = ipv6.decode(only_frame(world.same(name, frame(echo6(CE6, OURS6, hop_limit=1))), name))
    assert (reply.source, reply.destination) == (OURS6, CE6)
    assert icmp.decode6(reply.payload, OURS6, CE6) == icmp.Message(129, 0, b"\0\1\0\2", b"ping")


def test_echo6_to_and_from_link_local_addresses(world):
    near, far = ip("fe80::1"), ip("fe80::99")
    world.adjacency(E0, far, AdjacencyKind.ETHERNET, rewrite=ethernet.head(P_MAC, OUR_MAC))
    out = world.same(E0, frame(echo6(far, near), P_MAC))
    sent = ethernet.decode(out[E0][0])
    assert (sent.destination, ipv6.decode(sent.payload).destination) == (P_MAC, far)
    assert world.into(TUN0, echo6(far, near)) == {}
    assert world.dropped() == {Drop.LINK_LOCAL: 1}


def test_what_is_for_the_host_goes_to_its_vrfs_port(world):
    for packet in (
        tcp4(CE, OURS, 2),
        udp4(CE, OURS),
        udp6(CE6, OURS6),
        udp4(CE, OURS, more=True),
        udp4(CE, OURS, offset=8),
    ):
        assert world.same(E0, frame(packet)) == {"host cust1": [packet]}
        assert world.same(E1, frame(packet)) == {"host cust2": [packet]}
    fragment = ipv4.encode(ipv4.Ipv4(CE, OURS, 1, echo4(CE, OURS)[20:], more=True))
    assert world.same(E0, frame(fragment)) == {"host cust1": [fragment]}
    unreachable = ipv4.encode(ipv4.Ipv4(CE, OURS, 1, icmp.encode(icmp.Message(3, 4, b"\0\0\5\0", udp4(OURS, CE)))))
    assert world.same(E0, frame(unreachable)) == {"host cust1": [unreachable]}


def test_out_of_the_host_port_without_losing_a_ttl(world):
    """eBGP to the CE, TTL 1; BGP over the tunnel; a route that leads back to the kernel's neighbours is a loop."""
    packet = tcp4(OURS, CE, 2, ttl=1)
    assert world.same("host cust1", packet) == {E0: [frame(packet, OUR_MAC, CE_MAC)]}
    packet = tcp4(OURS, REMOTE, 2, tos=0xC0)
    outer, _, stack, under = unwrapped(world.same("host cust2", packet)["raw 47 2"][0])
    assert (stack[0].label, stack[0].ttl, stack[0].tc, under, outer.tos) == (202, 64, 6, packet, 0xC0)
    assert world.into("host ", udp4(ip("10.9.0.1"), ip("10.9.0.2"))) == {}
    assert world.dropped() == {Drop.HOST_LOOP: 1}


def test_protocols_that_nobody_here_speaks(world):
    packet = ipv4.encode(ipv4.Ipv4(CE, OURS, 89, b"ospf"))
    source, _, error = error_in(only_frame(world.into(E0, frame(packet))))
    assert (source, error.kind, error.code) == (OURS, 3, 2)
    packet = ipv6.encode(ipv6.Ipv6(CE6, OURS6, 89, b"ospf"))
    _, _, error = error_in(only_frame(world.into(E0, frame(packet))))
    assert (error.kind, error.code, error.mtu) == (4, 1, 6)  # a pointer to the next-header field
    assert world.dropped() == {Drop.PROTOCOL: 2}


def test_a_broken_echo_request_and_a_missing_host_port(world):
    bad = bytearray(echo4(CE, OURS))
    bad[-1] ^= 1
    assert world.into(E0, frame(bytes(bad))) == {}
    bad = bytearray(echo6(CE6, OURS6))
    bad[-1] ^= 1
    assert world.into(E0, frame(bytes(bad))) == {}
    world.forwarder.remove_host_port(CUST1)
    assert world.into(E0, frame(udp4(CE, OURS))) == {}
    assert world.dropped() == {Drop.MALFORMED: 2, Drop.NO_HOST_PORT: 1}


def test_rfc3443_5_the_host_sees_the_ttl_that_is_left(world):
    packet = udp4(REMOTE, OURS, ttl=64)
    assert world.same("gre", labelled(packet, 18, ttl=1)) == {"host cust1": [lower_ttl(packet, 63)]}
    packet = udp6(REMOTE6, OURS6)
    assert world.same("gre", labelled(packet, 19, ttl=9)) == {"host cust1": [lower_ttl(packet, 55)]}


# --- time exceeded -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [E0, E1])
@pytest.mark.parametrize("ttl", [0, 1])
def test_trap_6_time_exceeded_rfc1812_4_3_3_4(world, name, ttl):
    packet = udp4(ttl=ttl)
    whole = only_frame(world.same(name, frame(packet)), name)
    source, destination, error = error_in(whole)
    assert (source, destination) == (OURS, CE)
    assert error == icmp.Error(11, 0, packet)
    assert (ipv4.decode(whole).ttl, ipv4.decode(whole).tos) == (255, 0xC0)


def test_trap_6_time_exceeded6_rfc4443_3_3(world):
    packet = udp6(hop_limit=1)
    source, destination, error = error_in(only_frame(world.same(E0, frame(packet))))
    assert (source, destination, error) == (OURS6, CE6, icmp.Error(3, 0, packet))


@pytest.mark.parametrize("label_ttl", [0, 1])
def test_T06_ttl_expiry_of_a_labelled_packet_is_told_into_the_right_vrf_rfc4950_2(world, label_ttl):
    """traceroute across the VPN: the answer goes back through the tunnel under cust2's label, and shows the stack."""
    packet = udp4(REMOTE, CE, ttl=64)
    out = world.same("gre", labelled(packet, 28, ttl=label_ttl))
    stack, inner = unwrapped(out["raw 47 2"][0])[2:]
    assert stack[0].label == 202
    source, destination, error = error_in(inner)
    assert (source, destination) == (OURS, REMOTE)
    assert error.extensions == (icmp.label_stack(mpls.encode([mpls.LabelEntry(28, 0, True, label_ttl)])),)
    assert error.original[: len(packet)] == packet
    assert world.dropped() == {Drop.TTL_EXPIRED: 5}


def test_T06_ttl_expiry_before_a_swap_and_before_a_pop_to_a_stack(world):
    inner = unwrapped(world.same("gre", labelled(udp4(REMOTE, CE), 40, ttl=1))["raw 47 2"][0])[3]
    assert error_in(inner)[2].extensions[0].octets == mpls.encode([mpls.LabelEntry(40, 0, True, 1)])
    world.label(51, Operation.POP_FORWARD, CUST1, frozenset(("mgre",)), 0, 2)
    packet = mpls.encode([mpls.LabelEntry(51, 0, False, 9), mpls.LabelEntry(1000, 0, True, 0)]) + udp4(REMOTE, CE)
    inner = unwrapped(world.into("gre", tunnelled(packet))["raw 47 2"][0])[3]
    assert len(error_in(inner)[2].extensions[0].octets) == 8


def test_T06_ttl_expiry_of_what_is_no_ip_is_only_counted(world):
    for under in (b"", b"\x00\x01", udp4(REMOTE, CE)[:10], udp4(ip("127.0.0.1"), CE)):
        assert world.into("gre", tunnelled(mpls.encode([mpls.LabelEntry(40, 0, True, 1)]) + under)) == {}
    assert world.dropped() == {Drop.TTL_EXPIRED: 4}


def test_big_originals_are_quoted_in_part(world):
    whole = only_frame(world.into(E0, frame(udp4(size=1400, ttl=1))))
    assert len(whole) == 576  # RFC 1812 4.3.2.3
    whole = only_frame(world.into(E0, frame(udp6(size=1400, hop_limit=1))))
    assert len(whole) == 1280  # RFC 4443 3
    out = world.into("gre", labelled(udp6(REMOTE6, CE6, size=1400), 19, ttl=1))
    inner = unwrapped(out["raw 47 2"][0])[3]
    assert len(inner) <= 1280
    assert error_in(inner)[2].extensions


# --- what no error is about ----------------------------------------------------------------------------------------------

ERROR4 = icmp.encode(icmp.Message(3, 1, bytes(4), udp4()))
ERROR6 = icmp.encode6(icmp.Message(1, 0, bytes(4), udp6()), CE6, REMOTE6)
SILENT = [
    ipv4.encode(ipv4.Ipv4(CE, REMOTE, 1, ERROR4, ttl=1)),
    ipv4.encode(ipv4.Ipv4(CE, REMOTE, 1, icmp.encode(icmp.Message(5, 1, bytes(4), b"")), ttl=1)),
    ipv4.encode(ipv4.Ipv4(CE, REMOTE, 1, b"", ttl=1)),
    udp4(ttl=1, offset=8),
    ipv6.encode(ipv6.Ipv6(CE6, REMOTE6, 58, ERROR6, 1)),
    ipv6.encode(ipv6.Ipv6(CE6, REMOTE6, 44, bytes.fromhex("1100000900000001") + b"x", 1)),
    ipv6.encode(ipv6.Ipv6(CE6, REMOTE6, 0, b"\x00\xff", 1)),
]


@pytest.mark.parametrize("packet", SILENT)
def test_rfc1122_3_2_2_and_rfc4443_2_4_no_error_about_errors_and_later_fragments(world, packet):
    assert world.into(E0, frame(packet)) == {}
    assert world.dropped() == {Drop.TTL_EXPIRED: 1}
    assert world.noted() == {Slow.ICMP_WITHHELD: 1}


def test_rfc1812_4_3_2_8_errors_are_limited_in_each_vrf(world):
    for _ in range(60):
        world.into(E0, frame(udp4(ttl=1)))
    assert world.noted()[Slow.ICMP_SENT] == 50
    assert world.noted()[Slow.ICMP_LIMITED] == 10
    assert world.into(E1, frame(udp4(ttl=1)))  # another VRF has its own bucket
    world.now += 0.025
    assert world.into(E0, frame(udp4(ttl=1)))
    assert world.into(E0, frame(udp4(ttl=1)))
    assert not world.into(E0, frame(udp4(ttl=1)))


def test_a_scan_without_routes_does_not_silence_path_mtu_discovery(world):
    for n in range(ICMP_BURST + 5):
        world.into(E0, frame(udp4(destination=bytes((172, 16, 0, n)))))
    assert world.noted()[Slow.ICMP_LIMITED] == 5
    assert error_in(only_frame(world.into(E0, frame(udp4(size=1450, dont_fragment=True)))))[2].mtu == 1468


def test_rfc6864_4_a_reply_that_is_fragmented_has_an_identification(world):
    """Two replies of one identification whose fragments mix would be put together wrongly."""
    world.change_adjacency(TUNNEL, PE2, mtu=576)
    found = set()
    for number in (7, 8):
        text = icmp.encode(icmp.Message(8, 0, b"\0\1\0\2", bytes(1000)))
        request = ipv4.encode(ipv4.Ipv4(REMOTE, OURS, 1, text, identification=number))
        out = world.into("gre", labelled(request, 18))
        parts = [ipv4.decode(unwrapped(sent)[3]) for sent in out["raw 47 2"]]
        assert len(parts) == 2
        found |= {part.identification for part in parts}
    assert found == {7, 8}


def test_no_ip_unreachables_silences_unreachables_alone(world):
    world.change_interface(E0, unreachables=False)
    assert world.into(E0, frame(udp4(destination=ip("10.77.0.1")))) == {}
    assert world.into(E0, frame(udp4(destination=ip("10.66.0.1")))) == {}
    assert world.into(E0, frame(udp6(destination=ip("2001:db8:77::1")))) == {}
    assert error_in(only_frame(world.into(E0, frame(udp4(ttl=1)))))[2].kind == 11
    assert error_in(only_frame(world.into(E0, frame(udp4(size=1450, dont_fragment=True)))))[2].mtu == 1468


@pytest.mark.parametrize(
    ("packet", "kind", "code"),
    [
        (udp4(destination=ip("10.77.0.1")), 3, 0),
        (udp4(destination=ip("10.66.0.1")), 3, 1),
        (udp6(destination=ip("2001:db8:77::1")), 1, 0),
    ],
)
def test_unreachables(world, packet, kind, code):
    _, _, error = error_in(only_frame(world.into(E0, frame(packet))))
    assert (error.kind, error.code) == (kind, code)


def test_an_error_without_a_source_address_is_withheld(world):
    """cust1 loses its IPv4 addresses: nothing is sent from another VRF's."""
    from attrs import evolve

    for name in (E0, TUN0):
        row = world.tables.interfaces.get(name)
        world.w["interfaces"].put(name, evolve(row, addresses={}))
    assert world.into(E0, frame(udp4(ttl=1))) == {}
    assert world.noted() == {Slow.ICMP_WITHHELD: 1}


def test_the_source_of_an_unnumbered_interface(world):
    from attrs import evolve

    row = world.tables.interfaces.get(E0)
    world.w["interfaces"].put(E0, evolve(row, addresses={}, row=evolve(row.row, unnumbered=TUN0)))
    assert error_in(only_frame(world.into(E0, frame(udp4(ttl=1)))))[0] == ip("10.3.0.1")
    world.w["interfaces"].put(
        E0, evolve(row, addresses={ip("10.1.0.9"): AddressRow(24, secondary=True), ip("10.1.0.8"): AddressRow(24)})
    )
    assert error_in(only_frame(world.into(E0, frame(udp4(ttl=1)))))[0] == ip("10.1.0.8")


# --- MTU: trap 5 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [False, True])
def test_trap_5_fragmentation_needed_with_the_tunnels_mtu_rfc1191_4(world, warm):
    if warm:
        world.same(E0, frame(udp4()))
    fits, big = udp4(size=1448, dont_fragment=True), udp4(size=1449, dont_fragment=True)
    assert unwrapped(world.into(E0, frame(fits))["raw 47 2"][0])[3] == lower_ttl(fits)
    _, _, error = error_in(only_frame(world.into(E0, frame(big))))
    assert (error.kind, error.code, error.mtu) == (3, 4, 1468)
    assert big.startswith(error.original)
    assert world.dropped() == {Drop.TOO_BIG: 1}


@pytest.mark.parametrize("warm", [False, True])
def test_trap_5_packet_too_big_rfc4443_3_2(world, warm):
    if warm:
        world.same(E0, frame(udp6()))
    assert unwrapped(world.into(E0, frame(udp6(size=1428)))["raw 47 2"][0])
    _, _, error = error_in(only_frame(world.into(E0, frame(udp6(size=1429)))))
    assert (error.kind, error.code, error.mtu) == (2, 0, 1468)


def test_fragments_before_encapsulation_are_counted_rfc4023_5_1(world):
    packet = udp4(size=1460, identification=7)
    out = world.same(E0, frame(packet))["raw 47 2"]
    parts = [ipv4.decode(unwrapped(octets)[3]) for octets in out]
    assert [(p.offset, p.more, p.ttl, p.identification) for p in parts] == [(0, True, 63, 7), (1448, False, 63, 7)]
    assert b"".join(p.payload for p in parts) == ipv4.decode(packet).payload
    assert all(len(octets) <= 1500 for octets in out)
    assert world.noted()[Slow.FRAGMENTED] == 5


def test_a_swapped_packet_is_fragmented_under_its_labels_rfc3032_3_4(world):
    world.change_adjacency(TUNNEL, ip("192.0.2.3"), mtu=600)
    out = world.same("gre", labelled(udp4(REMOTE, CE, size=1000), 40, 1000))["raw 47 3"]
    assert [[e.label for e in unwrapped(o)[2]] for o in out] == [[140, 1000]] * 2
    assert [ipv4.decode(unwrapped(o)[3]).offset for o in out] == [0, 568]
    inner = unwrapped(world.same("gre", labelled(udp4(REMOTE, CE, size=1000, dont_fragment=True), 40))["raw 47 2"][0])[
        3
    ]
    assert error_in(inner)[2].mtu == 596
    assert world.into("gre", labelled(bytes(700), 40)) == {}
    assert world.dropped()[Drop.TOO_BIG] == 6


def test_the_local_host_is_told_too(world):
    """BGP over the tunnel: the node's own TCP learns the path's MTU through its host port."""
    packet = tcp4(OURS, REMOTE, body=bytes(1430), dont_fragment=True)
    out = world.into("host cust1", packet)
    assert list(out) == ["host cust1"]
    _, destination, error = error_in(out["host cust1"][0])
    assert (destination, error.mtu) == (OURS, 1468)


def test_mtu_too_small_for_any_fragment(world):
    world.change_adjacency(TUNNEL, PE2, mtu=30)
    assert world.into(E0, frame(udp4(size=40))) == {}
    assert world.dropped() == {Drop.MALFORMED: 1}


# --- MSS -----------------------------------------------------------------------------------------------------------------

MSS = bytes.fromhex("020405b4")


def clamped(packet: bytes) -> int:
    start = 20 if packet[0] >> 4 == 4 else 40
    segment = packet[start:]
    ends = (packet[12:16], packet[16:20]) if start == 20 else (packet[8:24], packet[24:40])
    assert transport_checksum(*ends, 6, segment) in (0, 0xFFFF)
    at = tcp.mss_offset(segment)
    return int.from_bytes(segment[at : at + 2])


@pytest.mark.parametrize("name", [E0, TUNNEL])
def test_mss_is_clamped_by_either_interface_rfc9293_3_7_1(world, name):
    world.change_interface(name, mss=1360)
    syn = tcp4(flags=2, options=MSS)
    assert clamped(unwrapped(world.same(E0, frame(syn))["raw 47 2"][0])[3]) == 1360
    back = tcp4(REMOTE, CE, flags=0x12, options=MSS)
    assert clamped(ethernet.decode(world.same("gre", labelled(back, 18))[E0][0]).payload) == 1360
    six = ipv6.encode(ipv6.Ipv6(CE6, REMOTE6, 6, tcp_segment(CE6, REMOTE6, 2, MSS)))
    assert clamped(unwrapped(world.same(E0, frame(six))["raw 47 2"][0])[3]) == 1360
    swapped = world.same("gre", labelled(back, 40))["raw 47 3"][0]
    assert clamped(unwrapped(swapped)[3]) == (1360 if name == TUNNEL else 1460)
    before = world.noted()[Slow.CLAMPED]
    data = tcp4(options=MSS)
    assert unwrapped(world.same(E0, frame(data))["raw 47 2"][0])[3] == lower_ttl(data)
    assert unwrapped(world.same(E0, frame(udp6()))["raw 47 2"][0])[3] == lower_ttl(udp6())
    low = tcp4(flags=2, options=bytes.fromhex("02040200"))
    assert clamped(unwrapped(world.same(E0, frame(low))["raw 47 2"][0])[3]) == 512
    assert world.noted()[Slow.CLAMPED] == before


def test_mss_the_smaller_of_both(world):
    world.change_interface(E0, mss=1300)
    world.change_interface(TUNNEL, mss=1360)
    assert clamped(unwrapped(world.same(E0, frame(tcp4(flags=2, options=MSS)))["raw 47 2"][0])[3]) == 1300


# --- neighbours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [E0, CORE])
def test_trap_6_arp_and_nd_are_handed_to_the_bus(world, name):
    question = arp.encode(arp.Arp(1, CE_MAC, CE, bytes(6), OURS)) + bytes(18)
    solicit = nd.encode(nd.Solicitation(CE6, nd.solicited_node(OURS6), OURS6, CE_MAC))
    assert world.into(name, frame(question, destination=ethernet.BROADCAST, kind=0x0806)) == {}
    assert world.into(name, frame(solicit, destination=bytes.fromhex("3333ff000001"))) == {}
    unicast = nd.encode(nd.Advertisement(CE6, OURS6, CE6, CE_MAC))
    assert world.into(name, frame(unicast)) == {}
    assert world.facts == [
        NeighbourPacket(name, CE_MAC, True, question),
        NeighbourPacket(name, CE_MAC, False, solicit),
        NeighbourPacket(name, CE_MAC, False, unicast),
    ]


def test_the_kernels_own_packets_on_a_labelled_port_are_left_alone(world):
    assert world.into(CORE, frame(udp4(ip("10.9.0.2"), ip("10.2.3.4"), ttl=1))) == {}
    assert world.into(CORE, frame(udp6())) == {}
    assert world.dropped() == {}


def test_an_arp_storm_is_bounded_and_hurts_no_other_interface(world):
    question = frame(arp.encode(arp.Arp(1, CE_MAC, CE, bytes(6), OURS)), destination=ethernet.BROADCAST, kind=0x0806)
    for _ in range(700):
        world.into(E0, question)
    assert len(world.facts) == 500
    assert world.forwarder.counters.drops == {(Drop.PUNT_BUDGET, E0): 200}
    world.into(E1, question)
    assert len(world.facts) == 501


def test_options_are_carried_and_later_fragments_too(world):
    for packet in (udp4(options=bytes.fromhex("94040000")), udp4(more=True), udp4(offset=64)):
        assert unwrapped(world.same(E0, frame(packet))["raw 47 2"][0])[3] == lower_ttl(packet)


def test_padding_of_a_short_frame_is_not_carried(world):
    packet = udp4(size=0)
    assert unwrapped(world.same(E0, frame(packet) + bytes(26))["raw 47 2"][0])[3] == lower_ttl(packet)
    packet = udp6(size=0)
    assert unwrapped(world.same(E0, frame(packet) + bytes(6))["raw 47 2"][0])[3] == lower_ttl(packet)


def test_every_header_that_leaves_has_a_good_checksum(world):
    for ttl in range(2, 256):
        inner = unwrapped(world.into(E0, frame(udp4(ttl=ttl, identification=ttl * 257)))["raw 47 2"][0])[3]
        assert internet_checksum(inner[:20]) == 0


def test_a_world_has_no_leftovers():
    """The fixture itself: descriptors of batch ports are given back."""
    from tests.tunnel.io.world import fd_count

    before = fd_count()
    for _ in range(3):
        world = World(batch=True)
        world.same(E0, frame(udp4()))
        for port in world.ports.values():
            port.close()
    assert fd_count() == before


def test_echo_across_two_vrfs_stays_apart(world):
    """The same echo by both attachments: each is answered on its own."""
    for name in (E0, E1):
        assert list(world.same(name, frame(echo4(CE, OURS)))) == [name]
    world.route("cust2", "10.1.0.1/32", LeafKind.DISCARD)
    assert ipv4.decode(only_frame(world.into(E0, frame(echo4(CE, OURS))))).payload[0] == 0
    assert error_in(only_frame(world.into(E1, frame(echo4(CE, ip("10.66.0.1")))), E1))[2].kind == 3


@pytest.mark.parametrize(
    "packet", [tcp4(OURS, OURS, 2), echo4(OURS, OURS), tcp4(ip("10.3.0.1"), OURS, 2), echo6(OURS6, OURS6)]
)
def test_rfc1812_5_3_7_a_packet_that_claims_to_be_ours_is_forged(world, packet):
    assert world.into(E0, frame(packet)) == {}
    assert world.dropped() == {Drop.MARTIAN: 1}
    assert world.into("host cust1", packet)  # the node itself may talk to itself
