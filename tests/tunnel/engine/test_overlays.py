"""What NHRP is told of tunnels, and what its endpoints come to: TunnelState, SAs, adjacencies, clones. Fault row E04."""

from __future__ import annotations

from typing import Any

import pytest

from stack.addr import Prefix, parse_address
from stack.esp import Cipher, EspForm
from stack.events import (
    AccessWanted,
    AddressOffered,
    AddressRow,
    AdjacencyKey,
    AdjacencyRow,
    AdjacencyState,
    EndpointOffered,
    EndpointRow,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    InterfaceState,
    NextHopKey,
    NextHopRow,
    NextHopState,
    NextHopWanted,
    Route,
    RouteOffered,
    SaKey,
    SaRequest,
    SaRow,
    SaState,
    SaWanted,
    TunnelRow,
    TunnelState,
    Via,
)
from tests.tunnel.engine.clones import HUB, OVERLAY, TEMPLATE, Hub, spoke
from tests.tunnel.engine.test_engine import PE2, PE3, US, Node, interface, loopback, pe
from tunnel.config import L3vpnProfile, TunnelConfig, TunnelInterface, TunnelMode

A = parse_address
PE4 = A("203.0.113.4")
SPOKE, OTHER = A("10.77.0.2"), A("10.77.0.3")
MULTI, POINT, ONE = "Tunnel7", "Tunnel8", "Virtual-Access1"
UP = SaRow(up=True, form=EspForm(Cipher.AES_GCM_256))


def nodes(protection: str = "") -> Node:
    """A multipoint tunnel and a point-to-point one; the way to the far ends is known to none yet."""
    made = pe(
        tunnels={
            MULTI: TunnelInterface(MULTI, source="Loopback0", mode=TunnelMode.MGRE),
            POINT: TunnelInterface(POINT, source_address=PE4, destination=PE3, key=9),
        }
    )
    rows = {"protection": protection, "network_id": 1, "mpls": True}
    made.tell(InterfaceState, {
        MULTI: interface(MULTI, InterfaceKind.TUNNEL, "10.77.0.1/24", **rows),
        POINT: interface(POINT, InterfaceKind.TUNNEL, "10.78.0.1/30", point_to_point=True, **rows),
    })  # fmt: skip
    return made


@pytest.mark.parametrize("protection", ["", "gold"])
def test_the_ends_of_every_tunnel_are_told(protection: str) -> None:
    node = nodes(protection)
    told = {MULTI: TunnelRow(US, b"", "", protection), POINT: TunnelRow(PE4, PE3, "", protection)}
    assert node.rows(TunnelState) == told
    node.tell(InterfaceState, {"Loopback0": interface("Loopback0", InterfaceKind.LOOPBACK, "203.0.113.7/32")})
    assert node.rows(TunnelState)[MULTI] == TunnelRow(A("203.0.113.7"), b"", "", protection)
    node.tell(InterfaceState, {"Loopback0": None, POINT: None})
    assert node.rows(TunnelState) == {}, "an own end that is not known is none"


def test_what_is_no_tunnel_and_what_never_forwards_is_not_told() -> None:
    name = "Virtual-Template1"
    node = pe(tunnels={name: TunnelInterface(name, source="Loopback0")})
    node.tell(InterfaceState, {name: interface(name, InterfaceKind.TEMPLATE, network_id=1), "Loopback0": loopback()})
    assert node.rows(TunnelState) == {}


def test_the_mgre_tunnel_of_an_l3vpn_profile_is_told() -> None:
    for protection in ("", "gold"):
        node = pe(L3vpnProfile("p", source="Loopback0", key=77, protection=protection))
        assert node.rows(TunnelState) == {"Tunnel0": TunnelRow(US, b"", "", protection)}


def known(node: Node, *addresses: bytes) -> None:
    node.tell(NextHopState, {NextHopKey("", a): NextHopRow(True, "", 0, "Ethernet0/0", 1) for a in addresses})


def test_an_endpoint_of_nhrp_is_usable_when_there_is_a_way_to_it() -> None:
    """Nobody has to want the adjacency for it: it is made with the endpoint."""
    node, key = nodes(), AdjacencyKey(MULTI, SPOKE)
    node.tell(EndpointOffered, {(MULTI, SPOKE): EndpointRow(PE4)}, "nhrp")
    assert node.rows(NextHopWanted)[NextHopKey("", PE4)]
    assert not node.rows(AdjacencyState)[key].usable
    known(node, PE4)
    assert node.rows(AdjacencyState)[key] == AdjacencyRow(True, 1476, "", PE4)
    node.tell(EndpointOffered, {(MULTI, SPOKE): EndpointRow(PE3)}, "nhrp")
    assert node.rows(AdjacencyState)[key].transport == PE3
    assert node.engine.receptions[MULTI].sources == {PE3}
    node.tell(EndpointOffered, {(MULTI, SPOKE): None}, "nhrp")
    assert key not in node.rows(AdjacencyState)
    assert node.engine.receptions[MULTI].sources == frozenset()


