"""Virtual-access interfaces: clones of a template, made of what ikev2 says, with routing's engine beside tunnel's."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from stack.addr import Prefix, parse_address
from stack.events import (
    AccessRow,
    AccessWanted,
    AddressOffered,
    AddressRow,
    AdjacencyKey,
    AdjacencyState,
    BindingOffered,
    Delta,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    InterfaceState,
    LinkState,
    NextHopKey,
    NextHopRow,
    NextHopState,
    NextHopWanted,
    ProtectedRow,
    Route,
    RouteOffered,
    RouteSelected,
    SaKey,
    SaRow,
    SaState,
    SaWanted,
    TunnelProtected,
    Via,
)
from stack.tables.nexthop import NextHop
from tests.tunnel.engine.clones import CONFIG, GATEWAY, HUB, OVERLAY, TEMPLATE, Hub, lines_run, overlay, spoke
from tunnel.config import TunnelConfig, TunnelInterface, TunnelMode
from tunnel.engine import tunnels
from tunnel.engine.ledger import TELL_EVERY
from tunnel.show import refused

ONE = "Virtual-Access1"
HOST = Prefix.host(overlay(1))


def hub(config: TunnelConfig = CONFIG) -> Hub:
    made = Hub(config)
    made.boot()
    return made


def hop_to(hub: Hub, address: bytes, *, labelled: bool = True) -> NextHop:
    """The next hop of BGP's routes of a spoke."""
    key = NextHopKey("", address, labelled=labelled)
    hub.say("bgp", NextHopWanted, {key: True})
    hub.run()
    return next(row for row in hub.tables.nexthops if row.key == key)


def test_a_clone_is_its_template_with_ends_of_its_own() -> None:
    one = hub()
    one.up(1)
    row = one.rows(InterfaceOffered)[ONE]
    assert row == InterfaceRow(
        ONE, InterfaceKind.TUNNEL, description="spoke 1", parent=TEMPLATE, unnumbered="Loopback0", point_to_point=True,
        mpls=True, protection="default",
    )  # fmt: skip
    made = one.rows(InterfaceState, "routing")[ONE]
    assert (made.up, made.addresses) == (True, {OVERLAY: AddressRow(32, origin="unnumbered")})
    adjacency = one.tables.adjacencies.get(AdjacencyKey(ONE))
    assert adjacency is not None
    assert (adjacency.complete, adjacency.source, adjacency.destination, adjacency.sa, adjacency.mtu) == (
        True, HUB, spoke(1), SaKey(ONE), 1442,
    )  # fmt: skip
    reception = one.tables.receptions.get(ONE)
    assert reception is not None
    assert (reception.protected, reception.sources, reception.scope, reception.mpls) == (
        True, frozenset({spoke(1)}), "protected", True,
    )  # fmt: skip
    assert one.rows(TunnelProtected) == {ONE: ProtectedRow("default", HUB, spoke(1))}
    assert one.rows(SaWanted) == {}, "the peer began it"


def test_every_line_of_the_template_is_the_clones() -> None:
    one = Hub(TunnelConfig(tunnels={TEMPLATE: TunnelInterface(TEMPLATE, key=9)}))
    one.boot()
    row = InterfaceRow(
        TEMPLATE, InterfaceKind.TEMPLATE, vrf="", mtu=1400, unnumbered="Loopback0", point_to_point=True, mpls=True,
        unreachables=False, mss=1300, network_id=7, redirect=True, protection="default",
    )  # fmt: skip
    one.say("router", InterfaceOffered, {TEMPLATE: row})
    one.run()
    one.up(1)
    made = one.rows(InterfaceOffered)[ONE]
    assert made == evolve(row, name=ONE, kind=InterfaceKind.TUNNEL, parent=TEMPLATE, description="spoke 1")
    adjacency = one.tables.adjacencies.get(AdjacencyKey(ONE))
    assert adjacency is not None
    assert (adjacency.gre_key, adjacency.mtu) == (9, 1400)
    # A line that changes while clones stand is theirs at once, and so are their tunnel lines.
    one.say("router", InterfaceOffered, {TEMPLATE: evolve(row, mss=1200, mtu=1500)})
    one.run()
    assert (one.rows(InterfaceOffered)[ONE].mss, one.rows(InterfaceOffered)[ONE].mtu) == (1200, 1500)
    one.tunnel.reconfigure(TunnelConfig(tunnels={TEMPLATE: TunnelInterface(TEMPLATE, key=10)}))
    one.run()
    changed = one.tables.adjacencies.get(AdjacencyKey(ONE))
    assert changed is not None
    assert (changed.gre_key, changed.mtu) == (10, 1438)


