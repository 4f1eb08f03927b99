"""What the tunnel data plane is told. The IOS lines that set it are in tunnel.lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import field, frozen

from stack.addr import Prefix
from stack.policy.routemap import RouteMap, default_route_map

__all__ = [
    "L3vpnProfile",
    "StaticBinding",
    "TransportProtocol",
    "TunnelConfig",
    "TunnelInterface",
    "TunnelMode",
    "system_route_maps",
]


class TransportProtocol(Enum):
    GRE = "gre"
    MPLS_IN_IP = "mpls-in-ip"


class TunnelMode(Enum):
    GRE = "gre ip"
    MGRE = "gre multipoint"


@frozen
class L3vpnProfile:
    """`l3vpn encapsulation ip NAME`. `source` empty: automatic, from BGP. `key` None: GRE without key.

    `endpoint_check`: take tunnel packets only from known endpoints (semantics 3).
    """

    name: str
    source: str = ""
    protocol: TransportProtocol = TransportProtocol.GRE
    key: int | None = None
    protection: str = ""
    mdt_loopback: str = ""
    endpoint_check: bool = True


@frozen
class TunnelInterface:
    """The tunnel lines of `interface TunnelN`. `vrf` is the transport side's (`tunnel vrf`)."""

    name: str
    source: str = ""
    source_address: bytes = b""
    destination: bytes = b""
    mode: TunnelMode = TunnelMode.GRE
    key: int | None = None
    vrf: str = ""


@frozen
class StaticBinding:
    """`mpls static binding ipv4 PREFIX MASK ...`: the local label, or the label to push towards `next_hop`."""

    prefix: Prefix
    local: int | None = None
    next_hop: bytes = b""
    output: int | None = None


@frozen
class TunnelConfig:
    """Profiles in the order written: only the first is provisioned, a second is refused with that reason."""

    profiles: Mapping[str, L3vpnProfile] = field(factory=dict)
    tunnels: Mapping[str, TunnelInterface] = field(factory=dict)
    bindings: tuple[StaticBinding, ...] = ()


def system_route_maps(config: TunnelConfig) -> Iterable[RouteMap]:
    """The route map that comes with each profile, to be attached like any other."""
    return [default_route_map(name) for name in config.profiles]
