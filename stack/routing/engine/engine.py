"""Routing's engine: rows of other owners in, tables written and rows published. Sans-IO.

`feed` takes rows in any order and only notes them; `settle` brings interfaces, next hops, RIB and FIB up to date, at most
`limit` prefixes at a time, and says what to publish. The tables are a function of what was offered, not of its order (ids,
interface indexes and times aside). One next hop's change rewrites one row of the next-hop table; the routes that use it
are written again only if it begins or ceases to lead anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from attrs import define, field

from stack.addr import DEFAULT_VRF, Afi, Prefix
from stack.events import (
    AddressOffered,
    AdjacencyKey,
    AdjacencyState,
    AdjacencyWanted,
    BindingOffered,
    Delta,
    Interface,
    InterfaceKind,
    InterfaceOffered,
    InterfaceState,
    LinkState,
    NextHopKey,
    NextHopRow,
    NextHopState,
    NextHopWanted,
    ProfileRow,
    ProfileState,
    Route,
    RouteOffered,
    RouteSelected,
    Selected,
    Topic,
    Via,
    VrfState,
)
from stack.routing.engine.interfaces import Derived, Interfaces, derived_routes, fails_closed
from stack.routing.engine.offers import Offer, Offers, is_receive
from stack.routing.engine.resolver import RECURSION, CandidateRef, Node, Resolution, Resolver
from stack.tables.fib import FibTable, FibWriter, Leaf, LeafKind
from stack.tables.interface import InterfaceTable
from stack.tables.nexthop import NextHop, NextHopTable
from stack.tables.rib import HOSTS, Candidate, Entry, RibTable, RibWriter, preferred
from stack.tables.table import Writer

__all__ = ["L3VPN", "TURN", "Engine", "Log", "Output", "Publish"]

TURN = 2_000
"""Prefixes that one `settle` judges anew, so that a node with a full table still answers its keepalives in time."""

L3VPN = "l3vpn"
"""Owner of the default route in a profile's tunnel-encapsulation VRF."""


class Publish(NamedTuple):
    topic: Topic[Any, Any]
    rows: Mapping[Any, Any]
    table: str = ""


class Log(NamedTuple):
    """Something that an operator should hear of, once. `about`: the route that was refused; it may be taken after all as
    soon as more is known."""

    event: str
    values: Mapping[str, Any]
    about: CandidateRef


Output = Publish | Log


