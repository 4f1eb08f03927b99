"""ARP and neighbour discovery as a state machine: every state and event, the tables' bounds, and any packets at any time."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stack.addr import parse_address as a
from stack.events import AddressRow, AdjacencyKey, SendNeighbourPacket
from tunnel.engine import neighbours as module
from tunnel.engine.neighbours import (
    ASK_EVERY,
    ASK_TIMES,
    BROADCAST,
    DEAD_FOR,
    REACHABLE,
    TRANSITIONS,
    Event,
    Link,
    Neighbour,
    Neighbours,
    NeighbourState,
)
from tunnel.wire import arp, nd

MAC, PEER, OTHER = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02", b"\x02\0\0\0\0\x03"
US, HOST, LAST = a("10.1.1.1"), a("10.1.1.10"), a("10.1.1.11")
US6, HOST6, LOCAL6 = a("2001:db8:1::1"), a("2001:db8:1::10"), a("fe80::1")
LINK = Link(MAC, {US: AddressRow(24), US6: AddressRow(64), LOCAL6: AddressRow(64)}, answers=True)


def table(link: Link | None = LINK) -> Neighbours:
    table = Neighbours(random.Random(7).randbytes)
    table.set_link("e1", link, 0.0)
    table.take_packets()
    return table


def key(address: bytes = HOST) -> AdjacencyKey:
    return AdjacencyKey("e1", address)


def reply(sender: bytes = HOST, mac: bytes = PEER) -> arp.Arp:
    return arp.Arp(arp.REPLY, mac, sender, MAC, US)


def request(sender: bytes = HOST, mac: bytes = PEER, target: bytes = US) -> arp.Arp:
    return arp.Arp(arp.REQUEST, mac, sender, bytes(6), target)


def advert(
    mac: bytes = PEER, *, target: bytes = HOST6, solicited: bool = True, override: bool = True
) -> nd.Advertisement:
    return nd.Advertisement(target, US6, target, mac, router=False, solicited=solicited, override=override)


def solicit(source: bytes = HOST6, mac: bytes = PEER, target: bytes = US6) -> nd.Solicitation:
    return nd.Solicitation(source, nd.solicited_node(target), target, mac)


def entry(table: Neighbours, address: bytes = HOST) -> Neighbour:
    found = table.get(key(address))
    assert found is not None
    return found


def wait(table: Neighbours, start: float, end: float) -> None:
    """Wake at every deadline up to `end`; every one lies behind the last."""
    last = start
    while (due := table.deadline()) is not None and due <= end:
        assert due > last or last == start
        table.wake(due)
        last = due


def asked(table: Neighbours) -> list[tuple[bytes, bytes]]:
    """(destination MAC, target) of the questions since the last look."""
    found = []
    for packet in table.take_packets():
        if packet.ethertype == 0x0806:
            question = arp.decode(packet.octets)
            if question.operation == arp.REQUEST and question.sender != question.target:
                found.append((packet.destination, question.target))
        else:
            message = nd.decode(packet.octets)
            if isinstance(message, nd.Solicitation):
                found.append((packet.destination, message.target))
    return found


# --- the table of states and events ---------------------------------------------------------------------------------


def test_every_state_has_a_row_for_every_event() -> None:
    assert set(TRANSITIONS) == set(product(NeighbourState, Event))


def in_state(state: NeighbourState, *, wanted: bool = True, address: bytes = HOST) -> tuple[Neighbours, float]:
    """A table whose one neighbour has come to `state` by packets and time alone, and the time."""
    neighbours, now = table(), 0.0
    (neighbours.want if wanted else neighbours.find)(key(address), now)
    learn = (
        (lambda t: neighbours.arp_packet("e1", reply(address), t))
        if len(address) == 4
        else (lambda t: neighbours.nd_packet("e1", advert(target=address), t))
    )
    match state:
        case NeighbourState.REACHABLE:
            learn(now)
        case NeighbourState.PROBING:
            learn(now)
            now = entry(neighbours, address).when
            neighbours.wake(now)
        case NeighbourState.DEAD:
            now = ASK_TIMES * ASK_EVERY
            wait(neighbours, 0.0, now)
    assert entry(neighbours, address).state is state
    neighbours.take_packets()
    neighbours.take_changed()
    return neighbours, now


@pytest.mark.parametrize("state", NeighbourState)
def test_rfc826_an_answer_makes_any_state_reachable(state: NeighbourState) -> None:
    neighbours, now = in_state(state)
    neighbours.arp_packet("e1", reply(mac=OTHER), now + 0.25)
    assert (entry(neighbours).state, entry(neighbours).mac) == (NeighbourState.REACHABLE, OTHER)
    assert neighbours.take_changed() == {key()}
    assert now + 0.25 + REACHABLE * 0.75 <= entry(neighbours).when <= now + 0.25 + REACHABLE * 1.25


@pytest.mark.parametrize(
    ("state", "then"),
    [
        (NeighbourState.ASKING, NeighbourState.ASKING),
        (NeighbourState.REACHABLE, NeighbourState.PROBING),
        (NeighbourState.PROBING, NeighbourState.PROBING),
        (NeighbourState.DEAD, NeighbourState.DEAD),
    ],
)
def test_time_asks_again(state: NeighbourState, then: NeighbourState) -> None:
    neighbours, _ = in_state(state)
    due = neighbours.deadline()
    assert due is not None
    neighbours.wake(due)
    assert entry(neighbours).state is then
    to = PEER if then is NeighbourState.PROBING else BROADCAST
    assert asked(neighbours) == [(to, HOST)]


@pytest.mark.parametrize(("wanted", "left"), [(True, NeighbourState.DEAD), (False, None)])
def test_silence_ends_in_death_and_the_unwanted_are_buried(wanted: bool, left: NeighbourState | None) -> None:
    neighbours, now = in_state(NeighbourState.PROBING, wanted=wanted)
    # PROBING three times to the MAC, ASKING three times to all, then DEAD: the MAC is out of use from ASKING on.
    wait(neighbours, now, now + 2 * ASK_TIMES * ASK_EVERY - 0.5)
    assert asked(neighbours) == [(PEER, HOST)] * (ASK_TIMES - 1) + [(BROADCAST, HOST)] * ASK_TIMES
    wait(neighbours, now, now + 2 * ASK_TIMES * ASK_EVERY)
    assert entry(neighbours).state is NeighbourState.DEAD
    assert entry(neighbours).mac == b""
    wait(neighbours, now, now + 2 * ASK_TIMES * ASK_EVERY + DEAD_FOR - 0.01)
    assert entry(neighbours).state is NeighbourState.DEAD
    wait(neighbours, now, now + 2 * ASK_TIMES * ASK_EVERY + DEAD_FOR)
    after = neighbours.get(key())
    assert (after.state if after else None) is left


def test_a_neighbour_that_is_dead_is_so_until_it_answers_and_nothing_that_rests_on_it_comes_and_goes() -> None:
    """A static route to a CE that is off must not be withdrawn and announced again, to all PEs, with every question."""
    neighbours, now = in_state(NeighbourState.DEAD)
    since = entry(neighbours).since
    wait(neighbours, now, now + 100 * DEAD_FOR)
    assert asked(neighbours) == [(BROADCAST, HOST)] * 100
    assert neighbours.take_changed() == set()
    assert entry(neighbours).since == since
    neighbours.arp_packet("e1", reply(), now + 100 * DEAD_FOR + 1.0)
    assert entry(neighbours).mac == PEER
    assert neighbours.take_changed() == {key()}


def test_a_dead_neighbour_is_not_asked_for_again_by_packets() -> None:
    neighbours, now = in_state(NeighbourState.DEAD, wanted=False)
    for _ in range(100):
        neighbours.find(key(), now)
    assert asked(neighbours) == []


# --- RFC 4861 7.2.5: what an advertisement may change -----------------------------------------------------------------

S = NeighbourState


@pytest.mark.parametrize(
    ("state", "mac", "solicited", "override", "then", "mac_then"),
    [
        # INCOMPLETE: the MAC is taken whatever O says; S decides whether it is confirmed. Without a MAC: discarded.
        (S.ASKING, PEER, True, False, S.REACHABLE, PEER),
        (S.ASKING, PEER, False, False, S.PROBING, PEER),
        (S.ASKING, b"", True, True, S.ASKING, b""),
        (S.DEAD, PEER, False, True, S.PROBING, PEER),
        # O clear and another MAC: a reachable one is doubted, and nothing is changed.
        (S.REACHABLE, OTHER, True, False, S.PROBING, PEER),
        (S.REACHABLE, OTHER, False, False, S.PROBING, PEER),
        (S.PROBING, OTHER, True, False, S.PROBING, PEER),
        # O set, or the MAC that is known, or none at all.
        (S.REACHABLE, OTHER, True, True, S.REACHABLE, OTHER),
        (S.REACHABLE, OTHER, False, True, S.PROBING, OTHER),
        (S.REACHABLE, PEER, False, True, S.REACHABLE, PEER),
        (S.PROBING, PEER, True, False, S.REACHABLE, PEER),
        (S.PROBING, PEER, False, True, S.PROBING, PEER),
        (S.PROBING, b"", True, False, S.REACHABLE, PEER),
        (S.PROBING, b"", False, False, S.PROBING, PEER),
    ],
)
def test_rfc4861_7_2_5_advertisements(
    state: NeighbourState, mac: bytes, solicited: bool, override: bool, then: NeighbourState, mac_then: bytes
) -> None:
    neighbours, now = in_state(state, address=HOST6)
    neighbours.nd_packet("e1", advert(mac, solicited=solicited, override=override), now + 0.1)
    assert (entry(neighbours, HOST6).state, entry(neighbours, HOST6).mac) == (then, mac_then)


def test_rfc4861_7_2_4_a_host_that_omits_its_mac_stays_reachable() -> None:
    """Linux leaves the link-layer option out of the answer to a unicast solicitation; it counts all the same."""
    neighbours, now = in_state(NeighbourState.REACHABLE, address=HOST6)
    for _ in range(5):
        now = neighbours.deadline() or 0.0
        neighbours.wake(now)
        assert asked(neighbours) == [(PEER, HOST6)]
        neighbours.nd_packet("e1", advert(b"", override=False), now)
        assert entry(neighbours, HOST6).state is NeighbourState.REACHABLE
    assert neighbours.take_changed() == set()


def test_rfc4861_7_2_5_no_entry_is_made_for_an_advertisement() -> None:
    neighbours = table()
    neighbours.nd_packet("e1", advert(), 1.0)
    assert neighbours.snapshot() == ()


def test_rfc4861_7_2_3_a_solicitation_is_asked_back() -> None:
    #  host: who has us? I am at PEER        we: it is me;   is that really you?
    neighbours = table()
    neighbours.nd_packet("e1", solicit(), 1.0)
    assert (entry(neighbours, HOST6).state, entry(neighbours, HOST6).mac) == (NeighbourState.PROBING, PEER)
    assert asked(neighbours) == [(PEER, HOST6)]
    neighbours.nd_packet("e1", advert(b"", override=False), 1.1)
    assert entry(neighbours, HOST6).state is NeighbourState.REACHABLE
    # Known at that MAC already: it proves nothing, and changes nothing.
    before = entry(neighbours, HOST6)
    neighbours.nd_packet("e1", solicit(), 2.0)
    assert entry(neighbours, HOST6) == before


def answers(table: Neighbours) -> list[tuple[bytes, nd.Advertisement]]:
    found = []
    for packet in table.take_packets():
        message = nd.decode(packet.octets)
        if isinstance(message, nd.Advertisement):
            found.append((packet.destination, message))
    return found


def test_rfc4861_7_2_4_duplicate_checks_are_answered_to_all_nodes() -> None:
    neighbours = table()
    neighbours.nd_packet("e1", solicit(bytes(16), b""), 1.0)
    all_nodes = a("ff02::1")
    assert answers(neighbours) == [(b"\x33\x33\0\0\0\x01", nd.Advertisement(US6, all_nodes, US6, MAC, solicited=False))]
    assert neighbours.snapshot() == ()


def test_an_asker_that_omits_its_mac_is_answered_where_it_is_known_to_be() -> None:
    neighbours, now = in_state(NeighbourState.REACHABLE, address=HOST6)
    neighbours.nd_packet("e1", solicit(mac=b""), now)
    assert answers(neighbours) == [(PEER, nd.Advertisement(US6, HOST6, US6, MAC))]


# --- who is believed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mac", [BROADCAST, b"\x01\0\x5e\0\0\x01", bytes(6)])
def test_rfc1812_3_3_2_a_groups_mac_is_never_believed_nor_answered(mac: bytes) -> None:
    neighbours, now = in_state(NeighbourState.REACHABLE)
    neighbours.want(key(HOST6), now)
    before = neighbours.snapshot()
    neighbours.take_packets()
    for packet in (request(mac=mac), reply(mac=mac), request(LAST, mac)):
        neighbours.arp_packet("e1", packet, now)
    for message in (advert(mac), solicit(mac=mac)):
        neighbours.nd_packet("e1", message, now)
    assert neighbours.snapshot() == before
    assert neighbours.take_packets() == []
    assert neighbours.refused == {"e1: neighbour with the MAC of a group or of nobody": 5}


def test_rfc5227_2_1_1_a_probe_for_our_address_is_answered_and_nothing_is_learnt() -> None:
    neighbours = table()
    neighbours.arp_packet("e1", request(sender=bytes(4)), 1.0)
    (packet,) = neighbours.take_packets()
    assert arp.decode(packet.octets) == arp.Arp(arp.REPLY, MAC, US, PEER, bytes(4))
    assert (neighbours.snapshot(), neighbours.refused) == ((), {})


def test_whoever_uses_our_address_is_refused_and_counted() -> None:
    neighbours = table()
    neighbours.arp_packet("e1", request(sender=US), 1.0)
    neighbours.arp_packet("e1", reply(sender=US), 1.0)
    neighbours.nd_packet("e1", advert(target=US6), 1.0)
    neighbours.nd_packet("e1", solicit(source=US6), 1.0)
    assert neighbours.snapshot() == ()
    assert neighbours.take_packets() == []
    assert neighbours.refused == {"e1: somebody else uses our address": 4}


def test_a_group_is_no_neighbour_however_wide_our_prefix() -> None:
    neighbours = table(Link(MAC, {US6: AddressRow(0)}, answers=True))
    neighbours.nd_packet("e1", solicit(source=a("ff02::1")), 1.0)
    assert (neighbours.snapshot(), neighbours.take_packets()) == ((), [])
    assert neighbours.refused == {"e1: neighbour from another network": 1}


def test_strangers_are_neither_learnt_nor_answered() -> None:
    neighbours = table()
    neighbours.nd_packet("e1", solicit(source=a("2001:db8:666::1")), 1.0)
    neighbours.nd_packet("e1", solicit(source=a("ff02::1")), 1.0)
    assert (neighbours.snapshot(), neighbours.take_packets()) == ((), [])
    assert neighbours.refused == {"e1: neighbour from another network": 2}


def test_what_the_kernel_answers_for_is_left_to_it() -> None:
    neighbours = table(LINK._replace(answers=False))
    neighbours.arp_packet("e1", request(), 1.0)
    neighbours.nd_packet("e1", solicit(), 1.0)
    assert (neighbours.snapshot(), neighbours.take_packets()) == ((), [])


def test_packets_of_an_interface_that_went_change_nothing() -> None:
    neighbours, now = in_state(NeighbourState.REACHABLE)
    neighbours.set_link("e1", None, now)
    assert neighbours.take_changed() == {key()}
    neighbours.arp_packet("e1", request(), now)
    neighbours.nd_packet("e1", solicit(), now)
    neighbours.find(key(LAST), now)
    assert (neighbours.snapshot(), neighbours.deadline()) == ((), None)
    # It is still wanted: it is asked for when the interface is back.
    neighbours.set_link("e1", LINK, now)
    assert asked(neighbours) == [(BROADCAST, HOST)]


# --- addresses that change --------------------------------------------------------------------------------------------


def test_neither_we_nor_groups_nor_nobody_are_neighbours() -> None:
    neighbours = table()
    for address in (US, b"", a("224.0.0.5"), a("255.255.255.255"), a("0.0.0.0"), a("ff02::5"), a("::")):
        neighbours.want(key(address), 0.0)
        neighbours.find(key(address), 0.0)
    assert (neighbours.snapshot(), neighbours.take_packets()) == ((), [])


def test_a_neighbour_whose_address_becomes_ours_goes() -> None:
    neighbours, now = in_state(NeighbourState.REACHABLE)
    neighbours.set_link("e1", LINK._replace(addresses={US: AddressRow(24), HOST: AddressRow(24)}), now)
    assert neighbours.get(key()) is None
    assert neighbours.take_changed() == {key()}


def test_neighbours_of_a_network_that_left_the_interface_go() -> None:
    neighbours, now = in_state(NeighbourState.REACHABLE, wanted=False)
    neighbours.set_link("e1", LINK._replace(addresses={a("10.2.2.1"): AddressRow(24)}), now)
    assert neighbours.snapshot() == ()


def test_only_new_addresses_are_announced_and_all_of_them_with_a_new_mac() -> None:
    neighbours = table()
    more = {**LINK.addresses, LAST: AddressRow(24)}
    neighbours.set_link("e1", LINK._replace(addresses=more), 1.0)
    (packet,) = neighbours.take_packets()
    assert arp.decode(packet.octets) == arp.Arp(arp.REQUEST, MAC, LAST, bytes(6), LAST)
    neighbours.set_link("e1", Link(OTHER, more, answers=True), 2.0)
    assert len(neighbours.take_packets()) == len(more)


def test_what_an_earlier_incarnation_knew_is_used_at_once_and_confirmed() -> None:
    neighbours = Neighbours(random.Random(7).randbytes)
    neighbours.remember(key(), PEER)
    neighbours.remember(key(a("10.99.0.1")), PEER)  # of a network that is no longer there
    neighbours.set_link("e1", LINK, 5.0)
    (row,) = neighbours.snapshot()
    assert (row.key, row.state, row.mac) == (key(), NeighbourState.PROBING, PEER)
    assert asked(neighbours) == [(PEER, HOST)]


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "MAX_NEIGHBOURS", 8)
    return 8


def addresses(count: int, start: int = 100) -> Iterable[bytes]:
    return (bytes((10, 1, 1, start + number)) for number in range(count))


def test_a_scan_does_not_push_out_hosts_that_answer(small: int) -> None:
    neighbours = table()
    hosts = list(addresses(small - 2))
    for now, address in enumerate(hosts):
        neighbours.find(key(address), now / 10)
        neighbours.arp_packet("e1", reply(address), now / 10)
    for address in addresses(60, start=120):
        neighbours.find(key(address), 1.0)
    held = {row.key.address: row.state for row in neighbours.snapshot()}
    assert len(held) == small
    assert all(held.get(address) is NeighbourState.REACHABLE for address in hosts)


def test_wanted_neighbours_never_make_room(small: int) -> None:
    neighbours = table()
    for address in addresses(small):
        neighbours.want(key(address), 0.0)
    neighbours.find(key(), 0.0)
    neighbours.arp_packet("e1", request(), 0.0)
    assert neighbours.get(key()) is None
    assert neighbours.refused == {"e1: neighbour table is full": 2}
    # Other interfaces have a table of their own.
    neighbours.set_link("e2", LINK, 0.0)
    neighbours.find(AdjacencyKey("e2", HOST), 0.0)
    assert neighbours.get(AdjacencyKey("e2", HOST)) is not None


# --- any packets at any time ------------------------------------------------------------------------------------------

SOME_MACS = st.sampled_from([MAC, PEER, OTHER, BROADCAST, bytes(6), b"\x33\x33\0\0\0\x01"])
V4 = st.sampled_from([US, HOST, LAST, a("10.1.1.255"), a("10.9.9.9"), bytes(4), b"\xff" * 4])
V6 = st.sampled_from([US6, HOST6, LOCAL6, a("fe80::9"), a("2001:db8:9::9"), bytes(16), a("ff02::1")])
OWN4 = V4.filter(lambda address: address[0] not in (0, 0xFF))
OWN6 = V6.filter(lambda address: address[0] not in (0, 0xFF))
NAMES = st.sampled_from(["e1", "e2"])
ROWS = st.builds(AddressRow, st.integers(0, 32))
LINKS = st.none() | st.builds(
    Link,
    st.sampled_from([MAC, b"\x02\0\0\0\0\x77"]),
    st.dictionaries(OWN4, ROWS, max_size=3).flatmap(
        lambda v4: st.dictionaries(OWN6, st.builds(AddressRow, st.integers(0, 128)), max_size=3).map(lambda v6: v4 | v6)
    ),
    st.booleans(),
)


class NeighbourMachine(RuleBasedStateMachine):
    """Links come and go, routes want and forget, packets of all kinds arrive, time passes in any steps."""

    BOUND = 4

    def __init__(self) -> None:
        super().__init__()
        self._bound = module.MAX_NEIGHBOURS
        module.MAX_NEIGHBOURS = self.BOUND  # type: ignore[misc]
        self.table = Neighbours(random.Random(3).randbytes)
        self.now = 0.0
        self.macs: dict[AdjacencyKey, object] = {}

    def teardown(self) -> None:
        module.MAX_NEIGHBOURS = self._bound  # type: ignore[misc]

    @initialize()
    def begin(self) -> None:
        self.table.set_link("e1", LINK, self.now)

    @rule(name=NAMES, link=LINKS)
    def link(self, name: str, link: Link | None) -> None:
        self.table.set_link(name, link, self.now)

    @rule(name=NAMES, address=V4 | V6 | st.just(b""))
    def want(self, name: str, address: bytes) -> None:
        self.table.want(AdjacencyKey(name, address), self.now)

    @rule(name=NAMES, address=V4 | V6 | st.just(b""))
    def unwant(self, name: str, address: bytes) -> None:
        self.table.unwant(AdjacencyKey(name, address))

    @rule(name=NAMES, address=V4 | V6, mac=SOME_MACS)
    def find(self, name: str, address: bytes, mac: bytes) -> None:
        self.table.find(AdjacencyKey(name, address), self.now)

    @rule(name=NAMES, op=st.integers(0, 3), mac=SOME_MACS, sender=V4, whom=V4)
    def arp(self, name: str, op: int, mac: bytes, sender: bytes, whom: bytes) -> None:
        self.table.arp_packet(name, arp.Arp(op, mac, sender, bytes(6), whom), self.now)

    @rule(name=NAMES, source=V6, whom=V6, mac=SOME_MACS | st.just(b""))
    def solicitation(self, name: str, source: bytes, whom: bytes, mac: bytes) -> None:
        self.table.nd_packet(name, nd.Solicitation(source, nd.solicited_node(whom), whom, mac), self.now)

    @rule(name=NAMES, whom=V6, mac=SOME_MACS | st.just(b""), s=st.booleans(), o=st.booleans())
    def advertisement(self, name: str, whom: bytes, mac: bytes, s: bool, o: bool) -> None:
        message = nd.Advertisement(whom, US6, whom, mac, router=False, solicited=s, override=o)
        self.table.nd_packet(name, message, self.now)

    @rule(seconds=st.floats(0, 200, allow_nan=False))
    def pass_time(self, seconds: float) -> None:
        """One late wake is allowed; it always gets the table past its deadline: no busy loop."""
        self.now += seconds
        self.table.wake(self.now)
        due = self.table.deadline()
        assert due is None or due > self.now

    @rule()
    def to_the_deadline(self) -> None:
        due = self.table.deadline()
        if due is not None:
            self.now = max(self.now, due)
            self.table.wake(self.now)
            after = self.table.deadline()
            assert after is None or after > self.now

    @invariant()
    def bounded_and_sane(self) -> None:
        rows = self.table.snapshot()
        for name in ("e1", "e2"):
            assert sum(row.key.interface == name for row in rows) <= self.BOUND
        for row in rows:
            link = self.table.links[row.key.interface]
            assert row.key.address not in link.addresses
            assert bool(row.mac) == (row.state in (NeighbourState.REACHABLE, NeighbourState.PROBING))
            assert not row.mac or (not row.mac[0] & 1 and any(row.mac))
            assert row.asked <= ASK_TIMES
            assert row.since <= self.now
        assert len(self.table.refused) <= 2 * 4

    @invariant()
    def changes_are_told(self) -> None:
        """Whoever looks only at changed keys knows what a reader of the whole table knows."""
        view = {row.key: row.mac or row.state for row in self.table.snapshot()}
        for changed in self.table.take_changed():
            self.macs.pop(changed, None)
            if changed in view:
                self.macs[changed] = view[changed]
        assert self.macs == view

    @invariant()
    def packets_are_well_formed(self) -> None:
        packets = self.table.take_packets()
        assert len(packets) <= 2 * self.BOUND + 8
        for packet in packets:
            assert isinstance(packet, SendNeighbourPacket)
            assert packet.interface in self.table.links
            if packet.ethertype == 0x0806:
                assert arp.decode(packet.octets).sender_mac != BROADCAST
            else:
                nd.decode(packet.octets)


TestNeighbourMachine = NeighbourMachine.TestCase
TestNeighbourMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
