"""So many a second of something, for each who asks, and for all together; and nobody takes the others' part."""

from __future__ import annotations

from collections.abc import Hashable

from attrs import define, field

__all__ = ["PARTS", "Limits", "Shares"]

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
class Limits:
    """`rate` a second, and at once, for each. Bounded by how many ask within a second: whose bucket is full again is not
    remembered."""

    rate: float
    _of: dict[Hashable, _Bucket] = field(factory=dict)

    def take(self, who: Hashable, now: float) -> bool:
        """Whether `who` may."""
        own = self._of.pop(who, None) or _Bucket(self.rate, self.rate, now)
        self._of[who] = own  # the one that asked last is the last
        may = own.fill(now) >= 1
        if may:
            own.tokens -= 1
        self._forget(now)
        return may

    def _forget(self, now: float) -> None:
        """Up to two that have not asked for a second. One comes at a time, so two are enough."""
        for _ in range(2):
            first = next(iter(self._of))
            if now - self._of[first].at <= 1.0:
                return
            del self._of[first]

    def __len__(self) -> int:
        return len(self._of)


@define(eq=False)
class Shares:
    """`rate` a second, and at once, for all. Half of it is for whoever comes first. Of the other half each gets as much as its
    own share still has: who asks for more than that waits, who asks seldom is served however much others ask."""

    rate: float
    _each: Limits = field(init=False)
    _all: _Bucket | None = None

    def __attrs_post_init__(self) -> None:
        self._each = Limits(max(self.rate / PARTS, 1.0))

    def take(self, who: Hashable, now: float) -> bool:
        """Whether `who` may."""
        everyone = self._all
        if everyone is None:
            everyone = self._all = _Bucket(self.rate, self.rate, now)
        if everyone.fill(now) < 1 or not (self._each.take(who, now) or everyone.tokens > self.rate / 2):
            return False
        everyone.tokens -= 1
        return True

    def __len__(self) -> int:
        return len(self._each)
