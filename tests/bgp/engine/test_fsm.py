"""The transition table: the whole product, and the rows of RFC 4271 8.2.2 that matter most."""

from __future__ import annotations

from enum import Enum
from itertools import product

import pytest

from bgp.engine.fsm import TRANSITIONS, Action, IllegalTransitionError, Input, State, diagram, transition

S, N, X = State, Input, Action
OPENED = (S.OPEN_SENT, S.OPEN_CONFIRM, S.ESTABLISHED)


@pytest.mark.parametrize(("state", "what"), list(product(State, Input)))
def test_rfc4271_8_2_2_every_state_meets_every_input(state: State, what: Input) -> None:
    edge = transition(state, what)
    assert edge.reason
    assert isinstance(edge.action, Action)
    if edge.action is X.IGNORE:
        assert edge.to is state
    if edge.action in (X.CEASE, X.NOTIFY, X.DROP, X.FSM_ERROR, X.QUIET_STOP):
        assert edge.to is S.IDLE
    if edge.action in (X.CEASE, X.NOTIFY, X.FSM_ERROR):
        assert state in OPENED  # nobody is told anything before our OPEN


def test_the_table_is_enforced() -> None:
    foreign = Enum("foreign", ["SNEEZE"])
    with pytest.raises(IllegalTransitionError, match="SNEEZE cannot happen in Idle"):
        transition(State.IDLE, foreign.SNEEZE)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        TRANSITIONS[State.IDLE, Input.OPEN] = transition(State.IDLE, Input.OPEN)  # type: ignore[index]


@pytest.mark.parametrize("what", [one for one in Input if "START" not in one.name and one is not N.IDLE_HOLD_EXPIRES])
def test_rfc4271_8_2_2_idle_takes_nothing_but_a_start(what: Input) -> None:
    assert transition(S.IDLE, what).action is X.IGNORE


@pytest.mark.parametrize(
    ("state", "what", "action", "to"),
    [
        (S.IDLE, N.MANUAL_START, X.DIAL, S.CONNECT),
        (S.IDLE, N.MANUAL_START_PASSIVE, X.LISTEN, S.ACTIVE),
        (S.IDLE, N.AUTOMATIC_START_DAMPED, X.DAMP, S.IDLE),
        (S.CONNECT, N.CONNECT_RETRY_EXPIRES, X.REDIAL, S.CONNECT),
        (S.CONNECT, N.TCP_ACKED, X.SEND_OPEN, S.OPEN_SENT),
        (S.CONNECT, N.TCP_FAILS, X.RETRY, S.ACTIVE),
        (S.ACTIVE, N.CONNECT_RETRY_EXPIRES, X.REDIAL, S.CONNECT),
        (S.ACTIVE, N.TCP_CONFIRMED, X.SEND_OPEN, S.OPEN_SENT),
        (S.OPEN_SENT, N.OPEN, X.CONFIRM, S.OPEN_CONFIRM),
        (S.OPEN_SENT, N.TCP_FAILS, X.RETRY, S.ACTIVE),
        (S.OPEN_SENT, N.HOLD_EXPIRES, X.NOTIFY, S.IDLE),
        (S.OPEN_SENT, N.NOTIFICATION, X.DROP, S.IDLE),
        (S.OPEN_CONFIRM, N.KEEPALIVE, X.ESTABLISH, S.ESTABLISHED),
        (S.OPEN_CONFIRM, N.KEEPALIVE_EXPIRES, X.SEND_KEEPALIVE, S.OPEN_CONFIRM),
        (S.OPEN_CONFIRM, N.TCP_FAILS, X.DROP, S.IDLE),
        (S.ESTABLISHED, N.UPDATE, X.DELIVER, S.ESTABLISHED),
        (S.ESTABLISHED, N.ROUTE_REFRESH, X.DELIVER, S.ESTABLISHED),
        (S.ESTABLISHED, N.UPDATE_ERROR, X.NOTIFY, S.IDLE),
        (S.ESTABLISHED, N.HEADER_ERROR, X.NOTIFY, S.IDLE),
        (S.ESTABLISHED, N.OPEN, X.FSM_ERROR, S.IDLE),
        (S.ESTABLISHED, N.MANUAL_STOP, X.CEASE, S.IDLE),
        (S.ESTABLISHED, N.COLLISION_DUMP, X.CEASE, S.IDLE),
    ],
)
def test_rfc4271_8_2_2_rows(state: State, what: Input, action: Action, to: State) -> None:
    edge = transition(state, what)
    assert (edge.action, edge.to) == (action, to)


@pytest.mark.parametrize("state", OPENED)
@pytest.mark.parametrize("what", [N.OPEN, N.KEEPALIVE, N.UPDATE, N.UPDATE_ERROR, N.ROUTE_REFRESH])
def test_rfc6608_3_a_message_out_of_place_is_an_fsm_error(state: State, what: Input) -> None:
    in_place = {
        S.OPEN_SENT: {N.OPEN},
        S.OPEN_CONFIRM: {N.KEEPALIVE},
        S.ESTABLISHED: {N.KEEPALIVE, N.UPDATE, N.UPDATE_ERROR, N.ROUTE_REFRESH},
    }
    assert (transition(state, what).action is X.FSM_ERROR) == (what not in in_place[state])


def test_the_diagram_shows_every_edge_that_does_something() -> None:
    text = diagram()
    for (state, what), edge in TRANSITIONS.items():
        if edge.action is not X.IGNORE:
            lines = [line for line in text.splitlines() if f"{state.value} --> {edge.to.value} :" in line]
            assert any(what.name in line and edge.action.name in line for line in lines)
