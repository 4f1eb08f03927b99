"""What an operator sees of the tunnel data plane: pure renderers of the engine's snapshot, in the mGRE document's layout."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

from stack.addr import format_address
from stack.events import SaKey
from stack.ios.command import Command, CommandError, Scene, Shown
from stack.tables import Tables
from stack.tables.adjacency import Adjacency, AdjacencyKind
from tunnel.config import TransportProtocol, TunnelMode
from tunnel.engine.endpoints import Endpoint
from tunnel.engine.engine import Snapshot
from tunnel.engine.neighbours import Neighbour, NeighbourState
from tunnel.engine.profile import Health, Provision
from tunnel.engine.security import sa_fault

__all__ = ["COMMANDS", "adjacency", "endpoints", "neighbours", "profiles", "refused"]


def clock(seconds: float) -> str:
    """Seconds as `00:00:42`."""
    whole = max(0, int(seconds))
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _in_order(name: str) -> tuple[str, tuple[int, ...]]:
    """Sorts Tunnel2 before Tunnel10, and Ethernet0/2 before Ethernet0/10."""
    return re.split(r"\d", name, maxsplit=1)[0], tuple(map(int, re.findall(r"\d+", name)))


def _base(endpoint: Endpoint) -> int:
    """A number that names an endpoint in the output, as IOS prints an address of its memory: stable while it lives."""
    name = zlib.crc32(endpoint.tunnel.encode() + endpoint.transport)
    return (name & 0xFFFFFF) << 4


def endpoints(snapshot: Snapshot, now: float, tunnel: str = "") -> Shown:
    """`show tunnel endpoints [tunnel N]`. A protected tunnel's endpoints say how their security association is."""
    tunnels = _tunnels(snapshot)
    protected = {a.sa: a for a in snapshot.adjacencies.values() if a.sa is not None}
    if tunnel and tunnel not in tunnels:
        raise CommandError(f"there is no tunnel {tunnel}; there are: {', '.join(sorted(tunnels)) or 'none'}")
    lines: list[str] = []
    value = []
    for name in sorted([tunnel] if tunnel else tunnels, key=_in_order):
        rows = [endpoint for endpoint in snapshot.endpoints if endpoint.tunnel == name]
        lines += ["", f"{name} running in {tunnels[name]} mode", ""]
        for endpoint in rows:
            base = f"0x{_base(endpoint):X}"
            lines.append(
                f"Endpoint transport {format_address(endpoint.transport)} Refcount {endpoint.refcount} "
                f"Base {base} Create Time {clock(now - endpoint.created)}"
            )
            security = protected.get(SaKey(name, endpoint.transport)) or protected.get(SaKey(name))
            if security is not None:
                lines.append(_security_line(security, snapshot))
            lines += [
                f"overlay {format_address(row.address)} Refcount {row.refcount} Parent {base} "
                f"Create Time {clock(now - row.created)}"
                for row in endpoint.overlays
            ]
        alone = protected.get(SaKey(name))
        if alone is not None and not rows:
            lines.append(f"Far end {format_address(alone.destination)}")
            lines.append(_security_line(alone, snapshot))
        found = [
            {
                **_endpoint(e, now),
                "security": _security(protected.get(SaKey(name, e.transport)) or alone, snapshot),
            }
            for e in rows
        ]
        value.append(
            {"tunnel": name, "mode": tunnels[name], "endpoints": found, "security": _security(alone, snapshot)}
        )
    return Shown("\n".join(lines), value)


def _endpoint(endpoint: Endpoint, now: float) -> dict[str, Any]:
    return {
        "transport": format_address(endpoint.transport),
        "refcount": endpoint.refcount,
        "age-seconds": round(now - endpoint.created, 3),
        "overlays": [
            {
                "address": format_address(row.address),
                "refcount": row.refcount,
                "clients": list(row.clients),
                "age-seconds": round(now - row.created, 3),
            }
            for row in endpoint.overlays
        ],
    }


def _security(adjacency: Adjacency | None, snapshot: Snapshot) -> dict[str, Any] | None:
    """The security association that an adjacency hangs on, as plain values; None: it is not protected."""
    if adjacency is None or adjacency.sa is None:
        return None
    row = snapshot.security.get(adjacency.sa)
    return {
        "profile": adjacency.protection,
        "up": row is not None and row.up,
        "reason": sa_fault(row),
        "identity": row.identity if row is not None else "",
        "child": row.child if row is not None else 0,
    }


def _security_line(adjacency: Adjacency, snapshot: Snapshot) -> str:
    said = _security(adjacency, snapshot) or {}
    state = f"up, peer {said['identity'] or 'unnamed'}" if said["up"] else said["reason"]
    return f"IPsec profile {adjacency.protection}: {state}"


