"""V08: BGP and NHRP want labels of the same FECs, per VRF and per prefix, and let go of them in any order.

bgp   PrefixFec -> its next hop, or 0 (aggregate)   VrfFec -> look-up     arrives by mgre, ethernet
nhrp  the same FECs, always by look-up in the VRF                         arrives by protected tunnels
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stack.addr import Afi, Prefix, PrefixFec, VrfFec
from stack.events import SCOPE_ETHERNET, SCOPE_MGRE, SCOPE_PROTECTED, LabelRequest
from stack.tables.lfib import Nhlfe, Operation
from tests.mfi.test_mfi_engine import Bench

ONE, TWO = (PrefixFec(vrf, Prefix.parse("192.168.1.0/24")) for vrf in ("cust1", "cust2"))
"""The same addresses in two VRFs."""
NEAR = PrefixFec("cust1", Prefix.parse("192.168.2.0/24"))
ALL_ONE, ALL_TWO = VrfFec("cust1", Afi.IPV4), VrfFec("cust2", Afi.IPV4)
FECS = (ONE, TWO, NEAR, ALL_ONE, ALL_TWO)
FIRST, LAST, REST = 16, 19, 10.0

OPEN, PROTECTED = frozenset({SCOPE_MGRE, SCOPE_ETHERNET}), frozenset({SCOPE_PROTECTED})


def nhrp(vrf: str) -> LabelRequest:
    return LabelRequest(PROTECTED, vrf=vrf)


def bgp(vrf: str, hop: int = 0) -> LabelRequest:
    return LabelRequest(OPEN, hop, vrf=vrf)


def say(bench: Bench, owner: str, fec: Any, request: LabelRequest | None) -> None:
    bench.engine.feed(owner, {fec: request})
    bench.perform(bench.engine.settle(bench.now))


@pytest.mark.parametrize("first", ["bgp", "nhrp"])
@pytest.mark.parametrize("last", ["bgp", "nhrp"])
def test_V08_either_may_come_first_and_go_last(first: str, last: str) -> None:
    """NHRP's claim alone forwards by the VRF's FIB; BGP's next hop counts as long as BGP is there."""
    bench, asked = Bench(), {"bgp": bgp("cust1", 7), "nhrp": nhrp("cust1")}
    by_hop = Nhlfe(Operation.POP_FORWARD, "cust1", OPEN | PROTECTED, 1, 7, (), ONE)
    alone = {
        "bgp": by_hop._replace(scope=OPEN),
        "nhrp": Nhlfe(Operation.POP_LOOKUP, "cust1", PROTECTED, 1, 0, (), ONE),
    }
    say(bench, first, ONE, asked[first])
    assert bench.table.get(16) == alone[first]
    say(bench, "nhrp" if first == "bgp" else "bgp", ONE, asked["nhrp" if first == "bgp" else "bgp"])
    assert bench.table.get(16) == by_hop
    say(bench, "nhrp" if last == "bgp" else "bgp", ONE, None)
    assert bench.table.get(16) == alone[last]
    assert bench.labels() == {ONE: 16}
    say(bench, last, ONE, None)
    assert bench.labels() == {}
    assert len(bench.table) == 0


def test_V08_a_label_per_vrf_is_one_for_all_its_prefixes_and_both_owners() -> None:
    bench = Bench()
    for fec in (ALL_ONE, ALL_TWO):
        say(bench, "bgp", fec, bgp(fec.vrf))
        say(bench, "nhrp", fec, nhrp(fec.vrf))
    assert bench.labels() == {ALL_ONE: 16, ALL_TWO: 17}
    assert bench.table.get(16) == Nhlfe(Operation.POP_LOOKUP, "cust1", OPEN | PROTECTED, 1, 0, (), ALL_ONE)
    say(bench, "bgp", ALL_ONE, None)
    assert bench.table.get(16) == Nhlfe(Operation.POP_LOOKUP, "cust1", PROTECTED, 1, 0, (), ALL_ONE)


