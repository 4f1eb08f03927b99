"""What `show` sees of the tables: frozen, complete, and with the reason why each path is used or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import field, frozen

from bgp.engine.decision import explain
from bgp.engine.outputs import PeerKey
from bgp.engine.paths import DEFAULT_LOCAL_PREF, Net, Path, PathSet, Reason
from bgp.engine.rib.loc_rib import LocRib
from bgp.engine.rib.ribs import Ribs
from bgp.engine.vpn import vpn_family
from bgp.wire import Attributes, Family, Nlri, key_text, prefix_of
from stack.addr import DEFAULT_VRF, RD, Afi, LabelStack, Prefix, Safi, mapped_v4

__all__ = [
    "FamilyCount",
    "NetView",
    "PathView",
    "RdView",
    "TableView",
    "family_counts",
    "unicast_table",
    "vpn_table",
]

Wanted = Callable[[Prefix], bool]


@frozen
class PathView:
    """A path. `reason` None: it is the best. `peer` None: originated here.

    `in_label` is ours, `out_label` the far end's (empty, None: no label); `lookup`: packets with our label are looked up
    in `vrf`. `imported_from`: the VPN route that a VRF made its own, as text. `told`: how many labels were received.
    """

    attributes: Attributes
    next_hop: bytes
    metric_to_hop: int
    hop_problem: str
    local_pref: int
    weight: int
    external: bool
    peer: PeerKey | None
    dynamic: bool
    router_id: bytes
    reason: Reason | None
    detail: str
    encap: str = ""
    in_label: int | None = None
    out_labels: LabelStack = ()
    lookup: bool = False
    vrf: str = ""
    imported_from: str = ""
    labelled: bool = False
    stale: bool = False

    @property
    def best(self) -> bool:
        return self.reason is None

    @property
    def valid(self) -> bool:
        return not self.hop_problem and self.reason not in _REFUSED


_REFUSED = frozenset(
    (
        Reason.FILTERED,
        Reason.GONE,
        Reason.AS_LOOP,
        Reason.AS_ZERO,
        Reason.FIRST_AS,
        Reason.ORIGINATOR,
        Reason.CLUSTER,
        Reason.RESERVED_LABEL,
        Reason.NO_LABEL,
        Reason.NEXT_HOP,
    )
)


@frozen
class NetView:
    """A prefix. `groups`: numbers of the update groups it was advertised to."""

    prefix: Prefix
    version: int
    paths: tuple[PathView, ...]
    groups: tuple[int, ...] = ()

    @property
    def best(self) -> PathView | None:
        return next((path for path in self.paths if path.best), None)


@frozen
class RdView:
    """The prefixes of one RD. `vrf`: the VRF here that has it ('' if none)."""

    rd: RD
    vrf: str
    nets: tuple[NetView, ...]


@frozen
class TableView:
    """A family's table. Unicast ones have a single entry without RD in `nets`; VPN ones have `rds`."""

    family: Family
    vrf: str
    version: int
    router_id: bytes
    nets: tuple[NetView, ...] = ()
    rds: tuple[RdView, ...] = ()


@frozen
class FamilyCount:
    """One family of one VRF for the summary. `peers`: neighbour -> (prefixes accepted, table version, messages waiting).

    `networks` and `paths` of a VRF are those that the VPN table does not have under its RD, so that all of a family add up.
    """

    family: Family
    vrf: str
    version: int
    networks: int
    paths: int
    attribute_sets: int
    peers: dict[PeerKey, tuple[int, int, int]] = field(factory=dict)


def family_counts(ribs: Ribs) -> tuple[FamilyCount, ...]:
    """Every family that has a table, with the neighbours that are up in it."""
    tables = sorted(ribs.tables.values(), key=lambda one: (one.family.safi, one.family.afi, one.vrf))
    return tuple(_count(ribs, table) for table in tables)


def _count(ribs: Ribs, table: LocRib) -> FamilyCount:
    peers: dict[PeerKey, tuple[int, int, int]] = {}
    for key, peer in ribs.peers.items():
        found = peer.members.get(table.family)
        if peer.view.vrf == table.vrf and found is not None:
            group, member = found
            waiting = group.waiting(member, end_of_rib=False)
            version = member.version if waiting else table.counter.number
            peers[key] = (peer.adj_in[table.family].accepted, version, member.waiting)
    nets = table.nets if not table.vrf else _only_there(ribs, table)
    return FamilyCount(
        table.family,
        table.vrf,
        table.counter.number,
        len(nets),
        sum(len(net.paths) for net in nets.values()),
        len({id(path.set) for net in nets.values() for path in net.paths}),
        peers,
    )


