"""Ethernet II frames with at most one 802.1Q tag: octets <-> values (IEEE 802.3, 802.1Q)."""

from __future__ import annotations

from attrs import frozen

from stack.wire import Reader

__all__ = [
    "ARP",
    "BROADCAST",
    "DOT1Q",
    "IPV4",
    "IPV6",
    "MPLS",
    "MPLS_MULTICAST",
    "Ethernet",
    "decode",
    "encode",
    "head",
]

RFC = "IEEE 802.1Q 9.6"
IPV4, ARP, DOT1Q, IPV6, MPLS, MPLS_MULTICAST = 0x0800, 0x0806, 0x8100, 0x86DD, 0x8847, 0x8848
BROADCAST = b"\xff" * 6
_SMALLEST_ETHERTYPE = 0x0600


@frozen
class Ethernet:
    """One frame. `vlan` None: untagged; `priority` and `drop_eligible` come with a tag. `payload` keeps its padding."""

    destination: bytes
    source: bytes
    ethertype: int
    payload: bytes
    vlan: int | None = None
    priority: int = 0
    drop_eligible: bool = False


#  +----------------------+----------------------+---------------------------+---------+
#  |  destination MAC (6) |    source MAC (6)    | [0x8100 | PCP(3) DEI VID] |  type   |  payload ...
#  +----------------------+----------------------+---------------------------+---------+
def decode(octets: bytes | memoryview) -> Ethernet:
    """The frame in `octets`, without FCS. Raises WireError; an 802.3 length in place of the type is one."""
    reader = Reader.of(octets, RFC)
    destination, source = reader.take(6, "destination"), reader.take(6, "source")
    ethertype, vlan, priority, eligible = reader.uint(2, "type"), None, 0, False
    if ethertype == DOT1Q:
        tag = reader.uint(2, "tag")
        vlan, priority, eligible = tag & 0xFFF, tag >> 13, bool(tag & 0x1000)
        ethertype = reader.uint(2, "type")
    if ethertype < _SMALLEST_ETHERTYPE:
        raise reader.fail(f"{ethertype:#06x} is a length", "type", back=2, rfc="IEEE 802.3 3.2.6")
    return Ethernet(destination, source, ethertype, reader.rest(), vlan, priority, eligible)


def head(destination: bytes, source: bytes, vlan: int | None = None, priority: int = 0) -> bytes:
    """The frame's start, up to where the EtherType goes."""
    tag = b"" if vlan is None else b"\x81\x00" + (priority << 13 | vlan).to_bytes(2)
    return destination + source + tag


def encode(frame: Ethernet) -> bytes:
    start = frame.destination + frame.source
    if frame.vlan is not None:
        tag = frame.priority << 13 | frame.drop_eligible << 12 | frame.vlan
        start += DOT1Q.to_bytes(2) + tag.to_bytes(2)
    return start + frame.ethertype.to_bytes(2) + frame.payload
