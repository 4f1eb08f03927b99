"""Datagram sockets of an in-memory host."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from attrs import define, field

from stack.testing._port import os_error

__all__ = ["Datagram", "UdpSocket"]

_BOUND = 1024


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
