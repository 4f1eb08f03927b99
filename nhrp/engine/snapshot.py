"""What `show` prints, frozen. Times are on the clock's scale."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import field, frozen

from stack.addr import Prefix

__all__ = ["BindingKind", "BindingSnapshot", "NhsSnapshot", "PeerSnapshot", "PendingSnapshot", "SpeakerSnapshot"]


class BindingKind(Enum):
    """`show ip nhrp`'s `Type:`; LOCAL is what we answered for (our own prefixes)."""

    STATIC = "static"
    DYNAMIC = "dynamic"
    LOCAL = "local"
    INCOMPLETE = "incomplete"
    NEGATIVE = "negative"


@frozen
class BindingSnapshot:
    """A mapping entry. `prefix` of `vrf` (of a registration the tunnel's inside VRF), by `next_hop` (overlay) at `nbma`.
    `claimed`: the NBMA address that the other end says it has, if a NAT shows another. `flags`: IOS's words (`registered`,
    `unique`, `router`, `implicit`, `used`, `nhop`, `rib`, `nho`, `nat`, `local`, `authoritative`). `labels`: what we push;
    `local_label`: what we gave. `requesters`: (overlay, NBMA) of those that we answered. `expires` None: never. `took`: seconds
    from the redirect to the installed shortcut; of a LOCAL entry from the last question to its answer, and `waited` those of
    them until its requester's tunnel could be sent by (IKE, if it is protected)."""

    interface: str
    vrf: str
    prefix: Prefix
    kind: BindingKind
    next_hop: bytes = b""
    nbma: bytes = b""
    claimed: bytes = b""
    created: float = 0.0
    expires: float | None = None
    flags: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    local_label: int | None = None
    requesters: tuple[tuple[bytes, bytes], ...] = ()
    reason: str = ""
    request_id: int = 0
    took: float | None = None
    waited: float | None = None


@frozen
class NhsSnapshot:
    """`state`: `RE` (registered), `E` (expecting replies), `W` (waiting: a better one serves), as IOS has it."""

    interface: str
    address: bytes
    nbma: bytes
    priority: int
    state: str
    requests: int
    replies: int
    last_reply: float | None = None
    next_request: float | None = None
    reason: str = ""
    cluster: int = 0


@frozen
class PeerSnapshot:
    """A line of `show dmvpn`: another NBMA address on an interface. `attributes`: IOS's letters (S static, D dynamic, I
    incomplete, N NATed, L local, X no socket). `up`: whether packets can be sent there; `since` when that changed.
    `overlays`: its tunnel addresses."""

    interface: str
    nbma: bytes
    overlays: tuple[bytes, ...]
    attributes: str
    up: bool
    since: float
    state: str
    """`UP`, `IKE`, `IPSEC`, `NHRP` or `DOWN`: what it waits for."""


@frozen
class PendingSnapshot:
    """A resolution that has not been answered."""

    interface: str
    vrf: str
    destination: bytes
    request_id: int
    since: float
    tries: int


@frozen
class SpeakerSnapshot:
    """`counters`: name -> count; those of packets are (interface, direction, kind) texts in `traffic`."""

    bindings: tuple[BindingSnapshot, ...] = ()
    nhs: tuple[NhsSnapshot, ...] = ()
    peers: tuple[PeerSnapshot, ...] = ()
    pending: tuple[PendingSnapshot, ...] = ()
    counters: Mapping[str, int] = field(factory=dict)
    traffic: Mapping[tuple[str, str, str], int] = field(factory=dict)
    networks: Mapping[str, int] = field(factory=dict)
    """Interface -> network id."""
