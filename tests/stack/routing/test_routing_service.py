"""The routing service on virtual time: what other services see of it, and what its restart costs them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from stack.bus import Bus
from stack.events import NextHopState, RouteSelected, ServiceUp, Synced
from stack.routing.engine import TURN
from stack.routing.service import RESYNC_WITHIN, SERVICE, RoutingService
from stack.service import Context, Supervisor
from stack.tables.fib import LeafKind
from stack.testing import Recorder, VirtualClock, VirtualLoop, run
from tests.stack.routing.rig import CORE, MGRE, A, Item, P, binding, link, neighbour, route, via, vrf, wanted

QUIET = structlog.wrap_logger(
    structlog.ReturnLogger(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(50)
)
"""Services are killed here on purpose; their tracebacks are not news."""


class Node:
    """A bus, tables, a supervisor with routing, and seats for everybody else."""

    def __init__(self) -> None:
        self.bus = Bus()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.context = Context(bus=self.bus, network=None, clock=VirtualClock(loop), log=QUIET)  # type: ignore[arg-type]
        self.tables = self.context.tables
        self.seats: dict[str, Any] = {}
        self.recorder = Recorder(self.bus, (RouteSelected, NextHopState, ServiceUp))
        self.supervisor = Supervisor(self.context)
        self.supervisor.start("routing", lambda context: SERVICE.factory(None, context))

    @property
    def service(self) -> RoutingService:
        service = self.supervisor.service("routing")
        assert isinstance(service, RoutingService)
        return service

    def say(self, *items: Item, there: bool = True) -> None:
        for topic, owner, table, key, row in items:
            if owner not in self.seats:
                self.seats[owner] = self.bus.attach(owner)
            self.seats[owner].publish(topic, {key: row if there else None}, table)

    def synced(self, *items: Item) -> None:
        for topic, owner, *_ in items:
            self.seats[owner].synced(topic)

    async def crash(self) -> None:
        self.service.fail(RuntimeError("killed by a test"))
        await asyncio.sleep(0.05)

    def leaf(self, text: str, name: str = "") -> Any:
        fib = self.tables.fib.get(name)
        return fib.lookup(A(text)) if fib else None


def on_a_node(story: Callable[[Node], Awaitable[None]]) -> None:
    async def tell() -> None:
        node = Node()
        try:
            await story(node)
        finally:
            await node.supervisor.stop()

    run(tell(), limit=1000)


VPN = route("10.2.0.0/16", via("192.0.2.2", encap="core", labels=(16,)), vrf="red", owner="bgp", distance=200)
ALL = (*CORE, *MGRE, vrf("red"), VPN, wanted("192.0.2.2"), binding("192.0.2.9/32", "", 3))


def test_rows_in_any_order_become_tables_and_answers() -> None:
    async def story(node: Node) -> None:
        node.say(*reversed(ALL))
        await asyncio.sleep(0.1)
        assert node.leaf("10.2.0.1", "red").kind is LeafKind.FORWARD
        assert node.bus.rows(RouteSelected, "red")["routing"][P("10.2.0.0/16")].owner == "bgp"
        assert node.bus.rows(NextHopState)["routing"][wanted("192.0.2.2")[3]].usable
        assert Synced(RouteSelected, "routing", 1) in [recorded.message for recorded in node.recorder.messages]
        node.say(neighbour("Tunnel0", "192.0.2.2"), there=False)
        await asyncio.sleep(0.1)
        assert node.leaf("10.2.0.1", "red") is None
        assert node.bus.rows(RouteSelected, "red")["routing"] == {}

    on_a_node(story)


def test_a_restart_keeps_the_fib_until_everybody_has_spoken_and_then_sweeps() -> None:
    async def story(node: Node) -> None:
        node.say(*ALL, link("Ethernet0/0"))
        node.synced(*ALL)
        await asyncio.sleep(0.1)
        before, hop = node.leaf("10.2.0.1", "red"), node.tables.nexthops.get(node.leaf("10.2.0.1", "red").next_hop)
        selected = dict(node.bus.rows(RouteSelected, "red")["routing"])
        await asyncio.sleep(100)
        await node.crash()
        generation = node.tables.fib.get("red").generation
        assert node.leaf("10.2.0.1", "red") == before
        node.say(route("192.0.2.2/32", via("10.0.12.2")), there=False)  # while it is down
        node.say(route("198.51.100.0/24", via("10.0.12.2")))
        await asyncio.sleep(1)
        assert node.recorder.facts(ServiceUp)[-1].incarnation == 2
        assert node.leaf("10.2.0.1", "red") == before
        assert node.tables.nexthops.get(before.next_hop) == hop
        assert node.tables.fib.get("red").generation == generation  # not even for a moment
        assert node.bus.rows(RouteSelected, "red")["routing"] == selected  # its age too
        assert node.leaf("192.0.2.2") is None
        assert node.leaf("198.51.100.1") is not None
        assert set(node.bus.rows(RouteSelected)["routing"]) == {
            P(p) for p in ("10.0.12.0/24", "10.0.12.1/32", "192.0.2.1/32", "198.51.100.0/24")
        }

    on_a_node(story)


def test_an_owner_that_stays_silent_after_a_restart_delays_the_sweep_only_so_long() -> None:
    async def story(node: Node) -> None:
        node.say(*ALL)  # nobody ever says that this is all
        await asyncio.sleep(0.1)
        await node.crash()
        node.say(VPN, there=False)
        await asyncio.sleep(RESYNC_WITHIN / 2)
        assert node.leaf("10.2.0.1", "red") is not None
        await asyncio.sleep(RESYNC_WITHIN)
        assert node.leaf("10.2.0.1", "red") is None

    on_a_node(story)


def test_a_full_table_takes_many_turns_and_nothing_is_left() -> None:
    async def story(node: Node) -> None:
        node.say(*ALL)
        await asyncio.sleep(0.1)
        rows = {P(f"100.{n >> 8}.{n & 255}.0/24"): VPN[4] for n in range(3 * TURN)}
        node.seats["bgp"].publish(VPN[0], rows, "red")
        node.say(neighbour("Tunnel0", "192.0.2.2"), there=False)
        await asyncio.sleep(0.1)
        assert len(node.bus.rows(RouteSelected, "red")["routing"]) == 0
        node.say(neighbour("Tunnel0", "192.0.2.2"))
        await asyncio.sleep(0.1)
        assert len(node.bus.rows(RouteSelected, "red")["routing"]) == 3 * TURN + 1
        assert node.service.engine.pending == 0

    on_a_node(story)


def test_stopping_gives_the_tables_back() -> None:
    async def story(node: Node) -> None:
        await asyncio.sleep(0.1)
        await node.supervisor.stop()
        node.tables.fib.writer("somebody else")

    on_a_node(story)
