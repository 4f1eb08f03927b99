"""The shell around the tunnel engine: bus, host and tables. The packets themselves are the forwarder's (tunnel.io)."""

from __future__ import annotations

import asyncio
from typing import Any, assert_never

from stack.bus import Message
from stack.events import (
    AccessWanted,
    AddressOffered,
    AdjacencyState,
    AdjacencyWanted,
    BindingOffered,
    EndpointOffered,
    Fact,
    HostPortState,
    InterfaceOffered,
    InterfaceState,
    LabelWanted,
    LinkState,
    NeighbourPacket,
    NeighbourUnresolved,
    NextHopState,
    NextHopWanted,
    ProfileState,
    RouteOffered,
    RouteSelected,
    SaState,
    SaWanted,
    SendNeighbourPacket,
    SourceOffered,
    Topic,
    TunnelProtected,
    TunnelState,
    VrfState,
)
from stack.registry import ServiceSpec
from stack.service import Context, ServiceShell
from tunnel.checks import CHECKS
from tunnel.config import TunnelConfig, system_route_maps
from tunnel.engine.engine import OWNER, Engine
from tunnel.engine.outputs import (
    DropAdjacency,
    DropReception,
    Log,
    Mirror,
    Output,
    Post,
    Publish,
    PutAdjacency,
    PutReception,
)
from tunnel.io.host import HostMirror
from tunnel.lines import LINES
from tunnel.show import COMMANDS

__all__ = ["SERVICE", "TunnelService"]

STATE: tuple[Topic[Any, Any], ...] = (
    InterfaceOffered,
    AddressOffered,
    LinkState,
    AdjacencyState,
    ProfileState,
    BindingOffered,
    LabelWanted,
    NextHopWanted,
    RouteOffered,
    TunnelProtected,
    TunnelState,
    SaWanted,
)
"""What is published as rows, in the order in which it is said to be complete."""

PRODUCES: frozenset[Topic[Any, Any] | type[Fact]] = frozenset({*STATE, SendNeighbourPacket})
INPUTS: tuple[Topic[Any, Any] | type[Fact], ...] = (
    InterfaceOffered,
    InterfaceState,
    VrfState,
    AccessWanted,
    SaState,
    SourceOffered,
    HostPortState,
    NextHopState,
    EndpointOffered,
    AdjacencyWanted,
    NeighbourUnresolved,
    NeighbourPacket,
    RouteSelected,
)
"""In the order in which they are asked for: a new incarnation hears all that adjacencies hang on in its first turn, before
the many routes."""

CONSUMES = frozenset(INPUTS)

ADOPT_WITHIN = 2.0
"""Seconds after a restart in which adjacencies of an earlier incarnation stand while clients tell us again what they want."""

READ_ROUTES_EVERY = 1.0
"""Seconds between two readings of the kernel's routes, at least: there may be 100,000."""

READ_ROUTES_PAUSE = 4
"""And as many times as long as a reading took, so that a host that changes all the time costs no more than its share."""


