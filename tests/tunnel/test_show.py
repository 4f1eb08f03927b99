"""What `show` prints of tunnels: the mGRE document's layout, on other addresses, names, keys and counts than its own."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from stack.addr import parse_address as a
from stack.events import (
    L3VPN_TUNNEL,
    AddressRow,
    AdjacencyKey,
    AdjacencyWanted,
    Delta,
    EndpointOffered,
    EndpointRow,
    Interface,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    InterfaceState,
    NextHopKey,
    NextHopRow,
    NextHopState,
    SaKey,
    SaRow,
    SaState,
    SourceOffered,
    SourceRow,
    Topic,
)
from stack.ios.command import CommandError, Scene, Shown
from stack.nettypes import Device
from stack.tables import Tables
from stack.tables.nexthop import NextHop
from tunnel.config import L3vpnProfile, TransportProtocol, TunnelConfig, TunnelInterface, TunnelMode
from tunnel.engine.engine import Engine
from tunnel.engine.outputs import Publish
from tunnel.show import COMMANDS, adjacency, endpoints, neighbours, profiles
from tunnel.wire import arp, nd

US, ONE, TWO, CORE = a("198.18.0.1"), a("198.18.0.9"), a("198.18.0.30"), a("10.44.0.2")
MAC, PEER = b"\x02\0\0\0\0\x01", bytes.fromhex("0a1b2c3d4e5f")


class Node:
    """An engine and the tables that `show` reads."""

    def __init__(self, *profiles: L3vpnProfile, **tunnels: TunnelInterface) -> None:
        self.tables = Tables()
        self.hops = self.tables.nexthops.writer("routing")
        self.present = self.tables.interfaces.writer("routing")
        self.config = TunnelConfig({profile.name: profile for profile in profiles}, tunnels)
        self.engine = Engine(self.config, random.Random(5).randbytes, self.tables.nexthops)
        self.now = 1_000.0
        self.engine.devices_changed([Device("e1", 2, MAC, 1500, up=True)])
        rows = {
            "Loopback7": (InterfaceKind.LOOPBACK, {US: 32}, ""),
            "Ethernet0/0": (InterfaceKind.ETHERNET, {a("10.44.0.1"): 30}, ""),
            "Ethernet0/1": (InterfaceKind.ETHERNET, {a("10.8.8.1"): 24, a("2001:db8:8::1"): 64}, "green"),
            **{name: (InterfaceKind.TUNNEL, {}, "") for name in tunnels},
        }
        for name, (kind, addresses, vrf) in rows.items():
            row = InterfaceRow(name, kind, vrf, device="e1" if vrf else "", point_to_point=kind is InterfaceKind.TUNNEL)
            owned = {address: AddressRow(length) for address, length in addresses.items()}
            self.present.put(name, Interface(row, 1, True, 1500, MAC, owned))
            self.tell(InterfaceState, {name: Interface(row, 1, True, 1500, MAC, owned)})

    def tell(self, topic: Topic[Any, Any], rows: dict[Any, Any], owner: str = "routing", after: float = 0.0) -> None:
        self.now += after
        self.engine.receive(Delta(topic, owner, 1, "", rows), self.now)
        self.settle()

    def settle(self) -> None:
        for output in self.engine.settle(self.now):
            if isinstance(output, Publish) and output.topic is InterfaceOffered:
                merged = {n: r and Interface(r, 9, True, r.mtu) for n, r in output.rows.items()}
                for name, row in merged.items():
                    if row:
                        self.present.put(name, row)
                self.engine.receive(Delta(InterfaceState, "routing", 1, "", merged), self.now)
                self.settle()

    def reach(self, *addresses: bytes, owner: str = "bgp", after: float = 0.0) -> None:
        for address in addresses:
            self.tell(NextHopState, {NextHopKey("", address): NextHopRow(True, "", 0, "Ethernet0/0", 1)})
        rows = {(L3VPN_TUNNEL, address): EndpointRow(address) for address in addresses}
        self.tell(EndpointOffered, rows, owner, after)

    def hop(self, number: int, address: bytes, interface: str = "Tunnel0") -> None:
        """A next hop that uses the adjacency of `address`."""
        key = NextHopKey("", address, "", "p", labelled=True)
        self.hops.put(number, NextHop(key, AdjacencyKey(interface, address)))

    def show(self, what: str, *arguments: Any, later: float = 0.0) -> Shown:
        snapshot, now = self.engine.snapshot(), self.now + later
        match what:
            case "endpoints":
                shown = endpoints(snapshot, now, *arguments)
            case "adjacency":
                shown = adjacency(snapshot, self.tables, *arguments)
            case _:
                shown = profiles(snapshot, *arguments)
        json.dumps(shown.value)  # plain: it goes through the control socket
        return shown


def text(shown: Shown) -> str:
    return shown.text.strip("\n")


def test_endpoints() -> None:
    node = Node(L3vpnProfile("over ip", "Loopback7"))
    node.reach(TWO)
    node.reach(ONE, after=60.0)
    node.reach(ONE, owner="nhrp", after=1.0)
    shown = node.show("endpoints", "Tunnel0", later=3600.0)
    bases = re.findall(r"Base (0x[0-9A-F]+)", shown.text)
    assert len(set(bases)) == 2
    assert (
        text(shown)
        == f"""\
