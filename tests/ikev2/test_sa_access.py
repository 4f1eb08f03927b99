"""Mode config, CHILD_SAs that fail alone, childless initiation, NAT (RFC 7296 2.19, 2.23, 3.15; RFC 6023)."""

from __future__ import annotations

import pytest
from attrs import evolve

from ikev2.config import TransformSet
from ikev2.crypto.suites import esp_proposals
from ikev2.engine import contract as c
from ikev2.engine.exchange import inform
from ikev2.engine.sa import State
from ikev2.wire import (
    Attribute,
    Configuration,
    Notify,
    NotifyKind,
    encode,
)
from stack.esp import Cipher, EspMode, Selector
from tests.ikev2.exchanges import AUTH, begin, reasons, sealed, to_a, up
from tests.ikev2.pair import KEY_A, KEY_B, A, B, Pair, child_terms, hold, host, step

# --- mode config ------------------------------------------------------------------------------------------------------------


def test_cfg_request_and_reply():
    # A: .. CP(REQUEST: INTERNAL_IP4_ADDRESS) ..  -->
    #                                             <-- .. CP(REPLY: 10.9.0.1) ..
    wanted, given = (Attribute(1),), (Attribute(1, bytes([10, 9, 0, 1])), Attribute(2, b"\xff" * 4))
    pair = Pair.of(a_terms={"request": wanted})
    pair.b.directory.answer = c.Grant(reply=given)
    up(pair)
    assert pair.b.directory.asked[0].attributes == wanted
    assert [type(o) for o in pair.a.said][:2] == [c.Established, c.Configured]
    assert pair.a.said[1] == c.Configured(2, given)
    pair.one_pair()


def test_cfg_reply_that_was_not_asked_for_is_ignored():
    pair = Pair.of()
    pair.b.directory.answer = c.Grant(reply=(Attribute(1, bytes(4)),))
    up(pair)
    assert not [o for o in pair.a.said if isinstance(o, c.Configured)]


def test_cfg_set_and_ack():
    # A: CP(SET: INTERNAL_IP4_SUBNET)  -->
    #                                  <-- CP(ACK: INTERNAL_IP4_SUBNET, empty)
    own = (Attribute(13, bytes([10, 9, 0, 1]) + b"\xff" * 4), Attribute(13, bytes(8)))
    pair = Pair.of(a_terms={"announce": own})
    begin(pair)
    for _ in range(4):
        step(pair)
    step(pair, "CP(3)")
    assert pair.b.said[-1] == c.Configured(3, own)
    assert step(pair, "CP(4)").payloads == (Configuration(4, (Attribute(13),)),)
    pair.one_pair()
    # and the other way, later on
    pair.b.do("push", own, pair.now)
    pair.run()
    assert pair.a.said[-1] == c.Configured(3, own)


@pytest.mark.parametrize("how", ["refused", "unknown"])
def test_cfg_set_that_the_peer_does_not_take_breaks_nothing(how, monkeypatch):
    pair = Pair.of(a_terms={"announce": (Attribute(13, bytes(8)),)}, b_terms={"accept_set": False})
    if how == "unknown":
        monkeypatch.setattr(inform, "_configured", lambda sa, configuration: [])
    up(pair)
    assert not [o for o in pair.b.said if isinstance(o, c.Configured)]
    pair.one_pair()


