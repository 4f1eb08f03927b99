"""IKE_SA_INIT, IKE_AUTH, and who is let in (RFC 7296, 6023, 7427)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from attrs import evolve

from ikev2.config import IkeProposal, TransformSet
from ikev2.crypto.suites import esp_proposals, ike_proposals
from ikev2.engine import contract as c
from ikev2.engine.exchange.init import FLEXVPN, MAX_ROUNDS
from ikev2.engine.sa import IkeSa, Settings, State
from ikev2.engine.sastate import TRANSITIONS, IllegalStepError, Step, follow
from ikev2.engine.window import BACK_OFF, FIRST_INTERVAL
from ikev2.pki.credentials import PskCredential
from ikev2.wire import (
    Auth,
    KeyExchange,
    Message,
    Nonce,
    Notify,
    NotifyKind,
    Proposal,
    SecurityAssociation,
    Transform,
    Unknown,
    encode,
)
from stack.esp import Cipher, EspMode, Integrity
from tests.ikev2 import pki
from tests.ikev2.exchanges import AUTH, INIT, answer_init, begin, reasons, sealed, to_a, to_b, up
from tests.ikev2.pair import KEY_B, PSK, A, B, Pair, hold, host, step, with_certificates

# --- the state machine ----------------------------------------------------------------------------------------------------


def test_the_table_is_enforced():
    for state in State:
        for move in Step:
            if (state, move) in TRANSITIONS:
                assert follow(state, move) is TRANSITIONS[state, move]
            else:
                with pytest.raises(IllegalStepError):
                    follow(state, move)
    assert not [move for state, move in TRANSITIONS if state is State.CLOSED]


# --- the regular case -------------------------------------------------------------------------------------------------------


def test_rfc7296_1_2_the_first_four_messages():
    # A: SA, KE, Ni, ...               -->
    #                                  <-- SA, KE, Nr, ...
    # A: IDi, AUTH, SA, TSi, TSr       -->
    #                                  <-- IDr, AUTH, SA, TSi, TSr
    pair = Pair.of()
    begin(pair)
    step(pair, INIT)
    step(pair, INIT + " N(CHILDLESS_IKEV2_SUPPORTED)")
    assert pair.a.first.state is State.AUTH
    step(pair, AUTH)
    # B holds its side before A hears of it; who it is comes first.
    kinds = [type(o) for o in pair.b.said]
    assert kinds == [c.Established, c.PutInbound, c.PutOutbound, c.ChildUp]
    assert pair.b.said[0].identity.octets == b"a.example"
    assert pair.b.said[0].initial_contact
    assert FLEXVPN in pair.b.said[0].vendor_ids
    step(pair, "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr")
    assert [type(o) for o in pair.a.said] == kinds
    pair.one_pair()
    child = pair.a.child
    assert child.inbound.identity == "b.example"
    assert child.inbound.own == host(A)
    assert child.inbound.form.mode is EspMode.TRANSPORT
    assert not child.inbound.form.udp


def test_snapshot_has_what_show_prints():
    pair = Pair.up()
    shown = pair.b.current.snapshot()
    assert shown.state is State.ESTABLISHED
    assert not shown.initiator
    assert shown.suite.cipher is Cipher.AES_GCM_256
    assert (shown.auth_own, shown.auth_peer) == (2, 2)
    assert shown.remote.octets == b"a.example"
    assert shown.fragmentation
    assert (shown.next_own, shown.next_peer) == (0, 2)
    assert [row.key for row in shown.children] == [KEY_B]
    assert shown.expires_at == pytest.approx(pair.now + 86400)
    assert shown.rekey_at < shown.expires_at


def test_no_secret_in_any_repr():
    pair = Pair.up()
    pair.a.rekey_child()
    pair.run()
    sa = pair.a.current
    secrets = [PSK, sa.keys.d, sa.keys.ei, pair.a.child.inbound.encryption, pair.a.child.outbound.encryption]
    text = " ".join(
        repr(one) for one in (sa, pair.a.said, sa.snapshot(), list(sa.children.values()), sa.terms, sa.pending)
    )
    for secret in secrets:
        assert repr(secret)[2:-1] not in text
        assert secret.hex() not in text


@pytest.mark.parametrize(
    "proposal",
    [
        IkeProposal("p", ("aes-cbc-256",), ("sha256",), groups=(14,)),
        IkeProposal("p", ("chacha20-poly1305",), groups=(21,)),
        IkeProposal("p", ("aes-gcm-128",), groups=(20,)),
    ],
)
@pytest.mark.parametrize(
    "transform",
    [TransformSet("t", Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128), TransformSet("t", Cipher.AES_GCM_128)],
)
def test_other_algorithms(proposal, transform):
    pair = Pair.of(proposals=esp_proposals([transform]))
    pair.a.directory.proposals = pair.b.directory.proposals = ike_proposals(proposal)
    up(pair).one_pair()


# --- IKE_SA_INIT ------------------------------------------------------------------------------------------------------------


def test_rfc7296_2_6_cookie():
    # A: SA, KE, Ni             -->
    #                           <-- N(COOKIE)
    # A: N(COOKIE), SA, KE, Ni  -->
    #                           <-- SA, KE, Nr
    pair = Pair.of()
    begin(pair)
    first = hold(pair, INIT)
    to_a(pair, answer_init(first.message, Notify(NotifyKind.COOKIE, b"once more, please")))
    again = step(pair, "N(COOKIE) " + INIT)
    assert again.payloads[0].octets == b"once more, please"
    assert again.payloads[1:] == first.payloads
    pair.run()
    pair.one_pair()


def test_I06_cookies_for_ever_end():
    pair = Pair.of()
    begin(pair)
    request = pair.log[0].message
    for turn in range(30):
        to_a(pair, answer_init(request, Notify(NotifyKind.COOKIE, bytes([turn + 1]))))
    assert len(pair.log) == MAX_ROUNDS
    assert pair.a.first.state is State.INIT


def test_rfc7296_1_2_invalid_ke_payload():
    # A: SA(19, 31), KE(19)  -->
    #                        <-- N(INVALID_KE_PAYLOAD, 31)
    # A: SA(19, 31), KE(31)  -->
    pair = Pair.of()
    pair.a.directory.proposals = ike_proposals(IkeProposal("p", ("aes-gcm-256",), groups=(19, 31)))
    begin(pair)
    assert step(pair).payloads[1].group == 19
    refusal = step(pair, "N(INVALID_KE_PAYLOAD)")
    assert refusal.payloads[0].octets == b"\0\x1f"
    assert not pair.b.sas
    assert step(pair).payloads[1].group == 31
    pair.run()
    pair.one_pair()


def test_I06_invalid_ke_payload_is_bounded_and_only_for_what_was_offered():
    pair = Pair.of()
    pair.a.directory.proposals = ike_proposals(IkeProposal("p", ("aes-gcm-256",), groups=(19, 31)))
    begin(pair)
    request = pair.log[0].message
    for group in (14, 0, 1, 19, 31, 19, 31, 19, 20):
        to_a(pair, answer_init(request, Notify(NotifyKind.INVALID_KE_PAYLOAD, group.to_bytes(2))))
    assert [f.payloads[1].group for f in pair.log] == [19, 31]
    assert pair.a.first.state is State.INIT


def test_I06_forged_invalid_ke_does_not_spoil_the_real_answer():
    # A: KE(31)  -->
    #            <-- N(INVALID_KE_PAYLOAD, 19), not by B
    # A: KE(19)  --X
    #            <-- SA, KE(31), Nr   by B, to the first
    pair = Pair.of()
    pair.a.directory.proposals = ike_proposals(IkeProposal("p", ("aes-gcm-256",), groups=(31, 19)))
    begin(pair)
    first = hold(pair)
    to_a(pair, answer_init(first.message, Notify(NotifyKind.INVALID_KE_PAYLOAD, b"\0\x13")))
    hold(pair)
    pair.deliver(first)
    pair.run()
    pair.one_pair()


@pytest.mark.parametrize(
    "public",
    [b"", bytes(32), bytes(31), b"\1" + bytes(31), bytes(33)],
    ids=["none", "zero", "short", "order 4", "long"],
)
def test_I06_bad_public_values_are_dropped_by_both(public):
    pair = Pair.of()
    begin(pair)
    request = hold(pair, INIT)
    payloads = tuple(KeyExchange(31, public) if isinstance(p, KeyExchange) else p for p in request.payloads)
    message = evolve(request.message, payloads=payloads)
    sa, out = IkeSa.respond(
        1, c.Ends(B, A), pair.b.directory, encode(message), message, pair.b.entropy, Settings(), pair.now
    )
    assert sa is None
    assert [type(o) for o in out] == [c.Log]
    pair.deliver(request)
    answer = hold(pair)
    payloads = tuple(KeyExchange(31, public) if isinstance(p, KeyExchange) else p for p in answer.payloads)
    to_a(pair, encode(evolve(answer.message, payloads=payloads)))
    assert pair.a.first.state is State.INIT
    pair.deliver(answer)
    pair.run()
    pair.one_pair()


@pytest.mark.parametrize(
    "forged",
    [
        (Notify(NotifyKind.NO_PROPOSAL_CHOSEN),),
        (Notify(NotifyKind.AUTHENTICATION_FAILED),),
        (Notify(NotifyKind.INVALID_SYNTAX),),
        (Notify(NotifyKind.INVALID_KE_PAYLOAD, b"\0\x0e"),),
        (Notify(NotifyKind.COOKIE, b""),),
        (Notify(9999),),
        (),
    ],
    ids=["NO_PROPOSAL", "AUTH_FAILED", "SYNTAX", "INVALID_KE", "COOKIE", "unknown", "empty"],
)
def test_I07_spoofed_refusals_are_not_fatal(forged):
    # A: SA, KE, Ni  --\
    #                   <-- what is forged, three times
    #                  \->
    #                   <-- SA, KE, Nr
    pair = Pair.of()
    begin(pair)
    request = hold(pair, INIT)
    for _ in range(3):
        to_a(pair, answer_init(request.message, *forged))
    assert pair.a.first.state is State.INIT
    assert not pair.wire
    pair.deliver(request)
    pair.run()
    pair.one_pair()


def test_I07_a_refusal_that_is_all_there_is_is_named_in_the_end():
    pair = Pair.of()
    pair.b.directory.proposals = ike_proposals(IkeProposal("p", ("aes-gcm-128",), groups=(31,)))
    begin(pair)
    step(pair, INIT)
    step(pair, "N(NO_PROPOSAL_CHOSEN)")
    assert pair.a.first.state is State.INIT
    pair.advance(120)
    assert reasons(pair.a) == [("no answer from the peer but NO_PROPOSAL_CHOSEN", True, False, False)]
    pair.nothing_left()


def test_I15_the_strongest_configured_wins_whatever_the_peers_order():
    pair = Pair.of()
    pair.a.directory.proposals = ike_proposals(
        IkeProposal("p", ("aes-cbc-128", "aes-gcm-256"), ("sha256",), groups=(14, 31))
    )
    pair.b.directory.proposals = ike_proposals(
        IkeProposal("p", ("aes-gcm-256", "aes-cbc-128"), ("sha256",), groups=(31, 14))
    )
    up(pair).one_pair()
    assert pair.a.current.suite.cipher is Cipher.AES_GCM_256
    assert pair.a.current.suite.group == 31


@pytest.mark.parametrize(
    "transforms",
    [
        (Transform(1, 20, 128), Transform(2, 6), Transform(4, 31)),
        (Transform(1, 11), Transform(2, 6), Transform(4, 31)),
        (Transform(1, 20, 256), Transform(2, 6), Transform(4, 0)),
        (Transform(1, 20, 256), Transform(2, 6)),
        (Transform(1, 20, 256), Transform(1, 20, 128), Transform(2, 6), Transform(4, 31)),
    ],
    ids=["weaker", "NULL", "no group", "group missing", "two ciphers"],
)
def test_I15_an_answer_that_was_not_offered_is_not_taken(transforms):
    pair = Pair.of()
    begin(pair)
    step(pair, INIT)
    answer = hold(pair)
    proposal = answer.payloads[0].proposals[0]
    forged = SecurityAssociation((Proposal(proposal.number, 1, b"", transforms),))
    to_a(pair, encode(evolve(answer.message, payloads=(forged, *answer.payloads[1:]))))
    assert pair.a.first.state is State.INIT
    pair.deliver(answer)
    pair.run()
    pair.one_pair()


def test_I15_an_edited_offer_is_found_by_auth():
    # Somebody takes the better proposal out of A's offer; B answers, and AUTH fails.
    pair = Pair.of()
    both = ike_proposals(IkeProposal("p", ("aes-gcm-256", "aes-cbc-128"), ("sha256",), groups=(31,)))
    pair.a.directory.proposals = pair.b.directory.proposals = both
    begin(pair)
    request = hold(pair)
    less = SecurityAssociation(request.payloads[0].proposals[1:])
    to_b(pair, encode(evolve(request.message, payloads=(less, *request.payloads[1:]))))
    pair.run()
    assert reasons(pair.b)[0][0].startswith("refused: the pre-shared keys differ")
    assert reasons(pair.a)[0][0] == "AUTHENTICATION_FAILED"
    pair.nothing_left()


def test_I14_spi_zero_is_refused():
    pair = Pair.of()
    begin(pair)
    step(pair, INIT)
    answer = hold(pair)
    sa = pair.a.first
    sa.receive(b"", evolve(answer.message, responder_spi=bytes(8)), c.Ends(A, B), pair.now)
    assert sa.state is State.INIT
    request = pair.log[0]
    message = evolve(request.message, initiator_spi=bytes(8))
    made, _ = IkeSa.respond(1, c.Ends(B, A), pair.b.directory, b"", message, pair.b.entropy, Settings(), pair.now)
    assert made is None


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_init_without_a_payload_or_with_a_short_nonce(missing):
    pair = Pair.of()
    begin(pair)
    request = pair.log[0].message
    for payloads in (
        tuple(p for n, p in enumerate(request.payloads) if n != missing),
        tuple(Nonce(b"short") if isinstance(p, Nonce) else p for p in request.payloads),
    ):
        message = evolve(request, payloads=payloads)
        made, out = IkeSa.respond(1, c.Ends(B, A), pair.b.directory, b"", message, pair.b.entropy, Settings(), pair.now)
        assert made is None
        assert not [o for o in out if isinstance(o, c.Send)]


def test_init_repeated_is_answered_with_the_same_octets():
    pair = Pair.of()
    begin(pair)
    request = step(pair, INIT)
    answer = hold(pair)
    pair.deliver(request)
    assert hold(pair).octets == answer.octets
    assert len(pair.b.half) == 1
    # another one with the same SPI is somebody else's business
    sa = pair.b.first
    assert not sa.receive(b"other", request.message, c.Ends(B, A), pair.now)
    pair.deliver(answer)
    step(pair, AUTH)
    pair.deliver(request)
    assert sa.drops["unprotected"] == 2


def test_no_answer_at_all():
    pair = Pair.of(settings=Settings(first_tries=3))
    begin(pair)
    for _ in range(100):
        pair.advance(0.2, run=False)
    assert len(pair.log) == 3
    assert len({f.octets for f in pair.log}) == 1
    assert reasons(pair.a) == [("no answer from the peer", True, False, False)]
    assert pair.a.first.deadline() is None


def test_rfc7296_2_4_each_repetition_waits_longer_than_the_one_before():
    pair = Pair.of(settings=Settings(first_tries=6))
    begin(pair)
    times = [pair.now]
    while len(times) < 6:
        pair.advance(0.01, run=False)
        times += [pair.now] * (len(pair.log) - len(times))
    waits = [later - sooner for sooner, later in pairwise(times)]
    assert waits == pytest.approx([FIRST_INTERVAL * BACK_OFF**n for n in range(5)], abs=0.02)


def test_half_open_ends():
    pair = Pair.of()
    begin(pair)
    step(pair, INIT)
    assert pair.b.first.deadline() == pytest.approx(pair.now + 30)
    pair.wire.clear()
    pair.b.perform(pair.b.first, pair.b.first.wake(pair.now + 30))
    assert not pair.b.sas
    assert reasons(pair.b)[0][2] is False


# --- who is let in ----------------------------------------------------------------------------------------------------------


def refused_by_b(pair):
    """B has refused A with the one text that a peer hears; returns what B's log says."""
    answers = [f for f in pair.log if f.to is pair.a and f.message.exchange == 35]
    assert [f.payloads for f in answers] == [(Notify(NotifyKind.AUTHENTICATION_FAILED),)]
    assert reasons(pair.a) == [("AUTHENTICATION_FAILED", True, False, False)]
    pair.nothing_left()
    return reasons(pair.b)[0][0]


