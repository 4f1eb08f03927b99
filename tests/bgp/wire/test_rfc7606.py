"""RFC 7606 as a table: each malformed attribute, from an internal and from an external peer, and what it must cost.

W: treat-as-withdraw, the routes of the message stand in `unreach`. D: attribute discard, the routes stay, the attribute
is gone. R: session reset. -: no error at all. Each case is tried on a plain IPv4 UPDATE, on a VPNv4 one whose MP_REACH
comes first, and without any route, where RFC 7606 5.2 makes W a reset.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from bgp.wire import (
    IPV4_UNICAST,
    VPNV4,
    Action,
    AttributeFault,
    MessageError,
    Nlri,
    Session,
    Unreach,
    Update,
    decode,
)
from tests.bgp.wire.bgp_octets import (
    EBGP,
    IBGP,
    KEY,
    NLRI,
    VPN_KEY,
    VPN_REACH,
    attribute,
    base,
    message,
    octets,
    update,
)

W, D, R, NONE = Action.TREAT_AS_WITHDRAW, Action.ATTRIBUTE_DISCARD, Action.SESSION_RESET, Action.NONE


class Case(NamedTuple):
    code: int
    flags: int
    value: str
    ebgp: Action
    ibgp: Action
    subcode: int


LENGTH, FLAGS, ORIGIN, PATH, OPTIONAL, UNKNOWN = 5, 4, 6, 11, 9, 2

CASES = {
    # ORIGIN
    "rfc7606_3_c_origin_optional": Case(1, 0xC0, "00", W, W, FLAGS),
    "rfc7606_3_c_origin_not_transitive": Case(1, 0x00, "00", W, W, FLAGS),
    "rfc7606_3_c_origin_optional_not_transitive": Case(1, 0x80, "00", W, W, FLAGS),
    "rfc4271_4_3_origin_partial": Case(1, 0x60, "00", W, W, FLAGS),
    "rfc7606_7_1_origin_length_0": Case(1, 0x40, "", W, W, LENGTH),
    "rfc7606_7_1_origin_length_2": Case(1, 0x40, "0000", W, W, LENGTH),
    "rfc7606_7_1_origin_3": Case(1, 0x40, "03", W, W, ORIGIN),
    "rfc7606_7_1_origin_4": Case(1, 0x40, "04", W, W, ORIGIN),
    "rfc7606_7_1_origin_255": Case(1, 0x40, "ff", W, W, ORIGIN),
    # AS_PATH
    "rfc7606_3_c_as_path_optional": Case(2, 0xC0, "02010000fde9", W, W, FLAGS),
    "rfc7606_3_c_as_path_not_transitive": Case(2, 0x00, "02010000fde9", W, W, FLAGS),
    "rfc4271_4_3_as_path_partial": Case(2, 0x60, "02010000fde9", W, W, FLAGS),
    "rfc7606_7_2_segment_type_0": Case(2, 0x40, "00010000fde9", W, W, PATH),
    "rfc7606_7_2_segment_type_5": Case(2, 0x40, "05010000fde9", W, W, PATH),
    "rfc7606_7_2_segment_type_255": Case(2, 0x40, "ff010000fde9", W, W, PATH),
    "rfc7606_7_2_segment_of_none": Case(2, 0x40, "0200", W, W, PATH),
    "rfc7606_7_2_segment_of_none_then_one": Case(2, 0x40, "020002010000fde9", W, W, PATH),
    "rfc7606_7_2_segment_overrun": Case(2, 0x40, "02ff0000fde9", W, W, PATH),
    "rfc7606_7_2_segment_overrun_by_one": Case(2, 0x40, "02010000fd", W, W, PATH),
    "rfc7606_7_2_one_octet": Case(2, 0x40, "02", W, W, PATH),
    "rfc7606_7_2_underrun": Case(2, 0x40, "02010000fde902", W, W, PATH),
    "rfc7606_7_2_two_octet_numbers": Case(2, 0x40, "0201fde9", W, W, PATH),
    "rfc7607_2_as_path_as_0": Case(2, 0x40, "020100000000", W, W, PATH),
    "rfc7607_2_as_path_as_0_last": Case(2, 0x40, "02020000fde900000000", W, W, PATH),
    "rfc7607_2_as_path_as_0_in_the_second_segment": Case(2, 0x40, "02010000fde9020100000000", W, W, PATH),
    "rfc7607_2_zeros_across_numbers_are_no_as_0": Case(2, 0x40, "0202 00010000 00000001", NONE, NONE, 0),
    "rfc9774_3_as_set_from_another_as": Case(2, 0x40, "02010000fde9 01020000000100000002", W, NONE, PATH),
    "rfc5065_5_confed_sequence_from_another_as": Case(2, 0x40, "03010000fde9", W, NONE, PATH),
    "rfc5065_5_confed_set_from_another_as": Case(2, 0x40, "04010000fde9", W, NONE, PATH),
    # NEXT_HOP
    "rfc7606_3_c_next_hop_optional": Case(3, 0xC0, "0a000001", W, W, FLAGS),
    "rfc7606_3_c_next_hop_not_transitive": Case(3, 0x00, "0a000001", W, W, FLAGS),
    "rfc7606_7_3_next_hop_length_0": Case(3, 0x40, "", W, W, LENGTH),
    "rfc7606_7_3_next_hop_length_3": Case(3, 0x40, "0a0000", W, W, LENGTH),
    "rfc7606_7_3_next_hop_length_5": Case(3, 0x40, "0a00000100", W, W, LENGTH),
    "rfc7606_7_3_next_hop_length_16": Case(3, 0x40, "20010db8" + "00" * 12, W, W, LENGTH),
    # MULTI_EXIT_DISC
    "rfc7606_3_c_med_transitive": Case(4, 0xC0, "0000000a", W, W, FLAGS),
    "rfc7606_3_c_med_well_known": Case(4, 0x40, "0000000a", W, W, FLAGS),
    "rfc4271_4_3_med_partial": Case(4, 0xA0, "0000000a", W, W, FLAGS),
    "rfc7606_7_4_med_length_0": Case(4, 0x80, "", W, W, LENGTH),
    "rfc7606_7_4_med_length_3": Case(4, 0x80, "000000", W, W, LENGTH),
    "rfc7606_7_4_med_length_5": Case(4, 0x80, "000000000a", W, W, LENGTH),
    # LOCAL_PREF
    "rfc7606_7_5_local_pref": Case(5, 0x40, "00000064", D, NONE, LENGTH),
    "rfc7606_7_5_local_pref_length_0": Case(5, 0x40, "", D, W, LENGTH),
    "rfc7606_7_5_local_pref_length_3": Case(5, 0x40, "000000", D, W, LENGTH),
    "rfc7606_7_5_local_pref_length_5": Case(5, 0x40, "0000000064", D, W, LENGTH),
    "rfc7606_3_c_local_pref_optional": Case(5, 0xC0, "00000064", W, W, FLAGS),
    "rfc7606_3_c_local_pref_not_transitive": Case(5, 0x00, "00000064", W, W, FLAGS),
    # ATOMIC_AGGREGATE
    "rfc7606_7_6_atomic_aggregate_length_1": Case(6, 0x40, "00", D, D, LENGTH),
    "rfc7606_7_6_atomic_aggregate_length_4": Case(6, 0x40, "00000000", D, D, LENGTH),
    "rfc7606_3_f_atomic_aggregate_optional": Case(6, 0xC0, "", D, D, FLAGS),
    # AGGREGATOR
    "rfc7606_7_7_aggregator_length_0": Case(7, 0xC0, "", D, D, LENGTH),
    "rfc7606_7_7_aggregator_length_5": Case(7, 0xC0, "0000fde90a", D, D, LENGTH),
    "rfc7606_7_7_aggregator_length_6": Case(7, 0xC0, "fde90a000001", D, D, LENGTH),
    "rfc7606_7_7_aggregator_length_7": Case(7, 0xC0, "0000fde90a0000", D, D, LENGTH),
    "rfc7606_7_7_aggregator_length_9": Case(7, 0xC0, "0000fde90a00000200", D, D, LENGTH),
    "rfc7607_2_aggregator_as_0": Case(7, 0xC0, "000000000a000002", D, D, LENGTH),
    "rfc7606_3_f_aggregator_not_transitive": Case(7, 0x80, "0000fde90a000002", D, D, FLAGS),
    # COMMUNITIES
    "rfc7606_3_c_communities_not_transitive": Case(8, 0x80, "fde80001", W, W, FLAGS),
    "rfc7606_3_c_communities_well_known": Case(8, 0x40, "fde80001", W, W, FLAGS),
    "rfc7606_7_8_communities_length_0": Case(8, 0xC0, "", W, W, OPTIONAL),
    "rfc7606_7_8_communities_length_3": Case(8, 0xC0, "fde800", W, W, OPTIONAL),
    "rfc7606_7_8_communities_length_5": Case(8, 0xC0, "fde8000100", W, W, OPTIONAL),
    # ORIGINATOR_ID
    "rfc7606_7_9_originator_id": Case(9, 0x80, "0a000002", D, NONE, LENGTH),
    "rfc7606_7_9_originator_id_length_0": Case(9, 0x80, "", D, W, LENGTH),
    "rfc7606_7_9_originator_id_length_3": Case(9, 0x80, "0a0000", D, W, LENGTH),
    "rfc7606_7_9_originator_id_length_5": Case(9, 0x80, "0a00000200", D, W, LENGTH),
    "rfc7606_3_c_originator_id_transitive": Case(9, 0xC0, "0a000002", W, W, FLAGS),
    # CLUSTER_LIST
    "rfc7606_7_10_cluster_list": Case(10, 0x80, "0a000002", D, NONE, LENGTH),
    "rfc7606_7_10_cluster_list_length_0": Case(10, 0x80, "", D, W, LENGTH),
    "rfc7606_7_10_cluster_list_length_5": Case(10, 0x80, "0a00000200", D, W, LENGTH),
    "rfc7606_3_c_cluster_list_transitive": Case(10, 0xC0, "0a000002", W, W, FLAGS),
    # EXTENDED_COMMUNITIES
    "rfc7606_3_c_ext_communities_not_transitive": Case(16, 0x80, "0002fde900000001", W, W, FLAGS),
    "rfc7606_7_14_ext_communities_length_0": Case(16, 0xC0, "", W, W, OPTIONAL),
    "rfc7606_7_14_ext_communities_length_7": Case(16, 0xC0, "0002fde9000000", W, W, OPTIONAL),
    "rfc7606_7_14_ext_communities_length_9": Case(16, 0xC0, "0002fde90000000100", W, W, OPTIONAL),
    "rfc4360_2_ext_communities_of_unknown_type": Case(16, 0xC0, "7f7f000000000001", NONE, NONE, 0),
    # AS4_PATH and AS4_AGGREGATOR between NEW speakers
    "rfc6793_4_1_as4_path": Case(17, 0xC0, "020100030d40", D, D, OPTIONAL),
    "rfc6793_4_1_as4_path_malformed": Case(17, 0xC0, "000100010001", D, D, OPTIONAL),
    "rfc7606_3_c_as4_path_not_transitive": Case(17, 0x80, "020100030d40", W, W, FLAGS),
    "rfc6793_4_1_as4_aggregator": Case(18, 0xC0, "0000fde90a000001", D, D, OPTIONAL),
    "rfc6793_4_1_as4_aggregator_length_7": Case(18, 0xC0, "0000fde90a0000", D, D, OPTIONAL),
    "rfc6793_4_1_as4_aggregator_length_9": Case(18, 0xC0, "0000fde90a00000200", D, D, OPTIONAL),
    # TUNNEL_ENCAPSULATION
    "B10_rfc9012_13_tunnel_not_transitive": Case(23, 0x80, "00070000", W, W, FLAGS),
    "B10_rfc9012_13_tunnel_no_tlv": Case(23, 0xC0, "", W, W, OPTIONAL),
    "B10_rfc9012_13_tunnel_length_3": Case(23, 0xC0, "000700", W, W, OPTIONAL),
    "B10_rfc9012_13_tunnel_tlv_overrun": Case(23, 0xC0, "0007000401", W, W, OPTIONAL),
    "B10_rfc9012_13_tunnel_sub_tlv_overrun": Case(23, 0xC0, "0007000401ff0000", W, W, OPTIONAL),
    "B10_rfc9012_13_tunnel_sub_tlv_cut_in_its_header": Case(23, 0xC0, "0007000101", W, W, OPTIONAL),
    "B10_rfc9012_13_tunnel_long_sub_tlv_cut_in_its_length": Case(23, 0xC0, "000700028000", W, W, OPTIONAL),
    "B10_rfc9012_13_tunnel_long_sub_tlv_overrun": Case(23, 0xC0, "00070004 800100 00", W, W, OPTIONAL),
    "B10_rfc9012_13_tunnel_trailing_octet": Case(23, 0xC0, "0002 0004 0402880b 00", W, W, OPTIONAL),
    "B10_rfc9012_13_tunnel_type_unknown_is_not_malformed": Case(23, 0xC0, "ffff 0003 7f 01 00", NONE, NONE, 0),
    "B10_rfc9012_13_tunnel_sub_tlv_twice_is_not_malformed": Case(
        23, 0xC0, "0002 0008 0402880b 0402880b", NONE, NONE, 0
    ),
    # IPv6-address-specific extended communities, LARGE_COMMUNITIES
    "rfc7606_3_c_ipv6_ext_communities_not_transitive": Case(25, 0x80, "0002" + "00" * 18, W, W, FLAGS),
    "rfc7606_7_15_ipv6_ext_communities_length_0": Case(25, 0xC0, "", W, W, OPTIONAL),
    "rfc7606_7_15_ipv6_ext_communities_length_21": Case(25, 0xC0, "0002" + "00" * 19, W, W, OPTIONAL),
    "rfc7606_3_c_large_communities_not_transitive": Case(32, 0x80, "00" * 11 + "01", W, W, FLAGS),
    "rfc8092_6_large_communities_length_0": Case(32, 0xC0, "", W, W, OPTIONAL),
    "rfc8092_6_large_communities_length_13": Case(32, 0xC0, "00" * 13, W, W, OPTIONAL),
    # attributes without a row
    "rfc4271_5_unknown_non_transitive": Case(253, 0x80, "deadbeef", NONE, NONE, 0),
    "rfc4271_5_unknown_transitive": Case(254, 0xC0, "deadbeef", NONE, NONE, 0),
    "rfc4271_5_unknown_transitive_empty": Case(254, 0xC0, "", NONE, NONE, 0),
    "rfc4271_6_3_unknown_well_known": Case(254, 0x40, "deadbeef", R, R, UNKNOWN),
    "rfc4271_6_3_unknown_no_flags": Case(254, 0x00, "deadbeef", R, R, UNKNOWN),
}
PEERS = {"ebgp": EBGP, "ibgp": IBGP}
SENTINEL = update("".join(base(IBGP).values()), "18 c63364")


def fields_of(case: Case, session: Session) -> list[str]:
    """All attributes of a good UPDATE, with the case's in the place of its code."""
    given = base(session) | {case.code: attribute(case.flags, case.code, case.value)}
    return [given[code] for code in sorted(given)]


