"""MPLS over FlexVPN when things go wrong: a spoke dies, a spoke moves, the hub is started again, peers without labels.

Rows N09, V06, E04, S01 and S07 of the fault matrix, on the lab's three nodes.
"""

from __future__ import annotations

import asyncio
import random
import struct
from pathlib import Path

import pytest

from nhrp.events import ShortcutDown, ShortcutUp
from stack.addr import Prefix, format_address, parse_address
from stack.events import AccessWanted, EndpointOffered, LabelWanted, RouteOffered
from stack.lab.checks import judge
from stack.router import Router
from stack.tables.fib import Leaf, LeafKind
from stack.wire import internet_checksum
from tests.scenario.beds import reaches, until
from tests.scenario.opened import customers
from tests.scenario.test_flexvpn_steps import FAR, HOST_A, HOST_B, HUB, NEAR, SITE, WAYS, Bed, play, shortcut

MOVED = "172.16.2.105"
OUTER = {"hub": HUB, "spoke1": NEAR, "spoke2": FAR}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flexvpn")


async def straight(bed: Bed, host: str = "host1a", within: float = 30.0) -> None:
    """Sooner or later packets between the spokes go straight, both ways: the lower TTL is enough."""

    async def look_once() -> bool:
        there = await bed.ping(host, HOST_B, count=1, size=56, ttl=3)
        back = await bed.ping(host.replace("a", "b"), HOST_A, count=1, size=56, ttl=3)
        return there[0].ok and back[0].ok

    await until(bed, look_once, within)


def traces(bed: Bed, spoke: str, peer: str) -> list[object]:
    """What a spoke still has of another, at NBMA address `peer`."""
    hub = Prefix.parse("10.0.0.1/32")
    routes = [prefix for vrf in ("", "cust1") for prefix in bed.rows(spoke, RouteOffered, "nhrp", vrf)]
    rows: list[object] = [prefix for prefix in routes if prefix != hub]
    rows += [*bed.rows(spoke, LabelWanted, "nhrp"), *bed.rows(spoke, AccessWanted, "ikev2")]
    rows += [
        key for key, row in bed.rows(spoke, EndpointOffered, "nhrp").items() if row.transport == parse_address(peer)
    ]
    inbound = bed.routers[spoke].context.tables.sad.inbound.values()
    return rows + [sa.spi for sa in inbound if format_address(sa.remote) == peer]


@WAYS
def test_N09_a_spoke_dies_and_nothing_is_left_of_it(way: str, folder: Path) -> None:
    async def story(bed: Bed) -> None:
        await straight(bed)
        fact = await shortcut(bed)
        await bed.kill("spoke2")
        # The others do not notice.
        (answer,) = await bed.ping("host1a", "192.168.110.10", count=1, size=56)
        assert answer.ok
        # Packets that go on finding nobody: the shortcut goes at the end of its holding time at the latest, the SA by DPD.
        sending = asyncio.ensure_future(_send(bed))
        await bed.heard["spoke1"].until_fact(ShortcutDown, lambda down: down.prefix == fact.prefix, timeout=90)
        sending.cancel()
        await until(bed, lambda: _none(bed, "spoke1"), within=120)
        # It comes back as if nothing had been.
        await bed.revive("spoke2")
        bed.listen("spoke2")
        await reaches(bed, "host1a", HOST_B, within=240)
        await straight(bed)

    play(folder, way, "printed", story)


async def _send(bed: Bed) -> None:
    while True:
        await bed.ping("host1a", HOST_B, count=1, size=56, timeout=0.5)


async def _none(bed: Bed, spoke: str, peer: str = FAR) -> bool:
    return not traces(bed, spoke, peer)


@WAYS
def test_N09_a_spoke_moves_to_another_nbma_address(way: str, folder: Path) -> None:
    async def story(bed: Bed) -> None:
        await straight(bed)
        overlay = bed.overlay("spoke2")
        await bed.configure("spoke2", bed.conduct.text("spoke2").replace(f"ip address {FAR} ", f"ip address {MOVED} "))
        await reaches(bed, "host1a", HOST_B, within=120)
        assert bed.overlay("spoke2") == overlay
        await straight(bed, within=60)
        route = bed.rows("spoke1", RouteOffered, "nhrp", "cust1")[SITE]
        assert {format_address(via.address) for via in route.vias} == {overlay}
        ups = bed.facts("spoke1", ShortcutUp)
        assert (format_address(ups[0].nbma), format_address(ups[-1].nbma)) == (FAR, MOVED)
        bed.forget()
        (answer,) = await bed.ping("host1a", HOST_B, count=1, size=56, ttl=3)
        assert answer.ok
        assert {p.ends for p in customers(bed.eye.on("spoke1-internet"))} == {(NEAR, MOVED), (MOVED, NEAR)}
        await until(bed, lambda: _gone(bed, "hub", FAR), within=120)

    play(folder, way, "printed", story)


