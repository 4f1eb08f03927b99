"""What a hub does with others' resolutions: labels swapped, records kept, lies and loops ended."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.config import StaticMap
from nhrp.engine.snapshot import BindingKind
from nhrp.wire import cie_extension, cies_of, mpls_extension, nat_addresses_of
from nhrp.wire.mpls import ContextLabel, MplsBinding, Role
from nhrp.wire.packet import Cie, CieCode, ErrorCode, Extension, ExtensionKind, Flag, Kind, Packet
from stack.addr import RD, Afi, SwapFec, VrfFec
from stack.events import SCOPE_PROTECTED, LabelRequest, LabelWanted, NextHopKey, NextHopWanted
from tests.nhrp.net import OUI, Box, Flex, Mgre, a, flex, labels_of, mgre, p

REQUEST, REPLY, ERROR = Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY, Kind.ERROR_INDICATION


@pytest.fixture
def net() -> Flex:
    return flex()


@pytest.fixture
def many() -> Mgre:
    return mgre()


def request(label: int | None = 30, *, destination: str = "192.168.2.1", **more: object) -> Packet:
    extensions = [Extension(kind) for kind in (3, 4, 5)] + [Extension(9, compulsory=False)]
    allocator = more.pop("allocator", "10.0.0.1")
    if label is not None:
        context = MplsBinding(Role.REQUEST, ContextLabel(label, a(str(allocator))))
        extensions.append(mpls_extension(context, OUI))
    packet = Packet(
        REQUEST,
        a("172.16.1.1"),
        a("10.0.0.11"),
        a(destination),
        7,
        Flag.ROUTER | Flag.AUTHORITATIVE | Flag.STABLE_SOURCE | Flag.NAT,
        (Cie(0, 32, 1400, 600),),
        tuple(extensions),
    )
    return evolve(packet, **more) if more else packet


def at_hub(net: Flex, packet: Packet, interface: str = "Virtual-Access1", outer: str = "172.16.1.1") -> list[Packet]:
    """What the hub sends because of it."""
    before = len(net.world.wire)
    net.world.forge(net.hub, interface, outer, packet)
    return [packet for who, _, packet in net.world.wire[before:] if who == "hub"]


def nak(net: Flex, packet: Packet, code: CieCode, why: str) -> None:
    (reply,) = at_hub(net, packet)
    assert reply.kind is REPLY
    assert (reply.request_id, reply.source, reply.destination) == (7, a("10.0.0.11"), packet.destination)
    (cie,) = reply.cies
    assert (cie.code, cie.holding_time) == (code, 0)
    assert labels_of(reply) is None
    assert net.hub.counter(why) == 1, net.hub.speaker.node.counters


# --- passed on ----------------------------------------------------------------------------------------------------------


def test_rfc2332_5_3_2_a_transit_adds_itself_and_takes_a_hop(net: Flex) -> None:
    (sent,) = at_hub(net, request(hop_count=64))
    assert sent.hop_count == 63
    record = sent.extension(ExtensionKind.FORWARD_TRANSIT)
    assert record is not None
    (cie,) = cies_of(record, sent)
    assert (cie.nbma, cie.protocol) == (a("172.16.0.1"), a("10.0.0.1"))
    assert labels_of(sent).context == ContextLabel(40, a("10.0.0.12"))


def test_an_extension_that_nobody_knows_is_passed_on_unchanged(net: Flex) -> None:
    strange = Extension(77, b"\1\2\3", compulsory=False)
    packet = request()
    (sent,) = at_hub(net, evolve(packet, extensions=(*packet.extensions, strange)))
    assert strange in sent.extensions


def test_rfc2332_5_3_with_an_unknown_compulsory_extension_a_transit_does_not_add_itself(net: Flex) -> None:
    packet = request()
    (sent,) = at_hub(net, evolve(packet, extensions=(*packet.extensions, Extension(77, b"\1"))))
    record = sent.extension(ExtensionKind.FORWARD_TRANSIT)
    assert record is not None
    assert record.octets == b""


def test_rfc2332_5_3_a_responder_refuses_an_unknown_compulsory_extension(net: Flex) -> None:
    packet = request(destination="192.168.3.9")
    (sent,) = at_hub(net, evolve(packet, extensions=(*packet.extensions, Extension(77, b"\1"))))
    assert (sent.kind, sent.code) == (ERROR, ErrorCode.UNRECOGNIZED_EXTENSION)


def test_a_request_without_a_label_is_about_the_interface_s_own_vrf(net: Flex) -> None:
    nak(net, request(None), CieCode.NO_BINDING, "no route")
    (sent,) = at_hub(net, request(None, destination="10.0.0.12"))
    assert (sent.destination, labels_of(sent)) == (a("10.0.0.12"), None)


def test_the_hub_answers_for_its_own_network(net: Flex) -> None:
    (reply,) = at_hub(net, request(destination="192.168.3.9"))
    (cie,) = reply.cies
    assert (reply.kind, cie.code, cie.prefix_length, cie.protocol) == (REPLY, 0, 24, a("10.0.0.1"))
    assert labels_of(reply).fec_of(0) == (30,)
    assert set(net.hub.wanted(LabelWanted)) == {VrfFec("A", Afi.IPV4)}


# --- labels that are none of ours (V07) -----------------------------------------------------------------------------------


def test_V07_context_label_of_another_allocator_is_never_guessed(net: Flex) -> None:
    nak(net, request(allocator="10.0.0.12"), CieCode.PROHIBITED, "context label of another node")


def test_V07_context_label_that_nobody_was_given(net: Flex) -> None:
    nak(net, request(31), CieCode.PROHIBITED, "nobody was given")


def test_V07_context_label_outside_its_scope(net: Flex) -> None:
    """The label was given to others, who send in clear."""
    net.hub.no_label(VrfFec("A", Afi.IPV4))
    net.hub.label(VrfFec("A", Afi.IPV4), protected=False)
    nak(net, request(), CieCode.PROHIBITED, "this neighbour was not given")


def test_V07_context_label_of_the_other_family(net: Flex) -> None:
    net.hub.label(VrfFec("A", Afi.IPV6))
    nak(net, request(31), CieCode.PROHIBITED, "another family")


def test_V07_context_label_by_an_interface_without_mpls(many: Mgre) -> None:
    packet = request(30, source=a("10.0.0.11"), source_nbma=a("192.0.2.11"))
    before = len(many.world.wire)
    many.hub.label(VrfFec("", Afi.IPV4), 30, protected=False)
    many.world.forge(many.hub, "Tunnel0", "192.0.2.11", packet, sa=0)
    (reply,) = [packet for _, _, packet in many.world.wire[before:]]
    assert reply.cies[0].code == CieCode.PROHIBITED
    assert many.hub.counter("without MPLS") == 1


def test_a_next_hop_without_a_label_of_that_vrf_gets_no_request(net: Flex) -> None:
    net.hub.route("192.168.2.0/24", interface="Virtual-Access2", vrf="A")
    nak(net, request(), CieCode.PROHIBITED, "no label for that VRF")


# --- labels that are swapped (semantics 10, allowas-in) -----------------------------------------------------------------------


def swapping(net: Flex, *, labels: tuple[int, ...] = (40,), via: str = "10.0.0.12") -> int:
    """The hub tells B's route on with itself as next hop: a label that is swapped, and belongs to no VRF of its own."""
    key = NextHopKey("", a(via), labelled=True)
    net.hub.feed(NextHopWanted, "bgp", {key: True})
    hop = next(number for number, row in net.hub.tables.nexthops.rows.items() if row.key == key)
    fec = SwapFec(RD.parse("1:1"), p("192.168.2.0/24"), hop, labels)
    wanted = LabelRequest(frozenset({SCOPE_PROTECTED}), hop)
    net.hub.feed(LabelWanted, "bgp", {fec: wanted})
    label = net.hub.mfi.bindings[fec].label
    assert label is not None
    return label


