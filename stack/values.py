"""`value`: a frozen attrs class whose objects are made by the hundred for every message.

To whoever reads the code, and to mypy, it is `attrs.frozen`: assigning to a field is an error that CI finds. At run time
nothing watches over it, because that is what making a frozen object costs most: 0.4 us of four fields, instead of 0.14.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import setters

__all__ = ["value"]

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    from functools import partial

    from attrs import define

    value = partial(define, eq=True, unsafe_hash=True, on_setattr=setters.NO_OP)
