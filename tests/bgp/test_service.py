"""BgpService on the virtual loop and the in-memory network: real TCP segments, no real time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from attrs import evolve

from bgp.config import BgpConfig, ConnectionMode, ListenRange, NeighborConfig, Timers
from bgp.engine.fsm import State
from bgp.engine.session_ends import EndReason
from bgp.events import PeerDown, PeerUp
from bgp.service import SERVICE, BgpService
from bgp.wire import IPV4_UNICAST, Notification
from stack.addr import Prefix, parse_address
from stack.bus import Bus
from stack.events import (
    AddressRow,
    HostPortRow,
    HostPortState,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    SourceOffered,
    SourceRow,
)
from stack.service import Context, Supervisor
from stack.testing import MemoryNetwork, MemoryNode, Recorder, VirtualClock, run

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")
ID_A, ID_B = parse_address("10.0.0.1"), parse_address("10.0.0.2")
FAST = Timers(keepalive=3, hold=9, connect_retry=10)
UP = State.ESTABLISHED


def config(address: bytes, identifier: bytes, remote_as: int = 65000, asn: int = 65000, **more: Any) -> BgpConfig:
    one = NeighborConfig(address=address, remote_as=remote_as, **more)
    return BgpConfig(asn=asn, router_id=identifier, timers=FAST, neighbors={(one.vrf, address): one})


def alone(node: MemoryNode, settings: BgpConfig, bus: Bus | None = None) -> BgpService:
    return BgpService(settings, bus=bus or Bus(), network=node, clock=VirtualClock(), entropy=node.entropy)


def two_hosts() -> MemoryNetwork:
    world = MemoryNetwork(seed=3)
    world.link(("a", "eth0"), ("b", "eth0"))
    world.node("a").address("eth0", "192.0.2.1/24")
    world.node("b").address("eth0", "192.0.2.2/24")
    return world


def state(service: BgpService, key: tuple[str, bytes]) -> State:
    return next((one.state for one in service.snapshot().peers if one.key == key), State.IDLE)


async def until(condition: Any, seconds: float) -> float:
    """Poll in virtual time; how long it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while not condition():
        assert loop.time() - begun < seconds, "not in time"
        await asyncio.sleep(0.05)
    return loop.time() - begun


def test_two_services_alone_come_up_and_say_goodbye() -> None:
    async def scenario() -> None:
        world = two_hosts()
        buses = Bus(), Bus()
        a, b = alone(world.node("a"), config(B, ID_A), buses[0]), alone(world.node("b"), config(A, ID_B), buses[1])
        heard = Recorder(buses[0], kinds=(PeerUp, PeerDown))
        tasks = [asyncio.create_task(one.run()) for one in (a, b)]
        fact = await heard.until_fact(PeerUp, timeout=10)
        assert (fact.address, fact.router_id, fact.local) == (B, ID_B, A)
        await until(lambda: state(b, ("", A)) is UP, 5)
        await asyncio.sleep(60)
        assert state(a, ("", B)) is UP
        assert len(world.node("a").tcp.connections) == 1
        await b.stop()
        await tasks[1]
        down = await heard.until_fact(PeerDown, timeout=5)
        assert down.reason == "NOTIFICATION received"
        assert "6/2" in down.text
        await a.stop()
        await tasks[0]
        await asyncio.sleep(300)  # TIME_WAIT and the like
        assert not world.node("a").tcp.connections
        assert not world.node("b").tcp.connections
        assert len(asyncio.all_tasks()) == 1

    run(scenario(), limit=900)


