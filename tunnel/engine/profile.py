"""The L3VPN encapsulation profile: what the one mGRE tunnel of a PE is made of, and how healthy it is. Pure.

The profile names (or finds) its transport source; the system provisions the tunnel, its tunnel-encapsulation VRF, and a
dummy tunnel beside it. One tunnel configuration a PE: any further profile is refused with that reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import frozen

from stack.addr import DEFAULT_VRF
from stack.events import Interface, InterfaceKind, InterfaceRow, ProfileRow, SourceRow
from tunnel.config import L3vpnProfile, TransportProtocol, TunnelConfig

__all__ = ["ENCAP_VRF", "Health", "Provision", "gre_overhead", "provision"]

ENCAP_VRF = "Tunnel_Encap"
"""The tunnel-encapsulation VRF. If a VRF of that name is configured, an underscore is put behind it."""

SECOND = "not provisioned: a PE supports one tunnel configuration, and profile {} has it"


@frozen
class Health:
    """A line of `show l3vpn encapsulation ip`: what is looked at, and the fault (empty: OK)."""

    subject: str
    fault: str = ""


@frozen
class Provision:
    """What a profile came to. `interfaces` are the tunnel and its dummy; empty while nothing is provisioned."""

    profile: L3vpnProfile
    row: ProfileRow
    interfaces: tuple[InterfaceRow, ...]
    health: tuple[Health, ...]
    automatic: bool


def gre_overhead(key: int | None, protocol: TransportProtocol = TransportProtocol.GRE) -> int:
    """Octets around a labelled packet: outer IPv4, and GRE with or without key."""
    if protocol is TransportProtocol.MPLS_IN_IP:
        return 20
    return 24 if key is None else 28


def provision(
    config: TunnelConfig,
    interfaces: Mapping[str, Interface],
    sources: Mapping[str, SourceRow],
    vrfs: Collection[str],
    configured: Collection[str],
) -> dict[str, Provision]:
    """Every profile by name. `sources`: interfaces that BGP uses as its own end; `configured`: names of interfaces that the
    configuration has, which the automatic tunnels must not take."""
    found: dict[str, Provision] = {}
    first = next(iter(config.profiles), "")
    for name, profile in config.profiles.items():
        if name != first:
            fault = SECOND.format(first)
            row = ProfileRow("", "", "", b"", usable=False, reason=fault)
            found[name] = Provision(profile, row, (), (Health("Tunnel", fault),), automatic=not profile.source)
        else:
            found[name] = _provision(profile, interfaces, sources, vrfs, configured)
    return found


def _provision(
    profile: L3vpnProfile,
    interfaces: Mapping[str, Interface],
    sources: Mapping[str, SourceRow],
    vrfs: Collection[str],
    configured: Collection[str],
) -> Provision:
    tunnel, dummy = _free_names(configured)
    vrf = ENCAP_VRF
    while vrf in vrfs:
        vrf += "_"
    source = profile.source or _automatic(sources)
    fault, address = _source_address(source, interfaces)
    if not source:
        fault = "no transport source: neither `transport ipv4 source` nor a BGP update-source or next-hop interface"
    mismatch = _mismatch(profile, sources)
    created = InterfaceRow(
        name=tunnel,
        kind=InterfaceKind.TUNNEL,
        vrf=vrf,
        mtu=1500 - gre_overhead(profile.key, profile.protocol),
        description=f"L3VPN encapsulation {profile.name}",
        unnumbered=source,
        mpls=True,
        protection=profile.protection,
    )
    beside = InterfaceRow(
        name=dummy, kind=InterfaceKind.TUNNEL, vrf=vrf, description=f"dummy tunnel of {tunnel}", internal=True
    )
    if profile.mdt_loopback and profile.mdt_loopback == source:
        mismatch = f"{source} is also the MDT loopback, and they must differ"
    health = (
        Health(f"Tunnel {tunnel} Created"),
        Health("Tunnel Linestate", fault),
        Health(f"Tunnel Transport Source {'' if profile.source else '(Auto) '}{source or 'none'}", fault or mismatch),
    )
    protected = bool(profile.protection)
    row = ProfileRow(tunnel, vrf, source, address, usable=not fault, reason=fault, protected=protected)
    return Provision(profile, row, (created, beside), health, automatic=not profile.source)


def _free_names(configured: Collection[str]) -> tuple[str, str]:
    names = (f"Tunnel{number}" for number in range(len(configured) + 2))
    free = [name for name in names if name not in configured]
    return free[0], free[1]


def _automatic(sources: Mapping[str, SourceRow]) -> str:
    """`bgp next-hop` wins over `update-source`; of several, the first by name."""
    by_use = sorted(sources, key=lambda name: (sources[name].use != "bgp next-hop", name))
    return by_use[0] if by_use else ""


def _mismatch(profile: L3vpnProfile, sources: Mapping[str, SourceRow]) -> str:
    """The transport source must be the next hop of what the PE advertises (the remote PE sends to that address)."""
    if not profile.source or not sources:
        return ""
    next_hop = _automatic(sources)
    if sources[next_hop].use != "bgp next-hop" and profile.source in sources:
        return ""
    return "" if next_hop == profile.source else f"BGP advertises {next_hop} as next hop"


def _source_address(source: str, interfaces: Mapping[str, Interface]) -> tuple[str, bytes]:
    """(fault, primary IPv4 address) of the source interface."""
    interface = interfaces.get(source)
    if interface is None:
        return f"interface {source} does not exist", b""
    if interface.vrf != DEFAULT_VRF:
        return f"interface {source} is in VRF {interface.vrf}, not in the transport network", b""
    address = primary_v4(interface)
    if not address:
        return f"interface {source} has no IPv4 address", b""
    if not interface.up:
        return f"interface {source} is down", address
    return "", address


def primary_v4(interface: Interface) -> bytes:
    """The interface's primary IPv4 address, or nothing."""
    return next((a for a, row in interface.addresses.items() if len(a) == 4 and not row.secondary), b"")
