"""FRR as VPNv4/VPNv6 peer, and as route reflector between our PEs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stack.lab.namespace import Namespace, World
from stack.lab.probe import Prober
from tests.conftest import require_root, require_tool
from tests.interop.frr import Frr
from tests.interop.nodes import Node

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

PE = """
hostname {name}
vrf definition red
 rd 65000:1{number}
 route-target export 65000:100
 route-target import 65000:100
 address-family ipv4
 exit-address-family
 address-family ipv6
 exit-address-family
!
l3vpn encapsulation ip core
 transport ipv4 source Loopback0
 protocol gre key 77
!
interface Loopback0
 ip address 192.0.2.{number} 255.255.255.255
!
interface Ethernet0/0
 ip address 198.51.100.{number} 255.255.255.0
!
interface Ethernet0/1
 vrf forwarding red
 ip address 10.1.{number}.1 255.255.255.0
 ipv6 address 2001:db8:{number}::1/64
!
router bgp 65000
 bgp router-id 192.0.2.{number}
 neighbor 192.0.2.9 remote-as 65000
 neighbor 192.0.2.9 update-source Loopback0
 neighbor 192.0.2.9 timers 3 9
 address-family vpnv4
  neighbor 192.0.2.9 activate
  neighbor 192.0.2.9 send-community both
  neighbor 192.0.2.9 route-map TUNNEL in
 exit-address-family
 address-family vpnv6
  neighbor 192.0.2.9 activate
  neighbor 192.0.2.9 send-community both
  neighbor 192.0.2.9 route-map TUNNEL in
 exit-address-family
 address-family ipv4 vrf red
  redistribute connected
 exit-address-family
 address-family ipv6 vrf red
  redistribute connected
 exit-address-family
!
{routes}
route-map TUNNEL permit 10
 set ip next-hop encapsulate l3vpn core
 set ipv6 next-hop encapsulate l3vpn core
end
"""

FRR_PEER = """
router bgp 65000
 bgp router-id 192.0.2.9
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor 192.0.2.1 remote-as 65000
 neighbor 192.0.2.1 update-source 192.0.2.9
 neighbor 192.0.2.1 timers 3 9
 address-family ipv4 vpn
  network 10.66.0.0/24 rd 65000:9 label 500
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.1 route-map RT out
 exit-address-family
 address-family ipv6 vpn
  network 2001:db8:66::/48 rd 65000:9 label 501
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.1 route-map RT6 out
 exit-address-family
!
route-map RT permit 10
 set extcommunity rt 65000:100
!
route-map RT6 permit 10
 set extcommunity rt 65000:100
 set ipv6 vpn next-hop ::ffff:192.0.2.9
"""

FRR_REFLECTOR = """
router bgp 65000
 bgp router-id 192.0.2.9
 no bgp default ipv4-unicast
 neighbor pes peer-group
 neighbor pes remote-as 65000
 neighbor pes update-source 192.0.2.9
 neighbor pes timers 3 9
 neighbor 192.0.2.1 peer-group pes
 neighbor 192.0.2.2 peer-group pes
 address-family ipv4 vpn
  neighbor pes activate
  neighbor pes route-reflector-client
 exit-address-family
 address-family ipv6 vpn
  neighbor pes activate
  neighbor pes route-reflector-client
 exit-address-family
"""


@pytest.fixture
def world() -> Iterator[World]:
    require_root()
    require_tool("/usr/lib/frr/bgpd")
    with World() as world:
        core = world.add("core")
        core.run(lambda: _bridge(core))
        yield world


def _bridge(core: Namespace) -> None:
    import subprocess

    subprocess.run(["ip", "link", "add", "br0", "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", "br0", "up"], check=True)


def _join(world: World, name: str) -> Namespace:
    """A namespace whose `eth0` is on the core's bridge."""
    import subprocess

    member = world.add(name)
    core = world.namespaces["core"]
    world.cable(member, "eth0", core, f"to-{name}")
    core.run(lambda: subprocess.run(["ip", "link", "set", f"to-{name}", "master", "br0"], check=True))
    return member


