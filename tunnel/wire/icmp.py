"""ICMP of both families: echo, errors with the packet they are about, and the MPLS extension in them.

RFC 792, RFC 1191 (next-hop MTU), RFC 4443, RFC 4884 (multi-part messages), RFC 4950 (the label stack of the packet).
"""

from __future__ import annotations

from attrs import frozen

from stack.wire import Reader, WireError, internet_checksum
from tunnel.wire.checksum import transport_checksum

__all__ = [
    "ECHO",
    "ECHO6",
    "ECHO_REPLY",
    "ECHO_REPLY6",
    "PACKET_TOO_BIG6",
    "TIME_EXCEEDED",
    "TIME_EXCEEDED6",
    "UNREACHABLE",
    "UNREACHABLE6",
    "Error",
    "Extension",
    "Message",
    "decode",
    "decode6",
    "decode_error",
    "encode",
    "encode6",
    "encode_error",
    "is_error",
    "label_stack",
]

ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11
NETWORK_UNREACHABLE, HOST_UNREACHABLE, PROTOCOL_UNREACHABLE, FRAGMENTATION_NEEDED, PROHIBITED = 0, 1, 2, 4, 13
UNREACHABLE6, PACKET_TOO_BIG6, TIME_EXCEEDED6, ECHO6, ECHO_REPLY6 = 1, 2, 3, 128, 129
NO_ROUTE6, PROHIBITED6, ADDRESS_UNREACHABLE6 = 0, 1, 3
PARAMETER_PROBLEM6, NEXT_HEADER6 = 4, 1
ICMP, ICMP6 = 1, 58

_QUERIES = frozenset((0, 8, 9, 10, 13, 14, 15, 16, 17, 18))
_EXTENSIBLE = {4: frozenset((3, 11, 12)), 6: frozenset((1, 3))}
_PADDED = 128
_MPLS_CLASS, _INCOMING_STACK = 1, 1
_EXTENSION_VERSION = 2


@frozen
class Message:
    """Any message: `rest` is the second word (identifier and sequence of an echo), `body` what follows it."""

    kind: int
    code: int
    rest: bytes
    body: bytes


@frozen
class Extension:
    """One extension object (RFC 4884 7)."""

    number: int
    kind: int
    octets: bytes


@frozen
class Error:
    """An error: the start of the packet it is about, `mtu` where the message carries one, and extension objects."""

    kind: int
    code: int
    original: bytes
    mtu: int = 0
    extensions: tuple[Extension, ...] = ()


def is_error(kind: int, family: int) -> bool:
    """Whether a message of this type is an error, about which no error may be sent (RFC 1122 3.2.2, RFC 4443 2.4 e).

    In IPv6 types below 128 are errors (RFC 4443 2.1). In IPv4 every type that is no known query is taken for one.
    """
    return kind < 128 if family == 6 else kind not in _QUERIES


#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |     Type      |     Code      |          Checksum             |
#  |  echo: identifier, sequence;  error: unused, length, MTU      |
#  |  echo: data;  error: the packet it is about [, extension]     |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode(octets: bytes | memoryview, rfc: str) -> Message:
    reader = Reader.of(octets, rfc)
    kind, code = reader.uint(1, "type"), reader.uint(1, "code")
    reader.take(2, "checksum")
    return Message(kind, code, reader.take(4, "rest of header"), reader.rest())


def decode(octets: bytes | memoryview) -> Message:
    """An ICMPv4 message, checksum verified. Raises WireError."""
    message = _decode(octets, "RFC 792")
    if internet_checksum(bytes(octets)):
        raise WireError("wrong", 2, "checksum", "RFC 792")
    return message


def decode6(octets: bytes | memoryview, source: bytes, destination: bytes) -> Message:
    """An ICMPv6 message; its checksum covers the addresses (RFC 4443 2.3). Raises WireError."""
    message = _decode(octets, "RFC 4443 2.1")
    if transport_checksum(source, destination, ICMP6, bytes(octets)):
        raise WireError("wrong", 2, "checksum", "RFC 4443 2.3")
    return message


def _encode(message: Message, checksum: int) -> bytes:
    return bytes((message.kind, message.code)) + checksum.to_bytes(2) + message.rest + message.body


def encode(message: Message) -> bytes:
    return _encode(message, internet_checksum(_encode(message, 0)))


def encode6(message: Message, source: bytes, destination: bytes) -> bytes:
    return _encode(message, transport_checksum(source, destination, ICMP6, _encode(message, 0)))


def label_stack(octets: bytes) -> Extension:
    """The object that carries the label stack the packet came with; `octets` as on the wire (RFC 4950 2.1)."""
    return Extension(_MPLS_CLASS, _INCOMING_STACK, octets)


def encode_error(error: Error, family: int) -> Message:
    """The error as a message. With extensions the original is padded to 128 octets at least, and its length told
    (RFC 4884 3: "the 'original datagram' field MUST be zero padded to the nearest 32-bit [64-bit] boundary")."""
    if not error.extensions:
        return Message(error.kind, error.code, error.mtu.to_bytes(4), error.original)
    unit = 4 if family == 4 else 8
    original = error.original + bytes(max(_PADDED - len(error.original), -len(error.original) % unit))
    rest = bytearray(error.mtu.to_bytes(4))
    rest[1 if family == 4 else 0] = len(original) // unit
    return Message(error.kind, error.code, bytes(rest), original + _encode_extensions(error.extensions))


#   0                   1                   2                   3
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |Version|      (Reserved)       |           Checksum            |
#  |             Length            |   Class-Num   |   C-Type      |   one object, its payload follows
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _encode_extensions(extensions: tuple[Extension, ...]) -> bytes:
    objects = b"".join((len(e.octets) + 4).to_bytes(2) + bytes((e.number, e.kind)) + e.octets for e in extensions)
    head = bytes((_EXTENSION_VERSION << 4, 0))
    return head + internet_checksum(head + b"\0\0" + objects).to_bytes(2) + objects


def decode_error(message: Message, family: int) -> Error:
    """The error that `message` is. Raises WireError for extensions that break their format.

    A length of 0 means there is no extension: what RFC 4884 5.5 calls a non-compliant sender is not guessed at.
    """
    word = int.from_bytes(message.rest)
    length = message.rest[1] * 4 if family == 4 else message.rest[0] * 8
    if message.kind not in _EXTENSIBLE.get(family, ()):
        return Error(message.kind, message.code, message.body, word)
    mtu = word & 0xFFFF
    if not length:
        return Error(message.kind, message.code, message.body, mtu)
    reader = Reader.of(message.body, "RFC 4884 7")
    original = reader.take(length, "original datagram")
    return Error(message.kind, message.code, original, mtu, _decode_extensions(reader) if reader.left else ())


def _decode_extensions(reader: Reader) -> tuple[Extension, ...]:
    start = reader.offset
    version = reader.uint(1, "extension version") >> 4
    if version != _EXTENSION_VERSION:
        raise reader.fail(f"version {version}, not 2", "extension version", back=1)
    reader.take(1, "reserved")
    # "a checksum of all zeros means that no checksum was transmitted" (RFC 4884 7)
    if reader.uint(2, "checksum") and internet_checksum(bytes(reader.octets[start : reader.end])):
        raise reader.fail("wrong", "extension checksum", back=2)
    found: list[Extension] = []
    while reader.left:
        size = reader.uint(2, "object length")
        if size < 4:
            raise reader.fail(f"{size}, at least 4", "object length", back=2)
        number, kind = reader.uint(1, "class"), reader.uint(1, "c-type")
        found.append(Extension(number, kind, reader.take(size - 4, "object")))
    return tuple(found)
