"""Fragments of outer packets put together again, within bounds (RFC 791 3.2), where no kernel does it for us: in a VRF."""

from __future__ import annotations

from attrs import define, field

from tunnel.io.errors import reseal4

__all__ = ["MAX_OCTETS", "MAX_PIECES", "MAX_SETS", "SECONDS", "Reassembly"]

MAX_SETS, MAX_PIECES, MAX_OCTETS, SECONDS = 64, 64, 1 << 20, 5.0
"""Incomplete packets at once, pieces of one, octets of all, and how long one waits. A tunnel's pieces come together: RFC 1122
3.3.2 allows a minute and more, in which anybody could fill every place (RFC 4963 has what long waits mix up)."""

_MORE, _OFFSET = 0x2000, 0x1FFF


@define
class _Set:
    since: float
    octets: int = 0
    pieces: dict[int, bytes] = field(factory=dict)
    head: bytes = b""
    """The header of the first piece."""
    total: int = -1


@define(eq=False)
class Reassembly:
    """`lost`: pieces and packets given up, not yet taken by whoever counts them."""

    lost: int = 0
    _sets: dict[bytes, _Set] = field(factory=dict, init=False, repr=False)
    _octets: int = field(default=0, init=False)

    def add(self, packet: bytes, now: float) -> bytes | None:
        """The whole packet once its last piece is there. `packet` is a fragment whose header was found good; pieces that
        overlap or contradict each other end the whole set (as RFC 5722 wants it of IPv6): they are an attack, or no use."""
        self._expire(now)
        key = packet[4:6] + packet[9:10] + packet[12:20]
        held = self._sets.get(key)
        if held is None:
            while len(self._sets) >= MAX_SETS:
                self._give_up(next(iter(self._sets)))
            held = self._sets[key] = _Set(now)
        if not self._take(held, packet):
            self._give_up(key)
            return None
        if not held.head or held.total < 0 or held.octets < held.total:
            while self._octets > MAX_OCTETS:
                self._give_up(next(iter(self._sets)))
            return None
        self._remove(key)
        return _whole(held)

    def _take(self, held: _Set, packet: bytes) -> bool:
        header, field_ = (packet[0] & 15) * 4, int.from_bytes(packet[6:8])
        payload, start, more = packet[header:], (field_ & _OFFSET) * 8, bool(field_ & _MORE)
        end = start + len(payload)
        if held.pieces.get(start) == payload:
            return True  # the very same piece again
        if not payload or end > 0xFFFF - header or (more and len(payload) % 8) or len(held.pieces) >= MAX_PIECES:
            return False
        last = max((at + len(piece) for at, piece in held.pieces.items()), default=0)
        if (held.total >= 0 and (not more or end > held.total)) or (not more and end < last):
            return False
        if any(start < at + len(piece) and at < end for at, piece in held.pieces.items()):
            return False
        held.pieces[start] = payload
        held.octets += len(payload)
        self._octets += len(payload)
        if not start:
            held.head = packet[:header]
        if not more:
            held.total = end
        return True

    def _expire(self, now: float) -> None:
        while self._sets:
            key, held = next(iter(self._sets.items()))
            if now - held.since <= SECONDS:
                return
            self._give_up(key)

    def _give_up(self, key: bytes) -> None:
        self.lost += max(1, len(self._sets[key].pieces))
        self._remove(key)

    def _remove(self, key: bytes) -> None:
        self._octets -= self._sets.pop(key).octets

    def take_lost(self) -> int:
        lost, self.lost = self.lost, 0
        return lost


def _whole(held: _Set) -> bytes:
    packet = bytearray(held.head + b"".join(held.pieces[at] for at in sorted(held.pieces)))
    packet[2:4] = len(packet).to_bytes(2)
    packet[6:8] = b"\0\0"
    reseal4(packet)
    return bytes(packet)
