"""The MPLS binding: the label extension, version 1. It is our own (vendor private, with an OUI that is configured): nobody has
published how another vendor writes labels in NHRP.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |C=0 0    type 8 (vendor)       |           length              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                    OUI                        | subtype = 1   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  version = 1  |     role      |         reserved = 0          |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  TLVs: type(2) length(2) value, unpadded; unknown ones are skipped

Not compulsory: a real transit drops a packet with an unknown compulsory extension. A real responder echoes every unknown
extension, so a reply whose binding has another role than REPLY says nothing about labels.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Any

from attrs import define, field

from nhrp.wire.bounds import MOST_CIES, MOST_LABELS, DoesNotFitError
from nhrp.wire.extensions import offset_of
from nhrp.wire.packet import Extension, ExtensionKind, Packet
from stack.addr import FIRST_UNRESERVED_LABEL, LAST_LABEL, ReservedLabel
from stack.values import value
from stack.wire import Reader, WireError

__all__ = [
    "Capability",
    "ContextLabel",
    "FecLabel",
    "MplsBinding",
    "NextHopLabel",
    "Role",
    "mpls_extension",
    "mpls_of",
]


class Role(IntEnum):
    """Of the packet that the binding was made for, which need not be the packet that it came in: responders echo."""

    INDICATION = 0
    REQUEST = 1
    REPLY = 2


class Capability(IntFlag):
    MPLS_IN_GRE = 1
    """Takes labelled packets in GRE (protocol 0x8847)."""


@value
class ContextLabel:
    """Which VRF: the one that `allocator` (a protocol address) gave `label` for."""

    label: int
    allocator: bytes


@value
class FecLabel:
    """What to push for the prefix of the CIE `index` of the mandatory part, outermost first."""

    index: int
    labels: tuple[int, ...]


@value
class NextHopLabel:
    """The label for the client protocol address of the CIE `index`; 3 is implicit null: push none."""

    index: int
    label: int = ReservedLabel.IMPLICIT_NULL


@value
class MplsBinding:
    """`vpn_id` (7 octets, RFC 2685) and `rd` (8) are for whoever reads a capture; empty: not said. `extent`: the prefix length
    of the route by which who sends an indication would send the packet on (0: not said)."""

    role: Role
    context: ContextLabel | None = None
    fec: tuple[FecLabel, ...] = ()
    next_hop: tuple[NextHopLabel, ...] = ()
    vpn_id: bytes = b""
    rd: bytes = b""
    capability: int = 0
    extent: int = 0

    def fec_of(self, index: int) -> tuple[int, ...] | None:
        """The stack for a CIE's prefix; None: not said."""
        return next((one.labels for one in self.fec if one.index == index), None)

    def next_hop_of(self, index: int) -> int | None:
        """The label for a CIE's client protocol address; None: not said."""
        return next((one.label for one in self.next_hop if one.index == index), None)


class _Tlv(IntEnum):
    CONTEXT_LABEL = 1
    FEC_LABEL = 2
    NEXTHOP_LABEL = 3
    VPN_ID = 4
    RD = 5
    CAPABILITY = 6
    EXTENT = 7


_RFC = "RFC 2332 5.3.5, MPLS binding 1"
_FIELD = "extension MPLS binding"
_SUBTYPE, _VERSION = 1, 1
_HEAD = Struct(">3sBBBH")
_TLV = Struct(">HH")
_BOTTOM = 0x100
_AFIS = {1: 4, 2: 16}
_AFI_OF = {4: 1, 16: 2}
_NULLS = frozenset({int(ReservedLabel.IPV4_EXPLICIT_NULL), int(ReservedLabel.IPV6_EXPLICIT_NULL)})


def mpls_of(packet: Packet, oui: bytes) -> MplsBinding | None:
    """What a packet says of labels; None: nothing that we know (no extension, another OUI or subtype, another version).

    The caller looks at the role: an echoed request in a reply says nothing. Raises WireError: a malformed one, or two of them.
    """
    found: MplsBinding | None = None
    for one in packet.extensions:
        if one.kind == ExtensionKind.VENDOR_PRIVATE and one.octets[:5] == b"%b%c%c" % (oui, _SUBTYPE, _VERSION):
            if found is not None:
                raise WireError("a second one", offset_of(one, packet), _FIELD, _RFC)
            found = _decode(one, packet)
    return found


