"""What the tables hold: who said it (Source), what paths have in common (PathSet), paths, next hops, prefixes (Net).

A real table has some seven routes for one set of attributes, so everything that depends on the attributes alone stands
once, in a PathSet, and a path is a pair. Objects here are shared and compared by identity.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple
from weakref import ReferenceType

from attrs import define, field

from bgp.engine.outputs import PeerKey, PeerView
from bgp.wire import Attributes, Family, Nlri
from stack.addr import format_address
from stack.events import NextHopKey, Selected

__all__ = ["ALWAYS", "Hop", "Net", "Path", "PathSet", "Reason", "Source", "local_source"]

DEFAULT_LOCAL_PREF = 100
LOCAL_WEIGHT = 32768
"""What IOS gives to the routes that this router originates."""


class Reason(Enum):
    """Why a path is not used: refused on arrival, not usable now, or passed over in favour of another."""

    FILTERED = "denied by inbound policy"
    GONE = "its neighbour is gone"
    AS_LOOP = "our own AS is in the path (RFC 4271 9.1.2)"
    AS_ZERO = "AS 0 is in the path (RFC 7607)"
    FIRST_AS = "the first AS in the path is not the neighbour's (RFC 4271 6.3)"
    ORIGINATOR = "we are the originator (RFC 4456 8)"
    CLUSTER = "our cluster is in the cluster list (RFC 4456 8)"
    RESERVED_LABEL = "its label is reserved, so it cannot be a VPN label (RFC 3032 2.1)"
    NO_LABEL = "it has no label (RFC 4364 4.3.1)"
    NOT_IMPORTED = "no VRF with its RD imports it"
    NEXT_HOP = "its next hop is not usable (RFC 4271 9.1.2.1)"
    WEIGHT = "lower weight"
    LOCAL_PREF = "lower local preference (RFC 4271 9.1.1)"
    NOT_LOCAL = "not originated here"
    AS_PATH_LENGTH = "longer AS path (RFC 4271 9.1.2.2 a)"
    ORIGIN = "worse origin (RFC 4271 9.1.2.2 b)"
    MED = "higher MED from the same neighbouring AS (RFC 4271 9.1.2.2 c)"
    INTERNAL = "internal, the best is external (RFC 4271 9.1.2.2 d)"
    IGP_METRIC = "higher metric to the next hop (RFC 4271 9.1.2.2 e)"
    NEWER = "newer external path (RFC 5004 4)"
    ROUTER_ID = "higher router id (RFC 4271 9.1.2.2 f)"
    CLUSTER_LENGTH = "longer cluster list (RFC 4456 9)"
    NEIGHBOUR = "higher neighbour address (RFC 4271 9.1.2.2 g)"
    PATH_ID = "higher path identifier"


@define(eq=False)
class Hop:
    """A next hop that paths share: usable or not, as routing says; `own`: it is an address of this router. `closed`: it is
    behind a protected tunnel that cannot be sent to, so what belongs there must go nowhere else.

    `waiting`: (table, key) of prefixes that met it before routing had answered; `waiting_swaps`: those that need its id
    for a label.
    """

    key: NextHopKey
    known: bool = False
    answered: bool = False
    own: bool = False
    reason: str = "routing has not resolved it yet"
    metric: int = 0
    id: int = 0
    interface: str = ""
    usable: bool = False
    closed: bool = False
    waiting: dict[tuple[Any, bytes], None] = field(factory=dict)
    waiting_swaps: dict[tuple[Any, bytes], None] = field(factory=dict)

    def settle(self) -> None:
        self.usable = self.answered and not self.own

    @property
    def why(self) -> str:
        """Why it is not usable; empty if it is."""
        if self.usable:
            return ""
        return "it is our own address" if self.own else self.reason


ALWAYS = Hop(NextHopKey("", b""), known=True, answered=True, reason="", usable=True)
"""The next hop of what this router originates."""


@define(eq=False)
class Source:
    """Who told us: an established neighbour, or (`view` None) this router itself, for `vrf`."""

    view: PeerView | None
    vrf: str
    router_id: bytes
    address: bytes
    external: bool
    clients: frozenset[Family] = frozenset()

    @property
    def local(self) -> bool:
        return self.view is None

    @property
    def key(self) -> PeerKey | None:
        return None if self.view is None else self.view.key

    def __str__(self) -> str:
        return "Local" if self.view is None else format_address(self.address)


def local_source(vrf: str, router_id: bytes) -> Source:
    return Source(None, vrf, router_id, b"\0\0\0\0", external=False)


class Rank(NamedTuple):
    """The first five steps of the decision, ready to compare: the least is the best."""

    weight: int
    local_pref: int
    not_local: bool
    as_path: int
    origin: int


@define(eq=False)
class PathSet:
    """What all paths of one source with one set of attributes and one next hop have in common.

    `received` and `received_hop` are as they came (pre-policy), `attributes` and `next_hop` as accepted. `peer_hop` is
    the received next hop, in VPN families with `::ffff:` taken off. `refused` and `detail`: why it is not even
    considered. `exported_from`: the VRF that this VPN route was made from; `original`: the VPN set that a VRF imported.
    `selected`: the route of the RIB behind what this router originates. The rest is remembered work.
    """

    source: Source
    family: Family
    received: Attributes
    received_hop: bytes
    attributes: Attributes
    next_hop: bytes
    hop: Hop
    peer_hop: bytes = b""
    link_local: bytes = b""
    encap: str = ""
    weight: int = 0
    tag: int = 0
    refused: Reason | None = None
    detail: str = ""
    exported_from: str | None = None
    original: PathSet | None = None
    selected: Selected | None = None
    imported_ref: ReferenceType[PathSet] | None = None
    exported: PathSet | None = None
    exported_epoch: int = -1
    importers: tuple[str, ...] = ()
    importers_epoch: int = -1
    out_token: object = None
    out: Any = None
    _rank: Rank | None = None

    @property
    def imported(self) -> PathSet | None:
        """The set as VRFs that import it see it, while one does: held weakly, since it holds this one as its `original`."""
        return None if self.imported_ref is None else self.imported_ref()

    @property
    def rank(self) -> Rank:
        if self._rank is None:
            attributes = self.attributes
            local_pref = attributes.local_pref
            origin = attributes.origin
            self._rank = Rank(
                -self.weight,
                -(DEFAULT_LOCAL_PREF if local_pref is None else local_pref),
                not self.source.local,
                attributes.as_path.hops,
                2 if origin is None else int(origin),
            )
        return self._rank

    def forget_rank(self) -> None:
        """What it was computed from has changed."""
        self._rank = None

    @property
    def usable(self) -> bool:
        return self.refused is None and self.hop.usable

    @property
    def neighbour_as(self) -> int | None:
        """The AS that MED is compared within: the first of the path; None for what begins in our own AS."""
        return self.attributes.as_path.first

    @property
    def med(self) -> int:
        """RFC 4271 9.1.2.2 (c): a missing MED counts as 0, the lowest."""
        return self.attributes.med or 0

    @property
    def router_id(self) -> bytes:
        """RFC 4456 9: the ORIGINATOR_ID stands for the router id, if there is one."""
        return self.attributes.originator_id or self.source.router_id


class Path(NamedTuple):
    """One route of one source."""

    set: PathSet
    nlri: Nlri

    @property
    def usable(self) -> bool:
        return self.set.usable


@define(eq=False)
class Net:
    """A prefix in the Loc-RIB: all paths to it, oldest first, and the best. `version`: of the table, when that changed."""

    paths: tuple[Path, ...]
    best: Path | None = None
    version: int = 0
