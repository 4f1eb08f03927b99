"""Identity binding: behind an interface on which IKEv2 assigns addresses, only those may speak BGP.

hub --Virtual-Access1-- spoke A  10.1.1.3 (assigned)
    --Virtual-Access2-- spoke B  10.1.1.4 (assigned), and 10.1.1.9 that it made up
    --Tunnel0 (mGRE)--- 10.2.1.3, 10.2.1.4 (assigned)
    --Ethernet0/0------ 192.0.2.2 (nothing is assigned)
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp.config import ConnectionMode, ListenRange, NeighborConfig
from bgp.engine.fsm import State
from bgp.engine.outputs import Publish
from bgp.engine.session_binding import LOGGED, MAX_WAITING, RECENT, WAIT, Refusal, Refusals, Wants
from bgp.engine.session_ends import EndReason, Hold
from bgp.wire import Notification, Open, Session, encode
from stack.addr import Prefix, format_address, parse_address
from stack.events import Delta, NextHopKey, NextHopRow, NextHopState, NextHopWanted, OverlayRow, OverlayState
from tests.bgp.engine.session_world import A, Node, World, config, neighbor
from tests.bgp.engine.test_session_parts import interface
from tests.bgp.engine.test_speaker import come_up, in_node

ip = parse_address
ONE, TWO, MADE_UP, PLAIN = ip("10.1.1.3"), ip("10.1.1.4"), ip("10.1.1.9"), ip("192.0.2.2")
NBMA = ip("172.16.1.103")


def hub(**more: Any) -> tuple[World, Node]:
    settings = config(
        peer_groups={"mpls": NeighborConfig(remote_as=100, mode=ConnectionMode.PASSIVE, update_source="Loopback0")},
        listen_ranges=(ListenRange(Prefix.parse("0.0.0.0/0"), "mpls"),),
        **more,
    )
    return in_node(settings, interface("Loopback0", "192.0.2.1/32"))


def assign(node: Node, *rows: tuple[str, bytes, str | None], owner: bytes = NBMA) -> None:
    told = {(name, address): who and OverlayRow(who, owner) for name, address, who in rows}
    node.do(node.speaker.receive(Delta(OverlayState, "ikev2", 1, "", told), node.world.now))


def routed(node: Node, address: bytes, by: str | None, *, usable: bool = True, vrf: str = "") -> None:
    row = None if by is None else NextHopRow(usable, "" if usable else "closed", 0, by, 7)
    node.do(
        node.speaker.receive(Delta(NextHopState, "routing", 1, "", {NextHopKey(vrf, address): row}), node.world.now)
    )


def call(node: Node, remote: bytes) -> int:
    number = node.speaker.number()
    node.ends[number] = (node, 0)
    node.do(node.speaker.accepted(number, "", A, remote, node.world.now))
    return number


def wanted(node: Node) -> set[bytes]:
    found: dict[NextHopKey, bool | None] = {}
    for one in node.published:
        if isinstance(one, Publish) and one.topic is NextHopWanted:
            found.update(one.rows)
    return {key.address for key, row in found.items() if row}


def states(node: Node) -> dict[str, State]:
    return {format_address(one.key[1]): one.state for one in node.speaker.snapshot().peers}


# --- who may come -----------------------------------------------------------------------------------------------------


def test_where_nothing_is_assigned_nobody_is_asked() -> None:
    _, node = hub()
    come_up(node, PLAIN, asn=100)
    assert states(node) == {"192.0.2.2": State.ESTABLISHED}
    assert wanted(node) == set()
    assign(node, ("Virtual-Access1", ONE, "spoke A"))
    assert wanted(node) == {PLAIN}
    routed(node, PLAIN, "Ethernet0/0")
    assert states(node) == {"192.0.2.2": State.ESTABLISHED}
    assign(node, ("Virtual-Access1", ONE, None))
    assert wanted(node) == set()


@pytest.mark.parametrize("order", ["rows first", "word of routing first"])
def test_an_assigned_address_may_come_and_no_other(order: str) -> None:
    _, node = hub()
    assign(node, ("Virtual-Access1", ONE, "spoke A"), ("Virtual-Access2", TWO, "spoke B"))
    if order == "word of routing first":
        for address, by in ((ONE, "Virtual-Access1"), (MADE_UP, "Virtual-Access2")):
            routed(node, address, by)
    for address, by in ((ONE, "Virtual-Access1"), (MADE_UP, "Virtual-Access2")):
        number = come_up(node, address, asn=100)
        if order == "rows first":
            assert number in node.speaker._waiting
            routed(node, address, by)
    assert states(node) == {"10.1.1.3": State.ESTABLISHED}
    snapshot = node.speaker.snapshot()
    assert snapshot.peers[0].bound == "spoke A"
    assert snapshot.refused == {Refusal.NOT_ASSIGNED.value: 1}
    assert list(snapshot.refusals) == [(Refusal.NOT_ASSIGNED, "", MADE_UP)]
    assert [log.fields["peer"] for log in node.logs if log.event == "connection refused"] == ["10.1.1.9"]
    assert not node.speaker._waiting


def test_the_address_of_one_spoke_is_not_taken_from_another() -> None:
    """B is routed A's address: what it may speak for is what IKEv2 gave it, on its own interface."""
    _, node = hub()
    assign(node, ("Virtual-Access1", ONE, "spoke A"), ("Virtual-Access2", TWO, "spoke B"))
    routed(node, ONE, "Virtual-Access2")
    come_up(node, ONE, asn=100)
    assert states(node) == {}
    assert node.speaker.snapshot().refused == {"not an address that IKEv2 assigned": 1}


