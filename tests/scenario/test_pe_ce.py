"""PE-CE eBGP in two VRFs whose customers use the very same addresses, over the host ports; and across the VPN.

    host - CE - PE1 ======== mGRE ======== PE2 - CE - host      once for Red, once for Blue, with the same numbers

The CEs are nodes of ours as well: plain `router bgp`, everything in the default VRF. "RD and route targets keep them
apart" (RFC 4364 4.1, 4.3.1): a packet of one customer must never be seen by the other.
"""

from __future__ import annotations

from typing import Any

import pytest

from stack.lab.scenario import Scenario
from tests.scenario.beds import BOTH, described, established, forward, ping, play, reaches, seen, sessions

SIZES = {"red": 101, "blue": 202}
"""Data octets of each customer's echoes: they tell whose they are, although the addresses are the same."""


def vrf_text(name: str, rd: str, target: str) -> str:
    families = "".join(f" address-family {afi}\n exit-address-family\n" for afi in ("ipv4", "ipv6"))
    return f"vrf definition {name}\n rd {rd}\n route-target both {target}\n{families}!\n"


def attachment(number: int, vrf: str, addresses: tuple[str, str]) -> str:
    return (
        f"interface Ethernet0/{number}\n vrf forwarding {vrf}\n ip address {addresses[0]} 255.255.255.252\n"
        f" ipv6 address {addresses[1]}/64\n!\n"
    )


def neighbours(vrf: str, addresses: tuple[str, str], asn: int) -> str:
    return "".join(
        f" address-family {afi} vrf {vrf}\n  neighbor {address} remote-as {asn}\n  neighbor {address} activate\n"
        " exit-address-family\n"
        for afi, address in zip(("ipv4", "ipv6"), addresses, strict=True)
    )


def ends(site: int, *, swapped: bool) -> tuple[tuple[str, str], tuple[str, str]]:
    """(the PE's addresses, the CE's)."""
    pe = (f"10.0.{site}.1", f"2001:db8:ce{site}::1")
    ce = (f"10.0.{site}.2", f"2001:db8:ce{site}::2")
    return (ce, pe) if swapped else (pe, ce)


def pe_text(site: int, *, swapped: bool) -> str:
    other = 3 - site
    red, blue = ends(site, swapped=False), ends(site, swapped=swapped)
    core = f" neighbor 192.0.2.{other} "
    families = "".join(
        f" address-family {family}\n {core}activate\n {core}send-community both\n {core}route-map L3VPN-core in\n"
        " exit-address-family\n"
        for family in ("vpnv4", "vpnv6")
    )
    return (
        f"hostname pe{site}\n!\n"
        + vrf_text("Red", f"65000:1{site}", "65000:100")
        + vrf_text("Blue", f"65000:2{site}", "65000:200")
        + "l3vpn encapsulation ip core\n transport ipv4 source Loopback0\n protocol gre key 77\n!\n"
        f"interface Loopback0\n ip address 192.0.2.{site} 255.255.255.255\n!\n"
        f"interface Ethernet0/0\n ip address 198.51.100.{site} 255.255.255.0\n!\n"
        + attachment(1, "Red", red[0])
        + attachment(2, "Blue", blue[0])
        + f"router bgp 65000\n bgp router-id 192.0.2.{site}\n"
        f"{core}remote-as 65000\n{core}update-source Loopback0\n"
        + families
        + neighbours("Red", red[1], 65100 + site)
        + neighbours("Blue", blue[1], 65100 + site)
        + f"!\nip route 192.0.2.{other} 255.255.255.255 198.51.100.{other}\n!\nend\n"
    )


