"""Spoke to spoke: who wants a neighbour of a virtual template has it called, and answered by a virtual-access interface."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ikev2.config import Dpd, IpsecProfile
from ikev2.engine.lifecycle import COLLISION, LINGER, NEVER_DELETED, SUPERSEDED
from ikev2.engine.speaker import RESYNC_AFTER
from ikev2.wire.numbers import AttributeKind
from stack.addr import Prefix, parse_address
from stack.events import (
    AccessWanted,
    AddressOffered,
    BindingOffered,
    InterfaceKind,
    InterfaceState,
    RouteOffered,
    SaKey,
    SaRequest,
    SaState,
    SaWanted,
    Via,
)
from tests.ikev2.nodes import DELAY, Node, World
from tests.ikev2.spokes import (
    TEMPLATE,
    access,
    call,
    hub_address,
    interface_of,
    key_of,
    let_go,
    overlay,
    settle,
    spoke,
    star,
    together,
    traffic,
    until,
)


def reason(node: Node, key: SaKey) -> str:
    row = node.table(SaState)[key]
    assert not row.up
    assert not row.access
    return str(row.reason)


def test_a_spoke_calls_another() -> None:
    """B wants A:   IKE_SA_INIT, IKE_AUTH -->, both have Virtual-Access1, and each a route to the other's tunnel address:
    A's came in its CFG_REPLY, B's in a CFG_SET."""
    world = World()
    hub, a, b = star(world)
    call(b, a)
    assert reason(b, key_of(a)) == "negotiating"
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    assert access(b, a) == interface_of(a, b) == "Virtual-Access1"
    row = b.table(AccessWanted)["Virtual-Access1"]
    assert (row.template, row.local, row.remote, row.profile) == (TEMPLATE, b.address, a.address, "P")
    assert row.description == "IKEv2 peer spoke1.example"
    state = b.table(SaState)[key_of(a)]
    assert (state.identity, state.reason) == ("spoke1.example", "")
    assert a.table(SaState).keys() == {SaKey("Tunnel0"), SaKey("Virtual-Access1")}
    for node, peer in ((a, b), (b, a)):
        there = Prefix.host(overlay(peer))
        route = node.routes()[there]
        assert (route.vias, route.kind) == ((Via(interface="Virtual-Access1"),), "static")
        assert node.table(BindingOffered)["", there, b""] == (3,)
    assert [ike.template for ike in b.snapshot().ikes if ike.interface == "Virtual-Access1"] == [1]
    assert [want.access for want in b.snapshot().wants] == ["", "Virtual-Access1"]


def test_it_all_goes_when_the_last_owner_lets_go() -> None:
    world = World()
    hub, a, b = star(world)
    before = {topic: b.table(topic) for topic in (AccessWanted, RouteOffered, BindingOffered, AddressOffered)}
    call(b, a, owner="nhrp")
    call(b, a, owner="another")
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    let_go(b, a, owner="another")
    settle(world, 10, hub, a, b)
    assert together(a, b)
    let_go(b, a, owner="nhrp")
    assert key_of(a) not in b.table(SaState)
    settle(world, LINGER + 2, hub, a, b)
    assert {topic: b.table(topic) for topic in before} == before
    for node in (a, b):
        assert node.table(SaState).keys() == {SaKey("Tunnel0")}
        assert len(node.snapshot().ikes) == len(node.sad.inbound) == 1
        assert not node.table(AccessWanted)


def test_the_answer_is_what_the_peer_has_brought() -> None:
    """Without a second SA; and it stays when the want goes, for it is the peer's."""
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    count = len(world.wire)
    call(a, b)
    assert access(a, b) == "Virtual-Access1"
    settle(world, 3, hub, a, b)
    assert len(world.wire) - count < 5, "the announcement of B's address"
    assert len(a.snapshot().ikes) == 2
    let_go(a, b)
    settle(world, LINGER + 2, hub, a, b)
    assert together(a, b)
    assert key_of(b) not in a.table(SaState)


