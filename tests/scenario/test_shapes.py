"""Other shapes that an mGRE VPN is built in: a route reflector between the PEs, customers on one trunk, static customer routes,
a hub VRF, one-way route targets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stack.lab.frames import look
from stack.testing import run
from tests.scenario.beds import MPLS, octets
from tests.scenario.memory import Net
from tests.scenario.test_mgre import Star, endpoints, pe

REFLECTOR = """hostname pe3
!
interface Loopback0
 ip address 192.0.2.3 255.255.255.255
!
interface Ethernet0/0
 ip address 198.51.3.1 255.255.255.0
!
router bgp 65000
 bgp router-id 192.0.2.3
{peers} address-family vpnv4
{clients} exit-address-family
 address-family vpnv6
{clients} exit-address-family
!
ip route 192.0.0.0 255.255.0.0 198.51.3.2
!
end
""".format(
    peers="".join(
        f" neighbor 192.0.2.{n} {line}\n"
        for n in (1, 2)
        for line in ("remote-as 65000", "update-source Loopback0", "timers 3 9")
    ),
    clients="".join(
        f"  neighbor 192.0.2.{n} {line}\n"
        for n in (1, 2)
        for line in ("activate", "send-community both", "route-reflector-client")
    ),
)


def test_rfc4456_a_route_reflector_without_vrfs_between_the_pes() -> None:
    """It is in no packet's way: next hops stay the PEs', and it is no endpoint of anybody's tunnel."""

    async def main() -> None:
        star = Star(pes=3)
        await star.net.start("pe3", REFLECTOR)
        await star.pair(pe(1, "192.0.2.3"), pe(2, "192.0.2.3"))
        assert set(endpoints(star.net)) == {"192.0.2.2"}
        assert set(endpoints(star.net, "pe2")) == {"192.0.2.1"}
        assert [f for f in star.seen(3) if f.gre == MPLS] == []
        # The reflector dies: with its session go the routes, and with them the endpoints.
        await star.net.routers.pop("pe3").stop()
        await asyncio.sleep(2)
        assert endpoints(star.net) == {}
        await star.net.start("pe3", REFLECTOR)
        await star.both_ways()
        await star.stop()

    run(main())


def trunk_text() -> str:
    """pe1 with both customers on one trunk, with the very same addresses."""
    red = pe(1, "192.0.2.2").replace("interface Ethernet0/1\n", "interface Ethernet0/1.10\n encapsulation dot1Q 10\n")
    blue = """vrf definition Blue
 rd 65000:21
 route-target both 65000:200
 address-family ipv4
 exit-address-family
 address-family ipv6
 exit-address-family
!
interface Ethernet0/1
!
interface Ethernet0/1.20
 encapsulation dot1Q 20
 vrf forwarding Blue
 ip address 10.1.1.1 255.255.255.0
 ipv6 address 2001:db8:1::1/64
!
"""
    return red.replace("vrf definition Red", blue + "vrf definition Red")


def test_two_customers_on_one_trunk_never_hear_each_other() -> None:
    """Two VRFs, one cable, the same addresses: only the tag tells them apart (and a tag lost would be a leak)."""

    async def main() -> None:
        net = Net()
        core = net.world.node("core", forwarding=True)
        for n in (1, 2):
            net.link(f"pe{n} Ethernet0/0", f"core eth{n}")
            core.address(f"eth{n}", f"198.51.{n}.2/24")
            core.route(f"192.0.2.{n}/32", f"198.51.{n}.1")
        trunk = net.world.link(("pe1", "e0-1"), ("red1", "eth0"), ("blue1", "eth0"))
        net.devices["pe1"]["Ethernet0/1"] = "e0-1"
        for name, vlan in (("red1", 10), ("blue1", 20)):
            node = net.world.node(name)
            device = node.vlan("eth0", vlan)
            node.address(device, "10.1.1.10/24", "2001:db8:1::10/64")
            node.route("0.0.0.0/0", "10.1.1.1")
            node.route("::/0", "2001:db8:1::1")
        net.link("pe2 Ethernet0/1", "red2 eth0")
        net.host("red2", ["10.1.2.10/24", "2001:db8:2::10/64"], "10.1.2.1", "2001:db8:2::1")
        await net.start("pe1", trunk_text())
        await net.start("pe2", pe(2, "192.0.2.1"))
        for destination in ("10.1.2.10", "2001:db8:2::10"):
            await net.connected("red1", destination)
            assert (await net.ping("blue1", destination)).reason == "network unreachable"
        for gateway in ("10.1.1.1", "2001:db8:1::1"):
            assert await net.reaches("red1", gateway)
            assert await net.reaches("blue1", gateway)
        trunk.frames.clear()
        assert await net.reaches("red1", "10.1.2.10", size=310)
        assert await net.reaches("red2", "10.1.1.10", size=310)
        tags = {int.from_bytes(f.octets[14:16]) & 0xFFF for f in trunk.frames if look(f.octets).echo == 310}
        assert tags == {10}
        await net.stop()

    run(main())


