"""Customers' TCP through the VPN, from hosts whose devices offload (data-plane trap 1), and path MTU (trap 5).

red1 --- pe1 ---(core LAN)--- pe2 --- red2
blue1 --/   the same addresses as red1
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from stack.lab.capture import Capture
from stack.lab.namespace import Namespace, World
from stack.lab.probe import Prober, Reply
from tests.conftest import require_root, require_tool
from tests.interop.nodes import Node
from tests.interop.pes import bridge, pe, pe_config
from tests.interop.tshark import decode, faults

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

FLOOR = 5e6
"""Bits a second: what anything that works at all must reach, on however busy a machine."""

SECONDS = 2
TUNNEL_MTU = 1500 - 20 - 8 - 4
"""The outer IPv4 header, GRE with a key, one label."""

CLAMP = " ip tcp adjust-mss 1400\n"

BLUE = """vrf definition blue
 rd 65000:21
 address-family ipv4
 exit-address-family
!
interface Ethernet0/2
 vrf forwarding blue
 ip address 10.1.1.1 255.255.255.0
!
"""


@frozen
class Vpn:
    world: World
    pes: tuple[Node, Node]

    def host(self, name: str) -> Namespace:
        return self.world.namespaces[name]

    def clamp(self, *, on: bool) -> None:
        for number, node in enumerate(self.pes, 1):
            config = text(number, CLAMP if on else "")
            if node.config != config:
                node.configure(config)
                node.until("show running-config", lambda value: (CLAMP.rstrip() in value["configuration"]) is on)

    def counts(self) -> dict[str, int]:
        """Drops and slow ways of both nodes, by name."""
        found: dict[str, int] = {}
        for node in self.pes:
            value = node.show("show counters drops")
            rows = [(row["reason"], row["packets"]) for row in value["drops"]] + list(value["slow"].items())
            for name, count in rows:
                found[name] = found.get(name, 0) + count
        return found


def text(number: int, attachment: str = "") -> str:
    more = BLUE if number == 1 else ""
    return pe_config(number, peers=(3 - number,), attachment=attachment, more=more)


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    require_root()
    for program in ("iperf3", "ss", "tshark"):
        require_tool(program)
    folder = tmp_path_factory.mktemp("vpn")
    with World() as world, ExitStack() as stack:
        bridge(world)
        nodes = [pe(world, folder, number, text(number)) for number in (1, 2)]
        blue = world.add("blue1")
        world.cable(world.namespaces["pe1"], "eth2", blue, "eth0")
        blue.address("eth0", "10.1.1.10/24")
        nodes[0].bindings = {**nodes[0].bindings, "Ethernet0/2": "eth2"}
        for node in nodes:
            stack.enter_context(node)
        for node, other in zip(nodes, (2, 1), strict=True):
            node.until("show ip route vrf red", lambda value, o=other: f"10.1.{o}.0/24" in str(value))
            node.until("show ipv6 route vrf red", lambda value, o=other: f"2001:db8:{o}::/64" in str(value))
        yield Vpn(world, (nodes[0], nodes[1]))


def iperf3(vpn: Vpn, destination: str, *options: str) -> Any:
    """One run between red1 and red2, its JSON."""
    red1, red2 = vpn.host("red1"), vpn.host("red2")
    server = red2.spawn(["iperf3", "-s", "-1", "-J"], stdout=subprocess.DEVNULL)
    try:
        with Prober(destination, namespace=red1) as prober:
            assert prober.once(3).ok
        listening = red2.run(lambda: subprocess.run(
            ["sh", "-c", "for n in $(seq 100); do ss -Hltn 'sport = :5201' | grep -q . && exit 0; sleep 0.05; done; exit 1"],
            check=False,
        ))  # fmt: skip
        assert listening.returncode == 0
        command = ["iperf3", "-J", "-t", str(SECONDS), "-c", destination, *options]
        done = red1.run(lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False))
        report = json.loads(done.stdout)
        assert "error" not in report, report["error"]
        server.wait(10)
        return report
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("destination", ["10.1.2.10", "2001:db8:2::10"])
@pytest.mark.parametrize("direction", ["-O0", "-R"], ids=["out", "back"])
def test_trap_1_tcp_from_offloading_hosts(
    vpn: Vpn, destination: str, direction: str, record_property: pytest.FixtureRequest
) -> None:
    """With the MSS clamped nothing is too big, nothing is dropped; the hosts' 64 KB frames are cut up by our nodes."""
    vpn.clamp(on=True)
    before = vpn.counts()
    report = iperf3(vpn, destination, direction)
    after = vpn.counts()
    rate = report["end"]["sum_received"]["bits_per_second"]
    record_property("Mbit/s", round(rate / 1e6))
    print(f"{destination} {direction}: {rate / 1e6:.0f} Mbit/s")
    assert rate >= FLOOR
    assert after["SEGMENTED"] > before.get("SEGMENTED", 0)  # else the hosts did not offload, and nothing was proved
    assert after["CLAMPED"] >= before.get("CLAMPED", 0) + 2  # SYN and SYN-ACK
    assert report["start"]["tcp_mss_default"] <= 1400
    grown = {name for name in after if after[name] > before.get(name, 0)}
    assert grown <= {"SEGMENTED", "CLAMPED", "PUNTED", "QUEUE_FULL"}


