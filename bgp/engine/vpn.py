"""The L3VPN pipe (RFC 4364 4): VPN routes into the VRFs that want them, VRF routes out as VPN routes with a label.

    VPN table --route target match--> VRF table          RD taken off; every RD's paths compete in the VRF
    VRF table --its own best paths--> VPN table          RD, route targets and label put on; imported ones never

What one VRF exports another one on this router imports from the VPN table, like anybody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from weakref import ref

from attrs import define, evolve, field

from bgp.config import BgpConfig, LabelMode
from bgp.engine.paths import ALWAYS, Path, PathSet, Reason
from bgp.engine.rib.hops import Hops
from bgp.engine.rib.labels import Labels
from bgp.engine.rib.loc_rib import Change, LocRib
from bgp.engine.rib.local import Local
from bgp.engine.rib.swaps import labelled_hop
from bgp.wire import VPNV4, VPNV6, Family, Nlri, prefix_of
from stack.addr import RT, Afi, Fec, PrefixFec, VrfFec
from stack.events import LabelRequest, LabelRow, Route, Via, Vrf

__all__ = ["EBGP_DISTANCE", "IBGP_DISTANCE", "Vpn", "route_of", "vpn_family"]

EBGP_DISTANCE, IBGP_DISTANCE = 20, 200

ExportKey = tuple[str, Family, bytes]
"""(VRF, unicast family, key there)."""


def vpn_family(afi: int) -> Family:
    return VPNV4 if afi == Afi.IPV4 else VPNV6


class Exported(NamedTuple):
    """A VRF's route in the VPN table: where it stands, and the FEC of its label."""

    vpn_key: bytes
    path: Path
    fec: Fec


