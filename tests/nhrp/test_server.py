"""Registrations as the server takes and refuses them: packets as they come, one at a time."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.config import NhrpFamily, StaticMap
from nhrp.engine.server import MOST_CIES, MOST_REFUSED, REFUSED_TIME
from nhrp.engine.snapshot import BindingKind
from nhrp.wire import cie_extension, encode
from nhrp.wire.packet import Cie, CieCode, ErrorCode, Extension, ExtensionKind, Flag, Kind, Packet
from stack.addr import Prefix
from stack.events import Via
from tests.nhrp.stations import HUB, HUB_NBMA, NAME, OTHER, OTHER_NBMA, SPOKE, SPOKE_NBMA, Station, a, tunnel_interface

BARE = Cie(prefix_length=255, holding_time=300)
EMPTY = tuple(Extension(kind) for kind in (3, 4, 5))


def request(overlay: str = SPOKE, nbma: str = SPOKE_NBMA, **changes: object) -> Packet:
    """A spoke's registration as FRR and Cisco send it."""
    flags = Flag.UNIQUE_REGISTRATION | Flag.NAT
    one = Packet(Kind.REGISTRATION_REQUEST, a(nbma), a(overlay), a(HUB), 77, flags, (BARE,), EMPTY, hop_count=1)
    return evolve(one, **changes)


def hub(family: NhrpFamily | None = None, **more: object) -> Station:
    return Station.of(HUB, HUB_NBMA, family, **more)


def say(station: Station, one: Packet, outer: str = "", name: str = NAME) -> Packet:
    station.receive(encode(one), outer or _text(one.source_nbma), name)
    return station.last()


def _text(address: bytes) -> str:
    return ".".join(map(str, address))


def codes(reply: Packet) -> list[int]:
    assert reply.kind is Kind.REGISTRATION_REPLY
    return [cie.code for cie in reply.cies]


# --- what is taken ------------------------------------------------------------------------------------------------------


def test_rfc2332_5_2_4_the_reply_has_the_request_s_addresses_and_id() -> None:
    station = hub()
    reply = say(station, request())
    assert (reply.source_nbma, reply.source, reply.destination) == (a(SPOKE_NBMA), a(SPOKE), a(HUB))
    assert (reply.request_id, reply.flags, reply.cies) == (77, request().flags, (BARE,))
    assert reply.hop_count > 1
    assert [one.kind for one in reply.extensions] == [3, 4, 5]


def test_it_goes_back_to_the_outer_source() -> None:
    station = hub()
    station.receive(encode(request()), OTHER_NBMA)
    assert [one.nbma for one in station.sent] == [a(OTHER_NBMA)]
    assert station.endpoints() == {a(SPOKE): a(OTHER_NBMA)}
    (entry,) = station.bindings
    assert (entry.nbma, entry.claimed, entry.nat) == (a(OTHER_NBMA), a(SPOKE_NBMA), True)


def test_several_entries_each_with_its_own_answer() -> None:
    station = hub(NhrpFamily(maps=(StaticMap(a("10.0.0.99"), a(OTHER_NBMA)),)))
    cies = tuple(evolve(BARE, protocol=a(one)) for one in (SPOKE, "10.0.0.21", "10.0.0.99", HUB))
    reply = say(station, request(cies=cies))
    assert codes(reply) == [CieCode.OK, CieCode.OK, CieCode.PROHIBITED, CieCode.PROHIBITED]
    assert [cie.holding_time for cie in reply.cies] == [300, 300, 0, 0]
    assert [cie.protocol for cie in reply.cies] == [cie.protocol for cie in cies]
    assert set(station.endpoints()) == {a(SPOKE), a("10.0.0.21"), a("10.0.0.99")}


def test_entries_of_one_registration_are_bounded() -> None:
    station = hub()
    cies = tuple(evolve(BARE, protocol=a(f"10.0.1.{number}")) for number in range(MOST_CIES + 5))
    reply = say(station, request(cies=cies))
    assert codes(reply) == [CieCode.OK] * MOST_CIES + [CieCode.INSUFFICIENT_RESOURCES] * 5
    assert len(station.bindings) == MOST_CIES


@pytest.mark.parametrize(
    ("length", "flags", "code"),
    [
        (0, 0x8002, CieCode.OK),
        (32, 0x8002, CieCode.OK),  # newer IOS, U set
        (255, 0x0002, CieCode.OK),
        (24, 0x8002, CieCode.PROHIBITED),
        (24, 0x0002, CieCode.NOT_UNIQUE),
        (33, 0x0002, CieCode.NOT_UNIQUE),
    ],
)
def test_rfc2332_5_2_3_prefix_lengths(length: int, flags: int, code: CieCode) -> None:
    station = hub()
    reply = say(station, request(flags=flags, cies=(evolve(BARE, prefix_length=length),)))
    assert codes(reply) == [code]
    assert len(station.bindings) == (code == CieCode.OK)