def test_I09_wrong_psk():
    pair = Pair.of(a_terms={"credential": PskCredential(b"not that one")})
    up(pair)
    assert "pre-shared keys differ" in refused_by_b(pair)


def test_I09_unknown_identity():
    pair = Pair.of()
    pair.b.directory.refusal = c.Refusal("no profile matches a.example")
    up(pair)
    assert "no profile matches" in refused_by_b(pair)


def test_I09_not_confirmed_and_not_authorised():
    for attribute, value in (("refuse_peer", c.Refusal("another profile")), ("answer", c.Refusal("no address left"))):
        pair = Pair.of()
        setattr(pair.b.directory, attribute, value)
        up(pair)
        assert refused_by_b(pair).endswith(value.reason)


@pytest.mark.parametrize("drop", ["AUTH", "IDi"])
def test_I09_auth_missing_eap_wanted(drop):
    # A: IDi, SA, TSi, TSr (no AUTH: it wants EAP)  -->
    #                                               <-- N(AUTHENTICATION_FAILED)
    pair = Pair.of()
    begin(pair)
    step(pair, INIT)
    step(pair)
    request = hold(pair, AUTH)
    payloads = [
        p for p in request.payloads if not (isinstance(p, Auth) if drop == "AUTH" else p is request.payloads[0])
    ]
    if drop == "AUTH":
        payloads.append(Unknown(48, False, b"\3\1\0\4"))
    to_b(pair, sealed(pair.a, 35, 1, payloads))
    pair.run()
    reason = refused_by_b(pair)
    assert ("EAP" in reason) == (drop == "AUTH")


