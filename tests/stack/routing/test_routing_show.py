"""Golden texts of what routing shows, on addresses, names and labels of their own."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from stack.addr import RD, RT, Afi, Prefix, PrefixFec, SwapFec
from stack.bus import Bus
from stack.events import AdjacencyKey, BindingOffered, InterfaceKind, SaKey, Vrf
from stack.ios.command import CommandError, Scene
from stack.ios.commands import Interpreter, Names
from stack.ios.times import age
from stack.routing.service import SERVICE
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.lfib import Nhlfe, Operation
from tests.stack.routing.rig import A, Rig, address, binding, interface, link, neighbour, profile, route, via, vrf

BLUE = "Blue Corp"


def world() -> Rig:
    """A PE with a profile `core`, one remote PE behind its tunnel and one behind an LSP."""
    rig = Rig(now=1000.0)
    rig.give(
        vrf(""),
        vrf(BLUE),
        interface("Ethernet0/0", mpls=True, description="to the core"),
        link("Ethernet0/0", mac=b"\2\0\0\0\x0a\1"),
        address("Ethernet0/0", "172.20.4.1/30"),
        neighbour("Ethernet0/0", "172.20.4.2"),
        interface("Ethernet0/2", vrf=BLUE, admin_up=False),
        interface("Ethernet0/3", vrf=BLUE, mtu=1400),
        link("Ethernet0/3", mtu=1400),
        address("Ethernet0/3", "10.44.1.1/24"),
        address("Ethernet0/3", "2001:db8:44:1::1/64"),
        interface("Loopback3", InterfaceKind.LOOPBACK),
        address("Loopback3", "198.51.100.3/32"),
        interface("Tunnel0", InterfaceKind.TUNNEL, vrf="l3vpn", internal=True),
        link("Tunnel0"),
        profile("core", vrf="l3vpn"),
        neighbour("Tunnel0", "198.51.100.4", transport="198.51.100.4"),
        interface("Tunnel8", InterfaceKind.TUNNEL, point_to_point=True, mpls=True, unnumbered="Loopback3"),
        link("Tunnel8"),
        neighbour("Tunnel8", transport="203.0.113.8"),
        route("0.0.0.0/0", via("172.20.4.2")),
        route("10.8.0.1/32", via(interface="Tunnel8")),
        route("198.51.100.5/32", via("172.20.4.2")),
        binding("198.51.100.5/32", "172.20.4.2", 305),
        route("0.0.0.0/0", vrf=BLUE, tag=7),
        route("10.44.9.0/24", via("10.44.1.9", vrf=BLUE), vrf=BLUE, distance=1),
        neighbour("Ethernet0/3", "10.44.1.9"),
    )
    rig.now = 1100.0
    for prefix, way, labels in (
        ("10.44.2.0/24", via("198.51.100.4", encap="core"), (61,)),
        ("10.44.3.0/24", via("198.51.100.5"), (62,)),
        ("10.44.4.0/24", via("10.8.0.1"), (63,)),
        ("10.44.5.0/24", via("198.51.100.77"), (64,)),
        ("2001:db8:44:2::/64", via("198.51.100.4", encap="core"), (65,)),
    ):
        item = route(prefix, way._replace(labels=labels), vrf=BLUE, owner="bgp", distance=200)
        rig.give((*item[:4], item[4]._replace(kind="ibgp")))
    rig.give(route("10.44.9.0/24", via("10.44.1.9", vrf=BLUE), vrf=BLUE, owner="bgp", distance=20))
    outer = rig.tables.adjacencies.writer("tunnel")
    for key, destination in (("Tunnel0", "198.51.100.4"), ("Tunnel8", "203.0.113.8")):
        far = A(destination) if key == "Tunnel0" else b""
        outer.put(
            AdjacencyKey(key, far),
            Adjacency(AdjacencyKey(key, far), AdjacencyKind.GRE, True, 1472, destination=A(destination)),
        )
    lfib = rig.tables.lfib.writer("mfi")
    lfib.put(40, Nhlfe(Operation.POP_LOOKUP, BLUE, frozenset(), 1, fec=PrefixFec(BLUE, Prefix.parse("10.44.1.0/24"))))
    rows = rig.tables.vrfs.writer("router")
    rows.put("", Vrf("", 0))
    targets = {Afi.IPV4: frozenset({RT.parse("7:7")})}
    rows.put(BLUE, Vrf(BLUE, 1, RD.parse("7:70"), targets, targets, frozenset(Afi), "a customer"))
    return rig


def nameless(text: str) -> str:
    """Without the numbers that stand for addresses of IOS's memory."""
    return re.sub(r"\bF[0-9A-F]{7}\b", "X", text.replace("0xF", "0x F")).replace("0x X", "0xX")


