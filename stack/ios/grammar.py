"""The rows of the one grammar table. Pure.

A `Line` is one row: the modes it stands in, its syntax (stack.ios.syntax), what it does to the configuration being read,
what `no` does, how it prints, the mode it enters, its help. Reading, `no`, `show running-config`, `?`, completion and the
documentation all come from it. A package lists its rows in its config module and in its ServiceSpec; nobody else knows them.

Configuration is read into a `Draft`: the same frozen classes, replaced row by row. A `Place` says where in them a line
writes, so that most rows are one call: `value`, `flag`, `setting`, or `opening` for a line that enters a mode.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from attrs import define, evolve, field, fields, fields_dict, frozen

from stack.config import Config, InterfaceConfig, NodeConfig
from stack.ios.kinds import Kind, register
from stack.ios.syntax import Syntax, Values, render

__all__ = [
    "CONFIG",
    "INTERFACE",
    "INTERFACE_MODE",
    "NO",
    "RANK",
    "Claim",
    "Draft",
    "Finding",
    "Kind",
    "Line",
    "Loose",
    "Place",
    "Reference",
    "Refusal",
    "Sections",
    "Values",
    "entry",
    "flag",
    "later",
    "no_effect",
    "opening",
    "refused",
    "register",
    "section",
    "setting",
    "value",
]

M = TypeVar("M")
S = TypeVar("S")

CONFIG = "config"
"""The mode in which text begins."""

INTERFACE_MODE = "config-if"

NO = " no"
"""Among the values that a row's `show` gives: print the line with `no` before it."""

RANK = " rank"
"""Likewise: the place of the line among those of its object that have the same `order`, whatever row they are of."""


class Refusal(ValueError):
    """A line that is well formed but cannot be. `slot`: the word to point at (the line's first word if it is empty)."""

    def __init__(self, why: str, slot: str = "") -> None:
        super().__init__(why)
        self.slot = slot


class Sections(Protocol):
    """A configuration, finished (`Config`) or being read (`Draft`)."""

    def __getitem__(self, kind: type[S]) -> S: ...


@define(eq=False)
class Draft:
    """A configuration being read. Its sections' mappings are its own until `config()` hands out copies.

    `notes` are for rows that must remember something while text is read. `piles` hold what is kept as a tuple in the
    frozen classes, as a dict while it grows.
    """

    _sections: dict[type[Any], Any] = field(factory=dict)
    notes: set[Hashable] = field(factory=set)
    _piles: dict[Hashable, tuple[dict[Any, Any], Callable[[Draft, dict[Any, Any]], None]]] = field(factory=dict)

    @classmethod
    def of(cls, config: Config) -> Draft:
        return cls({kind: _copied(held) for kind, held in config.sections.items()})

    def __getitem__(self, kind: type[S]) -> S:
        held: S | None = self._sections.get(kind)
        if held is None:
            held = self._sections[kind] = kind()
        return held

    def put(self, section: Any) -> None:
        self._sections[type(section)] = section

    def shelf(self, kind: type[Any], name: str) -> dict[Any, Any]:
        """The mapping `name` of a section, to be written to."""
        shelf: dict[Any, Any] = getattr(self[kind], name)
        return shelf

    def pile(
        self, key: Hashable, load: Callable[[], dict[Any, Any]], store: Callable[[Draft, dict[Any, Any]], None]
    ) -> dict[Any, Any]:
        """What grows row by row: `load` makes it the first time, `store` puts it back when the configuration is taken."""
        if key not in self._piles:
            self._piles[key] = (load(), store)
        return self._piles[key][0]

    def settle(self) -> None:
        """Put all piles back."""
        for pile, store in self._piles.values():
            store(self, pile)
        self._piles.clear()

    def config(self) -> Config:
        """The configuration as it stands. Sections that say nothing are left out."""
        self.settle()
        return Config({kind: _copied(held) for kind, held in self._sections.items() if held != kind()})


def _copied(section: Any) -> Any:
    return evolve(section, **{
        a.name.lstrip("_"): dict(getattr(section, a.name))
        for a in fields(type(section))
        if isinstance(getattr(section, a.name), Mapping)
    })  # fmt: skip


# --- where a line writes ----------------------------------------------------------------------------------------------


@frozen(eq=False)
class Place(Generic[M]):
    """Where a mode's lines, or a line by its own words, write.

    `fetch` finds the object (None: not there yet), `make` a new one, `store` puts it back. `keys` lists what is there,
    as values that name each one, for printing. `drop` removes it; `mode`: that mode's objects are these, so `no` before
    the line that enters the mode drops them.
    """

    fetch: Callable[[Sections, Values], M | None]
    store: Callable[[Draft, Values, M], None]
    make: Callable[[Values], M]
    keys: Callable[[Sections, Values], Iterable[Values]]
    drop: Callable[[Draft, Values], None] | None = None
    mode: str = ""

    def get(self, sections: Sections, values: Values) -> M:
        found = self.fetch(sections, values)
        return self.make(values) if found is None else found

    def change(self, draft: Draft, values: Values, change: Callable[[M, Values], M]) -> None:
        self.store(draft, values, change(self.get(draft, values), values))


