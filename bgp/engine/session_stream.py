"""Octets of a TCP connection -> whole messages."""

from __future__ import annotations

from attrs import define, field

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
    _octets: bytearray = field(factory=bytearray)
    _offset: int = 0

    def __len__(self) -> int:
        return len(self._octets) - self._offset

    def push(self, octets: bytes) -> None:
        self._octets += octets
        self.backlog = True

    def pop(self, session: Session) -> bytes | None:
        """The next whole message, or None. Raises MessageError when what is there cannot become one."""
        if self._offset == len(self._octets):
            self._compact()
            return None
        length = split(self._octets, session, self._offset)
        if length is None:
            self._compact()
            return None
        start = self._offset
        self._offset = start + length
        return bytes(self._octets[start : self._offset])

    def _compact(self) -> None:
        del self._octets[: self._offset]
        self._offset = 0
        self.backlog = False
