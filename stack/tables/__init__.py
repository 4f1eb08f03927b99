"""The tables that several packages read and one writes. `Tables` is what a node hands to its services.

A table outlives its writer: when a service ends, the node revokes its write handle, readers go on reading what stands
there, and the next incarnation takes a new handle.
"""

from __future__ import annotations

from attrs import define, field

from stack.tables.adjacency import AdjacencyTable
from stack.tables.fib import FibTable
from stack.tables.interface import InterfaceTable
from stack.tables.lfib import LfibTable
from stack.tables.nexthop import NextHopTable
from stack.tables.reception import ReceptionTable
from stack.tables.rib import RibTable
from stack.tables.sad import SadTable
from stack.tables.vrf import VrfTable

__all__ = ["Tables"]


@define
class Tables:
    """Every shared table of one node."""

    vrfs: VrfTable = field(factory=VrfTable)
    interfaces: InterfaceTable = field(factory=InterfaceTable)
    rib: RibTable = field(factory=RibTable)
    nexthops: NextHopTable = field(factory=NextHopTable)
    fib: FibTable = field(factory=FibTable)
    lfib: LfibTable = field(factory=LfibTable)
    adjacencies: AdjacencyTable = field(factory=AdjacencyTable)
    receptions: ReceptionTable = field(factory=ReceptionTable)
    sad: SadTable = field(factory=SadTable)

    def revoke(self, owner: str) -> None:
        """Take back every write handle of `owner`."""
        for table in (
            self.vrfs,
            self.interfaces,
            self.rib,
            self.nexthops,
            self.fib,
            self.lfib,
            self.adjacencies,
            self.receptions,
            self.sad,
        ):
            table.revoke(owner)
