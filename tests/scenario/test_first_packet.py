"""The first packet to a host waits for its MAC at the far PE (RFC 1122 2.3.2.2): it is answered, not refused."""

from __future__ import annotations

import asyncio

import pytest

from stack.lab.checks import judge
from stack.lab.conduct import Conduct
from stack.lab.memory import MemoryTestbed
from stack.lab.scenario import load
from stack.testing import run


@pytest.mark.parametrize("destination", ["10.1.2.10", "2001:db8:2::10"])
def test_rfc1122_2_3_2_2_the_first_packet_to_a_host_behind_the_far_pe(destination: str) -> None:
    async def main() -> None:
        conduct = Conduct(load("mgre"), None)  # type: ignore[arg-type]  # the testbed reads the conduct's texts: next lines
        bed = conduct.bed = MemoryTestbed(conduct)
        await bed.start(None)
        for check in conduct.scenario.checks[:2]:
            assert (await judge(conduct, check)).ok
        await asyncio.sleep(5)
        answers = await bed.ping("red1", destination, count=1, size=100)
        assert [(answer.kind, answer.source) for answer in answers] == [("reply", destination)]
        await bed.stop()

    run(main(), strict=False)
