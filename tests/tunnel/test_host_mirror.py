"""The kernel mirror on a host made of sets, which refuses what the test says and forgets what kernels forget."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stack.addr import Prefix
from stack.addr import parse_address as a
from stack.lab.namespace import World
from stack.nettypes import Device, HostRoute
from stack.os.host import OsHost
from tests.conftest import require_root
from tunnel.engine.mirror import HostChange, HostState
from tunnel.io.host import BURST, HostMirror

ADDRESS, OTHER = ("e0", a("10.9.0.1"), 30), ("port", a("192.0.2.1"), 32)
ROUTE = HostRoute(Prefix.parse("192.0.2.8/29"), a("10.9.0.2"), "e0")
MOVED = HostRoute(ROUTE.prefix, a("10.9.0.3"), "e0")
THROUGH = HostRoute(Prefix.parse("10.50.0.0/16"), b"", "port")
UNTAGGED, TAGGED = frozenset({None}), frozenset({10, 20})


class Marked(NamedTuple):
    device: str
    address: bytes
    length: int


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class FakeHost:
    """`refuses`: (method, argument) or method -> errno. Routes map to whether they are ours."""

    def __init__(self) -> None:
        self.indexes = {"e0": 1, "e1": 2, "port": 3}
        self.held: set[tuple[str, bytes, int]] = set()
        self.table: dict[HostRoute, bool] = {}
        self.filters: list[tuple[str, int, frozenset[int | None]]] = []
        self.refuses: dict[Any, int] = {}
        self.marked: tuple[Marked, ...] = ()
        self.calls: list[str] = []

    def _call(self, method: str, argument: Any = None) -> None:
        self.calls.append(method)
        number = self.refuses.get((method, argument)) or self.refuses.get(method)
        if number:
            raise error(number)

    def devices(self) -> tuple[Device, ...]:
        self._call("devices")
        return tuple(Device(name, index, bytes(6), 1500, up=True) for name, index in self.indexes.items())

    def watch(self, changed: Callable[[], None] | None) -> None: ...

    def addresses(self) -> Iterable[tuple[str, bytes, int]]:
        self._call("addresses")
        return list(self.held)

    def add_address(self, device: str, address: bytes, length: int) -> None:
        self._call("add_address", (device, address, length))
        if device not in self.indexes:
            raise error(errno.ENODEV)
        if (device, address, length) in self.held:
            raise error(errno.EEXIST)
        self.held.add((device, address, length))

    def remove_address(self, device: str, address: bytes, length: int) -> None:
        self._call("remove_address", (device, address, length))
        if (device, address, length) not in self.held:
            raise error(errno.EADDRNOTAVAIL)
        self.held.remove((device, address, length))

    def routes(self) -> Iterable[tuple[HostRoute, bool]]:
        self._call("routes")
        return list(self.table.items())

    def add_route(self, route: HostRoute) -> None:
        self._call("add_route", route)
        if route.device not in self.indexes:
            raise error(errno.ENODEV)
        if any(route.prefix == other.prefix for other in self.table):
            raise error(errno.EEXIST)
        self.table[route] = True

    def remove_route(self, route: HostRoute) -> None:
        self._call("remove_route", route)
        if not self.table.get(route):
            raise error(errno.ESRCH)
        del self.table[route]

    def set_link(self, device: str, *, up: bool, mtu: int | None = None) -> None: ...

    def drop_ingress(self, device: str, *, vlans: Iterable[int | None]) -> Callable[[], None]:
        self._call("drop_ingress", device)
        rule = (device, self.indexes[device], frozenset(vlans))
        self.filters.append(rule)

        def undo() -> None:
            self.calls.append("undo")
            if rule in self.filters:
                self.filters.remove(rule)

        return undo

    # --- what happens to a host ---

    def loses_device(self, name: str) -> None:
        """The device went, and everything on it."""
        del self.indexes[name]
        self.held = {row for row in self.held if row[0] != name}
        self.table = {route: ours for route, ours in self.table.items() if route.device != name}
        self.filters = [rule for rule in self.filters if rule[0] != name]

    def gets_device(self, name: str, index: int) -> None:
        self.indexes[name] = index


class MarkingHost(FakeHost):
    def ours(self) -> tuple[Iterable[Marked], Iterable[HostRoute]]:
        return self.marked, [route for route, ours in self.table.items() if ours]


def mirror(host: FakeHost) -> HostMirror:
    return HostMirror(host, structlog.get_logger())


def state(*parts: Any, drops: dict[str, frozenset[int | None]] | None = None) -> HostState:
    addresses = frozenset(part for part in parts if not isinstance(part, HostRoute))
    return HostState(addresses, frozenset(part for part in parts if isinstance(part, HostRoute)), drops or {})


def test_what_is_wanted_comes_and_what_is_not_goes() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(ADDRESS, OTHER, ROUTE, THROUGH, drops={"e1": UNTAGGED}))
    assert (host.held, host.table) == ({ADDRESS, OTHER}, {ROUTE: True, THROUGH: True})
    assert host.filters == [("e1", 2, UNTAGGED)]
    mine.apply(state(OTHER, MOVED))
    assert (host.held, host.table, host.filters) == ({OTHER}, {MOVED: True}, [])
    mine.close()
    assert (host.held, host.table) == (set(), {})
    assert mine.refused == {}


def test_what_stood_there_before_is_adopted_and_stays() -> None:
    host = FakeHost()
    host.held.add(ADDRESS)
    host.table[ROUTE] = False
    mine = mirror(host)
    mine.apply(state(ADDRESS, ROUTE))
    assert "add_address" not in host.calls
    assert "add_route" not in host.calls
    mine.close()
    assert (host.held, host.table) == ({ADDRESS}, {ROUTE: False})


def test_routes_and_addresses_of_an_earlier_process_are_swept() -> None:
    host = MarkingHost()
    host.table = {ROUTE: True, THROUGH: False}
    host.held = {ADDRESS, OTHER, ("e1", a("10.1.1.1"), 24)}
    host.marked = (Marked(*ADDRESS), Marked(*OTHER))
    mine = mirror(host)
    mine.sweep()
    assert host.table == {THROUGH: False}
    assert ADDRESS in host.held  # wanted or not is not known yet, and a session may hang on it
    mine.apply(state(ADDRESS))
    assert host.held == {ADDRESS, ("e1", a("10.1.1.1"), 24)}
    mine.close()
    assert host.held == {("e1", a("10.1.1.1"), 24)}


def test_a_refusal_is_tried_again_and_logged_once() -> None:
    host = FakeHost()
    mine = mirror(host)
    host.refuses = {("add_route", ROUTE): errno.ENETUNREACH, ("add_address", ADDRESS): errno.EPERM}
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            mine.apply(state(ADDRESS, ROUTE))
    assert len(logs) == 2
    assert mine.refused == {
        "add route 192.0.2.8/29": "Network is unreachable",
        "add address 10.9.0.1 to e0": "Operation not permitted",
    }
    host.refuses = {}
    mine.retry()
    assert (host.held, host.table, mine.refused) == ({ADDRESS}, {ROUTE: True}, {})


def test_a_refused_removal_is_tried_again_too() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(ADDRESS, ROUTE))
    host.refuses = {"remove_address": errno.EBUSY, "remove_route": errno.EBUSY}
    mine.apply(state())
    assert len(mine.refused) == 2
    host.refuses = {}
    mine.retry()
    assert (host.held, host.table) == (set(), {})


def test_a_host_that_cannot_be_read_changes_nothing_and_is_read_again() -> None:
    host = FakeHost()
    mine = mirror(host)
    host.refuses = dict.fromkeys(("devices", "addresses", "routes"), errno.ENOBUFS)
    mine.sweep()
    mine.apply(state(ADDRESS, ROUTE, drops={"e1": UNTAGGED}))
    assert (host.held, host.table, host.filters) == (set(), {}, [])
    assert len(mine.refused) == 3
    host.refuses = {}
    mine.retry()
    assert (host.held, host.table, len(host.filters)) == ({ADDRESS}, {ROUTE: True}, 1)


def test_refusals_are_no_longer_than_what_is_wanted() -> None:
    host = FakeHost()
    host.refuses = {"add_address": errno.EPERM}
    mine = mirror(host)
    for number in range(50):
        mine.apply(state(("e0", bytes((10, 0, 0, number)), 32)))
    assert len(mine.refused) == 1


def test_routes_that_the_kernel_dropped_with_their_link_come_back() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(ADDRESS, ROUTE))
    host.table.clear()  # as Linux does when a link goes down
    mine.retry()
    assert host.table == {ROUTE: True}


def test_a_device_that_comes_back_gets_everything_again() -> None:
    host = FakeHost()
    mine = mirror(host)
    wanted = state(ADDRESS, ROUTE, drops={"e0": TAGGED})
    mine.apply(wanted)
    host.loses_device("e0")
    mine.retry()
    host.gets_device("e0", 9)
    mine.retry()
    assert (host.held, host.table, host.filters) == ({ADDRESS}, {ROUTE: True}, [("e0", 9, TAGGED)])


def test_an_address_that_others_put_on_a_replaced_device_is_theirs() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(ADDRESS))
    host.refuses = {"addresses": errno.EBUSY}  # what the device has cannot be seen
    host.loses_device("e0")
    mine.retry()
    host.gets_device("e0", 19)
    mine.retry()
    host.held.add(ADDRESS)
    host.refuses = {}
    mine.close()
    assert host.held == {ADDRESS}


def test_a_device_that_was_replaced_between_two_looks_is_filtered_again() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(drops={"e1": UNTAGGED}))
    host.loses_device("e1")
    host.gets_device("e1", 17)
    mine.retry()
    assert host.filters == [("e1", 17, UNTAGGED)]


def test_no_packet_slips_through_while_a_filter_changes() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(drops={"e1": UNTAGGED}))
    host.calls.clear()
    mine.apply(state(drops={"e1": UNTAGGED | TAGGED}))
    assert [call for call in host.calls if call in ("drop_ingress", "undo")] == ["drop_ingress", "undo"]
    assert host.filters == [("e1", 2, UNTAGGED | TAGGED)]
    host.refuses = {"drop_ingress": errno.EINVAL}
    mine.apply(state(drops={"e1": TAGGED}))
    assert host.filters == [("e1", 2, UNTAGGED | TAGGED)]  # better the old one than none


def test_nothing_is_taken_away_while_a_new_incarnation_is_told_what_is_wanted() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(ADDRESS, OTHER, ROUTE, THROUGH, drops={"e1": UNTAGGED}))
    mine.hold = True
    mine.apply(state(MOVED, drops={"e0": TAGGED}))
    assert host.held == {ADDRESS, OTHER}
    assert host.table == {MOVED: True, THROUGH: True}  # a route that moved is replaced: two of a prefix cannot be
    assert host.filters == [("e1", 2, UNTAGGED), ("e0", 1, TAGGED)]
    mine.hold = False
    mine.retry()
    assert (host.held, host.table, host.filters) == (set(), {MOVED: True}, [("e0", 1, TAGGED)])


MANY = {Prefix((10 << 24 | number).to_bytes(4), 32): None for number in range(2 * BURST + 1)}
MANY_ROUTES = {prefix: HostRoute(prefix, a("10.9.0.2"), "e0") for prefix in MANY}


def test_a_change_touches_only_what_changed_and_reads_nothing() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(ADDRESS, ROUTE, THROUGH))
    host.calls.clear()
    mine.change(HostChange(frozenset({ADDRESS}), {}, {ROUTE.prefix: MOVED, THROUGH.prefix: None}))
    assert host.calls == ["remove_route", "add_route", "remove_route"]
    assert host.table == {MOVED: True}


def test_many_routes_are_changed_in_many_turns() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.change(HostChange(routes=MANY_ROUTES))
    for turn in (1, 2):
        assert (len(host.table), mine.busy) == (turn * BURST, True)
        mine.work()
    assert (set(host.table), mine.busy) == (set(MANY_ROUTES.values()), False)
    mine.change(HostChange(routes=MANY))
    assert len(host.table) == BURST + 1
    mine.close()  # the process ends: there is no other turn
    assert (host.table, mine.refused) == ({}, {})


def test_a_route_that_others_put_there_since_is_read_before_anything_else_and_adopted() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(ADDRESS))
    host.table = dict.fromkeys(MANY_ROUTES.values(), False)  # a daemon of the host learnt the same routes
    host.calls.clear()
    mine.change(HostChange(frozenset({ADDRESS}), {}, MANY_ROUTES))
    assert (host.calls, mine.clash, mine.busy) == (["add_route"], True, False)
    mine.reconcile(mine.read_routes())
    while mine.busy:
        mine.work()
    assert (host.calls, mine.clash, mine.refused) == (["add_route", "routes"], False, {})
    mine.close()
    assert set(host.table.values()) == {False}


def test_a_refused_route_makes_what_we_think_stale_and_comes_with_the_next_look() -> None:
    host = FakeHost()
    mine = mirror(host)
    mine.apply(state(ADDRESS))
    assert not mine.stale
    host.refuses = {"add_route": errno.ENETUNREACH}
    mine.change(HostChange(frozenset({ADDRESS}), {}, {ROUTE.prefix: ROUTE}))
    assert (mine.stale, mine.busy, list(mine.refused)) == (True, False, ["add route 192.0.2.8/29"])
    host.refuses = {}
    mine.reconcile(mine.read_routes())
    mine.work()
    assert (mine.stale, host.table, mine.refused) == (False, {ROUTE: True}, {})


ADDRESSES = st.sampled_from([ADDRESS, OTHER, ("e1", a("2001:db8::1"), 128)])
ROUTES = st.sampled_from([ROUTE, THROUGH, HostRoute(Prefix.parse("::/0"), b"", "port")])
DROPS = st.dictionaries(st.sampled_from(["e0", "e1"]), st.sampled_from([UNTAGGED, TAGGED]), max_size=2)


class MirrorMachine(RuleBasedStateMachine):
    """Wishes change, the host refuses, loses and gets things, others add theirs: in the end it is as wished, and close
    leaves only what is the others'."""

    def __init__(self) -> None:
        super().__init__()
        self.host = FakeHost()
        self.mirror = mirror(self.host)
        self.wanted = HostState()
        self.theirs: set[Any] = set()

    @rule(addresses=st.sets(ADDRESSES), routes=st.sets(ROUTES), drops=DROPS)
    def wish(self, addresses: set[Any], routes: set[HostRoute], drops: dict[str, frozenset[int | None]]) -> None:
        self.wanted = HostState(frozenset(addresses), frozenset(routes), drops)
        self.mirror.apply(self.wanted)

    @rule(addresses=st.sets(ADDRESSES), routes=st.sets(ROUTES))
    def wish_otherwise(self, addresses: set[Any], routes: set[HostRoute]) -> None:
        before, wanted = ({route.prefix: route for route in rows} for rows in (self.wanted.routes, routes))
        changed = {p: wanted.get(p) for p in before | wanted if before.get(p) != wanted.get(p)}
        self.wanted = HostState(frozenset(addresses), frozenset(routes), self.wanted.drops)
        self.mirror.change(HostChange(self.wanted.addresses, self.wanted.drops, changed))

    @rule(methods=st.sets(st.sampled_from(["add_address", "remove_address", "add_route", "remove_route", "drop_ingress",
                                           "devices", "addresses", "routes"])))  # fmt: skip
    def refuse(self, methods: set[str]) -> None:
        self.host.refuses = dict.fromkeys(methods, errno.EBUSY)

    @rule(name=st.sampled_from(["e0", "e1", "port"]), index=st.integers(10, 99))
    def flap(self, name: str, index: int) -> None:
        if name in self.host.indexes:
            self.host.loses_device(name)
            self.theirs = {row for row in self.theirs if (row.device if isinstance(row, HostRoute) else row[0]) != name}
        else:
            self.host.gets_device(name, index)
        self.mirror.retry()

    @rule()
    def kernel_drops_routes(self) -> None:
        self.host.table = {route: ours for route, ours in self.host.table.items() if not ours}

    @rule(row=ADDRESSES)
    def others_add(self, row: Any) -> None:
        if row[0] in self.host.indexes and row not in self.host.held:
            self.host.held.add(row)
            self.theirs.add(row)

    @rule(route=ROUTES)
    def others_route(self, route: HostRoute) -> None:
        if route.device in self.host.indexes and all(route.prefix != other.prefix for other in self.host.table):
            self.host.table[route] = False
            self.theirs.add(route)

    @rule()
    def peace(self) -> None:
        """Nothing is refused and every device is there: the host is as wished."""
        self.host.refuses = {}
        for name in ("e0", "e1", "port"):
            self.host.indexes.setdefault(name, len(self.host.calls) + 100)
        self.mirror.retry()
        assert self.host.held - self.theirs == self.wanted.addresses - self.theirs
        ours = {route for route, mine in self.host.table.items() if mine}
        assert ours == {route for route in self.wanted.routes if self.host.table.get(route) is not False}
        assert {(name, vlans) for name, _, vlans in self.host.filters} == set(self.wanted.drops.items())
        assert len(self.host.filters) == len(self.wanted.drops)
        assert self.mirror.refused == {}

    @invariant()
    def theirs_is_never_touched(self) -> None:
        for row in self.theirs:
            assert row in self.host.held or self.host.table.get(row) is False

    def teardown(self) -> None:
        self.host.refuses = {}
        self.mirror.close()
        assert self.host.held == {row for row in self.theirs if not isinstance(row, HostRoute)}
        assert set(self.host.table) == {row for row in self.theirs if isinstance(row, HostRoute)}
        assert self.host.filters == []


