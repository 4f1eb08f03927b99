"""What the tables publish: routes offered, next hops and labels wanted, endpoints, and when all of it is there again."""

from __future__ import annotations

from attrs import evolve

from bgp.config import NeighborConfig
from bgp.engine.outputs import SyncedOut
from bgp.engine.rib import Ribs
from bgp.engine.rib.ribs import SWEEP_EVERY, SYNC_WITHIN
from bgp.wire import IPV4_UNICAST, VPNV4, VPNV6, Nlri, Reach, Update
from stack.addr import LAST_LABEL, Afi, Prefix, PrefixFec, Safi
from stack.events import (
    L3VPN_TUNNEL,
    SCOPE_ETHERNET,
    SCOPE_MGRE,
    AddressRow,
    EndpointOffered,
    EndpointRow,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    LabelBound,
    LabelRow,
    LabelWanted,
    NextHopKey,
    NextHopRow,
    NextHopState,
    NextHopWanted,
    RouteOffered,
    Via,
)
from tests.bgp.engine.rib_world import World, attributes, config, ip, key, redistribute

V4 = (IPV4_UNICAST,)


# --- next hops --------------------------------------------------------------------------------------------------------


def test_routes_wait_for_the_first_answer_about_their_next_hop() -> None:
    world = World(answer_hops=False)
    peer = world.peer("192.0.2.1", families=V4)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16")
    hop = NextHopKey("", ip("192.0.2.1"))
    assert world.state[NextHopWanted][""] == {hop: True}
    assert world.routes() == {}
    world.tell(NextHopState, {hop: NextHopRow(True, "", 5, "Ethernet0/0", 1)})
    assert list(world.routes()) == ["10.1.0.0/16"]


def test_an_answer_that_was_there_before_we_asked_counts() -> None:
    """After a restart of bgp the bus first delivers what stands."""
    world = World(answer_hops=False)
    hop = NextHopKey("", ip("192.0.2.1"))
    world.tell(NextHopState, {hop: NextHopRow(True, "", 5, "Ethernet0/0", 1)})
    world.peer("192.0.2.1", families=V4).announce(IPV4_UNICAST, "10.1.0.0/16")
    assert list(world.routes()) == ["10.1.0.0/16"]


def test_rfc4271_9_1_2_1_a_next_hop_that_is_lost_and_found() -> None:
    world = World()
    a, b = world.peer("192.0.2.1", families=V4), world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, "10.1.0.0/16", attrs=attributes(local_pref=200))
    b.announce(IPV4_UNICAST, "10.1.0.0/16")
    world.unusable["192.0.2.1"] = "no route to it"
    world.resolve_again()
    assert world.routes()["10.1.0.0/16"].vias == (Via(ip("192.0.2.2")),)
    world.unusable.clear()
    world.resolve_again()
    assert world.routes()["10.1.0.0/16"].vias == (Via(ip("192.0.2.1")),)


def test_rfc4271_9_1_2_2_e_the_metric_to_the_next_hop_follows_routing() -> None:
    world = World(metrics={"192.0.2.1": 10, "192.0.2.2": 20})
    for address in ("192.0.2.1", "192.0.2.2"):
        world.peer(address, families=V4).announce(IPV4_UNICAST, "10.1.0.0/16")
    assert world.routes()["10.1.0.0/16"].vias == (Via(ip("192.0.2.1")),)
    world.metrics["192.0.2.1"] = 30
    world.resolve_again()
    assert world.routes()["10.1.0.0/16"].vias == (Via(ip("192.0.2.2")),)


def test_rfc4271_5_1_3_our_own_address_is_no_next_hop() -> None:
    world = World()
    peer = world.peer("192.0.2.1", families=V4)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", hop="198.51.100.1")  # our end of the session
    peer.announce(IPV4_UNICAST, "10.2.0.0/16", hop="198.51.100.77")
    assert list(world.routes()) == ["10.2.0.0/16"]
    row = InterfaceRow("Loopback9", InterfaceKind.LOOPBACK)
    interface = Interface(row, 1, up=True, mtu=1500, addresses={ip("198.51.100.77"): AddressRow(32)})
    world.tell(InterfaceState, {"Loopback9": interface})
    assert world.routes() == {}
    world.tell(InterfaceState, {"Loopback9": None})
    assert list(world.routes()) == ["10.2.0.0/16"]


def test_next_hops_that_nobody_uses_are_let_go() -> None:
    world = World()
    peer = world.peer("192.0.2.1", families=V4)
    peer.announce(IPV4_UNICAST, "10.1.0.0/16", hop="192.0.2.50")
    peer.announce(IPV4_UNICAST, "10.2.0.0/16", hop="192.0.2.51")
    peer.withdraw(IPV4_UNICAST, "10.1.0.0/16")
    world.pass_time(SWEEP_EVERY)
    assert [key.address for key in world.state[NextHopWanted][""]] == [ip("192.0.2.51")]


