"""The tunnel service in virtual time: what it tells, and what a restart must not disturb. Routing, bgp and the forwarder are
seats that this test speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
import structlog

from stack.addr import Prefix
from stack.addr import parse_address as a
from stack.bus import Bus
from stack.events import (
    L3VPN_TUNNEL,
    AddressRow,
    AdjacencyKey,
    AdjacencyState,
    AdjacencyWanted,
    Delta,
    EndpointOffered,
    EndpointRow,
    HostPortRow,
    HostPortState,
    Interface,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    InterfaceState,
    LinkState,
    NeighbourPacket,
    NeighbourUnresolved,
    NextHopKey,
    NextHopRow,
    NextHopState,
    ProfileState,
    Route,
    RouteSelected,
    Selected,
    SendNeighbourPacket,
    Synced,
    Topic,
    Via,
)
from stack.nettypes import HostRoute
from stack.service import BACKOFF, Context, Supervisor
from stack.tables import Tables
from stack.tables.adjacency import Adjacency
from stack.tables.nexthop import NextHop
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock, run
from stack.testing.node import MemoryNode
from tunnel.config import L3vpnProfile, TunnelConfig
from tunnel.service import ADOPT_WITHIN, READ_ROUTES_EVERY, TunnelService
from tunnel.wire import arp

QUIET = structlog.wrap_logger(
    structlog.ReturnLogger(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(50)
)
US, PE2, PE3, CORE = a("203.0.113.1"), a("203.0.113.2"), a("203.0.113.3"), a("10.9.0.2")
OURS, HOST, PEER_MAC = a("10.1.1.1"), a("10.1.1.10"), b"\x02\0\0\0\0\x77"
CONFIG = TunnelConfig(profiles={"p": L3vpnProfile("p", source="Loopback0", key=9)})
STATIC = Route(1, (Via(CORE),), "static")
FAR = Prefix.parse("203.0.113.0/29")


class Stage:
    """A node on which only `tunnel` is real."""

    def __init__(self, config: TunnelConfig = CONFIG) -> None:
        self.world = MemoryNetwork(seed=3)
        self.world.link(("pe", "e0"), ("core", "e0"))
        self.world.link(("pe", "e1"), ("host", "e0"))
        self.node: MemoryNode = self.world.node("pe")
        self.bus, self.tables = Bus(), Tables()
        self.hops = self.tables.nexthops.writer("routing")
        self.supervisor = Supervisor(
            Context(self.bus, self.node, self.tables, VirtualClock(), SeededEntropy(1), log=QUIET)
        )
        self.seats = {name: self.bus.attach(name) for name in ("router", "routing", "bgp", "forwarder")}
        self.heard = self.bus.attach("ear", ready=self._listen)
        self.log: list[Any] = []
        self.heard.subscribe(
            ProfileState, AdjacencyState, InterfaceOffered, LinkState, EndpointOffered, SendNeighbourPacket
        )
        self.config = config

    def _listen(self) -> None:
        def take() -> None:
            self.log += self.heard.mailbox.take()

        asyncio.get_running_loop().call_soon(take)

    @property
    def service(self) -> TunnelService:
        service = self.supervisor.service("tunnel")
        assert isinstance(service, TunnelService)
        return service

    def say(self, owner: str, topic: Topic[Any, Any], rows: dict[Any, Any], table: str = "") -> None:
        self.seats[owner].publish(topic, rows, table)

    def merge(self) -> None:
        """As routing does: what is offered, with the link's state, is an interface."""
        rows: dict[str, Interface] = {}
        links = self.bus.rows(LinkState).get("tunnel", {})
        for held in self.bus.rows(InterfaceOffered).values():
            for name, row in held.items():
                link, addresses = links.get(name), ADDRESSES.get(name, {})
                up = link.up if link else row.kind is InterfaceKind.LOOPBACK
                rows[name] = Interface(row, 1, up, link.mtu if link else 1500, link.mac if link else b"", addresses)
        self.say("routing", InterfaceState, rows)

    async def settle(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0.01)
            self.merge()
        await asyncio.sleep(0.01)

    async def start(self) -> None:
        self.say("router", InterfaceOffered, OFFERED)
        self.hops.put(1, NextHop(NextHopKey("", CORE), AdjacencyKey("Ethernet0/0", CORE)))
        self.say("routing", RouteSelected, {FAR: Selected("static", STATIC, 1, 0.0)})
        for address in (PE2, PE3):
            self.say("routing", NextHopState, {NextHopKey("", address): NextHopRow(True, "", 0, "Ethernet0/0", 1)})
        self.say(
            "forwarder", HostPortState, {"": HostPortRow("hostport0", 1500), "red": HostPortRow("hostport1", 1500)}
        )
        self.node.host_port("", 0, 1500)
        self.node.host_port("red", 1, 1500)
        self.supervisor.start("tunnel", lambda context: TunnelService(self.config, context))
        await self.settle()
        self.say("bgp", EndpointOffered, {(L3VPN_TUNNEL, address): EndpointRow(address) for address in (PE2, PE3)})
        self.say("routing", AdjacencyWanted, {AdjacencyKey("Ethernet0/1", HOST): True})
        await self.settle()
        self.answer()
        await self.settle()

    def answer(self) -> None:
        """The customer's host: it is me."""
        reply = arp.encode(arp.Arp(arp.REPLY, PEER_MAC, HOST, bytes(6), OURS))
        self.seats["forwarder"].post(NeighbourPacket("Ethernet0/1", PEER_MAC, arp=True, octets=reply))

    def rows(self, topic: Topic[Any, Any]) -> dict[Any, Any]:
        return dict(self.bus.rows(topic).get("tunnel", {}))

    def held(self) -> dict[AdjacencyKey, tuple[Any, ...]]:
        """What the packet path uses of every adjacency."""
        return {row.key: _use(row) for row in self.tables.adjacencies}


