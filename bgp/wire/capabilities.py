"""Capabilities of OPEN (RFC 5492): one row a code, unknown ones kept as they came."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from attrs import frozen

from bgp.wire.family import Family

__all__ = [
    "AddPath",
    "AddPathMode",
    "Capability",
    "EnhancedRouteRefresh",
    "ExtendedMessage",
    "FourOctetAs",
    "GracefulRestart",
    "MultipleLabels",
    "Multiprotocol",
    "RestartFamily",
    "RouteRefreshCapability",
    "UnknownCapability",
]


class Code(IntEnum):
    """Capability codes (IANA)."""

    MULTIPROTOCOL = 1
    ROUTE_REFRESH = 2
    EXTENDED_MESSAGE = 6
    MULTIPLE_LABELS = 8
    GRACEFUL_RESTART = 64
    FOUR_OCTET_AS = 65
    ADD_PATH = 69
    ENHANCED_ROUTE_REFRESH = 70


@frozen
class Multiprotocol:
    """RFC 4760 8: the sender takes routes of `family`."""

    family: Family


@frozen
class RouteRefreshCapability:
    """RFC 2918 2."""


@frozen
class ExtendedMessage:
    """RFC 8654 3: messages of up to 65535 octets."""


@frozen
class MultipleLabels:
    """RFC 8277 2.1: how many labels an NLRI of a family may carry."""

    counts: tuple[tuple[Family, int], ...]


@frozen
class RestartFamily:
    """A family in the graceful restart capability; `forwarding` is its F bit."""

    family: Family
    forwarding: bool = False


@frozen
class GracefulRestart:
    """RFC 4724 3. `time` is in seconds, 0 to 4095; `restarted` is the R bit, `notification` the N bit (RFC 8538 2)."""

    time: int
    families: tuple[RestartFamily, ...] = ()
    restarted: bool = False
    notification: bool = False


@frozen
class FourOctetAs:
    """RFC 6793 3: the sender's AS number in full."""

    asn: int


class AddPathMode(IntFlag):
    """RFC 7911 4, the Send/Receive field."""

    RECEIVE = 1
    SEND = 2
    BOTH = 3


@frozen
class AddPath:
    """RFC 7911 4."""

    families: tuple[tuple[Family, AddPathMode], ...]


@frozen
class EnhancedRouteRefresh:
    """RFC 7313 3.1."""


@frozen
class UnknownCapability:
    """Any other code, kept. RFC 5492 3: a capability that is not understood MUST be ignored."""

    code: int
    value: bytes = b""


Capability = (
    Multiprotocol
    | RouteRefreshCapability
    | ExtendedMessage
    | MultipleLabels
    | GracefulRestart
    | FourOctetAs
    | AddPath
    | EnhancedRouteRefresh
    | UnknownCapability
)
