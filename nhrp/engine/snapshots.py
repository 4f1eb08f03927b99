"""What the speaker holds, frozen for `show`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import define, field

from nhrp.engine.bindings import Bindings
from nhrp.engine.client import Client
from nhrp.engine.egress import Egress, Record, Stage
from nhrp.engine.node import Node
from nhrp.engine.server import Server
from nhrp.engine.shortcuts import Entry, Shortcuts, State
from nhrp.engine.snapshot import (
    BindingKind,
    BindingSnapshot,
    NhsSnapshot,
    PeerSnapshot,
    PendingSnapshot,
    SpeakerSnapshot,
)
from nhrp.engine.ways import EXCLUDED
from stack.addr import Prefix
from stack.events import AdjacencyKey, SaKey

__all__ = ["speaker_snapshot"]


def speaker_snapshot(
    node: Node,
    bindings: Bindings,
    server: Server,
    client: Client,
    shortcuts: Shortcuts,
    egress: Egress,
    since: Mapping[AdjacencyKey, float],
) -> SpeakerSnapshot:
    rows = [
        *bindings.snapshot(),
        *server.snapshot(),
        *(_shortcut(node, entry) for entry in shortcuts if entry.renews is None),
        *_answers(egress),
        *_requesters(egress),
    ]
    nhs = client.snapshot()
    return SpeakerSnapshot(
        tuple(sorted(rows, key=lambda row: (row.vrf, len(row.prefix.network), row.prefix, row.kind.value))),
        nhs,
        _peers(node, rows, nhs, since),
        tuple(_pending(entry) for entry in shortcuts if entry.state is State.PENDING),
        dict(node.counters),
        dict(node.traffic),
        {name: one.row.network_id for name, one in node.interfaces.items() if one.row.network_id},
    )


_KINDS = {
    State.PENDING: BindingKind.INCOMPLETE,
    State.TUNNEL: BindingKind.INCOMPLETE,
    State.COMPLETE: BindingKind.DYNAMIC,
    State.NEGATIVE: BindingKind.NEGATIVE,
}


def _shortcut(node: Node, entry: Entry) -> BindingSnapshot:
    answer = entry.answer
    complete = entry.state is State.COMPLETE
    prefix = answer.prefix if answer is not None else Prefix.host(entry.destination)
    reason = "" if complete else entry.reason
    if entry.state is State.TUNNEL:
        reason = entry.reached.reason
    return BindingSnapshot(
        entry.reached.interface or entry.way.interface,
        entry.vrf,
        prefix,
        _KINDS[entry.state],
        answer.overlay if answer is not None else b"",
        answer.nbma if answer is not None else b"",
        answer.claimed if answer is not None else b"",
        entry.up_since if entry.up_since is not None else entry.started,
        entry.expires,
        _flags(node, entry, prefix) if complete else (),
        answer.labels if answer is not None else (),
        reason=reason,
        request_id=entry.request_id,
        took=entry.up_since - entry.started if entry.up_since is not None else None,
    )


def _flags(node: Node, entry: Entry, prefix: Prefix) -> tuple[str, ...]:
    """IOS's words: an `nho` overrides the next hop of another's route, a route of our own is `rib`."""
    row = node.rib.get(entry.vrf, prefix)
    others = row is not None and row.best(EXCLUDED) is not None
    nat = ("nat",) if entry.answer is not None and entry.answer.claimed else ()
    return ("router", "nhop", "nho" if others else "rib", *nat)


def _pending(entry: Entry) -> PendingSnapshot:
    return PendingSnapshot(
        entry.way.interface, entry.vrf, entry.destination, entry.request_id, entry.started, entry.tries
    )


def _answers(egress: Egress) -> Iterator[BindingSnapshot]:
    """What we answered for: one row a prefix, with all who asked."""
    found: dict[tuple[str, str, Prefix], list[Record]] = {}
    for record in egress:
        if record.stage is Stage.ANSWERED:
            found.setdefault((record.interface, record.question.vrf, record.prefix), []).append(record)
    for (interface, vrf, prefix), records in found.items():
        last = records[-1]
        yield BindingSnapshot(
            interface,
            vrf,
            prefix,
            BindingKind.LOCAL,
            egress.node.own(interface, prefix.afi),
            egress.node.nbma(interface),
            created=min(record.since for record in records),
            expires=max(record.expires for record in records),
            flags=("router", "unique", "local"),
            local_label=last.label,
            requesters=tuple(sorted({(record.overlay, record.nbma) for record in records})),
            took=last.answered - last.since if last.answered is not None else None,
            waited=last.reachable - last.since if last.reachable is not None else None,
        )


def _requesters(egress: Egress) -> Iterator[BindingSnapshot]:
    """Those whom we answered, as hosts that we can reach."""
    latest: dict[tuple[str, bytes], Record] = {}
    for record in egress:
        if record.tunnel:
            latest[record.interface, record.overlay] = record
    for record in latest.values():
        interface = record.reached.interface or record.interface
        usable = record.reached.usable
        yield BindingSnapshot(
            interface,
            egress.node.vrf(interface),
            Prefix.host(record.overlay),
            BindingKind.DYNAMIC if usable else BindingKind.INCOMPLETE,
            record.overlay,
            record.nbma,
            record.claimed,
            record.since,
            record.expires,
            ("router", "implicit", *(("nat",) if record.claimed else ())),
            reason="" if usable else record.reached.reason,
        )


# --- peers ------------------------------------------------------------------------------------------------------------


@define(eq=False)
class _Peer:
    overlays: dict[bytes, None] = field(factory=dict)
    attributes: set[str] = field(factory=set)
    created: float = 0.0


def _peers(
    node: Node,
    rows: Iterable[BindingSnapshot],
    nhs: Iterable[NhsSnapshot],
    since: Mapping[AdjacencyKey, float],
) -> tuple[PeerSnapshot, ...]:
    peers: dict[tuple[str, bytes], _Peer] = {}
    for row in rows:
        if not row.nbma or row.kind in (BindingKind.LOCAL, BindingKind.NEGATIVE):
            continue
        peer = peers.setdefault((row.interface, row.nbma), _Peer(created=row.created))
        if row.next_hop:
            peer.overlays[row.next_hop] = None
        peer.attributes.add("S" if row.kind is BindingKind.STATIC else "D")
        if row.claimed and row.claimed != row.nbma:
            peer.attributes.add("N")
    waiting = {(one.interface, one.nbma) for one in nhs if one.state == "E"}
    return tuple(
        _peer(node, name, nbma, peer, since, waits=(name, nbma) in waiting)
        for (name, nbma), peer in sorted(peers.items())
    )


def _peer(
    node: Node, name: str, nbma: bytes, peer: _Peer, since: Mapping[AdjacencyKey, float], *, waits: bool
) -> PeerSnapshot:
    tunnel = node.tunnels.get(name)
    one = tunnel is not None and bool(tunnel.remote)
    overlays = tuple(sorted(peer.overlays))
    keys = [AdjacencyKey(name)] if one else [AdjacencyKey(name, overlay) for overlay in overlays]
    up = any((row := node.adjacencies.get(key)) is not None and row.usable for key in keys)
    began = max((since[key] for key in keys if key in since), default=peer.created)
    return PeerSnapshot(
        name,
        nbma,
        overlays,
        "".join(sorted(peer.attributes, key="SDINLX".index)),
        up,
        began,
        _state(node, name, nbma, up=up, waits=waits),
    )


def _state(node: Node, name: str, nbma: bytes, *, up: bool, waits: bool) -> str:
    if waits and up:
        return "NHRP"
    if up:
        return "UP"
    interface, tunnel = node.interfaces.get(name), node.tunnels.get(name)
    if interface is None or not interface.up or tunnel is None:
        return "DOWN"
    if not interface.row.protection:
        return "DOWN"
    row = node.sas.get(SaKey(name, b"" if tunnel.remote else nbma))
    return "IPSEC" if row is not None and row.up else "IKE"
