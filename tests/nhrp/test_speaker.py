"""The whole story between a hub and two spokes: redirect, resolution, tunnel, shortcut, idle, down."""

from __future__ import annotations

import pytest

from nhrp.engine.outputs import SyncedOut
from nhrp.engine.snapshot import BindingKind
from nhrp.engine.speaker import PRODUCED, Speaker
from nhrp.events import RedirectReceived, RedirectSent, ShortcutDown, ShortcutUp
from nhrp.wire.mpls import ContextLabel, FecLabel, NextHopLabel, Role
from nhrp.wire.packet import Flag, Kind
from stack.addr import Afi, PrefixFec, VrfFec
from stack.claims import Slot
from stack.events import BindingOffered, EndpointOffered, LabelWanted, RouteOffered, SaKey, SaWanted
from stack.tables import Tables
from stack.testing import SeededEntropy
from tests.nhrp.net import Flex, Mgre, a, flex, labels_of, mgre, p

INDICATION, REQUEST, REPLY = Kind.TRAFFIC_INDICATION, Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY


@pytest.fixture
def net() -> Flex:
    return flex()


@pytest.fixture
def many() -> Mgre:
    return mgre()


# --- MPLS over FlexVPN, steps 3 to 13 ------------------------------------------------------------------------------------


def test_the_document_s_story_over_virtual_access(net: Flex) -> None:
    """A          hub            B
    |-- packet -->|-- packet -->|      labels 30, 40
    |<- redirect -|             |      context label 30
    |-- request ->|-- request ->|      30, then B's own 40
    |<======== SA, reply =======|      label 40, implicit null
    |--------- packet --------->|      label 40
    """
    assert net.ping() == ["A", "hub", "B"]
    net.world.run(2)
    assert net.world.story() == [
        ("hub", "A", INDICATION),
        ("A", "hub", REQUEST),
        ("hub", "B", REQUEST),
        ("B", "A", REPLY),
    ]
    assert net.ping() == ["A", "B"]
    assert net.a.shortcuts() == {("A", "192.168.2.0/24"): ("Virtual-Access1", (40,))}


def test_the_context_label_is_swapped_at_each_hop(net: Flex) -> None:
    net.up()
    packets = [packet for _, _, packet in net.world.wire]
    contexts = [labels_of(packet).context for packet in packets[:3]]
    assert contexts == [
        ContextLabel(30, a("10.0.0.1")),
        ContextLabel(30, a("10.0.0.1")),
        ContextLabel(40, a("10.0.0.12")),
    ]
    assert [labels_of(packet).role for packet in packets] == [Role.INDICATION, Role.REQUEST, Role.REQUEST, Role.REPLY]


def test_step_11_the_reply_says_prefix_label_overlay_nbma_and_implicit_null(net: Flex) -> None:
    net.up()
    (reply,) = net.world.sent(REPLY)
    (cie,) = reply.cies
    assert (cie.prefix_length, cie.protocol, cie.nbma) == (24, a("10.0.0.12"), a("172.16.2.1"))
    said = labels_of(reply)
    assert said.fec == (FecLabel(0, (40,)),)
    assert said.next_hop == (NextHopLabel(0, 3),)
    assert reply.flags & Flag.STABLE


def test_step_9_the_far_spoke_makes_the_tunnel_and_a_route_to_the_requester(net: Flex) -> None:
    net.ping()
    net.world.run(0.1)
    assert net.world.sent(REPLY) == []  # it waits for the SA
    assert set(net.b.wanted(SaWanted)) == {SaKey("Virtual-Template1", a("172.16.1.1"))}
    net.world.run(2)
    route = net.b.rows[Slot(RouteOffered, "", p("10.0.0.11/32"))]
    assert (route.vias[0].interface, route.override) == ("Virtual-Access1", True)
    assert net.b.rows[Slot(BindingOffered, "", ("", p("10.0.0.11/32"), a("10.0.0.11")))] == (3,)


