"""The interfaces of a node, as routing merged them from what was offered."""

from __future__ import annotations

from attrs import define, field

from stack.events import Interface
from stack.tables.table import KeyedTable, WriteRule

__all__ = ["InterfaceTable"]


@define(eq=False)
class InterfaceTable(KeyedTable[str, Interface]):
    """Name -> Interface."""

    rule: WriteRule = field(factory=lambda: WriteRule("interface"))
