"""Tunnels to NBMA addresses, and where addresses go."""

from __future__ import annotations

import pytest

from nhrp.engine.reach import IMPLICIT_NULL, Reach
from nhrp.engine.ways import Addresses, Where
from stack.claims import Slot
from stack.events import (
    AdjacencyKey,
    AdjacencyRow,
    AdjacencyState,
    BindingOffered,
    EndpointOffered,
    InterfaceOffered,
    Route,
    RouteOffered,
    SaKey,
    SaRow,
    SaState,
    SaWanted,
    TunnelState,
)
from tests.nhrp.net import Box, Flex, Mgre, a, flex, mgre, p

B, B_NBMA = a("10.0.0.12"), a("172.16.2.1")


@pytest.fixture
def net() -> Flex:
    return flex()


@pytest.fixture
def many() -> Mgre:
    return mgre()


def hold(box: Box, claimant: int = 1_000, *, build: bool = True, overlay: bytes = B, nbma: bytes = B_NBMA) -> Reach:
    reach = box.speaker.reach
    reach.hold(claimant, "Tunnel0", overlay, nbma, build=build, route=True)
    box.do(box.speaker.node.flush())
    return reach


def flush(box: Box) -> None:
    box.do(box.speaker.node.flush())
    box.settle()


# --- three shapes -----------------------------------------------------------------------------------------------------------


def test_a_multipoint_interface_gets_an_endpoint(many: Mgre) -> None:
    reach = hold(many.a, nbma=a("192.0.2.12"))
    assert many.a.rows[Slot(EndpointOffered, "", ("Tunnel0", B))].transport == a("192.0.2.12")
    assert not reach.state(1_000).usable
    many.world.run(0.1)
    assert reach.state(1_000) == ("Tunnel0", True, "", False)
    assert Slot(RouteOffered, "", p("10.0.0.12/32")) in many.a.rows
    assert Slot(BindingOffered, "", ("", p("10.0.0.12/32"), B)) not in many.a.rows  # it takes no labels
    reach.drop(1_000)
    flush(many.a)
    assert Slot(EndpointOffered, "", ("Tunnel0", B)) not in many.a.rows


def test_an_adjacency_to_another_address_is_not_it(many: Mgre) -> None:
    """The endpoint has moved; the adjacency still leads to where it was."""
    reach = hold(many.a, nbma=a("192.0.2.12"))
    many.world.run(0.1)
    reach.hold(1_000, "Tunnel0", B, a("192.0.2.77"), build=True, route=True)
    assert reach.state(1_000).reason == "the adjacency leads elsewhere"
    key = AdjacencyKey("Tunnel0", B)
    many.a.feed(AdjacencyState, "tunnel", {key: AdjacencyRow(True, 1400, "", a("192.0.2.77"))})
    assert reach.state(1_000).usable


def test_the_point_to_point_interface_whose_far_end_it_is(net: Flex) -> None:
    reach = hold(net.a, overlay=a("10.0.0.1"), nbma=net.hub.nbma)
    assert reach.state(1_000) == ("Tunnel0", True, "", False)
    assert net.a.wanted(SaWanted) == {}
    net.a.feed(AdjacencyState, "tunnel", {AdjacencyKey("Tunnel0"): AdjacencyRow(False, 1400, "no SA", net.hub.nbma)})
    assert reach.state(1_000) == ("Tunnel0", False, "no SA", True)


def test_a_template_makes_an_sa_wanted_until_there_is_an_access_interface(net: Flex) -> None:
    reach = hold(net.a)
    key = SaKey("Virtual-Template1", B_NBMA)
    request = net.a.wanted(SaWanted)[key]
    assert (request.profile, request.local, request.remote) == ("default", a("172.16.1.1"), B_NBMA)
    assert reach.state(1_000).coming
    net.world.run(1)
    assert reach.state(1_000) == ("Virtual-Access1", True, "", False)
    assert net.a.rows[Slot(BindingOffered, "", ("", p("10.0.0.12/32"), B))] == IMPLICIT_NULL


def test_if_the_peer_called_first_its_interface_is_taken(net: Flex) -> None:
    name = net.a.access(B_NBMA)
    reach = hold(net.a)
    net.world.run(0.01)
    assert reach.state(1_000).interface == name
    assert SaKey("Virtual-Template1", B_NBMA) in net.a.wanted(SaWanted)  # so that it stays if the peer lets go


def test_without_a_template_nobody_is_called(net: Flex) -> None:
    reach = hold(net.a, build=False)
    state = reach.state(1_000)
    assert (state.interface, state.usable, state.coming) == ("", False, False)
    name = net.a.access(B_NBMA)
    assert reach.state(1_000).interface == name  # the peer has called


@pytest.mark.parametrize("protection", ["", "default"])
def test_what_is_missing_is_said(net: Flex, protection: str) -> None:
    net.a.make_template("Virtual-Template1", protection=protection)
    if protection:
        net.a.feed(InterfaceOffered, "router", {"Virtual-Template1": None})
    reach = hold(net.a)
    assert ("no tunnel protection" in reach.state(1_000).reason) == (not protection)
    assert net.a.wanted(SaWanted) == {}


def test_no_source_no_call(net: Flex) -> None:
    net.a.feed(TunnelState, "tunnel", {"Tunnel0": None})
    assert hold(net.a).state(1_000).reason == "Tunnel0 has no source"


# --- many claimants ---------------------------------------------------------------------------------------------------------


