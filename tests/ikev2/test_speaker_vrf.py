"""IKE in front-door VRFs: tunnels whose outer addresses are in a VRF, and the same addresses in another one."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from ikev2.config import IkeProfile, Ikev2Config, IpsecProfile
from ikev2.engine import node as engine
from ikev2.engine.contract import Ends
from ikev2.engine.lifecycle import COLLISION, LINGER
from stack.addr import Prefix, parse_address
from stack.events import (
    AccessWanted,
    InterfaceKind,
    OverlayRow,
    OverlayState,
    ProtectedRow,
    RouteOffered,
    SaKey,
    SaRequest,
    SaState,
    SaUnknown,
    SaWanted,
    TunnelProtected,
)
from tests.ikev2.nodes import Node, World, psk, psk_config
from tests.ikev2.test_speaker_access import AAA, HUB, hub_config, spoke_config

A, B = "192.0.2.1", "192.0.2.2"
FIRST = parse_address("10.0.0.10")
ANYWHERE = evolve(psk(), match_fvrf=None)


def cable(world: World, left: tuple[Node, str, str], right: tuple[Node, str, str]) -> None:
    """(node, VRF, address) at each end."""
    for (node, vrf, own), (far, there, address) in ((left, right), (right, left)):
        world.fronts[node.name, vrf, parse_address(address)] = (far, there)
        assert own


def triangle(config: Ikev2Config | None = None) -> tuple[World, Node, Node, Node]:
    """`a` has 192.0.2.1 in red and in blue; `b` in red and `c` in blue are 192.0.2.2, and call these VRFs otherwise."""
    world = World()
    a, b, c = (world.node(name, A, config or psk_config(ANYWHERE)) for name in "abc")
    for vrf, far, there in (("red", b, "one"), ("blue", c, "two")):
        cable(world, (a, vrf, A), (far, there, B))
        a.protect(f"Tunnel-{vrf}", A, B, front=vrf)
        far.protect("Tunnel0", B, A, front=there)
    return world, a, b, c


def call(a: Node, *vrfs: str) -> None:
    for vrf in vrfs:
        a.want(f"Tunnel-{vrf}", A, B, front=vrf)


def test_the_same_addresses_in_two_vrfs() -> None:
    world, a, b, c = triangle()
    call(a, "red", "blue")
    world.until(lambda: a.up("Tunnel-red") and a.up("Tunnel-blue") and b.up("Tunnel0") and c.up("Tunnel0"))
    for vrf, far, there in (("red", b, "one"), ("blue", c, "two")):
        mine, theirs = a.outbound(SaKey(f"Tunnel-{vrf}")), far.outbound(SaKey("Tunnel0"))
        assert mine is not None
        assert theirs is not None
        assert (mine.vrf, theirs.vrf) == (vrf, there)
        assert a.sad.inbound[theirs.spi].vrf == vrf
        assert far.sad.inbound[mine.spi].vrf == there
    world.run(COLLISION + LINGER + 60)
    assert len(a.snapshot().ikes) == 2, "one identity, in two VRFs, is two peers: none throws the other out"
    a.hear(SaWanted, {SaKey("Tunnel-red"): None})
    world.run(LINGER + 2)
    assert (a.up("Tunnel-red"), a.up("Tunnel-blue")) == (False, True)
    assert not b.snapshot().ikes
    assert len(c.snapshot().ikes) == 1


def test_a_rekey_and_a_crash_keep_the_vrf() -> None:
    world, a, b, _ = triangle()
    call(a, "red")
    world.until(lambda: a.up("Tunnel-red"))
    (peer,) = a.speaker.node.peers.values()
    a.speaker.lifecycle.drive(peer, peer.sa, lambda: peer.sa.rekey(world.now))
    world.run(1)
    a.speaker.lifecycle.drive(peer, peer.sa, lambda: peer.sa.rekey_child(next(iter(peer.children)), world.now))
    world.run(1)
    for sa in [a.outbound(SaKey("Tunnel-red")), *a.sad.inbound.values()]:
        assert sa is not None
        assert sa.vrf == "red"
    a.crash()
    a.begin()
    world.run(30)
    assert {sa.vrf for sa in a.sad.inbound.values()} == {"red"}
    assert {sa.vrf for sa in b.sad.inbound.values()} == {"one"}
    assert a.gaps == b.gaps == []


def test_ike_is_spoken_where_it_is_needed() -> None:
    world, a, b, _ = triangle()
    assert a.listening == {"", "red", "blue"}
    assert b.listening == {"", "one"}
    a.hear(TunnelProtected, {"Tunnel-blue": None})
    assert a.listening == {"", "red"}
    call(a, "blue")
    assert a.listening == {"", "red", "blue"}
    a.reconfigure(psk_config(evolve(psk(), match_fvrf="green")))
    assert a.listening == {"", "red", "blue", "green"}
    assert world.now == 0


def test_any_vrf_is_where_there_are_addresses_that_are_no_tunnel_s() -> None:
    world = World()
    node = world.node("a", A, psk_config(ANYWHERE))
    node.interface("Ethernet0/0", f"{A}/24", kind=InterfaceKind.ETHERNET, vrf="red")
    node.interface("Tunnel5", "10.0.0.1/32", vrf="inside")
    node.interface("Ethernet0/1", kind=InterfaceKind.ETHERNET, vrf="empty")
    assert node.listening == {"", "red"}
    node.reconfigure(psk_config())
    assert node.listening == {""}


def test_there_is_a_bound_of_vrfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_FRONTS", 2)
    world = World()
    node = world.node("a", A, psk_config(ANYWHERE))
    for number in range(5):
        node.protect(f"Tunnel{number}", A, B, front=f"vrf{number}")
    assert node.listening == {"", "vrf0", "vrf1"}


# --- match fvrf ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fvrf", "why"),
    [
        ("", "IKEv2 profile default is not for VRF red (match fvrf)"),
        ("blue", "IKEv2 profile default is not for VRF red (match fvrf)"),
        ("red", ""),
        (None, ""),
    ],
)
def test_a_profile_calls_in_its_vrf(fvrf: str | None, why: str) -> None:
    world, a, _, _ = triangle()
    a.reconfigure(psk_config(evolve(psk(), match_fvrf=fvrf)))
    call(a, "red")
    world.run(5)
    state = a.state("Tunnel-red")
    assert state is not None
    assert (state.up, state.reason) == (not why, why)


@pytest.mark.parametrize(("fvrf", "let_in"), [("", False), ("two", False), ("one", True), (None, True)])
def test_a_profile_is_called_in_its_vrf(fvrf: str | None, let_in: bool) -> None:
    world, a, b, _ = triangle()
    b.reconfigure(psk_config(evolve(psk(), match_fvrf=fvrf)))
    call(a, "red")
    world.run(5)
    assert a.up("Tunnel-red") is let_in


def test_without_a_line_a_profile_is_for_the_default_vrf_and_one_with_a_vrf_is_not() -> None:
    world = World()
    a = world.node("a", A, psk_config(evolve(psk(), match_fvrf="red")))
    a.protect("Tunnel0", A, B)
    a.want("Tunnel0", A, B)
    state = a.state("Tunnel0")
    assert state is not None
    assert state.reason == "IKEv2 profile default is not for the default VRF (match fvrf)"


def test_a_profile_for_each_vrf() -> None:
    """The first that fits, by VRF too."""
    profiles = [psk(name, key=f"of {name}", match_fvrf=name) for name in ("red", "blue")]
    ipsec = {name: IpsecProfile(name, ike_profile=name) for name in ("red", "blue")}
    world = World()
    a = world.node("a", A, psk_config(*profiles, ipsec_profiles=ipsec))
    fars = []
    for vrf in ("red", "blue"):
        far = world.node(vrf, A, psk_config(psk(key=f"of {vrf}", match_fvrf=None)))
        cable(world, (a, vrf, A), (far, "out", B))
        a.protect(f"Tunnel-{vrf}", A, B, front=vrf, profile=vrf)
        far.protect("Tunnel0", B, A, front="out")
        far.want("Tunnel0", B, A, front="out")
        fars.append(far)
    world.until(lambda: all(far.up("Tunnel0") for far in fars))
    assert {ike.profile: ike.ends.vrf for ike in a.snapshot().ikes} == {"red": "red", "blue": "blue"}


# --- a hub whose clients come by a VRF -------------------------------------------------------------------------------------


def a_hub(world: World, fvrf: str | None = "wan", **change: Any) -> Node:
    config = hub_config()
    profile: IkeProfile = evolve(config.profiles["default"], match_fvrf=fvrf, **change)
    hub = world.node("hub", HUB, evolve(config, profiles={"default": profile}))
    hub.interface("Loopback0", "10.0.0.1/32", kind=InterfaceKind.LOOPBACK)
    hub.interface("Ethernet0/0", f"{HUB}/24", kind=InterfaceKind.ETHERNET, vrf="wan")
    hub.interface("Virtual-Template1", "10.0.0.1/32", kind=InterfaceKind.TEMPLATE, unnumbered="Loopback0", vrf="cust")
    return hub


def a_spoke(world: World, hub: Node, number: int = 1, *, vrf: str = "wan", **profile: Any) -> Node:
    address = f"192.0.2.{10 + number}"
    name = f"spoke{number}"
    made = evolve(psk(), aaa=AAA, match_fvrf=None, **profile)
    spoke = world.node(name, address, spoke_config(name, made))
    cable(world, (hub, vrf, HUB), (spoke, "out", address))
    spoke.interface("Ethernet0/0", f"{address}/24", kind=InterfaceKind.ETHERNET, vrf="out")
    spoke.protect("Tunnel0", address, HUB, negotiated=True, front="out")
    spoke.want("Tunnel0", address, HUB, front="out")
    return spoke


def test_a_virtual_access_interface_has_its_ends_in_the_vrf() -> None:
    world = World()
    hub = a_hub(world)
    assert hub.listening == {"", "wan"}
    spoke = a_spoke(world, hub)
    world.until(lambda: spoke.up("Tunnel0"))
    row = hub.table(AccessWanted)["Virtual-Access1"]
    assert (row.vrf, row.local, row.remote) == ("wan", parse_address(HUB), spoke.address)
    hub.hear(TunnelProtected, {"Virtual-Access1": ProtectedRow("P", row.local, row.remote, "wan")})
    hub.interface("Virtual-Access1", "10.0.0.1/32", vrf="cust")
    world.run(1)
    assert set(hub.routes("cust")) == {Prefix.host(FIRST)}
    assert hub.discards("cust")
    assert hub.table(OverlayState) == {("Virtual-Access1", FIRST): OverlayRow("spoke1.example", spoke.address)}


def test_the_default_vrf_is_not_the_door() -> None:
    """The same peer, by the default VRF, is of no profile."""
    world = World()
    hub = a_hub(world)
    spoke = world.node("spoke1", "192.0.2.11", spoke_config("spoke1"))
    spoke.protect("Tunnel0", "192.0.2.11", HUB, negotiated=True)
    spoke.want("Tunnel0", "192.0.2.11", HUB)
    world.run(5)
    assert not spoke.up("Tunnel0")
    assert not hub.table(AccessWanted)


def test_what_covers_an_outer_address_is_refused_in_that_vrf_alone() -> None:
    world = World()
    hub = a_hub(world)
    spokes = [a_spoke(world, hub, number) for number in (1, 2)]
    world.until(lambda: all(spoke.up("Tunnel0") for spoke in spokes))
    node = hub.speaker.node
    holder = next(iter(node.peers.values())).holder
    outer = Prefix.host(spokes[1].address)
    assert node.objection(holder, "wan")(outer) == "it covers the outer address of another tunnel"
    assert node.objection(holder, "")(outer) == ""


def test_a_shortcut_in_a_vrf() -> None:
    """`SaRequest.vrf` says where the neighbour of a template is."""
    world = World()
    hub = a_hub(world)
    a, b = (a_spoke(world, hub, number, virtual_template=1) for number in (1, 2))
    for node in (a, b):
        node.interface("Virtual-Template1", kind=InterfaceKind.TEMPLATE, unnumbered="Tunnel0")
    cable(world, (a, "out", "192.0.2.11"), (b, "out", "192.0.2.12"))
    key = SaKey("Virtual-Template1", a.address)
    b.hear(SaWanted, {key: SaRequest("P", b.address, a.address, "out")})
    world.until(lambda: b.table(SaState)[key].up)
    assert b.table(SaState)[key].access == "Virtual-Access1"
    assert a.table(AccessWanted)["Virtual-Access1"].vrf == b.table(AccessWanted)["Virtual-Access1"].vrf == "out"
    back = SaKey("Virtual-Template1", b.address)
    a.hear(SaWanted, {back: SaRequest("P", a.address, b.address, "out")})
    assert a.table(SaState)[back].access == "Virtual-Access1"
    # the same addresses, in a VRF where nobody has called from
    a.hear(SaWanted, {back: None})
    world.fronts["spoke1", "else", b.address] = (hub, "nowhere")
    a.hear(SaWanted, {back: SaRequest("P", a.address, b.address, "else")})
    assert not a.table(SaState)[back].up
    assert "else" in a.listening


def test_an_address_that_goes_is_of_its_vrf() -> None:
    world, a, _, _ = triangle()
    for number, vrf in enumerate(("red", "blue")):
        a.interface(f"Ethernet0/{number}", f"{A}/24", kind=InterfaceKind.ETHERNET, vrf=vrf)
    call(a, "red", "blue")
    world.until(lambda: a.up("Tunnel-red") and a.up("Tunnel-blue"))
    a.interface("Ethernet0/0", kind=InterfaceKind.ETHERNET, vrf="red")
    assert (a.up("Tunnel-red"), a.up("Tunnel-blue")) == (False, True)


def test_an_unknown_spi_is_of_its_vrf() -> None:
    world, a, b, c = triangle()
    call(a, "red", "blue")
    world.until(lambda: a.up("Tunnel-red") and a.up("Tunnel-blue"))
    world.run(15)
    count = len(world.wire)
    a.fact(SaUnknown(parse_address(A), parse_address(B), 1, "blue"))
    world.run(1)
    sent = [(ends.vrf, len(octets) > 40) for _, octets, ends in world.wire[count:]]
    assert sent == [("blue", True), ("two", True)]
    assert b.up("Tunnel0")
    assert c.up("Tunnel0")
    # in a VRF where nobody is known, it is said there
    world.fronts["a", "red", parse_address("192.0.2.99")] = (b, "one")
    a.fact(SaUnknown(parse_address(A), parse_address("192.0.2.99"), 1, "red"))
    assert world.wire[-1][2] == Ends(parse_address(A), parse_address("192.0.2.99"), vrf="red")


def test_a_flood_from_an_address_in_one_vrf_does_not_count_in_another() -> None:
    _, a, _, _ = triangle()
    admission = a.speaker.node.admission
    for number in range(1000):
        admission.opened(10_000 + number, Ends(b"\0", parse_address(B), vrf="red").where, 0.0)
    assert admission._crowded(Ends(b"\0", parse_address(B), vrf="red").where)
    assert not admission._crowded(Ends(b"\0", parse_address(B), vrf="blue").where)
    assert not admission._crowded(Ends(b"\0", parse_address(B)).where)


def test_the_routes_of_a_vrf_s_tunnel_come_and_go() -> None:
    world = World()
    hub = a_hub(world)
    spoke = a_spoke(world, hub)
    world.until(lambda: spoke.up("Tunnel0"))
    world.run(1)
    assert set(spoke.table(RouteOffered)) == {Prefix.parse("10.0.0.1/32")}
    spoke.hear(SaWanted, {SaKey("Tunnel0"): None})
    world.run(LINGER + 2)
    assert spoke.empty
    assert hub.empty
