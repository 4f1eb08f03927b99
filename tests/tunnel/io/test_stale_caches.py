"""Caches never say what the tables no longer say: after any changes, a forwarder that has seen everything does what a new
one does that starts from the same tables."""

from __future__ import annotations

from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.addr import Prefix
from stack.tables.adjacency import AdjacencyKind
from stack.tables.fib import LeafKind
from stack.tables.lfib import Operation
from stack.tables.reception import Reception
from tests.tunnel.io.world import (
    CE,
    CE6,
    CORE,
    CUST1,
    CUST2,
    E0,
    E1,
    KEY,
    P_MAC,
    PE2,
    PE3,
    REMOTE,
    REMOTE6,
    TUN0,
    TUNNEL,
    US,
    World,
    frame,
    ip,
    labelled,
    stacked,
    tcp4,
    udp4,
    udp6,
)

ANY = frozenset(("mgre", "ethernet"))
SYN = bytes.fromhex("020405b4")
PACKETS = [
    (E0, frame(udp4())),
    (E1, frame(udp4())),
    (E0, frame(udp6())),
    (E0, frame(udp4(size=1440, dont_fragment=True))),
    (E0, frame(udp4(size=1440))),
    (E0, frame(tcp4(flags=2, options=SYN))),
    (TUN0, udp4(ip("10.3.0.2"))),
    (CORE, frame(stacked(udp4(REMOTE, CE), 60), P_MAC, kind=0x8847)),
    *(("gre", labelled(udp4(REMOTE, CE), label)) for label in (18, 28, 30, 40, 60)),
    ("gre", labelled(udp6(REMOTE6, CE6), 19)),
    ("gre", labelled(udp4(REMOTE, CE), 18, source=PE3)),
    ("gre", labelled(udp4(REMOTE, CE), 18, key=None)),
    ("gre", labelled(udp4(REMOTE, CE), 50, 1000)),
]

vrfs = st.sampled_from((CUST1, CUST2))
hops = st.sampled_from((1, 2, 3, 5, 9))
stacks = st.sampled_from(((), (300,), (300, 301), (2,), (3,)))
keys = st.sampled_from(((TUNNEL, PE2), (TUNNEL, PE3), (E0, CE), (CORE, ip("10.9.0.2"))))
prefixes = st.sampled_from(("10.2.0.0/16", "10.2.3.4/32", "10.1.0.0/24", "10.1.0.2/32", "0.0.0.0/0", "2001:db8:2::/48"))
kinds = st.sampled_from((LeafKind.FORWARD, LeafKind.FORWARD, LeafKind.DISCARD, LeafKind.RECEIVE))
edits = st.sampled_from(
    (
        {"mtu": 1400},
        {"mtu": 1500},
        {"tos": 0xC0},
        {"protection": "P"},
        {"protection": ""},
        {"complete": False},
        {"complete": False, "reason": "no answer"},
        {"complete": True, "reason": ""},
    )
)
sides = st.sampled_from(({"mss": 1000}, {"mss": 0}, {"unreachables": False}, {"network_id": 7, "redirect": True}))
receptions = st.builds(
    Reception,
    st.sampled_from((TUNNEL, "Tunnel9")),
    st.just(US),
    st.just(frozenset((47,))),
    gre_key=st.sampled_from((KEY, None)),
    sources=st.sampled_from((frozenset((PE2,)), frozenset((PE2, PE3)), None)),
    point_to_point=st.booleans(),
    mpls=st.booleans(),
    ip=st.booleans(),
)
changes = st.one_of(
    st.tuples(st.just("route"), vrfs, prefixes, kinds, hops, stacks),
    st.tuples(st.just("unroute"), vrfs, prefixes),
    st.tuples(st.just("next hop"), st.sampled_from((1, 2, 3)), keys, st.sampled_from(((), (77,)))),
    st.tuples(st.just("adjacency"), keys, edits),
    st.tuples(st.just("key"), st.sampled_from((PE2, PE3)), st.sampled_from((KEY, None, 9))),
    st.tuples(st.just("kind"), st.sampled_from((PE2, PE3)), st.sampled_from(("GRE", "MPLS_IN_IP"))),
    st.tuples(st.just("gone"), keys),
    st.tuples(st.just("interface"), st.sampled_from((E0, TUNNEL, CORE)), sides),
    st.tuples(st.just("up"), st.sampled_from((E0, TUNNEL)), st.booleans()),
    st.tuples(st.just("label"), st.sampled_from((18, 30, 40, 60)), st.sampled_from(Operation), vrfs, hops, stacks),
    st.tuples(st.just("reception"), receptions),
)
steps = st.lists(st.one_of(changes, st.tuples(st.just("packet"), st.sampled_from(PACKETS))), max_size=40)


def apply(world: World, change) -> None:
    what, *rest = change
    match what:
        case "route":
            world.route(*rest)
        case "unroute":
            world.w["fib"].remove(rest[0], Prefix.parse(rest[1]))
        case "next hop":
            world.next_hop(rest[0], *rest[1], rest[2])
        case "adjacency" if world.tables.adjacencies.rows.keys() & {rest[0]}:
            world.change_adjacency(*rest[0], **rest[1])
        case "key" if world.tables.adjacencies.rows.keys() & {(TUNNEL, rest[0])}:
            world.change_adjacency(TUNNEL, rest[0], gre_key=rest[1])
        case "kind" if world.tables.adjacencies.rows.keys() & {(TUNNEL, rest[0])}:
            world.change_adjacency(TUNNEL, rest[0], kind=AdjacencyKind[rest[1]])
        case "gone":
            world.w["adjacencies"].remove(next((k for k in world.tables.adjacencies.rows if k == rest[0]), rest[0]))
        case "interface":
            world.change_interface(rest[0], **rest[1])
        case "up":
            world.w["interfaces"].put(rest[0], evolve(world.tables.interfaces.get(rest[0]), up=rest[1]))
        case "label":
            label, operation, vrf, hop, stack = rest
            world.label(label, operation, vrf, ANY, 0, hop, stack if operation is Operation.SWAP else ())
        case "reception":
            world.reception(rest[0])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.booleans())
def test_after_any_changes_a_warm_forwarder_does_what_a_new_one_does(sequence, batch):
    warm, changed = World(batch=batch), []
    worlds = [warm]
    try:
        for step in sequence:
            if step[0] != "packet":
                apply(warm, step)
                changed.append(step)
                continue
            name, packet = step[1]
            warm.into(name)  # what waited for a neighbour goes, or is given up
            warm.now += 10
            for _ in range(2):  # and so does the error about it
                warm.forwarder.path.release()
                warm.now += 10
            warm.sent()
            new = World(batch=batch, now=warm.now)
            worlds.append(new)
            for change in changed:
                apply(new, change)
            before = warm.dropped()
            assert warm.into(name, packet) == new.into(name, packet)
            assert {why: n - before.get(why, 0) for why, n in warm.dropped().items() if n != before.get(why)} == (
                new.dropped()
            )
    finally:
        for world in worlds:
            for port in world.ports.values():
                port.close()
