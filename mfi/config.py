"""What the label allocator is told. The IOS line that sets it is in mfi.lines."""

from __future__ import annotations

from attrs import frozen

from stack.addr import LAST_LABEL

__all__ = ["MfiConfig"]


@frozen
class MfiConfig:
    """`first`..`last`: dynamic labels, both included. `static`: labels kept for static bindings (0, 0: none).

    `quarantine`: seconds that a freed label is not given again, so that packets on their way do not meet its next owner.
    """

    first: int = 16
    last: int = LAST_LABEL
    static_first: int = 0
    static_last: int = 0
    quarantine: float = 30.0
