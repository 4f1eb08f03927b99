"""Ports in memory: a bounded queue in, a function out, and a callback that is level-triggered like a file descriptor's."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter, deque
from collections.abc import Callable

from attrs import define, field


def os_error(number: int, about: str = "") -> OSError:
    """The OSError (sub)class of an errno, as the kernel's refusals look."""
    return OSError(number, f"{os.strerror(number)}{': ' if about else ''}{about}")


@define(eq=False)
class QueuePort:
    """`stack.net.Port`. `sender` may raise OSError. `drops` counts what found the queue full (or the port deaf)."""

    name: str
    mtu: int
    sender: Callable[[bytes], None]
    closed: Callable[[QueuePort], None]
    bound: int
    deaf: bool = False
    headroom: int = 0
    drops: Counter[str] = field(factory=Counter, init=False)
    error: int = field(default=0, init=False)
    _queue: deque[bytes] = field(factory=deque, init=False, repr=False)
    _readable: Callable[[], None] | None = field(default=None, init=False)
    _handle: asyncio.Handle | None = field(default=None, init=False)
    _open: bool = field(default=True, init=False)

    def push(self, octets: bytes) -> None:
        """A packet comes in."""
        if self.deaf or not self._open:
            return
        if len(self._queue) >= self.bound:
            self.drops["queue full"] += 1
            return
        self._queue.append(octets)
        self._wake()

    def recv_into(self, buffer: memoryview | bytearray, /) -> int:
        self._check()
        if not self._queue:
            raise os_error(errno.EAGAIN)
        octets = self._queue.popleft()
        size = min(len(octets), len(buffer))
        if size < len(octets):
            self.drops["truncated"] += 1
        buffer[:size] = octets[:size]
        return size

    def send(self, octets: bytes | bytearray | memoryview, /) -> int:
        self._check()
        self.sender(bytes(octets))
        return len(octets)

    def listen(self, readable: Callable[[], None] | None) -> None:
        if readable is not None and not self._open:
            raise os_error(errno.EBADF, f"port {self.name} is closed")
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
            raise os_error(errno.EBADF, f"port {self.name} is closed")
        if self.error:  # an ICMP error, reported once, as the kernel does on a connected socket
            number, self.error = self.error, 0
            raise os_error(number, self.name)

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


@define(eq=False)
class Backlog:
    """What a node hands to its own host stack: taken on the loop's next turn, as the kernel's softirq takes it.

    So nobody's `send` runs somebody else's receiver, and one sender cannot grow without end.
    """

    bound: int
    _waiting: deque[tuple[Callable[[bytes], None], bytes]] = field(factory=deque, init=False, repr=False)
    _handle: asyncio.Handle | None = field(default=None, init=False)

    def post(self, receiver: Callable[[bytes], None], octets: bytes) -> None:
        """BlockingIOError when full."""
        if len(self._waiting) >= self.bound:
            raise os_error(errno.EAGAIN)
        self._waiting.append((receiver, octets))
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        self._handle = None
        try:
            for _ in range(len(self._waiting)):
                receiver, octets = self._waiting.popleft()
                receiver(octets)
        finally:
            if self._waiting and self._handle is None:
                self._handle = asyncio.get_running_loop().call_soon(self._drain)
