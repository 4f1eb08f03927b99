"""Every check of a lab against a testbed that is made up: green for what is right, red with the right words for what is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stack.addr import parse_address as a
from stack.control import ControlError
from stack.ios.command import CommandError
from stack.lab.checks import KINDS, judge
from stack.lab.conduct import POLL, Conduct, Row
from stack.lab.scenario import Check, Host, Sabotage, Scenario, ScenarioError, replaced
from stack.lab.testbed import Answer, BackendError
from tests.stack.lab.test_lab_frames import echo, frame, gre, labels, v4, v6

HOSTS = {
    "red1": Host("Red", ["10.1.1.10/24", "2001:db8:1::10/64"], []),
    "red2": Host("Red", ["10.1.2.10/24", "2001:db8:2::10/64"], []),
    "red3": Host("Red", ["10.1.3.10/24"], []),
    "blue1": Host("Blue", ["10.1.1.10/24"], []),
    "blue2": Host("Blue", ["10.1.2.10/24"], []),
    "green1": Host("Green", ["10.1.1.10/24"], []),
}
RED, BLUE = 100, 140
"""Data octets of the customers' pings."""

SCENARIO = Scenario(
    name="s",
    title="t",
    node={"pe1": "hostname pe1\nkey 1\n", "pe2": "hostname pe2\n"},
    router={},
    host=HOSTS,
    link={
        "core": (("pe1", "Ethernet0/0"), ("pe2", "Ethernet0/0")),
        "red1": (("pe1", "Ethernet0/1"), ("red1", "eth0")),
        "blue1": (("pe1", "Ethernet0/2"), ("blue1", "eth0")),
    },
    checks=(),
    sabotage={},
)
REPLY, TIMEOUT = Answer("reply", "10.1.2.10"), Answer("timeout")


class FakeTestbed:
    """Time passes only in `pause`. Answers come from functions that see the time."""

    backend = "fake"

    def __init__(self) -> None:
        self.time = 0.0
        self.log: list[tuple[Any, ...]] = []
        self.pings: Callable[[str, str, int], Answer] = lambda _host, _to, _ttl: REPLY
        self.shows: Callable[[str, str], Any] = lambda _node, _command: []
        self.links: dict[str, list[bytes]] = {}
        self.trouble: dict[str, Exception] = {}

    def _do(self, *what: Any) -> None:
        self.log.append(what)
        if what[0] in self.trouble:
            raise self.trouble[what[0]]

    async def start(self, capture: Path | None) -> None: ...

    async def stop(self) -> None: ...

    async def ping(
        self, host: str, destination: str, *, count: int, size: int, ttl: int = 64, timeout: float = 1.0  # noqa: ASYNC109
    ) -> Sequence[Answer]:  # fmt: skip
        self._do("ping", host, destination, size, ttl)
        assert count == 1
        return [self.pings(host, destination, ttl)]

    async def show(self, node: str, command: str) -> Any:
        self._do("show", node, command)
        return self.shows(node, command)

    async def text(self, node: str, command: str) -> str:
        self._do("text", node, command)
        return str(self.shows(node, command))

    async def configure(self, node: str, text: str) -> None:
        self._do("configure", node, text)

    async def kill(self, node: str) -> None:
        self._do("kill", node)

    async def revive(self, node: str) -> None:
        self._do("revive", node)

    def frames(self, link: str) -> Sequence[bytes]:
        return self.links.get(link, [])

    def forget(self) -> None: ...

    def inject(self, link: str, frame: bytes) -> None: ...

    def now(self) -> float:
        return self.time

    async def pause(self, seconds: float) -> None:
        self.time += seconds


def check(bed: FakeTestbed, kind: str, *, within: float = 1.0, sabotage: Sabotage | None = None, **words: Any) -> Row:
    conduct = Conduct(SCENARIO, bed, sabotage)
    assert KINDS[kind].words <= set(words) <= KINDS[kind].words | KINDS[kind].may
    return asyncio.run(judge(conduct, Check("row", kind, words, within)))


def green(row: Row, seen: str) -> None:
    assert (row.ok, row.seen) == (True, seen)


def red(row: Row, seen: str) -> None:
    assert (row.ok, row.seen) == (False, seen)


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_what_is_not_there_yet_is_looked_for_until_time_is_up() -> None:
    bed = FakeTestbed()
    bed.pings = lambda *_: REPLY if bed.time >= 0.75 else TIMEOUT
    row = check(bed, "ping", host="red1", to="10.1.2.10")
    green(row, "red1 reaches 10.1.2.10")
    assert 0.75 <= row.seconds <= 0.75 + POLL
    bed.time = -10.0
    row = check(bed, "ping", host="red1", to="10.1.2.10")
    red(row, "red1 to 10.1.2.10: timeout")
    assert 1.0 <= row.seconds <= 1.0 + POLL