def test_the_responder_s_want_calls_again_when_the_initiator_ends_it() -> None:
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    call(a, b)
    let_go(b, a)
    settle(world, 0.3, hub, a, b)
    assert not a.table(SaState)[key_of(b)].up
    took = until(world, lambda: together(a, b), hub, a, b)
    assert took < 2
    assert access(a, b) == "Virtual-Access1"
    assert [ike.initiator for ike in a.snapshot().ikes if ike.interface == "Virtual-Access1"] == [True]


@pytest.mark.parametrize("late", [0.0, 0.5 * DELAY, 1.5 * DELAY, 2.5 * DELAY, 3.5 * DELAY, 5 * DELAY])
def test_both_ends_call_at_once(late: float) -> None:
    """One virtual-access interface a peer, one IKE SA left, never a moment without an SA that the other end takes."""
    world = World()
    hub, a, b = star(world)
    call(a, b)
    world.run(late)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    gaps = len(a.gaps) + len(b.gaps)
    for _ in range(int((SUPERSEDED + LINGER + NEVER_DELETED) * 10)):
        settle(world, 0.1, hub, a, b)
        assert together(a, b)
        assert access(a, b) == access(b, a) == "Virtual-Access1"
    assert len(a.gaps) + len(b.gaps) == gaps == 0
    for node in (a, b):
        assert len(node.snapshot().ikes) == len(node.sad.inbound) == 2
        assert len(node.table(AccessWanted)) == 1


def test_of_two_that_called_at_once_each_may_let_go() -> None:
    world = World()
    hub, a, b = star(world)
    call(a, b)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, COLLISION + LINGER + 2, hub, a, b)
    (ike,) = [ike for ike in a.snapshot().ikes if ike.interface == "Virtual-Access1"]
    first, second = (b, a) if ike.initiator else (a, b)
    let_go(first, second)
    settle(world, 5, hub, a, b)
    assert together(a, b), "it was begun by the other"
    let_go(second, first)
    settle(world, LINGER + 2, hub, a, b)
    assert not a.table(AccessWanted)
    assert not b.table(AccessWanted)


def test_let_go_and_wanted_again_at_once() -> None:
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    let_go(b, a)
    call(b, a)
    until(world, lambda: together(a, b) and bool(access(b, a)), hub, a, b)
    settle(world, LINGER + SUPERSEDED + 2, hub, a, b)
    assert together(a, b)
    assert access(b, a) == "Virtual-Access1"
    for node in (a, b):
        assert len(node.snapshot().ikes) == len(node.sad.inbound) == 2


def test_let_go_before_there_is_an_answer() -> None:
    world = World()
    hub, a, b = star(world)
    for late in (0.0, DELAY, 1.5 * DELAY, 2.5 * DELAY, 3.5 * DELAY):
        call(b, a)
        world.run(late)
        let_go(b, a)
        settle(world, 40, hub, a, b)
        for node in (a, b):
            assert not node.table(AccessWanted)
            assert len(node.snapshot().ikes) == len(node.sad.inbound) == 1
        assert key_of(a) not in b.table(SaState)


def test_nothing_keeps_it_up_but_wants() -> None:
    """`dpd on-demand` asks nothing where nothing is sent: when nobody wants it any more no message has been sent for it but
    the DELETE, and while it is wanted it rekeys."""
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 5, hub, a, b)
    count = len(world.wire)
    world.run(600)
    between = [ends for _, _, ends in world.wire[count:] if hub_address() not in (ends.local, ends.remote)]
    assert between == []
    assert together(a, b)


def test_a_responder_whose_peer_is_dead_finds_out_when_it_has_something_to_send() -> None:
    """N09: the shortcut's peer dies: the tunnel is gone within the time that DPD takes."""
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    b.alive = False
    for _ in range(6):
        world.run(5)
        if SaKey("Virtual-Access1") in a.sad.bundles:
            sa = a.outbound(SaKey("Virtual-Access1"))
            assert sa is not None
            sa.use.last = world.now
    until(world, lambda: not interface_of(a, b), hub, a)
    assert SaKey("Virtual-Access1") not in a.table(SaState)
    assert Prefix.host(overlay(b)) not in a.routes()
    assert ("", Prefix.host(overlay(b)), b"") not in a.table(BindingOffered)
    assert a.up("Tunnel0")


