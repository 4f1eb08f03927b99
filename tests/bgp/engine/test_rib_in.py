"""Adj-RIB-In: what is kept, what is refused and why, policy, soft clear, limits."""

from __future__ import annotations

from typing import Any

import pytest

from bgp.engine.decision import explain
from bgp.engine.paths import Reason
from bgp.wire import (
    IPV4_UNICAST,
    VPNV4,
    VPNV6,
    Action,
    AttributeFault,
    Nlri,
    Reach,
    Unreach,
    Update,
    WellKnownCommunity,
)
from stack.addr import Afi, Prefix
from stack.events import PolicyState
from stack.policy import routemap
from stack.policy.lists import PrefixEntry, PrefixList
from stack.policy.routemap import (
    Lists,
    MatchPrefix,
    RouteMap,
    Sequence,
    SetEncapsulate,
    SetLocalPreference,
    SetWeight,
)
from tests.bgp.engine.rib_world import OUR_AS, OUR_ID, TestPeer, World, attributes, ip, key


def policy(world: World, *sequences: Sequence, name: str = "M", lists: tuple[PrefixList, ...] = ()) -> None:
    shelf = {one.name: one for one in lists}
    compiled = routemap.compile({name: RouteMap(name, sequences)}, Lists(prefix_lists=shelf))
    rows: dict[Any, Any] = {("route-map", name): compiled[name]}
    rows |= {("prefix-list", n): one for n, one in shelf.items()}
    world.tell(PolicyState, rows)


def prefix_list(name: str, *entries: str, permit: bool = True) -> PrefixList:
    found = []
    for number, text in enumerate(entries, 1):
        prefix = Prefix.parse(text)
        found.append(PrefixEntry(number, permit, prefix))
    return PrefixList(name, Prefix.parse(entries[0]).afi, tuple(found))


def reasons(world: World, peer: TestPeer, family: Any) -> dict[str, Reason | None]:
    table = world.ribs.tables[peer.view.vrf, family]
    found = {}
    for path in world.ribs.peers[peer.key].adj_in[family].rows.values():
        net = table.nets[path.nlri.key]
        verdict = next(v for v in explain(net.paths, net.best) if v.path is path)
        from bgp.wire import key_text

        found[key_text(family, path.nlri.key)] = verdict.reason
    return found


def test_withdraw_and_reannounce_in_one_message() -> None:
    """RFC 4271 3.1: an UPDATE with the same prefix in both fields counts as if it were not withdrawn."""
    world = World()
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,))
    nlri = Nlri(key(IPV4_UNICAST, "10.1.0.0/16"))
    peer.say(
        Update(
            attributes=attributes(),
            reach=(Reach(IPV4_UNICAST, ip("192.0.2.1"), (nlri,)),),
            unreach=(Unreach(IPV4_UNICAST, (nlri,)),),
        )
    )
    assert list(world.routes()) == ["10.1.0.0/16"]


def test_rfc4271_9_1_4_an_announcement_replaces_the_former_one() -> None:
    world = World()
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,))
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", attrs=attributes(med=1))
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", attrs=attributes(med=2))
    assert world.routes()["10.1.0.0/16"].metric == 2
    assert len(world.ribs.tables["", IPV4_UNICAST].nets[key(IPV4_UNICAST, "10.1.0.0/16")].paths) == 1


def test_the_same_again_changes_nothing() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=(IPV4_UNICAST,), route_reflector_client=True)
    b = world.peer("192.0.2.2", families=(IPV4_UNICAST,), route_reflector_client=True)
    a.announce(IPV4_UNICAST, "10.1.0.0/16")
    b.log.clear()
    version = world.ribs.tables["", IPV4_UNICAST].counter.number
    a.announce(IPV4_UNICAST, "10.1.0.0/16")
    assert world.ribs.tables["", IPV4_UNICAST].counter.number == version
    assert b.log == []


# --- B14 and the other loops ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asn", "attrs", "reason"),
    [
        (65020, attributes((65020, OUR_AS)), Reason.AS_LOOP),
        (65020, attributes((65020, 0)), Reason.AS_ZERO),
        (OUR_AS, attributes((65030, 0)), Reason.AS_ZERO),  # RFC 7607: also on iBGP
        (65020, attributes((65021, 65020)), Reason.FIRST_AS),
        (65020, attributes(()), Reason.FIRST_AS),
        (OUR_AS, attributes((1,), originator_id=OUR_ID), Reason.ORIGINATOR),
        (OUR_AS, attributes((1,), originator_id=ip("9.9.9.9"), cluster_list=[ip("1.1.1.1"), OUR_ID]), Reason.CLUSTER),
    ],
)
def test_B14_loops_are_kept_and_not_used(asn: int, attrs: Any, reason: Reason) -> None:
    world = World()
    peer = world.peer("192.0.2.1", asn=asn, families=(IPV4_UNICAST,))
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", attrs=attrs)
    assert reasons(world, peer, IPV4_UNICAST) == {"10.1.0.0/16": reason}
    assert world.routes() == {}
    assert world.notified == []


