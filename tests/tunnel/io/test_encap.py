"""From a customer into the tunnel: look-up, TTL, labels, outer header. Packets in, packets out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.events import AdjacencyKey, NeighbourUnresolved
from stack.tables.adjacency import AdjacencyKind
from stack.tables.fib import LeafKind
from tests.tunnel.io.world import (
    CE,
    CE6,
    CE_MAC,
    CORE,
    CUST1,
    E0,
    E1,
    OUR_MAC,
    P_MAC,
    PE2,
    REMOTE,
    TUN0,
    TUNNEL,
    US,
    World,
    frame,
    ip,
    lower_ttl,
    stacked,
    tcp4,
    udp4,
    udp6,
    unwrapped,
)
from tunnel.io.counters import Drop, Slow
from tunnel.wire import ethernet, ipv4


def test_hex_of_an_ipv4_customer_packet(world):
    """One packet in full, against hex: IPv4 outer header, GRE with key 0x1234, label 102 with the packet's TTL."""
    packet = frame(bytes.fromhex("4500001c 00010000 401163c8 0a010002 0a020304 1234567800080000"))
    out = world.same(E0, packet)
    assert {name: [octets.hex() for octets in sent] for name, sent in out.items()} == {
        "raw 47 2": [
            (
                "4500003c00000000ff2f378fc0000201c000020220008847000012340006613f"
                "4500001c000100003f1164c80a0100020a0203041234567800080000"
            )
        ]
    }


@pytest.mark.parametrize("packet", [udp4(), udp4(size=1440), udp6(), udp6(size=1400), tcp4(flags=2), udp4(tos=0xB8)])
def test_rfc4364_5_customer_packets_get_the_routes_label(world, packet):
    outer, inner, stack, under = unwrapped(world.same(E0, frame(packet))["raw 47 2"][0])
    assert (outer.source, outer.destination, outer.ttl, outer.dont_fragment) == (US, PE2, 255, False)
    assert (inner.key, inner.sequence, inner.checksum) == (0x1234, None, False)
    assert under == lower_ttl(packet)
    assert stack[0].label == (102 if packet[0] >> 4 == 4 else 103)
    assert (stack[0].ttl, stack[0].bottom) == (63, True)
    tos = packet[1] if packet[0] >> 4 == 4 else 0
    assert stack[0].tc == tos >> 5
    assert outer.tos == (tos >> 5) << 5


def test_the_same_destination_in_two_vrfs(world):
    """VRF isolation: the same packet by two attachments gets two labels."""
    labels = {}
    for name in (E0, E1):
        labels[name] = unwrapped(world.same(name, frame(udp4()))["raw 47 2"][0])[2][0].label
    assert labels == {E0: 102, E1: 202}


def test_tun_attachment_carries_bare_packets(world):
    outer = world.same(TUN0, udp4(ip("10.3.0.2")))["raw 47 2"][0]
    assert unwrapped(outer)[3] == lower_ttl(udp4(ip("10.3.0.2")))
    assert world.same(E0, frame(udp4(CE, ip("10.3.0.2")))) == {TUN0: [lower_ttl(udp4(CE, ip("10.3.0.2")))]}


def test_between_attachments_of_one_vrf(world):
    packet = udp4(ip("10.3.0.2"), CE)
    assert world.same(TUN0, packet) == {E0: [frame(lower_ttl(packet), OUR_MAC, CE_MAC)]}
    packet = udp6(ip("2001:db8:9::1"), CE6)
    assert world.same(TUN0, packet) == {E0: [frame(lower_ttl(packet), OUR_MAC, CE_MAC)]}


def test_trap_9_the_tag_of_a_subinterface_is_ours_to_write(world):
    world.route("cust2", "10.4.0.0/24", LeafKind.FORWARD, 5)
    out = world.same("host cust2", udp4(ip("10.1.0.1"), ip("10.4.0.1")))
    sent = ethernet.decode(out[E1][0])
    assert (sent.vlan, sent.destination, sent.source, sent.ethertype) == (20, CE_MAC, OUR_MAC, 0x0800)


