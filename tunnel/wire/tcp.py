"""The one thing a router does to TCP: find the MSS option of a SYN and lower it (RFC 9293 3.2, 3.7.1)."""

from __future__ import annotations

from tunnel.wire.checksum import adjusted

__all__ = ["clamp_mss", "mss_offset"]

_SYN = 0x02
_END, _NOP, _MSS = 0, 1, 2
HEADER = 20


#  kind=2  length=4   maximum segment size
#  +--------+--------+--------+--------+
#  |00000010|00000100|   max seg size  |
#  +--------+--------+--------+--------+
def mss_offset(segment: bytes | bytearray | memoryview) -> int | None:
    """Where the MSS value stands in a SYN segment; None for any other segment, and for options that make no sense."""
    if len(segment) < HEADER or not segment[13] & _SYN:
        return None
    end = (segment[12] >> 4) * 4
    if end < HEADER or end > len(segment):
        return None
    at = HEADER
    while at < end and segment[at] != _END:
        if segment[at] == _NOP:
            at += 1
            continue
        if at + 1 >= end:
            return None
        length = segment[at + 1]
        if length < 2 or at + length > end:
            return None
        if segment[at] == _MSS:
            return at + 2 if length == 4 else None
        at += length
    return None


def clamp_mss(segment: bytearray | memoryview, limit: int) -> bool:
    """Lower the MSS of a SYN in place to `limit` and mend its checksum. True if it was higher."""
    at = mss_offset(segment)
    if at is None:
        return False
    old = int.from_bytes(segment[at : at + 2])
    if old <= limit:
        return False
    segment[at : at + 2] = limit.to_bytes(2)
    checksum = int.from_bytes(segment[16:18])
    # An option may stand at an odd offset: then each of its octets lies in another 16-bit word, swapped.
    swapped = at % 2
    was, now = (_swap(old), _swap(limit)) if swapped else (old, limit)
    segment[16:18] = adjusted(checksum, was, now).to_bytes(2)
    return True


def _swap(value: int) -> int:
    return (value & 0xFF) << 8 | value >> 8
