"""Messages around a sealer: what is protected, lengths, fragments."""

from __future__ import annotations

import pytest
from attrs import field, frozen
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from ikev2.wire import (
    MOST_FRAGMENTS,
    Attribute,
    Configuration,
    Delete,
    DoesNotFitError,
    Encrypted,
    EncryptedFragment,
    Message,
    Nonce,
    Notify,
    PayloadKind,
    VendorId,
    aad_of,
    decode,
    decode_payloads,
    encode_fragments,
    encode_payloads,
    encode_protected,
    encode_sealed,
    sealed,
)
from tests.ikev2 import swan_vectors as swan
from tests.ikev2.wire_values import ISPI, RSPI, chains, hexed

K = PayloadKind
REQUEST = Message(ISPI, RSPI, 35, 1, True, False)


@frozen
class Plain:
    """Seals by writing down: IV, plaintext, padding to `block` with its length, ICV. It remembers what it was to protect."""

    block: int = 1
    iv: bytes = b"IVIVIVIV"
    icv: bytes = b"ICV"
    seen: list[bytes] = field(factory=list)

    def overhead(self, length: int) -> int:
        return len(self.iv) + (-(length + 1) % self.block) + 1 + len(self.icv)

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        self.seen.append(aad)
        padding = -(len(plaintext) + 1) % self.block
        return self.iv + plaintext + bytes(padding) + bytes((padding,)) + self.icv

    def open(self, octets: bytes) -> bytes:
        body = octets[len(self.iv) : -len(self.icv)]
        return body[: -1 - body[-1]]


@pytest.mark.parametrize(
    ("aad", "payload", "key", "plaintext"),
    [
        (*sealed(swan.AUTH_REQUEST), swan.SK_EI, swan.AUTH_REQUEST_INSIDE),
        (*sealed(swan.AUTH_RESPONSE), swan.SK_ER, swan.AUTH_RESPONSE_INSIDE),
        (*sealed(swan.DELETE_REQUEST), swan.SK_EI, swan.DELETE_REQUEST_INSIDE),
        (*sealed(swan.DELETE_RESPONSE), swan.SK_ER, swan.DELETE_RESPONSE_INSIDE),
    ],
)
def test_rfc5282_5_1_a_real_peers_message_opens_with_the_associated_data_that_we_say(aad, payload, key, plaintext):
    salt, iv = key[32:], payload.octets[:8]
    opened = AESGCM(key[:32]).decrypt(salt + iv, payload.octets[8:], aad)
    assert opened == plaintext + b"\0"


def test_rfc7296_3_14_lengths_and_what_is_protected():
    sealer = Plain()
    octets = encode_sealed(REQUEST, *encode_payloads((Delete(1),)), sealer)
    # header, next payload SK, 60 octets; then Delete is first inside, 32 octets
    head = hexed("0102030405060708 1112131415161718 2e 20 23 08 00000001 00000034 | 2a 00 0018")
    assert octets == head + b"IVIVIVIV" + hexed("00000008 01000000") + b"\0" + b"ICV"
    assert sealer.seen == [head]
    assert sealed(octets) == (head, Encrypted(K.DELETE, octets[32:]))
    assert aad_of(octets, decode(octets).payloads[-1]) == head


def test_an_empty_message_is_sealed_too():
    octets = encode_sealed(REQUEST, *encode_payloads(()), Plain())
    aad, payload = sealed(octets)
    assert (payload.first, Plain().open(payload.octets), len(aad)) == (0, b"", 32)
    assert decode_payloads(payload.first, b"") == ()


def test_payloads_in_the_clear_stand_before_the_sealed_one_and_are_protected():
    clear = Message(ISPI, RSPI, 35, 1, True, False, (Notify(1), Nonce(bytes(16))))
    sealer = Plain()
    octets = encode_sealed(clear, K.DELETE, hexed("00000008 01000000"), sealer)
    message = decode(octets)
    assert message.payloads[:2] == clear.payloads
    assert isinstance(message.payloads[2], Encrypted)
    assert sealer.seen == [octets[: 28 + 8 + 20 + 4]] == [sealed(octets)[0]]


