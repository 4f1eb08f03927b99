"""One BGP connection: the transition table carried out, its timers, and what passes over it (RFC 4271 8).

A session belongs to a `Peer`, which opens it, gives it to a TCP connection, and compares it with the peer's other
connection. It is told what happened (`step`, `receive`, `wrong`) and answers with outputs: Connect, Send and Close for the
service, and Up, Down, Deliver for the peer's owner.

Timers (RFC 4271 10): ConnectRetry, Keepalive and IdleHold are multiplied by a random factor of 0.75 to 1.0, Hold is not.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from attrs import define, evolve, field, frozen

from bgp.engine.fsm import Action, Edge, Input, State, transition
from bgp.engine.outputs import Close, Connect, Send
from bgp.engine.session_ends import End, EndReason
from bgp.engine.session_open import Agreement, Terms, agree, our_open
from bgp.engine.session_stream import Stream
from bgp.wire import (
    DoesNotFitError,
    ErrorCode,
    FsmSubcode,
    Keepalive,
    Message,
    MessageError,
    Notification,
    OpenSubcode,
    RouteRefresh,
    Session,
    Update,
    encode,
)

__all__ = ["Counters", "Deliver", "Down", "PeerSession", "SessionOutput", "Timer", "Up"]

OPEN_WAIT = 240.0
"""Seconds for the peer's OPEN after we connected: the "large value" of RFC 4271 8.2.2."""

OPEN_WAIT_PASSIVE = 10.0
"""Seconds for the OPEN of somebody who connected to us; whoever connects has no reason to wait."""

RETRY_FIRST = 1.0
"""Seconds before the second attempt to connect; doubled with each one, up to the configured ConnectRetryTime."""

DIAL_PATIENCE = 5.0
"""The least number of seconds that an attempt gets before it is given up for another."""

IDLE_HOLD_FIRST, IDLE_HOLD_MOST = 1.0, 120.0
"""Seconds in Idle after the first failure in a row, and at most (RFC 4271 8.1, DampPeerOscillations)."""

CALM = 60.0
"""A session that stood for so many seconds ends a row of failures."""

SEND_HOLD_LEAST = 480.0
"""RFC 9687 3.2: SendHoldTime is "the greater of 8 minutes or 2 times the negotiated HoldTime"."""


class Timer(Enum):
    CONNECT_RETRY = Input.CONNECT_RETRY_EXPIRES
    HOLD = Input.HOLD_EXPIRES
    KEEPALIVE = Input.KEEPALIVE_EXPIRES
    IDLE_HOLD = Input.IDLE_HOLD_EXPIRES
    SEND_HOLD = Input.SEND_HOLD_EXPIRES


@frozen
class Up:
    """The session is established."""


@frozen
class Down:
    """The session, or the attempt at one, is over. `established`: it was up."""

    end: End
    established: bool


@frozen
class Deliver:
    message: Update | RouteRefresh


SessionOutput = Connect | Send | Close | Up | Down | Deliver


@define(eq=False)
class Counters:
    """Of one peer since it was configured. Messages by kind, in and out; octets of whole messages."""

    received: dict[str, int] = field(factory=dict)
    sent: dict[str, int] = field(factory=dict)
    octets_received: int = 0
    octets_sent: int = 0
    established: int = 0
    dropped: int = 0
    attempts: int = 0
    failed_attempts: int = 0
    refused: dict[str, int] = field(factory=dict)
    faulty_updates: int = 0
    contained_faults: int = 0

    def count(self, table: dict[str, int], kind: str, number: int = 1) -> None:
        table[kind] = table.get(kind, 0) + number


