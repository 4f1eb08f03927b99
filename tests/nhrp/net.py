"""Whole speakers joined by a network in memory, each beside routing's and MFI's real engines, on a clock that only the test
moves. Tunnels and IKEv2 are played by the world: an endpoint or a wanted SA becomes an adjacency after a while.

    world = World()
    hub = world.box("hub", "172.16.0.1")
    ...
    world.packet(a, "A", "192.168.1.1", "192.168.2.1")   # the boxes that it went through; a hub may redirect
    world.run(5)
    assert world.events                                   # what happened, one line each, for a test to print

`world.drop(packet, sender, receiver)` decides what NHRP packets are lost; `world.wire` holds all that were sent.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from attrs import define, evolve, field

from mfi.config import MfiConfig
from mfi.engine import Engine as Mfi
from nhrp.config import NhrpConfig, NhrpFamily, NhrpInterface, Nhs
from nhrp.engine.outputs import AskUsed, Log, Output, Post, Publish, Send, SyncedOut
from nhrp.engine.snapshot import BindingKind, BindingSnapshot, SpeakerSnapshot
from nhrp.engine.speaker import READS, Kept, Speaker
from nhrp.wire import decode, encode, mpls_of
from nhrp.wire.packet import Kind, Packet
from stack.addr import Afi, Fec, Prefix, VrfFec, format_address, parse_address
from stack.claims import Slot
from stack.events import (
    SCOPE_MGRE,
    SCOPE_PROTECTED,
    AddressOffered,
    AddressRow,
    AdjacencyKey,
    AdjacencyRow,
    AdjacencyState,
    BindingOffered,
    Delta,
    EndpointOffered,
    Fact,
    Hairpin,
    Ingress,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    LabelRequest,
    LabelWanted,
    LinkRow,
    LinkState,
    NhrpReceived,
    OverlayRow,
    OverlayState,
    Route,
    RouteOffered,
    SaKey,
    SaRow,
    SaState,
    SaWanted,
    Topic,
    TunnelRow,
    TunnelState,
    Via,
    Vrf,
    VrfState,
)
from stack.routing.engine.engine import READS as ROUTING_READS
from stack.routing.engine.engine import Engine as Routing
from stack.routing.engine.engine import Publish as RoutingPublish
from stack.tables import Tables
from stack.tables.fib import LeafKind
from stack.tables.lfib import Operation
from stack.testing import SeededEntropy

__all__ = [
    "DELAY",
    "OUI",
    "SA_DELAY",
    "Box",
    "Flex",
    "Mgre",
    "World",
    "a",
    "flex",
    "header",
    "labels_of",
    "mgre",
    "p",
]

DELAY = 0.01
SA_DELAY = 0.2
OUI = b"\x02\x4d\x46"


def a(text: str) -> bytes:
    return parse_address(text)


def p(text: str) -> Prefix:
    return Prefix.parse(text)


def header(source: str, destination: str) -> bytes:
    """The IP header of a packet, and eight octets behind it."""
    src, dst = a(source), a(destination)
    if len(src) == 4:
        return bytes.fromhex("4500001c000000003f010000") + src + dst + bytes(8)
    return bytes.fromhex("6000000000083a3f") + src + dst + bytes(8)


def labels_of(packet: Packet) -> Any:
    return mpls_of(packet, OUI)


@define(eq=False)
class Box:
    """A node: the speaker, and what stands beside it."""

    world: World
    name: str
    nbma: bytes
    families: dict[str, dict[Afi, NhrpFamily]] = field(factory=dict)
    limits: dict[str, int] = field(factory=dict)
    first_label: int = 100
    kept: Kept = field(factory=Kept)
    tables: Tables = field(factory=Tables)
    routing: Routing = field(init=False)
    mfi: Mfi = field(init=False)
    speaker: Speaker = field(init=False)
    facts: list[Fact] = field(factory=list)
    logs: list[Log] = field(factory=list)
    rows: dict[Slot, Any] = field(factory=dict)
    """What the speaker holds on the bus."""
    asked: list[AskUsed] = field(factory=list)
    template: str = ""
    accesses: dict[bytes, str] = field(factory=dict)
    """NBMA address -> the virtual-access interface to it."""
    state: dict[Topic[Any, Any], dict[Any, Any]] = field(factory=lambda: defaultdict(dict))
    """What the world has said, to tell a new incarnation."""
    used: set[tuple[str, Prefix]] = field(factory=set)
    running: bool = True
    has_mfi: bool = True
    _numbers: Any = field(factory=lambda: count(1))

    def __attrs_post_init__(self) -> None:
        tables = self.tables
        self.routing = Routing.of(tables.interfaces, tables.nexthops, tables.rib, tables.fib)
        self.mfi = Mfi(
            MfiConfig(first=self.first_label, last=self.first_label + 9, quarantine=30.0), tables.lfib.writer("mfi")
        )
        self._begin()

    def _begin(self) -> None:
        tables = self.tables
        self.speaker = Speaker(
            self.config(),
            SeededEntropy(sum(self.name.encode())),
            rib=tables.rib,
            nexthops=tables.nexthops,
            lfib=tables.lfib,
            kept=self.kept,
        )
        self.running = True
        self.do(self.speaker.start(self.world.now))

    def config(self) -> NhrpConfig:
        interfaces = {name: NhrpInterface(name, families) for name, families in self.families.items()}
        return NhrpConfig(interfaces, **self.limits)

    def configure(self, name: str, afi: Afi = Afi.IPV4, **more: Any) -> None:
        """Lines of an interface."""
        self.families.setdefault(name, {})[afi] = NhrpFamily(**more)
        self.do(self.speaker.reconfigure(self.config(), self.world.now))

    # --- a crash ----------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The service ends; its rows stay until it is back."""
        self.running = False

    def restart(self) -> None:
        """The next incarnation hears everything anew; what it does not say before it is synced goes."""
        old, self.rows = dict(self.rows), {}
        self._begin()
        for slot in old.keys() - self.rows.keys():
            self._row(slot.topic, slot.table, slot.key, None)
        for topic, rows in list(self.state.items()):
            if topic in READS and rows:
                self.tell(topic, dict(rows))
        self.settle()

    # --- rows -------------------------------------------------------------------------------------------------------------

    def feed(self, topic: Topic[Any, Any], owner: str, rows: Mapping[Any, Any], table: str = "") -> None:
        """Rows of somebody else's."""
        if topic in ROUTING_READS:
            self.routing.feed(Delta(topic, owner, 1, table, rows), self.world.now)
        if topic is LabelWanted:
            self.mfi.feed(owner, rows)
        if topic in READS:
            self._remember(topic, rows)
            self.tell(topic, rows, table)
        self.settle()

    def _remember(self, topic: Topic[Any, Any], rows: Mapping[Any, Any]) -> None:
        for key, row in rows.items():
            if row is None:
                self.state[topic].pop(key, None)
            else:
                self.state[topic][key] = row

    def settle(self) -> None:
        """Routing and MFI bring their tables up to date, and tell the speaker."""
        for _ in range(20):
            said = [one for one in self.routing.settle(self.world.now) if isinstance(one, RoutingPublish)]
            said += self.mfi.settle(self.world.now)
            if not said:
                return
            for one in said:
                if one.topic in READS:
                    table = getattr(one, "table", "")
                    if not table:
                        self._remember(one.topic, one.rows)
                    self.tell(one.topic, one.rows, table)
        raise AssertionError("routing and NHRP do not come to rest")

    def tell(self, topic: Topic[Any, Any], rows: Mapping[Any, Any], table: str = "") -> None:
        if self.running:
            self.do(self.speaker.receive(Delta(topic, "", 1, table, dict(rows)), self.world.now))

    def receive(self, fact: Fact) -> None:
        if self.running:
            self.do(self.speaker.receive(fact, self.world.now))
            self.settle()

    def do(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send():
                    self.world.send(self, output)
                case Publish():
                    for key, row in output.rows.items():
                        self._row(output.topic, output.table, key, row)
                case Post():
                    self.facts.append(output.fact)
                    self.world.note(f"{self.name}: {type(output.fact).__name__}")
                case Log():
                    self.logs.append(output)
                case AskUsed():
                    self.asked.append(output)
                    self.world.later(DELAY, lambda asked=output: self._answer(asked))
                case SyncedOut():
                    pass
        self.world.touched(self)

    def _answer(self, asked: AskUsed) -> None:
        found = [one for one in asked.prefixes if (asked.vrf, one) in self.used]
        self.used -= {(asked.vrf, one) for one in asked.prefixes}
        if self.running:
            self.do(self.speaker.used(asked.vrf, found, self.world.now))

    def _row(self, topic: Topic[Any, Any], table: str, key: Any, row: Any) -> None:
        slot = Slot(topic, table, key)
        if row is None:
            self.rows.pop(slot, None)
        else:
            self.rows[slot] = row
        if topic is EndpointOffered:
            self.world.endpoint(self, key, row.transport if row is not None else None)
        elif topic is SaWanted:
            self.world.sa_wanted(self)
        else:
            if topic in ROUTING_READS:
                self.routing.feed(Delta(topic, "nhrp", 1, table, {key: row}), self.world.now)
            if topic is LabelWanted and self.has_mfi:
                self.mfi.feed("nhrp", {key: row})
            self.world.later(0, self.settle)

    def wanted(self, topic: Topic[Any, Any]) -> dict[Any, Any]:
        """What the speaker holds of a topic."""
        return {slot.key: row for slot, row in self.rows.items() if slot.topic is topic}

    # --- interfaces and routes ----------------------------------------------------------------------------------------------

    def vrf(self, *names: str) -> None:
        self.feed(VrfState, "router", {name: Vrf(name, 1 + i) for i, name in enumerate(names)})

    def loopback(self, name: str, address: str) -> None:
        self.feed(InterfaceOffered, "router", {name: InterfaceRow(name, InterfaceKind.LOOPBACK)})
        self._address(name, address)

    def _address(self, name: str, text: str) -> None:
        network, _, length = text.partition("/")
        bits = int(length) if length else len(a(network)) * 8
        self.feed(AddressOffered, "router", {(name, a(network)): AddressRow(bits)})

    def lan(self, name: str, address: str, vrf: str = "") -> None:
        self.feed(InterfaceOffered, "router", {name: InterfaceRow(name, InterfaceKind.ETHERNET, vrf)})
        self.feed(LinkState, "tunnel", {name: LinkRow(up=True, mtu=1500)})
        self._address(name, address)

    def tunnel(self, name: str, remote: str = "", address: str = "", **more: Any) -> None:
        """A tunnel interface; `remote` empty: multipoint."""
        more.setdefault("network_id", 1)
        row = InterfaceRow(name, InterfaceKind.TUNNEL, mtu=1400, point_to_point=bool(remote), **more)
        self.feed(InterfaceOffered, "router", {name: row})
        self.feed(LinkState, "tunnel", {name: LinkRow(up=True, mtu=1400)})
        for one in address.split():
            self._address(name, one)
        far = a(remote) if remote else b""
        self.feed(TunnelState, "tunnel", {name: TunnelRow(self.nbma, far, "", row.protection)})
        if remote:
            self.feed(AdjacencyState, "tunnel", {AdjacencyKey(name): AdjacencyRow(True, 1400, "", far)})

    def make_template(self, name: str, **more: Any) -> None:
        self.template = name
        more.setdefault("network_id", 1)
        more.setdefault("protection", "default")
        row = InterfaceRow(name, InterfaceKind.TEMPLATE, mtu=1400, point_to_point=True, **more)
        self.feed(InterfaceOffered, "router", {name: row})

    def access(self, remote: bytes) -> str:
        """The virtual-access interface to a peer; made if need be."""
        name = self.accesses.get(remote)
        if name is None:
            name = self.accesses[remote] = f"Virtual-Access{next(self._numbers)}"
            template = self.tables.interfaces.get(self.template)
            assert template is not None
            row = evolve(template.row, name=name, kind=InterfaceKind.TUNNEL, parent=self.template)
            self.feed(InterfaceOffered, "tunnel", {name: row})
            self.feed(LinkState, "tunnel", {name: LinkRow(up=True, mtu=1400)})
            self.feed(TunnelState, "tunnel", {name: TunnelRow(self.nbma, remote, "", row.protection)})
            self.feed(AdjacencyState, "tunnel", {AdjacencyKey(name): AdjacencyRow(True, 1400, "", remote)})
        return name

    def no_access(self, remote: bytes) -> None:
        name = self.accesses.pop(remote, None)
        if name is not None:
            if SaKey(self.template, remote) in self.state[SaState]:
                self.feed(SaState, "ikev2", {SaKey(self.template, remote): SaRow(up=False, reason="the peer is gone")})
            self.feed(AdjacencyState, "tunnel", {AdjacencyKey(name): None})
            self.feed(TunnelState, "tunnel", {name: None})
            self.feed(InterfaceOffered, "tunnel", {name: None})

    def assign(self, interface: str, overlay: str, nbma: str) -> None:
        """IKEv2 says whose an overlay address is, and how it is reached."""
        address, transport = a(overlay), a(nbma)
        self.feed(OverlayState, "ikev2", {(interface, address): OverlayRow("somebody", transport)})
        route = Route(1, (Via(interface=interface),), "static")
        self.feed(RouteOffered, "ikev2", {Prefix.host(address): route}, "")
        self.feed(BindingOffered, "ikev2", {("", Prefix.host(address), b""): (3,)})

    def route(
        self,
        prefix: str,
        via: str = "",
        interface: str = "",
        *,
        vrf: str = "",
        labels: tuple[int, ...] = (),
        owner: str = "bgp",
    ) -> None:
        table = vrf if via and not labels and not interface else ""
        way = Via(a(via) if via else b"", interface, table, "", labels)
        self.feed(RouteOffered, owner, {p(prefix): Route(20, (way,), "ebgp")}, vrf)

    def no_route(self, prefix: str, *, vrf: str = "", owner: str = "bgp") -> None:
        self.feed(RouteOffered, owner, {p(prefix): None}, vrf)

    def label(
        self, fec: Fec, value: int | None = None, *, protected: bool = True, next_hop: int = 0, owner: str = "bgp"
    ) -> None:
        """BGP wants a label (this one)."""
        scope = frozenset({SCOPE_PROTECTED if protected else SCOPE_MGRE})
        vrf = getattr(fec, "vrf", "")
        self.feed(LabelWanted, owner, {fec: LabelRequest(scope, next_hop, value, vrf)})

    def no_label(self, fec: Fec, owner: str = "bgp") -> None:
        self.feed(LabelWanted, owner, {fec: None})

    # --- what is seen -------------------------------------------------------------------------------------------------------

    def shown(self) -> SpeakerSnapshot:
        return self.speaker.snapshot(self.world.now)

    def bindings(self, kind: BindingKind | None = None) -> list[BindingSnapshot]:
        return [one for one in self.shown().bindings if kind in (None, one.kind)]

    def shortcuts(self) -> dict[tuple[str, str], tuple[str, tuple[int, ...]]]:
        """(VRF, prefix) -> (interface, labels) of the speaker's routes that are no host routes of overlay addresses."""
        return {
            (slot.table, str(slot.key)): (row.vias[0].interface, row.vias[0].labels)
            for slot, row in self.rows.items()
            if slot.topic is RouteOffered and not (slot.key.length == 32 and not row.vias[0].labels)
        }

    def counter(self, words: str) -> int:
        return sum(number for text, number in self.speaker.node.counters.items() if words in text)

    def of(self, kind: type[Fact]) -> list[Any]:
        return [one for one in self.facts if isinstance(one, kind)]


@define(eq=False)
class World:
    now: float = 100.0
    boxes: dict[bytes, Box] = field(factory=dict)
    wire: list[tuple[str, str, Packet]] = field(factory=list)
    """(sender, receiver, packet)."""
    events: list[str] = field(factory=list)
    drop: Callable[[Packet, Box, Box], bool] = lambda _packet, _sender, _receiver: False
    change: Callable[[Packet, Box, Box], Packet] = lambda packet, _sender, _receiver: packet
    """What a station that does otherwise than we would send instead."""
    unreachable: set[frozenset[str]] = field(factory=set)
    """Pairs of boxes between which no SA comes up."""
    nat: dict[bytes, bytes] = field(factory=dict)
    """NBMA address of a box -> as others see it."""
    _queue: list[tuple[float, int, Callable[[], None]]] = field(factory=list)
    _order: Any = field(factory=count)
    _wake: dict[str, float] = field(factory=dict)

    def box(self, name: str, nbma: str, first_label: int = 100, **limits: int) -> Box:
        box = Box(self, name, a(nbma), limits=limits, first_label=first_label)
        self.boxes[box.nbma] = box
        return box

    def note(self, line: str) -> None:
        self.events.append(f"{self.now:9.3f} {line}")

    # --- time ---------------------------------------------------------------------------------------------------------------

    def later(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), what))

    def touched(self, box: Box) -> None:
        due = box.speaker.deadline() if hasattr(box, "speaker") else None
        if due is not None and self._wake.get(box.name) != due:
            self._wake[box.name] = due
            self.later(max(due - self.now, 0), lambda: self._woken(box, due))

    def _woken(self, box: Box, due: float) -> None:
        if self._wake.get(box.name) != due:
            return
        del self._wake[box.name]
        if box.running:
            box.do(box.speaker.wake(self.now))
            box.settle()

    def run(self, seconds: float, limit: int = 200_000) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            what()
            limit -= 1
            assert limit, "the world does not come to rest"
        self.now = end

    # --- NHRP packets -------------------------------------------------------------------------------------------------------

    def send(self, sender: Box, output: Send) -> None:
        tunnel = sender.state[TunnelState].get(output.interface)
        if tunnel is None:
            return
        far = tunnel.remote or output.nbma
        inner = next((own for own, seen in self.nat.items() if seen == far), far)
        receiver = self.boxes.get(inner)
        if receiver is None:
            self.note(f"{sender.name} -> nowhere")
            return
        packet = self.change(decode(output.octets), sender, receiver)
        self.wire.append((sender.name, receiver.name, packet))
        if self.drop(packet, sender, receiver):
            return
        kind = packet.kind.name.lower().replace("_", " ")
        self.note(f"{sender.name} -> {receiver.name}: {kind}, about {format_address(packet.destination)}")
        octets = output.octets if packet == decode(output.octets) else encode(packet)
        self.later(DELAY, lambda: self.deliver(receiver, sender, octets))

    def deliver(self, receiver: Box, sender: Box, octets: bytes) -> None:
        seen = self.nat.get(sender.nbma, sender.nbma)
        name = self.arrival(receiver, seen)
        if name:
            interface = receiver.tables.interfaces.get(name)
            assert interface is not None
            sa = 1 if interface.row.protection else 0
            receiver.receive(NhrpReceived(name, interface.vrf, seen, receiver.nbma, sa, octets))

    def forge(self, receiver: Box, interface: str, outer: str, packet: Packet, *, sa: int = 1) -> None:
        """A packet out of nowhere."""
        row = receiver.tables.interfaces.get(interface)
        assert row is not None
        receiver.receive(NhrpReceived(interface, row.vrf, a(outer), receiver.nbma, sa, encode(packet)))

    def arrival(self, receiver: Box, far: bytes) -> str:
        """The interface by which it comes in: the one whose far end sends, else a multipoint one."""
        tunnels = receiver.state[TunnelState]
        one = next((name for name, row in tunnels.items() if row.remote == far), "")
        return one or next((name for name, row in tunnels.items() if not row.remote), "")

    def sent(self, kind: Kind, sender: str = "", receiver: str = "") -> list[Packet]:
        return [
            packet
            for who, whom, packet in self.wire
            if packet.kind is kind and sender in ("", who) and receiver in ("", whom)
        ]

    def story(self) -> list[tuple[str, str, Kind]]:
        return [(sender, receiver, packet.kind) for sender, receiver, packet in self.wire]

    # --- tunnels ------------------------------------------------------------------------------------------------------------

    def endpoint(self, box: Box, key: tuple[str, bytes], transport: bytes | None) -> None:
        """Package tunnel, on a multipoint interface; with protection it takes IKEv2 a while."""
        name, overlay = key
        place = AdjacencyKey(name, overlay)
        if transport is None:
            self.later(0, lambda: box.feed(AdjacencyState, "tunnel", {place: None}))
            return
        row = box.tables.interfaces.get(name)
        protected = row is not None and bool(row.row.protection)
        inner = next((own for own, seen in self.nat.items() if seen == transport), transport)
        far = self.boxes.get(inner)
        works = far is not None and frozenset((box.name, far.name)) not in self.unreachable

        def up() -> None:
            if Slot(EndpointOffered, "", key) in box.rows:
                said = AdjacencyRow(works, 1400, "" if works else "no answer", transport)
                box.feed(AdjacencyState, "tunnel", {place: said})

        if protected:
            down = AdjacencyRow(False, 1400, "a security association is being made", transport)
            self.later(0, lambda: box.feed(AdjacencyState, "tunnel", {place: down}))
            self.later(SA_DELAY, up)
        else:
            self.later(0, up)

    def sa_wanted(self, box: Box) -> None:
        self.later(0, lambda: self._want(box))

    def _want(self, box: Box) -> None:
        for key in box.wanted(SaWanted):
            if key.remote in box.accesses:
                self._tell_access(box, key)
            else:
                self.later(SA_DELAY, lambda key=key: self._associate(box, key))
        for key in [key for key in box.state[SaState] if key not in box.wanted(SaWanted)]:
            box.feed(SaState, "ikev2", {key: None})
        self._idle(box)

    def _tell_access(self, box: Box, key: SaKey) -> None:
        row = SaRow(up=True, since=self.now, child=1, access=box.accesses[key.remote])
        if box.state[SaState].get(key) is None or not box.state[SaState][key].up:
            box.feed(SaState, "ikev2", {key: row})

    def _associate(self, box: Box, key: SaKey) -> None:
        """IKEv2's exchange is over."""
        far = self.boxes.get(key.remote)
        if key not in box.wanted(SaWanted):
            return
        if far is None or not far.template or frozenset((box.name, far.name)) in self.unreachable:
            box.feed(SaState, "ikev2", {key: SaRow(up=False, reason="no answer")})
            return
        for one, other in ((far, box), (box, far)):
            one.access(other.nbma)
            if (wanted := SaKey(one.template, other.nbma)) in one.wanted(SaWanted):
                self._tell_access(one, wanted)

    def _idle(self, box: Box) -> None:
        """An SA that neither end wants goes."""
        for remote in list(box.accesses):
            far = self.boxes[remote]
            here, there = SaKey(box.template, remote), SaKey(far.template, box.nbma)
            wanted = here in box.wanted(SaWanted) or there in far.wanted(SaWanted)
            if not wanted and "hub" not in (far.name, box.name):
                self.later(DELAY, lambda far=far: self.no_sa(box, far))

    def no_sa(self, one: Box, other: Box) -> None:
        """The SA is deleted at both ends."""
        one.no_access(other.nbma)
        other.no_access(one.nbma)
        self.note(f"SA of {one.name} and {other.name} is gone")

    # --- data ---------------------------------------------------------------------------------------------------------------

    def packet(self, box: Box, vrf: str, source: str, destination: str) -> list[str]:
        """The boxes that a packet of a host behind `box` goes through; the last entry is what ends it, if it is no arrival."""
        path, ingress, octets = [box.name], None, header(source, destination)
        target = a(destination)
        for _ in range(8):
            fib = box.tables.fib.get(vrf)
            found = fib.match(target) if fib is not None else None
            if found is None:
                return [*path, "no route"]
            prefix, leaf = found
            box.used.add((vrf, prefix))
            if leaf.kind in (LeafKind.RECEIVE, LeafKind.ATTACHED):
                return path
            step = self._forward(box, vrf, leaf.next_hop, leaf.labels, ingress, octets, path)
            if isinstance(step, str):
                return [*path, step]
            box, vrf, ingress = step
        return [*path, "loop"]

    def _forward(
        self,
        box: Box,
        vrf: str,
        next_hop: int,
        labels: tuple[int, ...],
        ingress: Ingress | None,
        octets: bytes,
        path: list[str],
    ) -> tuple[Box, str, Ingress] | str:
        hop = box.tables.nexthops.get(next_hop)
        if hop is None or hop.adjacency is None or hop.reason:
            return "closed" if hop is not None and hop.adjacency is not None else "no adjacency"
        egress = hop.adjacency.interface
        self._hairpin(box, vrf, ingress, egress, octets)
        row = box.state[AdjacencyState].get(hop.adjacency)
        if row is None or not row.usable:
            return "no adjacency"
        if not row.transport:
            return (box, vrf, Ingress(egress, vrf))
        inner = next((own for own, seen in self.nat.items() if seen == row.transport), row.transport)
        far = self.boxes[inner]
        name = self.arrival(far, self.nat.get(box.nbma, box.nbma))
        interface = far.tables.interfaces.get(name)
        if interface is None:
            return "not taken"
        path.append(far.name)
        stack = (*hop.labels, *labels)
        came = Ingress(name, interface.vrf, box.nbma, in_label=stack[0] if stack else None)
        if not stack:
            return (far, interface.vrf, came)
        nhlfe = far.tables.lfib.get(stack[0])
        if nhlfe is None or len(stack) > 1:
            return "unknown label"
        if not nhlfe.scope & {name, SCOPE_PROTECTED if interface.row.protection else SCOPE_MGRE}:
            return "label scope"
        if nhlfe.operation is Operation.POP_LOOKUP:
            return (far, nhlfe.vrf, came)
        return self._forward(far, nhlfe.vrf, nhlfe.next_hop, nhlfe.out_labels, came, octets, path)

    def _hairpin(self, box: Box, vrf: str, ingress: Ingress | None, egress: str, octets: bytes) -> None:
        if ingress is None:
            return
        came, leaves = box.tables.interfaces.get(ingress.interface), box.tables.interfaces.get(egress)
        if came is None or leaves is None or not came.row.redirect or not came.row.network_id:
            return
        if came.row.network_id == leaves.row.network_id:
            box.receive(Hairpin(ingress, vrf, egress, octets))


