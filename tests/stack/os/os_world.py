"""A world of two nodes for these tests, frames made by hand, and a loop that runs inside a namespace."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import uvloop

from stack.lab.namespace import Namespace, World
from stack.net import Port
from tests.conftest import require_root

T = TypeVar("T")

MAC_A, MAC_B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@contextmanager
def two_nodes(*, mtu: int = 1500) -> Iterator[tuple[Namespace, Namespace]]:
    """```
    a eth0 (MAC_A) ---- (MAC_B) eth0 b
    ```"""
    require_root()
    with World() as world:
        a, b = world.add("a"), world.add("b")
        world.cable(a, "eth0", b, "eth0", mtu=mtu)
        a.up("eth0", mac=MAC_A)
        b.up("eth0", mac=MAC_B)
        yield a, b


def inside(namespace: Namespace, work: Callable[[], Awaitable[T]], *, loop: str = "asyncio") -> T:
    """Run a coroutine function on an event loop of its own, inside a namespace."""

    def run() -> T:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            return runner.run(work())

    return namespace.run(run)


def packet_socket(namespace: Namespace, device: str = "eth0", protocol: int = 0) -> socket.socket:
    sock = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind((device, protocol))
    sock.settimeout(2)
    return sock


def ethernet(to: bytes, source: bytes, ethertype: int, payload: bytes, *, vlan: int | None = None) -> bytes:
    tag = b"" if vlan is None else struct.pack(">HH", 0x8100, vlan)
    return to + source + tag + struct.pack(">H", ethertype) + payload


def ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes, *, df: bool = False, ttl: int = 64) -> bytes:
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 7, 0x4000 if df else 0, ttl, protocol, 0, source, destination
    )
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:] + payload


async def take(port: Port, count: int = 1, *, seconds: float = 2.0) -> list[bytes]:
    """The next packets of a port, without their virtio-net headers. Fewer if they do not come in time."""
    taken: list[bytes] = []
    enough = asyncio.Event()
    buffer = bytearray(1 << 17)

    def readable() -> None:
        while True:
            try:
                length = port.recv_into(buffer)
            except BlockingIOError:
                return
            taken.append(bytes(buffer[port.headroom : length]))
            if len(taken) >= count:
                enough.set()

    port.listen(readable)
    try:
        await asyncio.wait_for(enough.wait(), seconds)
    except TimeoutError:
        pass
    finally:
        port.listen(None)
    return taken


def drain(port: Port) -> list[bytes]:
    """What a port holds now."""
    taken = []
    buffer = bytearray(1 << 17)
    while True:
        try:
            length = port.recv_into(buffer)
        except BlockingIOError:
            return taken
        taken.append(bytes(buffer[port.headroom : length]))
