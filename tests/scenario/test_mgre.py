"""The life of the mGRE tunnel: endpoints with BGP's next hops, the restrictions, MPLS-in-IP, the automatic source, label modes.

red1 - pe1 ---- core ---- pe2 - red2          and on the core: 192.0.2.250, a scripted BGP speaker (feeder.py),
                  |                           and a farm that all of 192.0.3.0/24 leads to
                feeder, farm
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from bgp.wire import VPNV4, VPNV6
from stack.lab.frames import Seen, look
from stack.testing import run
from tests.scenario.beds import MPLS, octets
from tests.scenario.feeder import Feeder, routes
from tests.scenario.memory import Net
from tests.scenario.test_spoof import ipv4, label

GRE, MPLS_IN_IP = 47, 137

PROFILE = """l3vpn encapsulation ip core
 transport ipv4 source Loopback0
 protocol gre key 77
!
"""


def neighbour(address: str, *lines: str) -> str:
    return "".join(
        f" neighbor {address} {line}\n" for line in ("remote-as 65000", "update-source Loopback0", "timers 3 9", *lines)
    )


def families(*addresses: str, route_map: str = "L3VPN-core") -> str:
    return "".join(
        f" address-family {family}\n"
        + "".join(
            f"  neighbor {a} activate\n  neighbor {a} send-community both\n  neighbor {a} route-map {route_map} in\n"
            for a in addresses
        )
        + " exit-address-family\n"
        for family in ("vpnv4", "vpnv6")
    )


def pe(
    n: int, *peers: str, profile: str = PROFILE, bgp: str = "", more: str = "", route_map: str = "L3VPN-core"
) -> str:
    """`profile`, `bgp` (lines of the process) and `more` (whole blocks) replace or add to what every PE here has."""
    return f"""hostname pe{n}
!
vrf definition Red
 rd 65000:{n}
 route-target both 65000:100
 address-family ipv4
 exit-address-family
 address-family ipv6
 exit-address-family
!
{profile}interface Loopback0
 ip address 192.0.2.{n} 255.255.255.255
!
interface Ethernet0/0
 ip address 198.51.{n}.1 255.255.255.0
!
interface Ethernet0/1
 vrf forwarding Red
 ip address 10.1.{n}.1 255.255.255.0
 ipv6 address 2001:db8:{n}::1/64
!
{more}router bgp 65000
 bgp router-id 192.0.2.{n}
{bgp}{"".join(neighbour(address) for address in peers)}{families(*peers, route_map=route_map)} address-family ipv4 vrf Red
  redistribute connected
 exit-address-family
 address-family ipv6 vrf Red
  redistribute connected
 exit-address-family
!
ip route 192.0.0.0 255.255.0.0 198.51.{n}.2
!
end
"""


class Star:
    """The topology above; `links[n]` is PE n's to the core."""

    def __init__(self, *, pes: int = 2) -> None:
        self.net = Net()
        core = self.net.world.node("core", forwarding=True)
        self.links = {}
        for n in range(1, pes + 1):
            self.links[n] = self.net.link(f"pe{n} Ethernet0/0", f"core eth{n}")
            core.address(f"eth{n}", f"198.51.{n}.2/24")
            core.route(f"192.0.2.{n}/32", f"198.51.{n}.1")
            core.route(f"192.0.22.{n}/32", f"198.51.{n}.1")
            self.net.link(f"pe{n} Ethernet0/1", f"red{n} eth0")
            self.net.host(f"red{n}", [f"10.1.{n}.10/24", f"2001:db8:{n}::10/64"], f"10.1.{n}.1", f"2001:db8:{n}::1")
        for number, name, address, net in (
            (8, "feeder", "192.0.2.250", "192.0.2.250/32"),
            (9, "farm", "", "192.0.3.0/24"),
        ):
            self.net.link(f"core eth{number}", f"{name} eth0")
            core.address(f"eth{number}", f"198.51.{number}.2/24")
            core.route(net, f"198.51.{number}.1")
            node = self.net.host(name, [f"198.51.{number}.1/24"], f"198.51.{number}.2")
            if address:
                node.address("lo", address)
        self.feeder = Feeder(self.net.world.node("feeder"), "192.0.2.250")

    async def fed(self, **named: Any) -> None:
        """pe1 alone, its session with the feeder up."""
        await self.feeder.start()
        await self.net.start("pe1", pe(1, "192.0.2.250", **named))
        async with asyncio.timeout(60):
            await self.feeder.up.wait()

    async def pair(self, one: str, other: str) -> None:
        await self.net.start("pe1", one)
        await self.net.start("pe2", other)
        await self.both_ways()

    async def both_ways(self) -> None:
        for here, there in ((1, 2), (2, 1)):
            await self.net.connected(f"red{here}", f"10.1.{there}.10")
            await self.net.connected(f"red{here}", f"2001:db8:{there}::10")

    def seen(self, n: int = 1) -> list[Seen]:
        return [look(frame.octets) for frame in self.links[n].frames]

    def forget(self) -> None:
        for link in self.links.values():
            link.frames.clear()

    async def stop(self) -> None:
        self.feeder_stop()
        await self.net.stop()

    def feeder_stop(self) -> None:
        if self.feeder._listener is not None:
            self.feeder.stop()


