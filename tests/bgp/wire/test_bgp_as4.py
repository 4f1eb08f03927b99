"""Sessions with an OLD speaker, whose AS numbers have two octets: RFC 6793."""

from __future__ import annotations

import pytest

from bgp.wire import (
    IPV4_UNICAST,
    Action,
    Aggregator,
    AsPath,
    Attributes,
    Nlri,
    Reach,
    Segment,
    SegmentKind,
    Session,
    Update,
    decode,
    encode,
)
from bgp.wire.as4 import merge
from tests.bgp.wire.bgp_octets import IBGP, LOCAL_PREF, NEXT_HOP, NLRI, OLD, ORIGIN, octets, update

SET, SEQUENCE, CONFED_SEQUENCE, CONFED_SET = SegmentKind
AS_TRANS = 23456


def path(*segments: Segment | int) -> AsPath:
    if all(isinstance(one, int) for one in segments):
        return AsPath.of(*[one for one in segments if isinstance(one, int)])
    return AsPath(tuple(one for one in segments if isinstance(one, Segment)))


def seq(*asns: int) -> Segment:
    return Segment(SEQUENCE, asns)


MERGES = {
    # name: (AS_PATH, AS4_PATH, the real one)
    "rfc6793_4_2_3_new_behind_old": (path(1, AS_TRANS, 2), path(200000, 2), path(1, 200000, 2)),
    "rfc6793_4_2_3_same_length": (path(AS_TRANS, 2), path(200000, 2), path(200000, 2)),
    "rfc6793_4_2_3_as4_path_longer_is_ignored": (path(1, AS_TRANS), path(200000, 2, 3), path(1, AS_TRANS)),
    "rfc6793_4_2_3_as4_path_empty_of_hops": (path(1, 2), path(Segment(CONFED_SEQUENCE, (5,))), path(1, 2)),
    "rfc6793_4_2_3_a_set_is_one": (
        path(seq(1), Segment(SET, (2, 3)), seq(AS_TRANS)),
        path(200000),
        path(seq(1), Segment(SET, (2, 3)), seq(200000)),
    ),
    "rfc6793_4_2_3_cut_in_the_second_segment": (
        path(seq(1, 2), seq(3, AS_TRANS, 5)),
        path(200000, 5),
        path(1, 2, 3, 200000, 5),
    ),
    "rfc6793_4_2_3_leading_confederation_segment": (
        path(Segment(CONFED_SEQUENCE, (7,)), seq(1, AS_TRANS)),
        path(200000),
        path(Segment(CONFED_SEQUENCE, (7,)), seq(1, 200000)),
    ),
    "rfc6793_6_confederation_segments_of_as4_path": (
        path(1, AS_TRANS),
        path(Segment(CONFED_SET, (9,)), seq(200000)),
        path(1, 200000),
    ),
}


@pytest.mark.parametrize("name", MERGES)
def test_B09_merge(name: str) -> None:
    old, new, real = MERGES[name]
    assert merge(old, new) == real


def test_rfc6793_4_2_3_long_paths_stay_in_segments_of_255() -> None:
    real = merge(AsPath.of(*range(1, 301)), AsPath.of(*range(200_000, 200_200)))
    assert list(real.asns) == [*range(1, 101), *range(200_000, 200_200)]
    assert all(len(segment.asns) <= 255 for segment in real.segments)


AS_PATH = "40 02 08 02 03 0001 5ba0 0002"
AS4_PATH = "c0 11 0a 02 02 00030d40 00000002"
REAL = AsPath.of(1, 200000, 2)

RECEIVED = {
    # name: (more attributes, the real path, the real aggregator)
    "rfc6793_4_2_3_merged": (AS4_PATH, REAL, None),
    "rfc6793_4_2_3_both": (
        "c0 07 06 5ba0 0a000001" + AS4_PATH + "c0 12 08 00030d40 0a000001",
        REAL,
        Aggregator(200000, b"\x0a\0\0\1"),
    ),
    "rfc6793_4_2_3_aggregated_by_an_old_speaker_since": (
        "c0 07 06 0005 0a000001" + AS4_PATH + "c0 12 08 00030d40 0a000002",
        AsPath.of(1, AS_TRANS, 2),
        Aggregator(5, b"\x0a\0\0\1"),
    ),
    "rfc6793_4_2_3_as4_aggregator_alone": (AS4_PATH + "c0 12 08 00030d40 0a000001", REAL, None),
    "rfc6793_4_2_3_aggregator_of_two_octets_and_as4_path": (
        "c0 07 06 0005 0a000001" + AS4_PATH,
        REAL,
        Aggregator(5, b"\x0a\0\0\1"),
    ),
    "rfc6793_4_2_3_aggregator_alone": (
        "c0 07 06 0005 0a000001",
        AsPath.of(1, AS_TRANS, 2),
        Aggregator(5, b"\x0a\0\0\1"),
    ),
}


@pytest.mark.parametrize("name", RECEIVED)
def test_B09_what_an_old_speaker_sends(name: str) -> None:
    more, real, aggregator = RECEIVED[name]
    got = decode(update(ORIGIN + AS_PATH + NEXT_HOP + LOCAL_PREF + more, NLRI), OLD)
    assert isinstance(got, Update)
    assert got.errors == ()
    assert got.attributes is not None
    assert got.attributes.as_path == real
    assert got.attributes.aggregator == aggregator
    assert not {17, 18} & got.attributes.raw.keys()