def test_N09_an_initiator_whose_peer_is_dead_says_so_and_goes_on_trying() -> None:
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    sa = b.outbound(SaKey("Virtual-Access1"))
    assert sa is not None
    a.alive = False
    sa.use.last = world.now + 0.1
    took = until(world, lambda: not b.table(SaState)[key_of(a)].up, hub, b)
    assert took < 10 + 2.5 + 5 * 2, "dpd 10 2: the interval, a look every quarter of it, and five questions"
    assert "dead peer" in reason(b, key_of(a))
    settle(world, 1, hub, b)
    assert not b.table(AccessWanted)
    a.alive = True
    until(world, lambda: bool(access(b, a)), hub, a, b, within=90)


# --- what cannot be called -------------------------------------------------------------------------------------------------


def test_a_template_that_is_not_there_yet() -> None:
    world = World()
    hub, a, b = star(world)
    key = SaKey("Virtual-Template7", a.address)
    b.hear(SaWanted, {key: SaRequest("P", b.address, a.address)}, "nhrp")
    assert reason(b, key) == "there is no interface Virtual-Template7"
    settle(world, 100, hub, a, b)
    assert reason(b, key) == "there is no interface Virtual-Template7"
    b.interface("Virtual-Template7", kind=InterfaceKind.TEMPLATE, unnumbered="Tunnel0")
    until(world, lambda: b.table(SaState)[key].up, hub, a, b)
    assert b.table(SaState)[key].access == "Virtual-Access1"
    assert b.table(AccessWanted)["Virtual-Access1"].template == "Virtual-Template7"
    assert a.table(AccessWanted)["Virtual-Access1"].template == TEMPLATE


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"protection": ""}, "Virtual-Template1 has no tunnel protection"),
        ({"local": b""}, "the tunnel has no source address"),
        ({"local": bytes(4)}, "the tunnel has no source address"),
        ({"protection": "Q"}, "IPsec profile Q is not defined"),
        ({"remote": b""}, "it is not said where the peer is"),
        ({"remote": bytes(16)}, "IKE runs over IPv4, and the tunnel does not"),
        ({"remote": parse_address("192.0.2.12")}, "the address is our own"),
        ({"remote": hub_address()}, "Tunnel0 has these ends already"),
    ],
)
def test_a_want_that_cannot_be_says_why(change: dict[str, Any], why: str) -> None:
    world = World()
    hub, a, b = star(world)
    b.interface("Ethernet0/0", "192.0.2.12/24", kind=InterfaceKind.ETHERNET)
    b.interface(TEMPLATE, kind=InterfaceKind.TEMPLATE, unnumbered="Tunnel0", protection=change.get("protection", "P"))
    remote = change.get("remote", a.address)
    key = SaKey(TEMPLATE, remote)
    b.hear(SaWanted, {key: SaRequest("", change.get("local", b.address), remote)}, "nhrp")
    assert reason(b, key) == why
    settle(world, 30, hub, a, b)
    assert reason(b, key) == why
    assert not a.table(AccessWanted)
    b.hear(SaWanted, {key: None}, "nhrp")
    assert key not in b.table(SaState)


def test_the_template_s_own_protection_is_meant_if_the_request_names_none() -> None:
    world = World()
    hub, a, b = star(world)
    call(b, a, profile="")
    until(world, lambda: together(a, b), hub, a, b)
    assert b.table(AccessWanted)["Virtual-Access1"].profile == "P"


