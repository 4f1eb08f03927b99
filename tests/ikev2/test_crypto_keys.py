"""Keys: NIST's vectors, and the same composed again from hmac alone."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.crypto.keys import (
    ChildKeys,
    DirectionKeys,
    IkeKeys,
    KeyLengthError,
    child_keys,
    ike_keys,
    prf,
    prf_plus,
    rekeyed_ike_keys,
)
from ikev2.crypto.suites import EspSuite, IkeSuite, Prf
from stack.esp import Cipher, Integrity

# NIST CAVS 800-135, IKEv2 with SHA-1
NI, NR = bytes.fromhex("32b50d5f4a3763f3"), bytes.fromhex("9206a04b26564cb1")
SPI_I, SPI_R = bytes.fromhex("34c9e7c188868785"), bytes.fromhex("3ff77d760d2b2199")
GIR = bytes.fromhex("4b2c1f971981a8ad8d0abeafabf38cf75fc8349c148142465ed9c8b516b8be52")
GIR_NEW = bytes.fromhex("863f3c9d06efd39d2b907b97f8699e5dd5251ef64a2a176f36ee40c87d4f9330")
SKEYSEED = bytes.fromhex("a9a7b222b59f8f48645f28a1db5b5f5d7479cba7")
DKM = bytes.fromhex(
    "a14293677cc80ff8f9cc0eee30d895da9d8f405666e30ef0dfcb63c634a46002a2a63080e514a062768b76606f9fa5e992204fc5"
    "a670bde3f10d6b027113936a5c55b648a194ae587b0088d52204b702c979fa280870d2ed41efa9c549fd11198af1670b143d384b"
    "d275c5f594cf266b05ebadca855e4249520a441a81157435a7a56cc4"
)
DKM_CHILD = bytes.fromhex(
    "8059e3ee8810e6c3a91bc8bcd2a7a41151b8d0e6ae239c7b38093ad85ef4c5811a8e7b5d1cdabd9560b2d5e092d1f24e2d4b85ec"
    "cdf0ad0dc9abd94b51ee71814ca6dbc8bb51b6309f5b9545c7eb35cf5580b1e521a8fe20754a2d883ba0c2cf285f524aea6545b3"
    "3106bc03e614296d319d41d4b50b3f510b1c0a22f3e664994d234cb4"
)
DKM_CHILD_PFS = bytes.fromhex(
    "bb43244c1860ad65ee1e211ffe8bb3661750c8f89cb9f547df7f4fa61d37301628190e38c66232eab4b3ab14c400a5197dd3730e"
    "d4820a8a10394d51e1c0400052f63ebd36b0e7ef53aaed31eba4a5080d7d4b5666023a8bbb5ffb7857240f9a05884d1b7d2f9337"
    "08450b7b3288f1fc863ab49fa901227cffc06e27899c7054d56fd74c"
)
SKEYSEED_REKEY = bytes.fromhex("63e81194946ebd05df7df5ebf5d8750056bf1f1d")
SHA1_SUITE = IkeSuite(Cipher.AES_CBC_128, Integrity.HMAC_SHA1_96, Prf.HMAC_SHA1, 14)


def cut(octets: bytes, *sizes: int) -> list[bytes]:
    parts, at = [], 0
    for size in sizes:
        parts.append(octets[at : at + size])
        at += size
    return parts


def slow_prf_plus(digest: str, key: bytes, seed: bytes, size: int) -> bytes:
    """RFC 7296 2.13, written as it is printed."""
    t = out = b""
    n = 1
    while len(out) < size:
        t = hmac.new(key, t + seed + bytes([n]), getattr(hashlib, digest)).digest()
        out, n = out + t, n + 1
    return out[:size]


@pytest.mark.parametrize(
    ("which", "expected"),
    [  # RFC 4231 4.3: key "Jefe"
        (Prf.HMAC_SHA1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),  # RFC 2202
        (Prf.HMAC_SHA2_256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            Prf.HMAC_SHA2_384,
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
        ),
        (
            Prf.HMAC_SHA2_512,
            (
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
            ),
        ),
    ],
)
def test_rfc4231_prf(which: Prf, expected: str) -> None:
    assert prf(which, b"Jefe", b"what do ya want for nothing?").hex() == expected
    assert len(expected) == 2 * which.size


def test_rfc7296_2_13_prf_plus() -> None:
    assert prf_plus(Prf.HMAC_SHA1, SKEYSEED, NI + NR + SPI_I + SPI_R, 132) == DKM
    assert prf_plus(Prf.HMAC_SHA1, DKM[:20], NI + NR, 132) == DKM_CHILD
    assert prf_plus(Prf.HMAC_SHA1, DKM[:20], GIR_NEW + NI + NR, 132) == DKM_CHILD_PFS


def test_rfc7296_2_14_ike_keys() -> None:
    """SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr, of NIST's 132 octets: 7 * 20 - 2 * 4."""
    keys = ike_keys(SHA1_SUITE, GIR, NI, NR, SPI_I, SPI_R)
    assert [keys.d, keys.ai, keys.ar, keys.ei, keys.er, keys.pi, keys.pr] == cut(DKM, 20, 20, 20, 16, 16, 20, 20)


