"""The protected lab as whole nodes, under continuous pings: services are killed, peers die and come back, protection is added
and taken away while packets flow. S01 and E04: nothing is lost that need not be, and nothing ever leaves in clear.

    red1, blue1 -- pe1 --\\
    red2, blue2 -- pe2 --- core (IP)        every pair of PEs: one SA each way, mGRE in ESP
    red3, blue3 -- pe3 --/
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from ikev2.engine.snapshot import IkeStatus
from stack.config import Config
from stack.lab.memory import MemoryTestbed
from stack.lab.scenario import load
from stack.router import Router
from stack.service import BACKOFF
from stack.testing import run
from tests.scenario.beds import drops, lab
from tests.scenario.test_restart import Pings, assert_lost, incarnations, kill, nothing_left, sessions, stale, state

GRE, ESP = 47, 50
LAB = load("ipsec").node
GRACEFUL = {
    name: text.replace(" bgp log-neighbor-changes\n", " bgp log-neighbor-changes\n bgp graceful-restart\n")
    for name, text in LAB.items()
}
CLEAR = {name: text.replace(" protection ipsec profile core\n", "") for name, text in LAB.items()}
PAIRS = (("red1", "10.1.3.10"), ("red3", "10.1.1.10"), ("red1", "2001:db8:3::10"), ("blue2", "10.1.1.10"))
CORE = ("pe1-core", "pe2-core", "pe3-core")
UP = 6
"""Rows of the verdict until every endpoint is protected and every pair of hosts reaches each other."""

LINGERS = 10.0
"""Seconds after which no inbound SA is left that a rekey has replaced."""

SERVICES = ("routing", "mfi", "tunnel", "forwarder", "ikev2")


async def protected(nodes: Mapping[str, str] = {}) -> MemoryTestbed:
    bed = await lab("ipsec", nodes, checked=UP)
    await asyncio.sleep(5)
    return bed


def sent(bed: MemoryTestbed, since: float = 0.0) -> Counter[tuple[str, int]]:
    """(PE, outer protocol) of GRE and ESP that PEs have put on the core since then."""
    found: Counter[tuple[str, int]] = Counter()
    for name in CORE:
        for frame in bed._links[name].frames:
            sender = frame.sender.partition(":")[0]
            if frame.time >= since and sender.startswith("pe") and frame.octets[12:14] == b"\x08\x00":
                protocol = frame.octets[23]
                if protocol in (GRE, ESP, 137):
                    found[sender, protocol] += 1
    return found


def protocols(bed: MemoryTestbed, since: float = 0.0) -> set[int]:
    return {protocol for _, protocol in sent(bed, since)}


def associations(bed: MemoryTestbed) -> dict[str, tuple[int, int, int]]:
    """IKE SAs, inbound SAs, outbound SAs of each node."""
    return {
        name: (
            sum(ike.status is IkeStatus.READY for ike in router.service("ikev2").snapshot().ikes),  # type: ignore[union-attr]
            len(router.tables.sad.inbound),
            len(router.tables.sad.bundles),
        )
        for name, router in bed.routers.items()
    }


SETTLED = dict.fromkeys(LAB, (2, 2, 2))


def no_sequence_twice(bed: MemoryTestbed, *, least: int = 100) -> None:
    """E05: no key with a number that it was used with before."""
    seen: set[bytes] = set()
    for name in CORE:
        for frame in bed._links[name].frames:
            if frame.octets[12:14] == b"\x08\x00" and frame.octets[23] == ESP and frame.sender.startswith("pe"):
                number = frame.octets[26:30] + frame.octets[34:42]  # source, SPI, sequence number
                assert number not in seen, number.hex()
                seen.add(number)
    assert len(seen) >= least


# --- services -------------------------------------------------------------------------------------------------------------


def assert_as_before(router: Router, bed: MemoryTestbed, stood: Mapping[str, Any], up: Any, away: set[str]) -> None:
    assert stale(router) == []
    assert state(router) == stood
    assert associations(bed) == SETTLED
    if "bgp" not in away:
        assert sessions(router) == up


@pytest.mark.parametrize("victim", SERVICES)
def test_S01_a_killed_service_costs_a_protected_node_nothing(victim: str) -> None:
    """Also no SA is orphaned, and an IKE service that has lost its IKE SAs makes new ones before it gives up the old."""

    async def main() -> None:
        bed = await protected(GRACEFUL)
        router = bed.routers["pe1"]
        before, up, stood = incarnations(router), sessions(router), state(router)
        pings = Pings(bed, PAIRS)
        await asyncio.sleep(1)
        bed.forget()
        kill(router, victim)
        await asyncio.sleep(30)
        assert incarnations(router) == {**before, victim: before[victim] + 1}
        assert_lost(pings, BACKOFF[0] if victim == "forwarder" else 0.0)
        await pings.stop()
        await asyncio.sleep(LINGERS)
        assert_as_before(router, bed, stood, up, {victim})
        assert protocols(bed) == {ESP}
        no_sequence_twice(bed)
        await nothing_left(bed)

    run(main())


@pytest.mark.parametrize("other", ["routing", "mfi", "tunnel", "forwarder", "bgp"])
def test_S01_ikev2_and_another_service_killed_at_once(other: str) -> None:
    async def main() -> None:
        bed = await protected(GRACEFUL)
        router = bed.routers["pe1"]
        before, up, stood = incarnations(router), sessions(router), state(router)
        pings = Pings(bed, PAIRS)
        bed.forget()
        kill(router, "ikev2", other)
        await asyncio.sleep(30)
        assert incarnations(router) == {**before, "ikev2": 2, other: before[other] + 1}
        assert_lost(pings, BACKOFF[0] if other == "forwarder" else 0.0)
        await pings.stop()
        await asyncio.sleep(LINGERS)
        assert_as_before(router, bed, stood, up, {other})
        assert protocols(bed) == {ESP}
        no_sequence_twice(bed)
        await nothing_left(bed)

    run(main())


def test_S01_ikev2_killed_everywhere_and_again_while_it_negotiates() -> None:
    async def main() -> None:
        bed = await protected(GRACEFUL)
        stood = {name: state(router) for name, router in bed.routers.items()}
        pings = Pings(bed, PAIRS)
        bed.forget()
        for wait in (0.12, 0.55, 1.03, 2.2):  # back-off, and the middle of an exchange
            for router in bed.routers.values():
                if router.service("ikev2") is not None:
                    kill(router, "ikev2")
            await asyncio.sleep(wait)
        await asyncio.sleep(90)
        assert_lost(pings, 0.0)
        await pings.stop()
        await asyncio.sleep(LINGERS)
        assert associations(bed) == SETTLED
        assert {name: state(router) for name, router in bed.routers.items()} == stood
        assert protocols(bed) == {ESP}
        no_sequence_twice(bed)
        await nothing_left(bed)

    run(main())


def test_S01_ikev2_killed_just_when_an_sa_is_rekeyed() -> None:
    """At another moment of the exchange each time, at either end of it."""

    async def main() -> None:
        bed = await protected(GRACEFUL)
        router = bed.routers["pe1"]
        pings = Pings(bed, PAIRS)
        for turn in range(12):
            for sa in [bundle.outbound for bundle in router.tables.sad if bundle.outbound is not None]:
                sa.use.packets = max(sa.use.packets, sa.soft_packets - 1)  # the next packet wears it out
            bed.forget()
            await asyncio.sleep(0.1 + turn / 200)
            kill(bed.routers[("pe1", "pe3")[turn % 2]], "ikev2")
            await asyncio.sleep(BACKOFF[-1] + 5)
        assert_lost(pings, 0.0)
        assert protocols(bed) == {ESP}
        no_sequence_twice(bed)
        await pings.stop()
        await asyncio.sleep(60)
        assert associations(bed) == SETTLED
        await nothing_left(bed)

    run(main())


# --- both ends, and peers that die ----------------------------------------------------------------------------------------


def test_both_ends_start_at_once_and_one_ike_sa_is_left() -> None:
    async def main() -> None:
        bed = await protected()
        await asyncio.sleep(60)
        assert associations(bed) == SETTLED
        for name, router in bed.routers.items():
            for bundle in router.tables.sad:
                assert bundle.outbound is not None
                (peer,) = (
                    other
                    for other in bed.routers.values()
                    if bundle.outbound.spi in other.tables.sad.inbound and other is not router
                )
                assert peer.tables.sad.inbound[bundle.outbound.spi].key.remote == bundle.outbound.local, name
        await nothing_left(bed)

    run(main())


def test_E04_a_peer_dies_and_comes_back_and_nothing_of_it_is_in_clear() -> None:
    async def main() -> None:
        bed = await protected()
        bystanders = Pings(bed, [("red1", "10.1.2.10"), ("blue2", "10.1.1.10")])
        concerned = Pings(bed, [("red1", "10.1.3.10"), ("red3", "10.1.1.10")])
        bed.forget()
        await bed.kill("pe3")
        await asyncio.sleep(30)
        assert {name: found[1:] for name, found in associations(bed).items()} == {"pe1": (1, 1), "pe2": (1, 1)}
        lost = len(concerned.lost)
        assert lost > 100
        await bed.revive("pe3")
        await asyncio.sleep(40)
        back = max(at for at, _, _ in concerned.lost)
        assert back < bed.now() - 20, "it reaches it again"
        assert bystanders.lost == []
        await bystanders.stop()
        await concerned.stop()
        await asyncio.sleep(LINGERS)
        assert associations(bed) == SETTLED
        assert protocols(bed) == {ESP}
        await nothing_left(bed)

    run(main())


# --- protection that comes and goes while packets flow --------------------------------------------------------------------


class Flood:
    """UDP from one host to another, a datagram every millisecond: caches are warm at any moment."""

    def __init__(self, bed: MemoryTestbed, *pairs: tuple[str, str]) -> None:
        self._tasks = [asyncio.ensure_future(self._go(bed, *pair)) for pair in pairs]

    async def _go(self, bed: MemoryTestbed, host: str, destination: str) -> None:
        while True:
            await bed.world.node(host).ping(destination, count=1, timeout=0.0)
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def apply(bed: MemoryTestbed, texts: Mapping[str, str], *names: str) -> float:
    """When the change was applied: no packet sent from then on may be as it was before."""
    for name in names:
        bed.routers[name].apply(Config.from_ios(texts[name], source=name))
    return bed.now()


FLOODED = (("red1", "10.1.3.10"), ("red3", "10.1.1.10"), ("blue1", "2001:db8:2::10"), ("red2", "10.1.1.10"))


def test_E04_protection_added_live_not_one_clear_packet_leaves_afterwards() -> None:
    async def main() -> None:
        bed = await lab("ipsec", CLEAR, checked=1)
        await asyncio.sleep(5)
        flood = Flood(bed, *FLOODED)
        await asyncio.sleep(0.2)
        assert protocols(bed) == {GRE}
        since = apply(bed, LAB, "pe1", "pe2", "pe3")
        await asyncio.sleep(1)
        found = sent(bed, since + 1e-9)
        assert {protocol for _, protocol in found} == {ESP}
        assert {pe for pe, _ in found} == set(LAB)
        await flood.stop()
        pings = Pings(bed, PAIRS)
        await asyncio.sleep(3)
        assert pings.lost == []
        await pings.stop()
        await nothing_left(bed)

    run(main())


def test_E04_T03_protection_added_at_one_end_alone_fails_closed() -> None:
    """The other end goes on in clear, and is refused; nothing leaves this end."""

    async def main() -> None:
        bed = await lab("ipsec", CLEAR, checked=1)
        await asyncio.sleep(5)
        flood = Flood(bed, *FLOODED)
        await asyncio.sleep(0.1)
        since = apply(bed, LAB, "pe1")
        await asyncio.sleep(0.5)
        assert {pe for pe, _ in sent(bed, since + 1e-9)} == {"pe2", "pe3"}
        assert drops(bed, "pe1")["PROTECTED", "Tunnel0"] > 100
        arrived = [frame for frame in bed._links["red1"].frames if frame.time > since + 0.1 and "pe1" in frame.sender]
        assert not [frame for frame in arrived if frame.octets[26:30] == bytes((10, 1, 3, 10))]
        since = apply(bed, LAB, "pe2", "pe3")
        await asyncio.sleep(0.1)
        await flood.stop()
        await asyncio.sleep(90)
        assert 47 not in protocols(bed, since + 1e-9)
        pings = Pings(bed, PAIRS)
        await asyncio.sleep(3)
        assert pings.lost == []
        await pings.stop()
        await nothing_left(bed)

    run(main())


def test_E04_protection_taken_away_live() -> None:
    """Not one clear packet before; and what still comes in ESP is refused by a tunnel that is not protected any more."""

    async def main() -> None:
        bed = await protected()
        pings = Pings(bed, PAIRS)
        await asyncio.sleep(2)
        assert protocols(bed) == {ESP}
        since = apply(bed, CLEAR, "pe1")
        await asyncio.sleep(5)
        assert {found for found in sent(bed, since + 1e-9) if found[0] != "pe1"} == {("pe2", ESP), ("pe3", ESP)}
        assert associations(bed)["pe1"][1:] == (0, 0)
        dropped = drops(bed, "pe3")
        assert dropped["PROTECTED", "Tunnel0"] > 10, "what pe1 sends in clear"
        since = apply(bed, CLEAR, "pe2", "pe3")
        await asyncio.sleep(5)
        assert protocols(bed, since + 1.0) == {GRE}
        assert associations(bed) == dict.fromkeys(LAB, (0, 0, 0))
        lost = len(pings.lost)
        await asyncio.sleep(5)
        assert len(pings.lost) == lost
        await pings.stop()
        await nothing_left(bed)

    run(main())


def test_E04_protection_added_while_a_service_is_away() -> None:
    """Whoever of them hears of it late: nothing leaves in clear, and in the end all is protected."""

    async def main(victim: str) -> None:
        bed = await lab("ipsec", CLEAR, checked=1)
        await asyncio.sleep(5)
        pings = Pings(bed, PAIRS)
        await asyncio.sleep(1)
        for router in bed.routers.values():
            kill(router, victim)
        await asyncio.sleep(0.01)
        since = apply(bed, LAB, "pe1", "pe2", "pe3")
        away = since + BACKOFF[0] if victim == "tunnel" else since
        await asyncio.sleep(40)
        assert protocols(bed, away + 0.05) == {ESP}
        lost = len(pings.lost)
        await asyncio.sleep(5)
        assert len(pings.lost) == lost
        await pings.stop()
        await nothing_left(bed)

    for victim in ("routing", "forwarder", "ikev2", "tunnel", "mfi"):
        run(main(victim))
