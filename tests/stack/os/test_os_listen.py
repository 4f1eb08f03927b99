"""Listening on the real kernel when peers differ: in the TTL that is demanded of them, and in the keys that they sign with.

And the device of a VRF that is gone, which another VRF gets.
"""

from __future__ import annotations

import asyncio
import errno

import pytest

from stack.addr import Prefix
from stack.net import TcpOptions
from stack.os import OsNetwork, bpf, tcp
from tests.stack.os.os_world import LOOPS, inside, two_nodes
from tests.stack.os.test_os_tcp import BLUE, BLUE6, RED, RED6, SECRET, Talker, connects, red_and_blue

pytestmark = pytest.mark.root


def rule(source, *, length=None, ttl):
    return Prefix.of(source, len(source) * 8 if length is None else length), ttl


@pytest.mark.parametrize(("red", "blue"), [(RED, BLUE), (RED6, BLUE6)], ids=["ipv4", "ipv6"])
def test_rfc5082_3_each_source_has_its_own_least_ttl(red, blue):
    elsewhere = Prefix.of(bytes((9,)) + red[1:], 8)

    async def tried(rules, ttl, *, seconds):
        async with red_and_blue() as network:
            listener = await network.listen_tcp(Talker, TcpOptions(vrf="blue", local=blue, ttl=255, hops=rules))
            came = await connects(network, TcpOptions(vrf="red", local=red, remote=blue, ttl=ttl), seconds=seconds)
            listener.close()
            return bool(came)

    async def work():
        # demanded of this peer; of somebody else; of its network; of its network but not of it
        own = (rule(red, ttl=255),)
        other = ((elsewhere, 255),)
        network = (rule(red, length=len(red) * 8 - 9, ttl=254),)
        eased = (*network, rule(red, ttl=0))
        assert await tried(own, 255, seconds=2)
        assert not await tried(own, 254, seconds=0.4)
        assert await tried(other, 64, seconds=2)
        assert await tried(network, 254, seconds=2)
        assert not await tried(network, 253, seconds=0.4)
        assert await tried(eased, 64, seconds=2)

    with two_nodes() as (a, _):
        inside(a, work)


@pytest.mark.parametrize("loop", LOOPS)
def test_rfc5082_3_the_rule_holds_for_what_was_accepted_and_beside_the_vrfs_ports(loop):
    # the default VRF's listener rejects VRFs' devices and far sources, by one filter; a later VRF does not undo that
    async def work():
        network = OsNetwork()
        network.host.add_address("lo", RED, 32)
        accepted = asyncio.Queue()

        def accept():
            accepted.put_nowait(talker := Talker())
            return talker

        listener = await network.listen_tcp(accept, TcpOptions(local=RED, ttl=255, hops=(rule(RED, ttl=255),)))
        network.host_port("red", 1, 1500)
        assert await connects(network, TcpOptions(local=RED, remote=RED, ttl=254), seconds=0.4) is None
        transport, _ = await connects(network, TcpOptions(local=RED, remote=RED, ttl=255))
        far = await asyncio.wait_for(accepted.get(), 2)
        transport.write(b"near")
        await asyncio.wait_for(far.enough.wait(), 2)
        transport.get_extra_info("socket").setsockopt(0, 2, 100)  # IP_TTL
        far.enough.clear()
        transport.write(b"far")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(far.enough.wait(), 0.4)
        assert far.heard == b"near"
        transport.abort()
        listener.close()
        network.close()

    with two_nodes() as (a, _):
        inside(a, work, loop=loop)


@pytest.mark.parametrize(("red", "blue"), [(RED, BLUE), (RED6, BLUE6)], ids=["ipv4", "ipv6"])
def test_rfc2385_2_0_keys_are_demanded_before_the_first_segment(red, blue):
    async def work():
        async with red_and_blue() as network:
            keys = ((Prefix.host(red), SECRET),)
            listener = await network.listen_tcp(Talker, TcpOptions(vrf="blue", local=blue, keys=keys))
            assert listener.keyless == {}
            near = TcpOptions(vrf="red", local=red, remote=blue)
            assert await connects(network, near, seconds=0.3) is None
            assert await connects(network, TcpOptions(vrf="red", local=red, remote=blue, md5=SECRET), seconds=2)
            listener.close()

    with two_nodes() as (a, _):
        inside(a, work)


def test_a_key_that_the_kernel_does_not_take_costs_only_its_peer(monkeypatch):
    # one key is too long; and a kernel without TCP MD5 takes none
    async def work():
        async with red_and_blue() as network:
            long, short = (Prefix.host(bytes((10, 0, 0, 9))), b"S" * 81), (Prefix.host(RED), SECRET)
            listener = await network.listen_tcp(Talker, TcpOptions(vrf="blue", local=BLUE, keys=(long, short)))
            assert list(listener.keyless) == [long[0]]
            assert "at most 80 octets" in listener.keyless[long[0]]
            assert "SSS" not in repr(listener.keyless)
            assert await connects(network, TcpOptions(vrf="red", local=RED, remote=BLUE, md5=SECRET), seconds=2)
            listener.close()

            def without(*_arguments, **_named):
                raise OSError(errno.ENOPROTOOPT, "this kernel has no TCP MD5 signatures")

            monkeypatch.setattr(tcp, "set_md5", without)
            listener = await network.listen_tcp(Talker, TcpOptions(vrf="blue", local=BLUE, keys=(short,)))
            assert list(listener.keyless) == [short[0]]
            listener.close()

    with two_nodes() as (a, _):
        inside(a, work)


def test_a_new_vrf_gets_the_device_of_one_that_is_gone():
    """A VRF's number, and with it the device's name, is given to the next VRF; the parked device must not be in its way."""

    async def work():
        network = OsNetwork()
        network.host_port("red", 1, 1500).close()
        first = network.host.device("ls-1").index
        port = network.host_port("green", 1, 1500)
        assert port.name == "ls-1"
        assert network.host.device("ls-1").index != first
        with pytest.raises(OSError, match="in use"):  # but not while somebody has it open
            network.host_port("blue", 1, 1500)
        port.close()
        network.close()

    with two_nodes() as (a, _):
        inside(a, work)


@pytest.mark.parametrize(
    "rules",
    [
        (),
        (rule(RED, ttl=255),),
        (rule(RED, length=9, ttl=3), rule(RED6, ttl=255)),
        (rule(RED6, length=61, ttl=4), rule(RED6, length=64, ttl=9), rule(RED6, length=0, ttl=1)),
    ],
)
@pytest.mark.parametrize("octets", [4, 16])
def test_bpf_jumps_of_hop_rules_stay_inside_and_every_path_returns(rules, octets):
    program = bpf.reject_devices(range(3), bpf.reject_far(rules, octets))
    for at, (code, true, false, _) in enumerate(program):
        if code & 0x07 == 0x05:
            assert max(true, false) < 256
            assert at + 1 + max(true, false) < len(program)
    assert program[-1][0] == 0x06