def expect(message: bytes, session: Session, case: Case, action: Action, routes: Unreach) -> None:
    if action == R:
        with pytest.raises(MessageError) as caught:
            decode(message, session)
        assert (caught.value.code, caught.value.subcode) == (3, case.subcode)
        assert caught.value.data in message
        return
    got = decode(message, session)
    assert isinstance(got, Update)
    assert got.action == action
    if action == NONE:
        assert got.errors == ()
    else:
        (fault,) = got.errors
        assert isinstance(fault, AttributeFault)
        assert (fault.code, fault.action, fault.subcode) == (case.code, action, case.subcode)
        assert fault.data == octets(attribute(case.flags, case.code, case.value))
        assert message[fault.offset :].startswith(fault.data)  # B13: nothing that the peer did not send
        assert fault.rfc.startswith("RFC ")
    if action == W:
        assert got.reach == ()
        assert got.unreach == (routes,)
    else:
        assert got.unreach == ()
        (reach,) = got.reach
        assert tuple(Nlri(key, (), path) for key, _, path in reach.routes) == routes.routes
        assert got.attributes is not None
        if action == D:
            assert case.code not in got.attributes.raw


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", CASES)
def test_B06_ipv4(name: str, peer: str) -> None:
    case, session = CASES[name], PEERS[peer]
    message = update("".join(fields_of(case, session)), NLRI)
    expect(message, session, case, getattr(case, peer), Unreach(IPV4_UNICAST, (Nlri(KEY),)))
    assert isinstance(decode(SENTINEL, IBGP), Update)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", CASES)
