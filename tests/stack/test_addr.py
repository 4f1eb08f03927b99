"""Addresses, prefixes, route distinguishers and targets: text to octets and back, and what is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stack.addr import (
    RD,
    RT,
    AddressError,
    Afi,
    Prefix,
    PrefixFec,
    VrfFec,
    format_address,
    mapped_v4,
    mask_length,
    netmask,
    parse_address,
    unmap_v4,
)

V4 = st.binary(min_size=4, max_size=4)
V6 = st.binary(min_size=16, max_size=16)
ADDRESSES = V4 | V6
PREFIXES = ADDRESSES.flatmap(lambda octets: st.integers(0, len(octets) * 8).map(lambda n: Prefix.of(octets, n)))


@pytest.mark.parametrize(
    ("text", "octets", "printed"),
    [
        ("0.0.0.0", "00000000", "0.0.0.0"),
        ("192.0.2.1", "c0000201", "192.0.2.1"),
        ("255.255.255.255", "ffffffff", "255.255.255.255"),
        ("::", "00" * 16, "::"),
        ("2001:DB8::1", "20010db8000000000000000000000001", "2001:db8::1"),
        ("2001:db8:0:0:1:0:0:1", "20010db8000000000001000000000001", "2001:db8::1:0:0:1"),
        ("fe80:0::0202:b3ff:fe1e:8329", "fe800000000000000202b3fffe1e8329", "fe80::202:b3ff:fe1e:8329"),
        ("::ffff:192.0.2.1", "00000000000000000000ffffc0000201", "::ffff:192.0.2.1"),
        ("::FFFF:c000:201", "00000000000000000000ffffc0000201", "::ffff:192.0.2.1"),
    ],
)
def test_rfc5952_4_addresses(text: str, octets: str, printed: str) -> None:
    assert parse_address(text).hex() == octets
    assert format_address(bytes.fromhex(octets)) == printed
    assert parse_address(printed) == parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.-4", "0x1.2.3.4", "1",
        "١.2.3.4", "fe80::1%eth0", "fe80::1%", "1.2.3.4%lo", "::1::", "1:2:3:4:5:6:7:8:9", "12345::", "g::",
        "::ffff:1.2.3", "192.0.2.1/32", "localhost", "9" * 5000, "\0",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressError, match="is neither an IPv4 nor an IPv6 address"):
        parse_address(text)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        octets = parse_address(text)
    except AddressError:
        return
    assert len(octets) in (4, 16)


@given(ADDRESSES)
@example(bytes(16))
@example(mapped_v4(b"\1\2\3\4"))
def test_addresses_survive_text(octets: bytes) -> None:
    assert parse_address(format_address(octets)) == octets


@given(st.binary(max_size=40))
def test_printing_never_fails(octets: bytes) -> None:
    assert format_address(octets)


@given(V4, V6)
def test_rfc4291_2_5_5_2_mapped_addresses(v4: bytes, v6: bytes) -> None:
    assert unmap_v4(mapped_v4(v4)) == v4
    assert unmap_v4(v4) == v4
    mapped = ipaddress.IPv6Address(v6).ipv4_mapped
    assert unmap_v4(v6) == (v6 if mapped is None else mapped.packed)


@pytest.mark.parametrize("length", range(33))
def test_netmasks_of_every_length(length: int) -> None:
    assert netmask(length) == str(ipaddress.IPv4Network((0, length)).netmask)
    assert mask_length(netmask(length)) == length


@pytest.mark.parametrize("text", ["255.0.255.0", "0.255.255.255", "255.255.255.253", "0.0.0.1"])
def test_masks_with_holes(text: str) -> None:
    with pytest.raises(AddressError, match="ones must be contiguous from the left"):
        mask_length(text)


@pytest.mark.parametrize("text", ["ffff::", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"])
def test_an_ipv6_address_is_no_mask(text: str) -> None:
    with pytest.raises(AddressError, match="is no netmask"):
        mask_length(text)


def test_a_mask_must_be_an_address() -> None:
    with pytest.raises(AddressError, match="is neither"):
        mask_length("24")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("192.0.2.77", "192.0.2.77/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("255.255.255.255/0", "0.0.0.0/0"),
        ("10.255.0.0/9", "10.128.0.0/9"),
        ("2001:db8::ff/64", "2001:db8::/64"),
        ("::/0", "::/0"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("192.0.2.0/024", "192.0.2.0/24"),
    ],
)
def test_prefixes(text: str, printed: str) -> None:
    assert str(Prefix.parse(text)) == printed
    assert Prefix.parse(printed) == Prefix.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2.0/-1", "192.0.2.0/+1", "192.0.2.0/ 1", "192.0.2.0/1_0",
        "192.0.2.0/٣", "192.0.2.0/255.255.255.0", "192.0.2.0/8/8", "/8", "fe80::%1/64", "192.0.2.0/" + "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(AddressError):
        Prefix.parse(text)


@given(st.text("0123456789abcdef.:/%_+- ", max_size=40))
def test_any_text_is_a_prefix_or_an_address_error(text: str) -> None:
    try:
        prefix = Prefix.parse(text)
    except AddressError:
        return
    assert Prefix.of(prefix.network, prefix.length) == prefix


@given(PREFIXES)
def test_prefixes_survive_text_and_agree_with_the_library(prefix: Prefix) -> None:
    assert Prefix.parse(str(prefix)) == prefix
    network = ipaddress.ip_network((prefix.network, prefix.length))
    assert (network.network_address.packed, network.prefixlen) == prefix
    assert prefix.afi == (Afi.IPV4 if network.version == 4 else Afi.IPV6)


@given(PREFIXES, PREFIXES, ADDRESSES)
def test_covers_and_contains(one: Prefix, other: Prefix, address: bytes) -> None:
    mine, theirs = (ipaddress.ip_network((p.network, p.length)) for p in (one, other))
    assert one.covers(address) == (ipaddress.ip_address(address) in mine)
    same_family = mine.version == theirs.version
    assert one.contains(other) == (same_family and theirs.subnet_of(mine))  # type: ignore[arg-type]
    assert one.contains(one)
    assert Prefix.host(address).covers(address)
    assert Prefix.of(address, 0).contains(Prefix.host(address))


NUMBERS = [
    # text, RD, RT (RFC 4364 4.2; RFC 4360 3, RFC 5668 2)
    ("100:110", "000000640000006e", "000200640000006e"),
    ("0:0", "0000000000000000", "0002000000000000"),
    ("65535:4294967295", "0000ffffffffffff", "0002ffffffffffff"),
    ("192.0.2.1:65535", "0001c0000201ffff", "0102c0000201ffff"),
    ("0.0.0.0:0", "0001000000000000", "0102000000000000"),
    ("65536:0", "0002000100000000", "0202000100000000"),
    ("4294967295:65535", "0002ffffffffffff", "0202ffffffffffff"),
]


@pytest.mark.parametrize(("text", "rd", "rt"), NUMBERS)
def test_rfc4364_4_2_distinguishers_and_rfc4360_4_targets(text: str, rd: str, rt: str) -> None:
    assert RD.parse(text).hex() == rd
    assert RT.parse(text).hex() == rt
    assert str(RD.parse(text)) == str(RT.parse(text)) == text
    assert repr(RD.parse(text)) == f"RD('{text}')"
    assert f"{RT.parse(text)}" == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "1", "1:", ":1", "1:2:3", "-1:1", "1:-1", "+1:1", "1:+1", " 1:1", "1: 1", "1_0:1", "1:1_0", "١:1", "a:1",
        "1:a", "65536:65536", "1:4294967296", "4294967296:1", "192.0.2.1:65536", "192.0.2:1", "192.0.2.256:1", "1.5:1",
        "::ffff:192.0.2.1:7", "2001:db8::1:1", "9" * 5000 + ":1", "1:" + "9" * 5000,
    ],
)  # fmt: skip
@pytest.mark.parametrize(("kind", "what"), [(RD, "route distinguisher"), (RT, "route target")])
def test_what_is_neither(text: str, kind: type[RD | RT], what: str) -> None:
    with pytest.raises(AddressError) as caught:
        kind.parse(text)
    assert str(caught.value) == f"{text!r} is no {what}: ASN:NUMBER or A.B.C.D:NUMBER expected"


@given(st.binary(min_size=8, max_size=8))
def test_V05_any_eight_octets_are_a_distinguisher_and_a_target(octets: bytes) -> None:
    """RFC 4364 4.2: unknown types are kept, opaque."""
    for kind in (RD, RT):
        value = kind(octets)
        assert value == octets
        assert hash(value) == hash(octets)
        if not str(value).startswith("0x"):
            # What has the text of a known form parses to octets of the same text.
            assert str(kind.parse(str(value))) == str(value)


@pytest.mark.parametrize("octets", ["0009000000000001", "ffff000000000001"])
def test_V05_unknown_types_print_as_hex(octets: str) -> None:
    assert str(RD(bytes.fromhex(octets))) == f"0x{octets}"


@pytest.mark.parametrize("octets", ["0003006400000064", "4002006400000064", "0302006400000064", "0600000000000000"])
def test_what_is_no_route_target_does_not_print_as_one(octets: str) -> None:
    assert str(RT(bytes.fromhex(octets))) == f"0x{octets}"


@pytest.mark.parametrize("size", [0, 7, 9])
def test_eight_octets_and_no_other_number(size: int) -> None:
    with pytest.raises(AddressError, match="8 wanted"):
        RD(bytes(size))


def test_fecs_of_different_kinds_are_different_keys() -> None:
    prefix = Prefix.parse("10.0.0.0/8")
    assert len({VrfFec("a", Afi.IPV4), VrfFec("a", Afi.IPV6), VrfFec("b", Afi.IPV4), PrefixFec("a", prefix)}) == 4
