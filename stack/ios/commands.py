"""Exec commands: a typed line to a `Command` and its values, and what the pipes after it make of the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

from attrs import evolve, field, frozen

from stack.ios.command import Command, CommandError, Shown
from stack.ios.syntax import MAX_TOKENS, Ambiguous, Mismatch, Syntax, Token, Tree, Values, clean, tokenise

__all__ = ["MAX_COMMAND", "Interpreter", "Names", "Resolved", "neutral"]

MAX_COMMAND = 1000
"""Characters in a command line."""

MAX_PATTERN = 100
MAX_SEARCHED = 300
"""Characters of a pattern, and of a line that it is held against: patterns come from users, and time is the protocols'."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_QUANTIFIER = re.compile(r"(?<!\\)[*+?{]")
_REPEATED_GROUP = re.compile(r"(?<!\\)\)[*+?{]")

MAX_EXPECTED = 12
"""Words that a message lists; the rest are counted."""

Finish = Callable[[Shown], Shown]


@frozen
class Names:
    """What exists now, so that names with blanks can be told from the words after them."""

    vrfs: Collection[str] = ()
    interfaces: Collection[str] = ()
    config: Any = None

    def known(self, sort: str) -> Collection[str]:
        """Names of one sort: VRFs, interfaces, or what a section of the configuration keeps by name (`profile` in a
        mapping called `profiles`)."""
        if sort == "vrf":
            return (*self.vrfs, "default")
        if sort == "interface":
            return self.interfaces
        shelf = f"{sort.replace('-', '_')}s"
        sections = getattr(self.config, "sections", {}).values()
        return frozenset(name for section in sections for name in getattr(section, shelf, ()) if isinstance(name, str))


def _all(commands: Iterable[Command]) -> tuple[Command, ...]:
    return tuple(commands)


class Resolved(NamedTuple):
    """`finish` applies the pipes to what the command shows."""

    command: Command
    values: Values
    finish: Finish


def neutral(text: str) -> str:
    """`text` without anything that could drive a terminal: peers choose some of the names that are shown."""
    return _CONTROL.sub("?", text)


@frozen
class Interpreter:
    """`commands` in any order; `names` is asked anew for each line. Raises ValueError if a command's syntax is none."""

    commands: tuple[Command, ...] = field(converter=_all)
    names: Callable[[], Names] = Names
    _tree: Tree[Command] = field(init=False, eq=False, repr=False)

    @_tree.default
    def _grown(self) -> Tree[Command]:
        tree = Tree[Command]()
        for command in self.commands:
            tree.add(Syntax.parse(command.syntax), command)
        return tree

    def resolve(self, line: str) -> Resolved:
        """The command that `line` is, in full or abbreviated. Raises CommandError, which shows the word in question."""
        if line.endswith("?"):
            return self._asked(line)
        tokens, finish = self._piped(line)
        if not tokens:
            raise CommandError("a command is wanted; `?` lists them")
        match = self._tree.match(tokens, line, self.names().known)
        if isinstance(match, Ambiguous):
            token = tokens[match.at]
            short = f"{token.text!r} is short for more than one word: {', '.join(match.words)}"
            raise CommandError(_pointed(line, token.start, token.end, short))
        if isinstance(match, Mismatch):
            raise CommandError(_explained(line, tokens, match))
        return Resolved(match.rows[0], match.values, finish)

    def _asked(self, line: str) -> Resolved:
        """`?` after what was typed: what may follow it, or complete its last word."""
        before = line[:-1]
        self._piped(before)  # refuses what is too long or no text
        if before and not before[-1].isspace():
            *lead, _ = before.split(" ")
            whole = " ".join([*lead, ""]) if lead else ""
            told = [(word, why) for word, why in self.help(whole) if word in self.complete(before)]
        else:
            told = self.help(before)
        if not told:
            raise CommandError(f"nothing is known that begins with {clean(before)!r}")
        width = max(len(word) for word, _ in told)
        shown = Shown(
            "\n".join(f"  {word:<{width}}  {why}".rstrip() for word, why in told), [list(row) for row in told]
        )
        return Resolved(Command("?", lambda _scene, _values: shown), {}, _plain)

    def complete(self, text: str) -> list[str]:
        """Words that may stand where the last word of `text` stands (begun, or empty after a blank)."""
        tokens = tokenise(text[:MAX_COMMAND])
        begun = tokens[-1].text.lower() if tokens and not text[-1:].isspace() else ""
        words, _, _ = self._tree.expected(tokens[:-1] if begun else tokens, text)
        return [word for word in words if word.lower().startswith(begun)]

    def help(self, text: str) -> list[tuple[str, str]]:
        """What `?` after `text` lists: what may follow, and what the commands that begin so are for."""
        tokens = tokenise(text[:MAX_COMMAND])
        words, wants, complete = self._tree.expected(tokens, text)
        lead = [token.text.lower() for token in tokens]
        found = []
        for word in words:
            wanted = [*lead, word.lower()]
            helps = {c.help for c in self.commands if c.syntax.lower().split()[: len(wanted)] == wanted}
            found.append((word, helps.pop() if len(helps) == 1 else ""))
        found += [(f"<{want}>", "") for want in wants]
        return found + ([("<cr>", "")] if complete else [])

    def _piped(self, line: str) -> tuple[list[Token], Finish]:
        if len(line) > MAX_COMMAND:
            raise CommandError(f"a command has at most {MAX_COMMAND} characters; this one has {len(line)}")
        bad = _CONTROL.search(line)
        if bad:
            raise CommandError(f"control character U+{ord(bad[0]):04X} in column {bad.start() + 1}")
        tokens = tokenise(line)
        if len(tokens) > MAX_TOKENS:
            raise CommandError(f"a command has at most {MAX_TOKENS} words")
        at = next((i for i, token in enumerate(tokens) if token.text.startswith("|") and not token.quoted), None)
        if at is None:
            return tokens, _plain
        return tokens[:at], _pipe(line, tokens[at].start)


