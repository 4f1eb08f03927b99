"""The octet editing of the way out, against the same done by taking the attributes apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgp.engine.rib.outbound import _edited, _reflected
from bgp.wire import AsPath, Attributes, RawAttribute

OURS, THEIRS = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
identifier = st.binary(min_size=4, max_size=4)


@st.composite
def sets(draw: st.DrawFn) -> Attributes:
    made = Attributes.of(
        origin=draw(st.integers(0, 2)),
        as_path=AsPath.of(*draw(st.lists(st.integers(1, 1 << 31), max_size=80))),
        med=draw(st.none() | st.integers(0, 9)),
        local_pref=draw(st.none() | st.integers(0, 9)),
        communities=draw(st.lists(st.integers(0, 0xFFFFFFFF), max_size=80)),
        originator_id=draw(st.none() | identifier),
        cluster_list=draw(st.lists(identifier, max_size=70)),
        ext_communities=draw(st.lists(st.binary(min_size=8, max_size=8), max_size=3)),
    )
    if draw(st.booleans()):
        made = made.with_raw(RawAttribute(0xE0, draw(st.integers(33, 255)), draw(st.binary(max_size=300))))
    return made


@given(sets(), st.sets(st.sampled_from([3, 4, 8, 16, 32, 200])))
def test_rfc4456_8_reflection_in_one_pass(attributes: Attributes, drop: set[int]) -> None:
    kept = attributes.without(*drop)
    wanted = kept.replace(
        originator_id=kept.originator_id or THEIRS,
        cluster_list=(OURS, *kept.cluster_list),
        local_pref=100 if kept.local_pref is None else kept.local_pref,
    )
    made = Attributes(_reflected(attributes.octets, frozenset(drop | {9, 10}), THEIRS, OURS))
    assert made == wanted


@given(sets(), st.sets(st.integers(1, 40)), st.sets(st.sampled_from([1, 2, 5, 9, 16, 40, 255])))
def test_editing_octets_is_editing_attributes(attributes: Attributes, drop: set[int], put: set[int]) -> None:
    new = [RawAttribute(0xC0, code, bytes(code)) for code in put]
    octets = {one.code: Attributes.from_raw([one]).octets for one in new}
    assert Attributes(_edited(attributes.octets, frozenset(drop), octets)) == attributes.without(*drop).with_raw(*new)
