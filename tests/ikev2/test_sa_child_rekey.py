"""CHILD_SA rekeys in every order (RFC 7296 1.3.3, 2.8, 2.8.1). Fault row I13.

Each exchange is drawn: `-->` from A to B, `<--` from B to A, `--\\` a message that is kept back, `\\->` where it
arrives, `--X` one that is lost. `Pair.check` holds after every step: what one end sends by, the other can receive by, with the
same key.
"""

from __future__ import annotations

import pytest

from ikev2.config import TransformSet
from ikev2.crypto.suites import Kind
from ikev2.engine import contract as c
from ikev2.engine.children import LINGER, SWITCH_AFTER, ChildState
from ikev2.engine.exchange.create import REFUSED_RETRY
from ikev2.engine.sa import State
from ikev2.wire import Delete, Notify, NotifyKind, Proposal, SecurityAssociation, TrafficSelectors, Transform
from stack.esp import Cipher, Selector
from tests.ikev2.pair import (
    HIGH,
    KEY_A,
    KEY_B,
    LOW,
    MID,
    MID2,
    PFS,
    REKEY,
    REKEYED,
    A,
    B,
    Pair,
    child_terms,
    hold,
    host,
    proposals,
    rows,
    settle,
    step,
)

# --- one rekey, alone -----------------------------------------------------------------------------------------------------


def test_I13_rfc7296_1_3_3_regular_rekey():
    # A: N(REKEY_SA), N(TRANSPORT), SA, Ni, TSi, TSr  -->
    #                                               <-- N(TRANSPORT), SA, Nr, TSi, TSr
    # A: D(old)                                     -->
    #                                               <-- D(old)
    pair = Pair.up()
    a, b = pair.a, pair.b
    old_a, old_b = a.child, b.child
    a.rekey_child()
    request = step(pair, REKEY)
    assert request.payloads[0] == Notify(NotifyKind.REKEY_SA, b"", 3, old_a.number.to_bytes(4))
    # B receives by both, and sends by the old one.
    new_b = next(n for n in b.inbound if n != old_b.number)
    assert rows(b) == ({old_b.number, new_b}, {old_a.number})
    assert [type(o) for o in b.said] == [c.PutInbound]
    step(pair, REKEYED)
    # A is sure of both: it sends by the new one.
    new_a = a.child.number
    assert rows(a) == ({old_a.number, new_a}, {new_b})
    assert [type(o) for o in a.said] == [c.PutInbound, c.PutOutbound, c.ChildUp]
    assert a.ups[0].replaces == old_a.number
    assert (a.ups[0].inbound.spi, a.ups[0].outbound.spi) == (new_a, new_b)
    delete = step(pair, "D")
    assert delete.payloads == (Delete(3, (old_a.number.to_bytes(4),)),)
    assert b.outbound[KEY_B].spi == new_a
    assert b.ups[0].replaces == old_b.number
    answer = step(pair, "D")
    assert answer.payloads == (Delete(3, (old_b.number.to_bytes(4),)),)
    # What is on its way is still taken for a while.
    assert set(a.inbound) == {old_a.number, new_a}
    pair.advance(LINGER - 0.1)
    assert set(b.inbound) == {old_b.number, new_b}
    pair.advance(0.2)
    pair.one_pair()
    assert not a.downs
    assert not b.downs


def test_I13_rekey_by_the_responder():
    #    <-- N(REKEY_SA), SA, Ni, TSi, TSr      B rekeys what A has made
    #    --> SA, Nr, TSi, TSr
    #    <-- D(old)
    #    --> D(old)
    pair = Pair.up()
    old = pair.b.child.number
    pair.b.rekey_child()
    first = step(pair, REKEY)
    assert first.to is pair.a
    selectors = [p for p in first.payloads if isinstance(p, TrafficSelectors)]
    assert [s.selectors for s in selectors] == [host(B), host(A)]
    settle(pair)
    assert pair.b.ups[0].replaces == old


