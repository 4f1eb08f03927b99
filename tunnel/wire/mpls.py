"""MPLS label stacks: octets <-> entries (RFC 3032 2.1; the EXP bits are the traffic class, RFC 5462)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from stack.wire import Reader, WireError

__all__ = ["MAX_DEPTH", "LabelEntry", "decode", "encode"]

RFC = "RFC 3032 2.1"
MAX_DEPTH = 16
"""Deeper stacks are refused: no network of ours builds them, and a walk must have an end."""


class LabelEntry(NamedTuple):
    """One entry. `tc` 0-7, `bottom` set on the last one only, `ttl` 0-255."""

    label: int
    tc: int
    bottom: bool
    ttl: int


#   0                   1                   2                   3
#   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#  |                Label                  | TC  |S|       TTL     |
#  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def decode(octets: bytes | memoryview, depth: int = MAX_DEPTH) -> tuple[LabelEntry, ...]:
    """The stack at the start of `octets`, down to the bottom bit; 4 octets an entry. Raises WireError.

    A stack without a bottom, or deeper than `depth`, is an error.
    """
    reader = Reader.of(octets, RFC)
    entries: list[LabelEntry] = []
    while len(entries) < depth:
        word = reader.uint(4, "label stack entry")
        entries.append(LabelEntry(word >> 12, word >> 9 & 7, bool(word & 0x100), word & 0xFF))
        if word & 0x100:
            return tuple(entries)
    raise WireError(f"deeper than {depth} labels", reader.offset, "label stack", RFC)


def encode(entries: Iterable[LabelEntry]) -> bytes:
    return b"".join(
        (entry.label << 12 | entry.tc << 9 | entry.bottom << 8 | entry.ttl).to_bytes(4) for entry in entries
    )
