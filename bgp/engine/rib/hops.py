"""The next hops that paths lead to: wanted from routing as state, answered as state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field

from bgp.engine.paths import Hop
from stack.events import NextHopKey, NextHopRow

__all__ = ["Hops"]


@define(eq=False)
class Hops:
    """Key -> Hop. `resolve` False: this speaker runs without routing, and takes every next hop as usable.

    `rows` collects what to publish as NextHopWanted. `changed`: hops that say something else now, whose paths must be
    looked for; `ready`: (table, key) that waited for a first answer, so that a full table coming in is never scanned;
    `fresh`: hops that had their first answer.
    Bounded by the next hops in use, plus one sweep interval.
    """

    resolve: bool = True
    hops: dict[NextHopKey, Hop] = field(factory=dict)
    rows: dict[NextHopKey, bool | None] = field(factory=dict)
    changed: set[Hop] = field(factory=set)
    ready: dict[tuple[Any, bytes], None] = field(factory=dict)
    fresh: set[Hop] = field(factory=set)
    answers: dict[NextHopKey, NextHopRow] = field(factory=dict)
    _plain: dict[tuple[str, bytes], Hop] = field(factory=dict)
    _own: dict[str, frozenset[bytes]] = field(factory=dict)

    def get(self, key: NextHopKey) -> Hop:
        """The Hop of `key`, wanted from now on."""
        hop = self.hops.get(key)
        if hop is None:
            hop = self.hops[key] = Hop(key, own=key.address in self._own.get(key.vrf, ()))
            self.rows[key] = True
            if not self.resolve:
                hop.known = hop.answered = True
                hop.settle()
            elif key in self.answers:
                self._answer(hop, self.answers[key])
        return hop

    def plain(self, vrf: str, address: bytes) -> Hop:
        """What the decision asks about: whether `address` can be reached at all (RFC 4271 9.1.2.1). A VPN route's next hop
        is in the default table; whether labelled packets get there matters to the VRFs that import it."""
        hop = self._plain.get((vrf, address))
        if hop is None:
            hop = self._plain[vrf, address] = self.get(NextHopKey(vrf, address))
        return hop

    def receive(self, rows: Mapping[NextHopKey, NextHopRow | None]) -> None:
        """Rows of NextHopState, also those that other clients asked for: they may come before we ask."""
        for key, row in rows.items():
            hop = self.hops.get(key)
            if row is None:
                self.answers.pop(key, None)
                row = NextHopRow(usable=False, reason="routing no longer knows it")  # noqa: PLW2901
            else:
                self.answers[key] = row
            if hop is not None and self.resolve and self._answer(hop, row):
                self.changed.add(hop)

    def _answer(self, hop: Hop, row: NextHopRow) -> bool:
        """Whether anything that paths depend on changed."""
        first, before = not hop.known, (hop.usable, hop.metric, hop.id, hop.reason, hop.closed)
        hop.known, hop.answered, hop.reason, hop.closed = True, row.usable, row.reason, row.closed
        hop.metric, hop.id, hop.interface = row.metric, row.id, row.interface
        hop.settle()
        if first:
            self.ready.update(hop.waiting)
            hop.waiting.clear()
            self.fresh.add(hop)
            return False
        return before != (hop.usable, hop.metric, hop.id, hop.reason, hop.closed)

    def own_addresses(self, own: Mapping[str, frozenset[bytes]]) -> None:
        """Our own addresses by VRF: RFC 4271 5.1.3, a router MUST NOT use itself as next hop."""
        if own == self._own:
            return
        self._own = dict(own)
        for key, hop in self.hops.items():
            is_own = key.address in self._own.get(key.vrf, ())
            if is_own != hop.own:
                hop.own = is_own
                hop.settle()
                self.changed.add(hop)

    def is_own(self, vrf: str, address: bytes) -> bool:
        return address in self._own.get(vrf, ())

    def sweep(self, used: Iterable[Hop]) -> None:
        """Forget next hops that no path uses any more."""
        keep = {hop.key for hop in used}
        for key in [key for key in self.hops if key not in keep]:
            del self.hops[key]
            if key == NextHopKey(key.vrf, key.address):
                self._plain.pop((key.vrf, key.address), None)
            self.rows[key] = None