def endpoints(net: Net, node: str = "pe1") -> dict[str, dict[str, Any]]:
    (tunnel,) = net.show(node, "show tunnel endpoints tunnel 0")
    return {row["transport"]: row for row in tunnel["endpoints"]}


def adjacent_to(net: Net) -> set[str]:
    return {row["address"].partition("(")[0] for row in net.show("pe1", "show adjacency tunnel 0")}


def far(n: int) -> str:
    return f"192.0.3.{n}"


def two_networks(n: int) -> list[Any]:
    return routes(f"65000:{n}", f"10.2.{n}.0/24", f"10.3.{n}.0/24", label=1000 + n)


MANY = range(1, 51)


def test_fifty_remote_pes_come_and_go() -> None:
    """An endpoint for each BGP next hop, with counts, times and an adjacency; it goes with the last route that names it."""

    async def main() -> None:
        star = Star(pes=1)
        await star.fed()
        net, feeder = star.net, star.feeder
        assert endpoints(net) == {}
        for n in MANY:
            if n == 26:
                await asyncio.sleep(10)
            feeder.announce(VPNV4, far(n), two_networks(n), "65000:100")
        await asyncio.sleep(2)
        rows = endpoints(net)
        assert set(rows) == {far(n) for n in MANY}
        # One overlay entry, the IP and the TAG adjacency; the overlay has the entry itself and bgp's claim.
        assert {row["refcount"] for row in rows.values()} == {3}
        assert {
            (o["address"] == t, o["refcount"], tuple(o["clients"])) for t, r in rows.items() for o in r["overlays"]
        } == {(True, 2, ("bgp",))}
        ages = {n: rows[far(n)]["age-seconds"] for n in MANY}
        assert 9 <= min(ages[n] for n in range(1, 26)) - max(ages[n] for n in range(26, 51)) <= 10.5
        assert adjacent_to(net) == set(rows)
        adjacent = net.show("pe1", "show adjacency tunnel 0")
        assert {(row["source"], row["gre-key"], row["complete"]) for row in adjacent} == {("192.0.2.1", 77, True)}

        # Each next hop gets its own label in its own tunnel packet.
        star.forget()
        for n in (1, 50):
            await net.ping("red1", f"10.2.{n}.10")
        sent = [(f.outer[1], f.labels, f.key) for f in star.seen() if f.gre == MPLS]
        assert sent == [(octets(far(n)), (1000 + n,), 77) for n in (1, 50)]

        # One of the two routes goes: the endpoint stays, no younger than it was.
        feeder.withdraw(VPNV4, [two_networks(n)[0] for n in MANY])
        await asyncio.sleep(5)
        assert {
            n: round(row["age-seconds"] - ages[n]) for n, row in ((n, endpoints(net)[far(n)]) for n in MANY)
        } == dict.fromkeys(MANY, 7)
        # The second goes for every other PE.
        feeder.withdraw(VPNV4, [two_networks(n)[1] for n in MANY if n % 2])
        await asyncio.sleep(1)
        assert set(endpoints(net)) == {far(n) for n in MANY if not n % 2}
        assert adjacent_to(net) == {far(n) for n in MANY if not n % 2}
        (reception,) = net.routers["pe1"].tables.receptions.rows.values()
        assert reception.sources == frozenset(octets(far(n)) for n in MANY if not n % 2)
        assert (await net.ping("red1", "10.3.1.10")).reason == "network unreachable"
        # They come back as new ones.
        feeder.announce(VPNV4, far(1), two_networks(1), "65000:100")
        await asyncio.sleep(1)
        assert endpoints(net)[far(1)]["age-seconds"] < 2
        # The session ends: so do all.
        feeder.stop()
        await asyncio.sleep(1)
        assert endpoints(net) == {}
        assert net.show("pe1", "show adjacency tunnel 0") == []
        await net.stop()

    run(main())


