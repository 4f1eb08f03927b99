"""Adj-RIB-Out: who is told what, with which attributes and next hop; groups, refresh, End-of-RIB, what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp.engine.rib import adj_out
from bgp.wire import (
    IPV4_UNICAST,
    IPV6_UNICAST,
    VPNV4,
    VPNV6,
    Attributes,
    LargeCommunity,
    Nlri,
    RawAttribute,
    Session,
    Update,
    WellKnownCommunity,
    key_text,
)
from stack.addr import Afi, Prefix, Safi, format_address
from stack.events import (
    AddressRow,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    PolicyState,
    RouteSelected,
    Synced,
    VrfState,
)
from stack.policy import routemap
from stack.policy.routemap import Lists, RouteMap, Sequence, SetAsPathPrepend, SetMetric
from tests.bgp.engine.rib_world import OUR_AS, OUR_ID, TestPeer, World, attributes, config, ip, key, redistribute, rt

V4 = (IPV4_UNICAST,)
ROUTE = "10.1.0.0/16"


def seen(peer: TestPeer) -> dict[str, str]:
    """Prefix -> next hop, as the neighbour holds them."""
    return {name: hop for name, (_, hop, _) in peer.received.items()}


def attrs_at(peer: TestPeer, name: str = ROUTE) -> Attributes:
    return peer.received[name][0]


# --- who is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "receiver", "told"),
    [
        ("ebgp", "ebgp", True),
        ("ebgp", "ibgp", True),
        ("ibgp", "ebgp", True),
        ("ibgp", "ibgp", False),  # RFC 4271 9.2.1
        ("client", "ibgp", True),  # RFC 4456 6: from a client to all
        ("ibgp", "client", True),  # from a non-client to clients
        ("client", "client", True),
    ],
)
def test_rfc4456_6_who_is_told(sender: str, receiver: str, told: bool) -> None:
    world = World()

    def peer(kind: str, number: int) -> TestPeer:
        asn = 65020 + number if kind == "ebgp" else OUR_AS
        return world.peer(f"192.0.2.{number}", asn=asn, families=V4, route_reflector_client=kind == "client")

    a, b = peer(sender, 1), peer(receiver, 2)
    a.announce(IPV4_UNICAST, ROUTE)
    assert (ROUTE in b.received) is told
    assert a.received == {}


@pytest.mark.parametrize(
    ("community", "ebgp", "ibgp"),
    [
        (WellKnownCommunity.NO_EXPORT, False, True),
        (WellKnownCommunity.NO_EXPORT_SUBCONFED, False, True),
        (WellKnownCommunity.NO_ADVERTISE, False, False),
        (0x12345678, True, True),
    ],
)
def test_rfc1997_well_known_communities(community: int, ebgp: bool, ibgp: bool) -> None:
    world = World()
    a = world.peer("192.0.2.1", asn=65021, families=V4)
    b, c = world.peer("192.0.2.2", asn=65022, families=V4), world.peer("192.0.2.3", families=V4)
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes((65021,), communities=[community]))
    assert (ROUTE in b.received, ROUTE in c.received) == (ebgp, ibgp)


def test_a_neighbour_never_gets_its_own_route_back_and_loses_what_it_replaces() -> None:
    """
    a: 10.1/16 (local-pref 100) -> b
    b: 10.1/16 (local-pref 200) -> a is told, b is told that a's is gone
    """
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    b = world.peer("192.0.2.2", families=V4, route_reflector_client=True)
    assert len(world.ribs.groups.by_key) == 1  # alike clients share one group
    a.announce(IPV4_UNICAST, ROUTE)
    assert seen(b) == {ROUTE: "192.0.2.1"}
    b.announce(IPV4_UNICAST, ROUTE, attrs=attributes(local_pref=200))
    assert seen(a) == {ROUTE: "192.0.2.2"}
    assert seen(b) == {}
    b.withdraw(IPV4_UNICAST, ROUTE)
    assert seen(b) == {ROUTE: "192.0.2.1"}
    assert seen(a) == {}


# --- attributes and next hop ------------------------------------------------------------------------------------------


def test_rfc4456_8_reflection_adds_originator_and_cluster() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True, router_id="1.1.1.1")
    b = world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, ROUTE)
    a.announce(
        IPV4_UNICAST, "10.2.0.0/16", attrs=attributes((9,), originator_id=ip("7.7.7.7"), cluster_list=[ip("8.8.8.8")])
    )
    assert seen(b)[ROUTE] == "192.0.2.1"  # RFC 4456 10: the next hop stays
    assert (attrs_at(b).originator_id, attrs_at(b).cluster_list) == (ip("1.1.1.1"), (OUR_ID,))
    other = attrs_at(b, "10.2.0.0/16")
    assert (other.originator_id, other.cluster_list) == (ip("7.7.7.7"), (OUR_ID, ip("8.8.8.8")))


def test_rfc4456_10_next_hop_self_does_not_touch_reflected_routes() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    e = world.peer("203.0.113.1", asn=65021, families=V4)
    b = world.peer("192.0.2.2", families=V4, route_reflector_client=True, next_hop_self=True)
    a.announce(IPV4_UNICAST, ROUTE)
    e.announce(IPV4_UNICAST, "10.2.0.0/16")
    assert seen(b) == {ROUTE: "192.0.2.1", "10.2.0.0/16": "198.51.100.1"}


def test_rfc4271_5_1_3_next_hops_towards_ibgp_and_ebgp() -> None:
    world = World()
    a = world.peer("203.0.113.1", asn=65021, families=V4)
    e = world.peer("203.0.113.2", asn=65022, families=V4)
    u = world.peer("203.0.113.3", asn=65023, families=V4, next_hop_unchanged=True)
    i = world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, ROUTE)
    assert [seen(p)[ROUTE] for p in (e, u, i)] == ["198.51.100.1", "203.0.113.1", "203.0.113.1"]


def test_rfc4271_5_1_2_the_path_grows_towards_ebgp_only() -> None:
    world = World()
    a = world.peer("203.0.113.1", asn=65021, families=V4)
    e, i = world.peer("203.0.113.2", asn=65022, families=V4), world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes((65021, 7)))
    assert str(attrs_at(e).as_path) == f"{OUR_AS} 65021 7"
    assert str(attrs_at(i).as_path) == "65021 7"


def test_rfc4271_5_1_4_and_5_1_5_med_and_local_pref() -> None:
    world = World()
    a = world.peer("203.0.113.1", asn=65021, families=V4)
    e, i = world.peer("203.0.113.2", asn=65022, families=V4), world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes((65021,), med=5))
    assert (attrs_at(i).med, attrs_at(i).local_pref) == (5, 100)  # SHALL be in every UPDATE to internal peers
    assert (attrs_at(e).med, attrs_at(e).local_pref) == (None, None)  # MUST NOT go to other neighbouring ASes


def test_rfc4271_5_1_5_a_local_pref_received_stays() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    b = world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes(local_pref=7))
    assert attrs_at(b).local_pref == 7


@pytest.mark.parametrize(
    ("settings_of", "standard", "extended"),
    [({}, False, False), ({"send_standard": True}, True, False), ({"send_extended": True}, False, True)],
)
def test_send_community(settings_of: dict[str, bool], standard: bool, extended: bool) -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    b = world.peer("192.0.2.2", families=V4, **settings_of)
    large = LargeCommunity(1, 2, 3)
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes((), ("1:1",), communities=[5], large_communities=[large]))
    got = attrs_at(b)
    assert got.communities == ((5,) if standard else ())
    assert got.large_communities == ((large,) if standard else ())
    assert got.route_targets == (rt("1:1") if extended else frozenset())


def test_vpn_families_send_extended_communities_without_being_told() -> None:
    world = World()
    a = world.peer("192.0.2.1", route_reflector_client=True)
    b = world.peer("192.0.2.2")
    a.announce(VPNV4, "1:1 10.1.0.0/16", attrs=attributes((), ("1:1",)))
    assert attrs_at(b, "1:1:10.1.0.0/16").route_targets == rt("1:1")


def test_rfc4360_6_non_transitive_communities_stay_inside_the_as() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4)
    e = world.peer("203.0.113.2", asn=65022, families=V4, send_extended=True)
    inside, outside = bytes.fromhex("4004000000000001"), bytes.fromhex("0002000100000001")
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes(ext_communities=[inside, outside]))
    assert attrs_at(e).ext_communities == (outside,)


def test_as_override() -> None:
    world = World()
    a = world.peer("203.0.113.1", asn=65021, families=V4)
    e = world.peer("203.0.113.2", asn=65021, families=V4, as_override=True)
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes((65021, 65021)))
    assert str(attrs_at(e).as_path) == f"{OUR_AS} {OUR_AS} {OUR_AS}"


def test_rfc4271_9_unknown_transitive_attributes_are_passed_on() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    b = world.peer("192.0.2.2", families=V4)
    unknown = RawAttribute(0xE0, 200, b"\1\2\3")
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes().with_raw(unknown))
    assert attrs_at(b).unknown == (unknown,)


def test_vpn_labels_pass_a_reflector_unchanged() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=(VPNV4, VPNV6), route_reflector_client=True)
    b = world.peer("192.0.2.2", families=(VPNV4, VPNV6))
    a.announce(VPNV4, "1:1 10.1.0.0/16", label=777)
    a.announce(VPNV6, "1:1 2001:db8::/32", label=778, hop="::ffff:192.0.2.1")
    assert b.received["1:1:10.1.0.0/16"][1:] == ("192.0.2.1", (777,))
    assert b.received["1:1:2001:db8::/32"][1:] == ("::ffff:192.0.2.1", (778,))


def test_a_route_map_out() -> None:
    world = World()
    maps = {"M": RouteMap("M", (Sequence(10, sets=(SetMetric(77), SetAsPathPrepend((OUR_AS, OUR_AS)))),))}
    world.tell(PolicyState, {("route-map", "M"): routemap.compile(maps, Lists())["M"]})
    a = world.peer("203.0.113.1", asn=65021, families=V4)
    e = world.peer("203.0.113.2", asn=65022, families=V4, route_map_out="M")
    a.announce(IPV4_UNICAST, ROUTE)
    assert attrs_at(e).med == 77
    assert str(attrs_at(e).as_path) == f"{OUR_AS} {OUR_AS} {OUR_AS} 65021"
    world.tell(PolicyState, {("route-map", "M"): None})
    assert e.received == {}


def test_ipv6_next_hop_over_an_ipv4_session() -> None:
    """An IPv6 address of the interface the session runs over; without one, the mapped IPv4 address."""
    world = World()
    a = world.peer("203.0.113.1", asn=65021, families=(IPV6_UNICAST,))
    e = world.peer("203.0.113.2", asn=65022, families=(IPV6_UNICAST,))
    a.announce(IPV6_UNICAST, "2001:db8:1::/48", hop="2001:db8::9")
    assert seen(e) == {"2001:db8:1::/48": "::ffff:198.51.100.1"}
    addresses = {ip("198.51.100.1"): AddressRow(24), ip("fe80::1"): AddressRow(64), ip("2001:db8::1"): AddressRow(64)}
    row = InterfaceRow("Ethernet0/0", InterfaceKind.ETHERNET)
    world.tell(InterfaceState, {"Ethernet0/0": Interface(row, 1, up=True, mtu=1500, addresses=addresses)})
    assert seen(e) == {"2001:db8:1::/48": "2001:db8::1"}


# --- default-originate, redistribute, network -------------------------------------------------------------------------


def test_default_originate_needs_nothing_in_the_rib() -> None:
    world = World()
    e = world.peer("203.0.113.2", asn=65022, families=V4, default_originate=True)
    other = world.peer("203.0.113.3", asn=65023, families=V4)
    assert seen(e) == {"0.0.0.0/0": "198.51.100.1"}
    assert seen(other) == {}


def test_redistribute_connected_static_and_network() -> None:
    (place, family) = redistribute("connected")
    family = evolve(family, networks=((Prefix.parse("10.9.0.0/16"), ""),))
    world = World(config=config((place, family)))
    e = world.peer("203.0.113.2", asn=65022, families=V4)
    world.select("", "10.1.0.0/16")
    world.select("", "10.2.0.0/16", "static")
    world.select("", "10.9.0.0/16", "static")
    world.select("", "10.3.0.1/32", kind="local")
    world.select("", "0.0.0.0/0")
    assert sorted(e.received) == ["10.1.0.0/16", "10.9.0.0/16"]
    assert (attrs_at(e).origin, attrs_at(e, "10.9.0.0/16").origin) == (2, 0)
    assert world.routes() == {}  # what came from the RIB is not offered to it
    world.unselect("", "10.1.0.0/16")
    world.reconfigure(config(redistribute("static", default=True)))
    assert sorted(e.received) == ["10.2.0.0/16", "10.9.0.0/16"]
    world.select("", "0.0.0.0/0", "static 250")  # a floating static route has an owner of its own
    assert "0.0.0.0/0" in e.received


def test_a_route_of_ours_is_not_redistributed_into_ourselves() -> None:
    world = World(config=config(redistribute("bgp", "static")))
    e = world.peer("203.0.113.2", asn=65022, families=V4)
    world.select("", "10.1.0.0/16", "bgp")
    assert e.received == {}


# --- order, groups, refresh, End-of-RIB -------------------------------------------------------------------------------


def test_withdrawals_go_before_announcements() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    b = world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, ROUTE)
    b.log.clear()
    a.announce(IPV4_UNICAST, "10.2.0.0/16", then=False)
    a.say(Update(unreach=(evolve_unreach(ROUTE),)))
    assert b.log == [("-", ROUTE), ("+", "10.2.0.0/16")]


def evolve_unreach(route: str) -> Any:
    from bgp.wire import Unreach

    return Unreach(IPV4_UNICAST, (Nlri(key(IPV4_UNICAST, route)),))


def test_rfc4724_2_end_of_rib_after_the_initial_table() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    a.announce(IPV4_UNICAST, *(f"10.{n}.0.0/16" for n in range(50)))
    b = world.peer("192.0.2.2", families=V4)
    assert len(b.received) == 50
    assert b.ends == [IPV4_UNICAST]
    a.announce(IPV4_UNICAST, "10.99.0.0/16")
    assert b.ends == [IPV4_UNICAST]


def test_rfc4724_2_end_of_rib_waits_for_local_routes() -> None:
    world = World.__new__(World)
    World.__init__(world)
    from bgp.engine.rib import Ribs

    world.ribs = Ribs(world.config, lambda n: bytes(n))
    world.perform(world.ribs.start(world.now))
    b = world.peer("192.0.2.2", families=V4)
    assert b.ends == []
    for topic in (VrfState, PolicyState, RouteSelected):
        assert b.ends == []
        world.perform(world.ribs.receive(Synced(topic, "x", 1), world.now))
        world.run()
    assert b.ends == [IPV4_UNICAST]


def test_rfc2918_4_a_refresh_tells_everything_again_to_that_neighbour_alone() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4)
    b, c = world.peer("203.0.113.2", asn=65022, families=V4), world.peer("203.0.113.3", asn=65022, families=V4)
    a.announce(IPV4_UNICAST, ROUTE, "10.2.0.0/16")
    b.log.clear()
    c.log.clear()
    world.perform(world.ribs.refresh(b.key, IPV4_UNICAST, world.now))
    world.run()
    assert sorted(b.log) == [("+", ROUTE), ("+", "10.2.0.0/16")]
    assert c.log == []


def test_routes_with_equal_attributes_share_a_message() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    b = world.peer("192.0.2.2", families=V4)
    for n in range(100):
        a.announce(IPV4_UNICAST, f"10.{n}.0.0/16", then=False)
    while (due := world.ribs.deadline()) is not None and due <= world.now:
        world.perform(world.ribs.wake(world.now))
    assert [len(u.reach[0].routes) for u in b.take() if u.reach] == [100]


def test_a_flap_is_told_once() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    b = world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, ROUTE)
    b.log.clear()
    for n in range(5):
        a.announce(IPV4_UNICAST, ROUTE, attrs=attributes(med=n), then=False)
        world.perform(world.ribs.wake(world.now))
    world.run()
    assert b.log == [("+", ROUTE)]
    assert attrs_at(b).med == 4


def test_a_member_that_joins_late_is_told_all_and_in_step() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4)
    b = world.peer("203.0.113.2", asn=65022, families=V4)
    a.announce(IPV4_UNICAST, *(f"10.{n}.0.0/16" for n in range(9)))
    c = world.peer("203.0.113.3", asn=65022, families=V4)
    assert len(world.ribs.groups.by_key) == 2
    a.withdraw(IPV4_UNICAST, "10.3.0.0/16")
    assert seen(b) == seen(c)
    assert len(c.received) == 8


def test_a_slow_member_leaves_for_a_group_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is bounded, the others are not held up, and in the end it holds the same."""
    monkeypatch.setattr(adj_out, "QUEUE_BOUND", 400)
    monkeypatch.setattr(adj_out, "CHUNK", 2)
    world = World()
    a = world.peer("192.0.2.1", families=V4)
    b = world.peer("203.0.113.2", asn=65022, families=V4)
    c = world.peer("203.0.113.3", asn=65022, families=V4)
    del world.peers[c.key]  # it reads nothing
    for n in range(60):
        a.announce(IPV4_UNICAST, f"10.{n}.0.0/16", attrs=attributes(med=n))
    a.withdraw(IPV4_UNICAST, "10.7.0.0/16")
    group, member = world.ribs.peers[c.key].members[IPV4_UNICAST]
    assert group is not world.ribs.peers[b.key].members[IPV4_UNICAST][0]
    assert member.octets < 800
    assert len(b.received) == 59
    world.peers[c.key] = c
    world.run()
    assert {n: a for n, (a, _, _) in c.received.items()} == {n: a for n, (a, _, _) in b.received.items()}


