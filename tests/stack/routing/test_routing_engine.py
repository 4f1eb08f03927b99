"""Routing's engine as tables: what is offered, and what then stands in RIB, next hops and FIB."""

from __future__ import annotations

import pytest

from stack.addr import Prefix
from stack.events import (
    AdjacencyKey,
    AdjacencyWanted,
    Delta,
    InterfaceKind,
    InterfaceState,
    Route,
    RouteOffered,
    RouteSelected,
    Via,
)
from stack.routing.engine import MAX_RECURSION, RECURSION, Publish
from stack.tables.fib import Leaf, LeafKind
from tests.stack.routing.rig import (
    CORE,
    MGRE,
    A,
    P,
    Rig,
    address,
    binding,
    interface,
    link,
    neighbour,
    profile,
    route,
    via,
    vrf,
    wanted,
)

REMOTE = A("192.0.2.2")


def core(*items: object) -> Rig:
    return Rig().give(*CORE, *items)  # type: ignore[arg-type]


# --- interfaces -------------------------------------------------------------------------------------------------------


def test_connected_and_local_routes_follow_the_interface() -> None:
    rig = core()
    assert rig.leaf("10.0.12.9") == Leaf(LeafKind.ATTACHED, interface="Ethernet0/0")
    assert rig.leaf("10.0.12.1") == Leaf(LeafKind.RECEIVE, interface="Ethernet0/0")
    assert rig.leaf("192.0.2.1") == Leaf(LeafKind.RECEIVE, interface="Loopback0")
    assert rig.selected() == {"10.0.12.0/24": "connected", "10.0.12.1/32": "local", "192.0.2.1/32": "connected"}
    rig.give(link("Ethernet0/0", up=False, reason="no carrier"))
    assert rig.selected() == {"192.0.2.1/32": "connected"}
    assert rig.leaf("10.0.12.9") is None
    assert rig.tables.interfaces.get("Ethernet0/0").reason == "no carrier"
    rig.take(*CORE)
    assert rig.selected() == {}
    assert len(rig.tables.interfaces) == 0
    assert rig.published[InterfaceState, ""] == {}


def test_no_route_for_what_is_down_or_has_no_carrier_yet() -> None:
    rig = Rig().give(
        interface("Ethernet0/0"),
        address("Ethernet0/0", "10.0.0.1/24"),
        interface("Loopback0", InterfaceKind.LOOPBACK, admin_up=False),
        address("Loopback0", "192.0.2.1/32"),
        interface("Virtual-Template1", InterfaceKind.TEMPLATE),
        link("Virtual-Template1"),
        address("Virtual-Template1", "10.9.0.1/24"),
    )
    assert rig.selected() == {}
    reasons = {i.name: i.reason for i in rig.tables.interfaces}
    assert reasons == {
        "Ethernet0/0": "its carrier is not known yet",
        "Loopback0": "administratively down",
        "Virtual-Template1": "a template carries no packets",
    }


def test_sub_interfaces_follow_their_parent() -> None:
    rig = Rig().give(
        vrf("red"),
        interface("Ethernet0/1"),
        link("Ethernet0/1", mac=b"\2\0\0\0\0\7", mtu=1400),
        interface("Ethernet0/1.10", parent="Ethernet0/1", vlan=10, vrf="red"),
        address("Ethernet0/1.10", "192.168.1.1/24"),
    )
    sub = rig.tables.interfaces.get("Ethernet0/1.10")
    assert (sub.up, sub.mtu, sub.mac) == (True, 1400, b"\2\0\0\0\0\7")
    assert rig.leaf("192.168.1.7", "red") == Leaf(LeafKind.ATTACHED, interface="Ethernet0/1.10")
    rig.give(interface("Ethernet0/1", admin_up=False))
    assert rig.tables.interfaces.get("Ethernet0/1.10").reason == "Ethernet0/1 is down: administratively down"
    assert rig.leaf("192.168.1.7", "red") is None


