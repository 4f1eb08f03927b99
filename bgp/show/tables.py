"""Lists of routes: `show ip bgp`, `show ip bgp vpnv4 all`, `show ip bgp vpnv4 all label`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bgp.engine.rib.snapshot import NetView, PathView, RdView, TableView
from bgp.show.words import ORIGIN_CODES, STATUS_CODES, network, origin_code, status
from stack.addr import format_address

__all__ = ["label_text", "labels_of", "next_hop_of", "table_text"]

_HEADER = "     Network          Next Hop            Metric LocPrf Weight Path\n"
_NEXT_HOP_AT, _METRIC_AT = 22, 38
_LABEL_HEADER = "   Network          Next Hop      In label/Out label\n"


def table_text(view: TableView) -> str:
    """The list of all routes with their best path marked; a table without routes prints nothing, as IOS has it."""
    if not view.nets and not view.rds:
        return ""
    lines = [
        f"BGP table version is {view.version}, local router ID is {format_address(view.router_id)}\n",
        STATUS_CODES,
        ORIGIN_CODES,
        "\n",
        _HEADER,
        *_lines(view.nets),
    ]
    for rd in view.rds:
        default = f" (default for vrf {rd.vrf})" if rd.vrf else ""
        lines.append(f"Route Distinguisher: {rd.rd}{default}\n")
        lines += _lines(rd.nets)
    return "".join(lines).rstrip("\n")


def _lines(nets: Iterable[NetView]) -> Iterator[str]:
    for net in nets:
        name = network(net.prefix)
        for path in sorted(net.paths, key=lambda one: not one.best):
            yield _line(name, path)
            name = ""


def _line(name: str, path: PathView) -> str:
    head = f" {status(path)} {name}"
    if len(head) >= _NEXT_HOP_AT:
        head += "\n"
        head += " " * _NEXT_HOP_AT
    else:
        head = head.ljust(_NEXT_HOP_AT)
    hop = next_hop_of(path)
    middle = (
        hop.ljust(_METRIC_AT - _NEXT_HOP_AT) if len(hop) < _METRIC_AT - _NEXT_HOP_AT else f"{hop}\n{' ' * _METRIC_AT}"
    )
    med, pref = path.attributes.med, path.attributes.local_pref
    metric = "" if med is None else str(med)
    local_pref = "" if pref is None else str(pref)
    route = " ".join(part for part in (str(path.attributes.as_path), origin_code(path)) if part)
    return f"{head}{middle}{metric:>10}{local_pref:>7}{path.weight:>7} {route}\n"


def next_hop_of(path: PathView) -> str:
    """`0.0.0.0` (or `::`) is ourselves."""
    return format_address(path.next_hop)


def labels_of(path: PathView, *, short: bool) -> str:
    """`25/16`, `nolabel/18`, `16/nolabel(cust1)` (`short`: the list) or `16/aggregate(cust1)` (the detail)."""
    own = "nolabel" if path.in_label is None else str(path.in_label)
    if path.out_labels:
        return f"{own}/{' '.join(map(str, path.out_labels))}"
    if not path.vrf:
        return f"{own}/nolabel"
    if short:
        return f"{own}/nolabel({path.vrf})" if path.peer is None else f"{own}/nolabel"
    return f"{own}/aggregate({path.vrf})" if path.lookup else f"{own}/nolabel"


def label_text(view: TableView) -> str:
    """Labels of every VPN route, by RD."""
    lines = [_LABEL_HEADER]
    for rd in view.rds:
        lines.append(f"Route Distinguisher: {rd.rd}{f' ({rd.vrf})' if rd.vrf else ''}\n")
        lines += _label_lines(rd)
    return "".join(lines).rstrip("\n")


def _label_lines(rd: RdView) -> Iterator[str]:
    for net in rd.nets:
        name = network(net.prefix)
        for path in sorted(net.paths, key=lambda one: not one.best):
            head = f"   {name}"
            head = head.ljust(20) if len(head) < 20 else f"{head}\n{' ' * 20}"
            hop = next_hop_of(path)
            hop = hop.ljust(16) if len(hop) < 16 else f"{hop}\n{' ' * 36}"
            yield f"{head}{hop}{labels_of(path, short=True)}\n"
            name = ""
