"""What a BGP speaker is told: frozen values. The IOS lines that set them are in bgp.lines."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from attrs import field, frozen

from stack.addr import DEFAULT_VRF, Afi, Prefix, Safi

__all__ = [
    "BgpConfig",
    "ConnectionMode",
    "Family",
    "FamilyConfig",
    "LabelMode",
    "ListenRange",
    "NeighborConfig",
    "NeighborFamily",
    "Redistribute",
    "Timers",
]

Family = tuple[Afi, Safi]


class ConnectionMode(Enum):
    BOTH = "both"
    ACTIVE = "active"
    PASSIVE = "passive"


class LabelMode(Enum):
    """semantics: one label a prefix (default), or one a VRF and address family."""

    PER_PREFIX = "per-prefix"
    PER_VRF = "per-vrf"


class Timers(NamedTuple):
    """Seconds (RFC 4271 10). `hold` 0: no keepalives."""

    keepalive: int = 60
    hold: int = 180
    connect_retry: int = 120


@frozen
class NeighborFamily:
    """One neighbour in one address family. `allowas_in` 0: refuse routes with our own AS in the path."""

    activate: bool = True
    send_standard: bool = False
    send_extended: bool = False
    next_hop_self: bool = False
    next_hop_unchanged: bool = False
    route_map_in: str = ""
    route_map_out: str = ""
    prefix_list_in: str = ""
    prefix_list_out: str = ""
    maximum_prefix: int = 0
    soft_reconfiguration: bool = False
    route_reflector_client: bool = False
    allowas_in: int = 0
    default_originate: bool = False
    as_override: bool = False


@frozen
class NeighborConfig:
    """A neighbour, or (as `peer_groups`' value) what a group's members share.

    `address` empty: a peer group. `families`: by (afi, safi); in a VRF only that VRF's unicast families.
    `ebgp_multihop` is a TTL, 0: directly connected. `ttl_security` is a number of hops, 0: off.
    """

    address: bytes = b""
    vrf: str = DEFAULT_VRF
    remote_as: int = 0
    peer_group: str = ""
    update_source: str = ""
    ebgp_multihop: int = 0
    ttl_security: int = 0
    mode: ConnectionMode = ConnectionMode.BOTH
    password: str = field(default="", repr=False)
    description: str = ""
    shutdown: bool = False
    timers: Timers | None = None
    families: Mapping[Family, NeighborFamily] = field(factory=dict)


@frozen
class ListenRange:
    prefix: Prefix
    peer_group: str


@frozen
class Redistribute:
    """`source` is a RIB owner: connected or static."""

    source: str
    route_map: str = ""


@frozen
class FamilyConfig:
    """`address-family ...` of the process or of one VRF."""

    redistribute: tuple[Redistribute, ...] = ()
    networks: tuple[tuple[Prefix, str], ...] = ()
    """(prefix, route map or '')"""
    default_information: bool = False


@frozen
class BgpConfig:
    """`asn` 0: no BGP here. `neighbors` by (vrf, address). `families` by (afi, safi, vrf).

    `label_modes` by (afi, vrf); vrf '*' is all-vrfs. `retain_all_route_targets`: keep routes that no VRF imports.
    """

    asn: int = 0
    router_id: bytes = b""
    log_neighbor_changes: bool = True
    neighbors: Mapping[tuple[str, bytes], NeighborConfig] = field(factory=dict)
    peer_groups: Mapping[str, NeighborConfig] = field(factory=dict)
    listen_ranges: tuple[ListenRange, ...] = ()
    listen_limit: int = 100
    families: Mapping[tuple[Afi, Safi, str], FamilyConfig] = field(factory=dict)
    next_hop_interface: str = ""
    label_modes: Mapping[tuple[Afi, str], LabelMode] = field(factory=dict)
    timers: Timers = field(default=Timers())
    default_ipv4_unicast: bool = True
    graceful_restart: bool = False
    retain_all_route_targets: bool = True
    port: int = 179

    def label_mode(self, afi: Afi, vrf: str) -> LabelMode:
        return self.label_modes.get((afi, vrf)) or self.label_modes.get((afi, "*")) or LabelMode.PER_PREFIX
