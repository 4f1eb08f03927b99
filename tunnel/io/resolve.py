"""From a FIB leaf or an NHLFE to octets and a port: the tables read once, remembered until one of them changes."""

from __future__ import annotations

from attrs import define, field

from stack.addr import DEFAULT_VRF, LabelStack, ReservedLabel
from stack.events import AdjacencyKey
from stack.net import Port
from stack.tables import Tables
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.fib import Leaf, LeafKind
from tunnel.io.counters import Counters, Drop
from tunnel.io.ports import Outlets
from tunnel.io.rewrite import GRE, MPLS_IN_IP, Rewrite
from tunnel.io.sealing import MAX_SEALED_HEADER, Seals

__all__ = ["Refusal", "Resolver"]

MAX_REWRITES = 16_384
"""Rewrites remembered: (ingress, neighbour, labels) in use. When full, all are resolved anew as packets come."""

_PUSHABLE = frozenset((ReservedLabel.IPV4_EXPLICIT_NULL, ReservedLabel.IPV6_EXPLICIT_NULL))
_PROTOCOLS = {AdjacencyKind.GRE: GRE, AdjacencyKind.MPLS_IN_IP: MPLS_IN_IP}


@define
class Refusal:
    """Why nothing can be sent there. `neighbour`: who must be resolved first, if that is all."""

    reason: Drop
    interface: str = ""
    neighbour: AdjacencyKey | None = None
    dead: bool = False


