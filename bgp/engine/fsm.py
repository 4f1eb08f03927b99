"""The session's state machine (RFC 4271 8.2.2) as one table over every state and every input. It is enforced.

The table is the whole truth about what may follow what; `session` only carries out its actions. Where we read the RFC
in our own way, the row says so. Left out are the inputs of options that we do not have: 12 and 20 (DelayOpen), 14 and
15 (`peers` judges a connection before a session sees it). Added are ROUTE-REFRESH (RFC 2918, RFC 7313) and the expiry
of the SendHoldTimer (RFC 9687 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

from attrs import frozen

__all__ = ["TRANSITIONS", "Action", "Edge", "IllegalTransitionError", "Input", "State", "diagram", "transition"]


class State(Enum):
    """RFC 4271 8.2.2. The values are what IOS prints."""

    IDLE = "Idle"
    CONNECT = "Connect"
    ACTIVE = "Active"
    OPEN_SENT = "OpenSent"
    OPEN_CONFIRM = "OpenConfirm"
    ESTABLISHED = "Established"


class Input(Enum):
    """The events of RFC 4271 8.1, by their numbers there; from 29 on, those of later RFCs."""

    MANUAL_START = 1
    MANUAL_STOP = 2
    AUTOMATIC_START = 3
    MANUAL_START_PASSIVE = 4
    AUTOMATIC_START_PASSIVE = 5
    AUTOMATIC_START_DAMPED = 6
    AUTOMATIC_START_DAMPED_PASSIVE = 7
    AUTOMATIC_STOP = 8
    CONNECT_RETRY_EXPIRES = 9
    HOLD_EXPIRES = 10
    KEEPALIVE_EXPIRES = 11
    IDLE_HOLD_EXPIRES = 13
    TCP_ACKED = 16
    TCP_CONFIRMED = 17
    TCP_FAILS = 18
    OPEN = 19
    HEADER_ERROR = 21
    OPEN_ERROR = 22
    COLLISION_DUMP = 23
    NOTIFICATION_VERSION = 24
    NOTIFICATION = 25
    KEEPALIVE = 26
    UPDATE = 27
    UPDATE_ERROR = 28
    ROUTE_REFRESH = 29
    ROUTE_REFRESH_ERROR = 30
    SEND_HOLD_EXPIRES = 31


class Action(Enum):
    """What a session does on its way along an edge."""

    IGNORE = "nothing"
    DIAL = "reset the back-off, start ConnectRetry, open a TCP connection"
    LISTEN = "reset the back-off, wait for the peer to connect"
    DAMP = "start IdleHold"
    RESTART = "start again by itself"
    REDIAL = "give up the TCP attempt, restart ConnectRetry, open another"
    SEND_OPEN = "stop ConnectRetry, send OPEN, start the long hold timer"
    RETRY = "close the TCP connection, restart ConnectRetry"
    CONFIRM = "take the negotiated times, send KEEPALIVE, start Hold and Keepalive"
    ESTABLISH = "restart Hold, tell that the session is up"
    ALIVE = "restart Hold"
    DELIVER = "restart Hold, hand the message over"
    SEND_KEEPALIVE = "send KEEPALIVE, restart Keepalive"
    QUIET_STOP = "close the TCP connection, stop every timer"
    CEASE = "send NOTIFICATION Cease, close, stop every timer"
    NOTIFY = "send NOTIFICATION, close, count a failure, start IdleHold"
    DROP = "close, count a failure, start IdleHold"
    FSM_ERROR = "send NOTIFICATION Finite State Machine Error, close, count a failure, start IdleHold"


class Edge(NamedTuple):
    action: Action
    to: State
    reason: str


@frozen
class IllegalTransitionError(Exception):
    """A pair that is not in the table: a fault of this program, since the table is total."""

    state: State
    input: Input

    def __str__(self) -> str:
        return f"{self.input.name} cannot happen in {self.state.value}"


_Row = dict[Input, Edge]

_STARTS = (
    Input.MANUAL_START,
    Input.AUTOMATIC_START,
    Input.MANUAL_START_PASSIVE,
    Input.AUTOMATIC_START_PASSIVE,
    Input.AUTOMATIC_START_DAMPED,
    Input.AUTOMATIC_START_DAMPED_PASSIVE,
)
_MESSAGES = (Input.OPEN, Input.KEEPALIVE, Input.UPDATE, Input.ROUTE_REFRESH)
_NOTIFIED = (Input.NOTIFICATION, Input.NOTIFICATION_VERSION)
_ERRORS = (Input.HEADER_ERROR, Input.OPEN_ERROR, Input.UPDATE_ERROR, Input.ROUTE_REFRESH_ERROR)


def _all(inputs: Iterable[Input], action: Action, to: State, reason: str) -> _Row:
    return dict.fromkeys(inputs, Edge(action, to, reason))


def _rest(action: Action, to: State, reason: str) -> _Row:
    """The RFC's "in response to any other event"; more particular rows are laid over it."""
    return _all(Input, action, to, reason)


