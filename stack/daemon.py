"""`labelspan run`: one node in the foreground, until SIGTERM or SIGINT. SIGHUP reads the configuration again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog
from attrs import define

from stack.config import Config
from stack.control import ControlServer, default_socket
from stack.router import Router

__all__ = ["Daemon", "configure_logging"]

EXIT_FAILED, EXIT_PRIVILEGE = 1, 3

OPTIONAL = ("IPv6", "TCP_MD5SIG")
"""What a node may run without, as long as its configuration does not ask for it."""


def configure_logging(*, as_json: bool) -> None:
    """structlog to standard error: for people, or a JSON object a line."""
    renderer = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info if as_json else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


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

    def run(self) -> int:
        """The exit code: 0 after a clean stop."""
        import uvloop

        configure_logging(as_json=self.log_json)
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
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stopping.set)
        if self.state is not None:
            self.state.mkdir(parents=True, exist_ok=True)
        network = OsNetwork()
        router = Router(self.config, network=network, bindings=self.bindings, state_dir=str(self.state or ""), log=log)
        loop.add_signal_handler(signal.SIGHUP, self._reread, router, log)
        server = ControlServer(router, self.control or default_socket(self.name))
        try:
            await server.start()
        except OSError as error:
            print(f"labelspan: {error}", file=sys.stderr)
            return EXIT_FAILED
        try:
            async with router:
                log.info("running", control=str(server.path))
                await stopping.wait()
                log.info("stopping")
        finally:
            with contextlib.suppress(OSError):
                await server.stop()
            network.close()
        return 0

    def _reread(self, router: Router, log: structlog.typing.FilteringBoundLogger) -> None:
        """Apply the file as it is now; a faulty one changes nothing."""
        from stack.ios.reader import ConfigError

        try:
            config = Config.from_ios(self.file.read_text(errors="replace"), source=str(self.file))
        except (ConfigError, OSError) as error:
            log.warning("configuration not applied", reason=str(error))
            return
        router.apply(config)
        log.info("configuration applied")