def test_unnumbered_borrows_addresses_and_derives_no_route_from_them() -> None:
    rig = core(interface("Tunnel9", InterfaceKind.TUNNEL, unnumbered="Loopback0", point_to_point=True), link("Tunnel9"))
    assert rig.tables.interfaces.get("Tunnel9").addresses[A("192.0.2.1")].origin == "unnumbered"
    assert rig.leaf("192.0.2.1") == Leaf(LeafKind.RECEIVE, interface="Loopback0")
    rig.give(address("Loopback0", "192.0.2.77/32"))
    assert A("192.0.2.77") in rig.tables.interfaces.get("Tunnel9").addresses


def test_an_interface_that_changes_vrf_takes_its_routes_with_it() -> None:
    rig = core(vrf("red"))
    rig.give(interface("Ethernet0/0", vrf="red"))
    assert rig.leaf("10.0.12.9") is None
    assert rig.leaf("10.0.12.9", "red").kind is LeafKind.ATTACHED


def test_the_primary_address_comes_first() -> None:
    rig = core(address("Ethernet0/0", "10.0.0.9/24", secondary=True))
    assert list(rig.tables.interfaces.get("Ethernet0/0").addresses) == [A("10.0.12.1"), A("10.0.0.9")]


def test_a_subnet_of_a_loopback_is_no_attached_network() -> None:
    rig = core(interface("Loopback1", InterfaceKind.LOOPBACK), address("Loopback1", "192.168.9.1/24"))
    assert rig.leaf("192.168.9.1").kind is LeafKind.RECEIVE
    assert rig.leaf("192.168.9.2").kind is LeafKind.DISCARD
    assert rig.selected()["192.168.9.0/24"] == "connected"


def test_rfc4291_2_5_6_link_local_prefixes_are_no_routes() -> None:
    rig = core(address("Ethernet0/0", "fe80::1/64"), route("2001:db8::/32", via("fe80::2", "Ethernet0/0")))
    assert rig.leaf("fe80::1") == Leaf(LeafKind.RECEIVE, interface="Ethernet0/0")
    assert rig.leaf("fe80::2") is None
    assert rig.selected()["fe80::1/128"] == "local"
    rig.give(neighbour("Ethernet0/0", "fe80::2"))
    assert rig.hop("2001:db8::1").adjacency == AdjacencyKey("Ethernet0/0", A("fe80::2"))


# --- candidates -------------------------------------------------------------------------------------------------------


def test_least_distance_wins_then_least_metric_and_only_what_is_usable() -> None:
    far = route("172.16.0.0/12", via("10.0.12.2"), owner="bgp", distance=20)
    near = route("172.16.0.0/12", via("10.0.99.9"), owner="static")
    rig = core(far, near)
    assert rig.selected()["172.16.0.0/12"] == "bgp"  # the static one's next hop leads nowhere
    assert rig.reason("172.16.0.0/12") == "no route to 10.0.99.9"
    rig.give(interface("Ethernet0/9"), link("Ethernet0/9"), address("Ethernet0/9", "10.0.99.1/24"))
    assert rig.reason("172.16.0.0/12") == "no adjacency to 10.0.99.9 on Ethernet0/9"
    rig.give(neighbour("Ethernet0/9", "10.0.99.9"))
    assert rig.selected()["172.16.0.0/12"] == "static"
    rig.take(near)
    assert rig.selected()["172.16.0.0/12"] == "bgp"
    rig.give(route("172.16.0.0/12", via("10.0.12.2"), owner="other", distance=20, metric=1))
    assert [c.owner for c in rig.tables.rib.get("", P("172.16.0.0/12")).candidates] == ["bgp", "other"]
    assert rig.published[RouteSelected, ""][P("172.16.0.0/12")].next_hop == rig.leaf("172.16.0.1").next_hop


