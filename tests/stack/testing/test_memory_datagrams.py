"""UDP for IKE in memory, ESP in UDP beside it, and the NAT between two networks."""

from __future__ import annotations

import asyncio
import errno

import pytest

from stack.addr import format_address, parse_address
from stack.net import DatagramPort
from stack.nettypes import Datagram
from stack.testing import MemoryNat, MemoryNetwork, run
from stack.testing import _packets as p
from tests.stack.testing.test_memory_ports import drain
from tests.stack.testing.worlds import pair

A, B, OTHER = (parse_address(text) for text in ("192.0.2.1", "192.0.2.2", "192.0.2.9"))
MARKER = bytes(4)
ESP = 50


def heard(port: DatagramPort) -> list[Datagram]:
    got = []
    while True:
        try:
            got.append(port.receive())
        except BlockingIOError:
            return got


def test_datagrams_say_both_ends_and_go_from_the_address_that_is_asked_for() -> None:
    async def body() -> None:
        _, a, b = pair()
        b.address("eth0", "192.0.2.9/24")
        near, far = a.datagrams(500), b.datagrams(500)
        near.send(b"question", b"", OTHER, 500)
        await asyncio.sleep(0.1)
        assert heard(far) == [Datagram(b"question", A, 500, OTHER, 500)]
        far.send(b"answer", OTHER, A, 500)
        await asyncio.sleep(0.1)
        assert heard(near) == [Datagram(b"answer", OTHER, 500, A, 500)]
        with pytest.raises(OSError) as refused:
            far.send(b"forged", parse_address("192.0.2.77"), A, 500)
        assert refused.value.errno == errno.EINVAL

    run(body())


@pytest.mark.parametrize("size", [1, 1472, 1473, 20_000, 65_507])
def test_datagrams_are_fragmented_and_put_together(size: int) -> None:
    async def body() -> None:
        _, a, b = pair()
        far = b.datagrams(4500)
        await a.ping(B)  # only so many packets wait for a neighbour's MAC
        a.datagrams(4500).send(bytes(size), b"", B, 4500)
        await asyncio.sleep(0.1)
        assert [len(each.octets) for each in heard(far)] == [size]

    run(body())


def test_a_listener_is_called_while_something_is_left() -> None:
    async def body() -> None:
        _, a, b = pair()
        near, far = a.datagrams(500), b.datagrams(500)
        got: list[bytes] = []
        far.listen(lambda: got.append(far.receive().octets))
        for number in range(3):
            near.send(bytes((number,)), b"", B, 500)
        await asyncio.sleep(0.1)
        assert got == [b"\0", b"\1", b"\2"]
        far.listen(None)
        near.send(b"later", b"", B, 500)
        await asyncio.sleep(0.1)
        assert [each.octets for each in heard(far)] == [b"later"]

    run(body())


def test_rfc3948_2_2_the_marker_decides_who_hears_a_datagram_to_4500() -> None:
    async def body() -> None:
        _, a, b = pair()
        ike, esp = b.datagrams(4500, marked=True), b.raw(p.UDP, port=4500)
        everything = b.raw(p.UDP)
        near, other = a.datagrams(4500), a.udp(4501)
        sent = [MARKER + b"ike", b"\0\0\0\1esp", b"\xff", b"\0\0\0", MARKER, b""]
        for octets in sent:
            near.send(octets, b"", B, 4500)
        other.send(b"another port", B, 4502)
        await asyncio.sleep(0.1)
        assert [each.octets for each in heard(ike)] == [MARKER + b"ike", MARKER]
        assert ike.drops == {"not marked": 4}
        assert [packet[28:] for packet in drain(esp)] == [b"\0\0\0\1esp", b"\xff", b"\0\0\0"]
        assert len(drain(everything)) == 7

    run(body())


def test_esp_in_udp_arrives_put_together_and_earns_no_answer_while_ike_is_away() -> None:
    async def body() -> None:
        _, a, b = pair()
        esp = b.raw(p.UDP, port=4500)
        near = a.udp(4500)
        near.send(b"\0\0\0\1" + bytes(4000), B, 4500)
        await asyncio.sleep(0.1)
        assert [len(packet) for packet in drain(esp)] == [4032]
        assert not near.errors
        esp.close()
        near.send(b"\0\0\0\1", B, 4500)
        await asyncio.sleep(0.1)
        assert list(near.errors) == ["port unreachable"]

    run(body())


