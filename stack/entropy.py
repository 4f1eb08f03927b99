"""Randomness as services see it, and hand to their engines."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["Entropy", "OsEntropy"]

Entropy = Callable[[int], bytes]
"""`entropy(n)` returns n random octets."""

OsEntropy: Entropy = os.urandom