# --- the CHILD_SA fails, the IKE SA stands ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("proposals", NotifyKind.NO_PROPOSAL_CHOSEN),
        ("selectors", NotifyKind.TS_UNACCEPTABLE),
        ("directory", NotifyKind.TS_UNACCEPTABLE),
        ("address", NotifyKind.INTERNAL_ADDRESS_FAILURE),
        ("request", NotifyKind.FAILED_CP_REQUIRED),
    ],
)
def test_rfc7296_1_2_the_child_fails_alone(change, kind):
    # A: IDi, AUTH, SA, TSi, TSr  -->
    #                             <-- IDr, AUTH, N(...)
    pair = Pair.of()
    directory = pair.b.directory
    if change == "proposals":
        directory.children = child_terms(KEY_B, B, A, proposals=esp_proposals([TransformSet("x", Cipher.AES_GCM_128)]))
    elif change == "selectors":
        directory.children = child_terms(KEY_B, bytes([192, 0, 2, 1]), A)
    elif change == "directory":
        directory.refuse_child = c.Refusal("no tunnel has these ends")
    else:
        directory.answer = c.Refusal("no address", int(kind))
    up(pair)
    answer = next(f for f in pair.log if f.to is pair.a and f.message.exchange == 35)
    assert answer.names == f"IDr AUTH N({kind.name})"
    for side in (pair.a, pair.b):
        assert side.first.state is State.ESTABLISHED
        assert not side.inbound
        assert not side.directory.reserved
    assert [(d.key, d.number, d.refused) for d in pair.a.downs] == [(KEY_A, 0, True)]
    # and may come later, unless it is the authorisation that was refused: that is asked for once, with IKE_AUTH
    directory.refuse_child, directory.answer = None, c.Grant()
    directory.children = child_terms(KEY_B, B, A)
    pair.a.do("add_child", pair.a.directory.children, pair.now)
    pair.run()
    if change in {"address", "request"}:
        assert not pair.b.inbound
        assert pair.log[-1].names == f"N({kind.name})"
    else:
        pair.one_pair()


def test_rfc6023_childless():
    # A: IDi, AUTH  -->
    #               <-- IDr, AUTH
    pair = Pair.of()
    begin(pair, child=None)
    step(pair)
    step(pair)
    step(pair, "IDi N(INITIAL_CONTACT) AUTH")
    step(pair, "IDr AUTH")
    assert pair.a.first.state is pair.b.first.state is State.ESTABLISHED
    pair.b.do("add_child", pair.b.directory.children, pair.now)
    pair.run()
    pair.one_pair()


def test_rfc6023_a_peer_that_cannot_be_childless():
    pair = Pair.of()
    begin(pair, child=None)
    step(pair)
    answer = hold(pair)
    payloads = tuple(p for p in answer.payloads if p != Notify(NotifyKind.CHILDLESS_IKEV2_SUPPORTED))
    to_a(pair, encode(evolve(answer.message, payloads=payloads)))
    assert reasons(pair.a)[0][1] is False
    assert not pair.wire


def test_grant_narrows_the_selectors_but_not_of_flexvpn_peers():
    assigned = host(bytes([10, 9, 0, 1]), 0)
    everything = (Selector(bytes(4), b"\xff" * 4),)
    for flexvpn in (False, True):
        pair = Pair.of(mode=EspMode.TUNNEL)
        pair.a.directory.children = evolve(pair.a.directory.children, own=everything)
        pair.b.directory.children = evolve(pair.b.directory.children, far=everything)
        pair.b.directory.answer = c.Grant(selectors=assigned)
        begin(pair)
        step(pair)
        if not flexvpn:
            pair.b.first.vendor_ids = ()
        pair.run()
        assert pair.a.child.inbound.own == (everything if flexvpn else assigned)
        assert pair.b.child.inbound.far == (everything if flexvpn else assigned)


def test_I14_255_selectors():
    many = tuple(Selector(bytes([10, 1, n, 0]), bytes([10, 1, n, 255])) for n in range(254))
    pair = Pair.of(mode=EspMode.TUNNEL)
    pair.a.directory.children = evolve(pair.a.directory.children, own=(*host(A), *many))
    pair.b.directory.children = evolve(pair.b.directory.children, far=(*host(A), *many))
    up(pair)
    assert len(pair.b.child.inbound.far) == 255
    pair.one_pair()


# --- NAT ------------------------------------------------------------------------------------------------------------------


OUTSIDE = bytes([203, 0, 113, 9])


def nat(port_500=61000, port_4500=61001):
    """What A sends comes from OUTSIDE."""
    return lambda seen: evolve(seen, remote=OUTSIDE, remote_port=port_500 if seen.local_port == 500 else port_4500)