@pytest.mark.parametrize("destination", ["10.1.2.10", "2001:db8:2::10"])
def test_trap_1_tcp_by_path_mtu_discovery(vpn: Vpn, destination: str, tmp_path: Path) -> None:
    """Without a clamp the first full segments are refused, the host learns, and the rest goes through, well-formed."""
    vpn.clamp(on=False)
    before = vpn.counts()
    with Capture(vpn.host("core"), "to-pe2", tmp_path / "core.pcap"):
        report = iperf3(vpn, destination, "--bitrate", "20M")
    after = vpn.counts()
    assert report["end"]["sum_received"]["bits_per_second"] >= FLOOR
    refused = after.get("TOO_BIG", 0) - before.get("TOO_BIG", 0)
    told = after.get("ICMP_SENT", 0) - before.get("ICMP_SENT", 0)
    assert 0 < told <= refused < 100, (before, after)
    frames = decode(tmp_path / "core.pcap")
    assert len([frame for frame in frames if frame.inner.startswith(("ip:tcp", "ipv6:tcp"))]) > 500
    assert faults(frames) == []


FAMILIES = {4: ("10.1.2.10", "10.1.1.1", 28), 6: ("2001:db8:2::10", "2001:db8:1::1", 48)}
"""Destination, the near PE's address in VRF red, headers of an echo."""


def echo(vpn: Vpn, family: int, length: int, *, df: bool) -> Reply:
    """An echo request of `length` octets, IP header included, from red1 to red2."""
    destination, _, headers = FAMILIES[family]
    with Prober(destination, namespace=vpn.host("red1"), size=length - headers, df=df) as prober:
        return prober.once(2)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("length", [1500, TUNNEL_MTU + 1])
def test_rfc1191_4_and_rfc4443_3_2_what_does_not_fit_is_told_to_its_sender(vpn: Vpn, family: int, length: int) -> None:
    """Fragmentation needed / packet too big: from the near PE's address in that VRF, with the MTU; into no other VRF."""
    _, router, _ = FAMILIES[family]
    with Capture(vpn.host("blue1"), "eth0") as blue:
        reply = echo(vpn, family, length, df=True)
    assert (reply.kind, reply.source, reply.mtu) == ("too-big", router, TUNNEL_MTU)
    assert blue.total(protocol=1) == 0


@pytest.mark.parametrize("family", [4, 6])
def test_what_just_fits_goes_through(vpn: Vpn, family: int) -> None:
    destination = FAMILIES[family][0]
    reply = echo(vpn, family, TUNNEL_MTU, df=True)
    assert (reply.kind, reply.source) == ("reply", destination)


@pytest.mark.parametrize("length", [TUNNEL_MTU + 1, 1500, 4000])
def test_rfc791_3_2_fragments_of_what_may_be_fragmented(vpn: Vpn, length: int) -> None:
    """4000 octets come from the host as fragments of 1500, of which each is fragmented again."""
    before = vpn.counts()
    reply = echo(vpn, 4, length, df=False)
    after = vpn.counts()
    assert (reply.kind, reply.source) == ("reply", "10.1.2.10")
    assert after["FRAGMENTED"] >= before.get("FRAGMENTED", 0) + (length // 1500 or 1)
    assert after.get("TOO_BIG", 0) == before.get("TOO_BIG", 0)


def test_rfc8200_5_ipv6_hosts_fragment_themselves(vpn: Vpn) -> None:
    """What is too big is told to the host, which then sends fragments that fit, and hears the answer."""
    kinds = [echo(vpn, 6, 4000, df=False).kind for _ in range(3)]
    assert set(kinds) <= {"too-big", "timeout", "reply"}
    assert kinds[-1] == "reply"
