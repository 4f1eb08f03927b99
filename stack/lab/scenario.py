"""A lab scenario as data: `scenario.toml` and the nodes' configurations beside it, read into frozen values."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import cattrs
from attrs import evolve, field, frozen

from stack.addr import Prefix, parse_address

__all__ = [
    "EVERY_NODE",
    "Check",
    "Host",
    "PlainRouter",
    "Prepare",
    "Sabotage",
    "Scenario",
    "ScenarioError",
    "Variant",
    "load",
    "replaced",
]


EVERY_NODE = "*"
"""As a sabotage's `node`: all of them."""


class ScenarioError(Exception):
    """A scenario that cannot be read; the message says which file, what is wrong and what was expected."""


@frozen
class PlainRouter:
    """A router of the core: the kernel's (or the memory network's) own IP forwarding, nothing of ours."""

    addresses: Mapping[str, list[str]]
    routes: Mapping[str, str] = field(factory=dict)


@frozen
class Host:
    """A customer's host on `eth0`: addresses with prefix length, a default gateway of each family."""

    customer: str
    addresses: list[str]
    gateways: list[str]


@frozen
class Check:
    """A row of the verdict. `kind` names a function of stack.lab.checks; the rest are its words."""

    name: str
    kind: str
    words: Mapping[str, Any]
    within: float = 5.0


@frozen
class Prepare:
    """What the console command does before the first node starts: `labelspan WORDS`, of the words that packages bring, in
    which `{folder}` is a folder of this run. `take`: name -> regular expression; what its group finds in the output stands for
    `{name}` in later words and in the configurations, as `{folder}` does."""

    words: list[str]
    take: Mapping[str, str] = field(factory=dict)


@frozen
class Variant:
    """The scenario once more with something else: `replace`, by node. All checks are conducted again."""

    title: str
    replace: Mapping[str, list[tuple[str, str]]]


@frozen
class Sabotage:
    """Something broken on purpose, and the rows that must notice. `replace`: in the configuration of `node` (`*`: of every
    node); `inject`: a clear customer packet on that link; `survives`: this node is not killed, or this link not
    cut, when it should be; `stays_dead`: this node is not started again."""

    red: list[str]
    node: str = ""
    replace: list[tuple[str, str]] = field(factory=list)
    inject: str = ""
    survives: str = ""
    stays_dead: str = ""


@frozen
class Scenario:
    """`node`: name -> configuration text. `link`: name -> two ends, each `(owner, interface)`."""

    name: str
    title: str
    node: Mapping[str, str]
    router: Mapping[str, PlainRouter]
    host: Mapping[str, Host]
    link: Mapping[str, tuple[tuple[str, str], tuple[str, str]]]
    checks: tuple[Check, ...]
    sabotage: Mapping[str, Sabotage]
    prepare: tuple[Prepare, ...] = ()
    variants: Mapping[str, Variant] = field(factory=dict)

    def variant(self, name: str) -> Scenario:
        """The scenario as that variant has it. Raises ScenarioError if a text that it replaces is not there."""
        chosen = self.variants[name]
        nodes = {node: replaced(text, chosen.replace.get(node, ())) for node, text in self.node.items()}
        return evolve(self, node=nodes, title=chosen.title, variants={})

    @property
    def customers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(host.customer for host in self.host.values()))

    def device(self, owner: str, interface: str) -> str:
        """The device behind an interface of a node; hosts and routers name devices themselves."""
        return device_of(interface) if owner in self.node else interface


def replaced(text: str, pairs: Iterable[tuple[str, str]]) -> str:
    """`text` with every pair's first replaced by its second. Raises ScenarioError if one is not there."""
    for old, new in pairs:
        if old not in text:
            raise ScenarioError(f"there is no {old!r} to replace")
        text = text.replace(old, new)
    return text


def device_of(interface: str) -> str:
    """`Ethernet0/1` as `e0-1`: short, and no slash."""
    return "e" + interface.removeprefix("Ethernet").replace("/", "-")


def load(name: str) -> Scenario:
    """A scenario that comes with labelspan, by name, or a folder with a scenario.toml. A name wins over a folder that
    happens to lie here; `./mgre` is a folder. Raises ScenarioError."""
    shipped = resources.files("stack.lab") / "scenarios"
    with resources.as_file(shipped) as path:
        known = sorted(entry.name for entry in path.iterdir() if (entry / "scenario.toml").exists())
        if name in known:
            return _load(path / name)
    folder = Path(name)
    if not folder.is_dir():
        raise ScenarioError(f"there is no scenario {name!r}; there are: {', '.join(known)}, or give a folder")
    return _load(folder)


@frozen
class _File:
    """scenario.toml as it stands there. `transport` names the core's own networks, for readers."""

    title: str
    node: dict[str, str]
    link: dict[str, list[str]]
    check: list[dict[str, Any]] = field(factory=list)
    router: dict[str, PlainRouter] = field(factory=dict)
    host: dict[str, Host] = field(factory=dict)
    sabotage: dict[str, Sabotage] = field(factory=dict)
    prepare: list[Prepare] = field(factory=list)
    variant: dict[str, Variant] = field(factory=dict)
    transport: list[str] = field(factory=list)