def test_B14_a_path_of_1000_ases_is_used() -> None:
    world = World()
    peer = world.peer("192.0.2.1", asn=65020, families=(IPV4_UNICAST,))
    client = world.peer("192.0.2.2", families=(IPV4_UNICAST,))
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", attrs=attributes((65020, *range(1, 1000))))
    assert "10.1.0.0/16" in client.received


def test_rfc4271_9_1_2_allowas_in_counts_occurrences() -> None:
    world = World()
    peer = world.peer("192.0.2.1", asn=65020, families=(IPV4_UNICAST,), allowas_in=1)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", attrs=attributes((65020, OUR_AS)))
    peer.announce(IPV4_UNICAST, "10.2.0.0/16", attrs=attributes((65020, OUR_AS, OUR_AS)))
    assert list(world.routes()) == ["10.1.0.0/16"]


def test_octets_that_look_like_our_as_elsewhere_are_no_loop() -> None:
    """The search in raw octets is only a first look."""
    world = World()
    peer = world.peer("192.0.2.1", asn=65020, families=(IPV4_UNICAST,))
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", attrs=attributes((65020,), med=OUR_AS, communities=[OUR_AS]))
    assert list(world.routes()) == ["10.1.0.0/16"]


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1, 2, 3, 4, 7, 13, 14, 15])
def test_V03_a_reserved_vpn_label_is_kept_unusable_with_the_reason(label: int) -> None:
    world = World()
    world.vrf("red", "1:1", imports=("1:1",))
    peer = world.peer("192.0.2.1")
    peer.announce(VPNV4, "1:1 10.1.0.0/16", attrs=attributes((), ("1:1",)), label=label)
    assert reasons(world, peer, VPNV4) == {"1:1:10.1.0.0/16": Reason.RESERVED_LABEL}
    assert world.routes("red") == {}
    assert world.routes("") == {}
    peer.announce(VPNV4, "1:1 10.1.0.0/16", attrs=attributes((), ("1:1",)), label=16)
    assert list(world.routes("red")) == ["10.1.0.0/16"]


def test_V03_no_label_at_all() -> None:
    world = World()
    peer = world.peer("192.0.2.1")
    peer.announce(VPNV4, "1:1 10.1.0.0/16", label=None)
    assert reasons(world, peer, VPNV4) == {"1:1:10.1.0.0/16": Reason.NO_LABEL}


# --- policy -----------------------------------------------------------------------------------------------------------


def test_denied_routes_are_kept_and_come_back_with_the_policy() -> None:
    world = World()
    policy(world, Sequence(10, permit=False))
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,), route_map_in="M")
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", "10.2.0.0/16")
    assert set(reasons(world, peer, IPV4_UNICAST).values()) == {Reason.FILTERED}
    assert world.routes() == {}
    assert world.ribs.peers[peer.key].adj_in[IPV4_UNICAST].accepted == 0
    policy(world, Sequence(10, sets=(SetLocalPreference(300),)))
    assert sorted(world.routes()) == ["10.1.0.0/16", "10.2.0.0/16"]


def test_a_route_map_that_matches_prefixes_rules_each_route_by_itself() -> None:
    world = World()
    only = prefix_list("L", "10.1.0.0/16")
    policy(world, Sequence(10, matches=(MatchPrefix(Afi.IPV4, ("L",)),), sets=(SetWeight(7),)), lists=(only,))
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,), route_map_in="M")
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", "10.2.0.0/16")
    assert list(world.routes()) == ["10.1.0.0/16"]
    best = world.ribs.tables["", IPV4_UNICAST].best(key(IPV4_UNICAST, "10.1.0.0/16"))
    assert best is not None
    assert best.set.weight == 7


def test_prefix_list_in() -> None:
    world = World()
    policy(world, Sequence(10), lists=(prefix_list("L", "10.2.0.0/16"),))
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,), prefix_list_in="L")
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", "10.2.0.0/16")
    assert list(world.routes()) == ["10.2.0.0/16"]


def test_a_policy_that_does_not_exist_refuses_all_and_says_so_once() -> None:
    world = World()
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,), route_map_in="typo")
    peer.announce(IPV4_UNICAST, "10.1.0.0/16")
    assert world.routes() == {}
    assert [log.fields["reason"] for log in world.logs] == ["route map typo does not exist"]