def section(kind: type[S], mode: str = "") -> Place[S]:
    """A whole section: its own plain fields."""
    return Place(
        fetch=lambda sections, _values: sections[kind],
        store=lambda draft, _values, changed: draft.put(changed),
        make=lambda _values: kind(),
        keys=lambda _sections, _values: ({},),
        drop=lambda draft, _values: draft.put(kind()),
        mode=mode,
    )


def entry(
    kind: type[Any], name: str, by: str, make: Callable[[Values], M], mode: str = "", *, sparse: bool = False
) -> Place[M]:
    """An entry of the mapping `name` of a section, under the value of slot `by`. `sparse`: not kept while it says nothing
    (what `make` makes)."""

    def fetch(sections: Sections, values: Values) -> M | None:
        found: M | None = getattr(sections[kind], name).get(values[by])
        return found

    def drop(draft: Draft, values: Values) -> None:
        draft.shelf(kind, name).pop(values[by], None)

    def store(draft: Draft, values: Values, changed: M) -> None:
        if sparse and changed == make(values):
            drop(draft, values)
        else:
            draft.shelf(kind, name)[values[by]] = changed

    def keys(sections: Sections, values: Values) -> Iterable[Values]:
        shelf = getattr(sections[kind], name)
        return ({},) if by in values else [{by: key} for key in shelf]

    return Place(fetch, store, make, keys, drop, mode)


# --- rows -------------------------------------------------------------------------------------------------------------

Edit = Callable[[Draft, Values], None]
Show = Callable[[Sections, Values], Iterable[Values]]


@frozen
class Loose:
    """Something that is only known to be wrong when all has been read. `line`: the text of the line it is about."""

    line: str
    why: str


def _modes(modes: str | tuple[str, ...]) -> tuple[str, ...]:
    return (modes,) if isinstance(modes, str) else modes


@frozen(eq=False)
class Line:
    """One row. Values given to `edit`, `undo` and `show` are the line's own and those of the lines that entered its mode.

    `edit` None: the line may only stand with `no`. `undo` None: `no` makes no sense here. `no`: the syntax after `no`, if
    it is not this one with its last arguments left out (a line that enters a mode: in full). `show`: for each time the
    line is to be printed, its values. `place`: rows next to each other with one place are printed object by object.
    `order`: of printing, among the rows of a mode. `finish`: what is resolved when all has been read, once for each time
    that the mode was entered. `effect` False: accepted, and `reason` says why it does nothing; `kept`: it prints back.
    `refusal`: why it is refused. `leaves`: the mode ends. `printed`: the syntax of the row that says the same, and prints.
    """

    modes: tuple[str, ...] = field(converter=_modes)
    text: str
    help: str
    edit: Edit | None = None
    undo: Edit | None = None
    show: Show | None = None
    place: Place[Any] | None = None
    enters: str = ""
    no: str = ""
    order: int = 50
    finish: Callable[[Draft, Values], Iterable[Loose]] | None = None
    effect: bool = True
    reason: str = ""
    refusal: str = ""
    kept: bool = True
    leaves: bool = False
    printed: str = ""
    syntax: Syntax = field(init=False)
    no_syntax: Syntax = field(init=False)

    @syntax.default
    def _syntax(self) -> Syntax:
        return Syntax.parse(self.text)

    @no_syntax.default
    def _no_syntax(self) -> Syntax:
        if self.no:
            return Syntax.parse(self.no)
        return self.syntax if self.enters else self.syntax.shortened()

    def written(self, values: Values) -> str:
        """The line that says `values`. Raises ValueError if none does."""
        if not values.get(NO):
            return render(Syntax.parse(self.printed) if self.printed else self.syntax, values)
        try:
            return "no " + render(self.no_syntax if self.no else self.syntax, values)
        except ValueError:
            return "no " + render(self.no_syntax, values)


def setting(
    modes: str | tuple[str, ...],
    text: str,
    place: Place[M],
    put: Callable[[M, Values], M] | None,
    *,
    help: str,  # noqa: A002  (the name that every command line tool has for it)
    show: Callable[[M], Iterable[Values]] | None = None,
    remove: Callable[[M, Values], M] | None = None,
    no: str = "",
    printed: str = "",
    order: int = 50,
) -> Line:
    """A line that changes the object at `place`. `show`: of that object, the values to print. `printed`: see Line."""

    def shown(sections: Sections, values: Values) -> Iterable[Values]:
        found = place.fetch(sections, values)
        return () if show is None or found is None else show(found)

    return Line(
        modes,
        text,
        help,
        edit=None if put is None else lambda draft, values: place.change(draft, values, put),
        undo=None if remove is None else lambda draft, values: place.change(draft, values, remove),
        show=shown,
        place=place,
        no=no,
        printed=printed,
        order=order,
    )


def _default(model: Any, name: str) -> Any:
    """What a field is if nobody says anything."""
    default: Any = fields_dict(type(model))[name].default
    return default.factory() if hasattr(default, "factory") else default