def _use(row: Adjacency) -> tuple[Any, ...]:
    return row.complete, row.mtu, row.rewrite, row.source, row.destination, row.gre_key


OFFERED = {
    "Loopback0": InterfaceRow("Loopback0", InterfaceKind.LOOPBACK),
    "Ethernet0/0": InterfaceRow("Ethernet0/0", InterfaceKind.ETHERNET, device="e0"),
    "Ethernet0/1": InterfaceRow("Ethernet0/1", InterfaceKind.ETHERNET, "red", device="e1"),
}
ADDRESSES = {
    "Loopback0": {US: AddressRow(32)},
    "Ethernet0/0": {a("10.9.0.1"): AddressRow(30)},
    "Ethernet0/1": {OURS: AddressRow(24)},
}


def play(act: Callable[[Stage], Awaitable[None]]) -> None:
    async def main() -> None:
        stage = Stage()
        await stage.start()
        await act(stage)
        await stage.supervisor.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main(), limit=10_000)


def host_state(stage: Stage) -> tuple[set[Any], set[HostRoute], dict[str, Any]]:
    """Addresses of devices that count, routes of ours, and devices whose packets the kernel does not see."""
    host = stage.node.host
    addresses = {row for row in host.addresses() if row[0] != "lo" and row[1][:2] != b"\xfe\x80"}
    drops = {name: list(host.ethernet(name).refused) for name in ("e0", "e1") if host.ethernet(name).refused}
    return addresses, {route for route, ours in host.routes() if ours}, drops


STANDING = (
    {("e0", a("10.9.0.1"), 30), ("hostport0", US, 32), ("hostport1", OURS, 32)},
    {HostRoute(FAR, CORE, "e0")},
    {"e1": [frozenset({None})]},
)


def test_a_node_comes_up() -> None:
    async def act(stage: Stage) -> None:
        assert stage.rows(ProfileState)["p"].usable
        assert stage.held() == {
            AdjacencyKey("Tunnel0", PE2): (True, 1472, b"", US, PE2, 9),
            AdjacencyKey("Tunnel0", PE3): (True, 1472, b"", US, PE3, 9),
            AdjacencyKey("Ethernet0/1", HOST): (True, 1500, PEER_MAC + stage.node.host.nic("e1").mac, b"", b"", None),
            AdjacencyKey("Ethernet0/0"): (True, 1500, b"", b"", b"", None),
        }
        reception = stage.tables.receptions.get("Tunnel0")
        assert reception is not None
        assert reception.sources == {PE2, PE3}
        assert host_state(stage) == STANDING

    play(act)


def test_a_stop_leaves_the_host_as_it_was() -> None:
    async def main() -> None:
        stage = Stage()
        before = host_state(stage)
        await stage.start()
        await stage.supervisor.stop()
        assert host_state(stage) == before

    run(main(), limit=1_000)


