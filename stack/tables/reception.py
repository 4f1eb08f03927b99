"""What may come in by a tunnel: the packet path takes an outer packet only if a row here says so. Written by tunnel."""

from __future__ import annotations

from attrs import define, field, frozen

from stack.tables.table import KeyedTable, WriteRule

__all__ = ["Reception", "ReceptionTable"]


@frozen
class Reception:
    """One tunnel's inward side.

    An outer packet matches if it came in VRF `transport_vrf`, its destination is `local`, its protocol in `protocols`, its
    GRE key equals `gre_key` (None: the packet must have none) and its source is in `sources` (None: any source, when the
    allow-list is switched off).
    Rows with a narrower `sources` (point-to-point) go before wider ones. `vrf` is where unlabelled IP goes; `scope` is the
    ingress kind that labels are checked against; `protected`: accept only what came out of ESP.
    """

    interface: str
    local: bytes
    protocols: frozenset[int]
    vrf: str = ""
    gre_key: int | None = None
    sources: frozenset[bytes] | None = frozenset()
    point_to_point: bool = False
    mpls: bool = True
    ip: bool = True
    scope: str = "mgre"
    protected: bool = False
    transport_vrf: str = ""


@define(eq=False)
class ReceptionTable(KeyedTable[str, Reception]):
    """Tunnel interface -> Reception."""

    rule: WriteRule = field(factory=lambda: WriteRule("reception"))
