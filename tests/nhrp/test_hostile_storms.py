"""Floods: what one peer can use up, and what is left for the others."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.engine.gate import ERROR_RATE, PEER_RATE
from nhrp.engine.redirect import PAIRS
from nhrp.engine.requester import INDICATION_RATE, REQUEST_RATE
from nhrp.engine.shares import PARTS, Shares
from nhrp.wire import mpls_extension
from nhrp.wire.mpls import ContextLabel, MplsBinding, Role
from nhrp.wire.packet import Cie, Extension, Flag, Kind, Packet
from stack.events import Hairpin, Ingress
from tests.nhrp.net import OUI, Flex, Mgre, a, flex, header, mgre

REQUEST, REPLY, INDICATION = Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY, Kind.TRAFFIC_INDICATION


@pytest.fixture
def net() -> Flex:
    return flex()


@pytest.fixture
def many() -> Mgre:
    return mgre()


def redirect(source: str, nbma: str, destination: str, label: int | None = 30) -> Packet:
    extensions: tuple[Extension, ...] = ()
    if label is not None:
        context = ContextLabel(label, a("10.0.0.1"))
        extensions = (mpls_extension(MplsBinding(Role.INDICATION, context), OUI),)
    body = header("192.168.1.1", destination)
    return Packet(INDICATION, a(nbma), a(source), a("192.168.1.1"), extensions=extensions, body=body)


# --- shares -----------------------------------------------------------------------------------------------------------------


def test_one_alone_has_all() -> None:
    shares = Shares(100)
    assert sum(shares.take("a", 0.0) for _ in range(1000)) >= 50
    taken = sum(shares.take("a", second / 1000) for second in range(10_000))
    assert taken >= 950


def test_whoever_takes_all_leaves_their_share_to_others() -> None:
    shares, taken = Shares(100), 0
    for moment in range(10_000):
        now = moment / 1000
        for _ in range(10):
            shares.take("flood", now)
        if not moment % 100:
            taken += shares.take("other", now)  # ten a second
    assert taken == 100


def test_those_that_are_idle_are_forgotten() -> None:
    shares = Shares(100)
    for number in range(100_000):
        shares.take(number, number / 10)
    assert len(shares) <= 2 * PARTS * 100


def test_packets_of_one_peer_are_limited_before_they_are_read(net: Flex) -> None:
    name = net.hub.accesses[net.a.nbma]
    flood = redirect("10.0.0.11", "172.16.1.1", "192.168.2.1")
    for _ in range(3 * PEER_RATE):
        net.world.forge(net.hub, name, "172.16.1.1", flood)
    assert net.hub.counter("more than one peer may send") == 2 * PEER_RATE
    assert net.back() == ["B", "hub", "A"]
    net.world.run(1)
    assert net.back() == ["B", "A"]


# --- each peer's part ----------------------------------------------------------------------------------------------------


def test_N07_redirects_of_a_spoke_do_not_use_up_the_hub_s(net: Flex) -> None:
    """B sends thousands that are not for it to send; the hub's own are heard all the same."""
    name = net.a.access(net.b.nbma)
    net.world.drop = lambda packet, _sender, _to: packet.kind is REQUEST
    for number in range(20):
        for _ in range(int(INDICATION_RATE)):
            net.world.forge(net.a, name, "172.16.2.1", redirect("10.0.0.12", "172.16.2.1", "192.168.2.1"))
        net.world.forge(net.a, "Tunnel0", "172.16.0.1", redirect("10.0.0.1", "172.16.0.1", f"192.168.2.{number + 1}"))
        assert len({packet.destination for packet in net.world.sent(REQUEST, "A")}) == number + 1
        net.world.run(0.05)


def test_N07_one_customer_s_redirects_leave_the_other_s_resolutions(net: Flex) -> None:
    net.a.vrf("A", "B")
    net.a.lan("Ethernet0/2", "192.168.1.253/24", "B")
    net.a.route("172.20.0.0/16", "10.0.0.1", vrf="A", labels=(30,))
    net.a.route("192.168.2.0/24", "10.0.0.1", vrf="B", labels=(31,))
    for number in range(40):
        for host in range(20):
            asked = redirect("10.0.0.1", "172.16.0.1", f"172.20.{number}.{host + 1}")
            net.world.forge(net.a, "Tunnel0", "172.16.0.1", asked)
        net.world.run(0.05)
    assert net.a.counter("too many") > 100
    for host in range(10):
        net.world.forge(net.a, "Tunnel0", "172.16.0.1", redirect("10.0.0.1", "172.16.0.1", f"192.168.2.{host + 1}", 31))
    assert sum(one.vrf == "B" for one in net.a.shown().pending) >= REQUEST_RATE / PARTS - 3