def test_a_cut_link_ends_the_session_by_hold_timer_and_it_comes_back() -> None:
    async def scenario() -> None:
        world = two_hosts()
        a, b = alone(world.node("a"), config(B, ID_A)), alone(world.node("b"), config(A, ID_B))
        tasks = [asyncio.create_task(one.run()) for one in (a, b)]
        await until(lambda: state(a, ("", B)) is UP and state(b, ("", A)) is UP, 20)
        world.between("a", "b").cut()
        took = await until(lambda: state(a, ("", B)) is not UP, 20)
        assert 5 <= took <= 9.5
        assert a.snapshot().peers[0].last_end.reason is EndReason.HOLD_TIMER
        await asyncio.sleep(120)
        assert state(a, ("", B)) is not UP
        world.between("a", "b").heal()
        await until(lambda: state(a, ("", B)) is UP and state(b, ("", A)) is UP, 30)
        for one in (a, b):
            await one.stop()
        await asyncio.gather(*tasks)

    run(scenario(), limit=900)


@pytest.mark.parametrize("seed", range(6))
def test_a_lossy_link_does_not_keep_them_apart(seed: int) -> None:
    async def scenario() -> None:
        world = MemoryNetwork(seed=seed, loss=0.2, jitter=0.02, reorder=0.1)
        world.link(("a", "eth0"), ("b", "eth0"))
        world.node("a").address("eth0", "192.0.2.1/24")
        world.node("b").address("eth0", "192.0.2.2/24")
        a, b = alone(world.node("a"), config(B, ID_A)), alone(world.node("b"), config(A, ID_B))
        tasks = [asyncio.create_task(one.run()) for one in (a, b)]
        await until(lambda: state(a, ("", B)) is UP and state(b, ("", A)) is UP, 120)
        for one in (a, b):
            await one.stop()
        await asyncio.gather(*tasks)

    run(scenario(), limit=900)


