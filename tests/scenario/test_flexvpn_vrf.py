"""Tunnels in VRFs, without labels: the tunnel interface itself in a customer's VRF (IVRF), and its own packets in another
(`tunnel vrf`). The document's four operations: a request after a look-up in that VRF, its forwarding on the hub, the H route or
NHO there, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from nhrp.events import RedirectSent, ShortcutUp
from stack.addr import Prefix
from stack.events import RouteOffered
from stack.testing import Recorder
from tests.scenario.beds import until
from tests.scenario.dmvpn import Cloud, Node, play
from tests.scenario.test_flexvpn_steps import HOST_B as HOST2B
from tests.scenario.test_flexvpn_steps import Bed, one_way, shortcut
from tests.scenario.test_flexvpn_steps import play as flexvpn

SITE1, SITE2 = Prefix.parse("192.168.1.0/24"), Prefix.parse("192.168.2.0/24")
HOST2 = "192.168.2.10"
REDIRECT = " ip nhrp redirect\n"
SHORTCUT = " ip nhrp shortcut\n"
NHS = " ip nhrp nhs 10.0.0.1 nbma 198.51.101.1\n"
HOLD = " ip nhrp holdtime 30\n"


def hub(number: int = 1, spokes: int = 2, **named: str) -> Node:
    sites = "".join(f"ip route vrf blue 192.168.{n}.0 255.255.255.0 10.0.0.1{n}\n" for n in range(1, spokes + 1))
    return Node(number, hub=True, lines=named.pop("lines", REDIRECT), more=sites, vrf="blue", **named)


def spoke(number: int, wide: bool = True, lines: str = NHS + SHORTCUT + HOLD, **named: str) -> Node:
    nets = ["192.168.0.0 255.255.0.0"] if wide else [f"192.168.{n}.0 255.255.255.0" for n in (1, 2, 101) if n != number]
    routes = "".join(f"ip route vrf blue {net} 10.0.0.1\n" for net in nets)
    return Node(number, lines=lines, more=routes, vrf="blue", **named)


async def both_straight(net: Cloud) -> None:
    await net.until(lambda: all(net.cache(f"spoke{n}", "shortcut") for n in (1, 2)), within=5, what="shortcuts")
    before = net.gre("hub1")
    for size in (56, 1400, 3000):
        assert await net.reaches("host1", HOST2, size=size)
    assert net.gre("hub1") == before


@pytest.mark.parametrize("wide", [True, False], ids=["h-route", "nho"])
def test_the_four_operations_in_the_vrf_of_the_tunnel(wide: bool) -> None:
    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        assert {row["vrf"] for row in net.cache("hub1", "dynamic").values()} == {"blue"}
        heard = {name: Recorder(router.bus, (ShortcutUp, RedirectSent)) for name, router in net.routers.items()}
        assert await net.reaches("host1", HOST2)
        await both_straight(net)
        assert {fact.vrf for fact in heard["hub1"].facts(RedirectSent)} == {"blue"}
        (up,) = heard["spoke1"].facts(ShortcutUp)
        assert (up.vrf, up.prefix, up.label) == ("blue", SITE2, None)
        assert SITE2 in net.offered("spoke1", "blue")
        assert not net.offered("spoke1")
        text = net.text("spoke1", "show ip route vrf blue")
        mark = "H     192.168.2.0/24" if wide else "S   % 192.168.2.0/24"
        assert mark in text, text
        assert set(net.cache("spoke1", "vrf blue shortcut")) == {"192.168.2.0/24"}
        # Unused, it goes; packets go by the hub.
        await net.until(lambda: SITE2 not in net.offered("spoke1", "blue"), within=60, what="it ends")
        before = net.gre("hub1")
        assert await net.reaches("host1", HOST2)
        assert net.gre("hub1") > before

    play(story, hub(), spoke(1, wide), spoke(2, wide))


def test_it_ends_with_the_route_that_it_overrode_and_with_the_interface() -> None:
    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2")
        assert await net.reaches("host1", HOST2)
        await both_straight(net)
        whole = net.texts["spoke1"]
        net.apply("spoke1", whole.replace("ip route vrf blue 192.168.2.0 255.255.255.0 10.0.0.1\n", ""))
        await net.until(lambda: SITE2 not in net.offered("spoke1", "blue"), within=1, what="its route has gone")
        net.apply("spoke1", whole)
        await net.connected("host1", HOST2)
        await asyncio.sleep(9)
        assert await net.reaches("host1", HOST2)
        await both_straight(net)
        net.apply("spoke1", net.texts["spoke1"].replace(" tunnel source", " shutdown\n tunnel source"))
        await net.until(lambda: not net.offered("spoke1", "blue"), within=1, what="its interface has gone")
        assert not net.cache("spoke1", "shortcut")
        net.apply("spoke1", net.texts["spoke1"].replace(" shutdown\n tunnel source", " tunnel source"))
        await net.connected("host1", HOST2, within=70)

    play(story, hub(), spoke(1, wide=False), spoke(2, wide=False))


# --- two VRFs on one node -----------------------------------------------------------------------------------------------


def twice(text: str, network: str) -> str:
    """Everything of blue's once more, for red: Tunnel1 and Ethernet0/2, with the same addresses; `network` is Tunnel1's, and
    the key tells their packets apart."""
    parts = text.split("!\n")
    found = []
    for part in parts:
        found.append(part)
        if "forwarding blue" in part or "definition blue" in part:
            other = part.replace("blue", "red").replace("rd 1:1", "rd 2:2").replace("Tunnel0", "Tunnel1")
            other = other.replace("Ethernet0/1\n", "Ethernet0/2\n").replace("tunnel key 7", "tunnel key 8")
            found.append(other.replace("network-id 1\n", f"network-id {network}\n"))
    whole = "!\n".join(found)
    routes = [line for line in whole.splitlines(keepends=True) if line.startswith("ip route vrf blue")]
    return whole.removesuffix("end\n") + "".join(line.replace("blue", "red") for line in routes) + "end\n"


def wired(net: Cloud, nodes: list[Node]) -> None:
    """Red's hosts: the same addresses as blue's."""
    for node in nodes:
        net.link(f"{node.name} Ethernet0/2", f"red{node.net} eth0")
        net.host(f"red{node.net}", [f"192.168.{node.net}.10/24"], f"192.168.{node.net}.1")


def play_twice(story: Callable[[Cloud], Awaitable[None]], *nodes: Node, network: str = "2") -> None:
    async def prepared(net: Cloud) -> None:
        net.wire(nodes)
        wired(net, list(nodes))
        for node in nodes:
            await net.start(node.name, twice(node.text(), network))
        await story(net)

    play(prepared)


@pytest.mark.parametrize("network", ["2", "1"], ids=["two-networks", "one-network"])
def test_two_vrfs_with_the_same_addresses(network: str) -> None:
    """The same network id in two VRFs is two networks: an id joins interfaces of one VRF."""

    async def story(net: Cloud) -> None:
        await net.until(lambda: len(net.show("hub1", "show ip nhrp dynamic")) == 4, what="all registered")
        assert await net.reaches("host1", HOST2)
        await net.until(lambda: SITE2 in net.offered("spoke1", "blue"), within=5)
        await asyncio.sleep(1)
        assert not net.offered("spoke1", "red").get(SITE2)
        before = net.gre("hub1")
        assert await net.reaches("red1", HOST2)
        assert net.gre("hub1") > before
        await net.until(lambda: SITE2 in net.offered("spoke1", "red"), within=5)
        await net.until(lambda: SITE1 in net.offered("spoke2", "red"), within=5)
        (blue,) = net.offered("spoke1", "blue")[SITE2].vias
        (red,) = net.offered("spoke1", "red")[SITE2].vias
        assert (blue.interface, red.interface) == ("Tunnel0", "Tunnel1")
        before = net.gre("hub1")
        for host in ("host1", "red1"):
            assert await net.reaches(host, HOST2)
        assert net.gre("hub1") == before
        # Only red is forgotten, by its name.
        net.show("spoke2", "clear ip nhrp vrf red")
        await net.until(lambda: SITE2 not in net.offered("spoke1", "red"), within=3)
        assert SITE2 in net.offered("spoke1", "blue")
        # Who pings in one VRF is heard in that one: red's far host is cut off, blue's answers.
        net.apply(
            "spoke2", net.texts["spoke2"].replace("interface Ethernet0/2\n", "interface Ethernet0/2\n shutdown\n")
        )
        await asyncio.sleep(0.5)
        assert not await net.reaches("red1", HOST2)
        assert await net.reaches("host1", HOST2)

    play_twice(story, hub(), spoke(1), spoke(2), network=network)


# --- the tunnel's own packets in a VRF ------------------------------------------------------------------------------------

FRONT = "vrf definition INET\n rd 9:9\n address-family ipv4\n exit-address-family\n!\n"

CRYPTO = """crypto ikev2 keyring all
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
!
crypto ipsec profile default
 set ikev2-profile default
