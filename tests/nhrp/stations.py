"""Stations that register with each other: the parts of one half of the speaker joined, and packets passed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, evolve, field

from nhrp.config import NhrpConfig, NhrpFamily, NhrpInterface
from nhrp.engine.bindings import TIMER as BINDING
from nhrp.engine.bindings import Bindings
from nhrp.engine.client import TIMER as REGISTER
from nhrp.engine.client import Client
from nhrp.engine.gate import Gate
from nhrp.engine.node import Arrival, Node
from nhrp.engine.outputs import Log, Post, Publish, Send
from nhrp.engine.purge import Purges
from nhrp.engine.server import Server
from nhrp.wire import decode, encode
from nhrp.wire.packet import Kind, Packet
from stack.addr import Afi, Prefix, parse_address
from stack.events import (
    AddressRow,
    EndpointOffered,
    Fact,
    Interface,
    InterfaceKind,
    InterfaceRow,
    NhrpReceived,
    OverlayRow,
    Route,
    RouteOffered,
    Topic,
    TunnelRow,
)
from stack.tables.lfib import LfibTable
from stack.tables.nexthop import NextHopTable
from stack.tables.rib import Candidate, Entry, RibTable

NAME = "Tunnel0"
HUB, HUB_NBMA = "10.0.0.1", "192.0.2.1"
SPOKE, SPOKE_NBMA = "10.0.0.11", "192.0.2.11"
OTHER, OTHER_NBMA = "10.0.0.12", "192.0.2.12"


def a(text: str) -> bytes:
    return parse_address(text) if text else b""


def tunnel_interface(
    address: str, name: str = NAME, *, length: int = 24, up: bool = True, network_id: int = 1, **more: Any
) -> Interface:
    row = InterfaceRow(name, InterfaceKind.TUNNEL, network_id=network_id, **more)
    addresses = {a(one): AddressRow(length) for one in address.split()}
    return Interface(row, 1, up, 1476, addresses=addresses)


@define(eq=False)
class Station:
    """A node, one tunnel interface to begin with, and what it has said."""

    node: Node
    gate: Gate
    bindings: Bindings
    server: Server
    client: Client
    purges: Purges
    sent: list[Send] = field(factory=list)
    facts: list[Fact] = field(factory=list)
    rows: dict[tuple[Topic[Any, Any], str], dict[Any, Any]] = field(factory=dict)
    logs: list[Log] = field(factory=list)
    errors: list[Arrival] = field(factory=list)

    @classmethod
    def of(cls, overlay: str, nbma: str, family: NhrpFamily | None = None, *, seed: int = 1, **more: Any) -> Station:
        """`remote` (of `more`): the far end, where there is one only."""
        remote = more.pop("remote", "")
        config = config_of(family or NhrpFamily(), **{key: more.pop(key) for key in ("cache_limit",) if key in more})
        node = Node(config, lambda count: seed.to_bytes(count), encode, RibTable(), NextHopTable(), LfibTable())
        gate, bindings = Gate(node), Bindings(node)
        client = Client(node, gate, bindings)
        station = cls(node, gate, bindings, Server(node, gate, bindings), client, Purges(node, gate, bindings, client))
        station.interface(tunnel_interface(overlay, **more), nbma, remote)
        return station

    def interface(self, interface: Interface, nbma: str, remote: str = "") -> None:
        self.node.interfaces[interface.name] = interface
        self.node.tunnels[interface.name] = TunnelRow(a(nbma), a(remote))
        self.changed(interface.name)

    def changed(self, name: str = NAME) -> None:
        self.bindings.interface_changed(name)
        self.client.interface_changed(name)
        self.flush()

    def gone(self, name: str = NAME) -> None:
        self.node.interfaces.pop(name, None)
        self.node.tunnels.pop(name, None)
        self.changed(name)

    def configure(self, family: NhrpFamily) -> None:
        self.node.config = evolve(self.node.config, interfaces=config_of(family).interfaces)
        self.bindings.reconfigured()
        self.client.reconfigured()
        self.flush()

    def assign(self, overlay: str, nbma: str, identity: str = "peer", name: str = NAME) -> None:
        self.node.overlays[name, a(overlay)] = OverlayRow(identity, a(nbma))

    def route(self, prefix: str, kind: str, via: tuple[Any, ...] = (), vrf: str = "") -> None:
        candidate = Candidate("router", Route(0, via, kind), 1, True, "", 0.0)
        self.node.rib.ribs.setdefault(vrf, {})[Prefix.parse(prefix)] = Entry((candidate,))

    # --- packets --------------------------------------------------------------------------------------------------------

    def receive(self, octets: bytes, outer: str, name: str = NAME) -> Arrival | None:
        tunnel = self.node.tunnels.get(name)
        vrf = self.node.vrf(name)
        fact = NhrpReceived(name, vrf, a(outer), tunnel.local if tunnel else b"", 0, octets)
        arrival = self.gate.admit(fact)
        if arrival is not None:
            self._dispatch(arrival)
        self.flush()
        return arrival

    def _dispatch(self, arrival: Arrival) -> None:
        kind = arrival.packet.kind
        if kind is Kind.REGISTRATION_REQUEST:
            self.server.received(arrival)
        elif kind is Kind.REGISTRATION_REPLY:
            self.client.received(arrival)
        elif kind in (Kind.PURGE_REQUEST, Kind.PURGE_REPLY):
            self.purges.received(arrival)
        elif kind is Kind.ERROR_INDICATION:
            self.errors.append(arrival)
            self.client.error(arrival)

    def flush(self) -> None:
        for output in self.node.flush():
            if isinstance(output, Send):
                self.sent.append(output)
            elif isinstance(output, Post):
                self.facts.append(output.fact)
            elif isinstance(output, Log):
                self.logs.append(output)
            elif isinstance(output, Publish):
                table = self.rows.setdefault((output.topic, output.table), {})
                for key, row in output.rows.items():
                    if row is None:
                        table.pop(key, None)
                    else:
                        table[key] = row

    def wake(self, now: float) -> None:
        """All that is due up to `now`, each at its own time."""
        while (deadline := self.node.timers.deadline()) is not None and deadline <= now:
            self.node.now = max(self.node.now, deadline)
            key = self.node.timers.due(self.node.now)
            assert isinstance(key, tuple)
            {BINDING: self.bindings.due, REGISTER: self.client.due}[key[0]](key)
        self.node.now = now
        self.flush()

    def take(self) -> list[Packet]:
        """What has been sent since the last time."""
        sent, self.sent = self.sent, []
        return [decode(one.octets) for one in sent]

    def last(self) -> Packet:
        """The only packet since the last time."""
        (one,) = self.take()
        return one

    # --- state ----------------------------------------------------------------------------------------------------------

    def endpoints(self) -> dict[bytes, bytes]:
        return {key[1]: row.transport for key, row in self.rows.get((EndpointOffered, ""), {}).items()}

    def routes(self, vrf: str = "") -> dict[Prefix, Route]:
        return self.rows.get((RouteOffered, vrf), {})

    def counted(self, what: str) -> int:
        return self.node.counters.get(what, 0)

    def nhs(self) -> list[tuple[str, str]]:
        return [(one.state, one.reason) for one in self.client.snapshot()]


def config_of(family: NhrpFamily, cache_limit: int = 65_536, names: Iterable[str] = (NAME, "Tunnel1")) -> NhrpConfig:
    families: Mapping[Afi, NhrpFamily] = {Afi.IPV4: family, Afi.IPV6: family}
    return NhrpConfig({name: NhrpInterface(name, families) for name in names}, cache_limit)


@define(eq=False)
class Net:
    """Carries packets by outer address. `nats`: inside NBMA address -> outside one. `lost`: who is cut off, by NBMA address."""

    stations: dict[str, Station]
    nats: dict[str, str] = field(factory=dict)
    lost: set[str] = field(factory=set)
    now: float = 0.0

    def run(self, seconds: float = 0.0) -> None:
        """Time goes by, and all that is sent arrives at once."""
        end = self.now + seconds
        while True:
            self._deliver()
            times = [when for one in self.stations.values() if (when := one.node.timers.deadline()) is not None]
            if not times or min(times) > end:
                break
            self.now = max(self.now, min(times))
            for station in self.stations.values():
                station.wake(self.now)
        self.now = end
        for station in self.stations.values():
            station.wake(end)
        self._deliver()

    def _deliver(self) -> None:
        for _ in range(100):
            moving = [(nbma, one) for nbma, station in self.stations.items() for one in station.sent]
            if not moving:
                return
            for station in self.stations.values():
                station.sent = []
            for nbma, one in moving:
                self._carry(nbma, one)
        raise AssertionError("packets go round")

    def _carry(self, source: str, one: Send) -> None:
        for nbma, station in self.stations.items():
            outside = a(self.nats.get(nbma, nbma))
            tunnel = self.stations[source].node.tunnels[one.interface]
            if outside == (one.nbma or tunnel.remote) and nbma not in self.lost and source not in self.lost:
                if self.nats.get(nbma) and self._asked_by(one, station):
                    continue
                station.receive(one.octets, self.nats.get(source, source))

    def _asked_by(self, one: Send, station: Station) -> bool:
        """Behind one NAT: whether the packet belongs to another station."""
        return decode(one.octets).source != station.node.own(NAME, Afi.IPV4)
