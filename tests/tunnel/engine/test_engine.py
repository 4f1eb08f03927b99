"""The tunnel engine: profile, endpoints, adjacencies, receptions, links and the host's mirror, told by rows alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
from attrs import evolve

from stack.addr import Prefix, PrefixFec, format_address, parse_address
from stack.events import (
    L3VPN_TUNNEL,
    AddressRow,
    AdjacencyKey,
    AdjacencyRow,
    AdjacencyState,
    AdjacencyWanted,
    BindingOffered,
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
    LabelRequest,
    LabelWanted,
    LinkState,
    NeighbourPacket,
    NeighbourUnresolved,
    NextHopKey,
    NextHopRow,
    NextHopState,
    NextHopWanted,
    ProfileState,
    Route,
    RouteOffered,
    RouteSelected,
    Selected,
    SendNeighbourPacket,
    SourceOffered,
    SourceRow,
    Synced,
    Topic,
    Via,
)
from stack.nettypes import Device, HostRoute
from stack.tables.adjacency import AdjacencyKind
from stack.tables.nexthop import NextHop, NextHopTable
from tunnel.config import L3vpnProfile, StaticBinding, TransportProtocol, TunnelConfig, TunnelInterface, TunnelMode
from tunnel.engine.engine import Engine
from tunnel.engine.neighbours import ASK_EVERY, ASK_TIMES, DEAD_FOR, REACHABLE
from tunnel.engine.outputs import Log, Mirror, Post, Publish, PutAdjacency, PutReception
from tunnel.engine.profile import ENCAP_VRF
from tunnel.wire import arp, nd

A = parse_address
US, PE2, PE3, CORE = A("203.0.113.1"), A("203.0.113.2"), A("203.0.113.3"), A("10.9.0.2")
MAC, PEER_MAC = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"


class Node:
    """An engine, and what it said last by topic."""

    def __init__(self, config: TunnelConfig) -> None:
        self.hops = NextHopTable()
        self.engine = Engine(config, random.Random(1).randbytes, self.hops)
        self.now = 100.0
        self.said: dict[tuple[Topic[Any, Any], str], dict[Any, Any]] = {}
        self.sent: list[SendNeighbourPacket] = []
        self.outputs: list[Any] = []
        self.host: Any = None

    def tell(self, topic: Topic[Any, Any], rows: dict[Any, Any], owner: str = "someone", table: str = "") -> None:
        self.engine.receive(Delta(topic, owner, 1, table, rows), self.now)
        self.settle()

    def settle(self) -> None:
        self.take(self.engine.settle(self.now))

    def wait(self, seconds: float) -> None:
        """Time passes, with a wake at every deadline."""
        end = self.now + seconds
        while (due := self.engine.deadline()) is not None and due <= end:
            self.now = due
            self.take(self.engine.wake(due))
        self.now = end

    def take(self, outputs: list[Any]) -> None:
        self.outputs = outputs
        for output in outputs:
            match output:
                case Publish(topic, rows, table):
                    held = self.said.setdefault((topic, table), {})
                    held.update(rows)
                    for key in [key for key, row in rows.items() if row is None]:
                        del held[key]
                case Post(SendNeighbourPacket() as packet):
                    self.sent.append(packet)
                case Mirror():
                    self.host = self.engine.host_state

    def rows(self, topic: Topic[Any, Any], table: str = "") -> dict[Any, Any]:
        return self.said.get((topic, table), {})


def interface(name: str, kind: InterfaceKind, *addresses: str, up: bool = True, **row: Any) -> Interface:
    owned = {A(text.partition("/")[0]): AddressRow(int(text.partition("/")[2])) for text in addresses}
    mac = MAC if kind is InterfaceKind.ETHERNET else b""
    return Interface(InterfaceRow(name, kind, **row), 1, up, row.get("mtu", 1500), mac, owned)


def loopback(**named: Any) -> Interface:
    return interface("Loopback0", InterfaceKind.LOOPBACK, "203.0.113.1/32", **named)


def core(**named: Any) -> Interface:
    return interface("Ethernet0/0", InterfaceKind.ETHERNET, "10.9.0.1/30", device="e0", **named)


def pe(profile: L3vpnProfile | None = None, **named: Any) -> Node:
    """A PE whose way to two others is known."""
    profile = profile or L3vpnProfile("to core", key=77)
    node = Node(TunnelConfig(profiles={profile.name: profile}, **named))
    node.engine.devices_changed([Device("e0", 2, MAC, 1500, up=True), Device("e1", 3, MAC, 1500, up=True)])
    node.tell(InterfaceState, {"Loopback0": loopback(), "Ethernet0/0": core()})
    for address in (PE2, PE3):
        node.tell(NextHopState, {NextHopKey("", address): NextHopRow(True, "", 0, "Ethernet0/0", 1)})
    return node


def offer(node: Node, *addresses: bytes, owner: str = "bgp") -> None:
    node.tell(EndpointOffered, {(L3VPN_TUNNEL, address): EndpointRow(address) for address in addresses}, owner)


def test_a_profile_waits_for_a_transport_source() -> None:
    node = pe()
    row = node.rows(ProfileState)["to core"]
    assert (row.tunnel, row.vrf, row.usable) == ("Tunnel0", ENCAP_VRF, False)
    assert row.reason.startswith("no transport source")
    assert not node.engine.receptions


def test_the_source_is_found_from_bgp() -> None:
    node = pe()
    node.tell(SourceOffered, {"Loopback0": SourceRow("update-source")}, "bgp")
    row = node.rows(ProfileState)["to core"]
    assert (row.source_interface, row.source, row.usable) == ("Loopback0", US, True)
    assert node.rows(LinkState)["Tunnel0"].up if "Tunnel0" in node.engine.interfaces else True


def test_bgp_next_hop_wins_over_update_source() -> None:
    node = pe()
    node.tell(InterfaceState, {"Loopback9": interface("Loopback9", InterfaceKind.LOOPBACK, "203.0.113.9/32")})
    node.tell(SourceOffered, {"Loopback0": SourceRow("update-source"), "Loopback9": SourceRow("bgp next-hop")}, "bgp")
    assert node.rows(ProfileState)["to core"].source_interface == "Loopback9"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("Loopback5", "interface Loopback5 does not exist"),
        ("Loopback6", "interface Loopback6 has no IPv4 address"),
        ("Loopback7", "interface Loopback7 is down"),
        ("Loopback8", "interface Loopback8 is in VRF red, not in the transport network"),
    ],
)
def test_a_profile_says_what_is_wrong_with_its_source(source: str, reason: str) -> None:
    node = pe(L3vpnProfile("p", source=source))
    kind = InterfaceKind.LOOPBACK
    node.tell(
        InterfaceState,
        {
            "Loopback6": interface("Loopback6", kind),
            "Loopback7": interface("Loopback7", kind, "203.0.113.7/32", up=False),
            "Loopback8": interface("Loopback8", kind, "203.0.113.8/32", vrf="red"),
        },
    )
    row = node.rows(ProfileState)["p"]
    assert (row.usable, row.reason) == (False, reason)
    assert [line.fault for line in node.engine.provisions["p"].health] == ["", reason, reason]


def test_a_dummy_tunnel_comes_and_goes_with_the_profile() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0"))
    offered = node.rows(InterfaceOffered)
    assert set(offered) == {"Tunnel0", "Tunnel1"}
    assert offered["Tunnel1"].internal
    node.tell(InterfaceState, {name: Interface(row, 9, False, 1500) for name, row in offered.items()})
    assert node.rows(LinkState)["Tunnel1"].up is False
    assert "never forwards" in node.rows(LinkState)["Tunnel1"].reason
    node.engine.reconfigure(TunnelConfig())
    node.settle()
    assert not node.rows(InterfaceOffered)
    assert not node.rows(ProfileState)


def test_the_automatic_tunnel_takes_a_free_name() -> None:
    configured = {"Tunnel0": TunnelInterface("Tunnel0", source="Loopback0", destination=PE3)}
    node = pe(L3vpnProfile("p", source="Loopback0"), tunnels=configured)
    assert set(node.rows(InterfaceOffered)) == {"Tunnel1", "Tunnel2"}


def test_one_tunnel_configuration_a_pe() -> None:
    profiles = {"one": L3vpnProfile("one", source="Loopback0"), "two": L3vpnProfile("two", source="Loopback0")}
    node = pe()
    node.engine.reconfigure(TunnelConfig(profiles=profiles))
    node.settle()
    states = node.rows(ProfileState)
    assert states["one"].usable
    assert not states["two"].usable
    assert "one tunnel configuration" in states["two"].reason
    assert "one" in states["two"].reason


def test_an_endpoint_makes_an_adjacency_and_a_place_in_the_allow_list() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0", key=77))
    put_tunnel(node)
    offer(node, PE2)
    row = node.engine.adjacencies[AdjacencyKey("Tunnel0", PE2)]
    assert (row.kind, row.complete, row.source, row.destination, row.gre_key) == (
        AdjacencyKind.GRE, True, US, PE2, 77,
    )  # fmt: skip
    assert row.mtu == 1500 - 20 - 8
    assert any(isinstance(o, PutAdjacency) for o in node.outputs)
    assert any(isinstance(o, PutReception) for o in node.outputs)
    reception = node.engine.receptions["Tunnel0"]
    assert (reception.local, reception.gre_key, reception.sources) == (US, 77, frozenset({PE2}))
    assert (reception.ip, reception.mpls, reception.protocols) == (False, True, frozenset({47}))
    assert node.rows(AdjacencyState)[AdjacencyKey("Tunnel0", PE2)].usable
    assert NextHopKey("", PE2) in node.rows(NextHopWanted)
    offer_gone(node, PE2)
    assert AdjacencyKey("Tunnel0", PE2) not in node.engine.adjacencies
    assert node.engine.receptions["Tunnel0"].sources == frozenset()
    assert NextHopKey("", PE2) not in node.rows(NextHopWanted)


def put_tunnel(node: Node) -> None:
    """Routing merged what the engine offered."""
    rows = node.rows(InterfaceOffered)
    node.tell(InterfaceState, {name: Interface(row, 9, up=True, mtu=row.mtu) for name, row in rows.items()}, "routing")


def offer_gone(node: Node, *addresses: bytes, owner: str = "bgp") -> None:
    node.tell(EndpointOffered, {(L3VPN_TUNNEL, address): None for address in addresses}, owner)


def test_a_claim_a_client_and_the_last_one_removes() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0"))
    put_tunnel(node)
    offer(node, PE2, owner="bgp")
    offer(node, PE2, owner="nhrp")
    (endpoint,) = node.engine.snapshot().endpoints
    assert (endpoint.tunnel, endpoint.refcount, endpoint.overlays[0].refcount) == ("Tunnel0", 3, 3)
    offer_gone(node, PE2, owner="bgp")
    assert len(node.engine.snapshot().endpoints) == 1
    offer_gone(node, PE2, owner="nhrp")
    assert not node.engine.snapshot().endpoints


def test_an_unreachable_endpoint_says_why_and_one_row_changes() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0"))
    put_tunnel(node)
    offer(node, PE2, PE3)
    node.tell(NextHopState, {NextHopKey("", PE2): NextHopRow(False, "no route")})
    changed = [o.row.key for o in node.outputs if isinstance(o, PutAdjacency)]
    assert changed == [AdjacencyKey("Tunnel0", PE2)]
    state = node.rows(AdjacencyState)
    assert state[AdjacencyKey("Tunnel0", PE2)] == AdjacencyRow(
        usable=False, mtu=1476, reason="endpoint unreachable: no route", transport=PE2
    )
    assert state[AdjacencyKey("Tunnel0", PE3)].usable


def test_T04_an_endpoint_reached_through_the_tunnel_itself_is_refused() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0"))
    put_tunnel(node)
    offer(node, PE2)
    node.tell(NextHopState, {NextHopKey("", PE2): NextHopRow(True, "", 0, "Tunnel0", 4)})
    assert "recursive routing" in node.rows(AdjacencyState)[AdjacencyKey("Tunnel0", PE2)].reason


def test_the_endpoint_check_can_be_switched_off() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0", endpoint_check=False))
    assert node.engine.receptions["Tunnel0"].sources is None


def test_mpls_in_ip_only_when_configured() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0", protocol=TransportProtocol.MPLS_IN_IP))
    put_tunnel(node)
    offer(node, PE2)
    assert node.engine.receptions["Tunnel0"].protocols == frozenset({137})
    assert node.engine.adjacencies[AdjacencyKey("Tunnel0", PE2)].kind is AdjacencyKind.MPLS_IN_IP


def test_a_protected_profile_takes_nothing_in_clear() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0", protection="ipsec"))
    assert node.engine.receptions["Tunnel0"].protected
    assert node.engine.receptions["Tunnel0"].scope == "protected"


def tunnel_row(**named: Any) -> Interface:
    return interface("Tunnel7", InterfaceKind.TUNNEL, "10.77.0.1/30", point_to_point=True, **named)


def p2p(**named: Any) -> TunnelInterface:
    return TunnelInterface("Tunnel7", source="Loopback0", destination=PE3, **named)


def test_a_point_to_point_tunnel_beside_the_profile() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0", key=77), tunnels={"Tunnel7": p2p(key=5)})
    node.tell(InterfaceState, {"Tunnel7": tunnel_row(mpls=True)})
    assert node.rows(LinkState)["Tunnel7"].up
    row = node.engine.adjacencies[AdjacencyKey("Tunnel7")]
    assert (row.destination, row.gre_key, row.complete) == (PE3, 5, True)
    reception = node.engine.receptions["Tunnel7"]
    assert (reception.sources, reception.point_to_point, reception.gre_key) == (frozenset({PE3}), True, 5)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (NextHopRow(False, "no route"), "tunnel destination unreachable: no route"),
        (NextHopRow(True, "", 0, "Tunnel7", 3), "recursive routing"),
    ],
)
def test_T04_a_tunnel_goes_down_when_its_destination_cannot_be_reached(row: NextHopRow, reason: str) -> None:
    node = pe(tunnels={"Tunnel7": p2p()})
    node.tell(InterfaceState, {"Tunnel7": tunnel_row()})
    assert node.rows(LinkState)["Tunnel7"].up
    node.tell(NextHopState, {NextHopKey("", PE3): row})
    link = node.rows(LinkState)["Tunnel7"]
    assert not link.up
    assert reason in link.reason


def test_a_multipoint_tunnel_takes_endpoints_by_overlay_address() -> None:
    node = pe(tunnels={"Tunnel7": TunnelInterface("Tunnel7", source="Loopback0", mode=TunnelMode.MGRE)})
    node.tell(InterfaceState, {"Tunnel7": interface("Tunnel7", InterfaceKind.TUNNEL, "10.77.0.1/24")})
    node.tell(EndpointOffered, {("Tunnel7", A("10.77.0.2")): EndpointRow(PE2)}, "nhrp")
    assert node.engine.adjacencies[AdjacencyKey("Tunnel7", A("10.77.0.2"))].destination == PE2
    assert node.engine.receptions["Tunnel7"].sources == frozenset({PE2})


def test_static_bindings() -> None:
    own, far = Prefix.parse("203.0.113.1/32"), Prefix.parse("203.0.113.3/32")
    bindings = (
        StaticBinding(far, next_hop=CORE, output=503),
        StaticBinding(own, local=501),
        StaticBinding(far, local=500),
    )
    node = pe(bindings=bindings)
    assert node.rows(BindingOffered) == {("", far, CORE): (503,)}
    wanted = node.rows(LabelWanted)
    assert wanted == {PrefixFec("", own): LabelRequest(frozenset({"ethernet"}), 0, 501)}
    node.tell(NextHopState, {NextHopKey("", PE3, labelled=True): NextHopRow(True, "", 0, "Ethernet0/0", 12)})
    assert node.rows(LabelWanted)[PrefixFec("", far)] == LabelRequest(frozenset({"ethernet"}), 12, 500)


def customer(vrf: str = "red", **named: Any) -> Interface:
    return interface(
        "Ethernet0/1", InterfaceKind.ETHERNET, "10.1.1.1/24", "2001:db8:1::1/64", vrf=vrf, device="e1", **named
    )


def asked(node: Node) -> list[str]:
    """The questions sent, as text; and forgets them."""
    found = []
    for packet in node.sent:
        if packet.ethertype == 0x0806:
            question = arp.decode(packet.octets)
            if question.operation == arp.REQUEST and question.sender != question.target:
                found.append(question.target.hex())
        else:
            message = nd.decode(packet.octets)
            if isinstance(message, nd.Solicitation):
                found.append(message.target.hex())
    node.sent.clear()
    return found


HOST = A("10.1.1.10")


def test_rfc826_a_neighbour_is_asked_for_and_answers() -> None:
    node = pe()
    node.tell(InterfaceState, {"Ethernet0/1": customer()})
    asked(node)
    # packet path: who is 10.1.1.10?      engine: ARP request
    node.engine.receive(NeighbourUnresolved("Ethernet0/1", HOST), node.now)
    node.settle()
    assert asked(node) == [HOST.hex()]
    key = AdjacencyKey("Ethernet0/1", HOST)
    assert not node.engine.adjacencies[key].complete
    assert node.rows(AdjacencyState)[key].usable
    # host: it is me                       engine: adjacency complete, rewrite prebuilt
    reply = arp.encode(arp.Arp(arp.REPLY, PEER_MAC, HOST, MAC, A("10.1.1.1")))
    node.engine.receive(NeighbourPacket("Ethernet0/1", PEER_MAC, arp=True, octets=reply), node.now)
    node.settle()
    assert node.engine.adjacencies[key].rewrite == PEER_MAC + MAC
    assert node.engine.adjacencies[key].complete
    # after a while it is asked again in place, its MAC still in use
    while not (again := asked(node)):
        assert node.now < 100.0 + REACHABLE * 1.25
        node.wait(ASK_EVERY)
    assert again == [HOST.hex()]
    assert node.engine.adjacencies[key].complete


def test_rfc826_silence_is_asked_three_times_and_then_dead() -> None:
    node = pe()
    node.tell(InterfaceState, {"Ethernet0/1": customer()})
    asked(node)
    key = AdjacencyKey("Ethernet0/1", HOST)
    node.tell(AdjacencyWanted, {key: True}, "routing")
    node.wait(ASK_EVERY * ASK_TIMES + 0.5)
    assert asked(node) == [HOST.hex()] * ASK_TIMES
    state = node.rows(AdjacencyState)[key]
    assert (state.usable, state.reason) == (False, "no answer")
    # A route still wants it: it is asked for again after a pause.
    node.wait(DEAD_FOR + ASK_EVERY)
    assert asked(node)


def test_rfc826_own_addresses_are_answered_for_and_nobody_elses() -> None:
    node = pe()
    node.tell(InterfaceState, {"Ethernet0/1": customer()})
    node.sent.clear()
    for target, answers in ((A("10.1.1.1"), 1), (A("10.1.1.77"), 0)):
        question = arp.encode(arp.Arp(arp.REQUEST, PEER_MAC, HOST, bytes(6), target))
        node.engine.receive(NeighbourPacket("Ethernet0/1", PEER_MAC, arp=True, octets=question), node.now)
        node.settle()
        replies = [arp.decode(p.octets) for p in node.sent if arp.decode(p.octets).operation == arp.REPLY]
        assert len(replies) == answers
        if answers:
            assert replies[0] == arp.Arp(arp.REPLY, MAC, target, PEER_MAC, HOST)
        node.sent.clear()


def test_rfc4861_7_2_4_solicitations_are_answered() -> None:
    node = pe()
    node.tell(InterfaceState, {"Ethernet0/1": customer()})
    node.sent.clear()
    ours, theirs = A("2001:db8:1::1"), A("2001:db8:1::10")
    question = nd.Solicitation(theirs, nd.solicited_node(ours), ours, PEER_MAC)
    node.engine.receive(NeighbourPacket("Ethernet0/1", PEER_MAC, arp=False, octets=nd.encode(question)), node.now)
    node.settle()
    assert [p.destination for p in node.sent] == [PEER_MAC] * 2
    # The asker's MAC is used at once, but a question proves nothing (7.2.3): it is asked back, and answered.
    assert {nd.decode(p.octets) for p in node.sent} == {
        nd.Advertisement(ours, theirs, ours, MAC),
        nd.Solicitation(ours, theirs, theirs, MAC),
    }


def test_nothing_is_learnt_from_strangers() -> None:
    node = pe()
    node.tell(InterfaceState, {"Ethernet0/1": customer()})
    for sender in (A("10.66.0.1"), HOST):  # from another network; not asking for us
        packet = arp.encode(arp.Arp(arp.REQUEST, PEER_MAC, sender, bytes(6), A("10.1.1.99")))
        node.engine.receive(NeighbourPacket("Ethernet0/1", PEER_MAC, arp=True, octets=packet), node.now)
        node.settle()
    assert not node.engine.snapshot().neighbours


def test_broken_neighbour_packets_are_counted() -> None:
    node = pe()
    node.tell(InterfaceState, {"Ethernet0/1": customer()})
    for is_arp in (True, False):
        node.engine.receive(NeighbourPacket("Ethernet0/1", PEER_MAC, arp=is_arp, octets=b"\xff" * 9), node.now)
    assert sum(node.engine.snapshot().refused.values()) == 2


def test_an_attachment_that_speaks_ipv6_has_a_link_local_address() -> None:
    node = pe()
    node.tell(InterfaceState, {"Ethernet0/1": customer()})
    from stack.events import AddressOffered

    ((name, address),) = node.rows(AddressOffered)
    assert (name, address) == ("Ethernet0/1", A("fe80::ff:fe00:1"))


def test_the_host_mirror() -> None:
    node = pe(L3vpnProfile("p", source="Loopback0"), tunnels={"Tunnel7": p2p()})
    put_tunnel(node)
    node.tell(InterfaceState, {"Ethernet0/1": customer()})
    node.tell(HostPortState, {"": HostPortRow("ls-0", 1500), "red": HostPortRow("ls-1", 1500)})
    writer = node.hops.writer("routing")
    writer.put(1, NextHop(NextHopKey("", CORE), AdjacencyKey("Ethernet0/0", CORE)))
    writer.put(2, NextHop(NextHopKey("", A("10.77.0.2")), AdjacencyKey("Tunnel7")))
    static = Route(1, (Via(CORE),), "static")
    rows = {
        Prefix.parse("203.0.113.3/32"): Selected("static", static, 1, 0.0),
        Prefix.parse("10.50.0.0/16"): Selected("bgp", Route(200, (Via(A("10.77.0.2")),), "ibgp"), 2, 0.0),
        Prefix.parse("203.0.113.0/24"): Selected("bgp", Route(200, (Via(A("10.77.0.2")),), "ibgp"), 2, 0.0),
        Prefix.parse("203.0.113.2/31"): Selected("bgp", Route(200, (Via(A("10.77.0.2")),), "ibgp"), 2, 0.0),
        Prefix.parse("203.0.113.0/31"): Selected("bgp", Route(200, (Via(A("10.77.0.2")),), "ibgp"), 2, 0.0),
        Prefix(PE2, 32): Selected("bgp", Route(200, (Via(A("10.77.0.2")),), "ibgp"), 2, 0.0),
    }
    node.tell(InterfaceState, {"Tunnel7": tunnel_row()})
    offer(node, PE2)
    node.tell(RouteSelected, rows, "routing")
    assert node.host.addresses == {
        ("e0", A("10.9.0.1"), 30),
        ("ls-0", US, 32),
        ("ls-0", A("10.77.0.1"), 32),
        ("ls-1", A("10.1.1.1"), 32),
        ("ls-1", A("2001:db8:1::1"), 128),
    }
    # Two of the routes leave by Tunnel7 and cover its destination: they may be mirrored only while a more specific one leads
    # there by a device of the kernel's. One that covers an endpoint of the L3VPN tunnel may be always: that one's packets are
    # another tunnel's.
    always = {
        HostRoute(Prefix.parse("10.50.0.0/16"), b"", "ls-0"),
        HostRoute(Prefix.parse("203.0.113.0/31"), b"", "ls-0"),
        HostRoute(Prefix(PE2, 32), b"", "ls-0"),
    }
    guard = Prefix.parse("203.0.113.3/32")
    guarded = {
        HostRoute(guard, CORE, "e0"),
        HostRoute(Prefix.parse("203.0.113.0/24"), b"", "ls-0"),
        HostRoute(Prefix.parse("203.0.113.2/31"), b"", "ls-0"),
    }
    assert node.host.routes == always | guarded
    node.tell(RouteSelected, {guard: None}, "routing")
    assert node.host.routes == always
    node.tell(RouteSelected, {Prefix.parse("203.0.113.2/31"): rows[guard]}, "routing")
    assert node.host.routes == always | {
        HostRoute(Prefix.parse("203.0.113.2/31"), CORE, "e0"),
        HostRoute(Prefix.parse("203.0.113.0/24"), b"", "ls-0"),
    }
    node.tell(RouteSelected, {guard: rows[guard], Prefix.parse("203.0.113.2/31"): rows[Prefix(PE2, 32)]}, "routing")
    assert node.host.routes == always | guarded
    # A next hop may come to leave by another interface while the routes stay as they are, so the engine asks to be told.
    assert {NextHopKey("", CORE), NextHopKey("", A("10.77.0.2"))} <= set(node.rows(NextHopWanted))
    assert node.host.drops == {"e1": frozenset({None})}


def test_the_host_knows_what_is_attached_to_a_multipoint_tunnel_and_what_is_discarded() -> None:
    """Neither has a next hop of its own; what the node itself sends there must not follow the host's default route."""
    tunnel = TunnelInterface("Tunnel7", source="Loopback0", mode=TunnelMode.MGRE)
    node = pe(L3vpnProfile("p", source="Loopback0"), tunnels={"Tunnel7": tunnel})
    node.tell(HostPortState, {"": HostPortRow("ls-0", 1500)})

    def attached(name: str, kind: str = "static") -> Selected:
        return Selected("someone", Route(1, (Via(interface=name),), kind), 0, 0.0)

    discarded = Selected("static", Route(1, (), "static"), 0, 0.0)
    rows = {
        "10.77.0.0/24": attached("Tunnel7", "connected"),
        "10.77.0.1/32": attached("Tunnel7", "connected"),
        "10.88.0.9/32": attached("Tunnel7"),
        "203.0.113.1/32": attached("Loopback0", "connected"),
        "10.9.0.0/30": attached("Ethernet0/0", "connected"),
        "10.99.0.0/16": discarded,
        "0.0.0.0/0": discarded,
    }
    node.tell(RouteSelected, {Prefix.parse(text): row for text, row in rows.items()}, "routing")
    assert node.host.routes == {HostRoute(Prefix.parse("10.99.0.0/16"), b"", "ls-0")}
    node.tell(InterfaceState, {"Tunnel7": interface("Tunnel7", InterfaceKind.TUNNEL, "10.77.0.1/24")})
    copies = {HostRoute(Prefix.parse(text), b"", "ls-0") for text in ("10.77.0.0/24", "10.88.0.9/32", "10.99.0.0/16")}
    assert node.host.routes == copies
    node.tell(RouteSelected, {Prefix.parse("10.88.0.9/32"): None, Prefix.parse("10.99.0.0/16"): None}, "routing")
    assert node.host.routes == {HostRoute(Prefix.parse("10.77.0.0/24"), b"", "ls-0")}
    node.tell(InterfaceState, {"Tunnel7": None})
    assert node.host.routes == set()


