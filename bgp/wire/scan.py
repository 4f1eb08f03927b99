"""The walk over the path attributes of one UPDATE: each against its row, faults as RFC 7606 weighs them.

A set that is free of faults is remembered by its octets, so routes that arrive with attributes seen before share one
`Attributes` and cost no walk.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import define, field

from bgp.wire.as4 import widen
from bgp.wire.attributes import AttributeCode, Attributes, Flag, RawAttribute
from bgp.wire.errors import Action, AttributeFault, ErrorCode, MessageError, UpdateSubcode
from bgp.wire.messages import Session
from bgp.wire.rows import ROWS, AttributeRow, Check

__all__ = ["CACHED_SETS", "CACHED_SET_OCTETS", "MAX_FAULTS", "Scanned", "scan"]

CACHED_SETS = 16384
"""How many attribute sets are remembered for each kind of session (2- or 4-octet AS numbers, iBGP or eBGP)."""
CACHED_SET_OCTETS = 512
"""Longer sets are not remembered, so the memory of a cache is bounded too."""

MAX_FAULTS = 64
"""How many faults of one UPDATE are told; past that only one that is graver than those before, so the action holds."""


class Scanned(NamedTuple):
    """What a walk found. `present` has bit n set for a well-formed or discarded attribute n.

    `next_hop` is the value of NEXT_HOP, empty without one; `mp` are the MP_REACH and MP_UNREACH attributes after the
    first octets given, as (flags, code, offset of the attribute, of its value, of its end).
    """

    attributes: Attributes
    present: int
    next_hop: bytes
    faults: tuple[AttributeFault, ...] = ()
    mp: tuple[tuple[int, int, int, int, int], ...] = ()


@define
class _Cache:
    """Octets -> what they are. Two generations: when the young one is full it becomes the old one, which is dropped."""

    young: dict[bytes, Scanned] = field(factory=dict)
    old: dict[bytes, Scanned] = field(factory=dict)

    def remember(self, octets: bytes, scanned: Scanned) -> None:
        if len(self.young) >= CACHED_SETS // 2:
            self.young, self.old = {}, self.young
        self.young[octets] = scanned


_CACHES = tuple(_Cache() for _ in range(4))


def scan(octets: bytes, start: int, end: int, session: Session) -> Scanned:
    """The attributes in `octets[start:end]`, an UPDATE's. Raises MessageError where RFC 7606 leaves session reset."""
    cache = _CACHES[session.asn4 << 1 | session.ebgp]
    own = octets[start:end]
    scanned = cache.young.get(own)
    if scanned is not None:
        return scanned
    scanned = cache.old.get(own)
    if scanned is None:
        scanned = _flawless(octets, start, end, session) or _Walk(octets, start, session).walk(end)
        if scanned.faults or scanned.mp or len(own) > CACHED_SET_OCTETS:
            return scanned
    cache.remember(own, scanned)
    return scanned


class _Rule(NamedTuple):
    """A row as one header meets it: octets of header, exact length or -1, check."""

    head: int
    size: int
    check: Check | None


def _rules(*, ebgp: bool) -> dict[int, _Rule]:
    """flags << 8 | code -> rule, for every header that a flawless set from a 4-octet-AS speaker can have."""
    rules: dict[int, _Rule] = {}
    for row in ROWS.values():
        if row.as4 or (row.internal and ebgp) or row.code in (14, 15):
            continue
        for flags in {row.flags, row.flags | ~row.mask & Flag.PARTIAL}:
            rules[flags << 8 | row.code] = _Rule(3, row.size, row.check)
            rules[(flags | Flag.EXTENDED_LENGTH) << 8 | row.code] = _Rule(4, row.size, row.check)
    return rules


_RULES = {ebgp: _rules(ebgp=ebgp) for ebgp in (False, True)}


