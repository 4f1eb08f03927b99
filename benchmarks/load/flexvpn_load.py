"""Many FlexVPN spokes in one process, over real UDP, ESP and TCP: the load of benchmarks. Not a figure by itself.

A spoke is an IKE SA of ours (load/ikev2_load.py), AES-GCM around GRE by the hub's own raw ESP, and a scripted BGP session
(bgp.wire and nothing else) over the host's TCP: all of them share a TUN device that the hub's overlay address is behind, and
what leaves it goes into the tunnel of whoever has its source address. The host must have every overlay and transport address
itself (`prepare`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ikev2_load import Caller, Load, child_terms, psk_terms

from bgp.wire import (
    VPNV4,
    AsPath,
    Attributes,
    FourOctetAs,
    Keepalive,
    Multiprotocol,
    Notification,
    Open,
    RouteRefreshCapability,
    Session,
    Update,
    decode,
    encode,
    encode_updates,
    split,
    vpn_nlri,
)
from ikev2.wire.payloads import Attribute
from stack.addr import RD, RT, Prefix, format_address
from stack.os.network import OsNetwork
from tunnel.wire.esp import strip, trailer

__all__ = ["ASN", "VRFS", "Spokes", "nbma_of", "prefixes_of", "prepare"]

ASN = 100
VRFS = ("1:1", "2:2")
"""RD, and route target, of each."""
PER_VRF = 2
HOLD = 180
_ESP, _GRE_IP = 50, b"\0\0\x08\0"
_GRE_HEADER = 47
_ADDRESS, _NETMASK, _SUBNET = 1, 2, 13
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_SESSION = Session(ebgp=True)
_TUN = "ov0"
BEFORE_TCP = 0.05
"""Seconds from the last word of IKE to the first of TCP: what a spoke needs for its own interface, the hub needs for its."""
_STUCK = 20.0
"""Seconds without anybody being done after which it is given up."""


def nbma_of(number: int) -> bytes:
    return bytes((10, 64, *(number + 256).to_bytes(2)))


def prefixes_of(number: int) -> list[Prefix]:
    """Different in every spoke; its VRFs have the same."""
    first = (11 << 24) + number * 512
    return [Prefix((first + 256 * one).to_bytes(4), 24) for one in range(PER_VRF)]


def prepare(overlay: str) -> None:
    """Once in the namespace of the spokes."""
    for prefix in ("10.64.0.0/16", overlay):
        subprocess.run(["ip", "route", "add", "local", prefix, "dev", "lo"], check=True)


def _tun(behind: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("=16sH22x", _TUN.encode(), _IFF_TUN | _IFF_NO_PI))
    subprocess.run(["ip", "link", "set", _TUN, "up", "mtu", "1400", "txqueuelen", "10000"], check=True)
    subprocess.run(["ip", "route", "add", behind, "dev", _TUN], check=True)
    return fd


class Bgp(asyncio.Protocol):
    """One session. `routes`: prefixes that the hub has announced and not withdrawn."""

    def __init__(self, spoke: Spoke) -> None:
        self.spoke = spoke
        self.routes: set[bytes] = set()
        self.updates = 0
        self.labels: dict[bytes, int] = {}
        self.over = ""
        self.transport: Any = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        capabilities = (Multiprotocol(VPNV4), RouteRefreshCapability(), FourOctetAs(ASN))
        self._send(Open(ASN, HOLD, self.spoke.overlay, capabilities))

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = self.over or str(exc or "closed")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (size := split(self._buffer, _SESSION)) is not None:
            message = decode(bytes(self._buffer[:size]), _SESSION)
            del self._buffer[:size]
            if isinstance(message, Open):
                self.keepalive()
                self._announce()
            elif isinstance(message, Update):
                self._heard(message)
            elif isinstance(message, Notification):
                self.over = str(message)

    def _heard(self, update: Update) -> None:
        self.updates += 1
        for unreach in update.unreach:
            self.routes -= {route.key for route in unreach.routes}
        for reach in update.reach:
            self.routes |= {route.key for route in reach.routes}

    def _announce(self) -> None:
        spoke = self.spoke
        for place, text in enumerate(VRFS):
            attributes = Attributes.of(origin=0, as_path=AsPath.of(ASN), ext_communities=[bytes(RT.parse(text))], med=0)
            routes = [
                vpn_nlri(RD.parse(text), prefix, (16 + place * PER_VRF + at,))
                for at, prefix in enumerate(prefixes_of(spoke.number))
            ]
            self._write(encode_updates(VPNV4, attributes, spoke.overlay, routes, _SESSION).messages)

    def keepalive(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self._send(Keepalive())

    def leave(self) -> None:
        """Cease, administrative shutdown; and the connection goes."""
        if self.transport is not None and not self.transport.is_closing():
            self._send(Notification(6, 2, b""))
            self.transport.close()

    def _send(self, message: Any) -> None:
        self.transport.write(encode(message, _SESSION))

    def _write(self, messages: list[bytes]) -> None:
        for octets in messages:
            self.transport.write(octets)


@define(eq=False)
class Spoke:
    number: int
    caller: Caller
    overlay: bytes = b""
    bgp: Bgp | None = None
    seal: Any = None
    sequence: int = 0
    openers: dict[int, tuple[Any, bytes]] = field(factory=dict)

    def state(self) -> str:
        """For people."""
        bgp = "" if self.bgp is None else f"{len(self.bgp.routes)} routes, {self.bgp.updates} updates, {self.bgp.over}"
        return f"{self.number}: {self.caller.sa}, {format_address(self.overlay) if self.overlay else '-'}, {bgp}"

    def converged(self, routes: int) -> bool:
        return self.bgp is not None and len(self.bgp.routes) >= routes


@define(eq=False)
class Spokes:
    """`hub`: its transport address; `peer`: its overlay address. At most `window` of them come, or go, at once. `routes`: how
    many each has to hear before it is counted as there."""

    hub: bytes
    peer: bytes
    window: int
    key: bytes
    routes: int
    load: Load = field(init=False)
    spokes: list[Spoke] = field(factory=list)
    lost: int = 0
    """Packets for which there was no SA, or that it did not open."""
    _by_overlay: dict[bytes, Spoke] = field(factory=dict)
    _by_spi: dict[int, Spoke] = field(factory=dict)
    _tun: int = -1
    _esp: socket.socket = field(init=False)
    _keep: asyncio.Task[None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.load = Load(OsNetwork())

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tun = _tun(f"{format_address(self.peer)}/32")
        self._esp = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _ESP)
        self._esp.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
            self._esp.setsockopt(socket.SOL_SOCKET, option, 16 << 20)
        loop.add_reader(self._tun, self._outward)
        loop.add_reader(self._esp.fileno(), self._inward)
        for port in self.load._ports.values():
            loop.add_reader(port.socket.fileno(), lambda: self.load.turn(0))
        self._keep = loop.create_task(self._alive())

    async def _alive(self) -> None:
        spoken = time.monotonic()
        while True:
            self.load.turn(0)
            if time.monotonic() - spoken > HOLD / 3:
                spoken = time.monotonic()
                for spoke in self.spokes:
                    if spoke.bgp is not None:
                        spoke.bgp.keepalive()
            await asyncio.sleep(0.05)

    # --- packets ----------------------------------------------------------------------------------------------------------

    def _outward(self) -> None:
        """From the host's TCP into the tunnel of whoever speaks."""
        for _ in range(64):
            try:
                packet = os.read(self._tun, 2048)
            except BlockingIOError:
                return
            spoke = self._by_overlay.get(packet[12:16]) if packet[0] >> 4 == 4 else None
            if spoke is None:
                continue
            self._send(spoke, packet)

    def _send(self, spoke: Spoke, packet: bytes) -> None:
        sa = spoke.caller.outbound
        if sa is None:
            self.lost += 1
            return
        spoke.sequence += 1
        plain = _GRE_IP + packet
        plain += trailer(len(plain), 4, _GRE_HEADER)
        low, iv = spoke.sequence & 0xFFFFFFFF, spoke.sequence.to_bytes(8)
        aad = sa.spi.to_bytes(4) + ((spoke.sequence >> 32).to_bytes(4) if sa.esn else b"") + low.to_bytes(4)
        octets = spoke.seal.encrypt(sa.salt + iv, plain, aad)
        head = bytes((0x45, 0, 0, 0, 0, 0, 0, 0, 255, _ESP, 0, 0)) + sa.local + sa.remote
        try:
            self._esp.sendto(head + sa.spi.to_bytes(4) + low.to_bytes(4) + iv + octets, (format_address(sa.remote), 0))
        except BlockingIOError:
            self.lost += 1

    def _inward(self) -> None:
        for _ in range(64):
            try:
                packet = self._esp.recv(2048)
            except BlockingIOError:
                return
            spoke = self._by_spi.get(int.from_bytes(packet[20:24]))
            if spoke is None:
                self.lost += 1
                continue
            sa = spoke.caller.inbound.get(int.from_bytes(packet[20:24]))
            if sa is None:
                self.lost += 1
                continue
            aad = packet[20:24] + (bytes(4) if sa.esn else b"") + packet[24:28]
            opener = spoke.openers.get(sa.spi)
            if opener is None:
                opener = spoke.openers[sa.spi] = AESGCM(sa.encryption), sa.salt
            plain = strip(opener[0].decrypt(opener[1] + packet[28:36], packet[36:], aad)).payload
            if plain[:4] == _GRE_IP:
                try:
                    os.write(self._tun, plain[4:])
                except OSError:
                    self.lost += 1

    # --- what is asked of them ----------------------------------------------------------------------------------------------

    async def up(self, count: int) -> None:
        """`count` more, until each has its tunnel, its session and the hub's routes."""
        first = len(self.spokes)
        await self._each(range(first, first + count), self._call, self._came)

    def _call(self, number: int) -> Spoke:
        request = tuple(Attribute(kind) for kind in (_ADDRESS, _NETMASK, _SUBNET))
        terms = psk_terms(f"n{number}.spokes.example", self.key, request=request, known_contact=False)
        own = nbma_of(number)
        spoke = Spoke(number, self.load.call(own, self.hub, terms, child_terms(own, self.hub)))
        self.spokes.append(spoke)
        return spoke

    def _came(self, spoke: Spoke) -> bool:
        caller = spoke.caller
        assert not caller.closed, caller.closed
        assert not caller.refused, caller.refused
        if not caller.up:
            return False
        if not spoke.overlay:
            spoke.overlay = next(bytes(one.octets[:4]) for one in caller.configured if one.kind == _ADDRESS)
            spoke.seal = AESGCM(caller.outbound.encryption)
            self._by_overlay[spoke.overlay] = spoke
            self._by_spi.update(dict.fromkeys(caller.inbound, spoke))
            asyncio.get_running_loop().create_task(self._connect(spoke))
        assert spoke.bgp is None or not spoke.bgp.over, spoke.bgp.over
        return spoke.converged(self.routes)

    async def _connect(self, spoke: Spoke) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.bind((format_address(spoke.overlay), 0))
        await asyncio.sleep(BEFORE_TCP)
        loop = asyncio.get_running_loop()
        for _ in range(5):
            try:
                await asyncio.wait_for(loop.sock_connect(sock, (format_address(self.peer), 179)), 10)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.2)
        spoke.bgp = Bgp(spoke)
        await loop.create_connection(lambda: spoke.bgp, sock=sock)  # type: ignore[arg-type,return-value]  # set above

    async def down(self, words: str = "") -> None:
        """All of them. `abrupt`: their BGP says nothing, the SAs just go."""
        if words != "abrupt":
            for spoke in self.spokes:
                if spoke.bgp is not None:
                    spoke.bgp.leave()
            await asyncio.sleep(0.5)
        await self._each(list(self.spokes), self._close, lambda spoke: spoke.caller.closed is not None)
        for spoke in self.spokes:
            if spoke.bgp is not None and spoke.bgp.transport is not None:
                spoke.bgp.transport.abort()
        self.spokes.clear()
        self._by_overlay.clear()
        self._by_spi.clear()

    def _close(self, spoke: Spoke) -> Spoke:
        self.load.close(spoke.caller)
        return spoke

    async def _each(self, things: Any, begin: Callable[[Any], Spoke], done: Callable[[Spoke], bool]) -> None:
        waiting, under_way, moved = deque(things), list[Spoke](), time.monotonic()
        while waiting or under_way:
            while waiting and len(under_way) < self.window:
                under_way.append(begin(waiting.popleft()))
            await asyncio.sleep(0.002)
            left = [spoke for spoke in under_way if not done(spoke)]
            now = time.monotonic()
            moved = now if len(left) < len(under_way) else moved
            under_way = left
            assert now - moved < _STUCK, f"{len(under_way)} spokes wait and nothing happens: {under_way[0].state()}"

    def heard(self) -> Iterator[int]:
        """How many routes each has."""
        return (len(spoke.bgp.routes) for spoke in self.spokes if spoke.bgp is not None)

    async def all_heard(self, routes: int) -> None:
        """Until each has so many routes."""
        end = time.monotonic() + 600
        while min(self.heard(), default=routes) < routes:
            assert time.monotonic() < end, f"some spokes have heard {min(self.heard())} routes of {routes}"
            await asyncio.sleep(0.05)
