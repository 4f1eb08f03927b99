"""By which kinds of ingress our labels may come back: RFC 4023 8.1, told to the label allocator as the scope of every label."""

from __future__ import annotations

import pytest
from attrs import evolve

from bgp.config import LabelMode
from bgp.engine.rib.ribs import SYNC_WITHIN, Ribs
from bgp.wire import IPV4_UNICAST, VPNV4
from stack.addr import Afi, Prefix, PrefixFec, SwapFec
from stack.events import (
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    LabelWanted,
    NextHopKey,
    NextHopRow,
    NextHopState,
    NextHopWanted,
    PolicyState,
    ProfileRow,
    ProfileState,
    Synced,
)
from stack.policy import routemap
from stack.policy.lists import PrefixEntry, PrefixList
from stack.policy.routemap import Lists, MatchPrefix, RouteMap, Sequence
from tests.bgp.engine.rib_world import TestPeer, World, attributes, config, ip, redistribute

OPEN, PROTECTED = frozenset(("mgre", "ethernet")), frozenset(("protected",))
RED = redistribute("connected", vrf="red")


def world() -> World:
    """It has a label to give."""
    made = World(config=config(RED))
    made.vrf("red", "1:1", imports=("1:1",), exports=("1:1",))
    made.select("red", "10.1.0.0/16")
    return made


def scope(world: World) -> frozenset[str]:
    scopes = {request.scope for request in world.state[LabelWanted][""].values()}
    assert len(scopes) == 1, "all labels go to the same neighbours"
    return scopes.pop()


def scopes_of(world: World) -> dict[str, frozenset[str]]:
    return {str(fec.prefix): request.scope for fec, request in world.state[LabelWanted][""].items()}


def interface(world: World, name: str, protection: str = "", kind: InterfaceKind = InterfaceKind.TUNNEL) -> None:
    world.tell(InterfaceState, {name: Interface(InterfaceRow(name, kind, protection=protection), 1, True, 1500)})


def profile(world: World, *, protected: bool) -> None:
    row = ProfileRow("Tunnel0", "encap", "Loopback0", ip("198.51.100.1"), usable=True, protected=protected)
    world.tell(ProfileState, {"core": row})


def reach(world: World, address: str, interface: str, *, usable: bool = True) -> None:
    world.tell(NextHopState, {NextHopKey("", ip(address)): NextHopRow(usable, "", 0, interface, 9)})


def spoke(world: World, number: int) -> TestPeer:
    """A FlexVPN spoke: behind a protected clone."""
    name, address = f"Virtual-Access{number}", f"10.1.1.{number}"
    interface(world, name, "default")
    found = world.peer(address, asn=65100)
    reach(world, address, name)
    return found


def test_T03_with_a_protected_l3vpn_profile_labels_come_by_ipsec_only() -> None:
    one = world()
    assert scope(one) == OPEN
    profile(one, protected=True)
    assert scope(one) == PROTECTED
    interface(one, "Ethernet0/0", kind=InterfaceKind.ETHERNET)
    one.peer("192.0.2.1")
    reach(one, "192.0.2.1", "Ethernet0/0")
    assert scope(one) == PROTECTED, "whatever carries the outer packets"
    profile(one, protected=False)
    assert scope(one) == OPEN


def test_T03_labels_of_flexvpn_come_by_ipsec_only() -> None:
    one = world()
    interface(one, "Virtual-Template1", "default", InterfaceKind.TEMPLATE)
    assert scope(one) == PROTECTED, "before the first spoke is there"
    first = spoke(one, 3)
    spoke(one, 4)
    assert scope(one) == PROTECTED
    one.down(first)
    assert scope(one) == PROTECTED


def test_mixed_neighbours_are_a_union_as_long_as_both_are_there() -> None:
    one = world()
    spoke(one, 3)
    interface(one, "Ethernet0/0", kind=InterfaceKind.ETHERNET)
    plain = one.peer("192.0.2.1")
    assert scope(one) == PROTECTED, "how it is reached is not known yet"
    assert NextHopKey("", ip("192.0.2.1")) in one.state[NextHopWanted][""]
    reach(one, "192.0.2.1", "Ethernet0/0")
    assert scope(one) == OPEN | PROTECTED
    one.down(plain)
    assert scope(one) == PROTECTED


def test_neighbours_that_get_no_labels_do_not_count() -> None:
    one = world()
    spoke(one, 3)
    interface(one, "Ethernet0/0", kind=InterfaceKind.ETHERNET)
    one.peer("192.0.2.1", families=(IPV4_UNICAST,))
    reach(one, "192.0.2.1", "Ethernet0/0")
    assert scope(one) == PROTECTED


def keep_from(world: World, prefix: str, name: str = "M") -> None:
    """A route map that permits everything but `prefix`."""
    lists = Lists(prefix_lists={"P": PrefixList("P", entries=(PrefixEntry(5, True, Prefix.parse(prefix)),))})
    deny = Sequence(10, permit=False, matches=(MatchPrefix(Afi.IPV4, ("P",)),))
    compiled = routemap.compile({name: RouteMap(name, (deny, Sequence(20)))}, lists)
    world.tell(PolicyState, {("route-map", name): compiled[name]})


