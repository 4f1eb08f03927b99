"""TCP as a routing protocol uses it: in VRFs whose addresses overlap, with MD5, GTSM, DSCP, and listeners kept apart.

```
            one host, one loop
 VRF red  10.0.0.1 -- ls-1 ]==[ ls-2 -- 10.0.0.2  VRF blue
```
The two ports are joined by a few lines of Python. Each VRF's peer is an own address of the other one: the worst overlap.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import asynccontextmanager

import pytest

from stack.addr import parse_address
from stack.net import TcpOptions
from stack.os import OsNetwork
from tests.stack.os.os_world import LOOPS, inside, two_nodes

pytestmark = pytest.mark.root

RED, BLUE = parse_address("10.0.0.1"), parse_address("10.0.0.2")
RED6, BLUE6 = parse_address("2001:db8::1"), parse_address("2001:db8::2")
SECRET = b"a key of this test"


class Talker(asyncio.Protocol):
    """Says what it is told and keeps what it hears."""

    def __init__(self):
        self.heard = bytearray()
        self.connected = asyncio.Event()
        self.enough = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.connected.set()

    def data_received(self, octets):
        self.heard += octets
        self.enough.set()

    def connection_lost(self, _):
        self.lost.set()


def join(one, other, between=lambda octets: True):
    """Everything that comes out of one port goes into the other."""
    buffer = bytearray(1 << 17)

    def carry(source, target):
        def readable():
            while True:
                try:
                    length = source.recv_into(buffer)
                except BlockingIOError:
                    return
                if between(buffer[source.headroom : length]):
                    target.send(buffer[:length])

        return readable

    one.listen(carry(one, other))
    other.listen(carry(other, one))


@asynccontextmanager
async def red_and_blue(between=lambda octets: True):
    network = OsNetwork()
    red, blue = network.host_port("red", 1, 1500), network.host_port("blue", 2, 1500)
    for device, addresses in ((red.name, (RED, RED6)), (blue.name, (BLUE, BLUE6))):
        for address in addresses:
            network.host.add_address(device, address, len(address) * 8)
    join(red, blue, between)
    try:
        yield network
    finally:
        network.close()


async def connects(network, options, *, seconds=1.0):
    try:
        return await asyncio.wait_for(network.connect_tcp(Talker, options), seconds)
    except TimeoutError:
        return None


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("red", "blue"), [(RED, BLUE), (RED6, BLUE6)], ids=["ipv4", "ipv6"])
def test_overlapping_vrfs_both_ways(red, blue, loop):
    async def work():
        async with red_and_blue() as network:
            for (vrf, local), (far_vrf, remote) in (
                (("red", red), ("blue", blue)),
                (("blue", blue), ("red", red)),
            ):
                accepted = asyncio.Queue()

                def accept(accepted=accepted):
                    talker = Talker()
                    accepted.put_nowait(talker)
                    return talker

                listener = await network.listen_tcp(accept, TcpOptions(vrf=far_vrf, local=remote))
                transport, talker = await network.connect_tcp(Talker, TcpOptions(vrf=vrf, local=local, remote=remote))
                far = await asyncio.wait_for(accepted.get(), 2)
                await far.connected.wait()
                assert far.transport.get_extra_info("sockname")[:2] == (socket.inet_ntop(_family(remote), remote), 179)
                assert far.transport.get_extra_info("peername")[0] == socket.inet_ntop(_family(local), local)
                octets = bytes(range(256)) * 2000
                transport.write(octets)
                while len(far.heard) < len(octets):
                    far.enough.clear()
                    await asyncio.wait_for(far.enough.wait(), 5)
                assert far.heard == octets
                far.transport.write(b"back")
                await asyncio.wait_for(talker.enough.wait(), 2)
                listener.close()
                listener.close()
                transport.close()
                await asyncio.wait_for(far.lost.wait(), 2)

    with two_nodes() as (a, _):
        inside(a, work, loop=loop)


def _family(address):
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def test_a_strict_rp_filter_for_all_devices_is_loosened_on_host_ports():
    async def work():
        async with red_and_blue() as network:
            listener = await network.listen_tcp(Talker, TcpOptions(vrf="blue", local=BLUE))
            outcome = await connects(network, TcpOptions(vrf="red", local=RED, remote=BLUE))
            listener.close()
            return outcome

    with two_nodes() as (a, _):
        a.switch({"net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.default.rp_filter": "1"})
        assert inside(a, work)


@pytest.mark.parametrize("loop", LOOPS)
def test_listeners_of_all_vrfs_share_port_179_and_hear_their_own(loop):
    """Also: what comes in by a VRF's port never reaches the default VRF's listener, even if the VRF has none."""

    async def work():
        async with red_and_blue() as network:
            heard = []

            def accepting(vrf):
                def factory():
                    heard.append(vrf)
                    return Talker()

                return factory

            everybody = await network.listen_tcp(accepting(""), TcpOptions())
            blue = await network.listen_tcp(accepting("blue"), TcpOptions(vrf="blue"))
            for remote, local in ((BLUE, RED), (BLUE6, RED6)):
                assert await connects(network, TcpOptions(vrf="red", local=local, remote=remote))
            assert heard == ["blue", "blue"]
            blue.close()
            await asyncio.sleep(0)
            assert await connects(network, TcpOptions(vrf="red", local=RED, remote=BLUE), seconds=0.4) is None
            # A VRF that is made later is kept apart from the default listener too.
            green, yellow = network.host_port("green", 3, 1500), network.host_port("yellow", 4, 1500)
            for port, address in ((green, RED), (yellow, BLUE)):
                network.host.add_address(port.name, address, 32)
            join(green, yellow)
            assert await connects(network, TcpOptions(vrf="green", local=RED, remote=BLUE), seconds=0.4) is None
            assert heard == ["blue", "blue"]
            assert await connects(network, TcpOptions(remote=parse_address("127.0.0.1")))
            assert heard == ["blue", "blue", ""]
            everybody.close()

    with two_nodes() as (a, _):
        inside(a, work, loop=loop)


@pytest.mark.parametrize(("red", "blue"), [(RED, BLUE), (RED6, BLUE6)], ids=["ipv4", "ipv6"])
def test_rfc5082_3_a_smaller_ttl_is_not_accepted(red, blue):
    async def work():
        async with red_and_blue() as network:
            listener = await network.listen_tcp(Talker, TcpOptions(vrf="blue", local=blue, ttl=255, min_ttl=255))
            near = TcpOptions(vrf="red", local=red, remote=blue, ttl=255, min_ttl=255)
            assert await connects(network, near)
            assert await connects(network, TcpOptions(vrf="red", local=red, remote=blue, ttl=254), seconds=0.4) is None
            listener.close()

    with two_nodes() as (a, _):
        inside(a, work)


@pytest.mark.parametrize(("red", "blue"), [(RED, BLUE), (RED6, BLUE6)], ids=["ipv4", "ipv6"])
def test_rfc2385_2_0_only_segments_signed_with_the_key_are_accepted(red, blue):
    async def work():
        async with red_and_blue() as network:
            # By the listener's own options for one remote, for any remote, and key by key.
            one = TcpOptions(vrf="blue", local=blue, remote=red, md5=SECRET)
            anybody = TcpOptions(vrf="blue", local=blue, md5=SECRET)
            bare = TcpOptions(vrf="blue", local=blue)
            for options in (one, anybody, bare):
                listener = await network.listen_tcp(Talker, options)
                if options is bare:
                    listener.set_md5(red, SECRET)
                for key, wanted in ((SECRET, True), (b"another key", False), (b"", False)):
                    near = TcpOptions(vrf="red", local=red, remote=blue, md5=key)
                    assert bool(await connects(network, near, seconds=1.0 if wanted else 0.3)) == wanted
                if options is bare:
                    listener.set_md5(red, b"")
                    listener.set_md5(red, b"")
                    assert await connects(network, TcpOptions(vrf="red", local=red, remote=blue))
                listener.close()
                await asyncio.sleep(0)

    with two_nodes() as (a, _):
        inside(a, work)


def test_a_key_that_is_too_long_is_refused_and_no_key_is_ever_printed():
    async def work():
        network = OsNetwork()
        with pytest.raises(OSError, match="at most 80 octets") as caught:
            await network.connect_tcp(Talker, TcpOptions(remote=RED, md5=b"S" * 81))
        assert "SSS" not in str(caught.value)

    with two_nodes() as (a, _):
        inside(a, work)


def test_ttl_and_dscp_are_in_what_is_sent():
    seen = set()

    def between(octets):
        if octets[0] >> 4 == 4:
            seen.add((octets[1], octets[8]))
        else:
            seen.add(((octets[0] & 0xF) << 4 | octets[1] >> 4, octets[7]))
        return True

    async def work():
        async with red_and_blue(between) as network:
            for local, remote in ((RED, BLUE), (RED6, BLUE6)):
                far = TcpOptions(vrf="blue", local=remote, ttl=7, dscp=48)
                listener = await network.listen_tcp(Talker, far)
                near = TcpOptions(vrf="red", local=local, remote=remote, ttl=7, dscp=48)
                transport, _ = await network.connect_tcp(Talker, near)
                transport.write(b"x")
                await asyncio.sleep(0.02)
                listener.close()

    with two_nodes() as (a, _):
        inside(a, work)
    assert seen == {(48 << 2, 7)}


def test_a_listener_may_be_there_before_its_address():
    async def work():
        network = OsNetwork()
        for address in (RED, RED6):
            listener = await network.listen_tcp(Talker, TcpOptions(local=address))
            network.host.add_address("lo", address, len(address) * 8)
            assert await connects(network, TcpOptions(remote=address))
            listener.close()

    with two_nodes() as (a, _):
        inside(a, work)


def test_what_cannot_be_connected_says_why():
    async def work():
        network = OsNetwork()
        with pytest.raises(OSError, match="VRF red has no host port"):
            await network.connect_tcp(Talker, TcpOptions(vrf="red", remote=RED))
        with pytest.raises(OSError, match="different families"):
            await network.connect_tcp(Talker, TcpOptions(local=RED, remote=BLUE6))
        with pytest.raises(OSError) as caught:
            await network.connect_tcp(Talker, TcpOptions(local=RED, remote=parse_address("127.0.0.1")))
        assert caught.value.errno == errno.EADDRNOTAVAIL
        with pytest.raises(ConnectionRefusedError):
            await network.connect_tcp(Talker, TcpOptions(remote=parse_address("127.0.0.1")))
        other = socket.socket()
        other.bind(("127.0.0.1", 179))
        other.listen()
        with pytest.raises(OSError, match="another process has the port"):
            await network.listen_tcp(Talker, TcpOptions(local=parse_address("127.0.0.1")))
        other.close()

    with two_nodes() as (a, _):
        inside(a, work)


def test_host_port_survives_its_holder():
    """The packet path restarts: the device stays, and with it the addresses and the sessions over it."""

    async def work():
        async with red_and_blue() as network:
            accepted = asyncio.Queue()

            def accept():
                accepted.put_nowait(talker := Talker())
                return talker

            listener = await network.listen_tcp(accept, TcpOptions(vrf="blue", local=BLUE))
            transport, _ = await network.connect_tcp(Talker, TcpOptions(vrf="red", local=RED, remote=BLUE))
            far = await asyncio.wait_for(accepted.get(), 2)
            index = network.host.device("ls-1").index
            with pytest.raises(OSError, match="host port of VRF red is open already"):
                network.host_port("red", 1, 1500)
            first = {vrf: door.tun for vrf, door in network._doors.items()}
            for vrf in first:
                network._park(vrf)
            red, blue = network.host_port("red", 1, 1400), network.host_port("blue", 2, 1400)
            join(red, blue)
            assert network.host.device("ls-1").index == index
            assert network.host.device("ls-1").mtu == 1400
            assert (red.mtu, red.name) == (1400, "ls-1")
            transport.write(b"still here")
            await asyncio.wait_for(far.enough.wait(), 3)
            assert far.heard == b"still here"
            red.close()
            red.close()
            blue.close()
            network._forget("red")
            with pytest.raises(OSError):
                network.host.device("ls-1")
            listener.close()

    with two_nodes() as (a, _):
        inside(a, work)


def test_network_close_gives_back_every_device():
    async def work():
        network = OsNetwork()
        network.host_port("", 0, 1500)
        network.host_port("red", 1, 1500)
        network.close()
        return [device.name for device in network.host.devices()]

    with two_nodes() as (a, _):
        assert sorted(inside(a, work)) == ["eth0", "lo"]
