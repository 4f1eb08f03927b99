"""Local labels: FECs wanted from the label allocator as state, and what it bound."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from attrs import define, field

from bgp.engine.rib.scopes import OPEN
from stack.addr import Fec
from stack.events import LabelRequest, LabelRow

__all__ = ["Labels"]


@define(eq=False)
class Labels:
    """FEC -> who uses it here and what it is for. `rows` collects what to publish as LabelWanted.

    Rows of LabelBound are kept whoever asked for them: after a restart of bgp they come before it asks again. `scope`: by what
    labels of ours may arrive.
    """

    scope: frozenset[str] = OPEN

    bound: dict[Fec, LabelRow] = field(factory=dict)
    users: dict[Fec, set[Hashable]] = field(factory=dict)
    rows: dict[Fec, LabelRequest | None] = field(factory=dict)
    changed: dict[Fec, None] = field(factory=dict)
    _requests: dict[Fec, LabelRequest] = field(factory=dict)

    def want(self, fec: Fec, request: LabelRequest, user: Hashable) -> LabelRow | None:
        """`user` uses `fec`; returns its label row if there is one yet."""
        self.users.setdefault(fec, set()).add(user)
        if self._requests.get(fec) != request:
            self._requests[fec] = self.rows[fec] = request
        return self.bound.get(fec)

    def set_scope(self, scope: frozenset[str]) -> None:
        """The label allocator is told anew of every label."""
        if scope == self.scope:
            return
        self.scope = scope
        for fec, request in self._requests.items():
            self._requests[fec] = self.rows[fec] = request._replace(scope=scope)

    def release(self, fec: Fec, user: Hashable) -> None:
        users = self.users.get(fec)
        if users is None:
            return
        users.discard(user)
        if not users:
            del self.users[fec]
            self._requests.pop(fec, None)
            self.rows[fec] = None
            if (row := self.bound.get(fec)) is not None and row.label is None:
                del self.bound[fec]

    def receive(self, rows: Mapping[Fec, LabelRow | None]) -> None:
        for fec, row in rows.items():
            if row is None:
                self.bound.pop(fec, None)
                if fec in self.users:  # what was advertised with it must go: it may soon be somebody else's
                    self.bound[fec] = LabelRow(None, "the label was taken back")
            else:
                self.bound[fec] = row
            if fec in self.users:
                self.changed[fec] = None

    def request(self, fec: Fec) -> LabelRequest | None:
        """What `fec` was wanted for."""
        return self._requests.get(fec)

    def label(self, fec: Fec) -> int | None:
        row = self.bound.get(fec)
        return None if row is None else row.label
