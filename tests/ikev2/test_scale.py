"""A hub with many tunnels: all come up, each is rekeyed, all go, and nothing of them is left in any service of the node.

Counts, not times: `benchmarks/ipsec_tunnels.py` has those. The hub is a whole node from IOS text, the spokes are one
Ikev2Service that wants so many neighbours, each from an address of its own. Virtual time, in memory.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from ikev2.config import IpsecProfile
from ikev2.engine.lifecycle import LINGER
from ikev2.service import Ikev2Service
from stack.addr import format_address, parse_address
from stack.bus import Bus
from stack.config import Config
from stack.events import (
    AccessWanted,
    AdjacencyState,
    InterfaceState,
    ProtectedRow,
    RouteSelected,
    SaKey,
    SaRequest,
    SaSoft,
    SaState,
    SaWanted,
    TunnelProtected,
)
from stack.lab.memory import _QUIET
from stack.router import Router
from stack.service import Context, Supervisor
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock, run
from tests.ikev2.nodes import psk, psk_config

TUNNELS = 250

HUB = """hostname hub
aaa new-model
aaa authorization network default local
ip local pool POOL 10.128.0.1 10.128.3.254
crypto ikev2 authorization policy default
 pool POOL
 route set interface Loopback0
!
crypto ikev2 keyring K
 peer any
  address 0.0.0.0 0.0.0.0
  pre-shared-key a-secret
 !
!
crypto ikev2 cookie-challenge 1000
crypto ikev2 profile default
 match identity remote address 10.64.0.0 255.255.0.0
 identity local fqdn hub.example
 authentication local pre-share
 authentication remote pre-share
 keyring local K
 aaa authorization group psk list default default
 virtual-template 1
!
crypto ipsec profile P
 set security-association lifetime seconds 3600
!
interface Loopback0
 ip address 10.127.0.1 255.255.255.255
!
interface Ethernet0/0
 ip address 192.0.2.1 255.255.255.0
!
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback0
 tunnel source Ethernet0/0
 mpls bgp forwarding
 tunnel protection ipsec profile P
