"""What the tables say follows from the facts alone: after any history they are as if only what holds now had ever been
told, in whatever order (RFC 5004 3 keeps the oldest of equal external paths; these here are never equal)."""

from __future__ import annotations

import random
from typing import Any

from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgp.engine.rib.ribs import SWEEP_EVERY
from stack.events import (
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    LabelBound,
    LabelRow,
    LabelWanted,
    NextHopRow,
    NextHopState,
    RouteOffered,
    VrfState,
)
from tests.bgp.engine.rib_world import (
    IPV4_UNICAST,
    OUR_AS,
    VPNV4,
    TestPeer,
    World,
    attributes,
    config,
    ip,
    redistribute,
)
from tests.bgp.engine.test_rib_state import endpoints

PEERS: dict[str, dict[str, Any]] = {
    "192.0.2.1": {"route_reflector_client": True},
    "192.0.2.2": {},
    "192.0.2.3": {"route_reflector_client": True, "next_hop_self": True},
    "203.0.113.1": {"asn": 65100},
    "10.0.1.1": {"asn": 65201, "vrf": "red", "families": (IPV4_UNICAST,), "local": "10.0.1.2"},
}
HOPS = ("192.0.2.1", "192.0.2.2", "192.0.2.77")
OPEN, PROTECTED = frozenset(("mgre", "ethernet")), frozenset(("protected",))
IDS: dict[Any, int] = {}
LABELS: dict[Any, int] = {}


@define(eq=False)
class Steady(World):
    """Ids of next hops and labels are the same in all worlds, so that these can be compared."""

    dead: frozenset[str] = field(default=frozenset())
    closed: bool = False
    ways: dict[bytes, str] = field(factory=dict)
    """`closed`: those that are dead are behind a protected tunnel. `ways`: address -> the interface it is reached by."""

    def resolve(self, keys: list[Any]) -> None:
        rows = {}
        for name in keys:
            up = not any(name.address == ip(text) for text in self.dead)
            number, way = IDS.setdefault(name, len(IDS) + 1), self.ways.get(name.address, "")
            rows[name] = NextHopRow(up, "" if up else "down", 0, way, number, closed=self.closed and not up)
        self.tell(NextHopState, rows, then=False)

    def bind(self, rows: dict[Any, Any]) -> None:
        bound = {f: None if r is None else LabelRow(LABELS.setdefault(f, 1000 + len(LABELS))) for f, r in rows.items()}
        self.tell(LabelBound, bound, then=False)


prefixes = st.sampled_from(("10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0"))
targets = st.lists(st.sampled_from(("1:1", "2:2")), max_size=2, unique=True).map(tuple)
peers, vrfs = st.sampled_from(sorted(PEERS)), st.sampled_from(("red", "blue"))
rds = st.sampled_from(("1:1", "2:2"))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("up"), peers),
        st.tuples(st.just("down"), peers),
        *[st.tuples(st.just("route"), peers, rds, prefixes, st.integers(0, 2), targets, st.sampled_from((100, 3)))] * 4,
        st.tuples(st.just("unroute"), peers, rds, prefixes),
        st.tuples(st.just("vrf"), vrfs, rds, targets, targets),
        st.tuples(st.just("no vrf"), vrfs),
        *[st.tuples(st.just("select"), vrfs, prefixes, st.sampled_from(("connected", "static")))] * 2,
        st.tuples(st.just("unselect"), vrfs, prefixes),
        st.tuples(st.just("hops"), st.frozensets(st.sampled_from(HOPS), max_size=2), st.booleans()),
        st.tuples(st.just("way"), st.sampled_from(sorted(PEERS)[1:]), st.sampled_from(("Ethernet0/0", "Tunnel5"))),
        st.tuples(st.just("protect"), st.booleans()),
        st.tuples(st.just("again")),
        st.tuples(st.just("time")),
    ),
    max_size=30,
)


@define(eq=False)
class Facts:
    """What holds, by what it is about; telling it to a world is idempotent."""

    up: set[str] = field(factory=set)
    routes: dict[tuple[str, str], Any] = field(factory=dict)
    vrfs: dict[str, Any] = field(factory=dict)
    selected: dict[tuple[str, str], Any] = field(factory=dict)
    down: tuple[frozenset[str], bool] = (frozenset(), False)
    ways: dict[str, str] = field(factory=dict)
    protected: bool = True

    def take(self, step: Any) -> Any:
        """The step, remembered; None where it makes no sense."""
        what, *rest = step
        name = rest[0] if rest else ""
        match what:
            case "up":
                if name in self.up:
                    return None
                self.up.add(name)
            case "down":
                if name not in self.up:
                    return None
                self.up.discard(name)
                self.routes = {key: one for key, one in self.routes.items() if key[0] != name}
            case "route" | "unroute":
                if name not in self.up:
                    return None
                place = name, _text(step)
                self.routes.pop(place, None)
                if what == "route":
                    self.routes[place] = step
            case "vrf":
                if any(one[2] == rest[1] for other, one in self.vrfs.items() if other != name):
                    return None  # of two local routes with one RD the older one stays
                self.vrfs[name] = step
            case "no vrf":
                if name not in self.vrfs or any(key[0] == name for key in self.selected) or "10.0.1.1" in self.up:
                    return None
                del self.vrfs[name]
            case "select":
                if name not in self.vrfs:
                    return None
                self.selected[name, rest[1]] = step
            case "unselect":
                self.selected.pop((name, rest[1]), None)
            case "hops":
                self.down = rest[0], rest[1]
            case "way":
                self.ways[name] = rest[1]
            case "protect":
                self.protected = name
        return step

    def all(self, shuffled: random.Random) -> list[Any]:
        told = [("hops", *self.down), ("protect", self.protected), *(("way", *one) for one in self.ways.items())]
        told += [*self.vrfs.values(), *self.selected.values(), *(("up", one) for one in self.up)]
        shuffled.shuffle(told)
        for step in self.routes.values():
            told.insert(shuffled.randint(told.index(("up", step[1])) + 1, len(told)), step)
        return told


