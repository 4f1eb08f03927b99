"""The speaker in a node: interfaces, host ports, who may connect, and what it is told to listen to."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from bgp.config import BgpConfig, ConnectionMode, ListenRange, NeighborConfig, NeighborFamily
from bgp.engine.fsm import State
from bgp.engine.outputs import Close, Listen, Publish, SyncedOut
from bgp.engine.session_ends import Hold
from bgp.wire import Keepalive, Notification, Open, Session, encode
from stack.addr import Afi, Prefix, Safi, parse_address
from stack.events import Delta, HostPortRow, HostPortState, Interface, InterfaceState, SourceOffered, SourceRow, Synced
from tests.bgp.engine.session_world import ID_A, ID_B, A, B, Node, World, config, neighbor
from tests.bgp.engine.test_session_parts import interface

C = parse_address("192.0.2.3")


def in_node(settings: BgpConfig, *rows: Interface) -> tuple[World, Node]:
    world = World()
    node = world.add(A, settings, standalone=False)
    node.do(node.speaker.start(world.now))
    tell(node, *rows)
    node.do(node.speaker.receive(Synced(InterfaceState, "routing", 1), world.now))
    return world, node


def tell(node: Node, *rows: Interface, gone: tuple[str, ...] = ()) -> None:
    changed: dict[str, Any] = {**{one.name: one for one in rows}, **dict.fromkeys(gone)}
    node.do(node.speaker.receive(Delta(InterfaceState, "routing", 1, "", changed), node.world.now))


def ports(node: Node, **rows: HostPortRow | None) -> None:
    node.do(node.speaker.receive(Delta(HostPortState, "forwarder", 1, "", rows), node.world.now))


def come_up(node: Node, remote: bytes, local: bytes = A, *, vrf: str = "", asn: int = 65000) -> int:
    number = node.speaker.number()
    node.do(node.speaker.accepted(number, vrf, local, remote, node.world.now))
    for message in (Open(asn, 90, bytes((10, 9, *remote[-2:]))), Keepalive()):
        node.do(node.speaker.octets(number, encode(message, Session()), node.world.now))
    return number


# --- who may run --------------------------------------------------------------------------------------------------------


def test_ebgp_dials_only_a_neighbor_on_a_subnet_of_ours() -> None:
    world, node = in_node(config(neighbors=(neighbor(B, 65001),)), interface("Loopback0", "10.0.0.1/32"))
    assert node.peer(B).hold is Hold.NOT_CONNECTED
    assert node.connects == []
    tell(node, interface("Ethernet0/0", "192.0.2.1/24"))
    assert node.state(B) is State.CONNECT
    assert (node.connects[0].local, node.connects[0].ttl, node.connects[0].min_ttl) == (A, 1, 0)
    world.run(60)


def test_ebgp_multihop_and_ttl_security_and_a_password() -> None:
    far = parse_address("198.51.100.7")
    one = neighbor(far, 65001, ebgp_multihop=255, password="secret")
    secured = neighbor(B, 65001, ttl_security=1)
    _, node = in_node(config(neighbors=(one, secured)), interface("Ethernet0/0", "192.0.2.1/24"))
    dials = {connect.remote: connect for connect in node.connects}
    assert (dials[far].ttl, dials[far].password, dials[far].local) == (255, b"secret", b"")
    assert (dials[B].ttl, dials[B].min_ttl) == (255, 255)
    assert "secret" not in repr(dials[far])
    assert node.listening[""].keys == ((Prefix.host(far), b"secret"),)
    assert "secret" not in repr(node.listening[""])


def test_a_direct_ebgp_session_ends_with_its_interface() -> None:
    one = neighbor(B, 65001, mode=ConnectionMode.BOTH)
    _, node = in_node(config(neighbors=(one,)), interface("Ethernet0/0", "192.0.2.1/24"))
    node.do(node.speaker.tcp_failed(node.connects[0].connection, "refused", node.world.now))
    number = come_up(node, B, asn=65001)
    assert node.state(B) is State.ESTABLISHED
    assert node.ttls[0].ttl == 1
    tell(node, interface("Ethernet0/0", "192.0.2.1/24", up=False))
    assert node.said[-1] == Notification(6, 6)
    assert (node.state(B), node.peer(B).hold) == (State.IDLE, Hold.NOT_CONNECTED)
    assert number not in node.speaker._connections
    assert not node.ribs.up


def test_an_interface_that_changes_otherwise_ends_nothing() -> None:
    _, node = in_node(config(neighbors=(neighbor(B),)), interface("Ethernet0/0", "192.0.2.1/24"))
    node.do(node.speaker.tcp_failed(node.connects[0].connection, "refused", node.world.now))
    come_up(node, B)
    tell(node, interface("Ethernet0/0", "192.0.2.1/24", "192.0.2.77/24", description="new"))
    tell(node, interface("Ethernet0/1", "198.51.100.1/24"))
    tell(node, gone=("Ethernet0/1",))
    assert node.state(B) is State.ESTABLISHED


def test_another_vrf_losing_the_same_address_is_nothing_to_us() -> None:
    rows = (interface("Ethernet0/0", "192.0.2.1/24"), interface("Ethernet0/1", "192.0.2.1/24", vrf="red", index=2))
    _, node = in_node(config(neighbors=(neighbor(B),)), *rows)
    node.do(node.speaker.tcp_failed(node.connects[0].connection, "refused", node.world.now))
    come_up(node, B)
    tell(node, gone=("Ethernet0/1",))
    assert node.state(B) is State.ESTABLISHED
    tell(node, gone=("Ethernet0/0",))
    assert node.state(B) is State.IDLE


def test_a_new_address_of_the_update_source_is_dialled_from() -> None:
    _, node = in_node(
        config(neighbors=(neighbor(B, update_source="Loopback0"),)), interface("Loopback0", "10.0.0.1/32")
    )
    assert node.connects[-1].local == parse_address("10.0.0.1")
    tell(node, interface("Loopback0", "10.0.0.8/32"))
    assert node.connects[-1].local == parse_address("10.0.0.8")
    assert len(node.dialling) == 1
    # who connects to another address than that is refused
    number = node.speaker.number()
    outputs = node.speaker.accepted(number, "", A, B, node.world.now)
    assert Close(number, abort=True) in outputs
    assert node.peer(B).refused == {"connected to another address than update-source": 1}


def test_the_router_id_is_the_highest_loopback_and_stays() -> None:
    settings = evolve(config(neighbors=(neighbor(B),)), router_id=b"")
    _, node = in_node(
        settings, interface("Loopback0", "10.0.0.1/32"), interface("Ethernet0/0", "192.0.2.1/24", index=2)
    )
    assert node.speaker.snapshot().router_id == ID_A
    tell(node, interface("Loopback1", "10.0.0.77/32"))
    tell(node, gone=("Loopback0",))
    assert node.speaker.snapshot().router_id == ID_A
    node.do(node.speaker.reconfigure(evolve(settings, router_id=ID_B), node.world.now))
    assert node.speaker.snapshot().router_id == ID_B


def test_the_router_id_is_chosen_when_no_synced_comes() -> None:
    world = World()
    node = world.add(A, evolve(config(neighbors=(neighbor(B),)), router_id=b""), standalone=False)
    node.do(node.speaker.start(world.now))
    tell(node, interface("Ethernet0/0", "192.0.2.1/24"))
    assert node.peer(B).hold is Hold.NO_IDENTIFIER
    world.run(0.6)
    assert node.speaker.snapshot().router_id == A


def test_a_vrf_waits_for_its_host_port() -> None:
    one = neighbor(B, 65001, vrf="red")
    _, node = in_node(config(neighbors=(one,)), interface("Ethernet0/0", "192.0.2.1/24", vrf="red"))
    assert node.peer(B, "red").hold is Hold.NO_HOST_PORT
    assert node.listening == {}
    ports(node, red=HostPortRow("ls-1", 1500))
    assert node.listening == {"red": Listen("red", b"", 179)}
    assert node.state(B, "red") is State.CONNECT
    assert (node.connects[-1].vrf, node.connects[-1].local) == ("red", A)
    node.do(node.speaker.tcp_failed(node.connects[-1].connection, "refused", node.world.now))
    come_up(node, B, vrf="red", asn=65001)
    assert node.state(B, "red") is State.ESTABLISHED
    ports(node, red=HostPortRow("ls-1", 1400))
    assert node.state(B, "red") is State.ESTABLISHED
    ports(node, red=None)
    assert (node.state(B, "red"), node.listening) == (State.IDLE, {})


def test_a_listener_that_fails_is_tried_again() -> None:
    world, node = in_node(config(neighbors=(neighbor(B),)), interface("Ethernet0/0", "192.0.2.1/24"))
    assert "" in node.listening
    node.listening.clear()
    node.do(node.speaker.listen_failed("", "permission denied", world.now))
    assert any(log.fields.get("reason") == "permission denied" for log in node.logs)
    world.run(4)
    assert node.listening == {}
    world.run(2)
    assert "" in node.listening


@pytest.mark.parametrize(
    ("change", "hold"),
    [
        ({"remote_as": 0}, Hold.NO_AS),
        ({"shutdown": True}, Hold.SHUTDOWN),
        ({"update_source": "Loopback9"}, Hold.NO_SOURCE),
    ],
)
def test_why_a_neighbor_is_not_even_started(change: dict[str, Any], hold: Hold) -> None:
    one = NeighborConfig(**{"address": B, "remote_as": 65000, **change})
    _, node = in_node(config(neighbors=(one,)), interface("Ethernet0/0", "192.0.2.1/24"))
    assert node.peer(B).hold is hold
    number = node.speaker.number()
    node.do(node.speaker.accepted(number, "", A, B, node.world.now))
    assert node.peer(B).refused == {hold.value: 1}
    assert not node.speaker._connections


def test_sources_are_offered_and_withdrawn() -> None:
    vpn = {(Afi.IPV4, Safi.VPN): NeighborFamily()}
    _, node = in_node(config(neighbors=(neighbor(B, update_source="Loopback0", families=vpn),)))
    assert Publish(SourceOffered, "", {"Loopback0": SourceRow("update-source")}) in node.published
    assert SyncedOut(SourceOffered) in node.published
    changed = config(neighbors=(neighbor(B, update_source="Loopback1", families=vpn),))
    node.do(node.speaker.reconfigure(changed, node.world.now))
    assert node.published[-1] == Publish(
        SourceOffered, "", {"Loopback1": SourceRow("update-source"), "Loopback0": None}
    )


def test_everything_from_the_bus_reaches_the_tables() -> None:
    _, node = in_node(config(), interface("Ethernet0/0", "192.0.2.1/24"))
    assert [call[1].topic for call in node.ribs.called("receive")] == [InterfaceState, InterfaceState]


# --- dynamic neighbours -------------------------------------------------------------------------------------------------


def hub(limit: int, **group: Any) -> BgpConfig:
    settings = NeighborConfig(remote_as=65001, mode=ConnectionMode.PASSIVE, **group)
    return config(
        peer_groups={"spokes": settings},
        listen_ranges=(ListenRange(Prefix.parse("10.0.0.0/8"), "spokes"),),
        listen_limit=limit,
    )


def spoke(number: int) -> bytes:
    return bytes((10, 0, number >> 8, number & 255))


def test_B18_the_listen_limit_holds_and_the_oldest_incomplete_makes_room() -> None:
    world, node = in_node(hub(3), interface("Loopback0", "192.0.2.1/32"))
    for number in (1, 2):
        come_up(node, spoke(number), asn=65001)
    half_open = node.speaker.number()
    node.do(node.speaker.accepted(half_open, "", A, spoke(3), world.now))
    assert node.speaker.snapshot().dynamic == 3
    # N + 1: the half-open one goes, the two that are up do not notice
    come_up(node, spoke(4), asn=65001)
    assert {one.key[1] for one in node.speaker.snapshot().peers} == {spoke(1), spoke(2), spoke(4)}
    assert half_open not in node.speaker._connections
    # and now that all are complete, nobody else comes in
    late = node.speaker.number()
    outputs = node.speaker.accepted(late, "", A, spoke(5), world.now)
    assert Close(late, abort=True) in outputs
    assert node.speaker.snapshot().refused == {"listen limit, oldest incomplete dropped": 1, "listen limit": 1}
    assert all(one.state is State.ESTABLISHED for one in node.speaker.snapshot().peers)


def test_B18_ten_thousand_half_open_connections_are_never_more_than_the_limit() -> None:
    world, node = in_node(hub(50), interface("Loopback0", "192.0.2.1/32"))
    for number in range(10_000):
        node.do(node.speaker.accepted(node.speaker.number(), "", A, spoke(number), world.now))
        assert len(node.speaker._peers) <= 50
    assert len(node.speaker._connections) == 50
    world.run(11)
    assert node.speaker._peers == {}
    assert node.speaker._connections == {}
    assert node.speaker.deadline() is None


def test_a_dynamic_neighbor_goes_with_its_connection() -> None:
    world, node = in_node(hub(5), interface("Loopback0", "192.0.2.1/32"))
    number = come_up(node, spoke(1), asn=65001)
    assert node.ribs.up["", spoke(1)].dynamic
    node.do(node.speaker.tcp_closed(number, "reset", world.now))
    assert node.speaker.snapshot().peers == ()
    assert node.ribs.up == {}
    # a wrong AS, and a stranger, leave nothing either
    come_up(node, spoke(2), asn=65009)
    assert node.said[-1] == Notification(2, 2)
    node.do(node.speaker.accepted(node.speaker.number(), "", A, parse_address("11.0.0.1"), world.now))
    assert node.speaker.snapshot().refused == {"no such neighbor": 1}
    assert node.speaker.snapshot().peers == ()


def test_a_range_that_is_taken_away_ends_its_neighbors() -> None:
    world, node = in_node(hub(5), interface("Loopback0", "192.0.2.1/32"))
    come_up(node, spoke(1), asn=65001)
    node.do(node.speaker.reconfigure(config(), world.now))
    assert node.said[-1] == Notification(6, 3)
    assert node.speaker.snapshot().peers == ()
    assert node.listening == {}


def test_B17_peers_take_turns() -> None:
    """One peer's 2 MB do not delay another's keepalive by more than one turn."""
    settings = config(neighbors=(neighbor(B, mode=ConnectionMode.PASSIVE), neighbor(C, mode=ConnectionMode.PASSIVE)))
    world, node = in_node(settings, interface("Ethernet0/0", "192.0.2.1/24"))
    fast, calm = come_up(node, B), come_up(node, C)
    update = bytes.fromhex("ff" * 16 + "0017 02 0000 0000")
    node.do(node.speaker.octets(fast, update * 90_000, world.now))
    before = len(node.ribs.called("update"))
    node.do(node.speaker.octets(calm, encode(Keepalive(), Session()), world.now))
    assert node.peer(C).received["Keepalive"] == 2
    assert len(node.ribs.called("update")) == before < 3000
