"""What a configuration means on the bus, and the least that must be said when it changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from stack.addr import RD, RT, Afi, Prefix
from stack.addr import parse_address as a
from stack.config import Config, InterfaceAddress, InterfaceConfig, NodeConfig, StaticRoute, VrfConfig
from stack.events import (
    AddressOffered,
    AddressRow,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    PolicyState,
    Route,
    RouteOffered,
    Topic,
    Via,
    VrfState,
)
from stack.offers import Offers, eui64, offers_of, static_owner
from stack.policy.lists import PrefixList
from stack.policy.routemap import RouteMap, default_route_map
from stack.router import Router
from stack.testing import MemoryNetwork, VirtualClock, run

P = Prefix.parse
K = InterfaceKind
MACS = {
    "eth1": bytes.fromhex("025400abcdef"),
    "lo": bytes(6),
    "gre1": a("192.0.2.1"),
    "e0": bytes.fromhex("02540000000e"),
}


def offers(*, bindings: Mapping[str, str] | None = None, maps: tuple[RouteMap, ...] = (), **node: Any) -> Offers:
    indexes: dict[str, int] = {}
    return offers_of(
        Config().replace(NodeConfig(**node)),
        vrf_index=lambda name: indexes.setdefault(name, len(indexes)),
        bindings=bindings or {},
        mac_of=lambda device: MACS.get(device, b""),
        system_maps=maps,
    )


def interfaces(*rows: InterfaceConfig, **named: Any) -> dict[str, InterfaceRow]:
    found = offers(interfaces={row.name: row for row in rows}, **named)
    return dict(found.rows[InterfaceOffered, "router", ""])


def addresses(*rows: InterfaceConfig, **named: Any) -> dict[tuple[str, bytes], AddressRow]:
    found = offers(interfaces={row.name: row for row in rows}, **named)
    return dict(found.rows[AddressOffered, "router", ""])


# --- interfaces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "bindings", "expected", "device", "point_to_point"),
    [
        ("Ethernet0/1", K.ETHERNET, {}, K.ETHERNET, "Ethernet0/1", False),  # a device of that name needs no binding
        ("Ethernet0/1", K.ETHERNET, {"Ethernet0/1": "eth1"}, K.ETHERNET, "eth1", False),
        ("Ethernet0/1", K.ETHERNET, {"Ethernet0/1": "tun:site"}, K.TUN, "site", True),
        ("Loopback0", K.LOOPBACK, {"Loopback0": "eth1"}, K.LOOPBACK, "", False),
        ("Tunnel4", K.TUNNEL, {}, K.TUNNEL, "", False),
        ("Virtual-Template1", K.TEMPLATE, {}, K.TEMPLATE, "", False),
    ],
)
def test_kinds_and_devices(
    name: str, kind: K, bindings: dict[str, str], expected: K, device: str, point_to_point: bool
) -> None:
    row = interfaces(InterfaceConfig(name, kind), bindings=bindings)[name]
    assert (row.kind, row.device, row.point_to_point) == (expected, device, point_to_point)
    assert (row.mtu, row.admin_up) == (1500, True)


def test_every_knob_of_an_interface_arrives() -> None:
    config = InterfaceConfig(
        "Ethernet0/1", K.ETHERNET, vrf="red", unnumbered="Loopback0", mtu=1400, shutdown=True, description="to site 1",
        unreachables=False, mss=1300, mpls=True, network_id=5, redirect=True, protection="P", point_to_point=True,
    )  # fmt: skip
    (row,) = interfaces(config).values()
    assert row == InterfaceRow(
        "Ethernet0/1", K.ETHERNET, "red", 1400, admin_up=False, description="to site 1", device="Ethernet0/1",
        unnumbered="Loopback0", point_to_point=True, mpls=True, unreachables=False, mss=1300, network_id=5, redirect=True,
        protection="P",
    )  # fmt: skip


@pytest.mark.parametrize(("own", "parents", "mtu"), [(0, 0, 1500), (0, 9000, 9000), (1400, 9000, 1400)])
def test_sub_interfaces_ride_on_the_parents_device(own: int, parents: int, mtu: int) -> None:
    rows = interfaces(
        InterfaceConfig("Ethernet0/1", K.ETHERNET, mtu=parents),
        InterfaceConfig("Ethernet0/1.10", K.ETHERNET, vrf="red", parent="Ethernet0/1", vlan=10, mtu=own),
        bindings={"Ethernet0/1": "eth1"},
    )
    row = rows["Ethernet0/1.10"]
    assert (row.device, row.parent, row.vlan, row.vrf, row.mtu) == ("eth1", "Ethernet0/1", 10, "red", mtu)


# --- addresses --------------------------------------------------------------------------------------------------------


def test_addresses_keep_their_order_and_their_kind() -> None:
    config = InterfaceConfig(
        "Ethernet0/1",
        K.ETHERNET,
        addresses=(
            InterfaceAddress(a("10.1.1.1"), 24),
            InterfaceAddress(a("10.2.2.1"), 24, secondary=True),
            InterfaceAddress(a("2001:db8::1"), 64),
        ),
    )
    assert list(addresses(config).items()) == [
        (("Ethernet0/1", a("10.1.1.1")), AddressRow(24)),
        (("Ethernet0/1", a("10.2.2.1")), AddressRow(24, secondary=True)),
        (("Ethernet0/1", a("2001:db8::1")), AddressRow(64)),
    ]


def test_rfc4291_a_modified_eui_64() -> None:
    """The appendix's example: 34-56-78-9A-BC-DE."""
    mac = bytes.fromhex("3456789abcde")
    assert eui64(a("2001:db8::"), mac) == a("2001:db8::3656:78ff:fe9a:bcde")


