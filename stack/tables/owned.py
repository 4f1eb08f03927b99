"""Rows of topics as a subscriber's engine keeps them: by topic, table, owner and key. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define, field

from stack.events import Delta, Topic

__all__ = ["OwnedRows"]

K = TypeVar("K")
R = TypeVar("R")


@define
class OwnedRows:
    """What every owner holds, as far as this reader was told. Bounded by the tables that the owners hold."""

    _held: dict[tuple[Topic[Any, Any], str], dict[str, dict[Any, Any]]] = field(factory=dict)

    def apply(self, delta: Delta) -> None:
        owners = self._held.setdefault((delta.topic, delta.table), {})
        rows = owners.setdefault(delta.owner, {})
        for key, row in delta.rows.items():
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row
        if not rows:
            del owners[delta.owner]
            if not owners:
                del self._held[delta.topic, delta.table]

    def by_owner(self, topic: Topic[K, R], table: str = "") -> Mapping[str, Mapping[K, R]]:
        return self._held.get((topic, table), {})

    def merged(self, topic: Topic[K, R], table: str = "") -> Mapping[K, R]:
        """All rows; where owners disagree, the last owner's. Of a single-owner topic: its rows themselves, not a copy."""
        owners = self._held.get((topic, table), {})
        if len(owners) == 1:
            return next(iter(owners.values()))
        found: dict[K, R] = {}
        for rows in owners.values():
            found.update(rows)
        return found

    def get(self, topic: Topic[K, R], key: K, table: str = "") -> R | None:
        """The row of a key, of whichever owner has one."""
        for rows in self._held.get((topic, table), {}).values():
            if key in rows:
                row: R = rows[key]
                return row
        return None

    def holders(self, topic: Topic[K, R], key: K, table: str = "") -> tuple[str, ...]:
        """The owners that hold a row of this key."""
        return tuple(owner for owner, rows in self._held.get((topic, table), {}).items() if key in rows)
