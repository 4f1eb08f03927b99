"""Out of the tunnel: who may send, what GRE may look like, and what a label does. Fault rows T01, T02, T04, T06, T07, V07."""

from __future__ import annotations

import pytest

from stack.events import Hairpin, Ingress, NhrpReceived
from stack.tables.adjacency import AdjacencyKind
from stack.tables.fib import LeafKind
from stack.tables.lfib import Operation
from stack.tables.reception import Reception
from tests.tunnel.io.world import (
    CE,
    CE6,
    CE_MAC,
    CORE,
    CUST1,
    E0,
    E1,
    KEY,
    OUR_MAC,
    P_MAC,
    PE2,
    PE3,
    REMOTE,
    REMOTE6,
    STRANGER,
    TUN0,
    TUNNEL,
    US,
    echo4,
    frame,
    ip,
    labelled,
    lower_ttl,
    stacked,
    tunnelled,
    udp4,
    udp6,
    unwrapped,
)
from tunnel.io.counters import Drop
from tunnel.io.path import NHRP_RATE
from tunnel.wire import ethernet, gre, ipv4, mpls

IN4, IN6 = udp4(REMOTE, CE), udp6(REMOTE6, CE6)


# --- pop and look up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "packet", "port", "tag"),
    [(18, IN4, E0, None), (28, IN4, E1, 20), (19, IN6, E0, None), (29, IN6, E1, 20)],
)
def test_rfc4364_4_3_2_the_label_names_the_vrf(world, label, packet, port, tag):
    out = world.same("gre", labelled(packet, label))
    assert list(out) == [port]
    sent = ethernet.decode(out[port][0])
    assert (sent.destination, sent.source, sent.vlan) == (CE_MAC, OUR_MAC, tag)
    assert sent.payload == lower_ttl(packet)


def test_hex_of_a_packet_out_of_the_tunnel(world):
    packet = bytes.fromhex(
        "4500003c 00000000 fa2f3c8f c0000202 c0000201 20008847 00001234 0001213f"
        "4500001c 00010000 3f1164c8 0a020304 0a010002 1234567800080000"
    )
    assert [octets.hex() for octets in world.same("gre", packet)[E0]] == [
        "02000000000202000000000108004500001c000100003e1165c80a0203040a0100021234567800080000"
    ]


def test_octets_under_a_label_are_counted_whatever_way_packets_take(world):
    for _ in range(3):
        world.into("gre", labelled(IN4, 18))
    world.into("gre", labelled(udp4(REMOTE, CE, ttl=1), 18), labelled(udp4(REMOTE, ip("10.1.0.77")), 18))
    world.into("gre", labelled(udp4(REMOTE, STRANGER, ttl=9), 40), labelled(IN4, 40), labelled(IN4, 40, ttl=1))
    assert world.forwarder.label_octets() == {18: 5 * 40, 40: 3 * 40}


def test_to_a_tun_attachment(world):
    packet = udp4(REMOTE, ip("10.3.0.2"))
    assert world.same("gre", labelled(packet, 18)) == {TUN0: [lower_ttl(packet)]}


def test_pop_and_send_on_needs_no_route(world):
    packet = udp4(REMOTE, ip("172.16.0.1"))
    assert world.same("gre", labelled(packet, 30)) == {E0: [frame(lower_ttl(packet), OUR_MAC, CE_MAC)]}


def test_rfc2784_2_without_a_key_and_plain_ip(world):
    """A point-to-point GRE tunnel beside the mGRE one, same ends, no key: told apart by the key."""
    world.reception(Reception("Tunnel9", US, frozenset((47,)), CUST1, None, frozenset((PE2,)), point_to_point=True))
    assert world.same("gre", tunnelled(IN4, gre.IPV4, key=None)) == {E0: [frame(lower_ttl(IN4), OUR_MAC, CE_MAC)]}
    assert world.same("gre", tunnelled(IN6, gre.IPV6, key=None)) == {E0: [frame(lower_ttl(IN6), OUR_MAC, CE_MAC)]}
    assert list(world.same("gre", labelled(IN4, 28))) == [E1]
    assert list(world.same("gre", labelled(IN4, 28, key=None))) == [E1]


