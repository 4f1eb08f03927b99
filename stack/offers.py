"""What a node's configuration means on the bus: NodeConfig -> rows of the topics that the router publishes. Pure."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import field, frozen

from stack.addr import DEFAULT_VRF, Afi, Prefix
from stack.config import Config, InterfaceConfig, NodeConfig, StaticRoute
from stack.events import (
    AddressOffered,
    AddressRow,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    PolicyState,
    Route,
    RouteOffered,
    Topic,
    Via,
    Vrf,
    VrfState,
)
from stack.policy import routemap
from stack.policy.routemap import RouteMap

__all__ = ["Offers", "offers_of", "static_owner"]

TUN_BINDING = "tun:"
"""`--bind Ethernet0/1=tun:NAME` attaches a TUN device (bare IP) instead of an Ethernet one."""

DEFAULT_MTU = 1500

Rows = Mapping[Any, Any]


@frozen
class Offers:
    """`rows`: (topic, owner, table) -> rows."""

    rows: Mapping[tuple[Topic[Any, Any], str, str], Rows] = field(factory=dict)

    def changes(self, since: Offers) -> list[tuple[Topic[Any, Any], str, str, dict[Any, Any]]]:
        """What to publish to get from `since` to here."""
        found = []
        for key in {**since.rows, **self.rows}:
            new, old = self.rows.get(key, {}), since.rows.get(key, {})
            rows: dict[Any, Any] = {k: None for k in old if k not in new}
            rows.update((k, row) for k, row in new.items() if old.get(k) != row)
            if rows:
                found.append((*key, rows))
        return found


def static_owner(distance: int) -> str:
    """Static routes of distance 1 belong to `static`; floating ones to an owner of their distance, since an owner has one
    candidate a prefix."""
    return "static" if distance == 1 else f"static {distance}"


def offers_of(
    config: Config,
    *,
    vrf_index: Callable[[str], int],
    bindings: Mapping[str, str],
    mac_of: Callable[[str], bytes],
    system_maps: Iterable[RouteMap] = (),
) -> Offers:
    """`vrf_index` keeps a VRF's number while it exists; `bindings`: interface -> host device; `mac_of`: device -> MAC."""
    node = config.node
    rows: dict[tuple[Topic[Any, Any], str, str], Rows] = {
        (VrfState, "router", ""): {vrf.name: vrf for vrf in _vrfs(node, vrf_index)},
        (InterfaceOffered, "router", ""): {
            name: _interface(interface, node, bindings) for name, interface in node.interfaces.items()
        },
        (AddressOffered, "router", ""): dict(_addresses(node, bindings, mac_of)),
        (PolicyState, "router", ""): _policies(node, system_maps),
    }
    for (owner, vrf), routes in _statics(node).items():
        rows[RouteOffered, owner, vrf] = routes
    return Offers(rows)


def _vrfs(node: NodeConfig, vrf_index: Callable[[str], int]) -> Iterable[Vrf]:
    yield Vrf(DEFAULT_VRF, vrf_index(DEFAULT_VRF), families=frozenset(Afi))
    for vrf in node.vrfs.values():
        yield Vrf(vrf.name, vrf_index(vrf.name), vrf.rd, vrf.export_rts, vrf.import_rts, vrf.families, vrf.description)


def _interface(interface: InterfaceConfig, node: NodeConfig, bindings: Mapping[str, str]) -> InterfaceRow:
    parent = node.interfaces.get(interface.parent)
    kind, device = interface.kind, ""
    if kind is InterfaceKind.ETHERNET:
        device = bindings.get(interface.parent or interface.name, interface.parent or interface.name)
        if device.startswith(TUN_BINDING):
            kind, device = InterfaceKind.TUN, device.removeprefix(TUN_BINDING)
    return InterfaceRow(
        name=interface.name,
        kind=kind,
        vrf=interface.vrf,
        mtu=interface.mtu or (parent.mtu if parent else 0) or DEFAULT_MTU,
        admin_up=not interface.shutdown,
        description=interface.description,
        parent=interface.parent,
        vlan=interface.vlan,
        device=device,
        unnumbered=interface.unnumbered,
        point_to_point=interface.point_to_point or kind is InterfaceKind.TUN,
        mpls=interface.mpls or interface.mpls_nhrp,
        unreachables=interface.unreachables,
        mss=interface.mss,
        network_id=interface.network_id,
        redirect=interface.redirect,
        protection=interface.protection,
        negotiated=interface.negotiated,
    )


def _addresses(
    node: NodeConfig, bindings: Mapping[str, str], mac_of: Callable[[str], bytes]
) -> Iterable[tuple[tuple[str, bytes], AddressRow]]:
    for interface in node.interfaces.values():
        device = bindings.get(interface.parent or interface.name, interface.parent or interface.name)
        for address in interface.addresses:
            octets = address.address
            if address.eui64:
                mac = mac_of(device)
                octets = eui64(
                    octets, mac if len(mac) == 6 and any(mac) else _made_up_mac(node.hostname, interface.name)
                )
            yield (interface.name, octets), AddressRow(address.length, address.secondary)


def eui64(prefix: bytes, mac: bytes) -> bytes:
    """The address of `mac` in a /64 (RFC 4291 appendix A: insert FFFE, invert the universal bit)."""
    return prefix[:8] + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:6]


def _made_up_mac(hostname: str, name: str) -> bytes:
    """For interfaces without one: locally administered, the same at every start."""
    return b"\x02\x4c" + zlib.crc32(f"{hostname} {name}".encode()).to_bytes(4)


def _policies(node: NodeConfig, system_maps: Iterable[RouteMap]) -> Rows:
    maps = {**{m.name: m for m in system_maps}, **node.route_maps}
    compiled = routemap.compile(maps, node)
    rows: dict[tuple[str, str], Any] = {("route-map", name): row for name, row in compiled.items()}
    rows.update((("prefix-list", name), row) for name, row in node.prefix_lists.items())
    rows.update((("access-list", name), row) for name, row in node.access_lists.items())
    return rows


def _statics(node: NodeConfig) -> Mapping[tuple[str, str], Rows]:
    """(owner, VRF) -> prefix -> Route. Several lines of one prefix and distance are one route of several vias."""
    found: defaultdict[tuple[str, str], dict[Prefix, Route]] = defaultdict(dict)
    for static in node.static_routes:
        routes = found[static_owner(static.distance), static.vrf]
        vias = () if static.null else (_via(static),)
        known = routes.get(static.prefix)
        if known is None:
            routes[static.prefix] = Route(static.distance, vias, "static", tag=static.tag)
        else:
            routes[static.prefix] = known._replace(vias=tuple(dict.fromkeys(known.vias + vias)))
    return found


def _via(static: StaticRoute) -> Via:
    return Via(static.address, static.interface, static.vrf)
