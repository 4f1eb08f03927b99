"""Small worlds that several tests stand on."""

from __future__ import annotations

import asyncio

from attrs import define, field

from stack.testing import MemoryNetwork, MemoryNode


def pair(**options) -> tuple[MemoryNetwork, MemoryNode, MemoryNode]:
    """a(192.0.2.1, 2001:db8::1) ---- (192.0.2.2, 2001:db8::2)b"""
    world = MemoryNetwork(**options)
    world.link(("a", "eth0"), ("b", "eth0"))
    a, b = world.node("a"), world.node("b")
    a.address("eth0", "192.0.2.1/24", "2001:db8::1/64")
    b.address("eth0", "192.0.2.2/24", "2001:db8::2/64")
    return world, a, b


def routed(**options) -> tuple[MemoryNetwork, MemoryNode, MemoryNode, MemoryNode]:
    """a(10.0.1.1) ---- (10.0.1.254)core(10.0.2.254) ---- (10.0.2.1)b, and the same in IPv6 (fd00:1::1, ...)"""
    world = MemoryNetwork(**options)
    world.link(("a", "eth0"), ("core", "eth0"))
    world.link(("core", "eth1"), ("b", "eth0"))
    a, b, core = world.node("a"), world.node("b"), world.node("core", forwarding=True)
    for number, (node, device) in enumerate(((a, "eth0"), (b, "eth1")), 1):
        node.address("eth0", f"10.0.{number}.1/24", f"fd00:{number}::1/64")
        core.address(device, f"10.0.{number}.254/24", f"fd00:{number}::254/64")
        node.route("0.0.0.0/0", f"10.0.{number}.254")
        node.route("::/0", f"fd00:{number}::254")
    return world, a, core, b


@define(eq=False)
class Peer(asyncio.Protocol):
    """Records what it hears; `echo` sends it back; `half_open` keeps its direction open after the other's end."""

    echo: bool = False
    half_open: bool = False
    got: bytearray = field(factory=bytearray)
    events: list[str] = field(factory=list)
    error: Exception | None = None
    transport: asyncio.Transport | None = None
    made: asyncio.Event = field(factory=asyncio.Event)
    ended: asyncio.Event = field(factory=asyncio.Event)
    lost: asyncio.Event = field(factory=asyncio.Event)

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.events.append("made")
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.echo:
            self.transport.write(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        self.ended.set()
        return self.half_open

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc) -> None:
        self.error = exc
        self.events.append("lost")
        self.lost.set()


@define(eq=False)
class Acceptor:
    """A factory that remembers the peers it made."""

    echo: bool = False
    half_open: bool = False
    peers: list[Peer] = field(factory=list)

    def __call__(self) -> Peer:
        self.peers.append(Peer(self.echo, self.half_open))
        return self.peers[-1]