def test_the_template_s_protection_changes() -> None:
    world = World()
    hub, a, b = star(world)
    config = evolve(b.config, ipsec_profiles={"P": IpsecProfile("P"), "Q": IpsecProfile("Q")})
    b.reconfigure(config)
    call(b, a, profile="")
    until(world, lambda: together(a, b), hub, a, b)
    b.interface(TEMPLATE, kind=InterfaceKind.TEMPLATE, unnumbered="Tunnel0", protection="Q")
    until(world, lambda: bool(access(b, a)) and b.table(AccessWanted)["Virtual-Access1"].profile == "Q", hub, a, b)


def test_a_peer_that_answers_to_nobody_is_tried_again() -> None:
    world = World()
    hub, b = star(world, 1)
    nobody = parse_address("192.0.2.99")
    key = SaKey(TEMPLATE, nobody)
    b.hear(SaWanted, {key: SaRequest("P", b.address, nobody)}, "nhrp")
    settle(world, 120, hub, b)
    assert reason(b, key) == "no answer from 192.0.2.99"
    assert [want.attempts for want in b.snapshot().wants if want.key == key] >= [2]
    assert not b.table(AccessWanted)


def test_a_peer_without_a_template_refuses() -> None:
    world = World()
    hub, b = star(world, 1)
    a = spoke(world, 5, virtual_template=None)
    settle(world, 2, hub, a, b)
    call(b, a)
    settle(world, 5, hub, a, b)
    assert "TS_UNACCEPTABLE" in reason(b, key_of(a))
    assert not b.table(AccessWanted)
    assert not a.table(AccessWanted)


def test_too_many_virtual_access_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    hub, a, b, c = star(world, 3)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b, c)
    monkeypatch.setattr("ikev2.engine.access.MAX_ACCESS", 1)
    call(b, c)
    until(world, lambda: reason(b, key_of(c)) == "too many virtual access interfaces", hub, a, b, c)
    settle(world, 1, hub, a, b, c)
    assert list(b.table(AccessWanted)) == ["Virtual-Access1"]
    assert together(a, b)
    let_go(b, a)
    until(world, lambda: bool(access(b, c)), hub, a, b, c, within=90)


# --- addresses -----------------------------------------------------------------------------------------------------------


def test_an_unnumbered_clone_asks_for_no_address() -> None:
    world = World()
    hub, a, b = star(world)
    before = a.table(AddressOffered), b.table(AddressOffered)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    assert (a.table(AddressOffered), b.table(AddressOffered)) == before
    (peer,) = [peer for peer in a.speaker.node.peers.values() if peer.access]
    assert not peer.leases
    assert AttributeKind.INTERNAL_IP4_ADDRESS not in {one.kind for one in peer.attributes}
    (peer,) = [peer for peer in b.speaker.node.peers.values() if peer.access]
    assert peer.received == ()


def test_the_address_that_is_announced_comes_later() -> None:
    """The spoke has no overlay address when the tunnel to the other is made, and gets it from the hub afterwards."""
    world = World()
    hub, a, b = star(world)
    b.hear(InterfaceState, {"Tunnel0": evolve(b.said[InterfaceState]["Tunnel0"], addresses={})})
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    mine = Prefix.host(parse_address("10.0.0.11"))
    assert mine not in a.routes()
    b._interface("Tunnel0")
    assert overlay(b) == mine.network
    # even before routing has told what the clone borrows
    world.run(1)
    assert mine in a.routes()
    settle(world, 1, hub, a, b)
    assert a.table(BindingOffered)["", mine, b""] == (3,)


def test_another_address_takes_the_place_of_the_one_that_was_announced() -> None:
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    before = Prefix.host(overlay(b))
    b.hear(AddressOffered, {})
    old = b.said[InterfaceState]["Tunnel0"]
    (row,) = old.addresses.values()
    b.hear(InterfaceState, {"Tunnel0": evolve(old, addresses={parse_address("10.0.0.77"): row})})
    settle(world, 1, hub, a, b)
    assert Prefix.host(parse_address("10.0.0.77")) in a.routes()
    assert before not in a.routes()