async def crash(stage: Stage) -> list[Any]:
    """The service dies, and its next incarnation has been told everything; what was said meanwhile."""
    stage.log.clear()
    stage.service.fail(RuntimeError("killed by the test"))
    await asyncio.sleep(BACKOFF[0] + 0.01)
    assert stage.service.context.incarnation == 2
    await asyncio.sleep(0.01)
    return stage.log


def test_S01_a_restart_disturbs_nobody() -> None:
    async def act(stage: Stage) -> None:
        held, receptions = stage.held(), dict(stage.tables.receptions.rows)
        profile, states, names = stage.rows(ProfileState), stage.rows(AdjacencyState), set(stage.rows(InterfaceOffered))
        log = await crash(stage)
        # Not even for a moment is anything said, or done to the packet path or the host, that was not so before.
        for message in log:
            if isinstance(message, Delta):
                before = {ProfileState: profile, AdjacencyState: states}.get(message.topic)
                assert before is None or all(before[key] == row for key, row in message.rows.items()), message
                assert message.topic is not InterfaceOffered or set(message.rows) == names
        assert stage.held() == held
        assert dict(stage.tables.receptions.rows) == receptions
        assert host_state(stage) == STANDING
        await asyncio.sleep(ADOPT_WITHIN)
        assert stage.held() == held
        assert dict(stage.tables.receptions.rows) == receptions
        assert host_state(stage) == STANDING
        synced = {m.topic for m in stage.log if isinstance(m, Synced) and m.incarnation == 2}
        assert {ProfileState, AdjacencyState, InterfaceOffered} <= synced

    play(act)


def test_S01_after_a_restart_the_host_is_still_cleaned_up() -> None:
    async def main() -> None:
        stage = Stage()
        before = host_state(stage)
        await stage.start()
        for _ in range(2):
            stage.service.fail(RuntimeError("killed by the test"))
            await asyncio.sleep(5)
        await stage.supervisor.stop()
        assert host_state(stage) == before

    run(main(), limit=1_000)


def test_S01_a_stop_between_two_incarnations_cleans_up_too() -> None:
    async def main() -> None:
        stage = Stage()
        before = host_state(stage)
        await stage.start()
        stage.service.fail(RuntimeError("killed by the test"))
        await asyncio.sleep(BACKOFF[0] / 2)
        assert stage.supervisor.service("tunnel") is None
        await stage.supervisor.stop()
        assert host_state(stage) == before

    run(main(), limit=1_000)


def test_S01_neighbours_are_confirmed_after_a_restart_and_not_forgotten() -> None:
    async def act(stage: Stage) -> None:
        log = await crash(stage)
        questions = [arp.decode(m.octets) for m in log if isinstance(m, SendNeighbourPacket)]
        assert [q.target for q in questions if q.sender != q.target] == [HOST]
        row = stage.tables.adjacencies.get(AdjacencyKey("Ethernet0/1", HOST))
        assert row is not None
        assert row.complete
        await asyncio.sleep(20)  # nobody answers: it is given up as ever
        row = stage.tables.adjacencies.get(AdjacencyKey("Ethernet0/1", HOST))
        assert row is not None
        assert not row.complete

    play(act)


def test_S01_what_changed_while_it_was_away_is_noticed() -> None:
    async def act(stage: Stage) -> None:
        stage.service.fail(RuntimeError("killed by the test"))
        await asyncio.sleep(0.01)
        stage.say("bgp", EndpointOffered, {(L3VPN_TUNNEL, PE3): None})
        stage.say("routing", RouteSelected, {FAR: None})
        await asyncio.sleep(BACKOFF[0] + ADOPT_WITHIN / 2)
        # Entries of before stand until everybody has had the time to say again what they want ...
        assert AdjacencyKey("Tunnel0", PE3) in stage.held()
        await asyncio.sleep(ADOPT_WITHIN)
        # ... and then go.
        standing = {AdjacencyKey("Tunnel0", PE2), AdjacencyKey("Ethernet0/1", HOST), AdjacencyKey("Ethernet0/0")}
        assert set(stage.held()) == standing
        assert AdjacencyKey("Tunnel0", PE3) not in stage.rows(AdjacencyState)
        assert host_state(stage)[1] == set()

    play(act)


