"""`Update` -> UPDATE octets, and routes into as few UPDATEs as hold them.

RFC 7606 5.1: MP_REACH_NLRI or MP_UNREACH_NLRI SHALL be the first attribute, and what `encode_updates` makes has only
one field with routes a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attrs import frozen

from bgp.wire.as4 import narrow
from bgp.wire.attributes import Attributes
from bgp.wire.errors import DoesNotFitError
from bgp.wire.family import IPV4_UNICAST, Family, Nlri
from bgp.wire.framing import frame
from bgp.wire.messages import MessageType, Reach, Session, Unreach, Update
from bgp.wire.nlri import FamilyRow, row_of, write_reach, write_unreach

__all__ = ["Packed", "encode_end_of_rib", "encode_update", "encode_updates", "encode_withdrawals"]

_BODY = 23
"""Octets of an UPDATE without withdrawn routes, attributes and NLRI."""


@frozen
class Packed:
    """Whole messages to send in this order; `suppressed` are the routes that fit in none, `reason` says why (B11)."""

    messages: tuple[bytes, ...] = ()
    suppressed: tuple[Nlri, ...] = ()
    reason: DoesNotFitError | None = None


def encode_updates(
    family: Family,
    attributes: Attributes,
    next_hop: bytes,
    routes: Sequence[Nlri],
    session: Session,
    *,
    link_local: bytes = b"",
) -> Packed:
    """UPDATEs that announce `routes`, all with `attributes` and `next_hop` (4 or 16 octets; the VPN RD is added here).

    Never truncates, never overflows: what cannot be sent is in `suppressed`. Raises KeyError for a family that is not
    in FAMILIES and OverflowError for a label of more than 20 bits.
    """
    row = row_of(family)
    fit, misfit = _with_labels(routes, row, session)
    written = write_reach(fit, row, addpath=family in session.addpath)
    octets = _octets(attributes, session)
    if family == IPV4_UNICAST and len(next_hop) == 4:
        attribute_octets = _with_next_hop(octets, next_hop)
        room = session.limit - _BODY - len(attribute_octets)
        head = b"\0\0" + len(attribute_octets).to_bytes(2) + attribute_octets if room >= 0 else b""
        bodies, left = _fill(written, room, lambda nlri: head + nlri)
    else:
        fixed = _reach_head(row, next_hop, link_local)
        room = session.limit - _BODY - len(octets) - len(fixed) - 4
        bodies, left = _fill(written, room, lambda nlri: _attributes_field(_mp(14, fixed + nlri) + octets))
    messages = tuple(frame(MessageType.UPDATE, body) for body in bodies)
    suppressed = (*(fit[at] for at in left), *misfit)
    if not suppressed:
        return Packed(messages)
    if left:
        needed = session.limit - room + max(len(written[at]) for at in left)
        return Packed(messages, suppressed, DoesNotFitError(f"{family} UPDATE", needed, session.limit))
    deepest = max(len(route.labels) for route in misfit)
    return Packed(messages, suppressed, DoesNotFitError(f"{family} label stack", 3 * deepest, 3))


def encode_withdrawals(family: Family, routes: Sequence[Nlri], session: Session) -> tuple[bytes, ...]:
    """UPDATEs that withdraw `routes`; their labels do not matter (RFC 8277 2.4). Raises KeyError as above."""
    row = row_of(family)
    written = write_unreach(routes, row, addpath=family in session.addpath)
    if family == IPV4_UNICAST:
        bodies, _ = _fill(written, session.limit - _BODY, lambda nlri: len(nlri).to_bytes(2) + nlri + b"\0\0")
    else:
        room = session.limit - _BODY - 4 - 3
        bodies, _ = _fill(written, room, lambda nlri: _attributes_field(_mp(15, row.code + nlri)))
    return tuple(frame(MessageType.UPDATE, body) for body in bodies)


def encode_end_of_rib(family: Family) -> bytes:
    """RFC 4724 2: an empty UPDATE for IPv4 unicast, else one with nothing but an empty MP_UNREACH_NLRI."""
    if family == IPV4_UNICAST:
        return frame(MessageType.UPDATE, bytes(4))
    value = family.afi.to_bytes(2) + bytes((family.safi,))
    return frame(MessageType.UPDATE, _attributes_field(_mp(15, value)))


def encode_update(update: Update, session: Session) -> bytes:
    """One UPDATE message of any length up to 65535. Raises DoesNotFitError past that, ValueError if one cannot say it.

    `errors` are not encoded. One MP_REACH and one MP_UNREACH attribute are all that a message can hold.
    """
    if not (update.reach or update.unreach or update.attributes or update.opaque):
        raise ValueError("an UPDATE of nothing would be read as an End-of-RIB")
    withdrawn, mp_withdrawn = _unreach_fields(update.unreach, session)
    nlri, next_hop, mp_reached = _reach_fields(update.reach, session)
    mp = [*mp_reached, *mp_withdrawn, *(_mp(one.code, one.value) for one in update.opaque)]
    if len({octets[1] for octets in mp}) != len(mp):
        raise ValueError("routes of more families than one UPDATE can hold")
    octets = b"" if update.attributes is None else _octets(update.attributes, session)
    octets = b"".join(mp) + (_with_next_hop(octets, next_hop) if next_hop else octets)
    needed = _BODY + len(withdrawn) + len(octets) + len(nlri)
    if needed > session.limit:
        raise DoesNotFitError("UPDATE", needed, session.limit)
    body = len(withdrawn).to_bytes(2) + withdrawn + len(octets).to_bytes(2) + octets + nlri
    return frame(MessageType.UPDATE, body)


def _reach_fields(reach: Iterable[Reach], session: Session) -> tuple[bytes, bytes, list[bytes]]:
    """(the NLRI field, the NEXT_HOP it needs, MP_REACH attributes)."""
    field, next_hop, mp = b"", b"", []
    for one in reach:
        row = row_of(one.family)
        if _with_labels(one.routes, row, session)[1]:
            raise ValueError("a label stack that the session does not allow")
        written = b"".join(write_reach(one.routes, row, addpath=one.family in session.addpath))
        if one.family == IPV4_UNICAST and len(one.next_hop) == 4 and not next_hop:
            field, next_hop = written, one.next_hop
        else:
            mp.append(_mp(14, _reach_head(row, one.next_hop, one.link_local) + written))
    return field, next_hop, mp


def _unreach_fields(unreach: Iterable[Unreach], session: Session) -> tuple[bytes, list[bytes]]:
    """(the withdrawn routes field, MP_UNREACH attributes)."""
    field, mp = b"", []
    for one in unreach:
        row = row_of(one.family)
        written = b"".join(write_unreach(one.routes, row, addpath=one.family in session.addpath))
        if one.family == IPV4_UNICAST:
            field += written
        else:
            mp.append(_mp(15, row.code + written))
    return field, mp


def _octets(attributes: Attributes, session: Session) -> bytes:
    """The set as the peer takes it; the two-octet form is kept with the set."""
    if session.asn4:
        return attributes.octets
    if attributes.narrow is None:
        attributes.narrow = narrow(attributes)
    return attributes.narrow


def _with_next_hop(octets: bytes, next_hop: bytes) -> bytes:
    """NEXT_HOP put where its code belongs (RFC 4271 5: attributes SHOULD be in ascending order)."""
    at = 0
    while at < len(octets) and octets[at + 1] < 3:
        at += 4 + int.from_bytes(octets[at + 2 : at + 4]) if octets[at] & 0x10 else 3 + octets[at + 2]
    return octets[:at] + b"\x40\3\4" + next_hop + octets[at:]


def _reach_head(row: FamilyRow, next_hop: bytes, link_local: bytes) -> bytes:
    """MP_REACH_NLRI up to its NLRI: AFI, SAFI, next hop length, next hop, reserved."""
    family = row.family
    rd = bytes(8) if family.vpn else b""
    octets = rd + next_hop + (rd + link_local if link_local else b"")
    if len(octets) not in row.next_hops:
        raise ValueError(f"a next hop of {len(octets)} octets for {family}")
    return row.code + bytes((len(octets),)) + octets + b"\0"


def _mp(code: int, value: bytes) -> bytes:
    if len(value) > 0xFFFF:
        raise DoesNotFitError(f"attribute {code}", len(value), 0xFFFF)
    if len(value) > 255:
        return bytes((0x90, code)) + len(value).to_bytes(2) + value
    return bytes((0x80, code, len(value))) + value


def _attributes_field(octets: bytes) -> bytes:
    return b"\0\0" + len(octets).to_bytes(2) + octets


def _fill(written: Sequence[bytes], room: int, wrap: Callable[[bytes], bytes]) -> tuple[list[bytes], list[int]]:
    """Message bodies that hold `written` in order, `room` octets of it each; and which of it is longer than that."""
    if sum(map(len, written)) <= room:
        return ([wrap(b"".join(written))] if written else []), []
    bodies: list[bytes] = []
    left: list[int] = []
    chunk: list[bytes] = []
    used = 0
    for at, octets in enumerate(written):
        size = len(octets)
        if size > room:
            left.append(at)
            continue
        if used + size > room:
            bodies.append(wrap(b"".join(chunk)))
            chunk, used = [], 0
        chunk.append(octets)
        used += size
    if chunk:
        bodies.append(wrap(b"".join(chunk)))
    return bodies, left


def _with_labels(routes: Sequence[Nlri], row: FamilyRow, session: Session) -> tuple[Sequence[Nlri], Sequence[Nlri]]:
    """(routes, none): RFC 8277 2.2 wants one label unless more were agreed; those with others come second."""
    if not row.before:
        return routes, ()
    if all(len(route.labels) == 1 for route in routes):
        return routes, ()
    most = 255 // 24 if session.multiple_labels else 1
    fit = [route for route in routes if _depth_fits(route, row, most)]
    return fit, [route for route in routes if not _depth_fits(route, row, most)]


def _depth_fits(route: Nlri, row: FamilyRow, most: int) -> bool:
    depth = len(route.labels)
    return 0 < depth <= most and row.overhead + 24 * (depth - 1) + route.key[-1] <= 255
