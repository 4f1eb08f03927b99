"""Many NHRP clients in one process, over a real raw socket: the load of benchmarks. Not a figure by itself.

    clients = Clients(10_000, hub=parse_address("10.9.0.2"), server=parse_address("10.128.0.1"))
    clients.register(range(10_000), window=64)     # each is answered, or AssertionError

Each client has an overlay and an NBMA address of its own; the NBMA prefix must be local to the host. Packets are made before
the clock runs, and of an answer only the addresses and the kind are looked at: the sender must cost less than what it measures.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable

from attrs import define, field

from nhrp.wire import Cie, ExtensionKind, Flag, Kind, Packet, authentication, cie_extension, encode
from nhrp.wire.packet import Extension
from stack.addr import format_address

__all__ = ["PASSWORD", "Clients", "nbma_of", "overlay_of", "request"]

GRE = 47
PASSWORD = b"NHRPAUTH"
PATIENCE = 1.0
"""Seconds until a registration is sent again; how often that was is told."""
TRIES = 5
_KIND, _CODE_BEHIND = 17, 28
_QUEUE, _SO_RCVBUFFORCE = 8 << 20, 33


def overlay_of(number: int) -> bytes:
    return bytes((10, 128, *(number + 256).to_bytes(2)))


def nbma_of(number: int) -> bytes:
    return bytes((10, 64, *(number + 256).to_bytes(2)))


def request(number: int, hub: bytes, server: bytes) -> Packet:
    """A spoke's registration, as ours and Cisco's send it: every extension that asks for something."""
    cie = Cie(prefix_length=255, mtu=17912, holding_time=7200)
    records = (
        Extension(3, b"", compulsory=True),
        Extension(4, b"", compulsory=True),
        Extension(5, b"", compulsory=True),
    )
    nat = cie_extension(ExtensionKind.NAT_ADDRESS, (Cie(prefix_length=32, nbma=hub, protocol=server),))
    return Packet(
        Kind.REGISTRATION_REQUEST,
        nbma_of(number),
        overlay_of(number),
        server,
        request_id=number + 1,
        flags=Flag.UNIQUE_REGISTRATION | Flag.NAT,
        cies=(cie,),
        extensions=(*records, authentication(PASSWORD), nat),
        hop_count=1,
    )


@define(eq=False)
class Clients:
    """`count` of them. `again`: registrations that had to be sent again; `refused`: that were answered with a code."""

    count: int
    hub: bytes
    server: bytes
    again: int = 0
    refused: int = 0
    _packets: list[bytes] = field(factory=list)
    _socket: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        for number in range(self.count):
            head = bytes((0x45, 0xC0, 0, 0, 0, 0, 0, 0, 255, GRE, 0, 0)) + nbma_of(number) + self.hub
            octets = encode(request(number, self.hub, self.server))
            self._packets.append(head + b"\0\0\x20\x01" + octets)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, GRE)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE)

    def register(self, numbers: Iterable[int], window: int) -> float:
        """Seconds until each of `numbers` was answered, at most `window` at once."""
        waiting: dict[bytes, tuple[int, float, int]] = {}
        todo, to = iter(numbers), (format_address(self.hub), 0)
        receive, packets = self._socket.recv, self._packets
        begun, more = time.monotonic(), True
        while True:
            while more and len(waiting) < window:
                number = next(todo, None)
                if number is None:
                    more = False
                    break
                waiting[nbma_of(number)] = number, time.monotonic(), 1
                self._socket.sendto(packets[number], to)
            if not waiting:
                return time.monotonic() - begun
            if not select.select([self._socket], [], [], 0.1)[0]:
                self._send_again(waiting, to)
            for _ in range(window):
                try:
                    octets = receive(512)
                except BlockingIOError:
                    break
                self._answered(waiting, octets)

    def _answered(self, waiting: dict[bytes, tuple[int, float, int]], octets: bytes) -> None:
        if octets[12:16] != self.hub or octets[24 + _KIND] != Kind.REGISTRATION_REPLY:
            return
        if waiting.pop(octets[16:20], None) is not None:
            # Header, three addresses of four octets, and the code of the first entry.
            self.refused += octets[24 + _CODE_BEHIND + 12] != 0

    def _send_again(self, waiting: dict[bytes, tuple[int, float, int]], to: tuple[str, int]) -> None:
        now = time.monotonic()
        for nbma, (number, since, tries) in waiting.items():
            if now - since > PATIENCE:
                assert tries < TRIES, f"client {number} is not answered"
                waiting[nbma] = number, now, tries + 1
                self.again += 1
                self._socket.sendto(self._packets[number], to)

    def close(self) -> None:
        self._socket.close()
