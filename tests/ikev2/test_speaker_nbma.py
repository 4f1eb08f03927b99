"""A node's own address changes, and a hub that is killed and started: who was there is there again, with the same overlay
address, after little time. Seconds are virtual."""

from __future__ import annotations

from typing import Any

import pytest

from ikev2.config import Dpd
from ikev2.engine.contract import Ends
from ikev2.engine.lifecycle import LINGER, SUPERSEDED
from ikev2.wire import Message, Notify, NotifyKind, decode, encode
from stack.addr import parse_address
from stack.events import (
    AccessWanted,
    AddressOffered,
    InterfaceKind,
    InterfaceState,
    OverlayRow,
    OverlayState,
    SaKey,
    SaRequest,
    SaUnknown,
    SaWanted,
    TunnelProtected,
)
from tests.ikev2.nodes import Node, World
from tests.ikev2.spokes import (
    TEMPLATE,
    access,
    call,
    hub_address,
    interface_of,
    settle,
    spoke,
    star,
    together,
    traffic,
    until,
)
from tests.ikev2.test_speaker_access import make_hub

KEY = SaKey("Tunnel0")
WAN = "Ethernet0/0"


def with_wan(*nodes: Node) -> None:
    for node in nodes:
        text = ".".join(map(str, node.address))
        node.interface(WAN, f"{text}/24", kind=InterfaceKind.ETHERNET, protection="")


def move(world: World, node: Node, address: str, order: str) -> None:
    """What routing and tunnel say when the WAN address of `node` is replaced. `order`: of Interface, Protection, Want."""
    old, new = node.address, parse_address(address)
    del world.nodes[old]
    world.nodes[new], node.address = node, new
    world.drop = lambda _octets, source, destination: old in (source, destination)
    row = node.said[TunnelProtected]["Tunnel0"]._replace(local=new)
    for what in order:
        if what == "I":
            node.interface(WAN, f"{address}/24", kind=InterfaceKind.ETHERNET, protection="")
        elif what == "P":
            node.hear(TunnelProtected, {"Tunnel0": row})
        else:
            node.hear(SaWanted, {KEY: SaRequest("P", new, hub_address())})


@pytest.mark.parametrize("order", ["IPW", "PWI", "PIW", "WIP", "IWP"])
def test_N09_a_spoke_s_address_changes(order: str) -> None:
    """The hub: the same interface, the same lease, other ends; nothing of the old SA is left after a few seconds."""
    world = World()
    hub, a = star(world, 1)
    with_wan(hub, a)
    address, routes, leases = a.table(AddressOffered), hub.routes(), hub.snapshot().pools
    old = a.address
    move(world, a, "192.0.2.77", order)
    took = until(world, lambda: a.up("Tunnel0") and interface_of(hub, a) == "Virtual-Access1", hub, a)
    assert took <= 0.1
    settle(world, 0.1, hub, a)
    assert hub.outbound(SaKey("Virtual-Access1")).remote == a.address  # type: ignore[union-attr]
    assert a.table(AddressOffered) == address
    assert hub.routes() == routes
    assert hub.gaps == []
    ((_, row),) = hub.table(OverlayState).items()
    assert row == OverlayRow("spoke1.example", a.address)
    settle(world, SUPERSEDED + LINGER + 6, hub, a)
    for node in (hub, a):
        assert len(node.snapshot().ikes) == len(node.sad.inbound) == 1
        assert old not in {sa.local for sa in node.sad.inbound.values()} | {
            sa.remote for sa in node.sad.inbound.values()
        }
    assert [(pool.used, [lease.address for lease in pool.leases]) for pool in hub.snapshot().pools] == [
        (pool.used, [lease.address for lease in pool.leases]) for pool in leases
    ]


def test_N09_the_address_is_away_for_a_while() -> None:
    """The tunnel has no source, and then another: `TunnelProtected` is withdrawn and comes again."""
    world = World()
    hub, a = star(world, 1)
    with_wan(hub, a)
    address = a.table(AddressOffered)
    protection = a.said[TunnelProtected]["Tunnel0"]
    a.interface(WAN, kind=InterfaceKind.ETHERNET, protection="")
    a.hear(TunnelProtected, {"Tunnel0": None})
    a.hear(SaWanted, {KEY: None})
    assert not a.snapshot().ikes, "nothing can be said from there"
    settle(world, 5, hub, a)
    a.said[TunnelProtected]["Tunnel0"] = protection
    move(world, a, "192.0.2.77", "IPW")
    until(world, lambda: a.up("Tunnel0"), hub, a)
    settle(world, 0.5, hub, a)
    assert a.table(AddressOffered) == address
    assert interface_of(hub, a) == "Virtual-Access1"
    assert hub.gaps == []


