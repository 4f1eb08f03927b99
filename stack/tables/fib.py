"""The FIB of each VRF: longest prefix match to a leaf. Written by routing, read by the packet path and by NHRP."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from attrs import define, field

from stack.addr import Afi, LabelStack, Prefix
from stack.tables.table import WriteRule

__all__ = ["Fib", "FibTable", "FibWriter", "Leaf", "LeafKind"]


class LeafKind(IntEnum):
    FORWARD = 1
    """Push `labels`, send to `next_hop` (FTN, RFC 3031 3.12)."""
    ATTACHED = 2
    """The destination itself is the neighbour, on `interface` (a connected prefix)."""
    RECEIVE = 3
    """One of the node's own addresses in this VRF."""
    DISCARD = 4
    """Null0: drop, and say unreachable."""


class Leaf(NamedTuple):
    kind: LeafKind
    next_hop: int = 0
    labels: LabelStack = ()
    interface: str = ""


_LENGTHS = {4: 32, 16: 128}


@define(eq=False)
class Fib:
    """One VRF's. One dict a prefix length, the lengths in use kept longest first: exact, small, and behind a flow cache."""

    generation: int = 0
    _tables: dict[int, dict[int, dict[int, Leaf]]] = field(factory=lambda: {4: {}, 16: {}})
    _order: dict[int, tuple[tuple[int, int, dict[int, Leaf]], ...]] = field(factory=lambda: {4: (), 16: ()})

    def match(self, address: bytes) -> tuple[Prefix, Leaf] | None:
        """The longest prefix that covers `address` (4 or 16 octets), and its leaf."""
        size = len(address)
        value = int.from_bytes(address)
        for shift, length, table in self._order[size]:
            leaf = table.get(value >> shift)
            if leaf is not None:
                return Prefix((value >> shift << shift).to_bytes(size), length), leaf
        return None

    def lookup(self, address: bytes) -> Leaf | None:
        value = int.from_bytes(address)
        for shift, _, table in self._order[len(address)]:
            leaf = table.get(value >> shift)
            if leaf is not None:
                return leaf
        return None

    def get(self, prefix: Prefix) -> Leaf | None:
        size = len(prefix.network)
        table = self._tables[size].get(prefix.length)
        return table.get(int.from_bytes(prefix.network) >> (_LENGTHS[size] - prefix.length)) if table else None

    def items(self, afi: Afi) -> Iterator[tuple[Prefix, Leaf]]:
        """All rows of a family, in no order."""
        size = 4 if afi == Afi.IPV4 else 16
        for length, table in list(self._tables[size].items()):
            shift = _LENGTHS[size] - length
            for value, leaf in list(table.items()):
                yield Prefix((value << shift).to_bytes(size), length), leaf

    def __bool__(self) -> bool:
        """A FIB without a route is still a FIB: `if fib` asks whether the VRF exists."""
        return True

    def __len__(self) -> int:
        return sum(len(table) for tables in self._tables.values() for table in tables.values())

    def _put(self, prefix: Prefix, leaf: Leaf | None) -> None:
        size, shift = len(prefix.network), _LENGTHS[len(prefix.network)] - prefix.length
        tables = self._tables[size]
        value = int.from_bytes(prefix.network) >> shift
        table = tables.get(prefix.length)
        if leaf is None:
            if table is None or table.pop(value, None) is None:
                return
            if not table:
                del tables[prefix.length]
        else:
            if table is None:
                table = tables[prefix.length] = {}
            if table.get(value) == leaf:
                return
            table[value] = leaf
        self.generation += 1
        if len(self._order[size]) != len(tables):
            self._order[size] = tuple((_LENGTHS[size] - n, n, tables[n]) for n in sorted(tables, reverse=True))


@define(eq=False)
class FibTable:
    """VRF name -> Fib. `generation` grows with every change of any of them."""

    rule: WriteRule = field(factory=lambda: WriteRule("fib"))
    fibs: dict[str, Fib] = field(factory=dict)
    generation: int = 0

    def get(self, vrf: str) -> Fib | None:
        return self.fibs.get(vrf)

    def writer(self, owner: str) -> FibWriter:
        """The one write handle. Raises SecondWriter."""
        return FibWriter(self, self.rule.claim(owner))

    def revoke(self, owner: str) -> None:
        self.rule.revoke(owner)


@define(eq=False)
class FibWriter:
    table: FibTable
    epoch: int

    def put(self, vrf: str, prefix: Prefix, leaf: Leaf) -> None:
        self.table.rule.check(self.epoch)
        fib = self.table.fibs.get(vrf)
        if fib is None:
            fib = self.table.fibs[vrf] = Fib()
        fib._put(prefix, leaf)  # noqa: SLF001  (the writer is the Fib's other half)
        self.table.generation += 1

    def remove(self, vrf: str, prefix: Prefix) -> None:
        self.table.rule.check(self.epoch)
        if fib := self.table.fibs.get(vrf):
            fib._put(prefix, None)  # noqa: SLF001
            self.table.generation += 1

    def create(self, vrf: str) -> None:
        """An empty FIB for a VRF that has no route yet, so that its packets are unroutable rather than unknown."""
        self.table.rule.check(self.epoch)
        self.table.fibs.setdefault(vrf, Fib())
        self.table.generation += 1

    def drop(self, vrf: str) -> None:
        """Forget a VRF. Its Fib's generation moves, so that flow caches that still hold it notice."""
        self.table.rule.check(self.epoch)
        if fib := self.table.fibs.pop(vrf, None):
            fib.generation += 1
            self.table.generation += 1
