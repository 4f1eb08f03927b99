"""IPv6 packets and the walk over their extension headers (RFC 8200)."""

from __future__ import annotations

from typing import NamedTuple

from attrs import frozen

from stack.wire import Reader

__all__ = ["Ipv6", "Upper", "decode", "encode", "upper_layer"]

RFC = "RFC 8200 3"
HEADER = 40
MAX_EXTENSION_HEADERS = 16
"""More than any real packet has; it bounds the walk."""

HOP_BY_HOP, ROUTING, FRAGMENT, ESP, AUTHENTICATION, NONE, DESTINATION = 0, 43, 44, 50, 51, 59, 60


@frozen
class Ipv6:
    """One packet. `payload` begins with `next_header`, which may be an extension header. Addresses of 16 octets."""

    source: bytes
    destination: bytes
    next_header: int
    payload: bytes
    hop_limit: int = 64
    traffic_class: int = 0
    flow_label: int = 0


class Upper(NamedTuple):
    """The upper-layer protocol, where it starts (octets from the IPv6 header), and the fragment it stands in.

    `fragment` is the offset in octets (0 too if there is no fragment header); `more` fragments follow;
    `fragmented` if a fragment header was there at all.
    """

    protocol: int
    start: int
    fragment: int = 0
    more: bool = False
    fragmented: bool = False


#   0                   1                   2                   3
#   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |Version| Traffic Class |           Flow Label                  |
#  |         Payload Length        |  Next Header  |   Hop Limit   |
#  |                  Source Address (16 octets)                   |
#  |                Destination Address (16 octets)                |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def decode(octets: bytes | memoryview) -> Ipv6:
    """The packet at the start of `octets`; what follows its payload length is link padding. Raises WireError."""
    reader = Reader.of(octets, RFC)
    first = reader.uint(4, "version")
    if first >> 28 != 6:
        raise reader.fail(f"version {first >> 28}, not 6", "version", back=4)
    length = reader.uint(2, "payload length")
    next_header, hop_limit = reader.uint(1, "next header"), reader.uint(1, "hop limit")
    source, destination = reader.take(16, "source"), reader.take(16, "destination")
    payload = reader.take(length, "payload")
    return Ipv6(source, destination, next_header, payload, hop_limit, first >> 20 & 0xFF, first & 0xFFFFF)


def encode(packet: Ipv6) -> bytes:
    first = 6 << 28 | packet.traffic_class << 20 | packet.flow_label
    return (
        first.to_bytes(4)
        + len(packet.payload).to_bytes(2)
        + bytes((packet.next_header, packet.hop_limit))
        + packet.source
        + packet.destination
        + packet.payload
    )


def upper_layer(octets: bytes | memoryview) -> Upper:
    """Where the upper layer of an IPv6 packet starts. Raises WireError for a chain that is too long or cut off.

    In a fragment other than the first the chain ends at the fragment header: `start` is where its octets are.
    """
    reader = Reader.of(octets, "RFC 8200 4")
    reader.take(6, "header")
    protocol = reader.uint(1, "next header")
    reader.take(HEADER - 7, "header")
    fragment, more, fragmented = 0, False, False
    for _ in range(MAX_EXTENSION_HEADERS):
        if protocol not in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, AUTHENTICATION):
            return Upper(protocol, reader.offset, fragment, more, fragmented)
        following, length = reader.uint(1, "next header"), reader.uint(1, "header length")
        if protocol == FRAGMENT:
            word = reader.uint(2, "fragment offset")
            reader.take(4, "identification")
            fragment, more, fragmented = word & 0xFFF8, bool(word & 1), True
            if fragment:
                return Upper(following, reader.offset, fragment, more, fragmented)
        else:
            reader.take((length + 2) * 4 - 2 if protocol == AUTHENTICATION else length * 8 + 6, "extension header")
        protocol = following
    raise reader.fail(f"more than {MAX_EXTENSION_HEADERS} extension headers", "next header")
