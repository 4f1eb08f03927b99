"""The tunnel engine: sans-IO. It owns links, endpoints, adjacencies and receptions; everything it is told arrives as rows
of the bus, as a list of the host's devices, or as a packet of ARP or neighbour discovery.

Inputs only mark what they touch; `settle` then recomputes just that, once a turn, and answers with what changed. A tunnel
that comes or goes touches itself alone, for there may be thousands; a new configuration, device or host port touches all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

from stack.addr import DEFAULT_VRF, Prefix
from stack.events import (
    L3VPN_TUNNEL,
    AccessWanted,
    AddressOffered,
    AddressRow,
    AdjacencyKey,
    AdjacencyRow,
    AdjacencyState,
    AdjacencyWanted,
    BindingOffered,
    Delta,
    EndpointOffered,
    Fact,
    HostPortState,
    Interface,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    InterfaceState,
    LabelWanted,
    LinkRow,
    LinkState,
    NeighbourPacket,
    NeighbourUnresolved,
    NextHopKey,
    NextHopState,
    NextHopWanted,
    ProfileRow,
    ProfileState,
    Route,
    RouteOffered,
    RouteSelected,
    SaKey,
    SaRow,
    SaState,
    SaWanted,
    SourceOffered,
    Synced,
    Topic,
    TunnelProtected,
    TunnelState,
    Via,
    VrfState,
)
from stack.nettypes import Device, HostRoute
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.nexthop import NextHopTable
from stack.tables.owned import OwnedRows
from stack.tables.reception import Reception
from stack.wire import WireError
from tunnel.config import TunnelConfig, TunnelInterface
from tunnel.engine import adjacencies, bindings, links, mirror
from tunnel.engine.endpoints import MAX_ENDPOINTS, Endpoint, EndpointDatabase
from tunnel.engine.ledger import Complaints, Published, Touched, drop_from
from tunnel.engine.neighbours import Neighbour, Neighbours
from tunnel.engine.outputs import (
    DropAdjacency,
    DropReception,
    Log,
    Mirror,
    Output,
    Post,
    Publish,
    PutAdjacency,
    PutReception,
)
from tunnel.engine.profile import Provision, provision
from tunnel.engine.security import Ends, ends_of, has_one
from tunnel.engine.tunnels import End, Tunnels, end_of
from tunnel.wire import arp, nd

__all__ = ["KERNEL_DISTANCE", "OWNER", "Engine", "Snapshot"]

OWNER = "tunnel"
"""This engine's name at the bus."""

KERNEL_DISTANCE = 254
"""Administrative distance of routes that the host's kernel had before us: any other route wins."""

_NEAR = (Prefix.parse("fe80::/10"), Prefix.parse("ff00::/8"), Prefix.parse("224.0.0.0/4"))
"""Routes that the kernel has on every device that is up: link-local and multicast. They lead nowhere."""

_ON_DEVICES = frozenset({InterfaceKind.ETHERNET, InterfaceKind.TUN})


@frozen
class Snapshot:
    """What `show` prints."""

    profiles: Mapping[str, Provision]
    endpoints: tuple[Endpoint, ...]
    adjacencies: Mapping[AdjacencyKey, Adjacency]
    receptions: Mapping[str, Reception]
    neighbours: tuple[Neighbour, ...]
    refused: Mapping[str, int]
    tunnels: Mapping[str, TunnelInterface] = field(factory=dict)
    security: Mapping[SaKey, SaRow] = field(factory=dict)
    refused_access: Mapping[str, str] = field(factory=dict)


