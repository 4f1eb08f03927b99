"""A FlexVPN hub with 2,000 spokes, each with 4 VRF routes (2 VRFs, 2 prefixes), in one process on one core.

    python benchmarks/flexvpn_hub.py [--spokes 100,500,2000] [--window 64] [--advertise] [--abrupt] [--again]
                                      [--json]

Root. Two namespaces and a cable. The hub is `labelspan run` on core 0, with the document's configuration as far as it matters
here: IKEv2 (pre-shared key, X25519) with addresses from a pool, a virtual access interface with an SA and NHRP for each spoke,
dynamic BGP neighbours over the overlay that exchange VPNv4 routes, labels. All spokes are in one process of ours on core 1
(load/flexvpn_load.py), so what the hub costs is measured apart.

Converged: each spoke has the hub's two default routes, and the hub has the four routes of each in its VRFs. By default the hub
tells its spokes nothing else (`prefix-list ... out`), which is what 2,000 spokes are given; with `--advertise` it tells
everything to everybody, as the document does, with a label of its own (a swap) for each route.

Memory is that of the hub's process, over what it had after a few spokes that came and went. Afterwards all leave (`--abrupt`:
their BGP says nothing), and what the hub had before and has after is compared: interfaces, adjacencies, routes, SAs, leases,
sessions, labels, rows on the bus, tasks, open files.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "load"))

from flexvpn_load import ASN, PER_VRF, VRFS, Spokes, prepare
from ikev2_handshakes import cpu_ns
from ipsec_tunnels import memory

from stack.addr import parse_address
from stack.lab.namespace import World

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
GOAL_MEMORY = 150 * 1024
"""Octets a spoke."""
KEY = "a key for a benchmark"
HUB, PEER, OVERLAY = "10.9.0.2", "10.127.0.1", "10.128.0.0/16"
ROUTES = PER_VRF * len(VRFS)
SETTLE = 60.0
"""Seconds until what has left is no longer found."""

CONFIG = """hostname hub
aaa new-model
aaa authorization network local local
ip vrf cust1
 rd 1:1
 route-target export 1:1
 route-target import 1:1
!
ip vrf cust2
 rd 2:2
 route-target export 2:2
 route-target import 2:2
!
ip local pool spokes 10.128.0.1 10.128.255.254
!
crypto ikev2 authorization policy spokes
 pool spokes
 route set interface Loopback0
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
!
interface Loopback0
 ip address {peer} 255.255.255.255
!
interface Ethernet0/0
 ip address {hub} 255.255.255.0
!
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback0
 ip nhrp network-id 1
 ip nhrp redirect
 mpls bgp forwarding
 tunnel source Ethernet0/0
 tunnel protection ipsec profile p
!
router bgp 10
 bgp listen range {overlay} peer-group mpls
 bgp listen limit 5000
 neighbor mpls peer-group
 neighbor mpls remote-as {asn}
 neighbor mpls transport connection-mode passive
 neighbor mpls update-source Loopback0
 !
 address-family vpnv4
  neighbor mpls activate
  neighbor mpls send-community both
{out} exit-address-family
 !
 address-family ipv4 vrf cust1
  redistribute static route-map cust1
  default-information originate
 exit-address-family
 !
 address-family ipv4 vrf cust2
  redistribute static route-map cust2
  default-information originate
 exit-address-family
!
ip route 10.64.0.0 255.255.0.0 10.9.0.1
ip route vrf cust1 0.0.0.0 0.0.0.0 Null0 tag 666
ip route vrf cust2 0.0.0.0 0.0.0.0 Null0 tag 667
!
ip prefix-list default seq 5 permit 0.0.0.0/0
!
route-map cust1 permit 10
 match tag 666
!
route-map cust2 permit 10
 match tag 667
