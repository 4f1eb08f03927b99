"""What a requester believes: redirects that it follows, replies that it takes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from attrs import evolve

from nhrp.engine.requester import GIVE_UP, REQUEST_RATE, RETRIES
from nhrp.engine.shortcuts import NEGATIVE_TIME, TUNNEL_TIME
from nhrp.engine.snapshot import BindingKind
from nhrp.events import RedirectReceived, ShortcutUp
from nhrp.wire import cie_extension, mpls_extension
from nhrp.wire.mpls import ContextLabel, FecLabel, MplsBinding, NextHopLabel, Role
from nhrp.wire.packet import Cie, CieCode, ErrorCode, Extension, ExtensionKind, Kind, Packet
from stack.claims import Slot
from stack.events import EndpointOffered, SaWanted
from tests.nhrp.net import OUI, Box, Flex, Mgre, World, a, flex, header, labels_of, mgre, p

REQUEST, REPLY = Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY


@pytest.fixture
def net() -> Flex:
    return flex()


@pytest.fixture
def many() -> Mgre:
    return mgre()


def losing(kind: Kind, receiver: str = "") -> Callable[[Packet, Box, Box], bool]:
    return lambda packet, _sender, to: packet.kind is kind and receiver in ("", to.name)


def altered(world: World, how: Callable[[Packet], Packet]) -> None:
    """Every resolution reply of B is altered."""
    world.change = lambda packet, sender, _to: how(packet) if packet.kind is REPLY and sender.name == "B" else packet


def with_cie(**more: object) -> Callable[[Packet], Packet]:
    return lambda packet: evolve(packet, cies=(evolve(packet.cies[0], **more),))


def with_binding(binding: MplsBinding | None) -> Callable[[Packet], Packet]:
    def change(packet: Packet) -> Packet:
        kept = tuple(one for one in packet.extensions if one.kind != ExtensionKind.VENDOR_PRIVATE)
        return evolve(packet, extensions=(*kept, mpls_extension(binding, OUI)) if binding is not None else kept)

    return change


def indication(net: Flex, source: str = "192.168.1.1", destination: str = "192.168.2.1", **more: object) -> Packet:
    label = more.pop("label", 30)
    allocator = more.pop("allocator", "10.0.0.1")
    extensions: tuple[Extension, ...] = ()
    if label is not None:
        context = ContextLabel(int(str(label)), a(str(allocator)))
        extensions = (mpls_extension(MplsBinding(Role.INDICATION, context), OUI),)
    packet = Packet(
        Kind.TRAFFIC_INDICATION,
        net.hub.nbma,
        a("10.0.0.1"),
        a(source),
        extensions=extensions,
        body=header(source, destination),
    )
    return evolve(packet, **more) if more else packet


def told(net: Flex, packet: Packet, interface: str = "Tunnel0", outer: str = "172.16.0.1") -> int:
    """Requests that A sends because of it."""
    before = len(net.world.sent(REQUEST, "A"))
    net.world.forge(net.a, interface, outer, packet)
    return len(net.world.sent(REQUEST, "A")) - before


# --- redirects ----------------------------------------------------------------------------------------------------------


def test_a_redirect_of_our_next_hop_is_followed(net: Flex) -> None:
    assert told(net, indication(net)) == 1
    assert net.a.of(RedirectReceived)[0].vrf == "A"


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"label": 31}, "from nobody who is our next hop"),
        ({"allocator": "10.0.0.12"}, "from nobody who is our next hop"),
        ({"label": None}, "from nobody who is our next hop"),
        ({"source": "192.168.77.1"}, "from nobody who is our next hop"),
        ({"source": "192.168.2.9"}, "from nobody who is our next hop"),
        ({"destination": "192.168.1.7"}, "from nobody who is our next hop"),
        ({"destination": "172.31.1.7"}, "from nobody who is our next hop"),
        ({"body": b""}, "no IP header"),
        ({"body": b"\x45"}, "no IP header"),
        ({"body": b"\x60" + bytes(47)}, "no IP header"),
    ],
)
def test_N07_indication_for_what_is_not_ours_is_ignored(net: Flex, what: dict[str, object], why: str) -> None:
    assert told(net, indication(net, **what)) == 0  # type: ignore[arg-type]  # text or octets
    assert net.a.counter(f"redirect ignored: {why}") == 1
    assert net.a.shown().pending == ()


def test_N07_indication_from_another_station_is_ignored(many: Mgre) -> None:
    packet = Packet(
        Kind.TRAFFIC_INDICATION,
        a("192.0.2.12"),
        a("10.0.0.12"),
        a("192.168.1.1"),
        body=header("192.168.1.1", "192.168.3.1"),
    )
    many.world.forge(many.a, "Tunnel0", "192.0.2.12", packet)
    assert many.world.sent(REQUEST) == []
    forged = evolve(packet, source=a("10.0.0.1"), source_nbma=a("192.0.2.1"))
    many.world.forge(many.a, "Tunnel0", "192.0.2.12", forged)
    assert many.world.sent(REQUEST) == []
    many.world.forge(many.a, "Tunnel0", "192.0.2.1", forged)
    assert len(many.world.sent(REQUEST)) == 1


def test_N07_a_storm_of_forged_prefixes_is_bounded() -> None:
    net = flex(pending_limit=256, default_only=True)
    for number in range(10_000):
        if number % 100 == 0:
            net.world.run(0.1)
        destination = f"192.168.{4 + number % 250}.{number // 250}"
        net.world.forge(net.a, "Tunnel0", "172.16.0.1", indication(net, destination=destination))
    node = net.a.speaker.node
    assert len(net.a.speaker.shortcuts) <= 256
    assert len(net.world.sent(REQUEST, "A")) <= (10 + 1) * REQUEST_RATE + 256 * len(RETRIES)
    assert net.a.counter("redirect ignored") > 8_000
    assert len(node.timers) <= 2 * 256 + 2
    net.world.run(GIVE_UP + NEGATIVE_TIME + 1)
    assert len(net.a.speaker.shortcuts) == 0
    assert net.a.rows == {}


def test_several_redirects_for_one_destination_make_one_resolution(net: Flex) -> None:
    net.world.drop = losing(REQUEST)
    assert [told(net, indication(net)) for _ in range(5)] == [1, 0, 0, 0, 0]
    assert net.a.counter("asked already") == 4


def test_without_shortcuts_on_the_interface_nothing_is_asked(net: Flex) -> None:
    net.a.configure("Tunnel0", shortcut=False)
    assert told(net, indication(net)) == 0
    assert net.a.counter("no shortcuts") == 1


def test_two_vrfs_that_fit_are_no_guess(net: Flex) -> None:
    """An extranet: the same route, label and sender in two VRFs, and the same source behind us."""
    net.a.vrf("A", "B")
    net.a.lan("Ethernet0/2", "192.168.1.253/24", "B")
    net.a.route("192.168.2.0/24", "10.0.0.1", vrf="B", labels=(30,))
    assert told(net, indication(net)) == 0
    assert net.a.counter("several VRFs fit") == 1


def test_the_vrf_is_the_one_with_that_label(net: Flex) -> None:
    """Overlapping addresses: VRF B has the same networks, and another label."""
    net.a.vrf("A", "B")
    net.a.lan("Ethernet0/2", "192.168.1.253/24", "B")
    net.a.route("192.168.2.0/24", "10.0.0.1", vrf="B", labels=(31,))
    net.world.drop = losing(REQUEST)
    assert told(net, indication(net, label=31)) == 1
    assert net.a.shown().pending[0].vrf == "B"
    assert told(net, indication(net, label=30)) == 1
    assert [one.vrf for one in net.a.shown().pending] == ["B", "A"]


# --- requests -----------------------------------------------------------------------------------------------------------


def test_rfc2332_5_2_0_1_retransmissions_have_the_same_id_and_back_off(net: Flex) -> None:
    net.world.drop = losing(REQUEST)
    net.ping()
    times = []
    for _ in range(400):
        before = len(net.world.sent(REQUEST, "A"))
        net.world.run(0.1)
        times += [net.world.now] * (len(net.world.sent(REQUEST, "A")) - before)
    gaps = [round(later - sooner) for sooner, later in pairwise(times)]
    assert gaps == [1, 2, 4, 8]
    assert len({packet.request_id for packet in net.world.sent(REQUEST, "A")}) == 1
    (entry,) = net.a.bindings(BindingKind.NEGATIVE)
    assert entry.reason == "nobody has answered"


def test_a_negative_entry_holds_down_and_ends(net: Flex) -> None:
    net.world.drop = losing(REQUEST)
    net.ping()
    net.world.run(GIVE_UP + 1)
    assert told(net, indication(net)) == 0
    net.world.run(NEGATIVE_TIME)
    net.world.drop = lambda _packet, _sender, _to: False
    assert net.a.bindings() == []
    assert told(net, indication(net)) == 1


def test_one_lost_request_costs_a_second(net: Flex) -> None:
    lost: list[Packet] = []
    net.world.drop = lambda packet, _sender, _to: packet.kind is REQUEST and not lost and not lost.append(packet)  # type: ignore[func-returns-value]  # said once
    net.up()
    (up,) = net.a.of(ShortcutUp)
    assert 1.0 < up.seconds < 1.5


def test_an_error_indication_ends_the_resolution(net: Flex) -> None:
    net.world.drop = losing(REQUEST)
    net.ping()
    net.world.run(0.1)
    asked = net.a.speaker.node.encode(net.world.sent(REQUEST, "A")[0])
    error = Packet(
        Kind.ERROR_INDICATION, net.hub.nbma, a("10.0.0.1"), a("10.0.0.11"), code=ErrorCode.UNREACHABLE, body=asked[:60]
    )
    net.world.forge(net.a, "Tunnel0", "172.16.0.1", evolve(error, body=asked[:27]))
    assert len(net.a.shown().pending) == 1
    net.world.forge(net.a, "Tunnel0", "172.16.0.1", error)
    (entry,) = net.a.bindings(BindingKind.NEGATIVE)
    assert entry.reason == "error indication: unreachable"


# --- replies ------------------------------------------------------------------------------------------------------------


def refused(net: Flex, why: str) -> None:
    """The reply came, and was not believed."""
    net.ping()
    net.world.run(3)
    assert net.a.shortcuts() == {}
    assert net.a.counter(why) >= 1, net.a.speaker.node.counters
    assert net.ping() == ["A", "hub", "B"]


def test_N04_reply_with_an_unknown_request_id(net: Flex) -> None:
    altered(net.world, lambda packet: evolve(packet, request_id=packet.request_id + 1))
    refused(net, "reply ignored: not asked for, or late")


def test_N04_reply_after_the_time_is_over(net: Flex) -> None:
    net.up()
    reply = net.world.sent(REPLY)[0]
    net.a.do(net.a.speaker.clear(net.world.now)[1])
    net.a.settle()
    net.world.forge(net.a, "Tunnel0", "172.16.0.1", reply)
    assert net.a.shortcuts() == {}
    assert net.a.counter("not asked for, or late") == 1


def test_N04_a_second_reply_changes_nothing(net: Flex) -> None:
    net.up()
    reply = with_cie(protocol=a("10.0.0.66"), nbma=a("172.16.6.6"))(net.world.sent(REPLY)[0])
    net.world.forge(net.a, "Tunnel0", "172.16.0.1", reply)
    assert net.a.shortcuts() == {("A", "192.168.2.0/24"): ("Virtual-Access1", (40,))}
    assert {key.remote for key in net.a.wanted(SaWanted)} == {net.b.nbma}
    assert net.ping() == ["A", "B"]


def test_N04_reply_from_a_host_not_asked(many: Mgre) -> None:
    """C knows the id (it is on the way), but is neither our next hop nor the station that it names."""
    many.world.drop = losing(REQUEST, "B")
    many.ping()
    many.world.run(0.1)
    asked = many.world.sent(REQUEST, "A")[0]
    cie = Cie(0, 24, 1400, 600, a("192.0.2.12"), a("10.0.0.12"))
    reply = evolve(asked, kind=REPLY, cies=(cie,), extensions=())
    many.world.forge(many.a, "Tunnel0", "192.0.2.66", reply, sa=0)
    assert many.a.counter("from a host not asked") == 1
    assert many.a.shortcuts() == {}
    many.world.forge(many.a, "Tunnel0", "192.0.2.12", reply, sa=0)
    many.world.run(0.1)
    assert list(many.a.shortcuts()) == [("", "192.168.2.0/24")]


def test_N04_right_id_but_another_vrf(net: Flex) -> None:
    """A tunnel whose inside is another VRF, or another NHRP network, brings the reply."""
    net.a.vrf("A", "X")
    net.a.tunnel("Tunnel7", "172.16.2.1", "10.7.0.1/24", vrf="X", mpls=True)
    net.a.configure("Tunnel7", shortcut=True)
    net.world.drop = losing(REPLY)
    net.ping()
    net.world.run(1)
    reply = net.world.sent(REPLY)[0]
    net.world.forge(net.a, "Tunnel7", "172.16.2.1", reply)
    net.world.run(0.1)
    assert net.a.shortcuts() == {}
    assert net.a.counter("passed on") == 0


def test_reply_about_another_destination(net: Flex) -> None:
    altered(net.world, lambda packet: evolve(packet, destination=a("192.168.2.2")))
    refused(net, "about another destination")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"holding_time": 0}, "holding time 0"),
        ({"protocol": b""}, "no addresses"),
        ({"nbma": b""}, "no addresses"),
        ({"protocol": a("10.0.0.11")}, "the next hop cannot be there"),
        ({"protocol": a("10.0.0.1")}, "the next hop cannot be there"),
        ({"prefix_length": 7}, "too short"),
        ({"prefix_length": 33}, "too short"),
    ],
)
def test_reply_that_cannot_be_so(net: Flex, change: dict[str, object], why: str) -> None:
    altered(net.world, with_cie(**change))
    refused(net, why)


def test_who_has_an_sa_is_where_the_sa_leads_whatever_it_says(net: Flex) -> None:
    altered(net.world, with_cie(nbma=a("224.0.0.1")))
    net.up()
    assert {key.remote for key in net.a.wanted(SaWanted)} == {net.b.nbma}


@pytest.mark.parametrize("nbma", ["172.16.1.1", "224.0.0.1", "127.0.0.1", "0.0.0.0"])
def test_reply_through_the_hub_with_an_nbma_address_that_cannot_be(net: Flex, nbma: str) -> None:
    net.world.unreachable.add(frozenset("AB"))

    def lie(packet: Packet, sender: Box, to: Box) -> Packet:
        if packet.kind is not REPLY or sender.name != "hub":
            return packet
        return evolve(with_cie(nbma=a(nbma))(packet), extensions=packet.extensions[:3] + packet.extensions[4:])

    net.world.change = lie
    net.ping()
    net.world.run(12)
    assert net.a.wanted(SaWanted) == {}
    assert net.a.counter("reply ignored") >= 1


def test_a_reply_draws_no_more_than_our_own_route(net: Flex) -> None:
    """The egress answers with /16; the hub's route sends only 192.168.2.0/24 there."""
    altered(net.world, with_cie(prefix_length=16))
    net.up()
    assert list(net.a.shortcuts()) == [("A", "192.168.2.0/24")]
    assert net.a.counter("cut down") == 1


