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

import uvloop

from bgp.events import PeerDown, PeerUp
from stack import Config, Router
from stack.addr import format_address
from stack.alone import add_options, run_alone
from stack.events import Delta, RouteSelected
from stack.lab.scenario import load

NODES = load("mgre").node


async def watch(router: Router) -> None:
    """Print what the bus says of neighbours and of the customers' routes."""
    print(f"{router.config.node.hostname} is running", flush=True)
    async for message in router.bus.subscribe(PeerUp, PeerDown, RouteSelected, name="example"):
        if isinstance(message, PeerUp):
            print(f"neighbour {format_address(message.address)} up", flush=True)
        elif isinstance(message, PeerDown):
            print(f"neighbour {format_address(message.address)} down: {message.reason}", flush=True)
        elif isinstance(message, Delta) and message.table:
            for prefix, row in message.rows.items():
                print(f"{message.table}: {prefix} {'by ' + row.route.kind if row else 'gone'}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="one PE of the mGRE lab")
    parser.add_argument("node", choices=sorted(NODES))
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_alone(Config.from_ios(NODES[options.node], source=f"{options.node}.cfg"), options, watch))