@define(eq=False)
class Vpn:
    """`tables(vrf, family)` gives a Loc-RIB. `placed`: VPN key -> the VRFs that hold it now. `exports`: what each VRF
    route became. Both are bounded by the tables they join."""

    config: BgpConfig
    hops: Hops
    labels: Labels
    local: Local
    vrfs: dict[str, Vrf] = field(factory=dict)
    placed: dict[tuple[Family, bytes], tuple[str, ...]] = field(factory=dict)
    exports: dict[ExportKey, Exported] = field(factory=dict)
    by_fec: dict[Fec, dict[ExportKey, None]] = field(factory=dict)
    unlabelled: set[ExportKey] = field(factory=set)
    """Exported routes that the label allocator has not answered yet."""
    epoch: int = 0
    _importers: dict[tuple[Afi, RT], tuple[str, ...]] = field(factory=dict)
    _of_rd: dict[bytes, tuple[str, ...]] = field(factory=dict)

    # --- VRFs and their route targets ---------------------------------------------------------------------------------

    def set_vrf(self, name: str, vrf: Vrf | None) -> None:
        """A VRF appeared, changed (`route-target` edited while routes flow) or went."""
        if vrf is None:
            self.vrfs.pop(name, None)
        else:
            self.vrfs[name] = vrf
        self.epoch += 1
        found: dict[tuple[Afi, RT], list[str]] = {}
        for one in self.vrfs.values():
            for afi, targets in one.import_rts.items():
                if one.name and (afi in one.families or not one.families):
                    for target in targets:
                        found.setdefault((afi, target), []).append(one.name)
        self._importers = {target: tuple(names) for target, names in found.items()}
        owners: dict[bytes, list[str]] = {}
        for one in self.vrfs.values():
            if one.rd is not None and one.name:
                owners.setdefault(bytes(one.rd), []).append(one.name)
        self._of_rd = {rd: tuple(names) for rd, names in owners.items()}

    def vrf_of(self, path: Path) -> str:
        """Whose the packets under a VPN route's label are: of the VRFs here that import it the one that has its RD, else the
        only one. If none imports it, the one that has its RD. Never a guess: '' if that is not one."""
        importers = self.importers(path.set)
        owners = self._of_rd.get(bytes(path.nlri.key[:8]), ())
        found = [name for name in owners if not importers or name in importers] or importers
        return found[0] if len(found) == 1 else ""

    @property
    def imports_anything(self) -> bool:
        return bool(self._importers)

    def importers(self, one: PathSet) -> tuple[str, ...]:
        """The VRFs that import routes of this set (RFC 4364 4.3.1): any route target in common. Not the VRF it is from."""
        if one.importers_epoch != self.epoch:
            afi = Afi(one.family.afi)
            found: dict[str, None] = {}
            for target in one.attributes.route_targets:
                found.update(dict.fromkeys(self._importers.get((afi, target), ())))
            if one.exported_from is not None:
                found.pop(one.exported_from, None)
            one.importers, one.importers_epoch = tuple(found), self.epoch
        return one.importers

    # --- in: VPN table -> VRF tables ----------------------------------------------------------------------------------

    def bring_in(self, vpn: LocRib, keys: Iterable[bytes], tables: Mapping[tuple[str, Family], LocRib]) -> set[str]:
        """Bring the VRFs into line with the paths of `keys`. Returns the VRFs that have no table yet but need one."""
        family = Family(vpn.family.afi, 1)
        missing: set[str] = set()
        for key in keys:
            net = vpn.nets.get(key)
            wanted: dict[str, list[Path]] = {}
            for path in net.paths if net is not None else ():
                if path.set.refused is None:
                    for name in self.importers(path.set):
                        wanted.setdefault(name, []).append(path)
            before = self.placed.get((vpn.family, key), ())
            if not wanted and not before:
                continue
            for name in {*wanted, *before}:
                table = tables.get((name, family))
                if table is None:
                    missing.add(name)
                else:
                    self._place(table, key, wanted.get(name, []))
            if wanted:
                self.placed[vpn.family, key] = tuple(name for name in wanted if (name, family) in tables)
            else:
                del self.placed[vpn.family, key]
        return missing

    def _place(self, table: LocRib, vpn_key: bytes, paths: list[Path]) -> None:
        """The paths that `table` imported under `vpn_key` are now these."""
        key = vpn_key[8:]
        net = table.nets.get(key)
        held = [] if net is None else [p for p in net.paths if p.set.original is not None and p.nlri.key == vpn_key]
        wanted = [(self.imported(path.set), path.nlri) for path in paths]
        stays = []
        for path in held:
            if (path.set, path.nlri) in wanted:
                stays.append((path.set, path.nlri))
            else:
                table.remove(key, path)
        for one, nlri in wanted:
            if (one, nlri) not in stays:
                table.put(key, Path(one, nlri))

    def imported(self, one: PathSet) -> PathSet:
        """The set as VRFs see it: labelled packets must reach its next hop, by its encapsulation or by an LSP."""
        made = one.imported
        if made is None:
            hop = ALWAYS if one.exported_from is not None else self.hops.get(labelled_hop(Path(one, Nlri(b""))))
            weight = 0 if one.source.local else one.weight
            made = evolve(one, hop=hop, original=one, weight=weight, imported_ref=None, out_token=None, out=None)
            made.forget_rank()  # a VRF's own routes come before another VRF's
            one.imported_ref = ref(made)
        return made

    # --- out: VRF table -> VPN table ----------------------------------------------------------------------------------

    def send_out(self, table: LocRib, vpn: LocRib, changes: Iterable[Change]) -> None:
        """Bring the VPN table into line with the best paths of a VRF."""
        for change in changes:
            self.export(table, vpn, change.key, change.new)

    def export(self, table: LocRib, vpn: LocRib, key: bytes, best: Path | None) -> None:
        where = (table.vrf, table.family, key)
        vrf = self.vrfs.get(table.vrf)
        if best is None or best.set.original is not None or vrf is None or vrf.rd is None or not vrf.name:
            self._withdraw(where, vpn)
            return
        fec = self._fec(table, key)
        request = LabelRequest(self.labels.scope(fec), self._next_hop_id(table, key, fec), vrf=vrf.name)
        row = self.labels.want(fec, request, where)
        if row is None:
            self.unlabelled.add(where)
        else:
            self.unlabelled.discard(where)
        nlri = Nlri(vrf.rd + key, () if row is None or row.label is None else (row.label,))
        path = Path(self._exported(best.set, vrf, row), nlri)
        old = self.exports.get(where)
        if old is not None and old.fec != fec:
            self._let_go(where, old.fec)
        if old is not None and old.vpn_key == nlri.key:
            if old.path == path:
                path = old.path  # the very one that stands in the table
            else:
                vpn.put(nlri.key, path, old.path)
        else:
            if old is not None:
                vpn.remove(old.vpn_key, old.path)
            vpn.put(nlri.key, path)
        self.exports[where] = Exported(nlri.key, path, fec)
        self.by_fec.setdefault(fec, {})[where] = None

    def _fec(self, table: LocRib, key: bytes) -> Fec:
        afi = Afi(table.family.afi)
        if self.config.label_mode(afi, table.vrf) is LabelMode.PER_VRF:
            return VrfFec(table.vrf, afi)
        return PrefixFec(table.vrf, prefix_of(table.family, key))

    def _next_hop_id(self, table: LocRib, key: bytes, fec: Fec) -> int:
        return 0 if isinstance(fec, VrfFec) else self.local.next_hop_id(table.vrf, prefix_of(table.family, key))

    def _exported(self, one: PathSet, vrf: Vrf, row: LabelRow | None) -> PathSet:
        refused = row is not None and row.label is None
        if not refused and one.exported is not None and one.exported_epoch == self.epoch:
            return one.exported
        targets = vrf.export_rts.get(Afi(one.family.afi), frozenset())
        kept = [c for c in one.attributes.ext_communities if not (c[0] <= 2 and c[1] == 2)]
        attributes = one.attributes.replace(ext_communities=(*kept, *sorted(targets)))
        made = evolve(
            one,
            family=vpn_family(one.family.afi),
            attributes=attributes,
            hop=ALWAYS,
            exported_from=vrf.name,
            refused=Reason.NO_LABEL if refused else None,
            detail=row.reason if refused and row is not None else "",
            imported_ref=None,
            importers=(),
            importers_epoch=-1,
            out_token=None,
            out=None,
        )
        if not refused:
            one.exported, one.exported_epoch = made, self.epoch
        return made

    def _withdraw(self, where: ExportKey, vpn: LocRib) -> None:
        self.unlabelled.discard(where)
        old = self.exports.pop(where, None)
        if old is not None:
            vpn.remove(old.vpn_key, old.path)
            self._let_go(where, old.fec)

    def _let_go(self, where: ExportKey, fec: Fec) -> None:
        self.labels.release(fec, where)
        users = self.by_fec.get(fec)
        if users is not None:
            users.pop(where, None)
            if not users:
                del self.by_fec[fec]


def route_of(best: Path | None, vrf: str) -> Route | None:
    """What routing is offered for a best path: None for what came from routing in the first place."""
    if best is None:
        return None
    one, nlri = best
    if one.original is not None and one.exported_from is not None:
        return _leaked(one, one.exported_from)
    if one.source.local:
        return None
    external = one.source.external
    imported = one.original is not None
    via = Via(one.next_hop, encap=one.encap, labels=nlri.labels) if imported else Via(one.next_hop, vrf=vrf)
    return Route(
        EBGP_DISTANCE if external else IBGP_DISTANCE, (via,), "ebgp" if external else "ibgp", one.attributes.med or 0
    )


def _leaked(one: PathSet, origin: str) -> Route:
    """A route of another VRF of this router: its own ways out, looked up in that VRF."""
    if one.selected is None:
        vias: tuple[Via, ...] = (Via(one.next_hop, vrf=origin),)
    else:
        vias = tuple(via._replace(vrf=origin) for via in one.selected.route.vias)
    return Route(EBGP_DISTANCE, vias, "ebgp", one.attributes.med or 0)
