"""Every way octets can be wrong: what resets the session is raised, what RFC 7606 repairs is a value."""

from __future__ import annotations

from enum import IntEnum

from attrs import field, frozen

from bgp.wire.family import Family
from stack.wire import WireError

__all__ = [
    "Action",
    "AttributeFault",
    "CeaseSubcode",
    "DoesNotFitError",
    "ErrorCode",
    "FsmSubcode",
    "HeaderSubcode",
    "MessageError",
    "OpenSubcode",
    "RefreshSubcode",
    "UpdateSubcode",
]


class ErrorCode(IntEnum):
    """NOTIFICATION error codes (RFC 4271 4.5, RFC 7313 5, RFC 9687 5)."""

    HEADER = 1
    OPEN = 2
    UPDATE = 3
    HOLD_TIMER = 4
    FSM = 5
    CEASE = 6
    REFRESH = 7
    SEND_HOLD_TIMER = 8


class HeaderSubcode(IntEnum):
    """RFC 4271 6.1."""

    NOT_SYNCHRONIZED = 1
    BAD_LENGTH = 2
    BAD_TYPE = 3


class OpenSubcode(IntEnum):
    """RFC 4271 6.2, RFC 5492 5."""

    UNSPECIFIC = 0
    UNSUPPORTED_VERSION = 1
    BAD_PEER_AS = 2
    BAD_IDENTIFIER = 3
    UNSUPPORTED_PARAMETER = 4
    UNACCEPTABLE_HOLD_TIME = 6
    UNSUPPORTED_CAPABILITY = 7


class UpdateSubcode(IntEnum):
    """RFC 4271 6.3."""

    MALFORMED_ATTRIBUTE_LIST = 1
    UNRECOGNIZED_WELL_KNOWN = 2
    MISSING_WELL_KNOWN = 3
    ATTRIBUTE_FLAGS = 4
    ATTRIBUTE_LENGTH = 5
    INVALID_ORIGIN = 6
    INVALID_NEXT_HOP = 8
    OPTIONAL_ATTRIBUTE = 9
    INVALID_NETWORK_FIELD = 10
    MALFORMED_AS_PATH = 11


class FsmSubcode(IntEnum):
    """RFC 6608 3: a message that the state does not allow."""

    UNSPECIFIC = 0
    IN_OPEN_SENT = 1
    IN_OPEN_CONFIRM = 2
    IN_ESTABLISHED = 3


class CeaseSubcode(IntEnum):
    """RFC 4486 3, RFC 8538 3.1."""

    MAXIMUM_PREFIXES = 1
    SHUTDOWN = 2
    PEER_DECONFIGURED = 3
    RESET = 4
    CONNECTION_REJECTED = 5
    CONFIGURATION_CHANGE = 6
    COLLISION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9


class RefreshSubcode(IntEnum):
    """RFC 7313 5."""

    BAD_LENGTH = 1


class Action(IntEnum):
    """What RFC 7606 2 asks for, in ascending severity, so the strongest of several is their maximum (3(h))."""

    NONE = 0
    ATTRIBUTE_DISCARD = 1
    TREAT_AS_WITHDRAW = 2
    DISABLE_FAMILY = 3
    SESSION_RESET = 4


@frozen
class AttributeFault:
    """A broken rule in one UPDATE. `offset` counts from the start of the message; `data` is the attribute as received.

    `code` is the attribute's, 0 for the attribute list as a whole; `subcode` is that of the NOTIFICATION this fault
    would be, if it were one. `family` is set when the action is DISABLE_FAMILY: RFC 4760 7 then asks to drop all routes
    of it from this peer and to ignore it for the rest of the session.
    """

    code: int
    action: Action
    what: str
    offset: int
    rfc: str
    data: bytes = b""
    subcode: int = 0
    family: Family | None = None

    def __str__(self) -> str:
        return f"attribute {self.code}: {self.what} at offset {self.offset} ({self.rfc})"


@frozen
class MessageError(WireError):
    """Octets that end the session: send NOTIFICATION `code`/`subcode` with `data`, which the peer really sent."""

    code: int = 0
    subcode: int = 0
    data: bytes = b""
    faults: tuple[AttributeFault, ...] = field(default=())


@frozen
class DoesNotFitError(Exception):
    """A message of our own making that the session's limit does not hold. `needed` and `limit` are octets."""

    what: str
    needed: int
    limit: int

    def __str__(self) -> str:
        return f"{self.what}: {self.needed} octets needed, {self.limit} allowed"
