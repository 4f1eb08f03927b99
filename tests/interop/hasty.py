"""A node whose lifetimes pass twenty times as fast: `lifetime 120`, the shortest that a configuration can have, is 6 s. It
rekeys early, so that what is lost can be repeated in time.

Run as `python -m tests.interop.hasty run ...`, as `labelspan run ...`; `HastyNode` does that.
"""

from __future__ import annotations

import sys
from typing import Any

from attrs import evolve

from ikev2.engine import children, core
from ikev2.engine.contract import Terms
from ikev2.engine.profiles import Profiles
from stack.cli import main
from tests.interop.nodes import Node

__all__ = ["HASTE", "HastyNode"]

HASTE = 20.0
EARLY = 0.55
"""The part of a lifetime after which it rekeys, at the earliest."""


class HastyNode(Node):
    module = "tests.interop.hasty"


def hurry() -> None:
    terms, child_terms = Profiles.terms, Profiles.child_terms

    def hasty_terms(self: Profiles, *words: Any, **more: Any) -> Any:
        found = terms(self, *words, **more)
        return evolve(found, lifetime=found.lifetime / HASTE) if isinstance(found, Terms) else found

    def hasty_child_terms(self: Profiles, *words: Any, **more: Any) -> Any:
        found = child_terms(self, *words, **more)
        return evolve(found, lifetime=found.lifetime / HASTE) if hasattr(found, "lifetime") else found

    core.SOFT = children.SOFT = EARLY
    Profiles.terms = hasty_terms  # type: ignore[method-assign]  # in this process alone
    Profiles.child_terms = hasty_child_terms  # type: ignore[method-assign]  # as above


if __name__ == "__main__":
    hurry()
    sys.exit(main(sys.argv[1:]))
