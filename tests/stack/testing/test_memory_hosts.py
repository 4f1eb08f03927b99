"""Hosts and routers in memory: neighbours, ping, forwarding, ICMP, fragments, UDP, and the host's tables."""

from __future__ import annotations

import asyncio
import errno

import pytest

from stack.addr import Prefix, parse_address
from stack.net import HostRoute
from stack.testing import MemoryNetwork, run
from stack.testing import _packets as p
from tests.stack.testing.worlds import pair, routed

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")


def reasons(results) -> list[str]:
    return [result.reason for result in results]


@pytest.mark.parametrize("address", ["192.0.2.2", "2001:db8::2"])
def test_ping_a_neighbour(address) -> None:
    async def body() -> None:
        world, a, _ = pair()
        (first, second) = await a.ping(address, count=2)
        assert first.ok
        assert first.sender == parse_address(address)
        assert first.rtt == pytest.approx(0.004)  # ARP or ND there and back, then the echo
        assert second.rtt == pytest.approx(0.002)
        (frame, *_) = world.links[0].frames
        assert frame.ethertype == (p.ETHER_IPV6 if ":" in address else p.ETHER_ARP)

    run(body())


@pytest.mark.parametrize("address", ["10.0.2.1", "fd00:2::1"])
def test_ping_across_a_core_router(address) -> None:
    async def body() -> None:
        _, a, core, _ = routed()
        assert reasons(await a.ping(address, count=3)) == ["reply"] * 3
        assert await a.traceroute(address) == ["fd00:1::254" if ":" in address else "10.0.1.254", address]
        assert core.ip.drops["time exceeded"] == 1

    run(body())


@pytest.mark.parametrize("address", ["10.0.2.1", "fd00:2::1"])
def test_ping_with_loss_is_the_same_twice(address) -> None:
    async def body(seed: int) -> tuple[list[str], list[object]]:
        world, a, _, _ = routed(seed=seed, loss=0.1)
        results = await a.ping(address, count=200, interval=0.1)
        return [str(result) for result in results], world.frames()

    first, again, other = run(body(3)), run(body(3)), run(body(4))
    assert first == again
    assert first != other
    answered = sum("reply" in line for line in first[0])
    assert 200 * 0.9**4 * 0.8 < answered < 200 * 0.9**4 * 1.2


def test_a_router_that_does_not_forward() -> None:
    async def body() -> None:
        _, a, core, _ = routed()
        core.forwarding = False
        assert reasons(await a.ping("10.0.2.1")) == ["timeout"]
        assert core.ip.drops["for another host"] == 1
        assert reasons(await a.ping("10.0.2.254")) == ["reply"]  # the router's own address on its far side

    run(body())


def test_why_there_is_no_answer() -> None:
    async def body() -> None:
        world, a, core, b = routed()
        assert [str(each) for each in await a.ping("10.9.9.9")] == ["1: network unreachable from 10.0.1.254"]
        assert [str(each) for each in await a.ping("fd99::1")] == ["1: network unreachable from fd00:1::254"]
        assert [str(each) for each in await a.ping("10.0.2.77", timeout=9)] == ["1: host unreachable from 10.0.2.254"]
        assert [str(each) for each in await a.ping("10.0.1.77", timeout=9)] == ["1: host unreachable"]
        assert [str(each) for each in await a.ping("10.0.2.1", ttl=1)] == ["1: time exceeded from 10.0.1.254"]
        assert reasons(await b.ping("10.0.1.1", source="10.0.2.1")) == ["reply"]
        world.between("core", "b").cut()
        assert reasons(await a.ping("10.0.2.1")) == ["timeout"]
        lonely = world.node("lonely")
        assert reasons(await lonely.ping("10.0.2.1")) == ["network unreachable"]
        assert reasons(await lonely.ping("127.0.0.1")) == ["reply"]
        assert reasons(await core.ping("10.0.1.254")) == ["reply"]

    run(body())


def test_neighbours_that_do_not_answer_are_asked_three_times() -> None:
    async def body() -> None:
        world, a, _ = pair()
        await a.ping("192.0.2.9", timeout=10)
        asked = [frame.time for frame in world.links[0].frames if frame.ethertype == p.ETHER_ARP]
        assert asked == [0.0, 1.0, 2.0]

    run(body())