# "By default, the BGP FSM is in the Idle state [...] refuses all incoming BGP connections": nothing but a start counts.
_IDLE: _Row = {
    **_rest(Action.IGNORE, State.IDLE, "idle"),
    Input.MANUAL_START: Edge(Action.DIAL, State.CONNECT, "started"),
    Input.AUTOMATIC_START: Edge(Action.DIAL, State.CONNECT, "started"),
    Input.MANUAL_START_PASSIVE: Edge(Action.LISTEN, State.ACTIVE, "started, passive"),
    Input.AUTOMATIC_START_PASSIVE: Edge(Action.LISTEN, State.ACTIVE, "started, passive"),
    Input.AUTOMATIC_START_DAMPED: Edge(Action.DAMP, State.IDLE, "held back after failures"),
    Input.AUTOMATIC_START_DAMPED_PASSIVE: Edge(Action.DAMP, State.IDLE, "held back after failures"),
    # RESTART feeds AUTOMATIC_START or AUTOMATIC_START_PASSIVE, as the neighbour is configured.
    Input.IDLE_HOLD_EXPIRES: Edge(Action.RESTART, State.IDLE, "held back long enough"),
}

_CONNECT: _Row = {
    **_rest(Action.DROP, State.IDLE, "unexpected while connecting"),
    **_all(_STARTS, Action.IGNORE, State.CONNECT, "started already"),
    Input.MANUAL_STOP: Edge(Action.QUIET_STOP, State.IDLE, "stopped"),
    Input.AUTOMATIC_STOP: Edge(Action.QUIET_STOP, State.IDLE, "stopped"),
    Input.COLLISION_DUMP: Edge(Action.QUIET_STOP, State.IDLE, "the peer's own connection was kept"),
    Input.CONNECT_RETRY_EXPIRES: Edge(Action.REDIAL, State.CONNECT, "no answer, once more"),
    Input.TCP_ACKED: Edge(Action.SEND_OPEN, State.OPEN_SENT, "connected"),
    Input.TCP_CONFIRMED: Edge(Action.SEND_OPEN, State.OPEN_SENT, "the peer connected"),
    # With DelayOpen the RFC goes to Active, without to Idle. We take the first: Idle would refuse a peer that returns.
    Input.TCP_FAILS: Edge(Action.RETRY, State.ACTIVE, "the connection failed"),
}

_ACTIVE: _Row = {
    **_rest(Action.DROP, State.IDLE, "unexpected while waiting"),
    **_all(_STARTS, Action.IGNORE, State.ACTIVE, "started already"),
    Input.MANUAL_STOP: Edge(Action.QUIET_STOP, State.IDLE, "stopped"),
    Input.AUTOMATIC_STOP: Edge(Action.QUIET_STOP, State.IDLE, "stopped"),
    Input.COLLISION_DUMP: Edge(Action.QUIET_STOP, State.IDLE, "the peer's own connection was kept"),
    Input.CONNECT_RETRY_EXPIRES: Edge(Action.REDIAL, State.CONNECT, "time to try again"),
    Input.TCP_ACKED: Edge(Action.SEND_OPEN, State.OPEN_SENT, "connected"),
    Input.TCP_CONFIRMED: Edge(Action.SEND_OPEN, State.OPEN_SENT, "the peer connected"),
}

_OPEN_SENT: _Row = {
    **_rest(Action.FSM_ERROR, State.IDLE, "unexpected before OPEN"),
    **_all(_STARTS, Action.IGNORE, State.OPEN_SENT, "started already"),
    **_all((Input.TCP_ACKED, Input.TCP_CONFIRMED), Action.IGNORE, State.OPEN_SENT, "a second connection is apart"),
    Input.MANUAL_STOP: Edge(Action.CEASE, State.IDLE, "stopped"),
    Input.AUTOMATIC_STOP: Edge(Action.CEASE, State.IDLE, "stopped"),
    Input.COLLISION_DUMP: Edge(Action.CEASE, State.IDLE, "collision: the other connection was kept"),
    Input.HOLD_EXPIRES: Edge(Action.NOTIFY, State.IDLE, "no OPEN in time"),
    Input.SEND_HOLD_EXPIRES: Edge(Action.NOTIFY, State.IDLE, "the peer does not read"),
    Input.TCP_FAILS: Edge(Action.RETRY, State.ACTIVE, "the connection was closed before OPEN"),
    Input.OPEN: Edge(Action.CONFIRM, State.OPEN_CONFIRM, "OPEN is acceptable"),
    **_all((Input.HEADER_ERROR, Input.OPEN_ERROR), Action.NOTIFY, State.IDLE, "OPEN is not acceptable"),
    # 8.2.2 lists event 25 here among those answered by an FSM error; 6.4 forbids to answer a NOTIFICATION so.
    **_all(_NOTIFIED, Action.DROP, State.IDLE, "NOTIFICATION received"),
}

