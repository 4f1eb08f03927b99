"""A PE with a neighbour behind a protected tunnel and one behind a tunnel in clear, at once. Labels that both were given come
by either; the label of a network that policy keeps from the one in clear is refused in clear (T03, RFC 4023 8.1). And what
belongs into the protected tunnel goes nowhere else while that cannot be sent to (E04), whatever default route there is.

    red1, own1 - pe1 ---- core (IP only) ---- pe2 - red2
                  | \\\\== Tunnel0, ESP ======//|
                  |  \\--- Tunnel3, clear ---- pe3 - red3
                  exit (default route of VRF Red)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stack.addr import parse_address
from stack.testing import run
from tests.scenario.memory import Net
from tests.scenario.test_restart import kill
from tests.scenario.test_spoof import ipv4, label

GRE, ESP = 47, 50
CLEAR = bytes.fromhex("00008847")
VRF = """vrf definition Red
 rd 65000:{n}
 route-target both 65000:100
 address-family ipv4
 exit-address-family
!
"""
CRYPTO = """crypto ikev2 keyring all
 peer all
  address 0.0.0.0 0.0.0.0
  pre-shared-key both-ends-have-it
!
crypto ikev2 profile p
 match identity remote address 0.0.0.0 0.0.0.0
 authentication remote pre-share
 authentication local pre-share
 keyring local all
 dpd 2 2 periodic
!
crypto ipsec profile p
 set ikev2-profile p
!
"""


def tunnel(number: int, me: int, other: int, *more: str) -> str:
    lines = "".join(f" {line}\n" for line in more)
    return f"""interface Tunnel{number}
 ip address 10.255.{number}.{me} 255.255.255.248
 tunnel source Loopback0
 tunnel destination 192.0.2.{other}
 mpls bgp forwarding
{lines}!
"""


def neighbour(number: int, other: int, *more: str) -> tuple[str, str]:
    one = f" neighbor 10.255.{number}.{other} "
    lines = "".join(f"{one}{line}\n" for line in more)
    top = f"{one}remote-as 65000\n{one}update-source Tunnel{number}\n{one}timers 1 30\n"
    return top, f"{one}activate\n{one}send-community both\n{lines}"


def text(me: int, tunnels: str, neighbours: tuple[tuple[str, str], ...], more: str = "") -> str:
    return f"""hostname pe{me}
!
{VRF.format(n=me)}{CRYPTO}interface Loopback0
 ip address 192.0.2.{me} 255.255.255.255
!
interface Ethernet0/0
 ip address 198.51.{me}.1 255.255.255.0
!
interface Ethernet0/1
 vrf forwarding Red
 ip address 10.1.{me}.1 255.255.255.0
!
{tunnels}router bgp 65000
 bgp router-id 192.0.2.{me}
 bgp graceful-restart
{"".join(top for top, _ in neighbours)} address-family vpnv4
{"".join(lines for _, lines in neighbours)} exit-address-family
 address-family ipv4 vrf Red
  redistribute connected
 exit-address-family
!
ip route 0.0.0.0 0.0.0.0 198.51.{me}.2
{more}end
"""


PROTECTED = "tunnel protection ipsec profile p"
HUB = text(
    1,
    tunnel(0, 1, 2, PROTECTED) + tunnel(3, 1, 3),
    (neighbour(0, 2), neighbour(3, 3, "route-map OPEN out")),
    """ip route vrf Red 0.0.0.0 0.0.0.0 10.3.3.10
ip prefix-list OWN seq 5 permit 10.1.9.0/24
ip prefix-list EXIT seq 5 permit 10.3.3.0/24
route-map OPEN deny 10
 match ip address prefix-list OWN
route-map OPEN permit 20
!
""",
).replace(
    "interface Tunnel0\n",
    """interface Ethernet0/2
 vrf forwarding Red
 ip address 10.1.9.1 255.255.255.0
!
interface Ethernet0/3
 vrf forwarding Red
 ip address 10.3.3.1 255.255.255.0
