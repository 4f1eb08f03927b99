"""CHILD_SAs deleted while they are rekeyed, made anew, and their lifetimes (RFC 7296 1.3.1, 1.4.1, 2.8, 2.25.1). Fault row I13.

Each exchange is drawn: `-->` from A to B, `<--` from B to A, `--\\` a message that is kept back, `\\->` where it
arrives, `--X` one that is lost. `Pair.check` holds after every step: what one end sends by, the other can receive by, with the
same key.
"""

from __future__ import annotations

import pytest

from ikev2.config import TransformSet
from ikev2.crypto.suites import esp_proposals
from ikev2.engine import contract as c
from ikev2.engine.children import LINGER, ChildState
from ikev2.engine.exchange.create import MAX_CREATE_TRIES, RETRY
from ikev2.engine.sa import State
from ikev2.wire import Notify, NotifyKind
from stack.esp import EspMode
from tests.ikev2.pair import (
    KEY_A,
    KEY_B,
    REKEY,
    REKEYED,
    A,
    B,
    Pair,
    child_terms,
    hold,
    settle,
    step,
)

# --- a rekey and a delete at once -------------------------------------------------------------------------------------------


def test_rfc7296_2_25_1_rekey_meets_delete():
    # A: REKEY --\ /-- D(old) :B
    #             X
    # A: D(old)  -->                      answered as usual
    #            <-- N(TEMPORARY_FAILURE) B closes that SA
    pair = Pair.up()
    a, b = pair.a, pair.b
    old_a = a.child.number
    a.rekey_child()
    b.do("delete_child", b.child.number, pair.now)
    pair.deliver(pair.next(b))
    step(pair, "D", to=a)
    assert [d.number for d in a.downs] == [old_a]
    step(pair, "N(TEMPORARY_FAILURE)", to=a)
    step(pair, "D", to=b)
    pair.run()
    pair.advance(LINGER + 1)
    for side in (a, b):
        assert not side.inbound
        assert not side.outbound
        assert not side.directory.reserved
        assert side.current.state is State.ESTABLISHED
    assert not a.packet()


def test_rekey_meets_delete_that_was_first():
    # A: REKEY   --\
    #               <-- D(old) :B
    # A: D(old)      -->
    #              \-> REKEY
    #               <-- N(CHILD_SA_NOT_FOUND)   A has none either: nothing to do
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    late = hold(pair, REKEY, to=b)
    b.do("delete_child", b.child.number, pair.now)
    step(pair, "D", to=a)
    step(pair, "D", to=b)
    pair.deliver(late)
    step(pair, "N(CHILD_SA_NOT_FOUND)", to=a)
    pair.run()
    pair.advance(60)
    assert not a.current.children
    assert not a.directory.reserved
    assert not b.directory.reserved


def test_rekey_answered_and_then_the_old_sa_deleted():
    # A: REKEY    -->
    #           /-- response, kept back
    #             <-- D(old) :B   (B is told to delete what it has; that takes its successor with it)
    # A: D(old)   -->
    #           <-/ response
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    step(pair, REKEY)
    late = hold(pair, REKEYED, to=a)
    pair.checking = False
    b.do("delete_child", b.child.number, pair.now)
    pair.run()
    assert a.current.buried
    pair.deliver(late)
    assert not a.current.buried
    pair.run()
    pair.advance(60)
    assert not b.current.children
    assert not a.packet()
    assert not a.current.children
    assert not a.directory.reserved
    assert not b.directory.reserved


def test_delete_of_what_we_are_rekeying():
    # A: REKEY   -->
    # A is told to delete the SA while it waits: nothing is sent by it from now on
    #            <-- response
    # A: D(new)  -->
    # A: D(old)  -->
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    step(pair, REKEY)
    a.do("delete_child", a.child.number, pair.now)
    assert not a.packet()
    assert [d.reason for d in a.downs] == ["deleted"]
    pair.run()
    pair.advance(LINGER + 1)
    for side in (a, b):
        assert not side.current.children
        assert not side.inbound
        assert not side.outbound
        assert not side.directory.reserved
    assert not a.ups


def test_delete_of_what_both_are_rekeying():
    # A: REKEY --\ /-- REKEY :B       A is told to delete it before the answers are here
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    b.rekey_child()
    pair.deliver(pair.next(b))
    pair.deliver(pair.next(a))
    pair.checking = False
    a.do("delete_child", a.child.number, pair.now)
    pair.run()
    pair.advance(60)
    for side in (a, b):
        assert not side.current.children
        assert not side.inbound
        assert not side.outbound
        assert not side.directory.reserved


