"""NHRP between two forwarders, as services, over a protected tunnel. Fault rows E04, S07: nothing in clear."""

from __future__ import annotations

import asyncio
import random

import pytest
from attrs import evolve

from stack.addr import Prefix, parse_address
from stack.events import Hairpin, Ingress, NhrpReceived, RoutesUsed, SaKey, SendNhrp
from stack.testing import run
from tests.tunnel.io.test_esp_pair import ENDS, FORMS, GCM, VRF, Pair, associate
from tunnel.io.counters import Drop

TEXT = b"an NHRP packet that nobody must read: "


class Overlay(Pair):
    """Tunnel0 is in an NHRP network on both."""

    def fill(self, number: int) -> None:
        super().fill(number)
        found = self.tables[number].interfaces.get("Tunnel0")
        self.w[number]["interfaces"].put("Tunnel0", evolve(found, row=evolve(found.row, network_id=1)))

    async def start(self) -> None:
        await super().start()
        for number in (1, 2):
            self.ears[number].subscribe(NhrpReceived, Hairpin)

    def say(self, number: int, text: bytes) -> None:
        self.seats[number].post(SendNhrp("Tunnel0", b"", TEXT + text))

    def heard(self, number: int) -> list[NhrpReceived]:
        return [fact for fact in self.ears[number].mailbox.take() if isinstance(fact, NhrpReceived)]

    def on_the_wire(self) -> list[bytes]:
        return [frame.octets for frame in self.core.frames]


def play(form, work, **world) -> None:
    async def whole() -> None:
        pair = Overlay(form, **world)
        await pair.start()
        await work(pair)
        await pair.stop()
        wire = pair.on_the_wire()
        assert not any(TEXT in octets for octets in wire), "S07: nothing in clear"
        assert not any(octets[12:14] == b"\x08\0" and octets[23] == 47 for octets in wire), "GRE in clear"

    run(whole())


@pytest.mark.parametrize("name", FORMS)
def test_E04_nhrp_crosses_by_the_sa_and_not_without(name):
    async def work(pair: Overlay) -> None:
        pair.say(1, b"too early")
        await asyncio.sleep(0.1)
        associate(pair, FORMS[name])
        pair.say(1, b"question")
        await asyncio.sleep(0.1)
        assert pair.heard(2) == [NhrpReceived("Tunnel0", "", ENDS[1], ENDS[2], 1, TEXT + b"question")]
        pair.say(2, b"answer")
        await asyncio.sleep(0.1)
        assert [fact.octets for fact in pair.heard(1)] == [TEXT + b"answer"]
        pair.sad[1].remove_outbound(SaKey("Tunnel0"))
        pair.say(1, b"too late")
        await asyncio.sleep(0.1)
        assert pair.heard(2) == []
        assert pair.forwarder(1).counters.total(Drop.PROTECTED) == 2

    play(FORMS[name], work)


def test_S07_E04_lossy_path_rekeys_crashes_and_gaps_without_an_sa():
    """Loss, reordering and jitter; SAs come, are replaced and go; both forwarders crash. What arrives came by an SA."""

    async def work(pair: Overlay) -> None:
        dice, sent, came = random.Random(7), 0, []
        for generation in range(30):
            match dice.randrange(4):
                case 0:
                    pair.sad[dice.choice((1, 2))].remove_outbound(SaKey("Tunnel0"))
                case 1:
                    number = dice.choice((1, 2))
                    pair.supervisors[number].service("forwarder").fail(RuntimeError("injected"))
                case _:
                    associate(pair, GCM, generation, window=1024)
            for _ in range(10):
                sent += 1
                pair.say(1 + sent % 2, sent.to_bytes(4))
                await asyncio.sleep(0.05)
            came += pair.heard(1) + pair.heard(2)
        assert sent // 4 < len(came) < sent
        assert all(fact.sa for fact in came)
        assert len({fact.octets for fact in came}) == len(came), "nothing twice"

    play(GCM, work, loss=0.1, reorder=0.2, jitter=0.004)


def test_the_service_says_which_routes_were_used():
    async def work(pair: Overlay) -> None:
        associate(pair, GCM)
        site, elsewhere = Prefix.parse("10.2.0.0/16"), Prefix.parse("10.9.0.0/16")
        bus = pair.bus[1]
        assert bus.ask(RoutesUsed(VRF, (site, elsewhere))) == frozenset()
        assert await pair.ping() == 1
        assert bus.ask(RoutesUsed(VRF, (site, elsewhere))) == {site}
        pair.say(1, b"no use")
        await asyncio.sleep(0.1)
        assert bus.ask(RoutesUsed(VRF, (site, elsewhere))) == frozenset()

    play(GCM, work)


def test_a_hairpin_has_the_first_octets_behind_the_header():
    """Out of the tunnel and into it again (and so on, the other side has no better way): the header and eight octets."""

    async def work(pair: Overlay) -> None:
        found = pair.tables[2].interfaces.get("Tunnel0")
        pair.w[2]["interfaces"].put("Tunnel0", evolve(found, row=evolve(found.row, redirect=True)))
        associate(pair, GCM)
        pair.w[2]["fib"].put(
            VRF, Prefix.parse("10.2.9.0/24"), pair.tables[2].fib.get(VRF).get(Prefix.parse("10.1.0.0/16"))
        )
        await pair.ce[1].ping("10.2.9.9", count=1, timeout=0.1)
        fact, *_ = [fact for fact in pair.ears[2].mailbox.take() if isinstance(fact, Hairpin)]
        assert fact.ingress == Ingress("Tunnel0", "", ENDS[1], 1, 18)
        assert (fact.vrf, fact.egress, len(fact.header)) == (VRF, "Tunnel0", 28)
        assert fact.header[12:20] == parse_address("10.1.0.2") + parse_address("10.2.9.9")
        assert fact.header[20] == 8, "an echo request"

    play(GCM, work)
