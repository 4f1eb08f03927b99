"""Two-octet AS sessions (RFC 6793): what an OLD speaker sends becomes what a NEW one would have sent, and back."""

from __future__ import annotations

from collections.abc import Mapping

from bgp.wire.as_path import AS_TRANS, AsPath, Segment, SegmentKind, read_as_path, write_as_path
from bgp.wire.attributes import Attributes, RawAttribute

__all__ = ["merge", "narrow", "widen"]

_AS_PATH, _AGGREGATOR, _AS4_PATH, _AS4_AGGREGATOR = 2, 7, 17, 18
_CONFED = (SegmentKind.CONFED_SEQUENCE, SegmentKind.CONFED_SET)


def widen(found: dict[int, RawAttribute]) -> dict[int, RawAttribute]:
    """The attributes of an OLD speaker, checked, as a NEW one's: AS4_PATH and AS4_AGGREGATOR merged in and gone.

    RFC 6793 4.2.3. If both aggregators are there and AGGREGATOR holds a real AS number, then some OLD speaker
    aggregated after the NEW ones, and both AS4 attributes MUST be ignored.
    """
    as4_path, as4_aggregator = found.pop(_AS4_PATH, None), found.pop(_AS4_AGGREGATOR, None)
    aggregator = found.get(_AGGREGATOR)
    if aggregator is not None:
        if as4_aggregator is not None and int.from_bytes(aggregator.value[:2]) != AS_TRANS:
            as4_path = as4_aggregator = None
        value = as4_aggregator.value if as4_aggregator is not None else b"\0\0" + aggregator.value
        found[_AGGREGATOR] = aggregator._replace(value=value)
    path = found.get(_AS_PATH)
    if path is not None:
        read = read_as_path(path.value, 2)
        if as4_path is not None:
            read = merge(read, read_as_path(as4_path.value))
        found[_AS_PATH] = path._replace(value=write_as_path(read))
    return found


def merge(old: AsPath, new: AsPath) -> AsPath:
    """AS_PATH and AS4_PATH as one: the leading part of `old` that `new` does not know of, then `new` (RFC 6793 4.2.3).

    If `old` is the shorter, AS4_PATH MUST be ignored. Confederation segments do not count, those of AS4_PATH are
    discarded (6), and those that lead `old` or follow what is taken from it are taken too.
    """
    new = AsPath(tuple(segment for segment in new.segments if segment.kind not in _CONFED))
    wanted = old.hops - new.hops
    if wanted < 0:
        return old
    leading: list[Segment] = []
    for kind, asns in old.segments:
        if kind in _CONFED:
            leading.append(Segment(kind, asns))
        elif not wanted:
            break
        elif kind == SegmentKind.SET:
            leading.append(Segment(kind, asns))
            wanted -= 1
        else:
            leading.append(Segment(kind, asns[:wanted]))
            wanted -= min(wanted, len(asns))
    return AsPath(_joined((*leading, *new.segments)))


def _joined(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Neighbouring sequences as one where 255 numbers hold them, since the cut between them is ours."""
    made: list[Segment] = []
    for segment in segments:
        last = made[-1] if made else None
        if (
            last is not None
            and last.kind == segment.kind == SegmentKind.SEQUENCE
            and len(last.asns) + len(segment.asns) <= 255
        ):
            made[-1] = Segment(segment.kind, last.asns + segment.asns)
        else:
            made.append(segment)
    return tuple(made)


def narrow(attributes: Attributes) -> bytes:
    """The octets of a set as an OLD speaker takes them, AS4_PATH and AS4_AGGREGATOR added where numbers did not fit.

    RFC 6793 4.2.2. AS4_PATH leaves confederation segments out.
    """
    found = attributes.raw
    path, aggregator = found.get(_AS_PATH), found.get(_AGGREGATOR)
    if path is not None:
        read = attributes.as_path
        found[_AS_PATH] = path._replace(value=write_as_path(read, 2))
        if _too_wide(read):
            real = AsPath(tuple(segment for segment in read.segments if segment.kind not in _CONFED))
            if real.segments:
                found[_AS4_PATH] = RawAttribute(0xC0, _AS4_PATH, write_as_path(real))
    if aggregator is not None:
        value = aggregator.value
        if value[:2] != b"\0\0":
            found[_AS4_AGGREGATOR] = RawAttribute(0xC0, _AS4_AGGREGATOR, value)
            value = b"\0\0" + AS_TRANS.to_bytes(2) + value[4:]
        found[_AGGREGATOR] = aggregator._replace(value=value[2:])
    return _octets(found)


def _too_wide(path: AsPath) -> bool:
    return any(asn > 0xFFFF for asn in path.asns)


def _octets(found: Mapping[int, RawAttribute]) -> bytes:
    return Attributes.from_raw(found.values()).octets
