"""Many packets a system call: recvmmsg(2) and sendmmsg(2) over one arena of slots.

Python's own socket calls carry one packet each, which costs more than a third of the whole path: half a microsecond a
call in the interpreter and the kernel's entry, and caches that turn cold between receiving and sending. So ports that
name their descriptors (`stack.net.Port`) are read and written through ctypes, 64 packets at a time. Other ports (TUN,
in-memory ones) are used by `recv_into` and `send`; both kinds fill and empty the same slots.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from array import array
from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from attrs import define, field

from stack.net import Port

if TYPE_CHECKING:
    from tunnel.io.rewrite import Rewrite

__all__ = ["BATCH", "HEAD", "STRIDE", "TAIL", "Arena", "Intake", "SendQueue"]

BATCH = 64
"""Packets a wakeup, so that no port starves the others, nor the node's keepalives."""

HEAD = 192
"""Octets before what is received, for the longest header that may have to go there."""

TAIL = 64
"""Octets of each slot that are not received into: what encryption puts behind a packet has room there."""

STRIDE = 64 * 1037
"""Octets from slot to slot: the largest frame, its room before it, and an odd number of cache lines, so that the slots'
beginnings do not share a few sets of the cache. What is not written costs no memory."""

_MSG_DONTWAIT = 0x40
_PART = Struct("=QQ")
#  msghdr: name, namelen, iov, iovlen, control, controllen, flags; then the length of what came
_HEADER = Struct("=QIxxxxQQQQixxxxIxxxx")
_LENGTHS = Struct("=" + "56xIxxxx" * BATCH)


def _calls() -> tuple[Any, Any]:
    """(recvmmsg, sendmmsg) of the C library; (None, None) where their structures are not the ones above."""
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return None, None
    library = ctypes.CDLL(None, use_errno=True)
    receive, send = getattr(library, "recvmmsg", None), getattr(library, "sendmmsg", None)
    if receive is None or send is None:
        return None, None
    receive.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
    send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    return receive, send


_recvmmsg, _sendmmsg = _calls()


def _address(octets: bytearray | array[int]) -> int:
    """Where `octets` lie. What we make of this never changes its size, so it stays there as long as its owner."""
    return ctypes.addressof(ctypes.c_char.from_buffer(octets))


@define(eq=False)
class Arena:
    """The slots of one forwarder: all its readers drain in turn, and nothing of a packet is kept here. What lies in them may
    be what a customer sent, so it has no repr."""

    octets: bytearray = field(factory=lambda: bytearray(BATCH * STRIDE), repr=False)
    view: memoryview = field(init=False, repr=False)
    slots: tuple[memoryview, ...] = field(init=False, repr=False)
    origin: int = field(init=False)
    touched: list[SendQueue] = field(factory=list, init=False)
    """Queues that hold packets of this drain."""

    def __attrs_post_init__(self) -> None:
        self.view = memoryview(self.octets)
        self.slots = tuple(self.view[n * STRIDE + HEAD : (n + 1) * STRIDE - TAIL] for n in range(BATCH))
        self.origin = _address(self.octets)


@define(eq=False)
class SendQueue:
    """Packets of the arena that wait for one sendmmsg on one descriptor. `used` says whose they are, in order."""

    descriptor: int
    """-1 once its port is closed, since the number may by then be another socket's."""
    parts: array[int] = field(factory=lambda: array("Q", bytes(_PART.size * BATCH)), init=False, repr=False)
    """An iovec each: the address and the length of a packet."""
    used: list[Rewrite] = field(factory=list, init=False)
    _headers: bytearray = field(factory=lambda: bytearray(_HEADER.size * BATCH), init=False, repr=False)
    _at: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        parts = _address(self.parts)
        for n in range(BATCH):
            _HEADER.pack_into(self._headers, n * _HEADER.size, 0, 0, parts + n * _PART.size, 1, 0, 0, 0, 0)
        self._at = _address(self._headers)

    @staticmethod
    def descriptor_of(port: Port) -> int:
        """What `port` sends by, many packets a call; -1 if it takes them one by one."""
        return int(getattr(port, "send_fd", -1)) if _sendmmsg is not None else -1

    def send(self, first: int) -> int:
        """Send from packet `first` on; how many went. Raises OSError about packet `first`."""
        count = _sendmmsg(self.descriptor, self._at + first * _HEADER.size, len(self.used) - first, _MSG_DONTWAIT)
        if count > 0:
            return int(count)
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

    def clear(self) -> None:
        """What waited has gone, or never will."""
        self.used.clear()

    def size(self, place: int) -> int:
        """Octets of one packet in the queue, as it was put there."""
        return self.parts[2 * place + 1]

    @classmethod
    def of(cls, port: Port) -> SendQueue | None:
        """A queue for `port`, if it names a descriptor to send by."""
        descriptor = cls.descriptor_of(port)
        return cls(descriptor) if descriptor >= 0 else None


@define(eq=False)
class Intake:
    """Fills the arena's slots from one port."""

    port: Port
    arena: Arena
    _headers: bytearray = field(factory=bytearray, init=False, repr=False)
    _parts: bytearray = field(factory=bytearray, init=False, repr=False)
    _at: int = field(default=0, init=False)
    _descriptor: int = field(default=-1, init=False)
    _closed: bool = field(default=False, init=False)
    error: OSError | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._descriptor = getattr(self.port, "receive_fd", -1) if _recvmmsg is not None else -1
        if self._descriptor < 0:
            return
        self._headers, self._parts = bytearray(_HEADER.size * BATCH), bytearray(_PART.size * BATCH)
        parts = _address(self._parts)
        for n, slot in enumerate(self.arena.slots):
            _PART.pack_into(self._parts, n * _PART.size, self.arena.origin + n * STRIDE + HEAD, len(slot))
            _HEADER.pack_into(self._headers, n * _HEADER.size, 0, 0, parts + n * _PART.size, 1, 0, 0, 0, 0)
        self._at = _address(self._headers)

    def close(self) -> None:
        """The port is about to be closed: its descriptor's number may soon be another socket's."""
        self._closed = True

    def fill(self) -> Sequence[int]:
        """Receive at most a batch; the length of each packet, by slot. What the port reports besides is in `error`."""
        self.error = None
        if self._closed:
            return ()
        if self._descriptor < 0:
            return self._one_by_one()
        count = _recvmmsg(self._descriptor, self._at, BATCH, _MSG_DONTWAIT, None)
        if count > 0:
            return _LENGTHS.unpack_from(self._headers)[:count]
        if count < 0 and (number := ctypes.get_errno()) != errno.EAGAIN:
            self.error = OSError(number, os.strerror(number))
        return ()

    def _one_by_one(self) -> Sequence[int]:
        receive = self.port.recv_into
        counts: list[int] = []
        try:
            for slot in self.arena.slots:
                counts.append(receive(slot))
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = error
        return counts