def test_a_holding_time_of_0_is_no_registration() -> None:
    station = hub()
    assert codes(say(station, request(cies=(evolve(BARE, holding_time=0),)))) == [CieCode.PROHIBITED]
    assert len(station.bindings) == 0


def test_no_entry_at_all() -> None:
    station = hub()
    assert say(station, request(cies=())).code == ErrorCode.PROTOCOL_ERROR


def test_ipv6() -> None:
    station = Station.of("fd00::1", "2001:db8::1", length=64)
    one = Packet(Kind.REGISTRATION_REQUEST, a("2001:db8::11"), a("fd00::11"), a("fd00::1"), 5, 0x8002, (BARE,), EMPTY)
    station.receive(encode(one), "2001:db8::11")
    assert codes(station.last()) == [CieCode.OK]
    assert station.endpoints() == {a("fd00::11"): a("2001:db8::11")}
    station.receive(encode(evolve(one, cies=(evolve(BARE, prefix_length=128),))), "2001:db8::11")
    assert codes(station.last()) == [CieCode.OK]


# --- for whom it is -----------------------------------------------------------------------------------------------------


def test_dst_of_its_own_asks_for_ours() -> None:
    reply = say(hub(), request(destination=a(SPOKE)))
    assert (reply.destination, codes(reply)) == (a(HUB), [CieCode.OK])


def test_for_another_server_it_is_not_passed_on() -> None:
    station = hub()
    error = say(station, request(destination=a("10.0.0.2")))
    assert (error.kind, error.code) == (Kind.ERROR_INDICATION, ErrorCode.UNREACHABLE)
    assert len(station.bindings) == 0


def test_through_an_interface_of_another_network() -> None:
    station = hub()
    station.interface(tunnel_interface("10.1.0.1", "Tunnel1", network_id=2), HUB_NBMA)
    assert say(station, request(), name="Tunnel1").code == ErrorCode.UNREACHABLE
    station.interface(tunnel_interface("10.1.0.1", "Tunnel1", network_id=1), HUB_NBMA)
    assert codes(say(station, request(), name="Tunnel1")) == [CieCode.OK]
    station.interface(tunnel_interface("10.1.0.1", "Tunnel1", network_id=1, vrf="red"), HUB_NBMA)
    assert say(station, request(), name="Tunnel1").code == ErrorCode.UNREACHABLE


def test_passed_on_by_another_server() -> None:
    station = hub()
    record = cie_extension(ExtensionKind.FORWARD_TRANSIT, (Cie(nbma=a(OTHER_NBMA), protocol=a(OTHER)),))
    error = say(station, request(extensions=(record,)))
    assert error.kind is Kind.ERROR_INDICATION
    assert len(station.bindings) == 0


def test_rfc2332_5_3_an_unknown_compulsory_extension_is_error_1() -> None:
    station = hub()
    error = say(station, request(extensions=(*EMPTY, Extension(99, b"x"))))
    assert error.code == ErrorCode.UNRECOGNIZED_EXTENSION
    assert len(station.bindings) == 0
    reply = say(station, request(extensions=(*EMPTY, Extension(99, b"x", compulsory=False))))
    assert codes(reply) == [CieCode.OK]
    assert [one.kind for one in reply.extensions] == [3, 4, 5]  # what we do not know is not echoed


# --- N02 --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [None, b"x", b"NHRPAUT", b"NHRPAUTHX"])
def test_N02_no_cache_change_without_the_password(password: bytes | None) -> None:
    station = hub(NhrpFamily(authentication="NHRPAUTH"))
    shown = () if password is None else (Extension(ExtensionKind.AUTHENTICATION, b"\0\0\0\1" + password),)
    assert say(station, request(extensions=(*EMPTY, *shown))).code == ErrorCode.AUTHENTICATION_FAILURE
    assert len(station.bindings) == 0
    assert station.endpoints() == {}


# --- N05 --------------------------------------------------------------------------------------------------------------------


def test_N05_registration_of_another_s_address() -> None:
    # A (10.0.0.11, unique) has registered. B comes and says that it is 10.0.0.11: code 14.
    station = hub()
    assert codes(say(station, request())) == [CieCode.OK]
    reply = say(station, request(nbma=OTHER_NBMA))
    assert codes(reply) == [CieCode.UNIQUE_ALREADY_REGISTERED]
    assert reply.cies[0].holding_time == 0
    assert station.endpoints() == {a(SPOKE): a(SPOKE_NBMA)}
    # Nor by any other words for the same.
    assert codes(say(station, request(nbma=OTHER_NBMA, flags=0))) == [CieCode.UNIQUE_ALREADY_REGISTERED]
    bare = evolve(BARE, protocol=a(SPOKE), nbma=a(SPOKE_NBMA))
    assert codes(say(station, request(OTHER, OTHER_NBMA, cies=(bare,)))) == [CieCode.UNIQUE_ALREADY_REGISTERED]
    assert codes(say(station, request(), outer=OTHER_NBMA)) == [CieCode.UNIQUE_ALREADY_REGISTERED]