def shown(line: str, rig: Rig | None = None, bus: Bus | None = None) -> Any:
    rig = rig or world()
    names = Names(vrfs=(BLUE,), interfaces=tuple(rig.tables.interfaces.rows))
    command, values, finish = Interpreter(SERVICE.commands, lambda: names).resolve(line)
    service = SimpleNamespace(engine=rig.engine)
    return finish(command.run(Scene(service, rig.tables, bus, None, None, 1142.0), values))


def test_show_ip_route() -> None:
    assert (
        shown("show ip route").text
        == """\
Codes: L - local, C - connected, S - static, B - BGP, H - NHRP
       K - kernel, * - candidate default, % - next hop override

Gateway of last resort is 172.20.4.2 to network 0.0.0.0

S*    0.0.0.0/0 [1/0] via 172.20.4.2
      10.0.0.0/32 is subnetted, 1 subnets
S        10.8.0.1/32 is directly connected, Tunnel8
      172.20.0.0/16 is variably subnetted, 2 subnets, 2 masks
C        172.20.4.0/30 is directly connected, Ethernet0/0
L        172.20.4.1/32 is directly connected, Ethernet0/0
      198.51.100.0/32 is subnetted, 2 subnets
C        198.51.100.3/32 is directly connected, Loopback3
S        198.51.100.5/32 [1/0] via 172.20.4.2"""
    )


def test_show_ip_route_vrf_with_blanks_in_its_name() -> None:
    answer = shown("show ip route vrf Blue Corp")
    lines = answer.text.splitlines()
    assert lines[1] == "Routing Table: Blue Corp"
    assert "Gateway of last resort is 0.0.0.0 to network 0.0.0.0" in lines
    assert "S*    0.0.0.0/0 is directly connected, Null0" in lines
    assert "B        10.44.2.0/24 [200/0] via 198.51.100.4, 00:00:42" in lines
    assert "S        10.44.9.0/24 [1/0] via 10.44.1.9" in lines
    assert "10.44.5.0/24" not in answer.text  # its next hop has no label binding
    unused = next(row for row in answer.value if row["prefix"] == "10.44.5.0/24")
    assert unused["selected"] is None
    assert unused["candidates"][0]["reason"] == "no label binding for 198.51.100.77 from 172.20.4.2"
    way = next(row for row in answer.value if row["prefix"] == "10.44.2.0/24")["candidates"][0]["vias"][0]
    assert way == {"address": "198.51.100.4", "interface": "", "vrf": "", "encapsulation": "core", "labels": [61]}


def test_show_ip_route_without_a_default_and_with_an_override() -> None:
    rig = world().take(route("0.0.0.0/0", vrf=BLUE))
    nho = route("10.44.2.0/24", via("10.44.1.9", vrf=BLUE), vrf=BLUE, owner="nhrp", distance=250, override=True)
    lines = shown("show ip route vrf Blue Corp", rig.give(nho)).text.splitlines()
    assert "Gateway of last resort is not set" in lines
    assert "B   %    10.44.2.0/24 [200/0] via 10.44.1.9, 00:00:42" in lines


def test_routes_of_the_host_are_marked_as_the_kernels() -> None:
    rig = world()
    item = route("192.0.2.0/24", via("172.20.4.2", "Ethernet0/0"), owner="tunnel", distance=254)
    rig.give((*item[:4], item[4]._replace(kind="kernel")))
    assert "K     192.0.2.0/24 [254/0] via 172.20.4.2, Ethernet0/0" in shown("show ip route", rig).text.splitlines()
    assert 'Known via "kernel", distance 254' in shown("show ip route 192.0.2.9", rig).text


def test_show_ip_route_of_one_address_says_why_the_others_lost() -> None:
    assert (
        shown("show ip route vrf Blue Corp 10.44.9.7").text
        == """\
Routing entry for 10.44.9.0/24
  Known via "static", distance 1, metric 0
  Routing Descriptor Blocks:
  * 10.44.1.9, 00:02:22 ago
      Route metric is 0, traffic share count is 1
  Not used: bgp [20/0]: a better route is there"""
    )
    text = shown("show ip route vrf Blue Corp 10.44.2.1").text
    assert "* 198.51.100.4 (default), 00:00:42 ago" in text
    assert "MPLS label: 61" in text
    assert "Encapsulation: L3VPN profile core" in text


