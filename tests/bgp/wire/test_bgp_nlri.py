"""NLRI of every family as value and octets, and what cannot be read: RFC 4271 4.3, 8277 2, 4364 4.3.4, 4659, 7911 3."""

from __future__ import annotations

import pytest

from bgp.wire import (
    FAMILIES,
    IPV4_LABELLED,
    IPV4_UNICAST,
    IPV6_LABELLED,
    IPV6_UNICAST,
    VPNV4,
    VPNV6,
    Action,
    Attributes,
    Family,
    Nlri,
    Reach,
    Session,
    Unreach,
    Update,
    decode,
    encode,
    encode_end_of_rib,
    ip_nlri,
    key_text,
    labelled_nlri,
    prefix_of,
    rd_of,
    vpn_nlri,
)
from stack.addr import RD, Prefix
from tests.bgp.wire.bgp_octets import IBGP, NLRI, VPN_NLRI, attribute, base, octets, update

P4, P6 = Prefix.parse("192.0.2.0/24"), Prefix.parse("2001:db8:1::/48")
RD1 = RD.parse("100:1")
STACKS = Session(multiple_labels=True)
NEXT_HOPS = {
    IPV4_UNICAST: "04 0a000001",
    IPV4_LABELLED: "04 0a000001",
    IPV6_UNICAST: "10 20010db8000000000000000000000001",
    IPV6_LABELLED: "10 20010db8000000000000000000000001",
    VPNV4: "0c 0000000000000000 0a000001",
    VPNV6: "18 0000000000000000 00000000000000000000ffff0a000001",
}


def paths(*families: Family) -> Session:
    return Session(addpath=frozenset(families))


def family_octets(family: Family) -> str:
    return f"{family.afi:04x} {family.safi:02x}"


def reach(family: Family, nlri: str, session: Session = IBGP, next_hop: str = "") -> Update:
    value = family_octets(family) + (next_hop or NEXT_HOPS[family]) + "00" + nlri
    got = decode(update(attribute(0x80, 14, value) + "".join(base(session, without=(3,)).values())), session)
    assert isinstance(got, Update)
    return got


def unreach(family: Family, nlri: str, session: Session = IBGP) -> Update:
    got = decode(update(attribute(0x80, 15, family_octets(family) + nlri)), session)
    assert isinstance(got, Update)
    return got