def test_octets_from_a_stranger_and_nonsense_from_a_neighbor_hurt_nobody() -> None:
    """B01 on real segments: the guilty connection gets its NOTIFICATION and is closed, the others live."""

    async def scenario() -> None:
        world = two_hosts()
        world.link(("a", "eth1"), ("c", "eth0"))
        world.node("a").address("eth1", "198.51.100.1/24")
        world.node("c").address("eth0", "198.51.100.3/24")
        c = parse_address("198.51.100.3")
        settings = config(B, ID_A)
        noisy = NeighborConfig(address=c, remote_as=65000, mode=ConnectionMode.PASSIVE)
        settings = evolve(settings, neighbors={**settings.neighbors, ("", c): noisy})
        a, b = alone(world.node("a"), settings), alone(world.node("b"), config(A, ID_B))
        tasks = [asyncio.create_task(one.run()) for one in (a, b)]
        await until(lambda: state(a, ("", B)) is UP, 20)
        said = bytearray()

        class Noise(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                transport.write(b"\xff" * 16 + b"\x00\x12\x04")

            def data_received(self, data: bytes) -> None:
                said.extend(data)

        from stack.net import TcpOptions

        await world.node("c").connect_tcp(Noise, TcpOptions(remote=parse_address("198.51.100.1")))
        await asyncio.sleep(1)
        assert said.endswith(b"\xff" * 16 + bytes.fromhex("0017 03 01 02 0012"))
        assert state(a, ("", B)) is UP
        # a stranger (an address that is no neighbor) is closed without a word
        said.clear()
        world.node("c").address("eth0", "198.51.100.4/24")
        await world.node("c").connect_tcp(
            Noise, TcpOptions(local=parse_address("198.51.100.4"), remote=parse_address("198.51.100.1"))
        )
        await asyncio.sleep(1)
        assert said == b""
        assert a.snapshot().refused == {"no such neighbor": 1}
        for one in (a, b):
            await one.stop()
        await asyncio.gather(*tasks)

    run(scenario(), limit=300)


def test_B21_both_ends_with_the_password_or_no_session() -> None:
    async def scenario(other: str) -> bool:
        world = two_hosts()
        a = alone(world.node("a"), config(B, ID_A, password="secret"))
        b = alone(world.node("b"), config(A, ID_B, password=other))
        tasks = [asyncio.create_task(one.run()) for one in (a, b)]
        await asyncio.sleep(30)
        came_up = state(a, ("", B)) is UP
        for one in (a, b):
            await one.stop()
        await asyncio.gather(*tasks)
        return came_up

    assert run(scenario("secret"), limit=300)
    assert not run(scenario("other"), limit=300)
    assert not run(scenario(""), limit=300)


# --- in a node: interfaces and host ports come by the bus ---------------------------------------------------------------


def interface(name: str, address: str, *, vrf: str = "", up: bool = True) -> Interface:
    text, _, length = address.partition("/")
    kind = InterfaceKind.LOOPBACK if name.startswith("Loopback") else InterfaceKind.ETHERNET
    return Interface(
        InterfaceRow(name, kind, vrf=vrf), 1, up, 1500, addresses={parse_address(text): AddressRow(int(length))}
    )


class Node:
    """A PE's BGP with a hand-fed bus."""

    def __init__(self, network: MemoryNode, settings: BgpConfig) -> None:
        self.bus = Bus()
        self.routing = self.bus.attach("routing")
        self.forwarder = self.bus.attach("forwarder")
        self.context = Context(bus=self.bus, network=network, clock=VirtualClock(), entropy=network.entropy)
        self.supervisor = Supervisor(self.context)
        self.supervisor.start("bgp", lambda context: SERVICE.factory(settings, context))

    @property
    def bgp(self) -> BgpService:
        service = self.supervisor.service("bgp")
        assert isinstance(service, BgpService)
        return service

    def interfaces(self, *rows: Interface) -> None:
        self.routing.publish(InterfaceState, {one.name: one for one in rows})
        self.routing.synced(InterfaceState)


def test_update_source_comes_and_goes_and_the_session_with_it() -> None:
    async def scenario() -> None:
        world = two_hosts()
        for name, address in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
            world.node(name).address("lo", f"{address}/32")
        world.node("a").route("10.0.0.2/32", "192.0.2.2")
        world.node("b").route("10.0.0.1/32", "192.0.2.1")
        a = Node(world.node("a"), evolve(config(ID_B, b"", update_source="Loopback0"), router_id=b""))
        b = alone(world.node("b"), config(ID_A, ID_B))
        task = asyncio.create_task(b.run())
        await asyncio.sleep(5)
        assert a.bgp.snapshot().peers[0].hold.name == "NO_IDENTIFIER"
        assert a.bus.rows(SourceOffered) == {"bgp": {"Loopback0": SourceRow("update-source")}}
        a.interfaces(interface("Loopback0", "10.0.0.1/32"), interface("Ethernet0/0", "192.0.2.1/24"))
        await until(lambda: state(a.bgp, ("", ID_B)) is UP, 30)
        assert a.bgp.snapshot().router_id == ID_A
        assert a.bgp.snapshot().peers[0].local == ID_A
        heard = Recorder(a.bus, kinds=(PeerDown,))
        a.interfaces(interface("Loopback0", "10.0.0.1/32", up=False))
        down = await heard.until_fact(PeerDown, timeout=1)
        assert down.reason == EndReason.ADDRESS_GONE.value
        await until(lambda: b.snapshot().peers[0].last_end.notification == Notification(6, 6), 1)
        await asyncio.sleep(60)
        assert a.bgp.snapshot().peers[0].hold.name == "NO_SOURCE"
        assert state(a.bgp, ("", ID_B)) is State.IDLE
        a.interfaces(interface("Loopback0", "10.0.0.1/32"))
        await until(lambda: state(a.bgp, ("", ID_B)) is UP, 30)
        await b.stop()
        await a.supervisor.stop()
        await task

    run(scenario(), limit=600)


def glue(one: Any, other: Any) -> None:
    """The simplest forwarder there is: what one port reads, the other sends."""

    def pump(source: Any, sink: Any) -> None:
        buffer = bytearray(65536)
        while True:
            try:
                size = source.recv_into(buffer)
            except BlockingIOError:
                return
            sink.send(bytes(buffer[:size]))

    one.listen(lambda: pump(one, other))
    other.listen(lambda: pump(other, one))


def test_two_vrfs_whose_ce_addresses_overlap() -> None:
    async def scenario() -> None:
        world = MemoryNetwork(seed=5)
        pe = world.node("pe")
        ours, theirs = parse_address("172.16.0.1"), parse_address("172.16.0.2")
        vrfs = {"red": (1, 65001), "blue": (2, 65002)}
        settings = BgpConfig(
            asn=65000,
            router_id=ID_A,
            timers=FAST,
            neighbors={
                (vrf, theirs): NeighborConfig(address=theirs, vrf=vrf, remote_as=asn) for vrf, (_, asn) in vrfs.items()
            },
        )
        node = Node(pe, settings)
        node.interfaces(*(interface(f"Ethernet{vrf}", "172.16.0.1/30", vrf=vrf) for vrf in vrfs))
        ces = {}
        tasks = []
        for vrf, (_, asn) in vrfs.items():
            world.tun_link(("pe", f"tun-{vrf}"), (f"ce-{vrf}", "eth0"))
            world.node(f"ce-{vrf}").address("eth0", "172.16.0.2/30")
            identifier = parse_address(f"10.9.0.{asn - 65000}")
            ces[vrf] = alone(world.node(f"ce-{vrf}"), config(ours, identifier, remote_as=65000, asn=asn))
            tasks.append(asyncio.create_task(ces[vrf].run()))
        await asyncio.sleep(10)
        assert {one.hold.name for one in node.bgp.snapshot().peers} == {"NO_HOST_PORT"}
        assert node.bgp.snapshot().listening == ()
        ports = {}
        for vrf, (index, _) in vrfs.items():
            ports[vrf] = pe.host_port(vrf, index, 1500)
            pe.host.add_address(ports[vrf].name, ours, 32)
            glue(ports[vrf], pe.tun(f"tun-{vrf}", 1500))
            node.forwarder.publish(HostPortState, {vrf: HostPortRow(ports[vrf].name, 1500)})
        await until(lambda: all(state(node.bgp, (vrf, theirs)) is UP for vrf in vrfs), 60)
        ids = {one.key[0]: one.router_id for one in node.bgp.snapshot().peers}
        assert ids == {"red": parse_address("10.9.0.1"), "blue": parse_address("10.9.0.2")}
        assert {one.families for one in node.bgp.snapshot().peers} == {frozenset({IPV4_UNICAST})}
        # one VRF's port goes: that VRF's session ends at once, the other does not notice
        node.forwarder.publish(HostPortState, {"red": None})
        await until(lambda: state(node.bgp, ("red", theirs)) is State.IDLE, 1)
        await asyncio.sleep(30)
        assert state(node.bgp, ("blue", theirs)) is UP
        assert next(one for one in node.bgp.snapshot().peers if one.key[0] == "blue").dropped == 0
        for ce in ces.values():
            await ce.stop()
        await node.supervisor.stop()
        await asyncio.gather(*tasks)

    run(scenario(), limit=600)


def test_dynamic_neighbors_come_by_listen_range_and_go() -> None:
    async def scenario() -> None:
        world = two_hosts()
        group = NeighborConfig(remote_as=65000, mode=ConnectionMode.PASSIVE)
        hub = BgpConfig(
            asn=65000,
            router_id=ID_A,
            timers=FAST,
            peer_groups={"spokes": group},
            listen_ranges=(ListenRange(Prefix.parse("0.0.0.0/0"), "spokes"),),
            listen_limit=1,
        )
        a, b = alone(world.node("a"), hub), alone(world.node("b"), config(A, ID_B))
        tasks = [asyncio.create_task(one.run()) for one in (a, b)]
        await until(lambda: a.snapshot().dynamic == 1 and state(a, ("", B)) is UP, 20)
        assert a.snapshot().peers[0].config.peer_group == "spokes"
        await b.stop()
        await until(lambda: a.snapshot().dynamic == 0, 5)
        await a.stop()
        await asyncio.gather(*tasks)

    run(scenario(), limit=300)


def test_a_bug_in_the_engine_ends_the_service_and_the_supervisor_starts_it_again() -> None:
    async def scenario() -> None:
        world = two_hosts()
        a, b = Node(world.node("a"), config(B, ID_A)), alone(world.node("b"), config(A, ID_B))
        task = asyncio.create_task(b.run())
        a.interfaces(interface("Ethernet0/0", "192.0.2.1/24"))
        await asyncio.sleep(0.1)
        await until(lambda: state(a.bgp, ("", B)) is UP, 30)
        a.bgp.ribs.deadline = 0  # type: ignore[assignment, method-assign]
        await until(lambda: a.supervisor.processes()[0].restarts == 1, 30)
        await until(lambda: a.supervisor.service("bgp") is not None and state(a.bgp, ("", B)) is UP, 30)
        await b.stop()
        await a.supervisor.stop()
        await task

    run(scenario(), limit=300)


def test_reconfigure_and_clear_reach_the_engine() -> None:
    async def scenario() -> None:
        world = two_hosts()
        a, b = alone(world.node("a"), config(B, ID_A)), alone(world.node("b"), config(A, ID_B))
        tasks = [asyncio.create_task(one.run()) for one in (a, b)]
        await until(lambda: state(a, ("", B)) is UP, 20)
        a.reconfigure(config(B, ID_A, description="changed"))
        assert a.clear(B, soft=True, direction="in") == 1
        assert a.clear(parse_address("192.0.2.77")) == 0
        assert state(a, ("", B)) is UP
        assert a.clear(65000) == 1
        assert state(a, ("", B)) is not UP
        await until(lambda: state(a, ("", B)) is UP, 20)
        a.reconfigure(config(B, ID_A, shutdown=True))
        await until(lambda: b.snapshot().peers[0].last_end.notification == Notification(6, 2), 1)
        for one in (a, b):
            await one.stop()
        await asyncio.gather(*tasks)

    run(scenario(), limit=300)


def test_B05_a_hundred_flaps_leave_no_socket_and_no_task() -> None:
    async def scenario() -> None:
        world = two_hosts()
        a, b = alone(world.node("a"), config(B, ID_A)), alone(world.node("b"), config(A, ID_B))
        tasks = [asyncio.create_task(one.run()) for one in (a, b)]
        for flap in range(100):
            await asyncio.sleep(1.5)
            (a if flap % 2 else b).clear()
        await until(lambda: state(a, ("", B)) is UP and state(b, ("", A)) is UP, 30)
        await asyncio.sleep(200)
        assert state(a, ("", B)) is UP
        assert a.snapshot().peers[0].established > 30
        for one, node in ((a, "a"), (b, "b")):
            assert len(one._connections) == len(world.node(node).tcp.connections) == 1
            assert not one._dialling
            assert not one._lingering
            assert not one._tasks
        for one in (a, b):
            await one.stop()
        await asyncio.gather(*tasks)

    run(scenario(), limit=900)


def test_a_peer_that_never_closes_does_not_hold_up_the_stop() -> None:
    async def scenario() -> None:
        world = two_hosts()
        a, b = alone(world.node("a"), config(B, ID_A)), alone(world.node("b"), config(A, ID_B))
        tasks = [asyncio.create_task(one.run()) for one in (a, b)]
        await until(lambda: state(a, ("", B)) is UP, 20)
        world.between("a", "b").cut()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await a.stop()
        await tasks[0]
        assert loop.time() - begun <= 2.5
        await b.stop()
        await tasks[1]

    run(scenario(), limit=900)


def test_alone_it_needs_a_bus_and_a_network() -> None:
    with pytest.raises(TypeError, match="bus and a network"):
        BgpService(BgpConfig())
