"""Transport checksums with their pseudo-headers, and the incremental update (RFC 1071, 1624, 8200 8.1)."""

from __future__ import annotations

from stack.wire import internet_checksum

__all__ = ["adjusted", "transport_checksum", "transport_sum"]

Octets = bytes | bytearray | memoryview

_UDP = 17


def transport_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """The pseudo-header's part of a transport checksum: a partial sum for `internet_checksum(..., start)`.

    Both families: addresses of 4 or 16 octets, `length` of the upper-layer packet, its protocol (RFC 8200 8.1).
    """
    return int.from_bytes(source) + int.from_bytes(destination) + protocol + length


def transport_checksum(source: bytes, destination: bytes, protocol: int, segment: Octets) -> int:
    """The checksum of `segment`, whose own checksum field is zero. For UDP 0 is sent as 0xFFFF (RFC 768)."""
    value = internet_checksum(segment, transport_sum(source, destination, protocol, len(segment)))
    return 0xFFFF if value == 0 and protocol == _UDP else value


def adjusted(checksum: int, old: int, new: int) -> int:
    """`checksum` after a 16-bit field changed from `old` to `new`: HC' = ~(~HC + ~m + m') (RFC 1624 3, eqn. 3)."""
    total = (0xFFFF - checksum) + (0xFFFF - old) + new
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - ((total & 0xFFFF) + (total >> 16))
