"""The table of bindings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nhrp.config import NhrpFamily, Nhs, StaticMap
from nhrp.engine.bindings import Bindings
from nhrp.engine.snapshot import BindingKind
from nhrp.wire.packet import CieCode
from stack.addr import Prefix, format_address
from stack.events import BindingOffered, EndpointOffered, EndpointRow, Route, TunnelRow, Via
from tests.nhrp.stations import HUB, HUB_NBMA, NAME, OTHER, OTHER_NBMA, SPOKE, SPOKE_NBMA, Station, a, tunnel_interface


def hub(family: NhrpFamily | None = None, **more: object) -> Station:
    return Station.of(HUB, HUB_NBMA, family, **more)


def register(
    station: Station, overlay: str = SPOKE, nbma: str = SPOKE_NBMA, hold: int = 300, **more: object
) -> CieCode:
    more.setdefault("interface", NAME)
    code = station.bindings.register(address=a(overlay), nbma=a(nbma), holding_time=hold, **more)
    station.flush()
    return code


def clear(station: Station, address: str = "") -> None:
    """The operator's."""
    for one in list(station.bindings):
        if address in ("", format_address(one.address)):
            station.bindings.remove(one, "cleared")
    station.flush()


# --- rows -----------------------------------------------------------------------------------------------------------------


def test_multipoint_an_endpoint_and_no_route_inside_the_subnet() -> None:
    station = hub()
    assert register(station) == CieCode.OK
    assert station.endpoints() == {a(SPOKE): a(SPOKE_NBMA)}
    assert station.routes() == {}


def test_multipoint_a_host_route_where_no_subnet_covers_it() -> None:
    station = hub(length=32, vrf="red", mpls=True)
    register(station)
    host, via = Prefix.host(a(SPOKE)), Via(a(SPOKE), NAME, "red")
    assert station.routes("red") == {host: Route(250, (via,), "nhrp")}
    assert station.rows[BindingOffered, ""] == {("red", host, a(SPOKE)): (3,)}
    clear(station)
    assert station.routes("red") == {}
    assert station.rows[BindingOffered, ""] == {}


def test_point_to_point_no_endpoint() -> None:
    station = hub(length=32, remote=SPOKE_NBMA)
    register(station)
    assert station.endpoints() == {}
    assert list(station.routes()) == [Prefix.host(a(SPOKE))]


def test_the_route_follows_the_interface_s_own_prefixes() -> None:
    station = hub(length=32)
    register(station)
    station.interface(tunnel_interface(HUB, length=24), HUB_NBMA)
    assert station.routes() == {}
    assert station.endpoints() == {a(SPOKE): a(SPOKE_NBMA)}


def test_a_client_that_moves_is_one_change_of_its_row() -> None:
    station = hub()
    register(station)
    station.bindings.register(NAME, a(SPOKE), a(OTHER_NBMA), 300)
    changes = station.node.claims.changes()
    (rows,) = changes
    assert (rows.topic, rows.rows) == (EndpointOffered, {(NAME, a(SPOKE)): EndpointRow(a(OTHER_NBMA))})
    assert station.bindings.at(NAME, a(SPOKE_NBMA)) == ()


def test_a_refresh_changes_no_row() -> None:
    station = hub()
    register(station)
    station.node.now = 100.0
    assert register(station) == CieCode.OK
    assert station.node.claims.changes() == []
    (row,) = station.bindings.snapshot()
    assert (row.created, row.expires) == (0.0, 400.0)


# --- precedence -----------------------------------------------------------------------------------------------------------


def test_a_static_map_takes_the_place_of_all_and_lets_none_in() -> None:
    station = hub()
    register(station)
    static = NhrpFamily(maps=(StaticMap(a(SPOKE), a(OTHER_NBMA)),))
    station.configure(static)
    assert station.endpoints() == {a(SPOKE): a(OTHER_NBMA)}
    assert register(station) == CieCode.PROHIBITED
    assert register(station, nbma=OTHER_NBMA) == CieCode.OK
    station.wake(1e6)
    (row,) = station.bindings.snapshot()
    assert (row.kind, row.expires) == (BindingKind.STATIC, None)
    station.configure(NhrpFamily())
    assert station.endpoints() == {}


