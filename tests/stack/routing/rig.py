"""Routing's engine on a bench: rows in by short words, tables out as plain values."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from stack.addr import Prefix, parse_address
from stack.events import (
    AddressOffered,
    AddressRow,
    AdjacencyKey,
    AdjacencyRow,
    AdjacencyState,
    BindingOffered,
    Delta,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    LinkRow,
    LinkState,
    NextHopKey,
    NextHopState,
    NextHopWanted,
    ProfileRow,
    ProfileState,
    Route,
    RouteOffered,
    RouteSelected,
    Topic,
    Via,
    Vrf,
    VrfState,
)
from stack.routing.engine import Engine, Log, Output, Publish
from stack.tables import Tables

P, A = Prefix.parse, parse_address
Item = tuple[Topic[Any, Any], str, str, Any, Any]
"""topic, owner, table, key, row"""


def vrf(name: str) -> Item:
    return VrfState, "router", "", name, Vrf(name, 1)


def interface(name: str, kind: InterfaceKind = InterfaceKind.ETHERNET, **named: Any) -> Item:
    return InterfaceOffered, "router", "", name, InterfaceRow(name, kind, **named)


def link(name: str, *, up: bool = True, mtu: int = 1500, mac: bytes = b"", reason: str = "") -> Item:
    return LinkState, "tunnel", "", name, LinkRow(up, mtu, mac, reason)


def address(name: str, text: str, **named: Any) -> Item:
    host, _, length = text.partition("/")
    return AddressOffered, "router", "", (name, A(host)), AddressRow(int(length), **named)


def neighbour(name: str, text: str = "", *, usable: bool = True, reason: str = "", transport: str = "") -> Item:
    key = AdjacencyKey(name, A(text) if text else b"")
    return AdjacencyState, "tunnel", "", key, AdjacencyRow(usable, 1500, reason, A(transport) if transport else b"")


def via(text: str = "", interface: str = "", vrf: str = "", encap: str = "", labels: tuple[int, ...] = ()) -> Via:
    return Via(A(text) if text else b"", interface, vrf, encap, labels)


def route(
    prefix: str, *vias: Via, vrf: str = "", owner: str = "static", distance: int = 1, metric: int = 0, **named: Any
) -> Item:
    return RouteOffered, owner, vrf, P(prefix), Route(distance, vias, owner, metric, **named)


def binding(prefix: str, hop: str, *labels: int, vrf: str = "") -> Item:
    return BindingOffered, "tunnel", "", (vrf, P(prefix), A(hop) if hop else b""), labels


def profile(name: str, *, usable: bool = True, reason: str = "", tunnel: str = "Tunnel0", vrf: str = "encap") -> Item:
    return ProfileState, "tunnel", "", name, ProfileRow(tunnel, vrf, "Loopback0", A("192.0.2.1"), usable, reason)


def wanted(text: str, *, owner: str = "bgp", vrf: str = "", encap: str = "", labelled: bool = False) -> Item:
    return NextHopWanted, owner, "", NextHopKey(vrf, A(text), "", encap, labelled), True


@define(eq=False)
class Rig:
    """`give` feeds rows and settles. `published`: what stands, by (topic, table); `writes` counts next-hop rows written."""

    tables: Tables = field(factory=Tables)
    now: float = 0.0
    published: dict[tuple[Topic[Any, Any], str], dict[Any, Any]] = field(factory=dict)
    outputs: list[Output] = field(factory=list)
    engine: Engine = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        t = self.tables
        t.revoke("routing")
        self.engine = Engine.of(t.interfaces, t.nexthops, t.rib, t.fib)

    def give(self, *items: Item, limit: int = 5000) -> Rig:
        for topic, owner, table, key, row in items:
            self.engine.feed(Delta(topic, owner, 1, table, {key: row}), self.now)
        return self.settle(limit)

    def take(self, *items: Item, limit: int = 5000) -> Rig:
        return self.give(*((*item[:4], None) for item in items), limit=limit)

    def settle(self, limit: int = 5000) -> Rig:
        self.outputs = []
        while True:
            self.outputs += self.engine.settle(self.now, limit)
            if not self.engine.pending:
                break
        for output in self.outputs:
            if isinstance(output, Publish):
                stands = self.published.setdefault((output.topic, output.table), {})
                stands.update(output.rows)
                for key in [k for k, row in output.rows.items() if row is None]:
                    del stands[key]
        return self

    @property
    def logs(self) -> list[Log]:
        return [output for output in self.outputs if isinstance(output, Log)]

    def leaf(self, text: str, vrf: str = "") -> Any:
        fib = self.tables.fib.get(vrf)
        return fib.lookup(A(text)) if fib else None

    def hop(self, text: str, vrf: str = "") -> Any:
        """The next-hop row behind the FIB leaf of an address."""
        leaf = self.leaf(text, vrf)
        return self.tables.nexthops.get(leaf.next_hop) if leaf else None

    def reason(self, prefix: str, owner: str = "static", vrf: str = "") -> str | None:
        """Why an owner's candidate is not usable; '' if it is; None if there is none."""
        entry = self.tables.rib.get(vrf, P(prefix))
        return next((c.reason for c in entry.candidates if c.owner == owner), None) if entry else None

    def answer(self, text: str, **named: Any) -> Any:
        return self.published.get((NextHopState, ""), {}).get(wanted(text, **named)[3])

    def selected(self, vrf: str = "") -> dict[str, str]:
        return {str(p): s.owner for p, s in self.published.get((RouteSelected, vrf), {}).items()}


CORE = (
    vrf(""),
    interface("Ethernet0/0", mpls=True),
    link("Ethernet0/0", mac=b"\2\0\0\0\0\1"),
    address("Ethernet0/0", "10.0.12.1/24"),
    neighbour("Ethernet0/0", "10.0.12.2"),
    interface("Loopback0", InterfaceKind.LOOPBACK),
    address("Loopback0", "192.0.2.1/32"),
)
"""One core link with a neighbour 10.0.12.2 on it, and a loopback."""

MGRE = (
    interface("Tunnel0", InterfaceKind.TUNNEL, internal=True, vrf="encap"),
    link("Tunnel0"),
    profile("core"),
    neighbour("Tunnel0", "192.0.2.2", transport="192.0.2.2"),
    route("192.0.2.2/32", via("10.0.12.2")),
)
"""The mGRE tunnel of profile `core`, with the endpoint 192.0.2.2."""
