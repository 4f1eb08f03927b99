"""Each attribute as value and octets, both ways, and what `Attributes` and `AsPath` do with them."""

from __future__ import annotations

from typing import Any

import pytest

from bgp.wire import (
    Action,
    Aggregator,
    AsPath,
    Attributes,
    AttributeValues,
    LargeCommunity,
    Origin,
    RawAttribute,
    Segment,
    SegmentKind,
    Session,
    Update,
    decode,
)
from stack.addr import RT
from tests.bgp.wire.bgp_octets import (
    AS_PATH,
    EBGP,
    IBGP,
    LOCAL_PREF,
    NEXT_HOP,
    NLRI,
    ORIGIN,
    attribute,
    base,
    octets,
    update,
)

SET, SEQUENCE, CONFED_SEQUENCE, CONFED_SET = SegmentKind

VALUES: dict[str, tuple[str, AttributeValues]] = {
    "rfc4271_5_1_1_origin_igp": ("40 01 01 00", {"origin": Origin.IGP}),
    "rfc4271_5_1_1_origin_egp": ("40 01 01 01", {"origin": Origin.EGP}),
    "rfc4271_5_1_1_origin_incomplete": ("40 01 01 02", {"origin": Origin.INCOMPLETE}),
    "rfc4271_4_3_as_path_empty": ("40 02 00", {"as_path": AsPath()}),
    "rfc4271_4_3_as_path": ("40 02 0a 02 02 0000fde9 00030d40", {"as_path": AsPath.of(65001, 200000)}),
    "rfc4271_4_3_as_path_set": (
        "40 02 10 02 01 00000001 01 02 00000002 00000003",
        {"as_path": AsPath((Segment(SEQUENCE, (1,)), Segment(SET, (2, 3))))},
    ),
    "rfc5065_3_as_path_confederation": (
        "40 02 0c 03 01 0000fc00 04 01 0000fc01",
        {"as_path": AsPath((Segment(CONFED_SEQUENCE, (64512,)), Segment(CONFED_SET, (64513,))))},
    ),
    "rfc4271_5_1_4_med": ("80 04 04 ffffffff", {"med": 0xFFFFFFFF}),
    "rfc4271_5_1_5_local_pref": ("40 05 04 00000064", {"local_pref": 100}),
    "rfc4271_5_1_6_atomic_aggregate": ("40 06 00", {"atomic_aggregate": True}),
    "rfc4271_5_1_7_aggregator": (
        "c0 07 08 00030d40 0a000001",
        {"aggregator": Aggregator(200000, b"\x0a\0\0\1")},
    ),
    "rfc1997_communities": ("c0 08 08 ffffff01 fde80064", {"communities": (0xFFFFFF01, 0xFDE80064)}),
    "rfc4456_8_originator_id": ("80 09 04 0a000002", {"originator_id": b"\x0a\0\0\2"}),
    "rfc4456_8_cluster_list": ("80 0a 08 0a000003 0a000004", {"cluster_list": (b"\x0a\0\0\3", b"\x0a\0\0\4")}),
    "rfc4360_2_ext_communities": (
        "c0 10 10 0002006400000064 030c000000000002",
        {"ext_communities": (octets("0002006400000064"), octets("030c000000000002"))},
    ),
    "rfc9012_2_tunnel_encapsulation": (
        "c0 17 08 0002 0004 04 02 880b",
        {"tunnel_encapsulation": octets("000200040402880b")},
    ),
    "rfc8092_3_large_communities": (
        "c0 20 0c 00030d40 00000001 ffffffff",
        {"large_communities": (LargeCommunity(200000, 1, 0xFFFFFFFF),)},
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_attribute_values(name: str) -> None:
    text, values = VALUES[name]
    made = Attributes.of(**values)
    assert made.octets == octets(text)
    read = Attributes(octets(text))
    assert read == made
    assert hash(read) == hash(made)
    for field, value in values.items():
        assert getattr(read, field) == value


@pytest.mark.parametrize("name", VALUES)
def test_attribute_values_arrive_through_decode(name: str) -> None:
    """The same octets within an UPDATE: kept as they are, shared by whoever sends the same again."""
    text, values = VALUES[name]
    code = octets(text)[1]
    fields = base(IBGP) | {code: text}
    message = update("".join(fields[one] for one in sorted(fields)), NLRI)
    first, second = decode(message, IBGP), decode(message, IBGP)
    assert isinstance(first, Update)
    assert isinstance(second, Update)
    assert first.errors == ()
    assert first.attributes is second.attributes
    for field, value in values.items():
        assert getattr(first.attributes, field) == value


def test_rfc4271_5_attributes_in_any_order_and_any_length_form_are_the_same_set() -> None:
    """RFC 4271 5: the receiver MUST be prepared to handle attributes out of order; 4.3: unused flag bits are ignored."""
    given = decode(update(ORIGIN + AS_PATH + NEXT_HOP + LOCAL_PREF, NLRI), IBGP)
    shuffled = decode(update(LOCAL_PREF + "50 02 0006 02 01 0000fde9" + NEXT_HOP + "4f 01 01 00", NLRI), IBGP)
    # 4f has the extended length bit? no: 0x4f & 0x10 is 0, the four low bits are unused
    assert isinstance(given, Update)
    assert isinstance(shuffled, Update)
    assert shuffled.errors == ()
    assert shuffled.attributes == given.attributes
    assert shuffled.reach == given.reach


def test_next_hop_is_in_reach_not_in_the_set() -> None:
    one = decode(update(ORIGIN + AS_PATH + NEXT_HOP + LOCAL_PREF, NLRI), IBGP)
    two = decode(update(ORIGIN + AS_PATH + "40 03 04 0a000002" + LOCAL_PREF, NLRI), IBGP)
    assert isinstance(one, Update)
    assert isinstance(two, Update)
    assert one.attributes == two.attributes
    assert one.reach[0].next_hop == b"\x0a\0\0\1"
    assert two.reach[0].next_hop == b"\x0a\0\0\2"
    assert 3 not in (one.attributes or Attributes()).raw


def test_rfc4360_4_route_targets_are_told_from_other_extended_communities() -> None:
    target, origin, opaque = RT.parse("100:1"), octets("0003006400000001"), octets("0302000000000001")
    four, ip = RT.parse("200000:1"), RT.parse("192.0.2.1:7")
    made = Attributes.of(ext_communities=[target, origin, opaque, four, ip])
    assert made.route_targets == {target, four, ip}


def test_replace_keeps_what_it_does_not_name() -> None:
    made = Attributes.of(origin=0, as_path=AsPath.of(1), med=5, communities=[7])
    changed = made.replace(med=None, local_pref=200, communities=[], atomic_aggregate=False)
    assert changed == Attributes.of(origin=0, as_path=AsPath.of(1), local_pref=200)
    assert made.med == 5
    assert made.replace(med=5) is made
    assert made.without(4, 8) == Attributes.of(origin=0, as_path=AsPath.of(1))
    assert made.with_raw(RawAttribute(0xE0, 200, b"\1")).unknown == (RawAttribute(0xE0, 200, b"\1"),)
    assert not Attributes.of(communities=())


def test_long_values_use_the_extended_length_and_read_back() -> None:
    communities = tuple(range(1, 1001))
    made = Attributes.of(origin=0, communities=communities)
    assert made.octets[4:8] == octets("d0 08 0fa0")
    assert Attributes(made.octets).communities == communities


BAD_VALUES: tuple[dict[str, Any], ...] = (
    {"origin": 3},
    {"med": 1 << 32},
    {"local_pref": -1},
    {"originator_id": b"123"},
    {"cluster_list": [b"12345"]},
    {"ext_communities": [b"1234567"]},
    {"communities": [1 << 32]},
    {"aggregator": Aggregator(1, b"")},
    {"as_path": AsPath((Segment(SEQUENCE, ()),))},
    {"as_path": AsPath((Segment(SEQUENCE, (1,) * 256),))},
    {"as_path": AsPath.of(1 << 32)},
)


@pytest.mark.parametrize("values", BAD_VALUES, ids=str)
def test_values_that_their_field_cannot_hold_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        Attributes.of(**values)


# --- AS paths ----------------------------------------------------------------------------------------------------------


def test_rfc4271_5_1_2_prepend() -> None:
    assert AsPath.of(2, 3).prepend(1) == AsPath.of(1, 2, 3)
    assert AsPath().prepend(1, 3) == AsPath.of(1, 1, 1)
    sets = AsPath((Segment(SET, (2, 3)),))
    assert sets.prepend(1) == AsPath((Segment(SEQUENCE, (1,)), *sets.segments))


@pytest.mark.parametrize(("have", "times"), [(254, 1), (255, 1), (254, 3), (255, 255), (1, 600), (0, 255)])
def test_rfc4271_5_1_2_prepend_at_255(have: int, times: int) -> None:
    path = AsPath.of(*range(1000, 1000 + have)).prepend(7, times)
    assert list(path.asns) == [7] * times + list(range(1000, 1000 + have))
    assert all(1 <= len(segment.asns) <= 255 for segment in path.segments)
    assert path.hops == have + times


def test_rfc4271_9_1_2_2_path_length() -> None:
    path = AsPath((Segment(CONFED_SEQUENCE, (9, 9)), Segment(SEQUENCE, (1, 2)), Segment(SET, (3, 4, 5))))
    assert path.hops == 3  # a set counts as 1, RFC 5065 5.3: confederation segments not at all
    assert path.first == 1
    assert path.has_sets
    assert path.count(9) == 2
    assert path.count(4) == 1
    assert str(path) == "(9 9) 1 2 {3 4 5}"
    assert path.replace(9, 8).count(8) == 2


def test_first_as_of_odd_paths() -> None:
    assert AsPath().first is None
    assert AsPath((Segment(SET, (1,)),)).first is None
    assert AsPath((Segment(CONFED_SEQUENCE, (1,)),)).first is None


def test_B14_rfc4271_9_a_path_of_1000_as_numbers_is_accepted() -> None:
    """1,000 numbers are four segments. Long paths are policy's business, not the codec's."""
    numbers = [1 + number % 64000 for number in range(1000)]
    value = "".join(
        f"02{len(chunk):02x}" + "".join(f"{one:08x}" for one in chunk)
        for chunk in (numbers[at : at + 255] for at in range(0, 1000, 255))
    )
    size = len(octets(value))
    message = update(ORIGIN + f"50 02 {size:04x}" + value + NEXT_HOP, NLRI)
    got = decode(message, Session(ebgp=True, extended_message=True))
    assert isinstance(got, Update)
    assert got.errors == ()
    assert got.attributes is not None
    assert list(got.attributes.as_path.asns) == numbers


def test_B14_rfc4271_9_1_2_own_as_in_the_path_is_countable() -> None:
    got = decode(update(ORIGIN + "40 02 0e 02 03 00000064 0000000a 00000064" + NEXT_HOP, NLRI), EBGP)
    assert isinstance(got, Update)
    assert got.attributes is not None
    assert got.attributes.as_path.count(100) == 2


# --- unknown attributes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 200, 255])
@pytest.mark.parametrize("flags", [0xC0, 0xE0])
def test_B11_rfc4271_5_unknown_optional_transitive_is_kept_with_the_partial_bit(flags: int, size: int) -> None:
    message = update("".join(base(IBGP).values()) + attribute(flags, 255, "ab" * size), NLRI)
    got = decode(message, IBGP)
    assert isinstance(got, Update)
    assert got.errors == ()
    assert got.attributes is not None
    assert got.attributes.unknown == (RawAttribute(0xE0, 255, b"\xab" * size),)


def test_B11_rfc4271_5_unknown_optional_non_transitive_is_dropped_quietly() -> None:
    plain = decode(update("".join(base(IBGP).values()), NLRI), IBGP)
    got = decode(update("".join(base(IBGP).values()) + attribute(0x80, 255, "ab"), NLRI), IBGP)
    assert got == plain


def test_rfc4271_9_partial_bit_of_known_attributes_is_kept() -> None:
    got = decode(update("".join(base(IBGP).values()) + attribute(0xE0, 8, "fde80001"), NLRI), IBGP)
    assert isinstance(got, Update)
    assert got.action == Action.NONE
    assert got.attributes is not None
    assert got.attributes.raw[8].flags == 0xE0
    assert got.attributes.communities == (0xFDE80001,)
