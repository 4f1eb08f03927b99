"""TCP of an in-memory node: connections by their four addresses and VRF, listeners, what belongs to nobody."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

from attrs import define, evolve, field

from stack.addr import Prefix
from stack.net import TcpOptions
from stack.testing import _packets as p
from stack.testing._ip import IpStack
from stack.testing._port import os_error
from stack.testing._tcp import State, TcpConnection

__all__ = ["MemoryListener", "TcpHost"]

_CONNECTIONS = 4096
_HALF_OPEN_EACH = 128
_FIRST_PORT, _PORTS = 32768, 28232

Key = tuple[str, bytes, int, bytes, int]


@define(eq=False)
class MemoryListener:
    """`stack.net.Listener`. Closing it ends the handshakes under way, not the connections."""

    host: TcpHost = field(repr=False)
    factory: Callable[[], asyncio.BaseProtocol]
    options: TcpOptions
    keyless: Mapping[Prefix, str] = field(factory=dict)

    def close(self) -> None:
        self.host.unlisten(self)

    def matches(self, ip: p.Ip, vrf: str, port: int) -> int:
        """0: not for this listener; else the larger the closer."""
        o = self.options
        if (o.vrf, o.port) != (vrf, port) or o.local not in (b"", ip.destination) or o.remote not in (b"", ip.source):
            return 0
        return 1 + bool(o.local) + 2 * bool(o.remote)

    def towards(self, ip: p.Ip) -> TcpOptions:
        """The rules for who sent this: what holds for all, and what `keys` and `hops` say of it."""
        o = self.options
        md5, least = _rule(o.keys, ip.source, o.md5), _rule(o.hops, ip.source, o.min_ttl)
        return evolve(o, local=ip.destination, remote=ip.source, md5=md5, min_ttl=least, keys=(), hops=())


T = TypeVar("T", bytes, int)


def _rule(rules: tuple[tuple[Prefix, T], ...], source: bytes, else_: T) -> T:
    """What the most specific of `rules` that covers `source` says."""
    covering = [(prefix.length, value) for prefix, value in rules if prefix.covers(source)]
    return max(covering, key=lambda rule: rule[0])[1] if covering else else_


@define(eq=False)
class TcpHost:
    """`drops` counts segments that were not taken, by reason."""

    ip: IpStack = field(repr=False)
    entropy: Callable[[int], bytes]
    drops: Counter[str] = field(factory=Counter, init=False)
    connections: dict[Key, TcpConnection] = field(factory=dict, init=False)
    _listeners: list[MemoryListener] = field(factory=list, init=False)
    _port: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ip.tcp_input = self.arrived
        self.ip.tcp_trouble = self.trouble
        self._port = int.from_bytes(self.entropy(2)) % _PORTS

    # --- opening ---

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], options: TcpOptions
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        if len(options.remote) not in (4, 16):
            raise os_error(errno.EINVAL, "no remote address")
        self._check_local(options)
        local = options.local or self.ip.source_to(options.remote, options.vrf)
        if not local:
            raise os_error(errno.ENETUNREACH)
        options = evolve(options, local=local)
        opened = asyncio.get_running_loop().create_future()
        connection = self._open(factory, options, self._free_port(options), options.port, State.SYN_SENT, opened=opened)
        try:
            await opened
        except BaseException:
            connection.abort()
            raise
        protocol = connection.get_protocol()
        assert isinstance(protocol, asyncio.Protocol)
        return connection, protocol

    def listen(self, factory: Callable[[], asyncio.Protocol], options: TcpOptions) -> MemoryListener:
        self._check_local(options)
        same = (options.vrf, options.local, options.remote, options.port)
        if any(same == (o.vrf, o.local, o.remote, o.port) for o in (each.options for each in self._listeners)):
            raise os_error(errno.EADDRINUSE, f"TCP port {options.port}")
        listener = MemoryListener(self, factory, options)
        self._listeners.append(listener)
        return listener

    def unlisten(self, listener: MemoryListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
            for connection in self._half_open(listener):
                connection.end(None)

    def _half_open(self, listener: MemoryListener) -> list[TcpConnection]:
        return [
            each
            for each in self.connections.values()
            if each.state is State.SYN_RCVD and each.factory is listener.factory
        ]

    def _check_local(self, options: TcpOptions) -> None:
        if options.vrf and self.ip.host.scope_nic(options.vrf) is None:
            raise os_error(errno.ENODEV, f"no host port in VRF {options.vrf}")
        if options.local and not self.ip.host.is_local(options.local, options.vrf):
            raise os_error(errno.EADDRNOTAVAIL)

    def _free_port(self, options: TcpOptions) -> int:
        for _ in range(_PORTS):
            self._port = (self._port + 1) % _PORTS
            sport = _FIRST_PORT + self._port
            if (options.vrf, options.local, sport, options.remote, options.port) not in self.connections:
                return sport
        raise os_error(errno.EADDRNOTAVAIL, "no free port")

    def _open(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        options: TcpOptions,
        sport: int,
        dport: int,
        state: State,
        *,
        rcv: int = 0,
        mss: int = 65535,
        opened: asyncio.Future[None] | None = None,
    ) -> TcpConnection:
        if len(self.connections) >= _CONNECTIONS:
            raise os_error(errno.ENFILE, "TCP connections")
        mss = min(mss, self.own_mss(options))
        isn = int.from_bytes(self.entropy(4))
        connection = TcpConnection(options, sport, dport, factory, self, mss, isn, state, rcv, opened)
        self.connections[connection.key] = connection
        return connection

    # --- what a connection asks ---

    def own_mss(self, options: TcpOptions) -> int:
        return min(65535, self.ip.mtu_to(options.remote, options.vrf)) - (40 if len(options.remote) == 4 else 60)

    def ident(self) -> int:
        return self.ip.ident()

    def output(self, packet: bytes, connection: TcpConnection) -> None:
        """What cannot be sent now is lost: retransmission is for that."""
        try:
            self.ip.send(packet, scope=connection.options.vrf, df=True)
        except OSError as error:
            self.drops[f"not sent: {error.strerror}"] += 1
            if error.errno == errno.EMSGSIZE:
                asyncio.get_running_loop().call_soon(self._narrower, connection)

    def _narrower(self, connection: TcpConnection) -> None:
        connection.path_is_narrower(self.own_mss(connection.options))

    def forget(self, connection: TcpConnection) -> None:
        if self.connections.get(connection.key) is connection:
            del self.connections[connection.key]

    def refuse(self, options: TcpOptions, segment: p.Segment) -> None:
        """RFC 9293 3.5.2: RST to a segment that belongs to no connection."""
        if segment.flags & p.Flags.RST:
            return
        if segment.flags & p.Flags.ACK:
            seq, ack, flags = segment.ack, 0, p.Flags.RST
        else:
            length = len(segment.data) + bool(segment.flags & p.Flags.SYN) + bool(segment.flags & p.Flags.FIN)
            seq, ack, flags = 0, segment.seq + length & 0xFFFFFFFF, p.Flags.RST | p.Flags.ACK
        reset = p.Segment(segment.dport, segment.sport, seq, ack, flags, 0, 0, b"", b"")
        octets = p.build_tcp(options.local, options.remote, reset)
        self.ip.answer(options.local, options.remote, p.TCP, octets, options.vrf)

    # --- in ---

    def arrived(self, ip: p.Ip, scope: str) -> None:
        segment = p.parse_tcp(ip)
        if segment is None:
            self.drops["malformed"] += 1
            return
        key = (scope, ip.destination, segment.dport, ip.source, segment.sport)
        connection = self.connections.get(key)
        if connection is not None and connection.state is State.TIME_WAIT and segment.flags & p.Flags.SYN:
            connection.finish()  # RFC 9293 3.6.1: a new life of the same four addresses
            connection = None
        if connection is None:
            self._stranger(ip, scope, segment)
        elif not p.signed_with(ip, segment, connection.options.md5):
            self.drops["MD5"] += 1
        else:
            connection.arrived(segment, ip)

    def _stranger(self, ip: p.Ip, scope: str, segment: p.Segment) -> None:
        listener = max(self._listeners, key=lambda each: each.matches(ip, scope, segment.dport), default=None)
        here = TcpOptions(vrf=scope, local=ip.destination, remote=ip.source)
        flags = segment.flags & (p.Flags.SYN | p.Flags.ACK | p.Flags.RST)
        if listener is None or not listener.matches(ip, scope, segment.dport) or flags & p.Flags.ACK:
            self.drops["no connection"] += 1
            self.refuse(here, segment)
        elif ip.ttl < (options := listener.towards(ip)).min_ttl:
            self.drops["GTSM"] += 1
        elif not p.signed_with(ip, segment, options.md5):
            self.drops["MD5"] += 1
        elif flags == p.Flags.SYN:
            self._accept(listener, options, segment)

    def _accept(self, listener: MemoryListener, options: TcpOptions, segment: p.Segment) -> None:
        if len(self._half_open(listener)) >= _HALF_OPEN_EACH:
            self.drops["half-open"] += 1
            return
        try:
            self._open(
                listener.factory,
                options,
                segment.dport,
                segment.sport,
                State.SYN_RCVD,
                rcv=segment.seq + 1,
                mss=segment.mss or 536,
            )
        except OSError as error:
            self.drops[f"not accepted: {error.strerror}"] += 1

    def trouble(self, about: p.Ip, scope: str, trouble: p.Trouble) -> None:
        """ICMP about a segment that this host sent."""
        ports = about.payload[:4]
        key = (scope, about.source, int.from_bytes(ports[:2]), about.destination, int.from_bytes(ports[2:]))
        connection = self.connections.get(key)
        if connection is None or len(about.payload) < 8:
            return
        seq = int.from_bytes(about.payload[4:8])
        if (seq - connection.una) & 0xFFFFFFFF > (connection.nxt - connection.una):
            self.drops["ICMP about another sequence"] += 1  # RFC 5927 4.1
        elif trouble is p.Trouble.TOO_BIG:
            self._narrower(connection)
        else:
            connection.trouble(trouble)