def test_B06_vpnv4(name: str, peer: str) -> None:
    case, session = CASES[name], PEERS[peer]
    without_next_hop = [one for one in fields_of(case, session) if case.code == 3 or octets(one)[1] != 3]
    message = update(VPN_REACH + "".join(without_next_hop))
    expect(message, session, case, getattr(case, peer), Unreach(VPNV4, (Nlri(VPN_KEY),)))


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if W in (case.ebgp, case.ibgp)])
def test_B08_rfc7606_5_2_without_reachable_nlri(name: str, peer: str) -> None:
    """Withdrawn routes alone do not help: the routes that the attributes belong to may be what was lost."""
    case, session = CASES[name], PEERS[peer]
    message = update("".join(fields_of(case, session)), withdrawn=NLRI)
    if getattr(case, peer) == W:
        with pytest.raises(MessageError) as caught:
            decode(message, session)
        error = caught.value
        assert (error.code, error.subcode) == (3, case.subcode)
        assert error.rfc.startswith("RFC 7606 5.2")
        assert error.data == octets(attribute(case.flags, case.code, case.value))
        assert [fault.action for fault in error.faults] == [W]
    else:
        got = decode(message, session)
        assert isinstance(got, Update)
        assert got.unreach == (Unreach(IPV4_UNICAST, (Nlri(KEY),)),)