Tunnel0 running in multi-GRE/IP mode

Endpoint transport 198.18.0.9 Refcount 3 Base {bases[0]} Create Time 01:00:01
overlay 198.18.0.9 Refcount 3 Parent {bases[0]} Create Time 01:00:01
Endpoint transport 198.18.0.30 Refcount 3 Base {bases[1]} Create Time 01:01:01
overlay 198.18.0.30 Refcount 2 Parent {bases[1]} Create Time 01:01:01"""
    )
    assert shown.value == [
        {
            "tunnel": "Tunnel0",
            "mode": "multi-GRE/IP",
            "endpoints": [
                {
                    "transport": address,
                    "refcount": 3,
                    "age-seconds": age,
                    "overlays": [{"address": address, "refcount": refs, "clients": clients, "age-seconds": age}],
                    "security": None,
                }
                for address, refs, clients, age in (
                    ("198.18.0.9", 3, ["bgp", "nhrp"], 3601.0),
                    ("198.18.0.30", 2, ["bgp"], 3661.0),
                )
            ],
            "security": None,
        }
    ]
    assert node.show("endpoints", later=3600.0) == shown  # there is no other tunnel


def test_endpoints_of_several_tunnels_in_their_order() -> None:
    mode = TunnelMode.MGRE
    node = Node(
        L3vpnProfile("p", "Loopback7", TransportProtocol.MPLS_IN_IP),
        Tunnel2=TunnelInterface("Tunnel2", "Loopback7", mode=mode),
        Tunnel10=TunnelInterface("Tunnel10", "Loopback7", destination=TWO),
    )
    node.tell(EndpointOffered, {("Tunnel2", a("10.77.0.5")): EndpointRow(ONE)}, "nhrp")
    assert [line for line in node.show("endpoints").text.splitlines() if "running" in line] == [
        "Tunnel0 running in multi-MPLS/IP mode",
        "Tunnel2 running in multi-GRE/IP mode",
        "Tunnel10 running in GRE/IP mode",
    ]
    assert "overlay 10.77.0.5 Refcount 2" in node.show("endpoints", "Tunnel2").text


def test_endpoints_of_a_tunnel_that_is_not_there() -> None:
    node = Node(L3vpnProfile("p", "Loopback7"))
    with pytest.raises(CommandError, match=r"^there is no tunnel Tunnel4; there are: Tunnel0$"):
        node.show("endpoints", "Tunnel4")
    with pytest.raises(CommandError, match="there are: none"):
        Node().show("endpoints", "Tunnel4")


def test_adjacencies() -> None:
    node = Node(L3vpnProfile("p", "Loopback7", key=5), Tunnel9=TunnelInterface("Tunnel9", "Loopback7", destination=TWO))
    node.reach(ONE, TWO)
    node.hop(1, ONE)
    node.hop(2, ONE)
    node.hop(3, TWO)
    shown = node.show("adjacency", "Tunnel0")
    assert (
        text(shown)
        == """\
      Protocol Interface                Address
