"""OPEN: octets as tables, judged and answered over a real session (B01, B03)."""

from __future__ import annotations

import pytest

from bgp.config import ConnectionMode, NeighborFamily
from bgp.engine.fsm import State
from bgp.engine.session_ends import EndReason
from bgp.engine.session_open import Terms, agree, judge, our_open
from bgp.wire import (
    IPV4_UNICAST,
    IPV6_UNICAST,
    VPNV4,
    FourOctetAs,
    Keepalive,
    Multiprotocol,
    Notification,
    Open,
    RouteRefreshCapability,
    Session,
    encode,
)
from stack.addr import Afi, Safi
from tests.bgp.engine.session_world import ID_A, ID_B, A, B, Node, World, config, neighbor

MARKER = "ff" * 16


def passive(**more: object) -> tuple[World, Node, int]:
    """A speaker in OpenSent on a connection that the peer opened, and the connection's number."""
    world = World()
    one = neighbor(B, mode=ConnectionMode.PASSIVE, **more)
    node = world.add(A, config(neighbors=(one, neighbor(bytes((192, 0, 2, 9)), mode=ConnectionMode.PASSIVE))))
    node.do(node.speaker.start(world.now))
    number = node.speaker.number()
    node.do(node.speaker.accepted(number, "", A, B, world.now))
    assert node.state(B) is State.OPEN_SENT
    return world, node, number


def hear(node: Node, number: int, octets: str | bytes) -> None:
    raw = bytes.fromhex(octets) if isinstance(octets, str) else octets
    node.do(node.speaker.octets(number, raw, node.world.now))


@pytest.mark.parametrize(
    ("terms", "octets"),
    [
        (  # marker, length 45, OPEN, version 4, AS 65000, 180 s, 10.0.0.1, 16: one parameter of capabilities
            Terms(65000, 65000, ID_A, frozenset({IPV4_UNICAST})),
            MARKER + "002d 01 04 fde8 00b4 0a000001 10 02 0e 01 04 0001 00 01 02 00 41 04 0000fde8",
        ),
        (  # 4-octet AS: AS_TRANS in the old field (RFC 6793 4.2.2)
            Terms(4200000000, 65000, ID_A, frozenset({IPV4_UNICAST, VPNV4}), hold=9),
            MARKER + "0033 01 04 5ba0 0009 0a000001 16 02 14 01 04 0001 00 01 01 04 0001 00 80 02 00 41 04 fa56ea00",
        ),
        (Terms(65000, 1, ID_A, frozenset({IPV4_UNICAST}), plain=True), MARKER + "001d 01 04 fde8 00b4 0a000001 00"),
    ],
)
def test_rfc4271_4_2_what_we_open_with(terms: Terms, octets: str) -> None:
    assert encode(our_open(terms), Session()).hex() == octets.replace(" ", "")


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        # B01 RFC 4271 6.1: marker, length, type; the data is what was sent
        ("00" + "ff" * 15 + "0013 04", "0101"),
        (MARKER[:-2] + "fe" + "0013 04", "0101"),
        (MARKER + "0012 04", "0102 0012"),
        (MARKER + "1001 02", "0102 1001"),
        (MARKER + "0014 04 00", "0102 0014"),
        (MARKER + "0013 09", "0103 09"),
        (MARKER + "0013 00", "0103 00"),
        (MARKER + "001c 01 04 fde8 00b4 0a000002", "0102 001c"),
        (MARKER + "0016 02 0000 00", "0102 0016"),
    ],
)
def test_rfc4271_6_1_B01_a_broken_header_is_answered_and_hurts_nobody_else(octets: str, code: str) -> None:
    world, node, number = passive()
    other = node.speaker.number()
    node.do(node.speaker.accepted(other, "", A, bytes((192, 0, 2, 9)), world.now))
    hear(node, number, octets)
    want = bytes.fromhex(code)
    assert node.said[-1] == Notification(want[0], want[1], want[2:])
    assert node.peer(B).last_end.reason is EndReason.HEADER_ERROR
    assert number not in node.ends
    assert list(node.speaker._connections) == [other]
    hear(node, number, MARKER + "0013 04")  # what still comes is nobody's
    # the peer can come back
    world.run(2)
    again = node.speaker.number()
    node.do(node.speaker.accepted(again, "", A, B, world.now))
    for message in (Open(65000, 90, ID_B), Keepalive()):
        hear(node, again, encode(message, Session()))
    assert node.state(B) is State.ESTABLISHED


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        # B03 RFC 4271 6.2. Each is an OPEN of AS 65000, 90 s, 10.0.0.2 but for one field.
        (MARKER + "001d 01 03 fde8 005a 0a000002 00", "0201 0004"),
        (MARKER + "001d 01 04 fde9 005a 0a000002 00", "0202"),
        (MARKER + "001d 01 04 0000 005a 0a000002 00", "0202 0000"),
        (MARKER + "001d 01 04 5ba0 005a 0a000002 00", "0202"),
        (MARKER + "001d 01 04 fde8 0001 0a000002 00", "0206 0001"),
        (MARKER + "001d 01 04 fde8 0002 0a000002 00", "0206 0002"),
        (MARKER + "001d 01 04 fde8 005a 00000000 00", "0203 00000000"),
        (MARKER + "001d 01 04 fde8 005a 0a000001 00", "0203 0a000001"),
    ],
)
def test_rfc4271_6_2_B03_an_unacceptable_open_is_answered(octets: str, code: str) -> None:
    _, node, number = passive()
    hear(node, number, octets)
    want = bytes.fromhex(code)
    assert node.said[-1] == Notification(want[0], want[1], want[2:])
    assert node.peer(B).last_end.reason is EndReason.OPEN_ERROR
    assert node.state(B) is State.IDLE
    assert not node.ribs.up


