"""Where an address of a VRF goes: to us, on through an NHRP network, or out of it. Reads the tables that others write.

Routes of owner `nhrp` are left out, so that a shortcut never answers its own renewal.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from attrs import define, field

from nhrp.engine.indexed import NO_NETWORK, Network
from nhrp.engine.node import Node
from stack.addr import LabelStack, Prefix, SwapFec
from stack.events import AdjacencyKey, NextHopKey, Via
from stack.tables.lfib import Operation
from stack.tables.nexthop import NextHop
from stack.tables.rib import Candidate

__all__ = ["EXCLUDED", "SHORTEST", "Addresses", "Registered", "Way", "Ways", "Where", "attached_elsewhere", "elsewhere"]

EXCLUDED = frozenset({"nhrp"})

SHORTEST = {4: 8, 16: 16}
"""Prefixes shorter than this (by octets of the address) are taken from nobody and given to nobody; a route that short says
nothing of where an address is."""


class Where(Enum):
    OWN = "an address of ours"
    NETWORK = "by an NHRP network"
    OUTSIDE = "out of the NHRP networks"
    NONE = "nowhere"


class Registered(NamedTuple):
    """What somebody has registered, or the configuration maps."""

    interface: str
    nbma: bytes


class Way(NamedTuple):
    """`prefix`: of the route. `next_hop` (overlay) and `nbma`: who is next, in a network (empty next hop: the far end of a
    point-to-point interface). `labels`: what `allocator` wants to see. `network`: of `interface`."""

    where: Where
    prefix: Prefix
    interface: str = ""
    next_hop: bytes = b""
    nbma: bytes = b""
    labels: LabelStack = ()
    allocator: bytes = b""
    network: Network = NO_NETWORK

    def within(self, network: Network) -> bool:
        """Whether it stays in that network."""
        return self.where is Where.NETWORK and self.network == network


@define(eq=False)
class Ways:
    """`registered`: (vrf, overlay address) -> who registered it, None if nobody did. `servers(interface)`:
    the overlay addresses of its NHRP servers, best first."""

    node: Node
    registered: Callable[[str, bytes], Registered | None] = lambda _vrf, _address: None
    servers: Callable[[str], list[bytes]] = lambda _interface: []

    def find(self, vrf: str, address: bytes) -> Way:
        rib = self.node.rib
        host = Prefix.host(address)
        entry = rib.get(vrf, host)
        best = entry.best(EXCLUDED) if entry is not None else None
        if (best is not None and _receives(host, best)) or (best is None and self.node.is_own(vrf, address)):
            return self._own(vrf, address)
        known = self.registered(vrf, address)
        if known is not None and self.node.network(known.interface):
            network = self.node.network(known.interface)
            return Way(Where.NETWORK, host, known.interface, address, known.nbma, (), address, network)
        found = rib.match(vrf, address, EXCLUDED)
        if found is None:
            return Way(Where.NONE, host)
        return self._routed(*found, address)

    def _own(self, vrf: str, address: bytes) -> Way:
        """Ours: the prefix of the interface that it is on, unless that is in a network itself (there each is its own)."""
        for name in self.node.interfaces.own(vrf, address):
            interface = self.node.interfaces[name]
            if not interface.row.network_id:
                return Way(Where.OWN, Prefix.of(address, interface.addresses[address].length), name)
        return Way(Where.OWN, Prefix.host(address))

    def _routed(self, prefix: Prefix, route: Candidate, address: bytes) -> Way:
        hop = self.node.nexthops.get(route.next_hop)
        via = _via(route, hop)
        if via is None:
            return Way(Where.NONE, prefix)
        key = hop.adjacency if hop is not None else None
        name = key.interface if key is not None else via.interface
        network = self.node.network(name)
        if not network:
            return Way(Where.OUTSIDE if name else Where.NONE, prefix, name)
        next_hop = self._neighbour(key, via, name, address)
        nbma = self.nbma(name, next_hop)
        return Way(Where.NETWORK, prefix, name, next_hop, nbma, via.labels, via.address, network)

    def switched(self, label: int) -> Way | None:
        """Where packets under a label of ours go without a look at their addresses: a VPN route that was told on with ourselves
        as next hop. None: they are looked up in a VRF."""
        row = self.node.lfib.get(label)
        if row is None or not isinstance(row.fec, SwapFec):
            return None
        prefix, hop = row.fec.prefix, self.node.nexthops.get(row.next_hop)
        if hop is None or hop.adjacency is None:
            return Way(Where.NONE, prefix)
        name, allocator = hop.adjacency.interface, hop.key.address
        network = self.node.network(name)
        if not network:
            return Way(Where.OUTSIDE, prefix, name)
        next_hop = hop.adjacency.address or allocator
        labels = row.out_labels if row.operation is Operation.SWAP else ()
        return Way(Where.NETWORK, prefix, name, next_hop, self.nbma(name, next_hop), labels, allocator, network)

    def _neighbour(self, key: AdjacencyKey | None, via: Via, name: str, address: bytes) -> bytes:
        """The overlay address of who is next."""
        if key is not None and key.address:
            return key.address
        if via.address:
            return via.address
        tunnel = self.node.tunnels.get(name)
        if tunnel is not None and tunnel.remote:
            return b""
        # On a multipoint interface each address is its own neighbour; the NBMA address of one that nobody registered here is
        # known to our servers.
        if self.nbma(name, address):
            return address
        return next((server for server in self.servers(name) if self.nbma(name, server)), address)

    def nbma(self, name: str, overlay: bytes) -> bytes:
        """The NBMA address of `overlay` on an interface; empty: not known."""
        node = self.node
        tunnel = node.tunnels.get(name)
        if tunnel is not None and tunnel.remote:
            return tunnel.remote
        adjacency = node.adjacencies.get(AdjacencyKey(name, overlay))
        if adjacency is not None and adjacency.transport:
            return adjacency.transport
        known = self.registered(node.vrf(name), overlay)
        if known is not None and known.interface == name:
            return known.nbma
        assigned = node.overlays.get((name, overlay))
        if assigned is not None:
            return assigned.transport
        maps = node.family(name, Prefix.host(overlay).afi).maps if overlay else ()
        return next((one.nbma for one in maps if one.address == overlay), b"")

    def is_configured(self, interface: str, nbma: bytes) -> bool:
        """Whether the configuration has us ask the station at `nbma`: a server, or one that is mapped if there are none."""
        families = self.node.nhrp(interface).families.values()
        servers = [server for family in families for server in family.nhs]
        if any(server.nbma == nbma for server in servers):
            return True
        if any(self.nbma(interface, server) == nbma for server in self.servers(interface)):
            return True
        return not servers and any(one.nbma == nbma for family in families for one in family.maps)

    def may_draw(self, interface: str, overlay: bytes, *, vouched: bool, asked: bool) -> bool:
        """Whether there may be a host route to `overlay`, a station that we know from NHRP alone. Its packets go nowhere in
        particular now, or into the network; and where a route of ours says to which station, one that may speak for others has
        `vouched` for it. `asked`: it is the answer to a question of ours."""
        vrf, network = self.node.vrf(interface), self.node.network(interface)
        found = self.node.rib.match(vrf, overlay, EXCLUDED)
        if found is None or found[0].length < SHORTEST[len(overlay)]:
            return vouched or asked
        prefix, route = found
        way = self._routed(prefix, route, overlay)
        if not way.within(network) or elsewhere(self.node, vrf, network, overlay):
            return False
        attached = not any(via.address for via in route.route.vias)
        return vouched or (attached and (asked or prefix == Prefix.host(overlay)))

    def usurps(self, interface: str, overlay: bytes, nbma: bytes) -> str:
        """Why `overlay` cannot be at `nbma`: it is ours, or another's whom we know without NHRP's resolutions ('': it can)."""
        node = self.node
        vrf = node.vrf(interface)
        if node.is_own(vrf, overlay):
            return "it is an address of ours"
        if nbma == node.nbma(interface):
            return "the NBMA address is ours"
        tunnel = node.tunnels.get(interface)
        same = overlay == nbma and tunnel is not None and tunnel.vrf == vrf
        if same or node.tunnels.is_end(vrf, overlay):
            return "it is an NBMA address"
        if attached_elsewhere(node, vrf, node.network(interface), overlay):
            return "it is of a network that is attached to us elsewhere"
        known = self.registered(vrf, overlay)
        if known is not None and known.nbma != nbma:
            return "it is registered by another NBMA address"
        network = node.network(interface)
        for name, assigned in node.overlays.at(overlay).items():
            if node.network(name) == network and assigned.transport != nbma:
                return "IKEv2 has assigned it to another peer"
        family = node.family(interface, Prefix.host(overlay).afi)
        if any(server.address == overlay and server.nbma not in (b"", nbma) for server in family.nhs):
            return "it is a server of ours"
        return self._routed_elsewhere(vrf, overlay, nbma)

    def _routed_elsewhere(self, vrf: str, overlay: bytes, nbma: bytes) -> str:
        entry = self.node.rib.get(vrf, Prefix.host(overlay))
        best = entry.best(EXCLUDED) if entry is not None else None
        hop = self.node.nexthops.get(best.next_hop) if best is not None else None
        via = _via(best, hop) if best is not None else None
        if hop is None or hop.adjacency is None or via is None or via.address not in (b"", overlay):
            return ""
        at = self.nbma(hop.adjacency.interface, overlay)
        return "a route of ours leads to it by another NBMA address" if at and at != nbma else ""


def attached_elsewhere(node: Node, vrf: str, network: Network, address: bytes) -> bool:
    """Whether `address` belongs to a network that is attached to us, and not by an interface of NHRP network `network`."""
    found = node.rib.match(vrf, address, EXCLUDED)
    if found is None or found[1].route.kind not in _ATTACHED:
        return False
    return not any(node.network(via.interface) == network for via in found[1].route.vias)


def elsewhere(node: Node, vrf: str, network: Network, address: bytes) -> bool:
    """Whether packets to `address` go to a network that is not the stations' own: one attached to us elsewhere, or one behind
    another station or router. Behind means that the next hop is no part of it. A host route says where the host is, and
    stands; what is as short as a default route says nothing."""
    if attached_elsewhere(node, vrf, network, address):
        return True
    found = node.rib.match(vrf, address, EXCLUDED)
    if found is None or not SHORTEST[len(address)] <= found[0].length < len(address) * 8:
        return False
    prefix, vias = found[0], found[1].route.vias
    return any(via.address and not prefix.covers(via.address) for via in vias)


_ATTACHED = frozenset(("connected", "local"))
"""Kinds of routes that say where an address is beyond doubt."""


def _receives(prefix: Prefix, route: Candidate) -> bool:
    """Whether a host route is one of our own addresses."""
    kind = route.route.kind
    return kind == "local" or (kind == "connected" and prefix.length == len(prefix.network) * 8)


def _via(route: Candidate, hop: NextHop | None) -> Via | None:
    """The way of a route that its next hop in use stands for; of an attached prefix, which needs none, its first."""
    if hop is None:
        return next((via for via in route.route.vias if via.interface and not route.next_hop), None)
    same = (via for via in route.route.vias if _same(via.key(), hop.key))
    return next(same, None)


def _same(one: NextHopKey, other: NextHopKey) -> bool:
    return one == other or (one.interface, one.address) == (other.interface, other.address)


@define(eq=False)
class Addresses:
    """Numbers by an address of a VRF, to find those that a prefix covers. Bounded by who is entered."""

    _of: dict[tuple[str, int], list[tuple[bytes, int]]] = field(factory=dict)

    def add(self, vrf: str, address: bytes, number: int) -> None:
        insort(self._of.setdefault((vrf, len(address)), []), (address, number))

    def remove(self, vrf: str, address: bytes, number: int) -> None:
        rows = self._of.get((vrf, len(address)), [])
        at = bisect_left(rows, (address, number))
        if at < len(rows) and rows[at] == (address, number):
            del rows[at]
            if not rows:
                del self._of[vrf, len(address)]

    def under(self, vrf: str, prefix: Prefix) -> list[int]:
        """The numbers of addresses inside `prefix`."""
        rows = self._of.get((vrf, len(prefix.network)))
        if not rows:
            return []
        bits = len(prefix.network) * 8
        last = int.from_bytes(prefix.network) | (1 << (bits - prefix.length)) - 1
        low = bisect_left(rows, (prefix.network, -1))
        high = bisect_right(rows, (last.to_bytes(bits // 8), 1 << 62))
        return [number for _, number in rows[low:high]]
