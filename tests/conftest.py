"""What every test may ask for. What is missing is a skip with a reason on a laptop, and a failure in CI, where all exists.

`make test` has two parts. What knows no time but a virtual one runs first, on all processors, file by file; then all tests with
sockets and peers of the kernel's world (marked `root`), alone and one after the other, so that none sees another's packets and
no peer's timer is late.
"""

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


# --- several processes -------------------------------------------------------------------------------------------------------

REAL = "real"
"""The group, and so the process, of the tests that depend on the machine."""

COURTESY = 5
"""How much later than those the others have their turn, when there are fewer processors than processes."""


def real(item: pytest.Item) -> bool:
    return item.get_closest_marker("root") is not None


def _cost(item: pytest.Item) -> tuple[bool, bool]:
    """The long ones first, so that none is left over at the end: what waits for real timers, then whole nodes and labs."""
    return not real(item), not item.nodeid.startswith(("tests/scenario/", "tests/stack/"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):  # not one process of several
        return
    items.sort(key=_cost)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(REAL if real(item) else item.nodeid.partition("::")[0]))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Who runs what is settled by now. `tests/x.py::test_y@real`, as the tests are called until here, is no name to run."""
    if hasattr(session.config, "workerinput"):
        for item in session.items:
            item._nodeid = item.nodeid.rpartition("@")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """There is no way back for an ordinary user, nor need for one: a process with real tests begins with them."""
    if hasattr(item.config, "workerinput") and not real(item) and os.getpriority(os.PRIO_PROCESS, 0) < COURTESY:
        os.setpriority(os.PRIO_PROCESS, 0, COURTESY)
