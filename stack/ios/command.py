"""Commands of the exec mode: show, clear, debug. A package lists its own in its ServiceSpec; nobody else knows them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

__all__ = ["Command", "CommandError", "Scene", "Shown"]


class CommandError(Exception):
    """A command that cannot be carried out; the message says why and what would work."""


@frozen
class Shown:
    """A command's answer: IOS-like text, and the same as plain lists, dicts, strings and numbers (for --json)."""

    text: str
    value: Any = None

    @property
    def json(self) -> str:
        """`value` as JSON text."""
        return json.dumps(self.value, indent=2, ensure_ascii=True, default=str)


@frozen
class Scene:
    """What a command may look at. `service` is the running instance of the package that owns the command (None if it is
    down or the command belongs to the node); `node` is the Router; `now` is on the clock's scale."""

    service: Any
    tables: Any
    bus: Any
    config: Any
    node: Any
    now: float


@frozen
class Command:
    """`syntax` is in the grammar's language, e.g. `show ip bgp vpnv4 all [{address:address}]`; `run` gets the words that
    the syntax names (absent ones are absent). A `show` command of a service only looks: it may run on a forked copy of the
    node, without sockets and without an event loop."""

    syntax: str
    run: Callable[[Scene, Mapping[str, Any]], Shown]
    help: str = field(default="")