def test_I13_responder_switches_with_the_first_packet_on_the_new_sa():
    # A: REKEY  -->
    #           <-- response
    # A: D(old) --X  lost; A's packets go by the new SA, so B knows that its answer arrived
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    step(pair, REKEY)
    step(pair, REKEYED)
    hold(pair, "D")
    before = b.outbound[KEY_B].spi
    pair.advance(0.3, run=False)
    assert b.outbound[KEY_B].spi == before
    a.packet()
    pair.advance(0.3, run=False)
    assert b.outbound[KEY_B].spi == a.child.number != before
    pair.wire.clear()
    pair.advance(2)
    settle(pair)


def test_I13_responder_switches_after_a_while_if_nothing_shows_that_it_may():
    # A: REKEY  -->
    #           <-- response; then A says nothing, and sends nothing
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    step(pair, REKEY)
    step(pair, REKEYED)
    pair.wire.clear()
    b.current.wake(pair.now + SWITCH_AFTER - 1)
    b.perform(b.current, [])
    assert not b.ups
    b.perform(b.current, b.current.wake(pair.now + SWITCH_AFTER + 1))
    assert len(b.ups) == 1


def test_I13_answer_lost_and_asked_again():
    # A: REKEY  -->
    #           X-- response
    # A: REKEY  -->   the same octets: B makes nothing, and gives the same answer
    #           <-- response
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    step(pair, REKEY)
    lost = hold(pair, REKEYED)
    held = set(b.inbound)
    pair.advance(0.6, run=False)
    again = step(pair)
    assert again.octets == pair.log[0].octets
    assert set(b.inbound) == held
    assert step(pair, REKEYED).octets == lost.octets
    settle(pair)


def test_I13_answer_that_comes_twice_is_taken_once():
    # A: REKEY  -->
    #           <-- response
    #           <-- response   no request waits for it
    pair = Pair.up()
    pair.a.rekey_child()
    step(pair, REKEY)
    answer = step(pair, REKEYED)
    held = rows(pair.a)
    pair.deliver(answer)
    assert rows(pair.a) == held
    assert pair.a.current.drops["response without request"] == 1
    settle(pair)


def test_I13_request_that_comes_late_and_twice():
    # A: REKEY  --\
    #             \-> (after 2 s, with what was sent again in between)
    pair = Pair.up()
    pair.a.rekey_child()
    first = hold(pair, REKEY)
    pair.advance(2, run=False)
    copies = list(pair.wire)
    assert len(copies) == 2
    pair.wire.clear()
    for flight in [*copies, first]:
        pair.deliver(flight)
    assert len(pair.b.inbound) == 2
    settle(pair)


def test_I13_dropped_delete_is_repeated():
    # A: REKEY  -->
    #           <-- response
    # A: D(old) --X
    # A: D(old) -->   half a second later
    #           <-- D(old)
    pair = Pair.up()
    pair.a.rekey_child()
    step(pair, REKEY)
    step(pair, REKEYED)
    hold(pair, "D")
    pair.advance(0.6)
    settle(pair)


def test_I13_dropped_answer_to_delete():
    # A: D(old) -->
    #           X-- D(old)
    # A: D(old) -->   B has nothing to delete any more, and says again what it said
    pair = Pair.up()
    pair.a.rekey_child()
    step(pair, REKEY)
    step(pair, REKEYED)
    step(pair, "D")
    lost = hold(pair, "D")
    pair.advance(0.6, run=False)
    step(pair, "D")
    assert step(pair, "D").octets == lost.octets
    settle(pair)


def test_I13_many_rekeys_in_a_row_by_both():
    pair = Pair.up()
    for turn in range(6):
        (pair.a if turn % 2 else pair.b).rekey_child()
        pair.run()
        assert pair.a.packet()
        assert pair.b.packet()
    pair.advance(LINGER + 1)
    pair.one_pair()


# --- proposals, groups ----------------------------------------------------------------------------------------------------


def test_I13_pfs():
    # A: N(REKEY_SA), SA, Ni, KEi, TSi, TSr  -->
    #                                        <-- SA, Nr, KEr, TSi, TSr
    pair = Pair.up(proposals=proposals(pfs=19))
    pair.a.rekey_child()
    request = step(pair, PFS)
    sa = next(p for p in request.payloads if isinstance(p, SecurityAssociation))
    assert Transform(Kind.GROUP, 19) in sa.proposals[0].transforms
    step(pair, "N(USE_TRANSPORT_MODE) SA No KE TSi TSr")
    assert pair.a.child.agreed.group == 19
    settle(pair)
    assert pair.b.child.agreed.group == 19


