"""What the parts of the speaker share: configuration, what the bus has said, tables to read, and what is to be done next.

One direction: the parts know the node, the node knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from attrs import define, field

from nhrp.config import NhrpConfig, NhrpFamily, NhrpInterface
from nhrp.engine.indexed import NO_NETWORK, Interfaces, Network, Overlays, Tunnels
from nhrp.engine.outputs import Level, Log, Output, Post, Publish, Send
from nhrp.wire.packet import Kind, Packet
from stack.addr import DEFAULT_VRF, Afi, Fec
from stack.claims import Claims
from stack.events import (
    AdjacencyKey,
    AdjacencyRow,
    Fact,
    Interface,
    LabelRow,
    NhrpReceived,
    OverlayRow,
    SaKey,
    SaRow,
    TunnelRow,
)
from stack.tables.lfib import LfibTable
from stack.tables.nexthop import NextHopTable
from stack.tables.rib import RibTable
from stack.timers import Timers
from stack.values import value

__all__ = ["LOG_RATE", "Arrival", "Node", "afi_of"]

LOG_RATE = 20
"""Lines a second of what peers can provoke; the others are counted, and for `debug`."""


def afi_of(address: bytes) -> Afi:
    return Afi.IPV4 if len(address) == 4 else Afi.IPV6


@value
class Arrival:
    """A packet that has been decoded, and how it came. `fact.outer_source` is where from, whatever it says of itself."""

    fact: NhrpReceived
    packet: Packet
    interface: Interface
    tunnel: TunnelRow

    @property
    def name(self) -> str:
        return self.fact.interface

    @property
    def network(self) -> Network:
        return Network.of(self.interface)

    @property
    def afi(self) -> Afi:
        return afi_of(self.packet.destination)


def _interfaces(rows: Interfaces | Mapping[str, Interface]) -> Interfaces:
    return rows if isinstance(rows, Interfaces) else Interfaces(rows)


def _overlays(rows: Overlays | Mapping[tuple[str, bytes], OverlayRow]) -> Overlays:
    return rows if isinstance(rows, Overlays) else Overlays(rows)


def _tunnels(rows: Tunnels | Mapping[str, TunnelRow]) -> Tunnels:
    return rows if isinstance(rows, Tunnels) else Tunnels(rows)


@define(eq=False)
class Node:
    """`encode`: of nhrp.wire, injected so that a test may look at packets. Tables are read-only views."""

    config: NhrpConfig
    entropy: Callable[[int], bytes]
    encode: Callable[[Packet], bytes]
    rib: RibTable
    nexthops: NextHopTable
    lfib: LfibTable
    now: float = 0.0
    debug: bool = False
    interfaces: Interfaces = field(factory=Interfaces, converter=_interfaces)
    tunnels: Tunnels = field(factory=Tunnels, converter=_tunnels)
    adjacencies: dict[AdjacencyKey, AdjacencyRow] = field(factory=dict)
    sas: dict[SaKey, SaRow] = field(factory=dict)
    overlays: Overlays = field(factory=Overlays, converter=_overlays)
    labels: dict[Fec, LabelRow] = field(factory=dict)
    claims: Claims = field(factory=Claims)
    """Rows of EndpointOffered, SaWanted, RouteOffered, BindingOffered and LabelWanted, by claimant."""
    timers: Timers = field(factory=Timers)
    counters: dict[str, int] = field(factory=dict)
    """What was refused and why, and what was done: a fixed set of texts, so bounded."""
    traffic: dict[tuple[str, str, str], int] = field(factory=dict)
    """(interface, `in` or `out`, kind of packet) -> packets."""
    stopping: bool = False
    _claimants: int = 0
    _request_ids: int = 0
    _secret: bytes = field(default=b"", repr=False)
    _out: list[Output] = field(factory=list)
    _lines: tuple[int, int] = (0, 0)
    """(second, log lines in it)."""

    def __attrs_post_init__(self) -> None:
        # RFC 2332 5.2.0.1 wants ids that are not used again after a restart: a random start, and steps of one. Who hears one
        # must not know the next, which may be for another to answer: what is sent is the number under a key of our own.
        self._request_ids = int.from_bytes(self.entropy(4))
        self._secret = self.entropy(16)

    # --- what is to be done ---------------------------------------------------------------------------------------------

    def put(self, output: Output) -> None:
        self._out.append(output)

    def post(self, fact: Fact) -> None:
        self._out.append(Post(fact))

    def send(self, interface: str, nbma: bytes, packet: Packet) -> None:
        """`nbma`: empty on an interface with one far end."""
        self.note_traffic(interface, "out", packet.kind)
        tunnel = self.tunnels.get(interface)
        one = tunnel is not None and bool(tunnel.remote)
        self._out.append(Send(interface, b"" if one else nbma, self.encode(packet)))

    def log(self, event: str, level: Level = "info", **fields: object) -> None:
        """`warning` and `info` lines that a peer can provoke are limited; see LOG_RATE."""
        second, lines = self._lines
        if second != int(self.now):
            second, lines = int(self.now), 0
        self._lines = (second, lines + 1)
        if lines >= LOG_RATE and level != "error":
            self.count("log lines left out")
            if not self.debug:
                return
            level = "debug"
        self._out.append(Log(event, fields, level))

    def count(self, what: str) -> None:
        self.counters[what] = self.counters.get(what, 0) + 1

    def note_traffic(self, interface: str, direction: str, kind: Kind) -> None:
        key = (interface, direction, kind.name.lower().replace("_", "-"))
        self.traffic[key] = self.traffic.get(key, 0) + 1

    def forget_traffic(self, interface: str) -> None:
        """Counts go with their interface: a hub has had more of them than it has."""
        for direction in ("in", "out"):
            for kind in (*(kind.name.lower().replace("_", "-") for kind in Kind), "redirect-suppress"):
                self.traffic.pop((interface, direction, kind), None)

    def flush(self) -> list[Output]:
        """All that is to be done, in order; rows before packets that promise what they say, so that a label is installed
        when the peer hears of it."""
        rows: list[Output] = [Publish(*rows) for rows in self.claims.changes()]
        out, self._out = self._out, []
        return rows + out

    # --- names ------------------------------------------------------------------------------------------------------------

    def claimant(self) -> int:
        """A new number to claim rows by."""
        self._claimants += 1
        return self._claimants

    def request_id(self) -> int:
        """Not 0, and none twice before all have been used."""
        self._request_ids = self._request_ids + 1 & 0xFFFFFFFF
        return _shuffled(self._request_ids, self._secret) or self.request_id()

    # --- look-ups ---------------------------------------------------------------------------------------------------------

    def nhrp(self, name: str) -> NhrpInterface:
        """What NHRP was told of an interface (a clone: of its template)."""
        interface = self.interfaces.get(name)
        return self.config.of(name, interface.row.parent if interface is not None else "")

    def family(self, name: str, afi: Afi) -> NhrpFamily:
        return self.nhrp(name).family(afi)

    def network(self, name: str) -> Network:
        """The NHRP network that an interface is in; false: none."""
        interface = self.interfaces.get(name)
        return Network.of(interface) if interface is not None else NO_NETWORK

    def mpls(self, name: str) -> bool:
        interface = self.interfaces.get(name)
        return interface is not None and interface.row.mpls

    def vrf(self, name: str) -> str:
        """The inside VRF of an interface."""
        interface = self.interfaces.get(name)
        return interface.vrf if interface is not None else DEFAULT_VRF

    def own(self, name: str, afi: Afi) -> bytes:
        """Our overlay address on an interface, borrowed ones (`ip unnumbered`) included; empty: none yet."""
        interface = self.interfaces.get(name)
        if interface is None:
            return b""
        size = 4 if afi == Afi.IPV4 else 16
        fallback = b""
        for address, row in interface.addresses.items():
            if len(address) == size and not row.secondary and not _is_link_local(address):
                return address
            fallback = fallback or (address if len(address) == size else b"")
        return fallback

    def is_own(self, vrf: str, address: bytes) -> bool:
        """Whether it is an address of ours in that VRF."""
        return bool(self.interfaces.own(vrf, address))

    def nbma(self, name: str) -> bytes:
        """Our own NBMA address on an interface; empty: not known."""
        tunnel = self.tunnels.get(name)
        return tunnel.local if tunnel is not None else b""

    def is_at(self, interface: str, nbma: bytes) -> bool:
        """Whether `interface` leads to `nbma` (still: names of virtual-access interfaces are used again)."""
        tunnel = self.tunnels.get(interface)
        return tunnel is not None and tunnel.remote in (b"", nbma)

    def members(self, network: Network) -> Iterator[str]:
        """The interfaces of an NHRP network."""
        return iter(self.interfaces.members(network))

    def assigned(self, interface: str, outer_source: bytes) -> Mapping[bytes, OverlayRow]:
        """The overlay addresses that IKEv2 has assigned to the peer behind `outer_source` on `interface`: the only ones that it
        may speak for. Empty: IKEv2 assigned none, so nothing is bound."""
        tunnel = self.tunnels.get(interface)
        if tunnel is not None and tunnel.remote:
            return self.overlays.on(interface)
        return self.overlays.behind(interface, outer_source)

    def state(self) -> dict[str, Any]:
        """For `debug` and tests."""
        return {"claims": len(self.claims), "timers": len(self.timers), "counters": dict(self.counters)}


def _shuffled(number: int, key: bytes) -> int:
    """A permutation of the numbers of 32 bits: four rounds of Luby and Rackoff."""
    left, right = number >> 16, number & 0xFFFF
    for turn in range(4):
        mixed = blake2b(right.to_bytes(2), key=key, digest_size=2, salt=bytes((turn,))).digest()
        left, right = right, left ^ int.from_bytes(mixed)
    return left << 16 | right


def _is_link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80