def _only_there(ribs: Ribs, table: LocRib) -> dict[bytes, Net]:
    """Prefixes of a VRF that do not stand in the VPN table under its RD: what it imported from others."""
    vrf = ribs.vpn.vrfs.get(table.vrf)
    vpn = ribs.tables.get((DEFAULT_VRF, vpn_family(table.family.afi)))
    if vrf is None or vrf.rd is None or vpn is None:
        return table.nets
    rd = vrf.rd
    return {key: net for key, net in table.nets.items() if rd + key not in vpn.nets}


# --- tables -----------------------------------------------------------------------------------------------------------


def unicast_table(ribs: Ribs, vrf: str, family: Family, wanted: Wanted | None = None) -> TableView:
    """A unicast table; `wanted` picks prefixes. Empty if there is none."""
    table = ribs.tables.get((vrf, family))
    router_id = ribs.local.router_id
    if table is None:
        return TableView(family, vrf, 0, router_id)
    return TableView(family, vrf, table.counter.number, router_id, tuple(_sorted(_vrf_nets(ribs, table, None, wanted))))


def vpn_table(
    ribs: Ribs, afi: Afi, *, rd: RD | None = None, vrf: str | None = None, wanted: Wanted | None = None
) -> TableView:
    """All RDs (or one, or that of one VRF) of an address family: what was received, and what the VRFs here hold."""
    family = vpn_family(afi)
    vpn = ribs.tables.get((DEFAULT_VRF, family))
    own = {one.rd: name for name, one in ribs.vpn.vrfs.items() if one.rd is not None and name}
    rds: dict[RD, dict[bytes, Net]] = {}
    for key, net in vpn.nets.items() if vpn is not None else ():
        if wanted is None or wanted(prefix_of(family, key)):
            rds.setdefault(RD(key[:8]), {})[key] = net
    views = []
    for one in sorted({*rds, *own}):
        name = own.get(one, "")
        if (rd is not None and one != rd) or (vrf is not None and name != vrf):
            continue
        nets = {} if vpn is None else dict(_vpn_nets(ribs, vpn, rds.get(one, {}), hidden=bool(name)))
        table = ribs.tables.get((name, Family(afi, Safi.UNICAST))) if name else None
        if table is not None:
            for held in _vrf_nets(ribs, table, one, wanted):
                beside = nets.get(held.prefix)
                nets[held.prefix] = held if beside is None else _beside(held, beside)
        if nets:
            views.append(RdView(one, name, tuple(_sorted(nets.values()))))
    version = vpn.counter.number if vpn is not None else 0
    return TableView(family, vrf or "", version, ribs.local.router_id, rds=tuple(views))


def _beside(net: NetView, received: NetView) -> NetView:
    """A VRF's prefix with the paths that came under its RD and that it did not take (no target in common, refused)."""
    return NetView(net.prefix, net.version, (*net.paths, *received.paths), net.groups)


def _sorted(nets: Iterable[NetView]) -> list[NetView]:
    return sorted(nets, key=lambda net: (net.prefix.network, net.prefix.length))


def _vrf_nets(ribs: Ribs, table: LocRib, rd: RD | None, wanted: Wanted | None) -> Iterator[NetView]:
    family = table.family
    vpn = vpn_family(family.afi)
    for key, net in table.nets.items():
        prefix = prefix_of(family, key)
        if wanted is not None and not wanted(prefix):
            continue
        groups = _groups(table, key)
        if rd is not None and (exported := ribs.tables.get((DEFAULT_VRF, vpn))) is not None:
            groups += _groups(exported, rd + key)
        paths = tuple(_path(ribs, table, path, reason, detail) for path, reason, detail in explain(net.paths, net.best))
        yield NetView(prefix, net.version, paths, tuple(sorted(set(groups))))


def _vpn_nets(ribs: Ribs, table: LocRib, nets: dict[bytes, Net], *, hidden: bool) -> Iterator[tuple[Prefix, NetView]]:
    """`hidden`: a VRF here has this RD, so what it exported or imported is shown from its table."""
    for key, net in nets.items():
        verdicts = explain(net.paths, net.best)
        received = [one for one in verdicts if one.path.set.exported_from is None]
        shown = [one for one in received if not (hidden and _taken(ribs, one.path))]
        if not shown:
            continue
        prefix = prefix_of(table.family, key)
        paths = tuple(_path(ribs, table, *one, rival=hidden) for one in shown)
        yield prefix, NetView(prefix, net.version, paths, _groups(table, key))


