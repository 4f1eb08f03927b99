"""What an NHRP packet says, as values. Octets are nhrp.wire.codec's business (RFC 2332 5.2, and Cisco's additions)."""

from __future__ import annotations

from enum import IntEnum

from attrs import field

from stack.values import value

__all__ = [
    "Cie",
    "CieCode",
    "ErrorCode",
    "Extension",
    "ExtensionKind",
    "Flag",
    "Kind",
    "Packet",
]


class Kind(IntEnum):
    RESOLUTION_REQUEST = 1
    RESOLUTION_REPLY = 2
    REGISTRATION_REQUEST = 3
    REGISTRATION_REPLY = 4
    PURGE_REQUEST = 5
    PURGE_REPLY = 6
    ERROR_INDICATION = 7
    TRAFFIC_INDICATION = 8


class Flag(IntEnum):
    """Of resolution (ROUTER to STABLE_SOURCE), registration (UNIQUE_REGISTRATION) and purge (NO_REPLY) packets; NAT is Cisco's
    and of all three."""

    ROUTER = 0x8000
    AUTHORITATIVE = 0x4000
    STABLE = 0x2000
    UNIQUE = 0x1000
    STABLE_SOURCE = 0x0800
    NAT = 0x0002
    UNIQUE_REGISTRATION = 0x8000
    NO_REPLY = 0x8000


class CieCode(IntEnum):
    OK = 0
    PROHIBITED = 4
    INSUFFICIENT_RESOURCES = 5
    NO_BINDING = 12
    NOT_UNIQUE = 13
    UNIQUE_ALREADY_REGISTERED = 14


class ErrorCode(IntEnum):
    UNRECOGNIZED_EXTENSION = 1
    LOOP = 3
    UNREACHABLE = 6
    PROTOCOL_ERROR = 7
    SDU_TOO_BIG = 8
    INVALID_EXTENSION = 9
    INVALID_RESOLUTION_REPLY = 10
    AUTHENTICATION_FAILURE = 11
    HOP_COUNT_EXCEEDED = 15
    VPN_MISMATCH = 16
    VPN_UNSUPPORTED = 17


class ExtensionKind(IntEnum):
    END = 0
    RESPONDER_ADDRESS = 3
    FORWARD_TRANSIT = 4
    REVERSE_TRANSIT = 5
    AUTHENTICATION = 7
    VENDOR_PRIVATE = 8
    NAT_ADDRESS = 9
    MOBILE_AUTHENTICATION = 10


@value
class Cie:
    """Client information entry. Addresses are octets, empty where the packet has none (then the header's are meant).
    `prefix_length` 0 and 255: a host. `holding_time` in seconds."""

    code: int = 0
    prefix_length: int = 0
    mtu: int = 0
    holding_time: int = 0
    nbma: bytes = b""
    protocol: bytes = b""
    preference: int = 0
    subaddress: bytes = b""


@value
class Extension:
    """`octets`: its value as it came; a transit passes it on unchanged."""

    kind: int
    octets: bytes = field(default=b"", repr=False)
    compulsory: bool = True


@value
class Packet:
    """`source`, `destination`: protocol (overlay) addresses; `source_nbma`: as the sender says. `code`, `offset`: of an
    error or traffic indication, whose `body` is the start of the packet that it is about (an NHRP packet, an IP packet). The
    End extension is not among `extensions`."""

    kind: Kind
    source_nbma: bytes
    source: bytes
    destination: bytes
    request_id: int = 0
    flags: int = 0
    cies: tuple[Cie, ...] = ()
    extensions: tuple[Extension, ...] = ()
    hop_count: int = 255
    code: int = 0
    offset: int = 0
    body: bytes = field(default=b"", repr=False)
    source_subaddress: bytes = b""

    def extension(self, kind: int) -> Extension | None:
        """The first of that kind."""
        return next((one for one in self.extensions if one.kind == kind), None)
