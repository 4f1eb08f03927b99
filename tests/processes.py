"""The suite in several processes, as `make test` runs it: a plugin of pytest over pytest-xdist.

All tests with sockets and peers of the kernel's world (marked `root`) are in one process, one after the other, so that none
sees another's packets. They mostly wait; the others, which know no time but a virtual one, have the processors meanwhile. No
file of those is torn apart: what its tests share is made once.

pytest-xdist has groups of its own (`--dist loadgroup`), but writes them into the tests' names, which pytest 9.2 ignores.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

COURTESY = 5
"""How much nicer than the real tests the others are: on fewer processors than processes, timers of real peers go first."""

_NAMES = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def real(item: pytest.Item) -> bool:
    return item.get_closest_marker("root") is not None


def _later(item: pytest.Item) -> tuple[bool, bool]:
    """The long ones first, so that none is left over at the end: what waits for real timers, then whole nodes and labs."""
    return not real(item), not item.nodeid.startswith(("tests/scenario/", "tests/stack/"))


# --- where pytest was started ------------------------------------------------------------------------------------------------


class Schedule(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """One unit of work for all real tests, and one for each file of others."""

    def __init__(self, config: pytest.Config, log: Any, names: Path) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False
        self._names = names
        self._real: frozenset[str] | None = None

    def _split_scope(self, nodeid: str) -> str:
        if self._real is None:
            self._real = frozenset(self._names.read_text().splitlines())
        return "real" if nodeid in self._real else nodeid.partition("::")[0]


def _names(config: pytest.Config) -> Path:
    """A file for the names of the real tests: who collects knows the marks, who distributes does not."""
    folder = config.stash.setdefault(_NAMES, tempfile.TemporaryDirectory(prefix="labelspan-tests-"))
    return Path(folder.name) / "real"


def pytest_configure_node(node: Any) -> None:
    node.workerinput["real"] = str(_names(node.config))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Schedule:
    return Schedule(config, log, _names(config))


# --- in each of the processes ------------------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=_later)
        Path(config.workerinput["real"]).write_text("\n".join(item.nodeid for item in items if real(item)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """There is no way back for an ordinary user, nor need for one: the process of the real tests begins with them."""
    if hasattr(item.config, "workerinput") and not real(item) and os.getpriority(os.PRIO_PROCESS, 0) < COURTESY:
        os.setpriority(os.PRIO_PROCESS, 0, COURTESY)
