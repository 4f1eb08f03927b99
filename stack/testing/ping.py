"""Echo requests and what comes of them."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen

from stack.addr import format_address
from stack.testing import _packets as p

if TYPE_CHECKING:
    from stack.testing._ip import IpStack

__all__ = ["PingResult"]

_OUTSTANDING = 4096


@frozen
class PingResult:
    """One echo request: answered after `rtt` seconds, or why not.

    `reason` is `reply`, `timeout`, or what an ICMP error (or the own host) said: `time exceeded`, `network unreachable`,
    `host unreachable`, `port unreachable`, `protocol unreachable`, `prohibited`, `fragmentation needed` (then `mtu` is
    set). `sender` is who said it, empty for the own host.
    """

    sequence: int
    rtt: float | None
    reason: str
    sender: bytes = b""
    mtu: int = 0

    @property
    def ok(self) -> bool:
        return self.rtt is not None

    def __str__(self) -> str:
        what = f"reply in {self.rtt * 1000:.3f} ms" if self.rtt is not None else self.reason
        mtu = f", MTU {self.mtu}" if self.mtu else ""
        return f"{self.sequence}: {what}{mtu}" + (f" from {format_address(self.sender)}" if self.sender else "")


@frozen
class Echo:
    """What to send, and how long to wait for the answer."""

    destination: bytes
    source: bytes
    size: int
    timeout: float
    ttl: int
    df: bool


@define(eq=False)
class Pinger:
    """A node's outstanding echo requests."""

    ip: IpStack = field(repr=False)
    _waiting: dict[tuple[int, int], asyncio.Future[PingResult]] = field(factory=dict, init=False)
    _ident: int = field(default=0, init=False)

    async def ping(self, echo: Echo, count: int, interval: float) -> list[PingResult]:
        self._ident = self._ident % 0xFFFF + 1
        ident = self._ident
        results = []
        loop = asyncio.get_running_loop()
        for sequence in range(1, count + 1):
            began = loop.time()
            results.append(await self._once(echo, (ident, sequence & 0xFFFF)))
            if sequence < count:
                await asyncio.sleep(max(0.0, began + interval - loop.time()))
        return results

    async def _once(self, echo: Echo, key: tuple[int, int]) -> PingResult:
        if len(self._waiting) >= _OUTSTANDING:
            raise RuntimeError(f"{_OUTSTANDING} echo requests are outstanding")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[PingResult] = loop.create_future()
        self._waiting[key] = answer
        began = loop.time()
        try:
            refusal = self._send(echo, key)
            if refusal is not None:
                return refusal
            async with asyncio.timeout(echo.timeout):
                result = await answer
        except TimeoutError:
            return PingResult(key[1], None, "timeout")
        finally:
            del self._waiting[key]
        return result if result.rtt is None else evolve(result, rtt=loop.time() - began)

    def _send(self, echo: Echo, key: tuple[int, int]) -> PingResult | None:
        """None, or why the own host did not send it."""
        destination = echo.destination
        source = echo.source or self.ip.source_to(destination)
        if not source:
            return PingResult(key[1], None, p.TROUBLE_TEXT[p.Trouble.NO_ROUTE])
        v4 = len(destination) == 4
        body = key[0].to_bytes(2) + key[1].to_bytes(2) + bytes(at & 0xFF for at in range(echo.size))
        message = p.build_icmp(source, destination, 8 if v4 else 128, 0, body)
        protocol = p.ICMP if v4 else p.ICMPV6
        packet = p.build_ip(source, destination, protocol, message, ttl=echo.ttl, ident=self.ip.ident(), df=echo.df)
        try:
            self.ip.send(packet, df=echo.df)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                mtu = self.ip.mtu_to(destination)
                return PingResult(key[1], None, p.TROUBLE_TEXT[p.Trouble.TOO_BIG], mtu=mtu)
            return PingResult(key[1], None, str(error.strerror).lower())
        return None

    def replied(self, ip: p.Ip) -> None:
        self._settle(ip.payload[4:8], lambda sequence: PingResult(sequence, 0.0, "reply", ip.source))

    def failed(self, about: p.Ip, trouble: p.Trouble, sender: bytes, mtu: int) -> None:
        """An ICMP error (or the own host, with an empty `sender`) says what became of `about`."""
        if about.payload[:1] in (b"\x08", b"\x80"):
            self._settle(
                about.payload[4:8], lambda sequence: PingResult(sequence, None, p.TROUBLE_TEXT[trouble], sender, mtu)
            )

    def _settle(self, key: bytes, result: Callable[[int], PingResult]) -> None:
        if len(key) != 4:
            return
        ident, sequence = int.from_bytes(key[:2]), int.from_bytes(key[2:])
        waiting = self._waiting.get((ident, sequence))
        if waiting is not None and not waiting.done():
            waiting.set_result(result(sequence))
