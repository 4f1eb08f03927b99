"""The message header: where a message ends in a stream (RFC 4271 4.1), and what is wrong with it (6.1).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                     Marker: 16 octets, all ones               |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|          Length               |      Type     |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from __future__ import annotations

from bgp.wire.errors import ErrorCode, HeaderSubcode, MessageError
from bgp.wire.messages import LIMIT, MessageType, Session

__all__ = ["HEADER_SIZE", "MARKER", "frame", "split"]

MARKER = b"\xff" * 16
HEADER_SIZE = 19
_SHORTEST = {1: 29, 2: 23, 3: 21, 4: 19, 5: 19}
"""Message type -> shortest length. A short ROUTE-REFRESH is that message's own error (RFC 7313 5)."""
_NOT_EXTENDED = (MessageType.OPEN, MessageType.KEEPALIVE)
"""RFC 8654 4: only UPDATE, NOTIFICATION and ROUTE-REFRESH may be longer than 4096 octets."""


def split(buffer: bytes | bytearray | memoryview, session: Session, offset: int = 0) -> int | None:
    """The length of the message that starts at `offset`, or None while it is not whole.

    Raises MessageError as soon as the octets that are there cannot become a message.
    """
    left = len(buffer) - offset
    if left < HEADER_SIZE:
        _check_marker(buffer, offset)
        return None
    if buffer[offset : offset + 16] != MARKER:
        _check_marker(buffer, offset)
    length = buffer[offset + 16] << 8 | buffer[offset + 17]
    kind = buffer[offset + 18]
    shortest = _SHORTEST.get(kind)
    if length < HEADER_SIZE or length > session.limit:
        raise _bad_length(length, f"{HEADER_SIZE} to {session.limit}")
    if shortest is None:
        raise MessageError(
            f"type {kind}", 18, "type", "RFC 4271 6.1", ErrorCode.HEADER, HeaderSubcode.BAD_TYPE, bytes((kind,))
        )
    if length < shortest:
        raise _bad_length(length, f"at least {shortest}")
    if kind == MessageType.KEEPALIVE and length != HEADER_SIZE:
        raise _bad_length(length, f"{HEADER_SIZE}")
    if length > LIMIT and kind in _NOT_EXTENDED:
        raise _bad_length(length, f"at most {LIMIT}")
    return length if length <= left else None


def _check_marker(buffer: bytes | bytearray | memoryview, offset: int) -> None:
    marker = bytes(buffer[offset : offset + 16])
    if not MARKER.startswith(marker):
        at = next(at for at, octet in enumerate(marker) if octet != 0xFF)
        raise MessageError(
            f"{marker[at]:#04x}, not all ones",
            at,
            "marker",
            "RFC 4271 6.1",
            ErrorCode.HEADER,
            HeaderSubcode.NOT_SYNCHRONIZED,
        )


def _bad_length(length: int, wanted: str) -> MessageError:
    return MessageError(
        f"{length}, {wanted} wanted",
        16,
        "length",
        "RFC 4271 6.1",
        ErrorCode.HEADER,
        HeaderSubcode.BAD_LENGTH,
        length.to_bytes(2),
    )


def frame(kind: int, body: bytes) -> bytes:
    """A whole message of a body that fits in 65535 - 19 octets."""
    return MARKER + (HEADER_SIZE + len(body)).to_bytes(2) + bytes((kind,)) + body
