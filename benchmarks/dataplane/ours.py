"""The forwarder of this project, alone: real ports, real tables (256 prefixes), uvloop. `ours.py encap|decap|swap`.

Run by bench.py inside its namespace. SIGTERM ends it; with `--profile FILE` it leaves a profile behind. With `--esp`
the tunnel is protected by SAs with fixed keys; `ours.py frames --out FILE` writes what `decap --esp` takes.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from array import array
from pathlib import Path

import uvloop
from attrs import evolve

from stack.addr import DEFAULT_VRF, Afi, Prefix, parse_address
from stack.esp import Cipher, EspForm, EspMode, Integrity, Selector
from stack.events import SCOPE_MGRE, AdjacencyKey, Interface, InterfaceKind, InterfaceRow, NextHopKey, SaKey
from stack.os import OsNetwork
from stack.tables import Tables
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.fib import Leaf, LeafKind
from stack.tables.lfib import Nhlfe, Operation
from stack.tables.nexthop import NextHop
from stack.tables.reception import Reception
from stack.tables.sad import Sa
from tunnel.io.esp import Sealer
from tunnel.io.forwarder import Forwarder
from tunnel.wire import gre, ipv4, mpls

US, PE2, PE3 = (parse_address(f"192.0.2.{n}") for n in (1, 2, 3))
CE = parse_address("10.1.0.2")
VRF = "cust1"
CUSTOMER, TUNNEL = "Ethernet0/0", "Tunnel0"
CE_MAC, OUR_MAC = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")


FRAMES = 1 << 16


def associations(name: str, *, udp: bool = False) -> dict[bytes, tuple[Sa, Sa]]:
    """(outwards, inwards) to each PE. The keys are nobody's."""
    cipher = Cipher(next(each.value for each in Cipher if each.text == name))
    integrity = Integrity.NONE if cipher.aead else Integrity.HMAC_SHA2_256_128
    form = EspForm(cipher, integrity, EspMode.TRANSPORT, udp)
    made = {}
    for number, pe in enumerate((PE2, PE3), 1):
        ways = []
        for spi in (0x1000 + number, 0x2000 + number):
            ways.append(
                Sa(
                    spi=spi,
                    key=SaKey(TUNNEL, pe),
                    local=US,
                    remote=pe,
                    form=form,
                    encryption=bytes(range(cipher.key)),
                    salt=bytes(cipher.salt),
                    integrity=bytes(integrity.key),
                    ports=(4500, 4500) if udp else (0, 0),
                    own=(Selector(US, US, 47),),
                    far=(Selector(pe, pe, 47),),
                )
            )
        made[pe] = (ways[0], ways[1])
    return made


def write_frames(out: Path, size: int, key: int | None, cipher: str) -> None:
    """Frames with what PE2 would send us, numbered from 1 on: IPv4 of `size` octets under the labels of `tables`."""
    inwards = associations(cipher)[PE2][1]
    theirs = evolve(inwards, local=PE2, remote=US, own=inwards.far, far=inwards.own)
    sealer = Sealer(theirs, 255)
    link = bytes.fromhex("020000000101 020000000102 0800")
    with out.open("wb") as file:
        for number in range(FRAMES):
            j = number & 255
            inner = ipv4.encode(ipv4.Ipv4(CE, bytes((10, 64, j, number * 7 & 255)), 17, bytes(size - 20)))
            stack = mpls.encode((mpls.LabelEntry(100 + j, 0, True, 64),))
            packet = ipv4.encode(ipv4.Ipv4(PE2, US, 47, gre.encode(gre.Gre(gre.MPLS, stack + inner, key))))
            room = bytearray(64) + packet + bytearray(64)
            parts = array("Q", (64, len(packet)))
            sealer.seal(room, memoryview(room), parts, 0, 1, number)
            body = bytes(room[parts[0] + 20 : parts[0] + parts[1]])
            frame = link + ipv4.encode(ipv4.Ipv4(PE2, US, 50, body))
            file.write(len(frame).to_bytes(2, sys.byteorder) + frame)


def tables(mode: str, key: int | None, esp: str = "") -> Tables:
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
            AdjacencyKey(TUNNEL, pe),
            AdjacencyKind.GRE,
            True,
            1476,
            source=US,
            destination=pe,
            gre_key=key,
            ttl=255,
            protection="bench" if esp else "",
            sa=SaKey(TUNNEL, pe) if esp else None,
        )
        for pe in (PE2, PE3)
    ]
    sad = made.sad.writer("bench")
    for outwards, inwards in associations(esp).values() if esp else ():
        sad.put_outbound(outwards)
        sad.put_inbound(inwards)
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
        TUNNEL,
        Reception(TUNNEL, US, frozenset((47,)), DEFAULT_VRF, key, frozenset((PE2, PE3)), ip=False, protected=bool(esp)),
    )
    return made


async def serve(mode: str, key: int | None, esp: str) -> None:
    network = OsNetwork()
    made = tables(mode, key, esp)
    forwarder = Forwarder(made, lambda p, remote: network.raw(p, remote=remote), lambda _: None, time.monotonic)
    edge, core = network.frames("c0", None), network.raw(50 if esp else 47)
    attachment = made.interfaces.get(CUSTOMER)
    assert attachment is not None
    edge.listen(forwarder.add_attachment(attachment, edge).drain)
    reader = forwarder.esp(core) if esp else forwarder.gre(core)

    def drain() -> None:
        """The file's frames come again and again, so each batch finds an SA that is new."""
        for sa in made.sad.inbound.values():
            sa.use.sequence = sa.use.window = 0
        reader.drain()

    core.listen(drain if esp else reader.drain)
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
    words.add_argument("mode", choices=("encap", "decap", "swap", "frames"))
    words.add_argument("--key", type=lambda text: int(text, 0))
    words.add_argument("--esp", default="", help="a cipher: aes-gcm-256, chacha20-poly1305, aes-cbc-256, ...")
    words.add_argument("--size", type=int, default=64)
    words.add_argument("--out", type=Path)
    words.add_argument("--profile", type=Path)
    given = words.parse_args()
    if given.mode == "frames":
        write_frames(given.out, given.size, given.key, given.esp)
    elif given.profile:
        import cProfile

        with cProfile.Profile() as profile:
            uvloop.run(serve(given.mode, given.key, given.esp))
        profile.dump_stats(given.profile)
    else:
        uvloop.run(serve(given.mode, given.key, given.esp))


if __name__ == "__main__":
    main()