def test_rfc7296_1_4_1_both_delete_at_once():
    # A: D(x) --\ /-- D(x) :B
    #            X
    # A: (empty)  -->
    #            <-- (empty)
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.do("delete_child", a.child.number, pair.now)
    b.do("delete_child", b.child.number, pair.now)
    pair.deliver(pair.next(b))
    step(pair, "D", to=a)
    step(pair, "", to=a)
    step(pair, "", to=b)
    pair.advance(LINGER + 1)
    for side in (a, b):
        assert not side.inbound
        assert not side.directory.reserved
        assert len(side.downs) == 1


def test_delete_for_an_unknown_spi():
    # A: D(an SPI that nobody has) -->
    #                              <-- (empty)
    pair = Pair.up()
    from ikev2.engine.exchange.delete import DeleteChild

    pair.a.directory.reserved.add(0xDEAD)
    pair.a.current.submit(DeleteChild(0xDEAD, unknown=True))
    pair.a.do("check_alive", pair.now)
    step(pair, "D")
    step(pair, "")
    settle(pair)


def test_delete_of_the_new_sa_right_after_the_rekey_goes_back_to_the_old_one():
    # A: REKEY    -->
    #             <-- response
    # A: D(new)   -->    A has thought better of it; the old SA is not deleted yet
    pair = Pair.up()
    a, b = pair.a, pair.b
    old_a, old_b = a.child.number, b.child.number
    a.rekey_child()
    step(pair, REKEY)
    new_b = next(child for child in b.current.children.values() if child.number != old_b)
    hold(pair, REKEYED)
    from ikev2.engine.exchange.delete import deleted

    pair.checking = False
    assert deleted(b.current, new_b)
    assert b.current.children[old_b].state is ChildState.INSTALLED
    assert b.outbound[KEY_B].spi == old_a
    assert not b.downs


def test_child_sa_not_found_makes_another():
    # B has lost the SA (it came back from a crash)
    # A: REKEY                    -->
    #                             <-- N(CHILD_SA_NOT_FOUND)
    # A: SA, Ni, TSi, TSr  (new)  -->
    #                             <-- SA, Nr, TSi, TSr
    pair = Pair.up()
    a, b = pair.a, pair.b
    old = a.child.number
    pair.checking = False
    b.current.children.clear()
    b.inbound.clear()
    b.outbound.clear()
    b.directory.reserved.clear()
    a.rekey_child()
    step(pair, REKEY)
    step(pair, "N(CHILD_SA_NOT_FOUND)")
    assert not a.packet()
    step(pair, "N(USE_TRANSPORT_MODE) SA No TSi TSr")
    pair.checking = True
    settle(pair)
    assert a.ups[0].replaces == old
    assert not a.downs


def test_rekey_of_what_we_are_still_making():
    # A: SA, Ni, TSi, TSr  -->
    #                    /-- SA, Nr, TSi, TSr
    #                      <-- N(REKEY_SA) :B, for that CHILD_SA, which A does not know yet
    # A: N(TEMPORARY_FAILURE) -->
    #                    <-/
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.do("add_child", a.directory.children, pair.now)
    step(pair)
    late = hold(pair)
    b.rekey_child()
    step(pair, REKEY, to=a)
    step(pair, "N(TEMPORARY_FAILURE)", to=b)
    pair.deliver(late)
    pair.run()
    pair.advance(3 * RETRY)
    pair.run()
    assert a.packet()
    assert b.packet()
    assert len(a.current.children) == len(b.current.children) == 2


def test_temporary_failure_is_tried_again_later():
    # A: REKEY  -->
    #           <-- N(TEMPORARY_FAILURE)
    # not at once (RFC 7296 2.25), but soon
    pair = Pair.up()
    a, b = pair.a, pair.b
    b.child.state = ChildState.DELETING
    a.rekey_child()
    step(pair, REKEY)
    step(pair, "N(TEMPORARY_FAILURE)")
    b.child.state = ChildState.INSTALLED
    pair.advance(RETRY - 0.1)
    assert len(pair.log) == 2
    pair.advance(RETRY + 0.2)
    settle(pair)
    assert len(a.ups) == 1


def test_new_child_with_temporary_failure_is_given_up_in_the_end():
    pair = Pair.up()
    a, b = pair.a, pair.b
    b.current.children[b.child.number].state = ChildState.INSTALLED
    task_count = 0
    a.do("add_child", child_terms(a.key._replace(remote=b"x"), A, B), pair.now)
    sa = a.current
    while sa.pending or sa.queue:
        if sa.pending:
            pending = sa.pending.popitem()[1]
            pair.wire.clear()
            task_count += 1
            pending.task.answered(sa, (Notify(NotifyKind.TEMPORARY_FAILURE),))
        pair.now += 10
        a.perform(sa, sa.wake(pair.now))
    assert task_count == MAX_CREATE_TRIES + 1
    assert [d.refused for d in a.downs] == [True]


