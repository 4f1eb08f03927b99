"""Random orders of rekeys, losses, repeats and delays: in the end one pair of SAs at each end, and nothing left over.

What one end sends by the other can receive by, at every step (`Pair.check`); and packets that are sent arrive.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ikev2.config import TransformSet
from ikev2.crypto.suites import esp_proposals
from ikev2.engine.sa import State
from tests.ikev2.pair import Pair

SIDES = st.sampled_from("ab")
MAX_UNDER_WAY = 12


class Rekeys(RuleBasedStateMachine):
    """Nobody deletes the CHILD_SA or the IKE SA for good, so both must stand at the end. Time goes slowly enough that a
    request is not given up while the network is bad."""

    @initialize(pfs=st.sampled_from([None, 31]), seed=st.integers(0, 255))
    def start(self, pfs, seed):
        proposals = esp_proposals([TransformSet("t")], esn=True, pfs_group=pfs)
        self.pair = Pair.up(proposals=proposals)
        self.pair.a.seed, self.pair.b.seed = seed, seed + 1000
        self.spent = 0.0

    def side(self, name):
        return self.pair.a if name == "a" else self.pair.b

    @rule(name=SIDES)
    def rekey_child(self, name):
        side = self.side(name)
        carrying = [child for child in side.current.children.values() if child.carries]
        if carrying:
            side.do("rekey_child", carrying[0].number, self.pair.now)

    @rule(name=SIDES)
    def rekey_ike(self, name):
        self.side(name).do("rekey", self.pair.now)

    @rule(name=SIDES)
    def check_alive(self, name):
        self.side(name).do("check_alive", self.pair.now)

    @precondition(lambda self: self.pair.wire)
    @rule(which=st.integers(0, MAX_UNDER_WAY))
    def deliver(self, which):
        self.pair.deliver(self.pair.wire[which % len(self.pair.wire)])

    @precondition(lambda self: self.pair.wire)
    @rule(which=st.integers(0, MAX_UNDER_WAY))
    def lose(self, which):
        del self.pair.wire[which % len(self.pair.wire)]

    @precondition(lambda self: self.pair.wire and len(self.pair.wire) < MAX_UNDER_WAY)
    @rule(which=st.integers(0, MAX_UNDER_WAY))
    def repeat(self, which):
        self.pair.wire.append(self.pair.wire[which % len(self.pair.wire)])

    @precondition(lambda self: self.spent < 12)
    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0]))
    def wait(self, seconds):
        self.spent += seconds
        self.pair.advance(seconds, run=False)

    @rule()
    def rest(self):
        self.pair.run()
        self.spent = 0.0

    @rule(name=SIDES)
    def packet(self, name):
        assert self.side(name).packet()

    @invariant()
    def bounded(self):
        if hasattr(self, "pair"):
            for side in (self.pair.a, self.pair.b):
                assert len(side.inbound) <= 40
                assert len(side.sas) <= 12

    def teardown(self):
        if not hasattr(self, "pair"):
            return
        self.pair.run()
        self.pair.advance(200)
        self.at_rest()

    def at_rest(self):
        self.pair.one_pair()


class RekeysAndDeletes(Rekeys):
    """As above, and either end may delete the CHILD_SA, ask for another, or close the IKE SA. In the end both agree."""

    @rule(name=SIDES)
    def delete_child(self, name):
        side = self.side(name)
        for child in list(side.current.children.values()):
            side.do("delete_child", child.number, self.pair.now)
            break

    @rule(name=SIDES)
    def add_child(self, name):
        side = self.side(name)
        if side.current.state is State.ESTABLISHED and len(side.current.children) < 2:
            side.do("add_child", side.directory.children, self.pair.now)

    @precondition(lambda self: self.spent > 4)
    @rule(name=SIDES)
    def close(self, name):
        self.pair.checking = False  # what the other end sends is lost until it hears of it
        self.side(name).do("close", "enough", self.pair.now)

    @rule(name=SIDES)
    def packet(self, name):
        if self.pair.checking:
            self.side(name).packet()

    def at_rest(self):
        a, b = self.pair.a, self.pair.b
        assert len(a.sas) == len(b.sas) <= 1
        for side in (a, b):
            for sa in side.sas.values():
                assert sa.state is State.ESTABLISHED
                assert not sa.pending
                assert not sa.queue
            held = {number for sa in side.sas.values() for number in sa.children}
            assert set(side.inbound) == side.directory.reserved == held
            assert len(side.outbound) == bool(held)
        halves = [(n, child.outbound.spi) for sa in a.sas.values() for n, child in sa.children.items()]
        others = [(child.outbound.spi, n) for sa in b.sas.values() for n, child in sa.children.items()]
        assert sorted(halves) == sorted(others)


SETTINGS = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestRekeys = Rekeys.TestCase
TestRekeys.settings = SETTINGS
TestRekeysAndDeletes = RekeysAndDeletes.TestCase
TestRekeysAndDeletes.settings = SETTINGS