async def _gone(bed: Bed, node: str, peer: str) -> bool:
    inbound = bed.routers[node].context.tables.sad.inbound.values()
    return all(format_address(sa.remote) != peer for sa in inbound)


@WAYS
def test_the_hub_is_started_again(way: str, folder: Path) -> None:
    async def story(bed: Bed) -> None:
        await straight(bed)
        await bed.kill("hub")
        # What is straight needs no hub while it lasts.
        (answer,) = await bed.ping("host1a", HOST_B, count=1, size=56, ttl=3)
        assert answer.ok
        await bed.revive("hub")
        bed.listen("hub")
        await reaches(bed, "host1a", "192.168.110.10", within=300)
        await reaches(bed, "host2a", HOST_B, within=120)
        await straight(bed, within=60)

    play(folder, way, "printed", story)


@pytest.mark.parametrize("service", ["nhrp", "ikev2", "bgp", "mfi", "tunnel", "routing", "forwarder"])
def test_S01_a_service_of_a_spoke_is_killed_while_packets_go_straight(service: str, folder: Path) -> None:
    """No packet is lost, whichever it is: the forwarder goes on, or the way by the hub is there."""

    async def story(bed: Bed) -> None:
        await straight(bed)
        router = bed.routers["spoke1"]
        running = router.supervisor.service(service)
        assert running is not None
        running.fail(RuntimeError("killed by the test"))
        answers = []
        for _ in range(60):
            answers += await bed.ping("host1a", HOST_B, count=1, size=56, timeout=0.5)
            await asyncio.sleep(0.05)
        lost = sum(not answer.ok for answer in answers)
        assert lost <= (1 if service != "forwarder" else 4), (service, lost)
        await straight(bed)

    play(folder, "access", "printed", story)


def test_N09_purge_a_prefix_goes_and_the_near_spoke_hears_of_it(folder: Path) -> None:
    """The far spoke's port goes down: what it has answered is no longer so, and it says so before the holding time is over."""
    hold = [(" ip nhrp holdtime 3\n", " ip nhrp holdtime 600\n")]

    async def story(bed: Bed) -> None:
        await straight(bed)
        fact = await shortcut(bed)
        text = bed.conduct.text("spoke2").replace(
            " description LAN of customer 1\n", " description LAN of customer 1\n shutdown\n"
        )
        await bed.configure("spoke2", text)
        await bed.heard["spoke1"].until_fact(ShortcutDown, lambda down: down.prefix == fact.prefix, timeout=10)
        await until(bed, lambda: _unlabelled(bed), within=10)

    play(folder, "access", "printed", story, {"spoke1": hold, "spoke2": hold})


async def _unlabelled(bed: Bed) -> bool:
    return not bed.rows("spoke2", LabelWanted, "nhrp")


def test_V06_a_route_target_taken_away_takes_the_shortcut_with_it(folder: Path) -> None:
    """cust1 of the near spoke no longer imports what the hub exports: no packet of it may go on to the far spoke."""
    hold = [(" ip nhrp holdtime 3\n", " ip nhrp holdtime 600\n")]

    async def story(bed: Bed) -> None:
        await straight(bed)
        text = bed.conduct.text("spoke1").replace(" route-target import 1:1\n", " route-target import 9:9\n")
        await bed.configure("spoke1", text)
        await bed.heard["spoke1"].until_fact(ShortcutDown, timeout=10)
        assert not bed.rows("spoke1", RouteOffered, "nhrp", "cust1")
        (answer,) = await bed.ping("host1a", HOST_B, count=1, size=56)
        assert not answer.ok
        # The other customer's goes on.
        await straight(bed, "host2a")

    play(folder, "access", "printed", story, {"spoke1": hold, "spoke2": hold})


def test_a_spoke_without_labels_in_nhrp_stays_on_the_hub(folder: Path) -> None:
    """`mpls nhrp` is missing in what the far spoke's tunnels are made of: a VRF stays on the hub, and no packet is lost."""

    async def story(bed: Bed) -> None:
        for _ in range(40):
            (answer,) = await bed.ping("host1a", HOST_B, count=1, size=56)
            assert answer.ok
            await asyncio.sleep(0.25)
        assert not bed.facts("spoke1", ShortcutUp)
        (answer,) = await bed.ping("host1a", HOST_B, count=1, size=56, ttl=3)
        assert (answer.kind, answer.source) == ("time-exceeded", "192.168.114.1")

    play(folder, "access", "printed", story, {"spoke2": [(" mpls nhrp\n", "")]})


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_S07_bad_weather_on_the_internet(seed: int, folder: Path) -> None:
    """30 % lost, packets out of order and late; then it heals: all is as before, and nothing was ever in clear (`play`)."""

    async def story(bed: Bed) -> None:
        dice = random.Random(seed)
        links = [bed._links[name] for name in ("hub-internet", "spoke1-internet", "spoke2-internet")]
        for link in links:
            link.loss, link.reorder, link.jitter = 0.3, 0.2, 0.05
        for _ in range(200):
            await bed.conduct.ping(dice.choice(["host1a", "host2a"]), HOST_B, within=0.3)
        for link in links:
            link.loss = link.reorder = link.jitter = 0.0
        await reaches(bed, "host1a", HOST_B, within=300)
        await straight(bed, within=60)
        for host in ("host1a", "host2a"):
            assert (await bed.conduct.ping(host, HOST_B)).ok
        check = next(check for check in bed.conduct.scenario.checks if check.kind == "isolation")
        row = await judge(bed.conduct, check)
        assert row.ok, row

    play(folder, "access", "printed", story)


