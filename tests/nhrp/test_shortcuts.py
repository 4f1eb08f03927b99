"""Entries of the requester's cache: their table of states, how they end, what never happens."""

from __future__ import annotations

import itertools

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nhrp.engine.outputs import AskUsed
from nhrp.engine.reach import NOWHERE
from nhrp.engine.shortcuts import TABLE, Answer, Input, State
from nhrp.engine.snapshot import BindingKind
from nhrp.engine.ways import Where
from nhrp.events import ShortcutDown, ShortcutUp
from nhrp.wire import mpls_extension
from nhrp.wire.mpls import FecLabel, MplsBinding, NextHopLabel, Role
from nhrp.wire.packet import Kind, Packet
from stack.addr import Afi, VrfFec
from stack.claims import Slot
from stack.events import (
    AdjacencyKey,
    AdjacencyRow,
    AdjacencyState,
    EndpointOffered,
    LabelWanted,
    RouteOffered,
    SaKey,
    SaRow,
    SaState,
    SaWanted,
)
from tests.nhrp.net import OUI, Box, Flex, Mgre, a, flex, mgre, p

REQUEST, REPLY = Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY


@pytest.fixture
def net() -> Flex:
    return flex()


@pytest.fixture
def many() -> Mgre:
    return mgre()


# --- the table ------------------------------------------------------------------------------------------------------------


def test_every_state_can_be_reached_and_left() -> None:
    entered = {after for _, after in TABLE.values()} - {None}
    assert entered | {State.PENDING} == set(State)
    assert {state for state, _ in TABLE} == set(State)
    assert {state for (state, what) in TABLE if what is Input.GONE} == set(State)


@pytest.mark.parametrize(("state", "what"), [pair for pair in itertools.product(State, Input) if pair not in TABLE])
def test_what_is_not_in_the_table_is_ignored_and_counted(net: Flex, state: State, what: Input) -> None:
    shortcuts = net.a.speaker.shortcuts
    way = net.a.speaker.ways.find("A", a("192.168.2.1"))
    entry = shortcuts.open("A", a("192.168.2.1"), way, None)
    entry.state = state
    assert not shortcuts.turn(entry, what)
    assert (entry.state, net.a.counter("is ignored")) == (state, 1)


@given(st.lists(st.sampled_from(Input), max_size=12))
@settings(max_examples=100, deadline=None)
def test_no_sequence_of_inputs_leaves_anything_behind(inputs: list[Input]) -> None:
    net = flex()
    speaker = net.a.speaker
    way = speaker.ways.find("A", a("192.168.2.1"))
    entry = speaker.shortcuts.open("A", a("192.168.2.1"), way, None)
    entry.answer = Answer(p("192.168.2.0/24"), a("10.0.0.12"), a("172.16.2.1"), 600, labels=(40,))
    for what in inputs:
        speaker.shortcuts.turn(entry, what)
    speaker.shortcuts.clear(lambda _entry: True, "the end")
    net.a.do(speaker.node.flush())
    assert net.a.rows == {}
    assert (len(speaker.shortcuts), speaker.shortcuts.unfinished, len(speaker.reach)) == (0, 0, 0)
    assert not speaker.shortcuts.requests
    assert len(speaker.node.timers) == 0


# --- how they end (N09) -----------------------------------------------------------------------------------------------------


def gone(net: Flex, reason: str = "") -> None:
    """No shortcut, no row of it, and packets go by the hub."""
    assert net.a.shortcuts() == {}
    assert Slot(RouteOffered, "", p("10.0.0.12/32")) not in net.a.rows
    assert net.ping() == ["A", "hub", "B"]
    assert reason in net.a.of(ShortcutDown)[-1].reason


def test_N09_the_peer_dies_and_its_sa_goes(net: Flex) -> None:
    net.up()
    key = SaKey("Virtual-Template1", net.b.nbma)
    net.a.feed(SaState, "ikev2", {key: SaRow(up=False, reason="the peer is dead")})
    gone(net, "the peer is dead")
    assert net.a.wanted(SaWanted) == {}


def test_N09_the_interface_goes(net: Flex) -> None:
    net.up()
    net.world.no_sa(net.a, net.b)
    gone(net)


