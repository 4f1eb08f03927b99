"""The endpoint database: which overlay address is reached at which transport address, who says so, and since when.

A claim per client (bgp, nhrp, ikev2, static). An endpoint lives while somebody claims it. `show tunnel endpoints` prints
it; the packet path's allow-list and the adjacencies come from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import define, field, frozen

__all__ = ["MAX_ENDPOINTS", "Endpoint", "EndpointDatabase", "Overlay"]

MAX_ENDPOINTS = 65_536
"""Overlay addresses in all tunnels; a claim on top is refused and counted."""

_NOWHERE: Mapping[bytes, object] = {}

Claim = tuple[str, bytes]
"""(tunnel, overlay)."""


@frozen
class Overlay:
    """An overlay address behind an endpoint. `refcount`: one for the entry and one a claim."""

    address: bytes
    clients: tuple[str, ...]
    created: float

    @property
    def refcount(self) -> int:
        return 1 + len(self.clients)


@frozen
class Endpoint:
    """A remote end of a tunnel. `refcount`: its overlay entries, and the IP and the TAG adjacency."""

    tunnel: str
    transport: bytes
    overlays: tuple[Overlay, ...]
    created: float

    @property
    def refcount(self) -> int:
        return len(self.overlays) + 2


@define
class _Entry:
    transport: bytes
    created: float
    claims: dict[str, bytes] = field(factory=dict)
    """By client, the newest last."""


@define
class _Place:
    """A transport address of one tunnel: since when, and what is behind it."""

    created: float
    overlays: set[bytes] = field(factory=set)


@define
class EndpointDatabase:
    """Keyed by (tunnel, overlay). Of claims that disagree about the transport address the newest counts: what a client newly
    says, or says otherwise than before. A spoke whose address has moved is at the new one at once, whoever finds out first
    (IKE by a new SA, NHRP by a registration); the other's claim, of before, may stand for hours. To say the same again is
    nothing new, so two who disagree for good do not make the endpoint flap."""

    refused: int = 0
    _entries: dict[Claim, _Entry] = field(factory=dict)
    _places: dict[str, dict[bytes, _Place]] = field(factory=dict)

    def claim(self, client: str, tunnel: str, overlay: bytes, transport: bytes | None, now: float) -> set[bytes]:
        """`client` says that `overlay` is at `transport` (None: no longer). The overlays whose transport changed."""
        key = (tunnel, overlay)
        entry = self._entries.get(key)
        if entry is None:
            if transport is None:
                return set()
            if len(self._entries) >= MAX_ENDPOINTS:
                self.refused += 1
                return set()
            entry = self._entries[key] = _Entry(transport, now)
            self._join(tunnel, transport, overlay, now)
            entry.claims[client] = transport
            return {overlay}
        if transport != entry.claims.get(client):
            entry.claims.pop(client, None)
            if transport is not None:
                entry.claims[client] = transport
        return self._settle(key, entry, now)

    def _settle(self, key: Claim, entry: _Entry, now: float) -> set[bytes]:
        wanted = next(reversed(entry.claims.values()), None)
        if wanted == entry.transport:
            return set()
        self._leave(key[0], entry.transport, key[1])
        if wanted is None:
            del self._entries[key]
        else:
            entry.transport = wanted
            self._join(key[0], wanted, key[1], now)
        return {key[1]}

    def _join(self, tunnel: str, transport: bytes, overlay: bytes, now: float) -> None:
        places = self._places.setdefault(tunnel, {})
        if transport not in places:
            places[transport] = _Place(now)
        places[transport].overlays.add(overlay)

    def _leave(self, tunnel: str, transport: bytes, overlay: bytes) -> None:
        places = self._places[tunnel]
        places[transport].overlays.discard(overlay)
        if not places[transport].overlays:
            del places[transport]
            if not places:
                del self._places[tunnel]

    def transport(self, tunnel: str, overlay: bytes) -> bytes | None:
        entry = self._entries.get((tunnel, overlay))
        return entry.transport if entry else None

    def created(self, tunnel: str, overlay: bytes) -> float:
        entry = self._entries.get((tunnel, overlay))
        return entry.created if entry else 0.0

    def transports(self, tunnel: str) -> frozenset[bytes]:
        """Every remote end of a tunnel: its allow-list."""
        return frozenset(self._places.get(tunnel, ()))

    def at(self, transport: bytes) -> tuple[Claim, ...]:
        """(tunnel, overlay) of everything behind a transport address."""
        return tuple(
            (tunnel, overlay)
            for tunnel, places in self._places.items()
            if transport in places
            for overlay in places[transport].overlays
        )

    def tunnels(self) -> tuple[str, ...]:
        """The tunnels that have anything behind them."""
        return tuple(self._places)

    def places(self, tunnel: str) -> Mapping[bytes, object]:
        """Every remote end of a tunnel, to look up only."""
        return self._places.get(tunnel, _NOWHERE)

    def tunnels_at(self, transport: bytes) -> tuple[str, ...]:
        """The tunnels that have something behind a transport address."""
        return tuple(tunnel for tunnel, places in self._places.items() if transport in places)

    def overlays(self, tunnel: str) -> Iterator[bytes]:
        """Everything behind a tunnel."""
        for place in self._places.get(tunnel, {}).values():
            yield from place.overlays

    def behind(self, tunnel: str, transport: bytes) -> frozenset[bytes]:
        """Everything behind a transport address of a tunnel."""
        place = self._places.get(tunnel, {}).get(transport)
        return frozenset(place.overlays) if place is not None else frozenset()

    def claimed(self) -> tuple[Claim, ...]:
        """(tunnel, overlay) of everything that somebody claims."""
        return tuple(self._entries)

    def snapshot(self, names: Mapping[str, str]) -> tuple[Endpoint, ...]:
        """All endpoints, ordered. `names` maps a tunnel as claimed to the interface that it is."""
        found = [
            Endpoint(names.get(tunnel, tunnel), transport, self._overlays(tunnel, place), place.created)
            for tunnel, places in self._places.items()
            for transport, place in places.items()
        ]
        return tuple(sorted(found, key=lambda endpoint: (endpoint.tunnel, endpoint.transport)))

    def _overlays(self, tunnel: str, place: _Place) -> tuple[Overlay, ...]:
        entries = ((overlay, self._entries[tunnel, overlay]) for overlay in sorted(place.overlays))
        return tuple(Overlay(overlay, tuple(sorted(entry.claims)), entry.created) for overlay, entry in entries)