def _tunnels(snapshot: Snapshot) -> dict[str, str]:
    """Tunnel -> mode, as printed."""
    found = {
        name: "multi-GRE/IP" if tunnel.mode is TunnelMode.MGRE else "GRE/IP"
        for name, tunnel in snapshot.tunnels.items()
    }
    for provision in snapshot.profiles.values():
        if provision.row.tunnel:
            in_ip = provision.profile.protocol is TransportProtocol.MPLS_IN_IP
            found[provision.row.tunnel] = "multi-MPLS/IP" if in_ip else "multi-GRE/IP"
    return found


def adjacency(snapshot: Snapshot, tables: Tables, tunnel: str = "") -> Shown:
    """`show adjacency [tunnel N | INTERFACE]`: an IP and a TAG line for what can carry labels. The number in brackets counts
    who holds it: the table, the endpoint and its overlays for IP; the table and next hops that push labels for TAG."""
    if tunnel and tunnel not in tables.interfaces.rows:
        raise CommandError(f"there is no interface {tunnel}")
    users: dict[Any, int] = {}
    for hop in tables.nexthops:
        if hop.adjacency is not None:
            users[hop.adjacency] = users.get(hop.adjacency, 0) + 1
    overlays = {(e.tunnel, row.address): len(e.overlays) for e in snapshot.endpoints for row in e.overlays}
    header = ["", "      Protocol Interface                Address", "-----"]
    lines, value = [], []
    for key, row in sorted(snapshot.adjacencies.items(), key=lambda item: (_in_order(item[0].interface), item[0])):
        if (tunnel and key.interface != tunnel) or (row.kind is AdjacencyKind.HOST and not key.address):
            continue  # whoever is attached to a device of the kernel's: nobody in particular
        address = format_address(key.address) if key.address else "point2point"
        held = 1 + users.get(key, 0)
        counts = {"IP": held + 1 + overlays.get((key.interface, key.address), 0)}
        if row.kind in (AdjacencyKind.GRE, AdjacencyKind.MPLS_IN_IP):
            counts["TAG"] = held + 1
        for protocol, count in counts.items():
            mark = f" (IPsec profile {row.protection})" if row.protection else ""
            if not row.complete:
                mark = f" (incomplete: {_why_incomplete(row)})"
            lines.append(f"{protocol:<7} {key.interface:<22} {address}({count}){mark}")
        value.append({**_adjacency(row, address, counts), "security": _security(row, snapshot)})
    return Shown("\n".join([*header, *lines]), value)


def _why_incomplete(row: Adjacency) -> str:
    return row.reason or NeighbourState.ASKING.value


def _adjacency(row: Adjacency, address: str, counts: Mapping[str, int]) -> dict[str, Any]:
    return {
        "interface": row.key.interface,
        "address": address,
        "kind": row.kind.value,
        "complete": row.complete,
        "reason": "" if row.complete else _why_incomplete(row),
        "mtu": row.mtu,
        "refcounts": dict(counts),
        "source": format_address(row.source) if row.source else "",
        "destination": format_address(row.destination) if row.destination else "",
        "gre-key": row.gre_key,
    }


def profiles(snapshot: Snapshot, name: str = "") -> Shown:
    """`show l3vpn encapsulation [ip] [NAME]`: the profile's health and its tunnel."""
    if name and name not in snapshot.profiles:
        known = ", ".join(snapshot.profiles) or "none"
        raise CommandError(f"there is no L3VPN encapsulation profile {name!r}; there are: {known}")
    lines: list[str] = []
    value = []
    for key, provision in snapshot.profiles.items():
        if name and key != name:
            continue
        security = _profile_security(provision, snapshot)
        lines += ["", *_profile(key, provision, security)]
        value.append(
            {
                "name": key,
                "tunnel": provision.row.tunnel,
                "vrf": provision.row.vrf,
                "source-interface": provision.row.source_interface,
                "source": format_address(provision.row.source) if provision.row.source else "",
                "automatic": provision.automatic,
                "protocol": provision.profile.protocol.value,
                "gre-key": provision.profile.key,
                "usable": provision.row.usable,
                "reason": provision.row.reason,
                "protection": provision.profile.protection,
                "health": [
                    {"subject": h.subject, "ok": not h.fault, "fault": h.fault} for h in (*provision.health, *security)
                ],
            }
        )
    return Shown("\n".join(lines), value)


def _profile_security(provision: Provision, snapshot: Snapshot) -> tuple[Health, ...]:
    """How many endpoints of a protected profile have a security association; the fault of the first that has none."""
    if not provision.profile.protection:
        return ()
    mine = {a.sa: a for _, a in sorted(snapshot.adjacencies.items()) if a.sa and a.sa.interface == provision.row.tunnel}
    without = [
        f"{format_address(key.remote)}: {fault}" for key in mine if (fault := sa_fault(snapshot.security.get(key)))
    ]
    subject = (
        f"IPsec: profile {provision.profile.protection}, {len(mine) - len(without)} of {len(mine)} endpoints protected"
    )
    return (Health(subject, without[0] if without else ""),)


