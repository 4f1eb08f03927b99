"""Packets whose checksums and segmentation their sender left to the hardware: done here, in software.

A port with a virtio-net header before each packet (Virtio 1.1, 5.1.6) hands over TCP of up to 64 KB in one piece:

```
 0       1          2         4          6             8             10
 +-------+----------+---------+----------+-------------+-------------+
 | flags | GSO type | hdr_len | gso_size | csum_start  | csum_offset |   host byte order (little-endian here)
 +-------+----------+---------+----------+-------------+-------------+
```
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from stack.wire import WireError, internet_checksum
from tunnel.io.errors import reseal4
from tunnel.wire import ipv6
from tunnel.wire.checksum import transport_checksum

__all__ = ["VnetHeader", "finish"]

_HEADER = struct.Struct("=BBHHHH")
_NEEDS_CHECKSUM = 1
_TCP4, _UDP, _TCP6, _UDP_SEGMENTS = 1, 3, 4, 5
_ECN = 0x80
_TCP_PROTOCOL, _UDP_PROTOCOL = 6, 17
_FIN_PSH, _CWR = 0x09, 0x80
MAX_SEGMENTS = 2048
RFC = "Virtio 1.1 5.1.6"


class VnetHeader(NamedTuple):
    flags: int
    kind: int
    header: int
    size: int
    start: int
    offset: int

    @classmethod
    def of(cls, octets: bytes | memoryview) -> VnetHeader:
        return cls(*_HEADER.unpack(octets[:10]))


def finish(vnet: VnetHeader, packet: bytes, link: int) -> list[bytes]:
    """The packets that `packet` stands for, each with its checksums. `link`: octets of frame header before it.

    `packet` is a bare IP packet of either family, without padding. Raises WireError for a header that makes no sense.
    """
    kind = vnet.kind & ~_ECN
    if not kind:
        return [_fill(vnet, packet, link)] if vnet.flags & _NEEDS_CHECKSUM else [packet]
    if vnet.size == 0:
        raise WireError("segments of no octets", 4, "gso_size", RFC)
    protocol, start = _upper(packet)
    if (kind, protocol) in ((_TCP4, _TCP_PROTOCOL), (_TCP6, _TCP_PROTOCOL)):
        return _segments(packet, start, vnet.size, protocol)
    if (kind, protocol) == (_UDP_SEGMENTS, _UDP_PROTOCOL):
        return _segments(packet, start, vnet.size, protocol)
    if (kind, protocol) == (_UDP, _UDP_PROTOCOL):
        # One datagram, to be fragmented at the IP layer: the path does that if it must.
        return [_sealed(bytearray(packet), start, protocol)]
    raise WireError(f"type {vnet.kind} with protocol {protocol}", 1, "gso_type", RFC)


def _fill(vnet: VnetHeader, packet: bytes, link: int) -> bytes:
    """Complete one checksum: the field holds the pseudo-header's sum, and all from `start` on is summed up."""
    start = vnet.start - link
    at = start + vnet.offset
    if start < 20 or at + 2 > len(packet):
        raise WireError(f"checksum at {at} of {len(packet)}", 6, "csum_start", RFC)
    whole = bytearray(packet)
    value = internet_checksum(whole[start:]) or 0xFFFF
    whole[at : at + 2] = value.to_bytes(2)
    return bytes(whole)


def _upper(packet: bytes) -> tuple[int, int]:
    if packet[0] >> 4 == 6:
        upper = ipv6.upper_layer(packet)
        if upper.fragmented:
            raise WireError("a fragment", 1, "gso_type", RFC)
        return upper.protocol, upper.start
    return packet[9], (packet[0] & 15) * 4


def _segments(packet: bytes, start: int, size: int, protocol: int) -> list[bytes]:
    """The TCP or UDP segments of `size` octets of payload each (RFC 9293 3.8.3 leaves their number to the sender)."""
    tcp = protocol == _TCP_PROTOCOL
    if len(packet) < start + (20 if tcp else 8):
        raise WireError("transport header cut short", start, "gso_type", RFC)
    head = start + ((packet[start + 12] >> 4) * 4 if tcp else 8)
    if head < start + (20 if tcp else 8) or head > len(packet):
        raise WireError(f"transport header ends at {head}", start, "data offset", RFC)
    body = len(packet) - head
    if body > size * MAX_SEGMENTS:
        raise WireError(f"more than {MAX_SEGMENTS} segments", 4, "gso_size", RFC)
    found: list[bytes] = []
    for at in range(0, max(body, 1), size):
        part = bytearray(packet[:head] + packet[head + at : head + at + size])
        if tcp:
            sequence = int.from_bytes(part[start + 4 : start + 8]) + at & 0xFFFFFFFF
            part[start + 4 : start + 8] = sequence.to_bytes(4)
            if at + size < body:
                part[start + 13] &= ~_FIN_PSH & 0xFF
            if at:
                part[start + 13] &= ~_CWR & 0xFF
        if packet[0] >> 4 == 4:
            part[4:6] = (int.from_bytes(part[4:6]) + len(found) & 0xFFFF).to_bytes(2)
        found.append(_sealed(part, start, protocol))
    return found


def _sealed(part: bytearray, start: int, protocol: int) -> bytes:
    """Lengths and checksums of a packet that is now as long as it is."""
    six = part[0] >> 4 == 6
    if six:
        part[4:6] = (len(part) - 40).to_bytes(2)
        source, target = bytes(part[8:24]), bytes(part[24:40])
    else:
        part[2:4] = len(part).to_bytes(2)
        reseal4(part)
        source, target = bytes(part[12:16]), bytes(part[16:20])
    at = start + (16 if protocol == _TCP_PROTOCOL else 6)
    if len(part) < at + 2:
        raise WireError("transport header cut short", start, "checksum", RFC)
    if protocol == _UDP_PROTOCOL:
        part[start + 4 : start + 6] = (len(part) - start).to_bytes(2)
    part[at : at + 2] = b"\0\0"
    part[at : at + 2] = transport_checksum(source, target, protocol, part[start:]).to_bytes(2)
    return bytes(part)
