"""The small language that grammar rows are written in, and its matcher. Pure.

    interface {interface:interface} [type tunnel]
    neighbor {peer:address} route-map {map:name:route-map} {direction:in|out}
    match tag {tags:int:0-4294967295}...

Words stand for themselves and may be shortened as long as they are unambiguous. `{slot:kind}` takes what the kind
reads, `{slot:a|b}` or `{slot:=a}` one of these words (`old=new`: `old` is taken for `new`), `...` repeats a slot, `[x]`
may be absent, `(a | b)` is a choice. Words in brackets or parentheses without a slot beside them are noted: `secondary`
is True among the values if it stood there.

A row is expanded into its alternatives and all rows of a mode are merged into one tree, so that a line is matched against
all of them at once. Where several readings fit, keywords beat typed slots and those beat names; of names with blanks
the longest known one wins, else the shortest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from difflib import get_close_matches
from typing import Any, Generic, NamedTuple, TypeVar, cast

from attrs import define, field, frozen

from stack.ios.interfaces import is_interface_word, is_ios_name
from stack.ios.kinds import Kind, Shape, kind_of

__all__ = [
    "Alternative",
    "Ambiguous",
    "Known",
    "Match",
    "Mismatch",
    "Slot",
    "Syntax",
    "Token",
    "Tree",
    "Values",
    "Word",
    "render",
    "tokenise",
]

R = TypeVar("R")
Values = Mapping[str, Any]
Known = Callable[[str], Container[str]]
"""Names that exist, by sort (`vrf`, `profile`, ...)."""

MAX_ALTERNATIVES = 256
MAX_TOKENS = 256


class Token(NamedTuple):
    """A word of a line. `start`, `end`: columns. `quoted`: it stood in quotes, which are not part of `text`."""

    text: str
    start: int
    end: int
    quoted: bool = False


_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"(?=\s|$)|(\S+)')
_ESCAPE = re.compile(r"\\(.)")


def tokenise(line: str) -> list[Token]:
    """Words of `line`, at most MAX_TOKENS + 1 of them. A quote that is not closed is a character like any other."""
    found: list[Token] = []
    for match in _TOKEN.finditer(line):
        quoted = match[2] is None
        text = _ESCAPE.sub(r"\1", match[1]) if quoted else match[2]
        found.append(Token(text, match.start(), match.end(), quoted))
        if len(found) > MAX_TOKENS:
            break
    return found


@frozen
class Word:
    """A keyword. `slot` is noted with `value` when it is met ('' for words that say nothing by themselves)."""

    text: str
    slot: str = ""
    value: Any = True


@frozen
class Slot:
    name: str
    kind: Kind
    sort: str = ""
    repeated: bool = False

    @property
    def wants(self) -> str:
        return f"{self.kind.wants} (more may follow)" if self.repeated else self.kind.wants


Element = Word | Slot
Alternative = tuple[Element, ...]

_PIECE = re.compile(r"\{([^{}]+)\}(\.\.\.)?|([\[\]()|])|([^\s\[\](){}|]+)")


@frozen
class Syntax:
    """A row's syntax, expanded. `names`: all slots it may fill. Raises ValueError if the text is no syntax."""

    text: str
    alternatives: tuple[Alternative, ...]
    names: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Syntax:
        pieces = list(_PIECE.finditer(text))
        if "".join(p[0] for p in pieces) != "".join(text.split()):
            raise ValueError(f"{text!r}: not a syntax")
        found, rest = _choice(pieces, 0, noted=False)
        if rest != len(pieces) or len(found) > MAX_ALTERNATIVES:
            raise ValueError(f"{text!r}: unbalanced, or more than {MAX_ALTERNATIVES} alternatives")
        names = {e.slot if isinstance(e, Word) else e.name for alternative in found for e in alternative}
        return cls(text, tuple(found), frozenset(names - {""}))

    def shortened(self) -> Syntax:
        """What `no` takes: each alternative, also without what follows its last keyword."""
        found = dict.fromkeys(self.alternatives)
        for alternative in self.alternatives:
            last = max(i for i, element in enumerate(alternative) if isinstance(element, Word))
            found[alternative[: last + 1]] = None
        return Syntax(self.text, tuple(found), self.names)

    def choose(self, values: Values) -> Alternative:
        """The alternative that says all of `values` that this row can say. Raises ValueError if none can."""
        given = {name for name in self.names if _said(values.get(name))}
        fitting = [a for a in self.alternatives if _noted(a, values) <= given]
        best = max(fitting, key=lambda a: len(_noted(a, values)), default=None)
        if best is None:
            raise ValueError(f"{self.text!r} cannot be printed from {dict(values)!r}")
        return best