def test_N09_the_adjacency_goes(many: Mgre) -> None:
    many.up()
    key = AdjacencyKey("Tunnel0", a("10.0.0.12"))
    many.a.feed(AdjacencyState, "tunnel", {key: AdjacencyRow(False, 1400, "endpoint unreachable", a("192.0.2.12"))})
    assert many.a.shortcuts() == {}
    assert many.ping() == ["A", "hub", "B"]
    assert many.a.rows.keys() & {Slot(EndpointOffered, "", ("Tunnel0", a("10.0.0.12")))} == set()


def test_N09_traffic_that_fell_back_is_redirected_again(net: Flex) -> None:
    net.up()
    net.world.no_sa(net.a, net.b)
    net.world.run(10)
    net.ping()
    net.world.run(2)
    assert net.ping() == ["A", "B"]


def test_N09_label_released_while_cached_is_not_given_to_another_at_once(net: Flex) -> None:
    net.up()
    net.b.no_label(VrfFec("A", Afi.IPV4))
    net.b.do(net.b.speaker.clear(net.world.now)[1])
    net.b.settle()
    assert set(net.b.wanted(LabelWanted)) == {VrfFec("A", Afi.IPV4)}
    net.world.run(1)
    assert net.a.shortcuts() == {}
    assert net.b.wanted(LabelWanted) == {}
    net.b.label(VrfFec("Z", Afi.IPV4))
    assert 40 not in net.b.tables.lfib.rows


def test_N09_a_spoke_that_changes_its_nbma_address_is_followed_at_its_next_answer(many: Mgre) -> None:
    """B moves; A's shortcut leads to the old address until the new one is there, and is then put in its place at once."""
    many.up()
    moved = a("192.0.2.99")
    many.world.boxes[moved] = many.b

    def elsewhere(packet: Packet, sender: Box, _to: Box) -> Packet:
        if packet.kind is REPLY and sender.name in ("B", "hub"):
            return evolve(packet, cies=(evolve(packet.cies[0], nbma=moved),))
        return packet

    many.world.change = elsewhere
    # The answer comes by the hub: B's old address is not its own any more.
    many.world.run(400)
    request = many.world.sent(REQUEST, "A")[-1]
    reply = many.world.sent(REPLY, "B")[-1]
    assert request.request_id == reply.request_id
    many.world.forge(many.a, "Tunnel0", "192.0.2.1", reply, sa=0)
    many.world.run(0.1)
    row = many.a.rows[Slot(EndpointOffered, "", ("Tunnel0", a("10.0.0.12")))]
    assert row.transport == moved
    assert list(many.a.shortcuts()) == [("", "192.168.2.0/24")]


def test_purge_of_the_far_end_only_what_it_said(net: Flex) -> None:
    net.up()
    speaker = net.a.speaker
    assert speaker.shortcuts.purge(a("10.0.0.13"), lambda _entry, _answer: True) == 0
    assert speaker.shortcuts.purge(a("10.0.0.12"), lambda _entry, _answer: True) == 1
    net.a.do(speaker.node.flush())
    net.a.settle()
    gone(net, "purged")


# --- use ------------------------------------------------------------------------------------------------------------------


def test_renewal_only_if_packets_were_sent(net: Flex) -> None:
    net.up()
    net.a.used.clear()
    net.world.run(599)
    assert len(net.world.sent(REQUEST, "A")) == 1
    assert [asked.prefixes for asked in net.a.asked] == [(p("192.168.2.0/24"),)] * 3
    net.world.run(2)
    gone(net, "holding time")


def test_the_first_question_only_begins_the_count(net: Flex) -> None:
    net.up()
    net.world.run(300)
    assert len(net.world.sent(REQUEST, "A")) == 1
    assert AskUsed("A", (p("192.168.2.0/24"),)) in net.a.asked


def test_use_late_in_its_life_renews_it(net: Flex) -> None:
    net.up()
    net.a.used.clear()
    net.world.run(450)
    assert net.ping() == ["A", "B"]
    net.world.run(300)
    assert net.ping() == ["A", "B"]


def test_a_renewal_that_nobody_answers_leaves_the_old_one_to_its_end(net: Flex) -> None:
    net.up()
    net.world.drop = lambda packet, _sender, _to: packet.kind is REQUEST
    for _ in range(11):
        net.world.run(50)
        assert net.ping() == ["A", "B"]
    net.world.run(60)
    gone(net, "holding time")
    assert net.a.bindings(BindingKind.NEGATIVE) == []


