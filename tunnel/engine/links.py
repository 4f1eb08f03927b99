"""Links: whether an interface can carry packets, and why not. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from stack.addr import DEFAULT_VRF
from stack.events import Interface, InterfaceKind, LinkRow, NextHopRow
from stack.nettypes import Device
from tunnel.config import TunnelInterface, TunnelMode
from tunnel.engine.mirror import is_kernels
from tunnel.engine.neighbours import Link
from tunnel.engine.profile import gre_overhead
from tunnel.engine.security import protected_mtu
from tunnel.engine.tunnels import tunnel_source

__all__ = [
    "RECURSIVE",
    "device_link",
    "is_ours",
    "link_local",
    "resolving",
    "root_cause",
    "tunnel_link",
]

RECURSIVE = "recursive routing"
"""How the reason of a link begins that is down because it leads into itself."""

_FROM_DEVICE = (InterfaceKind.ETHERNET, InterfaceKind.TUN)


def is_ours(interface: Interface) -> bool:
    """An Ethernet attachment whose addresses we answer for."""
    return interface.row.kind is InterfaceKind.ETHERNET and not is_kernels(interface)


def resolving(interface: Interface | None) -> Link | None:
    """How neighbours of an interface are resolved; None: not by us."""
    if interface is None or interface.row.kind is not InterfaceKind.ETHERNET or not interface.up or not interface.mac:
        return None
    if is_kernels(interface) and not interface.row.mpls:
        return None
    return Link(interface.mac, interface.addresses, answers=is_ours(interface))


def link_local(mac: bytes) -> bytes:
    """fe80::/64 with the MAC's modified EUI-64 (RFC 4291 appendix A)."""
    return b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:6]


def device_link(interface: Interface, devices: Mapping[str, Device]) -> LinkRow | None:
    """Of an interface with a host device; None for those that need none (loopbacks)."""
    row = interface.row
    if row.kind not in _FROM_DEVICE:
        return None
    device = devices.get(row.device)
    if device is None:
        return LinkRow(
            up=False, mtu=row.mtu, reason=f"no device {row.device} on this host" if row.device else "no device"
        )
    if row.vlan is not None and row.vrf == DEFAULT_VRF:
        reason = "a dot1Q sub-interface must be in a VRF: the default one stays with the host, which has no tags"
        return LinkRow(up=False, mtu=row.mtu, mac=device.mac, reason=reason)
    mtu = min(row.mtu, device.mtu)
    return LinkRow(device.up, mtu, device.mac, "" if device.up else f"device {device.name} is down")


def root_cause(reason: str) -> str:
    """The last of a chain of causes. A way that leads into the tunnel itself is dead because the tunnel is, whose reason
    would then quote itself, and grow for ever."""
    return reason.rpartition(": ")[2]


def tunnel_link(
    tunnel: TunnelInterface, interface: Interface, interfaces: Mapping[str, Interface], way: NextHopRow | None
) -> LinkRow:
    """A configured tunnel is up when its source is and its destination has a way that does not lead into itself."""
    room = protected_mtu(1500, tunnel.key, None) if interface.row.protection else 1500 - gre_overhead(tunnel.key)
    mtu = min(interface.row.mtu, room)
    fault, _ = tunnel_source(tunnel, interfaces)
    if not fault and tunnel.mode is TunnelMode.GRE:
        if not tunnel.destination:
            fault = "no tunnel destination"
        elif way is None:
            fault = "the way to the tunnel destination is not known yet"
        elif way.interface == interface.name or way.reason.startswith(f"{interface.name} is down"):
            fault = f"{RECURSIVE}: the tunnel's destination is reached through the tunnel itself"
        elif not way.usable:
            fault = f"tunnel destination unreachable: {root_cause(way.reason)}"
    return LinkRow(not fault, mtu, reason=fault)
