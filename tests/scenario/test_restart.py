"""S01: every service is killed in turn, under a continuous ping. Nobody else's session drops, forwarding goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stack.lab.checks import Conduct
from stack.lab.memory import MemoryTestbed
from stack.lab.scenario import load
from stack.testing import run

EVERY = 0.1


async def lab() -> MemoryTestbed:
    conduct = Conduct(load("mgre"), None)  # type: ignore[arg-type]
    bed = MemoryTestbed(conduct)
    conduct.bed = bed
    await bed.start(None)
    for check in conduct.scenario.checks[:6]:
        row = await conduct.run(check)
        assert row.ok, row
    return bed


async def pings(bed: MemoryTestbed, results: list[Any], host: str, destination: str) -> None:
    while True:
        results += await bed.ping(host, destination, count=1, size=100, timeout=1.0)
        await asyncio.sleep(EVERY)


def sessions(bed: MemoryTestbed, node: str) -> list[tuple[Any, ...]]:
    """(neighbour, since) of every established session."""
    from bgp.engine.speaker import Speaker

    speaker = bed.routers[node].service("bgp").engine  # type: ignore[union-attr]
    assert isinstance(speaker, Speaker)
    return sorted(established(speaker))


def established(speaker: Any) -> list[tuple[Any, ...]]:
    return [
        (peer.key, peer.established_at)
        for peer in speaker.peers_snapshot()
        if peer.state.value.lower() == "established"
    ]


@pytest.mark.parametrize("victim", ["routing", "mfi", "tunnel", "forwarder", "bgp"])
def test_S01_a_killed_service_costs_nobody_else_anything(victim: str) -> None:
    async def main() -> None:
        bed = await lab()
        router = bed.routers["pe1"]
        before = {process.name: process.incarnation for process in router.processes()}
        up = sessions(bed, "pe1")
        results: list[Any] = []
        going = [
            asyncio.ensure_future(pings(bed, results, "red1", "10.1.3.10")),
            asyncio.ensure_future(pings(bed, results, "red2", "10.1.1.10")),
        ]
        await asyncio.sleep(2)
        router.service(victim).fail(RuntimeError("killed by the test"))  # type: ignore[union-attr]
        await asyncio.sleep(40)
        after = {process.name: process.incarnation for process in router.processes()}
        assert after == {**before, victim: before[victim] + 1}
        lost = [result for result in results if not result.ok]
        assert len(results) > 300
        # The forwarder itself is away for its back-off of 0.1 s; every other service's death costs not one packet.
        assert len(lost) <= (6 if victim == "forwarder" else 0), lost
        if victim == "bgp":
            assert len(sessions(bed, "pe1")) == len(up)
        else:
            assert sessions(bed, "pe1") == up
        assert "192.0.2.2" in str(await bed.show("pe1", "show tunnel endpoints"))
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        await bed.stop()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    run(main(), strict=False)
