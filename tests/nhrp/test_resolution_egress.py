"""What an egress answers, when, and for how long that stands."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.engine.egress import LABEL_WITHIN, MOST_OF_ONE, TUNNEL_WITHIN
from nhrp.engine.snapshot import BindingKind
from nhrp.events import ShortcutDown
from nhrp.wire import mpls_extension
from nhrp.wire.mpls import ContextLabel, MplsBinding, Role
from nhrp.wire.packet import Cie, CieCode, Extension, Flag, Kind, Packet
from stack.addr import Afi, PrefixFec, VrfFec
from stack.claims import Slot
from stack.events import AdjacencyKey, AdjacencyRow, AdjacencyState, LabelWanted, RouteOffered, SaKey, SaWanted
from tests.nhrp.net import OUI, Flex, Mgre, a, flex, labels_of, mgre, p

REQUEST, REPLY = Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY
STABLE = Flag.ROUTER | Flag.AUTHORITATIVE | Flag.STABLE_SOURCE | Flag.NAT


@pytest.fixture
def net() -> Flex:
    return flex()


@pytest.fixture
def many() -> Mgre:
    return mgre()


def request(
    destination: str = "192.168.2.1", *, source: str = "10.0.0.11", nbma: str = "172.16.1.1", **more: object
) -> Packet:
    label = MplsBinding(Role.REQUEST, ContextLabel(int(str(more.pop("label", 40))), a("10.0.0.12")))
    extensions = (*(Extension(kind) for kind in (3, 4, 5)), Extension(9, compulsory=False), mpls_extension(label, OUI))
    record = Extension(4, bytes.fromhex("0000000000001c2004000400") + a("172.16.0.1") + a("10.0.0.1"))
    packet = Packet(
        REQUEST,
        a(nbma),
        a(source),
        a(destination),
        7,
        STABLE,
        (Cie(0, 32, 1400, 600),),
        (extensions[0], record, *extensions[2:]),
    )
    return evolve(packet, **more) if more else packet


def at_b(net: Flex, packet: Packet, seconds: float = 0.0) -> list[Packet]:
    before = len(net.world.wire)
    net.world.forge(net.b, "Tunnel0", "172.16.0.1", packet)
    net.world.run(seconds)
    return [packet for who, _, packet in net.world.wire[before:] if who == "B"]


# --- when -----------------------------------------------------------------------------------------------------------------


def test_it_answers_straight_when_the_tunnel_is_up(net: Flex) -> None:
    assert at_b(net, request()) == []
    (reply,) = at_b(net, request(request_id=7), 1)
    assert reply.kind is REPLY
    assert net.world.story()[-1] == ("B", "A", REPLY)


def test_how_long_it_took_and_how_much_of_that_was_the_tunnel(net: Flex) -> None:
    at_b(net, request(), 1)
    first = next(one for one in net.b.speaker.snapshot(net.world.now).bindings if one.kind is BindingKind.LOCAL)
    assert first.took is not None
    assert first.waited is not None
    assert 0 < first.waited <= first.took < 1
    at_b(net, request("192.168.2.7", source="10.0.0.11", request_id=8), 1)  # the tunnel stands by now
    again = next(one for one in net.b.speaker.snapshot(net.world.now).bindings if one.kind is BindingKind.LOCAL)
    assert (again.took, again.waited) == (0, 0)


def test_without_a_tunnel_in_time_no_part_of_it_was_the_tunnel(net: Flex) -> None:
    net.world.unreachable.add(frozenset("AB"))
    at_b(net, request(), TUNNEL_WITHIN + 0.5)
    (local,) = (one for one in net.b.speaker.snapshot(net.world.now).bindings if one.kind is BindingKind.LOCAL)
    assert (local.took, local.waited) == (TUNNEL_WITHIN, None)


def test_it_answers_by_the_hub_when_the_tunnel_does_not_come_up(net: Flex) -> None:
    net.world.unreachable.add(frozenset("AB"))
    assert at_b(net, request(), TUNNEL_WITHIN - 0.5) == []
    net.world.run(1)
    assert ("B", "hub", REPLY) in net.world.story()


def test_retransmissions_are_answered_once(net: Flex) -> None:
    for _ in range(4):
        assert at_b(net, request()) == []
    net.world.run(1)
    assert len(net.world.sent(REPLY, "B")) == 1
    assert len(net.b.speaker.egress.records) == 1


def test_a_repetition_after_the_answer_is_answered_again_without_more_state(net: Flex) -> None:
    at_b(net, request(), 1)
    assert len(at_b(net, request(), 1)) == 1
    assert len(net.b.speaker.egress.records) == 1


def test_N06_a_requester_that_is_not_stable_is_answered_but_not_kept(net: Flex) -> None:
    for packet in (request(flags=STABLE & ~Flag.STABLE_SOURCE), request(cies=(Cie(0, 32, 1400, 0),))):
        net = flex()
        (reply,) = at_b(net, packet)
        assert reply.cies[0].code == 0
        assert net.b.wanted(SaWanted) == {}
        assert Slot(RouteOffered, "", p("10.0.0.11/32")) not in net.b.rows


def test_where_nothing_builds_a_tunnel_the_answer_goes_back_at_once(net: Flex) -> None:
    net.b.configure("Tunnel0", shortcut=True)
    (reply,) = at_b(net, request())
    assert reply.cies[0].code == 0
    assert net.world.story()[-1] == ("B", "hub", REPLY)


# --- what -----------------------------------------------------------------------------------------------------------------


def test_prefix_of_a_connected_network_and_of_a_route(net: Flex) -> None:
    net.b.route("192.168.8.0/21", "192.168.2.7", vrf="A")
    router = AdjacencyKey("Ethernet0/1", a("192.168.2.7"))
    net.b.feed(AdjacencyState, "tunnel", {router: AdjacencyRow(usable=True, mtu=1500)})
    at_b(net, request(), 1)
    at_b(net, request("192.168.9.1", request_id=8), 1)
    replies = net.world.sent(REPLY, "B")
    assert [reply.cies[0].prefix_length for reply in replies] == [24, 21]
    assert [labels_of(reply).fec_of(0) for reply in replies] == [(40,), (40,)]


def test_behind_a_default_route_the_host_alone_is_answered(net: Flex) -> None:
    net.b.route("0.0.0.0/0", interface="Ethernet0/1", vrf="A")
    (reply,) = at_b(net, request("203.0.113.9"), 1)
    assert reply.cies[0].prefix_length == 32


def test_an_address_of_our_own_is_answered_with_its_network(net: Flex) -> None:
    (reply,) = at_b(net, request("192.168.2.254"), 1)
    assert reply.cies[0].prefix_length == 24


def test_the_answer_s_holding_time_is_our_own(net: Flex) -> None:
    (reply,) = at_b(net, request(), 1)
    assert reply.cies[0].holding_time == 600


def test_N05_a_requester_that_takes_the_hub_s_address_is_refused(net: Flex) -> None:
    (reply,) = at_b(net, request(source="10.0.0.1"))
    assert reply.cies[0].code == CieCode.PROHIBITED
    assert net.b.wanted(SaWanted) == {}


def test_N05_a_requester_that_takes_our_nbma_address_is_refused(net: Flex) -> None:
    (reply,) = at_b(net, request(nbma="172.16.2.1"))
    assert reply.cies[0].code == CieCode.PROHIBITED


def test_N05_another_spoke_cannot_take_a_tunnel_over(net: Flex) -> None:
    """C has an SA with B, and says that it is A."""
    at_b(net, request(), 1)
    cee = net.world.box("C", "172.16.3.1", 60)
    cee.make_template("Virtual-Template1", mpls=True)
    name = net.b.access(cee.nbma)
    straight = request(nbma="172.16.3.1", request_id=9)
    straight = evolve(straight, extensions=tuple(Extension(4) if one.kind == 4 else one for one in straight.extensions))
    before = len(net.world.wire)
    net.world.forge(net.b, name, "172.16.3.1", straight)
    (reply,) = [packet for who, _, packet in net.world.wire[before:] if who == "B"]
    assert reply.cies[0].code == CieCode.PROHIBITED
    assert set(net.b.wanted(SaWanted)) == {SaKey("Virtual-Template1", a("172.16.1.1"))}


# --- labels ---------------------------------------------------------------------------------------------------------------


def test_V08_one_label_for_all_requesters_of_a_vrf_until_the_last_is_gone(net: Flex) -> None:
    fec = VrfFec("A", Afi.IPV4)
    net.world.unreachable.add(frozenset("AB"))
    at_b(net, request(), 11)
    net.world.run(300)
    at_b(net, request(source="10.0.0.13", nbma="172.16.3.1", request_id=8), 11)
    assert net.b.wanted(LabelWanted).keys() == {fec}
    net.b.no_label(fec)
    net.world.run(350)  # the first is over
    assert net.b.mfi.bindings[fec].label == 40
    net.world.run(350)
    assert fec not in net.b.mfi.bindings
    assert 40 in net.b.tables.lfib.resting
    assert net.b.rows == {}


def test_V08_a_label_that_cannot_be_had_is_refused(net: Flex) -> None:
    """MFI's range is exhausted."""
    net.b.no_label(VrfFec("A", Afi.IPV4))
    net.b.label(PrefixFec("A", p("192.168.2.0/24")))
    for number in range(20):
        net.b.label(PrefixFec("X", p(f"10.{number}.0.0/16")), owner="other")
    net.b.route("192.168.8.0/24", interface="Ethernet0/1", vrf="A")
    label = next(label for label, row in net.b.tables.lfib.rows.items() if row.vrf == "A")
    (reply,) = at_b(net, request("192.168.8.1", label=label))
    assert reply.cies[0].code == CieCode.INSUFFICIENT_RESOURCES
    assert net.b.wanted(LabelWanted) == {}


