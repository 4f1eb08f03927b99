"""The lab's own tools: namespaces, the way in without root, the prober and the capture."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from stack.lab.capture import Capture, Inside, classify
from stack.lab.namespace import Namespace, World, release, why_not_rootless
from stack.lab.probe import Prober, decode_reply, echo_request
from tests.conftest import missing, require_root
from tests.stack.os.os_world import LOOPS, MAC_A, MAC_B, ethernet, inside, ipv4, packet_socket, two_nodes

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def line():
    """```
    a 192.0.2.1/24 -- .254 r .254 -- 198.51.100.2/24 b      (right link: MTU 1300)
      2001:db8:1::1/64 -- ::fe r ::fe -- 2001:db8:2::2/64
    ```"""
    require_root()
    with World() as world:
        a, r, b = (world.add(name) for name in "arb")
        world.cable(a, "eth0", r, "left")
        world.cable(r, "right", b, "eth0", mtu=1300)
        for namespace, device, *addresses in (
            (a, "eth0", "192.0.2.1/24", "2001:db8:1::1/64"),
            (r, "left", "192.0.2.254/24", "2001:db8:1::fe/64"),
            (r, "right", "198.51.100.254/24", "2001:db8:2::fe/64"),
            (b, "eth0", "198.51.100.2/24", "2001:db8:2::2/64"),
        ):
            for address in addresses:
                namespace.address(device, address)
        a.route("default", via="192.0.2.254")
        b.route("default", via="198.51.100.254")
        a.route("::/0", via="2001:db8:1::fe")
        b.route("::/0", via="2001:db8:2::fe")
        r.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        yield a, r, b


# --- namespaces ---


def _kept():
    """What is under /run/netns."""
    return set(Path("/run/netns").iterdir()) if Path("/run/netns").exists() else set()


def test_a_namespace_is_gone_when_it_is_closed():
    require_root()
    before = _kept()
    own = Path("/proc/self/ns/net").stat().st_ino
    with World() as world:
        namespace = world.add("only")
        inode = os.fstat(namespace.fd).st_ino
        assert inode != own
        assert namespace.run(lambda: Path("/proc/thread-self/ns/net").stat().st_ino) == inode
        program = "import os; print(os.stat('/proc/self/ns/net').st_ino, flush=True); input()"
        process = namespace.spawn([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert int(process.stdout.readline()) == inode
    assert process.returncode == -15
    assert Path("/proc/self/ns/net").stat().st_ino == own
    assert _kept() == before
    process.stdin.close()
    process.stdout.close()


def test_a_process_that_ignores_sigterm_is_killed(monkeypatch):
    require_root()
    monkeypatch.setattr("stack.lab.namespace._STOP_SECONDS", 0.1)
    with Namespace("stubborn") as namespace:
        program = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
        process = namespace.spawn([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
    assert process.returncode == -9
    process.stdout.close()


def test_trouble_inside_comes_out():
    require_root()
    with Namespace("n") as namespace, pytest.raises(ZeroDivisionError):
        namespace.run(lambda: 1 // 0)
    namespace.close()


def test_two_namespaces_of_one_name_are_refused():
    require_root()
    with World() as world:
        world.add("a")
        with pytest.raises(FileExistsError):
            world.add("a")


def test_keep_leaves_it_in_run_netns():
    require_root()
    name = f"labelspan-test-{os.getpid()}"
    with World(keep=True) as world:
        inode = os.fstat(world.add(name).fd).st_ino
    try:
        assert Path(f"/run/netns/{name}").stat().st_ino == inode
    finally:
        release(name)
    assert not Path(f"/run/netns/{name}").exists()


# --- without root ---

_ROOTLESS = """
import asyncio, os, socket
from stack.lab.namespace import UserNamespaceRefused, World, _enter, enter_user_namespace
tun_for_all = os.access("/dev/net/tun", os.R_OK | os.W_OK)
try:
    enter_user_namespace()
except UserNamespaceRefused as refused:
    assert not tun_for_all and "chmod 666 /dev/net/tun" in str(refused), refused
    _enter()  # all but TUN works