@pytest.mark.parametrize(
    "trouble",
    [
        CommandError("service bgp is down"),
        ControlError("no node listens"),
        BackendError("pe2 did not come up"),
        ConnectionResetError("reset"),
    ],
)
def test_a_node_that_is_away_for_a_moment_is_waited_for_and_then_a_red_row(trouble: Exception) -> None:
    bed = FakeTestbed()
    bed.trouble["show"] = trouble
    red(check(bed, "sessions", nodes={"pe1": 1}), str(trouble))
    assert len(bed.log) > 5
    bed.trouble = {"revive": trouble}
    red(check(bed, "revive", node="pe2", observer="pe1"), str(trouble))
    bed.trouble = {"configure": trouble}
    red(check(bed, "configure", node="pe2", observer="pe1", replace=[]), str(trouble))


def test_a_bug_in_a_check_is_not_taken_for_a_red_row() -> None:
    bed = FakeTestbed()
    bed.trouble["show"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        check(bed, "sessions", nodes={"pe1": 1})


# --- control plane ----------------------------------------------------------------------------------------------------


def summary(*peers: tuple[str, str, str]) -> list[dict[str, Any]]:
    rows = [{"vrf": vrf, "neighbor-address": address, "session-state": state} for vrf, address, state in peers]
    return [{"address-family": family, "neighbors": rows} for family in ("vpnv4", "vpnv6")]


def test_sessions_are_counted_once_whatever_their_families() -> None:
    bed = FakeTestbed()
    up = summary(("", "192.0.2.2", "ESTABLISHED"), ("red", "192.0.2.2", "ESTABLISHED"), ("", "192.0.2.3", "ACTIVE"))
    bed.shows = lambda node, _: up if node == "pe1" else summary(("", "192.0.2.1", "ESTABLISHED"))
    green(check(bed, "sessions", nodes={"pe1": 2, "pe2": 1}), "3 session ends established")
    red(check(bed, "sessions", nodes={"pe1": 3, "pe2": 1}), "established pe1: 2 of 3")
    assert bed.log[0] == ("show", "pe1", "show bgp summary")


def test_endpoints() -> None:
    bed = FakeTestbed()
    bed.shows = lambda *_: [
        {"tunnel": "Tunnel0", "endpoints": [{"transport": "192.0.2.3"}, {"transport": "192.0.2.2"}]}
    ]
    green(
        check(bed, "endpoints", node="pe1", present=["192.0.2.2"], absent=["192.0.2.9"]), "pe1 has 192.0.2.2, 192.0.2.3"
    )
    red(
        check(bed, "endpoints", node="pe1", present=["192.0.2.2", "192.0.2.8", "192.0.2.9"]),
        "pe1 lacks 192.0.2.8, 192.0.2.9; it has 192.0.2.2, 192.0.2.3",
    )
    red(check(bed, "endpoints", node="pe1", absent=["192.0.2.2"]), "pe1 still has 192.0.2.2")
    bed.shows = lambda *_: []
    red(check(bed, "endpoints", node="pe1", present=["192.0.2.2"]), "pe1 lacks 192.0.2.2; it has none")


# --- pings ------------------------------------------------------------------------------------------------------------


def test_a_mesh_is_every_host_to_every_other_of_the_customer() -> None:
    bed = FakeTestbed()
    green(check(bed, "mesh", customer="Red", family=4), "6 of 6 pairs")
    assert {(what[1], what[2]) for what in bed.log} == {
        (one, HOSTS[other].addresses[0].partition("/")[0])
        for one in ("red1", "red2", "red3")
        for other in ("red1", "red2", "red3")
        if one != other
    }
    assert {what[3] for what in bed.log} == {RED}
    bed.log.clear()
    green(check(bed, "mesh", customer="Blue", family=4), "2 of 2 pairs")
    assert {what[3] for what in bed.log} == {BLUE}


def test_a_mesh_with_a_hole() -> None:
    bed = FakeTestbed()
    bed.pings = lambda host, to, _: TIMEOUT if (host, to) == ("red2", "10.1.3.10") else REPLY
    red(check(bed, "mesh", customer="Red", family=4), "5 of 6 pairs; red2 to red3: timeout")
    red(check(FakeTestbed(), "mesh", customer="Red", family=6), "red3 has no IPv6 address")


@pytest.mark.parametrize(("customer", "count"), [("Green", 1), ("Nobody", 0)])
def test_a_mesh_of_less_than_two_would_mean_nothing(customer: str, count: int) -> None:
    row = check(FakeTestbed(), "mesh", customer=customer, family=4)
    red(row, f"hosts of {customer}: {count}, two are wanted to ping each other")


def test_unreachable_must_be_said_by_somebody() -> None:
    bed = FakeTestbed()
    bed.pings = lambda *_: Answer("host unreachable", "10.1.1.1")
    green(check(bed, "unreachable", host="blue1", to="10.7.2.1"), "host unreachable from 10.1.1.1")
    bed.pings = lambda *_: REPLY
    red(check(bed, "unreachable", host="blue1", to="10.7.2.1"), "blue1 reaches 10.7.2.1, answered by 10.1.2.10")
    bed.pings = lambda *_: TIMEOUT
    red(check(bed, "unreachable", host="blue1", to="10.7.2.1"), "nobody says that there is no way to 10.7.2.1: timeout")


def test_a_path_hop_by_hop() -> None:
    bed = FakeTestbed()
    hops = ["10.1.1.1", "10.1.2.1", "10.1.2.10"]
    missed = [True]

    def answer(_host: str, _to: str, ttl: int) -> Answer:
        if ttl == 2 and missed.pop():
            missed.append(False)
            return TIMEOUT  # answers about errors are rate limited
        return Answer("reply" if ttl == 3 else "time-exceeded", hops[ttl - 1])

    bed.pings = answer
    green(check(bed, "path", host="red1", to="10.1.2.10", hops=hops), "10.1.1.1 > 10.1.2.1 > 10.1.2.10")
    bed.pings = lambda _host, _to, ttl: TIMEOUT if ttl == 2 else Answer("time-exceeded", hops[ttl - 1])
    red(check(bed, "path", host="red1", to="10.1.2.10", hops=hops), "10.1.1.1 > timeout > 10.1.2.10")


# --- what crosses the links -------------------------------------------------------------------------------------------

ONE, TWO, FAR, PE1, PE2 = a("10.1.1.10"), a("10.1.2.10"), a("10.7.2.1"), a("192.0.2.1"), a("192.0.2.2")


def customers(to: bytes = TWO, size: int = RED) -> bytes:
    return v4(echo(8, size), ends=(ONE, to))


def tunnelled(to: bytes = TWO, key: int | None = 7, size: int = RED) -> bytes:
    return frame(0x0800, v4(gre(0x8847, labels(17) + customers(to, size), key=key), 47, (PE1, PE2)))


def by_lsp(to: bytes = FAR) -> bytes:
    return frame(0x8847, labels(502, 17) + customers(to))


@pytest.mark.parametrize(
    ("frames", "lsp", "seen"),
    [
        ([by_lsp(), tunnelled()], ["10.7.2.0/24"], "0x8847 frames 1, GRE 0x8847 1, key 7"),
        ([tunnelled(), tunnelled()], [], "0x8847 frames 0, GRE 0x8847 2, key 7"),
    ],
)
def test_both_encapsulations_each_its_own(frames: list[bytes], lsp: list[str], seen: str) -> None:
    bed = FakeTestbed()
    bed.links["core"] = frames
    green(check(bed, "encapsulation", link="core", lsp=lsp, gre_key=7), seen)


@pytest.mark.parametrize(
    ("frames", "lsp", "seen"),
    [
        ([], [], "no GRE packet carries a label"),
        ([tunnelled()], ["10.7.2.0/24"], "0 frames of EtherType 0x8847, some wanted"),
        ([by_lsp(), tunnelled()], [], "1 frames of EtherType 0x8847, none wanted"),
        ([by_lsp()], ["10.7.2.0/24"], "no GRE packet carries a label"),
        ([by_lsp(), by_lsp(TWO), tunnelled()], ["10.7.2.0/24"], "by LSP to 10.1.2.10, which belongs in the tunnel"),
        (
            [by_lsp(), tunnelled(), tunnelled(FAR)],
            ["10.7.2.0/24"],
            "in the tunnel to 10.7.2.1, which belongs on the LSP",
        ),
        ([tunnelled(), tunnelled(key=8)], [], "GRE keys ['7', '8'], 7 wanted"),
        ([tunnelled(key=None)], [], "GRE keys ['None'], 7 wanted"),
    ],
)
def test_encapsulations_that_are_wrong(frames: list[bytes], lsp: list[str], seen: str) -> None:
    bed = FakeTestbed()
    bed.links["core"] = frames
    red(check(bed, "encapsulation", link="core", lsp=lsp, gre_key=7), seen)


def test_nothing_clear_may_cross() -> None:
    bed = FakeTestbed()
    others = frame(0x0800, v4(echo(8, 56)))  # nobody's size
    bed.links["core"] = [tunnelled(), by_lsp(), others, frame(0x0806, bytes(28))]
    green(check(bed, "clear", links=["core"]), "0 of 4 frames")
    for bare in (
        frame(0x0800, customers(size=BLUE)),
        frame(0x0800, v4(gre(0x0800, customers()), 47, (PE1, PE2))),  # in GRE, but under no label
        frame(0x86DD, v6(echo(129, RED))),
    ):
        bed.links["core"] = [tunnelled(), bare]
        row = check(bed, "clear", links=["red1", "core"])
        assert not row.ok
        assert row.seen.startswith("1 on core, to ")
    bed.links = {}
    red(check(bed, "clear", links=["core"]), "nothing was captured at all")


def test_customers_see_only_their_own() -> None:
    bed = FakeTestbed()
    mine, foreign = frame(0x0800, customers()), frame(0x0800, customers(size=BLUE))
    bed.links = {"red1": [mine, mine, frame(0x0806, bytes(28))], "blue1": [foreign], "core": [mine, foreign]}
    green(check(bed, "isolation"), "0 of 3 echoes")
    bed.links["red1"].append(foreign)
    red(check(bed, "isolation"), "1 echoes of Blue at red1")
    bed.links = {"core": [mine]}
    red(check(bed, "isolation"), "no echo was captured at all")


# --- what is done to nodes --------------------------------------------------------------------------------------------

ENDPOINTS = [{"tunnel": "Tunnel0", "endpoints": [{"transport": "192.0.2.2"}]}]


def test_configure_starts_from_the_scenarios_text() -> None:
    bed = FakeTestbed()
    bed.shows = lambda *_: ENDPOINTS
    words = {"node": "pe1", "observer": "pe2", "present": ["192.0.2.2"], "ping": ["red1", "10.1.2.10"]}
    row = check(bed, "configure", replace=[["key 1", "key 2"]], **words)
    green(row, "pe2 has 192.0.2.2, red1 reaches 10.1.2.10")
    assert bed.log[0] == ("configure", "pe1", "hostname pe1\nkey 2\n")
    red(
        check(bed, "configure", node="pe1", observer="pe2", replace=[["key 9", ""]]),
        "there is no 'key 9' to replace",
    )
    assert ("configure", "pe1", "hostname pe1\n\n") not in bed.log


def test_kill_and_revive() -> None:
    bed = FakeTestbed()
    bed.shows = lambda *_: []
    row = check(bed, "kill", node="pe2", observer="pe1", absent=["192.0.2.2"], unaffected=["red1", "10.1.3.10"])
    green(row, "pe1 has none")
    assert bed.log[0] == ("kill", "pe2")
    bed.pings = lambda *_: TIMEOUT
    row = check(bed, "kill", node="pe2", observer="pe1", unaffected=["red1", "10.1.3.10"])
    red(row, "red1 to 10.1.3.10, which does not pass pe2: timeout")
    bed.shows = lambda *_: ENDPOINTS
    bed.log.clear()
    green(check(bed, "revive", node="pe2", observer="pe1", present=["192.0.2.2"]), "pe1 has 192.0.2.2")
    assert bed.log[0] == ("revive", "pe2")


def test_sabotage_is_carried_out_where_it_says() -> None:
    conduct = Conduct(SCENARIO, FakeTestbed(), Sabotage(["row"], "pe1", [("key 1", "key 9")]))
    assert conduct.text("pe1") == "hostname pe1\nkey 9\n"
    assert conduct.text("pe2") == SCENARIO.node["pe2"]
    everywhere = Conduct(SCENARIO, FakeTestbed(), Sabotage(["row"], "*", [("hostname", "! hostname")]))
    assert all(everywhere.text(node).startswith("! hostname") for node in SCENARIO.node)
    bed = FakeTestbed()
    check(bed, "revive", node="pe2", observer="pe1", sabotage=Sabotage(["row"], stays_dead="pe2"))
    check(
        bed,
        "kill",
        node="pe2",
        observer="pe1",
        unaffected=["red1", "10.1.3.10"],
        sabotage=Sabotage(["row"], survives="pe2"),
    )
    assert not [what for what in bed.log if what[0] in ("kill", "revive")]


def test_a_replacement_that_would_prove_nothing() -> None:
    assert replaced("a b a", [("a", "c"), ("c b", "d")]) == "d c"
    with pytest.raises(ScenarioError, match="no 'x' to replace"):
        replaced("a b", [("a", "c"), ("x", "y")])
