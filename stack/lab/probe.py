"""Ping: ICMP echo over IPv4 and IPv6, and what came instead of an answer, without the `ping` program.

The messages are pure functions; `Prober` is the sockets. It runs inside a namespace or in the caller's own, blocking
(`ping`) or on the running event loop (`stream`), for a continuous ping while something else is killed.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from attrs import frozen

from stack.addr import format_address, parse_address
from stack.lab.namespace import Namespace

__all__ = ["Prober", "Reply", "decode_reply", "echo_request"]

_ECHO_REPLY, _UNREACHABLE, _ECHO, _TIME_EXCEEDED = 0, 3, 8, 11
_ECHO6, _ECHO_REPLY6, _UNREACHABLE6, _TOO_BIG6, _TIME_EXCEEDED6 = 128, 129, 1, 2, 3
_FRAGMENTATION_NEEDED = 4
_IP_HDRINCL = 3
_ICMP6_FILTER = 1
_RECEIVE = 65536


@frozen
class Reply:
    """What one echo request came to.

    `kind`: reply, unreachable, time-exceeded, too-big (`mtu` is what the router said), timeout, or refused (this host
    could not send it; `detail` says why). `source`: who answered, as text. `rtt` in seconds. `code`: ICMP's.
    """

    sequence: int
    kind: str
    source: str = ""
    rtt: float = 0.0
    code: int = 0
    mtu: int = 0
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.kind == "reply"


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(octets) % 2:
        octets += b"\0"
    total: int = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(family: int, identifier: int, sequence: int, size: int) -> bytes:
    """An ICMP echo request with `size` octets after its header. The checksum of ICMPv6 is the kernel's to set."""
    payload = bytes(n & 0xFF for n in range(size))
    kind = _ECHO if family == socket.AF_INET else _ECHO6
    head = struct.pack(">BBHHH", kind, 0, 0, identifier, sequence & 0xFFFF)
    if family == socket.AF_INET:
        head = struct.pack(">BBHHH", kind, 0, checksum(head + payload), identifier, sequence & 0xFFFF)
    return head + payload


def decode_reply(family: int, octets: bytes, identifier: int) -> tuple[int, str, int, int] | None:
    """(sequence, kind, code, mtu) of an answer to one of our requests; None for anything else.

    `octets`: the IPv4 packet, or the ICMPv6 message, as raw sockets give them.
    """
    if family == socket.AF_INET:
        octets = octets[(octets[0] & 0x0F) * 4 :] if octets else b""
    if len(octets) < 8:
        return None
    kind, code = octets[0], octets[1]
    if kind == (_ECHO_REPLY if family == socket.AF_INET else _ECHO_REPLY6):
        of, sequence = struct.unpack_from(">HH", octets, 4)
        return (sequence, "reply", code, 0) if of == identifier else None
    quoted = octets[8:]
    if family == socket.AF_INET:
        name, mtu = _name_v4(kind, code), int.from_bytes(octets[6:8])
        ours = quoted[9:10] == b"\x01"
        quoted = quoted[(quoted[0] & 0x0F) * 4 :] if quoted else b""
    else:
        name, mtu = _NAMES6.get(kind), int.from_bytes(octets[4:8])
        ours = quoted[6:7] == b"\x3a"
        quoted = quoted[40:]
    if name is None or not ours or len(quoted) < 8 or int.from_bytes(quoted[4:6]) != identifier:
        return None
    return int.from_bytes(quoted[6:8]), name, code, mtu if name == "too-big" else 0


_NAMES6 = {_UNREACHABLE6: "unreachable", _TOO_BIG6: "too-big", _TIME_EXCEEDED6: "time-exceeded"}


def _name_v4(kind: int, code: int) -> str | None:
    if kind == _UNREACHABLE:
        return "too-big" if code == _FRAGMENTATION_NEEDED else "unreachable"
    return "time-exceeded" if kind == _TIME_EXCEEDED else None


