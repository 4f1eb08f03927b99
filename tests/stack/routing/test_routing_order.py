"""Whatever order the owners speak in, and however often they change their mind: the same tables in the end."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.events import AdjacencyWanted, InterfaceKind, NextHopState, Route, RouteSelected
from tests.stack.routing.rig import (
    CORE,
    MGRE,
    Item,
    Rig,
    address,
    binding,
    interface,
    link,
    neighbour,
    profile,
    route,
    via,
    vrf,
    wanted,
)

BASE: tuple[Item, ...] = (
    *CORE,
    *MGRE,
    vrf("red"),
    neighbour("Ethernet0/0", "10.0.12.3"),
    route("10.0.0.0/8", via("10.0.12.3"), owner="other", distance=90),
    route("10.1.0.0/16", via("10.2.0.1"), via("10.3.0.1")),
    route("10.2.0.0/16", via("10.1.0.1"), metric=4),
    route("10.3.0.0/16", via("10.2.0.1"), owner="bgp", distance=20),
)
"""What stands unless it is withdrawn: something to fall back on, and loops."""

POOL: tuple[Item, ...] = (
    *BASE,
    neighbour("Ethernet0/0", "10.0.12.3", usable=False, reason="silent"),
    link("Ethernet0/0", up=False),
    interface("Ethernet0/0", mpls=False),
    interface("Ethernet0/0", vrf="red"),
    interface("Tunnel5", InterfaceKind.TUNNEL, point_to_point=True, mpls=True, unnumbered="Loopback0"),
    interface("Tunnel5", InterfaceKind.TUNNEL, point_to_point=True, mpls=True, protection="gold"),
    interface("Tunnel5", InterfaceKind.TUNNEL, mpls=True, protection="gold"),
    interface("Tunnel5", InterfaceKind.TUNNEL, point_to_point=True, protection="gold", admin_up=False),
    link("Tunnel5"),
    link("Tunnel5", up=False, reason="tunnel destination unreachable: no route"),
    neighbour("Tunnel5", transport="198.51.100.7"),
    neighbour("Tunnel5", transport="198.51.100.7", usable=False, reason="no security association: none"),
    neighbour("Tunnel5", "10.5.0.2", transport="198.51.100.7", usable=False, reason="no security association: none"),
    address("Tunnel5", "10.5.0.1/30"),
    address("Ethernet0/0", "10.0.13.1/24"),
    interface("Tunnel0", InterfaceKind.TUNNEL, internal=True, vrf="encap", protection="gold"),
    neighbour("Tunnel0", "192.0.2.2", transport="192.0.2.2", usable=False, reason="no security association: none"),
    profile("core", usable=False, reason="no source"),
    profile("other", vrf="red"),
    route("0.0.0.0/0", via("10.0.12.2")),
    route("0.0.0.0/0", via(interface="Tunnel5"), owner="static 5", distance=5),
    (*route("0.0.0.0/0", owner="tunnel")[:4], Route(254, (via("10.0.12.2"),), "kernel")),
    route("0.0.0.0/0", via("10.0.12.3"), owner="bgp", distance=20),
    route("198.51.100.0/24", via(interface="Tunnel5")),
    route("198.51.100.7/32", via("10.5.0.2"), owner="bgp", distance=20),
    route("10.54.0.0/16", via("10.5.0.2")),
    route("10.54.0.0/16", via("10.0.12.3"), owner="other", distance=90),
    route("10.54.1.0/24", via("10.54.0.9"), via("10.0.12.2"), owner="bgp", distance=200),
    route("10.54.0.0/16", via("10.5.0.2"), owner="nhrp", distance=250, override=True),
    interface("Tunnel7", InterfaceKind.TUNNEL, network_id=1),
    interface("Tunnel7", InterfaceKind.TUNNEL, network_id=1, protection="gold"),
    link("Tunnel7"),
    address("Tunnel7", "10.7.0.1/24"),
    neighbour("Tunnel7", "10.7.0.2", transport="198.51.100.7"),
    neighbour("Tunnel7", "10.7.0.2", transport="10.7.0.3"),
    route("10.54.1.0/24", via("10.7.0.2", "Tunnel7"), owner="nhrp", distance=250, override=True),
    route("10.54.0.0/16", via("10.7.0.2"), owner="static", distance=1),
    wanted("10.54.1.1", owner="tunnel"),
    wanted("10.5.0.2", labelled=True),
    interface("Tunnel6", InterfaceKind.TUNNEL, point_to_point=True, mpls=True, protection="gold"),
    interface("Tunnel6", InterfaceKind.TUNNEL, point_to_point=True, mpls=True),
    link("Tunnel6"),
    neighbour("Tunnel6", transport="198.51.100.8"),
    neighbour("Tunnel6", transport="198.51.100.8", usable=False, reason="no security association: none"),
    route("10.55.0.0/16", via(interface="Tunnel6")),
    route("10.55.0.0/16", via(interface="Tunnel5"), owner="nhrp", distance=250, override=True),
    route("10.55.1.0/24", via(interface="Tunnel5"), owner="nhrp", distance=250, override=True),
    route("10.55.1.0/24", via(interface="Tunnel6"), owner="other", distance=90),
    route("10.55.1.0/24", via("10.55.2.2"), owner="bgp", distance=20),
    route("10.55.1.1/32", via(interface="Tunnel5"), owner="nhrp", distance=250, override=True),
    (*route("10.55.1.0/24", owner="tunnel")[:4], Route(254, (via("10.0.12.2"),), "kernel")),
    (*route("0.0.0.0/0", owner="nhrp")[:4], Route(250, (via(interface="Tunnel6"),), "nhrp", override=True)),
    route("10.3.0.0/16", via("10.1.0.1"), owner="nhrp", distance=250, override=True),
    wanted("10.55.1.1"),
    wanted("10.55.1.9"),
    wanted("10.55.7.7"),
    route("10.3.0.0/16", via("10.1.0.9")),
    route("10.1.0.0/16", via("10.0.12.3"), owner="nhrp", distance=250, override=True),
    route("10.2.0.0/16", via("10.1.0.9"), owner="nhrp", distance=250, override=True),
    route("192.0.2.9/32", via("192.0.2.9"), owner="bgp", distance=200),
    route("192.0.2.0/24"),
    route("192.0.2.2/32", via("192.0.2.2", encap="core", labels=(16,)), owner="bgp", distance=200),
    route("192.0.2.3/32", via("10.0.12.2")),
    route("192.0.2.5/32", via("192.0.2.3", labels=(70,)), owner="bgp", distance=200),
    binding("192.0.2.3/32", "10.0.12.2", 17),
    binding("192.0.2.3/32", "", 3),
    binding("192.0.2.9/32", "10.0.12.3", 18),
    route("10.50.0.0/16", via("192.0.2.2", encap="core", labels=(16,)), vrf="red", owner="bgp", distance=200),
    route("10.51.0.0/16", via("192.0.2.5", labels=(44,)), vrf="red", owner="bgp", distance=200),
    route("10.52.0.0/16", via("10.50.0.1", vrf="red"), vrf="red"),
    route("10.50.0.0/24", via("10.52.0.1", vrf="red"), vrf="red"),
    route("10.53.0.0/16", via("192.0.2.9", labels=(45,)), vrf="red", owner="bgp", distance=200),
    wanted("192.0.2.9"),
    wanted("10.1.0.77"),
    wanted("10.3.0.1", owner="tunnel"),
    wanted("192.0.2.2", encap="core", labelled=True),
    wanted("198.51.100.7", owner="tunnel"),
)


def tables(rig: Rig) -> Any:
    """All that stands, with ids replaced by what they stand for, and without times and indexes."""
    keys = {number: row.key for number, row in rig.tables.nexthops.rows.items()}
    keys[0] = None
    return {
        "interfaces": {i.name: evolve(i, index=0) for i in rig.tables.interfaces},
        "nexthops": {row.key: row for row in rig.tables.nexthops},
        "rib": {
            (vrf_name, prefix): (
                [c._replace(since=0, next_hop=keys[c.next_hop]) for c in entry.candidates],
                entry.override and entry.override._replace(since=0, next_hop=keys[entry.override.next_hop]),
            )
            for vrf_name, rib in rig.tables.rib.ribs.items()
            for prefix, entry in rib.items()
        },
        "fib": {
            (vrf_name, prefix): leaf._replace(next_hop=keys[leaf.next_hop])
            for vrf_name, fib in rig.tables.fib.fibs.items()
            for afi in (1, 2)
            for prefix, leaf in fib.items(afi)
        },
        "vrfs": set(rig.tables.fib.fibs),
        "selected": {
            (table, prefix): (row.owner, row.route, keys[row.next_hop])
            for (topic, table), rows in rig.published.items()
            if topic is RouteSelected
            for prefix, row in rows.items()
        },
        "answers": {
            key: row._replace(id=keys[row.id]) for key, row in rig.published.get((NextHopState, ""), {}).items()
        },
        "wants": rig.published.get((AdjacencyWanted, ""), {}),
    }


def last_word(items: list[tuple[Item, bool]]) -> list[Item]:
    """What stands after all was said: the last row of each (topic, owner, table, key)."""
    final = {item[:4]: (item, there) for item, there in items}
    return [item for item, there in final.values() if there]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(POOL), st.integers(0, 4).map(bool)), max_size=70),
    st.randoms(use_true_random=False),
    st.integers(1, 9),
)
def test_any_order_gives_the_same_tables(said: list[tuple[Item, bool]], random: Any, limit: int) -> None:
    """One rig hears everything one by one, with withdrawals; the other only what stands, shuffled, in one go."""
    said = [(item, True) for item in random.sample(BASE, len(BASE))] + said
    wavering, final = Rig(), last_word(said)
    for item, there in said:
        (wavering.give if there else wavering.take)(item, limit=limit)
    random.shuffle(final)
    direct = Rig().give(*final)
    assert tables(wavering) == tables(direct)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(POOL), max_size=60, unique_by=lambda item: item[:4]),
    st.lists(st.sampled_from(POOL), max_size=30, unique_by=lambda item: item[:4]),
    st.randoms(use_true_random=False),
)
def test_a_restart_in_between_leaves_no_trace(before: list[Item], after: list[Item], random: Any) -> None:
    before, after = [*BASE, *before], [*BASE, *after]
    rig = Rig().give(*before)
    rig.published.clear()
    rig.boot()
    after = last_word([(item, True) for item in after])
    random.shuffle(after)
    rig.give(*after)
    rig.engine.sweep()
    rig.settle()
    assert tables(rig) == tables(Rig().give(*after))


def test_a_refusal_ends_when_what_led_round_the_loop_changes() -> None:
    """A tunnel's only way to its far end is the default route by itself; then its far end is another, or the tunnel is gone."""
    shortcut = route("0.0.0.0/0", via(interface="Tunnel6"), owner="nhrp", distance=250, override=True)
    tunnel = interface("Tunnel6", InterfaceKind.TUNNEL, point_to_point=True, mpls=True, protection="gold")
    rows = (*CORE, tunnel, link("Tunnel6"), shortcut)
    rig = Rig().give(*rows, neighbour("Tunnel6", transport="198.51.100.8"))
    assert rig.reason("0.0.0.0/0", owner="nhrp") == "routing recursion"
    there = neighbour("Tunnel6", transport="10.0.12.2")
    rig.give(there)
    assert rig.reason("0.0.0.0/0", owner="nhrp") == ""
    assert tables(rig) == tables(Rig().give(*rows, there))
    rig.give(neighbour("Tunnel6", transport="198.51.100.8"))
    rig.take(tunnel)
    assert rig.reason("0.0.0.0/0", owner="nhrp") == "there is no interface Tunnel6"