def _flawless(octets: bytes, start: int, end: int, session: Session) -> Scanned | None:
    """The same as `_Walk`, for sets that are canonical, known and without a fault; None for all others.

    Most sets are, and a table of headers makes them three times as cheap. Codes must ascend, so none comes twice.
    """
    if not session.asn4:
        return None
    rules, at, last, present = _RULES[session.ebgp], start, 0, 0
    hop_from = hop_to = end
    while at < end - 2:
        code = octets[at + 1]
        rule = rules.get(octets[at] << 8 | code)
        if rule is None or code <= last:
            return None
        head, wanted, check = rule
        value, size = at + head, octets[at + 2]
        if head == 4:
            if value > end or not size:
                return None
            size = size << 8 | octets[at + 3]
        after = value + size
        if after > end or (wanted != size and wanted >= 0):
            return None
        if check is not None and check(octets, value, after, session) is not None:
            return None
        if code == AttributeCode.NEXT_HOP:
            hop_from, hop_to = at, after
        present |= 1 << code
        last, at = code, after
    if at != end:
        return None
    attributes = Attributes(octets[start:hop_from] + octets[hop_to:end])
    return Scanned(attributes, present, octets[hop_from + 3 : hop_to])


@define
class _Walk:
    """One walk. `found`: code -> (flags, offset of the attribute, of its value, of its end), None if it is not kept."""

    octets: bytes
    start: int
    session: Session
    found: dict[int, tuple[int, int, int, int] | None] = field(factory=dict)
    faults: list[AttributeFault] = field(factory=list)

    def walk(self, end: int) -> Scanned:
        octets, found, session, at, last, canonical = self.octets, self.found, self.session, self.start, 0, True
        while at < end:
            flags = octets[at]
            head = 4 if flags & 0x10 else 3
            if end - at < head:
                self._overrun(at, end, f"{end - at} octets left where an attribute should begin")
                break
            code = octets[at + 1]
            size = octets[at + 2] if head == 3 else octets[at + 2] << 8 | octets[at + 3]
            value = at + head
            after = value + size
            if after > end:
                self._overrun(at, end, f"length {size} with {end - value} octets left")
                break
            row = ROWS.get(code)
            if code in found:
                self._duplicate(code, at, after)
                canonical = False
            elif row is None:
                found[code] = self._unknown(flags, code, at, value, after)
                canonical = False
            elif row.internal and session.ebgp and flags & row.mask == row.flags:
                found[code] = None
                self._fault(row, Action.ATTRIBUTE_DISCARD, "from another AS", (at, after))
            elif (
                flags & row.mask != row.flags
                or not row.fits(size, session)
                or (row.check is not None and row.check(octets, value, after, session) is not None)
                or (row.as4 and session.asn4)
            ):
                found[code] = self._refuse(row, flags, at, value, after)
            else:
                found[code] = flags, at, value, after
            if code <= last or flags & 0x0F or (head == 4 and size < 256):
                canonical = False
            last = code
            at = after
        return self._result(end, canonical=canonical and not self.faults and session.asn4)

    def _result(self, end: int, *, canonical: bool) -> Scanned:
        octets, found = self.octets, self.found
        mp = tuple(
            (kept[0], code, *kept[1:])
            for code in (AttributeCode.MP_REACH_NLRI, AttributeCode.MP_UNREACH_NLRI)
            if (kept := found.pop(code, None)) is not None
        )
        present = 0
        for code in found:
            present |= 1 << code
        kept = found.pop(3, None)
        next_hop = b"" if kept is None else octets[kept[2] : kept[3]]
        if canonical and not mp:
            cut_from, cut_to = (end, end) if kept is None else (kept[1], kept[3])
            attributes = Attributes(octets[self.start : cut_from] + octets[cut_to:end])
        else:
            raw = {
                code: RawAttribute(one[0] & 0xE0, code, octets[one[2] : one[3]])
                for code, one in found.items()
                if one is not None
            }
            attributes = Attributes.from_raw((raw if self.session.asn4 else widen(raw)).values())
        return Scanned(attributes, present, next_hop, tuple(self.faults), mp)

    def _refuse(
        self, row: AttributeRow, flags: int, at: int, value: int, after: int
    ) -> tuple[int, int, int, int] | None:
        """The fault of an attribute that its row refuses. MP attributes are kept: their routes must be found."""
        octets, session, size = self.octets, self.session, after - value
        if flags & row.mask != row.flags:
            # RFC 7606 3(c): flags in conflict MUST be treated as malformed
            what = f"flags {flags:#04x}, {row.flags:#04x} wanted"
            self._fault(row, row.flagged, what, (at, after), subcode=UpdateSubcode.ATTRIBUTE_FLAGS, rfc="RFC 7606 3(c)")
            return (row.flags, at, value, after) if row.code in (14, 15) else None
        if row.as4 and session.asn4:
            # RFC 6793 4.1: a NEW speaker MUST discard it when it comes from a NEW speaker
            self._fault(row, Action.ATTRIBUTE_DISCARD, "from a 4-octet AS speaker", (at, after), rfc="RFC 6793 4.1")
            return None
        if not row.fits(size, session):
            wrong, subcode = f"length {size}, {row.length(session)} wanted", UpdateSubcode.ATTRIBUTE_LENGTH
        else:
            said = None if row.check is None else row.check(octets, value, after, session)
            wrong, subcode = said or "malformed", row.subcode
        self._fault(row, row.malformed, wrong, (at, after), subcode=subcode)
        return None

    def _fault(
        self,
        row: AttributeRow,
        action: Action,
        what: str,
        span: tuple[int, int],
        *,
        subcode: int | None = None,
        rfc: str = "",
    ) -> None:
        data = self.octets[span[0] : span[1]]
        chosen = row.subcode if subcode is None else subcode
        self._add(AttributeFault(row.code, action, what, span[0], rfc or row.rfc, data, chosen))

    def _add(self, fault: AttributeFault) -> None:
        if len(self.faults) < MAX_FAULTS or fault.action > max(one.action for one in self.faults):
            self.faults.append(fault)

    def _unknown(self, flags: int, code: int, at: int, value: int, after: int) -> tuple[int, int, int, int] | None:
        if not flags & Flag.OPTIONAL:
            raise MessageError(
                f"code {code} claims to be well-known",
                at,
                "path attributes",
                "RFC 4271 6.3",
                ErrorCode.UPDATE,
                UpdateSubcode.UNRECOGNIZED_WELL_KNOWN,
                self.octets[at:after],
            )
        if not flags & Flag.TRANSITIVE:
            return None  # RFC 4271 5: MUST be quietly ignored and not passed along
        return flags | Flag.PARTIAL, at, value, after  # RFC 4271 5: passed along with the Partial bit set

    def _duplicate(self, code: int, at: int, after: int) -> None:
        if code in (AttributeCode.MP_REACH_NLRI, AttributeCode.MP_UNREACH_NLRI):
            # RFC 7606 3(g): then a NOTIFICATION MUST be sent with Malformed Attribute List
            raise MessageError(
                f"{AttributeCode(code).name} twice",
                at,
                "path attributes",
                "RFC 7606 3(g)",
                ErrorCode.UPDATE,
                UpdateSubcode.MALFORMED_ATTRIBUTE_LIST,
            )
        self._add(
            AttributeFault(
                code,
                Action.ATTRIBUTE_DISCARD,
                "again; the first counts",
                at,
                "RFC 7606 3(g)",
                self.octets[at:after],
                UpdateSubcode.MALFORMED_ATTRIBUTE_LIST,
            )
        )

    def _overrun(self, at: int, end: int, what: str) -> None:
        """RFC 7606 4: treat-as-withdraw MUST be used, and the Total Attribute Length relied upon to find the NLRI."""
        self._add(
            AttributeFault(
                0,
                Action.TREAT_AS_WITHDRAW,
                what,
                at,
                "RFC 7606 4",
                self.octets[at:end],
                UpdateSubcode.MALFORMED_ATTRIBUTE_LIST,
            )
        )
