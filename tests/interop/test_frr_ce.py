"""FRR as CE: eBGP over IPv4 and IPv6 with our PE inside two VRFs whose addresses are the same, over their host ports.

    ce-red  (FRR, AS 65101) 10.0.0.2 ---eth1  PE  eth3--- host red   10.60.1.10
    ce-blue (FRR, AS 65101) 10.0.0.2 ---eth2      eth4--- host blue  10.60.1.10

Both CEs have the same addresses, AS and networks; each has one network that the other has not.
"""

from __future__ import annotations

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

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

VRFS = {"red": 1, "blue": 2}

_VRF = """
vrf definition {vrf}
 rd 65000:{n}
 route-target both 65000:{n}00
 address-family ipv4
 exit-address-family
 address-family ipv6
 exit-address-family
!
interface Ethernet0/{n}
 vrf forwarding {vrf}
 ip address 10.0.0.1 255.255.255.252
 ipv6 address 2001:db8:ce::1/64
!
interface Ethernet0/{host}
 vrf forwarding {vrf}
 ip address 10.60.1.1 255.255.255.0
 ipv6 address 2001:db8:60::1/64
!
ip route vrf {vrf} 10.7{n}.0.0 255.255.0.0 10.60.1.10
"""

_VRF_BGP = """ address-family ipv4 vrf {vrf}
  redistribute connected
  redistribute static
  neighbor 10.0.0.2 remote-as 65101
  neighbor 10.0.0.2 timers 3 9
  neighbor 10.0.0.2 password {vrf}-secret
  neighbor 10.0.0.2 activate
 exit-address-family
 address-family ipv6 vrf {vrf}
  redistribute connected
  neighbor 2001:db8:ce::2 remote-as 65101
  neighbor 2001:db8:ce::2 timers 3 9
  neighbor 2001:db8:ce::2 activate
 exit-address-family
"""

CE = """
router bgp 65101
 bgp router-id 10.0.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor 10.0.0.1 remote-as 65000
 neighbor 10.0.0.1 timers 3 9
 neighbor 10.0.0.1 password {vrf}-secret
 neighbor 2001:db8:ce::1 remote-as 65000
 neighbor 2001:db8:ce::1 timers 3 9
 address-family ipv4 unicast
  network 10.50.0.0/24
  network 10.5{n}.0.0/24
  neighbor 10.0.0.1 activate
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:50::/64
  network 2001:db8:5{n}::/64
  neighbor 2001:db8:ce::1 activate
 exit-address-family
"""


def pe_text() -> str:
    text = "hostname pe\n" + "".join(_VRF.format(vrf=vrf, n=n, host=n + 2) for vrf, n in VRFS.items())
    text += "router bgp 65000\n bgp router-id 192.0.2.1\n no bgp default ipv4-unicast\n"
    return text + "".join(_VRF_BGP.format(vrf=vrf) for vrf in VRFS) + "end\n"


@pytest.fixture
def world() -> Iterator[World]:
    require_root()
    require_tool("bgpd")
    with World() as world:
        pe = world.add("pe")
        for vrf, n in VRFS.items():
            ce, host = world.add(f"ce-{vrf}"), world.add(f"host-{vrf}")
            world.cable(pe, f"eth{n}", ce, "eth0")
            world.cable(pe, f"eth{n + 2}", host, "eth0")
            for device, address in (("eth0", "10.0.0.2/30"), ("eth0", "2001:db8:ce::2/64"), ("lo", "10.50.0.1/32")):
                ce.address(device, address)
            ce.address("lo", "2001:db8:50::1/128")
            host.address("eth0", "10.60.1.10/24")
            host.address("eth0", "2001:db8:60::10/64")
            host.route("0.0.0.0/0", via="10.60.1.1")
            host.route("::/0", via="2001:db8:60::1")
        yield world


def routes(node: Node, vrf: str) -> str:
    return str(node.show(f"show ip route vrf {vrf}")) + str(node.show(f"show ipv6 route vrf {vrf}"))


def learnt(node: Node, vrf: str, n: int) -> bool:
    """Whether the VRF has what its own CE says."""
    wanted = "10.50.0.0/24", f"10.5{n}.0.0/24", "2001:db8:50::/64", f"2001:db8:5{n}::/64"
    return all(f"'{prefix}'" in routes(node, vrf) for prefix in wanted)


