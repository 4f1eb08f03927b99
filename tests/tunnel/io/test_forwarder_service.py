"""The forwarder as a service: ports by the tables, facts to the bus, a crash that packets hardly notice. In memory.

ce1 10.1.0.2 -- eth0 (cust1)          tun (cust1) -- ce2 10.3.0.2
                     \\________ pe ________/
"""

from __future__ import annotations

import asyncio

import structlog

from stack.addr import Prefix, parse_address
from stack.bus import Bus
from stack.events import (
    AddressRow,
    AdjacencyKey,
    AdjacencyRow,
    AdjacencyState,
    HostPortRow,
    HostPortState,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    LabelCounters,
    NeighbourPacket,
    NeighbourUnresolved,
    SendNeighbourPacket,
    ServiceDown,
    Vrf,
    VrfState,
)
from stack.service import Context, Supervisor
from stack.tables import Tables
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.fib import Leaf, LeafKind
from stack.testing import MemoryNetwork, VirtualClock, run
from tunnel.io.service import RETRY, SERVICE, ForwarderService, door_of
from tunnel.wire import arp, ethernet

ip = parse_address
VRF = "cust1"


class Node:
    """A PE whose tables a test writes, with the forwarder under a supervisor."""

    def __init__(self) -> None:
        self.world = MemoryNetwork(seed=3)
        self.world.link(("ce1", "eth0"), ("pe", "eth0"))
        self.world.tun_link(("pe", "tun0"), ("ce2", "tun0"))
        self.ce1, self.ce2, self.pe = (self.world.node(name) for name in ("ce1", "ce2", "pe"))
        self.ce1.address("eth0", "10.1.0.2/24")
        self.ce1.route("0.0.0.0/0", "10.1.0.1")
        self.ce2.address("tun0", "10.3.0.2/30")
        self.ce2.route("0.0.0.0/0", device="tun0")
        self.tables, self.bus = Tables(), Bus()
        self.w = {
            name: getattr(self.tables, name).writer("test") for name in ("vrfs", "interfaces", "fib", "adjacencies")
        }
        self.mac = next(device.mac for device in self.pe.host.devices() if device.name == "eth0")
        self.seat = self.bus.attach("test")
        self.heard = self.bus.attach("ears")
        self.heard.subscribe(NeighbourPacket, NeighbourUnresolved, HostPortState, ServiceDown)
        self.pe.host.drop_ingress("eth0", vlans=(None,))

    def fill(self) -> None:
        for index, name in enumerate(("", VRF)):
            self.w["vrfs"].put(name, Vrf(name, index))
            self.w["fib"].create(name)
        self.interface(InterfaceRow("Ethernet0/0", InterfaceKind.ETHERNET, VRF, device="eth0"), 1, "10.1.0.1", 24)
        self.interface(
            InterfaceRow("TUN0", InterfaceKind.TUN, VRF, device="tun0", point_to_point=True), 2, "10.3.0.1", 30
        )
        for name, prefix, own in (("Ethernet0/0", "10.1.0.0/24", "10.1.0.1"), ("TUN0", "10.3.0.0/30", "10.3.0.1")):
            self.w["fib"].put(VRF, Prefix.parse(prefix), Leaf(LeafKind.ATTACHED, interface=name))
            self.w["fib"].put(VRF, Prefix.host(ip(own)), Leaf(LeafKind.RECEIVE))
        key = AdjacencyKey("TUN0")
        self.w["adjacencies"].put(key, Adjacency(key, AdjacencyKind.TUN, complete=True, mtu=1500))

    def interface(self, row: InterfaceRow, index: int, address: str, length: int) -> None:
        mac = self.mac if row.kind is InterfaceKind.ETHERNET else b""
        made = Interface(row, index, up=True, mtu=1500, mac=mac, addresses={ip(address): AddressRow(length)})
        self.w["interfaces"].put(row.name, made)
        self.seat.publish(InterfaceState, {row.name: made})

    def neighbour(self) -> None:
        mac = next(device.mac for device in self.ce1.host.devices() if device.name == "eth0")
        key = AdjacencyKey("Ethernet0/0", ip("10.1.0.2"))
        rewrite = ethernet.head(mac, self.mac)
        self.w["adjacencies"].put(key, Adjacency(key, AdjacencyKind.ETHERNET, complete=True, mtu=1500, rewrite=rewrite))

    def supervisor(self) -> Supervisor:
        made = Supervisor(
            Context(bus=self.bus, network=self.pe, tables=self.tables, clock=VirtualClock(), log=structlog.get_logger())
        )
        made.start("forwarder", lambda context: SERVICE.factory(None, context))
        return made

    def facts(self, kind: type) -> list:
        return [message for message in self.messages() if isinstance(message, kind)]

    def messages(self) -> list:
        if not hasattr(self, "_kept"):
            self._kept: list = []
        self._kept += self.heard.mailbox.take()
        return self._kept


