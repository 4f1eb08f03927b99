"""Looking into captured frames: what the checks of a lab need to know of one, read independently of the data plane."""

from __future__ import annotations

from typing import NamedTuple

from stack.addr import LabelStack

__all__ = ["Seen", "look"]

_VLAN, _IPV4, _IPV6, _MPLS = 0x8100, 0x0800, 0x86DD, 0x8847
_GRE, _MPLS_IN_IP, _ICMP, _ICMP6 = 47, 137, 1, 58
_ECHO = {(4, 8), (4, 0), (6, 128), (6, 129)}


class Seen(NamedTuple):
    """`ethertype` of the frame; `outer` (source, destination) of the IP header that is outermost; `gre` protocol type (-1:
    no GRE), its `key`; `labels`, top first; `inner` (source, destination) of the innermost IP header, and the size of an
    ICMP echo in it (-1: something else)."""

    ethertype: int
    outer: tuple[bytes, bytes] = (b"", b"")
    protocol: int = -1
    gre: int = -1
    key: int | None = None
    labels: LabelStack = ()
    inner: tuple[bytes, bytes] = (b"", b"")
    echo: int = -1


def look(frame: bytes) -> Seen:
    """Any octets give an answer; what is cut short says nothing of its inside."""
    ethertype, offset = int.from_bytes(frame[12:14]), 14
    if ethertype == _VLAN:
        ethertype, offset = int.from_bytes(frame[16:18]), 18
    if ethertype == _MPLS:
        labels, offset = _labels(frame, offset)
        addresses, _, echo = _ip(frame[offset:])
        return Seen(ethertype, labels=labels, inner=addresses, echo=echo)
    if ethertype not in (_IPV4, _IPV6):
        return Seen(ethertype)
    packet = frame[offset:]
    addresses, protocol, echo = _ip(packet)
    seen = Seen(ethertype, addresses, protocol, inner=addresses, echo=echo)
    if protocol not in (_GRE, _MPLS_IN_IP) or ethertype != _IPV4:
        return seen
    return _tunnelled(seen, packet[(packet[0] & 15) * 4 :])


def _tunnelled(seen: Seen, packet: bytes) -> Seen:
    gre, key = -1, None
    if seen.protocol == _GRE:
        flags, gre = int.from_bytes(packet[:2]), int.from_bytes(packet[2:4])
        at = 8 if flags & 0x8000 else 4
        if flags & 0x2000:
            key = int.from_bytes(packet[at : at + 4])
            at += 4
        packet = packet[at + (4 if flags & 0x1000 else 0) :]
    labels: LabelStack = ()
    if gre == _MPLS or seen.protocol == _MPLS_IN_IP:
        labels, offset = _labels(packet, 0)
        packet = packet[offset:]
    addresses, _, echo = _ip(packet)
    return seen._replace(gre=gre, key=key, labels=labels, inner=addresses, echo=echo)


def _labels(octets: bytes, offset: int) -> tuple[LabelStack, int]:
    labels: list[int] = []
    while offset + 4 <= len(octets) and len(labels) < 16:
        entry = int.from_bytes(octets[offset : offset + 4])
        labels.append(entry >> 12)
        offset += 4
        if entry & 0x100:
            break
    return tuple(labels), offset


def _ip(packet: bytes) -> tuple[tuple[bytes, bytes], int, int]:
    """(addresses, protocol, size of an echo's data or -1)."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        at = (packet[0] & 15) * 4
        end = int.from_bytes(packet[2:4])
        addresses, protocol = (packet[12:16], packet[16:20]), packet[9]
    elif version == 6 and len(packet) >= 40:
        at, end = 40, 40 + int.from_bytes(packet[4:6])
        addresses, protocol = (packet[8:24], packet[24:40]), packet[6]
    else:
        return (b"", b""), -1, -1
    is_echo = protocol in (_ICMP, _ICMP6) and len(packet) > at and (version, packet[at]) in _ECHO
    return addresses, protocol, end - at - 8 if is_echo else -1
