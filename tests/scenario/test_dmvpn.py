"""Plain DMVPN, without IPsec and without labels: registration, redirect, shortcut; BGP and static routes; servers that fail."""

from __future__ import annotations

import asyncio

import pytest

from nhrp.events import RedirectSent, ShortcutDown, ShortcutUp
from stack.addr import Prefix, parse_address
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
        await net.until(
            lambda: net.established("hub1") == {("default", "10.0.0.11"), ("default", "10.0.0.12")}, what="BGP"
        )
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
            await net.until(
                lambda: not net.cache("spoke1", "shortcut"), within=5, what="the shortcut goes with the route"
            )
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


# --- who may register -------------------------------------------------------------------------------------------------


def test_authentication() -> None:
    """spoke2 has another password: it is not registered, both sides say why; then it is given the right one, live."""

    async def story(net: Cloud) -> None:
        await net.registered("spoke1")
        await asyncio.sleep(5)
        assert not any(net.servers("spoke2").values())
        (row,) = net.show("spoke2", "show ip nhrp nhs")
        assert row["reason"] == "authentication failure"
        assert net.counters("hub1")["refused: authentication failure"] >= 1
        assert set(net.cache("hub1", "dynamic")) == {"10.0.0.11/32"}
        right = net.texts["spoke2"].replace("authentication wrong", "authentication secret")
        net.apply("spoke2", right)
        await net.registered("spoke2", within=70)
        await shortcut(net)
        # The hub's changes live: those who have registered stay until their time is over, and register no more.
        net.apply("hub1", net.texts["hub1"].replace("authentication secret", "authentication other"))
        await net.until(lambda: not any(net.servers("spoke1").values()), within=60, what="spoke1 is refused")
        for name in ("spoke1", "spoke2"):
            net.apply(name, net.texts[name].replace("authentication secret", "authentication other"))
        await net.registered("spoke1", "spoke2", within=70)
        assert not [word for word in ("secret", "wrong", "other") if f"'{word}'" in str(net.logs)]

    def having(word: str) -> str:
        return f" ip nhrp authentication {word}\n"

    lines = NHS + SHORTCUT + " ip nhrp holdtime 60\n"
    play(
        story,
        hub(lines=REDIRECT + having("secret")),
        spoke(1, lines + having("secret")),
        spoke(2, lines + having("wrong")),
    )


@pytest.mark.parametrize("unique", [True, False], ids=["unique", "no-unique"])
def test_an_address_that_another_has_registered(unique: bool) -> None:
    """spoke2 has the overlay address of spoke1."""

    async def story(net: Cloud) -> None:
        await net.registered("spoke1")
        await net.start("spoke2", twin.text().replace("10.0.0.12", "10.0.0.11"))
        await asyncio.sleep(10)
        held = net.cache("hub1", "dynamic")["10.0.0.11/32"]
        assert ("unique" in held["flags"]) is unique
        assert held["nbma-address"] == ("198.51.1.1" if unique else "198.51.2.1")
        (row,) = net.show("spoke2", "show ip nhrp nhs")
        assert row["up"] is not unique
        assert row["reason"] == ("unique address already registered" if unique else "")
        # When its owner goes, it says so, and the other may have it.
        await net.routers.pop("spoke1").stop()
        await net.registered("spoke2", within=70)
        assert net.cache("hub1", "dynamic")["10.0.0.11/32"]["nbma-address"] == "198.51.2.1"

    lines = NHS + SHORTCUT + ("" if unique else " ip nhrp registration no-unique\n")
    twin = spoke(2, lines)

    async def prepared(net: Cloud) -> None:
        net.wire([twin])
        await story(net)

    play(prepared, hub(), spoke(1, lines))


