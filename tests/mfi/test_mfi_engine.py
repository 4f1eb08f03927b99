"""The label allocator as tables and as a state machine: who wants what, who gets what, and what the LFIB then says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mfi.config import MfiConfig
from mfi.engine import Engine, Pool
from stack.addr import RD, Afi, NextHopFec, Prefix, PrefixFec, SwapFec, VrfFec
from stack.events import SCOPE_ETHERNET, SCOPE_MGRE, SCOPE_PROTECTED, LabelRequest, LabelRow
from stack.tables.lfib import LfibTable, Nhlfe, Operation

P = Prefix.parse
MGRE = frozenset({SCOPE_MGRE})
RED = VrfFec("red", Afi.IPV4)
SITE = PrefixFec("red", P("192.168.1.0/24"))
OTHER = PrefixFec("red", P("192.168.2.0/24"))
SIX = PrefixFec("red", P("2001:db8:1::/48"))
CE = NextHopFec("red", "Ethernet0/1", bytes((192, 168, 1, 2)))
SWAP = SwapFec(RD.parse("1:1"), P("192.168.9.0/24"), 7, (44,))


class Bench:
    def __init__(self, **config: Any) -> None:
        self.table = LfibTable()
        self.config = MfiConfig(**config)
        self.now = 0.0
        self.bound: dict[Any, LabelRow] = {}
        self.boot()

    def boot(self) -> None:
        self.table.revoke("mfi")
        self.engine = Engine(self.config, self.table.writer("mfi"))
        self.engine.start()

    def want(self, owner: str, *fecs: Any, scope: frozenset[str] = MGRE, **named: Any) -> Bench:
        self.engine.feed(owner, {fec: LabelRequest(scope, **named) for fec in fecs})
        return self.perform(self.engine.settle(self.now))

    def leave(self, owner: str, *fecs: Any) -> Bench:
        self.engine.feed(owner, dict.fromkeys(fecs))
        return self.perform(self.engine.settle(self.now))

    def perform(self, outputs: Any) -> Bench:
        for output in outputs:
            for fec, row in output.rows.items():
                if row is None:
                    del self.bound[fec]
                else:
                    self.bound[fec] = row
        return self

    def wait(self, seconds: float) -> Bench:
        self.now += seconds
        return self.perform(self.engine.wake(self.now))

    def labels(self) -> dict[Any, int | None]:
        return {fec: row.label for fec, row in self.bound.items()}


@pytest.mark.parametrize(
    ("fec", "named", "row"),
    [
        (RED, {}, (Operation.POP_LOOKUP, "red", MGRE, 1, 0, ())),
        (VrfFec("red", Afi.IPV6), {}, (Operation.POP_LOOKUP, "red", MGRE, 2, 0, ())),
        (SITE, {"next_hop": 5}, (Operation.POP_FORWARD, "red", MGRE, 1, 5, ())),
        (SITE, {}, (Operation.POP_LOOKUP, "red", MGRE, 1, 0, ())),
        (SIX, {"next_hop": 5}, (Operation.POP_FORWARD, "red", MGRE, 2, 5, ())),
        (PrefixFec("", P("192.0.2.2/32")), {}, (Operation.POP_LOOKUP, "", MGRE, 0, 0, ())),
        (PrefixFec("", P("192.0.2.3/32")), {"next_hop": 5}, (Operation.POP_FORWARD, "", MGRE, 0, 5, ())),
        (CE, {"next_hop": 5}, (Operation.POP_FORWARD, "red", MGRE, 1, 5, ())),
        (SWAP, {"vrf": "red"}, (Operation.SWAP, "red", MGRE, 1, 7, (44,))),
        (SWAP._replace(out_labels=(44, 45)), {}, (Operation.SWAP, "", MGRE, 1, 7, (44, 45))),
        (SWAP._replace(out_labels=(3,)), {}, (Operation.POP_FORWARD, "", MGRE, 1, 7, ())),
        (SWAP._replace(out_labels=(3, 45)), {}, (Operation.SWAP, "", MGRE, 1, 7, (45,))),
    ],
)
def test_rfc3031_3_10_nhlfe_of_each_fec(fec: Any, named: dict[str, Any], row: tuple[Any, ...]) -> None:
    bench = Bench().want("bgp", fec, **named)
    assert bench.table.get(16) == Nhlfe(*row, fec)
    assert bench.bound[fec] == LabelRow(16)


def test_V08_two_clients_share_a_label_until_the_last_lets_go() -> None:
    bench = Bench(first=20, last=20).want("bgp", SITE).want("nhrp", SITE)
    assert bench.bound[SITE] == LabelRow(20)
    bench.leave("bgp", SITE)
    assert bench.bound[SITE] == LabelRow(20)
    assert bench.table.get(20) is not None
    bench.leave("nhrp", SITE)
    assert SITE not in bench.bound
    assert bench.table.get(20) is None


def test_V08_a_freed_label_rests_before_another_fec_gets_it() -> None:
    bench = Bench(first=20, last=20, quarantine=30.0).want("bgp", SITE).leave("bgp", SITE)
    bench.want("bgp", OTHER)
    assert bench.bound[OTHER] == LabelRow(None, "labels 20-20 are exhausted: 0 in use, 1 resting after use")
    assert bench.engine.deadline() == 30.0
    bench.wait(29.9)
    assert bench.bound[OTHER].label is None
    bench.wait(0.1)
    assert bench.bound[OTHER] == LabelRow(20)
    assert bench.engine.deadline() is None


def test_V08_the_same_fec_gets_its_label_back_at_once() -> None:
    bench = Bench().want("bgp", SITE, OTHER).leave("bgp", SITE, OTHER).want("bgp", OTHER, CE)
    assert bench.labels() == {OTHER: 17, CE: 18}


def test_V08_exhaustion_is_told_and_healed_in_order_of_waiting() -> None:
    bench = Bench(first=16, last=17, quarantine=10.0).want("bgp", SITE, OTHER).want("bgp", SIX).want("nhrp", CE, SIX)
    assert bench.labels() == {SITE: 16, OTHER: 17, SIX: None, CE: None}
    assert bench.bound[CE].reason == "labels 16-17 are exhausted: 2 in use, 0 resting after use"
    bench.leave("bgp", SITE, OTHER).leave("bgp", SIX).wait(10.0)
    assert bench.labels() == {SIX: 16, CE: 17}


def test_labels_never_wrap_into_the_reserved_ones_nor_past_the_last() -> None:
    assert Pool(0, 1 << 30, 0.0).size == (1 << 20) - 16
    bench = Bench(first=0, last=17).want("bgp", SITE, OTHER, SIX)
    assert bench.labels() == {SITE: 16, OTHER: 17, SIX: None}
    assert Bench(first=(1 << 20) - 1).want("bgp", SITE, OTHER).labels() == {SITE: (1 << 20) - 1, OTHER: None}


def test_labels_kept_for_static_bindings_are_not_given_away() -> None:
    bench = Bench(first=16, last=20, static_first=16, static_last=18, quarantine=5.0).want("bgp", SITE, OTHER, SIX)
    assert bench.labels() == {SITE: 19, OTHER: 20, SIX: None}
    bench.want("tunnel", CE, fixed=16).leave("tunnel", CE).wait(99.0)
    assert bench.labels() == {SITE: 19, OTHER: 20, SIX: None}


def test_scope_is_what_any_client_named() -> None:
    bench = Bench().want("bgp", SITE).want("nhrp", SITE, scope=frozenset({SCOPE_PROTECTED, "Tunnel5"}))
    assert bench.table.get(16).scope == {SCOPE_MGRE, SCOPE_PROTECTED, "Tunnel5"}
    bench.leave("bgp", SITE)
    assert bench.table.get(16).scope == {SCOPE_PROTECTED, "Tunnel5"}


def test_a_changed_wish_changes_the_row_and_not_the_label() -> None:
    bench = Bench().want("bgp", SITE).want("bgp", SITE, next_hop=9)
    assert bench.labels() == {SITE: 16}
    assert bench.table.get(16).next_hop == 9
    bench.want("nhrp", SITE)  # a client that only wants a look-up does not undo it
    assert bench.table.get(16).operation is Operation.POP_FORWARD


# --- labels asked for by value ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fixed", "reason"),
    [
        (3, "label 3 is reserved (implicit-null)"),
        (9, "label 9 is reserved (special-purpose)"),
        (1 << 20, "1048576 is no label: 1048575 is the last"),
    ],
)
def test_rfc3032_2_1_reserved_labels_are_bound_to_nothing(fixed: int, reason: str) -> None:
    bench = Bench().want("tunnel", SITE, fixed=fixed)
    assert bench.bound[SITE] == LabelRow(None, reason)
    assert len(bench.table) == 0


def test_a_fixed_label_that_another_fec_has_is_told_and_given_when_it_is_free() -> None:
    bench = Bench(quarantine=30.0).want("bgp", SITE).want("tunnel", OTHER, fixed=16, scope=frozenset({SCOPE_ETHERNET}))
    assert bench.bound[OTHER] == LabelRow(None, "label 16 is bound to 192.168.1.0/24 in VRF red")
    bench.leave("bgp", SITE)
    assert bench.bound[OTHER] == LabelRow(None, "label 16 was freed a short time ago and rests")
    bench.wait(30.0)
    assert bench.bound[OTHER] == LabelRow(16)
    bench.want("bgp", SITE)
    assert bench.bound[SITE] == LabelRow(17)


def test_a_fec_moves_to_the_label_asked_for_and_back_to_a_dynamic_one() -> None:
    bench = Bench().want("bgp", SITE).want("tunnel", SITE, fixed=900)
    assert bench.labels() == {SITE: 900}
    assert bench.table.get(16) is None
    bench.leave("tunnel", SITE)
    assert bench.labels() == {SITE: 16}  # which it had before
    assert bench.table.get(900) is None


def test_a_label_in_use_is_kept_while_the_one_asked_for_is_not_to_be_had() -> None:
    bench = Bench().want("bgp", SITE, OTHER).want("tunnel", OTHER, fixed=16)
    assert bench.bound[OTHER] == LabelRow(17, "label 16 is bound to 192.168.1.0/24 in VRF red")
    bench.leave("bgp", SITE).wait(30.0)
    assert bench.bound[OTHER] == LabelRow(16)


def test_clients_that_disagree_on_the_value_are_told() -> None:
    bench = Bench().want("a", SITE, fixed=50).want("b", SITE, fixed=51)
    assert bench.bound[SITE] == LabelRow(50, "clients ask for labels 50 and 51")


# --- restart and configuration ----------------------------------------------------------------------------------------


def test_labels_survive_a_restart_and_unclaimed_ones_go() -> None:
    bench = Bench(quarantine=30.0).want("bgp", SITE, OTHER, RED).leave("bgp", RED).want("bgp", SIX)
    assert bench.labels() == {SITE: 16, OTHER: 17, SIX: 19}
    bench.bound.clear()
    bench.boot()
    bench.want("bgp", CE)  # before the others are claimed: neither theirs nor one that rests
    assert bench.labels() == {CE: 20}
    bench.want("bgp", SIX, SITE)
    assert bench.labels() == {CE: 20, SIX: 19, SITE: 16}
    assert bench.table.get(17).fec == OTHER  # still forwarding
    bench.engine.sweep(bench.now)
    assert bench.table.get(17) is None
    assert sorted(bench.table.rows) == [16, 19, 20]


def test_V08_a_restart_does_not_cut_the_rest_of_a_label_short() -> None:
    bench = Bench(first=16, last=17, quarantine=30.0).want("bgp", SITE, OTHER).leave("bgp", SITE, OTHER).wait(10.0)
    bench.boot()
    bench.want("bgp", SIX).want("bgp", OTHER)
    assert bench.labels() == {SIX: None, OTHER: 17}
    bench.wait(20.0)
    assert bench.labels() == {SIX: 16, OTHER: 17}


def test_another_range_leaves_labels_in_use_alone() -> None:
    bench = Bench(first=16, last=17).want("bgp", SITE, OTHER, SIX)
    bench.perform(bench.engine.reconfigure(MfiConfig(first=100, last=200), bench.now))
    assert bench.labels() == {SITE: 16, OTHER: 17, SIX: 100}
    bench.want("bgp", SITE, next_hop=4)
    assert bench.labels()[SITE] == 16


def test_snapshot_lists_clients_and_what_has_no_label() -> None:
    bench = Bench(first=16, last=16).want("bgp", SITE).want("nhrp", SITE).want("bgp", OTHER)
    uses = bench.engine.snapshot()
    assert [(use.fec, use.label, use.clients) for use in uses] == [(SITE, 16, ("bgp", "nhrp")), (OTHER, None, ("bgp",))]


# --- V08 as a state machine -------------------------------------------------------------------------------------------

FECS = (RED, SITE, OTHER, SIX, CE, SWAP)
CLIENTS = ("bgp", "nhrp", "tunnel")
FIRST, LAST, REST = 16, 20, 10.0


class Allocator(RuleBasedStateMachine):
    """Against a model that knows only: who wants what, which label stood for which FEC until when."""

    @initialize()
    def begin(self) -> None:
        self.bench = Bench(first=FIRST, last=LAST, quarantine=REST)
        self.wanted: dict[Any, dict[str, int | None]] = {}
        self.freed: dict[int, tuple[Any, float]] = {}
        self.before: dict[Any, int | None] = {}

    def note(self) -> None:
        """Compare with what stood before: a label that changed hands must have rested."""
        now = self.bench.labels()
        for fec, label in self.before.items():
            if label is not None and now.get(fec) != label:
                self.freed[label] = (fec, self.bench.now)
        for fec, label in now.items():
            if label is not None and self.before.get(fec) != label and label in self.freed:
                former, when = self.freed[label]
                assert former == fec or self.bench.now - when >= REST
        self.before = now

    @rule(
        client=st.sampled_from(CLIENTS),
        fec=st.sampled_from(FECS),
        fixed=st.sampled_from((None, None, None, 17, 19, 30)),
    )
    def want(self, client: str, fec: Any, fixed: int | None) -> None:
        self.wanted.setdefault(fec, {})[client] = fixed
        self.bench.want(client, fec, fixed=fixed)
        self.note()

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        fec = data.draw(st.sampled_from(sorted(self.wanted, key=str)))
        client = data.draw(st.sampled_from(sorted(self.wanted[fec])))
        del self.wanted[fec][client]
        if not self.wanted[fec]:
            del self.wanted[fec]
        self.bench.leave(client, fec)
        self.note()

    @rule(client=st.sampled_from(CLIENTS), fec=st.sampled_from(FECS))
    def leave_what_was_never_wanted(self, client: str, fec: Any) -> None:
        if client not in self.wanted.get(fec, {}):
            self.bench.leave(client, fec)
            self.note()

    @rule(seconds=st.sampled_from((0.5, 5.0, REST)))
    def wait(self, seconds: float) -> None:
        self.bench.wait(seconds)
        self.note()

    @rule()
    def restart(self) -> None:
        self.bench.boot()
        for fec, clients in self.wanted.items():
            for client, fixed in clients.items():
                self.bench.engine.feed(client, {fec: LabelRequest(MGRE, fixed=fixed)})
        self.bench.perform(self.bench.engine.settle(self.bench.now))
        self.bench.perform(self.bench.engine.sweep(self.bench.now))
        for fec, label in self.before.items():
            assert self.bench.labels()[fec] == label or label is None
        self.note()

    @invariant()
    def holds(self) -> None:
        bound = self.bench.bound
        assert set(bound) == set(self.wanted)
        labels = [row.label for row in bound.values() if row.label is not None]
        assert len(labels) == len(set(labels))
        assert {label: row.fec for label, row in self.bench.table.rows.items()} == {
            row.label: fec for fec, row in bound.items() if row.label is not None
        }
        for fec, row in bound.items():
            asked = {fixed for fixed in self.wanted[fec].values() if fixed is not None}
            assert row.label is not None or row.reason
            assert row.label is None or FIRST <= row.label <= LAST or row.label in asked or row.label == 30
        waiting = [fec for fec, row in bound.items() if row.label is None and not any(self.wanted[fec].values())]
        used = {label for label in labels if FIRST <= label <= LAST}
        resting = {n for n, (_, when) in self.freed.items() if self.bench.now - when < REST and FIRST <= n <= LAST}
        if waiting:  # nobody waits while a label is free
            assert used | resting == set(range(FIRST, LAST + 1))


Allocator.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class TestV08StatefulAllocator(Allocator.TestCase):
    """V08, with every order of wanting, letting go, waiting and restarting."""
