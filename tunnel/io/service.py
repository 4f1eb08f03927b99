"""The `forwarder` service: opens and closes ports as interfaces and VRFs come and go, and lets the readers run.

It holds no state of its own: what it needs stands in the tables, so a restarted forwarder opens the same ports again and
goes on. The bus only tells it when to look, brings neighbour packets to be sent, and takes facts away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from stack.addr import DEFAULT_VRF
from stack.bus import Message
from stack.events import (
    AdjacencyState,
    Delta,
    Fact,
    Hairpin,
    HostPortRow,
    HostPortState,
    Interface,
    InterfaceKind,
    InterfaceState,
    LabelCounters,
    NeighbourPacket,
    NeighbourUnresolved,
    NhrpReceived,
    RoutesUsed,
    SaMoved,
    SaSoft,
    SaUnknown,
    SendNeighbourPacket,
    SendNhrp,
    Synced,
    Topic,
    TunnelProtected,
    TunnelRow,
    TunnelState,
    VrfState,
)
from stack.net import Port
from stack.registry import ServiceSpec
from stack.service import Context, ServiceShell
from tunnel.io.forwarder import Forwarder
from tunnel.io.readers import Reader
from tunnel.io.rewrite import GRE, MPLS_IN_IP, VNET
from tunnel.io.samples import samples
from tunnel.io.sealing import ESP, UDP
from tunnel.io.show import COMMANDS
from tunnel.io.transport import NAT_PORT
from tunnel.wire import ethernet

__all__ = ["HOST_MTU", "NAT_PORT", "RETRY", "SERVICE", "ForwarderService"]

HOST_MTU = 1500
"""Of the host ports. What is larger than a tunnel carries is answered with fragmentation-needed, as on any path."""

RETRY = 2.0
"""Seconds until a port that could not be opened is tried again."""

PRODUCES: frozenset[Topic[Any, Any] | type[Fact]] = frozenset(
    {HostPortState, Hairpin, NhrpReceived, NeighbourUnresolved, NeighbourPacket, SaSoft, SaMoved, SaUnknown}
)
CONSUMES: frozenset[Topic[Any, Any] | type[Fact]] = frozenset(
    {InterfaceState, VrfState, AdjacencyState, TunnelProtected, TunnelState, SendNeighbourPacket, SendNhrp}
)


@frozen
class _Door:
    """What a port is opened by; another door means another port."""

    kind: str
    device: str
    vlan: int | None
    vrf: str
    mpls: bool
    mac: bytes
    mtu: int


def door_of(interface: Interface) -> _Door | None:
    """The port that an interface needs, or None. A TUN device comes into being by being opened, so that one is opened
    before its interface is up."""
    row = interface.row
    if not row.device or not row.admin_up or row.kind not in (InterfaceKind.ETHERNET, InterfaceKind.TUN):
        return None
    if row.kind is InterfaceKind.TUN:
        return _Door("tun", row.device, None, row.vrf, False, b"", row.mtu)
    if not interface.up:
        return None
    kernels = row.vrf == DEFAULT_VRF and row.vlan is None
    if kernels and not row.mpls:
        return None
    kind = "labelled" if kernels else "frames"
    return _Door(kind, row.device, row.vlan, row.vrf, row.mpls, interface.mac, 0)


class ForwarderService(ServiceShell):
    """The packet path's owner."""

    name = "forwarder"
    produces = PRODUCES
    consumes = CONSUMES

    def __init__(self, _config: Any, context: Context) -> None:
        super().__init__(context)
        network = context.network
        self.forwarder = Forwarder(
            context.tables,
            lambda protocol, remote: network.raw(protocol, remote=remote),
            self.seat.post,
            context.clock.now,
            lambda work: asyncio.get_running_loop().call_soon(work),
        )
        self._open: dict[str, tuple[_Door, Port, Reader]] = {}
        self._doors: dict[str, tuple[_Door, Interface]] = {}
        """What is to be open, by name, and as of which generation of the interfaces that is."""
        self._looked = -1
        self._hosts: dict[str, tuple[int, Port, Reader]] = {}
        self._raw: dict[str, tuple[Port, Reader]] = {}
        self._tunnel_vrfs: dict[str, str] = {}
        """Tunnel -> the VRF that its own packets travel in, if that is not the default one."""
        self._transports: dict[str, list[tuple[Port, Reader]]] = {}
        self._protected = False
        """Some tunnel is or was protected, so ESP must be heard."""
        self._failed: dict[str, str] = {}
        self._tried: set[str] = set()
        self._again: float | None = None
        self._dirty = False
        self._gone: set[str] = set()

    async def begin(self) -> None:
        self.seat.serve(LabelCounters, lambda _: self.forwarder.label_octets())
        self.seat.serve(RoutesUsed, self.forwarder.routes_used)
        self.seat.subscribe(*CONSUMES)
        self._settle()
        self.seat.synced(HostPortState)

    def receive(self, message: Message) -> None:
        if isinstance(message, SendNeighbourPacket):
            self._send_neighbour_packet(message)
        elif isinstance(message, SendNhrp):
            self.forwarder.send_nhrp(message)
        elif isinstance(message, Delta | Synced) and message.topic is not AdjacencyState:
            self._dirty = True
            if message.topic is TunnelProtected and isinstance(message, Delta):
                self._protected = self._protected or any(message.rows.values())
            elif message.topic is TunnelState and isinstance(message, Delta):
                self._note_vrfs(message.rows)
            elif message.topic is InterfaceState and isinstance(message, Delta):
                self._gone.update(name for name, row in message.rows.items() if row is None)

    def _note_vrfs(self, rows: Mapping[str, TunnelRow | None]) -> None:
        for name, row in rows.items():
            if row is not None and row.vrf:
                self._tunnel_vrfs[name] = row.vrf
            else:
                self._tunnel_vrfs.pop(name, None)

    def received(self) -> None:
        if self._dirty:
            self._dirty = False
            self._settle()
            self._forget_gone()
        elif self.forwarder.path.waiting:
            self.forwarder.path.refresh()  # what waits may have its neighbour now; others are served by the next drain

    def _forget_gone(self) -> None:
        """Whoever gets the name of an interface that went (Virtual-Access1, ...) does not inherit its counts."""
        interfaces = self.context.tables.interfaces
        for name in self._gone:
            if interfaces.get(name) is None:
                self.forwarder.counters.forget(name)
        self._gone.clear()

    def wake(self) -> None:
        if self._again is not None and self.now >= self._again:
            self._again = None
            self._settle()
        self.forwarder.path.tick()

    def deadline(self) -> float | None:
        times = [when for when in (self._again, self.forwarder.path.gives_up()) if when is not None]
        return min(times, default=None)

    def close(self) -> None:
        for _, port, reader in (*self._open.values(), *self._hosts.values()):
            _shut(port, reader)
        for port, reader in (*self._raw.values(), *(pair for pairs in self._transports.values() for pair in pairs)):
            _shut(port, reader)
        self.forwarder.close()

    # --- ports ------------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Open what the tables want, close what they no longer want, send what waited for a neighbour."""
        self._tried.clear()
        self._settle_raw()
        self._settle_hosts()
        self._settle_transports()
        self._settle_attachments()
        self._failed = {what: reason for what, reason in self._failed.items() if what in self._tried}
        self.forwarder.path.refresh()
        if self._failed and self._again is None:
            self._again = self.now + RETRY

    def _settle_raw(self) -> None:
        raw, forwarder = self.context.network.raw, self.forwarder
        wanted: list[tuple[str, Callable[[], Port], Callable[[Port], Reader]]] = [
            ("GRE", lambda: raw(GRE), forwarder.gre),
            ("MPLS-in-IP", lambda: raw(MPLS_IN_IP), forwarder.mpls_in_ip),
        ]
        if self._protected or self.context.tables.sad.inbound:
            wanted += [
                ("ESP", lambda: raw(ESP), forwarder.esp),
                ("ESP in UDP", lambda: raw(UDP, port=NAT_PORT), lambda port: forwarder.esp(port, udp=True)),
            ]
        for name, attempt, read in wanted:
            if name not in self._raw:
                port = self._try(f"raw socket for {name}", attempt)
                if port is not None:
                    reader = read(port)
                    self._raw[name] = (port, reader)
                    self._listen(port, reader)

    def _settle_hosts(self) -> None:
        wanted = {vrf.name: vrf.index for vrf in self.context.tables.vrfs}
        for vrf in [vrf for vrf, (index, _, _) in self._hosts.items() if wanted.get(vrf) != index]:
            self.forwarder.remove_host_port(vrf)
            _shut(*self._hosts.pop(vrf)[1:])
            self.seat.publish(HostPortState, {vrf: None})
        for vrf, index in wanted.items():
            if vrf not in self._hosts:
                what = f"host port of VRF {vrf or 'default'}"
                port = self._try(what, lambda v=vrf, i=index: self.context.network.host_port(v, i, HOST_MTU))
                if port is not None:
                    reader = self.forwarder.add_host_port(vrf, port)
                    self._hosts[vrf] = (index, port, reader)
                    self._listen(port, reader)
                    self.seat.publish(HostPortState, {vrf: HostPortRow(port.name, port.mtu)})

    def _settle_transports(self) -> None:
        wanted = set(self._tunnel_vrfs.values())
        for vrf in self._transports.keys() - wanted:
            for port, reader in self._transports.pop(vrf):
                _shut(port, reader)
            self.forwarder.remove_transport(vrf)
        for vrf in wanted - self._transports.keys():
            self._transports[vrf] = self.forwarder.add_transport(vrf)
            for port, reader in self._transports[vrf]:
                self._listen(port, reader)

    def _settle_attachments(self) -> None:
        self._look()
        wanted = self._doors
        for name in [
            name for name, (door, _, _) in self._open.items() if name not in wanted or wanted[name][0] != door
        ]:
            self.forwarder.remove_attachment(name)
            _shut(*self._open.pop(name)[1:])
        for name, (door, interface) in wanted.items():
            if name not in self._open:
                port = self._try(f"port of {name}", lambda d=door: self._open_door(d))
                if port is not None:
                    reader = self.forwarder.add_attachment(interface, port)
                    self._open[name] = (door, port, reader)
                    self._listen(port, reader)

    def _look(self) -> None:
        """Which interfaces have a door now. A hub has thousands, and few that do."""
        interfaces = self.context.tables.interfaces
        changed = interfaces.changed_since(self._looked)
        self._looked = interfaces.generation
        for name in {*interfaces.rows, *self._doors} if changed is None else changed:
            interface = interfaces.get(name)
            door = door_of(interface) if interface is not None else None
            if interface is not None and door is not None:
                self._doors[name] = door, interface
            else:
                self._doors.pop(name, None)

    def _open_door(self, door: _Door) -> Port:
        network = self.context.network
        if door.kind == "tun":
            return network.tun(door.device, door.mtu)
        return (
            network.labelled_frames(door.device) if door.kind == "labelled" else network.frames(door.device, door.vlan)
        )

    def _try(self, what: str, attempt: Any) -> Port | None:
        """The port; None if the host refuses it, which is logged once and tried again later."""
        self._tried.add(what)
        try:
            port: Port = attempt()
        except OSError as error:
            reason = str(error)
            if self._failed.get(what) != reason:
                self.log.warning("port not opened", port=what, reason=reason)
            self._failed[what] = reason
            return None
        self._failed.pop(what, None)
        return port

    def _listen(self, port: Port, reader: Reader) -> None:
        drain = self.guarded(reader.drain)
        loop = asyncio.get_running_loop()

        def listen() -> None:
            if not reader.closed:
                port.listen(drain)

        def again() -> None:
            """The port has reported an error, which may have stopped the loop's reader."""
            loop.call_soon(listen)

        reader.again = again
        listen()

    # --- neighbours -------------------------------------------------------------------------------------------------------

    def _send_neighbour_packet(self, fact: SendNeighbourPacket) -> None:
        interface = self.context.tables.interfaces.get(fact.interface)
        held = self._open.get(fact.interface)
        if interface is None or held is None:
            return
        _, port, _ = held
        head = ethernet.head(fact.destination, interface.mac, interface.row.vlan)
        frame = VNET[: port.headroom] + head + fact.ethertype.to_bytes(2) + fact.octets
        try:
            port.send(frame)
        except OSError as error:
            self.forwarder.counters.error(port.name, error)


def _shut(port: Port, reader: Reader) -> None:
    port.listen(None)
    reader.close()
    port.close()


SERVICE = ServiceSpec(
    name="forwarder",
    factory=ForwarderService,
    produces=PRODUCES,
    consumes=CONSUMES,
    optional=frozenset({SendNeighbourPacket, SendNhrp, AdjacencyState, TunnelProtected, TunnelState}),
    serves=frozenset({LabelCounters, RoutesUsed}),
    commands=COMMANDS,
    samples=lambda service: samples(service.forwarder.snapshot()),
    rank=20,
)
