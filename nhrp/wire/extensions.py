"""What extensions hold: RFC 2332 5.3, Cisco's cleartext password and NAT addresses, RFC 2735's device capabilities."""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct

from nhrp.wire.bounds import DoesNotFitError
from nhrp.wire.codec import decode_cies, encode_cies, extensions_offset
from nhrp.wire.packet import Cie, Extension, ExtensionKind, Packet
from stack.wire import WireError

__all__ = [
    "PASSWORD_LIMIT",
    "DeviceCapabilities",
    "authentication",
    "capabilities_of",
    "cie_extension",
    "cies_of",
    "is_authentic",
    "nat_addresses_of",
    "offset_of",
    "password_of",
]

PASSWORD_LIMIT = 8
"""Octets of Cisco's password."""

_CLEARTEXT = b"\0\0\0\1"
"""Reserved, and SPI 1: the password stands there as it is."""
_CAPABILITIES = Struct(">II")
_NOT_COMPULSORY = (ExtensionKind.NAT_ADDRESS, ExtensionKind.VENDOR_PRIVATE)

DeviceCapabilities = tuple[int, int]
"""RFC 2735: of the source and of the target, 32 bits each; bit 0 is V (knows VPNs)."""


def offset_of(extension: Extension, packet: Packet) -> int:
    """Where the value of an extension of `packet` stands in it (its end, if it is none of it)."""
    at = extensions_offset(packet)
    for one in packet.extensions:
        if one is extension:
            return at + 4
        at += 4 + len(one.octets)
    return at


# --- authentication (RFC 2332 5.3.4) ----------------------------------------------------------------------------------


def password_of(extension: Extension, source: bytes = b"") -> bytes:
    """The cleartext password. `source`: the packet's source protocol address, which stands before it in the RFC's form, and
    not in Cisco's. Who compares wants `is_authentic`, which is never wrong about which form it is.

    Raises WireError, field `authentication`: too short, or an SPI that is no cleartext (offset in the extension's value).
    """
    octets = extension.octets
    if len(octets) < 4:
        raise WireError(f"4 octets wanted, {len(octets)} came", 0, "authentication", "RFC 2332 5.3.4.1")
    if octets[2:4] != _CLEARTEXT[2:]:
        raise WireError(
            f"SPI {int.from_bytes(octets[2:4])} is not known here", 2, "authentication SPI", "RFC 2332 5.3.4.1"
        )
    data = octets[4:]
    return data[len(source) :] if source and len(data) > len(source) and data.startswith(source) else data


def is_authentic(extension: Extension | None, password: bytes, source: bytes) -> bool:
    """Whether a packet from `source` (protocol address) with that extension shows the password, in Cisco's form or the RFC's;
    it takes as long whatever is shown. No extension, an empty password, any other form: no."""
    if extension is None or not password or extension.octets[2:4] != _CLEARTEXT[2:]:
        return False
    shown = extension.octets[4:]
    cisco, rfc = compare_digest(shown, password), compare_digest(shown, source + password)
    return cisco or rfc


def authentication(password: bytes) -> Extension:
    """Cisco's form: SPI 1, the password, no padding, no source address."""
    if not 0 < len(password) <= PASSWORD_LIMIT:
        raise DoesNotFitError(f"a password of {len(password)} octets: 1 to {PASSWORD_LIMIT}")
    return Extension(ExtensionKind.AUTHENTICATION, _CLEARTEXT + password)


# --- lists of CIEs -----------------------------------------------------------------------------------------------------


def cies_of(extension: Extension, packet: Packet) -> tuple[Cie, ...]:
    """What a responder address, transit record or NAT address extension of `packet` lists; the packet says what lengths
    addresses have. Raises WireError."""
    octets = extension.octets
    if not octets:
        return ()
    base = offset_of(extension, packet)
    if extension.kind == ExtensionKind.NAT_ADDRESS and len(octets) == _CAPABILITIES.size:
        raise WireError("these are device capabilities", base, "extension CIE", "RFC 2735 3.2")
    return decode_cies(octets, len(packet.source_nbma), len(packet.source), base)


def cie_extension(kind: int, cies: tuple[Cie, ...] = (), *, compulsory: bool | None = None) -> Extension:
    """`compulsory` None: as everybody sends that kind. Raises DoesNotFitError."""
    if compulsory is None:
        compulsory = kind not in _NOT_COMPULSORY
    return Extension(kind, encode_cies(cies) if cies else b"", compulsory)


def capabilities_of(extension: Extension) -> DeviceCapabilities | None:
    """RFC 2735 gave type 9 to device capabilities, and Cisco to NAT addresses: 8 octets are no list of CIEs."""
    if extension.kind != ExtensionKind.NAT_ADDRESS or len(extension.octets) != _CAPABILITIES.size:
        return None
    source, target = _CAPABILITIES.unpack(extension.octets)
    return source, target


def nat_addresses_of(packet: Packet) -> tuple[Cie, ...] | None:
    """What Cisco's NAT address extension lists; None: there is none (device capabilities are none). Raises WireError."""
    for one in packet.extensions:
        if one.kind == ExtensionKind.NAT_ADDRESS and len(one.octets) != _CAPABILITIES.size:
            return cies_of(one, packet)
    return None
