"""Registrations, as the server (NHS) sees them."""

from __future__ import annotations
from attrs import define
from nhrp.engine.bindings import Bindings
from nhrp.engine.gate import Gate
from nhrp.engine.node import Arrival, Node
from nhrp.engine.snapshot import BindingSnapshot

__all__ = ["Server"]


@define(eq=False)
class Server:
    node: Node
    gate: Gate
    bindings: Bindings

    def received(self, arrival: Arrival) -> None:
        """REGISTRATION_REQUEST (always consumed; a registration is never passed on)."""

    def due(self, key: tuple) -> None: ...
    def snapshot(self) -> tuple[BindingSnapshot, ...]:
        """Refused registrations, with the reason (NEGATIVE)."""

    def stop(self) -> None: ...
