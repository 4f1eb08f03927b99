"""The language users bring: IOS-style configuration text and exec commands. Names are exported lazily, since engines import
`stack.ios.grammar` through their package's config and must not meet anything else."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "Command",
    "CommandError",
    "ConfigError",
    "Editor",
    "Interpreter",
    "Line",
    "Names",
    "check",
    "read",
    "running_config",
]

_HOMES = {
    "Command": "command",
    "CommandError": "command",
    "ConfigError": "faults",
    "Editor": "editor",
    "Interpreter": "commands",
    "Line": "grammar",
    "Names": "commands",
    "check": "checks",
    "read": "reader",
    "running_config": "printer",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