def mixed() -> tuple[World, TestPeer, TestPeer]:
    """A protected neighbour that gets 10.1.0.0/16 and 10.2.0.0/16, one in clear that is not told the first."""
    one = world()
    one.select("red", "10.2.0.0/16")
    keep_from(one, "10.1.0.0/16")
    guarded = spoke(one, 3)
    interface(one, "Ethernet0/0", kind=InterfaceKind.ETHERNET)
    plain = one.peer("192.0.2.1", route_map_out="M")
    reach(one, "192.0.2.1", "Ethernet0/0")
    one.run()
    assert set(guarded.received) == {"1:1:10.1.0.0/16", "1:1:10.2.0.0/16"}
    assert set(plain.received) == {"1:1:10.2.0.0/16"}
    return one, guarded, plain


def test_T03_rfc4023_8_1_a_label_that_only_protected_neighbours_were_given() -> None:
    """Although the same node gives other labels to neighbours who send in clear."""
    one, guarded, plain = mixed()
    assert scopes_of(one) == {"10.1.0.0/16": PROTECTED, "10.2.0.0/16": OPEN | PROTECTED}
    one.down(guarded)
    assert scopes_of(one) == {"10.1.0.0/16": PROTECTED, "10.2.0.0/16": OPEN}, "it will be back"
    spoke(one, 3)
    assert scopes_of(one) == {"10.1.0.0/16": PROTECTED, "10.2.0.0/16": OPEN | PROTECTED}
    one.down(plain)
    assert scope(one) == PROTECTED


def test_T03_the_scope_of_a_label_follows_policy_and_routes() -> None:
    one, _, plain = mixed()
    keep_from(one, "10.2.0.0/16")
    assert set(plain.received) == {"1:1:10.1.0.0/16"}
    assert scopes_of(one) == {"10.1.0.0/16": OPEN | PROTECTED, "10.2.0.0/16": PROTECTED}
    one.select("red", "10.3.0.0/16")
    assert scopes_of(one)["10.3.0.0/16"] == OPEN | PROTECTED
    one.unselect("red", "10.1.0.0/16")
    assert scopes_of(one) == {"10.2.0.0/16": PROTECTED, "10.3.0.0/16": OPEN | PROTECTED}
    one.reconfigure(evolve(one.config, label_modes={(Afi.IPV4, "red"): LabelMode.PER_VRF}))
    assert scope(one) == OPEN | PROTECTED, "one label for all of the VRF: some route with it went out in clear"
    one.unselect("red", "10.3.0.0/16")
    assert scope(one) == PROTECTED, "the last one is gone"


def test_T03_a_neighbour_that_moves_between_clear_and_protected() -> None:
    one, _, _ = mixed()
    interface(one, "Tunnel5", "gold")
    reach(one, "192.0.2.1", "Tunnel5")
    assert scope(one) == PROTECTED
    reach(one, "192.0.2.1", "Ethernet0/0")
    assert scopes_of(one) == {"10.1.0.0/16": PROTECTED, "10.2.0.0/16": OPEN | PROTECTED}


def test_T03_our_labels_for_others_routes_too() -> None:
    one, _, _ = mixed()
    interface(one, "Virtual-Access4", "default")
    reach(one, "10.1.1.4", "Virtual-Access4")
    for prefix in ("10.1.0.0/16", "10.9.0.0/16"):
        one.peer("10.1.1.4", asn=65101).announce(VPNV4, f"7:7 {prefix}", attrs=attributes((65101,), ("7:7",)))
    swaps = {str(f.prefix): r.scope for f, r in one.state[LabelWanted][""].items() if isinstance(f, SwapFec)}
    assert swaps == {"10.1.0.0/16": PROTECTED, "10.9.0.0/16": PROTECTED}, "iBGP gets them with the next hop unchanged"
    one.peer("192.0.2.9", asn=65009, route_map_out="M")
    reach(one, "192.0.2.9", "Ethernet0/0")
    swaps = {str(f.prefix): r.scope for f, r in one.state[LabelWanted][""].items() if isinstance(f, SwapFec)}
    assert swaps == {"10.1.0.0/16": PROTECTED, "10.9.0.0/16": OPEN | PROTECTED}


def test_T03_a_protected_neighbours_session_flaps_and_its_labels_are_not_taken_in_clear() -> None:
    one, guarded, _ = mixed()
    for _ in range(3):
        one.down(guarded)
        assert scopes_of(one)["10.1.0.0/16"] == PROTECTED
        guarded = spoke(one, 3)
        assert scopes_of(one)["10.1.0.0/16"] == PROTECTED