def test_each_vrf_has_the_port_for_itself() -> None:
    """The far side of a VRF's host port is the packet path: here, the test."""

    async def body() -> None:
        _, a, _ = pair()
        doors = {vrf: a.host_port(vrf, index, 1500) for index, vrf in enumerate(("", "red", "blue"), 1)}
        for vrf in ("red", "blue"):
            a.host.add_address(doors[vrf].name, OTHER, 32)
        ports = {vrf: a.datagrams(500, vrf=vrf) for vrf in doors}
        packet = p.build_ip(B, OTHER, p.UDP, p.build_udp(B, OTHER, 501, 500, b"question"))
        doors["red"].send(packet)
        await asyncio.sleep(0.1)
        assert {vrf: heard(port) for vrf, port in ports.items()} == {
            "": [], "blue": [], "red": [Datagram(b"question", B, 501, OTHER, 500)]
        }  # fmt: skip
        ports["blue"].send(b"answer", OTHER, B, 501)
        await asyncio.sleep(0.1)
        assert drain(doors["red"]) == []
        (sent,) = drain(doors["blue"])
        assert (sent[12:16], sent[16:20], sent[28:]) == (OTHER, B, b"answer")
        refusals = {"red": errno.EADDRINUSE, "green": errno.ENODEV}
        for vrf, number in refusals.items():
            with pytest.raises(OSError) as refused:
                a.datagrams(500, vrf=vrf)
            assert refused.value.errno == number
        with pytest.raises(OSError) as refused:
            ports[""].send(b"", OTHER, B, 501)
        assert refused.value.errno == errno.EINVAL, "an address of another VRF"

    run(body())


def test_a_port_is_one_owners_and_free_at_once_after_close() -> None:
    async def body() -> None:
        world, a, _ = pair()
        first = a.datagrams(500)
        for again in (lambda: a.datagrams(500), lambda: a.udp(500)):
            with pytest.raises(OSError) as refused:
                again()
            assert refused.value.errno == errno.EADDRINUSE
        first.close()
        first.close()
        second = a.datagrams(500)
        with pytest.raises(OSError):
            first.receive()
        a.kill()
        with pytest.raises(OSError):
            second.send(b"", b"", B, 500)
        assert a.udp(500).port == 500
        with pytest.raises(OSError):
            a.datagrams(500)
        for wrong in (lambda: a.datagrams(0), lambda: a.datagrams(65536), lambda: a.raw(ESP, port=4500)):
            with pytest.raises(OSError) as refused:
                wrong()
            assert refused.value.errno == errno.EINVAL
        assert world.queue == 1024

    run(body())


def test_the_queue_is_bounded_and_icmp_errors_do_not_surface() -> None:
    async def body() -> None:
        _, a, b = pair(queue=3)
        near, far = a.datagrams(500), b.datagrams(500)
        for _ in range(5):
            near.send(b"x", b"", B, 500)
            await asyncio.sleep(0.01)
        assert len(heard(far)) == 3
        assert far.drops == {"queue full": 2}
        far.close()
        near.send(b"nobody", b"", B, 500)
        await asyncio.sleep(0.1)
        assert b.ip.drops == {"no UDP port": 1}
        assert heard(near) == []
        near.send(b"still", b"", B, 500)

    run(body())


# --- the NAT ---------------------------------------------------------------------------------------------------------

INSIDE, SECOND, OUTSIDE, FAR = (
    parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "198.51.100.1", "198.51.100.9")
)


def behind_nat(**options):
    """in(10.0.0.1), in2(10.0.0.2) ---- (10.0.0.254)nat(198.51.100.1) ---- (198.51.100.9)out"""
    world = MemoryNetwork()
    world.link(("in", "eth0"), ("nat", "eth0"), ("in2", "eth0"))
    world.link(("nat", "eth1"), ("out", "eth0"))
    for name, address in (("in", "10.0.0.1/24"), ("in2", "10.0.0.2/24"), ("out", "198.51.100.9/24")):
        world.node(name).address("eth0", address)
    for name in ("in", "in2"):
        world.node(name).route("0.0.0.0/0", "10.0.0.254")
    gate = world.node("nat")
    gate.address("eth0", "10.0.0.254/24")
    gate.address("eth1", "198.51.100.1/24")
    nat = MemoryNat(gate, inside="eth0", outside="eth1", **options)
    return world, nat, world.node("in"), world.node("in2"), world.node("out")


