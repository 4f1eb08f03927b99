"""A peer with the right certificate, or a plain spoke, that tries to draw packets which are not for it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve

from nhrp.wire import cie_extension, mpls_extension
from nhrp.wire.mpls import ContextLabel, MplsBinding, Role
from nhrp.wire.packet import Cie, CieCode, Extension, ExtensionKind, Flag, Kind, Packet
from stack.events import RouteOffered, SaWanted
from tests.nhrp.net import OUI, Box, Flex, Mgre, a, flex, mgre

REQUEST, REPLY = Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY
STABLE = Flag.ROUTER | Flag.AUTHORITATIVE | Flag.STABLE_SOURCE | Flag.NAT
NAT = ExtensionKind.NAT_ADDRESS


@pytest.fixture
def net() -> Flex:
    return flex()


@pytest.fixture
def many() -> Mgre:
    return mgre()


def bare_request(
    source: str, nbma: str, destination: str, *, label: ContextLabel | None = None, passed: tuple[Cie, ...] = ()
) -> Packet:
    extensions = [
        Extension(ExtensionKind.RESPONDER_ADDRESS),
        cie_extension(ExtensionKind.FORWARD_TRANSIT, passed),
        Extension(ExtensionKind.REVERSE_TRANSIT),
    ]
    if label is not None:
        extensions.append(mpls_extension(MplsBinding(Role.REQUEST, label), OUI))
    entry = Cie(0, 32, 1400, 600)
    return Packet(REQUEST, a(nbma), a(source), a(destination), 7, STABLE, (entry,), tuple(extensions))


def hosts(box: Box, vrf: str = "") -> set[str]:
    """Host routes that NHRP has made in a VRF."""
    return {
        str(slot.key)
        for slot in box.rows
        if slot.topic is RouteOffered and slot.table == vrf and slot.key.length == len(slot.key.network) * 8
    }


def of(sender: str, how: Callable[[Packet], Packet], kind: Kind = REPLY) -> Callable[[Packet, Box, Box], Packet]:
    return lambda packet, who, _to: how(packet) if packet.kind is kind and who.name == sender else packet


# --- a requester that says it is what it is not ---------------------------------------------------------------------------

BY_HUB = (Cie(nbma=a("192.0.2.1"), protocol=a("10.0.0.1")),)


@pytest.mark.parametrize("source", ["192.168.2.7", "192.0.2.1", "192.0.2.12", "192.0.2.254", "192.168.3.9"])
def test_N05_a_request_in_the_name_of_no_overlay_address_makes_no_route(many: Mgre, source: str) -> None:
    """A host of ours, an NBMA address, a host behind the hub: none of them is a station of the network."""
    many.b.lan("Ethernet0/0", "192.0.2.12/24")
    many.world.box("C", "192.0.2.66").tunnel("Tunnel0", address="10.0.0.66/24")
    many.world.forge(many.b, "Tunnel0", "192.0.2.1", bare_request(source, "192.0.2.66", "192.168.2.1", passed=BY_HUB))
    many.world.run(1)
    assert hosts(many.b) == set()


@pytest.mark.parametrize("source", ["192.168.2.7", "172.16.0.1", "172.16.2.254", "192.168.77.9", "10.0.0.1"])
def test_N05_of_virtual_access_too(net: Flex, source: str) -> None:
    net.b.lan("Ethernet0/0", "172.16.2.1/24")
    net.b.route("172.16.0.1/32", "172.16.2.254", owner="static")
    net.b.lan("Ethernet0/3", "192.168.2.1/24")
    net.b.route("192.168.77.0/24", "10.0.0.1", "Tunnel0")
    name = net.b.access(net.a.nbma)
    packet = bare_request(source, "172.16.1.1", "192.168.2.1", label=ContextLabel(40, a("10.0.0.12")))
    net.world.forge(net.b, name, "172.16.1.1", packet)
    net.world.run(1)
    assert hosts(net.b) == set()


def test_N05_the_hub_s_address_by_a_tunnel_with_a_subnet(net: Flex) -> None:
    """No host route says where the hub is: the tunnel's own subnet does."""
    for box, overlay in ((net.a, "10.0.0.21/24"), (net.b, "10.0.0.22/24")):
        box.no_route("10.0.0.1/32", owner="static")
        box._address("Tunnel0", overlay)
    name = net.b.access(net.a.nbma)
    packet = bare_request("10.0.0.1", "172.16.1.1", "192.168.2.1", label=ContextLabel(40, a("10.0.0.12")))
    net.world.forge(net.b, name, "172.16.1.1", packet)
    net.world.run(1)
    assert hosts(net.b) == set()


