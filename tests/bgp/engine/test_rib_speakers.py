"""Whole speakers with real tables, joined back to back: octets on the wire in between, time a toy.

pe1 ---- reflector ---- pe2
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from bgp.config import NeighborFamily
from bgp.engine.fsm import State
from bgp.engine.outputs import Publish
from bgp.engine.rib import Ribs
from bgp.engine.speaker import Speaker
from bgp.wire import IPV4_UNICAST, VPNV4, Nlri, Reach, Update, key_text
from stack.addr import RD, RT, Afi, Prefix, PrefixFec, Safi, parse_address
from stack.events import (
    Delta,
    LabelBound,
    LabelRow,
    LabelWanted,
    Route,
    RouteOffered,
    RouteSelected,
    Selected,
    Via,
    Vrf,
    VrfState,
)
from tests.bgp.engine.rib_world import attributes, key, redistribute
from tests.bgp.engine.session_world import A, B, C, Node, World, config, neighbor

BOTH = {(Afi.IPV4, Safi.UNICAST), (Afi.IPV4, Safi.VPN)}
PREFIX = Prefix.parse("172.16.5.0/24")


def families(**values: Any) -> dict[Any, NeighborFamily]:
    return {family: NeighborFamily(**values) for family in BOTH}


def add(
    world: World, address: bytes, number: int, *neighbours: bytes, client: bool = False, graceful_restart: bool = False
) -> Node:
    rows = tuple(neighbor(n, families=families(route_reflector_client=client)) for n in neighbours)
    asked = config(
        identifier=bytes((10, 0, 0, number)),
        neighbors=rows,
        families=dict([redistribute("connected"), redistribute("connected", vrf="red")]),
        graceful_restart=graceful_restart,
    )
    node = world.add(address, asked)
    entropy = random.Random(number).randbytes
    ribs = Ribs(asked, entropy, resolve=False)
    node.ribs = ribs  # type: ignore[assignment]
    node.speaker = Speaker(asked, entropy, ribs, standalone=True)
    return node


def three(**more: Any) -> tuple[World, Node, Node, Node]:
    world = World()
    reflector = add(world, B, 2, A, C, client=True, **more)
    pe1, pe2 = add(world, A, 1, B, **more), add(world, C, 3, B, **more)
    world.start()
    world.run(60)
    assert [n.state(B) for n in (pe1, pe2)] == [State.ESTABLISHED] * 2
    return world, pe1, reflector, pe2


def tell(node: Node, topic: Any, rows: dict[Any, Any], table: str = "") -> None:
    node.do(node.speaker.receive(Delta(topic, "x", 1, table, rows), node.world.now))


def offered(node: Node, table: str = "") -> dict[str, Route]:
    found: dict[Any, Any] = {}
    for one in node.published:
        if isinstance(one, Publish) and one.topic is RouteOffered and one.table == table:
            found.update(one.rows)
    return {str(prefix): row for prefix, row in found.items() if row is not None}


def make_vrf(node: Node, number: int) -> None:
    target = frozenset({RT.parse("1:1")})
    rts = {Afi.IPV4: target}
    tell(node, VrfState, {"red": Vrf("red", 1, RD.parse(f"1:{number}"), rts, rts, frozenset(Afi))})


def connected(node: Node, vrf: str, prefix: Prefix) -> None:
    route = Route(0, (Via(interface="Ethernet0/1", vrf=vrf),), "connected")
    tell(node, RouteSelected, {prefix: Selected("connected", route, 3, 1.0)}, vrf)


def test_a_route_crosses_a_reflector_and_back() -> None:
    world, pe1, reflector, pe2 = three()
    connected(pe1, "", PREFIX)
    world.run(5)
    assert offered(pe2)[str(PREFIX)].vias == (Via(A),)
    assert offered(reflector)[str(PREFIX)].vias == (Via(A),)
    assert offered(pe1) == {}
    tell(pe1, RouteSelected, {PREFIX: None})
    world.run(5)
    assert offered(pe2) == {}


def test_a_vpn_route_crosses_a_reflector_that_has_no_vrf() -> None:
    world, pe1, reflector, pe2 = three()
    make_vrf(pe1, 1)
    make_vrf(pe2, 2)
    connected(pe1, "red", PREFIX)
    world.run(1)
    assert any(isinstance(p, Publish) and p.topic is LabelWanted for p in pe1.published)
    assert offered(pe2, "red") == {}
    tell(pe1, LabelBound, {PrefixFec("red", PREFIX): LabelRow(4711)})
    world.run(5)
    assert offered(pe2, "red")[str(PREFIX)].vias == (Via(A, labels=(4711,)),)
    assert reflector.ribs.vpn.placed == {}
    assert [key_text(VPNV4, k) for k in reflector.ribs.tables["", VPNV4].nets] == [f"1:1:{PREFIX}"]


def test_a_session_that_ends_takes_the_routes_along_and_brings_them_back() -> None:
    world, pe1, _, pe2 = three()
    connected(pe1, "", PREFIX)
    world.run(5)
    assert str(PREFIX) in offered(pe2)
    pe2.published.clear()
    pe1.do(pe1.speaker.clear([("", B)], world.now))
    world.run(200)
    rows = [p.rows[PREFIX] for p in pe2.published if isinstance(p, Publish) and PREFIX in p.rows]
    assert rows[0] is None
    assert pe1.state(B) is State.ESTABLISHED
    assert str(PREFIX) in offered(pe2)


@pytest.mark.parametrize("count", [5000])
def test_thousands_of_routes_with_few_attributes(count: int) -> None:
    """They come out packed, and arrive all; the reflector's keepalives are not late meanwhile."""
    world, pe1, reflector, pe2 = three()
    ribs = pe1.ribs
    assert isinstance(ribs, Ribs)
    # pe1 learns them as if from a neighbour of its own, in 20 sets
    from bgp.engine.outputs import PeerView

    ce = parse_address("203.0.113.9")
    view = PeerView(
        key=("", ce), asn=65100, local_asn=65000, router_id=ce, local_id=bytes((10, 0, 0, 1)), local=A, remote=ce,
        ibgp=False, families=frozenset({IPV4_UNICAST}), config=neighbor(ce, 65100),
    )  # fmt: skip
    ribs.peer_up(view, world.now)
    for turn in range(20):
        routes = tuple(Nlri(key(IPV4_UNICAST, f"20.{n >> 8}.{n & 255}.0/24")) for n in range(count) if n % 20 == turn)
        attrs = attributes((65100,), med=turn)
        ribs.update(("", ce), Update(attributes=attrs, reach=(Reach(IPV4_UNICAST, ce, routes),)), world.now)
    world.run(10)
    assert len(offered(pe2)) == count
    assert {r.vias for r in offered(pe2).values()} == {(Via(ce),)}
    updates = [m for m in reflector.said if isinstance(m, Update) and m.reach]
    assert len(updates) < 60
    assert pe2.peer(B).dropped == 0
