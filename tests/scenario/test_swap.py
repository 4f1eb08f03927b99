"""Label swap end to end (RFC 4364 10 b): a node between two ASes that gives VPN routes on with itself as next hop; and the
hairpins that a hub reports, after an IP look-up and after a swap alike.

    reda - a (65001) ---- asbr (65000, no VRF at all) ---- b (65002) - redb
"""

from __future__ import annotations

import asyncio
from typing import Any

from attrs import evolve

from stack.config import Config
from stack.events import Hairpin, Ingress
from stack.lab.frames import look
from stack.testing import run
from tests.scenario.beds import BOTH, MPLS, described, octets, play, reaches, seen
from tests.scenario.memory import Net

VRF = """vrf definition Red
 rd 65000:{n}
 route-target both 65000:100
 address-family ipv4
 exit-address-family
 address-family ipv6
 exit-address-family
!
interface Ethernet0/1
 vrf forwarding Red
 ip address 10.1.{n}.1 255.255.255.0
 ipv6 address 2001:db8:{n}::1/64
!
"""

CONNECTED = """ address-family ipv4 vrf Red
  redistribute connected
 exit-address-family
 address-family ipv6 vrf Red
  redistribute connected
 exit-address-family
"""


def families(*neighbours: str) -> str:
    text = ""
    for family in ("vpnv4", "vpnv6"):
        text += f" address-family {family}\n"
        for address in neighbours:
            text += "".join(f"  neighbor {address} {line}\n" for line in ("activate", "send-community both"))
        text += " exit-address-family\n"
    return text


def edge(n: int) -> str:
    """PE n, in an AS of its own."""
    return f"""hostname pe{n}
!
{VRF.format(n=n)}interface Ethernet0/0
 ip address 198.51.{n}.1 255.255.255.252
 mpls bgp forwarding
!
router bgp {65000 + n}
 bgp router-id 192.0.2.{n}
 neighbor 198.51.{n}.2 remote-as 65000
{families(f"198.51.{n}.2")}{CONNECTED}!
end
"""


ASBR = f"""hostname asbr
!
interface Ethernet0/1
 ip address 198.51.1.2 255.255.255.252
 mpls bgp forwarding
!
interface Ethernet0/2
 ip address 198.51.2.2 255.255.255.252
 mpls bgp forwarding
!
router bgp 65000
 bgp router-id 192.0.2.99
 neighbor 198.51.1.1 remote-as 65001
 neighbor 198.51.2.1 remote-as 65002
{families("198.51.1.1", "198.51.2.1")}!
end
"""


def customers(net: Net) -> None:
    for n in (1, 2):
        net.link(f"pe{n} Ethernet0/1", f"red{n} eth0")
        net.host(f"red{n}", [f"10.1.{n}.10/24", f"2001:db8:{n}::10/64"], f"10.1.{n}.1", f"2001:db8:{n}::1")


async def three_in_a_row() -> tuple[Net, list[Any]]:
    net = Net()
    links = [net.link(f"pe{n} Ethernet0/0", f"asbr Ethernet0/{n}") for n in (1, 2)]
    customers(net)
    await net.start("asbr", ASBR)
    for n in (1, 2):
        await net.start(f"pe{n}", edge(n))
    await net.connected("red1", "10.1.2.10")
    return net, links


def label_of(net: Net, node: str, prefix: str) -> tuple[int, str]:
    """(local label, outgoing) of the row for a prefix in `show mpls forwarding-table`."""
    rows = [row for row in net.show(node, "show mpls forwarding-table") if prefix in row["fec"]]
    assert len(rows) == 1, rows
    return rows[0]["local-label"], str(rows[0]["outgoing-label"])


def labels_on(link: Any, data: int) -> set[tuple[str, tuple[int, ...]]]:
    """(sending node, labels) of the echoes with so many octets of data."""
    found = [(frame.sender.partition(":")[0], look(frame.octets)) for frame in link.frames]
    return {(sender, seen.labels) for sender, seen in found if seen.ethertype == MPLS and seen.echo == data}


