"""ESP and UDP, octets <-> values. RFC 4303 2, RFC 768, RFC 3948."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.wire import WireError
from tunnel.wire import esp, udp

TRAILERS = [
    (0, 4, 47, "0102022f"),
    (1, 4, 47, "01012f"),
    (2, 4, 47, "002f"),
    (3, 4, 4, "0102030304"),
    (14, 16, 4, "0004"),
    (15, 16, 4, "0102030405060708090a0b0c0d0e0f0f04"),
]


@pytest.mark.parametrize(("size", "block", "next_header", "text"), TRAILERS)
def test_rfc4303_2_4_trailers(size, block, next_header, text):
    assert esp.trailer(size, block, next_header) == bytes.fromhex(text)


@given(st.binary(max_size=300), st.sampled_from([4, 8, 16]), st.integers(0, 255))
def test_rfc4303_2_4_what_is_padded_is_stripped(payload, block, next_header):
    padded = payload + esp.trailer(len(payload), block, next_header)
    assert len(padded) % block == 0
    assert esp.strip(padded) == esp.Inner(next_header, payload)


@pytest.mark.parametrize(
    ("text", "field", "offset"),
    [
        ("", "pad length", 0),
        ("2f", "pad length", 1),
        ("012f", "pad length", 0),
        ("0101ff2f", "pad length", 2),
        ("0001022f", "padding", 0),
        ("02012f", "padding", 0),
    ],
)
def test_rfc4303_2_5_wrong_trailers(text, field, offset):
    with pytest.raises(WireError) as caught:
        esp.strip(bytes.fromhex(text))
    assert (caught.value.field, caught.value.offset) == (field, offset)


@given(st.integers(1, (1 << 32) - 1), st.integers(0, (1 << 32) - 1), st.binary(max_size=40))
def test_rfc4303_2_1_round_trip(spi, sequence, rest):
    packet = esp.Esp(spi, sequence, rest)
    assert esp.decode(esp.encode(packet)) == packet


@pytest.mark.parametrize(("text", "field"), [("", "SPI"), ("000102", "SPI"), ("0001020300", "sequence number")])
def test_rfc4303_2_1_cut_short(text, field):
    with pytest.raises(WireError) as caught:
        esp.decode(bytes.fromhex(text))
    assert caught.value.field == field


def test_rfc4303_2_1_spi_zero_is_reserved():
    with pytest.raises(WireError) as caught:
        esp.decode(bytes(20))
    assert (caught.value.field, caught.value.rfc) == ("SPI", "RFC 4303 2.1")


def test_rfc768_a_datagram():
    octets = bytes.fromhex("1194 1194 000b 0000 616263")
    assert udp.decode(octets + b"behind") == udp.Udp(4500, 4500, b"abc")
    assert udp.encode(udp.Udp(4500, 4500, b"abc")) == octets


def test_rfc3948_2_1_the_checksum_is_not_looked_at():
    assert udp.decode(bytes.fromhex("1194 1194 0009 beef ff")).payload == esp.KEEPALIVE


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "source port"),
        ("11941194000b", "checksum"),
        ("1194119400070000", "length"),
        ("1194119400090000", "payload"),
    ],
)
def test_rfc768_wrong_datagrams(text, field):
    with pytest.raises(WireError) as caught:
        udp.decode(bytes.fromhex(text))
    assert caught.value.field == field


@pytest.mark.parametrize("decode", [esp.decode, esp.strip, udp.decode])
@given(st.binary(max_size=300))
def test_any_octets_give_a_value_or_a_wire_error(decode, octets):
    offset = 0
    try:
        decode(octets)
    except WireError as error:
        offset = error.offset
    assert 0 <= offset <= len(octets)