def _profile(name: str, provision: Provision, security: tuple[Health, ...]) -> list[str]:
    source = provision.row.source_interface or "none"
    key = provision.profile.key
    return [
        f"Profile: {name}",
        f"transport ipv4 source {'Auto: ' if provision.automatic else ''}{source}",
        f"protocol {provision.profile.protocol.value}" + ("" if key is None else f" key {key}"),
        *map(_health, (*provision.health, *security)),
    ]


def _health(line: Health) -> str:
    return f"{line.subject} [OK]" if not line.fault else f"{line.subject} [FAIL: {line.fault}]"


def neighbours(rows: tuple[Neighbour, ...], now: float, family: int) -> Shown:
    """`show arp` (family 4) and `show ipv6 neighbors` (16)."""
    mine = [row for row in rows if len(row.key.address) == family]
    if family == 4:
        lines = ["Protocol  Address          Age (min)  Hardware Addr   Type   Interface"]
        lines += [
            f"Internet  {format_address(n.key.address):<16} {int((now - n.since) / 60):>9}  "
            f"{_dotted_mac(n.mac) or 'Incomplete':<14}  ARPA   {n.key.interface}"
            for n in mine
        ]
    else:
        lines = ["IPv6 Address                              Age Link-layer Addr State Interface"]
        lines += [
            f"{format_address(n.key.address):<39} {int((now - n.since) / 60):>5} "
            f"{_dotted_mac(n.mac) or '-':<15} {n.state.name[:5]:<5} {n.key.interface}"
            for n in mine
        ]
    value = [
        {
            "interface": n.key.interface,
            "address": format_address(n.key.address),
            "mac": n.mac.hex(":"),
            "state": n.state.name.lower(),
        }
        for n in mine
    ]
    return Shown("\n".join(lines), value)


def _dotted_mac(mac: bytes) -> str:
    text = mac.hex()
    return ".".join(text[i : i + 4] for i in range(0, 12, 4)) if text else ""


def _named(values: Mapping[str, Any]) -> str:
    tunnel = values.get("tunnel")
    return "" if tunnel is None else f"Tunnel{tunnel}"


REFUSED_SHOWN = 50
"""Refused virtual-access interfaces printed; the value has all."""


def refused(snapshot: Snapshot) -> Shown:
    """`show tunnel refused`: peers' interfaces that cannot be, and what was not believed of neighbours and endpoints."""
    clones = sorted(snapshot.refused_access.items(), key=lambda item: _in_order(item[0]))
    lines = [f"Virtual-access interfaces refused: {len(clones)}"]
    lines += [f"  {name:<22} {reason}" for name, reason in clones[:REFUSED_SHOWN]]
    if len(clones) > REFUSED_SHOWN:
        lines.append(f"  and {len(clones) - REFUSED_SHOWN} more")
    lines.append(f"Messages and claims refused: {sum(snapshot.refused.values())}")
    lines += [f"  {count:>10}  {what}" for what, count in sorted(snapshot.refused.items())]
    value = {
        "virtual-access": [{"name": name, "reason": reason} for name, reason in clones],
        "refused": [{"what": what, "count": count} for what, count in sorted(snapshot.refused.items())],
    }
    return Shown("\n".join(lines), value)


COMMANDS: tuple[Command, ...] = (
    Command(
        "show tunnel endpoints [tunnel {tunnel:int:0-2147483647}]",
        lambda scene, values: endpoints(scene.service.engine.snapshot(), scene.now, _named(values)),
        "remote ends of tunnels, and who claims them",
    ),
    Command(
        "show tunnel refused",
        lambda scene, _values: refused(scene.service.engine.snapshot()),
        "virtual-access interfaces, neighbours and endpoints that were refused, and why",
    ),
    Command(
        "show adjacency [tunnel {tunnel:int:0-2147483647} | {interface:interface}]",
        lambda scene, values: adjacency(
            scene.service.engine.snapshot(), scene.tables, values.get("interface") or _named(values)
        ),
        "what the packet path knows of each neighbour",
    ),
    Command(
        "show l3vpn encapsulation ip [{name:line}]",
        lambda scene, values: profiles(scene.service.engine.snapshot(), values.get("name", "")),
        "health of L3VPN encapsulation profiles",
    ),
    Command(
        "show l3vpn encapsulation {name:line}",
        lambda scene, values: profiles(scene.service.engine.snapshot(), values["name"]),
        "health of one L3VPN encapsulation profile",
    ),
    Command(
        "show arp",
        lambda scene, _values: _neighbours(scene, 4),
        "IPv4 neighbours of the node's own attachments",
    ),
    Command(
        "show ipv6 neighbors",
        lambda scene, _values: _neighbours(scene, 16),
        "IPv6 neighbours of the node's own attachments",
    ),
)


def _neighbours(scene: Scene, family: int) -> Shown:
    return neighbours(scene.service.engine.snapshot().neighbours, scene.now, family)
