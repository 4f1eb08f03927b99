"""All of NHRP on one node: both halves joined. Sans-IO, as all engines here: every call gives `now` and returns what is to be
done, in order.

    registrations: server, client, bindings, purges         resolutions: redirect, requester, shortcuts, transit, egress
                            both: node, gate (packets), ways (where addresses go), reach (tunnels)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nhrp.config import NhrpConfig
from nhrp.engine.bindings import Binding, Bindings, Source
from nhrp.engine.client import Client
from nhrp.engine.egress import Egress, Kept, Record
from nhrp.engine.gate import Gate
from nhrp.engine.node import Arrival, Node
from nhrp.engine.outputs import Output, SyncedOut
from nhrp.engine.purge import Purges
from nhrp.engine.reach import Reach
from nhrp.engine.redirect import Redirects
from nhrp.engine.requester import Requester
from nhrp.engine.server import Server
from nhrp.engine.shortcuts import Entry, Shortcuts
from nhrp.engine.snapshot import SpeakerSnapshot
from nhrp.engine.snapshots import speaker_snapshot
from nhrp.engine.transit import Transit
from nhrp.engine.ways import Registered, Ways
from nhrp.wire import encode
from nhrp.wire.packet import Kind
from stack.addr import Afi, Prefix
from stack.events import (
    AdjacencyKey,
    AdjacencyState,
    BindingOffered,
    Delta,
    EndpointOffered,
    Fact,
    Hairpin,
    Interface,
    InterfaceState,
    LabelBound,
    LabelWanted,
    NhrpReceived,
    OverlayState,
    RouteOffered,
    RouteSelected,
    SaState,
    SaWanted,
    Synced,
    Topic,
    TunnelState,
)
from stack.tables.lfib import LfibTable
from stack.tables.nexthop import NextHopTable
from stack.tables.rib import RibTable

__all__ = ["PRODUCED", "READS", "Kept", "Speaker"]

PRODUCED: tuple[Topic[Any, Any], ...] = (LabelWanted, SaWanted, EndpointOffered, BindingOffered, RouteOffered)
"""What a route needs comes before the route."""

READS: frozenset[Topic[Any, Any]] = frozenset(
    {InterfaceState, TunnelState, AdjacencyState, SaState, OverlayState, LabelBound, RouteSelected}
)


class Speaker:
    """Tables are read-only views. `kept`: what an earlier incarnation told others, who still believe it and now hear that it is
    over, and what clients have registered; it goes on being written. No shortcut is taken over: the rows of a crashed service
    go when we say that we are synced, packets take the way by the hub and are redirected again. A shortcut is worth no more
    than that."""

    def __init__(
        self,
        config: NhrpConfig,
        entropy: Callable[[int], bytes],
        *,
        rib: RibTable,
        nexthops: NextHopTable,
        lfib: LfibTable,
        kept: Kept | None = None,
    ) -> None:
        node = self.node = Node(config, entropy, encode, rib, nexthops, lfib)
        gate = self.gate = Gate(node)
        kept = kept if kept is not None else Kept()
        bindings = self.bindings = Bindings(node, kept.registrations)
        self.server = Server(node, gate, bindings)
        client = self.client = Client(node, gate, bindings)
        self.purges = Purges(node, gate, bindings, client)
        ways = self.ways = Ways(node, self._registered, self._servers)
        reach = self.reach = Reach(node)
        self.redirects = Redirects(node, gate, ways)
        self.shortcuts = Shortcuts(node, ways, reach)
        self.requester = Requester(node, gate, ways, self.shortcuts, client)
        self.transit = Transit(node, gate, ways, bindings)
        self.egress = Egress(node, gate, ways, reach, client, self.transit, kept)
        self.shortcuts.others = lambda: len(self.egress) + len(bindings)
        self.egress.others = lambda: len(self.shortcuts) + len(bindings)
        bindings.others = lambda: len(self.shortcuts) + len(self.egress)
        self.purges.resolutions.append(self.requester.purged)
        self.since: dict[AdjacencyKey, float] = {}
        """Since when an adjacency can be sent to, or cannot."""

    def _registered(self, vrf: str, address: bytes) -> Registered | None:
        known = self.bindings.known(vrf, address)
        return Registered(known.interface, known.nbma) if known is not None else None

    def _servers(self, interface: str) -> list[bytes]:
        return [address for afi in Afi for address, _ in self.client.servers(interface, afi)]

    # --- life -----------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Output]:
        self.node.now = now
        self.egress.start()
        return [*self._done(), *(SyncedOut(topic) for topic in PRODUCED)]

    def stop(self, now: float) -> list[Output]:
        """Whoever believes what we said is told that it is over; nobody is waited for. Rows go with the service."""
        node = self.node
        node.now, node.stopping = now, True
        self.egress.stop()
        self.purges.stop()
        self.client.stop()
        return node.flush()

    @property
    def stopped(self) -> bool:
        return self.node.stopping

    def deadline(self) -> float | None:
        return None if self.node.stopping else self.node.timers.deadline()

    def wake(self, now: float) -> list[Output]:
        node = self.node
        node.now = now
        while not node.stopping and (due := node.timers.due(now)) is not None:
            self._due(due)
        return self._done()

    def _due(self, key: Any) -> None:
        """A timer: (what, number or more)."""
        kind = key[0]
        if kind == "register":
            self.client.due(key)
        elif kind == "binding":
            self.bindings.due(key)
        elif kind in _TIMERS:
            _TIMERS[kind](self, key[1])

    def reconfigure(self, config: NhrpConfig, now: float) -> list[Output]:
        self.node.now, self.node.config = now, config
        self.bindings.reconfigured()
        self.client.reconfigured()
        self.reach.again()
        self.shortcuts.doubt_all()
        self.egress.doubt_all()
        return self._done()

    def _done(self) -> list[Output]:
        """What follows from what has changed, until nothing does."""
        reach = self.reach
        left = self.shortcuts.recheck() | self.egress.recheck()
        while reach.changed:
            number, _ = reach.changed.popitem()
            self.shortcuts.reach_changed(number)
            self.egress.reach_changed(number)
        self.node.timers.set(("recheck", 0), self.node.now if left else None)
        return self.node.flush()

    # --- inputs ---------------------------------------------------------------------------------------------------------

    def receive(self, message: Delta | Synced | Fact, now: float) -> list[Output]:
        node = self.node
        node.now = now
        if isinstance(message, NhrpReceived):
            if not node.stopping and (arrival := self.gate.admit(message)) is not None:
                self._packet(arrival)
        elif isinstance(message, Hairpin):
            self.redirects.hairpin(message)
        elif isinstance(message, Delta) and message.topic in _DELTAS:
            _DELTAS[message.topic](self, message)
        return self._done()

    def _packet(self, arrival: Arrival) -> None:
        match arrival.packet.kind:
            case Kind.RESOLUTION_REQUEST:
                if (question := self.transit.request(arrival)) is not None:
                    self.egress.asked(question)
            case Kind.RESOLUTION_REPLY:
                if not self.requester.replied(arrival):
                    self.transit.onward(arrival)
            case Kind.REGISTRATION_REQUEST:
                self.server.received(arrival)
            case Kind.REGISTRATION_REPLY:
                self.client.received(arrival)
            case Kind.PURGE_REQUEST:
                if not self.purges.received(arrival):
                    self.transit.onward(arrival)
            case Kind.PURGE_REPLY:
                if not self.egress.purge_replied(arrival) and not self.purges.received(arrival):
                    self.transit.onward(arrival)
            case Kind.ERROR_INDICATION:
                self._error(arrival)
            case Kind.TRAFFIC_INDICATION:
                self.requester.indicated(arrival)

    def _error(self, arrival: Arrival) -> None:
        if not self.node.is_own(arrival.interface.vrf, arrival.packet.destination):
            self.transit.onward(arrival)
        elif not self.requester.error(arrival):
            self.client.error(arrival)

    # --- rows -----------------------------------------------------------------------------------------------------------

    def _interfaces(self, delta: Delta) -> None:
        node = self.node
        for name, row in delta.rows.items():
            before = node.interfaces.get(name)
            _put(node.interfaces, name, row)
            self._interface_changed(name)
            if row is None:
                node.forget_traffic(name)
            if before is not None and (row is None or _shape(row) != _shape(before)):
                self.shortcuts.interface_changed(name)
                self.egress.interface_changed(name)

    def _tunnels(self, delta: Delta) -> None:
        for name, row in delta.rows.items():
            _put(self.node.tunnels, name, row)
            self._interface_changed(name)

    def _interface_changed(self, name: str) -> None:
        self.bindings.interface_changed(name)
        self.client.interface_changed(name)
        self.reach.interface_changed(name)

    def _adjacencies(self, delta: Delta) -> None:
        adjacencies = self.node.adjacencies
        for key, row in delta.rows.items():
            before = adjacencies.get(key)
            usable = row is not None and row.usable
            if row is None:
                self.since.pop(key, None)
            elif before is None or before.usable != usable:
                self.since[key] = self.node.now
            _put(adjacencies, key, row)
            self.reach.adjacency_changed(key)
            if usable and (before is None or not before.usable):
                self.client.adjacency_changed(key.interface)
                self.requester.tunnel_up(key.interface)

    def _sas(self, delta: Delta) -> None:
        for key, row in delta.rows.items():
            _put(self.node.sas, key, row)
            self.reach.sa_changed(key)

    def _overlays(self, delta: Delta) -> None:
        for key, row in delta.rows.items():
            _put(self.node.overlays, key, row)
        for key in delta.rows:
            self.bindings.overlay_changed(*key)

    def _labels(self, delta: Delta) -> None:
        for fec, row in delta.rows.items():
            _put(self.node.labels, fec, row)
        self.egress.labels_changed(delta.rows)

    def _routes(self, delta: Delta) -> None:
        self.shortcuts.routes_changed(delta.table, delta.rows)
        self.egress.routes_changed(delta.table, delta.rows)

    # --- use, clear, show -------------------------------------------------------------------------------------------------

    def used(self, vrf: str, prefixes: Iterable[Prefix], now: float) -> list[Output]:
        """The answer to AskUsed: those of its prefixes that packets were sent to."""
        self.node.now = now
        self.requester.renew(self.shortcuts.used(vrf, prefixes))
        return self._done()

    def clear(
        self,
        now: float,
        *,
        address: bytes | None = None,
        afi: Afi | None = None,
        vrf: str | None = None,
        counters: bool = False,
    ) -> tuple[int, list[Output]]:
        """`clear {ip | ipv6} nhrp [vrf V] [ADDRESS | counters]`: how many entries (or counters) were there."""
        node = self.node
        node.now = now
        if counters:
            count = len(node.counters) + len(node.traffic)
            node.counters.clear()
            node.traffic.clear()
            return count, self._done()

        def meant(of: str, prefix: Prefix, *more: bytes) -> bool:
            there = address is None or prefix.covers(address) or address in more
            return there and afi in (None, prefix.afi) and vrf in (None, of)

        def entry(one: Entry) -> bool:
            prefix = one.answer.prefix if one.answer is not None else Prefix.host(one.destination)
            return meant(one.vrf, prefix, one.answer.overlay if one.answer is not None else b"")

        def record(one: Record) -> bool:
            return meant(one.question.vrf, one.prefix, one.overlay)

        def binding(one: Binding) -> bool:
            return one.source is not Source.STATIC and meant(one.vrf, Prefix.host(one.address))

        count = self.shortcuts.clear(entry, "cleared") + self.egress.clear(record)
        for found in [one for one in self.bindings if binding(one)]:
            self.purges.forget(found, "cleared")
            count += 1
        return count, self._done()

    def snapshot(self, now: float) -> SpeakerSnapshot:
        self.node.now = now
        return speaker_snapshot(
            self.node, self.bindings, self.server, self.client, self.shortcuts, self.egress, self.since
        )


def _put(rows: Any, key: Any, row: Any) -> None:
    if row is None:
        rows.pop(key, None)
    else:
        rows[key] = row


def _shape(interface: Interface) -> tuple[Any, ...]:
    """What shortcuts and answers depend on."""
    return interface.row.network_id, interface.vrf, interface.up, interface.row.mpls, tuple(interface.addresses)


_DELTAS: Mapping[Topic[Any, Any], Callable[[Speaker, Delta], None]] = {
    InterfaceState: Speaker._interfaces,  # noqa: SLF001  # the table of a class names its methods
    TunnelState: Speaker._tunnels,  # noqa: SLF001
    AdjacencyState: Speaker._adjacencies,  # noqa: SLF001
    SaState: Speaker._sas,  # noqa: SLF001
    OverlayState: Speaker._overlays,  # noqa: SLF001
    LabelBound: Speaker._labels,  # noqa: SLF001
    RouteSelected: Speaker._routes,  # noqa: SLF001
}

_TIMERS: Mapping[str, Callable[[Speaker, Any], None]] = {
    "shortcut-ask": lambda speaker, number: speaker.requester.again(number),
    "shortcut-end": lambda speaker, number: speaker.shortcuts.end(number),
    "shortcut-use": lambda speaker, number: speaker.shortcuts.check_use(number),
    "answer-end": lambda speaker, number: speaker.egress.end(number),
    "answer-label": lambda speaker, number: speaker.egress.label_late(number),
    "answer-tunnel": lambda speaker, number: speaker.egress.tunnel_late(number),
    "purge": lambda speaker, number: speaker.egress.purge_due(number),
    "kept": lambda speaker, _number: speaker.egress.take_back_old(),
}
