"""What stands before a packet when it leaves: prebuilt headers of one adjacency under one label stack.

TTL, the uniform model (RFC 3443 3.1): every label that is pushed has the TTL that the packet leaves with. Class of
service (RFC 5462, RFC 3270 2.6.2, uniform at imposition): a pushed label's TC is the three precedence bits of the DSCP;
a swapped label keeps its TC; a popped label's TC is not copied into the packet. The outer IPv4 header has the
adjacency's `tos`, else TC as precedence for labelled packets and the DSCP for plain ones, with ECN zero (RFC 6040 4.3,
compatibility mode). Its DF bit is clear and its identification zero, which the port fills in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from struct import Struct

from attrs import define, field

from stack.addr import LabelStack
from stack.tables.adjacency import Adjacency, AdjacencyKind
from tunnel.io.batch import SendQueue

__all__ = ["Rewrite", "key4", "key6"]

MAX_HEADERS = 1024
"""Prebuilt headers of one rewrite: TTLs times classes that are in use. When full, all are built anew as they come."""

IPV4, IPV6, MPLS = b"\x08\x00", b"\x86\xdd", b"\x88\x47"
GRE, MPLS_IN_IP = 47, 137
VNET = bytes(10)
_KEY = b"\x20\x00"
_SIX, _FOUR = 0x60000, 0x450000


def key4(tos: int, ttl: int) -> int:
    """The header key of an IPv4 packet that leaves with this TTL: the octets 0x45, TOS, TTL."""
    return _FOUR | tos << 8 | ttl


def key6(traffic_class: int, hop_limit: int) -> int:
    return _SIX | traffic_class << 8 | hop_limit


@cache
def _layers(size: int) -> tuple[Callable[..., None], Callable[..., None]]:
    return Struct(f"{size}s").pack_into, Struct(f">{size}sIII").pack_into


@define(eq=False)
class Rewrite:
    """`send` of the port, and the header for each key.

    A key is `key4`/`key6`, or, for a packet whose top label was swapped for `labels`, the low 12 bits of the label
    stack entry it came with (TC, S and the TTL, which leaves one less). `room`: the largest packet behind `labels`.
    `limit` is what the fast path compares: `room`, or -1 if the packet needs a look (MSS, hairpin). `tally` counts what
    leaves. `stacked`: what is behind `labels` begins with a label. `queue`: where `send` may be put off to.
    """

    adjacency: Adjacency
    labels: LabelStack
    send: Callable[[bytes | bytearray | memoryview], int]
    port: str
    headroom: int
    tally: list[int]
    mss: int = 0
    hairpin: bool = False
    stacked: bool = False
    queue: SendQueue | None = None
    room: int = field(init=False)
    limit: int = field(init=False)
    size: int = field(init=False)
    headers: dict[int, bytes] = field(factory=dict, init=False)
    plain: list[bytes | None] = field(init=False)
    """By the TTL that it comes with: the header of an IPv4 packet whose TOS is 0. What the hot loops look at first."""
    lay: Callable[..., None] = field(init=False)
    """`lay(octets, at, header)`; half the price of assigning to a slice."""
    lay4: Callable[..., None] = field(init=False)
    """`lay4(octets, at, header, first, second, third)`: and the words of the IPv4 header behind it."""

    def __attrs_post_init__(self) -> None:
        self.room = self.adjacency.mtu - 4 * len(self.labels)
        self.limit = -1 if self.mss or self.hairpin else self.room
        self.plain = [None] * 256
        self.size = len(self.build(1 if self.stacked else key4(0, 1)))
        self.lay, self.lay4 = _layers(self.size)

    @property
    def interface(self) -> str:
        return self.adjacency.key.interface

    def header(self, key: int) -> bytes:
        octets = self.headers.get(key)
        if octets is None:
            if len(self.headers) >= MAX_HEADERS:
                self.headers.clear()
            octets = self.headers[key] = self.build(key)
            if key >> 8 == _FOUR >> 8 and key & 0xFF < 0xFF:
                self.plain[(key & 0xFF) + 1] = octets
        return octets

    def build(self, key: int) -> bytes:
        """The octets before the packet, for this key."""
        if key < 0x1000:
            tc, bottom, ttl, plain = key >> 9, key >> 8 & 1, (key & 0xFF) - 1, MPLS
            tos = tc << 5
        else:
            tos, ttl = key >> 8 & 0xFF, key & 0xFF
            tc, bottom, plain = tos >> 5, 1, IPV4 if key >= _FOUR else IPV6
        last = len(self.labels) - 1
        stack = b"".join(
            (label << 12 | tc << 9 | (bottom if place == last else 0) << 8 | ttl).to_bytes(4)
            for place, label in enumerate(self.labels)
        )
        labelled = bool(stack) or plain is MPLS
        return self._outer(MPLS if labelled else plain, tc << 5 if labelled else tos & 0xFC) + stack

    def _outer(self, ethertype: bytes, tos: int) -> bytes:
        adjacency = self.adjacency
        kind = adjacency.kind
        if kind is AdjacencyKind.ETHERNET or (kind is AdjacencyKind.HOST and ethertype is MPLS):
            return VNET[: self.headroom] + adjacency.rewrite + ethertype
        if kind is AdjacencyKind.TUN or kind is AdjacencyKind.HOST:
            return VNET[: self.headroom]
        tos = tos if adjacency.tos is None else adjacency.tos
        if kind is AdjacencyKind.MPLS_IN_IP:
            return self._ipv4(tos, MPLS_IN_IP)
        if adjacency.gre_key is None:
            return self._ipv4(tos, GRE) + b"\0\0" + ethertype
        return self._ipv4(tos, GRE) + _KEY + ethertype + adjacency.gre_key.to_bytes(4)

    def _ipv4(self, tos: int, protocol: int) -> bytes:
        adjacency = self.adjacency
        fixed = bytes((0x45, tos, 0, 0, 0, 0, 0, 0, adjacency.ttl, protocol, 0, 0))
        return fixed + adjacency.source + adjacency.destination