def test_show_ipv6_route() -> None:
    assert (
        shown("show ipv6 route vrf Blue Corp").text
        == """\
IPv6 Routing Table - Blue Corp - 3 entries
Codes: L - local, C - connected, S - static, B - BGP, H - NHRP
       K - kernel, * - candidate default, % - next hop override
C   2001:db8:44:1::/64 [0/0]
     via Ethernet0/3, directly connected
L   2001:db8:44:1::1/128 [0/0]
     via Ethernet0/3, receive
B   2001:db8:44:2::/64 [200/0]
     via 198.51.100.4%default, indirectly connected"""
    )


def test_show_ip_cef() -> None:
    assert (
        shown("show ip cef vrf Blue Corp").text
        == """\
Prefix               Next Hop             Interface
0.0.0.0/0            discard              Null0
10.44.1.0/24         attached             Ethernet0/3
10.44.1.1/32         receive              Ethernet0/3
10.44.2.0/24         198.51.100.4         Tunnel0
10.44.3.0/24         198.51.100.5         Ethernet0/0
10.44.4.0/24         10.8.0.1             Tunnel8
10.44.9.0/24         10.44.1.9            Ethernet0/3"""
    )


@pytest.mark.parametrize("line", ["show ip cef vrf Blue Corp tunnel 0", "sh ip cef vrf Blue Corp tun 0"])
def test_show_ip_cef_by_tunnel(line: str) -> None:
    answer = shown(line)
    assert answer.text == "\n10.44.2.0/24\n    nexthop 198.51.100.4 Tunnel0 label 61"
    assert answer.value[0]["labels"] == [61]
    assert shown("show ipv6 cef vrf Blue Corp tunnel 0").text.endswith("nexthop 198.51.100.4 Tunnel0 label 65")


@pytest.mark.parametrize("tail", ["10.44.4.7", "10.44.4.0/24 internal", "10.44.4.0 255.255.255.0 detail"])
def test_show_ip_cef_of_a_prefix_through_a_tunnel_with_implicit_null(tail: str) -> None:
    words = " ".join(shown(f"show ip cef vrf Blue Corp {tail}").text.split())
    words = nameless(words)
    for part in (
        "10.44.4.0/24, epoch 0, flags rib defined all labels, RIB[B], refcount 4, per-destination sharing sources: RIB",
        "LFD: 10.44.4.0/24 0 local labels contains path extension list ifnums: (none)",
        "type recursive, for IPv4, flags must-be-labelled",
        "MPLS short path extensions: MOI flags = 0x0 label 63 recursive via 10.8.0.1[IPv4:Default] label 63, fib X",
        "1 terminal fib, v4:Default:10.8.0.1/32 path X",
        "type attached host, for IPv4 MPLS short path extensions: MOI flags = 0x1 label implicit-null",
        "attached to Tunnel8, adjacency IP midchain out of Tunnel8 X",
        "output chain: label 63 label implicit-null TAG midchain out of Tunnel8 X IP adj out of Ethernet0/0, addr 172.20.4.2 X",
    ):
        assert part in words


def test_show_ip_cef_of_a_prefix_by_profile_and_by_lsp() -> None:
    by_profile = nameless(" ".join(shown("show ip cef vrf Blue Corp 10.44.2.0/24").text.split()))
    assert "recursive via 198.51.100.4[IPv4:l3vpn] label 61, fib X" in by_profile
    assert "1 terminal fib, v4:l3vpn:0.0.0.0/0" in by_profile
    assert by_profile.endswith(
        "label 61 TAG midchain out of Tunnel0, addr 198.51.100.4 X IP adj out of Ethernet0/0, addr 172.20.4.2 X"
    )
    by_lsp = nameless(" ".join(shown("show ip cef vrf Blue Corp 10.44.3.0/24").text.split()))
    assert "MOI flags = 0x0 label 305 nexthop 172.20.4.2 Ethernet0/0" in by_lsp
    assert by_lsp.endswith("output chain: label 62 label 305 IP adj out of Ethernet0/0, addr 172.20.4.2 X")


