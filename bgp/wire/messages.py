"""The five messages as values, and what of the session their reading depends on."""

from __future__ import annotations

from enum import IntEnum

from attrs import frozen

from bgp.wire.attributes import Attributes, RawAttribute
from bgp.wire.capabilities import AddPath, AddPathMode, Capability, FourOctetAs, Multiprotocol
from bgp.wire.errors import Action, AttributeFault
from bgp.wire.family import Family, Nlri

__all__ = [
    "EXTENDED_LIMIT",
    "LIMIT",
    "Keepalive",
    "Message",
    "MessageType",
    "Notification",
    "Open",
    "Reach",
    "RefreshSubtype",
    "RouteRefresh",
    "Session",
    "Unreach",
    "Update",
]

LIMIT, EXTENDED_LIMIT = 4096, 65535
"""The longest message without and with RFC 8654, in octets."""


class MessageType(IntEnum):
    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


@frozen
class Session:
    """What the two OPENs settled, as far as it changes the meaning of octets.

    `asn4`: both sent the 4-octet AS capability. `addpath`: the families whose NLRI carry a path identifier in the
    direction of this message (so reading and writing may take two of these). `extended_message`: the peer may send
    (reading), or takes (writing), more than 4096 octets. `multiple_labels`: an NLRI may carry a label stack (RFC 8277).
    `ebgp`: the peer is in another AS, outside our confederation; RFC 7606 treats some attributes differently then.
    """

    asn4: bool = True
    addpath: frozenset[Family] = frozenset()
    extended_message: bool = False
    multiple_labels: bool = False
    ebgp: bool = False

    @property
    def limit(self) -> int:
        """The longest message, in octets."""
        return EXTENDED_LIMIT if self.extended_message else LIMIT


@frozen
class Open:
    """`asn` is the real one: from the 4-octet AS capability if there is one. `hold_time` is in seconds.

    `identifier` is 4 octets. Encoding derives the two-octet AS field (AS_TRANS if need be) and leaves `capabilities`
    as they are.
    """

    asn: int
    hold_time: int
    identifier: bytes
    capabilities: tuple[Capability, ...] = ()
    version: int = 4

    @property
    def asn4(self) -> bool:
        return any(isinstance(one, FourOctetAs) for one in self.capabilities)

    @property
    def families(self) -> frozenset[Family]:
        """The families of its multiprotocol capabilities."""
        return frozenset(one.family for one in self.capabilities if isinstance(one, Multiprotocol))

    def addpath(self, mode: AddPathMode) -> frozenset[Family]:
        """The families for which it offers to send, or to receive, several paths."""
        lists = [one.families for one in self.capabilities if isinstance(one, AddPath)]
        return frozenset(family for rows in lists for family, offered in rows if mode & offered)

    def has(self, kind: type[Capability]) -> bool:
        return any(isinstance(one, kind) for one in self.capabilities)


@frozen
class Reach:
    """Routes of one family with one next hop: 4 or 16 octets, its RD (VPN families) taken off.

    `::ffff:a.b.c.d` stays 16 octets. `link_local` is the second address of a 32- or 48-octet next hop (RFC 2545 3).
    """

    family: Family
    next_hop: bytes
    routes: tuple[Nlri, ...]
    link_local: bytes = b""


@frozen
class Unreach:
    """Routes of one family that are no more. No routes in it: End-of-RIB (RFC 4724 2)."""

    family: Family
    routes: tuple[Nlri, ...] = ()


@frozen
class Update:
    """Routes that changed; the attributes hold for every `reach`. Take `unreach` first: a route in both is reachable.

    On reading, RFC 7606 is already applied: routes to be treated as withdrawn stand in `unreach`, discarded attributes
    are gone from `attributes`, a family to disable has no routes here. `errors` says why; `action` is the strongest.
    `opaque`: MP_REACH and MP_UNREACH attributes of families that this codec does not know, as they came.
    """

    attributes: Attributes | None = None
    reach: tuple[Reach, ...] = ()
    unreach: tuple[Unreach, ...] = ()
    errors: tuple[AttributeFault, ...] = ()
    opaque: tuple[RawAttribute, ...] = ()

    @property
    def action(self) -> Action:
        """The strongest action of `errors`; never SESSION_RESET, since that is raised."""
        return max((error.action for error in self.errors), default=Action.NONE)

    @property
    def disabled(self) -> frozenset[Family]:
        """The families that RFC 7606 wants disabled for the rest of the session because of this message."""
        return frozenset(error.family for error in self.errors if error.family is not None)

    @property
    def end_of_rib(self) -> Family | None:
        """The family whose End-of-RIB this is."""
        if self.reach or self.errors or self.opaque or self.attributes or len(self.unreach) != 1:
            return None
        return None if self.unreach[0].routes else self.unreach[0].family


@frozen
class Notification:
    """The session's end, and why. `data` is shown, never trusted."""

    code: int
    subcode: int = 0
    data: bytes = b""


@frozen
class Keepalive:
    """Nothing but a header."""


class RefreshSubtype(IntEnum):
    """RFC 7313 3.2. Others are kept as numbers; RFC 7313 5 wants them ignored."""

    REQUEST = 0
    BEGIN = 1
    END = 2


@frozen
class RouteRefresh:
    """RFC 2918 3, RFC 7313 3.2. `subtype` is any octet."""

    family: Family
    subtype: int = RefreshSubtype.REQUEST


Message = Open | Update | Notification | Keepalive | RouteRefresh
