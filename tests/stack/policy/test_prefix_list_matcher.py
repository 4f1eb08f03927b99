"""The matcher of a prefix list: as the definition says, and at a price that does not grow with the list."""

from __future__ import annotations

import gc
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stack.addr import Afi, Prefix
from stack.policy.lists import PrefixEntry, PrefixList


def by_definition(rows: PrefixList, prefix: Prefix) -> bool:
    """The first entry that matches decides, else deny; an empty list permits all."""
    return not rows.entries or next((entry.permit for entry in rows.entries if entry.matches(prefix)), False)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    octets = draw(st.sampled_from((4, 16)))
    address = draw(st.lists(st.sampled_from((0, 10, 128, 255)), min_size=octets, max_size=octets))
    return Prefix.of(bytes(address), draw(st.sampled_from((0, 1, 8, 9, 16, 24, 30, 32))))


@st.composite
def entries(draw: st.DrawFn) -> PrefixEntry:
    prefix = draw(prefixes())
    bits = len(prefix.network) * 8
    low = draw(st.none() | st.integers(prefix.length, bits))
    high = draw(st.none() | st.integers(prefix.length if low is None else low, bits))
    return PrefixEntry(draw(st.integers(1, 40)), draw(st.booleans()), prefix, low, high)


@given(st.lists(entries(), max_size=12), st.sampled_from(Afi), st.lists(prefixes(), min_size=1, max_size=12))
def test_it_is_the_first_entry_that_decides(made: list[PrefixEntry], afi: Afi, tried: list[Prefix]) -> None:
    size = 4 if afi == Afi.IPV4 else 16
    rows = PrefixList("x", afi, tuple(entry for entry in made if len(entry.prefix.network) == size))
    permits = rows.matcher()
    for prefix in tried:
        wanted = by_definition(rows, prefix) if len(prefix.network) == size or not rows.entries else False
        assert permits(prefix) is wanted


def steps(work: Any) -> int:
    """Lines of Python that `work` runs."""
    count = 0

    def trace(_frame: Any, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    gc.disable()  # what is thrown away just now may have lines of its own to run
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
        gc.enable()
    return count


def test_1000_entries_cost_what_10_do() -> None:
    def permits(count: int) -> Any:
        made = tuple(PrefixEntry(n + 1, True, Prefix(bytes((10, n >> 8, n & 255, 0)), 24)) for n in range(count))
        return PrefixList("customers", Afi.IPV4, made).matcher()

    few, many, other = permits(10), permits(1000), Prefix(bytes((192, 0, 2, 0)), 24)
    assert steps(lambda: many(other)) == steps(lambda: few(other))
    assert many(Prefix(bytes((10, 3, 1, 0)), 24)) is True
    assert many(other) is False
