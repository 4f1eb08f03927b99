"""A keyed table with one writer: what most tables are, and what the others borrow their write rule from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Generic, TypeVar

from attrs import define, field

__all__ = ["JOURNAL", "KeyedTable", "Revoked", "SecondWriter", "WriteRule", "Writer"]

K = TypeVar("K")
R = TypeVar("R")


JOURNAL = 4_096
"""Changes that a table remembers; whoever looks less often must look at all of it."""


class SecondWriter(Exception):
    """Somebody else already writes this table."""


class Revoked(Exception):
    """This write handle was taken back: its service has ended."""


@define
class WriteRule:
    """Who may write. `name` is the table's, for messages."""

    name: str
    owner: str | None = None
    epoch: int = 0

    def claim(self, owner: str) -> int:
        """The epoch under which `owner` may write. Raises SecondWriter."""
        if self.owner is not None:
            raise SecondWriter(f"table {self.name} is written by {self.owner}; {owner} may only read it")
        self.owner = owner
        self.epoch += 1
        return self.epoch

    def revoke(self, owner: str) -> None:
        if self.owner == owner:
            self.owner = None
            self.epoch += 1

    def check(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise Revoked(f"the write handle of table {self.name} was taken back")


@define(eq=False)
class KeyedTable(Generic[K, R]):
    """Rows by key. `generation` grows with every change, so that caches know when to forget."""

    rule: WriteRule
    rows: dict[K, R] = field(factory=dict)
    generation: int = 0
    _journal: deque[K] = field(factory=lambda: deque(maxlen=JOURNAL))

    def get(self, key: K) -> R | None:
        return self.rows.get(key)

    def changed(self, key: K) -> None:
        """For the writer: the row of `key` has changed."""
        self.generation += 1
        self._journal.append(key)

    def changed_since(self, generation: int) -> set[K] | None:
        """The keys that changed after `generation`; None: too many to remember."""
        count = self.generation - generation
        if generation < 0 or count > len(self._journal):
            return None
        return set(islice(reversed(self._journal), count))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[R]:
        return iter(list(self.rows.values()))

    def writer(self, owner: str) -> Writer[K, R]:
        """The one write handle. Raises SecondWriter."""
        return Writer(self, self.rule.claim(owner))

    def revoke(self, owner: str) -> None:
        self.rule.revoke(owner)


@define(eq=False)
class Writer(Generic[K, R]):
    """Writes rows of one table, until it is revoked."""

    table: KeyedTable[K, R]
    epoch: int

    def put(self, key: K, row: R) -> bool:
        """Set a row; False if it stood there already."""
        self.table.rule.check(self.epoch)
        if self.table.rows.get(key) == row:
            return False
        self.table.rows[key] = row
        self.table.changed(key)
        return True

    def remove(self, key: K) -> R | None:
        self.table.rule.check(self.epoch)
        row = self.table.rows.pop(key, None)
        if row is not None:
            self.table.changed(key)
        return row

    def keep_only(self, wanted: Mapping[K, object]) -> list[K]:
        """Remove every row whose key is not in `wanted` (after a re-sync); returns the keys that went."""
        gone = [key for key in self.table.rows if key not in wanted]
        for key in gone:
            self.remove(key)
        return gone
