"""Spans of time as IOS prints them."""

from __future__ import annotations

__all__ = ["age", "clock"]

MINUTE, HOUR, DAY, WEEK, YEAR = 60, 3600, 86_400, 604_800, 31_449_600


def clock(seconds: float) -> str:
    """`23:59:30`, never negative, and more than two digits of hours if it must be."""
    whole = max(0, int(seconds))
    return f"{whole // HOUR:02}:{whole // MINUTE % 60:02}:{whole % 60:02}"


def age(seconds: float) -> str:
    """`01:02:03`, `1d02h`, `3w4d`, `2y05w`."""
    whole = max(0, int(seconds))
    if whole < DAY:
        return clock(whole)
    if whole < WEEK:
        return f"{whole // DAY}d{whole % DAY // HOUR:02}h"
    if whole < YEAR:
        return f"{whole // WEEK}w{whole % WEEK // DAY}d"
    return f"{whole // YEAR}y{whole % YEAR // WEEK:02}w"
