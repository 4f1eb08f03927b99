"""The Adj-RIB-In of one neighbour and family: what it announced, before policy, with what policy made of it.

Nothing is thrown away: a route that is refused (policy, loop, reserved label) stays with its reason, so that a soft clear
or a changed route map needs no message to the peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

from attrs import define, field

from bgp.config import NeighborFamily
from bgp.engine.paths import Net, Path, PathSet, Reason, Source
from bgp.engine.policy import PERMITTED, Filter, Ruling, changed, view_of
from bgp.engine.rib.endpoints import Endpoints
from bgp.engine.rib.hops import Hops
from bgp.engine.rib.loc_rib import LocRib
from bgp.wire import Attributes, Family, Nlri, Reach, prefix_of
from stack.addr import FIRST_UNRESERVED_LABEL, unmap_v4

__all__ = ["ROUTES_BOUND", "AdjRibIn"]

ROUTES_BOUND = 4_000_000
"""Routes that one neighbour may announce in one family without `maximum-prefix`: beyond, its session is ended."""

_path = tuple.__new__


@define(eq=False)
class AdjRibIn:
    """`rows`: NLRI key, or (key, path id) where ADD-PATH was negotiated -> Path.

    `disabled`: RFC 7606 and RFC 4760 7 had the family switched off for the rest of the session.
    """

    source: Source
    family: Family
    loc: LocRib
    hops: Hops
    endpoints: Endpoints
    config: NeighborFamily
    filter: Filter
    addpath: bool = False
    rows: dict[Any, Path] = field(factory=dict)
    disabled: bool = False
    end_of_rib: bool = False
    stale: set[Any] = field(factory=set)
    """Rows from before the neighbour's restart, not announced again yet (RFC 4724)."""
    _sets: WeakValueDictionary[Any, PathSet] = field(factory=WeakValueDictionary)
    _last: PathSet | None = None
    _own_asn: bytes = b""

    def __attrs_post_init__(self) -> None:
        if self.source.view is not None:
            self._own_asn = self.source.view.local_asn.to_bytes(4)

    # --- what the neighbour says --------------------------------------------------------------------------------------

    def announce(self, attributes: Attributes, reach: Reach) -> None:
        """Routes of `reach`, all with `attributes`. The hot loop of the whole table; benchmarks/bgp_reflect.py."""
        if self.disabled:
            return
        vpn, rows, addpath, stale = self.family.vpn, self.rows, self.addpath, self.stale
        nets, touched = self.loc.nets, self.loc.touched
        one = self._one_set(attributes, reach)
        added = 0
        for nlri in reach.routes:
            key, labels, path_id = nlri
            mine = one
            if mine is None:
                mine = self._ruled(attributes, reach.next_hop, reach.link_local, nlri)
            if vpn and (not labels or labels[0] < FIRST_UNRESERVED_LABEL):
                mine = self._mislabelled(attributes, reach, nlri)
            row = (key, path_id) if addpath else key
            if stale:
                stale.discard(row)
            old = rows.get(row)
            if old is not None:
                if old.set is mine and old.nlri.labels == labels:
                    continue
                self._unuse(old)
            path: Path = _path(Path, (mine, nlri))
            rows[row] = path
            net = nets.get(key)
            if net is None:
                nets[key] = Net((path,))
            elif old is None:
                net.paths += (path,)
            else:
                net.paths = (*(p for p in net.paths if p is not old), path)
            touched[key] = None
            added += 1
        if vpn and added:  # any VPN route counts, also one that is refused: its next hop may still send to us
            self.endpoints.add(unmap_v4(reach.next_hop), added)

    def withdraw(self, routes: Iterable[Nlri]) -> None:
        rows, loc = self.rows, self.loc
        for nlri in routes:
            row = (nlri.key, nlri.path_id) if self.addpath else nlri.key
            self.stale.discard(row)
            old = rows.pop(row, None)
            if old is not None:
                self._unuse(old)
                loc.remove(nlri.key, old)

    def drop_stale(self) -> None:
        """What was not announced again is gone."""
        stale, self.stale = self.stale, set()
        for row in stale:
            old = self.rows.pop(row, None)
            if old is not None:
                self._unuse(old)
                self.loc.remove(old.nlri.key, old)

    def resume(self, config: NeighborFamily, filter_: Filter) -> None:
        """The neighbour is back, perhaps with other policy here."""
        self.__attrs_post_init__()
        self.config, self.filter, self.end_of_rib = config, filter_, False
        self.reapply()

    def disable(self) -> None:
        """RFC 4760 7: all routes of the family go, and it is ignored for the rest of the session."""
        self.disabled = True
        self._last = None
        self.purge(len(self.rows))

    def bury(self) -> None:
        """The neighbour is gone: none of its paths is used from now on, however long `purge` takes."""
        self._last = None
        for one in self._sets.values():
            one.refused = Reason.GONE
            if one.imported is not None:
                one.imported.refused = Reason.GONE

    def purge(self, limit: int) -> bool:
        """Remove at most `limit` rows; True while some are left."""
        for row in list(islice(self.rows, limit)):
            old = self.rows.pop(row)
            self._unuse(old)
            self.loc.remove(old.nlri.key, old)
        return bool(self.rows)

    # --- endpoints ----------------------------------------------------------------------------------------------------

    def _unuse(self, old: Path) -> None:
        if self.family.vpn:
            self.endpoints.add(old.set.peer_hop, -1)

    def _one_set(self, attributes: Attributes, reach: Reach) -> PathSet | None:
        """The set of all routes of `reach`; None if policy looks at their prefixes. Often it is that of the last message."""
        last = self._last
        if last is not None and last.received is attributes and last.received_hop == reach.next_hop:
            return last
        ruling = self._rulings(attributes, reach)
        if ruling is None:
            return None
        found = self.set_of(attributes, reach.next_hop, reach.link_local, ruling)
        self._last = found if not reach.link_local else None
        return found

    # --- what becomes of it -------------------------------------------------------------------------------------------

    def _rulings(self, attributes: Attributes, reach: Reach) -> Ruling | Reason | None:
        """The ruling for all routes with these attributes; None if it depends on the prefix."""
        refusal = self.refusal(attributes)
        if refusal is not None:
            return refusal
        if self.filter.empty:
            return PERMITTED
        if self.filter.per_prefix:
            return None
        nlri = reach.routes[0] if reach.routes else Nlri(b"\0")
        return self._rule(attributes, reach.next_hop, nlri)

    def _rule(self, attributes: Attributes, next_hop: bytes, nlri: Nlri) -> Ruling:
        family = self.family
        shown = unmap_v4(next_hop) if family.vpn else next_hop
        view = view_of(prefix_of(family, nlri.key), family, attributes, shown, labels=nlri.labels)
        return self.filter.rule(view)

    def _ruled(self, attributes: Attributes, next_hop: bytes, link_local: bytes, nlri: Nlri) -> PathSet:
        return self.set_of(attributes, next_hop, link_local, self._rule(attributes, next_hop, nlri))

    def _mislabelled(self, attributes: Attributes, reach: Reach, nlri: Nlri) -> PathSet:
        reason = Reason.RESERVED_LABEL if nlri.labels else Reason.NO_LABEL
        return self.set_of(attributes, reach.next_hop, reach.link_local, reason)

    def refusal(self, attributes: Attributes) -> Reason | None:
        """Loops and other faults of the attributes alone.

        An AS number or identifier that does not occur in the octets at all cannot be in a path or list, and that is
        found without reading them: most routes never have their AS path read.
        """
        view = self.source.view
        if view is None:
            return None
        octets = attributes.octets
        if self._own_asn in octets and attributes.as_path.count(view.local_asn) > self.config.allowas_in:
            return Reason.AS_LOOP
        if b"\0\0\0\0" in octets and 0 in attributes.as_path.asns:
            return Reason.AS_ZERO
        if not view.ibgp:
            return Reason.FIRST_AS if attributes.as_path.first != view.asn else None
        if view.local_id in octets:
            if attributes.originator_id == view.local_id:
                return Reason.ORIGINATOR
            if view.local_id in attributes.cluster_list:
                return Reason.CLUSTER
        return None

    def set_of(self, attributes: Attributes, next_hop: bytes, link_local: bytes, ruling: Ruling | Reason) -> PathSet:
        """The PathSet for these; the same one as long as a path uses it."""
        octets = attributes.octets
        plain = ruling is PERMITTED and not link_local
        key = (octets, next_hop) if plain else (octets, next_hop, link_local, ruling)
        found = self._sets.get(key)
        if found is None:
            found = self._sets[key] = self._make(attributes, next_hop, link_local, ruling)
        return found

    def _make(self, attributes: Attributes, received_hop: bytes, link_local: bytes, ruling: Ruling | Reason) -> PathSet:
        peer_hop = unmap_v4(received_hop) if self.family.vpn else received_hop
        accepted, next_hop, encap, weight, refused, detail, tag = attributes, peer_hop, "", 0, None, "", 0
        if isinstance(ruling, Reason):
            refused = ruling
        elif not ruling.permitted:
            refused, detail = Reason.FILTERED, ruling.why
        elif ruling is not PERMITTED:
            changes = ruling.changes
            accepted = changed(attributes, changes)
            next_hop = changes.next_hop or next_hop
            encap = changes.encapsulate or "" if self.family.vpn else ""
            weight, tag = changes.weight or 0, changes.tag or 0
        return PathSet(
            source=self.source,
            family=self.family,
            received=attributes,
            received_hop=received_hop,
            attributes=accepted,
            next_hop=next_hop,
            hop=self.hops.plain("" if self.family.vpn else self.source.vrf, next_hop),
            peer_hop=peer_hop,
            link_local=link_local,
            encap=encap,
            weight=weight,
            tag=tag,
            refused=refused,
            detail=detail,
        )

    # --- soft clear ---------------------------------------------------------------------------------------------------

    def reapply(self) -> int:
        """Run policy over all routes again, as if they had just come; returns how many changed."""
        count = 0
        self._last = None
        memo: dict[tuple[Attributes, bytes], Reason | Ruling | None] = {}
        for row, old in list(self.rows.items()):
            was, nlri = old
            if was.refused in (Reason.RESERVED_LABEL, Reason.NO_LABEL):
                continue
            key = (was.received, was.received_hop)
            if key not in memo:
                memo[key] = self._rulings(was.received, Reach(self.family, was.received_hop, (nlri,)))
            ruling = memo[key]
            if ruling is None:
                ruling = self._rule(was.received, was.received_hop, nlri)
            mine = self.set_of(was.received, was.received_hop, was.link_local, ruling)
            if mine is not was:
                count += 1
                path = Path(mine, nlri)
                self.rows[row] = path
                self.loc.put(nlri.key, path, old)
        return count

    def forget(self) -> None:
        """Let go of what no row has any more."""
        self._last = None

    def sets(self) -> Iterable[PathSet]:
        return list(self._sets.values())

    @property
    def accepted(self) -> int:
        """Routes that policy and the loop checks let through: what `show bgp summary` counts."""
        return sum(path.set.refused is None for path in self.rows.values())