def test_two_labels_the_transport_label_outside(world):
    world.next_hop(9, TUNNEL, PE2, (300,))
    world.route(CUST1, "10.5.0.0/16", LeafKind.FORWARD, 9, (500,))
    stack = unwrapped(world.same(E0, frame(udp4(destination=ip("10.5.0.1"))))["raw 47 2"][0])[2]
    assert [(e.label, e.bottom, e.ttl) for e in stack] == [(300, False, 63), (500, True, 63)]


def test_lsp_labelled_frames_beside_the_tunnel(world):
    """Semantics 4: EtherType 0x8847 out of the core device, while other routes take the tunnel."""
    world.route(CUST1, "10.6.0.0/16", LeafKind.FORWARD, 4, (600,))
    packet = udp4(destination=ip("10.6.0.1"))
    sent = ethernet.decode(world.same(E0, frame(packet))[CORE][0])
    assert (sent.ethertype, sent.destination, sent.vlan) == (0x8847, P_MAC, None)
    assert sent.payload == stacked(lower_ttl(packet), 600, ttl=63)


def test_unlabelled_to_a_kernel_neighbour_goes_through_the_host_port(world):
    world.route(CUST1, "10.7.0.0/16", LeafKind.FORWARD, 4)
    packet = udp4(destination=ip("10.7.0.1"))
    assert world.same(E0, frame(packet)) == {"host ": [lower_ttl(packet)]}


def test_plain_gre_copies_the_dscp_and_not_ecn(world):
    world.adjacency(TUNNEL, PE2, AdjacencyKind.GRE, mtu=1476, source=US, destination=PE2)
    world.route(CUST1, "10.8.0.0/16", LeafKind.FORWARD, 1)
    outer, inner, stack, _ = unwrapped(world.same(E0, frame(udp4(destination=ip("10.8.0.1"), tos=0xBB)))["raw 47 2"][0])
    assert (outer.tos, inner.protocol, inner.key, stack) == (0xB8, 0x0800, None, ())
    world.change_adjacency(TUNNEL, PE2, tos=0x20, ttl=9)
    outer = ipv4.decode(world.same(E0, frame(udp4(destination=ip("10.8.0.1"), tos=0xB8)))["raw 47 2"][0])
    assert (outer.tos, outer.ttl) == (0x20, 9)


def test_rfc4023_3_mpls_in_ip_has_labels_after_the_header(world):
    world.adjacency(TUNNEL, PE2, AdjacencyKind.MPLS_IN_IP, mtu=1480, source=US, destination=PE2)
    outer = ipv4.decode(world.same(E0, frame(udp4()))["raw 137 2"][0])
    assert outer.protocol == 137
    assert outer.payload == stacked(lower_ttl(udp4()), 102, ttl=63)


# --- what changes is noticed ---------------------------------------------------------------------------------------------


def test_a_route_that_changes_is_noticed_by_warm_caches(world):
    world.same(E0, frame(udp4()))
    world.route(CUST1, "10.2.3.0/24", LeafKind.FORWARD, 2, (999,))
    out = world.same(E0, frame(udp4()))
    assert unwrapped(out["raw 47 3"][0])[2][0].label == 999
    world.next_hop(2, TUNNEL, PE2)
    assert unwrapped(world.same(E0, frame(udp4()))["raw 47 2"][0])[2][0].label == 999
    world.change_adjacency(TUNNEL, PE2, gre_key=77)
    assert unwrapped(world.same(E0, frame(udp4()))["raw 47 2"][0])[1].key == 77
    world.w["fib"].drop(CUST1)
    assert world.into(E0, frame(udp4())) == {}
    assert world.dropped() == {Drop.NO_VRF: 1}


def test_a_removed_endpoint_closes_its_socket(world):
    world.same(E0, frame(udp4()))
    world.w["adjacencies"].remove(AdjacencyKey(TUNNEL, PE2))
    assert world.into(E0, frame(udp4())) == {}
    assert world.ports["raw 47 2"].closed
    assert len(world.forwarder.outlets) == 0


