"""Two PEs whose forwarders speak ESP to each other, as services, over an in-memory network. SAs are written by hand.

ce1 10.1.0.2 -- TUN0 pe1 192.0.2.1 ==== Tunnel0, ESP ==== 192.0.2.2 pe2 TUN0 -- ce2 10.2.0.2          (VRF cust1, labels 18)
"""

from __future__ import annotations

import asyncio

import pytest
import structlog
from attrs import evolve

from stack.addr import Prefix, parse_address
from stack.bus import Bus
from stack.esp import EspForm, EspMode, Selector
from stack.events import (
    AddressRow,
    AdjacencyKey,
    Interface,
    InterfaceKind,
    InterfaceRow,
    NextHopKey,
    ProtectedRow,
    SaKey,
    SaMoved,
    SaUnknown,
    TunnelProtected,
    Vrf,
)
from stack.service import Context, Supervisor
from stack.tables import Tables
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.fib import Leaf, LeafKind
from stack.tables.lfib import Nhlfe, Operation
from stack.tables.nexthop import NextHop
from stack.tables.reception import Reception
from stack.tables.sad import Sa
from stack.testing import MemoryNetwork, VirtualClock, run
from tests.tunnel.io.esp_world import FORMS, GCM, octets
from tunnel.io.counters import Drop
from tunnel.io.service import SERVICE, ForwarderService

ip = parse_address
VRF = "cust1"
ENDS = {1: ip("192.0.2.1"), 2: ip("192.0.2.2")}


def associate(pair: Pair, form: EspForm, generation: int = 0, **more) -> None:
    """A CHILD_SA between the two, written into both SADs: the new one is in both before it is used."""
    sas = {}
    for number in (1, 2):
        spi, ports = generation << 16 | 0x1000 | number, (4500, 4500) if form.udp else (0, 0)
        near, far = ENDS[number], ENDS[3 - number]
        fields = {
            "encryption": octets(form.cipher.key, spi),
            "salt": octets(form.cipher.salt, spi),
            "integrity": octets(form.integrity.key, spi),
            **more,
        }
        ends = {"own": (Selector(near, near, 47),), "far": (Selector(far, far, 47),)}
        sas[number] = Sa(
            spi, SaKey("Tunnel0"), near, far, form, ports=ports, child=generation + 1, esn=True, **ends, **fields
        )
    for number in (1, 2):
        out = sas[number]
        into = evolve(sas[3 - number], local=out.local, remote=out.remote, own=out.own, far=out.far)
        pair.sad[number].put_inbound(evolve(into, use=type(into.use)()))
    for number in (1, 2):
        pair.sad[number].put_outbound(sas[number])


