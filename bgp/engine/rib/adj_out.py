"""The Adj-RIB-Out, one for all neighbours that get the same (an update group), and what waits for each of them.

    Loc-RIB --changed keys--> pending --drain--> UPDATEs, encoded once --> a queue a member --> its session

A change only marks its key, so a prefix that flaps while a neighbour is slow is sent once, as it is then. `advertised` is
what the members were last told; it is also what a member that joins later, or asks for a refresh, is told again. A member
whose queue grows over its bound leaves for a group of its own, so that it delays nobody and costs no more memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from attrs import define, field

from bgp.engine.paths import Path, PathSet, Source
from bgp.engine.rib.loc_rib import LocRib
from bgp.engine.rib.outbound import Out, Outbound
from bgp.engine.rib.replay import Replay
from bgp.engine.rib.swaps import Swap, Swaps
from bgp.wire import Nlri, encode_end_of_rib, encode_updates, encode_withdrawals

__all__ = ["CHUNK", "QUEUE_BOUND", "Member", "UpdateGroup"]

CHUNK = 4_096
"""Routes drained at a time: enough to pack well, little enough for keepalives in between."""

BATCH = 32 * 1024
"""Octets of messages that are put into queues as one: shared by all members that get the same."""

QUEUE_BOUND = 1 << 20
"""Octets that wait for one member of a group of several before it leaves for a group of its own."""


MANY = 64
"""Members of a group above which changes wait a little, to be told to all of them together."""

SPREAD, SPREAD_MOST = 0.0005, 1.0
"""Seconds that they wait for each member, and at most: what RFC 4271 9.2.1.1 has the MinRouteAdvertisementInterval for."""

PRUNED = 64
"""Pending routes that are looked at before all members of a group are woken for them."""


@define(eq=False)
class Member:
    """A neighbour in a group. `catchup`: keys it must be told (again) by itself; `end_of_rib`: it is owed one. `version`:
    of the table, when the member had all of it last. `waiting`: messages in its queue. `replay`: messages
    of old that it is told before. `busy`: those of its
    group for whom something may wait; `fresh`: of these, who was not said to be so yet."""

    source: Source
    busy: dict[Member, None] = field(factory=dict, repr=False)
    fresh: dict[Member, None] = field(factory=dict, repr=False)
    queue: deque[tuple[bytes, ...]] = field(factory=deque)
    octets: int = 0
    waiting: int = 0
    catchup: Iterator[bytes] | None = None
    replay: Iterator[tuple[bytes, ...]] | None = None
    end_of_rib: bool = True
    messages: int = 0
    version: int = 0

    def put(self, messages: tuple[bytes, ...], octets: int) -> None:
        """`octets`: of all of them."""
        if messages:
            self.queue.append(messages)
            self.octets += octets
            self.waiting += len(messages)
            self.wake()

    def wake(self) -> None:
        if self not in self.busy:
            self.busy[self] = self.fresh[self] = None

    def catch_up(self, keys: Iterable[bytes]) -> None:
        self.catchup = iter(keys)
        self.wake()

    @property
    def waits(self) -> bool:
        """Whether there is something for it alone."""
        return bool(self.queue or self.replay is not None or self.catchup is not None or self.end_of_rib)

    def pop(self) -> tuple[bytes, ...]:
        messages = self.queue.popleft()
        self.octets -= sum(map(len, messages))
        self.waiting -= len(messages)
        self.messages += len(messages)
        return messages


@define(eq=False)
class UpdateGroup:
    """`pending`: keys whose route may have to be told; `forced`: those that are told even if nothing changed.

    `default`: the path that `default-originate` announces while the table has no default route of its own. `open`: what is
    pending may be told now. `suppressed`: routes that did not fit any message (B11). `noted`: routes with labels of ours that
    went out or were withdrawn since somebody last emptied it.
    """

    number: int
    loc: LocRib
    outbound: Outbound
    swaps: Swaps
    members: list[Member] = field(factory=list)
    busy: dict[Member, None] = field(factory=dict, repr=False)
    fresh: dict[Member, None] = field(factory=dict, repr=False)
    pending: dict[bytes, None] = field(factory=dict)
    forced: set[bytes] = field(factory=set)
    advertised: dict[bytes, Path] = field(factory=dict)
    default: Path | None = None
    suppressed: dict[bytes, str] = field(factory=dict)
    told: set[bytes] = field(factory=set)
    noted: dict[bytes, Path] = field(factory=dict)
    open: bool = True
    _open_at: float | None = None
    _woken: bool = False
    _unlabelled: set[bytes] = field(factory=set)
    """Keys that wait for a label of ours: they have waited for the others already."""
    _replay: Replay | None = None
    _batch: list[tuple[bytes, Source | None]] = field(factory=list)
    _slow: dict[Member, None] = field(factory=dict)
    _token: object = field(factory=object)
    """Marks what a PathSet remembers of this group's way out; another one when that changes."""

    # --- membership ---------------------------------------------------------------------------------------------------

    def join(self, member: Member, known: Iterable[bytes] = (), *, blank: bool = False) -> None:
        """`known`: what the member was told before, elsewhere; it is brought into line with this group. `blank`: it has
        announced nothing yet."""
        if not self.members and not self.advertised:
            self.pending.update(dict.fromkeys(self.loc.nets))
            if self.default is not None:
                self.pending[self.default.nlri.key] = None
            member.catchup = iter(list(known)) if known else None
        else:
            keys = [key for key in known if key not in self.advertised]
            member.catchup = iter(keys) if keys else None
            self._tell_all(member, blank=blank)
        self._look_at_the_only_ones()
        self._enter(member)

    def _tell_all(self, member: Member, *, blank: bool = False) -> None:
        """All that stands is told to `member`. What it announced itself is withdrawn from it, so it goes the long way."""
        source = member.source
        few = len(self.members) < MANY
        if few or not (blank or all(path.set.source is not source for path in self.advertised.values())):
            member.catchup = chain(member.catchup or (), list(self.advertised))
            return
        if self._replay is None:
            self._replay = Replay.of(self.advertised)
        member.replay = self._replay.messages(self._encoded)

    def _look_at_the_only_ones(self) -> None:
        """The routes of a member that is, or was, the only one: nobody else is told them, so they need no label of ours."""
        if len(self.members) == 1:
            only = self.members[0].source
            keys = [key for key, net in self.loc.nets.items() if net.best is not None and net.best.set.source is only]
            self.pending.update(dict.fromkeys(keys))
            self.forced.update(keys)

    def _enter(self, member: Member) -> None:
        self.members.append(member)
        member.busy, member.fresh = self.busy, self.fresh
        self.busy[member] = self.fresh[member] = None

    def _take_out(self, member: Member) -> None:
        self.members.remove(member)
        self.busy.pop(member, None)
        self.fresh.pop(member, None)
        self._slow.pop(member, None)
        member.busy, member.fresh, member.replay = {}, {}, None
        if len(self.members) < MANY:
            self._replay = None
        self._look_at_the_only_ones()

    def leave(self, source: Source) -> Member | None:
        for member in self.members:
            if member.source is source:
                self._take_out(member)
                return member
        return None

    def tell_again(self, member: Member) -> None:
        """All that stands in the Adj-RIB-Out, for this member only (ROUTE-REFRESH, RFC 2918 4)."""
        member.catchup = member.replay = None
        self._tell_all(member)
        member.wake()

    def rerun(self) -> None:
        """The way out changed (policy, our next hop): everything is looked at and told again."""
        self._token = object()
        keys = dict.fromkeys((*self.loc.nets, *self.advertised))
        if self.default is not None:
            keys[self.default.nlri.key] = None
        self.pending.update(keys)
        self.forced.update(keys)

    def split(self, slow: Member, number: int) -> UpdateGroup:
        """`slow` in a group of its own. What it was told is what is in its queue, so both go on from the same state."""
        self._take_out(slow)
        group = UpdateGroup(number, self.loc, self.outbound, self.swaps, default=self.default)
        group._enter(slow)  # one of us
        group.advertised = dict(self.advertised)
        group.pending, group.forced = dict(self.pending), set(self.forced)
        group.suppressed = dict(self.suppressed)
        self.loc.groups.append(group)
        return group

    # --- a member takes what is there for it --------------------------------------------------------------------------

    def ready(self, now: float) -> list[Member]:
        """Those for whom messages wait, or may be made, and who were not named before."""
        self._prune()
        self._hold(now)
        fresh = list(self.fresh)
        self.fresh.clear()
        if self.pending and self.open and not self._woken:
            self._woken = True
            return list(self.members)
        return fresh

    def all_ready(self) -> list[Member]:
        """The same, whether they were named before or not."""
        return list(self.members) if self.pending and self.open else list(self.busy)

    def _hold(self, now: float) -> None:
        """In a large group, let some changes come together: to tell each of 2,000 spokes of each other takes its time."""
        if not self.pending:
            self._woken, self._open_at = False, None
        elif len(self.members) <= MANY or not self._unlabelled.isdisjoint(self.pending):
            self.open, self._open_at = True, None
        elif self._open_at is None and not self._woken:
            self.open, self._open_at = False, now + min(SPREAD_MOST, SPREAD * len(self.members))
        elif self._open_at is not None and self._open_at <= now:
            self.open, self._open_at = True, None

    def deadline(self) -> float | None:
        """When what is held may be told."""
        return self._open_at if self.pending else None

    def _prune(self) -> None:
        """Forget a few pending routes that nobody is, or was, told: a hub's spokes need not be woken for each other's."""
        if len(self.pending) > PRUNED or self.forced:
            return
        for key in [key for key in self.pending if key not in self.advertised]:
            net = self.loc.nets.get(key)
            best = None if net is None else net.best
            if best is None and self.default is not None and key == self.default.nlri.key:
                best = self.default
            if best is None or self.out(best.set, best.nlri if best.set.original is None else Nlri(key)) is None:
                del self.pending[key]

    def waiting(self, member: Member, *, end_of_rib: bool) -> bool:
        return bool(
            member.queue
            or (self.pending and self.open)
            or member.replay is not None
            or member.catchup is not None
            or (member.end_of_rib and end_of_rib)
        )

    def outgoing(self, member: Member, limit: int, *, end_of_rib: bool) -> list[bytes]:
        """Messages for `member`, of `limit` octets or a little more. `end_of_rib`: they may be sent already."""
        found: list[bytes] = []
        while limit > 0:
            if member.queue:
                limit -= member.octets
                found += member.pop()
                limit += member.octets
            elif self.pending and self.open:
                self.drain()
            elif member.replay is not None:
                self._play(member)
            elif member.catchup is not None:
                self._catch_up(member)
            elif member.end_of_rib and end_of_rib:
                member.end_of_rib = False
                ended = encode_end_of_rib(self.loc.family)
                member.put((ended,), len(ended))
            else:
                break
        if limit > 0:
            member.version = self.loc.counter.number
        if not member.waits:
            self.busy.pop(member, None)
        return found

    def _play(self, member: Member) -> None:
        """The next piece of what every member was told before."""
        assert member.replay is not None
        messages = next(member.replay, None)
        if messages is None:
            member.replay = None
            return
        self._queue(member, messages)

    def _queue(self, member: Member, messages: Iterable[bytes]) -> None:
        """For this one alone."""
        told = tuple(messages)
        member.put(told, sum(map(len, told)))
        if member.octets > QUEUE_BOUND:
            self._slow[member] = None

    # --- Loc-RIB -> Adj-RIB-Out -> octets -----------------------------------------------------------------------------

    def drain(self) -> None:
        """The next CHUNK of what is pending becomes messages in the members' queues; withdrawals go first."""
        withdrawn: dict[bytes, None] = {}
        buckets: dict[tuple[Out, Source | None], list[Nlri]] = {}
        members = {member.source for member in self.members}
        only = self.members[0].source if len(self.members) == 1 else None
        advertised, nets, default = self.advertised, self.loc.nets, self.default
        vpn, per_prefix = self.loc.family.vpn, self.outbound.per_prefix
        replay = self._replay
        last: PathSet | None = None
        out: Out | None = None
        bucket: list[Nlri] = []
        keys = self._take()
        self._unlabelled.difference_update(keys)
        for key in keys:  # hot: once a route and group; what depends on the set alone is done once a run of routes
            net = nets.get(key)
            best = None if net is None else net.best
            if best is None and default is not None and key == default.nlri.key:
                best = default
            old = advertised.get(key)
            if best is None:
                if old is not None:
                    withdrawn[key] = None
                continue
            if best is old and key not in self.forced:
                continue
            one, nlri = best
            if one.original is not None:
                nlri = Nlri(key)  # imported: it came under an RD and with a label, and leaves without
            if one is not last or per_prefix:
                last, out = one, self.out(one, nlri)
                if out is not None:
                    skip = one.source if one.source in members else None
                    bucket = buckets.setdefault((out, skip), [])
            if out is None:
                if old is not None:
                    withdrawn[key] = None
                continue
            if one.source is only and vpn:
                self._keep_back(key, old, withdrawn)
                continue
            if vpn and (out.swap or one.exported_from is not None):
                label = self._label(best, out)
                if label.label is None:
                    self._unlabelled.add(key)
                    if old is not None and not label.wait:
                        withdrawn[key] = None
                    continue  # told when the label is there; what was told before stands until then
                nlri = Nlri(key, (label.label,))
                self.noted[key] = best
            advertised[key] = best
            if replay is not None:
                replay.note(key)
            bucket.append(nlri)
            if old is not None and one.source in members and old.set.source is not one.source:
                self._withdraw_from(one.source, nlri)
        self._forget(withdrawn)
        self._announce(buckets)
        self._flush()
        if self.forced:
            self.forced &= self.pending.keys()
        if not self.pending:
            self._woken = False

    def _keep_back(self, key: bytes, old: Path | None, withdrawn: dict[bytes, None]) -> None:
        """A route of the only member: it gets nothing back, so nobody is told, and no label is wanted for it."""
        if old is not None and old.set.source is not self.members[0].source:
            withdrawn[key] = None
        elif old is not None:
            self._drop(key)
        if not any(group.outbound.swaps and group.members for group in self.loc.groups if group is not self):
            self.swaps.forget(self.loc, key)

    def _drop(self, key: bytes) -> Path | None:
        if self._replay is not None:
            self._replay.drop(key)
        return self.advertised.pop(key, None)

    def _take(self) -> Iterable[bytes]:
        pending = self.pending
        if len(pending) <= CHUNK:
            self.pending = {}
            return pending
        keys = list(islice(pending, CHUNK))
        for key in keys:
            del pending[key]
        return keys

    def out(self, one: PathSet, nlri: Nlri) -> Out | None:
        """How `one` is sent to this group, None if it is not."""
        if self.outbound.per_prefix:
            return self.outbound.of(one, nlri)
        if one.out_token is not self._token:
            one.out_token, one.out = self._token, self.outbound.of(one, nlri)
        found: Out | None = one.out
        return found

    def _label(self, best: Path, out: Out) -> Swap:
        """The label that we want to see on packets to `best`."""
        if out.swap:
            return self.swaps.label(self.loc, best)
        return Swap(best.nlri.labels[0]) if best.nlri.labels else Swap(None, wait=True)

    def _forget(self, withdrawn: Iterable[bytes]) -> None:
        gone = []
        for key in withdrawn:
            path = self._drop(key)
            if path is not None:
                gone.append(Nlri(key))
                if self.loc.family.vpn and (path.set.exported_from is not None or self.outbound.swaps):
                    self.noted[key] = path
        if gone:
            self._send(encode_withdrawals(self.loc.family, gone, self.outbound.view.session), None)

    def _withdraw_from(self, source: Source, nlri: Nlri) -> None:
        """Its own route became the best: it gets nothing back, and what it was told before goes."""
        for member in self.members:
            if member.source is source:
                self._queue(member, encode_withdrawals(self.loc.family, [nlri], self.outbound.view.session))

    def _announce(self, buckets: dict[tuple[Out, Source | None], list[Nlri]]) -> None:
        family, session = self.loc.family, self.outbound.view.session
        for (out, skip), routes in buckets.items():
            if not routes:
                continue
            packed = encode_updates(family, out.attributes, out.next_hop, routes, session)
            self._send(packed.messages, skip)
            if self.suppressed:
                for nlri in routes:
                    self.suppressed.pop(nlri.key, None)
            if packed.suppressed:
                self._suppress(packed.suppressed, str(packed.reason))

    def _suppress(self, routes: Iterable[Nlri], why: str) -> None:
        """Routes that no message holds: never truncated, and what was told before must not stay (B11)."""
        keys = [nlri.key for nlri in routes]
        self.suppressed.update(dict.fromkeys(keys, why))
        self._forget(keys)

    def _send(self, messages: Iterable[bytes], skip: Source | None) -> None:
        """To all but `skip`, when this drain is done."""
        self._batch += [(octets, skip) for octets in messages]

    def _flush(self) -> None:
        """What was sent goes into the members' queues, the same tuple into as many as may share it."""
        batch, self._batch = self._batch, []
        piece: list[tuple[bytes, Source | None]] = []
        size = 0
        for one in batch:
            piece.append(one)
            size += len(one[0])
            if size >= BATCH:
                self._hand_out(piece, size)
                piece, size = [], 0
        if piece:
            self._hand_out(piece, size)

    def _hand_out(self, piece: list[tuple[bytes, Source | None]], size: int) -> None:
        shared, skips = tuple([octets for octets, _ in piece]), {skip for _, skip in piece}
        for member in self.members:
            source = member.source
            if source in skips:
                self._queue(member, [octets for octets, skip in piece if skip is not source])
                continue
            member.put(shared, size)
            if member.octets > QUEUE_BOUND:
                self._slow[member] = None

    def slow(self) -> list[Member]:
        """Members that must leave, because their queue is over its bound."""
        if not self._slow or len(self.members) < 2:
            return []
        slow, self._slow = self._slow, {}
        return [member for member in slow if member.octets > QUEUE_BOUND and member in self.members]

    def _catch_up(self, member: Member) -> None:
        """The next CHUNK of what only this member must be told."""
        if member.catchup is None:
            return
        keys = list(islice(member.catchup, CHUNK))
        if len(keys) < CHUNK:
            member.catchup = None
        gone: list[Nlri] = []
        self._queue(member, self._encoded(keys, member.source, gone))
        if gone:
            self._queue(member, encode_withdrawals(self.loc.family, gone, self.outbound.view.session))

    def _encoded(
        self, keys: Iterable[bytes], told: Source | None = None, gone: list[Nlri] | None = None
    ) -> list[bytes]:
        """UPDATEs with what stands of `keys`. `gone`: takes those that `told` must not have."""
        family, session = self.loc.family, self.outbound.view.session
        buckets: dict[Out, list[Nlri]] = {}
        refused: list[Nlri] = [] if gone is None else gone
        for key in keys:
            best = self.advertised.get(key)
            if best is None or best.set.source is told:
                refused.append(Nlri(key))
                continue
            nlri = best.nlri if best.set.original is None else Nlri(key)
            out = self.out(best.set, nlri)
            if out is None:
                refused.append(nlri)
                continue
            if out.swap:
                label = self._label(best, out).label
                if label is None:
                    continue
                nlri = Nlri(key, (label,))
            buckets.setdefault(out, []).append(nlri)
        return [
            octets
            for out, routes in buckets.items()
            for octets in encode_updates(family, out.attributes, out.next_hop, routes, session).messages
        ]
