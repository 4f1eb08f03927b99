"""ikev2 crashes and comes back: the SAD and the rows stand, what is wanted is renegotiated, and only then the old goes."""

from __future__ import annotations

import pytest
from attrs import evolve

from ikev2.engine.lifecycle import LINGER
from ikev2.engine.speaker import RESYNC_AFTER
from stack.addr import Prefix, parse_address
from stack.events import (
    AccessWanted,
    AddressOffered,
    BindingOffered,
    RouteOffered,
    SaKey,
    SaState,
    SaWanted,
    TunnelProtected,
)
from tests.ikev2.nodes import Node, World, psk, psk_config, together, two_ends
from tests.ikev2.test_speaker_access import clone, come_up, make_hub, make_spoke

A, B = "192.0.2.1", "192.0.2.2"
KEY = SaKey("Tunnel0")
TOPICS = (SaState, AccessWanted, AddressOffered, RouteOffered, BindingOffered)


def rows(node: Node) -> dict[object, object]:
    return {topic: node.table(topic) for topic in TOPICS}


def test_the_initiator_crashes() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    before, sa = rows(a), a.outbound(KEY)
    a.crash()
    world.run(3)
    assert a.outbound(KEY) is sa
    a.begin()
    # said again at once, and the very same, though nothing has been negotiated yet
    assert rows(a) == before
    assert a.outbound(KEY) is sa
    world.run(1)
    assert a.outbound(KEY) is not sa
    assert together(a, b)
    assert a.gaps == b.gaps == []
    world.run(LINGER + 1)
    assert len(a.sad.inbound) == len(b.sad.inbound) == 1
    assert len(b.snapshot().ikes) == len(a.snapshot().ikes) == 1
    assert a.snapshot().ikes[0].number == 2


def test_the_responder_crashes_and_the_peer_comes_again() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    sa = b.outbound(KEY)
    b.crash()
    world.run(1)
    b.begin()
    assert b.outbound(KEY) is sa
    assert b.up("Tunnel0")
    assert [child.ike for child in b.snapshot().children] == [0]
    world.run(10)
    assert b.outbound(KEY) is sa
    a.clear()
    world.until(lambda: a.up("Tunnel0") and b.outbound(KEY) is not sa)
    assert together(a, b)
    assert b.gaps == []
    world.run(LINGER + 1)
    assert len(b.sad.inbound) == 1


def test_the_hub_crashes_and_its_spokes_keep_everything() -> None:
    world = World()
    hub = make_hub(world)
    spokes = [make_spoke(world, n) for n in (1, 2, 3)]
    come_up(world, hub, *spokes)
    before = rows(hub)
    addresses = [spoke.table(AddressOffered) for spoke in spokes]
    hub.crash()
    world.run(2)
    hub.begin()
    assert rows(hub) == before
    assert hub.snapshot().pools[0].used == 3
    # interfaces are told again, and change nothing
    world.run(2)
    assert rows(hub) == before
    for spoke in spokes:
        spoke.clear()
    world.until(lambda: len(hub.snapshot().ikes) == 3 and all(spoke.up("Tunnel0") for spoke in spokes))
    clone(hub)
    world.run(LINGER + 5)
    assert [spoke.table(AddressOffered) for spoke in spokes] == addresses
    assert {n: r.description for n, r in hub.table(AccessWanted).items()} == {
        n: r.description
        for n, r in before[AccessWanted].items()  # type: ignore[attr-defined]
    }
    assert hub.table(RouteOffered) == before[RouteOffered]
    assert hub.gaps == []
    assert len(hub.sad.inbound) == 3


def test_a_spoke_crashes_and_keeps_its_address() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    before = rows(spoke)
    spoke.crash()
    spoke.begin()
    assert rows(spoke) == before
    world.run(5)
    after = rows(spoke)
    assert spoke.up("Tunnel0")
    del after[SaState], before[SaState]
    assert after == before
    assert spoke.gaps == []
    assert list(hub.table(AccessWanted)) == ["Virtual-Access1"]


def test_what_nobody_wants_any_more_goes() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    a.crash()
    a.begin()
    a.hear(SaWanted, {KEY: None})
    assert a.outbound(KEY) is None
    assert a.table(SaState) == {}
    world.run(LINGER + 40)
    assert a.empty