def test_the_next_way_of_a_route_when_the_first_is_dead() -> None:
    rig = core(route("172.16.0.0/12", via("10.0.12.2"), via("10.0.12.3")), neighbour("Ethernet0/0", "10.0.12.3"))
    assert rig.hop("172.16.0.1").adjacency == AdjacencyKey("Ethernet0/0", A("10.0.12.2"))
    rig.give(neighbour("Ethernet0/0", "10.0.12.2", usable=False, reason="no ARP answer"))
    assert rig.hop("172.16.0.1").adjacency == AdjacencyKey("Ethernet0/0", A("10.0.12.3"))


def test_null0_discards() -> None:
    rig = core(route("172.16.0.0/12"))
    assert rig.leaf("172.16.0.1") == Leaf(LeafKind.DISCARD)
    assert rig.selected()["172.16.0.0/12"] == "static"
    assert rig.published[RouteSelected, ""][P("172.16.0.0/12")].next_hop == 0


def test_static_out_of_interfaces() -> None:
    rig = core(
        route("172.16.0.0/16", via(interface="Ethernet0/0")),
        route("172.17.0.0/16", via("10.0.12.2", "Ethernet0/0")),
        interface("Tunnel5", InterfaceKind.TUNNEL, point_to_point=True),
        link("Tunnel5"),
        neighbour("Tunnel5"),
        route("172.18.0.0/16", via(interface="Tunnel5")),
        route("172.19.0.0/16", via("10.0.12.1", "Ethernet0/0")),
        route("172.20.0.0/16", via(interface="Loopback0")),
        route("172.21.0.0/16", via(interface="Nowhere0")),
    )
    assert rig.leaf("172.16.0.1") == Leaf(LeafKind.ATTACHED, interface="Ethernet0/0")
    assert rig.hop("172.17.0.1").adjacency == AdjacencyKey("Ethernet0/0", A("10.0.12.2"))
    assert rig.hop("172.18.0.1").adjacency == AdjacencyKey("Tunnel5")
    assert rig.reason("172.19.0.0/16") == "10.0.12.1 is an address of this node"
    assert rig.reason("172.20.0.0/16") == "nobody is behind Loopback0"
    assert rig.reason("172.21.0.0/16") == "there is no interface Nowhere0"


def test_a_connected_prefix_on_a_point_to_point_interface_goes_to_the_far_end() -> None:
    rig = core(
        interface("Tunnel5", InterfaceKind.TUNNEL, point_to_point=True),
        link("Tunnel5"),
        address("Tunnel5", "10.5.0.1/30"),
    )
    assert rig.leaf("10.5.0.2").kind is LeafKind.FORWARD
    assert rig.hop("10.5.0.2").reason == "no adjacency to the far end on Tunnel5"
    rig.give(neighbour("Tunnel5"))
    assert rig.hop("10.5.0.2").adjacency == AdjacencyKey("Tunnel5")
    assert rig.leaf("10.5.0.1").kind is LeafKind.RECEIVE


def test_an_override_replaces_next_hop_and_labels_of_the_winner() -> None:
    base = route("10.50.0.0/16", via("10.0.12.2"), owner="bgp", distance=20)
    nho = route("10.50.0.0/16", via("10.0.12.3"), owner="nhrp", distance=250, override=True)
    rig = core(base, nho)
    assert rig.hop("10.50.0.1").adjacency.address == A("10.0.12.2")  # the override leads nowhere
    rig.give(neighbour("Ethernet0/0", "10.0.12.3"))
    assert rig.hop("10.50.0.1").adjacency.address == A("10.0.12.3")
    entry = rig.tables.rib.get("", P("10.50.0.0/16"))
    assert [c.owner for c in entry.candidates] == ["bgp"]
    assert entry.override.owner == "nhrp"
    assert rig.selected()["10.50.0.0/16"] == "bgp"
    rig.take(base)  # without a winner it is a route of its own
    assert rig.hop("10.50.0.1").adjacency.address == A("10.0.12.3")
    assert rig.selected()["10.50.0.0/16"] == "nhrp"
    rig.take(nho)
    assert rig.leaf("10.50.0.1") is None


