"""Path attributes as values: `Attributes` is a whole set, kept as its canonical octets and read on demand.

A set is what routes share. Two sets are equal when their octets are, so the octets are the key to intern, compare and
pack by; the codec gives the same object for the same octets as long as its cache holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict, Unpack

from attrs import define, field

from bgp.wire.as_path import AsPath, read_as_path, write_as_path
from stack.addr import RT, format_address

__all__ = [
    "Aggregator",
    "AttributeCode",
    "AttributeValues",
    "Attributes",
    "Flag",
    "LargeCommunity",
    "Origin",
    "RawAttribute",
    "WellKnownCommunity",
]


ROUTE_TARGET_CACHE = 4096
"""How many values of EXTENDED_COMMUNITIES have their route targets remembered."""


class AttributeCode(IntEnum):
    """Attribute type codes (IANA) that have a row in the codec."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MULTI_EXIT_DISC = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    MP_REACH_NLRI = 14
    MP_UNREACH_NLRI = 15
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    TUNNEL_ENCAPSULATION = 23
    IPV6_EXTENDED_COMMUNITIES = 25
    LARGE_COMMUNITIES = 32


class Flag(IntEnum):
    """The Attribute Flags octet (RFC 4271 4.3)."""

    OPTIONAL = 0x80
    TRANSITIVE = 0x40
    PARTIAL = 0x20
    EXTENDED_LENGTH = 0x10


class Origin(IntEnum):
    """RFC 4271 5.1.1; the lower is preferred."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


class WellKnownCommunity(IntEnum):
    """RFC 1997, RFC 8326, RFC 7999."""

    GRACEFUL_SHUTDOWN = 0xFFFF0000
    BLACKHOLE = 0xFFFF029A
    NO_EXPORT = 0xFFFFFF01
    NO_ADVERTISE = 0xFFFFFF02
    NO_EXPORT_SUBCONFED = 0xFFFFFF03


class RawAttribute(NamedTuple):
    """An attribute as flags, code and value octets. Flags without the extended length bit, which is the encoder's."""

    flags: int
    code: int
    value: bytes


class Aggregator(NamedTuple):
    """RFC 4271 5.1.7; `address` is 4 octets."""

    asn: int
    address: bytes

    def __str__(self) -> str:
        return f"{self.asn} {format_address(self.address)}"


class LargeCommunity(NamedTuple):
    """RFC 8092 3, three 32-bit numbers."""

    administrator: int
    local1: int
    local2: int

    def __str__(self) -> str:
        return f"{self.administrator}:{self.local1}:{self.local2}"


class AttributeValues(TypedDict, total=False):
    """What a set is made of, and changed by. None (or False) takes an attribute away."""

    origin: int | None
    as_path: AsPath | None
    med: int | None
    local_pref: int | None
    atomic_aggregate: bool
    aggregator: Aggregator | None
    communities: Iterable[int] | None
    originator_id: bytes | None
    cluster_list: Iterable[bytes] | None
    ext_communities: Iterable[bytes] | None
    tunnel_encapsulation: bytes | None
    large_communities: Iterable[LargeCommunity] | None


