"""Whatever a peer that has the keys may say: nothing raises, nothing leaks, and the tables stay bounded."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ikev2.engine.children import MAX_CHILDREN
from ikev2.engine.sa import State
from ikev2.wire import (
    Attribute,
    Auth,
    Certificate,
    Configuration,
    Delete,
    Identity,
    IdentityPayload,
    KeyExchange,
    Message,
    Nonce,
    Notify,
    NotifyKind,
    Proposal,
    SecurityAssociation,
    TrafficSelectors,
    Transform,
    Unknown,
    encode_payloads,
    encode_sealed,
)
from stack.esp import Selector
from tests.ikev2.pair import A, B, Pair, c, host, proposals

SPIS = [b"", b"\0" * 4, b"\0\0\xa0\2", b"\0\0\xb0\2", b"\xff" * 4, b"\1" * 8]
GCM = (Transform(1, 20, 256), Transform(5, 1))
IKE = (Transform(1, 20, 256), Transform(2, 6), Transform(4, 31))
PROPOSALS = st.builds(
    Proposal,
    st.integers(0, 3),
    st.sampled_from([0, 1, 2, 3]),
    st.sampled_from(SPIS),
    st.sampled_from([(), GCM, IKE, (*GCM, Transform(4, 31)), (Transform(9, 1),), (Transform(1, 12), Transform(3, 2))]),
)
PAYLOADS = st.one_of(
    st.builds(SecurityAssociation, st.lists(PROPOSALS, min_size=1, max_size=3).map(tuple)),
    st.builds(KeyExchange, st.sampled_from([0, 19, 31]), st.sampled_from([b"", bytes(32), b"\7" * 32, b"\2" * 64])),
    st.builds(Nonce, st.sampled_from([bytes(16), b"\5" * 32, bytes(256)])),
    st.builds(
        Notify,
        st.one_of(st.sampled_from([int(kind) for kind in NotifyKind]), st.integers(0, 65535)),
        st.binary(max_size=6),
        st.sampled_from([0, 1, 3]),
        st.sampled_from(SPIS),
    ),
    st.builds(Delete, st.just(3), st.lists(st.sampled_from([s for s in SPIS if len(s) == 4]), max_size=4).map(tuple)),
    st.just(Delete(1)),
    st.builds(
        TrafficSelectors,
        st.booleans(),
        st.sampled_from([host(A), host(B), (Selector(bytes(4), b"\xff" * 4),), (Selector(bytes(16), bytes(16)),)]),
    ),
    st.builds(IdentityPayload, st.builds(Identity, st.sampled_from([2, 9, 11]), st.binary(max_size=8)), st.booleans()),
    st.builds(Auth, st.sampled_from([0, 1, 2, 9, 14]), st.binary(max_size=40)),
    st.builds(Certificate, st.sampled_from([4, 12]), st.binary(max_size=20)),
    st.builds(Configuration, st.integers(1, 4), st.lists(st.builds(Attribute, st.sampled_from([1, 13]))).map(tuple)),
    st.builds(Unknown, st.sampled_from([48, 99]), st.booleans(), st.binary(max_size=4)),
)


def fits(payload):
    """The codec refuses some on the way out, as it would on the way in."""
    try:
        encode_payloads([payload])
    except ValueError:
        return False
    return True


CHAINS = st.lists(PAYLOADS.filter(fits), max_size=7)


def says(side, exchange, message_id, payloads, *, response):
    """`side`'s peer hears this, in its name."""
    sa = side.current
    message = Message(sa.spi_i, sa.spi_r, exchange, message_id, sa.initiator, response)
    octets = encode_sealed(message, *encode_payloads(payloads), sa.seal_out)
    side.peer.take(octets, c.Ends(side.peer.address, side.address))


def holds(side):
    sa = side.current
    assert len(sa.children) <= MAX_CHILDREN
    assert set(side.inbound) <= side.directory.reserved
    if sa.state is State.CLOSED and not side.sas:
        assert not side.inbound
        assert not side.outbound
        assert not side.directory.reserved


@given(st.lists(st.tuples(st.sampled_from([35, 36, 37]), CHAINS), min_size=1, max_size=4))
@settings(max_examples=250, deadline=None)
def test_requests(requests):
    pair = Pair.up(proposals=proposals())
    pair.checking = False
    for exchange, payloads in requests:
        says(pair.a, exchange, pair.b.first.next_peer, payloads, response=False)
        holds(pair.b)


@given(st.sampled_from(["rekey_child", "rekey", "add_child", "check_alive", "push", "delete_child", "close"]), CHAINS)
@settings(max_examples=250, deadline=None)
def test_answers(what, payloads):
    pair = Pair.up(proposals=proposals(pfs=31))
    pair.checking = False
    b = pair.b
    arguments = {
        "rekey_child": (b.child.number,),
        "delete_child": (b.child.number,),
        "add_child": (b.directory.children,),
        "push": ((Attribute(13, bytes(8)),),),
        "close": ("enough",),
    }.get(what, ())
    b.do(what, *arguments, pair.now)
    (pending,) = b.current.pending.values()
    says(pair.a, pending.task.exchange, pending.message_id, payloads, response=True)
    holds(b)
    b.perform(b.current, b.current.wake(pair.now + 1))
    holds(b)


@given(CHAINS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_ike_auth(payloads, response):
    pair = Pair.of()
    pair.checking = False
    pair.a.initiate(pair.a.directory.children)
    pair.deliver()
    pair.deliver()
    if response:
        says(pair.b, 35, 1, payloads, response=True)
        assert pair.a.first.state in {State.AUTH, State.CLOSED}
    else:
        says(pair.a, 35, 1, payloads, response=False)
        assert pair.b.first.state is State.CLOSED
    for side in (pair.a, pair.b):
        assert not [o for o in side.said if isinstance(o, c.Established | c.PutInbound)]
    if pair.a.first.state is State.CLOSED:
        assert not pair.a.directory.reserved
