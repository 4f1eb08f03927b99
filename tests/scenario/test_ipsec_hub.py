"""A hub with a virtual template and two spokes that ask it for their addresses: MPLS VPN over protected virtual access.

    red1 - spoke1 --\\                       overlay: hub 10.0.0.1, spokes 10.0.0.10 and on from its pool
                     core - hub             BGP runs over the tunnels, IPv4 in GRE in ESP; the VPN under labels in the same
    red2 - spoke2 --/

The second topology has a NAT between both spokes and the core, so that they have one address outside.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stack.addr import format_address
from stack.events import AccessWanted, AddressOffered, BindingOffered, RouteOffered
from stack.service import BACKOFF
from stack.testing import MemoryNat, run
from tests.scenario.memory import Net
from tests.scenario.test_restart import incarnations, kill, stale, state

GRE, MPLS_IN_IP = 47, 137
CUSTOMERS = bytes((10, 1))
"""Red's addresses begin with it."""

VRF = """vrf definition cust1
 rd 1:1
 route-target both 1:1
 address-family ipv4
 exit-address-family
!
"""


def crypto(name: str, profile: str = "", policy: str = "") -> str:
    return f"""aaa new-model
aaa authorization network default local
!
crypto ikev2 authorization policy default
{policy} route set interface
!
crypto ikev2 keyring all
 peer all
  address 0.0.0.0 0.0.0.0
  pre-shared-key every-spoke-has-this-one
!
crypto ikev2 profile default
 match identity remote fqdn domain example
 identity local fqdn {name}.example
 authentication remote pre-share
 authentication local pre-share
 keyring local all
 dpd 2 2 periodic
 aaa authorization group psk list default default
{profile}!
crypto ipsec profile default
 set ikev2-profile default
!
"""


HUB = f"""hostname hub
!
{VRF}{crypto("hub", " virtual-template 1" + chr(10), " pool spokes" + chr(10))}ip local pool spokes 10.0.0.10 10.0.0.19
!
interface Loopback0
 ip address 10.0.0.1 255.255.255.255
!
interface Loopback1
 vrf forwarding cust1
 ip address 172.17.0.1 255.255.255.255
!
interface Ethernet0/0
 ip address 198.51.1.1 255.255.255.0
!
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback0
 tunnel source Ethernet0/0
 tunnel protection ipsec profile default
 mpls bgp forwarding
!
router bgp 10
 bgp router-id 10.0.0.1
 bgp listen range 10.0.0.0/24 peer-group spokes
 bgp listen limit 10
 neighbor spokes peer-group
 neighbor spokes remote-as 100
 neighbor spokes update-source Loopback0
 neighbor spokes ebgp-multihop 5
 neighbor spokes timers 2 6
 address-family vpnv4
  neighbor spokes activate
  neighbor spokes send-community both
 exit-address-family
 address-family ipv4 vrf cust1
  redistribute connected
  redistribute static
  default-information originate
 exit-address-family
!
ip route 0.0.0.0 0.0.0.0 198.51.1.2
ip route vrf cust1 0.0.0.0 0.0.0.0 Null0
!
end
"""


def spoke(number: int) -> str:
    return f"""hostname spoke{number}
!
{VRF}{crypto(f"spoke{number}")}interface Ethernet0/0
 ip address 198.51.{number}1.1 255.255.255.0
!
interface Ethernet0/1
 vrf forwarding cust1
 ip address 10.1.{number}.1 255.255.255.0
!
interface Tunnel0
 ip address negotiated
 tunnel source Ethernet0/0
 tunnel destination 198.51.1.1
 tunnel protection ipsec profile default
 mpls bgp forwarding
!
router bgp 100
 bgp router-id 10.0.9.{number}
 neighbor 10.0.0.1 remote-as 10
 neighbor 10.0.0.1 update-source Tunnel0
 neighbor 10.0.0.1 ebgp-multihop 5
 neighbor 10.0.0.1 timers 2 6
 address-family vpnv4
  neighbor 10.0.0.1 activate
  neighbor 10.0.0.1 send-community both
 exit-address-family
 address-family ipv4 vrf cust1
  redistribute connected
 exit-address-family
!
ip route 0.0.0.0 0.0.0.0 198.51.{number}1.2
!
end
"""


