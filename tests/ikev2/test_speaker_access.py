"""Virtual access, pools, mode config both ways, and what of it stands in routing: the FlexVPN hub and its spokes."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from ikev2.config import (
    AaaAuthorization,
    AuthorizationPolicy,
    Dpd,
    IkeProfile,
    Ikev2Config,
    IpPool,
    RouteAccept,
)
from ikev2.engine import calls
from ikev2.engine.contract import Grant, Refusal
from ikev2.engine.lifecycle import LINGER, SUPERSEDED
from ikev2.events import PeerRefused
from ikev2.wire.payloads import Attribute
from stack.addr import Prefix, parse_address
from stack.events import (
    AccessWanted,
    AddressOffered,
    AddressRow,
    BindingOffered,
    EndpointOffered,
    InterfaceKind,
    ProtectedRow,
    SaKey,
    SaMoved,
    SaState,
    SaWanted,
    TunnelProtected,
    Via,
)
from stack.policy.lists import AccessEntry, AccessList
from tests.ikev2.nodes import Node, World, policy_rows, psk, psk_config

HUB = "192.0.2.1"
AAA = (AaaAuthorization("psk", "default", "POLICY"),)


def P(text: str) -> Prefix:
    return Prefix.parse(text)


def hub_config(policy: AuthorizationPolicy | None = None, **more: Any) -> Ikev2Config:
    given = policy or AuthorizationPolicy("POLICY", pool="POOL", route_set_interface="", banner="Welcome")
    return psk_config(
        evolve(psk(), virtual_template=1, aaa=AAA, dpd=Dpd(10, 2, on_demand=False)),
        authorization_policies={"POLICY": given},
        pools={"POOL": IpPool("POOL", parse_address("10.0.0.10"), parse_address("10.0.0.19"))},
        aaa_lists={"default": "local"},
        fqdn="hub.example",
        **more,
    )


def spoke_config(name: str, profile: IkeProfile | None = None) -> Ikev2Config:
    return psk_config(
        profile or evolve(psk(), aaa=AAA),
        authorization_policies={"POLICY": AuthorizationPolicy("POLICY", route_set_interface="")},
        aaa_lists={"default": "local"},
        fqdn=f"{name}.example",
    )


def make_hub(world: World, config: Ikev2Config | None = None, **more: Any) -> Node:
    hub = world.node("hub", HUB, config or hub_config(), **more)
    hub.interface("Loopback0", "10.0.0.1/32", kind=InterfaceKind.LOOPBACK)
    hub.interface("Virtual-Template1", "10.0.0.1/32", kind=InterfaceKind.TEMPLATE, unnumbered="Loopback0")
    return hub


def make_spoke(world: World, number: int, config: Ikev2Config | None = None, *, negotiated: bool = True) -> Node:
    name, address = f"spoke{number}", f"192.0.2.{10 + number}"
    spoke = world.node(name, address, config or spoke_config(name))
    own = () if negotiated else (f"10.0.0.{100 + number}/32",)
    spoke.protect("Tunnel0", address, HUB, negotiated=negotiated, addresses=own)
    spoke.want("Tunnel0", address, HUB)
    return spoke


def clone(hub: Node) -> None:
    """What tunnel and routing do with AccessWanted."""
    for name, row in hub.table(AccessWanted).items():
        if name not in hub.interfaces:
            hub.interface(name, "10.0.0.1/32")
            hub.hear(TunnelProtected, {name: ProtectedRow(row.profile, row.local, row.remote)})
        assert row.template == "Virtual-Template1"


def come_up(world: World, hub: Node, *spokes: Node) -> None:
    for spoke in spokes:
        world.until(lambda spoke=spoke: spoke.up("Tunnel0"))
    clone(hub)
    world.run(1)


def test_the_hub_and_a_spoke() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    row = hub.table(AccessWanted)["Virtual-Access1"]
    assert (row.local, row.remote) == (parse_address(HUB), parse_address("192.0.2.11"))
    assert (row.profile, row.description) == ("P", "IKEv2 peer spoke1.example")
    assert hub.up("Virtual-Access1")
    # the spoke: its address, a route and an implicit null to the hub's
    mine = parse_address("10.0.0.10")
    assert spoke.table(AddressOffered) == {("Tunnel0", mine): AddressRow(32, origin="negotiated")}
    route = spoke.routes()[P("10.0.0.1/32")]
    assert (route.vias, route.distance, route.kind) == ((Via(interface="Tunnel0"),), 1, "static")
    assert spoke.table(BindingOffered) == {("", P("10.0.0.1/32"), b""): (3,)}
    assert spoke.snapshot().ikes[0].banner == "Welcome"
    # the hub: likewise to the spoke's, which it knows from its pool and from the spoke's CFG_SET
    assert hub.routes()[P("10.0.0.10/32")].vias == (Via(interface="Virtual-Access1"),)
    assert hub.table(BindingOffered) == {("", P("10.0.0.10/32"), b""): (3,)}
    assert hub.table(EndpointOffered) == {}
    assert hub.snapshot().ikes[0].remote_subnets == (P("10.0.0.10/32"),)
    assert hub.snapshot().ikes[0].assigned == (mine,)


def test_it_all_vanishes_with_the_sa() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    spoke.hear(SaWanted, {SaKey("Tunnel0"): None})
    world.run(LINGER + 10)
    for node in (hub, spoke):
        for topic in (AccessWanted, AddressOffered, BindingOffered, EndpointOffered, SaState):
            assert node.table(topic) == {}, topic
        assert node.routes() == {}
        assert node.empty
    assert hub.snapshot().pools[0].used == 0
    assert len(hub.snapshot().pools[0].leases) == 1


def test_labels_come_and_go_with_the_interface() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    hub.interface("Virtual-Access1", "10.0.0.1/32", mpls=False)
    assert hub.table(BindingOffered) == {}
    assert hub.routes()
    hub.interface("Virtual-Access1", "10.0.0.1/32", mpls=True)
    assert hub.table(BindingOffered)


def test_rows_are_of_the_inside_vrf() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    world.until(lambda: spoke.up("Tunnel0"))
    hub.interface("Virtual-Access1", "10.0.0.1/32", vrf="red")
    world.run(1)
    assert set(hub.routes("red")) == {P("10.0.0.10/32")}
    assert hub.routes() == {}
    assert hub.table(BindingOffered) == {("red", P("10.0.0.10/32"), b""): (3,)}
    hub.interface("Virtual-Access1", "10.0.0.1/32", vrf="blue")
    assert hub.routes("red") == {}
    assert set(hub.routes("blue")) == {P("10.0.0.10/32")}


def test_numbers_are_the_lowest_free_ones() -> None:
    world = World()
    hub = make_hub(world)
    spokes = [make_spoke(world, n) for n in range(1, 5)]
    come_up(world, hub, *spokes)
    assert sorted(hub.table(AccessWanted)) == [f"Virtual-Access{n}" for n in range(1, 5)]
    second = next(n for n, row in hub.table(AccessWanted).items() if row.description.endswith("spoke2.example"))
    spokes[1].hear(SaWanted, {SaKey("Tunnel0"): None})
    world.run(10)
    assert second not in hub.table(AccessWanted)
    come_up(world, hub, make_spoke(world, 7))
    assert hub.table(AccessWanted)[second].description == "IKEv2 peer spoke7.example"


def test_the_same_identity_keeps_its_interface_and_its_address() -> None:
    """I16: a spoke crashes and comes back: make before break at the hub."""
    world = World()
    hub = make_hub(world)
    others = [make_spoke(world, n) for n in (1, 2)]
    come_up(world, hub, *others)
    before = {row.description: name for name, row in hub.table(AccessWanted).items()}
    address = others[1].table(AddressOffered)
    others[1].vanish()
    world.run(3)
    others[1] = make_spoke(world, 2)
    come_up(world, hub, others[1])
    assert {row.description: name for name, row in hub.table(AccessWanted).items()} == before
    assert others[1].table(AddressOffered) == address
    assert hub.gaps == []
    world.run(LINGER + 1)
    assert len(hub.snapshot().ikes) == 2
    assert hub.snapshot().pools[0].used == 2


def test_I16_same_identity_twice() -> None:
    """From another address, while the old one stands: the newer one has it all."""
    world = World()
    hub = make_hub(world)
    first = make_spoke(world, 1)
    come_up(world, hub, first)
    first.speaker.node.stopping = True  # it will not fight back
    second = make_spoke(world, 5, spoke_config("spoke1"))
    come_up(world, hub, second)
    assert list(hub.table(AccessWanted)) == ["Virtual-Access1"]
    assert hub.table(AccessWanted)["Virtual-Access1"].remote == parse_address("192.0.2.15")
    assert second.table(AddressOffered) == first.table(AddressOffered) or not first.table(AddressOffered)
    world.run(SUPERSEDED + LINGER + 2)
    assert [ike.ends.remote for ike in hub.snapshot().ikes] == [parse_address("192.0.2.15")]
    assert hub.gaps == []
    assert "one identity at two addresses" in [log.event for log in hub.logs]


def test_I16_a_dead_spoke_frees_everything_in_bounded_time() -> None:
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    spoke.vanish()
    world.until(lambda: not hub.table(AccessWanted), 120)
    world.run(1)
    assert hub.empty


def test_pool_exhausted_is_refused_and_recovers() -> None:
    world = World()
    config = evolve(
        hub_config(), pools={"POOL": IpPool("POOL", parse_address("10.0.0.10"), parse_address("10.0.0.10"))}
    )
    hub = make_hub(world, config)
    first = make_spoke(world, 1)
    come_up(world, hub, first)
    second = make_spoke(world, 2)
    world.run(5)
    assert not second.up("Tunnel0")
    assert not [row for row in hub.table(AccessWanted).values() if "spoke2" in row.description]
    state = second.state("Tunnel0")
    assert state is not None
    assert "INTERNAL_ADDRESS_FAILURE" in state.reason
    first.hear(SaWanted, {SaKey("Tunnel0"): None})
    world.until(lambda: second.up("Tunnel0"), 200)
    assert second.table(AddressOffered) == {
        ("Tunnel0", parse_address("10.0.0.10")): AddressRow(32, origin="negotiated")
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"aaa_lists": {"other": "local"}}, "AAA list default is not defined"),
        ({"aaa_lists": {}, "aaa_new_model": True}, "AAA list default is not defined"),
        ({"authorization_policies": {}}, "authorization policy POLICY is not defined"),
        ({"pools": {}}, "pool POOL is not defined"),
    ],
)
def test_why_a_peer_is_not_let_in(change: dict[str, Any], reason: str) -> None:
    world = World()
    hub = make_hub(world, evolve(hub_config(), **change))
    spoke = make_spoke(world, 1)
    world.run(5)
    assert not spoke.up("Tunnel0")
    assert any(reason in str(log.fields.get("reason", "")) for log in hub.logs), hub.logs


def test_where_nothing_is_said_of_aaa_the_policies_of_the_node_are_meant() -> None:
    """As in the listings of IOS's documents, whose spokes name a list that they do not define."""
    world = World()
    hub = make_hub(world, evolve(hub_config(), aaa_lists={}))
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    assert spoke.table(AddressOffered)


