"""Figures for monitoring, as services give them: pure values. `stack.metrics` turns them into Prometheus' text."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

__all__ = ["Sample"]


@frozen
class Sample:
    """One figure. `counter`: it only grows while its service lives (its name then ends in `_total`). Never a secret."""

    name: str
    value: float
    help: str
    labels: Mapping[str, str] = field(factory=dict)
    counter: bool = False