VALUES: dict[str, tuple[Family, Session, str, Nlri]] = {
    "rfc4271_4_3_default": (IPV4_UNICAST, IBGP, "00", ip_nlri(Prefix.parse("0.0.0.0/0"))),
    "rfc4271_4_3_8": (IPV4_UNICAST, IBGP, "08 0a", ip_nlri(Prefix.parse("10.0.0.0/8"))),
    "rfc4271_4_3_25": (IPV4_UNICAST, IBGP, "19 c0000280", ip_nlri(Prefix.parse("192.0.2.128/25"))),
    "rfc4271_4_3_32": (IPV4_UNICAST, IBGP, "20 c0000201", ip_nlri(Prefix.parse("192.0.2.1/32"))),
    "rfc2545_3_default": (IPV6_UNICAST, IBGP, "00", ip_nlri(Prefix.parse("::/0"))),
    "rfc2545_3_48": (IPV6_UNICAST, IBGP, "30 20010db80001", ip_nlri(P6)),
    "rfc2545_3_128": (
        IPV6_UNICAST,
        IBGP,
        "80" + "20010db8" + "00" * 11 + "01",
        ip_nlri(Prefix.parse("2001:db8::1/128")),
    ),
    "rfc8277_2_2_ipv4": (IPV4_LABELLED, IBGP, "30 0003e1 c00002", labelled_nlri(P4, (62,))),
    "rfc8277_2_2_ipv4_default": (IPV4_LABELLED, IBGP, "18 000031", labelled_nlri(Prefix.parse("0.0.0.0/0"), (3,))),
    "rfc8277_2_2_ipv6": (IPV6_LABELLED, IBGP, "48 fffff1 20010db80001", labelled_nlri(P6, (0xFFFFF,))),
    "rfc8277_2_3_stack": (IPV4_LABELLED, STACKS, "48 000100 000111 c00002", labelled_nlri(P4, (16, 17))),
    "rfc8277_2_3_stack_of_one": (IPV4_LABELLED, STACKS, "30 000101 c00002", labelled_nlri(P4, (16,))),
    "rfc4364_4_3_4_vpnv4": (VPNV4, IBGP, VPN_NLRI, vpn_nlri(RD1, P4, (16,))),
    "rfc4364_4_3_4_vpnv4_default": (
        VPNV4,
        IBGP,
        "58 000101 0000006400000001",
        vpn_nlri(RD1, Prefix.parse("0.0.0.0/0"), (16,)),
    ),
    "rfc4364_4_3_4_vpnv4_host": (
        VPNV4,
        IBGP,
        "78 000101 0000006400000001 c0000201",
        vpn_nlri(RD1, Prefix.parse("192.0.2.1/32"), (16,)),
    ),
    "rfc4364_4_3_4_vpnv4_stack": (
        VPNV4,
        STACKS,
        "88 000100 000111 0000006400000001 c00002",
        vpn_nlri(RD1, P4, (16, 17)),
    ),
    "rfc4364_4_2_rd_type_1": (
        VPNV4,
        IBGP,
        "70 000101 0001c00002010007 c00002",
        vpn_nlri(RD.parse("192.0.2.1:7"), P4, (16,)),
    ),
    "rfc4364_4_2_rd_type_2": (
        VPNV4,
        IBGP,
        "70 000101 000200030d400007 c00002",
        vpn_nlri(RD.parse("200000:7"), P4, (16,)),
    ),
    "rfc4659_2_vpnv6": (VPNV6, IBGP, "88 000101 0000006400000001 20010db80001", vpn_nlri(RD1, P6, (16,))),
    "rfc7911_3_ipv4": (IPV4_UNICAST, paths(IPV4_UNICAST), "00000007 18 c00002", ip_nlri(P4, 7)),
    "rfc7911_3_ipv6": (IPV6_UNICAST, paths(IPV6_UNICAST), "ffffffff 30 20010db80001", ip_nlri(P6, 0xFFFFFFFF)),
    "rfc7911_3_vpnv4": (VPNV4, paths(VPNV4), "00000007" + VPN_NLRI, vpn_nlri(RD1, P4, (16,), 7)),
    "rfc7911_3_another_family": (VPNV4, paths(VPNV6), VPN_NLRI, vpn_nlri(RD1, P4, (16,))),
}


@pytest.mark.parametrize("name", VALUES)
def test_nlri_values(name: str) -> None:
    family, session, text, route = VALUES[name]
    got = reach(family, text * 2, session)
    assert got.errors == ()
    (one,) = got.reach
    assert one.family == family
    assert one.routes == (route, route)
    sent = encode(got, session)
    assert octets(text) * 2 in sent
    assert decode(sent, session) == got


@pytest.mark.parametrize("name", [name for name, row in VALUES.items() if len(row[3].labels) < 2])
def test_nlri_withdrawn(name: str) -> None:
    """Labels do not matter in a withdrawal (RFC 8277 2.4), and there is one label field whatever was agreed."""
    family, session, text, route = VALUES[name]
    got = unreach(family, text, session)
    assert got.unreach == (Unreach(family, (Nlri(route.key, (), route.path_id),)),)
    assert decode(encode(got, session), session) == got


@pytest.mark.parametrize("name", VALUES)
def test_keys_read_back(name: str) -> None:
    family, _, _, route = VALUES[name]
    assert family in FAMILIES
    prefix = prefix_of(family, route.key)
    made = vpn_nlri(rd_of(route.key), prefix, route.labels, route.path_id) if family.vpn else None
    assert made in (route, None)
    assert key_text(family, route.key).endswith(str(prefix))