# --- endpoints --------------------------------------------------------------------------------------------------------


def endpoints(world: World) -> dict[bytes, int]:
    rows = world.state[EndpointOffered][""]
    assert all(tunnel == L3VPN_TUNNEL and row.transport == address for (tunnel, address), row in rows.items())
    return {address: row.uses for (_, address), row in rows.items()}


def test_a_remote_pe_is_an_endpoint_from_its_first_to_its_last_route() -> None:
    world = World()
    peer = world.peer("192.0.2.1", families=(VPNV4, VPNV6, IPV4_UNICAST))
    peer.announce(IPV4_UNICAST, "10.0.0.0/8")
    assert endpoints(world) == {}
    peer.announce(VPNV4, "1:1 10.1.0.0/16", "1:1 10.2.0.0/16")  # nobody imports them: it still may send to us
    peer.announce(VPNV6, "1:1 2001:db8::/32", hop="::ffff:192.0.2.1")
    assert endpoints(world) == {ip("192.0.2.1"): 3}
    peer.announce(VPNV4, "1:1 10.2.0.0/16", hop="192.0.2.7")  # it moved
    assert endpoints(world) == {ip("192.0.2.1"): 2, ip("192.0.2.7"): 1}
    peer.withdraw(VPNV4, "1:1 10.1.0.0/16", "1:1 10.2.0.0/16")
    assert endpoints(world) == {ip("192.0.2.1"): 1}
    world.down(peer)
    assert endpoints(world) == {}
    assert world.state[EndpointOffered][""] == {}


def test_a_route_that_one_message_names_twice_is_one_use_of_its_endpoint() -> None:
    world = World()
    peer = world.peer("192.0.2.1")
    twice = tuple(Nlri(key(VPNV4, "1:1 10.1.0.0/16"), (label,)) for label in (100, 101))
    peer.say(Update(attributes=attributes(), reach=(Reach(VPNV4, ip("192.0.2.9"), twice),)))
    assert endpoints(world) == {ip("192.0.2.9"): 1}
    peer.withdraw(VPNV4, "1:1 10.1.0.0/16")
    assert endpoints(world) == {}
    assert world.ribs.endpoints.uses == {}


def test_one_endpoint_of_two_neighbours_stays_until_both_let_go() -> None:
    world = World()
    a, b = world.peer("192.0.2.1"), world.peer("192.0.2.2")
    a.announce(VPNV4, "1:1 10.1.0.0/16", hop="192.0.2.9")
    b.announce(VPNV4, "1:1 10.1.0.0/16", hop="192.0.2.9")
    world.down(a)
    assert endpoints(world) == {ip("192.0.2.9"): 1}
    b.withdraw(VPNV4, "1:1 10.1.0.0/16")
    assert endpoints(world) == {}


def test_refused_routes_count_and_we_are_no_endpoint_of_ours() -> None:
    world = World()
    peer = world.peer("192.0.2.1")
    peer.announce(VPNV4, "1:1 10.1.0.0/16", label=3)
    peer.announce(VPNV4, "1:1 10.2.0.0/16", hop="198.51.100.1")
    assert endpoints(world) == {ip("192.0.2.1"): 1}


def test_endpoint_row_defaults() -> None:
    assert EndpointRow(b"\1\2\3\4") == EndpointRow(b"\1\2\3\4", 1)


# --- labels -----------------------------------------------------------------------------------------------------------

RED = redistribute("connected", "static", vrf="red", default=True)


def test_a_route_is_advertised_when_its_label_is_there_and_goes_with_it() -> None:
    world = World(config=config(RED), answer_labels=False)
    world.vrf("red", "1:1", exports=("1:1",))
    peer = world.peer("192.0.2.1")
    world.select("red", "172.16.1.0/24")
    fec = PrefixFec("red", Prefix.parse("172.16.1.0/24"))
    request = world.state[LabelWanted][""][fec]
    assert request.scope == {SCOPE_MGRE, SCOPE_ETHERNET}
    assert (request.next_hop, request.vrf) == (0, "red")  # connected: pop, then look up
    assert peer.received == {}
    world.tell(LabelBound, {fec: LabelRow(LAST_LABEL)})
    assert peer.received["1:1:172.16.1.0/24"][2] == (LAST_LABEL,)
    world.tell(LabelBound, {fec: LabelRow(17)})
    assert peer.received["1:1:172.16.1.0/24"][2] == (17,)
    world.tell(LabelBound, {fec: LabelRow(None, "no label is left")})
    assert peer.received == {}
    world.tell(LabelBound, {fec: LabelRow(18)})
    assert peer.received["1:1:172.16.1.0/24"][2] == (18,)
    world.tell(LabelBound, {fec: None})  # the allocator took it back
    assert peer.received == {}
    world.unselect("red", "172.16.1.0/24")
    assert world.state[LabelWanted][""] == {}


