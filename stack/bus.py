"""The typed event bus: state as batches of rows, facts, and requests.

It retains what every owner holds, so that whoever subscribes later, or again after a restart, first gets the rows that
stand and then `Synced`. Publishing is `dict.update` per subscriber: newest wins, a mailbox is never larger than the
tables it reads, and a publisher never waits. Facts go into bounded mailboxes that drop and count. Requests are plain
calls to one server. No subscriber's code runs inside `publish` or `post`: it is only woken.

An owner that comes back (`attach` with a higher incarnation) finds its old rows still delivered and marked stale. What it
publishes again is fresh; `synced(topic)` withdraws the rest. `sweep(owner)` does so for an owner that stays away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from attrs import define, field, frozen

from stack.events import Delta, Fact, Owners, Request, Synced, Topic

__all__ = [
    "FACTS_BOUND",
    "TURN_ROWS",
    "Bus",
    "Mailbox",
    "Message",
    "NoServer",
    "Seat",
    "SecondOwner",
    "SecondServer",
    "Subscription",
    "TopicUse",
    "Undeclared",
]

FACTS_BOUND = 10_000
"""Facts that wait in one mailbox; what comes on top is dropped and counted."""

TURN_ROWS = 2_000
"""Rows that a subscriber takes in one turn of the event loop, so that its keepalives are never late."""

Message = Delta | Synced | Fact
A = TypeVar("A")


class SecondOwner(Exception):
    """A single-owner topic has an owner already."""


class SecondServer(Exception):
    """A request has a server already."""


class Undeclared(Exception):
    """A service publishes, posts or reads what its ServiceSpec does not name."""


class NoServer(Exception):
    """Nobody answers this request (now)."""


class TopicUse(NamedTuple):
    """One line of `show bus`: rows held by an owner of a topic, how many of them stale, who reads it and what waits."""

    topic: str
    owner: str
    rows: int
    stale: int
    subscribers: tuple[str, ...]
    waiting: int


@define(eq=False)
class Mailbox:
    """What waits for one subscriber. `ready` is called once whenever it turns from empty to not empty."""

    name: str
    ready: Callable[[], None] = lambda: None
    dropped: int = 0
    taken: int = 0
    _rows: dict[tuple[Topic[Any, Any], str, str], tuple[int, dict[Any, Any]]] = field(factory=dict)
    _synced: dict[tuple[Topic[Any, Any], str], int] = field(factory=dict)
    _facts: deque[Fact] = field(factory=deque)
    _woken: bool = False

    def __len__(self) -> int:
        """Rows and facts that wait."""
        return sum(len(rows) for _, rows in self._rows.values()) + len(self._facts)

    def waiting(self, topic: Topic[Any, Any]) -> int:
        return sum(len(rows) for key, (_, rows) in self._rows.items() if key[0] is topic)

    def put_rows(
        self, topic: Topic[Any, Any], owner: str, incarnation: int, table: str, rows: Mapping[Any, Any]
    ) -> None:
        key = (topic, owner, table)
        waiting = self._rows.get(key)
        if waiting is None:
            self._rows[key] = (incarnation, dict(rows))
        else:
            waiting[1].update(rows)
            if waiting[0] != incarnation:
                self._rows[key] = (incarnation, waiting[1])
        self._wake()

    def put_synced(self, topic: Topic[Any, Any], owner: str, incarnation: int) -> None:
        self._synced[topic, owner] = incarnation
        self._wake()

    def put_fact(self, fact: Fact) -> None:
        if len(self._facts) >= FACTS_BOUND:
            self.dropped += 1
            return
        self._facts.append(fact)
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self.ready()

    def take(self, limit: int = TURN_ROWS) -> list[Message]:
        """At most `limit` rows and facts, in batches. What is left wakes the subscriber again."""
        messages: list[Message] = []
        while self._rows and limit > 0:
            key = next(iter(self._rows))
            incarnation, rows = self._rows.pop(key)
            if len(rows) > limit:
                part = dict(islice(rows.items(), limit))
                for row in part:
                    del rows[row]
                self._rows[key] = (incarnation, rows)
                rows = part
            limit -= len(rows) or 1
            self.taken += len(rows)
            messages.append(Delta(key[0], key[1], incarnation, key[2], rows))
        if self._synced:
            pending = {key[:2] for key in self._rows}
            for source in [source for source in self._synced if source not in pending]:
                messages.append(Synced(source[0], source[1], self._synced.pop(source)))
        while self._facts and limit > 0:
            messages.append(self._facts.popleft())
            self.taken += 1
            limit -= 1
        self._woken = False
        if self._rows or self._facts or self._synced:
            self._wake()
        return messages

    def take_of(self, *topics: Topic[Any, Any]) -> list[Delta]:
        """All rows of some topics, ahead of what else waits; for topics that are small."""
        keys = [key for key in self._rows if key[0] in topics]
        self.taken += sum(len(self._rows[key][1]) for key in keys)
        found = []
        for topic, owner, table in keys:
            incarnation, rows = self._rows.pop((topic, owner, table))
            found.append(Delta(topic, owner, incarnation, table, rows))
        return found


@frozen(eq=False)
class Subscription:
    """An embedder's ear: `async for message in bus.subscribe(RouteSelected, name="mine")`. `close()` ends it."""

    bus: Bus
    mailbox: Mailbox
    _event: asyncio.Event

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            await self._event.wait()
            self._event.clear()
            for message in self.mailbox.take():
                yield message

    def close(self) -> None:
        self.bus.unsubscribe(self.mailbox)


