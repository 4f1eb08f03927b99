"""A lab scenario as data: `scenario.toml` and the nodes' configurations beside it, read into frozen values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import cattrs
from attrs import field, frozen
from cattrs.gen import make_dict_structure_fn

__all__ = ["EVERY_NODE", "Check", "Host", "PlainRouter", "Sabotage", "Scenario", "ScenarioError", "load"]


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
class Sabotage:
    """Something broken on purpose, and the rows that must notice. `replace`: in the configuration of `node` (`*`: of every
    node); `inject`: a clear customer packet on that link; `survives`: this node is not killed when it should be;
    `stays_dead`: this node is not started again."""

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

    @property
    def customers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(host.customer for host in self.host.values()))

    def device(self, owner: str, interface: str) -> str:
        """The device behind an interface of a node; hosts and routers name devices themselves."""
        return device_of(interface) if owner in self.node else interface


def device_of(interface: str) -> str:
    """`Ethernet0/1` as `e0-1`: short, and no slash."""
    return "e" + interface.removeprefix("Ethernet").replace("/", "-")


def load(name: str) -> Scenario:
    """A scenario that comes with labelspan, by name, or a folder with a scenario.toml. Raises ScenarioError."""
    folder = Path(name)
    if not folder.is_dir():
        shipped = resources.files("stack.lab") / "scenarios"
        with resources.as_file(shipped) as path:
            known = sorted(entry.name for entry in path.iterdir() if (entry / "scenario.toml").exists())
            if name not in known:
                raise ScenarioError(f"there is no scenario {name!r}; there are: {', '.join(known)}, or give a folder")
            return _load(path / name)
    return _load(folder)


def _load(folder: Path) -> Scenario:
    file = folder / "scenario.toml"
    try:
        plain = tomllib.loads(file.read_text())
        texts = {name: (folder / config).read_text() for name, config in plain["node"].items()}
        converter = _converter()
        links = {name: tuple(_end(end) for end in ends) for name, ends in plain["link"].items()}
        scenario = Scenario(
            name=folder.name,
            title=str(plain["title"]),
            node=texts,
            router=converter.structure(plain.get("router", {}), dict[str, PlainRouter]),
            host=converter.structure(plain.get("host", {}), dict[str, Host]),
            link=converter.structure(links, dict[str, tuple[tuple[str, str], tuple[str, str]]]),
            checks=tuple(_check(row) for row in plain.get("check", [])),
            sabotage=converter.structure(plain.get("sabotage", {}), dict[str, Sabotage]),
        )
    except OSError as error:
        raise ScenarioError(f"{error.filename}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file}: {error}") from None
    except KeyError as error:
        raise ScenarioError(f"{file}: {error.args[0]!r} is missing") from None
    except (cattrs.BaseValidationError, TypeError, ValueError) as error:
        details = "; ".join(cattrs.transform_error(error)) if isinstance(error, Exception) else ""
        raise ScenarioError(f"{file}: {details or error}") from None
    _check_names(scenario, file)
    return scenario


def _converter() -> cattrs.Converter:
    """A scenario with a word nobody knows is refused, not half-understood."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind in (PlainRouter, Host, Sabotage):
        converter.register_structure_hook(kind, make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True))
    return converter


def _end(text: str) -> tuple[str, str]:
    owner, _, interface = text.partition(" ")
    return owner, interface


def _check(row: dict[str, Any]) -> Check:
    words = {key: value for key, value in row.items() if key not in ("name", "kind", "within")}
    return Check(row["name"], row["kind"], words, float(row.get("within", 5.0)))


def _check_names(scenario: Scenario, file: Path) -> None:
    known = {*scenario.node, *scenario.router, *scenario.host}
    for name, ends in scenario.link.items():
        for owner, interface in ends:
            if owner not in known or not interface:
                raise ScenarioError(f"{file}: link {name}: {owner!r} {interface!r} is no end: OWNER INTERFACE expected")
    rows = {check.name for check in scenario.checks}
    for name, sabotage in scenario.sabotage.items():
        for node in (sabotage.node, sabotage.survives, sabotage.stays_dead):
            if node not in {"", EVERY_NODE, *scenario.node}:
                raise ScenarioError(f"{file}: sabotage {name}: there is no node called {node!r}")
        for row in sabotage.red:
            if row not in rows:
                raise ScenarioError(f"{file}: sabotage {name}: there is no check called {row!r}")
