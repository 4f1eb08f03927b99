"""Router: services and configuration in, a running node out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from types import TracebackType
from typing import Any

import structlog

from stack.addr import DEFAULT_VRF
from stack.bus import Bus, Seat
from stack.clock import Clock, OsClock
from stack.config import Config, NodeConfig
from stack.entropy import Entropy, OsEntropy
from stack.events import AddressOffered, InterfaceOffered, PolicyState, RouteOffered, Topic, VrfState
from stack.ios.command import Command, CommandError, Scene, Shown
from stack.ios.commands import Interpreter, Names
from stack.ios.table import Table
from stack.keylog import KeyLog
from stack.net import Network
from stack.offers import Offers, offers_of
from stack.policy.routemap import RouteMap
from stack.registry import ServiceSpec, load_specs
from stack.service import Context, Process, Service, Supervisor
from stack.show import COMMANDS
from stack.tables import Tables
from stack.tables.table import Writer
from stack.wiring import check_wiring

__all__ = ["NODE", "Router"]

NODE = ServiceSpec(
    name="router",
    factory=lambda _config, _context: (_ for _ in ()).throw(TypeError("the router is no service")),
    config=NodeConfig,
    produces=frozenset({VrfState, PolicyState, InterfaceOffered, AddressOffered, RouteOffered}),
    writes=frozenset({"vrfs"}),
    commands=COMMANDS,
)
"""The router's own share of the wiring: what it makes of the configuration."""


def _logger() -> Any:
    """structlog's logger as the embedder configured it. Unconfigured it would print the values of locals with a traceback,
    which could show a key: then a plain one."""
    if structlog.is_configured():
        return structlog.get_logger()
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), processors=[structlog.processors.add_log_level, plain]
    )