class Owners(RuleBasedStateMachine):
    """The model: who wants what, and until when a label rests for whom."""

    @initialize()
    def begin(self) -> None:
        self.bench = Bench(first=FIRST, last=LAST, quarantine=REST)
        self.wanted: dict[Any, dict[str, LabelRequest]] = {}
        self.rests: dict[int, tuple[Any, float]] = {}
        self.labels: dict[Any, int | None] = {}

    def say(self, owner: str, fec: Any, request: LabelRequest | None) -> None:
        owners = self.wanted.setdefault(fec, {})
        owners.pop(owner, None)
        if request is not None:
            owners[owner] = request
        if not owners:
            del self.wanted[fec]
        say(self.bench, owner, fec, request)
        self.note()

    def note(self) -> None:
        now = self.bench.labels()
        for fec, label in self.labels.items():
            if label is not None and fec in self.wanted:
                assert now[fec] == label, "a label that is in use moved"
            elif label is not None:
                self.rests[label] = fec, self.bench.now
        for fec, label in now.items():
            if label is not None and self.labels.get(fec) is None and label in self.rests:
                former, since = self.rests.pop(label)
                assert former == fec or self.bench.now - since >= REST, "a label changed hands too soon"
        self.labels = now

    @rule(fec=st.sampled_from(FECS), hop=st.sampled_from((0, 7, 8)))
    def bgp_wants(self, fec: Any, hop: int) -> None:
        self.say("bgp", fec, bgp(fec.vrf, 0 if isinstance(fec, VrfFec) else hop))

    @rule(fec=st.sampled_from(FECS))
    def nhrp_wants(self, fec: Any) -> None:
        self.say("nhrp", fec, nhrp(fec.vrf))

    @rule(owner=st.sampled_from(("bgp", "nhrp")), fec=st.sampled_from(FECS))
    def lets_go(self, owner: str, fec: Any) -> None:
        if owner in self.wanted.get(fec, {}):
            self.say(owner, fec, None)

    @rule(owner=st.sampled_from(("bgp", "nhrp")))
    def lets_go_of_all(self, owner: str) -> None:
        for fec in [fec for fec, owners in self.wanted.items() if owner in owners]:
            self.say(owner, fec, None)

    @rule(seconds=st.sampled_from((1.0, REST)))
    def time(self, seconds: float) -> None:
        self.bench.wait(seconds)
        self.note()

    @invariant()
    def the_lfib_does_what_was_asked(self) -> None:
        rows = {row.fec: row for row in self.bench.table.rows.values()}
        assert set(rows) == {fec for fec, label in self.labels.items() if label is not None}
        for fec, row in rows.items():
            owners = self.wanted[fec]
            hop = owners["bgp"].next_hop if "bgp" in owners else 0
            assert row.scope == frozenset().union(*(request.scope for request in owners.values()))
            assert (row.operation, row.next_hop) == (Operation.POP_FORWARD if hop else Operation.POP_LOOKUP, hop)
            assert (row.vrf, row.afi) == (fec.vrf, 1)

    @invariant()
    def labels_are_accounted_for(self) -> None:
        """Nobody waits without a reason, or while a label is free; no value outside the range; all come back."""
        used = Counter(label for label in self.labels.values() if label is not None)
        assert not used or max(used.values()) == 1
        assert all(FIRST <= label <= LAST for label in used)
        waiting = [fec for fec, label in self.labels.items() if label is None]
        resting = {n for n, (_, since) in self.rests.items() if self.bench.now - since < REST}
        for fec in waiting:
            assert f"labels {FIRST}-{LAST} are exhausted" in self.bench.bound[fec].reason
        assert not waiting or set(used) | resting == set(range(FIRST, LAST + 1))
        assert self.bench.engine.pool.used == set(used)


Owners.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class TestV08Owners(Owners.TestCase):
    """V08, two owners, any order."""
