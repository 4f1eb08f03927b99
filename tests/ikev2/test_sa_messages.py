"""An IKE SA that stands: liveness, its end, message ids, what is inside a message, seals and fragments (RFC 7296, 7383)."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ikev2.config import Dpd
from ikev2.engine import contract as c
from ikev2.engine.exchange import create, inform
from ikev2.engine.fragments import MAX_FRAGMENTS, Reassembly
from ikev2.engine.sa import Settings, State
from ikev2.engine.timers import CHECK_EVERY
from ikev2.engine.window import MAX_QUEUE
from ikev2.wire import (
    Delete,
    Message,
    Nonce,
    Notify,
    NotifyKind,
    TrafficSelectors,
    Unknown,
    decode,
    encode,
    encode_payloads,
    encode_sealed,
)
from tests.ikev2 import pki
from tests.ikev2.exchanges import AUTH, begin, reasons, sealed, to_a, to_b, up
from tests.ikev2.pair import KEY_A, A, B, Pair, child_terms, hold, host, step, with_certificates

# --- liveness, and the end ----------------------------------------------------------------------------------------------------


def test_I16_dpd_on_demand_asks_only_if_something_was_sent_and_nothing_came():
    pair = Pair.up(a_terms={"dpd": Dpd(60, 2, True)})
    pair.advance(600)
    assert not pair.log
    # traffic both ways: no question
    for _ in range(100):
        pair.advance(5)
        pair.a.packet()
        pair.b.packet()
    assert not pair.log
    # we send, nothing comes
    pair.a.packet()
    pair.now += 1
    pair.a.packet()
    pair.advance(75)
    assert [f.names for f in pair.log] == ["", ""]


def test_I16_peer_vanishes():
    # A: (empty)  --X  five times, two seconds apart
    pair = Pair.up(a_terms={"dpd": Dpd(60, 2, True)})
    pair.checking = False
    pair.b.sas.clear()
    pair.now += 1
    pair.a.packet()
    start = pair.now
    while not pair.a.closed:
        pair.advance(1)
    assert pair.now - start <= 60 + 15 + 5 * 2 + 1
    assert len(pair.log) == 5
    assert reasons(pair.a) == [("dead peer: no answer to liveness checks", True, True, False)]
    assert not pair.a.inbound
    assert not pair.a.outbound
    assert not pair.a.directory.reserved


def test_I16_dpd_periodic():
    pair = Pair.up(a_terms={"dpd": Dpd(10, 2, False)})
    pair.advance(101)
    assert len([f for f in pair.log if f.to is pair.b]) == 10
    pair.one_pair()


def test_I16_initial_contact_is_said_unless_known():
    for known in (False, True):
        pair = Pair.of(a_terms={"known_contact": known})
        up(pair)
        assert pair.b.said[0].initial_contact is not known


def test_I16_unprotected_invalid_ike_spi_only_makes_us_ask():
    # anybody: N(INVALID_IKE_SPI), a hundred times
    # A: (empty)  -->    once
    #             <-- (empty)
    pair = Pair.up()
    sa = pair.a.current
    forged = encode(Message(sa.spi_i, sa.spi_r, 37, 0, False, True, (Notify(NotifyKind.INVALID_IKE_SPI),)))
    for _ in range(100):
        to_a(pair, forged)
    assert len(pair.log) == 1
    pair.run()
    pair.advance(CHECK_EVERY + 1)
    to_a(pair, forged)
    assert len([f for f in pair.log if f.to is pair.b]) == 2
    pair.run()
    pair.one_pair()


def test_unprotected_messages_of_an_established_sa_are_ignored():
    pair = Pair.up()
    sa = pair.a.current
    for exchange in (34, 35, 36, 37):
        for response in (False, True):
            for payloads in ((Delete(1),), (Notify(24),), ()):
                to_a(pair, encode(Message(sa.spi_i, sa.spi_r, exchange, 0, False, response, payloads)))
    assert not pair.wire
    assert not pair.a.said
    pair.one_pair()


def test_close_says_delete_and_waits():
    pair = Pair.up()
    pair.checking = False
    pair.a.do("close", "cleared", pair.now)
    assert not pair.a.outbound
    assert not pair.a.closed
    step(pair, "D")
    assert reasons(pair.b) == [("deleted by the peer", True, True, True)]
    step(pair, "")
    assert reasons(pair.a) == [("cleared", True, True, False)]
    pair.nothing_left()


def test_abandon_says_nothing():
    pair = Pair.up()
    pair.checking = False
    pair.a.do("abandon", "gone")
    assert not pair.wire
    assert not pair.a.sas
    assert not pair.a.directory.reserved
    assert pair.a.current.wake(pair.now + 1e6) == []


# --- message ids --------------------------------------------------------------------------------------------------------------


def test_I11_retransmission_is_answered_with_the_same_octets():
    pair = Pair.up()
    pair.a.do("check_alive", pair.now)
    request = step(pair, "")
    answer = hold(pair, "")
    for _ in range(3):
        pair.deliver(request)
        assert hold(pair, "").octets == answer.octets
    assert pair.b.current.next_peer == 3


@pytest.mark.parametrize("message_id", [0, 1, 3, 4, 2**32 - 1])
def test_I11_old_and_future_ids_are_ignored(message_id):
    pair = Pair.up()
    before = (pair.b.current.next_peer, rows(pair))
    to_b(pair, sealed(pair.a, 37, message_id, [Delete(1)]))
    assert (pair.b.current.next_peer, rows(pair)) == before
    assert not pair.wire
    assert pair.b.current.drops["message id"] == 1


def rows(pair):
    return set(pair.b.inbound), set(pair.b.outbound)


def test_I11_another_message_with_the_last_id_is_not_answered():
    pair = Pair.up()
    pair.a.do("check_alive", pair.now)
    pair.run()
    to_b(pair, sealed(pair.a, 37, 2, [Delete(1)]))
    assert not pair.wire
    pair.one_pair()


def test_I11_response_without_request():
    pair = Pair.up()
    for message_id in (0, 1, 2, 77):
        to_b(pair, sealed(pair.a, 37, message_id, [Delete(1)], response=True))
    assert pair.b.current.drops["response without request"] == 4
    # with a request under way, but of another exchange
    pair.b.do("check_alive", pair.now)
    to_b(pair, sealed(pair.a, 36, 0, [], response=True))
    assert pair.b.current.drops["response without request"] == 5
    pair.run()
    pair.one_pair()


def test_I11_replay_of_everything():
    pair = Pair.up()
    pair.a.rekey_child()
    pair.run()
    pair.b.do("rekey", pair.now)
    pair.run()
    pair.advance(10)
    said = len(pair.a.said), len(pair.b.said)
    for flight in list(pair.log):
        pair.deliver(flight)
        pair.wire.clear()
    assert (len(pair.a.said), len(pair.b.said)) == said
    pair.one_pair()


def test_requests_of_the_wrong_role_or_exchange():
    pair = Pair.up()
    sa = pair.a.current
    # A speaks as if it were the responder
    octets = encode_sealed(Message(sa.spi_i, sa.spi_r, 37, 2, False, False), *encode_payloads([Delete(1)]), sa.seal_out)
    pair.b.perform(pair.b.current, pair.b.current.receive(octets, decode(octets), c.Ends(B, A), pair.now))
    assert pair.b.current.drops["direction"] == 1
    for exchange in (34, 35, 43, 99):
        to_b(pair, sealed(pair.a, exchange, 2, []))
    assert pair.b.current.drops["exchange"] == 4
    pair.one_pair()


def test_rfc7296_2_3_set_window_size():
    # B: N(SET_WINDOW_SIZE, 3)  -->  A may have three requests under way
    pair = Pair.up()
    a = pair.a.current
    inform.respond(a, (Notify(NotifyKind.SET_WINDOW_SIZE, (3).to_bytes(4)),))
    assert a.peer_window == 3
    inform.respond(a, (Notify(NotifyKind.SET_WINDOW_SIZE, (2**31).to_bytes(4)),))
    assert a.peer_window == 4
    for _ in range(6):
        a.submit(inform.PushConfig(()))
    pair.a.perform(a, a.wake(pair.now))
    assert sorted(a.pending) == [2, 3, 4, 5]
    assert len(a.queue) == 2


def test_the_queue_of_own_exchanges_is_bounded():
    pair = Pair.up()
    a = pair.a.current
    a.pending[99] = type("P", (), {"task": inform.PushConfig(()), "due": 1e9})()
    for _ in range(3 * MAX_QUEUE):
        a.submit(inform.PushConfig(()))
    assert len(a.queue) == MAX_QUEUE
    assert a.drops["queue full"] == 2 * MAX_QUEUE
    pair.a.do("add_child", child_terms(KEY_A._replace(remote=b"z"), A, B), pair.now)
    assert pair.a.downs[-1].refused


# --- what is inside ---------------------------------------------------------------------------------------------------


def test_I03_critical_payload_unknown():
    # A: an unknown payload with the critical bit  -->
    #                                              <-- N(UNSUPPORTED_CRITICAL_PAYLOAD, its type)
    pair = Pair.up()
    to_b(pair, sealed(pair.a, 37, 2, [Unknown(200, True, b"x"), Delete(1)]))
    assert hold(pair).payloads == (Notify(NotifyKind.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xc8"),)
    assert pair.b.current.state is State.ESTABLISHED
    to_b(pair, sealed(pair.a, 37, 3, [Unknown(200, False, b"x")]))
    assert hold(pair).payloads == ()
    pair.one_pair()


def test_I03_critical_payload_in_ike_auth():
    pair = Pair.of()
    begin(pair)
    step(pair)
    step(pair)
    request = hold(pair, AUTH)
    to_b(pair, sealed(pair.a, 35, 1, [*request.payloads, Unknown(99, True, b"")]))
    assert hold(pair).payloads == (Notify(NotifyKind.UNSUPPORTED_CRITICAL_PAYLOAD, b"\x63"),)
    assert pair.b.first.state is State.CLOSED


def test_I03_critical_payload_in_ike_sa_init():
    # A: SA, KE, Ni, an unknown payload with the critical bit  -->
    #                                                          <-- N(UNSUPPORTED_CRITICAL_PAYLOAD), and no state
    pair = Pair.of()
    begin(pair)
    request = hold(pair)
    octets = encode(evolve(request.message, payloads=(*request.payloads, Unknown(99, True, b""))))
    to_b(pair, octets)
    assert hold(pair).payloads == (Notify(NotifyKind.UNSUPPORTED_CRITICAL_PAYLOAD, b"\x63"),)
    assert not pair.b.sas
    pair.deliver(request)
    answer = hold(pair)
    to_a(pair, encode(evolve(answer.message, payloads=(*answer.payloads, Unknown(99, True, b"")))))
    assert pair.a.first.state is State.INIT
    pair.deliver(answer)
    pair.run()
    pair.one_pair()


def test_invalid_syntax_only_inside_a_valid_sa():
    # A: a sealed message that cannot be read  -->
    #                                          <-- N(INVALID_SYNTAX), and both let go (2.21.3)
    pair = Pair.up()
    pair.checking = False
    to_b(pair, sealed(pair.a, 37, 2, None, clear=(41, b"\0\0\0\3broken")))
    assert hold(pair).payloads == (Notify(NotifyKind.INVALID_SYNTAX),)
    assert pair.b.closed


def test_an_answer_that_cannot_be_read_ends_it():
    pair = Pair.up()
    pair.checking = False
    pair.b.do("check_alive", pair.now)
    to_b(pair, sealed(pair.a, 37, 0, None, clear=(41, b"\0\0\0\3broken"), response=True))
    assert pair.b.closed


def test_unknown_notifies_are_ignored():
    pair = Pair.up()
    to_b(pair, sealed(pair.a, 37, 2, [Notify(40000, b"x"), Notify(8000)]))
    assert hold(pair).payloads == ()
    pair.one_pair()


def test_many_deletes_of_unknown_spis_are_answered_empty():
    pair = Pair.up()
    to_b(pair, sealed(pair.a, 37, 2, [Delete(3, tuple(n.to_bytes(4) for n in range(64)))]))
    assert hold(pair).payloads == ()
    pair.one_pair()


def test_create_child_sa_without_what_it_needs():
    pair = Pair.up()
    for payloads in ((), (Nonce(bytes(8)),), (Nonce(bytes(32)),), (Nonce(bytes(32)), TrafficSelectors(True, host(A)))):
        (answer,) = create.respond(pair.b.current, payloads)
        assert answer.kind == NotifyKind.INVALID_SYNTAX
    pair.one_pair()


# --- seals and fragments ----------------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_I12_a_flipped_bit_changes_nothing(data):
    pair = Pair.up()
    octets = bytearray(sealed(pair.a, 37, 2, [Delete(1)]))
    bit = data.draw(st.integers(20 * 8, len(octets) * 8 - 1))
    octets[bit // 8] ^= 1 << bit % 8
    try:
        message = decode(bytes(octets))
    except Exception:
        return
    out = pair.b.current.receive(bytes(octets), message, c.Ends(B, A), pair.now)
    assert [o for o in out if not isinstance(o, c.Log)] == []
    assert pair.b.current.next_peer == 2
    pair.one_pair()


def test_I12_empty_and_padding_only():
    pair = Pair.up()
    from ikev2.wire import Encrypted

    sa = pair.a.current
    for body in (b"", b"\0", bytes(8), bytes(24), bytes(25)):
        message = Message(sa.spi_i, sa.spi_r, 37, 2, True, False, (Encrypted(0, body),))
        to_b(pair, encode(message))
    assert pair.b.current.drops["integrity"] == 5
    assert pair.b.current.next_peer == 2


def fragmented(**more):
    """Large enough that IKE_AUTH goes in pieces."""
    pair = with_certificates(pki.LEAVES["rsa2048"], pki.HUB["rsa2048"])
    begin(pair)
    step(pair)
    step(pair)
    return pair


def test_rfc7383_a_large_message_goes_in_fragments():
    pair = fragmented()
    flights = list(pair.wire)
    assert len(flights) > 2
    assert [f.fragment for f in flights] == list(range(1, len(flights) + 1))
    assert all(len(f.octets) <= 576 - 28 for f in flights)
    assert {f.message.message_id for f in flights} == {1}
    pair.run()
    pair.one_pair()


def test_rfc7383_any_order_and_twice():
    pair = fragmented()
    flights = list(pair.wire)
    pair.wire.clear()
    for flight in [*reversed(flights[1:]), flights[2], flights[0]]:
        pair.deliver(flight)
    pair.run()
    pair.one_pair()


def test_rfc7383_2_6_1_a_lost_fragment_is_repeated_with_all_others():
    pair = fragmented()
    flights = list(pair.wire)
    del pair.wire[1]
    pair.run()
    assert pair.b.first.state is State.HALF_OPEN
    pair.advance(0.6, run=False)
    assert [f.octets for f in pair.wire] == [f.octets for f in flights]
    pair.run()
    pair.one_pair()
    # the answer is repeated for the first fragment alone
    answers = len(pair.log)
    for flight in flights:
        pair.deliver(flight)
    again = [f for f in pair.log[answers:] if f.to is pair.a]
    first = [f for f in pair.log if f.to is pair.a and f.message.exchange == 35][: len(again)]
    assert [f.octets for f in again] == [f.octets for f in first]


def test_no_fragments_unless_both_can():
    pair = with_certificates(pki.LEAVES["rsa2048"], pki.HUB["rsa2048"])
    pair.b.settings = Settings(fragmentation_mtu=None)
    up(pair)
    assert not [f for f in pair.log if f.fragment]
    pair.one_pair()


@pytest.mark.parametrize(
    ("number", "total"), [(0, 0), (0, 2), (3, 2), (1, MAX_FRAGMENTS + 1), (65535, 65535), (1, 65535)]
)
def test_I12_fragment_numbers_that_cannot_be(number, total):
    assert Reassembly().wanted(1, number, total) == "fragment number"


def test_I12_total_may_grow_and_not_shrink():
    parts = Reassembly()
    assert parts.add(1, 1, 3, 33, b"a") is None
    assert parts.wanted(1, 1, 2) == "fewer fragments"
    assert parts.wanted(1, 1, 3) == "fragment repeated"
    assert parts.wanted(1, 1, 4) is None
    assert parts.add(1, 4, 4, 0, b"D") is None
    assert parts.add(1, 1, 4, 34, b"A") is None
    assert parts.add(1, 2, 4, 0, b"B") is None
    assert parts.add(1, 3, 4, 0, b"C") == (34, b"ABCD")


def test_I12_reassembly_is_bounded():
    parts = Reassembly()
    for number in range(1, MAX_FRAGMENTS):
        assert parts.add(1, number, MAX_FRAGMENTS, 33, bytes(3000)) is None
    assert parts.octets <= 131_072
    # another message takes its place
    parts.add(2, 1, 2, 33, b"x")
    assert (parts.message_id, parts.octets) == (2, 1)


def test_I12_forged_fragments_change_nothing():
    pair = fragmented()
    flights = list(pair.wire)
    pair.wire.clear()
    for flight in flights[:-1]:
        pair.deliver(flight)
    octets = bytearray(flights[-1].octets)
    octets[-1] ^= 1
    to_b(pair, bytes(octets))
    sa = pair.b.first
    assert sa.drops["integrity"] == 1
    assert sa.state is State.HALF_OPEN
    pair.deliver(flights[-1])
    pair.run()
    pair.one_pair()


def test_fragments_that_nobody_agreed_on():
    pair = fragmented()
    pair.b.first.fragmentation = False
    step(pair)
    assert pair.b.first.drops["fragment unasked"] == 1
