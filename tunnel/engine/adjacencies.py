"""Adjacencies and receptions: what the packet path needs to send to a neighbour, and to take from one. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from stack.addr import format_address
from stack.events import (
    SCOPE_MGRE,
    SCOPE_PROTECTED,
    AdjacencyKey,
    AdjacencyRow,
    Interface,
    InterfaceKind,
    NextHopRow,
    SaKey,
    SaRow,
)
from stack.tables.adjacency import Adjacency, AdjacencyKind
from stack.tables.reception import Reception
from tunnel.config import TransportProtocol, TunnelInterface, TunnelMode
from tunnel.engine.links import root_cause
from tunnel.engine.mirror import is_kernels
from tunnel.engine.neighbours import Neighbour, NeighbourState
from tunnel.engine.profile import Provision, gre_overhead
from tunnel.engine.security import protected_mtu, sa_fault
from tunnel.engine.tunnels import tunnel_source
from tunnel.wire import ethernet

__all__ = ["attached", "l3vpn", "l3vpn_reception", "state_of", "tunnel", "tunnel_reception"]

GRE, MPLS_IN_IP = 47, 137
"""IP protocol numbers (RFC 2784, RFC 4023 3)."""

TRANSPORT_MTU = 1500
"""Until the way to an endpoint is known."""


def attached(key: AdjacencyKey, interface: Interface, neighbour: Neighbour | None, created: float) -> Adjacency | None:
    """A neighbour on an attachment: Ethernet, TUN, or on a device that stays with the kernel."""
    row = interface.row
    down = "" if interface.up else interface.reason or "interface is down"
    if row.kind is InterfaceKind.TUN:
        if key.address:
            return None
        return Adjacency(key, AdjacencyKind.TUN, interface.up, interface.mtu, reason=down, created=created)
    if row.kind is not InterfaceKind.ETHERNET:
        return None
    if not key.address and is_kernels(interface):  # whoever is attached there: the kernel resolves for IP
        return Adjacency(key, AdjacencyKind.HOST, interface.up, interface.mtu, reason=down, created=created)
    if not key.address:
        return None
    mac = neighbour.mac if neighbour else b""
    rewrite = ethernet.head(mac, interface.mac, row.vlan) if mac else b""
    if is_kernels(interface):
        # The kernel resolves for IP; labelled frames need the MAC, which is learnt only where MPLS is on.
        reason = down or (neighbour.state.value if neighbour and neighbour.state is NeighbourState.DEAD else "")
        return Adjacency(key, AdjacencyKind.HOST, interface.up, interface.mtu, rewrite, reason=reason, created=created)
    if neighbour is None:
        return None
    # A reason means that packets are refused; while the neighbour is being asked they wait for it instead.
    reason = down or ("" if mac or neighbour.state is NeighbourState.ASKING else neighbour.state.value)
    return Adjacency(
        key,
        AdjacencyKind.ETHERNET,
        bool(mac) and interface.up,
        interface.mtu,
        rewrite,
        reason=reason,
        created=created,
    )


def state_of(adjacency: Adjacency | None, key: AdjacencyKey, *, wanted: bool) -> AdjacencyRow | None:
    """What routing is told. A neighbour still being resolved is usable, with the reason; one that does not answer is not."""
    if adjacency is None:
        reason = f"no adjacency to {format_address(key.address)} on {key.interface}"
        return AdjacencyRow(usable=False, mtu=0, reason=reason) if wanted else None
    asking = adjacency.kind is AdjacencyKind.ETHERNET and not adjacency.complete and not adjacency.reason
    usable = adjacency.complete or asking
    reason = NeighbourState.ASKING.value if asking else adjacency.reason
    return AdjacencyRow(usable, adjacency.mtu, reason, adjacency.destination, adjacency.transport_vrf)


def _transport_mtu(way: NextHopRow | None, interfaces: Mapping[str, Interface]) -> int:
    interface = interfaces.get(way.interface) if way else None
    return interface.mtu if interface else TRANSPORT_MTU


def _way_fault(way: NextHopRow | None, tunnel_name: str) -> str:
    if way is None:
        return "the way to the endpoint is not known yet"
    if not way.usable:
        return f"endpoint unreachable: {root_cause(way.reason)}"
    if way.interface == tunnel_name:
        return "recursive routing: the endpoint is reached through the tunnel itself"
    return ""


def l3vpn(
    key: AdjacencyKey,
    provision: Provision,
    transport: bytes,
    way: NextHopRow | None,
    interfaces: Mapping[str, Interface],
    created: float,
    sa: SaRow | None = None,
) -> Adjacency:
    """A remote PE behind the profile's mGRE tunnel. `sa`: the state of the SA to it, if the tunnel is protected."""
    profile = provision.profile
    fault = provision.row.reason or _way_fault(way, provision.row.tunnel)
    in_ip = profile.protocol is TransportProtocol.MPLS_IN_IP
    mtu = _transport_mtu(way, interfaces)
    if profile.protection:
        # MPLS-in-IP would go round the protection: lines and checks refuse it, and so does this.
        fault = fault or ("MPLS-in-IP cannot be protected" if in_ip else sa_fault(sa))
        mtu = protected_mtu(mtu, profile.key, sa)
    else:
        mtu -= gre_overhead(profile.key, profile.protocol)
    return Adjacency(
        key,
        AdjacencyKind.MPLS_IN_IP if in_ip else AdjacencyKind.GRE,
        not fault,
        mtu,
        source=provision.row.source,
        destination=transport,
        gre_key=profile.key,
        protection=profile.protection,
        reason=fault,
        created=created,
        sa=SaKey(provision.row.tunnel, transport) if profile.protection else None,
    )


