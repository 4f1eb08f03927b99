"""S01: services are killed under continuous pings. Nobody else's session drops, labels stay, forwarding goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from stack.addr import Afi
from stack.config import Config
from stack.events import HostPortState
from stack.lab.frames import look
from stack.lab.memory import MemoryTestbed
from stack.lab.scenario import load
from stack.router import Router
from stack.service import BACKOFF
from stack.testing import run
from tests.scenario.beds import mgre

EVERY = 0.1
"""Seconds between two pings of one pair."""

PATIENCE = 0.5
"""Seconds that a ping has: the way and back take milliseconds."""

SERVICES = ("routing", "mfi", "tunnel", "forwarder", "bgp")

PAIRS = (
    ("red1", "10.1.3.10"),
    ("red3", "10.1.1.10"),
    ("red1", "2001:db8:3::10"),
    ("red3", "2001:db8:1::10"),
    ("blue2", "10.1.1.10"),
    ("red1", "10.7.2.1"),
)
"""Over the tunnel both ways and both families, between two other PEs' customers and pe1's, and over the LSP."""


LAB = load("mgre").node

RESTARTABLE = {
    name: text.replace(" bgp log-neighbor-changes\n", " bgp log-neighbor-changes\n bgp graceful-restart\n")
    for name, text in LAB.items()
}
"""RFC 4724: without it a neighbour must forget our routes as soon as the session ends, however well we go on forwarding."""


class Pings:
    """Pings of every pair without end; `lost` has (when it was sent, pair, why)."""

    def __init__(self, bed: MemoryTestbed, pairs: Sequence[tuple[str, str]] = PAIRS) -> None:
        self.sent = 0
        self.lost: list[tuple[float, tuple[str, str], str]] = []
        self._bed = bed
        self._tasks = {asyncio.ensure_future(self._go(pair)) for pair in pairs}

    async def _go(self, pair: tuple[str, str]) -> None:
        while True:
            at = self._bed.now()
            (answer,) = await self._bed.ping(*pair, count=1, size=100, timeout=PATIENCE)
            self.sent += 1
            if not answer.ok:
                self.lost.append((at, pair, answer.kind))
            await asyncio.sleep(max(0.0, at + EVERY - self._bed.now()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended


def sessions(router: Router) -> list[tuple[Any, ...]]:
    """(neighbour, since, how often it was up) of every established session."""
    peers = router.service("bgp").snapshot().peers  # type: ignore[union-attr]  # BgpService has it
    return [(p.key, p.since, p.established) for p in peers if p.state.value.lower() == "established"]


def labels(router: Router) -> list[Any]:
    return sorted(router.context.tables.lfib.rows.items())


def state(router: Router) -> dict[str, Any]:
    """What must be the same once a restarted service has found its place again, times and incarnations aside."""
    tables = router.context.tables
    rows = {
        (use.topic, use.owner): use.rows for use in router.bus.snapshot() if use.rows and use.topic != "OutgoingReady"
    }
    return {
        "labels": labels(router),
        "rows": rows,
        "interfaces": {i.name: (i.row, i.up, i.index, dict(i.addresses)) for i in tables.interfaces},
        "adjacencies": sorted((a.key, a.complete, a.rewrite, a.destination, a.gre_key) for a in tables.adjacencies),
        "receptions": sorted((r.interface, r.local, r.sources) for r in tables.receptions),
        "fib": {
            (vrf, afi): sorted(fib.items(afi)) for vrf, fib in tables.fib.fibs.items() for afi in (Afi.IPV4, Afi.IPV6)
        },
        "next hops": sorted((n, row.key, row.adjacency, row.labels) for n, row in tables.nexthops.rows.items()),
    }


def stale(router: Router) -> list[Any]:
    return [use for use in router.bus.snapshot() if use.stale]


def kill(router: Router, *victims: str) -> None:
    for victim in victims:
        service = router.service(victim)
        assert service is not None, victim
        service.fail(RuntimeError("killed by the test"))


def incarnations(router: Router) -> dict[str, int]:
    assert {process.state for process in router.processes()} == {"running"}
    return {process.name: process.incarnation for process in router.processes()}


async def nothing_left(bed: MemoryTestbed) -> None:
    await bed.stop()
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


def assert_lost(pings: Pings, away: float) -> None:
    """Only what was sent while the forwarder was away (from `killed` on, for `away` seconds)."""
    assert pings.sent > 100
    if not away:
        assert pings.lost == []
    elif pings.lost:
        first, last = pings.lost[0][0], max(at for at, _, _ in pings.lost)
        assert last - first <= away, pings.lost
        assert {why for _, _, why in pings.lost} == {"timeout"}


@pytest.mark.parametrize("victim", SERVICES)
def test_S01_a_killed_service_costs_nobody_else_anything(victim: str) -> None:
    async def main() -> None:
        bed = await mgre(RESTARTABLE)
        await asyncio.sleep(5)
        router = bed.routers["pe1"]
        before, up, stood = incarnations(router), sessions(router), state(router)
        far = {name: sessions(bed.routers[name]) for name in ("pe2", "pe3")}
        assert len(up) == 2
        pings = Pings(bed)
        await asyncio.sleep(1)
        kill(router, victim)
        await asyncio.sleep(25)
        assert incarnations(router) == {**before, victim: before[victim] + 1}
        # The forwarder itself is away for its back-off; every other service's death costs not one packet.
        assert_lost(pings, BACKOFF[0] if victim == "forwarder" else 0.0)
        assert stale(router) == []
        assert state(router) == stood
        if victim == "bgp":
            assert [key for key, _, _ in sessions(router)] == [key for key, _, _ in up]
        else:
            assert sessions(router) == up
            assert {name: sessions(bed.routers[name]) for name in far} == far
        await pings.stop()
        await nothing_left(bed)

    run(main())


@pytest.mark.parametrize("victim", SERVICES)
def test_S01_the_same_service_killed_three_times(victim: str) -> None:
    """Also while its last incarnation has not yet found its place again."""

    async def main() -> None:
        bed = await mgre(RESTARTABLE)
        router = bed.routers["pe1"]
        before, up, stood = incarnations(router), sessions(router), state(router)
        pings = Pings(bed)
        for backoff, following in pairwise((*BACKOFF[:3], 0)):
            kill(router, victim)
            await asyncio.sleep(backoff + (0.05 if following else 30))
        assert incarnations(router) == {**before, victim: before[victim] + 3}
        assert_lost(pings, sum(BACKOFF[:3]) + 0.2 if victim == "forwarder" else 0.0)
        assert stale(router) == []
        assert state(router) == stood
        if victim != "bgp":
            assert sessions(router) == up
        await pings.stop()
        await nothing_left(bed)

    run(main())


@pytest.mark.parametrize(
    ("one", "other"), [(a, b) for n, a in enumerate(SERVICES) for b in SERVICES[n + 1 :]], ids=lambda name: name
)
def test_S01_two_services_killed_at_once(one: str, other: str) -> None:
    async def main() -> None:
        bed = await mgre(RESTARTABLE)
        router = bed.routers["pe1"]
        before, up, stood = incarnations(router), sessions(router), state(router)
        pings = Pings(bed)
        kill(router, one, other)
        await asyncio.sleep(25)
        assert incarnations(router) == {**before, one: before[one] + 1, other: before[other] + 1}
        assert_lost(pings, BACKOFF[0] if "forwarder" in (one, other) else 0.0)
        assert stale(router) == []
        assert state(router) == stood
        if "bgp" not in (one, other):
            assert sessions(router) == up
        await pings.stop()
        await nothing_left(bed)

    run(main())


def without_blue(text: str) -> str:
    """The node's configuration without its second customer."""
    lines, kept, skipping = text.splitlines(keepends=True), "", False
    for line in lines:
        if line.startswith(("vrf definition", "interface", " address-family ipv4 vrf", " address-family ipv6 vrf")):
            skipping = "Customer Blue" in line or line.strip() == "interface Ethernet0/2"
        elif line.startswith(("router", "ip ", "l3vpn")) or line == "!\n":
            skipping = False
        if not skipping:
            kept += line
    assert "Blue" not in kept
    return kept


