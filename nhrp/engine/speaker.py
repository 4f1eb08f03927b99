"""All of NHRP on one node: both halves joined. Sans-IO, as all engines here: every call gives `now` and returns what is to be
done, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nhrp.config import NhrpConfig
from nhrp.engine.outputs import Output
from nhrp.engine.snapshot import SpeakerSnapshot
from stack.addr import Afi, Prefix
from stack.events import (
    BindingOffered,
    Delta,
    EndpointOffered,
    Fact,
    LabelWanted,
    RouteOffered,
    SaWanted,
    Synced,
    Topic,
)
from stack.tables.lfib import LfibTable
from stack.tables.nexthop import NextHopTable
from stack.tables.rib import RibTable

__all__ = ["PRODUCED", "Speaker"]

PRODUCED: tuple[Topic[Any, Any], ...] = (LabelWanted, SaWanted, EndpointOffered, BindingOffered, RouteOffered)


class Speaker:
    """`kept`: what an earlier incarnation left (nothing yet: redirects bring shortcuts back)."""

    def __init__(
        self,
        config: NhrpConfig,
        entropy: Callable[[int], bytes],
        *,
        rib: RibTable,
        nexthops: NextHopTable,
        lfib: LfibTable,
        kept: object = None,
    ) -> None: ...

    def start(self, now: float) -> list[Output]: ...

    def receive(self, message: Delta | Synced | Fact, now: float) -> list[Output]: ...

    def wake(self, now: float) -> list[Output]: ...

    def deadline(self) -> float | None: ...

    def reconfigure(self, config: NhrpConfig, now: float) -> list[Output]: ...

    def used(self, vrf: str, prefixes: Iterable[Prefix], now: float) -> list[Output]: ...

    def clear(
        self,
        now: float,
        *,
        address: bytes | None = None,
        afi: Afi | None = None,
        vrf: str | None = None,
        counters: bool = False,
    ) -> tuple[int, list[Output]]: ...

    def stop(self, now: float) -> list[Output]: ...

    @property
    def stopped(self) -> bool: ...

    def snapshot(self, now: float) -> SpeakerSnapshot: ...
