"""The LFIB: incoming label -> what to do (ILM -> NHLFE, RFC 3031 3.10-3.11). Written by mfi."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from attrs import define, field

from stack.addr import Fec, LabelStack
from stack.tables.table import KeyedTable, WriteRule

__all__ = ["LfibTable", "Nhlfe", "Operation"]


class Operation(IntEnum):
    """What happens to the packet after its top label was found."""

    POP_LOOKUP = 1
    """Pop; the label must be the last one; look the IP destination up in `vrf` (aggregate, label per VRF)."""
    POP_FORWARD = 2
    """Pop; send what is under it to `next_hop` (label per prefix or next hop, or penultimate hop)."""
    SWAP = 3
    """Replace it by `out_labels`, send to `next_hop`."""


class Nhlfe(NamedTuple):
    """One row. `vrf` is always known, so that NHRP and ICMP know whose packet it is. `scope`: kinds of ingress or names of
    interfaces by which the label may arrive (RFC 4023 8). `afi` 0: either family may be under the label."""

    operation: Operation
    vrf: str
    scope: frozenset[str]
    afi: int = 0
    next_hop: int = 0
    out_labels: LabelStack = ()
    fec: Fec | None = None


@define(eq=False)
class LfibTable(KeyedTable[int, Nhlfe]):
    """Incoming label value -> Nhlfe. `resting`: freed labels, until when nobody else may have them, and whose they were; the
    writer's own, kept here so that it survives the writer."""

    resting: dict[int, tuple[float, Fec | None]] = field(factory=dict)
    rule: WriteRule = field(factory=lambda: WriteRule("lfib"))
