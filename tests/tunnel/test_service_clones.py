"""Virtual-access interfaces on a whole node: the real services, an ikev2 that this test speaks for, and restarts of tunnel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from stack.addr import Prefix, parse_address
from stack.bus import Seat
from stack.config import Config
from stack.events import (
    AccessRow,
    AccessWanted,
    AdjacencyKey,
    BindingOffered,
    InterfaceOffered,
    InterfaceState,
    NextHopState,
    Route,
    RouteOffered,
    SaKey,
    SaRow,
    SaState,
    SaWanted,
    TunnelProtected,
    Via,
)
from stack.registry import load_specs
from stack.router import Router
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock, run
from tests.tunnel.engine.clones import FORM, HUB, TEMPLATE, overlay, spoke
from tunnel.service import ADOPT_WITHIN, CONSUMES, PRODUCES, SERVICE

QUIET = structlog.wrap_logger(
    structlog.ReturnLogger(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(50)
)
TEXT = """\
hostname hub
interface Loopback0
 ip address 10.0.0.1 255.255.255.255
interface Ethernet0/0
 ip address 192.0.2.1 255.255.255.0
interface Tunnel4
 ip address 10.4.0.1 255.255.255.252
 tunnel source Ethernet0/0
 tunnel destination 198.51.100.4
 tunnel protection ipsec profile default
 mpls bgp forwarding
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback0
 tunnel protection ipsec profile default
 mpls bgp forwarding
ip route 0.0.0.0 0.0.0.0 192.0.2.254
ip route 10.44.0.1 255.255.255.255 Tunnel4
"""
CLONES = range(1, 9)


class Node:
    """A hub whose ikev2 is the test."""

    def __init__(self) -> None:
        world = MemoryNetwork(seed=1)
        world.link(("hub", "e0"), ("core", "e0"))
        specs = [spec for spec in load_specs() if spec.name != "ikev2"]
        self.router = Router(
            Config.from_ios(TEXT, source="hub"), network=world.node("hub"), clock=VirtualClock(),
            entropy=SeededEntropy("hub"), bindings={"Ethernet0/0": "e0"}, log=QUIET, specs=specs,
        )  # fmt: skip
        self.seat: Seat

    @property
    def tables(self) -> Any:
        return self.router.context.tables

    def up(self, number: int) -> None:
        name, host = f"Virtual-Access{number}", Prefix.host(overlay(number))
        self.seat.publish(AccessWanted, {name: AccessRow(TEMPLATE, HUB, spoke(number), "default", "", f"s{number}")})
        self.seat.publish(SaState, {SaKey(name): SaRow(up=True, form=FORM)})
        self.seat.publish(RouteOffered, {host: Route(1, (Via(interface=name),), "static")})
        self.seat.publish(BindingOffered, {("", host, b""): (3,)})

    def rows(self, topic: Any, owner: str = "tunnel") -> dict[Any, Any]:
        return dict(self.router.bus.rows(topic).get(owner, {}))

    def state(self) -> Any:
        return (
            {row.key: (row.complete, row.mtu, row.sa, row.reason) for row in self.tables.adjacencies},
            {row.interface: (row.protected, row.sources) for row in self.tables.receptions},
            {row.name: (row.row, row.up, row.mtu, row.addresses) for row in self.tables.interfaces},
            self.rows(TunnelProtected), self.rows(SaWanted), self.rows(InterfaceOffered),
            {prefix: leaf.kind for prefix, leaf in self.tables.fib.fibs[""].items(1)},
        )  # fmt: skip


def play(act: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        node = Node()
        await node.router.start()
        node.seat = node.router.bus.attach("ikev2")
        await asyncio.sleep(1)
        for number in CLONES:
            node.up(number)
        await asyncio.sleep(1)
        await act(node)
        await node.router.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main(), limit=1_000)


def test_clones_on_a_whole_node() -> None:
    async def act(node: Node) -> None:
        up = [node.tables.adjacencies.get(AdjacencyKey(f"Virtual-Access{n}")) for n in CLONES]
        assert all(row.complete and row.mtu == 1442 for row in up)
        assert set(node.rows(SaWanted)) == {SaKey("Tunnel4")}
        assert set(node.rows(TunnelProtected)) == {"Tunnel4", *(f"Virtual-Access{n}" for n in CLONES)}
        static = node.tables.adjacencies.get(AdjacencyKey("Tunnel4"))
        assert (static.complete, static.sa) == (False, SaKey("Tunnel4"))
        assert node.tables.interfaces.get("Tunnel4").up

    play(act)


def test_S01_a_restart_with_clones_standing_disturbs_nobody() -> None:
    async def act(node: Node) -> None:
        before = node.state()
        ear = node.router.bus.attach("ear")
        ear.subscribe(InterfaceState, NextHopState, InterfaceOffered, TunnelProtected, SaWanted)
        await asyncio.sleep(0.1)
        ear.mailbox.take()
        generation = node.tables.adjacencies.generation
        service: Any = node.router.service("tunnel")
        service.fail(RuntimeError("killed by the test"))
        await asyncio.sleep(ADOPT_WITHIN + 5)
        assert node.router.service("tunnel") is not service
        assert node.state() == before
        withdrawn = [
            (message.topic, key)
            for message in ear.mailbox.take(100_000)
            for key, row in getattr(message, "rows", {}).items()
            if row is None
        ]
        assert withdrawn == []
        changed = node.tables.adjacencies.changed_since(generation)
        assert not [key for key in changed if "Access" in key.interface and key not in before[0]]

    play(act)


@pytest.mark.parametrize("pause", [0.0, 0.01, 0.5])
def test_S01_clones_that_come_and_go_while_it_is_away(pause: float) -> None:
    async def act(node: Node) -> None:
        service: Any = node.router.service("tunnel")
        service.fail(RuntimeError("killed by the test"))
        await asyncio.sleep(pause)
        node.up(77)
        gone = "Virtual-Access3"
        node.seat.publish(RouteOffered, {Prefix.host(overlay(3)): None})
        node.seat.publish(SaState, {SaKey(gone): None})
        node.seat.publish(AccessWanted, {gone: None})
        await asyncio.sleep(ADOPT_WITHIN + 5)
        names = {row.key.interface for row in node.tables.adjacencies}
        assert "Virtual-Access77" in names
        assert gone not in names
        assert node.tables.receptions.get(gone) is None
        assert node.tables.interfaces.get(gone) is None
        assert gone not in node.rows(TunnelProtected)

    play(act)


def test_a_route_into_a_closed_tunnel_stands_and_drops() -> None:
    async def act(node: Node) -> None:
        leaf = node.tables.fib.fibs[""].lookup(parse_address("10.44.0.1"))
        hop = node.tables.nexthops.get(leaf.next_hop)
        assert hop.adjacency == AdjacencyKey("Tunnel4")
        assert hop.reason.startswith("no security association")
        node.seat.publish(SaState, {SaKey("Tunnel4"): SaRow(up=True, form=FORM)})
        await asyncio.sleep(0.1)
        assert node.tables.nexthops.get(leaf.next_hop).reason == ""
        assert node.tables.adjacencies.get(AdjacencyKey("Tunnel4")).complete

    play(act)


def test_the_wiring_says_what_is_published_and_what_may_be_missing() -> None:
    assert {TunnelProtected, SaWanted} <= PRODUCES == SERVICE.produces
    assert {SaState, AccessWanted} <= CONSUMES == SERVICE.consumes
    assert {SaState, AccessWanted} <= SERVICE.optional
