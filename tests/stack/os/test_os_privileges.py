"""What is missing is named, with the one command that mends it. Capabilities belong to threads: a test drops its own."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct

import pytest

from stack.addr import Prefix
from stack.lab.namespace import Namespace
from stack.net import HostRoute, TcpOptions
from stack.os import MissingPrivilege, OsNetwork, findings
from stack.os import privileges as module
from tests.conftest import require_root

LOCALHOST = b"\x7f\0\0\1"


def inside_without_capabilities(work):
    require_root()
    with Namespace("n") as namespace:
        namespace.sysctl(ipv4__ip_unprivileged_port_start=1024)
        return namespace.run(lambda: _stripped(work))


def _stripped(work):
    """Do `work` after this thread has dropped its effective capabilities, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=IiI", 0x20080522, 0, 0)
    held = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    held[0] = held[3] = 0
    assert libc.capset(header, held) == 0
    return work()


async def _listen():
    await OsNetwork().listen_tcp(asyncio.Protocol, TcpOptions(local=LOCALHOST))


@pytest.mark.root
@pytest.mark.parametrize(
    ("capability", "attempt"),
    [
        ("CAP_NET_RAW", lambda: OsNetwork().frames("lo", None)),
        ("CAP_NET_RAW", lambda: OsNetwork().labelled_frames("lo")),
        ("CAP_NET_RAW", lambda: OsNetwork().raw(47)),
        ("CAP_NET_RAW", lambda: OsNetwork().raw(47, remote=LOCALHOST)),
        ("CAP_NET_ADMIN", lambda: OsNetwork().tun("cust0", 1500)),
        ("CAP_NET_ADMIN", lambda: OsNetwork().host_port("red", 1, 1500)),
        ("CAP_NET_ADMIN", lambda: OsNetwork().host.add_address("lo", b"\x0a\0\0\1", 32)),
        ("CAP_NET_ADMIN", lambda: OsNetwork().host.add_route(HostRoute(Prefix.parse("10.0.0.0/8"), device="lo"))),
        ("CAP_NET_ADMIN", lambda: OsNetwork().host.set_link("lo", up=True)),
        ("CAP_NET_ADMIN", lambda: OsNetwork().host.drop_ingress("lo", vlans=[None])),
        ("CAP_NET_BIND_SERVICE", lambda: asyncio.run(_listen())),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_names_the_capability(capability, attempt):
    with pytest.raises(PermissionError) as caught:
        inside_without_capabilities(attempt)
    assert isinstance(caught.value, MissingPrivilege)
    assert caught.value.capability == capability
    assert caught.value.errno == errno.EPERM
    assert "setcap cap_net_raw,cap_net_admin,cap_net_bind_service+ep" in caught.value.command
    assert capability in str(caught.value)
    assert caught.value.command in str(caught.value)


@pytest.mark.root
def test_findings_with_and_without():
    require_root()
    assert [finding.name for finding in findings()[:3]] == ["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"]
    with Namespace("n") as namespace:
        assert [finding for finding in namespace.run(findings) if not finding.present] == []
    lacking = {finding.name: finding for finding in inside_without_capabilities(findings) if not finding.present}
    assert set(lacking) == {"CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"}
    assert all(finding.command and finding.needed_for for finding in lacking.values())


@pytest.mark.root
def test_low_ports_need_no_capability_where_the_host_says_so():
    require_root()
    with Namespace("n") as namespace:
        namespace.sysctl(ipv4__ip_unprivileged_port_start=0)
        lacking = namespace.run(lambda: _stripped(lambda: [each.name for each in findings() if not each.present]))
    assert lacking == ["CAP_NET_RAW", "CAP_NET_ADMIN"]


@pytest.mark.parametrize(
    ("error", "detail", "command"),
    [
        (FileNotFoundError(errno.ENOENT, "x"), "no such device node", "mknod"),
        (PermissionError(errno.EACCES, "x"), "root only", "sudo chmod 666 /dev/net/tun"),
        (OSError(errno.ENODEV, "x"), "x", "sudo modprobe tun"),
    ],
)
def test_tun_findings(monkeypatch, error, detail, command):
    def refuse(*_):
        raise error

    monkeypatch.setattr(os, "open", refuse)
    finding = module._tun()
    assert not finding.present
    assert detail in finding.detail
    assert command in finding.command


@pytest.mark.root
def test_a_tun_node_that_is_closed_is_named_rather_than_a_capability(monkeypatch):
    require_root()

    def refuse(path, *_):
        assert path == "/dev/net/tun"
        raise PermissionError(errno.EACCES, "Permission denied")

    with Namespace("n") as namespace:
        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(MissingPrivilege, match="sudo chmod 666 /dev/net/tun"):
            namespace.run(lambda: OsNetwork().tun("cust0", 1500))
        monkeypatch.undo()


def test_a_host_without_ipv6_is_found(monkeypatch):
    import socket

    real = socket.socket

    def refuse(family=socket.AF_INET, *rest, **more):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest, **more)

    monkeypatch.setattr(module.socket, "socket", refuse)
    assert not module._ipv6().present
