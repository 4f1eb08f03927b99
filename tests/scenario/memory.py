"""Small topologies of whole nodes on the in-memory network and the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from structlog.testing import LogCapture

from stack.config import Config
from stack.router import Router
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock
from stack.testing.loop import EPOCH
from stack.testing.node import MemoryNode
from stack.testing.ping import PingResult


class Net:
    """`routers` are our nodes; hosts and plain routers are the world's own. `logs`: what each node logged from INFO on.
    `epoch`: the date at the start, where certificates of now are to be believed."""

    def __init__(self, seed: int = 1, epoch: float = EPOCH) -> None:
        self.world = MemoryNetwork(seed=seed, kept=20_000)
        self.seed = seed
        self.epoch = epoch
        self.routers: dict[str, Router] = {}
        self.texts: dict[str, str] = {}
        self.devices: dict[str, dict[str, str]] = {}
        self.logs: dict[str, list[Any]] = {}

    def link(self, one: str, other: str, **figures: Any) -> Any:
        """`"pe1 Ethernet0/0", "core eth1"`: an interface of ours, or a device of a host."""
        ends = []
        for end in (one, other):
            owner, _, name = end.partition(" ")
            device = name.replace("Ethernet", "e").replace("/", "-")
            self.devices.setdefault(owner, {})[name] = device
            ends.append((owner, device))
        return self.world.link(*ends, **figures)

    def host(self, name: str, addresses: list[str], *gateways: str) -> MemoryNode:
        node = self.world.node(name)
        node.address("eth0", *addresses)
        for gateway in gateways:
            node.route("::/0" if ":" in gateway else "0.0.0.0/0", gateway)
        return node

    async def start(self, name: str, text: str) -> Router:
        self.texts[name] = text
        capture = LogCapture()
        self.logs[name] = capture.entries
        log = structlog.wrap_logger(
            structlog.ReturnLogger(), processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(20)
        )
        bindings = {i: d for i, d in self.devices.get(name, {}).items() if i.startswith("Ethernet")}
        router = Router(
            Config.from_ios(text, source=name),
            network=self.world.node(name),
            clock=VirtualClock(epoch=self.epoch),
            entropy=SeededEntropy(f"{self.seed}/{name}/router"),
            bindings=bindings,
            log=log,
        )
        self.routers[name] = router
        await router.start()
        return router

    def apply(self, name: str, text: str) -> None:
        self.texts[name] = text
        self.routers[name].apply(Config.from_ios(text, source=name))

    def show(self, name: str, command: str) -> Any:
        return self.routers[name].execute(command).value

    def text(self, name: str, command: str) -> str:
        return self.routers[name].execute(command).text

    async def until(self, holds: Callable[[], Any], *, within: float = 60.0, what: str = "") -> None:
        """Wait in virtual time; the condition is looked at ten times a second."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while not holds():
            if loop.time() > end:
                raise AssertionError(f"not within {within} s: {what or holds}")
            await asyncio.sleep(0.1)

    def logged(self, name: str, event: str) -> list[Any]:
        """The node's log lines whose event holds these words."""
        return [entry for entry in self.logs[name] if event in entry["event"]]

    def drops(self, name: str) -> dict[tuple[str, str], int]:
        """(reason, interface) -> packets of `show counters drops`."""
        rows = self.show(name, "show counters drops")["drops"]
        return {(row["reason"], row["interface"]): row["packets"] for row in rows}

    async def ping(self, host: str, destination: str, **named: Any) -> PingResult:
        (result,) = await self.world.node(host).ping(destination, count=1, timeout=1.0, **named)
        return result

    async def reaches(self, host: str, destination: str, **named: Any) -> bool:
        return (await self.ping(host, destination, **named)).ok

    async def connected(self, host: str, destination: str, within: float = 30.0, **named: Any) -> None:
        """It reaches it, sooner or later."""
        end = asyncio.get_running_loop().time() + within
        while not await self.reaches(host, destination, **named):
            assert asyncio.get_running_loop().time() < end, f"{host} never reaches {destination}"
            await asyncio.sleep(0.1)

    def established(self, name: str) -> set[tuple[str, str]]:
        """(VRF, neighbour) of the sessions that are up."""
        return {
            (row["vrf"], row["neighbor-address"])
            for family in self.show(name, "show bgp summary")
            for row in family["neighbors"]
            if row["session-state"] == "ESTABLISHED"
        }

    async def stop(self) -> None:
        for name in list(self.routers):
            await self.routers.pop(name).stop()
        self.world.close()
