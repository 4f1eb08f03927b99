"""The one place where a malformed packet becomes an Error Indication (RFC 2332 5.2.7)."""

from __future__ import annotations

from nhrp.wire.bounds import MOST_ECHOED
from nhrp.wire.codec import FIXED, HEADER
from nhrp.wire.packet import ErrorCode, Kind, Packet
from stack.wire import WireError

__all__ = ["error_of", "indication", "sender_of"]

_BY_FIELD = (
    ("header", None),
    ("authentication", ErrorCode.AUTHENTICATION_FAILURE),
    ("extension", ErrorCode.INVALID_EXTENSION),
)
"""How the field's name begins. `header`: there is not even a header to complain about."""


def error_of(error: WireError) -> ErrorCode | None:
    """What to tell the sender; None: nothing, the packet is dropped.

    RFC 2332 5.2.7: Protocol Error is "a generic packet processing error (e.g., invalid version number, invalid protocol type,
    failed checksum, etc.)".
    """
    for beginning, code in _BY_FIELD:
        if error.field.startswith(beginning):
            return code
    return ErrorCode.PROTOCOL_ERROR


def sender_of(octets: bytes) -> bytes:
    """Src proto of a packet that may be malformed, as far as it says itself how long it is; empty: it has none."""
    if len(octets) < HEADER:
        return b""
    start = HEADER + (octets[18] & 63) + (octets[19] & 63)
    size, whole = octets[20], int.from_bytes(octets[10:12])
    sender = octets[start : min(start + size, whole)]
    return bytes(sender) if len(sender) == size and size in (4, 16) else b""


def indication(
    code: int, offset: int, octets: bytes, source_nbma: bytes, source: bytes, sender: bytes | None = None
) -> Packet | None:
    """An Error Indication from us (`source_nbma`, `source`: our own addresses) to `sender` (None: whoever says that it sent
    `octets`).

    None where there must be none: the packet is an Error Indication (RFC 2332 5.1: one "is never sent as a result of receiving
    an error indication"); it says that we sent it, so it has come round; no sender can be read, or one of another family. What
    is quoted ends where the packet ends, as it says itself, and after MOST_ECHOED octets.
    """
    packet = octets[: int.from_bytes(octets[10:12])]
    if len(packet) < HEADER or packet[FIXED - 3] == Kind.ERROR_INDICATION or not source_nbma:
        return None
    if sender is None:
        sender = sender_of(octets)
    if not sender or len(sender) != len(source) or sender == source:
        return None
    return Packet(
        Kind.ERROR_INDICATION,
        source_nbma,
        source,
        sender,
        code=code,
        offset=min(offset, 0xFFFF),
        body=bytes(packet[:MOST_ECHOED]),
    )