def test_the_profile_of_the_peer_wins_over_the_templates() -> None:
    one = hub()
    one.say("ikev2", AccessWanted, {ONE: AccessRow(TEMPLATE, HUB, spoke(1), "gold")})
    one.run()
    assert one.rows(InterfaceOffered)[ONE].protection == "gold"
    assert one.rows(TunnelProtected)[ONE].profile == "gold"


def test_a_multipoint_template_makes_a_clone_of_many_addresses_and_one_sa() -> None:
    one = Hub(TunnelConfig(tunnels={TEMPLATE: TunnelInterface(TEMPLATE, mode=TunnelMode.MGRE)}))
    one.boot()
    one.say("router", InterfaceOffered, {
        TEMPLATE: InterfaceRow(TEMPLATE, InterfaceKind.TEMPLATE, protection="default")
    })  # fmt: skip
    one.up(1)
    assert not one.rows(InterfaceOffered)[ONE].point_to_point
    assert one.rows(TunnelProtected)[ONE] == ProtectedRow("default", HUB, spoke(1)), "it is for this peer alone"
    assert one.rows(SaWanted) == {}


def without_times(hub: Hub) -> Any:
    return [
        {key: [(row[0], row[1][:3]) for row in sorted(rows.items(), key=repr)] if key[0] is RouteSelected else rows
         for key, rows in hub.said.items() if rows and key[0] is not NextHopState},
        set(hub.tables.adjacencies.rows),
        set(hub.tables.receptions.rows),
        set(hub.tables.interfaces.rows),
    ]  # fmt: skip


def test_what_goes_leaves_nothing() -> None:
    one, before = hub(), without_times(hub())
    for number in range(1, 6):
        one.up(number)
    for number in (3, 1, 5, 2, 4):
        one.down(number)
    assert without_times(one) == before
    assert one.logs == []
    engine = one.tunnel
    for index in (engine._on, engine._ways, engine._by_way, engine._sas, engine.tunnels._by_template):
        assert not [key for key in index if "Access" in str(key)], index
    assert engine.tunnels._by_destination == {}
    assert engine._topic(NextHopWanted).rows.keys() == hub().tunnel._topic(NextHopWanted).rows.keys()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (AccessRow("Virtual-Template9", HUB, spoke(1), "default"), "there is no interface Virtual-Template9"),
        (AccessRow("Loopback0", HUB, spoke(1), "default"), "Loopback0 is no virtual template"),
        (AccessRow(TEMPLATE, b"", spoke(1), "default"), "a virtual-access interface needs both its ends"),
    ],
)
def test_what_cannot_be_cloned_is_refused_with_a_reason(row: AccessRow, reason: str) -> None:
    one = hub()
    one.say("ikev2", AccessWanted, {ONE: row})
    one.say("ikev2", SaState, {SaKey(ONE): SaRow(up=True)})
    one.run()
    assert ONE not in one.rows(InterfaceOffered)
    assert one.tables.adjacencies.get(AdjacencyKey(ONE)) is None
    assert [(log.event, log.fields) for log in one.logs] == [
        ("no virtual-access interface", {"name": ONE, "reason": reason})
    ]
    assert one.tunnel.snapshot().refused_access == {ONE: reason}
    one.say("ikev2", AccessWanted, {ONE: AccessRow(TEMPLATE, HUB, spoke(1), "default")})
    one.run()
    assert ONE in one.rows(InterfaceOffered)
    assert one.tunnel.snapshot().refused_access == {}


