"""A PE's packet path on real ports and hand-filled tables: `real_pe.py 1|2 [esp|udp]`. Run inside its namespace by the root
tests.

    ce1 10.1.0.2 -- c0 [pe1] u0 192.0.2.1 ==== 192.0.2.2 u0 [pe2] c0 -- 10.2.0.2 ce2

Prints `ready`, and its counters as one JSON line when its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop
from attrs import evolve

from stack.addr import Afi, Prefix, parse_address
from stack.esp import Cipher, EspForm, Selector
from stack.events import AddressRow, AdjacencyKey, Interface, InterfaceKind, InterfaceRow, NextHopKey, SaKey
from stack.net import Port
from stack.os import OsNetwork
from stack.tables import Tables
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.fib import Leaf, LeafKind
from stack.tables.lfib import Nhlfe, Operation
from stack.tables.nexthop import NextHop
from stack.tables.reception import Reception
from stack.tables.sad import Sa
from tunnel.io.forwarder import Forwarder
from tunnel.io.readers import Reader
from tunnel.io.show import drops

KEY, MTU = 0x1234, 1472


def tables(near: int, mac: bytes) -> tuple[Tables, Interface]:
    far = 3 - near
    made = Tables()
    us, them = (parse_address(f"192.0.2.{n}") for n in (near, far))
    own, ce = (parse_address(f"10.{near}.0.{n}") for n in (1, 2))
    customer = Interface(
        InterfaceRow("Ethernet0/0", InterfaceKind.ETHERNET, "cust1", device="c0"),
        1,
        up=True,
        mtu=1500,
        mac=mac,
        addresses={own: AddressRow(24)},
    )
    interfaces = made.interfaces.writer("test")
    interfaces.put(customer.name, customer)
    interfaces.put("Tunnel0", Interface(InterfaceRow("Tunnel0", InterfaceKind.TUNNEL, mpls=True), 2, up=True, mtu=MTU))
    adjacencies, nexthops = made.adjacencies.writer("test"), made.nexthops.writer("test")
    ce_mac = mac[:5] + bytes((mac[5] + 1,))
    for number, row in enumerate(
        (
            Adjacency(
                AdjacencyKey("Tunnel0", them), AdjacencyKind.GRE, True, MTU, source=us, destination=them, gre_key=KEY
            ),
            Adjacency(AdjacencyKey(customer.name, ce), AdjacencyKind.ETHERNET, True, 1500, ce_mac + mac),
        ),
        1,
    ):
        adjacencies.put(row.key, row)
        nexthops.put(number, NextHop(NextHopKey(row.key.interface, row.key.address), row.key))
    fib = made.fib.writer("test")
    fib.put("cust1", Prefix.parse(f"10.{far}.0.0/24"), Leaf(LeafKind.FORWARD, 1, (100 + far,)))
    fib.put("cust1", Prefix.parse(f"10.{near}.0.0/24"), Leaf(LeafKind.ATTACHED, interface=customer.name))
    fib.put("cust1", Prefix.host(own), Leaf(LeafKind.RECEIVE))
    made.lfib.writer("test").put(100 + near, Nhlfe(Operation.POP_LOOKUP, "cust1", frozenset(("mgre",)), Afi.IPV4))
    made.receptions.writer("test").put(
        "Tunnel0", Reception("Tunnel0", us, frozenset((47,)), "", KEY, frozenset((them,)), ip=False)
    )
    return made, customer


def protect(made: Tables, near: int, *, udp: bool) -> None:
    """Put SAs with fixed keys before and behind the tunnel of `tables`."""
    key = SaKey("Tunnel0", parse_address(f"192.0.2.{3 - near}"))
    us, form = parse_address(f"192.0.2.{near}"), EspForm(Cipher.AES_GCM_256, udp=udp)
    sad = made.sad.writer("test")
    for number in (1, 2):
        sa = Sa(
            spi=0x1000 + number,
            key=key,
            local=us,
            remote=key.remote,
            form=form,
            encryption=bytes((number,)) * 32,
            salt=bytes(4),
            ports=(4500, 4500) if udp else (0, 0),
            own=(Selector(us, us, 47),),
            far=(Selector(key.remote, key.remote, 47),),
        )
        if number == near:
            sad.put_outbound(sa)
        else:
            sad.put_inbound(sa)
    made.adjacencies.revoke("test")
    made.receptions.revoke("test")
    for row in made.adjacencies:
        if row.gre_key is not None:
            mtu = form.room(1500) - 8
            made.adjacencies.rows[row.key] = evolve(row, protection="test", sa=key, mtu=mtu)
    for reception in made.receptions:
        made.receptions.rows[reception.interface] = evolve(reception, protected=True)


def listen(port: Port, reader: Reader) -> None:
    """As the service does: an error of the port arms it again."""
    loop = asyncio.get_running_loop()
    reader.again = lambda: loop.call_soon(port.listen, reader.drain)
    port.listen(reader.drain)


async def serve(near: int, esp: str) -> None:
    network = OsNetwork()
    mac = next(device.mac for device in network.host.devices() if device.name == "c0")
    made, customer = tables(near, mac)
    if esp:
        protect(made, near, udp=esp == "udp")
    network.host.drop_ingress("c0", vlans=(None,))
    forwarder = Forwarder(made, lambda p, remote: network.raw(p, remote=remote), lambda _: None, time.monotonic)
    edge, core = network.frames("c0", None), network.raw(47)
    raw, datagrams = network.raw(50), network.raw(17, port=4500)
    for port, reader in (
        (edge, forwarder.add_attachment(customer, edge)),
        (core, forwarder.gre(core)),
        (raw, forwarder.esp(raw)),
        (datagrams, forwarder.esp(datagrams, udp=True)),
    ):
        listen(port, reader)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps(drops(forwarder.snapshot()).value), flush=True)
    network.close()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
