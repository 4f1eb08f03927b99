"""The states of an IKE SA as one enforced table, its settings, and what `IkeSa.snapshot` shows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import define, field, frozen

from ikev2.config import Dpd
from ikev2.crypto.suites import IkeSuite
from ikev2.engine.contract import Ends
from ikev2.wire.payloads import Identity
from stack.events import SaKey
from stack.tables.sad import Sa

__all__ = [
    "TRANSITIONS",
    "ChildSaSnapshot",
    "IkeSaSnapshot",
    "IllegalStepError",
    "Settings",
    "State",
    "Step",
    "Switch",
    "follow",
]


class State(Enum):
    """Values are for people."""

    INIT = "IKE_SA_INIT sent"
    HALF_OPEN = "IKE_SA_INIT answered"
    AUTH = "IKE_AUTH sent"
    DECIDING = "authorisation awaited"
    ESTABLISHED = "established"
    REKEYED = "replaced, awaiting its end"
    DELETING = "DELETE sent"
    CLOSED = "closed"


class Step(Enum):
    """What moves an IKE SA from state to state."""

    ANSWERED = "the peer's IKE_SA_INIT is right"
    ASKED = "the directory answers later"
    PROVED = "both ends have proved themselves"
    REPLACED = "a successor has taken over"
    DELETE = "we say DELETE"
    END = "it is over"


# RFC 7296 1.2, 1.3.2, 1.4.1. A pair that is not here cannot happen; `follow` raises.
TRANSITIONS: Mapping[tuple[State, Step], State] = {
    (State.INIT, Step.ANSWERED): State.AUTH,
    (State.HALF_OPEN, Step.ASKED): State.DECIDING,
    (State.HALF_OPEN, Step.PROVED): State.ESTABLISHED,
    (State.DECIDING, Step.PROVED): State.ESTABLISHED,
    (State.AUTH, Step.PROVED): State.ESTABLISHED,
    (State.ESTABLISHED, Step.REPLACED): State.REKEYED,
    (State.ESTABLISHED, Step.DELETE): State.DELETING,
    (State.REKEYED, Step.DELETE): State.DELETING,
    (State.INIT, Step.END): State.CLOSED,
    (State.HALF_OPEN, Step.END): State.CLOSED,
    (State.DECIDING, Step.END): State.CLOSED,
    (State.AUTH, Step.END): State.CLOSED,
    (State.ESTABLISHED, Step.END): State.CLOSED,
    (State.REKEYED, Step.END): State.CLOSED,
    (State.DELETING, Step.END): State.CLOSED,
}


class IllegalStepError(Exception):
    """A step that the table does not have from that state: a fault of ours, never of a peer."""

    def __init__(self, state: State, step: Step) -> None:
        super().__init__(f"{step.name} in state {state.name}")
        self.state, self.step = state, step


def follow(state: State, step: Step) -> State:
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise IllegalStepError(state, step) from None


@define
class Switch:
    """Turned on and off while SAs live."""

    on: bool = False


@frozen
class Settings:
    """Of an IKE SA, from the configuration. `fragmentation_mtu`: of the largest IP packet that carries IKE (RFC 7383),
    None: no fragmentation. `first_tries`: how often a message to a peer that has not proved itself is sent; `tries`: to one
    that has. `sha1`: also in signatures. `key_log`: say the keys of IKE SAs (`Keyed`)."""

    fragmentation_mtu: int | None = 576
    first_tries: int = 5
    tries: int = 7
    half_open: float = 30.0
    """Seconds that a responder waits for IKE_AUTH, and then for the directory's answer."""
    sha1: bool = False
    key_log: bool = False
    trace: Switch = field(factory=Switch)
    """Say what is inside sealed messages, by a Log of level debug (`debug crypto ikev2`)."""


@frozen
class ChildSaSnapshot:
    """`outbound` None: its peer is not yet sure to hold it. `replaced`: another has taken its place and it is on its way
    out. `group`: of the exchange that made it (0: keys from the IKE SA alone). `inbound`, `outbound` hide their keys from
    repr."""

    key: SaKey
    number: int
    inbound: Sa
    outbound: Sa | None
    peer_spi: int
    since: float
    soft_time: float
    hard_time: float
    group: int = 0
    replaced: bool = False


@frozen
class IkeSaSnapshot:
    """`suite` None: not agreed yet. `established`: when; None: not yet. `rekey_at`, `expires_at`: on the clock's scale.
    `auth_own`, `auth_peer`: AUTH methods by number (RFC 7296 3.8), 0: not yet."""

    number: int
    initiator: bool
    state: State
    ends: Ends
    initiator_spi: bytes
    responder_spi: bytes
    since: float
    established: float | None = None
    profile: str = ""
    local: Identity | None = None
    remote: Identity | None = None
    suite: IkeSuite | None = None
    auth_own: int = 0
    auth_peer: int = 0
    certificate: Any = None
    lifetime: float = 0.0
    rekey_at: float | None = None
    expires_at: float | None = None
    dpd: Dpd | None = None
    fragmentation: bool = False
    fragmentation_mtu: int = 0
    nat_own: bool = False
    nat_peer: bool = False
    next_own: int = 0
    next_peer: int = 0
    queued: int = 0
    retransmissions: int = 0
    window: int = 1
    """What the peer lets us have under way at once."""
    last_heard: float = 0.0
    vendor_ids: tuple[bytes, ...] = ()
    children: tuple[ChildSaSnapshot, ...] = ()
    drops: Mapping[str, int] = field(factory=dict)
    """Messages that were not taken, by reason."""