def test_N07_pairs_of_one_spoke_leave_room_for_another_s(net: Flex) -> None:
    def sent(interface: str, endpoint: str, source: str, destination: str) -> int:
        before = net.hub.counter("redirects sent")
        ingress = Ingress(interface, "", a(endpoint), 1, 30)
        net.hub.receive(Hairpin(ingress, "A", "Virtual-Access2", header(source, destination)))
        return net.hub.counter("redirects sent") - before

    flood = sum(
        sent("Virtual-Access2", "172.16.2.1", f"192.168.2.{n % 250 + 1}", f"192.168.1.{n // 250 + 1}")
        for n in range(2 * PAIRS)
    )
    assert flood <= PAIRS
    assert sent("Virtual-Access1", "172.16.1.1", "192.168.1.1", "192.168.2.1") == 1


def test_errors_of_one_peer_leave_another_s(many: Mgre) -> None:
    """The hub tells A what is wrong although B provokes all the errors that it can."""
    bad = Packet(Kind.REGISTRATION_REQUEST, a("192.0.2.12"), a("10.0.0.12"), a("10.0.0.1"), 1)
    for _ in range(10 * ERROR_RATE):
        many.world.forge(many.hub, "Tunnel0", "192.0.2.12", bad, sa=0)
    before = len(many.world.sent(Kind.ERROR_INDICATION, "hub", "A"))
    other = evolve(bad, source_nbma=a("192.0.2.11"), source=a("10.0.0.11"))
    many.world.forge(many.hub, "Tunnel0", "192.0.2.11", other, sa=0)
    assert len(many.world.sent(Kind.ERROR_INDICATION, "hub", "A")) == before + 1


def test_registrations_of_one_peer_leave_room_for_others() -> None:
    net = mgre(cache_limit=2_000)
    taken = 0
    for number in range(200):
        cies = tuple(Cie(0, 255, 1400, 600, protocol=a(f"10.0.0.{host}")) for host in range(20, 52))
        cies = tuple(evolve(cie, protocol=bytes((10, 1 + number, 0, cie.protocol[3]))) for cie in cies)
        packet = Packet(
            Kind.REGISTRATION_REQUEST, a("192.0.2.12"), a("10.0.0.12"), a("10.0.0.1"), number, 0, cies, hop_count=1
        )
        net.world.forge(net.hub, "Tunnel0", "192.0.2.12", packet, sa=0)
        net.world.run(0.02)
        taken += sum(not cie.code for cie in net.world.sent(Kind.REGISTRATION_REPLY, "hub", "B")[-1].cies)
    assert taken <= 1_024
    packet = Packet(
        Kind.REGISTRATION_REQUEST,
        a("192.0.2.11"),
        a("10.0.0.99"),
        a("10.0.0.1"),
        1,
        0,
        (Cie(0, 255, 1400, 600),),
        hop_count=1,
    )
    net.world.forge(net.hub, "Tunnel0", "192.0.2.11", packet, sa=0)
    net.world.run(0.1)
    assert net.world.sent(Kind.REGISTRATION_REPLY, "hub", "A")[-1].cies[0].code == 0


def test_answers_to_strangers_leave_room_for_our_own_shortcuts() -> None:
    """10^4 requests under as many names, by the hub, which knows none of them: B's table is B's own too."""
    net = mgre(cache_limit=500)
    flags = Flag.ROUTER | Flag.AUTHORITATIVE | Flag.STABLE_SOURCE | Flag.NAT
    record = Extension(4, bytes.fromhex("0000000000001c2004000400") + a("192.0.2.1") + a("10.0.0.1"))
    for number in range(2_000):
        source = bytes((10, 0, 1 + number // 250, number % 250 + 1))
        packet = Packet(
            REQUEST,
            bytes((198, 18, number // 250, number % 250 + 1)),
            source,
            a("192.168.2.1"),
            number + 1,
            flags,
            (Cie(0, 32, 1400, 600),),
            (Extension(3), record, Extension(5)),
        )
        net.world.forge(net.b, "Tunnel0", "192.0.2.1", packet, sa=0)
    assert len(net.b.speaker.egress) <= 250
    assert net.back()[:2] == ["B", "hub"]
    net.world.run(2)
    assert net.back() == ["B", "A"]
    net.world.run(700)
    assert len(net.b.speaker.egress) == 0
    assert len(net.b.speaker.node.timers) < 20
    assert len(net.b.speaker.reach) <= 2


def test_a_flood_does_not_stop_the_renewal_of_another_s_shortcut(net: Flex) -> None:
    net.up()
    net.a.route("172.20.0.0/16", "10.0.0.1", vrf="A", labels=(30,))
    for number in range(1_300):
        net.world.forge(
            net.a,
            "Tunnel0",
            "172.16.0.1",
            redirect("10.0.0.1", "172.16.0.1", f"172.20.{number % 250}.{number // 250 + 1}"),
        )
        net.ping()
        net.world.run(0.5)
    assert net.ping() == ["A", "B"]
    assert net.a.counter("shortcuts renewed") >= 1