TestMirrorMachine = MirrorMachine.TestCase
TestMirrorMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


# --- a real kernel ----------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_on_a_real_kernel_a_killed_process_is_cleaned_up_after_and_a_link_may_flap() -> None:
    require_root()
    wanted = HostState(
        frozenset({("e0", a("10.9.0.1"), 30), ("e0", a("2001:db8:9::1"), 64)}),
        frozenset({ROUTE, HostRoute(Prefix.parse("2001:db8:77::/48"), a("2001:db8:9::2"), "e0")}),
        {"e1": UNTAGGED},
    )

    def keys(routes: Iterable[HostRoute]) -> set[tuple[Any, ...]]:
        return {(route.prefix, route.via, route.device) for route in routes}

    def ours(host: OsHost) -> set[tuple[Any, ...]]:
        return keys(route for route, mine in host.routes() if mine)

    def addresses(host: OsHost) -> set[tuple[str, bytes, int]]:
        return {row for row in host.addresses() if row[0] == "e0" and row[1][:2] != b"\xfe\x80"}

    def act() -> None:
        host = OsHost()
        killed = mirror(host)
        killed.apply(wanted)
        assert killed.refused == {}
        assert (ours(host), addresses(host)) == (keys(wanted.routes), wanted.addresses)
        # The process is killed: nobody closes anything. The next one takes over, and wants less.
        heir = mirror(host)
        heir.sweep()
        assert ours(host) == set()
        less = HostState(frozenset({("e0", a("10.9.0.1"), 30)}), frozenset({ROUTE}))
        heir.apply(less)
        assert (ours(host), heir.refused) == (keys({ROUTE}), {})
        if host.ours()[0]:  # kernels before 5.18 have no mark for addresses
            assert addresses(host) == less.addresses
        # The kernel drops routes with their link, and says nothing of it.
        host.set_link("e0", up=False)
        assert ours(host) == set()
        heir.retry()
        assert list(heir.refused) == ["add route 192.0.2.8/29"]
        host.set_link("e0", up=True)
        heir.retry()
        assert (ours(host), heir.refused) == (keys({ROUTE}), {})
        heir.close()
        assert (ours(host), addresses(host) - wanted.addresses) == (set(), set())
        killed.close()  # what it still remembers is gone: no complaint
        assert killed.refused == {}
        host.close()

    with World() as world:
        here, there = world.add("mirror"), world.add("there")
        world.cable(here, "e0", there, "e0")
        world.cable(here, "e1", there, "e1")
        here.run(act)
