"""Who is let in, what refusals say, and what makes a packet complete."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nhrp.config import NhrpFamily
from nhrp.engine.gate import ERROR_RATE, is_unicast
from nhrp.engine.indexed import Network
from nhrp.engine.node import Arrival
from nhrp.wire import authentication, cie_extension, cies_of, decode, encode
from nhrp.wire.packet import Cie, ErrorCode, Extension, ExtensionKind, Kind, Packet
from stack.events import NhrpReceived, TunnelRow
from tests.nhrp.stations import HUB, HUB_NBMA, NAME, OTHER, OTHER_NBMA, SPOKE, SPOKE_NBMA, Station, a, tunnel_interface

SECRET = NhrpFamily(authentication="NHRPAUTH")
REPLIES = (Kind.RESOLUTION_REPLY, Kind.REGISTRATION_REPLY, Kind.PURGE_REPLY)


def packet(kind: Kind = Kind.RESOLUTION_REQUEST, **changes: object) -> Packet:
    """From a spoke to the hub, or the hub's answer to what a spoke asked: then it is passed through the other spoke's hub."""
    cies = () if kind in (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION) else (Cie(holding_time=300),)
    one = Packet(kind, a(SPOKE_NBMA), a(SPOKE), a(OTHER), 7, cies=cies)
    return evolve(one, **changes)


def admit(hub: Station, one: Packet | bytes, outer: str = SPOKE_NBMA, name: str = NAME) -> Arrival | None:
    octets = one if isinstance(one, bytes) else encode(one)
    arrival = hub.gate.admit(NhrpReceived(name, "", a(outer), a(HUB_NBMA), 0, octets))
    hub.flush()
    return arrival


def refused(hub: Station) -> dict[str, int]:
    return {
        what.removeprefix("refused: "): count
        for what, count in hub.node.counters.items()
        if what.startswith("refused: ")
    }


# --- which interface ----------------------------------------------------------------------------------------------------


def test_let_in() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    arrival = admit(hub, packet())
    assert arrival is not None
    assert (arrival.packet, arrival.name, arrival.tunnel) == (packet(), NAME, TunnelRow(a(HUB_NBMA)))
    assert hub.node.traffic == {(NAME, "in", "resolution-request"): 1}
    assert hub.take() == []


def test_only_by_a_tunnel_interface_of_a_network() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    assert admit(hub, packet(), name="Tunnel9") is None
    hub.node.interfaces["Tunnel1"] = tunnel_interface("10.1.0.1", "Tunnel1")
    assert admit(hub, packet(), name="Tunnel1") is None
    hub.interface(tunnel_interface("10.2.0.1", "Tunnel2", network_id=0), "192.0.2.2")
    assert admit(hub, packet(), name="Tunnel2") is None
    assert refused(hub) == {"interface is in no NHRP network": 2, "interface is no tunnel with a source": 1}
    assert hub.take() == []


# --- authentication -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("password", [None, b"", b"NHRPAUT", b"NHRPAUTHX", b"nhrpauth", b"NHRPAUTI"])
def test_N02_a_wrong_password_of_every_packet_type(kind: Kind, password: bytes | None) -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    shown = () if password is None else (Extension(ExtensionKind.AUTHENTICATION, b"\0\0\0\1" + password),)
    one = packet(kind, extensions=shown)
    arrival = admit(hub, one)
    if kind is Kind.ERROR_INDICATION and password is None:
        assert arrival is not None  # it must have no extensions, and changes nothing
        return
    assert arrival is None
    assert refused(hub) == {"authentication failure": 1}
    said = hub.take()
    if kind is Kind.ERROR_INDICATION:
        assert said == []
        return
    (error,) = said
    assert (error.kind, error.code, error.source) == (Kind.ERROR_INDICATION, ErrorCode.AUTHENTICATION_FAILURE, a(HUB))
    assert error.destination == (a(OTHER) if kind in REPLIES else a(SPOKE))
    assert error.extensions == ()
    octets = encode(one)
    assert error.body == octets
    assert error.offset == (octets.find(b"\x80\x07") if shown else 0)
    assert len(hub.bindings) == 0


@pytest.mark.parametrize("value", ["", "000000", "0000ffff4e48525041555448", "00000002"])
def test_N02_an_spi_that_we_do_not_know(value: str) -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    assert admit(hub, packet(extensions=(Extension(ExtensionKind.AUTHENTICATION, bytes.fromhex(value)),))) is None
    assert [one.code for one in hub.take()] == [ErrorCode.AUTHENTICATION_FAILURE]


@pytest.mark.parametrize("value", [b"NHRPAUTH", bytes((10, 0, 0, 11)) + b"NHRPAUTH"])
def test_rfc2332_5_3_4_cisco_s_form_and_the_rfc_s(value: bytes) -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    shown = Extension(ExtensionKind.AUTHENTICATION, b"\0\0\0\1" + value)
    assert admit(hub, packet(extensions=(shown,))) is not None


def test_a_password_where_none_is_wanted_does_no_harm() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    assert admit(hub, packet(extensions=(authentication(b"NHRPAUTH"),))) is not None


def test_no_secret_in_log_or_repr() -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    arrival = admit(hub, packet(extensions=(authentication(b"NHRPAUTH"),)))
    assert "NHRPAUTH" not in repr(arrival.packet)
    assert admit(hub, packet(extensions=(authentication(b"WRONGONE"),))) is None
    assert "WRONGONE" not in repr(hub.logs)
    assert "NHRPAUTH" not in repr(hub.logs)
    assert "NHRPAUTH" not in repr(hub.node.config)


# --- addresses, loops ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": a("0.0.0.0")}, "source is no unicast address"),
        ({"source": a("224.0.0.5")}, "source is no unicast address"),
        ({"source": a("127.0.0.1")}, "source is no unicast address"),
        ({"destination": a("255.255.255.255")}, "destination is no unicast address"),
        ({"source": a(HUB)}, "source is our own address"),
    ],
)
def test_addresses_that_nobody_has(change: dict[str, object], reason: str) -> None:
    hub = Station.of(HUB, HUB_NBMA)
    assert admit(hub, packet(**change)) is None
    assert refused(hub) == {reason: 1}
    assert hub.take() == []


def test_our_own_nbma_address() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    assert admit(hub, packet(), outer=HUB_NBMA) is None
    assert refused(hub) == {"from our own NBMA address": 1}


def test_ipv6_unicast() -> None:
    yes = ["2001:db8::1", "fe80::1", "::2"]
    no = ["::", "::1", "ff02::1"]
    assert [is_unicast(a(one)) for one in (*yes, *no)] == [True] * 3 + [False] * 3
    assert not is_unicast(b"")


@pytest.mark.parametrize(
    ("kind", "record", "loops"),
    [
        (Kind.RESOLUTION_REQUEST, ExtensionKind.FORWARD_TRANSIT, True),
        (Kind.PURGE_REQUEST, ExtensionKind.FORWARD_TRANSIT, True),
        (Kind.TRAFFIC_INDICATION, ExtensionKind.FORWARD_TRANSIT, True),
        (Kind.RESOLUTION_REPLY, ExtensionKind.REVERSE_TRANSIT, True),
        # A reply that we have passed on as a request, and a request with another's reverse record.
        (Kind.RESOLUTION_REPLY, ExtensionKind.FORWARD_TRANSIT, False),
        (Kind.RESOLUTION_REQUEST, ExtensionKind.REVERSE_TRANSIT, False),
    ],
)
@pytest.mark.parametrize("form", ["protocol", "nbma"])
def test_N08_our_own_address_in_the_transit_record(kind: Kind, record: int, loops: bool, form: str) -> None:
    # hub1 ---request---> hub2 ---the same request, with hub1 in its record---> hub1: error 3
    hub = Station.of(HUB, HUB_NBMA)
    ours = Cie(nbma=a(HUB_NBMA), protocol=a(HUB)) if form == "protocol" else Cie(nbma=a(HUB_NBMA))
    passed = cie_extension(record, (Cie(nbma=a(OTHER_NBMA), protocol=a("10.0.0.2")), ours))
    one = packet(kind, extensions=(passed,))
    arrival = admit(hub, one)
    assert (arrival is None) == loops
    errors = hub.take()
    assert [error.code for error in errors] == ([ErrorCode.LOOP] if loops else [])
    if loops:
        assert encode(one)[errors[0].offset :].startswith(b"\x80" + bytes((record,)))


def test_a_transit_record_that_cannot_be_read() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    assert admit(hub, packet(extensions=(Extension(ExtensionKind.FORWARD_TRANSIT, b"\0" * 11),))) is None
    assert [one.code for one in hub.take()] == [ErrorCode.INVALID_EXTENSION]
    assert refused(hub) == {"invalid transit record": 1}


# --- malformed packets, errors --------------------------------------------------------------------------------------------


def test_N01_a_malformed_packet_is_answered_without_what_stands_behind_it() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    octets = encode(packet())
    broken = octets[:12] + bytes(2) + octets[14:] + b"behind it"
    assert admit(hub, broken) is None
    (error,) = hub.take()
    assert (error.code, error.offset, error.destination) == (ErrorCode.PROTOCOL_ERROR, 12, a(SPOKE))
    assert error.body == broken[: -len(b"behind it")]
    assert refused(hub) == {"malformed (protocol error)": 1}


def test_N01_never_an_error_about_an_error() -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    octets = encode(packet(Kind.ERROR_INDICATION, body=bytes(28)))
    assert admit(hub, octets[:12] + bytes(2) + octets[14:]) is None
    assert admit(hub, packet(Kind.ERROR_INDICATION, extensions=(authentication(b"x"),))) is None
    hub.gate.refuse(admit(hub, octets), ErrorCode.LOOP, "loop")
    hub.flush()
    assert hub.take() == []


def test_no_error_about_what_we_have_sent_ourselves() -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    assert admit(hub, packet(source=a(HUB))) is None
    assert admit(hub, packet(Kind.RESOLUTION_REPLY, destination=a(HUB))) is None
    assert hub.take() == []


def test_errors_are_limited() -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    for _ in range(1000):
        assert admit(hub, packet()) is None
    sent = len(hub.take())
    assert ERROR_RATE / 2 <= sent < ERROR_RATE  # the rest is for others
    assert refused(hub) == {"authentication failure": 1000}
    assert hub.counted("error indications left out") == 1000 - sent
    assert len(hub.logs) < 100
    hub.wake(1.0)
    admit(hub, packet())
    assert len(hub.take()) == 1


def test_an_error_indication_is_counted_and_never_answered() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    # FRR: hop count 0, the offender's NBMA address, the header alone.
    one = packet(Kind.ERROR_INDICATION, destination=a(HUB), hop_count=0, code=6, body=encode(packet())[:40])
    arrival = admit(hub, one)
    assert arrival is not None
    assert hub.node.counters == {"error indication received: unreachable": 1}
    assert admit(hub, evolve(one, code=999)) is not None
    assert hub.counted("error indication received: unknown code") == 1
    assert hub.take() == []


@given(st.binary(max_size=200))
def test_any_octets(octets: bytes) -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    assert admit(hub, octets) is None
    assert len(hub.take()) <= 1


@given(st.data(), st.sampled_from(list(Kind)), st.booleans())
def test_any_damage(data: st.DataObject, kind: Kind, whole: bool) -> None:
    """Of a good packet with some octets changed, and the checksum mended or not."""
    hub = Station.of(HUB, HUB_NBMA)
    record = cie_extension(ExtensionKind.FORWARD_TRANSIT, (Cie(nbma=a(OTHER_NBMA), protocol=a(OTHER)),))
    octets = bytearray(encode(packet(kind, extensions=(record,), destination=a(HUB))))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    if whole:
        octets[12:14] = bytes(2)
        octets[12:14] = (0xFFFF - int.from_bytes(octets[: int.from_bytes(octets[10:12])] or b"\0") % 0xFFFF).to_bytes(2)
    hub.receive(bytes(octets), SPOKE_NBMA)
    assert len(hub.take()) <= 1


# --- out --------------------------------------------------------------------------------------------------------------------


def test_cisco_s_order_and_our_own_password() -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    kinds = [77, 9, 8, 5, 3, 4]
    extensions = (*(Extension(kind) for kind in kinds), authentication(b"OTHERS"))
    sealed = hub.gate.seal(NAME, packet(extensions=extensions))
    assert [one.kind for one in sealed.extensions] == [3, 4, 5, 7, 9, 8, 77]
    assert sealed.extension(7) == authentication(b"NHRPAUTH")
    plain = Station.of(HUB, HUB_NBMA)
    assert plain.gate.seal(NAME, packet(extensions=extensions)).extension(7) is None


def test_an_error_indication_has_no_extensions() -> None:
    hub = Station.of(HUB, HUB_NBMA, SECRET)
    assert hub.gate.seal(NAME, packet(Kind.ERROR_INDICATION, extensions=(Extension(4),))).extensions == ()


def test_rfc2332_5_3_2_a_transit_adds_itself() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    one = packet(extensions=hub.gate.request_extensions((Extension(99, b"x", compulsory=False),)))
    passed = hub.gate.transit(admit(hub, one), NAME)
    assert passed.hop_count == 254
    record = passed.extension(ExtensionKind.FORWARD_TRANSIT)
    assert [(cie.nbma, cie.protocol) for cie in cies_of(record, passed)] == [(a(HUB_NBMA), a(HUB))]
    assert passed.extension(ExtensionKind.REVERSE_TRANSIT).octets == b""
    assert passed.extension(99) == Extension(99, b"x", compulsory=False)
    # Round once more: it is a loop now.
    assert admit(hub, passed, outer=OTHER_NBMA) is None
    assert [error.code for error in hub.take()] == [ErrorCode.LOOP]


def test_rfc2332_5_3_3_the_reply_s_record_is_the_reverse_one() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    one = packet(Kind.RESOLUTION_REPLY, extensions=hub.gate.request_extensions())
    passed = hub.gate.transit(admit(hub, one), NAME)
    assert passed.extension(ExtensionKind.FORWARD_TRANSIT).octets == b""
    assert len(cies_of(passed.extension(ExtensionKind.REVERSE_TRANSIT), passed)) == 1


def test_rfc2332_5_3_a_transit_passes_on_what_it_does_not_know_and_leaves_itself_out() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    unknown = Extension(99, b"x")
    one = packet(extensions=(*hub.gate.request_extensions(), unknown))
    passed = hub.gate.transit(admit(hub, one), NAME)
    assert passed.extensions == one.extensions
    assert passed.hop_count == 254


@pytest.mark.parametrize(
    ("extension", "understood"),
    [
        (Extension(99, b"x"), False),
        (Extension(99, b"x", compulsory=False), True),
        (Extension(ExtensionKind.VENDOR_PRIVATE, b"\x00\x00\x0cx"), False),
        (Extension(ExtensionKind.VENDOR_PRIVATE, b"\x00\x00\x0cx", compulsory=False), True),
        (Extension(ExtensionKind.VENDOR_PRIVATE, b"\x02\x4d\x46x"), True),
        (Extension(ExtensionKind.MOBILE_AUTHENTICATION, b"x"), False),
        (Extension(ExtensionKind.NAT_ADDRESS), True),
    ],
)
def test_rfc2332_5_3_a_responder_must_know_what_is_compulsory(extension: Extension, understood: bool) -> None:
    hub = Station.of(HUB, HUB_NBMA)
    arrival = admit(hub, packet(extensions=(extension,)))
    assert hub.gate.understood(arrival) is understood
    hub.flush()
    assert [error.code for error in hub.take()] == ([] if understood else [ErrorCode.UNRECOGNIZED_EXTENSION])


@pytest.mark.parametrize("hops", [0, 1])
def test_N08_hop_count_that_would_be_0(hops: int) -> None:
    hub = Station.of(HUB, HUB_NBMA)
    arrival = admit(hub, packet(hop_count=hops))
    assert arrival is not None  # for us it may be
    assert hub.gate.transit(arrival, NAME) is None
    hub.flush()
    (error,) = hub.take()
    assert (error.code, error.offset, error.destination) == (ErrorCode.HOP_COUNT_EXCEEDED, 9, a(SPOKE))
    assert error.hop_count > 0


def test_N08_two_servers_that_send_to_each_other_stop() -> None:
    # hub1 ---> hub2 ---> hub1 ...; neither keeps a record: the hop count ends it
    one = packet(hop_count=20)
    hubs = [Station.of(HUB, HUB_NBMA), Station.of("10.0.0.2", OTHER_NBMA)]
    passes = 0
    while one is not None:
        hub = hubs[passes % 2]
        one = hub.gate.transit(admit(hub, one), NAME)
        passes += 1
        assert passes < 30
    assert passes == 20


def test_a_record_says_no_nbma_address_of_another_family() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    hub.interface(tunnel_interface("10.1.0.1", "Tunnel1"), "2001:db8::1")
    one = packet(extensions=hub.gate.request_extensions())
    passed = hub.gate.transit(admit(hub, one), "Tunnel1")
    (cie,) = cies_of(decode(encode(passed)).extension(ExtensionKind.FORWARD_TRANSIT), passed)
    assert (cie.nbma, cie.protocol) == (b"", a("10.1.0.1"))


# --- identity -------------------------------------------------------------------------------------------------------------


def test_N05_who_may_say_what_it_is() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    hub.assign(SPOKE, SPOKE_NBMA)
    mine, others = admit(hub, packet()), admit(hub, packet(), outer=OTHER_NBMA)
    assert hub.gate.speaks_for(mine, a(SPOKE))
    assert not hub.gate.speaks_for(mine, a(OTHER))
    assert not hub.gate.speaks_for(others, a(SPOKE))
    assert hub.gate.speaks_for(others, a(OTHER))  # it has none assigned, and nobody else has that


def test_N05_on_another_interface_of_the_network() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    hub.interface(tunnel_interface("10.0.0.1", "Virtual-Access1", length=32), HUB_NBMA, SPOKE_NBMA)
    hub.interface(tunnel_interface("10.0.0.1", "Virtual-Access2", length=32), HUB_NBMA, OTHER_NBMA)
    hub.assign(SPOKE, SPOKE_NBMA, name="Virtual-Access1")
    first, second = (admit(hub, packet(), name=f"Virtual-Access{number}") for number in (1, 2))
    assert hub.gate.speaks_for(first, a(SPOKE))
    assert not hub.gate.speaks_for(second, a(SPOKE))
    assert not hub.gate.speaks_for(first, a(OTHER))


def test_indexes_follow_their_rows() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    node = hub.node
    for count in range(3):
        hub.assign(f"10.0.0.{20 + count}", SPOKE_NBMA)
    hub.assign("10.0.0.21", OTHER_NBMA)
    assert set(node.assigned(NAME, a(SPOKE_NBMA))) == {a("10.0.0.20"), a("10.0.0.22")}
    assert set(node.assigned(NAME, a(OTHER_NBMA))) == {a("10.0.0.21")}
    node.overlays.clear()
    assert not node.assigned(NAME, a(SPOKE_NBMA))
    assert not node.overlays.at(a("10.0.0.21"))
    assert node.is_own("", a(HUB))
    assert list(node.members(Network(1, ""))) == [NAME]
    node.interfaces[NAME] = tunnel_interface(SPOKE, network_id=2, vrf="red")
    assert not node.is_own("", a(HUB))
    assert node.is_own("red", a(SPOKE))
    assert (list(node.members(Network(1, ""))), list(node.members(Network(2, "red")))) == ([], [NAME])
    del node.interfaces[NAME]
    assert not node.is_own("red", a(SPOKE))
