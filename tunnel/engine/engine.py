"""The tunnel engine: sans-IO. It owns links, endpoints, adjacencies and receptions; everything it is told arrives as rows
of the bus, as a list of the host's devices, or as a packet of ARP or neighbour discovery.

Inputs only mark what they touch; `settle` then recomputes just that, once a turn, and answers with what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

from stack.addr import DEFAULT_VRF, Prefix
from stack.events import (
    L3VPN_TUNNEL,
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
    SourceOffered,
    Synced,
    Topic,
    Via,
    VrfState,
)
from stack.nettypes import Device, HostRoute
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.nexthop import NextHopTable
from stack.tables.owned import OwnedRows
from stack.tables.reception import Reception
from stack.wire import WireError
from tunnel.config import TunnelConfig
from tunnel.engine import adjacencies, bindings, links, mirror
from tunnel.engine.endpoints import Endpoint, EndpointDatabase
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
from tunnel.wire import arp, nd

__all__ = ["KERNEL_DISTANCE", "OWNER", "Engine", "Snapshot"]

OWNER = "tunnel"
"""This engine's name at the bus."""

KERNEL_DISTANCE = 254
"""Administrative distance of routes that the host's kernel had before us: any other route wins."""

_NEAR = (Prefix.parse("fe80::/10"), Prefix.parse("ff00::/8"), Prefix.parse("224.0.0.0/4"))
"""Routes that the kernel has on every device that is up: link-local and multicast. They lead nowhere."""


@frozen
class Snapshot:
    """What `show` prints."""

    profiles: Mapping[str, Provision]
    endpoints: tuple[Endpoint, ...]
    adjacencies: Mapping[AdjacencyKey, Adjacency]
    receptions: Mapping[str, Reception]
    neighbours: tuple[Neighbour, ...]
    refused: Mapping[str, int]


