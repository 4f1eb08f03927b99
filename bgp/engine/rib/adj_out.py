"""The Adj-RIB-Out, one for all neighbours that get the same (an update group), and what waits for each of them.

    Loc-RIB --changed keys--> pending --drain--> UPDATEs, encoded once --> a queue a member --> its session

A change only marks its key, so a prefix that flaps while a neighbour is slow is sent once, as it is then. `advertised` is
what the members were last told; it is also what a member that joins later, or asks for a refresh, is told again. A member
whose queue grows over its bound leaves for a group of its own, so that it delays nobody and costs no more memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from attrs import define, field

from bgp.engine.paths import Path, PathSet, Source
from bgp.engine.rib.loc_rib import LocRib
from bgp.engine.rib.outbound import Out, Outbound
from bgp.engine.rib.swaps import Swap, Swaps
from bgp.wire import Nlri, encode_end_of_rib, encode_updates, encode_withdrawals

__all__ = ["CHUNK", "QUEUE_BOUND", "Member", "UpdateGroup"]

CHUNK = 4_096
"""Routes drained at a time: enough to pack well, little enough for keepalives in between."""

QUEUE_BOUND = 1 << 20
"""Octets that wait for one member of a group of several before it leaves for a group of its own."""


class _Queued(NamedTuple):
    octets: bytes
    skip: Source | None


@define(eq=False)
class Member:
    """A neighbour in a group. `catchup`: keys it must be told (again) by itself; `end_of_rib`: it is owed one. `version`:
    of the table, when the member had all of it last."""

    source: Source
    queue: deque[bytes] = field(factory=deque)
    octets: int = 0
    catchup: Iterator[bytes] | None = None
    end_of_rib: bool = True
    messages: int = 0
    version: int = 0

    def put(self, octets: bytes) -> None:
        self.queue.append(octets)
        self.octets += len(octets)

    def pop(self) -> bytes:
        octets = self.queue.popleft()
        self.octets -= len(octets)
        self.messages += 1
        return octets


@define(eq=False)
class UpdateGroup:
    """`pending`: keys whose route may have to be told; `forced`: those that are told even if nothing changed.

    `default`: the path that `default-originate` announces while the table has no default route of its own. `held`: keys
    that wait for a label. `suppressed`: routes that did not fit any message (B11). `noted`: routes with labels of ours that
    went out or were withdrawn since somebody last emptied it.
    """

    number: int
    loc: LocRib
    outbound: Outbound
    swaps: Swaps
    members: list[Member] = field(factory=list)
    pending: dict[bytes, None] = field(factory=dict)
    forced: set[bytes] = field(factory=set)
    advertised: dict[bytes, Path] = field(factory=dict)
    default: Path | None = None
    suppressed: dict[bytes, str] = field(factory=dict)
    told: set[bytes] = field(factory=set)
    noted: dict[bytes, Path] = field(factory=dict)
    _token: object = field(factory=object)
    """Marks what a PathSet remembers of this group's way out; another one when that changes."""

    # --- membership ---------------------------------------------------------------------------------------------------

    def join(self, member: Member, known: Iterable[bytes] = ()) -> None:
        """`known`: what the member was told before, elsewhere; it is brought into line with this group."""
        if not self.members and not self.advertised:
            self.pending.update(dict.fromkeys(self.loc.nets))
            if self.default is not None:
                self.pending[self.default.nlri.key] = None
            keys = list(known)
        else:
            keys = [*self.advertised, *(key for key in known if key not in self.advertised)]
        self.members.append(member)
        if keys:
            member.catchup = iter(keys)

    def leave(self, source: Source) -> Member | None:
        for member in self.members:
            if member.source is source:
                self.members.remove(member)
                return member
        return None

    def tell_again(self, member: Member) -> None:
        """All that stands in the Adj-RIB-Out, for this member only (ROUTE-REFRESH, RFC 2918 4)."""
        member.catchup = iter(list(self.advertised))

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
        self.members.remove(slow)
        group = UpdateGroup(number, self.loc, self.outbound, self.swaps, default=self.default)
        group.members.append(slow)
        group.advertised = dict(self.advertised)
        group.pending, group.forced = dict(self.pending), set(self.forced)
        group.suppressed = dict(self.suppressed)
        self.loc.groups.append(group)
        return group

    # --- a member takes what is there for it --------------------------------------------------------------------------

    def waiting(self, member: Member, *, end_of_rib: bool) -> bool:
        return bool(member.queue or self.pending or member.catchup is not None or (member.end_of_rib and end_of_rib))

    def outgoing(self, member: Member, limit: int, *, end_of_rib: bool) -> list[bytes]:
        """Messages for `member`, of `limit` octets or a little more. `end_of_rib`: they may be sent already."""
        found: list[bytes] = []
        while limit > 0:
            if member.queue:
                found.append(member.pop())
                limit -= len(found[-1])
            elif self.pending:
                self.drain()
            elif member.catchup is not None:
                self._catch_up(member)
            elif member.end_of_rib and end_of_rib:
                member.end_of_rib = False
                member.put(encode_end_of_rib(self.loc.family))
            else:
                break
        if limit > 0:
            member.version = self.loc.counter.number
        return found

    # --- Loc-RIB -> Adj-RIB-Out -> octets -----------------------------------------------------------------------------

    def drain(self) -> None:
        """The next CHUNK of what is pending becomes messages in the members' queues; withdrawals go first."""
        withdrawn: dict[bytes, None] = {}
        buckets: dict[tuple[Out, Source | None], list[Nlri]] = {}
        members = {member.source for member in self.members}
        advertised, nets, default = self.advertised, self.loc.nets, self.default
        vpn, per_prefix = self.loc.family.vpn, self.outbound.per_prefix
        last: PathSet | None = None
        out: Out | None = None
        bucket: list[Nlri] = []
        for (
            key
        ) in self._take():  # hot: once a route and group; what depends on the set alone is done once a run of routes
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
            if vpn and (out.swap or one.exported_from is not None):
                label = self._label(best, out)
                if label.label is None:
                    if old is not None and not label.wait:
                        withdrawn[key] = None
                    continue  # told when the label is there; what was told before stands until then
                nlri = Nlri(key, (label.label,))
                self.noted[key] = best
            advertised[key] = best
            bucket.append(nlri)
            if old is not None and one.source in members and old.set.source is not one.source:
                self._withdraw_from(one.source, nlri)
        self._forget(withdrawn)
        self._announce(buckets)
        if self.forced:
            self.forced &= self.pending.keys()

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
            path = self.advertised.pop(key, None)
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
                for octets in encode_withdrawals(self.loc.family, [nlri], self.outbound.view.session):
                    member.put(octets)

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
        for octets in messages:
            for member in self.members:
                if member.source is not skip:
                    member.put(octets)

    def slow(self) -> list[Member]:
        """Members that must leave, because their queue is over its bound."""
        if len(self.members) < 2:
            return []
        return [member for member in self.members if member.octets > QUEUE_BOUND]

    def _catch_up(self, member: Member) -> None:
        """The next CHUNK of what only this member must be told."""
        if member.catchup is None:
            return
        keys = list(islice(member.catchup, CHUNK))
        if len(keys) < CHUNK:
            member.catchup = None
        family, session = self.loc.family, self.outbound.view.session
        gone: list[Nlri] = []
        buckets: dict[Out, list[Nlri]] = {}
        for key in keys:
            best = self.advertised.get(key)
            if best is None or best.set.source is member.source:
                gone.append(Nlri(key))
                continue
            nlri = best.nlri if best.set.original is None else Nlri(key)
            out = self.out(best.set, nlri)
            if out is None:
                gone.append(nlri)
                continue
            if out.swap:
                label = self._label(best, out).label
                if label is None:
                    continue
                nlri = Nlri(key, (label,))
            buckets.setdefault(out, []).append(nlri)
        if gone:
            for octets in encode_withdrawals(family, gone, session):
                member.put(octets)
        for out, routes in buckets.items():
            for octets in encode_updates(family, out.attributes, out.next_hop, routes, session).messages:
                member.put(octets)