def test_holding_times() -> None:
    """A registration lives for what the client says, is renewed in time, and ends with a client that has died."""

    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        for _ in range(10):
            await asyncio.sleep(10)
            left = {prefix: row["expires-seconds"] for prefix, row in net.cache("hub1", "dynamic").items()}
            assert 19 <= left["10.0.0.11/32"] <= 30
            assert 180 <= left["10.0.0.12/32"] <= 600
        await shortcut(net)
        await shortcut(net, "spoke2", "host2", "192.168.1.0/24")
        assert net.cache("spoke1")["192.168.2.0/24"]["expires-seconds"] <= 600
        assert net.cache("spoke2")["192.168.1.0/24"]["expires-seconds"] <= 30
        await net.kill("spoke1")
        await net.until(lambda: "10.0.0.11/32" not in net.cache("hub1"), within=31, what="the hub forgets")
        await net.until(lambda: "192.168.1.0/24" not in net.cache("spoke2"), within=31, what="spoke2 forgets")
        # Live: what is said from now on.
        net.apply("spoke2", net.texts["spoke2"].replace("holdtime 600", "holdtime 90"))
        await net.until(
            lambda: net.cache("hub1")["10.0.0.12/32"]["expires-seconds"] <= 90, within=5, what="told at once"
        )

    lines = NHS + SHORTCUT
    play(story, hub(), spoke(1, lines + " ip nhrp holdtime 30\n"), spoke(2, lines + " ip nhrp holdtime 600\n"))


# --- servers that fail --------------------------------------------------------------------------------------------------

HOLD = " ip nhrp holdtime 30\n"


def two_hubs(first: str, second: str) -> list[Node]:
    """Two hubs and two spokes, whose routes are BGP's, with whichever hub has them registered."""

    def more(number: int) -> str:
        text = SPOKE_BGP.format(number=number, more="  neighbor 10.0.0.1 allowas-in\n")
        lines = [line for line in text.splitlines(keepends=True) if "neighbor 10.0.0.1" in line]
        for line in lines:
            text = text.replace(line, line + line.replace("10.0.0.1 ", "10.0.0.2 "))
        return text

    hubs = [
        Node(
            n,
            hub=True,
            lines=REDIRECT,
            more=HUB_BGP.format(more="").replace("router-id 10.0.0.1", f"router-id 10.0.0.{n}"),
        )
        for n in (1, 2)
    ]
    return [*hubs, *(spoke(n, two(first, second), more(n), way=WAN) for n in (1, 2))]


def two(first: str, second: str) -> str:
    return (
        f" ip nhrp nhs 10.0.0.1 nbma 198.51.101.1{first}\n ip nhrp nhs 10.0.0.2 nbma 198.51.102.1{second}\n"
        + SHORTCUT
        + HOLD
    )


def test_two_hubs_with_priorities() -> None:
    """The second is asked when the first is silent, and let go when it is back."""

    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        await asyncio.sleep(5)
        for name in ("spoke1", "spoke2"):
            assert net.servers(name) == {"198.51.101.1": True, "198.51.102.1": False}
        assert not net.cache("hub2", "dynamic")
        await net.connected("host1", HOST2)
        await net.kill("hub1")
        second = {"198.51.101.1": False, "198.51.102.1": True}
        await net.until(lambda: net.servers("spoke1") == second == net.servers("spoke2"), within=30, what="fail-over")
        await net.connected("host1", HOST2, within=40)
        await net.until(lambda: "192.168.2.0/24" in net.cache("spoke1", "shortcut"), within=5, what="by the second hub")
        await net.revive("hub1")
        first = {"198.51.101.1": True, "198.51.102.1": False}
        await net.until(lambda: net.servers("spoke1") == first == net.servers("spoke2"), within=70, what="and back")
        await net.until(lambda: not net.cache("hub2", "dynamic"), within=5, what="the second hears that it is over")
        await net.connected("host1", HOST2)

    play(story, *two_hubs(" priority 1", " priority 2"))