def test_routes_that_the_kernel_had_are_offered_as_the_last_resort() -> None:
    node = pe()
    default = HostRoute(Prefix.parse("0.0.0.0/0"), CORE, "e0")
    node.take(node.engine.kernel_routes([default, evolve(default, source=US)]))  # twice, of two metrics
    ((prefix, route),) = node.rows(RouteOffered, "").items()
    assert (str(prefix), route.distance, route.kind) == ("0.0.0.0/0", 254, "kernel")
    assert route.vias == (Via(CORE, "Ethernet0/0"),)
    node.take(node.engine.kernel_routes([]))
    assert not node.rows(RouteOffered, "")


def test_a_device_that_only_the_host_knows_is_taken_for_an_interface_of_the_default_vrf() -> None:
    """The mGRE document's own listing has no interface towards the core: the host's routes lead to the other PEs."""
    node = pe()
    mac = b"\2\0\0\0\0\x77"
    node.engine.devices_changed([*node.engine.devices.values(), Device("up0", 77, mac, 1400, up=True)])
    far, near = HostRoute(Prefix(PE2, 32), CORE, "up0"), HostRoute(Prefix.parse("10.0.12.0/24"), b"", "up0")
    node.take(node.engine.kernel_routes([far, near]))
    node.settle()
    assert not node.rows(RouteOffered, "")
    row = node.rows(InterfaceOffered)["up0"]
    assert (row.kind, row.vrf, row.device, row.mtu) == (InterfaceKind.ETHERNET, "", "up0", 1400)
    node.tell(InterfaceState, {"up0": Interface(row, 77, True, 1400, mac, {})})
    node.take(node.engine.kernel_routes([far, near]))
    vias = {str(prefix): route.vias for prefix, route in node.rows(RouteOffered, "").items()}
    assert vias == {f"{format_address(PE2)}/32": (Via(CORE, "up0"),), "10.0.12.0/24": (Via(b"", "up0"),)}
    # Once the configuration speaks of the device, it is the configuration's.
    node.tell(InterfaceOffered, {"Ethernet0/7": evolve(row, name="Ethernet0/7")}, "router")
    node.take(node.engine.kernel_routes([far]))
    node.settle()
    assert "up0" not in node.rows(InterfaceOffered)


