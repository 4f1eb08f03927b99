"""A peer with the right keys and the wrong intentions: any payloads, sealed, in any state, as request or as answer.

Nothing but typed outputs comes of it: no exception, no SA without a proof, no timer that does not get on, bounded tables."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ikev2.engine.children import MAX_CHILDREN, MAX_LINGERING
from ikev2.engine.contract import Ends, Established
from ikev2.engine.sa import IkeSa, State
from ikev2.wire import (
    Delete,
    Exchange,
    Message,
    Notify,
    NotifyKind,
    Payload,
    ProtocolId,
    encode_payloads,
    encode_sealed,
)
from tests.ikev2.pair import KEY_A, A, B, Pair, Side
from tests.ikev2.wire_values import payloads

PROTECTED = (Exchange.IKE_AUTH, Exchange.CREATE_CHILD_SA, Exchange.INFORMATIONAL)


def half_open(pair: Pair) -> None:
    """B has answered IKE_SA_INIT; A's IKE_AUTH is lost."""
    pair.a.initiate(pair.a.directory.children)
    pair.deliver()
    pair.deliver()
    pair.wire.clear()


def established(pair: Pair) -> None:
    pair.a.initiate(pair.a.directory.children)
    pair.run()


def rekeying_child(pair: Pair) -> None:
    established(pair)
    pair.b.rekey_child()


def rekeying_ike(pair: Pair) -> None:
    established(pair)
    pair.b.do("rekey", pair.now)


def replaced(pair: Pair) -> None:
    """B is the IKE SA that a successor has taken over, and waits for its DELETE."""
    established(pair)
    pair.a.do("rekey", pair.now)
    pair.deliver()
    pair.wire.clear()
    pair.b.current = pair.b.first


def closing(pair: Pair) -> None:
    established(pair)
    pair.b.do("close", "enough", pair.now)


def deleting_child(pair: Pair) -> None:
    established(pair)
    pair.b.do("delete_child", pair.b.child.number, pair.now)


STATES = (half_open, established, rekeying_child, rekeying_ike, replaced, closing, deleting_child)


def _about(pair: Pair) -> list[Payload]:
    """What is about SAs that there are, and so gets further than chance would."""
    known: list[Payload] = [payload for flight in pair.log for payload in flight.payloads]
    for spi in [row.spi for side in (pair.a, pair.b) for row in side.inbound.values()]:
        known += [
            Delete(ProtocolId.ESP, (spi.to_bytes(4),)),
            Notify(NotifyKind.REKEY_SA, b"", ProtocolId.ESP, spi.to_bytes(4)),
        ]
    return known


def _say(pair: Pair, sender: IkeSa, target: Side, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.one_of(payloads, st.sampled_from(_about(pair))), max_size=8))
    exchange = data.draw(st.sampled_from(PROTECTED))
    sa = target.current
    assert sa is not None
    response = data.draw(st.booleans()) and bool(sa.pending)
    if response:
        number = data.draw(st.sampled_from(sorted(sa.pending)))
        exchange = sa.pending[number].task.exchange
    else:
        number = sa.next_peer
    first, octets = encode_payloads(chosen)
    assert sender.seal_out is not None
    message = Message(sender.spi_i, sender.spi_r, exchange, number, sender.initiator, response)
    target.take(encode_sealed(message, first, octets, sender.seal_out), Ends(target.address, target.peer.address))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(state=st.sampled_from(STATES), data=st.data())
def test_I12_any_payloads_of_whoever_has_the_keys(state: object, data: st.DataObject) -> None:
    pair = Pair.of()
    pair.checking = False
    assert callable(state)
    state(pair)
    sender, target = pair.a.current, pair.b
    assert sender is not None
    pair.wire.clear()
    proved = any(isinstance(said, Established) for said in target.said)
    for _ in range(data.draw(st.integers(1, 8))):
        if target.current is None or target.current.state is State.CLOSED:
            break
        _say(pair, sender, target, data)
        pair.wire.clear()
        # nobody is let in who has not proved who he is: whoever only makes up payloads has no AUTH
        assert proved or not any(isinstance(said, Established) for said in target.said)
        assert proved or not target.inbound
        for sa in target.sas.values():
            assert len(sa.children) <= 2 * MAX_CHILDREN
            assert len(sa.lingering) <= MAX_LINGERING
        _gets_on(pair, target)
    # left alone, nothing of it stays: each state has an end
    pair.a.sas.clear()
    pair.advance(2 * 86400, run=False)
    assert not target.sas
    assert not target.inbound
    assert not target.outbound
    assert not target.directory.reserved


def _gets_on(pair: Pair, side: Side) -> None:
    """A turn puts off what is due: a timer that stays in the past would spin."""
    for sa in list(side.sas.values()):
        for _ in range(20):
            due = sa.deadline()
            if due is None or due > pair.now:
                break
            side.perform(sa, sa.wake(pair.now))
        else:
            raise AssertionError("it is due again and again")
    pair.wire.clear()


def test_the_states_are_what_they_are_called() -> None:
    expected = {
        half_open: State.HALF_OPEN,
        replaced: State.REKEYED,
        closing: State.DELETING,
    }
    for state in STATES:
        pair = Pair.of()
        pair.checking = False
        state(pair)
        assert pair.b.current is not None
        assert pair.b.current.state is expected.get(state, State.ESTABLISHED)
        assert (KEY_A in pair.a.outbound) is (state is not half_open)
        assert {pair.a.address, pair.b.address} == {A, B}