def test_a_changed_configuration_moves_a_neighbour_to_another_group() -> None:
    neighbours = {}
    world = World()
    a = world.peer("192.0.2.1", families=V4)
    b = world.peer("203.0.113.2", asn=65022, families=V4)
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes(communities=[5]))
    assert attrs_at(b).communities == ()
    for peer in (a, b):
        neighbours[peer.key] = peer.view.config
    old = neighbours[b.key]
    family = evolve(old.families[Afi.IPV4, Safi.UNICAST], send_standard=True)
    neighbours[b.key] = evolve(old, families={(Afi.IPV4, Safi.UNICAST): family})
    world.reconfigure(config(neighbors=neighbours))
    assert attrs_at(b).communities == (5,)


# --- B11 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [200, 3000, 4000])
def test_B11_what_no_message_holds_is_suppressed_never_truncated(size: int) -> None:
    world = World()
    a = world.peer("192.0.2.1", families=V4, session=Session(extended_message=True))
    e = world.peer("203.0.113.2", asn=65022, families=V4)
    big = attributes(AsPath_of(30)).with_raw(RawAttribute(0xE0, 255, bytes(size)))
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes())
    a.announce(IPV4_UNICAST, ROUTE, "10.2.0.0/16", attrs=big)
    if size < 3500:
        assert sorted(e.received) == [ROUTE, "10.2.0.0/16"]
        assert attrs_at(e).unknown[0].value == bytes(size)
        return
    assert e.received == {}  # also what it was told before is withdrawn
    assert world.ribs.counters["route that fits in no message"] == 2
    assert world.logs[-1].event == "routes not advertised"
    a.announce(IPV4_UNICAST, ROUTE, attrs=attributes())
    assert ROUTE in e.received