def test_on_a_multipoint_interface_each_of_its_rows_may_come() -> None:
    _, node = hub()
    assign(node, ("Tunnel0", ONE, "spoke A"), ("Tunnel0", TWO, "spoke B"))
    for address in (ONE, TWO, MADE_UP):
        routed(node, address, "Tunnel0")
        come_up(node, address, asn=100)
    assert states(node) == {"10.1.1.3": State.ESTABLISHED, "10.1.1.4": State.ESTABLISHED}
    assert [one.bound for one in node.speaker.snapshot().peers] == ["spoke A", "spoke B"]


def test_what_comes_before_it_is_let_in_is_not_lost_and_bounded() -> None:
    world, node = hub()
    assign(node, ("Virtual-Access1", ONE, "spoke A"))
    number = call(node, ONE)
    octets = encode(Open(100, 90, b"\n\t\1\1"), Session())
    for at in range(0, len(octets), 7):
        node.do(node.speaker.octets(number, octets[at : at + 7], world.now))
    routed(node, ONE, "Virtual-Access1")
    assert states(node) == {"10.1.1.3": State.OPEN_CONFIRM}
    loud = call(node, TWO)
    node.do(node.speaker.octets(loud, bytes(9000), world.now))
    assert loud not in node.ends
    gone = call(node, TWO)
    node.do(node.speaker.tcp_closed(gone, "closed", world.now))
    silent = call(node, TWO)
    world.run(WAIT + 1)
    assert silent not in node.ends
    assert node.speaker.snapshot().refused == {Refusal.TALKS.value: 1, Refusal.UNROUTED.value: 1}
    assert wanted(node) == {ONE}
    assert not node.speaker._waiting


def test_only_so_many_wait() -> None:
    _, node = hub()
    assign(node, ("Virtual-Access1", ONE, "spoke A"))
    for number in range(MAX_WAITING + 3):
        call(node, ip(f"10.9.{number >> 8}.{number & 255}"))
    assert len(node.speaker._waiting) == MAX_WAITING
    assert node.speaker.snapshot().refused == {Refusal.CROWD.value: 3}
    node.do(node.speaker.stop(node.world.now))
    assert not node.ends