def test_S01_many_endpoints_are_told_in_many_turns_and_none_is_missed_meanwhile() -> None:
    many = [(0xCB710100 + number).to_bytes(4) for number in range(3_000)]

    async def act(stage: Stage) -> None:
        stage.say("routing", NextHopState, {NextHopKey("", m): NextHopRow(True, "", 0, "Ethernet0/0", 1) for m in many})
        stage.say("bgp", EndpointOffered, {(L3VPN_TUNNEL, address): EndpointRow(address) for address in many})
        await stage.settle()
        sizes = set()
        stage.service.fail(RuntimeError("killed by the test"))
        for _ in range(200):
            await asyncio.sleep(0)
            reception = stage.tables.receptions.get("Tunnel0")
            assert reception is not None
            sizes.add(len(reception.sources or ()))
        await asyncio.sleep(BACKOFF[0] + 0.001)
        for _ in range(50):
            await asyncio.sleep(0)
            reception = stage.tables.receptions.get("Tunnel0")
            assert reception is not None
            sizes.add(len(reception.sources or ()))
        assert sizes == {len(many) + 2}

    play(act)


def test_a_packet_that_needs_a_neighbour_makes_a_question() -> None:
    async def act(stage: Stage) -> None:
        stage.log.clear()
        stage.seats["forwarder"].post(NeighbourUnresolved("Ethernet0/1", a("10.1.1.20")))
        await stage.settle()
        (sent,) = [m for m in stage.log if isinstance(m, SendNeighbourPacket)]
        assert (sent.interface, arp.decode(sent.octets).target) == ("Ethernet0/1", a("10.1.1.20"))

    play(act)


def test_a_device_that_goes_takes_its_interface_down() -> None:
    async def act(stage: Stage) -> None:
        stage.node.host.set_link("e1", up=False)
        await stage.settle()
        assert stage.rows(LinkState)["Ethernet0/1"].reason == "device e1 is down"
        assert stage.rows(AdjacencyState)[AdjacencyKey("Ethernet0/1", HOST)].usable is False

    play(act)


def test_the_kernels_routes_are_read_once_a_second_at_most_and_not_for_a_route_that_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def act(stage: Stage) -> None:
        await asyncio.sleep(2 * READ_ROUTES_EVERY)
        host, reads, routes = stage.node.host, [], type(stage.node.host).routes
        monkeypatch.setattr(type(host), "routes", lambda host: reads.append(stage.service.now) or routes(host))
        many = [Prefix((20 << 24 | number << 8).to_bytes(4), 24) for number in range(1_200)]
        for number in range(0, len(many), 100):
            rows = {prefix: Selected("static", STATIC, 1, 0.0) for prefix in many[number : number + 100]}
            stage.say("routing", RouteSelected, rows)
            await asyncio.sleep(0.01)
        stage.say("routing", RouteSelected, dict.fromkeys(many[:-1]))
        await stage.settle()
        assert reads == []
        assert {route for route, ours in routes(host) if ours} == {HostRoute(p, CORE, "e0") for p in (FAR, many[-1])}
        for number in range(20):
            host.add_address("e0", bytes((10, 88, 0, number)), 24 + number % 8)
            await asyncio.sleep(0.05)
        await asyncio.sleep(READ_ROUTES_EVERY)
        assert 2 <= len(reads) <= 3
        assert all(later - earlier >= READ_ROUTES_EVERY for earlier, later in pairwise(reads))

    play(act)


def test_reconfiguration() -> None:
    async def act(stage: Stage) -> None:
        stage.service.reconfigure(TunnelConfig())
        await stage.settle()
        assert stage.rows(ProfileState) == {}
        assert set(stage.held()) == {AdjacencyKey("Ethernet0/1", HOST), AdjacencyKey("Ethernet0/0")}
        assert len(stage.tables.receptions) == 0
        stage.service.reconfigure(CONFIG)
        await stage.settle()
        assert stage.rows(ProfileState)["p"].usable
        assert AdjacencyKey("Tunnel0", PE2) in stage.held()

    play(act)


@pytest.mark.parametrize("name", ["Tunnel0", "Tunnel1"])
def test_a_configured_interface_keeps_its_name(name: str) -> None:
    """`interface Tunnel0` without a tunnel line is no tunnel of ours, yet it has the name."""

    async def act(stage: Stage) -> None:
        stage.say("router", InterfaceOffered, {name: InterfaceRow(name, InterfaceKind.TUNNEL)})
        await stage.settle()
        assert name not in stage.rows(InterfaceOffered)
        assert len(stage.rows(InterfaceOffered)) == 2
        tunnel = stage.rows(ProfileState)["p"].tunnel
        assert tunnel in stage.rows(InterfaceOffered)
        assert AdjacencyKey(tunnel, PE2) in stage.held()

    play(act)
