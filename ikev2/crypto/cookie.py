"""What is hashed before there are keys: NAT detection (RFC 7296 2.23) and cookies (2.6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from hmac import compare_digest
from hmac import digest as hmac_digest

from attrs import field, frozen

__all__ = ["CookieSecret", "cookie", "cookie_fits", "nat_hash"]


@frozen
class CookieSecret:
    """`version`: counts up as secrets change, 0 to 255 and round. `octets`: 32 of entropy."""

    version: int
    octets: bytes = field(repr=False)


def nat_hash(spi_i: bytes, spi_r: bytes, address: bytes, port: int) -> bytes:
    """Of NAT_DETECTION_*_IP: 20 octets. RFC 7296 2.23 names SHA-1; nothing rests on its strength."""
    return hashlib.sha1(spi_i + spi_r + address + port.to_bytes(2), usedforsecurity=False).digest()


def cookie(secret: CookieSecret, nonce: bytes, address: bytes, spi: bytes) -> bytes:
    """33 octets. `nonce`: of the initiator; `address`: where its message came from; `spi`: of the initiator, eight octets.

    RFC 7296 2.6: <VersionIDofSecret> | Hash(Ni | IPi | SPIi | <secret>), the hash an HMAC. The nonce stands last, as it alone
    has no fixed length.
    """
    inside = spi + bytes((len(address),)) + address + nonce
    return bytes((secret.version & 0xFF,)) + hmac_digest(secret.octets, inside, "sha256")


def cookie_fits(secrets: Iterable[CookieSecret], given: bytes, nonce: bytes, address: bytes, spi: bytes) -> bool:
    """Whether `given` is the cookie of one of `secrets` (the present one and the one before)."""
    return any(
        compare_digest(given, cookie(secret, nonce, address, spi))
        for secret in secrets
        if given[:1] == bytes((secret.version & 0xFF,))
    )
