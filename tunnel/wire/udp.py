"""UDP datagrams: octets <-> values (RFC 768). Their checksum is zero, as of ESP in UDP (RFC 3948 2.1)."""

from __future__ import annotations

from attrs import frozen

from stack.wire import Reader, WireError

__all__ = ["Udp", "decode", "encode"]

RFC = "RFC 768"


@frozen
class Udp:
    source_port: int
    destination_port: int
    payload: bytes


def decode(octets: bytes | memoryview) -> Udp:
    """What is behind the IPv4 header; octets behind the datagram are left out. The checksum is not looked at: "receivers
    MUST NOT depend upon the UDP checksum being a zero value" (RFC 3948 2.1). Raises WireError."""
    reader = Reader.of(octets, RFC)
    source, destination = reader.uint(2, "source port"), reader.uint(2, "destination port")
    length = reader.uint(2, "length")
    reader.take(2, "checksum")
    if length < 8:
        raise WireError(f"{length}, below 8", 4, "length", RFC)
    return Udp(source, destination, reader.take(length - 8, "payload"))


def encode(datagram: Udp) -> bytes:
    head = datagram.source_port.to_bytes(2) + datagram.destination_port.to_bytes(2)
    return head + (8 + len(datagram.payload)).to_bytes(2) + bytes(2) + datagram.payload
