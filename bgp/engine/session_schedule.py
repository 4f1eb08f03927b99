"""Which peer must be woken when: a heap of times, put right lazily."""

from __future__ import annotations

import heapq

from attrs import define, field

from bgp.engine.outputs import PeerKey

__all__ = ["Schedule"]

_SLACK = 64


@define(eq=False)
class Schedule:
    """The earliest time to look at each peer. A hold timer that moves on with every message costs nothing here: the entry
    stands at the old time, the peer is looked at then, and is entered anew. At most twice as many entries as peers."""

    _heap: list[tuple[float, PeerKey]] = field(factory=list)
    _entered: dict[PeerKey, float] = field(factory=dict)

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, key: PeerKey, when: float | None) -> None:
        """`key` wants to be woken at `when`, or not at all."""
        if when is None:
            return
        entered = self._entered.get(key)
        if entered is not None and entered <= when:
            return
        self._entered[key] = when
        heapq.heappush(self._heap, (when, key))
        if len(self._heap) > 2 * len(self._entered) + _SLACK:
            self._heap = [(time, peer) for peer, time in self._entered.items()]
            heapq.heapify(self._heap)

    def forget(self, key: PeerKey) -> None:
        self._entered.pop(key, None)

    def due(self, now: float) -> list[PeerKey]:
        """The peers to look at now; enter them again afterwards."""
        keys = []
        while self._heap and self._heap[0][0] <= now:
            when, key = heapq.heappop(self._heap)
            if self._entered.get(key) == when:
                del self._entered[key]
                keys.append(key)
        return keys

    def deadline(self) -> float | None:
        while self._heap and self._entered.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