def test_rows_stand_until_the_last_claimant_lets_go(net: Flex) -> None:
    reach = hold(net.a)
    hold(net.a, 1_001)
    net.world.run(1)
    reach.drop(1_000)
    flush(net.a)
    assert len(net.a.wanted(SaWanted)) == 1
    assert Slot(RouteOffered, "", p("10.0.0.12/32")) in net.a.rows
    reach.drop(1_001)
    flush(net.a)
    assert net.a.rows == {}
    assert len(reach) == 0
    assert reach.leads_to(reach.node.network("Tunnel0"), B) == frozenset()


def test_routes_stand_only_while_it_can_be_sent_by(net: Flex) -> None:
    reach = hold(net.a)
    net.world.run(1)
    key = SaKey("Virtual-Template1", B_NBMA)
    net.a.feed(SaState, "ikev2", {key: SaRow(up=False, reason="deleted")})
    assert reach.state(1_000).reason == "deleted"
    assert Slot(RouteOffered, "", p("10.0.0.12/32")) not in net.a.rows
    assert key in net.a.wanted(SaWanted)  # whoever wants it decides


def test_changes_are_told_once(net: Flex) -> None:
    reach = hold(net.a)
    reach.changed.clear()
    reach.sa_changed(SaKey("Virtual-Template1", a("172.16.9.9")))
    reach.adjacency_changed(AdjacencyKey("Tunnel7"))
    assert reach.changed == {}
    reach.drop(1_000)
    reach.drop(1_000)
    assert reach.changed == {}


# --- ways -------------------------------------------------------------------------------------------------------------------


def test_where_addresses_go(net: Flex) -> None:
    find = net.a.speaker.ways.find
    assert find("A", a("192.168.1.254")).where is Where.OWN
    assert find("", a("10.0.0.11"))[:2] == (Where.OWN, p("10.0.0.11/32"))
    assert find("A", a("192.168.1.9"))[:3] == (Where.OUTSIDE, p("192.168.1.0/24"), "Ethernet0/1")
    assert find("A", a("203.0.113.1")).where is Where.NONE
    assert find("Z", a("203.0.113.1")).where is Where.NONE
    way = find("A", a("192.168.2.7"))
    assert (way.where, way.interface, way.next_hop, way.nbma) == (
        Where.NETWORK,
        "Tunnel0",
        a("10.0.0.1"),
        a("172.16.0.1"),
    )
    assert (way.labels, way.allocator, way.network.number) == ((30,), a("10.0.0.1"), 1)
    net.a.feed(RouteOffered, "static", {p("203.0.113.0/24"): Route(1, (), "static")}, "A")
    assert find("A", a("203.0.113.1")).where is Where.NONE


def test_nhrp_s_own_routes_are_not_seen(net: Flex) -> None:
    before = net.a.speaker.ways.find("A", a("192.168.2.1"))
    net.up()
    assert net.a.speaker.ways.find("A", a("192.168.2.1")) == before


def test_what_is_registered_goes_before_routes(many: Mgre) -> None:
    way = many.hub.speaker.ways.find("", a("10.0.0.11"))
    assert (way.interface, way.next_hop, way.nbma) == ("Tunnel0", a("10.0.0.11"), a("192.0.2.11"))


def test_an_address_of_the_network_that_nobody_registered_here_is_the_server_s_business(many: Mgre) -> None:
    way = many.a.speaker.ways.find("", a("10.0.0.12"))
    assert (way.next_hop, way.nbma) == (a("10.0.0.1"), a("192.0.2.1"))


@pytest.mark.parametrize(
    ("overlay", "nbma", "why"),
    [
        ("10.0.0.11", "172.16.2.1", "an address of ours"),
        ("10.0.0.12", "172.16.1.1", "NBMA address is ours"),
        ("10.0.0.1", "172.16.2.1", "by another NBMA address"),
        ("10.0.0.1", "172.16.0.1", ""),
        ("10.0.0.12", "172.16.2.1", ""),
    ],
)
def test_N05_who_cannot_be_where(net: Flex, overlay: str, nbma: str, why: str) -> None:
    found = net.a.speaker.ways.usurps("Tunnel0", a(overlay), a(nbma))
    assert why in found
    assert bool(found) == bool(why)


def test_N05_who_is_registered_or_assigned_elsewhere(net: Flex, many: Mgre) -> None:
    assert "registered" in many.hub.speaker.ways.usurps("Tunnel0", a("10.0.0.11"), a("192.0.2.12"))
    assert many.hub.speaker.ways.usurps("Tunnel0", a("10.0.0.11"), a("192.0.2.11")) == ""
    assert "IKEv2" in net.hub.speaker.ways.usurps("Virtual-Access2", a("10.0.0.11"), a("172.16.2.1"))
    assert "registered" in many.a.speaker.ways.usurps("Tunnel0", a("10.0.0.1"), a("192.0.2.12"))


def test_addresses_by_prefix() -> None:
    index = Addresses()
    for number in range(256):
        index.add("A", bytes((10, 0, number, 1)), number)
    index.add("B", bytes((10, 0, 0, 1)), 999)
    assert index.under("A", p("10.0.4.0/22")) == [4, 5, 6, 7]
    assert index.under("A", p("10.0.255.1/32")) == [255]
    assert len(index.under("A", p("0.0.0.0/0"))) == 256
    assert index.under("A", p("::/0")) == []
    index.remove("A", bytes((10, 0, 5, 1)), 5)
    index.remove("A", bytes((10, 0, 5, 1)), 5)
    assert index.under("A", p("10.0.4.0/22")) == [4, 6, 7]