EUI = (InterfaceAddress(a("2001:db8:1::"), 64, eui64=True),)


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        ({"Ethernet0/1": "eth1"}, "2001:db8:1:0:54:ff:feab:cdef"),
        ({}, None),  # no such device
        ({"Ethernet0/1": "tun:site"}, None),
        ({"Ethernet0/1": "lo"}, None),  # all zeros is nobody's MAC
        ({"Ethernet0/1": "gre1"}, None),  # a hardware address of four octets is no MAC
    ],
)
def test_rfc4291_a_where_there_is_no_mac_one_is_made_up_and_stays(
    bindings: dict[str, str], expected: str | None
) -> None:
    config = InterfaceConfig("Ethernet0/1", K.ETHERNET, addresses=EUI)
    ((_, octets),) = addresses(config, bindings=bindings)
    assert len(octets) == 16
    assert octets[:8] == a("2001:db8:1::")[:8]
    assert expected is None or octets == a(expected)
    ((_, again),) = addresses(config, bindings=bindings)
    assert again == octets
    if expected is None:
        other = InterfaceConfig("Ethernet0/2", K.ETHERNET, addresses=EUI)
        ((_, others),) = addresses(other, bindings=bindings)
        ((_, elsewhere),) = addresses(config, bindings=bindings, hostname="elsewhere")
        assert len({octets, others, elsewhere}) == 3


def test_a_sub_interface_takes_the_mac_of_its_parents_device() -> None:
    config = InterfaceConfig("Ethernet0/1.7", K.ETHERNET, parent="Ethernet0/1", vlan=7, addresses=EUI)
    ((_, octets),) = addresses(config, bindings={"Ethernet0/1": "eth1"})
    assert octets == a("2001:db8:1:0:54:ff:feab:cdef")


# --- VRFs, policy -----------------------------------------------------------------------------------------------------


def test_vrfs_and_the_default_one() -> None:
    target = frozenset({RT.parse("100:1000")})
    red = VrfConfig(
        "red one", RD.parse("100:110"), {Afi.IPV4: target}, {Afi.IPV6: target}, frozenset({Afi.IPV4}), "first"
    )
    rows = offers(vrfs={"red one": red}).rows[VrfState, "router", ""]
    assert set(rows) == {"", "red one"}
    assert (rows[""].index, rows[""].families) == (0, frozenset(Afi))
    row = rows["red one"]
    assert (row.index, row.rd, row.export_rts, row.import_rts) == (
        1,
        RD.parse("100:110"),
        red.export_rts,
        red.import_rts,
    )
    assert (row.families, row.description) == (frozenset({Afi.IPV4}), "first")


def test_maps_that_the_system_made_give_way_to_configured_ones() -> None:
    system = default_route_map("p")
    mine = RouteMap(system.name, ())
    name = ("route-map", system.name)
    plain = offers(maps=(system,)).rows[PolicyState, "router", ""]
    assert plain[name].source == system
    taken = offers(maps=(system,), route_maps={system.name: mine}).rows[PolicyState, "router", ""]
    assert taken[name].source == mine
    listed = offers(prefix_lists={"L": PrefixList("L", ())}).rows[PolicyState, "router", ""]
    assert listed["prefix-list", "L"] == PrefixList("L", ())


# --- static routes ----------------------------------------------------------------------------------------------------


def statics(*routes: StaticRoute) -> dict[tuple[str, str], Mapping[Prefix, Route]]:
    found = offers(static_routes=routes).rows
    return {(owner, vrf): rows for (topic, owner, vrf), rows in found.items() if topic is RouteOffered}