def test_a_neighbour_is_asked_again_after_a_minute_and_a_new_mac_is_taken() -> None:
    async def body() -> None:
        world, a, b = pair()
        link = world.links[0]
        await a.ping(B, count=2)
        await asyncio.sleep(61)
        link.frames.clear()
        assert reasons(await a.ping(B, count=2)) == ["reply", "reply"]  # the old entry serves meanwhile
        assert (
            sum(frame.ethertype == p.ETHER_ARP for frame in link.frames) == 2
        )  # and a's question refreshes b's entry too
        b.host.ethernet("eth0").mac = bytes.fromhex("02aaaaaaaaaa")
        assert reasons(await a.ping(B)) == ["timeout"]
        await asyncio.sleep(61)
        await a.ping(B)
        assert reasons(await a.ping(B)) == ["reply"]

    run(body())


def test_mtu_fragmentation_needed_and_packet_too_big() -> None:
    async def body() -> None:
        world, a, core, _ = routed()
        core.host.set_link("eth1", up=True, mtu=1300)
        (big,) = await a.ping("10.0.2.1", size=1400, df=True)
        assert str(big) == "1: fragmentation needed, MTU 1300 from 10.0.1.254"
        (told,) = await a.ping("10.0.2.1", size=1400, df=True)
        assert str(told) == "1: fragmentation needed, MTU 1300"  # by the own host now: it has learnt
        assert reasons(await a.ping("10.0.2.1", size=1272, df=True)) == ["reply"]
        assert reasons(await a.ping("10.0.2.1", size=1400)) == ["reply"]  # in pieces, put together by b
        (six,) = await a.ping("fd00:2::1", size=1400)
        assert str(six) == "1: fragmentation needed, MTU 1300 from fd00:1::254"
        assert reasons(await a.ping("fd00:2::1", size=1400)) == ["reply"]  # from the source on in pieces
        (local,) = await a.ping("10.0.2.1", size=1600, df=True)
        assert local.reason == "fragmentation needed"
        world.between("a", "core").mtu = 1000  # a black hole: nobody says a word
        assert reasons(await a.ping("10.0.2.1", size=1200)) == ["timeout"]
        assert world.between("a", "core").fates["too big"] == 1

    run(body())


@pytest.mark.parametrize("address", ["10.0.2.1", "fd00:2::1"])
def test_fragments_in_any_order_and_with_losses(address) -> None:
    async def body() -> None:
        _, a, _, b = routed(seed=5, reorder=0.5, loss=0.01)
        results = await a.ping(address, size=8000, count=60)
        assert 20 < sum(result.ok for result in results) < 60
        assert not b.ip.drops["malformed"]

    run(body())


