"""BGP's tables: Adj-RIB-In -> decision -> Loc-RIB -> Adj-RIB-Out, and the pipe to and from the VRFs.

`Ribs` is loaded when it is first used (PEP 562): it needs bgp.engine.vpn, which stands on single tables of this package, so
whichever of them is imported first must not pull in the other half made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bgp.engine.outputs import PeerKey, PeerView

if TYPE_CHECKING:
    from bgp.engine.rib.ribs import Ribs

__all__ = ["PeerKey", "PeerView", "Ribs"]


def __getattr__(name: str) -> object:
    if name != "Ribs":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("bgp.engine.rib.ribs").Ribs
