"""Anything may happen to the lab, in any order; when it is over, everything is as if nothing had happened.

A story of random misfortunes (services that fail, nodes that die, cables cut, unplugged or lossy, configurations changed
and changed back, sessions cleared), told by a seed. Afterwards the lab must be in the state of one that was just
started: tables, endpoints, labels in use, pings; no stale row, no task left, nothing raised.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stack.addr import Afi
from stack.config import Config
from stack.lab.checks import judge
from stack.lab.memory import MemoryTestbed
from stack.lab.scenario import load
from stack.router import Router
from stack.testing import run
from tests.scenario.beds import mgre
from tests.scenario.test_restart import RESTARTABLE, SERVICES, nothing_left, stale, without_blue

LAB = load("mgre")
PLAIN = LAB.node
CALM = 400.0
"""Seconds after which everything must have found its place: restart times, hold timers and back-offs are shorter."""

CORE = ("pe1-core", "pe2-core", "pe3-core", "pe1-pe2")

CHANGES: dict[str, Callable[[str], str]] = {
    "other key": lambda text: text.replace("key 1234", "key 4321"),
    "no key": lambda text: text.replace(" key 1234", ""),
    "mpls-in-ip": lambda text: text.replace("protocol gre key 1234", "protocol mpls-in-ip"),
    "no profile": lambda text: text.replace(
        "l3vpn encapsulation ip core tunnel\n transport ipv4 source Loopback0\n protocol gre key 1234\n!\n", ""
    ),
    "label a VRF": lambda text: text.replace(
        "router bgp", "mpls label mode all-vrfs protocol bgp-vpnv4 per-vrf\n!\nrouter bgp"
    ),
    "other targets": lambda text: text.replace("65000:200", "65000:100"),
    "no Blue": without_blue,
    "loopback moved": lambda text: text.replace("transport ipv4 source Loopback0", "transport ipv4 source Loopback9"),
    "no BGP": lambda text: text[: text.index("router bgp")] + text[text.index("ip route") :],
    "attachment down": lambda text: text.replace("description Red", "shutdown\n description Red"),
    "session down": lambda text: text.replace(" timers 3 9\n", " timers 3 9\n neighbor 192.0.2.1 shutdown\n", 1),
}


class Story:
    """A subclass tells of another lab: of its services, of the links of its core, of the changes of its configurations."""

    services = SERVICES
    core = CORE
    changes = CHANGES

    def __init__(self, bed: MemoryTestbed, seed: int, *, texts: dict[str, str]) -> None:
        self.bed = bed
        self.dice = random.Random(seed)
        self.texts = texts
        self.dead: set[str] = set()
        self.told: list[str] = []

    async def tell(self, count: int) -> None:
        acts: list[Callable[[], Awaitable[None]]] = [
            self.fail,
            self.fail,
            self.cut,
            self.worsen,
            self.change,
            self.change,
            self.clear,
            self.node_dies,
            self.node_returns,
        ]
        for _ in range(count):
            await self.dice.choice(acts)()
            await asyncio.sleep(self.dice.choice((0.0, 0.01, 0.15, 1.0, 4.0, 12.0)))

    def alive(self) -> str | None:
        there = sorted(self.bed.routers)
        return self.dice.choice(there) if there else None

    async def fail(self) -> None:
        node, victim = self.alive(), self.dice.choice(self.services)
        service = self.bed.routers[node].service(victim) if node else None
        if service is not None:
            self.told.append(f"{node}: {victim} fails")
            service.fail(RuntimeError("chaos"))

    async def cut(self) -> None:
        name = self.dice.choice(self.core)
        link = self.bed._links[name]
        what = self.dice.choice((link.cut, link.unplug, link.heal, link.heal))
        self.told.append(f"{name}: {what.__name__}")
        what()

    async def worsen(self) -> None:
        name = self.dice.choice(self.core)
        link = self.bed._links[name]
        link.loss, link.reorder, link.jitter = self.dice.choice(((0.0, 0.0, 0.0), (0.05, 0.2, 0.02), (0.3, 0.3, 0.1)))
        self.told.append(f"{name}: loss {link.loss}, reorder {link.reorder}, jitter {link.jitter}")

    async def change(self) -> None:
        node = self.alive()
        if node is None:
            return
        name = self.dice.choice(["as it was", *sorted(self.changes)])
        text = self.texts[node]
        if name != "as it was":
            text = self.changes[name](text)
        if node == "pe1" and name == "session down":
            return
        self.told.append(f"{node}: {name}")
        self.bed.routers[node].apply(Config.from_ios(text, source=node))

    async def clear(self) -> None:
        node = self.alive()
        if node is not None and self.bed.routers[node].service("bgp") is not None:
            command = self.dice.choice(("clear ip bgp *", "clear ip bgp soft", "clear ip bgp * soft in"))
            self.told.append(f"{node}: {command}")
            self.bed.routers[node].execute(command)

    async def node_dies(self) -> None:
        node = self.alive()
        if node is not None and len(self.bed.routers) > 1:
            self.told.append(f"{node} dies")
            await self.bed.kill(node)
            self.dead.add(node)

    async def node_returns(self) -> None:
        if self.dead:
            node = self.dead.pop()
            self.told.append(f"{node} returns")
            await self.bed.revive(node)

    async def end(self) -> None:
        for node in sorted(self.dead):
            await self.bed.revive(node)
        for name in self.core:
            link = self.bed._links[name]
            link.heal()
            link.loss = link.reorder = link.jitter = 0.0
        for node, text in self.texts.items():
            self.bed.routers[node].apply(Config.from_ios(text, source=node))
        await asyncio.sleep(CALM)


def picture(router: Router) -> dict[str, Any]:
    """The node's state without what may differ: label values, ids, indexes, times."""
    tables = router.context.tables
    hops = tables.nexthops

    def where(number: int) -> Any:
        row = hops.get(number)
        return None if row is None else (row.key, row.adjacency, row.labels)

    leaves = {
        (vrf, prefix): (leaf.kind, leaf.interface, where(leaf.next_hop), len(leaf.labels))
        for vrf, fib in tables.fib.fibs.items()
        for afi in Afi
        for prefix, leaf in fib.items(afi)
    }
    return {
        "vrfs": {row.name: (row.rd, row.export_rts, row.import_rts) for row in tables.vrfs},
        "interfaces": {i.name: (i.row, i.up, i.mtu, i.mac, dict(i.addresses)) for i in tables.interfaces},
        "fib": leaves,
        "hops": {where(number) for number in hops.rows},
        "labels": sorted((str(r.fec), r.operation, r.vrf, tuple(sorted(r.scope))) for r in tables.lfib.rows.values()),
        "adjacencies": {a.key: (a.complete, a.rewrite, a.destination, a.gre_key, a.mtu) for a in tables.adjacencies},
        "receptions": {r.interface: (r.local, r.sources, r.gre_key, r.vrf) for r in tables.receptions},
        "rows": {
            (use.topic, use.owner): use.rows
            for use in router.bus.snapshot()
            if use.rows and use.topic != "HostPortState"
        },
        "processes": {process.name: process.state for process in router.processes()},
    }