def test_a_vrf_that_comes_back_starts_with_an_empty_cache(world):
    world.same(E0, frame(udp4()))
    world.w["fib"].drop(CUST1)
    world.w["fib"].create(CUST1)
    world.route(CUST1, "10.2.0.0/16", LeafKind.FORWARD, 1, (555,))
    assert unwrapped(world.same(E0, frame(udp4()))["raw 47 2"][0])[2][0].label == 555


# --- drops ---------------------------------------------------------------------------------------------------------------

BAD_FRAMES = [
    (frame(udp4(destination=ip("239.1.1.1"))), Drop.MULTICAST),
    (frame(udp4(destination=ip("239.1.1.1")), destination=bytes.fromhex("01005e010101")), Drop.MULTICAST),
    (frame(udp6(destination=ip("ff05::1")), destination=bytes.fromhex("333300000001")), Drop.MULTICAST),
    (frame(udp4(destination=b"\xff" * 4), destination=b"\xff" * 6), Drop.BROADCAST),
    (frame(udp4(destination=ip("10.1.0.255"))), Drop.BROADCAST),
    (frame(udp4(), destination=b"\xff" * 6), Drop.LINK_BROADCAST),
    (frame(udp4(), destination=bytes.fromhex("020000000077")), Drop.OTHER_STATION),
    (frame(udp4(destination=ip("127.0.0.1"))), Drop.MARTIAN),
    (frame(udp4(destination=ip("0.1.2.3"))), Drop.MARTIAN),
    (frame(udp4(destination=ip("250.1.2.3"))), Drop.MARTIAN),
    (frame(udp4(ip("127.0.0.1"))), Drop.MARTIAN),
    (frame(udp4(ip("224.0.0.5"))), Drop.MARTIAN),
    (frame(udp4(ip("0.0.0.0"))), Drop.MARTIAN),
    (frame(udp6(destination=ip("::1"))), Drop.MARTIAN),
    (frame(udp6(destination=ip("::ffff:10.2.3.4"))), Drop.MARTIAN),
    (frame(udp6(ip("::"))), Drop.MARTIAN),
    (frame(udp6(ip("ff02::1"))), Drop.MARTIAN),
    (frame(udp6(ip("fe80::9"))), Drop.LINK_LOCAL),
    (frame(udp6(destination=ip("fe80::9"))), Drop.LINK_LOCAL),
    (frame(b"\x45" + udp4()[1:10] + b"\0\0" + udp4()[12:]), Drop.CHECKSUM),
    (frame(udp4()[:19]), Drop.MALFORMED),
    (frame(b"\x44" + udp4()[1:]), Drop.MALFORMED),
    (frame(udp4()[:-1]), Drop.MALFORMED),
    (frame(udp6()[:-1]), Drop.MALFORMED),
    (frame(udp6()[:39]), Drop.MALFORMED),
    (frame(udp4(), kind=0x86DD), Drop.NOT_IP),
    (frame(udp6(), kind=0x0800), Drop.NOT_IP),
    (frame(b"", kind=0x0800), Drop.NOT_IP),
    (frame(udp4(), kind=0x88CC), Drop.ETHERTYPE),
    (frame(udp4(), kind=0x0026), Drop.ETHERTYPE),
    (frame(udp4(), kind=0x8100), Drop.ETHERTYPE),
    (frame(udp4(), kind=0x8848), Drop.LABEL_MULTICAST),
    (frame(udp4())[:13], Drop.SHORT_FRAME),
    (b"", Drop.SHORT_FRAME),
    (frame(udp4(options=bytes.fromhex("8307040a02030400"))), Drop.SOURCE_ROUTE),
    (frame(udp4(options=bytes.fromhex("8907040a02030400"))), Drop.SOURCE_ROUTE),
    (frame(udp4(options=bytes.fromhex("44010000"))), Drop.MALFORMED),
]


