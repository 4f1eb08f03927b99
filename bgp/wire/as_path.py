"""AS paths: the value, and its octets in either AS number size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

__all__ = ["AS_TRANS", "AsPath", "Segment", "SegmentKind", "read_as_path", "write_as_path"]

AS_TRANS = 23456
"""What stands for an AS number that does not fit in two octets (RFC 6793 9)."""


class SegmentKind(IntEnum):
    """AS_PATH segment types (RFC 4271 4.3 b, RFC 5065 3)."""

    SET = 1
    SEQUENCE = 2
    CONFED_SEQUENCE = 3
    CONFED_SET = 4


class Segment(NamedTuple):
    """1 to 255 AS numbers of 32 bits."""

    kind: SegmentKind
    asns: tuple[int, ...]


_BRACKETS = {
    SegmentKind.SET: "{%s}",
    SegmentKind.SEQUENCE: "%s",
    SegmentKind.CONFED_SEQUENCE: "(%s)",
    SegmentKind.CONFED_SET: "[%s]",
}


class AsPath(NamedTuple):
    """An AS path, nearest AS first."""

    segments: tuple[Segment, ...] = ()

    @classmethod
    def of(cls, *asns: int) -> AsPath:
        """One sequence of `asns` (cut in segments of 255); none: the empty path."""
        cuts = range(0, len(asns), 255)
        return cls(tuple(Segment(SegmentKind.SEQUENCE, asns[at : at + 255]) for at in cuts))

    @property
    def asns(self) -> Iterator[int]:
        """Every AS number in it, sets and confederation segments included."""
        return (asn for segment in self.segments for asn in segment.asns)

    @property
    def hops(self) -> int:
        """The length that the decision process counts: a set is 1, confederation segments 0 (RFC 4271 9.1.2.2 a)."""
        return sum(_hops(segment) for segment in self.segments)

    @property
    def first(self) -> int | None:
        """The neighbouring AS: the first of a leading sequence, confederation segments skipped."""
        for segment in self.segments:
            if segment.kind == SegmentKind.SEQUENCE:
                return segment.asns[0]
            if segment.kind == SegmentKind.SET:
                return None
        return None

    @property
    def has_sets(self) -> bool:
        """Whether there is an AS_SET or AS_CONFED_SET, which RFC 9774 deprecates."""
        return any(segment.kind in (SegmentKind.SET, SegmentKind.CONFED_SET) for segment in self.segments)

    def count(self, asn: object) -> int:
        """How often `asn` is in it (loop detection, RFC 4271 9.1.2, with allowas-in)."""
        return sum(segment.asns.count(asn) for segment in self.segments)

    def prepend(self, asn: int, times: int = 1) -> AsPath:
        """RFC 4271 5.1.2 (b): into the leading sequence, or a new one if that is full or there is none."""
        more = (asn,) * times
        if self.segments and self.segments[0].kind == SegmentKind.SEQUENCE:
            more, rest = more + self.segments[0].asns, self.segments[1:]
        else:
            rest = self.segments
        spill = len(more) % 255  # so that only the leading segment is short
        cuts = ([more[:spill]] if spill else []) + [more[at : at + 255] for at in range(spill, len(more), 255)]
        return AsPath(tuple(Segment(SegmentKind.SEQUENCE, cut) for cut in cuts) + rest)

    def replace(self, asn: int, new: int) -> AsPath:
        """Every `asn` as `new` (as-override)."""
        return AsPath(
            tuple(Segment(s.kind, tuple(new if one == asn else one for one in s.asns)) for s in self.segments)
        )

    def __str__(self) -> str:
        return " ".join(_BRACKETS[segment.kind] % " ".join(map(str, segment.asns)) for segment in self.segments)


def _hops(segment: Segment) -> int:
    if segment.kind == SegmentKind.SEQUENCE:
        return len(segment.asns)
    return 1 if segment.kind == SegmentKind.SET else 0


def read_as_path(octets: bytes, size: int = 4) -> AsPath:
    """The path in `octets` that were checked before; `size` octets an AS number."""
    segments, at = [], 0
    while at < len(octets):
        count = octets[at + 1]
        after = at + 2 + count * size
        asns = struct.unpack_from(f">{count}{'I' if size == 4 else 'H'}", octets, at + 2)
        segments.append(Segment(SegmentKind(octets[at]), asns))
        at = after
    return AsPath(tuple(segments))


def write_as_path(path: AsPath, size: int = 4) -> bytes:
    """The octets of `path`. With two octets an AS number, those that do not fit become AS_TRANS (RFC 6793 4.2.2).

    Raises ValueError for a segment of no or more than 255 numbers, OverflowError for a number over 32 bits.
    """
    return b"".join(_segment_octets(segment, size) for segment in path.segments)


def _segment_octets(segment: Segment, size: int) -> bytes:
    if not 1 <= len(segment.asns) <= 255:
        raise ValueError(f"{len(segment.asns)} AS numbers in a segment, 1 to 255 wanted")
    asns = segment.asns if size == 4 else tuple(asn if asn <= 0xFFFF else AS_TRANS for asn in segment.asns)
    return bytes((segment.kind, len(asns))) + b"".join(asn.to_bytes(size) for asn in asns)
