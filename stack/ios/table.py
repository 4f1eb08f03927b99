"""All grammar rows of a node together: the floor's and those of every package, by mode."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import takewhile
from typing import Any

from attrs import define, field

from stack.ios.grammar import CONFIG, Draft, Line, Place, Sections, later
from stack.ios.kinds import Shape
from stack.ios.syntax import Alternative, Ambiguous, Known, Match, Mismatch, Slot, Token, Tree, Values, Word

__all__ = ["EXEC", "Table", "end_row", "exit_row"]

EXEC = "exec"
"""The mode after `end`, in which text may only go back to CONFIG."""


def _nothing(_draft: Draft, _values: Values) -> None:
    return None


def exit_row(mode: str) -> Line:
    return Line((mode,), "exit", "leave this mode", edit=_nothing, leaves=True)


def end_row(mode: str) -> Line:
    return Line((mode,), "end", "leave configuration", edit=_nothing, enters=EXEC)


@define(eq=False, repr=False)
class Table:
    """`rows` of a mode in printing order. `names`: sort of name -> the place and slot of the rows that make such names."""

    rows: dict[str, list[Line]] = field(factory=dict)
    laters: list[later] = field(factory=list)
    names: dict[str, list[tuple[Place[Any], str]]] = field(factory=dict)
    _trees: dict[str, Tree[Line]] = field(factory=dict)
    _negative: dict[str, Tree[Line]] = field(factory=dict)
    _places: dict[str, list[Place[Any]]] = field(factory=dict)

    @classmethod
    def of(cls, lines: Iterable[Line], laters: Iterable[later] = ()) -> Table:
        table = cls()
        for line in lines:
            table._add(line)
        for mode in list(table.rows):
            if mode != EXEC:
                table._add(exit_row(mode))
                table._add(end_row(mode))
            table.rows[mode].sort(key=lambda row: row.order)
        table.laters = [row for row in laters if not table._superseded(row)]
        return table

    @classmethod
    def installed(cls) -> Table:
        """The rows of every installed service."""
        return _installed()

    @classmethod
    def from_specs(cls, specs: Iterable[Any] | None) -> Table:
        """The floor's rows and those of `specs` (ServiceSpec); None: of every installed service."""
        if specs is None:
            return _installed()
        from stack.ios.node_lines import LATER, LINES

        unique = dict.fromkeys(line for spec in specs for line in spec.lines)
        return cls.of([*LINES, *unique], LATER)

    def _add(self, line: Line) -> None:
        for mode in line.modes:
            self.rows.setdefault(mode, []).append(line)
            if line.edit is not None or line.refusal:
                self._trees.setdefault(mode, Tree()).add(line.syntax, line)
            if line.undo is not None:
                self._negative.setdefault(mode, Tree()).add(line.no_syntax, line)
        place = line.place
        if place is not None and place.mode and place not in self._places.setdefault(place.mode, []):
            self._places[place.mode].append(place)
        if line.enters and place is not None and CONFIG in line.modes:
            for slot in {e for alternative in line.syntax.alternatives for e in alternative if isinstance(e, Slot)}:
                if slot.kind.shape is Shape.NAME:
                    self.names.setdefault(slot.sort, []).append((place, slot.name))

    def _superseded(self, row: later) -> bool:
        """Whether a package brings rows that begin as `row` says."""
        start = tuple(row.start.lower().split())
        for mode in row.modes:
            for line in self.rows.get(mode, ()):
                words = tuple(line.text.lower().split())
                if line.effect and words[: len(start)] == start:
                    return True
        return False

    def __repr__(self) -> str:
        return f"Table({len(self.rows)} modes, {sum(map(len, self.rows.values()))} rows)"

    # --- look-ups ---------------------------------------------------------------------------------------------------

    @property
    def modes(self) -> Collection[str]:
        return self.rows.keys()

    def match(
        self, mode: str, tokens: list[Token], line: str, known: Known | None = None, *, negative: bool = False
    ) -> Match[Line] | Mismatch | Ambiguous:
        """How `tokens` (without the `no` if `negative`) are to be read in `mode`."""
        tree = (self._negative if negative else self._trees).get(mode)
        return Mismatch(0, (), ()) if tree is None else tree.match(tokens, line, known)

    def expected(
        self, mode: str, tokens: list[Token], line: str, *, negative: bool = False
    ) -> tuple[list[str], list[str], bool]:
        tree = (self._negative if negative else self._trees).get(mode)
        return ([], [], False) if tree is None else tree.expected(tokens, line)

    def later(self, mode: str, tokens: list[Token]) -> later | None:
        """The row of a package that is not here, that `tokens` begin like."""
        words = tuple(token.text.lower() for token in tokens)
        for row in self.laters:
            start = tuple(row.start.lower().split())
            if mode in row.modes and words[: len(start)] == start:
                return row
        return None

    def drop(self, line: Line, draft: Draft, values: Values) -> None:
        """Remove what the mode that `line` enters is about, from every package."""
        for place in self._places.get(line.enters, ()):
            if place.drop is not None and place is not line.place:
                place.drop(draft, values)

    def names_of(self, sections: Sections, sort: str) -> frozenset[str]:
        """All names of one sort (`vrf`, `profile`, `route-map`)."""
        return frozenset(
            str(values[slot])
            for place, slot in self.names.get(sort, ())
            for values in place.keys(sections, {})
            if slot in values
        )

    def closing(self, mode: str) -> str:
        """The line that ends `mode` when it is printed ('' if none is needed)."""
        return next((row.text for row in self.rows.get(mode, ()) if row.leaves and row.text != "exit"), "")

    def opened_by(self, mode: str, tokens: list[Token]) -> frozenset[str]:
        """The mode that a line of `mode` enters whose keywords `tokens` begin with, and the modes inside it."""
        said = [token.text.lower() for token in tokens]
        found = {
            row.enters
            for row in self.rows.get(mode, ())
            if row.enters not in {"", EXEC, CONFIG} and any(_leads(one, said) for one in row.syntax.alternatives)
        }
        inside = {row.enters for one in found for row in self.rows.get(one, ()) if row.enters not in {"", EXEC, CONFIG}}
        return frozenset(found | inside)

    def homes(self, tokens: list[Token], line: str, *, negative: bool = False) -> list[str]:
        """The modes in which `tokens` make sense."""
        return [
            mode
            for mode in self.rows
            if mode != EXEC and isinstance(self.match(mode, tokens, line, negative=negative), Match)
        ]


def _leads(alternative: Alternative, said: list[str]) -> bool:
    """Whether a line begins with all the keywords that come before the row's first value."""
    first = takewhile(lambda element: isinstance(element, Word), alternative)
    keywords = [element.text.lower() for element in first if isinstance(element, Word)]
    return bool(keywords) and said[: len(keywords)] == keywords


@lru_cache(maxsize=1)
def _installed() -> Table:
    from stack.registry import load_specs

    return Table.from_specs(load_specs())
