"""The Security Association payload: proposals, their transforms, and the transforms' attributes (RFC 7296 3.3)."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, pack

from ikev2.wire.bounds import (
    MOST_PARTS,
    MOST_PROPOSALS,
    MOST_TRANSFORM_ATTRIBUTES,
    MOST_TRANSFORMS,
    DoesNotFitError,
    PayloadReader,
)
from ikev2.wire.numbers import ProtocolId
from ikev2.wire.payloads import Proposal, SecurityAssociation, Transform

__all__ = ["decode_sa", "encode_sa"]

_PROPOSAL = Struct(">BxHBBBB")
_TRANSFORM = Struct(">BxHBxH")
_MORE_PROPOSALS, _MORE_TRANSFORMS = 2, 3
_SHORT_FORM = 0x8000
"""The AF bit: the attribute is two octets, where otherwise its length stands."""
_KEY_LENGTH = 14 | _SHORT_FORM
_SPI_SIZES: dict[int, tuple[int, ...]] = {ProtocolId.IKE: (0, 8), ProtocolId.AH: (4,), ProtocolId.ESP: (4,)}
"""3.3.1: IKE's is there only when an IKE SA is rekeyed. Of an unknown protocol any size is taken."""


def decode_sa(reader: PayloadReader) -> SecurityAssociation:
    proposals: list[Proposal] = []
    more = True
    while more:
        if len(proposals) == MOST_PROPOSALS:
            raise reader.fail(f"more than {MOST_PROPOSALS} proposals", "proposal")
        reader.part("proposal")
        proposal, more = _decode_proposal(reader)
        proposals.append(proposal)
    return SecurityAssociation(tuple(proposals))


#                      1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# | Last Substruc |   RESERVED    |         Proposal Length       |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# | Proposal Num  |  Protocol ID  |    SPI Size   |Num  Transforms|
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                        SPI (variable)                         ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                        <Transforms>                           ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode_proposal(reader: PayloadReader) -> tuple[Proposal, bool]:
    start, outer = reader.offset, reader.end
    if reader.left < _PROPOSAL.size:
        raise reader.fail(f"{reader.left} octets left", "proposal")
    last, length, number, protocol, spi_size, count = _PROPOSAL.unpack_from(reader.octets, start)
    if not _PROPOSAL.size <= length <= reader.left:
        raise reader.fail(f"length {length}, {reader.left} left", "proposal length")
    if last not in (0, _MORE_PROPOSALS):
        raise reader.fail(f"{last}, 0 or 2 wanted", "last substructure of proposal")
    if spi_size not in _SPI_SIZES.get(protocol, (spi_size,)):
        raise reader.fail(f"SPI of {spi_size} octets for protocol {protocol}", "SPI size")
    if count > MOST_TRANSFORMS:
        raise reader.fail(f"{count} transforms, at most {MOST_TRANSFORMS} are taken", "transforms")
    reader.offset, reader.end = start + _PROPOSAL.size, start + length
    spi = reader.take(spi_size, "SPI")
    transforms = _decode_transforms(reader, count)
    reader.end = outer
    if not last and reader.left:
        raise reader.fail(f"{reader.left} octets after the last proposal", "proposal")
    return Proposal(number, protocol, spi, transforms), last == _MORE_PROPOSALS


REMEMBERED, MOST_REMEMBERED = 64, 256
"""Lists of transforms that are remembered, and the octets of one: peers of one configuration send the same."""
_known: dict[tuple[int, bytes], tuple[tuple[Transform, ...], int]] = {}


