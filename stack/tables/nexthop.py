"""Next hops: FIB leaves and NHLFEs hold an id, this table says where it leads now. Written by routing.

One endpoint's change rewrites one row here, not the 100,000 routes that use it.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import define, field

from stack.addr import LabelStack
from stack.events import AdjacencyKey, NextHopKey
from stack.tables.table import KeyedTable, WriteRule

__all__ = ["NextHop", "NextHopTable"]


class NextHop(NamedTuple):
    """`adjacency` None: unusable, for `reason`; with both, what goes there is dropped there (a protected tunnel without an SA).
    `labels`: transport labels to push outside the route's own (implicit null is already taken out). `path` is the chain of
    look-ups that led here, for `show ... internal`."""

    key: NextHopKey
    adjacency: AdjacencyKey | None
    labels: LabelStack = ()
    reason: str = ""
    metric: int = 0
    path: tuple[str, ...] = ()


@define(eq=False)
class NextHopTable(KeyedTable[int, NextHop]):
    """Id (from 1) -> NextHop."""

    rule: WriteRule = field(factory=lambda: WriteRule("nexthop"))
