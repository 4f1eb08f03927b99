"""IKE SA rekeys and deletes in every order (RFC 7296 1.3.2, 2.8.2, 2.18, 2.25.2). Fault row I13.

Drawn as in test_sa_child_rekey.py. A message of a successor is marked with a prime: A', B' (by who began its exchange).
"""

from __future__ import annotations

import pytest

from ikev2.config import IkeProposal
from ikev2.crypto.suites import ike_proposals
from ikev2.engine import contract as c
from ikev2.engine.children import LINGER
from ikev2.engine.exchange import ike_rekey
from ikev2.engine.exchange.create import RETRY
from ikev2.engine.exchange.ike_rekey import UNADOPTED, WAIT_FOR_DELETE, RekeyIke
from ikev2.engine.sa import State
from ikev2.wire import Delete, KeyExchange, Notify, NotifyKind, Proposal, SecurityAssociation
from tests.ikev2.pair import HIGH, LOW, MID, MID2, REKEY, REKEYED, Pair, hold, settle, step

IKE = "SA No KE"


def start(side):
    side.do("rekey", side.pair.now)


def ours(side):
    """Whether the IKE SA that this end has now was begun by it."""
    return side.current.initiator


def gone(pair):
    pair.run()
    pair.advance(LINGER + 60)
    pair.nothing_left()


def test_I13_rfc7296_1_3_2_regular_rekey():
    # A: SA, Ni, KEi  -->
    #                 <-- SA, Nr, KEr
    # A: D(IKE)       -->    by the old one
    #                 <-- (empty)
    pair = Pair.up()
    a, b = pair.a, pair.b
    old_a, old_b = a.current, b.current
    children = set(a.inbound), set(b.inbound)
    start(a)
    request = step(pair, IKE)
    offer = request.payloads[0]
    assert [(p.protocol, len(p.spi)) for p in offer.proposals] == [(1, 8)]
    assert b.current is not old_b
    assert old_b.state is State.REKEYED
    step(pair, IKE)
    assert a.current is not old_a
    assert a.current.initiator
    assert not b.current.initiator
    assert (a.current.next_own, a.current.next_peer) == (0, 0)
    delete = step(pair, "D")
    assert delete.payloads == (Delete(1),)
    assert (delete.message.initiator_spi, delete.message.responder_spi) == (old_a.spi_i, old_a.spi_r)
    step(pair, "")
    assert [(o.reason, o.retry, o.peer) for o in a.closed + b.closed] == [("replaced", False, False)] * 2
    # The CHILD_SAs are the same, and belong to the new one.
    assert (set(a.inbound), set(b.inbound)) == children
    assert not [o for o in a.said + b.said if isinstance(o, c.ChildDown | c.ChildUp | c.RemoveOutbound)]
    assert a.current.keys.d == b.current.keys.d != old_a.keys
    settle(pair)


def test_I13_rekey_by_the_responder_turns_the_roles():
    #    <-- SA, Ni, KEi :B
    #    --> SA, Nr, KEr
    #    <-- D(IKE)
    pair = Pair.up()
    start(pair.b)
    settle(pair)
    assert ours(pair.b)
    assert not ours(pair.a)
    # and the new one works both ways
    pair.a.rekey_child()
    settle(pair)
    pair.b.rekey_child()
    settle(pair)
    start(pair.a)
    settle(pair)
    assert ours(pair.a)


def test_I13_rekey_again_and_again():
    pair = Pair.up()
    for turn in range(5):
        start(pair.a if turn % 2 else pair.b)
        settle(pair)


def test_I13_other_algorithms_after_the_rekey():
    # The profile has changed: PRF, cipher and group differ. SKEYSEED is by the old PRF (2.18).
    pair = Pair.up()
    new = ike_proposals(IkeProposal("p", ("aes-cbc-256",), ("sha512",), groups=(19,)))
    pair.a.directory.proposals = pair.b.directory.proposals = new
    start(pair.a)
    settle(pair)
    assert pair.a.current.suite.group == 19
    assert pair.a.current.suite.prf.text == "sha512"
    pair.b.rekey_child()
    settle(pair)