@define
class Engine:
    """`entropy(n)` gives n random octets; `nexthops` is routing's table, read-only."""

    config: TunnelConfig
    entropy: Callable[[int], bytes]
    nexthops: NextHopTable
    interfaces: dict[str, Interface] = field(factory=dict)
    rows: OwnedRows = field(factory=OwnedRows)
    devices: dict[str, Device] = field(factory=dict)
    endpoints: EndpointDatabase = field(factory=EndpointDatabase)
    provisions: dict[str, Provision] = field(factory=dict)
    adjacencies: dict[AdjacencyKey, Adjacency] = field(factory=dict)
    receptions: dict[str, Reception] = field(factory=dict)
    refused: dict[str, int] = field(factory=dict)
    neighbours: Neighbours = field(init=False)
    _copies: mirror.RouteCopies = field(init=False)
    tunnels: Tunnels = field(factory=Tunnels)
    _local: mirror.Local = field(factory=mirror.Local)
    _mirrored: mirror.HostChange = field(factory=mirror.HostChange)
    _published: dict[Topic[Any, Any], Published] = field(factory=dict)
    _kernel_routes: dict[Prefix, Route] = field(factory=dict)
    _foreign: tuple[HostRoute, ...] = ()
    _kernels: dict[str, Any] | None = None
    _adopted: dict[str, InterfaceRow] = field(factory=dict)
    _made: dict[str, InterfaceRow] = field(factory=dict)
    """The tunnels of the L3VPN profile, the dummy included."""
    _mirrored_at: int = -1
    _on: dict[str, set[AdjacencyKey]] = field(factory=dict)
    """Interface -> the adjacencies on it."""
    _ways: dict[AdjacencyKey, str] = field(factory=dict)
    _by_way: dict[str, set[AdjacencyKey]] = field(factory=dict)
    """Adjacency -> the interface by which its outer packets leave, and back."""
    _sas: dict[str, set[SaKey]] = field(factory=dict)
    """Tunnel -> the SAs that we want for it."""
    _own: dict[bytes, int] = field(factory=dict)
    """Addresses of the default VRF, and how many interfaces have each."""
    _dirty: Touched = field(factory=Touched)
    _devices_told: bool = False
    _complete: bool = False
    _told: dict[str, ProfileRow] = field(factory=dict)
    _refused_access: Complaints = field(factory=lambda: Complaints("no virtual-access interface", "name"))
    _loops: Complaints = field(factory=lambda: Complaints(links.RECURSIVE, "tunnel"))

    def __attrs_post_init__(self) -> None:
        self.neighbours = Neighbours(self.entropy)
        self._copies = mirror.RouteCopies(self.nexthops)
        self.tunnels.configure(self.config.tunnels)

    # --- inputs -------------------------------------------------------------------------------------------------------

    def receive(self, message: Delta | Synced | Fact, now: float) -> None:
        """A message of the bus, in any order."""
        match message:
            case Delta():
                self.rows.apply(message)
                handler = _HANDLERS.get(message.topic)
                if handler is not None:
                    handler(self, message, now)
            case NeighbourUnresolved(interface, address):
                self.neighbours.find(AdjacencyKey(interface, address), now)
            case NeighbourPacket():
                self._neighbour_packet(message, now)
            case Synced(topic) if topic is InterfaceState:
                self._complete = self._dirty.profiles = True
            case _:
                pass  # another Synced: rows that went have been withdrawn already

    def adopt(self, row: Adjacency) -> None:
        """An adjacency that an earlier incarnation made; before any input. Its neighbour is reached as before, at once."""
        if row.kind in (AdjacencyKind.ETHERNET, AdjacencyKind.HOST) and row.rewrite:
            self.neighbours.remember(row.key, row.rewrite[:6])

    def reconfigure(self, config: TunnelConfig) -> None:
        self.config = config
        self.tunnels.configure(config.tunnels)
        self._dirty.everything = True

    def devices_changed(self, devices: Iterable[Device]) -> None:
        """The host's devices, all of them."""
        new = {device.name: device for device in devices}
        if new != self.devices:
            self.devices = new
            self._dirty.everything = True

    def kernel_routes(self, routes: Iterable[HostRoute]) -> list[Output]:
        """The routes of the host's default table that are not ours: offered to routing, as the last resort."""
        self._foreign = tuple(route for route in routes if not any(near.contains(route.prefix) for near in _NEAR))
        return self.kernel_routes_again()

    def kernel_routes_again(self) -> list[Output]:
        """`kernel_routes` of the same routes, after interfaces changed."""
        routes = self._foreign
        self._adopt_devices({route.device for route in routes})
        names = {i.row.device: i.name for i in self.interfaces.values() if mirror.is_kernels(i) and i.row.device}
        found: dict[Prefix, Route] = {}
        for route in routes:
            interface = names.get(route.device)
            if interface is not None and not self._connected(interface, route):
                via = Via(route.via, interface)
                known = found.get(route.prefix)
                others = () if known is None else tuple(other for other in known.vias if other != via)
                found[route.prefix] = Route(KERNEL_DISTANCE, (*others, via), "kernel")
        rows: dict[Prefix, Route | None] = {prefix: None for prefix in self._kernel_routes if prefix not in found}
        rows.update((prefix, row) for prefix, row in found.items() if self._kernel_routes.get(prefix) != row)
        self._kernel_routes = found
        return [Publish(RouteOffered, rows, DEFAULT_VRF)] if rows else []

    def take_devices_told(self) -> bool:
        """Whether interfaces that lie on the host's devices were told since the last call."""
        told, self._devices_told = self._devices_told, False
        return told

    def kernels_changed(self) -> bool:
        """Whether interfaces whose device is the kernel's changed since the last call; of the first call, yes."""
        kernels = {
            name: (i.row.device, i.up, i.addresses) for name, i in self.interfaces.items() if mirror.is_kernels(i)
        }
        changed, self._kernels = kernels != self._kernels, kernels
        return changed

    def _connected(self, interface: str, route: HostRoute) -> bool:
        """Whether the host has the route because of an address that we gave the interface."""
        return not route.via and any(map(route.prefix.covers, self.interfaces[interface].addresses))

    def _adopt_devices(self, used: set[str]) -> None:
        """Devices that the host routes by and the configuration says nothing of (an uplink that FRR or the
        distribution takes care of) become interfaces of the default VRF, called as the host calls them: else the way to
        the other PEs could not be seen. They stay the host's: nothing is put on them."""
        owners = self.rows.by_owner(InterfaceOffered)
        offered = [row for owner, rows in owners.items() if owner != OWNER for row in rows.values()]
        taken = {row.device for row in offered} | {row.name for row in offered}
        taken |= {row.device for row in self.rows.merged(HostPortState).values()}
        adopted = {
            name: InterfaceRow(name, InterfaceKind.ETHERNET, mtu=device.mtu, device=name, description="the host's own")
            for name, device in self.devices.items()
            if name in used and name not in taken and device.mac
        }
        self._dirty.offers |= {*self._adopted, *adopted}
        self._adopted = adopted

    def _interfaces_changed(self, delta: Delta, now: float) -> None:
        dirty = self._dirty
        sources = {*self.rows.merged(SourceOffered), *(profile.source for profile in self.config.profiles.values())}
        for name, row in delta.rows.items():
            old = self.interfaces.get(name)
            if row is None:
                self.interfaces.pop(name, None)
            else:
                self.interfaces[name] = row
            self._count_own(old, row)
            dirty.names.add(name)
            dirty.interfaces.add(name)
            dirty.names |= self.tunnels.from_source(name)
            dirty.clones |= self.tunnels.of_template(name)
            if old is None or row is None or old.mtu != row.mtu:
                dirty.keys |= self._by_way.get(name, set())
            if name in sources:
                dirty.profiles = True
            kinds = {one.row.kind for one in (old, row) if one is not None}
            self._devices_told = self._devices_told or not kinds.isdisjoint(_ON_DEVICES)
            self.neighbours.set_link(name, links.resolving(row), now)
        dirty.bindings = True

    def _count_own(self, old: Interface | None, new: Interface | None) -> None:
        for interface, step in ((new, 1), (old, -1)):
            for address in interface.addresses if interface is not None and interface.vrf == DEFAULT_VRF else ():
                count = self._own.get(address, 0) + step
                if count:
                    self._own[address] = count
                else:
                    del self._own[address]

    def _interfaces_offered(self, delta: Delta, _now: float) -> None:
        if delta.owner != OWNER:
            self._dirty.profiles = True  # the automatic tunnel may have to take another name
            self._dirty.clones.update(name for name in delta.rows if name in self.tunnels.wanted())

    def _access_wanted(self, delta: Delta, _now: float) -> None:
        for name, row in delta.rows.items():
            self.tunnels.want(name, row)
            self._dirty.clones.add(name)

    def _sas_changed(self, delta: Delta, _now: float) -> None:
        for key in delta.rows:
            name, remote = key
            if remote:
                claimed = L3VPN_TUNNEL if name == self.l3vpn_tunnel() else name
                self._dirty.keys |= {AdjacencyKey(name, overlay) for overlay in self.endpoints.behind(claimed, remote)}
            else:
                self._dirty.keys.add(AdjacencyKey(name))
                self._dirty.keys |= self._on.get(name, set())

    def _endpoints_offered(self, delta: Delta, now: float) -> None:
        for (tunnel, overlay), row in delta.rows.items():
            name, before = self._tunnel_name(tunnel), self.endpoints.transport(tunnel, overlay)
            if before is not None:
                self._dirty.sas.add(SaKey(name, before))  # who claims it, and needs it, is another now
            if not self.endpoints.claim(delta.owner, tunnel, overlay, row.transport if row else None, now):
                continue
            self._dirty.receptions.add(name)
            self._dirty.keys.add(AdjacencyKey(name, overlay))
            for transport in (before, self.endpoints.transport(tunnel, overlay)):
                if transport is not None:
                    self._dirty.ends.add((self.tunnels.vrf(name), transport))
                    self._dirty.sas.add(SaKey(name, transport))

    def _adjacencies_wanted(self, delta: Delta, now: float) -> None:
        for key in delta.rows:
            if self.rows.holders(AdjacencyWanted, key):
                self.neighbours.want(key, now)
            else:
                self.neighbours.unwant(key)
            self._dirty.keys.add(key)

    def _next_hops_changed(self, delta: Delta, _now: float) -> None:
        for key in delta.rows:
            for tunnel, overlay in self._users(key.address):
                self._dirty.keys.add(AdjacencyKey(tunnel, overlay))
            self._dirty.names |= self.tunnels.to((key.vrf, key.address))
        self._dirty.bindings = True

    def _users(self, transport: bytes) -> Iterable[tuple[str, bytes]]:
        for endpoint in self.endpoints.at(transport):
            yield self._tunnel_name(endpoint[0]), endpoint[1]

    def _profiles_touched(self, _delta: Delta, _now: float) -> None:
        self._dirty.profiles = True

    def _host_ports_changed(self, _delta: Delta, _now: float) -> None:
        self._dirty.host_ports = True

    def _routes_selected(self, delta: Delta, _now: float) -> None:
        if delta.table == DEFAULT_VRF:
            for prefix, row in delta.rows.items():
                self._copies.select(prefix, row)

    def _neighbour_packet(self, fact: NeighbourPacket, now: float) -> None:
        try:
            if fact.arp:
                self.neighbours.arp_packet(fact.interface, arp.decode(fact.octets), now)
            else:
                self.neighbours.nd_packet(fact.interface, nd.decode(fact.octets), now)
        except WireError as error:
            self.refused[error.field] = self.refused.get(error.field, 0) + 1

    # --- outputs ------------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> list[Output]:
        """Recompute what the inputs touched; what changed."""
        if self._dirty.everything:
            self._touch_everything()
        outputs: list[Output] = []
        outputs += self._settle_clones(now)
        if self._dirty.profiles:
            outputs += self._provision()
        outputs += self._settle_offers()
        outputs += self._settle_links(now)
        outputs += self._settle_adjacencies(now)
        outputs += self._settle_receptions()
        outputs += self._settle_ends()
        outputs += self._wants()
        outputs += self._bindings()
        outputs += self._settle_mirror()
        outputs += map(Post, self.neighbours.take_packets())
        self._dirty = Touched.nothing()
        return outputs

    def _touch_everything(self) -> None:
        dirty = self._dirty
        dirty.profiles = dirty.bindings = dirty.host_ports = True
        dirty.clones |= {*self.tunnels.wanted(), *self.tunnels.clones}
        dirty.names |= {*self.interfaces, *self._topic(LinkState).rows, *self.receptions, *self.tunnels.names()}
        dirty.names |= {*self._on, *self._topic(TunnelState).rows, *self._sas, self.l3vpn_tunnel()}
        dirty.keys |= {*self.adjacencies, *self.neighbours.wanted, *self._topic(AdjacencyState).rows}
        dirty.keys |= {AdjacencyKey(self._tunnel_name(tunnel), overlay) for tunnel, overlay in self.endpoints.claimed()}
        dirty.offers |= {*self._topic(InterfaceOffered).rows, *self._adopted, *self._made}
        dirty.interfaces |= {*self.interfaces, *self._local.names()}
        for name in self.endpoints.tunnels():
            dirty.ends |= self._ends_behind(name)
        dirty.ends |= {(DEFAULT_VRF, address) for address in self._copies.destinations()}
        dirty.ends |= {end_of(tunnel) for tunnel in self.config.tunnels.values()}
        dirty.ends |= {(key.vrf, key.address) for key in self._topic(NextHopWanted).rows}

    def wake(self, now: float) -> list[Output]:
        self.neighbours.wake(now)
        return self.settle(now)

    def deadline(self) -> float | None:
        times = (self.neighbours.deadline(), self._loops.deadline(), self._refused_access.deadline())
        return min((time for time in times if time is not None), default=None)

    def snapshot(self) -> Snapshot:
        names = {L3VPN_TUNNEL: self.l3vpn_tunnel()}
        return Snapshot(
            dict(self.provisions),
            self.endpoints.snapshot(names),
            dict(self.adjacencies),
            dict(self.receptions),
            self.neighbours.snapshot(),
            {**self.refused, **self.neighbours.refused, **self._refused_claims()},
            {name: tunnel for name in self.tunnels.names() if (tunnel := self.tunnels.get(name)) and self._runs(name)},
            dict(self.rows.merged(SaState)),
            dict(self.tunnels.refused),
        )

    def _refused_claims(self) -> dict[str, int]:
        refused = self.endpoints.refused
        return {f"more than {MAX_ENDPOINTS} endpoints": refused} if refused else {}

    def _runs(self, name: str) -> bool:
        """A template never does."""
        interface = self.interfaces.get(name)
        return interface is None or interface.row.kind is not InterfaceKind.TEMPLATE

    def l3vpn_tunnel(self) -> str:
        """The name of the one mGRE tunnel, or nothing."""
        return next((p.row.tunnel for p in self.provisions.values() if p.row.tunnel), "")

    def _l3vpn(self) -> Provision | None:
        return next((p for p in self.provisions.values() if p.row.tunnel), None)

    def _tunnel_name(self, claimed: str) -> str:
        return self.l3vpn_tunnel() if claimed == L3VPN_TUNNEL else claimed

    def _topic(self, topic: Topic[Any, Any]) -> Published:
        return self._published.setdefault(topic, Published(topic))

    def _settle_clones(self, now: float) -> list[Output]:
        """Bring clones of templates into line; a change of one is one of its interface too."""
        for name in self._dirty.clones:
            self._make_clone(name)
        while name := self.tunnels.next_waiting():
            self._make_clone(name)
        return self._refused_access.take(now) if self._complete else []

    def _make_clone(self, name: str) -> None:
        owners = self.rows.by_owner(InterfaceOffered)
        taken = any(name in rows for owner, rows in owners.items() if owner != OWNER)
        old = self.tunnels.clones.get(name)
        new = self.tunnels.make(name, self.interfaces, taken)
        self._refused_access.note(name, self.tunnels.refused.get(name, ""))
        if old != new:
            self._dirty.offers.add(name)
            self._dirty.names.add(name)
            for one in (old, new):
                if one is not None:
                    self._dirty.ends |= {end_of(one.tunnel), *self._ends_behind(name, one.tunnel.vrf)}

    def _provision(self) -> list[Output]:
        sources = self.rows.merged(SourceOffered)
        vrfs = self.rows.merged(VrfState) if self.config.profiles else {}
        taken = self._taken_names() if self.config.profiles else set()
        new = provision(self.config, self.interfaces, sources, vrfs, taken)
        outputs: list[Output] = []
        if new != self.provisions:
            made = {row.name: row for p in new.values() for row in p.interfaces}
            touched = {*self._made, *made}
            self._dirty.offers |= touched
            self._dirty.names |= touched
            self.provisions, self._made = new, made
        if self._complete:  # before, interfaces are merely not known yet
            outputs += [
                Log("l3vpn profile", {"profile": name, "usable": p.row.usable, "reason": p.row.reason})
                for name, p in new.items()
                if self._told.get(name) != p.row
            ]
            self._told = {name: p.row for name, p in new.items()}
        return outputs

    def _settle_offers(self) -> list[Output]:
        outputs = self._topic(InterfaceOffered).refresh((name, self._offered(name)) for name in self._dirty.offers)
        if self._dirty.profiles:
            outputs += self._topic(ProfileState).replace({name: p.row for name, p in self.provisions.items()})
        if self._dirty.everything:
            outputs += self._topic(AddressOffered).replace(dict(self._link_locals(self.interfaces)))
        elif self._dirty.interfaces:
            wanted = dict(self._link_locals(self._dirty.interfaces))
            held = [key for key in self._topic(AddressOffered).rows if key[0] in self._dirty.interfaces]
            outputs += self._topic(AddressOffered).refresh(
                (key, wanted.get(key)) for key in {**dict.fromkeys(held), **wanted}
            )
        return outputs

    def _offered(self, name: str) -> InterfaceRow | None:
        """What we say of an interface, if it is one of ours."""
        clone = self.tunnels.clones.get(name)
        return self._made.get(name) or (clone.interface if clone is not None else self._adopted.get(name))

    def _taken_names(self) -> set[str]:
        """What the automatic tunnels must not be called: interfaces that others offer. (Those of InterfaceState may be our
        own of before a restart or a change of configuration.)"""
        offered = self.rows.by_owner(InterfaceOffered)
        return {*self.config.tunnels, *(name for owner, rows in offered.items() if owner != OWNER for name in rows)}

    def _link_locals(self, names: Iterable[str]) -> Iterable[tuple[tuple[str, bytes], AddressRow]]:
        """Every Ethernet attachment of ours that speaks IPv6 has a link-local address (RFC 4291 2.8)."""
        for name in names:
            interface = self.interfaces.get(name)
            if interface is None or not links.is_ours(interface):
                continue
            device = self.devices.get(interface.row.device)
            speaks = any(len(a) == 16 and row.origin != "link-local" for a, row in interface.addresses.items())
            if device and len(device.mac) == 6 and speaks:
                yield (name, links.link_local(device.mac)), AddressRow(64, origin="link-local")

    def _settle_links(self, now: float) -> list[Output]:
        dummy = {row.name for p in self.provisions.values() for row in p.interfaces if row.internal}
        changed: dict[str, LinkRow | None] = {}
        for name in self._dirty.names:
            interface = self.interfaces.get(name)
            row = None if interface is None else self._link(interface, dummy)
            self._topic(LinkState).update(name, row, changed)
        for name, row in changed.items():
            loops = row is not None and row.reason.startswith(links.RECURSIVE)
            self._loops.note(name, row.reason if row is not None and loops else "")
        outputs = self._loops.take(now)
        return [*outputs, Publish(LinkState, changed)] if changed else outputs

    def _link(self, interface: Interface, dummies: set[str]) -> LinkRow | None:
        name = interface.name
        if interface.row.kind is not InterfaceKind.TUNNEL:
            return links.device_link(interface, self.devices)
        if name in dummies:
            return LinkRow(up=False, mtu=interface.row.mtu, reason="dummy tunnel: it never forwards")
        l3vpn = self._l3vpn()
        if l3vpn is not None and l3vpn.row.tunnel == name:
            return LinkRow(l3vpn.row.usable, interface.row.mtu, reason=l3vpn.row.reason)
        tunnel = self.tunnels.get(name)
        if tunnel is None:
            return LinkRow(up=False, mtu=interface.row.mtu, reason="no tunnel source and destination")
        return links.tunnel_link(tunnel, interface, self.interfaces, self._next_hop(end_of(tunnel)))

    def _next_hop(self, end: End) -> Any:
        return self.rows.get(NextHopState, NextHopKey(*end)) if end[1] else None

    def _ends_behind(self, name: str, vrf: str | None = None) -> set[End]:
        vrf = self.tunnels.vrf(name) if vrf is None else vrf
        return {(vrf, transport) for transport in self.endpoints.transports(name)}

    def _keys_on(self, name: str) -> Iterable[AdjacencyKey]:
        """Every neighbour that there may be on an interface."""
        interface = self.interfaces.get(name)
        whole = interface is not None and (interface.row.kind is InterfaceKind.TUN or mirror.is_kernels(interface))
        if whole or name in self.tunnels:
            yield AdjacencyKey(name)
        yield from self._on.get(name, ())
        yield from self.neighbours.wanted_on(name)
        for claimed in (name, *((L3VPN_TUNNEL,) if name and name == self.l3vpn_tunnel() else ())):
            for overlay in self.endpoints.overlays(claimed):
                yield AdjacencyKey(name, overlay)

    def _settle_adjacencies(self, now: float) -> list[Output]:
        keys = self._dirty.keys | self.neighbours.take_changed()
        for name in self._dirty.names:
            keys.update(self._keys_on(name))
        outputs: list[Output] = []
        states: dict[AdjacencyKey, AdjacencyRow | None] = {}
        for key in keys:
            new = self._adjacency(key, now)
            self._note_way(key, new)
            old = self.adjacencies.get(key)
            if new != old:
                if new is None:
                    del self.adjacencies[key]
                    drop_from(self._on, key.interface, key)
                    outputs.append(DropAdjacency(key))
                else:
                    self.adjacencies[key] = new
                    self._on.setdefault(key.interface, set()).add(key)
                    outputs.append(PutAdjacency(new))
            wanted = key in self.neighbours.wanted
            self._topic(AdjacencyState).update(key, adjacencies.state_of(new, key, wanted=wanted), states)
        if states:
            outputs.append(Publish(AdjacencyState, states))
        return outputs

    def _note_way(self, key: AdjacencyKey, adjacency: Adjacency | None) -> None:
        """Remember by which interface a tunnel's outer packets leave: its MTU is that of the adjacency."""
        end = (adjacency.transport_vrf, adjacency.destination) if adjacency is not None else (DEFAULT_VRF, b"")
        way = self._next_hop(end)
        new, old = way.interface if way is not None else "", self._ways.get(key, "")
        if new == old:
            return
        if old:
            del self._ways[key]
            drop_from(self._by_way, old, key)
        if new:
            self._ways[key] = new
            self._by_way.setdefault(new, set()).add(key)

    def _adjacency(self, key: AdjacencyKey, now: float) -> Adjacency | None:
        interface = self.interfaces.get(key.interface)
        if interface is None:
            return None
        old = self.adjacencies.get(key)
        created = old.created if old else now
        if interface.row.kind is not InterfaceKind.TUNNEL:
            return adjacencies.attached(key, interface, self.neighbours.get(key), created)
        l3vpn = self._l3vpn()
        if l3vpn is not None and l3vpn.row.tunnel == key.interface:
            transport = self.endpoints.transport(L3VPN_TUNNEL, key.address)
            if transport is None:
                return None
            created = self.endpoints.created(L3VPN_TUNNEL, key.address)
            way, sa = self._next_hop((DEFAULT_VRF, transport)), self.rows.get(SaState, SaKey(key.interface, transport))
            return adjacencies.l3vpn(key, l3vpn, transport, way, self.interfaces, created, sa)
        tunnel = self.tunnels.get(key.interface)
        if tunnel is None:
            return None
        destination = tunnel.destination or self.endpoints.transport(key.interface, key.address)
        if not destination or (tunnel.destination and key.address):
            return None
        sa_key = None
        if interface.row.protection:
            sa_key = SaKey(key.interface, b"" if has_one(tunnel, self.tunnels) else destination)
        state = self.rows.get(SaState, sa_key) if sa_key is not None else None
        way = self._next_hop((tunnel.vrf, destination))
        return adjacencies.tunnel(key, tunnel, interface, destination, way, self.interfaces, created, sa_key, state)

    def _settle_receptions(self) -> list[Output]:
        outputs: list[Output] = []
        for name in self._dirty.names | self._dirty.receptions:
            new = self._reception(name)
            if new == self.receptions.get(name):
                continue
            if new is None:
                del self.receptions[name]
                outputs.append(DropReception(name))
            else:
                self.receptions[name] = new
                outputs.append(PutReception(new))
        return outputs

    def _reception(self, name: str) -> Reception | None:
        l3vpn = self._l3vpn()
        if l3vpn is not None and name and l3vpn.row.tunnel == name:
            return adjacencies.l3vpn_reception(l3vpn, self.endpoints.transports(L3VPN_TUNNEL))
        tunnel, interface = self.tunnels.get(name), self.interfaces.get(name)
        if tunnel is None or interface is None:
            return None
        return adjacencies.tunnel_reception(tunnel, interface, self.interfaces, self.endpoints.transports(name))

    def _ends(self, name: str) -> Ends | None:
        return ends_of(name, self._l3vpn(), self.tunnels, self.interfaces) if name else None

    def _settle_ends(self) -> list[Output]:
        """What IKE and NHRP are told: the ends of tunnels, which are protected, and the SAs that we need for those."""
        rows: dict[str, Any] = {}
        protected: dict[str, Any] = {}
        keys: set[SaKey] = set(self._dirty.sas)
        for name in self._dirty.names:
            found = self._ends(name)
            rows[name] = found.row() if found is not None else None
            protected[name] = found.protection() if found is not None else None
            keys.add(SaKey(name))
            keys |= self._sas.get(name, set())
            if found is not None and found.profile and not found.remote:
                claimed = L3VPN_TUNNEL if name == self.l3vpn_tunnel() else name
                keys |= {SaKey(name, transport) for transport in self.endpoints.transports(claimed)}
        changed: dict[SaKey, Any] = {}
        for key in keys:
            request = self._sa_request(key)
            self._topic(SaWanted).update(key, request, changed)
            if request is not None:
                self._sas.setdefault(key.interface, set()).add(key)
            else:
                drop_from(self._sas, key.interface, key)
        outputs = self._topic(TunnelProtected).refresh(protected.items())
        outputs += self._topic(TunnelState).refresh(rows.items())
        return [*outputs, Publish(SaWanted, changed)] if changed else outputs

    def _sa_request(self, key: SaKey) -> Any:
        found = self._ends(key.interface)
        if found is None or (key.remote and not self._is_needed(key)):
            return None
        return found.request(key)

    def _is_needed(self, key: SaKey) -> bool:
        """Whether somebody needs the way to an endpoint of a multipoint tunnel (see EndpointRow)."""
        claimed = L3VPN_TUNNEL if key.interface == self.l3vpn_tunnel() else key.interface
        owners = self.rows.by_owner(EndpointOffered).values()
        rows = (
            held.get((claimed, overlay)) for overlay in self.endpoints.behind(claimed, key.remote) for held in owners
        )
        return any(row is not None and row.wanted and row.transport == key.remote for row in rows)

    def _wants(self) -> list[Output]:
        """Transport addresses whose way we must know, and the next hops of the routes that the host gets a copy of: a next
        hop may come to leave by another interface while its routes stay as they are."""
        topic, moved = self._topic(NextHopWanted), self._copies.take_moved()
        if not self._dirty.everything:
            keys = moved | {NextHopKey(*end) for end in self._dirty.ends if end[1]}
            return topic.refresh((key, self._hop_wanted(key)) for key in keys)
        wanted = {NextHopKey(*end): True for end in self._dirty.ends if self._is_end(end)}
        wanted.update((key, True) for key in bindings.next_hops(self.config.bindings))
        wanted.update((key, True) for key in self._copies.next_hops())
        return topic.replace(wanted)

    def _hop_wanted(self, key: NextHopKey) -> bool | None:
        end = (key.vrf, key.address)
        return (
            (key == NextHopKey(*end) and self._is_end(end)) or self._bound(key) or self._copies.depends_on(key) or None
        )

    def _bound(self, key: NextHopKey) -> bool:
        return key.labelled and any(key == other for other in bindings.next_hops(self.config.bindings))

    def _is_end(self, end: End) -> bool:
        vrf, address = end
        return self._is_own_end(end) or (vrf == DEFAULT_VRF and address in self.endpoints.places(L3VPN_TUNNEL))

    def _is_own_end(self, end: End) -> bool:
        """Whether it is the far end of a tunnel. The L3VPN tunnel's are not meant: it is in a VRF of its own, so no route of
        the default VRF leaves by it, and to be reached by another tunnel's address is no loop."""
        vrf, address = end
        if not address:
            return False
        behind = self.endpoints.tunnels_at(address)
        return bool(self.tunnels.to(end)) or any(t in self.tunnels and self.tunnels.vrf(t) == vrf for t in behind)

    def _bindings(self) -> list[Output]:
        if not self._dirty.bindings or not (self.config.bindings or self._dirty.everything):
            return []
        hops = self.rows.merged(NextHopState)
        return [
            *self._topic(BindingOffered).replace(bindings.offered(self.config.bindings)),
            *self._topic(LabelWanted).replace(bindings.wanted(self.config.bindings, self._own, hops)),
        ]

    def _settle_mirror(self) -> list[Output]:
        dirty, ports = self._dirty, self.rows.merged(HostPortState)
        for vrf, address in dirty.ends:
            if vrf == DEFAULT_VRF:
                self._copies.keep_from(address, far_end=self._is_own_end((vrf, address)))
        names = {*self.interfaces, *self._local.names()} if dirty.host_ports else dirty.interfaces
        for name in names:
            self._local.look(name, self.interfaces.get(name), ports)
        hops = None if dirty.everything else self.nexthops.changed_since(self._mirrored_at)
        self._copies.look(self.interfaces, ports, names, hops)
        self._mirrored_at = self.nexthops.generation
        routes, local = self._copies.settle(self.interfaces), self._local.settle()
        if local is self._mirrored and not routes:
            return []
        self._mirrored = local
        return [Mirror(mirror.HostChange(local.addresses, local.drops, routes))]

    @property
    def host_state(self) -> mirror.HostState:
        """All that the host's own tables must hold."""
        local = self._mirrored
        return mirror.HostState(local.addresses, frozenset(self._copies.routes.values()), local.drops)


_HANDLERS: dict[Topic[Any, Any], Callable[[Engine, Delta, float], None]] = {
    InterfaceState: Engine._interfaces_changed,  # noqa: SLF001  (the table is this class's own)
    InterfaceOffered: Engine._interfaces_offered,  # noqa: SLF001
    EndpointOffered: Engine._endpoints_offered,  # noqa: SLF001
    AdjacencyWanted: Engine._adjacencies_wanted,  # noqa: SLF001
    NextHopState: Engine._next_hops_changed,  # noqa: SLF001
    AccessWanted: Engine._access_wanted,  # noqa: SLF001
    SaState: Engine._sas_changed,  # noqa: SLF001
    SourceOffered: Engine._profiles_touched,  # noqa: SLF001
    VrfState: Engine._profiles_touched,  # noqa: SLF001
    HostPortState: Engine._host_ports_changed,  # noqa: SLF001
    RouteSelected: Engine._routes_selected,  # noqa: SLF001
}
