"""The NAT address extension (Cisco's, type 9)."""

from __future__ import annotations
from nhrp.engine.bindings import Bindings
from nhrp.engine.node import Arrival
from nhrp.wire.packet import Cie, Extension, Packet

__all__ = ["fill", "nat_cies"]


def nat_cies(packet: Packet) -> tuple[Cie, ...] | None:
    """What its NAT extension says; None: it has none (8 octets: RFC 2735 device capabilities, not it)."""


def fill(packet: Packet, address: bytes, bindings: Bindings, interface: str) -> Packet:
    """As transit NHS of a resolution: an empty NAT extension gets the natted address of `address` (Src proto of a request, the
    CIE's protocol of a reply), if a NAT is there."""