def _plain(shown: Shown) -> Shown:
    return evolve(shown, text=neutral(shown.text))


def _as_json(shown: Shown) -> Shown:
    return evolve(shown, text=shown.json)


def _pipe(line: str, at: int) -> Finish:
    """What stands after `|`. Raises CommandError."""
    word, _, rest = line[at + 1 :].strip().partition(" ")
    pattern_text = rest.strip()
    choices = ("include", "exclude", "begin", "json")
    fitting = [choice for choice in choices if word and choice.startswith(word.lower())]
    if len(fitting) != 1 or (fitting == ["json"]) == bool(pattern_text):
        wanted = "`| include PATTERN`, `| exclude PATTERN`, `| begin PATTERN` or `| json`"
        raise CommandError(_pointed(line, at, len(line), f"{wanted} is expected here"))
    if fitting == ["json"]:
        return _as_json
    return _filter(fitting[0], _pattern(pattern_text))


def _pattern(text: str) -> re.Pattern[str]:
    """Only patterns that cannot take long: no repeated groups, and at most three repetitions."""
    if len(text) > MAX_PATTERN or _REPEATED_GROUP.search(text) or len(_QUANTIFIER.findall(text)) > 3:
        raise CommandError(
            f"a pattern has at most {MAX_PATTERN} characters and three repetitions, and repeats no group"
        )
    try:
        return re.compile(text)
    except re.error as error:
        raise CommandError(f"{text!r} is no regular expression: {error}") from None


def _filter(how: str, pattern: re.Pattern[str]) -> Finish:
    def finish(shown: Shown) -> Shown:
        lines = neutral(shown.text).split("\n")
        hits = [pattern.search(line[:MAX_SEARCHED]) is not None for line in lines]
        if how == "begin":
            first = hits.index(True) if True in hits else len(lines)
            kept = lines[first:]
        else:
            kept = [line for line, hit in zip(lines, hits, strict=True) if hit == (how == "include")]
        return evolve(shown, text="\n".join(kept))

    return finish


# --- what is wrong with a line ------------------------------------------------------------------------------------------


def _pointed(line: str, start: int, end: int, why: str) -> str:
    return f"{clean(line)}\n{' ' * start}{'^' * max(1, end - start)}\n{clean(why)}"


def _explained(line: str, tokens: list[Token], miss: Mismatch) -> str:
    could = [*sorted(miss.words), *miss.wanted]
    more = len(could) - MAX_EXPECTED
    expected = ", ".join(could[:MAX_EXPECTED]) + (f", or {more} others" if more > 0 else "")
    if miss.at >= len(tokens):
        end = tokens[-1].end + 1
        return _pointed(line, end, end + 1, f"incomplete; expected: {expected}")
    token = tokens[miss.at]
    near = get_close_matches(token.text.lower(), [word.lower() for word in miss.words], 1, 0.6)
    why = miss.problem or f"{token.text!r} does not fit here"
    text = f"{why}; expected: {expected}" if expected else f"{why}: the command ends before it"
    suggestion = next((word for word in miss.words if near and word.lower() == near[0]), "")
    told = f"\ndid you mean `{suggestion}`?" if suggestion else ""
    return _pointed(line, token.start, token.end, text) + told