def test_maps_and_servers_are_static() -> None:
    family = NhrpFamily(
        maps=(StaticMap(a(OTHER), a(OTHER_NBMA)),), nhs=(Nhs(a("10.0.0.2"), a("192.0.2.2")), Nhs(a(OTHER)))
    )
    station = hub(family)
    assert station.endpoints() == {a(OTHER): a(OTHER_NBMA), a("10.0.0.2"): a("192.0.2.2")}
    station.interface(tunnel_interface(HUB, network_id=0), HUB_NBMA)
    assert station.endpoints() == {}


def test_our_own_address_is_no_binding() -> None:
    station = hub(NhrpFamily(maps=(StaticMap(a(HUB), a(OTHER_NBMA)),)))
    assert station.endpoints() == {}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"nbma": OTHER_NBMA}, CieCode.UNIQUE_ALREADY_REGISTERED),
        ({"nbma": OTHER_NBMA, "unique": True}, CieCode.UNIQUE_ALREADY_REGISTERED),
        ({"claimed": a("10.1.1.1")}, CieCode.UNIQUE_ALREADY_REGISTERED),
        ({"nbma": OTHER_NBMA, "bound": True}, CieCode.OK),
        ({}, CieCode.OK),
    ],
)
def test_rfc2332_5_2_3_unique(more: dict[str, object], code: CieCode) -> None:
    station = hub()
    register(station, unique=True)
    assert register(station, **more) == code
    expected = a(str(more.get("nbma", SPOKE_NBMA))) if code == CieCode.OK else a(SPOKE_NBMA)
    assert station.endpoints() == {a(SPOKE): expected}


# --- bounds and ends ----------------------------------------------------------------------------------------------------


def test_the_table_is_bounded() -> None:
    station = hub(cache_limit=3)
    codes = [register(station, f"10.0.0.{20 + number}") for number in range(5)]
    assert codes == [CieCode.OK] * 3 + [CieCode.INSUFFICIENT_RESOURCES] * 2
    assert register(station, "10.0.0.20") == CieCode.OK
    clear(station, "10.0.0.21")
    assert register(station, OTHER) == CieCode.OK


def test_others_entries_count_too() -> None:
    station = hub(cache_limit=3)
    station.bindings.others = lambda: 3
    assert register(station) == CieCode.INSUFFICIENT_RESOURCES


@pytest.mark.parametrize(
    "change",
    [
        lambda station: station.gone(),
        lambda station: station.interface(tunnel_interface(HUB, network_id=2), HUB_NBMA),
        lambda station: station.interface(tunnel_interface(HUB, vrf="red"), HUB_NBMA),
        lambda station: station.interface(tunnel_interface(HUB), HUB_NBMA, OTHER_NBMA),
    ],
)
def test_another_network_vrf_or_far_end_is_another_interface(change: object) -> None:
    station = hub()
    register(station)
    register(station, OTHER, OTHER_NBMA)
    change(station)
    assert len(station.bindings) == 0
    assert station.counted("binding gone: interface changed") == 2
    assert len(station.node.claims) == 0
    assert len(station.node.timers) == 0


def test_a_link_that_goes_down_and_up_ends_nothing() -> None:
    station = hub()
    register(station)
    station.interface(tunnel_interface(HUB, up=False), HUB_NBMA)
    station.interface(tunnel_interface(HUB), HUB_NBMA)
    assert len(station.bindings) == 1


def test_a_registration_by_another_interface_of_the_network_moves_it() -> None:
    station = hub()
    station.interface(tunnel_interface("10.0.1.1", "Tunnel1"), HUB_NBMA)
    register(station)
    register(station, interface="Tunnel1")
    (row,) = station.bindings.snapshot()
    assert row.interface == "Tunnel1"
    assert list(station.rows[EndpointOffered, ""]) == [("Tunnel1", a(SPOKE))]
    assert list(station.bindings.of(NAME)) == []


def test_look_ups() -> None:
    station = hub(vrf="red")
    register(station)
    register(station, OTHER)
    bindings = station.bindings
    spoke = bindings.on(NAME, a(SPOKE))
    assert spoke is not None
    assert spoke is bindings.known("red", a(SPOKE))
    assert bindings.on("Tunnel9", a(SPOKE)) is None
    assert bindings.known("", a(SPOKE)) is None
    assert {one.address for one in bindings.at(NAME, a(SPOKE_NBMA))} == {a(SPOKE), a(OTHER)}