def test_B06_has_as_many_cases_as_the_best_known_table() -> None:
    faulty = [case for case in CASES.values() if case.ibgp != NONE]
    assert len([case for case in CASES.values() if case.ebgp != NONE]) >= 77
    assert len(faulty) >= 84


def test_B09_origin_without_the_transitive_flag_is_withdrawn() -> None:
    """RFC 7606 3(c). A peer of another make crashed on this one."""
    got = decode(update("00 01 01 00" + "".join(base(IBGP, without=(1,)).values()), NLRI), IBGP)
    assert isinstance(got, Update)
    assert got.action == W


# --- the next hop's value ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["00000000", "00000001", "7f000001", "e0000001", "f0000001", "ffffffff"])
def test_rfc4271_6_3_next_hop_that_is_no_host(address: str) -> None:
    message = update("".join((base(IBGP) | {3: "40 03 04" + address}).values()), NLRI)
    got = decode(message, IBGP)
    assert isinstance(got, Update)
    assert [(fault.code, fault.action, fault.subcode) for fault in got.errors] == [(3, W, 8)]
    assert got.unreach == (Unreach(IPV4_UNICAST, (Nlri(KEY),)),)


# --- several at once -----------------------------------------------------------------------------------------------------


def test_rfc7606_3_h_the_strongest_action_counts_and_all_are_told() -> None:
    fields = base(IBGP) | {4: "80 04 03 000000", 6: "40 06 01 00", 8: "c0 08 00"}
    got = decode(update("".join(fields[code] for code in sorted(fields)), NLRI), IBGP)
    assert isinstance(got, Update)
    assert got.action == W
    assert [(fault.code, fault.action) for fault in got.errors] == [(4, W), (6, D), (8, W)]


