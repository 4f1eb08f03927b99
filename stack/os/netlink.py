"""Netlink, as far as a router needs it: attributes, acknowledged requests, dumps and nftables' batches.

Plain blocking AF_NETLINK sockets. The kernel answers a netlink request before sendmsg(2) returns, so nothing here
waits, and all of it may be called from inside a running event loop (pyroute2 0.9 may not: its socket runs a loop of
its own, and not on uvloop). A socket belongs to the network namespace in which it was made.

Sources: netlink(7), rtnetlink(7), include/uapi/linux/netlink.h, nfnetlink.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from itertools import count

from stack.os.privileges import missing_privilege

__all__ = [
    "ACK",
    "CREATE",
    "EXCLUSIVE",
    "REPLACE",
    "Netlink",
    "attribute",
    "attributes",
    "nested",
    "text",
]

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12

REQUEST, MULTI, ACK, DUMP_INTERRUPTED = 0x1, 0x2, 0x4, 0x10
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
DUMP = 0x300

_NOOP, _ERROR, _DONE = 1, 2, 3
_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _NO_ENOBUFS, _CAP_ACK, _EXT_ACK, _STRICT_CHECK = 1, 5, 10, 11, 12
_ACK_TLVS = 0x200
_ERROR_TEXT = 1

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF

_RECEIVE = 1 << 18
_SECONDS = 5.0
_DUMP_ATTEMPTS = 5


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four octets.

    ```
    |<- 2 ->|<- 2 ->|
    | length| type  | value ... (padding)
    ```
    """
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """A string attribute, NUL-terminated."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *members: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(members))


def attributes(octets: bytes) -> dict[int, bytes]:
    """The attributes of a message by type, the last one of a type winning. What is cut short is left out."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, offset)
        if length < 4 or offset + length > len(octets):
            break
        found[kind & _TYPE_MASK] = octets[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class Netlink:
    """One netlink socket. All calls raise OSError; `what` is the sentence it begins with."""

    def __init__(self, protocol: int = NETLINK_ROUTE, *, groups: tuple[int, ...] = ()) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = count(1)
        try:
            self._socket.bind((0, 0))
            for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
                with contextlib.suppress(OSError):  # comforts, each newer than the protocol
                    self._socket.setsockopt(_SOL_NETLINK, option, 1)
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
            if groups:
                # A listener only learns THAT something changed and reads it anew, so an overrun loses nothing. The
                # error would: POLLERR stops uvloop's reader for good.
                self._socket.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
                self._socket.setblocking(False)
            else:
                self._socket.settimeout(_SECONDS)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes, *, what: str) -> None:
        """Ask for one change and take the kernel's answer to it."""
        sequence = self._send(kind, REQUEST | ACK | flags, body)
        for _ in self._answers(sequence, what):
            pass

    def ask(self, kind: int, flags: int, body: bytes, *, what: str) -> list[tuple[int, bytes]]:
        """As `request`; the messages that came before the acknowledgement, as (type, body)."""
        sequence = self._send(kind, REQUEST | ACK | flags, body)
        return [(kind, body) for kind, _, body in self._answers(sequence, what)]

    def dump(self, kind: int, body: bytes, *, what: str) -> list[tuple[int, bytes]]:
        """A whole table as (type, body). One that changed while it was read is read again, a few times."""
        for _ in range(_DUMP_ATTEMPTS):
            sequence = self._send(kind, REQUEST | DUMP, body)
            answers = list(self._answers(sequence, what))
            if not any(flags & DUMP_INTERRUPTED for _, flags, _ in answers):
                break
        return [(kind, body) for kind, _, body in answers]

    def transaction(
        self, messages: list[tuple[int, int, bytes]], begin: int, end: int, body: bytes, *, what: str
    ) -> None:
        """Several messages (type, flags, body) between `begin` and `end`, all done or none (nfnetlink's batch)."""
        first = next(self._sequence)
        octets = [_HEADER.pack(16 + len(body), begin, REQUEST, first, 0) + body]
        waiting = set[int]()
        for kind, flags, message in messages:
            sequence = next(self._sequence)
            waiting.add(sequence)
            octets.append(_pad(_HEADER.pack(16 + len(message), kind, REQUEST | ACK | flags, sequence, 0) + message))
        octets.append(_HEADER.pack(16 + len(body), end, REQUEST, next(self._sequence), 0) + body)
        self._socket.send(b"".join(octets))
        while waiting:
            for kind, flags, sequence, answer in self._receive():
                if kind == _ERROR and (sequence in waiting or sequence == first):
                    waiting.discard(sequence)
                    _raise_error(answer, flags, what)

    def drain(self, wanted: Callable[[int, bytes], bool]) -> bool:
        """For a socket with groups: take all that is queued; whether any message is `wanted(type, body)`."""
        found = False
        while True:
            try:
                received = self._receive()
            except BlockingIOError:
                return found
            except OSError:
                return True
            for kind, _, _, body in received:
                found = found or wanted(kind, body)

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        sequence = next(self._sequence)
        self._socket.send(_HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body)
        return sequence

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        """One datagram as (type, flags, sequence, body)."""
        octets = self._socket.recv(_RECEIVE)
        messages = []
        offset = 0
        while offset + 16 <= len(octets):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(octets, offset)
            if length < 16 or offset + length > len(octets):
                break
            messages.append((kind, flags, sequence, octets[offset + 16 : offset + length]))
            offset += (length + 3) & ~3
        return messages

    def _answers(self, wanted: int, what: str) -> Iterator[tuple[int, int, bytes]]:
        """(type, flags, body) until the end or the acknowledgement of request `wanted`; raises the kernel's error."""
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != wanted or kind == _NOOP:
                    continue
                if kind in (_ERROR, _DONE):
                    _raise_error(body, flags, what)
                    return
                yield kind, flags, body


def _pad(octets: bytes) -> bytes:
    return octets + b"\0" * (-len(octets) % 4)


def _raise_error(body: bytes, flags: int, what: str) -> None:
    """Nothing if `body` is an acknowledgement; else raises the OSError it stands for, in the kernel's words if it can."""
    code = -int.from_bytes(body[:4], sys.byteorder, signed=True) if len(body) >= 4 else 0
    if code <= 0:
        return
    words = os.strerror(code)
    if flags & _ACK_TLVS and len(body) >= 20:
        # NETLINK_CAP_ACK: of the request only its header is quoted, then come the attributes.
        words = attributes(body[20:]).get(_ERROR_TEXT, b"").rstrip(b"\0").decode("ascii", "replace") or words
    if code in (errno.EPERM, errno.EACCES):
        raise missing_privilege("CAP_NET_ADMIN", what)
    raise OSError(code, f"{what}: {words}")
