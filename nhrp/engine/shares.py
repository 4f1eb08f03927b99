"""So many a second of something, for all; and nobody takes the others' part.

Half of it is for whoever comes first. Of the other half each gets as much as its own share still has: who asks for more than
that waits, who asks seldom is served however much others ask.
"""

from __future__ import annotations

from collections.abc import Hashable

from attrs import define, field

__all__ = ["PARTS", "Shares"]

PARTS = 8
"""The share of one is this part of the whole."""


@define(eq=False)
class _Bucket:
    """So many a second, and as many at once."""

    rate: float
    tokens: float
    at: float

    def fill(self, now: float) -> float:
        self.tokens = min(self.rate, self.tokens + max(now - self.at, 0.0) * self.rate)
        self.at = now
        return self.tokens


@define(eq=False)
class Shares:
    """`rate` a second, and at once. Bounded: whose share is whole again is not remembered."""

    rate: float
    _all: _Bucket | None = None
    _of: dict[Hashable, _Bucket] = field(factory=dict)

    def take(self, who: Hashable, now: float) -> bool:
        """Whether `who` may."""
        everyone = self._all
        if everyone is None:
            everyone = self._all = _Bucket(self.rate, self.rate, now)
        if everyone.fill(now) < 1:
            return False
        own = self._of.pop(who, None) or _Bucket(max(self.rate / PARTS, 1.0), max(self.rate / PARTS, 1.0), now)
        self._of[who] = own  # the one that was asked last is the last
        if own.fill(now) >= 1:
            own.tokens -= 1
        elif everyone.tokens <= self.rate / 2:
            return False
        everyone.tokens -= 1
        self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        """Two that have not asked for a second: their share is whole again. One comes at a time, so two are enough."""
        for _ in range(2):
            first = next(iter(self._of))
            if now - self._of[first].at < 1.0:
                return
            del self._of[first]

    def __len__(self) -> int:
        return len(self._of)