@pytest.mark.parametrize("code", [1, 2, 4, 8, 16, 32, 254])
def test_B12_rfc7606_3_g_a_duplicate_is_discarded_and_the_first_counts(code: int) -> None:
    """An unknown one, too."""
    values = {1: ("00", "02"), 2: ("02010000fde9", ""), 4: ("00000001", "00000002"), 8: ("fde80001", "fde80002")}
    values |= {16: ("0002fde900000001", "0002fde900000002"), 32: ("00" * 12, "11" * 12), 254: ("aa", "bb")}
    flags = {1: 0x40, 2: 0x40, 4: 0x80}.get(code, 0xC0)
    first, second = (attribute(flags, code, value) for value in values[code])
    fields = "".join((base(IBGP) | {code: first}).values())
    alone, both = decode(update(fields, NLRI), IBGP), decode(update(fields + second, NLRI), IBGP)
    assert isinstance(alone, Update)
    assert isinstance(both, Update)
    assert [(fault.code, fault.action, fault.rfc) for fault in both.errors] == [(code, D, "RFC 7606 3(g)")]
    assert both.attributes == alone.attributes
    assert both.reach == alone.reach


def test_B12_rfc7606_3_g_the_first_counts_even_if_it_is_the_malformed_one() -> None:
    fields = base(IBGP) | {4: "80 04 03 000000 80 04 04 00000001"}
    got = decode(update("".join(fields.values()), NLRI), IBGP)
    assert isinstance(got, Update)
    assert [(fault.code, fault.action) for fault in got.errors] == [(4, W), (4, D)]


