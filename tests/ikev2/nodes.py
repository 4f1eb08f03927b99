"""Whole speakers joined by a network in memory, on a clock that only the test moves. Sans-IO: no event loop.

    world = World()
    a = world.node("a", "192.0.2.1", config)      # speaks as soon as it is made
    a.protect("Tunnel0", "192.0.2.1", "192.0.2.2")  # TunnelProtected and InterfaceState, as tunnel and routing say them
    a.want("Tunnel0", "192.0.2.1", "192.0.2.2")     # SaWanted
    world.run(5)                                    # seconds; what is due happens in order
    assert a.up("Tunnel0")

`world.drop(octets, source, destination)` decides what is lost. `world.wire` holds every datagram that was sent.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from attrs import define, evolve, field

from ikev2.config import (
    AuthMethod,
    IdentityKind,
    IdentityMatch,
    IdentitySpec,
    IkeProfile,
    Ikev2Config,
    IpsecProfile,
    Keyring,
    KeyringPeer,
)
from ikev2.engine.contract import Ends, Grant, Refusal
from ikev2.engine.kept import Kept
from ikev2.engine.outputs import (
    Authorise,
    Listen,
    Log,
    Output,
    Post,
    Publish,
    PutInbound,
    PutOutbound,
    RemoveInbound,
    RemoveOutbound,
    Send,
    SyncedOut,
)
from ikev2.engine.snapshot import SpeakerSnapshot
from ikev2.engine.speaker import Speaker
from stack.addr import Prefix, parse_address
from stack.events import (
    AddressOffered,
    AddressRow,
    Delta,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    PolicyState,
    ProtectedRow,
    RouteOffered,
    SaKey,
    SaRequest,
    SaRow,
    SaState,
    SaWanted,
    Synced,
    TunnelProtected,
)
from stack.tables.sad import Sa, SadTable
from stack.testing import SeededEntropy

__all__ = ["EPOCH", "Node", "World", "anybody", "psk", "psk_config"]

EPOCH = 1_700_000_000.0
DELAY = 0.01


def anybody() -> tuple[IdentityMatch, ...]:
    return (IdentityMatch(IdentityKind.ANY),)


def psk(name: str = "default", *, key: str = "shared secret", **more: Any) -> IkeProfile:
    return IkeProfile(
        name,
        match_remote=more.pop("match_remote", anybody()),
        auth_local=AuthMethod.PSK,
        auth_remote=(AuthMethod.PSK,),
        local_key=key,
        remote_key=key,
        **more,
    )


def psk_config(*profiles: IkeProfile, fqdn: str = "", **more: Any) -> Ikev2Config:
    """Profiles of pre-shared keys (one called `default` if none is given); `fqdn`: our identity."""
    found = profiles or (psk(),)
    if fqdn:
        found = tuple(evolve(each, identity_local=IdentitySpec(IdentityKind.FQDN, fqdn)) for each in found)
    ipsec = more.pop("ipsec_profiles", {"P": IpsecProfile("P")})
    return Ikev2Config(profiles={each.name: each for each in found}, ipsec_profiles=ipsec, **more)


@define(eq=False)
class World:
    now: float = 0.0
    nodes: dict[bytes, Node] = field(factory=dict)
    wire: list[tuple[float, bytes, Ends]] = field(factory=list)
    drop: Callable[[bytes, bytes, bytes], bool] = lambda _octets, _source, _destination: False
    nat: dict[bytes, tuple[bytes, int]] = field(factory=dict)
    """Address inside -> (address outside, what is added to ports)."""
    fronts: dict[tuple[str, str, bytes], tuple[Node, str]] = field(factory=dict)
    """(node, VRF there, address) -> the node that has it there, and its own VRF of that network."""
    _queue: list[tuple[float, int, Callable[[], None]]] = field(factory=list)
    _order: Any = field(factory=count)

    def node(self, name: str, address: str, config: Ikev2Config, **more: Any) -> Node:
        node = Node(self, name, parse_address(address), config, **more)
        self.nodes[node.address] = node
        node.begin()
        return node

    def later(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), what))

    def send(self, octets: bytes, ends: Ends, sender: str = "") -> None:
        self.wire.append((self.now, octets, ends))
        if self.drop(octets, ends.local, ends.remote):
            return
        if ends.vrf:
            node, vrf = self.fronts[sender, ends.vrf, ends.remote]
            far = Ends(ends.remote, ends.local, ends.remote_port, ends.local_port, vrf)
            self.later(DELAY, lambda: self.hand(node, octets, far))
            return
        there = Ends(ends.remote, ends.local, ends.remote_port, ends.local_port)
        if ends.local in self.nat:
            outside, shift = self.nat[ends.local]
            there = evolve(there, remote=outside, remote_port=ends.local_port + shift)
        for inside, (outside, shift) in self.nat.items():
            if ends.remote == outside and ends.remote_port - shift in (500, 4500):
                there = evolve(there, local=inside, local_port=ends.remote_port - shift)
        self.later(DELAY, lambda: self.deliver(octets, there))

    def deliver(self, octets: bytes, ends: Ends) -> None:
        if (node := self.nodes.get(ends.local)) is not None:
            self.hand(node, octets, ends)

    def hand(self, node: Node, octets: bytes, ends: Ends) -> None:
        if node.alive and len(octets) > 1 and ends.vrf in node.listening:
            node.perform(node.speaker.datagram(octets, ends, self.now))

    def run(self, seconds: float) -> None:
        """All that is due within so many seconds, in order."""
        until = self.now + seconds
        for _ in range(1_000_000):
            queued = self._queue[0][0] if self._queue else until + 1
            due = [
                (when, node)
                for node in self.nodes.values()
                if node.alive and (when := node.speaker.deadline()) is not None
            ]
            when, node = min(due, key=lambda one: one[0], default=(until + 1, None))
            if min(when, queued) > until:
                self.now = until
                return
            if queued <= when:
                self.now = max(self.now, queued)
                heapq.heappop(self._queue)[2]()
            else:
                assert node is not None
                self.now = max(self.now, when)
                node.perform(node.speaker.wake(self.now))
        raise AssertionError("time does not pass")

    def until(self, true: Callable[[], bool], seconds: float = 30.0) -> float:
        """How long it takes; fails after `seconds`."""
        begun = self.now
        while not true():
            assert self.now - begun < seconds, "it does not happen"
            self.run(0.05)
        return self.now - begun


@define(eq=False)
class Node:
    world: World
    name: str
    address: bytes
    config: Ikev2Config
    authorises: bool = False
    materials: Mapping[str, Any] = field(factory=dict)
    kept: Kept = field(factory=Kept)
    sad: SadTable = field(factory=SadTable)
    rows: dict[Any, dict[Any, Any]] = field(factory=lambda: defaultdict(dict))
    """(topic, table) -> rows that stand. A restart keeps them, as the bus does."""
    told: list[tuple[Any, Mapping[Any, Any]]] = field(factory=list)
    """(topic, rows), as they were published."""
    fresh: dict[Any, set[Any]] = field(factory=lambda: defaultdict(set))
    facts: list[Any] = field(factory=list)
    logs: list[Log] = field(factory=list)
    asked: list[Authorise] = field(factory=list)
    gaps: list[tuple[float, SaKey]] = field(factory=list)
    """When a neighbour that could be sent to could not be any more."""
    interfaces: dict[str, Interface] = field(factory=dict)
    said: dict[Any, dict[Any, Any]] = field(factory=lambda: defaultdict(dict))
    """What tunnel and routing say, to be said again after a restart."""
    alive: bool = True
    listening: frozenset[str] = frozenset({""})
    speaker: Speaker = field(init=False)
    _writer: Any = None
    _incarnation: int = 0

    def begin(self) -> None:
        self._incarnation += 1
        self.sad.revoke("ikev2")
        self._writer = self.sad.writer("ikev2")
        self.fresh.clear()
        self.listening = frozenset({""})
        self.speaker = Speaker(
            self.config,
            SeededEntropy(f"{self.name}{self._incarnation}"),
            epoch=EPOCH,
            materials=self.materials,
            authorises=self.authorises,
            kept=self.kept,
            inbound=self.sad.inbound,
            bundles=self.sad,
        )
        self.alive = True
        self.perform(self.speaker.start(self.world.now))
        for topic, rows in self.said.items():
            self.hear(topic, dict(rows))
        for topic in (TunnelProtected, SaWanted, InterfaceState):
            self.perform(self.speaker.receive(Synced(topic, "test", 1), self.world.now))

    def crash(self) -> None:
        """ikev2 is gone; the SAD and the rows stay. `begin` brings the next incarnation."""
        self.alive = False

    def vanish(self) -> None:
        """The whole node is gone, and comes back with nothing."""
        self.alive = False
        self.kept, self.sad = Kept(), SadTable()
        self.rows.clear()
        self.said.clear()

    # --- what the others say ---------------------------------------------------------------------------------------------

    def hear(self, topic: Any, rows: Mapping[Any, Any], owner: str = "test") -> None:
        for key, row in rows.items():
            if row is None:
                self.said[topic].pop(key, None)
            else:
                self.said[topic][key] = row
        self.perform(self.speaker.receive(Delta(topic, owner, 1, "", rows), self.world.now))

    def fact(self, fact: Any) -> None:
        self.perform(self.speaker.receive(fact, self.world.now))

    def interface(
        self,
        name: str,
        *addresses: str,
        kind: InterfaceKind = InterfaceKind.TUNNEL,
        many: bool = False,
        mpls: bool = True,
        vrf: str = "",
        protection: str = "P",
        unnumbered: str = "",
    ) -> None:
        row = InterfaceRow(
            name,
            kind,
            vrf=vrf,
            point_to_point=not many,
            mpls=mpls,
            protection=protection,
            unnumbered=unnumbered,
        )
        own = {
            Prefix.parse(text).network if "/" not in text else parse_address(text.partition("/")[0]): text
            for text in addresses
        }
        found = {address: AddressRow(int(text.partition("/")[2] or 32)) for address, text in own.items()}
        self.interfaces[name] = Interface(row, 1, up=True, mtu=1400, addresses=found)
        self._interface(name)

    def _interface(self, name: str) -> None:
        base = self.interfaces[name]
        negotiated = {
            key[1]: row for key, row in self.rows[AddressOffered, ""].items() if key[0] == name and row is not None
        }
        self.hear(InterfaceState, {name: evolve(base, addresses={**base.addresses, **negotiated})})

    def protect(
        self,
        name: str,
        local: str,
        remote: str = "",
        *,
        profile: str = "P",
        negotiated: bool = False,
        front: str = "",
        **more: Any,
    ) -> None:
        self.interface(name, *more.pop("addresses", ()), many=not remote, **more)
        ends = parse_address(local), parse_address(remote) if remote else b""
        row = ProtectedRow(profile, *ends, vrf=front, negotiated=negotiated)
        self.hear(TunnelProtected, {name: row})

    def want(
        self, name: str, local: str, remote: str, *, profile: str = "P", many: bool = False, front: str = ""
    ) -> SaKey:
        key = SaKey(name, parse_address(remote) if many else b"")
        self.hear(SaWanted, {key: SaRequest(profile, parse_address(local), parse_address(remote), front)})
        return key

    # --- what it does ----------------------------------------------------------------------------------------------------

    def perform(self, outputs: list[Output]) -> None:
        changed: set[str] = set()
        for output in outputs:
            match output:
                case Send(octets, ends):
                    assert ends.vrf in self.listening
                    self.world.send(octets, ends, self.name)
                case Listen(vrfs):
                    self.listening = vrfs
                case Publish(topic, rows, table):
                    self._publish(topic, rows, table)
                    if topic is AddressOffered:
                        changed |= {key[0] for key in rows}
                case SyncedOut(topic):
                    for table in [table for kind, table in self.rows if kind is topic]:
                        stale = set(self.rows[topic, table]) - self.fresh[topic, table]
                        for key in stale:
                            del self.rows[topic, table][key]
                case Post(fact):
                    self.facts.append(fact)
                case PutInbound(sa):
                    assert self._writer.put_inbound(sa)
                case PutOutbound(sa):
                    self._writer.put_outbound(sa)
                case RemoveInbound(spi):
                    self._writer.remove_inbound(spi)
                case RemoveOutbound(key, spi):
                    assert self._writer.remove_outbound(key, spi) is not None, "something else stood there"
                    self.gaps.append((self.world.now, key))
                case Authorise():
                    self.asked.append(output)
                case Log():
                    self.logs.append(output)
        for name in changed & self.interfaces.keys():
            # routing merges the address that was offered
            self.world.later(0.001, lambda name=name: self._interface(name))

    def _publish(self, topic: Any, rows: Mapping[Any, Any], table: str) -> None:
        self.told.append((topic, rows))
        for key, row in rows.items():
            self.fresh[topic, table].add(key)
            if row is None:
                assert key in self.rows[topic, table], f"{topic} {key} was not there"
                del self.rows[topic, table][key]
            else:
                self.rows[topic, table][key] = row

    def answer(self, answer: Grant | Refusal) -> None:
        number = self.asked.pop(0).number
        self.perform(self.speaker.authorised(number, answer, self.world.now))

    def reconfigure(self, config: Ikev2Config) -> None:
        self.config = config
        self.perform(self.speaker.reconfigure(config, self.materials, self.world.now))

    def clear(self, **named: Any) -> int:
        meant, outputs = self.speaker.clear(self.world.now, **named)
        self.perform(outputs)
        return meant

    def stop(self) -> None:
        self.perform(self.speaker.stop(self.world.now))

    # --- what is there ---------------------------------------------------------------------------------------------------

    def state(self, name: str, remote: str = "") -> SaRow | None:
        found: SaRow | None = self.rows[SaState, ""].get(SaKey(name, parse_address(remote) if remote else b""))
        return found

    def up(self, name: str, remote: str = "") -> bool:
        row = self.state(name, remote)
        key = SaKey(name, parse_address(remote) if remote else b"")
        assert (row is not None and row.up) == (self.outbound(key) is not None)
        return row is not None and row.up

    def outbound(self, key: SaKey) -> Sa | None:
        bundle = self.sad.get(key)
        return bundle.outbound if bundle is not None else None

    def table(self, topic: Any, table: str = "") -> dict[Any, Any]:
        return dict(self.rows[topic, table])

    def routes(self, table: str = "") -> dict[Any, Any]:
        """Routes that lead somewhere."""
        return {prefix: route for prefix, route in self.rows[RouteOffered, table].items() if route.vias}

    def discards(self, table: str = "") -> set[str]:
        return {str(prefix) for prefix, route in self.rows[RouteOffered, table].items() if not route.vias}

    def snapshot(self) -> SpeakerSnapshot:
        return self.speaker.snapshot(self.world.now, EPOCH + self.world.now)

    def reasons(self, event: str) -> list[object]:
        return [log.fields.get("reason") for log in self.logs if log.event == event]

    @property
    def empty(self) -> bool:
        """Nothing of any SA is left anywhere."""
        node = self.speaker.node
        return not (
            node.peers
            or node.ike_spis
            or node.inits
            or node.esp_spis
            or node.by_holder
            or node.by_interface
            or len(node.accesses)
            or len(node.claims)
            or node.admission.half_open
            or list(node.carriers)
            or self.sad.inbound
            or self.sad.bundles
            or self.kept.peers
            or len(node.timers)
        )


def two_ends(
    world: World, left: Ikev2Config | None = None, right: Ikev2Config | None = None, **more: Any
) -> tuple[Node, Node]:
    """`a` and `b`, each with a point-to-point tunnel to the other."""
    a = world.node("a", "192.0.2.1", left or psk_config(), **more)
    b = world.node("b", "192.0.2.2", right or psk_config(), **more)
    a.protect("Tunnel0", "192.0.2.1", "192.0.2.2", addresses=("10.0.0.1/32",))
    b.protect("Tunnel0", "192.0.2.2", "192.0.2.1", addresses=("10.0.0.2/32",))
    return a, b


def policy_rows(**lists: Any) -> tuple[Any, dict[Any, Any]]:
    return PolicyState, {("access-list", name): row for name, row in lists.items()}


def keyring(**peers: tuple[str, str]) -> Keyring:
    """name -> (prefix, key)."""
    return Keyring(
        "K",
        {
            name: KeyringPeer(name, prefix=Prefix.parse(prefix), local_key=key, remote_key=key)
            for name, (prefix, key) in peers.items()
        },
    )


def together(a: Node, b: Node, name: str = "Tunnel0") -> bool:
    """Both can send to the other by an SA that the other takes."""
    if not (a.alive and b.alive and a.up(name) and b.up(name)):
        return False
    one, other = a.outbound(SaKey(name)), b.outbound(SaKey(name))
    return one is not None and other is not None and one.spi in b.sad.inbound and other.spi in a.sad.inbound