def test_V06_a_label_that_is_swapped_is_followed_and_never_looked_up_in_the_default_table(net: Flex) -> None:
    label = swapping(net)
    net.hub.lan("Ethernet0/9", "192.168.2.77/24")  # the same addresses, in the hub's default table
    (sent,) = at_hub(net, request(label))
    assert sent.kind is REQUEST
    assert labels_of(sent).context == ContextLabel(40, a("10.0.0.12"))
    assert net.world.story()[-1][:2] == ("hub", "B")


def test_V06_redirect_and_shortcut_through_a_hub_that_swaps(net: Flex) -> None:
    label = swapping(net)
    net.a.route("192.168.2.0/24", "10.0.0.1", vrf="A", labels=(label,))
    net.up()
    assert net.a.shortcuts() == {("A", "192.168.2.0/24"): ("Virtual-Access1", (40,))}


def test_V07_a_swapped_label_says_nothing_of_other_prefixes(net: Flex) -> None:
    label = swapping(net)
    nak(net, request(label, destination="192.168.3.9"), CieCode.PROHIBITED, "another prefix")


def test_V07_a_label_of_no_vrf_is_not_the_default_table_s() -> None:
    net = flex()
    transit = net.hub.speaker.transit
    net.hub.label(VrfFec("", Afi.IPV4))
    (label,) = [number for number, row in net.hub.tables.lfib.rows.items() if row.fec == VrfFec("", Afi.IPV4)]
    (sent,) = at_hub(net, request(label, destination="10.0.0.12"))
    assert sent.kind is REQUEST  # the inside VRF is the default one
    net.hub.vrf("A", "I")
    net.hub.loopback("Loopback9", "10.9.0.1/32")
    net.hub.tunnel("Tunnel9", "172.16.1.1", "10.0.0.1/32", vrf="I", mpls=True, protection="default")
    net.hub.configure("Tunnel9")
    before = len(net.world.wire)
    stranger = request(label, destination="10.0.0.12", source=a("10.0.0.66"))
    net.world.forge(net.hub, "Tunnel9", "172.16.1.1", stranger)
    assert transit.node.counters["refused: context label of no VRF"] == 1
    assert [packet.cies[0].code for _, _, packet in net.world.wire[before:]] == [CieCode.PROHIBITED]