def test_N09_a_spoke_s_address_changes_under_a_shortcut() -> None:
    """Its virtual-access interfaces go at once (nhrp falls back to the hub), and a new want by the new address brings one."""
    world = World()
    hub, a, b = star(world)
    with_wan(hub, a, b)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    old = a.address
    move(world, a, "192.0.2.77", "IPW")
    assert not interface_of(a, b)
    settle(world, 0.2, hub, a, b)
    b.hear(SaWanted, {SaKey(TEMPLATE, old): None})
    call(a, b)
    until(world, lambda: together(a, b) and bool(access(a, b)), hub, a, b)
    settle(world, SUPERSEDED + LINGER + 6, hub, a, b)
    assert list(b.table(AccessWanted)) == ["Virtual-Access1"]
    assert together(a, b)
    for node in (a, b):
        assert len(node.snapshot().ikes) == len(node.sad.inbound) == 2


def test_an_address_that_another_interface_has_too_is_not_gone() -> None:
    world = World()
    _hub, a = star(world, 1)
    with_wan(a)
    a.interface("Loopback0", "192.0.2.11/32", kind=InterfaceKind.LOOPBACK, protection="")
    a.interface(WAN, kind=InterfaceKind.ETHERNET, protection="")
    assert a.up("Tunnel0")
    a.interface("Loopback0", kind=InterfaceKind.LOOPBACK, protection="")
    assert not a.up("Tunnel0")


# --- the hub is killed, and started ----------------------------------------------------------------------------------------


def revive(hub: Node) -> None:
    """The hub was killed, and a new one is started, which has other SPIs and knows nothing."""
    hub.begin()
    hub.interface("Loopback0", "10.0.0.1/32", kind=InterfaceKind.LOOPBACK)
    hub.interface(TEMPLATE, "10.0.0.1/32", kind=InterfaceKind.TEMPLATE, unnumbered="Loopback0")


@pytest.mark.parametrize("away", [0.2, 3.0, 8.0])
@pytest.mark.parametrize("dpd", [Dpd(10, 2, on_demand=True), Dpd(60, 2, on_demand=True)])
def test_N09_the_hub_is_killed_and_started(away: float, dpd: Dpd) -> None:
    """A packet a second: the first that reaches the new hub is answered by INVALID_SPI, the question that this raises by
    INVALID_IKE_SPI; neither is believed, but a new IKE SA is made beside the old. Within 1.1 s all is as before."""
    world = World()
    hub = make_hub(world)
    spokes = [spoke(world, number, dpd=dpd) for number in (1, 2, 3)]
    until(world, lambda: all(node.up("Tunnel0") for node in spokes), hub, *spokes)
    settle(world, 2, hub, *spokes)
    addresses = [node.table(AddressOffered) for node in spokes]
    hub.vanish()
    for _ in range(round(away / 0.2)):
        settle(world, 0.2, *spokes)
        traffic(world, *spokes)
    revive(hub)
    # They come in another order than they had.
    took = 0.0
    while len([ike for ike in hub.snapshot().ikes if ike.established is not None]) < 3:
        assert took < 30
        settle(world, 0.1, hub, *spokes)
        took += 0.1
        if round(took * 10) % 10 == 0:
            traffic(world, *reversed(spokes))
    assert took <= 1.3
    settle(world, 1, hub, *spokes)
    assert [node.table(AddressOffered) for node in spokes] == addresses
    assert {row.identity: key[1] for key, row in hub.table(OverlayState).items()} == {
        f"spoke{number}.example": next(iter(one))[1] for number, one in enumerate(addresses, 1)
    }
    settle(world, SUPERSEDED + LINGER + 6, hub, *spokes)
    for node in spokes:
        assert node.gaps == []
        assert len(node.snapshot().ikes) == len(node.sad.inbound) == 1
    assert len(hub.snapshot().ikes) == 3