@define(eq=False)
class _Held:
    """What one owner holds of one topic, by table, and the keys of it that are stale."""

    incarnation: int
    tables: dict[str, dict[Any, Any]] = field(factory=dict)
    stale: dict[str, set[Any]] = field(factory=dict)
    synced: bool = False


@define(eq=False)
class Seat:
    """An owner's place at the bus. `produces`, `posts`, `consumes` None: anything (embedders, tests)."""

    bus: Bus
    owner: str
    incarnation: int
    mailbox: Mailbox
    produces: frozenset[Any] | None = None
    consumes: frozenset[Any] | None = None
    closed: bool = False

    def publish(self, topic: Topic[Any, Any], rows: Mapping[Any, Any], table: str = "") -> None:
        """`rows` now hold; a row of None is withdrawn. Rows are immutable and shared; the mapping stays the caller's."""
        if self.produces is not None and topic not in self.produces:
            raise Undeclared(f"{self.owner} does not declare that it publishes {topic}")
        if rows and not self.closed:
            self.bus.publish(topic, self.owner, self.incarnation, table, rows)

    def synced(self, *topics: Topic[Any, Any]) -> None:
        """All that holds has been published since the start: rows left over from before are withdrawn."""
        for topic in topics:
            if self.produces is not None and topic not in self.produces:
                raise Undeclared(f"{self.owner} does not declare that it publishes {topic}")
            if not self.closed:  # else the next incarnation's place would be swept before it has published
                self.bus.synced(topic, self.owner, self.incarnation)

    def post(self, fact: Fact) -> None:
        if self.produces is not None and type(fact) not in self.produces:
            raise Undeclared(f"{self.owner} does not declare that it posts {type(fact).__name__}")
        if not self.closed:
            self.bus.post(fact)

    def subscribe(self, *kinds: Topic[Any, Any] | type[Fact]) -> None:
        """Rows that stand come first, then Synced, then what changes; facts from now on."""
        for kind in kinds:
            if self.consumes is not None and kind not in self.consumes:
                raise Undeclared(f"{self.owner} does not declare that it reads {kind}")
            self.bus.deliver(kind, self.mailbox)

    def serve(self, request: type[Request[A]], answer: Callable[[Any], A]) -> None:
        self.bus.serve(request, self.owner, answer)

    def ask(self, request: Request[A]) -> A:
        """The server's answer. Raises NoServer."""
        return self.bus.ask(request)

    def close(self) -> None:
        """Stop reading and serving. What was published stays, until it is swept or published anew."""
        self.closed = True
        self.bus.unsubscribe(self.mailbox)
        self.bus.unserve(self.owner)


