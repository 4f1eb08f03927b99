"""The service in whole nodes: registration, redirect, shortcut, purge; its restart under traffic, and what it costs nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nhrp.events import NhsUp, RedirectSent, ShortcutDown, ShortcutUp
from nhrp.service import SERVICE
from nhrp.wire import Kind, Packet, authentication, encode
from stack.addr import Prefix, parse_address
from stack.bus import NoServer
from stack.events import EndpointOffered, NhrpReceived, RouteOffered, RoutesUsed
from stack.registry import load_specs
from stack.router import NODE
from stack.testing import Recorder, run
from stack.wiring import check_wiring
from tests.nhrp.nodes import Cloud, cloud, hub_text, spoke_text

SITE2 = Prefix.parse("192.168.2.0/24")
HOST2 = "192.168.2.10"


def told(story: Callable[[Cloud], Awaitable[None]], texts: dict[str, str] | None = None, spokes: int = 2) -> None:
    async def main() -> None:
        net = await cloud(texts or {}, spokes)
        try:
            await story(net)
        finally:
            await net.stop()

    run(main(), strict=False)


async def shortcut(net: Cloud) -> None:
    """A packet through the hub, and the way is straight."""
    await net.ttl("host1", HOST2)
    await net.until(lambda: "192.168.2.0/24" in net.cache("spoke1", "shortcut"), within=5, what="a shortcut")


def routes(net: Cloud, node: str) -> dict[Any, Any]:
    """What NHRP offers of routes."""
    return dict(net.routers[node].bus.rows(RouteOffered).get("nhrp", {}))


# --- the story ----------------------------------------------------------------------------------------------------------


def test_redirect_and_shortcut_save_one_hop() -> None:
    """host1 > spoke1 > hub > spoke2 > host2, and then without the hub: the TTL that arrives is one higher."""

    async def story(net: Cloud) -> None:
        heard = {name: Recorder(router.bus, (ShortcutUp, RedirectSent)) for name, router in net.routers.items()}
        through_hub = await net.ttl("host1", HOST2)
        await net.until(lambda: net.cache("spoke1", "shortcut") and net.cache("spoke2", "shortcut"), within=5)
        straight = await net.ttl("host1", HOST2)
        assert straight == through_hub + 1
        (up,) = heard["spoke1"].facts(ShortcutUp)
        assert (up.vrf, up.prefix, up.interface, up.label) == ("", SITE2, "Tunnel0", None)
        assert (up.next_hop, up.nbma) == (parse_address("10.0.0.12"), parse_address("198.51.2.1"))
        assert up.seconds < 0.1
        assert heard["hub"].facts(RedirectSent)
        before = net.cache("hub")
        await net.ttl("host1", HOST2)
        assert net.cache("hub").keys() == before.keys()

    told(story)


def test_registration_makes_endpoints_of_the_hub() -> None:
    async def story(net: Cloud) -> None:
        assert set(net.cache("hub", "dynamic")) == {"10.0.0.11/32", "10.0.0.12/32"}
        entry = net.cache("hub")["10.0.0.11/32"]
        assert entry["flags"] == ["unique", "registered"]
        assert entry["nbma-address"] == "198.51.1.1"
        held = net.routers["hub"].bus.rows(EndpointOffered)["nhrp"]
        assert {key[0] for key in held} == {"Tunnel0"}
        assert {row.transport for row in held.values()} == {parse_address(f"198.51.{n}.1") for n in (1, 2)}

    told(story)


def test_N09_clear_purges_what_others_believe() -> None:
    """spoke2 forgets whom it answered: spoke1 hears of it, and takes the way by the hub until it is redirected again."""

    async def story(net: Cloud) -> None:
        await shortcut(net)
        heard = Recorder(net.routers["spoke1"].bus, (ShortcutDown,))
        net.show("spoke2", "clear ip nhrp")
        await net.until(lambda: heard.facts(ShortcutDown), within=5, what="spoke1 hears the purge")
        assert SITE2 not in routes(net, "spoke1")
        await asyncio.sleep(8)  # the hub tells a pair once in that time
        await shortcut(net)

    told(story)


def test_N09_stopping_purges_what_others_believe() -> None:
    async def story(net: Cloud) -> None:
        await shortcut(net)
        await net.routers.pop("spoke2").stop()
        await net.until(lambda: "192.168.2.0/24" not in net.cache("spoke1"), within=5, what="spoke1 hears the purge")

    told(story)


def test_reconfiguration_ends_what_it_no_longer_allows() -> None:
    async def story(net: Cloud) -> None:
        await shortcut(net)
        net.apply("spoke1", spoke_text(1).replace(" ip nhrp shortcut\n", ""))
        await net.until(lambda: SITE2 not in routes(net, "spoke1"), within=5, what="no shortcut is wanted any more")
        assert await net.reaches("host1", HOST2)
        await asyncio.sleep(1)
        assert SITE2 not in routes(net, "spoke1")
        net.apply("spoke1", spoke_text(1))
        await asyncio.sleep(8)  # the hub tells a pair once in that time
        await shortcut(net)

    told(story)


# --- restarts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["hub", "spoke1", "spoke2"])
def test_restart_under_traffic_loses_what_was_in_flight_at_most(node: str) -> None:
    """Routes and endpoints of the old incarnation stand until the new one has said its own, and registrations are kept. A spoke
    gives up its shortcuts then: packets that are on their straight way at that moment find nobody who knows their sender."""

    async def story(net: Cloud) -> None:
        await shortcut(net)
        answers: list[bool] = []

        async def traffic() -> None:
            while True:
                answers.append(await net.reaches("host1", HOST2))
                await asyncio.sleep(0.005)

        flow = asyncio.create_task(traffic())
        await asyncio.sleep(0.5)
        await net.restart(node)
        await asyncio.sleep(3)
        await net.until(lambda: "192.168.2.0/24" in net.cache("spoke1", "shortcut"), within=9, what="straight again")
        flow.cancel()
        assert len(answers) > 100
        assert answers.count(False) <= (0 if node == "hub" else 1), f"{answers.count(False)} of {len(answers)} lost"
        assert net.registered(1, 2)
        if node == "hub":
            assert set(net.cache("hub", "dynamic")) >= {"10.0.0.11/32", "10.0.0.12/32"}

    told(story)


def test_a_registration_ends_at_its_time_over_a_restart_too() -> None:
    async def story(net: Cloud) -> None:
        ends = net.cache("hub")["10.0.0.11/32"]["expires-seconds"]
        await asyncio.sleep(10)
        await net.restart("hub")
        await net.until(lambda: "10.0.0.11/32" in net.cache("hub"), within=1)
        left = net.cache("hub")["10.0.0.11/32"]["expires-seconds"]
        assert ends - 12 < left <= ends - 10
        net.show("hub", "clear ip nhrp")
        await net.restart("hub")
        assert not net.cache("hub", "dynamic")  # what was cleared does not come back

    told(story)


# --- containment ------------------------------------------------------------------------------------------------------------


def received(octets: bytes, interface: str = "Tunnel0") -> NhrpReceived:
    return NhrpReceived(interface, "", parse_address("198.51.1.1"), parse_address("198.51.0.1"), 0, octets)


def test_a_packet_that_the_speaker_cannot_take_costs_that_packet_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(net: Cloud) -> None:
        service = net.service("hub")
        taken = service.speaker.receive

        def receive(message: Any, now: float) -> Any:
            return taken(message, now) if not isinstance(message, NhrpReceived) else 1 // 0

        monkeypatch.setattr(service.speaker, "receive", receive)
        for _ in range(20):
            service.seat.bus.post(received(bytes(40)))
        await asyncio.sleep(0.1)
        assert net.service("hub") is service
        assert service.failures == 20
        assert [line["in_all"] for line in net.logged("hub", "could not be taken")] == [1, 2, 4, 8, 16]
        assert "messages that the speaker could not take" in net.show("hub", "show ip nhrp counters")
        monkeypatch.undo()
        await shortcut(net)
        net.show("hub", "clear ip nhrp counters")
        assert service.failures == 0

    told(story)


@pytest.mark.parametrize("octets", [b"", b"\0", bytes(28), b"\xff" * 1500], ids=["empty", "one", "zeros", "ones"])
def test_N01_noise_changes_nothing_but_counters(octets: bytes) -> None:
    async def story(net: Cloud) -> None:
        before = net.cache("hub").keys()
        service = net.service("hub")
        for interface in ("Tunnel0", "Tunnel99", ""):
            service.seat.bus.post(received(octets, interface))
        await asyncio.sleep(0.1)
        assert net.service("hub") is service
        assert service.failures == 0
        assert net.cache("hub").keys() == before

    told(story)


def test_without_a_packet_path_that_tells_all_are_taken_to_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shortcut is renewed at two thirds of its time if it was used; nobody answers `RoutesUsed` here."""

    async def story(net: Cloud) -> None:
        await shortcut(net)
        service = net.service("spoke1")
        monkeypatch.setattr(type(service.seat), "ask", _nobody)
        asked = net.show("spoke1", "show ip nhrp traffic")[0]["sent"]["resolution-request"]
        await asyncio.sleep(90)
        assert net.show("spoke1", "show ip nhrp traffic")[0]["sent"]["resolution-request"] > asked
        assert "192.168.2.0/24" in net.cache("spoke1", "shortcut")

    holding = " ip nhrp holdtime 120\n"
    told(story, {"spoke1": spoke_text(1, holding), "spoke2": spoke_text(2, holding)})


