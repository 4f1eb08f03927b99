"""`show bgp neighbors [ADDRESS]`: a session and its families in full."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bgp.engine.fsm import State
from bgp.engine.peers import PeerSnapshot
from bgp.engine.rib.snapshot import FamilyCount
from bgp.engine.session_ends import EndReason, printable
from bgp.show.summary import family_title, state_word
from bgp.wire import Family
from stack.addr import format_address
from stack.ios.times import age

__all__ = ["neighbor_text", "neighbor_value"]

_KINDS = (
    ("Opens", "Open"),
    ("Notifications", "Notification"),
    ("Updates", "Update"),
    ("Keepalives", "Keepalive"),
    ("Route Refresh", "RouteRefresh"),
)


def neighbor_text(peer: PeerSnapshot, counts: Iterable[FamilyCount], now: float) -> str:
    address = format_address(peer.key[1])
    vrf = f",  vrf {peer.key[0]}" if peer.key[0] else ""
    link = "internal" if peer.ibgp else "external"
    up = peer.state is State.ESTABLISHED
    lines = [f"BGP neighbor is {'*' if peer.dynamic else ''}{address}{vrf},  remote AS {peer.asn}, {link} link"]
    if peer.config.description:
        lines.append(f" Description: {peer.config.description}")
    if peer.config.peer_group:
        lines.append(f" Member of peer-group {peer.config.peer_group} for session parameters")
    lines += [
        f"  BGP version 4, remote router ID {format_address(peer.router_id or bytes(4))}",
        f"  BGP state = {state_word(peer)}{f', up for {age(now - peer.since)}' if up else ''}",
    ]
    if peer.bound:
        lines.append(f"  Address assigned by IKEv2 to {printable(peer.bound)}")
    if peer.hold.value:
        lines.append(f"  Not started: {peer.hold.value}")
    if up:
        lines += [
            _timers(peer, now),
            "  Neighbor capabilities:",
            f"    Route refresh: advertised{' and received(new)' if peer.refresh else ''}",
            f"    Four-octets ASN Capability: advertised{' and received' if peer.asn4 else ''}",
        ]
    lines += _families(peer)
    lines += _statistics(peer, _waiting(peer, counts))
    for family in sorted(peer.families):
        lines += _family(peer, family, counts)
    lines += _end(peer, now)
    return "\n".join(lines)


def _timers(peer: PeerSnapshot, now: float) -> str:
    read, wrote = age(now - peer.last_received), age(now - peer.last_sent)
    hold, keepalive = peer.hold_time, f"{peer.keepalive:g}"
    return f"  Last read {read}, last write {wrote}, hold time is {hold}, keepalive interval is {keepalive} seconds"


def _families(peer: PeerSnapshot) -> list[str]:
    return [
        f"    Address family {family_title(family)}: advertised{' and received' if family in peer.families else ''}"
        for family in sorted(peer.offered)
    ]


def _waiting(peer: PeerSnapshot, counts: Iterable[FamilyCount]) -> int:
    """Messages that wait for it, of all families."""
    return sum(c.peers[peer.key][2] for c in counts if c.vrf == peer.key[0] and peer.key in c.peers)


def _statistics(peer: PeerSnapshot, waiting: int) -> list[str]:
    """InQ is in octets (what came and was not read yet), OutQ in messages."""
    lines = [
        "  Message statistics:",
        f"    InQ depth is {peer.waiting_octets}",
        f"    OutQ depth is {waiting}",
        "",
        f"{'Sent':>25} {'Rcvd':>10}",
    ]
    lines += [f"    {f'{title}:':<15} {peer.sent.get(k, 0):>5} {peer.received.get(k, 0):>10}" for title, k in _KINDS]
    lines.append(f"    {'Total:':<15} {sum(peer.sent.values()):>5} {sum(peer.received.values()):>10}")
    if peer.faulty_updates:
        lines.append(f"    Malformed updates, repaired (RFC 7606): {peer.faulty_updates}")
    if peer.contained_faults:
        lines.append(f"    Faults of ours while working on its messages: {peer.contained_faults}")
    lines += [f"    {reason}: {number}" for reason, number in sorted(peer.refused.items())]
    lines.append("  Default minimum time between advertisement runs is 0 seconds")
    return lines


def _family(peer: PeerSnapshot, family: Family, counts: Iterable[FamilyCount]) -> list[str]:
    found = next((c for c in counts if c.family == family and c.vrf == peer.key[0]), None)
    if found is None or peer.key not in found.peers:
        return []
    prefixes, version, waiting = found.peers[peer.key]
    return [
        "",
        f" For address family: {family_title(family)}",
        f"  BGP table version {found.version}, neighbor version {version}/0",
        f"  Output queue size : {waiting}",
        f"  {prefixes} accepted prefixes",
    ]


def _end(peer: PeerSnapshot, now: float) -> list[str]:
    lines = ["", f"  Connections established {peer.established}; dropped {peer.dropped}"]
    if peer.last_end_at:
        lines.append(f"  Last reset {age(now - peer.last_end_at)}, due to {peer.last_end}")
    elif not peer.established:
        lines.append("  Last reset never")
    if peer.last_attempt.reason is not EndReason.NONE:
        lines.append(f"  Last attempt: {peer.last_attempt}")
    if peer.next_attempt is not None and peer.state is not State.ESTABLISHED:
        lines.append(f"  Next attempt in {age(peer.next_attempt - now)}")
    if peer.state is State.ESTABLISHED:
        lines.append(f"Local host: {format_address(peer.local)}, Foreign host: {format_address(peer.remote)}")
    return lines


def neighbor_value(peer: PeerSnapshot, counts: Iterable[FamilyCount], now: float) -> dict[str, Any]:
    tables = {c.family: c.peers[peer.key] for c in counts if c.vrf == peer.key[0] and peer.key in c.peers}
    return {
        "neighbor-address": format_address(peer.key[1]),
        "vrf": peer.key[0] or "default",
        "peer-as": peer.asn,
        "local-as": peer.local_asn,
        "peer-type": "INTERNAL" if peer.ibgp else "EXTERNAL",
        "peer-group": peer.config.peer_group,
        "description": peer.config.description,
        "dynamic": peer.dynamic,
        "ikev2-identity": peer.bound,
        "refused": dict(peer.refused),
        "session-state": peer.state.name,
        "hold": peer.hold.value,
        "seconds-in-state": round(now - peer.since, 3),
        "router-id": format_address(peer.router_id) if peer.router_id else None,
        "local-address": format_address(peer.local) if peer.local else None,
        "hold-time": peer.hold_time,
        "keepalive-interval": peer.keepalive,
        "messages": {"sent": dict(peer.sent), "received": dict(peer.received)},
        "octets": {"sent": peer.octets_sent, "received": peer.octets_received},
        "established-transitions": peer.established,
        "dropped": peer.dropped,
        "faulty-updates": peer.faulty_updates,
        "last-end": str(peer.last_end),
        "last-attempt": str(peer.last_attempt),
        "afi-safis": [
            {
                "afi-safi": str(family),
                "active": family in peer.families,
                "prefixes-received": tables.get(family, (0, 0, 0))[0],
                "table-version": tables.get(family, (0, 0, 0))[1],
            }
            for family in sorted(peer.offered)
        ],
    }