@define
class _Published:
    """What a topic's subscribers were told, so that only changes are published."""

    topic: Topic[Any, Any]
    rows: dict[Any, Any] = field(factory=dict)

    def update(self, key: Any, row: Any, into: dict[Any, Any]) -> None:
        if self.rows.get(key) == row:
            return
        if row is None:
            del self.rows[key]
        else:
            self.rows[key] = row
        into[key] = row

    def replace(self, rows: Mapping[Any, Any]) -> list[Output]:
        changed: dict[Any, Any] = {key: None for key in self.rows if key not in rows}
        changed.update((key, row) for key, row in rows.items() if self.rows.get(key) != row)
        self.rows = dict(rows)
        return [Publish(self.topic, changed)] if changed else []


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
    _local: mirror.HostChange = field(factory=mirror.HostChange)
    _published: dict[Topic[Any, Any], _Published] = field(factory=dict)
    _kernel_routes: dict[Prefix, Route] = field(factory=dict)
    _foreign: tuple[HostRoute, ...] = ()
    _kernels: dict[str, Any] | None = None
    _adopted: dict[str, InterfaceRow] = field(factory=dict)
    _mirrored_at: int = -1
    _dirty_names: set[str] = field(factory=set)
    _dirty_keys: set[AdjacencyKey] = field(factory=set)
    _all_dirty: bool = True
    _complete: bool = False
    _told: dict[str, ProfileRow] = field(factory=dict)
    _mirror_dirty: bool = True
    _wants_dirty: bool = True

    def __attrs_post_init__(self) -> None:
        self.neighbours = Neighbours(self.entropy)
        self._copies = mirror.RouteCopies(self.nexthops)

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
                self._complete = self._all_dirty = True
            case _:
                pass  # another Synced: rows that went have been withdrawn already

    def adopt(self, row: Adjacency) -> None:
        """An adjacency that an earlier incarnation made; before any input. Its neighbour is reached as before, at once."""
        if row.kind in (AdjacencyKind.ETHERNET, AdjacencyKind.HOST) and row.rewrite:
            self.neighbours.remember(row.key, row.rewrite[:6])

    def reconfigure(self, config: TunnelConfig) -> None:
        self.config = config
        self._all_dirty = self._mirror_dirty = True

    def devices_changed(self, devices: Iterable[Device]) -> None:
        """The host's devices, all of them."""
        new = {device.name: device for device in devices}
        if new != self.devices:
            self.devices = new
            self._all_dirty = self._mirror_dirty = True

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
        if adopted != self._adopted:
            self._adopted = adopted
            self._all_dirty = True

    def _interfaces_changed(self, delta: Delta, now: float) -> None:
        for name, row in delta.rows.items():
            if row is None:
                self.interfaces.pop(name, None)
            else:
                self.interfaces[name] = row
            self._dirty_names.add(name)
            self._dirty_keys.update(key for key in self.adjacencies if key.interface == name)
            self.neighbours.set_link(name, links.resolving(row), now)
        self._all_dirty = True  # sources, parents and mirrored addresses hang on interfaces
        self._mirror_dirty = True

    def _interfaces_offered(self, delta: Delta, _now: float) -> None:
        if delta.owner != OWNER:
            self._all_dirty = True  # the automatic tunnel may have to take another name

    def _endpoints_offered(self, delta: Delta, now: float) -> None:
        for (tunnel, overlay), row in delta.rows.items():
            changed = self.endpoints.claim(delta.owner, tunnel, overlay, row.transport if row else None, now)
            name = self._tunnel_name(tunnel)
            if changed:
                self._dirty_names.add(name)
                self._dirty_keys.update(AdjacencyKey(name, address) for address in changed)
                self._mirror_dirty = True

    def _adjacencies_wanted(self, delta: Delta, now: float) -> None:
        for key in delta.rows:
            if self.rows.holders(AdjacencyWanted, key):
                self.neighbours.want(key, now)
            else:
                self.neighbours.unwant(key)
            self._dirty_keys.add(key)

    def _next_hops_changed(self, delta: Delta, _now: float) -> None:
        for key in delta.rows:
            for tunnel, overlay in self._users(key.address):
                self._dirty_keys.add(AdjacencyKey(tunnel, overlay))
            self._dirty_names.update(name for name, t in self.config.tunnels.items() if t.destination == key.address)
        self._mirror_dirty = True

    def _users(self, transport: bytes) -> Iterable[tuple[str, bytes]]:
        for endpoint in self.endpoints.at(transport):
            yield self._tunnel_name(endpoint[0]), endpoint[1]

    def _everything_changed(self, _delta: Delta, _now: float) -> None:
        self._all_dirty = self._mirror_dirty = True

    def _mirror_changed(self, _delta: Delta, _now: float) -> None:
        self._mirror_dirty = True

    def _routes_selected(self, delta: Delta, _now: float) -> None:
        if delta.table == DEFAULT_VRF:
            for prefix, row in delta.rows.items():
                self._wants_dirty |= self._copies.select(prefix, row)

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
        outputs: list[Output] = []
        if self._all_dirty:
            outputs += self._provision()
        outputs += self._settle_links()
        outputs += self._settle_adjacencies(now)
        outputs += self._settle_receptions()
        if self._all_dirty or self._mirror_dirty or self._wants_dirty:
            outputs += self._wants()
            self._wants_dirty = False
        if self._all_dirty or self._mirror_dirty:
            outputs += self._bindings()
        outputs += self._settle_mirror()
        outputs += map(Post, self.neighbours.take_packets())
        self._all_dirty = False
        self._dirty_names.clear()
        return outputs

    def wake(self, now: float) -> list[Output]:
        self.neighbours.wake(now)
        return self.settle(now)

    def deadline(self) -> float | None:
        return self.neighbours.deadline()

    def snapshot(self) -> Snapshot:
        names = {L3VPN_TUNNEL: self.l3vpn_tunnel()}
        return Snapshot(
            dict(self.provisions),
            self.endpoints.snapshot(names),
            dict(self.adjacencies),
            dict(self.receptions),
            self.neighbours.snapshot(),
            {**self.refused, **self.neighbours.refused},
        )

    def l3vpn_tunnel(self) -> str:
        """The name of the one mGRE tunnel, or nothing."""
        return next((p.row.tunnel for p in self.provisions.values() if p.row.tunnel), "")

    def _l3vpn(self) -> Provision | None:
        return next((p for p in self.provisions.values() if p.row.tunnel), None)

    def _tunnel_name(self, claimed: str) -> str:
        return self.l3vpn_tunnel() if claimed == L3VPN_TUNNEL else claimed

    def _topic(self, topic: Topic[Any, Any]) -> _Published:
        return self._published.setdefault(topic, _Published(topic))

    def _provision(self) -> list[Output]:
        sources = self.rows.merged(SourceOffered)
        vrfs = self.rows.merged(VrfState)
        new = provision(self.config, self.interfaces, sources, vrfs, self._taken_names())
        outputs: list[Output] = []
        self.provisions = new
        if self._complete:  # before, interfaces are merely not known yet
            outputs += [
                Log("l3vpn profile", {"profile": name, "usable": p.row.usable, "reason": p.row.reason})
                for name, p in new.items()
                if self._told.get(name) != p.row
            ]
            self._told = {name: p.row for name, p in new.items()}
        rows = {**self._adopted, **{row.name: row for p in new.values() for row in p.interfaces}}
        outputs += self._topic(InterfaceOffered).replace(rows)
        outputs += self._topic(ProfileState).replace({name: p.row for name, p in new.items()})
        outputs += self._topic(AddressOffered).replace(dict(self._link_locals()))
        return outputs

    def _taken_names(self) -> set[str]:
        """What the automatic tunnels must not be called: interfaces that others offer. (Those of InterfaceState may be our
        own of before a restart or a change of configuration.)"""
        offered = self.rows.by_owner(InterfaceOffered)
        return {*self.config.tunnels, *(name for owner, rows in offered.items() if owner != OWNER for name in rows)}

    def _link_locals(self) -> Iterable[tuple[tuple[str, bytes], AddressRow]]:
        """Every Ethernet attachment of ours that speaks IPv6 has a link-local address (RFC 4291 2.8)."""
        for name, interface in self.interfaces.items():
            device = self.devices.get(interface.row.device)
            speaks = any(len(a) == 16 and row.origin != "link-local" for a, row in interface.addresses.items())
            if links.is_ours(interface) and device and len(device.mac) == 6 and speaks:
                yield (name, links.link_local(device.mac)), AddressRow(64, origin="link-local")

    def _settle_links(self) -> list[Output]:
        names = set(self.interfaces) | set(self._topic(LinkState).rows) if self._all_dirty else self._dirty_names
        dummy = {row.name for p in self.provisions.values() for row in p.interfaces if row.internal}
        changed: dict[str, LinkRow | None] = {}
        for name in names:
            interface = self.interfaces.get(name)
            row = None if interface is None else self._link(interface, dummy)
            self._topic(LinkState).update(name, row, changed)
        outputs: list[Output] = [
            Log(row.reason, {"tunnel": name}, "warning")
            for name, row in changed.items()
            if row is not None and row.reason.startswith(links.RECURSIVE)
        ]
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
        tunnel = self.config.tunnels.get(name)
        if tunnel is None:
            return LinkRow(up=False, mtu=interface.row.mtu, reason="no tunnel source and destination")
        return links.tunnel_link(tunnel, interface, self.interfaces, self._next_hop(tunnel.destination))

    def _next_hop(self, address: bytes) -> Any:
        return self.rows.get(NextHopState, NextHopKey(DEFAULT_VRF, address)) if address else None

    def _settle_adjacencies(self, now: float) -> list[Output]:
        keys = self._dirty_keys | self.neighbours.take_changed()
        if self._all_dirty:
            keys |= set(self.adjacencies) | self.neighbours.wanted
            keys |= {AdjacencyKey(self._tunnel_name(tunnel), overlay) for tunnel, overlay in self.endpoints.claimed()}
        keys |= {AdjacencyKey(name) for name in self._dirty_names if name in self.config.tunnels}
        if self._all_dirty:
            keys |= {AdjacencyKey(name) for name in self.config.tunnels}
            keys |= {AdjacencyKey(name) for name, i in self.interfaces.items() if i.row.kind is InterfaceKind.TUN}
        self._dirty_keys = set()
        outputs: list[Output] = []
        states: dict[AdjacencyKey, AdjacencyRow | None] = {}
        for key in keys:
            new = self._adjacency(key, now)
            old = self.adjacencies.get(key)
            if new != old:
                if new is None:
                    del self.adjacencies[key]
                    outputs.append(DropAdjacency(key))
                else:
                    self.adjacencies[key] = new
                    outputs.append(PutAdjacency(new))
            wanted = key in self.neighbours.wanted
            self._topic(AdjacencyState).update(key, adjacencies.state_of(new, key, wanted=wanted), states)
        if states:
            outputs.append(Publish(AdjacencyState, states))
        return outputs

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
            return adjacencies.l3vpn(key, l3vpn, transport, self._next_hop(transport), self.interfaces, created)
        tunnel = self.config.tunnels.get(key.interface)
        if tunnel is None:
            return None
        destination = tunnel.destination or self.endpoints.transport(key.interface, key.address)
        if not destination or (tunnel.destination and key.address):
            return None
        return adjacencies.tunnel(
            key, tunnel, interface, destination, self._next_hop(destination), self.interfaces, created
        )

    def _settle_receptions(self) -> list[Output]:
        names = {*self.receptions, *self.config.tunnels, self.l3vpn_tunnel()} if self._all_dirty else self._dirty_names
        outputs: list[Output] = []
        for name in names:
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
        tunnel, interface = self.config.tunnels.get(name), self.interfaces.get(name)
        if tunnel is None or interface is None:
            return None
        return adjacencies.tunnel_reception(tunnel, interface, self.interfaces, self.endpoints.transports(name))

    def _wants(self) -> list[Output]:
        """Transport addresses whose way we must know, and the next hops of the routes that the host gets a copy of: a next
        hop may come to leave by another interface while its routes stay as they are."""
        wanted: dict[NextHopKey, bool] = {NextHopKey(DEFAULT_VRF, address): True for address in self._destinations()}
        wanted.update((key, True) for key in bindings.next_hops(self.config.bindings))
        wanted.update((key, True) for key in self._copies.next_hops())
        return self._topic(NextHopWanted).replace(wanted)

    def _destinations(self) -> set[bytes]:
        return self._own_destinations() | self.endpoints.transports(L3VPN_TUNNEL)

    def _own_destinations(self) -> set[bytes]:
        """Far ends of configured tunnels. The L3VPN tunnel's are not among them: it is in a VRF of its own, so no route of
        the default VRF leaves by it, and to be reached by another tunnel's address is no loop."""
        ends = {tunnel.destination for tunnel in self.config.tunnels.values() if tunnel.destination}
        return ends.union(*(self.endpoints.transports(name) for name in self.config.tunnels))

    def _bindings(self) -> list[Output]:
        own = {a for i in self.interfaces.values() if i.vrf == DEFAULT_VRF for a in i.addresses}
        hops = self.rows.merged(NextHopState)
        return [
            *self._topic(BindingOffered).replace(bindings.offered(self.config.bindings)),
            *self._topic(LabelWanted).replace(bindings.wanted(self.config.bindings, own, hops)),
        ]

    def _settle_mirror(self) -> list[Output]:
        local = self._local
        if self._mirror_dirty or self._all_dirty or self._mirrored_at != self.nexthops.generation:
            ports = self.rows.merged(HostPortState)
            if self._mirror_dirty or self._all_dirty:
                addresses = mirror.wanted_addresses(self.interfaces, ports)
                local = mirror.HostChange(addresses, mirror.wanted_drops(self.interfaces.values()))
                self._copies.keep_from(self._own_destinations())
            self._copies.look(self.interfaces, ports)
        self._mirror_dirty, self._mirrored_at = False, self.nexthops.generation
        routes = self._copies.settle(self.interfaces)
        if local == self._local and not routes:
            return []
        self._local = local
        return [Mirror(mirror.HostChange(local.addresses, local.drops, routes))]

    @property
    def host_state(self) -> mirror.HostState:
        """All that the host's own tables must hold."""
        return mirror.HostState(self._local.addresses, frozenset(self._copies.routes.values()), self._local.drops)


_HANDLERS: dict[Topic[Any, Any], Callable[[Engine, Delta, float], None]] = {
    InterfaceState: Engine._interfaces_changed,  # noqa: SLF001  (the table is this class's own)
    InterfaceOffered: Engine._interfaces_offered,  # noqa: SLF001
    EndpointOffered: Engine._endpoints_offered,  # noqa: SLF001
    AdjacencyWanted: Engine._adjacencies_wanted,  # noqa: SLF001
    NextHopState: Engine._next_hops_changed,  # noqa: SLF001
    SourceOffered: Engine._everything_changed,  # noqa: SLF001
    VrfState: Engine._everything_changed,  # noqa: SLF001
    HostPortState: Engine._mirror_changed,  # noqa: SLF001
    RouteSelected: Engine._routes_selected,  # noqa: SLF001
}
