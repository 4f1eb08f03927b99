"""Topologies of whole nodes that a test describes once and runs on both backends: in memory, and on real packets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from attrs import evolve

from stack.addr import parse_address
from stack.lab.checks import judge
from stack.lab.conduct import Conduct, Red
from stack.lab.frames import Seen, look
from stack.lab.memory import MemoryTestbed
from stack.lab.netns import NetnsTestbed, be_root
from stack.lab.scenario import Host, PlainRouter, Scenario, load
from stack.lab.testbed import Answer
from stack.testing import run
from tests.conftest import require_root

Bed = MemoryTestbed | NetnsTestbed

MPLS = 0x8847
"""EtherType, and GRE protocol type."""

BOTH = pytest.mark.parametrize("backend", ["memory", pytest.param("netns", marks=(pytest.mark.root, pytest.mark.slow))])


def described(
    nodes: Mapping[str, str],
    links: Mapping[str, tuple[str, str]],
    hosts: Mapping[str, Sequence[str]] = {},
    routers: Mapping[str, PlainRouter] = {},
) -> Scenario:
    """`links`: name -> two ends "OWNER INTERFACE". `hosts`: name -> addresses with lengths, then gateways without."""
    ends = {name: (_end(one), _end(other)) for name, (one, other) in links.items()}
    customers = {
        name: Host("", [a for a in addresses if "/" in a], [a for a in addresses if "/" not in a])
        for name, addresses in hosts.items()
    }
    return Scenario("test", "a test's own", nodes, routers, customers, ends, (), {})


def _end(text: str) -> tuple[str, str]:
    owner, _, interface = text.partition(" ")
    return owner, interface


def conduct(scenario: Scenario) -> Conduct:
    return Conduct(scenario, None)  # type: ignore[arg-type]  # the testbed reads the conduct's texts, and is set after


@contextlib.asynccontextmanager
async def bed_of(backend: str, scenario: Scenario) -> AsyncIterator[Any]:
    made = conduct(scenario)
    bed: Bed = MemoryTestbed(made) if backend == "memory" else NetnsTestbed(made)
    made.bed = bed
    try:
        await bed.start(None)
        yield bed
    finally:
        await bed.stop()


def play(backend: str, scenario: Scenario, story: Callable[[Any], Awaitable[None]]) -> None:
    """Bring the scenario up, tell the story, take it down; in memory no task may be left and no callback may have raised."""

    async def main() -> None:
        async with bed_of(backend, scenario) as bed:
            await story(bed)
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    if backend == "memory":
        run(main())
        return
    require_root()
    be_root()
    asyncio.run(main())


async def mgre(nodes: Mapping[str, str] = {}, *, checked: int = 7) -> MemoryTestbed:
    return await lab("mgre", nodes, checked=checked)


async def lab(name: str, nodes: Mapping[str, str] = {}, *, checked: int) -> MemoryTestbed:
    """A shipped lab in memory, its first `checked` rows green. `nodes`: other configurations than the shipped ones."""
    scenario = load(name)
    made = conduct(evolve(scenario, node={**scenario.node, **nodes}))
    bed = MemoryTestbed(made)
    made.bed = bed
    await bed.start(None)
    for check in scenario.checks[:checked]:
        row = await judge(made, check)
        assert row.ok, row
    return bed


async def until(bed: Any, look_once: Callable[[], Awaitable[Any]], within: float = 30.0) -> Any:
    """What `look_once` says once it is true, looked at ten times a second; AssertionError with the last answer if never."""
    end = bed.now() + within
    while True:
        try:
            answer = await look_once()
        except Red as red:
            answer, failed = str(red), True
        else:
            failed = not answer
        if not failed:
            return answer
        assert bed.now() < end, f"not within {within} s; last: {answer!r}"
        await bed.pause(0.1)


async def ping(bed: Any, host: str, destination: str, *, size: int = 56, ttl: int = 64, within: float = 1.0) -> Answer:
    answers = await bed.ping(host, destination, count=1, size=size, ttl=ttl, timeout=within)
    return Answer(*answers[0])


async def reaches(bed: Any, host: str, destination: str, *, size: int = 56, within: float = 20.0) -> None:
    """Sooner or later."""

    async def look_once() -> bool:
        return (await ping(bed, host, destination, size=size)).ok

    await until(bed, look_once, within)


async def established(bed: Any, node: str, count: int, within: float = 30.0) -> None:
    """So many sessions of a node are up (a neighbour counts once a VRF and address)."""

    async def look_once() -> bool:
        return len(await sessions(bed, node)) == count

    await until(bed, look_once, within)


async def sessions(bed: Any, node: str) -> set[tuple[str, str]]:
    """(VRF, neighbour) of the sessions that are up."""
    value = await bed.show(node, "show bgp summary")
    return {
        (row["vrf"], row["neighbor-address"])
        for family in value
        for row in family["neighbors"]
        if row["session-state"] == "ESTABLISHED"
    }


def forward(bed: Any, *names: str, on: bool = True) -> None:
    """The host's own IP forwarding of a node or router."""
    for name in names:
        if isinstance(bed, MemoryTestbed):
            bed.world.node(name).forwarding = on
        else:
            bed.world.namespaces[name].sysctl(ipv4__ip_forward=int(on), ipv6__conf__all__forwarding=int(on))


def seen(bed: Any, link: str) -> list[Seen]:
    return [look(frame) for frame in bed.frames(link)]


def octets(text: str) -> bytes:
    return parse_address(text)


def drops(bed: MemoryTestbed, node: str) -> dict[tuple[str, str], int]:
    """(reason, interface) -> packets of `show counters drops`."""
    rows = bed.routers[node].execute("show counters drops").value["drops"]
    return {(row["reason"], row["interface"]): row["packets"] for row in rows}
