"""Identity binding: who is reached by an interface on which IKEv2 has assigned addresses may only be one of those addresses.

A spoke is authenticated by IKEv2, not by BGP: whoever has a tunnel to the hub could else speak for any address that it gets
routed to itself. Fed from OverlayState (what is assigned) and NextHopState (by which interface a neighbour is reached). An
interface on which nothing is assigned asks nothing of anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from itertools import takewhile
from typing import TypeVar

from attrs import define, field

from bgp.engine.outputs import PeerKey
from stack.events import NextHopKey, NextHopRow, OverlayRow

__all__ = [
    "MAX_WAITING",
    "WAIT",
    "WAIT_OCTETS",
    "Bindings",
    "Refusal",
    "Refusals",
    "Standing",
    "Waiting",
    "WaitingRoom",
    "Wants",
]

_K = TypeVar("_K")
_L = TypeVar("_L")
_R = TypeVar("_R")

WAIT = 5.0
"""Seconds that a connection waits for routing to say by which interface its far end is reached."""

MAX_WAITING = 4096
"""Connections that wait so: a hub that starts anew hears all its spokes at once."""

WAIT_OCTETS = 8192
"""Octets that one of them may send meanwhile: an OPEN has no more than 4096."""

RECENT = 64
"""Refused connections that are remembered one by one."""

LOGGED, LOGGED_EVERY = 10, 60.0
"""Refusals that are logged within so many seconds; all are counted."""


class Standing(Enum):
    """Of a neighbour's address."""

    UNKNOWN = "routing has not said by which interface it is reached"
    FREE = "nothing is assigned on its interface"
    ASSIGNED = "IKEv2 assigned it"
    OTHER = "IKEv2 assigned other addresses on its interface"


class Refusal(Enum):
    """Why a connection was not taken. Those of a neighbour's own state are counted with the neighbour."""

    NO_NEIGHBOR = "no such neighbor"
    LIMIT = "listen limit"
    OLDEST = "listen limit, oldest incomplete dropped"
    NOT_ASSIGNED = "not an address that IKEv2 assigned"
    UNROUTED = "no word from routing about its address"
    CROWD = "too many connections at once"
    TALKS = "too many octets before it was let in"


@define(eq=False)
class Waiting:
    """A connection that came before it is known by which interface its far end is reached; what it said until then."""

    vrf: str
    local: bytes
    remote: bytes
    until: float
    octets: bytearray = field(factory=bytearray)


@define(eq=False)
class WaitingRoom:
    """Connections by number, oldest first, and by whose they are. At most MAX_WAITING."""

    _all: dict[int, Waiting] = field(factory=dict)
    _of: dict[PeerKey, dict[int, None]] = field(factory=dict)

    def add(self, connection: int, one: Waiting) -> None:
        self._all[connection] = one
        self._of.setdefault((one.vrf, one.remote), {})[connection] = None

    def get(self, connection: int) -> Waiting | None:
        return self._all.get(connection)

    def pop(self, connection: int) -> Waiting | None:
        one = self._all.pop(connection, None)
        if one is not None:
            same = self._of[one.vrf, one.remote]
            del same[connection]
            if not same:
                del self._of[one.vrf, one.remote]
        return one

    def at(self, key: PeerKey) -> list[int]:
        return list(self._of.get(key, ()))

    def due(self, now: float) -> list[int]:
        """Those that have waited long enough."""
        return list(takewhile(lambda number: self._all[number].until <= now, self._all))

    def deadline(self) -> float | None:
        return next((one.until for one in self._all.values()), None)

    def clear(self) -> list[int]:
        """All of them, forgotten."""
        gone = list(self._all)
        self._all.clear()
        self._of.clear()
        return gone

    def __contains__(self, connection: int) -> bool:
        return connection in self._all

    def __len__(self) -> int:
        return len(self._all)


@define(eq=False)
class Refusals:
    """By reason, and the last ones by (reason, VRF, address): how often, and when last."""

    counts: dict[str, int] = field(factory=dict)
    recent: dict[tuple[Refusal, str, bytes], tuple[int, float]] = field(factory=dict)
    _logged: int = 0
    _since: float = float("-inf")

    def count(self, reason: Refusal, vrf: str, remote: bytes, now: float) -> bool:
        """Whether this one may be logged."""
        self.counts[reason.value] = self.counts.get(reason.value, 0) + 1
        key = (reason, vrf, remote)
        times, _ = self.recent.pop(key, (0, 0.0))
        self.recent[key] = (times + 1, now)
        if len(self.recent) > RECENT:
            del self.recent[next(iter(self.recent))]
        if now - self._since >= LOGGED_EVERY:
            self._since, self._logged = now, 0
        self._logged += 1
        return self._logged <= LOGGED


@define(eq=False)
class Wants:
    """NextHopWanted of two parts of this service: a row stands until neither wants it."""

    tables: set[NextHopKey] = field(factory=set)
    sessions: set[NextHopKey] = field(factory=set)

    def of_tables(self, rows: Mapping[NextHopKey, bool | None]) -> dict[NextHopKey, bool | None]:
        """What of their rows is to be published."""
        return self._merge(self.tables, self.sessions, rows)

    def of_sessions(self, rows: Mapping[NextHopKey, bool | None]) -> dict[NextHopKey, bool | None]:
        return self._merge(self.sessions, self.tables, rows)

    @staticmethod
    def _merge(
        mine: set[NextHopKey], others: set[NextHopKey], rows: Mapping[NextHopKey, bool | None]
    ) -> dict[NextHopKey, bool | None]:
        mine.update(key for key, row in rows.items() if row)
        mine.difference_update([key for key, row in rows.items() if not row])
        return {key: row for key, row in rows.items() if key not in others}


