"""Registrations a second that a hub takes and answers, with 10,000 clients alive, through a real raw socket of GRE.

    python benchmarks/nhrp_registrations.py [--clients 10000] [--registrations 10000] [--rounds 7] [--window 64] [--json]

Root. Two namespaces and two cables. The hub is `labelspan run` on core 0: an unprotected multipoint tunnel in an NHRP network,
authenticated; all clients are in one process of ours on core 1 (load/nhrp_load.py), each with an NBMA and an overlay address of
its own. First all clients are new; then the same ones register again, at random, in rounds.

The rate is by the CPU of the hub's process. It is alternated, in the same run, with a reference on the same core: an asyncio
loop that reads the same packets by the same kind of socket, makes each a reply by turning an octet and mending the checksum,
and sends it back. It decodes nothing and remembers nothing: what is left of the ratio is what NHRP itself costs. `codec` is
decode and encode of the same packets alone, in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "load"))

from ikev2_handshakes import cpu_ns
from nhrp_load import GRE, PASSWORD, Clients, request

from nhrp.wire import decode, encode
from stack.addr import parse_address
from stack.lab.namespace import World

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
RATE, NEW_CLIENT = 5_000, 1_000
"""Registrations a CPU second, and microseconds of CPU for a client that is new: the goals."""
HUB, ECHO, SERVER = "10.9.0.2", "10.9.1.2", "10.128.0.1"

CONFIG = f"""hostname hub
interface Tunnel0
 ip address {SERVER} 255.255.0.0
 ip nhrp network-id 1
 ip nhrp authentication {PASSWORD.decode()}
 tunnel source Ethernet0/0
 tunnel mode gre multipoint
!
interface Ethernet0/0
 ip address {HUB} 255.255.255.0
!
ip route 10.64.0.0 255.255.0.0 10.9.0.1
end
"""

# --- the clients, a process of their own ------------------------------------------------------------------------------


def clients(count: int, window: int) -> None:
    """Lines `new`, `hub N`, `echo N` on standard input; each is answered with seconds, packets sent again, and refusals."""
    hub = Clients(count, parse_address(HUB), parse_address(SERVER))
    echo = Clients(count, parse_address(ECHO), parse_address(SERVER))
    print("ready", flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        to = echo if word == "echo" else hub
        numbers = range(count) if word == "new" else random.choices(range(count), k=int(rest[0]))
        took = to.register(dict.fromkeys(numbers), window)
        print(took, to.again, to.refused, len(dict.fromkeys(numbers)), flush=True)


# --- the reference, a process of its own ------------------------------------------------------------------------------


def echo() -> None:
    """Everything that comes goes back where it came from, a request as a reply."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, GRE)
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)

    def readable() -> None:
        for _ in range(64):
            try:
                octets = receiver.recv(2048)
            except BlockingIOError:
                return
            source = octets[12:16]
            packet = bytearray(octets[:12] + octets[16:20] + source + octets[20:])
            packet[24 + 17] += 1  # Registration Request to Reply
            checksum = int.from_bytes(packet[36:38]) - 1
            packet[36:38] = (checksum + (checksum < 0) * 0xFFFF).to_bytes(2)
            sender.sendto(packet, (".".join(map(str, source)), 0))

    async def serve() -> None:
        asyncio.get_running_loop().add_reader(receiver.fileno(), readable)
        print("ready", flush=True)
        await asyncio.sleep(3600)

    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())


def codec(registrations: int) -> float:
    """Seconds of CPU for one packet decoded and one encoded."""
    one = request(1, parse_address(HUB), parse_address(SERVER))
    octets, begun = encode(one), time.process_time()
    for _ in range(registrations):
        decode(octets)
        encode(one)
    return (time.process_time() - begun) / registrations


# --- the rest -----------------------------------------------------------------------------------------------------------


