"""The Loc-RIB of one family of one VRF: every path that may be used, and the best of each prefix.

A prefix is decided once a batch, and only if something about it changed. One with a single path costs no decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from attrs import define, field

from bgp.engine.decision import select, select_closed
from bgp.engine.paths import Net, Path
from bgp.wire import Family

if TYPE_CHECKING:
    from bgp.engine.rib.adj_out import UpdateGroup

__all__ = ["Change", "LocRib", "Version"]


class Change(NamedTuple):
    """The best path of a prefix before and now."""

    key: bytes
    old: Path | None
    new: Path | None


_change = tuple.__new__


@define(eq=False)
class Version:
    """A table version, as IOS counts it: from 1, one for the VPN table of an address family and all VRFs of it."""

    number: int = 1


@define(eq=False)
class LocRib:
    """Key of the NLRI -> Net. `touched`: keys to decide. `groups`: the update groups that advertise this table.

    `held`: prefixes without a best path that have one into a protected tunnel which cannot be sent to now. It is not
    advertised (RFC 4271 9.1.2.1: its next hop cannot be used), but routing is offered it, and drops there what would else
    follow a less specific route, in clear (RFC 4301 5.1). Bounded by what the Adj-RIB-Ins and the RIB hold.
    """

    vrf: str
    family: Family
    nets: dict[bytes, Net] = field(factory=dict)
    touched: dict[bytes, None] = field(factory=dict)
    groups: list[UpdateGroup] = field(factory=list)
    counter: Version = field(factory=Version)
    held: dict[bytes, Path] = field(factory=dict)
    _held_anew: dict[bytes, None] = field(factory=dict)

    def put(self, key: bytes, path: Path, old: Path | None = None) -> None:
        """`path` is new; it takes the place of `old`, as the newest."""
        net = self.nets.get(key)
        if net is None:
            self.nets[key] = Net((path,))
        elif old is None:
            net.paths += (path,)
        else:
            net.paths = (*(one for one in net.paths if one is not old), path)
        self.touched[key] = None

    def remove(self, key: bytes, old: Path) -> None:
        net = self.nets.get(key)
        if net is not None:
            net.paths = tuple(one for one in net.paths if one is not old)
            self.touched[key] = None

    def take(self, limit: int) -> list[bytes]:
        """At most `limit` of the touched keys, first touched first."""
        touched = self.touched
        if len(touched) <= limit:
            self.touched = {}
            return list(touched)
        keys = list(islice(touched, limit))
        for key in keys:
            del touched[key]
        return keys

    def decide(self, keys: Iterable[bytes]) -> list[Change]:
        """Decide `keys` anew. What changed is pending in every update group afterwards."""
        nets, groups, version = self.nets, self.groups, self.counter.number
        changes: list[Change] = []
        for key in keys:
            net = nets.get(key)
            if net is None:
                continue
            paths, old = net.paths, net.best
            if len(paths) == 1:  # hot: nearly every prefix of a full table
                new: Path | None = paths[0]
                one = new[0]  # type: ignore[index]  # a Path is a tuple; attribute access costs twice as much
                if one.refused is not None or not one.hop.usable:
                    new = None
            elif paths:
                new = select(paths, old)
            else:
                new = None
                del nets[key]
            if new is None or len(paths) > 1 or self.held:
                self._wait(key, paths)
                self._hold(key, None if new is not None else select_closed(paths, self.held.get(key)))
            if new is not old:
                version += 1
                net.best, net.version = new, version
                changes.append(_change(Change, (key, old, new)))
                for group in groups:
                    group.pending[key] = None
        self.counter.number = version
        return changes

    def _wait(self, key: bytes, paths: tuple[Path, ...]) -> None:
        for path in paths:
            if not path.set.hop.known:
                path.set.hop.waiting[self, key] = None

    def _hold(self, key: bytes, path: Path | None) -> None:
        if self.held.get(key) is path or self.family.vpn:
            return
        if path is None:
            del self.held[key]
        else:
            self.held[key] = path
        self._held_anew[key] = None

    def take_held(self) -> dict[bytes, Path | None]:
        """What routing gets to hear of the prefixes of which something else is held since the last call, or nothing."""
        found = {key: self.best(key) or self.held.get(key) for key in self._held_anew}
        self._held_anew.clear()
        return found

    def best(self, key: bytes) -> Path | None:
        net = self.nets.get(key)
        return None if net is None else net.best

    def recheck(self, key: bytes) -> None:
        """What the neighbours were told of `key` may be out of date, although its best path is the same."""
        for group in self.groups:
            group.pending[key] = None
            group.forced.add(key)

    def touch_all(self) -> None:
        self.touched.update(dict.fromkeys(self.nets))
