"""TCP sockets with what a routing protocol asks of them: MD5 signatures, GTSM, DSCP, a VRF's device.

Sources: tcp(7), ip(7), ipv6(7), socket(7), RFC 2385, RFC 5082.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from stack.addr import Prefix, format_address
from stack.net import TcpOptions
from stack.os.privileges import privileged

__all__ = ["address_of", "client", "listen", "server", "set_md5", "shared_port"]

_TCP_MD5SIG, _TCP_MD5SIG_EXT = 14, 32
_MD5_MAX_KEY = 80
_MD5_FLAG_PREFIX = 0x1
_IP_MINTTL, _IPV6_MINHOPCOUNT = 21, 73
_IP_BIND_ADDRESS_NO_PORT, _IP_FREEBIND, _IPV6_FREEBIND = 24, 15, 78
_BACKLOG = 256

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


def address_of(address: bytes, port: int, *, scope: int = 0) -> SocketAddress:
    """What connect(2) and bind(2) take. `scope`: device index, for an IPv6 link-local address."""
    if len(address) == 4:
        return format_address(address), port
    return format_address(address), port, 0, scope if address.startswith(b"\xfe\x80") else 0


def set_md5(sock: socket.socket, remote: bytes, key: bytes, *, length: int | None = None) -> None:
    """Sign and check segments to and from `remote`, or a prefix of it, with `key` (RFC 2385); an empty key ends that.

    On a listening socket once for each peer. Raises OSError.
    """
    if len(key) > _MD5_MAX_KEY:
        raise OSError(errno.EINVAL, f"a TCP MD5 key has at most {_MD5_MAX_KEY} octets, this one {len(key)}")
    if len(remote) == 4 and sock.family == socket.AF_INET6:
        remote = bytes(10) + b"\xff\xff" + remote
    if len(remote) == 4:
        storage = struct.pack("=HH4s120x", socket.AF_INET, 0, remote)
    else:
        storage = struct.pack("=HHI16sI100x", socket.AF_INET6, 0, 0, remote, 0)
    prefix = len(remote) * 8 if length is None else length
    flags, option = (0, _TCP_MD5SIG) if length is None else (_MD5_FLAG_PREFIX, _TCP_MD5SIG_EXT)
    value = storage + struct.pack("=BBHi80s", flags, prefix, len(key), 0, key)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError as error:
        if error.errno == errno.ENOENT and not key:
            return  # there was none
        if error.errno in (errno.ENOPROTOOPT, errno.EOPNOTSUPP):
            raise OSError(error.errno, "this kernel has no TCP MD5 signatures (CONFIG_TCP_MD5SIG)") from error
        raise OSError(error.errno, f"setting the TCP MD5 key: {error.strerror}") from error


def _prepare(sock: socket.socket, options: TcpOptions, device: str) -> None:
    sock.setblocking(False)
    if device:
        with privileged("CAP_NET_RAW", f"binding a socket to device {device}"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    if sock.family == socket.AF_INET:
        level, hops, service, least = socket.IPPROTO_IP, socket.IP_TTL, socket.IP_TOS, _IP_MINTTL
    else:
        level, hops, service = socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, socket.IPV6_TCLASS
        least = _IPV6_MINHOPCOUNT
        sock.setsockopt(level, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(level, hops, options.ttl)
    sock.setsockopt(level, service, options.dscp << 2)
    if options.min_ttl:
        # RFC 5082 3: "the receiver discards packets whose TTL is below"; here the kernel does, silently.
        sock.setsockopt(level, least, options.min_ttl)


def client(options: TcpOptions, device: str) -> socket.socket:
    """A socket ready to connect, bound to the local end that is asked for. Raises OSError (EADDRNOTAVAIL)."""
    if options.local and len(options.local) != len(options.remote):
        raise OSError(errno.EAFNOSUPPORT, "the local and the remote address are of different families")
    family = socket.AF_INET if len(options.remote) == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _prepare(sock, options, device)
        if options.md5:
            set_md5(sock, options.remote, options.md5)
        if options.local:
            with contextlib.suppress(OSError):  # a comfort: the port is chosen at connect, when the remote is known
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(address_of(options.local, 0))
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def shared_port(listening: Iterable[socket.socket]) -> Iterator[list[socket.socket]]:
    """Inside, sockets may be bound to ports on which `listening` ones listen already; those that are made are put into
    the list that this gives.

    The kernel refuses a listener that is bound to a VRF's device beside one that is bound to none, unless both have
    SO_REUSEPORT. But with that on, it hands a connection to the first socket that fits and not to the one that fits
    best, which would be the VRF's own. So it is on only while sockets are bound.
    """
    present = [sock for sock in listening if sock.fileno() >= 0]
    made: list[socket.socket] = []
    for sock in present:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield made
    finally:
        for sock in (*present, *made):
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def server(options: TcpOptions, device: str, family: int) -> socket.socket:
    """A socket ready to listen, SO_REUSEPORT left on (see `shared_port`). Its local address may come later (IP_FREEBIND)."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    local = options.local or bytes(4 if family == socket.AF_INET else 16)
    try:
        _prepare(sock, options, device)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        if options.md5:
            remote = options.remote or bytes(len(local))
            set_md5(sock, remote, options.md5, length=None if options.remote else 0)
        with _naming(options, local), privileged("CAP_NET_BIND_SERVICE", _listening(options, local)):
            sock.bind(address_of(local, options.port))
    except BaseException:
        sock.close()
        raise
    return sock


def listen(sock: socket.socket, options: TcpOptions) -> dict[Prefix, str]:
    """Demand the peers' keys, and only then begin to listen: whose key was not taken, and why."""
    octets = 4 if sock.family == socket.AF_INET else 16
    keyless: dict[Prefix, str] = {}
    for prefix, key in options.keys:
        if len(prefix.network) == octets:
            try:
                set_md5(sock, prefix.network, key, length=None if prefix.length == octets * 8 else prefix.length)
            except OSError as error:
                keyless[prefix] = error.strerror or str(error)
    with _naming(options, options.local or bytes(octets)):
        sock.listen(_BACKLOG)
    return keyless


def _listening(options: TcpOptions, local: bytes) -> str:
    return f"listening on {format_address(local)} port {options.port}"


@contextmanager
def _naming(options: TcpOptions, local: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(error.errno, f"{_listening(options, local)}: another process has the port") from error
        raise