class Run:
    def __init__(self, folder: Path, world: World, given: argparse.Namespace) -> None:
        from tests.interop.nodes import Node

        caller, hub, echo_ = world.add("clients"), world.add("hub"), world.add("echo")
        for device, there, net in (("eth0", hub, "10.9.0"), ("eth1", echo_, "10.9.1")):
            world.cable(caller, device, there, "eth0")
            caller.address(device, f"{net}.1/24")
        command = ["ip", "route", "add", "local", "10.64.0.0/16", "dev", "lo"]
        caller.run(lambda: subprocess.run(command, check=True))
        echo_.address("eth0", f"{ECHO}/24")
        echo_.route("10.64.0.0/16", via="10.9.1.1")
        self.node = Node(hub, CONFIG, {"Ethernet0/0": "eth0"}, folder)
        self.caller, self.echo, self.given = caller, echo_, given

    def __enter__(self) -> Run:
        self.node.__enter__()
        assert self.node.process is not None
        self.pid = self.node.process.pid
        os.sched_setaffinity(self.pid, {0})
        self.mirror = self._spawn(self.echo, 0, "--echo")
        size, window = str(self.given.clients), str(self.given.window)
        self.clients = self._spawn(self.caller, 1, "--load", "--clients", size, "--window", window)
        return self

    def _spawn(self, where: Any, core: int, *words: str) -> subprocess.Popen[str]:
        command = ["taskset", "-c", str(core), sys.executable, __file__, *words]
        process: subprocess.Popen[str] = where.spawn(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", f"{words} did not start"
        return process

    def __exit__(self, *error: object) -> None:
        for process in (self.clients, self.mirror):
            process.terminate()
            process.wait(5)
        self.node.__exit__(*error)  # type: ignore[arg-type]  # as they came

    def tell(self, words: str, pid: int) -> tuple[float, float]:
        """(seconds, seconds of a process's CPU) of one registration."""
        assert self.clients.stdin is not None
        assert self.clients.stdout is not None
        spent = cpu_ns(pid)
        self.clients.stdin.write(f"{words}\n")
        self.clients.stdin.flush()
        said = self.clients.stdout.readline().split()
        assert said, f"the clients failed at {words!r}"
        self.again, self.refused, count = (int(word) for word in said[1:])
        return float(said[0]) / count, (cpu_ns(pid) - spent) / 1e9 / count


def measure(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, World() as world, Run(Path(name), world, given) as run:
        run.node.until("show ip interface brief", bool)
        time.sleep(0.5)
        new = run.tell("new", run.pid)
        rounds = []
        for turn in range(given.rounds + 1):
            ours = run.tell(f"hub {given.registrations}", run.pid)
            again, refused = run.again, run.refused
            reference = run.tell(f"echo {given.registrations}", run.mirror.pid)
            if turn:  # the first one warms up
                rounds.append((ours, reference))
        held = run.node.show("show ip nhrp summary") if given.summary else None
        entries = len(run.node.show("show ip nhrp"))
        drops = run.node.text("show counters drops")
        faults = sum(run.node.log.read_text().count(word) for word in ("Traceback", "[error"))
    cpu, alone = median(one[1] for one, _ in rounds), median(other[1] for _, other in rounds)
    row = {
        "clients": given.clients,
        "new_us": {"wall": round(new[0] * 1e6), "cpu": round(new[1] * 1e6)},
        "us": {"wall": round(median(one[0] for one, _ in rounds) * 1e6), "cpu": round(cpu * 1e6)},
        "a_cpu_second": round(1 / cpu),
        "a_second": round(1 / median(one[0] for one, _ in rounds)),
        "reference_us": round(alone * 1e6),
        "ratio": round(median(one[1] / other[1] for one, other in rounds), 2),
        "codec_us": round(codec(given.registrations) * 1e6),
        "entries": entries,
        "again": again,
        "refused": refused,
        "drops": drops,
        "faults": faults,
        "summary": held,
    }
    row["met"] = (
        row["a_cpu_second"] >= RATE
        and new[1] * 1e6 <= NEW_CLIENT
        and not (again or refused or faults)
        and entries == given.clients
    )
    return row


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--clients", type=int, default=10_000)
    words.add_argument("--registrations", type=int, default=10_000)
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--window", type=int, default=64, help="registrations that wait for an answer at once")
    words.add_argument("--json", action="store_true")
    words.add_argument("--summary", action="store_true", help=argparse.SUPPRESS)
    words.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    words.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.echo:
        echo()
        return 0
    if given.load:
        with contextlib.suppress(KeyboardInterrupt):
            clients(given.clients, given.window)
        return 0
    if os.geteuid() != 0:
        print("needs root: network namespaces", file=sys.stderr)
        return 2
    row = measure(given)
    if given.json:
        print(json.dumps(row))
    else:
        verdict = "met" if row["met"] else "MISSED"
        print(
            f"{row['a_cpu_second']} registrations a CPU second ({row['us']['cpu']} us each; goal {RATE}), "
            f"{row['a_second']} a second by the clock; new client {row['new_us']['cpu']} us of CPU "
            f"(goal {NEW_CLIENT}): {verdict}"
        )
        print(
            f"reference (echo, nothing decoded) {row['reference_us']} us, ratio {row['ratio']:.2f}; "
            f"codec alone {row['codec_us']} us"
        )
        print(
            f"{row['entries']} entries of {row['clients']}; sent again {row['again']}, refused {row['refused']}, "
            f"faults {row['faults']}; dropped: {row['drops'].strip() or 'nothing'}"
        )
    return 0 if row["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