def test_rfc4787_4_udp_goes_out_under_the_nats_address_and_comes_back() -> None:
    async def body() -> None:
        _, nat, one, two, out = behind_nat()
        first, second, far = one.datagrams(4500), two.datagrams(4500), out.datagrams(4500)
        first.send(b"one", b"", FAR, 4500)
        await asyncio.sleep(0.1)
        second.send(b"two", b"", FAR, 4500)
        await asyncio.sleep(0.1)
        # the first keeps its port, the second gets another one
        assert heard(far) == [
            Datagram(b"one", OUTSIDE, 4500, FAR, 4500),
            Datagram(b"two", OUTSIDE, 40000, FAR, 4500),
        ]
        assert nat.mappings == ((INSIDE, 4500, 4500), (SECOND, 4500, 40000))
        far.send(b"to two", b"", OUTSIDE, 40000)
        far.send(b"to one" + bytes(3000), b"", OUTSIDE, 4500)
        await asyncio.sleep(0.1)
        assert heard(second) == [Datagram(b"to two", FAR, 4500, SECOND, 4500)]
        assert [(each.octets[:6], len(each.octets), each.destination) for each in heard(first)] == [
            (b"to one", 3006, INSIDE)
        ]

    run(body())


def test_fragments_pass_the_nat_both_ways() -> None:
    async def body() -> None:
        _, _, one, _, out = behind_nat()
        first, far = one.datagrams(500), out.datagrams(500)
        first.send(bytes(9000), b"", FAR, 500)
        await asyncio.sleep(0.1)
        (big,) = heard(far)
        assert (len(big.octets), big.source) == (9000, OUTSIDE)

    run(body())


def test_strangers_and_other_ports_do_not_get_in() -> None:
    async def body() -> None:
        _, nat, one, _, out = behind_nat()
        first, far, stranger = one.datagrams(500), out.datagrams(500), out.datagrams(501)
        far.send(b"before", b"", OUTSIDE, 500)
        first.send(b"hello", b"", FAR, 500)
        await asyncio.sleep(0.1)
        stranger.send(b"from another port", b"", OUTSIDE, 500)
        far.send(b"to another port", b"", OUTSIDE, 501)
        await asyncio.sleep(0.1)
        assert heard(first) == []
        assert nat.drops == {"nobody inside spoke to them": 1}
        assert nat.node.ip.drops == {"no UDP port": 2}

    run(body())


def test_a_rebind_gives_every_flow_another_port_and_what_comes_to_the_old_one_is_lost() -> None:
    async def body() -> None:
        _, nat, one, _, out = behind_nat()
        nat.node.address("eth1", "198.51.100.2/24")
        first, far = one.datagrams(4500), out.datagrams(4500)
        ports = []
        for address in ("", "", "198.51.100.2"):
            first.send(b"x", b"", FAR, 4500)
            await asyncio.sleep(0.1)
            (came,) = heard(far)
            ports.append((format_address(came.source), came.source_port))
            nat.rebind(address)
            far.send(b"to the old one", b"", came.source, came.source_port)
            await asyncio.sleep(0.1)
            assert heard(first) == []
        assert ports == [("198.51.100.1", 4500), ("198.51.100.1", 40001), ("198.51.100.1", 40003)]
        first.send(b"x", b"", FAR, 4500)
        await asyncio.sleep(0.1)
        (came,) = heard(far)
        assert format_address(came.source) == "198.51.100.2"
        far.send(b"back", b"", came.source, came.source_port)
        await asyncio.sleep(0.1)
        assert [each.octets for each in heard(first)] == [b"back"]

    run(body())