def test_a_missing_template_is_no_tunnel() -> None:
    world = World()
    hub = world.node("hub", HUB, hub_config())
    spoke = make_spoke(world, 1)
    world.run(5)
    assert not spoke.up("Tunnel0")
    assert hub.table(AccessWanted) == {}


def test_a_static_spoke_announces_its_own_address() -> None:
    """CFG_SET from the initiator: nothing was assigned, so only this tells the hub."""
    world = World()
    hub = make_hub(world)
    spoke = make_spoke(world, 1, negotiated=False)
    come_up(world, hub, spoke)
    assert spoke.table(AddressOffered) == {}
    assert set(hub.routes()) == {P("10.0.0.101/32")}
    assert set(spoke.routes()) == {P("10.0.0.1/32")}
    # and says so when it changes
    spoke.interface("Tunnel0", "10.0.0.201/32")
    world.run(1)
    assert set(hub.routes()) == {P("10.0.0.201/32")}


def test_set_is_not_sent_or_not_taken_if_so_configured() -> None:
    for hub_profile, spoke_profile in (
        ({"config_exchange_set_accept": False}, {}),
        ({}, {"config_exchange_set_send": False}),
    ):
        world = World()
        config = hub_config()
        config = evolve(config, profiles={"default": evolve(config.profiles["default"], **hub_profile)})
        hub = make_hub(world, config)
        spoke = make_spoke(world, 1, spoke_config("spoke1", evolve(psk(), aaa=AAA, **spoke_profile)), negotiated=False)
        come_up(world, hub, spoke)
        assert hub.routes() == {}
        assert hub.up("Virtual-Access1")


