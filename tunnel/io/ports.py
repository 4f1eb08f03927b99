"""The ports that packets leave by: attachments, host ports, and one connected raw socket a remote PE."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection

from attrs import define, field

from stack.net import Port
from tunnel.io.batch import SendQueue
from tunnel.io.counters import Counters, Drop

__all__ = ["MAX_REMOTES", "Outlets", "Unsent"]

MAX_REMOTES = 2048
"""Connected raw sockets at once, or fewer if the process may not have as many open files; the one opened longest ago
makes room for the next."""


class Unsent(OSError):
    """Nothing was sent, for a reason that a drop has."""

    def __init__(self, reason: Drop) -> None:
        super().__init__(reason.value)
        self.reason = reason


OpenRaw = Callable[[int, bytes], Port]
"""(protocol, remote) -> a connected, send-only port. Raises OSError."""


@define(eq=False)
class Outlets:
    """Open ports by interface and by VRF. `generation` grows when one that a cache may hold is gone."""

    open_raw: OpenRaw
    counters: Counters
    attachments: dict[str, Port] = field(factory=dict)
    hosts: dict[str, Port] = field(factory=dict)
    transports: dict[str, Port] = field(factory=dict)
    """By VRF, where tunnels' own packets travel in it."""
    generation: int = 0
    _remotes: dict[tuple[int, bytes], Port] = field(factory=dict, init=False)
    _queues: dict[int, tuple[Port, SendQueue | None]] = field(factory=dict, init=False)

    def remote(self, protocol: int, address: bytes, vrf: str = "") -> Port | None:
        """The raw socket connected to `address`; None if the host refuses one (counted). In a VRF all go by its own port."""
        if vrf:
            return self.transports.get(vrf)
        key = protocol, address
        port = self._remotes.get(key)
        if port is not None:
            return port
        if len(self._remotes) >= MAX_REMOTES:
            self._evict()
        try:
            port = self._open(protocol, address)
        except OSError as error:
            self.counters.error(f"raw {protocol}", error)
            return None
        self._remotes[key] = port
        return port

    def _open(self, protocol: int, address: bytes) -> Port:
        try:
            return self.open_raw(protocol, address)
        except OSError as error:
            if error.errno != errno.EMFILE or not self._remotes:
                raise
            self._evict()
            return self.open_raw(protocol, address)

    def _evict(self) -> None:
        self._close(self._remotes.pop(next(iter(self._remotes))))

    def _close(self, port: Port) -> None:
        self.forget(port)
        port.close()

    def queue(self, port: Port) -> SendQueue | None:
        """Where packets wait for one system call to take them; None if `port` takes them one by one."""
        known = self._queues.get(id(port))
        if known is None:
            known = self._queues[id(port)] = port, SendQueue.of(port)
        return known[1]

    def forget(self, port: Port) -> None:
        """`port` is about to be closed: nothing may be sent by its descriptor's number any more."""
        self.generation += 1
        _, queue = self._queues.pop(id(port), (None, None))
        if queue is not None:
            queue.descriptor = -1

    def keep_only(self, wanted: Collection[tuple[int, bytes]]) -> None:
        """Close the raw sockets of remote PEs that are gone."""
        for key in [key for key in self._remotes if key not in wanted]:
            self._close(self._remotes.pop(key))

    def close(self) -> None:
        for port in self._remotes.values():
            self._close(port)
        self._remotes.clear()

    def __len__(self) -> int:
        return len(self._remotes)
