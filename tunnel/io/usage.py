"""Which routes packets were sent by, for whoever asks (`RoutesUsed`), at no cost to the packets.

The flow caches know every destination that was sent to. To ask takes the destinations of the watched prefixes out of them, so
that only fresh traffic is found the next time; a cache that is emptied for another reason is looked through before. What is
never cached (packets of this node itself) is noted as it goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from attrs import define, field

from stack.addr import Prefix

__all__ = ["MAX_SCANNED", "MAX_WATCHED", "FlowCache", "Usage"]

MAX_WATCHED = 65_536
"""Prefixes that were asked about, of all VRFs; when full, the one not asked about for longest is forgotten."""

MAX_SCANNED = 131_072
"""Destinations looked at for one question. Where there are more, every prefix counts as used: a renewal that nobody needed is
cheaper than a shortcut that somebody did."""


class FlowCache(Protocol):
    """A flow cache: destinations as numbers, and as octets."""

    @property
    def four(self) -> dict[int, Any]: ...
    @property
    def six(self) -> dict[bytes, Any]: ...


@define(eq=False)
class _Watch:
    """The watched prefixes of one VRF. `used`: those that were sent to since. By address size and length, the networks."""

    used: set[Prefix] = field(factory=set)
    known: set[Prefix] = field(factory=set)
    _lengths: dict[int, dict[int, dict[int, Prefix]]] = field(factory=lambda: {4: {}, 16: {}})

    def add(self, prefix: Prefix) -> None:
        self.known.add(prefix)
        size = len(prefix.network)
        shift = size * 8 - prefix.length
        self._lengths[size].setdefault(shift, {})[int.from_bytes(prefix.network) >> shift] = prefix

    def remove(self, prefix: Prefix) -> None:
        self.known.discard(prefix)
        self.used.discard(prefix)
        size = len(prefix.network)
        shift = size * 8 - prefix.length
        networks = self._lengths[size][shift]
        del networks[int.from_bytes(prefix.network) >> shift]
        if not networks:
            del self._lengths[size][shift]

    def note(self, value: int, size: int) -> bool:
        """A packet went to `value`; whether any watched prefix covers that. All that do count, nested ones too."""
        hit = False
        for shift, networks in self._lengths[size].items():
            prefix = networks.get(value >> shift)
            if prefix is not None:
                self.used.add(prefix)
                hit = True
        return hit

    def watches(self, size: int) -> bool:
        return bool(self._lengths[size])


@define(eq=False)
class Usage:
    """One forwarder's."""

    _watched: dict[str, _Watch] = field(factory=dict, init=False)
    _order: dict[tuple[str, Prefix], None] = field(factory=dict, init=False)
    """Every watched prefix, the one not asked about for longest first."""

    def note(self, vrf: str, destination: bytes) -> None:
        """A packet that no cache remembers is sent to `destination`."""
        watch = self._watched.get(vrf)
        if watch is not None:
            watch.note(int.from_bytes(destination), len(destination))

    def harvest(self, vrf: str, four: Iterable[int], six: Iterable[bytes]) -> None:
        """These destinations were sent to, and are about to be forgotten."""
        watch = self._watched.get(vrf)
        if watch is None:
            return
        if watch.watches(4):
            for value in four:
                watch.note(value, 4)
        if watch.watches(16):
            for octets in six:
                watch.note(int.from_bytes(octets), 16)

    def ask(self, vrf: str, prefixes: Iterable[Prefix], caches: Iterable[FlowCache | None]) -> frozenset[Prefix]:
        """Which of `prefixes` were sent to since they were asked about last; of a new one, what is still remembered.
        `caches`: all flow caches of the VRF."""
        asked = frozenset(prefixes)
        if not asked:
            return asked
        watch = self._watched.setdefault(vrf, _Watch())
        for prefix in asked:
            self._watch(vrf, watch, prefix)
        if not self._scan(watch, caches):
            return asked
        found = asked & watch.used
        watch.used -= found
        return found

    def _watch(self, vrf: str, watch: _Watch, prefix: Prefix) -> None:
        if prefix in watch.known:
            del self._order[vrf, prefix]
        else:
            if len(self._order) >= MAX_WATCHED:
                self._forget(*next(iter(self._order)))
            watch.add(prefix)
        self._order[vrf, prefix] = None

    def _forget(self, vrf: str, prefix: Prefix) -> None:
        del self._order[vrf, prefix]
        self._watched[vrf].remove(prefix)

    def _scan(self, watch: _Watch, caches: Iterable[FlowCache | None]) -> bool:
        """Note the covered destinations of the caches, and take them out; whether all could be looked at."""
        scanned = 0
        for cache in caches:
            if cache is None:
                continue
            scanned += len(cache.four) + len(cache.six)
            if scanned > MAX_SCANNED:
                return False
            if watch.watches(4):
                self._take(cache.four, [value for value in cache.four if watch.note(value, 4)])
            if watch.watches(16):
                self._take(cache.six, [each for each in cache.six if watch.note(int.from_bytes(each), 16)])
        return True

    @staticmethod
    def _take(flows: dict[Any, Any], hits: Iterable[Any]) -> None:
        for destination in hits:
            del flows[destination]
