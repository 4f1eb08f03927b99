"""The language is pure: reading and printing need no loop, no socket and no log."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("asyncio", "uvloop", "logging", "structlog", "pyroute2")


@pytest.mark.parametrize(
    "module",
    [
        "stack.ios.grammar",
        "stack.ios.reader",
        "stack.ios.printer",
        "stack.ios.commands",
        "bgp.lines",
        "ikev2.lines",
        "tunnel.lines",
    ],
)
def test_importing_the_language_imports_nothing_heavy(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("engine", ["bgp.engine", "mfi.engine", "tunnel.engine"])
def test_engines_do_not_meet_the_language(engine):
    """They need the values that lines set, not the lines."""
    code = (
        f"import sys, pkgutil, importlib, {engine} as e; "
        f"[importlib.import_module(f'{engine}.' + m.name) for m in pkgutil.iter_modules(e.__path__)]; "
        "print([m for m in sys.modules if m.startswith('stack.ios')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