def test_a_template_that_comes_later_and_goes_again() -> None:
    one = hub()
    template = one.rows(InterfaceOffered, "router")[TEMPLATE]
    one.say("router", InterfaceOffered, {TEMPLATE: None})
    one.up(1)
    assert one.rows(InterfaceOffered) == {}
    one.say("router", InterfaceOffered, {TEMPLATE: template})
    one.run()
    assert one.tables.adjacencies.get(AdjacencyKey(ONE)) is not None
    one.say("router", InterfaceOffered, {TEMPLATE: None})
    one.run()
    assert one.rows(InterfaceOffered) == {}
    assert one.tables.adjacencies.get(AdjacencyKey(ONE)) is None


def test_a_name_that_is_configured_is_not_taken() -> None:
    one = hub()
    one.say("router", InterfaceOffered, {ONE: InterfaceRow(ONE, InterfaceKind.TUNNEL)})
    one.up(1)
    assert one.tunnel.snapshot().refused_access == {ONE: f"there is an interface {ONE} already"}
    one.say("router", InterfaceOffered, {ONE: None})
    one.run()
    assert one.tunnel.snapshot().refused_access == {}


def test_clones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "MAX_CLONES", 3)
    one = hub()
    for number in range(1, 6):
        one.up(number)
    assert len(one.rows(InterfaceOffered)) == 3
    assert set(one.tunnel.snapshot().refused_access) == {"Virtual-Access4", "Virtual-Access5"}
    one.down(2)
    assert set(one.tunnel.snapshot().refused_access) == {"Virtual-Access5"}, "who waited longest has the room"
    assert one.rows(InterfaceState, "routing")["Virtual-Access4"].up
    one.down(5)
    one.down(1)
    assert one.tunnel.snapshot().refused_access == {}
    assert set(one.rows(InterfaceOffered)) == {"Virtual-Access3", "Virtual-Access4"}


def test_thousands_of_refusals_are_a_few_lines_in_the_log_and_all_in_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "MAX_CLONES", 0)
    one = hub()
    one.logs.clear()
    for number in range(1, 201):
        one.up(number)
    [first] = one.logs
    assert first.fields["name"] == ONE
    assert "in_all" not in first.fields
    due = one.tunnel.deadline()
    assert due is not None
    assert due <= one.now + TELL_EVERY
    one.now = due
    one.run()
    assert [(log.fields["name"], log.fields["in_all"]) for log in one.logs[1:]] == [("Virtual-Access2", 199)]
    one.now += TELL_EVERY
    one.run()
    assert (len(one.logs), one.tunnel.deadline()) == (2, None), "nothing new, nothing said"
    shown = refused(one.tunnel.snapshot())
    assert len(shown.value["virtual-access"]) == 200
    assert "  and 150 more" in shown.text.splitlines()


def test_tunnels_that_lead_into_themselves_are_a_few_lines_in_the_log() -> None:
    one = hub()
    for number in range(1, 41):
        one.up(number)
    one.logs.clear()
    for _ in range(3):
        for state in (True, False):
            rows = {
                NextHopKey("", spoke(n)): NextHopRow(True, "", 0, f"Virtual-Access{n}" if state else "Ethernet0/0", 1)
                for n in range(1, 41)
            }
            one.tunnel.receive(Delta(NextHopState, "routing", 1, "", rows), one.now)
            for output in one.tunnel.settle(one.now):
                one._perform(output)
    assert [log.event for log in one.logs] == ["recursive routing"]
    assert one.logs[0].fields["in_all"] == 40


def test_a_template_that_is_shut_takes_its_clones_down() -> None:
    one = hub()
    one.up(1)
    template = one.rows(InterfaceOffered, "router")[TEMPLATE]
    one.say("router", InterfaceOffered, {TEMPLATE: evolve(template, admin_up=False)})
    one.run()
    assert not one.rows(InterfaceState, "routing")[ONE].up
    assert one.tables.receptions.get(ONE) is None


# --- routes, and the SA under them -------------------------------------------------------------------------------------


