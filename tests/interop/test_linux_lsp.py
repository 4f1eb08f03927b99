"""Linux (User-mode Linux) at the far end of an LSP: labelled Ethernet frames on the core, one label for the way (given by
`mpls static binding`) and one for the VPN, beside a route that takes the tunnel.

    red1 --- pe1 (ours) --- core LAN --- User-mode Linux 192.0.2.8: MPLS, GRE, VRF red
                               |
                            FRR 192.0.2.9, which names 192.0.2.8 as next hop
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stack.lab.capture import Capture
from stack.lab.namespace import World
from stack.lab.probe import Prober
from tests.conftest import require_root, require_tool
from tests.interop.frr import Frr
from tests.interop.nodes import Node
from tests.interop.pes import bridge, customer, ip, join, pe_config
from tests.interop.test_linux_datapath import FRR
from tests.interop.tshark import decode, faults
from tests.interop.uml import UserModeLinux

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

BY_TUNNEL = "  network 10.88.0.0/24 rd 65000:8 label 802\n"

FAR = """
ip link set eth0 up && ip addr add 198.51.100.8/24 dev eth0 && ip addr add 192.0.2.8/32 dev lo
ip route add 192.0.2.1/32 via 198.51.100.1
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.mpls.platform_labels=2000
sysctl -qw net.mpls.conf.eth0.input=1 net.mpls.conf.lo.input=1
ip link add red type vrf table 10 && ip link set red up
ip addr add 10.8.0.1/24 dev red && ip addr add 10.88.0.1/24 dev red && ip -6 addr add 2001:db8:8::1/64 dev red nodad
ip link add gre1 type gre local 192.0.2.8 remote 192.0.2.1 key 77 && ip link set gre1 up mtu 1400
sysctl -qw net.mpls.conf.gre1.input=1
ip -f mpls route add 502 dev lo
ip -f mpls route add 800 dev red && ip -f mpls route add 801 dev red && ip -f mpls route add 802 dev red
"""

LSP = """mpls static binding ipv4 192.0.2.8 255.255.255.255 output 198.51.100.8 502
ip prefix-list BY-TUNNEL seq 5 permit 10.88.0.0/24
"""


def text() -> str:
    """Only 10.88.0.0/24 is given to the tunnel; everything else goes by LSP. The core's interface takes labels."""
    config = pe_config(1, ways={8: "198.51.100.8", 9: "198.51.100.9"}, more=LSP)
    config = config.replace("permit 10\n", "permit 10\n match ip address prefix-list BY-TUNNEL\n", 1)
    config = config.replace("end\n", "!\nroute-map TUNNEL permit 20\nend\n")
    return config.replace("interface Ethernet0/0\n", "interface Ethernet0/0\n mpls bgp forwarding\n")


@pytest.fixture
def world() -> Iterator[World]:
    require_root()
    require_tool("bgpd")
    with World() as world:
        bridge(world)
        yield world


def test_rfc3032_3_lsp_and_tunnel_to_linux_at_once(world: World, tmp_path: Path) -> None:
    pe1, core, frr = join(world, "pe1"), world.namespaces["core"], join(world, "frr")
    red1 = customer(world, pe1, 1)
    frr.address("eth0", "198.51.100.9/24")
    frr.address("lo", "192.0.2.9/32")
    frr.route("192.0.2.1/32", via="198.51.100.1")
    frr.route("192.0.2.8/32", via="198.51.100.8")
    with ExitStack() as stack:
        node = stack.enter_context(Node(pe1, text(), {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}, tmp_path))
        uml = stack.enter_context(UserModeLinux(core, tmp_path))
        ip(core, "link", "set", "tap0", "master", "br0")
        stack.enter_context(Frr(frr, FRR.replace("  network 10.8.0.0", BY_TUNNEL + "  network 10.8.0.0")))
        for line in FAR.strip().splitlines():
            uml.run(line)
        node.until("show ip route vrf red", lambda value: "10.8.0.0/24" in str(value) and "10.88.0.0/24" in str(value))
        node.until("show ipv6 route vrf red", lambda value: "2001:db8:8::/64" in str(value))
        # What `show` says about which goes how.
        node.until("show ip cef vrf red 10.8.0.0", lambda value: value["output"].startswith("label 800 label 502 "))
        assert node.show("show ip cef vrf red tunnel 0") == [
            {"prefix": "10.88.0.0/24", "vrf": "red", "next-hop": "192.0.2.8", "interface": "Tunnel0", "labels": [802]}
        ]
        table = node.until("show mpls forwarding-table", lambda value: len(value) >= 2)
        v4, v6 = (
            next(row["local-label"] for row in table if row["fec"].startswith(prefix))
            for prefix in ("10.1.1.0/24", "2001:db8:1::/64")
        )
        uml.run(f"ip route add 10.1.1.0/24 vrf red encap mpls {v4} via inet 198.51.100.1 dev eth0")
        ours = re.search(r"inet6 (fe80:\S+)/64", ip(pe1, "addr", "show", "dev", "eth0"))
        assert ours  # Linux takes only an IPv6 next hop for an IPv6 route
        uml.run(f"ip -6 route add 2001:db8:1::/64 vrf red encap mpls {v6} via {ours[1]} dev eth0")
        # Asked for before it had booted, it counts as dead for a while.
        node.until("show arp", lambda value: {row["address"]: row["mac"] for row in value}.get("198.51.100.8"))
        with Capture(core, "tap0", tmp_path / "tap.pcap"):
            for destination in ("10.8.0.1", "2001:db8:8::1", "10.88.0.1"):
                with Prober(destination, namespace=red1) as prober:
                    replies = prober.ping(3, timeout=2)
                assert [reply.kind for reply in replies] == ["reply"] * 3, (
                    destination,
                    node.text("show counters drops"),
                )
            assert " 3 received" in uml.run("ping -c 3 -i 0.2 -I red 10.1.1.10", check=False)
    frames = decode(tmp_path / "tap.pcap")
    assert faults(frames) == []
    layers = [frame.layers for frame in frames]
    assert layers.count("ip:gre:mpls:ip:icmp:data") == 3  # there; the answers come by LSP
    assert layers.count("mpls:ip:icmp:data") == 3 + 3 + 3 + 3 + 3
    assert layers.count("mpls:ipv6:icmpv6:data") == 3 + 3
    labelled = decode(tmp_path / "tap.pcap", read_filter="mpls.label == 502 && mpls.label == 800 && mpls.bottom == 1")
    assert len(labelled) == 3 + 3
