"""A hub with a virtual template and 1,000 peers: brought up, rekeyed once, torn down. Time, memory, and what is left.

    python benchmarks/ipsec_tunnels.py [--tunnels 1000] [--window 16] [--json]

Root. Two namespaces and a cable. The hub is `labelspan run` on core 0; all peers are in one process of ours on core 1
(load/ikev2_load.py), each with an address of its own. Each tunnel is an IKE SA (pre-shared key, X25519, AES-256-GCM), a
CHILD_SA, a virtual access interface with its adjacency, an address from a pool and the host route to it. A rekey is of the
CHILD_SA, with a Diffie-Hellman exchange of its own. Memory is that of the hub's process, over what it had after a first few
tunnels that came and went.

What the hub had before and has after is compared: interfaces, adjacencies, routes, SAs, rows on the bus.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "load"))

from attrs import evolve
from ikev2_handshakes import cpu_ns
from ikev2_load import Caller, Load, child_terms, psk_terms

from ikev2.wire.payloads import Attribute
from stack.addr import parse_address
from stack.lab.namespace import World
from stack.os.network import OsNetwork

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
GOAL_MEMORY = 60 * 1024
"""Octets a tunnel."""
KEY = "a key for a benchmark"
HUB = "10.9.0.2"
ADDRESS, NETMASK, SUBNET = 1, 2, 13

CONFIG = """hostname hub
aaa new-model
aaa authorization network local local
ip local pool spokes 10.128.0.1 10.128.255.254
!
crypto ikev2 authorization policy spokes
 pool spokes
 route set interface Loopback1
!
crypto ikev2 limit max-in-negotation-sa 1000
crypto ikev2 cookie-challenge 1000
crypto ikev2 proposal p
 encryption aes-gcm-256
 prf sha384
 group 31
!
crypto ikev2 policy p
 proposal p
!
crypto ikev2 keyring k
 peer all
  address 0.0.0.0 0.0.0.0
  pre-shared-key {key}
 !
!
crypto ikev2 profile p
 match identity remote fqdn domain spokes.example
 identity local fqdn hub.example
 authentication remote pre-share
 authentication local pre-share
 keyring local k
 aaa authorization group psk list local spokes
 virtual-template 1
!
crypto ipsec transform-set t esp-gcm 256
 mode transport
!
crypto ipsec profile p
 set transform-set t
 set ikev2-profile p
 set pfs group31
!
interface Loopback1
 ip address 10.127.0.1 255.255.255.255
!
interface Ethernet0/0
 ip address {hub} 255.255.255.0
!
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback1
 tunnel source Ethernet0/0
 tunnel protection ipsec profile p
!
ip route 10.64.0.0 255.255.0.0 10.9.0.1
end
"""


def address_of(number: int) -> bytes:
    return bytes((10, 64, *(number + 1).to_bytes(2)))


# --- the peers ----------------------------------------------------------------------------------------------------------


class Peers:
    """At most `window` of them are at work at once."""

    def __init__(self, window: int) -> None:
        self.load = Load(OsNetwork())
        self.window = window
        self.callers: list[Caller] = []

    def up(self, count: int) -> None:
        hub = parse_address(HUB)
        request = tuple(Attribute(kind) for kind in (ADDRESS, NETMASK, SUBNET))

        def call(number: int) -> Caller:
            terms = psk_terms(f"n{number}.spokes.example", KEY.encode(), request=request, known_contact=False)
            own = address_of(number)
            caller = self.load.call(own, hub, terms, _with_pfs(own, hub))
            self.callers.append(caller)
            return caller

        self._each(range(count), call, lambda caller: caller.up)

    def rekey(self) -> None:
        self._each(list(self.callers), self._rekeyed, lambda caller: caller.rekeys == 1)

    def _rekeyed(self, caller: Caller) -> Caller:
        self.load.rekey(caller)
        return caller

    def down(self) -> None:
        self._each(list(self.callers), self._closed, lambda caller: caller.closed is not None)
        self.callers.clear()

    def _closed(self, caller: Caller) -> Caller:
        self.load.close(caller)
        return caller

    def _each(self, things: Any, begin: Callable[[Any], Caller], done: Callable[[Caller], bool]) -> None:
        waiting, under_way, moved = deque(things), list[Caller](), time.monotonic()
        while waiting or under_way:
            while waiting and len(under_way) < self.window:
                under_way.append(begin(waiting.popleft()))
            self.load.turn(0.05)
            left = [caller for caller in under_way if not done(caller)]
            now = time.monotonic()
            moved = now if len(left) < len(under_way) else moved
            under_way = left
            for caller in under_way:
                assert not caller.closed, caller.closed
                assert not caller.refused, caller.refused
            assert now - moved < 20, f"{len(under_way)} peers wait and nothing happens"


def _with_pfs(own: bytes, hub: bytes) -> Any:
    terms = child_terms(own, hub)
    from ikev2.config import TransformSet
    from ikev2.crypto.suites import esp_proposals

    return evolve(terms, proposals=esp_proposals([TransformSet("load")], pfs_group=31))


def peers(window: int) -> None:
    """Lines `up N`, `rekey`, `down` on standard input, each answered when it is done, with the seconds that it took."""
    found = Peers(window)
    print("ready", flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        begun = time.monotonic()
        getattr(found, word)(*map(int, rest))
        print(time.monotonic() - begun, flush=True)


# --- the hub ------------------------------------------------------------------------------------------------------------

TABLES = (
    "show ip interface brief",
    "show adjacency",
    "show ip route",
    "show crypto ikev2 sa",
    "show crypto ipsec sa",
    "show ip local pool",
    "show crypto session",
)


def memory(pid: int) -> int:
    """Octets that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def size(value: Any) -> int:
    return len(value) if isinstance(value, list | dict) else 1


