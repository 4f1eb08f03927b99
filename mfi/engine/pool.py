"""Label values: which are free, in use, or resting after use.

Labels that were never given go first, in ascending order; after that, those that rested longest. A freed label rests for
the quarantine time before another FEC may have it, so that packets on their way do not meet its next owner; the FEC that
had it may have it back at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from attrs import define, field

from stack.addr import FIRST_UNRESERVED_LABEL, LAST_LABEL

__all__ = ["Pool"]


@define(eq=False)
class Pool:
    """Dynamic labels `first`..`last` without `reserved_first`..`reserved_last`. Bounded by that range.

    `deadline` is when the next label has rested enough (None: none rests).
    """

    first: int
    last: int
    quarantine: float
    reserved_first: int = 0
    reserved_last: int = 0
    used: set[int] = field(factory=set)
    _cursor: int = 0
    _free: deque[int] = field(factory=deque)
    _resting: dict[int, tuple[float, Hashable]] = field(factory=dict)
    _former: dict[Hashable, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.configure(self.first, self.last, self.quarantine, self.reserved_first, self.reserved_last)

    def configure(self, first: int, last: int, quarantine: float, reserved_first: int = 0, reserved_last: int = 0) -> None:
        """Another range. Labels in use outside of it stay with their FECs until these let go."""
        self.first, self.last = max(first, FIRST_UNRESERVED_LABEL), min(last, LAST_LABEL)
        self.reserved_first, self.reserved_last = reserved_first, reserved_last
        self.quarantine = quarantine
        self._cursor = self.first
        self._free.clear()

    def skip_to(self, label: int) -> None:
        """Give labels from `label` on first (those before it may be remembered by others)."""
        self._cursor = max(self._cursor, label)

    def dynamic(self, label: int) -> bool:
        """Whether `label` may be given without being asked for."""
        return self.first <= label <= self.last and not (0 < self.reserved_first <= label <= self.reserved_last)

    @property
    def size(self) -> int:
        """How many dynamic labels there are."""
        whole = max(0, self.last - self.first + 1)
        low, high = max(self.first, self.reserved_first), min(self.last, self.reserved_last)
        return whole - max(0, high - low + 1) if self.reserved_first else whole

    @property
    def resting(self) -> int:
        return len(self._resting)

    def take(self, owner: Hashable) -> int | None:
        """A dynamic label for `owner`; None if there is none now."""
        former = self._former.get(owner)
        if former is not None and self.dynamic(former):
            self._wake(former)
            self.used.add(former)
            return former
        label = self._fresh()
        if label is not None:
            self.used.add(label)
        return label

    def _fresh(self) -> int | None:
        while self._cursor <= self.last:
            label, self._cursor = self._cursor, self._cursor + 1
            if self._is_free(label):
                return label
        while self._free:
            label = self._free.popleft()
            if self._is_free(label):
                return label
        return None

    def _is_free(self, label: int) -> bool:
        return label not in self.used and label not in self._resting and self.dynamic(label)

    def claim(self, label: int, owner: Hashable) -> bool:
        """This very label, dynamic or not; False if it is in use, or rests after another owner."""
        if label in self.used:
            return False
        if label in self._resting:
            if self._resting[label][1] != owner:
                return False
            self._wake(label)
        self.used.add(label)
        return True

    def release(self, label: int, owner: Hashable, now: float) -> None:
        """`owner` lets go of a label."""
        self.used.remove(label)
        self.rest(label, owner, now)

    def rest(self, label: int, owner: Hashable, now: float) -> None:
        """Nobody but `owner` gets `label` until it has rested."""
        former = self._former.pop(owner, None)
        self._former[owner] = label
        if former is not None and former in self._resting:
            self._resting[former] = (self._resting[former][0], None)
        self._resting.pop(label, None)
        self._resting[label] = (now + self.quarantine, owner)

    def _wake(self, label: int) -> None:
        _, owner = self._resting.pop(label)
        if self._former.get(owner) == label:
            del self._former[owner]

    def deadline(self) -> float | None:
        return min((until for until, _ in self._resting.values()), default=None) if self._resting else None

    def expire(self, now: float) -> int:
        """Labels that have rested enough are free; how many."""
        ready = [label for label, (until, _) in self._resting.items() if until <= now]
        for label in ready:
            self._wake(label)
            if self.dynamic(label) and label < self._cursor:
                self._free.append(label)
        return len(ready)
