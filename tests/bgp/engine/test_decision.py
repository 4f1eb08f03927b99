"""The decision process, step by step: each row makes two paths differ in one thing, and says which wins and why not."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp.engine.decision import explain, select
from bgp.engine.paths import ALWAYS, Hop, Path, PathSet, Reason, Source
from bgp.wire import VPNV4, AsPath, Attributes, Nlri, Origin
from stack.addr import parse_address
from stack.events import NextHopKey
from tests.bgp.engine.rib_world import attributes, ip

KEY = b"\x00\x00\x00\x01\x00\x00\x00\x01\x0a\x08"


def hop(metric: int = 0, *, usable: bool = True) -> Hop:
    return Hop(NextHopKey("", b"\x0a\0\0\1"), True, usable, False, "" if usable else "no route", metric, 1, "", usable)


def path(
    attrs: Attributes | None = None,
    *,
    address: str = "192.0.2.1",
    router_id: str = "192.0.2.1",
    external: bool = False,
    local: bool = False,
    **values: Any,
) -> Path:
    view: Any = None if local else object()
    source = Source(view, "", ip(router_id), ip(address), external)
    attrs = attrs or attributes((65001,))
    values.setdefault("hop", ALWAYS if local else hop())
    return Path(PathSet(source, VPNV4, attrs, b"", attrs, b"", **values), Nlri(KEY, (100,)))


CASES = [
    ("weight", path(weight=1), path(attributes((65001,), local_pref=900)), Reason.WEIGHT),
    ("local_pref", path(attributes((1, 2), local_pref=101)), path(), Reason.LOCAL_PREF),
    ("missing_local_pref_is_100", path(attributes((1, 2), local_pref=101)), path(attributes((1,))), Reason.LOCAL_PREF),
    ("local", path(local=True), path(attributes(())), Reason.NOT_LOCAL),
    ("as_path", path(attributes((1,))), path(attributes((2, 3))), Reason.AS_PATH_LENGTH),
    ("origin", path(attributes((1,), origin=1)), path(attributes((1,), origin=2)), Reason.ORIGIN),
    ("med", path(attributes((1, 2), med=5)), path(attributes((1, 3), med=6)), Reason.MED),
    ("missing_med_is_0", path(attributes((1, 2))), path(attributes((1, 3), med=1)), Reason.MED),
    ("external", path(external=True), path(), Reason.INTERNAL),
    ("metric", path(hop=hop(5)), path(hop=hop(6)), Reason.IGP_METRIC),
    ("router_id", path(router_id="192.0.2.1"), path(router_id="192.0.2.2"), Reason.ROUTER_ID),
    (
        "originator_counts_as_router_id",
        path(attributes((1,), originator_id=ip("1.1.1.1")), router_id="9.9.9.9"),
        path(attributes((1,)), router_id="2.2.2.2"),
        Reason.ROUTER_ID,
    ),
    (
        "cluster_list",
        path(attributes((1,), cluster_list=[ip("1.1.1.1")])),
        path(attributes((1,), cluster_list=[ip("1.1.1.1"), ip("2.2.2.2")])),
        Reason.CLUSTER_LENGTH,
    ),
    ("address", path(address="192.0.2.1"), path(address="192.0.2.2"), Reason.NEIGHBOUR),
]


@pytest.mark.parametrize(("name", "winner", "loser", "reason"), CASES, ids=[case[0] for case in CASES])
def test_rfc4271_9_1_2_2_each_step(name: str, winner: Path, loser: Path, reason: Reason) -> None:
    for paths in ((winner, loser), (loser, winner)):
        assert select(paths) is winner
        verdicts = {id(v.path): v.reason for v in explain(paths)}
        assert verdicts == {id(winner): None, id(loser): reason}


def test_rfc4271_9_1_2_2_c_med_only_within_one_neighbouring_as() -> None:
    low = path(attributes((2, 9), med=1), router_id="9.9.9.9")
    high = path(attributes((1, 9), med=900), router_id="1.1.1.1")
    assert select((low, high)) is high


def test_rfc4271_9_1_2_2_c_the_order_of_arrival_does_not_decide() -> None:
    """The well-known triangle: compared in pairs without grouping, the winner would depend on the order."""
    a = path(attributes((1, 9), med=10), hop=hop(10), router_id="1.1.1.1")
    b = path(attributes((2, 9), med=0), hop=hop(5), router_id="2.2.2.2")
    c = path(attributes((1, 8), med=0), hop=hop(20), router_id="3.3.3.3")
    assert {select(order) for order in permutations((a, b, c))} == {b}


def test_rfc5004_3_the_current_best_external_stays() -> None:
    old = path(external=True, router_id="9.9.9.9")
    new = path(external=True, router_id="1.1.1.1", address="192.0.2.9")
    assert select((old, new), old) is old
    assert select((old, new)) is old  # no best yet: the oldest
    assert select((old, new), new) is new
    assert [v.reason for v in explain((old, new), old)] == [None, Reason.NEWER]


def test_rfc4271_9_1_2_1_an_unresolvable_next_hop_excludes() -> None:
    good, bad = path(attributes((1, 2, 3))), path(attributes((1,)), hop=hop(usable=False))
    assert select((good, bad)) is good
    verdict = explain((good, bad))[1]
    assert (verdict.reason, verdict.detail) == (Reason.NEXT_HOP, "no route")
    assert select((bad,)) is None


def test_refused_paths_never_compete() -> None:
    refused = path(attributes((1,), local_pref=500), refused=Reason.FILTERED, detail="denied by route map X")
    assert select((refused,)) is None
    assert select((refused, path())) is not refused


@st.composite
def some_paths(draw: st.DrawFn) -> list[Path]:
    made = []
    for index in range(draw(st.integers(1, 5))):
        attrs = Attributes.of(
            origin=draw(st.sampled_from(Origin)),
            as_path=AsPath.of(*draw(st.lists(st.integers(1, 3), max_size=3))),
            med=draw(st.none() | st.integers(0, 2)),
            local_pref=draw(st.none() | st.integers(99, 101)),
        )
        address = parse_address(f"192.0.2.{index}")
        source = Source(object(), "", bytes((draw(st.integers(1, 3)),) * 4), address, draw(st.booleans()))
        one = PathSet(source, VPNV4, attrs, b"", attrs, b"", hop(draw(st.integers(0, 2)), usable=draw(st.booleans())))
        made.append(Path(one, Nlri(KEY, (100,))))
    return made


@given(some_paths())
def test_explain_agrees_with_select(paths: list[Path]) -> None:
    best = select(paths)
    verdicts = explain(paths)
    assert [v.path for v in verdicts] == paths
    winners = [v.path for v in verdicts if v.reason is None]
    assert winners == ([] if best is None else [best])


@given(some_paths(), st.randoms())
def test_without_equal_external_paths_the_order_does_not_matter(paths: list[Path], rng: Any) -> None:
    best = select(paths)
    shuffled = list(paths)
    rng.shuffle(shuffled)
    other = select(shuffled)
    if best is not other:
        assert best is not None
        assert other is not None
        assert best.set.source.external  # RFC 5004: only among these does age count
        assert other.set.source.external
        assert best.set.rank == other.set.rank