def test_a_sealer_that_breaks_its_word_is_refused():
    class Liar(Plain):
        def overhead(self, length: int) -> int:
            return super().overhead(length) + 1

    with pytest.raises(DoesNotFitError, match="promised"):
        encode_sealed(REQUEST, 0, b"", Liar())


def test_rfc7383_2_5_fragments():
    sealer = Plain()
    content = bytes(range(100))
    octets = encode_fragments(REQUEST, K.IDI, content, sealer, 28 + 8 + 12 + 40)
    assert [len(each) for each in octets] == [88, 88, 68]
    payloads = [decode(each).payloads[-1] for each in octets]
    # "Next Payload": the first one inside in the first fragment, zero in the others
    assert [(each.first, each.number, each.total) for each in payloads] == [(K.IDI, 1, 3), (0, 2, 3), (0, 3, 3)]
    assert b"".join(sealer.open(each.octets) for each in payloads) == content
    assert all(decode(each).message_id == 1 for each in octets)
    # associated data: up to and with Total Fragments, and of this fragment alone
    assert sealer.seen == [each[:36] for each in octets] == [sealed(each)[0] for each in octets]
    assert octets[1][28:36] == hexed("00 00 003c 0002 0003")
    assert octets[1][16] == K.SKF


@given(st.binary(max_size=3000), st.sampled_from([1, 4, 16]), st.integers(60, 1500))
def test_rfc7383_2_5_fragments_fit_are_as_few_as_can_be_and_make_the_whole(content, block, size):
    sealer = Plain(block)
    try:
        octets = encode_fragments(REQUEST, 35, content, sealer, size)
    except DoesNotFitError:
        assert -(-len(content) // max(1, size - 36 - 12 - block)) > MOST_FRAGMENTS or size - 36 < 12 + block
        return
    assert all(len(each) <= size for each in octets)
    payloads = [decode(each).payloads[-1] for each in octets]
    assert all(isinstance(each, EncryptedFragment) for each in payloads)
    assert b"".join(sealer.open(each.octets) for each in payloads) == content
    room = (size - 36 - 11) // block * block - 1  # of plaintext, in whole blocks with the pad length
    assert len(octets) == max(1, -(-len(content) // room))


def test_what_no_fragments_hold():
    with pytest.raises(DoesNotFitError):
        encode_fragments(REQUEST, 35, bytes(10_000), Plain(), 28 + 8 + 12 + 1)
    for size in (0, 28, 36, 47):
        with pytest.raises(DoesNotFitError):
            encode_fragments(REQUEST, 35, b"x", Plain(), size)
    with pytest.raises(DoesNotFitError):
        encode_fragments(Message(ISPI, RSPI, 35, 1, True, False, (Notify(1),)), 35, b"x", Plain(), 1280)
    with pytest.raises(DoesNotFitError):
        encode_sealed(REQUEST, 35, bytes(65_500), Plain())
    with pytest.raises(DoesNotFitError):
        encode_protected(Message(ISPI[:7], RSPI, 35, 1, True, False), (), Plain())


def test_a_message_is_fragmented_only_if_it_must_be():
    payloads = (VendorId(bytes(1180)), Configuration(1, (Attribute(1),)))
    _, plaintext = encode_payloads(payloads)
    whole = 28 + 4 + len(plaintext) + 12
    for size in (0, whole, whole + 1):
        (octets,) = encode_protected(REQUEST, payloads, Plain(), size=size)
        assert len(octets) == whole
    octets = encode_protected(REQUEST, payloads, Plain(), size=whole - 1)
    assert len(octets) == 2
    pieces = [decode(each).payloads[-1] for each in octets]
    content = b"".join(Plain().open(each.octets) for each in pieces)
    assert decode_payloads(pieces[0].first, content) == payloads


@given(chains, st.sampled_from([1, 16]), st.sampled_from([0, 200, 576]))
def test_what_is_sealed_is_what_was_said(payloads, block, size):
    sealer = Plain(block)
    octets = encode_protected(REQUEST, payloads, sealer, size=size)
    parts = [decode(each).payloads[-1] for each in octets]
    assert sealer.seen == [aad_of(each, part) for each, part in zip(octets, parts, strict=True)]
    content = b"".join(sealer.open(part.octets) for part in parts)
    assert decode_payloads(parts[0].first, content) == payloads
