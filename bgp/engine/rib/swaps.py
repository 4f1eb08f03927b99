"""Labels of VPN routes that we re-advertise with ourselves as next hop: swap to the label received (RFC 4364 10 b).

The label belongs to (RD, prefix, next hop, labels received): when any of them changes the FEC is another one. The old
label is let go only when the new one is bound, so that what still comes in with it is forwarded in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from attrs import define, field

from bgp.engine.paths import Hop, Path
from bgp.engine.rib.hops import Hops
from bgp.engine.rib.labels import Labels
from bgp.engine.rib.loc_rib import LocRib
from bgp.wire import prefix_of, rd_of
from stack.addr import SwapFec
from stack.events import LabelRequest, NextHopKey

__all__ = ["Swap", "Swaps", "labelled_hop"]


def labelled_hop(path: Path) -> NextHopKey:
    """The next hop of a VPN route as its labelled packets go there."""
    return NextHopKey("", path.set.next_hop, encap=path.set.encap, labelled=True)


class Swap(NamedTuple):
    """Our label, or None: it will come (`wait`), or it cannot be had now."""

    label: int | None
    wait: bool = False


@define(eq=False)
class Swaps:
    """(table, key) -> the FEC in use and the one that is on its way. Bounded by the VPN routes that are re-advertised.

    `vrf_of`: whose packets go under the label of a route ('' if nobody's here), so that NHRP and ICMP know it.
    """

    labels: Labels
    hops: Hops
    vrf_of: Callable[[Path], str] = field(default=lambda _path: "")
    using: dict[tuple[LocRib, bytes], SwapFec] = field(factory=dict)
    coming: dict[tuple[LocRib, bytes], SwapFec] = field(factory=dict)
    where: dict[SwapFec, tuple[LocRib, bytes]] = field(factory=dict)
    _by_hop: dict[NextHopKey, dict[tuple[LocRib, bytes], None]] = field(factory=dict)
    _hop_of: dict[tuple[LocRib, bytes], NextHopKey] = field(factory=dict)

    def label(self, loc: LocRib, path: Path) -> Swap:
        """Our label for `path`; wanted from now on."""
        nlri = path.nlri
        place = (loc, nlri.key)
        hop = self.hops.get(labelled_hop(path))
        if not hop.usable or not hop.id:
            hop.waiting_swaps[place] = None
            return Swap(None, wait=not hop.known)
        fec = SwapFec(rd_of(nlri.key), prefix_of(loc.family, nlri.key), hop.id, nlri.labels)
        if self.using.get(place) != fec and self.coming.get(place) != fec:
            self._want(place, fec, path, hop.key)
        row = self.labels.bound.get(fec)
        if row is None:
            return Swap(None, wait=True)
        if row.label is not None:
            self._arrived(place, fec)
        return Swap(row.label)

    def hops_in_use(self) -> set[NextHopKey]:
        """Next hops that must not be swept: labels lead there, or will as soon as routing says that it can be reached."""
        places = [*self.using, *self.coming, *(at for hop in self.hops.hops.values() for at in hop.waiting_swaps)]
        return {labelled_hop(best) for loc, key in places if (best := loc.best(key)) is not None}

    def moved(self, hop: Hop) -> list[tuple[LocRib, bytes]]:
        """The places whose label depends on `hop`, which says something else now."""
        waiting = list(hop.waiting_swaps)
        hop.waiting_swaps.clear()
        return [*waiting, *self._by_hop.get(hop.key, ())]

    def look_again(self) -> None:
        """VRFs came, changed or went: whose a route's packets are may be another."""
        for fec, place in self.where.items():
            best = place[0].best(place[1])
            if best is not None:
                self.labels.want(fec, self._request(fec, best), place)

    def _request(self, fec: SwapFec, path: Path) -> LabelRequest:
        return LabelRequest(self.labels.scope(fec), fec.next_hop, vrf=self.vrf_of(path))

    def _hangs_on(self, place: tuple[LocRib, bytes], key: NextHopKey | None) -> None:
        """Its label depends on the next hop `key`; None: it has none any more."""
        old = self._hop_of.pop(place, None)
        if old is not None:
            places = self._by_hop[old]
            del places[place]
            if not places:
                del self._by_hop[old]
        if key is not None:
            self._hop_of[place] = key
            self._by_hop.setdefault(key, {})[place] = None

    def _want(self, place: tuple[LocRib, bytes], fec: SwapFec, path: Path, hop: NextHopKey) -> None:
        stale = self.coming.pop(place, None)
        if stale is not None:
            self._release(place, stale)
        self.coming[place] = fec
        self.where[fec] = place
        self._hangs_on(place, hop)
        self.labels.want(fec, self._request(fec, path), place)

    def _arrived(self, place: tuple[LocRib, bytes], fec: SwapFec) -> None:
        if self.coming.get(place) == fec:
            del self.coming[place]
            old = self.using.get(place)
            self.using[place] = fec
            if old is not None and old != fec:
                self._release(place, old)

    def _release(self, place: tuple[LocRib, bytes], fec: SwapFec) -> None:
        self.where.pop(fec, None)
        self.labels.release(fec, place)

    def forget_all(self, loc: LocRib) -> None:
        """Nobody is told any route of `loc` with our label any more."""
        for where, key in {**self.using, **self.coming}:
            if where is loc:
                self.forget(loc, key)
        for hop in self.hops.hops.values():
            for place in [place for place in hop.waiting_swaps if place[0] is loc]:
                del hop.waiting_swaps[place]

    def forget(self, loc: LocRib, key: bytes) -> None:
        """Nobody is told `key` with our label any more."""
        place = (loc, key)
        self._hangs_on(place, None)
        for table in (self.using, self.coming):
            fec = table.pop(place, None)
            if fec is not None:
                self._release(place, fec)