class Router:
    """A node. `async with Router(config, network=OsNetwork()) as router:` runs it until the block ends.

    `specs` None: every installed service. `bindings`: IOS interface name -> host device. Raises WiringError when the
    services do not fit together; that happens before any of them starts. `log` None: structlog's, with the hostname as
    `node`. `key_log`: who is told of every key that this node makes; nobody, unless it is given.
    """

    def __init__(
        self,
        config: Config,
        *,
        network: Network,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        specs: Iterable[ServiceSpec] | None = None,
        bindings: Mapping[str, str] | None = None,
        state_dir: str = "",
        log: Any = None,
        key_log: KeyLog | None = None,
    ) -> None:
        self.config = config
        self.specs = tuple(load_specs() if specs is None else specs)
        self.check()
        self.bus = Bus()
        self.tables = Tables()
        self.bindings = dict(bindings or {})
        self.context = Context(
            bus=self.bus,
            network=network,
            tables=self.tables,
            clock=clock or OsClock(),
            entropy=entropy or OsEntropy,
            log=_logger().bind(node=config.node.hostname) if log is None else log,
            state_dir=state_dir,
            key_log=key_log,
        )
        self.supervisor = Supervisor(self.context)
        self.started = 0.0
        self._interpreter = Interpreter(self._commands(), self._names)
        self._owners = {id(command): spec.name for spec in self.specs for command in spec.commands}
        self._offers = Offers()
        self._seats: dict[str, Seat] = {}
        self._synced: set[tuple[Topic[Any, Any], str]] = set()
        self._vrf_indexes: dict[str, int] = {DEFAULT_VRF: 0}
        self._vrfs: Writer[str, Any] = self.tables.vrfs.writer("router")

    def check(self) -> None:
        """Refuse services that do not fit together. Raises WiringError."""
        check_wiring(self.specs, NODE)

    # --- life -----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Router:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        self.started = self.context.clock.now()
        self._publish(self._offers_of(self.config))
        for spec in self.specs:
            self.supervisor.start(spec.name, self._factory(spec))
        await asyncio.sleep(0)  # lets each of them begin, so that commands find them

    async def stop(self) -> None:
        """Good-byes in reverse start order; no task is left."""
        await self.supervisor.stop()

    def _factory(self, spec: ServiceSpec) -> Any:
        return lambda context: spec.factory(self.config[spec.config] if spec.config else None, context)

    def apply(self, config: Config) -> None:
        """Run on `config` from now on. Only what it changes is touched, and what reads files.

        Policies come before the services that use them, and go after. What this raises, it raises before anything has
        changed. A service that cannot take its share is started anew with it, and the others are told all the same.
        """
        offers = self._offers_of(config)
        changed = [
            (spec.name, config[spec.config])
            for spec in self.specs
            if spec.config is not None and (spec.files is not None or config[spec.config] != self.config[spec.config])
        ]
        self.config = config
        gone = self._publish(offers)
        for name, section in changed:
            self.supervisor.reconfigure(name, section, (PolicyState,))
        self._seat("router").publish(PolicyState, gone)

    def _offers_of(self, config: Config) -> Offers:
        return offers_of(
            config,
            vrf_index=self._vrf_index,
            bindings=self.bindings,
            mac_of=self._mac_of,
            system_maps=self._system_maps(config),
        )

    def _publish(self, offers: Offers) -> Mapping[Any, None]:
        """Say what `offers` changes; returns the policies that are to go."""
        gone: dict[Any, None] = {}
        for topic, owner, table, rows in offers.changes(self._offers):
            if topic is VrfState:
                self._write_vrfs(rows)
            if topic is PolicyState:
                gone = {name: None for name, row in rows.items() if row is None}
                rows = {name: row for name, row in rows.items() if row is not None}  # noqa: PLW2901
            self._seat(owner).publish(topic, rows, table)
        # Every owner says once that this is all: who waits for all of them would otherwise wait in vain for the newest.
        for topic, owner in dict.fromkeys(((RouteOffered, "static"), *(key[:2] for key in offers.rows))):
            if (topic, owner) not in self._synced:
                self._synced.add((topic, owner))
                self._seat(owner).synced(topic)
        self._offers = offers
        return gone

    def _seat(self, owner: str) -> Seat:
        if owner not in self._seats:
            self._seats[owner] = self.bus.attach(owner, produces=NODE.produces)
        return self._seats[owner]

    def _write_vrfs(self, rows: Mapping[str, Any]) -> None:
        for name, row in rows.items():
            if row is None:
                self._vrfs.remove(name)
                self._vrf_indexes.pop(name, None)
            else:
                self._vrfs.put(name, row)

    def _vrf_index(self, name: str) -> int:
        if name not in self._vrf_indexes:
            used = set(self._vrf_indexes.values())
            self._vrf_indexes[name] = next(index for index in range(len(used) + 1) if index not in used)
        return self._vrf_indexes[name]

    def _mac_of(self, device: str) -> bytes:
        return next((d.mac for d in self.context.network.host.devices() if d.name == device), b"")

    def _system_maps(self, config: Config) -> list[RouteMap]:
        return [
            route_map
            for spec in self.specs
            if spec.route_maps is not None and spec.config is not None
            for route_map in spec.route_maps(config[spec.config])
        ]

    # --- what an operator asks ------------------------------------------------------------------------------------------

    async def show(self, line: str) -> Shown:
        """`show LINE`: text, and plain values. Raises CommandError."""
        return self.execute(f"show {line}")

    def only_shows(self, line: str) -> bool:
        """Whether a command shows what a service holds and does nothing else, so that a copy of this process may run it (see
        stack.apart). Raises CommandError."""
        command = self._interpreter.resolve(line).command
        return id(command) in self._owners and command.syntax.startswith("show ")

    def execute(self, line: str) -> Shown:
        """An exec command (show, clear, debug). Raises CommandError."""
        command, values, finish = self._interpreter.resolve(line)
        owner = self._owners.get(id(command), "")
        service = self.supervisor.service(owner) if owner else None
        if owner and service is None:
            raise CommandError(f"service {owner} is down; `show processes` says why")
        scene = Scene(service, self.tables, self.bus, self.config, self, self.context.clock.now())
        return finish(command.run(scene, values))

    @cached_property
    def grammar(self) -> Table:
        """The lines that this node's services understand."""
        return Table.from_specs(self.specs)

    def service(self, name: str) -> Service | None:
        return self.supervisor.service(name)

    def processes(self) -> tuple[Process, ...]:
        return self.supervisor.processes()

    def _commands(self) -> list[Command]:
        return [*NODE.commands, *(command for spec in self.specs for command in spec.commands)]

    def _names(self) -> Names:
        """Names that may hold blanks, for the interpreter: the longest known one wins."""
        node = self.config.node
        return Names(vrfs=tuple(node.vrfs), interfaces=tuple(self.tables.interfaces.rows), config=self.config)
