"""The sealed body: vectors, the same composed again from lower pieces, and octets that nobody sealed."""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from ikev2.crypto.keys import ike_keys
from ikev2.crypto.sealing import Sealer, SealError, overhead, sealers
from ikev2.crypto.suites import IkeSuite, Prf
from stack.esp import Cipher, Integrity

FORMS = [
    (cipher, integrity)
    for cipher in Cipher
    for integrity in ([Integrity.NONE] if cipher.aead else [each for each in Integrity if each.key])
]
AAD = bytes.fromhex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029")


def entropy(size: int) -> bytes:
    return bytes(range(0x30, 0x30 + size))


def sealer(cipher: Cipher, integrity: Integrity) -> Sealer:
    key = bytes(range(cipher.key + cipher.salt))
    return Sealer(cipher, integrity, key, bytes(range(0x80, 0x80 + integrity.key)), entropy)


def test_rfc7634_b_chacha20_poly1305() -> None:
    """Appendix B: a whole SK payload's IV, ciphertext and tag."""
    one = Sealer(Cipher.CHACHA20_POLY1305, Integrity.NONE, bytes.fromhex(
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3"), b"", entropy)  # fmt: skip
    one._count = 0x1011121314151617 - 1
    body = one.seal(AAD, bytes.fromhex("0000000c000040010000000a"))
    assert body.hex() == "1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2"
    assert one.open(AAD, body).hex() == "0000000c000040010000000a"


@pytest.mark.parametrize("cipher", [Cipher.AES_GCM_128, Cipher.AES_GCM_256])
def test_rfc5282_gcm_composed_from_its_pieces(cipher: Cipher) -> None:
    """Nonce = salt | IV, AAD = header up to the SK payload's own, tag of 16 octets; one octet of pad length, 0."""
    one = sealer(cipher, Integrity.NONE)
    for count in (1, 2, 3):
        body = one.seal(AAD, b"payloads")
        iv = count.to_bytes(8)
        key = bytes(range(cipher.key + 4))
        context = BlockCipher(algorithms.AES(key[:-4]), modes.GCM(key[-4:] + iv)).encryptor()
        context.authenticate_additional_data(AAD)
        assert body == iv + context.update(b"payloads\0") + context.finalize() + context.tag


@pytest.mark.parametrize(("cipher", "integrity"), [form for form in FORMS if form[1].key])
def test_rfc7296_3_14_cbc_composed_from_its_pieces(cipher: Cipher, integrity: Integrity) -> None:
    body = sealer(cipher, integrity).seal(AAD, b"p" * 20)
    iv, key = entropy(16), bytes(range(cipher.key))
    context = BlockCipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    text = iv + context.update(b"p" * 20 + bytes(11) + b"\x0b") + context.finalize()
    checksum = hmac.new(bytes(range(0x80, 0x80 + integrity.key)), AAD + text, integrity.digest).digest()
    assert body == text + checksum[: integrity.icv]


@pytest.mark.parametrize(("cipher", "integrity"), FORMS)
def test_overhead_is_exact(cipher: Cipher, integrity: Integrity) -> None:
    one = sealer(cipher, integrity)
    for size in range(70):
        body = one.seal(AAD, bytes(size))
        assert len(body) == one.overhead(size) == overhead(cipher, integrity, size)
        assert one.open(AAD, body) == bytes(size)


def test_overhead_by_hand() -> None:
    assert overhead(Cipher.AES_GCM_256, Integrity.NONE, 100) == 8 + 100 + 1 + 16
    assert overhead(Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128, 100) == 16 + 112 + 16
    assert overhead(Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128, 111) == 16 + 112 + 16
    assert overhead(Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128, 112) == 16 + 128 + 16


@pytest.mark.parametrize(("cipher", "integrity"), FORMS)
def test_ivs_do_not_repeat(cipher: Cipher, integrity: Integrity) -> None:
    drawn = iter(range(100))
    key = bytes(cipher.key + cipher.salt)
    one = Sealer(cipher, integrity, key, bytes(integrity.key), lambda size: next(drawn).to_bytes(size))
    ivs = {one.seal(AAD, b"same")[: cipher.iv] for _ in range(100)}
    assert len(ivs) == 100


def test_an_aead_that_is_used_up_seals_no_more() -> None:
    one = sealer(Cipher.AES_GCM_256, Integrity.NONE)
    one._count = 2**64 - 2
    one.seal(AAD, b"the last")
    for _ in range(2):
        with pytest.raises(SealError):
            one.seal(AAD, b"one too many")


@pytest.mark.parametrize(("cipher", "integrity"), FORMS)
def test_I12_every_flipped_bit_is_refused(cipher: Cipher, integrity: Integrity) -> None:
    one = sealer(cipher, integrity)
    body = one.seal(AAD, b"payloads")
    for at in range(8 * len(body)):
        bad = bytearray(body)
        bad[at // 8] ^= 1 << at % 8
        with pytest.raises(SealError):
            one.open(AAD, bytes(bad))
    for at in range(8 * len(AAD)):
        bad = bytearray(AAD)
        bad[at // 8] ^= 1 << at % 8
        with pytest.raises(SealError):
            one.open(bytes(bad), body)
    assert one.open(AAD, body) == b"payloads"


@pytest.mark.parametrize(("cipher", "integrity"), FORMS)
def test_I12_every_truncation_is_refused(cipher: Cipher, integrity: Integrity) -> None:
    one = sealer(cipher, integrity)
    body = one.seal(AAD, b"p" * 40)
    for end in range(len(body)):
        for bad in (body[:end], body[len(body) - end :]):
            with pytest.raises(SealError):
                one.open(AAD, bad)
    with pytest.raises(SealError):
        one.open(AAD, body + b"\0")


@pytest.mark.parametrize(("cipher", "integrity"), FORMS)
def test_I12_wrong_padding_under_a_right_checksum(cipher: Cipher, integrity: Integrity) -> None:
    """A peer that holds the keys, and seals nonsense: no octets at all, or more padding than there is room for. The same
    error, with the same text, as for a wrong checksum."""
    one = sealer(cipher, integrity)

    def sealed(inside: bytes) -> bytes:
        if one._aead is not None:
            iv = bytes(7) + b"\x63"
            return iv + one._aead.encrypt(one._salt + iv, inside, AAD)
        assert one._aes is not None
        text = entropy(16) + BlockCipher(one._aes, modes.CBC(entropy(16))).encryptor().update(inside)
        return text + one._icv(AAD + text)

    cases = [b"\x10" * 16, b"\xff" * 16, bytes(15) + b"\x10", bytes(31) + b"\x20"]
    if cipher.aead:
        cases += [b"", b"\x01", b"\xff"]
    else:
        # A whole checksum over a part of a block, and over no block at all.
        for text in (entropy(16) + bytes(17), entropy(16), b""):
            with pytest.raises(SealError) as caught:
                one.open(AAD, text + one._icv(AAD + text))
            assert str(caught.value) == "the sealed body was refused"
    for inside in cases:
        with pytest.raises(SealError) as caught:
            one.open(AAD, sealed(inside))
        assert str(caught.value) == "the sealed body was refused"
    # RFC 7296 3.14: a recipient MUST accept any padding; its content is nobody's business, and longer than needed is allowed.
    assert one.open(AAD, sealed(b"p" * 8 + b"\xee" * 7 + b"\x07")) == b"p" * 8
    assert one.open(AAD, sealed(b"p" * 8 + b"\xee" * 39 + b"\x27")) == b"p" * 8
    assert one.open(AAD, sealed(bytes(15) + b"\x0f")) == b""


@given(st.sampled_from(FORMS), st.binary(max_size=300), st.binary(max_size=200))
def test_I12_any_octets_are_refused(form: tuple[Cipher, Integrity], octets: bytes, aad: bytes) -> None:
    with pytest.raises(SealError):
        sealer(*form).open(aad, octets)


@given(st.sampled_from(FORMS), st.binary(max_size=300), st.binary(max_size=200))
def test_what_is_sealed_opens(form: tuple[Cipher, Integrity], plaintext: bytes, aad: bytes) -> None:
    assert sealer(*form).open(aad, sealer(*form).seal(aad, plaintext)) == plaintext


def test_the_two_directions_have_their_own_keys() -> None:
    for suite in (
        IkeSuite(Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256, 31),
        IkeSuite(Cipher.AES_GCM_256, Integrity.NONE, Prf.HMAC_SHA2_384, 31),
    ):
        keys = ike_keys(suite, bytes(32), bytes(16), bytes(16), b"i" * 8, b"r" * 8)
        initiator, responder = sealers(suite, keys, entropy)
        again, _ = sealers(suite, keys, entropy)
        body = initiator.seal(AAD, b"hello")
        assert again.open(AAD, body) == b"hello"
        with pytest.raises(SealError):
            responder.open(AAD, body)  # reflected


@pytest.mark.parametrize(
    ("cipher", "integrity", "key", "integrity_key"),
    [
        (Cipher.AES_GCM_256, Integrity.NONE, 32, 0),  # the salt is missing
        (Cipher.AES_GCM_256, Integrity.HMAC_SHA2_256_128, 36, 32),
        (Cipher.AES_CBC_256, Integrity.NONE, 32, 0),
        (Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128, 32, 0),
    ],
)
def test_keys_that_do_not_fit(cipher: Cipher, integrity: Integrity, key: int, integrity_key: int) -> None:
    with pytest.raises(ValueError, match=r"fit|without"):
        Sealer(cipher, integrity, bytes(key), bytes(integrity_key), entropy)


def test_a_sealer_does_not_show_its_keys() -> None:
    one = Sealer(Cipher.AES_GCM_256, Integrity.NONE, b"canary" * 6, b"", entropy)
    assert "canary" not in repr(one)
    assert not hasattr(one, "__dict__")
