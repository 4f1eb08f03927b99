"""A hub of many spokes: all come, all go, half of them without a word, and nothing of them is left in any service of the hub.

Counts, not times: `benchmarks/flexvpn_hub.py` has those, for 2,000. Every node is a whole one from IOS text, in memory and
virtual time. As in the document, the hub tells every spoke of every other's routes, each with a label of its own.

    spoke1 ... spoke60 ---- internet ---- hub
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from stack.config import Config
from stack.events import AccessWanted, LabelWanted, OverlayState, RouteOffered
from stack.lab.memory import _QUIET
from stack.router import Router
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock, run

SPOKES = 60
VRFS, PREFIXES = ("cust1", "cust2"), 2
HUB_ADDRESS = "10.127.0.1"

_VRFS = """vrf definition cust1
 rd 1:1
 route-target export 1:1
 route-target import 1:1
 address-family ipv4
 exit-address-family
!
vrf definition cust2
 rd 2:2
 route-target export 2:2
 route-target import 2:2
 address-family ipv4
 exit-address-family
!
"""

_IKE = """crypto ikev2 keyring k
 peer all
  address 0.0.0.0 0.0.0.0
  pre-shared-key a-secret
 !
!
crypto ikev2 profile default
 match identity remote fqdn domain example
 identity local fqdn {name}.example
 authentication remote pre-share
 authentication local pre-share
 keyring local k
 dpd 10 2 periodic
 aaa authorization group psk list default default
{more}!
crypto ipsec profile default
 set ikev2-profile default
!
"""

HUB = (
    "hostname hub\naaa new-model\naaa authorization network default local\nip local pool p 10.128.0.1 10.128.0.254\n"
    + _VRFS
    + "crypto ikev2 authorization policy default\n pool p\n route set interface Loopback0\n!\n"
    + _IKE.format(name="hub", more=" virtual-template 1\n")
    + f"""interface Loopback0
 ip address {HUB_ADDRESS} 255.255.255.255
!
interface Ethernet0/0
 ip address 192.0.2.1 255.255.255.0
!
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback0
 ip nhrp network-id 1
 ip nhrp redirect
 mpls bgp forwarding
 tunnel source Ethernet0/0
 tunnel protection ipsec profile default
!
router bgp 10
 bgp listen range 10.128.0.0/24 peer-group mpls
 bgp listen limit 200
 neighbor mpls peer-group
 neighbor mpls remote-as 100
 neighbor mpls transport connection-mode passive
 neighbor mpls update-source Loopback0
 !
 address-family vpnv4
  neighbor mpls activate
  neighbor mpls send-community both
 exit-address-family
 !
 address-family ipv4 vrf cust1
  redistribute static
  default-information originate
 exit-address-family
 !
 address-family ipv4 vrf cust2
  redistribute static
  default-information originate
 exit-address-family
!
ip route 0.0.0.0 0.0.0.0 192.0.2.2
ip route vrf cust1 0.0.0.0 0.0.0.0 Null0
ip route vrf cust2 0.0.0.0 0.0.0.0 Null0
end
"""
)

SPOKE = (
    "hostname spoke{n}\naaa new-model\naaa authorization network default local\n"
    + _VRFS
    + "crypto ikev2 authorization policy default\n route set interface\n!\n"
    + _IKE.replace("{name}", "spoke{n}").replace("{more}", "")
    + """interface Tunnel0
 ip address negotiated
 ip nhrp network-id 1
 mpls bgp forwarding
 tunnel source Ethernet0/0
 tunnel destination 192.0.2.1
 tunnel protection ipsec profile default
!
interface Ethernet0/0
 ip address 198.51.{n}.1 255.255.255.0
!
router bgp 100
 neighbor 10.127.0.1 remote-as 10
 neighbor 10.127.0.1 ebgp-multihop 255
 neighbor 10.127.0.1 update-source Tunnel0
 !
 address-family vpnv4
  neighbor 10.127.0.1 activate
  neighbor 10.127.0.1 send-community both
 exit-address-family
 !
 address-family ipv4 vrf cust1
  redistribute static
 exit-address-family
 !
 address-family ipv4 vrf cust2
  redistribute static
 exit-address-family
