"""Route maps as tables: a route in, an outcome out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.addr import RT, Afi, Prefix
from stack.policy import routemap as rm
from stack.policy.lists import (
    AccessEntry,
    AccessList,
    CommunityEntry,
    CommunityList,
    ExtCommunityEntry,
    ExtCommunityList,
    PrefixEntry,
    PrefixList,
    WellKnown,
)

P = Prefix.parse
V4, V6 = Afi.IPV4, Afi.IPV6
GREEN, RED = RT.parse("65000:1"), RT.parse("65000:2")
SITE = b"\x00\x03\xfd\xe8\x00\x00\x00\x07"

BOOK = rm.Lists(
    prefix_lists={
        "tens": PrefixList(
            "tens", V4, (PrefixEntry(5, False, P("10.9.0.0/16"), le=32), PrefixEntry(10, True, P("10.0.0.0/8"), le=24))
        ),
        "six": PrefixList("six", V6, (PrefixEntry(5, True, P("2001:db8::/32"), ge=48, le=64),)),
        "pe2": PrefixList("pe2", V4, (PrefixEntry(5, True, P("192.0.2.2/32")),)),
        "empty": PrefixList("empty", V4),
    },
    access_lists={
        "std": AccessList("std", False, (AccessEntry(10, True, b"\x0a\0\0\0", b"\0\xff\xff\xff"),)),
        "ext": AccessList(
            "ext", True, (AccessEntry(10, True, b"\x0a\x01\0\0", b"\0\0\0\0", b"\xff\xff\0\0", b"\0\0\0\0"),)
        ),
    },
    community_lists={"c": CommunityList("c", (CommunityEntry(1, True, frozenset({5, 6})),))},
    extcommunity_lists={"green": ExtCommunityList("green", (ExtCommunityEntry(1, True, frozenset({GREEN})),))},
)


def view(prefix: str = "10.1.0.0/16", **named: object) -> rm.RouteView:
    parsed = P(prefix)
    return rm.RouteView(parsed, parsed.afi, **named)  # type: ignore[arg-type]


def compiled(*sequences: rm.Sequence) -> rm.CompiledMap:
    return rm.compile({"m": rm.RouteMap("m", sequences)}, BOOK)["m"]


@pytest.mark.parametrize(
    ("prefix", "ge", "le", "candidate", "matches"),
    [
        ("10.0.0.0/8", None, None, "10.0.0.0/8", True),
        ("10.0.0.0/8", None, None, "10.1.0.0/16", False),
        ("10.0.0.0/8", 9, None, "10.0.0.0/8", False),
        ("10.0.0.0/8", 9, None, "10.1.2.3/32", True),
        ("10.0.0.0/8", None, 16, "10.1.0.0/16", True),
        ("10.0.0.0/8", None, 16, "10.1.1.0/24", False),
        ("10.0.0.0/8", 16, 24, "10.1.1.0/25", False),
        ("0.0.0.0/0", None, 32, "203.0.113.7/32", True),
        ("0.0.0.0/0", None, None, "0.0.0.0/0", True),
        ("0.0.0.0/0", None, 32, "2001:db8::/32", False),
        ("2001:db8::/32", 48, 64, "2001:db8:7::/48", True),
        ("2001:db8::/32", 48, 64, "2001:db9::/48", False),
    ],
)
def test_prefix_entry(prefix: str, ge: int | None, le: int | None, candidate: str, matches: bool) -> None:
    entry = PrefixEntry(5, True, P(prefix), ge, le)
    assert entry.matches(P(candidate)) is matches
    assert PrefixList("l", P(prefix).afi, (entry,)).permits(P(candidate)) is matches


@pytest.mark.parametrize(("ge", "le"), [(4, None), (24, 16), (None, 33), (33, None), (None, 7)])
def test_prefix_entry_refuses_lengths_that_do_not_ascend(ge: int | None, le: int | None) -> None:
    with pytest.raises(ValueError, match="len <= ge <= le"):
        PrefixEntry(5, True, P("10.0.0.0/8"), ge, le)


@given(
    st.lists(
        st.builds(
            lambda n, permit, octets, length, more: PrefixEntry(
                n, permit, Prefix.of(octets, length), None, min(32, length + more)
            ),
            st.integers(1, 20),
            st.booleans(),
            st.binary(min_size=4, max_size=4),
            st.integers(0, 32),
            st.integers(0, 32),
        ),
        max_size=8,
    ),
    st.binary(min_size=4, max_size=4),
    st.integers(0, 32),
)
def test_the_fast_matcher_is_first_match_then_deny(entries: list[PrefixEntry], octets: bytes, length: int) -> None:
    found, prefix = PrefixList("l", V4, tuple(entries)), Prefix.of(octets, length)
    slow = next((e.permit for e in found.entries if e.matches(prefix)), not found.entries)
    assert found.permits(prefix) is slow


def test_entries_are_ordered_by_number_and_the_later_of_two_stands() -> None:
    first, second, other = (PrefixEntry(n, p, P("10.0.0.0/8")) for n, p in ((10, True), (10, False), (5, True)))
    assert PrefixList("l", V4, (first, second, other)).entries == (other, second)


@pytest.mark.parametrize(
    ("match", "route", "matches"),
    [
        (rm.MatchPrefix(V4, ("tens",)), view("10.1.0.0/16"), True),
        (rm.MatchPrefix(V4, ("tens",)), view("10.9.1.0/24"), False),
        (rm.MatchPrefix(V4, ("pe2", "tens")), view("10.1.0.0/16"), True),
        (rm.MatchPrefix(V4, ("tens",)), view("2001:db8:7::/48"), False),
        (rm.MatchPrefix(V6, ("six",)), view("2001:db8:7::/48"), True),
        (rm.MatchPrefix(V4, ("nowhere",)), view("10.1.0.0/16"), True),  # undefined: permits all
        (rm.MatchPrefix(V4, ("nowhere",)), view("2001:db8:7::/48"), False),  # but only of its family
        (rm.MatchPrefix(V4, ("six",)), view("10.1.0.0/16"), True),  # there is no IPv4 list of that name
        (rm.MatchPrefix(V4, ("empty",)), view("10.1.0.0/16"), True),
        (rm.MatchAccess(V4, ("std",)), view("10.77.0.0/16"), True),
        (rm.MatchAccess(V4, ("std",)), view("11.0.0.0/8"), False),
        (rm.MatchAccess(V4, ("ext",)), view("10.1.0.0/16"), True),
        (rm.MatchAccess(V4, ("ext",)), view("10.1.0.0/24"), False),
        (rm.MatchNextHop(V4, ("pe2",)), view(next_hop=b"\xc0\0\x02\x02"), True),
        (rm.MatchNextHop(V4, ("pe2",)), view(next_hop=b"\xc0\0\x02\x03"), False),
        (rm.MatchNextHop(V4, ("pe2",)), view(next_hop=bytes(16)), False),
        (rm.MatchTag({666, 667}), view(tag=667), True),
        (rm.MatchTag({666}), view(), False),
        (rm.MatchMetric({0}), view(), True),
        (rm.MatchLocalPreference({100}), view(), False),
        (rm.MatchCommunity(("c",)), view(communities=frozenset({5, 6, 7})), True),
        (rm.MatchCommunity(("c",), exact=True), view(communities=frozenset({5, 6, 7})), False),
        (rm.MatchCommunity(("c",), exact=True), view(communities=frozenset({5, 6})), True),
        (rm.MatchCommunity(("c",)), view(communities=frozenset({5})), False),
        (rm.MatchExtCommunity(("green",)), view(ext_communities=frozenset({GREEN, SITE})), True),
        (rm.MatchExtCommunity(("green",)), view(ext_communities=frozenset({RED})), False),
    ],
)
def test_match(match: rm.Match, route: rm.RouteView, matches: bool) -> None:
    assert compiled(rm.Sequence(10, matches=(match,))).apply(route).permitted is matches


@pytest.mark.parametrize(
    ("change", "route", "changes"),
    [
        (rm.SetEncapsulate(V4, "core"), view(), rm.Changes(encapsulate="core")),
        (rm.SetEncapsulate(V6, "core"), view(), rm.Changes()),
        (rm.SetNextHop(V4, b"\1\2\3\4"), view(), rm.Changes(next_hop=b"\1\2\3\4")),
        (rm.SetLocalPreference(300), view(), rm.Changes(local_preference=300)),
        (rm.SetMetric(7), view(metric=5), rm.Changes(metric=7)),
        (rm.SetMetric(7, relative=True), view(metric=5), rm.Changes(metric=12)),
        (rm.SetMetric(-7, relative=True), view(metric=5), rm.Changes(metric=0)),
        (rm.SetMetric(7, relative=True), view(metric=0xFFFFFFFF), rm.Changes(metric=0xFFFFFFFF)),
        (rm.SetTag(9), view(), rm.Changes(tag=9)),
        (rm.SetWeight(9), view(), rm.Changes(weight=9)),
        (rm.SetCommunity({1}), view(communities=frozenset({2})), rm.Changes(communities=frozenset({1}))),
        (rm.SetCommunity({1}, True), view(communities=frozenset({2})), rm.Changes(communities=frozenset({1, 2}))),
        (rm.SetCommunity(()), view(communities=frozenset({2})), rm.Changes(communities=frozenset())),
        (
            rm.SetRouteTarget({RED}),
            view(ext_communities=frozenset({GREEN, SITE})),
            rm.Changes(ext_communities=frozenset({RED, SITE})),
        ),
        (
            rm.SetRouteTarget({RED}, True),
            view(ext_communities=frozenset({GREEN})),
            rm.Changes(ext_communities=frozenset({RED, GREEN})),
        ),
        (rm.SetAsPathPrepend((1, 1)), view(), rm.Changes(as_path_prepend=(1, 1))),
    ],
)
def test_set(change: rm.Set, route: rm.RouteView, changes: rm.Changes) -> None:
    assert compiled(rm.Sequence(10, sets=(change,))).apply(route) == (True, 10, changes)


def test_sequences_in_order_and_what_none_matches_is_denied() -> None:
    route_map = compiled(
        rm.Sequence(20, matches=(rm.MatchPrefix(V4, ("tens",)),), sets=(rm.SetEncapsulate(V4, "core"),)),
        rm.Sequence(10, permit=False, matches=(rm.MatchTag({1}),), sets=(rm.SetTag(3),)),
    )
    assert route_map.apply(view(tag=1)) == (False, 10, rm.Changes())
    assert route_map.apply(view()) == (True, 20, rm.Changes(encapsulate="core"))
    assert route_map.apply(view("172.16.0.0/12")) == (False, None, rm.Changes())
    assert route_map.profiles == {"core"}


def test_a_map_without_sequences_denies_and_an_empty_sequence_permits_all_by_lsp() -> None:
    assert not compiled().apply(view()).permitted
    assert compiled(rm.Sequence(10)).apply(view()) == (True, 10, rm.Changes())


def test_kinds_are_anded_and_values_of_a_kind_ored() -> None:
    both = (rm.MatchPrefix(V4, ("tens",)), rm.MatchTag({1}), rm.MatchTag({2}))
    route_map = compiled(rm.Sequence(10, matches=both))
    assert route_map.apply(view(tag=2)).permitted
    assert not route_map.apply(view(tag=3)).permitted
    assert not route_map.apply(view("11.0.0.0/8", tag=2)).permitted


def test_lines_of_both_families_test_each_route_by_its_own() -> None:
    both = (rm.MatchPrefix(V4, ("tens",)), rm.MatchPrefix(V6, ("six",)))
    route_map = compiled(rm.Sequence(10, matches=both))
    assert route_map.apply(view("10.1.0.0/16")).permitted
    assert route_map.apply(view("2001:db8:7::/48")).permitted
    assert not route_map.apply(view("2001:db9::/48")).permitted


def test_undefined_lists_are_remembered() -> None:
    matches = (rm.MatchPrefix(V4, ("nowhere",)), rm.MatchPrefix(V6, ("tens",)), rm.MatchCommunity(("none",)))
    assert compiled(rm.Sequence(10, matches=matches)).undefined == (
        ("ip prefix-list", "nowhere"),
        ("ipv6 prefix-list", "tens"),
        ("community-list", "none"),
    )


def test_the_default_route_map_sends_every_route_by_the_profile() -> None:
    made = rm.default_route_map("tunnel encap")
    assert made.name == "L3VPN-tunnel encap"
    route_map = rm.compile({made.name: made}, rm.Lists())[made.name]
    for prefix in ("10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"):
        assert route_map.apply(view(prefix)) == (True, 10, rm.Changes(encapsulate="tunnel encap"))


def test_compiled_maps_are_equal_when_map_and_lists_are() -> None:
    sequence = rm.Sequence(10, matches=(rm.MatchPrefix(V4, ("tens",)),))
    maps = {"m": rm.RouteMap("m", (sequence,))}
    assert rm.compile(maps, BOOK) == rm.compile(maps, BOOK)
    assert rm.compile(maps, BOOK) != rm.compile(maps, rm.Lists())


def test_internet_matches_every_route() -> None:
    everything = CommunityList("c", (CommunityEntry(1, True, frozenset({WellKnown.INTERNET})),))
    assert everything.permits(frozenset())