def test_a_reply_never_draws_our_own_prefix() -> None:
    net = flex(default_only=True)
    net.hub.no_route("192.168.2.0/24", vrf="A")
    net.hub.route("192.168.0.0/16", "10.0.0.12", vrf="A", labels=(40,))
    net.world.run(0.1)
    altered(net.world, with_cie(prefix_length=16))
    net.up()
    assert list(net.a.shortcuts()) == [("A", "192.168.0.0/16")]
    # What is connected here stays here.
    assert net.world.packet(net.a, "A", "192.168.1.1", "192.168.1.9") == ["A"]


def test_a_reply_never_draws_a_default_route() -> None:
    net = flex(default_only=True)
    altered(net.world, with_cie(prefix_length=1))
    net.ping()
    net.world.run(2)
    assert net.a.shortcuts() == {}


def test_host_prefixes_are_written_in_three_ways() -> None:
    for length in (0, 32, 255):
        net = flex()
        altered(net.world, with_cie(prefix_length=length))
        net.up()
        assert list(net.a.shortcuts()) == [("A", "192.168.2.1/32")]


@pytest.mark.parametrize(
    "binding",
    [
        None,
        MplsBinding(Role.REQUEST, ContextLabel(40, a("10.0.0.12"))),  # nhrpd echoes the request's
        MplsBinding(Role.REPLY),
    ],
)
def test_a_reply_without_a_label_is_no_shortcut_of_a_vrf(net: Flex, binding: MplsBinding | None) -> None:
    altered(net.world, with_binding(binding))
    net.ping()
    net.world.run(3)
    assert net.a.shortcuts() == {}
    (entry,) = net.a.bindings(BindingKind.NEGATIVE)
    assert "no label" in entry.reason
    assert net.ping() == ["A", "hub", "B"]