def test_I13_invalid_ke_then_the_group_that_the_peer_wants():
    # A: SA(19, 31), Ni, KEi(19)  -->
    #                             <-- N(INVALID_KE_PAYLOAD, 31)
    # A: SA(19, 31), Ni, KEi(31)  -->
    #                             <-- SA, Nr, KEr(31)
    pair = Pair.up()
    pair.a.directory.proposals = ike_proposals(IkeProposal("p", ("aes-gcm-256",), groups=(19, 31)))
    pair.a.current.suite = pair.a.current.suite.__class__(
        pair.a.current.suite.cipher, pair.a.current.suite.integrity, pair.a.current.suite.prf, 19
    )
    start(pair.a)
    first = step(pair, IKE)
    assert first.payloads[2].group == 19
    refusal = step(pair, "N(INVALID_KE_PAYLOAD)")
    assert refusal.payloads[0].octets == b"\0\x1f"
    assert step(pair, IKE).payloads[2].group == 31
    settle(pair)
    assert ours(pair.a)


def test_I13_I06_invalid_ke_for_ever_ends():
    pair = Pair.up()
    pair.a.directory.proposals = ike_proposals(IkeProposal("p", ("aes-gcm-256",), groups=(31, 19)))
    sa = pair.a.current
    start(pair.a)
    task = next(iter(sa.pending.values())).task
    for turn in range(10):  # noqa: B007  (looked at afterwards)
        sa.pending.clear()
        task.answered(sa, (Notify(17, (19 if task.group == 31 else 31).to_bytes(2)),))
        if task not in sa.queue:
            break
        sa.pump()
    assert turn == 3
    assert sa.state is State.ESTABLISHED
    assert sa.rekey_at > pair.now


def test_I13_no_proposal_chosen_is_tried_again_until_the_end():
    # A: SA, Ni, KEi  -->
    #                 <-- N(NO_PROPOSAL_CHOSEN)    again and again; at the end of its life the IKE SA is closed
    pair = Pair.up(a_terms={"lifetime": 300.0}, b_terms={"lifetime": 0.0})
    pair.b.directory.proposals = ike_proposals(IkeProposal("p", ("aes-gcm-128",), groups=(31,)))
    pair.advance(290)
    assert [f.names for f in pair.log].count("N(NO_PROPOSAL_CHOSEN)") >= 1
    assert pair.a.current.state is State.ESTABLISHED
    pair.checking = False
    pair.advance(60)
    assert [(o.reason, o.retry) for o in pair.a.closed] == [("its lifetime is over", True)]
    assert pair.b.closed[0].peer
    gone(pair)


def test_I13_rekey_by_time():
    pair = Pair.up(a_terms={"lifetime": 1000.0}, b_terms={"lifetime": 1000.0}, lifetime=0.0)
    pair.advance(840)
    assert not pair.log
    pair.advance(120)
    assert [f.names for f in pair.log][:2] == [IKE, IKE]
    settle(pair)
    pair.advance(5000)
    pair.one_pair()


def test_I13_answer_lost():
    # A: SA, Ni, KEi  -->
    #                 X-- SA, Nr, KEr
    # A: SA, Ni, KEi  -->    the same octets: B makes no third IKE SA
    #                 <-- SA, Nr, KEr
    pair = Pair.up()
    start(pair.a)
    step(pair, IKE)
    hold(pair, IKE)
    spi = pair.b.current.spi_own
    pair.advance(0.6)
    settle(pair)
    assert pair.b.current.spi_own == spi


def test_I13_delete_lost():
    # A: D(IKE)  --X
    # A: D(IKE)  -->
    pair = Pair.up()
    start(pair.a)
    step(pair, IKE)
    step(pair, IKE)
    hold(pair, "D")
    pair.advance(0.6)
    settle(pair)


def test_I13_delete_never_comes_and_the_other_end_says_it():
    # A: D(IKE)  --X--X--X   A lets go of the old one; after a while B says DELETE itself, and lets go too
    pair = Pair.up()
    start(pair.a)
    step(pair, IKE)
    step(pair, IKE)
    pair.wire.clear()
    for _ in range(60):
        pair.advance(0.5, run=False)
        pair.wire[:] = [f for f in pair.wire if f.names != "D"]
    pair.advance(WAIT_FOR_DELETE + 30)
    settle(pair)


# --- both begin -------------------------------------------------------------------------------------------------------------
#
#   A: SA, Ni_a, KEi  --\ /--  SA, Ni_b, KEi :B
#                        X
#   A: SA, Nr_a, KEr  --\ /--  SA, Nr_b, KEr :B


