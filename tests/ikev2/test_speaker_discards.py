"""Discard routes: what is sent to an overlay address of a pool that nobody holds ends here."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ikev2.config import AaaAuthorization, AuthorizationPolicy, IpPool, IpsecProfile
from ikev2.engine import discards
from ikev2.engine.discards import DISCARD, covering, prefixes_of
from stack.addr import Prefix, parse_address
from stack.events import InterfaceKind, InterfaceState, RouteOffered, SaKey, SaWanted
from tests.ikev2.nodes import Node, World, psk, psk_config
from tests.ikev2.test_speaker_access import AAA, HUB, come_up, hub_config, make_hub, make_spoke

POOL = {"10.0.0.10/31", "10.0.0.12/30", "10.0.0.16/30"}


def pool(first: str, last: str) -> IpPool:
    return IpPool("POOL", parse_address(first), parse_address(last))


# --- prefixes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "prefixes"),
    [
        ("10.0.0.10", "10.0.0.19", "10.0.0.10/31 10.0.0.12/30 10.0.0.16/30"),
        ("10.0.0.0", "10.0.0.255", "10.0.0.0/24"),
        ("10.0.0.7", "10.0.0.7", "10.0.0.7/32"),
        ("0.0.0.0", "255.255.255.255", "0.0.0.0/0"),
        ("10.1.255.255", "10.2.0.0", "10.1.255.255/32 10.2.0.0/32"),
        ("2001:db8::", "2001:db8::ffff", "2001:db8::/112"),
        ("2001:db8::1", "2001:db8::2", "2001:db8::1/128 2001:db8::2/128"),
        ("2001:db8::", "2001:db8::1:0", ""),
        ("2001:db8::", "2001:db8:0:0:ffff:ffff:ffff:ffff", ""),
        ("10.0.0.2", "10.0.0.1", ""),
    ],
)
def test_the_prefixes_of_a_pool(first: str, last: str, prefixes: str) -> None:
    assert " ".join(map(str, prefixes_of(pool(first, last)))) == prefixes


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_they_cover_the_range_and_nothing_else(one: int, other: int) -> None:
    first, last = sorted((one, other))
    found = list(covering(first.to_bytes(4), last.to_bytes(4)))
    expected = ipaddress.summarize_address_range(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last))
    assert [str(prefix) for prefix in found] == [str(network) for network in expected]
    assert len(found) <= 62


# --- the hub ---------------------------------------------------------------------------------------------------------------


def test_a_pool_in_use_is_discarded_but_for_who_holds_it() -> None:
    world = World()
    hub = make_hub(world)
    assert hub.discards() == POOL
    assert set(hub.table(RouteOffered).values()) == {DISCARD}
    assert (DISCARD.distance, DISCARD.vias, DISCARD.kind) == (250, (), "static")
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    assert set(map(str, hub.routes())) == {"10.0.0.10/32"}
    assert hub.discards() == POOL
    assert spoke.discards() == set(), "a spoke gives nothing to anybody"
    spoke.hear(SaWanted, {SaKey("Tunnel0"): None})
    world.run(1)
    assert (hub.routes(), hub.discards()) == ({}, POOL)


def test_of_one_address_the_peer_s_route_takes_its_place_and_gives_it_back() -> None:
    """The prefix of both is the same: there is never nothing in between."""
    world = World()
    hub = make_hub(world, evolve(hub_config(), pools={"POOL": pool("10.0.0.10", "10.0.0.12")}))
    assert hub.discards() == {"10.0.0.10/31", "10.0.0.12/32"}
    spokes = [make_spoke(world, number) for number in (1, 2, 3)]
    come_up(world, hub, *spokes)
    assert hub.discards() == {"10.0.0.10/31"}
    assert set(map(str, hub.routes())) == {"10.0.0.10/32", "10.0.0.11/32", "10.0.0.12/32"}
    told = len(hub.told)
    for spoke in spokes:
        spoke.hear(SaWanted, {SaKey("Tunnel0"): None})
    world.run(1)
    assert hub.discards() == {"10.0.0.10/31", "10.0.0.12/32"}
    last = Prefix.parse("10.0.0.12/32")
    assert [rows[last] for topic, rows in hub.told[told:] if topic is RouteOffered and last in rows] == [DISCARD]


@pytest.mark.parametrize(
    "config",
    [
        hub_config(AuthorizationPolicy("POLICY", route_set_interface="")),
        psk_config(evolve(psk(), virtual_template=1), pools=hub_config().pools),
        psk_config(evolve(psk(), aaa=AAA), pools=hub_config().pools, authorization_policies={}),
        evolve(hub_config(), pools={}),
        psk_config(
            evolve(psk(), aaa=AAA),
            pools=hub_config().pools,
            authorization_policies={"POLICY": AuthorizationPolicy("POLICY", pool="POOL")},
        ),
    ],
    ids=["no pool in the policy", "no policy", "no such policy", "no such pool", "no template, no tunnel"],
)
def test_a_pool_that_is_not_in_use(config: Any) -> None:
    world = World()
    assert make_hub(world, config).discards() == set()


def test_it_is_in_the_vrf_of_the_template_and_goes_with_it() -> None:
    world = World()
    hub = make_hub(world)
    hub.interface("Virtual-Template1", kind=InterfaceKind.TEMPLATE, unnumbered="Loopback0", vrf="red")
    assert (hub.discards(), hub.discards("red")) == (set(), POOL)
    hub.hear(InterfaceState, {"Virtual-Template1": None})
    assert hub.discards("red") == set()


def test_of_a_multipoint_tunnel_and_of_those_of_other_profiles() -> None:
    world = World()
    config = evolve(
        hub_config(),
        ipsec_profiles={"P": IpsecProfile("P", ike_profile="default"), "Q": IpsecProfile("Q", ike_profile="other")},
    )
    hub = world.node("hub", HUB, config)
    hub.protect("Tunnel1", HUB, vrf="red")
    hub.protect("Tunnel2", HUB, vrf="blue", profile="Q")
    assert hub.discards("red") == POOL
    assert hub.discards("blue") == set()
    hub.protect("Tunnel1", HUB, vrf="green")
    assert (hub.discards("red"), hub.discards("green")) == (set(), POOL)


def test_it_follows_the_configuration() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    hub.reconfigure(evolve(hub_config(), pools={"POOL": pool("10.0.0.0", "10.0.0.63")}))
    assert hub.discards() == {"10.0.0.0/26"}
    assert set(map(str, hub.routes())) == {"10.0.0.10/32"}
    hub.reconfigure(hub_config(AuthorizationPolicy("POLICY", route_set_interface="")))
    assert hub.discards() == set()


def test_both_families_and_several_policies() -> None:
    world = World()
    config = evolve(
        hub_config(),
        profiles={
            "default": evolve(psk(), virtual_template=1, aaa=(*AAA, AaaAuthorization("cert", "default", "OTHER")))
        },
        authorization_policies={
            "POLICY": AuthorizationPolicy("POLICY", pool="POOL", ipv6_pool="SIX"),
            "OTHER": AuthorizationPolicy("OTHER", pool="MORE"),
        },
        pools={
            "POOL": pool("10.0.0.10", "10.0.0.19"),
            "SIX": pool("2001:db8::10", "2001:db8::1f"),
            "MORE": pool("10.2.0.0", "10.2.255.255"),
            "UNUSED": pool("10.3.0.0", "10.3.255.255"),
        },
    )
    assert make_hub(world, config).discards() == POOL | {"2001:db8::10/124", "10.2.0.0/16"}


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discards, "MAX_DISCARDS", 2)
    world = World()
    assert len(make_hub(world).discards()) == 2


def crashed(hub: Node, world: World) -> None:
    hub.crash()
    world.run(1)
    hub.told.clear()
    hub.begin()


def test_S01_it_stands_through_a_crash() -> None:
    """Not even for a moment does the default route get what is for a peer that is away."""
    world = World()
    hub = make_hub(world, evolve(hub_config(), pools={"POOL": pool("10.0.0.10", "10.0.0.12")}))
    spokes = [make_spoke(world, number) for number in (1, 2, 3)]
    come_up(world, hub, *spokes)
    before = hub.table(RouteOffered)
    crashed(hub, world)
    assert hub.table(RouteOffered) == before
    assert None not in [row for topic, rows in hub.told if topic is RouteOffered for row in rows.values()]
    for spoke in spokes:
        spoke.hear(SaWanted, {SaKey("Tunnel0"): None})
    hub.clear()
    world.run(10)
    assert (hub.routes(), hub.discards()) == ({}, {"10.0.0.10/31", "10.0.0.12/32"})


def test_S01_it_goes_if_its_interface_has_gone_meanwhile() -> None:
    world = World()
    hub = make_hub(world)
    del hub.said[InterfaceState]["Virtual-Template1"]
    crashed(hub, world)
    assert hub.discards() == set()
