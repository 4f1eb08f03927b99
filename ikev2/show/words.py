"""Words and columns that the commands share: algorithms as IOS prints them, times, ends, selectors."""

from __future__ import annotations

from datetime import UTC, datetime

from ikev2.engine.snapshot import ChildSnapshot, EspSnapshot
from stack.addr import DEFAULT_VRF, format_address
from stack.esp import Cipher, EspForm, Integrity, Selector

__all__ = [
    "cipher_words",
    "date",
    "end",
    "group_name",
    "hash_word",
    "mask_of",
    "plain_selector",
    "selector_text",
    "spi_text",
    "transform_text",
    "vrf_word",
]


def date(epoch: float) -> str:
    """`00:34:52 UTC Nov 20 2015`."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%H:%M:%S UTC %b %d %Y")


def end(address: bytes, port: int) -> str:
    return f"{format_address(address)}/{port}"


def vrf_word(vrf: str) -> str:
    return "none" if vrf == DEFAULT_VRF else vrf


# --- algorithms ---------------------------------------------------------------------------------------------------------


def cipher_words(name: str) -> tuple[str, int]:
    """`aes-gcm-256` -> (`AES-GCM`, 256); without a key size in its name, 256; nothing agreed yet: (`Unknown`, 0)."""
    if not name:
        return "Unknown", 0
    base, _, bits = name.rpartition("-")
    return (base.upper(), int(bits)) if bits.isdigit() else (name.upper(), 256)


def hash_word(name: str, *, none: str = "None") -> str:
    return name.upper() if name else none


_GROUPS = {
    14: "DH_GROUP_2048_MODP",
    15: "DH_GROUP_3072_MODP",
    16: "DH_GROUP_4096_MODP",
    19: "DH_GROUP_256_ECP",
    20: "DH_GROUP_384_ECP",
    21: "DH_GROUP_521_ECP",
    31: "DH_GROUP_25519",
}


def group_name(number: int) -> str:
    """`DH_GROUP_256_ECP/Group 19`."""
    return f"{_GROUPS.get(number, 'DH_GROUP')}/Group {number}"


_CIPHERS = {
    Cipher.AES_GCM_128: "esp-gcm",
    Cipher.AES_GCM_256: "esp-gcm 256",
    Cipher.CHACHA20_POLY1305: "esp-chacha20-poly1305",
    Cipher.AES_CBC_128: "esp-aes",
    Cipher.AES_CBC_192: "esp-192-aes",
    Cipher.AES_CBC_256: "esp-256-aes",
}
_INTEGRITIES = {
    Integrity.NONE: "",
    Integrity.HMAC_SHA1_96: "esp-sha-hmac",
    Integrity.HMAC_SHA2_256_128: "esp-sha256-hmac",
    Integrity.HMAC_SHA2_384_192: "esp-sha384-hmac",
    Integrity.HMAC_SHA2_512_256: "esp-sha512-hmac",
}


def transform_text(cipher: Cipher, integrity: Integrity) -> str:
    """`esp-256-aes esp-sha256-hmac`, as IOS shows it (not as it is written)."""
    return f"{_CIPHERS[cipher]} {_INTEGRITIES[integrity]}".rstrip()


def form_words(form: EspForm) -> tuple[str, int, str]:
    """Cipher, bits and HMAC of a CHILD_SA."""
    name, bits = cipher_words(form.cipher.text)
    digest = form.integrity.digest
    return name, bits, hash_word(digest)


# --- SPIs and selectors ---------------------------------------------------------------------------------------------------


def spi_text(spi: int) -> str:
    return f"0x{spi:08X}"


def selector_text(selector: Selector) -> str:
    """`192.0.2.1/0 - 192.0.2.1/65535`."""
    return f"{end(selector.first, selector.first_port)} - {end(selector.last, selector.last_port)}"


def mask_of(selector: Selector) -> str:
    """The mask that covers the range (all of it, if the range is no prefix)."""
    span = int.from_bytes(selector.first) ^ int.from_bytes(selector.last)
    bits = 8 * len(selector.first)
    whole = (1 << bits) - (1 << span.bit_length())
    return format_address(whole.to_bytes(len(selector.first)))


def plain_selector(selector: Selector) -> dict[str, object]:
    return {
        "first-address": format_address(selector.first),
        "last-address": format_address(selector.last),
        "protocol": selector.protocol,
        "first-port": selector.first_port,
        "last-port": selector.last_port,
    }


def either(child: ChildSnapshot) -> EspSnapshot | None:
    """One of its directions, for what both have in common."""
    return child.outbound or child.inbound