def test_a_renewal_with_another_label_is_make_before_break(net: Flex) -> None:
    net.up()

    def relabel(packet: Packet, sender: Box, _to: Box) -> Packet:
        if packet.kind is not REPLY or sender.name != "B":
            return packet
        kept = tuple(one for one in packet.extensions if one.kind != 8)
        binding = MplsBinding(Role.REPLY, fec=(FecLabel(0, (44,)),), next_hop=(NextHopLabel(0),))
        return evolve(packet, extensions=(*kept, mpls_extension(binding, OUI)))

    net.world.change = relabel
    net.ping()
    net.world.run(405)
    assert net.a.shortcuts() == {("A", "192.168.2.0/24"): ("Virtual-Access1", (44,))}
    assert net.a.of(ShortcutDown) == []
    assert [fact.label for fact in net.a.of(ShortcutUp)] == [40, 44]


# --- routes and labels that change (V06) --------------------------------------------------------------------------------------


def test_V06_import_rt_edited_live_the_route_goes_and_so_does_the_shortcut(net: Flex) -> None:
    net.up()
    net.a.no_route("192.168.2.0/24", vrf="A")
    assert net.a.shortcuts() == {}
    assert net.world.packet(net.a, "A", "192.168.1.1", "192.168.2.1") == ["A", "no route"]


def test_V06_both_vrfs_of_the_same_prefix_are_apart(net: Flex) -> None:
    """VRF B's route goes; VRF A's shortcut for the same prefix stays."""
    for box in (net.a, net.b, net.hub):
        box.vrf("A", "B")
        box.label(VrfFec("B", Afi.IPV4))
    net.a.lan("Ethernet0/2", "192.168.1.253/24", "B")
    net.b.lan("Ethernet0/2", "192.168.2.253/24", "B")
    net.hub.route("192.168.2.0/24", "10.0.0.12", vrf="B", labels=(41,))
    net.a.route("192.168.2.0/24", "10.0.0.1", vrf="B", labels=(31,))
    net.up()
    net.world.packet(net.a, "B", "192.168.1.1", "192.168.2.1")
    net.world.run(2)
    assert len(net.a.shortcuts()) == 2
    net.a.no_route("192.168.2.0/24", vrf="B")
    assert net.a.shortcuts() == {("A", "192.168.2.0/24"): ("Virtual-Access1", (40,))}


def test_V06_a_vrf_that_goes_takes_all_with_it(net: Flex) -> None:
    net.up()
    net.a.no_route("192.168.2.0/24", vrf="A")
    net.a.vrf()
    net.world.run(1)
    assert [slot for slot in net.a.rows if slot.table == "A"] == []


def test_V06_nothing_is_asked_or_answered_without_a_route(net: Flex) -> None:
    net.hub.no_route("192.168.2.0/24", vrf="A")
    assert net.ping() == ["A", "hub", "no route"]
    net.world.run(1)
    assert net.world.story() == []


def test_a_route_that_leaves_the_network_ends_the_shortcut(net: Flex) -> None:
    net.up()
    net.a.route("192.168.2.0/24", interface="Ethernet0/1", vrf="A", owner="static")
    net.a.no_route("192.168.2.0/24", vrf="A")
    assert net.a.shortcuts() == {}
    assert net.a.of(ShortcutDown)[-1].reason == "its route no longer leaves by the NHRP network"


def test_another_allocator_of_the_context_label_ends_it(net: Flex) -> None:
    net.up()
    net.a.route("10.0.0.2/32", interface="Tunnel0", owner="static")
    net.a.route("192.168.2.0/24", "10.0.0.2", vrf="A", labels=(30,))
    assert net.a.shortcuts() == {}
    assert net.a.of(ShortcutDown)[-1].reason == "the label of its VRF is another node's now"


def test_another_context_label_of_the_same_hub_does_not(net: Flex) -> None:
    net.up()
    net.a.route("192.168.2.0/24", "10.0.0.1", vrf="A", labels=(33,))
    assert len(net.a.shortcuts()) == 1