def test_one_endpoint_for_ipv4_and_ipv6_routes_and_for_those_nobody_imports() -> None:
    """RFC 4659 3.2.1.2: a VPNv6 next hop in an IPv4 core is ::ffff:a.b.c.d, the same remote PE. A one-way VPN makes its
    remote PE known although nothing is imported here."""

    async def main() -> None:
        star = Star(pes=1)
        await star.fed()
        net, feeder = star.net, star.feeder
        four = routes("65000:9", "10.2.9.0/24", label=1009)
        six = routes("65000:9", "2001:db8:29::/64", label=1010)
        foreign = routes("65000:8", "10.2.8.0/24", label=1008)
        feeder.announce(VPNV4, far(9), four, "65000:100")
        feeder.announce(VPNV6, "::ffff:" + far(9), six, "65000:100")
        feeder.announce(VPNV4, far(8), foreign, "65000:999")
        await asyncio.sleep(1)
        assert {t: [o["address"] for o in r["overlays"]] for t, r in endpoints(net).items()} == {
            far(8): [far(8)],
            far(9): [far(9)],
        }
        star.forget()
        await net.ping("red1", "2001:db8:29::10")
        assert [(f.outer[1], f.labels) for f in star.seen() if f.gre == MPLS] == [(octets(far(9)), (1010,))]
        assert (await net.ping("red1", "10.2.8.10")).reason == "network unreachable"
        feeder.withdraw(VPNV4, four)
        await asyncio.sleep(1)
        assert far(9) in endpoints(net), "the IPv6 route still names it"
        feeder.withdraw(VPNV6, six)
        feeder.withdraw(VPNV4, foreign)
        await asyncio.sleep(1)
        assert endpoints(net) == {}
        await star.stop()

    run(main())


def test_rfc4659_3_2_1_2_the_mapped_next_hop_on_the_wire() -> None:
    async def main() -> None:
        star = Star(pes=1)
        await star.fed()
        await asyncio.sleep(2)
        reached = [reach for update in star.feeder.updates() for reach in update.reach]
        hops = {reach.family: reach.next_hop for reach in reached}
        assert hops == {VPNV4: octets("192.0.2.1"), VPNV6: octets("::ffff:192.0.2.1")}
        assert len({nlri.labels for reach in reached for nlri in reach.routes}) == 2, "a label for each prefix"
        await star.stop()

    run(main())


def test_a_reserved_label_is_never_sent() -> None:
    """V03: a VPN route whose label is implicit null, explicit null or reserved is kept, unusable, and says why."""

    async def main() -> None:
        star = Star(pes=1)
        await star.fed()
        for value in (0, 3, 4, 15):
            star.feeder.announce(VPNV4, far(7), routes("65000:7", f"10.2.{value}.0/24", label=value), "65000:100")
        await asyncio.sleep(1)
        star.forget()
        for value in (0, 3, 4, 15):
            assert (await star.net.ping("red1", f"10.2.{value}.10")).reason == "network unreachable"
        assert [frame for frame in star.seen() if frame.inner[1][:2] == b"\x0a\2" or frame.gre == MPLS] == []
        assert "10.2.3.0/24" in star.net.text("pe1", "show ip bgp vpnv4 all")
        await star.stop()

    run(main())


# --- restrictions -----------------------------------------------------------------------------------------------------