@pytest.mark.parametrize(
    ("nonces", "winner"),
    [
        ((LOW, MID, MID2, HIGH), "b"),
        ((MID, LOW, MID2, HIGH), "a"),
        ((MID, MID2, LOW, HIGH), "a"),
        ((MID, MID2, HIGH, LOW), "b"),
    ],
    ids=["Ni_a lowest", "Nr_a lowest", "Ni_b lowest", "Nr_b lowest"],
)
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_I13_rfc7296_2_8_2_collision_the_lowest_nonce_loses(nonces, winner, order):
    pair = Pair.up()
    a, b = pair.a, pair.b
    # A request draws nonce, key; an answer key, SPI, nonce.
    a.script.extend([nonces[0], None, None, nonces[1]])
    b.script.extend([nonces[2], None, None, nonces[3]])
    start(a)
    start(b)
    pair.deliver(pair.next(b))
    pair.deliver(pair.next(a))
    assert len(a.sas) == len(b.sas) == 2
    assert [type(o) for o in a.said] == [type(o) for o in b.said] == [c.Spawned]
    answers = {"a": hold(pair, IKE, to=a), "b": hold(pair, IKE, to=b)}
    for name in order:
        pair.deliver(answers[name])
    assert (ours(a), ours(b)) == ((True, False) if winner == "a" else (False, True))
    # Who has won deletes the old one by the old one, who has lost its own by its own.
    old = a.first.spi_i
    winning, losing = (a, b) if winner == "a" else (b, a)
    deletes = {f.to.peer.name: f.message.initiator_spi for f in pair.wire if f.message.exchange == 37}
    assert deletes[winning.name] == old
    assert deletes[losing.name] not in {old, winning.current.spi_i}
    settle(pair)
    assert sorted(o.reason for o in a.closed) == sorted(o.reason for o in b.closed)
    assert not [o for o in a.closed + b.closed if o.retry or (o.peer and o.reason == "replaced")]
    assert not a.downs
    assert not b.downs


@pytest.mark.parametrize("winner", ["a", "b"])
def test_I13_collision_delayed_response(winner):
    # A: SA..  --\ /-- SA.. :B
    #             X
    # A: response  -->          B knows who has won
    #           /- response :B, kept back; whatever B says next overtakes it
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.script.append(HIGH if winner == "a" else LOW)
    b.script.append(HIGH if winner == "b" else LOW)
    start(a)
    start(b)
    pair.deliver(pair.next(b))
    pair.deliver(pair.next(a))
    late = hold(pair, IKE, to=a)
    pair.run()
    pair.deliver(late)
    # If B's stands, A has forgotten its own (2.25.2), and will not delete it: B forgets it after a while.
    pair.advance(WAIT_FOR_DELETE)
    settle(pair)
    assert ours(a) == (winner == "a")
    assert not a.downs
    assert not b.downs


def test_I13_collision_delayed_request_the_peer_has_finished():
    # A: SA, Ni, KEi  --\
    #                    <-- SA, Ni, KEi :B
    # A: SA, Nr, KEr      -->
    #                    <-- D(IKE)       A forgets its own (2.25.2)
    # A: (empty)          -->
    #                   \-> SA, Ni, KEi   for an IKE SA that nobody has
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    late = hold(pair, IKE, to=b)
    start(b)
    step(pair, IKE, to=a)
    step(pair, IKE, to=b)
    step(pair, "D", to=a)
    assert a.current.initiator is False
    step(pair, "", to=b)
    pair.deliver(late)
    assert b.strangers == 1
    settle(pair)


def test_I13_collision_delayed_request_while_the_peer_deletes():
    # A: SA, Ni, KEi  --\
    #                    <-- SA, Ni, KEi :B
    # A: SA, Nr, KEr      -->
    #                   /-- D(IKE), kept back
    #                   \-> SA, Ni, KEi
    #                    <-- N(TEMPORARY_FAILURE)    so B's stands
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    late = hold(pair, IKE, to=b)
    start(b)
    step(pair, IKE, to=a)
    step(pair, IKE, to=b)
    delete = hold(pair, "D", to=a)
    pair.deliver(late)
    step(pair, "N(TEMPORARY_FAILURE)", to=a)
    assert ours(b)
    assert a.first.state is State.REKEYED
    pair.deliver(delete)
    settle(pair)


