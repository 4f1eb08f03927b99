"""Encapsulation, decapsulation and swap on the raw backend, against a C loop on the same sockets.

    python benchmarks/dataplane/bench.py [--rounds 5] [--seconds 2] [--modes encap,decap,swap] [--key 0x1234]
    python benchmarks/dataplane/bench.py --esp aes-gcm-256 [...]

Root. Three namespaces: generator -- forwarder -- sink, joined by veths; the generator on core 0, the forwarder on core 1.
The generator overloads the forwarder; a figure is packets out per second of the forwarder's own CPU time (schedstat), so
others on the machine do not count. Reference and ours alternate, and only the ratio of neighbours means something.

With --esp the reference is our own forwarder with the same tunnel in clear, and the modes are encap and decap: what is
measured is what ESP costs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
GOALS = {"encap": (0.70, 0.75), "decap": (0.50, 0.65), "swap": (0.65, 0.72)}
"""Ratio to the C loop: what must be met, what is aimed at."""

ESP_SHARE, ESP_MORE = 0.7, 1500.0
"""With ESP a packet may take the clear path's time divided by this share, and so many nanoseconds more."""

GENERATOR, FORWARDER, SINK = (f"lsb{os.getpid() % 10000}{end}" for end in "gfs")
ENDS = {"encap": ((GENERATOR, "g0"), (SINK, "s0")), "decap": ((SINK, "s0"), (GENERATOR, "g0"))}
ENDS["swap"] = ((SINK, "s0"), (SINK, "s0"))

_KEEPER = """
import sys
from stack.os import OsNetwork
network = OsNetwork()
undo = [network.host.drop_ingress(device, vlans=(None,)) for device in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
"""


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def inside(namespace: str, *words: str) -> list[str]:
    return ["ip", "netns", "exec", namespace, *words]


