"""Which octets are answered by an Error Indication, which one, and what of them is quoted."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nhrp.wire import (
    MOST_ECHOED,
    ErrorCode,
    Extension,
    Kind,
    Packet,
    WireError,
    authentication,
    cies_of,
    decode,
    encode,
    error_of,
    indication,
    password_of,
)
from stack.addr import parse_address as a
from tests.nhrp.test_wire_packets import MALFORMED, broken
from tests.nhrp.wire_values import ERROR, PURGE, REAL, REGISTRATION_CISCO, REGISTRATION_V6, packets

OWN_NBMA, OWN = a("192.0.2.1"), a("10.0.0.1")
SENDER = a("10.0.0.2")


def indication_of(error: WireError, octets: bytes, source_nbma: bytes, source: bytes) -> Packet | None:
    code = error_of(error)
    return None if code is None else indication(code, error.offset, octets, source_nbma, source)


def refused(octets: bytes) -> WireError:
    with pytest.raises(WireError) as caught:
        decode(octets)
    return caught.value


@pytest.mark.parametrize(
    ("octets", "offset", "field"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_N01_each_malformed_packet_is_dropped_or_answered_by_error_7_or_9(octets, offset, field):
    error = refused(octets)
    expected = None if field == "header" else (
        ErrorCode.INVALID_EXTENSION if field.startswith("extension") else ErrorCode.PROTOCOL_ERROR
    )  # fmt: skip
    assert error_of(error) is expected
    answer = indication_of(error, octets, OWN_NBMA, OWN)
    if answer is None:
        assert len(octets) < 28 or field in {"ar$pktsz", "ar$shtl", "ar$sstl", "Src Proto Len", "addresses"}
        return
    assert (answer.kind, answer.code, answer.offset) == (Kind.ERROR_INDICATION, expected, offset)
    assert (answer.source_nbma, answer.source) == (OWN_NBMA, OWN)
    assert decode(encode(answer)) == answer


@pytest.mark.parametrize(
    ("octets", "answered"),
    [
        (broken(PURGE, 16, "02"), ErrorCode.PROTOCOL_ERROR),
        (broken(REGISTRATION_CISCO, 66, "0012"), ErrorCode.INVALID_EXTENSION),
    ],
    ids=["version 2", "extension past the end"],
)
def test_rfc2332_5_2_7_it_goes_to_the_station_that_sent_the_packet(octets, answered):
    answer = indication_of(refused(octets), octets, OWN_NBMA, OWN)
    assert answer is not None
    assert (answer.code, answer.destination, answer.body) == (answered, SENDER, octets)
    assert answer.extensions == ()


def test_N01_nothing_beyond_the_packet_is_quoted():
    """What follows ar$pktsz may be the end of somebody else's packet in the same buffer."""
    octets = broken(PURGE, 16, "02")
    answer = indication_of(refused(octets + b"SECRET"), octets + b"SECRET", OWN_NBMA, OWN)
    assert answer is not None
    assert answer.body == octets
    longer = octets[:10] + (len(octets) + 100).to_bytes(2) + octets[12:]
    answer = indication(ErrorCode.PROTOCOL_ERROR, 10, longer, OWN_NBMA, OWN)
    assert answer is not None
    assert answer.body == longer  # as much as came
    shorter = octets[:10] + (40).to_bytes(2) + octets[12:]
    answer = indication(ErrorCode.PROTOCOL_ERROR, 10, shorter, OWN_NBMA, OWN)
    assert answer is not None
    assert answer.body == shorter[:40]


def test_N01_an_error_about_an_error_is_never_sent():
    wrong = broken(ERROR, 16, "02")
    assert indication_of(refused(wrong), wrong, OWN_NBMA, a("10.0.0.9")) is None
    for code in ErrorCode:
        assert indication(code, 0, ERROR, OWN_NBMA, a("10.0.0.9")) is None


def test_what_says_that_we_sent_it_has_come_round_and_is_not_answered():
    assert indication(ErrorCode.LOOP, 0, PURGE, OWN_NBMA, SENDER) is None


def test_who_cannot_be_addressed_is_not_answered():
    assert indication(ErrorCode.PROTOCOL_ERROR, 0, REGISTRATION_V6, OWN_NBMA, OWN) is None
    assert indication(ErrorCode.PROTOCOL_ERROR, 0, PURGE, b"", OWN) is None
    assert indication(ErrorCode.PROTOCOL_ERROR, 0, PURGE, OWN_NBMA, b"") is None
    assert indication(ErrorCode.PROTOCOL_ERROR, 0, PURGE[:27], OWN_NBMA, OWN) is None
    assert indication(ErrorCode.PROTOCOL_ERROR, 0, broken(PURGE, 20, "00"), OWN_NBMA, b"") is None


def test_ours_is_of_our_own_nbma_family():
    answer = indication(ErrorCode.HOP_COUNT_EXCEEDED, 9, PURGE, a("2001:db8::1"), OWN)
    assert answer is not None
    assert decode(encode(answer)) == answer


def test_a_long_packet_is_quoted_in_part():
    packet = evolve(decode(PURGE), extensions=(Extension(99, bytes(9000), compulsory=False),))
    answer = indication(ErrorCode.PROTOCOL_ERROR, 60_000, encode(packet), OWN_NBMA, OWN)
    assert answer is not None
    assert answer.body == encode(packet)[:MOST_ECHOED]


def test_errors_of_what_decode_does_not_look_into():
    packet = evolve(decode(REGISTRATION_CISCO), extensions=(Extension(4, b"1"),))
    with pytest.raises(WireError) as caught:
        cies_of(packet.extensions[0], packet)
    assert error_of(caught.value) is ErrorCode.INVALID_EXTENSION
    with pytest.raises(WireError) as caught:
        password_of(evolve(authentication(b"x"), octets=b"\0\0\0\2x"))
    assert error_of(caught.value) is ErrorCode.AUTHENTICATION_FAILURE


@given(st.binary(max_size=120), st.binary(max_size=10), st.sampled_from([OWN, a("fd00::1")]))
def test_N01_whatever_comes_the_answer_is_none_or_a_packet_that_quotes_it(octets, more, own):
    """Not longer than the cause by more than a header and three addresses, so nothing is amplified."""
    size = int.from_bytes(octets[10:12])
    answer = indication(ErrorCode.PROTOCOL_ERROR, 70_000, octets + more, OWN_NBMA, own)
    if answer is not None:
        assert answer.body == (octets + more)[:size][:MOST_ECHOED]
        assert decode(encode(answer)) == answer
        assert len(encode(answer)) <= len(octets + more) + 28 + 4 + 16 + 16


@given(packets())
def test_any_packet_but_an_error_can_be_answered(packet: Packet):
    own = bytes(len(packet.source))
    answer = indication(ErrorCode.UNREACHABLE, 24, encode(packet), OWN_NBMA, own)
    if packet.kind is Kind.ERROR_INDICATION or packet.source == own:
        assert answer is None
    else:
        assert answer is not None
        assert answer.destination == packet.source


def test_the_values_above_are_of_packets_that_can_be_answered():
    answered = [indication(1, 0, octets, OWN_NBMA, OWN) for octets in REAL.values()]
    assert len([one for one in answered if one]) == len(REAL) - 4  # from ourselves, an error, and two of IPv6
