"""The wiring check: what a set of services declares must fit together before any of them starts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from attrs import fields

from stack.events import Owners, Topic
from stack.registry import ServiceSpec
from stack.tables import Tables

__all__ = ["WiringError", "check_wiring"]


class WiringError(Exception):
    """Services that do not fit together. `faults` has a line for each reason."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


TABLES = frozenset(attribute.name for attribute in fields(Tables))


def check_wiring(specs: Iterable[ServiceSpec], node: ServiceSpec) -> None:
    """Refuse a second owner of a single-owner topic, a subscription that nobody can feed, a second server, a question that
    nobody answers, a second writer of a table, a table or name that does not exist. `node` is the router's own share.
    Raises WiringError with every fault found."""
    everybody = [node, *specs]
    faults = [
        *_names(everybody),
        *_owners(everybody),
        *_unfed(everybody),
        *_servers(everybody),
        *_writers(everybody),
    ]
    if faults:
        raise WiringError(faults)


def _names(specs: list[ServiceSpec]) -> Iterable[str]:
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            yield f"two services are called {spec.name}"
        seen.add(spec.name)


def _kind_name(kind: Any) -> str:
    return kind.name if isinstance(kind, Topic) else kind.__name__


def _owners(specs: list[ServiceSpec]) -> Iterable[str]:
    owners: defaultdict[Any, list[str]] = defaultdict(list)
    for spec in specs:
        for kind in spec.produces:
            owners[kind].append(spec.name)
    for kind, names in owners.items():
        if isinstance(kind, Topic) and kind.owners is Owners.ONE and len(names) > 1:
            yield f"{kind.name} has one owner, and {' and '.join(names)} both publish it"


def _unfed(specs: list[ServiceSpec]) -> Iterable[str]:
    produced = {kind for spec in specs for kind in spec.produces}
    for spec in specs:
        for kind in sorted(spec.consumes - spec.optional - produced, key=_kind_name):
            yield f"{spec.name} reads {_kind_name(kind)}, and nobody publishes it"


def _servers(specs: list[ServiceSpec]) -> Iterable[str]:
    servers: defaultdict[Any, list[str]] = defaultdict(list)
    for spec in specs:
        for request in spec.serves:
            servers[request].append(spec.name)
    for request, names in servers.items():
        if len(names) > 1:
            yield f"{request.__name__} has one server, and {' and '.join(names)} both answer it"
    for spec in specs:
        for request in spec.asks:
            if request not in servers:
                yield f"{spec.name} asks {request.__name__}, and nobody answers it"


def _writers(specs: list[ServiceSpec]) -> Iterable[str]:
    writers: defaultdict[str, list[str]] = defaultdict(list)
    for spec in specs:
        for table in spec.writes:
            writers[table].append(spec.name)
            if table not in TABLES:
                yield f"{spec.name} writes table {table}, which does not exist"
    for table, names in writers.items():
        if len(names) > 1:
            yield f"table {table} has one writer, and {' and '.join(names)} both write it"
