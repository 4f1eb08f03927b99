"""UPDATE octets -> `Update`: which routes come and go, after RFC 7606 has been applied.

+-----------------------------------------------------+
|   Withdrawn Routes Length (2 octets)                |
+-----------------------------------------------------+
|   Withdrawn Routes (variable, IPv4 unicast)         |
+-----------------------------------------------------+
|   Total Path Attribute Length (2 octets)            |
+-----------------------------------------------------+
|   Path Attributes (variable; MP_REACH and MP_UNREACH|
|   hold the routes of all other families)            |
+-----------------------------------------------------+
|   Network Layer Reachability Information (variable) |
+-----------------------------------------------------+
"""

from __future__ import annotations

from functools import lru_cache

from attrs import define, field

from bgp.wire.attributes import AttributeCode, Attributes, RawAttribute
from bgp.wire.errors import Action, AttributeFault, ErrorCode, MessageError, UpdateSubcode
from bgp.wire.family import IPV4_UNICAST, Family, Nlri
from bgp.wire.messages import Reach, Session, Unreach, Update
from bgp.wire.nlri import FAMILY_ROWS, FamilyRow, read, row_of
from bgp.wire.scan import Scanned, scan
from stack.wire import WireError

__all__ = ["NEXT_HOP_CACHE", "decode_update"]

_IPV4 = row_of(IPV4_UNICAST)
_WITHDRAWN = 19
"""Where the body begins."""
_MP_CODES = (14, 15)
_END_OF_RIB = Update(unreach=(Unreach(IPV4_UNICAST),))
NEXT_HOP_CACHE = 4096
"""How many next hops are remembered by their octets."""


def decode_update(octets: bytes, session: Session) -> Update:
    """An UPDATE whose header was checked: at least 23 octets, its length right. Raises MessageError."""
    start, end = _bounds(octets)
    if start == end == len(octets) == _WITHDRAWN + 4:
        return _END_OF_RIB
    # RFC 7606 5.1: MP_REACH or MP_UNREACH comes first. What follows it is then the octets of the attribute set alone.
    at, first = start, None
    if end - start >= 4 and octets[start + 1] in _MP_CODES and octets[start] & 0xE0 == 0x80:
        head = 4 if octets[start] & 0x10 else 3
        size = octets[start + 2] if head == 3 else octets[start + 2] << 8 | octets[start + 3]
        if start + head + size <= end:
            at = start + head + size
            first = octets[start], octets[start + 1], start, start + head, at
    scanned = scan(octets, at, end, session)
    if first is not None and start == _WITHDRAWN + 4 and end == len(octets):
        update = _only_reach(octets, first, scanned, session)
        if update is not None:
            return update
    message = _Reading(octets, session, first)
    if start != _WITHDRAWN + 4:
        message.read_withdrawn(_WITHDRAWN + 2, start - 2)
    if message.first is not None or scanned.mp:
        message.read_multiprotocol(scanned)
    if end != len(octets):
        message.read_nlri(end, scanned)
    if scanned.faults or message.faults or not message.complete(scanned.present):
        message.apply(scanned)
    return message.result(scanned.attributes if scanned.attributes.octets else None)


def _only_reach(
    octets: bytes, first: tuple[int, int, int, int, int], scanned: Scanned, session: Session
) -> Update | None:
    """The same as `_Reading`, for MP_REACH alone and without a fault, which most UPDATEs are; None for all others."""
    _, code, _, value, after = first
    row = FAMILY_ROWS.get(octets[value : value + 3])
    needed = 0b000110 if session.ebgp else 0b100110
    if code != 14 or row is None or after - value < 5 or scanned.mp or scanned.faults:
        return None
    if scanned.present & needed != needed:
        return None
    size = octets[value + 3]
    nlri = value + 5 + size
    if size not in row.next_hops or nlri >= after:
        return None
    family = row.family
    next_hop, link_local, problem = _next_hop(octets[value + 4 : value + 4 + size], family)
    if problem:
        return None
    try:
        routes = read(octets, nlri, after, row, addpath=family in session.addpath, stacked=session.multiple_labels)
    except WireError:
        return None
    return Update(scanned.attributes, (Reach(family, next_hop, routes, link_local),))


