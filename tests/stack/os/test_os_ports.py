"""Each kind of port in both directions, and the traps of packet sockets, raw sockets and TUN devices."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import threading

import pytest

from stack.addr import parse_address
from stack.lab.probe import Prober
from stack.os import OsNetwork
from tests.stack.os.os_world import LOOPS, MAC_A, MAC_B, drain, ethernet, inside, ipv4, packet_socket, take, two_nodes

pytestmark = pytest.mark.root

BROADCAST = b"\xff" * 6
LOCAL_EXPERIMENT = 0x88B5
A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")


@pytest.mark.parametrize("loop", LOOPS)
def test_frames_both_ways(loop):
    with two_nodes() as (a, b):
        far = packet_socket(b, protocol=LOCAL_EXPERIMENT)

        async def work():
            port = OsNetwork().frames("eth0", None)
            assert (port.name, port.mtu, port.headroom) == ("eth0", 1500, 10)
            frame = ethernet(MAC_B, MAC_A, LOCAL_EXPERIMENT, b"there" * 20)
            assert port.send(bytes(port.headroom) + frame) == port.headroom + len(frame)
            assert far.recv(2000) == frame
            back = ethernet(MAC_A, MAC_B, LOCAL_EXPERIMENT, b"back" * 20)
            far.send(back)
            assert await take(port) == [back]  # and not the frame that we sent: PACKET_IGNORE_OUTGOING
            port.close()
            port.close()

        inside(a, work, loop=loop)
        far.close()


def test_trap9_vlans_are_kept_apart():
    """802.1Q tags are taken off by the kernel: each attachment sees its own VLAN, and nothing of another one."""
    with two_nodes() as (a, b):
        far = packet_socket(b)

        async def work():
            network = OsNetwork()
            ports = {vlan: network.frames("eth0", vlan) for vlan in (None, 10, 20)}
            wire = {
                vlan: ethernet(MAC_A, MAC_B, LOCAL_EXPERIMENT, f"vlan {vlan}".encode().ljust(50), vlan=vlan)
                for vlan in (None, 10, 20, 30, 0)
            }
            for frame in wire.values():
                far.send(frame)
            far.send(wire[10].replace(b"\x81\0", b"\x88\xa8", 1))  # an 802.1ad tag is not 802.1Q's VLAN 10
            far.send(ethernet(b"\2\0\0\0\0\x77", MAC_B, LOCAL_EXPERIMENT, b"for another station".ljust(50)))
            payloads = {vlan: [frame[14:].rstrip() for frame in await take(port, 1)] for vlan, port in ports.items()}
            assert payloads[10] == [b"vlan 10"]
            assert payloads[20] == [b"vlan 20"]
            # VLAN 0 is a priority tag: the frame is untagged (IEEE 802.1Q).
            assert payloads[None][:2] == [b"vlan None", b"vlan 0"]
            assert len(payloads[None] + [frame[14:] for frame in drain(ports[None])]) == 2
            tagged = ethernet(MAC_B, MAC_A, LOCAL_EXPERIMENT, b"out".ljust(50), vlan=10)
            ports[10].send(bytes(10) + tagged)
            return tagged

        listening = b.run(lambda: OsNetwork().frames("eth0", 10))
        tagged = inside(a, work)
        assert inside(b, lambda: take(listening)) == [tagged[:12] + tagged[16:]]
        listening.close()
        far.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_frames_outlive_a_device_that_goes_down(loop):
    """ENETDOWN is POLLERR, at which uvloop stops a reader for good: the port arms it again."""
    with two_nodes() as (a, b):
        far = packet_socket(b)
        frame = ethernet(MAC_A, MAC_B, LOCAL_EXPERIMENT, b"x" * 50)

        async def work():
            network = OsNetwork()
            port = network.frames("eth0", None)
            seen = asyncio.Queue()
            buffer = bytearray(2000)

            def readable():
                while True:
                    try:
                        length = port.recv_into(buffer)
                    except BlockingIOError:
                        return
                    seen.put_nowait(bytes(buffer[10:length]))

            port.listen(readable)
            far.send(frame)
            assert await asyncio.wait_for(seen.get(), 2) == frame
            network.host.set_link("eth0", up=False)
            for _ in range(100):
                if port.errors:
                    break
                await asyncio.sleep(0.01)
            assert port.errors == {"ENETDOWN": 1}
            network.host.set_link("eth0", up=True)
            for _ in range(100):
                far.send(frame)
                try:
                    received = await asyncio.wait_for(seen.get(), 0.1)
                except TimeoutError:
                    continue
                if received == frame:
                    break
            else:
                pytest.fail("the reader is dead")
            port.close()

        inside(a, work, loop=loop)
        far.close()


def test_labelled_frames_hear_mpls_arp_and_nd_only():
    with two_nodes() as (a, b):
        far = packet_socket(b)
        nd = b"\x60" + bytes(3) + struct.pack(">HBB", 24, 58, 255) + bytes(32) + b"\x87" + bytes(23)
        echo6 = nd[:40] + b"\x80" + nd[41:]
        frames = {
            "mpls": ethernet(MAC_A, MAC_B, 0x8847, bytes.fromhex("00010140") + b"m" * 46),
            "arp": ethernet(BROADCAST, MAC_B, 0x0806, b"a" * 46),
            "nd": ethernet(b"\x33\x33\0\0\0\1", MAC_B, 0x86DD, nd),
            "echo6": ethernet(MAC_A, MAC_B, 0x86DD, echo6),
            "ipv4": ethernet(MAC_A, MAC_B, 0x0800, ipv4(B, A, 200, b"i" * 30)),
            "mpls in a vlan": ethernet(MAC_A, MAC_B, 0x8847, b"v" * 46, vlan=10),
            "last": ethernet(MAC_A, MAC_B, 0x8847, bytes.fromhex("00020140") + b"l" * 46),
        }

        async def work():
            port = OsNetwork().labelled_frames("eth0")
            for frame in frames.values():
                far.send(frame)
            got = await take(port, 4)
            ours = [name for frame in got for name, sent in frames.items() if sent == frame]
            assert ours == ["mpls", "arp", "nd", "last"]
            assert len(got) == 4
            port.send(bytes(port.headroom) + ethernet(MAC_B, MAC_A, 0x8847, b"\0\1\1\x40" + b"s" * 46))

        listening = b.run(lambda: OsNetwork().labelled_frames("eth0"))
        inside(a, work)
        assert [frame[12:14] for frame in inside(b, lambda: take(listening))] == [b"\x88\x47"]
        far.close()
        listening.close()


def test_trap1_tcp_of_a_local_peer_arrives_as_gso_with_its_virtio_header():
    """b's own TCP sends 64 KB frames with unfilled checksums. The header says so, and a frame sent on with its header
    reaches c whole, where TCP accepts it."""
    from stack.lab.namespace import World

    with World() as world:
        b, ours, c = (world.add(name) for name in "bac")
        world.cable(b, "eth0", ours, "left")
        world.cable(c, "eth0", ours, "right")
        b.address("eth0", "10.0.0.1/24")
        c.address("eth0", "10.0.0.2/24")
        # Each of our devices has the MAC of the station on the other side: frames for others are filtered out.
        for namespace, device, mac in (
            (b, "eth0", MAC_A),
            (ours, "right", MAC_A),
            (c, "eth0", MAC_B),
            (ours, "left", MAC_B),
        ):
            namespace.up(device, mac=mac)
        size = 3_000_000

        async def work():
            network = OsNetwork()
            left, right = network.frames("left", None), network.frames("right", None)
            headers = []
            buffer = bytearray(1 << 17)
            view = memoryview(buffer)

            def bridge(source, target):
                def readable():
                    for _ in range(64):
                        try:
                            length = source.recv_into(buffer)
                        except BlockingIOError:
                            return
                        headers.append((bytes(buffer[:10]), length))
                        try:
                            target.send(view[:length])
                        except BlockingIOError:
                            pass

                return readable

            left.listen(bridge(left, right))
            right.listen(bridge(right, left))
            return headers, await asyncio.to_thread(transfer)

        received = []

        def transfer():
            listener = c.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(("10.0.0.2", 5001))
            listener.listen()

            def drink():
                connection, _ = listener.accept()
                connection.settimeout(10)
                while octets := connection.recv(1 << 16):
                    received.append(octets)

            thread = threading.Thread(target=drink)
            thread.start()
            sender = b.socket(socket.AF_INET, socket.SOCK_STREAM)
            sender.settimeout(10)
            sender.connect(("10.0.0.2", 5001))
            sender.sendall(bytes(range(250)) * (size // 250))
            sender.close()
            thread.join(10)
            listener.close()

        headers, _ = inside(ours, work, loop="uvloop")
        assert b"".join(received) == bytes(range(250)) * (size // 250)
        gso = [length for header, length in headers if header[1] & 0x7F == 1]  # VIRTIO_NET_HDR_GSO_TCPV4
        assert max(gso) > 10_000
        assert any(header[0] & 1 for header, _ in headers)  # VIRTIO_NET_HDR_F_NEEDS_CSUM


def test_trap2_ingress_drop_hides_customers_from_the_kernel_but_not_from_us():
    with two_nodes() as (a, b):
        a.address("eth0", "192.0.2.1/24")
        b.address("eth0", "192.0.2.2/24")
        with Prober("192.0.2.1", namespace=b) as prober:
            assert prober.once().ok

            async def work():
                network = OsNetwork()
                port = network.frames("eth0", None)
                undo = network.host.drop_ingress("eth0", vlans=[None])
                reply = await asyncio.to_thread(prober.once, 0.3)
                heard = [frame for frame in drain(port) if frame[12:14] == b"\x08\0" and frame[23] == 1]
                undo()
                undo()
                return reply.kind, len(heard), (await asyncio.to_thread(prober.once)).kind

            assert inside(a, work) == ("timeout", 1, "reply")


def test_trap2_ingress_drop_is_per_vlan():
    """Only the VLANs that are named are dropped. Seen by a packet socket of one EtherType, which sits behind the hook."""
    with two_nodes() as (a, b):
        far = packet_socket(b)
        behind = packet_socket(a, protocol=LOCAL_EXPERIMENT)
        behind.setblocking(False)

        def seen(vlans):
            undo = a.run(lambda: OsNetwork().host.drop_ingress("eth0", vlans=vlans)) if vlans else lambda: None
            for vlan in (None, 10, 20):
                far.send(ethernet(MAC_A, MAC_B, LOCAL_EXPERIMENT, f"{vlan}".encode().ljust(50), vlan=vlan))
            got = []
            while True:
                try:
                    got.append(behind.recv(2000)[14:].rstrip().decode())
                except BlockingIOError:
                    break
            undo()
            return got

        assert seen([]) == ["None", "10", "20"]
        assert seen([10]) == ["None", "20"]
        assert seen([10, 20]) == ["None"]
        assert seen([None]) == ["10", "20"]
        assert seen([None, 10]) == ["20"]
        far.close()
        behind.close()


def test_ingress_drop_of_an_unknown_device():
    with two_nodes() as (a, _), pytest.raises(OSError) as caught:
        a.run(lambda: OsNetwork().host.drop_ingress("eth9", vlans=[None]))
    assert caught.value.errno == errno.ENODEV
    assert "eth9" in str(caught.value)


def test_raw_whole_packets_both_ways():
    with two_nodes() as (a, b):
        a.address("eth0", "192.0.2.1/24")
        b.address("eth0", "192.0.2.2/24")
        far = b.run(lambda: OsNetwork().raw(47))

        async def work():
            near = OsNetwork().raw(47)
            there = ipv4(A, B, 47, bytes.fromhex("00008847") + b"\0\1\1\x40" + b"x" * 40)
            assert near.send(there) == len(there)
            got = await asyncio.to_thread(inside, b, lambda: take(far))
            assert got == [there]
            back = ipv4(B, A, 47, b"y" * 64)
            far.send(memoryview(back))
            assert await take(near) == [back]
            assert (near.headroom, near.dropped()) == (0, 0)
            near.close()
            near.close()

        inside(a, work)
        far.close()


def test_trap3_and_trap8_connected_raw_sockets_hear_nothing_and_never_fail():
    """b has nobody for protocol 47, so it answers each packet with ICMP protocol unreachable (92, ENOPROTOOPT). Nothing of
    that, and nothing that b sends, comes to the send-only port; the next send succeeds."""
    with two_nodes() as (a, b):
        a.address("eth0", "192.0.2.1/24")
        b.address("eth0", "192.0.2.2/24")
        heard = b.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        errors = a.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        errors.settimeout(2)

        async def work():
            network = OsNetwork()
            port = network.raw(47, remote=B)
            packet = ipv4(A, B, 47, b"z" * 64)
            unreachable = 0
            for _ in range(5):
                assert port.send(packet) == len(packet)
            while unreachable < 1:
                octets = await asyncio.to_thread(errors.recv, 2000)
                unreachable += octets[20:22] == b"\3\2"
            assert port._sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            for _ in range(5):
                assert port.send(packet) == len(packet)
            with pytest.raises(BlockingIOError):
                port.recv_into(bytearray(100))
            far = await asyncio.to_thread(b.run, lambda: OsNetwork().raw(47, remote=A))
            for _ in range(50):
                far.send(ipv4(B, A, 47, b"w" * 64))
            # SO_MEMINFO: nothing is held by the sending socket.
            held = struct.unpack("=9I", port._sender.getsockopt(socket.SOL_SOCKET, 55, 36))[0]
            assert held == 0
            port.close()
            far.close()

        inside(a, work)
        heard.close()
        errors.close()


def test_trap3_a_bound_raw_socket_keeps_the_kernel_from_answering_gre():
    with two_nodes() as (a, b):
        a.address("eth0", "192.0.2.1/24")
        b.address("eth0", "192.0.2.2/24")
        errors = b.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        errors.setblocking(False)
        near = a.run(lambda: OsNetwork().raw(47))
        far = b.run(lambda: OsNetwork().raw(47, remote=A))
        far.send(ipv4(B, A, 47, b"v" * 64))
        assert len(inside(a, lambda: take(near))) == 1
        with pytest.raises(BlockingIOError):
            errors.recv(2000)
        near.close()
        far.close()
        errors.close()


def test_raw_path_mtu():
    """a - (1500) - r - (1300) - b. With DF a packet of 1400 is refused once the router has said 1300; without DF the
    kernel fragments it, and it arrives whole."""
    from stack.lab.namespace import World

    with World() as world:
        a, r, b = (world.add(name) for name in "arb")
        world.cable(a, "eth0", r, "left")
        world.cable(r, "right", b, "eth0", mtu=1300)
        for namespace, device, address in (
            (a, "eth0", "192.0.2.1/24"),
            (r, "left", "192.0.2.254/24"),
            (r, "right", "198.51.100.254/24"),
            (b, "eth0", "198.51.100.2/24"),
        ):
            namespace.address(device, address)
        a.route("default", via="192.0.2.254")
        b.route("default", via="198.51.100.254")
        r.sysctl(ipv4__ip_forward=1)
        far_address = parse_address("198.51.100.2")
        far = b.run(lambda: OsNetwork().raw(47))

        async def work():
            network = OsNetwork()
            _hears_icmp = network.raw(47)
            port = network.raw(47, remote=far_address)
            big = ipv4(A, far_address, 47, b"d" * 1380, df=True)
            small = ipv4(A, far_address, 47, b"n" * 1380)
            outcome = []
            for _ in range(100):
                try:
                    port.send(big)
                except OSError as error:
                    outcome.append(error.errno)
                    break
                await asyncio.sleep(0.01)
            assert outcome == [errno.EMSGSIZE]
            assert port.send(small) == len(small)
            return small

        small = inside(a, work)
        got = inside(b, lambda: take(far))
        assert [packet[20:] for packet in got] == [small[20:]]
        far.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_tun_both_ways(loop):
    with two_nodes() as (a, _):

        async def work():
            network = OsNetwork()
            port = network.tun("cust0", 1400)
            assert (port.name, port.mtu) == ("cust0", 1400)
            device = network.host.device("cust0")
            assert (device.up, device.mtu, device.mac) == (True, 1400, b"")
            network.host.add_address("cust0", parse_address("10.9.0.1"), 24)
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(("10.9.0.1", 7777))
            sock.sendto(b"out", ("10.9.0.2", 7777))
            packet = (await take(port))[0]
            assert (packet[9], packet[-3:]) == (17, b"out")
            udp = struct.pack(">HHHH", 7777, 7777, 8 + 2, 0) + b"in"
            answer = ipv4(parse_address("10.9.0.2"), parse_address("10.9.0.1"), 17, udp)
            port.send(bytes(port.headroom) + answer)
            assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"in"
            sock.close()
            # Nobody asked for IPv6 autoconfiguration: no link-local address, no router solicitation.
            assert [each for each in network.host.addresses() if each[0] == "cust0"] == [
                ("cust0", parse_address("10.9.0.1"), 24)
            ]
            port.close()
            port.close()
            with pytest.raises(OSError):
                network.host.device("cust0")

        inside(a, work, loop=loop)


def test_tun_whose_device_is_deleted_stops_quietly():
    with two_nodes() as (a, _):

        async def work():
            network = OsNetwork()
            port = network.tun("cust0", 1400)
            calls = []

            def readable():
                calls.append(1)
                with pytest.raises(BlockingIOError):
                    port.recv_into(bytearray(2000))

            port.listen(readable)
            network._host._netlink.delete_link("cust0")
            for _ in range(100):
                if port.errors:
                    break
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert port.errors == {"EBADFD": 1}
            assert len(calls) == 1
            port.close()

        inside(a, work)


def test_tun_that_is_in_use_says_so():
    with two_nodes() as (a, _):

        async def work():
            network = OsNetwork()
            first = network.tun("cust0", 1400)
            with pytest.raises(OSError, match="cust0 is in use"):
                network.tun("cust0", 1400)
            first.close()

        inside(a, work)


def test_an_unknown_device_is_named():
    with two_nodes() as (a, _), pytest.raises(OSError, match="eth7") as caught:
        a.run(lambda: OsNetwork().frames("eth7", None))
    assert caught.value.errno == errno.ENODEV


def test_trap7_the_host_says_nothing_about_a_protocol_that_is_ours():
    """Only ip_gre sends port unreachable for GRE, and it is not here: protocol unreachable, which the same filter stops on
    its way out, stands for it. Other protocols are answered as ever."""
    from stack.os.filters import drop_answers

    with two_nodes() as (a, b):
        a.address("eth0", "192.0.2.1/24")
        b.address("eth0", "192.0.2.2/24")
        errors = b.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        errors.settimeout(0.3)

        def answer(protocol):
            port = b.run(lambda: OsNetwork().raw(protocol, remote=A))
            port.send(ipv4(B, A, protocol, b"?" * 64))
            port.close()
            try:
                octets = errors.recv(2000)
            except TimeoutError:
                return None
            return octets[20], octets[21], octets[20 + 17]

        assert answer(47) == (3, 2, 47)
        undo = a.run(lambda: drop_answers(47))
        assert answer(47) is None
        assert answer(99) == (3, 2, 99)
        undo()
        assert answer(47) == (3, 2, 47)
        errors.close()