def test_a_mapping_ends_after_its_last_packet_from_inside() -> None:
    async def body() -> None:
        _, nat, one, _, out = behind_nat(idle=30.0)
        first, far = one.datagrams(500), out.datagrams(500)
        first.send(b"x", b"", FAR, 500)
        for _ in range(2):
            await asyncio.sleep(20)
            first.send(b"keepalive", b"", FAR, 500)
        await asyncio.sleep(20)
        far.send(b"in time", b"", OUTSIDE, 500)
        await asyncio.sleep(11)
        far.send(b"late", b"", OUTSIDE, 500)
        await asyncio.sleep(1)
        assert [each.octets for each in heard(first)] == [b"in time"]
        assert nat.mappings == ()

    run(body())


def test_mappings_are_bounded() -> None:
    async def body() -> None:
        _, nat, one, _, out = behind_nat(bound=2)
        far = out.datagrams(500)
        for port in (1001, 1002, 1003):
            one.datagrams(port).send(b"x", b"", FAR, 500)
            await asyncio.sleep(0.01)
        assert [mapping[1] for mapping in nat.mappings] == [1002, 1003]
        assert len(heard(far)) == 3

    run(body())


def test_esp_passes_for_one_inside_host_a_remote_end() -> None:
    async def body() -> None:
        _, nat, one, two, out = behind_nat(idle=60.0)
        far, first, second = out.raw(ESP), one.raw(ESP), two.raw(ESP)
        far.send(p.build_ip(FAR, OUTSIDE, ESP, b"\0\0\0\1 before"))
        await asyncio.sleep(0.1)
        first.send(p.build_ip(INSIDE, FAR, ESP, b"\0\0\0\1 mine"))
        second.send(p.build_ip(SECOND, FAR, ESP, b"\0\0\0\2 theirs"))
        await asyncio.sleep(0.1)
        assert [(packet[12:16], packet[20:]) for packet in drain(far)] == [(OUTSIDE, b"\0\0\0\1 mine")]
        assert nat.drops == {"ESP of a second host": 1}
        far.send(p.build_ip(FAR, OUTSIDE, ESP, b"\0\0\0\3 back"))
        await asyncio.sleep(0.1)
        assert [(packet[16:20], packet[20:]) for packet in drain(first)] == [(INSIDE, b"\0\0\0\3 back")]
        assert drain(second) == []
        await asyncio.sleep(60)
        second.send(p.build_ip(SECOND, FAR, ESP, b"\0\0\0\2 theirs"))
        await asyncio.sleep(0.1)
        assert [packet[20:] for packet in drain(far)] == [b"\0\0\0\2 theirs"]

    run(body())


def test_what_a_nat_does_not_know_is_dropped_and_counted() -> None:
    async def body() -> None:
        _, nat, one, _, out = behind_nat()
        one.raw(89).send(p.build_ip(INSIDE, FAR, 89, b"ospf"))
        await asyncio.sleep(0.1)
        assert nat.drops == {"neither UDP, ESP nor GRE": 1}
        assert out.ip.drops == {}
        (result,) = await out.ping("198.51.100.1")  # the node itself is still a host
        assert result.ok

    run(body())


def test_a_nat_gives_a_host_an_address_for_itself() -> None:
    async def body() -> None:
        public = parse_address("198.51.100.77")
        _, nat, one, two, out = behind_nat(static={"10.0.0.1": "198.51.100.77"})
        nat.node.address("eth1", "198.51.100.77/32")
        far, first = out.raw(47), one.raw(47)
        far.send(p.build_ip(FAR, public, 47, b"may call"))
        await asyncio.sleep(0.1)
        assert [(packet[16:20], packet[20:]) for packet in drain(first)] == [(INSIDE, b"may call")]
        first.send(p.build_ip(INSIDE, FAR, 47, b"gre"))
        two.raw(47).send(p.build_ip(SECOND, FAR, 47, b"other"))
        await asyncio.sleep(0.1)
        got = [(packet[12:16], packet[20:]) for packet in drain(far)]
        assert got == [(public, b"gre"), (OUTSIDE, b"other")]
        one.datagrams(500).send(b"ike", b"", FAR, 500)
        door = out.datagrams(500)
        await asyncio.sleep(0.1)
        assert heard(door) == [Datagram(b"ike", public, 500, FAR, 500)]
        assert nat.drops == {}

    run(body())
