"""What the speaker wants done, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field

from stack.addr import Prefix
from stack.events import Fact, Topic
from stack.values import value

__all__ = ["AskUsed", "Level", "Log", "Output", "Post", "Publish", "Send", "SyncedOut"]

Level = Literal["debug", "info", "warning", "error"]


@value
class Send:
    """An NHRP packet out of `interface`, to `nbma` where the interface has many far ends (else empty)."""

    interface: str
    nbma: bytes
    octets: bytes = field(repr=False)


@value
class Publish:
    """Rows of `topic` that now hold (None: withdrawn)."""

    topic: Topic[Any, Any]
    rows: Mapping[Any, Any]
    table: str = ""


@value
class SyncedOut:
    """All rows of `topic` that hold since the start have been published."""

    topic: Topic[Any, Any]


@value
class Post:
    fact: Fact


@value
class AskUsed:
    """Ask whoever sends packets which of `prefixes` were used (RoutesUsed); the answer comes back by `Speaker.used`."""

    vrf: str
    prefixes: tuple[Prefix, ...]


@value
class Log:
    event: str
    fields: Mapping[str, object]
    level: Level = "info"


Output = Send | Publish | SyncedOut | Post | AskUsed | Log