PAIRS = (("red1", "10.1.2.10"), ("red2", "172.17.0.1"), ("red1", "172.17.0.1"))


class Hub(Net):
    """`cores`: the links that carry transport."""

    def __init__(self) -> None:
        super().__init__()
        self.cores: dict[str, Any] = {}
        self.nat: MemoryNat | None = None

    async def build(self, *, nat: bool = False) -> None:
        core = self.world.node("core", forwarding=True)
        self.cores["hub"] = self.link("hub Ethernet0/0", "core eth0")
        core.address("eth0", "198.51.1.2/24")
        near = self._behind_nat(core) if nat else core
        for n in (1, 2):
            self.cores[f"spoke{n}"] = self.link(f"spoke{n} Ethernet0/0", f"{near.name} eth{n}")
            near.address(f"eth{n}", f"198.51.{n}1.2/24")
            self.link(f"spoke{n} Ethernet0/1", f"red{n} eth0")
            self.host(f"red{n}", [f"10.1.{n}.10/24"], f"10.1.{n}.1")
        await self.start("hub", HUB)
        for n in (1, 2):
            await self.start(f"spoke{n}", spoke(n))
        await self.connected("red1", "10.1.2.10")
        await asyncio.sleep(3)

    def _behind_nat(self, core: Any) -> Any:
        gate, inside = self.world.node("gate"), self.world.node("inside", forwarding=True)
        self.cores["gate"] = self.link("gate eth1", "core eth9")
        core.address("eth9", "203.0.113.1/24")
        gate.address("eth1", "203.0.113.5/24")
        gate.route("0.0.0.0/0", "203.0.113.1")
        self.link("gate eth0", "inside eth9")
        gate.address("eth0", "10.99.0.1/24")
        inside.address("eth9", "10.99.0.2/24")
        inside.route("0.0.0.0/0", "10.99.0.1")
        for n in (1, 2):
            gate.route(f"198.51.{n}1.0/24", "10.99.0.2")
        self.nat = MemoryNat(gate, inside="eth0", outside="eth1")
        return inside

    def in_clear(self) -> list[bytes]:
        """What was on the links to the core and should have been in ESP: GRE, and whatever customers send."""
        found = []
        for link in self.cores.values():
            for frame in link.frames:
                packet = frame.octets[14:]
                if frame.octets[12:14] != b"\x08\x00" or packet[9] in (GRE, MPLS_IN_IP) or packet[12:14] == CUSTOMERS:
                    found.append(frame.octets)
        return [octets for octets in found if octets[12:14] != b"\x08\x06"]

    def offered(self, node: str) -> dict[str, list[str]]:
        """What stands because of peers."""
        bus = self.routers[node].bus
        rows = {topic: bus.rows(topic).get("ikev2", {}) for topic in (RouteOffered, AddressOffered, BindingOffered)}
        access = bus.rows(AccessWanted).get("ikev2", {})
        return {
            "routes": sorted(str(prefix) for prefix, route in rows[RouteOffered].items() if route.vias),
            "addresses": sorted(format_address(address) for _, address in rows[AddressOffered]),
            "implicit null": sorted(str(key[1]) for key, labels in rows[BindingOffered].items() if labels == (3,)),
            "access": sorted(access),
        }

    def associations(self) -> dict[str, tuple[int, int]]:
        return {n: (len(r.tables.sad.inbound), len(r.tables.sad.bundles)) for n, r in self.routers.items()}


SETTLED = {"hub": (2, 2), "spoke1": (1, 1), "spoke2": (1, 1)}
NOTHING = {"routes": [], "addresses": [], "implicit null": [], "access": []}