@pytest.mark.parametrize("change", ["nothing", "other id", "wrong psk", "not confirmed"])
def test_I09_a_responder_that_does_not_prove_itself(change):
    # A: IDi, AUTH, ..                 -->
    #                                  <-- IDr, AUTH (wrong), ..
    # A: N(AUTHENTICATION_FAILED)      -->     B lets go too
    pair = Pair.of(b_terms={"credential": PskCredential(b"other")} if change == "wrong psk" else None)
    if change == "other id":
        pair.a.directory.ours = evolve(pair.a.directory.ours, remote=evolve(pair.a.directory.ours.remote, octets=b"c"))
    if change == "not confirmed":
        pair.a.directory.refuse_peer = c.Refusal("no such peer")
    pair.checking = False
    begin(pair)
    step(pair, INIT)
    step(pair)
    step(pair, AUTH)
    if change == "nothing":
        hold(pair)
        to_a(pair, sealed(pair.b, 35, 1, [Notify(NotifyKind.USE_TRANSPORT_MODE)], response=True))
        assert pair.a.first.state is State.CLOSED
        assert not pair.a.directory.reserved
        return
    step(pair)
    assert pair.a.first.state is State.CLOSED
    assert not [o for o in pair.a.said if isinstance(o, c.Established | c.ChildUp)]
    step(pair, "N(AUTHENTICATION_FAILED)")
    pair.run()
    assert reasons(pair.b) == [("AUTHENTICATION_FAILED", True, True, True)]
    pair.nothing_left()


