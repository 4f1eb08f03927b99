"""The few packets that the in-memory hosts speak: Ethernet, ARP, IPv4/IPv6 with fragments, ICMP, UDP, TCP.

Compact and private: the suite's codecs live in the packages that own the protocols. Every checksum is real. Parsers give
None for octets that no host would take.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum, IntFlag
from struct import Struct, pack
from typing import NamedTuple

from stack.wire import internet_checksum

ETHER_IPV4, ETHER_ARP, ETHER_VLAN, ETHER_QINQ, ETHER_IPV6, ETHER_MPLS = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD, 0x8847
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
BROADCAST = b"\xff" * 6

_IPV4 = Struct("!BBHHHBBH4s4s")
_IPV6 = Struct("!IHBB16s16s")
_TCP = Struct("!HHIIHHHH")


class Ip(NamedTuple):
    """A parsed IPv4 or IPv6 packet. `offset` of a fragment in octets; `header` octets stand before `payload`."""

    packet: bytes
    source: bytes
    destination: bytes
    protocol: int
    ttl: int
    tos: int
    payload: bytes
    header: int
    ident: int = 0
    df: bool = False
    more: bool = False
    offset: int = 0

    @property
    def is_v4(self) -> bool:
        return len(self.source) == 4


class Flags(IntFlag):
    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


class Segment(NamedTuple):
    sport: int
    dport: int
    seq: int
    ack: int
    flags: Flags
    window: int
    mss: int
    signature: bytes
    data: bytes


class Trouble(IntEnum):
    """What an ICMP error says, in both families."""

    NO_ROUTE = 0
    HOST = 1
    PROTOCOL = 2
    PORT = 3
    TOO_BIG = 4
    PROHIBITED = 5
    TIME = 6


_TROUBLE_V4 = {
    Trouble.NO_ROUTE: (3, 0),
    Trouble.HOST: (3, 1),
    Trouble.PROTOCOL: (3, 2),
    Trouble.PORT: (3, 3),
    Trouble.TOO_BIG: (3, 4),
    Trouble.PROHIBITED: (3, 13),
    Trouble.TIME: (11, 0),
}
_TROUBLE_V6 = {
    Trouble.NO_ROUTE: (1, 0),
    Trouble.HOST: (1, 3),
    Trouble.PROTOCOL: (4, 1),
    Trouble.PORT: (1, 4),
    Trouble.TOO_BIG: (2, 0),
    Trouble.PROHIBITED: (1, 1),
    Trouble.TIME: (3, 0),
}
TROUBLE_TEXT = {
    Trouble.NO_ROUTE: "network unreachable",
    Trouble.HOST: "host unreachable",
    Trouble.PROTOCOL: "protocol unreachable",
    Trouble.PORT: "port unreachable",
    Trouble.TOO_BIG: "fragmentation needed",
    Trouble.PROHIBITED: "prohibited",
    Trouble.TIME: "time exceeded",
}


# --- IP ----------------------------------------------------------------------------------------------------------------


def parse_ip(packet: bytes, *, quoted: bool = False) -> Ip | None:
    """`quoted`: the packet inside an ICMP error, which may be cut short and whose checksum nobody promised."""
    if not packet:
        return None
    if packet[0] >> 4 == 4:
        return _parse_v4(packet, quoted)
    if packet[0] >> 4 == 6:
        return _parse_v6(packet, quoted)
    return None


def _parse_v4(packet: bytes, quoted: bool) -> Ip | None:
    if len(packet) < 20:
        return None
    first, tos, total, ident, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(packet)
    header = (first & 15) * 4
    if not 20 <= header <= min(total, len(packet)):
        return None
    if not quoted and (total > len(packet) or internet_checksum(packet[:header])):
        return None
    return Ip(
        packet[:total],
        source,
        destination,
        protocol,
        ttl,
        tos,
        packet[header:total],
        header,
        ident,
        bool(fragment & 0x4000),
        bool(fragment & 0x2000),
        (fragment & 0x1FFF) * 8,
    )


def _parse_v6(packet: bytes, quoted: bool) -> Ip | None:
    if len(packet) < 40:
        return None
    first, length, following, ttl, source, destination = _IPV6.unpack_from(packet)
    if length + 40 > len(packet) and not quoted:
        return None
    packet = packet[: length + 40]
    at, ident, more, offset = 40, 0, False, 0
    while following in (0, 43, 44, 60):  # hop-by-hop, routing, fragment, destination options
        if at + 8 > len(packet):
            return None
        if following == 44:
            position, ident = int.from_bytes(packet[at + 2 : at + 4]), int.from_bytes(packet[at + 4 : at + 8])
            more, offset, size = bool(position & 1), position & 0xFFF8, 8
        else:
            size = packet[at + 1] * 8 + 8
        following, at = packet[at], at + size
        if offset or more:
            break  # what follows is a piece of something
    if at > len(packet):
        return None
    tos = first >> 20 & 0xFF
    return Ip(packet, source, destination, following, ttl, tos, packet[at:], at, ident, True, more, offset)


def build_ip(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    tos: int = 0,
    ident: int = 0,
    df: bool = False,
) -> bytes:
    """One whole packet. IPv6 has no identification outside fragments and is never fragmented on the way."""
    if len(source) == 16:
        return _IPV6.pack(6 << 28 | tos << 20, len(payload), protocol, ttl, source, destination) + payload
    fields = (0x45, tos, 20 + len(payload), ident, 0x4000 if df else 0, ttl, protocol)
    checksum = internet_checksum(_IPV4.pack(*fields, 0, source, destination))
    return _IPV4.pack(*fields, checksum, source, destination) + payload


def reheader(packet: bytes, *, ttl: int | None = None, fragment: int | None = None, ident: int | None = None) -> bytes:
    """An IPv4 packet with header fields replaced, its total length and checksum made right (as for IP_HDRINCL)."""
    header = bytearray(packet[: (packet[0] & 15) * 4])
    header[2:4] = len(packet).to_bytes(2)
    if ttl is not None:
        header[8] = ttl
    if fragment is not None:
        header[6:8] = fragment.to_bytes(2)
    if ident is not None:
        header[4:6] = ident.to_bytes(2)
    header[10:12] = b"\0\0"
    header[10:12] = internet_checksum(header).to_bytes(2)
    return bytes(header) + packet[len(header) :]


def one_hop_less(ip: Ip) -> bytes:
    if ip.is_v4:
        return reheader(ip.packet, ttl=ip.ttl - 1)
    return ip.packet[:7] + bytes((ip.ttl - 1,)) + ip.packet[8:]


def fragments(packet: bytes, mtu: int, ident: int) -> list[bytes]:
    """`packet` in pieces of at most `mtu` octets. IPv4: also a fragment, again. IPv6: only a packet of our own."""
    if packet[0] >> 4 == 6:
        return _fragments_v6(packet, mtu, ident)
    header = (packet[0] & 15) * 4
    field = int.from_bytes(packet[6:8])
    base, last_more = field & 0x1FFF, field & 0x2000
    step = (mtu - header) // 8 * 8
    pieces = []
    for at in range(0, len(packet) - header, step):
        more = 0x2000 if at + step < len(packet) - header else last_more
        piece = packet[:header] + packet[header + at : header + at + step]
        pieces.append(reheader(piece, fragment=more | base + at // 8))
    return pieces


def _fragments_v6(packet: bytes, mtu: int, ident: int) -> list[bytes]:
    first, _, following, ttl, source, destination = _IPV6.unpack_from(packet)
    payload = packet[40:]
    step = (mtu - 48) // 8 * 8
    pieces = []
    for at in range(0, len(payload), step):
        part = payload[at : at + step]
        extension = pack("!BBHI", following, 0, at | (at + step < len(payload)), ident)
        pieces.append(_IPV6.pack(first, 8 + len(part), 44, ttl, source, destination) + extension + part)
    return pieces


def transport_checksum(source: bytes, destination: bytes, protocol: int, octets: bytes) -> int:
    """Over the pseudo-header too (RFC 9293 3.1, RFC 8200 8.1). 0 when the checksum inside `octets` is right."""
    return internet_checksum(source + destination + pack("!II", protocol, len(octets)) + octets)


def multicast(address: bytes) -> bool:
    return address[0] >= 224 if len(address) == 4 else address[0] == 0xFF


def link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


# --- ICMP --------------------------------------------------------------------------------------------------------------


def build_icmp(source: bytes, destination: bytes, kind: int, code: int, body: bytes) -> bytes:
    message = bytes((kind, code, 0, 0)) + body
    checksum = (
        internet_checksum(message) if len(source) == 4 else transport_checksum(source, destination, ICMPV6, message)
    )
    return message[:2] + checksum.to_bytes(2) + body


def icmp_is_right(ip: Ip) -> bool:
    if len(ip.payload) < 8:
        return False
    if ip.is_v4:
        return internet_checksum(ip.payload) == 0
    return transport_checksum(ip.source, ip.destination, ICMPV6, ip.payload) == 0


def build_trouble(source: bytes, ip: Ip, trouble: Trouble, mtu: int) -> bytes:
    """The ICMP error about `ip`, with as much of it as fits 576 (RFC 1812 4.3.2.3) or 1280 octets (RFC 4443 2.4 (c))."""
    if ip.is_v4:
        kind, code = _TROUBLE_V4[trouble]
        return build_icmp(source, ip.source, kind, code, pack("!I", mtu) + ip.packet[:548])
    kind, code = _TROUBLE_V6[trouble]
    pointer = 6  # of "parameter problem": the next header field
    return build_icmp(source, ip.source, kind, code, pack("!I", pointer if kind == 4 else mtu) + ip.packet[:1232])


def read_trouble(ip: Ip) -> tuple[Trouble, int] | None:
    """(what, next-hop MTU or 0) of an ICMP error; None for any other message."""
    kind, code = ip.payload[0], ip.payload[1]
    value = int.from_bytes(ip.payload[4:8])
    if ip.is_v4:
        if kind == 11:
            return Trouble.TIME, 0
        if kind != 3:
            return None
        known = {number: trouble for trouble, (_, number) in _TROUBLE_V4.items() if trouble is not Trouble.TIME}
        known |= {9: Trouble.PROHIBITED, 10: Trouble.PROHIBITED}
        trouble = known.get(code, Trouble.NO_ROUTE)
        return trouble, value & 0xFFFF if trouble is Trouble.TOO_BIG else 0
    if kind == 2:
        return Trouble.TOO_BIG, value
    if kind in (1, 3, 4):
        table = {pair: trouble for trouble, pair in _TROUBLE_V6.items()}
        return table.get((kind, code), Trouble.TIME if kind == 3 else Trouble.NO_ROUTE), 0
    return None


# --- UDP and TCP -------------------------------------------------------------------------------------------------------


def build_udp(source: bytes, destination: bytes, sport: int, dport: int, octets: bytes) -> bytes:
    header = pack("!HHH", sport, dport, 8 + len(octets))
    checksum = transport_checksum(source, destination, UDP, header + b"\0\0" + octets) or 0xFFFF
    return header + checksum.to_bytes(2) + octets


def parse_udp(ip: Ip) -> tuple[int, int, bytes] | None:
    octets = ip.payload
    if len(octets) < 8 or not 8 <= int.from_bytes(octets[4:6]) <= len(octets):
        return None
    octets = octets[: int.from_bytes(octets[4:6])]
    if octets[6:8] == b"\0\0":
        if not ip.is_v4:
            return None  # RFC 8200 8.1: a zero checksum is not for IPv6
    elif transport_checksum(ip.source, ip.destination, UDP, octets):
        return None
    return int.from_bytes(octets[:2]), int.from_bytes(octets[2:4]), octets[8:]


def _signature(source: bytes, destination: bytes, header: bytes, data: bytes, length: int, key: bytes) -> bytes:
    """RFC 2385 2.0: over the pseudo-header, the header without options and checksum, the data and the key."""
    pseudo = source + destination + (pack("!BBH", 0, TCP, length) if len(source) == 4 else pack("!II", length, TCP))
    return hashlib.md5(pseudo + header[:16] + b"\0\0" + header[18:20] + data + key, usedforsecurity=False).digest()


def build_tcp(source: bytes, destination: bytes, segment: Segment, key: bytes = b"") -> bytes:
    """`segment.mss` 0: no such option; `key`: sign with RFC 2385's option, whatever `segment.signature` says."""
    options = pack("!BBH", 2, 4, segment.mss) if segment.mss else b""
    size = 20 + len(options) + (20 if key else 0)
    header = _TCP.pack(
        segment.sport, segment.dport, segment.seq, segment.ack, size // 4 << 12 | segment.flags, segment.window, 0, 0
    )
    if key:
        length = size + len(segment.data)
        options += b"\x01\x01\x13\x12" + _signature(source, destination, header, segment.data, length, key)
    octets = header + options + segment.data
    return octets[:16] + transport_checksum(source, destination, TCP, octets).to_bytes(2) + octets[18:]