def test_I13_collision_the_peer_uses_its_successor_before_we_know():
    # As above; and B' asks for a rekey of a CHILD_SA before A knows that B' stands: A leaves it unanswered, B asks again.
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    late = hold(pair, IKE, to=b)
    start(b)
    step(pair, IKE, to=a)
    step(pair, IKE, to=b)
    delete = hold(pair, "D", to=a)
    b.rekey_child()
    step(pair, REKEY, to=a)
    assert not pair.wire
    (waiting,) = [sa for sa in a.sas.values() if not sa.adopted]
    assert waiting.drops["not decided yet"] == 1
    assert waiting.next_peer == 0
    pair.deliver(late)
    step(pair, "N(TEMPORARY_FAILURE)", to=a)
    pair.deliver(delete)
    pair.advance(1)
    settle(pair)
    assert len(b.ups) == 1


def test_I13_collision_and_the_old_one_dies_of_silence():
    # Both requests and one answer arrive; the rest on the old IKE SA is lost. B' is alive, and takes over.
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    late = hold(pair, IKE, to=b)
    start(b)
    step(pair, IKE, to=a)
    step(pair, IKE, to=b)
    old = {sa.spi_i for sa in (a.first, b.first)}
    late.octets = b""
    for _ in range(140):
        pair.advance(0.5, run=False)
        pair.wire[:] = [f for f in pair.wire if f.message.initiator_spi not in old]
    settle(pair)
    assert ours(b)
    assert not a.downs
    assert not b.downs


def test_I13_a_successor_that_nobody_decides_about_is_given_up():
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    start(b)
    pair.deliver(pair.next(b))
    pair.deliver(pair.next(a))
    (waiting,) = [sa for sa in a.sas.values() if not sa.adopted]
    assert waiting.deadline() == pytest.approx(pair.now + UNADOPTED)
    pair.a.perform(waiting, waiting.wake(pair.now + UNADOPTED))
    assert [(o.reason, o.retry) for o in pair.a.closed] == [("redundant", False)]


# --- with CHILD_SAs --------------------------------------------------------------------------------------------------------


def test_I13_rfc7296_2_25_2_ike_rekey_meets_child_rekey():
    # A: SA, Ni, KEi (IKE)  --\ /--  N(REKEY_SA), SA, Ni, TS :B
    #                          X
    # A: N(TEMPORARY_FAILURE)  -->
    #                         <--  N(TEMPORARY_FAILURE)
    # Both try again, not at once.
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    b.rekey_child()
    pair.deliver(pair.next(b))
    step(pair, REKEY, to=a)
    step(pair, "N(TEMPORARY_FAILURE)", to=a)
    step(pair, "N(TEMPORARY_FAILURE)", to=b)
    assert not pair.wire
    pair.advance(RETRY - 0.1)
    assert not pair.wire
    pair.advance(4 * RETRY)
    settle(pair)
    assert len(b.ups) == 1
    assert a.current is not a.first


def test_I13_ike_rekey_meets_new_child():
    # A: SA, Ni, KEi (IKE)  --\ /--  SA, Ni, TS :B
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    b.do("add_child", b.directory.children, pair.now)
    pair.run()
    pair.advance(4 * RETRY)
    pair.run()
    assert len(a.current.children) == len(b.current.children) == 2
    assert a.current is not a.first


def test_I13_ike_rekey_meets_delete_of_a_child():
    # A: SA, Ni, KEi (IKE)  --\ /--  D(child) :B
    #                          X
    # A: D(child)               -->        answered as usual
    #                         <--  N(TEMPORARY_FAILURE)
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    b.do("delete_child", b.child.number, pair.now)
    pair.deliver(pair.next(b))
    step(pair, "D", to=a)
    step(pair, "N(TEMPORARY_FAILURE)", to=a)
    step(pair, "D", to=b)
    pair.advance(4 * RETRY + LINGER)
    assert a.current is not a.first
    for side in (a, b):
        assert not side.inbound
        assert not side.directory.reserved


def test_I13_child_moves_in_the_middle_of_its_rekey():
    # A: N(REKEY_SA)..      -->
    #                       <-- SA..         A has the new one, B receives by it
    #                       <-- SA, Ni, KEi (IKE) :B, before A's DELETE of the old CHILD_SA
    # A: SA, Nr, KEr        -->
    # A': D(old child)      -->              by the successor
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.do("check_alive", pair.now)
    a.rekey_child()
    step(pair, "", to=b)
    step(pair, "", to=a)
    step(pair, REKEY, to=b)
    b.current.rekey_at = 0.0
    answer = hold(pair, REKEYED, to=a)
    start(b)
    ike = hold(pair, IKE, to=a)
    # The window lets A have one request under way: its DELETE waits behind a liveness check.
    pair.deliver(answer)
    delete = hold(pair, "D", to=b)
    pair.deliver(ike)
    step(pair, "N(TEMPORARY_FAILURE)", to=b)
    pair.deliver(delete)
    pair.run()
    pair.advance(4 * RETRY)
    settle(pair)
    assert ours(b)
    assert len(a.ups) == len(b.ups) == 1


