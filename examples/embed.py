"""labelspan inside your own program: configuration in, a running router out, its bus and its show commands at hand.

    python examples/embed.py

Two PEs of the mGRE lab run here on an in-memory network of real packets, in virtual time, without any privilege: a
`MemoryNetwork` node in the place of `OsNetwork()`, and nothing else is different. `watch` is what your program would do.
"""

from __future__ import annotations

import asyncio
import logging

import structlog

from bgp.events import PeerUp
from stack import Config, Router
from stack.addr import format_address
from stack.events import Delta, RouteSelected
from stack.lab.scenario import device_of, load
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock, run

LAB = load("mgre")
VRF = "Customer Red"


def wire(world: MemoryNetwork) -> None:
    """The cables of pe1 and pe2, the core between them, and a customer's host behind each."""
    for near, far in LAB.link.values():
        ends = [(owner, device_of(name) if owner in LAB.node else name) for owner, name in (near, far)]
        world.link(*ends)
    core = world.node("core", forwarding=True)
    for device, prefixes in LAB.router["core"].addresses.items():
        core.address(device, *prefixes)
    for prefix, via in LAB.router["core"].routes.items():
        core.route(prefix, via)
    for name in ("red1", "red2"):
        host = LAB.host[name]
        world.node(name).address("eth0", *host.addresses)
        for gateway in host.gateways:
            world.node(name).route("::/0" if ":" in gateway else "0.0.0.0/0", gateway)


def embedded(name: str, world: MemoryNetwork) -> Router:
    """On real packets this would be `Router(config, network=OsNetwork(), bindings={"Ethernet0/0": "eth0", ...})`."""
    config = Config.from_ios(LAB.node[name], source=f"{name}.cfg")
    bindings = {i: device_of(i) for ends in LAB.link.values() for owner, i in ends if owner == name}
    return Router(
        config, network=world.node(name), clock=VirtualClock(), entropy=SeededEntropy(name), bindings=bindings
    )


async def watch(router: Router, wanted: str) -> None:
    """Until the route that is `wanted` in VRF is there."""
    subscription = router.bus.subscribe(PeerUp, RouteSelected, name="mine")
    seen: set[str] = set()
    async for message in subscription:
        match message:
            case PeerUp():
                print(f"neighbour {format_address(message.address)} is up")
            case Delta() if message.table == VRF:
                for prefix, row in message.rows.items():
                    seen.add(str(prefix))
                    words = f"by {row.route.kind}, distance {row.route.distance}" if row else "is gone"
                    print(f"{message.table}: {prefix} {words}")
        if wanted in seen:
            break
    subscription.close()


async def main() -> None:
    world = MemoryNetwork(seed=1)
    wire(world)
    async with embedded("pe1", world) as pe1, embedded("pe2", world):
        await watch(pe1, "10.1.2.0/24")
        await asyncio.sleep(1)
        print((await pe1.show(f"ip cef vrf {VRF} tunnel 0")).text)
        print((await pe1.show("tunnel endpoints tunnel 0")).text)
        rows = (await pe1.show("ip bgp vpnv4 all")).value
        print(f"{len(rows)} rows of value behind the text; .json is the same as JSON")
        for result in await world.node("red1").ping("10.1.2.10", count=3):
            print(f"red1 to red2, {result}")


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    run(main())