from stack.os import OsNetwork, findings
from stack.lab.probe import Prober
assert os.geteuid() == 0
with World() as world:
    a, b = world.add("a"), world.add("b")
    world.cable(a, "eth0", b, "eth0")
    a.address("eth0", "192.0.2.1/24"); b.address("eth0", "192.0.2.2/24")
    with Prober("192.0.2.2", namespace=a) as prober:
        assert prober.once().ok
        async def work():
            network = OsNetwork()
            frames, raw = network.frames("eth0", 10), network.raw(47)
            undo = network.host.drop_ingress("eth0", vlans=[None])
            dropped = prober_b.once(0.2).kind
            undo()
            print(frames.headroom, dropped, prober_b.once().kind)
            missing = [finding.name for finding in findings() if not finding.present]
            if not tun_for_all:
                print(missing == ["/dev/net/tun"])
                return
            port, tun = network.host_port("red", 1, 1500), network.tun("cust0", 1400)
            from stack.net import TcpOptions
            listener = await network.listen_tcp(asyncio.Protocol, TcpOptions(vrf="red"))
            listener.close()
            print((port.name, tun.name, missing) == ("ls-1", "cust0", []))
        prober_b = Prober("192.0.2.1", namespace=b)
        a.run(lambda: asyncio.run(work()))
"""


def _run_rootless(interpreter, environment, **options):
    refused = why_not_rootless()
    if refused:
        missing(f"a user namespace ({refused})")
    done = subprocess.run(
        [interpreter, "-c", _ROOTLESS],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        cwd="/",
        timeout=60,
        **options,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["10 timeout reply", "True"]


def test_rootless_everything_works_in_a_user_namespace():
    _run_rootless(sys.executable, ENVIRONMENT)


def test_rootless_everything_works_for_nobody():
    """The same as a user without any privilege; with the system's interpreter where ours is in root's own directory."""
    require_root()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = next(
        (each for each in (sys.executable, f"/usr/bin/{version}") if _open_to_all(Path(each).resolve())), None
    )
    packages = Path(attrs.__file__).parents[1]
    if interpreter is None or not _open_to_all(ROOT / "stack" / "net.py") or not _open_to_all(packages / "attr"):
        missing("a checkout and a Python that anybody can read")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
    _run_rootless(interpreter, environment, user=65534, group=65534, extra_groups=[])


def _open_to_all(path):
    return path.exists() and path.stat().st_mode & 4 and all(each.stat().st_mode & 1 for each in path.parents)


def test_why_not_rootless_names_the_switch(monkeypatch, tmp_path):
    from stack.lab import namespace

    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "max_user_namespaces").write_text("0\n")
    real = Path
    monkeypatch.setattr(namespace, "Path", lambda path: tmp_path if path == "/proc/sys" else real(path))
    refusal = namespace._refusal("OSError: [Errno 28] unshare: No space left on device")
    assert refusal.why == "the host allows no user namespaces"
    assert refusal.command == "sudo sysctl -w user.max_user_namespaces=10000"


def test_a_process_with_threads_cannot_enter():
    program = """
import threading
from stack.lab.namespace import enter_user_namespace
threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    enter_user_namespace()
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, env=ENVIRONMENT)
    assert "a process with threads" in done.stdout


# --- the prober ---


@pytest.mark.parametrize("target", ["198.51.100.2", "2001:db8:2::2"])
def test_ping(line, target):
    a, _, _ = line
    with Prober(target, namespace=a) as prober:
        replies = prober.ping(3)
    assert [(reply.kind, reply.source, reply.sequence) for reply in replies] == [
        ("reply", target, n) for n in (1, 2, 3)
    ]
    assert all(0 < reply.rtt < 1 for reply in replies)


@pytest.mark.parametrize(
    ("target", "router"), [("198.51.100.2", "192.0.2.254"), ("2001:db8:2::2", "2001:db8:1::fe")], ids=["ipv4", "ipv6"]
)
def test_ping_hears_what_routers_say(line, target, router):
    a, r, _ = line
    with Prober(target, namespace=a, ttl=1) as prober:
        reply = prober.once()
        assert (reply.kind, reply.source) == ("time-exceeded", router)
    with Prober(target, namespace=a, df=True, size=1400) as prober:
        reply = prober.once()
        assert (reply.kind, reply.source, reply.mtu) == ("too-big", router, 1300)
    with Prober(target, namespace=a, df=True, size=3000) as prober:
        assert prober.once().kind == "refused"
    with Prober(target, namespace=a, size=3000) as prober:
        prober.once()  # IPv6 learns the path's MTU by it
        assert prober.once().ok
    elsewhere = "203.0.113.1" if "." in target else "2001:db8:9::1"
    with Prober(elsewhere, namespace=a) as prober:
        reply = prober.once()
        assert (reply.kind, reply.source) == ("unreachable", router)
    with Prober(elsewhere, namespace=r) as prober:
        assert prober.once().kind == "refused"