def test_I07_authentication_failed_in_the_clear_to_a_waiting_initiator():
    pair = Pair.of()
    begin(pair)
    step(pair, INIT)
    step(pair)
    request = hold(pair, AUTH)
    sa = pair.a.first
    for response in (True, False):
        octets = encode(Message(sa.spi_i, sa.spi_r, 35, 1, False, response, (Notify(24),)))
        to_a(pair, octets)
    assert sa.state is State.AUTH
    assert sa.drops["unprotected"] == 2
    pair.deliver(request)
    pair.run()
    pair.one_pair()


@pytest.mark.parametrize("kind", pki.KINDS)
def test_rfc7427_certificates(kind):
    # A: IDi, CERT.., CERTREQ, AUTH  -->
    #                                <-- IDr, CERT.., AUTH
    pair = with_certificates(pki.LEAVES[kind], pki.HUB[kind])
    up(pair).one_pair()
    assert pair.b.current.certificate.octets == pki.LEAVES[kind].der
    assert pair.a.current.certificate.octets == pki.HUB[kind].der
    assert pair.b.current.auth_peer == 14
    names = next(f.names for f in pair.log if f.message.exchange == 35 or f.fragment)
    assert "CERTREQ" in names or names == ""


@pytest.mark.parametrize("leaf", ["revoked", "expired", "other name"])
def test_I09_certificates_that_do_not_count(leaf):
    bad = {"revoked": pki.revoked, "expired": pki.expired, "other name": pki.HUB["ec256"]}[leaf]
    pair = with_certificates(bad, pki.HUB["ec256"])
    up(pair)
    assert refused_by_b(pair).startswith("refused:")