def test_a_swapped_label_that_leads_out_of_the_network(net: Flex) -> None:
    net.hub.tunnel("Ethernet0/8", "203.0.113.9", "198.51.100.1/24", mpls=True, network_id=0)
    net.hub.route("198.51.100.9/32", interface="Ethernet0/8", owner="static")
    label = swapping(net, via="198.51.100.9")
    nak(net, request(label), CieCode.PROHIBITED, "out of the network")


def test_V07_a_malformed_label_extension(net: Flex) -> None:
    packet = request(None)
    bad = Extension(8, OUI + b"\1\1\1\0\0\0\1\0\x09\0", compulsory=False)
    nak(net, evolve(packet, extensions=(*packet.extensions, bad)), CieCode.PROHIBITED, "malformed label extension")


# --- identity (N05) -------------------------------------------------------------------------------------------------------


def test_N05_request_in_another_s_name(net: Flex) -> None:
    (reply,) = at_hub(net, request(source=a("10.0.0.12")))
    assert reply.cies[0].code == CieCode.PROHIBITED
    assert net.hub.counter("not the address that IKEv2 has assigned") == 1


def test_N05_request_with_another_s_nbma_address(net: Flex) -> None:
    """A NAT may make it look so: then the NAT extension says where the peer really is, whatever the packet says."""
    (sent,) = at_hub(net, request(source_nbma=a("10.99.0.2")))
    listed = nat_addresses_of(sent)
    assert listed is not None
    assert [(one.nbma, one.protocol) for one in listed] == [(a("172.16.1.1"), a("10.0.0.11"))]


def test_N05_request_with_another_s_address_in_its_nat_extension(net: Flex) -> None:
    packet = request(source_nbma=a("10.99.0.2"))
    lie = cie_extension(9, (Cie(0, 32, 0, 600, a("172.16.2.1"), a("10.0.0.11")),))
    kept = tuple(one for one in packet.extensions if one.kind != 9)
    nak(net, evolve(packet, extensions=(*kept, lie)), CieCode.PROHIBITED, "NBMA address that is not its own")


def test_N05_request_from_behind_a_nat_that_knows_nothing_of_it(net: Flex) -> None:
    packet = request(source_nbma=a("10.99.0.2"))
    kept = tuple(one for one in packet.extensions if one.kind != 9)
    nak(net, evolve(packet, extensions=kept), CieCode.PROHIBITED, "no NAT extension")


def test_N05_a_reply_in_another_s_name_is_not_passed_on(net: Flex) -> None:
    net.world.unreachable.add(frozenset("AB"))

    def lie(packet: Packet, sender: Box, _to: Box) -> Packet:
        if packet.kind is REPLY and sender.name == "B":
            return evolve(packet, cies=(evolve(packet.cies[0], protocol=a("10.0.0.11")),))
        return packet

    net.world.change = lie
    net.ping()
    net.world.run(12)
    assert net.world.sent(REPLY, "hub") == []
    assert net.hub.counter("says more than its sender may") == 1