@pytest.mark.parametrize(
    "binding",
    [
        MplsBinding(Role.REPLY, fec=(FecLabel(0, (3,)),)),
        MplsBinding(Role.REPLY, fec=(FecLabel(0, (0,)),)),
        MplsBinding(Role.REPLY, fec=(FecLabel(0, (40, 41)),)),
        MplsBinding(Role.REPLY, fec=(FecLabel(1, (40,)),)),
        MplsBinding(Role.REPLY, fec=(FecLabel(0, (40,)),), next_hop=(NextHopLabel(0, 99),)),
    ],
)
def test_V03_labels_that_mean_something_else_are_not_pushed(net: Flex, binding: MplsBinding) -> None:
    altered(net.world, with_binding(binding))
    refused(net, "reply ignored")


def test_a_malformed_label_extension_is_no_reply(net: Flex) -> None:
    altered(
        net.world,
        lambda packet: evolve(
            packet, extensions=(Extension(8, OUI + b"\x01\x01\x02\0\0\0\x02\0\x09\0", compulsory=False),)
        ),
    )
    refused(net, "malformed extension")


def test_a_negative_reply_holds_down(net: Flex) -> None:
    altered(net.world, with_cie(code=CieCode.PROHIBITED, holding_time=0))
    net.ping()
    net.world.run(1)
    (entry,) = net.a.bindings(BindingKind.NEGATIVE)
    assert entry.reason == "refused: administratively prohibited"
    assert told(net, indication(net)) == 0


