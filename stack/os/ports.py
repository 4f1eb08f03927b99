"""The ports of the packet path: packet sockets, TUN devices, raw IP sockets. See `stack.net.Port` for what they
promise.

`send` is the bound C function of a socket or of os.write, so that a packet costs no Python frame. `recv_into` is one
too where nothing but BlockingIOError can come out of it.

Three things that were found by trying and decide the shape:

- uvloop stops a reader for good when its socket reports POLLERR, which a packet socket does when its device goes down
  (ENETDOWN) and a raw socket when an ICMP error arrives. So a socket that is read never sends (another's error would
  be taken from it unseen), and an error while reading is counted and the reader armed again.
- A raw socket of protocol IPPROTO_RAW is handed neither packets nor ICMP errors of the protocol that it sends.
  Send-only sockets are made so, and keep a filter that rejects everything besides (data-plane traps 3 and 8).
- PACKET_QDISC_BYPASS is not used: it hides what we send from every capture on the device, drops a GSO frame that the
  device cannot segment, and is no faster on a device without a queueing discipline.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from stack.addr import format_address
from stack.net import VNET_HEADER
from stack.os import bpf
from stack.os.filters import drop_answers
from stack.os.privileges import TUN, closed_tun, privileged

__all__ = ["FramePort", "RawPort", "RawSendPort", "Reading", "TunPort", "big_queues", "dropped"]

Buffer = memoryview | bytearray
Octets = bytes | bytearray | memoryview

RECEIVE_QUEUE = 8 << 20
"""Octets a receiving socket may hold, so that a pause of some milliseconds loses nothing at 500,000 packets/s."""
SEND_QUEUE = 4 << 20
_AT_BIRTH = 4096
"""Packets that a socket's first queue, which has the sysctl's size, may hold at most."""

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 15, 23
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_MEMINFO = 32, 33, 55
_MEMINFO_DROPS = 8

_IP_MTU_DISCOVER, _PMTUDISC_DONT, _IP_HDRINCL = 10, 0, 3

_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6 = 0x01, 0x02, 0x04


_HOSTS_OWN = (socket.IPPROTO_ICMP, socket.IPPROTO_TCP, socket.IPPROTO_UDP)
"""Protocols for which the host answers, whoever listens too."""

_IP_GRE = Path("/sys/module/ip_gre")


class Reading:
    """The part of a port that listens. `errors` counts by errno's name what reading raised besides 'nothing there'."""

    def __init__(self, fd: int) -> None:
        self.errors: Counter[str] = Counter()
        self._fd = fd
        self._readable: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, readable: Callable[[], None] | None) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._loop = None
        self._readable = readable
        if readable is not None and self._fd >= 0:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._fd, readable)

    def _failed(self, error: OSError) -> None:
        """Reading raised `error`: count it, and arm the reader again, since uvloop has stopped it."""
        self.errors[errno.errorcode.get(error.errno or 0, "unknown")] += 1
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon(self._arm)

    def _arm(self) -> None:
        if self._loop is not None and self._readable is not None and self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.add_reader(self._fd, self._readable)


def _guarded(receive: Callable[[Buffer], int], failed: Callable[[OSError], None]) -> Callable[[Buffer], int]:
    """`receive` that raises nothing but BlockingIOError."""

    def recv_into(buffer: Buffer, /) -> int:
        try:
            return receive(buffer)
        except BlockingIOError:
            raise
        except OSError as error:
            failed(error)
            raise BlockingIOError(errno.EAGAIN, "the device has an error") from None

    return recv_into


def big_queues(sock: socket.socket, *, receive: int = 0, send: int = 0) -> None:
    """Big socket buffers: beyond the sysctl's limit where CAP_NET_ADMIN allows it, else up to it."""
    for size, forced, plain in (
        (receive, _SO_RCVBUFFORCE, socket.SO_RCVBUF),
        (send, _SO_SNDBUFFORCE, socket.SO_SNDBUF),
    ):
        if not size:
            continue
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, size)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, plain, size)


