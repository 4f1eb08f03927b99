"""The IP layer of an in-memory node: in, out, forward, ICMP, UDP, raw protocols. TCP is beside it (`_tcp`)."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from attrs import define, field

from stack.nettypes import Datagram as PortDatagram
from stack.testing import _packets as p
from stack.testing._host import MemoryHost
from stack.testing._nic import EthernetNic, Nic
from stack.testing._port import Backlog, QueuePort, os_error
from stack.testing._reassembly import Reassembly
from stack.testing.ping import Pinger
from stack.testing.udp import Datagram, MemoryDatagrams, UdpSocket

__all__ = ["IpStack", "RawPort", "Translator"]

_PATHS, _PATH_SECONDS = 256, 600.0
_SOCKETS = 4096
_ERRNO = {p.Trouble.PROTOCOL: errno.ENOPROTOOPT, p.Trouble.PORT: errno.ECONNREFUSED}
"""ICMP errors that a connected raw socket reports (Linux's `fatal` ones)."""


class Translator(Protocol):
    """A NAT (`stack.testing.MemoryNat`): what it makes of whole packets on their way; nothing (b""): dropped. None: not its
    business."""

    inside: str
    outside: str

    def inwards(self, ip: p.Ip) -> bytes | None: ...
    def outwards(self, ip: p.Ip) -> bytes: ...


@define(eq=False)
class RawPort:
    """A raw socket: packets of one IPv4 protocol. With a `remote` it only sends, and hears of ICMP errors. With `to`: only
    UDP to that port that does not begin with the non-ESP marker."""

    protocol: int
    remote: bytes
    port: QueuePort
    to: int = 0

    def wants(self, ip: p.Ip) -> bool:
        if self.protocol != ip.protocol or self.remote:
            return False
        if not self.to:
            return True
        octets = ip.payload[8:]
        return int.from_bytes(ip.payload[2:4]) == self.to and len(octets) > 0 and octets[:4] != bytes(4)


@define(eq=False)
class IpStack:
    """`drops` counts by reason what this host did not take. `tcp_input` and `tcp_trouble` are set by the TCP beside it."""

    host: MemoryHost = field(repr=False)
    backlog: Backlog
    forwarding: bool = False
    tcp_input: Callable[[p.Ip, str], None] = field(init=False)
    tcp_trouble: Callable[[p.Ip, str, p.Trouble], None] = field(init=False)
    drops: Counter[str] = field(factory=Counter, init=False)
    raws: list[RawPort] = field(factory=list, init=False)
    sockets: list[UdpSocket] = field(factory=list, init=False)
    doors: list[MemoryDatagrams] = field(factory=list, init=False)
    nat: Translator | None = field(default=None, init=False)
    pinger: Pinger = field(init=False)
    _ident: int = field(default=0, init=False)
    _paths: dict[tuple[str, bytes], tuple[int, float]] = field(factory=dict, init=False)
    _pieces: Reassembly = field(factory=Reassembly, init=False)

    def __attrs_post_init__(self) -> None:
        self.pinger = Pinger(self)

    # --- what a device asks (stack.testing._nic.Above) ---

    def owns(self, address: bytes, scope: str) -> bool:
        return self.host.is_local(address, scope) and address[0] != 127

    def address_towards(self, nic: Nic, neighbour: bytes) -> bytes:
        return self.host.source_for(nic, neighbour)

    def device_changed(self) -> None:
        self.host.changed()

    def unresolved(self, packet: bytes, nic: Nic) -> None:
        """Nobody answered for this packet's next hop."""
        ip = p.parse_ip(packet)
        if ip is None:
            return
        self.drops["host unreachable"] += 1
        if self.host.is_local(ip.source, nic.scope):
            self._heard(ip, nic.scope, p.Trouble.HOST, b"", 0)
        else:
            self.complain(ip, nic, p.Trouble.HOST)

    def receive(self, packet: bytes, nic: Nic) -> None:
        ip = p.parse_ip(packet)
        if ip is None:
            self.drops["malformed"] += 1
        elif p.multicast(ip.source):
            self.drops["multicast source"] += 1
        elif self.host.is_local(ip.destination, nic.scope):
            self._whole(ip, nic)
        elif p.multicast(ip.destination):
            if ip.protocol == p.ICMPV6:
                self._icmp(ip, nic)
            else:
                self.drops["multicast"] += 1
        elif self.forwarding and not nic.scope and not p.link_local(ip.destination):
            self._forward(ip, nic)
        else:
            self.drops["for another host"] += 1

    # --- in ---

    def _whole(self, ip: p.Ip, nic: Nic) -> None:
        if ip.more or ip.offset:
            packet = self._pieces.add(ip, nic.scope, asyncio.get_running_loop().time())
            whole = p.parse_ip(packet) if packet else None
            if whole is None:
                return
            ip = whole
        if self.nat is not None and nic.name == self.nat.outside and ip.is_v4:
            inwards = self.nat.inwards(ip)
            if inwards is not None:
                translated = p.parse_ip(inwards)
                if translated is not None:
                    self._forward(translated, nic)
                return
        self._local(ip, nic)

    def _local(self, ip: p.Ip, nic: Nic) -> None:
        taken = False
        if ip.is_v4 and not nic.scope:
            for raw in self.raws:
                if raw.wants(ip):
                    raw.port.push(ip.packet)
                    taken = True
        if ip.protocol == (p.ICMP if ip.is_v4 else p.ICMPV6):
            self._icmp(ip, nic)
        elif ip.protocol == p.UDP:
            self._udp(ip, nic)
        elif ip.protocol == p.TCP:
            self.tcp_input(ip, nic.scope)
        elif not taken and ip.protocol != 59:  # "no next header"
            self.drops["unknown protocol"] += 1
            self.complain(ip, nic, p.Trouble.PROTOCOL)

    def _icmp(self, ip: p.Ip, nic: Nic) -> None:
        if not p.icmp_is_right(ip):
            self.drops["malformed ICMP"] += 1
            return
        kind = ip.payload[0]
        if kind == (8 if ip.is_v4 else 128):
            if not p.multicast(ip.destination):
                reply = p.build_icmp(ip.destination, ip.source, 0 if ip.is_v4 else 129, 0, ip.payload[4:])
                self.answer(ip.destination, ip.source, ip.protocol, reply, nic.scope)
        elif kind == (0 if ip.is_v4 else 129):
            self.pinger.replied(ip)
        elif not ip.is_v4 and kind in (135, 136):
            if isinstance(nic, EthernetNic):
                nic.neighbour_discovery(ip)
        elif (said := p.read_trouble(ip)) is not None:
            about = p.parse_ip(ip.payload[8:], quoted=True)
            if about is not None and self.host.is_local(about.source, nic.scope):
                self._heard(about, nic.scope, said[0], ip.source, said[1])

    def _udp(self, ip: p.Ip, nic: Nic) -> None:
        parsed = p.parse_udp(ip)
        if parsed is None:
            self.drops["malformed UDP"] += 1
            return
        sport, dport, octets = parsed
        for socket in self.sockets:
            if (socket.vrf, socket.port) == (nic.scope, dport) and socket.local in (b"", ip.destination):
                socket.push(Datagram(octets, ip.source, sport, ip.ttl))
                return
        for door in self.doors:
            if (door.vrf, door.port) == (nic.scope, dport) and ip.is_v4:
                door.push(PortDatagram(octets, ip.source, sport, ip.destination, dport))
                return
        self.drops["no UDP port"] += 1
        if not any(raw.to == dport for raw in self.raws):  # which keeps the host from answering, as stack.os does
            self.complain(ip, nic, p.Trouble.PORT)

    def _heard(self, about: p.Ip, scope: str, trouble: p.Trouble, sender: bytes, mtu: int) -> None:
        """`sender` (empty: ourselves) says that `about`, which we sent, came to grief."""
        floor = 68 if about.is_v4 else 1280
        if trouble is p.Trouble.TOO_BIG and floor <= mtu:
            self._remember(scope, about.destination, mtu)
        if about.protocol in (p.ICMP, p.ICMPV6):
            self.pinger.failed(about, trouble, sender, mtu)
        elif about.protocol == p.TCP:
            self.tcp_trouble(about, scope, trouble)
        elif about.protocol == p.UDP:
            for socket in self.sockets:
                if (socket.vrf, socket.port) == (scope, int.from_bytes(about.payload[:2])):
                    socket.errors.append(p.TROUBLE_TEXT[trouble])
        for raw in self.raws:
            if not scope and raw.protocol == about.protocol and raw.remote == about.destination and trouble in _ERRNO:
                raw.port.error = _ERRNO[trouble]

    def _remember(self, scope: str, destination: bytes, mtu: int) -> None:
        while len(self._paths) >= _PATHS:
            del self._paths[next(iter(self._paths))]
        self._paths[scope, destination] = (mtu, asyncio.get_running_loop().time() + _PATH_SECONDS)

    # --- out ---

    def ident(self) -> int:
        """The next IPv4 identification."""
        self._ident = self._ident % 0xFFFF + 1
        return self._ident

    def source_to(self, destination: bytes, scope: str = "") -> bytes:
        """The address this host would speak to `destination` from; empty: it would not."""
        if self.host.is_local(destination, scope):
            return destination
        hop = self.host.route(destination, scope)
        return hop.source if hop else b""

    def mtu_to(self, destination: bytes, scope: str = "") -> int:
        """Of the path, as far as it is known."""
        if self.host.is_local(destination, scope):
            return 65535
        hop = self.host.route(destination, scope)
        mtu = hop.nic.mtu if hop else 1500
        known, expires = self._paths.get((scope, destination), (mtu, 0.0))
        return min(mtu, known) if expires > asyncio.get_running_loop().time() else mtu

    def send(self, packet: bytes, *, scope: str = "", df: bool = False) -> None:
        """A packet of our own, in pieces if it must be. OSError: ENETUNREACH, or EMSGSIZE with `df`."""
        v4 = packet[0] >> 4 == 4
        destination = packet[16:20] if v4 else packet[24:40]
        if self.host.is_local(destination, scope) and not scope:
            self.backlog.post(self.host.nic("lo").arrived, packet)
            return
        hop = self.host.route(destination, scope)
        if hop is None:
            raise os_error(errno.ENETUNREACH)
        mtu = self.mtu_to(destination, scope) if df or not v4 else hop.nic.mtu
        if len(packet) <= mtu:
            hop.nic.send_ip(packet, hop.via)
        elif df:
            raise os_error(errno.EMSGSIZE, f"{len(packet)} octets, path MTU {mtu}")
        else:
            for piece in p.fragments(packet, mtu, self.ident()):
                hop.nic.send_ip(piece, hop.via)

    def answer(
        self, source: bytes, destination: bytes, protocol: int, payload: bytes, scope: str, ttl: int = 64
    ) -> None:
        """A packet of our own that may fail silently, counted."""
        try:
            self.send(p.build_ip(source, destination, protocol, payload, ttl=ttl, ident=self.ident()), scope=scope)
        except OSError as error:
            self.drops[f"answer: {error.strerror}"] += 1

    def send_raw(self, packet: bytes) -> None:
        """A whole IPv4 packet from a raw socket; length, checksum, and an id or source of 0 are filled in (raw(7))."""
        if len(packet) < 20 or packet[0] >> 4 != 4 or (packet[0] & 15) * 4 not in range(20, len(packet) + 1):
            raise os_error(errno.EINVAL, "no IPv4 header")
        destination = packet[16:20]
        hop = self.host.route(destination)
        local = self.host.is_local(destination, "")
        if hop is None and not local:
            raise os_error(errno.ENETUNREACH)
        if packet[12:16] == bytes(4):
            packet = packet[:12] + self.source_to(destination) + packet[16:]
        packet = p.reheader(packet, ident=int.from_bytes(packet[4:6]) or self.ident())
        if local or hop is None:
            self.backlog.post(self.host.nic("lo").arrived, packet)
        elif len(packet) > hop.nic.mtu:
            raise os_error(errno.EMSGSIZE, f"{len(packet)} octets on {hop.nic.name}")
        else:
            hop.nic.send_ip(packet, hop.via)

    def send_udp(self, socket: UdpSocket, octets: bytes, destination: bytes, port: int) -> None:
        source = socket.local or self.source_to(destination, socket.vrf)
        if not source:
            raise os_error(errno.ENETUNREACH)
        datagram = p.build_udp(source, destination, socket.port, port, octets)
        if len(datagram) > 65515:
            raise os_error(errno.EMSGSIZE)
        self.send(p.build_ip(source, destination, p.UDP, datagram, ident=self.ident()), scope=socket.vrf)

    def send_datagram(self, door: MemoryDatagrams, octets: bytes, local: bytes, remote: bytes, port: int) -> None:
        """OSError: EINVAL (an address that is not ours), EMSGSIZE, ENETUNREACH."""
        if local and not self.host.is_local(local, door.vrf):
            raise os_error(errno.EINVAL, "not an address of this host")
        source = local or self.source_to(remote, door.vrf)
        if not source:
            raise os_error(errno.ENETUNREACH)
        datagram = p.build_udp(source, remote, door.port, port, octets)
        if len(datagram) > 65515:
            raise os_error(errno.EMSGSIZE)
        self.send(p.build_ip(source, remote, p.UDP, datagram, ident=self.ident()), scope=door.vrf)

    # --- forward ---

    def _forward(self, ip: p.Ip, nic: Nic) -> None:
        if ip.ttl <= 1:
            self.drops["time exceeded"] += 1
            self.complain(ip, nic, p.Trouble.TIME)
            return
        hop = self.host.route(ip.destination)
        if hop is None or hop.nic.scope:
            self.drops["no route"] += 1
            self.complain(ip, nic, p.Trouble.NO_ROUTE)
            return
        nat, onwards = self.nat, ip
        if nat is not None and ip.is_v4 and (nic.name, hop.nic.name) == (nat.inside, nat.outside):
            translated = self._outwards(nat, ip, nic)
            if translated is None:
                return
            onwards = translated
        packet = p.one_hop_less(onwards)
        if len(packet) <= hop.nic.mtu:
            hop.nic.send_ip(packet, hop.via)
        elif ip.is_v4 and not ip.df:
            for piece in p.fragments(packet, hop.nic.mtu, onwards.ident):
                hop.nic.send_ip(piece, hop.via)
        else:
            self.drops["too big"] += 1
            self.complain(ip, nic, p.Trouble.TOO_BIG, hop.nic.mtu)

    def _outwards(self, nat: Translator, ip: p.Ip, nic: Nic) -> p.Ip | None:
        """Through the NAT, put together first: only the first piece of a datagram says its ports."""
        if ip.more or ip.offset:
            whole = p.parse_ip(self._pieces.add(ip, nic.scope, asyncio.get_running_loop().time()) or b"")
            if whole is None:
                return None
            ip = whole
        return p.parse_ip(nat.outwards(ip))

    def complain(self, ip: p.Ip, nic: Nic, trouble: p.Trouble, mtu: int = 0) -> None:
        """An ICMP error about what came in by `nic`, unless RFC 1122 3.2.2 or RFC 4443 2.4 (e) forbid it."""
        icmp = p.ICMP if ip.is_v4 else p.ICMPV6
        is_error = ip.protocol == icmp and (p.read_trouble(ip) is not None if len(ip.payload) >= 8 else True)
        if is_error or ip.offset or not any(ip.source) or p.multicast(ip.destination):
            return
        source = self.host.source_for(nic, ip.source)
        if ip.destination != source and self.host.is_local(ip.destination, nic.scope):
            source = ip.destination
        if source:
            self.answer(source, ip.source, icmp, p.build_trouble(source, ip, trouble, mtu), nic.scope)

    def open_udp(self, vrf: str, local: bytes, port: int) -> UdpSocket:
        """OSError: EADDRINUSE, EADDRNOTAVAIL. Port 0: the host chooses."""
        if len(self.sockets) >= _SOCKETS:
            raise os_error(errno.ENFILE)
        if local and not self.host.is_local(local, vrf):
            raise os_error(errno.EADDRNOTAVAIL)
        used = {socket.port for socket in self.sockets if socket.vrf == vrf}
        used |= {door.port for door in self.doors if door.vrf == vrf}
        port = port or next(port for port in range(49152, 65536) if port not in used)
        clash = any(
            (socket.vrf, socket.port) == (vrf, port) and (not local or socket.local in (b"", local))
            for socket in self.sockets
        ) or any((door.vrf, door.port) == (vrf, port) for door in self.doors)
        if clash:
            raise os_error(errno.EADDRINUSE)
        socket = UdpSocket(vrf, local, port, self.send_udp, self.sockets.remove)
        self.sockets.append(socket)
        return socket

    def open_datagrams(self, port: int, *, marked: bool, bound: int, vrf: str = "") -> MemoryDatagrams:
        """OSError: EADDRINUSE, EINVAL, ENODEV."""
        if not 0 < port < 65536:
            raise os_error(errno.EINVAL, f"UDP port {port}")
        if vrf and self.host.scope_nic(vrf) is None:
            raise os_error(errno.ENODEV, f"VRF {vrf} has no host port (yet)")
        if any((door.vrf, door.port) == (vrf, port) for door in self.doors) or any(
            (socket.vrf, socket.port) == (vrf, port) for socket in self.sockets
        ):
            raise os_error(errno.EADDRINUSE, f"UDP port {port}")
        door = MemoryDatagrams(port, marked, self.send_datagram, self.doors.remove, bound, vrf)
        self.doors.append(door)
        return door
