"""A NAT in memory: it lets the hosts behind it speak UDP, ESP and GRE to the outside under its own address.

As home routers do (RFC 4787 terms): endpoint-independent mapping, address- and port-dependent filtering, a mapping lives
from the last packet that went out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from attrs import define, field

from stack.addr import parse_address
from stack.testing import _packets as p
from stack.testing.node import MemoryNode

__all__ = ["MemoryNat"]

_ESP = 50
_PORTLESS = frozenset({47, _ESP})
"""GRE and ESP."""
_PORTS = 65536
_REMOTES = 64
"""Remote ends a mapping lets in; the one it spoke to longest ago goes first."""

End = tuple[bytes, int]
"""(address, port)."""


@define
class _Mapping:
    inner: End
    outer: int
    used: float
    remotes: dict[End, None] = field(factory=dict)


@define(eq=False)
class MemoryNat:
    """Makes `node` a NAT between its devices `inside` and `outside`; fragments are put together first.

    A mapping keeps the port of the host behind it if that is free, else it gets the next from `first_port` on. It ends
    `idle` seconds after the last packet from inside. At most `bound` mappings; the one used longest ago goes first.
    ESP and GRE have no ports: they pass, by address, for ONE inside host a remote end, the first that spoke to it. All else
    from inside to outside is dropped. A host in `static` has an outside address for itself, and all but TCP passes both ways.
    `drops` counts, by reason. What comes from outside to no mapping is for the node itself.

        nat = MemoryNat(world.node("nat"), inside="eth0", outside="eth1")
        nat.rebind()  # as after a restart: every flow gets another port
    """

    node: MemoryNode = field(repr=False)
    inside: str
    outside: str
    idle: float = 300.0
    bound: int = 1024
    first_port: int = 40000
    keep_ports: bool = True
    address: bytes = b""
    """Its address outside; if not given, the first of the device."""
    static: Mapping[str, str] = field(factory=dict)
    """Inside address -> the outside address, which must be the node's, that is this host's alone."""
    drops: Counter[str] = field(factory=Counter, init=False)
    _inner: dict[End, _Mapping] = field(factory=dict, init=False, repr=False)
    _outer: dict[int, _Mapping] = field(factory=dict, init=False, repr=False)
    _flows: dict[tuple[int, bytes], tuple[bytes, float]] = field(factory=dict, init=False, repr=False)
    _next: int = field(default=0, init=False)

    _to: dict[bytes, bytes] = field(factory=dict, init=False, repr=False)
    _from: dict[bytes, bytes] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._to = {parse_address(inner): parse_address(outer) for inner, outer in self.static.items()}
        self._from = {outer: inner for inner, outer in self._to.items()}
        self.node.forwarding = True
        self.node.ip.nat = self

    @property
    def mappings(self) -> tuple[tuple[bytes, int, int], ...]:
        """(inside address, inside port, outside port) of UDP, the one used longest ago first."""
        return tuple((*mapping.inner, mapping.outer) for mapping in self._inner.values())

    def rebind(self, address: bytes | str = b"") -> None:
        """Forget every mapping, and give none its old port again; from now on with `address`, which is the node's."""
        self._next = max((*self._outer, self.first_port + self._next)) - self.first_port + 1
        self._inner.clear()
        self._outer.clear()
        self._flows.clear()
        self.keep_ports = False
        if address:
            self.address = parse_address(address) if isinstance(address, str) else address

    # --- what the node's IP asks (stack.testing._ip.Translator) ---

    def outwards(self, ip: p.Ip) -> bytes:
        """A whole packet from inside, with its new source; nothing: dropped."""
        ours, now = self._address(), asyncio.get_running_loop().time()
        if not ours:
            self.drops["no address"] += 1
            return b""
        if ip.source in self._to:
            return _moved(ip, self._to[ip.source], ip.destination)
        if ip.protocol in _PORTLESS:
            return self._portless_outwards(ip, ours, now)
        udp = p.parse_udp(ip) if ip.protocol == p.UDP else None
        if udp is None:
            self.drops["neither UDP, ESP nor GRE"] += 1
            return b""
        sport, dport, octets = udp
        mapping = self._map((ip.source, sport), now)
        if mapping is None:
            self.drops["no port left"] += 1
            return b""
        mapping.remotes.pop((ip.destination, dport), None)
        while len(mapping.remotes) >= _REMOTES:
            del mapping.remotes[next(iter(mapping.remotes))]
        mapping.remotes[ip.destination, dport] = None
        return _rebuilt(ip, ours, ip.destination, p.build_udp(ours, ip.destination, mapping.outer, dport, octets))

    def inwards(self, ip: p.Ip) -> bytes | None:
        """A whole packet to the node from outside, with its new destination; nothing: dropped; None: it is for the node."""
        now = asyncio.get_running_loop().time()
        if ip.destination in self._from:
            return _moved(ip, ip.source, self._from[ip.destination])
        if ip.destination != self._address():
            return None
        if ip.protocol in _PORTLESS:
            inner, used = self._flows.get((ip.protocol, ip.source), (b"", 0.0))
            return _rebuilt(ip, ip.source, inner, ip.payload) if inner and now - used < self.idle else None
        udp = p.parse_udp(ip) if ip.protocol == p.UDP else None
        if udp is None:
            return None
        sport, dport, octets = udp
        self._expire(now)
        mapping = self._outer.get(dport)
        if mapping is None:
            return None
        if (ip.source, sport) not in mapping.remotes:
            self.drops["nobody inside spoke to them"] += 1
            return b""
        address, port = mapping.inner
        return _rebuilt(ip, ip.source, address, p.build_udp(ip.source, address, sport, port, octets))

    # --- mappings ---

    def _address(self) -> bytes:
        return self.address or self.node.host.first_address(self.node.host.nic(self.outside), bytes(4))

    def _map(self, inner: End, now: float) -> _Mapping | None:
        self._expire(now)
        mapping = self._inner.pop(inner, None)
        if mapping is None:
            while len(self._inner) >= self.bound:
                self._drop(next(iter(self._inner)))
            outer = self._free(inner[1])
            if not outer:
                return None
            mapping = self._outer[outer] = _Mapping(inner, outer, now)
        mapping.used = now
        self._inner[inner] = mapping  # last: the order is that of use
        return mapping

    def _free(self, wanted: int) -> int:
        if self.keep_ports and wanted not in self._outer:
            return wanted
        for _ in range(_PORTS - self.first_port):
            port = self.first_port + self._next % (_PORTS - self.first_port)
            self._next += 1
            if port not in self._outer:
                return port
        return 0

    def _expire(self, now: float) -> None:
        while self._inner:
            oldest = next(iter(self._inner.values()))
            if now - oldest.used < self.idle:
                return
            self._drop(oldest.inner)

    def _drop(self, inner: End) -> None:
        del self._outer[self._inner.pop(inner).outer]

    def _portless_outwards(self, ip: p.Ip, ours: bytes, now: float) -> bytes:
        flow = ip.protocol, ip.destination
        inner, used = self._flows.pop(flow, (b"", 0.0))
        if inner not in (b"", ip.source) and now - used < self.idle:
            self._flows[flow] = (inner, used)
            self.drops[f"{'ESP' if ip.protocol == _ESP else 'GRE'} of a second host"] += 1
            return b""
        while len(self._flows) >= self.bound:
            del self._flows[next(iter(self._flows))]
        self._flows[flow] = (ip.source, now)
        return _rebuilt(ip, ours, ip.destination, ip.payload)


def _moved(ip: p.Ip, source: bytes, destination: bytes) -> bytes:
    """From one address to another, ports and all."""
    if ip.protocol == p.TCP:
        return b""
    udp = p.parse_udp(ip) if ip.protocol == p.UDP else None
    payload = p.build_udp(source, destination, *udp) if udp is not None else ip.payload
    return _rebuilt(ip, source, destination, payload)


def _rebuilt(ip: p.Ip, source: bytes, destination: bytes, payload: bytes) -> bytes:
    """`ip` with other addresses and another payload, its options kept."""
    return p.reheader(ip.packet[:12] + source + destination + ip.packet[20 : ip.header] + payload)
