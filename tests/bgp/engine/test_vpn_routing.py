"""V06 with BGP and routing joined: what a customer's packets may follow, whatever happens to route targets and shortcuts.

peer --VPNv4, label says whose--> Ribs --RouteOffered--> routing's engine --> RIB and FIB of cust1, cust2, default
                                          nhrp's shortcuts, label 9xx ---^
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp.wire import VPNV4
from stack.addr import Afi
from stack.events import Delta, InterfaceKind, Route, RouteOffered, VrfState
from stack.tables.fib import LeafKind
from tests.bgp.engine.rib_world import TestPeer, World, attributes, ip
from tests.stack.routing.rig import CORE, Item, Rig, address, binding, interface, link, neighbour, route, via, vrf

VRFS = ("cust1", "cust2")
TARGETS = {"cust1": "1:1", "cust2": "2:2"}
PREFIXES = ("192.168.1.0/24", "0.0.0.0/0", "192.168.1.128/25")
"""The same in both."""
LABELS = {"1:1": 100, "2:2": 200, "7:7": 700}
SHORTCUT = {"cust1": 901, "cust2": 902}
PROBES = ("192.168.1.1", "192.168.1.200", "203.0.113.7")

TUNNEL: tuple[Item, ...] = (
    interface("Tunnel0", InterfaceKind.TUNNEL, mpls=True),
    link("Tunnel0"),
    address("Tunnel0", "10.0.0.1/24"),
    *(neighbour("Tunnel0", f"10.0.0.{n}") for n in (2, 3)),
    *(binding(f"10.0.0.{n}/32", "", 3) for n in (2, 3)),
)


@define(eq=False)
class Joined:
    """`imports`: VRF -> its import targets. `remote`: (RD, prefix) -> the targets it carries."""

    world: World = field(factory=World)
    rig: Rig = field(factory=lambda: Rig().give(*CORE, *TUNNEL))
    offered: dict[str, dict[Any, Route]] = field(factory=dict)
    imports: dict[str, frozenset[str]] = field(factory=dict)
    remote: dict[tuple[str, str], frozenset[str]] = field(factory=dict)
    shortcuts: set[tuple[str, str]] = field(factory=set)
    peer: TestPeer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.peer = self.world.peer("10.0.0.2")

    def set_vrf(self, name: str, imports: frozenset[str] | None) -> None:
        if imports is None:
            self.imports.pop(name, None)
            self.world.tell(VrfState, {name: None})
            self.rig.take(vrf(name))
        else:
            self.imports[name] = imports
            self.world.vrf(name, TARGETS[name], imports=tuple(imports), exports=(TARGETS[name],))
            self.rig.give(vrf(name))

    def announce(self, rd: str, prefix: str, targets: frozenset[str] | None) -> None:
        if targets is None:
            self.remote.pop((rd, prefix), None)
            self.peer.withdraw(VPNV4, f"{rd} {prefix}")
            return
        self.remote[rd, prefix] = targets
        label = LABELS[rd] + PREFIXES.index(prefix)
        self.peer.announce(VPNV4, f"{rd} {prefix}", attrs=attributes((), tuple(targets)), label=label)

    def shortcut(self, name: str, prefix: str, *, there: bool) -> None:
        (self.shortcuts.add if there else self.shortcuts.discard)((name, prefix))
        way = via("10.0.0.3", "Tunnel0", labels=(SHORTCUT[name],))
        item = route(prefix, way, vrf=name, owner="nhrp", distance=250, override=True)
        (self.rig.give if there else self.rig.take)(item)

    def sync(self, limit: int) -> None:
        """What BGP offers now goes to routing."""
        for name, rows in list(self.world.state[RouteOffered].items()):
            before = self.offered.get(name, {})
            changed = {key: row for key, row in rows.items() if before.get(key) != row}
            changed.update(dict.fromkeys(before.keys() - rows.keys()))
            self.offered[name] = dict(rows)
            if changed:
                self.rig.engine.feed(Delta(RouteOffered, "bgp", 1, name, changed), 0.0)
        self.rig.settle(limit)

    def allowed(self, name: str) -> set[int]:
        """Labels that packets of this VRF may get (RFC 4364 4.3.1): of routes that carry one of its import targets, and of
        its own shortcuts."""
        wanted = self.imports.get(name)
        if wanted is None:
            return set()
        found = {LABELS[rd] + PREFIXES.index(prefix) for (rd, prefix), rts in self.remote.items() if rts & wanted}
        return found | {SHORTCUT[name] for vrf_name, _ in self.shortcuts if vrf_name == name}

    def check(self) -> None:
        tables = self.rig.tables
        assert set(tables.fib.fibs) == {"", *self.imports}
        for name in VRFS:
            allowed, fib = self.allowed(name), tables.fib.get(name)
            leaves = dict(fib.items(Afi.IPV4)) if fib is not None else {}
            for prefix, leaf in leaves.items():
                assert leaf.kind is LeafKind.FORWARD
                assert set(leaf.labels) <= allowed, (name, str(prefix), leaf)
                hop = tables.nexthops.get(leaf.next_hop)
                assert hop is not None
                assert hop.key.address == (ip("10.0.0.3") if leaf.labels[0] > 900 else ip("10.0.0.2"))
            for probe in PROBES:
                match = tables.rib.match(name, ip(probe), exclude=frozenset({"nhrp"}))
                labels = {label for one in match[1].route.vias for label in one.labels} if match else set()
                assert labels <= allowed - set(SHORTCUT.values())
        assert all(not leaf.labels for _, leaf in tables.fib.get("").items(Afi.IPV4))


SETS = st.sets(st.sampled_from(("1:1", "2:2", "9:9")), max_size=2).map(frozenset)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("vrf"), st.sampled_from(VRFS), st.one_of(st.none(), SETS)),
        st.tuples(
            st.just("route"), st.sampled_from(tuple(LABELS)), st.sampled_from(PREFIXES), st.one_of(st.none(), SETS)
        ),
        st.tuples(st.just("nhrp"), st.sampled_from(VRFS), st.sampled_from(PREFIXES), st.booleans()),
        st.tuples(st.just("time")),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_V06_no_packet_of_one_customer_follows_a_route_of_the_other(steps: list[tuple[Any, ...]], limit: int) -> None:
    joined = Joined()
    for name in VRFS:
        joined.set_vrf(name, frozenset({TARGETS[name]}))
    for what, *rest in steps:
        if what == "vrf":
            joined.set_vrf(*rest)
        elif what == "route":
            joined.announce(*rest)
        elif what == "nhrp":
            joined.shortcut(rest[0], rest[1], there=rest[2])
        else:
            joined.world.pass_time(11.0)
        joined.sync(limit)
        joined.check()


def test_V06_the_model_would_notice() -> None:
    """A leak that is put in by hand."""
    joined = Joined()
    for name in VRFS:
        joined.set_vrf(name, frozenset({TARGETS[name]}))
    joined.announce("1:1", PREFIXES[0], frozenset({"1:1"}))
    joined.sync(9)
    joined.check()
    assert [label for _, leaf in joined.rig.tables.fib.get("cust1").items(Afi.IPV4) for label in leaf.labels] == [100]
    stolen = dict(joined.world.state[RouteOffered]["cust1"])
    joined.rig.engine.feed(Delta(RouteOffered, "bgp", 1, "cust2", stolen), 0.0)
    joined.rig.settle()
    with pytest.raises(AssertionError, match="cust2"):
        joined.check()