@define(eq=False, repr=False)
class Attributes:
    """A set of path attributes: all but the next hop and the routes, which `Reach` and `Unreach` hold.

    So NEXT_HOP, MP_REACH_NLRI and MP_UNREACH_NLRI are never in it, nor are AS4_PATH and AS4_AGGREGATOR, which are
    merged in on reading and made on writing. `octets` is the set as a 4-octet-AS speaker sends it: ascending codes,
    shortest length form, and it never changes. Values are read from it each time they are asked for (about a
    microsecond), because a table holds many sets and asks each of them little; the path alone is kept once read.
    """

    octets: bytes = b""
    _as_path: AsPath | None = field(default=None, init=False)
    narrow: bytes | None = field(default=None, init=False)
    """The encoder's: the octets for a two-octet-AS session, once they were needed."""

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Attributes) and self.octets == other.octets)

    def __hash__(self) -> int:
        return hash(self.octets)

    def __bool__(self) -> bool:
        return bool(self.octets)

    def __repr__(self) -> str:
        return f"Attributes({self.octets.hex()!r})"

    @classmethod
    def of(cls, **values: Unpack[AttributeValues]) -> Attributes:
        """A new set. Raises ValueError or OverflowError for values that their fields cannot hold."""
        return cls().replace(**values)

    @classmethod
    def from_raw(cls, attributes: Iterable[RawAttribute]) -> Attributes:
        """A set of attributes as they are, in any order; of two with one code the first counts."""
        index: dict[int, RawAttribute] = {}
        for one in attributes:
            index.setdefault(one.code, one)
        return cls(b"".join(_attribute_octets(index[code]) for code in sorted(index)))

    def replace(self, **changes: Unpack[AttributeValues]) -> Attributes:
        """This set with other values for the named attributes; None takes one away. Unchanged if nothing changes."""
        index = self.raw
        for name, value in changes.items():
            row = _VALUES[name]
            octets = None if value is None or value is False else row.write(value)
            if octets is None:
                index.pop(row.code, None)
            else:
                index[row.code] = RawAttribute(row.flags, row.code, octets)
        made = Attributes.from_raw(index.values())
        return self if made.octets == self.octets else made

    def with_raw(self, *attributes: RawAttribute) -> Attributes:
        """This set with `attributes` put in, each in place of the one of its code."""
        return Attributes.from_raw((self.raw | {one.code: one for one in attributes}).values())

    def without(self, *codes: int) -> Attributes:
        """This set without the attributes of these codes."""
        return Attributes.from_raw(one for one in self.raw.values() if one.code not in codes)

    @property
    def raw(self) -> dict[int, RawAttribute]:
        """code -> attribute, as octets, in ascending order of codes; the caller's own."""
        return {one.code: one for one in _attributes_in(self.octets)}

    def _value(self, code: int) -> bytes | None:
        """The value of one attribute. Codes ascend, so the search ends early."""
        octets, at = self.octets, 0
        while at < len(octets):
            size, value = octets[at + 2], at + 3
            if octets[at] & 0x10:
                size, value = size << 8 | octets[at + 3], at + 4
            if octets[at + 1] >= code:
                return octets[value : value + size] if octets[at + 1] == code else None
            at = value + size
        return None

    def _number(self, code: int) -> int | None:
        value = self._value(code)
        return None if value is None else int.from_bytes(value)

    @property
    def origin(self) -> Origin | None:
        number = self._number(1)
        return None if number is None else Origin(number)

    @property
    def as_path(self) -> AsPath:
        """The AS path, AS4_PATH already merged in; empty if there is none."""
        if self._as_path is None:
            self._as_path = read_as_path(self._value(2) or b"")
        return self._as_path

    @property
    def med(self) -> int | None:
        return self._number(4)

    @property
    def local_pref(self) -> int | None:
        return self._number(5)

    @property
    def atomic_aggregate(self) -> bool:
        return self._value(6) is not None

    @property
    def aggregator(self) -> Aggregator | None:
        value = self._value(7)
        return None if value is None else Aggregator(int.from_bytes(value[:4]), value[4:])

    @property
    def communities(self) -> tuple[int, ...]:
        return tuple(int.from_bytes(one) for one in _cut(self._value(8), 4))

    @property
    def originator_id(self) -> bytes | None:
        return self._value(9)

    @property
    def cluster_list(self) -> tuple[bytes, ...]:
        return _cut(self._value(10), 4)

    @property
    def ext_communities(self) -> tuple[bytes, ...]:
        """Eight octets each, in the order received."""
        return _cut(self._value(16), 8)

    @property
    def route_targets(self) -> frozenset[RT]:
        """Those of the extended communities that are route targets (RFC 4360 4, RFC 5668)."""
        return _route_targets(self._value(16))

    @property
    def tunnel_encapsulation(self) -> bytes | None:
        """The attribute's TLVs as octets (RFC 9012 2), already checked."""
        return self._value(23)

    @property
    def large_communities(self) -> tuple[LargeCommunity, ...]:
        return tuple(
            LargeCommunity(int.from_bytes(one[:4]), int.from_bytes(one[4:8]), int.from_bytes(one[8:]))
            for one in _cut(self._value(32), 12)
        )

    @property
    def unknown(self) -> tuple[RawAttribute, ...]:
        """Optional transitive attributes without a row here; kept, and passed on with the Partial bit (RFC 4271 9)."""
        return tuple(one for code, one in self.raw.items() if code not in _KNOWN)