@define(eq=False)
class PeerSession:
    """`connect(number)` is the Connect output for a new connection of this peer; `number()` gives connection numbers.

    `retries` and `failures` survive a session in the peer that owns it, so they are passed from one to the next.
    """

    terms: Terms
    passive: bool
    connect_retry: float
    entropy: Callable[[int], bytes]
    number: Callable[[], int]
    connect: Callable[[int], Connect]
    counters: Counters
    state: State = State.IDLE
    connection: int | None = None
    incoming: bool = False
    tcp_up: bool = False
    choked: bool = False
    stream: Stream = field(factory=Stream)
    agreement: Agreement | None = None
    wire: Session = field(factory=Session)
    since: float = 0.0
    last_received: float = 0.0
    last_sent: float = 0.0
    retries: int = 0
    failures: int = 0
    local: bytes = b""
    remote: bytes = b""
    _timers: dict[Timer, float] = field(factory=dict)
    _cause: End = field(factory=lambda: End(EndReason.NONE))
    _message: Update | RouteRefresh | None = None

    # --- time -----------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        return min(self._timers.values(), default=None)

    def timer(self, timer: Timer) -> float | None:
        """When `timer` expires, None if it does not run."""
        return self._timers.get(timer)

    def wake(self, now: float) -> list[SessionOutput]:
        """Whatever is due at `now`, in the order in which it was due. A hold timer waits while octets are unread: they
        prove that the peer lives."""
        outputs: list[SessionOutput] = []
        while due := [timer for timer, when in self._timers.items() if when <= now]:
            timer = min(due, key=self._timers.__getitem__)
            if timer is Timer.HOLD and self.stream.backlog:
                self._timers[timer] = now + 1.0
                continue
            del self._timers[timer]
            outputs += self.step(timer.value, now, cause=_EXPIRED.get(timer))
        return outputs

    def _start(self, timer: Timer, seconds: float, now: float, *, jitter: bool = True) -> None:
        # RFC 4271 10: "jitter SHOULD be added to the timers [...] by multiplying the base value of the appropriate timer
        # by a random factor, which is uniformly distributed in the range from 0.75 to 1.0".
        factor = 0.75 + 0.25 * int.from_bytes(self.entropy(2)) / 0xFFFF if jitter else 1.0
        self._timers[timer] = now + seconds * factor

    def _hold(self, now: float) -> None:
        if self.agreement is not None and self.agreement.hold:
            self._timers[Timer.HOLD] = now + self.agreement.hold

    # --- what happens ---------------------------------------------------------------------------------------------

    def step(
        self, what: Input, now: float, *, cause: End | None = None, message: Update | RouteRefresh | None = None
    ) -> list[SessionOutput]:
        """Take the edge for `what`. `cause` says why, where the session ends."""
        edge = transition(self.state, what)
        self._cause = cause or _CAUSES.get(what) or End(EndReason.FSM_ERROR)
        self._message = message
        return self._PERFORM[edge.action](self, edge, now)

    def connected(
        self, connection: int, *, incoming: bool, local: bytes, remote: bytes, now: float
    ) -> list[SessionOutput]:
        """Its TCP connection is up: ours (`incoming` false), or one that the peer opened."""
        outputs: list[SessionOutput] = []
        if self.connection is not None and self.connection != connection:
            outputs.append(Close(self.connection, abort=True))
        self.connection, self.incoming, self.tcp_up = connection, incoming, True
        self.local, self.remote = local, remote
        return outputs + self.step(Input.TCP_CONFIRMED if incoming else Input.TCP_ACKED, now)

    def tcp_failed(self, reason: EndReason, text: str, now: float) -> list[SessionOutput]:
        """Its TCP connection is gone, or never came."""
        self.connection, self.tcp_up, self.choked = None, False, False
        return self.step(Input.TCP_FAILS, now, cause=End(reason, text=text))

    def receive(self, message: Message, now: float) -> list[SessionOutput]:
        """A message that decodes. An OPEN in OpenSent must have been judged before."""
        self.last_received = now
        self.counters.count(self.counters.received, type(message).__name__)
        if isinstance(message, Update | RouteRefresh):
            what = Input.UPDATE if isinstance(message, Update) else Input.ROUTE_REFRESH
            return self.step(what, now, message=message)
        if isinstance(message, Keepalive):
            return self.step(Input.KEEPALIVE, now)
        if isinstance(message, Notification):
            version = (message.code, message.subcode) == (ErrorCode.OPEN, OpenSubcode.UNSUPPORTED_VERSION)
            what = Input.NOTIFICATION_VERSION if version else Input.NOTIFICATION
            return self.step(what, now, cause=End(EndReason.NOTIFIED, message))
        if self.state is State.OPEN_SENT:
            self.agreement = agree(message, self.terms)
        return self.step(Input.OPEN, now)

    def update(self, now: float) -> None:
        """The edge (Established, UPDATE) for the loop that reads routes: the same as `receive`, without the ceremony."""
        received = self.counters.received
        received["Update"] = received.get("Update", 0) + 1
        if self.last_received != now:  # else an earlier message of this turn restarted it already
            self.last_received = now
            self._hold(now)

    def refuse_open(self, notification: Notification, now: float) -> list[SessionOutput]:
        """The peer's OPEN decodes, and is not acceptable."""
        self.counters.count(self.counters.received, "Open")
        return self.step(Input.OPEN_ERROR, now, cause=End(EndReason.OPEN_ERROR, notification, sent=True))

    def wrong(self, error: MessageError, now: float) -> list[SessionOutput]:
        """Octets that are no message. What they deserve to be told is in the error."""
        what, reason = _WRONG.get(error.code, (Input.HEADER_ERROR, EndReason.HEADER_ERROR))
        notification = Notification(error.code, error.subcode, error.data)
        return self.step(what, now, cause=End(reason, notification, sent=True, text=str(error)))

    def blocked(self, now: float) -> None:
        """TCP takes no more octets for now (RFC 9687: the SendHoldTimer runs, unless the hold time is zero)."""
        self.choked = True
        if self.agreement is not None and self.agreement.hold and Timer.SEND_HOLD not in self._timers:
            seconds = max(SEND_HOLD_LEAST, 2.0 * self.agreement.hold)
            self._start(Timer.SEND_HOLD, seconds, now, jitter=False)

    def unblocked(self) -> None:
        self.choked = False
        self._timers.pop(Timer.SEND_HOLD, None)

    def send(self, message: Message, now: float) -> list[SessionOutput]:
        """`message` on its way, if there is a connection for it."""
        if self.connection is None or not self.tcp_up:
            return []
        try:
            octets = encode(message, self.wire)
        except DoesNotFitError:
            if not isinstance(message, Notification):
                raise
            octets = encode(evolve(message, data=b""), self.wire)
        self.counters.count(self.counters.sent, type(message).__name__)
        return self.sent(octets, now)

    def sent(self, octets: bytes, now: float) -> list[SessionOutput]:
        """Whole messages, encoded already."""
        self.counters.octets_sent += len(octets)
        self.last_sent = now
        return [] if self.connection is None else [Send(self.connection, octets)]

    # --- actions, one an edge -------------------------------------------------------------------------------------

    def _move(self, edge: Edge, now: float) -> None:
        if edge.to is not self.state:
            self.state, self.since = edge.to, now

    def _ignore(self, edge: Edge, now: float) -> list[SessionOutput]:
        self._move(edge, now)
        return []

    def _dial(self, edge: Edge, now: float) -> list[SessionOutput]:
        self._timers.clear()
        self.retries = 0
        self._move(edge, now)
        return self._attempt(now)

    def _listen(self, edge: Edge, now: float) -> list[SessionOutput]:
        self._timers.clear()
        self._move(edge, now)
        return []

    def _damp(self, edge: Edge, now: float) -> list[SessionOutput]:
        self._move(edge, now)
        seconds = min(IDLE_HOLD_FIRST * 2.0 ** min(max(self.failures - 1, 0), 16), IDLE_HOLD_MOST)
        self._start(Timer.IDLE_HOLD, seconds, now)
        return []

    def _restart(self, edge: Edge, now: float) -> list[SessionOutput]:
        self._move(edge, now)
        return self.step(Input.AUTOMATIC_START_PASSIVE if self.passive else Input.AUTOMATIC_START, now)

    def _redial(self, edge: Edge, now: float) -> list[SessionOutput]:
        outputs = self._hang_up(abort=True)
        self._move(edge, now)
        return outputs + self._attempt(now)

    def _attempt(self, now: float) -> list[SessionOutput]:
        self.connection, self.incoming, self.tcp_up = self.number(), False, False
        self.counters.attempts += 1
        self.retries += 1
        self._start(Timer.CONNECT_RETRY, max(self._retry_time(), min(DIAL_PATIENCE, self.connect_retry)), now)
        return [self.connect(self.connection)]

    def _retry_time(self) -> float:
        return min(RETRY_FIRST * 2.0 ** min(max(self.retries - 1, 0), 16), self.connect_retry)

    def _send_open(self, edge: Edge, now: float) -> list[SessionOutput]:
        self._timers.clear()
        self.stream, self.wire, self.agreement = Stream(), Session(), None
        self._move(edge, now)
        # "sets the HoldTimer to a large value", so that the other end gets its chance to send OPEN
        self._start(Timer.HOLD, OPEN_WAIT_PASSIVE if self.incoming else OPEN_WAIT, now, jitter=False)
        return self.send(our_open(self.terms), now)

    def _retry(self, edge: Edge, now: float) -> list[SessionOutput]:
        outputs = self._hang_up(abort=True)
        self._timers.clear()
        self.counters.failed_attempts += 1
        self.retries += self.incoming
        self._move(edge, now)
        if not self.passive:
            self._start(Timer.CONNECT_RETRY, self._retry_time(), now)
        return [*outputs, Down(self._cause, established=False)]

    def _confirm(self, edge: Edge, now: float) -> list[SessionOutput]:
        agreement = self.agreement
        if agreement is None:
            raise AssertionError("an OPEN is judged and agreed on before it is confirmed")
        self._timers.clear()
        self.wire = agreement.wire
        self._hold(now)
        if agreement.keepalive:
            self._start(Timer.KEEPALIVE, agreement.keepalive, now)
        self._move(edge, now)
        return self.send(Keepalive(), now)

    def _establish(self, edge: Edge, now: float) -> list[SessionOutput]:
        self._hold(now)
        self._move(edge, now)
        self.counters.established += 1
        return [Up()]

    def _alive(self, edge: Edge, now: float) -> list[SessionOutput]:
        self._hold(now)
        self._move(edge, now)
        return []

    def _deliver(self, edge: Edge, now: float) -> list[SessionOutput]:
        self._hold(now)
        self._move(edge, now)
        return [] if self._message is None else [Deliver(self._message)]

    def _send_keepalive(self, edge: Edge, now: float) -> list[SessionOutput]:
        if self.agreement is not None and self.agreement.keepalive:
            self._start(Timer.KEEPALIVE, self.agreement.keepalive, now)
        self._move(edge, now)
        return self.send(Keepalive(), now)

    def _stop(self, edge: Edge, now: float) -> list[SessionOutput]:
        """QUIET_STOP and CEASE: an end that we chose. It is no failure."""
        outputs = self._farewell(now) if edge.action is Action.CEASE else []
        return outputs + self._release(edge, now, failure=False)

    def _notify(self, edge: Edge, now: float) -> list[SessionOutput]:
        return self._farewell(now) + self._release(edge, now, failure=True)

    def _drop(self, edge: Edge, now: float) -> list[SessionOutput]:
        return self._release(edge, now, failure=True)

    def _fsm_error(self, edge: Edge, now: float) -> list[SessionOutput]:
        subcode = _FSM_SUBCODES.get(self.state, FsmSubcode.UNSPECIFIC)
        self._cause = End(EndReason.FSM_ERROR, Notification(ErrorCode.FSM, subcode), sent=True, text=edge.reason)
        return self._farewell(now) + self._release(edge, now, failure=True)

    def _farewell(self, now: float) -> list[SessionOutput]:
        cause = self._cause
        return self.send(cause.notification, now) if cause.sent and cause.notification is not None else []

    def _hang_up(self, *, abort: bool) -> list[SessionOutput]:
        connection, self.connection, self.tcp_up, self.choked = self.connection, None, False, False
        return [] if connection is None else [Close(connection, abort)]

    def _release(self, edge: Edge, now: float, *, failure: bool) -> list[SessionOutput]:
        """Back to Idle: connection, timers and buffers are given up."""
        established = self.state is State.ESTABLISHED
        calm = established and now - self.since >= CALM
        # Who does not read will not read our last words either.
        outputs = self._hang_up(abort=not self.tcp_up or self.choked)
        self._timers.clear()
        self.stream = Stream()
        self.counters.dropped += established
        self.failures = (0 if calm else self.failures) + failure
        self._move(edge, now)
        if self._cause.again:
            self._damp(edge, now)
        return [*outputs, Down(self._cause, established)]

    _PERFORM: ClassVar[dict[Action, Callable[[PeerSession, Edge, float], list[SessionOutput]]]] = {
        Action.IGNORE: _ignore,
        Action.DIAL: _dial,
        Action.LISTEN: _listen,
        Action.DAMP: _damp,
        Action.RESTART: _restart,
        Action.REDIAL: _redial,
        Action.SEND_OPEN: _send_open,
        Action.RETRY: _retry,
        Action.CONFIRM: _confirm,
        Action.ESTABLISH: _establish,
        Action.ALIVE: _alive,
        Action.DELIVER: _deliver,
        Action.SEND_KEEPALIVE: _send_keepalive,
        Action.QUIET_STOP: _stop,
        Action.CEASE: _stop,
        Action.NOTIFY: _notify,
        Action.DROP: _drop,
        Action.FSM_ERROR: _fsm_error,
    }


