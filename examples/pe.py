"""One PE of the mGRE lab as a script: what `labelspan run` does, in the few lines that an embedding needs.

    python examples/pe.py pe1 --bind Ethernet0/0=eth0 --bind Ethernet0/1=eth1 --bind Ethernet0/2=eth2 --bind Ethernet0/3=eth3

It needs CAP_NET_RAW and CAP_NET_ADMIN (root has them). The configuration is the lab's own, from the package; the other two
PEs can be the same script on other hosts or in other network namespaces, or any router that speaks the same standards.
It stops on SIGTERM or Ctrl-C, with a BGP Cease to its neighbours. Ask it with
`labelspan exec --control SOCKET "show ip route vrf Customer Red"` if it was given `--control SOCKET`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import uvloop

from bgp.events import PeerDown, PeerUp
from stack import Config, Router
from stack.addr import format_address
from stack.control import ControlServer
from stack.events import Delta, RouteSelected
from stack.lab.scenario import load
from stack.os import OsNetwork

SCENARIO = "mgre"


async def watch(router: Router) -> None:
    """Print what the bus says of neighbours and of the customers' routes."""
    async for message in router.bus.subscribe(PeerUp, PeerDown, RouteSelected, name="example"):
        if isinstance(message, PeerUp):
            print(f"neighbour {format_address(message.address)} up", flush=True)
        elif isinstance(message, PeerDown):
            print(f"neighbour {format_address(message.address)} down: {message.reason}", flush=True)
        elif isinstance(message, Delta) and message.table:
            for prefix, row in message.rows.items():
                print(f"{message.table}: {prefix} {'by ' + row.route.kind if row else 'gone'}", flush=True)


async def main(options: argparse.Namespace) -> None:
    text = load(SCENARIO).node[options.node]
    network = OsNetwork()
    router = Router(
        Config.from_ios(text, source=f"{options.node}.cfg"),
        network=network,
        bindings=dict(binding.split("=", 1) for binding in options.bind),
    )
    control = ControlServer(router, options.control) if options.control else None
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    async with router:
        if control is not None:
            await control.start()
        watching = asyncio.create_task(watch(router))
        print(f"{options.node} is running", flush=True)
        await stopping.wait()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        if control is not None:
            await control.stop()
    network.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="one PE of the mGRE lab")
    parser.add_argument("node", choices=sorted(load(SCENARIO).node))
    parser.add_argument("--bind", action="append", default=[], metavar="INTERFACE=DEVICE")
    parser.add_argument("--control", type=Path, metavar="SOCKET")
    options = parser.parse_args()
    if wrong := [binding for binding in options.bind if not all(binding.partition("="))]:
        parser.error(f"--bind {wrong[0]!r}: INTERFACE=DEVICE expected")
    return options


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(arguments()))
    sys.exit(0)
