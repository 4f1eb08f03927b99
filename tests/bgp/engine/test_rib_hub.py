"""A hub's tables: many alike neighbours that come and go, told of each other; labels that are swapped, and whose they are.

spokes 1..N (AS 65100) --VPNv4 routes--> hub --the same, next hop and label its own--> the other spokes
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp.engine.rib import adj_out
from bgp.engine.rib.replay import PIECE, Replay
from bgp.wire import VPNV4, vpn_key
from stack.addr import RD, Prefix
from stack.events import LabelWanted, NextHopKey, NextHopRow, NextHopState, VrfState
from tests.bgp.engine.rib_world import TestPeer, World, attributes, config, ip, redistribute

ATTRS = attributes((65100,), ("1:1",))


def spoke(world: World, number: int, *, asn: int = 65100) -> TestPeer:
    return world.peer(f"10.1.{number >> 8}.{number & 255}", asn=asn)


def announce(peer: TestPeer, number: int, count: int = 2, label: int = 16) -> None:
    routes = [f"1:1 10.{100 + n}.{number >> 8}.{number & 255}/32" for n in range(count)]
    for n, one in enumerate(routes):
        peer.announce(VPNV4, one, attrs=ATTRS, label=label + n)


def gold(world: World, *, imports: tuple[str, ...] = ("1:1",), rd: str = "1:1", name: str = "gold") -> None:
    world.vrf(name, rd, imports=imports, exports=imports)


# --- nobody gets its own routes back, and who is alone needs no label ---------------------------------------------------


def test_a_route_of_the_only_neighbour_needs_no_label_until_there_is_another() -> None:
    """A spoke whose only neighbour is the hub: what it learns has no label of its own (`nolabel/18`)."""
    world = World()
    one = spoke(world, 1)
    announce(one, 1)
    assert world.state[LabelWanted][""] == {}
    two = spoke(world, 2)
    assert len(world.state[LabelWanted][""]) == 2
    assert len(two.received) == 2
    assert one.log == []
    announce(two, 2, label=30)
    assert (len(one.received), len(two.received)) == (2, 2)
    world.down(two)
    assert world.state[LabelWanted][""] == {}
    assert one.received == {}
    spoke(world, 2)
    assert len(world.state[LabelWanted][""]) == 2


def test_the_only_neighbour_is_told_when_its_route_takes_the_place_of_another_s() -> None:
    world = World()
    hub, one = world.peer("192.0.2.1"), spoke(world, 1)
    hub.announce(VPNV4, "1:1 10.100.0.0/16", attrs=attributes((), ("1:1",), local_pref=50))
    assert list(one.received) == ["1:1:10.100.0.0/16"]
    one.announce(VPNV4, "1:1 10.100.0.0/16", attrs=ATTRS)
    assert one.received == {}
    one.withdraw(VPNV4, "1:1 10.100.0.0/16")
    assert list(one.received) == ["1:1:10.100.0.0/16"]


def test_with_a_neighbour_in_another_group_the_label_stays() -> None:
    world = World()
    one, other = spoke(world, 1), spoke(world, 2, asn=65101)
    announce(one, 1)
    assert len(other.received) == 2
    assert len(world.state[LabelWanted][""]) == 2
    assert one.log == []


# --- whose the packets under a swapped label are ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vrfs", "vrf"),
    [
        ((), ""),
        ((("gold", "1:1", ("1:1",)),), "gold"),
        ((("gold", "1:1", ("9:9",)),), "gold"),
        ((("iron", "2:2", ("1:1",)),), "iron"),
        ((("iron", "2:2", ("9:9",)),), ""),
        ((("gold", "1:1", ("1:1",)), ("iron", "2:2", ("1:1",))), "gold"),
        ((("gold", "3:3", ("1:1",)), ("iron", "2:2", ("1:1",))), ""),
        ((("gold", "1:1", ("9:9",)), ("iron", "2:2", ("1:1",))), "iron"),
    ],
)
def test_a_swapped_label_names_its_vrf_and_never_guesses(vrfs: tuple[Any, ...], vrf: str) -> None:
    world = World()
    one, _ = spoke(world, 1), spoke(world, 2)
    announce(one, 1)

    def told() -> set[str]:
        return {request.vrf for request in world.state[LabelWanted][""].values()}

    assert told() == {""}
    for name, rd, imports in vrfs:
        gold(world, name=name, rd=rd, imports=imports)
    assert told() == {vrf}
    world.tell(VrfState, {name: None for name, _, _ in vrfs})
    assert told() == {""}


def test_the_next_hop_of_one_spoke_moves_its_own_routes_only() -> None:
    world = World()
    gold(world)
    peers = [spoke(world, n) for n in range(1, 5)]
    for n, peer in enumerate(peers, 1):
        announce(peer, n)
    hop = NextHopKey("", ip("10.1.0.2"), labelled=True)
    before = dict(peers[0].received)
    world.tell(NextHopState, {hop: NextHopRow(False, "gone", id=world.hop_ids[hop])})
    gone = before.keys() - peers[0].received.keys()
    assert gone == {"1:1:10.100.0.2/32", "1:1:10.101.0.2/32"}
    world.tell(NextHopState, {hop: NextHopRow(True, "", id=world.hop_ids[hop])})
    assert peers[0].received == before


# --- many --------------------------------------------------------------------------------------------------------------


def all_hold_the_same(world: World, peers: dict[int, TestPeer], routes: dict[int, int]) -> None:
    """What each was told is what the others announced."""
    for number, peer in peers.items():
        names = {
            f"1:1:10.{100 + n}.{other >> 8}.{other & 255}/32"
            for other, count in routes.items()
            if other != number
            for n in range(count)
        }
        assert set(peer.received) == names
        for name, (_, hop, labels) in peer.received.items():
            assert hop == "198.51.100.1"
            path = next(iter(world.ribs.groups.by_key.values())).advertised[_key(name)]
            assert labels == (world.ribs.swaps.label(world.ribs.tables["", VPNV4], path).label,)


def _key(name: str) -> bytes:
    first, second, prefix = name.split(":")
    return vpn_key(RD.parse(f"{first}:{second}"), Prefix.parse(prefix))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("come", "come", "come", "go", "announce", "announce", "withdraw", "refresh", "time")),
        st.integers(1, 12),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.booleans())
def test_whoever_comes_late_is_told_what_the_others_were(steps: list[tuple[str, int]], drain: bool) -> None:
    """With the pieces of a large group (from three members on here), and with changes that wait to be told together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adj_out, "MANY", 3)
        world = World()
        gold(world)
        peers: dict[int, TestPeer] = {}
        routes: dict[int, int] = {}
        for what, number in steps:
            if what == "come" and number not in peers:
                peers[number] = spoke(world, number)
            elif what == "go" and number in peers:
                world.down(peers.pop(number))
                routes.pop(number, None)
            elif what == "announce" and number in peers:
                count = routes[number] = 1 + (routes.get(number, 0) % 3)
                announce(peers[number], number, count, label=16 + 5 * number + count)
                for n in range(count, 3):
                    peers[number].withdraw(VPNV4, f"1:1 10.{100 + n}.0.{number}/32")
            elif what == "withdraw" and number in routes:
                for n in range(3):
                    peers[number].withdraw(VPNV4, f"1:1 10.{100 + n}.0.{number}/32")
                del routes[number]
            elif what == "refresh" and number in peers:
                world.perform(world.ribs.refresh(peers[number].key, VPNV4, world.now))
                if drain:
                    world.run()
            elif what == "time":
                world.pass_time(1.0)
        world.pass_time(2.0)
        all_hold_the_same(world, peers, routes)
        for number in list(peers):
            world.down(peers.pop(number))
        world.pass_time(30.0)
        assert world.state[LabelWanted][""] == {}


