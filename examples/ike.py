"""The IKEv2 speaker alone, without a node around it: a gateway that asks your program who may come in, and what he gets.

    python examples/ike.py

The gateway and its clients run here on an in-memory network of real packets, in virtual time, without any privilege; with
`network=OsNetwork()` and without `clock` and `entropy` they are real. What IKEv2 negotiates lies in `context.tables.sad`
(keys: for a packet path) and on the bus (everything else).
"""

from __future__ import annotations

import asyncio
import logging

import structlog

from ikev2.config import Ikev2Config
from ikev2.engine.contract import AccessRequest, Grant, Refusal
from ikev2.events import IkeSaDown, IkeSaUp, PeerRefused
from ikev2.service import Ikev2Service
from ikev2.wire.numbers import AttributeKind
from ikev2.wire.payloads import Attribute
from stack.addr import format_address, parse_address
from stack.bus import Bus
from stack.config import Config
from stack.events import (
    AddressOffered,
    Interface,
    InterfaceKind,
    InterfaceRow,
    InterfaceState,
    ProtectedRow,
    SaKey,
    SaRequest,
    SaWanted,
    TunnelProtected,
)
from stack.testing import MemoryNetwork, VirtualClock, run

GATEWAY = """crypto ikev2 keyring clients
 peer all
  identity fqdn domain example
  pre-shared-key a-key-for-an-example
!
crypto ikev2 profile default
 match identity remote fqdn domain example
 identity local fqdn gateway.example
 keyring local clients
 virtual-template 1
"""

CLIENT = """crypto ikev2 keyring gateway
 peer gateway
  address 192.0.2.1
  pre-shared-key a-key-for-an-example
!
crypto ikev2 profile default
 match identity remote fqdn gateway.example
 identity local fqdn {name}.example
 keyring local gateway
"""

ADDRESSES = {"gateway": "192.0.2.1", "alice": "192.0.2.11", "mallory": "192.0.2.12"}
CUSTOMERS = {"alice.example": "10.7.0.1"}
"""What stands for your customer database."""


async def who_may_come_in(request: AccessRequest) -> Grant | Refusal:
    """Asked after a client has proved who it is. It may take its time (ten seconds), and ask whomever it likes."""
    name = request.identity.octets.decode()
    await asyncio.sleep(0.2)
    address = CUSTOMERS.get(name)
    print(f"{name} asks from {format_address(request.ends.remote)}: {address or 'no customer of ours'}")
    if address is None:
        return Refusal("no customer of ours")  # the peer is told that it has failed, and no more
    return Grant((Attribute(AttributeKind.INTERNAL_IP4_ADDRESS, parse_address(address)),))


def speaker(name: str, text: str, world: MemoryNetwork, bus: Bus) -> Ikev2Service:
    """On real packets: `Ikev2Service(config, bus=bus, network=OsNetwork(), authorise=...)`."""
    node = world.node(name)
    node.address("eth0", f"{ADDRESSES[name]}/24")
    return Ikev2Service(
        Config.from_ios(text, source=name)[Ikev2Config],
        bus=bus,
        network=node,
        clock=VirtualClock(),
        entropy=node.entropy,
        authorise=who_may_come_in if name == "gateway" else None,
    )


def gateways_template(bus: Bus) -> None:
    """Clients that come by themselves get an interface cloned from this one; here nobody but us makes interfaces."""
    row = InterfaceRow("Virtual-Template1", InterfaceKind.TEMPLATE, point_to_point=True, protection="default")
    bus.attach("program").publish(InterfaceState, {"Virtual-Template1": Interface(row, 1, up=True, mtu=1400)})


def clients_wish(name: str, bus: Bus) -> None:
    """A tunnel to the gateway, whose address is negotiated."""
    local, remote = parse_address(ADDRESSES[name]), parse_address(ADDRESSES["gateway"])
    row = InterfaceRow("Tunnel0", InterfaceKind.TUNNEL, point_to_point=True, protection="default")
    program = bus.attach("program")
    program.publish(InterfaceState, {"Tunnel0": Interface(row, 1, up=True, mtu=1400)})
    program.publish(TunnelProtected, {"Tunnel0": ProtectedRow("default", local, remote, negotiated=True)})
    program.publish(SaWanted, {SaKey("Tunnel0"): SaRequest("default", local, remote)})


async def tell(bus: Bus) -> None:
    """What the gateway says about itself."""
    async for fact in bus.subscribe(IkeSaUp, IkeSaDown, PeerRefused, name="teller"):
        match fact:
            case IkeSaUp():
                print(f"gateway: {fact.identity} is in, by profile {fact.profile}")
            case IkeSaDown():
                print(f"gateway: {fact.identity} has left: {fact.reason}")
            case PeerRefused():
                print(f"gateway: {fact.identity} is not: {fact.reason}")


async def main() -> None:
    world = MemoryNetwork(seed=1)
    world.link(*((name, "eth0") for name in ADDRESSES))
    buses = {name: Bus() for name in ADDRESSES}
    services = {
        name: speaker(name, GATEWAY if name == "gateway" else CLIENT.format(name=name), world, buses[name])
        for name in ADDRESSES
    }
    gateways_template(buses["gateway"])
    for name in ("alice", "mallory"):
        clients_wish(name, buses[name])
    running = [asyncio.ensure_future(service.run()) for service in services.values()]
    telling = asyncio.ensure_future(tell(buses["gateway"]))
    await asyncio.sleep(1)
    for name in ("alice", "mallory"):
        held = [format_address(key[1]) for rows in buses[name].rows(AddressOffered).values() for key in rows]
        print(f"{name}: {', '.join(held) or 'nothing'}; {len(services[name].context.tables.sad.inbound)} inbound SA")
    for service in reversed(services.values()):
        await service.stop()  # with a DELETE to every peer
        await asyncio.sleep(1)
    await asyncio.gather(*running)
    telling.cancel()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    run(main(), strict=False)