def test_E04_without_an_sa_bgp_is_told_and_nothing_goes_round_the_tunnel() -> None:
    """The default route must not take over what belongs into the tunnel: it would go in clear."""
    one = hub()
    one.up(1)
    red = Prefix.parse("172.20.0.0/16")
    one.say("bgp", RouteOffered, {red: Route(20, (Via(overlay(1), labels=(100,)),), "ebgp")})
    hop = NextHopKey("", overlay(1), labelled=True)
    assert hop_to(one, overlay(1)).adjacency == AdjacencyKey(ONE)
    assert one.rows(NextHopState, "routing")[hop].usable
    one.say("ikev2", SaState, {SaKey(ONE): SaRow(up=False, reason="peer is silent")})
    one.run()
    told = one.rows(NextHopState, "routing")[hop]
    assert (told.usable, told.reason) == (False, "no security association: peer is silent")
    assert one.rows(LinkState)[ONE].up
    one.say("bgp", RouteOffered, {red: None})  # as BGP does
    one.run()
    fib = one.tables.fib.fibs[""]
    leaf = fib.lookup(overlay(1))
    assert leaf is not None
    closed = one.tables.nexthops.get(leaf.next_hop)
    assert closed is not None
    assert (closed.adjacency, closed.reason) == (AdjacencyKey(ONE), told.reason)
    assert one.copies[HOST].device == "ls-0", "the kernel's own packets come to us, too"
    one.say("ikev2", SaState, {SaKey(ONE): SaRow(up=True)})
    one.run()
    assert one.rows(NextHopState, "routing")[hop].usable
    assert one.rows(AdjacencyState)[AdjacencyKey(ONE)].usable


def test_E04_another_route_for_the_same_prefix_takes_over() -> None:
    one = hub()
    one.up(1)
    one.up(2)
    shared = Prefix.parse("172.21.0.0/16")
    one.say("static", RouteOffered, {shared: Route(1, (Via(interface=ONE),), "static")})
    one.say("static 9", RouteOffered, {shared: Route(9, (Via(interface="Virtual-Access2"),), "static")})
    one.run()
    for state, owner in ((SaRow(up=False), "static 9"), (SaRow(up=True), "static")):
        one.say("ikev2", SaState, {SaKey(ONE): state})
        one.run()
        assert one.rows(RouteSelected, "routing")[shared].owner == owner


def test_a_route_of_a_tunnel_that_is_gone_falls_back() -> None:
    one = hub()
    one.up(1)
    one.down(1)
    assert HOST not in one.rows(RouteSelected, "routing")


def test_implicit_null_by_the_route_of_ikev2_and_by_any_host_route() -> None:
    """semantics 11: over a tunnel with `mpls bgp forwarding` a host route is bound to implicit null, announced or not."""
    one = hub()
    one.up(1)
    found = hop_to(one, overlay(1))
    assert (found.adjacency, found.labels) == (AdjacencyKey(ONE), ())
    assert found.path[-1] == "label implicit-null"
    one.say("ikev2", BindingOffered, {("", HOST, b""): None})
    assert hop_to(one, overlay(1)).path[-1] == "label implicit-null"
    static = Prefix.host(overlay(77))
    one.say("static", RouteOffered, {static: Route(1, (Via(interface=ONE),), "static")})
    found = hop_to(one, overlay(77))
    assert (found.adjacency, found.labels, found.path[-1]) == (AdjacencyKey(ONE), (), "label implicit-null")
    # No host route, or a tunnel that takes no labels: there is no binding.
    wider = Prefix.parse("10.9.0.0/16")
    one.say("static", RouteOffered, {wider: Route(1, (Via(interface=ONE),), "static")})
    assert hop_to(one, parse_address("10.9.1.1")).adjacency is None
    template = one.rows(InterfaceOffered, "router")[TEMPLATE]
    one.say("router", InterfaceOffered, {TEMPLATE: evolve(template, mpls=False)})
    one.run()
    found = hop_to(one, overlay(77))
    assert (found.adjacency, found.reason) == (None, f"{ONE} takes no labelled packets")


