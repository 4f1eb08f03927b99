"""Adjacencies: everything the packet path must know to send to one neighbour. Written by tunnel."""

from __future__ import annotations

from enum import Enum

from attrs import define, field, frozen

from stack.events import AdjacencyKey, SaKey
from stack.tables.table import KeyedTable, WriteRule

__all__ = ["Adjacency", "AdjacencyKind", "AdjacencyTable"]


class AdjacencyKind(Enum):
    ETHERNET = "ethernet"
    """`rewrite`: destination MAC, source MAC (and 802.1Q tag): the EtherType follows it."""
    GRE = "gre"
    """`rewrite`: nothing; the packet path builds IPv4 + GRE from source, destination, key, ttl, tos."""
    MPLS_IN_IP = "mpls-in-ip"
    """As GRE, with the labels straight after the IPv4 header (protocol 137, RFC 4023 3)."""
    TUN = "tun"
    """Bare IP packets into the attachment; no labels."""
    HOST = "host"
    """A neighbour on a device that stays with the kernel: IP goes through the default VRF's host port; labelled frames go
    out of the device itself, with `rewrite` as for ETHERNET."""


@frozen
class Adjacency:
    """One neighbour. `mtu`: the largest packet, labels included, that fits behind the rewrite. Not `complete`: still
    being resolved, or (with `reason`) dead; nothing can be sent. `source` and `destination` are in VRF `transport_vrf`.
    With `protection` (the profile's name) only the SA of `sa` carries it: without one, nothing goes."""

    key: AdjacencyKey
    kind: AdjacencyKind
    complete: bool
    mtu: int
    rewrite: bytes = b""
    source: bytes = b""
    destination: bytes = b""
    gre_key: int | None = None
    ttl: int = 255
    tos: int | None = None
    protection: str = ""
    reason: str = ""
    created: float = 0.0
    sa: SaKey | None = None
    transport_vrf: str = ""

    def takes(self, *, labelled: bool) -> bool:
        """Whether such packets can be sent there now. On a device of the kernel's, which resolves for IP itself, labelled
        frames wait for the MAC."""
        return self.complete and bool(self.rewrite or not labelled or self.kind is not AdjacencyKind.HOST)


@define(eq=False)
class AdjacencyTable(KeyedTable[AdjacencyKey, Adjacency]):
    """(interface, address) -> Adjacency."""

    rule: WriteRule = field(factory=lambda: WriteRule("adjacency"))
