"""The topologies of the tests with real peers: our PEs on a core, each with a host of VRF red behind it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from stack.lab.namespace import Namespace, World
from tests.conftest import require_tool
from tests.interop.nodes import Node

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
 protocol {protocol}
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
{attachment}!
router bgp 65000
 bgp router-id 192.0.2.{number}
 no bgp default ipv4-unicast
{neighbors} address-family vpnv4
{activated} exit-address-family
 address-family vpnv6
{activated} exit-address-family
 address-family ipv4 vrf red
  redistribute connected
 exit-address-family
 address-family ipv6 vrf red
  redistribute connected
 exit-address-family
!
{routes}
{more}route-map TUNNEL permit 10
 set ip next-hop encapsulate l3vpn core
 set ipv6 next-hop encapsulate l3vpn core
end
"""

_NEIGHBOR = """ neighbor 192.0.2.{peer} remote-as {asn}
 neighbor 192.0.2.{peer} update-source Loopback0
 neighbor 192.0.2.{peer} timers 3 9
"""

_ACTIVATED = """  neighbor 192.0.2.{peer} activate
  neighbor 192.0.2.{peer} send-community both
  neighbor 192.0.2.{peer} route-map TUNNEL in
"""


def pe_config(
    number: int,
    *,
    peers: Sequence[int] = (9,),
    asn: int = 65000,
    ways: dict[int, str] | None = None,
    protocol: str = "gre key 77",
    attachment: str = "",
    more: str = "",
) -> str:
    """A PE of AS 65000 whose Loopback0 is 192.0.2.`number`.

    `peers`: last octets of its BGP neighbours, in AS `asn`; `ways`: last octet of a loopback -> next hop (by default on
    the core's LAN); `attachment`: more lines of the customer's interface; `more`: of the whole.
    """
    neighbors = "".join(_NEIGHBOR.format(peer=peer, asn=asn) for peer in peers)
    if asn != 65000:
        neighbors += "".join(f" neighbor 192.0.2.{peer} ebgp-multihop 5\n" for peer in peers)
    if ways is None:
        ways = {other: f"198.51.100.{other}" for other in (1, 2, 9) if other != number}
    return PE.format(
        name=f"pe{number}",
        number=number,
        neighbors=neighbors,
        activated="".join(_ACTIVATED.format(peer=peer) for peer in peers),
        routes="\n".join(f"ip route 192.0.2.{n} 255.255.255.255 {via}" for n, via in ways.items()),
        protocol=protocol,
        attachment=attachment,
        more=more,
    )


def ip(namespace: Namespace, *words: str) -> str:
    """What the `ip` program does and says inside."""
    command = [require_tool("ip"), *words]
    done = namespace.run(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def bridge(world: World) -> None:
    """`core`: a LAN that PEs and FRR join."""
    core = world.add("core")
    ip(core, "link", "add", "br0", "type", "bridge")
    ip(core, "link", "set", "br0", "up")


def join(world: World, name: str) -> Namespace:
    """A namespace whose `eth0` is on the core's LAN."""
    member, core = world.add(name), world.namespaces["core"]
    world.cable(member, "eth0", core, f"to-{name}")
    ip(core, "link", "set", f"to-{name}", "master", "br0")
    return member


def customer(world: World, pe: Namespace, number: int) -> Namespace:
    """`red{number}`: a host of VRF red behind `eth1` of a PE."""
    host = world.add(f"red{number}")
    world.cable(pe, "eth1", host, "eth0")
    host.address("eth0", f"10.1.{number}.10/24")
    host.address("eth0", f"2001:db8:{number}::10/64")
    host.route("0.0.0.0/0", via=f"10.1.{number}.1")
    host.route("::/0", via=f"2001:db8:{number}::1")
    return host


def pe(world: World, folder: Path, number: int, config: str = "") -> Node:
    """One of our PEs on the LAN, with its customer's host; not started."""
    namespace = join(world, f"pe{number}")
    customer(world, namespace, number)
    bindings = {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}
    return Node(namespace, config or pe_config(number), bindings, folder)