-----
IP      Tunnel0                198.18.0.9(5)
TAG     Tunnel0                198.18.0.9(4)
IP      Tunnel0                198.18.0.30(4)
TAG     Tunnel0                198.18.0.30(3)"""
    )
    assert shown.value[0] == {
        "interface": "Tunnel0",
        "address": "198.18.0.9",
        "kind": "gre",
        "complete": True,
        "reason": "",
        "mtu": 1472,
        "refcounts": {"IP": 5, "TAG": 4},
        "source": "198.18.0.1",
        "destination": "198.18.0.9",
        "gre-key": 5,
        "security": None,
    }
    with pytest.raises(CommandError, match="there is no interface Tunnel3"):
        node.show("adjacency", "Tunnel3")
    whole = node.show("adjacency").text
    assert "IP      Tunnel9                point2point(2)\nTAG     Tunnel9                point2point(2)" in whole


def test_what_is_protected_says_by_what_and_whether_it_is() -> None:
    node = Node(L3vpnProfile("p", "Loopback7", protection="gold"))
    node.reach(ONE, TWO)
    shown = node.show("profiles", "p")
    assert "IPsec: profile gold, 0 of 2 endpoints protected [FAIL: 198.18.0.9: no security association: " in shown.text
    node.tell(SaState, {SaKey("Tunnel0", ONE): SaRow(up=True, identity="fqdn one.example", child=4)}, "ikev2")
    node.tell(SaState, {SaKey("Tunnel0", TWO): SaRow(up=False, reason="peer is silent")}, "ikev2")
    shown = node.show("profiles", "p")
    assert "[FAIL: 198.18.0.30: no security association: peer is silent]" in shown.text
    assert [line["ok"] for line in shown.value[0]["health"]] == [True, True, True, False]

    lines = node.show("endpoints", "Tunnel0").text.splitlines()
    first = next(n for n, line in enumerate(lines) if "transport 198.18.0.9 " in line)
    assert lines[first + 1] == "IPsec profile gold: up, peer fqdn one.example"
    assert lines[first + 4] == "IPsec profile gold: no security association: peer is silent"
    up, down = node.show("endpoints", "Tunnel0").value[0]["endpoints"]
    assert (up["security"]["up"], up["security"]["child"]) == (True, 4)
    assert (down["security"]["up"], down["security"]["reason"]) == (False, "no security association: peer is silent")

    whole = node.show("adjacency", "Tunnel0")
    assert "IP      Tunnel0                198.18.0.9(3) (IPsec profile gold)" in whole.text
    assert "TAG     Tunnel0                198.18.0.30(2) (incomplete: no security association: peer is" in whole.text

    node.tell(SaState, {SaKey("Tunnel0", TWO): SaRow(up=True)}, "ikev2")
    assert "IPsec: profile gold, 2 of 2 endpoints protected [OK]" in node.show("profiles", "p").text


def test_an_adjacency_that_cannot_be_used_says_why() -> None:
    node = Node(L3vpnProfile("p", "Loopback7"))
    node.tell(NextHopState, {NextHopKey("", ONE): NextHopRow(False, "no route to 198.18.0.9")})
    node.tell(EndpointOffered, {(L3VPN_TUNNEL, ONE): EndpointRow(ONE)}, "bgp")
    node.tell(AdjacencyWanted, {AdjacencyKey("Ethernet0/1", a("10.8.8.44")): True})
    lines = node.show("adjacency").text.splitlines()
    assert (
        "IP      Tunnel0                198.18.0.9(3) (incomplete: endpoint unreachable: no route to 198.18.0.9)"
        in lines
    )
    assert "IP      Ethernet0/1            10.8.8.44(2) (incomplete: being resolved)" in lines
    assert not any(line.startswith("TAG     Ethernet") for line in lines)


def test_a_healthy_profile() -> None:
    node = Node(L3vpnProfile("over ip"))
    node.tell(SourceOffered, {"Loopback7": SourceRow("update-source")}, "bgp")
    shown = node.show("profiles", "over ip")
    assert (
        text(shown)
        == """\
