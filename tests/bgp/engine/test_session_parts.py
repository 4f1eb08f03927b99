"""The small parts that sessions stand on: configuration, addresses, words, octet streams, the schedule."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp.config import BgpConfig, ConnectionMode, ListenRange, NeighborConfig, NeighborFamily, Timers
from bgp.engine.session_addresses import LocalAddresses
from bgp.engine.session_config import (
    Ear,
    HopLimits,
    hop_limits,
    listen_range,
    listeners,
    merged,
    must_be_connected,
    needs_reset,
    session_families,
    session_sources,
)
from bgp.engine.session_ends import End, EndReason, cease, notification_text, printable
from bgp.engine.session_refresh import WINDOW, RefreshGate
from bgp.engine.session_schedule import Schedule
from bgp.engine.session_stream import Stream
from bgp.wire import (
    IPV4_UNICAST,
    IPV6_UNICAST,
    VPNV4,
    CeaseSubcode,
    Keepalive,
    MessageError,
    Notification,
    Session,
    encode,
)
from stack.addr import Afi, Prefix, Safi, parse_address
from stack.events import AddressRow, Interface, InterfaceKind, InterfaceRow

P = parse_address("192.0.2.2")
V4, VPN = (Afi.IPV4, Safi.UNICAST), (Afi.IPV4, Safi.VPN)


# --- configuration ------------------------------------------------------------------------------------------------------


def test_a_peer_group_fills_what_the_neighbor_leaves_open() -> None:
    group = NeighborConfig(
        remote_as=100,
        update_source="Loopback0",
        mode=ConnectionMode.PASSIVE,
        password="secret",
        timers=Timers(1, 3, 5),
        description="the group",
        families={V4: NeighborFamily(route_map_in="IN"), VPN: NeighborFamily(send_extended=True)},
    )
    config = BgpConfig(peer_groups={"g": group})
    own = NeighborConfig(
        address=P,
        peer_group="g",
        update_source="Loopback1",
        families={V4: NeighborFamily(activate=False, route_map_out="OUT")},
    )
    result = merged(config, own)
    assert (result.remote_as, result.update_source, result.mode) == (100, "Loopback1", ConnectionMode.PASSIVE)
    assert (result.password, result.timers, result.description) == ("secret", Timers(1, 3, 5), "")
    assert result.families[V4] == NeighborFamily(activate=False, route_map_in="IN", route_map_out="OUT")
    assert result.families[VPN].send_extended
    assert merged(config, NeighborConfig(address=P, remote_as=1)) == NeighborConfig(address=P, remote_as=1)


@pytest.mark.parametrize(
    ("neighbor", "default", "families"),
    [
        (NeighborConfig(address=P), True, {IPV4_UNICAST}),
        (NeighborConfig(address=P), False, set()),
        (NeighborConfig(address=P, families={VPN: NeighborFamily()}), True, {IPV4_UNICAST, VPNV4}),
        (NeighborConfig(address=P, families={VPN: NeighborFamily()}), False, {VPNV4}),
        (
            NeighborConfig(address=P, families={V4: NeighborFamily(activate=False), VPN: NeighborFamily()}),
            True,
            {VPNV4},
        ),
        (NeighborConfig(address=P, vrf="red"), True, {IPV4_UNICAST}),
        (NeighborConfig(address=bytes(15) + b"\1", vrf="red"), True, {IPV6_UNICAST}),
        (NeighborConfig(address=bytes(15) + b"\1"), True, set()),
    ],
)
def test_families_that_are_offered(neighbor: NeighborConfig, default: bool, families: set[object]) -> None:
    assert session_families(BgpConfig(default_ipv4_unicast=default), neighbor) == families


@pytest.mark.parametrize(
    ("neighbor", "ibgp", "limits", "connected"),
    [
        (NeighborConfig(), True, HopLimits(255, 0), False),
        (NeighborConfig(), False, HopLimits(1, 0), True),
        (NeighborConfig(ebgp_multihop=5), False, HopLimits(5, 0), False),
        (NeighborConfig(ttl_security=1), False, HopLimits(255, 255), True),
        (NeighborConfig(ttl_security=3), False, HopLimits(255, 253), False),
        (NeighborConfig(ttl_security=254), True, HopLimits(255, 2), False),
    ],
)
def test_rfc5082_3_hops(neighbor: NeighborConfig, ibgp: bool, limits: HopLimits, connected: bool) -> None:
    assert hop_limits(neighbor, ibgp=ibgp) == limits
    assert must_be_connected(neighbor, ibgp=ibgp) is connected


@pytest.mark.parametrize(
    ("change", "reset"),
    [
        ({"description": "x"}, False),
        ({"shutdown": True}, False),  # that is a reason not to run, not a change
        ({"timers": Timers(1, 3, 5)}, False),  # counts from the next session on
        ({"families": {V4: NeighborFamily(route_map_in="IN")}}, False),
        ({"families": {VPN: NeighborFamily()}}, True),
        ({"remote_as": 2}, True),
        ({"update_source": "Loopback0"}, True),
        ({"password": "x"}, True),
        ({"ttl_security": 1}, True),
        ({"mode": ConnectionMode.ACTIVE}, True),
    ],
)
def test_what_resets_a_session(change: dict[str, object], reset: bool) -> None:
    config = BgpConfig(asn=1)
    old = NeighborConfig(address=P, remote_as=1)
    new = NeighborConfig(**{"address": P, "remote_as": 1, **change})  # type: ignore[arg-type]
    assert needs_reset((config, old), (config, new)) is reset


def test_the_most_specific_listen_range_of_the_right_vrf() -> None:
    config = BgpConfig(
        peer_groups={"wide": NeighborConfig(remote_as=1), "narrow": NeighborConfig(remote_as=2, description="d")},
        listen_ranges=(
            ListenRange(Prefix.parse("0.0.0.0/0"), "wide"),
            ListenRange(Prefix.parse("192.0.2.0/24"), "narrow"),
            ListenRange(Prefix.parse("192.0.2.0/28"), "missing"),
        ),
    )
    found = listen_range(config, "", P)
    assert found is not None
    assert (found[1].remote_as, found[1].address, found[1].peer_group) == (2, P, "narrow")
    other = listen_range(config, "", parse_address("10.0.0.1"))
    assert other is not None
    assert other[1].remote_as == 1
    assert listen_range(config, "red", P) is None
    assert listen_range(config, "", bytes(16)) is None


def test_where_we_listen_and_for_whose_keys() -> None:
    config = BgpConfig(
        neighbors={
            ("", P): NeighborConfig(address=P, password="a"),
            ("red", P): NeighborConfig(address=P, vrf="red"),
            ("blue", P): NeighborConfig(address=P, vrf="blue", mode=ConnectionMode.ACTIVE),
        },
        peer_groups={"g": NeighborConfig(password="b")},
        listen_ranges=(ListenRange(Prefix.parse("10.0.0.0/8"), "g"),),
    )
    keys = ((Prefix.host(P), b"a"), (Prefix.parse("10.0.0.0/8"), b"b"))
    assert listeners(config) == {"": Ear(keys, 0), "red": Ear((), 0)}


@pytest.mark.parametrize(("hops", "least"), [((1, 1), 255), ((1, 3), 253), ((1, 0), 0)])
def test_rfc5082_3_the_listener_asks_for_what_the_least_demanding_neighbor_does(
    hops: tuple[int, int], least: int
) -> None:
    neighbors = {
        ("", bytes((10, 0, 0, n))): NeighborConfig(address=bytes((10, 0, 0, n)), remote_as=n + 1, ttl_security=hop)
        for n, hop in enumerate(hops)
    }
    assert listeners(BgpConfig(asn=99, neighbors=neighbors))[""].min_ttl == least


def test_sources_are_those_of_vpn_neighbors_if_there_are_any() -> None:
    plain = NeighborConfig(address=P, update_source="Loopback1")
    vpn = NeighborConfig(address=P, update_source="Loopback0", families={VPN: NeighborFamily()})
    customer = NeighborConfig(address=P, vrf="red", update_source="Loopback9")
    both = {("", P): vpn, ("", b"\1\1\1\1"): plain, ("red", P): customer}
    assert session_sources(BgpConfig(neighbors=both)) == {"Loopback0": "update-source"}
    assert session_sources(BgpConfig(neighbors={("", P): plain})) == {"Loopback1": "update-source"}
    named = session_sources(BgpConfig(neighbors=both, next_hop_interface="Loopback7"))
    assert named == {"Loopback0": "update-source", "Loopback7": "bgp next-hop"}


# --- addresses ----------------------------------------------------------------------------------------------------------


def interface(name: str, *addresses: str, vrf: str = "", up: bool = True, index: int = 1, **row: object) -> Interface:
    kind = InterfaceKind.LOOPBACK if name.startswith("Lo") else InterfaceKind.ETHERNET
    held = {}
    for text in addresses:
        address, _, length = text.partition("/")
        held[parse_address(address)] = AddressRow(int(length))
    return Interface(InterfaceRow(name, kind, vrf=vrf, **row), index, up, 1500, addresses=held)  # type: ignore[arg-type]


def test_which_of_our_addresses() -> None:
    book = LocalAddresses()
    rows = [
        interface("Loopback0", "10.0.0.1/32", "2001:db8::1/128"),
        interface("Loopback1", "10.0.0.9/32"),
        interface("Ethernet0/0", "203.0.113.1/24", "fe80::1/64", index=2),
        interface("Ethernet0/1", "172.16.0.1/30", vrf="red", index=3),
        interface("Ethernet0/2", "172.16.0.1/30", vrf="blue", up=False, index=4),
        interface("Loopback2", "10.7.7.7/32", vrf="red", index=5),
        interface("Tunnel1", unnumbered="Loopback0", index=6),
    ]
    assert book.apply({one.name: one for one in rows}) == set()
    far, ce = parse_address("203.0.113.9"), parse_address("172.16.0.2")
    assert book.router_id() == parse_address("10.0.0.9")
    assert book.source("Loopback0", 4) == parse_address("10.0.0.1")
    assert book.source("Loopback0", 16) == parse_address("2001:db8::1")
    assert book.source("Tunnel1", 4) == parse_address("10.0.0.1")
    assert book.source("Ethernet0/2", 4) == b""
    assert book.source("Ethernet9", 4) == b""
    assert book.towards("", far) == parse_address("203.0.113.1")
    assert book.towards("", parse_address("8.8.8.8")) == b""
    assert book.towards("red", ce) == parse_address("172.16.0.1")
    assert book.towards("red", parse_address("8.8.8.8")) == parse_address("10.7.7.7")
    assert book.connected("blue", ce) is None
    assert book.connected("", parse_address("203.0.113.1")) is None
    assert book.has("red", parse_address("172.16.0.1"))
    gone = book.apply({"Ethernet0/1": None, "Loopback0": interface("Loopback0", "10.0.0.1/32")})
    assert gone == {("red", parse_address("172.16.0.1")), ("", parse_address("2001:db8::1"))}
    book.apply({"Loopback0": None, "Loopback1": None})
    assert book.router_id() == parse_address("203.0.113.1")


# --- words --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notification", "text"),
    [
        (Notification(4), "4/0 (hold timer expired)"),
        (Notification(2, 2), "2/2 (OPEN message error, bad peer as)"),
        (Notification(6, 2), "6/2 (cease, shutdown)"),
        (Notification(6, 2, b"\x04back"), '6/2 (cease, shutdown: "back")'),
        (Notification(6, 4, b"\x05back"), '6/4 (cease, reset: "broken text 0x056261636b")'),
        (Notification(6, 2, b"\x02\xff\xfe"), '6/2 (cease, shutdown: "broken text 0xfffe")'),
        (Notification(6, 9, b"\x06\x02\x03out"), '6/9 (cease, hard reset: "out")'),
        (Notification(6, 9, b"\x06\xc8\x03out"), '6/9 (cease, hard reset: "out")'),
        (Notification(6, 99), "6/99 (cease)"),
        (Notification(77, 1, b"\x1b[2J"), "77/1 (unknown code)"),
    ],
)
def test_rfc9003_2_notifications_in_words(notification: Notification, text: str) -> None:
    assert notification_text(notification) == text


@given(st.binary(max_size=300), st.integers(0, 255), st.integers(0, 255))
def test_rfc9003_2_no_notification_can_move_the_cursor(octets: bytes, code: int, subcode: int) -> None:
    assert notification_text(Notification(code, subcode, octets)).isprintable()


@given(st.text())
def test_printable_is_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert "\u202e" not in shown


def test_an_end_in_words() -> None:
    assert str(cease(CeaseSubcode.RESET, EndReason.RESET)) == "cleared by an operator: sent 6/4 (cease, reset)"
    assert str(End(EndReason.TCP_FAILED, text="no route")) == "the connection could not be opened: no route"


# --- octets -------------------------------------------------------------------------------------------------------------

ALIVE = encode(Keepalive(), Session())


@given(st.lists(st.integers(1, 50), max_size=30))
def test_a_stream_cuts_messages_wherever_the_segments_end(cuts: list[int]) -> None:
    stream, sent, got = Stream(), ALIVE * 20, 0
    while sent:
        size = cuts.pop() if cuts else 7
        stream.push(sent[:size])
        sent = sent[size:]
        while (message := stream.pop(Session())) is not None:
            assert message == ALIVE
            got += 1
        assert not stream.backlog
        assert len(stream) < len(ALIVE)
    assert got == 20


def test_a_stream_refuses_what_cannot_become_a_message() -> None:
    stream = Stream()
    stream.push(ALIVE + b"\xff" * 16 + b"\xff\xff\x02")
    assert stream.pop(Session()) == ALIVE
    with pytest.raises(MessageError):
        stream.pop(Session())


# --- time ---------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32))
def test_the_schedule_never_forgets_and_stays_small(seed: int) -> None:
    dice = random.Random(seed)
    schedule, wanted, now = Schedule(), {}, 0.0
    for _ in range(500):
        key = ("", bytes((dice.randrange(5),)))
        match dice.randrange(4):
            case 0:
                schedule.forget(key)
                wanted.pop(key, None)
            case 1:
                now += dice.random()
                for due in schedule.due(now):
                    if wanted[due] > now:
                        schedule.set(due, wanted[due])  # looked at too early: entered anew
                    else:
                        del wanted[due]
                assert all(when > now for when in wanted.values())
            case _:
                wanted[key] = now + dice.random() * 3
                schedule.set(key, wanted[key])
        deadline = schedule.deadline()
        assert (deadline is None) == (not wanted)
        assert deadline is None or deadline <= min(wanted.values())
        assert len(schedule) <= 2 * 5 + 64 + 1


def test_rfc7313_4_B16_refreshes_are_answered_once_a_window() -> None:
    gate, key = RefreshGate(), ("", P)
    assert gate.ask(key, IPV4_UNICAST, 0.0)
    assert not gate.ask(key, IPV4_UNICAST, 0.1)
    assert not gate.ask(key, IPV4_UNICAST, 0.2)
    assert gate.ask(key, VPNV4, 0.2)
    assert gate.deadline() == WINDOW
    assert gate.due(WINDOW) == [(key, IPV4_UNICAST)]
    assert gate.deadline() is None
    assert gate.ask(key, IPV4_UNICAST, 10.0)
    assert gate.deferred == 2
    gate.ask(key, IPV4_UNICAST, 10.0)
    gate.forget(key)
    assert gate.deadline() is None
