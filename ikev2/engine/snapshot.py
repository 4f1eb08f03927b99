"""What `Speaker.snapshot()` gives: frozen, without a key in it, made anew at each call. `show` and the metrics are built on it.

Times are on the clock's scale; `SpeakerSnapshot.now` and `wall` place them. Addresses are octets; identities are text.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import field, frozen

from ikev2.config import Dpd
from ikev2.engine.contract import Ends
from ikev2.engine.refusals import Refused
from stack.addr import Prefix
from stack.esp import EspForm, Selector
from stack.events import SaKey

__all__ = [
    "AccessSnapshot",
    "AdmissionSnapshot",
    "ChildSnapshot",
    "EspSnapshot",
    "IkeSnapshot",
    "IkeStatus",
    "LeaseSnapshot",
    "OverlaySnapshot",
    "PoolSnapshot",
    "ProfileSnapshot",
    "SpeakerSnapshot",
    "TrustpointSnapshot",
    "WantSnapshot",
]


class IkeStatus(Enum):
    """As IOS prints it."""

    NEGOTIATING = "IN-NEG"
    READY = "READY"
    DELETE = "DELETE"


@frozen
class EspSnapshot:
    """One direction of a CHILD_SA, as in stack.tables.sad.Sa, keys left out. Limits of 0 are none."""

    spi: int
    local: bytes
    remote: bytes
    form: EspForm
    esn: bool
    window: int
    ports: tuple[int, int]
    own: tuple[Selector, ...]
    far: tuple[Selector, ...]
    hard_packets: int
    hard_octets: int
    hard_time: float
    sequence: int
    packets: int
    octets: int
    last: float | None
    integrity_failures: int
    replays: int
    refused: int


@frozen
class ChildSnapshot:
    """A CHILD_SA. `ike`: number of its IKE SA (0: left by an earlier incarnation). `carries`: the neighbour is sent to by it.
    `group`: of PFS at its last rekey (0: none, or the keys came with IKE_AUTH). `profile`: the IPsec profile."""

    key: SaKey
    number: int
    ike: int
    carries: bool
    inbound: EspSnapshot | None
    outbound: EspSnapshot | None
    since: float
    profile: str = ""
    identity: str = ""
    group: int = 0


@frozen
class IkeSnapshot:
    """An IKE SA. Names of algorithms as in a proposal's lines (`aes-gcm-256`, `sha384`, ...), '' where none. `established`
    None: not yet. `lifetime`: seconds from `established` to the end. `auth_local`, `auth_remote`: as IOS prints them (PSK, RSA,
    ECDSA, ...)."""

    number: int
    initiator: bool
    status: IkeStatus
    description: str
    ends: Ends
    local_spi: bytes
    remote_spi: bytes
    since: float
    established: float | None = None
    lifetime: float = 86400.0
    profile: str = ""
    local_identity: str = ""
    remote_identity: str = ""
    encryption: str = ""
    integrity: str = ""
    prf: str = ""
    group: int = 0
    additional_groups: tuple[int, ...] = ()
    auth_local: str = ""
    auth_remote: str = ""
    dpd: Dpd | None = None
    fragmentation: bool = False
    fragmentation_mtu: int = 0
    nat_local: bool = False
    nat_remote: bool = False
    next_request: int = 0
    """Message id of our next request."""
    next_expected: int = 0
    """Message id of the peer's next request."""
    queued: int = 0
    """Exchanges of ours that wait or are under way."""
    retransmissions: int = 0
    window: int = 1
    interface: str = ""
    template: int | None = None
    assigned: tuple[bytes, ...] = ()
    """Overlay addresses that this peer was given by us."""
    pushed: tuple[bytes, ...] = ()
    """Overlay addresses that we were given by it."""
    remote_subnets: tuple[Prefix, ...] = ()
    """What the peer announced, and we installed."""
    refused_subnets: Mapping[Prefix, str] = field(factory=dict)
    banner: str = ""
    def_domain: str = ""
    dns: tuple[bytes, ...] = ()
    peer_version: str = ""
    """Its APPLICATION_VERSION."""
    flexvpn: bool = False
    children: tuple[ChildSnapshot, ...] = ()
    certificate: Any = None
    """The peer's, as ikev2.pki has it."""


@frozen
class WantSnapshot:
    """A neighbour that must be protected. `state`: `up`, or why not."""

    key: SaKey
    profile: str
    local: bytes
    remote: bytes
    up: bool
    state: str
    attempts: int = 0
    next_try: float | None = None
    responder_only: bool = False
    access: str = ""
    """Of a neighbour of a virtual template: its virtual access interface, while it is up."""
    vrf: str = ""
    """Of its outer addresses."""


@frozen
class AccessSnapshot:
    """A virtual access interface. `ike`: number of its IKE SA (0: none now, it waits for its peer to come back)."""

    name: str
    template: str
    identity: str
    profile: str
    local: bytes
    remote: bytes
    since: float
    ike: int = 0


@frozen
class LeaseSnapshot:
    address: bytes
    identity: str
    in_use: bool
    since: float


@frozen
class PoolSnapshot:
    name: str
    first: bytes
    last: bytes
    size: int
    used: int
    leases: tuple[LeaseSnapshot, ...] = ()
    """Those in use, and those that are remembered for who had them."""

    @property
    def free(self) -> int:
        return self.size - self.used


@frozen
class OverlaySnapshot:
    """What stands in routing because of an SA. `kind`: address, route, binding or endpoint."""

    kind: str
    interface: str
    vrf: str
    prefix: Prefix
    ike: int


@frozen
class ProfileSnapshot:
    """An IKE profile, and why it cannot be used ('': it can)."""

    name: str
    reason: str = ""


@frozen
class TrustpointSnapshot:
    """`reason`: why it could not be loaded ('': it was). Certificates as ikev2.pki has them; `own`: ours, then its chain."""

    name: str
    reason: str = ""
    own: tuple[Any, ...] = ()
    trusted: tuple[Any, ...] = ()
    revocation: tuple[str, ...] = ()


@frozen
class AdmissionSnapshot:
    """How strangers are let in. `challenge`: half-open SAs above which cookies are asked for. `counters`: reason -> count, of
    datagrams dropped and of what was answered without state."""

    sas: int
    """IKE SAs, all of them."""
    half_open: int
    challenge: int
    max_in_negotiation: int
    max_sa: int
    sources: int
    """Addresses that half-open SAs of strangers are from."""
    challenging: bool
    cookies_sent: int = 0
    cookies_accepted: int = 0
    cookies_refused: int = 0
    counters: Mapping[str, int] = field(factory=dict)


@frozen
class SpeakerSnapshot:
    """`wall`: seconds since 1970 at `now`. `children`: all of them, of an earlier incarnation too."""

    now: float
    wall: float
    ikes: tuple[IkeSnapshot, ...]
    children: tuple[ChildSnapshot, ...]
    wants: tuple[WantSnapshot, ...]
    accesses: tuple[AccessSnapshot, ...]
    pools: tuple[PoolSnapshot, ...]
    overlay: tuple[OverlaySnapshot, ...]
    profiles: tuple[ProfileSnapshot, ...]
    trustpoints: tuple[TrustpointSnapshot, ...]
    admission: AdmissionSnapshot
    refusals: tuple[Refused, ...] = ()
    """The newest first."""
    counters: Mapping[str, int] = field(factory=dict)
    """Of all IKE SAs so far: `initiated`, `accepted`, `established`, `failed`, `rekeyed`, `child_up`, `child_rekeyed`, ..."""
