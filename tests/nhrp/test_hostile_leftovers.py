"""Names that are used again, restarts in between, and what must not stay."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.wire.packet import Cie, Kind, Packet
from stack.claims import Slot
from stack.events import OverlayState, RouteOffered, SaKey, SaRequest, SaWanted
from tests.nhrp.net import Box, Flex, a, flex
from tests.nhrp.test_resolution_egress import request

REQUEST, REPLY, PURGE = Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY, Kind.PURGE_REQUEST


@pytest.fixture
def net() -> Flex:
    return flex()


def again(box: Box, name: str, remote: str) -> None:
    """The interface goes, and comes back as another peer's: IKEv2 gives the lowest free number."""
    old = next(far for far, used in box.accesses.items() if used == name)
    box.no_access(old)
    box._numbers = iter([int(name.removeprefix("Virtual-Access"))])
    assert box.access(a(remote)) == name


def stranger(net: Flex) -> None:
    """C, which has an SA with B and keeps it."""
    box = net.world.box("C", "172.16.3.1", 60)
    box.tunnel("Tunnel0", "172.16.2.1", "10.0.0.13/32", mpls=True)
    box.rows[Slot(SaWanted, "", SaKey(box.template, net.b.nbma))] = SaRequest("default", box.nbma, net.b.nbma)


def packets_to(net: Flex, name: str) -> list[Packet]:
    return [packet for _, to, packet in net.world.wire if to == name]


def test_what_one_peer_was_told_is_not_taken_back_at_another(net: Flex) -> None:
    """A's interface at B is C's now; B's purge, with prefix and label of a VRF, is none of C's business."""
    net.up()
    stranger(net)
    (name,) = net.b.accesses.values()
    again(net.b, name, "172.16.3.1")
    net.b.no_route("192.168.2.0/24", vrf="A")
    net.b.do(net.b.speaker.clear(net.world.now)[1])
    net.world.run(5)
    assert packets_to(net, "C") == []


def test_a_restart_tells_nobody_else(net: Flex) -> None:
    """B has answered A over its own tunnel; B's NHRP dies, the interface becomes C's meanwhile."""
    net.up()
    name = net.b.accesses[net.a.nbma]
    straight = request(request_id=33)
    net.world.forge(
        net.b, name, "172.16.1.1", evolve(straight, source_nbma=a("172.16.1.1"), destination=a("192.168.2.9"))
    )
    net.world.run(1)
    assert name in {told.interface for told in net.b.kept.told.values()}
    stranger(net)
    net.b.crash()
    again(net.b, name, "172.16.3.1")
    net.b.restart()
    net.world.run(10)
    assert packets_to(net, "C") == []


def test_a_late_answer_goes_to_nobody_else(net: Flex) -> None:
    """The reply waits for its label while the interface that the question came by becomes another's."""
    stranger(net)
    net.b.has_mfi = False
    net.b.no_label(next(iter(net.b.speaker.node.labels)))
    name = net.b.access(net.a.nbma)
    net.world.forge(net.b, name, "172.16.1.1", request(source="10.0.0.11"))
    again(net.b, name, "172.16.3.1")
    net.world.run(20)
    assert packets_to(net, "C") == []


def test_N05_registrations_do_not_outlive_their_interface() -> None:
    """After a restart the interface is another's: it does not get the host route of the one that registered."""
    net = flex()
    net.hub.no_route("10.0.0.11/32", owner="ikev2")
    name = net.hub.accesses[net.a.nbma]
    net.hub.feed(OverlayState, "ikev2", {(name, a("10.0.0.11")): None})
    packet = Packet(
        Kind.REGISTRATION_REQUEST,
        a("172.16.1.1"),
        a("10.0.0.11"),
        a("10.0.0.1"),
        5,
        0,
        (Cie(0, 255, 1400, 600),),
        hop_count=1,
    )
    net.world.forge(net.hub, name, "172.16.1.1", packet)
    assert [one.nbma for one in net.hub.bindings()] == [net.a.nbma]
    net.hub.crash()
    again(net.hub, name, "172.16.3.1")
    net.hub.restart()
    net.world.run(1)
    assert net.hub.bindings() == []
    assert net.hub.wanted(RouteOffered) == {}


def test_counts_go_with_their_interface(net: Flex) -> None:
    for number in range(50):
        name = net.hub.access(bytes((172, 16, 9, number + 1)))
        net.world.forge(net.hub, name, f"172.16.9.{number + 1}", request(source="10.0.0.77"))
        net.hub.no_access(bytes((172, 16, 9, number + 1)))
    net.world.run(30)
    shown = net.hub.shown()
    assert {name for name, _, _ in shown.traffic} <= set(shown.networks)


def test_a_purge_is_answered_by_whom_it_was_for(net: Flex) -> None:
    """C has guessed its number; B goes on telling A."""
    net.up()
    net.world.drop = lambda packet, _sender, to: packet.kind is PURGE and to.name == "A"
    net.b.do(net.b.speaker.clear(net.world.now)[1])
    net.world.run(0.1)
    (said,) = net.world.sent(PURGE, "B")
    stranger(net)
    name = net.b.access(a("172.16.3.1"))
    forged = evolve(said, kind=Kind.PURGE_REPLY, destination=a("10.0.0.13"))
    net.world.forge(net.b, name, "172.16.3.1", forged)
    net.world.forge(net.b, name, "172.16.3.1", evolve(forged, destination=said.destination))
    net.world.run(2)
    assert len(net.world.sent(PURGE, "B")) > 1
