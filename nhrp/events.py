"""What NHRP tells about itself, for users and monitoring."""

from __future__ import annotations

from attrs import frozen

from stack.addr import Prefix
from stack.events import Fact

__all__ = ["NhsDown", "NhsUp", "RedirectReceived", "RedirectSent", "ShortcutDown", "ShortcutUp"]


@frozen
class ShortcutUp(Fact):
    """Packets of `vrf` to `prefix` go straight to `next_hop` (overlay) at `nbma`, by `interface`, under `label` (or None)."""

    vrf: str
    prefix: Prefix
    next_hop: bytes
    nbma: bytes
    interface: str
    label: int | None
    seconds: float
    """From the redirect to here, the negotiation of a security association included."""


@frozen
class ShortcutDown(Fact):
    vrf: str
    prefix: Prefix
    reason: str


@frozen
class NhsUp(Fact):
    """We are registered there."""

    interface: str
    address: bytes
    nbma: bytes


@frozen
class NhsDown(Fact):
    interface: str
    address: bytes
    nbma: bytes
    reason: str


@frozen
class RedirectSent(Fact):
    """A hub told `source` of a better way to `destination`, both of `vrf`."""

    interface: str
    vrf: str
    source: bytes
    destination: bytes


@frozen
class RedirectReceived(Fact):
    """A spoke was told of a better way. `vrf`: what the label of the redirected packet stands for."""

    interface: str
    vrf: str
    destination: bytes