# --- next hops --------------------------------------------------------------------------------------------------------


def test_recursion_to_the_end_and_the_metric_on_the_way() -> None:
    rig = core(
        route("192.0.2.9/32", via("10.0.12.2"), metric=7),
        route("172.16.0.0/12", via("192.0.2.9"), owner="bgp", distance=200),
        wanted("192.0.2.9"),
        wanted("203.0.113.1"),
    )
    assert rig.hop("172.16.0.1").adjacency == AdjacencyKey("Ethernet0/0", A("10.0.12.2"))
    answer = rig.answer("192.0.2.9")
    assert (answer.usable, answer.metric, answer.interface) == (True, 7, "Ethernet0/0")
    assert answer.id == rig.leaf("172.16.0.1").next_hop
    assert rig.answer("203.0.113.1").reason == "no route to 203.0.113.1"
    assert "192.0.2.9[IPv4:Default] by 192.0.2.9/32 (static)" in rig.hop("172.16.0.1").path
    rig.take(wanted("203.0.113.1"))
    assert rig.answer("203.0.113.1") is None


def test_neighbours_are_wanted_while_a_route_needs_them() -> None:
    item = route("172.16.0.0/12", via("10.0.12.2"))
    rig = core(item)
    key = AdjacencyKey("Ethernet0/0", A("10.0.12.2"))
    assert rig.published[AdjacencyWanted, ""] == {key: True}
    rig.take(item)
    assert rig.published[AdjacencyWanted, ""] == {}
    assert not any(row.key.address for row in rig.tables.nexthops)


def test_a_less_specific_route_takes_over_and_back() -> None:
    specific = route("192.0.2.9/32", via("10.0.12.2"))
    rig = core(
        specific,
        neighbour("Ethernet0/0", "10.0.12.3"),
        route("0.0.0.0/0", via("10.0.12.3")),
        route("172.16.0.0/12", via("192.0.2.9"), owner="bgp"),
    )
    ends = []
    for step in (rig.give, rig.take, rig.give):
        step(specific)
        ends.append(rig.hop("172.16.0.1").adjacency.address[-1])
    assert ends == [2, 3, 2]


def test_a_vrf_looks_up_in_its_own_table() -> None:
    rig = core(
        vrf("red"),
        route("172.16.0.0/12", via("10.0.12.2", vrf="red"), vrf="red"),
        route("172.17.0.0/16", via("10.0.12.2"), vrf="red"),
    )
    assert rig.leaf("172.16.0.1", "red") is None
    assert rig.reason("172.16.0.0/12", vrf="red") == "no route to 10.0.12.2"
    assert rig.hop("172.17.0.1", "red").adjacency.address == A("10.0.12.2")


def test_own_addresses_are_nobodys_next_hop() -> None:
    rig = core(route("0.0.0.0/0", via("10.0.12.2")), wanted("192.0.2.1"), wanted("10.0.12.1"))
    assert rig.answer("192.0.2.1").reason == "192.0.2.1 is an address of this node"
    assert rig.answer("10.0.12.1").reason == "10.0.12.1 is an address of this node"


def test_a_next_hop_in_null0_is_reachable_and_drops() -> None:
    rig = core(route("198.51.100.1/32"), route("172.16.0.0/12", via("198.51.100.1"), owner="bgp"))
    rig.give(wanted("198.51.100.1"), wanted("198.51.100.1", labelled=True))
    assert rig.leaf("172.16.0.1").kind is LeafKind.DISCARD
    assert rig.answer("198.51.100.1").usable
    assert rig.answer("198.51.100.1", labelled=True).reason == "198.51.100.1/32 leads to Null0, which takes no labels"