@define(eq=False)
class Engine:
    """`tables` are written directly: they are plain structures, and nobody reads them while the engine runs."""

    interface_writer: Writer[str, Interface]
    nexthop_writer: Writer[int, NextHop]
    rib_writer: RibWriter
    fib_writer: FibWriter
    interfaces: Interfaces = field(factory=Interfaces)
    offers: Offers = field(factory=Offers)
    resolver: Resolver = field(init=False)
    selected: dict[str, dict[Prefix, Selected]] = field(factory=dict)
    _vrfs: set[str] = field(factory=set)
    _dirty: dict[str, dict[Prefix, None]] = field(factory=dict)
    _derived: dict[Derived, set[str]] = field(factory=dict)
    _asked: set[Node] = field(factory=set)
    _neighbours: set[AdjacencyKey] = field(factory=set)
    """What stands in AdjacencyWanted."""
    _leaving: set[str] = field(factory=set)
    _shut: dict[str, set[Prefix]] = field(factory=dict)
    """H routes that are closed, by VRF: what becomes of them rests on the less specific route. Judged again each time; few."""
    _sweeping: bool = False
    _recalled: Mapping[str, Mapping[Prefix, Selected]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.resolver = Resolver(self.offers, self.interfaces.current)
        self.resolver.vrfs = {DEFAULT_VRF}
        self.interfaces.adopt(self.interface_writer.table)
        self.resolver.adopt({row.key: number for number, row in self.nexthop_writer.table.rows.items()})
        self.fib_writer.create(DEFAULT_VRF)

    @classmethod
    def of(
        cls, interfaces: InterfaceTable, nexthops: NextHopTable, rib: RibTable, fib: FibTable, owner: str = "routing"
    ) -> Engine:
        """An engine that writes these tables. Raises SecondWriter. Indexes and ids that stand there are kept."""
        return cls(interfaces.writer(owner), nexthops.writer(owner), rib.writer(owner), fib.writer(owner))

    # --- inputs ---------------------------------------------------------------------------------------------------------

    def feed(self, delta: Delta, now: float) -> None:
        """Note rows of any topic in READS."""
        READS[delta.topic](self, delta, now)

    def _feed_vrfs(self, delta: Delta, _now: float) -> None:
        for name, row in delta.rows.items():
            if row is None:
                self._vrfs.discard(name)
            else:
                self._vrfs.add(name)
            self._vrf_changed(name)

    def _vrf_changed(self, name: str) -> None:
        """A VRF came or went, be it configured or a profile's own."""
        known = name == DEFAULT_VRF or name in self._vrfs or any(p.vrf == name for p in self._profiles())
        if known == (name in self.resolver.vrfs):
            return
        if known:
            self.resolver.vrfs.add(name)
            self._leaving.discard(name)
            self.fib_writer.create(name)
        else:
            self.resolver.vrfs.discard(name)
            self._leaving.add(name)
        self.resolver.touch("vrf", name)
        self._spoil(name, self.offers.tables.get(name, ()))

    def _profiles(self) -> Iterable[ProfileRow]:
        return self.resolver.profiles.values()

    def _feed_interfaces(self, delta: Delta, _now: float) -> None:
        self.interfaces.offer(delta.owner, delta.rows)

    def _feed_addresses(self, delta: Delta, _now: float) -> None:
        self.interfaces.offer_address(delta.owner, delta.rows)

    def _feed_links(self, delta: Delta, _now: float) -> None:
        self.interfaces.link(delta.rows)

    def _feed_routes(self, delta: Delta, now: float) -> None:
        vrf, owner = delta.table, delta.owner
        for prefix, route in delta.rows.items():
            self._offer(vrf, prefix, owner, route, now)

    def _offer(self, vrf: str, prefix: Prefix, owner: str, route: Route | None, now: float) -> None:
        before = self.offers.get(vrf, prefix)
        node = self.resolver.node
        nodes = () if route is None else tuple([node(via.key()) for via in route.vias])
        if self.offers.put(vrf, prefix, owner, route, now, nodes):
            self._relink(vrf, prefix, before, nodes)
            self.resolver.touch_prefix(vrf, prefix)
            self._spoil(vrf, (prefix,))

    def _relink(self, vrf: str, prefix: Prefix, before: tuple[Offer, ...], nodes: tuple[Node, ...]) -> None:
        """Keep each next hop's list of users. `nodes` are those of the new route."""
        for node in nodes:
            users = node.users.get(vrf)
            if users is None:
                users = node.users[vrf] = set()
            users.add(prefix)
        if not before:
            return
        left = {node for offer in self.offers.get(vrf, prefix) for node in offer.nodes}
        for offer in before:
            for node in offer.nodes:
                if node not in left and vrf in node.users:
                    users = node.users[vrf]
                    users.discard(prefix)
                    if not users:
                        del node.users[vrf]
                        self.resolver.released.add(node)

    def _spoil(self, vrf: str, prefixes: Iterable[Prefix]) -> None:
        """These prefixes must be judged anew."""
        dirty = self._dirty.get(vrf)
        if dirty is None:
            dirty = self._dirty[vrf] = {}
        dirty.update(dict.fromkeys(prefixes))

    def _feed_wanted(self, delta: Delta, _now: float) -> None:
        for key, row in delta.rows.items():
            if row is None:
                node = self.resolver.nodes.get(key)
                if node is None:
                    continue
                node.wanted.discard(delta.owner)
                self.resolver.released.add(node)
            else:
                node = self.resolver.node(key)
                node.wanted.add(delta.owner)
            self._asked.add(node)

    def _feed_bindings(self, delta: Delta, _now: float) -> None:
        bindings = self.resolver.bindings
        for (vrf, prefix, hop), labels in delta.rows.items():
            rows = bindings.setdefault((vrf, prefix), {})
            if labels is None:
                rows.pop((hop, delta.owner), None)
            else:
                rows[hop, delta.owner] = tuple(labels)
            if not rows:
                del bindings[vrf, prefix]
            self.resolver.touch("binding", vrf, prefix)

    def _feed_profiles(self, delta: Delta, now: float) -> None:
        """A profile brings its tunnel-encapsulation VRF, with one default route out of its mGRE tunnel."""
        for name, row in delta.rows.items():
            old = self.resolver.profiles.pop(name, None)
            if row is not None:
                self.resolver.profiles[name] = row
            self.resolver.touch("profile", name)
            for profile in (old, row):
                if profile is not None and profile.vrf:
                    self._vrf_changed(profile.vrf)
                    self._default_out_of_tunnel(profile.vrf, now)

    def _default_out_of_tunnel(self, vrf: str, now: float) -> None:
        tunnels = sorted(p.tunnel for p in self._profiles() if p.vrf == vrf)
        vias = tuple(Via(interface=tunnel, vrf=vrf) for tunnel in tunnels)
        route = Route(1, vias, "static") if vias else None
        for network in (bytes(4), bytes(16)):
            self._offer(vrf, Prefix(network, 0), L3VPN, route, now)

    def _feed_adjacencies(self, delta: Delta, _now: float) -> None:
        for key, row in delta.rows.items():
            if row is None:
                self.resolver.adjacencies.pop(key, None)
            else:
                self.resolver.adjacencies[key] = row
            self.resolver.touch("adjacency", key)

    def refuses(self, route: CandidateRef) -> bool:
        return route in self.resolver.refused

    # --- settling -------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Prefixes that `settle` has left over."""
        return sum(map(len, self._dirty.values()))

    def settle(self, now: float, limit: int = TURN) -> list[Output]:
        """Bring the tables up to date; what to publish."""
        outputs: list[Output] = []
        self._settle_interfaces(now, outputs)
        changed, refusals = self.resolver.recompute()
        self._note_refusals(refusals, outputs)
        self._settle_next_hops(changed)
        self._settle_routes(now, limit, outputs)
        # a leaf that is not judged yet may still need a next hop that no offer names any more
        gone = [] if self._dirty else self.resolver.discard_unused()
        for node in gone:
            self.nexthop_writer.remove(node.id)
        self._answer(changed, gone, outputs)
        self._want_adjacencies(outputs)
        if self._sweeping and not self._dirty:
            self._sweep()
        return outputs

    def _settle_interfaces(self, now: float, outputs: list[Output]) -> None:
        changes = self.interfaces.recompute()
        if not changes:
            return
        for name, (old, new) in changes.items():
            if new is None:
                self.interface_writer.remove(name)
            else:
                self.interface_writer.put(name, new)
            self.resolver.touch("interface", name)
            before, after = set(derived_routes(old)), set(derived_routes(new))
            for derived in before ^ after:
                names = self._derived.setdefault(derived, set())
                (names.add if derived in after else names.discard)(name)
                self._offer_derived(derived, names, now)
            if old is not None and new is not None and old.row.point_to_point != new.row.point_to_point:
                for derived in before & after:  # their leaves differ
                    self._spoil(derived.vrf, (derived.prefix,))
            for ref in self.resolver.refused:
                self._spoil(ref.vrf, (ref.prefix,))  # whether it is dropped or left out depends on interfaces
        outputs.append(Publish(InterfaceState, {name: new for name, (_, new) in changes.items()}))

    def _offer_derived(self, derived: Derived, names: set[str], now: float) -> None:
        vias = tuple(Via(interface=name, vrf=derived.vrf) for name in sorted(names))
        route = Route(0, vias, derived.owner) if vias else None
        if route is None:
            del self._derived[derived]
        self._offer(derived.vrf, derived.prefix, derived.owner, route, now)

    def _note_refusals(self, refusals: set[CandidateRef], outputs: list[Output]) -> None:
        for ref in sorted(refusals):
            self._spoil(ref.vrf, (ref.prefix,))
            if ref in self.resolver.refused:
                values = {"vrf": ref.vrf or "default", "prefix": str(ref.prefix), "owner": ref.owner}
                outputs.append(Log(f"{RECURSION}: a route would lead to itself and is refused", values, ref))

    def _settle_next_hops(self, changed: Mapping[Node, Resolution]) -> None:
        for node, old in changed.items():
            found = node.result
            row = NextHop(
                node.key,
                found.adjacency if found.usable or found.closed else None,
                found.labels,
                found.reason,
                found.metric,
                found.path,
            )
            self.nexthop_writer.put(node.id, row)
            if found.shape != old.shape:
                for vrf, prefixes in node.users.items():
                    self._spoil(vrf, prefixes)

    def _settle_routes(self, now: float, limit: int, outputs: list[Output]) -> None:
        for vrf in list(self._dirty):
            if limit <= 0:
                break
            dirty = self._dirty.pop(vrf)
            if len(dirty) > limit:
                rest = dirty
                dirty = dict.fromkeys(islice(rest, limit))
                for prefix in dirty:
                    del rest[prefix]
                self._dirty[vrf] = rest
            limit -= len(dirty)
            if rows := self._settle_vrf(vrf, dirty, now):
                outputs.append(Publish(RouteSelected, rows, vrf))
        for vrf in list(self._shut):
            shut = sorted(self._shut[vrf], key=lambda prefix: prefix.length)  # the less specific one first
            if rows := self._settle_vrf(vrf, shut, now):
                outputs.append(Publish(RouteSelected, rows, vrf))
        if self._leaving and not self._dirty:
            for vrf in self._leaving:
                self.selected.pop(vrf, None)
                self.rib_writer.drop(vrf)
                self.fib_writer.drop(vrf)
            self._leaving.clear()

    def _settle_vrf(self, vrf: str, dirty: Iterable[Prefix], now: float) -> dict[Prefix, Selected | None]:
        """Judge these prefixes; what changed of RouteSelected."""
        stands = self.selected.get(vrf)
        if stands is None:
            stands = self.selected[vrf] = {}
        recalled = self._recalled.get(vrf)
        rows: dict[Prefix, Selected | None] = {}
        for prefix in dirty:
            row = self._judge_prefix(vrf, prefix, now)
            old = stands.get(prefix)
            if row is None:
                if old is None:
                    continue
                del stands[prefix]
            elif old is not None and old[:3] == row[:3]:
                continue
            else:
                if recalled is not None and (earlier := recalled.get(prefix)) and earlier[:3] == row[:3]:
                    row = earlier
                stands[prefix] = row
            rows[prefix] = row
        return rows

    def _judge_prefix(self, vrf: str, prefix: Prefix, now: float) -> Selected | None:
        """Write the prefix's RIB entry and FIB leaf; the winner."""
        offers = self.offers.get(vrf, prefix) if vrf in self.resolver.vrfs else ()
        if self._shut:
            self._open(vrf, prefix)
        if not offers:
            self.rib_writer.remove(vrf, prefix)
            self.fib_writer.remove(vrf, prefix)
            return None
        if len(offers) == 1 and not offers[0].route.override:  # most prefixes
            winner, leaf = self._judge(vrf, prefix, offers[0])
            self.rib_writer.put(vrf, prefix, Entry((winner,)))
            if not winner.usable:
                self.fib_writer.remove(vrf, prefix)
                return None
            self.fib_writer.put(vrf, prefix, leaf)
            return Selected(winner.owner, winner.route, winner.next_hop, now)
        return self._judge_rivals(vrf, prefix, offers, now)

    def _judge_rivals(self, vrf: str, prefix: Prefix, offers: tuple[Offer, ...], now: float) -> Selected | None:
        judged = [self._judge(vrf, prefix, offer) for offer in offers]
        plain = [one for one in judged if not one[0].route.override]
        first = preferred(c for c, _ in plain if c.usable)
        best = next((one for one in plain if one[0] is first), None)
        shortcuts = [one for one in judged if one[0].route.override]
        override = next((one for one in shortcuts if one[0].usable and not one[0].reason), None)
        if best is not None and override is None and best[0].route.kind == HOSTS:
            override = next((one for one in shortcuts if one[0].usable), None)  # closed: see `preferred`
        if best is None and shortcuts:
            shortcut = override or self._shortcut(vrf, prefix, shortcuts)
            return self._write(vrf, prefix, [c for c, _ in (*plain, shortcut)], shortcut, None, now)
        return self._write(vrf, prefix, [c for c, _ in plain], best, override, now)

    def _write(
        self,
        vrf: str,
        prefix: Prefix,
        candidates: list[Candidate],
        best: tuple[Candidate, Leaf] | None,
        override: tuple[Candidate, Leaf] | None,
        now: float,
    ) -> Selected | None:
        self.rib_writer.put(vrf, prefix, Entry(tuple(candidates), override[0] if override else None))
        if best is None or not best[0].usable:
            self.fib_writer.remove(vrf, prefix)
            return None
        _, leaf = override or best
        self.fib_writer.put(vrf, prefix, leaf)
        # Its own next hop although another is in use: who is given a label for the prefix is sent where its owner says.
        return Selected(best[0].owner, best[0].route, best[0].next_hop, now)

    def _shortcut(self, vrf: str, prefix: Prefix, shortcuts: list[tuple[Candidate, Leaf]]) -> tuple[Candidate, Leaf]:
        """An H route that cannot be sent by. A closed one holds its packets only if no less specific route would carry them
        into a protected tunnel (see `resolver`)."""
        shut = next((one for one in shortcuts if one[0].usable), None)
        if shut is None:
            return shortcuts[0]
        self._shut.setdefault(vrf, set()).add(prefix)
        if not self._carried(vrf, prefix):
            return shut
        candidate, leaf = shut
        return candidate._replace(next_hop=0, usable=False), leaf

    def _open(self, vrf: str, prefix: Prefix) -> None:
        """No closed H route, until it is found to be one."""
        shut = self._shut.get(vrf)
        if shut is not None:
            shut.discard(prefix)
            if not shut:
                del self._shut[vrf]

    def _carried(self, vrf: str, prefix: Prefix) -> bool:
        """Whether the less specific route in the FIB leads into a protected tunnel that can be sent to."""
        fib = self.fib_writer.table.fibs[vrf]
        for length in range(prefix.length - 1, -1, -1):
            leaf = fib.get(Prefix.of(prefix.network, length))
            if leaf is not None:
                return self._enters_protected(leaf)
        return False

    def _enters_protected(self, leaf: Leaf) -> bool:
        name = leaf.interface
        if leaf.kind is LeafKind.FORWARD:
            hop = self.nexthop_writer.table.get(leaf.next_hop)
            if hop is None or hop.adjacency is None or hop.reason:
                return False
            name = hop.adjacency.interface
        interface = self.interfaces.current.get(name)
        return leaf.kind is not LeafKind.RECEIVE and interface is not None and bool(interface.row.protection)

    def _judge(self, vrf: str, prefix: Prefix, offer: Offer) -> tuple[Candidate, Leaf]:
        """Whether an owner's route leads anywhere, and by which way."""
        owner, route, since, nodes = offer
        if self.resolver.refused and CandidateRef(vrf, prefix, owner) in self.resolver.refused:
            # What it would carry into the tunnel besides the tunnel's own packets must not go round it in clear.
            held = any(map(self._leads_into_protected, route.vias))
            return Candidate(owner, route, 0, held, RECURSION, since), _DISCARD
        if not nodes:
            return Candidate(owner, route, 0, True, "", since), _DISCARD
        if owner in _DERIVED:
            return self._judge_derived(prefix, offer)
        reason, closed = "", None
        for via, node in zip(route.vias, nodes, strict=True):
            found: Resolution = node.result
            if found.usable:
                leaf = _leaf(node, via)
                return Candidate(owner, route, leaf.next_hop, True, "", since), leaf
            reason = reason or found.reason
            held = found.closed and not (route.override and not self._protected(found.interface))
            if held and closed is None:
                closed = Leaf(LeafKind.FORWARD, node.id, via.labels)
        if closed is not None:
            return Candidate(owner, route, closed.next_hop, True, reason, since), closed
        return Candidate(owner, route, 0, False, reason, since), _DISCARD

    def _protected(self, name: str) -> bool:
        interface = self.interfaces.current.get(name)
        return interface is not None and bool(interface.row.protection)

    def _leads_into_protected(self, via: Via) -> bool:
        interface = self.interfaces.current.get(via.interface)
        return interface is not None and fails_closed(interface)

    def _judge_derived(self, prefix: Prefix, offer: Offer) -> tuple[Candidate, Leaf]:
        """Connected and local routes stand while their interface is up, whoever is or is not behind it."""
        via = offer.route.vias[0]
        interface = self.interfaces.current.get(via.interface)
        number = 0
        if is_receive(prefix, offer.route):
            leaf = Leaf(LeafKind.RECEIVE, interface=via.interface)
        elif interface is not None and interface.row.point_to_point:
            number = offer.nodes[0].id
            leaf = Leaf(LeafKind.FORWARD, number)
        elif interface is not None and interface.row.kind is InterfaceKind.LOOPBACK:
            leaf = _DISCARD
        else:
            leaf = Leaf(LeafKind.ATTACHED, interface=via.interface)
        return Candidate(offer.owner, offer.route, number, True, "", offer.since), leaf

    def _answer(self, changed: Mapping[Node, Resolution], gone: Iterable[Node], outputs: list[Output]) -> None:
        """Tell clients of the next hops that they asked about."""
        rows: dict[NextHopKey, NextHopRow | None] = {}
        for node in (*changed, *self._asked):
            if node.wanted:
                found = node.result
                rows[node.key] = NextHopRow(
                    found.usable, found.reason, found.metric, found.interface, node.id, found.closed
                )
            elif node in self._asked:
                rows[node.key] = None
        for node in gone:
            if node in self._asked:
                rows[node.key] = None
        self._asked.clear()
        if rows:
            outputs.append(Publish(NextHopState, rows))

    def _want_adjacencies(self, outputs: list[Output]) -> None:
        """Neighbours are wanted while a next hop in use leads to them. One that is only looked at anew stays wanted: whoever
        answers each row would be asked for ever."""
        if not self.resolver.changed_wants:
            return
        rows: dict[AdjacencyKey, bool | None] = {}
        for key in self.resolver.changed_wants:
            wanted = self.resolver.wanted_adjacency(key)
            if wanted != (key in self._neighbours):
                rows[key] = wanted or None
                (self._neighbours.add if wanted else self._neighbours.discard)(key)
        self.resolver.changed_wants.clear()
        if rows:
            outputs.append(Publish(AdjacencyWanted, rows))

    # --- after a restart --------------------------------------------------------------------------------------------------

    def recall(self, selected: Mapping[str, Mapping[Prefix, Selected]]) -> None:
        """What an earlier incarnation had selected: a winner that still is keeps its age, and nobody sees a change."""
        self._recalled = selected

    def sweep(self) -> None:
        """All owners have said what they hold: as soon as all is judged, remove what an earlier incarnation left."""
        self._sweeping = True

    def _sweep(self) -> None:
        self._sweeping = False
        self._recalled = {}
        self.resolver.ids.clear()
        self.interface_writer.keep_only(self.interfaces.current)
        self.nexthop_writer.keep_only({node.id: True for node in self.resolver.nodes.values()})
        for vrf, fib in list(self.fib_writer.table.fibs.items()):
            if vrf not in self.resolver.vrfs:
                self.rib_writer.drop(vrf)
                self.fib_writer.drop(vrf)
                continue
            stands = self.selected.get(vrf, {})
            for afi in Afi:
                for prefix, _ in list(fib.items(afi)):
                    if prefix not in stands:
                        self.fib_writer.remove(vrf, prefix)
            offered = self.offers.tables.get(vrf, {})
            for prefix in [p for p in self.rib_writer.table.ribs.get(vrf, {}) if p not in offered]:
                self.rib_writer.remove(vrf, prefix)


_DISCARD = Leaf(LeafKind.DISCARD)
_DERIVED = frozenset({"connected", "local"})


def _leaf(node: Node, via: Via) -> Leaf:
    found = node.result
    if found.discard:
        return _DISCARD
    if found.adjacency is None:
        return Leaf(LeafKind.ATTACHED, labels=via.labels, interface=found.interface)
    return Leaf(LeafKind.FORWARD, node.id, via.labels)


READS: Mapping[Topic[Any, Any], Callable[[Engine, Delta, float], None]] = {
    VrfState: Engine._feed_vrfs,  # noqa: SLF001  (the table is part of the class)
    InterfaceOffered: Engine._feed_interfaces,  # noqa: SLF001
    AddressOffered: Engine._feed_addresses,  # noqa: SLF001
    LinkState: Engine._feed_links,  # noqa: SLF001
    RouteOffered: Engine._feed_routes,  # noqa: SLF001
    NextHopWanted: Engine._feed_wanted,  # noqa: SLF001
    BindingOffered: Engine._feed_bindings,  # noqa: SLF001
    ProfileState: Engine._feed_profiles,  # noqa: SLF001
    AdjacencyState: Engine._feed_adjacencies,  # noqa: SLF001
}