def test_a_label_that_never_comes_is_refused_in_time(net: Flex) -> None:
    net.b.has_mfi = False
    fec = VrfFec("A", Afi.IPV4)
    net.b.speaker.node.labels.pop(fec)
    assert at_b(net, request(), LABEL_WITHIN - 0.1) == []
    net.world.run(0.2)
    (reply,) = net.world.sent(REPLY, "B")
    assert reply.cies[0].code == CieCode.INSUFFICIENT_RESOURCES
    assert net.b.rows == {}


def test_without_a_context_label_no_label_is_wanted(many: Mgre) -> None:
    many.up()
    assert many.b.wanted(LabelWanted) == {}


# --- taken back -----------------------------------------------------------------------------------------------------------


def test_rfc2332_5_2_5_a_prefix_that_goes_is_purged_at_all_requesters(net: Flex) -> None:
    net.up()
    net.b.lan("Ethernet0/1", "192.168.2.254/24", "B")
    net.b.settle()
    net.world.run(0.1)
    assert net.a.shortcuts() == {}
    assert [fact.reason for fact in net.a.of(ShortcutDown)] == ["purged by the far end"]
    assert net.world.sent(Kind.PURGE_REPLY, "A") != []
    assert net.b.wanted(LabelWanted) == {}


def test_a_purge_is_repeated_until_it_is_answered(net: Flex) -> None:
    net.up()
    net.world.drop = lambda packet, _sender, _to: packet.kind is Kind.PURGE_REQUEST
    net.b.lan("Ethernet0/1", "192.168.2.254/24", "B")
    net.world.run(2)
    assert len(net.world.sent(Kind.PURGE_REQUEST)) == 2
    assert len({packet.request_id for packet in net.world.sent(Kind.PURGE_REQUEST)}) == 1
    assert set(net.b.wanted(LabelWanted)) == {VrfFec("A", Afi.IPV4)}  # until it has heard
    net.world.run(10)
    assert net.b.wanted(LabelWanted) == {}
    assert len(net.b.speaker.egress) == 0


