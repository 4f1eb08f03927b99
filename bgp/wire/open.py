"""OPEN octets <-> `Open` (RFC 4271 4.2, RFC 5492, RFC 9072).

+---------+---------+-----------+----------------+----------------+----------------------------------------------+
| version | my AS 2 | hold time | identifier 4   | parameters'    | parameters: type 1, length 1, value;         |
| 1       |         | 2         |                | length 1       | or, after 255 255 and a length of 2 octets,  |
|         |         |           |                |                | type 1, length 2, value (RFC 9072 2)         |
+---------+---------+-----------+----------------+----------------+----------------------------------------------+
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from bgp.wire.as_path import AS_TRANS
from bgp.wire.capabilities import (
    AddPath,
    AddPathMode,
    Capability,
    Code,
    EnhancedRouteRefresh,
    ExtendedMessage,
    FourOctetAs,
    GracefulRestart,
    MultipleLabels,
    Multiprotocol,
    RestartFamily,
    RouteRefreshCapability,
    UnknownCapability,
)
from bgp.wire.errors import DoesNotFitError, ErrorCode, MessageError, OpenSubcode
from bgp.wire.family import Family
from bgp.wire.messages import LIMIT, Open
from stack.wire import Reader, WireError

__all__ = ["decode_open", "encode_open"]

_CAPABILITIES, _EXTENDED = 2, 255
"""Optional parameter types."""
_FORWARDING = 0x80
_RESTARTED, _NOTIFICATION = 0x8, 0x4


class _Row(NamedTuple):
    kind: type[Capability]
    read: Callable[[Reader], Capability]
    write: Callable[..., bytes]


def _family(reader: Reader) -> Family:
    """AFI 2, SAFI 1."""
    return Family(reader.uint(2, "AFI"), reader.uint(1, "SAFI"))


def _family_octets(family: Family) -> bytes:
    return family.afi.to_bytes(2) + bytes((family.safi,))


def _read_multiprotocol(reader: Reader) -> Multiprotocol:
    """AFI 2, reserved 1, SAFI 1 (RFC 4760 8)."""
    afi, _, safi = reader.uint(2, "AFI"), reader.uint(1, "reserved"), reader.uint(1, "SAFI")
    return Multiprotocol(Family(afi, safi))


def _write_multiprotocol(capability: Multiprotocol) -> bytes:
    return capability.family.afi.to_bytes(2) + bytes((0, capability.family.safi))


def _read_multiple_labels(reader: Reader) -> MultipleLabels:
    """(AFI 2, SAFI 1, count 1) repeated (RFC 8277 2.1)."""
    counts = []
    while reader.left:
        counts.append((_family(reader), reader.uint(1, "count")))
    return MultipleLabels(tuple(counts))


def _write_multiple_labels(capability: MultipleLabels) -> bytes:
    return b"".join(_family_octets(family) + bytes((count,)) for family, count in capability.counts)


def _read_graceful_restart(reader: Reader) -> GracefulRestart:
    """R, N, 2 reserved bits, time 12 bits; then (AFI 2, SAFI 1, F and 7 reserved bits) repeated (RFC 4724 3)."""
    word = reader.uint(2, "restart flags and time")
    families = []
    while reader.left:
        families.append(RestartFamily(_family(reader), bool(reader.uint(1, "flags") & _FORWARDING)))
    flags = word >> 12
    return GracefulRestart(word & 0xFFF, tuple(families), bool(flags & _RESTARTED), bool(flags & _NOTIFICATION))


def _write_graceful_restart(capability: GracefulRestart) -> bytes:
    flags = _RESTARTED * capability.restarted | _NOTIFICATION * capability.notification
    families = b"".join(
        _family_octets(one.family) + bytes((_FORWARDING * one.forwarding,)) for one in capability.families
    )
    return (flags << 12 | capability.time & 0xFFF).to_bytes(2) + families


def _read_addpath(reader: Reader) -> AddPath:
    """(AFI 2, SAFI 1, send/receive 1) repeated. Another value than 1 to 3: SHOULD be ignored (RFC 7911 4)."""
    families = []
    while reader.left:
        family, mode = _family(reader), reader.uint(1, "send/receive")
        if 1 <= mode <= 3:
            families.append((family, AddPathMode(mode)))
    return AddPath(tuple(families))


def _write_addpath(capability: AddPath) -> bytes:
    return b"".join(_family_octets(family) + bytes((mode,)) for family, mode in capability.families)


_ROWS: dict[int, _Row] = {
    Code.MULTIPROTOCOL: _Row(Multiprotocol, _read_multiprotocol, _write_multiprotocol),
    Code.ROUTE_REFRESH: _Row(RouteRefreshCapability, lambda _: RouteRefreshCapability(), lambda _: b""),
    Code.EXTENDED_MESSAGE: _Row(ExtendedMessage, lambda _: ExtendedMessage(), lambda _: b""),
    Code.MULTIPLE_LABELS: _Row(MultipleLabels, _read_multiple_labels, _write_multiple_labels),
    Code.GRACEFUL_RESTART: _Row(GracefulRestart, _read_graceful_restart, _write_graceful_restart),
    Code.FOUR_OCTET_AS: _Row(
        FourOctetAs, lambda reader: FourOctetAs(reader.uint(4, "AS number")), lambda one: one.asn.to_bytes(4)
    ),
    Code.ADD_PATH: _Row(AddPath, _read_addpath, _write_addpath),
    Code.ENHANCED_ROUTE_REFRESH: _Row(EnhancedRouteRefresh, lambda _: EnhancedRouteRefresh(), lambda _: b""),
}
_CODES = {row.kind: code for code, row in _ROWS.items()}


# --- reading ---------------------------------------------------------------------------------------------------------


def decode_open(octets: bytes) -> Open:
    """An OPEN whose header was checked: at least 29 octets, its length right. Raises MessageError."""
    version = octets[19]
    if version != 4:
        # RFC 4271 6.2: the data is the version we would have, in two octets
        raise _error(f"version {version}", 19, "version", OpenSubcode.UNSUPPORTED_VERSION, b"\0\4")
    asn, hold_time, identifier = int.from_bytes(octets[20:22]), int.from_bytes(octets[22:24]), octets[24:28]
    if hold_time in (1, 2):
        # RFC 4271 6.2: one or two seconds MUST be rejected
        raise _error(f"{hold_time} s", 22, "hold time", OpenSubcode.UNACCEPTABLE_HOLD_TIME, octets[22:24])
    if identifier == bytes(4):
        raise _error("zero", 24, "BGP identifier", OpenSubcode.BAD_IDENTIFIER, identifier, rfc="RFC 6286 2.2")
    try:
        capabilities = tuple(_parameters(octets))
    except WireError as error:
        if isinstance(error, MessageError):
            raise
        raise _error(error.what, error.offset, error.field, OpenSubcode.UNSPECIFIC, rfc=error.rfc) from None
    real = next((one.asn for one in capabilities if isinstance(one, FourOctetAs)), asn)
    if real == 0 or asn == 0:
        # RFC 7607 2: an OPEN of AS 0 MUST be answered with Bad Peer AS
        raise _error("AS 0", 20, "my AS", OpenSubcode.BAD_PEER_AS, octets[20:22], rfc="RFC 7607 2")
    return Open(real, hold_time, identifier, capabilities)


def _error(
    what: str, offset: int, name: str, subcode: OpenSubcode, octets: bytes = b"", *, rfc: str = "RFC 4271 6.2"
) -> MessageError:
    return MessageError(what, offset, name, rfc, ErrorCode.OPEN, subcode, octets)


def _parameters(octets: bytes) -> Iterable[Capability]:
    reader = Reader(octets, 28, len(octets), "RFC 5492 4")
    length = reader.uint(1, "optional parameters length")
    width = 1
    if length and reader.left and octets[29] == _EXTENDED:
        # RFC 9072 2: this type in the first place, not the length before it, tells the extended form
        reader.take(1, "extended optional parameters")
        length, width = reader.uint(2, "extended optional parameters length"), 2
    with reader.restrict_to(length, "optional parameters length"):
        while reader.left:
            start = reader.offset
            kind = reader.uint(1, "optional parameter type")
            size = reader.uint(width, "optional parameter length")
            if kind != _CAPABILITIES:
                reader.take(size, "optional parameter")
                raise _error(f"type {kind}", start, "optional parameter", OpenSubcode.UNSUPPORTED_PARAMETER)
            with reader.restrict_to(size, "optional parameter length"):
                while reader.left:
                    yield _capability(reader)
    if reader.left:
        raise reader.fail(f"{reader.left} octets after the optional parameters", "OPEN", rfc="RFC 4271 6.2")


def _capability(reader: Reader) -> Capability:
    """One capability. One that is known but ill-formed is kept as unknown, so ignored: the session can do without it.

    Not so the AS number, without which nothing that follows could be read.
    """
    code, size = reader.uint(1, "capability code"), reader.uint(1, "capability length")
    start = reader.offset
    value = reader.take(size, f"capability {code}")
    row = _ROWS.get(code)
    if row is None:
        return UnknownCapability(code, value)
    inner = Reader(reader.octets, start, start + size, "RFC 5492 4")
    try:
        capability = row.read(inner)
        if inner.left:
            raise inner.fail(f"{inner.left} octets too many", f"capability {code}")
    except WireError:
        if code == Code.FOUR_OCTET_AS:
            raise
        return UnknownCapability(code, value)
    return capability


# --- writing ---------------------------------------------------------------------------------------------------------


def encode_open(message: Open) -> bytes:
    """The body of an OPEN. Raises DoesNotFitError past 4096 octets, which RFC 8654 4 does not extend."""
    capabilities = b"".join(map(_capability_octets, message.capabilities))
    asn = message.asn if message.asn <= 0xFFFF else AS_TRANS
    head = bytes((message.version,)) + asn.to_bytes(2) + message.hold_time.to_bytes(2) + message.identifier
    if not capabilities:
        return head + b"\0"
    if len(capabilities) <= 253:  # RFC 5492 4: SHOULD be one parameter
        return head + bytes((len(capabilities) + 2, _CAPABILITIES, len(capabilities))) + capabilities
    size = len(capabilities) + 3
    if 19 + len(head) + 4 + size > LIMIT:
        raise DoesNotFitError("OPEN", 19 + len(head) + 4 + size, LIMIT)
    extended = bytes((255, _EXTENDED)) + size.to_bytes(2)
    return head + extended + bytes((_CAPABILITIES,)) + len(capabilities).to_bytes(2) + capabilities


def _capability_octets(capability: Capability) -> bytes:
    if isinstance(capability, UnknownCapability):
        code, value = capability.code, capability.value
    else:
        code = _CODES[type(capability)]
        value = _ROWS[code].write(capability)
    return bytes((code, len(value))) + value