def test_a_second_profile_is_refused_with_the_reason() -> None:
    async def main() -> None:
        star = Star(pes=1)
        second = "l3vpn encapsulation ip other\n protocol gre key 5\n!\n"
        await star.fed(profile=PROFILE + second)
        net = star.net
        text = net.text("pe1", "show l3vpn encapsulation ip other")
        assert "a PE supports one tunnel configuration, and profile core has it" in text
        names = [row["name"] for row in net.show("pe1", "show interfaces") if row["kind"] == "tunnel"]
        assert names == ["Tunnel0", "Tunnel1"], "the first profile's tunnel and its dummy, nothing of the second"
        assert "L3VPN-other" in net.text("pe1", "show route-map"), "its route map exists, and its routes are unusable"
        net.apply("pe1", pe(1, "192.0.2.250", profile=second))
        await asyncio.sleep(1)
        assert "[FAIL" not in net.text("pe1", "show l3vpn encapsulation ip other"), "the place is free now"
        await star.stop()

    run(main())


def test_the_dummy_tunnel_is_visible_and_never_forwards() -> None:
    async def main() -> None:
        star = Star(pes=1)
        await star.fed()
        net = star.net
        tunnels = {row["name"]: row for row in net.show("pe1", "show interfaces") if row["kind"] == "tunnel"}
        assert (tunnels["Tunnel0"]["up"], tunnels["Tunnel1"]["up"]) == (True, False)
        assert "never forwards" in tunnels["Tunnel1"]["reason"]
        assert tunnels["Tunnel0"]["vrf"] == tunnels["Tunnel1"]["vrf"] == "Tunnel_Encap"
        assert "Tunnel0" in net.text("pe1", "show ip route vrf Tunnel_Encap")
        net.apply("pe1", pe(1, "192.0.2.250", profile="", route_map="none"))
        await asyncio.sleep(1)
        assert [row for row in net.show("pe1", "show interfaces") if row["kind"] == "tunnel"] == []
        net.apply("pe1", pe(1, "192.0.2.250"))
        await asyncio.sleep(1)
        assert {r["name"] for r in net.show("pe1", "show interfaces") if r["kind"] == "tunnel"} == {
            "Tunnel0",
            "Tunnel1",
        }
        await star.stop()

    run(main())


def beside(n: int, key: str = "") -> str:
    """A point-to-point GRE tunnel with the same source and destination as the mGRE one's packets between pe1 and pe2."""
    return f"""interface Tunnel5
 ip address 10.255.0.{n} 255.255.255.252
 tunnel source Loopback0
 tunnel destination 192.0.2.{3 - n}
{key}!
ip route 10.77.{3 - n}.0 255.255.255.0 10.255.0.{3 - n}
!
interface Loopback7
 ip address 10.77.{n}.1 255.255.255.0
!
"""


@pytest.mark.parametrize(
    ("profile", "key"),
    [(PROFILE, ""), (PROFILE, " tunnel key 5\n"), (PROFILE.replace(" key 77", ""), " tunnel key 5\n")],
    ids=["key 77 and none", "key 77 and key 5", "none and key 5"],
)
def test_a_point_to_point_tunnel_of_the_same_ends(profile: str, key: str) -> None:
    """RFC 2890 2.1: "packets with different keys" are different traffic flows; that is how the two are told apart."""

    async def main() -> None:
        star = Star()
        one, other = (pe(n, f"192.0.2.{3 - n}", profile=profile, more=beside(n, key)) for n in (1, 2))
        await star.pair(one, other)
        star.forget()
        node = star.net.world.node("pe1")
        (answer,) = await node.ping("10.77.2.1", source="10.77.1.1", size=333)
        assert answer.ok
        await star.both_ways()
        keys = {(f.gre, f.key) for f in star.seen() if f.protocol == GRE}
        inside = 5 if key else None
        assert keys == {(MPLS, 77 if "key" in profile else None), (0x0800, inside)}
        assert {f.echo for f in star.seen() if f.gre == 0x0800} == {333}
        await star.stop()

    run(main())


# --- MPLS-in-IP -------------------------------------------------------------------------------------------------------


