"""Spoofed labels and tunnel packets, end to end: each is dropped and counted by its reason, and never seen by any host.

RFC 4364 13.1: "a packet with a label that was not given to the neighbour must not be accepted"; RFC 4023 8.2: the source of
a tunnel packet is checked. What is injected carries MARK; after every story the links of all customers are searched for it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stack.addr import Afi, VrfFec
from stack.events import SCOPE_MGRE, LabelBound, LabelRequest, LabelWanted
from stack.lab.memory import MemoryTestbed
from stack.testing import run
from stack.wire import internet_checksum
from tests.scenario.beds import drops, mgre, octets

MARK = b"spoofed, and to be seen nowhere"
RED, BLUE = "Customer Red", "Customer Blue"
KEY = struct.pack(">HHI", 0x2000, 0x8847, 1234)
PE1, PE2, STRANGER = octets("192.0.2.1"), octets("192.0.2.2"), octets("198.51.100.10")


def ipv4(source: bytes, destination: bytes, payload: bytes, protocol: int = 17, ttl: int = 64) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, ttl, protocol, 0, source, destination)
    return head[:10] + internet_checksum(head).to_bytes(2) + head[12:] + payload


def ipv6(destination: str) -> bytes:
    return struct.pack(">IHBB16s16s", 6 << 28, len(MARK), 59, 64, octets("2001:db8:2::10"), octets(destination)) + MARK


UDP = ipv4(octets("10.1.2.10"), octets("10.1.1.10"), struct.pack(">HHHH", 9, 9, 8 + len(MARK), 0) + MARK)
"""What a customer's host of pe1 would gladly take."""


DELIVERED = b"\x08\0\x45\0" + UDP[2:8]
"""How a frame with it goes on behind the MAC addresses: an error message that quotes it does not."""


def label(value: int, *, bottom: bool = True, ttl: int = 64) -> bytes:
    return (value << 12 | bottom << 8 | ttl).to_bytes(4)


def label_of(bed: MemoryTestbed, node: str, vrf: str, version: int = 4) -> int:
    """A label that the node gave away for its customer's network."""
    rows = bed.routers[node].execute("show mpls forwarding-table").value
    sort = "." if version == 4 else ":"
    return next(int(row["local-label"]) for row in rows if row["vrf"] == vrf and sort in row["fec"].partition("/")[0])


def mac(bed: MemoryTestbed, node: str, device: str) -> bytes:
    return bytes(bed.world.node(node).host.nic(device).mac)


def put(bed: MemoryTestbed, sender: str, device: str, target: bytes, ethertype: int, payload: bytes) -> None:
    """A frame out of a device of any node, as whoever sits there could send it."""
    nic = bed.world.node(sender).host.nic(device)
    assert nic.wire is not None
    nic.wire(target + nic.mac + ethertype.to_bytes(2) + payload)


def customer_sends(bed: MemoryTestbed, ethertype: int, payload: bytes) -> None:
    put(bed, "red1", "eth0", mac(bed, "pe1", "e0-1"), ethertype, payload)


def neighbour_sends(bed: MemoryTestbed, ethertype: int, payload: bytes) -> None:
    """From pe2, over the direct link, on which pe1 takes labelled frames."""
    put(bed, "pe2", "e0-3", mac(bed, "pe1", "e0-3"), ethertype, payload)


def core_sends(bed: MemoryTestbed, packet: bytes) -> None:
    put(bed, "core", "eth1", mac(bed, "pe1", "e0-0"), 0x0800, packet)


def tunnelled(payload: bytes, source: bytes = PE2, gre: bytes = KEY, protocol: int = 47) -> bytes:
    return ipv4(source, PE1, gre + payload, protocol)


def seen_by_customers(bed: MemoryTestbed, wanted: bytes = MARK) -> set[str]:
    """The links to customers on which a PE sent frames with these octets in them."""
    return {
        name
        for name, link in bed._links.items()
        if any(wanted in frame.octets and frame.sender.startswith("pe") for frame in link.frames)
    } - {"pe1-core", "pe2-core", "pe3-core", "pe1-pe2"}


