"""Label values: which are free, in use, or resting after use.

Labels that were never given go first, in ascending order; after that, those that rested longest. A freed label rests for
the quarantine time before another FEC may have it, so that packets on their way do not meet its next owner; the FEC that
had it may have it back at once.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from attrs import define, field

from stack.addr import FIRST_UNRESERVED_LABEL, LAST_LABEL, Fec

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
    _resting: dict[int, tuple[float, Fec | None]] = field(factory=dict)
    """Label -> (until when, who may have it back). May be handed in, to survive this pool."""
    used: set[int] = field(factory=set)
    _cursor: int = 0
    _free: deque[int] = field(factory=deque)
    _order: list[tuple[float, int]] = field(factory=list)
    """A heap of the same; entries of labels that were taken back early are skipped."""
    _former: dict[Fec, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.configure(self.first, self.last, self.quarantine, self.reserved_first, self.reserved_last)
        self._order = sorted((until, label) for label, (until, _) in self._resting.items())
        self._former = {owner: label for label, (_, owner) in self._resting.items() if owner is not None}

    def configure(
        self, first: int, last: int, quarantine: float, reserved_first: int = 0, reserved_last: int = 0
    ) -> None:
        """Another range. Labels in use outside of it stay with their FECs until these let go."""
        self.first, self.last = max(first, FIRST_UNRESERVED_LABEL), min(last, LAST_LABEL)
        self.reserved_first, self.reserved_last = reserved_first, reserved_last
        self.quarantine = quarantine
        self._cursor = self.first
        self._free.clear()

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

    def take(self, owner: Fec) -> int | None:
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

    def claim(self, label: int, owner: Fec) -> bool:
        """This very label, dynamic or not; False if it is in use, or rests after another owner."""
        if label in self.used:
            return False
        if label in self._resting:
            if self._resting[label][1] != owner:
                return False
            self._wake(label)
        self.used.add(label)
        return True

    def release(self, label: int, owner: Fec, now: float) -> None:
        """`owner` lets go of a label: nobody else gets it until it has rested."""
        self.used.remove(label)
        former = self._former.get(owner)
        if former is not None:
            self._resting[former] = (self._resting[former][0], None)
        self._former[owner] = label
        until = now + self.quarantine
        self._resting[label] = (until, owner)
        heappush(self._order, (until, label))

    def _wake(self, label: int) -> None:
        _, owner = self._resting.pop(label)
        if owner is not None:
            del self._former[owner]

    def deadline(self) -> float | None:
        order = self._order
        while order and self._resting.get(order[0][1], (None,))[0] != order[0][0]:
            heappop(order)
        return order[0][0] if order else None

    def expire(self, now: float) -> int:
        """Labels that have rested enough are free; how many."""
        count = 0
        while (until := self.deadline()) is not None and until <= now:
            _, label = heappop(self._order)
            self._wake(label)
            count += 1
            if label < self._cursor:
                self._free.append(label)
        return count
