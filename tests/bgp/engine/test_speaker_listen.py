"""Listening that fails, and is no longer wanted, or wanted otherwise."""

from __future__ import annotations

import pytest
from attrs import evolve

from bgp.config import ConnectionMode, ListenRange, NeighborConfig
from bgp.engine.fsm import State
from bgp.engine.outputs import Output
from bgp.engine.peers import Peer
from bgp.engine.speaker import LISTEN_AGAIN, Speaker
from stack.addr import Prefix
from stack.events import (
    AddressRow,
    Delta,
    HostPortRow,
    Interface,
    InterfaceKind,
    InterfaceRow,
    NextHopKey,
    NextHopRow,
    NextHopState,
    OverlayRow,
    OverlayState,
)
from tests.bgp.engine.session_world import A, B, config, neighbor
from tests.bgp.engine.test_session_parts import interface
from tests.bgp.engine.test_speaker import come_up, in_node, ports, tell


def test_a_vrf_that_goes_after_its_listener_failed_does_not_wake_us_for_ever() -> None:
    # host port of red comes, listening there fails, the port goes before the next attempt: nothing is to be tried again
    rows = (interface("Loopback0", "10.0.0.1/32"), interface("Ethernet0/0", "192.0.2.1/24", vrf="red", index=2))
    world, node = in_node(config(neighbors=(neighbor(B, 65001, vrf="red"),)), *rows)
    ports(node, red=HostPortRow("ls-1", 1400))
    assert "red" in node.listening
    node.listening.clear()
    node.do(node.speaker.listen_failed("red", "no such device", world.now))
    ports(node, red=None)
    world.run(LISTEN_AGAIN * 2)  # "time stands still" otherwise
    assert node.speaker.deadline() is None or node.speaker.deadline() > world.now
    ports(node, red=HostPortRow("ls-1", 1400))
    assert "red" in node.listening


def test_no_bgp_any_more_after_its_listener_failed() -> None:
    world, node = in_node(config(neighbors=(neighbor(B),)), interface("Ethernet0/0", "192.0.2.1/24"))
    node.listening.clear()
    node.do(node.speaker.listen_failed("", "the address is in use", world.now))
    node.do(node.speaker.reconfigure(evolve(node.speaker.config, asn=0, neighbors={}), world.now))
    world.run(LISTEN_AGAIN * 2)
    assert node.listening == {}


def test_a_hub_does_not_look_at_all_its_spokes_for_each_that_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interfaces of other spokes, what IKEv2 assigned to them, and how they are reached, are nothing to a spoke."""
    group = NeighborConfig(remote_as=100, mode=ConnectionMode.PASSIVE, update_source="Loopback0")
    settings = config(
        peer_groups={"mpls": group}, listen_ranges=(ListenRange(Prefix.parse("0.0.0.0/0"), "mpls"),), listen_limit=500
    )
    _, node = in_node(settings, interface("Loopback0", "192.0.2.1/32"))
    looked: list[bytes] = []
    consider = Speaker._consider

    def noting(self: Speaker, peer: Peer, now: float) -> list[Output]:
        looked.append(peer.key[1])
        return consider(self, peer, now)

    monkeypatch.setattr(Speaker, "_consider", noting)
    for number in range(1, 101):
        address, name = bytes((10, 1, 1, number)), f"Virtual-Access{number}"
        speaker, now = node.speaker, node.world.now
        assigned = {(name, address): OverlayRow(f"spoke {number}", bytes(4))}
        node.do(speaker.receive(Delta(OverlayState, "ikev2", 1, "", assigned), now))
        borrowed = {A: AddressRow(32, origin="unnumbered")}
        row = Interface(InterfaceRow(name, InterfaceKind.TUNNEL), 9 + number, True, 1400, addresses=borrowed)
        tell(node, row)
        come_up(node, address, asn=100)
        hop = {NextHopKey("", address): NextHopRow(True, "", 0, name, number)}
        node.do(speaker.receive(Delta(NextHopState, "routing", 1, "", hop), now))
        assert node.state(address) is State.ESTABLISHED
    assert len(looked) <= 300
    assert max(map(looked.count, looked)) <= 3