def test_rfc7296_2_18_rekeyed_ike_keys() -> None:
    """SKEYSEED comes of the old SA's SK_d and PRF, the keys of the new SA's PRF."""
    suite = IkeSuite(Cipher.AES_GCM_256, Integrity.NONE, Prf.HMAC_SHA2_384, 31)
    keys = rekeyed_ike_keys(suite, Prf.HMAC_SHA1, DKM[:20], GIR_NEW, NI, NR, SPI_I, SPI_R)
    octets = slow_prf_plus("sha384", SKEYSEED_REKEY, NI + NR + SPI_I + SPI_R, 3 * 48 + 2 * 36)
    assert [keys.d, keys.ei, keys.er, keys.pi, keys.pr] == cut(octets, 48, 36, 36, 48, 48)
    assert (keys.ai, keys.ar) == (b"", b"")


@pytest.mark.parametrize(("shared", "octets"), [(b"", DKM_CHILD), (GIR_NEW, DKM_CHILD_PFS)])
def test_rfc7296_2_17_child_keys(shared: bytes, octets: bytes) -> None:
    """Initiator's encryption, its integrity, responder's encryption, its integrity."""
    suite = EspSuite(Cipher.AES_CBC_192, Integrity.HMAC_SHA2_256_128)
    keys = child_keys(Prf.HMAC_SHA1, DKM[:20], suite, NI, NR, shared)
    ei, ai, er, ar = cut(octets, 24, 32, 24, 32)
    assert (keys.initiator.encryption, keys.initiator.salt, keys.initiator.integrity) == (ei, b"", ai)
    assert (keys.responder.encryption, keys.responder.salt, keys.responder.integrity) == (er, b"", ar)


@pytest.mark.parametrize("cipher", [Cipher.AES_GCM_128, Cipher.AES_GCM_256, Cipher.CHACHA20_POLY1305])
def test_rfc4106_8_1_the_salt_ends_the_key(cipher: Cipher) -> None:
    keys = child_keys(Prf.HMAC_SHA1, DKM[:20], EspSuite(cipher, esn=True), NI, NR)
    ei, si, er, sr = cut(DKM_CHILD, cipher.key, 4, cipher.key, 4)
    assert (keys.initiator.encryption, keys.initiator.salt, keys.initiator.integrity) == (ei, si, b"")
    assert (keys.responder.encryption, keys.responder.salt, keys.responder.integrity) == (er, sr, b"")


def test_rfc7296_2_13_255_blocks_and_no_more() -> None:
    whole = prf_plus(Prf.HMAC_SHA2_256, b"k", b"s", 255 * 32)
    assert whole == slow_prf_plus("sha256", b"k", b"s", 255 * 32)
    with pytest.raises(KeyLengthError):
        prf_plus(Prf.HMAC_SHA2_256, b"k", b"s", 255 * 32 + 1)
    assert prf_plus(Prf.HMAC_SHA2_256, b"k", b"s", 0) == b""


@given(st.sampled_from(Prf), st.binary(max_size=70), st.binary(max_size=70), st.integers(0, 600))
def test_prf_plus_is_what_the_text_says(which: Prf, key: bytes, seed: bytes, size: int) -> None:
    made = prf_plus(which, key, seed, size)
    assert made == slow_prf_plus(which.digest, key, seed, size)
    assert made == prf_plus(which, key, seed, size + 40)[:size]


@given(
    st.sampled_from(Prf), st.sampled_from(Cipher), st.sampled_from(Integrity), st.binary(min_size=16, max_size=256),
    st.binary(min_size=16, max_size=256),
)  # fmt: skip
def test_key_lengths(which: Prf, cipher: Cipher, integrity: Integrity, ni: bytes, nr: bytes) -> None:
    keys = ike_keys(IkeSuite(cipher, integrity, which, 31), bytes(32), ni, nr, bytes(8), bytes(range(8)))
    assert [len(each) for each in (keys.d, keys.pi, keys.pr)] == [which.size] * 3
    assert len(keys.ei) == len(keys.er) == cipher.key + cipher.salt
    assert len(keys.ai) == len(keys.ar) == integrity.key
    assert keys.ei != keys.er


def test_keys_do_not_show_themselves() -> None:
    canary = b"canary-secret-octets"
    direction = DirectionKeys(canary, canary, canary)
    for keys in (IkeKeys(*[canary] * 7), direction, ChildKeys(direction, direction)):
        for text in (repr(keys), str(keys), f"{keys}"):
            assert "canary" not in text
            assert canary.hex() not in text
