"""What the speaker wants done. `Send`, `Keyed`, `Log` and what goes into the SAD are an IKE SA's own (engine.contract)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from ikev2.engine.contract import (
    AccessRequest,
    Keyed,
    Log,
    PutInbound,
    PutOutbound,
    RemoveInbound,
    RemoveOutbound,
    Send,
)
from stack.events import Fact, Topic

__all__ = [
    "Authorise",
    "Keyed",
    "Log",
    "Output",
    "Post",
    "Publish",
    "PutInbound",
    "PutOutbound",
    "RemoveInbound",
    "RemoveOutbound",
    "Send",
    "SyncedOut",
]


@frozen
class Publish:
    """Rows of `topic` that now hold (None: withdrawn)."""

    topic: Topic[Any, Any]
    rows: Mapping[Any, Any]
    table: str = ""


@frozen
class SyncedOut:
    """All rows of `topic` that hold since the start have been published."""

    topic: Topic[Any, Any]


@frozen
class Post:
    fact: Fact


@frozen
class Authorise:
    """Ask the embedder whether this peer may come in; answer by `Speaker.authorised(number, ...)`."""

    number: int
    request: AccessRequest


Output = (
    Send
    | Publish
    | SyncedOut
    | Post
    | PutInbound
    | PutOutbound
    | RemoveInbound
    | RemoveOutbound
    | Authorise
    | Keyed
    | Log
)
