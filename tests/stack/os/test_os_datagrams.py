"""UDP for IKE, and ESP in UDP beside it, on the real kernel."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct

import pytest

from stack.addr import format_address, parse_address
from stack.lab.namespace import World
from stack.nettypes import Datagram
from stack.os import OsNetwork, bpf
from tests.stack.os.os_world import LOOPS, MAC_A, MAC_B, drain, ethernet, inside, ipv4, packet_socket, take, two_nodes
from tests.stack.os.test_os_tcp import BLUE, RED, join, red_and_blue

pytestmark = pytest.mark.root

A, B, OTHER = parse_address("192.0.2.1"), parse_address("192.0.2.2"), parse_address("192.0.2.9")
MARKER = bytes(4)
IPV4 = 0x0800


def udp(sport, dport, octets, *, length=None):
    """Without a checksum."""
    return struct.pack(">4H", sport, dport, 8 + len(octets) if length is None else length, 0) + octets


def addressed(a, b):
    a.address("eth0", "192.0.2.1/24")
    a.address("eth0", "192.0.2.9/24")
    b.address("eth0", "192.0.2.2/24")


def udp_socket(namespace, port=0, address="0.0.0.0"):
    sock = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.settimeout(2)
    return sock


async def hear(port, count=1, *, seconds=2.0):
    """The next datagrams; fewer if they do not come in time."""
    taken, enough = [], asyncio.Event()

    def readable():
        while True:
            try:
                taken.append(port.receive())
            except BlockingIOError:
                return
            if len(taken) >= count:
                enough.set()

    port.listen(readable)
    try:
        await asyncio.wait_for(enough.wait(), seconds)
    except TimeoutError:
        pass
    finally:
        port.listen(None)
    return taken


@pytest.mark.parametrize("loop", LOOPS)
def test_datagrams_say_both_ends_and_go_from_the_address_that_is_asked_for(loop):
    with two_nodes() as (a, b):
        addressed(a, b)
        far = udp_socket(b, 500)

        async def work():
            port = OsNetwork().datagrams(500)
            for ours in (A, OTHER):
                far.sendto(b"question", (format_address(ours), 500))
                assert await hear(port) == [Datagram(b"question", B, 500, ours, 500)]
                port.send(b"answer", ours, B, 500)
                assert far.recvfrom(100) == (b"answer", (format_address(ours), 500))
            port.send(b"any", b"", B, 500)
            assert far.recvfrom(100) == (b"any", ("192.0.2.1", 500))
            with pytest.raises(OSError) as refused:
                port.send(b"forged", parse_address("192.0.2.77"), B, 500)
            assert refused.value.errno in (errno.EINVAL, errno.ENETUNREACH)
            with pytest.raises(BlockingIOError):
                port.receive()
            assert (port.dropped(), port.errors) == (0, {})
            port.close()
            port.close()
            with pytest.raises(OSError):
                port.receive()
            with pytest.raises(OSError):
                port.send(b"closed", b"", B, 500)

        inside(a, work, loop=loop)
        far.close()


@pytest.mark.parametrize("size", [1472, 1473, 20_000, 65_507])
def test_a_datagram_larger_than_the_path_is_fragmented_with_df_clear(size):
    with two_nodes() as (a, b):
        addressed(a, b)
        far, wire = udp_socket(b, 4500), packet_socket(b, protocol=IPV4)

        async def work():
            port = OsNetwork().datagrams(4500)
            port.send(bytes(size), b"", B, 4500)
            assert len(far.recv(70_000)) == size
            assert struct.unpack(">H", wire.recv(2000)[20:22])[0] & 0x4000 == 0
            far.sendto(bytes(size), ("192.0.2.1", 4500))
            assert [len(each.octets) for each in await hear(port)] == [size]
            port.close()

        inside(a, work)
        far.close()
        wire.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_rfc7296_2_4_icmp_errors_neither_surface_nor_stop_the_reader(loop):
    """b has nobody on port 500: each datagram earns a port unreachable. Then somebody is there, and is heard."""
    with two_nodes() as (a, b):
        addressed(a, b)
        errors = a.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        errors.settimeout(2)

        async def work():
            port = OsNetwork().datagrams(500)
            heard = asyncio.Queue()
            port.listen(lambda: heard.put_nowait(port.receive()))
            for _ in range(3):
                port.send(b"nobody", A, B, 500)
                octets = await asyncio.to_thread(errors.recv, 2000)
                assert octets[20:22] == b"\3\3"
                with pytest.raises(BlockingIOError):
                    port.receive()
            far = await asyncio.to_thread(udp_socket, b, 500)
            far.sendto(b"here", ("192.0.2.1", 500))
            assert (await asyncio.wait_for(heard.get(), 2)).octets == b"here"
            assert port.errors == {}
            port.close()
            far.close()

        inside(a, work, loop=loop)
        errors.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_closed_port_is_free_at_once_and_a_held_one_is_named(loop):
    with two_nodes() as (a, _):

        async def work():
            network = OsNetwork()
            for _ in range(5):
                ports = [network.datagrams(500), network.datagrams(4500, marked=True)]
                for port in ports:
                    port.listen(lambda: None)
                await asyncio.sleep(0)
                with pytest.raises(OSError, match="UDP port 4500 is open already"):
                    network.datagrams(4500)
                with pytest.raises(OSError, match="UDP port 4500: another process has the port"):
                    OsNetwork().datagrams(4500)
                for port in ports:
                    port.close()

        inside(a, work, loop=loop)


DATAGRAMS = [MARKER + b"ike", b"\0\0\0\1esp", b"\xff", b"\0\0\0", MARKER, b"", b"abc", MARKER[:3] + b"\1"]


@pytest.mark.parametrize("loop", LOOPS)
def test_rfc3948_2_2_the_marker_decides_who_hears_a_datagram_to_4500(loop):
    with two_nodes() as (a, b):
        addressed(a, b)
        far = udp_socket(b, 4500)

        async def work():
            network = OsNetwork()
            ike, esp = network.datagrams(4500, marked=True), network.raw(socket.IPPROTO_UDP, port=4500)
            assert esp.name == "raw 17 port 4500"
            for octets in DATAGRAMS:
                far.sendto(octets, ("192.0.2.1", 4500))
            far.sendto(b"another port", ("192.0.2.1", 4501))
            wanted = [octets for octets in DATAGRAMS if octets and not octets.startswith(MARKER)]
            packets = await take(esp, len(wanted) + 1, seconds=0.3)
            assert [packet[28:] for packet in packets] == wanted
            assert all(packet[:1] == b"\x45" and packet[20:24] == struct.pack(">HH", 4500, 4500) for packet in packets)
            assert [each.octets for each in await hear(ike, 3, seconds=0.3)] == [MARKER + b"ike", MARKER]
            ike.close()
            esp.close()

        inside(a, work, loop=loop)
        far.close()


def test_esp_in_udp_arrives_put_together_with_its_options_and_whatever_its_udp_length_says():
    with two_nodes() as (a, b):
        addressed(a, b)
        far, wire = udp_socket(b, 4500), packet_socket(b)

        def options(payload):
            bare = ipv4(B, A, socket.IPPROTO_UDP, payload)
            head = (
                b"\x47" + bare[1:2] + struct.pack(">H", len(bare) + 8) + bare[4:10] + b"\0\0" + bare[12:20] + b"\1" * 8
            )
            total = sum(struct.unpack(">14H", head))
            while total >> 16:
                total = (total & 0xFFFF) + (total >> 16)
            return head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:] + payload

        async def work():
            esp = OsNetwork().raw(socket.IPPROTO_UDP, port=4500)
            far.sendto(b"\0\0\0\1" + bytes(4000), ("192.0.2.1", 4500))
            assert [len(packet) for packet in await take(esp)] == [4032]
            for payload in (udp(4500, 4500, b"\0\0\0\2 with options"), udp(4500, 4500, MARKER + b"ike")):
                wire.send(ethernet(MAC_A, MAC_B, IPV4, options(payload)))
            assert [packet[36:] for packet in await take(esp, 2, seconds=0.3)] == [b"\0\0\0\2 with options"]
            # what a UDP length says is for whoever reads: the octets are there, and nothing is read beyond them
            for octets, length in ((b"\0\0\0", 8), (b"ab", 4000), (b"", 4000), (b"\0\0\0\3", 3)):
                wire.send(
                    ethernet(MAC_A, MAC_B, IPV4, ipv4(B, A, socket.IPPROTO_UDP, udp(1, 4500, octets, length=length)))
                )
            wire.send(ethernet(MAC_A, MAC_B, IPV4, ipv4(B, A, socket.IPPROTO_UDP, b"\0\1\x11\x94")))
            assert [packet[28:] for packet in await take(esp, 4, seconds=0.3)] == [b"\0\0\0", b"ab", b"\0\0\0\3"]
            esp.close()

        inside(a, work)
        far.close()
        wire.close()


def test_senders_of_esp_in_udp_hear_no_port_unreachable_while_ike_restarts():
    with two_nodes() as (a, b):
        addressed(a, b)
        far = udp_socket(b, 4500)
        errors = b.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        errors.settimeout(0.3)

        def answer(port):
            far.sendto(b"\0\0\0\1 esp", ("192.0.2.1", port))
            try:
                return errors.recv(2000)[20:22]
            except TimeoutError:
                return None

        async def work():
            network = OsNetwork()
            assert answer(4500) == b"\3\3"
            esp = network.raw(socket.IPPROTO_UDP, port=4500)
            for _ in range(2):
                ike = network.datagrams(4500, marked=True)
                assert answer(4500) is None  # the filter's rejection is none to the sender
                ike.close()
                assert answer(4500) is None
            assert answer(4501) == b"\3\3"
            assert len(drain(esp)) == 4
            esp.close()
            assert answer(4500) == b"\3\3"

        inside(a, work)
        far.close()
        errors.close()


def test_raw_udp_sends_whole_packets():
    with two_nodes() as (a, b):
        addressed(a, b)
        far = udp_socket(b, 4500)

        async def work():
            port = OsNetwork().raw(socket.IPPROTO_UDP, remote=B)
            assert port.send(ipv4(OTHER, B, socket.IPPROTO_UDP, udp(4500, 4500, b"\0\0\0\1 sealed"))) > 0
            assert far.recvfrom(100) == (b"\0\0\0\1 sealed", ("192.0.2.9", 4500))
            port.close()
            with pytest.raises(OSError) as refused:
                OsNetwork().raw(50, port=4500)
            assert refused.value.errno == errno.EINVAL

        inside(a, work)
        far.close()


def test_a_broadcast_is_answered_to_nobody():
    with two_nodes() as (a, b):
        addressed(a, b)
        far = udp_socket(b, 500)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

        async def work():
            port = OsNetwork().datagrams(500)
            far.sendto(b"to all", ("255.255.255.255", 500))
            far.sendto(b"to one", ("192.0.2.1", 500))
            assert [each.octets for each in await hear(port)] == [b"to one"]
            assert port.errors == {"not unicast": 1}
            port.close()

        b.run(lambda: far.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0"))
        inside(a, work)
        far.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_what_comes_in_by_a_vrfs_port_is_not_heard(loop):
    """Red's door leads to blue's: blue's address is local to the host, and the ports of the default VRF are bound to all."""

    async def work():
        async with red_and_blue() as network:
            ports = [network.datagrams(500), network.datagrams(4500, marked=True)]
            raws = [network.raw(socket.IPPROTO_UDP, port=4500), network.raw(47)]

            def attack(device, source, destination):
                red = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                red.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
                red.bind((format_address(source), 0))
                for number, octets in ((500, b"x"), (4500, MARKER + b"ike"), (4500, b"\0\0\0\1esp")):
                    red.sendto(octets, (format_address(destination), number))
                red.close()
                gre = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
                gre.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
                gre.bind((format_address(source), 0))
                gre.sendto(b"\0\0\x88\x47....", (format_address(destination), 0))
                gre.close()

            async def heard():
                await asyncio.sleep(0)  # the doors' readers run
                got = [len(await hear(port, seconds=0.2)) for port in ports]
                return got + [len(await take(raw, seconds=0.2)) for raw in raws]

            attack("ls-1", RED, BLUE)
            assert await heard() == [0, 0, 0, 0]
            green, yellow = network.host_port("green", 3, 1500), network.host_port("yellow", 4, 1500)
            for port, address in ((green, RED), (yellow, BLUE)):
                network.host.add_address(port.name, address, 32)
            join(green, yellow)
            attack("ls-3", RED, BLUE)
            assert await heard() == [0, 0, 0, 0]
            attack("lo", parse_address("127.0.0.1"), parse_address("127.0.0.1"))
            assert await heard() == [1, 1, 1, 1]
            for port in (*ports, *raws):
                port.close()

    with two_nodes() as (a, _):
        inside(a, work, loop=loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("order", [("", "red", "blue"), ("blue", "red", "")], ids=["default first", "default last"])
def test_each_vrf_has_the_port_for_itself(loop, order):
    """`datagrams(500, vrf=...)`: red's door leads to blue's; the same port of the default VRF hears of neither."""

    async def work():
        async with red_and_blue() as network:
            ports = {vrf: network.datagrams(500, vrf=vrf) for vrf in order}
            marked = {vrf: network.datagrams(4500, marked=True, vrf=vrf) for vrf in order}
            for _ in range(3):
                ports["red"].send(b"question", RED, BLUE, 500)
                assert await hear(ports["blue"]) == [Datagram(b"question", RED, 500, BLUE, 500)]
                ports["blue"].send(b"answer", BLUE, RED, 500)
                assert await hear(ports["red"]) == [Datagram(b"answer", BLUE, 500, RED, 500)]
            for octets in (b"\0\0\0\1esp", MARKER + b"ike"):
                marked["red"].send(octets, RED, BLUE, 4500)
            assert [each.octets for each in await hear(marked["blue"])] == [MARKER + b"ike"]
            assert await hear(ports[""], seconds=0.1) == await hear(marked[""], seconds=0.1) == []
            with pytest.raises(OSError, match="UDP port 500 of VRF red is open already"):
                network.datagrams(500, vrf="red")
            with pytest.raises(OSError, match="VRF green has no host port"):
                network.datagrams(500, vrf="green")
            with pytest.raises(OSError, match="another process has the port"):
                OsNetwork().datagrams(500)
            for port in (*ports.values(), *marked.values()):
                port.close()
            network.datagrams(500, vrf="red").close()

    with two_nodes() as (a, _):
        inside(a, work, loop=loop)


@pytest.mark.parametrize("program", [bpf.marked(), bpf.esp_in_udp(4500)], ids=["marked", "esp"])
def test_bpf_jumps_stay_inside_and_every_path_returns(program):
    for at, (code, true, false, _) in enumerate(program):
        if code & 0x07 == 0x05:
            assert at + 1 + max(true, false) < len(program)
    assert program[-1][0] == program[-2][0] == 0x06


def test_ports_below_1024_name_the_privilege_they_need():
    with World() as world:
        a = world.add("a")

        def refused():
            pid = os.fork()
            if pid == 0:
                try:
                    os.setresgid(65534, 65534, 65534)
                    os.setresuid(65534, 65534, 65534)
                    OsNetwork().datagrams(500)
                except PermissionError as error:
                    os._exit(0 if "CAP_NET_BIND_SERVICE" in str(error) and "UDP port 500" in str(error) else 2)
                except BaseException:
                    os._exit(3)
                os._exit(1)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        assert a.run(refused) == 0
