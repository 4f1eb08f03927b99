"""What an ESP security association is made of, in the terms of RFC 4303: pure values that ikev2 and the packet path share."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from attrs import frozen

__all__ = ["Cipher", "EspForm", "EspMode", "Integrity", "Selector"]


class Cipher(Enum):
    """(name, key octets without salt, salt octets, IV octets on the wire, ICV octets of its own (0: not an AEAD), block)."""

    AES_GCM_128 = ("aes-gcm-128", 16, 4, 8, 16, 4)
    AES_GCM_256 = ("aes-gcm-256", 32, 4, 8, 16, 4)
    CHACHA20_POLY1305 = ("chacha20-poly1305", 32, 4, 8, 16, 4)
    AES_CBC_128 = ("aes-cbc-128", 16, 0, 16, 0, 16)
    AES_CBC_192 = ("aes-cbc-192", 24, 0, 16, 0, 16)
    AES_CBC_256 = ("aes-cbc-256", 32, 0, 16, 0, 16)

    def __init__(self, text: str, key: int, salt: int, iv: int, icv: int, block: int) -> None:
        self.text, self.key, self.salt, self.iv, self.icv, self.block = text, key, salt, iv, icv, block

    @property
    def aead(self) -> bool:
        return self.icv > 0


class Integrity(Enum):
    """(name, key octets, ICV octets, hash name)."""

    NONE = ("none", 0, 0, "")
    HMAC_SHA1_96 = ("hmac-sha1-96", 20, 12, "sha1")
    HMAC_SHA2_256_128 = ("hmac-sha256-128", 32, 16, "sha256")
    HMAC_SHA2_384_192 = ("hmac-sha384-192", 48, 24, "sha384")
    HMAC_SHA2_512_256 = ("hmac-sha512-256", 64, 32, "sha512")

    def __init__(self, text: str, key: int, icv: int, digest: str) -> None:
        self.text, self.key, self.icv, self.digest = text, key, icv, digest


class EspMode(Enum):
    TRANSPORT = "transport"
    TUNNEL = "tunnel"


@frozen
class EspForm:
    """The shape of an SA's packets: what decides how many octets ESP adds."""

    cipher: Cipher
    integrity: Integrity = Integrity.NONE
    mode: EspMode = EspMode.TRANSPORT
    udp: bool = False
    """In UDP (RFC 3948)."""

    @property
    def icv(self) -> int:
        return self.cipher.icv or self.integrity.icv

    def room(self, mtu: int) -> int:
        """The largest payload in an IPv4 packet of `mtu` octets: what follows the IPv4 header of a packet that transport
        mode protects, a whole inner packet in tunnel mode."""
        free = mtu - 20 - (8 if self.udp else 0) - 8 - self.cipher.iv - self.icv
        return free - free % self.cipher.block - 2


class Selector(NamedTuple):
    """A traffic selector (RFC 7296 3.13.1): a range of addresses (4 or 16 octets each), of ports, and a protocol (0: any)."""

    first: bytes
    last: bytes
    protocol: int = 0
    first_port: int = 0
    last_port: int = 65535

    def covers(self, address: bytes, protocol: int) -> bool:
        """Whether a packet of `protocol` at `address` is inside, ports aside."""
        return len(address) == len(self.first) and self.first <= address <= self.last and self.protocol in (0, protocol)
