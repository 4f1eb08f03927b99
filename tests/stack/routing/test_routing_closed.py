"""E04: what belongs into a protected tunnel that cannot be sent to goes nowhere: not by a less specific route, in clear."""

from __future__ import annotations

import pytest

from stack.addr import Prefix
from stack.events import AdjacencyKey, InterfaceKind, NextHopKey, NextHopState, RouteSelected
from stack.tables.fib import LeafKind
from stack.tables.rib import Candidate, Entry
from tests.stack.routing.rig import (
    CORE,
    MGRE,
    A,
    Item,
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

P = Prefix.parse
WHY = "no security association: peer is silent"
DEFAULT = route("0.0.0.0/0", via("10.0.12.2"))


def tunnel(name: str = "Tunnel5", *, protection: str = "gold", usable: bool = False) -> tuple[Item, ...]:
    return (
        interface(name, InterfaceKind.TUNNEL, point_to_point=True, mpls=True, protection=protection),
        link(name),
        neighbour(name, usable=usable, reason="" if usable else WHY, transport="198.51.100.7"),
    )


def leads(rig: Rig, text: str) -> tuple[LeafKind, AdjacencyKey | None, str]:
    """What happens to a packet: kind of leaf, neighbour, and why it is dropped."""
    leaf = rig.tables.fib.fibs[""].lookup(A(text))
    assert leaf is not None
    hop = rig.tables.nexthops.get(leaf.next_hop)
    return leaf.kind, hop.adjacency if hop else None, hop.reason if hop else ""


@pytest.mark.parametrize("usable", [True, False])
def test_E04_a_host_route_into_the_tunnel_stands(usable: bool) -> None:
    rig = Rig().give(*CORE, DEFAULT, *tunnel(usable=usable), route("10.9.9.9/32", via(interface="Tunnel5")))
    assert leads(rig, "10.9.9.9") == (LeafKind.FORWARD, AdjacencyKey("Tunnel5"), "" if usable else WHY)
    assert P("10.9.9.9/32") in rig.published[RouteSelected, ""]


def test_an_unprotected_tunnel_falls_back_as_ever() -> None:
    rig = Rig().give(*CORE, DEFAULT, *tunnel(protection=""), route("10.9.9.9/32", via(interface="Tunnel5")))
    assert leads(rig, "10.9.9.9")[1] == AdjacencyKey("Ethernet0/0", A("10.0.12.2"))
    assert P("10.9.9.9/32") not in rig.published[RouteSelected, ""]


def test_E04_recursive_routes_and_asked_next_hops_are_closed_too() -> None:
    rig = Rig().give(
        *CORE,
        DEFAULT,
        *tunnel(),
        route("10.9.9.9/32", via(interface="Tunnel5")),
        route("172.20.0.0/16", via("10.9.9.9")),
        wanted("10.9.9.9"),
        wanted("10.9.9.9", owner="vpn", labelled=True),
    )
    assert leads(rig, "172.20.1.1") == (LeafKind.FORWARD, AdjacencyKey("Tunnel5"), WHY)
    for labelled in (False, True):
        answer = rig.published[NextHopState, ""][NextHopKey("", A("10.9.9.9"), labelled=labelled)]
        assert (answer.usable, answer.reason, answer.interface) == (False, WHY, "Tunnel5")


def test_E04_the_subnet_of_the_tunnel_is_not_left_by_the_default_route() -> None:
    rig = Rig().give(*CORE, DEFAULT, *tunnel(), address("Tunnel5", "10.5.0.1/30"), wanted("10.5.0.2"))
    assert leads(rig, "10.5.0.2") == (LeafKind.FORWARD, AdjacencyKey("Tunnel5"), WHY)
    assert not rig.published[NextHopState, ""][NextHopKey("", A("10.5.0.2"))].usable


@pytest.mark.parametrize("others", [("Tunnel6",), ("Ethernet0/0",)])
def test_another_route_for_the_same_prefix_takes_over_and_gives_back(others: tuple[str, ...]) -> None:
    way = via(interface="Tunnel6") if others == ("Tunnel6",) else via("10.0.12.2")
    rig = Rig().give(
        *CORE,
        *tunnel(),
        *tunnel("Tunnel6", usable=True),
        route("172.20.0.0/16", via(interface="Tunnel5")),
        route("172.20.0.0/16", way, owner="static 9", distance=9),
    )
    assert rig.published[RouteSelected, ""][P("172.20.0.0/16")].owner == "static 9"
    rig.give(*tunnel(usable=True))
    assert rig.published[RouteSelected, ""][P("172.20.0.0/16")].owner == "static"


def test_of_two_ways_the_open_one_is_taken() -> None:
    ways = (via(interface="Tunnel5"), via(interface="Tunnel6"))
    rig = Rig().give(*CORE, *tunnel(), *tunnel("Tunnel6", usable=True), route("172.20.0.0/16", *ways))
    assert leads(rig, "172.20.1.1") == (LeafKind.FORWARD, AdjacencyKey("Tunnel6"), "")


def test_a_closed_override_does_not_override() -> None:
    rig = Rig().give(
        *CORE,
        *tunnel(),
        *tunnel("Tunnel6", usable=True),
        route("172.20.0.0/16", via(interface="Tunnel6")),
        route("172.20.0.0/16", via(interface="Tunnel5"), owner="nhrp", distance=250, override=True),
    )
    assert leads(rig, "172.20.1.1")[1] == AdjacencyKey("Tunnel6")


def test_T04_a_closed_tunnel_is_no_reason_not_to_find_its_own_far_end() -> None:
    """A route would carry its outer packets into itself: that one is refused, and the default route carries IKE's packets, so
    that the tunnel can ever open."""
    rig = Rig().give(
        *CORE, DEFAULT, *tunnel(), route("198.51.100.0/24", via(interface="Tunnel5")), wanted("198.51.100.7")
    )
    answer = rig.published[NextHopState, ""][NextHopKey("", A("198.51.100.7"))]
    assert (answer.usable, answer.interface) == (True, "Ethernet0/0")


DOWN = "Tunnel5 is down: tunnel destination unreachable: no route"


def down(*, protection: str = "gold", multipoint: bool = False) -> tuple[Item, ...]:
    """What took its SA away took the way to its far end away, too."""
    return (
        interface("Tunnel5", InterfaceKind.TUNNEL, point_to_point=not multipoint, mpls=True, protection=protection),
        link("Tunnel5", up=False, reason="tunnel destination unreachable: no route"),
        neighbour("Tunnel5", usable=False, reason="endpoint unreachable: no route", transport="198.51.100.7"),
    )


@pytest.mark.parametrize("multipoint", [False, True])
def test_E04_a_protected_tunnel_that_is_down_keeps_what_belongs_into_it(multipoint: bool) -> None:
    rig = Rig().give(
        *CORE,
        DEFAULT,
        *down(multipoint=multipoint),
        address("Tunnel5", "10.5.0.1/24"),
        route("10.9.9.0/24", via(interface="Tunnel5")),
        route("172.20.0.0/16", via("10.5.0.2"), owner="bgp", distance=200),
        wanted("10.5.0.2"),
    )
    for text in ("10.9.9.9", "172.20.1.1"):
        kind, adjacency, reason = leads(rig, text)
        assert (kind, adjacency and adjacency.interface, reason) == (LeafKind.FORWARD, "Tunnel5", DOWN)
    leaf = rig.tables.fib.fibs[""].lookup(A("10.5.0.2"))
    assert leaf is not None
    assert leaf.kind is (LeafKind.ATTACHED if multipoint else LeafKind.FORWARD)
    answer = rig.published[NextHopState, ""][NextHopKey("", A("10.5.0.2"))]
    assert (answer.usable, answer.closed, answer.reason) == (False, True, DOWN)
    shut = interface("Tunnel5", InterfaceKind.TUNNEL, point_to_point=not multipoint, protection="gold", admin_up=False)
    rig.give(shut)
    for text in ("10.9.9.9", "172.20.1.1", "10.5.0.2"):
        assert leads(rig, text)[1] == AdjacencyKey("Ethernet0/0", A("10.0.12.2")), "who shuts it wants another way"


def test_an_unprotected_tunnel_that_is_down_gives_its_routes_up() -> None:
    rig = Rig().give(
        *CORE, DEFAULT, *down(protection=""), address("Tunnel5", "10.5.0.1/24"), route("10.9.9.0/24", via("10.5.0.2"))
    )
    for text in ("10.9.9.9", "10.5.0.2"):
        assert leads(rig, text)[1] == AdjacencyKey("Ethernet0/0", A("10.0.12.2"))


def test_T04_a_tunnel_that_is_down_is_no_reason_not_to_find_its_own_far_end() -> None:
    rig = Rig().give(
        *CORE, DEFAULT, *down(), route("198.51.100.0/24", via(interface="Tunnel5")), wanted("198.51.100.7")
    )
    answer = rig.published[NextHopState, ""][NextHopKey("", A("198.51.100.7"))]
    assert (answer.usable, answer.interface) == (True, "Ethernet0/0")


def test_E04_a_route_that_is_refused_since_it_leads_into_itself_is_no_way_out_in_clear() -> None:
    """It would carry the tunnel's own packets into the tunnel; these go by the default route, and nothing else does."""
    rig = Rig().give(*CORE, DEFAULT, *tunnel(), route("198.51.100.0/24", via(interface="Tunnel5")))
    leaf = rig.leaf("198.51.100.9")
    assert leaf.kind is LeafKind.DISCARD
    assert rig.reason("198.51.100.0/24") == "routing recursion"
    for protection in ("", "gold"):
        rig.give(*tunnel(protection=protection))
        expected = LeafKind.DISCARD if protection else LeafKind.FORWARD
        assert rig.leaf("198.51.100.9").kind is expected


def test_E04_a_default_route_that_the_host_has_of_its_own_takes_nothing_over() -> None:
    """As of DHCP's: nobody configured it for that. One that is configured, with a distance, does."""
    kernel = route("0.0.0.0/0", via("10.0.12.2"), owner="tunnel", distance=254)
    kernel = (*kernel[:4], kernel[4]._replace(kind="kernel"))
    far = route("198.51.100.7/32", via("10.0.12.2"))
    default = route("0.0.0.0/0", via(interface="Tunnel5"))
    rig = Rig().give(*CORE, kernel, far, default, *tunnel(), wanted("203.0.113.9"), wanted("198.51.100.7"))
    assert leads(rig, "203.0.113.9") == (LeafKind.FORWARD, AdjacencyKey("Tunnel5"), WHY)
    assert rig.answer("203.0.113.9").closed
    assert rig.answer("198.51.100.7").usable
    rig.take(far)
    assert rig.answer("198.51.100.7").usable, "its own packets go by what the host has"
    assert rig.leaf("203.0.113.9").kind is LeafKind.DISCARD
    rig.give(
        far,
        route("0.0.0.0/0", via("10.0.12.3"), owner="static 250", distance=250),
        neighbour("Ethernet0/0", "10.0.12.3"),
    )
    assert leads(rig, "203.0.113.9")[1] == AdjacencyKey("Ethernet0/0", A("10.0.12.3"))


def test_E04_a_neighbour_is_closed_or_not_as_its_tunnel_is_protected_now() -> None:
    """An L3VPN profile gets and loses its protection while nobody can be sent to."""
    rig = Rig().give(
        *CORE,
        *MGRE,
        vrf("red"),
        neighbour("Tunnel0", "192.0.2.2", usable=False, reason=WHY, transport="192.0.2.2"),
        route("10.50.0.0/16", via("192.0.2.2", encap="core", labels=(16,)), vrf="red", owner="bgp", distance=200),
        wanted("192.0.2.2", encap="core", labelled=True),
    )
    key = NextHopKey("", A("192.0.2.2"), "", "core", labelled=True)
    for protection in ("", "gold", "", "gold"):
        rig.give(interface("Tunnel0", InterfaceKind.TUNNEL, internal=True, vrf="encap", protection=protection))
        assert (rig.leaf("10.50.0.1", "red") is not None) == bool(protection)
        assert rig.published[NextHopState, ""][key].closed == bool(protection)
    rig.give(profile("core", usable=False, reason="interface Loopback0 is down"))
    assert rig.hop("10.50.0.1", "red").reason == "L3VPN profile core: interface Loopback0 is down"


def test_implicit_null_that_names_nobody_is_the_next_hops_own() -> None:
    rig = Rig().give(*CORE, DEFAULT, binding("10.9.9.9/32", "", 3), wanted("10.9.9.9", labelled=True))
    key = NextHopKey("", A("10.9.9.9"), labelled=True)
    assert not rig.published[NextHopState, ""][key].usable
    rig.give(*tunnel(usable=True), route("10.9.9.9/32", via(interface="Tunnel5")))
    assert rig.published[NextHopState, ""][key].usable
    rig.take(*tunnel(usable=True))
    assert not rig.published[NextHopState, ""][key].usable
    # A real label that names nobody is a label whoever gave it.
    rig.give(binding("10.9.9.9/32", "", 700))
    assert rig.published[NextHopState, ""][key].usable


def test_readers_of_the_rib_see_the_open_candidate_first() -> None:
    _, _, _, _, some = route("172.20.0.0/16", via(interface="Tunnel5"))
    closed = Candidate("static", some, 3, True, WHY, 0.0)
    opened = Candidate("bgp", some, 4, True, "", 0.0)
    assert Entry((closed, opened)).best() is opened
    assert Entry((closed,)).best() is closed
    assert Entry((closed, opened)).best(frozenset({"bgp"})) is closed


# --- interfaces by the thousand ----------------------------------------------------------------------------------------


def test_followers_of_an_interface_follow_it_wherever_they_go() -> None:
    lent = (interface("Loopback0", InterfaceKind.LOOPBACK), address("Loopback0", "10.0.0.1/32"))
    other = (interface("Loopback1", InterfaceKind.LOOPBACK), address("Loopback1", "10.0.0.2/32"))
    clone = interface("Virtual-Access1", InterfaceKind.TUNNEL, unnumbered="Loopback0", parent="Virtual-Template1")
    rig = Rig().give(*lent, *other, clone, link("Virtual-Access1"))
    made = rig.tables.interfaces.rows
    assert set(made["Virtual-Access1"].addresses) == {A("10.0.0.1")}
    rig.give(interface("Virtual-Access1", InterfaceKind.TUNNEL, unnumbered="Loopback1"))
    assert set(made["Virtual-Access1"].addresses) == {A("10.0.0.2")}
    rig.give(address("Loopback1", "10.0.0.3/32"))
    assert set(made["Virtual-Access1"].addresses) == {A("10.0.0.2"), A("10.0.0.3")}
    written = rig.tables.interfaces.generation
    rig.give(address("Loopback0", "10.0.0.9/32"))
    assert rig.tables.interfaces.changed_since(written) == {"Loopback0"}
    rig.take(interface("Virtual-Access1", InterfaceKind.TUNNEL, unnumbered="Loopback1"))
    assert "Virtual-Access1" not in made
    assert rig.engine.interfaces._followers == {}


def test_interfaces_that_come_and_go_have_indexes_of_their_own() -> None:
    rig = Rig()
    names = [f"Virtual-Access{n}" for n in range(1, 30)]
    rig.give(*(interface(name, InterfaceKind.TUNNEL) for name in names))
    rig.take(interface(names[-1], InterfaceKind.TUNNEL))
    rig.give(interface("Tunnel1", InterfaceKind.TUNNEL))
    indexes = [one.index for one in rig.tables.interfaces]
    assert len(set(indexes)) == len(indexes)
    rig.boot()
    rig.give(*(interface(name, InterfaceKind.TUNNEL) for name in [*names, "Tunnel1"]))
    indexes = [one.index for one in rig.tables.interfaces]
    assert len(set(indexes)) == len(indexes)


# --- NHRP networks ------------------------------------------------------------------------------------------------------

OVERLAY = (
    interface("Tunnel7", InterfaceKind.TUNNEL, network_id=1),
    link("Tunnel7"),
    address("Tunnel7", "10.7.0.1/24"),
)
HELD = "no adjacency to 10.7.0.2 on Tunnel7"


def test_a_spoke_that_is_not_registered_is_nowhere() -> None:
    """Its prefixes do not follow the hub's default route to the internet."""
    rig = Rig().give(*CORE, DEFAULT, *OVERLAY, route("172.20.0.0/16", via("10.7.0.2")), wanted("10.7.0.2"))
    there = AdjacencyKey("Tunnel7", A("10.7.0.2"))
    assert leads(rig, "172.20.1.1") == (LeafKind.FORWARD, there, HELD)
    assert not rig.published[NextHopState, ""][NextHopKey("", A("10.7.0.2"))].usable
    rig.give(neighbour("Tunnel7", "10.7.0.2", transport="198.51.100.7"))
    assert leads(rig, "172.20.1.1") == (LeafKind.FORWARD, there, "")
    rig.take(neighbour("Tunnel7", "10.7.0.2", transport="198.51.100.7"))
    assert leads(rig, "172.20.1.1") == (LeafKind.FORWARD, there, HELD)
    # An interface that is shut down has no neighbours, and no subnet.
    rig.give(interface("Tunnel7", InterfaceKind.TUNNEL, network_id=1, admin_up=False))
    assert leads(rig, "172.20.1.1")[1] == AdjacencyKey("Ethernet0/0", A("10.0.12.2"))


def test_a_second_route_for_its_prefix_takes_over() -> None:
    more = route("172.20.0.0/16", via("10.0.12.2"), owner="static 9", distance=9)
    rig = Rig().give(*CORE, *OVERLAY, route("172.20.0.0/16", via("10.7.0.2")), more)
    assert rig.published[RouteSelected, ""][P("172.20.0.0/16")].owner == "static 9"


def test_a_shortcut_there_gives_way_to_the_route_by_the_hub() -> None:
    """A shortcut whose neighbour has gone holds nothing: an H route and an NHO."""
    hub = neighbour("Tunnel7", "10.7.0.9", transport="198.51.100.9")
    for prefix in ("172.20.0.0/16", "172.20.1.0/24"):
        rig = Rig().give(
            *CORE,
            *OVERLAY,
            hub,
            route("172.20.0.0/16", via("10.7.0.9")),
            route(prefix, via("10.7.0.2", "Tunnel7"), owner="nhrp", distance=250, override=True),
        )
        assert leads(rig, "172.20.1.1") == (LeafKind.FORWARD, AdjacencyKey("Tunnel7", A("10.7.0.9")), "")
        rig.give(neighbour("Tunnel7", "10.7.0.2", transport="198.51.100.7"))
        assert leads(rig, "172.20.1.1") == (LeafKind.FORWARD, AdjacencyKey("Tunnel7", A("10.7.0.2")), "")
