"""The node as a whole: what a change of its configuration does, and what it must not do on the way."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Mapping
from typing import Any

import pytest
import structlog
from attrs import evolve, frozen

from stack.addr import Prefix, parse_address
from stack.bus import Message
from stack.config import Config
from stack.events import Delta, Route, RouteOffered, RouteSelected, Via
from stack.ios.command import Command, Shown
from stack.ios.grammar import CONFIG, Draft, Line
from stack.ios.reader import ConfigError, read
from stack.registry import ServiceSpec, load_specs
from stack.router import Router
from stack.service import Context, ServiceShell
from stack.testing import MemoryNetwork, VirtualClock, run
from stack.wiring import WiringError
from tests.scenario.memory import Net

PE = """
hostname {name}
vrf definition red
 rd 65000:1
 route-target both 65000:1
 address-family ipv4
 exit-address-family
l3vpn encapsulation ip core
 transport ipv4 source Loopback0
interface Loopback0
 ip address {here} 255.255.255.255
interface Ethernet0/0
 ip address {link} 255.255.255.0
interface Loopback1
 vrf forwarding red
 ip address {customer} 255.255.255.255
ip route {there} 255.255.255.255 {far}
router bgp 65000
 neighbor {there} remote-as 65000
 neighbor {there} update-source Loopback0
 address-family vpnv4
  neighbor {there} activate
  neighbor {there} route-map ONE in
 address-family ipv4 vrf red
  redistribute connected
 exit-address-family
route-map ONE permit 10
 set ip next-hop encapsulate l3vpn core
"""
ONE = PE.format(name="PE1", here="192.0.2.1", there="192.0.2.2", link="10.0.0.1", far="10.0.0.2", customer="10.1.1.1")
TWO = PE.format(name="PE2", here="192.0.2.2", there="192.0.2.1", link="10.0.0.2", far="10.0.0.1", customer="10.1.2.1")


async def _pair() -> Net:
    net = Net()
    net.link("pe1 Ethernet0/0", "pe2 Ethernet0/0")
    await net.start("pe1", ONE)
    await net.start("pe2", TWO)
    await net.until(lambda: "10.1.2.1/32" in net.text("pe1", "show ip cef vrf red tunnel 0"))
    return net


def test_another_name_for_the_same_policy_disturbs_no_route() -> None:
    """A route map and who uses it change together: at no moment is the neighbour's route map one that does not exist."""

    async def main() -> None:
        net = await _pair()
        heard: list[object] = []

        async def listen() -> None:
            async for delta in net.routers["pe1"].bus.subscribe(RouteOffered, name="test"):
                heard.extend(row for row in delta.rows.values() if delta.owner == "bgp" and delta.table == "red")

        listening = asyncio.create_task(listen())
        await asyncio.sleep(1)
        assert len(heard) == 1
        for old, new in (("ONE", "TWO"), ("TWO", "ONE")):
            net.apply("pe1", ONE.replace("ONE", new))
            await asyncio.sleep(5)
            assert None not in heard, f"withdrawn while {old} became {new}"
            assert [each for each in net.logs["pe1"] if "policy" in each["event"]] == []
        listening.cancel()
        await net.stop()

    run(main(), strict=False)


def test_a_running_node_answers_at_once() -> None:
    async def main() -> None:
        net = Net()
        router = await net.start("pe1", ONE)
        for line in ("show ip route", "show ip bgp vpnv4 all", "show mpls forwarding-table", "show adjacency"):
            router.execute(line)
        assert [process.state for process in router.processes()] == ["running"] * len(router.specs)
        await net.stop()

    run(main(), strict=False)


DEFAULT = ONE.replace("ip route 192.0.2.2 255.255.255.255 10.0.0.2", "ip route 0.0.0.0 0.0.0.0 10.0.0.2")