async def answer_arp(node: Node) -> None:
    """What the tunnel service does: answers for our address, learns the asker."""
    question = node.facts(NeighbourPacket)[0]
    asked = arp.decode(question.octets)
    assert (question.interface, question.arp, asked.target) == ("Ethernet0/0", True, ip("10.1.0.1"))
    reply = arp.encode(arp.Arp(arp.REPLY, node.mac, asked.target, asked.sender_mac, asked.sender))
    node.seat.post(SendNeighbourPacket("Ethernet0/0", question.source, 0x0806, reply))
    node.neighbour()


def test_ports_follow_the_tables_and_a_crash_costs_one_ping():
    async def play() -> None:
        node = Node()
        node.fill()
        supervisor = node.supervisor()
        await asyncio.sleep(0.01)
        rows = node.bus.rows(HostPortState)["forwarder"]
        assert {vrf: row.mtu for vrf, row in rows.items()} == {"": 1500, VRF: 1500}
        assert all(isinstance(row, HostPortRow) and row.device for row in rows.values())

        first = asyncio.create_task(node.ce1.ping("10.3.0.2", timeout=1.0))
        await asyncio.sleep(0.01)
        await answer_arp(node)
        assert (await first)[0].ok
        assert (await node.ce2.ping("10.1.0.2"))[0].ok
        assert (await node.ce1.ping("10.1.0.1"))[0].ok

        service = supervisor.service("forwarder")
        service.fail(RuntimeError("injected"))
        await asyncio.sleep(0)
        await asyncio.sleep(0.15)  # the supervisor's first back-off, on the virtual clock
        assert supervisor.service("forwarder") is not service
        assert [fact.owner for fact in node.facts(ServiceDown)] == ["forwarder"]
        assert (await node.ce1.ping("10.3.0.2"))[0].ok
        assert (await node.ce2.ping("10.1.0.2"))[0].ok
        assert supervisor.processes()[0].incarnation == 2
        await supervisor.stop()
        assert not (await node.ce1.ping("10.3.0.2", timeout=0.1))[0].ok

    run(play())


def test_a_held_packet_is_sent_when_its_neighbour_is_there():
    async def play() -> None:
        node = Node()
        node.fill()
        supervisor = node.supervisor()
        await asyncio.sleep(0.01)
        ping = asyncio.create_task(node.ce2.ping("10.1.0.2", timeout=2.0))
        await asyncio.sleep(0.05)
        assert node.facts(NeighbourUnresolved) == [NeighbourUnresolved("Ethernet0/0", ip("10.1.0.2"))]
        node.neighbour()
        node.seat.publish(VrfState, {"x": Vrf("x", 9)})  # any turn of the service looks at the tables
        await asyncio.sleep(0.05)
        await answer_arp(node)
        assert (await ping)[0].ok
        await supervisor.stop()

    run(play())


def test_neighbours_that_come_and_go_make_nobody_look_at_all_interfaces(monkeypatch):
    async def play() -> None:
        node = Node()
        node.fill()
        supervisor = node.supervisor()
        await asyncio.sleep(0.01)
        service: ForwarderService = supervisor.service("forwarder")
        looks: list = []
        settle, forget = service._settle, service.forwarder.path.forget
        monkeypatch.setattr(service, "_settle", lambda: looks.append("all") or settle())
        monkeypatch.setattr(type(service.forwarder.path), "forget", lambda _: looks.append("forget") or forget())
        for number in range(5):
            node.seat.post(SendNeighbourPacket("Ethernet0/0", bytes(6), 0x0806, bytes(28)))
            node.seat.publish(
                AdjacencyState,
                {AdjacencyKey("Ethernet0/0", bytes((10, 1, 0, number))): AdjacencyRow(usable=True, mtu=1500)},
            )
            await asyncio.sleep(0.01)
        assert looks == []
        node.seat.publish(InterfaceState, {"TUN0": None})
        await asyncio.sleep(0.01)
        assert looks == ["all"]
        await supervisor.stop()

    run(play())


