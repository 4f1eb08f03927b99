"""BGP over a GRE tunnel, and labelled VPN traffic over that same tunnel; the tunnel is cut, and the hold timer ends it.

    red1 - pe1 ---- core (IP only) ---- pe2 - red2
             \\===== Tunnel0, key 5 =====/

The session's TCP runs over the tunnel: through the host port into the forwarder, GRE, and back. No stream ever takes a
short cut, so a tunnel that loses its packets loses the session.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bgp.events import PeerDown, PeerUp
from stack.lab.scenario import PlainRouter
from stack.testing import run
from tests.scenario.beds import BOTH, MPLS, described, established, forward, octets, ping, play, reaches, seen, until
from tests.scenario.memory import Net

FAMILIES = ("vpnv4", "vpnv6")


def text(number: int) -> str:
    other = 3 - number
    neighbour = f" neighbor 10.255.0.{other} "
    families = "".join(
        f" address-family {family}\n {neighbour}activate\n {neighbour}send-community both\n exit-address-family\n"
        for family in FAMILIES
    )
    return f"""hostname pe{number}
!
vrf definition Red
 rd 65000:{number}
 route-target both 65000:100
 address-family ipv4
 exit-address-family
 address-family ipv6
 exit-address-family
!
interface Loopback0
 ip address 192.0.2.{number} 255.255.255.255
!
interface Ethernet0/0
 ip address 198.51.{number}.1 255.255.255.0
!
interface Ethernet0/1
 vrf forwarding Red
 ip address 10.1.{number}.1 255.255.255.0
 ipv6 address 2001:db8:{number}::1/64
!
interface Tunnel0
 ip address 10.255.0.{number} 255.255.255.252
 tunnel source Loopback0
 tunnel destination 192.0.2.{other}
 tunnel key 5
 mpls bgp forwarding
!
router bgp 65000
 bgp router-id 192.0.2.{number}
{neighbour}remote-as 65000
{neighbour}update-source Tunnel0
{neighbour}timers 1 3
{families} address-family ipv4 vrf Red
  redistribute connected
 exit-address-family
 address-family ipv6 vrf Red
  redistribute connected
 exit-address-family
!
ip route 192.0.2.{other} 255.255.255.255 198.51.{number}.2
!
end
"""


SCENARIO = described(
    {"pe1": text(1), "pe2": text(2)},
    {
        "core1": ("pe1 Ethernet0/0", "core eth1"),
        "core2": ("pe2 Ethernet0/0", "core eth2"),
        "red1": ("pe1 Ethernet0/1", "red1 eth0"),
        "red2": ("pe2 Ethernet0/1", "red2 eth0"),
    },
    {f"red{n}": [f"10.1.{n}.10/24", f"2001:db8:{n}::10/64", f"10.1.{n}.1", f"2001:db8:{n}::1"] for n in (1, 2)},
    {
        "core": PlainRouter(
            {"eth1": ["198.51.1.2/24"], "eth2": ["198.51.2.2/24"]},
            {"192.0.2.1/32": "198.51.1.1", "192.0.2.2/32": "198.51.2.1"},
        )
    },
)

UNDERLAY = {octets("192.0.2.1"), octets("192.0.2.2")}
OVERLAY = {octets("10.255.0.1"), octets("10.255.0.2")}


async def neighbour(bed: Any, node: str) -> dict[str, Any]:
    (row,) = await bed.show(node, "show ip bgp neighbors")
    return dict(row)


async def up_and_working(bed: Any) -> None:
    await established(bed, "pe1", 1)
    await reaches(bed, "red1", "10.1.2.10", size=101)
    await reaches(bed, "red1", "2001:db8:2::10", size=101)
    await reaches(bed, "red2", "10.1.1.10", size=101)


async def story(bed: Any) -> None:
    forward(bed, "core")
    await up_and_working(bed)
    crossed = seen(bed, "core1")
    # Everything between the PEs rides in GRE with the key: BGP's TCP (IP inside), and the VPN under one label alone, as
    # the far end of the tunnel is the BGP next hop (implicit null, RFC 3032 2.1).
    tcp = [f for f in crossed if f.gre == 0x0800]
    vpn = [f for f in crossed if f.gre == MPLS]
    assert tcp
    assert {f.key for f in (*tcp, *vpn)} == {5}
    assert {frozenset(f.inner) for f in tcp} == {frozenset(OVERLAY)}
    assert {frozenset(f.outer) for f in (*tcp, *vpn)} == {frozenset(UNDERLAY)}
    assert {len(f.labels) for f in vpn} == {1}
    assert {f.echo for f in vpn} == {101}
    assert not [f for f in crossed if f.protocol == 6], "TCP outside the tunnel"

    await bed.pause(5)
    assert (await neighbour(bed, "pe1"))["established-transitions"] == 1, (
        "longer than the hold time, and nothing happened"
    )
    forward(bed, "core", on=False)
    assert (await ping(bed, "red1", "10.1.2.10")).kind == "timeout"
    assert (await neighbour(bed, "pe1"))["session-state"] == "ESTABLISHED", "the loss itself ends nothing"
    started = bed.now()
    row = await until(bed, lambda: _down(bed), within=15)
    # RFC 4271 6.5: NOTIFICATION "Hold Timer Expired". The last keepalive came up to a second before the cut.
    assert 1 <= bed.now() - started <= 4.5
    assert "hold timer expired" in row["last-end"].lower()
    assert "unreachable" in (await ping(bed, "red1", "10.1.2.10")).kind

    forward(bed, "core")
    await up_and_working(bed)
    assert (await neighbour(bed, "pe1"))["established-transitions"] == 2


async def _down(bed: Any) -> dict[str, Any] | None:
    row = await neighbour(bed, "pe1")
    return row if row["session-state"] != "ESTABLISHED" else None


@BOTH
def test_rfc4271_6_5_bgp_over_a_tunnel_that_is_cut(backend: str) -> None:
    play(backend, SCENARIO, story)


def test_rfc4271_6_5_what_the_bus_says_of_it() -> None:
    async def tell(bed: Any) -> None:
        facts: list[Any] = []

        async def listen() -> None:
            async for message in bed.routers["pe1"].bus.subscribe(PeerUp, PeerDown, name="test"):
                facts.append(message)

        ear = asyncio.ensure_future(listen())
        await up_and_working(bed)
        forward(bed, "core", on=False)
        await until(bed, lambda: _down(bed), within=15)
        forward(bed, "core")
        await up_and_working(bed)
        ear.cancel()
        assert [type(fact) for fact in facts] == [PeerUp, PeerDown, PeerUp]
        assert (facts[1].address, facts[1].reason) == (octets("10.255.0.2"), "hold time expired")

    play("memory", SCENARIO, tell)


# --- T04: a route that would lead the tunnel into itself --------------------------------------------------------------


async def pair(net: Net, one: str, other: str) -> None:
    """pe1 and pe2 with a core between them, and these configurations."""
    net.link("pe1 Ethernet0/0", "core eth1")
    net.link("pe2 Ethernet0/0", "core eth2")
    core = net.world.node("core", forwarding=True)
    for n in (1, 2):
        core.address(f"eth{n}", f"198.51.{n}.2/24")
        core.route(f"192.0.2.{n}/32", f"198.51.{n}.1")
        net.link(f"pe{n} Ethernet0/1", f"red{n} eth0")
        net.host(f"red{n}", [f"10.1.{n}.10/24"], f"10.1.{n}.1")
    await net.start("pe1", one)
    await net.start("pe2", other)
    await net.connected("red1", "10.1.2.10")


WIDE = text(1).replace("ip route 192.0.2.2 255.255.255.255", "ip route 192.0.2.0 255.255.255.0")
"""pe1 reaches the tunnel's far end by a route that a more specific one can take the place of."""