def test_reassembly_is_bounded_and_refuses_overlaps() -> None:
    async def body() -> None:
        world, a, b = pair()
        raw = a.raw(253)
        await a.ping(B)
        whole = p.build_ip(A, B, 253, bytes(1400))

        def piece(at: int, size: int, *, more: bool, ident: int) -> bytes:
            packet = whole[:20] + whole[20 + at : 20 + at + size]
            return p.reheader(packet, fragment=(0x2000 if more else 0) | at // 8, ident=ident)

        seen = b.raw(253)
        for ident in range(1, 301):
            raw.send(piece(0, 800, more=True, ident=ident))  # whose second half never comes
        await asyncio.sleep(1)
        assert len(b.ip._pieces._sets) == 64
        raw.send(piece(0, 800, more=True, ident=999))
        raw.send(piece(400, 1000, more=False, ident=999))  # RFC 5722: an overlap ends the set
        raw.send(piece(800, 600, more=False, ident=300))  # the newest set is still there
        raw.send(piece(800, 600, more=False, ident=1))  # the oldest is not
        await asyncio.sleep(1)
        buffer = bytearray(2000)
        assert seen.recv_into(buffer) == 1420
        assert buffer[6:8] == b"\0\0"
        with pytest.raises(BlockingIOError):
            seen.recv_into(buffer)
        await asyncio.sleep(31)
        raw.send(piece(0, 800, more=True, ident=1))
        await asyncio.sleep(1)
        assert len(b.ip._pieces._sets) == 1
        assert world.links[0].fates["carried"] > 300

    run(body())


@pytest.mark.parametrize(("here", "there"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
def test_udp_and_port_unreachable(here, there) -> None:
    async def body() -> None:
        _, a, b = pair()
        server, client = b.udp(500), a.udp()
        client.send(b"hello" * 600, parse_address(there), 500)
        datagram = await server.receive()
        assert (datagram.octets, datagram.source, datagram.port) == (b"hello" * 600, parse_address(here), client.port)
        server.send(b"back", datagram.source, datagram.port)
        assert (await client.receive()).octets == b"back"
        client.send(b"?", parse_address(there), 501)
        await asyncio.sleep(1)
        assert list(client.errors) == ["port unreachable"]
        with pytest.raises(OSError, match="in use"):
            b.udp(500)
        server.close()
        b.udp(500)
        with pytest.raises(OSError, match="descriptor"):
            server.send(b"", A, 1)

    run(body())


def test_a_protocol_that_nobody_speaks_is_unreachable_and_a_connected_raw_port_hears_it_once() -> None:
    """RFC 1122 3.2.2.1; data-plane trap 3: with no raw socket bound, the kernel answers GRE with ICMP."""

    async def body() -> None:
        _, a, b = pair()
        gre = a.raw(47, remote=B)
        packet = p.build_ip(A, B, 47, b"\0\0\x88\x47rest")
        gre.send(packet)
        await asyncio.sleep(1)
        assert b.ip.drops["unknown protocol"] == 1
        with pytest.raises(OSError) as caught:
            gre.send(packet)
        assert caught.value.errno == errno.ENOPROTOOPT
        listening = b.raw(47)
        gre.send(packet)  # the error was told once
        await asyncio.sleep(1)
        buffer = bytearray(100)
        size = listening.recv_into(buffer)
        assert size == len(packet)
        assert buffer[20:size] == packet[20:]
        assert b.ip.drops["unknown protocol"] == 1

    run(body())


def test_raw_fills_in_what_the_kernel_fills_in() -> None:
    async def body() -> None:
        _, a, b = pair()
        listening, sending = b.raw(47), a.raw(47)
        broken = bytearray(p.build_ip(bytes(4), B, 47, b"payload", ttl=9))
        broken[2:4] = broken[10:12] = b"\xee\xee"
        sending.send(broken)
        await asyncio.sleep(1)
        buffer = bytearray(100)
        size = listening.recv_into(buffer)
        ip = p.parse_ip(bytes(buffer[:size]))
        assert (ip.source, ip.ttl, ip.payload) == (A, 9, b"payload")
        assert ip.ident
        for wrong, number in (
            (b"short", errno.EINVAL),
            (p.build_ip(A, b"\x09\x09\x09\x09", 47, b""), errno.ENETUNREACH),
            (p.build_ip(A, B, 47, bytes(1500)), errno.EMSGSIZE),
        ):
            with pytest.raises(OSError) as caught:
                sending.send(wrong)
            assert caught.value.errno == number
        with pytest.raises(OSError) as caught:
            a.raw(47, remote=B).send(p.build_ip(A, A, 47, b""))
        assert caught.value.errno == errno.EINVAL

    run(body())


def test_the_tables_refuse_as_a_kernel_does() -> None:
    _, a, _ = pair()
    host = a.host
    gone = Prefix.parse("198.51.100.0/24")
    for attempt, number in (
        (lambda: host.add_address("eth0", A, 24), errno.EEXIST),
        (lambda: host.add_address("eth9", A, 24), errno.ENODEV),
        (lambda: host.add_address("eth0", b"\1\2\3", 24), errno.EINVAL),
        (lambda: host.remove_address("eth0", B, 24), errno.EADDRNOTAVAIL),
        (lambda: host.add_route(HostRoute(gone, via=parse_address("203.0.113.1"))), errno.ENETUNREACH),
        (lambda: host.add_route(HostRoute(Prefix.parse("192.0.2.0/24"), via=B)), errno.EEXIST),
        (lambda: host.remove_route(HostRoute(gone, via=B)), errno.ESRCH),
        (lambda: host.set_link("eth0", up=True, mtu=10), errno.EINVAL),
        (lambda: host.drop_ingress("lo", vlans=[None]), errno.EOPNOTSUPP),
    ):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == number


def test_routes_say_which_are_ours() -> None:
    _, a, _ = pair()
    a.route("10.0.0.0/8", "192.0.2.2")
    ours = HostRoute(Prefix.parse("10.1.0.0/16"), via=B, device="eth0")
    a.host.add_route(ours)
    listed = list(a.host.routes())
    assert (HostRoute(Prefix.parse("192.0.2.0/24"), device="eth0", source=A), False) in listed
    assert (HostRoute(Prefix.parse("10.0.0.0/8"), via=B, device="eth0"), False) in listed
    assert [route for route, mine in listed if mine] == [ours]
    a.host.remove_route(ours)
    assert not [route for route, mine in a.host.routes() if mine]


def test_the_longest_prefix_wins_and_a_dead_link_does_not() -> None:
    async def body() -> None:
        world = MemoryNetwork()
        for number in (1, 2):
            link = world.link(("a", f"eth{number}"), (f"r{number}", "eth0"))
            world.node("a").address(f"eth{number}", f"10.0.{number}.1/24")
            router = world.node(f"r{number}")
            router.address("eth0", f"10.0.{number}.254/24")
            router.address("lo", "198.51.100.1/32")
            router.route("0.0.0.0/0", f"10.0.{number}.1")
        a = world.node("a")
        a.route("198.51.100.0/24", "10.0.1.254")
        a.route("198.51.100.1/32", "10.0.2.254")
        assert reasons(await a.ping("198.51.100.1")) == ["reply"]
        assert {frame.link for frame in world.frames()} == {link.name}
        link.unplug()
        assert reasons(await a.ping("198.51.100.1")) == ["reply"]
        assert {frame.link for frame in world.frames()} == {each.name for each in world.links}
        assert world.links[0].frames

    run(body())


def test_watch_tells_of_devices_and_addresses_once_a_turn() -> None:
    async def body() -> None:
        world, a, _ = pair()
        told: list[tuple[bool, int]] = []
        a.host.watch(lambda: told.append(next((each.up, each.mtu) for each in a.host.devices() if each.name == "eth0")))
        a.host.add_address("eth0", b"\x0a\0\0\1", 8)
        a.host.set_link("eth0", up=True, mtu=1400)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told == [(True, 1400)]
        world.links[0].unplug()
        world.links[0].unplug()
        await asyncio.sleep(1)
        assert told[1:] == [(False, 1400)]
        world.links[0].heal()
        await asyncio.sleep(1)
        a.host.watch(None)
        a.host.set_link("eth0", up=False)
        await asyncio.sleep(1)
        assert told[2:] == [(True, 1400)]

    run(body())


def test_a_hub_and_a_partition() -> None:
    async def body() -> None:
        world = MemoryNetwork()
        world.link(*((name, "eth0") for name in "abc"))
        world.link(("a", "eth1"), ("b", "eth1"))
        for number, name in enumerate("abc", 1):
            world.node(name).address("eth0", f"192.0.2.{number}/24")
        a = world.node("a")
        assert reasons(await a.ping("192.0.2.2") + await a.ping("192.0.2.3")) == ["reply", "reply"]
        world.partition({"a"})
        assert reasons(await a.ping("192.0.2.2")) == ["timeout"]
        world.heal()
        assert reasons(await a.ping("192.0.2.2")) == ["reply"]
        with pytest.raises(LookupError):
            world.between("a", "b")
        with pytest.raises(ValueError, match="has a link already"):
            world.link(("a", "eth0"), ("d", "eth0"))

    run(body())


def test_icmp_errors_are_not_answered_with_icmp_errors() -> None:
    """RFC 1122 3.2.2, RFC 4443 2.4 (e): neither errors, nor later fragments, nor multicast are complained about."""

    async def body() -> None:
        world, a, core, _ = routed()
        await a.ping("10.0.2.1")
        about = p.parse_ip(p.build_ip(parse_address("10.9.9.9"), parse_address("10.8.8.8"), 17, bytes(8)))
        error = p.build_trouble(parse_address("10.0.1.1"), about, p.Trouble.PORT, 0)
        sent = p.build_ip(parse_address("10.0.1.1"), parse_address("10.9.9.9"), 1, error)
        fragment = p.reheader(
            p.build_ip(parse_address("10.0.1.1"), parse_address("10.9.9.9"), 17, bytes(64)), fragment=8
        )
        raw = a.raw(1)
        raw.send(sent)
        raw.send(fragment)
        await asyncio.sleep(1)
        assert core.ip.drops["no route"] == 2
        assert not [
            frame for frame in world.between("a", "core").frames if frame.sender == "core:eth0" and frame.time > 0.1
        ]

    run(body())


def test_hostile_octets_are_counted_and_nothing_else() -> None:
    async def body() -> None:
        world, a, b = pair(seed=9)
        frames = a.frames("eth0", None)
        await a.ping(B)
        good = [frame.octets for frame in world.links[0].frames if frame.sender == "a:eth0"]
        dice = a.entropy
        mac_b, mac_a = (node.host.ethernet("eth0").mac for node in (b, a))
        for number in range(2000):
            if number % 2:
                octets = bytearray(good[number % len(good)])
                octets[14 + dice(1)[0] % (len(octets) - 14)] ^= dice(1)[0] or 1
                del octets[14 + dice(1)[0] :]
            else:
                kind = (p.ETHER_IPV4, p.ETHER_IPV6, p.ETHER_ARP, p.ETHER_VLAN)[number // 2 % 4]
                octets = p.build_frame(
                    mac_b, mac_a, kind, bytes((0x45 if kind == p.ETHER_IPV4 else 0x60,)) + dice(number % 90)
                )
            frames.send(octets)
            await asyncio.sleep(0.0005)
        await asyncio.sleep(5)
        assert b.ip.drops["malformed"] > 100
        assert reasons(await a.ping(B)) == ["reply"]

    run(body())