def _nobody(_seat: Any, request: Any) -> Any:
    assert isinstance(request, RoutesUsed)
    raise NoServer("nobody")


def test_an_unused_shortcut_goes_and_a_used_one_stays() -> None:
    async def story(net: Cloud) -> None:
        await shortcut(net)
        for _ in range(20):
            await net.ttl("host1", HOST2)
            await asyncio.sleep(10)
        assert "192.168.2.0/24" in net.cache("spoke1", "shortcut"), "used, so renewed"
        await asyncio.sleep(250)
        assert not net.cache("spoke1", "shortcut"), "nothing keeps an idle one"
        assert await net.reaches("host1", HOST2)

    holding = " ip nhrp holdtime 120\n"
    told(story, {"spoke1": spoke_text(1, holding), "spoke2": spoke_text(2, holding)})


# --- what is logged and measured --------------------------------------------------------------------------------------------


def test_debug_prints_packets_without_their_password() -> None:
    line = " ip nhrp authentication OPENSES\n"

    async def story(net: Cloud) -> None:
        shown = net.text("spoke1", "debug nhrp packet")
        assert shown.splitlines()[0] == "NHRP packet debugging is on"
        await shortcut(net)
        lines = [entry["packet"] for entry in net.logs["spoke1"] if "packet" in entry]
        assert any(text.startswith("traffic indication") for text in lines)
        assert any(text.startswith("resolution request") for text in lines)
        assert all("authentication (11 octets)" in text for text in lines)
        assert "OPENSES" not in repr(net.logs)
        net.text("spoke1", "undebug nhrp")
        told_before = len(net.logs["spoke1"])
        net.show("spoke1", "clear ip nhrp")
        await asyncio.sleep(1)
        assert not [entry for entry in net.logs["spoke1"][told_before:] if "packet" in entry]

    told(story, {"hub": hub_text(2, line), "spoke1": spoke_text(1, line), "spoke2": spoke_text(2, line)})


