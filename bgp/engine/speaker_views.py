"""What the speaker needs of the tables, and what it shows of itself."""

from __future__ import annotations

from typing import Protocol

from attrs import field, frozen

from bgp.config import BgpConfig
from bgp.engine.outputs import PeerKey, PeerView, RibOutput
from bgp.engine.peers import PeerSnapshot
from bgp.engine.session_binding import Refusal
from bgp.wire import Family, Update
from stack.events import Delta, Fact, Synced

__all__ = ["Message", "RibsApi", "SpeakerSnapshot"]

Message = Delta | Synced | Fact


class RibsApi(Protocol):
    """What the speaker needs of `bgp.engine.rib.Ribs`."""

    def start(self, now: float) -> list[RibOutput]: ...
    def reconfigure(self, config: BgpConfig, now: float) -> list[RibOutput]: ...
    def peer_up(self, peer: PeerView, now: float) -> list[RibOutput]: ...
    def peer_down(self, key: PeerKey, reason: str, now: float) -> list[RibOutput]: ...
    def peer_lost(self, key: PeerKey, reason: str, now: float) -> list[RibOutput]: ...
    def update(self, key: PeerKey, update: Update, now: float) -> list[RibOutput]: ...
    def refresh(self, key: PeerKey, family: Family, now: float) -> list[RibOutput]: ...
    def soft(self, key: PeerKey | None, direction: str, now: float) -> list[RibOutput]: ...
    def receive(self, message: Message, now: float) -> list[RibOutput]: ...
    def wake(self, now: float) -> list[RibOutput]: ...
    def deadline(self) -> float | None: ...
    def outgoing(self, key: PeerKey, limit_octets: int) -> list[bytes]: ...
    def has_outgoing(self, key: PeerKey) -> bool: ...


@frozen
class SpeakerSnapshot:
    """For `show`. `refused`: connections that came in and were not taken, by reason; `refusals`: the last ones of them,
    (reason, VRF, address) -> how often, and when last."""

    asn: int
    router_id: bytes
    peers: tuple[PeerSnapshot, ...]
    refused: dict[str, int]
    listening: tuple[str, ...]
    dynamic: int
    listen_limit: int
    deferred_refreshes: int
    refusals: dict[tuple[Refusal, str, bytes], tuple[int, float]] = field(factory=dict)