@define(eq=False)
class Resolver:
    tables: Tables
    outlets: Outlets
    counters: Counters
    seals: Seals
    _made: dict[tuple[str, AdjacencyKey, LabelStack, bool], Rewrite] = field(factory=dict, init=False)
    _used: dict[AdjacencyKey, Adjacency] = field(factory=dict, init=False)
    """The adjacencies that rewrites or open raw sockets were made for. Bounded by the table."""
    _near: dict[AdjacencyKey, None] = field(factory=dict, init=False)
    """Those of them that have no raw socket."""
    _seen: int = field(default=-1, init=False)
    """The generation of the adjacencies, when all that are used were as they stand there."""

    def forget(self) -> None:
        self._made.clear()
        self.seals.forget(self.tables.sad)
        for key in self._near:
            del self._used[key]
        self._near.clear()
        adjacencies = self.tables.adjacencies
        for key in self._stale():
            now = adjacencies.get(key)
            if now is not None:
                self._used[key] = now
            else:
                del self._used[key]
        self._seen = adjacencies.generation

    def moved(self) -> bool:
        """Whether an adjacency, or a bundle of SAs, that something was made for is another one now."""
        if self._stale():
            return True
        self._seen = self.tables.adjacencies.generation
        return self.seals.moved(self.tables.sad)

    def _stale(self) -> list[AdjacencyKey]:
        adjacencies, used = self.tables.adjacencies, self._used
        changed = adjacencies.changed_since(self._seen)
        keys = used.keys() if changed is None else changed & used.keys()
        return [key for key in keys if adjacencies.get(key) is not used[key]]

    def leaf(self, ingress: str, leaf: Leaf, destination: bytes) -> Rewrite | Refusal:
        """For a FORWARD or ATTACHED leaf; `ingress` is the interface the packet came by ('' from this node)."""
        if leaf.kind is LeafKind.FORWARD:
            return self.next_hop(ingress, leaf.next_hop, leaf.labels)
        key = AdjacencyKey(leaf.interface, destination)
        if self.tables.adjacencies.get(key) is None:
            whole = AdjacencyKey(leaf.interface)
            key = whole if self.tables.adjacencies.get(whole) is not None else key
        return self.adjacency(ingress, key, leaf.labels)

    def next_hop(self, ingress: str, number: int, labels: LabelStack, *, stacked: bool = False) -> Rewrite | Refusal:
        """To next hop `number` under `labels` and the transport labels of that next hop.

        `stacked`: what is sent under them has labels of its own.
        """
        row = self.tables.nexthops.get(number)
        if row is None or row.adjacency is None:
            return Refusal(Drop.NO_NEXT_HOP)
        return self.adjacency(ingress, row.adjacency, row.labels + labels, stacked=stacked)

    def adjacency(
        self, ingress: str, key: AdjacencyKey, labels: LabelStack, *, stacked: bool = False
    ) -> Rewrite | Refusal:
        made = self._made.get((ingress, key, labels, stacked))
        if made is not None:
            return made
        adjacency = self.tables.adjacencies.get(key)
        if adjacency is None:
            return Refusal(Drop.UNRESOLVED, key.interface, key)
        if not adjacency.takes(labelled=bool(labels) or stacked):
            return Refusal(Drop.UNRESOLVED, key.interface, key, dead=bool(adjacency.reason))
        interface = self.tables.interfaces.get(key.interface)
        if interface is not None and not interface.up:
            return Refusal(Drop.INTERFACE_DOWN, key.interface)
        if any(label < 16 and label not in _PUSHABLE for label in labels):
            return Refusal(Drop.LABEL_BAD, key.interface)
        return self._make(ingress, adjacency, labels, stacked=stacked)

    def _make(self, ingress: str, adjacency: Adjacency, labels: LabelStack, *, stacked: bool) -> Rewrite | Refusal:
        interface = adjacency.key.interface
        if adjacency.protection:
            return self._make_sealed(ingress, adjacency, labels, stacked=stacked)
        port = self._port(adjacency, labelled=bool(labels) or stacked)
        if isinstance(port, Drop):
            return Refusal(port, interface)
        mss, hairpin = self._by_ingress(ingress, interface)
        tally = self.counters.out_of(interface)
        made = Rewrite(
            adjacency,
            labels,
            port.send,
            port.name,
            port.headroom,
            tally,
            mss,
            hairpin,
            stacked,
            self.outlets.queue(port),
        )
        return self._remember(made, ingress)

    def _make_sealed(
        self, ingress: str, adjacency: Adjacency, labels: LabelStack, *, stacked: bool
    ) -> Rewrite | Refusal:
        """Of a protected adjacency: there is no other way to its far end than the queue that seals. Without an SA nothing is
        sent, rather than in clear (RFC 4301 5.1)."""
        interface = adjacency.key.interface
        bundle = self.tables.sad.get(adjacency.sa) if adjacency.sa is not None else None
        if bundle is None or bundle.outbound is None or adjacency.kind is not AdjacencyKind.GRE:
            return Refusal(Drop.PROTECTED, interface)
        queue = self.seals.of(bundle, adjacency.transport_vrf, adjacency.ttl)
        mss, hairpin = self._by_ingress(ingress, interface)
        tally = self.counters.out_of(interface)
        made = Rewrite(adjacency, labels, queue.send_one, queue.name, 0, tally, mss, hairpin, stacked, queue)
        if made.size > MAX_SEALED_HEADER:
            return Refusal(Drop.LABEL_DEPTH, interface)
        return self._remember(made, ingress)

    def _remember(self, made: Rewrite, ingress: str) -> Rewrite:
        if len(self._made) >= MAX_REWRITES:
            self._made.clear()
        adjacency = made.adjacency
        self._made[ingress, adjacency.key, made.labels, made.stacked] = made
        self._used[adjacency.key] = adjacency
        if adjacency.kind not in _PROTOCOLS:
            self._near[adjacency.key] = None
        return made

    def _port(self, adjacency: Adjacency, *, labelled: bool) -> Port | Drop:
        kind = adjacency.kind
        if protocol := _PROTOCOLS.get(kind):
            if protocol == MPLS_IN_IP and not labelled:
                return Drop.NO_LABELS_HERE
            vrf = adjacency.transport_vrf
            return self.outlets.remote(protocol, adjacency.destination, vrf) or Drop.PORT_ERROR
        if kind is AdjacencyKind.TUN and labelled:
            return Drop.NO_LABELS_HERE
        if kind is AdjacencyKind.HOST and not labelled:
            return self.outlets.hosts.get(DEFAULT_VRF) or Drop.NO_HOST_PORT
        return self.outlets.attachments.get(adjacency.key.interface) or Drop.NO_PORT

    def _by_ingress(self, ingress: str, egress: str) -> tuple[int, bool]:
        """The MSS to clamp to (0: none), and whether this way is a hairpin inside one NHRP network."""
        came, goes = self.tables.interfaces.get(ingress), self.tables.interfaces.get(egress)
        sizes = [end.row.mss for end in (came, goes) if end is not None and end.row.mss]
        if came is None or goes is None:
            return min(sizes, default=0), False
        same = came.row.network_id != 0 and came.row.network_id == goes.row.network_id
        return min(sizes, default=0), same and came.row.redirect
