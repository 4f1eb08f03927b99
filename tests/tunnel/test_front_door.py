"""Whole nodes whose tunnels travel in VRFs: two tunnels with the same ends in two transport VRFs, each with an inside VRF
of its own, and the same addresses everywhere.

    green1 - pe1 == Tunnel1 in RED  10.9.0.1 ---- 10.9.0.2 == pe2 - green2        green1, yellow1: 10.1.1.10
    yellow1 -    == Tunnel2 in BLUE 10.9.0.1 ---- 10.9.0.2 ==     - yellow2       green2, yellow2: 10.1.2.10
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stack.addr import parse_address
from stack.events import AdjacencyKey, AdjacencyState, LinkState, TunnelState
from stack.tables.fib import LeafKind
from stack.testing import run
from tests.scenario.beds import BOTH, described, reaches, seen
from tests.scenario.beds import play as on_a_bed
from tests.scenario.memory import Net

PAIRS = (("GREEN", "RED", 1), ("YELLOW", "BLUE", 2))


def text(number: int, change: Callable[[str], str] = lambda text: text) -> str:
    other = 3 - number
    vrfs = "".join(
        f"vrf definition {name}\n rd 65000:{index}\n address-family ipv4\n exit-address-family\n!\n"
        for index, name in enumerate(("RED", "BLUE", "GREEN", "YELLOW"), 1)
    )
    parts = "".join(
        f"""interface Ethernet0/{index - 1}
 vrf forwarding {outer}
 ip address 10.9.0.{number} 255.255.255.0
!
interface Ethernet1/{index - 1}
 vrf forwarding {inner}
 ip address 10.1.{number}.1 255.255.255.0
!
interface Tunnel{index}
 vrf forwarding {inner}
 ip address 10.255.0.{number} 255.255.255.252
 tunnel source Ethernet0/{index - 1}
 tunnel destination 10.9.0.{other}
 tunnel vrf {outer}
 tunnel key 7