def test_in_a_large_group_changes_are_told_together() -> None:
    """Each of 100 spokes in its own moment: nobody is woken 100 times, and all hold all after a moment."""
    world = World()
    gold(world)
    peers = {n: spoke(world, n) for n in range(1, 101)}
    world.pass_time(1.0)
    turns = 0
    for number, peer in peers.items():
        announce(peer, number, 1)
        turns += sum(world.ribs.has_outgoing(one.key) for one in peers.values())
        world.now += 0.001
    world.pass_time(1.0)
    all_hold_the_same(world, peers, dict.fromkeys(peers, 1))
    assert turns == 0
    messages = [sum(one[0] == "+" for one in peer.log) for peer in peers.values()]
    assert max(messages) <= 110
    deadline = world.ribs.deadline()
    assert deadline is None or deadline > world.now


def test_a_piece_is_encoded_again_only_when_something_in_it_changed() -> None:
    encoded: list[int] = []

    def encode(keys: Any) -> list[bytes]:
        encoded.append(len(list(keys)))
        return [b"".join(keys)]

    keys = [n.to_bytes(4) for n in range(1000)]
    replay = Replay.of(keys)
    first = list(replay.messages(encode))
    assert b"".join(one for (one,) in first) == b"".join(keys)
    assert len(encoded) == -(-1000 // PIECE)
    encoded.clear()
    assert list(replay.messages(encode)) == first
    assert encoded == []
    replay.note(keys[500])
    replay.drop(keys[900])
    replay.note(b"new!")
    told = b"".join(one for (one,) in replay.messages(encode))
    assert len(encoded) == 2  # the tail's and the middle's; the new one is in the tail
    assert (keys[900] in told, told.count(b"new!")) == (False, 1)
    for key in keys:
        replay.drop(key)
    replay.drop(b"new!")
    assert (len(replay), len(replay.pieces)) == (0, 0)


def test_the_default_route_and_connected_ones_go_to_late_spokes_too() -> None:
    world = World(config=config(redistribute("connected", "static", vrf="gold", default=True)))
    gold(world)
    world.select("gold", "0.0.0.0/0", "static", null=True)
    world.select("gold", "192.168.60.0/24")
    late = [spoke(world, n) for n in range(1, 80)]
    assert all(sorted(one.received) == ["1:1:0.0.0.0/0", "1:1:192.168.60.0/24"] for one in late)
    assert all(len(one.ends) == 1 for one in late)
