"""The engine against a fresh one: whatever came in, in whatever order, it says and holds what an engine says and holds that
is told only how things are now. It settles, it never oscillates, and it never raises."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stack.addr import Prefix
from stack.addr import parse_address as a
from stack.esp import Cipher, EspForm, EspMode
from stack.events import (
    L3VPN_TUNNEL,
    AccessRow,
    AccessWanted,
    AddressRow,
    AdjacencyKey,
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
    NextHopKey,
    NextHopRow,
    NextHopState,
    Route,
    RouteSelected,
    SaKey,
    SaRow,
    SaState,
    Selected,
    SourceOffered,
    SourceRow,
    Topic,
    TunnelProtected,
    Via,
    VrfState,
)
from stack.nettypes import Device
from stack.tables.nexthop import NextHop, NextHopTable
from tunnel.config import L3vpnProfile, StaticBinding, TransportProtocol, TunnelConfig, TunnelInterface, TunnelMode
from tunnel.engine.engine import OWNER, Engine
from tunnel.engine.outputs import DropAdjacency, DropReception, Mirror, Publish, PutAdjacency, PutReception

PE2, PE3, US, HOST = a("203.0.113.2"), a("203.0.113.3"), a("203.0.113.1"), a("10.1.1.10")
K = InterfaceKind
MAC = b"\x02\0\0\0\0\x01"
NOW = 50.0

CONFIGS = [
    TunnelConfig(),
    TunnelConfig({"p": L3vpnProfile("p")}),
    TunnelConfig({"p": L3vpnProfile("p", "Loopback0", key=7, mdt_loopback="Loopback0"), "q": L3vpnProfile("q")}),
    TunnelConfig({"q": L3vpnProfile("q", "Loopback1", TransportProtocol.MPLS_IN_IP, endpoint_check=False)}),
    TunnelConfig({"p": L3vpnProfile("p", "Ethernet0/0", protection="ipsec")}, {}, (
        StaticBinding(Prefix.parse("203.0.113.3/32"), local=500),
        StaticBinding(Prefix.parse("203.0.113.1/32"), local=501),
        StaticBinding(Prefix.parse("203.0.113.3/32"), next_hop=a("10.9.0.2"), output=600),
    )),
    TunnelConfig(
        {"p": L3vpnProfile("p", "Loopback0")},
        {
            "Tunnel0": TunnelInterface("Tunnel0", "Loopback0", destination=PE3, key=3),
            "Tunnel7": TunnelInterface("Tunnel7", "Ethernet0/0", mode=TunnelMode.MGRE),
        },
    ),
    TunnelConfig(
        {},
        {
            "Tunnel0": TunnelInterface("Tunnel0", "Loopback0", destination=PE2),
            "Virtual-Template1": TunnelInterface("Virtual-Template1", "Loopback0", key=5),
        },
    ),
    TunnelConfig({"p": L3vpnProfile("p", "Loopback0", protection="gold")}),
    TunnelConfig(
        {},
        {
            "Tunnel0": TunnelInterface("Tunnel0", "Ethernet0/0", destination=PE3),
            "Tunnel7": TunnelInterface("Tunnel7", source_address=US, destination=PE3, vrf="red"),
            "Virtual-Template1": TunnelInterface("Virtual-Template1"),
        },
    ),
    TunnelConfig(
        {"p": L3vpnProfile("p", "Loopback0", protection="ipsec")},
        {
            "Tunnel7": TunnelInterface("Tunnel7", "Loopback0", mode=TunnelMode.MGRE),
            "Virtual-Template1": TunnelInterface("Virtual-Template1", mode=TunnelMode.MGRE),
            "Virtual-Access2": TunnelInterface("Virtual-Access2", "Loopback0", destination=PE3),
        },
    ),
]  # fmt: skip

SHAPES: Mapping[str, tuple[K, str, dict[bytes, int]]] = {
    "Loopback0": (K.LOOPBACK, "", {US: 32}),
    "Loopback1": (K.LOOPBACK, "", {a("203.0.113.9"): 32, a("2001:db8::9"): 128}),
    "Ethernet0/0": (K.ETHERNET, "", {a("10.9.0.1"): 30}),
    "Ethernet0/1": (K.ETHERNET, "red", {a("10.1.1.1"): 24, a("2001:db8:1::1"): 64}),
    "Ethernet0/2": (K.TUN, "red", {a("10.2.2.1"): 30}),
    "Tunnel0": (K.TUNNEL, "", {a("10.77.0.1"): 30}),
    "Tunnel1": (K.TUNNEL, "red", {}),
    "Tunnel7": (K.TUNNEL, "red", {a("10.70.0.1"): 24}),
    "Virtual-Template1": (K.TEMPLATE, "", {}),
    "Virtual-Access2": (K.TUNNEL, "", {}),
}
DEVICES = {"e0": Device("e0", 2, MAC, 1500, up=True), "e1": Device("e1", 3, MAC, 1400, up=True)}


MOVED = {"Loopback0": {a("203.0.113.7"): 32}, "Ethernet0/0": {a("10.9.0.5"): 30}, "Tunnel0": {a("10.1.1.7"): 32}}
"""Other addresses than the usual ones: renumbered, or negotiated anew."""


def interface(
    name: str,
    *,
    up: bool,
    addressed: str,
    mpls: bool,
    protection: str = "",
    mtu: int = 1500,
    carrier: bool = True,
    vrf: str | None = None,
) -> Interface:
    kind, usual, addresses = SHAPES[name]
    device = {"Ethernet0/0": "e0", "Ethernet0/1": "e1", "Ethernet0/2": "tun2"}.get(name, "")
    tunnel = kind in (K.TUNNEL, K.TEMPLATE)
    row = InterfaceRow(
        name,
        kind,
        vrf if vrf is not None and kind is K.TUNNEL else usual,
        device=device,
        mpls=mpls,
        admin_up=up,
        protection=protection if tunnel else "",
        negotiated=tunnel and addressed == "moved",
    )
    mine = {"bare": {}, "moved": MOVED.get(name, addresses)}.get(addressed, addresses)
    owned = {address: AddressRow(length) for address, length in mine.items()}
    reason = "" if up and carrier else "no carrier" if up else "administratively down"
    return Interface(row, 1, not reason, mtu, MAC if kind is K.ETHERNET else b"", owned, reason)


INTERFACES = st.sampled_from(sorted(SHAPES)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.none()
        | st.builds(
            interface,
            st.just(name),
            up=st.booleans(),
            addressed=st.sampled_from(["", "bare", "moved"]),
            mpls=st.booleans(),
            protection=st.sampled_from(["", "ipsec", "ipsec", "gold"]),
            mtu=st.sampled_from([1400, 1500]),
            carrier=st.sampled_from([True, True, False]),
            vrf=st.sampled_from([None, None, "", "red"]),
        ),
    )
)
WAYS = st.none() | st.sampled_from(
    [
        NextHopRow(True, "", 0, "Ethernet0/0", 1),
        NextHopRow(True, "", 0, "Tunnel0", 2),
        NextHopRow(True, "", 0, "Tunnel7", 3),
        NextHopRow(False, "no route"),
    ]
)
ADJACENCIES = st.sampled_from(
    [
        AdjacencyKey("Ethernet0/1", HOST),
        AdjacencyKey("Ethernet0/1", a("2001:db8:1::10")),
        AdjacencyKey("Ethernet0/0", a("10.9.0.2")),
        AdjacencyKey("Ethernet0/2"),
        AdjacencyKey("Tunnel0"),
        AdjacencyKey("Tunnel0", PE2),
        AdjacencyKey("Tunnel1", PE2),
        AdjacencyKey("Tunnel7", a("10.70.0.2")),
        AdjacencyKey("Virtual-Access1"),
        AdjacencyKey("Virtual-Access1", a("10.70.0.4")),
    ]
)
CLAIMS = st.sampled_from(
    [
        (L3VPN_TUNNEL, PE2),
        (L3VPN_TUNNEL, PE3),
        ("Tunnel7", a("10.70.0.2")),
        ("Tunnel7", a("10.70.0.3")),
        ("Virtual-Access1", a("10.70.0.4")),
    ]
)
CLONES = st.sampled_from(["Virtual-Access1", "Virtual-Access2"])
ACCESS = st.none() | st.builds(
    AccessRow,
    st.sampled_from(["Virtual-Template1", "Virtual-Template2"]),
    st.just(US),
    st.sampled_from([PE2, PE3]),
    st.sampled_from(["", "ipsec"]),
)
SAS = st.sampled_from(
    [SaKey(name) for name in ("Tunnel0", "Virtual-Access1", "Virtual-Access2")]
    + [SaKey(name, remote) for name in ("Tunnel0", "Tunnel7", "Tunnel8") for remote in (PE2, PE3)]
)
SA_ROWS = st.none() | st.sampled_from(
    [
        SaRow(up=True, child=1),
        SaRow(up=True, child=2, form=EspForm(Cipher.AES_GCM_256)),
        SaRow(up=True, form=EspForm(Cipher.AES_GCM_256, mode=EspMode.TUNNEL, udp=True)),
        SaRow(up=False, reason="no answer"),
    ]
)
STATIC = Route(1, (Via(PE2),), "static")


class Told:
    """An engine, routing's merge of the interfaces it makes, and all it has said."""

    def __init__(self, config: TunnelConfig, hops: NextHopTable) -> None:
        self.engine = Engine(config, random.Random(1).randbytes, hops)
        self.said: dict[tuple[Topic[Any, Any], str], dict[Any, Any]] = {}
        self.adjacencies: dict[AdjacencyKey, Any] = {}
        self.receptions: dict[str, Any] = {}
        self.copies: dict[Prefix, Any] = {}
        self.routers: dict[str, Interface] = {}

    def tell(self, topic: Topic[Any, Any], rows: dict[Any, Any], owner: str, table: str = "") -> None:
        self.engine.receive(Delta(topic, owner, 1, table, dict(rows)), NOW)

    def settle(self) -> None:
        """Until nothing is said any more; what it makes comes back as routing would merge it."""
        for _ in range(8):
            outputs = self.engine.settle(NOW)
            if not outputs:
                return
            made: set[str] = set()
            for output in outputs:
                self.take(output, made)
            if made:
                self.merge(made)
        raise AssertionError(f"it does not settle: {outputs}")

    def take(self, output: Any, made: set[str]) -> None:
        match output:
            case Publish(topic, rows, table):
                held = self.said.setdefault((topic, table), {})
                for key, row in rows.items():
                    assert held.get(key) != row, f"{topic}: {key} is said twice"
                    held.pop(key, None)
                    if row is not None:
                        held[key] = row
                if topic is InterfaceOffered:
                    self.tell(InterfaceOffered, rows, OWNER)
                    made.update(rows)
                if topic is LinkState:
                    made.update(name for name in rows if name in self.said.get((InterfaceOffered, ""), {}))
            case PutAdjacency(row):
                self.adjacencies[row.key] = row
            case DropAdjacency(key):
                del self.adjacencies[key]
            case PutReception(row):
                self.receptions[row.interface] = row
            case DropReception(name):
                del self.receptions[name]
            case Mirror(change):
                for prefix, copy in change.routes.items():
                    assert self.copies.get(prefix) != copy, f"the copy of {prefix} is said twice"
                    self.copies.pop(prefix, None)
                    if copy is not None:
                        self.copies[prefix] = copy

    def merge(self, names: set[str]) -> None:
        """Of a name that the router offers too, routing takes the router's."""
        offered, links = self.said.get((InterfaceOffered, ""), {}), self.said.get((LinkState, ""), {})
        rows: dict[str, Interface | None] = {}
        for name in names:
            row, link = offered.get(name), links.get(name)
            rows[name] = self.routers.get(name) or (row and Interface(row, 9, bool(link and link.up), row.mtu))
        self.tell(InterfaceState, rows, "routing")

    def holds(self) -> tuple[Any, ...]:
        return (
            {key: rows for key, rows in self.said.items() if rows},
            {key: evolve(row, created=0.0) for key, row in self.adjacencies.items()},
            self.receptions,
            self.engine.host_state,
            {row.key for row in self.engine.neighbours.snapshot()},
            self.engine.endpoints.snapshot({}),
            self.engine.tunnels.refused,
        )


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.hops = NextHopTable()
        self.hop_writer = writer = self.hops.writer("routing")
        writer.put(1, NextHop(NextHopKey("", PE2), AdjacencyKey("Ethernet0/0", a("10.9.0.2"))))
        writer.put(2, NextHop(NextHopKey("", PE3), AdjacencyKey("Tunnel7", a("10.70.0.2"))))
        writer.put(3, NextHop(NextHopKey("", PE3), None, reason="no route"))
        self.config = CONFIGS[0]
        self.devices = dict(DEVICES)
        self.rows: dict[tuple[Topic[Any, Any], str], dict[Any, Any]] = {}
        self.told = Told(self.config, self.hops)
        self.told.engine.devices_changed(self.devices.values())

    def say(self, topic: Topic[Any, Any], owner: str, rows: dict[Any, Any], settle: bool) -> None:
        held = self.rows.setdefault((topic, owner), {})
        rows = {key: row for key, row in rows.items() if row is not None or key in held}
        for key, row in rows.items():
            held.pop(key, None)
            if row is not None:
                held[key] = row
        if rows:
            self.told.tell(topic, rows, owner)
        if settle:
            self.told.settle()

    @rule(change=INTERFACES, settle=st.booleans())
    def interface(self, change: tuple[str, Interface | None], settle: bool) -> None:
        name, row = change
        self.say(InterfaceOffered, "router", {name: row.row if row else None}, settle=False)
        self.told.routers.pop(name, None)
        if row is not None:
            self.told.routers[name] = row
        self.told.merge({name})
        if settle:
            self.told.settle()

    @rule(claim=CLAIMS, transport=st.none() | st.sampled_from([PE2, PE3]), settle=st.booleans())
    def endpoint(self, claim: tuple[str, bytes], transport: bytes | None, settle: bool) -> None:
        self.say(EndpointOffered, "bgp", {claim: transport and EndpointRow(transport)}, settle)

    @rule(name=CLONES, row=ACCESS, settle=st.booleans())
    def access(self, name: str, row: AccessRow | None, settle: bool) -> None:
        self.say(AccessWanted, "ikev2", {name: row}, settle)

    @rule(key=SAS, row=SA_ROWS, settle=st.booleans())
    def security(self, key: SaKey, row: SaRow | None, settle: bool) -> None:
        self.say(SaState, "ikev2", {key: row}, settle)

    @rule(address=st.sampled_from([PE2, PE3]), labelled=st.booleans(), row=WAYS, settle=st.booleans())
    def way(self, address: bytes, labelled: bool, row: NextHopRow | None, settle: bool) -> None:
        self.say(NextHopState, "routing", {NextHopKey("", address, labelled=labelled): row}, settle)

    @rule(
        name=st.sampled_from(["Loopback0", "Loopback1"]), use=st.sampled_from([None, "update-source", "bgp next-hop"])
    )
    def source(self, name: str, use: str | None) -> None:
        self.say(SourceOffered, "bgp", {name: use and SourceRow(use)}, settle=True)

    @rule(key=ADJACENCIES, wanted=st.sampled_from([None, True]), settle=st.booleans())
    def want(self, key: AdjacencyKey, wanted: bool | None, settle: bool) -> None:
        """(A neighbour that is wanted no more stays until it dies: that is history, which a fresh engine has not.)"""
        wanted = True if key.interface.startswith("Ethernet") and key.address else wanted
        self.say(AdjacencyWanted, "routing", {key: wanted}, settle)

    @rule(
        vrf=st.sampled_from(["", "red"]),
        row=st.sampled_from([None, HostPortRow("ls-0", 1500), HostPortRow("ls-1", 1500)]),
    )
    def host_port(self, vrf: str, row: HostPortRow | None) -> None:
        self.say(HostPortState, "forwarder", {vrf: row}, settle=True)

    @rule(
        text=st.sampled_from(["10.50.0.0/16", "203.0.113.0/24", "0.0.0.0/0"]), hop=st.sampled_from([None, 0, 1, 2, 3])
    )
    def route(self, text: str, hop: int | None) -> None:
        row = None if hop is None else Selected("static", STATIC, hop, 0.0)
        self.say(RouteSelected, "routing", {Prefix.parse(text): row}, settle=True)

    @rule(hop=st.sampled_from([1, 2, 3]), interface=st.sampled_from(["", "Ethernet0/0", "Ethernet0/1", "Tunnel7"]))
    def next_hop(self, hop: int, interface: str) -> None:
        """It leaves by another interface, or is unusable, and its routes stay as they are."""
        adjacency = AdjacencyKey(interface, PE3) if interface else None
        self.hop_writer.put(hop, NextHop(NextHopKey("", PE2), adjacency))
        self.told.settle()

    @rule(name=st.sampled_from(["Tunnel_Encap", "Tunnel_Encap_"]), there=st.booleans())
    def vrf(self, name: str, there: bool) -> None:
        self.say(VrfState, "router", {name: name if there else None}, settle=True)

    @rule(config=st.sampled_from(CONFIGS), settle=st.booleans())
    def reconfigure(self, config: TunnelConfig, settle: bool) -> None:
        self.config = config
        self.told.engine.reconfigure(config)
        if settle:
            self.told.settle()

    @rule(name=st.sampled_from(sorted(DEVICES)), change=st.sampled_from(["gone", "down", "as before"]))
    def device(self, name: str, change: str) -> None:
        self.devices.pop(name, None)
        if change != "gone":
            self.devices[name] = evolve(DEVICES[name], up=change != "down")
        self.told.engine.devices_changed(self.devices.values())
        self.told.settle()

    @invariant()
    def as_a_fresh_engine(self) -> None:
        self.told.settle()
        assert self.told.engine.settle(NOW) == []
        fresh = Told(self.config, self.hops)
        fresh.engine.devices_changed(self.devices.values())
        fresh.routers = dict(self.told.routers)
        fresh.merge(set(fresh.routers))
        for (topic, owner), rows in self.rows.items():
            if rows:
                fresh.tell(topic, rows, owner)
        fresh.settle()
        for mine, its in zip(self.told.holds(), fresh.holds(), strict=True):
            assert mine == its
        # What was put into the tables is what the engine holds itself.
        assert set(self.told.copies.values()) == self.told.engine.host_state.routes
        assert self.told.adjacencies == self.told.engine.adjacencies
        assert self.told.receptions == self.told.engine.receptions

    @invariant()
    def fails_closed(self) -> None:
        """Whatever happened: a protected neighbour is sent to by its SA or not at all, and what it sends comes by ESP."""
        engine = self.told.engine
        profiles = {p.row.tunnel: p.profile.protection for p in engine.provisions.values() if p.row.tunnel}
        protection = {
            name: profiles.get(name, one.row.protection)
            for name, one in engine.interfaces.items()
            if one.row.kind is K.TUNNEL
        }
        states = self.rows.get((SaState, "ikev2"), {})
        for row in engine.adjacencies.values():
            if wanted := protection.get(row.key.interface, ""):
                assert row.sa is not None
                assert (row.protection, row.sa.interface) == (wanted, row.key.interface)
                assert not row.complete or states[row.sa].up
            else:
                assert (row.protection, row.sa) == ("", None)
        for reception in engine.receptions.values():
            guarded = bool(protection.get(reception.interface))
            assert (reception.protected, reception.scope == "protected") == (guarded, guarded)
        told = {name: row.profile for name, row in self.told.said.get((TunnelProtected, ""), {}).items()}
        assert told.items() <= {name: one for name, one in protection.items() if one}.items()


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