def test_show_ip_cef_of_a_spokes_way_to_the_hub_in_full() -> None:
    """The long form of the FlexVPN document, on a spoke: the VPN label, and implicit null of the far end under it."""
    text = shown("show ip cef vrf Blue Corp 10.44.4.7 internal").text
    assert (
        nameless(text)
        == """\
10.44.4.0/24, epoch 0, flags rib defined all labels, RIB[B], refcount 4, per-destination sharing
  sources: RIB
  feature space:
   IPRM: 0x00018000
   LFD: 10.44.4.0/24 0 local labels
        contains path extension list
  ifnums: (none)
  path X, path list X, share 1/1, type recursive, for IPv4, flags must-be-labelled
   MPLS short path extensions: MOI flags = 0x0 label 63
   recursive via 10.8.0.1[IPv4:Default] label 63, fib X, 1 terminal fib, v4:Default:10.8.0.1/32
   path X, path list X, share 1/1, type attached host, for IPv4
    MPLS short path extensions: MOI flags = 0x1 label implicit-null
    attached to Tunnel8, adjacency IP midchain out of Tunnel8 X
  output chain: label 63 label implicit-null TAG midchain out of Tunnel8 X IP adj out of Ethernet0/0, addr 172.20.4.2 X"""
    )


def test_show_ip_cef_of_a_hubs_way_to_a_spoke_in_full() -> None:
    """On the hub, whose label for the route is another one than the spoke's: it is told on, and swapped (25/16 there)."""
    rig = world()
    fec = SwapFec(RD.parse("7:70"), Prefix.parse("10.44.4.0/24"), 9, (63,))
    rig.tables.revoke("mfi")
    lfib = rig.tables.lfib.writer("mfi")
    lfib.put(71, Nhlfe(Operation.SWAP, "", frozenset(), 1, 9, (63,), fec))
    other = SwapFec(RD.parse("8:80"), Prefix.parse("10.44.4.0/24"), 9, (63,))
    lfib.put(72, Nhlfe(Operation.SWAP, "", frozenset(), 1, 9, (63,), other))
    answer = shown("show ip cef vrf Blue Corp 10.44.4.7", rig)
    assert nameless(answer.text).splitlines()[:9] == [
        "10.44.4.0/24, epoch 0, flags rib defined all labels, RIB[B], refcount 5, per-destination sharing",
        "  sources: RIB, LTE",
        "  feature space:",
        "   IPRM: 0x00018000",
        "   LFD: 10.44.4.0/24 1 local label",
        "   local label info: other/71",
        "        contains path extension list",
        "        disposition chain 0xX",
        "        label switch chain 0xX",
    ]
    assert answer.value["local-labels"] == [71]


@pytest.mark.parametrize("given", [None, (3,), (299,)], ids=["the tunnel takes labels", "bound", "another label"])
def test_show_ip_cef_of_the_far_end_itself(given: tuple[int, ...] | None) -> None:
    """`show ip cef 10.1.1.1` of the document: implicit null for the address at the other end of the tunnel."""
    bus = Bus()
    if given is not None:
        bus.attach("ikev2").publish(BindingOffered, {("", Prefix.parse("10.8.0.1/32"), b""): given})
    answer = shown("show ip cef 10.8.0.1", bus=bus)
    if given == (299,):
        assert answer.value["remote-labels"] == [299]
        assert "implicit-null" not in answer.text
        return
    assert answer.value["remote-labels"] == ["implicit-null"]
    assert (
        nameless(answer.text)
        == """\
10.8.0.1/32, epoch 0, RIB[S], refcount 4, per-destination sharing
  sources: RIB
  feature space:
   IPRM: 0x00018000
   LFD: 10.8.0.1/32 0 local labels
        contains path extension list
  ifnums: (none)
  path X, path list X, share 1/1, type attached host, for IPv4
   MPLS short path extensions: MOI flags = 0x1 label implicit-null
   attached to Tunnel8, adjacency IP midchain out of Tunnel8 X
  output chain: IP midchain out of Tunnel8 X IP adj out of Ethernet0/0, addr 172.20.4.2 X"""
    )
    assert shown("show ip cef 198.51.100.5").value["remote-labels"] == []