def l3vpn_reception(provision: Provision, sources: frozenset[bytes]) -> Reception | None:
    """Only what comes to our transport source, from a known endpoint, is taken (RFC 4023 8; semantics of the profile)."""
    if not provision.row.usable:
        return None
    profile = provision.profile
    in_ip = profile.protocol is TransportProtocol.MPLS_IN_IP
    if in_ip and profile.protection:
        return None
    return Reception(
        interface=provision.row.tunnel,
        local=provision.row.source,
        protocols=frozenset({MPLS_IN_IP if in_ip else GRE}),
        vrf=provision.row.vrf,
        gre_key=profile.key,
        sources=sources if profile.endpoint_check else None,
        ip=False,
        scope=SCOPE_PROTECTED if profile.protection else SCOPE_MGRE,
        protected=bool(profile.protection),
    )


def tunnel(
    key: AdjacencyKey,
    config: TunnelInterface,
    interface: Interface,
    destination: bytes,
    way: NextHopRow | None,
    interfaces: Mapping[str, Interface],
    created: float,
    sa: SaKey | None = None,
    state: SaRow | None = None,
) -> Adjacency:
    """The far end of a tunnel, or one of a multipoint tunnel's. `sa`, and its `state`, if the tunnel is protected."""
    fault, source = tunnel_source(config, interfaces)
    fault = fault or _way_fault(way, config.name) or ("" if interface.row.admin_up else "administratively down")
    mtu = _transport_mtu(way, interfaces)
    if sa is not None:
        fault, mtu = fault or sa_fault(state), protected_mtu(mtu, config.key, state)
    else:
        mtu -= gre_overhead(config.key)
    return Adjacency(
        key,
        AdjacencyKind.GRE,
        not fault,
        min(mtu, interface.row.mtu),
        source=source,
        destination=destination,
        gre_key=config.key,
        protection=interface.row.protection,
        reason=fault,
        created=created,
        sa=sa,
        transport_vrf=config.vrf,
    )


def tunnel_reception(
    config: TunnelInterface, interface: Interface, interfaces: Mapping[str, Interface], endpoints: frozenset[bytes]
) -> Reception | None:
    """None while nothing may come in; by a template nothing ever may."""
    fault, source = tunnel_source(config, interfaces)
    if fault or not interface.row.admin_up or interface.row.kind is not InterfaceKind.TUNNEL:
        return None
    point_to_point = config.mode is TunnelMode.GRE
    if point_to_point and not config.destination:
        return None
    return Reception(
        interface=config.name,
        local=source,
        protocols=frozenset({GRE}),
        vrf=interface.vrf,
        gre_key=config.key,
        sources=frozenset({config.destination}) if point_to_point else endpoints,
        point_to_point=point_to_point,
        mpls=interface.row.mpls,
        scope=SCOPE_PROTECTED if interface.row.protection else SCOPE_MGRE,
        protected=bool(interface.row.protection),
        transport_vrf=config.vrf,
    )
