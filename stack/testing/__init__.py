"""The test world that ships with the product: virtual time, an in-memory network of real packets, a bus recorder.

Names are exported lazily (PEP 562), so that importing the package costs nothing and needs no asyncio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stack.testing.capture import Capture, Frame
    from stack.testing.link import Link
    from stack.testing.loop import SeededEntropy, VirtualClock, VirtualLoop, run
    from stack.testing.nat import MemoryNat
    from stack.testing.network import MemoryNetwork
    from stack.testing.node import MemoryNode
    from stack.testing.ping import PingResult
    from stack.testing.recorder import Recorder
    from stack.testing.udp import MemoryDatagrams, UdpSocket

__all__ = [
    "Capture",
    "Frame",
    "Link",
    "MemoryDatagrams",
    "MemoryNat",
    "MemoryNetwork",
    "MemoryNode",
    "PingResult",
    "Recorder",
    "SeededEntropy",
    "UdpSocket",
    "VirtualClock",
    "VirtualLoop",
    "run",
]

_HOME = {
    "Capture": "capture",
    "Frame": "capture",
    "Link": "link",
    "MemoryDatagrams": "udp",
    "MemoryNat": "nat",
    "MemoryNetwork": "network",
    "MemoryNode": "node",
    "PingResult": "ping",
    "Recorder": "recorder",
    "SeededEntropy": "loop",
    "UdpSocket": "udp",
    "VirtualClock": "loop",
    "VirtualLoop": "loop",
    "run": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