def grown(before: dict[Any, int], after: dict[Any, int]) -> dict[Any, int]:
    return {what: count - before.get(what, 0) for what, count in after.items() if count != before.get(what, 0)}


def story(tell: Callable[[MemoryTestbed], Awaitable[None]]) -> None:
    async def main() -> None:
        bed = await mgre()
        bed.forget()
        await tell(bed)
        assert seen_by_customers(bed) == set()
        # And everybody who should be served still is.
        for host in ("red1", "blue1"):
            assert (await bed.ping(host, "10.1.2.10", count=1, size=100))[0].ok
        await bed.stop()

    run(main())


async def drop_of(bed: MemoryTestbed, inject: Callable[[], None]) -> tuple[str, str]:
    """The one drop at pe1 that an injected packet makes."""
    before = drops(bed, "pe1")
    inject()
    await asyncio.sleep(0.2)
    more = grown(before, drops(bed, "pe1"))
    ((reason, interface),) = more
    assert list(more.values()) == [1], more
    return reason, interface


def test_the_way_in_is_right_when_nothing_is_spoofed() -> None:
    """The same octets with nothing wrong about them do arrive: so it is the fault that is dropped."""

    async def main() -> None:
        bed = await mgre()
        bed.forget()
        core_sends(bed, tunnelled(label(label_of(bed, "pe1", RED)) + UDP))
        await asyncio.sleep(0.2)
        assert seen_by_customers(bed, DELIVERED) == {"red1"}
        bed.forget()
        neighbour_sends(bed, 0x8847, label(label_of(bed, "pe1", BLUE)) + UDP)
        await asyncio.sleep(0.2)
        assert seen_by_customers(bed, DELIVERED) == {"blue1"}
        await bed.stop()

    run(main())


@pytest.mark.parametrize("whose", [RED, BLUE])
def test_V07_rfc4364_13_1_a_labelled_frame_from_a_customer(whose: str) -> None:
    """Even with the label of its own VRF: it was never given one."""

    async def tell(bed: MemoryTestbed) -> None:
        frame = label(label_of(bed, "pe1", whose)) + UDP
        dropped = await drop_of(bed, lambda: customer_sends(bed, 0x8847, frame))
        assert dropped == ("LABEL_INTERFACE", "Ethernet0/1")

    story(tell)


def test_V07_rfc4364_13_1_a_customers_tunnel_packet_is_no_tunnel_packet() -> None:
    """GRE with the right key, label and source, but out of a VRF: it is the customer's own packet to a host nobody has."""

    async def tell(bed: MemoryTestbed) -> None:
        packet = tunnelled(label(label_of(bed, "pe1", BLUE)) + UDP)
        before = drops(bed, "pe1")
        customer_sends(bed, 0x0800, packet)
        await asyncio.sleep(0.2)
        # The second is the answer that there is no route, which finds no way to the source that was made up.
        assert grown(before, drops(bed, "pe1")) == {("NO_ROUTE", "Ethernet0/1"): 1, ("NO_ROUTE", f"host {RED}"): 1}
        own = ipv4(PE2, octets("10.1.1.1"), KEY + label(label_of(bed, "pe1", BLUE)) + UDP, 47)
        assert await drop_of(bed, lambda: customer_sends(bed, 0x0800, own)) == ("NESTED", "Ethernet0/1")

    story(tell)


def test_V07_rfc3031_3_18_a_label_that_was_never_given() -> None:
    async def tell(bed: MemoryTestbed) -> None:
        frame = label(99_999) + UDP
        assert await drop_of(bed, lambda: core_sends(bed, tunnelled(frame))) == ("LABEL_UNKNOWN", "Tunnel0")
        assert await drop_of(bed, lambda: neighbour_sends(bed, 0x8847, frame)) == ("LABEL_UNKNOWN", "Ethernet0/3")

    story(tell)