!
"""
PROTECTED = " tunnel mode gre multipoint\n tunnel key 7\n tunnel protection ipsec profile default\n"


def behind(node: Node, front: bool, protected: bool) -> Node:
    """`node` with its WAN in a VRF of its own, or protected."""
    if front:
        node.before, node.wan, node.way = FRONT, " vrf forwarding INET\n", "vrf INET 0.0.0.0 0.0.0.0"
    if protected:
        node.tunnel = PROTECTED
        crypto = CRYPTO.format(name=node.name)
        node.before += crypto.replace(" match identity", " match fvrf INET\n match identity") if front else crypto
    if front:
        node.tunnel += " tunnel vrf INET\n"
    return node


def bare(net: Cloud) -> int:
    """GRE in clear on the internet."""
    frames = [frame.octets for link in net.wan.values() for frame in link.frames]
    return sum(1 for octets in frames if octets[12:14] == b"\x08\0" and octets[23] == 47)


@pytest.mark.parametrize("protected", [False, True], ids=["clear", "ipsec"])
@pytest.mark.parametrize("inside", ["", "blue"], ids=["default", "ivrf"])
def test_front_door_vrf(protected: bool, inside: str) -> None:
    """The hub's and one spoke's own packets travel in a VRF, the other spoke's in the default one."""

    async def story(net: Cloud) -> None:
        await net.registered("spoke1", "spoke2", within=60)
        assert await net.reaches("host1", HOST2)
        await net.until(lambda: SITE2 in net.offered("spoke1", inside), within=10, what="a shortcut")
        await net.until(lambda: SITE1 in net.offered("spoke2", inside), within=10, what="the other")
        count = len(net.wan["hub1"].frames)
        for size in (56, 1400, 3000):
            assert await net.reaches("host1", HOST2, size=size)
        passed = [frame.octets for frame in list(net.wan["hub1"].frames)[count:]]
        assert not [octets for octets in passed if octets[23] in (47, 50)]
        if protected:
            assert not bare(net)
        # The overlay is not in the front-door VRF, nor its routes in the overlay.
        for name in ("hub1", "spoke1"):
            text = net.text(name, "show ip route vrf INET")
            assert "10.0.0." not in text
            assert "192.168." not in text

    nodes = [hub(), spoke(1), spoke(2)]
    for node in nodes:
        node.vrf = inside
        if not inside:
            node.more = node.more.replace("vrf blue ", "")
    play(
        story, behind(nodes[0], True, protected), behind(nodes[1], True, protected), behind(nodes[2], False, protected)
    )