def parse_tcp(ip: Ip) -> Segment | None:
    octets = ip.payload
    if len(octets) < 20 or transport_checksum(ip.source, ip.destination, TCP, octets):
        return None
    sport, dport, seq, ack, mixed, window, _, _ = _TCP.unpack_from(octets)
    header = (mixed >> 12) * 4
    if not 20 <= header <= len(octets):
        return None
    mss, signature, at = 0, b"", 20
    while at < header and octets[at]:
        size = 1 if octets[at] == 1 else octets[at + 1] if at + 1 < header else 0
        if not size or (octets[at] != 1 and size < 2) or at + size > header:
            return None
        if octets[at] == 2 and size == 4:
            mss = int.from_bytes(octets[at + 2 : at + 4])
        elif octets[at] == 19 and size == 18:
            signature = octets[at + 2 : at + 18]
        at += size
    return Segment(sport, dport, seq, ack, Flags(mixed & 31), window, mss, signature, octets[header:])


def signed_with(ip: Ip, segment: Segment, key: bytes) -> bool:
    """Whether the segment carries the signature that `key` asks for: none, if there is no key."""
    if not key:
        return not segment.signature
    right = _signature(ip.source, ip.destination, ip.payload[:20], segment.data, len(ip.payload), key)
    return hmac.compare_digest(right, segment.signature)