def test_a_neighbour_that_is_away_for_a_restart_may_go_on_sending_in_clear() -> None:
    one, _, plain = mixed()
    view = evolve(plain.view, restartable=frozenset({VPNV4}), restart_time=60)
    one.perform(one.ribs.peer_up(view, one.now))
    one.run()
    del one.peers[plain.key]
    one.perform(one.ribs.peer_lost(plain.key, "test", one.now))
    one.run()
    assert scope(one) == OPEN | PROTECTED
    one.pass_time(61)
    one.pass_time(20)
    assert scope(one) == PROTECTED


@pytest.mark.parametrize("known", [True, False])
def test_the_way_may_be_known_before_or_after_the_neighbour_is_up(known: bool) -> None:
    one = world()
    interface(one, "Tunnel5", "gold")
    if known:
        reach(one, "192.0.2.1", "Tunnel5")
    one.peer("192.0.2.1")
    if not known:
        reach(one, "192.0.2.1", "Tunnel5")
    assert scope(one) == PROTECTED
    interface(one, "Tunnel5")
    assert scope(one) == OPEN
    interface(one, "Tunnel5", "gold")
    reach(one, "192.0.2.1", "Ethernet0/0")
    assert scope(one) == OPEN
    reach(one, "192.0.2.1", "Tunnel5")
    assert scope(one) == PROTECTED
    reach(one, "192.0.2.1", "", usable=False)
    assert scope(one) == PROTECTED, "a way that is lost for the moment changes nothing"


def test_labels_that_are_re_advertised_have_the_same_scope() -> None:
    one = world()
    spoke(one, 3)
    # An ASBR or a reflector with next-hop-self: our label for a label of somebody else's.
    neighbour = one.peer("10.1.1.4", asn=65101)
    interface(one, "Virtual-Access4", "default")
    reach(one, "10.1.1.4", "Virtual-Access4")
    neighbour.announce(VPNV4, "7:7 10.70.0.0/16", attrs=attributes((65101,), ("7:7",)))
    assert len(one.state[LabelWanted][""]) == 2
    assert scope(one) == PROTECTED


FEC = PrefixFec("red", Prefix.parse("10.1.0.0/16"))


def restarted(stood: frozenset[str]) -> World:
    """bgp's second incarnation, with somebody who does not come back; `stood`: the scope of its label before."""
    one = World(config=config(RED))
    one.ribs = Ribs(one.config, lambda n: bytes(n), restarted=True, stood={FEC: stood})
    one.ribs._expected = frozenset({("", ip("192.0.2.77"))})
    one.perform(one.ribs.start(one.now))
    one.vrf("red", "1:1", imports=("1:1",), exports=("1:1",))
    one.select("red", "10.1.0.0/16")
    one.select("red", "10.2.0.0/16")
    return one


@pytest.mark.parametrize("stood", [PROTECTED, OPEN, OPEN | PROTECTED])
def test_S01_T03_after_a_restart_labels_stay_as_they_were_until_the_neighbours_are_back(stood: frozenset[str]) -> None:
    """Never wider than before: what only protected neighbours had is not taken in clear for a moment."""
    one = restarted(stood)
    assert scopes_of(one) == {"10.1.0.0/16": stood, "10.2.0.0/16": PROTECTED}, "nothing is known yet"
    interface(one, "Virtual-Template1", "default", InterfaceKind.TEMPLATE)
    one.perform(one.ribs.receive(Synced(InterfaceState, "routing", 1), one.now))
    keep_from(one, "10.1.0.0/16")
    interface(one, "Ethernet0/0", kind=InterfaceKind.ETHERNET)
    one.peer("192.0.2.1", route_map_out="M")
    reach(one, "192.0.2.1", "Ethernet0/0")
    one.run()
    assert scopes_of(one) == {"10.1.0.0/16": stood | PROTECTED, "10.2.0.0/16": OPEN}
    spoke(one, 3)
    assert scopes_of(one) == {"10.1.0.0/16": stood | PROTECTED, "10.2.0.0/16": OPEN | PROTECTED}
    one.pass_time(SYNC_WITHIN + 1)
    assert scopes_of(one) == {"10.1.0.0/16": PROTECTED, "10.2.0.0/16": OPEN | PROTECTED}


def test_S01_after_a_restart_of_a_node_without_protection_new_labels_are_open_as_soon_as_that_is_known() -> None:
    one = restarted(OPEN)
    interface(one, "Ethernet0/0", kind=InterfaceKind.ETHERNET)
    one.perform(one.ribs.receive(Synced(InterfaceState, "routing", 1), one.now))
    one.run()
    assert scope(one) == OPEN


def test_nothing_is_left_of_neighbours_that_went() -> None:
    one = world()
    for number in range(3, 8):
        one.down(spoke(one, number))
        one.tell(InterfaceState, {f"Virtual-Access{number}": None})
    one.pass_time(20)
    scopes = one.ribs.scopes
    assert one.ribs.labels.given is None
    for table in (scopes.peers, scopes._at, scopes._by, scopes._over, scopes._protected, scopes._kinds, scopes._counts):
        assert not table
    assert scope(one) == OPEN
