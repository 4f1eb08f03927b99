"""Local labels: FECs wanted from the label allocator as state, and what it bound."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from attrs import define, field

from bgp.engine.rib.scopes import OPEN, PROTECTED
from stack.addr import Fec
from stack.events import LabelRequest, LabelRow

__all__ = ["Labels"]


@define(eq=False)
class Labels:
    """FEC -> who uses it here and what it is for. `rows` collects what to publish as LabelWanted.

    Rows of LabelBound are kept whoever asked for them: after a restart of bgp they come before it asks again. By what labels
    may arrive: `common`, of all; or `given`, of those that it has, while they differ. `stood`: what was in force before a
    restart of bgp, which stays so until neighbours had time to come back: labels that they were given are still in use.
    `before_only`: nothing else is known yet.
    """

    common: frozenset[str] = OPEN
    given: dict[Fec, frozenset[str]] | None = None
    stood: dict[Fec, frozenset[str]] = field(factory=dict)
    before_only: bool = False

    bound: dict[Fec, LabelRow] = field(factory=dict)
    users: dict[Fec, set[Hashable]] = field(factory=dict)
    rows: dict[Fec, LabelRequest | None] = field(factory=dict)
    changed: dict[Fec, None] = field(factory=dict)
    _requests: dict[Fec, LabelRequest] = field(factory=dict)

    def want(self, fec: Fec, request: LabelRequest, user: Hashable) -> LabelRow | None:
        """`user` uses `fec`; returns its label row if there is one yet."""
        self.users.setdefault(fec, set()).add(user)
        request = request._replace(scope=self.scope(fec))
        if self._requests.get(fec) != request:
            self._requests[fec] = self.rows[fec] = request
        return self.bound.get(fec)

    def scope(self, fec: Fec) -> frozenset[str]:
        """By which kinds of ingress the label of `fec` may arrive."""
        now = self.common if self.given is None else self.given.get(fec, PROTECTED)
        before = self.stood.get(fec)
        if before is not None and self.before_only:
            return before
        return now if before is None or before <= now else now | before

    def set_scope(self, scope: frozenset[str]) -> None:
        """All labels have the same."""
        if self.given is None and scope == self.common:
            return
        self.common, self.given = scope, None
        self._tell(self._requests)

    def set_given(self, given: dict[Fec, frozenset[str]]) -> None:
        """Each has its own; those that are missing, that of protected tunnels."""
        self.given = given
        self._tell(self._requests)

    def give(self, scopes: Mapping[Fec, frozenset[str]]) -> None:
        """Some have another one now."""
        if self.given is not None:
            self.given.update((fec, scope) for fec, scope in scopes.items() if fec in self.users)
            self._tell(scopes)

    def look_again(self) -> None:
        """At those that stood before a restart."""
        self._tell(self.stood)

    def forget_before(self) -> None:
        """What was in force before the restart counts no more."""
        stood, self.stood = self.stood, {}
        self._tell(stood)

    def _tell(self, fecs: Iterable[Fec]) -> None:
        """The label allocator hears of those whose scope is another one."""
        for fec in list(fecs):
            request = self._requests.get(fec)
            if request is not None and request.scope != (scope := self.scope(fec)):
                self._requests[fec] = self.rows[fec] = request._replace(scope=scope)

    def release(self, fec: Fec, user: Hashable) -> None:
        users = self.users.get(fec)
        if users is None:
            return
        users.discard(user)
        if not users:
            del self.users[fec]
            self._requests.pop(fec, None)
            if self.given is not None:
                self.given.pop(fec, None)
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
