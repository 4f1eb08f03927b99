"""IPv4 packets: octets <-> values, and how one packet becomes fragments (RFC 791, RFC 6864)."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from stack.wire import Reader, WireError, internet_checksum

__all__ = ["Ipv4", "decode", "encode", "fragments", "options"]

RFC = "RFC 791 3.1"
HEADER = 20
_RESERVED, _DONT_FRAGMENT, _MORE = 0x8000, 0x4000, 0x2000
_END, _NOP, _COPIED = 0, 1, 0x80


@frozen
class Ipv4:
    """One packet. `offset` of a fragment in octets; `options` padded to 4 octets as on the wire; addresses of 4 octets.

    `reserved` is the flag that RFC 791 wants to be zero: kept as it came.
    """

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes
    ttl: int = 64
    tos: int = 0
    identification: int = 0
    dont_fragment: bool = False
    more: bool = False
    offset: int = 0
    options: bytes = b""
    reserved: bool = False


#   0                   1                   2                   3
#   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |Version|  IHL  |Type of Service|          Total Length         |
#  |         Identification        |Flags|      Fragment Offset    |
#  |  Time to Live |    Protocol   |         Header Checksum       |
#  |                       Source Address                          |
#  |                    Destination Address                        |
#  |                    Options                    |    Padding    |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def decode(octets: bytes | memoryview) -> Ipv4:
    """The packet at the start of `octets`; what follows its total length is link padding. Raises WireError."""
    reader = Reader.of(octets, RFC)
    first = reader.uint(1, "version")
    if first >> 4 != 4:
        raise reader.fail(f"version {first >> 4}, not 4", "version", back=1)
    header = (first & 15) * 4
    if header < HEADER:
        raise reader.fail(f"header of {header} octets, at least 20", "IHL", back=1)
    tos, total = reader.uint(1, "type of service"), reader.uint(2, "total length")
    if total < header or total > len(octets):
        raise reader.fail(f"{total}: header {header}, received {len(octets)}", "total length", back=2)
    identification, flags = reader.uint(2, "identification"), reader.uint(2, "flags")
    ttl, protocol = reader.uint(1, "time to live"), reader.uint(1, "protocol")
    reader.take(2, "header checksum")
    source, destination = reader.take(4, "source"), reader.take(4, "destination")
    text = reader.take(header - HEADER, "options")
    if internet_checksum(bytes(octets[:header])):
        raise WireError("wrong", 10, "header checksum", "RFC 1812 5.2.2")
    offset = (flags & 0x1FFF) * 8
    if offset + total - header > 0xFFFF - header:
        raise WireError("fragment ends past 65,535", 6, "fragment offset", RFC)
    return Ipv4(
        source,
        destination,
        protocol,
        reader.take(total - header, "payload"),
        ttl,
        tos,
        identification,
        bool(flags & _DONT_FRAGMENT),
        bool(flags & _MORE),
        offset,
        text,
        bool(flags & _RESERVED),
    )


def encode(packet: Ipv4) -> bytes:
    """The packet's octets, checksum filled in."""
    header = HEADER + len(packet.options)
    flags = packet.reserved << 15 | packet.dont_fragment << 14 | packet.more << 13 | packet.offset >> 3
    octets = bytearray(header)
    octets[0:10] = (
        bytes((0x40 | header >> 2, packet.tos))
        + (header + len(packet.payload)).to_bytes(2)
        + packet.identification.to_bytes(2)
        + flags.to_bytes(2)
        + bytes((packet.ttl, packet.protocol))
    )
    octets[12:16], octets[16:20], octets[20:] = packet.source, packet.destination, packet.options
    octets[10:12] = internet_checksum(octets).to_bytes(2)
    return bytes(octets) + packet.payload


def options(text: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, whole option) for each option; end and no-operation are left out. Raises WireError."""
    reader = Reader.of(text, RFC)
    while reader.left:
        kind = reader.uint(1, "option type")
        if kind == _END:
            return
        if kind == _NOP:
            continue
        length = reader.uint(1, "option length")
        if length < 2:
            raise reader.fail(f"{length}, at least 2", "option length", back=1)
        yield kind, bytes((kind, length)) + reader.take(length - 2, "option")


def _copied(text: bytes) -> bytes:
    """What of the options goes into fragments after the first: those whose copied flag is set (RFC 791 3.1)."""
    kept = b"".join(option for kind, option in options(text) if kind & _COPIED)
    return kept + bytes(-len(kept) % 4)


def fragments(packet: Ipv4, mtu: int) -> list[Ipv4]:
    """`packet` cut so that none exceeds `mtu`, by RFC 791 3.2. A fragment can be cut again. Raises WireError.

    The caller has looked at `dont_fragment`. `mtu` must leave room for 8 octets behind the header.
    """
    copied = _copied(packet.options)
    parts: list[Ipv4] = []
    at = 0
    while at < len(packet.payload) or not parts:
        text = packet.options if not parts else copied
        room = mtu - HEADER - len(text)
        if room < 8:
            raise WireError(f"MTU {mtu} has no room for a fragment", 0, "mtu", "RFC 791 3.2")
        last = len(packet.payload) - at <= room
        size = len(packet.payload) - at if last else room & ~7
        parts.append(
            evolve(
                packet,
                payload=packet.payload[at : at + size],
                offset=packet.offset + at,
                more=packet.more or not last,
                options=text,
            )
        )
        at += size
    return parts
