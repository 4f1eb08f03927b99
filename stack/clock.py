"""Time as services see it. Engines never see it: they are given `now`."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "OsClock"]


class Clock(Protocol):
    """`now` is monotonic seconds on the same scale as the running loop's `time()`; `wall` is seconds since 1970."""

    def now(self) -> float: ...
    def wall(self) -> float: ...


class OsClock:
    """asyncio and uvloop both run on CLOCK_MONOTONIC, as time.monotonic does."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
