"""A node as the whole of a script: up until SIGTERM or Ctrl-C, then down with good-byes."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from stack.config import Config
from stack.control import ControlServer
from stack.os import OsNetwork
from stack.router import Router

__all__ = ["add_options", "run_alone"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--bind` and `--control`, as `labelspan run` has them."""
    parser.add_argument("--bind", action="append", default=[], metavar="INTERFACE=DEVICE", type=_binding)
    parser.add_argument("--control", type=Path, metavar="SOCKET")


def _binding(text: str) -> tuple[str, str]:
    interface, _, device = text.partition("=")
    if not interface or not device:
        raise argparse.ArgumentTypeError(f"{text!r}: INTERFACE=DEVICE expected")
    return interface, device


async def run_alone(
    config: Config, options: argparse.Namespace, watch: Callable[[Router], Coroutine[Any, Any, None]]
) -> None:
    """Run `config` on the host's own network, as `add_options` was told; `watch` runs beside it. Raises what the node raises
    when it cannot start, and what `watch` raises."""
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    network = OsNetwork()
    try:
        async with AsyncExitStack() as stack:
            router = await stack.enter_async_context(Router(config, network=network, bindings=dict(options.bind)))
            if options.control is not None:
                control = ControlServer(router, options.control)
                await control.start()
                stack.push_async_callback(control.stop)
            watching = asyncio.create_task(watch(router))
            waiting = asyncio.create_task(stopping.wait())
            await asyncio.wait({watching, waiting}, return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, waiting):
                task.cancel()
            ended = await asyncio.gather(watching, waiting, return_exceptions=True)
            if isinstance(ended[0], Exception):
                raise ended[0]
    finally:
        network.close()
