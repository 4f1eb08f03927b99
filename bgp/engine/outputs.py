"""What the engine wants done: the outputs of Ribs and of Speaker, and how Ribs sees a peer.

`Ribs` (engine.rib) answers with `RibOutput`; `Speaker` performs NotifyPeer, RequestRefresh and OutgoingReady itself and
hands the rest on, so the service sees only `Output` without those three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from bgp.config import NeighborConfig, NeighborFamily
from bgp.wire.family import Family
from bgp.wire.messages import Session
from stack.addr import Afi, Prefix, Safi
from stack.events import Fact, Topic

__all__ = [
    "Close",
    "Connect",
    "Listen",
    "Log",
    "NotifyPeer",
    "OutgoingReady",
    "Output",
    "PauseReading",
    "PeerKey",
    "PeerView",
    "Post",
    "Publish",
    "RequestRefresh",
    "ResumeReading",
    "RibOutput",
    "Send",
    "SetTtl",
    "SyncedOut",
    "Unlisten",
]

PeerKey = tuple[str, bytes]
"""(VRF, the neighbour's address)."""


@frozen
class PeerView:
    """An established peer, as Ribs needs it.

    `local_asn` is our AS towards it; `router_id` its BGP identifier and `local_id` ours (4 octets each); `local` and
    `remote` the ends of its TCP connection. `families` are those both sides negotiated. `config` has its peer group
    merged in. `session` is how UPDATEs to it are encoded. `refresh`: it takes ROUTE-REFRESH. `dynamic`: it came by a
    listen range. Graceful restart (RFC 4724), if both offered it: `restartable` families, `forwarding` those whose
    forwarding state it kept (F bit), `restart_time` seconds, `restarted` its R bit.
    """

    key: PeerKey
    asn: int
    local_asn: int
    router_id: bytes
    local_id: bytes
    local: bytes
    remote: bytes
    ibgp: bool
    families: frozenset[Family]
    config: NeighborConfig
    session: Session = field(factory=Session)
    refresh: bool = True
    dynamic: bool = False
    restartable: frozenset[Family] = frozenset()
    forwarding: frozenset[Family] = frozenset()
    restart_time: int = 0
    restarted: bool = False

    @property
    def vrf(self) -> str:
        return self.key[0]

    def family(self, family: Family) -> NeighborFamily:
        """What is configured for `family`; the defaults if nothing is."""
        return self.config.families.get((Afi(family.afi), Safi(family.safi))) or _UNCONFIGURED


_UNCONFIGURED = NeighborFamily()


# --- from Ribs and Speaker, for the service ---------------------------------------------------------------------------


@frozen
class Publish:
    """Rows of `topic` that now hold (None: withdrawn)."""

    topic: Topic[Any, Any]
    table: str
    rows: Mapping[Any, Any]


@frozen
class SyncedOut:
    """All rows of `topic` that hold since the start have been published."""

    topic: Topic[Any, Any]


@frozen
class Post:
    fact: Fact


@frozen
class Log:
    """`level` is debug, info, warning or error; `event` a fixed text, everything variable in `fields`."""

    level: str
    event: str
    fields: Mapping[str, Any] = field(factory=dict)


# --- from Ribs, for the speaker ---------------------------------------------------------------------------------------


@frozen
class NotifyPeer:
    """End the session with `key` by this NOTIFICATION. `data` only holds what RFC 4271 or RFC 4486 asks for."""

    key: PeerKey
    code: int
    subcode: int
    data: bytes = b""
    reason: str = ""


@frozen
class RequestRefresh:
    """Ask the peer for all its routes of `family` again."""

    key: PeerKey
    family: Family


@frozen
class OutgoingReady:
    """`Ribs.outgoing(key, ...)` has octets now."""

    key: PeerKey


# --- from Speaker, for the service ------------------------------------------------------------------------------------


@frozen
class Connect:
    """Open a TCP connection; report `tcp_connected` or `tcp_failed` for `connection`.

    `local` empty: the host chooses. `ttl` is sent; `min_ttl` is the least that is accepted (RFC 5082 3), 0: any.
    (The fields of stack.net.TcpOptions; engines may not import that module, since it names asyncio's types.)
    """

    connection: int
    peer: PeerKey
    vrf: str
    local: bytes
    remote: bytes
    port: int
    ttl: int
    min_ttl: int = 0
    password: bytes = field(default=b"", repr=False)


@frozen
class Close:
    """Send what is still buffered (`abort`: drop it), close the connection and forget its number."""

    connection: int
    abort: bool = False


@frozen
class Send:
    connection: int
    octets: bytes


@frozen
class SetTtl:
    """Rules for a connection that was accepted: `ttl` to send with, `min_ttl` to accept (RFC 5082 3)."""

    connection: int
    ttl: int
    min_ttl: int = 0


@frozen
class PauseReading:
    """Read no more from `connection` for now: what came is still being worked on."""

    connection: int


@frozen
class ResumeReading:
    connection: int


@frozen
class Listen:
    """Accept connections to `address` (empty: any) in `vrf`. `keys`: the passwords of the neighbours, and ranges of
    neighbours, that have one (RFC 2385). `min_ttl`: the least to accept from anybody, 0: any; `hops`: from those who
    demand more (RFC 5082 3). A second Listen for the same ends replaces the first."""

    vrf: str
    address: bytes
    port: int
    keys: tuple[tuple[Prefix, bytes], ...] = field(default=(), repr=False)
    min_ttl: int = 0
    hops: tuple[tuple[Prefix, int], ...] = ()


@frozen
class Unlisten:
    vrf: str
    address: bytes
    port: int


RibOutput = Publish | SyncedOut | Post | Log | NotifyPeer | RequestRefresh | OutgoingReady
Output = (
    Publish
    | SyncedOut
    | Post
    | Log
    | Connect
    | Close
    | Send
    | SetTtl
    | PauseReading
    | ResumeReading
    | Listen
    | Unlisten
)
