"""A lab in one process, on the in-memory network and the virtual clock: the same services, no privilege, no waiting."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog
from attrs import define, field

from stack.addr import format_address, parse_address
from stack.config import Config
from stack.ios.command import CommandError, Shown
from stack.lab.capture_folder import CaptureFolder
from stack.lab.conduct import Conduct, Red
from stack.lab.scenario import device_of
from stack.lab.testbed import Answer
from stack.router import Router
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock
from stack.testing.capture import Capture
from stack.testing.loop import EPOCH

__all__ = ["MemoryTestbed"]

KEPT = 20_000
"""Frames of a link that are remembered between two `forget`s."""


@define(eq=False)
class MemoryTestbed:
    """`routers`: the running nodes by name."""

    conduct: Conduct
    backend: str = "memory"
    seed: int = 1
    world: MemoryNetwork = field(init=False)
    routers: dict[str, Router] = field(factory=dict)
    _links: dict[str, Any] = field(factory=dict)
    _epoch: float = EPOCH
    _capture: CaptureFolder | None = None
    _pcapng: Capture | None = None

    def __attrs_post_init__(self) -> None:
        self.world = MemoryNetwork(seed=self.seed, kept=KEPT)
        if self.conduct.scenario.prepare:
            self._epoch = time.time()  # the real one: certificates that were made for this run must be valid in it

    async def start(self, capture: CaptureFolder | None) -> None:
        scenario = self.conduct.scenario
        for name, ends in scenario.link.items():
            near, far = ((owner, scenario.device(owner, interface)) for owner, interface in ends)
            link = self._links[name] = self.world.link(near, far)
            link.name = name
        for name, router in scenario.router.items():
            node = self.world.node(name, forwarding=True)
            for device, prefixes in router.addresses.items():
                node.address(device, *prefixes)
            for prefix, via in router.routes.items():
                node.route(prefix, via)
        for name, host in scenario.host.items():
            node = self.world.node(name)
            node.address("eth0", *host.addresses)
            for gateway in host.gateways:
                node.route("0.0.0.0/0" if len(parse_address(gateway)) == 4 else "::/0", gateway)
        if capture is not None:
            self._capture = capture
            self._pcapng = self.world.pcap(capture.pcapng)
        for name in scenario.node:
            await self.revive(name)

    async def stop(self) -> None:
        for name in list(self.routers):
            await self.routers.pop(name).stop()
        self.world.close()
        if self._capture is not None:
            self._capture.key_log.close()

    async def ping(
        self,
        host: str,
        destination: str,
        *,
        count: int,
        size: int,
        ttl: int = 64,
        timeout: float = 1.0,  # noqa: ASYNC109
    ) -> Sequence[Answer]:
        node = self.world.node(host)
        results = await node.ping(destination, size=size, count=count, timeout=timeout, ttl=ttl)
        return [Answer(r.reason.replace(" ", "-"), format_address(r.sender) if r.sender else "") for r in results]

    async def show(self, node: str, command: str) -> Any:
        return self._shown(node, command).value

    async def text(self, node: str, command: str) -> str:
        return self._shown(node, command).text

    def _shown(self, node: str, command: str) -> Shown:
        try:
            return self.routers[node].execute(command)
        except CommandError as error:
            raise Red(f"{node}: {command}: {error}") from None

    async def configure(self, node: str, text: str) -> None:
        self.routers[node].apply(Config.from_ios(text, source=node))

    async def kill(self, node: str) -> None:
        """The host goes down hard: nothing more leaves it, and its tasks are ended."""
        self.world.node(node).kill()
        await self.routers.pop(node).stop()

    async def revive(self, node: str) -> None:
        scenario = self.conduct.scenario
        bindings = {i: device_of(i) for ends in scenario.link.values() for owner, i in ends if owner == node}
        router = Router(
            Config.from_ios(self.conduct.text(node), source=node),
            network=self.world.node(node),
            clock=VirtualClock(epoch=self._epoch),
            entropy=SeededEntropy(f"{self.seed}/{node}/router"),
            bindings=bindings,
            log=_QUIET,
            key_log=self._capture.key_log if self._capture else None,
        )
        self.routers[node] = router
        await router.start()

    async def cut(self, link: str, *, whole: bool) -> None:
        if whole:
            self._links[link].heal()
        else:
            self._links[link].cut()

    def left_out(self) -> int:
        return self._pcapng.left_out if self._pcapng else 0

    def frames(self, link: str) -> Sequence[bytes]:
        return [frame.octets for frame in self._links[link].frames]

    def forget(self) -> None:
        for link in self._links.values():
            frames: deque[Any] = link.frames
            frames.clear()

    def inject(self, link: str, frame: bytes) -> None:
        owner, interface = self.conduct.scenario.link[link][0]
        wire = self.world.node(owner).host.nic(self.conduct.scenario.device(owner, interface)).wire
        if wire is not None:
            wire(frame)

    def now(self) -> float:
        return VirtualClock().now()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


_QUIET = structlog.wrap_logger(
    structlog.ReturnLogger(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(50)
)
