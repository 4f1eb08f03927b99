"""BGP's tables: Adj-RIB-In -> decision -> Loc-RIB -> Adj-RIB-Out, and the pipe to and from the VRFs."""

from bgp.engine.outputs import PeerKey, PeerView
from bgp.engine.rib.ribs import Ribs

__all__ = ["PeerKey", "PeerView", "Ribs"]
