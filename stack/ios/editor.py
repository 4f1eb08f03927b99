"""Configuration line by line, by mode: what reads a file, and what stands behind `configure terminal`.

A line is tried in the current mode, then in the modes around it; where it fits, the modes inside that one are left. That is
how IOS reads, and it makes indentation meaningless.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

from attrs import define, evolve, field, frozen

from stack.config import Config, NodeConfig
from stack.ios.faults import Wrong, masked
from stack.ios.grammar import CONFIG, INTERFACE_MODE, NO, Draft, Line, Loose, Refusal, later
from stack.ios.syntax import MAX_TOKENS, Ambiguous, Match, Mismatch, Token, Values, clean, tokenise
from stack.ios.table import EXEC, Table

__all__ = ["MAX_LINE", "PATH", "Applied", "Editor", "Frame", "Later", "located"]

MAX_LINE = 4096
"""Characters in a line."""

PATH = " / "
"""Between the lines that lead to a mode."""

_PROMPT = re.compile(r"\s*[A-Za-z][\w.-]{0,62}(?:\(config[\w-]*\)#|[>#])(?=\s|$)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class Frame(NamedTuple):
    """A mode that was entered, by which line, and with what values (its own and those of the modes around it)."""

    mode: str
    values: Values
    header: str = ""


@frozen
class Applied:
    """A line that was taken: by which rows, with what values, in which mode. `path`: the lines that led to the mode."""

    rows: tuple[Line, ...]
    values: Values = field(repr=False)
    negative: bool
    mode: str
    path: str

    @property
    def reason(self) -> str:
        """Why it has no effect ('' if it has)."""
        return "" if any(row.effect for row in self.rows) else self.rows[0].reason

    def text(self) -> str:
        """The line as it would print."""
        return self.rows[0].written({**self.values, NO: self.negative})


@frozen
class Later:
    """A line that belongs to a package that is not here. `under`: one that stands under such a line."""

    row: later
    under: bool


@define(eq=False, repr=False)
class Editor:
    """`feed` takes a line; `config()` gives what was read so far. `frames` empty: configuration was left (`end`)."""

    table: Table
    draft: Draft = field(factory=Draft)
    frames: list[Frame] = field(factory=lambda: [Frame(CONFIG, {})])
    _later: later | None = None
    _opened: dict[tuple[Any, ...], tuple[Line, Values]] = field(factory=dict)

    @classmethod
    def of(cls, config: Config, table: Table | None = None) -> Editor:
        """An editor that changes `config`."""
        return cls(table or Table.installed(), Draft.of(config))

    @property
    def mode(self) -> str:
        return self.frames[-1].mode if self.frames else EXEC

    @property
    def path(self) -> str:
        return PATH.join(frame.header for frame in self.frames if frame.header)

    def prompt(self) -> str:
        """`Router(config-if)#`."""
        hostname = self.draft[NodeConfig].hostname
        if not self.frames:
            return f"{hostname}#"
        mode = self.mode
        if mode == INTERFACE_MODE and "." in self.frames[-1].values["interface"]:
            mode = "config-subif"
        return f"{hostname}({mode})#"

    # --- taking lines -------------------------------------------------------------------------------------------------

    def feed(self, text: str) -> Applied | Later | None:
        """Take one line; None if it says nothing. Raises Wrong, and then nothing of it was taken."""
        line, tokens = _words(text)
        if not tokens:
            return None
        negative = tokens[0].text.lower() == "no" and not tokens[0].quoted and self.frames != []
        words = tokens[1:] if negative else tokens
        if self._later is not None:
            return self._under_later(words, line, negative=negative)
        return self._take(words, line, negative=negative)

    def _take(self, words: list[Token], line: str, *, negative: bool) -> Applied | Later:
        """In the innermost mode that `words` fit; but keywords written in full count before shortened ones further in, so
        that `ip route ...` below an interface is no `ip route-cache`."""
        failed: list[tuple[str, Mismatch]] = []
        short: list[tuple[Match[Line], int]] = []
        ambiguous: list[Ambiguous] = []
        for depth in range(len(self.frames) - 1, -1, -1) if self.frames else (-1,):
            mode = self.frames[depth].mode if self.frames else EXEC
            match = self.table.match(mode, words, line, self._known, negative=negative)
            if isinstance(match, Match):
                if match.full:
                    return self._apply(match, depth, words, negative=negative)
                short.append((match, depth))
            elif isinstance(match, Ambiguous):
                ambiguous.append(match)
            else:
                failed.append((mode, match))
            row = self.table.later(mode, words)
            if row is not None:
                del self.frames[depth + 1 :]
                self._later = row if row.under is not None else None
                return Later(row, under=False)
        if short:
            return self._apply(*short[0], words, negative=negative)
        if ambiguous:
            raise _unclear(ambiguous[0], words)
        raise self._wrong(failed, words, line, negative=negative)

    def _under_later(self, words: list[Token], line: str, *, negative: bool) -> Applied | Later:
        """Below the line of a package that is not here: what we know in full ends it, all else belongs to it."""
        row = self._later
        assert row is not None
        assert row.under is not None
        first = words[0].text.lower() if words else ""
        if first == "exit":
            self._later = None
            return Later(row, under=True)
        if first not in row.under:
            exact = any(
                first == word.text.lower().split()[0] for frame in self.frames for word in self.table.rows[frame.mode]
            )
            if exact or any(self.table.later(frame.mode, words) for frame in self.frames):
                self._later = None
                try:
                    return self._take(words, line, negative=negative)
                except Wrong:
                    if not exact:
                        raise
                    self._later = row
                    raise
        return Later(row, under=True)

    def would_open(self, text: str) -> frozenset[str]:
        """The modes that a line which could not be taken was to open."""
        _, tokens = _words(text)
        return frozenset(mode for frame in self.frames for mode in self.table.opened_by(frame.mode, tokens))

    def belongs(self, text: str, modes: frozenset[str]) -> bool:
        """Whether a line makes sense in one of `modes`, or leaves one."""
        line, tokens = _words(text)
        negative = bool(tokens) and tokens[0].text.lower() == "no"
        words = tokens[1:] if negative else tokens
        return bool(words) and not modes.isdisjoint(self.table.homes(words, line, negative=negative))

    def _known(self, sort: str) -> Collection[str]:
        return self.table.names_of(self.draft, sort)

    def _apply(self, match: Match[Line], depth: int, words: list[Token], *, negative: bool) -> Applied:
        frame = self.frames[depth] if self.frames else Frame(EXEC, {})
        values = {**frame.values, **match.values}
        first = match.rows[0]
        try:
            for row in match.rows:
                if row.refusal and not negative:
                    raise Refusal(row.refusal)
                act = row.undo if negative else row.edit
                if act is not None:
                    act(self.draft, values)
                if negative and row.enters:
                    self.table.drop(row, self.draft, values)
        except Refusal as error:
            start, end = match.spans.get(error.slot, (0, len(words)))
            raise Wrong(str(error), column=words[start].start, width=words[end - 1].end - words[start].start) from None
        except ValueError as error:
            raise Wrong(str(error), column=words[0].start, width=words[-1].end - words[0].start) from None
        path = PATH.join(f.header for f in self.frames[: depth + 1] if f.header)
        applied = Applied(match.rows, values, negative, frame.mode, path)
        del self.frames[depth + 1 :]
        self._note(applied)
        self._move(first, values, negative=negative)
        return applied

    def _note(self, applied: Applied) -> None:
        """Lines without effect are kept, so that they print back; a line and its `no` replace each other."""
        row = applied.rows[0]
        kept = self._kept()
        if row.enters and applied.negative:
            gone = tuple(self._at(applied.path, start) for start in _headers(row, applied.values))
            for text in [text for text in kept if text.startswith(gone)]:
                del kept[text]
        if row.effect or not row.kept or row.refusal:
            return
        text = applied.text()
        bare = text.removeprefix("no ")
        same = (self._at(applied.path, bare), self._at(applied.path, f"no {bare}"))
        for old in [old for old in kept if old.startswith(same) and old[len(same[0]) :].find(PATH) < 0]:
            if any(old == one or old.startswith(f"{one} ") for one in same):
                del kept[old]
        kept[self._at(applied.path, text)] = None

    @staticmethod
    def _at(path: str, text: str) -> str:
        return f"{path}{PATH}{text}" if path else text

    def _kept(self) -> dict[str, None]:
        return self.draft.pile("no effect", lambda: dict.fromkeys(self.draft[NodeConfig].no_effect), _store_no_effect)

    def _move(self, row: Line, values: Values, *, negative: bool) -> None:
        """Enter or leave a mode, if that is what the line is for."""
        if negative:
            return
        if row.leaves:
            self.frames.pop()
        elif row.enters == EXEC:
            self.frames.clear()
        elif row.enters == CONFIG:
            self.frames[:] = [Frame(CONFIG, {})]
        elif row.enters:
            shown = next(iter(row.show(self.draft, values)), {}) if row.show else {}
            self.frames.append(Frame(row.enters, values, row.written({**values, **shown})))
            if row.finish is not None:
                key = (id(row), *(values.get(name) for name in sorted(row.syntax.names)))
                self._opened[key] = (row, values)

    # --- when all is read ---------------------------------------------------------------------------------------------

    def finish(self) -> list[Loose]:
        """Resolve what had to wait for the end of the text. What is returned is wrong."""
        self.draft.settle()
        found = [
            loose for row, values in self._opened.values() if row.finish for loose in row.finish(self.draft, values)
        ]
        self._opened.clear()
        return found

    def config(self) -> Config:
        return self.draft.config()

    # --- help ---------------------------------------------------------------------------------------------------------

    def complete(self, text: str) -> list[str]:
        """Words that may stand where the last word of `text` stands (begun, or empty after a blank)."""
        try:
            line, tokens = _words(text)
        except Wrong:
            return []
        begun = tokens[-1].text.lower() if tokens and not text[-1:].isspace() else ""
        before = tokens[:-1] if begun else tokens
        negative = bool(before) and before[0].text.lower() == "no"
        before = before[1:] if negative else before
        found: set[str] = set()
        for mode in (self.mode, CONFIG) if self.frames else (EXEC,):
            words, _, _ = self.table.expected(mode, before, line, negative=negative)
            found |= {word for word in words if word.lower().startswith(begun)}
            if not before and not negative and self.frames and "no".startswith(begun):
                found.add("no")
            if found:
                break
        return sorted(found)

    def help(self, text: str) -> list[tuple[str, str]]:
        """What `?` after `text` lists: words and other things that may follow, each with what it is for."""
        try:
            line, tokens = _words(text)
        except Wrong:
            return []
        negative = bool(tokens) and tokens[0].text.lower() == "no"
        before = tokens[1:] if negative else tokens
        words, wants, complete = self.table.expected(self.mode, before, line, negative=negative)
        told = [(word, self._told(word, before)) for word in words] + [(f"<{want}>", "") for want in wants]
        return told + ([("<cr>", "")] if complete else [])

    def _told(self, word: str, before: list[Token]) -> str:
        lead = [token.text.lower() for token in before] + [word.lower()]
        helps = {
            row.help
            for row in self.table.rows.get(self.mode, ())
            if [w.lower() for w in row.text.split()][: len(lead)] == lead
        }
        return helps.pop() if len(helps) == 1 else ""

    # --- what to say of a line that fits nowhere --------------------------------------------------------------------------

    def _wrong(self, failed: list[tuple[str, Mismatch]], words: list[Token], line: str, *, negative: bool) -> Wrong:
        mode, miss = max(failed, key=lambda pair: (pair[1].sense, pair[1].at))
        if not words:
            return Wrong("incomplete: `no` what?", column=len(line.rstrip()))
        if miss.at >= len(words):
            return Wrong(
                "incomplete", column=words[-1].end + 1, words=miss.words, wanted=miss.wanted,
            )  # fmt: skip
        token = words[miss.at]
        column, width = token.start, token.end - token.start
        if miss.at == 0:
            candidates = [w for m, _ in failed for w in self.table.expected(m, [], "", negative=negative)[0]]
            homes = [home for home in self.table.homes(words, line, negative=negative) if home not in dict(failed)]
            if homes and not self.frames:
                why = "configuration was left before this line: `configure terminal` enters it again"
                return Wrong(why, column=column, width=width)
            if homes:
                return Wrong(f"this line stands in {' or '.join(homes[:3])}, not here", column=column, width=width)
        else:
            candidates = list(miss.words)
        nearest = get_close_matches(token.text.lower(), [c.lower() for c in candidates], 1, 0.6)
        suggestion = next((c for c in candidates if nearest and c.lower() == nearest[0]), "")
        secret = not masked(line)[token.start : token.end].strip("*")
        text = "what stands here" if secret else repr(token.text)
        why = ("" if secret else miss.problem) or (
            f"{text} is one word too many" if not (miss.words or miss.wanted) and miss.at
            else f"{text} is not known in mode {mode}" if miss.at == 0 else f"{text} does not fit here"
        )  # fmt: skip
        expected = () if miss.at == 0 else miss.words
        wanted = miss.wanted if miss.at else ()
        return Wrong(why, column=column, width=width, words=expected, wanted=wanted, suggestion=suggestion)


def _headers(row: Line, values: Values) -> tuple[str, ...]:
    """How the paths begin of what stands in a mode that `no` takes away; the line may have left out what `no` need not say."""
    try:
        return (row.written(values) + PATH,)
    except ValueError:
        short = row.written({**values, NO: True}).removeprefix("no ")
        return short + PATH, f"{short} "


def _unclear(match: Ambiguous, words: list[Token]) -> Wrong:
    token = words[match.at]
    why = f"{token.text!r} is short for more than one word: {', '.join(match.words)}"
    return Wrong(why, column=token.start, width=token.end - token.start)


def _store_no_effect(draft: Draft, kept: dict[str, None]) -> None:
    draft.put(evolve(draft[NodeConfig], no_effect=tuple(sorted(kept))))


def _words(text: str) -> tuple[str, list[Token]]:
    """The line without its prompt (blanks stand for it, so that columns stay), and its words. Raises Wrong."""
    text = text.rstrip("\r\n")
    if len(text) > MAX_LINE:
        raise Wrong(f"a line has at most {MAX_LINE} characters; this one has {len(text)}", column=MAX_LINE)
    bad = _CONTROL.search(text)
    if bad:
        raise Wrong(f"control character U+{ord(bad[0]):04X}", column=bad.start())
    prompt = _PROMPT.match(text)
    if prompt:
        text = " " * prompt.end() + text[prompt.end() :]
    if text.lstrip().startswith("!"):
        return text, []
    tokens = tokenise(text)
    if len(tokens) > MAX_TOKENS:
        raise Wrong(f"a line has at most {MAX_TOKENS} words", column=tokens[MAX_TOKENS].start)
    return text, tokens


def located(applied: Iterable[tuple[int, Applied]], line: str, under: str = "") -> tuple[int, Applied] | None:
    """The number of the line that prints as `line`, or begins like it, and what it did. `under`: as of Reading.locate."""
    wanted = clean(line)
    for number, one in applied:
        if under and one.path.rpartition(PATH)[2] != under:
            continue
        try:
            text = one.text()
        except ValueError:
            continue
        if text == wanted or text.startswith(wanted + " "):
            return number, one
    return None
