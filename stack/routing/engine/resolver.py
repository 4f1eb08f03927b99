"""Next-hop resolution: a graph of next hops, each with what it was found to be and what that finding rests on.

A next hop follows, in order of preference (longest prefix, then distance), the routes that cover it; a route follows its
first way that leads anywhere. The result is a function of what was offered, never of the order in which it was: a next hop
is dead when nothing is left to follow, and when the chain of first choices closes into a loop, every route on the loop is
refused ("routing recursion") and the next hops go on to their next choice. A loop can only be left by refusing it, since
each member's first choice is another member; so all orders of evaluation refuse the same routes.

A tunnel's adjacency leans on the route of its outer packets in the same way (softly: without one it stays). On such a loop
only that route is refused, the one that would carry the tunnel into itself; the tunnel goes on by a less specific one.

A neighbour behind a protected tunnel that cannot be sent to is closed: the next hop is unusable, but nothing less specific is
followed in its stead, so that what belongs into the tunnel never goes round it in clear (RFC 4301 5.1). Another route for the
same prefix may take over. So is one behind a protected tunnel that is down, for whatever reason but `shutdown`: what takes
its SA away often takes the way to its far end away too. And so is one on a multipoint interface of an NHRP network that is up,
protected or not: a spoke that is not registered is nowhere, and its packets must not follow a default route to the internet.

An override is a shortcut: it replaces the winner's next hop (NHO), or is a route of its own where no other leads anywhere (an
H route). Nobody configured it, so it holds nothing that another way would carry: one that is closed gives way to the winner,
or to the route that is less specific, over which its packets went before. But not to what would take them out in clear: a less
specific way counts only if it leads into a protected tunnel itself; otherwise they are dropped until the shortcut's owner,
who hears of the same loss, withdraws it. Of a tunnel that is not protected a shortcut is never closed.

Whatever was consulted is remembered, so a change repeats only what may come out differently.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any, NamedTuple

from attrs import define, field

from stack.addr import LabelStack, Prefix, ReservedLabel, format_address
from stack.events import AdjacencyKey, AdjacencyRow, Interface, InterfaceKind, NextHopKey, ProfileRow, Via
from stack.routing.engine.interfaces import fails_closed, is_overlay
from stack.routing.engine.offers import Offer, Offers, Watched, is_receive
from stack.tables.rib import HOSTS

__all__ = ["MAX_RECURSION", "RECURSION", "CandidateRef", "Node", "Resolution", "Resolver"]

MAX_RECURSION = 16
"""Look-ups that one next hop may need, one after the other."""

RECURSION = "routing recursion"


class CandidateRef(NamedTuple):
    """An owner's route for a prefix of a VRF."""

    vrf: str
    prefix: Prefix
    owner: str


class Resolution(NamedTuple):
    """What a next hop comes to. `usable` False: for `reason`. `adjacency` None although usable: `discard` (Null0), or each
    destination is its own neighbour on `interface` (attached). `labels`: transport labels, implicit null already out.
    `depth`: look-ups that it took. `closed`: unusable, and to be dropped rather than sent another way (`adjacency` is set)."""

    usable: bool
    reason: str = ""
    adjacency: AdjacencyKey | None = None
    labels: LabelStack = ()
    interface: str = ""
    metric: int = 0
    discard: bool = False
    depth: int = 0
    path: tuple[str, ...] = ()
    closed: bool = False

    @property
    def shape(self) -> tuple[bool, str, bool, str, bool]:
        """What the routes that use the next hop show of it: they must be written again only if this changes."""
        attached = self.usable and self.adjacency is None and not self.discard
        interface = self.interface if attached else ""
        return self.usable, "" if self.usable else self.reason, self.discard, interface, self.closed


UNKNOWN = Resolution(usable=False, reason="not resolved yet")


def _dead(reason: str) -> Resolution:
    return Resolution(usable=False, reason=reason)


