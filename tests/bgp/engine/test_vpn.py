"""The L3VPN pipe: import, export, leaking, PE-CE, re-advertisement with our own label, and that VRFs never mix."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp.config import LabelMode
from bgp.engine.decision import explain
from bgp.engine.paths import Reason
from bgp.engine.rib.ribs import SWEEP_EVERY
from bgp.wire import IPV4_UNICAST, VPNV4, VPNV6
from stack.addr import RD, Afi, Prefix, PrefixFec, SwapFec, VrfFec
from stack.events import (
    AddressRow,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    LabelWanted,
    NextHopKey,
    NextHopRow,
    NextHopState,
    NextHopWanted,
    PolicyState,
    ProfileRow,
    ProfileState,
    Via,
    VrfState,
)
from stack.policy import routemap
from stack.policy.routemap import Lists, MatchTag, RouteMap, Sequence, SetEncapsulate
from tests.bgp.engine.rib_world import TestPeer, World, attributes, config, ip, key, redistribute, rt

ROUTE = "1:1 10.1.0.0/16"
PREFIX = "10.1.0.0/16"


def use_profile(world: World, name: str = "P") -> None:
    """A route map M that sends everything by the profile."""
    sets = (SetEncapsulate(Afi.IPV4, name), SetEncapsulate(Afi.IPV6, name))
    compiled = routemap.compile({"M": RouteMap("M", (Sequence(10, sets=sets),))}, Lists())
    world.tell(PolicyState, {("route-map", "M"): compiled["M"]})


# --- in ---------------------------------------------------------------------------------------------------------------


def test_rfc4364_4_3_1_a_route_is_imported_where_a_target_matches() -> None:
    world = World()
    world.vrf("red", "9:1", imports=("1:1", "7:7"))
    world.vrf("blue", "9:2", imports=("2:2",))
    peer = world.peer("192.0.2.1")
    peer.announce(VPNV4, ROUTE, attrs=attributes((), ("1:1", "8:8")), label=18)
    assert world.routes("red") == {PREFIX: world.routes("red")[PREFIX]}
    [route] = world.routes("red").values()
    assert route.vias == (Via(ip("192.0.2.1"), labels=(18,)),)
    assert (route.distance, route.kind) == (200, "ibgp")
    assert world.routes("blue") == {}
    assert world.routes("") == {}  # never into the default table


def test_an_external_vpn_route_has_distance_20() -> None:
    world = World()
    world.vrf("red", "9:1", imports=("1:1",))
    world.peer("203.0.113.1", asn=65020).announce(VPNV4, ROUTE, attrs=attributes((65020,), ("1:1",), med=4))
    assert [(r.distance, r.kind, r.metric) for r in world.routes("red").values()] == [(20, "ebgp", 4)]


def test_the_best_of_all_rds_wins_in_the_vrf() -> None:
    world = World()
    world.vrf("red", "9:1", imports=("1:1",))
    a, b = world.peer("192.0.2.1"), world.peer("192.0.2.2")
    a.announce(VPNV4, "1:1 10.1.0.0/16", attrs=attributes((), ("1:1",), local_pref=100))
    b.announce(VPNV4, "2:2 10.1.0.0/16", attrs=attributes((), ("1:1",), local_pref=200))
    assert world.routes("red")[PREFIX].vias[0].address == ip("192.0.2.2")
    b.withdraw(VPNV4, "2:2 10.1.0.0/16")
    assert world.routes("red")[PREFIX].vias[0].address == ip("192.0.2.1")
    a.withdraw(VPNV4, "1:1 10.1.0.0/16")
    assert world.routes("red") == {}


def test_of_two_paths_under_one_rd_the_vrf_may_import_the_one_that_is_not_best_there() -> None:
    world = World()
    world.vrf("red", "9:1", imports=("1:1",))
    a, b = world.peer("192.0.2.1"), world.peer("192.0.2.2")
    a.announce(VPNV4, ROUTE, attrs=attributes((), ("5:5",), local_pref=300))
    b.announce(VPNV4, ROUTE, attrs=attributes((), ("1:1",)))
    assert world.routes("red")[PREFIX].vias[0].address == ip("192.0.2.2")


@pytest.mark.parametrize("imports", [("1:1",), ("1:1", "3:3")])
def test_live_edits_of_import_targets(imports: tuple[str, ...]) -> None:
    world = World()
    peer = world.peer("192.0.2.1")
    peer.announce(VPNV4, "1:1 10.1.0.0/16", attrs=attributes((), ("1:1",)))
    peer.announce(VPNV4, "3:3 10.3.0.0/16", attrs=attributes((), ("3:3",)))
    world.vrf("red", "9:1", imports=imports)
    assert len(world.routes("red")) == len(imports)
    world.vrf("red", "9:1", imports=("3:3",))
    assert list(world.routes("red")) == ["10.3.0.0/16"]
    world.vrf("red", "9:1")
    assert world.routes("red") == {}
    world.vrf("red", "9:1", imports=imports)
    world.tell(VrfState, {"red": None})
    assert world.routes("red") == {}


def test_V05_an_unknown_rd_type_is_opaque() -> None:
    world = World()
    world.vrf("red", "9:1", imports=("1:1",))
    a = world.peer("192.0.2.1", route_reflector_client=True)
    b = world.peer("192.0.2.2")
    odd = RD(bytes.fromhex("0009112233445566"))
    from bgp.wire import Reach, Update, vpn_nlri

    nlri = vpn_nlri(odd, Prefix.parse(PREFIX), (18,))
    a.say(Update(attributes=attributes((), ("1:1",)), reach=(Reach(VPNV4, ip("192.0.2.1"), (nlri,)),)))
    assert list(world.routes("red")) == [PREFIX]
    assert list(b.received) == [f"0x0009112233445566:{PREFIX}"]


def test_V05_a_route_without_target_is_kept_and_imported_nowhere() -> None:
    world = World()
    world.vrf("red", "1:1", imports=("1:1",))
    a = world.peer("192.0.2.1", route_reflector_client=True)
    b = world.peer("192.0.2.2")
    a.announce(VPNV4, ROUTE, attrs=attributes())
    assert len(world.ribs.peers[a.key].adj_in[VPNV4].rows) == 1
    assert world.routes("red") == {}
    assert list(b.received) == ["1:1:10.1.0.0/16"]


def test_V04_a_withdrawal_counts_whatever_its_label() -> None:
    from bgp.wire import Nlri, Unreach, Update

    world = World()
    world.vrf("red", "1:1", imports=("1:1",))
    peer = world.peer("192.0.2.1")
    for labels in ((), (0x80000,), (0,), (77,)):
        peer.announce(VPNV4, ROUTE, attrs=attributes((), ("1:1",)))
        assert list(world.routes("red")) == [PREFIX]
        peer.say(Update(unreach=(Unreach(VPNV4, (Nlri(key(VPNV4, ROUTE), labels),)),)))
        assert world.routes("red") == {}


def test_rfc4659_3_2_1_2_a_mapped_next_hop_is_resolved_as_ipv4() -> None:
    world = World()
    world.vrf("red", "9:1", imports=("1:1",))
    peer = world.peer("192.0.2.1", families=(VPNV6,))
    peer.announce(VPNV6, "1:1 2001:db8::/32", attrs=attributes((), ("1:1",)), hop="::ffff:192.0.2.1", label=30)
    [route] = world.routes("red").values()
    assert route.vias == (Via(ip("192.0.2.1"), labels=(30,)),)
    assert NextHopKey("", ip("192.0.2.1"), labelled=True) in world.state[NextHopWanted][""]


# --- encapsulation ----------------------------------------------------------------------------------------------------


def test_encapsulated_routes_ask_for_the_endpoint_and_lose_to_usable_ones() -> None:
    world = World(unusable={"encap P": "profile P does not exist"})
    world.vrf("red", "9:1", imports=("1:1",))
    use_profile(world)
    a = world.peer("192.0.2.1", route_map_in="M")
    b = world.peer("192.0.2.2")
    rts = attributes((), ("1:1",), local_pref=300)
    a.announce(VPNV4, ROUTE, attrs=rts)
    assert NextHopKey("", ip("192.0.2.1"), encap="P", labelled=True) in world.state[NextHopWanted][""]
    assert world.routes("red") == {}
    b.announce(VPNV4, "2:2 10.1.0.0/16", attrs=attributes((), ("1:1",)))
    assert world.routes("red")[PREFIX].vias == (Via(ip("192.0.2.2"), labels=(100,)),)
    net = world.ribs.tables["red", IPV4_UNICAST].nets[key(IPV4_UNICAST, PREFIX)]
    assert {v.detail for v in explain(net.paths, net.best) if v.reason is Reason.NEXT_HOP} == {
        "profile P does not exist"
    }
    world.unusable.clear()
    world.resolve_again()
    assert world.routes("red")[PREFIX].vias == (Via(ip("192.0.2.1"), encap="P", labels=(100,)),)


def test_a_profile_removed_and_added_again_with_a_soft_clear_restores_every_route() -> None:
    """semantics 19: the routes before and after are the same."""
    world = World()
    world.vrf("red", "9:1", imports=("1:1",))
    world.vrf("blue", "9:2", imports=("2:2",))
    use_profile(world)
    peer = world.peer("192.0.2.1", families=(VPNV4, VPNV6), route_map_in="M")
    for n, target in enumerate(("1:1", "2:2", "1:1")):
        peer.announce(VPNV4, f"{target} 10.{n}.0.0/16", attrs=attributes((), (target,)), label=20 + n)
    peer.announce(VPNV6, "1:1 2001:db8::/32", attrs=attributes((), ("1:1",)), hop="::ffff:192.0.2.1")
    before = {vrf: world.routes(vrf) for vrf in ("red", "blue")}
    assert {r.vias[0].encap for routes in before.values() for r in routes.values()} == {"P"}
    world.unusable["encap P"] = "profile P does not exist"
    world.resolve_again()
    world.tell(ProfileState, {"P": None})
    assert (world.routes("red"), world.routes("blue")) == ({}, {})
    world.unusable.clear()
    world.resolve_again()
    world.soft()
    assert {vrf: world.routes(vrf) for vrf in ("red", "blue")} == before


# --- out --------------------------------------------------------------------------------------------------------------

RED = redistribute("connected", "static", vrf="red")


def test_rfc4364_4_3_2_a_local_route_goes_out_with_rd_targets_and_label() -> None:
    world = World(config=config(RED))
    world.vrf("red", "9:1", exports=("9:1", "9:9"))
    peer = world.peer("192.0.2.1", families=(VPNV4, IPV4_UNICAST))
    world.select("red", "172.16.1.0/24")
    attrs, hop, labels = peer.received["9:1:172.16.1.0/24"]
    assert attrs.route_targets == rt("9:1", "9:9")
    assert (hop, labels) == ("198.51.100.1", (1000,))
    assert (attrs.local_pref, attrs.med, str(attrs.as_path), attrs.origin) == (100, 0, "", 2)
    assert list(peer.received) == ["9:1:172.16.1.0/24"]
    world.unselect("red", "172.16.1.0/24")
    assert peer.received == {}


def test_6vpe_routes_go_out_with_the_mapped_next_hop() -> None:
    world = World(config=config(redistribute("connected", vrf="red", afi=Afi.IPV6)))
    world.vrf("red", "9:1", exports=("9:1",))
    peer = world.peer("192.0.2.1", families=(VPNV6,))
    world.select("red", "2001:db8:1::/64")
    assert peer.received["9:1:2001:db8:1::/64"][1] == "::ffff:198.51.100.1"


def test_what_is_redistributed_follows_the_route_map() -> None:
    world = World(config=config(redistribute("static", vrf="red", route_map="R", default=True)))
    world.vrf("red", "9:1", exports=("9:1",))
    peer = world.peer("192.0.2.1")
    world.select("red", "0.0.0.0/0", "static", null=True, tag=666)
    world.select("red", "10.9.0.0/16", "static", tag=1)
    assert peer.received == {}  # the map does not exist: nothing leaves
    maps = {"R": RouteMap("R", (Sequence(10, matches=(MatchTag({666}),)),))}
    world.tell(PolicyState, {("route-map", "R"): routemap.compile(maps, Lists())["R"]})
    assert list(peer.received) == ["9:1:0.0.0.0/0"]


def test_edits_of_rd_and_export_targets() -> None:
    world = World(config=config(RED))
    peer = world.peer("192.0.2.1")
    world.select("red", "172.16.1.0/24")  # before anybody knows the VRF
    assert peer.received == {}
    world.vrf("red", "9:1", exports=("9:1",))
    assert list(peer.received) == ["9:1:172.16.1.0/24"]
    world.vrf("red", "9:5", exports=("9:7",))
    assert list(peer.received) == ["9:5:172.16.1.0/24"]
    assert peer.received["9:5:172.16.1.0/24"][0].route_targets == rt("9:7")
    world.tell(VrfState, {"red": None})
    assert peer.received == {}
    assert world.state[LabelWanted][""] == {}


def test_label_per_vrf_and_back() -> None:
    modes = {(Afi.IPV4, "*"): LabelMode.PER_VRF}
    world = World(config=config(RED, label_modes=modes))
    world.vrf("red", "9:1", exports=("9:1",))
    peer = world.peer("192.0.2.1")
    world.select("red", "172.16.1.0/24")
    world.select("red", "172.16.2.0/24", "static", via=Via(ip("172.16.1.9"), vrf="red"))
    assert list(world.state[LabelWanted][""]) == [VrfFec("red", Afi.IPV4)]
    assert {labels for _, _, labels in peer.received.values()} == {(1000,)}
    world.unselect("red", "172.16.1.0/24")
    assert list(world.state[LabelWanted][""]) == [VrfFec("red", Afi.IPV4)]  # one route still uses it
    world.select("red", "172.16.1.0/24")
    world.reconfigure(config(RED))
    wanted = {str(fec.prefix) for fec in world.state[LabelWanted][""] if isinstance(fec, PrefixFec)}
    assert wanted == {"172.16.1.0/24", "172.16.2.0/24"}
    assert len(world.state[LabelWanted][""]) == 2
    assert len({labels for _, _, labels in peer.received.values()}) == 2


@pytest.mark.parametrize(
    ("profile", "bgp_next_hop", "expected"),
    [("", "", "198.51.100.1"), ("198.51.100.2", "", "198.51.100.2"), ("198.51.100.2", "Loopback3", "198.51.100.3")],
)
def test_our_next_hop_is_where_tunnel_packets_must_arrive(profile: str, bgp_next_hop: str, expected: str) -> None:
    world = World(config=config(RED, next_hop_interface=bgp_next_hop))
    world.vrf("red", "9:1", exports=("9:1",))
    peer = world.peer("192.0.2.1")
    world.select("red", "172.16.1.0/24")
    loopback = InterfaceRow("Loopback3", InterfaceKind.LOOPBACK)
    addresses = {ip("198.51.100.3"): AddressRow(32)}
    world.tell(InterfaceState, {"Loopback3": Interface(loopback, 3, up=True, mtu=1500, addresses=addresses)})
    if profile:
        world.tell(ProfileState, {"P": ProfileRow("Tunnel0", "encap", "Loopback2", ip(profile), usable=True)})
    assert peer.received["9:1:172.16.1.0/24"][1] == expected


# --- PE-CE and leaking ------------------------------------------------------------------------------------------------


def ce(world: World, address: str, asn: int, vrf: str = "red", **values: Any) -> TestPeer:
    return world.peer(address, asn=asn, families=(IPV4_UNICAST,), vrf=vrf, local="172.16.1.1", **values)


def test_rfc4364_7_routes_of_a_ce_cross_the_vpn_and_come_back() -> None:
    """
    ce --10.7/16--> red --VPN, label--> pe2          pe2 --10.1/16--> red --> ce
    """
    world = World()
    world.vrf("red", "9:1", imports=("9:1",), exports=("9:1",))
    pe2, customer = world.peer("192.0.2.1"), ce(world, "172.16.1.2", 65100)
    customer.announce(IPV4_UNICAST, "10.7.0.0/16", attrs=attributes((65100,), med=3))
    route = world.routes("red")["10.7.0.0/16"]
    assert (route.vias, route.distance) == ((Via(ip("172.16.1.2"), vrf="red"),), 20)
    attrs, hop, labels = pe2.received["9:1:10.7.0.0/16"]
    assert (hop, labels, str(attrs.as_path), attrs.route_targets) == ("198.51.100.1", (1000,), "65100", rt("9:1"))
    pe2.announce(VPNV4, "9:1 10.1.0.0/16", attrs=attributes((), ("9:1",)))
    attrs, hop, labels = customer.received[PREFIX]
    assert (hop, labels, str(attrs.as_path)) == ("172.16.1.1", (), "65010")
    assert attrs.ext_communities == ()  # route targets are ours, not the customer's
    assert "10.7.0.0/16" not in customer.received


def test_the_label_of_a_ce_route_leads_to_the_ce_once_the_rib_uses_it() -> None:
    world = World()
    world.vrf("red", "9:1", exports=("9:1",))
    ce(world, "172.16.1.2", 65100).announce(IPV4_UNICAST, "10.7.0.0/16")
    fec = PrefixFec("red", Prefix.parse("10.7.0.0/16"))
    assert world.state[LabelWanted][""][fec].next_hop == 0
    world.select("red", "10.7.0.0/16", "bgp", via=Via(ip("172.16.1.2"), vrf="red"), hop=55)
    assert world.state[LabelWanted][""][fec].next_hop == 55


def test_route_targets_that_a_ce_sends_are_not_believed() -> None:
    world = World()
    world.vrf("red", "9:1", exports=("9:1",))
    world.vrf("blue", "9:2", imports=("2:2",))
    pe2 = world.peer("192.0.2.1")
    ce(world, "172.16.1.2", 65100).announce(IPV4_UNICAST, "10.7.0.0/16", attrs=attributes((65100,), ("2:2",)))
    assert pe2.received["9:1:10.7.0.0/16"][0].route_targets == rt("9:1")
    assert world.routes("blue") == {}


def test_two_vrfs_of_one_router_leak_by_targets_only() -> None:
    world = World(config=config(RED, redistribute("connected", vrf="blue")))
    world.vrf("red", "9:1", imports=("9:1",), exports=("9:1",))
    world.vrf("blue", "9:2", imports=("9:2", "9:1"), exports=("9:2",))
    world.select("red", "172.16.1.0/24")
    world.select("red", "10.5.0.0/16", "static", via=Via(ip("172.16.1.9"), vrf="red"))
    world.select("blue", "172.17.1.0/24")
    routes = world.routes("blue")
    assert routes["172.16.1.0/24"].vias == (Via(interface="Ethernet0/1", vrf="red"),)
    assert routes["10.5.0.0/16"].vias == (Via(ip("172.16.1.9"), vrf="red"),)
    assert sorted(routes) == ["10.5.0.0/16", "172.16.1.0/24"]
    assert world.routes("red") == {}
    world.unselect("red", "172.16.1.0/24")
    assert list(world.routes("blue")) == ["10.5.0.0/16"]


def test_what_was_imported_is_not_exported_again() -> None:
    world = World()
    world.vrf("red", "9:1", imports=("1:1",), exports=("9:1",))
    a = world.peer("192.0.2.1", route_reflector_client=True)
    b = world.peer("192.0.2.2")
    a.announce(VPNV4, ROUTE, attrs=attributes((), ("1:1",)))
    assert list(b.received) == ["1:1:10.1.0.0/16"]


# --- ourselves as next hop of others' routes (the hub) ----------------------------------------------------------------


def test_rfc4364_10_b_a_re_advertised_route_gets_a_label_of_ours() -> None:
    """
    spoke1 (AS 65100) --10.1/16, label 18--> hub --10.1/16, label L--> spoke2 (AS 65100)     L is swapped to 18
    """
    world = World()
    world.vrf("red", "1:1", imports=("1:1",), exports=("1:1",))
    one, two = world.peer("10.1.1.3", asn=65100), world.peer("10.1.1.4", asn=65100)
    one.announce(VPNV4, ROUTE, attrs=attributes((65100,), ("1:1",)), label=18)
    hop = world.hop_ids[NextHopKey("", ip("10.1.1.3"), labelled=True)]
    [fec] = world.state[LabelWanted][""]
    assert fec == SwapFec(RD.parse("1:1"), Prefix.parse(PREFIX), hop, (18,))
    attrs, next_hop, labels = two.received["1:1:10.1.0.0/16"]
    assert (next_hop, labels) == ("198.51.100.1", (world.ribs.labels.bound[fec].label,))
    assert str(attrs.as_path) == "65010 65100"
    one.announce(VPNV4, ROUTE, attrs=attributes((65100,), ("1:1",)), label=19)
    [fec] = world.state[LabelWanted][""]  # the former one is let go
    assert fec.out_labels == (19,)
    assert two.received["1:1:10.1.0.0/16"][2] == (world.ribs.labels.bound[fec].label,)
    one.withdraw(VPNV4, ROUTE)
    assert two.received == {}
    assert world.state[LabelWanted][""] == {}


def test_a_swapped_route_goes_when_its_labelled_next_hop_does_and_comes_back() -> None:
    world = World()
    one, two = world.peer("10.1.1.3", asn=65100), world.peer("10.1.1.4", asn=65101)
    one.announce(VPNV4, ROUTE, attrs=attributes((65100,), ("1:1",)))
    assert two.received
    labelled = NextHopKey("", ip("10.1.1.3"), labelled=True)
    number = world.hop_ids[labelled]
    world.tell(NextHopState, {labelled: NextHopRow(False, "no label to it", id=number)})
    assert two.received == {}
    world.tell(NextHopState, {labelled: NextHopRow(True, "", id=number)})
    assert two.received


def test_a_swapped_route_waits_for_its_labelled_next_hop_as_long_as_it_takes() -> None:
    world = World()
    labelled = NextHopKey("", ip("10.1.1.3"), labelled=True)
    world.answer_hops = False
    one, two = world.peer("10.1.1.3", asn=65100), world.peer("10.1.1.4", asn=65101)
    one.announce(VPNV4, ROUTE, attrs=attributes((65100,), ("1:1",)))
    world.tell(NextHopState, {labelled._replace(labelled=False): NextHopRow(True, "", id=1)})
    world.tell(NextHopState, {labelled: NextHopRow(False, "no label to it", id=2)})
    world.pass_time(SWEEP_EVERY)
    assert labelled in world.state[NextHopWanted][""]
    assert two.received == {}
    world.tell(NextHopState, {labelled: NextHopRow(True, "", id=2)})
    assert list(two.received) == ["1:1:10.1.0.0/16"]
    one.withdraw(VPNV4, ROUTE)
    world.pass_time(SWEEP_EVERY)
    assert labelled not in world.state[NextHopWanted][""]


def test_labels_for_swapping_go_some_time_after_the_last_neighbour_that_was_told_them() -> None:
    world = World()
    one, two = world.peer("192.0.2.1"), world.peer("10.1.1.4", asn=65101)
    one.announce(VPNV4, ROUTE, attrs=attributes((), ("1:1",)))
    assert len(world.state[LabelWanted][""]) == 1
    world.down(two)
    assert len(world.state[LabelWanted][""]) == 1  # it may be back at once, and then has the same label
    world.pass_time(SWEEP_EVERY)
    assert world.state[LabelWanted][""] == {}
    again = world.peer("10.1.1.4", asn=65101)
    assert list(again.received) == ["1:1:10.1.0.0/16"]


def test_allowas_in_lets_spokes_of_one_as_hear_each_other() -> None:
    world = World()
    world.vrf("red", "1:1", imports=("1:1",))
    hub = world.peer("10.0.0.1", asn=65001)
    attrs = attributes((65001, 65010), ("1:1",))
    hub.announce(VPNV4, ROUTE, attrs=attrs)
    assert world.routes("red") == {}
    world.down(hub)
    hub = world.peer("10.0.0.1", asn=65001, allowas_in=3)
    hub.announce(VPNV4, ROUTE, attrs=attrs)
    assert list(world.routes("red")) == [PREFIX]


def test_a_pure_reflector_keeps_everything() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=(VPNV4, VPNV6), route_reflector_client=True)
    b = world.peer("192.0.2.2", families=(VPNV4, VPNV6), route_reflector_client=True)
    for n in range(20):
        a.announce(VPNV4, f"{n}:1 10.1.0.0/16", attrs=attributes((), (f"{n}:1",)))
    assert len(b.received) == 20
    assert world.ribs.vpn.placed == {}


# --- V06: VRFs never mix ----------------------------------------------------------------------------------------------

TARGETS = ("1:1", "2:2", "3:3")
VRFS = ("red", "blue")
targets = st.frozensets(st.sampled_from(TARGETS), max_size=3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("import"), st.sampled_from(VRFS), targets),
        st.tuples(st.just("export"), st.sampled_from(VRFS), targets),
        st.tuples(st.just("delete"), st.sampled_from(VRFS), targets),
        st.tuples(st.just("remote"), st.sampled_from(("1:1", "2:2", "7:7")), targets),
        st.tuples(st.just("withdraw"), st.sampled_from(("1:1", "2:2", "7:7")), targets),
        st.tuples(st.just("local"), st.sampled_from(VRFS), targets),
        st.tuples(st.just("unlocal"), st.sampled_from(VRFS), targets),
    ),
    max_size=25,
)


class Model:
    """What RFC 4364 4.3 says, in twenty lines: a VRF holds what carries one of its import targets, and nothing else."""

    def __init__(self) -> None:
        self.imports: dict[str, frozenset[str]] = {}
        self.exports: dict[str, frozenset[str]] = {}
        self.remote: dict[str, frozenset[str]] = {}
        self.local: set[str] = set()

    def sources(self, vrf: str) -> set[str]:
        """From where `vrf` may have its route."""
        wanted = self.imports.get(vrf)
        if wanted is None:
            return set()
        found = {f"remote {rd}" for rd, rts in self.remote.items() if rts & wanted}
        for other in self.local - {vrf}:
            if self.exports.get(other, frozenset()) & wanted:
                found.add(f"local {other}")
        return found


RD_HOPS = {"1:1": "192.0.2.11", "2:2": "192.0.2.12", "7:7": "192.0.2.17"}


@settings(max_examples=300, deadline=None)
@given(steps)
def test_V06_a_vrf_never_holds_a_route_that_its_targets_do_not_allow(sequence: list[Any]) -> None:
    world = World(config=config(RED, redistribute("connected", vrf="blue"), redistribute("connected", vrf="")))
    peer = world.peer("192.0.2.1")
    model = Model()

    def tell(vrf: str) -> None:
        world.vrf(
            vrf,
            "1:1" if vrf == "red" else "2:2",
            imports=tuple(model.imports.get(vrf, ())),
            exports=tuple(model.exports.get(vrf, ())),
            index=1 + VRFS.index(vrf),
        )

    for action, name, rts in sequence:
        if action == "import":
            model.imports[name] = rts
            tell(name)
        elif action == "export":
            model.exports[name] = rts
            model.imports.setdefault(name, frozenset())
            tell(name)
        elif action == "delete":
            world.tell(VrfState, {name: None})
            world.unselect(name, PREFIX)
            model.imports.pop(name, None)
            model.exports.pop(name, None)
            model.local.discard(name)
        elif action == "remote":
            model.remote[name] = rts
            peer.announce(VPNV4, f"{name} {PREFIX}", attrs=attributes((), tuple(rts)), hop=RD_HOPS[name])
        elif action == "withdraw":
            model.remote.pop(name, None)
            peer.withdraw(VPNV4, f"{name} {PREFIX}")
        elif action == "local":
            model.local.add(name)
            world.select(name, PREFIX, via=Via(interface=f"Ethernet {name}", vrf=name))
        else:
            model.local.discard(name)
            world.unselect(name, PREFIX)
        check(world, model)


def check(world: World, model: Model) -> None:
    assert world.routes("") == {}
    for vrf in VRFS:
        allowed = model.sources(vrf)
        routes = world.routes(vrf)
        if not allowed or (vrf in model.local and vrf in model.imports):
            assert routes == {}, (vrf, routes)
            continue
        if vrf in model.local:
            continue  # its own connected route stands first although the VRF is not configured
        assert list(routes) == [PREFIX]
        [via] = routes[PREFIX].vias
        if via.interface:
            assert f"local {via.vrf}" in allowed
        else:
            rd = next(rd for rd, hop in RD_HOPS.items() if ip(hop) == via.address)
            assert f"remote {rd}" in allowed
    for peer in world.peers.values():
        for name, (attrs, _, _) in peer.received.items():
            origin = "red" if name.startswith("1:1:") else "blue"
            assert attrs.route_targets == rt(*model.exports.get(origin, ()))
            assert origin in model.local


def test_V06_same_prefix_and_default_route_in_two_vrfs() -> None:
    families = (redistribute("static", vrf="red", default=True), redistribute("static", vrf="blue", default=True))
    world = World(config=config(*families))
    world.vrf("red", "1:1", imports=("1:1",), exports=("1:1",))
    world.vrf("blue", "2:2", imports=("2:2",), exports=("2:2",))
    peer = world.peer("192.0.2.1")
    for number, rd in enumerate(("1:1", "2:2")):
        for prefix in (PREFIX, "0.0.0.0/0"):
            peer.announce(VPNV4, f"{rd} {prefix}", attrs=attributes((), (rd,)), label=50 + number)
    for vrf, label in (("red", 50), ("blue", 51)):
        assert {r.vias[0].labels for r in world.routes(vrf).values()} == {(label,)}
        assert sorted(world.routes(vrf)) == ["0.0.0.0/0", PREFIX]
    world.vrf("red", "1:1", imports=("1:1", "2:2"), exports=("1:1",))
    world.vrf("red", "1:1", imports=("1:1",), exports=("1:1",))
    assert {r.vias[0].labels for r in world.routes("red").values()} == {(50,)}


def test_next_hops_of_routes_that_went_are_wanted_no_longer() -> None:
    """Without the garbage collector's help: what VRFs imported must not be kept by a cycle."""
    world = World()
    world.vrf("red", "1:1", imports=("1:1",))
    remote = world.peer("192.0.2.1")
    gc.disable()
    try:
        remote.announce(VPNV4, ROUTE, attrs=attributes((), ("1:1",)))
        world.pass_time(2 * SWEEP_EVERY)
        assert len(world.state[NextHopWanted][""]) == 2
        remote.withdraw(VPNV4, ROUTE)
        world.pass_time(2 * SWEEP_EVERY)
        way = NextHopKey("", ip("192.0.2.1"))  # how the neighbour itself is reached is wanted while it is up
        assert world.state[NextHopWanted][""] == {way: True}
    finally:
        gc.enable()


def test_a_vrf_that_goes_is_swept_after() -> None:
    world = World()
    world.vrf("red", "1:1", imports=("1:1",))
    world.peer("192.0.2.1").announce(VPNV4, ROUTE, attrs=attributes((), ("1:1",)))
    world.pass_time(2 * SWEEP_EVERY)
    world.tell(VrfState, {"red": None})
    world.pass_time(2 * SWEEP_EVERY)
    assert list(world.state[NextHopWanted][""]) == [NextHopKey("", ip("192.0.2.1"))]
