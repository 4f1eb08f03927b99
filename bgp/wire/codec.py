"""decode and encode: one whole message."""

from __future__ import annotations

from bgp.wire.errors import DoesNotFitError, ErrorCode, HeaderSubcode, MessageError, RefreshSubcode
from bgp.wire.family import Family
from bgp.wire.framing import frame, split
from bgp.wire.messages import (
    Keepalive,
    Message,
    MessageType,
    Notification,
    Open,
    RouteRefresh,
    Session,
    Update,
)
from bgp.wire.open import decode_open, encode_open
from bgp.wire.pack import encode_update
from bgp.wire.update import decode_update

__all__ = ["decode", "encode"]

_KEEPALIVE = Keepalive()


def decode(octets: bytes, session: Session) -> Message:
    """One whole message. Raises MessageError, and nothing else, for octets that end the session."""
    octets = bytes(octets)  # slices of it become keys of tables; no copy if it is bytes already
    if split(octets, session) != len(octets):
        raise MessageError(
            f"{len(octets)} octets given, which is not the length they state",
            min(16, len(octets)),
            "length",
            "RFC 4271 6.1",
            ErrorCode.HEADER,
            HeaderSubcode.BAD_LENGTH,
            octets[16:18],
        )
    kind = octets[18]
    if kind == MessageType.UPDATE:
        return decode_update(octets, session)
    if kind == MessageType.KEEPALIVE:
        return _KEEPALIVE
    if kind == MessageType.OPEN:
        return decode_open(octets)
    if kind == MessageType.NOTIFICATION:
        return Notification(octets[19], octets[20], octets[21:])
    return _decode_route_refresh(octets)


def _decode_route_refresh(octets: bytes) -> RouteRefresh:
    """AFI 2, subtype 1 (reserved in RFC 2918), SAFI 1."""
    if len(octets) != 23:
        # RFC 7313 5: NOTIFICATION 7/1, whose data MUST be the whole message
        raise MessageError(
            f"{len(octets) - 19} octets, 4 wanted",
            19,
            "ROUTE-REFRESH",
            "RFC 7313 5",
            ErrorCode.REFRESH,
            RefreshSubcode.BAD_LENGTH,
            octets,
        )
    return RouteRefresh(Family(int.from_bytes(octets[19:21]), octets[22]), octets[21])


def encode(message: Message, session: Session) -> bytes:
    """One whole message. Raises DoesNotFitError if the session's limit does not hold it.

    For an `Update` see `encode_updates`, which splits; one that is no single message is a ValueError here. Notification
    data is cut to what fits: it is for people to read.
    """
    if isinstance(message, Update):
        octets = encode_update(message, session)
    elif isinstance(message, Keepalive):
        octets = frame(MessageType.KEEPALIVE, b"")
    elif isinstance(message, Open):
        octets = frame(MessageType.OPEN, encode_open(message))
    elif isinstance(message, Notification):
        room = session.limit - 21
        octets = frame(MessageType.NOTIFICATION, bytes((message.code, message.subcode)) + message.data[:room])
    else:
        family, subtype = message.family, message.subtype
        octets = frame(MessageType.ROUTE_REFRESH, family.afi.to_bytes(2) + bytes((subtype, family.safi)))
    if len(octets) > session.limit:
        raise DoesNotFitError(type(message).__name__, len(octets), session.limit)
    return octets
