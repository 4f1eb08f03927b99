"""How much of anything one packet may hold."""

from __future__ import annotations

__all__ = ["MOST_CIES", "MOST_ECHOED", "MOST_EXTENSIONS", "MOST_LABELS", "MOST_OCTETS", "DoesNotFitError"]

MOST_OCTETS = 16_384
"""Of a packet that comes. Far below what ar$pktsz can say, so that a transit which adds its record cannot fail to encode it."""
MOST_CIES = 255
"""Of one list: no path has more hops, and the label extension numbers CIEs with one octet."""
MOST_EXTENSIONS = 24
"""Of a packet that comes. A packet that leaves may have more: a transit adds its own."""
MOST_LABELS = 4
"""Of a stack in the label extension."""
MOST_ECHOED = 512
"""Octets of a faulty packet inside an Error Indication, which must not need fragments, nor be much larger than its cause."""


class DoesNotFitError(ValueError):
    """A value of our own making that its field, or a packet, does not hold."""
