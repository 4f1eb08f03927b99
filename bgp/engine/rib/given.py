"""Which labels were given to whom, and so by which kinds of ingress each may come back (RFC 4023 8.1).

    nothing here is protected      every label comes in clear
    no neighbour sends in clear    every label comes by protected tunnels
    else                           a label has the kinds of those who were told a route with it, by what the update groups
                                   advertise: a label that policy keeps from everybody who sends in clear is refused in clear

A label that nobody has been told comes by protected tunnels only. Neighbours that are away for a restart (RFC 4724) may go
on sending with what they were told, which their update group has forgotten: their kind counts for every label until they are
back or given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import define, field

from bgp.engine.outputs import PeerKey
from bgp.engine.paths import Path
from bgp.engine.rib.adj_out import UpdateGroup
from bgp.engine.rib.groups import Groups
from bgp.engine.rib.labels import Labels
from bgp.engine.rib.loc_rib import LocRib
from bgp.engine.rib.neighbour import Peer
from bgp.engine.rib.scopes import OPEN, PROTECTED, Scopes
from bgp.engine.rib.swaps import Swaps
from bgp.engine.vpn import Vpn, vpn_family
from bgp.wire import Family
from stack.addr import DEFAULT_VRF, Afi, Fec, Safi, SwapFec, VrfFec

__all__ = ["Given"]

_SAME = {one: one for one in (OPEN, PROTECTED, OPEN | PROTECTED)}
"""One object of each: there may be 100,000 labels."""


@define(eq=False)
class Given:
    """Brings the scopes of `labels` up to date. It looks at single labels only where these differ."""

    scopes: Scopes
    labels: Labels
    vpn: Vpn
    swaps: Swaps
    groups: Groups
    tables: Mapping[tuple[str, Family], LocRib]
    peers: Mapping[PeerKey, Peer]
    _kinds: dict[UpdateGroup, frozenset[str]] = field(factory=dict)
    _away: frozenset[str] = frozenset()
    _at: tuple[int, int] = (-1, -1)

    def settle(self) -> None:
        noted = [group for table in self._vpn_tables() for group in table.groups if group.noted]
        self.labels.before_only = not self.scopes.known
        if not self.scopes.apart:
            for group in noted:
                group.noted.clear()
            self._at = (-1, -1)
            self.labels.set_scope(self.scopes.scope)
            return
        at = (self.scopes.changes, self.groups.changes)
        if at != self._at:
            before, self._at = (self._kinds, self._away), at
            self._look()
            if before != (self._kinds, self._away) or self.labels.given is None:
                for group in noted:
                    group.noted.clear()
                self.labels.set_given({fec: self._scope(fec) for fec in self.labels.users})
                return
        for group in noted:
            fecs = {fec for key, path in group.noted.items() if (fec := self._fec(group.loc, key, path)) is not None}
            group.noted.clear()
            self.labels.give({fec: self._scope(fec) for fec in fecs})

    def _vpn_tables(self) -> Iterable[LocRib]:
        tables = (self.tables.get((DEFAULT_VRF, vpn_family(afi))) for afi in Afi)
        return (table for table in tables if table is not None)

    def _look(self) -> None:
        """By which kinds the members of each group send."""
        self._kinds, away = {}, set(self.scopes.peers)
        for key, peer in self.peers.items():
            away.discard(key)
            kind = self.scopes.kind(peer.view.remote) if key in self.scopes.peers else frozenset()
            for family, (group, _) in peer.members.items():
                if family.vpn:
                    self._kinds[group] = self._kinds.get(group, frozenset()) | kind
        self._away = frozenset().union(*(self.scopes.kind(self.scopes.peers[key]) for key in away))

    def _fec(self, loc: LocRib, key: bytes, path: Path) -> Fec | None:
        """Of the label that a route went out with. Of one that is exported no more only the VRF's label may be left."""
        vrf = path.set.exported_from
        if vrf is None:
            return self.swaps.using.get((loc, key))
        exported = self.vpn.exports.get((vrf, Family(loc.family.afi, Safi.UNICAST), key[8:]))
        return exported.fec if exported is not None else VrfFec(vrf, Afi(loc.family.afi))

    def _scope(self, fec: Fec) -> frozenset[str]:
        found = self._away
        for group, keys in self._routes(fec):
            kind = self._kinds.get(group, frozenset())
            if not kind <= found and any(key in group.advertised for key in keys):
                found |= kind
        return _SAME.get(found, PROTECTED)

    def _routes(self, fec: Fec) -> Iterable[tuple[UpdateGroup, list[bytes]]]:
        """The groups that may advertise routes with the label of `fec`, and the keys of these there."""
        if isinstance(fec, SwapFec):
            place = self.swaps.where.get(fec)
            if place is None:
                return []
            loc, key = place
            return [(group, [key]) for group in loc.groups if group.outbound.swaps]
        wheres = [where for where in self.vpn.by_fec.get(fec, ()) if where in self.vpn.exports]
        if not wheres:
            return []
        table = self.tables[DEFAULT_VRF, vpn_family(wheres[0][1].afi)]
        keys = [self.vpn.exports[where].vpn_key for where in wheres]
        return [(group, keys) for group in table.groups]
