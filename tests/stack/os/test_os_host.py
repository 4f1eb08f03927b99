"""The host's tables: devices, addresses, routes, what is ours and what is not, and being told of changes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack.addr import Prefix, parse_address
from stack.net import HostRoute
from stack.os import OsNetwork, SysctlRefused, read_sysctl, write_sysctl
from stack.os.rtnetlink import RouteNetlink
from tests.stack.os.os_world import LOOPS, MAC_A, inside, two_nodes

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.root

ONE, ONE6 = parse_address("192.0.2.1"), parse_address("2001:db8::1")
NET, NET6 = Prefix.parse("198.51.100.0/24"), Prefix.parse("2001:db8:1::/48")
GATEWAY, GATEWAY6 = parse_address("192.0.2.2"), parse_address("2001:db8::2")


def host_of(namespace):
    """The host of a namespace; its netlink socket is opened there and may then be used from anywhere."""

    def make():
        host = OsNetwork().host
        host.devices()
        return host

    return namespace.run(make)


def test_devices():
    with two_nodes(mtu=1400) as (a, _):
        devices = {device.name: device for device in host_of(a).devices()}
        assert set(devices) == {"lo", "eth0"}
        assert (devices["eth0"].mac, devices["eth0"].mtu, devices["eth0"].up) == (MAC_A, 1400, True)
        assert (devices["lo"].mac, devices["lo"].up) == (b"", True)


def test_set_link():
    with two_nodes() as (a, b):
        host = host_of(a)
        host.set_link("eth0", up=False, mtu=1300)
        assert [(each.mtu, each.up) for each in host.devices() if each.name == "eth0"] == [(1300, False)]
        host.set_link("eth0", up=True)
        b.netlink.set_link("eth0", up=False)  # no carrier: not up, whatever we wish
        deadline = time.monotonic() + 5  # the kernel notices by work of its own, which may come a second later
        while any(each.up for each in host.devices() if each.name == "eth0"):
            assert time.monotonic() < deadline


@pytest.mark.parametrize(("address", "length"), [(ONE, 24), (ONE6, 64)], ids=["ipv4", "ipv6"])
def test_addresses(address, length):
    with two_nodes() as (a, _):
        host = host_of(a)
        host.add_address("eth0", address, length)
        assert ("eth0", address, length) in list(host.addresses())
        assert [(each.device, each.address) for each in host.ours()[0]] == [("eth0", address)]
        with pytest.raises(FileExistsError):
            host.add_address("eth0", address, length)
        host.remove_address("eth0", address, length)
        assert ("eth0", address, length) not in list(host.addresses())
        with pytest.raises(OSError) as caught:
            host.remove_address("eth0", address, length)
        assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ("own", "length", "prefix", "via"),
    [(ONE, 24, NET, GATEWAY), (ONE6, 64, NET6, GATEWAY6), (ONE, 24, Prefix.parse("0.0.0.0/0"), GATEWAY)],
    ids=["ipv4", "ipv6", "default"],
)
def test_routes_are_added_replaced_and_removed_as_ours(own, length, prefix, via):
    with two_nodes() as (a, _):
        host = host_of(a)
        host.add_address("eth0", own, length)
        connected = [(route.prefix, ours) for route, ours in host.routes()]
        assert connected == [(Prefix.of(own, length), False)]
        by_gateway = HostRoute(prefix, via=via, device="eth0", source=own)
        host.add_route(HostRoute(prefix, via=via))
        assert (HostRoute(prefix, via=via, device="eth0"), True) in list(host.routes())
        host.add_route(by_gateway)  # ours: replaced
        assert [route for route, ours in host.routes() if ours] == [by_gateway]
        assert host.ours()[1] == (by_gateway,)
        host.add_route(HostRoute(prefix, device="eth0"))
        assert [route for route, ours in host.routes() if ours] == [HostRoute(prefix, device="eth0")]
        host.remove_route(HostRoute(prefix, device="eth0"))
        with pytest.raises(ProcessLookupError):
            host.remove_route(HostRoute(prefix, device="eth0"))
        assert [(route.prefix, ours) for route, ours in host.routes()] == connected


@pytest.mark.parametrize(("own", "prefix", "via"), [(ONE, NET, GATEWAY), (ONE6, NET6, GATEWAY6)], ids=["ipv4", "ipv6"])
def test_routes_of_others_are_never_overwritten_nor_removed(own, prefix, via):
    with two_nodes() as (a, _):
        host = host_of(a)
        host.add_address("eth0", own, 24 if len(own) == 4 else 64)
        a.netlink.add_route(prefix, via=via, protocol=4)  # RTPROT_STATIC, an operator's
        with pytest.raises(FileExistsError):
            host.add_route(HostRoute(prefix, device="eth0"))
        with pytest.raises(ProcessLookupError):
            host.remove_route(HostRoute(prefix, via=via))
        assert (HostRoute(prefix, via=via, device="eth0"), False) in list(host.routes())


@pytest.mark.parametrize("loop", LOOPS)
def test_watch_tells_of_devices_addresses_and_routes_of_others_but_not_of_our_routes(loop):
    with two_nodes() as (a, b):

        async def work():
            host = OsNetwork().host
            told = asyncio.Event()
            calls = []

            def changed():
                calls.append(1)
                told.set()

            host.watch(changed)

            async def tells(action, seconds=2.5):
                """The kernel tells of a lost carrier up to a second late."""
                await asyncio.sleep(0.02)
                told.clear()
                action()
                try:
                    await asyncio.wait_for(told.wait(), seconds)
                except TimeoutError:
                    return False
                return True

            assert await tells(lambda: host.add_address("eth0", ONE, 24))
            assert await tells(lambda: b.netlink.set_link("eth0", up=False))
            assert await tells(lambda: b.netlink.set_link("eth0", up=True))
            assert await tells(lambda: host.set_link("eth0", up=True, mtu=1400))
            other = RouteNetlink()
            assert await tells(lambda: other.add_route(NET, via=GATEWAY, protocol=4))
            mine = HostRoute(Prefix.parse("203.0.113.0/24"), via=GATEWAY)
            assert not await tells(lambda: host.add_route(mine), 0.2)
            assert not await tells(lambda: host.remove_route(mine), 0.2)
            before = len(calls)
            for n in range(20):  # together: told once
                host.add_address("eth0", bytes((10, 0, n, 1)), 24)
            await asyncio.sleep(0.05)
            assert len(calls) == before + 1
            host.watch(None)
            assert not await tells(lambda: host.remove_address("eth0", ONE, 24), 0.2)
            host.close()

        inside(a, work, loop=loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_watch_survives_more_than_its_queue_holds(loop):
    """A netlink overrun (ENOBUFS) is POLLERR: uvloop would never call the reader again."""
    with two_nodes() as (a, _):

        async def work():
            host = OsNetwork().host
            told = asyncio.Event()
            host.watch(told.set)
            for n in range(2500):
                host.add_address("lo", bytes((10, 1, n >> 8, n & 255)), 32)
            await asyncio.wait_for(told.wait(), 2)
            await asyncio.sleep(0.05)
            told.clear()
            host.add_address("eth0", ONE, 24)
            await asyncio.wait_for(told.wait(), 2)
            host.close()

        inside(a, work, loop=loop)


_LEAVES_BEHIND = """
import os, sys, asyncio
from stack.addr import Prefix, parse_address
from stack.net import HostRoute
from stack.os import OsNetwork
host = OsNetwork().host
host.add_address("eth0", parse_address("192.0.2.1"), 24)
host.add_route(HostRoute(Prefix.parse("198.51.100.0/24"), via=parse_address("192.0.2.2")))
undo = host.drop_ingress("eth0", vlans=[None, 10])
print("ready", flush=True)
sys.stdin.read()
"""


def test_after_kill_9_what_was_ours_is_found_and_the_ingress_drop_is_gone():
    with two_nodes() as (a, b):
        b.address("eth0", "192.0.2.2/24")
        process = a.spawn(
            [sys.executable, "-c", _LEAVES_BEHIND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        from stack.lab.probe import Prober

        assert process.stdout.readline() == b"ready\n"
        with Prober("192.0.2.1", namespace=b) as prober:
            assert prober.once(0.3).kind == "timeout"
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert prober.once(2).ok
        addresses, routes = host_of(a).ours()
        assert [(each.device, each.address, each.length) for each in addresses] == [("eth0", ONE, 24)]
        assert routes == (HostRoute(NET, via=GATEWAY, device="eth0"),)
        process.stdin.close()
        process.stdout.close()


def test_sysctls():
    with two_nodes() as (a, _):
        name = "net.ipv4.conf.eth0.rp_filter"
        a.switch({name: "2"})
        assert a.run(lambda: read_sysctl(name)) == "2"
        assert read_sysctl("net.ipv4.conf.nosuch.rp_filter") is None
        with pytest.raises(SysctlRefused) as caught:
            a.run(lambda: write_sysctl("net.ipv4.no_such_switch", "1"))
        assert caught.value.name == "net.ipv4.no_such_switch"
        assert "sudo sysctl -w net.ipv4.no_such_switch=1" in str(caught.value)


def test_a_read_only_proc_sys_is_named(monkeypatch, tmp_path):
    from stack.os import sysctl

    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    (tmp_path / "net").mkdir()

    def refuse(self, *_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with pytest.raises(SysctlRefused, match="mounted read-only"):
        write_sysctl("net.x", "1")