def test_V06_customers_with_the_same_addresses_never_meet(folder: Path) -> None:
    """Random echoes of both customers while shortcuts come and go and services restart: what arrives at a host is its own
    customer's, told by the size of its echoes. And a million destinations are looked up in what the packet path reads, each
    way held against where it ends."""

    async def story(bed: Bed) -> None:
        dice = random.Random(7)
        customer = {host: row.customer for host, row in bed.conduct.scenario.host.items()}
        addresses = ["192.168.110.10", HOST_A, HOST_B, "192.168.113.1", "192.168.114.1", "192.168.115.1"]
        for turn in range(2500):
            host = dice.choice(list(customer))
            await bed.conduct.ping(host, dice.choice(addresses), within=0.05)
            if turn % 500 == 250:
                looked_up(bed, dice, 1_000_000 // 5 // 6)
            if turn % 500 == 499:
                node, service = dice.choice(["spoke1", "spoke2", "hub"]), dice.choice(["nhrp", "bgp", "mfi", "ikev2"])
                running = bed.routers[node].supervisor.service(service)
                if running is not None:
                    running.fail(RuntimeError("killed by the test"))
                row = await judge(bed.conduct, _isolation(bed))
                assert row.ok, row
                bed.forget()

    play(folder, "access", "printed", story)


def looked_up(bed: Bed, dice: random.Random, times: int) -> None:
    """So many random destinations of each customer at each node: a label that is pushed belongs, where it goes, to the same
    customer, and a port to which a packet is handed too."""
    nets = [parse_address(f"192.168.{third}.0")[:3] for third in range(109, 117)]
    for router in bed.routers.values():
        for vrf in ("cust1", "cust2"):
            fib = router.context.tables.fib.get(vrf)
            assert fib is not None
            found = {fib.lookup(dice.choice(nets) + bytes((dice.randrange(256),))) for _ in range(times)}
            for leaf in found - {None}:
                assert vrf_of(bed, router, vrf, leaf) == vrf, (router, vrf, leaf)


def vrf_of(bed: Bed, router: Router, vrf: str, leaf: Leaf) -> str:
    """Whose a packet is that takes this way: by the far end's label, or by the port."""
    tables = router.context.tables
    if leaf.kind in (LeafKind.DISCARD, LeafKind.RECEIVE):
        return vrf
    if leaf.kind is LeafKind.ATTACHED:
        return str(tables.interfaces.get(leaf.interface).vrf)
    hop = tables.nexthops.get(leaf.next_hop)
    adjacency = tables.adjacencies.get(hop.adjacency) if hop is not None and hop.adjacency is not None else None
    if adjacency is None or not adjacency.complete:
        return vrf  # nothing is sent
    if not leaf.labels:
        return str(tables.interfaces.get(adjacency.key.interface).vrf)
    far = next(name for name, address in OUTER.items() if parse_address(address) == adjacency.destination)
    row = bed.routers[far].context.tables.lfib.get(leaf.labels[-1])
    return row.vrf if row is not None else vrf  # unknown there: dropped there


def _isolation(bed: Bed) -> object:
    return next(check for check in bed.conduct.scenario.checks if check.kind == "isolation")


def test_E04_clear_packets_for_a_protected_shortcut_are_dropped(folder: Path) -> None:
    """Between spokes, while the tunnel stands: GRE in clear, with the right label, is no tunnel packet."""

    async def story(bed: Bed) -> None:
        await straight(bed)
        label = bed.bound("spoke2", "cust1", Prefix.parse("192.168.114.0/24"))
        inner = ip_packet(HOST_A, HOST_B, 1, bytes(8))
        gre = b"\x00\x00\x88\x47" + (label << 12 | 0x1FF).to_bytes(4) + inner
        before = refused(bed, "spoke2")
        for source in (NEAR, HUB):
            bed.world.node("internet").ip.send_raw(ip_packet(source, FAR, 47, gre))
        await asyncio.sleep(0.1)
        assert refused(bed, "spoke2") - before == 2
        bed.forget()  # ours

    play(folder, "access", "printed", story)


def ip_packet(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    head += parse_address(source) + parse_address(destination)
    return head[:10] + internet_checksum(head).to_bytes(2) + head[12:] + payload


def refused(bed: Bed, node: str) -> int:
    """Packets dropped because they came outside the protection that they should have had."""
    rows = bed.routers[node].execute("show counters drops").value["drops"]
    return sum(row["packets"] for row in rows if row["reason"] == "PROTECTED")
