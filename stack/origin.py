"""Our import names are short, and `bgp` or `tunnel` could be somebody else's: names an intruder at start-up."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["PACKAGES", "IntruderError", "check_origin"]

PACKAGES = ("stack", "bgp", "ikev2", "mfi", "nhrp", "tunnel")


class IntruderError(Exception):
    """A package of ours is shadowed by a foreign one."""


def check_origin() -> None:
    """Every package must lie beside this one. Raises IntruderError."""
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None:
            raise IntruderError(f"the package `{name}` is missing from labelspan in {home}: install it again")
        origin = Path(spec.origin).resolve() if spec.origin else None
        if origin is None or origin.parent.parent != home:
            where = origin.parent if origin else "nowhere"
            raise IntruderError(
                f"the package `{name}` comes from {where}, not from labelspan in {home}; "
                f"another distribution claims this name: uninstall it, or use a virtual environment of its own"
            )
