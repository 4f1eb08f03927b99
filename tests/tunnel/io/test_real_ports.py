"""Two packet paths on real ports, in namespaces: what only a kernel does. Traps 1, 5 and 8; T05."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_root, require_tool

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[3]
BULK = 8 << 20

_SINK = """
import socket, sys
with socket.create_server(("10.2.0.2", 5001)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    got = 0
    while part := connection.recv(1 << 16):
        got += len(part)
print(got, flush=True)
"""
_SOURCE = f"""
import socket
with socket.create_connection(("10.2.0.2", 5001), timeout=20) as connection:
    connection.sendall(bytes({BULK}))
"""


def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=check, capture_output=True, text=True, timeout=60)


class Lab:
    """ce1 -- pe1 == pe2 -- ce2, in four namespaces."""

    def __init__(self) -> None:
        self.tag = f"lst{os.getpid() % 10000}"
        self.running: list[subprocess.Popen[str]] = []

    def name(self, node: str) -> str:
        return self.tag + node

    def inside(self, node: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name(node), *words]

    def ip(self, node: str, *words: str) -> None:
        run("ip", "-n", self.name(node), *words)

    def up(self) -> None:
        for node in ("ce1", "pe1", "pe2", "ce2"):
            run("ip", "netns", "add", self.name(node))
            self.ip(node, "link", "set", "lo", "up")
        for near in (1, 2):
            ce, pe, far = f"ce{near}", f"pe{near}", 3 - near
            self._link(ce, "eth0", f"02:00:00:00:0{near}:02", pe, "c0", f"02:00:00:00:0{near}:01")
            self.ip(ce, "addr", "add", f"10.{near}.0.2/24", "dev", "eth0")
            self.ip(ce, "neigh", "add", f"10.{near}.0.1", "lladdr", f"02:00:00:00:0{near}:01", "dev", "eth0")
            self.ip(ce, "route", "add", f"10.{far}.0.0/24", "via", f"10.{near}.0.1")
        self._link("pe1", "u0", "02:00:00:00:00:11", "pe2", "u0", "02:00:00:00:00:12")
        for near in (1, 2):
            self.ip(f"pe{near}", "addr", "add", f"192.0.2.{near}/24", "dev", "u0")

    def _link(self, one: str, device: str, mac: str, other: str, far: str, far_mac: str) -> None:
        words = f"link add {device} address {mac} type veth peer name {far} address {far_mac} netns {self.name(other)}"
        self.ip(one, *words.split())
        self.ip(one, "link", "set", device, "up")
        self.ip(other, "link", "set", far, "up")

    def start(self, node: str, *words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        started = subprocess.Popen(self.inside(node, *words), stdin=pipe, stdout=pipe, text=True, env=environment)
        self.running.append(started)
        assert started.stdout.readline() == "ready\n"
        return started

    def pe(self, near: int, *words: str) -> subprocess.Popen[str]:
        return self.start(f"pe{near}", sys.executable, str(Path(__file__).with_name("real_pe.py")), str(near), *words)

    def down(self) -> None:
        for process in self.running:
            process.kill()
            process.communicate()
        for node in ("ce1", "pe1", "pe2", "ce2"):
            run("ip", "netns", "del", self.name(node), check=False)


@pytest.fixture
def lab():
    require_root()
    require_tool("ip")
    made = Lab()
    try:
        made.up()
        yield made
    finally:
        made.down()


def counters(pe: subprocess.Popen[str]) -> dict:
    said, _ = pe.communicate("", timeout=10)
    return json.loads(said)


def ping(lab: Lab, *words: str) -> str:
    require_tool("ping")
    return run(*lab.inside("ce1", "ping", "-n", *words), check=False).stdout


def test_trap_1_bulk_tcp_with_offloads_through_the_vpn(lab):
    """Offloads are on at both customers: pieces of up to 64 KB with unfilled checksums, cut to what the tunnel carries
    once path MTU discovery has told the sender."""
    first, second = lab.pe(1), lab.pe(2)
    sink = lab.start("ce2", sys.executable, "-c", _SINK)
    run(*lab.inside("ce1", sys.executable, "-c", _SOURCE))
    got, _ = sink.communicate(timeout=30)
    assert int(got) == BULK
    for told in (counters(first), counters(second)):
        assert {row["reason"] for row in told["drops"]} <= {"TOO_BIG", "QUEUE_FULL", "MULTICAST", "ETHERTYPE"}
        assert told["errors"] == []


def test_trap_1_segments_are_cut_by_the_path(lab):
    first, _ = lab.pe(1), lab.pe(2)
    sink = lab.start("ce2", sys.executable, "-c", _SINK)
    run(*lab.inside("ce1", sys.executable, "-c", _SOURCE))
    sink.communicate(timeout=30)
    told = counters(first)
    assert told["slow"]["SEGMENTED"] > 10
    assert told["slow"]["ICMP_SENT"] >= 1  # fragmentation needed: 1500 does not fit


def test_trap_5_df_is_told_the_mtu_and_the_rest_is_fragmented(lab):
    first, second = lab.pe(1), lab.pe(2)
    assert " 0% packet loss" in ping(lab, "-c2", "-i0.2", "-W2", "10.2.0.2")
    assert " 0% packet loss" in ping(lab, "-c2", "-i0.2", "-W2", "-M", "dont", "-s", "4000", "10.2.0.2")
    assert "mtu = 1468" in ping(lab, "-c1", "-W2", "-M", "do", "-s", "1460", "10.2.0.2")
    assert "From 10.1.0.1" in ping(lab, "-c1", "-W2", "-t1", "10.2.0.2")
    assert "From 10.2.0.1" in ping(lab, "-c1", "-W2", "-t2", "10.2.0.2")
    told = counters(first)
    assert told["slow"]["FRAGMENTED"] >= 2
    assert counters(second)["errors"] == []


def test_T05_fragments_of_the_outer_packet_are_put_together_by_the_kernel(lab):
    """The core's MTU is smaller than the tunnel assumes: the outer packet has no DF, so it is fragmented and arrives."""
    for near in (1, 2):
        lab.ip(f"pe{near}", "route", "add", f"192.0.2.{3 - near}/32", "dev", "u0", "mtu", "lock", "1000")
    lab.pe(1)
    lab.pe(2)
    assert " 0% packet loss" in ping(lab, "-c2", "-i0.2", "-W2", "-s", "1400", "10.2.0.2")


def test_trap_8_a_core_that_answers_with_icmp_errors_stops_no_reader(lab):
    """PE2 is not there: its kernel answers GRE with protocol unreachable. It comes back, and packets flow again."""
    first = lab.pe(1)
    assert " 100% packet loss" in ping(lab, "-c3", "-i0.2", "-W1", "10.2.0.2")
    lab.pe(2)
    assert " 0% packet loss" in ping(lab, "-c3", "-i0.2", "-W2", "10.2.0.2")
    told = counters(first)
    assert "PORT_ERROR" not in {row["reason"] for row in told["drops"]}


def test_trap_8_a_device_that_goes_down_and_comes_back_is_read_again(lab):
    """A packet socket reports ENETDOWN, with which the event loop stops its reader: it is armed again."""
    first, _ = lab.pe(1), lab.pe(2)
    assert " 0% packet loss" in ping(lab, "-c2", "-i0.2", "-W2", "10.2.0.2")
    for state in ("down", "up", "down", "up"):
        lab.ip("pe1", "link", "set", "c0", state)
    assert " 0% packet loss" in ping(lab, "-c2", "-i0.2", "-W2", "10.2.0.2")
    told = counters(first)
    assert any(row["error"] == "ENETDOWN" for row in told["errors"])


_KEEPALIVES = """
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.settimeout(1)
for octets in (b"\\xff", b"short", bytes(4) + b"marked, so it is IKE's"):
    sender.sendto(octets, ("192.0.2.2", 4500))
print("ready", flush=True)
"""


@pytest.mark.parametrize("esp", ["esp", "udp"])
def test_esp_on_real_sockets_small_large_and_bulk(lab, esp):
    """Raw sockets of protocol 50, or of UDP beside a port 4500 that nobody is bound to: batches both ways."""
    first, second = lab.pe(1, esp), lab.pe(2, esp)
    assert " 0% packet loss" in ping(lab, "-c3", "-i0.2", "-W2", "10.2.0.2")
    assert " 0% packet loss" in ping(lab, "-c2", "-i0.2", "-W2", "-M", "dont", "-s", "4000", "10.2.0.2")
    sink = lab.start("ce2", sys.executable, "-c", _SINK)
    run(*lab.inside("ce1", sys.executable, "-c", _SOURCE))
    got, _ = sink.communicate(timeout=30)
    assert int(got) == BULK
    lab.start("pe1", sys.executable, "-c", _KEEPALIVES)
    told = [counters(first), counters(second)]
    for each in told:
        reasons = {row["reason"] for row in each["drops"]}
        assert reasons <= {"TOO_BIG", "QUEUE_FULL", "MULTICAST", "ETHERTYPE", "ESP_MALFORMED"}
        assert each["errors"] == []
    assert told[1]["slow"]["NAT_KEEPALIVE"] == 1
    assert [row["packets"] for row in told[1]["drops"] if row["reason"] == "ESP_MALFORMED"] == [1]


def test_E04_clear_and_protected_ends_do_not_meet(lab):
    lab.pe(1)
    second = lab.pe(2, "esp")
    assert " 100% packet loss" in ping(lab, "-c3", "-i0.2", "-W1", "10.2.0.2")
    assert {"reason": "PROTECTED", "interface": "Tunnel0", "packets": 3} in counters(second)["drops"]