def test_step_10_the_label_is_bgp_s_and_is_given_back_last_by_nhrp(net: Flex) -> None:
    net.up()
    fec = VrfFec("A", Afi.IPV4)
    assert set(net.b.wanted(LabelWanted)) == {fec}
    net.b.no_label(fec)
    assert net.b.mfi.bindings[fec].label == 40  # its shortcut's packets still come
    net.world.run(1300)
    assert fec not in net.b.mfi.bindings
    assert net.b.wanted(LabelWanted) == {}


def test_step_6_the_vrf_is_bound_to_the_request(net: Flex) -> None:
    net.ping()
    net.world.run(0.03)
    (pending,) = net.a.shown().pending
    assert (pending.vrf, pending.destination) == ("A", a("192.168.2.1"))
    (entry,) = net.a.bindings(BindingKind.INCOMPLETE)
    assert (entry.vrf, entry.request_id) == ("A", pending.request_id)


def test_nothing_but_packets_keeps_a_shortcut_and_its_tunnel(net: Flex) -> None:
    net.up()
    net.world.run(1300)
    assert (net.a.accesses, net.b.accesses) == ({}, {})
    assert (net.a.rows, net.b.rows) == ({}, {})
    assert (len(net.a.speaker.node.timers), len(net.b.speaker.node.timers)) == (0, 0)
    assert net.ping() == ["A", "hub", "B"]
    assert [fact.reason for fact in net.a.of(ShortcutDown)] == ["its holding time is over"]


def test_a_shortcut_in_use_is_renewed_and_never_withdrawn_for_a_moment(net: Flex) -> None:
    net.up()
    for _ in range(30):
        net.world.run(60)
        assert net.ping() == ["A", "B"]
    assert net.a.of(ShortcutDown) == []
    assert len(net.a.of(ShortcutUp)) == 1
    assert net.a.counter("renewed") >= 3


def test_the_facts_tell_what_happened(net: Flex) -> None:
    net.up()
    (sent,), (received,), (up,) = net.hub.of(RedirectSent), net.a.of(RedirectReceived), net.a.of(ShortcutUp)
    assert (sent.vrf, sent.source, sent.destination) == ("A", a("192.168.1.1"), a("192.168.2.1"))
    assert (received.vrf, received.destination) == ("A", a("192.168.2.1"))
    assert (up.prefix, up.next_hop, up.label, up.interface) == (
        p("192.168.2.0/24"),
        a("10.0.0.12"),
        40,
        "Virtual-Access1",
    )
    assert 0.2 < up.seconds < 0.3  # the SA takes 0.2


def test_both_directions_share_one_tunnel(net: Flex) -> None:
    net.up()
    assert net.back() == ["B", "hub", "A"]
    net.world.run(2)
    assert net.back() == ["B", "A"]
    assert len(net.a.accesses) == len(net.b.accesses) == 1
    net.world.run(1300)
    assert (net.a.accesses, net.b.accesses) == ({}, {})


def test_semantics_10_spokes_that_know_a_default_route_only() -> None:
    net = flex(default_only=True)
    net.up()
    assert net.a.shortcuts() == {("A", "192.168.2.0/24"): ("Virtual-Access1", (40,))}
    (entry,) = [one for one in net.a.bindings(BindingKind.DYNAMIC) if one.labels]
    assert "rib" in entry.flags  # an H route: nobody else has the prefix


def test_where_another_owner_has_the_prefix_the_next_hop_is_overridden(net: Flex) -> None:
    net.up()
    (entry,) = [one for one in net.a.bindings(BindingKind.DYNAMIC) if one.labels]
    assert "nho" in entry.flags
    row = net.a.tables.rib.get("A", p("192.168.2.0/24"))
    assert row is not None
    assert row.override is not None
    assert row.override.owner == "nhrp"


