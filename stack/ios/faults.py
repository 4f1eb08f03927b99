"""What is wrong with a configuration text, said so that its writer can mend it."""

from __future__ import annotations

from difflib import get_close_matches

from attrs import field, frozen

from stack.ios.syntax import clean, tokenise

__all__ = ["ConfigError", "Fault", "Wrong", "masked"]

MAX_SHOWN = 50
"""Faults that a message spells out; the rest are counted."""

WINDOW = 100
"""Columns of a line that a message shows, around the word in question."""

MAX_EXPECTED = 12


_SECRETS = (
    "password",
    "secret",
    "pre-shared-key",
    "pre-share",
    "authentication-key",
    "message-digest-key",
    "key-string",
)
_PAIRS = frozenset({("isakmp", "key"), ("nhrp", "authentication")})
"""Words that announce one only together: `authentication local rsa-sig` tells nothing that must be hidden."""

_LINES = {
    "snmp-server": frozenset({"community", "user", "host"}),
    "tacacs-server": frozenset({"key"}),
    "radius-server": frozenset({"key"}),
}
"""Words that do in lines that begin with such a word: other services' lines, which may stand in a router's text."""

_SHORTEST = 3
"""Letters of an abbreviation that counts: `pre ...` in a keyring."""


def _announces(before: str, word: str) -> bool:
    """Whether a secret may follow `word`, misspelt or shortened."""
    if (before, word) in _PAIRS:
        return True
    if word == "authentication":
        return False
    short = len(word) >= _SHORTEST and any(secret.startswith(word) for secret in _SECRETS[:3])
    return short or bool(get_close_matches(word, _SECRETS, 1, 0.8))


def masked(line: str) -> str:
    """`line` with stars for what stands after a word that announces a secret, misspelt or not: messages go to logs."""
    before, first = "", ""
    for token in tokenise(line):
        word = token.text.lower()
        first = first or word
        if _announces(before, word) or word in _LINES.get(first, ()):
            rest = line[token.end :]
            return line[: token.end] + "".join(c if c.isspace() else "*" for c in rest)
        before = word
    return line


class Wrong(Exception):
    """A line that cannot be taken. Columns count from 0. `words` and `wanted` could have stood there."""

    def __init__(
        self,
        why: str,
        *,
        column: int = 0,
        width: int = 1,
        words: tuple[str, ...] = (),
        wanted: tuple[str, ...] = (),
        suggestion: str = "",
    ) -> None:
        super().__init__(why)
        self.why = why
        self.column = column
        self.width = max(1, width)
        self.expected = (*sorted(words), *wanted)
        self.suggestion = suggestion


@frozen
class Fault:
    """One fault: where (`source`, line `number` from 1, `mode` and the lines that led there), the line, the word (`column`
    from 0, `width`), why, what was `expected`, and a `suggestion`. `also`: lines under it that go with it. What may be a
    secret in the line is masked in the message.
    """

    source: str
    number: int
    mode: str
    path: str
    line: str = field(repr=False)
    column: int
    width: int
    why: str
    expected: tuple[str, ...] = ()
    suggestion: str = ""
    also: tuple[int, ...] = ()

    def __str__(self) -> str:
        inside = f" ({clean(self.path)})" if self.path else ""
        text = [f"{self.source}:{self.number}: in mode {self.mode}{inside}:", *self._pointed(), f"  {clean(self.why)}"]
        if self.expected:
            some = ", ".join(self.expected[:MAX_EXPECTED])
            more = len(self.expected) - MAX_EXPECTED
            text.append(f"  expected: {some}" + (f", or {more} others" if more > 0 else ""))
        if self.suggestion:
            text.append(f"  did you mean `{clean(self.suggestion)}`?")
        if self.also:
            many = len(self.also) > 1
            text.append(
                f"  the {len(self.also)} lines under it go with it" if many else "  the line under it goes with it"
            )
        return "\n".join(text)

    def _pointed(self) -> tuple[str, str]:
        start = max(0, min(self.column - WINDOW // 2, len(self.line) - WINDOW))
        shown = clean(masked(self.line)[start : start + WINDOW])
        before, after = "..." if start else "", "..." if start + WINDOW < len(self.line) else ""
        at = self.column - start + len(before)
        width = min(self.width, WINDOW - (self.column - start)) or 1
        return f"    {before}{shown}{after}", "    " + " " * at + "^" * width


class ConfigError(Exception):
    """A text that is no configuration, with every fault found in it. Nothing of it was taken."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        shown = [str(fault) for fault in self.faults[:MAX_SHOWN]]
        rest = len(self.faults) - MAX_SHOWN
        count = f"{len(self.faults)} fault" + ("s" if len(self.faults) != 1 else "")
        last = f"{count}; nothing was changed" + (f" ({rest} not shown)" if rest > 0 else "")
        return "\n\n".join([*shown, last])
