"""ROUTE-REFRESH that peers send: answered, but not as often as they like (RFC 2918 4, RFC 7313 4)."""

from __future__ import annotations

from attrs import define, field

from bgp.engine.outputs import PeerKey
from bgp.wire import Family

__all__ = ["WINDOW", "RefreshGate"]

WINDOW = 2.0
"""Seconds in which one peer's requests for one family are answered once; those that come on top are answered together,
at its end."""


@define(eq=False)
class RefreshGate:
    """(peer, family) -> when its window ends, and whether a request waits for that. Bounded by peers times families."""

    _windows: dict[tuple[PeerKey, Family], tuple[float, bool]] = field(factory=dict)
    deferred: int = 0

    def ask(self, key: PeerKey, family: Family, now: float) -> bool:
        """Whether to answer at once."""
        window = self._windows.get((key, family))
        if window is None or window[0] <= now:
            self._windows[key, family] = (now + WINDOW, False)
            return True
        self._windows[key, family] = (window[0], True)
        self.deferred += 1
        return False

    def due(self, now: float) -> list[tuple[PeerKey, Family]]:
        """Requests whose window is over; each opens the next one."""
        ended = [(pair, waits) for pair, (end, waits) in self._windows.items() if end <= now]
        for pair, waits in ended:
            if waits:
                self._windows[pair] = (now + WINDOW, False)
            else:
                del self._windows[pair]
        return [pair for pair, waits in ended if waits]

    def deadline(self) -> float | None:
        return min((end for end, waits in self._windows.values() if waits), default=None)

    def forget(self, key: PeerKey) -> None:
        for pair in [pair for pair in self._windows if pair[0] == key]:
            del self._windows[pair]