def test_access_lists_are_announced_and_route_accept_rules() -> None:
    world = World()
    policy = AuthorizationPolicy("POLICY", pool="POOL", route_set_acl=("NETS",))
    hub = make_hub(world, hub_config(policy))
    nets = AccessList(
        "NETS",
        entries=(
            AccessEntry(10, True, parse_address("10.20.0.0"), parse_address("0.0.255.255")),
            AccessEntry(20, True, parse_address("0.0.0.0"), parse_address("255.255.255.255")),
            AccessEntry(30, True, parse_address("192.0.2.0"), parse_address("0.0.0.255")),
        ),
    )
    hub.hear(*policy_rows(NETS=nets))
    accept = AuthorizationPolicy("POLICY", route_set_interface="", route_accept=RouteAccept(tag=9, distance=200))
    config = evolve(spoke_config("spoke1"), authorization_policies={"POLICY": accept})
    spoke = make_spoke(world, 1, config)
    come_up(world, hub, spoke)
    routes = spoke.routes()
    assert set(routes) == {P("10.20.0.0/16")}
    assert (routes[P("10.20.0.0/16")].distance, routes[P("10.20.0.0/16")].tag) == (200, 9)
    refused = spoke.snapshot().ikes[0].refused_subnets
    assert refused == {
        P("0.0.0.0/0"): "a default route",
        P("192.0.2.0/24"): "it covers the tunnel's own end 192.0.2.11",
    }
    assert set(spoke.reasons("a peer's route is refused")) == set(refused.values())


