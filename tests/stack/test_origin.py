"""Start-up names a foreign package that took one of our import names."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from stack import origin
from stack.origin import PACKAGES, IntruderError, check_origin

HOME = Path(__file__).resolve().parents[2]


def test_ours_are_ours() -> None:
    check_origin()


def test_every_package_of_the_distribution_is_looked_at() -> None:
    assert set(PACKAGES) == {path.parent.name for path in HOME.glob("*/py.typed")}


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize(
    ("foreign", "where"),
    [
        ("/elsewhere/site-packages/{name}/__init__.py", "/elsewhere/site-packages/{name}"),
        ("/elsewhere/{name}.py", "/elsewhere"),  # a plain module of that name
        (None, "nowhere"),  # a namespace package: no file of its own
    ],
)
def test_an_intruder_is_named(monkeypatch: pytest.MonkeyPatch, name: str, foreign: str | None, where: str) -> None:
    def found(asked: str) -> ModuleSpec | None:
        if asked != name:
            return find_spec(asked)
        return ModuleSpec(name, None, origin=foreign and foreign.format(name=name))

    monkeypatch.setattr(origin, "find_spec", found)
    with pytest.raises(IntruderError) as caught:
        check_origin()
    text = str(caught.value)
    assert text.startswith(f"the package `{name}` comes from {where.format(name=name)}, not from labelspan in {HOME};")
    assert "uninstall it, or use a virtual environment of its own" in text


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "find_spec", lambda name: None if name == "mfi" else find_spec(name))
    with pytest.raises(IntruderError, match=r"^the package `mfi` is missing from labelspan in .*: install it again$"):
        check_origin()


def test_the_command_stops_with_the_intruders_name(tmp_path: Path) -> None:
    intruder = tmp_path / "bgp"
    intruder.mkdir()
    (intruder / "__init__.py").write_text("raise SystemExit('the intruder was run')\n")
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(HOME)!r}]; from stack.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "check", "/no/such/file"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"labelspan: the package `bgp` comes from {intruder}, not from labelspan in {HOME};")
    assert len(done.stderr.splitlines()) == 1
