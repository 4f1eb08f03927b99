"""Our own addresses as BGP looks them up: the same answers as by looking at each of them, at a price that does not grow."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bgp.engine.session_addresses import LocalAddresses, OwnAddress
from stack.addr import Prefix
from tests.bgp.engine.test_session_parts import interface


def by_looking_at_each(book: LocalAddresses, vrf: str, remote: bytes) -> OwnAddress | None:
    """The definition: of our addresses on a subnet that `remote` is on, the one of the longest; the first of those."""
    on = [
        own
        for own in book.own(vrf)
        if len(own.address) == len(remote)
        and own.address != remote
        and Prefix.of(own.address, own.length).covers(remote)
    ]
    return max(on, key=lambda own: own.length, default=None)


FEW_BITS = st.integers(0, 255).map(lambda n: bytes((10, 0, 0, n)))
OWN = st.lists(
    st.tuples(FEW_BITS, st.sampled_from((0, 8, 24, 26, 28, 30, 31, 32)), st.sampled_from(("", "red")), st.booleans()),
    max_size=6,
)


@given(own=OWN, remotes=st.lists(FEW_BITS, min_size=1, max_size=5), vrf=st.sampled_from(("", "red", "blue")))
def test_the_longest_subnet_wins(own: list[tuple[bytes, int, str, bool]], remotes: list[bytes], vrf: str) -> None:
    book = LocalAddresses()
    for number, (address, length, where, up) in enumerate(own):
        text = f"{'.'.join(map(str, address))}/{length}"
        name = f"Ethernet0/{number}"
        book.apply({name: interface(name, text, vrf=where, up=up, index=number + 1)})
        for remote in remotes:
            assert book.connected(vrf, remote) == by_looking_at_each(book, vrf, remote)


def calls(work: Any) -> int:
    """Python calls that `work` makes."""
    count = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_a_look_up_costs_the_same_with_1000_interfaces() -> None:
    # 1,000 neighbours are looked up after every change of an interface: with a walk over 1,000 addresses each, 3 seconds
    def book_of(interfaces: int) -> LocalAddresses:
        book = LocalAddresses()
        book.apply({f"e{n}": interface(f"e{n}", f"10.{n >> 8}.{n & 255}.1/24", index=n + 1) for n in range(interfaces)})
        book.connected("", bytes((10, 0, 0, 2)))  # the index is made by the first look-up after a change
        return book

    few, many = book_of(3), book_of(1_000)
    remote = bytes((10, 0, 2, 9))
    assert many.connected("", remote) == OwnAddress("e2", bytes((10, 0, 2, 1)), 24)
    assert calls(lambda: many.connected("", remote)) == calls(lambda: few.connected("", remote))
