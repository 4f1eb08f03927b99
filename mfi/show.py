"""What an operator sees of labels: the LFIB, the LIB, the ranges. Pure renderers, and the commands that call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mfi.config import MfiConfig
from mfi.engine import Use
from stack.addr import RD, Afi, Fec, NextHopFec, PrefixFec, SwapFec, VrfFec, format_address
from stack.bus import NoServer
from stack.events import LabelCounters
from stack.ios.command import Command, Scene, Shown
from stack.tables.lfib import LfibTable, Nhlfe, Operation
from stack.tables.nexthop import NextHopTable

__all__ = ["COMMANDS", "forwarding_table", "label_range", "label_table"]

_HEADER = (
    "Local      Outgoing   Prefix           Bytes Label   Outgoing   Next Hop",
    "Label      Label      or Tunnel Id     Switched      interface",
)


Vrfs = Mapping[RD, str]
"""The VRFs of this node by their route distinguishers."""


def _vrf_of(row: Nhlfe, vrfs: Vrfs) -> str:
    """Whose traffic it is: of a VPN route that is told on with our label, the VRF of its RD, if there is one here."""
    return row.vrf or (vrfs.get(row.fec.rd, "") if isinstance(row.fec, SwapFec) else "")


def _fec_words(fec: Fec | None, vrfs: Vrfs | None = None) -> str:
    """A FEC as the forwarding table prints it; [V] marks those of a VRF."""
    match fec:
        case VrfFec(_, afi):
            return f"{'IPv4' if afi == Afi.IPV4 else 'IPv6'} VRF[V]"
        case PrefixFec(vrf, prefix):
            return f"{prefix}{'[V]' if vrf else ''}"
        case NextHopFec(vrf, _, address):
            return f"nh-id({format_address(address)}){'[V]' if vrf else ''}"
        case SwapFec(rd, prefix, _, _):
            return f"{prefix}[V]" if vrfs and rd in vrfs else f"{rd}:{prefix}"
        case None:
            return "-"


def _way(row: Nhlfe, nexthops: NextHopTable) -> tuple[str, str, tuple[int, ...], str]:
    """(outgoing interface, next hop, labels pushed, why it leads nowhere)."""
    if row.operation is Operation.POP_LOOKUP:
        return (f"aggregate/{row.vrf}" if row.vrf else "aggregate"), "", (), ""
    hop = nexthops.get(row.next_hop)
    if hop is None:
        return "drop", "", row.out_labels, "its next hop is gone"
    if hop.adjacency is None:
        return "drop", "", row.out_labels, hop.reason
    far = format_address(hop.adjacency.address) if hop.adjacency.address else "point2point"
    return hop.adjacency.interface, far, hop.labels + row.out_labels, ""


def _outgoing(row: Nhlfe, pushed: tuple[int, ...]) -> str:
    """`No Label`: what is under the label is a customer's packet. `Pop Label`: it is the next router's label."""
    if pushed:
        return "/".join(map(str, pushed))
    if isinstance(row.fec, PrefixFec | NextHopFec) and row.fec.vrf:
        return "No Label"
    return "Pop Label"


def forwarding_table(
    lfib: LfibTable,
    nexthops: NextHopTable,
    octets: Mapping[int, int],
    vrf: str | None = None,
    vrfs: Vrfs | None = None,
) -> Shown:
    """`show mpls forwarding-table`: the LFIB by label. `octets`: counters by label; `vrf`: only that VRF's."""
    lines, value = list(_HEADER), []
    for label, row in sorted(lfib.rows.items()):
        owner = _vrf_of(row, vrfs or {})
        if vrf is not None and owner != vrf:
            continue
        interface, far, pushed, reason = _way(row, nexthops)
        outgoing, name, count = _outgoing(row, pushed), _fec_words(row.fec, vrfs), octets.get(label, 0)
        lead = f"{label:<10} {outgoing:<10} "
        if len(name) > 16:
            lines.append(f"{lead}{name}")
            lead, name = " " * 22, ""
        lines.append(f"{lead}{name:<16} {count:<13} {interface:<10} {far}".rstrip())
        value.append(
            {
                "local-label": label,
                "outgoing-label": outgoing,
                "labels-pushed": list(pushed),
                "operation": row.operation.name.lower().replace("_", "-"),
                "fec": _fec_words(row.fec),
                "vrf": owner,
                "octets": count,
                "interface": interface,
                "next-hop": far,
                "next-hop-id": row.next_hop,
                "scope": sorted(row.scope),
                "reason": reason,
            }
        )
    return Shown("\n".join(lines), value)


def label_table(uses: Iterable[Use]) -> Shown:
    """`show mpls label table`: the LIB, with who wants each label and by what it may arrive."""
    lines = [f"{'Label':<8} {'FEC':<32} {'VRF':<12} {'Clients':<20} Scope"]
    value = []
    for use in uses:
        vrf = "" if isinstance(use.fec, SwapFec) else use.fec.vrf
        label = "-" if use.label is None else str(use.label)
        words = _fec_words(use.fec)
        lines.append(
            f"{label:<8} {words:<32} {vrf or '-':<12} {', '.join(use.clients):<20} {', '.join(sorted(use.scope))}"
        )
        if use.reason:
            lines.append(f"{'':<9}{use.reason}")
        value.append(
            {
                "label": use.label,
                "fec": words,
                "vrf": vrf,
                "clients": list(use.clients),
                "scope": sorted(use.scope),
                "fixed": use.fixed,
                "reason": use.reason,
            }
        )
    return Shown("\n".join(lines), value)


def label_range(config: MfiConfig, used: int, resting: int) -> Shown:
    lines = [f"Downstream Generic label region: Min/Max label: {config.first}/{config.last}"]
    if config.static_first:
        lines.append(f"Range for static labels: Min/Max label: {config.static_first}/{config.static_last}")
    lines.append(f"Labels in use: {used}, resting after use: {resting} (for {config.quarantine:g} s)")
    value = {
        "first": config.first,
        "last": config.last,
        "static-first": config.static_first,
        "static-last": config.static_last,
        "in-use": used,
        "resting": resting,
        "quarantine-seconds": config.quarantine,
    }
    return Shown("\n".join(lines), value)


def _counters(scene: Scene) -> Mapping[int, int]:
    """Octets by label, from whoever counts them; none if nobody does."""
    try:
        counters: Mapping[int, int] = scene.bus.ask(LabelCounters())
    except NoServer:
        return {}
    return counters


def _forwarding(scene: Scene, values: Mapping[str, Any]) -> Shown:
    vrfs = {row.rd: row.name for row in scene.tables.vrfs if row.rd is not None}
    return forwarding_table(scene.tables.lfib, scene.tables.nexthops, _counters(scene), values.get("vrf"), vrfs)


def _range(scene: Scene, _values: Mapping[str, Any]) -> Shown:
    engine = scene.service.engine
    return label_range(engine.config, len(engine.pool.used), engine.pool.resting)


COMMANDS: tuple[Command, ...] = (
    Command("show mpls forwarding-table [vrf {vrf:vrf}]", _forwarding, "incoming labels and what happens to them"),
    Command(
        "show mpls label table",
        lambda scene, _values: label_table(scene.service.engine.snapshot()),
        "labels, their FECs and who wants them",
    ),
    Command("show mpls label range", _range, "label ranges and how much of them is used"),
)
