"""The VRFs of a node. Written by the router, from configuration."""

from __future__ import annotations

from attrs import define, field

from stack.events import Vrf
from stack.tables.table import KeyedTable, WriteRule

__all__ = ["VrfTable"]


@define(eq=False)
class VrfTable(KeyedTable[str, Vrf]):
    """Name -> Vrf; the default VRF has the empty name."""

    rule: WriteRule = field(factory=lambda: WriteRule("vrf"))