def test_point_to_point_before_wider_and_known_before_any(world):
    for name, vrf, sources, single in (
        ("Tunnel7", "", None, False),
        ("Tunnel8", "cust2", frozenset((PE2, PE3)), False),
        ("Tunnel9", CUST1, frozenset((PE2,)), True),
    ):
        world.reception(Reception(name, US, frozenset((47,)), vrf, None, sources, single))
    assert list(world.same("gre", tunnelled(IN4, gre.IPV4, key=None))) == [E0]
    assert list(world.same("gre", tunnelled(IN4, gre.IPV4, key=None, source=PE3))) == [E1]


def test_rfc2784_2_5_and_rfc2890_2_2_checksum_and_sequence_are_accepted(world):
    for number, checksum in ((1, True), (2, False), (7, True)):
        assert list(world.into("gre", labelled(IN4, 18, sequence=number, checksum=checksum))) == [E0]
    assert world.dropped() == {}


def test_rfc4023_3_mpls_in_ip(world):
    world.reception(Reception("Tunnel8", US, frozenset((137,)), "", None, frozenset((PE2,))))
    outer = ipv4.encode(ipv4.Ipv4(PE2, US, 137, stacked(IN4, 18)))
    assert world.same("mpls-in-ip", outer) == {E0: [frame(lower_ttl(IN4), OUR_MAC, CE_MAC)]}
    for bad, reason in (
        (ipv4.Ipv4(STRANGER, US, 137, stacked(IN4, 18)), Drop.UNKNOWN_ENDPOINT),
        (ipv4.Ipv4(PE2, PE3, 137, stacked(IN4, 18)), Drop.NOT_OURS),
    ):
        assert world.into("mpls-in-ip", ipv4.encode(bad)) == {}
        assert world.dropped()[reason] == 1


def test_nhrp_is_handed_to_the_bus(world):
    world.change_interface(TUNNEL, network_id=1)
    world.into("gre", tunnelled(b"nhrp", gre.NHRP))
    assert world.facts == [NhrpReceived(TUNNEL, "", PE2, US, 0, b"nhrp")]


def test_facts_are_bounded_by_a_budget(world):
    world.change_interface(TUNNEL, network_id=1)
    for _ in range(0, NHRP_RATE + 200, 50):
        world.into("gre", *[tunnelled(b"nhrp", gre.NHRP)] * 50)
    assert len(world.facts) == NHRP_RATE
    assert world.dropped() == {Drop.PUNT_BUDGET: 200}
    world.now += 0.1
    world.into("gre", tunnelled(b"nhrp", gre.NHRP))
    assert len(world.facts) == NHRP_RATE + 1


# --- T01, T02, T04 -------------------------------------------------------------------------------------------------------


def flagged(flags: int, rest: bytes = b"") -> bytes:
    body = flags.to_bytes(2) + b"\x88\x47" + rest + KEY.to_bytes(4) + stacked(IN4, 18)
    return ipv4.encode(ipv4.Ipv4(PE2, US, 47, body))


T01 = [
    *((flagged(0x2000 | version), Drop.GRE_VERSION) for version in range(1, 8)),
    *((flagged(0x2000 | bit), Drop.GRE_RESERVED) for bit in (0x4000, 0x0800, 0x0400)),
    (flagged(0xA000, b"\x12\x34\0\0"), Drop.GRE_CHECKSUM),
    (labelled(IN4, 18, key=None), Drop.GRE_KEY),
    (labelled(IN4, 18, key=KEY + 1), Drop.GRE_KEY),
    (ipv4.encode(ipv4.Ipv4(PE2, US, 47, b"\x20\x00\x88")), Drop.GRE_HEADER),
    (ipv4.encode(ipv4.Ipv4(PE2, US, 47, b"\x20\x00\x88\x47\x00")), Drop.GRE_HEADER),
    (tunnelled(b"x", 0x6558), Drop.GRE_PROTOCOL),
    (b"\x45" + bytes(10), Drop.MALFORMED),
]