# --- lifetimes ------------------------------------------------------------------------------------------------------------


def test_rekey_by_time_and_whoever_is_first():
    pair = Pair.up(lifetime=300.0)
    pair.advance(300 * 0.84)
    assert not pair.log
    pair.advance(300 * 0.12)
    assert any(f.names == REKEY for f in pair.log)
    settle(pair)
    pair.advance(3000)
    pair.one_pair()
    assert not pair.a.downs
    assert not pair.b.downs


@pytest.mark.parametrize("limit", [{"octets": 1000}, {"packets": 1000}])
def test_rekey_by_octets_and_packets(limit):
    pair = Pair.up(**limit)
    row = pair.a.outbound[KEY_A]
    hard = row.hard_octets or row.hard_packets
    soft = row.soft_octets or row.soft_packets
    assert hard == 1000
    assert 850 <= soft < 950
    row.use.octets = row.use.packets = 950
    pair.a.perform(pair.a.current, pair.a.current.wake(pair.now))
    assert pair.wire[0].names == REKEY
    settle(pair)


def test_rfc4303_3_3_3_without_esn_an_sa_ends_before_its_sequence_numbers_do():
    pair = Pair.up(proposals=esp_proposals([TransformSet("t")], esn=False))
    row = pair.a.outbound[KEY_A]
    assert not row.esn
    assert row.hard_packets == 2**32 - 1
    assert 0.85 * 2**32 <= row.soft_packets + 1 < 0.95 * 2**32
    assert Pair.up().a.outbound[KEY_A].hard_packets == 0


def test_lifetimes_are_spread():
    parts = set()
    for seed in range(8):
        pair = Pair.of(lifetime=1000.0)
        pair.a.seed = seed
        pair.a.initiate(pair.a.directory.children)
        pair.run()
        parts.add(round(pair.a.child.soft_time - pair.now))
    assert len(parts) > 4
    assert all(850 <= part < 950 for part in parts)


# --- new CHILD_SAs ---------------------------------------------------------------------------------------------------------


def test_rfc7296_1_3_1_new_child_in_the_same_ike_sa():
    # A: N(TRANSPORT), SA, Ni, TSi, TSr  -->
    #                                    <-- N(TRANSPORT), SA, Nr, TSi, TSr
    pair = Pair.up()
    a, b = pair.a, pair.b
    key = a.key._replace(remote=b"x")
    b.directory.children = child_terms(KEY_B._replace(remote=b"y"), B, A)
    a.do("add_child", child_terms(key, A, B), pair.now)
    step(pair, "N(USE_TRANSPORT_MODE) SA No TSi TSr")
    step(pair, "N(USE_TRANSPORT_MODE) SA No TSi TSr")
    assert set(a.outbound) == {KEY_A, key}
    assert len(b.outbound) == 2
    assert a.ups[0].replaces == 0


@pytest.mark.parametrize("refusal", [c.Refusal("no tunnel of that kind"), c.Refusal("none", 35), c.Refusal("ts", 38)])
def test_new_child_that_the_directory_refuses(refusal):
    pair = Pair.up()
    pair.b.directory.refuse_child = refusal
    pair.a.do("add_child", child_terms(KEY_A._replace(remote=b"x"), A, B), pair.now)
    step(pair)
    answer = step(pair)
    assert answer.payloads == (Notify(38 if refusal.notify == 24 else refusal.notify),)
    assert [(d.number, d.refused) for d in pair.a.downs] == [(0, True)]
    settle(pair)


def test_both_make_a_child_for_one_neighbour_and_one_is_deleted():
    # The other one carries on.
    pair = Pair.up()
    a, b = pair.a, pair.b
    first = a.child.number
    a.do("add_child", a.directory.children, pair.now)
    pair.run()
    second = a.child.number
    assert second != first
    a.do("delete_child", second, pair.now)
    assert a.child.number == first
    settle(pair)
    assert b.packet()


def test_transport_mode_that_the_responder_does_not_confirm_is_tunnel_mode():
    pair = Pair.up(b_child={"mode": EspMode.TUNNEL})
    assert pair.a.child.inbound.form.mode is pair.b.child.inbound.form.mode is EspMode.TUNNEL
    pair.a.rekey_child()
    step(pair, "N(REKEY_SA) SA No TSi TSr")
    settle(pair)


def test_the_responder_takes_tunnel_mode_if_it_is_asked_for():
    pair = Pair.up(a_child={"mode": EspMode.TUNNEL})
    assert pair.b.child.inbound.form.mode is EspMode.TUNNEL