_OPEN_CONFIRM: _Row = {
    **_rest(Action.FSM_ERROR, State.IDLE, "unexpected before the first KEEPALIVE"),
    **_all(_STARTS, Action.IGNORE, State.OPEN_CONFIRM, "started already"),
    **_all((Input.TCP_ACKED, Input.TCP_CONFIRMED), Action.IGNORE, State.OPEN_CONFIRM, "a second connection is apart"),
    Input.MANUAL_STOP: Edge(Action.CEASE, State.IDLE, "stopped"),
    Input.AUTOMATIC_STOP: Edge(Action.CEASE, State.IDLE, "stopped"),
    Input.COLLISION_DUMP: Edge(Action.CEASE, State.IDLE, "collision: the other connection was kept"),
    Input.HOLD_EXPIRES: Edge(Action.NOTIFY, State.IDLE, "hold time expired"),
    Input.SEND_HOLD_EXPIRES: Edge(Action.NOTIFY, State.IDLE, "the peer does not read"),
    Input.KEEPALIVE_EXPIRES: Edge(Action.SEND_KEEPALIVE, State.OPEN_CONFIRM, "still waiting"),
    Input.TCP_FAILS: Edge(Action.DROP, State.IDLE, "the connection was closed"),
    Input.KEEPALIVE: Edge(Action.ESTABLISH, State.ESTABLISHED, "KEEPALIVE received"),
    **_all((Input.HEADER_ERROR, Input.OPEN_ERROR), Action.NOTIFY, State.IDLE, "malformed message"),
    **_all(_NOTIFIED, Action.DROP, State.IDLE, "NOTIFICATION received"),
}

_ESTABLISHED: _Row = {
    **_rest(Action.FSM_ERROR, State.IDLE, "unexpected in Established"),
    **_all(_STARTS, Action.IGNORE, State.ESTABLISHED, "started already"),
    **_all((Input.TCP_ACKED, Input.TCP_CONFIRMED), Action.IGNORE, State.ESTABLISHED, "a second connection is apart"),
    Input.MANUAL_STOP: Edge(Action.CEASE, State.IDLE, "stopped"),
    Input.AUTOMATIC_STOP: Edge(Action.CEASE, State.IDLE, "stopped"),
    Input.COLLISION_DUMP: Edge(Action.CEASE, State.IDLE, "collision: the other connection was kept"),
    Input.HOLD_EXPIRES: Edge(Action.NOTIFY, State.IDLE, "hold time expired"),
    Input.SEND_HOLD_EXPIRES: Edge(Action.NOTIFY, State.IDLE, "the peer does not read"),
    Input.KEEPALIVE_EXPIRES: Edge(Action.SEND_KEEPALIVE, State.ESTABLISHED, "alive"),
    Input.TCP_FAILS: Edge(Action.DROP, State.IDLE, "the connection was closed"),
    Input.KEEPALIVE: Edge(Action.ALIVE, State.ESTABLISHED, "alive"),
    Input.UPDATE: Edge(Action.DELIVER, State.ESTABLISHED, "routes"),
    Input.ROUTE_REFRESH: Edge(Action.DELIVER, State.ESTABLISHED, "the peer wants our routes again"),
    # 8.2.2 would answer event 21 by an FSM error; 6.1 wants Message Header Error, which tells the peer more.
    **_all(
        (Input.HEADER_ERROR, Input.UPDATE_ERROR, Input.ROUTE_REFRESH_ERROR),
        Action.NOTIFY,
        State.IDLE,
        "malformed message",
    ),
    **_all(_NOTIFIED, Action.DROP, State.IDLE, "NOTIFICATION received"),
}

_ROWS = {
    State.IDLE: _IDLE,
    State.CONNECT: _CONNECT,
    State.ACTIVE: _ACTIVE,
    State.OPEN_SENT: _OPEN_SENT,
    State.OPEN_CONFIRM: _OPEN_CONFIRM,
    State.ESTABLISHED: _ESTABLISHED,
}

TRANSITIONS: Mapping[tuple[State, Input], Edge] = MappingProxyType(
    {(state, what): _ROWS[state][what] for state, what in product(State, Input)}
)
"""(state, input) -> edge, for every pair there is."""


def transition(state: State, what: Input) -> Edge:
    """The edge to take. Raises IllegalTransitionError, which only a fault of ours can cause."""
    edge = TRANSITIONS.get((state, what))
    if edge is None:
        raise IllegalTransitionError(state, what)
    return edge


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation. Edges that change nothing are left out."""
    lines = ["stateDiagram-v2", "    [*] --> Idle"]
    grouped: dict[tuple[State, State, Action], list[str]] = {}
    for (state, what), edge in TRANSITIONS.items():
        if edge.action is not Action.IGNORE:
            grouped.setdefault((state, edge.to, edge.action), []).append(what.name)
    for (state, to, action), inputs in grouped.items():
        lines.append(f"    {state.value} --> {to.value} : {', '.join(inputs)} / {action.name}")
    return "\n".join(lines)
