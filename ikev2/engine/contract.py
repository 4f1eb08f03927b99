"""What one IKE SA and its speaker say to each other.

An `IkeSa` (ikev2.engine.sa) is one IKE SA and its CHILD_SAs: messages in, outputs out. It knows no other SA. What it
must decide by configuration it asks its `Directory`, which the `Speaker` (ikev2.engine.speaker) is. All values here are
frozen; those that hold keys hide them from repr.

A successor (`Rekeyed`, `Spawned`) has its predecessor's number until the speaker gives it another: `IkeSa.number` may be
written. A CHILD_SA's number is the SPI of its inbound SA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from attrs import field

from ikev2.config import Dpd
from ikev2.crypto.keys import IkeKeys
from ikev2.crypto.suites import IkeSuite
from ikev2.pki.credentials import Credential, Trust
from ikev2.wire.payloads import Attribute, Identity
from ikev2.wire.payloads import Proposal as OfferedProposal
from stack.esp import EspMode, Selector
from stack.events import SaKey
from stack.tables.sad import Sa
from stack.values import value

__all__ = [
    "AccessRequest",
    "Answer",
    "ChildDown",
    "ChildTerms",
    "ChildUp",
    "Closed",
    "Configured",
    "Denied",
    "Directory",
    "Doubted",
    "Ends",
    "Established",
    "Grant",
    "Keyed",
    "Level",
    "Log",
    "Moved",
    "Output",
    "PutInbound",
    "PutOutbound",
    "Refusal",
    "Rekeyed",
    "RemoveInbound",
    "RemoveOutbound",
    "Send",
    "Spawned",
    "Terms",
    "Wait",
]


Level = Literal["debug", "info", "warning", "error"]
"""Of the log: what the daemon's logger has methods for."""


@value
class Ends:
    """Where an IKE SA's messages go and come: addresses (4 octets) in `vrf`, and UDP ports, ours and the peer's."""

    local: bytes
    remote: bytes
    local_port: int = 500
    remote_port: int = 500
    vrf: str = ""

    @property
    def where(self) -> bytes:
        """The peer's address, told apart from the same one in another VRF."""
        return self.remote + self.vrf.encode()


@value
class Refusal:
    """Why not. `reason` is for our log and `show`; the peer is told `notify` (an error type of RFC 7296 3.10.1) and no
    more."""

    reason: str
    notify: int = 24  # AUTHENTICATION_FAILED


@value
class Wait:
    """The answer will be given later, by `IkeSa.granted`."""


@value
class Terms:
    """A profile, resolved for one peer.

    `credential`: how we prove ourselves. `trust`: how the peer must. `local`, `remote`: identities; `remote` None: any
    that the directory accepts. `hint`: sent as IDr by an initiator, if any. `request`: attributes that an initiator
    asks for in CFG_REQUEST; `announce`: what it sends in CFG_SET once established (FlexVPN: its own tunnel address).
    `accept_set`: the peer may CFG_SET. `known_contact`: there is another SA with this peer, so INITIAL_CONTACT is not
    said.
    """

    profile: str
    local: Identity
    credential: Credential
    trust: Trust
    remote: Identity | None = None
    hint: Identity | None = None
    lifetime: float = 86400.0
    dpd: Dpd | None = None
    request: tuple[Attribute, ...] = ()
    announce: tuple[Attribute, ...] = ()
    accept_set: bool = True
    known_contact: bool = False
    nat_keepalive: float = 20.0


@value
class ChildTerms:
    """What a CHILD_SA must be. `proposals`: of ESP, best first, without SPI (Proposal numbers are set when sent);
    `groups` with PFS stand among their transforms and are left out of IKE_AUTH. `own`, `far`: the widest selectors
    allowed. A responder takes `mode` or tunnel mode, as the initiator asks. Lifetimes of 0 are none; rekeying is ours
    at about nine tenths of them."""

    key: SaKey
    proposals: tuple[OfferedProposal, ...]
    own: tuple[Selector, ...]
    far: tuple[Selector, ...]
    mode: EspMode = EspMode.TRANSPORT
    lifetime: float = 3600.0
    octets: int = 0
    packets: int = 0
    window: int = 64


@value
class AccessRequest:
    """A peer that has proved who it is, and asks to be let in. `attributes`: of its CFG_REQUEST (none: it sent
    none)."""

    ends: Ends
    profile: str
    identity: Identity
    certificate: Any
    """Of the peer, as ikev2.pki has it; None with a pre-shared key."""
    attributes: tuple[Attribute, ...]
    initiator: bool
    """Whether we are."""


@value
class Grant:
    """Let in. `reply`: attributes of the CFG_REPLY (empty: none is sent). `selectors`: if given, the peer's side of the
    CHILD_SA is narrowed to them (never for peers that said FLEXVPN-SUPPORTED)."""

    reply: tuple[Attribute, ...] = ()
    selectors: tuple[Selector, ...] = ()


Answer = Grant | Refusal | Wait