def test_V07_rfc4023_8_a_label_outside_its_scope() -> None:
    """A label that a client wants for mGRE alone is dropped when it comes by Ethernet, and the LSP's when it comes by mGRE;
    when a second client wants the same FEC by Ethernet as well, the scope is the union."""

    async def tell(bed: MemoryTestbed) -> None:
        seat = bed.routers["pe1"].bus.attach("test")
        fec = VrfFec(RED, Afi.IPV4)
        seat.publish(LabelWanted, {fec: LabelRequest(frozenset({SCOPE_MGRE}), vrf=RED)})
        await asyncio.sleep(0.1)
        given = bed.routers["pe1"].bus.rows(LabelBound)["mfi"][fec].label
        assert given is not None
        frame = label(given) + UDP
        assert await drop_of(bed, lambda: neighbour_sends(bed, 0x8847, frame)) == ("LABEL_SCOPE", "Ethernet0/3")
        seat.publish(LabelWanted, {fec: None})
        # 502 is pe2's transport label for Ethernet; pe1 sends it in the tunnel.
        before = drops(bed, "pe2")
        stack = label(502, bottom=False) + label(label_of(bed, "pe2", RED)) + UDP
        put(bed, "core", "eth2", mac(bed, "pe2", "e0-0"), 0x0800, ipv4(PE1, PE2, KEY + stack, 47))
        await asyncio.sleep(0.2)
        assert grown(before, drops(bed, "pe2")) == {("LABEL_SCOPE", "Tunnel0"): 1}

    story(tell)


GRE_FAULTS = {
    "version 1": (struct.pack(">HHI", 0x2001, 0x8847, 1234), "GRE_VERSION"),
    "version 7": (struct.pack(">HHI", 0x2007, 0x8847, 1234), "GRE_VERSION"),
    "reserved bit 1": (struct.pack(">HHI", 0x6000, 0x8847, 1234), "GRE_RESERVED"),
    "reserved bit 5": (struct.pack(">HHI", 0x2400, 0x8847, 1234), "GRE_RESERVED"),
    "checksum wrong": (struct.pack(">HHHHI", 0xA000, 0x8847, 0xBAD1, 0, 1234), "GRE_CHECKSUM"),
    "key missing": (struct.pack(">HH", 0, 0x8847), "GRE_KEY"),
    "key wrong": (struct.pack(">HHI", 0x2000, 0x8847, 4321), "GRE_KEY"),
    "header cut short": (b"\x20\0", None),
}


@pytest.mark.parametrize("fault", sorted(GRE_FAULTS))
def test_T01_rfc2784_2_3_rfc2890_2_1_gre_that_breaks_a_rule(fault: str) -> None:
    async def tell(bed: MemoryTestbed) -> None:
        head, reason = GRE_FAULTS[fault]
        inside = b"" if reason is None else label(label_of(bed, "pe1", RED)) + UDP
        dropped = await drop_of(bed, lambda: core_sends(bed, tunnelled(inside, gre=head)))
        assert dropped == (reason or "GRE_HEADER", "Tunnel0")

    story(tell)


def test_T01_rfc2890_2_2_an_old_sequence_number() -> None:
    """ "A packet with a sequence number that is not greater than the last one is dropped silently": the second is late."""

    async def tell(bed: MemoryTestbed) -> None:
        def numbered(number: int, payload: bytes) -> bytes:
            return tunnelled(payload, gre=struct.pack(">HHII", 0x3000, 0x8847, 1234, number))

        good = label(label_of(bed, "pe1", RED)) + UDP.replace(MARK, bytes(len(MARK)))
        core_sends(bed, numbered(7, good))
        await asyncio.sleep(0.1)
        bad = label(label_of(bed, "pe1", RED)) + UDP
        for number in (7, 6):
            assert await drop_of(bed, lambda n=number: core_sends(bed, numbered(n, bad))) == ("GRE_SEQUENCE", "Tunnel0")  # type: ignore[misc]

    story(tell)