def _bounds(octets: bytes) -> tuple[int, int]:
    """Where the path attributes begin and end. Lengths that do not fit in the message are 3/1 (RFC 4271 6.3)."""
    start = _WITHDRAWN + 4 + (octets[19] << 8 | octets[20])
    if start > len(octets):
        raise _malformed_list(f"{start - 23} octets of withdrawn routes", 19, "withdrawn routes length")
    end = start + (octets[start - 2] << 8 | octets[start - 1])
    if end > len(octets):
        raise _malformed_list(f"{end - start} octets of path attributes", start - 2, "total path attribute length")
    return start, end


def _malformed_list(what: str, offset: int, name: str) -> MessageError:
    subcode = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
    return MessageError(f"{what} run past the message", offset, name, "RFC 4271 6.3", ErrorCode.UPDATE, subcode)


@define
class _Reading:
    """What one UPDATE gave so far. Nothing leaves it before all of it was read, so nothing is half applied."""

    octets: bytes
    session: Session
    first: tuple[int, int, int, int, int] | None = None
    reach: list[Reach] = field(factory=list)
    unreach: list[Unreach] = field(factory=list)
    faults: list[AttributeFault] = field(factory=list)
    opaque: list[RawAttribute] = field(factory=list)
    plain: bool = False

    def result(self, attributes: Attributes | None) -> Update:
        return Update(attributes, tuple(self.reach), tuple(self.unreach), tuple(self.faults), tuple(self.opaque))

    def complete(self, present: int) -> bool:
        """Whether the well-known attributes that the routes need are there: ORIGIN, AS_PATH, LOCAL_PREF, NEXT_HOP."""
        if not self.reach:
            return True
        needed = 0b000110 | (0 if self.session.ebgp else 0b100000) | (0b001000 if self.plain else 0)
        return present & needed == needed

    # --- the fields --------------------------------------------------------------------------------------------------

    def read_withdrawn(self, start: int, end: int) -> None:
        routes = self._ipv4(start, end, withdrawn=True)
        self.unreach.append(Unreach(IPV4_UNICAST, routes))

    def read_nlri(self, start: int, scanned: Scanned) -> None:
        routes = self._ipv4(start, len(self.octets), withdrawn=False)
        next_hop = scanned.next_hop
        self.plain = True
        self.reach.append(Reach(IPV4_UNICAST, next_hop, routes))
        if next_hop:
            problem = _next_hop(next_hop, IPV4_UNICAST)[2]
            if problem:
                self._not_a_host(3, problem, start, next_hop, UpdateSubcode.INVALID_NEXT_HOP)

    def _ipv4(self, start: int, end: int, *, withdrawn: bool) -> tuple[Nlri, ...]:
        """RFC 7606 3(i), 3(j): if these cannot be parsed, session reset MUST be used; 3/10 (RFC 4271 6.3)."""
        addpath = IPV4_UNICAST in self.session.addpath
        try:
            return read(self.octets, start, end, _IPV4, addpath=addpath, stacked=False, withdrawn=withdrawn)
        except WireError as error:
            raise MessageError(
                error.what,
                error.offset,
                "withdrawn routes" if withdrawn else "NLRI",
                "RFC 7606 5.3",
                ErrorCode.UPDATE,
                UpdateSubcode.INVALID_NETWORK_FIELD,
            ) from None

    def read_multiprotocol(self, scanned: Scanned) -> None:
        attributes = scanned.mp if self.first is None else (self.first, *scanned.mp)
        if len({one[1] for one in attributes}) != len(attributes):
            raise MessageError(
                "an MP attribute twice",
                attributes[1][2],
                "path attributes",
                "RFC 7606 3(g)",
                ErrorCode.UPDATE,
                UpdateSubcode.MALFORMED_ATTRIBUTE_LIST,
            )
        for flags, code, at, value, after in attributes:
            row = FAMILY_ROWS.get(self.octets[value : value + 3])
            if after - value < 3 or (row is not None and code == 14 and after - value < 5):
                self._cut_short(code, at, value, after, row)
            elif row is None:
                self.opaque.append(RawAttribute(flags & 0xE0, code, self.octets[value:after]))
            elif code == 14:
                self._read_reach(at, value, after, row)
            else:
                self._read_unreach(at, value, after, row)

    # --- MP_REACH_NLRI: AFI 2, SAFI 1, next hop length 1, next hop, reserved 1, NLRI ---------------------------------

    def _read_reach(self, at: int, value: int, after: int, row: FamilyRow) -> None:
        octets, session, family = self.octets, self.session, row.family
        size = octets[value + 3]
        nlri = value + 5 + size
        if size not in row.next_hops or nlri > after:
            # RFC 7606 7.11: the NLRI cannot be located, so session reset or AFI/SAFI disable MUST be used
            what = f"next hop of {size} octets" + ("" if nlri <= after else f" with {after - value - 4} left")
            self._disable(14, (at, after), family, WireError(what, value + 3, "next hop", "RFC 7606 7.11"))
            return
        next_hop, link_local, problem = _next_hop(octets[value + 4 : value + 4 + size], family)
        try:
            routes = read(octets, nlri, after, row, addpath=family in session.addpath, stacked=session.multiple_labels)
        except WireError as error:
            self._disable(14, (at, after), family, error)
            return
        if routes:
            self.reach.append(Reach(family, next_hop, routes, link_local))
            if problem:
                data = octets[at:after]
                self._not_a_host(14, problem, value + 4, data, UpdateSubcode.OPTIONAL_ATTRIBUTE)

    # --- MP_UNREACH_NLRI: AFI 2, SAFI 1, NLRI ------------------------------------------------------------------------

    def _read_unreach(self, at: int, value: int, after: int, row: FamilyRow) -> None:
        session, family = self.session, row.family
        addpath, stacked = family in session.addpath, session.multiple_labels
        try:
            routes = read(self.octets, value + 3, after, row, addpath=addpath, stacked=stacked, withdrawn=True)
        except WireError as error:
            self._disable(15, (at, after), family, error)
            return
        self._withdraw(family, routes)

    # --- faults ------------------------------------------------------------------------------------------------------

    def _not_a_host(self, code: int, what: str, at: int, octets: bytes, subcode: UpdateSubcode) -> None:
        action = Action.TREAT_AS_WITHDRAW
        self.faults.append(AttributeFault(code, action, what, at, "RFC 4271 6.3", octets, subcode))

    def _disable(self, code: int, span: tuple[int, int], family: Family, error: WireError) -> None:
        """RFC 7606 3(j): routes that cannot be parsed mean session reset or AFI/SAFI disable; the milder one it is."""
        data = self.octets[span[0] : span[1]]
        subcode = UpdateSubcode.OPTIONAL_ATTRIBUTE
        action = Action.DISABLE_FAMILY
        self.faults.append(AttributeFault(code, action, error.what, error.offset, error.rfc, data, subcode, family))

    def _cut_short(self, code: int, at: int, value: int, after: int, row: FamilyRow | None) -> None:
        """An MP attribute that ends before its fixed fields do; if it names a family of ours, that is disabled."""
        what = f"{after - value} octets, which ends before the fixed fields do"
        if after - value >= 3 and row is not None:
            self._disable(code, (at, after), row.family, WireError(what, value, "MP attribute", "RFC 7606 7.11"))
            return
        raise MessageError(
            what,
            value,
            AttributeCode(code).name,
            "RFC 7606 7.11" if code == 14 else "RFC 7606 7.12",
            ErrorCode.UPDATE,
            UpdateSubcode.OPTIONAL_ATTRIBUTE,
            self.octets[at:after],
        )

    def apply(self, scanned: Scanned) -> None:
        """RFC 7606 3(h): the strongest action of all the faults is taken, on all the routes of this message."""
        own = self.faults
        self.faults = [*scanned.faults, *own]
        strong = [fault for fault in self.faults if fault.action == Action.TREAT_AS_WITHDRAW]
        if not strong and not self.complete(scanned.present):
            strong = [self._missing(scanned.present)]
            self.faults.append(strong[0])
        if not strong:
            return
        unseen = any(fault.code == 14 for fault in own) or any(one.code == 14 for one in self.opaque)
        if not self.reach and not unseen and self._beyond_unreach(scanned):
            # RFC 7606 5.2: with no reachable NLRI, any error but attribute discard MUST be a session reset, because
            # the routes meant may be what got lost
            worst = strong[0]
            raise MessageError(
                f"attribute {worst.code}: {worst.what}, and no reachable NLRI",
                worst.offset,
                "path attributes",
                f"RFC 7606 5.2, {worst.rfc}",
                ErrorCode.UPDATE,
                worst.subcode,
                worst.data,
                tuple(self.faults),
            )
        for one in self.reach:
            self._withdraw(one.family, tuple(Nlri(key, (), path_id) for key, _, path_id in one.routes))
        self.reach.clear()
        self.opaque = [one for one in self.opaque if one.code != 14]

    def _beyond_unreach(self, scanned: Scanned) -> bool:
        """Whether the message has path attributes other than MP_UNREACH_NLRI, which RFC 7606 5.2 exempts."""
        reach = any(one[1] == 14 for one in (self.first, *scanned.mp) if one is not None)
        return reach or bool(scanned.present) or any(fault.code != 15 for fault in self.faults)

    def _missing(self, present: int) -> AttributeFault:
        """RFC 7606 3(d): if a well-known mandatory attribute is missing, treat-as-withdraw MUST be used."""
        wanted = [1, 2] + ([3] if self.plain else []) + ([] if self.session.ebgp else [5])
        code = next(code for code in wanted if not present >> code & 1)
        what = f"no {AttributeCode(code).name}"
        subcode = UpdateSubcode.MISSING_WELL_KNOWN
        return AttributeFault(code, Action.TREAT_AS_WITHDRAW, what, _WITHDRAWN, "RFC 7606 3(d)", b"", subcode)

    def _withdraw(self, family: Family, routes: tuple[Nlri, ...]) -> None:
        for at, one in enumerate(self.unreach):
            if one.family == family:
                self.unreach[at] = Unreach(family, one.routes + routes)
                return
        self.unreach.append(Unreach(family, routes))


@lru_cache(NEXT_HOP_CACHE)
def _next_hop(octets: bytes, family: Family) -> tuple[bytes, bytes, str]:
    """A next hop whose size was checked, as (address, link-local address, what is wrong with it).

    VPN next hops carry an RD of 0 before each address (RFC 4364 4.3.2, RFC 4659 3.2.1); it is taken off unread.
    """
    if family.vpn:
        address, second = octets[8:24], octets[32:]
    else:
        address, second = octets[:16], octets[16:]
    return address, second, "" if _is_host(address) else f"next hop {address.hex()} is no host's address"


def _is_host(address: bytes) -> bool:
    """Not unspecified, loopback, multicast or reserved (RFC 4271 6.3 a: it must be a valid IP host address)."""
    if len(address) == 4:
        return address[0] not in (0, 127) and address[0] < 224
    if address[:12] == b"\0" * 10 + b"\xff\xff":
        return _is_host(address[12:])
    return address[0] != 0xFF and address[:15] != bytes(15)
