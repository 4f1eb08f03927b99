"""OsNetwork: `stack.net.Network` on Linux. Everything belongs to the network namespace that the process is in."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from attrs import define, field

from stack.addr import DEFAULT_VRF, Prefix
from stack.net import Host, Listener, Network, Port, TcpOptions
from stack.os import bpf, tcp
from stack.os.datagrams import UdpPort, shared_udp_port
from stack.os.host import OsHost
from stack.os.ports import Buffer, FramePort, Octets, RawPort, RawSendPort, TunPort

__all__ = ["OsListener", "OsNetwork"]

_PARKED_SECONDS = 60.0
_HOST_PORT = "ls-{}"
_TABLE = 76_000_000
"""The routing table of host port N is this plus N."""


class OsListener:
    """Listening sockets of one VRF and port, one a family. Closing twice is allowed."""

    def __init__(self, sockets: list[socket.socket], keyless: Mapping[Prefix, str]) -> None:
        self.keyless = keyless
        self._sockets = sockets
        self._servers: list[asyncio.AbstractServer] = []

    def set_md5(self, remote: bytes, key: bytes, *, length: int | None = None) -> None:
        """Expect `remote` (or a prefix of it) to sign with `key`; an empty key ends that. Each peer has its own."""
        for sock in self._sockets:
            if len(remote) == (4 if sock.family == socket.AF_INET else 16):
                tcp.set_md5(sock, remote, key, length=length)

    async def start(self, factory: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            self._servers.append(await loop.create_server(factory, sock=sock))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        self._servers.clear()


class _HostPort:
    """A lease of a VRF's TUN device. Its close gives the lease back; the device stays for a while."""

    def __init__(self, tun: TunPort, release: Callable[[], None]) -> None:
        self.name, self.mtu, self.headroom, self.errors = tun.name, tun.mtu, tun.headroom, tun.errors
        self.recv_into: Callable[[Buffer], int] = tun.recv_into
        self.send: Callable[[Octets], int] = tun.send
        self._tun, self._release, self._open = tun, release, True

    def listen(self, readable: Callable[[], None] | None) -> None:
        if self._open:
            self._tun.listen(readable)

    def close(self) -> None:
        if self._open:
            self.listen(None)
            self._open = False
            self._release()


@define(eq=False)
class _Door:
    """A VRF's TUN device, leased or parked."""

    tun: TunPort
    index: int
    table: int
    leased: bool = True
    expiry: asyncio.TimerHandle | None = None