end
"""
OUT = "  neighbor mpls prefix-list default out\n"

# --- the spokes, a process of their own --------------------------------------------------------------------------------


def spokes(window: int) -> None:
    """Lines `up N`, `heard N`, `down [abrupt]` on standard input, each answered when done, with the seconds that it took."""

    async def serve() -> None:
        prepare(OVERLAY)
        found = Spokes(parse_address(HUB), parse_address(PEER), window, KEY.encode(), len(VRFS))
        await found.start()
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            word, *rest = line.split()
            begun = time.monotonic()
            if word == "up":
                await found.up(int(rest[0]))
            elif word == "heard":
                await found.all_heard(int(rest[0]))
            else:
                await found.down(*rest)
            print(time.monotonic() - begun, found.lost, flush=True)

    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())


# --- the hub ------------------------------------------------------------------------------------------------------------

TABLES = (
    "show ip interface brief",
    "show adjacency",
    "show ip route",
    "show ip route vrf cust1",
    "show ip route vrf cust2",
    "show mpls forwarding-table",
    "show mpls label table",
    "show crypto ikev2 sa",
    "show crypto ipsec sa",
    "show crypto session",
    "show ip local pool",
    "show ip bgp vpnv4 all",
    "show ip bgp neighbors",
    "show ip nhrp",
    "show bus",
)


def size(value: Any) -> int:
    """How many there are of whatever is listed, at any depth."""
    if isinstance(value, dict):
        return sum(map(size, value.values()))
    return len(value) + sum(map(size, value)) if isinstance(value, list) else 0


class Run:
    def __init__(self, folder: Path, world: World, given: argparse.Namespace) -> None:
        from tests.interop.nodes import Node

        caller, hub = world.add("spokes"), world.add("hub")
        world.cable(caller, "eth0", hub, "eth0")
        caller.address("eth0", "10.9.0.1/24")
        out = "" if given.advertise else OUT
        config = CONFIG.format(hub=HUB, peer=PEER, overlay=OVERLAY, asn=ASN, key=KEY, out=out)
        self.node = Node(hub, config, {"Ethernet0/0": "eth0"}, folder)
        self.caller, self.given, self.lost = caller, given, 0

    def __enter__(self) -> Run:
        self.node.__enter__()
        assert self.node.process is not None
        self.pid = self.node.process.pid
        os.sched_setaffinity(self.pid, {0})
        command = ["taskset", "-c", "1", sys.executable, __file__, "--load", "--window", str(self.given.window)]
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

    @property
    def cpu(self) -> float:
        return cpu_ns(self.pid) / 1e9

    def tell(self, words: str) -> tuple[float, float]:
        """(seconds that it took, seconds of the hub's CPU)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        spent = self.cpu
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline().split()
        assert said, f"the spokes failed at {words!r}"
        self.lost = int(said[1])
        return float(said[0]), self.cpu - spent

    def state(self) -> dict[str, int]:
        found = {command: size(self.node.show(command)) for command in TABLES}
        found["show bus"] = sum(row["rows"] for row in self.node.show("show bus")["topics"])
        found["show ip local pool"] = sum(pool["in-use"] for pool in self.node.show("show ip local pool"))
        stats = self.node.show("show crypto ikev2 stats")
        found |= {name: stats[name] for name in ("ike-sas", "child-sas", "half-open")}
        found["tasks"] = self.node.show("show version")["tasks"]
        found["descriptors"] = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        return found

    def settled(self, wanted: dict[str, int], seconds: float) -> dict[str, int]:
        """The state, once it is `wanted` or the time is over: SAs linger for what is in flight."""
        end = time.monotonic() + seconds
        while (found := self.state()) != wanted and time.monotonic() < end:
            time.sleep(0.5)
        return found

    def routes(self) -> int:
        return sum(len(self.node.show(f"show ip route vrf cust{one}")) for one in (1, 2))


def measure(count: int, given: argparse.Namespace) -> dict[str, Any]:
    leave = "down abrupt" if given.abrupt else "down"
    with tempfile.TemporaryDirectory() as name, World() as world, Run(Path(name), world, given) as run:
        empty = run.state()
        run.tell("up 20")
        run.tell("down")
        before = run.settled(empty, SETTLE)
        base, routes = memory(run.pid), run.routes()
        begun, spent = time.monotonic(), run.cpu
        run.tell(f"up {count}")
        if given.advertise:
            run.tell(f"heard {len(VRFS) + (count - 1) * ROUTES}")  # all but its own
        seconds, cpu = time.monotonic() - begun, run.cpu - spent
        stood = memory(run.pid)
        here = run.routes() - routes
        full = run.state()
        away = run.tell(leave)
        spent = run.cpu
        after = run.settled(before, SETTLE)
        left = memory(run.pid)
        again = None
        if given.again:
            run.tell(f"up {count}")
            again = memory(run.pid)
            run.tell(leave)
            after = run.settled(before, SETTLE)
        log = run.node.log.read_text()
        drops = run.node.show("show counters drops")
    row = {
        "spokes": count,
        "seconds": {"up": round(seconds, 2), "down": round(away[0], 2)},
        "cpu_ms_a_spoke": {"up": round(cpu / count * 1e3, 2), "down": round(away[1] / count * 1e3, 2)},
        "octets_a_spoke": round((stood - base) / count),
        "octets_a_spoke_left": round((left - base) / count),
        "octets_a_spoke_again": None if again is None else round((again - base) / count),
        "routes": here,
        "leaked": {name: (before[name], after[name]) for name in before if before[name] != after[name]},
        "full": full,
        "lost": run.lost,
        "drops": drops,
        "faults": log.count("Traceback") + log.count("[error"),
    }
    row["met"] = (
        max(row["octets_a_spoke"], row["octets_a_spoke_again"] or 0) <= GOAL_MEMORY
        and here == count * ROUTES
        and not row["leaked"]
        and not row["faults"]
    )
    return row


def words_of(row: dict[str, Any]) -> str:
    again = row["octets_a_spoke_again"]
    second = f", {again / 1024:.1f} the second time" if again is not None else ""
    return (
        f"{row['spokes']:5} spokes: converged in {row['seconds']['up']:.2f} s, "
        f"{row['cpu_ms_a_spoke']['up']:.2f} ms of CPU a spoke; "
        f"gone in {row['seconds']['down']:.2f} s, {row['cpu_ms_a_spoke']['down']:.2f} ms; "
        f"memory {row['octets_a_spoke'] / 1024:.1f} KB a spoke (goal {GOAL_MEMORY / 1024:.0f}){second}, "
        f"{row['octets_a_spoke_left'] / 1024:.1f} when all are gone: {'met' if row['met'] else 'MISSED'}\n"
        f"      with all of them: {row['full']}; {row['routes']} routes in the VRFs\n"
        f"      left over: {row['leaked'] or 'nothing'}; faults in the log: {row['faults']}"
    )


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--spokes", default="100,500,2000")
    words.add_argument("--window", type=int, default=64, help="spokes that come or go at once")
    words.add_argument("--advertise", action="store_true", help="every spoke is told every route")
    words.add_argument("--abrupt", action="store_true", help="spokes leave without a word of BGP")
    words.add_argument("--again", action="store_true", help="all come and go a second time")
    words.add_argument("--json", action="store_true")
    words.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.load:
        spokes(given.window)
        return 0
    if os.geteuid() != 0:
        print("needs root: network namespaces", file=sys.stderr)
        return 2
    met = True
    for count in map(int, given.spokes.split(",")):
        row = measure(count, given)
        met = met and row["met"]
        print(json.dumps(row) if given.json else words_of(row), flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
