"""Why a session ended, or does not start: typed reasons, and NOTIFICATIONs in words.

Standards: RFC 4271 4.5 and 6, RFC 4486, RFC 5492, RFC 6608, RFC 7313, RFC 8538, RFC 9003, RFC 9687.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from attrs import frozen

from bgp.wire import (
    CeaseSubcode,
    ErrorCode,
    FsmSubcode,
    HeaderSubcode,
    Notification,
    OpenSubcode,
    RefreshSubcode,
    UpdateSubcode,
)

__all__ = ["STOPS", "End", "EndReason", "Hold", "cease", "notification_text", "printable"]

SHUTDOWN_TEXT_LIMIT = 255
"""RFC 9003 2: the length of a shutdown communication is at most 255 octets."""


class EndReason(Enum):
    """Why the last session, or attempt at one, is over."""

    NONE = "no session yet"
    SHUTDOWN = "administratively shut down"
    DECONFIGURED = "neighbor was removed from the configuration"
    RESET = "cleared by an operator"
    CHANGED = "configuration changed"
    STOPPED = "BGP is stopping"
    ADDRESS_GONE = "the session's local address went away"
    INTERFACE_DOWN = "the interface to the neighbor went down"
    NO_HOST_PORT = "the VRF's host port went away"
    COLLISION = "connection collision"
    HOLD_TIMER = "hold time expired"
    SEND_HOLD_TIMER = "the peer did not read for too long"
    TCP_CLOSED = "the connection was closed"
    TCP_FAILED = "the connection could not be opened"
    HEADER_ERROR = "malformed message header"
    OPEN_ERROR = "unacceptable OPEN"
    UPDATE_ERROR = "malformed UPDATE"
    REFRESH_ERROR = "malformed ROUTE-REFRESH"
    FSM_ERROR = "a message that the state does not allow"
    NOTIFIED = "NOTIFICATION received"
    ROUTES = "its routes broke a limit"
    FAULT = "a fault of this speaker while working on its messages"
    LIMIT = "listen limit reached"
    NOT_ASSIGNED = "its address is not one that IKEv2 assigned"
    UNBOUND = "its address is no longer assigned to it"


class Hold(Enum):
    """Why a peer may not start. NONE: it may."""

    NONE = ""
    SHUTDOWN = "administratively shut down"
    NO_AS = "no remote-as"
    NO_IDENTIFIER = "no router id yet"
    NO_SOURCE = "update-source has no usable address"
    NOT_CONNECTED = "not directly connected"
    NO_HOST_PORT = "the VRF has no host port"
    NOT_ASSIGNED = "IKEv2 assigned other addresses on the interface it is reached by"
    PREFIX_LIMIT = "maximum-prefix was exceeded; clear it to start again"


@frozen
class End:
    """How a session ended. `notification` was sent (`sent`) or received; `text` says more, free of control characters.

    `again`: it may start anew by itself (after damping).
    """

    reason: EndReason
    notification: Notification | None = None
    sent: bool = False
    text: str = ""
    again: bool = True

    def __str__(self) -> str:
        parts = [self.reason.value]
        if self.notification is not None:
            parts.append(("sent " if self.sent else "") + notification_text(self.notification))
        if self.text:
            parts.append(self.text)
        return ": ".join(parts)


def cease(subcode: CeaseSubcode, reason: EndReason, *, text: str = "", again: bool = False) -> End:
    """An end that we choose, by NOTIFICATION Cease."""
    return End(reason, Notification(ErrorCode.CEASE, subcode), sent=True, text=text, again=again)


STOPS: dict[Hold, End] = {
    Hold.SHUTDOWN: cease(CeaseSubcode.SHUTDOWN, EndReason.SHUTDOWN),
    Hold.NO_SOURCE: cease(CeaseSubcode.CONFIGURATION_CHANGE, EndReason.ADDRESS_GONE),
    Hold.NOT_CONNECTED: cease(CeaseSubcode.CONFIGURATION_CHANGE, EndReason.INTERFACE_DOWN),
    Hold.NO_HOST_PORT: cease(CeaseSubcode.CONFIGURATION_CHANGE, EndReason.NO_HOST_PORT),
    Hold.NOT_ASSIGNED: cease(CeaseSubcode.CONNECTION_REJECTED, EndReason.NOT_ASSIGNED),
    Hold.PREFIX_LIMIT: cease(CeaseSubcode.MAXIMUM_PREFIXES, EndReason.ROUTES),
    Hold.NO_AS: cease(CeaseSubcode.CONFIGURATION_CHANGE, EndReason.CHANGED),
    Hold.NO_IDENTIFIER: cease(CeaseSubcode.CONFIGURATION_CHANGE, EndReason.CHANGED),
}
"""How a running session ends when its peer may no longer run."""

_SUBCODES: dict[int, type[IntEnum]] = {
    ErrorCode.HEADER: HeaderSubcode,
    ErrorCode.OPEN: OpenSubcode,
    ErrorCode.UPDATE: UpdateSubcode,
    ErrorCode.FSM: FsmSubcode,
    ErrorCode.CEASE: CeaseSubcode,
    ErrorCode.REFRESH: RefreshSubcode,
}

_CODES = {
    ErrorCode.HEADER: "message header error",
    ErrorCode.OPEN: "OPEN message error",
    ErrorCode.UPDATE: "UPDATE message error",
    ErrorCode.HOLD_TIMER: "hold timer expired",
    ErrorCode.FSM: "finite state machine error",
    ErrorCode.CEASE: "cease",
    ErrorCode.REFRESH: "ROUTE-REFRESH message error",
    ErrorCode.SEND_HOLD_TIMER: "send hold timer expired",
}


def notification_text(notification: Notification) -> str:
    """`6/2 (cease, shutdown: "maintenance")`. Safe to print: what the peer wrote has its control characters escaped."""
    code, subcode = notification.code, notification.subcode
    name = _CODES.get(code, "unknown code")  # type: ignore[call-overload]  # the key type is an IntEnum
    words = [name]
    kinds = _SUBCODES.get(code)
    if kinds is not None and subcode in kinds._value2member_map_:
        words.append(kinds(subcode).name.lower().replace("_", " "))
    text = f"{code}/{subcode} ({', '.join(words)}"
    said = _shutdown_text(notification)
    return f'{text}: "{said}")' if said else f"{text})"


def _shutdown_text(notification: Notification) -> str:
    """The shutdown communication of RFC 9003, or ''. "invalid UTF-8 [...] SHOULD be logged", as hex here."""
    subcode, octets = notification.subcode, notification.data
    if notification.code != ErrorCode.CEASE:
        return ""
    if subcode == CeaseSubcode.HARD_RESET and len(octets) >= 2 and octets[0] == ErrorCode.CEASE:
        # RFC 8538 3.1: the data of a hard reset is the NOTIFICATION that it stands for.
        subcode, octets = CeaseSubcode(octets[1]) if octets[1] in range(1, 10) else CeaseSubcode.RESET, octets[2:]
    if subcode not in (CeaseSubcode.SHUTDOWN, CeaseSubcode.RESET) or not octets:
        return ""
    said = octets[1 : 1 + octets[0]]
    if octets[0] > len(octets) - 1:
        return f"broken text 0x{octets[:SHUTDOWN_TEXT_LIMIT].hex()}"
    try:
        return printable(said.decode())
    except UnicodeDecodeError:
        return f"broken text 0x{said.hex()}"


def printable(text: str) -> str:
    """`text` with everything that could move a terminal's cursor, or reorder a line, written as an escape."""
    return "".join(c if c.isprintable() and not _reorders(c) else c.encode("unicode_escape").decode() for c in text)


def _reorders(character: str) -> bool:
    return "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