def mpls_extension(binding: MplsBinding, oui: bytes) -> Extension:
    """Raises DoesNotFitError."""
    if len(oui) != 3:
        raise DoesNotFitError(f"an OUI of {len(oui)} octets")
    parts = [_HEAD.pack(oui, _SUBTYPE, _VERSION, binding.role, 0)]
    if binding.context is not None:
        allocator = binding.context.allocator
        afi = _AFI_OF.get(len(allocator))
        if afi is None:
            raise DoesNotFitError(f"an allocator of {len(allocator)} octets")
        parts.append(_tlv(_Tlv.CONTEXT_LABEL, _stack((binding.context.label,)) + afi.to_bytes(2) + allocator))
    parts += [_tlv(_Tlv.FEC_LABEL, _indexed(one.index, one.labels)) for one in binding.fec]
    parts += [_tlv(_Tlv.NEXTHOP_LABEL, _indexed(one.index, (one.label,))) for one in binding.next_hop]
    for kind, octets, size in ((_Tlv.VPN_ID, binding.vpn_id, 7), (_Tlv.RD, binding.rd, 8)):
        if octets:
            if len(octets) != size:
                raise DoesNotFitError(f"{kind.name} of {len(octets)} octets")
            parts.append(_tlv(kind, octets))
    if binding.capability:
        parts.append(_tlv(_Tlv.CAPABILITY, (binding.capability & 0xFFFFFFFF).to_bytes(4)))
    if binding.extent:
        if binding.extent not in range(129):
            raise DoesNotFitError(f"an extent of {binding.extent}")
        parts.append(_tlv(_Tlv.EXTENT, bytes((binding.extent,))))
    return Extension(ExtensionKind.VENDOR_PRIVATE, b"".join(parts), compulsory=False)


def _tlv(kind: _Tlv, octets: bytes) -> bytes:
    return _TLV.pack(kind, len(octets)) + octets


def _indexed(index: int, labels: tuple[int, ...]) -> bytes:
    if not (0 <= index < MOST_CIES and 0 < len(labels) <= MOST_LABELS):
        raise DoesNotFitError(f"{len(labels)} labels for CIE {index}")
    return bytes((index, len(labels), 0, 0)) + _stack(labels)


def _stack(labels: tuple[int, ...]) -> bytes:
    """Label stack entries, RFC 3032 2.1: TC and TTL are 0, S is set in the last."""
    if any(not 0 <= label <= LAST_LABEL for label in labels):
        raise DoesNotFitError(f"no label: {labels}")
    octets = b"".join([(label << 12).to_bytes(4) for label in labels])
    return octets[:-2] + bytes((octets[-2] | 1,)) + octets[-1:]


@define
class _Draft:
    """What has been read. `cies`: how many there are to speak of."""

    role: Role
    cies: int
    context: ContextLabel | None = None
    fec: dict[int, FecLabel] = field(factory=dict)
    next_hop: dict[int, NextHopLabel] = field(factory=dict)
    octets: dict[_Tlv, bytes] = field(factory=dict)


def _decode(extension: Extension, packet: Packet) -> MplsBinding:
    reader = Reader.of(extension.octets, _RFC)
    try:
        return _read(reader, len(packet.cies))
    except WireError as fault:
        offset = offset_of(extension, packet) + fault.offset
        raise WireError(fault.what, offset, f"{_FIELD} {fault.field}", fault.rfc) from None


def _read(reader: Reader, cies: int) -> MplsBinding:
    _, _, _, role, _ = reader.unpack(_HEAD, "header")
    if role > Role.REPLY:
        raise reader.fail(f"no role {role}", "role", back=3)
    draft = _Draft(Role(role), cies)
    while reader.left:
        kind, size = reader.unpack(_TLV, "TLV")
        with reader.restrict_to(size, "TLV length"):
            _TLVS.get(kind, _skip)(reader, draft)
    octets = draft.octets
    return MplsBinding(
        draft.role,
        draft.context,
        tuple(draft.fec.values()),
        tuple(draft.next_hop.values()),
        octets.get(_Tlv.VPN_ID, b""),
        octets.get(_Tlv.RD, b""),
        int.from_bytes(octets.get(_Tlv.CAPABILITY, b"")),
        int.from_bytes(octets.get(_Tlv.EXTENT, b"")),
    )


