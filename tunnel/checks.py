"""What is legal but wrong in the configuration of tunnels, and what other packages' checks may want to know of it."""

from __future__ import annotations

from collections.abc import Iterator

from stack.addr import DEFAULT_VRF, format_address, netmask
from stack.config import InterfaceConfig, NodeConfig
from stack.ios.grammar import Claim, Finding, Reference, Sections
from stack.policy.routemap import default_route_map
from tunnel.config import L3vpnProfile, TransportProtocol, TunnelConfig, TunnelInterface, TunnelMode
from tunnel.lines import ONE_TUNNEL

__all__ = ["CHECKS"]

Said = Finding | Claim | Reference


def check_tunnel(config: Sections) -> Iterator[Said]:
    tunnel = config[TunnelConfig]
    for index, profile in enumerate(tunnel.profiles.values()):
        line = f"l3vpn encapsulation ip {profile.name}"
        yield Claim("profile", profile.name, line, default_route_map(profile.name).name)
        if index:
            yield Finding("warning", f"L3VPN profile {profile.name!r} is not provisioned: {ONE_TUNNEL}", line)
        else:
            yield from _profile(profile, line, config[NodeConfig].interfaces.get(profile.source))
    for one in tunnel.tunnels.values():
        yield from _interface(one)
        yield from _source_vrf(one, config[NodeConfig].interfaces.get(one.source))
    yield from _alike(tunnel, config[NodeConfig])
    for interface in config[NodeConfig].interfaces.values():
        if interface.protection:
            line = f"tunnel protection ipsec profile {interface.protection}"
            yield from _needs_profile(interface.protection, line, f"interface {interface.name}")
    for binding in tunnel.bindings:
        if binding.local is not None:
            where = f"{format_address(binding.prefix.network)} {netmask(binding.prefix.length)}"
            yield Claim("static-label", str(binding.local), f"mpls static binding ipv4 {where}", binding.local)


def _alike(tunnel: TunnelConfig, node: NodeConfig) -> Iterator[Said]:
    """IKE knows a tunnel by its ends: the selectors of two with the same ends are the same, and GRE's key is inside."""
    ends: dict[tuple[str, str, bytes, bytes], str] = {}
    for one in tunnel.tunnels.values():
        interface = node.interfaces.get(one.name)
        if interface is None or not interface.protection or not one.destination:
            continue
        other = ends.setdefault((one.vrf, one.source, one.source_address, one.destination), one.name)
        if other != one.name:
            text = f"{one.name} and {other} have the same ends: IKE cannot tell their security associations apart"
            yield Finding("error", text, f"tunnel destination {format_address(one.destination)}")


def _profile(profile: L3vpnProfile, line: str, source: InterfaceConfig | None) -> Iterator[Said]:
    if profile.source:
        source_line = f"transport ipv4 source {profile.source}"
        yield Claim("transport-source", profile.source, source_line)
        yield Reference("interface", profile.source, source_line, "the tunnel has no source")
        if source is not None and (fault := _unfit(source)):
            yield Finding("warning", f"{source.name} {fault}: the tunnel stays down", source_line)
    else:
        yield Claim("automatic-source", profile.name, line)
    if profile.mdt_loopback and profile.mdt_loopback == profile.source:
        text = "mGRE and the multicast distribution tree must not share a loopback"
        yield Finding("error", text, f"mdt loopback {profile.mdt_loopback}")
    if profile.protection:
        yield from _needs_profile(profile.protection, f"protection ipsec profile {profile.protection}", line)
    if profile.protocol is TransportProtocol.MPLS_IN_IP and (profile.key is not None or profile.protection):
        yield Finding(
            "error", "MPLS-in-IP would go round the key and the protection of the tunnel", "protocol mpls-in-ip"
        )


def _needs_profile(name: str, line: str, under: str) -> Iterator[Said]:
    """A protected tunnel fails closed. The profile `default` exists without a line."""
    if name != "default":
        yield Reference("ipsec-profile", name, line, "the tunnel carries nothing", "error", under)


def _unfit(source: InterfaceConfig) -> str:
    """Why an interface cannot be a transport source ('' if it can)."""
    if source.vrf != DEFAULT_VRF:
        return f"is in VRF {source.vrf!r}, not in the transport network"
    if source.shutdown:
        return "is shut down"
    if not (source.unnumbered or source.negotiated or any(len(one.address) == 4 for one in source.addresses)):
        return "has no IPv4 address"
    return ""


def _interface(tunnel: TunnelInterface) -> Iterator[Said]:
    line = f"interface {tunnel.name}"
    template = tunnel.name.startswith("Virtual-Template")  # whose clones get their ends from the peer
    yield Reference("interface", tunnel.name, line)
    if tunnel.source:
        yield Reference("interface", tunnel.source, f"tunnel source {tunnel.source}", f"{tunnel.name} stays down")
    elif not tunnel.source_address and not template:
        yield Finding("warning", f"{tunnel.name} has no tunnel source: it stays down", line)
    if tunnel.vrf:
        transport = f"tunnel vrf {tunnel.vrf}"
        yield Reference("vrf", tunnel.vrf, transport, f"{tunnel.name} stays down", "error")
    if tunnel.destination:
        destination = f"tunnel destination {format_address(tunnel.destination)}"
        yield Claim("tunnel", tunnel.name, destination, (tunnel.vrf, tunnel.destination))
    elif tunnel.mode is TunnelMode.GRE and not template:
        yield Finding("warning", f"{tunnel.name} has no tunnel destination: it stays down", line)


def _source_vrf(tunnel: TunnelInterface, source: InterfaceConfig | None) -> Iterator[Said]:
    """A template's clones have their ends, and the VRF of these, from the peer."""
    if source is None or source.vrf == tunnel.vrf or tunnel.name.startswith("Virtual-Template"):
        return
    where, there = (f"VRF {vrf!r}" if vrf else "the default VRF" for vrf in (tunnel.vrf, source.vrf))
    text = f"{tunnel.name} stays down: its own packets travel in {where}, and {source.name} is in {there}"
    yield Finding("warning", text, f"tunnel source {tunnel.source}")


CHECKS = (check_tunnel,)