def _said(value: Any) -> bool:
    """0 says something; nothing, no and the empty do not."""
    return value is not None and value is not False and value not in ("", b"", ())


def _noted(alternative: Alternative, values: Values) -> set[str]:
    """Slots that `alternative` needs; a word that notes another value than the given one asks for the impossible."""
    found = set()
    for element in alternative:
        if isinstance(element, Slot):
            found.add(element.name)
        elif element.slot:
            found.add(element.slot if values.get(element.slot) == element.value else f"{element.slot} is not that")
    return found


def _choice(pieces: list[re.Match[str]], at: int, *, noted: bool) -> tuple[list[Alternative], int]:
    options: list[Alternative] = []
    sequence: list[Alternative] = [()]
    says = noted and not _has_slot(pieces, at)
    while at < len(pieces) and pieces[at][3] not in ("]", ")"):
        if pieces[at][3] == "|":
            options += sequence
            sequence, at = [()], at + 1
            says = noted and not _has_slot(pieces, at)
            continue
        nexts, at = _element(pieces, at, noted=says)
        sequence = [head + tail for head in sequence for tail in nexts]
        if len(sequence) > MAX_ALTERNATIVES:
            break
    return options + sequence, at


def _has_slot(pieces: list[re.Match[str]], at: int) -> bool:
    """Whether the option that begins at `at` has a slot of its own: then its words need not be noted."""
    depth = 0
    for piece in pieces[at:]:
        bracket = piece[3]
        depth += (bracket in ("[", "(")) - (bracket in ("]", ")"))
        if depth < 0 or (depth == 0 and bracket == "|"):
            return False
        if depth == 0 and piece[1]:
            return True
    return False


def _element(pieces: list[re.Match[str]], at: int, *, noted: bool) -> tuple[list[Alternative], int]:
    slot, dots, bracket, word = pieces[at].groups()
    if slot:
        name, _, what = slot.partition(":")
        if what.startswith("="):
            return [(Word(what[1:], name, what[1:]),)], at + 1
        if "|" in what:
            pairs = [choice.partition("=") for choice in what.split("|")]
            return [(Word(word, name, meant or word),) for word, _, meant in pairs], at + 1
        kind, sort = kind_of(what or "name", name)
        return [(Slot(name, kind, sort, repeated=bool(dots)),)], at + 1
    if word:
        return [(Word(word, word if noted else ""),)], at + 1
    inner, end = _choice(pieces, at + 1, noted=True)
    if end >= len(pieces) or pieces[end][3] != {"[": "]", "(": ")"}[bracket]:
        raise ValueError("unbalanced brackets")
    return ([*inner, ()] if bracket == "[" else inner), end + 1


# --- printing ---------------------------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r'[^\s"\\!|](?:[^"\\\s]| (?! ))*(?<! )')


def clean(text: str) -> str:
    """Without control characters, so that no text can end its line or drive a terminal."""
    return _CONTROL.sub(" ", text)