def test_key_text() -> None:
    assert key_text(VPNV4, vpn_nlri(RD1, P4, ()).key) == "100:1:192.0.2.0/24"
    assert key_text(IPV6_UNICAST, ip_nlri(P6).key) == "2001:db8:1::/48"
    assert str(VPNV6) == "vpnv6 unicast"
    assert str(Family(25, 70)) == "afi 25 safi 70"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_rfc4271_4_3_trailing_bits_are_irrelevant(family: Family) -> None:
    """Two spellings of a prefix are one key, reached or withdrawn, with path identifiers and without."""
    head = (24 if family.labelled else 0) + (64 if family.vpn else 0)
    before = ("000101" if family.labelled else "") + ("0000006400000001" if family.vpn else "")
    for session, path in ((IBGP, ""), (paths(family), "00000001")):
        dirty, clean = f"{path}{head + 12:02x}{before}ac1f", f"{path}{head + 12:02x}{before}ac10"
        assert reach(family, dirty, session).reach == reach(family, clean, session).reach
        assert unreach(family, dirty, session).unreach == unreach(family, clean, session).unreach


# --- labels --------------------------------------------------------------------------------------------------------------


def test_V04_rfc8277_2_2_bottom_of_stack_bit_is_ignored() -> None:
    for last in ("0", "1", "2", "f"):
        (one,) = reach(VPNV4, "70 00010" + last + " 0000006400000001 c00002").reach
        assert one.routes == (vpn_nlri(RD1, P4, (16,)),)


@pytest.mark.parametrize("label", ["800000", "000000", "000101", "ffffff"])
@pytest.mark.parametrize("session", [IBGP, STACKS], ids=["one label", "stacks"])
def test_V04_rfc8277_2_4_any_label_withdraws(label: str, session: Session) -> None:
    got = unreach(VPNV4, "70" + label + "0000006400000001 c00002", session)
    assert got.unreach == (Unreach(VPNV4, (vpn_nlri(RD1, P4, ()),)),)
    assert b"\x70\x80\0\0" in encode(got, session)


@pytest.mark.parametrize("label", range(16))
def test_V03_reserved_labels_are_decoded_as_they_are(label: int) -> None:
    """Whether they can be used is not for the codec to say."""
    got = reach(VPNV4, f"70 {label << 4 | 1:06x} 0000006400000001 c00002")
    assert got.reach[0].routes[0].labels == (label,)
    assert got.errors == ()


@pytest.mark.parametrize("rd", ["0009000102030405", "ffffffffffffffff"])
def test_V05_rfc4364_4_2_unknown_rd_types_are_opaque(rd: str) -> None:
    got = reach(VPNV4, "70 000101" + rd + "c00002")
    assert got.errors == ()
    (route,) = got.reach[0].routes
    assert rd_of(route.key) == RD(octets(rd))
    assert got.attributes is not None
    assert got.attributes.route_targets == frozenset()


# --- next hops -------------------------------------------------------------------------------------------------------------

GOOD_NEXT_HOPS = {
    "rfc4364_4_3_2_vpnv4": (VPNV4, "0c 0000000000000000 01020304", "01020304", ""),
    "rfc4364_4_3_2_vpnv4_rd_is_not_looked_at": (VPNV4, "0c 0000006400000001 01020304", "01020304", ""),
    "rfc8950_4_vpnv4_over_ipv6": (
        VPNV4,
        "18" + "00" * 8 + "20010db8" + "00" * 11 + "01",
        "20010db8" + "00" * 11 + "01",
        "",
    ),
    "rfc4659_3_2_1_2_mapped_stays_16_octets": (
        VPNV6,
        "18" + "00" * 8 + "00000000000000000000ffff01020304",
        "00000000000000000000ffff01020304",
        "",
    ),
    "rfc4659_3_2_1_1_with_link_local": (
        VPNV6,
        "30" + "00" * 8 + "20010db8" + "00" * 11 + "01" + "00" * 8 + "fe80" + "00" * 13 + "01",
        "20010db8" + "00" * 11 + "01",
        "fe80" + "00" * 13 + "01",
    ),
    "rfc2545_3_with_link_local": (
        IPV6_UNICAST,
        "20" + "20010db8" + "00" * 11 + "01" + "fe80" + "00" * 13 + "01",
        "20010db8" + "00" * 11 + "01",
        "fe80" + "00" * 13 + "01",
    ),
    "rfc8950_4_ipv4_over_ipv6": (IPV4_UNICAST, NEXT_HOPS[IPV6_UNICAST], "20010db8" + "00" * 11 + "01", ""),
}
NLRI_OF = {VPNV4: VPN_NLRI, VPNV6: VPN_NLRI, IPV6_UNICAST: "30 20010db80001", IPV4_UNICAST: NLRI}