def test_the_hub_as_egress(net: Flex) -> None:
    """Its own network is one hop away already: what it answers leads by the tunnel that is there."""
    net.a.route("192.168.3.0/24", "10.0.0.1", vrf="A", labels=(30,))
    assert net.world.packet(net.a, "A", "192.168.1.1", "192.168.3.9") == ["A", "hub"]
    net.world.run(2)
    assert net.world.story() == []  # nothing to redirect


def test_show_has_the_far_end_as_a_peer(net: Flex) -> None:
    net.up()
    (peer,) = [one for one in net.a.shown().peers if one.nbma == net.b.nbma]
    assert (peer.interface, peer.overlays, peer.up, peer.state) == ("Virtual-Access1", (a("10.0.0.12"),), True, "UP")
    (local,) = net.b.bindings(BindingKind.LOCAL)
    assert (local.vrf, local.prefix, local.local_label) == ("A", p("192.168.2.0/24"), 40)
    assert local.requesters == ((a("10.0.0.11"), a("172.16.1.1")),)


# --- a multipoint interface ---------------------------------------------------------------------------------------------


def test_the_story_over_a_multipoint_interface_without_labels(many: Mgre) -> None:
    many.world.wire.clear()
    many.up()
    assert many.world.story() == [
        ("hub", "A", INDICATION),
        ("A", "hub", REQUEST),
        ("hub", "B", REQUEST),
        ("B", "A", REPLY),
    ]
    assert many.a.rows[Slot(EndpointOffered, "", ("Tunnel0", a("10.0.0.12")))].transport == a("192.0.2.12")
    assert many.b.rows[Slot(EndpointOffered, "", ("Tunnel0", a("10.0.0.11")))].transport == a("192.0.2.11")
    many.world.run(1300)
    assert many.ping() == ["A", "hub", "B"]
    assert Slot(EndpointOffered, "", ("Tunnel0", a("10.0.0.12"))) not in many.a.rows


def test_the_story_over_a_protected_multipoint_interface() -> None:
    net = mgre(protection="default")
    net.up()
    (up,) = net.a.of(ShortcutUp)
    assert up.seconds > 0.2


@pytest.mark.parametrize("password", ["NHRPAUTH", "x"])
def test_N03_redirect_and_resolution_with_authentication_on(password: str) -> None:
    net = mgre(authentication=password)
    net.up()
    assert all(packet.extension(7) is not None for _, _, packet in net.world.wire)


def test_an_overlay_of_ipv6() -> None:
    net = flex()
    for box, own in ((net.hub, "2001:db8::1"), (net.a, "2001:db8::11"), (net.b, "2001:db8::12")):
        box._address("Loopback0" if box is net.hub else "Tunnel0", f"{own}/128")
    for box, lan in ((net.a, "2001:db8:1::254"), (net.b, "2001:db8:2::254")):
        box.configure("Tunnel0", Afi.IPV6, shortcut=True, virtual_template=1)
        box.configure("Virtual-Template1", Afi.IPV6, shortcut=True, virtual_template=1)
        box._address("Ethernet0/1", f"{lan}/64")
        box.route("2001:db8::1/128", interface="Tunnel0", owner="static")
    for box, overlay in ((net.a, "2001:db8::11"), (net.b, "2001:db8::12")):
        net.hub.assign(net.hub.accesses[box.nbma], overlay, "172.16.1.1" if box is net.a else "172.16.2.1")
    net.hub.label(VrfFec("A", Afi.IPV6), 60)
    net.b.label(VrfFec("A", Afi.IPV6), 61)
    net.a.label(VrfFec("A", Afi.IPV6), 62)
    net.hub.route("2001:db8:2::/64", "2001:db8::12", vrf="A", labels=(61,))
    net.hub.route("2001:db8:1::/64", "2001:db8::11", vrf="A", labels=(62,))
    net.a.route("2001:db8:2::/64", "2001:db8::1", vrf="A", labels=(60,))
    net.b.route("::/0", "2001:db8::1", vrf="A", labels=(60,))

    def ping() -> list[str]:
        return net.world.packet(net.a, "A", "2001:db8:1::1", "2001:db8:2::1")

    assert ping() == ["A", "hub", "B"]
    net.world.run(2)
    assert ping() == ["A", "B"], "\n".join(net.world.events)
    (up,) = net.a.of(ShortcutUp)
    assert (up.prefix, up.label, up.next_hop) == (p("2001:db8:2::/64"), 61, a("2001:db8::12"))


