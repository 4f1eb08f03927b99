"""Shortcuts (Route.override): a next-hop override where another owner has the prefix, an H route where none has.

10.60.1.0/24  shortcut by Tunnel5, straight to the other spoke     (nhrp)
              by Tunnel6, to the hub                               (bgp)
              by Ethernet0/0, in clear                             (static, kernel)
10.60.0.0/16  less specific: by Tunnel6, by Ethernet0/0, Null0, or another shortcut
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stack.addr import Prefix, parse_address
from stack.events import AdjacencyKey, AdjacencyWanted, Delta, InterfaceKind, Route, RouteSelected
from stack.routing.engine import Publish
from stack.tables.fib import FibWriter, LeafKind
from tests.stack.routing.rig import CORE, Item, Rig, interface, link, neighbour, route, via, wanted

P, A = Prefix.parse, parse_address
NHRP, GONE = frozenset({"nhrp"}), "no security association: gone"
NEAR, WIDE = "10.60.1.0/24", "10.60.0.0/16"


def tunnel(name: str, *, up: bool = True, protection: str = "gold") -> tuple[Item, ...]:
    return (
        interface(name, InterfaceKind.TUNNEL, point_to_point=True, mpls=True, protection=protection),
        link(name),
        neighbour(name, usable=up, reason="" if up else GONE),
    )


def shortcut(prefix: str = NEAR, name: str = "Tunnel5") -> Item:
    return route(prefix, via(interface=name), owner="nhrp", distance=250, override=True)


def by_bgp(prefix: str = NEAR) -> Item:
    return route(prefix, via(interface="Tunnel6"), owner="bgp", distance=20)


def in_clear(prefix: str = NEAR) -> Item:
    return route(prefix, via("10.0.12.2"))


def of_host(prefix: str = NEAR) -> Item:
    return (*route(prefix, owner="tunnel")[:4], Route(254, (via("10.0.12.2"),), "kernel"))


def discard(prefix: str = NEAR) -> Item:
    return route(prefix, owner="static 7", distance=7)


def way(rig: Rig, text: str = "10.60.1.1") -> str:
    """Where a packet goes: the interface, or why nowhere."""
    leaf = rig.leaf(text)
    if leaf is None or leaf.kind is LeafKind.DISCARD:
        return "dropped"
    hop = rig.tables.nexthops.get(leaf.next_hop)
    return "dropped" if hop.reason or hop.adjacency is None else hop.adjacency.interface


# --- one by one -------------------------------------------------------------------------------------------------------


def test_alone_it_is_a_route_of_its_own_that_nhrp_does_not_see() -> None:
    rig = Rig().give(*CORE, *tunnel("Tunnel5"), *tunnel("Tunnel6"), by_bgp(WIDE), shortcut())
    assert way(rig) == "Tunnel5"
    assert rig.published[RouteSelected, ""][P(NEAR)].owner == "nhrp"
    rib = rig.tables.rib
    assert rib.match("", A("10.60.1.1"))[1].owner == "nhrp"
    prefix, seen = rib.match("", A("10.60.1.1"), NHRP)
    assert (str(prefix), seen.owner) == (WIDE, "bgp")
    assert rib.get("", P(NEAR)).override is None


def test_it_becomes_an_override_and_an_H_route_again() -> None:
    rig = Rig().give(*CORE, *tunnel("Tunnel5"), *tunnel("Tunnel6"), shortcut()).give(by_bgp())
    entry = rig.tables.rib.get("", P(NEAR))
    assert ([c.owner for c in entry.candidates], entry.override.owner) == (["bgp"], "nhrp")
    assert (way(rig), rig.selected()[NEAR]) == ("Tunnel5", "bgp")
    assert rig.tables.rib.match("", A("10.60.1.1"), NHRP)[1].owner == "bgp"
    rig.take(by_bgp())
    assert (way(rig), rig.selected()[NEAR]) == ("Tunnel5", "nhrp")


def test_what_is_selected_is_the_winner_with_its_own_next_hop() -> None:
    """Who is given a label for the prefix (RFC 3031 3.11: its NHLFE) is sent where the winner says; the shortcut's label is in
    the FIB alone, so its next hop without it would be wrong."""
    rig = Rig().give(*CORE, *tunnel("Tunnel5"), *tunnel("Tunnel6"), by_bgp())
    before = rig.published[RouteSelected, ""][P(NEAR)]
    rig.give(shortcut())
    assert way(rig) == "Tunnel5"
    assert rig.published[RouteSelected, ""][P(NEAR)] == before
    assert not [output for output in rig.outputs if isinstance(output, Publish) and output.topic is RouteSelected]


def test_a_neighbour_that_stays_wanted_is_not_wanted_again() -> None:
    """Who answers each row of AdjacencyWanted with one of AdjacencyState would be asked for ever."""
    rig = Rig().give(*CORE, *tunnel("Tunnel5"), shortcut())
    for up in (False, True):
        rig.give(*tunnel("Tunnel5", up=up))
        assert not [output for output in rig.outputs if isinstance(output, Publish) and output.topic is AdjacencyWanted]
    rig.take(shortcut())
    [gone] = [output.rows for output in rig.outputs if isinstance(output, Publish) and output.topic is AdjacencyWanted]
    assert gone == {AdjacencyKey("Tunnel5"): None}


def test_a_winner_that_leads_nowhere_is_none() -> None:
    """The hub is gone, and BGP has not said so yet."""
    dead = route(NEAR, via("10.66.0.1"), owner="bgp", distance=20)
    rig = Rig().give(*CORE, *tunnel("Tunnel5"), dead, shortcut())
    assert (way(rig), rig.selected()[NEAR]) == ("Tunnel5", "nhrp")
    assert [(c.owner, c.usable) for c in rig.tables.rib.get("", P(NEAR)).candidates] == [("bgp", False), ("nhrp", True)]
    assert rig.tables.rib.match("", A("10.60.1.1"), NHRP) is None


def test_a_closed_winner_is_overridden() -> None:
    rig = Rig().give(*CORE, *tunnel("Tunnel5"), *tunnel("Tunnel6", up=False), by_bgp(), shortcut(), wanted("10.60.1.1"))
    assert way(rig) == "Tunnel5"
    assert rig.answer("10.60.1.1").usable


@pytest.mark.parametrize(
    ("less_specific", "then"),
    [
        ((by_bgp(WIDE),), "Tunnel6"),
        ((in_clear(WIDE),), "dropped"),
        ((of_host(WIDE),), "dropped"),
        ((discard(WIDE),), "dropped"),
        ((), "dropped"),
        ((shortcut(WIDE), by_bgp("10.0.0.0/8")), "Tunnel6"),
        ((shortcut(WIDE), in_clear("10.0.0.0/8")), "dropped"),
        ((shortcut(WIDE, "Tunnel6"), in_clear("10.0.0.0/8")), "Tunnel6"),
    ],
)
def test_a_closed_H_route_gives_way_to_a_protected_way_and_to_no_other(
    less_specific: tuple[Item, ...], then: str
) -> None:
    """Until nhrp withdraws it: what it carried goes by the hub as before, never out in clear."""
    rig = Rig().give(*CORE, *tunnel("Tunnel5"), *tunnel("Tunnel6"), *less_specific, shortcut(), wanted("10.60.1.1"))
    assert way(rig) == "Tunnel5"
    rig.give(*tunnel("Tunnel5", up=False))
    assert way(rig) == then
    answer = rig.answer("10.60.1.1")
    assert (answer.usable, answer.interface if answer.usable else "dropped") == (then == "Tunnel6", then)
    rig.give(*tunnel("Tunnel5"))
    assert way(rig) == "Tunnel5"


def test_a_closed_H_route_follows_the_less_specific_one() -> None:
    rig = Rig().give(*CORE, *tunnel("Tunnel5", up=False), *tunnel("Tunnel6"), by_bgp(WIDE), shortcut())
    assert way(rig) == "Tunnel6"
    rig.take(by_bgp(WIDE)).give(in_clear("0.0.0.0/0"))
    assert way(rig) == "dropped"
    assert rig.reason(NEAR, "nhrp") == GONE
    rig.give(*tunnel("Tunnel6"), route("10.0.0.0/8", via(interface="Tunnel6")))
    assert way(rig) == "Tunnel6"
    rig.give(*tunnel("Tunnel6", up=False))
    assert way(rig) == "dropped"


def test_an_unprotected_H_route_that_leads_nowhere_is_no_route() -> None:
    rig = Rig().give(*CORE, *tunnel("Tunnel5", up=False, protection=""), in_clear(WIDE), shortcut())
    assert way(rig) == "Ethernet0/0"
    assert rig.reason(NEAR, "nhrp") == GONE


def test_a_next_hop_is_found_by_an_H_route() -> None:
    rig = Rig().give(*CORE, *tunnel("Tunnel5"), shortcut("10.60.1.9/32"), route("172.20.0.0/16", via("10.60.1.9")))
    assert way(rig, "172.20.1.1") == "Tunnel5"


# --- any order --------------------------------------------------------------------------------------------------------

OFFERS: dict[str, Item] = {
    "h": shortcut(),
    "bgp": by_bgp(),
    "clear": in_clear(),
    "host": of_host(),
    "wide h": shortcut(WIDE),
    "wide bgp": by_bgp(WIDE),
    "wide clear": route(WIDE, via("10.0.12.2"), owner="static 3", distance=3),
    "wide host": of_host(WIDE),
    "wide null": discard(WIDE),
}
SWITCHES = ("Tunnel5", "Tunnel6", "bare 5", "bare 6")


def rule(prefix: str, on: set[str], below: str) -> str:
    """Where a packet goes, in few words. `below`: where the less specific routes would send it."""
    direct, hub = state(5, on), state(6, on)
    if prefix + "h" in on and direct == "open":
        return "Tunnel5"
    if prefix + "clear" in on:
        return "Ethernet0/0"
    if prefix + "null" in on or (prefix + "bgp" in on and hub == "shut"):
        return "dropped"
    if prefix + "bgp" in on and hub == "open":
        return "Tunnel6"
    if prefix + "h" in on and direct == "shut":
        carried = below == "Tunnel6" and "bare 6" not in on and prefix + "host" not in on
        return "Tunnel6" if carried else "dropped"
    return "Ethernet0/0" if prefix + "host" in on else below


def state(number: int, on: set[str]) -> str:
    if f"Tunnel{number}" in on:
        return "open"
    return "dead" if f"bare {number}" in on else "shut"


def expected(on: set[str]) -> str:
    return rule("", on, rule("wide ", on, "dropped"))


def turn(rig: Rig, what: str, on: set[str], limit: int) -> None:
    """Switch `what`: an offer comes or goes, a tunnel opens or closes, or gets its protection or loses it."""
    on ^= {what}
    if what in OFFERS:
        (rig.give if what in on else rig.take)(OFFERS[what], limit=limit)
        return
    number = what[-1]
    bare = f"bare {number}" in on
    rig.give(*tunnel(f"Tunnel{number}", up=f"Tunnel{number}" in on, protection="" if bare else "gold"), limit=limit)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from((*OFFERS, *SWITCHES)), max_size=40), st.integers(1, 3))
@example(["Tunnel5", "Tunnel6", "wide bgp", "h", "Tunnel5", "wide bgp", "wide clear"], 1)
def test_as_offers_come_and_go_every_packet_goes_as_the_rule_says(said: list[str], limit: int) -> None:
    rig, on = Rig().give(*CORE, *tunnel("Tunnel5", up=False), *tunnel("Tunnel6", up=False), wanted("10.60.1.1")), set()
    for what in said:
        turn(rig, what, on, limit)
        assert way(rig) == expected(on), sorted(on)
        answer = rig.answer("10.60.1.1")
        assert (answer.interface if answer.usable and answer.interface != "Null0" else "dropped") == expected(on)
        unseen = rig.tables.rib.match("", A("10.60.1.1"), NHRP)
        assert unseen is None or unseen[1].owner != "nhrp"


@define(eq=False)
class Watched(FibWriter):
    """Notes what is removed."""

    gone: list[str]

    def remove(self, vrf: str, prefix: Prefix) -> None:
        self.gone.append(str(prefix))
        FibWriter.remove(self, vrf, prefix)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(("h", "bgp", "clear", "host", "wide bgp", "Tunnel5", "Tunnel6")), max_size=40))
def test_between_two_ways_there_is_never_a_moment_without_one(said: list[str]) -> None:
    """The leaf is replaced, not removed and written: the packet path reads the FIB whenever it likes."""
    rig, on, gone = Rig().give(*CORE, *tunnel("Tunnel5", up=False), *tunnel("Tunnel6", up=False)), set(), []
    rig.engine.fib_writer = Watched(rig.engine.fib_writer.table, rig.engine.fib_writer.epoch, gone)
    for what in said:
        gone.clear()
        turn(rig, what, on, 1)
        leaf = rig.tables.fib.get("").get(P(NEAR))
        assert leaf is None or NEAR not in gone
        assert leaf is None or not leaf.next_hop or rig.tables.nexthops.get(leaf.next_hop) is not None


def test_a_leaf_that_is_not_judged_yet_keeps_its_next_hop() -> None:
    """A hub's 3,000 routes are withdrawn at once, more than one turn takes: those that wait still lead somewhere."""
    wide = [f"172.{16 + i // 250}.{i % 250}.0/24" for i in range(3000)]
    rig = Rig().give(*CORE, *tunnel("Tunnel5"), *tunnel("Tunnel6"))
    rig.give(*(by_bgp(prefix) for prefix in wide), *(shortcut(prefix) for prefix in wide))
    rig.give(*tunnel("Tunnel5", up=False))
    rig.give(*tunnel("Tunnel5"))
    for prefix in wide:
        rig.engine.feed(_withdrawal(shortcut(prefix)), 0.0)
    rig.engine.settle(0.0, 2000)
    assert rig.engine.pending == 1000
    ways = [way(rig, prefix.replace(".0/24", ".1")) for prefix in wide]
    assert (ways.count("Tunnel6"), ways.count("Tunnel5"), ways.count("dropped")) == (2000, 1000, 0)


def _withdrawal(item: Item) -> Any:
    topic, owner, table, key, _ = item
    return Delta(topic, owner, 1, table, {key: None})
