"""Graceful restart (RFC 4724): routes of a neighbour that is away stay, until it is back and has said all, or too late.

pe1 (restarts)                 we (stay)
  |--- 10.1/16, 10.2/16 -------->|
  x    TCP breaks                |   both stay in use, marked S
  |--- OPEN, R and F bits ------>|
  |--- 10.1/16 ----------------->|
  |--- End-of-RIB -------------->|   10.2/16 goes
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from bgp.engine.fsm import State
from bgp.engine.rib import Ribs
from bgp.engine.rib.away import STALE_WITHIN
from bgp.engine.rib.snapshot import unicast_table
from bgp.wire import IPV4_UNICAST, VPNV4, Family, GracefulRestart, Open
from stack.events import EndpointOffered, PolicyState, RouteSelected, Synced, VrfState
from tests.bgp.engine.rib_world import TestPeer, World, attributes, ip
from tests.bgp.engine.test_rib_speakers import PREFIX, connected, offered, three

FAMILIES = (IPV4_UNICAST, VPNV4)
TIME = 120


def up(world: World, *, restartable: tuple[Family, ...] = FAMILIES, forwarding: tuple[Family, ...] = ()) -> TestPeer:
    view = _view(world, restartable, forwarding)
    made = world.peers[view.key] = TestPeer(world, view)
    world.perform(world.ribs.peer_up(view, world.now))
    world.run()
    return made


def _view(world: World, restartable: tuple[Family, ...], forwarding: tuple[Family, ...]) -> Any:
    plain = World().peer("192.0.2.1", families=FAMILIES).view
    return evolve(
        plain,
        restartable=frozenset(restartable),
        forwarding=frozenset(forwarding),
        restart_time=TIME,
        restarted=bool(forwarding),
    )


def lose(world: World, peer: TestPeer) -> None:
    del world.peers[peer.key]
    world.perform(world.ribs.peer_lost(peer.key, "connection reset", world.now))
    world.run()


def start() -> tuple[World, TestPeer]:
    world = World()
    world.vrf("red", "9:1", imports=("1:1",))
    peer = up(world)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", "10.2.0.0/16")
    peer.announce(VPNV4, "1:1 10.7.0.0/16", attrs=attributes((), ("1:1",)))
    return world, peer


def test_rfc4724_4_2_routes_stay_until_the_neighbour_has_said_all_again() -> None:
    world, peer = start()
    lose(world, peer)
    assert sorted(world.routes()) == ["10.1.0.0/16", "10.2.0.0/16"]
    assert list(world.routes("red")) == ["10.7.0.0/16"]
    assert [key for _, key in world.state[EndpointOffered][""]] == [ip("192.0.2.1")]
    nets = unicast_table(world.ribs, "", IPV4_UNICAST).nets
    assert [path.stale for net in nets for path in net.paths] == [True, True]
    world.pass_time(10)
    peer = up(world, forwarding=FAMILIES)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16")
    assert sorted(world.routes()) == ["10.1.0.0/16", "10.2.0.0/16"]
    peer.end_of_rib(IPV4_UNICAST)
    assert list(world.routes()) == ["10.1.0.0/16"]
    assert list(world.routes("red")) == ["10.7.0.0/16"]  # each family by itself
    peer.end_of_rib(VPNV4)
    assert world.routes("red") == {}
    assert world.state[EndpointOffered][""] == {}
    assert world.ribs.deadline() is None or world.ribs.deadline() < world.now + TIME  # nothing waits any more


def test_rfc4724_4_2_a_neighbour_that_does_not_come_back_in_time() -> None:
    world, peer = start()
    lose(world, peer)
    world.pass_time(TIME - 1)
    assert len(world.routes()) == 2
    world.pass_time(1)
    assert world.routes() == {}
    assert world.routes("red") == {}
    assert world.state[EndpointOffered][""] == {}


def test_rfc4724_4_2_without_the_forwarding_bit_stale_routes_go_at_once() -> None:
    world, peer = start()
    lose(world, peer)
    up(world, forwarding=(VPNV4,))
    assert world.routes() == {}
    assert list(world.routes("red")) == ["10.7.0.0/16"]


def test_rfc4724_4_2_back_without_the_capability() -> None:
    world, peer = start()
    lose(world, peer)
    up(world, restartable=())
    assert (world.routes(), world.routes("red")) == ({}, {})


def test_rfc4724_4_2_only_families_that_it_can_restart_stay() -> None:
    world = World()
    world.vrf("red", "9:1", imports=("1:1",))
    peer = up(world, restartable=(VPNV4,))
    peer.announce(IPV4_UNICAST, "10.1.0.0/16")
    peer.announce(VPNV4, "1:1 10.7.0.0/16", attrs=attributes((), ("1:1",)))
    lose(world, peer)
    assert world.routes() == {}
    assert list(world.routes("red")) == ["10.7.0.0/16"]


def test_rfc4724_4_2_routes_that_were_stale_already_go_with_the_next_loss() -> None:
    """ "the Receiving Speaker MUST [...] delete the routes [...] previously marked as stale" """
    world, peer = start()
    lose(world, peer)
    peer = up(world, forwarding=FAMILIES)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16")
    lose(world, peer)
    assert list(world.routes()) == ["10.1.0.0/16"]


def test_rfc4724_4_2_an_end_of_rib_that_never_comes() -> None:
    world, peer = start()
    lose(world, peer)
    peer = up(world, forwarding=FAMILIES)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16")
    world.pass_time(STALE_WITHIN)
    assert list(world.routes()) == ["10.1.0.0/16"]


def test_a_neighbour_without_graceful_restart_takes_its_routes_along() -> None:
    world = World()
    peer = up(world, restartable=())
    peer.announce(IPV4_UNICAST, "10.1.0.0/16")
    lose(world, peer)
    assert world.routes() == {}


def test_a_withdrawal_while_stale_counts() -> None:
    world, peer = start()
    lose(world, peer)
    peer = up(world, forwarding=FAMILIES)
    peer.withdraw(IPV4_UNICAST, "10.1.0.0/16")
    assert list(world.routes()) == ["10.2.0.0/16"]


def test_the_others_are_told_nothing_meanwhile() -> None:
    world, peer = start()
    other = world.peer("203.0.113.9", asn=65020, families=(IPV4_UNICAST,))
    other.log.clear()
    lose(world, peer)
    peer = up(world, forwarding=FAMILIES)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", "10.2.0.0/16")
    peer.end_of_rib(IPV4_UNICAST)
    assert other.log == []


@pytest.mark.parametrize("restarted", [False, True])
def test_rfc4724_4_1_after_a_restart_end_of_rib_waits_until_all_is_learnt(restarted: bool) -> None:
    """Otherwise what the neighbours kept of the others' routes, which we reflect, would go."""
    from bgp.config import NeighborConfig, NeighborFamily
    from stack.addr import Afi, Safi
    from tests.bgp.engine.rib_world import config

    family = {(Afi.IPV4, Safi.UNICAST): NeighborFamily()}
    rows = {
        ("", ip(a)): NeighborConfig(address=ip(a), remote_as=65010, families=family) for a in ("192.0.2.1", "192.0.2.2")
    }
    world = World(config=config(neighbors=rows))
    world.ribs = Ribs(world.config, lambda n: bytes(n), restarted=restarted)
    world.perform(world.ribs.start(world.now))
    for topic in (VrfState, PolicyState, RouteSelected):
        world.perform(world.ribs.receive(Synced(topic, "x", 1), world.now))
    a = world.peer("192.0.2.1", families=(IPV4_UNICAST,))
    b = world.peer("192.0.2.2", families=(IPV4_UNICAST,))
    assert bool(a.ends) is not restarted
    a.end_of_rib(IPV4_UNICAST)
    b.end_of_rib(IPV4_UNICAST)
    assert a.ends == b.ends == [IPV4_UNICAST]


# --- whole speakers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graceful", [True, False])
def test_a_broken_connection_between_whole_speakers(graceful: bool) -> None:
    world, pe1, reflector, pe2 = three(graceful_restart=graceful)
    connected(pe1, "", PREFIX)
    world.run(5)
    assert str(PREFIX) in offered(pe2)
    opens = [m for m in pe1.said if isinstance(m, Open)]
    assert any(isinstance(c, GracefulRestart) for c in opens[0].capabilities) is graceful
    pe2.published.clear()
    [number] = pe1.ends
    other, far = pe1.ends[number]
    pe1.ends.clear()
    other.ends.pop(far)
    other.do(other.speaker.tcp_closed(far, "connection reset", world.now))
    pe1.do(pe1.speaker.tcp_closed(number, "connection reset", world.now))
    world.run(300)
    assert pe1.state(pe1.peer(reflector.address).key[1]) is State.ESTABLISHED
    rows = [p.rows[PREFIX] for p in pe2.published if PREFIX in getattr(p, "rows", {})]
    assert (rows == []) is graceful  # graceful: pe2 never noticed