def test_N05_a_purge_in_another_s_name_is_not_passed_on(net: Flex) -> None:
    net.up()
    purge = Packet(
        Kind.PURGE_REQUEST,
        a("172.16.1.1"),
        a("10.0.0.12"),
        a("10.0.0.11"),
        9,
        0,
        (Cie(0, 24, protocol=a("192.168.2.0")),),
    )
    assert at_hub(net, purge) == []
    assert net.ping() == ["A", "B"]


def test_the_hub_fills_the_public_address_of_who_registered_from_behind_a_nat() -> None:
    net = mgre(nat="198.51.100.7")
    assert net.ping() == ["A", "hub", "B"]
    net.world.run(2)
    assert net.b.bindings(BindingKind.DYNAMIC)[0].nbma == a("198.51.100.7")
    assert net.ping() == ["A", "B"], "\n".join(net.world.events)


# --- loops (N08) ----------------------------------------------------------------------------------------------------------


def test_N08_hop_count_1_ends_here(net: Flex) -> None:
    (sent,) = at_hub(net, request(hop_count=1))
    assert (sent.kind, sent.code) == (ERROR, ErrorCode.HOP_COUNT_EXCEEDED)


def test_N08_the_transit_record_holds_ourselves(net: Flex) -> None:
    packet = request()
    record = cie_extension(4, (Cie(nbma=a("172.16.0.1"), protocol=a("10.0.0.1")),))
    kept = tuple(record if one.kind == 4 else one for one in packet.extensions)
    (sent,) = at_hub(net, evolve(packet, extensions=kept))
    assert (sent.kind, sent.code) == (ERROR, ErrorCode.LOOP)


def test_N08_the_way_leads_back_to_the_sender(net: Flex) -> None:
    nak(net, request(destination="192.168.1.77"), CieCode.NO_BINDING, "leads back")


def test_N08_two_hubs_that_send_to_each_other_end_it(many: Mgre) -> None:
    """Each takes the other for the next hop of a network that neither has."""
    other = many.world.box("hub2", "192.0.2.2")
    other.configure("Tunnel0")
    other.tunnel("Tunnel0", address="10.0.0.2/24")
    many.hub.route("172.31.0.0/16", "10.0.0.2")
    other.route("172.31.0.0/16", "10.0.0.1")
    many.hub.configure("Tunnel0", maps=(StaticMap(a("10.0.0.2"), a("192.0.2.2")),))
    other.configure("Tunnel0", maps=(StaticMap(a("10.0.0.1"), a("192.0.2.1")),))
    many.world.run(1)
    many.world.wire.clear()
    packet = request(None, destination="172.31.1.1", source_nbma=a("192.0.2.11"))
    many.world.forge(many.hub, "Tunnel0", "192.0.2.11", packet, sa=0)
    many.world.run(5)
    assert 2 <= len(many.world.wire) <= 4, many.world.wire
    answers = [one for one in many.world.wire if one[2].kind is not REQUEST]
    assert answers


# --- whoever it is for ------------------------------------------------------------------------------------------------------


def test_errors_and_purges_are_passed_on_to_whom_they_are_for(net: Flex) -> None:
    error = Packet(ERROR, a("172.16.2.1"), a("10.0.0.12"), a("10.0.0.11"), code=ErrorCode.UNREACHABLE, body=bytes(60))
    (sent,) = at_hub(net, error, "Virtual-Access2", "172.16.2.1")
    assert (sent.kind, sent.destination) == (ERROR, a("10.0.0.11"))


def test_what_is_for_nobody_here_is_refused_or_dropped(net: Flex) -> None:
    purge = Packet(Kind.PURGE_REQUEST, a("172.16.1.1"), a("10.0.0.11"), a("10.0.0.99"), 9, 0, (Cie(0, 32),))
    (sent,) = at_hub(net, purge)
    assert (sent.kind, sent.code) == (ERROR, ErrorCode.UNREACHABLE)
    assert at_hub(net, evolve(purge, kind=ERROR)) == []


def test_a_request_without_an_entry_is_a_protocol_error(net: Flex) -> None:
    (sent,) = at_hub(net, request(cies=()))
    assert (sent.kind, sent.code) == (ERROR, ErrorCode.PROTOCOL_ERROR)
