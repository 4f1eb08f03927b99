"""What the tunnel engine wants done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from stack.events import AdjacencyKey, Fact, Topic
from stack.tables.adjacency import Adjacency
from stack.tables.reception import Reception
from tunnel.engine.mirror import HostChange

__all__ = [
    "DropAdjacency",
    "DropReception",
    "Log",
    "Mirror",
    "Output",
    "Post",
    "Publish",
    "PutAdjacency",
    "PutReception",
]


@frozen
class Publish:
    topic: Topic[Any, Any]
    rows: Mapping[Any, Any]
    table: str = ""


@frozen
class Post:
    fact: Fact


@frozen
class PutAdjacency:
    row: Adjacency


@frozen
class DropAdjacency:
    key: AdjacencyKey


@frozen
class PutReception:
    row: Reception


@frozen
class DropReception:
    interface: str


@frozen
class Mirror:
    """What the host's own tables must hold from now on, where that is not what they had to before."""

    change: HostChange


@frozen
class Log:
    event: str
    fields: Mapping[str, object]
    level: str = "info"


Output = Publish | Post | PutAdjacency | DropAdjacency | PutReception | DropReception | Mirror | Log
