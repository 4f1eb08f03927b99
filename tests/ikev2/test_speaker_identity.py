"""OverlayState: whose an overlay address is, by what we have assigned."""

from __future__ import annotations

import pytest

from ikev2.engine.contract import Grant, Refusal
from ikev2.engine.lifecycle import LINGER, SUPERSEDED
from ikev2.wire.payloads import Attribute
from stack.addr import parse_address
from stack.events import (
    EndpointOffered,
    OverlayRow,
    OverlayState,
    SaKey,
    SaMoved,
    SaState,
    SaWanted,
)
from tests.ikev2.nodes import World
from tests.ikev2.spokes import call, settle, star, together, until
from tests.ikev2.test_speaker_access import HUB, come_up, make_hub, make_spoke, spoke_config

FIRST, SECOND = parse_address("10.0.0.10"), parse_address("10.0.0.11")


def test_of_a_virtual_access_interface() -> None:
    world = World()
    hub = make_hub(world)
    spokes = [make_spoke(world, number) for number in (1, 2)]
    # even before routing knows the interface: what comes in by it is held against this
    world.until(lambda: all(spoke.up("Tunnel0") for spoke in spokes))
    assert hub.table(OverlayState) == {
        ("Virtual-Access1", FIRST): OverlayRow("spoke1.example", spokes[0].address),
        ("Virtual-Access2", SECOND): OverlayRow("spoke2.example", spokes[1].address),
    }
    come_up(world, hub, *spokes)
    assert set(hub.table(OverlayState)) == {("Virtual-Access1", FIRST), ("Virtual-Access2", SECOND)}
    spokes[0].hear(SaWanted, {SaKey("Tunnel0"): None})
    world.run(1)
    assert set(hub.table(OverlayState)) == {("Virtual-Access2", SECOND)}
    for spoke in spokes:
        assert spoke.table(OverlayState) == {}, "it is what we have assigned, and not what we were"


def test_of_a_multipoint_tunnel() -> None:
    """The transport address is the neighbour's: that of its SaKey."""
    world = World()
    hub = make_hub(world)
    hub.protect("Tunnel1", HUB, addresses=("10.0.0.1/24",))
    spokes = [make_spoke(world, number) for number in (1, 2)]
    come_up(world, hub, *spokes)
    assert hub.table(OverlayState) == {
        ("Tunnel1", FIRST): OverlayRow("spoke1.example", spokes[0].address),
        ("Tunnel1", SECOND): OverlayRow("spoke2.example", spokes[1].address),
    }
    rows = {key: row.transport for key, row in hub.table(EndpointOffered).items()}
    assert rows == {key: row.transport for key, row in hub.table(OverlayState).items()}
    assert {SaKey("Tunnel1", row.transport) for row in hub.table(OverlayState).values()} <= set(hub.table(SaState))


def test_what_a_peer_only_announces_is_not_assigned() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1, negotiated=False)
    come_up(world, hub, spoke)
    assert hub.snapshot().ikes[0].remote_subnets
    assert hub.table(OverlayState) == {}


def test_what_the_embedder_gives_is() -> None:
    world = World()
    hub = make_hub(world, authorises=True)
    spoke = make_spoke(world, 1)
    world.until(lambda: bool(hub.asked))
    given = parse_address("10.7.7.7")
    hub.answer(Grant((Attribute(1, given),)))
    come_up(world, hub, spoke)
    assert hub.table(OverlayState) == {("Virtual-Access1", given): OverlayRow("spoke1.example", spoke.address)}


def test_who_is_refused_has_none() -> None:
    world = World()
    hub = make_hub(world, authorises=True)
    make_spoke(world, 1)
    world.until(lambda: bool(hub.asked))
    hub.answer(Refusal("no"))
    world.run(1)
    assert hub.table(OverlayState) == {}


def test_it_survives_make_before_break() -> None:
    """A spoke comes back with nothing: the row stands all the while, of the old SA and then of the new one."""
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    before = hub.table(OverlayState)
    told = len(hub.told)
    spoke.vanish()
    world.run(1)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    world.run(SUPERSEDED + LINGER + 2)
    assert len(hub.snapshot().ikes) == 1
    assert hub.table(OverlayState) == before
    assert OverlayState not in [topic for topic, _ in hub.told[told:]]


def test_S01_it_is_said_again_after_a_crash() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    before = hub.table(OverlayState)
    hub.crash()
    world.run(1)
    hub.begin()
    assert hub.table(OverlayState) == before != {}
    assert hub.fresh[OverlayState, ""] == before.keys()


def test_it_follows_a_peer_behind_a_nat() -> None:
    world = World()
    hub = make_hub(world)
    world.nat[parse_address("192.0.2.11")] = (parse_address("203.0.113.1"), 1000)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    assert hub.table(OverlayState)["Virtual-Access1", FIRST].transport == parse_address("203.0.113.1")
    (spi,) = hub.sad.inbound
    hub.fact(SaMoved(spi, parse_address("203.0.113.2"), 4600))
    assert hub.table(OverlayState)["Virtual-Access1", FIRST].transport == parse_address("203.0.113.2")


def test_another_identity_at_another_address_has_the_row_of_its_own() -> None:
    """I16: of one identity at two addresses the newer has the lease, and the row says where it is."""
    world = World()
    hub = make_hub(world)
    first = make_spoke(world, 1)
    come_up(world, hub, first)
    first.speaker.node.stopping = True
    second = make_spoke(world, 5, spoke_config("spoke1"))
    come_up(world, hub, second)
    assert hub.table(OverlayState) == {("Virtual-Access1", FIRST): OverlayRow("spoke1.example", second.address)}


@pytest.mark.parametrize("protected", [True, False])
def test_between_spokes_nothing_is_assigned(protected: bool) -> None:
    world = World()
    hub, a, b = star(world)
    if protected:
        call(b, a)
        until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    assert a.table(OverlayState) == b.table(OverlayState) == {}
    assert len(hub.table(OverlayState)) == 2
