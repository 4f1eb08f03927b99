"""Traffic selectors: narrowing (RFC 7296 2.9), and their addresses in transport mode behind a NAT (2.23.1)."""

from __future__ import annotations

from collections.abc import Iterable

from stack.esp import Selector

__all__ = ["MAX_SELECTORS", "intersection", "narrow", "substitute", "within"]

MAX_SELECTORS = 255
"""In one payload (RFC 7296 3.13: the count is one octet)."""


def intersection(one: Selector, other: Selector) -> Selector | None:
    """What both let through; None: nothing."""
    if len(one.first) != len(other.first):
        return None
    first, last = max(one.first, other.first), min(one.last, other.last)
    if first > last or (one.protocol and other.protocol and one.protocol != other.protocol):
        return None
    ports = _ports(one, other)
    if ports is None:
        return None
    return Selector(first, last, one.protocol or other.protocol, *ports)


def _ports(one: Selector, other: Selector) -> tuple[int, int] | None:
    """RFC 7296 3.13.1: 65535 to 0 is OPAQUE, which only itself and every port hold."""
    opaque = (65535, 0)
    ours, theirs = (one.first_port, one.last_port), (other.first_port, other.last_port)
    if opaque in {ours, theirs}:
        return opaque if {ours, theirs} <= {opaque, (0, 65535)} else None
    first, last = max(ours[0], theirs[0]), min(ours[1], theirs[1])
    return (first, last) if first <= last else None


def narrow(offered: Iterable[Selector], allowed: Iterable[Selector]) -> tuple[Selector, ...]:
    """The part of `offered` that `allowed` holds, in the order of `offered`, each once; empty: nothing is left."""
    allowed = tuple(allowed)
    found: dict[Selector, None] = {}
    for one in offered:
        for other in allowed:
            both = intersection(one, other)
            if both is not None and both not in found:
                found[both] = None
                if len(found) == MAX_SELECTORS:
                    return tuple(found)
    return tuple(found)


def within(inner: Iterable[Selector], outer: Iterable[Selector]) -> bool:
    """Whether each of `inner` lies in one of `outer`."""
    outer = tuple(outer)
    return all(any(intersection(one, other) == one for other in outer) for one in inner)


def substitute(selectors: Iterable[Selector], address: bytes) -> tuple[Selector, ...]:
    """RFC 7296 2.23.1: a NAT has changed what the sender knew as the address of this end; selectors of one host are of
    `address`."""
    return tuple(
        Selector(address, address, *one[2:]) if one.first == one.last and len(one.first) == len(address) else one
        for one in selectors
    )
