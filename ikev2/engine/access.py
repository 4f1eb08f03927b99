"""Virtual access interfaces: which number whose is. Lowest free number first, from 1."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from attrs import define, field

from stack.events import AccessRow

__all__ = [
    "MAX_ACCESS",
    "Access",
    "Accesses",
    "access_name",
    "is_access",
    "is_template",
    "template_name",
    "template_number",
]

MAX_ACCESS = 10_000
"""Virtual access interfaces at once."""


_PREFIX, _TEMPLATE = "Virtual-Access", "Virtual-Template"


def access_name(number: int) -> str:
    return f"{_PREFIX}{number}"


def is_access(name: str) -> bool:
    return name.startswith(_PREFIX)


def is_template(name: str) -> bool:
    return name.startswith(_TEMPLATE)


def template_name(number: int) -> str:
    return f"{_TEMPLATE}{number}"


def template_number(name: str) -> int | None:
    number = name.removeprefix(_TEMPLATE)
    return int(number) if number.isdecimal() else None


@define(eq=False)
class Access:
    """`holder`: profile and identity whose it is. `rows`: as each of the peers that use it has it, by its number; during
    make-before-break, or after both ends have called, these are two, the newest last."""

    number: int
    holder: tuple[str, bytes]
    identity: str
    since: float
    rows: dict[int, AccessRow] = field(factory=dict)

    @property
    def name(self) -> str:
        return access_name(self.number)

    @property
    def row(self) -> AccessRow:
        return next(reversed(self.rows.values()))


@define(eq=False)
class Accesses:
    _by_number: dict[int, Access] = field(factory=dict)
    _by_holder: dict[tuple[str, bytes, str], Access] = field(factory=dict)
    """One for each holder and template."""
    _freed: list[int] = field(factory=list)
    _next: int = 1

    def __iter__(self) -> Iterator[Access]:
        return iter(sorted(self._by_number.values(), key=lambda access: access.number))

    def __len__(self) -> int:
        return len(self._by_number)

    def get(self, name: str) -> Access | None:
        number = name.removeprefix(_PREFIX)
        return self._by_number.get(int(number)) if number.isdecimal() else None

    def take(
        self, holder: tuple[str, bytes], user: int, row: AccessRow, identity: str, now: float, *, name: str = ""
    ) -> Access | None:
        """The interface that `holder` has of that template, or a new one; `row` is `user`'s. None: there are too many. `name`:
        as an earlier incarnation had it."""
        access = self._by_holder.get((*holder, row.template))
        if access is None:
            if len(self) >= MAX_ACCESS:
                return None
            number = int(name.removeprefix(_PREFIX)) if name else self._lowest()
            access = Access(number, holder, identity, now)
            self._by_holder[*holder, row.template] = self._by_number[number] = access
        access.rows[user] = row
        return access

    def release(self, name: str, user: int) -> Access | None:
        """The interface, if nobody uses it now: it is gone."""
        access = self.get(name)
        row = access.rows.pop(user, None) if access is not None else None
        if access is None or row is None or access.rows:
            return None
        del self._by_number[access.number], self._by_holder[*access.holder, row.template]
        heapq.heappush(self._freed, access.number)
        return access

    def _lowest(self) -> int:
        while self._freed:
            number = heapq.heappop(self._freed)
            if number < self._next and number not in self._by_number:
                return number
        while self._next in self._by_number:
            self._next += 1
        number, self._next = self._next, self._next + 1
        return number
