"""Codecs of the tunnel data plane: value <-> hex, each rule that octets can break, and totality."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.addr import parse_address as ip
from stack.wire import WireError
from tunnel.wire import arp, ethernet, gre, icmp, ipv4, ipv6, mpls, nd, tcp
from tunnel.wire.checksum import adjusted, transport_checksum

A, B = ip("192.0.2.1"), ip("198.51.100.2")
A6, B6 = ip("2001:db8::1"), ip("2001:db8::2")
MAC, MAC2 = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")

PAIRS = [
    (
        ipv4,
        ipv4.Ipv4(A, B, 17, b"abcd", 64, 0xB8, 7, dont_fragment=True),
        "45b800180007400040114ddfc0000201c633640261626364",
    ),
    (
        ipv4,
        ipv4.Ipv4(A, B, 1, b"", 1, options=bytes.fromhex("94040000")),
        "4600001800000000010138aac0000201c633640294040000",
    ),
    (
        ipv4,
        ipv4.Ipv4(A, B, 6, b"12345678", more=True, offset=1480),
        "4500001c000020b940066decc0000201c63364023132333435363738",
    ),
    (
        ipv6,
        ipv6.Ipv6(A6, B6, 59, b"xy", 3, 0xE0, 0x12345),
        "6e01234500023b03 20010db8000000000000000000000001 20010db8000000000000000000000002 7879",
    ),
    (gre, gre.Gre(0x8847, b"\x01"), "0000884701"),
    (gre, gre.Gre(0x0800, b"\x01", key=0x1234), "200008000000123401"),
    (gre, gre.Gre(0x86DD, b"\x01\x02", key=1, sequence=2, checksum=True), "b00086ddc81c000000000001000000020102"),
    (
        arp,
        arp.Arp(1, MAC, A, bytes(6), B),
        "0001080006040001 020000000001 c0000201 000000000000 c6336402",
    ),
    (ethernet, ethernet.Ethernet(MAC2, MAC, 0x0800, b"hi"), "020000000002 020000000001 0800 6869"),
    (
        ethernet,
        ethernet.Ethernet(MAC2, MAC, 0x8847, b"hi", vlan=10, priority=5),
        "020000000002 020000000001 8100a00a 8847 6869",
    ),
    (icmp, icmp.Message(8, 0, bytes.fromhex("00010002"), b"ping"), "0800192c0001000270696e67"),
]


@pytest.mark.parametrize(("module", "value", "octets"), PAIRS)
def test_value_and_hex(module, value, octets):
    wire = bytes.fromhex(octets)
    assert module.encode(value).hex() == wire.hex()
    assert module.decode(wire) == value


BROKEN = [
    (ipv4, "", "version", "RFC 791"),
    (ipv4, "60" + "00" * 39, "version", "RFC 791"),
    (ipv4, "44" + "00" * 19, "IHL", "RFC 791"),
    (ipv4, "45000013" + "00" * 16, "total length", "RFC 791"),
    (ipv4, "450000ff" + "00" * 16, "total length", "RFC 791"),
    (ipv4, "45b800180007400040114ddec0000201c633640261626364", "header checksum", "RFC 1812"),
    (ipv6, "45" + "00" * 39, "version", "RFC 8200"),
    (ipv6, "6000000000 05 3b40" + "00" * 34, "payload", "RFC 8200"),
    (gre, "000188470000", "version", "RFC 2784 2.3.1"),
    (gre, "400088470000", "flags", "RFC 2784 2.3"),
    (gre, "080088470000", "flags", "RFC 2784 2.3"),
    (gre, "040088470000", "flags", "RFC 2784 2.3"),
    (gre, "80008847000000000102", "checksum", "RFC 2784 2.5"),
    (gre, "2000884700", "key", "RFC 2784"),
    (gre, "1000884700", "sequence number", "RFC 2784"),
    (arp, "0006080006040001" + "00" * 20, "types and lengths", "RFC 826"),
    (arp, "0001080006040001" + "00" * 19, "target address", "RFC 826"),
    (ethernet, "020000000002 020000000001 0026 424203", "type", "IEEE 802.3"),
    (ethernet, "020000000002 020000000001 8100000a", "type", "IEEE 802.1Q"),
    (icmp, "0800182500010002 70696e67", "checksum", "RFC 792"),
]


@pytest.mark.parametrize(("module", "octets", "field", "rfc"), BROKEN)
def test_broken_octets_say_where_and_by_which_text(module, octets, field, rfc):
    with pytest.raises(WireError) as caught:
        module.decode(bytes.fromhex(octets))
    assert caught.value.field == field
    assert caught.value.rfc.startswith(rfc)


def test_rfc791_3_1_a_fragment_cannot_end_past_65535():
    octets = bytearray(ipv4.encode(ipv4.Ipv4(A, B, 1, bytes(64), offset=65528)))
    with pytest.raises(WireError, match="65,535"):
        ipv4.decode(bytes(octets))


def test_rfc2784_2_3_reserved_bits_6_to_12_are_ignored():
    assert gre.decode(bytes.fromhex("03f8884701")) == gre.Gre(0x8847, b"\x01")


# --- fragments -----------------------------------------------------------------------------------------------------------


def test_rfc791_3_2_fragments_and_their_options():
    record_route, alert = bytes.fromhex("07 03 04 01"), bytes.fromhex("94 04 00 00")
    packet = ipv4.Ipv4(A, B, 17, bytes(range(100)), identification=9, options=record_route + alert)
    parts = ipv4.fragments(packet, 76)
    assert [(p.offset, len(p.payload), p.more, p.options.hex()) for p in parts] == [
        (0, 48, True, "0703040194040000"),  # all options in the first
        (48, 52, False, "94040000"),  # the copied one in the others
    ]
    assert b"".join(p.payload for p in parts) == packet.payload
    again = ipv4.fragments(parts[0], 52)
    assert [(p.offset, p.more) for p in again] == [(0, True), (24, True)]


@given(st.binary(max_size=3000), st.integers(28, 1600), st.integers(0, 100))
def test_fragments_are_the_packet(payload, mtu, start):
    packet = ipv4.Ipv4(A, B, 17, payload, offset=start * 8)
    parts = ipv4.fragments(packet, mtu)
    assert b"".join(p.payload for p in parts) == payload
    assert all(len(ipv4.encode(p)) <= mtu for p in parts)
    assert [p.more for p in parts] == [True] * (len(parts) - 1) + [False]
    at = start * 8
    for part in parts:
        assert part.offset == at
        at += len(part.payload)


# --- labels --------------------------------------------------------------------------------------------------------------


def test_rfc3032_2_1_label_stack():
    octets = bytes.fromhex("00010a40 00064140 45")
    stack = mpls.decode(octets)
    assert stack == (mpls.LabelEntry(16, 5, False, 64), mpls.LabelEntry(100, 0, True, 64))
    assert mpls.encode(stack) == octets[:8]


@pytest.mark.parametrize("octets", ["", "000100", "00010040", "00010040" * 64])
def test_rfc3032_2_1_stack_without_bottom_or_too_deep(octets):
    with pytest.raises(WireError):
        mpls.decode(bytes.fromhex(octets))


# --- ICMP errors ---------------------------------------------------------------------------------------------------------


def test_rfc4950_2_1_label_stack_in_time_exceeded():
    """RFC 4884: the original padded to 128 octets, its length in 32-bit words in the second octet of the second word."""
    error = icmp.Error(11, 0, b"\x45" + bytes(27), extensions=(icmp.label_stack(bytes.fromhex("00064101")),))
    message = icmp.encode_error(error, 4)
    assert message.rest.hex() == "00200000"
    assert message.body[128:].hex() == "20009def0008010100064101"
    decoded = icmp.decode_error(icmp.decode(icmp.encode(message)), 4)
    assert decoded.extensions == error.extensions
    assert decoded.original == error.original + bytes(100)


def test_rfc4884_4_6_length_counts_64_bit_words_in_ipv6():
    error = icmp.Error(3, 0, b"\x60" + bytes(130), extensions=(icmp.label_stack(bytes.fromhex("00064101")),))
    message = icmp.encode_error(error, 6)
    assert message.rest.hex() == "11000000"  # 17 * 8 = 136
    octets = icmp.encode6(message, A6, B6)
    assert icmp.decode_error(icmp.decode6(octets, A6, B6), 6).extensions == error.extensions


def test_rfc1191_next_hop_mtu_and_rfc4443_3_2_packet_too_big():
    needed = icmp.encode_error(icmp.Error(3, 4, b"x", 1472), 4)
    assert needed.rest.hex() == "000005c0"
    assert icmp.decode_error(needed, 4).mtu == 1472
    assert icmp.encode_error(icmp.Error(2, 0, b"x", 1280), 6).rest.hex() == "00000500"


@pytest.mark.parametrize(
    "tail",
    ["10000000", "2000ffff0008010100064101", "20000000 0003", "20000000 0004", "20000000 00ff0101", "20"],
)
def test_rfc4884_7_broken_extensions(tail):
    body = bytes(128) + bytes.fromhex(tail)
    with pytest.raises(WireError):
        icmp.decode_error(icmp.Message(11, 0, bytes.fromhex("00200000"), body), 4)


def test_rfc4443_2_1_errors_and_queries():
    assert [icmp.is_error(kind, 6) for kind in (1, 2, 3, 4, 127, 128, 135)] == [True] * 5 + [False] * 2
    assert [icmp.is_error(kind, 4) for kind in (0, 8, 13, 3, 4, 5, 11, 12)] == [False] * 3 + [True] * 5


# --- IPv6 ----------------------------------------------------------------------------------------------------------------


def chain(*headers: str, first: int = 0) -> bytes:
    payload = bytes.fromhex("".join(headers))
    return ipv6.encode(ipv6.Ipv6(A6, B6, first, payload))


@pytest.mark.parametrize(
    ("packet", "upper"),
    [
        (chain("0102", first=17), ipv6.Upper(17, 40)),
        (chain("3c00000000000000", "0600000000000000", "0050", first=0), ipv6.Upper(6, 56)),
        (chain("11000001 00000007", "aabb", first=44), ipv6.Upper(17, 48, 0, True, True)),
        (chain("11000009 00000007", "aabb", first=44), ipv6.Upper(17, 48, 8, True, True)),
        (chain("06010000" + "00" * 8, "0050", first=51), ipv6.Upper(6, 52)),
    ],
)
def test_rfc8200_4_1_extension_headers(packet, upper):
    assert ipv6.upper_layer(packet) == upper


def test_rfc8200_4_a_chain_without_end_is_refused():
    with pytest.raises(WireError):
        ipv6.upper_layer(chain("0000000000000000" * 100, first=0))
    with pytest.raises(WireError):
        ipv6.upper_layer(chain("00ff", first=0))


# --- neighbour discovery -------------------------------------------------------------------------------------------------

SOLICIT = nd.Solicitation(A6, nd.solicited_node(B6), B6, MAC)
ADVERTISE = nd.Advertisement(B6, A6, B6, MAC2)


def test_rfc4861_4_3_solicitation_and_advertisement():
    octets = nd.encode(SOLICIT)
    assert octets[7] == 255
    assert octets[24:40].hex() == "ff0200000000000000000001ff000002"
    assert octets[40:42].hex() == "8700"
    assert octets[-8:].hex() == "0101020000000001"
    assert nd.decode(octets) == SOLICIT
    octets = nd.encode(ADVERTISE)
    assert octets[44:48].hex() == "e0000000"
    assert octets[-8:-6].hex() == "0201"
    assert nd.decode(octets) == ADVERTISE


@pytest.mark.parametrize(
    ("message", "at", "value"),
    [
        (SOLICIT, 7, b"\xfe"),  # hop limit: it has passed a router
        (SOLICIT, 41, b"\x01"),  # code
        (SOLICIT, 48, b"\xff"),  # multicast target
        (SOLICIT, 65, b"\x00"),  # option of no length
        (SOLICIT, 43, b"\x00"),  # checksum
        (ADVERTISE, 6, b"\x11"),  # not ICMPv6
    ],
)
def test_rfc4861_7_1_1_validity(message, at, value):
    octets = bytearray(nd.encode(message))
    octets[at : at + 1] = value
    if at not in (43, 7, 6):
        octets[42:44] = b"\0\0"
        octets[42:44] = transport_checksum(bytes(octets[8:24]), bytes(octets[24:40]), 58, octets[40:]).to_bytes(2)
    with pytest.raises(WireError):
        nd.decode(bytes(octets))


def test_rfc4861_7_1_1_duplicate_detection_has_no_mac_and_goes_to_the_group():
    good = nd.Solicitation(bytes(16), nd.solicited_node(B6), B6)
    assert nd.decode(nd.encode(good)) == good
    for bad in (nd.Solicitation(bytes(16), nd.solicited_node(B6), B6, MAC), nd.Solicitation(bytes(16), B6, B6)):
        with pytest.raises(WireError):
            nd.decode(nd.encode(bad))


def test_rfc4861_7_1_2_a_solicited_advertisement_goes_to_no_group():
    with pytest.raises(WireError):
        nd.decode(nd.encode(nd.Advertisement(B6, nd.solicited_node(A6), B6, MAC2)))


# --- TCP and checksums ---------------------------------------------------------------------------------------------------


def syn(options: str, flags: int = 2) -> bytearray:
    text = bytes.fromhex(options)
    text += bytes(-len(text) % 4)
    segment = bytearray(
        bytes.fromhex("1234 0050 00000001 00000000") + bytes((5 + len(text) // 4 << 4, flags)) + bytes(6)
    )
    segment += text
    segment[16:18] = transport_checksum(A, B, 6, segment).to_bytes(2)
    return segment


@pytest.mark.parametrize(
    "options", ["020405b4", "01020405b4", "0101020405b40402", "0402 020405b4 01", "08 0a 0000000000000000 01 020405b4"]
)
def test_rfc9293_3_7_1_mss_is_lowered_and_the_checksum_mended(options):
    segment = syn(options)
    assert tcp.clamp_mss(segment, 1360)
    at = tcp.mss_offset(segment)
    assert int.from_bytes(segment[at : at + 2]) == 1360
    assert transport_checksum(A, B, 6, segment) in (0, 0xFFFF)
    assert not tcp.clamp_mss(segment, 1400)


@pytest.mark.parametrize("options", ["", "00020405b4", "020305b4", "0205", "02", "0201", "0900", "08ff0000"])
def test_options_without_a_sound_mss_are_left_alone(options):
    segment = syn(options)
    before = bytes(segment)
    assert not tcp.clamp_mss(segment, 500)
    assert segment == before


def test_only_a_syn_is_looked_at():
    assert tcp.mss_offset(syn("020405b4", flags=0x10)) is None
    assert tcp.mss_offset(syn("020405b4", flags=0x12)) == 22


@given(st.binary(min_size=2, max_size=60).filter(lambda o: len(o) % 2 == 0), st.data())
def test_rfc1624_3_incremental_update_equals_a_new_sum(octets, data):
    from stack.wire import internet_checksum

    at = data.draw(st.integers(0, len(octets) // 2 - 1)) * 2
    new = data.draw(st.binary(min_size=2, max_size=2))
    changed = octets[:at] + new + octets[at + 2 :]
    result = adjusted(internet_checksum(octets), int.from_bytes(octets[at : at + 2]), int.from_bytes(new))
    assert result % 0xFFFF == internet_checksum(changed) % 0xFFFF


# --- totality ------------------------------------------------------------------------------------------------------------

DECODERS = [
    ipv4.decode,
    ipv6.decode,
    ipv6.upper_layer,
    gre.decode,
    mpls.decode,
    arp.decode,
    ethernet.decode,
    nd.decode,
    icmp.decode,
    lambda o: icmp.decode6(o, A6, B6),
    lambda o: list(ipv4.options(o)),
    lambda o: icmp.decode_error(icmp.Message(11, 0, o[:4].ljust(4, b"\0"), o[4:]), 4),
    lambda o: icmp.decode_error(icmp.Message(1, 0, o[:4].ljust(4, b"\0"), o[4:]), 6),
    tcp.mss_offset,
    lambda o: tcp.clamp_mss(bytearray(o), 1000),
]
SEEDS = [bytes.fromhex(octets) for _, _, octets in PAIRS] + [
    nd.encode(SOLICIT),
    nd.encode(ADVERTISE),
    bytes(syn("020405b4")),
]


@given(st.one_of(st.binary(max_size=120), st.tuples(st.sampled_from(SEEDS), st.integers(0, 80), st.binary(max_size=4))))
def test_any_octets_give_a_value_or_a_wire_error(octets):
    if isinstance(octets, tuple):
        seed, at, value = octets
        octets = seed[:at] + value + seed[at + len(value) :]
    found = []
    for decode in DECODERS:
        try:
            decode(octets)
        except WireError as error:
            found.append(error)
    assert all(error.field and error.rfc for error in found)


@pytest.mark.parametrize("name", ["arp", "ethernet", "gre", "icmp", "ipv4", "ipv6", "mpls", "nd", "tcp", "checksum"])
def test_every_codec_says_what_it_exports(name):
    module = importlib.import_module(f"tunnel.wire.{name}")
    assert all(hasattr(module, public) for public in module.__all__)
