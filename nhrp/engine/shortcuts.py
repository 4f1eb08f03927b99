"""Shortcuts: what was asked for, what came of it, and the routes that follow. One entry for each resolution of our own.

    PENDING --answered--> TUNNEL --reached--> COMPLETE --lost, expired, gone--> (forgotten)
       |                     |
       +--refused, silent----+--> NEGATIVE --expired--> (forgotten)

A renewal is a second entry beside the first, which goes when the second is complete: the route stands all the time. What is
no longer true goes at once; packets then follow the route to the hub again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, NamedTuple

from attrs import define, field

from nhrp.engine.indexed import Network
from nhrp.engine.node import Node, afi_of
from nhrp.engine.outputs import AskUsed
from nhrp.engine.reach import DISTANCE, NOWHERE, Reach, Reached
from nhrp.engine.ways import Addresses, Way, Ways
from nhrp.events import ShortcutDown, ShortcutUp
from nhrp.wire.mpls import ContextLabel
from stack.addr import LabelStack, Prefix, format_address
from stack.claims import Slot
from stack.events import Route, RouteOffered, Via
from stack.values import value

__all__ = ["NEGATIVE_TIME", "TABLE", "TUNNEL_TIME", "Answer", "Entry", "Hint", "Input", "Shortcuts", "State"]

NEGATIVE_TIME = 30.0
"""Seconds in which nothing is asked again that was refused, or that nobody answered."""

TUNNEL_TIME = 30.0
"""Seconds that an answer waits for its tunnel."""

RENEW_AT = (2 / 3, 9 / 10)
"""Of the holding time: when it is asked whether the shortcut is used."""

RECHECKS = 250
"""Entries that are held against changed routes in one turn."""


class State(Enum):
    PENDING = "asked"
    TUNNEL = "answered, the tunnel is being made"
    COMPLETE = "complete"
    NEGATIVE = "refused"


class Input(Enum):
    ANSWERED = "an answer"
    REFUSED = "a refusal"
    SILENT = "nothing in time"
    REACHED = "the tunnel is up"
    LOST = "the tunnel is down"
    EXPIRED = "its time is over"
    GONE = "it is no longer true"


TABLE: dict[tuple[State, Input], tuple[str, State | None]] = {
    (State.PENDING, Input.ANSWERED): ("build", State.TUNNEL),
    (State.PENDING, Input.REFUSED): ("hold_down", State.NEGATIVE),
    (State.PENDING, Input.SILENT): ("hold_down", State.NEGATIVE),
    (State.PENDING, Input.GONE): ("forget", None),
    (State.TUNNEL, Input.REACHED): ("install", State.COMPLETE),
    (State.TUNNEL, Input.SILENT): ("hold_down", State.NEGATIVE),
    (State.TUNNEL, Input.GONE): ("forget", None),
    (State.COMPLETE, Input.REACHED): ("install", State.COMPLETE),
    (State.COMPLETE, Input.LOST): ("forget", None),
    (State.COMPLETE, Input.EXPIRED): ("forget", None),
    (State.COMPLETE, Input.GONE): ("forget", None),
    (State.NEGATIVE, Input.EXPIRED): ("forget", None),
    (State.NEGATIVE, Input.GONE): ("forget", None),
}
"""(state, input) -> (what is done, the state after it). What is not here is ignored, and counted."""


@value
class Answer:
    """What a reply said, checked. `claimed`: the NBMA address that the far end says it has, if a NAT shows another. `labels`:
    to push; empty: none. `route`: there may be a host route to `overlay`."""

    prefix: Prefix
    overlay: bytes
    nbma: bytes
    holding_time: int
    claimed: bytes = b""
    labels: LabelStack = ()
    route: bool = True


class Hint(NamedTuple):
    """What a redirect tells beside the destination. `redirector`: the overlay address of the station that sent it. `length`: of
    the prefix of its own route (0: not said); a shortcut is no wider than that."""

    redirector: bytes = b""
    length: int = 0


NO_HINT = Hint()


@define(eq=False)
class Entry:
    """`way`: by which it was asked. `context`: the label that stands for the VRF at the next hop (None: the interface's own
    VRF). `renews`: the entry whose place it is to take. `started`: when the redirect came, or the renewal began. `hint`: who
    sent the redirect, and the length of its own route's prefix."""

    number: int
    vrf: str
    destination: bytes
    way: Way
    context: ContextLabel | None
    started: float
    source: bytes = b""
    request_id: int = 0
    state: State = State.PENDING
    tries: int = 0
    asked: float = 0.0
    renews: Entry | None = None
    hint: Hint = NO_HINT
    renewed_by: Entry | None = None
    answer: Answer | None = None
    reached: Reached = NOWHERE
    expires: float | None = None
    checks: int = 0
    up_since: float | None = None
    reason: str = ""

    @property
    def network(self) -> Network:
        return self.way.network


