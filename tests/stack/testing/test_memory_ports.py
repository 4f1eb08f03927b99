"""Ports in memory: attachments, labelled frames, host ports, TUN; what they see, what they do not, and their bounds."""

from __future__ import annotations

import asyncio
import errno

import pytest

from stack.addr import Prefix, parse_address
from stack.net import Host, HostRoute, Network, Port, TcpOptions
from stack.testing import MemoryNetwork, run
from stack.testing import _packets as p
from tests.stack.testing.worlds import Acceptor, Peer, pair

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")


def drain(port: Port) -> list[bytes]:
    buffer, got = bytearray(70_000), []
    while True:
        try:
            size = port.recv_into(buffer)
        except BlockingIOError:
            return got
        got.append(bytes(buffer[:size]))


def relay(one: Port, other: Port) -> None:
    """A forwarder of no wits: what enters one port leaves by the other."""

    def pump(source: Port, sink: Port) -> None:
        for packet in drain(source):
            sink.send(packet)

    one.listen(lambda: pump(one, other))
    other.listen(lambda: pump(other, one))


def test_a_node_is_what_the_floor_asks_for() -> None:
    _, a, _ = pair()
    network: Network = a
    host: Host = a.host
    port: Port = a.frames("eth0", None)
    assert network.host is host
    assert (port.name, port.mtu, port.headroom) == ("eth0", 1500, 0)


def test_an_attachment_sees_its_own_vlan_without_the_tag() -> None:
    async def body() -> None:
        world = MemoryNetwork()
        link = world.link(("pe", "eth1"), ("ce", "eth0"))
        pe, ce = world.node("pe"), world.node("ce")
        ports = {vlan: pe.frames("eth1", vlan) for vlan in (None, 10, 20)}
        assert [port.name for port in ports.values()] == ["eth1", "eth1.10", "eth1.20"]
        trunk = ce.frames("eth0", None)
        frame = p.build_frame(b"\x02" * 6, b"\x04" * 6, 0x0800, b"x" * 50)
        for octets in (frame, p.tagged(frame, 10), p.tagged(frame, 20), p.tagged(frame, 30), p.tagged(frame, 0)):
            trunk.send(octets)
        trunk.send(p.tagged(frame, 10)[:12] + b"\x88\xa8" + p.tagged(frame, 10)[14:])
        await asyncio.sleep(1)
        assert drain(ports[None]) == [frame, frame]  # untagged, and a priority tag
        assert drain(ports[10]) == [frame, frame]
        assert drain(ports[20]) == [frame]
        assert drain(trunk) == []  # what this host sends, it does not see
        ports[10].send(p.tagged(frame, 10))  # the sender puts its own tag
        await asyncio.sleep(1)
        assert link.frames[-1].octets == p.tagged(frame, 10)
        assert link.frames[-1].ethertype == 0x0800
        ports[10].close()
        ports[10].close()
        trunk.send(p.tagged(frame, 10))
        await asyncio.sleep(1)
        assert not pe.host.ethernet("eth1").vlans
        assert drain(ports[20]) == []

    run(body())


def test_sending_frames_fails_as_sendmsg_does() -> None:
    _, a, _ = pair()
    port = a.frames("eth0", 10)
    for frame, number in ((b"short", errno.EINVAL), (bytes(1515), errno.EMSGSIZE)):
        with pytest.raises(OSError) as caught:
            port.send(frame)
        assert caught.value.errno == number
    a.host.set_link("eth0", up=False)
    with pytest.raises(OSError) as caught:
        port.send(bytes(60))
    assert caught.value.errno == errno.ENETDOWN
    port.close()
    for attempt in (lambda: port.send(bytes(60)), lambda: port.recv_into(bytearray(9)), lambda: port.listen(print)):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == errno.EBADF
    port.listen(None)
    for device in ("eth9", "lo"):
        with pytest.raises(OSError, match=device):
            a.frames(device, None)


def test_drop_ingress_hides_frames_from_the_host_and_not_from_ports() -> None:
    async def body() -> None:
        _, a, b = pair()
        (first,) = await a.ping(B)
        assert first.ok
        port = b.frames("eth0", None)
        undo = b.host.drop_ingress("eth0", vlans=[None])
        again = b.host.drop_ingress("eth0", vlans=[None, 5])
        (second,) = await a.ping(B)
        assert second.reason == "timeout"
        assert len(drain(port)) == 1
        assert b.host.ethernet("eth0").drops["ingress dropped"] == 1
        undo()
        undo()
        assert not (await a.ping(B))[0].ok
        again()
        assert (await a.ping(B))[0].ok

    run(body())


