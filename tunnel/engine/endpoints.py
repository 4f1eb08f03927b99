"""The endpoint database: which overlay address is reached at which transport address, who says so, and since when.

A claim per client (bgp, nhrp, ikev2, static). An endpoint lives while somebody claims it. `show tunnel endpoints` prints
it; the packet path's allow-list and the adjacencies come from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field, frozen

__all__ = ["MAX_ENDPOINTS", "Endpoint", "EndpointDatabase", "Overlay"]

MAX_ENDPOINTS = 65_536
"""Overlay addresses in all tunnels; a claim on top is refused and counted."""

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


@define
class EndpointDatabase:
    """Keyed by (tunnel, overlay). Claims that disagree about the transport address: the first client's counts, until it
    lets go."""

    refused: int = 0
    _entries: dict[Claim, _Entry] = field(factory=dict)
    _transports: dict[tuple[str, bytes], set[bytes]] = field(factory=dict)
    _created: dict[tuple[str, bytes], float] = field(factory=dict)

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
        if transport is None:
            entry.claims.pop(client, None)
        else:
            entry.claims[client] = transport
        return self._settle(key, entry, now)

    def _settle(self, key: Claim, entry: _Entry, now: float) -> set[bytes]:
        wanted = next(iter(entry.claims.values()), None)
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
        self._transports.setdefault((tunnel, transport), set()).add(overlay)
        self._created.setdefault((tunnel, transport), now)

    def _leave(self, tunnel: str, transport: bytes, overlay: bytes) -> None:
        overlays = self._transports[tunnel, transport]
        overlays.discard(overlay)
        if not overlays:
            del self._transports[tunnel, transport], self._created[tunnel, transport]

    def transport(self, tunnel: str, overlay: bytes) -> bytes | None:
        entry = self._entries.get((tunnel, overlay))
        return entry.transport if entry else None

    def created(self, tunnel: str, overlay: bytes) -> float:
        entry = self._entries.get((tunnel, overlay))
        return entry.created if entry else 0.0

    def transports(self, tunnel: str) -> frozenset[bytes]:
        """Every remote end of a tunnel: its allow-list."""
        return frozenset(transport for name, transport in self._transports if name == tunnel)

    def at(self, transport: bytes) -> tuple[Claim, ...]:
        """(tunnel, overlay) of everything behind a transport address."""
        tunnels = {name for name, address in self._transports if address == transport}
        return tuple((name, overlay) for name in tunnels for overlay in self._transports[name, transport])

    def all_transports(self) -> set[bytes]:
        return {transport for _, transport in self._transports}

    def overlays(self, tunnel: str) -> tuple[bytes, ...]:
        return tuple(overlay for name, overlay in self._entries if name == tunnel)

    def snapshot(self, names: Mapping[str, str]) -> tuple[Endpoint, ...]:
        """All endpoints, ordered. `names` maps a tunnel as claimed to the interface that it is."""
        found = []
        for (tunnel, transport), overlays in self._transports.items():
            rows = tuple(
                Overlay(overlay, tuple(sorted(entry.claims)), entry.created)
                for overlay in sorted(overlays)
                if (entry := self._entries[tunnel, overlay])
            )
            found.append(Endpoint(names.get(tunnel, tunnel), transport, rows, self._created[tunnel, transport]))
        return tuple(sorted(found, key=lambda endpoint: (endpoint.tunnel, endpoint.transport)))