def test_rfc4364_10_vpn_routes_through_an_asbr_are_swapped() -> None:
    async def main() -> None:
        net, links = await three_in_a_row()
        for here, there in ((1, 2), (2, 1)):
            assert await net.reaches(f"red{here}", f"10.1.{there}.10", size=301)
            assert await net.reaches(f"red{here}", f"2001:db8:{there}::10", size=301)
        # The ASBR keeps routes that no VRF of its own imports, and has one label for each (RD, prefix).
        swaps = [
            label_of(net, "asbr", prefix) for prefix in ("10.1.1.0/24", "10.1.2.0/24", "2001:db8:1::", "2001:db8:2::")
        ]
        assert len({local for local, _ in swaps}) == 4
        assert all(out.isdigit() for _, out in swaps), swaps
        # On each link exactly one label (the next hop is direct: implicit null), another one on either side.
        to_two = {swaps[1][0]: int(swaps[1][1]), swaps[3][0]: int(swaps[3][1])}
        assert {labels for sender, labels in labels_on(links[0], 301) if sender == "pe1"} == {(n,) for n in to_two}
        assert {labels for sender, labels in labels_on(links[1], 301) if sender == "asbr"} == {
            (n,) for n in to_two.values()
        }
        # TTL is one on all the way (RFC 3443 3.1, uniform): the ASBR is a hop. It has no VRF to answer from.
        assert await net.world.node("red1").traceroute("10.1.2.10") == ["10.1.1.1", "*", "10.1.2.1", "10.1.2.10"]
        await net.stop()

    run(main())


@BOTH
def test_rfc4364_10_the_same_on_both_backends(backend: str) -> None:
    links = {f"l{n}": (f"pe{n} Ethernet0/0", f"asbr Ethernet0/{n}") for n in (1, 2)}
    links.update({f"red{n}": (f"pe{n} Ethernet0/1", f"red{n} eth0") for n in (1, 2)})
    hosts = {f"red{n}": [f"10.1.{n}.10/24", f"2001:db8:{n}::10/64", f"10.1.{n}.1", f"2001:db8:{n}::1"] for n in (1, 2)}

    async def tell(bed: Any) -> None:
        for here, there in ((1, 2), (2, 1)):
            await reaches(bed, f"red{here}", f"10.1.{there}.10", size=301)
            await reaches(bed, f"red{here}", f"2001:db8:{there}::10", size=301)
        rows = {row["fec"].partition(":10.")[2]: row for row in await bed.show("asbr", "show mpls forwarding-table")}
        swap = rows["1.2.0/24"]
        assert (swap["operation"], swap["interface"]) == ("swap", "Ethernet0/2")
        assert swap["octets"] > 0
        frames = {
            link: {f.labels for f in seen(bed, link) if f.inner[1] == octets("10.1.2.10")} for link in ("l1", "l2")
        }
        assert frames == {"l1": {(swap["local-label"],)}, "l2": {tuple(swap["labels-pushed"])}}

    play(backend, described({"asbr": ASBR, "pe1": edge(1), "pe2": edge(2)}, links, hosts), tell)


def test_a_swap_label_goes_with_its_route_and_rests() -> None:
    """Another route does not get it at once (late packets under it are dropped, not misled), the same one gets it back."""

    async def main() -> None:
        net, _ = await three_in_a_row()
        label, _ = label_of(net, "asbr", "10.1.2.0/24")
        net.apply("pe2", edge(2).replace("10.1.2.1", "10.9.2.1"))
        await asyncio.sleep(5)
        rows = str(net.show("asbr", "show mpls forwarding-table"))
        assert "10.1.2.0/24" not in rows
        assert "10.1.1.0/24" in rows
        assert label_of(net, "asbr", "10.9.2.0/24")[0] != label
        assert (await net.ping("red1", "10.1.2.10")).reason == "network unreachable"
        net.apply("pe2", edge(2))
        await net.connected("red1", "10.1.2.10")
        assert label_of(net, "asbr", "10.1.2.0/24")[0] == label
        await net.stop()

    run(main())


# --- a hub, and the hairpins that it reports --------------------------------------------------------------------------


def spoke(n: int) -> str:
    return f"""hostname pe{n}
!
{VRF.format(n=n)}interface Ethernet0/0
 ip address 198.51.{n}.1 255.255.255.252
!
interface Tunnel0
 ip address 10.255.{n}.1 255.255.255.252
 tunnel source Ethernet0/0
 tunnel destination 198.51.{n}.2
 tunnel key 7
 mpls bgp forwarding
!
router bgp 65100
 bgp router-id 192.0.2.{n}
 neighbor 10.255.{n}.2 remote-as 65000
 neighbor 10.255.{n}.2 update-source Tunnel0
{families(f"10.255.{n}.2")}{CONNECTED}!
end
"""


HUB = f"""hostname hub
!
vrf definition Red
 rd 65000:99
 route-target both 65000:100
 address-family ipv4
 exit-address-family
!
interface Ethernet0/1
 ip address 198.51.1.2 255.255.255.252
!
interface Ethernet0/2
 ip address 198.51.2.2 255.255.255.252
!
interface Tunnel1
 ip address 10.255.1.2 255.255.255.252
 tunnel source Ethernet0/1
 tunnel destination 198.51.1.1
 tunnel key 7
 mpls bgp forwarding
!
interface Tunnel2
 ip address 10.255.2.2 255.255.255.252
 tunnel source Ethernet0/2
 tunnel destination 198.51.2.1
 tunnel key 7
 mpls bgp forwarding
!
ip route vrf Red 0.0.0.0 0.0.0.0 Null0
!
router bgp 65000
 bgp router-id 192.0.2.99
 neighbor 10.255.1.1 remote-as 65100
 neighbor 10.255.1.1 update-source Tunnel1
 neighbor 10.255.2.1 remote-as 65100
 neighbor 10.255.2.1 update-source Tunnel2
{families("10.255.1.1", "10.255.2.1")} address-family ipv4 vrf Red
  network 0.0.0.0
 exit-address-family
!
end
"""