@pytest.mark.parametrize(("packet", "reason"), T01, ids=[f"{r.name}-{n}" for n, (_, r) in enumerate(T01)])
@pytest.mark.parametrize("warm", [False, True])
def test_T01_gre_that_breaks_a_rule_is_discarded_rfc2784_2_3(world, packet, reason, warm):
    if warm:
        world.same("gre", labelled(IN4, 18))
    assert world.into("gre", packet) == {}
    assert world.dropped() == {reason: 1}


def test_T01_old_sequence_is_discarded_rfc2890_2_2(world):
    def arrives(sequence: int | None) -> bool:
        return bool(world.into("gre", labelled(IN4, 18, sequence=sequence)))

    assert arrives(5)
    assert not arrives(5)
    assert not arrives(4)
    assert arrives(6)
    assert arrives(None)  # a packet without a number is no old one
    assert world.dropped() == {Drop.GRE_SEQUENCE: 2}
    assert arrives(0x7FFFFFFF)
    assert arrives(0xFFFFFFFE)
    assert arrives(0)  # the numbers wrap
    assert not arrives(0xFFFFFFFF)
    world.now += 11  # the sender was silent, or has restarted
    assert arrives(1)


def test_T01_senders_that_number_are_bounded(world):
    world.reception(Reception("Tunnel5", US, frozenset((47,)), "", 5, None, ip=False))
    for n in range(4200):
        world.into("gre", labelled(IN4, 18, key=5, sequence=1, source=bytes((192, 1, n >> 8, n & 255))))
    assert len(world.forwarder.tunnels._sequences) == 4096
    assert len(world.forwarder.tunnels.peers("")) <= 4096


@pytest.mark.parametrize("warm", [False, True])
def test_T02_right_key_right_label_unknown_source_rfc4023_8_2(world, warm):
    if warm:
        world.same("gre", labelled(IN4, 18))
    assert world.into("gre", labelled(IN4, 18, source=STRANGER)) == {}
    assert world.into("gre", labelled(IN4, 18, destination=PE3)) == {}
    assert world.dropped() == {Drop.UNKNOWN_ENDPOINT: 1, Drop.NOT_OURS: 1}
    assert (Drop.UNKNOWN_ENDPOINT, TUNNEL) in world.forwarder.counters.drops


def test_T02_the_allow_list_can_be_switched_off_and_an_endpoint_can_go(world):
    world.reception(Reception(TUNNEL, US, frozenset((47,)), "", KEY, None, ip=False))
    assert list(world.same("gre", labelled(IN4, 18, source=STRANGER))) == [E0]
    world.reception(Reception(TUNNEL, US, frozenset((47,)), "", KEY, frozenset((PE3,)), ip=False))
    assert world.into("gre", labelled(IN4, 18, source=STRANGER)) == {}
    assert world.into("gre", labelled(IN4, 18)) == {}
    assert world.dropped() == {Drop.UNKNOWN_ENDPOINT: 2}


def nested(depth: int, inner: bytes) -> bytes:
    for _ in range(depth):
        inner = tunnelled(inner, gre.IPV4, key=None)
    return inner


def test_T04_one_tunnel_is_taken_off_and_no_more_rfc2784_3(world):
    """GRE in GRE, fifty deep, addressed to us at every level: the outermost goes, what is in it is refused."""
    world.reception(Reception("Tunnel9", US, frozenset((47,)), CUST1, None, None))
    world.route(CUST1, "192.0.2.1/32", LeafKind.RECEIVE)
    for depth in (2, 3, 50):
        assert world.into("gre", nested(depth, IN4)) == {}
    assert world.dropped() == {Drop.NESTED: 3}
    assert list(world.into("gre", nested(1, IN4))) == [E0]
    outer = ipv4.encode(ipv4.Ipv4(CE, ip("10.1.0.1"), 137, stacked(IN4, 18)))
    assert world.into(E0, frame(outer)) == {}
    assert world.dropped() == {Drop.NESTED: 4}