def test_route_accept_can_be_off() -> None:
    world = World()
    hub = make_hub(world)
    off = AuthorizationPolicy("POLICY", route_accept=RouteAccept(enabled=False))
    spoke = make_spoke(world, 1, evolve(spoke_config("spoke1"), authorization_policies={"POLICY": off}))
    come_up(world, hub, spoke)
    assert spoke.routes() == {}
    assert spoke.table(AddressOffered)


def test_a_spoke_cannot_take_another_one_s_address() -> None:
    world = World()
    hub = make_hub(world)
    first, second = make_spoke(world, 1), make_spoke(world, 2, negotiated=False)
    come_up(world, hub, first, second)
    second.interface("Tunnel0", "10.0.0.10/32", "10.0.0.102/32")
    world.run(1)
    route = hub.routes()[P("10.0.0.10/32")]
    first_access = next(n for n, row in hub.table(AccessWanted).items() if "spoke1" in row.description)
    assert route.vias == (Via(interface=first_access),)
    assert "it is another peer's" in hub.reasons("a peer's route is refused")


def test_mgre_hub_learns_endpoints() -> None:
    world = World()
    config = hub_config()
    hub = world.node("hub", HUB, config)
    hub.protect("Tunnel0", HUB, addresses=("10.0.0.1/24",))
    spoke = make_spoke(world, 1)
    world.until(lambda: spoke.up("Tunnel0"))
    world.run(1)
    assert hub.up("Tunnel0", "192.0.2.11")
    rows = hub.table(EndpointOffered)
    assert {key: row.transport for key, row in rows.items()} == {
        ("Tunnel0", parse_address("10.0.0.10")): parse_address("192.0.2.11")
    }
    assert set(hub.routes()) == {P("10.0.0.10/32")}
    assert hub.table(AccessWanted) == {}


INSIDE, OUTSIDE, ELSEWHERE = (parse_address(a) for a in ("172.16.0.2", "203.0.113.5", "203.0.113.9"))


def behind_nat(world: World) -> Node:
    world.nat[INSIDE] = (OUTSIDE, 20000)
    spoke = world.node("spoke1", "172.16.0.2", spoke_config("spoke1"))
    spoke.protect("Tunnel0", "172.16.0.2", HUB, negotiated=True)
    spoke.want("Tunnel0", "172.16.0.2", HUB)
    return spoke