def test_look_ups_are_bounded() -> None:
    chain = [route(f"10.77.{n}.0/24", via(f"10.77.{n - 1}.1")) for n in range(1, 250)]
    rig = core(route("10.77.0.0/24", via("10.0.12.2")), *chain)
    usable = [n for n in range(250) if rig.leaf(f"10.77.{n}.1") is not None]
    assert usable == list(range(MAX_RECURSION))
    assert rig.reason("10.77.200.0/24") == f"more than {MAX_RECURSION} look-ups, one after the other"


# --- loops ------------------------------------------------------------------------------------------------------------


def test_a_route_that_resolves_through_itself_is_refused_and_the_next_hop_falls_back() -> None:
    own = route("192.0.2.9/32", via("192.0.2.9"), owner="bgp", distance=200)
    rig = core(own, wanted("192.0.2.9"))
    assert rig.reason("192.0.2.9/32", "bgp") == RECURSION
    assert not rig.answer("192.0.2.9").usable
    assert [log.values["prefix"] for log in rig.logs] == ["192.0.2.9/32"]
    rig.give(route("192.0.2.0/24", via("10.0.12.2")))
    assert rig.answer("192.0.2.9").usable
    assert rig.reason("192.0.2.9/32", "bgp") == RECURSION
    assert rig.logs == []  # told once
    rig.take(own)
    assert rig.answer("192.0.2.9").usable


def test_two_routes_that_resolve_through_each_other_are_both_refused() -> None:
    one = route("10.1.0.0/16", via("10.2.0.1"))
    two = route("10.2.0.0/16", via("10.1.0.1"))
    rig = core(one, two, route("10.0.0.0/8", via("10.0.12.2")), route("172.16.0.0/12", via("10.1.0.9"), owner="bgp"))
    assert rig.reason("10.1.0.0/16") == rig.reason("10.2.0.0/16") == RECURSION
    assert rig.hop("172.16.0.1").adjacency.address == A("10.0.12.2")  # by 10/8
    rig.give(route("10.2.0.0/16", via("10.0.12.2")))
    assert rig.reason("10.1.0.0/16") == ""


def test_T04_a_route_into_a_tunnel_that_would_carry_the_tunnel_is_refused_once() -> None:
    tunnel = (
        interface("Tunnel5", InterfaceKind.TUNNEL, point_to_point=True),
        link("Tunnel5"),
        address("Tunnel5", "10.5.0.1/30"),
        neighbour("Tunnel5", transport="198.51.100.7"),
    )
    rig = core(*tunnel, route("0.0.0.0/0", via("10.0.12.2")), wanted("198.51.100.7"))
    assert rig.answer("198.51.100.7").interface == "Ethernet0/0"
    into = route("198.51.100.0/24", via(interface="Tunnel5"))
    rig.give(into)
    assert rig.reason("198.51.100.0/24") == RECURSION
    assert rig.answer("198.51.100.7").interface == "Ethernet0/0"  # the tunnel stays up by the default route
    assert len(rig.logs) == 1
    rig.give(route("198.51.100.0/24", via("10.5.0.2"), owner="bgp", distance=20))  # the same, learnt over the tunnel
    assert rig.reason("198.51.100.0/24", "bgp") == RECURSION
    assert rig.selected()["10.5.0.0/30"] == "connected"  # not the connected route's fault
    rig.give(route("198.51.100.7/32", via("10.0.12.2")))  # the host route makes the wider one harmless
    assert rig.reason("198.51.100.0/24") == ""


def test_T04_two_tunnels_that_carry_each_other() -> None:
    rig = core(
        *(interface(f"Tunnel{n}", InterfaceKind.TUNNEL, point_to_point=True) for n in (5, 6)),
        *(link(f"Tunnel{n}") for n in (5, 6)),
        neighbour("Tunnel5", transport="198.51.100.5"),
        neighbour("Tunnel6", transport="198.51.100.6"),
        route("198.51.100.5/32", via(interface="Tunnel6")),
        route("198.51.100.6/32", via(interface="Tunnel5")),
    )
    assert rig.reason("198.51.100.5/32") == rig.reason("198.51.100.6/32") == RECURSION


