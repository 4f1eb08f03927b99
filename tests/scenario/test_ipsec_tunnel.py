"""A protected point-to-point tunnel between two PEs, with a default route that everything would leak by: BGP's TCP, labelled
VPN packets, and ICMP errors of ours about them. For each suite and mode that a transform set can ask for.

    red1 - pe1 ---- core (IP only) ---- pe2 - red2
             \\== Tunnel0, GRE in ESP ==/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from stack.addr import parse_address
from stack.esp import EspMode
from stack.net import TcpOptions
from stack.testing import run
from tests.scenario.memory import Net
from tests.scenario.test_icmp import SPOKEN, Talker, syn_mss
from tests.scenario.test_tunnel import text

GRE, ESP = 47, 50
GRE_AND_LABEL = 8 + 4

SETS = {
    "gcm": ("esp-gcm 256", "transport"),
    "gcm tunnel": ("esp-gcm 128", "tunnel"),
    "cbc": ("esp-aes 256 esp-sha256-hmac", "transport"),
    "cbc tunnel": ("esp-aes 128 esp-sha512-hmac", "tunnel"),
}


def protected(number: int, transforms: str, mode: str, *more: str) -> str:
    other = 3 - number
    crypto = f"""crypto ikev2 keyring all
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
crypto ipsec transform-set t {transforms}
 mode {mode}
!
crypto ipsec profile p
 set transform-set t
 set ikev2-profile p