def ce_text(name: str, site: int, *, swapped: bool) -> str:
    pe, ce = ends(site, swapped=swapped)
    return f"""hostname {name}
!
interface Ethernet0/0
 ip address {ce[0]} 255.255.255.252
 ipv6 address {ce[1]}/64
!
interface Ethernet0/1
 ip address 172.16.{site}.1 255.255.255.0
 ipv6 address 2001:db8:a{site}::1/64
!
router bgp {65100 + site}
 bgp router-id 10.0.{site}.2
 neighbor {pe[0]} remote-as 65000
 neighbor {pe[1]} remote-as 65000
 address-family ipv4
  neighbor {pe[0]} activate
  network 172.16.{site}.0 mask 255.255.255.0
 exit-address-family
 address-family ipv6
  neighbor {pe[1]} activate
  network 2001:db8:a{site}::/64
 exit-address-family
!
end
"""


def scenario(*, swapped: bool) -> Scenario:
    """`swapped`: Blue's PE has the addresses of Red's CE, and the other way round: the worst overlap there is."""
    nodes = {f"pe{site}": pe_text(site, swapped=swapped) for site in (1, 2)}
    links = {"core": ("pe1 Ethernet0/0", "pe2 Ethernet0/0")}
    hosts = {}
    for number, customer in ((1, "red"), (2, "blue")):
        for site in (1, 2):
            ce, host = f"ce-{customer}{site}", f"{customer}{site}"
            nodes[ce] = ce_text(ce, site, swapped=swapped and customer == "blue")
            links[ce] = (f"pe{site} Ethernet0/{number}", f"{ce} Ethernet0/0")
            links[host] = (f"{ce} Ethernet0/1", f"{host} eth0")
            hosts[host] = [
                f"172.16.{site}.10/24",
                f"2001:db8:a{site}::10/64",
                f"172.16.{site}.1",
                f"2001:db8:a{site}::1",
            ]
    return described(nodes, links, hosts)


async def story(bed: Any) -> None:
    forward(bed, *(name for name in bed.conduct.scenario.node if name.startswith("ce-")))
    for site in (1, 2):
        await established(bed, f"pe{site}", 5)
    assert {vrf for vrf, _ in await sessions(bed, "pe1")} == {"default", "Red", "Blue"}
    for customer, size in SIZES.items():
        for here, there in ((1, 2), (2, 1)):
            await reaches(bed, f"{customer}{here}", f"172.16.{there}.10", size=size)
            await reaches(bed, f"{customer}{here}", f"2001:db8:a{there}::10", size=size)
    # Each CE has learnt the other's prefix from its PE, and each PE both in either VRF.
    for customer in SIZES:
        routes = str(await bed.show(f"ce-{customer}1", "show ip route"))
        assert "172.16.2.0/24" in routes
        assert "2001:db8:a2::/64" in str(await bed.show(f"ce-{customer}1", "show ipv6 route"))
    for link in bed.conduct.scenario.link:
        echoes = {frame.echo for frame in seen(bed, link) if frame.echo in SIZES.values()}
        owner = next((size for customer, size in SIZES.items() if customer in link), None)
        assert echoes == (set(SIZES.values()) if owner is None else {owner}), link


@pytest.mark.parametrize("swapped", [False, True], ids=["same addresses", "addresses swapped"])
@BOTH
def test_two_vrfs_with_the_same_customer(backend: str, swapped: bool) -> None:
    play(backend, scenario(swapped=swapped), story)


def test_rfc4364_7_a_customer_that_goes_takes_only_its_own_routes_with_it() -> None:
    async def tell(bed: Any) -> None:
        await story(bed)
        await bed.kill("ce-red2")
        await bed.pause(2)
        assert {vrf for vrf, _ in await sessions(bed, "pe2")} == {"default", "Blue"}
        for destination in ("172.16.2.10", "2001:db8:a2::10"):
            answer = await ping(bed, "red1", destination, size=SIZES["red"])
            assert answer.kind in ("network-unreachable", "unreachable")
            assert (await ping(bed, "blue1", destination, size=SIZES["blue"])).ok
        await bed.revive("ce-red2")
        forward(bed, "ce-red2")
        await reaches(bed, "red1", "172.16.2.10", size=SIZES["red"], within=60)

    play("memory", scenario(swapped=False), tell)
