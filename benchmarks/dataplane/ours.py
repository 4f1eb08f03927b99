"""The forwarder of this project, alone: real ports, real tables (256 prefixes), uvloop. `ours.py encap|decap|swap`.

Run by bench.py inside its namespace. SIGTERM ends it; with `--profile FILE` it leaves a profile behind.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from pathlib import Path

import uvloop

from stack.addr import DEFAULT_VRF, Afi, Prefix, parse_address
from stack.events import SCOPE_MGRE, AdjacencyKey, Interface, InterfaceKind, InterfaceRow, NextHopKey
from stack.os import OsNetwork
from stack.tables import Tables
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.fib import Leaf, LeafKind
from stack.tables.lfib import Nhlfe, Operation
from stack.tables.nexthop import NextHop
from stack.tables.reception import Reception
from tunnel.io.forwarder import Forwarder

US, PE2, PE3 = (parse_address(f"192.0.2.{n}") for n in (1, 2, 3))
CE = parse_address("10.1.0.2")
VRF = "cust1"
CUSTOMER, TUNNEL = "Ethernet0/0", "Tunnel0"
CE_MAC, OUR_MAC = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")


def tables(mode: str, key: int | None) -> Tables:
    """What routing, mfi and tunnel would have written: 256 VPN routes from two PEs, or 256 labels of our own."""
    made = Tables()
    interfaces = made.interfaces.writer("bench")
    for index, row in enumerate(
        (
            InterfaceRow(CUSTOMER, InterfaceKind.ETHERNET, vrf=VRF, device="c0"),
            InterfaceRow(TUNNEL, InterfaceKind.TUNNEL, mtu=1472, mpls=True),
        )
    ):
        interfaces.put(row.name, Interface(row, index + 1, up=True, mtu=row.mtu, mac=OUR_MAC))
    adjacencies, nexthops = made.adjacencies.writer("bench"), made.nexthops.writer("bench")
    ways = [
        Adjacency(
            AdjacencyKey(TUNNEL, pe), AdjacencyKind.GRE, True, 1476, source=US, destination=pe, gre_key=key, ttl=255
        )
        for pe in (PE2, PE3)
    ]
    ways.append(Adjacency(AdjacencyKey(CUSTOMER, CE), AdjacencyKind.ETHERNET, True, 1500, CE_MAC + OUR_MAC))
    for number, way in enumerate(ways, 1):
        adjacencies.put(way.key, way)
        nexthops.put(number, NextHop(NextHopKey(way.key.interface, way.key.address), way.key))
    fib, lfib = made.fib.writer("bench"), made.lfib.writer("bench")
    fib.create(VRF)
    for j in range(256):
        prefix = Prefix(bytes((10, 64, j, 0)), 24)
        leaf = Leaf(LeafKind.FORWARD, 3) if mode == "decap" else Leaf(LeafKind.FORWARD, 1 + (j & 1), (100 + j,))
        fib.put(VRF, prefix, leaf)
        row = Nhlfe(Operation.POP_LOOKUP, VRF, frozenset((SCOPE_MGRE,)), Afi.IPV4)
        if mode == "swap":
            row = Nhlfe(Operation.SWAP, VRF, frozenset((SCOPE_MGRE,)), Afi.IPV4, 2, (1100 + j,))
        lfib.put(100 + j, row)
    made.receptions.writer("bench").put(
        TUNNEL, Reception(TUNNEL, US, frozenset((47,)), DEFAULT_VRF, key, frozenset((PE2, PE3)), ip=False)
    )
    return made


async def serve(mode: str, key: int | None) -> None:
    network = OsNetwork()
    made = tables(mode, key)
    forwarder = Forwarder(made, lambda p, remote: network.raw(p, remote=remote), lambda _: None, time.monotonic)
    edge, core = network.frames("c0", None), network.raw(47)
    attachment = made.interfaces.get(CUSTOMER)
    assert attachment is not None
    readers = [forwarder.add_attachment(attachment, edge), forwarder.gre(core)]
    for port, reader in zip((edge, core), readers, strict=True):
        port.listen(reader.drain)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await stop.wait()
    for line in forwarder.snapshot().drops:
        print(*line, flush=True)
    forwarder.close()
    network.close()


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("mode", choices=("encap", "decap", "swap"))
    words.add_argument("--key", type=lambda text: int(text, 0))
    words.add_argument("--profile", type=Path)
    given = words.parse_args()
    if given.profile:
        import cProfile

        with cProfile.Profile() as profile:
            uvloop.run(serve(given.mode, given.key))
        profile.dump_stats(given.profile)
    else:
        uvloop.run(serve(given.mode, given.key))


if __name__ == "__main__":
    main()
