"""Neighbours that must be protected, and when to try to reach them: back-off with jitter, so many attempts at once.

A want stands while any owner of `SaWanted` has its row. It knows nothing of IKE: the speaker starts what `due` names, and tells
it how that went.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count

from attrs import define, field

from stack.events import SaKey, SaRequest

__all__ = ["BACKOFF_FIRST", "BACKOFF_LAST", "MAX_IN_FLIGHT", "Want", "Wants"]

MAX_IN_FLIGHT = 64
"""Initiations at once; others wait their turn."""

BACKOFF_FIRST, BACKOFF_LAST = 1.0, 60.0
"""Seconds before the second attempt; each later one waits twice as long as the one before, up to the last figure."""

JITTER = 0.25
"""Of a wait, up or down, so that a thousand peers of one restarted hub do not come back in step."""


@define(eq=False)
class Want:
    """`ike`: number of the IKE SA that is on its way for it (0: none). `up`: a CHILD_SA protects it. `reason`: why not."""

    key: SaKey
    owners: dict[str, SaRequest]
    reason: str = ""
    up: bool = False
    ike: int = 0
    attempts: int = 0
    next_try: float | None = None
    queued: bool = False
    passive: bool = False
    """The peer must come to us, or it cannot be tried at all."""

    @property
    def request(self) -> SaRequest:
        """Of several owners the one that asked first decides."""
        return next(iter(self.owners.values()))


@define(eq=False)
class Wants:
    entropy: Callable[[int], bytes]
    _wants: dict[SaKey, Want] = field(factory=dict)
    _timers: list[tuple[float, int, Want]] = field(factory=list)
    _queue: deque[Want] = field(factory=deque)
    _in_flight: set[int] = field(factory=set)
    _order: Iterator[int] = field(factory=count)

    def __iter__(self) -> Iterator[Want]:
        return iter(list(self._wants.values()))

    def __len__(self) -> int:
        return len(self._wants)

    def get(self, key: SaKey) -> Want | None:
        return self._wants.get(key)

    def put(self, key: SaKey, owner: str, request: SaRequest) -> tuple[Want, bool]:
        """The want, and whether what is asked has changed (or is new)."""
        want = self._wants.get(key)
        if want is None:
            want = self._wants[key] = Want(key, {owner: request})
            return want, True
        before = want.request
        want.owners[owner] = request
        return want, want.request != before

    def take(self, key: SaKey, owner: str) -> Want | None:
        """`owner` wants it no more: the want, if nobody does now."""
        want = self._wants.get(key)
        if want is None or want.owners.pop(owner, None) is None or want.owners:
            return None
        del self._wants[key]
        want.next_try = None
        self.landed(want)
        return want

    def owners_of(self, owner: str) -> list[SaKey]:
        return [key for key, want in self._wants.items() if owner in want.owners]

    def soon(self, want: Want) -> None:
        """Try it as soon as it is its turn."""
        if not want.queued and not want.ike and not want.up and not want.passive:
            want.queued, want.next_try = True, None
            self._queue.append(want)

    def later(self, want: Want, now: float, *, soonest: float = 0.0) -> None:
        """It failed: try again after a while."""
        if want.key not in self._wants or want.up or want.passive:
            return
        wait = min(BACKOFF_FIRST * 2.0 ** min(max(want.attempts - 1, 0), 10), BACKOFF_LAST)
        spread = int.from_bytes(self.entropy(2)) / 0xFFFF * 2.0 - 1.0
        want.next_try = now + max(soonest, wait * (1.0 + JITTER * spread))
        heapq.heappush(self._timers, (want.next_try, next(self._order), want))

    def started(self, want: Want, ike: int) -> None:
        want.ike = ike
        want.attempts += 1
        self._in_flight.add(ike)

    def landed(self, want: Want) -> None:
        """Its initiation is over, well or badly."""
        self._in_flight.discard(want.ike)
        want.ike = 0

    def satisfied(self, want: Want) -> None:
        self.landed(want)
        want.up, want.attempts, want.next_try, want.reason = True, 0, None, ""

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def due(self, now: float) -> Iterator[Want]:
        """Those whose turn it is. Call `started` or `later` for each before the next."""
        while self._timers and self._timers[0][0] <= now:
            when, _, want = heapq.heappop(self._timers)
            if want.next_try == when:
                self.soon(want)
        while self._queue and self.in_flight < MAX_IN_FLIGHT:
            want = self._queue.popleft()
            want.queued = False
            if self._wants.get(want.key) is want and not want.up and not want.ike and not want.passive:
                yield want

    def deadline(self) -> float | None:
        while self._timers and self._timers[0][2].next_try != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None
