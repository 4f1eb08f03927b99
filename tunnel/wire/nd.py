"""Neighbour solicitations and advertisements of IPv6: whole packets <-> values (RFC 4861 4.3, 4.4, 7.1)."""

from __future__ import annotations

from attrs import frozen

from stack.wire import Reader, WireError
from tunnel.wire import icmp, ipv6

__all__ = ["Advertisement", "Solicitation", "decode", "encode", "solicited_node"]

RFC = "RFC 4861 4.3"
SOLICITATION, ADVERTISEMENT = 135, 136
_SOURCE_LINK, _TARGET_LINK = 1, 2
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20
_UNSPECIFIED = bytes(16)
_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")


@frozen
class Solicitation:
    """Who has `target`? `mac` is the asker's (empty while it checks for duplicates)."""

    source: bytes
    destination: bytes
    target: bytes
    mac: bytes = b""


@frozen
class Advertisement:
    """`target` is at `mac` (empty: unchanged)."""

    source: bytes
    destination: bytes
    target: bytes
    mac: bytes = b""
    router: bool = True
    solicited: bool = True
    override: bool = True


def solicited_node(address: bytes) -> bytes:
    """The multicast group that every owner of `address` listens to (RFC 4291 2.7.1)."""
    return _SOLICITED_NODE + address[13:]


#   type 135 / 136, code 0, checksum
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |R|S|O|  Reserved (R, S, O in an advertisement only)            |
#  |                     Target Address (16)                       |
#  |  option: type (1: source, 2: target link address), length / 8, MAC
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def decode(octets: bytes | memoryview) -> Solicitation | Advertisement:
    """The message in an IPv6 packet, held against every rule of RFC 4861 7.1.1 and 7.1.2. Raises WireError."""
    packet = ipv6.decode(octets)
    if packet.next_header != icmp.ICMP6:
        raise WireError(f"next header {packet.next_header}, not ICMPv6", 6, "next header", RFC)
    if packet.hop_limit != 255:
        raise WireError(f"{packet.hop_limit}: it has passed a router", 7, "hop limit", "RFC 4861 7.1.1")
    message = icmp.decode6(packet.payload, packet.source, packet.destination)
    if message.kind not in (SOLICITATION, ADVERTISEMENT) or message.code:
        raise WireError(f"type {message.kind} code {message.code}", ipv6.HEADER, "type", RFC)
    reader = Reader.of(message.body, RFC)
    target = reader.take(16, "target")
    if target[0] == 0xFF:
        raise WireError("multicast", ipv6.HEADER + 8, "target", "RFC 4861 7.1.1")
    mac = _link_address(reader, _SOURCE_LINK if message.kind == SOLICITATION else _TARGET_LINK)
    if message.kind == SOLICITATION:
        if packet.source == _UNSPECIFIED and (mac or not packet.destination.startswith(_SOLICITED_NODE)):
            raise WireError("from the unspecified address", 8, "source", "RFC 4861 7.1.1")
        return Solicitation(packet.source, packet.destination, target, mac)
    flags = message.rest[0]
    if packet.destination[0] == 0xFF and flags & _SOLICITED:
        raise WireError("solicited, yet to a group", ipv6.HEADER + 4, "flags", "RFC 4861 7.1.2")
    return Advertisement(
        packet.source,
        packet.destination,
        target,
        mac,
        bool(flags & _ROUTER),
        bool(flags & _SOLICITED),
        bool(flags & _OVERRIDE),
    )


def _link_address(reader: Reader, wanted: int) -> bytes:
    """The MAC in the wanted option; unknown options are passed over (RFC 4861 4.6)."""
    mac = b""
    while reader.left:
        kind, units = reader.uint(1, "option type"), reader.uint(1, "option length")
        if units == 0:
            raise reader.fail("0: nodes MUST silently discard it", "option length", back=1, rfc="RFC 4861 4.6")
        value = reader.take(units * 8 - 2, "option")
        if kind == wanted and units == 1:
            mac = value
    return mac


def encode(message: Solicitation | Advertisement) -> bytes:
    """The whole IPv6 packet, hop limit 255."""
    if isinstance(message, Solicitation):
        kind, flags, option = SOLICITATION, 0, _SOURCE_LINK
    else:
        kind, option = ADVERTISEMENT, _TARGET_LINK
        flags = message.router << 7 | message.solicited << 6 | message.override << 5
    link = bytes((option, 1)) + message.mac if message.mac else b""
    text = icmp.encode6(
        icmp.Message(kind, 0, bytes((flags, 0, 0, 0)), message.target + link), message.source, message.destination
    )
    return ipv6.encode(ipv6.Ipv6(message.source, message.destination, icmp.ICMP6, text, hop_limit=255))
