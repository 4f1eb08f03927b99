"""The asyncio side of an in-memory TCP connection: the protocol above, reading and flow control (`_tcp` is the other)."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field

from stack.addr import format_address
from stack.net import TcpOptions

__all__ = ["TransportSide"]

_HIGH_WATER = 65536


@define(eq=False, slots=False)
class TransportSide(asyncio.Transport):
    """`factory` makes the protocol once the handshake is done. `closing`: the owner is done; `lost`: nobody is told more.

    `unread` waits while reading is paused; `end_wanted`: a FIN goes after what was written.
    """

    options: TcpOptions
    sport: int
    dport: int
    factory: Callable[[], asyncio.BaseProtocol]
    protocol: asyncio.BaseProtocol | None = field(default=None, init=False)
    pending: bytearray = field(factory=bytearray, init=False, repr=False)
    unread: bytearray = field(factory=bytearray, init=False, repr=False)
    reading: bool = field(default=True, init=False)
    closing: bool = field(default=False, init=False)
    lost: bool = field(default=False, init=False)
    end_wanted: bool = field(default=False, init=False)
    loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _eof_due: bool = field(default=False, init=False)
    _water: tuple[int, int] = field(default=(_HIGH_WATER, _HIGH_WATER // 4), init=False)
    _writing_paused: bool = field(default=False, init=False)

    # --- what the connection below does ---

    @abstractmethod
    def pump(self) -> None:
        """Send what may be sent."""

    @abstractmethod
    def acknowledge(self) -> None:
        """Tell the peer what was received and how much more may come."""

    # --- asyncio.Transport ---

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        tail = () if len(self.options.local) == 4 else (0, 0)
        if name == "sockname":
            return (format_address(self.options.local), self.sport, *tail)
        if name == "peername":
            return (format_address(self.options.remote), self.dport, *tail)
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol

    def is_closing(self) -> bool:
        return self.closing or self.lost

    def is_reading(self) -> bool:
        return self.reading and not self.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.end_wanted and not self.is_closing():
            raise RuntimeError("write after write_eof")
        if data and not self.is_closing():
            self.pending += data
            self.pump()
            if not self._writing_paused and self.get_write_buffer_size() > self._water[0]:
                self._writing_paused = True
                self.call("pause_writing")

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self.end_wanted:
            self.end_wanted = True
            self.pump()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if self.reading or self.is_closing():
            return
        self.reading = True
        if self.unread:
            waiting = bytes(self.unread)
            self.unread.clear()
            self.acknowledge()
            self.call("data_received", waiting)
        if self._eof_due and self.reading:
            self.eof()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        high = high if high is not None else _HIGH_WATER if low is None else 4 * low
        low = low if low is not None else high // 4
        if not 0 <= low <= high:
            raise ValueError(f"high ({high}) must be >= low ({low}) must be >= 0")
        self._water = (high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._water[1], self._water[0]

    def call(self, method: str, *args: Any) -> Any:
        """A protocol that raises loses its connection, not the host (as in asyncio)."""
        if self.protocol is None or self.lost:
            return None
        try:
            return getattr(self.protocol, method)(*args)
        except Exception as error:
            message = f"{method} raised"
            self.loop.call_exception_handler({"message": message, "exception": error, "protocol": self.protocol})
            self.abort()
            return None

    def lose(self, error: Exception | None) -> None:
        if self.protocol is not None and not self.lost:
            self.loop.call_soon(self.protocol.connection_lost, error)
        self.lost = True

    def written(self) -> None:
        """Something was acknowledged: writing may go on."""
        if self._writing_paused and self.get_write_buffer_size() <= self._water[1]:
            self._writing_paused = False
            self.call("resume_writing")

    def eof(self) -> None:
        """The peer has said all; told once what it said was read."""
        self._eof_due = not self.reading
        if self.reading and not self.is_closing() and not self.call("eof_received") and not self.is_closing():
            self.close()
