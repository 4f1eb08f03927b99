"""S01 on real packets: one PE of the lab is an embedding whose services fail in turn, under pings both ways, IPv4 and IPv6."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from stack.lab.checks import judge
from stack.lab.netns import NetnsTestbed, be_root
from stack.lab.probe import Prober, Reply
from stack.lab.scenario import device_of, load
from stack.service import BACKOFF
from tests.conftest import require_root
from tests.scenario import test_ipsec
from tests.scenario.beds import conduct, until
from tests.scenario.test_restart import PAIRS, RESTARTABLE, SERVICES

EVERY = 0.05
"""Seconds between two pings of one pair."""

LABS = {
    "mgre": (RESTARTABLE, SERVICES, PAIRS, 7),
    "ipsec": (test_ipsec.GRACEFUL, (*SERVICES, "ikev2"), test_ipsec.PAIRS, test_ipsec.UP),
}
"""Configurations, services to kill, pairs that ping, rows of the verdict until all works."""

ROOT = Path(__file__).resolve().parents[2]


@define(eq=False)
class KillableTestbed(NetnsTestbed):
    """The lab, its pe1 run by killable.py."""

    def _spawn(self, node: str) -> None:
        if node != "pe1":
            NetnsTestbed._spawn(self, node)  # attrs' slots leave no plain super()
            return
        self._path("pe1.cfg").write_text(self.conduct.text("pe1"))
        command = [sys.executable, str(ROOT / "tests/scenario/killable.py")]
        command += [str(self._path("pe1.cfg")), str(self._path("pe1.sock"))]
        for ends in self.scenario.link.values():
            command += [f"{interface}={device_of(interface)}" for owner, interface in ends if owner == node]
        with self._path("pe1.log").open("ab") as log:
            self._processes[node] = self.world.namespaces[node].spawn(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def end(self, service: str) -> None:
        pipe = self._processes["pe1"].stdin
        assert pipe is not None
        pipe.write(f"{service}\n".encode())
        pipe.flush()

    def logged(self) -> str:
        return self._path("pe1.log").read_text(errors="replace")


async def pings(bed: NetnsTestbed, pair: tuple[str, str], replies: list[tuple[float, Reply]]) -> None:
    with Prober(pair[1], namespace=bed.world.namespaces[pair[0]]) as prober:
        async for reply in prober.stream(interval=EVERY, timeout=0.5):
            replies.append((bed.now(), reply))


async def processes(bed: NetnsTestbed) -> dict[str, tuple[str, int]]:
    return {row["service"]: (row["state"], row["incarnation"]) for row in await bed.show("pe1", "show processes")}


async def since(bed: NetnsTestbed) -> dict[str, int]:
    """How often each neighbour's session has come up."""
    rows = await bed.show("pe1", "show ip bgp neighbors")
    assert {row["session-state"] for row in rows} == {"ESTABLISHED"}
    return {row["neighbor-address"]: row["established-transitions"] for row in rows}


async def labels(bed: NetnsTestbed) -> set[tuple[int, str]]:
    rows: list[dict[str, Any]] = await bed.show("pe1", "show mpls forwarding-table")
    return {(row["local-label"], row["fec"]) for row in rows}


async def one_after_another(bed: KillableTestbed, services: Sequence[str], pairs: Sequence[tuple[str, str]]) -> None:
    stood, incarnations, given = await since(bed), await processes(bed), await labels(bed)
    replies: list[tuple[float, Reply]] = []
    going = [asyncio.create_task(pings(bed, pair, replies)) for pair in pairs]
    await asyncio.sleep(1)
    for victim in services:
        replies.clear()
        bed.end(victim)
        state, number = incarnations[victim]
        wanted = incarnations[victim] = (state, number + 1)

        async def back(victim: str = victim, wanted: tuple[str, int] = wanted) -> bool:
            return (await processes(bed))[victim] == wanted

        await until(bed, back, within=10)
        await asyncio.sleep(2.5)
        lost = [(at, reply) for at, reply in replies if not reply.ok]
        assert len(replies) > 100
        if victim == "forwarder":
            # Its own back-off, and what it takes to open its ports again on a busy machine.
            assert not lost or lost[-1][0] - lost[0][0] < BACKOFF[0] + 1.0, lost
            assert len(lost) <= len(pairs) * (BACKOFF[0] + 0.5) / EVERY
        else:
            assert not lost, (victim, lost, bed.logged()[-3000:])
        if victim == "bgp":
            await until(bed, lambda: _all_up(bed), within=20)
        else:
            assert await since(bed) == stood, victim
        assert await processes(bed) == incarnations
        assert await labels(bed) == given
    for task in going:
        task.cancel()
    await asyncio.gather(*going, return_exceptions=True)


async def _all_up(bed: NetnsTestbed) -> bool:
    rows = await bed.show("pe1", "show ip bgp neighbors")
    return {row["session-state"] for row in rows} == {"ESTABLISHED"}


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mgre", "ipsec"])
def test_S01_every_service_killed_in_turn_on_real_packets(name: str) -> None:
    require_root()
    be_root()

    async def main() -> None:
        scenario = load(name)
        nodes, services, pairs, checked = LABS[name]
        made = conduct(evolve(scenario, node=nodes))
        bed = made.bed = KillableTestbed(made)
        try:
            await bed.start(None)
            for check in scenario.checks[:checked]:
                row = await judge(made, check)
                assert row.ok, (row, bed.logged())
            await one_after_another(bed, services, pairs)
            bed._processes["pe1"].terminate()
            assert await asyncio.to_thread(bed._processes["pe1"].wait, 10) == 0, bed.logged()
            assert "no task is left" in bed.logged()
        finally:
            await bed.stop()

    asyncio.run(main())