def test_the_hub_gives_the_same_address_again_though_a_clone_borrows_it() -> None:
    """Tunnel0's address is also that of the clones, which borrow it: it is nobody else's for that."""
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    before = b.table(AddressOffered)
    b.clear(remote=hub_address())
    until(world, lambda: b.up("Tunnel0"), hub, a, b)
    settle(world, 2, hub, a, b)
    assert b.table(AddressOffered) == before
    assert not b.reasons("an address is refused")


# --- whose it is -----------------------------------------------------------------------------------------------------------


def test_two_peers_behind_one_address_are_not_taken_for_each_other() -> None:
    """Both have called from 203.0.113.1: which of them is meant nobody can say, so neither answers."""
    world = World()
    hub, b = star(world, 1)
    outside = parse_address("203.0.113.1")
    inside = []
    for number, shift in ((4, 1000), (5, 2000)):
        node = spoke(world, number)
        world.nat[node.address] = (outside, shift)
        inside.append(node)
    settle(world, 3, hub, b, *inside)
    for node in inside:
        call(node, b)
    until(world, lambda: len(b.table(AccessWanted)) == 2, hub, b, *inside)
    key = SaKey(TEMPLATE, outside)
    b.hear(SaWanted, {key: SaRequest("P", b.address, outside)}, "nhrp")
    settle(world, 5, hub, b, *inside)
    assert not b.table(SaState)[key].up
    let_go(inside[0], b)
    settle(world, 2, hub, b, *inside)
    b.hear(SaWanted, {key: None}, "nhrp")
    b.hear(SaWanted, {key: SaRequest("P", b.address, outside)}, "nhrp")
    row = b.table(SaState)[key]
    assert (row.up, row.identity) == (True, "spoke5.example")


def test_a_second_want_for_the_same_peer_by_another_template() -> None:
    """Each template has an interface of its own."""
    world = World()
    hub, a, b = star(world)
    b.interface("Virtual-Template2", kind=InterfaceKind.TEMPLATE, unnumbered="Tunnel0")
    call(a, b)
    until(world, lambda: together(a, b), hub, a, b)
    key = SaKey("Virtual-Template2", a.address)
    b.hear(SaWanted, {key: SaRequest("P", b.address, a.address)}, "nhrp")
    settle(world, 2, hub, a, b)
    assert b.table(SaState)[key].access == "Virtual-Access2"
    assert b.table(AccessWanted)["Virtual-Access2"].template == "Virtual-Template2"
    assert b.table(AccessWanted)["Virtual-Access1"].template == TEMPLATE


# --- crashes ---------------------------------------------------------------------------------------------------------------


def test_S01_ikev2_of_the_caller_crashes_and_the_answer_stands() -> None:
    """Not even for a moment is the row withdrawn: nhrp would take its shortcuts away."""
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    before = b.table(SaState)[key_of(a)]
    wanted = b.said.pop(SaWanted)
    b.crash()
    world.run(1)
    b.begin()
    assert b.table(SaState)[key_of(a)] == before, "although it is not heard yet who wants it"
    for key, request in wanted.items():
        b.hear(SaWanted, {key: request})
    settle(world, 3, hub, a, b)
    assert access(b, a) == "Virtual-Access1"
    assert b.gaps == a.gaps == []
    settle(world, RESYNC_AFTER + LINGER + 2, hub, a, b)
    assert together(a, b)
    assert len(a.snapshot().ikes) == 2
    let_go(b, a)
    settle(world, LINGER + 2, hub, a, b)
    assert not a.table(AccessWanted)
    assert not b.table(AccessWanted)


def test_S01_who_wanted_it_is_gone_after_the_crash() -> None:
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    del b.said[SaWanted][key_of(a)]
    b.crash()
    b.begin()
    assert b.table(SaState)[key_of(a)].up
    settle(world, RESYNC_AFTER + 1, hub, a, b)
    assert key_of(a) not in b.table(SaState)
    assert not b.table(AccessWanted)


