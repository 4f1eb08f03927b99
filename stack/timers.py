"""What an engine has to do later: any number of named times behind the one `deadline()`. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from itertools import count

from attrs import define, field

__all__ = ["Timers"]


@define(eq=False)
class Timers:
    """When what is due; one time for each key."""

    _when: dict[Hashable, float] = field(factory=dict)
    _heap: list[tuple[float, int, Hashable]] = field(factory=list)
    _order: Iterator[int] = field(factory=count)

    def set(self, key: Hashable, when: float | None) -> None:
        if when is None:
            self._when.pop(key, None)
        elif self._when.get(key) != when:
            self._when[key] = when
            heapq.heappush(self._heap, (when, next(self._order), key))
            if len(self._heap) > 64 + 4 * len(self._when):
                # What was overtaken is thrown away before it is the larger part.
                self._heap = [(when, next(self._order), key) for key, when in self._when.items()]
                heapq.heapify(self._heap)

    def due(self, now: float) -> Hashable | None:
        """One that is due, taken out."""
        self._tidy()
        if not self._heap or self._heap[0][0] > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._when[key]
        return key

    def of(self, kind: str) -> list[int]:
        """Numbers of all (`kind`, number) that are set."""
        return [key[1] for key in self._when if isinstance(key, tuple) and key[0] == kind]

    def deadline(self) -> float | None:
        self._tidy()
        return self._heap[0][0] if self._heap else None

    def _tidy(self) -> None:
        while self._heap and self._when.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def __contains__(self, key: object) -> bool:
        return key in self._when

    def __len__(self) -> int:
        return len(self._when)
