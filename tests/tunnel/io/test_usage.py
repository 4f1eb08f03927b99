"""RoutesUsed: which prefixes packets were sent to since they were asked about, whatever way the packets took."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from stack.addr import Prefix
from stack.events import RoutesUsed, SendNhrp
from stack.tables.fib import LeafKind
from tests.tunnel.io.world import (
    CE,
    CUST1,
    CUST2,
    E0,
    E1,
    PE2,
    REMOTE,
    REMOTE6,
    TUNNEL,
    World,
    frame,
    ip,
    labelled,
    udp4,
    udp6,
)
from tunnel.io import inlet, usage
from tunnel.io.inlet import Flows
from tunnel.io.usage import Usage

SITE, HOST, OTHER, SITE6 = map(Prefix.parse, ("10.2.0.0/16", "10.2.3.4/32", "10.1.0.0/24", "2001:db8:2::/48"))


def used(world: World, *prefixes: Prefix, vrf: str = CUST1) -> frozenset[Prefix]:
    return world.forwarder.routes_used(RoutesUsed(vrf, prefixes or (SITE,)))


def test_only_fresh_traffic_counts(world):
    assert used(world) == set()
    for _ in range(3):
        assert world.same(E0, frame(udp4()))
        assert used(world) == {SITE}
        assert used(world) == set()


def test_what_was_sent_before_the_first_question_counts_as_long_as_it_is_remembered(world):
    world.into(E0, frame(udp4()))
    assert used(world) == {SITE}


def test_by_vrf_prefix_and_family(world):
    prefixes = SITE, HOST, OTHER, SITE6
    assert used(world, *prefixes) == used(world, *prefixes, vrf=CUST2) == set()
    world.into(E0, frame(udp4()))
    assert used(world, *prefixes, vrf=CUST2) == set()
    assert used(world, *prefixes) == {SITE, HOST}, "of nested ones all: a renewal too many harms nobody"
    world.into(E1, frame(udp6(destination=REMOTE6)), b"")
    assert used(world, *prefixes, vrf=CUST2) <= {SITE6}
    world.into(E0, frame(udp6()), frame(udp4(destination=ip("10.2.3.5"))))
    assert used(world, SITE6) == {SITE6}
    assert used(world, HOST) == set()
    assert used(world, SITE) == {SITE}, "asking about one takes nothing from another"


def test_out_of_the_tunnel_and_into_a_vrf(world):
    used(world, OTHER)
    world.same("gre", labelled(udp4(REMOTE, CE), 18))
    assert used(world, OTHER) == {OTHER}
    world.same("gre", labelled(udp4(REMOTE, CE), 30))
    assert used(world, OTHER) == set(), "a label that is popped and sent on asks no route"


def test_what_this_node_itself_sends_counts_though_nothing_remembers_it(world):
    used(world)
    world.into(f"host {CUST1}", udp4(ip("10.1.0.1"), REMOTE))
    assert used(world) == {SITE}
    assert used(world) == set()


def test_packets_of_the_slow_path_count(world):
    """A hairpin, and one that has to be fragmented."""
    world.change_interface(E0, network_id=1, redirect=True)
    world.change_interface(TUNNEL, network_id=1)
    used(world)
    for _ in range(2):
        world.into(E0, frame(udp4()))
        assert used(world) == {SITE}
    world.into(E0, frame(udp4(size=1470)))
    assert used(world) == {SITE}


def test_a_change_of_tables_forgets_flows_but_not_that_they_were(world):
    changes = [
        lambda: world.route(CUST1, "10.77.0.0/16", LeafKind.DISCARD),
        lambda: world.change_interface(E1, description="another"),
        lambda: world.change_adjacency(TUNNEL, PE2, mtu=1400),
        lambda: world.w["fib"].drop(CUST1),
        lambda: world.w["receptions"].remove(TUNNEL),
    ]
    used(world)
    for change in changes:
        assert world.into(E0, frame(udp4()))
        change()
        world.into(E1, frame(udp4(destination=ip("10.99.0.1"))))
        assert not any(flows.four for found in world.forwarder.path.inlets.values() for flows in found.flows.values())
        assert used(world) == {SITE}
        assert used(world) == set()
        if world.tables.fib.get(CUST1) is None:
            world.route(CUST1, "10.2.0.0/16", LeafKind.FORWARD, 1, (102,))


def test_a_full_cache_forgets_flows_but_not_that_they_were(world, monkeypatch):
    monkeypatch.setattr(inlet, "MAX_FLOWS", 4)
    used(world)
    world.into(E0, frame(udp4()))
    world.route(CUST1, "10.99.0.0/16", LeafKind.FORWARD, 1, (7,))
    world.into(E0, *(frame(udp4(destination=ip(f"10.99.0.{n}"))) for n in range(9)))
    assert used(world) == {SITE}
    assert used(world) == set()


def test_an_attachment_that_goes_leaves_what_it_sent(world):
    used(world)
    world.into(E0, frame(udp4()))
    world.forwarder.remove_attachment(E0)
    assert used(world) == {SITE}


def test_nhrp_is_no_use(world):
    world.change_interface(TUNNEL, network_id=1)
    prefix = Prefix.of(PE2, 32)
    used(world, prefix, vrf="")
    world.forwarder.send_nhrp(SendNhrp(TUNNEL, PE2, b"text"))
    assert world.sent()["gre"]
    assert used(world, prefix, vrf="") == set()


def test_a_packet_that_goes_nowhere_is_no_use(world):
    used(world)
    world.w["adjacencies"].put(
        (key := next(a.key for a in world.tables.adjacencies if a.destination == PE2)),
        evolve(world.tables.adjacencies.get(key), complete=False, reason="gone"),
    )
    assert world.into(E0, frame(udp4())).keys() <= {E0}
    assert used(world) == set()


def test_the_work_of_a_question_is_bounded(monkeypatch):
    """More destinations than may be looked at: everything counts as used, and nothing is lost."""
    monkeypatch.setattr(usage, "MAX_SCANNED", 10)
    one, caches = (
        Usage(),
        [Flows(CUST1, four=dict.fromkeys(range(8))), None, Flows(CUST1, four=dict.fromkeys(range(8)))],
    )
    assert one.ask(CUST1, (SITE,), caches) == {SITE}
    assert one.ask(CUST1, (SITE,), caches[:2]) == set()


def test_what_is_watched_is_bounded(monkeypatch):
    monkeypatch.setattr(usage, "MAX_WATCHED", 3)
    one = Usage()
    prefixes = [Prefix.parse(f"10.{n}.0.0/16") for n in range(4)]
    for prefix in (*prefixes[:3], prefixes[0], prefixes[3]):
        one.ask(CUST1, (prefix,), ())
    for n in range(4):
        one.note(CUST1, ip(f"10.{n}.0.1"))
    assert [bool(one.ask(CUST1, (prefixes[n],), ())) for n in (0, 2, 3)] == [True] * 3
    assert one.ask(CUST1, (prefixes[1],), ()) == set(), "the one not asked about for longest was forgotten"


LENGTHS = st.integers(0, 32)
ADDRESSES = st.sampled_from([ip(f"10.{a}.{b}.{c}") for a in (0, 1, 128) for b in (0, 9) for c in (0, 1, 255)])


@given(
    st.lists(st.tuples(ADDRESSES, LENGTHS), min_size=1, max_size=8),
    st.lists(st.lists(ADDRESSES, max_size=6), max_size=5),
)
def test_it_agrees_with_a_list_of_all_packets(prefixes, rounds):
    asked = tuple(Prefix.of(address, length) for address, length in prefixes)
    one = Usage()
    one.ask(CUST1, asked, ())
    for packets in rounds:
        flows = Flows(CUST1, four={int.from_bytes(each): None for each in packets[::2]}, usage=one)
        for each in packets[1::2]:
            one.note(CUST1, each)
        expected = {prefix for prefix in asked if any(prefix.covers(each) for each in packets)}
        assert one.ask(CUST1, asked, (flows,)) == expected
        assert not any(prefix.covers(value.to_bytes(4)) for value in flows.four for prefix in asked)