# --- who does otherwise -------------------------------------------------------------------------------------------------


def test_a_far_end_like_nhrpd_is_a_plain_shortcut_in_the_global_table(many: Mgre) -> None:
    """It answers by the hub, keeps neither NAT nor U flag, echoes what it does not know, and has holding time and prefix."""

    def nhrpd(packet: Packet) -> Packet:
        echo = mpls_extension(MplsBinding(Role.REQUEST, ContextLabel(30, a("10.0.0.1"))), OUI)
        return evolve(packet, flags=0xE800, hop_count=64, extensions=(*packet.extensions, echo))

    altered(many.world, nhrpd)
    many.world.drop = lambda packet, sender, to: packet.kind is REPLY and sender.name == "B" and to.name == "A"
    many.ping()
    many.world.run(0.1)
    (reply,) = many.world.sent(REPLY)
    many.world.forge(many.a, "Tunnel0", "192.0.2.1", reply, sa=0)
    many.world.run(1)
    assert many.ping() == ["A", "B"]
    assert labels_of(reply).role == Role.REQUEST


def test_a_reply_by_the_hub_makes_us_build_the_tunnel(net: Flex) -> None:
    net.world.unreachable.add(frozenset("AB"))
    net.ping()
    net.world.run(10.5)
    assert [(who, to) for who, to, packet in net.world.wire if packet.kind is REPLY] == [("B", "hub"), ("hub", "A")]
    (entry,) = net.a.bindings(BindingKind.INCOMPLETE)
    assert (entry.reason, entry.nbma) == ("no answer", net.b.nbma)
    net.world.unreachable.clear()
    net.a.world.sa_wanted(net.a)
    net.world.run(1)
    assert net.ping() == ["A", "B"]


