"""Several SAs of one neighbour: both ends start at once, one comes back, one is replaced. RFC 7296 2.8, 2.4; the rule of this
package: of two that began together, the IKE SA whose initiator's SPI is the smaller is deleted by its own initiator.
"""

from __future__ import annotations

import pytest

from ikev2.engine.admission import HALF_OPEN
from ikev2.engine.lifecycle import COLLISION, LINGER, SUPERSEDED
from ikev2.events import IkeSaDown
from stack.addr import parse_address
from stack.events import SaKey
from tests.ikev2.nodes import DELAY, Node, World, together, two_ends

A, B = "192.0.2.1", "192.0.2.2"
KEY = SaKey("Tunnel0")


def settled(a: Node, b: Node) -> None:
    """One IKE SA, one pair, nothing left over, never a gap."""
    assert together(a, b)
    assert a.gaps == b.gaps == []
    assert len(a.snapshot().ikes) == len(b.snapshot().ikes) == 1
    assert len(a.sad.inbound) == len(b.sad.inbound) == 1
    assert len(a.speaker.node.esp_spis) == len(b.speaker.node.esp_spis) == 1


def test_both_ends_start_at_once() -> None:
    """a                                   b
    INIT 1 -->                  <-- INIT 2
              x-------------------x
    <-- INIT 1 answer    INIT 2 answer -->
    AUTH 1 -->                  <-- AUTH 2
    ... both are established, the smaller one's initiator says DELETE.
    """
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    b.want("Tunnel0", B, A)
    world.until(lambda: together(a, b))
    world.run(0.2)
    assert len(a.snapshot().ikes) == len(b.snapshot().ikes) == 2
    assert together(a, b)
    spis = {ike.initiator: ike.local_spi if ike.initiator else ike.remote_spi for ike in a.snapshot().ikes}
    world.run(COLLISION + LINGER + 1)
    settled(a, b)
    # a's own is {True}; the larger one stays
    assert a.snapshot().ikes[0].initiator == (spis[True] > spis[False])


@pytest.mark.parametrize("late", [0.5 * DELAY, 1.5 * DELAY, 2.5 * DELAY, 3.5 * DELAY, 5 * DELAY])
def test_one_starts_a_little_later(late: float) -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.run(late)
    b.want("Tunnel0", B, A)
    world.until(lambda: together(a, b))
    world.run(SUPERSEDED + LINGER + HALF_OPEN)
    settled(a, b)


def test_the_first_answer_is_lost() -> None:
    """b's INIT reaches a only when the other IKE SA is there: what b has begun is dropped by b itself."""
    world = World()
    a, b = two_ends(world)
    world.drop = lambda _octets, source, _destination: source == parse_address(B) and world.now < 0.005
    a.want("Tunnel0", A, B)
    b.want("Tunnel0", B, A)
    world.run(SUPERSEDED + LINGER + HALF_OPEN)
    settled(a, b)
    assert a.snapshot().ikes[0].initiator


def test_a_peer_that_never_deletes_its_own() -> None:
    """strongSwan knows nothing of our rule: after a minute we delete what it should have."""
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    b.want("Tunnel0", B, A)
    world.until(lambda: together(a, b))
    world.run(0.2)
    for node in (a, b):
        for number in list(node.speaker.node.peers):
            node.speaker.node.timers.set(("drop", number), None)
    for peer in list(a.speaker.node.peers.values()):
        a.speaker.lifecycle._supersede(KEY, peer)
    # as if b had the smaller one and forgot about it
    world.run(80)
    assert together(a, b)
    assert len(a.snapshot().ikes) == 1


def test_the_newer_of_two_that_the_peer_began_stays() -> None:
    """As a peer that reauthenticates make-before-break: a second IKE SA without INITIAL_CONTACT, the old one still there."""
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    old = a.outbound(KEY)
    want = a.speaker.node.wants.get(KEY)
    assert want is not None
    peer = next(iter(a.speaker.node.peers.values()))
    peer.key = None
    a.speaker.node.by_key.clear()
    want.up = False
    a.speaker.node.wants.soon(want)
    a.perform(a.speaker.wake(world.now))
    world.run(1)
    assert len(b.snapshot().ikes) == 2
    assert a.outbound(KEY) is not old
    world.run(SUPERSEDED + LINGER + HALF_OPEN)
    settled(a, b)
    assert a.outbound(KEY) is not old
    assert [fact.reason for fact in b.facts if isinstance(fact, IkeSaDown)] == [
        "another SA of the same peer has taken over"
    ] or [fact.peer for fact in b.facts if isinstance(fact, IkeSaDown)] == [True]


def test_what_is_in_flight_to_the_old_sa_still_arrives() -> None:
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    old = set(b.sad.inbound)
    a.vanish()
    a.begin()
    a.protect("Tunnel0", A, B)
    a.want("Tunnel0", A, B)
    world.until(lambda: together(a, b))
    assert old < set(b.sad.inbound)
    assert old <= b.speaker.node.esp_spis.keys()
    world.run(LINGER + 0.1)
    assert not old & set(b.sad.inbound)
    assert not old & b.speaker.node.esp_spis.keys()
