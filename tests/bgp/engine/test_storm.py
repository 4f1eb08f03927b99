"""A whole speaker with its real tables under anything that peers, the bus and operators may do, in any order.

Peers send what decodes and what does not; sessions come and go; VRFs, next hops, labels and neighbours change. Nothing may
be raised, nothing of ours may be at fault (`contained_faults`), and when all is taken away nothing may be left.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from attrs import define, evolve, field

from bgp.config import BgpConfig, FamilyConfig, NeighborConfig, NeighborFamily, Redistribute
from bgp.engine.outputs import Close, Connect, Log, Publish, Send
from bgp.engine.rib import Ribs
from bgp.engine.speaker import Speaker
from bgp.wire import (
    AsPath,
    Attributes,
    Family,
    FourOctetAs,
    Keepalive,
    Multiprotocol,
    Nlri,
    Open,
    RouteRefresh,
    RouteRefreshCapability,
    Session,
    decode,
    encode,
    encode_end_of_rib,
    encode_updates,
    encode_withdrawals,
    ip_nlri,
    split,
    vpn_nlri,
)
from stack.addr import RD, RT, Afi, Prefix, Safi
from stack.events import (
    AddressRow,
    Delta,
    HostPortRow,
    HostPortState,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    LabelBound,
    LabelRow,
    LabelWanted,
    NextHopRow,
    NextHopState,
    NextHopWanted,
    Route,
    RouteSelected,
    Selected,
    Topic,
    Via,
    Vrf,
    VrfState,
)

OURS = {"": bytes((10, 0, 0, 1)), "red": bytes((10, 1, 0, 1)), "blue": bytes((10, 2, 0, 1))}
VPN4, VPN6 = (Afi.IPV4, Safi.VPN), (Afi.IPV6, Safi.VPN)
IP4, IP6 = (Afi.IPV4, Safi.UNICAST), (Afi.IPV6, Safi.UNICAST)
LOCAL = tuple(Prefix.of(bytes((10, 1, n, 0)) + bytes(12 * wide), 24) for n in range(3) for wide in (0, 1))
NARROW = 65102
"""An AS whose speaker knows two-octet AS numbers only."""


def neighbours() -> dict[tuple[str, bytes], NeighborConfig]:
    def one(vrf: str, last: int, asn: int, *families: tuple[Afi, Safi], **more: Any) -> NeighborConfig:
        settings = NeighborFamily(send_standard=True, send_extended=True, **more)
        address = OURS[vrf][:3] + bytes((last,))
        return NeighborConfig(address, vrf, asn, ebgp_multihop=5, families=dict.fromkeys(families, settings))

    made = (
        one("", 2, 65000, VPN4, VPN6, IP4, IP6),
        one("", 3, 65000, VPN4, VPN6, IP4, IP6, route_reflector_client=True),
        one("", 4, 65010, VPN4, VPN6, IP4, IP6, allowas_in=1),
        one("red", 2, 65101, IP4, IP6, as_override=True),
        one("blue", 2, NARROW, IP4, maximum_prefix=50),
    )
    return {(each.vrf, each.address): each for each in made}


@define(eq=False)
class Storm:
    dice: random.Random
    now: float = 0.0
    held: dict[tuple[str, str], dict[Any, Any]] = field(factory=lambda: defaultdict(dict))
    connections: dict[tuple[str, bytes], int] = field(factory=dict)
    waiting: list[Delta | int] = field(factory=list)
    label: int = 100
    said: Counter[str] = field(factory=Counter)
    speaker: Speaker = field(init=False)
    ribs: Ribs = field(init=False)

    def __attrs_post_init__(self) -> None:
        given = FamilyConfig((Redistribute("connected"), Redistribute("static")))
        red = {(afi, Safi.UNICAST, vrf): given for afi in Afi for vrf in ("red", "")}
        config = BgpConfig(asn=65000, router_id=OURS[""], neighbors=neighbours(), families=red)
        entropy = random.Random(1).randbytes
        self.ribs = Ribs(config, entropy)
        self.speaker = Speaker(config, entropy, self.ribs)
        self.do(self.speaker.start(self.now))
        self.tell(
            VrfState,
            "router",
            {"": Vrf("", 0, families=frozenset(Afi)), "red": self.vrf("red"), "blue": self.vrf("blue")},
        )
        rows = {
            f"Ethernet0/{n}": Interface(
                InterfaceRow(f"Ethernet0/{n}", InterfaceKind.ETHERNET, vrf=vrf),
                n + 1,
                True,
                1500,
                b"",
                {own: AddressRow(24)},
            )
            for n, (vrf, own) in enumerate(OURS.items())
        }
        self.tell(InterfaceState, "routing", rows)
        self.tell(HostPortState, "forwarder", {"red": HostPortRow("ls-1", 1500), "blue": HostPortRow("ls-2", 1500)})
        self.settle()

    # --- the world around the speaker -----------------------------------------------------------------------------------

    def tell(self, topic: Topic[Any, Any], owner: str, rows: dict[Any, Any], table: str = "") -> None:
        self.waiting.append(Delta(topic, owner, 1, table, rows))

    def do(self, outputs: list[Any]) -> None:
        for output in outputs:
            match output:
                case Publish(topic, table, rows):
                    self.hold(topic, table, rows)
                case Log(_, event, fields):
                    assert "fault while" not in event, fields
                case Close(number):
                    self.connections = {key: one for key, one in self.connections.items() if one != number}
                case Connect():
                    self.waiting.append(output.connection)
                case Send(number, octets):
                    self.read(number, octets)

    def read(self, number: int, octets: bytes) -> None:
        """What we say is whole messages without a fault, as the peer reads them."""
        key = next((key for key, one in self.connections.items() if one == number), None)
        session = self.session(neighbours()[key]) if key is not None else Session()
        at = 0
        while at < len(octets):
            size = split(octets, session, at)
            assert size is not None, octets[at:].hex()
            message = decode(octets[at : at + size], session)
            self.said[type(message).__name__] += 1
            assert not getattr(message, "errors", ()), message
            at += size

    def hold(self, topic: Topic[Any, Any], table: str, rows: Any) -> None:
        held = self.held[topic.name, table]
        held.update(rows)
        for key in [key for key, row in rows.items() if row is None]:
            del held[key]
        if topic is NextHopWanted:
            self.tell(NextHopState, "routing", {key: self.way() if row else None for key, row in rows.items()})
        if topic is LabelWanted:
            self.label += len(rows)
            bound = {key: LabelRow(self.label - n) if row else None for n, (key, row) in enumerate(rows.items())}
            self.tell(LabelBound, "mfi", bound)

    def way(self) -> NextHopRow:
        usable = self.dice.random() < 0.8
        return NextHopRow(
            usable, "" if usable else "no route", self.dice.randrange(20), "Ethernet0/0", self.dice.randrange(9)
        )

    def settle(self) -> None:
        for _ in range(500):
            if self.waiting:
                what = self.waiting.pop(0)
                if isinstance(what, Delta):
                    self.do(self.speaker.receive(what, self.now))
                else:
                    self.do(self.speaker.tcp_failed(what, "connection refused", self.now))
            due = self.speaker.deadline()
            if due is not None and due <= self.now:
                self.do(self.speaker.wake(self.now))
            elif not self.waiting:
                return
        raise AssertionError("it never comes to rest")

    def vrf(self, name: str) -> Vrf:
        def targets() -> dict[Afi, frozenset[RT]]:
            return dict.fromkeys(Afi, frozenset(RT.parse(f"65000:{self.dice.randrange(1, 4)}") for _ in range(2)))

        number = 1 + (name == "blue")
        return Vrf(name, number, RD.parse(f"65000:{number}"), targets(), targets(), frozenset(Afi))

    # --- peers ----------------------------------------------------------------------------------------------------------

    def session(self, one: NeighborConfig) -> Session:
        return Session(asn4=one.remote_as != NARROW, ebgp=one.remote_as != 65000)

    def come_up(self, one: NeighborConfig) -> None:
        key = one.vrf, one.address
        if key not in self.connections:
            number = self.connections[key] = self.speaker.number()
            self.do(self.speaker.accepted(number, one.vrf, OURS[one.vrf], one.address, self.now))
            capabilities = [Multiprotocol(Family(*family)) for family in one.families]
            wide = [FourOctetAs(one.remote_as)] if one.remote_as != NARROW else []
            hello = Open(one.remote_as, 90, one.address, (*capabilities, RouteRefreshCapability(), *wide))
            octets = encode(hello, Session()) + encode(Keepalive(), Session())
            if self.connections.get(key) == number:
                self.do(self.speaker.octets(number, octets, self.now))

    def attributes(self, one: NeighborConfig) -> Attributes:
        dice, ours = self.dice, one.remote_as == 65000
        path = [dice.choice((65000, 65101, 65102, 1, 23456, 70000)) for _ in range(dice.randrange(4))]
        targets = [bytes(RT.parse(f"65000:{dice.randrange(1, 4)}")) for _ in range(dice.randrange(3))]
        values: dict[str, Any] = {
            "origin": dice.randrange(3),
            "as_path": AsPath.of(*(path if ours else [one.remote_as, *path])),
            "med": dice.choice((None, 1, 2)),
            "ext_communities": targets + ([dice.randbytes(8)] if dice.random() < 0.2 else []),
            "communities": [dice.choice((0xFFFFFF01, 0xFFFFFF02, 5))] if dice.random() < 0.3 else None,
        }
        if ours:
            values["local_pref"] = dice.choice((100, 200))
            if dice.random() < 0.2:
                values["originator_id"] = dice.choice((OURS[""], bytes((9, 9, 9, 9))))
                values["cluster_list"] = [dice.choice((OURS[""], bytes((7, 7, 7, 7))))]
        return Attributes.of(**values)

    def route(self, family: Family) -> Nlri:
        dice, wide = self.dice, family.afi == Afi.IPV6
        address = bytes((dice.choice((10, 20)), *(dice.randrange(3) for _ in range(3)))) + bytes(12 * wide)
        prefix = Prefix.of(address, dice.choice((0, 32, 64, 128) if wide else (0, 8, 16, 24, 32)))
        if not family.vpn:
            return ip_nlri(prefix)
        rd = dice.choice((RD.parse("65000:1"), RD.parse("65000:2"), RD.parse("9:9"), RD(dice.randbytes(8))))
        return vpn_nlri(rd, prefix, (dice.choice((0, 1, 3, 16, 17, 1_048_575)),))

    def message(self, one: NeighborConfig) -> bytes:
        dice, session = self.dice, self.session(one)
        family = Family(*dice.choice(list(one.families)))
        kind = dice.random()
        if kind < 0.05:
            return encode(RouteRefresh(dice.choice((family, Family(25, 70))), dice.choice((0, 1, 2, 9))), session)
        if kind < 0.1:
            return encode_end_of_rib(family)
        routes = [self.route(family) for _ in range(dice.randrange(1, 8))]
        if kind < 0.35:
            return b"".join(encode_withdrawals(family, routes, session))
        hosts = ((10, 0, 0, 2), (10, 0, 0, 1), (10, 1, 0, 2), (192, 0, 2, 1))
        hop = bytes(dice.choice(hosts))
        hop = (
            hop
            if family.afi == Afi.IPV4
            else dice.choice((b"\0" * 10 + b"\xff\xff" + hop, b"\x20\1" + bytes(13) + b"\1"))
        )
        return b"".join(encode_updates(family, self.attributes(one), hop, routes, session).messages)

    def damaged(self, octets: bytes) -> bytes:
        spoiled = bytearray(octets)
        for _ in range(self.dice.randrange(1, 4) if len(octets) > 19 else 0):
            at = self.dice.randrange(19 if self.dice.random() < 0.9 else 0, len(octets))
            spoiled[at] = self.dice.choice((0, 255, self.dice.randrange(256)))
        return bytes(spoiled)

    # --- what happens ---------------------------------------------------------------------------------------------------

    def step(self) -> None:
        dice = self.dice
        one = dice.choice(list(neighbours().values()))
        self.come_up(one)
        self.settle()
        octets = self.message(one)
        if dice.random() < 0.25:
            octets = self.damaged(octets)
        number = self.connections.get((one.vrf, one.address))
        if number is not None:
            self.do(self.speaker.octets(number, octets, self.now))
        self.settle()
        if dice.random() < 0.12:
            dice.choice((self.edit_vrf, self.edit_routes, self.clear, self.cut, self.move_next_hop, self.reconfigure))()
        self.now += dice.choice((0.0, 0.0, 0.01, 1.0, 3.0))
        self.settle()

    def edit_vrf(self) -> None:
        name = self.dice.choice(("red", "blue"))
        self.tell(VrfState, "router", {name: None if self.dice.random() < 0.3 else self.vrf(name)})

    def edit_routes(self) -> None:
        route = Route(0, (Via(interface="Ethernet0/1", vrf="red"),), "connected")
        row = (
            Selected(self.dice.choice(("connected", "static", "bgp")), route, 1, 0.0)
            if self.dice.random() < 0.7
            else None
        )
        prefix = self.dice.choice(LOCAL)
        self.tell(RouteSelected, "routing", {prefix: row}, self.dice.choice(list(OURS)))

    def clear(self) -> None:
        if self.dice.random() < 0.5:
            self.do(self.speaker.soft(None, "both", self.now))
        else:
            self.do(self.speaker.clear(self.speaker.matching(None), self.now))

    def cut(self) -> None:
        if self.connections:
            key = self.dice.choice(list(self.connections))
            self.do(self.speaker.tcp_closed(self.connections.pop(key), "closed by the other end", self.now))

    def move_next_hop(self) -> None:
        if hops := list(self.held["NextHopWanted", ""]):
            self.tell(NextHopState, "routing", {self.dice.choice(hops): self.way()})

    def reconfigure(self) -> None:
        kept = {key: one for key, one in neighbours().items() if self.dice.random() < 0.8}
        self.do(self.speaker.reconfigure(evolve(self.speaker.config, neighbors=kept), self.now))

    def take_everything_away(self) -> None:
        self.do(self.speaker.reconfigure(evolve(self.speaker.config, neighbors={}, families={}), self.now))
        self.tell(VrfState, "router", {"red": None, "blue": None})
        gone: dict[Prefix, None] = dict.fromkeys(LOCAL)
        for vrf in OURS:
            self.tell(RouteSelected, "routing", dict(gone), vrf)
        for _ in range(60):
            self.settle()
            self.now += 5


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_raised_and_nothing_is_left(seed: int) -> None:
    storm = Storm(random.Random(seed))
    most = 0
    for _ in range(400):
        storm.step()
        most = max(most, sum(len(rows) for rows in storm.held.values()))
    assert most > 10
    assert min(storm.said[kind] for kind in ("Open", "Keepalive", "Update", "Notification")) > 10, storm.said
    assert sum(peer.contained_faults for peer in storm.speaker.snapshot().peers) == 0
    storm.take_everything_away()
    assert {where: rows for where, rows in storm.held.items() if rows} == {}
    ribs, speaker = storm.ribs, storm.speaker
    assert [len(t.nets) for t in ribs.tables.values() if t.nets] == []
    for table in (ribs.peers, ribs.hops.hops, ribs.vpn.placed, ribs.vpn.exports, ribs.vpn.by_fec, ribs.groups.by_key):
        assert not table
    for table in (ribs.local.placed, ribs.swaps.where, ribs._purging, speaker._peers, speaker._connections):
        assert not table
    for table in (speaker._schedule, speaker._ready, speaker._limited, speaker._refreshes._windows):
        assert not table
    assert storm.connections == {}