# --- FlexVPN whose own packets travel in a VRF ------------------------------------------------------------------------------

INET = "vrf definition INET\n rd 99:99\n address-family ipv4\n exit-address-family\n!\n"


def fronted(nodes: tuple[str, ...]) -> dict[str, list[tuple[str, str]]]:
    """What changes in the lab's configurations if the internet of these nodes is in a VRF."""
    wan = [
        ("ip domain name cisco.com\n", INET + "ip domain name cisco.com\n"),
        ("interface Ethernet0/0\n", "interface Ethernet0/0\n vrf forwarding INET\n"),
        ("crypto ikev2 profile default\n", "crypto ikev2 profile default\n match fvrf INET\n"),
        (" tunnel protection ipsec", " tunnel vrf INET\n tunnel protection ipsec"),
    ]
    ways = {
        "hub": [("ip route 0.0.0.0", "ip route vrf INET 0.0.0.0")],
        "spoke1": [("ip route 172.16.", "ip route vrf INET 172.16.")],
        "spoke2": [("ip route 172.16.", "ip route vrf INET 172.16.")],
    }
    return {node: wan + ways[node] for node in nodes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flexvpn")


@pytest.mark.parametrize("nodes", [("hub", "spoke1", "spoke2"), ("spoke1",)], ids=["all", "one-spoke"])
@pytest.mark.parametrize("way", ["access", "mgre"])
def test_flexvpn_shortcut_with_a_front_door_vrf(way: str, nodes: tuple[str, ...], folder: Path) -> None:
    async def story(bed: Bed) -> None:
        await one_way(bed)
        fact = await shortcut(bed)
        assert (fact.vrf, str(fact.prefix)) == ("cust1", "192.168.114.0/24")
        await bed.cut("host1b", whole=True)
        for size in (56, 1400, 3000):
            (answer,) = await bed.ping("host1a", HOST2B, count=1, size=size, ttl=3)
            assert answer.ok, (size, answer)
        assert not bed.rows("spoke1", RouteOffered, "nhrp", "INET")
        # Unused, all of it goes.
        for spoke in ("spoke1", "spoke2"):
            await until(bed, lambda spoke=spoke: _no_shortcut(bed, spoke), within=40)

    flexvpn(folder, way, "printed", story, fronted(nodes))


async def _no_shortcut(bed: Bed, spoke: str) -> bool:
    sas = bed.routers[spoke].context.tables.sad.inbound.values()
    return not bed.rows(spoke, RouteOffered, "nhrp", "cust1") and len({sa.remote for sa in sas}) == 1