def test_N09_the_hub_is_away_for_long() -> None:
    """DPD finds out, and the spokes try until it is there: at most a minute, with jitter, after it is."""
    world = World()
    hub, a, b = star(world)
    addresses = [node.table(AddressOffered) for node in (a, b)]
    hub.vanish()
    for _ in range(100):
        settle(world, 1, a, b)
        traffic(world, a, b)
    assert not a.up("Tunnel0")
    revive(hub)
    took = until(world, lambda: a.up("Tunnel0") and b.up("Tunnel0"), hub, a, b, within=80)
    assert took < 76
    settle(world, 1, hub, a, b)
    assert [node.table(AddressOffered) for node in (a, b)] == addresses


def test_the_wish_for_the_address_that_was_is_no_claim_to_another_s() -> None:
    """While its holder is remembered, it is not given away to who asks for it."""
    world = World()
    hub, a, b = star(world)
    ((_, mine),) = a.table(AddressOffered)
    b.speaker.node.received["Tunnel0"] = (mine,)
    b.clear()
    a.alive = False
    settle(world, 3, hub, b)
    assert mine not in {key[1] for key in b.table(AddressOffered)}


def test_S01_a_crash_keeps_the_address_that_is_asked_for() -> None:
    world = World()
    _hub, a = star(world, 1)
    ((_, mine),) = a.table(AddressOffered)
    a.crash()
    a.begin()
    assert a.speaker.node.received == {"Tunnel0": (mine,)}
    a.hear(InterfaceState, {"Tunnel0": None})
    assert a.speaker.node.received == {}


# --- hints -----------------------------------------------------------------------------------------------------------------


def invalid_spi(spi: int, initiator_spi: bytes = bytes(8)) -> bytes:
    notify = Notify(NotifyKind.INVALID_SPI, spi.to_bytes(4))
    octets = encode(Message(b"\1" * 8, bytes(8), 37, 0, True, False, (notify,)))
    return initiator_spi + octets[8:]


def ikes(node: Node) -> list[Any]:
    return [ike.local_spi for ike in node.snapshot().ikes]


def test_rfc7296_1_5_invalid_spi_makes_it_ask_and_no_more() -> None:
    """From whoever: a question a time, and if that is answered all is as it was."""
    world = World()
    hub, a = star(world, 1)
    settle(world, 20, hub, a)
    sa = a.outbound(KEY)
    assert sa is not None
    before, count = ikes(a), len(world.wire)
    for number in range(50):
        spi = bytes(8) if number % 2 else b"\7" * 8
        a.perform(a.speaker.datagram(invalid_spi(sa.spi, spi), Ends(a.address, hub_address()), world.now))
        settle(world, 0.05, hub, a)
    assert len(world.wire) - count == 2, "one question, one answer"
    assert ikes(a) == before
    assert a.outbound(KEY) is sa


@pytest.mark.parametrize("what", ["another SPI", "another address", "nobody"])
def test_rfc7296_1_5_invalid_spi_that_concerns_nobody(what: str) -> None:
    world = World()
    hub, a = star(world, 1)
    settle(world, 20, hub, a)
    sa = a.outbound(KEY)
    assert sa is not None
    count = len(world.wire)
    octets = invalid_spi(sa.spi + 1 if what == "another SPI" else sa.spi)
    remote = {"another address": parse_address("192.0.2.200"), "nobody": parse_address("192.0.2.9")}.get(
        what, hub_address()
    )
    node = hub if what == "nobody" else a
    node.perform(node.speaker.datagram(octets, Ends(node.address, remote), world.now))
    settle(world, 1, hub, a)
    assert len(world.wire) == count


def test_rfc7296_1_5_esp_of_nobody_is_answered_and_not_often() -> None:
    world = World()
    hub = make_hub(world)
    stranger = parse_address("198.51.100.1")
    for number in range(1000):
        hub.fact(SaUnknown(hub.address, stranger, 0x1000 + number))
    said = [decode(octets) for _, octets, ends in world.wire if ends.remote == stranger]
    assert 0 < len(said) <= 100
    assert all(message.payloads[0].kind == NotifyKind.INVALID_SPI for message in said)  # type: ignore[union-attr]
    assert {(message.initiator, message.response, message.responder_spi) for message in said} == {
        (True, False, bytes(8))
    }
    assert said[0].payloads[0].octets == (0x1000).to_bytes(4)  # type: ignore[union-attr]


