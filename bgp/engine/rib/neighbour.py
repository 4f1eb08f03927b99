"""An established neighbour and its part in the tables."""

from __future__ import annotations

from attrs import define, field

from bgp.config import NeighborFamily
from bgp.engine.outputs import PeerView
from bgp.engine.paths import Source
from bgp.engine.rib.adj_in import AdjRibIn
from bgp.engine.rib.adj_out import Member, UpdateGroup
from bgp.wire import Family
from stack.addr import Afi, Safi

__all__ = ["Peer", "client_families", "family_config"]

_DEFAULT = NeighborFamily()


@define(eq=False)
class Peer:
    """`adj_in` and `members` (each with its group) by family. `source` stands for it in every path it announced."""

    view: PeerView
    source: Source
    adj_in: dict[Family, AdjRibIn] = field(factory=dict)
    members: dict[Family, tuple[UpdateGroup, Member]] = field(factory=dict)
    since: float = 0.0


def family_config(view: PeerView, family: Family) -> NeighborFamily:
    """What is configured for the neighbour in `family`; the defaults if nothing is."""
    return view.config.families.get((Afi(family.afi), Safi(family.safi))) or _DEFAULT


def client_families(view: PeerView) -> frozenset[Family]:
    """The families in which it is our route reflector client."""
    return frozenset(f for f in view.families if view.ibgp and family_config(view, f).route_reflector_client)