@pytest.mark.parametrize("what", ["unwanted", "unprotected", "another profile", "another source"])
def test_S01_what_ceased_to_be_wanted_while_it_was_away_goes(what: str) -> None:
    """Nobody tells the new incarnation of a change: what is not said again is no longer so."""
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    a.crash()
    if what != "another source":
        del a.said[SaWanted][KEY]
    row = a.said[TunnelProtected]["Tunnel0"]
    match what:
        case "unprotected":
            del a.said[TunnelProtected]["Tunnel0"]
        case "another profile":
            a.said[TunnelProtected]["Tunnel0"] = row._replace(profile="Q")
        case "another source":
            a.said[TunnelProtected]["Tunnel0"] = row._replace(local=parse_address("192.0.2.9"))
            a.said[SaWanted][KEY] = a.said[SaWanted][KEY]._replace(local=parse_address("192.0.2.9"))
    a.begin()
    assert a.up("Tunnel0") == (what != "another source"), "the others may only be slow to say so"
    world.run(RESYNC_AFTER + 1)
    assert a.outbound(KEY) is None
    assert not a.up("Tunnel0")
    world.run(LINGER + 1)
    assert not a.sad.inbound


@pytest.mark.parametrize("when", ["while it was away", "afterwards"])
def test_S01_what_rests_on_another_configuration_goes(when: str) -> None:
    """An SA that is inherited is no way round a key that was taken out of the configuration."""
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    sa = b.outbound(KEY)
    b.crash()
    if when == "afterwards":
        b.begin()
        assert b.outbound(KEY) is sa
        b.reconfigure(psk_config(psk(key="another")))
    else:
        b.config = psk_config(psk(key="another"))
        b.begin()
    assert b.outbound(KEY) is None
    assert not b.up("Tunnel0")
    assert "another" not in repr(b.kept)
    world.run(60)
    assert b.outbound(KEY) is None


def test_S01_what_the_peer_has_begun_stands_although_nobody_here_wants_it() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    b.crash()
    b.begin()
    sa = b.outbound(KEY)
    world.run(RESYNC_AFTER + 1)
    assert b.outbound(KEY) is sa is not None
    b.crash()
    del b.said[TunnelProtected]["Tunnel0"]
    b.begin()
    world.run(RESYNC_AFTER + 1)
    assert b.outbound(KEY) is None, "but not without its tunnel"


def test_what_is_inherited_ends_with_its_lifetime() -> None:
    world = World()
    config = psk_config(lifetime_seconds=600)
    a, b = two_ends(world, config, config)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    b.crash()
    a.vanish()
    b.begin()
    assert b.up("Tunnel0")
    world.run(590)
    assert b.up("Tunnel0")
    world.run(15 + LINGER)
    assert not b.up("Tunnel0")
    assert b.empty


def test_a_lifetime_that_ended_while_we_were_away() -> None:
    world = World()
    config = psk_config(lifetime_seconds=600)
    a, b = two_ends(world, config, config)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    b.crash()
    a.vanish()
    world.run(700)
    b.begin()
    assert b.table(SaState) == {}
    assert not b.sad.inbound
    assert not b.sad.bundles


def test_the_peer_is_not_there_after_the_crash() -> None:
    """Packets flow on by what there is, as long as it lasts; it is tried again and again."""
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    a.crash()
    b.alive = False
    a.begin()
    world.run(200)
    assert a.up("Tunnel0")
    assert a.snapshot().wants[0].attempts >= 2
    b.alive = True
    world.run(100)
    assert together(a, b)
    assert len(a.snapshot().ikes) == 1
    assert a.gaps == []


@pytest.mark.parametrize("crashes", [2, 5])
def test_crash_upon_crash(crashes: int) -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    for n in range(crashes):
        for node in (spoke, hub):
            node.crash()
            world.run(0.02 * n)
            node.begin()
            world.run(0.3 * n)
    spoke.clear()
    world.run(20)
    assert spoke.up("Tunnel0")
    assert hub.up("Virtual-Access1")
    assert set(hub.routes()) == {Prefix.host(parse_address("10.0.0.10"))}
    world.run(LINGER + 60)
    assert len(hub.sad.bundles) == len(spoke.sad.bundles) == 1


def test_the_keys_of_what_is_kept_are_not_in_it() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    sa = a.outbound(KEY)
    assert sa is not None
    text = repr(a.kept) + repr(a.snapshot())
    assert sa.encryption.hex() not in text
    assert repr(sa.encryption)[2:-1] not in text
    assert "shared secret" not in text


def test_a_stale_spi_of_nobody_is_swept() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    stray = evolve(next(iter(a.sad.inbound.values())), spi=4711, key=SaKey("Tunnel9"))
    a._writer.put_inbound(stray)
    a.crash()
    a.begin()
    assert 4711 not in a.sad.inbound