!
"""
    found = text(number).replace("interface Loopback0\n", crypto + "interface Loopback0\n", 1)
    found = found.replace(
        " tunnel key 5\n",
        " tunnel key 5\n tunnel protection ipsec profile p\n" + "".join(f" {line}\n" for line in more),
    )
    host = f"ip route 192.0.2.{other} 255.255.255.255 198.51.{number}.2\n"
    assert host in found
    return found.replace(host, f"ip route 0.0.0.0 0.0.0.0 198.51.{number}.2\n")


class Pair(Net):
    async def build(self, transforms: str = "esp-gcm 256", mode: str = "transport", *more: str) -> None:
        core = self.world.node("core", forwarding=True)
        self.cores = []
        for n in (1, 2):
            self.cores.append(self.link(f"pe{n} Ethernet0/0", f"core eth{n}"))
            core.address(f"eth{n}", f"198.51.{n}.2/24")
            core.route(f"192.0.2.{n}/32", f"198.51.{n}.1")
            self.link(f"pe{n} Ethernet0/1", f"red{n} eth0")
            self.host(f"red{n}", [f"10.1.{n}.10/24", f"2001:db8:{n}::10/64"], f"10.1.{n}.1", f"2001:db8:{n}::1")
        for n in (1, 2):
            await self.start(f"pe{n}", protected(n, transforms, mode, *more))
        await self.connected("red1", "10.1.2.10")
        await self.connected("red1", "2001:db8:2::10")

    def outer(self) -> set[int]:
        return {f.octets[23] for link in self.cores for f in link.frames if f.octets[12:14] == b"\x08\x00"}

    def room(self) -> int:
        """The largest customer packet."""
        bundle = next(iter(self.routers["pe1"].tables.sad))
        assert bundle.outbound is not None
        form = bundle.outbound.form
        return form.room(1500) - GRE_AND_LABEL - (20 if form.mode is EspMode.TUNNEL else 0)


def play(story: Callable[[Pair], Awaitable[None]], *arguments: str) -> None:
    async def main() -> None:
        net = Pair()
        await net.build(*arguments)
        await story(net)
        await net.stop()

    run(main())


@pytest.mark.parametrize("which", SETS)
def test_E04_everything_between_the_ends_is_in_esp_and_the_largest_packet_is_whole(which: str) -> None:
    async def story(net: Pair) -> None:
        assert len(net.established("pe1")) == 1
        for target, head in (("10.1.2.10", 28), ("2001:db8:2::10", 48)):
            room = net.room()
            before = len(net.cores[0].frames)
            assert await net.reaches("red1", target, size=room - head, df=True)
            assert max(len(frame.octets) for frame in list(net.cores[0].frames)[before:]) <= 1514
            answer = await net.ping("red1", target, size=room + 1 - head, df=True)
            assert (answer.reason, answer.mtu) == ("fragmentation needed", room)
            gateway = "10.1.1.1" if head == 28 else "2001:db8:1::1"
            assert answer.sender == parse_address(gateway), "an address of the VRF, by which it came"
        assert await net.reaches("red1", "10.1.2.10", size=3000), "what may be fragmented is, before it is sealed"
        answer = await net.ping("red1", "10.1.2.10", ttl=2)
        assert (answer.reason, answer.sender) == ("time exceeded", parse_address("10.1.2.1"))
        answer = await net.ping("red1", "10.1.2.99")
        assert answer.reason in ("host unreachable", "timeout")
        assert net.outer() <= {ESP, 17}

    play(story, *SETS[which])


@pytest.mark.parametrize("v6", [False, True])
def test_mss_is_clamped_on_a_protected_tunnel(v6: bool) -> None:
    async def story(net: Pair) -> None:
        target = "2001:db8:2::10" if v6 else "10.1.2.10"
        server, says = Talker(), bytes(SPOKEN)
        listener = await net.world.node("red2").listen_tcp(lambda: server, TcpOptions(port=80))
        transport, _ = await net.world.node("red1").connect_tcp(
            lambda: Talker(says), TcpOptions(remote=parse_address(target), port=80)
        )
        async with asyncio.timeout(30):
            await server.whole.wait()
        assert syn_mss(net, "pe2", "red2", v6=v6) == syn_mss(net, "pe1", "red1", v6=v6) == {1300}
        assert "TOO_BIG" not in {reason for reason, _ in net.drops("pe1")}
        transport.abort()
        listener.close()

    play(story, "esp-gcm 256", "transport", "ip tcp adjust-mss 1300")


def test_E04_the_far_end_goes_and_nothing_takes_the_default_route() -> None:
    """Its prefix stays on the tunnel, and the tunnel stays up: what is sent there is dropped, and counted."""

    async def story(net: Pair) -> None:
        assert net.outer() <= {ESP, 17}
        net.cores[1].cut()
        await net.until(lambda: net.routers["pe1"].tables.sad.bundles == {}, within=20)
        assert not await net.reaches("red1", "10.1.2.10")
        await asyncio.sleep(20)
        assert net.established("pe1") == set()
        assert net.outer() <= {ESP, 17}, "nor BGP's attempts to come back"
        assert "10.255.0.0/30" in net.text("pe1", "show ip route")
        (row,) = [a for a in net.routers["pe1"].tables.adjacencies if a.key.interface == "Tunnel0"]
        assert not row.complete
        assert "no security association" in row.reason
        net.cores[1].heal()
        await net.connected("red1", "10.1.2.10", within=90)
        assert net.outer() <= {ESP, 17}

    play(story)


def test_E04_protection_taken_away_at_one_end_and_given_back() -> None:
    """And before that the other end's key is another one: whatever happens, nothing is in clear but what was told to be."""

    async def story(net: Pair) -> None:
        plain = net.texts["pe1"].replace(" tunnel protection ipsec profile p\n", "")
        net.apply("pe2", net.texts["pe2"].replace("pre-shared-key both-ends-have-it", "pre-shared-key another"))
        net.routers["pe1"].execute("clear crypto session")
        await asyncio.sleep(30)
        assert not await net.reaches("red1", "10.1.2.10")
        assert net.outer() <= {ESP, 17}
        net.apply("pe1", plain)
        await asyncio.sleep(5)
        # In clear now, as it is told; the other end refuses it and says nothing but ESP.
        assert not await net.reaches("red1", "10.1.2.10")
        assert not await net.reaches("pe1", "10.255.0.2", source="10.255.0.1")  # whether or not BGP has given up by now
        clear = [f for link in net.cores for f in link.frames if f.octets[12:14] == b"\x08\x00" and f.octets[23] == GRE]
        assert {frame.sender.partition(":")[0] for frame in clear} <= {"pe1", "core"}
        assert net.drops("pe2")["PROTECTED", "Tunnel0"] > 0

    play(story)