@pytest.mark.parametrize(("packet", "reason"), BAD_FRAMES, ids=[f"{r.name}-{n}" for n, (_, r) in enumerate(BAD_FRAMES)])
@pytest.mark.parametrize("warm", [False, True])
def test_rfc1812_5_2_2_what_is_dropped_is_counted_by_its_reason(world, packet, reason, warm):
    if warm:
        world.same(E0, frame(udp4()))
        world.same(E0, frame(udp6()))
    if not packet and world.batch and not world.headroom:
        pytest.skip("a packet of no octets ends this kind of socket")
    assert world.into(E0, packet) == {}
    assert world.dropped() == {reason: 1}
    assert next(iter(world.forwarder.counters.drops)) == (reason, E0)


def test_no_route_and_discard_are_told_and_counted(world):
    for text, reason in (("10.77.0.1", Drop.NO_ROUTE), ("10.66.0.1", Drop.DISCARD)):
        out = world.into(E0, frame(udp4(destination=ip(text))))
        assert list(out) == [E0]
        assert reason in world.dropped()
    assert world.noted()[Slow.ICMP_SENT] == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.change_adjacency(TUNNEL, PE2, protection="P"), Drop.PROTECTED),
        (lambda w: w.change_adjacency(TUNNEL, PE2, complete=False, reason="no transport"), Drop.UNRESOLVED),
        (lambda w: w.w["nexthops"].remove(1), Drop.NO_NEXT_HOP),
        (lambda w: w.route(CUST1, "10.2.0.0/16", LeafKind.FORWARD, 1, (3,)), Drop.LABEL_BAD),
        (lambda w: w.adjacency(TUNNEL, PE2, AdjacencyKind.TUN), Drop.NO_LABELS_HERE),
        (
            lambda w: (
                w.route(CUST1, "10.2.0.0/16", LeafKind.FORWARD, 1),
                w.adjacency(TUNNEL, PE2, AdjacencyKind.MPLS_IN_IP),
            ),
            Drop.NO_LABELS_HERE,
        ),
        (lambda w: setattr(w, "refused", OSError(101, "unreachable")), Drop.PORT_ERROR),
        (lambda w: w.adjacency(TUNNEL, PE2, AdjacencyKind.ETHERNET), Drop.NO_PORT),
    ],
    ids=lambda value: value.name if isinstance(value, Drop) else "",
)
def test_an_adjacency_that_cannot_send_drops_and_says_why(world, change, reason):
    """Fail closed: a protected tunnel without a security association sends nothing. V03: label 3 is never pushed, and the
    packet never leaves without it."""
    change(world)
    out = world.into(E0, frame(udp4()))
    assert not any(name.startswith("raw") for name in out)
    assert world.dropped() == {reason: 1}


# --- neighbours that must be resolved first ------------------------------------------------------------------------------

NEW = ip("10.1.0.77")


def test_rfc1122_2_3_2_2_the_latest_packet_waits_for_the_mac(world):
    packets = [udp4(ip("10.3.0.2"), NEW, size=n) for n in (1, 2)]
    assert world.into(TUN0, *packets) == {}
    assert world.facts == [NeighbourUnresolved(E0, NEW)] * 2
    assert world.dropped() == {Drop.UNRESOLVED: 1}
    world.adjacency(E0, NEW, AdjacencyKind.ETHERNET, rewrite=ethernet.head(P_MAC, OUR_MAC))
    world.forwarder.path.refresh()
    assert world.sent() == {E0: [frame(lower_ttl(packets[1]), OUR_MAC, P_MAC)]}
    assert world.forwarder.path.gives_up() is None


def test_a_packet_that_waits_too_long_is_dropped(world):
    world.into(TUN0, udp4(ip("10.3.0.2"), NEW))
    when = world.forwarder.path.gives_up()
    world.now = when
    world.forwarder.path.release()
    assert world.dropped() == {Drop.UNRESOLVED: 1}
    assert world.forwarder.path.gives_up() is None