!
ip route 10.127.0.1 255.255.255.255 Tunnel0
ip route 192.0.2.0 255.255.255.0 198.51.{n}.2
ip route vrf cust1 11.0.{n}.0 255.255.255.0 Null0
ip route vrf cust1 11.1.{n}.0 255.255.255.0 Null0
ip route vrf cust2 11.0.{n}.0 255.255.255.0 Null0
ip route vrf cust2 11.1.{n}.0 255.255.255.0 Null0
end
"""
)


@define(eq=False)
class Net:
    world: MemoryNetwork = field(factory=lambda: MemoryNetwork(seed=5, kept=0))
    routers: dict[str, Router] = field(factory=dict)

    def wire(self) -> None:
        middle = self.world.node("internet", forwarding=True)
        self.world.link(("hub", "e0"), ("internet", "hub"))
        middle.address("hub", "192.0.2.2/24")
        for n in range(1, SPOKES + 1):
            self.world.link((f"spoke{n}", "e0"), ("internet", f"s{n}"))
            middle.address(f"s{n}", f"198.51.{n}.2/24")

    async def start(self, name: str, text: str) -> None:
        router = self.routers[name] = Router(
            Config.from_ios(text, source=name),
            network=self.world.node(name),
            clock=VirtualClock(),
            entropy=SeededEntropy(name),
            bindings={"Ethernet0/0": "e0"},
            log=_QUIET,
        )
        await router.start()

    async def leave(self, name: str, *, abruptly: bool) -> None:
        if abruptly:
            self.world.node(name).kill()
        await self.routers.pop(name).stop()

    @property
    def hub(self) -> Router:
        return self.routers["hub"]

    def counts(self) -> Counter[str]:
        """What the hub has: rows on the bus, by topic and owner; and what is in no row."""
        hub, tables = self.hub, self.hub.tables
        found: Counter[str] = Counter()
        for use in hub.bus.snapshot():
            found[f"{use.topic} of {use.owner}"] = use.rows
        found["IKE SAs"] = len(hub.execute("show crypto ikev2 sa").value)
        found["inbound SAs"], found["bundles"] = len(tables.sad.inbound), len(tables.sad.bundles)
        found["leases"] = sum(pool["in-use"] for pool in hub.execute("show ip local pool").value)
        found["sessions"] = len(hub.execute("show ip bgp neighbors").value)
        found["labels"] = len(hub.execute("show mpls label table").value)
        found["label rows"] = len(tables.lfib.rows)
        for vrf in VRFS:
            found[f"routes of {vrf}"] = len(tables.rib.ribs[vrf])
        return +found

    def rows(self, topic: Any, owner: str, table: str = "") -> int:
        return len(self.hub.bus.rows(topic, table).get(owner, {}))


async def until(holds: Callable[[], Any], seconds: float) -> None:
    begun = VirtualClock().now()
    while not holds():
        assert VirtualClock().now() - begun < seconds, "it does not happen"
        await asyncio.sleep(0.5)


async def come_and_go(net: Net, empty: Counter[str], tasks: int) -> None:
    for n in range(1, SPOKES + 1):
        await net.start(f"spoke{n}", SPOKE.replace("{n}", str(n)))
    each = PREFIXES * len(VRFS)
    spokes = [net.routers[f"spoke{n}"] for n in range(1, SPOKES + 1)]

    def converged() -> bool:
        heard = all(("bgp" in _owners(spoke, vrf)) for spoke in spokes for vrf in VRFS)
        return heard and net.counts()["labels"] == empty["labels"] + SPOKES * each

    await until(converged, 120)
    full = net.counts()
    assert full["sessions"] == full["leases"] == full["bundles"] == full["IKE SAs"] == SPOKES
    assert net.rows(AccessWanted, "ikev2") == net.rows(OverlayState, "ikev2") == SPOKES
    for vrf in VRFS:
        assert full[f"routes of {vrf}"] - empty[f"routes of {vrf}"] == SPOKES * PREFIXES
        assert net.rows(RouteOffered, "bgp", vrf) == SPOKES * PREFIXES
    assert net.rows(LabelWanted, "bgp") - empty["LabelWanted of bgp"] == SPOKES * each
    for n in range(1, SPOKES + 1):
        await net.leave(f"spoke{n}", abruptly=n % 2 == 0)
    await until(lambda: net.counts() == empty, 300)
    assert len(asyncio.all_tasks()) == tasks


def _owners(router: Router, vrf: str) -> set[str]:
    """Of the best routes that lead out of a VRF by default."""
    rib = router.tables.rib.ribs.get(vrf, {})
    found = (entry.best() for prefix, entry in rib.items() if not prefix.length)
    return {best.owner for best in found if best is not None}


@pytest.mark.slow
def test_all_that_a_spoke_has_at_the_hub_goes_with_it() -> None:
    """Labels, security associations, leases, interfaces, routes, sessions, tasks: twice, since what was left over the first
    time may be used the second."""

    async def whole() -> None:
        net = Net()
        net.wire()
        await net.start("hub", HUB)
        await asyncio.sleep(30)
        empty, tasks = net.counts(), len(asyncio.all_tasks())
        for _ in range(2):
            await come_and_go(net, empty, tasks)
        await net.hub.stop()
        net.world.close()

    run(whole())
