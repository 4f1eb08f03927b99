"""A host that has `ip_gre` loaded (data-plane trap 7): its kernel answers every GRE packet that it has no tunnel for with ICMP
port unreachable, although our raw socket has had it. Our node keeps that answer in, through nftables.

Debian's User-mode Linux has the module, but no nftables for IPv4; the machine's kernel may have nftables, but not the module.
So the answer is made in there, by the real module, with our own node running in there too (it works all the same, and says what
is amiss); and that very packet is then sent out past the filter in here.

    red1 --- pe1 (ours) --- tap --- User-mode Linux: ip_gre, pe2 (ours) --- veth --- h2 (a namespace in there)
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stack.lab.capture import Capture
from stack.lab.namespace import Namespace, World
from stack.lab.probe import Prober
from stack.os.filters import drop_answers
from tests.conftest import require_root
from tests.interop.nodes import Node
from tests.interop.pes import customer, pe_config
from tests.interop.uml import UserModeLinux

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]

INSIDE = """
ip link set eth0 up && ip addr add 198.51.100.2/24 dev eth0 && ip addr add 192.0.2.2/32 dev lo
ip route add 192.0.2.1/32 via 198.51.100.1
ip netns add h2 && ip link add eth1 type veth peer name eth0 netns h2 && ip link set eth1 up
ip -n h2 link set eth0 up && ip -n h2 addr add 10.1.2.10/24 dev eth0 && ip -n h2 route add default via 10.1.2.1
ip -n h2 addr add 2001:db8:2::10/64 dev eth0 nodad && ip -n h2 route add default via 2001:db8:2::1
"""

LISTEN = "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47); time.sleep(99)"


@pytest.fixture
def world() -> Iterator[World]:
    require_root()
    with World() as world:
        customer(world, world.add("pe1"), 1)
        yield world


def unreachables(capture: Path) -> list[bytes]:
    """The ICMP messages port and protocol unreachable in a pcap of Ethernet frames."""
    octets, at, found = capture.read_bytes(), 24, []
    while at < len(octets):
        (length,) = struct.unpack_from("=I", octets, at + 8)
        frame = octets[at + 16 : at + 16 + length]
        at += 16 + length
        if frame[12:14] == b"\x08\0" and frame[23] == 1 and frame[34] == 3 and frame[35] in (2, 3):
            found.append(frame[34:])
    return found


def gre_packet(key: int) -> bytes:
    """GRE with a key that nobody has a tunnel for, with an MPLS label that nobody has."""
    return struct.pack(">HHI", 0x2000, 0x8847, key) + struct.pack(">I", 99 << 12 | 0x1FF) + bytes(40)


def test_trap_7_the_answer_of_ip_gre_is_kept_in(world: World, tmp_path: Path) -> None:
    pe1 = world.namespaces["pe1"]
    with ExitStack() as stack:
        uml = stack.enter_context(UserModeLinux(pe1, tmp_path, tap="eth0"))
        for line in INSIDE.strip().splitlines():
            uml.run(line)
        config = pe_config(1, peers=(2,), ways={2: "198.51.100.2"})
        stack.enter_context(Node(pe1, config, {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}, tmp_path))
        # The kernel and a raw socket that is bound as ours is: it answers.
        uml.run(f"{sys.executable} -c {LISTEN!r} & listener=$!; sleep 1")
        with Capture(pe1, "eth0", tmp_path / "answers.pcap"):
            send(pe1, gre_packet(1), 3)
        answers = unreachables(tmp_path / "answers.pcap")
        assert [(answer[:2], answer[8 + 9]) for answer in answers] == [(b"\x03\x03", socket.IPPROTO_GRE)] * 3
        uml.run("kill $listener")
        our_node_works_in_there(world, uml, tmp_path)
    the_filter_stops(answers[0], world.add("here"))


def our_node_works_in_there(world: World, uml: UserModeLinux, folder: Path) -> None:
    start_inside(uml, folder)
    for destination in ("10.1.2.10", "2001:db8:2::10"):
        with Prober(destination, namespace=world.namespaces["red1"]) as prober:
            replies = prober.ping(5, timeout=2)
        assert [reply.kind for reply in replies] == ["reply"] * 5, replies
    send(world.namespaces["pe1"], gre_packet(1), 3)
    assert "GRE key" in uml.run(inside("exec", "--control", "/run/pe2.sock", "show counters drops"))
    assert "the kernel answers every GRE packet" in uml.run("cat /run/pe2.log")


def the_filter_stops(answer: bytes, namespace: Namespace) -> None:
    """What leaves a raw socket passes the same hook as what the kernel itself says."""
    namespace.up("lo")
    needed = b"\x03\x04" + answer[2:]  # fragmentation needed, about the same packet: that one we want
    with namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(answer, ("127.0.0.1", 0))
        undo = namespace.run(lambda: drop_answers(socket.IPPROTO_GRE))
        with pytest.raises(PermissionError):
            raw.sendto(answer, ("127.0.0.1", 0))
        raw.sendto(needed, ("127.0.0.1", 0))
        other = answer[: 8 + 9] + b"\x11" + answer[8 + 10 :]  # the same about UDP
        raw.sendto(other, ("127.0.0.1", 0))
        undo()
        raw.sendto(answer, ("127.0.0.1", 0))


def send(namespace: Namespace, payload: bytes, times: int) -> None:
    """GRE from pe1's transport source, and time for answers: pings follow them on the same way."""
    with namespace.socket(socket.AF_INET, socket.SOCK_RAW, 47) as raw:
        raw.bind(("192.0.2.1", 0))
        for _ in range(times):
            raw.sendto(payload, ("192.0.2.2", 0))
    with Prober("192.0.2.2", namespace=namespace, source="192.0.2.1") as prober:
        assert prober.once(2).ok


def inside(*words: str) -> str:
    """`labelspan` as a shell command inside."""
    quoted = " ".join(f"'{word}'" for word in words)
    return f"cd {ROOT} && {sys.executable} -m stack.cli {quoted}"


def start_inside(uml: UserModeLinux, folder: Path) -> None:
    """pe2 runs, and its customer reaches pe1's: then both have all routes."""
    config = folder / "pe2.cfg"
    config.write_text(pe_config(2, peers=(1,), ways={1: "198.51.100.1"}))
    bound = "--bind", "Ethernet0/0=eth0", "--bind", "Ethernet0/1=eth1"
    uml.run(f"{inside('run', str(config), '--name', 'pe2', '--control', '/run/pe2.sock', *bound)} >/run/pe2.log 2>&1 &")
    for destination in ("10.1.1.10", "2001:db8:1::10"):
        reaches = f"ip netns exec h2 ping -c 1 -W 1 {destination}"
        said = uml.run(
            f"for n in $(seq 50); do {reaches} && break; sleep 0.5; done; tail -n 20 /run/pe2.log", within=90
        )
        assert " 1 received" in said, said
