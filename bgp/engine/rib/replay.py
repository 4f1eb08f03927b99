"""What members of a large update group that join are told, encoded once: the Adj-RIB-Out in pieces, each with its messages.

Spokes come one after the other, and each is told all that stands. A piece is encoded anew only if a route in it changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import define, field

__all__ = ["PIECE", "Piece", "Replay"]

PIECE = 128
"""Routes in one piece: so many are encoded again when one of them changes."""


@define(eq=False)
class Piece:
    """`messages` None: out of date."""

    keys: dict[bytes, None] = field(factory=dict)
    messages: tuple[bytes, ...] | None = None


@define(eq=False)
class Replay:
    """The keys that are advertised, in pieces. As large as the Adj-RIB-Out, so only large groups have one."""

    pieces: dict[Piece, None] = field(factory=dict)
    _where: dict[bytes, Piece] = field(factory=dict)
    _last: Piece = field(factory=Piece)

    @classmethod
    def of(cls, keys: Iterable[bytes]) -> Replay:
        made = cls()
        for key in keys:
            made.note(key)
        return made

    def note(self, key: bytes) -> None:
        """It was told, or told otherwise."""
        piece = self._where.get(key)
        if piece is None:
            if len(self._last.keys) >= PIECE:
                self._last = Piece()
            piece = self._where[key] = self._last
            piece.keys[key] = None
            self.pieces[piece] = None
        piece.messages = None

    def drop(self, key: bytes) -> None:
        """It was withdrawn."""
        piece = self._where.pop(key, None)
        if piece is None:
            return
        del piece.keys[key]
        piece.messages = None
        if not piece.keys:
            del self.pieces[piece]

    def messages(self, encode: Callable[[Iterable[bytes]], Iterable[bytes]]) -> Iterator[tuple[bytes, ...]]:
        """Piece by piece. What changes meanwhile is told to all members anyway, so a piece is taken as it is when its turn
        comes."""
        for piece in list(self.pieces):
            if piece not in self.pieces:
                continue
            if piece.messages is None:
                piece.messages = tuple(encode(piece.keys))
            yield piece.messages

    def __len__(self) -> int:
        return len(self._where)
