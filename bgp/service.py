"""The shell around the BGP speaker: TCP, the bus and one timer. Everything that is BGP is in `bgp.engine`.

A node runs it through SERVICE. It also runs alone, as a route reflector or a monitor inside another program:

    service = BgpService(config, bus=bus, network=network)
    await service.run()

A connection that the engine ends is closed in order: the NOTIFICATION goes out, then FIN, and what still comes is read and
thrown away until the peer closes too, since closing with octets unread would make the kernel send a reset that may
overtake the NOTIFICATION.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, assert_never, cast

from attrs import define

from bgp.checks import CHECKS
from bgp.config import BgpConfig
from bgp.engine.outputs import (
    Close,
    Connect,
    Listen,
    Log,
    Output,
    PauseReading,
    Post,
    Publish,
    ResumeReading,
    Send,
    SetTtl,
    SyncedOut,
    Unlisten,
)
from bgp.engine.rib import Ribs
from bgp.engine.speaker import Speaker, SpeakerSnapshot
from bgp.events import PeerDown, PeerUp
from bgp.lines import LINES
from bgp.show import COMMANDS
from bgp.show.samples import samples
from stack.addr import parse_address, unmap_v4
from stack.bus import Bus, Message
from stack.clock import Clock, OsClock
from stack.entropy import Entropy, OsEntropy
from stack.events import (
    EndpointOffered,
    HostPortState,
    InterfaceState,
    LabelBound,
    LabelWanted,
    NextHopState,
    NextHopWanted,
    OverlayState,
    PolicyState,
    ProfileState,
    RouteOffered,
    RouteSelected,
    SourceOffered,
    VrfState,
)
from stack.net import Listener, Network, TcpOptions
from stack.registry import ServiceSpec
from stack.service import Context, ServiceShell

__all__ = ["SERVICE", "BgpService"]

PRODUCES: frozenset[Any] = frozenset(
    {RouteOffered, EndpointOffered, SourceOffered, LabelWanted, NextHopWanted, PeerUp, PeerDown}
)
CONSUMES: frozenset[Any] = frozenset(
    {
        RouteSelected,
        LabelBound,
        NextHopState,
        VrfState,
        PolicyState,
        ProfileState,
        InterfaceState,
        HostPortState,
        OverlayState,
    }
)

WRITE_HIGH_WATER, WRITE_LOW_WATER = 256 * 1024, 64 * 1024
"""Octets that wait in one connection: above the first it gets no more routes, below the second it does again."""

LINGER = 2.0
"""Seconds that a closed connection has to bring out its last words, and the peer to close its end."""

_IP_MINTTL, _IPV6_MINHOPCOUNT = 21, 73


class _Connection(asyncio.Protocol):
    """One TCP connection. `number` is the engine's; 0: the engine knows it no longer, or not yet."""

    def __init__(self, service: BgpService, vrf: str, number: int = 0) -> None:
        self.vrf, self.number = vrf, number
        self.transport: asyncio.Transport | None = None
        self.linger: asyncio.TimerHandle | None = None
        self._service = service

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of asyncio's
        self._service.made(self)

    def data_received(self, data: bytes) -> None:
        if self.number:
            self._service.octets(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.lost(self, exc)

    def pause_writing(self) -> None:
        if self.number:
            self._service.choked(self, blocked=True)

    def resume_writing(self) -> None:
        if self.number:
            self._service.choked(self, blocked=False)


@define(eq=False)
class _Listening:
    """What was asked for in one VRF; `socket` once it is there."""

    wanted: Listen
    task: asyncio.Task[None] | None = None
    socket: Listener | None = None

    def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
        if self.socket is not None:
            self.socket.close()


class BgpService(ServiceShell):
    """`bgp`. In a node it is given its `context`; without one it stands alone, on the bus and network that it is given, and
    then every next hop counts as reachable and `config` must name a router id."""

    name = "bgp"
    produces = PRODUCES
    consumes = CONSUMES

    def __init__(
        self,
        config: BgpConfig,
        context: Context | None = None,
        *,
        bus: Bus | None = None,
        network: Network | None = None,
        clock: Clock | None = None,
        entropy: Entropy = OsEntropy,
    ) -> None:
        standalone = context is None
        if context is None:
            if bus is None or network is None:
                raise TypeError("BgpService needs a context, or a bus and a network")
            context = Context(bus=bus, network=network, clock=clock or OsClock(), entropy=entropy)
        super().__init__(context)
        restarted = context.incarnation > 1
        lfib = context.tables.lfib.rows.values() if restarted else ()
        stood = {row.fec: row.scope for row in lfib if row.fec is not None}
        self.ribs = Ribs(config, context.entropy, resolve=not standalone, restarted=restarted, stood=stood)
        self.speaker = Speaker(config, context.entropy, self.ribs, standalone=standalone, restarted=restarted)
        self._connections: dict[int, _Connection] = {}
        self._dialling: dict[int, asyncio.Task[None]] = {}
        self._lingering: set[_Connection] = set()
        self._listening: dict[str, _Listening] = {}
        self._quiet = asyncio.Event()
        self.made = self.guarded(self._made)
        self.octets = self.guarded(self._octets)
        self.lost = self.guarded(self._lost)
        self.choked = self.guarded(self._choked)

    # --- the shell ------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        self._perform(self.speaker.start(self.now))
        self.seat.subscribe(*CONSUMES)

    def receive(self, message: Message) -> None:
        self._perform(self.speaker.receive(message, self.now))

    def wake(self) -> None:
        self._perform(self.speaker.wake(self.now))

    def deadline(self) -> float | None:
        return self.speaker.deadline()

    async def drain(self) -> None:
        """Cease to all peers (RFC 4486, Administrative Shutdown), and time for it to get out."""
        self._perform(self.speaker.stop(self.now))
        if self._lingering:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), LINGER)

    def close(self) -> None:
        for listening in self._listening.values():
            listening.close()
        for connection in (*self._connections.values(), *self._lingering):
            connection.number = 0
            if connection.linger is not None:
                connection.linger.cancel()
            if connection.transport is not None:
                connection.transport.abort()
        self._listening.clear()
        self._connections.clear()
        self._lingering.clear()

    def reconfigure(self, config: BgpConfig) -> None:
        """Sessions that the change does not touch stay."""
        self._perform(self.speaker.reconfigure(config, self.now))
        self.rearm()

    # --- operators ------------------------------------------------------------------------------------------------

    def snapshot(self) -> SpeakerSnapshot:
        return self.speaker.snapshot()

    def clear(
        self,
        target: bytes | int | None = None,
        *,
        soft: bool = False,
        direction: str = "both",
        vrf: str | None = None,
    ) -> int:
        """`clear ip bgp [* | ADDRESS | AS] [soft [in | out]]`: how many peers it meant. `target` None: all of them."""
        keys = self.speaker.matching(target, vrf)
        if soft:
            self._perform(self.speaker.soft(keys, direction, self.now))
        else:
            self._perform(self.speaker.clear(keys, self.now))
        self.rearm()
        return len(keys)

    # --- connections ----------------------------------------------------------------------------------------------

    async def _dial(self, connect: Connect) -> None:
        number = connect.connection
        options = TcpOptions(
            vrf=connect.vrf,
            local=connect.local,
            remote=connect.remote,
            port=connect.port,
            ttl=connect.ttl,
            min_ttl=connect.min_ttl,
            md5=connect.password,
        )
        try:
            await self.context.network.connect_tcp(lambda: _Connection(self, connect.vrf, number), options)
        except OSError as error:
            if self._dialling.pop(number, None) is not None:
                self._perform(self.speaker.tcp_failed(number, _why(error), self.now))
                self.rearm()

    def _made(self, connection: _Connection) -> None:
        transport = connection.transport
        assert transport is not None
        local, remote = _end(transport, "sockname"), _end(transport, "peername")
        if local is None or remote is None or self._stopping or self._keyless(connection, remote):
            connection.number = 0
            transport.abort()
            return
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER, low=WRITE_LOW_WATER)
        if connection.number:
            if self._dialling.pop(connection.number, None) is None:
                connection.number = 0
                transport.abort()
                return
            self._connections[connection.number] = connection
            self._perform(self.speaker.tcp_connected(connection.number, local, remote, self.now))
        else:
            connection.number = self.speaker.number()
            self._connections[connection.number] = connection
            self._perform(self.speaker.accepted(connection.number, connection.vrf, local, remote, self.now))
        self.rearm()

    def _keyless(self, connection: _Connection, remote: bytes) -> bool:
        """Whether who connected should have proven who it is, and could not be asked to."""
        listening = None if connection.number else self._listening.get(connection.vrf)
        if listening is None:
            return False
        ear = listening.socket
        # Who comes before it is known whose keys were taken may come again.
        keyless = dict(listening.wanted.keys) if ear is None else ear.keyless
        return any(prefix.covers(remote) for prefix in keyless)

    def _octets(self, connection: _Connection, octets: bytes) -> None:
        self._perform(self.speaker.octets(connection.number, octets, self.now))
        self.rearm()

    def _lost(self, connection: _Connection, error: Exception | None) -> None:
        number, connection.number = connection.number, 0
        if connection.linger is not None:
            connection.linger.cancel()
        self._lingering.discard(connection)
        if not self._lingering:
            self._quiet.set()
        if number:
            del self._connections[number]
            reason = _why(error) if error is not None else "closed by the other end"
            self._perform(self.speaker.tcp_closed(number, reason, self.now))
            self.rearm()

    def _choked(self, connection: _Connection, *, blocked: bool) -> None:
        tell = self.speaker.blocked if blocked else self.speaker.writable
        self._perform(tell(connection.number, self.now))
        self.rearm()

    def _hang_up(self, number: int, *, abort: bool) -> None:
        task = self._dialling.pop(number, None)
        if task is not None:
            task.cancel()
        connection = self._connections.pop(number, None)
        if connection is None or connection.transport is None:
            return
        connection.number = 0
        transport = connection.transport
        if abort or transport.is_closing() or not transport.can_write_eof():
            transport.abort()
            return
        if not transport.is_reading():
            transport.resume_reading()
        with contextlib.suppress(OSError):
            transport.write_eof()
        self._quiet.clear()
        self._lingering.add(connection)
        connection.linger = asyncio.get_running_loop().call_later(LINGER, transport.abort)

    # --- listening ------------------------------------------------------------------------------------------------

    def _listen(self, wanted: Listen) -> None:
        self._unlisten(wanted.vrf)
        listening = self._listening[wanted.vrf] = _Listening(wanted)
        listening.task = self.spawn(self._open(listening), f"listen {wanted.vrf or 'default'}")

    def _unlisten(self, vrf: str) -> None:
        listening = self._listening.pop(vrf, None)
        if listening is not None:
            listening.close()

    async def _open(self, listening: _Listening) -> None:
        wanted = listening.wanted
        # RFC 5082 3: with GTSM even SYN-ACK must leave with 255, before it is known who connects.
        options = TcpOptions(
            vrf=wanted.vrf,
            local=wanted.address,
            port=wanted.port,
            ttl=255,
            min_ttl=wanted.min_ttl,
            keys=wanted.keys,
            hops=wanted.hops,
        )
        try:
            listening.socket = await self.context.network.listen_tcp(lambda: _Connection(self, wanted.vrf), options)
            for prefix, reason in listening.socket.keyless.items():
                self.log.error("not listening to a neighbor", neighbor=str(prefix), reason=reason)
        except OSError as error:
            if self._listening.get(wanted.vrf) is listening:
                self._unlisten(wanted.vrf)
                self._perform(self.speaker.listen_failed(wanted.vrf, _why(error), self.now))
                self.rearm()
        finally:
            listening.task = None

    # --- outputs --------------------------------------------------------------------------------------------------

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send(number, octets):
                    connection = self._connections.get(number)
                    if connection is not None and connection.transport is not None:
                        connection.transport.write(octets)
                case Publish(topic, table, rows):
                    self.seat.publish(topic, rows, table)
                case SyncedOut(topic):
                    self.seat.synced(topic)
                case Post(fact):
                    self.seat.post(fact)
                case Log(level, event, fields):
                    getattr(self.log, level)(event, **fields)
                case Connect():
                    self._dialling[output.connection] = self.spawn(self._dial(output), "connect")
                case Close(number, abort):
                    self._hang_up(number, abort=abort)
                case SetTtl():
                    self._set_ttl(output)
                case PauseReading(number) | ResumeReading(number):
                    self._set_reading(number, on=isinstance(output, ResumeReading))
                case Listen():
                    self._listen(output)
                case Unlisten():
                    self._unlisten(output.vrf)
                case _:
                    assert_never(output)

    def _set_reading(self, number: int, *, on: bool) -> None:
        connection = self._connections.get(number)
        if connection is not None and connection.transport is not None and not connection.transport.is_closing():
            if on and not connection.transport.is_reading():
                connection.transport.resume_reading()
            elif not on and connection.transport.is_reading():
                connection.transport.pause_reading()

    def _set_ttl(self, rule: SetTtl) -> None:
        connection = self._connections.get(rule.connection)
        sock: Any = connection.transport.get_extra_info("socket") if connection and connection.transport else None
        if sock is None:
            return
        try:
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, rule.ttl)
                sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, rule.min_ttl)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, rule.ttl)
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, rule.min_ttl)
        except OSError as error:
            self.log.warning("cannot set a connection's TTL", reason=_why(error))
            assert connection is not None
            assert connection.transport is not None
            connection.transport.abort()


def _end(transport: asyncio.Transport, which: str) -> bytes | None:
    """One end of a connection as octets; None if it is gone already."""
    name = transport.get_extra_info(which)
    if not name:
        return None
    return unmap_v4(parse_address(str(name[0]).partition("%")[0]))


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


SERVICE = ServiceSpec(
    name="bgp",
    factory=BgpService,
    config=BgpConfig,
    produces=PRODUCES,
    consumes=CONSUMES,
    optional=frozenset({LabelBound, ProfileState, HostPortState, OverlayState}),
    lines=LINES,
    checks=CHECKS,
    samples=lambda service: samples(service.snapshot()),
    commands=COMMANDS,
    rank=60,
)