# --- two nets ---------------------------------------------------------------------------------------------------------


@define(eq=False)
class Flex:
    """MPLS over FlexVPN, with the addresses and labels of the document: VRF A of both spokes, labels 30 (of the hub) and 40 (of
    spoke B); virtual-access interfaces.

        A 10.0.0.11 @ 172.16.1.1 ----- hub 10.0.0.1 @ 172.16.0.1 ----- B 10.0.0.12 @ 172.16.2.1
        192.168.1.0/24                 192.168.3.0/24                   192.168.2.0/24
    """

    world: World
    hub: Box
    a: Box
    b: Box

    def ping(self) -> list[str]:
        return self.world.packet(self.a, "A", "192.168.1.1", "192.168.2.1")

    def back(self) -> list[str]:
        return self.world.packet(self.b, "A", "192.168.2.1", "192.168.1.1")

    def up(self) -> None:
        """A packet, and what follows from it."""
        assert self.ping() == ["A", "hub", "B"]
        self.world.run(2)
        assert self.ping() == ["A", "B"], "\n".join(self.world.events)


def flex(*, holding_time: int = 600, default_only: bool = False, **limits: int) -> Flex:
    """`default_only`: as the document has it, spokes know a default route by the hub and no more."""
    world = World()
    hub, one, other = (
        world.box(name, nbma, label, **limits)
        for name, nbma, label in (("hub", "172.16.0.1", 30), ("A", "172.16.1.1", 50), ("B", "172.16.2.1", 40))
    )
    hub.vrf("A")
    hub.loopback("Loopback0", "10.0.0.1/32")
    hub.lan("Ethernet0/1", "192.168.3.1/24", "A")
    tunnel = {"mpls": True, "protection": "default"}
    hub.make_template("Virtual-Template1", mpls=True, redirect=True, unnumbered="Loopback0")
    hub.configure("Virtual-Template1")
    for spoke, overlay in ((one, "10.0.0.11"), (other, "10.0.0.12")):
        name = hub.access(spoke.nbma)
        hub.assign(name, overlay, format_address(spoke.nbma))
        spoke.vrf("A")
        spoke.configure("Tunnel0", shortcut=True, virtual_template=1, holding_time=holding_time)
        spoke.configure("Virtual-Template1", shortcut=True, virtual_template=1, holding_time=holding_time)
        spoke.tunnel("Tunnel0", "172.16.0.1", f"{overlay}/32", **tunnel)
        spoke.make_template("Virtual-Template1", mpls=True, unnumbered="Tunnel0")
        spoke.route("10.0.0.1/32", interface="Tunnel0", owner="static")
    one.lan("Ethernet0/1", "192.168.1.254/24", "A")
    other.lan("Ethernet0/1", "192.168.2.254/24", "A")
    for box in (hub, one, other):
        box.label(VrfFec("A", Afi.IPV4))
    hub.route("192.168.1.0/24", "10.0.0.11", vrf="A", labels=(50,))
    hub.route("192.168.2.0/24", "10.0.0.12", vrf="A", labels=(40,))
    one.route("0.0.0.0/0" if default_only else "192.168.2.0/24", "10.0.0.1", vrf="A", labels=(30,))
    other.route("0.0.0.0/0" if default_only else "192.168.1.0/24", "10.0.0.1", vrf="A", labels=(30,))
    world.run(1)
    return Flex(world, hub, one, other)


