"""OPEN: what we say, whether what we hear is acceptable, and what the two together settle.

Standards: RFC 4271 4.2 and 6.2, RFC 4724 3, RFC 4760 8, RFC 5492, RFC 6286, RFC 6793, RFC 2918, RFC 7607.
"""

from __future__ import annotations

from attrs import frozen

from bgp.wire import (
    IPV4_UNICAST,
    Capability,
    EnhancedRouteRefresh,
    ErrorCode,
    Family,
    FourOctetAs,
    GracefulRestart,
    Multiprotocol,
    Notification,
    Open,
    OpenSubcode,
    RestartFamily,
    RouteRefreshCapability,
    Session,
)

__all__ = ["Agreement", "Terms", "agree", "judge", "our_open"]

VERSION = 4


@frozen
class Terms:
    """What we offer to one peer. `hold` in seconds; `keepalive` is our wish, at most a third of the hold time is used.

    `plain`: no capabilities at all, since the peer refused the optional parameter (RFC 5492 3). `graceful`: seconds that
    the peer should wait for us to restart (RFC 4724; 0: not offered); `restarted`: we just did; `forwarding`: packets were
    forwarded meanwhile.
    """

    asn: int
    peer_asn: int
    identifier: bytes
    families: frozenset[Family]
    hold: int = 180
    keepalive: int = 60
    plain: bool = False
    graceful: int = 0
    restarted: bool = False
    forwarding: bool = False

    @property
    def ibgp(self) -> bool:
        return self.asn == self.peer_asn


@frozen
class Agreement:
    """What the two OPENs settled. `hold` 0: no keepalives, no hold timer. `keepalive` in seconds, before jitter.

    `wire` is the codec's view, for both directions.
    """

    peer: Open
    families: frozenset[Family]
    hold: int
    keepalive: float
    wire: Session
    refresh: bool = False
    enhanced_refresh: bool = False
    graceful: GracefulRestart | None = None


def our_open(terms: Terms) -> Open:
    capabilities: tuple[Capability, ...] = ()
    if not terms.plain:
        capabilities = (
            *(Multiprotocol(family) for family in sorted(terms.families)),
            RouteRefreshCapability(),
            FourOctetAs(terms.asn),
        )
        if terms.graceful:
            rows = tuple(RestartFamily(family, terms.forwarding) for family in sorted(terms.families))
            capabilities += (GracefulRestart(terms.graceful, rows, terms.restarted),)
    return Open(terms.asn, terms.hold, terms.identifier, capabilities)


def judge(message: Open, terms: Terms) -> Notification | None:
    """The NOTIFICATION that this OPEN deserves, or None (RFC 4271 6.2). Its data is what the peer sent, or empty."""
    if message.version != VERSION:
        # "the Data field is a 2-octet unsigned integer, which indicates the largest, locally-supported version number"
        return _refusal(OpenSubcode.UNSUPPORTED_VERSION, VERSION.to_bytes(2))
    if message.asn != terms.peer_asn:
        return _refusal(OpenSubcode.BAD_PEER_AS)  # RFC 7607 2: AS 0 too, which no configuration can name
    # RFC 6286 2.2: zero is invalid, and so is our own within our AS; other ASes may share our number.
    if message.identifier == bytes(4) or (terms.ibgp and message.identifier == terms.identifier):
        return _refusal(OpenSubcode.BAD_IDENTIFIER, message.identifier)
    # "An implementation MUST reject Hold Time values of one or two seconds."
    if message.hold_time in (1, 2):
        return _refusal(OpenSubcode.UNACCEPTABLE_HOLD_TIME, message.hold_time.to_bytes(2))
    if terms.families and not _common(message, terms):
        return _refusal(OpenSubcode.UNSUPPORTED_CAPABILITY, _wanted(terms))
    return None


def _refusal(subcode: OpenSubcode, octets: bytes = b"") -> Notification:
    return Notification(ErrorCode.OPEN, subcode, octets)


def _wanted(terms: Terms) -> bytes:
    """RFC 5492 5: "the Data field [...] MUST list the set of capabilities that causes the speaker to send the message"."""
    return b"".join(
        b"\x01\x04" + family.afi.to_bytes(2) + b"\0" + family.safi.to_bytes(1) for family in sorted(terms.families)
    )


def _common(message: Open, terms: Terms) -> frozenset[Family]:
    """Families of both sides. Who says nothing of multiprotocol means IPv4 unicast (RFC 4760 8, RFC 4271)."""
    theirs = message.families or frozenset((IPV4_UNICAST,))
    ours = frozenset((IPV4_UNICAST,)) & terms.families if terms.plain else terms.families
    return theirs & ours


def agree(message: Open, terms: Terms) -> Agreement:
    """What an acceptable OPEN and ours settle (RFC 4271 4.2: "the smaller of its configured Hold Time and the Hold
    Time received")."""
    hold = min(message.hold_time, terms.hold)
    # "A reasonable maximum time between KEEPALIVE messages would be one third of the Hold Time interval [...] MUST NOT
    # be sent more frequently than one per second" (4.4).
    keepalive = max(1.0, min(float(terms.keepalive) or hold / 3, hold / 3)) if hold else 0.0
    return Agreement(
        peer=message,
        families=_common(message, terms),
        hold=hold,
        keepalive=keepalive,
        wire=Session(asn4=message.asn4 and not terms.plain, ebgp=not terms.ibgp),
        refresh=message.has(RouteRefreshCapability) and not terms.plain,
        enhanced_refresh=message.has(EnhancedRouteRefresh) and our_open(terms).has(EnhancedRouteRefresh),
        graceful=_graceful(message) if terms.graceful and not terms.plain else None,
    )


def _graceful(message: Open) -> GracefulRestart | None:
    """RFC 4724 3: of several instances the last one counts."""
    found = [one for one in message.capabilities if isinstance(one, GracefulRestart)]
    return found[-1] if found else None