@define(eq=False)
class Node:
    """A next hop in use. `users`: the prefixes whose routes go there, by VRF. `wanted`: the owners that asked about it."""

    key: NextHopKey
    id: int
    result: Resolution = UNKNOWN
    users: dict[str, set[Prefix]] = field(factory=dict)
    wanted: set[str] = field(factory=set)
    needs: set[Node] = field(factory=set)
    needed_by: set[Node] = field(factory=set)
    watches: set[tuple[Any, ...]] = field(factory=set)


Steps = Generator[Node, Resolution, Resolution]
"""An evaluation: yields the nodes whose results it needs next, returns its own."""

_Judging = Generator[Node, Resolution, tuple[Resolution, bool]]


@define(eq=False)
class _Frame:
    """A node under evaluation. `following`: the route whose way it is on. `soft`: it asks for a tunnel's transport."""

    node: Node
    steps: Steps
    following: CandidateRef | None = None
    soft: bool = False


@define(eq=False)
class Resolver:
    """`recompute` brings every node up to date. Bounded by the next hops in use."""

    offers: Offers
    interfaces: Mapping[str, Interface]
    nodes: dict[NextHopKey, Node] = field(factory=dict)
    refused: dict[CandidateRef, frozenset[Node]] = field(factory=dict)
    """Routes on a loop, and the next hops that the loop consists of."""
    _grounds: dict[CandidateRef, frozenset[tuple[Any, ...]]] = field(factory=dict)
    """What was consulted on the way round such a loop: when that changes, it may be none any more."""
    vrfs: set[str] = field(factory=set)
    profiles: dict[str, ProfileRow] = field(factory=dict)
    adjacencies: dict[AdjacencyKey, AdjacencyRow] = field(factory=dict)
    bindings: dict[tuple[str, Prefix], dict[tuple[bytes, str], LabelStack]] = field(factory=dict)
    ids: dict[NextHopKey, int] = field(factory=dict)
    """Ids that an earlier incarnation gave: they are in use in the LFIB."""
    _last_id: int = 0
    _watchers: dict[tuple[Any, ...], set[Node]] = field(factory=dict)
    _watched: Watched = field(factory=Watched)
    _dirty: set[Node] = field(factory=set)
    _made: list[Node] = field(factory=list)
    _pending: set[Node] = field(factory=set)
    """Nodes whose result is out of date, during `recompute`."""
    released: set[Node] = field(factory=set)
    """Nodes that lost a user: `discard_unused` looks at them."""
    changed_wants: set[AdjacencyKey] = field(factory=set)
    """Adjacencies that somebody began or ceased to look at, until the engine clears it."""

    # --- nodes ----------------------------------------------------------------------------------------------------------

    def adopt(self, ids: Mapping[NextHopKey, int]) -> None:
        self.ids.update(ids)
        self._last_id = max(ids.values(), default=self._last_id)

    def node(self, key: NextHopKey) -> Node:
        node = self.nodes.get(key)
        if node is None:
            number = self.ids.pop(key, 0)
            if not number:
                number = self._last_id = self._last_id + 1
            node = self.nodes[key] = Node(key, number)
            self._dirty.add(node)
            self._made.append(node)
        return node

    def discard_unused(self) -> list[Node]:
        """Forget released nodes (and what only they needed) that nobody uses; returns them."""
        gone: list[Node] = []
        while self.released:
            node = self.released.pop()
            if node.users or node.wanted or node.needed_by or self.nodes.get(node.key) is not node:
                continue
            del self.nodes[node.key]
            self._dirty.discard(node)
            gone.append(node)
            self._forget_findings(node)
        return gone

    # --- what changed ---------------------------------------------------------------------------------------------------

    def touch(self, *resource: Any) -> None:
        """Whoever consulted `resource` must look again."""
        if watchers := self._watchers.get(resource):
            self._dirty |= watchers

    def touch_prefix(self, vrf: str, prefix: Prefix) -> None:
        for address in self._watched.under(vrf, prefix):
            self.touch("address", vrf, address)

    def wanted_adjacency(self, key: AdjacencyKey) -> bool:
        return ("adjacency", key) in self._watchers

    def _watch(self, node: Node, *resource: Any) -> None:
        if resource in node.watches:
            return
        node.watches.add(resource)
        watchers = self._watchers.get(resource)
        if watchers is None:
            watchers = self._watchers[resource] = set()
            if resource[0] == "adjacency":
                self.changed_wants.add(resource[1])
        watchers.add(node)
        if resource[0] == "address":
            self._watched.add(resource[1], resource[2])

    def _forget_findings(self, node: Node) -> None:
        """Drop what a node's result rests on."""
        for resource in node.watches:
            watchers = self._watchers[resource]
            watchers.discard(node)
            if not watchers:
                del self._watchers[resource]
                if resource[0] == "adjacency":
                    self.changed_wants.add(resource[1])
            if resource[0] == "address":
                self._watched.remove(resource[1], resource[2])
        node.watches.clear()
        for other in node.needs:
            other.needed_by.discard(node)
            self.released.add(other)
        node.needs = set()

    # --- evaluation -----------------------------------------------------------------------------------------------------

    def recompute(self) -> tuple[dict[Node, Resolution], set[CandidateRef]]:
        """Bring all nodes up to date: (node -> its result before) of those that changed, and the routes whose refusal
        began or ended."""
        if not self._dirty:
            return {}, set()
        closure = self._closure(self._dirty)
        self._dirty = set()
        lifted = {ref for ref, loop in self.refused.items() if not loop.isdisjoint(closure)}
        for ref in lifted:
            del self.refused[ref], self._grounds[ref]
        standing = set(self.refused)
        before = {node: node.result for node in closure}
        for node in closure:
            self._forget_findings(node)
        self._pending = set(closure)
        for node in sorted(closure, key=lambda n: n.id):
            if node in self._pending:
                self._evaluate(node)
        for node in self._made:  # grows meanwhile
            if node.result is UNKNOWN and node.needed_by:
                self._evaluate(node)
        self._dirty.clear()  # nodes made on the way were evaluated on the way
        self.released |= closure
        made, self._made = self._made, []
        for node in made:
            if node.result is UNKNOWN:  # only asked about on a way that was given up
                del self.nodes[node.key]
        before.update((node, UNKNOWN) for node in made)
        changed = {node: old for node, old in before.items() if node.result != old}
        return changed, (set(self.refused) - standing) ^ lifted

    def _closure(self, nodes: set[Node]) -> set[Node]:
        """`nodes`, and whatever rests on them."""
        found, queue = set(nodes), list(nodes)
        while queue:
            for other in queue.pop().needed_by:
                if other not in found:
                    found.add(other)
                    queue.append(other)
        return found

    def _evaluate(self, node: Node) -> None:
        """Run a node's steps, and those of every out-of-date node they ask for, on a stack of our own: chains may be long,
        Python's stack is not."""
        stack = [self._frame(node)]
        place = {node: 0}
        answer: Resolution | None = None
        while stack:
            frame = stack[-1]
            try:
                asked = frame.steps.send(answer)  # type: ignore[arg-type]  # the first send starts the generator
            except StopIteration as stop:
                stack.pop()
                del place[frame.node]
                answer = frame.node.result = stop.value
                self._pending.discard(frame.node)
                continue
            self._need(frame.node, asked)
            if asked in place:
                self._refuse(stack[place[asked] :])
                answer = self._rewind(stack, place)
            elif asked in self._pending or asked.result is UNKNOWN:
                place[asked] = len(stack)
                stack.append(self._frame(asked))
                answer = None
            else:
                answer = asked.result

    def _rewind(self, stack: list[_Frame], place: dict[Node, int]) -> Resolution | None:
        """Whoever follows a route that is refused now begins anew, as if it had known: what it found on the way there must not
        decide what others find. Each refusal is a route less to follow, so this ends."""
        first = next((i for i, frame in enumerate(stack) if frame.following in self.refused), None)
        if first is None:
            return _dead(RECURSION)
        for frame in stack[first:]:
            frame.steps.close()
            del place[frame.node]
            self._forget_findings(frame.node)
        again = stack[first].node
        del stack[first:]
        place[again] = first
        stack.append(self._frame(again))
        return None

    def _frame(self, node: Node) -> _Frame:
        frame = _Frame(node, None)  # type: ignore[arg-type]  # the generator needs its frame, set on the next line
        frame.steps = self._steps(frame)
        return frame

    @staticmethod
    def _need(node: Node, other: Node) -> None:
        if other is not node:
            node.needs.add(other)
            other.needed_by.add(node)

    def _refuse(self, loop: list[_Frame]) -> None:
        """The frames follow each other in a circle. Without a soft edge every route on it is refused, else only the routes
        that tunnels' outer packets would follow."""
        nodes = frozenset(frame.node for frame in loop)
        grounds = frozenset(resource for node in nodes for resource in node.watches)
        transports = [loop[(i + 1) % len(loop)] for i, frame in enumerate(loop) if frame.soft]
        for frame in transports or loop:
            if frame.following is not None:
                self.refused[frame.following], self._grounds[frame.following] = nodes, grounds

    # --- the steps ------------------------------------------------------------------------------------------------------

    def _steps(self, frame: _Frame) -> Steps:
        key = frame.node.key
        if key.encap:
            return (yield from self._by_profile(frame))
        if key.interface:
            found = yield from self._attached(frame, key.interface, key.address)
            if key.labelled and found.usable:
                host = Prefix.host(key.address) if key.address else None
                return self._labelled(frame, found, key.address, (host,) if host else (), direct=True)
            return found
        return (yield from self._recursive(frame))

    def _by_profile(self, frame: _Frame) -> Steps:
        """By an L3VPN profile: the endpoint in the profile's tunnel-encapsulation VRF."""
        key = frame.node.key
        self._watch(frame.node, "profile", key.encap)
        profile = self.profiles.get(key.encap)
        if profile is None:
            return _dead(f"there is no L3VPN profile {key.encap}")
        if not profile.usable:
            neighbour = AdjacencyKey(profile.tunnel, key.address)
            return self._shut(frame, neighbour, f"L3VPN profile {key.encap}: {profile.reason}")
        found = yield from self._neighbour(frame, profile.tunnel, AdjacencyKey(profile.tunnel, key.address))
        if not found.usable:
            return found
        way = f"{format_address(key.address)}[{_table(profile.vrf, key.address)}] by the default route"
        return found._replace(depth=1, path=(way, *found.path))

    def _attached(self, frame: _Frame, name: str, address: bytes) -> Steps:
        """`address` (empty: each destination, or the one far end) on interface `name`."""
        self._watch(frame.node, "interface", name)
        interface = self.interfaces.get(name)
        if interface is None:
            return _dead(f"there is no interface {name}")
        if not interface.up:
            reason = f"{name} is down: {interface.reason}"
            if not fails_closed(interface):
                return _dead(reason)
            key = AdjacencyKey(name, b"" if interface.row.point_to_point else address)
            yield from self._neighbour(frame, name, key)  # it finds routes that would carry the tunnel into itself
            return self._shut(frame, key, reason)
        if interface.row.kind is InterfaceKind.LOOPBACK:
            return _dead(f"nobody is behind {name}")
        if address and address in interface.addresses:
            return _dead(f"{format_address(address)} is an address of this node")
        if interface.row.point_to_point:
            return (yield from self._neighbour(frame, name, AdjacencyKey(name)))
        if not address:
            return Resolution(usable=True, interface=name, path=(f"attached to {name}",))
        return (yield from self._neighbour(frame, name, AdjacencyKey(name, address)))

    def _neighbour(self, frame: _Frame, name: str, key: AdjacencyKey) -> Steps:
        self._watch(frame.node, "adjacency", key)
        row = self.adjacencies.get(key)
        who = format_address(key.address) if key.address else "the far end"
        if row is None:
            return self._shut(frame, key, f"no adjacency to {who} on {name}")
        if row.transport and (row.usable or self._protected(frame, name)):
            frame.soft = True
            yield self.node(NextHopKey(row.transport_vrf, row.transport))
            frame.soft = False
        if not row.usable:
            return self._shut(frame, key, row.reason or f"{who} on {name} cannot be reached")
        return Resolution(usable=True, adjacency=key, interface=name, path=(f"{who} attached to {name}",))

    def _protected(self, frame: _Frame, name: str) -> bool:
        self._watch(frame.node, "interface", name)
        interface = self.interfaces.get(name)
        return interface is not None and bool(interface.row.protection)

    def _shut(self, frame: _Frame, key: AdjacencyKey, reason: str) -> Resolution:
        """A neighbour that cannot be sent to."""
        self._watch(frame.node, "interface", key.interface)
        interface = self.interfaces.get(key.interface)
        if interface is None or not (interface.row.protection or is_overlay(interface)):
            return _dead(reason)
        return Resolution(usable=False, reason=reason, adjacency=key, interface=key.interface, closed=True)

    def _recursive(self, frame: _Frame) -> Steps:
        """Longest match in the next hop's table, over all routes that lead somewhere."""
        vrf, address = frame.node.key.vrf, frame.node.key.address
        self._watch(frame.node, "vrf", vrf)
        self._watch(frame.node, "address", vrf, address)
        if vrf not in self.vrfs:
            return _dead(f"there is no VRF {vrf}")
        reason = f"no route to {format_address(address)}"
        first = True
        held: Resolution | None = None
        for prefix, offers in self.offers.covering(vrf, address):
            if any(is_receive(prefix, offer.route) for offer in offers):
                return _dead(f"{format_address(address)} is an address of this node")
            found, yields = yield from self._entry(frame, prefix, offers)
            if yields:
                held = held or found
                continue
            if found.usable or found.closed:
                return found if held is None or self._carries(frame, found) else held
            if first and found.reason:
                first, reason = False, found.reason
        return held or _dead(reason)

    def _carries(self, frame: _Frame, found: Resolution) -> bool:
        """Whether what belongs to a closed H route may go this less specific way meanwhile: into a protected tunnel."""
        return found.usable and not found.discard and self._protected(frame, found.interface)

    def _entry(self, frame: _Frame, prefix: Prefix, offers: tuple[Offer, ...]) -> _Judging:
        """What a prefix's routes come to, and whether that is a closed H route. The best candidate that leads somewhere; an
        override that does takes its place, or stands for itself where there is none."""
        shut: Resolution | None = None
        for offer in offers:
            if not offer.route.override:
                continue
            found = yield from self._candidate(frame, prefix, offer)
            if found.usable:
                return found, False
            shut = shut or (found if found.closed else None)
        best, hosts = yield from self._best(frame, prefix, offers)
        if shut is None or best.closed or (best.usable and not hosts):
            return best, False
        return shut, not best.usable

    def _best(self, frame: _Frame, prefix: Prefix, offers: tuple[Offer, ...]) -> _Judging:
        """The best that is no override, and whether the host merely has it. One that is closed counts if there is no other
        but such a one."""
        reason, closed = "", None
        for offer in offers:
            if offer.route.override:
                continue
            hosts = offer.route.kind == HOSTS
            found = yield from self._candidate(frame, prefix, offer)
            if found.usable:
                return (found, hosts) if closed is None or not hosts else (closed, False)
            reason = reason or found.reason
            closed = closed or (found if found.closed else None)
        return closed or _dead(reason), False

    def _candidate(self, frame: _Frame, prefix: Prefix, offer: Offer) -> Steps:
        key, route = frame.node.key, offer.route
        ref = CandidateRef(key.vrf, prefix, offer.owner)
        if ref in self.refused:
            for node in self.refused[ref]:
                self._need(frame.node, node)
            for resource in self._grounds[ref]:
                self._watch(frame.node, *resource)
            return _dead(RECURSION)
        if not route.vias:
            return _null(key, prefix)
        reason, closed = "", None
        outer, frame.following = frame.following, ref
        for via in route.vias:
            found = yield from self._way(frame, prefix, offer, via)
            if ref in self.refused:
                found = _dead(RECURSION)
                break
            if found.usable:
                break
            reason = reason or found.reason
            shut = found.closed and not (route.override and not self._protected(frame, found.interface))
            closed = closed or (found if shut else None)
        frame.following = outer
        if ref in self.refused:
            return _dead(RECURSION)
        found = found if found.usable else closed or _dead(reason)
        if not found.usable and not found.closed:
            return found
        step = f"{format_address(key.address)}[{_table(key.vrf, key.address)}] by {prefix} ({route.kind})"
        return found._replace(depth=found.depth + 1, path=(step, *found.path), metric=route.metric)

    def _way(self, frame: _Frame, prefix: Prefix, offer: Offer, via: Via) -> Steps:
        """One way of a route that covers the next hop."""
        key = frame.node.key
        if via.interface and not via.encap:
            neighbour = via.address or key.address
            found = yield from self._attached(frame, via.interface, neighbour)
            if not (found.usable and key.labelled):
                return found
            kin = offer.route.kind == "connected" or prefix.length == len(key.address) * 8
            direct = neighbour == key.address and (kin or bool(via.address))
            return self._labelled(frame, found, neighbour, (prefix, Prefix.host(key.address)), direct=direct)
        target = self.node(via.key())
        found = yield target
        if found.usable and found.depth >= MAX_RECURSION:
            return _dead(f"more than {MAX_RECURSION} look-ups, one after the other")
        if not found.usable or via.encap or via.labels:
            return found._replace(labels=found.labels + via.labels)
        if found.discard or not key.labelled:
            return _null(key, prefix) if found.discard else found
        if found.depth > 1:
            return _dead(f"no label binding for {prefix}: {format_address(via.address)} is not directly connected")
        return self._labelled(frame, found, via.address, (prefix, Prefix.host(key.address)), direct=False)

    def _labelled(
        self, frame: _Frame, found: Resolution, neighbour: bytes, prefixes: Iterable[Prefix], *, direct: bool
    ) -> Resolution:
        """What must be pushed so that `neighbour` takes the packet to the next hop: its binding for one of `prefixes`, or
        nothing if it is the next hop itself and the interface takes labels (implicit null, RFC 3032 2.1)."""
        vrf, address = frame.node.key.vrf, frame.node.key.address
        for prefix in prefixes:
            labels = self._binding(frame, vrf, prefix, neighbour)
            if labels is not None and (labels or direct or not self._for_any(vrf, prefix, neighbour)):
                label_path = ("label " + (" ".join(map(str, labels)) or "implicit-null"),)
                return found._replace(labels=found.labels + labels, path=found.path + label_path)
        interface = self.interfaces.get(found.interface)
        if direct and interface is not None and interface.row.mpls:
            return found._replace(path=(*found.path, "label implicit-null"))
        if direct:
            return _dead(f"{found.interface} takes no labelled packets")
        return _dead(f"no label binding for {format_address(address)} from {format_address(neighbour)}")

    def _for_any(self, vrf: str, prefix: Prefix, neighbour: bytes) -> bool:
        """Whether only a binding that names no neighbour is there. Implicit null of such a one is the next hop's own word: no
        other neighbour has given a label by which it would carry the packet there."""
        return not any(hop == neighbour for hop, _ in self.bindings.get((vrf, prefix), ()))

    def _binding(self, frame: _Frame, vrf: str, prefix: Prefix, neighbour: bytes) -> LabelStack | None:
        """Labels of `neighbour` for `prefix`, implicit null taken out; None if it gave none."""
        self._watch(frame.node, "binding", vrf, prefix)
        rows = self.bindings.get((vrf, prefix), {})
        for hop in (neighbour, b""):
            given = sorted((owner, labels) for (address, owner), labels in rows.items() if address == hop)
            if given:
                return tuple(label for label in given[0][1] if label != ReservedLabel.IMPLICIT_NULL)
        return None


def _null(key: NextHopKey, prefix: Prefix) -> Resolution:
    """A route to Null0 covers the next hop: packets are dropped there, but labels lead nowhere."""
    if key.labelled:
        return _dead(f"{prefix} leads to Null0, which takes no labels")
    return Resolution(usable=True, discard=True, interface="Null0", path=(f"{prefix} to Null0",))


def _table(vrf: str, address: bytes) -> str:
    return f"{'IPv4' if len(address) == 4 else 'IPv6'}:{vrf or 'Default'}"
