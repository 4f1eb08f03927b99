"""What every codec stands on: a bounded cursor, and the one error that octets can cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Any

from attrs import define, frozen

__all__ = ["Reader", "WireError", "internet_checksum"]


@frozen
class WireError(Exception):
    """Octets that break a rule: what, where (`offset` from the start of the message), in which field, by which text."""

    what: str
    offset: int
    field: str
    rfc: str

    def __str__(self) -> str:
        return f"{self.what} in {self.field} at offset {self.offset} ({self.rfc})"


@define
class Reader:
    """A cursor over `octets[offset:end]`. It never reads past `end`, and its errors say where it stopped.

    `octets` may be bytes or a memoryview; what `take` returns is always bytes.
    """

    octets: bytes | memoryview
    offset: int
    end: int
    rfc: str

    @classmethod
    def of(cls, octets: bytes | memoryview, rfc: str) -> Reader:
        return cls(octets, 0, len(octets), rfc)

    @property
    def left(self) -> int:
        return self.end - self.offset

    def fail(self, what: str, field: str, *, back: int = 0, rfc: str | None = None) -> WireError:
        """The error to raise about what was just read; `back` octets before the cursor."""
        return WireError(what, self.offset - back, field, rfc or self.rfc)

    def take(self, count: int, field: str) -> bytes:
        if not 0 <= count <= self.end - self.offset:
            raise WireError(f"{count} octets wanted, {self.end - self.offset} left", self.offset, field, self.rfc)
        start = self.offset
        self.offset = start + count
        return bytes(self.octets[start : self.offset])

    def uint(self, count: int, field: str) -> int:
        return int.from_bytes(self.take(count, field))

    def rest(self) -> bytes:
        start, self.offset = self.offset, self.end
        return bytes(self.octets[start : self.end])

    def unpack(self, form: Struct, field: str) -> tuple[Any, ...]:
        """The fields of a fixed header."""
        start = self.offset
        if form.size > self.end - start:
            raise WireError(f"{form.size} octets wanted, {self.end - start} left", start, field, self.rfc)
        self.offset = start + form.size
        return form.unpack_from(self.octets, start)

    @contextmanager
    def restrict_to(self, count: int, field: str) -> Iterator[None]:
        """Inside, the cursor ends after `count` octets, and all of them must be read. Outside, it ends where it did before,
        also after an error: who handles that may go on reading."""
        if not 0 <= count <= self.left:
            raise WireError(f"length {count} runs past the end, {self.left} left", self.offset, field, self.rfc)
        outer, self.end = self.end, self.offset + count
        try:
            yield
            if self.left:
                raise WireError(f"{self.left} octets too many", self.offset, field, self.rfc)
        finally:
            self.end = outer


def internet_checksum(octets: bytes | bytearray | memoryview, start: int = 0) -> int:
    """The 16-bit one's complement checksum of RFC 1071, over `octets`; `start` is a partial sum to go on from.

    The big-integer modulus is the fastest pure-Python form: 0xFFFF divides 2**16 - 1, so the sum of all 16-bit words
    is the number modulo 0xFFFF. A non-zero sum that is 0 modulo 0xFFFF is 0xFFFF, not 0.
    """
    if len(octets) % 2:
        octets = bytes(octets) + b"\0"
    total = int.from_bytes(octets) + start
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))
