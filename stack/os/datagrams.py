"""UDP over IPv4 at one port, on every address of a VRF. See `stack.net.DatagramPort` for what it promises.

No ICMP error comes out of it: the kernel reports them to an unconnected socket only with IP_RECVERR (ip(7)), which is off.
What an error is worth to IKE is nothing anyway (RFC 7296 2.4: not enough to conclude that the peer has failed).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stack.addr import format_address
from stack.nettypes import Datagram
from stack.os import bpf
from stack.os.ports import Reading, big_queues, dropped
from stack.os.privileges import privileged

if TYPE_CHECKING:
    from collections.abc import Callable

    from stack.net import DatagramPort

__all__ = ["UdpPort", "shared_udp_port"]

_QUEUE = 4 << 20
"""Octets a socket may hold each way: some ten thousand IKE messages."""
_LARGEST = 65536
_IP_PKTINFO, _IP_MTU_DISCOVER, _PMTUDISC_DONT = 8, 10, 0
_PKTINFO = struct.Struct("=I4s4s")
"""struct in_pktinfo: device index; our address; the address in the header."""
_ANCILLARY = socket.CMSG_SPACE(_PKTINFO.size)


@contextmanager
def shared_udp_port(present: Iterable[socket.socket]) -> Iterator[None]:
    """Inside, a port may be bound on which one of `present` is bound already, on another device or on none: as with TCP
    (`stack.os.tcp.shared_port`), the kernel wants SO_REUSEPORT of both for that, and it is on only meanwhile, so that nobody
    else gets beside us and each datagram goes to the socket that fits best."""
    held = tuple(present)
    try:
        for sock in held:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield
    finally:
        for sock in held:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


class UdpPort(Reading):
    """Bound to 0.0.0.0 and `port`; `program` filters from the UDP header on, and is there before the first datagram is.
    With `device`, the host port of a VRF: what comes in by it, and out of it whatever the host's routes say."""

    def __init__(self, port: int, program: list[bpf.Instruction], device: str = "") -> None:
        self.port, self.device = port, device
        self._buffer = memoryview(bytearray(_LARGEST))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            bpf.attach(self.socket, program)
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            # DF clear: a message that is larger than the path is fragmented rather than lost.
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
            big_queues(self.socket, receive=_QUEUE, send=_QUEUE)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if device:
                with privileged("CAP_NET_RAW", f"UDP port {port} on {device}"):
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
            with privileged("CAP_NET_BIND_SERVICE", f"UDP port {port}"):
                self.socket.bind(("0.0.0.0", port))  # noqa: S104  (every address of the host, as the contract says)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        except BaseException as error:
            self.socket.close()
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise OSError(error.errno, f"UDP port {port}: another process has the port") from error
            raise
        super().__init__(self.socket.fileno())

    def receive(self) -> Datagram:
        if self._fd < 0:
            raise OSError(errno.EBADF, "the port is closed")
        while True:
            try:
                size, ancillary, _, remote = self.socket.recvmsg_into((self._buffer,), _ANCILLARY)
            except BlockingIOError:
                raise
            except OSError as error:
                self._failed(error)
                raise BlockingIOError(errno.EAGAIN, "the socket has an error") from None
            local = _destination(ancillary)
            if local:
                source, port = remote
                return Datagram(bytes(self._buffer[:size]), socket.inet_aton(source), port, local, self.port)
            self.errors["not unicast"] += 1

    def send(self, octets: bytes, local: bytes, remote: bytes, port: int) -> None:
        ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(0, local, bytes(4)))] if local else []
        self.socket.sendmsg((octets,), ancillary, 0, (format_address(remote), port))

    @property
    def open(self) -> bool:
        return self._fd >= 0

    def dropped(self) -> int:
        return dropped(self.socket)

    def close(self) -> None:
        self.listen(None)
        self._fd = -1
        self.socket.close()


def _destination(ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """Our address that a datagram was for. None: it went to a group or to all, which nobody may make us answer."""
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(value) == _PKTINFO.size:
            _, ours, header = _PKTINFO.unpack(value)
            return header if header == ours else b""
    return b""


if TYPE_CHECKING:
    _port: Callable[[UdpPort], DatagramPort] = lambda port: port
