"""The Encrypted payload's body (RFC 7296 3.14, RFC 5282): IV, ciphertext, integrity checksum.

A `Sealer` has the keys of one direction of one IKE SA. `aad` is the message from its first octet up to and with the generic
header of the SK or SKF payload (and, of SKF, its fragment numbers), with all lengths already final: AEADs authenticate it, and
HMAC covers it as it covers what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from hmac import digest as hmac_digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from ikev2.crypto.keys import IkeKeys
from ikev2.crypto.suites import IkeSuite
from stack.esp import Cipher, Integrity

__all__ = ["SealError", "Sealer", "overhead", "sealers"]

_LAST_IV = 2**64 - 1


class SealError(Exception):
    """A body that is not what its sender sealed, or a key that is used up. It does not say which check failed: a peer that
    could learn it would have an oracle."""

    def __str__(self) -> str:
        return "the sealed body was refused"


class Sealer:
    """`seal` for the direction that we send in, `open` for the other one. Keeps the counter of an AEAD's IVs."""

    __slots__ = ("_aead", "_aes", "_count", "_entropy", "_integrity", "_integrity_key", "_salt", "cipher")

    def __init__(
        self,
        cipher: Cipher,
        integrity: Integrity,
        key: bytes,
        integrity_key: bytes,
        entropy: Callable[[int], bytes],
    ) -> None:
        """`key`: SK_e, with the salt at its end for an AEAD. `integrity_key`: SK_a. Raises ValueError if lengths do not fit."""
        if len(key) != cipher.key + cipher.salt or len(integrity_key) != integrity.key:
            raise ValueError("key lengths do not fit the algorithms")
        if cipher.aead != (integrity is Integrity.NONE):
            raise ValueError("encryption goes with integrity, an AEAD without")
        self.cipher = cipher
        self._integrity, self._integrity_key = integrity, integrity_key
        self._entropy = entropy
        self._count = 0
        secret, self._salt = key[: cipher.key], key[cipher.key :]
        self._aead: AESGCM | ChaCha20Poly1305 | None = None
        self._aes: AES | None = None
        if not cipher.aead:
            self._aes = AES(secret)
        elif cipher is Cipher.CHACHA20_POLY1305:
            self._aead = ChaCha20Poly1305(secret)
        else:
            self._aead = AESGCM(secret)

    def overhead(self, size: int) -> int:
        """Octets of the body that `size` octets of payloads are sealed into: exact, and more than `size`."""
        return overhead(self.cipher, self._integrity, size)

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """`plaintext`: the payloads inside. Raises SealError when an AEAD has no IV left, after 2^64 messages."""
        aead = self._aead
        if aead is not None:
            # RFC 5282 3.1: the IV never repeats under a key; a counter is the simplest such thing. RFC 5282 3 wants no padding,
            # only its length.
            if self._count >= _LAST_IV:
                raise SealError
            self._count += 1
            iv = self._count.to_bytes(8)
            return iv + aead.encrypt(self._salt + iv, plaintext + b"\0", aad)
        assert self._aes is not None
        iv = self._entropy(16)  # RFC 3602 3: unpredictable
        pad = -(len(plaintext) + 1) % 16
        encryptor = BlockCipher(self._aes, CBC(iv)).encryptor()
        body = iv + encryptor.update(plaintext + bytes(pad) + bytes((pad,)))
        return body + self._icv(aad + body)

    def open(self, aad: bytes, octets: bytes) -> bytes:
        """The payloads inside `octets`. Raises SealError, and nothing else, whatever the octets are."""
        aead = self._aead
        if aead is not None:
            try:
                plain = aead.decrypt(self._salt + octets[:8], octets[8:], aad)
            except (InvalidTag, ValueError, OverflowError):
                raise SealError from None
        else:
            plain = self._open_cbc(aad, octets)
        # RFC 7296 3.14: any content of the padding is taken, at any length.
        end = len(plain) - 1 - plain[-1] if plain else -1
        if end < 0:
            raise SealError
        return plain[:end]

    def _open_cbc(self, aad: bytes, octets: bytes) -> bytes:
        assert self._aes is not None
        end = len(octets) - self._integrity.icv
        if end < 32:
            raise SealError
        # The checksum comes before anything else: what is not the peer's is not decrypted, so its padding tells nothing.
        if not compare_digest(octets[end:], self._icv(aad + octets[:end])) or end % 16:
            raise SealError
        decryptor = BlockCipher(self._aes, CBC(octets[:16])).decryptor()
        return decryptor.update(octets[16:end])

    def _icv(self, octets: bytes) -> bytes:
        integrity = self._integrity
        return hmac_digest(self._integrity_key, octets, integrity.digest)[: integrity.icv]


def overhead(cipher: Cipher, integrity: Integrity, size: int) -> int:
    """The length of a sealed body around `size` octets of payloads: IV, padding, its length and checksum with them."""
    inside = size + 1
    if not cipher.aead:
        inside += -inside % 16
    return cipher.iv + inside + (cipher.icv or integrity.icv)


def sealers(suite: IkeSuite, keys: IkeKeys, entropy: Callable[[int], bytes]) -> tuple[Sealer, Sealer]:
    """(what the original initiator seals with, what the original responder does)."""
    return (
        Sealer(suite.cipher, suite.integrity, keys.ei, keys.ai, entropy),
        Sealer(suite.cipher, suite.integrity, keys.er, keys.ar, entropy),
    )