def hosts_of(bed: MemoryTestbed) -> dict[str, Any]:
    """What the nodes' hosts hold: addresses, routes."""
    return {
        name: (
            sorted(bed.world.node(name).host.addresses()),
            sorted((str(r.prefix), r.via, r.device) for r, _ in bed.world.node(name).host.routes()),
        )
        for name in bed.routers
    }


async def everything(bed: MemoryTestbed) -> dict[str, Any]:
    """All that must be as in a lab that was just started, once every neighbour has been spoken to."""
    for check in LAB.checks[:7]:
        row = await judge(bed.conduct, check)
        assert row.ok, row
    return {"hosts": hosts_of(bed), **{name: picture(router) for name, router in sorted(bed.routers.items())}}


async def fresh(texts: dict[str, str]) -> dict[str, Any]:
    bed = await mgre(texts)
    await asyncio.sleep(CALM)
    found = await everything(bed)
    await bed.stop()
    return found


def chaos(seed: int, texts: dict[str, str], count: int = 25) -> None:
    async def main() -> None:
        wanted = await fresh(texts)
        bed = await mgre(texts)
        story = Story(bed, seed, texts=texts)
        await story.tell(count)
        await story.end()
        try:
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


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 6))])
@pytest.mark.parametrize("texts", [PLAIN, RESTARTABLE], ids=["plain", "graceful restart"])
def test_S01_chaos_leaves_no_trace(seed: int, texts: dict[str, str]) -> None:
    chaos(seed, dict(texts))