class Pair:
    protect = True
    """Whether the forwarders are told that the tunnel is protected."""

    def __init__(self, form: EspForm, **world) -> None:
        self.form = form
        self.world = MemoryNetwork(seed=5, **world)
        self.core = self.world.link(("pe1", "eth0"), ("pe2", "eth0"))
        self.ce, self.pe, self.tables, self.sad, self.bus, self.w = {}, {}, {}, {}, {}, {}
        for number in (1, 2):
            self.world.tun_link((f"pe{number}", "tun0"), (f"ce{number}", "tun0"))
            self.ce[number], self.pe[number] = self.world.node(f"ce{number}"), self.world.node(f"pe{number}")
            self.ce[number].address("tun0", f"10.{number}.0.2/30")
            self.ce[number].route("0.0.0.0/0", device="tun0")
            self.pe[number].address("eth0", f"192.0.2.{number}/24")
            self.tables[number], self.bus[number] = Tables(), Bus()
            self.sad[number] = self.tables[number].sad.writer("ikev2")
            self.fill(number)

    def fill(self, number: int) -> None:
        tables, other = self.tables[number], 3 - number
        names = ("vrfs", "interfaces", "fib", "lfib", "nexthops", "adjacencies", "receptions")
        w = self.w[number] = {name: getattr(tables, name).writer("test") for name in names}
        for index, vrf in enumerate(("", VRF)):
            w["vrfs"].put(vrf, Vrf(vrf, index))
            w["fib"].create(vrf)
        tun = InterfaceRow("TUN0", InterfaceKind.TUN, VRF, device="tun0", point_to_point=True)
        own = {ip(f"10.{number}.0.1"): AddressRow(30)}
        w["interfaces"].put("TUN0", Interface(tun, 1, up=True, mtu=1500, addresses=own))
        row = InterfaceRow("Tunnel0", InterfaceKind.TUNNEL, mpls=True)
        w["interfaces"].put("Tunnel0", Interface(row, 2, up=True, mtu=1400))
        key, customer = AdjacencyKey("Tunnel0"), AdjacencyKey("TUN0")
        w["adjacencies"].put(
            key,
            Adjacency(
                key,
                AdjacencyKind.GRE,
                complete=True,
                mtu=self.form.room(1500) - 4 - (20 if self.form.mode is EspMode.TUNNEL else 0),
                source=ENDS[number],
                destination=ENDS[other],
                protection="ipsec",
                sa=SaKey("Tunnel0"),
            ),
        )
        w["adjacencies"].put(customer, Adjacency(customer, AdjacencyKind.TUN, complete=True, mtu=1500))
        w["nexthops"].put(1, NextHop(NextHopKey("", b"", "Tunnel0"), key))
        w["fib"].put(VRF, Prefix.parse(f"10.{other}.0.0/16"), Leaf(LeafKind.FORWARD, 1, (18,)))
        w["fib"].put(VRF, Prefix.parse(f"10.{number}.0.0/30"), Leaf(LeafKind.ATTACHED, interface="TUN0"))
        w["fib"].put(VRF, Prefix.parse(f"10.{number}.0.1/32"), Leaf(LeafKind.RECEIVE))
        w["lfib"].put(18, Nhlfe(Operation.POP_LOOKUP, VRF, frozenset(("protected",)), 1))
        ends = {"point_to_point": True, "scope": "protected", "protected": True, "ip": False}
        w["receptions"].put(
            "Tunnel0",
            Reception("Tunnel0", ENDS[number], frozenset((47,)), sources=frozenset((ENDS[other],)), **ends),
        )

    async def start(self) -> None:
        self.supervisors = {}
        self.ears = {number: self.bus[number].attach("ears") for number in (1, 2)}
        self.seats = {number: self.bus[number].attach("test") for number in (1, 2)}
        for number in (1, 2):
            self.ears[number].subscribe(SaMoved, SaUnknown)
            supervisor = self.supervisors[number] = Supervisor(
                Context(
                    bus=self.bus[number],
                    network=self.pe[number],
                    tables=self.tables[number],
                    clock=VirtualClock(),
                    log=structlog.get_logger(),
                )
            )
            supervisor.start("forwarder", lambda context: SERVICE.factory(None, context))
            if self.protect:
                self.seats[number].publish(
                    TunnelProtected, {"Tunnel0": ProtectedRow("ipsec", ENDS[number], ENDS[3 - number])}
                )
        await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for supervisor in self.supervisors.values():
            await supervisor.stop()

    def forwarder(self, number: int):
        service: ForwarderService = self.supervisors[number].service("forwarder")
        return service.forwarder

    async def ping(self, count: int = 1, **more) -> int:
        """How many answers."""
        results = await self.ce[1].ping("10.2.0.2", count=count, timeout=0.2, **more)
        return sum(result.ok for result in results)


def play(form: EspForm, work, **world) -> None:
    async def whole() -> None:
        pair = Pair(form, **world)
        await pair.start()
        await work(pair)
        await pair.stop()
        assert not any(frame.octets[23] == 47 for frame in pair.core.frames if frame.octets[12:14] == b"\x08\0"), (
            "GRE in clear"
        )

    run(whole())


