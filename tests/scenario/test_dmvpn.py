"""Plain DMVPN, without IPsec and without labels: registration, redirect, shortcut; BGP and static routes; servers that fail."""

from __future__ import annotations

import asyncio

import pytest

from nhrp.events import RedirectSent, ShortcutDown, ShortcutUp
from stack.addr import Prefix, parse_address
from stack.events import RouteOffered
from stack.testing import Recorder
from tests.scenario.dmvpn import Cloud, Node, play

SITE2 = Prefix.parse("192.168.2.0/24")
HOST2 = "192.168.2.10"
REDIRECT = " ip nhrp redirect\n"
SHORTCUT = " ip nhrp shortcut\n"
NHS = " ip nhrp nhs 10.0.0.1 nbma 198.51.101.1\n"
ROUTE = "ip route 192.168.0.0 255.255.0.0 10.0.0.1\n"
WAN = "198.51.0.0 255.255.0.0"
UNKEYED = " tunnel mode gre multipoint\n"


def hub(number: int = 1, spokes: int = 2, lines: str = REDIRECT, **named: str) -> Node:
    sites = "".join(f"ip route 192.168.{n}.0 255.255.255.0 10.0.0.1{n}\n" for n in range(1, spokes + 1))
    return Node(number, hub=True, lines=lines, more=sites, **named)


def spoke(number: int, lines: str = NHS + SHORTCUT, more: str = ROUTE, **named: str) -> Node:
    return Node(number, lines=lines, more=more, **named)


async def shortcut(net: Cloud, near: str = "spoke1", host: str = "host1", site: str = "192.168.2.0/24") -> None:
    await net.ping(host, site.replace(".0/24", ".10"))
    await net.until(lambda: site in net.cache(near, "shortcut"), within=5, what="a shortcut")


KEYS = pytest.mark.parametrize("tunnel", [UNKEYED, UNKEYED + " tunnel key 7\n"], ids=["no-key", "key"])


# --- the ways of routes -----------------------------------------------------------------------------------------------


@KEYS
def test_static_routes(tunnel: str) -> None:
    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        heard = {name: Recorder(router.bus, (ShortcutUp, RedirectSent)) for name, router in net.routers.items()}
        assert await net.reaches("host1", HOST2)
        await net.until(lambda: all(net.cache(f"spoke{n}", "shortcut") for n in (1, 2)), within=5)
        assert len(heard["hub1"].facts(RedirectSent)) == 2
        before = net.gre("hub1")
        for size in (56, 1400, 3000):
            assert await net.reaches("host1", HOST2, size=size)
        assert net.gre("hub1") == before
        (up,) = heard["spoke1"].facts(ShortcutUp)
        assert (up.vrf, up.prefix, up.next_hop) == ("", SITE2, parse_address("10.0.0.12"))
        # The hub's own site is not a shortcut: it is the next hop.
        assert await net.reaches("host1", "192.168.101.10")
        await asyncio.sleep(1)
        assert set(net.cache("spoke1", "shortcut")) == {"192.168.2.0/24"}
        route = net.text("spoke1", "show ip route")
        assert "H     192.168.2.0/24" in route or "H" in route

    play(story, hub(tunnel=tunnel), spoke(1, tunnel=tunnel), spoke(2, tunnel=tunnel))


HUB_BGP = """router bgp 10
 bgp router-id 10.0.0.1
 bgp listen range 10.0.0.0/24 peer-group spokes
 bgp listen limit 10
 neighbor spokes peer-group
 neighbor spokes remote-as 100
 neighbor spokes timers 2 6
 address-family ipv4
  redistribute connected
  neighbor spokes activate
  neighbor spokes next-hop-self
{more} exit-address-family
!
"""

SPOKE_BGP = """router bgp 100
 bgp router-id 10.0.0.1{number}
 neighbor 10.0.0.1 remote-as 10
 neighbor 10.0.0.1 timers 2 6
 address-family ipv4
  network 192.168.{number}.0 mask 255.255.255.0
  neighbor 10.0.0.1 activate
{more} exit-address-family
!
"""


@pytest.mark.parametrize("own", [True, False], ids=["own-prefixes", "default"])
def test_bgp_with_listen_range(own: bool) -> None:
    """The hub tells each spoke the other's prefix, or only a default route."""

    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        await net.until(lambda: net.established("hub1") == {("default", "10.0.0.11"), ("default", "10.0.0.12")}, what="BGP")
        await net.connected("host1", HOST2)
        await net.until(lambda: all(net.cache(f"spoke{n}", "shortcut") for n in (1, 2)), within=5, what="shortcuts")
        before = net.gre("hub1")
        assert await net.reaches("host1", HOST2)
        assert net.gre("hub1") == before
        (row,) = [row for row in net.show("spoke1", "show ip route") if row["prefix"] == "192.168.2.0/24"]
        assert row["selected"] == ("bgp" if own else "nhrp")
        # The far spoke goes: with its BGP session, or by the end of what it said.
        await net.kill("spoke2")
        await net.until(lambda: net.established("hub1") == {("default", "10.0.0.11")}, what="BGP notices")
        if own:
            await net.until(lambda: not net.cache("spoke1", "shortcut"), within=5, what="the shortcut goes with the route")
        await net.revive("spoke2")
        await net.connected("host1", HOST2, within=60)

    hub_bgp = HUB_BGP.format(more="" if own else "  neighbor spokes default-originate\n")
    if not own:
        hub_bgp = hub_bgp.replace("  redistribute connected\n", "")
    more = "  neighbor 10.0.0.1 allowas-in\n" if own else ""
    lines = NHS + SHORTCUT + " ip nhrp holdtime 60\n"
    play(
        story,
        Node(1, hub=True, lines=REDIRECT, more=hub_bgp),
        *(spoke(n, lines, SPOKE_BGP.format(number=n, more=more), way=WAN) for n in (1, 2)),
    )

