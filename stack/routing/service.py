"""The routing service: feeds the engine from the bus, publishes what it says.

After its own restart it waits before it writes anything: until the bus has delivered what stands and every owner heard has
said that this is all (`Synced`), or RESYNC_WITHIN has passed. The tables of the earlier incarnation serve the packet path
meanwhile; what nobody offers any more is then removed. A first start has nothing to lose and does not wait.
"""

from __future__ import annotations

from typing import Any

from stack.bus import Message
from stack.events import (
    AdjacencyWanted,
    BindingOffered,
    Delta,
    InterfaceState,
    NextHopState,
    NextHopWanted,
    ProfileState,
    RouteSelected,
    Synced,
    Topic,
)
from stack.registry import ServiceSpec
from stack.routing.engine import READS, CandidateRef, Engine, Log, Publish
from stack.routing.show import COMMANDS
from stack.service import Context, ServiceShell

__all__ = ["RESYNC_WITHIN", "SERVICE", "RoutingService"]

TELL_AFTER = 1.0
"""Seconds that a route must stand refused before anybody is told: at a start, routes come before what they rest on."""

RESYNC_WITHIN = 10.0
"""Seconds that a restarted service waits for all owners before it removes what is left over."""

PRODUCES: frozenset[Topic[Any, Any]] = frozenset({InterfaceState, RouteSelected, NextHopState, AdjacencyWanted})
CONSUMES: frozenset[Topic[Any, Any]] = frozenset(READS)


class RoutingService(ServiceShell):
    """RIB, next hops, FIB and interfaces of one node."""

    name = "routing"
    produces = PRODUCES
    consumes = CONSUMES
    engine: Engine

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._heard: set[tuple[Topic[Any, Any], str]] = set()
        self._synced: set[tuple[Topic[Any, Any], str]] = set()
        self._resync_until: float | None = None
        self._unsaid = True
        self._again: float | None = None
        self._to_tell: dict[CandidateRef, tuple[float, Log]] = {}

    async def begin(self) -> None:
        tables = self.context.tables
        left_over = len(tables.interfaces) + len(tables.nexthops) + sum(map(len, tables.fib.fibs.values()))
        self.engine = Engine.of(tables.interfaces, tables.nexthops, tables.rib, tables.fib, self.name)
        if left_over:
            self._resync_until = self.now + RESYNC_WITHIN
            rows = self.seat.bus.rows
            self.engine.recall({vrf: dict(rows(RouteSelected, vrf).get(self.name, {})) for vrf in tables.fib.fibs})
        self.seat.subscribe(*READS)
        self.received()

    def receive(self, message: Message) -> None:
        if isinstance(message, Delta):
            self._heard.add((message.topic, message.owner))
            self.engine.feed(message, self.now)
        elif isinstance(message, Synced):
            self._synced.add((message.topic, message.owner))

    def received(self) -> None:
        if self._resync_until is None:
            self._settle()
        elif not len(self.seat.mailbox) and self._heard <= self._synced:
            self._resume()

    def deadline(self) -> float | None:
        if self._resync_until is not None:
            return self._resync_until
        times = [when for when, _ in self._to_tell.values()]
        return min(times if self._again is None else (self._again, *times), default=None)

    def wake(self) -> None:
        if self._resync_until is None:
            self._settle()
        elif self.now >= self._resync_until:
            late = sorted(f"{owner}: {topic}" for topic, owner in self._heard - self._synced)
            self.log.warning("not everybody said what they hold", late=late)
            self._resume()

    def _resume(self) -> None:
        self._resync_until = None
        self.engine.sweep()
        self._settle()

    def _settle(self) -> None:
        for output in self.engine.settle(self.now):
            if isinstance(output, Publish):
                self.seat.publish(output.topic, output.rows, output.table)
            else:
                self._to_tell[output.about] = self.now + TELL_AFTER, output
        self._tell()
        if self.engine.pending:
            self._again = self.now
            return
        self._again = None
        if self._unsaid:
            self._unsaid = False
            self.seat.synced(*sorted(PRODUCES, key=str))

    def _tell(self) -> None:
        due = [route for route, (when, _) in self._to_tell.items() if when <= self.now]
        for route in due:
            _, log = self._to_tell.pop(route)
            if self.engine.refuses(route):
                self.log.warning(log.event, **log.values)

    def close(self) -> None:
        self.context.tables.revoke(self.name)


SERVICE = ServiceSpec(
    name="routing",
    factory=lambda _config, context: RoutingService(context),
    produces=frozenset(PRODUCES),
    consumes=frozenset(CONSUMES),
    optional=frozenset({ProfileState, BindingOffered, NextHopWanted}),
    writes=frozenset({"interfaces", "rib", "nexthops", "fib"}),
    commands=COMMANDS,
    rank=10,
)