def test_N05_an_address_that_ikev2_has_assigned_is_its_owner_s() -> None:
    station = hub()
    station.assign(SPOKE, SPOKE_NBMA, "spoke-a")
    station.assign(OTHER, OTHER_NBMA, "spoke-b")
    assert codes(say(station, request(nbma=OTHER_NBMA))) == [CieCode.PROHIBITED]
    assert codes(say(station, request("10.0.0.50", OTHER_NBMA))) == [CieCode.PROHIBITED]
    # A stranger that IKEv2 has assigned nothing to.
    assert codes(say(station, request(nbma="192.0.2.66"))) == [CieCode.PROHIBITED]
    assert len(station.bindings) == 0
    assert station.counted("refused: registration of an address that is assigned to another") == 3
    rows = station.server.snapshot()
    assert [(row.kind, row.nbma, row.prefix) for row in rows] == [
        (BindingKind.NEGATIVE, a(OTHER_NBMA), Prefix.host(a(SPOKE))),
        (BindingKind.NEGATIVE, a(OTHER_NBMA), Prefix.host(a("10.0.0.50"))),
        (BindingKind.NEGATIVE, a("192.0.2.66"), Prefix.host(a(SPOKE))),
    ]
    assert {row.reason for row in rows} == {"registration of an address that is assigned to another"}
    assert codes(say(station, request())) == [CieCode.OK]
    assert codes(say(station, request(OTHER, OTHER_NBMA))) == [CieCode.OK]


def test_N05_by_another_s_virtual_access_interface() -> None:
    station = hub(length=32)
    for number, (overlay, nbma) in enumerate(((SPOKE, SPOKE_NBMA), (OTHER, OTHER_NBMA)), 1):
        name = f"Virtual-Access{number}"
        station.interface(tunnel_interface(HUB, name, length=32), HUB_NBMA, nbma)
        station.assign(overlay, nbma, name=name)
    reply = say(station, request(nbma=OTHER_NBMA), name="Virtual-Access2")
    assert codes(reply) == [CieCode.PROHIBITED]
    assert codes(say(station, request(), name="Virtual-Access1")) == [CieCode.OK]


def test_N05_our_own_address_and_one_that_is_attached_elsewhere() -> None:
    station = hub(length=32)
    station.route("10.7.0.0/24", "connected", (Via(interface="Ethernet0/0"),))
    station.route("10.8.0.0/24", "connected", (Via(interface=NAME),))
    station.route("0.0.0.0/0", "static", (Via(address=a("192.0.2.254")),))
    assert codes(say(station, request("10.7.0.5"))) == [CieCode.PROHIBITED]
    assert codes(say(station, request("10.8.0.5"))) == [CieCode.OK]
    assert codes(say(station, request(SPOKE))) == [CieCode.OK]
    assert list(station.routes()) == [Prefix.host(a("10.8.0.5")), Prefix.host(a(SPOKE))]


def test_a_unique_entry_ends_with_its_holding_time() -> None:
    station = hub()
    say(station, request())
    station.wake(300.0)
    assert codes(say(station, request(nbma=OTHER_NBMA))) == [CieCode.OK]


def test_no_unique_the_last_one_counts() -> None:
    station = hub()
    say(station, request(flags=0))
    assert codes(say(station, request(nbma=OTHER_NBMA, flags=0))) == [CieCode.OK]
    assert station.endpoints() == {a(SPOKE): a(OTHER_NBMA)}


# --- bounds -----------------------------------------------------------------------------------------------------------------


def test_a_full_table() -> None:
    station = hub(cache_limit=2)
    answers = [codes(say(station, request(f"10.0.0.{20 + number}"))) for number in range(3)]
    assert answers == [[CieCode.OK], [CieCode.OK], [CieCode.INSUFFICIENT_RESOURCES]]


def test_what_was_refused_is_remembered_within_bounds() -> None:
    station = hub()
    say(station, request())
    for number in range(3 * MOST_REFUSED):
        say(station, request(nbma=f"192.0.3.{number}"))
    assert len(station.server.snapshot()) == MOST_REFUSED
    station.wake(REFUSED_TIME)
    assert station.server.snapshot() == ()


def test_refusals_are_no_flood_of_log_lines() -> None:
    station = hub()
    say(station, request())
    for _ in range(500):
        say(station, request(nbma=OTHER_NBMA))
    assert len(station.logs) < 50
    assert station.counted("refused: registration of an address that is unique and registered") == 500