!
interface Tunnel0
""",
    1,
)
TEXTS = {
    "pe1": HUB,
    "pe2": text(2, tunnel(0, 2, 1, PROTECTED), (neighbour(0, 1),)),
    "pe3": text(3, tunnel(3, 3, 1), (neighbour(3, 1),)),
}


class Mixed(Net):
    async def build(self) -> None:
        core = self.world.node("core", forwarding=True)
        self.cores = {}
        for n in (1, 2, 3):
            self.cores[n] = self.link(f"pe{n} Ethernet0/0", f"core eth{n}")
            core.address(f"eth{n}", f"198.51.{n}.2/24")
            core.route(f"192.0.2.{n}/32", f"198.51.{n}.1")
            self.link(f"pe{n} Ethernet0/1", f"red{n} eth0")
            self.host(f"red{n}", [f"10.1.{n}.10/24"], f"10.1.{n}.1")
        self.link("pe1 Ethernet0/2", "own1 eth0")
        self.host("own1", ["10.1.9.10/24"], "10.1.9.1")
        self.exit = self.link("pe1 Ethernet0/3", "exit eth0")
        self.host("exit", ["10.3.3.10/24"], "10.3.3.1")
        for name, lines in TEXTS.items():
            await self.start(name, lines)
        for other in (2, 3):
            await self.connected("red1", f"10.1.{other}.10")
        await self.connected("red2", "10.1.9.10")
        self.built = asyncio.get_running_loop().time()

    def labels(self) -> dict[str, tuple[int, set[str]]]:
        """FEC -> label and scope, as shown."""
        rows = self.show("pe1", "show mpls label table")
        return {row["fec"].partition("[")[0]: (row["label"], set(row["scope"])) for row in rows if "10." in row["fec"]}

    async def clear(self, destination: str, value: int, number: int) -> dict[tuple[str, str], int]:
        """What is dropped of a labelled packet that comes to pe1 in plain GRE, as if from pe`number`."""
        before = self.drops("pe1")
        inside = ipv4(parse_address(f"10.1.{number}.10"), parse_address(destination), bytes(20))
        outer = ipv4(parse_address(f"192.0.2.{number}"), parse_address("192.0.2.1"), CLEAR + label(value) + inside, GRE)
        nic = self.world.node("core").host.nic("eth1")
        target = self.world.node("pe1").host.nic("e0-0").mac
        assert nic.wire is not None
        nic.wire(target + nic.mac + b"\x08\0" + outer)
        await asyncio.sleep(0.2)
        after = self.drops("pe1")
        return {key: count - before.get(key, 0) for key, count in after.items() if count != before.get(key, 0)}

    def escaped(self, destination: str) -> int:
        """Packets for it on the link of the default route, since all was up."""
        wanted = parse_address(destination)
        return sum(
            f.time > self.built and f.octets[12:14] == b"\x08\0" and f.octets[30:34] == wanted for f in self.exit.frames
        )


def play(story: Callable[[Mixed], Awaitable[None]]) -> None:
    async def main() -> None:
        net = Mixed()
        await net.build()
        await story(net)
        await net.stop()

    run(main())


OPEN, BOTH = {"mgre", "ethernet"}, {"mgre", "ethernet", "protected"}
REFUSED = {("LABEL_SCOPE", "Tunnel3"): 1}


async def as_given(net: Mixed) -> None:
    labels = net.labels()
    shared, own = labels["10.1.1.0/24"], labels["10.1.9.0/24"]
    assert (shared[1], own[1]) == (BOTH, {"protected"})
    assert await net.clear("10.1.1.10", shared[0], 3) == {}
    assert await net.clear("10.1.9.10", own[0], 3) == REFUSED
    assert await net.reaches("red2", "10.1.9.10")
    assert await net.reaches("red2", "10.1.1.10")
    assert await net.reaches("red3", "10.1.1.10")


def test_T03_E04_labels_come_as_they_were_given() -> None:
    async def story(net: Mixed) -> None:
        await as_given(net)
        shared = net.labels()["10.1.1.0/24"][0]
        (fault,) = await net.clear("10.1.1.10", shared, 2)
        assert fault == ("PROTECTED", "Tunnel0"), "in clear, as if from the protected neighbour"

    play(story)


def test_T03_policy_is_changed_live() -> None:
    async def story(net: Mixed) -> None:
        net.apply("pe1", HUB.replace(" neighbor 10.255.3.3 route-map OPEN out\n", ""))
        await net.until(lambda: net.labels()["10.1.9.0/24"][1] == BOTH)
        assert await net.clear("10.1.9.10", net.labels()["10.1.9.0/24"][0], 3) == {}
        net.apply("pe1", HUB)
        await net.until(lambda: net.labels()["10.1.9.0/24"][1] == {"protected"})
        await as_given(net)

    play(story)


@pytest.mark.parametrize("victim", ["bgp", "mfi", "routing", "tunnel", "forwarder", "ikev2"])
def test_T03_S01_a_killed_service_opens_no_label(victim: str) -> None:
    """Not for a moment: the restarting BGP takes labels as they stood until its neighbours are back."""

    async def story(net: Mixed) -> None:
        label_of_own = net.labels()["10.1.9.0/24"][0]
        seen = set()
        kill(net.routers["pe1"], victim)
        for _ in range(100):
            row = net.routers["pe1"].context.tables.lfib.rows.get(label_of_own)
            seen.add(row and row.scope)
            await asyncio.sleep(0.05)
        assert seen == {frozenset({"protected"})}
        await net.connected("red2", "10.1.9.10")
        await asyncio.sleep(70)
        await as_given(net)

    play(story)


def shown(net: Mixed, address: str = "10.1.2.0/24") -> str:
    return net.text("pe1", f"show ip cef vrf Red {address}")


def test_E04_what_belongs_into_the_tunnel_goes_nowhere_else() -> None:
    """The peer's key is another one from now on. BGP's session lives on for a while, and its routes are not usable."""

    async def story(net: Mixed) -> None:
        assert await net.reaches("red1", "10.1.2.10")
        net.apply("pe2", TEXTS["pe2"].replace("both-ends-have-it", "another"))
        await net.until(lambda: "drop (no security association" in shown(net))
        assert "Packets are dropped: no security" in net.text("pe1", "show ip route vrf Red 10.1.2.10")
        await asyncio.sleep(3)
        assert ("default", "10.255.0.2") in net.established("pe1"), "it has not noticed yet"
        assert not await net.reaches("red1", "10.1.2.10")
        assert net.escaped("10.1.2.10") == 0
        assert await net.reaches("red1", "10.1.3.10"), "the other neighbour is not concerned"
        (interface,) = net.show("pe1", "show interfaces Tunnel0")
        assert interface["security"]["usable"] == 0
        assert interface["security"]["reasons"]
        net.apply("pe2", TEXTS["pe2"])
        await net.connected("red1", "10.1.2.10", within=90)
        assert net.escaped("10.1.2.10") == 0

    play(story)


def test_E04_nor_while_the_tunnel_is_down() -> None:
    """What took the SA away has taken the way to the far end away too. The node's own packets do not leave by the host's
    routes either."""

    async def story(net: Mixed) -> None:
        static = "ip route 172.30.0.0 255.255.0.0 Tunnel0\nip route 0.0.0.0 0.0.0.0 198.51.1.2\n"
        cut = "ip route 172.30.0.0 255.255.0.0 Tunnel0\nip route 192.0.2.3 255.255.255.255 198.51.1.2\n"
        default = "ip route 0.0.0.0 0.0.0.0 198.51.1.2\n"
        net.apply("pe1", HUB.replace(default, static))
        await asyncio.sleep(1)
        held = {"172.30.0.0/16", "10.255.0.0/29"}
        node = net.world.node("pe1")
        for lines in (static, cut, static, cut):
            net.apply("pe1", HUB.replace(default, lines))
            down = lines is cut
            await net.until(lambda down=down: net.show("pe1", "show interfaces Tunnel0")[0]["up"] != down)
            await asyncio.sleep(1)
            for prefix in held:
                text = net.text("pe1", f"show ip cef {prefix}")
                assert ("drop (Tunnel0 is down" in text) == down, text
            assert held <= {str(r.prefix) for r, ours in node.host.routes() if ours and r.device.startswith("hostport")}

    play(story)


def test_E04_who_shuts_the_tunnel_wants_another_way() -> None:
    async def story(net: Mixed) -> None:
        net.apply("pe1", HUB.replace("interface Tunnel0\n", "interface Tunnel0\n shutdown\n"))
        await asyncio.sleep(40)
        await net.reaches("red1", "10.1.2.10")
        assert net.escaped("10.1.2.10") > 0, "the default route of the VRF"
        net.apply("pe1", HUB)
        await net.connected("red1", "10.1.2.10", within=90)

    play(story)


def test_show_says_who_is_protected() -> None:
    async def story(net: Mixed) -> None:
        plain: Any = {row["name"]: row for row in net.show("pe1", "show interfaces")}
        assert plain["Tunnel0"]["security"] == {"profile": "p", "neighbours": 1, "usable": 1, "reasons": []}
        assert plain["Tunnel3"]["security"] is None
        adjacencies = {row["interface"]: row["security"] for row in net.show("pe1", "show adjacency")}
        assert (adjacencies["Tunnel0"]["up"], adjacencies["Tunnel3"]) == (True, None)
        assert "10.1.9.0/24[V]" in net.text("pe1", "show mpls forwarding-table")
        assert "Tunnel protection via IPSec" in net.text("pe1", "show interfaces Tunnel0")
        assert "(IPsec profile p)" in net.text("pe1", "show adjacency tunnel 0")
        outer = {f.octets[23] for f in net.cores[2].frames if f.octets[12:14] == b"\x08\0"}
        assert ESP in outer
        assert GRE not in outer

    play(story)