def test_the_kernels_routes_are_of_interest_first_of_all_and_when_an_interface_of_its_own_changes() -> None:
    node = Node(TunnelConfig())
    assert node.engine.kernels_changed()  # no interface at all may be configured towards the core
    node.tell(InterfaceState, {"Loopback0": loopback(), "Ethernet0/1": customer()})
    assert not node.engine.kernels_changed()
    node.tell(InterfaceState, {"Ethernet0/0": core()})
    assert node.engine.kernels_changed()
    assert not node.engine.kernels_changed()
    node.tell(InterfaceState, {"Ethernet0/0": core(up=False)})
    assert node.engine.kernels_changed()
    node.tell(InterfaceState, {"Ethernet0/0": None})
    assert node.engine.kernels_changed()


def test_an_interface_without_a_device_is_down_and_says_so() -> None:
    node = pe()
    node.tell(InterfaceState, {"Ethernet0/2": interface("Ethernet0/2", InterfaceKind.ETHERNET, device="nosuch")})
    assert node.rows(LinkState)["Ethernet0/2"].reason == "no device nosuch on this host"


def test_a_tagged_interface_of_the_default_vrf_is_refused_with_the_reason() -> None:
    node = pe()
    row = evolve(core().row, name="Ethernet0/0.5", vlan=5, parent="Ethernet0/0")
    node.tell(InterfaceState, {"Ethernet0/0.5": Interface(row, 4, up=True, mtu=1500)})
    assert "must be in a VRF" in node.rows(LinkState)["Ethernet0/0.5"].reason