@pytest.mark.parametrize("change", ["trailing", "truncated", "flipped", "oid garbage", "method 1"])
def test_I08_signatures_that_are_not_right(change):
    pair = with_certificates(pki.LEAVES["rsa2048"], pki.HUB["rsa2048"])
    begin(pair)
    step(pair)
    step(pair)
    pair.wire.clear()
    sa = pair.a.first
    # what A would say, with another AUTH
    from ikev2.engine.exchange.auth import Authenticate

    payloads = Authenticate(sa).build(sa)
    auth = next(p for p in payloads if isinstance(p, Auth))
    size = auth.octets[0]
    octets = {
        "trailing": auth.octets + b"\0",
        "truncated": auth.octets[:-1],
        "flipped": auth.octets[:-1] + bytes([auth.octets[-1] ^ 1]),
        "oid garbage": bytes([size + 2]) + auth.octets[1 : 1 + size] + b"\5\0" + auth.octets[1 + size :],
        "method 1": auth.octets,
    }[change]
    payloads[payloads.index(auth)] = Auth(1 if change == "method 1" else 14, octets)
    to_b(pair, sealed(pair.a, 35, 1, payloads))
    pair.run()
    assert reasons(pair.b)[0][2] is False
    answers = [f for f in pair.log if f.to is pair.a and f.message.exchange == 35]
    assert [f.payloads for f in answers] == [(Notify(NotifyKind.AUTHENTICATION_FAILED),)]