def test_labelled_frames_and_the_neighbours_beside_them() -> None:
    async def body() -> None:
        world, a, b = pair()
        mine, theirs = a.labelled_frames("eth0"), b.labelled_frames("eth0")
        mac_a, mac_b = (node.host.ethernet("eth0").mac for node in (a, b))
        labelled = p.build_frame(mac_b, mac_a, 0x8847, bytes.fromhex("00010140") + bytes(40))
        mine.send(labelled)
        assert all(result.ok for result in await a.ping(B) + await a.ping("2001:db8::2"))
        kinds = [int.from_bytes(frame[12:14]) for frame in drain(theirs)]
        assert kinds == [0x8847, 0x0806, 0x86DD]  # the frame, the ARP request, the neighbour solicitation; no echo
        assert [int.from_bytes(frame[12:14]) for frame in drain(mine)] == [0x0806, 0x86DD]
        assert world.links[0].fates["carried"] == 9

    run(body())


def test_vlan_devices_of_a_customer_host() -> None:
    async def body() -> None:
        world = MemoryNetwork()
        world.link(("left", "eth0"), ("right", "eth0"))
        for number, name in enumerate(("left", "right"), 1):
            node = world.node(name)
            for vlan in (10, 20):
                assert node.vlan("eth0", vlan) == f"eth0.{vlan}"
                node.address(f"eth0.{vlan}", f"10.0.{vlan}.{number}/24")
        left = world.node("left")
        assert all(result.ok for result in await left.ping("10.0.10.2") + await left.ping("10.0.20.2"))
        assert all(frame.octets[12:14] == b"\x81\x00" for frame in world.frames())
        for vlan, number in ((10, errno.EEXIST), (4095, errno.EINVAL)):
            with pytest.raises(OSError) as caught:
                left.vlan("eth0", vlan)
            assert caught.value.errno == number
        left.host.set_link("eth0", up=False)
        assert not (await left.ping("10.0.10.2"))[0].ok

    run(body())


def test_listen_is_level_triggered_and_survives_an_exception() -> None:
    async def body() -> None:
        _, a, b = pair()
        port = b.frames("eth0", None)
        sending = a.frames("eth0", None)
        buffer, calls = bytearray(2000), []

        def one_at_a_time() -> None:
            calls.append(port.recv_into(buffer))
            if len(calls) == 2:
                raise ValueError("a reader fails once")

        for _ in range(5):
            sending.send(bytes(60))
        await asyncio.sleep(1)
        port.listen(one_at_a_time)  # packets are waiting already
        await asyncio.sleep(1)
        assert calls == [60] * 5
        port.listen(None)
        sending.send(bytes(61))
        await asyncio.sleep(1)
        assert calls == [60] * 5
        port.listen(one_at_a_time)
        await asyncio.sleep(1)
        assert calls[5:] == [61]
        with pytest.raises(BlockingIOError):
            port.recv_into(buffer)

    run(body(), strict=False)


def test_queues_are_bounded_and_count() -> None:
    async def body() -> None:
        world = MemoryNetwork(queue=10)
        world.link(("a", "eth0"), ("b", "eth0"))
        port = world.node("b").frames("eth0", None)
        sending = world.node("a").frames("eth0", None)
        for number in range(25):
            sending.send(bytes(60) + bytes((number,)))
        await asyncio.sleep(1)
        got = drain(port)
        assert [frame[-1] for frame in got] == list(range(10))  # the tail is dropped
        assert port.drops["queue full"] == 15
        sending.send(bytes(60))
        await asyncio.sleep(1)
        assert port.recv_into(bytearray(20)) == 20
        assert port.drops["truncated"] == 1
        tun = world.node("a").tun("tun0", 1500)
        for _ in range(10):
            tun.send(bytes(20))
        with pytest.raises(BlockingIOError):
            tun.send(bytes(20))

    run(body())


