"""Neighbours that are away for a restart (RFC 4724 4.2): their routes stay in use, marked stale, for a while.

session lost (no NOTIFICATION)     all routes of the families it can restart: stale
  not back within its restart time   stale routes go
  back, forwarding state kept        stale routes wait for the family's End-of-RIB, STALE_WITHIN at most
  back, without                      stale routes go at once
"""

from __future__ import annotations

from attrs import define, field

from bgp.engine.outputs import PeerKey, PeerView
from bgp.engine.rib.adj_in import AdjRibIn
from bgp.engine.rib.neighbour import Peer
from bgp.wire import Family

__all__ = ["STALE_WITHIN", "Away"]

STALE_WITHIN = 360.0
"""Seconds that a neighbour which is back has for its End-of-RIB (RFC 4724 4.2 wants such a bound)."""


@define(eq=False)
class Away:
    """`peers`: those that are away, and until when they are waited for. `back`: those whose End-of-RIBs are waited for."""

    peers: dict[PeerKey, tuple[Peer, float]] = field(factory=dict)
    back: dict[PeerKey, tuple[Peer, float]] = field(factory=dict)

    def leaves(self, peer: Peer, now: float) -> list[AdjRibIn]:
        """It lost its session. Returns what goes at once: families that it cannot restart. Routes that were stale
        already, from the time before, go too ("MUST be deleted")."""
        self.back.pop(peer.view.key, None)
        gone = []
        for family, adj in list(peer.adj_in.items()):
            adj.drop_stale()
            if family in peer.view.restartable and not adj.disabled:
                adj.stale = set(adj.rows)
            else:
                gone.append(peer.adj_in.pop(family))
        if peer.adj_in:
            self.peers[peer.view.key] = (peer, now + peer.view.restart_time)
        return gone

    def returns(self, view: PeerView, now: float) -> tuple[Peer | None, list[AdjRibIn]]:
        """The neighbour that was away under this key, if any, and what of it goes now: "if the Forwarding State bit for
        a specific address family is not set in the newly received Graceful Restart Capability, or if a specific address
        family is not included [...] then the Receiving Speaker MUST immediately remove all the stale routes"."""
        found = self.peers.pop(view.key, None)
        if found is None:
            return None, []
        peer = found[0]
        gone = [peer.adj_in.pop(f) for f in list(peer.adj_in) if f not in view.families or f not in view.forwarding]
        if peer.adj_in:
            self.back[view.key] = (peer, now + STALE_WITHIN)
        return peer, gone

    def ended(self, key: PeerKey, family: Family) -> None:
        """Its End-of-RIB: what is still stale is gone."""
        found = self.back.get(key)
        if found is not None and family in found[0].adj_in:
            found[0].adj_in[family].drop_stale()
            if not any(adj.stale for adj in found[0].adj_in.values()):
                del self.back[key]

    def forget(self, key: PeerKey) -> list[AdjRibIn]:
        """It is not to be waited for any more."""
        self.back.pop(key, None)
        found = self.peers.pop(key, None)
        return [] if found is None else list(found[0].adj_in.values())

    def due(self, now: float) -> list[AdjRibIn]:
        """Those that did not come back, or did not finish, in time: what of them goes."""
        gone: list[AdjRibIn] = []
        for key, (_, until) in list(self.peers.items()):
            if until <= now:
                gone += self.forget(key)
        for key, (peer, until) in list(self.back.items()):
            if until <= now:
                del self.back[key]
                for adj in peer.adj_in.values():
                    adj.drop_stale()
        return gone

    def deadline(self) -> float | None:
        return min((until for _, until in (*self.peers.values(), *self.back.values())), default=None)

    def adj_ribs(self) -> list[AdjRibIn]:
        return [adj for peer, _ in self.peers.values() for adj in peer.adj_in.values()]
