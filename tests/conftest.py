"""What every test may ask for. What is missing is a skip with a reason on a laptop, and a failure in CI, where all exists."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import settings

settings.register_profile("labelspan", deadline=None)
settings.load_profile("labelspan")
# No example is timed: machines that run the suite are shared, and a test must not fail for that.

collect_ignore = [] if os.environ.get("ORACLES") else ["oracles"]
"""Other people's parsers live in an environment of their own: `make oracles`."""

IN_CI = bool(os.environ.get("CI"))


def missing(what: str) -> None:
    """Skip because `what` is not to be had here; in CI, fail."""
    if IN_CI:
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing")


def require_root() -> None:
    if os.geteuid() != 0:
        missing("root (network namespaces, raw sockets)")


def require_tool(name: str) -> str:
    """The path of a program that a test runs."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/lib/frr")
    if path is None:
        missing(f"the program {name}")
        raise AssertionError  # not reached
    return path
