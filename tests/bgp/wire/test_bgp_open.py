"""OPEN and its capabilities: RFC 4271 4.2, 6.2, RFC 5492, RFC 9072 and those that each capability comes from."""

from __future__ import annotations

import pytest

from bgp.wire import (
    IPV4_UNICAST,
    VPNV4,
    VPNV6,
    AddPath,
    AddPathMode,
    Capability,
    DoesNotFitError,
    EnhancedRouteRefresh,
    ExtendedMessage,
    FourOctetAs,
    GracefulRestart,
    MessageError,
    MultipleLabels,
    Multiprotocol,
    Open,
    RestartFamily,
    RouteRefreshCapability,
    Session,
    UnknownCapability,
    decode,
    encode,
)
from tests.bgp.wire.bgp_octets import message, octets

SESSION = Session()
FIXED = "04 fde8 00b4 0a000001"
"""Version 4, AS 65000, hold time 180 s, identifier 10.0.0.1."""


def read(body: str) -> Open:
    value = decode(message(1, body), SESSION)
    assert isinstance(value, Open)
    return value


def raised(body: str) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode(message(1, body), SESSION)
    assert caught.value.code == 2
    return caught.value


CAPABILITIES: dict[str, tuple[str, Capability]] = {
    "rfc4760_8_multiprotocol": ("01 04 0001 00 80", Multiprotocol(VPNV4)),
    "rfc2918_2_route_refresh": ("02 00", RouteRefreshCapability()),
    "rfc8654_3_extended_message": ("06 00", ExtendedMessage()),
    "rfc8277_2_1_multiple_labels": ("08 08 0001 80 03 0002 80 02", MultipleLabels(((VPNV4, 3), (VPNV6, 2)))),
    "rfc4724_3_graceful_restart": (
        "40 0a 8078 0001 80 80 0002 80 00",
        GracefulRestart(120, (RestartFamily(VPNV4, forwarding=True), RestartFamily(VPNV6)), restarted=True),
    ),
    "rfc4724_3_graceful_restart_helper_only": ("40 02 0fff", GracefulRestart(4095)),
    "rfc8538_2_notification_bit": ("40 02 4001", GracefulRestart(1, notification=True)),
    "rfc6793_3_four_octet_as": ("41 04 fffffffe", FourOctetAs(0xFFFFFFFE)),
    "rfc7911_4_add_path": (
        "45 08 0001 01 03 0001 80 01",
        AddPath(((IPV4_UNICAST, AddPathMode.BOTH), (VPNV4, AddPathMode.RECEIVE))),
    ),
    "rfc7313_3_1_enhanced_route_refresh": ("46 00", EnhancedRouteRefresh()),
    "rfc5492_3_unknown_kept": ("49 05 0470653100", UnknownCapability(0x49, b"\x04pe1\0")),
}


@pytest.mark.parametrize("name", CAPABILITIES)
def test_capabilities(name: str) -> None:
    text, capability = CAPABILITIES[name]
    size = len(octets(text))
    body = FIXED + f"{size + 2:02x} 02 {size:02x}" + text
    value = read(body)
    assert value.capabilities == (capability,)
    assert encode(value, SESSION)[28:] == message(1, body)[28:]
    assert decode(encode(value, SESSION), SESSION) == value


def test_rfc4271_4_2_open_without_parameters() -> None:
    value = read(FIXED + "00")
    assert value == Open(65000, 180, b"\x0a\0\0\1")
    assert encode(value, SESSION) == message(1, FIXED + "00")
    assert not value.asn4
    assert value.families == frozenset()


def test_rfc5492_4_one_parameter_a_capability_is_read_too() -> None:
    value = read(FIXED + "0e 0206 0104 0001 0001 0202 0200 0200")
    assert value.capabilities == (Multiprotocol(IPV4_UNICAST), RouteRefreshCapability())
    assert value.families == {IPV4_UNICAST}
    assert value.has(RouteRefreshCapability)
    assert not value.has(ExtendedMessage)


def test_rfc6793_4_2_2_real_as_number_from_the_capability() -> None:
    value = read("04 5ba0 00b4 0a000001 08 02 06 41 04 00030d40")
    assert value.asn == 200000
    assert value.asn4
    assert encode(value, SESSION)[20:22] == b"\x5b\xa0"


def test_rfc7911_4_modes_are_seen_from_the_sender() -> None:
    value = read(FIXED + "0c 02 0a 45 08 0001 01 03 0001 80 01")
    assert value.addpath(AddPathMode.SEND) == {IPV4_UNICAST}
    assert value.addpath(AddPathMode.RECEIVE) == {IPV4_UNICAST, VPNV4}


def test_rfc7911_4_other_modes_are_ignored() -> None:
    assert read(FIXED + "08 02 06 45 04 0001 01 04").capabilities == (AddPath(()),)


# --- RFC 9072 ----------------------------------------------------------------------------------------------------------

MANY = tuple(UnknownCapability(200, bytes((number,)) * 60) for number in range(10))