# --- Ethernet, ARP, ND -------------------------------------------------------------------------------------------------


def build_frame(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    return destination + source + ethertype.to_bytes(2) + payload


def untagged(frame: bytes) -> tuple[int | None, bytes]:
    """(VLAN, the frame without its outer tag). A priority tag (VLAN 0) is no VLAN (IEEE 802.1Q 6.9.1)."""
    if len(frame) >= 18 and frame[12:14] in (b"\x81\x00", b"\x88\xa8"):
        return int.from_bytes(frame[14:16]) & 0xFFF or None, frame[:12] + frame[16:]
    return None, frame


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + pack("!HH", ETHER_VLAN, vlan) + frame[12:]


def build_arp(operation: int, mac: bytes, address: bytes, target_mac: bytes, target: bytes) -> bytes:
    return pack("!HHBBH", 1, ETHER_IPV4, 6, 4, operation) + mac + address + target_mac + target


def parse_arp(octets: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """(operation, sender MAC, sender address, target address)."""
    if len(octets) < 28 or octets[:6] != pack("!HHBB", 1, ETHER_IPV4, 6, 4):
        return None
    return int.from_bytes(octets[6:8]), octets[8:14], octets[14:18], octets[24:28]


def solicited_node(address: bytes) -> bytes:
    return bytes.fromhex("ff0200000000000000000001ff") + address[13:]


def group_mac(address: bytes) -> bytes:
    """Where a multicast or broadcast packet goes on Ethernet (RFC 1112 6.4, RFC 2464 7)."""
    if len(address) == 16:
        return b"\x33\x33" + address[12:]
    if address[0] >= 240:
        return BROADCAST
    return b"\x01\x00\x5e" + bytes((address[1] & 0x7F,)) + address[2:]


def eui64(mac: bytes) -> bytes:
    """The link-local address of a MAC (RFC 4291 2.5.1, RFC 2464 5)."""
    return bytes.fromhex("fe80000000000000") + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]


def build_nd(source: bytes, destination: bytes, kind: int, target: bytes, mac: bytes) -> bytes:
    """A whole packet: a neighbour solicitation (135) or a solicited, overriding advertisement (136), RFC 4861 4.3, 4.4."""
    option, flags = (1, 0) if kind == 135 else (2, 0x60000000)
    body = pack("!I", flags) + target + bytes((option, 1)) + mac
    return build_ip(source, destination, ICMPV6, build_icmp(source, destination, kind, 0, body), ttl=255)


def parse_nd(ip: Ip) -> tuple[int, bytes, bytes] | None:
    """(type, target, link-layer address or empty) of a solicitation or an advertisement that RFC 4861 7.1 lets pass."""
    octets = ip.payload
    if ip.ttl != 255 or len(octets) < 24 or octets[0] not in (135, 136) or octets[1]:
        return None
    wanted = 1 if octets[0] == 135 else 2
    mac, at = b"", 24
    while at < len(octets):
        size = octets[at + 1] * 8 if at + 1 < len(octets) else 0
        if not size or at + size > len(octets):
            return None
        if octets[at] == wanted and size == 8:
            mac = octets[at + 2 : at + 8]
        at += size
    return octets[0], octets[8:24], mac
