"""One row an attribute: its flags, its length rule, its own check, and what a fault in it costs (RFC 7606 7).

A row's checks run on octets in place and give the reason as text, or None. They are the only place that knows what a
well-formed attribute is, so `Attributes` may read values without looking twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bgp.wire.attributes import AttributeCode
from bgp.wire.errors import Action, UpdateSubcode
from bgp.wire.messages import Session

__all__ = ["ROWS", "AttributeRow", "Check"]

Check = Callable[[bytes, int, int, Session], str | None]
"""(message, start, end of the value, session) -> what is wrong."""


class AttributeRow(NamedTuple):
    """`flags & mask` must be `flags`. `size` is the exact length, or -1 for one that `check` looks after.

    `malformed` and `flagged` are the actions for a bad value and bad flags. `internal`: not for eBGP, where it is
    discarded whatever it holds. `as4`: meant for a two-octet session only. The Partial bit is part of the mask where
    RFC 4271 4.3 wants it zero: in well-known and in optional non-transitive attributes. See `length` for `old_size`.
    """

    code: AttributeCode
    mask: int
    flags: int
    size: int
    check: Check | None
    malformed: Action
    flagged: Action
    subcode: UpdateSubcode
    rfc: str
    internal: bool = False
    old_size: int = -1
    as4: bool = False

    def length(self, session: Session) -> int:
        """The exact length on this session, -1 for one that `check` looks after; `old_size` with two-octet AS numbers."""
        return self.size if session.asn4 or self.old_size < 0 else self.old_size

    def fits(self, size: int, session: Session) -> bool:
        return self.length(session) in (size, -1)


def _origin(octets: bytes, at: int, _end: int, _session: Session) -> str | None:
    return None if octets[at] <= 2 else f"undefined origin {octets[at]}"


#  AS_PATH: segments of
# +---------------+---------------+--------------------------------------
# | segment type  | AS count >= 1 | AS numbers, 2 octets each, or 4 (RFC 6793)
# +---------------+---------------+--------------------------------------


def _as_path(octets: bytes, at: int, end: int, session: Session) -> str | None:
    """RFC 7606 7.2, and from other ASes RFC 5065 5 (confederation segments) and RFC 9774 3 (sets)."""
    width = 4 if session.asn4 else 2
    while at < end:
        if end - at < 2:
            return "one octet left where a segment should begin"
        kind = octets[at]
        after = at + 2 + octets[at + 1] * width
        if after > end or after == at + 2:
            return f"segment of {octets[at + 1]} AS numbers with {end - at - 2} octets left"
        if kind != 2:
            if not 1 <= kind <= 4:
                return f"undefined segment type {kind}"
            if session.ebgp:
                return "a set or a confederation segment from another AS"
        if octets.find(b"\0\0", at + 2, after) >= 0 and _has_zero(octets, at + 2, after, width):
            return "AS 0"
        at = after
    return None


def _as4_path(octets: bytes, at: int, end: int, _session: Session) -> str | None:
    """RFC 6793 6, RFC 7607 2."""
    if end == at:
        return "empty"
    while at < end:
        if end - at < 2:
            return "one octet left where a segment should begin"
        after = at + 2 + octets[at + 1] * 4
        if after > end or after == at + 2:
            return f"segment of {octets[at + 1]} AS numbers with {end - at - 2} octets left"
        if not 1 <= octets[at] <= 4:
            return f"undefined segment type {octets[at]}"
        if _has_zero(octets, at + 2, after, 4):
            return "AS 0"
        at = after
    return None


def _has_zero(octets: bytes, at: int, end: int, width: int) -> bool:
    """Whether one of the AS numbers is 0 (RFC 7607 2: MUST be considered malformed)."""
    zero = bytes(width)
    return any(octets[one : one + width] == zero for one in range(at, end, width))


def _aggregator(octets: bytes, at: int, end: int, _session: Session) -> str | None:
    return None if any(octets[at : end - 4]) else "AS 0"


def _multiple_of(size: int) -> Check:
    def check(_octets: bytes, at: int, end: int, _session: Session) -> str | None:
        length = end - at
        return None if length and not length % size else f"length {length} is no multiple of {size} above 0"

    return check


#  TUNNEL_ENCAPSULATION: tunnel TLVs, each of sub-TLVs whose length takes one octet below type 128, two from there on
# +----------------+----------------+---------------------------------------------------------
# | tunnel type, 2 | length, 2      | sub-TLVs: type 1, length 1 or 2, value
# +----------------+----------------+---------------------------------------------------------


def _tunnel_encapsulation(octets: bytes, at: int, end: int, _session: Session) -> str | None:
    """RFC 9012 13: the last octet of a TLV MUST also be the last octet of its last sub-TLV; there MUST be a TLV."""
    if at == end:
        return "no tunnel TLV"
    while at < end:
        if end - at < 4:
            return f"{end - at} octets left for a tunnel TLV header"
        after = at + 4 + int.from_bytes(octets[at + 2 : at + 4])
        if after > end:
            return f"tunnel TLV of {after - at - 4} octets with {end - at - 4} left"
        at += 4
        while at < after:
            head = 3 if octets[at] >= 128 else 2
            if after - at < head:
                return f"{after - at} octets left for a sub-TLV header"
            size = int.from_bytes(octets[at + 1 : at + head])
            if at + head + size > after:
                return f"sub-TLV of {size} octets with {after - at - head} left in its tunnel TLV"
            at += head + size
    return None


_A = AttributeCode
_S = UpdateSubcode
_WITHDRAW, _DISCARD = Action.TREAT_AS_WITHDRAW, Action.ATTRIBUTE_DISCARD
_WELL_KNOWN = (0xE0, 0x40)
_NON_TRANSITIVE = (0xE0, 0x80)
_TRANSITIVE = (0xC0, 0xC0)
_LENGTH, _OPTIONAL = _S.ATTRIBUTE_LENGTH, _S.OPTIONAL_ATTRIBUTE

_TABLE = (
    AttributeRow(_A.ORIGIN, *_WELL_KNOWN, 1, _origin, _WITHDRAW, _WITHDRAW, _S.INVALID_ORIGIN, "RFC 7606 7.1"),
    AttributeRow(_A.AS_PATH, *_WELL_KNOWN, -1, _as_path, _WITHDRAW, _WITHDRAW, _S.MALFORMED_AS_PATH, "RFC 7606 7.2"),
    AttributeRow(_A.NEXT_HOP, *_WELL_KNOWN, 4, None, _WITHDRAW, _WITHDRAW, _LENGTH, "RFC 7606 7.3"),
    AttributeRow(_A.MULTI_EXIT_DISC, *_NON_TRANSITIVE, 4, None, _WITHDRAW, _WITHDRAW, _LENGTH, "RFC 7606 7.4"),
    AttributeRow(_A.LOCAL_PREF, *_WELL_KNOWN, 4, None, _WITHDRAW, _WITHDRAW, _LENGTH, "RFC 7606 7.5", internal=True),
    AttributeRow(_A.ATOMIC_AGGREGATE, *_WELL_KNOWN, 0, None, _DISCARD, _DISCARD, _LENGTH, "RFC 7606 7.6"),
    AttributeRow(_A.AGGREGATOR, *_TRANSITIVE, 8, _aggregator, _DISCARD, _DISCARD, _LENGTH, "RFC 7606 7.7", old_size=6),
    AttributeRow(_A.COMMUNITIES, *_TRANSITIVE, -1, _multiple_of(4), _WITHDRAW, _WITHDRAW, _OPTIONAL, "RFC 7606 7.8"),
    AttributeRow(
        _A.ORIGINATOR_ID, *_NON_TRANSITIVE, 4, None, _WITHDRAW, _WITHDRAW, _LENGTH, "RFC 7606 7.9", internal=True
    ),
    AttributeRow(
        _A.CLUSTER_LIST,
        *_NON_TRANSITIVE,
        -1,
        _multiple_of(4),
        _WITHDRAW,
        _WITHDRAW,
        _LENGTH,
        "RFC 7606 7.10",
        internal=True,
    ),
    # What is inside these two is read after the walk, when it is known which routes there are (RFC 7606 7.11, 7.12).
    AttributeRow(_A.MP_REACH_NLRI, *_NON_TRANSITIVE, -1, None, _WITHDRAW, _WITHDRAW, _OPTIONAL, "RFC 7606 7.11"),
    AttributeRow(_A.MP_UNREACH_NLRI, *_NON_TRANSITIVE, -1, None, _WITHDRAW, _WITHDRAW, _OPTIONAL, "RFC 7606 7.12"),
    AttributeRow(
        _A.EXTENDED_COMMUNITIES, *_TRANSITIVE, -1, _multiple_of(8), _WITHDRAW, _WITHDRAW, _OPTIONAL, "RFC 7606 7.14"
    ),
    AttributeRow(_A.AS4_PATH, *_TRANSITIVE, -1, _as4_path, _DISCARD, _WITHDRAW, _OPTIONAL, "RFC 6793 6", as4=True),
    AttributeRow(
        _A.AS4_AGGREGATOR, *_TRANSITIVE, 8, _aggregator, _DISCARD, _WITHDRAW, _OPTIONAL, "RFC 6793 6", as4=True
    ),
    AttributeRow(
        _A.TUNNEL_ENCAPSULATION,
        *_TRANSITIVE,
        -1,
        _tunnel_encapsulation,
        _WITHDRAW,
        _WITHDRAW,
        _OPTIONAL,
        "RFC 9012 13",
    ),
    AttributeRow(
        _A.IPV6_EXTENDED_COMMUNITIES,
        *_TRANSITIVE,
        -1,
        _multiple_of(20),
        _WITHDRAW,
        _WITHDRAW,
        _OPTIONAL,
        "RFC 7606 7.15",
    ),
    AttributeRow(
        _A.LARGE_COMMUNITIES, *_TRANSITIVE, -1, _multiple_of(12), _WITHDRAW, _WITHDRAW, _OPTIONAL, "RFC 8092 6"
    ),
)
ROWS: dict[int, AttributeRow] = {int(row.code): row for row in _TABLE}
"""Attribute code -> row."""
