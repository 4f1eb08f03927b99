"""Rows on the bus that several parts of one service hold at once: a row stands until the last that claims it lets go.

During make-before-break two SAs hold the same route; two shortcuts need the same endpoint. What is published is the difference,
so a row that stays is never withdrawn for a moment. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from attrs import define, field

from stack.addr import Prefix
from stack.events import RouteOffered, Topic

__all__ = ["Claims", "Rows", "Slot"]


class Slot(NamedTuple):
    """A row's place on the bus."""

    topic: Topic[Any, Any]
    table: str
    key: Any


class Rows(NamedTuple):
    """Rows of `topic` that now hold (None: withdrawn)."""

    topic: Topic[Any, Any]
    rows: Mapping[Any, Any]
    table: str = ""


@define(eq=False)
class Claims:
    """Rows by claimant. Of the claims on a slot that one owner has, the newest decides what stands there. Another owner's waits
    until the first has none left: who announces what is another's already does not draw its traffic."""

    _claims: dict[Slot, dict[int, Any]] = field(factory=dict)
    _of: dict[int, set[Slot]] = field(factory=dict)
    _owners: dict[int, Hashable] = field(factory=dict)
    """Claimant -> owner."""
    _holds: dict[Slot, Hashable] = field(factory=dict)
    """The owner whose row stands."""
    _changed: dict[Slot, None] = field(factory=dict)
    _standing: dict[Slot, Any] = field(factory=dict)

    def hold(self, claimant: int, rows: Mapping[Slot, Any], owner: Hashable = None) -> None:
        """From now on these rows, and no others, are `claimant`'s, which belongs to `owner`."""
        for slot in self._of.get(claimant, set()) - rows.keys():
            self._let_go(claimant, slot)
        for slot, row in rows.items():
            claims = self._claims.setdefault(slot, {})
            if claims.get(claimant) != row:
                claims.pop(claimant, None)
                claims[claimant] = row
                self._changed[slot] = None
        if rows:
            self._of[claimant] = set(rows)
            self._owners[claimant] = owner
        else:
            self._of.pop(claimant, None)
            self._owners.pop(claimant, None)

    def drop(self, claimant: int) -> None:
        self.hold(claimant, {})

    def _let_go(self, claimant: int, slot: Slot) -> None:
        claims = self._claims[slot]
        del claims[claimant]
        if not claims:
            del self._claims[slot]
        self._changed[slot] = None

    def changes(self) -> list[Rows]:
        """What to publish since the last time."""
        batches: dict[tuple[Topic[Any, Any], str], dict[Any, Any]] = {}
        for slot in self._changed:
            row = self._row(slot)
            if self._standing.get(slot) != row:
                batches.setdefault((slot.topic, slot.table), {})[slot.key] = row
                if row is None:
                    del self._standing[slot]
                else:
                    self._standing[slot] = row
        self._changed.clear()
        return [Rows(topic, rows, table) for (topic, table), rows in batches.items()]

    def _row(self, slot: Slot) -> Any:
        """What is to stand there; None: nothing."""
        claims = self._claims.get(slot)
        if not claims:
            self._holds.pop(slot, None)
            return None
        owners = {claimant: self._owners[claimant] for claimant in claims}
        owner = self._holds.get(slot)
        if owner not in owners.values():
            owner = next(iter(owners.values()))
        self._holds[slot] = owner
        return next(claims[claimant] for claimant in reversed(claims) if owners[claimant] == owner)

    def claimants(self, vrf: str, prefix: Prefix) -> Iterable[int]:
        """Who holds a route to `prefix`."""
        return self._claims.get(Slot(RouteOffered, vrf, prefix), {}).keys()

    def claims(self) -> Iterable[tuple[int, Slot, Any]]:
        """Every (claimant, slot, row)."""
        for claimant, slots in self._of.items():
            for slot in slots:
                yield claimant, slot, self._claims[slot][claimant]

    def of(self, claimant: int) -> dict[Slot, Any]:
        return {slot: self._claims[slot][claimant] for slot in self._of.get(claimant, ())}

    def __len__(self) -> int:
        return len(self._standing)