def test_rfc9072_2_extended_parameters() -> None:
    value = Open(65000, 180, b"\x0a\0\0\1", MANY)
    written = encode(value, SESSION)
    assert written[28:32] == octets("ff ff 026f")
    assert written[32:35] == octets("02 026c")
    assert decode(written, SESSION) == value


@pytest.mark.parametrize("length", ["ff", "01", "10"])
def test_rfc9072_2_the_type_tells_the_form_not_the_length(length: str) -> None:
    assert read(FIXED + length + "ff 0005 02 0002 0200").capabilities == (RouteRefreshCapability(),)


def test_rfc9072_2_longest_short_form() -> None:
    value = Open(65000, 180, b"\x0a\0\0\1", (UnknownCapability(200, bytes(251)),))
    assert encode(value, SESSION)[28:31] == octets("ff 02 fd")
    assert decode(encode(value, SESSION), SESSION) == value


def test_rfc8654_4_an_open_does_not_grow_past_4096() -> None:
    value = Open(65000, 180, b"\x0a\0\0\1", MANY * 7)
    with pytest.raises(DoesNotFitError) as caught:
        encode(value, Session(extended_message=True))
    assert caught.value.limit == 4096


# --- faults ------------------------------------------------------------------------------------------------------------

RUNS_PAST = {
    # name: (what follows the fixed part, field, offset)
    "parameters_past_the_message": ("10 02 06 01 04 0001 0001", "optional parameters length", 29),
    "parameters_short_of_the_message": ("02 02 00 00", "OPEN", 31),
    "length_octet_then_nothing": ("08", "optional parameters length", 29),
    "type_255_then_nothing": ("ff ff", "extended optional parameters length", 30),
    "type_255_then_half_a_length": ("ff ff 00", "extended optional parameters length", 30),
    "extended_past_the_message": ("ff ff 0100 02 0000", "optional parameters length", 32),
    "ends_on_the_parameter_type": ("01 02", "optional parameter length", 30),
    "extended_parameter_ends_in_its_length": ("ff ff 0002 02 00", "optional parameter length", 33),
    "parameter_past_the_parameters": ("04 02 06 02 00", "optional parameter length", 31),
    "capability_without_length": ("03 02 01 02", "capability length", 32),
    "capability_past_the_parameter": ("04 02 02 02 01", "capability 2", 33),
    "four_octet_as_of_two": ("06 02 04 41 02 fde8", "AS number", 33),
    "four_octet_as_of_five": ("09 02 07 41 05 0000fde800", "capability 65", 37),
}


@pytest.mark.parametrize("name", RUNS_PAST)
def test_B02_open_lengths(name: str) -> None:
    text, field, offset = RUNS_PAST[name]
    error = raised(FIXED + text)
    assert (error.subcode, error.field, error.offset, error.data) == (0, field, offset, b"")


OPEN_FAULTS = {
    # name: (body, subcode, field, offset, data)
    "rfc4271_6_2_version_3": ("03 fde8 00b4 0a000001 00", 1, "version", 19, b"\0\4"),
    "rfc4271_6_2_version_before_all_else": ("05 0000 0001 00000000 ff", 1, "version", 19, b"\0\4"),
    "rfc4271_6_2_hold_time_1": ("04 fde8 0001 0a000001 00", 6, "hold time", 22, b"\0\1"),
    "rfc4271_6_2_hold_time_2": ("04 fde8 0002 0a000001 00", 6, "hold time", 22, b"\0\2"),
    "rfc6286_2_2_identifier_0": ("04 fde8 00b4 00000000 00", 3, "BGP identifier", 24, bytes(4)),
    "rfc7607_2_as_0": ("04 0000 00b4 0a000001 00", 2, "my AS", 20, bytes(2)),
    "rfc7607_2_as_0_in_capability": ("04 fde8 00b4 0a000001 08 02 06 41 04 00000000", 2, "my AS", 20, b"\xfd\xe8"),
    "rfc4271_6_2_parameter_1": ("04 fde8 00b4 0a000001 03 01 01 00", 4, "optional parameter", 29, b""),
}


@pytest.mark.parametrize("name", OPEN_FAULTS)
def test_B03_open_faults(name: str) -> None:
    body, subcode, field, offset, data = OPEN_FAULTS[name]
    error = raised(body)
    assert (error.subcode, error.field, error.offset, error.data) == (subcode, field, offset, data)


@pytest.mark.parametrize("hold_time", [0, 3, 65535])
def test_rfc4271_6_2_hold_times_that_are_fine(hold_time: int) -> None:
    assert read(f"04 fde8 {hold_time:04x} 0a000001 00").hold_time == hold_time


@pytest.mark.parametrize(
    "text",
    ["01 03 000100", "01 05 0001000100", "02 01 00", "08 03 000180", "40 01 00", "40 05 0078000180", "45 02 0001"],
)
def test_rfc5492_3_an_ill_formed_capability_is_ignored_as_unknown(text: str) -> None:
    size = len(octets(text))
    (capability,) = read(FIXED + f"{size + 2:02x} 02 {size:02x}" + text).capabilities
    assert isinstance(capability, UnknownCapability)
    assert bytes((capability.code, len(capability.value))) + capability.value == octets(text)
