"""What every service is, and who keeps them alive.

`ServiceShell` is the one shape of all services: a mailbox, one timer, guarded callbacks. A subclass feeds its engine and
performs what it answers. `Supervisor` runs each service in a task of its own: one that raises is closed, its table handles
are taken back, `ServiceDown` is posted, and after a back-off a new incarnation starts. Nobody else's session notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import structlog
from attrs import define, field, frozen

from stack.bus import Bus, Message, Seat
from stack.clock import Clock, OsClock
from stack.entropy import Entropy, OsEntropy
from stack.events import ServiceDown, ServiceUp, Topic
from stack.keylog import KeyLog
from stack.net import Network
from stack.tables import Tables

__all__ = ["BACKOFF", "Context", "Process", "Service", "ServiceShell", "Supervisor"]

F = TypeVar("F", bound=Callable[..., None])


@frozen
class Context:
    """Where a service lives: everything of the node that it may use. `incarnation` counts its starts from 1.

    `kept`: what a service leaves to its next incarnation, under its own name: what it did to the world outside and what no
    table holds. What has a `close` there is closed when the node stops.

    `key_log` is None unless an operator asked for it by name; who makes keys tells it of them, and of nothing else."""

    bus: Bus
    network: Network
    tables: Tables = field(factory=Tables)
    clock: Clock = field(factory=OsClock)
    entropy: Entropy = OsEntropy
    incarnation: int = 1
    log: Any = field(factory=structlog.get_logger)
    state_dir: str = ""
    kept: dict[str, Any] = field(factory=dict)
    key_log: KeyLog | None = field(default=None, repr=False)


class Service(Protocol):
    """What the supervisor needs of a service; `ServiceShell` is the usual base."""

    name: str

    async def run(self) -> None:
        """Start, and serve until `stop`. Raises what ended it."""

    async def stop(self) -> None:
        """Say good-bye to peers and let `run` return."""

    def adopt(self, config: Any, topics: Iterable[Topic[Any, Any]] = ()) -> None:
        """A new version of the service's configuration. It speaks of names that rows of `topics` have just brought. What
        it raises ends this incarnation."""

    def fail(self, error: BaseException) -> None:
        """End this incarnation because of `error`: `run` raises it."""


class ServiceShell:
    """Base of the services. Subclasses set `name` and override `begin`, `receive`, `wake`, `deadline`, `drain`, `close`."""

    name = "service"
    produces: frozenset[Any] | None = None
    consumes: frozenset[Any] | None = None

    def __init__(self, context: Context) -> None:
        self.context = context
        self.log = context.log.bind(service=self.name)
        self._wanted = asyncio.Event()
        self._stopping = False
        self._error: BaseException | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.seat: Seat = context.bus.attach(
            self.name,
            incarnation=context.incarnation,
            produces=self.produces,
            consumes=self.consumes,
            ready=self._wanted.set,
        )

    # --- what a subclass does -------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Open sockets, subscribe, publish what is held. Runs once, before anything else."""

    def receive(self, message: Message) -> None:
        """A batch of rows, a Synced or a fact from the bus."""

    def received(self) -> None:
        """A turn's messages have all been given to `receive`."""

    def wake(self) -> None:
        """The time that `deadline` named has come."""

    def deadline(self) -> float | None:
        """When `wake` must be called at the latest, on the loop's clock."""
        return None

    async def drain(self) -> None:
        """Say good-bye to peers (Cease, DELETE, purge). Bounded by the supervisor."""

    def close(self) -> None:
        """Release every socket and table handle. Always called, also after a crash."""

    def reconfigure(self, config: Any) -> None:
        """Apply a new version of the service's configuration; sessions it does not touch stay."""

    def adopt(self, config: Any, topics: Iterable[Topic[Any, Any]] = ()) -> None:
        """`reconfigure`, after what waits of `topics` has been heard: else a policy that the new configuration names would
        for a moment not exist, and every route it rules be withdrawn."""
        for message in self.seat.mailbox.take_of(*topics):
            self.receive(message)
        self.reconfigure(config)

    # --- what a subclass uses -------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.context.clock.now()

    def guarded(self, callback: F) -> F:
        """`callback` for a socket or the loop: what it raises ends this service, not the loop's other users."""

        def call(*args: Any, **named: Any) -> None:
            if self._error is not None:
                return
            try:
                callback(*args, **named)
            except Exception as error:
                self.fail(error)

        return call  # type: ignore[return-value]  # same signature by construction

    def fail(self, error: BaseException) -> None:
        """End this service because of `error`."""
        if self._error is None:
            self._error = error
        self._wanted.set()

    def spawn(self, work: Any, name: str) -> asyncio.Task[Any]:
        """A task that ends with the service; what it raises ends the service."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self.name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)
        return task

    def _spawned_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def rearm(self) -> None:
        """Set the one timer from `deadline()`. Cheap when that has not come nearer: a timer that is too early asks again."""
        when = self.deadline()
        if self._timer is not None:
            if when is None or (self._armed is not None and self._armed <= when):
                return
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._armed = when
            self._timer = asyncio.get_running_loop().call_at(when, self.guarded(self._woken))

    def _woken(self) -> None:
        early, self._timer, self._armed = self._armed, None, None
        when = self.deadline()
        if when is not None and (early is None or when <= max(early, self.now)):
            self.wake()
        self.rearm()

    # --- the supervisor's side ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            await self.begin()
            self.rearm()
            while not self._stopping and self._error is None:
                await self._wanted.wait()
                self._wanted.clear()
                if self._error is None:
                    for message in self.seat.mailbox.take():
                        self.receive(message)
                    self.received()
                    self.rearm()
                await asyncio.sleep(0)
            if self._error is None:
                await self.drain()
        finally:
            self._release()
        if self._error is not None:
            raise self._error

    async def stop(self) -> None:
        self._stopping = True
        self._wanted.set()

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        self.seat.close()
        self.close()


BACKOFF = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a service that ended is started again, the last one repeated; a minute of health starts over."""

