"""Speakers joined back to back: TCP as a queue of events on a toy clock, and tables that only remember."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from attrs import define, field

from bgp.config import BgpConfig, NeighborConfig, Timers
from bgp.engine.fsm import State
from bgp.engine.outputs import (
    Close,
    Connect,
    Listen,
    Log,
    OutgoingReady,
    PauseReading,
    PeerView,
    Post,
    Publish,
    ResumeReading,
    Send,
    SetTtl,
    SyncedOut,
    Unlisten,
)
from bgp.engine.peers import PeerSnapshot
from bgp.engine.speaker import Speaker
from bgp.wire import Message, Session, decode, split
from stack.addr import parse_address

A, B, C = (parse_address(f"192.0.2.{n}") for n in (1, 2, 3))
ID_A, ID_B = parse_address("10.0.0.1"), parse_address("10.0.0.2")


@define(eq=False)
class FakeRibs:
    """Remembers what it is told. `routes`: encoded messages that wait, by peer."""

    up: dict[Any, PeerView] = field(factory=dict)
    calls: list[tuple[Any, ...]] = field(factory=list)
    routes: dict[Any, list[bytes]] = field(factory=dict)
    answers: dict[str, list[Any]] = field(factory=dict)
    on_update: Callable[[Any], None] | None = None
    at: float | None = None

    def _told(self, *call: Any) -> list[Any]:
        self.calls.append(call)
        return self.answers.get(call[0], [])

    def start(self, now: float) -> list[Any]:
        return self._told("start")

    def reconfigure(self, config: BgpConfig, now: float) -> list[Any]:
        return self._told("reconfigure", config)

    def peer_up(self, peer: PeerView, now: float) -> list[Any]:
        assert peer.key not in self.up, "up twice"
        self.up[peer.key] = peer
        return self._told("peer_up", peer.key)

    def peer_down(self, key: Any, reason: str, now: float) -> list[Any]:
        del self.up[key]
        self.routes.pop(key, None)
        return self._told("peer_down", key, reason)

    def peer_lost(self, key: Any, reason: str, now: float) -> list[Any]:
        del self.up[key]
        self.routes.pop(key, None)
        return self._told("peer_lost", key, reason)

    def update(self, key: Any, update: Any, now: float) -> list[Any]:
        assert key in self.up
        if self.on_update is not None:
            self.on_update(update)
        return self._told("update", key, update)

    def refresh(self, key: Any, family: Any, now: float) -> list[Any]:
        return self._told("refresh", key, family)

    def soft(self, key: Any, direction: str, now: float) -> list[Any]:
        return self._told("soft", key, direction)

    def receive(self, message: Any, now: float) -> list[Any]:
        return self._told("receive", message)

    def wake(self, now: float) -> list[Any]:
        self.at = None
        return self._told("wake")

    def deadline(self) -> float | None:
        return self.at

    def offer(self, key: Any, messages: list[bytes]) -> list[Any]:
        self.routes.setdefault(key, []).extend(messages)
        return [OutgoingReady(key)]

    def outgoing(self, key: Any, limit_octets: int) -> list[bytes]:
        waiting, taken, size = self.routes.get(key, []), [], 0
        while waiting and (not taken or size + len(waiting[0]) <= limit_octets):
            size += len(waiting[0])
            taken.append(waiting.pop(0))
        return taken

    def has_outgoing(self, key: Any) -> bool:
        return bool(self.routes.get(key))

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] == name]


@define(eq=False)
class Node:
    """A speaker at one address. `ends`: its connection number -> (the other node, its number there)."""

    world: World
    address: bytes
    speaker: Speaker
    ribs: FakeRibs
    listening: dict[str, Listen] = field(factory=dict)
    ends: dict[int, tuple[Node, int]] = field(factory=dict)
    dialling: set[int] = field(factory=set)
    connects: list[Connect] = field(factory=list)
    said: list[Message] = field(factory=list)
    logs: list[Log] = field(factory=list)
    facts: list[Any] = field(factory=list)
    published: list[Publish | SyncedOut] = field(factory=list)
    paused: set[int] = field(factory=set)
    ttls: list[SetTtl] = field(factory=list)
    awake: bool = True

    def peer(self, address: bytes, vrf: str = "") -> PeerSnapshot:
        return next(one for one in self.speaker.snapshot().peers if one.key == (vrf, address))

    def state(self, address: bytes, vrf: str = "") -> State:
        return self.peer(address, vrf).state

    def do(self, outputs: list[Any]) -> None:
        for output in outputs:
            match output:
                case Connect():
                    self.connects.append(output)
                    self.dialling.add(output.connection)
                    self.world.dial(self, output)
                case Close(connection):
                    self.dialling.discard(connection)
                    self.world.close(self, connection)
                case Send(connection, octets):
                    self.said += messages(octets)
                    self.world.carry(self, connection, octets)
                case Listen():
                    self.listening[output.vrf] = output
                case Unlisten():
                    self.listening.pop(output.vrf, None)
                case PauseReading(connection):
                    self.paused.add(connection)
                case ResumeReading(connection):
                    self.paused.discard(connection)
                case SetTtl():
                    self.ttls.append(output)
                case Log():
                    self.logs.append(output)
                case Post(fact):
                    self.facts.append(fact)
                case Publish() | SyncedOut():
                    self.published.append(output)
                case _:
                    raise AssertionError(output)


def messages(octets: bytes) -> list[Message]:
    """What a Send holds: whole messages, always."""
    found, offset = [], 0
    while offset < len(octets):
        length = split(octets, Session(), offset)
        assert length is not None, "a partial message was sent"
        found.append(decode(octets[offset : offset + length], Session()))
        offset += length
    return found


@define(eq=False)
class World:
    """`delay` is a function, so that a test can reorder what happens on different connections. `cut`: nothing arrives."""

    delay: Callable[[], float] = lambda: 0.001
    now: float = 100.0
    cut: bool = False
    nodes: dict[bytes, Node] = field(factory=dict)
    _events: list[tuple[float, int, Callable[[], None]]] = field(factory=list)
    _sequence: int = 0
    _last: dict[tuple[int, int], float] = field(factory=dict)

    def add(self, address: bytes, config: BgpConfig, *, standalone: bool = True, seed: int | None = None) -> Node:
        ribs = FakeRibs()
        entropy = random.Random(address if seed is None else seed).randbytes
        node = Node(self, address, Speaker(config, entropy, ribs, standalone=standalone), ribs)
        self.nodes[address] = node
        return node

    def start(self) -> None:
        for node in self.nodes.values():
            node.do(node.speaker.start(self.now))

    def after(self, what: Callable[[], None], *, end: tuple[int, int] | None = None) -> None:
        """Later; in order for one `end`."""
        when = self.now + self.delay()
        if end is not None:
            when = self._last[end] = max(when, self._last.get(end, 0.0))
        self._sequence += 1
        heapq.heappush(self._events, (when, self._sequence, what))

    def dial(self, node: Node, connect: Connect) -> None:
        def arrive() -> None:
            if connect.connection not in node.dialling or self.cut:
                return
            other = self.nodes.get(connect.remote)
            node.dialling.discard(connect.connection)
            if other is None or connect.vrf not in other.listening or not other.awake:
                node.do(node.speaker.tcp_failed(connect.connection, "connection refused", self.now))
                return
            number = other.speaker.number()
            node.ends[connect.connection], other.ends[number] = (other, number), (node, connect.connection)
            local = connect.local or node.address
            self.after(
                lambda: other.do(other.speaker.accepted(number, connect.vrf, connect.remote, local, self.now)),
                end=(id(other), number),
            )
            node.do(node.speaker.tcp_connected(connect.connection, local, connect.remote, self.now))

        self.after(arrive)

    def carry(self, node: Node, connection: int, octets: bytes) -> None:
        if connection in node.ends and not self.cut:
            other, number = node.ends[connection]
            self.after(lambda: other.do(other.speaker.octets(number, octets, self.now)), end=(id(other), number))

    def close(self, node: Node, connection: int) -> None:
        end = node.ends.pop(connection, None)
        if end is not None and not self.cut:
            other, number = end

            def closed() -> None:
                other.ends.pop(number, None)
                other.do(other.speaker.tcp_closed(number, "closed by the other end", self.now))

            self.after(closed, end=(id(other), number))

    def run(self, seconds: float) -> None:
        """Everything that happens in the next `seconds`."""
        until, turns, turn_of = self.now + seconds, 0, self.now
        while True:
            turns = turns + 1 if self.now == turn_of else 0
            turn_of = self.now
            assert turns < 100_000, "time stands still"
            timers = [(when, node) for node in self.nodes.values() if (when := node.speaker.deadline()) is not None]
            timer = min((when for when, _ in timers), default=None)
            event = self._events[0][0] if self._events else None
            times = [when for when in (timer, event) if when is not None]
            if not times or min(times) > until:
                self.now = until
                return
            self.now = max(self.now, min(times))
            if event is not None and event <= self.now:
                heapq.heappop(self._events)[2]()
                continue
            for when, node in timers:
                if when <= self.now:
                    node.do(node.speaker.wake(self.now))

    def connections(self) -> int:
        return sum(len(node.ends) for node in self.nodes.values())


def config(
    asn: int = 65000, identifier: bytes = ID_A, neighbors: tuple[NeighborConfig, ...] = (), **more: Any
) -> BgpConfig:
    more.setdefault("timers", Timers(keepalive=30, hold=90, connect_retry=120))
    return BgpConfig(
        asn=asn, router_id=identifier, neighbors={(one.vrf, one.address): one for one in neighbors}, **more
    )


def neighbor(address: bytes, remote_as: int = 65000, **more: Any) -> NeighborConfig:
    return NeighborConfig(address=address, remote_as=remote_as, **more)


def pair(
    world: World, *, swap: bool = False, a: dict[str, Any] | None = None, b: dict[str, Any] | None = None
) -> tuple[Node, Node]:
    """Two iBGP speakers that know each other. `swap`: the identifiers change places."""
    ids = (ID_B, ID_A) if swap else (ID_A, ID_B)
    return (
        world.add(A, config(identifier=ids[0], neighbors=(neighbor(B, **(a or {})),))),
        world.add(B, config(identifier=ids[1], neighbors=(neighbor(A, **(b or {})),))),
    )