class Pings:
    """Of every pair, ten a second; `lost`: (when, pair, why)."""

    def __init__(self, net: Net, pairs: Any = PAIRS) -> None:
        self.lost: list[tuple[float, str, str, str]] = []
        self.sent = 0
        self._tasks = [asyncio.ensure_future(self._go(net, *pair)) for pair in pairs]

    async def _go(self, net: Net, host: str, destination: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at = loop.time()
            (answer,) = await net.world.node(host).ping(destination, count=1, timeout=0.5)
            self.sent += 1
            if not answer.ok:
                self.lost.append((at, host, destination, answer.reason))
            await asyncio.sleep(max(0.0, at + 0.1 - loop.time()))

    def take(self) -> list[tuple[float, str, str, str]]:
        """What was lost since the last call."""
        lost, self.lost = self.lost, []
        return lost

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def play(story: Callable[[Hub], Awaitable[None]], *, nat: bool = False) -> None:
    async def main() -> None:
        net = Hub()
        await net.build(nat=nat)
        await story(net)
        await net.stop()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    run(main())


def test_overlay_routes_and_implicit_null_come_and_go_with_the_peer() -> None:
    async def story(net: Hub) -> None:
        hub = net.offered("hub")
        assert hub["routes"] == hub["implicit null"] == ["10.0.0.10/32", "10.0.0.11/32"]
        assert hub["access"] == ["Virtual-Access1", "Virtual-Access2"]
        for n in (1, 2):
            own = net.offered(f"spoke{n}")
            assert own["routes"] == own["implicit null"] == ["10.0.0.1/32"]
            assert own["addresses"][0] in ("10.0.0.10", "10.0.0.11")
        assert net.associations() == SETTLED
        assert net.in_clear() == []
        # A good-bye: all that the spoke has brought goes at once, and its address is another's to have.
        (gone,) = net.offered("spoke1")["addresses"]
        await net.routers.pop("spoke1").stop()
        await asyncio.sleep(1)
        assert f"{gone}/32" not in net.offered("hub")["routes"]
        assert len(net.offered("hub")["access"]) == 1
        assert len([i for i in net.routers["hub"].tables.interfaces if i.name.startswith("Virtual-Access")]) == 1
        assert net.associations() == {"hub": (1, 1), "spoke2": (1, 1)}
        assert not await net.reaches("red2", "10.1.1.10")
        assert await net.reaches("red2", "172.17.0.1")
        await net.start("spoke1", spoke(1))
        await net.connected("red2", "10.1.1.10")
        assert net.offered("spoke1")["addresses"] == [gone], "the lowest that is free"
        await asyncio.sleep(10)
        assert net.associations() == SETTLED
        assert net.in_clear() == []

    play(story)


def test_a_spoke_dies_without_a_word_and_a_hub_does() -> None:
    async def story(net: Hub) -> None:
        net.world.node("spoke1").kill()
        await net.routers.pop("spoke1").stop()
        await net.until(lambda: len(net.offered("hub")["access"]) == 1, within=20)
        assert await net.reaches("red2", "172.17.0.1")
        await net.start("spoke1", spoke(1))
        await net.connected("red1", "10.1.2.10")
        net.world.node("hub").kill()
        await net.routers.pop("hub").stop()
        await net.until(lambda: net.offered("spoke1") == net.offered("spoke2") == NOTHING, within=20)
        assert net.associations() == {"spoke1": (0, 0), "spoke2": (0, 0)}
        await net.start("hub", HUB)
        await net.connected("red1", "10.1.2.10", within=90)
        await asyncio.sleep(10)
        assert net.associations() == SETTLED
        assert net.in_clear() == []

    play(story)


def sessions(net: Hub, name: str) -> list[tuple[str, int]]:
    """(neighbour, how often it was up)."""
    rows = net.show(name, "show ip bgp neighbors")
    return sorted((row["neighbor-address"], row["established-transitions"]) for row in rows)


@pytest.mark.parametrize("where", ["hub", "spoke1", "hub spoke1"])
@pytest.mark.parametrize("victims", ["ikev2", "tunnel", "routing", "mfi", "forwarder", "ikev2 tunnel", "ikev2 routing"])
def test_S01_killed_services_cost_nothing(where: str, victims: str) -> None:
    """A spoke whose hub has lost its IKE SAs makes a new one before it gives up what still flows; its address, the hub's
    interface for it and the BGP session over both stay."""

    async def story(net: Hub) -> None:
        routers = [net.routers[name] for name in where.split()]
        before = [incarnations(router) for router in routers]
        up = {name: sessions(net, name) for name in net.routers}
        overlay = {name: net.offered(name) for name in net.routers}
        pings = Pings(net)
        await asyncio.sleep(1)
        for router in routers:
            kill(router, *victims.split())
        await asyncio.sleep(40)
        lost = pings.take()
        if "forwarder" in victims:
            assert max(at for at, *_ in lost) - min(at for at, *_ in lost) <= BACKOFF[0]
        else:
            assert lost == []
        assert pings.sent > 1000
        await pings.stop()
        await asyncio.sleep(6)
        assert {name: net.offered(name) for name in net.routers} == overlay
        assert net.associations() == SETTLED
        assert {name: sessions(net, name) for name in net.routers} == up
        for router, was in zip(routers, before, strict=True):
            assert incarnations(router) == {**was, **{victim: was[victim] + 1 for victim in victims.split()}}
            assert stale(router) == []
        assert net.in_clear() == []

    play(story)


def test_two_spokes_behind_one_nat_and_the_nat_forgets() -> None:
    """One address outside, two ports: each has its own interface. Whoever moves keeps its counters."""

    async def story(net: Hub) -> None:
        assert net.nat is not None
        rows = net.routers["hub"].bus.rows(AccessWanted)["ikev2"]
        assert {format_address(row.remote) for row in rows.values()} == {"203.0.113.5"}
        assert len(rows) == 2
        outside = {bundle.outbound.ports[1] for bundle in net.routers["hub"].tables.sad if bundle.outbound}
        assert len(outside) == 2
        pings = Pings(net)
        await asyncio.sleep(1)
        net.nat.rebind()
        await asyncio.sleep(20)
        lost = Counter(round(at, 1) for at, *_ in pings.take())
        assert len(lost) <= 1, "what was under way, until each has sent something"
        moved = {bundle.outbound.ports[1] for bundle in net.routers["hub"].tables.sad if bundle.outbound}
        assert len(moved) == 2
        assert not moved & outside
        for node in ("spoke1", "hub"):
            kill(net.routers[node], "ikev2")
            await asyncio.sleep(40)
            assert pings.take() == []
        await pings.stop()
        await asyncio.sleep(6)
        assert net.associations() == SETTLED
        assert net.in_clear() == []

    play(story, nat=True)


def test_E04_a_template_without_protection_makes_nothing_that_is_clear() -> None:
    """Who came in by IKE is protected, whatever the template says; taken away live, nothing changes for those that are in."""

    async def story(net: Hub) -> None:
        pings = Pings(net)
        net.apply("hub", HUB.replace(" tunnel protection ipsec profile default\n", ""))
        await asyncio.sleep(10)
        assert pings.take() == []
        net.routers["spoke1"].execute("clear crypto session")
        await asyncio.sleep(20)
        pings.take()
        await asyncio.sleep(5)
        assert pings.take() == []
        await pings.stop()
        assert net.in_clear() == []

    play(story)


def test_E04_a_spokes_tunnel_whose_protection_is_taken_away_reaches_nobody() -> None:
    """The hub has no interface for it then; what the spoke sends in clear is refused."""

    async def story(net: Hub) -> None:
        net.apply("spoke1", spoke(1).replace(" tunnel protection ipsec profile default\n", ""))
        await asyncio.sleep(15)
        assert len(net.offered("hub")["access"]) == 1
        assert net.offered("spoke1") == NOTHING
        assert not await net.reaches("red1", "172.17.0.1")
        assert net.in_clear() == [], "it has no address there any more"
        net.apply("spoke1", spoke(1))
        await net.connected("red1", "10.1.2.10")

    play(story)


def test_a_template_that_goes_takes_its_clones_and_comes_back() -> None:
    async def story(net: Hub) -> None:
        start = HUB.index("interface Virtual-Template1")
        without = HUB[:start] + HUB[HUB.index("router bgp 10") :]
        net.apply("hub", without)
        await asyncio.sleep(20)
        assert [i.name for i in net.routers["hub"].tables.interfaces if i.name.startswith("Virtual-Access")] == []
        assert not await net.reaches("red1", "172.17.0.1")
        net.apply("hub", HUB)
        await net.connected("red1", "10.1.2.10", within=90)
        await net.connected("red2", "10.1.1.10", within=90)
        await asyncio.sleep(10)
        assert net.associations() == SETTLED
        assert net.in_clear() == []

    play(story)


def test_S01_state_is_as_it_was() -> None:
    async def story(net: Hub) -> None:
        stood = {name: state(router) for name, router in net.routers.items()}
        kill(net.routers["hub"], "ikev2")
        await asyncio.sleep(40)
        assert {name: state(router) for name, router in net.routers.items()} == stood

    play(story)