def test_a_customers_own_tunnel_passes_through(world):
    inner = ipv4.encode(ipv4.Ipv4(REMOTE, CE, 47, b"\0\0\x08\0" + IN4))
    assert world.same("gre", labelled(inner, 18)) == {E0: [frame(lower_ttl(inner), OUR_MAC, CE_MAC)]}


@pytest.mark.parametrize(
    ("row", "packet", "reason"),
    [
        ({"protected": True}, labelled(IN4, 18), Drop.PROTECTED),
        ({"mpls": False}, labelled(IN4, 18), Drop.LABEL_INTERFACE),
        ({"protocols": frozenset((137,))}, labelled(IN4, 18), Drop.TUNNEL_PROTOCOL),
        ({"ip": False}, tunnelled(IN4, gre.IPV4), Drop.NO_IP_HERE),
        ({"ip": True}, tunnelled(IN6, gre.IPV4), Drop.NOT_IP),
        ({"ip": True}, tunnelled(b"", gre.IPV6), Drop.NOT_IP),
    ],
)
def test_a_reception_says_what_may_come(world, row, packet, reason):
    """T03's first half: a tunnel that must be protected takes nothing in clear text."""
    fields = {"protocols": frozenset((47,)), "vrf": CUST1, "gre_key": KEY, "sources": frozenset((PE2,)), **row}
    world.same("gre", labelled(IN4, 18))
    world.reception(Reception(TUNNEL, US, **fields))
    assert world.into("gre", packet) == {}
    assert world.dropped() == {reason: 1}


def test_a_tunnel_that_is_down_takes_nothing(world):
    from attrs import evolve

    world.same("gre", labelled(IN4, 18))
    world.w["interfaces"].put(TUNNEL, evolve(world.tables.interfaces.get(TUNNEL), up=False))
    assert world.into("gre", labelled(IN4, 18)) == {}
    assert world.dropped() == {Drop.INTERFACE_DOWN: 1}


# --- labels: T06, T07, V07 -----------------------------------------------------------------------------------------------


def raw_stack(*words: int) -> bytes:
    return b"".join(word.to_bytes(4) for word in words)


BOTTOM = 0x100
T06 = [
    (stacked(IN4, 99), Drop.LABEL_UNKNOWN),
    (raw_stack(18 << 12 | 64), Drop.LABEL_NO_BOTTOM),
    (raw_stack(18 << 12 | 64)[:3], Drop.LABEL_NO_BOTTOM),
    (b"", Drop.LABEL_NO_BOTTOM),
    (raw_stack(*[18 << 12 | 64] * 64) + IN4, Drop.LABEL_DEPTH),
    (raw_stack(*[18 << 12 | 64] * 63, 18 << 12 | BOTTOM | 64) + IN4, Drop.LABEL_DEPTH),
    (stacked(IN4, 18, 18), Drop.LABEL_UNDER_AGGREGATE),
    (stacked(IN4, 0, 18), Drop.LABEL_NOT_BOTTOM),
    (stacked(IN6, 2, 18), Drop.LABEL_NOT_BOTTOM),
    (stacked(IN4, 1, 18), Drop.LABEL_ROUTER_ALERT),
    (stacked(IN4, 3), Drop.LABEL_IMPLICIT_NULL),
    (stacked(IN4, 7, 1000), Drop.LABEL_ENTROPY),
    (stacked(IN4, 13), Drop.LABEL_GAL),
    (stacked(IN4, 14), Drop.LABEL_OAM_ALERT),
    (stacked(IN4, 15, 18), Drop.LABEL_EXTENSION),
    *((stacked(IN4, label), Drop.LABEL_RESERVED) for label in (4, 5, 6, 8, 9, 10, 11, 12)),
    (stacked(b"", 18), Drop.LABEL_FAMILY),
    (stacked(b"\x45", 18), Drop.MALFORMED),
    (stacked(IN4[:-1], 18), Drop.MALFORMED),
    (stacked(udp4(REMOTE, ip("239.1.1.1")), 18), Drop.MULTICAST),
    (stacked(udp4(REMOTE, ip("239.1.1.1")), 30), Drop.MULTICAST),
    (stacked(b"", 40), None),
]


