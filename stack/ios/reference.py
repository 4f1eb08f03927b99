"""The reference part of docs/configuration.md, made from the grammar table: every mode, line, refusal and limit.

`python -m stack.ios.reference docs/configuration.md` writes it anew below the marker; a test keeps it true.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from stack.ios.commands import MAX_COMMAND
from stack.ios.editor import MAX_LINE
from stack.ios.faults import MAX_SHOWN
from stack.ios.grammar import Line
from stack.ios.reader import MAX_FAULTS, MAX_LINES
from stack.ios.syntax import MAX_TOKENS
from stack.ios.table import EXEC, Table

__all__ = ["MARKER", "reference"]

MARKER = "<!-- made by stack.ios.reference from the grammar table: do not edit below -->"

_SLOT = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")


def reference(table: Table) -> str:
    """Markdown: modes with their lines, lines without effect, refused lines, lines of packages to come, limits."""
    return "\n".join([MARKER, "", *_modes(table), *_idle(table), *_refused(table), *_later(table), *_limits()])


def _shown(line: Line, *, text: str = "") -> str:
    """A row's syntax as documentation shows it: slots in capitals, without their kinds."""

    def slot(match: re.Match[str]) -> str:
        what = match[2] or ""
        if what.startswith("="):
            return what[1:]
        if "|" in what:
            words = dict.fromkeys(choice.partition("=")[0] for choice in what.split("|"))
            return "{" + " | ".join(words) + "}"
        return match[1].upper().replace("_", "-")

    return re.sub(r"\s*\|\s*", " | ", _SLOT.sub(slot, text or line.text))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _modes(table: Table) -> Iterator[str]:
    yield "## Modes and lines"
    for mode, rows in table.rows.items():
        if mode == EXEC:
            continue
        lines = [row for row in rows if row.effect and row.text not in ("exit", "end") and (row.edit or row.undo)]
        entered = [row for other in table.rows.values() for row in other if row.enters == mode]
        yield from ("", f"### `{mode}`", "")
        ways = ", ".join(dict.fromkeys(f"`{_shown(row)}`" for row in entered if row.effect))
        if ways:
            yield from (f"Entered by {ways}.", "")
        yield from ("| line | |", "|---|---|")
        for row in dict.fromkeys(lines):
            yield f"| `{_cell(_shown(row))}` | {_cell(_note(row))} |"


def _note(row: Line) -> str:
    if row.edit is None:
        return f"with `no`: {row.help}"
    return row.help if row.undo is not None or row.leaves else f"{row.help}; cannot be undone by `no`"


def _idle(table: Table) -> Iterator[str]:
    yield from ("", "## Lines that are taken and do nothing", "", "| mode | line | why |", "|---|---|---|")
    for mode, rows in table.rows.items():
        for row in rows:
            if not row.effect and not row.refusal:
                only = "no " if row.edit is None else ""
                either = "[no] " if row.edit is not None and row.undo is not None else ""
                yield f"| `{mode}` | `{either}{only}{_cell(_shown(row))}` | {row.reason} |"


def _refused(table: Table) -> Iterator[str]:
    yield from ("", "## Lines that are refused", "", "| mode | line | why |", "|---|---|---|")
    for mode, rows in table.rows.items():
        for row in rows:
            if row.refusal:
                yield f"| `{mode}` | `{_cell(_shown(row))}` | {_cell(row.refusal)} |"


def _later(table: Table) -> Iterator[str]:
    if not table.laters:
        return
    yield from (
        "",
        "## Lines of packages that this release does not have",
        "",
        "| lines that begin with | belong to |",
        "|---|---|",
    )
    for row in table.laters:
        yield f"| `{row.start}` (in {', '.join(f'`{mode}`' for mode in row.modes)}) | {row.package} |"


def _limits() -> Iterator[str]:
    yield from ("", "## Limits", "", "| what | at most |", "|---|---|")
    yield f"| lines of a configuration | {MAX_LINES:,} |"
    yield f"| characters of a line | {MAX_LINE:,} |"
    yield f"| words of a line | {MAX_TOKENS} |"
    yield f"| characters of a command | {MAX_COMMAND:,} |"
    yield f"| faults that are looked for in one text | {MAX_FAULTS:,} |"
    yield f"| faults that a message spells out | {MAX_SHOWN} |"
    yield ""


def main(path: str) -> None:
    """Write the reference anew into the document at `path`."""
    document = Path(path)
    head = document.read_text().partition(MARKER)[0]
    document.write_text(head + reference(Table.installed()))


if __name__ == "__main__":
    main(sys.argv[1])
