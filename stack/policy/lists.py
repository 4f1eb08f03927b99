"""Prefix, access and community lists. Entries in order of their numbers, the first that matches decides, else deny.

The empty list permits all, as IOS has it: it is what a reader leaves behind before the first entry is typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum

from attrs import field, frozen

from stack.addr import Afi, Prefix

__all__ = [
    "AccessEntry",
    "AccessList",
    "CommunityEntry",
    "CommunityList",
    "ExtCommunityEntry",
    "ExtCommunityList",
    "PrefixEntry",
    "PrefixList",
    "WellKnown",
]


class WellKnown(IntEnum):
    """Well-known communities (RFC 1997; `internet` is a configuration word for 0: all)."""

    INTERNET = 0
    NO_EXPORT = 0xFFFFFF01
    NO_ADVERTISE = 0xFFFFFF02
    LOCAL_AS = 0xFFFFFF03


def _by_number(entries: Iterable[_Numbered]) -> tuple[_Numbered, ...]:
    """In order; of two entries with one number the later one stands."""
    return tuple(entry for _, entry in sorted({entry.number: entry for entry in entries}.items()))


@frozen
class _Numbered:
    number: int
    permit: bool


@frozen
class PrefixEntry(_Numbered):
    """`seq NUMBER {permit|deny} PREFIX [ge N] [le N]`. Neither: that very prefix. Raises ValueError unless the lengths
    ascend: length of the prefix, ge, le, length of an address."""

    prefix: Prefix
    ge: int | None = None
    le: int | None = None

    def __attrs_post_init__(self) -> None:
        low, high = self.lengths
        if not self.prefix.length <= low <= high <= len(self.prefix.network) * 8:
            raise ValueError(f"{self.prefix} ge {self.ge} le {self.le}: len <= ge <= le <= address length wanted")

    @property
    def lengths(self) -> tuple[int, int]:
        """Shortest and longest prefix length that match."""
        if self.ge is None and self.le is None:
            return self.prefix.length, self.prefix.length
        return (
            self.prefix.length if self.ge is None else self.ge,
            len(self.prefix.network) * 8 if self.le is None else self.le,
        )

    def matches(self, prefix: Prefix) -> bool:
        low, high = self.lengths
        return low <= prefix.length <= high and self.prefix.contains(prefix)


@frozen
class PrefixList:
    """`ip prefix-list` or `ipv6 prefix-list`: `afi` says which."""

    name: str
    afi: Afi = Afi.IPV4
    entries: tuple[PrefixEntry, ...] = field(default=(), converter=_by_number)
    description: str = ""

    def permits(self, prefix: Prefix) -> bool:
        return self.matcher()(prefix)

    def matcher(self) -> Callable[[Prefix], bool]:
        """`permits` with all that can be computed beforehand done: for the 100,000 routes of a peer. What it costs grows with
        the different lengths of the entries' prefixes, not with the entries."""
        if not self.entries:
            return lambda _prefix: True
        size = 4 if self.afi == Afi.IPV4 else 16
        rows: dict[int, dict[int, list[tuple[int, int, int, bool]]]] = {}
        """How far to shift an address -> what is left then -> (place in the list, least, greatest length, permit)."""
        for place, entry in enumerate(self.entries):
            if len(entry.prefix.network) == size:
                shift = size * 8 - entry.prefix.length
                left = int.from_bytes(entry.prefix.network) >> shift
                rows.setdefault(shift, {}).setdefault(left, []).append((place, *entry.lengths, entry.permit))

        def permits(prefix: Prefix) -> bool:
            network, length = prefix
            if len(network) != size:
                return False
            value, first, verdict = int.from_bytes(network), len(self.entries), False
            for shift, entries in rows.items():
                for place, low, high, permit in entries.get(value >> shift, ()):
                    if place >= first:
                        break
                    if low <= length <= high:
                        first, verdict = place, permit
                        break
            return verdict

        return permits


@frozen
class AccessEntry(_Numbered):
    """Addresses whose bits outside the wildcard's ones equal `address`'s. An extended entry has a destination too.

    Against a route, a standard entry looks at the network; an extended one at the network (as source) and its netmask
    (as destination), as IOS does. `wildcard` empty: that very host.
    """

    address: bytes
    wildcard: bytes = b""
    destination: bytes = b""
    destination_wildcard: bytes = b""
    protocol: str = "ip"

    def matches(self, source: bytes, destination: bytes = b"") -> bool:
        if not _wild(self.address, self.wildcard, source):
            return False
        return not self.destination or _wild(self.destination, self.destination_wildcard, destination)


def _wild(address: bytes, wildcard: bytes, candidate: bytes) -> bool:
    if len(address) != len(candidate):
        return False
    care = ~int.from_bytes(wildcard)
    return int.from_bytes(address) & care == int.from_bytes(candidate) & care


@frozen
class AccessList:
    """`ip access-list {standard|extended} NAME`, or `access-list NUMBER`."""

    name: str
    extended: bool = False
    entries: tuple[AccessEntry, ...] = field(default=(), converter=_by_number)

    def permits(self, source: bytes, destination: bytes = b"") -> bool:
        """Whether a packet's addresses are permitted (`destination` matters to an extended list only)."""
        return not self.entries or next((e.permit for e in self.entries if e.matches(source, destination)), False)

    def permits_route(self, prefix: Prefix) -> bool:
        bits = len(prefix.network) * 8
        mask = ((1 << bits) - (1 << (bits - prefix.length))).to_bytes(bits // 8)
        return self.permits(prefix.network, mask)


@frozen
class CommunityEntry(_Numbered):
    """Matches a route that carries all of `communities` (values of 32 bits); WellKnown.INTERNET matches every route."""

    communities: frozenset[int] = field(converter=frozenset)

    def matches(self, communities: frozenset[int], *, exact: bool) -> bool:
        if WellKnown.INTERNET in self.communities:
            return True
        return communities == self.communities if exact else communities >= self.communities


@frozen
class CommunityList:
    """`ip community-list standard NAME`. With `exact` the route's communities must be the entry's and no more."""

    name: str
    entries: tuple[CommunityEntry, ...] = field(default=(), converter=_by_number)

    def permits(self, communities: frozenset[int], *, exact: bool = False) -> bool:
        return not self.entries or next((e.permit for e in self.entries if e.matches(communities, exact=exact)), False)


@frozen
class ExtCommunityEntry(_Numbered):
    """Matches a route that carries all of `communities` (8 octets each: route targets, sites of origin)."""

    communities: frozenset[bytes] = field(converter=frozenset)

    def matches(self, communities: frozenset[bytes]) -> bool:
        return communities >= self.communities


@frozen
class ExtCommunityList:
    """`ip extcommunity-list standard NAME`."""

    name: str
    entries: tuple[ExtCommunityEntry, ...] = field(default=(), converter=_by_number)

    def permits(self, communities: frozenset[bytes]) -> bool:
        return not self.entries or next((e.permit for e in self.entries if e.matches(communities)), False)
