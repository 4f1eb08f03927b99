"""Anything may happen to the protected lab, in any order; when it is over, everything is as if nothing had happened, and while
it lasted no PE that was told to protect its tunnel has said anything by it in clear. S01, S07, E04.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stack.config import Config
from stack.lab.checks import judge
from stack.lab.memory import MemoryTestbed
from stack.lab.scenario import load
from stack.testing import run
from tests.scenario.beds import lab
from tests.scenario.test_chaos import CALM, Story, hosts_of, picture
from tests.scenario.test_ipsec import CORE, GRACEFUL, GRE, LAB, SETTLED, UP, associations, no_sequence_twice
from tests.scenario.test_restart import nothing_left, stale

PROTECTED = " protection ipsec profile core\n"

CHANGES: dict[str, Callable[[str], str]] = {
    "no protection": lambda text: text.replace(PROTECTED, ""),
    "other pre-shared key": lambda text: text.replace("three-routers-and-a-core", "another"),
    "other cipher": lambda text: text.replace("esp-gcm 256", "esp-aes 256 esp-sha256-hmac"),
    "tunnel mode": lambda text: text.replace(" mode transport\n", " mode tunnel\n"),
    "no pfs": lambda text: text.replace(" set pfs group19\n", ""),
    "other groups": lambda text: text.replace(" group 19 31\n", " group 20\n"),
    "time limit": lambda text: text.replace("lifetime packets 1000", "lifetime seconds 120"),
    "no profile": lambda text: text.replace(" set ikev2-profile core\n", ""),
    "no dpd": lambda text: text.replace(" dpd 2 2 periodic\n", ""),
    "other gre key": lambda text: text.replace("key 1234", "key 4321"),
    "loopback moved": lambda text: text.replace("transport ipv4 source Loopback0", "transport ipv4 source Loopback9"),
    "no BGP": lambda text: text[: text.index("router bgp")] + text[text.index("ip route") :],
}

SERVICES = ("routing", "mfi", "tunnel", "forwarder", "bgp", "ikev2", "ikev2")


class Protected(Story):
    """`telling`: PEs whose configuration protects, and whose tunnel service has had it."""

    changes = CHANGES
    services = SERVICES
    core = CORE

    def __init__(self, bed: MemoryTestbed, seed: int, *, texts: dict[str, str]) -> None:
        super().__init__(bed, seed, texts=texts)
        self.now_said = dict(texts)
        self.telling = set(texts)
        self.pings = 0

    async def tell(self, count: int) -> None:
        for _ in range(count):
            await super().tell(1)
            await self.chatter()
            self.look()

    async def chatter(self) -> None:
        for host, other in (("red1", "10.1.2.10"), ("blue3", "10.1.1.10"), ("red2", "10.1.3.10")):
            await self.bed.ping(host, other, count=2, size=100, timeout=0.2)

    def look(self) -> None:
        """What was on the core since the last look."""
        for name in CORE:
            for frame in self.bed._links[name].frames:
                pe = frame.sender.partition(":")[0]
                if frame.octets[12:14] == b"\x08\x00" and frame.octets[23] in (GRE, 137):
                    assert pe not in self.telling, f"{pe} in clear at {frame.time}: {'; '.join(self.told)}"
        no_sequence_twice(self.bed, least=0)
        self.bed.forget()
        for pe, text in self.now_said.items():
            router = self.bed.routers.get(pe)
            if PROTECTED in text and router is not None and router.service("tunnel") is not None:
                self.telling.add(pe)

    async def change(self) -> None:
        before = len(self.told)
        await super().change()
        for said in self.told[before:]:
            node, _, name = said.partition(": ")
            self._says(node, CHANGES[name](self.texts[node]) if name in CHANGES else self.texts[node])

    def _says(self, node: str, text: str) -> None:
        self.now_said[node] = text
        if PROTECTED not in text:
            self.telling.discard(node)

    async def clear(self) -> None:
        node = self.alive()
        if node is not None and self.bed.routers[node].service("ikev2") is not None:
            command = self.dice.choice(("clear crypto session", "clear crypto ikev2 sa", "clear crypto sa"))
            self.told.append(f"{node}: {command}")
            self.bed.routers[node].execute(command)

    async def node_returns(self) -> None:
        back = set(self.dead)
        await super().node_returns()
        for node in back - self.dead:
            self._says(node, self.texts[node])


async def everything(bed: MemoryTestbed) -> dict[str, Any]:
    for check in load("ipsec").checks[:UP]:
        row = await judge(bed.conduct, check)
        assert row.ok, row
    await asyncio.sleep(20)
    assert associations(bed) == SETTLED
    return {"hosts": hosts_of(bed), **{name: picture(router) for name, router in sorted(bed.routers.items())}}


async def fresh(texts: dict[str, str]) -> dict[str, Any]:
    bed = await lab("ipsec", texts, checked=UP)
    await asyncio.sleep(CALM)
    found = await everything(bed)
    await bed.stop()
    return found


def chaos(seed: int, texts: dict[str, str], count: int = 25) -> None:
    async def main() -> None:
        wanted = await fresh(texts)
        bed = await lab("ipsec", texts, checked=UP)
        story = Protected(bed, seed, texts=texts)
        try:
            await story.tell(count)
            await story.end()
            story.look()
            found = await everything(bed)
            for name, state in wanted.items():
                for what, value in state.items():
                    assert found[name][what] == value, (name, what)
            for router in bed.routers.values():
                assert stale(router) == []
        except AssertionError as error:
            error.add_note(f"seed {seed}: " + "; ".join(story.told))
            raise
        await nothing_left(bed)

    run(main())


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 8))])
@pytest.mark.parametrize("texts", [LAB, GRACEFUL], ids=["plain", "graceful restart"])
def test_E04_S01_chaos_leaves_no_trace_and_nothing_in_clear(seed: int, texts: dict[str, str]) -> None:
    chaos(seed, dict(texts))


def test_configurations_of_the_changes_are_understood() -> None:
    for name, change in CHANGES.items():
        text = change(LAB["pe1"])
        assert text != LAB["pe1"], name
        Config.from_ios(text, source="pe1")
