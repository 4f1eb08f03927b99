"""A peer that deletes a CHILD_SA and keeps the IKE SA, as `swanctl --terminate --child` does; nodes as in `nodes`."""

from __future__ import annotations

import pytest

from stack.events import SaKey, SaSoft
from tests.ikev2.nodes import Node, World, two_ends

A, B = "192.0.2.1", "192.0.2.2"
KEY = SaKey("Tunnel0")


def carries(node: Node) -> int:
    """SPI that is sent by; 0: nothing is sent."""
    sa = node.outbound(KEY)
    return sa.spi if sa is not None else 0


def delete_child(node: Node) -> None:
    """The one that carries, and nothing else."""
    (peer,) = node.speaker.node.peers.values()
    (number,) = (child.number for child in peer.children.values() if child.outbound.spi == carries(node))
    sa, now = peer.sa, node.world.now
    node.speaker.lifecycle.drive(peer, sa, lambda: sa.delete_child(number, now))
    node.perform(node.speaker.wake(now))


@pytest.mark.parametrize("rekeys", [0, 1, 2])
@pytest.mark.parametrize("who", ["we", "the peer"])
def test_a_deleted_child_sa_is_asked_for_again_also_after_rekeys(rekeys: int, who: str) -> None:
    """What was replaced long ago must not come back: the peer could not open it, and nobody would negotiate."""
    world = World()
    a, b = two_ends(world)
    a.want("Tunnel0", A, B)
    world.until(lambda: a.up("Tunnel0") and b.up("Tunnel0"))
    dead = {carries(a)}
    for _ in range(rekeys):
        asks = a if who == "we" else b
        asks.fact(SaSoft(carries(asks), inbound=False))
        world.run(40)  # long enough for a responder that hears no packet
        dead.add(carries(a))
    assert len(dead) == rekeys + 1
    delete_child(b)
    world.run(0.1)
    assert carries(a) not in dead
    world.until(lambda: a.up("Tunnel0") and b.up("Tunnel0"), 5.0)
    assert carries(a) not in dead
    assert carries(a) in b.sad.inbound
    assert carries(b) in a.sad.inbound
