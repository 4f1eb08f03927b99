"""IKEv2 values for Hypothesis, and messages made of hand-written hex."""

from __future__ import annotations

from hypothesis import strategies as st

from ikev2.wire import (
    MOST_ATTRIBUTES,
    Attribute,
    Auth,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    Encrypted,
    EncryptedFragment,
    Identity,
    IdentityPayload,
    KeyExchange,
    Message,
    Nonce,
    Notify,
    PayloadKind,
    Proposal,
    SecurityAssociation,
    TrafficSelectors,
    Transform,
    Unknown,
    VendorId,
)
from stack.esp import Selector

ISPI, RSPI = bytes.fromhex("0102030405060708"), bytes.fromhex("1112131415161718")


def hexed(text: str) -> bytes:
    """Hex with blanks and newlines; `|` marks where a field begins, for the reader."""
    return bytes.fromhex(text.replace("|", " "))


def message_hex(first: int, body: bytes, *, exchange: int = 34, flags: int = 0x08, message_id: int = 0) -> bytes:
    """A whole message: the header made right around `body`, a chain that begins with `first`."""
    head = ISPI + RSPI + bytes((first, 0x20, exchange, flags)) + message_id.to_bytes(4) + (28 + len(body)).to_bytes(4)
    return head + body


def payload_hex(body: bytes, *, following: int = 0, flags: int = 0) -> bytes:
    return bytes((following, flags)) + (4 + len(body)).to_bytes(2) + body


_octet = st.integers(0, 255)
_short = st.integers(0, 65535)
_octets = st.binary(max_size=80)
_long_attribute = st.tuples(st.integers(0, 0x7FFF), st.binary(max_size=9))
_short_attribute = st.tuples(
    st.integers(0x8000, 0xFFFF).filter(lambda kind: kind != 0x800E), st.binary(min_size=2, max_size=2)
)
transforms = st.builds(
    Transform, _octet, _short, _short, st.lists(_long_attribute | _short_attribute, max_size=3).map(tuple)
)


@st.composite
def _proposals(draw: st.DrawFn) -> Proposal:
    protocol = draw(st.sampled_from([1, 2, 3, 200]))
    size = draw(st.sampled_from({1: (0, 8), 2: (4,), 3: (4,)}.get(protocol, (0, 3, 255))))
    spi = draw(st.binary(min_size=size, max_size=size))
    return Proposal(draw(_octet), protocol, spi, tuple(draw(st.lists(transforms, max_size=5))))


@st.composite
def selectors(draw: st.DrawFn) -> Selector:
    size = draw(st.sampled_from((4, 16)))
    first, last = sorted((draw(st.binary(min_size=size, max_size=size)), draw(st.binary(min_size=size, max_size=size))))
    ports = draw(st.sampled_from([(0, 65535), (65535, 0), (1701, 1701), (0x0800, 0x08FF)]))
    return Selector(first, last, draw(_octet), *ports)


_identities = st.one_of(
    st.builds(Identity, st.just(1), st.binary(min_size=4, max_size=4)),
    st.builds(Identity, st.just(5), st.binary(min_size=16, max_size=16)),
    st.builds(Identity, st.sampled_from([2, 3, 9, 10, 11, 13, 250]), _octets),
)

payloads = st.one_of(
    st.builds(SecurityAssociation, st.lists(_proposals(), min_size=1, max_size=4).map(tuple)),
    st.builds(KeyExchange, _short, _octets),
    st.builds(IdentityPayload, _identities, st.booleans(), st.binary(min_size=3, max_size=3)),
    st.builds(Certificate, _octet, _octets),
    st.builds(CertificateRequest, _octet, _octets),
    st.builds(Auth, _octet, _octets),
    st.builds(Nonce, st.binary(min_size=16, max_size=256)),
    st.builds(Notify, _short, _octets, _octet, st.binary(max_size=255)),
    st.just(Delete(1)),
    st.builds(Delete, st.sampled_from((2, 3)), st.lists(st.binary(min_size=4, max_size=4), max_size=9).map(tuple)),
    st.builds(VendorId, _octets),
    st.builds(TrafficSelectors, st.booleans(), st.lists(selectors(), max_size=6).map(tuple)),
    st.builds(
        Configuration,
        _octet,
        st.lists(
            st.builds(Attribute, st.integers(0, 0x7FFF), st.binary(max_size=20)), max_size=MOST_ATTRIBUTES // 8
        ).map(tuple),
    ),
    st.builds(
        Unknown,
        st.integers(1, 255).filter(
            lambda kind: kind not in PayloadKind.__members__.values() or kind == PayloadKind.EAP
        ),
        st.booleans(),
        _octets,
    ),
)
chains = st.lists(payloads, max_size=8).map(tuple)


@st.composite
def _fragments(draw: st.DrawFn) -> EncryptedFragment:
    total = draw(st.integers(1, 65535))
    return EncryptedFragment(draw(_octet), draw(st.integers(1, total)), total, draw(_octets))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    last = draw(st.one_of(st.none(), st.builds(Encrypted, _octet, _octets), _fragments()))
    return Message(
        draw(st.binary(min_size=8, max_size=8).filter(any)),
        draw(st.binary(min_size=8, max_size=8)),
        draw(_octet),
        draw(st.integers(0, (1 << 32) - 1)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(chains) + ((last,) if last is not None else ()),
        draw(st.integers(0x20, 0x2F)),
    )