def test_a_host_port_is_an_island_with_one_exit() -> None:
    """Two VRFs of one PE, the same addresses in both, on the PE and on the customer: no stream ever crosses."""

    async def body() -> None:
        world = MemoryNetwork()
        pe = world.node("pe")
        acceptors = {}
        for index, vrf in enumerate(("red", "blue"), 1):
            world.tun_link(("pe", f"tun{index}"), (vrf, "eth0"))
            ce = world.node(vrf)
            ce.address("eth0", "10.0.0.2/24")
            port = pe.host_port(vrf, index, 1400)
            pe.host.add_address(port.name, parse_address("10.0.0.1"), 32)
            relay(port, pe.tun(f"tun{index}", 1400))
            acceptors[vrf] = Acceptor(echo=True)
            await pe.listen_tcp(acceptors[vrf], TcpOptions(vrf=vrf, port=179))
        everywhere = Acceptor()
        await pe.listen_tcp(everywhere, TcpOptions(port=179))
        for vrf in ("red", "blue"):
            ce = world.node(vrf)
            transport, client = await ce.connect_tcp(Peer, TcpOptions(remote=parse_address("10.0.0.1")))
            transport.write(vrf.encode())
            await asyncio.sleep(1)
            assert client.got == vrf.encode()
            assert [bytes(peer.got) for peer in acceptors[vrf].peers] == [vrf.encode()]
            await ce.listen_tcp(Acceptor(echo=True), TcpOptions(port=80))
            back, speaker = await pe.connect_tcp(Peer, TcpOptions(vrf=vrf, remote=parse_address("10.0.0.2"), port=80))
            back.write(b"from the PE in " + vrf.encode())
            await asyncio.sleep(1)
            assert speaker.got == b"from the PE in " + vrf.encode()
            assert (await ce.ping("10.0.0.1"))[0].ok
        assert [len(each.peers) for each in acceptors.values()] == [1, 1]
        assert not everywhere.peers  # the default VRF's listener does not hear the others
        with pytest.raises(OSError) as caught:
            await pe.connect_tcp(Peer, TcpOptions(remote=parse_address("10.0.0.2"), port=80))
        assert caught.value.errno == errno.ENETUNREACH
        assert len({transport.key for transport in pe.tcp.connections.values()}) == 4

    run(body())


def test_a_closed_host_port_takes_its_device_addresses_and_routes_along() -> None:
    async def body() -> None:
        world, a, b = pair()
        port = a.host_port("", 0, 1400)
        a.host.add_address(port.name, b"\x0a\0\0\1", 32)
        a.host.add_route(HostRoute(Prefix.parse("10.9.0.0/16"), device=port.name))
        with pytest.raises(OSError) as caught:
            a.host_port("", 0, 1400)
        assert caught.value.errno == errno.EEXIST
        results = asyncio.create_task(a.ping("10.9.0.1"))
        await asyncio.sleep(0.5)
        (packet,) = drain(port)
        ip = p.parse_ip(packet)
        assert (ip.source, ip.destination) == (
            b"\x0a\0\0\1",
            b"\x0a\x09\0\1",
        )  # out of the host port, and from its address
        reply = p.build_icmp(ip.destination, ip.source, 0, 0, ip.payload[4:])
        port.send(p.build_ip(ip.destination, ip.source, 1, reply))
        assert (await results)[0].ok
        b.route("10.0.0.1/32", "192.0.2.1")
        assert (await b.ping("10.0.0.1"))[0].ok  # in the default VRF physical devices lead to the same host
        port.close()
        assert port.name not in {device.name for device in a.host.devices()}
        assert not [route for route, ours in a.host.routes() if ours]
        assert (await a.ping("10.9.0.1"))[0].reason == "network unreachable"
        assert not (await b.ping("10.0.0.1"))[0].ok
        a.host_port("", 0, 1400)
        a.host_port("red", 1, 1400)
        with pytest.raises(OSError) as caught:
            a.host_port("red", 2, 1400)
        assert caught.value.errno == errno.EBUSY
        assert world.node("a") is a

    run(body())


def test_tun_to_the_own_host_and_to_a_customer() -> None:
    async def body() -> None:
        world = MemoryNetwork()
        pe = world.node("pe")
        own = pe.tun("tun0", 1400)
        pe.address("tun0", "10.0.0.1/24")
        echo = p.build_icmp(b"\x0a\0\0\2", b"\x0a\0\0\1", 8, 0, bytes(8))
        own.send(p.build_ip(b"\x0a\0\0\2", b"\x0a\0\0\1", 1, echo))
        await asyncio.sleep(1)
        assert p.parse_ip(drain(own)[0]).payload[0] == 0
        link = world.tun_link(("pe", "tun1"), ("ce", "eth0"), delay=0.5)
        ce = world.node("ce")
        ce.address("eth0", "10.0.1.2/24")

        def up() -> bool:
            return next(device.up for device in ce.host.devices() if device.name == "eth0")

        assert not up()
        port = pe.tun("tun1", 1400)
        assert up()
        assert ce.host.nic("eth0").mtu == 1400
        with pytest.raises(OSError) as caught:
            pe.tun("tun1", 1400)
        assert caught.value.errno == errno.EBUSY
        pinging = asyncio.create_task(ce.ping("10.0.1.1"))
        await asyncio.sleep(0.6)
        (packet,) = drain(port)
        assert p.parse_ip(packet).source == b"\x0a\0\1\2"
        assert link.frames[-1].octets == packet
        await pinging
        port.close()
        assert not up()
        assert "tun1" not in {device.name for device in pe.host.devices()}
        pe.tun("tun1", 1400)
        assert up()

    run(body())
