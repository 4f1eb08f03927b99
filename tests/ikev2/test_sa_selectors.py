"""Traffic selectors: what is left when two ends narrow (RFC 7296 2.9), ports that are hidden, addresses behind a NAT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.engine.selectors import MAX_SELECTORS, intersection, narrow, substitute, within
from stack.esp import Selector

OPAQUE = (65535, 0)
BYTE = st.integers(0, 255)


@st.composite
def selectors(draw):
    first, last = sorted((draw(BYTE), draw(BYTE)))
    ports = draw(st.one_of(st.just(OPAQUE), st.just((0, 65535)), st.tuples(st.integers(0, 9), st.integers(10, 20))))
    return Selector(bytes([10, 0, 0, first]), bytes([10, 0, 0, last]), draw(st.sampled_from([0, 6, 47])), *ports)


def lets(selector, address, protocol, port):
    """`port` None: hidden, as in a fragment."""
    if selector[3:] == OPAQUE:
        fits = port is None
    elif port is None:
        fits = selector[3:] == (0, 65535)
    else:
        fits = selector.first_port <= port <= selector.last_port
    return fits and selector.first[3] <= address <= selector.last[3] and selector.protocol in (0, protocol)


@given(selectors(), selectors(), BYTE, st.sampled_from([6, 47]), st.one_of(st.none(), st.integers(0, 30)))
def test_an_intersection_lets_through_what_both_do(one, other, address, protocol, port):
    both = intersection(one, other)
    inside = both is not None and lets(both, address, protocol, port)
    assert inside == (lets(one, address, protocol, port) and lets(other, address, protocol, port))


@given(st.lists(selectors(), max_size=6), st.lists(selectors(), max_size=6))
def test_what_is_narrowed_lies_within_both(offered, allowed):
    left = narrow(offered, allowed)
    assert within(left, offered)
    assert within(left, allowed)
    assert len(left) == len(set(left))


def test_addresses_of_two_families_have_nothing_in_common():
    four, six = Selector(bytes(4), b"\xff" * 4), Selector(bytes(16), b"\xff" * 16)
    assert intersection(four, six) is None
    assert narrow([four], [six]) == ()


def test_I14_narrowing_is_bounded():
    many = [Selector(bytes([10, 0, n, 0]), bytes([10, 0, n, 9])) for n in range(MAX_SELECTORS)]
    allowed = [Selector(bytes(4), b"\xff" * 4, protocol) for protocol in range(1, 40)]
    assert len(narrow(many, allowed)) == MAX_SELECTORS


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Selector(b"\1\1\1\1", b"\1\1\1\1", 47), Selector(b"\2\2\2\2", b"\2\2\2\2", 47)),
        (Selector(b"\1\1\1\0", b"\1\1\1\7", 47), Selector(b"\1\1\1\0", b"\1\1\1\7", 47)),
        (Selector(bytes(16), bytes(16)), Selector(bytes(16), bytes(16))),
    ],
)
def test_rfc7296_2_23_1_only_hosts_are_substituted(before, after):
    assert substitute([before], b"\2\2\2\2") == (after,)