def AsPath_of(hops: int) -> tuple[int, ...]:
    return tuple(range(65100, 65100 + hops))


# --- a model ----------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["announce", "withdraw", "down", "up", "refresh", "soft"]),
        st.integers(0, 2),
        st.integers(0, 3),
        st.integers(98, 101),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_neighbour_holds_what_the_loc_rib_says(steps: list[tuple[str, int, int, int]]) -> None:
    """Whatever happens, in the end each neighbour holds exactly the best routes that are not its own."""
    world = World()
    held: dict[int, TestPeer | None] = {}

    def up(number: int) -> TestPeer:
        return world.peer(f"192.0.2.{number + 1}", families=V4, route_reflector_client=True)

    for number in range(3):
        held[number] = up(number)
    for action, number, route, pref in steps:
        peer = held[number]
        text = f"10.{route}.0.0/16"
        if peer is None:
            held[number] = up(number)
        elif action == "announce":
            peer.announce(IPV4_UNICAST, text, attrs=attributes(local_pref=pref))
        elif action == "withdraw":
            peer.withdraw(IPV4_UNICAST, text)
        elif action == "down":
            world.down(peer)
            held[number] = None
        elif action == "refresh":
            world.perform(world.ribs.refresh(peer.key, IPV4_UNICAST, world.now))
            world.run()
        elif action == "soft":
            world.soft(peer)
    table = world.ribs.tables["", IPV4_UNICAST]
    for peer in held.values():
        if peer is not None:
            source = world.ribs.peers[peer.key].source
            wanted = {
                key_text(IPV4_UNICAST, k): format_address(net.best.set.next_hop)
                for k, net in table.nets.items()
                if net.best is not None and net.best.set.source is not source
            }
            assert seen(peer) == wanted