@define(eq=False)
class Bus:
    """One node's. Not thread-safe: everything runs in one event loop."""

    _held: dict[Topic[Any, Any], dict[str, _Held]] = field(factory=dict)
    _readers: dict[Any, list[Mailbox]] = field(factory=dict)
    _servers: dict[type[Request[Any]], tuple[str, Callable[[Any], Any]]] = field(factory=dict)
    _posted: dict[str, int] = field(factory=dict)
    _seats: dict[str, Seat] = field(factory=dict)

    def attach(
        self,
        owner: str,
        *,
        incarnation: int = 1,
        produces: Iterable[Any] | None = None,
        consumes: Iterable[Any] | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> Seat:
        """A seat for `owner`. What an earlier incarnation left becomes stale."""
        old = self._seats.pop(owner, None)
        if old is not None and not old.closed:
            old.close()
        for holders in self._held.values():
            held = holders.get(owner)
            if held is not None:
                held.incarnation, held.synced = incarnation, False
                held.stale = {table: set(rows) for table, rows in held.tables.items() if rows}
        seat = Seat(
            self,
            owner,
            incarnation,
            Mailbox(owner, ready),
            None if produces is None else frozenset(produces),
            None if consumes is None else frozenset(consumes),
        )
        self._seats[owner] = seat
        return seat

    def publish(
        self, topic: Topic[Any, Any], owner: str, incarnation: int, table: str, rows: Mapping[Any, Any]
    ) -> None:
        held = self._holder(topic, owner, incarnation)
        stored = held.tables.get(table)
        if stored is None:
            stored = held.tables[table] = {}
        stored.update(rows)
        if None in rows.values():
            for key, row in rows.items():
                if row is None:
                    del stored[key]
        if held.stale and table in held.stale:
            held.stale[table].difference_update(rows)
        for mailbox in self._readers.get(topic, ()):
            mailbox.put_rows(topic, owner, incarnation, table, rows)

    def _holder(self, topic: Topic[Any, Any], owner: str, incarnation: int) -> _Held:
        holders = self._held.get(topic)
        if holders is None:
            holders = self._held[topic] = {}
        held = holders.get(owner)
        if held is None:
            if topic.owners is Owners.ONE and holders:
                raise SecondOwner(f"{topic} is owned by {next(iter(holders))}; {owner} may only read it")
            held = holders[owner] = _Held(incarnation)
        return held

    def synced(self, topic: Topic[Any, Any], owner: str, incarnation: int) -> None:
        held = self._holder(topic, owner, incarnation)
        self._sweep(topic, owner, held)
        held.synced = True
        for mailbox in self._readers.get(topic, ()):
            mailbox.put_synced(topic, owner, incarnation)

    def _sweep(self, topic: Topic[Any, Any], owner: str, held: _Held) -> None:
        stale, held.stale = held.stale, {}
        for table, keys in stale.items():
            gone = {key: None for key in keys if key in held.tables.get(table, ())}
            if gone:
                self.publish(topic, owner, held.incarnation, table, gone)

    def sweep(self, owner: str) -> None:
        """Withdraw all that `owner` holds: it stays away."""
        for topic, holders in self._held.items():
            if held := holders.get(owner):
                held.stale = {table: set(rows) for table, rows in held.tables.items() if rows}
                self._sweep(topic, owner, held)

    def post(self, fact: Fact) -> None:
        kind = type(fact)
        self._posted[kind.__name__] = self._posted.get(kind.__name__, 0) + 1
        for mailbox in self._readers.get(kind, ()):
            mailbox.put_fact(fact)

    def deliver(self, kind: Topic[Any, Any] | type[Fact], mailbox: Mailbox) -> None:
        """From now on `kind` goes to `mailbox`, after the rows that stand."""
        readers = self._readers.setdefault(kind, [])
        if mailbox in readers:
            return
        readers.append(mailbox)
        if isinstance(kind, Topic):
            for owner, held in self._held.get(kind, {}).items():
                for table, rows in held.tables.items():
                    if rows:
                        mailbox.put_rows(kind, owner, held.incarnation, table, rows)
                if held.synced:
                    mailbox.put_synced(kind, owner, held.incarnation)

    def subscribe(self, *kinds: Topic[Any, Any] | type[Fact], name: str) -> Subscription:
        """An embedder's or a test's subscription (services read by their seat)."""
        event = asyncio.Event()
        subscription = Subscription(self, Mailbox(name, event.set), event)
        for kind in kinds:
            self.deliver(kind, subscription.mailbox)
        return subscription

    def unsubscribe(self, mailbox: Mailbox) -> None:
        for readers in self._readers.values():
            if mailbox in readers:
                readers.remove(mailbox)

    def serve(self, request: type[Request[Any]], owner: str, answer: Callable[[Any], Any]) -> None:
        server = self._servers.get(request)
        if server is not None and server[0] != owner:
            raise SecondServer(f"{request.__name__} is answered by {server[0]}; {owner} may only ask")
        self._servers[request] = (owner, answer)

    def unserve(self, owner: str) -> None:
        self._servers = {kind: server for kind, server in self._servers.items() if server[0] != owner}

    def ask(self, request: Request[A]) -> A:
        server = self._servers.get(type(request))
        if server is None:
            raise NoServer(f"nobody answers {type(request).__name__}")
        answer: A = server[1](request)
        return answer

    def rows(self, topic: Topic[Any, Any], table: str = "") -> dict[str, Mapping[Any, Any]]:
        """What stands, by owner (for show and for tests; services read by subscription)."""
        return {owner: held.tables.get(table, {}) for owner, held in self._held.get(topic, {}).items()}

    def snapshot(self) -> tuple[TopicUse, ...]:
        uses = []
        for topic in sorted({*self._held, *(k for k in self._readers if isinstance(k, Topic))}, key=lambda t: t.name):
            readers = self._readers.get(topic, [])
            names = tuple(mailbox.name for mailbox in readers)
            waiting = sum(mailbox.waiting(topic) for mailbox in readers)
            holders: Mapping[str, _Held] = self._held.get(topic) or {"-": _Held(0)}
            for owner, held in holders.items():
                rows = sum(map(len, held.tables.values()))
                stale = sum(map(len, held.stale.values()))
                uses.append(TopicUse(topic.name, owner, rows, stale, names, waiting))
        return tuple(uses)

    def facts(self) -> Mapping[str, int]:
        """How many facts of each kind were posted."""
        return dict(self._posted)

    def dropped(self) -> Mapping[str, int]:
        """Facts dropped, by subscriber."""
        boxes = {box.name: box.dropped for readers in self._readers.values() for box in readers if box.dropped}
        return dict(sorted(boxes.items()))