def _taken(ribs: Ribs, path: Path) -> bool:
    """Whether the VRF that has this path's RD imported it."""
    rd = RD(path.nlri.key[:8])
    if path.set.refused is not None:
        return False
    return any(name in ribs.vpn.importers(path.set) for name, vrf in ribs.vpn.vrfs.items() if vrf.rd == rd)


def _groups(table: LocRib, key: bytes) -> tuple[int, ...]:
    return tuple(group.number for group in table.groups if key in group.advertised)


def _path(
    ribs: Ribs, table: LocRib, path: Path, reason: Reason | None, detail: str, *, rival: bool = False
) -> PathView:
    one, nlri = path
    if rival and reason is None:
        reason, detail = Reason.NOT_IMPORTED, ""
    attributes = one.attributes
    in_label, lookup, labelled = _local_label(ribs, table, path)
    view = one.source.view
    remote = one.original if one.original is not None else one
    out = nlri.labels if remote.exported_from is None else ()
    local_pref = attributes.local_pref
    source_vrf = one.exported_from or table.vrf
    if table.vrf and one.original is None and (sent := ribs.vpn.exports.get((table.vrf, table.family, nlri.key))):
        attributes = sent.path.set.attributes if sent.path.set.source is one.source else attributes
    imported = one.original is not None and not _same_rd(ribs, table.vrf, nlri.key)
    return PathView(
        attributes=attributes,
        next_hop=_shown_hop(remote, one.next_hop),
        metric_to_hop=one.hop.metric,
        hop_problem=one.hop.why,
        local_pref=DEFAULT_LOCAL_PREF if local_pref is None else local_pref,
        weight=one.weight,
        external=one.source.external,
        peer=None if view is None else view.key,
        dynamic=view is not None and view.dynamic,
        router_id=ribs.local.router_id if view is None else one.source.router_id,
        reason=reason,
        detail=detail,
        encap=one.encap,
        in_label=in_label,
        out_labels=out,
        lookup=lookup,
        vrf=source_vrf,
        imported_from=key_text(remote.family, nlri.key) if imported else "",
        labelled=labelled or bool(out),
        stale=_is_stale(ribs, remote, nlri),
    )


def _is_stale(ribs: Ribs, one: PathSet, nlri: Nlri) -> bool:
    """Whether the neighbour has not announced it again since it restarted."""
    key = one.source.key
    if key is None or one.exported_from is not None:
        return False
    away = ribs.away.peers.get(key) or ribs.away.back.get(key)
    adj = None if away is None else away[0].adj_in.get(one.family)
    return adj is not None and ((nlri.key, nlri.path_id) if adj.addpath else nlri.key) in adj.stale


def _shown_hop(one: PathSet, next_hop: bytes) -> bytes:
    """As it stands in the NLRI's family: a VPNv6 next hop is `::ffff:a.b.c.d` (RFC 4659 3.2.1.2), ourselves all zeros."""
    if one.family.afi == Afi.IPV4:
        return next_hop or bytes(4)
    if one.family.vpn and len(next_hop) == 4:
        return mapped_v4(next_hop)
    return next_hop or bytes(16)


def _same_rd(ribs: Ribs, vrf: str, key: bytes) -> bool:
    known = ribs.vpn.vrfs.get(vrf)
    return known is not None and known.rd == key[:8]


def _local_label(ribs: Ribs, table: LocRib, path: Path) -> tuple[int | None, bool, bool]:
    """(our label, whether its packets are looked up in the VRF, whether there should be one)."""
    one, nlri = path
    if table.vrf:
        if one.original is None:
            exported = ribs.vpn.exports.get((table.vrf, table.family, nlri.key))
            if exported is None or exported.path.set.source is not one.source:
                return None, False, False
            request = ribs.labels.request(exported.fec)
            labels = exported.path.nlri.labels
            return (labels[0] if labels else None), request is not None and not request.next_hop, True
        if one.original.exported_from is not None or not _same_rd(ribs, table.vrf, nlri.key):
            return None, False, False
        table = ribs.tables[DEFAULT_VRF, one.original.family]
    fec = ribs.swaps.using.get((table, nlri.key))
    best = table.best(nlri.key)
    if fec is None or best is None or best.nlri is not nlri:
        return None, False, False
    return ribs.labels.label(fec), False, True