def test_rfc7296_2_23_a_nat_before_the_initiator():
    # A: SA, KE, Ni, ..  (500)     -->  from OUTSIDE: the source hash does not fit
    #                              <--
    # A: IDi, AUTH, ..   (4500)    -->
    pair = Pair.of()
    pair.nat = nat()
    pair.b.directory.children = child_terms(KEY_B, B, OUTSIDE)
    pair.a.directory.children = child_terms(KEY_A, A, B)
    begin(pair)
    step(pair)
    step(pair)
    flight = hold(pair, AUTH)
    assert flight.octets[:4] == bytes(4)
    assert flight.ends == c.Ends(B, OUTSIDE, 4500, 61001)
    pair.deliver(flight)
    pair.run()
    a, b = pair.a.current, pair.b.current
    assert (a.nat_own, a.nat_peer, b.nat_own, b.nat_peer) == (True, False, False, True)
    assert b.ends == c.Ends(B, OUTSIDE, 4500, 61001)
    # RFC 7296 2.23.1: each end has the addresses that it sees.
    assert pair.a.child.inbound.own == host(A)
    assert pair.b.child.inbound.far == host(OUTSIDE)
    row = pair.b.child.outbound
    assert (row.form.udp, row.remote, row.ports) == (True, OUTSIDE, (4500, 61001))
    assert pair.a.child.outbound.ports == (4500, 4500)
    for side in (pair.a, pair.b):
        side.rekey_child()
        pair.run()
    pair.advance(6)
    pair.one_pair()


def test_nat_keepalives_only_by_who_is_behind_it_and_only_if_idle():
    pair = Pair.of()
    pair.nat = nat()
    pair.b.directory.children = child_terms(KEY_B, B, OUTSIDE)
    up(pair)
    sa = pair.a.current
    start, seen = pair.now, []
    for second in range(1, 61):
        pair.now = start + second
        if second < 30:
            pair.a.packet()
        seen += [o for o in sa.wake(pair.now) if isinstance(o, c.Send)]
    assert [o.octets for o in seen] == [b"\xff"]
    assert seen[0].ends == sa.ends
    assert pair.b.current.keepalive_at == 0.0


def test_no_nat_no_udp_even_on_port_4500():
    pair = Pair.of()
    pair.a.initiate(pair.a.directory.children, c.Ends(A, B, 4500, 4500))
    pair.run()
    assert all(f.octets[:4] == bytes(4) for f in pair.log)
    assert not pair.a.current.nat
    assert not pair.a.child.inbound.form.udp
    pair.one_pair()


def test_I16_nat_rebind_moves_only_with_an_authenticated_packet():
    pair = Pair.of()
    pair.nat = nat()
    pair.b.directory.children = child_terms(KEY_B, B, OUTSIDE)
    up(pair)
    b = pair.b.current
    before = b.ends
    elsewhere = c.Ends(B, bytes([198, 51, 100, 1]), 4500, 7)
    # a copy of an old message, and one with a broken seal
    old = [f for f in pair.log if f.message.exchange == 35 and f.to is pair.b][-1]
    pair.b.take(old.octets, elsewhere)
    octets = bytearray(sealed(pair.a, 37, 2, []))
    octets[-1] ^= 1
    pair.b.take(bytes(4) + bytes(octets), elsewhere)
    assert b.ends == before
    assert b.drops["integrity"] == 1
    pair.wire.clear()
    # the real one, from another port
    pair.nat = nat(port_4500=62000)
    pair.a.do("check_alive", pair.now)
    pair.run()
    assert b.ends.remote_port == 62000
    moved = [o for o in pair.b.said if isinstance(o, c.Moved)]
    assert [o.ends for o in moved] == [b.ends]
    assert pair.b.outbound[KEY_B].ports == (4500, 62000)
    assert pair.b.outbound[KEY_B].use is pair.b.child.outbound.use
    # and by an ESP packet
    pair.b.do("moved", OUTSIDE, 63000, pair.now)
    assert pair.b.outbound[KEY_B].ports == (4500, 63000)
    # who is behind the NAT does not follow
    pair.a.do("moved", OUTSIDE, 63000, pair.now)
    assert pair.a.current.ends.remote == B