def in_one_network(text: str, *, redirect: bool = True) -> Config:
    """The hub's tunnels in one NHRP network (its lines come with NHRP; the model has the place for it)."""
    config = Config.from_ios(text)
    node = config.node
    changed = {
        name: evolve(interface, network_id=1, redirect=redirect) if name.startswith("Tunnel") else interface
        for name, interface in node.interfaces.items()
    }
    return config.replace(evolve(node, interfaces=changed))


class Ear:
    """What a node's bus says, from now on."""

    def __init__(self, net: Net, node: str, *kinds: Any) -> None:
        self.heard: list[Any] = []
        subscription = net.routers[node].bus.subscribe(*kinds, name="test")

        async def listen() -> None:
            async for message in subscription:
                self.heard.append(message)

        self.task = asyncio.ensure_future(listen())

    def close(self) -> None:
        self.task.cancel()


async def hub_and_spokes(*, allowas_in: bool, redirect: bool = True) -> Net:
    net = Net()
    for n in (1, 2):
        net.link(f"pe{n} Ethernet0/0", f"hub Ethernet0/{n}")
    customers(net)
    await net.start("hub", HUB)
    net.routers["hub"].apply(in_one_network(HUB, redirect=redirect))
    for n in (1, 2):
        text = spoke(n)
        if allowas_in:
            text = text.replace("send-community both\n", f"send-community both\n  neighbor 10.255.{n}.2 allowas-in\n")
        await net.start(f"pe{n}", text)
    await net.connected("red1", "10.1.2.10")
    return net


def test_hairpin_after_the_ip_look_up() -> None:
    """Both spokes are in one AS and refuse each other's routes (RFC 4271 9.1.2: AS loop); the hub's default has a label
    that is popped, and the packet looked up in the VRF finds the far spoke's label."""

    async def main() -> None:
        net = await hub_and_spokes(allowas_in=False)
        ear = Ear(net, "hub", Hairpin)
        assert await net.reaches("red1", "10.1.2.10", size=77)
        await asyncio.sleep(0.1)
        ear.close()
        there, back = [fact for fact in ear.heard if len(fact.header) >= 20]
        label, _ = label_of(net, "hub", "0.0.0.0/0")
        assert there.ingress == Ingress("Tunnel1", "", octets("198.51.1.1"), 0, label)
        assert (there.vrf, there.egress) == ("Red", "Tunnel2")
        assert (there.header[12:16], there.header[16:20]) == (octets("10.1.1.10"), octets("10.1.2.10"))
        assert (back.ingress.interface, back.ingress.endpoint, back.egress) == (
            "Tunnel2",
            octets("198.51.2.1"),
            "Tunnel1",
        )
        await net.stop()

    run(main())


def test_hairpin_after_a_swap() -> None:
    async def main() -> None:
        net = await hub_and_spokes(allowas_in=True)
        await net.connected("red1", "2001:db8:2::10")
        ear = Ear(net, "hub", Hairpin)
        assert await net.reaches("red1", "10.1.2.10")
        assert await net.reaches("red1", "2001:db8:2::10")
        await asyncio.sleep(0.1)
        ear.close()
        local, out = label_of(net, "hub", "10.1.2.0/24")
        assert out.isdigit()
        ways = [(f.ingress.interface, f.ingress.endpoint, f.egress, f.header[0] >> 4) for f in ear.heard]
        one, two = octets("198.51.1.1"), octets("198.51.2.1")
        assert ways == [
            ("Tunnel1", one, "Tunnel2", 4),
            ("Tunnel2", two, "Tunnel1", 4),
            ("Tunnel1", one, "Tunnel2", 6),
            ("Tunnel2", two, "Tunnel1", 6),
        ]
        assert ear.heard[0].ingress.in_label == local
        assert ear.heard[0].header[16:20] == octets("10.1.2.10"), "the IP header found under the stack"
        await net.stop()

    run(main())


def test_no_hairpin_without_redirect() -> None:
    async def main() -> None:
        net = await hub_and_spokes(allowas_in=False, redirect=False)
        ear = Ear(net, "hub", Hairpin)
        assert await net.reaches("red1", "10.1.2.10")
        await asyncio.sleep(0.1)
        ear.close()
        assert ear.heard == []
        await net.stop()

    run(main())
