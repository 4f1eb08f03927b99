"""`labelspan run`: one node in the foreground, until SIGTERM or SIGINT. SIGHUP reads the configuration again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import signal
import sys
import time
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from attrs import define, field

from stack.config import Config
from stack.control import ControlServer, default_socket
from stack.ios.commands import neutral
from stack.router import Router

if TYPE_CHECKING:
    from structlog.typing import Processor

    from stack.keylog import KeyLog
    from stack.metrics import MetricsServer
from stack.wiring import WiringError

__all__ = ["Daemon", "configure_logging"]

EXIT_FAILED, EXIT_PRIVILEGE = 1, 3

COLLECT = (100_000, 50, 100)
"""Thresholds of the garbage collector."""

OPTIONAL = ("IPv6", "TCP_MD5SIG")
"""What a node may run without, as long as its configuration does not ask for it."""


def configure_logging(*, as_json: bool) -> None:
    """structlog to standard error: for people, or a JSON object a line."""
    # Plain tracebacks: with the values of locals they could show a key, and take a second in which nothing is forwarded.
    colors = sys.stderr.isatty()
    plain = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    stamped: list[Processor] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso")]
    chain: list[Processor]
    if as_json:
        chain = [*stamped, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        chain = [*stamped, _harmless, plain] if colors else [_without_colors([*stamped, _harmless], plain)]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _without_colors(before: Iterable[Processor], plain: Processor) -> Processor:
    """The lines that `before` and `plain` make, in a sixth of the time: a hub logs four for each peer that comes and goes. What
    is seldom is left to them."""
    second, stamp = -1, ""

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        nonlocal second, stamp
        if not event.keys().isdisjoint(_SELDOM):
            made: Any = event
            for processor in (*before, plain):
                made = processor(logger, method, made)
            return made
        now = time.time()
        if int(now) != second:
            second = int(now)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        level, said = _LEVELS.get(method, method), _safe(event.pop("event", ""))
        words = [f"{key}={_worded(event[key])}" for key in sorted(event)]
        head = f"{stamp}.{int((now - second) * 1e6):06}Z [{level:<9}] {said:<30}"
        return " ".join((head, *words)).rstrip(" ")

    return render


_SELDOM = frozenset({"exc_info", "exception", "stack", "logger", "logger_name"})
_LEVELS = {"warn": "warning", "exception": "error"}
_APART = re.compile("[ \\t=\\r\\n\"']")
_NUMBERS = (int, float, type(None))


def _worded(value: object) -> str:
    if isinstance(value, _NUMBERS):
        return repr(value)
    text = _safe(value)
    return repr(text) if _APART.search(text) else text


def _safe(value: object) -> str:
    """Nothing that a peer sent us (a shutdown text, a name) may drive the operator's terminal."""
    text = value if type(value) is str else str(value)
    return text if text.isprintable() else neutral(text)


def _harmless(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key != "exc_info" and not isinstance(value, _NUMBERS):
            event[key] = _safe(value)
    return event


@define(eq=False)
class _Signals:
    """What the process was told: to end, or to read its configuration again. What comes early is kept."""

    ending: bool = False
    rereading: bool = False
    _heard: asyncio.Event = field(factory=asyncio.Event)

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signum, self._hear, signum)

    def _hear(self, signum: signal.Signals) -> None:
        self.ending = self.ending or signum is not signal.SIGHUP
        self.rereading = self.rereading or signum is signal.SIGHUP
        self._heard.set()

    async def wait(self) -> None:
        await self._heard.wait()
        self._heard.clear()


@define(eq=False)
class Daemon:
    """`control` None: the default socket of `name`."""

    file: Path
    config: Config
    bindings: Mapping[str, str]
    name: str
    control: Path | None = None
    state: Path | None = None
    log_json: bool = False
    metrics: tuple[str, int] | None = None
    key_log: Path | None = None
    """Where every key is written (`FileKeyLog`); nowhere, unless it was asked for."""

    def run(self) -> int:
        """The exit code: 0 after a clean stop."""
        import uvloop

        configure_logging(as_json=self.log_json)
        # Routes are many small objects that live long and hold no cycles: the default thresholds make the collector walk
        # them over and over while a table is learnt (a third more CPU a route, measured with half a million).
        gc.set_threshold(*COLLECT)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._main())

    async def _main(self) -> int:
        from stack.os import OsNetwork
        from stack.os.privileges import findings

        lacking = [finding for finding in findings() if not finding.present and finding.name not in OPTIONAL]
        if lacking:
            for finding in lacking:
                print(f"labelspan: {finding.name} is missing ({finding.detail}); it is needed for", file=sys.stderr)
                print(f"  {finding.needed_for}\n  mend it with: {finding.command}", file=sys.stderr)
            return EXIT_PRIVILEGE
        log = structlog.get_logger().bind(node=self.name)
        signals = _Signals()
        signals.listen()
        network = OsNetwork()
        try:
            if self.state is not None:
                self.state.mkdir(parents=True, exist_ok=True)
            router = Router(
                self.config,
                network=network,
                bindings=self.bindings,
                state_dir=str(self.state or ""),
                log=log,
                key_log=self._key_log(log),
            )
            server = ControlServer(router, self.control or default_socket(self.name), apart=True)
            await server.start()
            metrics = await self._metrics(router)
        except (OSError, WiringError) as error:
            print(f"labelspan: {error}", file=sys.stderr)
            network.close()
            return EXIT_FAILED
        try:
            async with router:
                log.info("running", control=str(server.path))
                while not signals.ending:
                    await signals.wait()
                    if signals.rereading:
                        signals.rereading = False
                        self._reread(router, log)
                log.info("stopping")
        finally:
            with contextlib.suppress(OSError):
                await server.stop()
            if metrics is not None:
                await metrics.stop()
            network.close()
        return 0

    def _key_log(self, log: structlog.typing.FilteringBoundLogger) -> KeyLog | None:
        """Where keys go, if they are to go anywhere. Raises OSError."""
        if self.key_log is None:
            return None
        from stack.keylog import FileKeyLog

        key_log = FileKeyLog(self.key_log, trouble=lambda why: log.error("keys are missing in the key log", reason=why))
        log.warning(
            "EVERY KEY OF THIS NODE IS WRITTEN TO FILES: whoever reads them reads all its traffic (--key-log)",
            folder=str(self.key_log),
        )
        return key_log

    async def _metrics(self, router: Router) -> MetricsServer | None:
        """The page for scrapers, if one was asked for. Raises OSError."""
        if self.metrics is None:
            return None
        from stack.metrics import MetricsServer

        server = MetricsServer(router, *self.metrics)
        await server.start()
        return server

    def _reread(self, router: Router, log: structlog.typing.FilteringBoundLogger) -> None:
        """Apply the file as it is now; a faulty one changes nothing, and ends nothing."""
        from stack.ios.check import doubts, read_file, refusals
        from stack.ios.faults import ConfigError

        try:
            reading = read_file(self.file)
            if refused := refusals(self.file, reading):
                log.warning("configuration not applied", reason="; ".join(refused))
                return
            router.apply(reading.config)
        except ConfigError as error:
            if self.log_json:
                log.warning("configuration not applied", faults=len(error.faults), reason=str(error))
            else:
                print(error, file=sys.stderr)
                log.warning("configuration not applied", faults=len(error.faults))
        except OSError as error:
            log.warning("configuration not applied", reason=str(error))
        except Exception:
            log.exception("configuration not applied")
        else:
            for line in doubts(self.file, reading):
                log.warning("doubtful configuration", line=line)
            log.info("configuration applied")