def _load(folder: Path) -> Scenario:
    file = folder / "scenario.toml"
    try:
        plain = _converter().structure(tomllib.loads(file.read_text(encoding="utf-8")), _File)
        scenario = Scenario(
            name=folder.name,
            title=plain.title,
            node={name: (folder / config).read_text(encoding="utf-8") for name, config in plain.node.items()},
            router=plain.router,
            host=plain.host,
            link={name: _ends(name, ends) for name, ends in plain.link.items()},
            checks=tuple(_check(row) for row in plain.check),
            sabotage=plain.sabotage,
            prepare=tuple(plain.prepare),
            variants=plain.variant,
        )
        for name in scenario.variants:
            scenario.variant(name)
        _check_names(scenario)
        for name, sabotage in scenario.sabotage.items():
            _check_sabotage(scenario, name, sabotage)
        if not scenario.checks:
            raise ScenarioError("there is no check: its verdict would mean nothing")
    except OSError as error:
        raise ScenarioError(f"{error.filename}: {error.strerror}") from None
    except cattrs.BaseValidationError as error:
        raise ScenarioError(
            f"{file}: {'; '.join(cattrs.transform_error(error, path='', format_exception=_words))}"
        ) from None
    except (ScenarioError, ValueError) as error:
        raise ScenarioError(f"{file}: {error}") from None
    return scenario


def _converter() -> cattrs.Converter:
    """A scenario with a word nobody knows, or a value of another kind, is refused, not half-understood."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(str, _exactly)
    return converter


def _words(error: BaseException, kind: type | None) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    if isinstance(error, TypeError | ValueError) and not isinstance(error, cattrs.ForbiddenExtraKeysError):
        return str(error)
    return cattrs.v.format_exception(error, kind)


def _exactly(value: Any, kind: type[str]) -> str:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no text")
    return value


def _ends(name: str, ends: list[str]) -> tuple[tuple[str, str], tuple[str, str]]:
    if len(ends) != 2:
        raise ScenarioError(f"link {name} has {len(ends)} ends, two are wanted")
    (one, _, here), (other, _, there) = ends[0].partition(" "), ends[1].partition(" ")
    return (one, here), (other, there)


def _check(row: dict[str, Any]) -> Check:
    """Raises ScenarioError for a kind that there is not, and for words that the kind lacks or does not know."""
    from stack.lab.checks import KINDS

    name, kind = row.get("name"), KINDS.get(str(row.get("kind")))
    if not isinstance(name, str) or not name:
        raise ScenarioError(f"a check has no name: {row}")
    if kind is None:
        raise ScenarioError(
            f"check {name!r}: there is no kind {row.get('kind')!r}; there are: {', '.join(sorted(KINDS))}"
        )
    words = {key: value for key, value in row.items() if key not in ("name", "kind", "within")}
    if lacking := sorted(kind.words - set(words)):
        raise ScenarioError(f"check {name!r}: a check of kind {row['kind']} also needs {', '.join(lacking)}")
    if extra := sorted(set(words) - kind.words - kind.may):
        raise ScenarioError(f"check {name!r}: a check of kind {row['kind']} knows no {', '.join(extra)}")
    within = row.get("within", 5.0)
    if isinstance(within, bool) or not isinstance(within, int | float) or within < 0:
        raise ScenarioError(f"check {name!r}: within {within!r} are no seconds")
    return Check(name, row["kind"], words, float(within))


def _check_names(scenario: Scenario) -> None:
    known = {*scenario.node, *scenario.router, *scenario.host}
    for name, ends in scenario.link.items():
        for owner, interface in ends:
            if owner not in known or not interface:
                raise ScenarioError(f"link {name}: {owner!r} {interface!r} is no end: OWNER INTERFACE expected")
    for host in scenario.host.values():
        for address in host.addresses:
            Prefix.parse(address)
        for gateway in host.gateways:
            parse_address(gateway)
    named: set[str] = set()
    for check in scenario.checks:
        if check.name in named:
            raise ScenarioError(f"two checks are called {check.name!r}")
        named.add(check.name)


def _check_sabotage(scenario: Scenario, name: str, sabotage: Sabotage) -> None:
    """Sabotage that breaks nothing, or names no row, would prove nothing."""
    rows = {check.name for check in scenario.checks}
    for node in (sabotage.node, sabotage.stays_dead):
        if node not in {"", EVERY_NODE, *scenario.node}:
            raise ScenarioError(f"sabotage {name}: there is no node called {node!r}")
    if sabotage.survives not in {"", *scenario.node, *scenario.link}:
        raise ScenarioError(f"sabotage {name}: there is no node or link called {sabotage.survives!r}")
    for row in sabotage.red:
        if row not in rows:
            raise ScenarioError(f"sabotage {name}: there is no check called {row!r}")
    if not sabotage.red:
        raise ScenarioError(f"sabotage {name}: no row is to turn red")
    if sabotage.inject and sabotage.inject not in scenario.link:
        raise ScenarioError(f"sabotage {name}: there is no link called {sabotage.inject!r}")
    if sabotage.inject and len(scenario.host) < 2:
        raise ScenarioError(f"sabotage {name}: a customer's packet needs two hosts")
    if not (sabotage.inject or sabotage.survives or sabotage.stays_dead or (sabotage.node and sabotage.replace)):
        raise ScenarioError(f"sabotage {name} breaks nothing")
    for node in scenario.node if sabotage.node == EVERY_NODE else filter(None, [sabotage.node]):
        for old, _ in sabotage.replace:
            if old not in scenario.node[node]:
                raise ScenarioError(f"sabotage {name}: {old!r} does not stand in the configuration of {node}")