@define(eq=False)
class Shortcuts:
    """`others`: entries that other parts hold against the same limit. Bounded by cache_limit and pending_limit."""

    node: Node
    ways: Ways
    reach: Reach
    others: Callable[[], int] = lambda: 0
    entries: dict[int, Entry] = field(factory=dict)
    requests: dict[int, Entry] = field(factory=dict)
    """Request id -> who waits for its reply."""
    _asked: dict[tuple[str, bytes], Entry] = field(factory=dict)
    """(vrf, destination) of what is not complete; oldest first."""
    _by_prefix: dict[tuple[str, Prefix], Entry] = field(factory=dict)
    _by_overlay: dict[bytes, dict[int, Entry]] = field(factory=dict)
    """Who has answered -> the entries that it has answered."""
    _addresses: Addresses = field(factory=Addresses)
    _doubtful: dict[int, None] = field(factory=dict)

    # --- what there is ------------------------------------------------------------------------------------------------------

    def covering(self, vrf: str, address: bytes) -> Entry | None:
        """The shortcut that takes packets to `address`."""
        for length in range(len(address) * 8, 0, -1):
            entry = self._by_prefix.get((vrf, Prefix.of(address, length)))
            if entry is not None:
                return entry
        return None

    def asked(self, vrf: str, destination: bytes) -> Entry | None:
        """The resolution of `destination` that is not over, or was refused a short time ago."""
        return self._asked.get((vrf, destination))

    @property
    def unfinished(self) -> int:
        return len(self._asked)

    def room(self) -> str:
        """Why there is no room for another entry ('': there is). A refusal may be forgotten for it."""
        config = self.node.config
        if len(self._asked) >= config.pending_limit:
            old = next((entry for entry in self._asked.values() if entry.state is State.NEGATIVE), None)
            if old is None:
                return "pending-limit"
            self.turn(old, Input.EXPIRED)
        return "cache-limit" if len(self.entries) + self.others() >= config.cache_limit else ""

    def open(
        self,
        vrf: str,
        destination: bytes,
        way: Way,
        context: ContextLabel | None,
        renews: Entry | None = None,
        hint: Hint = NO_HINT,
    ) -> Entry:
        """A new entry, not asked yet. The caller has looked for room."""
        node = self.node
        entry = Entry(node.claimant(), vrf, destination, way, context, node.now, renews=renews, hint=hint)
        entry.request_id = node.request_id()
        self.entries[entry.number] = self.requests[entry.request_id] = entry
        self._addresses.add(vrf, destination, entry.number)
        if renews is None:
            self._asked[vrf, destination] = entry
        else:
            renews.renewed_by = entry
        return entry

    # --- the table ----------------------------------------------------------------------------------------------------------

    def turn(self, entry: Entry, what: Input, reason: str = "") -> bool:
        """Something happened to an entry; whether it mattered."""
        step = TABLE.get((entry.state, what))
        if step is None or entry.number not in self.entries:
            self.node.count(f"shortcut {entry.state.value}: {what.value} is ignored")
            return False
        action, after = step
        before, entry.reason = entry.state, reason or what.value
        if after is not None:
            entry.state = after
        _ACTIONS[action](self, entry, before)
        return True

    def _build(self, entry: Entry, _before: State) -> None:
        """Answered: what it needs is wanted; perhaps it stands already."""
        answer = entry.answer
        if answer is None:
            return
        self.requests.pop(entry.request_id, None)
        self._by_overlay.setdefault(answer.overlay, {})[entry.number] = entry
        self.node.timers.set(("shortcut-ask", entry.number), None)
        self.node.timers.set(("shortcut-end", entry.number), self.node.now + TUNNEL_TIME)
        entry.expires = self.node.now + answer.holding_time
        interface = entry.way.interface
        entry.reached = self.reach.hold(
            entry.number, interface, answer.overlay, answer.nbma, build=True, route=answer.route
        )
        if entry.reached.usable:
            self.turn(entry, Input.REACHED)

    def _install(self, entry: Entry, before: State) -> None:
        """The tunnel is up: packets go by it from now on. Whatever it replaces goes after it stands."""
        answer, node = entry.answer, self.node
        if answer is None or entry.expires is None:
            return
        name = entry.reached.interface
        via = Via(address=answer.overlay, interface=name, vrf=node.vrf(name), labels=answer.labels)
        route = Route(DISTANCE, (via,), "nhrp", override=True)
        slot = Slot(RouteOffered, entry.vrf, answer.prefix)
        node.claims.hold(entry.number, {slot: route})
        replaced = self._replace(entry, answer)
        if before is State.COMPLETE:
            return
        self._asked_no_more(entry)
        entry.up_since = node.now
        node.timers.set(("shortcut-end", entry.number), entry.expires)
        self._next_check(entry)
        node.put(AskUsed(entry.vrf, (answer.prefix,)))  # from here on it is counted
        if not any(_same(one, entry) for one in replaced):
            label = answer.labels[0] if answer.labels else None
            seconds = node.now - entry.started
            node.post(ShortcutUp(entry.vrf, answer.prefix, answer.overlay, answer.nbma, name, label, seconds))
            node.log(
                "shortcut up",
                vrf=entry.vrf,
                prefix=str(answer.prefix),
                next_hop=format_address(answer.overlay),
                nbma=format_address(answer.nbma),
                interface=name,
                label=label,
            )
            node.count("shortcuts installed")
        else:
            node.count("shortcuts renewed")

    def _replace(self, entry: Entry, answer: Answer) -> list[Entry]:
        """The entries whose place it takes."""
        key = (entry.vrf, answer.prefix)
        old = self._by_prefix.get(key)
        replaced = {one.number: one for one in (old, entry.renews) if one is not None and one is not entry}
        self._by_prefix[key] = entry
        entry.renews = None
        for one in replaced.values():
            if one.number in self.entries:
                self._remove(one)
                if one.answer is not None and one.answer.prefix != answer.prefix:
                    self.node.post(ShortcutDown(one.vrf, one.answer.prefix, "renewed with another prefix"))
        return list(replaced.values())

    def _hold_down(self, entry: Entry, _before: State) -> None:
        """Refused, or never answered: not asked again for a while. The shortcut that it would have renewed stays."""
        if entry.renews is not None:
            self._remove(entry)
            return
        self.requests.pop(entry.request_id, None)
        self.reach.drop(entry.number)
        self.node.timers.set(("shortcut-ask", entry.number), None)
        entry.expires = self.node.now + NEGATIVE_TIME
        self.node.timers.set(("shortcut-end", entry.number), entry.expires)
        self.node.count("resolutions without a shortcut")

    def _forget(self, entry: Entry, before: State) -> None:
        if entry.renewed_by is not None and before is State.COMPLETE and entry.renewed_by.state is State.PENDING:
            self.turn(entry.renewed_by, Input.GONE, entry.reason)
        self._remove(entry)
        if before is State.COMPLETE and entry.answer is not None:
            self.node.post(ShortcutDown(entry.vrf, entry.answer.prefix, entry.reason))
            self.node.log("shortcut down", vrf=entry.vrf, prefix=str(entry.answer.prefix), reason=entry.reason)

    def _remove(self, entry: Entry) -> None:
        node, number = self.node, entry.number
        if self.entries.pop(number, None) is None:
            return
        node.claims.drop(number)
        self.reach.drop(number)
        self.requests.pop(entry.request_id, None)
        self._addresses.remove(entry.vrf, entry.destination, number)
        self._doubtful.pop(number, None)
        for kind in ("shortcut-ask", "shortcut-end", "shortcut-use"):
            node.timers.set((kind, number), None)
        self._asked_no_more(entry)
        if entry.answer is not None:
            answered = self._by_overlay.get(entry.answer.overlay, {})
            answered.pop(number, None)
            if not answered:
                self._by_overlay.pop(entry.answer.overlay, None)
            if self._by_prefix.get((entry.vrf, entry.answer.prefix)) is entry:
                del self._by_prefix[entry.vrf, entry.answer.prefix]
        if entry.renews is not None:
            entry.renews.renewed_by = None

    def _asked_no_more(self, entry: Entry) -> None:
        key = (entry.vrf, entry.destination)
        if self._asked.get(key) is entry:
            del self._asked[key]

    # --- time ---------------------------------------------------------------------------------------------------------------

    def end(self, number: int) -> None:
        """Timer `shortcut-end`."""
        entry = self.entries.get(number)
        if entry is None:
            return
        if entry.state is State.TUNNEL:
            self.turn(entry, Input.SILENT, f"no tunnel: {entry.reached.reason}")
        else:
            self.turn(entry, Input.EXPIRED, "its holding time is over")

    def _next_check(self, entry: Entry) -> None:
        answer = entry.answer
        if answer is None or entry.up_since is None or entry.expires is None or entry.checks >= len(RENEW_AT):
            return
        began = entry.expires - answer.holding_time
        self.node.timers.set(("shortcut-use", entry.number), began + answer.holding_time * RENEW_AT[entry.checks])

    def check_use(self, number: int) -> None:
        """Timer `shortcut-use`: whether packets take it decides whether it is renewed."""
        entry = self.entries.get(number)
        if entry is None or entry.answer is None or entry.state is not State.COMPLETE:
            return
        entry.checks += 1
        self._next_check(entry)
        self.node.put(AskUsed(entry.vrf, (entry.answer.prefix,)))

    def used(self, vrf: str, prefixes: Iterable[Prefix]) -> list[Entry]:
        """What is to be renewed, of prefixes that packets were sent to."""
        found = (self._by_prefix.get((vrf, prefix)) for prefix in prefixes)
        return [entry for entry in found if entry is not None and entry.checks and entry.renewed_by is None]

    # --- what changed -------------------------------------------------------------------------------------------------------

    def reach_changed(self, number: int) -> None:
        entry = self.entries.get(number)
        if entry is None or entry.state not in (State.TUNNEL, State.COMPLETE):
            return
        entry.reached = self.reach.state(number)
        if entry.reached.usable:
            self.turn(entry, Input.REACHED)
        elif entry.state is State.COMPLETE:
            self.turn(entry, Input.LOST, f"no tunnel: {entry.reached.reason}")

    def routes_changed(self, vrf: str, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            self._doubtful.update(dict.fromkeys(self._addresses.under(vrf, prefix)))

    def doubt_all(self) -> None:
        """Interfaces, networks or the configuration have changed."""
        self._doubtful.update(dict.fromkeys(self.entries))

    def interface_changed(self, name: str) -> None:
        for number, entry in self.entries.items():
            if name in (entry.way.interface, entry.reached.interface):
                self._doubtful[number] = None

    def recheck(self, limit: int = RECHECKS) -> bool:
        """Hold entries against the routes that changed; whether some are left."""
        while self._doubtful and limit:
            limit -= 1
            number = next(iter(self._doubtful))
            del self._doubtful[number]
            entry = self.entries.get(number)
            if entry is not None and (fault := self.fault(entry)):
                self.turn(entry, Input.GONE, fault)
        return bool(self._doubtful)

    def fault(self, entry: Entry) -> str:
        """Why an entry must go ('': it may stay)."""
        way = self.ways.find(entry.vrf, entry.destination)
        if not way.within(entry.network):
            return "its route no longer leaves by the NHRP network"
        if not self.node.family(way.interface, afi_of(entry.destination)).shortcut:
            return f"no shortcut is wanted by {way.interface} now"
        if entry.context is not None and way.allocator != entry.context.allocator:
            return "the label of its VRF is another node's now"
        if entry.context is None and entry.vrf != self.node.vrf(way.interface):
            return "the tunnel is in another VRF now"
        if entry.context is not None and not way.labels:
            return "its route has no label now"
        if (
            entry.state is State.COMPLETE
            and entry.answer is not None
            and entry.answer.prefix.length < way.prefix.length
        ):
            return "a route within it has come"
        return ""

    # --- taken back ---------------------------------------------------------------------------------------------------------

    def purge(self, overlay: bytes, taken_back: Callable[[Entry, Answer], bool]) -> int:
        """The station at `overlay` takes back what it has answered; of how many entries that is true."""
        answered = self._by_overlay.get(overlay, {}).values()
        found = [one for one in answered if one.answer is not None and taken_back(one, one.answer)]
        return sum(self.turn(entry, Input.GONE, "purged by the far end") for entry in found)

    def clear(self, wanted: Callable[[Entry], bool], reason: str) -> int:
        found = [entry for entry in self.entries.values() if wanted(entry)]
        for entry in found:
            if entry.number in self.entries:
                entry.reason = reason
                self._forget(entry, entry.state)
        return len(found)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)


def _same(one: Entry, other: Entry) -> bool:
    """Whether packets take the same way by both."""
    if one.answer is None or other.answer is None or one.state is not State.COMPLETE:
        return False
    this, that = one.answer, other.answer
    return (this.prefix, this.overlay, this.nbma, this.labels) == (that.prefix, that.overlay, that.nbma, that.labels)


_ACTIONS: dict[str, Any] = {
    "build": Shortcuts._build,  # noqa: SLF001  # the table names them
    "install": Shortcuts._install,  # noqa: SLF001
    "hold_down": Shortcuts._hold_down,  # noqa: SLF001
    "forget": Shortcuts._forget,  # noqa: SLF001
}
