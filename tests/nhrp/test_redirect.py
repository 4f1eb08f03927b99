"""Traffic indications: who is told of a better way, what they say, and how often."""

from __future__ import annotations

import pytest

from nhrp.engine.redirect import PAIRS
from nhrp.wire.mpls import ContextLabel, Role
from nhrp.wire.packet import Kind, Packet
from stack.events import Hairpin, Ingress
from tests.nhrp.net import Flex, Mgre, a, flex, header, labels_of, mgre

INDICATION = Kind.TRAFFIC_INDICATION


@pytest.fixture
def net() -> Flex:
    return flex()


@pytest.fixture
def many() -> Mgre:
    return mgre()


def hairpin(net: Flex, source: str = "192.168.1.1", destination: str = "192.168.2.1", vrf: str = "A") -> list[Packet]:
    before = len(net.world.wire)
    ingress = Ingress("Virtual-Access1", "", a("172.16.1.1"), 1, 30)
    net.hub.receive(Hairpin(ingress, vrf, "Virtual-Access2", header(source, destination)))
    return [packet for _, _, packet in net.world.wire[before:]]


def test_an_indication_has_the_shape_that_everybody_takes(net: Flex) -> None:
    (packet,) = hairpin(net)
    assert (packet.kind, packet.code) == (INDICATION, 0)
    assert packet.hop_count > 0  # others drop hop count 0 unseen
    assert (packet.source_nbma, packet.source) == (a("172.16.0.1"), a("10.0.0.1"))
    assert packet.destination == a("192.168.1.1")
    assert packet.body == header("192.168.1.1", "192.168.2.1")
    assert [one.kind for one in packet.extensions] == [4, 5, 9, 8]
    assert labels_of(packet).context == ContextLabel(30, a("10.0.0.1"))
    assert labels_of(packet).role == Role.INDICATION
    assert labels_of(packet).extent == 24  # of the hub's own route


def test_without_a_label_it_says_nothing_of_labels(many: Mgre) -> None:
    many.ping()
    (packet,) = many.world.sent(INDICATION)
    assert [one.kind for one in packet.extensions] == [4, 5, 9]


def test_N07_one_indication_a_pair_and_timeout_at_10000_packets_a_second(net: Flex) -> None:
    sent = 0
    for _ in range(20):
        for _ in range(1_000):
            sent += len(hairpin(net))
        net.world.run(0.1)
    assert sent == 1
    assert net.hub.shown().traffic["Virtual-Access1", "out", "redirect-suppress"] == 19_999
    net.world.run(8)
    assert len(hairpin(net)) == 1


def test_N07_each_pair_and_vrf_is_told(net: Flex) -> None:
    assert len(hairpin(net)) == 1
    assert len(hairpin(net, source="192.168.1.2")) == 1
    assert len(hairpin(net, destination="192.168.2.2")) == 1
    assert len(hairpin(net, vrf="B")) == 1
    assert len(hairpin(net)) == 0


def test_N07_the_table_of_pairs_is_bounded(net: Flex) -> None:
    for number in range(2 * PAIRS):
        destination = f"192.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        ingress = Ingress("Virtual-Access1", "", bytes((172, 16, 1, number % 16)), 1, 30)
        net.hub.receive(Hairpin(ingress, "A", "Virtual-Access2", header("192.168.1.1", destination)))
    assert len(net.hub.speaker.redirects) == PAIRS
    assert net.hub.counter("too many pairs") == PAIRS
    net.world.run(9)
    assert len(hairpin(net)) == 1
    assert len(net.hub.speaker.redirects) == 1


def test_N07_pairs_of_one_sender_are_bounded(net: Flex) -> None:
    for number in range(PAIRS):
        hairpin(net, destination=f"192.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(net.hub.speaker.redirects) == PAIRS // 2
    assert net.hub.counter("too many pairs of one sender") == PAIRS // 2


def test_the_timeout_is_configured(net: Flex) -> None:
    net.hub.configure("Virtual-Template1", redirect_timeout=2)
    assert len(hairpin(net)) == 1
    net.world.run(2.1)
    assert len(hairpin(net)) == 1


def test_an_interface_without_redirect_tells_nobody(many: Mgre) -> None:
    many.hub.tunnel("Tunnel0", address="10.0.0.1/24")
    ingress = Ingress("Tunnel0", "", a("192.0.2.11"))
    many.hub.receive(Hairpin(ingress, "", "Tunnel0", header("192.168.1.1", "192.168.2.1")))
    assert many.world.sent(INDICATION) == []


def test_what_goes_back_to_its_own_sender_is_not_redirected(many: Mgre) -> None:
    many.hub.route("192.168.77.0/24", "10.0.0.11")
    ingress = Ingress("Tunnel0", "", a("192.0.2.11"))
    many.hub.receive(Hairpin(ingress, "", "Tunnel0", header("192.168.1.1", "192.168.77.1")))
    assert many.world.sent(INDICATION) == []
    assert many.hub.counter("goes back") == 1


@pytest.mark.parametrize("octets", [b"", b"\x45", b"\x45" + bytes(18), b"\x60" + bytes(38), b"\x00" * 40])
def test_a_header_that_is_none_is_ignored(net: Flex, octets: bytes) -> None:
    net.hub.receive(Hairpin(Ingress("Virtual-Access1", "", a("172.16.1.1")), "A", "Virtual-Access2", octets))
    assert net.world.sent(INDICATION) == []


def test_while_stopping_nobody_is_redirected(net: Flex) -> None:
    net.hub.do(net.hub.speaker.stop(net.world.now))
    assert hairpin(net) == []