def test_I13_queued_work_moves_to_the_successor():
    # A waits for the answer to a liveness check, and wants to rekey the CHILD_SA; B rekeys the IKE SA meanwhile.
    pair = Pair.up()
    a, b = pair.a, pair.b
    a.do("check_alive", pair.now)
    check = hold(pair, "", to=b)
    a.rekey_child()
    assert len(a.current.queue) == 1
    start(b)
    step(pair, IKE, to=a)
    assert a.current is not a.first
    assert len(a.current.queue) == 1
    pair.deliver(check)
    settle(pair)
    assert len(a.ups) == 1
    rekey = next(f for f in pair.log if f.names == REKEY)
    assert rekey.message.initiator_spi == a.current.spi_i


def test_I13_calls_on_the_replaced_one_go_to_its_heir():
    pair = Pair.up()
    start(pair.b)
    pair.run()
    old = pair.a.first
    assert old.state in {State.REKEYED, State.CLOSED}
    pair.a.perform(pair.a.current, old.add_child(pair.a.directory.children, pair.now))
    assert len(pair.wire) == 1
    assert pair.wire[0].message.initiator_spi == pair.a.current.spi_i


# --- with DELETE of the IKE SA ---------------------------------------------------------------------------------------------


def test_I13_ike_rekey_meets_ike_delete():
    # A: SA, Ni, KEi  --\ /--  D(IKE) :B
    #                    X
    # A: (empty)         -->                 2.25.2: as usual, and A forgets its rekey
    #                   <-- N(TEMPORARY_FAILURE)
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    pair.checking = False
    b.do("close", "enough", pair.now)
    pair.deliver(pair.next(b))
    step(pair, "D", to=a)
    assert [o.reason for o in a.closed] == ["deleted by the peer"]
    gone(pair)


def test_I13_ike_rekey_delayed_behind_the_delete():
    # A: SA, Ni, KEi  --\
    #                   <-- D(IKE) :B
    # A: (empty)        -->
    #                   \-> SA, Ni, KEi
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    late = hold(pair, IKE, to=b)
    pair.checking = False
    b.do("close", "enough", pair.now)
    pair.run()
    pair.deliver(late)
    assert b.strangers == 1
    gone(pair)


def test_I13_ike_delete_after_we_have_answered_the_rekey():
    # A: SA, Ni, KEi  -->
    #               /-- SA, Nr, KEr
    # B is told to close: its successor says D(IKE), which A does not know yet, and says it again
    #               <-/
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    step(pair, IKE)
    late = hold(pair, IKE)
    pair.checking = False
    b.do("close", "enough", pair.now)
    step(pair, "D", to=a)
    assert a.strangers == 1
    pair.deliver(late)
    pair.run()
    pair.advance(2)
    gone(pair)


def test_I13_rfc7296_2_25_2_both_close_at_once():
    # A: D(IKE)  --\ /--  D(IKE) :B
    #               X
    # A: (empty)    -->
    #              <-- (empty)
    pair = Pair.up()
    pair.checking = False
    pair.a.do("close", "enough", pair.now)
    pair.b.do("close", "enough", pair.now)
    pair.run()
    assert [o.reason for o in pair.a.closed + pair.b.closed] == ["deleted by both"] * 2
    pair.nothing_left()


def test_I13_ike_delete_meets_child_rekey():
    # A: N(REKEY_SA)..  --\ /--  D(IKE) :B
    #                      X
    # A: (empty)           -->
    #                     <-- N(TEMPORARY_FAILURE)
    pair = Pair.up()
    pair.a.rekey_child()
    pair.checking = False
    pair.b.do("close", "enough", pair.now)
    pair.deliver(pair.next(pair.b))
    answer = next(f for f in pair.wire if f.response)
    assert answer.names == "N(TEMPORARY_FAILURE)"
    gone(pair)