class TunnelService(ServiceShell):
    """`tunnel`: the control side of the data plane."""

    name = OWNER
    produces = PRODUCES
    consumes = CONSUMES

    def __init__(self, config: TunnelConfig, context: Context) -> None:
        super().__init__(context)
        tables = context.tables
        self.engine = Engine(config, context.entropy, tables.nexthops)
        self._adjacencies = tables.adjacencies.writer(self.name)
        self._receptions = tables.receptions.writer(self.name)
        self._adopt_until: float | None = self.now + ADOPT_WITHIN if context.incarnation > 1 else None
        self._told = self._adopt_until is None
        self._host: HostMirror = context.kept.setdefault(self.name, HostMirror(context.network.host, self.log))
        self._host.stale = True
        self._read_at: float | None = None
        self._may_read = 0.0
        self._turn: asyncio.Handle | None = None
        self._host.log, self._host.hold = self.log, self._adopt_until is not None

    async def begin(self) -> None:
        host = self.context.network.host
        host.watch(self.guarded(self._host_changed))
        self.engine.devices_changed(host.devices())
        self.seat.subscribe(*INPUTS)
        if self._adopt_until is None:
            self._host.sweep()
            self._settle()
            self._synced()
            return
        # What an earlier incarnation said still stands. Nothing is said before we were told what it was made of.
        for row in self.context.tables.adjacencies:
            self.engine.adopt(row)

    def receive(self, message: Message) -> None:
        self.engine.receive(message, self.now)

    def received(self) -> None:
        if self.engine.take_devices_told():
            self._perform(self.engine.kernel_routes_again())
            if self.engine.kernels_changed():
                self._read_routes()
        self._told = self._told or not len(self.seat.mailbox)
        self._settle()

    def wake(self) -> None:
        self._told = self._told or self.now >= (self._adopt_until or 0.0)
        self.engine.neighbours.wake(self.now)
        if self._read_at is not None and self.now >= self._read_at:
            self._read_routes()
        self._settle()
        if self._adopt_until is not None and self.now >= self._adopt_until:
            self._adopt_until = None
            self._adjacencies.keep_only(self.engine.adjacencies)
            self._receptions.keep_only(self.engine.receptions)
            self._host.hold = False
            self._host.apply(self.engine.host_state)
            self._work_on()
            self._synced()

    def deadline(self) -> float | None:
        times = [t for t in (self.engine.deadline(), self._adopt_until, self._read_at) if t is not None]
        return min(times, default=None)

    def reconfigure(self, config: Any) -> None:
        self.engine.reconfigure(config)
        self._settle()
        self.rearm()

    def close(self) -> None:
        self.context.network.host.watch(None)
        if self._turn is not None:
            self._turn.cancel()
        if self._stopping:
            self._host.close()

    def _synced(self) -> None:
        self.seat.synced(*STATE)

    def _host_changed(self) -> None:
        """Devices, addresses or routes of the host changed."""
        self.engine.devices_changed(self.context.network.host.devices())
        self._host.retry_local()
        self._read_routes()
        self._settle()
        self._work_on()
        self.rearm()

    def _read_routes(self) -> None:
        """Look what the kernel has: now, or as soon as it may be done again."""
        if self.now < self._may_read:
            self._read_at = self._may_read
            return
        self._read_at, began = None, self.now
        rows = self._host.read_routes()
        self._may_read = began + max(READ_ROUTES_EVERY, READ_ROUTES_PAUSE * (self.now - began))
        if rows is None:
            return
        self._perform(self.engine.kernel_routes(route for route, ours in rows if not ours))
        self._host.reconcile(rows)
        self._work_on()

    def _work_on(self) -> None:
        """What is too much for one turn is done in the next ones."""
        if self._host.clash and self._read_at is None:
            self._read_routes()
            self.rearm()
        if self._host.busy and self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self.guarded(self._work))

    def _work(self) -> None:
        self._turn = None
        self._host.work()
        self._work_on()

    def _settle(self) -> None:
        if self._told:
            self._perform(self.engine.settle(self.now))

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Publish(topic, rows, table):
                    self.seat.publish(topic, rows, table)
                case Post(fact):
                    self.seat.post(fact)
                case PutAdjacency(row):
                    self._adjacencies.put(row.key, row)
                case DropAdjacency(key):
                    self._adjacencies.remove(key)
                case PutReception(row):
                    self._receptions.put(row.interface, row)
                case DropReception(interface):
                    self._receptions.remove(interface)
                case Mirror(change):
                    if self._host.stale:
                        self._read_routes()
                    self._host.change(change)
                    self._work_on()
                case Log(event, fields, level):
                    getattr(self.log, level)(event, **fields)
                case _:
                    assert_never(output)


SERVICE = ServiceSpec(
    name=OWNER,
    factory=TunnelService,
    config=TunnelConfig,
    produces=PRODUCES,
    consumes=CONSUMES,
    optional=frozenset({SourceOffered, EndpointOffered, AccessWanted, SaState}),
    writes=frozenset({"adjacencies", "receptions"}),
    lines=LINES,
    checks=CHECKS,
    commands=COMMANDS,
    route_maps=system_route_maps,
    rank=30,
)
