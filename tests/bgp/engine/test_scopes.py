"""By which kinds of ingress our labels may come back: RFC 4023 8.1, told to the label allocator as the scope of every label."""

from __future__ import annotations

import pytest

from bgp.engine.rib.ribs import SYNC_WITHIN
from bgp.wire import IPV4_UNICAST, VPNV4
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
    ProfileRow,
    ProfileState,
)
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


def test_S01_after_a_restart_nothing_is_narrowed_before_the_neighbours_are_back() -> None:
    one = world()
    one.ribs.scopes.restarting, one.ribs._sync_at = True, one.now + SYNC_WITHIN  # as in a second incarnation
    one.ribs._expected = frozenset({("", ip("192.0.2.77"))})  # somebody who does not come back
    interface(one, "Virtual-Template1", "default", InterfaceKind.TEMPLATE)
    spoke(one, 3)
    assert scope(one) == OPEN | PROTECTED
    one.pass_time(SYNC_WITHIN + 1)
    assert scope(one) == PROTECTED


def test_nothing_is_left_of_neighbours_that_went() -> None:
    one = world()
    for number in range(3, 8):
        one.down(spoke(one, number))
        one.tell(InterfaceState, {f"Virtual-Access{number}": None})
    one.pass_time(20)
    scopes = one.ribs.scopes
    for table in (scopes.peers, scopes._at, scopes._by, scopes._over, scopes._protected, scopes._kinds, scopes._counts):
        assert not table
    assert scope(one) == OPEN