# --- life ---------------------------------------------------------------------------------------------------------------


def test_start_says_that_all_topics_are_synced() -> None:
    tables = Tables()
    config = flex().a.config()
    speaker = Speaker(config, SeededEntropy(1), rib=tables.rib, nexthops=tables.nexthops, lfib=tables.lfib)
    assert [one.topic for one in speaker.start(0.0) if isinstance(one, SyncedOut)] == list(PRODUCED)
    assert speaker.deadline() is None


def test_stop_purges_what_was_told(net: Flex) -> None:
    net.up()
    net.b.do(net.b.speaker.stop(net.world.now))
    net.world.run(0.1)
    assert net.b.speaker.stopped
    assert net.a.shortcuts() == {}
    assert [fact.reason for fact in net.a.of(ShortcutDown)] == ["purged by the far end"]
    assert net.b.speaker.deadline() is None


def test_after_a_crash_of_the_far_end_nobody_believes_what_it_told(net: Flex) -> None:
    net.up()
    net.b.crash()
    net.b.restart()
    net.world.run(1.5)
    assert net.a.shortcuts() == {}
    assert net.ping() == ["A", "hub", "B"]
    net.world.run(15)
    assert net.ping() in (["A", "B"], ["A", "hub", "B"])
    net.world.run(2)
    assert net.ping() == ["A", "B"]


def test_after_a_crash_of_the_requester_packets_go_by_the_hub_and_are_redirected_again(net: Flex) -> None:
    net.up()
    net.a.crash()
    assert net.ping() == ["A", "B"]  # what stands goes on
    net.a.restart()
    net.world.run(0.01)
    assert net.ping() == ["A", "hub", "B"]
    net.world.run(10)
    net.ping()
    net.world.run(2)
    assert net.ping() == ["A", "B"]


def test_clear_takes_shortcuts_and_answers(net: Flex) -> None:
    net.up()
    count, outputs = net.a.speaker.clear(net.world.now, address=a("192.168.9.9"))
    assert (count, outputs) == (0, [])
    count, outputs = net.a.speaker.clear(net.world.now, vrf="A", afi=Afi.IPV4)
    assert count == 1
    net.a.do(outputs)
    net.a.settle()
    assert net.ping() == ["A", "hub", "B"]
    count, outputs = net.b.speaker.clear(net.world.now)
    net.b.do(outputs)
    assert count == 1
    net.world.run(0.1)
    assert [packet.cies[0].protocol for packet in net.world.sent(Kind.PURGE_REQUEST)] == [a("192.168.2.0")]


def test_clear_counters(net: Flex) -> None:
    net.up()
    count, _ = net.a.speaker.clear(net.world.now, counters=True)
    assert count > 2
    assert net.a.shown().counters == {}
    assert net.ping() == ["A", "B"]


def test_a_label_per_prefix_is_wanted_for_the_prefix_that_is_answered(net: Flex) -> None:
    net.b.no_label(VrfFec("A", Afi.IPV4))
    net.b.label(PrefixFec("A", p("192.168.2.0/24")), 45)
    net.hub.route("192.168.2.0/24", "10.0.0.12", vrf="A", labels=(45,))
    net.up()
    assert net.a.shortcuts() == {("A", "192.168.2.0/24"): ("Virtual-Access1", (45,))}
    assert set(net.b.wanted(LabelWanted)) == {PrefixFec("A", p("192.168.2.0/24"))}