@pytest.mark.parametrize(
    ("packet", "reason"), T06, ids=[f"{r.name if r else 'sent'}-{n}" for n, (_, r) in enumerate(T06)]
)
@pytest.mark.parametrize("warm", [False, True])
def test_T06_labels_that_lead_nowhere_rfc3032_2_1_rfc7274_3(world, packet, reason, warm):
    if warm:
        for label in (18, 30, 40):
            world.same("gre", labelled(IN4, label))
    out = world.into("gre", tunnelled(packet))
    if reason is None:
        assert list(out) == ["raw 47 3"]  # a swap does not care what is under the label
    else:
        assert out == {}
        assert world.dropped() == {reason: 1}


def test_explicit_null_at_the_bottom_rfc3032_2_1(world):
    """Only where unlabelled IP is taken as well, and with the family that the label names."""
    assert world.into("gre", labelled(IN4, 0)) == {}
    assert world.dropped() == {Drop.NO_IP_HERE: 1}
    world.reception(Reception(TUNNEL, US, frozenset((47,)), CUST1, KEY, frozenset((PE2,))))
    assert list(world.same("gre", labelled(IN4, 0))) == [E0]
    assert list(world.same("gre", labelled(IN6, 2))) == [E0]
    assert world.into("gre", labelled(IN6, 0)) == {}
    assert world.into("gre", labelled(IN4, 2)) == {}
    assert world.dropped()[Drop.LABEL_FAMILY] == 2


@pytest.mark.parametrize("warm", [False, True])
def test_T07_wrong_family_or_multicast_under_a_vrf_label_rfc4023_3(world, warm):
    if warm:
        world.same("gre", labelled(IN4, 18))
        world.same("gre", labelled(IN6, 19))
    for label, packet in ((18, IN6), (19, IN4), (18, b"\x05" + bytes(30))):
        assert world.into("gre", labelled(packet, label)) == {}
    assert world.into("gre", tunnelled(stacked(IN4, 18), gre.MPLS_MULTICAST)) == {}
    assert world.into(CORE, frame(stacked(IN4, 40), P_MAC, kind=0x8848)) == {}
    assert world.into(CORE, frame(stacked(IN4, 40), P_MAC, bytes.fromhex("01005e800001"), kind=0x8847)) == {}
    assert world.dropped() == {Drop.LABEL_FAMILY: 3, Drop.LABEL_MULTICAST: 3}


@pytest.mark.parametrize("name", [E0, E1])
def test_V07_labelled_packet_from_a_customers_port_rfc4364_13_1(world, name):
    for label in (18, 30, 40, 99, 0):
        assert world.into(name, frame(stacked(IN4, label), kind=0x8847)) == {}
    assert world.forwarder.counters.drops == {(Drop.LABEL_INTERFACE, name): 5}


def test_V07_a_label_for_which_this_neighbour_was_not_named(world):
    """18 is for mGRE alone; 30 and 40 are for Ethernet too; 70 only for the interface it names."""
    world.label(70, Operation.POP_LOOKUP, CUST1, frozenset((CORE,)), 1)
    assert world.into(CORE, frame(stacked(IN4, 18), P_MAC, kind=0x8847)) == {}
    assert world.into("gre", labelled(IN4, 70)) == {}
    assert world.forwarder.counters.drops == {(Drop.LABEL_SCOPE, CORE): 1, (Drop.LABEL_SCOPE, TUNNEL): 1}
    for label in (30, 70):
        assert list(world.same(CORE, frame(stacked(IN4, label), P_MAC, kind=0x8847))) == [E0]


