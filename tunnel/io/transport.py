"""Tunnels whose own packets travel in a VRF (`tunnel vrf`), whose interfaces are ours and not the kernel's: what the host's raw
sockets are in the default VRF.

Out: a port that takes whole IPv4 packets, as a raw socket does, and sends them by the VRF's FIB. In: what comes to an address
of ours in the VRF and is GRE, MPLS-in-IP, ESP, or ESP in UDP 4500 goes to a port that the readers of raw sockets drain too.
A tunnel inside a tunnel is never taken off (RFC 2784 3), and never put on more than MAX_NESTED deep.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any

from attrs import define, field

from stack.events import Ingress
from tunnel.io.counters import Drop
from tunnel.io.errors import reseal4
from tunnel.io.inlet import Arrival, Flows, Inlet
from tunnel.io.path import Path
from tunnel.io.ports import Unsent
from tunnel.io.reassembly import Reassembly
from tunnel.io.rewrite import GRE, MPLS_IN_IP
from tunnel.io.sealing import ESP, UDP

__all__ = ["MAX_KNOWN", "MAX_NESTED", "MAX_OUTER", "NAT_PORT", "OuterIn", "OuterOut", "Transport"]

MAX_OUTER = 1024
"""Outer packets that wait for a reader."""

MAX_NESTED = 3
"""A tunnel in a VRF, which is reached by a tunnel in another VRF, and so on."""

MAX_KNOWN = 4096
"""Pairs of addresses whose packets need not be looked at by the whole path. When full, all must be again."""

NAT_PORT = 4500
"""Of IKE and ESP in UDP (RFC 3948 2)."""

_FRAGMENT = 0x3FFF
_MARKER = bytes(4)
_WORDS = Struct(">IIIII").unpack_from

Later = Callable[[Callable[[], None]], object]
"""Have something called on the loop's next turn."""


@define(eq=False)
class OuterIn:
    """A port in memory: `push` is its far side. See `stack.net.Port`."""

    name: str
    later: Later
    mtu: int = 65535
    headroom: int = 0
    _queue: deque[bytes] = field(factory=deque, init=False, repr=False)
    _readable: Callable[[], None] | None = field(default=None, init=False)
    _called: bool = field(default=False, init=False)

    def push(self, packet: bytes) -> bool:
        """False: the queue is full."""
        if len(self._queue) >= MAX_OUTER:
            return False
        self._queue.append(packet)
        self._wake()
        return True

    def recv_into(self, buffer: memoryview | bytearray, /) -> int:
        if not self._queue:
            raise BlockingIOError(errno.EAGAIN, "nothing has come")
        packet = self._queue.popleft()
        buffer[: len(packet)] = packet
        return len(packet)

    def send(self, octets: bytes | bytearray | memoryview, /) -> int:
        raise OSError(errno.EOPNOTSUPP, f"{self.name}: {len(octets)} octets to a port that only receives")

    def listen(self, readable: Callable[[], None] | None) -> None:
        self._readable = readable
        self._wake()

    def close(self) -> None:
        self._readable = None
        self._queue.clear()

    def _wake(self) -> None:
        if self._queue and self._readable is not None and not self._called:
            self._called = True
            self.later(self._fire)

    def _fire(self) -> None:
        self._called = False
        if self._readable is None or not self._queue:
            return
        try:
            self._readable()
        finally:
            self._wake()


@define(eq=False)
class OuterOut:
    """A port that sends what a raw socket would: IPv4 packets whose length, identification and checksum it fills in. The way to
    each destination is remembered as any flow is."""

    path: Path
    vrf: str
    name: str = field(init=False)
    mtu: int = 65535
    headroom: int = 0
    _arrival: Arrival = field(init=False)
    _flows: Flows = field(init=False)
    _identification: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.name = f"tunnels in VRF {self.vrf}"
        inlet = Inlet(self.name, "", self.vrf, "", self.path.counters.into(self.name), outer=True)
        self.path.inlets[self.name] = inlet
        self._flows = self.path.flows(inlet, self.vrf)
        self._arrival = Arrival(inlet, Ingress("", self.vrf), self.vrf, local=True, quiet=True)

    def send(self, octets: bytes | bytearray | memoryview, /) -> int:
        """Raises Unsent if it is nested too deep; what the VRF's FIB refuses is counted there."""
        path, size = self.path, len(octets)
        if path.nested >= MAX_NESTED:
            raise Unsent(Drop.NESTED)
        packet = bytearray(octets)
        # RFC 6864 4.1: nothing of ours has DF set, so identifications must differ.
        self._identification = self._identification % 0xFFFF + 1
        packet[2:6] = size.to_bytes(2) + self._identification.to_bytes(2)
        reseal4(packet)
        tally = self._arrival.inlet.tally
        tally[0] += 1
        tally[1] += size
        rewrite = self._flows.four.get(int.from_bytes(packet[16:20]))
        path.nested += 1
        try:
            if rewrite is None or size > rewrite.limit:
                path.ip(bytes(packet), self._arrival)
            else:
                path.send(packet, rewrite)
        finally:
            path.nested -= 1
        return size

    def recv_into(self, buffer: memoryview | bytearray, /) -> int:  # noqa: ARG002  (the Port's signature)
        raise BlockingIOError(errno.EAGAIN, "a port that only sends")

    def listen(self, readable: Callable[[], None] | None) -> None:
        """Nothing to hear."""

    def close(self) -> None:
        self.path.inlets.pop(self.name, None)