def test_T04_an_endpoint_behind_its_own_mgre_tunnel() -> None:
    rig = core(*MGRE, route("192.0.2.2/32", via("192.0.2.2", encap="core", labels=(16,)), owner="bgp", distance=0))
    assert rig.reason("192.0.2.2/32", "bgp") == RECURSION
    assert rig.reason("192.0.2.2/32") == ""


# --- labelled ---------------------------------------------------------------------------------------------------------


def test_by_profile_to_the_endpoint_in_the_tunnel_encapsulation_vrf() -> None:
    vpn = route("10.2.0.0/16", via("192.0.2.2", encap="core", labels=(16,)), vrf="red", owner="bgp", distance=200)
    rig = core(vrf("red"), vpn)
    assert rig.reason("10.2.0.0/16", "bgp", "red") == "there is no L3VPN profile core"
    rig.give(*MGRE)
    leaf, hop = rig.leaf("10.2.0.1", "red"), rig.hop("10.2.0.1", "red")
    assert leaf[::2] == (LeafKind.FORWARD, (16,))
    assert hop.adjacency == AdjacencyKey("Tunnel0", REMOTE)
    assert hop.labels == ()
    assert rig.leaf("198.51.100.1", "encap") == Leaf(LeafKind.ATTACHED, interface="Tunnel0")
    rig.give(profile("core", usable=False, reason="no transport source"))
    assert rig.reason("10.2.0.0/16", "bgp", "red") == "L3VPN profile core: no transport source"
    rig.take(profile("core"))
    assert rig.tables.fib.get("encap") is None
    assert rig.tables.rib.get("encap", P("0.0.0.0/0")) is None


@pytest.mark.parametrize(
    ("given", "labels", "reason"),
    [
        ((binding("192.0.2.3/32", "10.0.12.2", 17),), (17,), ""),
        ((binding("192.0.2.3/32", "10.0.12.2", 3),), (), ""),
        ((binding("192.0.2.3/32", "10.0.12.2", 0),), (0,), ""),
        ((binding("192.0.2.3/32", "", 19),), (19,), ""),
        ((binding("192.0.2.3/32", "", 19), binding("192.0.2.3/32", "10.0.12.2", 17)), (17,), ""),
        ((binding("192.0.2.3/32", "10.0.12.9", 17),), None, "no label binding for 192.0.2.3 from 10.0.12.2"),
        ((binding("192.0.2.3/32", "10.0.12.2", 17, vrf="red"),), None, "no label binding for 192.0.2.3 from 10.0.12.2"),
        ((), None, "no label binding for 192.0.2.3 from 10.0.12.2"),
    ],
)
def test_an_lsp_ends_on_a_binding(given: tuple[object, ...], labels: tuple[int, ...] | None, reason: str) -> None:
    vpn = route("10.2.0.0/16", via("192.0.2.3", labels=(44,)), vrf="red", owner="bgp", distance=200)
    rig = core(vrf("red"), vpn, route("192.0.2.3/32", via("10.0.12.2")), *given)
    assert rig.reason("10.2.0.0/16", "bgp", "red") == reason
    hop = rig.hop("10.2.0.1", "red")
    assert (hop.labels if hop else None) == labels
    if hop:
        assert hop.adjacency == AdjacencyKey("Ethernet0/0", A("10.0.12.2"))
        assert rig.leaf("10.2.0.1", "red").labels == (44,)


def test_implicit_null_to_a_direct_neighbour_where_the_interface_takes_labels() -> None:
    vpn = route("10.2.0.0/16", via("10.0.12.2", labels=(44,)), vrf="red", owner="bgp", distance=20)
    rig = core(vrf("red"), vpn)
    assert rig.hop("10.2.0.1", "red").labels == ()
    rig.give(interface("Ethernet0/0", mpls=False))
    assert rig.reason("10.2.0.0/16", "bgp", "red") == "Ethernet0/0 takes no labelled packets"
    rig.give(route("172.16.0.0/12", via("10.0.12.2")))
    assert rig.reason("172.16.0.0/12") == ""  # what carries no label does not care