@pytest.mark.parametrize("name", GOOD_NEXT_HOPS)
def test_next_hops(name: str) -> None:
    family, text, address, link_local = GOOD_NEXT_HOPS[name]
    got = reach(family, NLRI_OF[family], next_hop=text)
    assert got.errors == ()
    (one,) = got.reach
    assert (one.next_hop, one.link_local) == (octets(address), octets(link_local))
    assert decode(encode(got, IBGP), IBGP) == got


@pytest.mark.parametrize(
    ("family", "next_hop"),
    [
        (VPNV4, "04 01020304"),
        (VPNV4, "0b" + "00" * 7 + "01020304"),
        (VPNV4, "00"),
        (VPNV4, "10" + "00" * 16),
        (VPNV4, "ff 0000000000000000 01020304"),
        (VPNV6, "0c 0000000000000000 01020304"),
        (VPNV6, "10 20010db8000000000000000000000001"),
        (IPV6_UNICAST, "04 01020304"),
        (IPV6_UNICAST, "09 20010db80000000000"),
        (IPV6_UNICAST, "40 20010db8000000000000000000000001"),
        (IPV4_LABELLED, "0c 0000000000000000 01020304"),
    ],
)
def test_V02_rfc7606_7_11_next_hop_length_disables_the_family(family: Family, next_hop: str) -> None:
    """Session reset or AFI/SAFI disable MUST be used: the milder one. The IPv4 routes beside it are unharmed."""
    value = family_octets(family) + next_hop + "00" + NLRI_OF.get(family, NLRI)
    message = update(attribute(0x80, 14, value) + "".join(base(IBGP).values()), NLRI)
    got = decode(message, IBGP)
    assert isinstance(got, Update)
    (fault,) = got.errors
    assert (fault.code, fault.action, fault.family) == (14, Action.DISABLE_FAMILY, family)
    assert message[fault.offset] == octets(next_hop)[0]
    assert got.action == Action.DISABLE_FAMILY
    assert got.disabled == {family}
    assert [one.family for one in got.reach] == [IPV4_UNICAST]


@pytest.mark.parametrize("address", ["e0000001", "00000000", "7f000001"])
def test_rfc4271_6_3_vpn_next_hop_that_is_no_host_is_withdrawn(address: str) -> None:
    got = reach(VPNV4, VPN_NLRI, next_hop="0c 0000000000000000" + address)
    assert [(fault.code, fault.action) for fault in got.errors] == [(14, Action.TREAT_AS_WITHDRAW)]
    assert got.unreach == (Unreach(VPNV4, (vpn_nlri(RD1, P4, ()),)),)
    mapped = reach(VPNV6, VPN_NLRI, next_hop="18" + "00" * 18 + "ffff" + address)
    assert mapped.action == Action.TREAT_AS_WITHDRAW


# --- what cannot be read ---------------------------------------------------------------------------------------------------