def test_E04_an_endpoint_of_nhrp_on_a_protected_tunnel_wants_its_sa_and_waits_for_it() -> None:
    node, key, sa = nodes("gold"), AdjacencyKey(MULTI, SPOKE), SaKey(MULTI, PE4)
    known(node, PE4, PE2)
    node.tell(EndpointOffered, {(MULTI, SPOKE): EndpointRow(PE4)}, "nhrp")
    assert node.rows(SaWanted)[sa] == SaRequest("gold", US, PE4)
    assert not node.rows(AdjacencyState)[key].usable
    node.tell(SaState, {sa: UP}, "ikev2")
    assert node.rows(AdjacencyState)[key].usable
    # The spoke moves: what was wanted for the old place is wanted no more, and nothing goes before the new one is there.
    node.tell(EndpointOffered, {(MULTI, SPOKE): EndpointRow(PE2)}, "ikev2")
    assert {key for key in node.rows(SaWanted) if key.interface == MULTI} == {SaKey(MULTI, PE2)}
    assert not node.rows(AdjacencyState)[key].usable
    node.tell(SaState, {SaKey(MULTI, PE2): UP}, "ikev2")
    assert node.rows(AdjacencyState)[key] == AdjacencyRow(True, 1442, "", PE2)


def test_two_clients_of_one_endpoint_hold_it_together() -> None:
    node, key = nodes(), AdjacencyKey(MULTI, SPOKE)
    known(node, PE4)
    for owner in ("ikev2", "nhrp"):
        node.tell(EndpointOffered, {(MULTI, SPOKE): EndpointRow(PE4)}, owner)
    for owner, there in (("ikev2", True), ("nhrp", False)):
        node.tell(EndpointOffered, {(MULTI, SPOKE): None}, owner)
        assert (key in node.rows(AdjacencyState)) == there


# --- clones -----------------------------------------------------------------------------------------------------------------


def hub(**template: Any) -> Hub:
    made = Hub(TunnelConfig(tunnels={
        TEMPLATE: TunnelInterface(TEMPLATE, mode=template.pop("mode", TunnelMode.GRE)),
        "Tunnel0": TunnelInterface("Tunnel0", source="Ethernet0/0", destination=spoke(9)),
    }))  # fmt: skip
    made.boot()
    row = {"unnumbered": "Tunnel0", "mpls": True, "mss": 1300, "network_id": 7, "redirect": True, **template}
    made.say("router", InterfaceOffered, {
        TEMPLATE: InterfaceRow(TEMPLATE, InterfaceKind.TEMPLATE, point_to_point=True, protection="default", **row),
        "Tunnel0": InterfaceRow("Tunnel0", InterfaceKind.TUNNEL, point_to_point=True, negotiated=True, network_id=7),
    })  # fmt: skip
    made.run()
    return made


def test_a_clone_is_of_its_templates_nhrp_network() -> None:
    one = hub()
    assert one.rows(TunnelState) == {"Tunnel0": TunnelRow(HUB, spoke(9))}
    one.up(1)
    row = one.rows(InterfaceState, "routing")[ONE].row
    assert (row.network_id, row.redirect, row.mpls, row.mss, row.unnumbered) == (7, True, True, 1300, "Tunnel0")
    assert one.rows(TunnelState)[ONE] == TunnelRow(HUB, spoke(1), "", "default")
    one.down(1)
    assert ONE not in one.rows(TunnelState)


def test_a_clone_borrows_the_address_that_its_lender_negotiates() -> None:
    """`ip unnumbered Tunnel0` on the template: the overlay address that IKE assigned to Tunnel0 is the clone's own."""
    one = hub()
    one.up(1)
    assert one.rows(InterfaceState, "routing")[ONE].addresses == {}
    for address in (A("10.0.0.11"), A("10.0.0.12")):
        one.say("ikev2", AddressOffered, {("Tunnel0", address): AddressRow(32, origin="negotiated")})
        one.run()
        assert one.rows(InterfaceState, "routing")[ONE].addresses == {address: AddressRow(32, origin="unnumbered")}
        one.say("ikev2", AddressOffered, {("Tunnel0", address): None})
        one.run()
        assert one.rows(InterfaceState, "routing")[ONE].addresses == {}


def test_a_shortcut_over_a_clone_leaves_by_it() -> None:
    """A host route to the far spoke's overlay address by the clone, and a labelled route by that: what NHRP offers."""
    one = hub(unnumbered="Loopback0")
    one.up(1)
    far = A("10.0.0.12")
    one.say("nhrp", RouteOffered, {Prefix.host(far): Route(250, (Via(far, ONE),), "nhrp")})
    one.run()
    (row,) = [row for row in one.tables.nexthops if row.key.interface == ONE and row.key.address == far]
    assert row.adjacency == AdjacencyKey(ONE)
    assert one.rows(InterfaceState, "routing")[ONE].addresses == {OVERLAY: AddressRow(32, origin="unnumbered")}


def test_a_clone_of_a_multipoint_template_has_many_far_ends_and_one_sa() -> None:
    """NHRP names the far end with each packet; the SA of the clone carries it all the same."""
    one = hub(mode=TunnelMode.MGRE)
    one.up(1)
    assert one.rows(TunnelState)[ONE] == TunnelRow(HUB, b"", "", "default")
    one.say("nhrp", EndpointOffered, {(ONE, A("10.0.0.12")): EndpointRow(spoke(1))})
    one.run()
    adjacency = one.tables.adjacencies.get(AdjacencyKey(ONE, A("10.0.0.12")))
    assert adjacency is not None
    assert (adjacency.complete, adjacency.sa, adjacency.destination) == (True, SaKey(ONE), spoke(1))
    one.say("ikev2", AccessWanted, {ONE: None})
    one.run()
    assert ONE not in one.rows(TunnelState)
