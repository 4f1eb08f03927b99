"""Registrations end to end: a client's and a server's half joined."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.config import NhrpFamily, Nhs, StaticMap
from nhrp.events import NhsDown, NhsUp
from nhrp.wire import cies_of, encode
from nhrp.wire.packet import Cie, ErrorCode, ExtensionKind, Flag, Kind, Packet
from stack.addr import Prefix
from stack.events import RouteOffered, TunnelRow
from tests.nhrp.stations import (
    HUB,
    HUB_NBMA,
    NAME,
    OTHER,
    OTHER_NBMA,
    SPOKE,
    SPOKE_NBMA,
    Net,
    Station,
    a,
    tunnel_interface,
)

ONE = NhrpFamily(nhs=(Nhs(a(HUB), a(HUB_NBMA)),), holding_time=300)
V6 = NhrpFamily(nhs=(Nhs(a("fd00::1"), a("2001:db8::1")),), holding_time=300)


def pair(family: NhrpFamily = ONE, hub: NhrpFamily | None = None) -> Net:
    stations = {
        HUB_NBMA: Station.of(HUB, HUB_NBMA, hub or NhrpFamily(authentication=family.authentication)),
        SPOKE_NBMA: Station.of(SPOKE, SPOKE_NBMA, family),
    }
    return Net(stations)


def ups(station: Station) -> list[str]:
    return [type(one).__name__ for one in station.facts if isinstance(one, NhsUp | NhsDown)]


# --- the ordinary case ----------------------------------------------------------------------------------------------------


def test_rfc2332_5_2_3_registration_and_reply() -> None:
    # spoke                                              hub
    #   Registration Request U, hold 300, bare CIE ------->
    #   <------------------------- Registration Reply, code 0
    net = pair()
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    (request,) = spoke.take()
    assert (request.kind, request.source, request.destination) == (Kind.REGISTRATION_REQUEST, a(SPOKE), a(HUB))
    assert request.flags == Flag.UNIQUE_REGISTRATION | Flag.NAT
    assert request.cies == (Cie(prefix_length=255, holding_time=300),)
    assert [one.kind for one in request.extensions] == [3, 4, 5, 9]
    assert request.hop_count == 1
    spoke.client.adjacency_changed(NAME)  # the tunnel can be used now: it is asked again, if no answer comes at once
    spoke.flush()
    assert not spoke.take()
    net.run(0.2)
    assert spoke.facts == [NhsUp(NAME, a(HUB), a(HUB_NBMA))]
    assert spoke.nhs() == [("RE", "")]
    assert hub.endpoints() == {a(SPOKE): a(SPOKE_NBMA)}
    assert hub.routes() == {}  # the tunnel's own subnet covers it
    assert spoke.endpoints() == {a(HUB): a(HUB_NBMA)}
    (row,) = hub.bindings.snapshot()
    assert (row.flags, row.expires, row.prefix) == (("unique", "registered"), 300.2, Prefix.host(a(SPOKE)))
    assert spoke.client.servers(NAME, 1) == ((a(HUB), a(HUB_NBMA)),)


def test_ipv6_overlay_and_nbma() -> None:
    hub = Station.of("fd00::1", "2001:db8::1", NhrpFamily(), length=64)
    spoke = Station.of("fe80::5 fd00::11", "2001:db8::11", V6, length=64)
    net = Net({"2001:db8::1": hub, "2001:db8::11": spoke})
    net.run()
    assert spoke.nhs() == [("RE", "")]
    assert hub.endpoints() == {a("fd00::11"): a("2001:db8::11")}


def test_refresh_at_a_third_of_the_holding_time() -> None:
    net = pair()
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    net.run(99.0)
    (before,) = spoke.client.snapshot()
    assert (before.requests, before.next_request) == (1, 100.0)
    net.run(2.0)
    (after,) = spoke.client.snapshot()
    assert (after.requests, after.replies, after.last_reply) == (2, 2, 100.0)
    (row,) = hub.bindings.snapshot()
    assert (row.created, row.expires) == (0.0, 400.0)
    net.run(3600.0)
    assert len(hub.bindings) == 1
    assert ups(spoke) == ["NhsUp"]


def test_registration_timeout_takes_its_place() -> None:
    net = pair(evolve(ONE, registration_timeout=10))
    net.run(35.0)
    assert net.stations[SPOKE_NBMA].client.snapshot()[0].requests == 4


def test_a_client_that_is_silent_is_forgotten() -> None:
    net = pair()
    net.run()
    net.lost.add(SPOKE_NBMA)
    net.run(300.0)
    hub = net.stations[HUB_NBMA]
    assert len(hub.bindings) == 0
    assert hub.endpoints() == {}
    assert len(hub.node.claims) == 0


def test_retries_1_2_4_to_64_seconds_with_one_id() -> None:
    spoke = Station.of(SPOKE, SPOKE_NBMA, ONE)
    times, ids = [], set()
    for second in range(255):
        spoke.wake(float(second))
        for packet in spoke.take():
            times.append(second)
            ids.add(packet.request_id)
    assert times == [0, 1, 3, 7, 15, 31, 63, 127, 128, 130, 134, 142, 158, 190, 254]
    assert len(ids) == 1
    assert spoke.nhs() == [("E", "no reply")]
    assert ups(spoke) == []  # it never was up


def test_loss_of_replies_is_a_down_and_an_up() -> None:
    net = pair()
    net.run(1.0)
    net.lost.add(HUB_NBMA)
    net.run(120.0)
    spoke = net.stations[SPOKE_NBMA]
    assert spoke.facts[-1] == NhsDown(NAME, a(HUB), a(HUB_NBMA), "no reply")
    assert spoke.client.servers(NAME, 1) == ()
    net.lost.clear()
    net.run(64.0)
    assert ups(spoke) == ["NhsUp", "NhsDown", "NhsUp"]


def test_no_unique_is_said() -> None:
    net = pair(evolve(ONE, unique=False))
    assert net.stations[SPOKE_NBMA].sent
    request = net.stations[SPOKE_NBMA].last()
    assert request.flags == Flag.NAT


def test_map_gives_the_server_s_nbma_address() -> None:
    family = NhrpFamily(nhs=(Nhs(a(HUB)),), maps=(StaticMap(a(HUB), a(HUB_NBMA)),))
    net = pair(family)
    net.run()
    spoke = net.stations[SPOKE_NBMA]
    assert spoke.nhs() == [("RE", "")]
    spoke.configure(NhrpFamily(nhs=(Nhs(a(HUB)),)))
    assert spoke.nhs() == [("E", "its NBMA address is not known")]
    assert spoke.endpoints() == {}


# --- nhs dynamic ------------------------------------------------------------------------------------------------------------


def test_nhs_dynamic_is_told_the_server_s_address() -> None:
    # spoke                                       hub
    #   Registration Request, Dst = own address ---->
    #   <------------- Registration Reply, Dst = 10.0.0.1
    net = pair(NhrpFamily(nhs=(Nhs(b"", a(HUB_NBMA)),)))
    spoke = net.stations[SPOKE_NBMA]
    (request,) = spoke.take()
    assert request.destination == request.source == a(SPOKE)
    spoke.wake(1.0)
    net.run(1.0)
    (row,) = spoke.client.snapshot()
    assert (row.state, row.address) == ("RE", a(HUB))
    assert spoke.endpoints() == {a(HUB): a(HUB_NBMA)}
    assert spoke.facts == [NhsUp(NAME, a(HUB), a(HUB_NBMA))]
    spoke.configure(NhrpFamily())
    assert spoke.endpoints() == {}


def test_nhs_dynamic_on_a_point_to_point_tunnel_needs_no_nbma_address() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    spoke = Station.of(SPOKE, SPOKE_NBMA, NhrpFamily(nhs=(Nhs(),)), remote=HUB_NBMA, length=32)
    net = Net({HUB_NBMA: hub, SPOKE_NBMA: spoke})
    net.run()
    (row,) = spoke.client.snapshot()
    assert (row.state, row.address, row.nbma) == ("RE", a(HUB), a(HUB_NBMA))
    assert spoke.endpoints() == {}  # one far end only
    assert list(spoke.routes()) == [Prefix.host(a(HUB))]  # its own subnet is a host's


def test_the_responder_address_says_it_where_the_server_leaves_dst_as_it_was() -> None:
    net = pair(NhrpFamily(nhs=(Nhs(b"", a(HUB_NBMA)),)))
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    hub.receive(spoke.sent.pop().octets, SPOKE_NBMA)
    reply = hub.last()
    spoke.receive(encode(evolve(reply, destination=a(SPOKE))), HUB_NBMA)
    assert spoke.client.snapshot()[0].address == a(HUB)


# --- several servers --------------------------------------------------------------------------------------------------------

HUB2, HUB2_NBMA = "10.0.0.2", "192.0.2.2"
TWO = NhrpFamily(nhs=(Nhs(a(HUB), a(HUB_NBMA), 0), Nhs(a(HUB2), a(HUB2_NBMA), 1)), holding_time=300)


def trio(family: NhrpFamily) -> Net:
    return Net(
        {
            HUB_NBMA: Station.of(HUB, HUB_NBMA),
            HUB2_NBMA: Station.of(HUB2, HUB2_NBMA),
            SPOKE_NBMA: Station.of(SPOKE, SPOKE_NBMA, family),
        }
    )


def test_servers_of_one_priority_are_all_used() -> None:
    net = trio(evolve(TWO, nhs=tuple(evolve(one, priority=0) for one in TWO.nhs)))
    net.run()
    assert [state for state, _ in net.stations[SPOKE_NBMA].nhs()] == ["RE", "RE"]


def test_each_cluster_has_its_own_best() -> None:
    third = Nhs(a("10.0.0.3"), a("192.0.2.3"), 2, cluster=2)
    net = trio(evolve(TWO, nhs=(*TWO.nhs, evolve(TWO.nhs[1], cluster=2), third)))
    net.run()
    rows = net.stations[SPOKE_NBMA].client.snapshot()
    assert [(row.cluster, row.priority, row.state) for row in rows] == [
        (0, 0, "RE"),
        (0, 1, "W"),
        (2, 1, "RE"),
        (2, 2, "W"),
    ]


def test_fail_over_to_the_next_priority_and_back() -> None:
    net = trio(TWO)
    hub2, spoke = net.stations[HUB2_NBMA], net.stations[SPOKE_NBMA]
    net.run(50.0)
    assert spoke.nhs() == [("RE", ""), ("W", "")]
    assert len(hub2.bindings) == 0
    # The better one falls silent: at 100 s the refresh goes, and 7 s later it is down.
    net.lost.add(HUB_NBMA)
    net.run(56.0)
    assert spoke.nhs()[1] == ("W", "")
    net.run(2.0)
    assert spoke.nhs() == [("E", "no reply"), ("RE", "")]
    assert len(hub2.bindings) == 1
    # It is back: the other one is let go, and told so.
    net.lost.clear()
    net.run(130.0)
    assert spoke.nhs() == [("RE", ""), ("W", "")]
    assert len(hub2.bindings) == 0
    assert spoke.facts == [
        NhsUp(NAME, a(HUB), a(HUB_NBMA)),
        NhsDown(NAME, a(HUB), a(HUB_NBMA), "no reply"),
        NhsUp(NAME, a(HUB2), a(HUB2_NBMA)),
        NhsUp(NAME, a(HUB), a(HUB_NBMA)),
        NhsDown(NAME, a(HUB2), a(HUB2_NBMA), "a better server answers"),
    ]


def test_a_server_that_refuses_makes_room_for_the_next() -> None:
    net = trio(TWO)
    hub = net.stations[HUB_NBMA]
    hub.assign(SPOKE, OTHER_NBMA)
    net.run(1.0)
    spoke = net.stations[SPOKE_NBMA]
    assert spoke.nhs() == [("E", "administratively prohibited"), ("RE", "")]
    hub.node.overlays.clear()
    net.run(64.0)
    assert spoke.nhs() == [("RE", ""), ("W", "")]


# --- what changes -----------------------------------------------------------------------------------------------------------


def test_another_overlay_address_is_registered_and_the_old_one_purged() -> None:
    net = pair()
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    net.run(1.0)
    spoke.node.interfaces[NAME] = tunnel_interface(OTHER)
    spoke.changed()
    net.run()
    assert [entry.address for entry in hub.bindings] == [a(OTHER)]
    assert ups(spoke) == ["NhsUp", "NhsDown", "NhsUp"]


def test_N09_another_nbma_address_is_registered_at_once() -> None:
    net = pair(evolve(ONE, unique=False))
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    net.run(1.0)
    net.stations = {HUB_NBMA: hub, OTHER_NBMA: spoke}
    spoke.node.tunnels[NAME] = TunnelRow(a(OTHER_NBMA))
    spoke.changed()
    net.run()
    assert hub.endpoints() == {a(SPOKE): a(OTHER_NBMA)}
    assert hub.bindings.at(NAME, a(SPOKE_NBMA)) == ()
    assert ups(spoke) == ["NhsUp"]


def test_an_unknown_peer_with_the_unique_address_is_told_so() -> None:
    net = pair()
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    net.run(1.0)
    net.stations = {HUB_NBMA: hub, OTHER_NBMA: spoke}
    spoke.node.tunnels[NAME] = TunnelRow(a(OTHER_NBMA))
    spoke.changed()
    net.run()
    assert spoke.nhs() == [("E", "unique address already registered")]
    assert hub.endpoints() == {a(SPOKE): a(SPOKE_NBMA)}
    # Until the old entry has had its time.
    net.run(364.0)
    assert spoke.nhs() == [("RE", "")]
    assert hub.endpoints() == {a(SPOKE): a(OTHER_NBMA)}


def test_a_peer_that_ikev2_gave_the_address_to_takes_it_along() -> None:
    net = pair()
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    net.run(1.0)
    net.stations = {HUB_NBMA: hub, OTHER_NBMA: spoke}
    hub.assign(SPOKE, OTHER_NBMA)
    spoke.node.tunnels[NAME] = TunnelRow(a(OTHER_NBMA))
    spoke.changed()
    net.run()
    assert spoke.nhs() == [("RE", "")]
    assert hub.endpoints() == {a(SPOKE): a(OTHER_NBMA)}


REASONS = {
    "stop": "stopped",
    "configure": "no longer configured",
    "down": "interface is down",
    "remove": "our own address or network has gone",
}


@pytest.mark.parametrize("how", list(REASONS))
def test_who_leaves_purges_what_it_has_registered(how: str) -> None:
    # spoke                                     hub
    #   Purge Request, N, 10.0.0.11/32 ---------->   no reply
    net = pair()
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    net.run(1.0)
    if how == "stop":
        spoke.client.stop()
        spoke.flush()
    elif how == "configure":
        spoke.configure(NhrpFamily())
    elif how == "down":
        spoke.node.interfaces[NAME] = tunnel_interface(SPOKE, up=False)
        spoke.changed()
    else:
        spoke.node.interfaces[NAME] = tunnel_interface(SPOKE, network_id=0)
        spoke.changed()
    purge = spoke.sent[-1]
    hub.receive(purge.octets, SPOKE_NBMA)
    assert len(hub.bindings) == 0
    assert hub.take() == []
    down = spoke.facts[-1]
    assert isinstance(down, NhsDown)
    assert down.reason == REASONS[how]
    assert not [key for key in spoke.node.timers._when if key[0] == "register"]
    assert spoke.client._pending == {}


def test_a_server_that_purges_our_own_address_is_asked_again() -> None:
    net = pair()
    hub = net.stations[HUB_NBMA]
    net.run(1.0)
    for entry in list(hub.bindings):
        hub.bindings.remove(entry, "cleared")
    cie = Cie(prefix_length=32, protocol=a(SPOKE))
    purge = Packet(Kind.PURGE_REQUEST, a(HUB_NBMA), a(HUB), a(SPOKE), 5, Flag.NO_REPLY, (cie,))
    hub.gate.send(NAME, a(SPOKE_NBMA), purge)
    hub.flush()
    net.run()
    assert [entry.address for entry in hub.bindings] == [a(SPOKE)]


# --- authentication ---------------------------------------------------------------------------------------------------------


def test_authenticated_both_ways() -> None:
    net = pair(evolve(ONE, authentication="NHRPAUTH"))
    spoke = net.stations[SPOKE_NBMA]
    assert b"\0\0\0\x01NHRPAUTH" in spoke.sent[0].octets
    net.run()
    assert spoke.nhs() == [("RE", "")]


def test_N02_wrong_password_is_shown_at_both_ends() -> None:
    net = pair(evolve(ONE, authentication="one"), NhrpFamily(authentication="another"))
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    net.run()
    assert len(hub.bindings) == 0
    assert hub.counted("refused: authentication failure") == 1
    assert [one.packet.code for one in spoke.errors] == [ErrorCode.AUTHENTICATION_FAILURE]
    assert spoke.nhs() == [("E", "authentication failure")]


# --- NAT --------------------------------------------------------------------------------------------------------------------


def test_nat_a_client_learns_that_it_is_behind_one() -> None:
    # spoke 10.1.1.11 ----- NAT 198.51.100.7 ----- hub
    net = pair()
    net.stations["10.1.1.11"] = Station.of(SPOKE, "10.1.1.11", ONE)
    del net.stations[SPOKE_NBMA]
    net.nats["10.1.1.11"] = "198.51.100.7"
    net.run()
    hub, spoke = net.stations[HUB_NBMA], net.stations["10.1.1.11"]
    assert hub.endpoints() == {a(SPOKE): a("198.51.100.7")}
    (row,) = hub.bindings.snapshot()
    assert (row.nbma, row.claimed, "nat" in row.flags) == (a("198.51.100.7"), a("10.1.1.11"), True)
    assert spoke.client.public_nbma(NAME, 1) == a("198.51.100.7")


def test_nat_several_clients_behind_one() -> None:
    inside = {"10.1.1.11": SPOKE, "10.1.1.12": OTHER}
    stations = {HUB_NBMA: Station.of(HUB, HUB_NBMA)}
    stations |= {nbma: Station.of(overlay, nbma, ONE) for nbma, overlay in inside.items()}
    net = Net(stations, dict.fromkeys(inside, "198.51.100.7"))
    net.run()
    hub = net.stations[HUB_NBMA]
    assert hub.endpoints() == dict.fromkeys((a(SPOKE), a(OTHER)), a("198.51.100.7"))
    assert {one.address for one in hub.bindings.at(NAME, a("198.51.100.7"))} == {a(SPOKE), a(OTHER)}
    # One of them leaves: the other stays.
    net.stations["10.1.1.11"].client.stop()
    net.stations["10.1.1.11"].flush()
    net.run()
    assert hub.endpoints() == {a(OTHER): a("198.51.100.7")}


def test_no_nat_is_no_public_address() -> None:
    net = pair()
    net.run()
    assert net.stations[SPOKE_NBMA].client.public_nbma(NAME, 1) == b""


# --- replies that are not the client's ----------------------------------------------------------------------------------


def reply_to(request: Packet, **changes: object) -> Packet:
    return evolve(request, kind=Kind.REGISTRATION_REPLY, hop_count=64, **changes)


@pytest.mark.parametrize(
    ("change", "outer", "counted"),
    [
        ({"request_id": 99}, HUB_NBMA, "registration reply that was not asked for"),
        ({"source": a(OTHER)}, HUB_NBMA, "registration reply that was not asked for"),
        ({}, OTHER_NBMA, "registration reply from elsewhere"),
    ],
)
def test_a_reply_that_was_not_asked_for_changes_nothing(change: dict[str, object], outer: str, counted: str) -> None:
    spoke = Station.of(SPOKE, SPOKE_NBMA, ONE)
    request = spoke.last()
    spoke.receive(encode(reply_to(request, **change)), outer)
    assert spoke.nhs() == [("E", "")]
    assert spoke.counted(f"refused: {counted}") == 1
    spoke.receive(encode(reply_to(request)), HUB_NBMA)
    spoke.receive(encode(reply_to(request)), HUB_NBMA)  # once more: nobody waits for it
    assert spoke.nhs() == [("RE", "")]
    assert spoke.client.snapshot()[0].replies == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (4, "administratively prohibited"),
        (5, "insufficient resources"),
        (13, "binding is not unique"),
        (14, "unique address already registered"),
        (77, "code 77"),
    ],
)
def test_a_refusal_is_shown_and_tried_again_later(code: int, reason: str) -> None:
    spoke = Station.of(SPOKE, SPOKE_NBMA, ONE)
    request = spoke.last()
    spoke.receive(encode(reply_to(request, cies=(Cie(code, 255),))), HUB_NBMA)
    assert spoke.nhs() == [("E", reason)]
    spoke.wake(63.0)
    assert spoke.take() == []
    spoke.wake(64.0)
    again = spoke.last()
    assert again.request_id != request.request_id


def test_an_error_about_something_else_is_no_reason() -> None:
    spoke = Station.of(SPOKE, SPOKE_NBMA, ONE)
    request = spoke.last()
    body = encode(evolve(request, request_id=request.request_id + 1))
    error = Packet(Kind.ERROR_INDICATION, a(HUB_NBMA), a(HUB), a(SPOKE), code=11, body=body)
    spoke.receive(encode(error), HUB_NBMA)
    assert spoke.nhs() == [("E", "")]
    spoke.receive(encode(evolve(error, body=encode(request))), HUB_NBMA)
    assert spoke.nhs() == [("E", "authentication failure")]


def test_extensions_in_the_reply() -> None:
    net = pair(evolve(ONE, authentication="NHRPAUTH"))
    hub, spoke = net.stations[HUB_NBMA], net.stations[SPOKE_NBMA]
    hub.receive(spoke.sent.pop().octets, SPOKE_NBMA)
    reply = hub.last()
    assert [one.kind for one in reply.extensions] == [3, 4, 5, 7, 9]
    (responder,) = cies_of(reply.extension(ExtensionKind.RESPONDER_ADDRESS), reply)
    assert (responder.nbma, responder.protocol) == (a(HUB_NBMA), a(HUB))


def test_nothing_is_left_when_the_interface_goes() -> None:
    net = pair()
    net.run()
    for station in net.stations.values():
        station.gone()
        assert len(station.bindings) == 0
        assert len(station.node.claims) == 0
        assert len(station.node.timers) == 0
        assert station.rows.get((RouteOffered, ""), {}) == {}