def test_a_forged_invalid_ike_spi_costs_an_ike_sa_and_no_packet() -> None:
    """Somebody on the way sees a question of ours, and says that the peer has no such IKE SA: a new one takes over, make
    before break, and that not more often than we ask."""
    world = World()
    hub, a = star(world, 1)
    settle(world, 20, hub, a)
    (peer,) = a.speaker.node.peers.values()
    forgeries = 0
    for _ in range(200):
        (sa, *_) = (one for one in a.speaker.node.peers.values() if one.sas)
        a.fact(SaUnknown(a.address, hub_address(), 1))
        for number in list(sa.sa.pending):
            notify = (Notify(NotifyKind.INVALID_IKE_SPI),)
            flag = not sa.sa.initiator
            forged = encode(Message(sa.sa.spi_i, sa.sa.spi_r, 37, number, flag, True, notify))
            a.perform(a.speaker.datagram(forged, Ends(a.address, hub_address()), world.now))
            forgeries += 1
        settle(world, 0.1, hub, a)
    assert forgeries
    settle(world, SUPERSEDED + LINGER + 6, hub, a)
    made = [log for log in a.logs if log.event == "IKE SA is up"]
    assert 2 <= len(made) <= 4
    assert hub.gaps == a.gaps == []
    assert len(a.snapshot().ikes) == len(hub.snapshot().ikes) == 1
    assert a.up("Tunnel0")
    assert peer.doubted


def test_a_doubt_that_nobody_answers_leaves_what_is_there() -> None:
    world = World()
    hub, a = star(world, 1)
    settle(world, 20, hub, a)
    (peer,) = a.speaker.node.peers.values()
    a.fact(SaUnknown(a.address, hub_address(), 1))
    (number,) = peer.sa.pending
    forged = encode(
        Message(peer.sa.spi_i, peer.sa.spi_r, 37, number, False, True, (Notify(NotifyKind.INVALID_IKE_SPI),))
    )
    world.drop = lambda octets, _source, _destination: octets[18] in (34, 35)
    a.perform(a.speaker.datagram(forged, Ends(a.address, hub_address()), world.now))
    assert len(a.snapshot().ikes) == 2
    settle(world, 60, hub, a)
    assert len(a.snapshot().ikes) == 1
    assert a.up("Tunnel0")
    assert a.gaps == []
    (want,) = a.speaker.node.wants
    assert want.up


def test_a_responder_s_doubt_calls_nobody() -> None:
    world = World()
    hub, a = star(world, 1)
    settle(world, 20, hub, a)
    (peer,) = hub.speaker.node.peers.values()
    hub.fact(SaUnknown(hub.address, a.address, 1))
    (number,) = peer.sa.pending
    forged = encode(
        Message(peer.sa.spi_i, peer.sa.spi_r, 37, number, True, True, (Notify(NotifyKind.INVALID_IKE_SPI),))
    )
    count = len(hub.snapshot().ikes)
    hub.perform(hub.speaker.datagram(forged, Ends(hub.address, a.address), world.now))
    assert len(hub.snapshot().ikes) == count
    assert not peer.doubted


def test_N09_the_callee_of_a_shortcut_is_killed_and_started() -> None:
    """The spoke that wants it gets it again within two packets; the hub is not asked."""
    world = World()
    hub, a, b = star(world)
    call(b, a)
    until(world, lambda: together(a, b), hub, a, b)
    settle(world, 1, hub, a, b)
    a.vanish()
    settle(world, 1, hub, b)
    a = spoke(world, 1)
    until(world, lambda: a.up("Tunnel0"), hub, a, b)
    settle(world, 12, hub, a, b)
    traffic(world, b)
    took = until(world, lambda: together(a, b), hub, a, b)
    assert took < 0.3
    assert b.gaps == []
    settle(world, SUPERSEDED + LINGER + 6, hub, a, b)
    assert access(b, a) == "Virtual-Access1"
    assert len([ike for ike in b.snapshot().ikes if ike.ends.remote == a.address]) == 1