def test_encapsulate_is_by_address_family() -> None:
    """`set ip` applies to VPNv4, `set ipv6` to VPNv6; a permitted route without either takes an LSP."""
    world = World()
    world.vrf("red", "1:1", imports=("1:1",))
    policy(world, Sequence(10, sets=(SetEncapsulate(Afi.IPV4, "tunnel encap"),)))
    peer = world.peer("192.0.2.1", families=(VPNV4, VPNV6), route_map_in="M")
    rts = attributes((), ("1:1",))
    peer.announce(VPNV4, "1:1 10.1.0.0/16", attrs=rts)
    peer.announce(VPNV6, "1:1 2001:db8::/32", attrs=rts, hop="::ffff:192.0.2.1")
    routes = world.routes("red")
    assert routes["10.1.0.0/16"].vias[0].encap == "tunnel encap"
    assert routes["2001:db8::/32"].vias[0].encap == ""
    assert {v.address for r in routes.values() for v in r.vias} == {ip("192.0.2.1")}  # ::ffff: is unwrapped
    policy(world, Sequence(10, sets=(SetEncapsulate(Afi.IPV6, "tunnel encap"),)))
    routes = world.routes("red")
    assert routes["10.1.0.0/16"].vias[0].encap == ""
    assert routes["2001:db8::/32"].vias[0].encap == "tunnel encap"


def test_soft_in_applies_policy_again_and_asks_the_peer_nothing() -> None:
    world = World()
    policy(world, Sequence(10))
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,), route_map_in="M")
    peer.announce(IPV4_UNICAST, "10.1.0.0/16")
    before = world.routes()
    outputs = world.ribs.soft(peer.key, "in", world.now)
    assert outputs == []
    world.run()
    assert world.routes() == before


# --- limits -----------------------------------------------------------------------------------------------------------


def test_rfc4486_4_maximum_prefix_ends_the_session() -> None:
    world = World()
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,), maximum_prefix=2)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", "10.2.0.0/16")
    assert world.notified == []
    peer.announce(IPV4_UNICAST, "10.3.0.0/16")
    [notified] = world.notified
    assert (notified.code, notified.subcode, notified.data.hex()) == (6, 1, "000101" + "00000002")


def test_rfc4760_7_a_disabled_family_is_emptied_and_ignored() -> None:
    world = World()
    world.vrf("red", "1:1", imports=("1:1",))
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST, VPNV4))
    rts = attributes((), ("1:1",))
    peer.announce(IPV4_UNICAST, "10.1.0.0/16")
    peer.announce(VPNV4, "1:1 10.1.0.0/16", attrs=rts)
    fault = AttributeFault(14, Action.DISABLE_FAMILY, "next hop", 0, "RFC 7606 7.11", family=VPNV4)
    peer.say(Update(errors=(fault,)))
    assert world.routes("red") == {}
    peer.announce(VPNV4, "1:1 10.2.0.0/16", attrs=rts)
    assert world.routes("red") == {}
    assert list(world.routes()) == ["10.1.0.0/16"]


def test_an_unnegotiated_family_is_counted_and_ignored() -> None:
    world = World()
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,))
    peer.announce(VPNV4, "1:1 10.1.0.0/16")
    peer.withdraw(VPNV4, "1:1 10.1.0.0/16")
    assert sum(world.ribs.counters.values()) == 2


def test_a_neighbour_that_goes_takes_its_routes_along() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=(IPV4_UNICAST,))
    b = world.peer("192.0.2.2", families=(IPV4_UNICAST,))
    a.announce(IPV4_UNICAST, "10.1.0.0/16", "10.2.0.0/16", attrs=attributes(local_pref=200))
    b.announce(IPV4_UNICAST, "10.2.0.0/16")
    world.down(a)
    assert {p: r.vias[0].address for p, r in world.routes().items()} == {"10.2.0.0/16": ip("192.0.2.2")}
    assert len(world.ribs.tables["", IPV4_UNICAST].nets) == 1


def test_a_full_table_goes_in_turns_and_none_of_it_is_used_meanwhile() -> None:
    world = World()
    a = world.peer("192.0.2.1", families=(IPV4_UNICAST,))
    b = world.peer("192.0.2.2", families=(IPV4_UNICAST,))
    routes = tuple(Nlri(bytes((10, n >> 8 & 255, n & 255, 24))) for n in range(45_000))
    a.say(Update(attributes=attributes(local_pref=200), reach=(Reach(IPV4_UNICAST, ip("192.0.2.1"), routes),)))
    assert len(world.routes()) == 45_000
    world.perform(world.ribs.peer_down(a.key, "gone", world.now))
    del world.peers[a.key]
    world.perform(world.ribs.wake(world.now))
    assert 0 < len(world.routes()) < 45_000  # one turn is not enough
    b.say(Update(attributes=attributes(), reach=(Reach(IPV4_UNICAST, ip("192.0.2.2"), routes[-5:]),)), then=False)
    world.run()
    assert {r.vias[0].address for r in world.routes().values()} == {ip("192.0.2.2")}
    assert len(world.routes()) == 5


def test_no_advertise_is_not_inbound_policy() -> None:
    world = World()
    peer = world.peer("192.0.2.1", families=(IPV4_UNICAST,))
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", attrs=attributes(communities=[WellKnownCommunity.NO_ADVERTISE]))
    assert list(world.routes()) == ["10.1.0.0/16"]