FAR = P("10.9.0.0/16")
ONE, TWO = a("192.0.2.1"), a("192.0.2.2")


def test_several_lines_of_one_prefix_are_one_route_of_several_ways() -> None:
    found = statics(
        StaticRoute("", FAR, ONE, tag=7),
        StaticRoute("", FAR, TWO, "Ethernet0/0"),
        StaticRoute("", FAR, ONE, name="the same again"),
        StaticRoute("red", FAR, b"", "Ethernet0/1"),
    )
    assert found == {
        ("static", ""): {FAR: Route(1, (Via(ONE), Via(TWO, "Ethernet0/0")), "static", tag=7)},
        ("static", "red"): {FAR: Route(1, (Via(b"", "Ethernet0/1", "red"),), "static")},
    }


def test_a_floating_route_is_a_candidate_of_its_own() -> None:
    found = statics(StaticRoute("", FAR, ONE), StaticRoute("", FAR, TWO, distance=250))
    assert found == {
        ("static", ""): {FAR: Route(1, (Via(ONE),), "static")},
        ("static 250", ""): {FAR: Route(250, (Via(TWO),), "static")},
    }
    assert (static_owner(1), static_owner(250)) == ("static", "static 250")


def test_null0_discards_and_gives_way_to_a_way() -> None:
    assert statics(StaticRoute("", FAR, null=True)) == {("static", ""): {FAR: Route(1, (), "static")}}
    both = {("static", ""): {FAR: Route(1, (Via(ONE),), "static")}}
    assert statics(StaticRoute("", FAR, null=True), StaticRoute("", FAR, ONE)) == both
    assert statics(StaticRoute("", FAR, ONE), StaticRoute("", FAR, null=True)) == both


# --- changes ----------------------------------------------------------------------------------------------------------

Shelf = tuple[Topic[Any, Any], str, str]
TOPICS = st.sampled_from([VrfState, InterfaceOffered, RouteOffered])
KEYS = st.tuples(TOPICS, st.sampled_from(["router", "static"]), st.sampled_from(["", "red"]))
OFFERS = st.builds(
    Offers, st.dictionaries(KEYS, st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), max_size=3))
)


@given(OFFERS, OFFERS)
def test_changes_lead_from_one_to_the_other_and_say_nothing_twice(old: Offers, new: Offers) -> None:
    model = {key: dict(rows) for key, rows in old.rows.items()}
    seen: set[Shelf] = set()
    for topic, owner, table, rows in new.changes(old):
        key = (topic, owner, table)
        assert key not in seen
        assert rows
        seen.add(key)
        held = model.setdefault(key, {})
        for name, row in rows.items():
            assert held.get(name) != row
            if row is None:
                del held[name]
            else:
                held[name] = row
    assert {k: v for k, v in model.items() if v} == {k: v for k, v in new.rows.items() if v}
    assert new.changes(new) == []


def test_one_changed_line_is_one_changed_row() -> None:
    rows = {name: InterfaceConfig(name, K.ETHERNET) for name in ("Ethernet0/0", "Ethernet0/1")}
    before = offers(interfaces=rows)
    after = offers(interfaces={**rows, "Ethernet0/1": evolve(rows["Ethernet0/1"], shutdown=True)})
    ((topic, owner, table, changed),) = after.changes(before)
    assert (topic, owner, table, list(changed)) == (InterfaceOffered, "router", "", ["Ethernet0/1"])
    assert not changed["Ethernet0/1"].admin_up


def test_vrf_indexes_stay_while_their_vrf_does() -> None:
    """The index names the host port's device: it must not change under a running session, nor be given out twice."""

    def node(*names: str) -> Config:
        return Config().replace(NodeConfig(vrfs={name: VrfConfig(name) for name in names}))

    async def main() -> None:
        router = Router(node("a", "b"), network=MemoryNetwork().node("n"), clock=VirtualClock(), specs=())

        def indexes() -> dict[str, int]:
            return {vrf.name: vrf.index for vrf in router.tables.vrfs}

        await router.start()
        assert indexes() == {"": 0, "a": 1, "b": 2}
        router.apply(node("b"))
        assert indexes() == {"": 0, "b": 2}
        router.apply(node("c", "b", "d"))
        assert indexes() == {"": 0, "b": 2, "c": 1, "d": 3}
        # One goes and another comes at once: the newcomer does not take over the old one's port while it is still open.
        router.apply(node("b", "d", "e"))
        assert indexes() == {"": 0, "b": 2, "d": 3, "e": 4}
        await router.stop()

    run(main())