Profile: over ip
transport ipv4 source Auto: Loopback7
protocol gre
Tunnel Tunnel0 Created [OK]
Tunnel Linestate [OK]
Tunnel Transport Source (Auto) Loopback7 [OK]"""
    )
    (value,) = shown.value
    assert (value["usable"], value["source"], value["automatic"], value["gre-key"]) == (True, "198.18.0.1", True, None)
    assert [line["ok"] for line in value["health"]] == [True, True, True]


def test_profiles_that_are_ill_say_what_is_wrong() -> None:
    node = Node(L3vpnProfile("first", "Loopback8", key=77), L3vpnProfile("second", "Loopback7"))
    assert (
        text(node.show("profiles"))
        == """\
Profile: first
transport ipv4 source Loopback8
protocol gre key 77
Tunnel Tunnel0 Created [OK]
Tunnel Linestate [FAIL: interface Loopback8 does not exist]
Tunnel Transport Source Loopback8 [FAIL: interface Loopback8 does not exist]

Profile: second
transport ipv4 source none
protocol gre
Tunnel [FAIL: not provisioned: a PE supports one tunnel configuration, and profile first has it]"""
    )
    with pytest.raises(
        CommandError, match=r"^there is no L3VPN encapsulation profile 'third'; there are: first, second$"
    ):
        node.show("profiles", "third")


def test_arp_and_neighbour_tables() -> None:
    node = Node()
    host, silent, host6 = a("10.8.8.20"), a("10.8.8.21"), a("2001:db8:8::20")
    for address in (host, silent, host6):
        node.tell(AdjacencyWanted, {AdjacencyKey("Ethernet0/1", address): True})
    node.engine.neighbours.arp_packet("Ethernet0/1", arp.Arp(arp.REPLY, PEER, host, MAC, a("10.8.8.1")), node.now)
    node.engine.neighbours.nd_packet("Ethernet0/1", nd.Advertisement(host6, a("2001:db8:8::1"), host6, PEER), node.now)
    rows = node.engine.snapshot().neighbours
    shown = neighbours(rows, node.now + 600.0, 4)
    assert (
        text(shown)
        == """\
Protocol  Address          Age (min)  Hardware Addr   Type   Interface
Internet  10.8.8.20               10  0a1b.2c3d.4e5f  ARPA   Ethernet0/1
Internet  10.8.8.21               10  Incomplete      ARPA   Ethernet0/1"""
    )
    assert shown.value[0] == {
        "interface": "Ethernet0/1", "address": "10.8.8.20", "mac": "0a:1b:2c:3d:4e:5f", "state": "reachable",
    }  # fmt: skip
    assert (
        text(neighbours(rows, node.now + 600.0, 16))
        == """\
IPv6 Address                              Age Link-layer Addr State Interface
2001:db8:8::20                             10 0a1b.2c3d.4e5f  REACH Ethernet0/1"""
    )


def test_commands_reach_the_renderers() -> None:
    node = Node(L3vpnProfile("over ip", "Loopback7"))
    node.reach(ONE)

    class Service:
        engine = node.engine

    scene = Scene(Service(), node.tables, None, None, None, node.now)
    by_syntax = {command.syntax.partition(" [")[0].partition(" {")[0]: command for command in COMMANDS[::-1]}
    for syntax, values, seen in (
        ("show tunnel endpoints", {"tunnel": 0}, "198.18.0.9"),
        ("show adjacency", {"tunnel": 0}, "198.18.0.9("),
        ("show adjacency", {"interface": "Tunnel0"}, "198.18.0.9("),
        ("show l3vpn encapsulation ip", {}, "Profile: over ip"),
        ("show l3vpn encapsulation", {"name": "over ip"}, "Profile: over ip"),
        ("show arp", {}, "Hardware Addr"),
        ("show ipv6 neighbors", {}, "IPv6 Address"),
    ):
        assert seen in by_syntax[syntax].run(scene, values).text