def test_a_neighbour_that_does_not_answer_is_reported_to_the_sender(world):
    world.into(TUN0, udp4(ip("10.3.0.2"), NEW))
    world.adjacency(E0, NEW, AdjacencyKind.ETHERNET, complete=False, reason="no answer")
    world.forwarder.path.refresh()
    reply = ipv4.decode(world.sent()[TUN0][0])
    assert (reply.payload[:2], reply.destination) == (b"\x03\x01", ip("10.3.0.2"))
    assert list(world.into(TUN0, udp4(ip("10.3.0.2"), NEW))) == [TUN0]


def test_packets_that_wait_are_bounded(world):
    for n in range(300):
        world.into(TUN0, udp4(ip("10.3.0.2"), bytes((10, 1, 0, 3 + n % 250))))
        world.route(CUST1, "10.1.0.0/16", LeafKind.ATTACHED, interface=E0)
        world.into(TUN0, udp4(ip("10.3.0.2"), bytes((10, 1, 1 + n // 250, n % 250))))
    assert len(world.forwarder.path.waiting) <= 256
    assert world.dropped()[Drop.UNRESOLVED] == 600 - len(world.forwarder.path.waiting)


# --- properties ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    tos=st.integers(0, 255),
    ttl=st.integers(0, 255),
    identification=st.integers(0, 0xFFFF),
    size=st.integers(0, 60),
    source=st.integers(0x01000000, 0xDFFFFFFF).filter(lambda value: value >> 24 not in (0, 127)),
)
def test_warm_and_cold_agree_on_any_header(tos, ttl, identification, size, source):
    """Every TTL, class and checksum (the 0xFFFF and 0x0000 ones too): the flat loop sends what the whole path sends."""
    packet = udp4(source.to_bytes(4), REMOTE, size, tos=tos, ttl=ttl, identification=identification)
    results = []
    for batch in (False, True):
        world = World(batch=batch)
        results += [world.into(E0, frame(packet)).get("raw 47 2") for _ in range(3)]
        for port in world.ports.values():
            port.close()
    assert all(result == results[0] for result in results)
    assert (results[0] is None) == (ttl < 2)
    if results[0]:
        assert unwrapped(results[0][0])[3] == lower_ttl(packet)


def test_a_dummy_tunnel_never_forwards(world):
    """It is an interface like any other, and down: what a route would send out of it ends there, counted and told."""
    from attrs import evolve

    world.same(E0, frame(udp4()))
    row = world.tables.interfaces.get(TUNNEL)
    world.w["interfaces"].put(TUNNEL, evolve(row, up=False, row=evolve(row.row, internal=True)))
    assert list(world.into(E0, frame(udp4()))) == [E0]
    assert world.forwarder.counters.drops == {(Drop.INTERFACE_DOWN, TUNNEL): 1}


def test_neighbours_that_come_and_go_empty_no_cache_but_their_own(world):
    """A scan of one VRF's network makes and unmakes neighbours many times a second; nobody else's packets may pay for it."""
    world.same(E0, frame(udp4()))
    flows = world.forwarder.path.inlets[E0].flows[CUST1]
    known = dict(flows.four)
    assert known
    for reason in ("", "no answer"):
        world.adjacency(E1, ip("10.1.0.99"), AdjacencyKind.ETHERNET, complete=False, reason=reason)
        world.same(E0, frame(udp4()))
        assert flows.four == known
    world.w["adjacencies"].remove(AdjacencyKey(E1, ip("10.1.0.99")))
    world.same(E0, frame(udp4()))
    assert flows.four == known
    world.change_adjacency(TUNNEL, PE2, gre_key=77)
    assert unwrapped(world.same(E0, frame(udp4()))["raw 47 2"][0])[1].key == 77
    assert flows.four != known


def test_a_socket_closes_with_its_endpoint_although_no_cache_knows_it_any_more(world):
    world.same(E0, frame(udp4()))
    world.next_hop(9, E0, CE)  # empties the caches
    world.into(E1, frame(udp4(CE, CE)))
    assert not world.ports["raw 47 2"].closed
    world.w["adjacencies"].remove(AdjacencyKey(TUNNEL, PE2))
    world.into(E1, frame(udp4(CE, CE)))
    assert world.ports["raw 47 2"].closed
