"""Packets: a table of octets and values, and what of RFC 2332 5.1 to 5.3 each rule means."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.wire import (
    MOST_CIES,
    MOST_EXTENSIONS,
    MOST_OCTETS,
    Cie,
    CieCode,
    DoesNotFitError,
    Extension,
    ExtensionKind,
    Flag,
    Kind,
    Packet,
    WireError,
    decode,
    encode,
)
from nhrp.wire.packet import ErrorCode
from stack.addr import parse_address as a
from stack.wire import internet_checksum
from tests.nhrp.wire_values import (
    ECHOED_REQUEST,
    ERROR,
    PURGE,
    REAL,
    REGISTRATION_CISCO,
    REGISTRATION_V6,
    REGISTRATION_V6_OVER_V4,
    RESOLUTION_REPLY,
    RESOLUTION_REQUEST,
    SUBADDRESS,
    TRAFFIC_INDICATION,
    packed,
)

OUI = "024d46"
RECORDS = (Extension(4), Extension(5), Extension(3))
V6 = "fd00::"

VALUES = [
    (
        RESOLUTION_REQUEST,
        Packet(
            Kind.RESOLUTION_REQUEST,
            a("172.16.1.103"),
            a("10.0.0.11"),
            a("192.168.2.1"),
            request_id=7,
            flags=Flag.ROUTER | Flag.AUTHORITATIVE | Flag.STABLE_SOURCE | Flag.NAT,
            cies=(Cie(prefix_length=32, mtu=1400, holding_time=7200),),
            hop_count=64,
            extensions=(
                *RECORDS,
                Extension(
                    8,
                    bytes.fromhex(
                        OUI + "01010100000001000a0001e10000010a0000010006000400000001000500080000000100000001"
                    ),
                    compulsory=False,
                ),
            ),
        ),
    ),
    (
        RESOLUTION_REPLY,
        Packet(
            Kind.RESOLUTION_REPLY,
            a("172.16.1.103"),
            a("10.0.0.11"),
            a("192.168.2.1"),
            request_id=7,
            flags=Flag.ROUTER | Flag.AUTHORITATIVE | Flag.STABLE | Flag.STABLE_SOURCE | Flag.NAT,
            cies=(Cie(0, 24, 1400, 7200, a("172.16.2.1"), a("10.0.0.12")),),
            hop_count=64,
            extensions=(
                Extension(4),
                Extension(5),
                Extension(3, bytes.fromhex("0020000005781c2004000400ac1002010a00000c")),
                Extension(
                    8,
                    bytes.fromhex(OUI + "0101020000000200080001000000028100000300080001000000003100"),
                    compulsory=False,
                ),
            ),
        ),
    ),
    (
        TRAFFIC_INDICATION,
        Packet(
            Kind.TRAFFIC_INDICATION,
            a("172.16.0.1"),
            a("10.0.0.1"),
            a("192.168.1.1"),
            hop_count=1,
            body=bytes.fromhex("4500001c000000003f010000c0a80101c0a802010800000000000000"),
            extensions=(Extension(8, bytes.fromhex(OUI + "01010000000001000a0001e10000010a000001"), compulsory=False),),
        ),
    ),
    (
        ECHOED_REQUEST,
        Packet(
            Kind.RESOLUTION_REPLY,
            a("172.16.1.103"),
            a("10.0.0.11"),
            a("192.168.2.1"),
            request_id=7,
            flags=Flag.ROUTER | Flag.AUTHORITATIVE | Flag.STABLE | Flag.STABLE_SOURCE,
            cies=(Cie(0, 24, 0, 60, a("172.16.2.1"), a("10.0.0.12")),),
            hop_count=64,
            extensions=(
                *RECORDS,
                Extension(8, bytes.fromhex(OUI + "01010100000001000a0001e10000010a000001"), compulsory=False),
            ),
        ),
    ),
    (
        REGISTRATION_CISCO,
        Packet(
            Kind.REGISTRATION_REQUEST,
            a("192.0.2.2"),
            a("10.0.0.2"),
            a("10.0.0.1"),
            request_id=1,
            flags=Flag.UNIQUE_REGISTRATION | Flag.NAT,
            cies=(Cie(prefix_length=255, mtu=1500, holding_time=7200),),
            extensions=(Extension(3), Extension(4), Extension(5), Extension(7, b"\0\0\0\1CISCO")),
        ),
    ),
    (
        REGISTRATION_V6,
        Packet(
            Kind.REGISTRATION_REQUEST,
            a("2001:db8::1"),
            a(V6 + "2"),
            a(V6 + "1"),
            request_id=9,
            flags=Flag.UNIQUE_REGISTRATION,
            cies=(Cie(prefix_length=64, holding_time=60, protocol=a("fd00:0:0:1::")),),
            hop_count=1,
        ),
    ),
    (
        REGISTRATION_V6_OVER_V4,
        Packet(
            Kind.REGISTRATION_REPLY,
            a("192.0.2.2"),
            a(V6 + "2"),
            a(V6 + "1"),
            request_id=9,
            flags=Flag.UNIQUE_REGISTRATION,
            cies=(Cie(CieCode.UNIQUE_ALREADY_REGISTERED, 128, nbma=a("192.0.2.99")), Cie()),
            hop_count=1,
        ),
    ),
    (
        PURGE,
        Packet(
            Kind.PURGE_REQUEST,
            a("192.0.2.2"),
            a("10.0.0.2"),
            a("10.0.0.1"),
            request_id=42,
            flags=Flag.NO_REPLY,
            cies=(
                Cie(prefix_length=24, protocol=a("10.3.3.0")),
                Cie(prefix_length=32, nbma=a("192.0.2.3"), protocol=a("10.0.0.3"), preference=9),
                Cie(),
            ),
        ),
    ),
    (
        ERROR,
        Packet(
            Kind.ERROR_INDICATION,
            a("192.0.2.1"),
            a("10.0.0.1"),
            a("10.0.0.2"),
            code=ErrorCode.PROTOCOL_ERROR,
            offset=16,
            body=bytes.fromhex("0001080000000000 00ff0015ffff00000201040004 00000000"),
        ),
    ),
    (
        SUBADDRESS,
        Packet(
            Kind.RESOLUTION_REQUEST,
            a("192.0.2.2"),
            a("10.0.0.2"),
            a("10.0.0.9"),
            request_id=1,
            cies=(Cie(prefix_length=32, nbma=a("192.0.2.3"), subaddress=b"\1\2"),),
            hop_count=16,
            source_subaddress=b"\xaa\xbb\xcc",
        ),
    ),
]


def test_the_table_has_every_packet_that_the_other_tests_use():
    assert {octets for octets, _ in VALUES} == set(REAL.values())


@pytest.mark.parametrize(("octets", "packet"), VALUES, ids=list(REAL))
def test_octets_and_values(octets, packet):
    assert decode(octets) == packet
    assert encode(packet) == octets


@pytest.mark.parametrize("octets", REAL.values(), ids=REAL)
def test_rfc2332_5_1_what_follows_pktsz_is_padding(octets):
    """Ethernet pads to 46 octets, and nobody cuts that off."""
    assert decode(octets + b"\xff" * 7) == decode(octets)
    assert decode(memoryview(b"\xff" * 3 + octets + b"\0" * 9)[3:]) == decode(octets)


def broken(octets: bytes, at: int, new: str, *, checksum: bool = True) -> bytes:
    put = bytes.fromhex(new)
    changed = bytearray(octets)
    changed[at : at + len(put)] = put
    if checksum:
        changed[12:14] = b"\0\0"
        changed[12:14] = internet_checksum(bytes(changed)).to_bytes(2)
    return bytes(changed)


@pytest.mark.parametrize(
    ("protocol", "snap"),
    [("0080", "0000000800"), ("00cc", "0000000000"), ("0800", "0000000800"), ("0800", "ffffffffff")],
    ids=["snap", "nlpid", "ignored", "ignored"],
)
def test_rfc2332_5_1_the_codings_of_ip(protocol, snap):
    """ar$pro.snap is "ignored on receive" unless the type is 0x0080; only the Ethertype is ever sent."""
    octets = broken(REGISTRATION_CISCO, 2, protocol + snap)
    assert encode(decode(octets)) == REGISTRATION_CISCO


def test_rfc2332_5_1_the_codings_of_ipv6():
    for coding in ("00800000 0086dd", "008e 0000000000"):
        assert encode(decode(broken(REGISTRATION_V6, 2, coding))) == REGISTRATION_V6


def test_an_end_that_is_not_compulsory_is_one_and_so_is_the_end_of_the_packet():
    """freeRtr sends 0x0000 0000. What follows End says nothing."""
    packet = decode(REGISTRATION_CISCO)
    assert decode(broken(REGISTRATION_CISCO, 77, "00")) == packet
    assert decode(packed(REGISTRATION_CISCO[:77].hex().replace("00ff0051", "00ff004d"))) == packet
    assert decode(packed(REGISTRATION_CISCO.hex().replace("00ff0051", "00ff0056") + "8007000041")) == packet


def test_rfc2332_5_3_the_unused_bits_are_ignored():
    assert decode(broken(REGISTRATION_CISCO, 52, "c003")) == decode(REGISTRATION_CISCO)
    assert decode(broken(REGISTRATION_CISCO, 42, "ffff")) == decode(REGISTRATION_CISCO)


MALFORMED = [
    # what, octets, offset, field
    ("nothing", b"", 0, "header"),
    ("27 octets", RESOLUTION_REQUEST[:27], 0, "header"),
    ("cut off", RESOLUTION_REQUEST[:-1], 10, "ar$pktsz"),
    ("pktsz past the end", broken(PURGE, 10, "0059"), 10, "ar$pktsz"),
    ("pktsz below a header", broken(PURGE, 10, "001b"), 10, "ar$pktsz"),
    ("checksum", broken(PURGE, 12, "0000", checksum=False), 12, "ar$chksum"),
    ("one bit", broken(PURGE, 60, "80", checksum=False), 12, "ar$chksum"),
    ("MARS", broken(PURGE, 16, "00"), 16, "ar$op.version"),
    ("version 2", broken(PURGE, 16, "02"), 16, "ar$op.version"),
    ("type 0", broken(PURGE, 17, "00"), 17, "ar$op.type"),
    ("type 9", broken(PURGE, 17, "09"), 17, "ar$op.type"),
    ("ATM", broken(PURGE, 0, "0003"), 0, "ar$afn"),
    ("afn 0", broken(PURGE, 0, "0000"), 0, "ar$afn"),
    ("AppleTalk", broken(PURGE, 2, "809b"), 2, "ar$pro.type"),
    ("another SNAP", broken(PURGE, 2, "0080000000809b"), 2, "ar$pro.type"),
    ("a VPN-ID's SNAP (RFC 2735)", broken(PURGE, 2, "008000005e0008"), 2, "ar$pro.type"),
    ("no source NBMA", broken(PURGE, 18, "00"), 18, "ar$shtl"),
    ("E.164", broken(PURGE, 18, "44"), 18, "ar$shtl"),
    ("a reserved bit", broken(PURGE, 18, "84"), 18, "ar$shtl"),
    ("IPv6 in afn 1", broken(PURGE, 18, "10"), 18, "ar$shtl"),
    ("E.164 subaddress", broken(PURGE, 19, "40"), 19, "ar$sstl"),
    ("subaddress past the end", broken(PURGE, 19, "3f"), 28, "addresses"),
    ("no source", broken(PURGE, 20, "00"), 20, "Src Proto Len"),
    ("IPv6 in 0x0800", broken(PURGE, 20, "10"), 20, "Src Proto Len"),
    ("source of 255 octets", broken(PURGE, 20, "ff"), 20, "Src Proto Len"),
    ("no destination", broken(PURGE, 21, "00"), 21, "Dst Proto Len"),
    ("destination of 5 octets", broken(PURGE, 21, "05"), 21, "Dst Proto Len"),
    ("addresses past the end", packed(PURGE[:30].hex().replace("ff0058", "ff001e")), 28, "addresses"),
    ("extensions in the addresses", broken(PURGE, 14, "0027"), 14, "ar$extoff"),
    ("extensions in the header", broken(PURGE, 14, "0001"), 14, "ar$extoff"),
    ("extensions past the end", broken(PURGE, 14, "0059"), 14, "ar$extoff"),
    ("half a CIE", broken(PURGE, 14, "0050"), 76, "CIE"),
    ("a CIE's NBMA of another family", broken(PURGE, 64, "10"), 64, "CIE lengths"),
    ("a CIE's E.164", broken(PURGE, 64, "44"), 64, "CIE lengths"),
    ("a CIE's E.164 subaddress", broken(PURGE, 65, "40"), 64, "CIE lengths"),
    ("a CIE's protocol address of 3", broken(PURGE, 66, "03"), 64, "CIE lengths"),
    ("a CIE's address past the end", broken(PURGE, 86, "04"), 88, "CIE addresses"),
    ("half an extension header", broken(REGISTRATION_CISCO, 66, "000b"), 79, "extension header"),
    ("extension past the end", broken(REGISTRATION_CISCO, 66, "0012"), 66, "extension length"),
    ("extension of 65535", broken(REGISTRATION_CISCO, 66, "ffff"), 66, "extension length"),
    ("an End with a value", broken(REGISTRATION_CISCO, 64, "8000"), 66, "extension length"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("octets", "offset", "field"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_N01_octets_that_break_a_rule_are_one_error_that_says_where(octets, offset, field):
    with pytest.raises(WireError) as caught:
        decode(octets)
    assert (caught.value.offset, caught.value.field) == (offset, field)
    assert caught.value.rfc.startswith("RFC 2332 5.")


def long_packet(cies: int, extensions: int = 0, size: int = 0) -> Packet:
    return Packet(
        Kind.PURGE_REQUEST,
        a("192.0.2.2"),
        a("10.0.0.2"),
        a("10.0.0.1"),
        cies=(Cie(),) * cies,
        extensions=(Extension(99, bytes(size), compulsory=False),) * extensions,
    )


@pytest.mark.parametrize(
    ("most", "more", "field"),
    [
        (long_packet(MOST_CIES), long_packet(MOST_CIES + 1), "CIE count"),
        (long_packet(1, MOST_EXTENSIONS), long_packet(1, MOST_EXTENSIONS + 1), "extension count"),
        (long_packet(1, 1, MOST_OCTETS - 60), long_packet(1, 1, MOST_OCTETS - 59), "ar$pktsz"),
    ],
)
def test_N01_there_is_a_limit_to_what_one_packet_may_hold(most, more, field):
    assert decode(encode(most)) == most
    with pytest.raises(WireError) as caught:
        decode(encode(more))
    assert caught.value.field == field


def test_the_longest_packet_can_be_sent_on_with_another_record():
    """A transit adds what it must to whatever could be decoded."""
    packet = decode(encode(long_packet(1, 1, MOST_OCTETS - 60)))
    record = Extension(ExtensionKind.FORWARD_TRANSIT, bytes(44 * MOST_CIES))
    assert len(encode(evolve(packet, extensions=(*packet.extensions, record)))) > MOST_OCTETS


@pytest.mark.parametrize(
    "change",
    [
        {"source_nbma": b""},
        {"source_nbma": b"12345"},
        {"source": b""},
        {"destination": bytes(16)},
        {"source_subaddress": bytes(64)},
        {"hop_count": 256},
        {"flags": 0x10000},
        {"request_id": 1 << 32},
        {"request_id": -1},
        {"cies": (Cie(holding_time=65536),)},
        {"cies": (Cie(mtu=-1),)},
        {"cies": (Cie(nbma=b"12345"),)},
        {"cies": (Cie(protocol=b"1"),)},
        {"cies": (Cie(subaddress=bytes(64)),)},
        {"extensions": (Extension(0),)},
        {"extensions": (Extension(0x4000),)},
        {"extensions": (Extension(1, bytes(65536)),)},
        {"extensions": (Extension(1, bytes(65500)),)},
    ],
    ids=str,
)
def test_a_value_that_no_field_holds_is_an_error_of_ours(change):
    with pytest.raises(DoesNotFitError):
        encode(evolve(decode(PURGE), **change))


def test_what_stands_in_a_packet_is_not_in_its_repr():
    """Extensions hold passwords, and the body of an indication is other people's traffic."""
    assert "CISCO" not in repr(decode(REGISTRATION_CISCO))
    assert "body" not in repr(decode(TRAFFIC_INDICATION))