def dropped(sock: socket.socket) -> int:
    """Packets that this socket lost because its queue was full, since it was made."""
    try:
        return int(struct.unpack_from("=9I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))[_MEMINFO_DROPS])
    except (OSError, struct.error):
        return 0


def _packet_socket(device: str, protocol: int, program: list[bpf.Instruction]) -> tuple[socket.socket, int]:
    """A packet socket on a device, and the length of its virtio-net header.

    It is made deaf, is given its filter and only then bound to a protocol, so that it never holds a frame of another
    device or VLAN.
    """
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        bpf.attach(sock, program)
        headroom = VNET_HEADER
        try:
            sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        except OSError:
            headroom = 0
        if protocol:
            sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            big_queues(sock, receive=RECEIVE_QUEUE)
        else:
            big_queues(sock, send=SEND_QUEUE)
        sock.bind((device, protocol))
    except BaseException:
        sock.close()
        raise
    return sock, headroom


class FramePort(Reading):
    """Ethernet frames of one device that pass `program`; those of this host are not seen. Whole frames both ways."""

    def __init__(self, device: str, mtu: int, program: list[bpf.Instruction]) -> None:
        with privileged("CAP_NET_RAW", f"a packet socket on device {device}"):
            self._receiver, self.headroom = _packet_socket(device, _ETH_P_ALL, program)
            try:
                self._sender, _ = _packet_socket(device, 0, bpf.reject_all())
            except BaseException:
                self._receiver.close()
                raise
        super().__init__(self._receiver.fileno())
        self.receive_fd, self.send_fd = self._receiver.fileno(), self._sender.fileno()
        self.name = device
        self.mtu = mtu
        self.recv_into: Callable[[Buffer], int] = _guarded(self._receiver.recv_into, self._failed)
        self.send: Callable[[Octets], int] = self._sender.send

    def dropped(self) -> int:
        return dropped(self._receiver)

    def close(self) -> None:
        self.listen(None)
        self._fd = -1
        self._receiver.close()
        self._sender.close()


class RawPort(Reading):
    """IPv4 packets of one protocol, headers included both ways; fragments arrive put together.

    The kernel sets the total length and the checksum of what is sent, and an identification of zero.
    IP_MTU_DISCOVER is DONT: a packet without DF that is longer than the kernel knows the path to carry is fragmented
    by the kernel; one with DF is refused with EMSGSIZE. The kernel learns of path MTUs from the ICMP errors that this
    socket's protocol earns. While it is open the host sends no ICMP errors about its protocol (data-plane trap 7), or with
    `port` about that UDP port: whoever else listens there may come and go, and senders hear nothing of it.
    `program` filters, from the IP header on. `mtu` is IPv4's maximum: the real one is the route's.
    """

    headroom = 0
    mtu = 65535

    def __init__(self, protocol: int, program: list[bpf.Instruction] | None = None, *, port: int = 0) -> None:
        with privileged("CAP_NET_RAW", f"a raw socket for IP protocol {protocol}"):
            self._receiver = socket.socket(
                socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol
            )
        super().__init__(self._receiver.fileno())
        self.socket = self._receiver
        self.receive_fd, self.send_fd = self._receiver.fileno(), -1
        self.name = f"raw {protocol}" + (f" port {port}" if port else "")
        if program is not None:
            bpf.attach(self._receiver, program)
            self._discard()
        big_queues(self._receiver, receive=RECEIVE_QUEUE)
        self._sender = _raw_sender()
        self._speak: Callable[[], None] = lambda: None
        if port or protocol not in _HOSTS_OWN:
            try:
                self._speak = drop_answers(protocol, port=port)
            except OSError as error:
                _answers_stay(protocol, error)
        self.recv_into: Callable[[Buffer], int] = _guarded(self._receiver.recv_into, self._failed)

    def _discard(self) -> None:
        """A raw socket hears from the moment it is made, before it has its filter: what came in between is let go."""
        for _ in range(_AT_BIRTH):
            try:
                self._receiver.recv(1)
            except BlockingIOError:
                return
            except OSError:
                continue

    def send(self, octets: Octets, /) -> int:
        """To the destination that the header names."""
        return self._sender.sendto(octets, (format_address(bytes(octets[16:20])), 0))

    def dropped(self) -> int:
        return dropped(self._receiver)

    def close(self) -> None:
        self.listen(None)
        self._fd = -1
        self._receiver.close()
        self._sender.close()
        self._speak()


def _answers_stay(protocol: int, error: OSError) -> None:
    """Without nftables the host's answers stay. A bound raw socket suffices unless the kernel's own tunnels are loaded; and
    of UDP they are seldom, while IKE restarts, and are worth nothing to its peers (RFC 7296 2.4)."""
    if protocol == socket.IPPROTO_GRE and _IP_GRE.exists():
        structlog.get_logger().warning(
            "the kernel answers every GRE packet with ICMP port unreachable, which peers may count or mind",
            reason=error.strerror or str(error),
            mend="load nf_tables, or unload ip_gre",
        )


def _raw_sender() -> socket.socket:
    """A socket that sends IPv4 packets of any protocol, header included, and to which nothing ever comes."""
    sock = socket.socket(
        socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW
    )
    try:
        bpf.attach(sock, bpf.reject_all())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        big_queues(sock, send=SEND_QUEUE)
        sock.setsockopt(socket.IPPROTO_IP, _IP_HDRINCL, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
    except BaseException:
        sock.close()
        raise
    return sock


class RawSendPort:
    """As RawPort, but connected to one remote and send-only: nothing is ever received, nor does an ICMP error come
    back.

    OSError of `send`: EMSGSIZE (DF is set and the path's MTU is smaller), ENETUNREACH, EHOSTUNREACH (no route),
    ENOBUFS and BlockingIOError (queues full).
    """

    headroom = 0
    mtu = 65535

    def __init__(self, protocol: int, remote: bytes) -> None:
        with privileged("CAP_NET_RAW", f"a raw socket for IP protocol {protocol}"):
            self._sender = _raw_sender()
        self.name = f"raw {protocol} to {format_address(remote)}"
        try:
            self._sender.connect((format_address(remote), 0))
        except BaseException:
            self._sender.close()
            raise
        self.receive_fd, self.send_fd = -1, self._sender.fileno()
        self.send: Callable[[Octets], int] = self._sender.send

    def recv_into(self, buffer: Buffer, /) -> int:  # noqa: ARG002  (the Port's signature)
        raise BlockingIOError(errno.EAGAIN, "a send-only port")

    def listen(self, readable: Callable[[], None] | None) -> None:
        """Nothing to hear."""

    def close(self) -> None:
        self._sender.close()


class TunPort(Reading):
    """A TUN device: bare IP packets to and from the host's TCP/IP. `name` is what the kernel called it.

    It is made down; `index`, `mtu` and its switches are the caller's to set (stack.os.network). With a headroom of
    10, TCP segments come as large as the host made them, their checksums unfilled (virtio-net header: GSO type,
    sizes, offsets).
    """

    def __init__(self, device: str, mtu: int) -> None:
        with privileged("CAP_NET_ADMIN", f"the TUN device {device}"):
            try:
                fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            except PermissionError as error:
                raise closed_tun(f"the TUN device {device}") from error
            try:
                self.name, self.headroom = _attach_tun(fd, device)
            except BaseException:
                os.close(fd)
                raise
        super().__init__(fd)
        self.mtu = mtu
        readv = os.readv
        self.recv_into: Callable[[Buffer], int] = _guarded(lambda buffer: readv(fd, (buffer,)), self._failed)
        self.send: Callable[[Octets], int] = partial(os.write, fd)

    def _failed(self, error: OSError) -> None:
        if error.errno == errno.EBADFD:
            # The device was deleted under us: the descriptor stays in error for good, a reader would spin on it.
            self.errors["EBADFD"] += 1
            self.listen(None)
            return
        super()._failed(error)

    def dropped(self) -> int:
        return 0

    def close(self) -> None:
        self.listen(None)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self.send = _closed
            self.recv_into = _closed
            with contextlib.suppress(OSError):
                os.close(fd)


def _closed(_: object, /) -> int:
    raise OSError(errno.EBADF, "the port is closed")


def _attach_tun(fd: int, device: str) -> tuple[str, int]:
    """Make the device; its name, and the length of the header before each packet."""
    name = device.encode()
    if len(name) > 15:
        raise OSError(errno.ENAMETOOLONG, f"device name {device!r}: at most 15 octets")
    for flags, headroom in ((_IFF_VNET_HDR, VNET_HEADER), (0, 0)):
        request = struct.pack("=16sH22x", name, _IFF_TUN | _IFF_NO_PI | flags)
        try:
            answer = fcntl.ioctl(fd, _TUNSETIFF, request)
        except OSError as error:
            if error.errno == errno.EINVAL and headroom:
                continue  # a kernel whose TUN has no virtio-net header, or a persistent device made without
            if error.errno == errno.EBUSY:
                raise OSError(error.errno, f"the TUN device {device} is in use by another process") from error
            raise
        if headroom:
            with contextlib.suppress(OSError):  # without it, packets are small and checksums filled: nothing to do
                fcntl.ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6)
        return answer[:16].rstrip(b"\0").decode(), headroom
    raise OSError(errno.EINVAL, f"the TUN device {device} cannot be made")