def test_ports_close_when_interfaces_and_vrfs_go():
    async def play() -> None:
        node = Node()
        node.fill()
        supervisor = node.supervisor()
        await asyncio.sleep(0.01)
        service: ForwarderService = supervisor.service("forwarder")
        assert set(service.forwarder.outlets.attachments) == {"Ethernet0/0", "TUN0"}
        node.w["interfaces"].remove("TUN0")
        node.seat.publish(InterfaceState, {"Ethernet0/0": node.tables.interfaces.get("Ethernet0/0")})
        node.w["vrfs"].remove(VRF)
        await asyncio.sleep(0.01)
        assert set(service.forwarder.outlets.attachments) == {"Ethernet0/0"}
        assert set(service.forwarder.outlets.hosts) == {""}
        assert set(node.bus.rows(HostPortState)["forwarder"]) == {""}
        assert node.bus.ask(LabelCounters()) == {}
        await supervisor.stop()

    run(play())


def test_whoever_gets_the_name_of_an_interface_that_went_does_not_inherit_its_counts():
    async def play() -> None:
        node = Node()
        node.fill()
        supervisor = node.supervisor()
        await asyncio.sleep(0.01)
        service: ForwarderService = supervisor.service("forwarder")
        counters = service.forwarder.counters
        for name in ("TUN0", "Ethernet0/0"):
            counters.into(name)[0] = counters.out_of(name)[0] = 5
        node.seat.publish(InterfaceState, {"TUN0": None})  # it is back before anybody looked: it is the same one
        await asyncio.sleep(0.01)
        assert counters.into("TUN0")[0] == 5
        node.w["interfaces"].remove("TUN0")
        node.seat.publish(InterfaceState, {"TUN0": None})
        await asyncio.sleep(0.01)
        assert (counters.into("TUN0"), counters.out_of("TUN0")) == ([0, 0], [0, 0])
        assert counters.into("Ethernet0/0")[0] == 5
        await supervisor.stop()

    run(play())


def test_a_port_that_the_host_refuses_is_tried_again():
    async def play() -> None:
        node = Node()
        node.fill()
        node.interface(InterfaceRow("Ethernet0/9", InterfaceKind.ETHERNET, VRF, device="eth9"), 9, "10.9.0.1", 24)
        supervisor = node.supervisor()
        await asyncio.sleep(0.01)
        service: ForwarderService = supervisor.service("forwarder")
        assert "Ethernet0/9" not in service.forwarder.outlets.attachments
        assert service.deadline() is not None
        node.world.link(("ce9", "eth0"), ("pe", "eth9"))
        await asyncio.sleep(RETRY + 0.1)
        assert "Ethernet0/9" in service.forwarder.outlets.attachments
        assert service.deadline() is None
        await supervisor.stop()

    run(play())


def test_which_port_an_interface_needs():
    def door(kind: InterfaceKind, vrf: str = "", *, up: bool = True, **row):
        made = door_of(Interface(InterfaceRow("X", kind, vrf, device="eth0", **row), 1, up=up, mtu=1500))
        return made and made.kind

    ethernet_kind = InterfaceKind.ETHERNET
    assert door(ethernet_kind, VRF) == "frames"
    assert door(ethernet_kind, VRF, vlan=10) == "frames"
    assert door(ethernet_kind) is None  # the default VRF's devices are the kernel's
    assert door(ethernet_kind, mpls=True) == "labelled"
    assert door(ethernet_kind, VRF, up=False) is None
    assert door(ethernet_kind, VRF, admin_up=False) is None
    assert door(InterfaceKind.TUN, VRF, up=False) == "tun"  # it comes up by being opened
    assert door(InterfaceKind.LOOPBACK) is None
    assert door(InterfaceKind.TUNNEL) is None


def test_the_service_says_what_it_needs_and_gives():
    assert SERVICE.name == "forwarder"
    assert LabelCounters in SERVICE.serves
    assert HostPortState in SERVICE.produces
    assert not SERVICE.writes
