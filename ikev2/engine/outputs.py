"""What the speaker wants done. `Send`, `Keyed`, `Log` and what goes into the SAD are an IKE SA's own (engine.contract)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from stack.values import value

__all__ = [
    "Authorise",
    "Keyed",
    "Listen",
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
class Listen:
    """In which VRFs IKE is spoken from now on; the default one is always among them."""

    vrfs: frozenset[str]


@value
class Post:
    fact: Fact


@value
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
    | Listen
    | Keyed
    | Log
)