!
ip route vrf {inner} 10.1.{other}.0 255.255.255.0 Tunnel{index}
"""
        for inner, outer, index in PAIRS
    )
    return change(f"hostname pe{number}\n!\n{vrfs}{parts}!\nend\n")


def play(story: Callable[[Net, dict[str, Any]], Awaitable[None]]) -> None:
    async def main() -> None:
        net = Net()
        links = {
            outer: net.link(f"pe1 Ethernet0/{index - 1}", f"pe2 Ethernet0/{index - 1}") for _, outer, index in PAIRS
        }
        for number in (1, 2):
            for inner, _, index in PAIRS:
                net.link(f"pe{number} Ethernet1/{index - 1}", f"{inner.lower()}{number} eth0")
                net.host(f"{inner.lower()}{number}", [f"10.1.{number}.10/24"], f"10.1.{number}.1")
            await net.start(f"pe{number}", text(number))
        try:
            await story(net, links)
        finally:
            await net.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main(), limit=10_000)


def gre(link: Any) -> list[bytes]:
    """The GRE packets that went over a link so far, which are forgotten then."""
    found = [f.octets[14:] for f in link.frames if f.octets[12:14] == b"\x08\0" and f.octets[23] == 47]
    link.frames.clear()
    return found


def test_two_tunnels_with_the_same_ends_in_two_vrfs() -> None:
    async def story(net: Net, links: dict[str, Any]) -> None:
        for host in ("green1", "yellow1"):
            await net.connected(host, "10.1.2.10")
        for link in links.values():
            gre(link)
        for (host, outer), idle in ((("green1", "RED"), "BLUE"), (("yellow1", "BLUE"), "RED")):
            for size in (56, 1400, 3000):
                assert await net.reaches(host, "10.1.2.10", size=size)
            assert len(gre(links[outer])) >= 6
            assert gre(links[idle]) == []
        states = net.routers["pe1"].bus.rows(TunnelState)["tunnel"]
        assert [states[f"Tunnel{n}"].vrf for n in (1, 2)] == ["RED", "BLUE"]
        row = net.routers["pe1"].bus.rows(AdjacencyState)["tunnel"][AdjacencyKey("Tunnel1")]
        assert (row.usable, row.transport_vrf, row.mtu) == (True, "RED", 1472)
        assert not [why for why, _ in net.drops("pe1") if why not in ("UNRESOLVED", "NO_NEXT_HOP")]

    play(story)


def test_path_mtu_discovery_of_the_inside_ends_at_the_tunnel() -> None:
    async def story(net: Net, links: dict[str, Any]) -> None:
        await net.connected("green1", "10.1.2.10")
        (result,) = await net.world.node("green1").ping("10.1.2.10", size=1472, count=1, df=True)
        assert (result.reason, result.mtu) == ("fragmentation needed", 1472)
        (result,) = await net.world.node("green1").ping("10.1.2.10", size=1472 - 28, count=1, df=True)
        assert result.ok

    play(story)


def test_a_vrf_that_loses_its_link_takes_its_tunnel_down_and_no_other() -> None:
    async def story(net: Net, links: dict[str, Any]) -> None:
        await net.connected("green1", "10.1.2.10")
        await net.connected("yellow1", "10.1.2.10")
        net.world.node("pe1").host.set_link("e0-0", up=False)
        await asyncio.sleep(1)
        told = net.routers["pe1"].bus.rows(LinkState)["tunnel"]
        assert (told["Tunnel1"].up, told["Tunnel2"].up) == (False, True)
        assert "Ethernet0/0 is down" in told["Tunnel1"].reason
        assert not await net.reaches("green1", "10.1.2.10")
        assert await net.reaches("yellow1", "10.1.2.10")
        net.world.node("pe1").host.set_link("e0-0", up=True)
        await net.connected("green1", "10.1.2.10")

    play(story)


@pytest.mark.parametrize("crash", ["tunnel", "forwarder", "routing"])
def test_S01_it_outlives_a_crash_of_a_service(crash: str) -> None:
    async def story(net: Net, links: dict[str, Any]) -> None:
        await net.connected("green1", "10.1.2.10")
        net.routers["pe1"].supervisor.service(crash).fail(RuntimeError("injected"))
        await net.connected("green1", "10.1.2.10")
        await net.connected("yellow1", "10.1.2.10")
        assert await net.reaches("green2", "10.1.1.10")

    play(story)


def test_a_tunnel_that_moves_to_another_transport_vrf() -> None:
    """Tunnel1 of pe1 goes by BLUE, with another key: the far end still waits in RED, so nothing passes until it moves too."""

    def moved(text: str) -> str:
        head, _, rest = text.partition("interface Tunnel2\n")
        tail = rest[rest.index("!\n") :]
        blue = head.replace("tunnel source Ethernet0/0", "tunnel source Ethernet0/1").replace(
            "tunnel vrf RED", "tunnel vrf BLUE"
        )
        blue = blue.replace("tunnel key 7", "tunnel key 9")
        return blue + "\n".join(line for line in tail.split("\n") if "Tunnel2" not in line)

    async def story(net: Net, links: dict[str, Any]) -> None:
        await net.connected("green1", "10.1.2.10")
        net.apply("pe1", text(1, moved))
        await asyncio.sleep(2)
        gre(links["RED"])
        assert not await net.reaches("green1", "10.1.2.10")
        assert not await net.reaches("yellow1", "10.1.2.10")
        assert gre(links["RED"]) == []
        net.apply("pe2", text(2, moved))
        await net.connected("green1", "10.1.2.10")
        assert gre(links["RED"]) == []

    play(story)


def test_the_loop_of_a_tunnel_in_its_own_inside_vrf_is_refused() -> None:
    """Inside and transport the same VRF, and the far end behind the tunnel itself."""

    def looped(text: str) -> str:
        same = text.replace("interface Tunnel1\n vrf forwarding GREEN", "interface Tunnel1\n vrf forwarding RED")
        same = same.replace("ip route vrf GREEN 10.1.2.0 255.255.255.0 Tunnel1\n", "")
        return same.replace("!\nend", "ip route vrf RED 10.9.0.2 255.255.255.255 Tunnel1\n!\nend")

    async def story(net: Net, links: dict[str, Any]) -> None:
        net.apply("pe1", text(1, looped))
        await asyncio.sleep(5)
        fib = net.routers["pe1"].tables.fib.get("RED")
        leaf = fib.lookup(parse_address("10.9.0.2"))
        assert (leaf.kind, leaf.interface) == (LeafKind.ATTACHED, "Ethernet0/0"), "routing does not use that route"
        assert net.routers["pe1"].bus.rows(LinkState)["tunnel"]["Tunnel1"].up

    play(story)


SCENARIO = described(
    {f"pe{number}": text(number) for number in (1, 2)},
    {
        **{f"core{n}": (f"pe1 Ethernet0/{n}", f"pe2 Ethernet0/{n}") for n in (0, 1)},
        **{
            f"{inner}{number}": (f"pe{number} Ethernet1/{index - 1}", f"{inner.lower()}{number} eth0")
            for inner, _, index in PAIRS
            for number in (1, 2)
        },
    },
    {
        f"{inner.lower()}{number}": [f"10.1.{number}.10/24", f"10.1.{number}.1"]
        for inner, _, _ in PAIRS
        for number in (1, 2)
    },
)


@BOTH
def test_real_packets_in_both_worlds(backend: str) -> None:
    """The interfaces of the transport VRFs are ours: nothing of the kernel's knows these addresses but the host ports."""

    async def story(bed: Any) -> None:
        for size, host in ((101, "green1"), (102, "yellow1"), (1403, "green2"), (2504, "yellow2")):
            await reaches(bed, host, "10.1.1.10" if host.endswith("2") else "10.1.2.10", size=size)
        sizes = {
            name: {frame.echo for frame in seen(bed, name) if frame.gre == 0x0800} - {None}
            for name in ("core0", "core1")
        }
        assert {101, 1403} <= sizes["core0"]
        assert 102 in sizes["core1"]
        assert not sizes["core0"] & sizes["core1"]

    on_a_bed(backend, SCENARIO, story)