def test_S01_the_callee_crashes_and_its_want_is_answered_by_what_stands() -> None:
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    call(a, b)
    before = a.table(SaState)[key_of(b)]
    a.crash()
    a.begin()
    assert a.table(SaState)[key_of(b)] == before
    settle(world, RESYNC_AFTER + LINGER + SUPERSEDED, hub, a, b)
    assert access(a, b) == "Virtual-Access1"
    assert together(a, b)
    assert a.gaps == []


def test_a_peer_that_comes_back_with_nothing_keeps_its_interface() -> None:
    world = World()
    hub, a, b = star(world)
    call(b, a)
    call(a, b)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, COLLISION + LINGER + 2, hub, a, b)
    b.vanish()
    settle(world, 1, hub, a)
    b = spoke(world, 2)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, SUPERSEDED + LINGER + 2, hub, a, b)
    assert access(a, b) == access(b, a) == "Virtual-Access1"
    assert len(a.snapshot().ikes) == len(a.sad.inbound) == 2


def held_by_the_sad(*nodes: Node) -> None:
    """What is said to be up can be sent to; and a virtual-access interface is protected, whatever has become of its SA."""
    for node in nodes:
        for key, row in node.table(SaState).items():
            bearer = SaKey(row.access) if row.access else key
            assert row.up == (node.outbound(bearer) is not None)
        assert all(row.profile for row in node.table(AccessWanted).values())


@pytest.mark.parametrize("who", ["the peer", "ours", "the operator", "nobody"])
def test_E04_without_an_SA_a_shortcut_is_not_up_and_its_interface_stays_protected(who: str) -> None:
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    if who == "the peer":
        a.clear(remote=b.address)
    elif who == "ours":
        let_go(b, a)
    elif who == "the operator":
        b.clear(remote=a.address)
    for _ in range(200):
        settle(world, 0.05, hub, a, b)
        held_by_the_sad(a, b)
    assert together(a, b) == (who != "ours")


# --- chaos -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.lists(st.tuples(st.sampled_from("abcrRx"), st.integers(0, 1), st.floats(0.0, 3.0)), min_size=1, max_size=12))
def test_S07_whatever_happens_it_ends_as_it_is_wanted(steps: list[tuple[str, int, float]]) -> None:
    """Calls, let-goes, crashes, clears and loss in any order: once it is quiet, both ends agree, and nothing is left over."""
    world = World()
    hub, *spokes = star(world)
    wants = [False, False]
    for what, who, pause in steps:
        one, other = spokes[who], spokes[1 - who]
        if what in "ab":
            wants[who] = what == "a"
            (call if wants[who] else let_go)(one, other)
        elif what == "c":
            one.clear(remote=other.address)
        elif what == "x":
            world.drop = lambda octets, _source, _destination: len(octets) % 3 == 0
        else:
            one.crash()
            settle(world, 0.2 if what == "r" else 2.0, hub, *spokes)
            one.begin()
        settle(world, pause, hub, *spokes)
        world.drop = lambda _octets, _source, _destination: False
        held_by_the_sad(*spokes)
    for _ in range(160):
        world.run(1)
        settle(world, 0.01, *spokes)
        traffic(world, hub, *spokes)
    a, b = spokes
    if any(wants):
        assert together(a, b)
    for node, peer, wanted in ((a, b, wants[0]), (b, a, wants[1])):
        row = node.table(SaState).get(key_of(peer))
        assert (row is not None) == wanted
        if row is not None:
            assert row.up
            assert access(node, peer) == interface_of(node, peer)
        assert len([ike for ike in node.snapshot().ikes if ike.ends.remote == peer.address]) <= 1
        assert len(node.table(AccessWanted)) <= 1


def test_dpd_periodic_between_spokes() -> None:
    world = World()
    hub, b = star(world, 1)
    a = spoke(world, 5, dpd=Dpd(10, 2, on_demand=False))
    settle(world, 2, hub, a, b)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    b.alive = False
    took = until(world, lambda: not interface_of(a, b), hub, a, within=60)
    assert took < 10 + 5 * 2 + 1
