"""What an SA puts into routing, and what of a peer's wishes is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.config import AuthorizationPolicy, RouteAccept
from ikev2.engine.authorise import own_addresses, permitted, reply_attributes, request_attributes, text_of
from ikev2.engine.overlay import (
    MAX_ROUTES,
    Overlay,
    addresses_of,
    announced,
    overlay_rows,
    subnet_attributes,
)
from ikev2.wire.payloads import Attribute
from stack.addr import Prefix, parse_address
from stack.claims import Claims, Slot
from stack.events import (
    AddressOffered,
    AddressRow,
    BindingOffered,
    EndpointOffered,
    EndpointRow,
    Interface,
    InterfaceKind,
    InterfaceRow,
    Route,
    RouteOffered,
    Via,
)
from stack.policy.lists import AccessEntry, AccessList

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")


def P(text: str) -> Prefix:
    return Prefix.parse(text)


def interface(*, point_to_point: bool = True, mpls: bool = True, vrf: str = "blue") -> Interface:
    row = InterfaceRow("Tunnel0", InterfaceKind.TUNNEL, vrf=vrf, point_to_point=point_to_point, mpls=mpls)
    return Interface(row, 5, up=True, mtu=1400)


def test_point_to_point() -> None:
    overlay = Overlay(
        received=(parse_address("10.0.0.9"),),
        assigned=(parse_address("10.0.0.1"),),
        routes=(P("10.0.0.1/32"), P("10.8.0.0/16")),
        transport=B,
        accept=RouteAccept(tag=7, distance=3),
    )
    assert overlay_rows(overlay, interface()) == {
        Slot(AddressOffered, "", ("Tunnel0", parse_address("10.0.0.9"))): AddressRow(32, origin="negotiated"),
        Slot(RouteOffered, "blue", P("10.0.0.1/32")): Route(3, (Via(interface="Tunnel0"),), "static", tag=7),
        Slot(RouteOffered, "blue", P("10.8.0.0/16")): Route(3, (Via(interface="Tunnel0"),), "static", tag=7),
        Slot(BindingOffered, "", ("blue", P("10.0.0.1/32"), b"")): (3,),
    }


def test_implicit_null_only_where_labels_are_taken() -> None:
    overlay = Overlay(assigned=(parse_address("10.0.0.1"),), transport=B)
    assert not any(slot.topic is BindingOffered for slot in overlay_rows(overlay, interface(mpls=False)))


def test_multipoint_has_endpoints_and_next_hops() -> None:
    overlay = Overlay(assigned=(parse_address("10.0.0.1"),), routes=(P("10.8.0.0/16"),), transport=B)
    rows = overlay_rows(overlay, interface(point_to_point=False, mpls=False, vrf=""))
    assert rows == {
        Slot(RouteOffered, "", P("10.0.0.1/32")): Route(1, (Via(interface="Tunnel0"),), "static"),
        Slot(EndpointOffered, "", ("Tunnel0", parse_address("10.0.0.1"))): EndpointRow(B, wanted=False),
        Slot(RouteOffered, "", P("10.8.0.0/16")): Route(
            1, (Via(address=parse_address("10.0.0.1"), interface="Tunnel0"),), "static"
        ),
    }


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("0.0.0.0/0", "a default route"),
        ("192.0.2.2/32", "it covers the tunnel's own end 192.0.2.2"),
        ("192.0.0.0/8", "it covers the tunnel's own end 192.0.2.1"),
        ("10.0.0.9/32", "it is our own address"),
        ("10.0.0.7/32", "it is another peer's"),
        ("127.0.0.0/8", "no unicast prefix"),
        ("224.0.0.0/4", "no unicast prefix"),
        ("0.1.0.0/16", "no unicast prefix"),
        ("::/0", "a default route"),
        ("fe80::1/128", "no global unicast prefix"),
        ("ff00::/8", "no global unicast prefix"),
    ],
)
def test_what_is_never_taken(prefix: str, reason: str) -> None:
    found = announced(
        subnet_attributes([P(prefix), P("10.1.0.0/16")]),
        (A, B),
        (parse_address("10.0.0.9"),),
        lambda one: "it is another peer's" if one == P("10.0.0.7/32") else "",
    )
    assert found.taken == (P("10.1.0.0/16"),)
    assert dict(found.refused) == {P(prefix): reason}


def test_at_most_so_many_routes() -> None:
    many = [Prefix.host(b"\x0a\1" + n.to_bytes(2)) for n in range(2000)]
    found = announced(subnet_attributes(many), (A, B))
    assert found.taken == tuple(many[:MAX_ROUTES])
    assert len(found.refused) == MAX_ROUTES
    assert set(found.refused.values()) == {f"more than {MAX_ROUTES} routes"}


@given(st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=20)), max_size=30))
def test_any_attributes_are_read(pairs: list[tuple[int, bytes]]) -> None:
    attributes = [Attribute(*pair) for pair in pairs] + [Attribute(13, pair[1]) for pair in pairs]
    found = announced(attributes, (A, B))
    assert all(prefix.length and not prefix.covers(A) for prefix in found.taken)
    own_addresses(attributes)
    for kind, _ in attributes:
        assert text_of(attributes, kind) is not None


def test_a_mask_with_holes_is_no_prefix() -> None:
    assert announced([Attribute(13, parse_address("10.0.0.0") + parse_address("255.0.255.0"))], ()).taken == ()


def test_subnets_on_the_wire() -> None:
    assert [a.octets.hex() for a in subnet_attributes([P("10.1.0.0/16"), P("10.0.0.1/32"), P("2001:db8::/32")])] == [
        "0a010000ffff0000",
        "0a000001ffffffff",
        "20010db8" + "00" * 12 + "20",
    ]


# --- claims -------------------------------------------------------------------------------------------------------------


SLOT = Slot(RouteOffered, "", P("10.0.0.1/32"))


def said(claims: Claims) -> list[tuple[object, object]]:
    return [pair for publish in claims.changes() for pair in publish.rows.items()]


def test_a_row_stands_until_its_last_claimant_lets_go() -> None:
    claims = Claims()
    claims.hold(1, {SLOT: "row"})
    assert said(claims) == [(SLOT.key, "row")]
    claims.hold(2, {SLOT: "row"})
    claims.drop(1)
    assert said(claims) == []
    assert list(claims.claimants("", SLOT.key)) == [2]
    claims.drop(2)
    assert said(claims) == [(SLOT.key, None)]
    assert len(claims) == 0


def test_the_newest_claim_decides() -> None:
    claims = Claims()
    claims.hold(1, {SLOT: "old"})
    claims.hold(2, {SLOT: "new"})
    assert said(claims) == [(SLOT.key, "new")]
    claims.drop(2)
    assert said(claims) == [(SLOT.key, "old")]


def test_what_comes_and_goes_unseen_is_not_published() -> None:
    claims = Claims()
    claims.hold(1, {SLOT: "row"})
    claims.drop(1)
    assert said(claims) == []


@given(st.lists(st.tuples(st.integers(1, 3), st.sets(st.integers(0, 3))), max_size=40))
def test_what_is_published_is_what_is_claimed(steps: list[tuple[int, set[int]]]) -> None:
    claims, held, seen = Claims(), {}, {}
    for claimant, keys in steps:
        held[claimant] = keys
        claims.hold(claimant, {Slot(RouteOffered, "", key): claimant for key in keys})
        for publish in claims.changes():
            seen.update(publish.rows)
    assert {key for key, row in seen.items() if row is not None} == {key for keys in held.values() for key in keys}
    assert all(key in held[row] for key, row in seen.items() if row is not None)


# --- mode config --------------------------------------------------------------------------------------------------------


def test_only_what_is_asked_for_is_answered() -> None:
    policy = AuthorizationPolicy(
        "p",
        netmask=parse_address("255.255.255.0"),
        banner="Welcome",
        def_domain="example.com",
        dns=(parse_address("10.9.9.9"), parse_address("2001:db8::9")),
        wins=(parse_address("10.9.9.8"),),
        backup_gateways=("192.0.2.9", "not an address"),
    )
    address = parse_address("10.0.0.1")
    routes = [P("10.0.0.254/32"), P("2001:db8:1::/48")]
    assert reply_attributes(policy, [Attribute(1)], [address], routes) == (Attribute(1, address),)
    everything = [Attribute(kind) for kind in (1, 2, 3, 3, 4, 7, 8, 13, 15, 14, 28672, 28674, 28681, 31111)]
    reply = reply_attributes(policy, everything, [address], routes)
    assert [attribute.kind for attribute in reply] == [1, 2, 3, 4, 7, 14, 28672, 28674, 28681, 13, 15]
    assert reply[6].octets == b"Welcome"
    assert reply_attributes(None, everything, [], []) == (Attribute(7, b"labelspan"), reply[5])


def test_an_embedder_s_attributes_replace_ours() -> None:
    policy = AuthorizationPolicy("p", banner="Welcome")
    mine = (Attribute(28672, b"Hello"), Attribute(1, parse_address("10.7.7.7")))
    asked = [Attribute(1), Attribute(28672)]
    assert reply_attributes(policy, asked, [parse_address("10.0.0.1")], [], mine) == mine


def test_what_an_initiator_asks_for() -> None:
    assert request_attributes(negotiated=False, authorised=False) == ()
    assert [a.kind for a in request_attributes(negotiated=False, authorised=True)] == [13, 15, 28672, 28674, 7]
    assert [a.kind for a in request_attributes(negotiated=True, authorised=False)][:3] == [1, 2, 3]


@pytest.mark.parametrize("octets", ["00000000", "7f000001", "e0000001", "ffffffff", "", "0a0000", "0a00000100"])
def test_an_address_that_is_none_is_not_ours(octets: str) -> None:
    assert own_addresses([Attribute(1, bytes.fromhex(octets))]) == ()


def test_access_lists_name_what_is_behind_us() -> None:
    zero, ones = parse_address("0.0.0.0"), parse_address("255.255.255.255")
    entries = (
        AccessEntry(10, True, parse_address("10.1.0.0"), parse_address("0.0.255.255")),
        AccessEntry(20, False, parse_address("10.2.0.0"), parse_address("0.0.255.255")),
        AccessEntry(30, True, parse_address("10.3.0.1")),
        AccessEntry(40, True, parse_address("10.4.0.0"), parse_address("0.0.3.3")),
        AccessEntry(50, True, parse_address("10.5.0.0"), parse_address("0.0.0.255"), zero, ones),
        AccessEntry(60, True, zero, ones, parse_address("10.6.0.0"), parse_address("0.0.0.255")),
    )
    found = permitted(AccessList("L", entries=entries))
    assert found == (P("10.1.0.0/16"), P("10.3.0.1/32"), P("10.5.0.0/24"), P("10.6.0.0/24"))
    assert permitted(None) == ()


def test_link_local_addresses_are_not_announced() -> None:
    row = InterfaceRow("Loopback0", InterfaceKind.LOOPBACK)
    addresses = {
        parse_address("10.0.0.1"): AddressRow(24),
        parse_address("10.0.0.2"): AddressRow(24, secondary=True),
        parse_address("fe80::1"): AddressRow(64),
        parse_address("2001:db8::1"): AddressRow(64),
    }
    assert addresses_of(Interface(row, 1, up=True, mtu=1500, addresses=addresses)) == (
        parse_address("10.0.0.1"),
        parse_address("2001:db8::1"),
    )
