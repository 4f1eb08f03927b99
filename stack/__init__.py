"""The common floor: values, tables, bus, services, configuration. It knows no protocol.

Names are loaded when first used (PEP 562), so that a codec which needs `stack.addr` does not bring in asyncio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stack.bus import Bus
    from stack.config import Config
    from stack.router import Router

__all__ = ["Bus", "Config", "Router"]

_HOMES = {"Bus": "stack.bus", "Config": "stack.config", "Router": "stack.router"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'stack' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