def test_ce_sessions_in_two_vrfs_with_the_same_addresses(world: World, tmp_path: Path) -> None:
    with ExitStack() as stack:
        bindings = {f"Ethernet0/{n}": f"eth{n}" for n in range(1, 5)}
        node = stack.enter_context(Node(world.namespaces["pe"], pe_text(), bindings, tmp_path))
        ces = {
            vrf: stack.enter_context(Frr(world.namespaces[f"ce-{vrf}"], CE.format(vrf=vrf, n=n)))
            for vrf, n in VRFS.items()
        }
        for vrf, n in VRFS.items():
            node.until("show version", lambda _, vrf=vrf, n=n: learnt(node, vrf, n))
        peers = {(row["vrf"], row["neighbor-address"]) for row in node.show("show bgp neighbors") if up(row)}
        assert peers == {(vrf, address) for vrf in VRFS for address in ("10.0.0.2", "2001:db8:ce::2")}
        no_vrf_knows_the_others(node, ces)
        packets_reach_their_own_ce(world)
        one_ce_leaves(node, ces)


def up(row: dict[str, object]) -> bool:
    return row["session-state"] == "ESTABLISHED"


def no_vrf_knows_the_others(node: Node, ces: dict[str, Frr]) -> None:
    for vrf, n in VRFS.items():
        other = 3 - n
        assert f"10.5{other}.0.0/24" not in routes(node, vrf)
        assert f"2001:db8:5{other}::/64" not in routes(node, vrf)
        heard = ces[vrf].until("show bgp ipv4 unicast", lambda value, n=n: f"10.7{n}.0.0/16" in value["routes"])
        assert "10.60.1.0/24" in heard["routes"]
        assert f"10.7{other}.0.0/16" not in heard["routes"]
        six = ces[vrf].until("show bgp ipv6 unicast", lambda value: "2001:db8:60::/64" in value["routes"])
        (path,) = six["routes"]["2001:db8:60::/64"]
        assert path["path"] == "65000"
        hops = {hop["scope"]: hop["ip"] for hop in path["nexthops"]}
        assert hops["global"] == "2001:db8:ce::1"


def packets_reach_their_own_ce(world: World) -> None:
    """The same destination from the same source, told apart by its size: each arrives at its own VRF's CE only."""
    for vrf, n in VRFS.items():
        with ExitStack() as stack:
            seen = {name: stack.enter_context(Capture(world.namespaces[f"ce-{name}"], "eth0")) for name in VRFS}
            for destination in ("10.50.0.1", "2001:db8:50::1"):
                with Prober(destination, namespace=world.namespaces[f"host-{vrf}"], size=100 + n) as prober:
                    replies = prober.ping(3)
                assert [(reply.kind, reply.source) for reply in replies] == [("reply", destination)] * 3
        icmp = {name: capture.total(protocol=1) for name, capture in seen.items()}
        assert icmp == {name: 6 if name == vrf else 0 for name in VRFS}


def wrong_passwords(node: Node) -> int:
    """Segments that the kernel dropped in the PE's namespace for a wrong TCP MD5 signature."""
    text = node.namespace.run(lambda: Path("/proc/thread-self/net/netstat").read_text())
    names, numbers = (line.split() for line in text.splitlines()[:2])
    return int(numbers[names.index("TCPMD5Failure")])


def one_ce_leaves(node: Node, ces: dict[str, Frr]) -> None:
    ces["red"].vtysh("configure terminal", "router bgp 65101", "neighbor 10.0.0.1 shutdown")
    node.until("show ip route vrf red", lambda value: "10.50.0.0/24" not in str(value))
    assert learnt(node, "blue", 2)
    assert "2001:db8:51::/64" in routes(node, "red")  # its other session lives
    down = node.until("show bgp neighbors", lambda value: any(not up(row) for row in value))
    ended = [row["last-end"] for row in down if not up(row)]
    assert len(ended) == 1
    assert "NOTIFICATION received: 6/2" in ended[0]
    # A password that is not the other's: no session, and nobody is troubled.
    ces["red"].vtysh("configure terminal", "router bgp 65101", "neighbor 10.0.0.1 password other")
    ces["red"].vtysh("configure terminal", "router bgp 65101", "no neighbor 10.0.0.1 shutdown")
    refused = node.until("show bgp neighbors", lambda _: wrong_passwords(node) > 0)
    assert not any(up(row) for row in refused if (row["vrf"], row["neighbor-address"]) == RED)
    ces["red"].vtysh("configure terminal", "router bgp 65101", "neighbor 10.0.0.1 password red-secret")
    node.until("show ip route vrf red", lambda value: "10.50.0.0/24" in str(value))


RED = ("red", "10.0.0.2")
