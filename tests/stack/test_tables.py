"""The shared tables: one writer each, handles that can be taken back, and look-ups against naive models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stack.addr import Afi, Prefix
from stack.addr import parse_address as a
from stack.events import (
    AdjacencyKey,
    Delta,
    Interface,
    InterfaceKind,
    InterfaceRow,
    NextHopKey,
    Owners,
    Route,
    Topic,
    Via,
    Vrf,
)
from stack.tables import Tables
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.fib import Fib, FibTable, Leaf, LeafKind
from stack.tables.lfib import Nhlfe, Operation
from stack.tables.nexthop import NextHop
from stack.tables.owned import OwnedRows
from stack.tables.reception import Reception
from stack.tables.rib import Candidate, Entry, RibTable
from stack.tables.table import JOURNAL, KeyedTable, Revoked, SecondWriter, WriteRule

P = Prefix.parse
ADJACENCY = Adjacency(AdjacencyKey("Tunnel3", a("192.0.2.9")), AdjacencyKind.GRE, complete=True, mtu=1400)
INTERFACE = Interface(InterfaceRow("Ethernet0/0", InterfaceKind.ETHERNET), 1, up=True, mtu=1500)

KEYED = [
    ("vrfs", "red", Vrf("red", 3)),
    ("interfaces", "Ethernet0/0", INTERFACE),
    ("nexthops", 7, NextHop(NextHopKey("", a("192.0.2.9")), None, reason="no route")),
    ("lfib", 17, Nhlfe(Operation.SWAP, "red", frozenset({"mgre"}), next_hop=7, out_labels=(18,))),
    ("adjacencies", ADJACENCY.key, ADJACENCY),
    ("receptions", "Tunnel3", Reception("Tunnel3", a("192.0.2.1"), frozenset({47}))),
]
ALL = ["vrfs", "interfaces", "rib", "nexthops", "fib", "lfib", "adjacencies", "receptions"]


@pytest.mark.parametrize("name", ALL)
def test_one_writer_and_the_handle_can_be_taken_back(name: str) -> None:
    tables = Tables()
    table: Any = getattr(tables, name)
    first = table.writer("first")
    with pytest.raises(SecondWriter, match=rf"^table {table.rule.name} is written by first; second may only read it$"):
        table.writer("second")
    with pytest.raises(SecondWriter, match="written by first; first may"):
        table.writer("first")  # not even twice by the same: the older handle would still write
    tables.revoke("second")  # whose it is not
    write(name, first)
    tables.revoke("first")
    before = repr(table)
    with pytest.raises(Revoked, match=f"the write handle of table {table.rule.name} was taken back"):
        write(name, first)
    assert repr(table) == before
    second = table.writer("second")
    with pytest.raises(Revoked):
        write(name, first)
    write(name, second)


def write(name: str, writer: Any) -> None:
    if name == "fib":
        writer.put("red", P("10.0.0.0/8"), Leaf(LeafKind.DISCARD))
    elif name == "rib":
        writer.put("red", P("10.0.0.0/8"), Entry(()))
    else:
        _, key, row = next(row for row in KEYED if row[0] == name)
        writer.put(key, row)


@pytest.mark.parametrize(
    ("name", "method"),
    [("fib", "put"), ("fib", "remove"), ("fib", "create"), ("fib", "drop"), ("rib", "put"), ("rib", "remove"), ("rib", "drop")],
)  # fmt: skip
def test_every_method_of_a_revoked_handle_is_refused(name: str, method: str) -> None:
    table: Any = getattr(Tables(), name)
    writer = table.writer("routing")
    table.revoke("routing")
    arguments = {"put": ("", P("::/0"), None), "remove": ("", P("::/0"))}.get(method, ("",))
    with pytest.raises(Revoked):
        getattr(writer, method)(*arguments)


@pytest.mark.parametrize(("name", "key", "row"), KEYED)
def test_rows_stay_when_their_writer_goes(name: str, key: Any, row: Any) -> None:
    tables = Tables()
    table = getattr(tables, name)
    table.writer("first").put(key, row)
    tables.revoke("first")
    assert table.get(key) == row
    assert (list(table), len(table)) == ([row], 1)
    heir = table.writer("first")
    assert heir.keep_only({}) == [key]
    assert (table.get(key), len(table)) == (None, 0)


@pytest.mark.parametrize(("name", "key", "row"), KEYED)
def test_the_generation_moves_with_changes_and_only_with_them(name: str, key: Any, row: Any) -> None:
    table = getattr(Tables(), name)
    writer = table.writer("first")
    seen = [table.generation]
    assert writer.put(key, row) is True
    seen.append(table.generation)
    assert writer.put(key, row) is False
    assert table.generation == seen[-1]
    assert writer.keep_only({key: None}) == []
    assert table.generation == seen[-1]
    assert writer.remove(key) == row
    seen.append(table.generation)
    assert writer.remove(key) is None
    assert table.generation == seen[-1]
    assert seen == sorted(set(seen))


def test_a_table_may_be_written_while_it_is_walked() -> None:
    table = Tables().nexthops
    writer = table.writer("routing")
    for number in range(3):
        writer.put(number, NextHop(NextHopKey("", bytes(4)), None))
    for number, _ in enumerate(table):
        writer.remove(number)
        writer.put(number + 10, NextHop(NextHopKey("", bytes(4)), None))
    assert len(table) == 3


# --- FIB --------------------------------------------------------------------------------------------------------------

LEAVES = st.builds(Leaf, st.sampled_from(LeafKind), st.integers(0, 3), st.sampled_from([(), (16,), (17, 18)]))
CLOSE_V4 = st.integers(0, 31).map(lambda n: bytes((10, 0, n >> 3, (n & 7) << 5)))
CLOSE_V6 = st.integers(0, 31).map(lambda n: a("2001:db8::")[:8] + bytes((n,)) + bytes(7))
LENGTHS4, LENGTHS6 = st.sampled_from([0, 1, 8, 22, 25, 27, 31, 32]), st.sampled_from([0, 3, 64, 68, 72, 127, 128])
PREFIXES = st.builds(Prefix.of, CLOSE_V4, LENGTHS4) | st.builds(Prefix.of, CLOSE_V6, LENGTHS6)
ADDRESSES = CLOSE_V4 | CLOSE_V6 | st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


def longest(rows: dict[Prefix, Leaf], address: bytes) -> tuple[Prefix, Leaf] | None:
    """RFC 1812 5.2.4.3 (1), naively: of all prefixes that cover the address, the longest."""
    covering = [prefix for prefix in rows if prefix.covers(address)]
    best = max(covering, key=lambda prefix: prefix.length, default=None)
    return None if best is None else (best, rows[best])


class FibMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.table = FibTable()
        self.model: dict[str, dict[Prefix, Leaf]] = {}

    @initialize()
    def begin(self) -> None:
        self.writer = self.table.writer("routing")

    def fib(self, vrf: str) -> tuple[Fib, int] | None:
        found = self.table.get(vrf)
        return None if found is None else (found, found.generation)

    @rule(vrf=st.sampled_from(["", "red"]), prefix=PREFIXES, leaf=LEAVES)
    def put(self, vrf: str, prefix: Prefix, leaf: Leaf) -> None:
        before, total = self.fib(vrf), self.table.generation
        changed = self.model.setdefault(vrf, {}).get(prefix) != leaf
        self.model[vrf][prefix] = leaf
        self.writer.put(vrf, prefix, leaf)
        assert not changed or self.table.generation > total
        if before is not None:
            assert (before[0].generation != before[1]) == changed

    @rule(vrf=st.sampled_from(["", "red"]), prefix=PREFIXES)
    def remove(self, vrf: str, prefix: Prefix) -> None:
        before, total = self.fib(vrf), self.table.generation
        changed = self.model.get(vrf, {}).pop(prefix, None) is not None
        self.writer.remove(vrf, prefix)
        assert not changed or self.table.generation > total
        if before is not None:
            assert (before[0].generation != before[1]) == changed

    @rule(vrf=st.sampled_from(["", "red"]))
    def create(self, vrf: str) -> None:
        self.model.setdefault(vrf, {})
        self.writer.create(vrf)

    @rule(vrf=st.sampled_from(["", "red"]))
    def drop(self, vrf: str) -> None:
        before = self.fib(vrf)
        self.model.pop(vrf, None)
        self.writer.drop(vrf)
        # Whoever still holds the Fib in a flow cache notices.
        assert before is None or before[0].generation != before[1]

    @rule(vrf=st.sampled_from(["", "red"]), address=ADDRESSES)
    def look_up(self, vrf: str, address: bytes) -> None:
        fib = self.table.get(vrf)
        assert (fib is not None) == (vrf in self.model)
        if fib is not None:
            expected = longest(self.model[vrf], address)
            assert fib.match(address) == expected
            assert fib.lookup(address) == (expected[1] if expected else None)

    @invariant()
    def same_rows(self) -> None:
        assert set(self.table.fibs) == set(self.model)
        for vrf, rows in self.model.items():
            fib = self.table.fibs[vrf]
            assert len(fib) == len(rows)
            for afi in Afi:
                assert dict(fib.items(afi)) == {prefix: leaf for prefix, leaf in rows.items() if prefix.afi is afi}
            assert all(fib.get(prefix) == leaf for prefix, leaf in rows.items())


TestFibMachine = FibMachine.TestCase
TestFibMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_rfc1812_5_2_4_3_the_longest_prefix_wins() -> None:
    table = FibTable()
    writer = table.writer("routing")
    texts = ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32", "::/0", "2001:db8::/32")
    rows = {P(text): Leaf(LeafKind.FORWARD, number) for number, text in enumerate(texts)}
    for prefix, leaf in rows.items():
        writer.put("red", prefix, leaf)
    fib = table.get("red")
    assert fib is not None
    for address, prefix in {
        "10.1.1.1": "10.1.1.1/32", "10.1.1.2": "10.1.0.0/16", "10.2.0.0": "10.0.0.0/8", "11.0.0.0": "0.0.0.0/0",
        "2001:db8::9": "2001:db8::/32", "2001:db9::": "::/0", "::": "::/0",
    }.items():  # fmt: skip
        assert fib.match(a(address)) == (P(prefix), rows[P(prefix)])
    writer.remove("red", P("10.1.0.0/16"))
    assert fib.match(a("10.1.1.2")) == (P("10.0.0.0/8"), rows[P("10.0.0.0/8")])


def test_V06_a_vrfs_fib_knows_nothing_of_another() -> None:
    table = FibTable()
    writer = table.writer("routing")
    writer.put("red", P("0.0.0.0/0"), Leaf(LeafKind.FORWARD, 1))
    writer.create("blue")
    blue = table.get("blue")
    assert blue is not None
    assert (blue.match(a("10.0.0.1")), blue.lookup(a("10.0.0.1")), len(blue)) == (None, None, 0)
    assert table.get("green") is None


def test_a_fib_may_be_written_while_it_is_walked() -> None:
    table = FibTable()
    writer = table.writer("routing")
    for number in range(20):
        writer.put("", Prefix(bytes((number, 0, 0, 0)), 8 + number), Leaf(LeafKind.DISCARD))
    fib = table.fibs[""]
    for number, (prefix, _) in enumerate(fib.items(Afi.IPV4)):
        writer.remove("", prefix)
        writer.put("", Prefix(bytes((100 + number, 0, 0, 0)), 8), Leaf(LeafKind.DISCARD))
    assert len(fib) >= 20


# --- RIB --------------------------------------------------------------------------------------------------------------


def candidate(owner: str, *, usable: bool = True, distance: int = 1, hop: int = 1) -> Candidate:
    return Candidate(
        owner, Route(distance, (Via(a("192.0.2.1")),), owner), hop, usable, "" if usable else "no way", 0.0
    )


def test_the_best_is_the_first_usable_one_of_an_owner_that_counts() -> None:
    dead, nhrp, bgp = candidate("static", usable=False), candidate("nhrp", distance=2), candidate("bgp", distance=200)
    entry = Entry((dead, nhrp, bgp), override=candidate("nhrp", hop=9))
    assert entry.best() == nhrp
    assert entry.best(frozenset({"nhrp"})) == bgp  # a shortcut never answers its own renewal; nor does its override
    assert entry.best(frozenset({"nhrp", "bgp"})) is None
    assert Entry(()).best() is None


RIB_ROWS = st.dictionaries(
    PREFIXES,
    st.lists(st.builds(candidate, st.sampled_from(["static", "bgp", "nhrp"]), usable=st.booleans()), max_size=3).map(
        lambda found: Entry(tuple(found))
    ),
    max_size=12,
)


@given(rows=RIB_ROWS, address=ADDRESSES, exclude=st.sets(st.sampled_from(["nhrp", "bgp"])).map(frozenset))
def test_a_rib_matches_as_the_naive_model(rows: dict[Prefix, Entry], address: bytes, exclude: frozenset[str]) -> None:
    table = RibTable()
    writer = table.writer("routing")
    for prefix, entry in rows.items():
        writer.put("red", prefix, entry)
    usable = {prefix: best for prefix, entry in rows.items() if (best := entry.best(exclude)) is not None}
    covering = max((p for p in usable if p.covers(address)), key=lambda p: p.length, default=None)
    assert table.match("red", address, exclude) == (None if covering is None else (covering, usable[covering]))
    assert table.match("blue", address, exclude) is None
    for afi in Afi:
        assert dict(table.items("red", afi)) == {prefix: entry for prefix, entry in rows.items() if prefix.afi is afi}


def test_rib_rows_come_and_go() -> None:
    table = RibTable()
    writer = table.writer("routing")
    entry = Entry((candidate("bgp"),))
    writer.put("red", P("10.0.0.0/8"), entry)
    assert table.get("red", P("10.0.0.0/8")) == entry
    writer.remove("red", P("10.0.0.0/8"))
    writer.remove("red", P("10.0.0.0/8"))
    writer.remove("nosuch", P("10.0.0.0/8"))
    assert table.get("red", P("10.0.0.0/8")) is None
    writer.put("red", P("10.0.0.0/8"), entry)
    writer.drop("red")
    writer.drop("red")
    assert list(table.items("red", Afi.IPV4)) == []


# --- next hops --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("via", "key"),
    [
        (Via(a("192.0.2.1")), NextHopKey("", a("192.0.2.1"))),
        (Via(a("192.0.2.1"), vrf="red"), NextHopKey("red", a("192.0.2.1"))),
        (Via(b"", "Ethernet0/0", "red"), NextHopKey("red", b"", "Ethernet0/0")),
        (Via(a("192.0.2.1"), labels=(17,)), NextHopKey("", a("192.0.2.1"), labelled=True)),
        (Via(a("192.0.2.1"), vrf="red", encap="p", labels=(17,)), NextHopKey("", a("192.0.2.1"), "", "p", True)),
        (Via(a("192.0.2.1"), encap="p"), NextHopKey("", a("192.0.2.1"), "", "p", True)),
    ],
)
def test_routes_that_differ_in_labels_alone_share_a_next_hop(via: Via, key: NextHopKey) -> None:
    assert via.key() == key
    assert via._replace(labels=(*via.labels, 99) if via.labels else via.labels).key() == key


# --- rows of topics ---------------------------------------------------------------------------------------------------

MANY: Topic[str, int] = Topic("Many", Owners.MANY, "name -> number")
ONE: Topic[str, int] = Topic("One", Owners.ONE, "name -> number")
DELTAS = st.lists(
    st.builds(
        Delta,
        st.sampled_from([MANY, ONE]),
        st.sampled_from(["bgp", "static"]),
        st.just(1),
        st.sampled_from(["", "red"]),
        st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 3), max_size=3),
    ),
    max_size=25,
)


@given(DELTAS)
def test_owned_rows_are_what_the_deltas_say(deltas: Iterable[Delta]) -> None:
    rows = OwnedRows()
    model: dict[tuple[Any, str, str], dict[str, int]] = {}
    for delta in deltas:
        rows.apply(delta)
        held = model.setdefault((delta.topic, delta.table, delta.owner), {})
        for key, row in delta.rows.items():
            held.pop(key, None)
            if row is not None:
                held[key] = row
    for topic in (MANY, ONE):
        for table in ("", "red"):
            mine = {owner: held for (t, where, owner), held in model.items() if (t, where) == (topic, table) and held}
            assert rows.by_owner(topic, table) == mine
            merged = rows.merged(topic, table)
            assert set(merged) == {key for held in mine.values() for key in held}
            for key in "abc":
                holders = {owner for owner, held in mine.items() if key in held}
                assert set(rows.holders(topic, key, table)) == holders
                assert rows.get(topic, key, table) in {mine[owner][key] for owner in holders} | (
                    set() if holders else {None}
                )
                assert (key not in merged) or merged[key] in {mine[owner][key] for owner in holders}


def test_owned_rows_keep_nothing_of_tables_that_are_empty() -> None:
    """VRFs come and go for years."""
    rows = OwnedRows()
    for number in range(100):
        rows.apply(Delta(MANY, "bgp", 1, f"vrf{number}", {"a": 1}))
        rows.apply(Delta(MANY, "bgp", 1, f"vrf{number}", {"a": None}))
    assert len(rows._held) == 0


def test_a_table_says_what_changed_since_and_when_it_no_longer_knows() -> None:
    table: KeyedTable[str, int] = KeyedTable(WriteRule("toy"))
    writer = table.writer("me")
    writer.put("a", 1)
    since = table.generation
    assert table.changed_since(since) == set()
    writer.put("a", 1)  # as it stood
    writer.put("b", 2)
    writer.put("c", 3)
    writer.remove("a")
    writer.remove("nobody")
    assert table.changed_since(since) == {"a", "b", "c"}
    assert table.changed_since(table.generation - 1) == {"a"}
    assert table.changed_since(-1) is None
    for number in range(JOURNAL):
        writer.put("d", number)
    assert table.changed_since(since) is None
    assert table.changed_since(table.generation - JOURNAL) == {"d"}
