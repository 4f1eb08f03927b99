"""The forwarder: ports in, readers on them, one path behind. No asyncio: whoever owns it calls `drain` when told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, field

from stack.addr import DEFAULT_VRF, Prefix
from stack.events import SCOPE_ETHERNET, Fact, Interface, InterfaceKind, RoutesUsed, SendNhrp
from stack.net import Port
from stack.tables import Tables
from stack.tables.adjacency import AdjacencyKind
from tunnel.io.batch import Arena
from tunnel.io.counters import Counters, CountersSnapshot
from tunnel.io.inlet import Inlet
from tunnel.io.labels import Labels
from tunnel.io.nhrp import NhrpOut
from tunnel.io.opening import EspReader
from tunnel.io.path import Path
from tunnel.io.ports import OpenRaw, Outlets
from tunnel.io.readers import BareReader, FrameReader, GreReader, MplsInIpReader, Reader
from tunnel.io.rewrite import GRE, MPLS_IN_IP
from tunnel.io.sealing import ESP, UDP, esp_remotes
from tunnel.io.transport import Transport
from tunnel.io.tunnels import Tunnels

__all__ = ["SWEPT", "Forwarder"]

SWEPT = 32
"""Open raw sockets for each change of a neighbour, up to which those of far ends that are gone are looked for at once. Where
there are more, to look would cost more than the change did, and some more changes are waited for."""

_CLEAR = {AdjacencyKind.GRE: GRE, AdjacencyKind.MPLS_IN_IP: MPLS_IN_IP}


@define(eq=False)
class Forwarder:
    """`tables` are read, `open_raw(protocol, remote)` opens a send-only port, `post` takes facts, `now` is monotonic.

    Each `add_...` takes an open port and returns its reader, whose `drain` is to be called when the port is readable.
    """

    tables: Tables
    open_raw: OpenRaw
    post: Callable[[Fact], None]
    now: Callable[[], float]
    later: Callable[[Callable[[], None]], object] = field(default=lambda _: None)
    """Has something called on the loop's next turn; who calls `drain` of every reader by itself needs none."""
    counters: Counters = field(factory=Counters)
    outlets: Outlets = field(init=False)
    path: Path = field(init=False)
    labels: Labels = field(init=False)
    tunnels: Tunnels = field(init=False)
    nhrp: NhrpOut = field(init=False)
    _transports: dict[str, Transport] = field(factory=dict, init=False)
    _swept: int = field(default=-1, init=False)
    arena: Arena = field(factory=Arena, init=False)

    def __attrs_post_init__(self) -> None:
        self.outlets = Outlets(self.open_raw, self.counters)
        self.path = Path(self.tables, self.outlets, self.counters, self.post, self.now, self.arena)
        self.labels = Labels(self.path)
        self.tunnels = Tunnels(self.path, self.labels)
        self.nhrp = NhrpOut(self.path)
        self.path.changed = self._changed

    def _changed(self) -> None:
        """Some table but a FIB has changed; the caches are empty already."""
        self.tunnels.rebuild()
        for vrf, transport in self._transports.items():
            transport.heard = _heard(self.tables, vrf)
        neighbours = self.tables.adjacencies.generation + self.tables.sad.generation
        if (neighbours - self._swept) * SWEPT >= len(self.outlets):
            self._swept = neighbours
            self._sweep()

    def _sweep(self) -> None:
        """Close the raw sockets of far ends that are gone."""
        clear = [
            a
            for a in self.tables.adjacencies
            if a.kind in _CLEAR and a.complete and not a.protection and not a.transport_vrf
        ]
        self.outlets.keep_only({(_CLEAR[a.kind], a.destination) for a in clear} | esp_remotes(self.tables.sad))

    def add_attachment(self, interface: Interface, port: Port) -> Reader:
        """An Ethernet or TUN interface, or (in the default VRF) the labelled side of a device that is the kernel's."""
        row = interface.row
        default = row.vrf == DEFAULT_VRF
        inlet = Inlet(
            row.name,
            row.name,
            row.vrf,
            SCOPE_ETHERNET,
            self.counters.into(row.name),
            mpls=row.mpls,
            only_vrf=None if default else row.vrf,
        )
        self.path.inlets[row.name] = inlet
        self.outlets.attachments[row.name] = port
        self.outlets.generation += 1
        if row.kind is InterfaceKind.TUN:
            return BareReader(port, self.path, self.labels, self.arena, inlet)
        kernel = default and row.vlan is None
        return FrameReader(port, self.path, self.labels, self.arena, inlet, interface.mac, kernel)

    def remove_attachment(self, name: str) -> None:
        """The port is the caller's to close, after this."""
        inlet = self.path.inlets.pop(name, None)
        if inlet is not None:
            inlet.harvest(self.counters.labels)
            inlet.clear()
        port = self.outlets.attachments.pop(name, None)
        if port is not None:
            self.outlets.forget(port)

    def add_host_port(self, vrf: str, port: Port) -> Reader:
        self.outlets.hosts[vrf] = port
        self.outlets.generation += 1
        return BareReader(port, self.path, self.labels, self.arena, self.path.host_inlet(vrf), local=True)

    def remove_host_port(self, vrf: str) -> None:
        port = self.outlets.hosts.pop(vrf, None)
        if port is not None:
            self.outlets.forget(port)

    def gre(self, port: Port) -> Reader:
        """The raw socket of protocol 47, by which NHRP leaves too."""
        self.nhrp.port = port
        return GreReader(port, self.path, self.labels, self.arena, self.tunnels)

    def mpls_in_ip(self, port: Port) -> Reader:
        """The raw socket of protocol 137."""
        return MplsInIpReader(port, self.path, self.labels, self.arena, self.tunnels)

    def esp(self, port: Port, *, udp: bool = False) -> Reader:
        """The raw socket of protocol 50, or (`udp`) the one that gets ESP in UDP."""
        return EspReader(port, self.path, self.labels, self.arena, self.tunnels, udp)

    def add_transport(self, vrf: str) -> list[tuple[Port, Reader]]:
        """Tunnels' own packets travel in `vrf` from now on: the ports that those which come in go to, and their readers."""
        transport = self._transports[vrf] = Transport(self.path, vrf, self.later)
        transport.heard = _heard(self.tables, vrf)
        self.path.outer[vrf] = transport
        self.outlets.transports[vrf] = transport.out
        self.outlets.generation += 1
        shared = self.path, self.labels, self.arena, self.tunnels
        ports = transport.ports
        return [
            (ports[GRE], GreReader(ports[GRE], *shared, vrf=vrf)),
            (ports[MPLS_IN_IP], MplsInIpReader(ports[MPLS_IN_IP], *shared, vrf=vrf)),
            (ports[ESP], EspReader(ports[ESP], *shared, False, vrf=vrf)),
            (ports[UDP], EspReader(ports[UDP], *shared, True, vrf=vrf)),
        ]

    def remove_transport(self, vrf: str) -> None:
        transport = self._transports.pop(vrf, None)
        if transport is not None:
            del self.path.outer[vrf], self.outlets.transports[vrf]
            self.outlets.forget(transport.out)
            transport.close()

    def send_nhrp(self, fact: SendNhrp) -> None:
        """Out by the tunnel that it names, or dropped and counted."""
        self.path.refresh()
        self.nhrp.send(fact)

    def routes_used(self, request: RoutesUsed) -> frozenset[Prefix]:
        return self.path.used(request.vrf, request.prefixes)

    def label_octets(self) -> Mapping[int, int]:
        """Octets that came under each label, since the start."""
        for inlet in self.path.inlets.values():
            inlet.harvest(self.counters.labels)
        return dict(self.counters.labels)

    def snapshot(self) -> CountersSnapshot:
        return self.counters.snapshot()

    def close(self) -> None:
        """Close the ports that the forwarder opened itself."""
        self.outlets.close()


def _heard(tables: Tables, vrf: str) -> frozenset[int]:
    """The protocols that tunnels of a transport VRF take."""
    rows = [row for row in tables.receptions if row.transport_vrf == vrf]
    protocols = {protocol for row in rows for protocol in row.protocols}
    if any(row.protected for row in rows):
        protocols |= {ESP, UDP}
    return frozenset(protocols)