def test_I13_pfs_invalid_ke_then_the_group_that_the_peer_wants():
    # A: N(REKEY_SA), SA(19, 31), Ni, KEi(19)  -->
    #                                          <-- N(INVALID_KE_PAYLOAD, 31)
    # A: N(REKEY_SA), SA(19, 31), Ni, KEi(31)  -->
    #                                          <-- SA, Nr, KEr(31)
    both = tuple(
        Proposal(p.number, p.protocol, b"", (*p.transforms, Transform(Kind.GROUP, 31))) for p in proposals(pfs=19)
    )
    pair = Pair.up(a_child={"proposals": both}, b_child={"proposals": proposals(pfs=31)})
    pair.a.rekey_child()
    step(pair, PFS)
    refusal = step(pair, "N(INVALID_KE_PAYLOAD)")
    assert refusal.payloads[0].octets == (31).to_bytes(2)
    assert len(pair.a.inbound) == 1
    step(pair, PFS)
    step(pair, "N(USE_TRANSPORT_MODE) SA No KE TSi TSr")
    assert pair.a.child.agreed.group == 31
    settle(pair)


def test_I13_I06_invalid_ke_for_a_group_that_was_not_offered():
    # A: N(REKEY_SA), SA(19), KEi(19)  -->
    #                                  <-- N(INVALID_KE_PAYLOAD, 31)   A did not offer 31: it has failed, the old SA goes on
    pair = Pair.up(proposals=proposals(pfs=19))
    pair.a.rekey_child()
    hold(pair, PFS)
    pair.a.current.pending[2].task.answered(pair.a.current, (Notify(17, (31).to_bytes(2)),))
    assert pair.a.child.state is ChildState.INSTALLED
    assert not pair.a.current.queue
    assert pair.a.packet()


def test_I13_I06_invalid_ke_again_and_again_ends():
    # A: KEi(19) -->  <-- N(INVALID_KE_PAYLOAD, 31)
    # A: KEi(31) -->  <-- N(INVALID_KE_PAYLOAD, 19)
    # A: KEi(19) -->  <-- N(INVALID_KE_PAYLOAD, 31)  ... three times, then no more
    both = tuple(
        Proposal(p.number, p.protocol, b"", (*p.transforms, Transform(Kind.GROUP, 31))) for p in proposals(pfs=19)
    )
    pair = Pair.up(proposals=both)
    sa = pair.a.current
    pair.a.rekey_child()
    task = next(iter(sa.pending.values())).task
    for turn in range(10):  # noqa: B007  (looked at afterwards)
        sa.pending.clear()
        task.answered(sa, (Notify(17, (19 if task.group == 31 else 31).to_bytes(2)),))
        if task not in sa.queue:
            break
        sa.pump()
    assert turn == 3
    assert pair.a.child.state is ChildState.INSTALLED


def test_I13_several_proposals_the_responders_order_decides():
    # A: SA(aes-gcm-128 | aes-gcm-256) -->
    #                                  <-- SA(2: aes-gcm-256)   B's first
    weak, strong = TransformSet("w", Cipher.AES_GCM_128), TransformSet("s", Cipher.AES_GCM_256)
    pair = Pair.up(a_child={"proposals": proposals(weak, strong)}, b_child={"proposals": proposals(strong, weak)})
    pair.a.rekey_child()
    step(pair, REKEY)
    answer = step(pair, REKEYED)
    sa = next(p for p in answer.payloads if isinstance(p, SecurityAssociation))
    assert [p.number for p in sa.proposals] == [2]
    assert pair.a.child.inbound.form.cipher is Cipher.AES_GCM_256
    settle(pair)