def test_rfc7606_3_h_faults_are_bounded_and_the_strongest_is_among_them() -> None:
    """A thousand duplicates, then what withdraws: 64 are told, and the one that counts."""
    got = decode(update("".join(base(IBGP).values()) + "40 01 01 00" * 1000 + "80 04 01 00", NLRI), IBGP)
    assert isinstance(got, Update)
    assert len(got.errors) == 65
    assert (got.errors[-1].code, got.action) == (4, W)


@pytest.mark.parametrize("code", [14, 15])
@pytest.mark.parametrize("where", ["both first", "one first", "none first"])
def test_B12_rfc7606_3_g_mp_attribute_twice_resets(code: int, where: str) -> None:
    """RFC 7606 3(g): then a NOTIFICATION MUST be sent, with Malformed Attribute List."""
    one = VPN_REACH if code == 14 else "80 0f 03 0001 80"
    rest = "".join(base(IBGP, without=(3,)).values())
    text = {"both first": one + one + rest, "one first": one + rest + one, "none first": rest + one + one}[where]
    with pytest.raises(MessageError) as caught:
        decode(update(text), IBGP)
    assert (caught.value.code, caught.value.subcode) == (3, 1)


@pytest.mark.parametrize(("code", "peers"), [(1, "ie"), (2, "ie"), (3, "ie"), (5, "i")])
def test_B12_rfc7606_3_d_missing_well_known_attribute(code: int, peers: str) -> None:
    for peer in peers:
        session = {"i": IBGP, "e": EBGP}[peer]
        got = decode(update("".join(base(session, without=(code,)).values()), NLRI), session)
        assert isinstance(got, Update)
        assert [(fault.code, fault.action, fault.subcode) for fault in got.errors] == [(code, W, 3)]
        assert got.errors[0].rfc == "RFC 7606 3(d)"
        assert got.unreach == (Unreach(IPV4_UNICAST, (Nlri(KEY),)),)


@pytest.mark.parametrize("code", [1, 2, 5])
def test_B12_rfc7606_3_d_missing_well_known_attribute_of_a_vpn_route(code: int) -> None:
    got = decode(update(VPN_REACH + "".join(base(IBGP, without=(3, code)).values())), IBGP)
    assert isinstance(got, Update)
    assert [(fault.code, fault.action) for fault in got.errors] == [(code, W)]
    assert got.unreach == (Unreach(VPNV4, (Nlri(VPN_KEY),)),)


def test_rfc4760_3_next_hop_is_not_needed_with_mp_reach_nor_is_anything_with_withdrawals() -> None:
    vpn = decode(update(VPN_REACH + "".join(base(IBGP, without=(3,)).values())), IBGP)
    assert isinstance(vpn, Update)
    assert vpn.errors == ()
    gone = decode(update("", withdrawn=NLRI), IBGP)
    assert gone == Update(unreach=(Unreach(IPV4_UNICAST, (Nlri(KEY),)),))


# --- RFC 7606 4: the list does not add up ---------------------------------------------------------------------------------