def test_V07_an_mpls_port_in_a_vrf_takes_no_other_vrfs_label(world):
    """Carrier's carrier: the scope says Ethernet, the VRF must still be the port's own (RFC 4381 3.4)."""
    world.change_interface(E1, mpls=True)
    world.readers[E1] = world.forwarder.add_attachment(world.tables.interfaces.get(E1), world.ports[E1])
    assert world.into(E1, frame(stacked(IN4, 30), kind=0x8847)) == {}
    assert world.dropped() == {Drop.LABEL_VRF: 1}
    world.label(80, Operation.POP_FORWARD, "cust2", frozenset(("ethernet",)), 1, 5)
    assert list(world.same(E1, frame(stacked(IN4, 80), kind=0x8847))) == [E1]


# --- swap and stacks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tc", [0, 5])
def test_rfc3031_3_10_swap_keeps_tc_and_lowers_the_ttl(world, tc):
    outer, inner, stack, under = unwrapped(world.same("gre", tunnelled(stacked(IN4, 40, ttl=9, tc=tc)))["raw 47 3"][0])
    assert stack == (mpls.LabelEntry(140, tc, True, 8),)
    assert under == IN4  # what is under a label that stays is not touched
    assert (outer.destination, outer.tos, inner.key) == (PE3, tc << 5, KEY)


def test_swap_with_more_labels_under_it(world):
    out = world.same("gre", labelled(IN4, 40, 1000, ttl=9))["raw 47 3"][0]
    stack = unwrapped(out)[2]
    assert [(e.label, e.bottom, e.ttl) for e in stack] == [(140, False, 8), (1000, True, 9)]


def test_swap_to_an_lsp_and_from_one(world):
    out = world.same("gre", labelled(IN4, 60))[CORE][0]
    assert ethernet.decode(out).payload == stacked(IN4, 160, ttl=63)
    padded = frame(stacked(udp4(size=0), 40), P_MAC, kind=0x8847) + bytes(22)
    stack, under = unwrapped(world.same(CORE, padded)["raw 47 3"][0])[2:]
    assert (stack[0].label, under) == (140, udp4(size=0))


def test_rfc3443_3_1_a_popped_ttl_goes_to_the_label_under_it(world):
    """50: penultimate hop, the stack goes on to PE3. The lower of both TTLs wins, less one."""
    packet = mpls.encode([mpls.LabelEntry(50, 0, False, 9), mpls.LabelEntry(1000, 3, True, 200)]) + IN4
    stack, under = unwrapped(world.same("gre", tunnelled(packet))["raw 47 3"][0])[2:]
    assert (stack, under) == ((mpls.LabelEntry(1000, 3, True, 8),), IN4)


def test_implicit_null_as_the_label_to_swap_to_is_a_pop(world):
    world.label(41, Operation.SWAP, CUST1, frozenset(("mgre",)), 1, 3, (3,))
    assert world.same("gre", labelled(IN4, 41)) == {E0: [frame(lower_ttl(IN4), OUR_MAC, CE_MAC)]}


def test_rfc3443_5_uniform_model_the_lower_ttl_wins(world):
    """A peer that does not copy TTLs (label 255) cannot raise the packet's; one that does lowers it."""
    for label_ttl, inner_ttl, left in ((64, 64, 63), (255, 64, 63), (10, 64, 9), (64, 10, 9), (2, 64, 1)):
        packet = udp4(REMOTE, CE, ttl=inner_ttl)
        sent = ethernet.decode(world.same("gre", labelled(packet, 18, ttl=label_ttl))[E0][0])
        assert ipv4.decode(sent.payload).ttl == left
        packet = udp6(REMOTE6, CE6, hop_limit=inner_ttl)
        assert ethernet.decode(world.same("gre", labelled(packet, 19, ttl=label_ttl))[E0][0]).payload[7] == left