@define(eq=False)
class OsNetwork:
    """Sockets, attachments and the host. Making one needs no privilege; each call names what it lacks. `close` gives
    back the host ports and netlink sockets."""

    _host: OsHost = field(factory=OsHost, init=False)
    host: Host = field(init=False)
    _doors: dict[str, _Door] = field(factory=dict, init=False)
    _listening: WeakSet[socket.socket] = field(factory=WeakSet, init=False)
    _datagrams: WeakSet[UdpPort] = field(factory=WeakSet, init=False)
    _default_sockets: WeakSet[socket.socket] = field(factory=WeakSet, init=False)
    _filters: WeakKeyDictionary[socket.socket, list[bpf.Instruction]] = field(factory=WeakKeyDictionary, init=False)
    """What a socket rejects besides: the rest of its program."""

    def __attrs_post_init__(self) -> None:
        self.host = self._host

    # --- TCP ---

    async def connect_tcp(
        self, factory: Callable[[], asyncio.Protocol], options: TcpOptions
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        loop = asyncio.get_running_loop()
        device = self._device(options.vrf)
        sock = tcp.client(options, device)
        try:
            self._guard(sock, device, options)
            scope = self._host.device(device).index if device and options.remote.startswith(b"\xfe\x80") else 0
            await loop.sock_connect(sock, tcp.address_of(options.remote, options.port, scope=scope))
            transport, protocol = await loop.create_connection(factory, sock=sock)
        except BaseException:
            sock.close()
            raise
        return transport, protocol

    async def listen_tcp(self, factory: Callable[[], asyncio.Protocol], options: TcpOptions) -> OsListener:
        device = self._device(options.vrf)
        sockets: list[socket.socket] = []
        keyless: dict[Prefix, str] = {}
        try:
            with tcp.shared_port(self._listening) as sockets:
                for family in _families(options):
                    try:
                        sockets.append(tcp.server(options, device, family))
                    except OSError as error:
                        if not sockets or error.errno != errno.EAFNOSUPPORT:
                            raise
                        break  # without IPv6 the IPv4 socket is all there is
                    self._guard(sockets[-1], device, options)
                    keyless |= tcp.listen(sockets[-1], options)
            self._listening.update(sockets)
            listener = OsListener(sockets, keyless)
            await listener.start(factory)
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return listener

    def _device(self, vrf: str) -> str:
        """The device that sockets of `vrf` are bound to; none in the default VRF, whose devices are the kernel's."""
        if vrf == DEFAULT_VRF:
            return ""
        door = self._doors.get(vrf)
        if door is None:
            raise OSError(errno.ENODEV, f"VRF {vrf} has no host port (yet)")
        return door.tun.name

    def _guard(self, sock: socket.socket, device: str, options: TcpOptions) -> None:
        """A socket that is bound to no device hears every VRF's port: let it reject what comes in by them. A listener also
        rejects sources that are farther away than their rule allows (RFC 5082 3), which its own least TTL, the same for
        all, does not; what it accepts inherits that."""
        if not device:
            self._default_sockets.add(sock)
        if options.hops:
            self._filters[sock] = bpf.reject_far(options.hops, 4 if sock.family == socket.AF_INET else 16)
        if not device or options.hops:
            self._attach(sock)

    def _attach(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0:
            bpf.attach(sock, self._program(self._filters.get(sock), guarded=sock in self._default_sockets))

    def _program(self, rest: list[bpf.Instruction] | None, *, guarded: bool = True) -> list[bpf.Instruction]:
        indexes = [door.index for vrf, door in self._doors.items() if vrf != DEFAULT_VRF] if guarded else ()
        return bpf.reject_devices(indexes, rest)

    def _guard_always(self, sock: socket.socket, rest: list[bpf.Instruction] | None) -> None:
        """`sock` was made with `_program(rest)`, for the default VRF: from now on it hears of VRFs that come and go."""
        self._default_sockets.add(sock)
        if rest is not None:
            self._filters[sock] = rest

    # --- ports ---

    def frames(self, device: str, vlan: int | None) -> Port:
        known = self._host.device(device)
        program = bpf.untagged_filter() if vlan is None else bpf.vlan_filter(vlan)
        return FramePort(device, known.mtu, program)

    def labelled_frames(self, device: str) -> Port:
        known = self._host.device(device)
        return FramePort(device, known.mtu, bpf.labelled_filter())

    def datagrams(self, port: int, *, marked: bool = False, vrf: str = "") -> UdpPort:
        rest = bpf.marked() if marked else None
        device = self._device(vrf)
        held = [each for each in self._datagrams if each.open]
        if any((each.port, each.device) == (port, device) for each in held):
            raise OSError(errno.EADDRINUSE, f"UDP port {port}{f' of VRF {vrf}' if vrf else ''} is open already")
        with shared_udp_port(each.socket for each in held if each.port == port):
            udp = UdpPort(port, rest or bpf.accept_all() if device else self._program(rest), device)
        self._datagrams.add(udp)
        if not device:
            self._guard_always(udp.socket, rest)
        return udp

    def raw(self, protocol: int, *, remote: bytes = b"", port: int = 0) -> Port:
        if remote:
            return RawSendPort(protocol, remote)
        if port and protocol != socket.IPPROTO_UDP:
            raise OSError(errno.EINVAL, f"a port of IP protocol {protocol}")
        rest = bpf.esp_in_udp(port) if port else None
        raw = RawPort(protocol, self._program(rest), port=port)
        self._guard_always(raw.socket, rest)
        return raw

    def tun(self, device: str, mtu: int) -> Port:
        return self._open_tun(device, mtu, forwarding=True)

    def host_port(self, vrf: str, index: int, mtu: int) -> Port:
        """The device `ls-<index>`. A port that is closed stays parked for a minute with its addresses and routes, so
        that TCP sessions outlive a restart of the packet path; asking again gives the same device.

        Raises OSError: EBUSY if the VRF's port is open, or the device is another process's.
        """
        name = _HOST_PORT.format(index)
        door = self._doors.get(vrf)
        if door is not None and door.leased:
            raise OSError(errno.EBUSY, f"the host port of VRF {vrf or 'default'} is open already")
        if door is not None and door.tun.name != name:
            self._forget(vrf)
            door = None
        if door is None:
            self._take_over(name)
            # Packets for other hosts may only be routed by the kernel in the default VRF, whose devices are its own.
            tun = self._open_tun(name, mtu, forwarding=vrf == DEFAULT_VRF)
            door = self._doors[vrf] = _Door(tun, self._host.device(tun.name).index, 0)
            if vrf != DEFAULT_VRF:
                door.table = _TABLE + index
                self._host.isolate_port(tun.name, door.table)
            for sock in self._default_sockets:
                self._attach(sock)
        elif door.tun.mtu != mtu:
            self._host.set_link(name, up=True, mtu=mtu)
            door.tun.mtu = mtu
        door.leased = True
        if door.expiry is not None:
            door.expiry.cancel()
            door.expiry = None
        return _HostPort(door.tun, lambda: self._park(vrf))

    def _take_over(self, name: str) -> None:
        """Numbers of VRFs are given anew: a VRF that is gone must not keep its successor waiting for its parked device."""
        for vrf in [vrf for vrf, door in self._doors.items() if door.tun.name == name]:
            self._forget(vrf)

    def _open_tun(self, device: str, mtu: int, *, forwarding: bool) -> TunPort:
        tun = TunPort(device, mtu)
        try:
            self._host.prepare_port(tun.name, mtu=mtu, forwarding=forwarding)
        except BaseException:
            tun.close()
            raise
        return tun

    def _park(self, vrf: str) -> None:
        door = self._doors.get(vrf)
        if door is None:
            return
        door.leased = False
        try:
            door.expiry = asyncio.get_running_loop().call_later(_PARKED_SECONDS, self._forget, vrf)
        except RuntimeError:
            self._forget(vrf)

    def _forget(self, vrf: str) -> None:
        door = self._doors.get(vrf)
        if door is not None and not door.leased:
            if door.expiry is not None:
                door.expiry.cancel()
            del self._doors[vrf]
            if door.table:
                self._host.release_port(door.tun.name, door.table)
            door.tun.close()

    def close(self) -> None:
        """Give back every host port, leased or parked, and the netlink sockets."""
        for vrf, door in list(self._doors.items()):
            door.leased = False
            self._forget(vrf)
        self._host.close()


def _families(options: TcpOptions) -> tuple[int, ...]:
    for address in (options.local, options.remote):
        if address:
            return (socket.AF_INET if len(address) == 4 else socket.AF_INET6,)
    return socket.AF_INET, socket.AF_INET6


if TYPE_CHECKING:
    # The type checker proves here that these are what stack.net asks for.
    _network: Callable[[OsNetwork], Network] = lambda network: network
    _listener: Callable[[OsListener], Listener] = lambda listener: listener