class Run:
    def __init__(self, folder: Path, world: World, given: argparse.Namespace) -> None:
        from tests.interop.nodes import Node

        caller, hub = world.add("peers"), world.add("hub")
        world.cable(caller, "eth0", hub, "eth0")
        caller.address("eth0", "10.9.0.1/24")
        command = ["ip", "route", "add", "local", "10.64.0.0/16", "dev", "lo"]
        caller.run(lambda: subprocess.run(command, check=True))
        self.node = Node(hub, CONFIG.format(hub=HUB, key=KEY), {"Ethernet0/0": "eth0"}, folder)
        self.caller, self.given = caller, given
        self.rows: dict[str, Any] = {}

    def __enter__(self) -> Run:
        self.node.__enter__()
        assert self.node.process is not None
        self.pid = self.node.process.pid
        os.sched_setaffinity(self.pid, {0})
        command = ["taskset", "-c", "1", sys.executable, __file__, "--peers"]
        command += ["--window", str(self.given.window)]
        self.process = self.caller.spawn(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(5)
        self.node.__exit__(*error)  # type: ignore[arg-type]  # as they came

    def tell(self, words: str) -> tuple[float, float]:
        """(seconds that it took, seconds of the hub's CPU)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        spent = cpu_ns(self.pid)
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        assert said, f"the peers failed at {words!r}"
        return float(said), (cpu_ns(self.pid) - spent) / 1e9

    def state(self) -> dict[str, int]:
        found = {command: size(self.node.show(command)) for command in TABLES}
        stats = self.node.show("show crypto ikev2 stats")
        found |= {name: stats[name] for name in ("ike-sas", "child-sas", "half-open")}
        return found

    def settled(self, wanted: dict[str, int], seconds: float) -> dict[str, int]:
        """The state, once it is `wanted` or the time is over: SAs linger for what is in flight."""
        end = time.monotonic() + seconds
        while (found := self.state()) != wanted and time.monotonic() < end:
            time.sleep(0.5)
        return found


def measure(given: argparse.Namespace) -> dict[str, Any]:
    count = given.tunnels
    with tempfile.TemporaryDirectory() as name, World() as world, Run(Path(name), world, given) as run:
        empty = run.state()
        run.tell("up 50")
        run.tell("rekey")
        run.tell("down")
        before = run.settled(empty, 10)
        base = memory(run.pid)
        up = run.tell(f"up {count}")
        full, stood = run.state(), memory(run.pid)
        rekey = run.tell("rekey")
        time.sleep(6)
        rekeyed = memory(run.pid)
        down = run.tell("down")
        after = run.settled(before, 15)
        left = memory(run.pid)
        run.tell(f"up {count}")
        again = memory(run.pid)
        run.tell("down")
        log = run.node.log.read_text()
    row = {
        "tunnels": count,
        "seconds": {"up": round(up[0], 2), "rekey": round(rekey[0], 2), "down": round(down[0], 2)},
        "cpu_us_a_tunnel": {
            "up": round(up[1] / count * 1e6),
            "rekey": round(rekey[1] / count * 1e6),
            "down": round(down[1] / count * 1e6),
        },
        "octets_a_tunnel": round((stood - base) / count),
        "octets_a_tunnel_rekeyed": round((rekeyed - base) / count),
        "octets_a_tunnel_again": round((again - base) / count),
        "octets_a_tunnel_left": round((left - base) / count),
        "leaked": {name: (before[name], after[name]) for name in before if before[name] != after[name]},
        "full": full,
        "faults": log.count("Traceback") + log.count("[error"),
    }
    row["met"] = row["octets_a_tunnel"] <= GOAL_MEMORY and not row["leaked"] and not row["faults"]
    return row


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--tunnels", type=int, default=1000)
    words.add_argument("--window", type=int, default=16, help="peers that are at work at once")
    words.add_argument("--json", action="store_true")
    words.add_argument("--peers", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.peers:
        with contextlib.suppress(KeyboardInterrupt):
            peers(given.window)
        return 0
    if os.geteuid() != 0:
        print("needs root: network namespaces", file=sys.stderr)
        return 2
    row = measure(given)
    if given.json:
        print(json.dumps(row))
    else:
        for what in ("up", "rekey", "down"):
            print(f"{what:6} {row['seconds'][what]:6.2f} s   {row['cpu_us_a_tunnel'][what]:6} us of CPU a tunnel")
        print(
            f"memory {row['octets_a_tunnel'] / 1024:.1f} KB a tunnel (goal {GOAL_MEMORY / 1024:.0f}), "
            f"{row['octets_a_tunnel_again'] / 1024:.1f} the second time, "
            f"{row['octets_a_tunnel_rekeyed'] / 1024:.1f} after the rekey, "
            f"{row['octets_a_tunnel_left'] / 1024:.1f} when all are gone"
        )
        print(f"with all of them: {row['full']}")
        print(f"left over: {row['leaked'] or 'nothing'}; faults in the log: {row['faults']}")
    return 0 if row["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