def test_flags() -> None:
    station = hub()
    register(station, claimed=a("10.1.1.1"), unique=True)
    (spoke,) = station.bindings.snapshot()
    assert spoke.flags == ("unique", "registered", "nat")
    assert (spoke.claimed, spoke.nbma) == (a("10.1.1.1"), a(SPOKE_NBMA))


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["register", "purge", "clear", "time", "interface", "map", "unmap"]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=30,
)


@given(_STEPS)
def test_whatever_happens_the_indexes_agree(steps: list[tuple[str, int, int, bool]]) -> None:
    station = hub()
    for what, overlay, nbma, flag in steps:
        address, at = f"10.0.{nbma % 2}.{20 + overlay}", f"192.0.2.{20 + nbma}"
        if what == "register":
            register(station, address, at, 10 + overlay, unique=flag)
        elif what == "purge":
            for one in station.bindings.at(NAME, a(at)):
                station.bindings.remove(one, "purged")
        elif what == "clear":
            clear(station, address)
        elif what == "time":
            station.wake(station.node.now + 5)
        elif what == "interface":
            station.interface(tunnel_interface(HUB, network_id=1 + flag), HUB_NBMA)
        elif what == "map":
            station.configure(NhrpFamily(maps=(StaticMap(a(address), a(at)),)))
        else:
            station.configure(NhrpFamily())
        station.flush()
        _agree(station)


def _agree(station: Station) -> None:
    bindings = station.bindings
    entries = list(bindings)
    assert station.endpoints() == {one.address: one.nbma for one in entries}
    assert {one.address for one in bindings.of(NAME)} == {one.address for one in entries}
    assert sum(len(rows) for rows in bindings._at.values()) == len(entries)
    assert all(one in bindings.at(NAME, one.nbma) for one in entries)
    assert set(bindings._by_vrf.values()) == set(entries)
    assert len(station.node.timers) == sum(one.expires is not None for one in entries)


def test_the_tunnel_s_own_end_is_no_reason_to_forget() -> None:
    station = hub()
    register(station)
    station.node.tunnels[NAME] = TunnelRow(a(OTHER_NBMA))
    station.changed()
    assert len(station.bindings) == 1


def test_N05_what_ikev2_assigns_to_another_is_taken_from_who_had_it() -> None:
    station = hub()
    register(station)
    register(station, OTHER, OTHER_NBMA)
    for overlay, nbma in ((SPOKE, SPOKE_NBMA), (OTHER, OTHER_NBMA), ("10.0.0.50", OTHER_NBMA)):
        station.assign(overlay, nbma)
        station.bindings.overlay_changed(NAME, a(overlay))
    assert len(station.bindings) == 2
    station.assign(SPOKE, OTHER_NBMA)
    station.bindings.overlay_changed(NAME, a(SPOKE))
    station.flush()
    assert station.endpoints() == {a(OTHER): a(OTHER_NBMA)}
    del station.node.overlays[NAME, a(OTHER)]
    station.bindings.overlay_changed(NAME, a(OTHER))
    assert len(station.bindings) == 1


def test_registrations_outlive_the_speaker_but_no_assignment_to_another() -> None:
    old = hub()
    register(old, hold=300, unique=True)
    register(old, OTHER, OTHER_NBMA, 100)
    register(old, "10.0.0.13", "192.0.2.13", 300)
    kept = dict(old.bindings.kept)
    assert set(kept) == {(NAME, a(SPOKE)), (NAME, a(OTHER)), (NAME, a("10.0.0.13"))}
    new = hub()
    new.gone()
    new.bindings = Bindings(new.node, kept)
    new.node.now = 150.0
    new.assign("10.0.0.13", "192.0.2.66")
    new.interface(tunnel_interface(HUB), HUB_NBMA)
    (row,) = new.bindings.snapshot()
    assert (row.prefix, row.expires, row.flags) == (Prefix.host(a(SPOKE)), 300.0, ("unique", "registered"))
    assert new.endpoints() == {a(SPOKE): a(SPOKE_NBMA)}
    assert set(kept) == {(NAME, a(SPOKE))}
    clear(new)
    assert kept == {}