_FSM_SUBCODES = {
    State.OPEN_SENT: FsmSubcode.IN_OPEN_SENT,
    State.OPEN_CONFIRM: FsmSubcode.IN_OPEN_CONFIRM,
    State.ESTABLISHED: FsmSubcode.IN_ESTABLISHED,
}
"""RFC 6608 3."""

_WRONG = {
    int(ErrorCode.HEADER): (Input.HEADER_ERROR, EndReason.HEADER_ERROR),
    int(ErrorCode.OPEN): (Input.OPEN_ERROR, EndReason.OPEN_ERROR),
    int(ErrorCode.UPDATE): (Input.UPDATE_ERROR, EndReason.UPDATE_ERROR),
    int(ErrorCode.REFRESH): (Input.ROUTE_REFRESH_ERROR, EndReason.REFRESH_ERROR),
}

_EXPIRED = {
    Timer.HOLD: End(EndReason.HOLD_TIMER, Notification(ErrorCode.HOLD_TIMER), sent=True),
    Timer.SEND_HOLD: End(EndReason.SEND_HOLD_TIMER, Notification(ErrorCode.SEND_HOLD_TIMER), sent=True),
}

_CAUSES = {
    Input.TCP_FAILS: End(EndReason.TCP_CLOSED),
    Input.COLLISION_DUMP: End(EndReason.COLLISION),
}