def _decode_transforms(reader: PayloadReader, count: int) -> tuple[Transform, ...]:
    """All that is left of the proposal."""
    start, length = reader.offset, reader.end - reader.offset
    key = (count, bytes(reader.octets[start : reader.end])) if length <= MOST_REMEMBERED else None
    if key is not None and (known := _known.get(key)) is not None:
        # They count as if they had been read.
        transforms, parts = known
        if reader.parts + parts <= MOST_PARTS:
            reader.parts += parts
            reader.offset = reader.end
            return transforms
    before = reader.parts
    transforms = tuple([_decode_transform(reader, last=left == 1) for left in range(count, 0, -1)])
    if reader.left:
        raise reader.fail(f"{reader.left} octets too many", "proposal")
    if key is not None:
        if len(_known) >= REMEMBERED:
            del _known[next(iter(_known))]
        _known[key] = transforms, reader.parts - before
    return transforms


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# | Last Substruc |   RESERVED    |        Transform Length       |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |Transform Type |   RESERVED    |          Transform ID         |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                      Transform Attributes                     ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode_transform(reader: PayloadReader, *, last: bool) -> Transform:
    reader.part("transform")
    start = reader.offset
    if reader.left < _TRANSFORM.size:
        raise reader.fail(f"{reader.left} octets left", "transform")
    substructure, length, kind, number = _TRANSFORM.unpack_from(reader.octets, start)
    if not _TRANSFORM.size <= length <= reader.left:
        raise reader.fail(f"length {length}, {reader.left} left", "transform length")
    if substructure != (0 if last else _MORE_TRANSFORMS):
        raise reader.fail(
            f"{substructure}, which the number of transforms contradicts", "last substructure of transform"
        )
    reader.offset = start + _TRANSFORM.size
    if length == _TRANSFORM.size:
        return Transform(kind, number)
    return _decode_attributes(reader, start + length, kind, number)


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |A|       Attribute Type        |    AF=0  Attribute Length     |
# |F|                             |    AF=1  Attribute Value      |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~            AF=0  Attribute Value, AF=1  not transmitted       ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode_attributes(reader: PayloadReader, end: int, kind: int, number: int) -> Transform:
    outer, reader.end = reader.end, end
    key_length, others, count = 0, [], 0
    while reader.left:
        if count == MOST_TRANSFORM_ATTRIBUTES:
            raise reader.fail(f"more than {MOST_TRANSFORM_ATTRIBUTES} attributes", "transform attribute")
        count += 1
        reader.part("transform attribute")
        attribute = reader.uint(2, "transform attribute")
        if attribute & _SHORT_FORM:
            value = reader.take(2, "transform attribute")
        else:
            value = reader.take(reader.uint(2, "transform attribute length"), "transform attribute")
        if attribute == _KEY_LENGTH and not key_length and value != b"\0\0":
            key_length = int.from_bytes(value)
        else:  # also a second key length, or none: nothing that we offer equals it
            others.append((attribute, value))
    reader.end = outer
    return Transform(kind, number, key_length, tuple(others))


def encode_sa(payload: SecurityAssociation) -> bytes:
    proposals = payload.proposals
    if not 0 < len(proposals) <= MOST_PROPOSALS:
        raise DoesNotFitError(f"{len(proposals)} proposals, 1 to {MOST_PROPOSALS} are sent")
    last = len(proposals) - 1
    return b"".join([_encode_proposal(proposal, last=at == last) for at, proposal in enumerate(proposals)])


def _encode_proposal(proposal: Proposal, *, last: bool) -> bytes:
    count = len(proposal.transforms)
    if count > MOST_TRANSFORMS:
        raise DoesNotFitError(f"{count} transforms, at most {MOST_TRANSFORMS} are sent")
    size = len(proposal.spi)
    if size not in _SPI_SIZES.get(proposal.protocol, (size,)):
        raise DoesNotFitError(f"an SPI of {size} octets for protocol {proposal.protocol}")
    body = _encode_transforms(proposal.transforms)
    length = _PROPOSAL.size + size + len(body)
    head = _PROPOSAL.pack(0 if last else _MORE_PROPOSALS, length, proposal.number, proposal.protocol, size, count)
    return head + proposal.spi + body


@lru_cache(maxsize=REMEMBERED)
def _encode_transforms(transforms: tuple[Transform, ...]) -> bytes:
    last = len(transforms) - 1
    return b"".join([_encode_transform(each, last=at == last) for at, each in enumerate(transforms)])


def _encode_transform(transform: Transform, *, last: bool) -> bytes:
    attributes = pack(">HH", _KEY_LENGTH, transform.key_length) if transform.key_length else b""
    for kind, value in transform.others:
        if kind & _SHORT_FORM:
            if len(value) != 2:
                raise DoesNotFitError(f"{len(value)} octets in a transform attribute of two")
            attributes += pack(">H", kind) + value
        else:
            attributes += pack(">HH", kind, len(value)) + value
    length = _TRANSFORM.size + len(attributes)
    return _TRANSFORM.pack(0 if last else _MORE_TRANSFORMS, length, transform.kind, transform.number) + attributes
