"""The header, and the messages that are little more than one: RFC 4271 4.1, 4.4, 4.5, 6.1, RFC 2918, RFC 7313, RFC 8654."""

from __future__ import annotations

import pytest

from bgp.wire import (
    IPV4_UNICAST,
    VPNV4,
    DoesNotFitError,
    Family,
    Keepalive,
    MessageError,
    Notification,
    RefreshSubtype,
    RouteRefresh,
    Session,
    decode,
    encode,
    split,
)
from stack.wire import WireError
from tests.bgp.wire.bgp_octets import MARKER, message

SESSION, EXTENDED = Session(), Session(extended_message=True)
KEEPALIVE = MARKER + b"\0\x13\4"


def raised(octets: bytes, session: Session = SESSION) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode(octets, session)
    assert isinstance(caught.value, WireError)
    return caught.value


HEADER_FAULTS = {
    # name: (octets, code/subcode, field, offset, NOTIFICATION data)
    "rfc4271_6_1_marker_first": (b"\xfe" + KEEPALIVE[1:], (1, 1), "marker", 0, b""),
    "rfc4271_6_1_marker_last": (b"\xff" * 15 + b"\0" + KEEPALIVE[16:], (1, 1), "marker", 15, b""),
    "rfc4271_6_1_length_18": (MARKER + b"\0\x12\4", (1, 2), "length", 16, b"\0\x12"),
    "rfc4271_6_1_length_0": (MARKER + b"\0\0\4", (1, 2), "length", 16, b"\0\0"),
    "rfc4271_6_1_length_4097": (MARKER + b"\x10\x01\2" + bytes(4078), (1, 2), "length", 16, b"\x10\x01"),
    "rfc4271_6_1_keepalive_20": (MARKER + b"\0\x14\4\0", (1, 2), "length", 16, b"\0\x14"),
    "rfc4271_6_1_open_28": (MARKER + b"\0\x1c\1" + bytes(9), (1, 2), "length", 16, b"\0\x1c"),
    "rfc4271_6_1_update_22": (MARKER + b"\0\x16\2" + bytes(3), (1, 2), "length", 16, b"\0\x16"),
    "rfc4271_6_1_notification_20": (MARKER + b"\0\x14\3\6", (1, 2), "length", 16, b"\0\x14"),
    "rfc4271_6_1_type_9": (MARKER + b"\0\x13\x09", (1, 3), "type", 18, b"\x09"),
    "rfc4271_6_1_type_0": (MARKER + b"\0\x13\0", (1, 3), "type", 18, b"\0"),
}


@pytest.mark.parametrize("name", HEADER_FAULTS)
def test_B01_header_faults(name: str) -> None:
    octets, notification, field, offset, data = HEADER_FAULTS[name]
    error = raised(octets)
    assert (error.code, error.subcode) == notification
    assert (error.field, error.offset, error.data, error.rfc) == (field, offset, data, "RFC 4271 6.1")


def test_rfc4271_6_1_marker() -> None:
    assert raised(bytes(16) + b"\0\x13\4").subcode == 1


def test_rfc4271_6_1_length() -> None:
    assert raised(MARKER + b"\0\x12\4").subcode == 2


def test_rfc4271_6_1_type() -> None:
    assert raised(MARKER + b"\0\x13\x09").subcode == 3


def test_rfc8654_4_longer_messages_only_when_agreed_and_never_open_or_keepalive() -> None:
    long_update = MARKER + b"\x10\x01\2" + bytes(4078)
    assert split(long_update, EXTENDED) == 4097
    with pytest.raises(MessageError):
        split(long_update, SESSION)
    for kind in (1, 4):
        error = raised(MARKER + b"\x10\x01" + bytes((kind,)) + bytes(4078), EXTENDED)
        assert (error.code, error.subcode, error.data) == (1, 2, b"\x10\x01")


def test_rfc4271_4_1_split_waits_for_a_whole_message_and_not_longer() -> None:
    stream = KEEPALIVE + message(3, "0602")
    for size in range(19):
        assert split(stream[:size], SESSION) is None
    assert split(stream, SESSION) == 19
    assert split(stream[:39], SESSION, 19) is None
    assert split(stream, SESSION, 19) == 21
    assert split(bytearray(stream), SESSION, 19) == split(memoryview(stream), SESSION, 19) == 21


def test_rfc4271_6_1_split_refuses_a_marker_before_the_header_is_whole() -> None:
    """A peer that talks something else is told so at its first octet, not when it has sent 19."""
    with pytest.raises(MessageError, match="marker at offset 3"):
        split(b"\xff\xff\xff\x16", SESSION)


def test_decode_refuses_more_or_less_than_one_message() -> None:
    assert raised(KEEPALIVE + b"\xff").subcode == 2
    assert raised(message(3, "0602")[:20]).subcode == 2
    assert raised(b"").subcode == 2


VALUES = {
    "rfc4271_4_4_keepalive": (KEEPALIVE, Keepalive()),
    "rfc4271_4_5_notification": (message(3, "06 02"), Notification(6, 2)),
    "rfc4271_4_5_notification_data": (message(3, "02 07 0104 0001 0080"), Notification(2, 7, b"\1\4\0\1\0\x80")),
    "rfc2918_3_refresh": (message(5, "0001 00 80"), RouteRefresh(VPNV4)),
    "rfc7313_3_2_begin": (message(5, "0001 01 01"), RouteRefresh(IPV4_UNICAST, RefreshSubtype.BEGIN)),
    "rfc7313_3_2_end": (message(5, "0001 02 01"), RouteRefresh(IPV4_UNICAST, RefreshSubtype.END)),
    "rfc7313_5_unknown_subtype_kept": (message(5, "4004 c8 47"), RouteRefresh(Family(16388, 71), 200)),
}


@pytest.mark.parametrize("name", VALUES)
def test_messages(name: str) -> None:
    octets, value = VALUES[name]
    assert decode(octets, SESSION) == value
    assert encode(value, SESSION) == octets


@pytest.mark.parametrize("body", ["", "000100", "0001008000", "00010080" * 2])
def test_B16_rfc7313_5_route_refresh_of_another_length(body: str) -> None:
    octets = message(5, body)
    error = raised(octets)
    assert (error.code, error.subcode, error.data) == (7, 1, octets)


def test_notification_data_is_cut_to_what_fits() -> None:
    octets = encode(Notification(3, 1, b"\1" * 5000), SESSION)
    assert len(octets) == 4096
    assert decode(octets, SESSION) == Notification(3, 1, b"\1" * 4075)
    assert len(encode(Notification(3, 1, b"\1" * 5000), EXTENDED)) == 5021


def test_rfc7313_3_1_numbers_that_no_octet_holds_are_our_own_error() -> None:
    with pytest.raises(ValueError):
        encode(RouteRefresh(VPNV4, 256), SESSION)
    assert issubclass(DoesNotFitError, Exception)