def test_N05_a_request_with_the_nbma_address_of_another_leads_nobody_there(net: Flex) -> None:
    """A calls, and says by its NAT extension or a transit record of its own making that it is where C is."""
    name = net.b.access(net.a.nbma)
    label = ContextLabel(40, a("10.0.0.12"))
    packet = bare_request("10.0.0.11", "172.16.1.1", "192.168.2.1", label=label)
    listed = cie_extension(NAT, (Cie(prefix_length=32, nbma=a("172.16.3.3"), protocol=a("10.0.0.11")),))
    net.world.forge(net.b, name, "172.16.1.1", evolve(packet, extensions=(*packet.extensions, listed)))
    net.world.forge(
        net.b, name, "172.16.1.1", bare_request("10.0.0.11", "172.16.3.3", "192.168.2.9", label=label, passed=BY_HUB)
    )
    net.world.run(1)
    assert a("172.16.3.3") not in {key.remote for key in net.b.wanted(SaWanted)}


def test_N05_a_registered_address_is_asked_for_by_its_owner_only(many: Mgre) -> None:
    """Plain DMVPN: the hub knows where B is, and lets nobody else ask as B."""
    packet = bare_request("10.0.0.12", "192.0.2.66", "192.168.1.1")
    many.world.forge(many.hub, "Tunnel0", "192.0.2.66", packet, sa=0)
    fake = bare_request("10.0.0.12", "192.0.2.66", "192.168.1.2", passed=(Cie(nbma=a("192.0.2.9")),))
    many.world.forge(many.hub, "Tunnel0", "192.0.2.66", fake, sa=0)
    many.world.run(1)
    assert many.world.sent(REQUEST, "hub") == []
    assert many.hub.counter("registered") >= 2


# --- answers ---------------------------------------------------------------------------------------------------------------


def nexthop(**more: Any) -> Callable[[Packet], Packet]:
    return lambda packet: evolve(packet, cies=(evolve(packet.cies[0], **more),))


def natted(nbma: str, overlay: str) -> Callable[[Packet], Packet]:
    def change(packet: Packet) -> Packet:
        rest = tuple(one for one in packet.extensions if one.kind != NAT)
        cie = Cie(prefix_length=32, holding_time=600, nbma=a(nbma), protocol=a(overlay))
        return evolve(packet, extensions=(*rest, cie_extension(NAT, (cie,))))

    return change


@pytest.mark.parametrize("overlay", ["172.16.0.1", "172.16.1.254", "192.168.77.9", "192.168.1.9"])
def test_N04_an_answer_makes_no_host_route_to_what_is_no_station(net: Flex, overlay: str) -> None:
    net.a.lan("Ethernet0/0", "172.16.1.1/24")
    net.a.route("172.16.0.1/32", "172.16.1.254", owner="static")
    net.a.lan("Ethernet0/3", "192.168.1.1/24")
    net.a.route("192.168.77.0/24", "10.0.0.1", "Tunnel0")
    net.world.change = of("B", nexthop(protocol=a(overlay)))
    net.ping()
    net.world.run(3)
    assert hosts(net.a) == set()
    assert set(net.a.shortcuts()) <= {("A", "192.168.2.0/24")}


def test_N04_an_answer_as_the_hub_by_a_tunnel_with_a_subnet() -> None:
    """Of a spoke with a whole subnet on its tunnel no host route says where the hub is."""
    net = flex()
    net.a.no_route("10.0.0.1/32", owner="static")
    net.a._address("Tunnel0", "10.0.0.21/24")
    net.world.change = of("B", nexthop(protocol=a("10.0.0.1")))
    net.ping()
    net.world.run(3)
    assert hosts(net.a) == set()
    assert net.ping() == ["A", "hub", "B"]


@pytest.mark.parametrize("nbma", ["172.16.0.1", "172.16.3.3"])
def test_V06_a_straight_answer_leads_to_its_sender_and_nowhere_else(net: Flex, nbma: str) -> None:
    """B's NAT extension names the hub (or C): A would push a label of B's choice into the hub's (C's) table of another VRF."""
    net.world.change = of("B", natted(nbma, "10.0.0.12"))
    net.ping()
    net.world.run(3)
    assert {name for name, _ in net.a.shortcuts().values()} <= {"Virtual-Access1"}
    assert {key.remote for key in net.a.wanted(SaWanted)} <= {net.b.nbma}