def test_I13_ike_delete_while_our_child_rekey_is_answered():
    # A: N(REKEY_SA)..  -->
    #                 /-- SA..
    # A is told to close: what the answer would bring is not wanted any more
    pair = Pair.up()
    pair.a.rekey_child()
    step(pair, REKEY)
    pair.checking = False
    pair.a.do("close", "enough", pair.now)
    assert not pair.a.inbound
    assert not pair.a.packet()
    pair.run()
    gone(pair)


def test_I13_delete_that_is_never_answered():
    # A: D(IKE)  --X--X--X--X   A lets go all the same, soon; B hears nothing and finds out by itself
    pair = Pair.up()
    pair.checking = False
    pair.a.do("close", "enough", pair.now)
    assert not pair.a.inbound
    for _ in range(40):
        pair.advance(0.5, run=False)
        pair.wire.clear()
    assert [o.reason for o in pair.a.closed] == ["enough"]
    assert [f.names for f in pair.log] == ["D"] * 4
    assert len(pair.b.sas) == 1


def test_I13_close_while_our_ike_rekey_is_under_way():
    # A: SA, Ni, KEi   -->
    #                /-- SA, Nr, KEr      B has moved to A' already
    # A is told to close
    #                <-/
    # A': D(IKE)       -->                so A' ends too
    # A: D(IKE)        -->
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    step(pair, IKE)
    late = hold(pair, IKE)
    pair.checking = False
    a.do("close", "enough", pair.now)
    assert not pair.wire
    pair.deliver(late)
    assert [f.message.exchange for f in pair.wire] == [37, 37]
    gone(pair)
    assert not b.sas


def test_I13_close_while_both_rekey():
    # A: SA, Ni, KEi  --\ /--  SA, Ni, KEi :B      then A is told to close: all three IKE SAs end
    pair = Pair.up()
    a, b = pair.a, pair.b
    start(a)
    start(b)
    pair.deliver(pair.next(b))
    pair.deliver(pair.next(a))
    pair.checking = False
    a.do("close", "enough", pair.now)
    gone(pair)


# --- the answers to a rekey that cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["spi", "no nonce", "group", "two proposals", "zero"])
def test_I13_a_broken_answer_leaves_the_old_one(change):
    pair = Pair.up()
    start(pair.a)
    step(pair, IKE)
    hold(pair, IKE)
    sa = pair.a.current
    offer, nonce, ke = pair.log[-1].payloads
    (proposal,) = offer.proposals
    answers = {
        "spi": (SecurityAssociation((Proposal(1, 1, b"\1\2", proposal.transforms),)), nonce, ke),
        "zero": (SecurityAssociation((Proposal(1, 1, bytes(8), proposal.transforms),)), nonce, ke),
        "no nonce": (offer, ke),
        "group": (offer, nonce, KeyExchange(19, ke.octets)),
        "two proposals": (SecurityAssociation((proposal, proposal)), nonce, ke),
    }
    task = sa.pending.popitem()[1].task
    task.answered(sa, answers[change])
    assert sa.state is State.ESTABLISHED
    assert pair.a.current is sa
    assert sa.rekey_at > pair.now


@pytest.mark.parametrize("change", ["spi", "zero", "no nonce", "group", "small order"])
def test_I13_a_broken_request_is_refused(change):
    pair = Pair.up()
    start(pair.a)
    offer, nonce, ke = hold(pair, IKE).payloads
    (proposal,) = offer.proposals
    requests = {
        "spi": ((SecurityAssociation((Proposal(1, 1, b"\1\2", proposal.transforms),)), nonce, ke), 14),
        "zero": ((SecurityAssociation((Proposal(1, 1, bytes(8), proposal.transforms),)), nonce, ke), 14),
        "no nonce": ((offer, ke), 7),
        "group": ((offer, nonce, KeyExchange(19, ke.octets)), 17),
        "small order": ((offer, nonce, KeyExchange(31, bytes(32))), 7),
    }
    payloads, kind = requests[change]
    (answer,) = ike_rekey.respond(pair.b.current, payloads)
    assert answer.kind == kind
    assert pair.b.current.state is State.ESTABLISHED


def test_I13_a_second_rekey_of_the_peer_waits():
    pair = Pair.up()
    start(pair.a)
    start(pair.b)
    request = hold(pair, IKE, to=pair.a)
    pair.deliver(request)
    assert ike_rekey.respond(pair.a.current, request.payloads) == [Notify(NotifyKind.TEMPORARY_FAILURE)]
    assert pair.a.current.under_way(RekeyIke) is not None
