"""Listening that fails, and is no longer wanted, or wanted otherwise."""

from __future__ import annotations

from attrs import evolve

from bgp.engine.speaker import LISTEN_AGAIN
from stack.events import HostPortRow
from tests.bgp.engine.session_world import B, config, neighbor
from tests.bgp.engine.test_session_parts import interface
from tests.bgp.engine.test_speaker import in_node, ports


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
