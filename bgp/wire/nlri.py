"""NLRI octets <-> `Nlri`, one row a family. `read` is one of the two hot loops of the suite, so it is written out.

Plain (RFC 4271 4.3), labelled (RFC 8277 2.2) and VPN (RFC 4364 4.3.4) NLRI; with ADD-PATH (RFC 7911 3) the path
identifier comes first:

    +--------------------+----------------------+------------------------+----------------------+--------------------+
    | path id, 4 octets  | length in bits, 1    | label, 3: 20 bits,     | RD, 8 octets         | prefix, significant|
    | (ADD-PATH only)    | (of all that follows)| 3 reserved, S          | (VPN only)           | octets only        |
    +--------------------+----------------------+------------------------+----------------------+--------------------+

So everything after the label, then the prefix length, is the key: one slice and one concatenation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bgp.wire.family import FAMILIES, Family, Nlri
from stack.addr import LabelStack
from stack.wire import WireError

__all__ = ["FAMILY_ROWS", "FamilyRow", "read", "row_of", "write_reach", "write_unreach"]

_new: Callable[[type[Nlri], tuple[bytes, LabelStack, int]], Nlri] = tuple.__new__  # Nlri() without its Python frame
_HOST_BITS = tuple(0xFF >> used & 0xFF if used else 0 for used in range(8))
WITHDRAWN_LABEL = b"\x80\0\0"
"""What stands for the label in a withdrawal (RFC 8277 2.4: SHOULD be 0x800000, MUST be ignored)."""


class FamilyRow(NamedTuple):
    """What reading a family needs. The tables are indexed by the length octet.

    `sizes`: octets of the whole NLRI from the length octet on, 0 where the length is not allowed; `lengths`: the prefix
    length as one octet; `before`: octets between the length octet and the key; `next_hops`: allowed next hop sizes.
    """

    family: Family
    code: bytes
    overhead: int
    sizes: bytes
    lengths: tuple[bytes, ...]
    before: int
    next_hops: frozenset[int]
    rfc: str


_RFCS = {1: "RFC 4271 4.3", 4: "RFC 8277 2.2", 128: "RFC 4364 4.3.4"}


def _row(family: Family) -> FamilyRow:
    overhead = (24 if family.labelled else 0) + (64 if family.vpn else 0)
    allowed = range(overhead, overhead + family.bits + 1)
    if family.vpn:
        next_hops = {24, 48} | ({12} if family.afi == 1 else set())
    else:
        next_hops = {16, 32} | ({4} if family.afi == 1 else set())
    return FamilyRow(
        family,
        family.afi.to_bytes(2) + bytes((family.safi,)),
        overhead,
        bytes(1 + (bits + 7 >> 3) if bits in allowed else 0 for bits in range(256)),
        tuple(bytes((bits - overhead,)) if bits in allowed else b"" for bits in range(256)),
        3 if family.labelled else 0,
        frozenset(next_hops),
        _RFCS[family.safi],
    )


FAMILY_ROWS = {row.code: row for row in map(_row, FAMILIES)}
"""The three octets of AFI and SAFI -> row."""
_ROWS_BY_FAMILY = {row.family: row for row in FAMILY_ROWS.values()}


def row_of(family: Family) -> FamilyRow:
    """The row of a known family. Raises KeyError."""
    return _ROWS_BY_FAMILY[family]


def read(
    octets: bytes, at: int, end: int, row: FamilyRow, *, addpath: bool, stacked: bool, withdrawn: bool = False
) -> tuple[Nlri, ...]:
    """The NLRI in `octets[at:end]`, all or none. Raises WireError.

    `stacked`: label stacks end with their S bit (RFC 8277 2.3). `withdrawn`: labels are ignored (RFC 8277 2.4).
    """
    if addpath or (stacked and row.before and not withdrawn):
        return _read_any(octets, at, end, row, addpath=addpath, stacked=stacked and not withdrawn, withdrawn=withdrawn)
    if row.before and not withdrawn:
        return _read_labelled(octets, at, end, row)
    return _read_unlabelled(octets, at, end, row)


def _read_labelled(octets: bytes, at: int, end: int, row: FamilyRow) -> tuple[Nlri, ...]:
    """The hot loop: one label, no path identifier. The S bit is not looked at (RFC 8277 2.2: MUST be ignored)."""
    routes: list[Nlri] = []
    add, new = routes.append, _new
    sizes, lengths = row.sizes, row.lengths
    label, stack = b"", (0,)
    while at < end:
        bits = octets[at]
        after = at + sizes[bits]
        if after > end or after == at:
            raise _unreadable(at, end, row, bits)
        octets_of_label = octets[at + 1 : at + 4]
        if octets_of_label != label:  # a tuple shared by neighbours with one label is 88 octets less a route
            label, stack = octets_of_label, (int.from_bytes(octets_of_label) >> 4,)
        key = octets[at + 4 : after] + lengths[bits]
        used = bits & 7
        if used and octets[after - 1] & _HOST_BITS[used]:
            key = _without_host_bits(key, used)
        add(new(Nlri, (key, stack, 0)))
        at = after
    return tuple(routes)


def _read_unlabelled(octets: bytes, at: int, end: int, row: FamilyRow) -> tuple[Nlri, ...]:
    """No path identifier; a label, if the family has one, is skipped."""
    routes: list[Nlri] = []
    add, new = routes.append, _new
    sizes, lengths, before = row.sizes, row.lengths, 1 + row.before
    while at < end:
        bits = octets[at]
        after = at + sizes[bits]
        if after > end or after == at:
            raise _unreadable(at, end, row, bits)
        key = octets[at + before : after] + lengths[bits]
        used = bits & 7
        if used and octets[after - 1] & _HOST_BITS[used]:
            key = _without_host_bits(key, used)
        add(new(Nlri, (key, (), 0)))
        at = after
    return tuple(routes)


def _read_any(
    octets: bytes, at: int, end: int, row: FamilyRow, *, addpath: bool, stacked: bool, withdrawn: bool
) -> tuple[Nlri, ...]:
    """Any NLRI, with path identifier and label stack as negotiated."""
    routes: list[Nlri] = []
    while at < end:
        path_id = 0
        if addpath:
            if end - at < 5:
                raise WireError(f"{end - at} octets left for a path identifier and a length", at, "NLRI", "RFC 7911 3")
            path_id = int.from_bytes(octets[at : at + 4])
            at += 4
        bits = octets[at]
        after = at + 1 + (bits + 7 >> 3)
        if after > end:
            raise _unreadable(at, end, row, bits)
        stack, depth = _read_stack(octets, at, after, row, stacked=stacked)
        rest = bits - 24 * (depth - 1) if depth else bits  # as if there were one label: then the row's tables hold
        if rest < 0 or not row.sizes[rest]:
            raise _unreadable(at, end, row, bits)
        key = octets[at + 1 + 3 * depth : after] + row.lengths[rest]
        used = bits & 7
        if used and octets[after - 1] & _HOST_BITS[used]:
            key = _without_host_bits(key, used)
        routes.append(Nlri(key, () if withdrawn else stack, path_id))
        at = after
    return tuple(routes)


def _read_stack(octets: bytes, at: int, after: int, row: FamilyRow, *, stacked: bool) -> tuple[LabelStack, int]:
    """The labels of the NLRI whose length octet is at `at`, and how many of them there are."""
    if not row.before:
        return (), 0
    labels: list[int] = []
    position = at + 1
    while True:
        if position + 3 > after:
            raise WireError("a label runs past the NLRI", position, "NLRI", "RFC 8277 2.3")
        entry = int.from_bytes(octets[position : position + 3])
        labels.append(entry >> 4)
        position += 3
        if not stacked or entry & 1:
            return tuple(labels), len(labels)


def _without_host_bits(key: bytes, used: int) -> bytes:
    """The trailing bits of a prefix are irrelevant (RFC 4271 4.3), so two spellings must be one key."""
    return key[:-2] + bytes((key[-2] & ~_HOST_BITS[used] & 0xFF, key[-1]))


def _unreadable(at: int, end: int, row: FamilyRow, bits: int) -> WireError:
    """Why the NLRI at `at` cannot be read (RFC 7606 5.3)."""
    lowest, highest = row.overhead, row.overhead + row.family.bits
    if not row.sizes[bits]:
        return WireError(f"length {bits} bits, {lowest} to {highest} wanted", at, f"{row.family} NLRI", row.rfc)
    what = f"{row.sizes[bits] - 1} octets wanted, {end - at - 1} left"
    return WireError(what, at, f"{row.family} NLRI", "RFC 7606 5.3")


def write_reach(routes: Sequence[Nlri], row: FamilyRow, *, addpath: bool) -> list[bytes]:
    """Each route's NLRI octets, in order; labelled families need at least one label a route."""
    if not row.before:
        written = [key[-1:] + key[:-1] for key, _, _ in routes]
    else:
        heads, overhead = _HEADS[row.family], row.overhead
        last: LabelStack = ()
        labels = b""
        written = []
        for key, stack, _ in routes:
            if stack != last:
                labels, last = _stack_octets(stack), stack
            if len(stack) == 1:
                written.append(heads[key[-1]] + labels + key[:-1])
            else:
                written.append(bytes((key[-1] + overhead + 24 * (len(stack) - 1),)) + labels + key[:-1])
    return _with_path_ids(routes, written) if addpath else written


def write_unreach(routes: Sequence[Nlri], row: FamilyRow, *, addpath: bool) -> list[bytes]:
    """Each withdrawn route's NLRI octets, in order."""
    heads = _HEADS[row.family]
    label = WITHDRAWN_LABEL if row.before else b""
    written = [heads[key[-1]] + label + key[:-1] for key, _, _ in routes]
    return _with_path_ids(routes, written) if addpath else written


_HEADS = {
    row.family: tuple(bytes((length + row.overhead,)) for length in range(row.family.bits + 1))
    for row in FAMILY_ROWS.values()
}
"""family -> prefix length -> the length octet of an NLRI with one label (or none, in unlabelled families)."""


def _stack_octets(stack: LabelStack) -> bytes:
    """Labels as they stand in an NLRI: S set in the last one (RFC 8277 2.2 for one label, 2.3 for more)."""
    last = len(stack) - 1
    return b"".join((label << 4 | (at == last)).to_bytes(3) for at, label in enumerate(stack))


def _with_path_ids(routes: Sequence[Nlri], written: list[bytes]) -> list[bytes]:
    return [route.path_id.to_bytes(4) + octets for route, octets in zip(routes, written, strict=True)]