@pytest.mark.parametrize(("prefix", "usable"), [("10.0.0.1/32", True), ("10.0.0.0/8", False)])
def test_a_host_route_out_of_a_tunnel_with_mpls_is_implicit_null(prefix: str, usable: bool) -> None:
    rig = core(
        vrf("red"),
        interface("Tunnel5", InterfaceKind.TUNNEL, point_to_point=True, mpls=True),
        link("Tunnel5"),
        neighbour("Tunnel5"),
        route(prefix, via(interface="Tunnel5")),
        route("10.2.0.0/16", via("10.0.0.1", labels=(19,)), vrf="red", owner="bgp", distance=20),
    )
    assert (rig.leaf("10.2.0.1", "red") is not None) is usable
    if usable:
        assert rig.hop("10.2.0.1", "red").adjacency == AdjacencyKey("Tunnel5")
        assert "label implicit-null" in rig.hop("10.2.0.1", "red").path


def test_a_binding_needs_its_next_hop_to_be_directly_connected() -> None:
    rig = core(
        vrf("red"),
        route("192.0.2.3/32", via("192.0.2.8")),
        route("192.0.2.8/32", via("10.0.12.2")),
        binding("192.0.2.3/32", "192.0.2.8", 17),
        route("10.2.0.0/16", via("192.0.2.3", labels=(44,)), vrf="red", owner="bgp"),
    )
    reason = "no label binding for 192.0.2.3/32: 192.0.2.8 is not directly connected"
    assert rig.reason("10.2.0.0/16", "bgp", "red") == reason


def test_transport_labels_stack_outside_those_of_the_route_they_carry() -> None:
    rig = core(
        vrf("red"),
        route("192.0.2.5/32", via("192.0.2.3", labels=(70,)), owner="bgp", distance=200),  # labelled unicast
        route("192.0.2.3/32", via("10.0.12.2")),
        binding("192.0.2.3/32", "10.0.12.2", 17),
        route("10.2.0.0/16", via("192.0.2.5", labels=(44,)), vrf="red", owner="bgp"),
    )
    assert rig.hop("10.2.0.1", "red").labels == (17, 70)
    assert rig.leaf("10.2.0.1", "red").labels == (44,)


# --- VRFs, ids, scale -------------------------------------------------------------------------------------------------


def test_routes_wait_for_their_vrf_and_leave_with_it() -> None:
    item = route("172.16.0.0/12", via("10.0.12.2"), vrf="red")
    rig = core(item)
    assert rig.leaf("172.16.0.1", "red") is None
    assert rig.selected("red") == {}
    rig.give(vrf("red"))
    assert rig.leaf("172.16.0.1", "red") is not None
    rig.take(vrf("red"))
    assert rig.tables.fib.get("red") is None
    assert "red" not in rig.tables.rib.ribs
    assert rig.selected("red") == {}
    rig.give(vrf("red"))
    assert rig.selected("red") == {"172.16.0.0/12": "static"}


def test_an_empty_vrf_has_an_empty_fib_and_takes_it_along() -> None:
    rig = core(vrf("red"))
    assert len(rig.tables.fib.get("red")) == 0
    rig.take(vrf("red"))
    assert rig.tables.fib.get("red") is None


