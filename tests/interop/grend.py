"""The far end of GRE tunnels where the kernel has none: a raw socket that answers pings inside GRE, and sends its own."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

from stack.addr import format_address, parse_address
from stack.lab.namespace import Namespace
from stack.lab.probe import echo_request
from stack.wire import internet_checksum

__all__ = ["GreEnd"]

GRE, ICMP = 47, 1
ECHO, ECHO_REPLY = 8, 0
PLAIN_IPV4 = b"\0\0\x08\0"
"""A GRE header without options (RFC 2784)."""


class GreEnd:
    """Of every address of `namespace`: answers ICMP echo requests that are in IPv4 in GRE, whatever address they ask."""

    def __init__(self, namespace: Namespace) -> None:
        self._socket = namespace.socket(socket.AF_INET, socket.SOCK_RAW, GRE)
        self._socket.setblocking(False)
        self._senders: dict[str, socket.socket] = {}
        self._namespace = namespace
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.answered = 0
        self._sequence = 0
        self._replies: set[tuple[str, int]] = set()
        """(who answered, sequence) of our own pings."""
        self._thread = threading.Thread(target=self._run, name="gre end", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for one in (self._socket, *self._senders.values()):
            one.close()

    def ping(self, local: str, remote: str, source: str, destination: str, count: int = 3, size: int = 56) -> int:
        """From `source` to `destination` inside GRE from `local` to `remote`: how many of `count` were answered."""
        answered = 0
        for _ in range(count):
            self._sequence = sequence = (self._sequence + 1) & 0xFFFF
            echo = echo_request(socket.AF_INET, 0x4752, sequence, size)
            self._send(local, remote, _ipv4(parse_address(source), parse_address(destination), echo))
            end = time.monotonic() + 2.0
            while (destination, sequence) not in self._replies and time.monotonic() < end:
                time.sleep(0.002)
            answered += (destination, sequence) in self._replies
            self._replies.discard((destination, sequence))
        return answered

    def _send(self, local: str, remote: str, packet: bytes) -> None:
        with self._lock:
            sender = self._senders.get(local)
            if sender is None:
                sender = self._senders[local] = self._namespace.socket(socket.AF_INET, socket.SOCK_RAW, GRE)
                sender.bind((local, 0))
        sender.sendto(PLAIN_IPV4 + packet, (remote, 0))

    def _run(self) -> None:
        while not self._stop.is_set():
            readable, _, _ = select.select([self._socket], [], [], 0.1)
            if readable:
                self._take(self._socket.recv(65536))

    def _take(self, outer: bytes) -> None:
        gre = outer[(outer[0] & 0x0F) * 4 :]
        if gre[:4] != PLAIN_IPV4 or len(gre) < 32:
            return
        inner = gre[4:]
        head = (inner[0] & 0x0F) * 4
        length = struct.unpack_from(">H", inner, 2)[0]
        source, destination, echo = inner[12:16], inner[16:20], bytearray(inner[head:length])
        if inner[9] != ICMP:
            return
        if echo[0] == ECHO:
            echo[0:4] = bytes(4)
            echo[2:4] = internet_checksum(bytes(echo)).to_bytes(2)
            self.answered += 1
            local, remote = (format_address(outer[at : at + 4]) for at in (16, 12))
            self._send(local, remote, _ipv4(destination, source, bytes(echo)))
        elif echo[0] == ECHO_REPLY:
            self._replies.add((format_address(source), struct.unpack_from(">H", echo, 6)[0]))


def _ipv4(source: bytes, destination: bytes, payload: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, ICMP, 0, source, destination)
    return head[:10] + internet_checksum(head).to_bytes(2) + head[12:] + payload
