"""From a shared secret to keys: prf, prf+, SKEYSEED, SK_* and KEYMAT (RFC 7296 2.13, 2.14, 2.17, 2.18).

`Prf.digest` names the hash; octets in, octets out. The values that hold keys have no repr of their own.
"""

from __future__ import annotations

from hmac import digest as hmac_digest

from ikev2.crypto.suites import EspSuite, IkeSuite, Prf
from stack.values import value

__all__ = [
    "ChildKeys",
    "DirectionKeys",
    "IkeKeys",
    "KeyLengthError",
    "child_keys",
    "ike_keys",
    "prf",
    "prf_plus",
    "rekeyed_ike_keys",
]

_COUNTERS = tuple(bytes((n,)) for n in range(256))


class KeyLengthError(Exception):
    """More octets asked of prf+ than it has."""

    def __str__(self) -> str:
        return "prf+ ends after 255 blocks (RFC 7296 2.13)"


@value(repr=False)
class IkeKeys:
    """SK_* of RFC 7296 2.14. `ei` and `er` end in the salt of an AEAD (RFC 5282 7.1); `ai` and `ar` are empty with one."""

    d: bytes
    ai: bytes
    ar: bytes
    ei: bytes
    er: bytes
    pi: bytes
    pr: bytes


@value(repr=False)
class DirectionKeys:
    """Of one direction of a CHILD_SA, as `stack.tables.sad.Sa` takes them."""

    encryption: bytes
    salt: bytes
    integrity: bytes


@value(repr=False)
class ChildKeys:
    """`initiator`: of what the initiator of the exchange that made this CHILD_SA sends; `responder`: of the other direction."""

    initiator: DirectionKeys
    responder: DirectionKeys


def prf(which: Prf, key: bytes, octets: bytes) -> bytes:
    return hmac_digest(key, octets, which.digest)


def prf_plus(which: Prf, key: bytes, seed: bytes, size: int) -> bytes:
    """`size` octets of T1 | T2 | ... Raises KeyLengthError."""
    blocks = -(-size // which.size)
    if blocks > 255:
        raise KeyLengthError
    digest = which.digest
    block, out = b"", []
    for counter in _COUNTERS[1 : blocks + 1]:
        block = hmac_digest(key, block + seed + counter, digest)
        out.append(block)
    return b"".join(out)[:size]


def ike_keys(suite: IkeSuite, shared: bytes, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes) -> IkeKeys:
    """Of a new IKE SA. `shared`: of `DhKey.shared`. The SPIs are the IKE SA's, eight octets each."""
    nonces = nonce_i + nonce_r
    # RFC 7296 2.14 cuts the nonces for prfs whose keys have a fixed length; HMAC's have none (2.13).
    return _cut(suite, hmac_digest(nonces, shared, suite.prf.digest), nonces + spi_i + spi_r)


def rekeyed_ike_keys(
    suite: IkeSuite,
    old_prf: Prf,
    old_d: bytes,
    shared: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    spi_i: bytes,
    spi_r: bytes,
) -> IkeKeys:
    """Of an IKE SA that replaces one whose PRF was `old_prf` and whose SK_d is `old_d`. Nonces and SPIs are those of the new
    one, its initiator's first."""
    nonces = nonce_i + nonce_r
    # RFC 7296 2.18: "it is the old IKE SA's PRF that is used to generate SKEYSEED".
    return _cut(suite, hmac_digest(old_d, shared + nonces, old_prf.digest), nonces + spi_i + spi_r)


def _cut(suite: IkeSuite, seed: bytes, rest: bytes) -> IkeKeys:
    which, cipher = suite.prf, suite.cipher
    size, integrity, encryption = which.size, suite.integrity.key, cipher.key + cipher.salt
    octets = prf_plus(which, seed, rest, 3 * size + 2 * (integrity + encryption))
    keys, at = [], 0
    for length in (size, integrity, integrity, encryption, encryption, size, size):
        keys.append(octets[at : at + length])
        at += length
    return IkeKeys(*keys)


def child_keys(
    which: Prf, sk_d: bytes, suite: EspSuite, nonce_i: bytes, nonce_r: bytes, shared: bytes = b""
) -> ChildKeys:
    """KEYMAT of a CHILD_SA. Nonces: of the exchange that made it (of IKE_SA_INIT for the first one), its initiator's first.
    `shared`: of that exchange's own Diffie-Hellman, if it had one."""
    cipher = suite.cipher
    key, salt, integrity = cipher.key, cipher.salt, suite.integrity.key
    size = key + salt + integrity
    octets = prf_plus(which, sk_d, shared + nonce_i + nonce_r, 2 * size)
    # RFC 7296 2.17: all of the initiator's direction before the responder's, encryption before integrity. RFC 4106 8.1 and
    # RFC 7634 2: the salt is the end of the encryption key.
    return ChildKeys(
        *(
            DirectionKeys(
                octets[at : at + key], octets[at + key : at + key + salt], octets[at + key + salt : at + size]
            )
            for at in (0, size)
        )
    )