def test_two_clusters_are_served_each() -> None:
    async def story(net: Cloud) -> None:
        await net.until(lambda: net.servers("spoke1") == {"198.51.101.1": True, "198.51.102.1": True}, what="both")
        rows = {row["address"]: row for row in net.show("spoke1", "show ip nhrp nhs")}
        assert {address: row["cluster"] for address, row in rows.items()} == {"10.0.0.1": 1, "10.0.0.2": 2}
        await net.kill("hub1")
        await net.until(lambda: net.servers("spoke1") == {"198.51.101.1": False, "198.51.102.1": True}, within=30)
        await net.connected("host1", HOST2, within=60)

    play(story, *two_hubs(" priority 1 cluster 1", " priority 5 cluster 2"))


def test_a_server_that_says_itself_what_it_is_called() -> None:
    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        (row,) = net.show("spoke1", "show ip nhrp nhs")
        assert (row["address"], row["nbma-address"]) == ("10.0.0.1", "198.51.101.1")
        assert await net.reaches("host1", HOST2)
        await shortcut(net)

    lines = " ip nhrp nhs dynamic nbma 198.51.101.1\n" + SHORTCUT
    play(story, hub(), spoke(1, lines), spoke(2, lines))


@pytest.mark.parametrize("hard", [True, False], ids=["dies", "stops"])
def test_the_hub_is_away_and_comes_back(hard: bool) -> None:
    """Shortcuts that stand go on without it; who has registered does so again."""

    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        assert await net.reaches("host1", HOST2)
        await net.until(lambda: all(net.cache(f"spoke{n}", "shortcut") for n in (1, 2)), within=5)
        await (net.kill("hub1") if hard else net.routers.pop("hub1").stop())
        assert await net.reaches("host1", HOST2)
        await net.until(lambda: not any(net.servers("spoke1").values()), within=40, what="it is missed")
        assert any("nhs-down" in entry["event"] for entry in net.logs["spoke1"])
        await net.revive("hub1")
        await net.registered("spoke1", "spoke2", within=70)
        await net.connected("host1", HOST2)
        await net.until(lambda: "192.168.2.0/24" in net.cache("spoke1", "shortcut"), within=10, what="straight again")

    play(story, hub(), spoke(1, NHS + SHORTCUT + HOLD), spoke(2, NHS + SHORTCUT + HOLD))


def test_N09_clear_on_the_hub_and_on_spokes_costs_no_packet() -> None:
    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        await shortcut(net)
        heard = Recorder(net.routers["spoke1"].bus, (ShortcutDown,))
        net.show("hub1", "clear ip nhrp")
        await net.until(lambda: set(net.cache("hub1", "dynamic")) == {"10.0.0.11/32", "10.0.0.12/32"}, within=5)
        net.show("spoke2", "clear ip nhrp")
        await net.until(lambda: heard.facts(ShortcutDown), within=5, what="spoke1 hears it")
        assert await net.reaches("host1", HOST2)
        await asyncio.sleep(10)
        await shortcut(net)
        await net.routers.pop("spoke2").stop()
        await net.until(lambda: "192.168.2.0/24" not in net.cache("spoke1"), within=2, what="spoke1 hears of the end")
        await net.until(lambda: "10.0.0.12/32" not in net.cache("hub1"), within=2, what="so does the hub")

    play(story, hub(), spoke(1), spoke(2))


def test_what_belongs_to_a_spoke_that_is_away_never_leaves_in_clear() -> None:
    """The hub has a default route to the internet, and spoke2's prefix by a static route: while spoke2 is not registered its
    next hop is nowhere, although the default route would cover it."""

    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        assert await net.reaches("host1", HOST2)
        await net.routers.pop("spoke2").stop()
        await net.until(lambda: "10.0.0.12/32" not in net.cache("hub1"), within=5)
        for link in net.wan.values():
            link.frames.clear()
        for source in ("host1", "host101"):
            assert not await net.reaches(source, HOST2)
        bare = [
            frame.octets
            for link in net.wan.values()
            for frame in link.frames
            if frame.octets[12:14] == b"\x08\0" and frame.octets[30:34] == parse_address(HOST2)
        ]
        assert not bare

    play(story, hub(), spoke(1), spoke(2))