@pytest.mark.parametrize("nbma", ["172.16.0.1", "172.16.3.3"])
@pytest.mark.parametrize("how", ["cie", "nat"])
def test_V06_an_answer_by_the_hub_leads_to_its_sender_and_nowhere_else(net: Flex, nbma: str, how: str) -> None:
    net.world.unreachable.add(frozenset("AB"))
    change = nexthop(nbma=a(nbma)) if how == "cie" else natted(nbma, "10.0.0.12")
    net.world.change = of("B", change)
    net.ping()
    net.world.run(11)
    assert ("B", "hub", REPLY) in net.world.story()
    assert net.a.shortcuts() == {}
    # An NBMA address that the hub does not see may be the one behind a NAT; it says how it sees B.
    assert {key.remote for key in net.a.wanted(SaWanted)} <= {net.b.nbma}
    hidden = (how, nbma) == ("cie", "172.16.3.3")
    assert net.hub.counter("says more than its sender may") == (0 if hidden else 1)


def test_N04_the_next_request_s_id_cannot_be_guessed(net: Flex) -> None:
    """B, which was asked, answers what is asked of others too: it must not know their ids."""
    ids = [net.a.speaker.node.request_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert 0 not in ids
    gaps = {(after - before) & 0xFFFFFFFF for before, after in pairwise(ids)}
    assert len(gaps) > 990


def test_N04_an_answer_draws_no_more_than_the_hub_s_route() -> None:
    """The spoke knows a default route only; B has a /24, and says that it has a /8."""
    net = flex(default_only=True)
    net.world.change = of("B", nexthop(prefix_length=8))
    net.ping()
    net.world.run(2)
    assert list(net.a.shortcuts()) == [("A", "192.168.2.0/24")]
    assert net.world.packet(net.a, "A", "192.168.1.1", "192.168.3.5") == ["A", "hub"]


def test_N05_another_s_answers_are_not_taken_back_by_a_stranger(many: Mgre) -> None:
    many.up()
    cie = Cie(prefix_length=24, protocol=a("192.168.2.0"))
    forged = Packet(
        Kind.PURGE_REQUEST, a("192.0.2.12"), a("10.0.0.12"), a("10.0.0.11"), 5, Flag.NO_REPLY, (cie,), (Extension(4),)
    )
    for outer in ("192.0.2.66", "192.0.2.9"):
        many.world.forge(many.hub, "Tunnel0", outer, forged, sa=0)
        many.world.forge(many.a, "Tunnel0", outer, forged, sa=0)
    many.world.run(1)
    assert many.ping() == ["A", "B"]
    assert many.hub.counter("says more than its sender may") == 2


def test_N05_a_registered_station_s_answer_comes_from_itself(many: Mgre) -> None:
    """C was asked, and answers by the hub that B is the next hop."""
    many.world.drop = lambda packet, _sender, to: packet.kind is REQUEST and to.name == "B"
    many.ping()
    many.world.run(0.1)
    asked = many.world.sent(REQUEST, "A")[0]
    cie = Cie(0, 24, 1400, 600, a("192.0.2.12"), a("10.0.0.12"))
    many.world.forge(many.hub, "Tunnel0", "192.0.2.66", evolve(asked, kind=REPLY, cies=(cie,), extensions=()), sa=0)
    many.world.run(0.1)
    assert many.world.sent(REPLY, "hub", "A") == []
    assert many.a.shortcuts() == {}


def test_N05_a_registration_draws_no_host_of_another_s_network(many: Mgre) -> None:
    """192.168.2.7 is behind B, and so says the hub's route."""
    cie = Cie(0, 255, 1400, 600)
    packet = Packet(
        Kind.REGISTRATION_REQUEST, a("192.0.2.11"), a("192.168.2.7"), a("10.0.0.1"), 5, 0, (cie,), hop_count=1
    )
    many.world.forge(many.hub, "Tunnel0", "192.0.2.11", packet, sa=0)
    many.world.run(1)
    assert many.world.packet(many.hub, "", "192.168.3.5", "192.168.2.7") == ["hub", "B"]
    (reply,) = many.world.sent(Kind.REGISTRATION_REPLY, "hub", "A")[-1:]
    assert reply.cies[0].code == CieCode.PROHIBITED