def _written(slot: Slot, value: Any, *, last: bool) -> str:
    text = clean(slot.kind.write(value))
    if slot.kind.shape is Shape.TEXT:
        return text.strip()
    if slot.kind.shape is Shape.INTERFACE:
        return text
    bare = _PLAIN.fullmatch(text) is not None
    if bare and (" " not in text or (last and slot.kind.shape is Shape.NAME)):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def render(syntax: Syntax, values: Values) -> str:
    """The line that sets `values`. Names with blanks stand bare at the end of a line, in quotes elsewhere."""
    chosen = syntax.choose(values)
    words = []
    for index, element in enumerate(chosen):
        last = index == len(chosen) - 1
        if isinstance(element, Word):
            words.append(element.text)
        elif element.repeated:
            words += [_written(element, value, last=False) for value in values[element.name]]
        else:
            words.append(_written(element, values[element.name], last=last))
    return " ".join(words)


# --- matching ---------------------------------------------------------------------------------------------------------

EXACT, SHORTENED = 0, 1
"""Ranks of keywords; slots have their kind's, and a name's second word and later ones one more."""

ANY_WORD = 5
"""Rank of a word that only Linux might take for a device: it is rather the end of a name."""


class Mismatch(NamedTuple):
    """Where a line stopped making sense: the index of the word (the number of words if the line is too short).

    `words` that could stand there, and what else is `wanted`; `problem`: what a kind says of the word. `sense`: how many
    keywords were understood before.
    """

    at: int
    words: tuple[str, ...]
    wanted: tuple[str, ...]
    problem: str = ""
    sense: int = 0


class Ambiguous(NamedTuple):
    """The word at `at` is short for each of `words`."""

    at: int
    words: tuple[str, ...]


class Note(NamedTuple):
    """A slot that was filled by words `start` to `end`."""

    slot: str
    value: Any
    start: int
    end: int
    repeated: bool = False
    sort: str = ""


@define(eq=False)
class _Node(Generic[R]):
    words: dict[str, list[tuple[Word, _Node[R]]]] = field(factory=dict)
    slots: list[tuple[Slot, _Node[R]]] = field(factory=list)
    rows: list[R] = field(factory=list)

    def step(self, element: Element) -> _Node[R]:
        """The node after `element`, made if it is not there."""
        held: list[Any] = self.words.setdefault(element.text.lower(), []) if isinstance(element, Word) else self.slots
        for known, node in held:
            if known == element:
                return cast("_Node[R]", node)
        fresh = _Node[R]()
        held.append((element, fresh))
        return fresh

    @property
    def keywords(self) -> list[str]:
        return [held[0][0].text for held in self.words.values()]


class _Trail(NamedTuple, Generic[R]):
    """A reading so far. `ranks` and `path` one a word: how well it fits, and the keyword it was taken for ('' if none)."""

    node: _Node[R]
    at: int = 0
    ranks: tuple[int, ...] = ()
    path: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def sense(self) -> int:
        return sum(rank <= SHORTENED for rank in self.ranks)


class Match(NamedTuple, Generic[R]):
    """`rows`: those whose alternative this is (several packages may act on one line). `spans`: slot -> first word, and
    one past the last. `full`: no keyword was shortened."""

    rows: tuple[R, ...]
    values: dict[str, Any]
    spans: dict[str, tuple[int, int]]
    full: bool = True