def test_a_default_route_that_comes_before_its_interface_is_no_recursion() -> None:
    """At the start every route comes before what it rests on; only what stays refused is worth a warning."""

    async def main() -> None:
        net = Net()
        net.link("pe1 Ethernet0/0", "core eth0")
        await net.start("pe1", DEFAULT)
        await asyncio.sleep(30)
        assert "S*    0.0.0.0/0 [1/0] via 10.0.0.2" in net.text("pe1", "show ip route")
        assert [each for each in net.logs["pe1"] if "recursion" in each["event"]] == []
        net.apply("pe1", DEFAULT.replace("0.0.0.0 0.0.0.0 10.0.0.2", "10.9.0.0 255.255.0.0 10.9.0.1"))
        await asyncio.sleep(5)
        told = [each["prefix"] for each in net.logs["pe1"] if "recursion" in each["event"]]
        assert told == ["10.9.0.0/16"]
        await net.stop()

    run(main(), strict=False)


# --- any change, and back ---------------------------------------------------------------------------------------------------

MORE = """
ip vrf blue
 rd 65000:2
 route-target both 65000:2
interface Loopback2
 vrf forwarding blue
 ip address 10.1.1.1 255.255.255.255
interface Ethernet0/1
 vrf forwarding red
 ip address 10.5.0.1 255.255.255.0
 ipv6 address 2001:db8:5::1/64
interface Tunnel7
 ip address 10.77.0.1 255.255.255.252
 tunnel source Loopback0
 tunnel destination 192.0.2.2
 tunnel key 5
router bgp 65000
 address-family ipv4 vrf red
  redistribute static
 address-family ipv4 vrf blue
  redistribute connected
 address-family vpnv6
  neighbor 192.0.2.2 activate
  neighbor 192.0.2.2 route-map ONE in
 address-family ipv6 vrf red
  redistribute connected
ip route vrf red 10.8.0.0 255.255.0.0 10.5.0.9
ip route vrf red 10.9.0.0 255.255.0.0 Null0
mpls label mode vrf red protocol bgp-vpnv4 per-vrf
mpls label range 100 199 static 300 310
mpls static binding ipv4 192.0.2.1 255.255.255.255 input 300
route-map ONE deny 5
 match ip address prefix-list Q
ip prefix-list Q permit 172.16.0.0/12
"""
VIEWS = (
    "show ip route",
    "show ip route vrf red",
    "show ipv6 route vrf red",
    "show ip route vrf blue",
    "show ip cef vrf red tunnel 0",
    "show ip cef vrf red",
    "show l3vpn encapsulation ip",
    "show ip interface brief",
    "show vrf",
)


