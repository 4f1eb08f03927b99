"""How much of anything one message may hold. What is more is refused, coming (WireError) and going (DoesNotFitError)."""

from __future__ import annotations

from attrs import define

from stack.wire import Reader

__all__ = [
    "MOST_ATTRIBUTES",
    "MOST_FRAGMENTS",
    "MOST_OCTETS",
    "MOST_PARTS",
    "MOST_PAYLOADS",
    "MOST_PROPOSALS",
    "MOST_SELECTORS",
    "MOST_SPIS",
    "MOST_TRANSFORMS",
    "MOST_TRANSFORM_ATTRIBUTES",
    "DoesNotFitError",
    "PayloadReader",
]

MOST_OCTETS = 65535
"""Of a message. UDP over IPv4 carries 28 less."""
MOST_PAYLOADS = 64
"""Of one chain: those in the clear, and those that were inside Encrypted."""
MOST_PROPOSALS = 32
MOST_TRANSFORMS = 64
"""Of one proposal."""
MOST_TRANSFORM_ATTRIBUTES = 16
MOST_SELECTORS = 255
MOST_ATTRIBUTES = 128
"""Of one Configuration payload."""
MOST_SPIS = 64
"""Of one Delete payload."""
MOST_PARTS = 1024
"""Of one chain, all payloads together: payloads, proposals, transforms, their attributes, selectors, configuration attributes,
SPIs. It bounds the work of decoding, whatever the octets."""
MOST_FRAGMENTS = 256
"""Of one message that we send (RFC 7383 would allow 65,535)."""


class DoesNotFitError(ValueError):
    """A value of our own making that its field, or a message, does not hold."""


@define
class PayloadReader(Reader):
    """A cursor that counts what it has read."""

    parts: int = 0

    def part(self, field: str) -> None:
        """One more is about to be read."""
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise self.fail(f"more than {MOST_PARTS} parts", field)