OVERRUNS = {
    "rfc7606_4_length_past_the_end": "c0 08 05 fde80001",
    "rfc7606_4_extended_length_past_the_end": "d0 08 0005 fde80001",
    "rfc7606_4_one_octet_left": "c0",
    "rfc7606_4_two_octets_left": "c0 08",
    "rfc7606_4_three_octets_of_an_extended_header": "d0 08 00",
}


@pytest.mark.parametrize("name", OVERRUNS)
def test_B07_attribute_runs_past_total_length(name: str) -> None:
    message = update("".join(base(IBGP).values()) + OVERRUNS[name], NLRI)
    got = decode(message, IBGP)
    assert isinstance(got, Update)
    (fault,) = got.errors
    assert (fault.code, fault.action, fault.rfc, fault.subcode) == (0, W, "RFC 7606 4", 1)
    assert fault.data == octets(OVERRUNS[name])
    assert got.unreach == (Unreach(IPV4_UNICAST, (Nlri(KEY),)),)


@pytest.mark.parametrize("name", OVERRUNS)
def test_B07_attribute_runs_past_total_length_vpn(name: str) -> None:
    got = decode(update(VPN_REACH + "".join(base(IBGP, without=(3,)).values()) + OVERRUNS[name]), IBGP)
    assert isinstance(got, Update)
    assert got.action == W
    assert got.unreach == (Unreach(VPNV4, (Nlri(VPN_KEY),)),)


@pytest.mark.parametrize("name", OVERRUNS)
@pytest.mark.parametrize("withdrawn", ["", NLRI])
def test_B08_rfc7606_5_2_attribute_runs_past_total_length_without_nlri(name: str, withdrawn: str) -> None:
    message = update("".join(base(IBGP).values()) + OVERRUNS[name], withdrawn=withdrawn)
    with pytest.raises(MessageError) as caught:
        decode(message, IBGP)
    error = caught.value
    assert (error.code, error.subcode, error.data) == (3, 1, octets(OVERRUNS[name]))
    assert error.rfc == "RFC 7606 5.2, RFC 7606 4"


def test_B13_data_of_a_length_that_lies_ends_where_the_message_does() -> None:
    """The attribute says 65535 octets; the NOTIFICATION has the 8 that came."""
    message = update("".join(base(IBGP).values()) + "d0 08 ffff fde80001")
    with pytest.raises(MessageError) as caught:
        decode(message, IBGP)
    assert caught.value.data == octets("d0 08 ffff fde80001")
    assert message.endswith(caught.value.data)


# --- MP_REACH_NLRI and MP_UNREACH_NLRI ---------------------------------------------------------------------------------------


def test_rfc7606_3_c_mp_reach_with_wrong_flags_withdraws_its_routes() -> None:
    got = decode(update("c0" + VPN_REACH[2:] + "".join(base(IBGP, without=(3,)).values())), IBGP)
    assert isinstance(got, Update)
    assert [(fault.code, fault.action, fault.subcode) for fault in got.errors] == [(14, W, 4)]
    assert got.unreach == (Unreach(VPNV4, (Nlri(VPN_KEY),)),)


def test_rfc7606_5_2_mp_unreach_alone_with_wrong_flags_still_withdraws() -> None:
    """5.2 speaks of attributes other than MP_UNREACH_NLRI; alone, it has lost no route."""
    got = decode(update("c0 0f 12 0001 80 70 800000 0000006400000001 c00002"), IBGP)
    assert isinstance(got, Update)
    assert got.action == W
    assert got.unreach == (Unreach(VPNV4, (Nlri(VPN_KEY),)),)


@pytest.mark.parametrize("code", [14, 15])
@pytest.mark.parametrize("value", ["", "00", "0001"])
def test_rfc7606_7_11_mp_attribute_too_short_for_a_family_resets(code: int, value: str) -> None:
    """7.12 for MP_UNREACH_NLRI: no family can be read, so none can be disabled."""
    with pytest.raises(MessageError) as caught:
        decode(update(attribute(0x80, code, value) + "".join(base(IBGP).values()), NLRI), IBGP)
    assert (caught.value.code, caught.value.subcode) == (3, 9)