@define
class Tree(Generic[R]):
    """All rows of one mode."""

    _root: _Node[R] = field(factory=_Node)

    def add(self, syntax: Syntax, row: R) -> None:
        for alternative in syntax.alternatives:
            node = self._root
            for element in alternative:
                node = node.step(element)
            if row not in node.rows:
                node.rows.append(row)

    def match(self, tokens: list[Token], line: str, known: Known | None = None) -> Match[R] | Mismatch | Ambiguous:
        """How `tokens` of `line` are to be read. `known`: what names exist."""
        walk = _Walk[R](tokens, line)
        walk.run(self._root)
        if not walk.found:
            return walk.mismatch()
        best = self._best(walk, known)
        if isinstance(best, Ambiguous):
            return best
        return walk.slip(best, known) or _matched(best)

    def _best(self, walk: _Walk[R], known: Known | None) -> _Trail[R] | Ambiguous:
        if len(walk.found) == 1:
            return walk.found[0]
        merits = [((-_known_length(trail, known), trail.ranks), trail) for trail in walk.found]
        merit, best = min(merits, key=lambda pair: pair[0])
        rivals = [trail for other, trail in merits if other == merit and trail.path != best.path]
        if rivals:
            at = next(i for i, pair in enumerate(zip(best.path, rivals[0].path, strict=True)) if pair[0] != pair[1])
            return Ambiguous(at, tuple(sorted({trail.path[at] for trail in (best, *rivals)})))
        return best

    def expected(self, tokens: list[Token], line: str) -> tuple[list[str], list[str], bool]:
        """What may follow `tokens`: words, other things wanted, and whether the line may end here."""
        walk = _Walk[R](tokens, line)
        walk.run(self._root)
        nodes = [trail.node for trail in walk.ends]
        words = {word for node in nodes for word in node.keywords}
        wants = {slot.wants for node in nodes for slot, _ in node.slots}
        return sorted(words), sorted(wants), bool(walk.found)


def _known_length(trail: _Trail[Any], known: Known | None) -> int:
    """How much of the line are names that exist."""
    if known is None:
        return 0
    return sum(len(note.value) for note in trail.notes if note.sort and note.value in known(note.sort))


