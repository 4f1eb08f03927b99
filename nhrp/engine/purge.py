"""Purge requests and replies (RFC 2332 5.2.5)."""

from __future__ import annotations
from collections.abc import Callable, Iterable
from attrs import define, field
from nhrp.engine.bindings import Bindings
from nhrp.engine.client import Client
from nhrp.engine.gate import Gate
from nhrp.engine.node import Arrival, Node
from stack.addr import Prefix

__all__ = ["Purges"]


@define(eq=False)
class Purges:
    node: Node
    gate: Gate
    bindings: Bindings
    client: Client
    resolutions: list[Callable[[Arrival, Prefix], int]] = field(factory=list)
    """Called for each prefix of a purge request that is for us: drops shortcuts inside that `arrival` may speak for; how many."""

    def received(self, arrival: Arrival) -> bool:
        """PURGE_REQUEST or PURGE_REPLY. False: it is not for us, pass it on."""

    def send(
        self,
        interface: str,
        nbma: bytes,
        destination: bytes,
        prefixes: Iterable[Prefix],
        *,
        code: int = 0,
        reply: bool = False,
    ) -> None:
        """A purge request to `destination` (overlay) by `nbma`. `reply` False: none is wanted (N)."""
