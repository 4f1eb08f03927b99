"""ESP packets: octets <-> values (RFC 4303 2), and UDP around them (RFC 3948). Encryption is the packet path's."""

from __future__ import annotations

from attrs import frozen

from stack.wire import Reader, WireError

__all__ = ["ANY_IPV4", "DUMMY", "KEEPALIVE", "PADS", "Esp", "Inner", "decode", "encode", "strip", "trailer"]

RFC = "RFC 4303 2"
ANY_IPV4, DUMMY = 4, 59
"""Next headers: a whole IPv4 packet (tunnel mode), and a packet that means nothing (RFC 4303 2.6)."""

KEEPALIVE = b"\xff"
"""The payload of a NAT keepalive (RFC 3948 2.3)."""

PADS = tuple(bytes(range(1, n + 1)) for n in range(256))
"""The padding of each length: "the first padding byte appended to the plaintext is numbered 1" (RFC 4303 2.4)."""


@frozen
class Esp:
    """`rest`: IV, encrypted payload and ICV, whose sizes only the security association tells."""

    spi: int
    sequence: int
    rest: bytes


@frozen
class Inner:
    """What was encrypted, without padding."""

    next_header: int
    payload: bytes


#   0                   1                   2                   3
#   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |               Security Parameters Index (SPI)                 |
#  |                      Sequence Number                          |
#  |                    Payload Data (variable)                    |
#  |               |     Padding (0-255 bytes)                     |
#  |                               |  Pad Length   | Next Header   |
#  |         Integrity Check Value-ICV   (variable)                |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def decode(octets: bytes | memoryview) -> Esp:
    """What is behind an IPv4 or UDP header. Raises WireError."""
    reader = Reader.of(octets, RFC)
    spi, sequence = reader.uint(4, "SPI"), reader.uint(4, "sequence number")
    if not spi:
        raise WireError("0 is reserved", 0, "SPI", "RFC 4303 2.1")
    return Esp(spi, sequence, reader.rest())


def encode(packet: Esp) -> bytes:
    return packet.spi.to_bytes(4) + packet.sequence.to_bytes(4) + packet.rest


def trailer(size: int, block: int, next_header: int) -> bytes:
    """Padding, pad length and next header behind a payload of `size` octets: up to a multiple of `block`, which is 4 at
    least (RFC 4303 2.4: "the resulting ciphertext terminates on a 4-byte boundary")."""
    pad = -(size + 2) % block
    return PADS[pad] + bytes((pad, next_header))


def strip(octets: bytes) -> Inner:
    """The payload that was encrypted. Raises WireError."""
    if len(octets) < 2:
        raise WireError("no room for a trailer", len(octets), "pad length", RFC)
    pad = octets[-2]
    end = len(octets) - 2 - pad
    if end < 0:
        raise WireError(f"{pad} octets of padding in {len(octets)}", len(octets) - 2, "pad length", "RFC 4303 2.5")
    if octets[end:-2] != PADS[pad]:
        raise WireError("not 1, 2, 3, ...", end, "padding", "RFC 4303 2.4")
    return Inner(octets[-1], octets[:end])