def test_rfc7296_2_23_a_spoke_behind_a_nat() -> None:
    world = World()
    hub = make_hub(world)
    spoke = behind_nat(world)
    come_up(world, hub, spoke)
    outbound = hub.outbound(SaKey("Virtual-Access1"))
    assert outbound is not None
    assert (outbound.remote, outbound.ports, outbound.form.udp) == (OUTSIDE, (4500, 24500), True)
    assert hub.table(AccessWanted)["Virtual-Access1"].remote == OUTSIDE
    assert set(hub.routes()) == {P("10.0.0.10/32")}
    ike = hub.snapshot().ikes[0]
    assert (ike.nat_remote, ike.nat_local, ike.ends.remote_port) == (True, False, 24500)


def test_many_spokes_behind_one_nat() -> None:
    """They differ in their ports alone."""
    world = World()
    hub = make_hub(world)
    spokes = []
    for n in range(1, 5):
        inside = f"172.16.0.{n}"
        world.nat[parse_address(inside)] = (OUTSIDE, 10000 * n)
        spoke = world.node(f"s{n}", inside, spoke_config(f"s{n}"))
        spoke.protect("Tunnel0", inside, HUB, negotiated=True)
        spoke.want("Tunnel0", inside, HUB)
        spokes.append(spoke)
        come_up(world, hub, spoke)
    world.run(10)
    assert len(hub.table(AccessWanted)) == len(hub.routes()) == 4
    assert len({key for spoke in spokes for key in spoke.table(AddressOffered)}) == 4
    assert sorted(bundle.outbound.ports[1] for bundle in hub.sad if bundle.outbound) == [14500, 24500, 34500, 44500]


def test_I16_a_peer_behind_a_nat_moves() -> None:
    """The NAT forgets, and maps it anew: the next packet that is authenticated says where it is now."""
    world = World()
    hub = make_hub(world)
    spoke = behind_nat(world)
    come_up(world, hub, spoke)
    key = SaKey("Virtual-Access1")
    before = hub.outbound(key)
    assert before is not None
    before.use.sequence = 4711
    spi = next(iter(hub.sad.inbound))
    hub.fact(SaMoved(spi, ELSEWHERE, 61000))
    outbound = hub.outbound(key)
    assert outbound is not None
    assert (outbound.remote, outbound.ports[1]) == (ELSEWHERE, 61000)
    # a key is never used with a counter that began anew
    assert outbound.use is before.use
    row = hub.table(AccessWanted)["Virtual-Access1"]
    assert row.remote == ELSEWHERE
    hub.hear(TunnelProtected, {"Virtual-Access1": ProtectedRow(row.profile, row.local, row.remote)})
    assert hub.up("Virtual-Access1")
    # an IKE message does it too
    world.nat[INSIDE] = (OUTSIDE, 30000)
    spoke.interface("Tunnel0", "10.0.0.201/32")
    world.run(1)
    assert hub.table(AccessWanted)["Virtual-Access1"].remote == OUTSIDE
    assert hub.snapshot().ikes[0].ends.remote_port == 34500
    assert hub.gaps == []
    hub.fact(SaMoved(999, ELSEWHERE, 61000))


def test_what_is_wanted_may_be_heard_before_what_for() -> None:
    world = World()
    hub = make_hub(world)
    spoke = world.node("spoke1", "192.0.2.11", spoke_config("spoke1"))
    spoke.want("Tunnel0", "192.0.2.11", HUB)
    world.run(0.015)
    spoke.protect("Tunnel0", "192.0.2.11", HUB, negotiated=True)
    come_up(world, hub, spoke)
    assert list(spoke.table(AddressOffered)) == [("Tunnel0", parse_address("10.0.0.10"))]
    world.run(LINGER + 40)
    assert len(hub.snapshot().ikes) == 1


# --- the embedder ---------------------------------------------------------------------------------------------------------


