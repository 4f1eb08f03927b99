"""What must hold for any octets on any port, and for any tables."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.addr import Prefix
from stack.tables.fib import Leaf, LeafKind
from tests.tunnel.io.world import (
    CE,
    CE6,
    CORE,
    CUST1,
    CUST2,
    E0,
    E1,
    OURS,
    OURS6,
    P_MAC,
    PE2,
    REMOTE,
    REMOTE6,
    TUN0,
    TUNNEL,
    US,
    World,
    echo4,
    echo6,
    frame,
    labelled,
    stacked,
    tcp4,
    udp4,
    udp6,
    unwrapped,
)
from tunnel.wire import ethernet, ipv4

QUIET = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_WORLDS: dict[bool, World] = {}


def warm_world(batch: bool) -> World:
    """One world for all examples, so that caches are warm and anything may be in them."""
    if batch not in _WORLDS:
        world = _WORLDS[batch] = World(batch=batch)
        for name, packet in SEEDS:
            world.into(name, packet)
            world.into(name, packet)
    return _WORLDS[batch]


SEEDS = [
    (E0, frame(udp4())),
    (E0, frame(udp6())),
    (E0, frame(tcp4(flags=2, options=bytes.fromhex("020405b4")))),
    (E0, frame(echo4(CE, OURS))),
    (E1, frame(echo6(CE6, OURS6))),
    (TUN0, udp4(bytes((10, 3, 0, 2)), CE)),
    (CORE, frame(stacked(udp4(REMOTE, CE), 40), P_MAC, kind=0x8847)),
    ("gre", labelled(udp4(REMOTE, CE), 18)),
    ("gre", labelled(udp6(REMOTE6, CE6), 19)),
    ("gre", labelled(udp4(REMOTE, CE), 30)),
    ("gre", labelled(udp4(REMOTE, CE), 40)),
    ("gre", labelled(udp4(REMOTE, CE), 50, 1000, ttl=3)),
    ("mpls-in-ip", ipv4.encode(ipv4.Ipv4(PE2, US, 137, stacked(udp4(REMOTE, CE), 18)))),
    ("host cust1", tcp4(OURS, REMOTE)),
]
PORTS = [E0, E1, TUN0, CORE, "gre", "mpls-in-ip", "host ", "host cust1", "host cust2"]


def tally(world: World) -> int:
    """Everything that is counted: drops, detours, errors, packets out, and facts."""
    counters = world.forwarder.counters
    out = sum(packets for packets, _ in counters.sent.values())
    return (
        sum(counters.drops.values())
        + sum(counters.slow.values())
        + sum(counters.errors.values())
        + out
        + len(world.facts)
    )


@QUIET
@given(st.booleans(), st.sampled_from(PORTS), st.binary(min_size=1, max_size=200))
def test_any_octets_on_any_port_never_raise_and_are_counted(batch, name, octets):
    world = warm_world(batch)
    before = tally(world)
    world.ports[name].put(octets)
    world.readers[name].drain()
    world.sent()
    world.now += 1
    ignored = name == CORE and len(octets) >= 24 and octets[22:24] not in (b"\x88\x47", b"\x88\x48", b"\x08\x06")
    assert tally(world) > before or ignored  # IP on the kernel's own device is the kernel's


@QUIET
@given(
    st.booleans(),
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=4),
    st.integers(0, 40),
    st.booleans(),
)
def test_any_change_to_a_good_packet_never_raises_and_cold_equals_warm(batch, seed, changes, cut, padded):
    """One bit or ten: what the flat loops and the caches do is what the whole path does."""
    name, packet = seed
    octets = bytearray(packet)
    for at, value in changes:
        octets[at % len(octets)] = value
    mutated = bytes(octets[: len(octets) - cut] or octets) + bytes(12 if padded else 0)
    cold, warm = World(batch=batch), warm_world(batch)
    try:
        expected = cold.into(name, mutated)
        for _ in range(2):
            warm.now += 10
            assert comparable(warm.into(name, mutated)) == comparable(expected)
    finally:
        for port in cold.ports.values():
            port.close()


def comparable(out):
    return {name: sent for name, sent in out.items() if sent}


# --- isolation -----------------------------------------------------------------------------------------------------------

ADDRESS = st.integers(0, 7).map(lambda n: bytes((10, 20, n, 1)))


@st.composite
def routes(draw):
    """Routes of one VRF over a few addresses that both VRFs share: out of the VRF's own attachment, or a label of its own."""
    made = {}
    for _ in range(draw(st.integers(0, 8))):
        prefix = Prefix.of(draw(ADDRESS), draw(st.integers(8, 32)))
        made[prefix] = draw(st.sampled_from(["local", "remote", "discard"]))
    return made


@settings(max_examples=60, deadline=None)
@given(
    routes(),
    routes(),
    st.lists(st.tuples(st.booleans(), ADDRESS, st.booleans()), min_size=1, max_size=30),
    st.booleans(),
)
def test_vrf_isolation_with_random_tables(first, second, packets, batch):
    """V06: whatever the tables say, a packet of cust1 leaves by cust1's port or under cust1's labels, and so does cust2's."""
    world = World(batch=batch)
    for vrf, table, local, label in ((CUST1, first, 3, 1000), (CUST2, second, 5, 2000)):
        for number, (prefix, what) in enumerate(table.items()):
            leaf = {
                "local": Leaf(LeafKind.FORWARD, local),
                "remote": Leaf(LeafKind.FORWARD, 1, (label + number,)),
                "discard": Leaf(LeafKind.DISCARD),
            }[what]
            world.w["fib"].put(vrf, prefix, leaf)
    try:
        for one, destination, from_tunnel in packets:
            vrf, name, other = (CUST1, E0, E1) if one else (CUST2, E1, E0)
            if from_tunnel:
                out = world.into("gre", labelled(udp4(REMOTE, destination), 18 if one else 28))
            else:
                out = world.into(name, frame(udp4(CE, destination)))
            assert other not in out
            assert not any(port.startswith("host") for port in out)
            for sent in out.get("raw 47 2", []):
                label = unwrapped(sent)[2][0].label
                assert label // 1000 == (1 if one else 2) or label == (102 if one else 202)
            expected = world.tables.fib.get(vrf).lookup(destination)
            if expected is not None and expected.kind is LeafKind.FORWARD and not expected.labels:
                assert ethernet.decode(out[name][0]).vlan == (None if one else 20)
            world.now += 10
    finally:
        for port in world.ports.values():
            port.close()
    assert TUNNEL