def test_show_ip_cef_of_one_of_many_behind_a_multipoint_tunnel() -> None:
    rig = world()
    rig.give(
        interface("Tunnel9", InterfaceKind.TUNNEL, mpls=True),
        link("Tunnel9"),
        neighbour("Tunnel9", "10.9.0.2", transport="203.0.113.9"),
        route("10.9.0.2/32", via(interface="Tunnel9")),
    )
    key = AdjacencyKey("Tunnel9", A("10.9.0.2"))
    rig.tables.revoke("tunnel")
    outer = rig.tables.adjacencies.writer("tunnel")
    outer.put(key, Adjacency(key, AdjacencyKind.GRE, True, 1472, destination=A("203.0.113.9")))
    answer = shown("show ip cef 10.9.0.2", rig)
    assert nameless(answer.text).splitlines()[-3:] == [
        "   MPLS short path extensions: MOI flags = 0x1 label implicit-null",
        "   attached to Tunnel9, adjacency IP midchain out of Tunnel9, addr 10.9.0.2 X",
        "  output chain: IP midchain out of Tunnel9, addr 10.9.0.2 X IP adj out of Ethernet0/0, addr 172.20.4.2 X",
    ]


def test_shortcuts_of_nhrp_in_routes_and_in_cef() -> None:
    """An H route where nobody else has one, a next hop override (`%`) where somebody has."""
    rig = world()
    shortcut = via("10.8.0.9", "Tunnel8", labels=(88,))
    for prefix in ("10.44.7.0/24", "10.44.2.0/24"):
        rig.give(route(prefix, shortcut, vrf=BLUE, owner="nhrp", distance=250, override=True))
    rig.give(route("10.8.0.9/32", via("10.8.0.9", "Tunnel8"), owner="nhrp", distance=250, override=True))
    lines = shown("show ip route vrf Blue Corp", rig).text.splitlines()
    assert "H        10.44.7.0/24 [250/0] via 10.8.0.9, 00:00:42, Tunnel8" in lines
    assert "B   %    10.44.2.0/24 [200/0] via 10.8.0.9, 00:00:42, Tunnel8" in lines
    assert (
        "H        10.8.0.9/32 [250/0] via 10.8.0.9, 00:00:42, Tunnel8" in shown("show ip route", rig).text.splitlines()
    )
    table = shown("show ip cef vrf Blue Corp", rig).text.splitlines()
    assert "10.44.7.0/24         10.8.0.9             Tunnel8" in table
    answer = shown("show ip cef vrf Blue Corp 10.44.7.9", rig)
    under = "IP adj out of Ethernet0/0, addr 172.20.4.2 X"
    assert nameless(answer.text).splitlines()[7:] == [
        "  path X, path list X, share 1/1, type attached nexthop, for IPv4, flags must-be-labelled",
        "   MPLS short path extensions: MOI flags = 0x1 label 88 label implicit-null",
        "   nexthop 10.8.0.9 Tunnel8, adjacency IP midchain out of Tunnel8 X",
        f"  output chain: label 88 label implicit-null TAG midchain out of Tunnel8 X {under}",
    ]
    assert (answer.value["source"], answer.value["override"]) == ("nhrp", None)
    overridden = shown("show ip cef vrf Blue Corp 10.44.2.9", rig).value
    assert (overridden["source"], overridden["override"]) == ("bgp", "nhrp")