!
ip route 10.64.0.0 255.255.0.0 192.0.2.2
end
"""

PACKAGES = ("stack", "bgp", "ikev2", "mfi", "tunnel")

BOUNDED = {
    # The last so many changes, for readers that lag behind (`stack.tables.table.JOURNAL`), and what stands in them.
    "InterfaceTable._journal",
    "NextHopTable._journal",
    "AdjacencyTable._journal",
    "ReceptionTable._journal",
    "SadTable._journal",
    "SaKey",
    "RibTable._journal",
    "NextHopKey",
    "AdjacencyKey",
    # The network of the test remembers what was done to its hosts.
    "MemoryHost.log",
}


def census() -> Counter[str]:
    """How many objects of our classes there are, and how much all their containers hold, by class and attribute."""
    gc.collect()
    found: Counter[str] = Counter()
    for one in gc.get_objects():
        kind = type(one)
        if str(kind.__module__).partition(".")[0] not in PACKAGES or isinstance(one, type):
            continue
        found[kind.__qualname__] += 1
        for name, value in _attributes(one):
            if isinstance(value, dict | list | set | deque):
                found[f"{kind.__qualname__}.{name}"] += _held(value)
    return found


def _held(container: Any) -> int:
    """With what containers in it hold."""
    inner = container.values() if isinstance(container, dict) else container
    return len(container) + sum(_held(one) for one in inner if isinstance(one, dict | list | set | deque))


def _attributes(one: object) -> Iterator[tuple[str, object]]:
    yield from getattr(one, "__dict__", {}).items()
    for kind in type(one).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__"):
                yield name, getattr(one, name, None)


class Spokes:
    """One service with a tunnel from each of its addresses to the hub."""

    def __init__(self, world: MemoryNetwork, tunnels: int) -> None:
        self.hub = parse_address("192.0.2.1")
        self.own = {SaKey(f"Tunnel{n}"): bytes((10, 64, n >> 8, n & 255)) for n in range(1, tunnels + 1)}
        node = world.node("spokes")
        node.address("e0", *(f"{format_address(one)}/32" for one in self.own.values()))
        self.bus = Bus()
        self.context = Context(
            bus=self.bus, network=node, clock=VirtualClock(), entropy=SeededEntropy("spokes"), log=_QUIET
        )
        self.supervisor = Supervisor(self.context)
        self.seat = self.bus.attach("test")
        config = psk_config(psk(key="a-secret"), ipsec_profiles={"P": IpsecProfile("P")})
        self.supervisor.start("ikev2", lambda context: Ikev2Service(config, context))

    def want(self, keys: Mapping[SaKey, bytes]) -> None:
        self.seat.publish(
            TunnelProtected,
            {key.interface: ProtectedRow("P", own, self.hub, negotiated=True) for key, own in keys.items()},
        )
        self.seat.publish(SaWanted, {key: SaRequest("P", own, self.hub) for key, own in keys.items()})

    def let_go(self) -> None:
        self.seat.publish(SaWanted, dict.fromkeys(self.own))
        self.seat.publish(TunnelProtected, dict.fromkeys(key.interface for key in self.own))

    def states(self) -> dict[Any, Any]:
        return dict(self.bus.rows(SaState).get("ikev2", {}))

    @property
    def up(self) -> int:
        return sum(row.up for row in self.states().values())

    def rekey(self) -> None:
        """All CHILD_SAs have carried as much as they may."""
        for bundle in self.context.tables.sad:
            assert bundle.outbound is not None
            self.seat.post(SaSoft(bundle.outbound.spi, inbound=False))


async def until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    begun = VirtualClock().now()
    while not holds():
        assert VirtualClock().now() - begun < seconds, "it does not happen"
        await asyncio.sleep(0.1)


class Hub:
    def __init__(self, world: MemoryNetwork) -> None:
        self.router = Router(
            Config.from_ios(HUB, source="hub"),
            network=world.node("hub"),
            clock=VirtualClock(),
            entropy=SeededEntropy("hub"),
            bindings={"Ethernet0/0": "e0"},
            log=_QUIET,
        )

    def rows(self, topic: Any) -> int:
        return sum(len(rows) for rows in self.router.bus.rows(topic).values())

    def counts(self) -> dict[str, int]:
        tables = self.router.tables
        return {
            "IKE SAs": len(self.router.execute("show crypto ikev2 sa").value),
            "inbound SAs": len(tables.sad.inbound),
            "bundles": len(tables.sad.bundles),
            "virtual access": self.rows(AccessWanted),
            "interfaces": self.rows(InterfaceState),
            "adjacencies": self.rows(AdjacencyState),
            "routes": sum(
                bool(selected.route.vias) for selected in self.router.bus.rows(RouteSelected)["routing"].values()
            ),
            "tasks": len(asyncio.all_tasks()),
        }


def with_hub(main: Callable[[Hub, Spokes], Awaitable[None]], tunnels: int = TUNNELS) -> None:
    async def whole() -> None:
        world = MemoryNetwork(seed=7, kept=0)
        world.link(("hub", "e0"), ("spokes", "e0"))
        world.node("spokes").address("e0", "192.0.2.2/24")
        hub = Hub(world)
        async with hub.router:
            spokes = Spokes(world, tunnels)
            await asyncio.sleep(1)
            await main(hub, spokes)
            await spokes.supervisor.stop()

    run(whole())


async def live(hub: Hub, spokes: Spokes, empty: dict[str, int]) -> None:
    """All tunnels come, are rekeyed, and go."""
    spokes.want(spokes.own)
    await until(lambda: spokes.up == TUNNELS and hub.rows(AccessWanted) == TUNNELS)
    await asyncio.sleep(1)
    full = hub.counts()
    each = {name: (full[name] - empty[name]) / TUNNELS for name in full}
    assert each.pop("tasks") == 0
    assert each == dict.fromkeys(each, 1)
    children = {key: row.child for key, row in spokes.states().items()}
    spokes.rekey()
    await until(lambda: all(row.child != children[key] for key, row in spokes.states().items()))
    await asyncio.sleep(2 * LINGER)
    assert hub.counts() == full
    spokes.let_go()
    await until(lambda: not hub.rows(AccessWanted))
    await asyncio.sleep(2 * LINGER)
    assert hub.counts() == empty


@pytest.mark.slow
def test_many_tunnels_come_are_rekeyed_and_leave_nothing() -> None:
    """The second time round nothing grows, neither on the bus nor in any object of the node: what the first has left (numbers
    of interfaces that are free again, addresses that wait for whoever had them) is used again."""

    async def main(hub: Hub, spokes: Spokes) -> None:
        empty = hub.counts()
        await live(hub, spokes, empty)
        objects = census()
        await live(hub, spokes, empty)
        grown = {name: count for name, count in (census() - objects).items() if name not in BOUNDED}
        # A few are of the moment: timers, what is on its way.
        assert not {name: count for name, count in grown.items() if count > TUNNELS / 10}

    with_hub(main)
