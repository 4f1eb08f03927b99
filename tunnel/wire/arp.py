"""ARP for IPv4 over Ethernet: octets <-> values (RFC 826)."""

from __future__ import annotations

from attrs import frozen

from stack.wire import Reader

__all__ = ["REPLY", "REQUEST", "Arp", "decode", "encode"]

RFC = "RFC 826"
REQUEST, REPLY = 1, 2
_ETHERNET_IPV4 = bytes.fromhex("0001 0800 06 04")


@frozen
class Arp:
    """MACs of 6 octets, addresses of 4. `operation` 1 asks, 2 answers; others are passed through."""

    operation: int
    sender_mac: bytes
    sender: bytes
    target_mac: bytes
    target: bytes


#  +--------+--------+--------+--------+
#  | hardware type   | protocol type   |   1, 0x0800
#  | hlen   | plen   | operation       |   6, 4
#  | sender MAC (6), sender address (4)|
#  | target MAC (6), target address (4)|
#  +--------+--------+--------+--------+
def decode(octets: bytes | memoryview) -> Arp:
    """The ARP packet at the start of `octets`; the rest is padding of the frame. Raises WireError."""
    reader = Reader.of(octets, RFC)
    if reader.take(6, "types and lengths") != _ETHERNET_IPV4:
        raise reader.fail("not IPv4 over Ethernet", "types and lengths", back=6)
    return Arp(
        reader.uint(2, "operation"),
        reader.take(6, "sender MAC"),
        reader.take(4, "sender address"),
        reader.take(6, "target MAC"),
        reader.take(4, "target address"),
    )


def encode(packet: Arp) -> bytes:
    operation = packet.operation.to_bytes(2)
    return _ETHERNET_IPV4 + operation + packet.sender_mac + packet.sender + packet.target_mac + packet.target