class Prober:
    """Sends echo requests to one destination. `source`: an own address, as text; '' leaves it to the kernel.

    `size`: octets after the ICMP header (56 as ping has it). `df`: do not fragment, and the kernel's cached path MTU
    is no matter, so that routers say what they think.
    """

    def __init__(
        self,
        destination: str,
        *,
        namespace: Namespace | None = None,
        source: str = "",
        ttl: int = 64,
        df: bool = False,
        size: int = 56,
        device: str = "",
    ) -> None:
        self._destination = parse_address(destination)
        self._family = socket.AF_INET if len(self._destination) == 4 else socket.AF_INET6
        self._size = size
        self._identifier = int.from_bytes(os.urandom(2))
        self._sequence = 0
        protocol = socket.IPPROTO_ICMP if self._family == socket.AF_INET else socket.IPPROTO_ICMPV6
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        if namespace is None:
            self._socket = socket.socket(self._family, kind, protocol)
        else:
            self._socket = namespace.socket(self._family, kind, protocol)
        try:
            self._prepare(ttl, df=df)
            if device:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
            if source:
                self._socket.bind((source, 0))
        except BaseException:
            self._socket.close()
            raise

    def _prepare(self, ttl: int, *, df: bool) -> None:
        sock = self._socket
        if self._family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            # IP_MTU_DISCOVER: PROBE sets DF and ignores the cached path MTU, DONT sets none.
            sock.setsockopt(socket.IPPROTO_IP, 10, 3 if df else 0)
            return
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        # IPV6_MTU_DISCOVER as above; IPV6_DONTFRAG, since IPv6 fragments at the source else.
        sock.setsockopt(socket.IPPROTO_IPV6, 23, 3 if df else 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DONTFRAG, int(df))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self) -> Reply | None:
        """The next request on its way; or the Reply that says why it is not."""
        self._sequence = self._sequence % 0xFFFF + 1
        request = echo_request(self._family, self._identifier, self._sequence, self._size)
        try:
            self._socket.sendto(request, (format_address(self._destination), 0))
        except OSError as error:
            return Reply(self._sequence, "refused", detail=error.strerror or str(error))
        return None

    def _take(self, sent: float) -> Reply | None:
        """The answer to the request that is out, if it is among what has arrived."""
        while True:
            try:
                octets, address = self._socket.recvfrom(_RECEIVE)
            except BlockingIOError:
                return None
            except OSError:
                continue
            answer = decode_reply(self._family, octets, self._identifier)
            if answer and answer[0] == self._sequence:
                sequence, kind, code, mtu = answer
                return Reply(sequence, kind, str(address[0]).partition("%")[0], time.monotonic() - sent, code, mtu)

    def once(self, timeout: float = 1.0) -> Reply:
        """One echo, waited for at most `timeout` seconds."""
        sent = time.monotonic()
        refused = self._send()
        if refused:
            return refused
        while (left := sent + timeout - time.monotonic()) > 0:
            select.select([self._socket], [], [], left)
            reply = self._take(sent)
            if reply:
                return reply
        return Reply(self._sequence, "timeout")

    def ping(self, count: int = 3, *, timeout: float = 1.0, interval: float = 0.0) -> list[Reply]:
        """`count` echoes, one after another."""
        replies = []
        for n in range(count):
            if n and interval:
                time.sleep(interval)
            replies.append(self.once(timeout))
        return replies

    async def aonce(self, timeout: float = 1.0) -> Reply:  # noqa: ASYNC109  (a probe's timeout is an answer, no error)
        """As `once`, on the running event loop."""
        loop = asyncio.get_running_loop()
        sent = time.monotonic()
        refused = self._send()
        if refused:
            return refused
        answered: asyncio.Future[Reply] = loop.create_future()

        def readable() -> None:
            reply = self._take(sent)
            if reply and not answered.done():
                answered.set_result(reply)

        loop.add_reader(self._socket.fileno(), readable)
        try:
            # Not wait_for: until Python 3.12 it may swallow a cancellation that meets the answer.
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            return Reply(self._sequence, "timeout")
        finally:
            loop.remove_reader(self._socket.fileno())

    async def stream(self, *, interval: float = 0.1, timeout: float = 1.0) -> AsyncIterator[Reply]:  # noqa: ASYNC109
        """Echoes without end, `interval` seconds apart or as soon as the last one is settled. Cancel to stop."""
        while True:
            started = time.monotonic()
            yield await self.aonce(timeout)
            await asyncio.sleep(max(0.0, started + interval - time.monotonic()))


def ping(destination: str, *, count: int = 1, timeout: float = 1.0, **options: object) -> list[Reply]:
    """A Prober for one use; `options` are its."""
    with Prober(destination, **options) as prober:  # type: ignore[arg-type]  # keyword arguments passed through
        return prober.ping(count, timeout=timeout)