def test_ids_and_indexes_and_what_is_not_offered_again_after_a_restart() -> None:
    items = (*CORE, *MGRE, vrf("red"), route("10.2.0.0/16", via("192.0.2.2", encap="core", labels=(16,)), vrf="red"))
    gone = (route("172.16.0.0/12", via("10.0.12.2")), vrf("blue"), route("10.3.0.0/16", vrf="blue"))
    rig = Rig().give(*items, *gone)
    ids = {row.key: number for number, row in rig.tables.nexthops.rows.items()}
    indexes = {i.name: i.index for i in rig.tables.interfaces}
    rig.boot()
    assert rig.leaf("10.2.0.1", "red") is not None  # nothing is lost meanwhile
    assert rig.leaf("172.16.0.1") is not None
    rig.give(*reversed(items))
    rig.engine.sweep()
    rig.settle()
    after = {row.key: number for number, row in rig.tables.nexthops.rows.items()}
    assert after == {key: ids[key] for key in after}
    assert {i.name: i.index for i in rig.tables.interfaces} == indexes
    assert rig.leaf("172.16.0.1") is None
    assert rig.tables.rib.get("", P("172.16.0.0/12")) is None
    assert rig.tables.fib.get("blue") is None


def full_table(way: Via, count: int) -> Rig:
    """Routes of VRF red by one next hop, over the core."""
    rig = core(vrf("red"), *MGRE, wanted("192.0.2.2", owner="tunnel"), neighbour("Ethernet0/0", "10.0.12.3"))
    ways = [way._replace(labels=(label,)) for label in range(16, 25)]
    rows = {Prefix(n.to_bytes(4), 32): Route(200, (ways[n % 9],), "bgp") for n in range(1 << 24, (1 << 24) + count)}
    rig.engine.feed(Delta(RouteOffered, "bgp", 1, "red", rows), 0.0)
    rig.settle(limit=1_000_000)
    return rig


def changed_rows(before: dict[int, object], rig: Rig) -> list[int]:
    return [number for number, row in before.items() if rig.tables.nexthops.get(number) != row]


def test_one_next_hops_change_rewrites_one_row_and_none_of_its_100000_routes() -> None:
    rig = full_table(via("192.0.2.2"), 100_000)
    rig.give(binding("192.0.2.2/32", "", 17))
    assert len(rig.published[RouteSelected, "red"]) == 100_000
    number = rig.leaf("1.0.0.7", "red").next_hop
    before, generation = dict(rig.tables.nexthops.rows), rig.tables.fib.get("red").generation
    rig.give(route("192.0.2.2/32", via("10.0.12.3")))  # the core moved
    lsp_and_transport = changed_rows(before, rig)
    assert number in lsp_and_transport
    assert {rig.tables.nexthops.get(n).key.address for n in lsp_and_transport if rig.tables.nexthops.get(n)} == {REMOTE}
    assert rig.tables.nexthops.get(number).adjacency.address == A("10.0.12.3")
    assert rig.tables.fib.get("red").generation == generation
    assert (RouteSelected, "red") not in {(o.topic, o.table) for o in rig.outputs if isinstance(o, Publish)}


def test_an_endpoint_that_goes_rewrites_its_row_and_withdraws_its_routes_once() -> None:
    rig = full_table(via("192.0.2.2", encap="core"), 10_000)
    before = dict(rig.tables.nexthops.rows)
    number = rig.leaf("1.0.0.7", "red").next_hop
    rig.give(neighbour("Tunnel0", "192.0.2.2", usable=False, reason="gone"))
    assert changed_rows(before, rig) == [number]
    assert rig.published[RouteSelected, "red"] == {}
    assert len(rig.tables.fib.get("red")) == 0
    rig.give(neighbour("Tunnel0", "192.0.2.2", transport="192.0.2.2"))
    assert rig.leaf("1.0.0.7", "red").next_hop == number
    assert len(rig.published[RouteSelected, "red"]) == 10_000


def test_a_full_table_is_judged_in_turns() -> None:
    rig = core()
    rows = {P(f"172.16.{n}.0/24"): Route(1, (via("10.0.12.2"),), "static") for n in range(200)}
    rig.engine.feed(Delta(RouteOffered, "static", 1, "", rows), 0.0)
    rig.engine.settle(0.0, limit=50)
    assert rig.engine.pending == 150
    rig.settle(limit=50)
    assert len(rig.tables.fib.get("")) == 203
