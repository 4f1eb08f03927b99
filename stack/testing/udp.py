"""Datagram sockets of an in-memory host."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from attrs import define, field

from stack.nettypes import Datagram as PortDatagram
from stack.testing._port import os_error

__all__ = ["Datagram", "MemoryDatagrams", "UdpSocket"]

_BOUND = 1024
_MARKER = bytes(4)
"""The non-ESP marker (RFC 3948 2.2)."""


class Datagram(NamedTuple):
    octets: bytes
    source: bytes
    port: int
    ttl: int


@define(eq=False)
class UdpSocket:
    """Bound to `local` (empty: any address of the VRF) and `port`. `errors` keeps what ICMP said, newest last."""

    vrf: str
    local: bytes
    port: int
    sender: Callable[[UdpSocket, bytes, bytes, int], None]
    closed: Callable[[UdpSocket], None]
    drops: Counter[str] = field(factory=Counter, init=False)
    errors: deque[str] = field(factory=lambda: deque(maxlen=64), init=False)
    _queue: asyncio.Queue[Datagram] = field(factory=lambda: asyncio.Queue(_BOUND), init=False)
    _open: bool = field(default=True, init=False)

    def send(self, octets: bytes, destination: bytes, port: int) -> None:
        """OSError as sendto(2)."""
        if not self._open:
            raise os_error(errno.EBADF)
        self.sender(self, octets, destination, port)

    async def receive(self) -> Datagram:
        """The next datagram; wrap it in `asyncio.timeout` to give up."""
        return await self._queue.get()

    def push(self, datagram: Datagram) -> None:
        if self._queue.full():
            self.drops["queue full"] += 1
        else:
            self._queue.put_nowait(datagram)

    def close(self) -> None:
        if self._open:
            self._open = False
            self.closed(self)


@define(eq=False)
class MemoryDatagrams:
    """`stack.net.DatagramPort`, in `vrf`. `sender(door, octets, local, remote, port)` may raise OSError. `drops` counts what
    was not taken: `queue full`, `not marked`."""

    port: int
    marked: bool
    sender: Callable[[MemoryDatagrams, bytes, bytes, bytes, int], None]
    closed: Callable[[MemoryDatagrams], None]
    bound: int
    vrf: str = ""
    drops: Counter[str] = field(factory=Counter, init=False)
    _queue: deque[PortDatagram] = field(factory=deque, init=False, repr=False)
    _readable: Callable[[], None] | None = field(default=None, init=False)
    _handle: asyncio.Handle | None = field(default=None, init=False)
    _open: bool = field(default=True, init=False)

    def push(self, datagram: PortDatagram) -> None:
        """A datagram comes in."""
        if self.marked and not datagram.octets.startswith(_MARKER):
            self.drops["not marked"] += 1
        elif len(self._queue) >= self.bound:
            self.drops["queue full"] += 1
        else:
            self._queue.append(datagram)
            self._wake()

    def receive(self) -> PortDatagram:
        self._check()
        if not self._queue:
            raise os_error(errno.EAGAIN)
        return self._queue.popleft()

    def send(self, octets: bytes, local: bytes, remote: bytes, port: int) -> None:
        self._check()
        self.sender(self, bytes(octets), local, remote, port)

    def listen(self, readable: Callable[[], None] | None) -> None:
        if readable is not None:
            self._check()
        self._readable = readable
        self._wake()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._readable = None
            self._queue.clear()
            self.closed(self)

    def _check(self) -> None:
        if not self._open:
            raise os_error(errno.EBADF, f"UDP port {self.port} is closed")

    def _wake(self) -> None:
        if self._readable is not None and self._queue and self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._readable is None or not self._queue:
            return
        try:
            self._readable()
        finally:
            self._wake()