def test_rfc4760_5_families_that_are_not_ours_stay_opaque() -> None:
    l2vpn = attribute(0x80, 14, "0019 46 04 0a000001 00 0102030405")
    end_of_rib = attribute(0x80, 15, "4004 47")
    got = decode(update(l2vpn + "".join(base(IBGP, without=(3,)).values()) + end_of_rib), IBGP)
    assert isinstance(got, Update)
    assert got.errors == ()
    assert got.reach == got.unreach == ()
    assert [(one.code, one.value) for one in got.opaque] == [
        (14, octets("0019 46 04 0a000001 00 0102030405")),
        (15, octets("4004 47")),
    ]


def test_rfc7606_7_11_mp_reach_that_ends_after_its_family() -> None:
    """Of a family of ours: disabled. Of another: as opaque as a longer one. The IPv4 route beside it is unharmed."""
    for family, disabled in (("0001 80", {VPNV4}), ("4004 47", set())):
        got = decode(update(attribute(0x80, 14, family + "00") + "".join(base(IBGP).values()), NLRI), IBGP)
        assert isinstance(got, Update)
        assert got.disabled == disabled
        assert len(got.opaque) == 1 - len(disabled)
        assert [one.family for one in got.reach] == [IPV4_UNICAST]


def test_rfc7606_5_1_mp_attributes_in_any_place_and_company() -> None:
    """RFC 7606 5.1: old speakers MUST be understood: MP_REACH last, beside MP_UNREACH, withdrawn routes and NLRI."""
    rest = "".join(base(IBGP).values())
    unreach = "80 0f 12 0001 80 70 000000 0000006400000002 c00002"
    got = decode(update(rest + unreach + VPN_REACH, "18 c63364", NLRI), IBGP)
    assert isinstance(got, Update)
    assert got.errors == ()
    assert {one.family: one.next_hop for one in got.reach} == {VPNV4: b"\1\2\3\4", IPV4_UNICAST: b"\x0a\0\0\1"}
    assert {one.family: one.routes for one in got.unreach} == {
        IPV4_UNICAST: (Nlri(KEY),),
        VPNV4: (Nlri(VPN_KEY[:7] + b"\2" + VPN_KEY[8:]),),
    }
    first = decode(update(VPN_REACH + rest + unreach, "18 c63364", NLRI), IBGP)
    assert isinstance(first, Update)
    assert first.attributes == got.attributes


# --- the outer lengths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "offset"),
    [
        ("0001 0000", "withdrawn routes length", 19),
        ("ffff 0000", "withdrawn routes length", 19),
        ("0000 0001", "total path attribute length", 21),
        ("0001 00 ffff", "total path attribute length", 22),
    ],
)
def test_B15_rfc4271_6_3_outer_lengths_too_large(body: str, field: str, offset: int) -> None:
    with pytest.raises(MessageError) as caught:
        decode(message(2, body), IBGP)
    error = caught.value
    assert (error.code, error.subcode, error.field, error.offset) == (3, 1, field, offset)


BAD_FIELDS = {
    "rfc7606_5_3_length_33": "21 c000020100",
    "rfc7606_5_3_length_255": "ff" + "00" * 40,
    "rfc7606_5_3_last_prefix_truncated": "18 c63364 18 c000",
    "rfc7606_5_3_only_a_length": "08 0a 18",
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_B15_unreadable_nlri_resets_and_nothing_is_half_applied(name: str) -> None:
    """RFC 4271 6.3: Invalid Network Field. The good prefixes before and the withdrawn one do not come out either."""
    with pytest.raises(MessageError) as caught:
        decode(update("".join(base(IBGP).values()), BAD_FIELDS[name], "18 cb0071"), IBGP)
    assert (caught.value.code, caught.value.subcode, caught.value.field) == (3, 10, "NLRI")


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_B15_rfc7606_3_i_unreadable_withdrawn_routes_reset(name: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(update("".join(base(IBGP).values()), NLRI, BAD_FIELDS[name]), IBGP)
    assert (caught.value.code, caught.value.subcode, caught.value.field) == (3, 10, "withdrawn routes")
