"""A peer that sends ESP and answers no IKE has lost its IKE SAs, as when its IKEv2 was restarted: what flows stands until a new
IKE SA has replaced it. And whose a virtual access interface is, when several peers have one address."""

from __future__ import annotations

import pytest
from attrs import evolve

from ikev2.config import Dpd
from ikev2.engine.lifecycle import FRESH, LINGER, OUTLIVES
from stack.events import AccessWanted, ProtectedRow, SaKey, TunnelProtected
from tests.ikev2.nodes import Node, World, psk, psk_config, together, two_ends
from tests.ikev2.test_speaker_access import HUB, clone, come_up, make_hub, make_spoke, spoke_config

A, B = "192.0.2.1", "192.0.2.2"
KEY = SaKey("Tunnel0")
WATCHFUL = evolve(psk(), dpd=Dpd(2, 2, on_demand=False))
DOUBT = "the peer may have begun anew: a new IKE SA is made"
SAID = "a new IKE SA is made, as the peer sends but does not answer"


def flow(world: World, node: Node, seconds: float) -> None:
    """For so long, ten packets a second reach `node` by whatever SAs it has."""
    for _ in range(round(seconds * 10)):
        world.run(0.1)
        for sa in node.sad.inbound.values():
            sa.use.last = world.now


def pair(world: World) -> tuple[Node, Node]:
    a, b = two_ends(world, psk_config(WATCHFUL), psk_config(psk()))
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    return a, b


@pytest.mark.parametrize("complains", [True, False])
def test_S01_the_responder_lost_its_ike_sas_and_its_packets_come_on(complains: bool) -> None:
    """`complains`: what it does not know is answered by INVALID_IKE_SPI, so that it need not be asked five times."""
    world = World()
    a, b = pair(world)
    world.drop = lambda octets, _source, _destination: not complains and (octets[16], octets[18]) == (41, 37)
    sa = a.outbound(KEY)
    b.crash()
    world.run(0.5)
    b.begin()
    flow(world, a, 20)
    assert a.outbound(KEY) is not sa
    assert together(a, b)
    assert a.gaps == b.gaps == []
    assert (len(a.reasons(DOUBT)), len(a.reasons(SAID))) == ((1, 0) if complains else (0, 1))
    world.run(LINGER + 1)
    assert len(a.snapshot().ikes) == len(b.snapshot().ikes) == 1
    assert len(a.sad.inbound) == len(b.sad.inbound) == 1


def test_a_peer_that_is_silent_altogether_is_dead_at_once() -> None:
    """Its last packet came before it was asked: nothing is spared."""
    world = World()
    a, b = pair(world)
    flow(world, a, 5)
    b.crash()
    world.until(lambda: a.outbound(KEY) is None, 15)
    assert a.reasons(SAID) == []
    assert a.sad.inbound == {}


def test_a_peer_that_never_answers_is_dead_although_it_sends() -> None:
    """RFC 7296 2.4: what is sent to it may go nowhere. It has a few seconds."""
    world = World()
    a, b = pair(world)
    b.crash()
    begun = world.now
    while world.now < begun + 30 and a.outbound(KEY) is not None:
        flow(world, a, 0.1)
    assert a.outbound(KEY) is None
    assert world.now < begun + 13 + OUTLIVES
    assert len(a.reasons(SAID)) == 1
    world.run(LINGER + 1)
    assert a.sad.inbound == {}


def test_a_responder_has_nobody_to_call_and_gives_up_at_once() -> None:
    world = World()
    a, b = two_ends(world, psk_config(psk()), psk_config(WATCHFUL))
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    a.crash()
    begun = world.now
    while world.now < begun + 30 and b.outbound(KEY) is not None:
        flow(world, b, 0.1)
    assert world.now < begun + 13
    assert b.reasons(SAID) == []


@pytest.mark.parametrize("quiet", [FRESH - 0.2, FRESH + 0.2])
def test_fresh_is_what_came_within_two_seconds(quiet: float) -> None:
    world = World()
    a, b = pair(world)
    b.crash()
    lost = None
    while a.outbound(KEY) is not None and a.reasons(SAID) == []:
        world.run(0.05)
        for sa in a.sad.inbound.values():
            sa.use.last = world.now - quiet
        lost = world.now
    assert lost is not None
    assert bool(a.reasons(SAID)) == (quiet < FRESH)


def test_what_is_no_longer_wanted_meanwhile_goes() -> None:
    world = World()
    a, b = pair(world)
    b.crash()
    while a.reasons(SAID) == []:
        flow(world, a, 0.1)
    a.hear(TunnelProtected, {"Tunnel0": None})
    assert a.outbound(KEY) is None
    world.run(LINGER + 1)
    assert a.sad.inbound == {}


def protect_clones(hub: Node) -> None:
    """What tunnel says of its clones."""
    for name, row in hub.table(AccessWanted).items():
        hub.hear(TunnelProtected, {name: ProtectedRow("P", row.local, row.remote)})


def test_a_virtual_access_interface_is_its_holders_and_nobody_elses_at_the_same_address() -> None:
    """Another identity at the very address that tunnel has a clone for, as behind one NAT: it gets one of its own."""
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    protect_clones(hub)
    first = hub.outbound(SaKey("Virtual-Access1"))
    spoke.vanish()
    other = world.node("other", "192.0.2.11", spoke_config("other"))
    other.protect("Tunnel0", "192.0.2.11", HUB, negotiated=True)
    other.want("Tunnel0", "192.0.2.11", HUB)
    world.until(lambda: other.up("Tunnel0"))
    assert set(hub.table(AccessWanted)) == {"Virtual-Access1", "Virtual-Access2"}
    assert hub.outbound(SaKey("Virtual-Access1")) is first
    clone(hub)
    protect_clones(hub)
    world.run(60)
    assert set(hub.table(AccessWanted)) == {"Virtual-Access2"}
    assert other.up("Tunnel0")


def test_a_spoke_that_begins_anew_keeps_its_interface_and_nothing_is_torn_down() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    protect_clones(hub)
    for _ in range(3):
        spoke.crash()
        world.run(0.2)
        spoke.begin()
        world.run(10)
        protect_clones(hub)
        assert set(hub.table(AccessWanted)) == {"Virtual-Access1"}
        assert together_over(hub, spoke)
    assert hub.gaps == spoke.gaps == []


def together_over(hub: Node, spoke: Node) -> bool:
    one, other = hub.outbound(SaKey("Virtual-Access1")), spoke.outbound(KEY)
    return one is not None and other is not None and one.spi in spoke.sad.inbound and other.spi in hub.sad.inbound
