"""What an L3VPN profile comes to, as a table; and properties that hold whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.addr import parse_address as a
from stack.events import AddressRow, Interface, InterfaceKind, InterfaceRow, SourceRow
from tunnel.config import L3vpnProfile, TransportProtocol, TunnelConfig
from tunnel.engine.profile import ENCAP_VRF, gre_overhead, primary_v4, provision

UPDATE, NEXT_HOP = SourceRow("update-source"), SourceRow("bgp next-hop")


def loopback(number: int, *addresses: str, up: bool = True, vrf: str = "", secondary: int = 0) -> Interface:
    row = InterfaceRow(f"Loopback{number}", InterfaceKind.LOOPBACK, vrf)
    owned = {a(text): AddressRow(32, secondary=index < secondary) for index, text in enumerate(addresses)}
    return Interface(row, number, up, 1500, addresses=owned)


INTERFACES = {
    row.name: row
    for row in (loopback(0, "203.0.113.1"), loopback(1, "203.0.113.2"), loopback(2, "203.0.113.3", "203.0.113.4", secondary=1))
}  # fmt: skip


def one(profile: L3vpnProfile, sources: Mapping[str, SourceRow] | None = None, vrfs: tuple[str, ...] = ()):
    return provision(TunnelConfig({profile.name: profile}), INTERFACES, sources or {}, vrfs, ())[profile.name]


@pytest.mark.parametrize(
    ("key", "protocol", "octets"),
    [(None, TransportProtocol.GRE, 24), (7, TransportProtocol.GRE, 28), (None, TransportProtocol.MPLS_IN_IP, 20)],
)
def test_rfc4023_5_1_octets_around_a_labelled_packet(key: int | None, protocol: TransportProtocol, octets: int) -> None:
    assert gre_overhead(key, protocol) == octets
    (tunnel, _) = one(L3vpnProfile("p", "Loopback0", protocol, key)).interfaces
    assert tunnel.mtu == 1500 - octets


@pytest.mark.parametrize(
    ("source", "sources", "text"),
    [
        ("Loopback0", {}, ""),
        ("Loopback0", {"Loopback0": UPDATE}, ""),
        ("Loopback0", {"Loopback1": UPDATE}, "BGP advertises Loopback1 as next hop"),
        ("Loopback0", {"Loopback0": UPDATE, "Loopback1": UPDATE}, ""),  # one of several sessions uses it
        ("Loopback0", {"Loopback0": UPDATE, "Loopback1": NEXT_HOP}, "BGP advertises Loopback1 as next hop"),
        ("Loopback1", {"Loopback0": UPDATE, "Loopback1": NEXT_HOP}, ""),
    ],
)
def test_the_transport_source_must_be_what_bgp_advertises(
    source: str, sources: Mapping[str, SourceRow], text: str
) -> None:
    found = one(L3vpnProfile("p", source), sources)
    assert found.row.usable
    assert found.health[-1].fault == text
    assert found.health[-1].subject == f"Tunnel Transport Source {source}"


def test_the_automatic_source() -> None:
    found = one(L3vpnProfile("p"), {"Loopback1": UPDATE, "Loopback0": UPDATE})
    assert (found.automatic, found.row.source_interface, found.row.source) == (True, "Loopback0", a("203.0.113.1"))
    assert found.health[-1].subject == "Tunnel Transport Source (Auto) Loopback0"
    nothing = one(L3vpnProfile("p"))
    assert nothing.health[-1].subject == "Tunnel Transport Source (Auto) none"
    assert not nothing.row.usable


def test_a_secondary_address_is_no_source() -> None:
    assert primary_v4(INTERFACES["Loopback2"]) == a("203.0.113.4")
    assert one(L3vpnProfile("p", "Loopback2")).row.source == a("203.0.113.4")


def test_the_mdt_loopback_must_be_another() -> None:
    found = one(L3vpnProfile("p", "Loopback0", mdt_loopback="Loopback0"))
    assert "MDT loopback" in found.health[-1].fault
    assert not one(L3vpnProfile("p", "Loopback0", mdt_loopback="Loopback1")).health[-1].fault


def test_the_encapsulation_vrf_gives_way_to_a_configured_one() -> None:
    assert one(L3vpnProfile("p", "Loopback0")).row.vrf == ENCAP_VRF
    assert one(L3vpnProfile("p", "Loopback0"), vrfs=(ENCAP_VRF, ENCAP_VRF + "_")).row.vrf == ENCAP_VRF + "__"


NAMES = st.sampled_from([f"Tunnel{number}" for number in range(6)] + ["Loopback0", "Ethernet0/0"])


@given(configured=st.sets(NAMES), names=st.lists(st.text("abc ", min_size=1, max_size=4), min_size=1, unique=True))
def test_one_tunnel_and_its_dummy_under_free_names(configured: set[str], names: list[str]) -> None:
    profiles = {name: L3vpnProfile(name, "Loopback0") for name in names}
    found = provision(TunnelConfig(profiles), INTERFACES, {}, (), configured)
    assert list(found) == names
    first = found[names[0]]
    tunnel, dummy = first.interfaces
    assert first.row.tunnel == tunnel.name
    assert (tunnel.internal, dummy.internal) == (False, True)
    assert len({tunnel.name, dummy.name} - configured) == 2
    for name in names[1:]:
        assert not found[name].row.usable
        assert not found[name].interfaces
        assert names[0] in found[name].row.reason