FAULTS = {
    # name: (attribute, action); RFC 6793 6: a malformed AS4 attribute MUST be discarded, and the UPDATE goes on
    "rfc6793_6_as4_path_of_1": ("c0 11 01 02", Action.ATTRIBUTE_DISCARD),
    "rfc6793_6_as4_path_empty": ("c0 11 00", Action.ATTRIBUTE_DISCARD),
    "rfc6793_6_segment_of_none": ("c0 11 08 02 00 02 01 00030d40", Action.ATTRIBUTE_DISCARD),
    "rfc6793_6_segment_overrun": ("c0 11 06 02 02 00030d40", Action.ATTRIBUTE_DISCARD),
    "rfc6793_6_segment_type_0": ("c0 11 06 00 01 00030d40", Action.ATTRIBUTE_DISCARD),
    "rfc7607_2_as4_path_as_0": ("c0 11 06 02 01 00000000", Action.ATTRIBUTE_DISCARD),
    "rfc6793_6_as4_aggregator_of_7": ("c0 12 07 00030d40 0a0000", Action.ATTRIBUTE_DISCARD),
    "rfc7607_2_as4_aggregator_as_0": ("c0 12 08 00000000 0a000001", Action.ATTRIBUTE_DISCARD),
    "rfc7606_3_c_flags": ("80 11 06 02 01 00030d40", Action.TREAT_AS_WITHDRAW),
    "rfc7606_7_7_aggregator_of_8": ("c0 07 08 00000005 0a000001", Action.ATTRIBUTE_DISCARD),
    "rfc7607_2_aggregator_as_0": ("c0 07 06 0000 0a000001", Action.ATTRIBUTE_DISCARD),
}


@pytest.mark.parametrize("name", FAULTS)
def test_B09_malformed_from_an_old_speaker(name: str) -> None:
    text, action = FAULTS[name]
    got = decode(update(ORIGIN + AS_PATH + NEXT_HOP + LOCAL_PREF + text, NLRI), OLD)
    assert isinstance(got, Update)
    assert got.action == action
    assert [error.code for error in got.errors] == [octets(text)[1]]
    if action == Action.ATTRIBUTE_DISCARD:
        assert got.attributes is not None
        assert got.attributes.as_path == AsPath.of(1, AS_TRANS, 2)
        assert got.attributes.aggregator is None


@pytest.mark.parametrize(
    "text", ["40 02 04 02 01 0000", "40 02 03 02 01 00", "40 02 06 02 01 0000fde9", "40 02 02 02 00"]
)
def test_rfc7606_7_2_two_octet_paths_are_checked_as_such(text: str) -> None:
    got = decode(update(ORIGIN + text + NEXT_HOP + LOCAL_PREF, NLRI), OLD)
    assert isinstance(got, Update)
    assert got.action == Action.TREAT_AS_WITHDRAW


@pytest.mark.parametrize("text", [AS4_PATH, "c0 12 08 00030d40 0a000001", "c0 11 06 00 01 00010001"])
def test_rfc6793_4_1_a_new_speaker_discards_as4_attributes_of_a_new_speaker(text: str) -> None:
    got = decode(update(ORIGIN + "40 02 00" + NEXT_HOP + LOCAL_PREF + text, NLRI), IBGP)
    assert isinstance(got, Update)
    assert [error.action for error in got.errors] == [Action.ATTRIBUTE_DISCARD]
    assert got.attributes == Attributes.of(origin=0, as_path=AsPath(), local_pref=100)


SENT = {
    # name: (values, octets for an OLD speaker)
    "rfc6793_4_2_2_all_numbers_fit": (AsPath.of(1, 2), None, "40 02 06 02 02 0001 0002"),
    "rfc6793_4_2_2_some_do_not": (
        AsPath.of(1, 200000),
        None,
        "40 02 06 02 02 0001 5ba0" + "c0 11 0a 02 02 00000001 00030d40",
    ),
    "rfc6793_4_2_2_aggregator_fits": (AsPath(), Aggregator(5, b"\x0a\0\0\1"), "40 02 00 c0 07 06 0005 0a000001"),
    "rfc6793_4_2_2_aggregator_does_not": (
        AsPath(),
        Aggregator(200000, b"\x0a\0\0\1"),
        "40 02 00 c0 07 06 5ba0 0a000001 c0 12 08 00030d40 0a000001",
    ),
    "rfc6793_3_confederation_segments_stay_out_of_as4_path": (
        AsPath((Segment(CONFED_SEQUENCE, (200001,)), Segment(SEQUENCE, (200000,)))),
        None,
        "40 02 08 03 01 5ba0 02 01 5ba0 c0 11 06 02 01 00030d40",
    ),
    "rfc6793_3_nothing_but_confederation_segments": (
        AsPath((Segment(CONFED_SEQUENCE, (200001,)),)),
        None,
        "40 02 04 03 01 5ba0",
    ),
}


@pytest.mark.parametrize("name", SENT)
def test_what_an_old_speaker_gets(name: str) -> None:
    as_path, aggregator, text = SENT[name]
    attributes = Attributes.of(as_path=as_path, aggregator=aggregator)
    sent = Update(attributes, (Reach(IPV4_UNICAST, b"\x0a\0\0\1", (Nlri(b"\xc0\0\2\x18"),)),))
    written = octets(text)
    split = 3 + written[2]  # NEXT_HOP goes between AS_PATH and what follows
    assert encode(sent, OLD) == update(written[:split].hex() + NEXT_HOP + written[split:].hex(), NLRI)


def test_old_and_new_give_equal_sets() -> None:
    """So routes of an OLD and of a NEW peer pack together."""
    old = decode(update(ORIGIN + AS_PATH + NEXT_HOP + LOCAL_PREF + AS4_PATH, NLRI), OLD)
    new = decode(update(ORIGIN + "40 02 0e 02 03 00000001 00030d40 00000002" + NEXT_HOP + LOCAL_PREF, NLRI), Session())
    assert old == new
