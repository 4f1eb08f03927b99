"""Linux's own GRE and MPLS (User-mode Linux) as a remote PE's data plane: labelled GRE packets both ways.

FRR speaks BGP for it: it names the User-mode Linux as next hop of the remote customer's routes.

    red1 --- pe1 (ours) --- namespace `far`: FRR 192.0.2.9, tap --- User-mode Linux 192.0.2.8: GRE, MPLS, VRF red --- h8
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from stack.lab.capture import Capture
from stack.lab.namespace import Namespace, World
from stack.lab.probe import Prober
from tests.conftest import require_root, require_tool
from tests.interop.frr import Frr
from tests.interop.nodes import Node
from tests.interop.pes import customer, pe_config
from tests.interop.uml import UserModeLinux
from tunnel.io.tunnels import FORGET_SEQUENCE

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

FRR = """
router bgp 65000
 bgp router-id 192.0.2.9
 no bgp default ipv4-unicast
 neighbor 192.0.2.1 remote-as 65000
 neighbor 192.0.2.1 update-source 192.0.2.9
 address-family ipv4 vpn
  network 10.8.0.0/24 rd 65000:8 label 800
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.1 route-map FAR out
 exit-address-family
 address-family ipv6 vpn
  network 2001:db8:8::/64 rd 65000:8 label 801
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.1 route-map FAR6 out
 exit-address-family
!
route-map FAR permit 10
 set extcommunity rt 65000:100
 set ipv4 vpn next-hop 192.0.2.8
!
route-map FAR6 permit 10
 set extcommunity rt 65000:100
 set ipv6 vpn next-hop ::ffff:192.0.2.8
"""

FAR_PE = """
ip link set eth0 up && ip addr add 203.0.113.2/30 dev eth0 && ip route add default via 203.0.113.1
ip addr add 192.0.2.8/32 dev lo
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.mpls.platform_labels=2000
ip link add red type vrf table 10 && ip link set red up
ip netns add h8 && ip link add to-h8 type veth peer name eth0 netns h8 && ip link set to-h8 master red up
ip addr add 10.8.0.1/24 dev to-h8 && ip -6 addr add 2001:db8:8::1/64 dev to-h8 nodad
ip -n h8 link set eth0 up && ip -n h8 addr add 10.8.0.10/24 dev eth0 && ip -n h8 route add default via 10.8.0.1
ip -n h8 addr add 2001:db8:8::10/64 dev eth0 nodad && ip -n h8 route add default via 2001:db8:8::1
ip -f mpls route add 800 dev red && ip -f mpls route add 801 dev red
"""

TUNNEL = """
ip link del gre1 2>/dev/null; ip link add gre1 type {kind} local 192.0.2.8 remote 192.0.2.1 ttl 64 {options}
ip link set gre1 up mtu 1400 && sysctl -qw net.mpls.conf.gre1.input=1
ip route replace 10.1.1.0/24 vrf red encap mpls {v4} dev gre1
ip -6 route replace 2001:db8:1::/64 vrf red encap mpls {v6} dev gre1
"""


@frozen
class Far:
    """The running topology; `labels`: ours, by prefix."""

    world: World
    pe: Node
    uml: UserModeLinux
    far: Namespace
    labels: dict[str, int]

    @property
    def host(self) -> Namespace:
        return self.world.namespaces["red1"]

    def tunnel(self, protocol: str, options: str) -> None:
        """Our profile's `protocol`, and Linux's tunnel with `options`."""
        config = pe_config(1, ways=WAYS, protocol=protocol)
        if config != self.pe.config:
            self.pe.configure(config)
            self.pe.until("show running-config", lambda value: f" protocol {protocol}" in value["configuration"])
        v4, v6 = self.labels["10.1.1.0/24"], self.labels["2001:db8:1::/64"]
        kind = "gre" if protocol.startswith("gre") else "ipip"
        for line in TUNNEL.format(kind=kind, options=options, v4=v4, v6=v6).strip().splitlines():
            self.uml.run(line)
        self.pe.until("show ip cef vrf red tunnel 0", lambda value: "10.8.0.0/24" in str(value))

    def drops(self) -> Any:
        return self.pe.show("show counters drops")["drops"]

    def ping(self, destination: str, *options: str) -> str:
        """What `ping` in the far customer's host says."""
        words = " ".join(options)
        return self.uml.run(f"ip netns exec h8 ping -c 3 -i 0.2 -W 2 {words} {destination}", check=False)