def test_a_tunnel_that_never_comes_up_is_given_up(net: Flex) -> None:
    net.world.unreachable.add(frozenset("AB"))
    net.ping()
    net.world.run(11 + TUNNEL_TIME)
    (entry,) = net.a.bindings(BindingKind.NEGATIVE)
    assert "no tunnel" in entry.reason
    assert net.a.wanted(SaWanted) == {}
    assert net.ping() == ["A", "hub", "B"]


def test_the_natted_address_is_where_the_tunnel_leads(many: Mgre) -> None:
    def natted(packet: Packet) -> Packet:
        cie = Cie(0, 32, 0, 600, a("192.0.2.12"), a("10.0.0.12"))
        rest = tuple(one for one in packet.extensions if one.kind != ExtensionKind.NAT_ADDRESS)
        return evolve(
            with_cie(nbma=a("10.99.0.2"))(packet), extensions=(*rest, cie_extension(ExtensionKind.NAT_ADDRESS, (cie,)))
        )

    altered(many.world, natted)
    many.up()
    assert many.a.rows[Slot(EndpointOffered, "", ("Tunnel0", a("10.0.0.12")))].transport == a("192.0.2.12")
    (entry,) = [one for one in many.a.bindings(BindingKind.DYNAMIC) if one.prefix == p("192.168.2.0/24")]
    assert (entry.claimed, "nat" in entry.flags) == (a("10.99.0.2"), True)
