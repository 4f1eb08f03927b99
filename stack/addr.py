"""The value types that every package shares: addresses, prefixes, route distinguishers, labels, FECs.

Nothing here does I/O or knows a protocol. Addresses are plain network-order octets (4 for IPv4, 16 for IPv6), so that
codecs slice them, tables hash them, and nobody converts on the way. Text is made and read here only.
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "DEFAULT_VRF",
    "FIRST_UNRESERVED_LABEL",
    "LAST_LABEL",
    "RD",
    "RT",
    "AddressError",
    "Afi",
    "Fec",
    "LabelStack",
    "NextHopFec",
    "Prefix",
    "PrefixFec",
    "ReservedLabel",
    "Safi",
    "SwapFec",
    "VrfFec",
    "format_address",
    "mapped_v4",
    "mask_length",
    "netmask",
    "parse_address",
    "unmap_v4",
]

DEFAULT_VRF = ""
"""The name of the global table. It prints as `default`; no VRF can be configured with an empty name."""

FIRST_UNRESERVED_LABEL, LAST_LABEL = 16, (1 << 20) - 1

LabelStack = tuple[int, ...]
"""Label values, top of stack first."""


class AddressError(ValueError):
    """Text that is no address, prefix, route distinguisher or route target. The message says what was expected."""


class Afi(IntEnum):
    """Address family numbers (IANA)."""

    IPV4 = 1
    IPV6 = 2


class Safi(IntEnum):
    """Subsequent address family identifiers (IANA)."""

    UNICAST = 1
    LABELLED = 4
    VPN = 128


class ReservedLabel(IntEnum):
    """Special-purpose labels, by name (RFC 3032 2.1, RFC 7274 3)."""

    IPV4_EXPLICIT_NULL = 0
    ROUTER_ALERT = 1
    IPV6_EXPLICIT_NULL = 2
    IMPLICIT_NULL = 3
    ENTROPY_INDICATOR = 7
    GAL = 13
    OAM_ALERT = 14
    EXTENSION = 15


_MAPPED = b"\0" * 10 + b"\xff\xff"


def parse_address(text: str) -> bytes:
    """`192.0.2.1` or `2001:db8::1` as 4 or 16 octets. Raises AddressError."""
    try:
        if "%" in text:  # a zone is no part of an address here
            raise ValueError
        return ipaddress.ip_address(text).packed
    except ValueError:
        raise AddressError(f"{text!r} is neither an IPv4 nor an IPv6 address") from None


def format_address(octets: bytes) -> str:
    """Text of 4 or 16 octets; anything else is shown as hex, since printing must not fail."""
    if len(octets) == 4:
        return "%d.%d.%d.%d" % tuple(octets)
    if len(octets) == 16:
        if octets.startswith(_MAPPED):
            return "::ffff:%d.%d.%d.%d" % tuple(octets[12:])
        return str(ipaddress.IPv6Address(octets))
    return octets.hex() or "-"


def mapped_v4(address: bytes) -> bytes:
    """`::ffff:a.b.c.d` for an IPv4 address (RFC 4291 2.5.5.2), as 6VPE next hops are sent (RFC 4659 3.2.1.2)."""
    return _MAPPED + address


def unmap_v4(address: bytes) -> bytes:
    """The IPv4 address inside `::ffff:a.b.c.d`; any other address as it came."""
    if len(address) == 16 and address.startswith(_MAPPED):
        return address[12:]
    return address


def netmask(length: int) -> str:
    """`24` as `255.255.255.0`."""
    return format_address(((0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF).to_bytes(4))


def mask_length(text: str) -> int:
    """`255.255.255.0` as `24`. Raises AddressError if the ones are not contiguous."""
    octets = parse_address(text)
    value = int.from_bytes(octets)
    length = value.bit_count()
    if len(octets) != 4 or value != (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF:
        raise AddressError(f"{text!r} is no netmask: its ones must be contiguous from the left")
    return length


def _is_number(text: str) -> bool:
    """Digits and nothing else (int() takes blanks, signs, underscores and other scripts' digits), and not endlessly many."""
    return text.isascii() and text.isdigit() and len(text) <= 10


_MASKS = {
    bits: tuple(((1 << bits) - (1 << (bits - n))).to_bytes(bits // 8) for n in range(bits + 1)) for bits in (32, 128)
}


class Prefix(NamedTuple):
    """A network and its length in bits. `network` is 4 or 16 octets whose host bits are zero."""

    network: bytes
    length: int

    @property
    def afi(self) -> Afi:
        return Afi.IPV4 if len(self.network) == 4 else Afi.IPV6

    @classmethod
    def of(cls, address: bytes, length: int) -> Prefix:
        """The prefix of `length` bits that `address` is in."""
        bits = len(address) * 8
        mask = _MASKS[bits][length]
        return cls((int.from_bytes(address) & int.from_bytes(mask)).to_bytes(bits // 8), length)

    @classmethod
    def host(cls, address: bytes) -> Prefix:
        return cls(address, len(address) * 8)

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """`192.0.2.0/24`; host bits are cleared. Raises AddressError."""
        network, slash, length = text.partition("/")
        address = parse_address(network)
        bits = len(address) * 8
        if not slash:
            return cls(address, bits)
        if not _is_number(length) or int(length) > bits:
            raise AddressError(f"{text!r}: the length after the slash must be 0 to {bits}")
        return cls.of(address, int(length))

    def covers(self, address: bytes) -> bool:
        """Whether `address` (of any family) is inside."""
        return len(address) == len(self.network) and Prefix.of(address, self.length).network == self.network

    def contains(self, other: Prefix) -> bool:
        """Whether `other` is this prefix or a more specific one."""
        return other.length >= self.length and self.covers(other.network)

    def __str__(self) -> str:
        return f"{format_address(self.network)}/{self.length}"


class _Community(bytes):
    """Eight octets: a type, an administrator and a number. Equal and hashed as the octets they are."""

    __slots__ = ()

    def __new__(cls, octets: bytes) -> _Community:
        if len(octets) != 8:
            raise AddressError(f"{len(octets)} octets, 8 wanted")
        return super().__new__(cls, octets)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def _administrator(text: str, what: str) -> tuple[int, bytes]:
    """`100:110`, `4200000000:1` or `192.0.2.1:7` as (format 0, 2 or 1, six octets)."""
    left, _, right = text.rpartition(":")
    try:
        if not _is_number(right):
            raise ValueError
        number = int(right)
        if left.count(".") == 3 and ":" not in left:
            return 1, parse_address(left) + number.to_bytes(2)
        if not _is_number(left):
            raise ValueError
        asn = int(left)
        if asn <= 0xFFFF:
            return 0, asn.to_bytes(2) + number.to_bytes(4)
        return 2, asn.to_bytes(4) + number.to_bytes(2)
    except (ValueError, OverflowError):
        raise AddressError(f"{text!r} is no {what}: ASN:NUMBER or A.B.C.D:NUMBER expected") from None


def _administrator_text(form: int, octets: bytes) -> str:
    if form == 0:
        return f"{int.from_bytes(octets[:2])}:{int.from_bytes(octets[2:])}"
    if form == 1:
        return f"{format_address(octets[:4])}:{int.from_bytes(octets[4:])}"
    return f"{int.from_bytes(octets[:4])}:{int.from_bytes(octets[4:])}"


class RD(_Community):
    """A route distinguisher (RFC 4364 4.2). Unknown types are kept, opaque."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> RD:
        form, octets = _administrator(text, "route distinguisher")
        return cls(form.to_bytes(2) + octets)

    def __str__(self) -> str:
        form = int.from_bytes(self[:2])
        return _administrator_text(form, self[2:]) if form <= 2 else f"0x{self.hex()}"


class RT(_Community):
    """A route target: a transitive extended community of sub-type 2 (RFC 4360 4, RFC 5668). Other octets print as hex."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> RT:
        form, octets = _administrator(text, "route target")
        return cls(bytes((form, 2)) + octets)

    def __str__(self) -> str:
        return _administrator_text(self[0], self[2:]) if self[0] <= 2 and self[1] == 2 else f"0x{self.hex()}"


class VrfFec(NamedTuple):
    """All routes of one address family in one VRF: pop, then look up there (label per VRF)."""

    vrf: str
    afi: Afi


class PrefixFec(NamedTuple):
    """One prefix of one VRF (label per prefix); in the default VRF, a transport FEC."""

    vrf: str
    prefix: Prefix


class NextHopFec(NamedTuple):
    """All routes of a VRF that leave by one next hop (label per next hop, CE)."""

    vrf: str
    interface: str
    address: bytes


class SwapFec(NamedTuple):
    """A VPN route re-advertised with ourselves as next hop: swap to `out_labels`, send to `next_hop`.

    `next_hop` is an id of the next-hop table. RFC 4364 10 (b), and the hub of MPLS over FlexVPN.
    """

    rd: RD
    prefix: Prefix
    next_hop: int
    out_labels: LabelStack


Fec = VrfFec | PrefixFec | NextHopFec | SwapFec
