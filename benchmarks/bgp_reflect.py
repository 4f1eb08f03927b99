"""Reflecting a full table: decode, decide, re-advertise to one client; CPU and memory a route.

    python benchmarks/bgp_reflect.py [--routes 200000] [--file UPDATES.bin] [--no-collector]

The engine alone, without sockets: UPDATEs are decoded, go through `Ribs` and come out as octets. The figure is the ratio
to decoding the same octets in the same process, next to microseconds and octets a route. Without a file the stream is made
here: 6.5 routes a set of attributes, AS paths of 2 to 7, one label a route, as a real table has them.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bgp.config import BgpConfig, NeighborConfig, NeighborFamily
from bgp.engine.outputs import PeerView
from bgp.engine.rib import Ribs
from bgp.wire import (
    VPNV4,
    AsPath,
    Attributes,
    Nlri,
    Session,
    Update,
    decode,
    encode_updates,
    vpn_key,
)
from stack.addr import RD, Afi, Prefix, Safi

TURN = 64 * 1024
SESSION = Session()


def made(routes: int, seed: int = 1) -> list[bytes]:
    """A stream as a real table has it; the same for the same seed."""
    rng, rd, messages = random.Random(seed), RD.parse("65000:1"), []
    number = 0
    while number < routes:
        count = min(routes - number, max(1, int(rng.expovariate(1 / 6.5))))
        attributes = Attributes.of(
            origin=rng.choice((0, 0, 0, 2)),
            as_path=AsPath.of(*(rng.randrange(1, 400_000) for _ in range(rng.randrange(2, 8)))),
            med=rng.choice((None, rng.randrange(1000))),
            local_pref=100,
            communities=[rng.randrange(1 << 32) & 0xFEFFFFFF for _ in range(rng.randrange(0, 5))],
            ext_communities=[bytes.fromhex("0002fde800000001")],
        )
        hop = bytes((10, 100, 0, rng.randrange(1, 20)))
        block = [
            Nlri(vpn_key(rd, Prefix.of((0x01000000 + n * 256).to_bytes(4), 24)), (16 + n % 1_000_000,))
            for n in range(number, number + count)
        ]
        messages += encode_updates(VPNV4, attributes, hop, block, SESSION).messages
        number += count
    return messages


def cut(stream: bytes) -> list[bytes]:
    messages, at = [], 0
    while at < len(stream):
        size = int.from_bytes(stream[at + 16 : at + 18])
        messages.append(stream[at : at + size])
        at += size
    return messages


def client(ribs: Ribs, last: int) -> tuple[str, bytes]:
    address = bytes((10, 99, 0, last))
    family = NeighborFamily(route_reflector_client=True, send_standard=True, send_extended=True)
    view = PeerView(
        key=("", address),
        asn=65000,
        local_asn=65000,
        router_id=address,
        local_id=bytes((10, 99, 0, 1)),
        local=bytes((10, 99, 0, 1)),
        remote=address,
        ibgp=True,
        families=frozenset({VPNV4}),
        config=NeighborConfig(address=address, remote_as=65000, families={(Afi.IPV4, Safi.VPN): family}),
    )
    ribs.peer_up(view, 0.0)
    return view.key


def turns(messages: list[bytes]) -> Iterator[list[bytes]]:
    """What a session reads at a time."""
    batch: list[bytes] = []
    size = 0
    for octets in messages:
        batch.append(octets)
        size += len(octets)
        if size >= TURN:
            yield batch
            batch, size = [], 0
    yield batch


def reflect(messages: list[bytes]) -> tuple[Ribs, int, int]:
    """The tables afterwards, octets sent, messages sent."""
    ribs = Ribs(BgpConfig(asn=65000, router_id=bytes((10, 99, 0, 1))), lambda n: bytes(n), resolve=False)
    ribs.start(0.0)
    sender, receiver = client(ribs, 2), client(ribs, 3)
    sent = count = 0
    now = 0.0
    for batch in turns(messages):
        now += 0.001
        for octets in batch:
            update = decode(octets, SESSION)
            if isinstance(update, Update):
                ribs.update(sender, update, now)
        while (due := ribs.deadline()) is not None and due <= now:
            ribs.wake(now)
        for key in (receiver, sender):
            while out := ribs.outgoing(key, TURN):
                sent += sum(map(len, out))
                count += len(out)
    return ribs, sent, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, default=200_000)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--no-collector", action="store_true", help="without the cyclic garbage collector")
    options = parser.parse_args()
    messages = cut(options.file.read_bytes()) if options.file else made(options.routes)
    if options.no_collector:
        gc.disable()
    else:
        gc.freeze()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    for octets in messages:
        decode(octets, SESSION)
    decoding = time.process_time() - started
    started = time.process_time()
    ribs, sent, count = reflect(messages)
    reflecting = time.process_time() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    routes = len(ribs.tables["", VPNV4].nets)
    advertised = sum(len(group.advertised) for group in ribs.groups.by_key.values())
    json.dump(
        {
            "routes": routes,
            "advertised": advertised,
            "reflect_over_decode": round(reflecting / decoding, 2),
            "decode_us_per_route": round(decoding / routes * 1e6, 2),
            "reflect_us_per_route": round(reflecting / routes * 1e6, 2),
            "octets_per_route": round((after - before) * 1024 / routes),
            "messages_out": count,
            "octets_out": sent,
        },
        sys.stdout,
    )
    print()


if __name__ == "__main__":
    main()
