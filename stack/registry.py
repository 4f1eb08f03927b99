"""How services are found: a `ServiceSpec` each, through entry points. The only place that loads them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any

from attrs import field, frozen

from stack.events import Fact, Request, Topic
from stack.ios.command import Command
from stack.ios.grammar import Finding, Line
from stack.policy.routemap import RouteMap
from stack.samples import Sample
from stack.service import Context, Service

__all__ = ["GROUP", "ServiceSpec", "Word", "load_specs"]

GROUP = "labelspan.services"


@frozen
class Word:
    """A word of the console command that a package brings: `labelspan NAME ...`.

    `help`: one line. `add` puts the word's own arguments on its parser. `run` gets what was parsed, and its value is the exit
    code: 0 well, 1 failed, 2 wrong usage.
    """

    name: str
    help: str
    add: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


@frozen
class ServiceSpec:
    """All that the node must know of a service without knowing its protocol.

    `factory(config, context)`: config is the instance of `config` for this node (its default if the text says nothing).
    `produces`, `consumes`: topics and facts. `optional`: those of `consumes` that a node may lack a producer of; any other
    subscription that nobody can feed is refused by the wiring check. `writes`: names of tables. `rank`: start order.
    `route_maps`: maps that the system itself makes from the configuration. `checks`: legal-but-wrong findings.
    `samples`: figures for monitoring, of a running service. `words`: of the console command. `files`: of a service whose
    configuration names files: reads them and says what is wrong; a node does not start with an error of it. Such a service
    takes its configuration anew at every `apply`, for its files may be others than they were.
    """

    name: str
    factory: Callable[[Any, Context], Service]
    config: type[Any] | None = None
    produces: frozenset[Topic[Any, Any] | type[Fact]] = frozenset()
    consumes: frozenset[Topic[Any, Any] | type[Fact]] = frozenset()
    optional: frozenset[Topic[Any, Any] | type[Fact]] = frozenset()
    serves: frozenset[type[Request[Any]]] = frozenset()
    asks: frozenset[type[Request[Any]]] = frozenset()
    writes: frozenset[str] = frozenset()
    lines: tuple[Line, ...] = ()
    commands: tuple[Command, ...] = ()
    checks: tuple[Callable[[Any], Iterable[Any]], ...] = field(default=())
    route_maps: Callable[[Any], Iterable[RouteMap]] | None = None
    samples: Callable[[Any], Iterable[Sample]] | None = None
    words: tuple[Word, ...] = ()
    files: Callable[[Any], Iterable[Finding]] | None = None
    rank: int = 50


def load_specs() -> tuple[ServiceSpec, ...]:
    """Every installed service, in start order. Raises what an entry point raises when it is loaded."""
    specs = [point.load() for point in entry_points(group=GROUP)]
    return tuple(sorted(specs, key=lambda spec: (spec.rank, spec.name)))
