"""Reassembly of fragmented messages (RFC 7383 2.6): one message at a time in each direction, and never much of it."""

from __future__ import annotations

from attrs import define, field

__all__ = ["MAX_FRAGMENTS", "MAX_OCTETS", "Reassembly", "pieces"]

MAX_FRAGMENTS = 64
"""Of one message; one that says it has more is dropped."""
MAX_OCTETS = 131_072
"""Of one message, together."""


@define(eq=False)
class Reassembly:
    """The message `message_id` of `total` fragments, as far as it is here."""

    message_id: int = -1
    total: int = 0
    first: int = 0
    octets: int = 0
    mark: int = 0
    """Hash of the first fragment's datagram: what a repeated request is known by."""
    _parts: dict[int, bytes] = field(factory=dict, repr=False)

    def wanted(self, message_id: int, number: int, total: int) -> str | None:
        """Asked before a fragment is opened: why it is not wanted. None: it is."""
        if not 1 <= number <= total or total > MAX_FRAGMENTS:
            return "fragment number"
        if message_id == self.message_id:
            # RFC 7383 2.6: "the value of the Total Fragments field ... lower than previously received": discard.
            if total < self.total:
                return "fewer fragments"
            if total == self.total and number in self._parts:
                return "fragment repeated"
        return None

    def add(self, message_id: int, number: int, total: int, first: int, plain: bytes) -> tuple[int, bytes] | None:
        """A fragment that was authenticated. The whole (type of the first payload, payloads) once all are here."""
        if message_id != self.message_id or total > self.total:
            # RFC 7383 2.6: a greater total means that the sender began anew with smaller fragments: discard the others.
            self.clear()
            self.message_id, self.total = message_id, total
        self.octets += len(plain)
        if self.octets > MAX_OCTETS:
            self.clear()
            return None
        self._parts[number] = plain
        if number == 1:
            self.first = first
        if len(self._parts) < self.total:
            return None
        whole = self.first, b"".join(self._parts[n] for n in range(1, total + 1))
        self.clear()
        return whole

    def clear(self) -> None:
        self.message_id, self.total, self.octets, self._parts = -1, 0, 0, {}


def pieces(octets: bytes, size: int) -> list[bytes]:
    """`octets` in parts of `size`, at most."""
    return [octets[at : at + size] for at in range(0, len(octets), size)] or [b""]