def test_a_configured_neighbor_is_bound_too() -> None:
    """It neither may connect nor do we connect to it."""
    _, node = in_node(
        config(neighbors=(neighbor(MADE_UP, 100, ebgp_multihop=255), neighbor(TWO, 100, ebgp_multihop=255))),
        interface("Loopback0", "192.0.2.1/32"),
    )
    assign(node, ("Virtual-Access2", TWO, "spoke B"))
    assert wanted(node) == {TWO, MADE_UP}
    assert len(node.dialling) == 2
    routed(node, MADE_UP, "Virtual-Access2")
    routed(node, TWO, "Virtual-Access2")
    assert [connect.remote for connect in node.connects if connect.connection in node.dialling] == [TWO]
    assert (node.state(MADE_UP), node.peer(MADE_UP).hold) == (State.IDLE, Hold.NOT_ASSIGNED)
    call(node, MADE_UP)
    assert node.peer(MADE_UP).refused == {Refusal.NOT_ASSIGNED.value: 1}
    routed(node, MADE_UP, "Ethernet0/0")
    assert node.state(MADE_UP) is State.CONNECT


# --- when it changes --------------------------------------------------------------------------------------------------


def up(node: Node, *addresses: bytes) -> None:
    for number, address in enumerate(addresses, 1):
        assign(node, (f"Virtual-Access{number}", address, f"spoke {number}"))
        routed(node, address, f"Virtual-Access{number}")
        come_up(node, address, asn=100)
        assert states(node)[format_address(address)] is State.ESTABLISHED


def test_with_the_sa_the_session_goes_at_once() -> None:
    _, node = hub()
    up(node, ONE, TWO)
    assign(node, ("Virtual-Access1", ONE, None))
    assert states(node) == {"10.1.1.4": State.ESTABLISHED}
    assert node.said[-1] == Notification(6, 5)
    assert node.facts[-1].reason == EndReason.UNBOUND.value
    assert list(node.ribs.up) == [("", TWO)]


def test_an_address_that_moves_to_another_identity_inherits_no_session() -> None:
    """The rows of both may come as one: the session must not live on, and the new one's is its own."""
    _, node = hub()
    up(node, ONE)
    assign(node, ("Virtual-Access1", ONE, "spoke 7"))
    assert states(node) == {}
    assert node.facts[-1].reason == EndReason.UNBOUND.value
    come_up(node, ONE, asn=100)
    assert node.peer(ONE).bound == "spoke 7"
    assert node.state(ONE) is State.ESTABLISHED


def test_a_session_in_clear_is_not_inherited_by_who_gets_its_address() -> None:
    _, node = hub()
    come_up(node, ONE, asn=100)
    assert node.state(ONE) is State.ESTABLISHED
    assign(node, ("Virtual-Access1", ONE, "spoke 1"))
    routed(node, ONE, "Virtual-Access1")
    assert states(node) == {}


def test_a_peer_that_comes_anew_on_another_interface_keeps_its_session() -> None:
    """Reauthentication, make before break: a new access interface for the same identity and address."""
    _, node = hub()
    up(node, ONE)
    assign(node, ("Virtual-Access5", ONE, "spoke 1"))
    assign(node, ("Virtual-Access1", ONE, None))
    assert node.state(ONE) is State.ESTABLISHED
    routed(node, ONE, "Virtual-Access5")
    assert node.state(ONE) is State.ESTABLISHED
    assert node.peer(ONE).bound == "spoke 1"
    assign(node, ("Virtual-Access5", ONE, "spoke 1"), owner=ip("172.16.9.9"))  # it only moved its NBMA address
    assert node.state(ONE) is State.ESTABLISHED
    assign(node, ("Virtual-Access5", ONE, None))
    assert states(node) == {}


def test_a_neighbor_whose_route_is_drawn_into_a_tunnel_loses_its_session() -> None:
    """A spoke announces the address of another neighbour of ours."""
    _, node = hub()
    up(node, ONE)
    come_up(node, PLAIN, asn=100)
    routed(node, PLAIN, "Ethernet0/0")
    assert node.state(PLAIN) is State.ESTABLISHED
    routed(node, PLAIN, "Virtual-Access1")
    assert states(node) == {"10.1.1.3": State.ESTABLISHED}
    assert node.facts[-1].reason == EndReason.NOT_ASSIGNED.value