def test_the_embedder_decides_and_gives_the_address() -> None:
    world = World()
    hub = make_hub(world, authorises=True)
    spoke = make_spoke(world, 1)
    world.run(0.5)
    assert not spoke.up("Tunnel0")
    (question,) = hub.asked
    assert question.request.identity.octets == b"spoke1.example"
    assert (question.request.profile, question.request.initiator) == ("default", False)
    assert question.request.certificate is None
    hub.answer(Grant((Attribute(1, parse_address("10.77.0.1")),)))
    come_up(world, hub, spoke)
    assert spoke.table(AddressOffered) == {("Tunnel0", parse_address("10.77.0.1")): AddressRow(32, origin="negotiated")}
    assert set(hub.routes()) == {P("10.77.0.1/32")}
    assert hub.snapshot().pools[0].used == 0


def test_the_embedder_lets_in_and_leaves_the_rest_to_the_policy() -> None:
    world = World()
    hub = make_hub(world, authorises=True)
    spoke = make_spoke(world, 1)
    world.run(0.5)
    hub.answer(Grant())
    come_up(world, hub, spoke)
    assert list(spoke.table(AddressOffered)) == [("Tunnel0", parse_address("10.0.0.10"))]


def test_I09_the_embedder_refuses_with_one_fixed_text_outside() -> None:
    world = World()
    hub = make_hub(world, authorises=True)
    spoke = make_spoke(world, 1)
    world.run(0.5)
    hub.answer(Refusal("the bill was not paid"))
    world.run(0.5)
    assert not spoke.up("Tunnel0")
    assert "the bill" not in repr(spoke.state("Tunnel0"))
    assert ["the bill was not paid" in fact.reason for fact in hub.facts if isinstance(fact, PeerRefused)] == [True]
    assert hub.speaker.authorised(99, Grant(), world.now) == []


def test_an_answer_that_comes_too_late_is_nobody_s() -> None:
    world = World()
    hub = make_hub(world, authorises=True)
    spoke = make_spoke(world, 1)
    world.run(0.5)
    spoke.alive = False
    world.run(40)
    hub.answer(Grant())
    assert hub.empty
    assert hub.table(AccessWanted) == {}


def test_many_spokes_come_and_go() -> None:
    world = World()
    config = evolve(
        hub_config(),
        pools={"POOL": IpPool("POOL", parse_address("10.1.0.0"), parse_address("10.1.255.255"))},
        cookie_challenge=0,
    )
    hub = make_hub(world, config)
    spokes = []
    for n in range(150):
        name, address = f"s{n}", f"198.51.{n >> 8}.{n & 255}"
        spoke = world.node(name, address, spoke_config(name))
        spoke.protect("Tunnel0", address, HUB, negotiated=True)
        spoke.want("Tunnel0", address, HUB)
        spokes.append(spoke)
    world.run(5)
    assert all(spoke.up("Tunnel0") for spoke in spokes)
    assert len(hub.table(AccessWanted)) == 150
    assert len({address for spoke in spokes for _, address in spoke.table(AddressOffered)}) == 150
    assert hub.snapshot().admission.cookies_accepted == 150
    for spoke in spokes:
        spoke.stop()
    world.run(LINGER + 10)
    assert hub.empty


def test_a_pool_of_each_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that asks for both (ours asks for IPv4 alone) is given one of each, and both are its own while it is there."""
    world, six = World(), parse_address("2001:db8::10")
    policy = AuthorizationPolicy("POLICY", pool="POOL", ipv6_pool="SIX", route_set_interface="")
    config = hub_config(policy)
    hub = make_hub(world, evolve(config, pools={**config.pools, "SIX": IpPool("SIX", six, six)}))
    monkeypatch.setattr(calls, "request_attributes", lambda **_: (Attribute(8), Attribute(1)))
    spoke = make_spoke(world, 1)
    come_up(world, hub, spoke)
    assert {key[1] for key in spoke.table(AddressOffered)} == {parse_address("10.0.0.10"), six}
    assert {P("10.0.0.10/32"), P("2001:db8::10/128")} <= set(hub.routes())
    assert hub.table(BindingOffered)["", P("2001:db8::10/128"), b""] == (3,)
    second = make_spoke(world, 2)
    world.run(5)
    assert not second.up("Tunnel0")
    assert "pool SIX has no address left" in hub.reasons("CHILD_SA refused")