def test_a_route_with_a_gateway_pops_to_it_and_a_discard_route_looks_up() -> None:
    world = World(config=config(RED))
    world.vrf("red", "1:1", exports=("1:1",))
    world.select("red", "10.5.0.0/16", "static", via=Via(ip("172.16.1.9"), vrf="red"), hop=41)
    world.select("red", "0.0.0.0/0", "static", null=True)
    wanted = {str(fec.prefix): row.next_hop for fec, row in world.state[LabelWanted][""].items()}
    assert wanted == {"10.5.0.0/16": 41, "0.0.0.0/0": 0}
    world.select("red", "10.5.0.0/16", "static", via=Via(ip("172.16.1.9"), vrf="red"), hop=42)
    wanted = {str(fec.prefix): row.next_hop for fec, row in world.state[LabelWanted][""].items()}
    assert wanted["10.5.0.0/16"] == 42


def test_labels_bound_before_we_asked_are_used_after_a_restart() -> None:
    world = World(config=config(RED), answer_labels=False)
    fec = PrefixFec("red", Prefix.parse("172.16.1.0/24"))
    world.tell(LabelBound, {fec: LabelRow(99)})
    world.vrf("red", "1:1", exports=("1:1",))
    peer = world.peer("192.0.2.1")
    world.select("red", "172.16.1.0/24")
    assert peer.received["1:1:172.16.1.0/24"][2] == (99,)


# --- synced -----------------------------------------------------------------------------------------------------------


def restarted(*neighbours: str, listen: bool = False) -> World:
    families = {(Afi.IPV4, Safi.UNICAST): evolve(NeighborConfig().families.get(0) or _family())}
    found = {("", ip(a)): NeighborConfig(address=ip(a), remote_as=65010, families=families) for a in neighbours}
    return World(config=config(neighbors=found))


def _family() -> object:
    from bgp.config import NeighborFamily

    return NeighborFamily()


ALL = {RouteOffered, LabelWanted, EndpointOffered, NextHopWanted}


def test_without_neighbours_it_is_synced_at_once() -> None:
    world = World()
    assert set(world.synced) == ALL
    assert len(world.synced) == len(ALL)


def test_rfc4724_4_1_synced_when_every_neighbour_has_sent_its_end_of_rib() -> None:
    world = restarted("192.0.2.1", "192.0.2.2")
    assert world.synced == []
    a, b = world.peer("192.0.2.1", families=V4), world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, "10.1.0.0/16")
    a.end_of_rib(IPV4_UNICAST)
    assert world.synced == []
    b.end_of_rib(IPV4_UNICAST)
    assert set(world.synced) == ALL
    assert list(world.routes()) == ["10.1.0.0/16"]


def test_synced_in_the_end_although_a_neighbour_never_comes() -> None:
    world = restarted("192.0.2.1")
    world.pass_time(SYNC_WITHIN - 1)
    assert world.synced == []
    world.pass_time(1)
    assert set(world.synced) == ALL


def test_routes_are_published_before_synced() -> None:
    """What is offered in the same turn must not be swept."""
    world = restarted("192.0.2.1")
    a = world.peer("192.0.2.1", families=V4)
    a.announce(IPV4_UNICAST, "10.1.0.0/16", then=False)
    outputs = world.ribs.update(a.key, _end(), world.now)
    while (due := world.ribs.deadline()) is not None and due <= world.now:
        outputs += world.ribs.wake(world.now)
        if any(isinstance(o, SyncedOut) for o in outputs):
            break
        world.perform([o for o in outputs if not isinstance(o, SyncedOut)])
        outputs = []
    world.perform(outputs)
    assert list(world.routes()) == ["10.1.0.0/16"]
    assert set(world.synced) == ALL


def _end() -> object:
    from bgp.wire import Unreach, Update

    return Update(unreach=(Unreach(IPV4_UNICAST),))


# --- alone ------------------------------------------------------------------------------------------------------------


def test_without_routing_every_next_hop_is_usable() -> None:
    """A reflector inside another program: nobody resolves, nobody tells about VRFs."""
    world = World(answer_hops=False)
    world.ribs = Ribs(world.config, lambda n: bytes(n), resolve=False)
    world.perform(world.ribs.start(world.now))
    a = world.peer("192.0.2.1", families=V4, route_reflector_client=True)
    b = world.peer("192.0.2.2", families=V4)
    a.announce(IPV4_UNICAST, "10.1.0.0/16")
    assert "10.1.0.0/16" in b.received
    assert b.ends == [IPV4_UNICAST]


def test_an_idle_speaker_needs_no_timer() -> None:
    world = World()
    world.pass_time(1000)
    assert world.ribs.deadline() is None