@pytest.mark.parametrize("victim", SERVICES)
def test_S01_what_goes_while_a_service_is_away_is_swept_when_it_is_back(victim: str) -> None:
    """A whole VRF is deconfigured in the tenth of a second in which the service does not run: no orphan is left."""

    async def main() -> None:
        bed = await mgre(RESTARTABLE)
        router = bed.routers["pe1"]
        blue = [label for label, row in labels(router) if row.vrf == "Customer Blue"]
        assert len(blue) == 2
        pings = Pings(bed, PAIRS[:4])
        kill(router, victim)
        await asyncio.sleep(0.01)
        assert router.service(victim) is None
        router.apply(Config.from_ios(without_blue(RESTARTABLE["pe1"])))
        await asyncio.sleep(40)
        assert_lost(pings, BACKOFF[0] if victim == "forwarder" else 0.0)
        assert [label for label, _ in labels(router) if label in blue] == []
        assert "Customer Blue" not in router.tables.fib.fibs
        assert "Customer Blue" not in router.tables.vrfs.rows
        assert "Ethernet0/2" not in router.tables.interfaces.rows
        assert [key for key in router.tables.adjacencies.rows if key.interface == "Ethernet0/2"] == []
        assert "Customer Blue" not in str(router.bus.rows(HostPortState))
        assert stale(router) == []
        # And the others have been told.
        assert "65000:21" not in str(bed.routers["pe2"].execute("show ip bgp vpnv4 all").value)
        await pings.stop()
        await nothing_left(bed)

    run(main())


def test_S01_without_graceful_restart_only_the_neighbours_stop_sending() -> None:
    """RFC 4271 6: they delete the routes of a session that ends. This node forwards all the while, and is back in seconds."""

    async def main() -> None:
        bed = await mgre()
        router = bed.routers["pe1"]
        pings = Pings(bed, PAIRS[:1])
        await asyncio.sleep(1)
        bed.forget()
        kill(router, "bgp")
        await asyncio.sleep(10)
        await pings.stop()
        await asyncio.sleep(1)
        asked = [f for f in map(look, bed.frames("red1")) if f.inner[1] == bytes((10, 1, 3, 10))]
        crossed = [f for f in map(look, bed.frames("pe1-core")) if f.inner[1] == bytes((10, 1, 3, 10)) and f.labels]
        assert len(asked) == len(crossed) > 50
        assert 0 < len(pings.lost) <= 15
        assert pings.lost[-1][0] - pings.lost[0][0] < 3
        await nothing_left(bed)

    run(main())
