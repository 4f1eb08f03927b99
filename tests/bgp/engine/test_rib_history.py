"""What the tables say follows from the facts alone: after any history they are as if only what holds now had ever been
told, in whatever order (RFC 5004 3 keeps the oldest of equal external paths; these here are never equal)."""

from __future__ import annotations

import random
from typing import Any

from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgp.engine.rib.ribs import SWEEP_EVERY
from stack.events import LabelRow, LabelWanted, NextHopRow, NextHopState, NextHopWanted, RouteOffered, VrfState
from tests.bgp.engine.rib_world import IPV4_UNICAST, VPNV4, World, attributes, config, ip, redistribute
from tests.bgp.engine.test_rib_state import endpoints

PEERS: dict[str, dict[str, Any]] = {
    "192.0.2.1": {"route_reflector_client": True},
    "192.0.2.2": {},
    "192.0.2.3": {"route_reflector_client": True, "next_hop_self": True},
    "203.0.113.1": {"asn": 65100},
    "10.0.1.1": {"asn": 65201, "vrf": "red", "families": (IPV4_UNICAST,), "local": "10.0.1.2"},
}
HOPS = ("192.0.2.1", "192.0.2.2", "192.0.2.77")
IDS: dict[Any, int] = {}
LABELS: dict[Any, int] = {}


@define(eq=False)
class Steady(World):
    """Ids of next hops and labels are the same in all worlds, so that these can be compared."""

    down: frozenset[str] = field(default=frozenset())

    def resolve(self, keys: list[Any]) -> None:
        rows = {}
        for name in keys:
            up = not any(name.address == ip(text) for text in self.down)
            rows[name] = NextHopRow(up, "" if up else "down", 0, "", IDS.setdefault(name, len(IDS) + 1))
        self.tell(NextHopState, rows, then=False)

    def bind(self, rows: dict[Any, Any]) -> None:
        from stack.events import LabelBound

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
        st.tuples(st.just("hops"), st.frozensets(st.sampled_from(HOPS), max_size=2)),
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
    down: frozenset[str] = frozenset()

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
                self.down = name
        return step

    def all(self, shuffled: random.Random) -> list[Any]:
        told = [("hops", self.down), *self.vrfs.values(), *self.selected.values(), *(("up", one) for one in self.up)]
        shuffled.shuffle(told)
        for step in self.routes.values():
            told.insert(shuffled.randint(told.index(("up", step[1])) + 1, len(told)), step)
        return told


def _text(step: Any) -> str:
    return step[3] if "vrf" in PEERS[step[1]] else f"{step[2]} {step[3]}"


def tell(world: Steady, step: Any) -> None:
    what, *rest = step
    match what:
        case "up":
            world.peer(rest[0], **PEERS[rest[0]])
        case "down":
            world.down_peer(rest[0])
        case "route":
            _announce(world, step)
        case "unroute":
            family = IPV4_UNICAST if "vrf" in PEERS[rest[0]] else VPNV4
            world.peers[PEERS[rest[0]].get("vrf", ""), ip(rest[0])].withdraw(family, _text(step))
        case "vrf":
            world.vrf(rest[0], rest[1], imports=rest[2], exports=rest[3])
        case "no vrf":
            world.tell(VrfState, {rest[0]: None})
        case "select":
            world.select(*rest)
        case "unselect":
            world.unselect(*rest)
        case "hops":
            world.down = rest[0]
            world.resolve_again()
        case "again":
            world.soft()
        case "time":
            world.pass_time(SWEEP_EVERY)