BY_BGP = text(2).replace(
    " address-family vpnv4\n",
    " address-family ipv4\n  network 192.0.2.2 mask 255.255.255.255\n exit-address-family\n address-family vpnv4\n",
    1,
)


async def settled(net: Net, seconds: float = 30) -> list[Any]:
    """Pings all along; none may be lost, the session and the tunnel stay."""
    loop = asyncio.get_running_loop()
    end, answers = loop.time() + seconds, []
    while loop.time() < end:
        answers.append(await net.ping("red1", "10.1.2.10"))
        await asyncio.sleep(0.2)
    return [answer for answer in answers if not answer.ok]


def test_T04_rfc2784_3_the_tunnel_destination_learnt_through_the_tunnel() -> None:
    """By BGP over the tunnel itself: refused, said once, and nothing else happens (Cisco: %TUN-5-RECURDOWN)."""

    async def main() -> None:
        net = Net()
        await pair(net, WIDE, BY_BGP)
        before = net.established("pe1")
        assert await settled(net) == []
        assert "192.0.2.2/32" in net.text("pe1", "show ip bgp"), "the route was never there, so this proves nothing"
        assert net.established("pe1") == before == {("default", "10.255.0.2")}
        (line,) = net.logged("pe1", "routing recursion")
        assert (line["prefix"], line["owner"]) == ("192.0.2.2/32", "bgp")
        # The way to the far end is still the static route.
        assert "198.51.1.2" in net.text("pe1", "show ip cef 192.0.2.2")
        assert net.show("pe1", "show interfaces Tunnel0")
        await net.stop()

    run(main())


def test_T04_rfc2784_3_a_static_route_into_the_tunnel_and_out_of_it_again() -> None:
    """The tunnel never goes down, and when the route is gone it can be told again."""

    async def main() -> None:
        net = Net()
        await pair(net, WIDE, text(2))
        into = WIDE.replace("!\nend", "ip route 192.0.2.2 255.255.255.255 Tunnel0\n!\nend")
        net.apply("pe1", into)
        assert await settled(net) == []
        assert len(net.logged("pe1", "routing recursion")) == 1
        net.apply("pe1", WIDE)
        assert await settled(net, 2) == []
        net.apply("pe1", into)
        assert await settled(net) == []
        assert len(net.logged("pe1", "routing recursion")) == 2
        await net.stop()

    run(main())


def test_T04_rfc2784_3_a_tunnel_whose_only_way_leads_into_itself_comes_up_when_it_has_another() -> None:
    async def main() -> None:
        net = Net()
        only = text(1).replace("192.0.2.2 255.255.255.255 198.51.1.2", "192.0.2.2 255.255.255.255 Tunnel0")
        net.link("pe1 Ethernet0/0", "core eth1")
        net.link("pe1 Ethernet0/1", "red1 eth0")
        await net.start("pe1", only)
        await asyncio.sleep(10)
        (row,) = [row for row in net.show("pe1", "show interfaces") if row["name"] == "Tunnel0"]
        assert not row["up"]
        assert row["reason"] == "recursive routing: the tunnel's destination is reached through the tunnel itself"
        assert [entry["tunnel"] for entry in net.logged("pe1", "recursive routing")] == ["Tunnel0"]
        net.apply("pe1", text(1))
        await asyncio.sleep(1)
        (row,) = [row for row in net.show("pe1", "show interfaces") if row["name"] == "Tunnel0"]
        assert row["up"]
        await net.stop()

    run(main())
