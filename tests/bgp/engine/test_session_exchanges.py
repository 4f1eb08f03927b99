"""Exchanges between two speakers, drawn as they happen."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from bgp.config import ConnectionMode, Timers
from bgp.engine.fsm import State
from bgp.engine.outputs import NotifyPeer, RequestRefresh
from bgp.engine.session_ends import EndReason
from bgp.events import PeerDown, PeerUp
from bgp.wire import (
    IPV4_UNICAST,
    VPNV4,
    Keepalive,
    Notification,
    Open,
    RouteRefresh,
    Session,
    encode,
    encode_end_of_rib,
)
from stack.addr import Afi, Safi
from tests.bgp.engine.session_world import ID_A, ID_B, A, B, FakeRibs, World, config, neighbor, pair

PASSIVE, ACTIVE = {"mode": ConnectionMode.PASSIVE}, {"mode": ConnectionMode.ACTIVE}
UP = State.ESTABLISHED


def both_up(world: World) -> bool:
    return world.nodes[A].state(B) is UP and world.nodes[B].state(A) is UP


def test_active_meets_passive() -> None:
    world = World()
    a, b = pair(world, a=ACTIVE, b=PASSIVE)
    world.start()
    # A: Connect                      B: Active
    assert (a.state(B), b.state(A)) == (State.CONNECT, State.ACTIVE)
    world.run(1)
    # A: OPEN         ->              B: OpenSent, OPEN, OpenConfirm, KEEPALIVE
    #                 <-  OPEN, KEEPALIVE
    # A: KEEPALIVE    ->              B: Established
    assert both_up(world)
    assert [type(one) for one in a.said] == [Open, Keepalive]
    assert [type(one) for one in b.said] == [Open, Keepalive]
    assert len(b.connects) == 0
    assert world.connections() == 2
    up = next(fact for fact in a.facts if isinstance(fact, PeerUp))
    assert (up.address, up.router_id, up.families) == (B, ID_B, frozenset({(1, 1)}))
    view = a.ribs.up["", B]
    assert (view.ibgp, view.local, view.remote, view.families) == (True, A, B, frozenset({IPV4_UNICAST}))


def test_rfc4271_8_2_1_passive_meets_passive_and_nothing_happens() -> None:
    world = World()
    a, b = pair(world, a=PASSIVE, b=PASSIVE)
    world.start()
    world.run(600)
    assert (a.state(B), b.state(A)) == (State.ACTIVE, State.ACTIVE)
    assert a.connects == b.connects == []


def test_an_active_only_neighbor_refuses_connections() -> None:
    world = World()
    a, b = pair(world, a=ACTIVE)
    world.start()
    world.run(30)
    assert both_up(world)
    assert a.peer(B).incoming is False
    assert a.listening == {}
    assert b.listening.keys() == {""}


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_rfc4271_6_8_B05_both_connect_and_one_connection_survives(swap: bool, seed: int) -> None:
    """Delays are drawn anew for every event, so that all orders of the two handshakes occur."""
    world = World(delay=lambda: chance.uniform(0.001, 0.05))
    chance = random.Random(seed)
    a, b = pair(world, swap=swap)
    world.start()
    world.run(30)
    assert both_up(world)
    assert world.connections() == 2
    (mine,), (theirs,) = a.ends, b.ends
    assert a.ends[mine] == (b, theirs)


@pytest.mark.parametrize("swap", [False, True])
def test_rfc4271_6_8_the_higher_identifier_keeps_its_connection(swap: bool) -> None:
    world = World()
    a, b = pair(world, swap=swap)
    world.start()
    world.run(1)
    # Both dial at the same moment, both handshakes run in step: the collision is decided by the identifiers alone.
    assert both_up(world)
    assert a.peer(B).incoming is not swap
    assert b.peer(A).incoming is swap
    assert Notification(6, 7) in a.said + b.said


def test_rfc6286_2_3_equal_identifiers_are_told_apart_by_as() -> None:
    world = World()
    a = world.add(A, config(65001, ID_A, (neighbor(B, 65002),)))
    b = world.add(B, config(65002, ID_A, (neighbor(A, 65001),)))
    world.start()
    world.run(1)
    assert both_up(world)
    assert a.peer(B).incoming
    assert not b.peer(A).incoming


def test_rfc4271_6_8_a_new_connection_is_closed_while_one_is_established() -> None:
    world = World()
    a, _ = pair(world, a=PASSIVE)
    world.start()
    world.run(1)
    number = a.speaker.number()
    a.do(a.speaker.accepted(number, "", A, B, world.now))
    assert both_up(world)
    assert a.peer(B).refused == {"established": 1}


def test_B05_a_thousand_flaps_leave_nothing_behind() -> None:
    world = World(delay=lambda: chance.uniform(0.001, 0.02))
    chance = random.Random(5)
    a, b = pair(world)
    world.start()
    for flap in range(1000):
        world.run(0.5)
        node, other = (a, B) if flap % 2 else (b, A)
        if flap % 3:
            node.do(node.speaker.clear(node.speaker.matching(other), world.now))
        else:
            for connection in [*node.ends]:
                world.close(node, connection)
                node.do(node.speaker.tcp_closed(connection, "reset", world.now))
    world.run(300)
    assert both_up(world)
    assert world.connections() == 2
    for node in (a, b):
        assert set(node.speaker._connections) == set(node.ends)
        assert len(node.speaker._schedule) <= 2 + 64
        peer = node.speaker._peers[next(iter(node.speaker._peers))]
        assert peer.second is None
        assert set(peer.main._timers) == {timer for timer in peer.main._timers if timer.name in ("HOLD", "KEEPALIVE")}
        assert not node.speaker._ready
        assert len(node.ribs.called("peer_up")) == len(node.ribs.called("peer_down")) + 1
        ups = sum(isinstance(fact, PeerUp) for fact in node.facts)
        assert ups == sum(isinstance(fact, PeerDown) for fact in node.facts) + 1


def test_rfc4271_6_5_the_hold_timer_ends_a_session_and_it_comes_back() -> None:
    world = World()
    a, _ = pair(world)
    world.start()
    world.run(10)
    assert both_up(world)
    established = world.now
    world.cut = True
    world.run(75)
    assert both_up(world)
    world.run(20)
    # silence for 90 s  ->  NOTIFICATION 4/0, which does not arrive either
    assert a.said[-1] == Notification(4, 0)
    assert a.peer(B).last_end.reason is EndReason.HOLD_TIMER
    assert 60 <= a.peer(B).last_end_at - established <= 95
    assert not a.ribs.up
    world.cut = False
    world.run(130)
    assert both_up(world)


def test_rfc4271_10_keepalives_come_at_three_quarters_to_all_of_their_interval() -> None:
    world = World(delay=lambda: 0.0)
    a, _ = pair(world, a=ACTIVE, b=PASSIVE)
    world.start()
    world.run(0.1)
    times = []
    while len(times) < 200:
        seen = len(a.said)
        world.run(0.25)
        times += [world.now] * (len(a.said) - seen)
    gaps = [after - before for before, after in pairwise(times)]
    assert all(30 * 0.75 - 0.5 <= gap <= 30 + 0.5 for gap in gaps)
    assert max(gaps) - min(gaps) > 5  # it is jitter, not a shorter interval


@pytest.mark.parametrize(
    ("ours", "theirs", "hold", "keepalive"),
    [
        (Timers(60, 180, 120), Timers(60, 180, 120), 180, 60),
        (Timers(60, 180, 120), Timers(10, 30, 120), 30, 10),
        (Timers(5, 180, 120), Timers(60, 180, 120), 180, 5),
        (Timers(1, 3, 120), Timers(60, 180, 120), 3, 1),
        (Timers(0, 0, 120), Timers(60, 180, 120), 0, 0),
    ],
)
def test_rfc4271_4_2_the_smaller_hold_time_counts(ours: Timers, theirs: Timers, hold: int, keepalive: float) -> None:
    world = World()
    a, b = pair(world, a={"timers": ours}, b={"timers": theirs})
    world.start()
    world.run(1)
    assert (a.peer(B).hold_time, a.peer(B).keepalive) == (hold, keepalive)
    assert b.peer(A).hold_time == hold
    world.cut = True
    world.run(hold + 5 if hold else 3600)
    assert (a.state(B) is UP) == (hold == 0)


def test_rfc4271_8_2_2_no_open_in_time() -> None:
    world = World()
    a, b = pair(world, a=ACTIVE, b=PASSIVE)
    world.cut = True
    a.do(a.speaker.start(world.now))
    # the peer's TCP answers, the peer itself says nothing
    a.do(a.speaker.tcp_connected(a.connects[0].connection, A, B, world.now))
    assert a.state(B) is State.OPEN_SENT
    world.run(239)
    assert a.state(B) is State.OPEN_SENT
    world.run(2)
    assert a.said[-1] == Notification(4, 0)
    assert b.said == []


def test_B18_a_connection_to_us_gets_ten_seconds_for_its_open() -> None:
    world = World()
    a, _ = pair(world, a=PASSIVE)
    a.do(a.speaker.start(world.now))
    number = a.speaker.number()
    a.do(a.speaker.accepted(number, "", A, B, world.now))
    world.run(4)
    a.do(a.speaker.octets(number, encode(Open(65000, 90, ID_B), Session())[:20], world.now))
    world.run(5.9)
    assert a.state(B) is State.OPEN_SENT
    world.run(0.2)
    assert a.said[-1] == Notification(4, 0)
    assert a.state(B) is State.IDLE
    assert not a.speaker._connections


def test_rfc4271_8_1_failures_in_a_row_are_held_back_longer_and_longer() -> None:
    world = World()
    a = world.add(A, config(65000, ID_A, (neighbor(B, 65000),)))
    b = world.add(B, config(65000, ID_B, (neighbor(A, 64999, mode=ConnectionMode.PASSIVE),)))  # expects another AS
    world.start()
    world.run(3600)
    assert a.state(B) is not UP
    attempts = [one for one in b.said if isinstance(one, Open)]
    assert 20 <= len(attempts) <= 60  # 1, 2, 4, ... then every two minutes, not 3600
    assert Notification(2, 2) in b.said
    waits = a.speaker._peers["", B].main.failures
    assert waits >= 5


def test_connect_attempts_back_off_to_the_connect_retry_time() -> None:
    world = World()
    a = world.add(A, config(neighbors=(neighbor(B),)))
    world.start()
    world.run(3600)
    assert 25 <= len(a.connects) <= 50
    assert a.peer(B).last_attempt.reason is EndReason.TCP_FAILED
    # and who comes in the meantime is taken at once
    b = world.add(B, config(identifier=ID_B, neighbors=(neighbor(A),)))
    b.do(b.speaker.start(world.now))
    world.run(1)
    assert both_up(world)


def test_rfc4486_4_shutdown_and_back() -> None:
    world = World()
    a, b = pair(world)
    world.start()
    world.run(1)
    a.do(a.speaker.reconfigure(config(neighbors=(neighbor(B, shutdown=True),)), world.now))
    world.run(60)
    # A: NOTIFICATION 6/2  ->
    assert Notification(6, 2) in a.said
    assert a.state(B) is State.IDLE
    assert b.peer(A).last_end.notification == Notification(6, 2)
    assert a.peer(B).hold.value == "administratively shut down"
    a.do(a.speaker.reconfigure(config(neighbors=(neighbor(B),)), world.now))
    world.run(130)
    assert both_up(world)


def test_rfc4486_4_clear_resets_and_comes_back_at_once() -> None:
    world = World()
    a, _ = pair(world)
    world.start()
    world.run(1)
    a.do(a.speaker.clear(a.speaker.matching(None), world.now))
    assert Notification(6, 4) in a.said
    world.run(10)
    assert both_up(world)


@pytest.mark.parametrize(
    ("target", "vrf", "found"),
    [(None, None, 1), (B, None, 1), (A, None, 0), (65000, None, 1), (1, None, 0), (B, "x", 0)],
)
def test_what_clear_means(target: Any, vrf: str | None, found: int) -> None:
    world = World()
    a, _ = pair(world)
    world.start()
    assert len(a.speaker.matching(target, vrf)) == found


def test_a_neighbor_that_is_removed_gets_a_cease() -> None:
    world = World()
    a, b = pair(world)
    world.start()
    world.run(1)
    a.do(a.speaker.reconfigure(config(), world.now))
    assert Notification(6, 3) in a.said
    world.run(600)
    assert a.speaker.snapshot().peers == ()
    assert b.state(A) is not UP
    assert a.ribs.up == {}
    assert a.listening == {}


def test_reconfiguration_resets_only_what_it_touches() -> None:
    world = World()
    a = world.add(A, config(neighbors=(neighbor(B), neighbor(bytes((192, 0, 2, 3))))))
    for address, identifier in ((B, ID_B), (bytes((192, 0, 2, 3)), bytes((10, 0, 0, 3)))):
        world.add(address, config(identifier=identifier, neighbors=(neighbor(A),)))
    world.start()
    world.run(5)
    families = {(Afi.IPV4, Safi.UNICAST): _family(), (Afi.IPV4, Safi.VPN): _family()}
    changed = config(neighbors=(neighbor(B, families=families), neighbor(bytes((192, 0, 2, 3)), description="new")))
    a.do(a.speaker.reconfigure(changed, world.now))
    assert a.peer(B).dropped == 1
    assert a.peer(bytes((192, 0, 2, 3))).dropped == 0
    world.run(10)
    assert a.state(B) is UP
    assert VPNV4 in a.peer(B).offered


def _family() -> Any:
    from bgp.config import NeighborFamily

    return NeighborFamily()


def test_stop_says_goodbye_to_all_and_leaves_nothing() -> None:
    world = World()
    a, b = pair(world)
    world.start()
    world.run(1)
    a.do(a.speaker.stop(world.now))
    assert a.said[-1] == Notification(6, 2)
    assert a.speaker._connections == {}
    assert a.listening == {}
    world.run(1)
    assert b.peer(A).last_end.notification == Notification(6, 2)
    assert b.ribs.up == {}


def test_rfc9003_2_the_peer_says_why_and_cannot_move_our_cursor() -> None:
    world = World()
    a, _ = pair(world, a=ACTIVE, b=PASSIVE)
    world.start()
    world.run(1)
    said = "down\x1b[2Jpour maintenance \u202e".encode()
    a.do(
        a.speaker.octets(
            next(iter(a.ends)), encode(Notification(6, 2, bytes((len(said),)) + said), Session()), world.now
        )
    )
    text = str(a.peer(B).last_end)
    assert text == ('NOTIFICATION received: 6/2 (cease, shutdown: "down\\x1b[2Jpour maintenance \\u202e")')
    down = next(fact for fact in a.facts if isinstance(fact, PeerDown))
    assert down.reason == "NOTIFICATION received"
    assert down.text == text


def test_rfc2918_4_a_refresh_reaches_the_tables_and_B16_not_more_often_than_the_window() -> None:
    world = World()
    a, b = pair(world)
    world.start()
    world.run(1)
    connection = next(iter(a.ends))
    for _ in range(10_000):
        a.do(a.speaker.octets(connection, encode(RouteRefresh(IPV4_UNICAST), Session()), world.now))
    a.do(a.speaker.octets(connection, encode(RouteRefresh(VPNV4), Session()), world.now))  # not negotiated
    a.do(a.speaker.octets(connection, encode(RouteRefresh(IPV4_UNICAST, 77), Session()), world.now))  # unknown subtype
    assert a.ribs.called("refresh") == [("refresh", ("", B), IPV4_UNICAST)]
    world.run(30)
    assert len(a.ribs.called("refresh")) == 2
    assert both_up(world)
    # and the other way: the tables ask
    a.do(a.speaker._rib([RequestRefresh(("", B), IPV4_UNICAST)], world.now))
    world.run(1)
    assert b.ribs.called("refresh") == [("refresh", ("", A), IPV4_UNICAST)]


def test_maximum_prefix_ends_the_session_until_it_is_cleared() -> None:
    world = World()
    a, b = pair(world)
    world.start()
    world.run(1)
    a.do(a.speaker._rib([NotifyPeer(("", B), 6, 1, b"\0\1\1\0\0\0\5", "5 prefixes")], world.now))
    assert a.said[-1] == Notification(6, 1, b"\0\1\1\0\0\0\5")
    world.run(3600)
    assert (a.state(B), a.peer(B).hold.name) == (State.IDLE, "PREFIX_LIMIT")
    a.do(a.speaker.clear([("", B)], world.now))
    world.run(130)
    assert both_up(world)
    assert b.peer(A).established == 2


def test_routes_go_out_in_turns_while_the_connection_takes_them() -> None:
    world = World(delay=lambda: 0.0)
    a, b = pair(world, a=ACTIVE, b=PASSIVE)
    world.start()
    world.run(1)
    connection = next(iter(a.ends))
    update = encode_end_of_rib(IPV4_UNICAST)
    a.do(a.speaker._rib(a.ribs.offer(("", B), [update] * 10_000), world.now))
    before = a.peer(B).octets_sent
    a.do(a.speaker.wake(world.now))
    assert a.peer(B).octets_sent - before <= 64 * 1024
    a.do(a.speaker.blocked(connection, world.now))
    sent = a.peer(B).octets_sent
    world.run(10)
    assert a.peer(B).octets_sent == sent
    assert a.peer(B).blocked
    a.do(a.speaker.writable(connection, world.now))
    world.run(1)
    assert len(b.ribs.called("update")) == 10_000
    assert a.peer(B).sent["Update"] == 10_000


def test_rfc9687_3_2_a_peer_that_never_reads_loses_its_session() -> None:
    world = World()
    a, b = pair(world, a=ACTIVE, b=PASSIVE)
    world.start()
    world.run(1)
    connection = next(iter(a.ends))
    a.do(a.speaker.blocked(connection, world.now))
    world.run(479)
    assert both_up(world)  # its own keepalives still come
    world.run(2)
    assert Notification(8, 0) in a.said
    assert a.peer(B).last_end.reason is EndReason.SEND_HOLD_TIMER
    assert b.peer(A).last_end.notification == Notification(8, 0)


def test_B17_a_fast_sender_is_worked_on_in_turns_and_others_stay_alive() -> None:
    world = World(delay=lambda: 0.0)
    a, _ = pair(world, a=ACTIVE, b=PASSIVE)
    world.start()
    world.run(1)
    connection = next(iter(a.ends))
    update = encode_end_of_rib(IPV4_UNICAST)
    flood = update * 30_000
    a.do(a.speaker.octets(connection, flood, world.now))
    assert len(a.ribs.called("update")) * len(update) <= 64 * 1024 + len(update)
    assert connection in a.paused
    assert a.speaker.deadline() == world.now  # the next turn is due at once, after everybody else's
    turns = 0
    while a.peer(B).waiting_octets:
        a.do(a.speaker.wake(world.now))
        turns += 1
    assert turns >= len(flood) // (64 * 1024)
    assert len(a.ribs.called("update")) == 30_000
    assert connection not in a.paused


def test_a_fault_of_ours_costs_one_session_and_is_counted() -> None:
    world = World()
    a = world.add(A, config(neighbors=(neighbor(B), neighbor(bytes((192, 0, 2, 3))))))
    world.add(B, config(identifier=ID_B, neighbors=(neighbor(A),)))
    world.add(bytes((192, 0, 2, 3)), config(identifier=bytes((10, 0, 0, 3)), neighbors=(neighbor(A),)))
    world.start()
    world.run(5)

    def broken(_update: Any) -> None:
        raise ZeroDivisionError("a bug")

    a.ribs.on_update = broken
    connection = next(n for n, (node, _) in a.ends.items() if node.address == B)
    a.do(a.speaker.octets(connection, encode_end_of_rib(IPV4_UNICAST), world.now))
    assert a.said[-1] == Notification(6, 8)
    assert a.peer(B).contained_faults == 1
    assert a.peer(B).last_end.reason is EndReason.FAULT
    assert a.state(bytes((192, 0, 2, 3))) is UP
    assert any("ZeroDivisionError: a bug" in log.fields.get("fault", "") for log in a.logs)
    a.ribs.on_update = None
    world.run(130)
    assert a.state(B) is UP


def test_a_fault_in_the_tables_while_a_session_ends_is_no_ones_to_contain() -> None:
    world = World()
    a, _ = pair(world)
    world.start()
    world.run(1)

    a.ribs.up.clear()  # the tables disagree: peer_down will raise
    with pytest.raises(KeyError):
        a.speaker.tcp_closed(next(iter(a.ends)), "reset", world.now)


def test_rfc5492_3_a_peer_without_capabilities_is_asked_again_without() -> None:
    world = World()
    a = world.add(A, config(neighbors=(neighbor(B, mode=ConnectionMode.PASSIVE),)))
    a.do(a.speaker.start(world.now))

    def hear(message: Any) -> int:
        number = a.speaker.number()
        a.do(a.speaker.accepted(number, "", A, B, world.now))
        a.do(a.speaker.octets(number, encode(message, Session()), world.now))
        return number

    # B: NOTIFICATION 2/4  ->   A: the next OPEN has no optional parameter
    hear(Notification(2, 4))
    assert isinstance(a.said[-1], Open)
    assert a.said[-1].capabilities
    world.run(2)
    number = hear(Open(65000, 90, ID_B))
    opens = [one for one in a.said if isinstance(one, Open)]
    assert opens[-1].capabilities == ()
    a.do(a.speaker.octets(number, encode(Keepalive(), Session()), world.now))
    assert a.state(B) is UP
    view = a.ribs.up["", B]
    assert (view.families, view.session.asn4, view.refresh) == (frozenset({IPV4_UNICAST}), False, False)


def test_fake_ribs_have_the_real_ones_interface() -> None:
    from bgp.engine.rib import Ribs
    from bgp.engine.speaker import RibsApi

    names = {name for name in vars(RibsApi) if not name.startswith("_")}
    assert all(callable(getattr(Ribs, name)) and callable(getattr(FakeRibs, name)) for name in names)