def test_the_order_of_inputs_does_not_matter() -> None:
    steps = [
        (InterfaceState, {"Loopback0": loopback()}, "routing"),
        (InterfaceState, {"Ethernet0/0": core()}, "routing"),
        (EndpointOffered, {(L3VPN_TUNNEL, PE2): EndpointRow(PE2)}, "bgp"),
        (EndpointOffered, {(L3VPN_TUNNEL, PE3): EndpointRow(PE3)}, "bgp"),
        (NextHopState, {NextHopKey("", PE2): NextHopRow(True, "", 0, "Ethernet0/0", 1)}, "routing"),
        (NextHopState, {NextHopKey("", PE3): NextHopRow(False, "no route")}, "routing"),
        (SourceOffered, {"Loopback0": SourceRow("update-source")}, "bgp"),
    ]
    results = []
    for seed in range(40):
        order = random.Random(seed).sample(steps, len(steps))
        node = Node(TunnelConfig(profiles={"p": L3vpnProfile("p", key=9)}))
        for topic, rows, owner in order:
            node.tell(topic, rows, owner)
        put_tunnel(node)
        results.append((node.engine.adjacencies, node.engine.receptions, node.said))
    assert all(result == results[0] for result in results)


def test_a_profile_is_told_to_the_log_once_the_interfaces_are_known() -> None:
    node = Node(TunnelConfig(profiles={"p": L3vpnProfile("p", source="Loopback0")}))
    logs: list[Any] = []

    def told() -> list[tuple[bool, str]]:
        found = [(o.fields["usable"], o.fields["reason"]) for o in node.outputs if isinstance(o, Log)]
        logs.extend(found)
        return found

    node.settle()
    assert told() == []
    node.tell(InterfaceState, {"Loopback0": loopback()})
    assert told() == []
    node.engine.receive(Synced(InterfaceState, "routing", 1), node.now)
    node.settle()
    assert told() == [(True, "")]
    node.tell(InterfaceState, {"Loopback0": None})
    assert told() == [(False, "interface Loopback0 does not exist")]


def test_a_device_that_the_host_merely_has_is_not_adopted() -> None:
    node = pe()
    near = ("fe80::/64", "ff00::/8", "224.0.0.0/4")
    node.take(node.engine.kernel_routes([HostRoute(Prefix.parse(text), b"", "e1") for text in near]))
    node.settle()
    assert not node.rows(RouteOffered, "")
    assert "e1" not in node.rows(InterfaceOffered)
    node.take(node.engine.kernel_routes([HostRoute(Prefix.parse("198.51.100.0/24"), b"", "e1")]))
    node.settle()
    assert "e1" in node.rows(InterfaceOffered)