def test_I13_E05_no_proposal_chosen_and_the_old_sa_ends_at_its_hard_lifetime():
    # A: REKEY -->
    #          <-- N(NO_PROPOSAL_CHOSEN)
    # ... again after a while, and again; at the hard lifetime the old SA is gone at both ends, and nothing is sent
    pair = Pair.up(a_child={"lifetime": 200.0}, b_child={"lifetime": 0.0})
    pair.b.child.terms = child_terms(KEY_B, B, A, proposals=proposals(TransformSet("x", Cipher.CHACHA20_POLY1305)))
    pair.a.rekey_child()
    step(pair, REKEY)
    step(pair, "N(NO_PROPOSAL_CHOSEN)")
    assert pair.a.child.state is ChildState.INSTALLED
    assert len(pair.a.inbound) == 1
    assert pair.a.packet()
    pair.advance(2 * REFUSED_RETRY + 1)
    assert [f.names for f in pair.log].count(REKEY) >= 2
    pair.checking = False
    pair.advance(200)
    assert not pair.a.packet()
    assert not pair.b.packet()
    assert [d.reason for d in pair.a.downs] == ["its lifetime is over"]
    pair.advance(LINGER + 1)
    assert not pair.a.inbound
    assert not pair.b.inbound
    assert not pair.a.directory.reserved
    assert pair.a.current.state is pair.b.current.state is State.ESTABLISHED


def test_I13_I15_answer_with_an_algorithm_that_was_not_offered():
    # A: REKEY(gcm-256) -->
    #                   <-- SA(gcm-128), forged by a broken peer: A deletes what B has made, and the old SA goes on
    pair = Pair.up()
    pair.a.rekey_child()
    step(pair, REKEY)
    hold(pair, REKEYED)
    sa = pair.a.current
    pending = sa.pending.pop(2)
    answer = tuple(
        SecurityAssociation((Proposal(1, 3, b"\0\0\xb0\x03", (Transform(1, 20, 128), Transform(5, 1))),))
        if isinstance(p, SecurityAssociation)
        else p
        for p in pair.log[-1].payloads
    )
    pending.task.answered(sa, answer)
    pair.a.perform(sa, sa.wake(pair.now))
    assert pair.a.child.state is ChildState.INSTALLED
    step(pair, "D")
    pair.run()
    pair.advance(LINGER + 1)
    pair.one_pair()


@pytest.mark.parametrize("spi", [b"\0\0\0\0", b"\0\0\0\1", b"\0\0\1", b""])
def test_I13_I14_spi_zero_or_reserved_is_refused_both_ways(spi):
    pair = Pair.up()
    pair.a.rekey_child()
    request = hold(pair, REKEY)

    def changed(payloads):
        return tuple(
            SecurityAssociation(tuple(Proposal(p.number, p.protocol, spi, p.transforms) for p in one.proposals))
            if isinstance(one, SecurityAssociation)
            else one
            for one in payloads
        )

    from ikev2.engine.exchange import create

    answer = create.respond(pair.b.current, changed(request.payloads))
    assert answer == [Notify(NotifyKind.NO_PROPOSAL_CHOSEN)]
    pair.deliver(request)
    hold(pair, REKEYED)
    task = pair.a.current.pending.pop(2).task
    task.answered(pair.a.current, changed(pair.log[-1].payloads))
    assert pair.a.child.state is ChildState.INSTALLED


# --- selectors ------------------------------------------------------------------------------------------------------------


def test_I13_I14_a_rekey_does_not_widen_the_selectors():
    # A: REKEY, TSi = 0.0.0.0-255.255.255.255 -->
    #                                         <-- TSi = what the old SA had
    pair = Pair.up()
    everything = (Selector(bytes(4), b"\xff" * 4),)
    pair.a.rekey_child()
    request = hold(pair, REKEY)
    payloads = tuple(
        TrafficSelectors(p.initiator, everything) if isinstance(p, TrafficSelectors) else p for p in request.payloads
    )
    from ikev2.engine.exchange import create

    answer = create.respond(pair.b.current, payloads)
    assert [p.selectors for p in answer if isinstance(p, TrafficSelectors)] == [host(A), host(B)]