@pytest.mark.parametrize("loop", LOOPS)
def test_ping_on_the_event_loop_tells_when_the_target_was_away(line, loop):
    a, r, _ = line

    async def work():
        replies = []
        with Prober("198.51.100.2") as prober:
            async for reply in prober.stream(interval=0.01, timeout=0.1):
                replies.append(reply.kind)
                if len(replies) == 3:
                    r.netlink.set_link("right", up=False)
                if len(replies) == 6:
                    r.netlink.set_link("right", up=True)
                if replies[-3:] == ["reply"] * 3 and len(replies) > 6:
                    break
        return replies

    replies = inside(a, work, loop=loop)
    assert replies[:3] == ["reply"] * 3
    assert "reply" not in replies[3:6]


def test_decode_reply_takes_any_octets():
    for family in (socket.AF_INET, socket.AF_INET6):
        whole = echo_request(family, 1, 1, 20)
        for length in range(len(whole)):
            assert decode_reply(family, whole[:length], 1) is None
        for octets in (b"", b"\xff" * 40, bytes(range(100))):
            assert decode_reply(family, octets, 0xFFFF) is None


# --- the capture ---


@pytest.mark.parametrize(
    ("frame", "inside"),
    [
        (b"", Inside(0)),
        (ethernet(MAC_A, MAC_B, 0x0806, bytes(28)), Inside(0x0806)),
        (ethernet(MAC_A, MAC_B, 0x8847, bytes(28)), Inside(0x8847)),
        (ethernet(MAC_A, MAC_B, 0x0800, ipv4(bytes(4), bytes(4), 1, b"x")), Inside(0x0800, 1)),
        (ethernet(MAC_A, MAC_B, 0x0800, ipv4(bytes(4), bytes(4), 47, b"\0\0\x88\x47")), Inside(0x0800, 47, 0x8847)),
        (ethernet(MAC_A, MAC_B, 0x0800, ipv4(bytes(4), bytes(4), 47, b"\0")), Inside(0x0800, 47)),
        (ethernet(MAC_A, MAC_B, 0x8847, bytes(4), vlan=10), Inside(0x8847, vlan=10)),
        (ethernet(MAC_A, MAC_B, 0x86DD, b"\x60" + bytes(5) + b"\x3a" + bytes(40)), Inside(0x86DD, 58)),
        (ethernet(MAC_A, MAC_B, 0x86DD, b"\x60"), Inside(0x86DD)),
    ],
)
def test_classify(frame, inside):
    assert classify(frame) == inside


def test_capture_sees_both_directions_and_puts_tags_back(tmp_path):
    with two_nodes() as (a, b):
        near, far = packet_socket(a), packet_socket(b)
        path = tmp_path / "eth0.pcap"
        labelled = ethernet(MAC_A, MAC_B, 0x8847, b"l" * 46)
        tagged = ethernet(MAC_A, MAC_B, 0x8847, b"t" * 46, vlan=10)
        gre = ethernet(MAC_B, MAC_A, 0x0800, ipv4(bytes(4), bytes(4), 47, bytes.fromhex("00008847") + bytes(30)))
        with Capture(a, "eth0", path) as capture:
            far.send(labelled)
            far.send(tagged)
            near.send(gre)
        capture.stop()
        counts = {kind: n for kind, n in capture.counts.items() if kind.ethertype != 0x86DD}
        assert counts == {Inside(0x8847): 1, Inside(0x8847, vlan=10): 1, Inside(0x0800, 47, 0x8847): 1}
        assert capture.total(ethertype=0x8847) == 2
        assert capture.total(gre=0x8847) == 1
        octets = path.read_bytes()
        frames, offset = [], 24
        while offset < len(octets):
            length, whole = struct.unpack_from("=8xII", octets, offset)
            assert length == whole
            frames.append(octets[offset + 16 : offset + 16 + length])
            offset += 16 + length
        assert [frame for frame in frames if frame[12:14] != b"\x86\xdd"] == [labelled, tagged, gre]
        near.close()
        far.close()
