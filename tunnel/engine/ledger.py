"""The tunnel engine's books: what inputs touched since it last settled, and what it has told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field

from stack.events import AdjacencyKey, SaKey, Topic
from tunnel.engine.outputs import Log, Output, Publish

__all__ = ["TELL_EVERY", "Complaints", "Published", "Touched", "drop_from"]

TELL_EVERY = 10.0
"""Seconds between two log lines about the same kind of thing: thousands of tunnels may have the same trouble at once."""


@define
class Complaints:
    """What an operator must hear of: the first at once, then one line every TELL_EVERY seconds, with how many there were.
    `standing`: what was said, or waits to be, and still is so. `subject`: how the line calls what it is about."""

    event: str
    subject: str
    standing: dict[str, str] = field(factory=dict)
    _fresh: dict[str, None] = field(factory=dict)
    _not_before: float | None = None

    def note(self, name: str, reason: str) -> None:
        """`reason` empty: it is well."""
        if self.standing.get(name, "") == reason:
            return
        if reason:
            self.standing[name] = reason
            self._fresh[name] = None
        else:
            del self.standing[name]
            self._fresh.pop(name, None)

    def take(self, now: float) -> list[Output]:
        if self._not_before is not None and now < self._not_before:
            return []
        self._not_before = None
        if not self._fresh:
            return []
        name, count = next(iter(self._fresh)), len(self._fresh)
        self._fresh.clear()
        self._not_before = now + TELL_EVERY
        fields: dict[str, object] = {self.subject: name, "reason": self.standing[name]}
        return [Log(self.event, {**fields, "in_all": count} if count > 1 else fields, "warning")]

    def deadline(self) -> float | None:
        return self._not_before if self._fresh else None


@define
class Published:
    """What a topic's subscribers were told, so that only changes are published."""

    topic: Topic[Any, Any]
    rows: dict[Any, Any] = field(factory=dict)

    def update(self, key: Any, row: Any, into: dict[Any, Any]) -> None:
        if self.rows.get(key) == row:
            return
        if row is None:
            del self.rows[key]
        else:
            self.rows[key] = row
        into[key] = row

    def refresh(self, rows: Iterable[tuple[Any, Any]]) -> list[Output]:
        """These keys have these rows now; the others stay."""
        changed: dict[Any, Any] = {}
        for key, row in rows:
            self.update(key, row, changed)
        return [Publish(self.topic, changed)] if changed else []

    def replace(self, rows: Mapping[Any, Any]) -> list[Output]:
        changed: dict[Any, Any] = {key: None for key in self.rows if key not in rows}
        changed.update((key, row) for key, row in rows.items() if self.rows.get(key) != row)
        self.rows = dict(rows)
        return [Publish(self.topic, changed)] if changed else []


@define
class Touched:
    """What the inputs since the last `settle` have touched."""

    everything: bool = True
    profiles: bool = True
    names: set[str] = field(factory=set)
    """Interfaces: link, neighbours, reception, protection."""
    offers: set[str] = field(factory=set)
    """Interfaces that we may offer."""
    clones: set[str] = field(factory=set)
    keys: set[AdjacencyKey] = field(factory=set)
    receptions: set[str] = field(factory=set)
    sas: set[SaKey] = field(factory=set)
    ends: set[tuple[str, bytes]] = field(factory=set)
    """(transport VRF, address) that became, or ceased to be, the far end of a tunnel."""
    bindings: bool = True
    interfaces: set[str] = field(factory=set)
    """Interfaces whose addresses the host may have to hold."""
    host_ports: bool = True

    @classmethod
    def nothing(cls) -> Touched:
        return cls(everything=False, profiles=False, bindings=False, host_ports=False)


def drop_from(index: dict[Any, set[Any]], key: Any, member: Any) -> None:
    """Take a member out of a set of an index, which goes with its last one."""
    members = index.get(key)
    if members is not None:
        members.discard(member)
        if not members:
            del index[key]