def test_debug_of_what_is_malformed() -> None:
    async def story(net: Cloud) -> None:
        net.show("hub", "debug nhrp packet")
        password = authentication(b"OPENSES")
        a = parse_address
        packet = Packet(Kind.PURGE_REQUEST, a("198.51.1.1"), a("10.0.0.11"), a("10.0.0.1"), extensions=(password,))
        net.service("hub").seat.bus.post(received(encode(packet)[:-3]))
        await asyncio.sleep(0.1)
        (line,) = [entry["packet"] for entry in net.logs["hub"] if entry["event"] == "received"]
        assert line.startswith("malformed: ")
        assert "OPENSES" not in repr(net.logs)

    told(story)


def test_samples() -> None:
    async def story(net: Cloud) -> None:
        await shortcut(net)
        assert SERVICE.samples is not None
        held = {
            (sample.name.removeprefix("labelspan_nhrp_"), *sample.labels.values()): sample.value
            for sample in SERVICE.samples(net.service("spoke1"))
        }
        assert held["cache_entries", "static"] == 1
        assert held["shortcuts",] == 1
        assert held["servers",] == 1
        assert held["servers_down",] == 0
        assert held["failures_total",] == 0
        assert held["packets_total", "in", "traffic-indication"] >= 1
        hub = {sample.name: sample for sample in SERVICE.samples(net.service("hub"))}
        assert hub["labelspan_nhrp_cache_entries"].labels == {"kind": "negative"}
        for sample in SERVICE.samples(net.service("hub")):
            assert sample.counter == sample.name.endswith("_total")
            assert not set(sample.labels.values()) & {"10.0.0.11", "198.51.1.1"}

    told(story)


def test_the_spec_fits_with_and_without_the_others() -> None:
    specs = load_specs()
    check_wiring(specs, NODE)
    for missing in ("tunnel", "ikev2", "bgp", "mfi", "forwarder"):
        left = [spec for spec in specs if spec.name != missing]
        faults = []
        try:
            check_wiring(left, NODE)
        except Exception as error:
            faults = [fault for fault in getattr(error, "faults", (str(error),)) if fault.startswith("nhrp")]
        assert not faults
    assert NhsUp in SERVICE.produces