def test_V08_a_label_that_changes_is_purged(net: Flex) -> None:
    net.up()
    fec = VrfFec("A", Afi.IPV4)
    net.b.label(fec, 47)
    net.world.run(0.1)
    assert net.a.shortcuts() == {}
    assert net.world.sent(Kind.PURGE_REQUEST, "B") != []


def test_a_purge_names_the_label_and_so_the_vrf(net: Flex) -> None:
    """Two VRFs of A have 192.168.2.0/24 by B; only one of them goes."""
    for box in (net.a, net.b, net.hub):
        box.vrf("A", "B")
        box.label(VrfFec("B", Afi.IPV4))
    net.a.lan("Ethernet0/2", "192.168.1.253/24", "B")
    net.b.lan("Ethernet0/2", "192.168.2.253/24", "B")
    net.hub.route("192.168.2.0/24", "10.0.0.12", vrf="B", labels=(41,))
    net.a.route("192.168.2.0/24", "10.0.0.1", vrf="B", labels=(31,))
    net.up()
    assert net.world.packet(net.a, "B", "192.168.1.1", "192.168.2.1") == ["A", "hub", "B"]
    net.world.run(2)
    assert net.a.shortcuts() == {
        ("A", "192.168.2.0/24"): ("Virtual-Access1", (40,)),
        ("B", "192.168.2.0/24"): ("Virtual-Access1", (41,)),
    }
    net.b.lan("Ethernet0/2", "192.168.2.253/24", "A2")
    net.world.run(1)
    assert list(net.a.shortcuts()) == [("A", "192.168.2.0/24")]


