"""S01: a service that raises in any of its hooks, once, comes back to where it was; and when the node stops, nothing is left.

`wake`, `deadline`, `received` and the rest are called by the shell; what they raise must never get past it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stack.config import Config
from stack.lab.conduct import Conduct
from stack.lab.memory import MemoryTestbed
from stack.lab.scenario import load
from stack.testing import run
from stack.testing.node import MemoryNode
from tests.scenario.test_restart import Pings
from tests.stack.test_apply import IPSEC, MGRE, NODE, differences, state, variants

SERVICES = ("routing", "mfi", "tunnel", "forwarder", "bgp")
VICTIMS = [*((MGRE, name) for name in SERVICES), *((IPSEC, name) for name in (*SERVICES, "ikev2"))]
STEPS = {
    MGRE: ("another key", "another label mode", "a neighbour removed", "base"),
    IPSEC: ("another profile", "no protection", "a protected tunnel beside it", "base"),
}
GRE, ESP, MPLS_IN_IP = 47, 50, 137
KILLED = ("begin", "close", "__init__")
"""Hooks that are met on the way out, or in again."""
TOUCHED = ("receive", "received", "wake", "deadline")
"""Hooks that are met when something happens."""


@contextmanager
def raising_once(kind: type[Any], hook: str, node: MemoryNode) -> Iterator[list[str]]:
    """The next call of `kind`'s `hook` on this node raises. `close` does its work first: it must, whatever else fails."""
    original, met = kind.__dict__[hook], []

    def raises(self: Any, *arguments: Any) -> bool:
        context = arguments[-1] if hook == "__init__" else self.context
        if met or context.network is not node:
            return False
        met.append(hook)
        return True

    def plain(self: Any, *arguments: Any) -> Any:
        if not raises(self, *arguments):
            return original(self, *arguments)
        if hook == "close":
            original(self)
        raise RuntimeError(f"raised in {hook}")

    async def coroutine(self: Any, *arguments: Any) -> Any:
        if raises(self, *arguments):
            raise RuntimeError(f"raised in {hook}")
        return await original(self, *arguments)

    setattr(kind, hook, coroutine if asyncio.iscoroutinefunction(original) else plain)
    try:
        yield met
    finally:
        setattr(kind, hook, original)


async def lab(name: str) -> MemoryTestbed:
    conduct = Conduct(load(name), None)  # type: ignore[arg-type]  # the testbed reads the conduct's texts: next lines
    bed = MemoryTestbed(conduct)
    conduct.bed = bed
    await bed.start(None)
    await asyncio.sleep(20)
    return bed


async def nothing_left(bed: MemoryTestbed) -> None:
    node = bed.world.node(NODE)
    await bed.stop()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert node._ports == []
    assert node.tcp._listeners == []
    assert [route for route, ours in node.host.routes() if ours] == []


async def provoke(bed: MemoryTestbed, lab: str, victim: str, hook: str) -> None:
    router = bed.routers[NODE]
    if hook in KILLED:
        service: Any = router.service(victim)
        service.fail(RuntimeError("killed by the test"))
    elif hook in TOUCHED:
        link = next(iter(bed._links.values()))
        link.cut()
        await asyncio.sleep(15)
        link.heal()
    else:
        for variant in STEPS[lab]:
            router.apply(Config.from_ios(variants(lab)[variant], source=NODE))
            await asyncio.sleep(1)


@pytest.mark.parametrize("hook", [*KILLED, *TOUCHED, "reconfigure"])
@pytest.mark.parametrize(("name", "victim"), VICTIMS)
def test_S01_a_fault_in_any_hook_is_survived(name: str, victim: str, hook: str) -> None:
    async def main() -> None:
        bed = await lab(name)
        router, node = bed.routers[NODE], bed.world.node(NODE)
        before, kind = state(router, node), type(router.service(victim))
        if hook in kind.__dict__:
            with raising_once(kind, hook, node) as met:
                await provoke(bed, name, victim, hook)
                await asyncio.sleep(140)
            restarts = {process.name: process.restarts for process in router.processes()}
            assert (restarts[victim] > 0) is bool(met or hook in KILLED)
            assert [other for other, count in restarts.items() if count and other != victim] == []
            assert list(differences(state(router, node), before)) == []
        await nothing_left(bed)

    run(main(), limit=1_000)


@pytest.mark.parametrize("hook", ["begin", "close", "__init__", "receive", "wake", "deadline"])
def test_S01_a_fault_in_any_hook_of_ike_costs_no_packet(hook: str) -> None:
    """The SAs stand, are taken over, and are made anew; nothing leaves in clear meanwhile."""

    async def main() -> None:
        bed = await lab(IPSEC)
        router, node = bed.routers[NODE], bed.world.node(NODE)
        kind = type(router.service("ikev2"))
        links = [bed._links[f"{name}-core"] for name in ("pe1", "pe2", "pe3")]
        pings = Pings(bed, (("red1", "10.1.3.10"), ("red3", "10.1.1.10"), ("blue2", "10.1.1.10")))
        await asyncio.sleep(2)
        bed.forget()
        with raising_once(kind, hook, node) as met:
            if hook in KILLED:
                await provoke(bed, IPSEC, "ikev2", hook)
            elif hook == "receive":  # rows that come of themselves are few; another name of an interface is no harm
                text = bed.conduct.text(NODE)
                router.apply(Config.from_ios(text.replace("description to the", "description To the"), source=NODE))
            await asyncio.sleep(60)  # long enough for SAs to be rekeyed, and peers to be asked whether they live
        assert met == [hook]
        assert pings.sent > 100
        assert pings.lost == []
        outer = {f.octets[23] for link in links for f in link.frames if f.octets[12:14] == b"\x08\x00"}
        assert ESP in outer
        assert not outer & {GRE, MPLS_IN_IP}
        await pings.stop()
        await nothing_left(bed)

    run(main(), limit=1_000)


@pytest.mark.parametrize("hook", ["drain", "close"])
@pytest.mark.parametrize(("name", "victim"), VICTIMS)
def test_S01_a_fault_while_the_node_stops_leaves_nothing(name: str, victim: str, hook: str) -> None:
    async def main() -> None:
        bed = await lab(name)
        kind = type(bed.routers[NODE].service(victim))
        if hook in kind.__dict__:
            with raising_once(kind, hook, bed.world.node(NODE)) as met:
                await nothing_left(bed)
            assert met == [hook]
        else:
            await nothing_left(bed)

    run(main(), limit=1_000)
