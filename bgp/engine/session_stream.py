"""Octets of a TCP connection -> whole messages."""

from __future__ import annotations

from attrs import define

from bgp.wire import Session, split

__all__ = ["HIGH_WATER", "LOW_WATER", "Stream"]

HIGH_WATER, LOW_WATER = 256 * 1024, 64 * 1024
"""Octets that wait to be worked on: above the first the connection is not read, below the second it is again."""


@define(eq=False)
class Stream:
    """What came and was not taken yet. `backlog`: there may be a whole message in it. `paused`: TCP is not being read.

    Its size is bounded by its reader: above HIGH_WATER it stops reading, and no single message is longer than 65535.
    """

    backlog: bool = False
    paused: bool = False
    _octets: bytes = b""
    _offset: int = 0

    def __len__(self) -> int:
        return len(self._octets) - self._offset

    def push(self, octets: bytes) -> None:
        rest = self._octets[self._offset :] if self._offset else self._octets
        self._octets, self._offset = rest + octets if rest else octets, 0
        self.backlog = True

    def pop(self, session: Session) -> bytes | None:
        """The next whole message, or None. Raises MessageError when what is there cannot become one."""
        start = self._offset
        length = split(self._octets, session, start)
        if length is None:
            self._octets, self._offset, self.backlog = self._octets[start:], 0, False
            return None
        self._offset = start + length
        return self._octets[start : self._offset]
