"""What a VPN tells its customers when something is in the way: TTL, unreachables, MTU; into the right VRF and no other.

red1 - pe1 ==== mGRE, key 77 ==== pe2 - red2        1500 octets on every link: 1468 are left for a customer's packet
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stack.lab.memory import MemoryTestbed
from stack.net import TcpOptions
from stack.testing import run
from tests.scenario.beds import mgre, octets
from tests.scenario.memory import Net
from tests.scenario.test_mgre import Star, pe

ROOM = 1500 - 20 - 8 - 4
"""Outer IPv4, GRE with key, one label."""

ICMP, TCP = 1, 6

SPOKEN = 50_000
"""Octets that a TCP connection carries."""


def addressed(*, v6: bool) -> tuple[str, str]:
    """(red2, pe2's address before it)."""
    return ("2001:db8:2::10", "2001:db8:2::1") if v6 else ("10.1.2.10", "10.1.2.1")


async def two(one: str = "", other: str = "") -> Star:
    star = Star()
    await star.pair(one or pe(1, "192.0.2.2"), other or pe(2, "192.0.2.1"))
    return star


def on_attachment(text: str, line: str) -> str:
    return text.replace(" vrf forwarding Red\n", f" vrf forwarding Red\n {line}\n")


def test_rfc3443_3_1_traceroute_shows_every_hop_of_the_vpn() -> None:
    async def main() -> None:
        star = await two()
        red1 = star.net.world.node("red1")
        assert await red1.traceroute("10.1.2.10") == ["10.1.1.1", "10.1.2.1", "10.1.2.10"]
        assert await red1.traceroute("2001:db8:2::10") == ["2001:db8:1::1", "2001:db8:2::1", "2001:db8:2::10"]
        # The node itself is a destination like any other.
        assert await red1.traceroute("10.1.2.1") == ["10.1.1.1", "10.1.2.1"]
        await star.stop()

    run(main())


@pytest.mark.parametrize("v6", [False, True])
def test_rfc1812_5_2_7_1_network_and_host_unreachable(v6: bool) -> None:
    """No route: said by the PE before the customer. No such host: said by the far PE, back through the VPN."""

    async def main() -> None:
        star = await two()
        net, near = star.net, octets("2001:db8:1::1" if v6 else "10.1.1.1")
        nowhere = await net.ping("red1", "2001:db8:99::1" if v6 else "10.99.0.1")
        assert (nowhere.reason, nowhere.sender) == ("network unreachable", near)
        (nobody,) = await net.world.node("red1").ping("2001:db8:2::77" if v6 else "10.1.2.77", timeout=10)
        assert (nobody.reason, nobody.sender) == ("host unreachable", octets(addressed(v6=v6)[1]))
        await star.stop()

    run(main())


@pytest.mark.parametrize("target", ["10.1.2.10", "10.1.2.1", "2001:db8:2::10", "2001:db8:2::1"])
def test_rfc1122_3_2_2_1_port_unreachable(target: str) -> None:
    """From a customer's host, and from a PE's own address in the VRF, whose UDP is the host's behind the host port."""

    async def main() -> None:
        star = await two()
        link = star.net.world.between("pe1", "red1")
        link.frames.clear()
        socket = star.net.world.node("red1").udp()
        socket.send(b"anybody there?", octets(target), 33434)
        await asyncio.sleep(1)
        socket.close()
        code = (3, 3) if "." in target else (1, 4)
        at = 34 if "." in target else 54
        answers = [f.octets for f in link.frames if f.sender.startswith("pe1") and tuple(f.octets[at : at + 2]) == code]
        assert len(answers) == 1
        assert (answers[0][26:30] if "." in target else answers[0][22:38]) == octets(target)
        await star.stop()

    run(main())


def test_errors_go_into_the_right_vrf_only() -> None:
    """Two customers with the same addresses: what is said about Red's packets is never seen on Blue's links."""

    async def main() -> None:
        bed = await mgre()
        bed.forget()
        red1 = bed.world.node("red1")
        for destination in ("10.1.2.77", "10.99.0.1", "10.1.3.10"):
            await red1.ping(destination, timeout=10, ttl=2 if destination == "10.1.3.10" else 64)
        await red1.ping("10.1.3.10", size=1472, df=True)
        told = {name: errors(bed, name) for name in ("red1", "red2", "red3", "blue1", "blue2", "blue3")}
        assert told == {"red1": 4, "red2": 0, "red3": 0, "blue1": 0, "blue2": 0, "blue3": 0}
        await bed.stop()

    run(main())


def errors(bed: MemoryTestbed, link: str) -> int:
    """ICMP errors (types 3 and 11) on a link."""
    packets = [octets for octets in bed.frames(link) if octets[12:14] == b"\x08\0" and octets[23] == ICMP]
    return sum(packet[34] in (3, 11) for packet in packets)


def test_no_ip_unreachables_is_obeyed() -> None:
    """Network and host unreachable are silenced; time exceeded is none, and path MTU discovery goes on."""

    async def main() -> None:
        star = await two(on_attachment(pe(1, "192.0.2.2"), "no ip unreachables"))
        net, before = star.net, star.net.drops("pe1")["NO_ROUTE", "Ethernet0/1"]
        assert (await net.ping("red1", "10.99.0.1")).reason == "timeout"
        assert (await net.ping("red1", "10.1.2.10", size=1472, df=True)).reason == "fragmentation needed"
        assert (await net.ping("red1", "10.1.2.10", ttl=1)).reason == "time exceeded"
        assert net.drops("pe1")["NO_ROUTE", "Ethernet0/1"] == before + 1
        assert (await net.ping("red2", "10.99.0.1")).reason == "network unreachable", "pe2 was not told to be silent"
        await star.stop()

    run(main())


@pytest.mark.parametrize("v6", [False, True])
def test_rfc1191_rfc8201_4_what_does_not_fit_the_tunnel(v6: bool) -> None:
    """`fragmentation needed` and `packet too big` name what fits: 1500 less outer header, GRE, key and label."""

    async def main() -> None:
        star = await two()
        net, (target, _) = star.net, addressed(v6=v6)
        head = 48 if v6 else 28
        assert await net.reaches("red1", target, size=ROOM - head, df=True)
        answer = await net.ping("red1", target, size=ROOM + 1 - head, df=True)
        assert (answer.reason, answer.mtu) == ("fragmentation needed", ROOM)
        assert answer.sender == octets("2001:db8:1::1" if v6 else "10.1.1.1")
        await star.stop()

    run(main())


@pytest.mark.parametrize("v6", [False, True])
def test_rfc1191_rfc8201_4_what_does_not_fit_behind_the_far_pe(v6: bool) -> None:
    """Said by the far PE, out of its VRF, back through the tunnel."""

    async def main() -> None:
        star = await two(other=on_attachment(pe(2, "192.0.2.1"), "mtu 1300"))
        target, gateway = addressed(v6=v6)
        answer = await star.net.ping("red1", target, size=1400, df=True)
        assert (answer.reason, answer.mtu, answer.sender) == ("fragmentation needed", 1300, octets(gateway))
        assert await star.net.reaches("red1", target, size=1300 - (48 if v6 else 28), df=True)
        await star.stop()

    run(main())


def test_rfc791_2_3_what_may_be_fragmented_is_and_it_is_counted() -> None:
    async def main() -> None:
        star = await two()
        star.forget()
        assert await star.net.reaches("red1", "10.1.2.10", size=1472)
        counters = star.net.show("pe1", "show counters drops")["slow"]
        assert counters["FRAGMENTED"] == 1
        assert "TOO_BIG" not in str(star.net.drops("pe1"))
        assert max(len(f.octets) for f in star.links[1].frames) <= 14 + 1500
        await star.stop()

    run(main())


class Talker(asyncio.Protocol):
    """Sends what it is given, and waits for SPOKEN octets."""

    def __init__(self, says: bytes = b"") -> None:
        self.heard = 0
        self.says = says
        self.whole = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.says:
            transport.write(self.says)  # type: ignore[attr-defined]  # a Transport

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)
        if self.heard >= SPOKEN:
            self.whole.set()