def test_rfc4023_3_mpls_in_ip_end_to_end() -> None:
    async def main() -> None:
        star = Star()
        profile = "l3vpn encapsulation ip core\n transport ipv4 source Loopback0\n protocol mpls-in-ip\n!\n"
        await star.pair(*(pe(n, f"192.0.2.{3 - n}", profile=profile) for n in (1, 2)))
        vpn = [f for f in star.seen() if f.labels]
        assert {f.protocol for f in vpn} == {MPLS_IN_IP}
        assert {len(f.labels) for f in vpn} == {1}
        assert not [f for f in star.seen() if f.protocol == GRE]
        # 20 octets of IP and one label, and nothing else: 1476 fit unfragmented.
        (answer,) = await star.net.world.node("red1").ping("10.1.2.10", size=1476 - 28, df=True)
        assert answer.ok
        answer = await star.net.ping("red1", "10.1.2.10", size=1477 - 28, df=True)
        assert (answer.reason, answer.mtu) == ("fragmentation needed", 1476)
        # GRE is not taken by that tunnel, even from the known endpoint.
        assert "protocol mpls-in-ip" in star.net.text("pe1", "show l3vpn encapsulation ip core")
        await star.stop()

    run(main())


# --- the automatic transport source -----------------------------------------------------------------------------------

AUTO = "l3vpn encapsulation ip core\n protocol gre key 77\n!\n"


def test_the_transport_source_comes_from_update_source() -> None:
    async def main() -> None:
        star = Star()
        await star.pair(*(pe(n, f"192.0.2.{3 - n}", profile=AUTO) for n in (1, 2)))
        text = star.net.text("pe1", "show l3vpn encapsulation ip core")
        assert "transport ipv4 source Auto: Loopback0" in text
        assert "Tunnel Transport Source (Auto) Loopback0 [OK]" in text
        await star.stop()

    run(main())


def test_the_transport_source_comes_from_bgp_next_hop_and_follows_it() -> None:
    """What the PE advertises as next hop is where others send their tunnel packets."""

    async def main() -> None:
        star = Star()
        loopback = "interface Loopback1\n ip address 192.0.22.{} 255.255.255.255\n!\n"
        texts = {
            n: pe(n, f"192.0.2.{3 - n}", profile=AUTO, more=loopback.format(n), bgp=" bgp next-hop Loopback1\n")
            for n in (1, 2)
        }
        await star.pair(texts[1], texts[2])
        assert "(Auto) Loopback1 [OK]" in star.net.text("pe1", "show l3vpn encapsulation ip core")
        assert {f.outer for f in star.seen() if f.gre == MPLS} == {
            (octets("192.0.22.1"), octets("192.0.22.2")),
            (octets("192.0.22.2"), octets("192.0.22.1")),
        }
        assert set(endpoints(star.net)) == {"192.0.22.2"}
        for n in (1, 2):
            star.net.apply(f"pe{n}", texts[n].replace(" bgp next-hop Loopback1\n", ""))
        await asyncio.sleep(3)
        star.forget()
        await star.both_ways()
        assert set(endpoints(star.net)) == {"192.0.2.2"}
        assert {f.outer for f in star.seen() if f.gre == MPLS} == {
            (octets("192.0.2.1"), octets("192.0.2.2")),
            (octets("192.0.2.2"), octets("192.0.2.1")),
        }
        await star.stop()

    run(main())


def test_a_source_that_bgp_does_not_advertise_is_a_fault_that_is_shown() -> None:
    async def main() -> None:
        star = Star(pes=1)
        loopback = "interface Loopback1\n ip address 192.0.22.1 255.255.255.255\n!\n"
        await star.fed(profile=PROFILE.replace("Loopback0", "Loopback1"), more=loopback)
        text = star.net.text("pe1", "show l3vpn encapsulation ip core")
        assert "Tunnel Transport Source Loopback1 [FAIL: BGP advertises Loopback0 as next hop]" in text
        await star.stop()

    run(main())


# --- the endpoint check, label modes, the route map -------------------------------------------------------------------


