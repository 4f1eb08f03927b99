"""ICMP errors: which packet may get one, and its octets. Pure; who sends it, and how often, is `path`'s business."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from stack.wire import WireError, internet_checksum
from tunnel.wire import icmp, ipv4, ipv6

__all__ = ["Complaint", "answer_echo", "build", "header_of", "may_complain", "reseal4"]


class _Codes(NamedTuple):
    """(type, code) in each family, and whether `no ip unreachables` silences it."""

    four: tuple[int, int]
    six: tuple[int, int]
    unreachable: bool


class Complaint(Enum):
    """What an error says. Fragmentation-needed is not silenced by `no ip unreachables`: path MTU discovery needs it."""

    EXPIRED = _Codes((icmp.TIME_EXCEEDED, 0), (icmp.TIME_EXCEEDED6, 0), unreachable=False)
    TOO_BIG = _Codes((icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED), (icmp.PACKET_TOO_BIG6, 0), unreachable=False)
    NO_ROUTE = _Codes(
        (icmp.UNREACHABLE, icmp.NETWORK_UNREACHABLE), (icmp.UNREACHABLE6, icmp.NO_ROUTE6), unreachable=True
    )
    HOST = _Codes(
        (icmp.UNREACHABLE, icmp.HOST_UNREACHABLE), (icmp.UNREACHABLE6, icmp.ADDRESS_UNREACHABLE6), unreachable=True
    )
    PROTOCOL = _Codes(
        (icmp.UNREACHABLE, icmp.PROTOCOL_UNREACHABLE), (icmp.PARAMETER_PROBLEM6, icmp.NEXT_HEADER6), unreachable=True
    )
    """In IPv6 its second word is a pointer to the next-header field, not an MTU (RFC 4443 3.4)."""

    @property
    def takes_stack(self) -> bool:
        return self is not Complaint.TOO_BIG and self is not Complaint.PROTOCOL


_CONTROL = 0xC0
"""Precedence 6: "ICMP error messages SHOULD have their IP Precedence field set to 6 or 7" (RFC 1812 4.3.2.5)."""

_TTL, _MTU = 255, 0xFFFF
_QUOTE4, _QUOTE6 = 548, 1232
"""What is quoted: "as much as possible without exceeding 576 bytes" (RFC 1812 4.3.2.3), 1280 in IPv6 (RFC 4443 3)."""


def may_complain(packet: bytes | bytearray) -> bool:
    """Whether an ICMP error may be sent about `packet`, a whole IP packet whose header was found good.

    RFC 1122 3.2.2: not about an ICMP error, a broadcast or multicast, a fragment other than the first, or a source that
    names no single host. RFC 4443 2.4 e says the same of IPv6.
    """
    return _may_complain4(packet) if packet[0] >> 4 == 4 else _may_complain6(packet)


def _may_complain4(packet: bytes | bytearray) -> bool:
    source, destination = packet[12], packet[16]
    if source in (0, 127) or source >= 224 or destination >= 224 or bytes(packet[16:20]) == b"\xff" * 4:
        return False
    if int.from_bytes(packet[6:8]) & 0x1FFF:
        return False
    start = (packet[0] & 15) * 4
    if packet[9] != icmp.ICMP:
        return True
    return len(packet) > start and not icmp.is_error(packet[start], 4)


def _may_complain6(packet: bytes | bytearray) -> bool:
    if packet[8] == 0xFF or packet[24] == 0xFF or not any(packet[8:24]):
        return False
    try:
        upper = ipv6.upper_layer(bytes(packet))
    except WireError:
        return False
    if upper.fragment:
        return False
    if upper.protocol != icmp.ICMP6:
        return True
    return len(packet) > upper.start and not icmp.is_error(packet[upper.start], 6)


def build(packet: bytes, what: Complaint, source: bytes, *, mtu: int = 0, stack: bytes = b"") -> bytes:
    """The IP packet that tells `packet`'s sender. `stack`: the label stack it came with (RFC 4950), as on the wire."""
    six = packet[0] >> 4 == 6
    family = 6 if six else 4
    kind, code = what.value.six if six else what.value.four
    extensions = (icmp.label_stack(stack),) if stack and what.takes_stack else ()
    room = (_QUOTE6 if six else _QUOTE4) - (len(stack) + 8 if extensions else 0)
    if extensions:
        room &= ~7  # whole 64-bit words, so that the padding of RFC 4884 does not exceed the size either
    error = icmp.encode_error(icmp.Error(kind, code, packet[:room], min(mtu, _MTU), extensions), family)
    if six:
        target = packet[8:24]
        text = icmp.encode6(error, source, target)
        return ipv6.encode(ipv6.Ipv6(source, target, icmp.ICMP6, text, _TTL, _CONTROL))
    return ipv4.encode(ipv4.Ipv4(source, packet[12:16], icmp.ICMP, icmp.encode(error), _TTL, _CONTROL))


def answer_echo(packet: bytes) -> bytes | None:
    """The echo reply to `packet`, an unfragmented IP packet to an address of ours; None if it is no echo request.

    "the entire ICMP Echo Request data MUST be returned" (RFC 1122 3.2.2.6). Raises WireError for a wrong checksum.
    """
    if packet[0] >> 4 == 4:
        start = (packet[0] & 15) * 4
        if packet[9] != icmp.ICMP or len(packet) <= start or packet[start] != icmp.ECHO:
            return None
        request = icmp.decode(packet[start:])
        text = icmp.encode(icmp.Message(icmp.ECHO_REPLY, 0, request.rest, request.body))
        # RFC 6864 4.1: should it be fragmented, its fragments must not mix with another reply's; as unique as the request's
        number = int.from_bytes(packet[4:6])
        return ipv4.encode(ipv4.Ipv4(packet[16:20], packet[12:16], icmp.ICMP, text, 64, packet[1], number))
    upper = ipv6.upper_layer(packet)
    if upper.protocol != icmp.ICMP6 or upper.fragmented or packet[upper.start : upper.start + 1] != b"\x80":
        return None
    request = icmp.decode6(packet[upper.start :], packet[8:24], packet[24:40])
    reply = icmp.Message(icmp.ECHO_REPLY6, 0, request.rest, request.body)
    source, target = packet[24:40], packet[8:24]
    traffic_class = int.from_bytes(packet[:2]) >> 4 & 0xFF
    text = icmp.encode6(reply, source, target)
    return ipv6.encode(ipv6.Ipv6(source, target, icmp.ICMP6, text, 64, traffic_class))


def header_of(packet: bytes | bytearray) -> bytes:
    """The IP header and the eight octets behind it, as a Hairpin carries them: ports, or what an ICMP error quotes too."""
    return bytes(packet[:48]) if packet[0] >> 4 == 6 else bytes(packet[: (packet[0] & 15) * 4 + 8])


def reseal4(packet: bytearray) -> None:
    """Fill in the IPv4 header checksum."""
    packet[10:12] = b"\0\0"
    packet[10:12] = internet_checksum(packet[: (packet[0] & 15) * 4]).to_bytes(2)