def test_a_route_within_a_shortcut_s_prefix_that_covers_the_destination_ends_it() -> None:
    net = flex(default_only=True)
    net.up()
    net.a.route("192.168.2.0/25", "10.0.0.1", vrf="A", labels=(30,), owner="static")
    assert net.a.shortcuts() == {}


def test_routes_elsewhere_change_nothing(net: Flex) -> None:
    net.up()
    for number in range(50):
        net.a.route(f"172.30.{number}.0/24", "10.0.0.1", vrf="A", labels=(30,))
    assert len(net.a.shortcuts()) == 1
    assert net.a.of(ShortcutDown) == []


def test_a_pending_resolution_whose_route_goes_is_forgotten(net: Flex) -> None:
    net.world.drop = lambda packet, _sender, _to: packet.kind is REQUEST
    net.ping()
    net.world.run(0.1)
    net.a.no_route("192.168.2.0/24", vrf="A")
    assert (net.a.bindings(), len(net.a.speaker.node.timers)) == ([], 0)


def test_without_the_line_shortcuts_go(net: Flex) -> None:
    net.up()
    net.a.configure("Tunnel0", virtual_template=1)
    net.world.run(0.1)
    assert net.a.shortcuts() == {}


def test_an_interface_that_leaves_the_network_takes_shortcuts_away(net: Flex) -> None:
    net.up()
    net.a.tunnel("Tunnel0", "172.16.0.1", "10.0.0.11/32", mpls=True, protection="default", network_id=0)
    net.world.run(1)
    assert net.a.shortcuts() == {}


# --- anything, in any order ---------------------------------------------------------------------------------------------------

STEPS = ["ping", "back", "wait", "long", "sa", "lose", "deliver", "route", "no route", "label", "clear", "crash"]


@given(st.lists(st.sampled_from(STEPS), max_size=25))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_no_packet_is_lost_for_long_and_nothing_stays(steps: list[str]) -> None:
    """After ten seconds of quiet, packets arrive in the right VRF; after the holding times, nothing is left of it."""
    net = flex(holding_time=60)
    for step in steps:
        match step:
            case "ping":
                net.ping()
            case "back":
                net.back()
            case "wait":
                net.world.run(1)
            case "long":
                net.world.run(45)
            case "sa":
                net.world.no_sa(net.a, net.b)
            case "lose":
                net.world.drop = lambda _packet, _sender, _to: True
            case "deliver":
                net.world.drop = lambda _packet, _sender, _to: False
            case "no route":
                net.a.no_route("192.168.2.0/24", vrf="A")
            case "route":
                net.a.route("192.168.2.0/24", "10.0.0.1", vrf="A", labels=(30,))
            case "label":
                net.b.no_label(VrfFec("A", Afi.IPV4))
                net.b.label(VrfFec("A", Afi.IPV4))
            case "clear":
                net.b.do(net.b.speaker.clear(net.world.now)[1])
                net.b.settle()
            case "crash":
                net.b.crash()
                net.b.restart()
        for box in (net.a, net.b):
            check(box)
    net.world.drop = lambda _packet, _sender, _to: False
    net.a.route("192.168.2.0/24", "10.0.0.1", vrf="A", labels=(30,))
    net.world.run(200)
    assert net.ping() == ["A", "hub", "B"], "\n".join(net.world.events)
    assert (net.a.shortcuts(), net.b.shortcuts()) == ({}, {})
    net.world.run(10)
    net.ping()
    net.world.run(10)
    assert net.ping() == ["A", "B"], "\n".join(net.world.events)


def check(box: Box) -> None:
    """What must be so at any time."""
    speaker = box.speaker
    for entry in speaker.shortcuts:
        complete = entry.state is State.COMPLETE
        assert complete == bool(speaker.node.claims.of(entry.number))
        if complete:
            assert entry.reached.usable
            assert speaker.ways.find(entry.vrf, entry.destination).where is Where.NETWORK
        if entry.state is State.NEGATIVE:
            assert speaker.reach.state(entry.number) is NOWHERE
    numbers = {entry.number for entry in speaker.shortcuts} | {record.number for record in speaker.egress}
    held = set(speaker.reach._holds)
    assert held <= numbers | {purge.record.number for purge in speaker.egress._purges.values()}
