"""A FlexVPN hub and spokes that call each other by a virtual template, on tests.ikev2.nodes.

`settle(world, nodes, seconds)` lets time pass, and does meanwhile what tunnel and routing do: it makes the interfaces that
AccessWanted names, with the addresses that they borrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve

from ikev2.config import Dpd
from stack.addr import parse_address
from stack.events import (
    AccessWanted,
    AddressRow,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    ProtectedRow,
    SaKey,
    SaRequest,
    SaState,
    SaUnknown,
    SaWanted,
    TunnelProtected,
)
from tests.ikev2.nodes import Node, World, psk
from tests.ikev2.test_speaker_access import AAA, HUB, make_hub, make_spoke, spoke_config

__all__ = ["TEMPLATE", "call", "key_of", "let_go", "settle", "spoke", "star", "together", "traffic", "until"]

TEMPLATE = "Virtual-Template1"
STEP = 0.05


def spoke(world: World, number: int, *, negotiated: bool = True, protection: str = "P", **profile: Any) -> Node:
    """`spokeN` at 192.0.2.(10 + N), with Tunnel0 to the hub and Virtual-Template1, which is `ip unnumbered Tunnel0`."""
    name = f"spoke{number}"
    profile = {"aaa": AAA, "virtual_template": 1, "dpd": Dpd(10, 2, on_demand=True), **profile}
    node = make_spoke(world, number, spoke_config(name, evolve(psk(), **profile)), negotiated=negotiated)
    node.interface(TEMPLATE, kind=InterfaceKind.TEMPLATE, unnumbered="Tunnel0", protection=protection)
    return node


def star(world: World, count: int = 2, *, up: bool = True) -> tuple[Node, ...]:
    """The hub, and so many spokes that have come up."""
    nodes = (make_hub(world), *(spoke(world, number) for number in range(1, count + 1)))
    if up:
        until(world, lambda: all(node.up("Tunnel0") for node in nodes[1:]), *nodes)
        settle(world, 1, *nodes)
    return nodes


def clone(node: Node) -> None:
    """What tunnel and routing do with AccessWanted, as it stands."""
    wanted = node.table(AccessWanted)
    for name in [name for name in node.said[InterfaceState] if name.startswith("Virtual-Access")]:
        if name not in wanted:
            node.hear(TunnelProtected, {name: None})
            node.hear(InterfaceState, {name: None})
    for name, row in wanted.items():
        template = node.said[InterfaceState][row.template]
        lender = node.said[InterfaceState][template.row.unnumbered]
        borrowed = {address: AddressRow(own.length, origin="unnumbered") for address, own in lender.addresses.items()}
        shape = InterfaceRow(
            name, InterfaceKind.TUNNEL, unnumbered=lender.name, point_to_point=True, mpls=True, protection=row.profile
        )
        made = Interface(shape, 9, up=True, mtu=1400, addresses=borrowed)
        if node.said[InterfaceState].get(name) != made:
            node.hear(InterfaceState, {name: made})
        ends = ProtectedRow(row.profile, row.local, row.remote)
        if node.said[TunnelProtected].get(name) != ends:
            node.hear(TunnelProtected, {name: ends})


def settle(world: World, seconds: float, *nodes: Node) -> None:
    end = world.now + seconds
    while world.now < end:
        world.run(min(STEP, end - world.now))
        for node in nodes:
            if node.alive:
                clone(node)


def until(world: World, true: Callable[[], bool], *nodes: Node, within: float = 30.0) -> float:
    begun = world.now
    while not true():
        assert world.now - begun < within, "it does not happen"
        settle(world, STEP, *nodes)
    return world.now - begun


def key_of(peer: Node) -> SaKey:
    return SaKey(TEMPLATE, peer.address)


def call(node: Node, peer: Node, *, owner: str = "test", profile: str = "P", local: bytes | None = None) -> SaKey:
    """What nhrp says when it needs a tunnel to `peer`."""
    key = key_of(peer)
    request = SaRequest(profile, node.address if local is None else local, peer.address)
    node.hear(SaWanted, {key: request}, owner)
    return key


def let_go(node: Node, peer: Node, *, owner: str = "test") -> None:
    node.hear(SaWanted, {key_of(peer): None}, owner)


def access(node: Node, peer: Node) -> str:
    """The virtual access interface that the peer has by the answer to a call ('' if none)."""
    row = node.table(SaState).get(key_of(peer))
    if row is None or not row.up:
        return ""
    assert node.table(SaState)[SaKey(row.access)]._replace(access=row.access) == row
    assert node.table(AccessWanted)[row.access].remote == peer.address
    return str(row.access)


def interface_of(node: Node, peer: Node) -> str:
    """The one interface that the peer has here ('' if none)."""
    found = [name for name, row in node.table(AccessWanted).items() if row.remote == peer.address]
    assert len(found) < 2
    return found[0] if found else ""


def together(a: Node, b: Node) -> bool:
    """Each can send to the other by an SA that the other takes."""
    one, other = interface_of(a, b), interface_of(b, a)
    if not (one and other):
        return False
    there, back = a.outbound(SaKey(one)), b.outbound(SaKey(other))
    return there is not None and back is not None and there.spi in b.sad.inbound and back.spi in a.sad.inbound


def overlay(node: Node) -> bytes:
    """Its own address on Tunnel0."""
    found = node.said[InterfaceState]["Tunnel0"].addresses
    assert len(found) == 1
    return next(iter(found))


def hub_address() -> bytes:
    return parse_address(HUB)


def traffic(world: World, *nodes: Node) -> None:
    """A packet by every SA that stands; what nobody has an SA for is reported where it arrives."""
    for node in nodes:
        for bundle in list(node.sad) if node.alive else ():
            sa = bundle.outbound
            if sa is None:
                continue
            sa.use.last = world.now
            there = world.nodes.get(sa.remote)
            if there is None or not there.alive:
                continue
            inbound = there.sad.inbound.get(sa.spi)
            if inbound is None:
                there.fact(SaUnknown(sa.remote, sa.local, sa.spi))
            else:
                inbound.use.last = world.now
                inbound.use.packets += 1