def _pe(world: World, folder: Path, number: int) -> Node:
    namespace = _join(world, f"pe{number}")
    host = world.add(f"red{number}")
    world.cable(namespace, "eth1", host, "eth0")
    host.address("eth0", f"10.1.{number}.10/24")
    host.address("eth0", f"2001:db8:{number}::10/64")
    host.route("0.0.0.0/0", via=f"10.1.{number}.1")
    host.route("::/0", via=f"2001:db8:{number}::1")
    others = [other for other in (1, 2, 9) if other != number]
    routes = "\n".join(f"ip route 192.0.2.{n} 255.255.255.255 198.51.100.{n}" for n in others)
    config = PE.format(name=namespace.name, number=number, routes=routes)
    return Node(namespace, config, {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}, folder)


def _frr(world: World, config: str) -> Frr:
    namespace = _join(world, "frr")
    namespace.address("eth0", "198.51.100.9/24")
    namespace.address("lo", "192.0.2.9/32")
    for number in (1, 2):
        namespace.route(f"192.0.2.{number}/32", via=f"198.51.100.{number}")
    return Frr(namespace, config, space=f"frr{id(world)}")


def _prefixes(answer: Any) -> set[str]:
    """Every prefix in FRR's JSON, at whatever depth."""
    found: set[str] = set()
    if isinstance(answer, dict):
        found.update(key for key in answer if "/" in key)
        for part in answer.values():
            found |= _prefixes(part)
    return found


def test_frr_as_vpn_peer(world: World, tmp_path: Path) -> None:
    with ExitStack() as stack:
        frr = stack.enter_context(_frr(world, FRR_PEER))
        pe = stack.enter_context(_pe(world, tmp_path, 1))
        # What FRR originates stands in our VRF, with its labels, by the tunnel.
        pe.until("show tunnel endpoints", lambda value: "192.0.2.9" in str(value))
        pe.until("show ip route vrf red", lambda value: "10.66.0.0/24" in str(value))
        pe.until("show ipv6 route vrf red", lambda value: "2001:db8:66::/48" in str(value))
        assert "label 500" in pe.text("show ip cef vrf red tunnel 0")
        # What we originate stands in FRR's tables, with a label and a route target.
        wanted = "10.1.1.0/24"
        frr.until("show bgp ipv4 vpn", lambda value: wanted in _prefixes(value))
        frr.until("show bgp ipv6 vpn", lambda value: "2001:db8:1::/64" in _prefixes(value))
        text = frr.vtysh("show bgp ipv4 vpn rd 65000:11 10.1.1.0/24")
        assert "RT:65000:100" in text
        assert "Remote label:" in text
        assert "192.0.2.1" in text
        # The session survives a refresh that FRR asks for, and routes are still there.
        frr.vtysh("clear bgp 192.0.2.1 soft in")
        frr.until("show bgp ipv4 vpn", lambda value: wanted in _prefixes(value))
        # Our VRF goes: FRR forgets; comes back: FRR learns.
        config = pe.config
        pe.configure(config.replace(" redistribute connected", " no redistribute connected"))
        frr.until("show bgp ipv4 vpn", lambda value: wanted not in _prefixes(value))
        pe.configure(config)
        frr.until("show bgp ipv4 vpn", lambda value: wanted in _prefixes(value))


def test_frr_as_route_reflector_between_our_pes(world: World, tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(_frr(world, FRR_REFLECTOR))
        one = stack.enter_context(_pe(world, tmp_path, 1))
        stack.enter_context(_pe(world, tmp_path, 2))
        one.until("show tunnel endpoints", lambda value: "192.0.2.2" in str(value))
        one.until("show ip route vrf red", lambda value: "10.1.2.0/24" in str(value))
        one.until("show ipv6 route vrf red", lambda value: "2001:db8:2::/64" in str(value))
        for destination in ("10.1.2.10", "2001:db8:2::10"):
            with Prober(destination, namespace=world.namespaces["red1"]) as prober:
                prober.ping(2)  # the first ones wait for ARP and neighbour discovery
                replies = prober.ping(3)
            assert [reply.kind for reply in replies] == ["reply"] * 3