@define(eq=False)
class Bindings:
    """`follow` neighbours, and hear how they stand. Bounded by what IKEv2 assigned, and by the neighbours that are followed.

    As long as nothing is assigned, nothing is asked of routing.
    """

    wants: Wants = field(factory=Wants)
    _assigned: dict[str, dict[bytes, OverlayRow]] = field(factory=dict)
    """Interface -> address -> whose it is."""
    _owners: dict[bytes, dict[str, str]] = field(factory=dict)
    """Address -> interface -> identity."""
    _said: dict[PeerKey, str] = field(factory=dict)
    """By which interface an address is reached, as far as routing has said; also of those that others asked about."""
    _behind: dict[str, set[PeerKey]] = field(factory=dict)
    """Interface -> who is followed and reached by it."""
    _followed: dict[PeerKey, int] = field(factory=dict)
    _at: dict[bytes, set[PeerKey]] = field(factory=dict)
    """Address -> who of these has it, in which VRFs."""
    _rows: dict[NextHopKey, bool | None] = field(factory=dict)

    @property
    def on(self) -> bool:
        return bool(self._assigned)

    def follow(self, key: PeerKey) -> None:
        """As often as `leave`."""
        uses = self._followed.get(key, 0)
        self._followed[key] = uses + 1
        if not uses:
            self._at.setdefault(key[1], set()).add(key)
            self._place(key, None, self._said.get(key))
            if self.on:
                self._rows[NextHopKey(*key)] = True

    def leave(self, key: PeerKey) -> None:
        uses = self._followed.pop(key, 1) - 1
        if uses:
            self._followed[key] = uses
            return
        if (alike := self._at.get(key[1])) is not None:
            alike.discard(key)
            if not alike:
                del self._at[key[1]]
        self._place(key, self._said.get(key), None)
        if self.on:
            self._rows[NextHopKey(*key)] = None

    def rows(self) -> dict[NextHopKey, bool | None]:
        """What is to be published of NextHopWanted since the last time."""
        rows, self._rows = self._rows, {}
        return self.wants.of_sessions(rows) if rows else {}

    def assigned(self, rows: Mapping[tuple[str, bytes], OverlayRow | None]) -> set[PeerKey]:
        """Rows of OverlayState. Answers who may stand otherwise now."""
        was_on = self.on
        found: set[PeerKey] = set()
        for (interface, address), row in rows.items():
            had_any = interface in self._assigned
            self._assign(interface, address, row)
            if had_any != (interface in self._assigned):
                found |= self._behind.get(interface, set())
        if was_on != self.on:
            self._rows.update(dict.fromkeys((NextHopKey(*key) for key in self._followed), self.on or None))
            return set(self._followed)
        return found.union(*(self._at.get(address, ()) for _, address in rows))

    def _assign(self, interface: str, address: bytes, row: OverlayRow | None) -> None:
        if row is not None:
            self._assigned.setdefault(interface, {})[address] = row
            self._owners.setdefault(address, {})[interface] = row.identity
            return
        _discard(self._assigned, interface, address)
        _discard(self._owners, address, interface)

    def routed(self, rows: Mapping[NextHopKey, NextHopRow | None]) -> list[PeerKey]:
        """Rows of NextHopState. Answers who is followed and reached otherwise now."""
        found = []
        for key, row in rows.items():
            peer = (key.vrf, key.address)
            if key != NextHopKey(*peer):
                continue
            before, after = self._said.get(peer), None if row is None else row.interface
            if before == after:
                continue
            if after is None:
                del self._said[peer]
            else:
                self._said[peer] = after
            if peer in self._followed:
                self._place(peer, before, after)
                found.append(peer)
        return found

    def _place(self, key: PeerKey, before: str | None, after: str | None) -> None:
        if before is not None and (behind := self._behind.get(before)) is not None:
            behind.discard(key)
            if not behind:
                del self._behind[before]
        if after is not None:
            self._behind.setdefault(after, set()).add(key)

    def standing(self, key: PeerKey) -> Standing:
        if not self.on:
            return Standing.FREE
        interface = self._said.get(key)
        if interface is None:
            return Standing.UNKNOWN
        assigned = self._assigned.get(interface)
        if not assigned:
            return Standing.FREE
        return Standing.ASSIGNED if key[1] in assigned else Standing.OTHER

    def identity(self, key: PeerKey) -> str:
        """Whose address it is, on the interface that it is reached by; '' if nobody's."""
        row = self._assigned.get(self._said.get(key, ""), {}).get(key[1])
        return "" if row is None else row.identity

    def holds(self, identity: str, address: bytes) -> bool:
        """Whether `address` is `identity`'s still, be it on another interface: a peer that comes anew gets another one."""
        return identity in self._owners.get(address, {}).values()


def _discard(table: dict[_K, dict[_L, _R]], key: _K, inner: _L) -> None:
    rows = table.get(key)
    if rows is not None:
        rows.pop(inner, None)
        if not rows:
            del table[key]
