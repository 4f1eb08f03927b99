"""What may be imported where: codecs and engines bring in no clock, socket or log, and `check` stays light.

import-linter reads the imports of each module; it does not see what a PARENT package imports. So every module is also
imported for real, alone, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

from tests.conftest import missing

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bgp.wire", "bgp.engine", "mfi.engine", "tunnel.wire", "tunnel.engine", "stack.tables", "stack.policy")
MODULES = ("stack.addr", "stack.events", "stack.wire", "stack.nettypes")
FORBIDDEN = frozenset(
    {
        "asyncio",
        "socket",
        "selectors",
        "ssl",
        "uvloop",
        "structlog",
        "logging",
        "random",
        "secrets",
        "datetime",
        "subprocess",
    }
)
"""`threading` and `time` are left out: attrs imports the one, the interpreter's start the other. import-linter has them."""

# One parent that has imported nothing; a fork for each module, so that each starts from there. Prints {module: what came}.
PROBE = """
import json, os, sys
found = {}
for name in sys.argv[1:]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            __import__(name)
            answer = sorted(sys.modules)
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found[name] = json.loads(pipe.read())
    os.waitpid(child, 0)
print(json.dumps(found))
"""


def imported(*names: str) -> dict[str, list[str] | str]:
    """Module -> what is in sys.modules after it was imported alone; or what it raised, as text."""
    command = [sys.executable, "-c", PROBE, *names]
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=100)
    return json.loads(answer.stdout)


def modules(package: str) -> list[str]:
    home = import_module(package)
    return [package, *(found.name for found in walk_packages(home.__path__, f"{package}."))]


@pytest.mark.parametrize("package", PACKAGES)
def test_codecs_and_engines_bring_in_nothing_of_the_world(package: str) -> None:
    found = imported(*modules(package))
    assert len(found) > 1
    faults = {name: what for name, what in found.items() if isinstance(what, str)}
    assert not faults, "cannot be imported alone"
    extra = {name: sorted(FORBIDDEN.intersection(what)) for name, what in found.items()}
    assert {name: what for name, what in extra.items() if what} == {}


def test_the_pure_modules_of_the_floor_bring_in_nothing_of_the_world() -> None:
    for name, what in imported(*MODULES).items():
        assert isinstance(what, list), (name, what)
        assert not FORBIDDEN.intersection(what), name


def test_the_probe_notices() -> None:
    """A test that cannot fail proves nothing."""
    found = imported("stack.bus", "no.such.module")
    assert "asyncio" in found["stack.bus"]
    assert found["no.such.module"] == "ModuleNotFoundError: No module named 'no'"


@pytest.mark.parametrize("package", ["stack", "stack.ios", "stack.testing", "bgp", "mfi", "tunnel"])
def test_a_package_alone_is_light(package: str) -> None:
    (found,) = imported(package).values()
    assert isinstance(found, list), found
    assert not FORBIDDEN.intersection(found)
    ours = {name for name in found if name.partition(".")[0] in ("stack", "bgp", "mfi", "tunnel")}
    assert ours == {package, package.partition(".")[0]}
    assert "attr" not in found


@pytest.mark.slow
def test_every_other_module_can_be_imported_alone_too() -> None:
    """Whoever is imported first must not matter: a cycle shows only then."""
    names = [name for package in ("stack", "bgp", "mfi", "tunnel") for name in modules(package)]
    names = [name for name in names if not name.startswith(PACKAGES)]
    assert len(names) > 50
    found = imported(*names)
    assert {name: what for name, what in found.items() if isinstance(what, str)} == {}


def test_import_contracts() -> None:
    """The contracts of pyproject.toml, exhaustive: a stray file fails."""
    tool = Path(sys.executable).with_name("lint-imports")
    if not tool.exists():
        missing("import-linter (it comes with the extra `dev`)")
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    broken = [line for line in done.stdout.splitlines() if line.startswith("-   ") or "BROKEN" in line]
    assert done.returncode == 0, "\n".join(broken) or done.stdout + done.stderr
    assert "0 broken" in done.stdout