@define(eq=False)
class Mgre:
    """One multipoint interface at each, registrations, no labels; the global table.

    A 10.0.0.11 @ 192.0.2.11 ----- hub 10.0.0.1 @ 192.0.2.1 ----- B 10.0.0.12 @ 192.0.2.12
    192.168.1.0/24                 192.168.3.0/24                 192.168.2.0/24
    """

    world: World
    hub: Box
    a: Box
    b: Box

    def ping(self) -> list[str]:
        return self.world.packet(self.a, "", "192.168.1.1", "192.168.2.1")

    def back(self) -> list[str]:
        return self.world.packet(self.b, "", "192.168.2.1", "192.168.1.1")

    def up(self) -> None:
        assert self.ping() == ["A", "hub", "B"]
        self.world.run(2)
        assert self.ping() == ["A", "B"], "\n".join(self.world.events)


def mgre(
    *, holding_time: int = 600, authentication: str = "", protection: str = "", nat: str = "", **limits: int
) -> Mgre:
    """`nat`: as which A is seen by the others."""
    world = World()
    if nat:
        world.nat[a("192.0.2.11")] = a(nat)
    hub, one, other = (
        world.box(name, nbma, **limits)
        for name, nbma in (("hub", "192.0.2.1"), ("A", "192.0.2.11"), ("B", "192.0.2.12"))
    )
    common = {"authentication": authentication, "holding_time": holding_time}
    hub.configure("Tunnel0", **common)
    hub.tunnel("Tunnel0", address="10.0.0.1/24", redirect=True, protection=protection)
    hub.lan("Ethernet0/1", "192.168.3.1/24")
    nhs = (Nhs(a("10.0.0.1"), a("192.0.2.1")),)
    for spoke, overlay, lan in ((one, "10.0.0.11", "192.168.1"), (other, "10.0.0.12", "192.168.2")):
        spoke.configure("Tunnel0", shortcut=True, nhs=nhs, **common)
        spoke.tunnel("Tunnel0", address=f"{overlay}/24", protection=protection)
        spoke.lan("Ethernet0/1", f"{lan}.254/24")
        spoke.route("192.168.0.0/16", "10.0.0.1")
        hub.route(f"{lan}.0/24", overlay)
    world.run(5)
    return Mgre(world, hub, one, other)