def test_I13_I14_an_answer_with_wider_selectors_is_refused():
    # A: REKEY -->
    #          <-- TSr = everything: A deletes that SA and keeps the old one
    pair = Pair.up()
    pair.a.rekey_child()
    step(pair, REKEY)
    hold(pair)
    task = pair.a.current.pending.pop(2).task
    payloads = tuple(
        TrafficSelectors(False, (Selector(bytes(4), b"\xff" * 4),))
        if isinstance(p, TrafficSelectors) and not p.initiator
        else p
        for p in pair.log[-1].payloads
    )
    task.answered(pair.a.current, payloads)
    pair.a.perform(pair.a.current, pair.a.current.wake(pair.now))
    assert pair.a.child.state is ChildState.INSTALLED
    settle(pair)


def test_I13_I14_rekey_with_selectors_outside_the_old_ones():
    # A: REKEY, TSi = 192.0.2.1 -->
    #                           <-- N(TS_UNACCEPTABLE)
    pair = Pair.up()
    pair.a.rekey_child()
    request = hold(pair, REKEY)
    other = host(bytes([192, 0, 2, 1]))
    payloads = tuple(
        TrafficSelectors(p.initiator, other) if isinstance(p, TrafficSelectors) else p for p in request.payloads
    )
    from ikev2.engine.exchange import create

    assert create.respond(pair.b.current, payloads) == [Notify(NotifyKind.TS_UNACCEPTABLE)]
    assert len(pair.b.inbound) == 1


# --- two rekeys at once: who has the lowest nonce ---------------------------------------------------------------------------
#
#   A: REKEY Ni_a  --\ /--  REKEY Ni_b :B
#                     X
#              <-----/ \----->
#   A: response Nr_a --\ /-- response Nr_b :B
#
# B's exchange is (Ni_b, Nr_a), A's is (Ni_a, Nr_b).


@pytest.mark.parametrize(
    ("nonces", "winner"),
    [
        # (Ni_a, Nr_a, Ni_b, Nr_b)
        ((LOW, MID, MID2, HIGH), "b"),
        ((MID, LOW, MID2, HIGH), "a"),
        ((MID, MID2, LOW, HIGH), "a"),
        ((MID, MID2, HIGH, LOW), "b"),
    ],
    ids=["Ni_a lowest", "Nr_a lowest", "Ni_b lowest", "Nr_b lowest"],
)
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_I13_rfc7296_2_8_1_collision_the_lowest_nonce_loses(nonces, winner, order):
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.script.extend(nonces[:2])
    b.script.extend(nonces[2:])
    old_a, old_b = a.child.number, b.child.number
    a.rekey_child()
    b.rekey_child()
    to_b, to_a = hold(pair, REKEY, to=b), hold(pair, REKEY, to=a)
    pair.deliver(to_b)
    pair.deliver(to_a)
    assert len(a.inbound) == len(b.inbound) == 2
    answers = {"a": hold(pair, REKEYED, to=a), "b": hold(pair, REKEYED, to=b)}
    # Nobody has switched: neither is sure.
    assert a.outbound[KEY_A].spi == old_b
    assert b.outbound[KEY_B].spi == old_a
    for name in order:
        pair.deliver(answers[name])
    winning, losing = (a, b) if winner == "a" else (b, a)
    # Who has won deletes the old one, who has lost its own.
    assert winning.ups[0].replaces == (old_a if winner == "a" else old_b)
    assert not losing.ups
    deletes = {f.to.peer.name: f.payloads[0].spis for f in pair.wire if f.names == "D"}
    assert deletes[winning.name] == ((old_a if winner == "a" else old_b).to_bytes(4),)
    redundant = next(child for child in losing.current.children.values() if child.redundant)
    assert deletes[losing.name] == (redundant.number.to_bytes(4),)
    settle(pair)
    assert winning.child.ours
    assert not losing.child.ours
    assert len(a.ups) == len(b.ups) == 1
    assert not a.downs
    assert not b.downs


@pytest.mark.parametrize("winner", ["a", "b"])
def test_I13_collision_with_pfs(winner):
    pair = Pair.up(proposals=proposals(pfs=19))
    pair.a.script.append(LOW if winner == "b" else HIGH)
    pair.b.script.append(HIGH if winner == "b" else LOW)
    pair.a.rekey_child()
    pair.b.rekey_child()
    settle(pair)
    assert pair.a.child.ours == (winner == "a")


