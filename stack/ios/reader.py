"""IOS-style text in, the typed configuration out: all of it, or a ConfigError that names every fault."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import define, evolve, field, frozen

from stack.config import Config
from stack.ios.editor import Applied, Editor, Later, located
from stack.ios.faults import ConfigError, Fault, Wrong, masked
from stack.ios.grammar import Finding
from stack.ios.syntax import clean
from stack.ios.table import Table

__all__ = ["MAX_LINES", "ConfigError", "Fault", "NoEffect", "Reading", "read"]

MAX_LINES = 1_000_000
MAX_FAULTS = 1000
"""After so many the rest of the text is not looked at."""

MAX_BANNER = 1000
"""Characters of a banner of several lines that are read."""

_BANNER = re.compile(
    r"\s*banner\s+(?:(?:motd|login|exec|incoming|prompt-timeout|slip-ppp)\s+)?(\^C|[^\sA-Za-z0-9])(.*)", re.DOTALL
)


@frozen
class NoEffect:
    """A line that is real IOS, taken, and does nothing here."""

    number: int
    mode: str
    line: str = field(repr=False)
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: `{masked(self.line)}` has no effect: {self.reason}"


@frozen
class Reading:
    """What a text says. `warnings` are what reading itself noticed; stack.ios.checks finds the rest, and `locate` tells it
    where."""

    config: Config
    warnings: tuple[Finding, ...] = ()
    no_effect: tuple[NoEffect, ...] = ()
    _applied: tuple[tuple[int, Applied], ...] = field(default=(), repr=False)

    def locate(self, line: str, under: str = "") -> int | None:
        """The number of the line that prints as `line`, or begins so, in the mode that `under` entered (or any); None if
        there is none."""
        found = located(self._applied, line, under)
        return found[0] if found else None

    def renumbered(self, numbers: Sequence[int]) -> Reading:
        """The same, for a text whose line N was made from line `numbers[N - 1]` of another."""
        applied = tuple((numbers[number - 1], one) for number, one in self._applied)
        no_effect = tuple(evolve(one, number=numbers[one.number - 1]) for one in self.no_effect)
        return evolve(self, applied=applied, no_effect=no_effect)

    @property
    def numbers(self) -> frozenset[int]:
        """Numbers of all lines that were taken."""
        return frozenset(number for number, _ in self._applied)


def read(
    text: str, source: str = "<text>", specs: Iterable[Any] | None = None, *, table: Table | None = None
) -> Reading:
    """Read a whole configuration. `specs`: the services whose lines are understood (None: every installed one), or a
    `table` made of them. Raises ConfigError."""
    pass_ = _Pass(source, Editor(table or Table.from_specs(specs)))
    pass_.run(text)
    return pass_.reading()


@define
class _Pass:
    """One text being read."""

    source: str
    editor: Editor
    faults: list[Fault] = field(factory=list)
    applied: list[tuple[int, Applied]] = field(factory=list)
    no_effect: list[NoEffect] = field(factory=list)
    lines: dict[int, str] = field(factory=dict)
    lost: frozenset[str] = frozenset()
    """Modes that a faulty line was to open: what belongs there and fits nowhere else goes with it."""
    lost_at: int = 0

    def run(self, text: str) -> None:
        for number, line in self._lines(text):
            self._line(number, line)
            if len(self.faults) >= MAX_FAULTS or number > MAX_LINES:
                self._fault(number, line, Wrong("reading stops here: too many faults, or lines"))
                break
        for loose in self.editor.finish():
            number, one = located(self.applied, loose.line) or (0, None)
            line = self.lines.get(number, loose.line)
            wrong = Wrong(loose.why, column=len(line) - len(line.lstrip()), width=len(line.strip()))
            self._fault(number, line, wrong, one)

    def reading(self) -> Reading:
        if self.faults:
            raise ConfigError(tuple(sorted(self.faults, key=lambda fault: fault.number)))
        return Reading(self.editor.config(), (), tuple(self.no_effect), tuple(self.applied))

    def _lines(self, text: str) -> Iterator[tuple[int, str]]:
        """Numbered lines. A banner that spans several is one, as much of it as a line can hold."""
        lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        at = 0
        while at < len(lines):
            number, line = at + 1, lines[at]
            at += 1
            banner = _BANNER.fullmatch(line)
            if banner and banner[1] not in banner[2]:
                end = next((i for i in range(at, len(lines)) if banner[1] in lines[i]), None)
                if end is None:
                    self._fault(number, line, Wrong(f"the banner does not end: {banner[1]!r} does not come again"))
                    return
                said = " ".join((banner[2], *lines[at:end], lines[end].partition(banner[1])[0]))
                line = f"{line[: banner.start(2)]} {clean(' '.join(said.split())[:MAX_BANNER])} {banner[1]}"
                at = end + 1
            if banner:
                line = line.replace("\x03", "^C")
            yield number, line

    def _line(self, number: int, line: str) -> None:
        if self.lost and line.split() == ["exit"]:
            self._goes_with(number)
            return
        try:
            taken = self.editor.feed(line)
        except Wrong as wrong:
            self._wrong(number, line, wrong)
            return
        if taken is not None:
            self.lost = frozenset()
        if isinstance(taken, Later):
            self._later(number, line, taken)
        elif taken is not None:
            self.applied.append((number, taken))
            self.lines[number] = line
            if taken.reason:
                self.no_effect.append(NoEffect(number, taken.mode, line.strip(), taken.reason))

    def _wrong(self, number: int, line: str, wrong: Wrong) -> None:
        try:
            if self.lost and self.editor.belongs(line, self.lost):
                self._goes_with(number)
                return
            opens = self.editor.would_open(line)
        except Wrong:  # no line at all: too long, say
            opens = frozenset()
        self._fault(number, line, wrong)
        if self._recover(line, wrong):
            self.lost = frozenset()
        elif opens:
            self.lost, self.lost_at = opens, len(self.faults) - 1

    def _goes_with(self, number: int) -> None:
        header = self.faults[self.lost_at]
        self.faults[self.lost_at] = evolve(header, also=(*header.also, number))

    def _later(self, number: int, line: str, taken: Later) -> None:
        if taken.under and self.faults:
            last = self.faults[-1]
            self.faults[-1] = evolve(last, also=(*last.also, number))
            return
        start = len(line) - len(line.lstrip())
        why = f"not in this release: `{taken.row.start}` belongs to {taken.row.package}"
        self._fault(number, line, Wrong(why, column=start, width=len(line.strip())))

    def _recover(self, line: str, wrong: Wrong) -> bool:
        """Read on as if the suggestion had been written, so that one typing error is one fault. The configuration is lost
        anyway."""
        if not wrong.suggestion:
            return False
        mended = line[: wrong.column] + wrong.suggestion + line[wrong.column + wrong.width :]
        try:
            self.editor.feed(mended)
        except Wrong:
            return False
        return True

    def _fault(self, number: int, line: str, wrong: Wrong, where: Applied | None = None) -> None:
        self.faults.append(
            Fault(
                source=self.source,
                number=number,
                mode=where.mode if where else self.editor.mode,
                path=where.path if where else self.editor.path,
                line=line,
                column=wrong.column,
                width=wrong.width,
                why=wrong.why,
                expected=wrong.expected,
                suggestion=wrong.suggestion,
            )
        )