def test_a_route_that_moves_into_the_network_is_no_answer_any_more(net: Flex) -> None:
    net.b.route("192.168.8.0/24", interface="Ethernet0/1", vrf="A")
    at_b(net, request("192.168.8.1"), 1)
    net.b.route("192.168.8.0/24", "10.0.0.1", vrf="A", labels=(30,))
    net.world.run(1)
    assert net.b.bindings(BindingKind.LOCAL) == []
    assert net.world.sent(Kind.PURGE_REQUEST, "B") != []


def test_a_more_specific_route_ends_an_answer_that_covered_it(net: Flex) -> None:
    net.b.route("192.168.8.0/21", interface="Ethernet0/1", vrf="A")
    at_b(net, request("192.168.8.1"), 1)
    net.b.route("192.168.8.0/24", "10.0.0.1", vrf="A", labels=(30,), owner="static")
    net.world.run(1)
    assert net.b.bindings(BindingKind.LOCAL) == []


def test_the_cache_is_bounded() -> None:
    net = flex(cache_limit=6)  # half of it for our own shortcuts
    net.world.unreachable.add(frozenset("AB"))
    for number in range(5):
        at_b(net, request(source=f"10.0.0.{20 + number}", nbma=f"172.16.9.{number + 1}", request_id=number + 1), 11)
    codes = [packet.cies[0].code for packet in net.world.sent(REPLY, "B")]
    assert sorted(codes) == [0, 0, 0, CieCode.INSUFFICIENT_RESOURCES, CieCode.INSUFFICIENT_RESOURCES]


def test_one_requester_cannot_take_the_whole_table(net: Flex) -> None:
    net.b.route("0.0.0.0/0", interface="Ethernet0/1", vrf="A")
    for number in range(MOST_OF_ONE + 5):
        at_b(net, request(f"203.0.{number >> 8}.{number & 255}", request_id=number + 1), 0.002)
    assert len(net.b.speaker.egress.records) == MOST_OF_ONE
    assert net.b.counter("too many answers") == 5
    net.world.run(700)
    assert (len(net.b.speaker.egress), net.b.rows) == (0, {})


def test_many_hosts_of_one_network_take_one_label(net: Flex) -> None:
    net.b.no_label(VrfFec("A", Afi.IPV4))
    net.b.label(PrefixFec("A", p("192.168.2.0/24")))
    net.b.route("0.0.0.0/0", interface="Ethernet0/1", vrf="A")
    for number in range(5):
        at_b(net, request(f"203.0.113.{number}", request_id=number + 1, label=41), 1)
    assert set(net.b.wanted(LabelWanted)) == {PrefixFec("A", p("0.0.0.0/0"))}