def test_implicit_null_that_names_no_neighbour_is_no_other_neighbours_word() -> None:
    """The spoke is gone, its binding not yet: the default route must not carry labelled packets to it."""
    one = hub()
    one.say("ikev2", BindingOffered, {("", HOST, b""): (3,)})
    assert hop_to(one, overlay(1)).adjacency is None
    one.say("tunnel", BindingOffered, {("", HOST, GATEWAY): (3,)})
    assert hop_to(one, overlay(1)).adjacency == AdjacencyKey("Ethernet0/0", GATEWAY)


def test_a_clone_must_not_carry_its_own_outer_packets() -> None:
    one = hub()
    one.up(1)
    one.say("bgp", RouteOffered, {Prefix.host(spoke(1)): Route(20, (Via(overlay(1)),), "ebgp")})
    one.run()
    # The route that would lead the tunnel into itself is refused; the tunnel goes on by the default route.
    assert Prefix.host(spoke(1)) not in one.rows(RouteSelected, "routing")
    assert HOST in one.rows(RouteSelected, "routing")


# --- addresses that come from the peer -------------------------------------------------------------------------------


def test_a_negotiated_address_is_an_address_like_any_other() -> None:
    one = hub(TunnelConfig(tunnels={"Tunnel0": TunnelInterface("Tunnel0", "Ethernet0/0", destination=spoke(9))}))
    row = InterfaceRow(
        "Tunnel0", InterfaceKind.TUNNEL, point_to_point=True, mpls=True, protection="default", negotiated=True
    )
    one.say("router", InterfaceOffered, {"Tunnel0": row})
    one.run()
    made = one.rows(InterfaceState, "routing")["Tunnel0"]
    assert (made.up, made.addresses) == (True, {})
    ours = overlay(200)
    one.say("ikev2", AddressOffered, {("Tunnel0", ours): AddressRow(32, origin="negotiated")})
    one.run()
    made = one.rows(InterfaceState, "routing")["Tunnel0"]
    assert made.addresses == {ours: AddressRow(32, origin="negotiated")}
    assert Prefix.host(ours) in one.rows(RouteSelected, "routing")
    assert ("ls-0", ours, 32) in one.host.addresses
    one.say("ikev2", AddressOffered, {("Tunnel0", ours): None})
    one.run()
    assert ("ls-0", ours, 32) not in one.host.addresses
    assert Prefix.host(ours) not in one.rows(RouteSelected, "routing")


# --- thousands -------------------------------------------------------------------------------------------------------


def test_one_clone_among_two_thousand_costs_what_one_costs() -> None:
    one = hub()
    few_up = [lines_run(lambda n=n: one.up(n)) for n in range(1, 6)]  # type: ignore[misc]  # bound at once
    for number in range(6, 2_000):
        one.up(number)
    many_up = [lines_run(lambda n=n: one.up(n)) for n in range(2_000, 2_005)]  # type: ignore[misc]  # bound at once
    assert max(many_up) < 1.2 * max(few_up), (few_up, many_up)
    assert all(row.complete for row in one.tables.adjacencies if row.sa)
    many_down = [lines_run(lambda n=n: one.down(n)) for n in range(1_000, 1_005)]  # type: ignore[misc]  # bound at once
    rest = [n for n in range(1, 2_005) if not 1_000 <= n < 1_005]
    for number in rest[:-5]:
        one.down(number)
    few_down = [lines_run(lambda n=n: one.down(n)) for n in rest[-5:]]  # type: ignore[misc]  # bound at once
    assert max(many_down) < 1.2 * max(few_down), (few_down, many_down)
    assert not [name for name in one.tables.interfaces.rows if "Access" in name]


def test_a_flap_of_one_sa_among_many_touches_nobody_else() -> None:
    one = hub()
    for number in range(1, 200):
        one.up(number)
    written = one.tables.adjacencies.generation
    one.say("ikev2", SaState, {SaKey("Virtual-Access77"): SaRow(up=False, reason="peer is silent")})
    one.run()
    assert one.tables.adjacencies.changed_since(written) == {AdjacencyKey("Virtual-Access77")}