@contextmanager
def topology(*, routed: bool = False) -> Iterator[None]:
    """The three namespaces, their devices, neighbours, and the drops that keep kernels from routing what is measured.
    `routed`: the forwarder's kernel routes, and the sink's takes what comes."""
    keepers: list[subprocess.Popen[str]] = []
    try:
        for namespace in (GENERATOR, FORWARDER, SINK):
            run("ip", "netns", "add", namespace)
            run(*inside(namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"))
            run(*inside(namespace, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"))
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        for near, mac, far, far_mac, there in (
            ("g0", "02:00:00:00:00:02", "c0", "02:00:00:00:00:01", GENERATOR),
            ("s0", "02:00:00:00:01:02", "u0", "02:00:00:00:01:01", SINK),
        ):
            run(*f"ip -n {there} link add {near} address {mac} type veth peer name {far} address {far_mac}".split(),
                "netns", FORWARDER)  # fmt: skip
            run("ip", "-n", there, "link", "set", near, "up")
            run("ip", "-n", FORWARDER, "link", "set", far, "up")
        for namespace, device, address in (
            (GENERATOR, "g0", "10.1.0.2/24"),
            (FORWARDER, "c0", "10.1.0.1/24"),
            (FORWARDER, "u0", "192.0.2.1/24"),
            (SINK, "s0", "192.0.2.2/24"),
        ):
            run("ip", "-n", namespace, "addr", "add", address, "dev", device)
        for address, device, mac in (
            ("192.0.2.2", "u0", "02:00:00:00:01:02"),
            ("192.0.2.3", "u0", "02:00:00:00:01:02"),
            ("10.1.0.2", "c0", "02:00:00:00:00:02"),
        ):
            run("ip", "-n", FORWARDER, "neigh", "add", address, "lladdr", mac, "dev", device)
        for namespace, device in ((GENERATOR, "g0"), (FORWARDER, "c0"), (SINK, "s0")):
            if routed and namespace != GENERATOR:
                continue
            keepers.append(
                subprocess.Popen(
                    inside(namespace, sys.executable, "-c", _KEEPER, device),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=ENVIRONMENT,
                )
            )
            assert keepers[-1].stdout is not None
            assert keepers[-1].stdout.readline() == "ready\n"
        yield
    finally:
        for keeper in keepers:
            keeper.terminate()
            keeper.wait()
        for namespace in (GENERATOR, FORWARDER, SINK):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def received(namespace: str, device: str) -> int:
    shown = json.loads(run("ip", "-n", namespace, "-s", "-j", "link", "show", device))
    return int(shown[0]["stats64"]["rx"]["packets"])


def cpu_ns(pid: int) -> int:
    """Nanoseconds that all threads of a process have run."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())


def measure(mode: str, command: list[str], blast: list[str], seconds: float) -> float:
    """Packets a CPU second of the forwarder that `command` starts."""
    (source, device), (sink, sink_device) = ENDS["decap" if mode == "swap" else mode][0], ENDS[mode][1]
    forwarder = subprocess.Popen(
        inside(FORWARDER, "taskset", "-c", "1", *command), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        time.sleep(1.0)
        generator = subprocess.Popen(
            inside(source, "taskset", "-c", "0", blast[0], device, *blast[1:3], str(seconds + 0.8), *blast[3:]),
            stdout=subprocess.DEVNULL,
        )
        time.sleep(0.4)
        packets, spent = received(sink, sink_device), cpu_ns(forwarder.pid)
        time.sleep(seconds)
        if forwarder.poll() is not None:
            sys.exit(f"{command[0]} ended by itself with status {forwarder.returncode}")
        packets, spent = received(sink, sink_device) - packets, cpu_ns(forwarder.pid) - spent
        generator.wait()
    finally:
        forwarder.terminate()
        said, _ = forwarder.communicate()
        if os.environ.get("VERBOSE"):
            print(said, file=sys.stderr)
    if not packets or not spent:
        sys.exit(f"{command[0]} forwarded nothing in {mode}")
    return packets / (spent / 1e9)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--seconds", type=float, default=2.0)
    words.add_argument("--size", type=int, default=64)
    words.add_argument("--modes", default="")
    words.add_argument("--key", default="", help="a GRE key, on both sides")
    words.add_argument("--esp", default="", metavar="CIPHER", help="what a protected tunnel costs")
    words.add_argument("--json", action="store_true")
    given = words.parse_args()
    if os.geteuid() != 0:
        print("needs root: network namespaces and raw sockets", file=sys.stderr)
        return 2
    key = [given.key] if given.key else []
    results = {}
    with tempfile.TemporaryDirectory() as built, topology():
        for name in ("reference", "generator"):
            run("cc", "-O2", "-o", f"{built}/{name}", str(HERE / f"{name}.c"))
        for mode in (given.modes or ("encap,decap" if given.esp else "encap,decap,swap")).split(","):
            blast = [f"{built}/generator", mode, str(given.size), *key]
            ours = [sys.executable, str(HERE / "ours.py"), mode, *(["--key", *key] if key else [])]
            if given.esp:
                results[mode] = with_esp(mode, ours, blast, given, f"{built}/frames")
                continue
            pairs = [
                (
                    measure(mode, [f"{built}/reference", mode], blast, given.seconds),
                    measure(mode, ours, blast, given.seconds),
                )
                for _ in range(given.rounds)
            ]
            results[mode] = report(mode, pairs, quiet=given.json)
    if given.json:
        print(json.dumps(results))
    return 0 if all(row["met"] for row in results.values()) else 1


def with_esp(
    mode: str, clear: list[str], blast: list[str], given: argparse.Namespace, frames: str
) -> dict[str, object]:
    """The clear path and the protected one, in turn; nanoseconds a packet."""
    protected, blast_esp = [*clear, "--esp", given.esp], blast
    if mode == "decap":
        run(*clear[:2], "frames", *clear[3:], "--esp", given.esp, "--size", str(given.size), "--out", frames)
        blast_esp = [blast[0], "frames", frames]
    pairs = [
        (1e9 / measure(mode, clear, blast, given.seconds), 1e9 / measure(mode, protected, blast_esp, given.seconds))
        for _ in range(given.rounds)
    ]
    over = median(esp - plain / ESP_SHARE for plain, esp in pairs)
    row: dict[str, object] = {
        "clear_ns": round(median(pair[0] for pair in pairs)),
        "esp_ns": round(median(pair[1] for pair in pairs)),
        "more_ns": round(median(esp - plain for plain, esp in pairs)),
        "over_share_ns": round(over),
        "met": over <= ESP_MORE,
    }
    if not given.json:
        print(
            f"{mode:6s} {given.esp}, {given.size} octets: clear {row['clear_ns']} ns a packet   ESP {row['esp_ns']} ns   "
            f"{row['more_ns']} more; {row['over_share_ns']} over clear/{ESP_SHARE} (goal {ESP_MORE:.0f}) "
            f"{'met' if row['met'] else 'MISSED'}   rounds {' '.join(f'{a / b:.2f}' for a, b in pairs)}",
            flush=True,
        )
    return row


def report(mode: str, pairs: list[tuple[float, float]], *, quiet: bool) -> dict[str, object]:
    ratio = median(ours / reference for reference, ours in pairs)
    low, high = GOALS[mode]
    row: dict[str, object] = {
        "c_kpps": round(median(pair[0] for pair in pairs) / 1e3, 1),
        "ours_kpps": round(median(pair[1] for pair in pairs) / 1e3, 1),
        "ratio": round(ratio, 3),
        "goal": low,
        "aim": high,
        "met": ratio >= low,
    }
    if not quiet:
        print(
            f"{mode:6s} C {row['c_kpps']:>7} kpps/core   ours {row['ours_kpps']:>7} kpps/core   "
            f"ratio {ratio:.2f} (goal {low:.2f}, aim {high:.2f}) {'met' if row['met'] else 'MISSED'}"
            f"   rounds {' '.join(f'{b / a:.2f}' for a, b in pairs)}",
            flush=True,
        )
    return row


if __name__ == "__main__":
    sys.exit(main())