def _mutilated(text: str, rng: random.Random) -> str:
    """`text` with a few lines lost, doubled or in another place."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 6)):
        line = lines.pop(rng.randrange(len(lines)))
        if rng.random() < 0.4:
            lines.insert(rng.randrange(len(lines)), line)
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(4))
def test_any_change_of_the_configuration_and_back_leaves_the_node_as_it_was(seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        net = Net(seed)
        net.link("pe1 Ethernet0/0", "pe2 Ethernet0/0")
        net.link("pe1 Ethernet0/1", "ce eth0")
        net.host("ce", ["10.5.0.9/24", "2001:db8:5::9/64"], "10.5.0.1")
        full = ONE + MORE
        router = await net.start("pe1", full)
        await net.start("pe2", TWO)
        await net.until(lambda: "10.1.2.1/32" in net.text("pe1", "show ip cef vrf red tunnel 0"))
        await asyncio.sleep(60)

        def seen() -> dict[str, list[str]]:
            texts = {view: net.text("pe1", view) for view in VIEWS}
            texts["at pe2"] = net.text("pe2", "show ip route vrf red")
            return {view: sorted(re.sub(r"\d\d:\d\d:\d\d", "", text).splitlines()) for view, text in texts.items()}

        before = seen()
        assert any("10.8.0.0/16" in line for line in before["at pe2"])
        for _ in range(15):
            try:
                config = Config.from_ios(_mutilated(full, rng))
            except ConfigError:
                continue
            router.apply(config)
            await asyncio.sleep(rng.choice((0.0, 0.01, 1.0, 5.0)))
            assert [process.restarts for process in router.processes()] == [0] * len(router.specs), config
        net.apply("pe1", full)
        await asyncio.sleep(200)
        assert seen() == before
        await net.stop()

    run(main(), strict=False)


# --- a service of a third party, given to the router as it is --------------------------------------------------------------


@frozen
class IgpConfig:
    metric: int = 10


def _set_metric(draft: Draft, values: Mapping[str, Any]) -> None:
    draft.put(IgpConfig(values["metric"]))


class Igp(ServiceShell):
    """Offers one route, and hears which ones routing chose."""

    name = "igp"
    produces = frozenset({RouteOffered})
    consumes = frozenset({RouteSelected})

    def __init__(self, config: IgpConfig, context: Context) -> None:
        super().__init__(context)
        self.config = config
        self.heard: set[str] = set()

    async def begin(self) -> None:
        self.seat.subscribe(RouteSelected)
        self.reconfigure(self.config)
        self.seat.synced(RouteOffered)

    def receive(self, message: Message) -> None:
        if isinstance(message, Delta):
            self.heard.update(map(str, message.rows))

    def reconfigure(self, config: IgpConfig) -> None:
        self.config = config
        route = Route(115, (Via(parse_address("10.0.0.2")),), "isis", config.metric)
        self.seat.publish(RouteOffered, {Prefix.parse("203.0.113.0/24"): route})


IGP = ServiceSpec(
    name="igp",
    factory=Igp,
    config=IgpConfig,
    produces=Igp.produces,
    consumes=Igp.consumes,
    lines=(
        Line(
            CONFIG,
            "igp metric {metric:int:1-100}",
            "the metric of all routes",
            edit=_set_metric,
            show=lambda sections, _values: [{"metric": sections[IgpConfig].metric}],
        ),
    ),
    commands=(Command("show igp", lambda scene, _values: Shown("", scene.service.config.metric)),),
)


def test_a_third_partys_service_joins_without_a_patch() -> None:
    async def main() -> None:
        specs = (*load_specs(), IGP)
        world = MemoryNetwork(seed=1)
        world.link(("pe1", "eth0"), ("core", "eth0"))
        node = world.node("pe1")

        def config(metric: int) -> Config:
            return read(f"{ONE}\nigp metric {metric}\n", "pe1", specs).config

        log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
        async with Router(
            config(33), network=node, clock=VirtualClock(), specs=specs, bindings={"Ethernet0/0": "eth0"}, log=log
        ) as router:
            await asyncio.sleep(1)
            assert (await router.show("igp")).value == 33
            assert "I     203.0.113.0/24 [115/33] via 10.0.0.2" in (await router.show("ip route")).text
            assert "igp metric 33" in (await router.show("running-config")).text.splitlines()
            service = router.service("igp")
            assert isinstance(service, Igp)
            assert "203.0.113.0/24" in service.heard
            router.apply(config(44))
            await asyncio.sleep(1)
            assert router.service("igp") is service
            assert json.loads((await router.show("igp")).json) == 44
            assert "distance 115, metric 44" in (await router.show("ip route 203.0.113.9")).text
        world.close()

    run(main(), strict=False)


def test_a_service_that_reads_files_is_told_at_every_apply() -> None:
    """Its configuration may be the same, and the files that it names others."""

    async def main() -> None:
        told: list[str] = []

        class Reads(Igp):
            def reconfigure(self, config: IgpConfig) -> None:
                told.append(self.name)

        for files, times in ((None, 0), (lambda _config: (), 2)):
            specs = (*load_specs(), evolve(IGP, factory=Reads, files=files))
            log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
            world = MemoryNetwork(seed=1)
            config = read("hostname pe1\n", "pe1", specs).config
            async with Router(config, network=world.node("pe1"), clock=VirtualClock(), specs=specs, log=log) as router:
                await asyncio.sleep(1)
                told.clear()
                router.apply(config)
                router.apply(config)
                assert told == ["igp"] * times
            world.close()

    run(main(), strict=False)


def test_a_router_refuses_services_that_do_not_fit() -> None:
    node = MemoryNetwork(seed=1).node("pe1")
    for spec, why in (
        (evolve(IGP, produces=frozenset({RouteSelected})), "RouteSelected has one owner, and routing and igp"),
        (evolve(IGP, name="bgp"), "two services are called bgp"),
        (evolve(IGP, writes=frozenset({"fib"})), "table fib has one writer, and routing and igp"),
    ):
        with pytest.raises(WiringError, match=why):
            Router(Config(), network=node, specs=(*load_specs(), spec))
    without = [spec for spec in load_specs() if spec.name != "routing"]
    with pytest.raises(WiringError, match="bgp reads RouteSelected, and nobody publishes it"):
        Router(Config(), network=node, specs=without)
