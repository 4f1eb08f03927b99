"""Fragments put together again, within bounds (RFC 791 3.2, RFC 8200 4.5)."""

from __future__ import annotations

from attrs import define, field

from stack.testing import _packets as p

_SETS, _SECONDS, _PIECES = 64, 30.0, 512


@define
class _Set:
    started: float
    pieces: dict[int, bytes] = field(factory=dict)
    total: int = -1
    first: p.Ip | None = None


@define(eq=False)
class Reassembly:
    """A node's incomplete packets: at most 64, for at most 30 seconds; the oldest goes first."""

    _sets: dict[tuple[str, bytes, bytes, int, int], _Set] = field(factory=dict, init=False)

    def add(self, ip: p.Ip, scope: str, now: float) -> bytes | None:
        """The whole packet once its last piece is here. Pieces that overlap, or lie, end the set (RFC 5722)."""
        key = (scope, ip.source, ip.destination, ip.protocol, ip.ident)
        for old in [old for old, held in self._sets.items() if now - held.started > _SECONDS]:
            del self._sets[old]
        while key not in self._sets and len(self._sets) >= _SETS:
            del self._sets[next(iter(self._sets))]
        held = self._sets.setdefault(key, _Set(now))
        if not self._fits(held, ip):
            del self._sets[key]
            return None
        held.pieces[ip.offset] = ip.payload
        if ip.offset == 0:
            held.first = ip
        if not ip.more:
            held.total = ip.offset + len(ip.payload)
        if held.first is None or held.total < 0 or sum(map(len, held.pieces.values())) < held.total:
            return None
        del self._sets[key]
        payload = b"".join(held.pieces[at] for at in sorted(held.pieces))
        first = held.first
        if first.is_v4:
            return p.reheader(first.packet[: first.header] + payload, fragment=0)
        return p.build_ip(first.source, first.destination, first.protocol, payload, ttl=first.ttl, tos=first.tos)

    @staticmethod
    def _fits(held: _Set, ip: p.Ip) -> bool:
        end = ip.offset + len(ip.payload)
        if end > 65535 or (ip.more and len(ip.payload) % 8) or not ip.payload or len(held.pieces) >= _PIECES:
            return False
        if held.total >= 0 and (end > held.total or not ip.more):
            return held.pieces.get(ip.offset) == ip.payload
        if held.pieces.get(ip.offset) == ip.payload:
            return True  # the very same piece again
        return all(end <= at or ip.offset >= at + len(piece) for at, piece in held.pieces.items())
