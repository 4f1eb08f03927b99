"""One prefix in full: `show ip bgp PREFIX`, `show ip bgp vpnv4 all PREFIX`, with the reason of every path not chosen."""

from __future__ import annotations

from bgp.engine.paths import Reason
from bgp.engine.rib.snapshot import NetView, PathView
from bgp.show.tables import labels_of, next_hop_of
from bgp.show.words import community, extended_community, origin_word
from stack.addr import RD, format_address

__all__ = ["net_text"]


def net_text(net: NetView, *, rd: RD | None, table: str) -> str:
    """`table`: the name that IOS prints for the table the route is in (a VRF, `default`, ...; empty: none)."""
    name = f"{rd}:{net.prefix}" if rd is not None else str(net.prefix)
    lines = [f"BGP routing table entry for {name}, version {net.version}", _paths_line(net, table)]
    if net.groups:
        lines += [
            "  Advertised to update-groups:",
            "     " + " ".join(f"{number:<10}" for number in net.groups).rstrip(),
        ]
    else:
        lines.append("  Not advertised to any peer")
    for path in sorted(net.paths, key=lambda one: not one.best):
        lines += _path_lines(path)
    return "\n".join(lines)


def _paths_line(net: NetView, table: str) -> str:
    best = "best #1" if net.best is not None else "no best path"
    return f"Paths: ({len(net.paths)} available, {best}{f', table {table}' if table else ', no table'})"


def _path_lines(path: PathView) -> list[str]:
    attributes = path.attributes
    first = str(attributes.as_path) or "Local"
    if (aggregator := attributes.aggregator) is not None:
        first += f", (aggregated by {aggregator})"
    if path.imported_from:
        first += f", imported path from {path.imported_from}"
    if path.reason is Reason.FILTERED:
        first += ", (received-only)"
    lines = ["  Refresh Epoch 1", f"  {first}", f"    {_from(path)}", f"      {_qualities(path)}"]
    if attributes.communities:
        lines.append(f"      Community: {' '.join(map(community, attributes.communities))}")
    if attributes.ext_communities:
        lines.append(f"      Extended Community: {' '.join(map(extended_community, attributes.ext_communities))}")
    if attributes.large_communities:
        lines.append(f"      Large Community: {' '.join(map(str, attributes.large_communities))}")
    if attributes.originator_id is not None:
        clusters = ", ".join(map(format_address, attributes.cluster_list))
        lines.append(f"      Originator: {format_address(attributes.originator_id)}, Cluster list: {clusters}")
    lines += [f"      unknown transitive attribute: flag {one.flags:#x} type {one.code:#x} length {len(one.value):#x}"
              for one in attributes.unknown]  # fmt: skip
    if path.encap:
        lines.append(f"      next hop encapsulation l3vpn {path.encap}")
    if path.labelled:
        lines.append(f"      mpls labels in/out {labels_of(path, short=False)}")
    if path.reason is not None:
        lines.append(f"      not best: {path.reason.value}{f' ({path.detail})' if path.detail else ''}")
    return lines


def _from(path: PathView) -> str:
    hop = next_hop_of(path)
    if path.hop_problem:
        hop += " (inaccessible)"
    elif path.metric_to_hop:
        hop += f" (metric {path.metric_to_hop})"
    neighbour = format_address(bytes(4) if path.peer is None else path.peer[1])
    return f"{hop} from {'*' if path.dynamic else ''}{neighbour} ({format_address(path.router_id)})"


def _qualities(path: PathView) -> str:
    words = [f"Origin {origin_word(path)}"]
    if path.attributes.med is not None:
        words.append(f"metric {path.attributes.med}")
    words.append(f"localpref {path.local_pref}")
    if path.weight:
        words.append(f"weight {path.weight}")
    if path.valid:
        words.append("valid")
    if path.stale:
        words.append("stale")
    words.append("sourced" if path.peer is None else "external" if path.external else "internal")
    if path.attributes.atomic_aggregate:
        words.append("atomic-aggregate")
    if path.best:
        words.append("best")
    return ", ".join(words)