def test_a_row_that_comes_late_ends_what_may_not_be_there() -> None:
    _, node = hub()
    up(node, ONE)
    routed(node, MADE_UP, "Virtual-Access2")
    come_up(node, MADE_UP, asn=100)
    assert node.state(MADE_UP) is State.ESTABLISHED  # nothing is assigned on Virtual-Access2
    assign(node, ("Virtual-Access2", TWO, "spoke 2"))
    assert states(node) == {"10.1.1.3": State.ESTABLISHED}


def test_a_closed_tunnel_still_says_by_which_interface() -> None:
    _, node = hub()
    up(node, ONE)
    routed(node, ONE, "Virtual-Access1", usable=False)
    assert node.state(ONE) is State.ESTABLISHED


def test_refusals_are_logged_at_a_limited_rate_and_all_counted() -> None:
    one = Refusals()
    said = [one.count(Refusal.NOT_ASSIGNED, "", bytes((10, 0, n >> 8, n & 255)), 0.1 * n) for n in range(500)]
    assert said.count(True) == LOGGED
    assert one.counts == {Refusal.NOT_ASSIGNED.value: 500}
    assert len(one.recent) == RECENT
    assert one.count(Refusal.LIMIT, "", ONE, 100.0)


def test_a_next_hop_is_let_go_when_neither_tables_nor_sessions_want_it() -> None:
    wants, key = Wants(), NextHopKey("", ONE)
    assert wants.of_tables({key: True}) == {key: True}
    assert wants.of_sessions({key: True}) == {}
    assert wants.of_tables({key: None}) == {}
    assert wants.of_tables({key: True}) == {}
    assert wants.of_sessions({key: None}) == {}
    assert wants.of_tables({key: None}) == {key: None}


# --- whatever order ---------------------------------------------------------------------------------------------------

NAMES, PEOPLE = ("Virtual-Access1", "Virtual-Access2"), ("spoke 1", "spoke 2")
STEP = st.one_of(
    st.tuples(st.just("assign"), st.sampled_from(NAMES), st.sampled_from((ONE, TWO)), st.sampled_from((*PEOPLE, None))),
    st.tuples(st.just("route"), st.sampled_from((*NAMES, "Ethernet0/0", None)), st.sampled_from((ONE, TWO, MADE_UP))),
    st.tuples(st.just("call"), st.sampled_from((ONE, TWO, MADE_UP))),
    st.tuples(st.just("wait"), st.sampled_from((1.0, 6.0))),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_no_session_outlives_what_allowed_it(steps: list[tuple[Any, ...]]) -> None:
    """After every step: who is up behind an interface with assigned addresses is one of them, and the identity that it came
    with is the one that has the address still."""
    world, node = hub()
    assigned: dict[tuple[str, bytes], str] = {}
    routes: dict[bytes, str] = {}
    came_as: dict[bytes, str] = {}
    for step in steps:
        before = {key for _, key in node.ribs.up}
        if step[0] == "assign":
            _, name, address, who = step
            assigned.pop((name, address), None)
            if who:
                assigned[name, address] = who
            assign(node, (name, address, who))
        elif step[0] == "route":
            _, by, address = step
            routes.pop(address, None)
            if by:
                routes[address] = by
            routed(node, address, by)
        elif step[0] == "call":
            come_up(node, step[1], asn=100)
        else:
            world.run(step[1])
        for _, address in node.ribs.up:
            by = routes.get(address)
            on_it = {a: who for (name, a), who in assigned.items() if name == by}
            assert not on_it or address in on_it, (format_address(address), by, on_it)
            who = on_it.get(address, "")
            if address not in before:
                came_as[address] = who
            elif came_as[address] and came_as[address] not in {w for (_, a), w in assigned.items() if a == address}:
                pytest.fail("its address is somebody else's, or nobody's")
        assert len(node.speaker._waiting) <= len(steps)
