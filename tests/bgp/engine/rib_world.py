"""Tables with a toy bus around them: next hops resolve, labels are bound, and what is published is kept as state.

peer.announce(...) --> Ribs --> world.state[topic][table], peer.received (routes as the peer would hold them)
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from attrs import define, field

from bgp.config import BgpConfig, FamilyConfig, NeighborConfig, NeighborFamily, Redistribute
from bgp.engine.outputs import Log, NotifyPeer, OutgoingReady, PeerView, Publish, SyncedOut
from bgp.engine.rib import Ribs
from bgp.wire import (
    IPV4_UNICAST,
    IPV6_UNICAST,
    VPNV4,
    VPNV6,
    AsPath,
    Attributes,
    Family,
    Nlri,
    Reach,
    Session,
    Unreach,
    Update,
    decode,
    ip_key,
    key_text,
    vpn_key,
)
from stack.addr import RD, RT, Afi, Prefix, Safi, format_address, parse_address
from stack.events import (
    Delta,
    InterfaceState,
    LabelBound,
    LabelRow,
    LabelWanted,
    NextHopRow,
    NextHopState,
    NextHopWanted,
    PolicyState,
    ProfileState,
    Route,
    RouteSelected,
    Selected,
    Synced,
    Topic,
    Via,
    Vrf,
    VrfState,
)

OUR_AS = 65010
OUR_ID = parse_address("198.51.100.1")


def ip(text: str) -> bytes:
    return parse_address(text)


def rt(*texts: str) -> frozenset[RT]:
    return frozenset(map(RT.parse, texts))


def attributes(path: tuple[int, ...] = (), rts: tuple[str, ...] = (), **values: Any) -> Attributes:
    values.setdefault("origin", 0)
    made = Attributes.of(as_path=AsPath.of(*path), **values)
    return made.replace(ext_communities=[RT.parse(t) for t in rts]) if rts else made


def key(family: Family, text: str) -> bytes:
    """`RD:prefix` or `prefix`; an RD is written with one colon."""
    if not family.vpn:
        return ip_key(Prefix.parse(text))
    rd, _, prefix = text.partition(" ")
    return vpn_key(RD.parse(rd), Prefix.parse(prefix))


@define(eq=False)
class TestPeer:
    """`received`: NLRI text -> (attributes, next hop text, labels), as the neighbour holds them."""

    __test__ = False
    world: World
    view: PeerView
    received: dict[str, tuple[Attributes, str, tuple[int, ...]]] = field(factory=dict)
    log: list[Any] = field(factory=list)
    ends: list[Family] = field(factory=list)

    @property
    def key(self) -> tuple[str, bytes]:
        return self.view.key

    def announce(
        self,
        family: Family,
        *routes: str,
        attrs: Attributes | None = None,
        hop: str = "",
        label: int | None = 100,
        then: bool = True,
    ) -> None:
        """Routes of one message; VPN ones as "RD PREFIX", with `label`."""
        if attrs is None:
            attrs = attributes(() if self.view.ibgp else (self.view.asn,))
        labels = (label,) if family.labelled and label is not None else ()
        reach = Reach(family, ip(hop) if hop else self.view.remote, tuple(Nlri(key(family, r), labels) for r in routes))
        self.say(Update(attributes=attrs, reach=(reach,)), then=then)

    def withdraw(self, family: Family, *routes: str) -> None:
        self.say(Update(unreach=(Unreach(family, tuple(Nlri(key(family, r)) for r in routes)),)))

    def end_of_rib(self, family: Family) -> None:
        self.say(Update(unreach=(Unreach(family),)))

    def say(self, update: Update, *, then: bool = True) -> None:
        world = self.world
        world.perform(world.ribs.update(self.key, update, world.now))
        if then:
            world.run()

    def take(self, limit: int = 1 << 16) -> list[Update]:
        """What waits for this neighbour, decoded."""
        found = []
        for octets in self.world.ribs.outgoing(self.key, limit):
            message = decode(octets, Session(ebgp=not self.view.ibgp))
            assert isinstance(message, Update)
            assert not message.errors, message.errors
            found.append(message)
            self._keep(message)
        return found

    def _keep(self, update: Update) -> None:
        if (ended := update.end_of_rib) is not None:
            self.ends.append(ended)
            return
        for unreach in update.unreach:
            for nlri in unreach.routes:
                name = key_text(unreach.family, nlri.key)
                self.log.append(("-", name))
                self.received.pop(name, None)
        for reach in update.reach:
            for nlri in reach.routes:
                name = key_text(reach.family, nlri.key)
                self.log.append(("+", name))
                assert update.attributes is not None
                self.received[name] = (update.attributes, format_address(reach.next_hop), nlri.labels)

    def drain(self) -> None:
        while self.world.ribs.has_outgoing(self.key):
            if not self.take():
                break


@define(eq=False)
class World:
    """`answer_hops`, `answer_labels`: whether routing and the label allocator are alive. `metrics`: next hop -> metric."""

    config: BgpConfig = field(factory=lambda: BgpConfig(asn=OUR_AS, router_id=OUR_ID))
    now: float = 100.0
    answer_hops: bool = True
    answer_labels: bool = True
    metrics: dict[str, int] = field(factory=dict)
    unusable: dict[str, str] = field(factory=dict)
    state: dict[Any, dict[str, dict[Any, Any]]] = field(factory=lambda: defaultdict(lambda: defaultdict(dict)))
    synced: list[Any] = field(factory=list)
    logs: list[Log] = field(factory=list)
    notified: list[NotifyPeer] = field(factory=list)
    peers: dict[Any, TestPeer] = field(factory=dict)
    next_label: int = 1000
    hop_ids: dict[Any, int] = field(factory=dict)
    ribs: Ribs = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ribs = Ribs(self.config, lambda n: bytes(n))
        self.perform(self.ribs.start(self.now))
        for topic in (VrfState, PolicyState, RouteSelected):
            self.perform(self.ribs.receive(Synced(topic, "x", 1), self.now))
        self.run()

    # --- the bus ----------------------------------------------------------------------------------------------------

    def tell(self, topic: Topic[Any, Any], rows: dict[Any, Any], table: str = "", *, then: bool = True) -> None:
        self.perform(self.ribs.receive(Delta(topic, "x", 1, table, rows), self.now))
        if then:
            self.run()

    def perform(self, outputs: list[Any]) -> None:
        for output in outputs:
            if isinstance(output, Publish):
                rows = self.state[output.topic][output.table]
                for name, row in output.rows.items():
                    if row is None:
                        rows.pop(name, None)
                    else:
                        rows[name] = row
                if output.topic is NextHopWanted and self.answer_hops:
                    self.resolve([name for name, row in output.rows.items() if row])
                if output.topic is LabelWanted and self.answer_labels:
                    self.bind(output.rows)
            elif isinstance(output, SyncedOut):
                self.synced.append(output.topic)
            elif isinstance(output, Log):
                self.logs.append(output)
            elif isinstance(output, NotifyPeer):
                self.notified.append(output)
            else:
                assert isinstance(output, OutgoingReady), output
                assert output.key in self.ribs.peers

    def resolve(self, keys: list[Any]) -> None:
        rows = {}
        for name in keys:
            text = format_address(name.address)
            number = self.hop_ids.setdefault(name, len(self.hop_ids) + 1)
            why = self.unusable.get(text) or self.unusable.get(name.encap and f"encap {name.encap}", "")
            rows[name] = NextHopRow(not why, why, self.metrics.get(text, 0), "", number)
        self.tell(NextHopState, rows, then=False)

    def resolve_again(self) -> None:
        self.resolve(list(self.state[NextHopWanted][""]))
        self.run()

    def bind(self, rows: dict[Any, Any]) -> None:
        bound = {}
        for fec, request in rows.items():
            if request is None:
                bound[fec] = None
            elif fec not in self.ribs.labels.bound:
                bound[fec] = LabelRow(self.next_label)
                self.next_label += 1
        self.tell(LabelBound, bound, then=False)

    def run(self) -> None:
        """Until nothing is due now; then everybody takes what waits for them."""
        for _ in range(100):
            due = self.ribs.deadline()
            if due is None or due > self.now:
                break
            self.perform(self.ribs.wake(self.now))
        else:
            raise AssertionError("the tables never settle")
        for peer in self.peers.values():
            peer.drain()
        due = self.ribs.deadline()
        if due is not None and due <= self.now:
            self.run()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.run()

    # --- neighbours, VRFs, routes --------------------------------------------------------------------------------------

    def peer(
        self,
        address: str,
        *,
        asn: int = OUR_AS,
        families: tuple[Family, ...] = (VPNV4,),
        vrf: str = "",
        local: str = "198.51.100.1",
        router_id: str = "",
        session: Session | None = None,
        **config: Any,
    ) -> TestPeer:
        one = NeighborFamily(**config)
        neighbor = NeighborConfig(
            address=ip(address),
            vrf=vrf,
            remote_as=asn,
            families={(Afi(f.afi), Safi(f.safi)): one for f in families},
        )
        view = PeerView(
            key=(vrf, ip(address)),
            asn=asn,
            local_asn=OUR_AS,
            router_id=ip(router_id or (address if "." in address else "9.9.9.9")),
            local_id=OUR_ID,
            local=ip(local),
            remote=ip(address),
            ibgp=asn == OUR_AS,
            families=frozenset(families),
            config=neighbor,
            session=session or Session(ebgp=asn != OUR_AS),
        )
        made = self.peers[view.key] = TestPeer(self, view)
        self.perform(self.ribs.peer_up(view, self.now))
        self.run()
        return made

    def down(self, peer: TestPeer) -> None:
        del self.peers[peer.key]
        self.perform(self.ribs.peer_down(peer.key, "test", self.now))
        self.run()

    def vrf(
        self, name: str, rd: str, *, imports: tuple[str, ...] = (), exports: tuple[str, ...] = (), index: int = 1
    ) -> None:
        row = Vrf(
            name,
            index,
            RD.parse(rd),
            {afi: rt(*exports) for afi in Afi},
            {afi: rt(*imports) for afi in Afi},
            frozenset(Afi),
        )
        self.tell(VrfState, {name: row})

    def select(
        self,
        vrf: str,
        prefix: str,
        owner: str = "connected",
        *,
        via: Via | None = None,
        kind: str = "",
        tag: int = 0,
        hop: int = 7,
        null: bool = False,
        metric: int = 0,
    ) -> None:
        """The RIB uses a route: RouteSelected."""
        vias = () if null else (via or Via(interface="Ethernet0/1", vrf=vrf),)
        route = Route(0 if owner == "connected" else 1, vias, kind or owner, metric=metric, tag=tag)
        self.tell(RouteSelected, {Prefix.parse(prefix): Selected(owner, route, 0 if null else hop, 1.0)}, vrf)

    def unselect(self, vrf: str, prefix: str) -> None:
        self.tell(RouteSelected, {Prefix.parse(prefix): None}, vrf)

    def reconfigure(self, config: BgpConfig) -> None:
        self.config = config
        self.perform(self.ribs.reconfigure(config, self.now))
        self.run()

    def soft(self, peer: TestPeer | None = None, direction: str = "both") -> None:
        self.perform(self.ribs.soft(None if peer is None else peer.key, direction, self.now))
        self.run()

    # --- what to look at ------------------------------------------------------------------------------------------------

    def routes(self, vrf: str = "") -> dict[str, Any]:
        """What is offered to routing in a VRF: prefix text -> Route."""
        from stack.events import RouteOffered

        return {str(prefix): row for prefix, row in self.state[RouteOffered][vrf].items()}


def redistribute(*sources: str, vrf: str = "", route_map: str = "", default: bool = False, afi: Afi = Afi.IPV4) -> Any:
    return (afi, Safi.UNICAST, vrf), FamilyConfig(
        redistribute=tuple(Redistribute(s, route_map) for s in sources), default_information=default
    )


def config(*families: Any, **values: Any) -> BgpConfig:
    values.setdefault("asn", OUR_AS)
    values.setdefault("router_id", OUR_ID)
    return BgpConfig(families=dict(families), **values)


__all__ = [
    "IPV4_UNICAST",
    "IPV6_UNICAST",
    "OUR_AS",
    "OUR_ID",
    "VPNV4",
    "VPNV6",
    "InterfaceState",
    "ProfileState",
    "TestPeer",
    "World",
    "attributes",
    "config",
    "ip",
    "key",
    "redistribute",
    "rt",
]