def test_show_ip_cef_tells_local_labels() -> None:
    answer = shown("show ip cef vrf Blue Corp 10.44.1.0/24")
    assert "sources: RIB, LTE" in answer.text
    assert "LFD: 10.44.1.0/24 1 local label\n   local label info: other/40" in answer.text
    assert answer.value["local-labels"] == [40]
    assert answer.value["refcount"] == 4


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("show ip route vrf Green", "there is no VRF Green; there are: Blue Corp, l3vpn"),
        ("show ip cef vrf Green", "there is no VRF Green; there are: Blue Corp, l3vpn"),
        ("show ipv6 cef 2001:db8::/32", "no FIB entry covers 2001:db8::/32 in the default table"),
        ("show ipv6 route 2001:db8::1", "no route to 2001:db8::1 in the default table"),
        ("show interfaces Ethernet7/7", "there is no interface Ethernet7/7"),
        ("show ip cef vrf Blue Corp tunnel 9", "there is no interface Tunnel9"),
        ("show vrf Green", "there is no VRF Green; there are: Blue Corp"),
    ],
)
def test_what_is_not_there_is_said(line: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        shown(line)


def test_show_vrf_and_interfaces() -> None:
    assert (
        shown("show vrf").text
        == """\
  Name                             Default RD            Protocols   Interfaces
  Blue Corp                        7:70                  ipv4,ipv6   Ethernet0/2
                                                                     Ethernet0/3"""
    )
    assert shown("show vrf").value[0]["export"] == {"ipv4": ["7:7"]}
    assert (
        shown("show interfaces Ethernet0/0").text
        == """\
Ethernet0/0 is up, line protocol is up
  Hardware is Ethernet, address is 0200.0000.0a01
  Description: to the core
  Internet address is 172.20.4.1/30
  MTU 1500 bytes
  Labelled packets are taken and sent"""
    )
    assert len(shown("show interfaces").value) == 6
    brief = shown("show ip interface brief").text.splitlines()
    assert brief[1] == "Ethernet0/0                172.20.4.1      YES manual up                    up"
    assert brief[2] == "Ethernet0/2                unassigned      YES unset  administratively down down"


def protected(*, up: bool) -> Rig:
    """A clone, and a spoke's tunnel that waits for its address."""
    why = "" if up else "no security association: peer is silent"
    rig = Rig(now=1000.0).give(
        vrf(""),
        interface("Loopback3", InterfaceKind.LOOPBACK),
        address("Loopback3", "198.51.100.3/32"),
        interface("Virtual-Access6", InterfaceKind.TUNNEL, unnumbered="Loopback3", point_to_point=True,
                  parent="Virtual-Template2", protection="gold", description="peer spoke6.example"),
        link("Virtual-Access6", mtu=1418),
        neighbour("Virtual-Access6", usable=up, reason=why, transport="203.0.113.6"),
        interface("Tunnel4", InterfaceKind.TUNNEL, point_to_point=True, protection="gold", negotiated=True),
        link("Tunnel4"),
        route("10.6.0.1/32", via(interface="Virtual-Access6")),
    )  # fmt: skip
    key = AdjacencyKey("Virtual-Access6")
    rig.tables.adjacencies.writer("tunnel").put(key, Adjacency(
        key, AdjacencyKind.GRE, up, 1442, source=A("192.0.2.9"), destination=A("203.0.113.6"), protection="gold",
        reason=why, sa=SaKey("Virtual-Access6"),
    ))  # fmt: skip
    return rig


def test_show_interfaces_says_how_a_tunnel_is_protected() -> None:
    assert (
        shown("show interfaces Virtual-Access6", protected(up=True)).text
        == """\
Virtual-Access6 is up, line protocol is up
  Hardware is Virtual Access, a clone of Virtual-Template2
  Description: peer spoke6.example
  Interface is unnumbered. Using address of Loopback3
  MTU 1418 bytes
  Tunnel source 192.0.2.9, destination 203.0.113.6
  Tunnel protection via IPSec (profile "gold")
  Protected neighbours: 1 of 1 can be sent to"""
    )
    down = shown("show interfaces Virtual-Access6", protected(up=False))
    assert down.text.endswith("0 of 1 can be sent to: no security association: peer is silent")
    assert down.value[0]["security"] == {
        "profile": "gold", "neighbours": 1, "usable": 0, "reasons": ["no security association: peer is silent"],
    }  # fmt: skip
    assert (
        "  Internet address will be negotiated using IKEv2" in shown("show interfaces Tunnel4", protected(up=True)).text
    )
    rig = protected(up=True).give(address("Tunnel4", "10.6.0.9/32", origin="negotiated"))
    assert "  Internet address is 10.6.0.9/32" in shown("show interfaces Tunnel4", rig).text
    brief = shown("show ip interface brief", rig).text
    assert "Tunnel4                    10.6.0.9        YES IPCP   up                    up" in brief
    assert "Virtual-Access6            198.51.100.3    YES TFTP   up                    up" in brief


def test_a_route_into_a_closed_tunnel_says_that_it_drops() -> None:
    rig = protected(up=False)
    assert "  Packets are dropped: no security association: peer is silent" in shown("show ip route 10.6.0.1", rig).text
    assert "output chain: drop (no security association: peer is silent)" in shown("show ip cef 10.6.0.1", rig).text
    assert "dropped" not in shown("show ip route 10.6.0.1", protected(up=True)).text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00"), (42.9, "00:00:42"), (86399, "23:59:59"), (93600, "1d02h"), (604800 * 3 + 86400 * 4, "3w4d")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text
