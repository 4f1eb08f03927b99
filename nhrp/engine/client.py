"""Registrations, as the client (NHC) sees them."""

from __future__ import annotations
from attrs import define
from nhrp.engine.bindings import Bindings
from nhrp.engine.gate import Gate
from nhrp.engine.node import Arrival, Node
from nhrp.engine.snapshot import NhsSnapshot
from stack.addr import Afi, Prefix

__all__ = ["Client"]


@define(eq=False)
class Client:
    node: Node
    gate: Gate
    bindings: Bindings

    def received(self, arrival: Arrival) -> None:
        """REGISTRATION_REPLY whose source is ours."""

    def error(self, arrival: Arrival) -> None:
        """ERROR_INDICATION about us: shown as the reason, if it is about a request of ours."""

    def purged(self, arrival: Arrival, prefix: Prefix) -> bool:
        """A server purges our own address: register again."""

    def due(self, key: tuple) -> None:
        """Timer keys ("register", n)."""

    def interface_changed(self, name: str) -> None:
        """InterfaceState or TunnelState changed."""

    def adjacency_changed(self, name: str) -> None:
        """An adjacency of that interface became usable: try at once what waits."""

    def reconfigured(self) -> None: ...
    def is_server(self, interface: str, nbma: bytes) -> bool:
        """Whether it is an NHS of ours there."""

    def public_nbma(self, interface: str, afi: Afi) -> bytes:
        """Our NBMA address as a server sees it through a NAT; empty: there is no NAT."""

    def servers(self, interface: str, afi: Afi) -> tuple[tuple[bytes, bytes], ...]:
        """(overlay, NBMA) of servers that we are registered at, best first."""

    def snapshot(self) -> tuple[NhsSnapshot, ...]: ...
    def stop(self) -> None: ...
