"""B04: whatever comes, in whatever order, ends in a typed state, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgp.config import ConnectionMode
from bgp.engine.fsm import State
from bgp.wire import (
    IPV4_UNICAST,
    Keepalive,
    Notification,
    Open,
    RouteRefresh,
    Session,
    encode,
    encode_end_of_rib,
)
from tests.bgp.engine.session_world import ID_B, A, B, World, config, neighbor

OPENS = [Open(65000, 90, ID_B), Open(65000, 0, ID_B), Open(65000, 3, ID_B), Open(65001, 90, ID_B), Open(65000, 2, ID_B)]
MESSAGES = [
    *(encode(one, Session()) for one in OPENS),
    encode(Keepalive(), Session()),
    encode(Notification(6, 2), Session()),
    encode(Notification(2, 1), Session()),
    encode(Notification(2, 4), Session()),
    encode(RouteRefresh(IPV4_UNICAST), Session()),
    encode(RouteRefresh(IPV4_UNICAST), Session())[:-1].replace(b"\0\x17", b"\0\x16"),
    encode_end_of_rib(IPV4_UNICAST),
    bytes.fromhex("ff" * 16 + "0018 02 0000 0001 40"),
    bytes.fromhex("ff" * 16 + "0013 07"),
    b"\xff" * 7,
    b"\0",
]


class Peer(RuleBasedStateMachine):
    """One speaker; the rules are everything that the network, time and an operator can do to it."""

    @initialize(mode=st.sampled_from(ConnectionMode))
    def begin(self, mode: ConnectionMode) -> None:
        self.world = World(cut=True)  # connections are this machine's own
        self.settings = config(neighbors=(neighbor(B, mode=mode),))
        self.node = self.world.add(A, self.settings)
        self.node.do(self.node.speaker.start(self.world.now))

    def connections(self) -> list[int]:
        return sorted(self.node.speaker._connections)

    @precondition(lambda self: self.node.dialling)
    @rule(ok=st.booleans())
    def answer(self, ok: bool) -> None:
        number = min(self.node.dialling)
        self.node.dialling.discard(number)
        speaker, now = self.node.speaker, self.world.now
        self.node.do(speaker.tcp_connected(number, A, B, now) if ok else speaker.tcp_failed(number, "refused", now))

    @rule()
    def connect(self) -> None:
        number = self.node.speaker.number()
        self.node.do(self.node.speaker.accepted(number, "", A, B, self.world.now))

    @precondition(lambda self: self.connections())
    @rule(which=st.integers(0, 3), message=st.sampled_from(MESSAGES), cut=st.integers(0, 40))
    def say(self, which: int, message: bytes, cut: int) -> None:
        numbers = self.connections()
        number = numbers[which % len(numbers)]
        for part in (message[:cut], message[cut:]):
            self.node.do(self.node.speaker.octets(number, part, self.world.now))

    @precondition(lambda self: self.connections())
    @rule(which=st.integers(0, 3))
    def shake_hands(self, which: int) -> None:
        numbers = self.connections()
        for message in (OPENS[0], Keepalive()):
            number = numbers[which % len(numbers)]
            self.node.do(self.node.speaker.octets(number, encode(message, Session()), self.world.now))

    @precondition(lambda self: self.connections())
    @rule(which=st.integers(0, 3))
    def lose(self, which: int) -> None:
        numbers = self.connections()
        self.node.do(self.node.speaker.tcp_closed(numbers[which % len(numbers)], "reset", self.world.now))

    @precondition(lambda self: self.connections())
    @rule(which=st.integers(0, 3), block=st.booleans())
    def choke(self, which: int, block: bool) -> None:
        numbers = self.connections()
        tell = self.node.speaker.blocked if block else self.node.speaker.writable
        self.node.do(tell(numbers[which % len(numbers)], self.world.now))

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0, 100.0, 300.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule()
    def clear(self) -> None:
        self.node.do(self.node.speaker.clear([("", B)], self.world.now))

    @rule(shutdown=st.booleans())
    def configure(self, shutdown: bool) -> None:
        old = self.settings.neighbors["", B]
        changed = config(neighbors=(neighbor(B, mode=old.mode, shutdown=shutdown),))
        self.node.do(self.node.speaker.reconfigure(changed, self.world.now))

    @invariant()
    def what_is_up_is_up_everywhere(self) -> None:
        if not hasattr(self, "node"):
            return
        peer = self.node.speaker._peers["", B]
        established = [one for one in peer.sessions() if one.state is State.ESTABLISHED]
        assert bool(self.node.ribs.up) == bool(established) == peer.established
        assert len(established) <= 1
        assert not (established and peer.second)

    @invariant()
    def every_connection_has_a_session_and_every_waiting_state_a_timer(self) -> None:
        if not hasattr(self, "node"):
            return
        peer = self.node.speaker._peers["", B]
        assert set(self.connections()) == {one.connection for one in peer.sessions() if one.connection is not None}
        for one in peer.sessions():
            assert one.tcp_up == (one.state in (State.OPEN_SENT, State.OPEN_CONFIRM, State.ESTABLISHED))
            if one.state in (State.CONNECT, State.OPEN_SENT):
                assert one.deadline() is not None
            if one.state is State.ACTIVE and not one.passive:
                assert one.deadline() is not None
        if peer.main.state is State.IDLE and peer.hold.name == "NONE":
            assert peer.main.deadline() is not None  # it will start again
        assert peer.deadline() is None or self.node.speaker.deadline() is not None

    @invariant()
    def nothing_is_a_fault_of_ours(self) -> None:
        if hasattr(self, "node"):
            assert self.node.peer(B).contained_faults == 0


Peer.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


class TestB04(Peer.TestCase):  # type: ignore[misc]
    """The machine under the name of its fault row: any order of anything."""


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(MESSAGES)), max_size=12))
@settings(max_examples=300, deadline=None)
def test_B04_any_octets_leave_the_other_session_alone(chunks: list[bytes]) -> None:
    third = bytes((192, 0, 2, 3))
    world = World(cut=True)
    node = world.add(A, config(neighbors=tuple(neighbor(one, mode=ConnectionMode.PASSIVE) for one in (B, third))))
    node.do(node.speaker.start(world.now))
    guilty, innocent = node.speaker.number(), node.speaker.number()
    node.do(node.speaker.accepted(guilty, "", A, B, world.now))
    node.do(node.speaker.accepted(innocent, "", A, third, world.now))
    for message in (Open(65000, 90, bytes((10, 0, 0, 3))), Keepalive()):
        node.do(node.speaker.octets(innocent, encode(message, Session()), world.now))
    for chunk in chunks:
        node.do(node.speaker.octets(guilty, chunk, world.now))
    assert node.state(third) is State.ESTABLISHED
    assert node.peer(B).contained_faults == 0
    said: list[Any] = [one for one in node.said if isinstance(one, Notification)]
    assert len(said) <= 1
    octets = b"".join(chunks)
    for one in said:
        # B13: our words are the peer's own, or one of the two constants that the RFCs demand
        assert one.data in octets or (one.code, one.subcode) in {(2, 1), (2, 7)}