def syn_mss(net: Net, here: str, there: str, *, v6: bool = False) -> set[int]:
    """The MSS of the SYNs that `here` sent to `there`."""
    found = set()
    at = 54 if v6 else 34
    for frame in net.world.between(here, there).frames:
        packet = frame.octets
        protocol = packet[20] if v6 else packet[23]
        same = packet[12:14] == (b"\x86\xdd" if v6 else b"\x08\0")
        if same and frame.sender.startswith(here) and protocol == TCP and packet[at + 13] & 2:
            assert packet[at + 20 : at + 22] == b"\2\4"
            found.add(int.from_bytes(packet[at + 22 : at + 24]))
    return found


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("clamped", [False, True])
def test_the_mss_is_clamped_when_told(clamped: bool, v6: bool) -> None:
    """`ip tcp adjust-mss`: SYNs of both directions are lowered (never raised), so that TCP needs no ICMP to go through."""

    async def main() -> None:
        one = pe(1, "192.0.2.2")
        star = await two(on_attachment(one, "ip tcp adjust-mss 1360") if clamped else one)
        net, size = star.net, 1500 - (60 if v6 else 40)
        target = octets(addressed(v6=v6)[0])
        server = Talker()
        listener = await net.world.node("red2").listen_tcp(lambda: server, TcpOptions(port=80))
        says = bytes(SPOKEN)
        transport, _ = await net.world.node("red1").connect_tcp(
            lambda: Talker(says), TcpOptions(remote=target, port=80)
        )
        async with asyncio.timeout(30):
            await server.whole.wait()
        assert syn_mss(net, "pe2", "red2", v6=v6) == {1360 if clamped else size}
        assert syn_mss(net, "pe1", "red1", v6=v6) == {1360 if clamped else size}
        counters: dict[str, Any] = net.show("pe1", "show counters drops")["slow"]
        assert counters.get("CLAMPED", 0) == (2 if clamped else 0)
        assert ("TOO_BIG", "Ethernet0/1") not in net.drops("pe1") or not clamped
        transport.abort()
        listener.close()
        await star.stop()

    run(main())