def test_T02_rfc4023_8_2_right_key_right_label_unknown_source() -> None:
    async def tell(bed: MemoryTestbed) -> None:
        packet = tunnelled(label(label_of(bed, "pe1", RED)) + UDP, source=STRANGER)
        assert await drop_of(bed, lambda: core_sends(bed, packet)) == ("UNKNOWN_ENDPOINT", "Tunnel0")

    story(tell)


def test_T02_rfc4023_8_2_an_endpoint_that_went_is_unknown_at_once() -> None:
    async def tell(bed: MemoryTestbed) -> None:
        await bed.kill("pe3")
        await asyncio.sleep(2)
        packet = tunnelled(label(label_of(bed, "pe1", RED)) + UDP, source=octets("192.0.2.3"))
        assert await drop_of(bed, lambda: core_sends(bed, packet)) == ("UNKNOWN_ENDPOINT", "Tunnel0")

    story(tell)


def test_T02_a_tunnel_packet_to_another_address_of_ours() -> None:
    """Only the transport source is an end of the tunnel (the profile's rule; the link's own address is not)."""

    async def tell(bed: MemoryTestbed) -> None:
        packet = ipv4(PE2, octets("198.51.100.5"), KEY + label(label_of(bed, "pe1", RED)) + UDP, 47)
        assert await drop_of(bed, lambda: core_sends(bed, packet)) == ("NOT_OURS", "gre")

    story(tell)


def test_T02_rfc4023_3_mpls_in_ip_where_only_gre_is_configured() -> None:
    async def tell(bed: MemoryTestbed) -> None:
        packet = tunnelled(label(label_of(bed, "pe1", RED)) + UDP, gre=b"", protocol=137)
        assert await drop_of(bed, lambda: core_sends(bed, packet)) == ("TUNNEL_PROTOCOL", "Tunnel0")

    story(tell)


def test_T07_rfc4023_3_mpls_multicast() -> None:
    async def tell(bed: MemoryTestbed) -> None:
        inside = label(label_of(bed, "pe1", RED)) + UDP
        multicast = struct.pack(">HHI", 0x2000, 0x8848, 1234)
        assert await drop_of(bed, lambda: core_sends(bed, tunnelled(inside, gre=multicast))) == (
            "LABEL_MULTICAST",
            "Tunnel0",
        )
        dropped = await drop_of(bed, lambda: customer_sends(bed, 0x8848, inside))
        assert dropped == ("LABEL_MULTICAST", "Ethernet0/1")
        # On a link that stays with the host, only EtherType 0x8847 is ours; the host itself speaks no MPLS.
        before = drops(bed, "pe1")
        neighbour_sends(bed, 0x8848, inside)
        await asyncio.sleep(0.2)
        assert grown(before, drops(bed, "pe1")) == {}

    story(tell)


def test_T07_rfc4364_ipv6_under_an_ipv4_label_and_the_other_way_round() -> None:
    async def tell(bed: MemoryTestbed) -> None:
        four, six = label_of(bed, "pe1", RED), label_of(bed, "pe1", RED, 6)
        for packet in (label(four) + ipv6("2001:db8:1::10"), label(six) + UDP):
            assert await drop_of(bed, lambda p=packet: core_sends(bed, tunnelled(p))) == ("LABEL_FAMILY", "Tunnel0")  # type: ignore[misc]

    story(tell)


def test_unlabelled_ip_in_the_tunnel_reaches_no_table() -> None:
    """The profile's tunnel carries labels; a bare packet in it belongs to no VRF."""

    async def tell(bed: MemoryTestbed) -> None:
        packet = tunnelled(UDP, gre=struct.pack(">HHI", 0x2000, 0x0800, 1234))
        assert await drop_of(bed, lambda: core_sends(bed, packet)) == ("NO_IP_HERE", "Tunnel0")

    story(tell)