@lru_cache(ROUTE_TARGET_CACHE)
def _route_targets(octets: bytes | None) -> frozenset[RT]:
    """A network has few sets of route targets, so all attribute sets share them."""
    return frozenset(RT(one) for one in _cut(octets, 8) if one[1] == 2 and one[0] <= 2)


def _cut(octets: bytes | None, size: int) -> tuple[bytes, ...]:
    if octets is None:
        return ()
    return tuple(octets[at : at + size] for at in range(0, len(octets) - size + 1, size))


def _attributes_in(octets: bytes) -> Iterator[RawAttribute]:
    """The attributes of canonical octets."""
    at, end = 0, len(octets)
    while at < end:
        flags, code = octets[at], octets[at + 1]
        if flags & Flag.EXTENDED_LENGTH:
            size, at = int.from_bytes(octets[at + 2 : at + 4]), at + 4
        else:
            size, at = octets[at + 2], at + 3
        yield RawAttribute(flags & ~Flag.EXTENDED_LENGTH & 0xFF, code, octets[at : at + size])
        at += size


def _attribute_octets(attribute: RawAttribute) -> bytes:
    flags, code, value = attribute
    size = len(value)
    if size > 255:
        return bytes((flags | Flag.EXTENDED_LENGTH, code)) + size.to_bytes(2) + value
    return bytes((flags & ~Flag.EXTENDED_LENGTH & 0xFF, code, size)) + value


# One row a value: attribute code, the flags it is sent with, and how a value becomes octets.


class _Value(NamedTuple):
    code: int
    flags: int
    write: Callable[[Any], bytes | None]


def _uint32(number: int) -> bytes:
    return number.to_bytes(4)


def _exactly(size: int) -> Callable[[bytes], bytes]:
    def write(octets: bytes) -> bytes:
        if len(octets) != size:
            raise ValueError(f"{len(octets)} octets, {size} wanted")
        return octets

    return write


def _each(write: Callable[[Any], bytes]) -> Callable[[Iterable[Any]], bytes | None]:
    """A list; an empty one takes the attribute away, since RFC 7606 4 makes a length of zero an error."""
    return lambda values: b"".join(map(write, values)) or None


_WELL_KNOWN, _NON_TRANSITIVE, _TRANSITIVE = 0x40, 0x80, 0xC0
_VALUES: Mapping[str, _Value] = {
    "origin": _Value(1, _WELL_KNOWN, lambda number: bytes((Origin(number),))),
    "as_path": _Value(2, _WELL_KNOWN, write_as_path),
    "med": _Value(4, _NON_TRANSITIVE, _uint32),
    "local_pref": _Value(5, _WELL_KNOWN, _uint32),
    "atomic_aggregate": _Value(6, _WELL_KNOWN, lambda _: b""),
    "aggregator": _Value(7, _TRANSITIVE, lambda value: _uint32(value.asn) + _exactly(4)(value.address)),
    "communities": _Value(8, _TRANSITIVE, _each(_uint32)),
    "originator_id": _Value(9, _NON_TRANSITIVE, _exactly(4)),
    "cluster_list": _Value(10, _NON_TRANSITIVE, _each(_exactly(4))),
    "ext_communities": _Value(16, _TRANSITIVE, _each(_exactly(8))),
    "tunnel_encapsulation": _Value(23, _TRANSITIVE, lambda octets: octets),
    "large_communities": _Value(32, _TRANSITIVE, _each(lambda one: b"".join(map(_uint32, one)))),
}
_KNOWN = frozenset(AttributeCode)
