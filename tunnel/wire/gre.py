"""GRE packets: octets <-> values (RFC 2784, with key and sequence number of RFC 2890)."""

from __future__ import annotations

from attrs import frozen

from stack.wire import Reader, WireError, internet_checksum

__all__ = ["IPV4", "IPV6", "MPLS", "MPLS_MULTICAST", "NHRP", "Gre", "decode", "encode"]

RFC = "RFC 2784 2.1"
IPV4, IPV6, MPLS, MPLS_MULTICAST, NHRP = 0x0800, 0x86DD, 0x8847, 0x8848, 0x2001

_CHECKSUM, _KEY, _SEQUENCE = 0x8000, 0x2000, 0x1000
_MUST_BE_ZERO = 0x4C00
_VERSION = 0x0007


@frozen
class Gre:
    """What is behind the outer IPv4 header. `protocol` is an EtherType. `key` and `sequence` are 32 bits, or absent."""

    protocol: int
    payload: bytes
    key: int | None = None
    sequence: int | None = None
    checksum: bool = False


#   0                   1                   2                   3
#   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |C| |K|S| Reserved0       | Ver |         Protocol Type         |
#  |      Checksum (optional)      |       Reserved1 (Optional)    |
#  |                         Key (optional)                        |
#  |                 Sequence Number (optional)                    |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def decode(octets: bytes | memoryview) -> Gre:
    """The GRE header and all that follows it. Raises WireError.

    "a receiver MUST discard a packet where any of bits 1-5 are non-zero" (RFC 2784 2.3), of which RFC 2890 has given
    bits 2 and 3 a meaning; bits 6-12 are ignored.
    """
    reader = Reader.of(octets, RFC)
    flags, protocol = reader.uint(2, "flags"), reader.uint(2, "protocol type")
    if flags & _VERSION:
        raise WireError(f"version {flags & _VERSION}, not 0", 0, "version", "RFC 2784 2.3.1")
    if flags & _MUST_BE_ZERO:
        raise WireError(f"reserved bits {flags & _MUST_BE_ZERO:#06x}", 0, "flags", "RFC 2784 2.3")
    if flags & _CHECKSUM:
        reader.take(4, "checksum")
        if internet_checksum(bytes(octets)):
            raise WireError("wrong", 4, "checksum", "RFC 2784 2.5")
    key = reader.uint(4, "key") if flags & _KEY else None
    sequence = reader.uint(4, "sequence number") if flags & _SEQUENCE else None
    return Gre(protocol, reader.rest(), key, sequence, bool(flags & _CHECKSUM))


def encode(packet: Gre) -> bytes:
    flags = (
        (_CHECKSUM if packet.checksum else 0)
        | (_KEY if packet.key is not None else 0)
        | (_SEQUENCE if packet.sequence is not None else 0)
    )
    rest = b"".join(field.to_bytes(4) for field in (packet.key, packet.sequence) if field is not None) + packet.payload
    head = flags.to_bytes(2) + packet.protocol.to_bytes(2)
    if not packet.checksum:
        return head + rest
    return head + internet_checksum(head + bytes(4) + rest).to_bytes(2) + bytes(2) + rest