WAYS = {8: "198.51.100.9", 9: "198.51.100.9"}


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    require_root()
    require_tool("bgpd")
    folder = tmp_path_factory.mktemp("far")
    with World() as world, ExitStack() as stack:
        pe, far = world.add("pe1"), world.add("far")
        world.cable(pe, "eth0", far, "eth0")
        customer(world, pe, 1)
        far.address("eth0", "198.51.100.9/24")
        far.address("lo", "192.0.2.9/32")
        far.sysctl(ipv4__ip_forward=1)
        far.route("192.0.2.1/32", via="198.51.100.1")
        bindings = {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}
        node = stack.enter_context(Node(pe, pe_config(1, ways=WAYS), bindings, folder))
        uml = stack.enter_context(UserModeLinux(far, folder))
        far.address("tap0", "203.0.113.1/30")
        far.route("192.0.2.8/32", via="203.0.113.2")
        stack.enter_context(Frr(far, FRR))
        for line in FAR_PE.strip().splitlines():
            uml.run(line)
        node.until("show ip route vrf red", lambda value: "10.8.0.0/24" in str(value))
        node.until("show ipv6 route vrf red", lambda value: "2001:db8:8::/64" in str(value))
        table = node.until("show mpls forwarding-table", lambda value: len(value) == 2)
        labels = {row["fec"].removesuffix("[V]"): row["local-label"] for row in table}
        yield Far(world, node, uml, far, labels)


@pytest.mark.parametrize(
    ("protocol", "options"),
    [("gre key 77", "key 77"), ("mpls-in-ip", "mode mplsip"), ("gre", ""), ("gre", "ocsum oseq")],
)
def test_rfc4023_3_labelled_packets_to_and_from_linux(far: Far, tmp_path: Path, protocol: str, options: str) -> None:
    """`ocsum oseq`: Linux sends GRE checksums and sequence numbers, which we do not, and take (RFC 2784 2.1, 2890 2.2)."""
    far.tunnel(protocol, options)
    dropped = far.drops()
    with Capture(far.far, "tap0", tmp_path / "far.pcap") as capture:
        for destination in ("10.8.0.10", "2001:db8:8::10"):
            for size in (56, 1300):
                with Prober(destination, namespace=far.host, size=size) as prober:
                    replies = prober.ping(3)
                assert [reply.kind for reply in replies] == ["reply"] * 3, (replies, far.pe.text("show counters drops"))
        for destination in ("10.1.1.10", "2001:db8:1::10"):
            assert " 3 received" in far.ping(destination)
    # 6 echoes of each family from here, 3 from there, and the answers; nothing of the customers' outside of the tunnel.
    wanted = {"protocol": 137} if protocol == "mpls-in-ip" else {"protocol": 47, "gre": 0x8847}
    assert capture.total(**wanted) == 2 * 2 * (2 * 3 + 3)
    assert capture.total(protocol=1) == 0
    assert far.drops() == dropped


def test_rfc2890_2_2_a_sender_that_numbers_from_zero_again_is_heard_soon(far: Far) -> None:
    """Its tunnel is made anew: its numbers are old, until nothing was heard of it for a while."""
    far.tunnel("gre", "ocsum oseq")
    far.ping("10.1.1.10")
    far.tunnel("gre key 77", "key 77 ocsum oseq")
    end = time.monotonic() + 2 * FORGET_SEQUENCE
    while " 3 received" not in far.ping("10.1.1.10"):
        assert time.monotonic() < end, far.pe.text("show counters drops")
    assert "old GRE sequence number" in far.pe.text("show counters drops")


def test_linux_with_a_wrong_key_is_not_heard(far: Far) -> None:
    far.tunnel("gre key 77", "key 78")
    assert " 0 received" in far.ping("10.1.1.10")
    assert "key" in far.pe.text("show counters drops")


def test_rfc3443_5_ttl_across_linux_and_us(far: Far) -> None:
    """Traceroute, both ways: each PE is one hop, the core between them none. (Linux tells nobody of a label whose TTL ran
    out, so as egress it is the hop that does not answer.)"""
    far.tunnel("gre key 77", "key 77")
    for destination, hops in (
        ("10.8.0.10", ["10.1.1.1", "", "10.8.0.10"]),
        ("2001:db8:8::10", ["2001:db8:1::1", "", "2001:db8:8::10"]),
    ):
        seen = []
        for ttl in range(1, 4):
            with Prober(destination, namespace=far.host, ttl=ttl) as prober:
                seen.append(prober.once().source)
        assert seen == hops
    for destination, hops in (
        ("10.1.1.10", ["10.8.0.1", "10.1.1.1", "10.1.1.10"]),
        ("2001:db8:1::10", ["2001:db8:8::1", "2001:db8:1::1", "2001:db8:1::10"]),
    ):
        seen = []
        for ttl in range(1, 4):
            said = re.search(r"(?:From|from) ([0-9a-f.:]+?):? icmp_seq=1", far.ping(destination, "-c 1", f"-t {ttl}"))
            seen.append(said[1] if said else "")
        assert seen == hops
