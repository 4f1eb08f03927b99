"""What IKEv2 tells about itself, for users and monitoring. No secrets, no keys."""

from __future__ import annotations

from attrs import frozen

from stack.events import Fact, SaKey

__all__ = [
    "ChildSaDown",
    "ChildSaUp",
    "IkeSaDown",
    "IkeSaUp",
    "PeerMoved",
    "PeerRefused",
    "Rekeyed",
]


@frozen
class IkeSaUp(Fact):
    """Both ends have proved who they are. Addresses are octets, `identity` and `profile` text; `initiator`: whether we are."""

    number: int
    local: bytes
    remote: bytes
    identity: str
    profile: str
    initiator: bool


@frozen
class IkeSaDown(Fact):
    """An IKE SA that had been established is gone. `reason` is safe to print; `peer`: by the peer's wish."""

    number: int
    local: bytes
    remote: bytes
    identity: str
    reason: str
    peer: bool = False


@frozen
class PeerRefused(Fact):
    """An IKE SA ended before it was established. `identity` is what the peer said of itself, if it got that far: not proved."""

    local: bytes
    remote: bytes
    identity: str
    reason: str


@frozen
class ChildSaUp(Fact):
    key: SaKey
    number: int
    identity: str


@frozen
class ChildSaDown(Fact):
    key: SaKey
    number: int
    reason: str


@frozen
class Rekeyed(Fact):
    """CHILD_SA `number` took the place of `replaces`; with `ike`, IKE SAs are meant."""

    key: SaKey
    number: int
    replaces: int
    ike: bool = False


@frozen
class PeerMoved(Fact):
    """A peer behind a NAT came, with a packet that proved it, from another address or port."""

    number: int
    identity: str
    before: bytes
    remote: bytes
    port: int