class Directory(Protocol):
    """What an IKE SA asks. Every call is synchronous, quick, and without input or output of its own."""

    def epoch(self) -> float:
        """Seconds since 1970 when `now` was 0: for the validity of certificates."""
        ...

    def ike_proposals(self, ends: Ends) -> tuple[OfferedProposal, ...]:
        """IKE proposals, best first: what an initiator offers and a responder takes."""
        ...

    def requests(self, ends: Ends) -> bytes:
        """Of a responder: CERTREQ of the trust anchors that may count for a stranger at `ends` (20 octets each, RFC
        7296 3.7; empty: none). Peers that send a certificate only if asked need it in IKE_SA_INIT."""
        ...

    def terms(
        self, ends: Ends, identity: Identity, certificates: tuple[bytes, ...], hint: Identity | None
    ) -> Terms | Refusal:
        """Of a responder: the profile of a peer that says it is `identity`, not yet proved; `certificates` are DER, its
        own first."""
        ...

    def confirm(self, ends: Ends, terms: Terms, identity: Identity, certificate: Any) -> Refusal | None:
        """The peer has proved that it is `identity` (`certificate`: verified, None with a pre-shared key): does it
        belong to `terms`'s profile? Asked in both roles."""
        ...

    def authorise(self, number: int, request: AccessRequest) -> Answer:
        """Asked of a responder before it answers IKE_AUTH. `number`: of the IKE SA."""
        ...

    def called(self, number: int, terms: ChildTerms, identity: Identity, certificate: Any) -> ChildTerms | Refusal:
        """Of an initiator whose peer has proved that it is `identity`: what the CHILD_SA that was asked for with `terms` is
        for, where that depends on who the peer is; mostly `terms` itself."""
        ...

    def child(
        self, number: int, ends: Ends, own: tuple[Selector, ...], far: tuple[Selector, ...], mode: EspMode
    ) -> ChildTerms | Refusal:
        """Of a responder: what a new CHILD_SA of IKE SA `number` is for, given the selectors that the peer offers
        (ours, theirs)."""
        ...

    def esp_spi(self) -> int:
        """A free SPI for an inbound SA, reserved until `RemoveInbound` (or the end of the SA that asked)."""
        ...

    def ike_spi(self) -> bytes:
        """A free SPI of eight octets."""
        ...


# --- outputs of an IKE SA ------------------------------------------------------------------------------------------------


@value
class Send:
    """A datagram. On port 4500 `octets` already begin with the non-ESP marker; a NAT keepalive is the single octet
    0xFF."""

    octets: bytes = field(repr=False)
    ends: Ends


@value
class Established:
    """Both ends have proved themselves. Said once, before anything of CHILD_SAs. `initial_contact`: the peer says that
    it holds no other SA with us."""

    identity: Identity
    certificate: Any
    vendor_ids: tuple[bytes, ...] = ()
    initial_contact: bool = False


@value
class Configured:
    """What mode config brought. `kind` is the payload's: 2 CFG_REPLY (to our request), 3 CFG_SET (already
    acknowledged)."""

    kind: int
    attributes: tuple[Attribute, ...]


@value
class PutInbound:
    sa: Sa


@value
class PutOutbound:
    """Said for a new CHILD_SA at once; for a rekeyed one when the peer is sure to hold its side."""

    sa: Sa


@value
class RemoveInbound:
    spi: int


@value
class RemoveOutbound:
    """`spi`: only if it is that SA that is in use."""

    key: SaKey
    spi: int


@value
class ChildUp:
    """A CHILD_SA is there: `number` its own, `replaces` the one that it was rekeyed from (0: none)."""

    key: SaKey
    number: int
    inbound: Sa
    outbound: Sa
    replaces: int = 0


@value
class ChildDown:
    """A CHILD_SA is gone and nothing replaced it, or (`refused`) it could not be made."""

    key: SaKey
    number: int
    reason: str
    refused: bool = False


@value
class Denied:
    """A CHILD_SA that the peer asked for is refused; the IKE SA stays. `reason` is for people here."""

    reason: str


@value
class Rekeyed:
    """This IKE SA's successor, which has taken over its CHILD_SAs; this one says Closed once the peer has let go of
    it."""

    successor: Any


@value
class Spawned:
    """One more IKE SA with this peer, made by an IKE rekey that meets one of ours: its messages must reach it. It holds
    no CHILD_SA. If it becomes the successor, `Rekeyed` says so; else it says Closed."""

    sa: Any


@value
class Moved:
    """The peer behind a NAT is at another address or port: said after a packet that proved it."""

    ends: Ends


@value
class Closed:
    """The last output. `reason` for people. `retry`: worth trying again. `established`: it had been. `peer`: by the
    peer's wish. `silent`: the peer has not answered."""

    reason: str
    retry: bool = True
    established: bool = False
    peer: bool = False
    silent: bool = False


@value
class Doubted:
    """Somebody who has seen our request says, in the clear, that the peer has no such IKE SA: it may have begun anew. Nothing
    is proved by that, and nothing ends because of it."""


@value
class Keyed:
    """Said of an IKE SA that has just got its keys, and only if `Settings.key_log` asks for it. SPIs: of the initiator,
    of the responder."""

    initiator_spi: bytes
    responder_spi: bytes
    suite: IkeSuite
    keys: IkeKeys = field(repr=False)


@value
class Log:
    event: str
    fields: Mapping[str, object]
    level: Level = "info"


Output = (
    Send
    | Established
    | Configured
    | PutInbound
    | PutOutbound
    | RemoveInbound
    | RemoveOutbound
    | ChildUp
    | ChildDown
    | Denied
    | Rekeyed
    | Spawned
    | Moved
    | Closed
    | Doubted
    | Keyed
    | Log
)
