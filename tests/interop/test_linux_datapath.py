"""Linux's own GRE and MPLS (User-mode Linux) as a remote PE's data plane: labelled GRE packets both ways, with key.

FRR speaks BGP for it: it names the User-mode Linux as next hop of the remote customer's routes.

    red1 --- pe1 (ours) --- namespace `far`: FRR 192.0.2.9, tap --- User-mode Linux 192.0.2.8: GRE, MPLS, VRF red
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stack.lab.capture import Capture
from stack.lab.namespace import World
from stack.lab.probe import Prober
from tests.conftest import require_root, require_tool
from tests.interop.frr import Frr
from tests.interop.nodes import Node
from tests.interop.test_frr import PE
from tests.interop.uml import UserModeLinux

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(240)]

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
ip link add gre1 type gre local 192.0.2.8 remote 192.0.2.1 key 77 ttl 64
ip link set gre1 up mtu 1400 && sysctl -qw net.mpls.conf.gre1.input=1
ip link add red type vrf table 10 && ip link set red up
ip addr add 10.8.0.1/24 dev red
ip -6 addr add 2001:db8:8::1/64 dev red nodad
ip -f mpls route add 800 dev red
ip -f mpls route add 801 dev red
"""


@pytest.fixture
def world() -> Iterator[World]:
    require_root()
    require_tool("/usr/lib/frr/bgpd")
    with World() as world:
        yield world


def _pe(world: World, folder: Path) -> Node:
    pe, far, host = world.namespaces["pe1"], world.namespaces["far"], world.add("red1")
    world.cable(pe, "eth0", far, "eth0")
    world.cable(pe, "eth1", host, "eth0")
    far.address("eth0", "198.51.100.9/24")
    far.address("lo", "192.0.2.9/32")
    far.sysctl(ipv4__ip_forward=1)
    far.route("192.0.2.1/32", via="198.51.100.1")
    host.address("eth0", "10.1.1.10/24")
    host.address("eth0", "2001:db8:1::10/64")
    host.route("0.0.0.0/0", via="10.1.1.1")
    host.route("::/0", via="2001:db8:1::1")
    routes = "\n".join(f"ip route 192.0.2.{n} 255.255.255.255 198.51.100.9" for n in (8, 9))
    config = PE.format(name="pe1", number=1, routes=routes)
    return Node(pe, config, {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}, folder)


def _label(value: Any, prefix: str) -> int:
    """The local label of a prefix, from the forwarding table's plain value."""
    rows = [row for row in value if prefix in str(row)]
    assert rows, value
    return int(rows[0]["local-label"])


def test_labelled_gre_to_and_from_linux(world: World, tmp_path: Path) -> None:
    far = (world.add("pe1"), world.add("far"))[1]
    with ExitStack() as stack:
        pe = stack.enter_context(_pe(world, tmp_path))
        uml = stack.enter_context(UserModeLinux(far, tmp_path))
        far.address("tap0", "203.0.113.1/30")
        far.route("192.0.2.8/32", via="203.0.113.2")
        stack.enter_context(Frr(far, FRR, space="far"))
        for line in FAR_PE.strip().splitlines():
            uml.run(line)
        pe.until("show ip route vrf red", lambda value: "10.8.0.0/24" in str(value))
        pe.until("show ipv6 route vrf red", lambda value: "2001:db8:8::/64" in str(value))
        table = pe.until("show mpls forwarding-table", lambda value: "2001:db8:1::/64" in str(value))
        v4, v6 = _label(table, "10.1.1.0/24"), _label(table, "2001:db8:1::/64")
        uml.run(f"ip route add 10.1.1.0/24 vrf red encap mpls {v4} dev gre1")
        uml.run(f"ip -6 route add 2001:db8:1::/64 vrf red encap mpls {v6} dev gre1")

        capture = stack.enter_context(Capture(far, "tap0", tmp_path / "far.pcap"))
        for destination in ("10.8.0.1", "2001:db8:8::1"):
            with Prober(destination, namespace=world.namespaces["red1"]) as prober:
                prober.ping(2)
                replies = prober.ping(5)
            assert [reply.kind for reply in replies] == ["reply"] * 5, (replies, pe.text("show counters drops"))
        uml.run("ip vrf exec red ping -c 3 -i 0.2 -I 10.8.0.1 10.1.1.10")
        uml.run("ip vrf exec red ping -c 3 -i 0.2 -I 2001:db8:8::1 2001:db8:1::10")
        big = Prober("10.8.0.1", namespace=world.namespaces["red1"], size=1300)
        assert big.once().ok
        big.close()
        # Both ways, and nothing of the customers' outside of GRE.
        assert capture.total(protocol=47, gre=0x8847) >= 32
        assert capture.total(protocol=1) == 0
