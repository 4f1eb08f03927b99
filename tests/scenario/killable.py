"""A program that embeds a node on real packets and ends one of its services for each name that it reads from its input.

    python tests/scenario/killable.py FILE SOCKET INTERFACE=DEVICE...

What it does is what any embedding can: `router.service(name).fail(error)`, as if the service had raised.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from stack import Config, Router
from stack.control import ControlServer
from stack.daemon import configure_logging
from stack.os import OsNetwork


async def main(config: Config, control: Path, *bindings: str) -> None:
    configure_logging(as_json=False)
    network = OsNetwork()
    router = Router(
        config,
        network=network,
        bindings=dict(binding.split("=", 1) for binding in bindings),
    )
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)

    def named() -> None:
        for name in sys.stdin.readline().split():
            service = router.service(name)
            assert service is not None, name
            service.fail(RuntimeError("killed by the test"))

    loop.add_reader(sys.stdin.fileno(), named)
    server = ControlServer(router, control)
    async with router:
        await server.start()
        await stopping.wait()
        await server.stop()
    loop.remove_reader(sys.stdin.fileno())
    network.close()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, left
    print("no task is left", flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Config.from_ios(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), *sys.argv[3:]))