def test_rfc5492_5_B03_no_family_in_common_lists_what_is_missing() -> None:
    families = {(Afi.IPV4, Safi.UNICAST): NeighborFamily(activate=False), (Afi.IPV4, Safi.VPN): NeighborFamily()}
    _, node, number = passive(families=families)
    hear(node, number, encode(Open(65000, 90, ID_B, (Multiprotocol(IPV6_UNICAST),)), Session()))
    assert node.said[-1] == Notification(2, 7, bytes.fromhex("0104 0001 00 80"))


@pytest.mark.parametrize(
    ("message", "families", "asn4", "refresh"),
    [
        (Open(65000, 90, ID_B), {IPV4_UNICAST}, False, False),
        (Open(65000, 90, ID_B, (FourOctetAs(65000),)), {IPV4_UNICAST}, True, False),
        (Open(65000, 90, ID_B, (Multiprotocol(VPNV4), RouteRefreshCapability())), {VPNV4}, False, True),
        (Open(65000, 90, ID_B, (Multiprotocol(VPNV4), Multiprotocol(IPV6_UNICAST))), {VPNV4}, False, False),
    ],
)
def test_rfc4760_8_what_both_can_is_agreed(message: Open, families: set[object], asn4: bool, refresh: bool) -> None:
    terms = Terms(65000, 65000, ID_A, frozenset({IPV4_UNICAST, VPNV4}))
    assert judge(message, terms) is None
    agreement = agree(message, terms)
    assert agreement.families == families
    assert (agreement.wire.asn4, agreement.refresh, agreement.wire.ebgp) == (asn4, refresh, False)


def test_rfc6286_2_2_another_as_may_share_our_identifier() -> None:
    assert judge(Open(65001, 90, ID_A), Terms(65000, 65001, ID_A, frozenset({IPV4_UNICAST}))) is None


@pytest.mark.parametrize("cut", range(1, 29))
def test_an_open_in_two_segments_is_one_open(cut: int) -> None:
    _, node, number = passive()
    octets = encode(Open(65000, 90, ID_B), Session())
    hear(node, number, octets[:cut])
    assert node.state(B) is State.OPEN_SENT
    hear(node, number, octets[cut:] + encode(Keepalive(), Session()))
    assert node.state(B) is State.ESTABLISHED


@pytest.mark.parametrize(
    ("opened", "octets", "subcode"),
    [
        # B04 RFC 6608: UPDATE, KEEPALIVE, ROUTE-REFRESH before OPEN; UPDATE before KEEPALIVE; a second OPEN
        (0, MARKER + "0017 02 0000 0000", 1),
        (0, MARKER + "0013 04", 1),
        (0, MARKER + "0017 05 0001 00 01", 1),
        (1, MARKER + "0017 02 0000 0000", 2),
        (1, MARKER + "001d 01 04 fde8 005a 0a000002 00", 2),
        (2, MARKER + "001d 01 04 fde8 005a 0a000002 00", 3),
    ],
)
def test_rfc6608_3_B04_a_message_out_of_place(opened: int, octets: str, subcode: int) -> None:
    _, node, number = passive()
    for message in (Open(65000, 90, ID_B), Keepalive())[:opened]:
        hear(node, number, encode(message, Session()))
    hear(node, number, octets)
    assert node.said[-1] == Notification(5, subcode)
    assert node.state(B) is State.IDLE
    assert not node.ribs.up