def test_the_directory_answers_later():
    # A: IDi, AUTH, ..  -->     B asks; A repeats, and hears nothing yet
    #                   <-- IDr, AUTH, ..   once it is granted
    pair = Pair.of()
    pair.b.directory.answer = c.Wait()
    begin(pair)
    step(pair, INIT)
    step(pair)
    step(pair, AUTH)
    assert pair.b.first.state is State.DECIDING
    pair.advance(1.0)
    assert len([f for f in pair.log if f.message.exchange == 35]) == 2
    pair.b.do("granted", c.Grant(), pair.now)
    pair.run()
    pair.one_pair()
    before = len(pair.b.said)
    pair.b.do("granted", c.Refusal("too late"), pair.now)
    assert len(pair.b.said) == before


def test_the_directory_refuses_later_or_never_answers():
    pair = Pair.of()
    pair.b.directory.answer = c.Wait()
    begin(pair)
    for _ in range(3):
        step(pair)
    pair.b.do("granted", c.Refusal("no"), pair.now)
    pair.run()
    assert refused_by_b(pair) == "refused: no"
    pair = Pair.of(settings=Settings(half_open=3.0))
    pair.b.directory.answer = c.Wait()
    begin(pair)
    for _ in range(3):
        step(pair)
    pair.advance(4)
    assert "directory" in reasons(pair.b)[0][0]


def test_we_cannot_prove_who_we_are():
    # An Ed25519 key, and a responder without SIGNATURE_HASH_ALGORITHMS: nothing is said
    pair = with_certificates(pki.LEAVES["ed25519"], pki.HUB["ed25519"])
    begin(pair)
    step(pair)
    answer = hold(pair)
    payloads = tuple(p for p in answer.payloads if not (isinstance(p, Notify) and p.kind == 16431))
    to_a(pair, encode(evolve(answer.message, payloads=payloads)))
    assert not pair.wire
    assert reasons(pair.a)[0][0].startswith("we cannot prove who we are")
    assert not pair.a.directory.reserved
    # and as a responder
    pair = with_certificates(pki.LEAVES["ed25519"], pki.HUB["ed25519"])
    begin(pair)
    step(pair)
    pair.b.first.hashes = None
    pair.run()
    assert "cannot prove" in reasons(pair.b)[0][0]
    pair.nothing_left()


def test_an_answer_of_ike_auth_whose_child_cannot_be():
    # A: IDi, AUTH, SA, ..  -->
    #                       <-- IDr, AUTH, SA (SPI 0), ..
    # A: D(ESP)             -->     what B has made must go
    pair = Pair.of()
    begin(pair)
    for _ in range(3):
        step(pair)
    pair.checking = False
    answer = hold(pair)
    payloads = [
        SecurityAssociation(tuple(Proposal(p.number, 3, bytes(4), p.transforms) for p in one.proposals))
        if isinstance(one, SecurityAssociation)
        else one
        for one in answer.payloads
    ]
    to_a(pair, sealed(pair.b, 35, 1, payloads, response=True))
    assert pair.a.first.state is State.ESTABLISHED
    assert [d.refused for d in pair.a.downs] == [True]
    step(pair, "D")
    pair.run()
    pair.advance(10)
    for side in (pair.a, pair.b):
        assert not side.inbound
        assert not side.directory.reserved