@pytest.mark.parametrize("check", [True, False])
def test_rfc4023_8_2_the_endpoint_check_and_the_line_that_switches_it_off(check: bool) -> None:
    async def main() -> None:
        star = Star()
        one = pe(1, "192.0.2.2", profile=PROFILE if check else PROFILE.replace("!", " no endpoint check\n!"))
        await star.pair(one, pe(2, "192.0.2.1"))
        rows = star.net.show("pe1", "show mpls forwarding-table")
        given = next(row["local-label"] for row in rows if "10.1.1.0/24" in row["fec"])
        inside = ipv4(octets("10.1.2.10"), octets("10.1.1.10"), b"\0\1\0\2\0\x10\0\0" + b"stranger")
        packet = ipv4(
            octets("192.0.9.9"), octets("192.0.2.1"), struct.pack(">HHI", 0x2000, MPLS, 77) + label(given) + inside, 47
        )
        nic = star.net.world.node("core").host.nic("eth1")
        mac = star.net.world.node("pe1").host.nic("e0-0").mac
        assert nic.wire is not None
        nic.wire(mac + nic.mac + b"\x08\0" + packet)
        await asyncio.sleep(0.2)
        link = star.net.world.between("pe1", "red1")
        arrived = [f for f in link.frames if b"stranger" in f.octets and f.sender.startswith("pe1")]
        assert bool(arrived) != check
        assert star.net.drops("pe1").get(("UNKNOWN_ENDPOINT", "Tunnel0"), 0) == check
        await star.stop()

    run(main())


MODES = {
    "per-prefix": ("per-prefix", {"10.1.1.0/24[V]", "2001:db8:1::/64[V]"}),
    "per-vrf": ("per-vrf", {"IPv4 VRF[V]", "IPv6 VRF[V]"}),
}


@pytest.mark.parametrize("mode", sorted(MODES))
def test_label_modes_both_carry_packets(mode: str) -> None:
    async def main() -> None:
        star = Star()
        word, fecs = MODES[mode]
        lines = "".join(f"mpls label mode all-vrfs protocol bgp-vpn{v} {word}\n" for v in ("v4", "v6")) + "!\n"
        more = "interface Ethernet0/1\n ip address 10.4.{}.1 255.255.255.0 secondary\n!\n"
        await star.pair(*(pe(n, f"192.0.2.{3 - n}", more=lines + more.format(n)) for n in (1, 2)))
        rows = star.net.show("pe1", "show mpls forwarding-table")
        extra = {"10.4.1.0/24[V]"} if mode == "per-prefix" else set()
        assert {row["fec"] for row in rows} == fecs | extra
        assert len({row["local-label"] for row in rows}) == len(rows)
        # The secondary prefix is reached too: with the VRF's label, or with one of its own.
        star.forget()
        assert await star.net.reaches("red2", "10.4.1.1")
        assert await star.net.reaches("red2", "10.1.1.1")
        used = {f.labels for f in star.seen() if f.outer[1] == octets("192.0.2.1") and f.gre == MPLS}
        assert len(used) == (2 if mode == "per-prefix" else 1)
        await star.stop()

    run(main())


def test_the_label_mode_of_one_vrf_changed_at_run_time_loses_nothing_for_long() -> None:
    async def main() -> None:
        star = Star()
        await star.pair(pe(1, "192.0.2.2"), pe(2, "192.0.2.1"))
        one_vrf = "mpls label mode vrf Red protocol bgp-vpnv4 per-vrf\n!\n"
        star.net.apply("pe1", pe(1, "192.0.2.2", more=one_vrf))
        await asyncio.sleep(2)
        await star.both_ways()
        fecs = {row["fec"] for row in star.net.show("pe1", "show mpls forwarding-table")}
        assert fecs == {"IPv4 VRF[V]", "2001:db8:1::/64[V]"}
        await star.stop()

    run(main())


def test_the_systems_own_route_map_is_shown_and_attached_by_name() -> None:
    """Without it, or with one that permits without `set ... encapsulate`, routes take an LSP, and there is none here."""

    async def main() -> None:
        star = Star()
        await star.pair(pe(1, "192.0.2.2"), pe(2, "192.0.2.1"))
        text = star.net.text("pe1", "show route-map L3VPN-core")
        assert "encapsulate l3vpn core" in text
        plain = pe(1, "192.0.2.2").replace("  neighbor 192.0.2.2 route-map L3VPN-core in\n", "")
        star.net.apply("pe1", plain)
        await asyncio.sleep(3)
        answer = await star.net.ping("red1", "10.1.2.10")
        assert answer.reason == "network unreachable"
        assert "no label binding" in str(star.net.show("pe1", "show ip bgp vpnv4 all 10.1.2.0")) or "no label" in str(
            star.net.show("pe1", "show ip route vrf Red")
        )
        star.net.apply("pe1", pe(1, "192.0.2.2"))
        await star.both_ways()
        await star.stop()

    run(main())
