"""What the owners offer: the raw routes of each VRF, by prefix, best first. Nothing is judged here."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Any, NamedTuple

from attrs import define, field

from stack.addr import Prefix
from stack.events import Route

__all__ = ["Offer", "Offers", "Watched", "is_receive"]


class Offer(NamedTuple):
    """An owner's route. `since`: when it came, or last changed. `nodes`: the next hops of its vias."""

    owner: str
    route: Route
    since: float
    nodes: tuple[Any, ...] = ()

    def rank(self) -> tuple[int, int, str]:
        """Least administrative distance first, then least metric; the owner's name makes the order total."""
        return self.route.distance, self.route.metric, self.owner


def is_receive(prefix: Prefix, route: Route) -> bool:
    """Whether a derived route is one of the node's own addresses."""
    return route.kind == "local" or (route.kind == "connected" and prefix.length == len(prefix.network) * 8)


_NONE: tuple[Offer, ...] = ()


@define(eq=False)
class Offers:
    """VRF -> prefix -> offers in order of preference (overrides among them, flagged). Bounded by the owners' tables."""

    tables: dict[str, dict[Prefix, tuple[Offer, ...]]] = field(factory=dict)
    _lengths: dict[tuple[str, int], dict[int, int]] = field(factory=dict)
    """(VRF, octets of an address) -> prefix length -> how many prefixes have it."""

    def get(self, vrf: str, prefix: Prefix) -> tuple[Offer, ...]:
        table = self.tables.get(vrf)
        return table.get(prefix, _NONE) if table else _NONE

    def put(
        self, vrf: str, prefix: Prefix, owner: str, route: Route | None, now: float, nodes: tuple[Any, ...] = ()
    ) -> bool:
        """Set or withdraw an owner's route; False if nothing changed."""
        table = self.tables.get(vrf)
        if table is None:
            table = self.tables[vrf] = {}
        old = table.get(prefix)
        if old is None:
            if route is None:
                return False
            table[prefix] = (Offer(owner, route, now, nodes),)
            self._count(vrf, prefix, 1)
            return True
        for offer in old:
            if offer.owner == owner:
                if offer.route == route:
                    return False
                break
        else:
            if route is None:
                return False
        rest = [offer for offer in old if offer.owner != owner]
        if route is not None:
            rest.append(Offer(owner, route, now, nodes))
        if rest:
            table[prefix] = tuple(sorted(rest, key=Offer.rank)) if len(rest) > 1 else tuple(rest)
        else:
            del table[prefix]
            self._count(vrf, prefix, -1)
        return True

    def _count(self, vrf: str, prefix: Prefix, by: int) -> None:
        lengths = self._lengths.setdefault((vrf, len(prefix.network)), {})
        count = lengths.get(prefix.length, 0) + by
        if count:
            lengths[prefix.length] = count
        else:
            del lengths[prefix.length]

    def covering(self, vrf: str, address: bytes) -> Iterator[tuple[Prefix, tuple[Offer, ...]]]:
        """The prefixes that cover `address`, longest first."""
        table = self.tables.get(vrf)
        for length in sorted(self._lengths.get((vrf, len(address)), ()), reverse=True):
            prefix = Prefix.of(address, length)
            offers = table.get(prefix) if table else None
            if offers:
                yield prefix, offers


@define(eq=False)
class Watched:
    """The addresses whose look-ups must be repeated when a prefix over them changes: (VRF, size) -> sorted numbers."""

    _numbers: dict[tuple[str, int], list[int]] = field(factory=dict)
    _uses: dict[tuple[str, bytes], int] = field(factory=dict)

    def add(self, vrf: str, address: bytes) -> None:
        uses = self._uses.get((vrf, address), 0)
        self._uses[vrf, address] = uses + 1
        if not uses:
            insort(self._numbers.setdefault((vrf, len(address)), []), int.from_bytes(address))

    def remove(self, vrf: str, address: bytes) -> None:
        uses = self._uses[vrf, address] - 1
        if uses:
            self._uses[vrf, address] = uses
            return
        del self._uses[vrf, address]
        numbers = self._numbers[vrf, len(address)]
        del numbers[bisect_left(numbers, int.from_bytes(address))]
        if not numbers:
            del self._numbers[vrf, len(address)]

    def under(self, vrf: str, prefix: Prefix) -> list[bytes]:
        """The watched addresses that `prefix` covers."""
        size = len(prefix.network)
        numbers = self._numbers.get((vrf, size))
        if not numbers:
            return []
        first = int.from_bytes(prefix.network)
        last = first | ((1 << (size * 8 - prefix.length)) - 1)
        return [n.to_bytes(size) for n in numbers[bisect_left(numbers, first) : bisect_right(numbers, last)]]
