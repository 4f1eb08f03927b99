"""What BGP tells about itself, for users and monitoring."""

from __future__ import annotations

from attrs import frozen

from stack.events import Fact

__all__ = ["PeerDown", "PeerUp"]


@frozen
class PeerUp(Fact):
    """A session is established. Addresses and `router_id` are octets; `families` are (AFI, SAFI) numbers."""

    vrf: str
    address: bytes
    asn: int
    router_id: bytes
    local: bytes
    families: frozenset[tuple[int, int]]
    dynamic: bool = False


@frozen
class PeerDown(Fact):
    """An established session ended. `reason` is one of EndReason's texts; `text` says more and is safe to print."""

    vrf: str
    address: bytes
    asn: int
    reason: str
    text: str = ""