@pytest.mark.parametrize("name", FORMS)
def test_two_forwarders_understand_each_other(name):
    async def work(pair: Pair) -> None:
        assert await pair.ping() == 0
        associate(pair, FORMS[name])
        for size in (0, 1, 56, 1000, 1360):
            assert await pair.ping(3, size=size) == 3
        assert not pair.forwarder(2).counters.drops
        assert pair.tables[2].sad.inbound[0x1001].use.packets == 15
        assert await pair.ping(size=4000) == 1, "in fragments, each sealed by itself"

    play(FORMS[name], work)


def test_E04_nothing_leaves_before_the_sa_nor_after_it():
    async def work(pair: Pair) -> None:
        assert await pair.ping(3) == 0
        associate(pair, GCM)
        assert await pair.ping() == 1
        pair.sad[1].keep_only({}, {})
        assert await pair.ping(3) == 0
        assert pair.forwarder(1).counters.total(Drop.PROTECTED) == 6

    play(GCM, work)


def test_a_rekey_under_traffic_loses_nothing():
    async def work(pair: Pair) -> None:
        associate(pair, GCM)
        pings = asyncio.create_task(pair.ping(40, interval=0.001))
        for generation in range(1, 6):
            await asyncio.sleep(0.01)
            associate(pair, GCM, generation)
        assert await pings == 40
        assert not pair.forwarder(1).counters.drops
        assert not pair.forwarder(2).counters.drops

    play(GCM, work, delay=0.002)


def test_E05_a_crash_of_the_forwarder_uses_no_number_twice():
    async def work(pair: Pair) -> None:
        associate(pair, GCM)
        assert await pair.ping(3) == 3
        for number in (1, 2):
            pair.supervisors[number].service("forwarder").fail(RuntimeError("injected"))
            await asyncio.sleep(0.5)
            assert await pair.ping(3) == 3
        assert pair.tables[1].sad.get(SaKey("Tunnel0")).outbound.use.sequence == 9
        numbers = [f.octets[34:42] for f in pair.core.frames if f.octets[12:14] == b"\x08\0" and f.octets[23] == 50]
        assert len(set(numbers)) == len(numbers) == 18
        assert not pair.forwarder(2).counters.drops

    play(GCM, work)


@pytest.mark.parametrize("name", ["gcm-256", "gcm-128 udp"])
def test_a_lossy_reordering_path(name):
    async def work(pair: Pair) -> None:
        associate(pair, FORMS[name], window=1024)
        pings = [asyncio.create_task(pair.ping(20, interval=0.003)) for _ in range(5)]
        answered = sum([await ping for ping in pings])
        assert 30 < answered < 100
        drops = pair.forwarder(2).counters.drops
        assert not drops

    play(FORMS[name], work, loss=0.1, reorder=0.2, jitter=0.004)


def test_unknown_spis_reach_the_bus():
    async def work(pair: Pair) -> None:
        associate(pair, GCM)
        pair.sad[2].remove_inbound(0x1001)
        assert await pair.ping() == 0
        facts = [fact for fact in pair.ears[2].mailbox.take() if isinstance(fact, SaUnknown)]
        assert facts == [SaUnknown(ENDS[2], ENDS[1], 0x1001)]

    play(GCM, work)


def test_sockets_for_esp_only_where_a_tunnel_is_protected():
    """A host that has nothing to do with ESP keeps on saying so to who sends it some."""

    def heard(pair: Pair, number: int) -> set[tuple[int, int]]:
        return {(raw.protocol, raw.to) for raw in pair.pe[number].ip.raws if not raw.remote}

    async def whole() -> None:
        pair = Pair(GCM)
        pair.protect = False
        await pair.start()
        assert heard(pair, 1) == {(47, 0), (137, 0)}
        row = ProtectedRow("ipsec", *ENDS.values())
        pair.seats[1].publish(TunnelProtected, {"Tunnel0": row})
        await asyncio.sleep(0.01)
        assert heard(pair, 1) == {(47, 0), (137, 0), (50, 0), (17, 4500)}
        assert heard(pair, 2) == {(47, 0), (137, 0)}
        await pair.stop()
        assert heard(pair, 1) == set()

    run(whole())