@pytest.mark.parametrize("winner", ["a", "b"])
def test_I13_collision_delayed_response(winner):
    # A: REKEY      --\ /-- REKEY :B
    #              <---X--->
    # A: response   -->            B knows all four nonces; A does not yet
    #               /-- response :B, kept back
    # then B's DELETE reaches A first
    #              <-/ response
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.script.append(HIGH if winner == "a" else LOW)
    b.script.append(HIGH if winner == "b" else LOW)
    a.rekey_child()
    b.rekey_child()
    pair.deliver(pair.next(b))
    pair.deliver(pair.next(a))
    late = hold(pair, REKEYED, to=a)
    step(pair, REKEYED, to=b)
    deleted = step(pair, "D", to=a)
    assert deleted.payloads[0].spis != ()
    pair.run()
    pair.deliver(late)
    settle(pair)
    assert a.child.ours == (winner == "a")
    assert len(a.ups) == len(b.ups) == 1
    assert not a.downs
    assert not b.downs


def test_I13_collision_delayed_request_the_peer_has_finished():
    # A: REKEY  --\            B does not hear of it
    #              <-- REKEY :B
    # A: response   -->        B is sure
    #              <-- D(old)
    # A: D(old)     -->
    #             \-> REKEY    for an SA that B has not got any more
    #              <-- N(CHILD_SA_NOT_FOUND)
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    late = hold(pair, REKEY, to=b)
    b.rekey_child()
    step(pair, REKEY, to=a)
    step(pair, REKEYED, to=b)
    step(pair, "D", to=a)
    step(pair, "D", to=b)
    pair.deliver(late)
    refusal = step(pair, "N(CHILD_SA_NOT_FOUND)", to=a)
    assert refusal.payloads[0].spi == late.payloads[0].spi
    settle(pair)
    assert not a.child.ours


def test_I13_collision_delayed_request_the_old_sa_is_being_deleted():
    # A: REKEY  --\
    #              <-- REKEY :B
    # A: response   -->
    #            /---- D(old), kept back
    #             \-> REKEY    while B closes that SA
    #              <-- N(TEMPORARY_FAILURE)
    #            <-/
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    late = hold(pair, REKEY, to=b)
    b.rekey_child()
    step(pair, REKEY, to=a)
    step(pair, REKEYED, to=b)
    delete = hold(pair, "D", to=a)
    pair.deliver(late)
    step(pair, "N(TEMPORARY_FAILURE)", to=a)
    pair.deliver(delete)
    settle(pair)
    assert not a.child.ours
    assert len(a.ups) == 1


def test_I13_collision_delayed_request_and_the_answer_comes_after_the_delete():
    # As above, but N(TEMPORARY_FAILURE) is kept back until the old SA is gone.
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.rekey_child()
    late = hold(pair, REKEY, to=b)
    b.rekey_child()
    step(pair, REKEY, to=a)
    step(pair, REKEYED, to=b)
    delete = hold(pair, "D", to=a)
    pair.deliver(late)
    refusal = hold(pair, "N(TEMPORARY_FAILURE)", to=a)
    pair.deliver(delete)
    pair.run()
    pair.deliver(refusal)
    settle(pair)
    assert len(a.ups) == len(b.ups) == 1


def test_I13_collision_own_rekey_still_waits_in_the_queue():
    # A has a liveness check under way, so its rekey waits; B's rekey comes first: A's is not needed any more.
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.do("check_alive", pair.now)
    check = hold(pair, "", to=b)
    a.rekey_child()
    assert len(a.current.queue) == 1
    b.rekey_child()
    step(pair, REKEY, to=a)
    assert not a.current.queue
    pair.deliver(check)
    settle(pair)
    assert [f.names for f in pair.log].count(REKEY) == 1


def test_I13_collision_the_losers_delete_is_lost():
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.script.append(LOW)
    b.script.append(HIGH)
    a.rekey_child()
    b.rekey_child()
    pair.deliver(pair.next(b))
    pair.deliver(pair.next(a))
    pair.deliver(pair.next(a))
    (lost,) = [flight for flight in pair.wire if flight.names == "D"]
    pair.wire.remove(lost)
    pair.run()
    pair.advance(1)
    settle(pair)
    assert b.child.ours