def _skip(reader: Reader, _draft: _Draft) -> None:
    reader.rest()


def _context(reader: Reader, draft: _Draft) -> None:
    if draft.context is not None:
        raise reader.fail("a second one", "CONTEXT-LABEL")
    (label,) = _labels(reader, 1, "CONTEXT-LABEL")
    if label < FIRST_UNRESERVED_LABEL:
        raise reader.fail(f"label {label} is nobody's", "CONTEXT-LABEL", back=4)
    afi = reader.uint(2, "CONTEXT-LABEL AFI")
    if afi not in _AFIS:
        raise reader.fail(f"no address family {afi} here", "CONTEXT-LABEL AFI", back=2)
    draft.context = ContextLabel(label, reader.take(_AFIS[afi], "CONTEXT-LABEL allocator"))


def _fec(reader: Reader, draft: _Draft) -> None:
    index, labels = _of_cie(reader, draft, draft.fec, "FEC-LABEL", MOST_LABELS)
    if any(label < FIRST_UNRESERVED_LABEL and label not in _NULLS for label in labels):
        raise reader.fail(f"no packet may have labels {labels}", "FEC-LABEL", back=4 * len(labels))
    draft.fec[index] = FecLabel(index, labels)


def _next_hop(reader: Reader, draft: _Draft) -> None:
    index, (label,) = _of_cie(reader, draft, draft.next_hop, "NEXTHOP-LABEL", 1)
    if label < FIRST_UNRESERVED_LABEL and label not in _NULLS and label != ReservedLabel.IMPLICIT_NULL:
        raise reader.fail(f"no packet may have label {label}", "NEXTHOP-LABEL", back=4)
    draft.next_hop[index] = NextHopLabel(index, label)


def _of_cie(reader: Reader, draft: _Draft, seen: dict[int, Any], name: str, most: int) -> tuple[int, tuple[int, ...]]:
    index = reader.uint(1, f"{name} CIE")
    if index >= draft.cies:
        raise reader.fail(f"there is no CIE {index}", f"{name} CIE", back=1)
    if index in seen:
        raise reader.fail(f"a second one of CIE {index}", f"{name} CIE", back=1)
    count = reader.uint(1, f"{name} count")
    if not 0 < count <= most:
        raise reader.fail(f"{count} labels: 1 to {most}", f"{name} count", back=1)
    reader.take(2, name)
    return index, _labels(reader, count, name)


def _labels(reader: Reader, count: int, name: str) -> tuple[int, ...]:
    entries = [reader.uint(4, f"{name} label stack entry") for _ in range(count)]
    for place, entry in enumerate(entries, 1):
        if bool(entry & _BOTTOM) != (place == count):
            raise reader.fail("the S bit is not on the last", f"{name} label stack entry", back=4 * (count - place + 1))
    return tuple([entry >> 12 for entry in entries])


def _fixed(kind: _Tlv, size: int) -> Callable[[Reader, _Draft], None]:
    def read(reader: Reader, draft: _Draft) -> None:
        if kind in draft.octets:
            raise reader.fail("a second one", kind.name)
        draft.octets[kind] = reader.take(size, kind.name)

    return read


_TLVS: dict[int, Callable[[Reader, _Draft], None]] = {
    _Tlv.CONTEXT_LABEL: _context,
    _Tlv.FEC_LABEL: _fec,
    _Tlv.NEXTHOP_LABEL: _next_hop,
    _Tlv.VPN_ID: _fixed(_Tlv.VPN_ID, 7),
    _Tlv.RD: _fixed(_Tlv.RD, 8),
    _Tlv.CAPABILITY: _fixed(_Tlv.CAPABILITY, 4),
    _Tlv.EXTENT: _fixed(_Tlv.EXTENT, 1),
}