def value(
    modes: str | tuple[str, ...],
    text: str,
    place: Place[Any],
    name: str,
    slot: str,
    *,
    help: str,  # noqa: A002
    order: int = 50,
) -> Line:
    """A line whose `slot` is the field `name`; `no` takes the field's default back."""

    def show(model: Any) -> Iterable[Values]:
        held = getattr(model, name)
        return () if held == _default(model, name) else ({slot: held},)

    return setting(
        modes,
        text,
        place,
        lambda model, values: evolve(model, **{name: values[slot]}),
        show=show,
        remove=lambda model, _values: evolve(model, **{name: _default(model, name)}),
        help=help,
        order=order,
    )


def flag(
    modes: str | tuple[str, ...],
    text: str,
    place: Place[Any],
    name: str,
    *,
    help: str,  # noqa: A002
    sets: bool = True,
    always: bool = False,
    order: int = 50,
) -> Line:
    """A line that sets the field `name` to `sets`; `no` to the opposite. `always`: printed even if it is the default."""

    def show(model: Any) -> Iterable[Values]:
        held = getattr(model, name)
        return ({NO: held != sets},) if always or held != _default(model, name) else ()

    return setting(
        modes,
        text,
        place,
        lambda model, _values: evolve(model, **{name: sets}),
        show=show,
        remove=lambda model, _values: evolve(model, **{name: not sets}),
        help=help,
        order=order,
    )


def opening(
    modes: str | tuple[str, ...],
    text: str,
    place: Place[M],
    enters: str,
    *,
    help: str,  # noqa: A002
    put: Callable[[M, Values], M] = lambda model, _values: model,
    show: Callable[[M], Iterable[Values]] = lambda _model: ({},),
    undo: Edit | None = None,
    no: str = "",
    order: int = 50,
    finish: Callable[[Draft, Values], Iterable[Loose]] | None = None,
) -> Line:
    """A line that enters a mode, whose lines write to the object at `place`, made if it is not there."""

    def shown(sections: Sections, values: Values) -> Iterable[Values]:
        found = place.fetch(sections, values)
        return () if found is None else show(found)

    return Line(
        modes,
        text,
        help,
        edit=lambda draft, values: place.change(draft, values, put),
        undo=undo or place.drop,
        show=shown,
        place=place,
        enters=enters,
        no=no,
        order=order,
        finish=finish,
    )


def no_effect(
    modes: str | tuple[str, ...], text: str, reason: str, *, no: bool | None = None, kept: bool = True
) -> Line:
    """Real IOS that means nothing here. `no`: True, only with `no` before it; False, only without; None, either."""
    nothing: Edit = lambda _draft, _values: None
    return Line(
        modes,
        text,
        reason,
        edit=None if no is True else nothing,
        undo=None if no is False else nothing,
        effect=False,
        reason=reason,
        kept=kept,
    )


def refused(modes: str | tuple[str, ...], text: str, why: str) -> Line:
    """Real IOS that is not taken, and why. With `no` it is: nothing had to be done."""
    return Line(modes, text, why, undo=lambda _draft, _values: None, refusal=why, effect=False, reason=why)


@frozen
class later:  # noqa: N801  (a row like the others, which are functions)
    """Lines that begin with `start` belong to a package that this release does not have. They are refused, with all that
    stands under them, until any package brings a row that begins likewise. `under`: first words of such lines; other
    words that no mode around knows belong there too. None: nothing can stand under it."""

    modes: tuple[str, ...]
    start: str
    package: str
    under: frozenset[str] | None = None


# --- what `check` says ------------------------------------------------------------------------------------------------


@frozen
class Finding:
    """Legal but wrong. `severity`: error, warning or note. `line`: text of the line it is about, `under`: of the line that
    entered its mode, where one line may stand in several places; `number` if it is known. `suggestion`: the name that may
    have been meant."""

    severity: str
    text: str
    line: str = ""
    number: int | None = None
    under: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        where = f"{self.number}: " if self.number else ""
        quoted = f" (`{self.line}`)" if self.line else ""
        meant = f"; did you mean `{self.suggestion}`?" if self.suggestion else ""
        return f"{where}{self.severity}: {self.text}{quoted}{meant}"


@frozen
class Claim:
    """Something that one package's check knows and another's may need: there is a `kind` called `name`. `about` is what
    that kind of claim agrees on: nothing but its users know."""

    kind: str
    name: str
    line: str = ""
    about: Any = None


@frozen
class Reference:
    """`line` (`under`: as of a Finding) speaks of the `kind` called `name`. If nobody claims one, that is a finding;
    `means`: what happens then."""

    kind: str
    name: str
    line: str
    means: str = ""
    severity: str = "warning"
    under: str = ""


# --- the interface mode, which several packages share -------------------------------------------------------------------


def _new_interface(values: Values) -> InterfaceConfig:
    from stack.ios.interfaces import interface_kind

    return InterfaceConfig(values["interface"], interface_kind(values["interface"]))


INTERFACE: Place[InterfaceConfig] = entry(NodeConfig, "interfaces", "interface", _new_interface, mode=INTERFACE_MODE)
"""The interface of `config-if`, whose name is the value of slot `interface`."""
