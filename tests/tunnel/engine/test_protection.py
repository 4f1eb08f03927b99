"""Protected tunnels, as the control side sees them: what IKE is told, when a neighbour can be sent to, and how much fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.addr import parse_address
from stack.esp import Cipher, EspForm, EspMode, Integrity
from stack.events import (
    L3VPN_TUNNEL,
    AdjacencyKey,
    AdjacencyState,
    Delta,
    EndpointOffered,
    EndpointRow,
    Interface,
    InterfaceKind,
    InterfaceOffered,
    InterfaceState,
    LinkState,
    NextHopKey,
    NextHopRow,
    NextHopState,
    ProfileState,
    ProtectedRow,
    SaKey,
    SaRequest,
    SaRow,
    SaState,
    SaWanted,
    TunnelProtected,
)
from stack.tables.adjacency import Adjacency
from tests.tunnel.engine.test_engine import PE2, PE3, US, Node, core, interface, loopback, offer, pe
from tunnel.config import L3vpnProfile, TransportProtocol, TunnelConfig, TunnelInterface, TunnelMode
from tunnel.engine.security import WORST_FORM, protected_mtu

A = parse_address
UP = SaRow(up=True, form=EspForm(Cipher.AES_GCM_256), identity="pe2", child=1)
KEY = SaKey("Tunnel7")
FAR = AdjacencyKey("Tunnel7")


def tunnel7(*addresses: str, up: bool = True, **row: Any) -> dict[str, Interface]:
    row = {"protection": "gold", "point_to_point": True, "mpls": True, **row}
    return {"Tunnel7": interface("Tunnel7", InterfaceKind.TUNNEL, *addresses, up=up, **row)}


def point_to_point(mode: TunnelMode = TunnelMode.GRE, **row: Any) -> Node:
    destination = PE2 if mode is TunnelMode.GRE else b""
    one = TunnelInterface("Tunnel7", source="Loopback0", destination=destination, mode=mode)
    node = pe(tunnels={"Tunnel7": one})
    node.tell(InterfaceState, tunnel7("10.77.0.1/30", **row))
    return node


def behind(node: Node, key: AdjacencyKey = FAR) -> Adjacency:
    return node.engine.adjacencies[key]


# --- what IKE is told --------------------------------------------------------------------------------------------------


def test_a_point_to_point_tunnel_is_told_with_its_ends_and_its_sa_wanted() -> None:
    node = point_to_point()
    assert node.rows(TunnelProtected) == {"Tunnel7": ProtectedRow("gold", US, PE2)}
    assert node.rows(SaWanted) == {KEY: SaRequest("gold", US, PE2)}
    assert behind(node).sa == KEY


def test_negotiated_is_told() -> None:
    node = point_to_point(negotiated=True)
    assert node.rows(TunnelProtected)["Tunnel7"].negotiated


@pytest.mark.parametrize(
    ("change", "wanted", "protected"),
    [
        (tunnel7(admin_up=False, up=False), False, True),
        (tunnel7(protection=""), False, False),
        ({"Tunnel7": None}, False, False),
        ({"Loopback0": None}, False, False),
        ({"Loopback0": interface("Loopback0", InterfaceKind.LOOPBACK)}, False, False),
        (tunnel7("10.77.0.9/30"), True, True),
    ],
)
def test_what_ends_protection_is_told(change: dict[str, Any], wanted: bool, protected: bool) -> None:
    node = point_to_point()
    node.tell(InterfaceState, change)
    assert (KEY in node.rows(SaWanted), "Tunnel7" in node.rows(TunnelProtected)) == (wanted, protected)


def test_another_profile_source_or_destination_is_another_request() -> None:
    node = point_to_point()
    node.tell(InterfaceState, tunnel7(protection="silver"))
    assert node.rows(SaWanted)[KEY].profile == "silver"
    node.tell(InterfaceState, {"Loopback0": interface("Loopback0", InterfaceKind.LOOPBACK, "203.0.113.7/32")})
    assert node.rows(SaWanted)[KEY] == SaRequest("silver", A("203.0.113.7"), PE2)
    config = TunnelConfig(tunnels={"Tunnel7": TunnelInterface("Tunnel7", source="Loopback0", destination=PE3)})
    node.engine.reconfigure(config)
    node.settle()
    assert node.rows(SaWanted) == {KEY: SaRequest("silver", A("203.0.113.7"), PE3)}
    assert node.rows(TunnelProtected)["Tunnel7"].remote == PE3


def test_every_endpoint_of_a_multipoint_tunnel_wants_its_own() -> None:
    node = point_to_point(TunnelMode.MGRE, point_to_point=False)
    assert node.rows(TunnelProtected) == {"Tunnel7": ProtectedRow("gold", US)}
    assert node.rows(SaWanted) == {}
    one, two = A("10.77.0.2"), A("10.77.0.3")
    node.tell(EndpointOffered, {("Tunnel7", one): EndpointRow(PE2), ("Tunnel7", two): EndpointRow(PE2)}, "nhrp")
    assert node.rows(SaWanted) == {SaKey("Tunnel7", PE2): SaRequest("gold", US, PE2)}
    assert behind(node, AdjacencyKey("Tunnel7", two)).sa == SaKey("Tunnel7", PE2)
    node.tell(EndpointOffered, {("Tunnel7", two): EndpointRow(PE3)}, "nhrp")
    assert set(node.rows(SaWanted)) == {SaKey("Tunnel7", PE2), SaKey("Tunnel7", PE3)}
    node.tell(EndpointOffered, {("Tunnel7", one): None, ("Tunnel7", two): None}, "nhrp")
    assert node.rows(SaWanted) == {}


def test_an_endpoint_at_our_own_address_wants_nothing() -> None:
    node = point_to_point(TunnelMode.MGRE, point_to_point=False)
    node.tell(EndpointOffered, {("Tunnel7", A("10.77.0.9")): EndpointRow(US)}, "nhrp")
    assert node.rows(SaWanted) == {}


def l3vpn(protection: str = "gold") -> Node:
    node = pe(L3vpnProfile("p", source="Loopback0", key=77, protection=protection))
    row = node.rows(InterfaceOffered)["Tunnel0"]
    node.tell(InterfaceState, {"Tunnel0": Interface(row, 9, True, row.mtu)})
    return node


def test_the_l3vpn_tunnel_is_protected_endpoint_by_endpoint() -> None:
    node = l3vpn()
    assert node.rows(TunnelProtected) == {"Tunnel0": ProtectedRow("gold", US)}
    assert node.rows(ProfileState)["p"].protected
    offer(node, PE2, PE3)
    assert node.rows(SaWanted) == {SaKey("Tunnel0", pe): SaRequest("gold", US, pe) for pe in (PE2, PE3)}
    two, three = (AdjacencyKey("Tunnel0", pe) for pe in (PE2, PE3))
    assert not behind(node, two).complete
    node.tell(SaState, {SaKey("Tunnel0", PE2): UP}, "ikev2")
    assert (behind(node, two).complete, behind(node, three).complete) == (True, False)
    node.tell(EndpointOffered, {(L3VPN_TUNNEL, PE2): None}, "bgp")
    assert set(node.rows(SaWanted)) == {SaKey("Tunnel0", PE3)}


def test_an_unprotected_node_tells_ike_nothing() -> None:
    node = l3vpn("")
    offer(node, PE2)
    assert node.rows(TunnelProtected) == node.rows(SaWanted) == {}
    assert behind(node, AdjacencyKey("Tunnel0", PE2)).sa is None
    assert not node.rows(ProfileState)["p"].protected


def test_mpls_in_ip_with_protection_never_forwards() -> None:
    """Lines and checks refuse it; a model made by hand fails closed too."""
    node = pe(L3vpnProfile("p", source="Loopback0", protocol=TransportProtocol.MPLS_IN_IP, protection="gold"))
    row = node.rows(InterfaceOffered)["Tunnel0"]
    node.tell(InterfaceState, {"Tunnel0": Interface(row, 9, True, row.mtu)})
    offer(node, PE2)
    node.tell(SaState, {SaKey("Tunnel0", PE2): UP}, "ikev2")
    assert not behind(node, AdjacencyKey("Tunnel0", PE2)).complete
    assert "Tunnel0" not in node.engine.receptions


# --- fail closed -------------------------------------------------------------------------------------------------------


def test_E04_without_an_sa_the_neighbour_cannot_be_sent_to() -> None:
    node = point_to_point()
    assert (behind(node).complete, behind(node).reason) == (
        False,
        "no security association: none has been negotiated yet",
    )
    said = node.rows(AdjacencyState)[FAR]
    assert (said.usable, said.reason) == (False, behind(node).reason)
    node.tell(SaState, {KEY: SaRow(up=False, reason="peer does not answer")}, "ikev2")
    assert node.rows(AdjacencyState)[FAR].reason == "no security association: peer does not answer"
    node.tell(SaState, {KEY: UP}, "ikev2")
    assert node.rows(AdjacencyState)[FAR].usable
    assert node.engine.receptions["Tunnel7"].protected
    for gone in ({KEY: SaRow(up=False)}, {KEY: None}):
        node.tell(SaState, {KEY: UP}, "ikev2")
        node.tell(SaState, gone, "ikev2")
        assert not behind(node).complete
        assert node.rows(AdjacencyState)[FAR].reason.startswith("no security association: ")


def test_line_protocol_does_not_follow_the_sa() -> None:
    node = point_to_point()
    assert node.rows(LinkState)["Tunnel7"].up
    node.tell(SaState, {KEY: UP}, "ikev2")
    assert node.rows(LinkState)["Tunnel7"].up


def test_a_negotiated_tunnel_without_its_address_is_up() -> None:
    node = pe(tunnels={"Tunnel7": TunnelInterface("Tunnel7", source="Loopback0", destination=PE2)})
    node.tell(InterfaceState, tunnel7(negotiated=True))
    assert node.rows(LinkState)["Tunnel7"].up


def test_a_rekey_changes_nothing() -> None:
    node = point_to_point()
    node.tell(SaState, {KEY: UP}, "ikev2")
    node.tell(SaState, {KEY: UP._replace(child=2)}, "ikev2")
    assert node.outputs == []


def test_an_sa_of_somebody_else_is_not_ours() -> None:
    node = point_to_point()
    node.tell(SaState, {SaKey("Tunnel7", PE2): UP, SaKey("Tunnel8"): UP, SaKey("Tunnel"): UP}, "ikev2")
    assert not behind(node).complete


def test_protection_that_is_configured_later_closes_at_once() -> None:
    node = point_to_point(protection="")
    assert behind(node).complete
    node.tell(InterfaceState, tunnel7())
    assert not behind(node).complete
    assert node.engine.receptions["Tunnel7"].protected


def test_a_protected_destination_through_the_tunnel_itself_is_refused() -> None:
    node = point_to_point()
    node.tell(SaState, {KEY: UP}, "ikev2")
    node.tell(NextHopState, {NextHopKey("", PE2): NextHopRow(True, "", 0, "Tunnel7", 3)})
    assert node.rows(LinkState)["Tunnel7"].reason.startswith("recursive routing")
    assert not behind(node).complete


def test_a_template_never_forwards() -> None:
    name = "Virtual-Template1"
    config = {name: TunnelInterface(name, source="Loopback0", mode=TunnelMode.MGRE)}
    node = pe(tunnels=config)
    node.tell(InterfaceState, {name: interface(name, InterfaceKind.TEMPLATE, protection="gold")})
    node.tell(EndpointOffered, {(name, A("10.77.0.2")): EndpointRow(PE2)}, "nhrp")
    assert node.rows(TunnelProtected) == node.rows(SaWanted) == {}
    assert name not in node.engine.receptions
    assert not any(key.interface == name for key in node.engine.adjacencies)
    assert name not in node.engine.snapshot().tunnels


# --- how much fits -----------------------------------------------------------------------------------------------------


def sealed(payload: int, form: EspForm) -> int:
    """Octets of the IPv4 packet around a payload (RFC 4303 2): IV, padding to the block with two octets of trailer, ICV."""
    block = max(4, form.cipher.block)
    inside = -(-(payload + 2) // block) * block
    return 20 + (8 if form.udp else 0) + 8 + form.cipher.iv + inside + form.icv


FORMS = st.builds(
    EspForm,
    st.sampled_from(Cipher),
    st.sampled_from([one for one in Integrity if one is not Integrity.NONE]),
    st.sampled_from(EspMode),
    st.booleans(),
)


@given(FORMS, st.integers(576, 9216), st.sampled_from([None, 0, 7]))
def test_T05_the_largest_packet_just_fits_the_transport_mtu(form: EspForm, mtu: int, key: int | None) -> None:
    largest = protected_mtu(mtu, key, SaRow(up=True, form=form))
    around = (4 if key is None else 8) + (20 if form.mode is EspMode.TUNNEL else 0)
    assert sealed(largest + around, form) <= mtu < sealed(largest + 1 + around, form)


@given(st.sampled_from([c for c in Cipher if c.aead]))
def test_without_an_sa_the_worst_form_that_is_offered_by_default_counts(cipher: Cipher) -> None:
    for udp in (False, True):
        known = protected_mtu(1500, None, SaRow(up=True, form=EspForm(cipher, udp=udp)))
        assert protected_mtu(1500, None, None) == protected_mtu(1500, None, SaRow(up=True)) <= known


def test_the_adjacency_has_the_mtu_of_its_sa_and_of_the_way() -> None:
    node = point_to_point()
    unknown = behind(node).mtu
    assert unknown == WORST_FORM.room(1500) - 4
    node.tell(SaState, {KEY: UP}, "ikev2")
    assert behind(node).mtu == 1442
    node.tell(SaState, {KEY: UP._replace(form=EspForm(Cipher.AES_GCM_256, mode=EspMode.TUNNEL))}, "ikev2")
    assert behind(node).mtu == 1422
    node.tell(InterfaceState, {"Ethernet0/0": core(mtu=1400)})
    assert behind(node).mtu == 1322
    assert node.rows(LinkState)["Tunnel7"].mtu == unknown


# --- a node that changes -----------------------------------------------------------------------------------------------


def test_a_restarted_engine_that_is_told_all_at_once_says_the_same() -> None:
    first = point_to_point()
    first.tell(SaState, {KEY: UP}, "ikev2")
    again = Node(first.engine.config)
    again.engine.devices_changed(first.engine.devices.values())
    for topic, rows, owner in (
        (SaState, {KEY: UP}, "ikev2"),
        (NextHopState, {NextHopKey("", PE2): NextHopRow(True, "", 0, "Ethernet0/0", 1)}, "routing"),
        (InterfaceState, {"Loopback0": loopback(), "Ethernet0/0": core(), **tunnel7("10.77.0.1/30")}, "routing"),
    ):
        again.engine.receive(Delta(topic, owner, 1, "", rows), again.now)
    again.settle()
    for topic in (TunnelProtected, SaWanted, AdjacencyState, LinkState):
        assert again.rows(topic) == first.rows(topic)
    assert behind(again) == behind(first)
