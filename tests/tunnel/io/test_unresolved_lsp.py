"""Labelled frames on a device of the kernel's need the neighbour's MAC, which IP packets there do not: they wait for it."""

import pytest

from stack.events import AdjacencyKey, NeighbourUnresolved
from stack.tables.adjacency import AdjacencyKind
from stack.tables.fib import LeafKind
from tests.tunnel.io.world import CE, CORE, CUST1, E0, OUR_MAC, P_MAC, World, frame, ip, labelled, udp4
from tunnel.io.counters import Drop
from tunnel.wire import ethernet

P = ip("10.9.0.2")
BY_LSP = ip("10.77.0.1")


@pytest.fixture
def world() -> World:
    """10.77.0.0/16 of cust1 goes by P under labels 160 and 700; P's MAC is not known."""
    world = World()
    world.next_hop(4, CORE, P, (160,))
    world.route(CUST1, "10.77.0.0/16", LeafKind.FORWARD, 4, (700,))
    world.change_adjacency(CORE, P, rewrite=b"")
    return world


def test_rfc1122_2_3_2_2_the_first_packet_of_an_lsp_waits_for_the_mac(world: World) -> None:
    packet = frame(udp4(destination=BY_LSP))
    assert world.into(E0, packet) == {}
    assert NeighbourUnresolved(CORE, P) in world.facts
    assert world.dropped() == {}
    world.forwarder.path.release()
    assert world.sent() == {}  # it goes on waiting
    world.change_adjacency(CORE, P, rewrite=ethernet.head(P_MAC, OUR_MAC))
    world.forwarder.path.refresh()
    (sent,) = world.sent()[CORE]
    assert sent.startswith(
        P_MAC + OUR_MAC + b"\x88\x47" + (160 << 12 | 63).to_bytes(4) + (700 << 12 | 0x13F).to_bytes(4)
    )
    assert world.into(E0, packet) == {CORE: [sent]}


def test_what_waits_in_vain_is_told(world: World) -> None:
    world.into(E0, frame(udp4(destination=BY_LSP)))
    world.change_adjacency(CORE, P, reason="no answer")
    world.forwarder.path.refresh()
    assert world.dropped() == {Drop.UNRESOLVED: 1}
    assert list(world.sent()) == [E0]  # host unreachable, to its sender
    assert world.forwarder.path.waiting == {}
    assert list(world.into(E0, frame(udp4(destination=BY_LSP)))) == [E0]


def test_a_labelled_packet_of_a_core_is_dropped_and_the_neighbour_asked_for(world: World) -> None:
    assert world.into(CORE, frame(labelled(udp4(), 60)[28:], kind=0x8847)) == {}
    assert world.dropped() == {Drop.UNRESOLVED: 1}
    assert NeighbourUnresolved(CORE, P) in world.facts


def test_ip_to_the_same_neighbour_needs_no_mac(world: World) -> None:
    world.next_hop(7, CORE, P)
    world.route(CUST1, "10.88.0.0/16", LeafKind.FORWARD, 7)
    assert world.tables.adjacencies.get(AdjacencyKey(CORE, P)).kind is AdjacencyKind.HOST
    assert list(world.into(E0, frame(udp4(CE, ip("10.88.0.1"))))) == ["host "]