UNREADABLE = {
    # name: (family, session, NLRI, offset of the fault within the NLRI)
    "rfc4364_4_3_4_80_bits": (VPNV4, IBGP, VPN_NLRI + "50 000101 00000064000000", 15),
    "rfc4364_4_3_4_87_bits": (VPNV4, IBGP, "57 000101 0000006400000001", 0),
    "rfc4364_4_3_4_121_bits": (VPNV4, IBGP, "79 000101 0000006400000001 c000020100", 0),
    "rfc4364_4_3_4_no_room_for_a_label": (VPNV4, IBGP, "10 0001", 0),
    "rfc4364_4_3_4_zero_bits": (VPNV4, IBGP, "00", 0),
    "rfc7606_5_3_truncated": (VPNV4, IBGP, "70 000101 0000006400000001 c000", 0),
    "rfc7606_5_3_truncated_second": (VPNV4, IBGP, VPN_NLRI + "70", 15),
    "rfc4659_2_217_bits": (VPNV6, IBGP, "d9" + "00" * 28, 0),
    "rfc8277_2_2_23_bits": (IPV4_LABELLED, IBGP, "17 000101", 0),
    "rfc8277_2_2_57_bits": (IPV4_LABELLED, IBGP, "39 000101 c000020100", 0),
    "rfc2545_3_129_bits": (IPV6_UNICAST, IBGP, "81" + "00" * 17, 0),
    "rfc7911_3_no_room_for_a_path_id": (VPNV4, paths(VPNV4), "000000", 0),
    "rfc7911_3_only_a_path_id": (VPNV4, paths(VPNV4), "00000001", 0),
    "rfc7911_3_truncated": (VPNV4, paths(VPNV4), "00000001 70 000101 0000006400000001 c000", 4),
    "rfc7911_3_80_bits": (VPNV4, paths(VPNV4), "00000001 50 000101 00000064000000", 4),
    "rfc8277_2_3_stack_without_an_end": (IPV4_LABELLED, STACKS, "30 000100 000110", 7),
    "rfc8277_2_3_stack_that_leaves_no_room_for_the_rd": (VPNV4, STACKS, "58 000100 000111 00006400000001", 0),
}


def octets_before_nlri(family: Family, code: int) -> int:
    return 23 + 3 + (3 if code == 15 else 5 + len(octets(NEXT_HOPS[family])) - 1)


@pytest.mark.parametrize("name", UNREADABLE)
def test_V01_unreadable_nlri_disables_the_family_and_harms_no_other(name: str) -> None:
    family, session, text, offset = UNREADABLE[name]
    value = family_octets(family) + NEXT_HOPS[family] + "00" + text
    message = update(attribute(0x80, 14, value) + "".join(base(session).values()), NLRI)
    got = decode(message, session)
    assert isinstance(got, Update)
    (fault,) = got.errors
    assert (fault.code, fault.action, fault.family) == (14, Action.DISABLE_FAMILY, family)
    assert fault.offset == octets_before_nlri(family, 14) + offset
    assert fault.data == octets(attribute(0x80, 14, value))
    assert [one.family for one in got.reach] == [IPV4_UNICAST]
    assert got.unreach == ()


@pytest.mark.parametrize("name", [name for name, row in UNREADABLE.items() if row[1] is not STACKS])
def test_V01_rfc7606_7_12_unreadable_withdrawals_disable_the_family(name: str) -> None:
    family, session, text, offset = UNREADABLE[name]
    got = unreach(family, text, session)
    (fault,) = got.errors
    assert (fault.code, fault.action, fault.family) == (15, Action.DISABLE_FAMILY, family)
    assert fault.offset == octets_before_nlri(family, 15) + offset
    assert got.unreach == ()


# --- End-of-RIB --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_rfc4724_2_end_of_rib(family: Family) -> None:
    written = encode_end_of_rib(family)
    text = "" if family == IPV4_UNICAST else attribute(0x80, 15, family_octets(family))
    assert written == update(text)
    got = decode(written, IBGP)
    assert isinstance(got, Update)
    assert got.end_of_rib == family
    assert encode(got, IBGP) == written


def test_rfc4724_2_what_is_no_end_of_rib() -> None:
    assert reach(VPNV4, VPN_NLRI).end_of_rib is None
    assert unreach(VPNV4, VPN_NLRI).end_of_rib is None
    assert Update(Attributes.of(origin=0), unreach=(Unreach(VPNV4),)).end_of_rib is None
    assert Update().end_of_rib is None
    dropped = decode(update("80 0d 03 000104"), IBGP)  # an unknown non-transitive attribute is still more than nothing
    assert dropped == Update()
    opaque = decode(update(attribute(0x80, 15, "4004 47")), IBGP)
    assert isinstance(opaque, Update)
    assert opaque.end_of_rib is None
    assert Update(reach=(Reach(VPNV4, b"", ()),)).end_of_rib is None