@pytest.mark.parametrize("mode", ["per-prefix", "per-vrf"])
def test_static_routes_of_a_customer_cross_the_vpn(mode: str) -> None:
    """Per prefix the label leads straight to the customer's router, per VRF there is a look-up; both arrive."""

    async def main() -> None:
        star = Star()
        lines = f"mpls label mode all-vrfs protocol bgp-vpnv4 {mode}\nmpls label mode all-vrfs protocol bgp-vpnv6 {mode}\n!\n"
        static = (
            "ip route vrf Red 10.50.0.0 255.255.0.0 10.1.1.10\nipv6 route vrf Red 2001:db8:50::/48 2001:db8:1::10\n!\n"
        )
        one = pe(1, "192.0.2.2", more=lines + static).replace(
            "  redistribute connected\n", "  redistribute connected\n  redistribute static\n"
        )
        behind = star.net.world.node("red1", forwarding=True)
        behind.address("lo", "10.50.9.9/32", "2001:db8:50::9/128")
        await star.pair(one, pe(2, "192.0.2.1"))
        for address in ("10.50.9.9", "2001:db8:50::9"):
            await star.net.connected("red2", address)
        rows = star.net.show("pe1", "show mpls forwarding-table")
        operations = {row["operation"] for row in rows}
        assert operations == ({"pop-lookup", "pop-forward"} if mode == "per-prefix" else {"pop-lookup"})
        assert (await star.net.ping("red2", "10.51.0.1")).reason == "network unreachable"
        await star.stop()

    run(main())


def test_rfc4364_4_3_5_hub_and_spoke_by_route_targets() -> None:
    """Sites that import only what the hub exports do not see each other's routes, although they are in one VPN; the hub sees
    both. One-way targets still make the far PE known, in both directions."""

    async def main() -> None:
        star = Star(pes=3)

        def site(n: int, *, hub: bool) -> str:
            export, imports = ("65000:1", "65000:2") if hub else ("65000:2", "65000:1")
            peers = [f"192.0.2.{m}" for m in (1, 2, 3) if m != n]
            return pe(n, *peers).replace(
                " route-target both 65000:100\n", f" route-target export {export}\n route-target import {imports}\n"
            )

        for n in (1, 2, 3):
            await star.net.start(f"pe{n}", site(n, hub=n == 3))
        for n in (1, 2):
            await star.net.connected(f"red{n}", "10.1.3.10")
            await star.net.connected(f"red{n}", "2001:db8:3::10")
        assert (await star.net.ping("red1", "10.1.2.10")).reason == "network unreachable"
        assert set(endpoints(star.net)) == {"192.0.2.2", "192.0.2.3"}
        adjacent: list[dict[str, Any]] = star.net.show("pe1", "show adjacency tunnel 0")
        assert {row["destination"] for row in adjacent if row["complete"]} == {"192.0.2.2", "192.0.2.3"}
        # The targets are changed while it runs: now they do.
        for n in (1, 2):
            peers = [f"192.0.2.{m}" for m in (1, 2, 3) if m != n]
            text = pe(n, *peers).replace(" both 65000:100", " both 65000:2\n route-target import 65000:1")
            star.net.apply(f"pe{n}", text)
        await star.net.connected("red1", "10.1.2.10")
        await star.net.connected("red1", "10.1.3.10")
        await star.stop()

    run(main())


def test_a_remote_pe_that_moves_to_another_transport_address() -> None:
    """The route's next hop changes under way: the packets follow it, the old endpoint goes."""

    async def main() -> None:
        star = Star()
        loopback = "interface Loopback1\n ip address 192.0.22.2 255.255.255.255\n!\n"
        first = pe(2, "192.0.2.1", more=loopback)
        second = first.replace("transport ipv4 source Loopback0", "transport ipv4 source Loopback1").replace(
            " bgp router-id", " bgp next-hop Loopback1\n bgp router-id"
        )
        await star.pair(pe(1, "192.0.2.2"), first)
        assert set(endpoints(star.net)) == {"192.0.2.2"}
        star.net.apply("pe2", second)
        await asyncio.sleep(2)
        assert set(endpoints(star.net)) == {"192.0.22.2"}
        star.forget()
        await star.both_ways()
        assert {f.outer for f in star.seen() if f.gre == MPLS} == {
            (octets("192.0.2.1"), octets("192.0.22.2")),
            (octets("192.0.22.2"), octets("192.0.2.1")),
        }
        await star.stop()

    run(main())
