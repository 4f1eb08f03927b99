"""Anything may happen to a hub and its spokes, with and without a NAT between them; when it is over, all that stands because of
peers stands again, and what does not is gone. The hub has never said anything in clear by a tunnel. S01, S07, E04.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.scenario.test_ipsec_hub import GRE, HUB, SETTLED, Hub, play, spoke
from tests.scenario.test_restart import kill, stale

TEXTS = {"hub": HUB, "spoke1": spoke(1), "spoke2": spoke(2)}
SERVICES = ("ikev2", "ikev2", "tunnel", "routing", "mfi", "forwarder", "bgp")
CALM = 400.0

CHANGES: dict[str, Callable[[str], str]] = {
    "as it was": lambda text: text,
    "no protection": lambda text: text.replace(" tunnel protection ipsec profile default\n", ""),
    "other key": lambda text: text.replace("every-spoke-has-this-one", "another"),
    "no pool": lambda text: text.replace(" pool spokes\n", ""),
    "no template": lambda text: text.replace(" virtual-template 1\n", ""),
}


class Story:
    def __init__(self, net: Hub, seed: int) -> None:
        self.net, self.dice, self.told = net, random.Random(seed), list[str]()

    async def tell(self, count: int) -> None:
        acts: list[Callable[[], Awaitable[None]]] = [
            self.fail,
            self.fail,
            self.cut,
            self.worsen,
            self.rebind,
            self.clear,
        ]
        acts += [self.die, self.come_back, self.come_back, self.change]
        for _ in range(count):
            await self.dice.choice(acts)()
            await asyncio.sleep(self.dice.choice((0.0, 0.01, 0.15, 1.0, 4.0, 12.0)))

    def somebody(self) -> str:
        return self.dice.choice(sorted(self.net.routers))

    async def fail(self) -> None:
        name, victim = self.somebody(), self.dice.choice(SERVICES)
        if self.net.routers[name].service(victim) is not None:
            self.told.append(f"{name}: {victim} fails")
            kill(self.net.routers[name], victim)

    async def cut(self) -> None:
        name = self.dice.choice(sorted(self.net.cores))
        link = self.net.cores[name]
        what = self.dice.choice((link.cut, link.unplug, link.heal, link.heal))
        self.told.append(f"{name}: {what.__name__}")
        what()

    async def worsen(self) -> None:
        name = self.dice.choice(sorted(self.net.cores))
        link = self.net.cores[name]
        link.loss, link.reorder, link.jitter = self.dice.choice(((0.0, 0.0, 0.0), (0.05, 0.2, 0.02), (0.3, 0.3, 0.1)))
        self.told.append(f"{name}: loss {link.loss}")

    async def rebind(self) -> None:
        if self.net.nat is not None:
            self.told.append("the NAT forgets")
            self.net.nat.rebind()

    async def clear(self) -> None:
        name = self.somebody()
        if self.net.routers[name].service("ikev2") is not None:
            self.told.append(f"{name}: clear")
            self.net.routers[name].execute(self.dice.choice(("clear crypto session", "clear crypto sa")))

    async def die(self) -> None:
        name = self.somebody()
        if len(self.net.routers) > 1:
            self.told.append(f"{name} dies")
            self.net.world.node(name).kill()
            await self.net.routers.pop(name).stop()

    async def come_back(self) -> None:
        for name, text in TEXTS.items():
            if name not in self.net.routers:
                self.told.append(f"{name} is back")
                await self.net.start(name, text)
                return

    async def change(self) -> None:
        name, what = self.somebody(), self.dice.choice(sorted(CHANGES))
        self.told.append(f"{name}: {what}")
        self.net.apply(name, CHANGES[what](TEXTS[name]))

    async def end(self) -> None:
        for link in self.net.cores.values():
            link.heal()
            link.loss = link.reorder = link.jitter = 0.0
        while len(self.net.routers) < len(TEXTS):
            await self.come_back()
        for name, text in TEXTS.items():
            self.net.apply(name, text)
        await asyncio.sleep(CALM)


async def as_new(net: Hub) -> None:
    for host, target in (("red1", "10.1.2.10"), ("red2", "10.1.1.10"), ("red1", "172.17.0.1")):
        assert await net.reaches(host, target), (host, target)
    assert net.associations() == SETTLED
    hub, spokes = net.offered("hub"), [net.offered(f"spoke{n}") for n in (1, 2)]
    assert len(hub["access"]) == 2
    given = sorted(f"{address}/32" for each in spokes for address in each["addresses"])
    assert hub["routes"] == hub["implicit null"] == given
    assert len(given) == 2
    for each in spokes:
        assert each["routes"] == each["implicit null"] == ["10.0.0.1/32"]
    for router in net.routers.values():
        assert stale(router) == []
    clear = [f for link in net.cores.values() for f in link.frames if f.octets[12:14] == b"\x08\x00"]
    assert [f for f in clear if f.octets[23] == GRE and f.sender.startswith("hub")] == []


@pytest.mark.parametrize("nat", [False, True], ids=["open", "nat"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 6))])
def test_E04_S01_chaos_leaves_no_trace_of_peers(seed: int, nat: bool) -> None:
    async def story(net: Hub) -> None:
        told = Story(net, seed)
        await told.tell(25)
        await told.end()
        try:
            await as_new(net)
        except AssertionError as error:
            error.add_note(f"seed {seed}: " + "; ".join(told.told))
            raise

    play(story, nat=nat)