@define
class _Walk(Generic[R]):
    """One line against one tree, all readings of it. `ends`: those that used up the line; `found`: those of them that are
    complete; `dead`: those that a word stopped; `forks`: where a name could have ended."""

    tokens: list[Token]
    line: str
    found: list[_Trail[R]] = field(factory=list)
    ends: list[_Trail[R]] = field(factory=list)
    dead: list[_Trail[R]] = field(factory=list)
    forks: list[_Trail[R]] = field(factory=list)
    problems: list[tuple[int, str]] = field(factory=list)

    def run(self, root: _Node[R]) -> None:
        pending = [_Trail(root)]
        while pending:
            trail = pending.pop()
            if trail.at == len(self.tokens):
                self.ends.append(trail)
                if trail.node.rows:
                    self.found.append(trail)
                continue
            before = len(pending)
            self._words(trail, pending)
            for slot, node in trail.node.slots:
                self._slot(trail, slot, node, pending)
            if len(pending) == before:
                self.dead.append(trail)

    def _words(self, trail: _Trail[R], pending: list[_Trail[R]]) -> None:
        token = self.tokens[trail.at]
        if token.quoted or not trail.node.words:
            return
        text = token.text.lower()
        exact = trail.node.words.get(text)
        if exact is not None:
            choices, rank = [exact], EXACT
        else:
            choices, rank = [held for word, held in trail.node.words.items() if word.startswith(text)], SHORTENED
        end = trail.at + 1
        for held in choices:
            for word, node in held:
                notes = (*trail.notes, Note(word.slot, word.value, trail.at, end)) if word.slot else trail.notes
                pending.append(_Trail(node, end, (*trail.ranks, rank), (*trail.path, word.text), notes))

    def _slot(self, trail: _Trail[R], slot: Slot, node: _Node[R], pending: list[_Trail[R]]) -> None:
        shape, at, token = slot.kind.shape, trail.at, self.tokens[trail.at]
        if shape is Shape.TEXT:
            pending.append(_took(trail, slot, node, self.line[token.start :].rstrip(), len(self.tokens)))
        elif shape is Shape.NAME and not token.quoted:
            for end in range(at + 1, len(self.tokens) + 1):
                if self.tokens[end - 1].quoted:
                    break
                text = " ".join(t.text for t in self.tokens[at:end])
                fork = _took(trail, slot, node, text, end)
                self.forks.append(fork)
                pending.append(fork)
        else:
            if shape is Shape.INTERFACE and at + 1 < len(self.tokens) and is_interface_word(token.text):
                self._read(trail, slot, node, (f"{token.text} {self.tokens[at + 1].text}", at + 2), pending)
            self._read(trail, slot, node, (token.text, at + 1), pending)

    def _read(
        self, trail: _Trail[R], slot: Slot, node: _Node[R], words: tuple[str, int], pending: list[_Trail[R]]
    ) -> None:
        text, end = words
        try:
            value = slot.kind.read(text) if text else _refuse_nothing()
        except ValueError as error:
            self.problems.append((trail.at, str(error)))
            return
        if slot.repeated:
            node = _Node[R](words=node.words, slots=[*node.slots, (slot, node)], rows=node.rows)
        pending.append(_took(trail, slot, node, value, end))

    def slip(self, best: _Trail[R], known: Known | None) -> Mismatch | None:
        """Names with blanks swallow typing errors: `route-map X permt 10` would be the map `X permt 10`. So a new name must
        not hold a word that is, or nearly is, a keyword which may follow the name."""
        for note in best.notes:
            if not note.sort or note.end - note.start < 2 or (known is not None and note.value in known(note.sort)):
                continue
            for fork in self.forks:
                last = fork.notes[-1]
                if (last.slot, last.start) != (note.slot, note.start) or fork.at >= note.end:
                    continue
                word = self.tokens[fork.at].text.lower()
                if word in fork.node.words:
                    return self.mismatch()
                if get_close_matches(word, fork.node.words, 1, 0.8):
                    wanted = tuple(slot.wants for slot, _ in fork.node.slots)
                    return Mismatch(fork.at, tuple(fork.node.keywords), wanted, "", fork.sense)
        return None

    def mismatch(self) -> Mismatch:
        """The word that could not be read in the reading that made most sense. A name takes all that follows, so if a word
        that could have come after it is nearly a keyword that may stand there, that word is the one."""
        stuck = max((*self.dead, *self.ends), key=lambda trail: (trail.sense, trail.at))
        for fork in self.forks:
            if fork.at < min(stuck.at, len(self.tokens)) and fork.sense == stuck.sense:
                word = self.tokens[fork.at].text.lower()
                if word not in fork.node.words and get_close_matches(word, fork.node.words, 1, 0.75):
                    stuck = fork
                    break
        nodes = [
            trail.node
            for trail in (*self.dead, *self.ends)
            if (trail.at, trail.ranks) == (stuck.at, stuck.ranks) or trail is stuck
        ]
        words = dict.fromkeys(word for node in nodes for word in node.keywords)
        wanted = dict.fromkeys(slot.wants for node in nodes for slot, _ in node.slots)
        problems = list(dict.fromkeys(problem for at, problem in self.problems if at == stuck.at))
        return Mismatch(stuck.at, tuple(words), tuple(wanted), problems[0] if len(problems) == 1 else "", stuck.sense)


def _refuse_nothing() -> Any:
    raise ValueError("there is nothing between the quotes")


def _took(trail: _Trail[R], slot: Slot, node: _Node[R], value: Any, end: int) -> _Trail[R]:
    rank, more = slot.kind.rank, end - trail.at - 1
    if slot.kind.shape is Shape.INTERFACE and not is_ios_name(str(value)):
        rank = ANY_WORD
    ranks = (*trail.ranks, rank, *(rank + (slot.kind.shape is Shape.NAME),) * more)
    note = Note(slot.name, value, trail.at, end, slot.repeated, slot.sort)
    return _Trail(node, end, ranks, (*trail.path, *("",) * (more + 1)), (*trail.notes, note))


def _matched(trail: _Trail[R]) -> Match[R]:
    values: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    for note in trail.notes:
        if note.repeated:
            values[note.slot] = (*values.get(note.slot, ()), note.value)
            spans[note.slot] = (spans.get(note.slot, (note.start, 0))[0], note.end)
        else:
            values[note.slot] = note.value
            spans[note.slot] = (note.start, note.end)
    return Match(tuple(trail.node.rows), values, spans, SHORTENED not in trail.ranks)
