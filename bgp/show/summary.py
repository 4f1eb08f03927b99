"""`show bgp summary` and its relatives: one line a neighbour and family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from bgp.engine.fsm import State
from bgp.engine.peers import PeerSnapshot
from bgp.engine.rib.snapshot import FamilyCount
from bgp.engine.session_ends import Hold
from bgp.engine.speaker import SpeakerSnapshot
from bgp.wire import Family
from stack.addr import format_address
from stack.ios.times import age

__all__ = ["FamilySummary", "family_title", "refused_lines", "summaries", "summary_text", "summary_value"]

_HEADER = "Neighbor        V           AS MsgRcvd MsgSent   TblVer  InQ OutQ Up/Down  State/PfxRcd"
_TITLES = {
    (1, 1): "IPv4 Unicast",
    (2, 1): "IPv6 Unicast",
    (1, 128): "VPNv4 Unicast",
    (2, 128): "VPNv6 Unicast",
}


@frozen
class FamilySummary:
    """A family and the neighbours that it is configured for; `counts` of the tables behind it (VRFs' too, for VPN)."""

    family: Family
    counts: tuple[FamilyCount, ...]
    peers: tuple[PeerSnapshot, ...]

    @property
    def version(self) -> int:
        return max((count.version for count in self.counts), default=0)

    def of(self, peer: PeerSnapshot) -> tuple[int, int, int] | None:
        """(prefixes accepted, table version, messages waiting) of a neighbour that is up."""
        return next((count.peers[peer.key] for count in self.counts if peer.key in count.peers), None)


def family_title(family: Family) -> str:
    return _TITLES.get((family.afi, family.safi), str(family))


def summaries(speaker: SpeakerSnapshot, counts: Iterable[FamilyCount], family: Family) -> FamilySummary:
    """What belongs to `family`: of a VPN family also the VRFs and the neighbours in them."""
    mine = [c for c in counts if c.family == family or (family.vpn and c.vrf and c.family.afi == family.afi)]
    if not family.vpn:
        mine = [c for c in mine if not c.vrf]
    peers = [p for p in speaker.peers if family in p.offered and (family.vpn or not p.key[0])]
    if family.vpn:
        peers += [p for p in speaker.peers if p.key[0] and Family(family.afi, 1) in p.offered]
    return FamilySummary(family, tuple(mine), tuple({peer.key: peer for peer in peers}.values()))


def summary_text(speaker: SpeakerSnapshot, summary: FamilySummary, now: float) -> str:
    version = summary.version
    networks, paths = sum(c.networks for c in summary.counts), sum(c.paths for c in summary.counts)
    sets = sum(c.attribute_sets for c in summary.counts)
    lines = [
        f"BGP router identifier {format_address(speaker.router_id)}, local AS number {speaker.asn}",
        f"BGP table version is {version}, main routing table version {version}",
        f"{networks} network entries and {paths} paths, {sets} path attribute sets",
        "",
        _HEADER,
    ]
    lines += [_line(summary, peer, now) for peer in summary.peers]
    if any(peer.dynamic for peer in summary.peers):
        lines += [
            "* Dynamically created based on a listen range command",
            f"Dynamically created neighbors: {speaker.dynamic}, Listen limit: {speaker.listen_limit}",
        ]
    return "\n".join(lines + refused_lines(speaker, now))


def refused_lines(speaker: SpeakerSnapshot, now: float) -> list[str]:
    """Connections that were not taken, by reason, and those addresses that came last."""
    if not speaker.refused:
        return []
    lines = ["Refused connections:"]
    for reason, number in sorted(speaker.refused.items()):
        lines.append(f"  {number} {reason}")
        for (why, vrf, address), (times, last) in reversed(speaker.refusals.items()):
            if why.value == reason:
                where = f" vrf {vrf}" if vrf else ""
                lines.append(f"    {format_address(address)}{where}, {times} times, last {age(now - last)} ago")
    return lines


def _line(summary: FamilySummary, peer: PeerSnapshot, now: float) -> str:
    name = f"{'*' if peer.dynamic else ''}{format_address(peer.key[1])}"
    head = f"{name:<16}" if len(name) < 16 else f"{name}\n{'':<16}"
    prefixes, version, waiting = summary.of(peer) or (0, 1, 0)
    since = age(now - peer.since) if peer.established else "never"
    state = str(prefixes) if peer.state is State.ESTABLISHED else state_word(peer)
    return (
        f"{head}4 {peer.asn:>12} {sum(peer.received.values()):>7} {sum(peer.sent.values()):>7} {version:>8}"
        f" {peer.waiting_octets:>4} {waiting:>4} {since:<8} {state:>8}".rstrip()
    )


def state_word(peer: PeerSnapshot) -> str:
    """The state, and of Idle the reason that IOS puts in brackets."""
    if peer.hold is Hold.SHUTDOWN:
        return "Idle (Admin)"
    if peer.hold is Hold.PREFIX_LIMIT:
        return "Idle (PfxCt)"
    return peer.state.value


def summary_value(speaker: SpeakerSnapshot, summary: FamilySummary, now: float) -> dict[str, Any]:
    return {
        "afi-safi": str(summary.family),
        "router-id": format_address(speaker.router_id),
        "as": speaker.asn,
        "table-version": summary.version,
        "networks": sum(c.networks for c in summary.counts),
        "paths": sum(c.paths for c in summary.counts),
        "dynamic-neighbors": speaker.dynamic,
        "refused": dict(speaker.refused),
        "refusals": [
            {
                "address": format_address(address),
                "vrf": vrf or "default",
                "reason": reason.value,
                "times": times,
                "seconds-ago": round(now - last, 3),
            }
            for (reason, vrf, address), (times, last) in speaker.refusals.items()
        ],
        "neighbors": [_value(summary, peer, now) for peer in summary.peers],
    }


def _value(summary: FamilySummary, peer: PeerSnapshot, now: float) -> dict[str, Any]:
    prefixes, version, waiting = summary.of(peer) or (0, 1, 0)
    return {
        "neighbor-address": format_address(peer.key[1]),
        "vrf": peer.key[0] or "default",
        "peer-as": peer.asn,
        "dynamic": peer.dynamic,
        "session-state": peer.state.name,
        "hold": peer.hold.value,
        "seconds-in-state": round(now - peer.since, 3),
        "messages-received": sum(peer.received.values()),
        "messages-sent": sum(peer.sent.values()),
        "table-version": version,
        "input-queue-octets": peer.waiting_octets,
        "output-queue-messages": waiting,
        "prefixes-received": prefixes,
    }