def _peer(world: Steady, name: str) -> TestPeer:
    return world.peers[PEERS[name].get("vrf", ""), ip(name)]


def _announce(world: Steady, step: Any) -> None:
    """No two neighbours ever say the same, so that age decides nothing."""
    _, name, _, _, length, wanted, label = step
    asn, customer = PEERS[name].get("asn", OUR_AS), "vrf" in PEERS[name]
    path = (() if asn == OUR_AS else (asn,)) + (64999,) * (length * 2 + customer)
    hop = HOPS[length] if asn == OUR_AS else name
    pref = {"local_pref": 100 + sorted(PEERS).index(name)} if asn == OUR_AS else {}
    attrs = attributes(path, () if customer else wanted, **pref)
    _peer(world, name).announce(IPV4_UNICAST if customer else VPNV4, _text(step), attrs=attrs, hop=hop, label=label)


def _text(step: Any) -> str:
    return step[3] if "vrf" in PEERS[step[1]] else f"{step[2]} {step[3]}"


def tell(world: Steady, step: Any) -> None:
    what, *rest = step
    match what:
        case "up":
            world.peer(rest[0], **PEERS[rest[0]])
        case "down":
            world.down(_peer(world, rest[0]))
        case "route":
            _announce(world, step)
        case "unroute":
            family = IPV4_UNICAST if "vrf" in PEERS[rest[0]] else VPNV4
            _peer(world, rest[0]).withdraw(family, _text(step))
        case "vrf":
            world.vrf(rest[0], rest[1], imports=rest[2], exports=rest[3])
        case "no vrf":
            world.tell(VrfState, {rest[0]: None})
        case "select":
            world.select(*rest)
        case "unselect":
            world.unselect(*rest)
        case "hops":
            world.dead, world.closed = rest
            world.resolve_again()
        case "way":
            world.ways[ip(rest[0])] = rest[1]
            world.resolve_again()
        case "protect":
            row = InterfaceRow("Tunnel5", InterfaceKind.TUNNEL, protection="gold" if rest[0] else "")
            world.tell(InterfaceState, {"Tunnel5": Interface(row, 1, True, 1400)})
        case "again":
            world.soft()
        case "time":
            world.pass_time(SWEEP_EVERY)


def seen(world: Steady) -> Any:
    """All that others get to see."""
    for _ in range(2):
        world.pass_time(SWEEP_EVERY)
    offered = {vrf: rows for vrf, rows in world.state[RouteOffered].items() if rows}
    told = {p.key: {n: (a.octets, *more) for n, (a, *more) in p.received.items()} for p in world.peers.values()}
    return offered, endpoints(world), told, {fec: row.scope for fec, row in world.state[LabelWanted][""].items()}


def labels_come_back_as_they_were_given(world: Steady, facts: Facts) -> None:
    """RFC 4023 8.1, from what the neighbours hold: who has a label, and by what do they send?"""
    kinds = {}
    for key, peer in world.peers.items():
        way = world.ways.get(key[1])
        if VPNV4 in peer.view.families and way is not None:
            kinds[key] = PROTECTED if way == "Tunnel5" and facts.protected else OPEN
    for fec, request in world.state[LabelWanted][""].items():
        holders = {
            kind
            for key, kind in kinds.items()
            for _, hop, labels in world.peers[key].received.values()
            if labels == (LABELS[fec],) and hop == "198.51.100.1"
        }
        if not facts.protected or OPEN not in kinds.values():
            assert request.scope == (PROTECTED if facts.protected else OPEN)
        else:
            assert request.scope == (frozenset().union(*holders) or PROTECTED), (fec, holders)


def started() -> Steady:
    both = [redistribute("connected", "static", vrf=vrf, default=True) for vrf in ("red", "blue")]
    made = Steady(config=config(*both))
    tell(made, ("protect", True))
    return made


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.randoms(use_true_random=False))
def test_after_any_history_all_is_as_if_only_the_present_had_been_told(history: list[Any], shuffled: Any) -> None:
    facts, world, fresh = Facts(), started(), started()
    for step in history:
        if (step := facts.take(step)) is not None:
            tell(world, step)
    for step in facts.all(shuffled):
        tell(fresh, step)
    assert seen(world) == seen(fresh)
    labels_come_back_as_they_were_given(world, facts)
    # and nothing stays behind
    for name in facts.up:
        world.down(_peer(world, name))
    for vrf, prefix in facts.selected:
        world.unselect(vrf, prefix)
    for vrf in facts.vrfs:
        tell(world, ("no vrf", vrf))
    assert seen(world) == ({}, {}, {}, {})
    ribs = world.ribs
    assert ribs.labels.given is None
    assert not any(table.held for table in ribs.tables.values())
    left = (ribs.peers, ribs.groups.by_key, ribs.endpoints.uses, ribs.vpn.placed, ribs.vpn.exports, ribs.vpn.by_fec)
    assert [len(one) for one in (*left, ribs.swaps.using, ribs.swaps.coming, ribs.labels.users)] == [0] * 9
    assert not any(table.nets or table.groups for table in ribs.tables.values())