@define(eq=False)
class Transport:
    """One VRF that tunnels travel in. `heard`: the protocols that some tunnel there takes; others are the host's business."""

    path: Path
    vrf: str
    later: Later
    out: OuterOut = field(init=False)
    ports: dict[int, OuterIn] = field(init=False)
    """By IP protocol; UDP's has ESP in it."""
    heard: frozenset[int] = frozenset()
    _known: dict[bytes, Any] = field(init=False)
    """(protocol, source, destination) of packets that the whole path has led here: forgotten as any flow is."""
    _pieces: Reassembly = field(factory=Reassembly, init=False)

    def __attrs_post_init__(self) -> None:
        names = {GRE: "gre", MPLS_IN_IP: "mpls-in-ip", ESP: "esp", UDP: "esp in udp"}
        self.out = OuterOut(self.path, self.vrf)
        self.ports = {number: OuterIn(f"{name} in VRF {self.vrf}", self.later) for number, name in names.items()}
        fib = self.path.tables.fib.get(self.vrf)
        flows = Flows(self.vrf, fib, fib.generation if fib is not None else 0)
        self.path.inlets[self.out.name].flows["\0in"] = flows
        self._known = flows.six

    def again(self, octets: bytes, arrival: Arrival) -> bool:
        """Whether that is the next packet of those that `takes` has taken, whole and sound, and has been taken too."""
        if octets[0:1] != b"\x45" or octets[9:10] + octets[12:20] not in self._known:
            return False
        first, second, _, _, _ = words = _WORDS(octets)
        size, protocol = first & 0xFFFF, octets[9]
        if not 20 <= size <= len(octets) or second & _FRAGMENT or sum(words) % 0xFFFF or arrival.inlet.tunnel:
            return False
        if protocol == UDP and not _is_esp(octets):
            return False
        if not self.ports[protocol].push(octets[:size]):
            self.path.drop(Drop.QUEUE_FULL, arrival)
        return True

    def takes(self, packet: bytes, arrival: Arrival) -> bytes | None:
        """None: an IPv4 packet for an address of ours in this VRF is a tunnel's, and has been taken (or dropped and counted).
        Else the packet, whole, which is the host's."""
        protocol = packet[9]
        if protocol not in self.heard:
            return packet
        if arrival.inlet.tunnel:
            if protocol == UDP and not _is_esp(packet):
                return packet
            self.path.drop(Drop.NESTED, arrival)
            return None
        if int.from_bytes(packet[6:8]) & _FRAGMENT:
            whole = self._pieces.add(packet, self.path.now())
            for _ in range(self._pieces.take_lost()):
                self.path.drop(Drop.FRAGMENT, arrival)
            if whole is None:
                return None
            packet = whole
        if protocol == UDP and not _is_esp(packet):
            return packet
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[packet[9:10] + packet[12:20]] = None
        self.path.warm.add(self.path.inlets[self.out.name])
        if not self.ports[protocol].push(packet):
            self.path.drop(Drop.QUEUE_FULL, arrival)
        return None

    def close(self) -> None:
        self.out.close()
        for port in self.ports.values():
            port.close()


def _is_esp(packet: bytes) -> bool:
    """A datagram to port 4500 that does not begin with the non-ESP marker: ESP, or a keepalive (RFC 3948 2.1 to 2.3). A later
    fragment of one that came through a tunnel is none: what it belongs to is not put together."""
    start = (packet[0] & 15) * 4
    body = packet[start + 8 :]
    if int.from_bytes(packet[6:8]) & 0x1FFF:
        return False
    return int.from_bytes(packet[start + 2 : start + 4]) == NAT_PORT and bool(body) and body[:4] != _MARKER