HEALTHY = 60.0
SWEEP_AFTER = 120.0
"""Seconds of failing over and over after which a service's rows are withdrawn: it is not coming back."""

STOP_WITHIN = 5.0
"""Seconds that a service has for its good-byes."""


@frozen
class Process:
    """A line of `show processes`."""

    name: str
    incarnation: int
    state: str
    since: float
    restarts: int
    reason: str


Factory = Callable[[Context], Service]


@define(eq=False)
class _Entry:
    name: str
    factory: Factory
    incarnation: int = 0
    service: Service | None = None
    task: asyncio.Task[None] | None = None
    state: str = "new"
    since: float = 0.0
    failures: int = 0
    sick_since: float = 0.0
    restarts: int = 0
    reason: str = ""
    stopping: bool = False


@define(eq=False)
class Supervisor:
    """Starts services in order, restarts those that raise, stops all in reverse order. `context` is the node's."""

    context: Context
    _entries: dict[str, _Entry] = field(factory=dict)
    _seat: Seat = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._seat = self.context.bus.attach("supervisor", produces=(ServiceUp, ServiceDown))

    def start(self, name: str, factory: Factory) -> None:
        entry = self._entries[name] = _Entry(name, factory)
        entry.task = asyncio.get_running_loop().create_task(self._keep(entry), name=f"service:{name}")

    def service(self, name: str) -> Service | None:
        """The running incarnation, or None while there is none."""
        entry = self._entries.get(name)
        return entry.service if entry else None

    def reconfigure(self, name: str, config: Any, topics: Iterable[Topic[Any, Any]] = ()) -> None:
        """Tell a service of its new configuration (see `Service.adopt`). One that cannot take it ends, and its factory makes
        the next incarnation from the new one; one that is not running needs no telling. Nobody else is disturbed."""
        service = self.service(name)
        if service is None:
            return
        try:
            service.adopt(config, topics)
        except Exception as error:
            service.fail(error)

    def processes(self) -> tuple[Process, ...]:
        return tuple(
            Process(e.name, e.incarnation, e.state, e.since, e.restarts, e.reason) for e in self._entries.values()
        )

    async def stop(self) -> None:
        """Stop all, last started first, each with a deadline. No task is left, whatever one of them raises."""
        for entry in reversed(list(self._entries.values())):
            entry.stopping = True
            if entry.task is None:
                continue
            if entry.service is None or not await self._asked_to_stop(entry, entry.service):
                entry.task.cancel()
            _, late = await asyncio.wait({entry.task}, timeout=STOP_WITHIN)
            if late:
                self.context.log.warning("service did not stop in time", service=entry.name, seconds=STOP_WITHIN)
                entry.task.cancel()
                await asyncio.wait({entry.task})
        for name, left in self.context.kept.items():
            if close := getattr(left, "close", None):
                try:
                    close()
                except Exception:
                    self.context.log.exception("something is left behind", service=name)
        self.context.kept.clear()

    async def _asked_to_stop(self, entry: _Entry, service: Service) -> bool:
        try:
            await service.stop()
        except Exception:
            self.context.log.exception("service cannot say good-bye", service=entry.name)
            return False
        return True

    async def _keep(self, entry: _Entry) -> None:
        clock = self.context.clock
        while not entry.stopping:
            started = clock.now()
            error = await self._once(entry)
            if entry.stopping or error is None:
                entry.state, entry.since = "stopped", clock.now()
                return
            entry.failures = 1 if clock.now() - started > HEALTHY else entry.failures + 1
            entry.restarts += 1
            await self._wait_before_restart(entry)

    async def _wait_before_restart(self, entry: _Entry) -> None:
        now = self.context.clock.now()
        if entry.failures == 1:
            entry.sick_since = now
        elif now - entry.sick_since >= SWEEP_AFTER:
            self.context.bus.sweep(entry.name)
        await asyncio.sleep(BACKOFF[min(entry.failures, len(BACKOFF)) - 1])

    async def _once(self, entry: _Entry) -> BaseException | None:
        """One incarnation, from start to end; what ended it."""
        context = self.context
        entry.incarnation += 1
        entry.state, entry.since = "running", context.clock.now()
        error: BaseException | None = None
        try:
            entry.service = entry.factory(_incarnated(context, entry.incarnation))
            self._seat.post(ServiceUp(entry.name, entry.incarnation))
            await entry.service.run()
        except Exception as caught:
            error = caught
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if entry.stopping or task is None or task.cancelling():
                raise
            # Nobody cancelled the service: something that it awaited was. That must not be the last that is heard of it.
            error = RuntimeError("what the service waited for was cancelled")
        finally:
            entry.service = None
            context.tables.revoke(entry.name)
        if error is not None:
            entry.state, entry.since = "down", context.clock.now()
            entry.reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            context.log.error("service ended", service=entry.name, reason=entry.reason, exc_info=error)
            self._seat.post(ServiceDown(entry.name, entry.incarnation, entry.reason))
        return error


def _incarnated(context: Context, incarnation: int) -> Context:
    return Context(
        bus=context.bus,
        network=context.network,
        tables=context.tables,
        clock=context.clock,
        entropy=context.entropy,
        incarnation=incarnation,
        log=context.log,
        state_dir=context.state_dir,
        kept=context.kept,
        key_log=context.key_log,
    )