# --- hairpins ------------------------------------------------------------------------------------------------------------


def test_hairpin_after_a_look_up_and_after_a_swap(world):
    """Back into the NHRP network that it came from: posted with its ingress, and forwarded all the same."""
    world.change_interface(TUNNEL, network_id=1, redirect=True)
    world.route(CUST1, "10.9.9.0/24", LeafKind.FORWARD, 2, (777,))
    packet = udp4(REMOTE, ip("10.9.9.1"))
    assert unwrapped(world.into("gre", labelled(packet, 18))["raw 47 3"][0])[2][0].label == 777
    assert unwrapped(world.into("gre", labelled(packet, 40))["raw 47 3"][0])[2][0].label == 140
    assert world.facts == [
        Hairpin(Ingress(TUNNEL, "", PE2, 0, label), CUST1, TUNNEL, packet[:28]) for label in (18, 40)
    ]
    world.same("gre", labelled(packet, 18))
    world.same("gre", labelled(packet, 40))
    assert len(world.facts) == 12


@pytest.mark.parametrize("row", [{"network_id": 0, "redirect": True}, {"network_id": 1, "redirect": False}])
def test_no_hairpin_without_a_network_or_without_redirect(world, row):
    world.change_interface(TUNNEL, **row)
    world.same("gre", labelled(IN4, 40))
    assert world.facts == []


def test_the_budget_of_hairpins_does_not_hold_up_packets(world):
    world.change_interface(TUNNEL, network_id=1, redirect=True)
    for _ in range(520):
        assert list(world.into("gre", labelled(IN4, 40))) == ["raw 47 3"]
    assert len(world.facts) == 500
    assert world.dropped() == {Drop.PUNT_BUDGET: 20}


# --- counters ------------------------------------------------------------------------------------------------------------


def test_counters_of_interfaces_and_labels(world):
    for _ in range(5):
        world.into("gre", labelled(IN4, 18), labelled(IN4, 40))
    rows = {row.interface: row for row in world.forwarder.snapshot().interfaces}
    assert rows[TUNNEL].packets_in == 10
    assert rows[TUNNEL].packets_out == 5
    assert rows[TUNNEL].octets_out == 5 * len(IN4)
    assert (rows[E0].packets_out, rows[E0].octets_out) == (5, 5 * len(IN4))
    assert world.forwarder.label_octets() == {18: 5 * len(IN4), 40: 5 * len(IN4)}
    world.route(CUST1, "10.99.0.0/16", LeafKind.DISCARD)
    world.change_interface(TUNNEL, description="x")
    world.into("gre", labelled(IN4, 18))
    assert world.forwarder.label_octets()[18] == 6 * len(IN4)


def test_labels_to_a_tun_attachment_are_refused(world):
    world.next_hop(9, TUN0, b"")
    world.label(90, Operation.SWAP, CUST1, frozenset(("mgre",)), 0, 9, (900,))
    assert world.into("gre", labelled(IN4, 90)) == {}
    world.adjacency(E0, ip("10.1.0.9"), AdjacencyKind.ETHERNET, complete=False)
    world.next_hop(10, E0, ip("10.1.0.9"))
    world.label(91, Operation.SWAP, CUST1, frozenset(("mgre",)), 0, 10, (900,))
    assert world.into("gre", labelled(IN4, 91)) == {}
    assert world.dropped() == {Drop.NO_LABELS_HERE: 1, Drop.UNRESOLVED: 1}


def test_echo_through_the_tunnel_to_a_vrf_address_is_answered_there(world):
    """ping PE1's own VRF address from the far site: the reply goes back through the tunnel with the far label."""
    out = world.same("gre", labelled(echo4(REMOTE, ip("10.1.0.1")), 18))
    stack, reply = unwrapped(out["raw 47 2"][0])[2:]
    assert stack[0].label == 102
    assert ipv4.decode(reply).payload[:1] == b"\0"
