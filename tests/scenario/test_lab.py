"""The shipped lab: green as it comes, and red where it is sabotaged. In memory here; on real packets with root."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stack.lab.run import EXIT_RED, EXIT_WRONG, run_lab
from stack.lab.scenario import ScenarioError, load
from tests.conftest import require_root

LABS = {name: load(name) for name in ("flexvpn", "ipsec", "mgre")}
MGRE = LABS["mgre"]


def verdict(capsys: pytest.CaptureFixture[str], lab: str = "mgre", **named: Any) -> tuple[int, dict[str, bool], str]:
    code = run_lab(lab, as_json=True, **named)
    printed = capsys.readouterr().out
    rows = json.loads(printed)["rows"]
    return code, {row["name"]: row["ok"] for row in rows}, printed


@pytest.mark.parametrize("lab", LABS)
def test_a_lab_in_memory(lab: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows, printed = verdict(capsys, lab, backend="memory")
    assert code == 0, printed
    names = [check.name for check in LABS[lab].checks]
    assert list(rows) == [*names, *(f"{variant}: {name}" for variant in LABS[lab].variants for name in names)]


@pytest.mark.parametrize("lab", LABS)
def test_the_same_seed_gives_the_same_verdict_whatever_the_hash_seed(lab: str) -> None:
    """What was seen and the virtual seconds it took, row by row, from processes that order their sets differently."""
    verdicts = []
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "stack.cli", "lab", lab, "--backend", "memory", "--json"]
        done = subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed}, timeout=60
        )
        verdicts.append([_comparable(lab, row) for row in json.loads(done.stdout)["rows"]])
    assert len(verdicts[0]) == len(LABS[lab].checks) * (1 + len(LABS[lab].variants))
    assert verdicts[0] == verdicts[1]


def _comparable(lab: str, row: dict[str, Any]) -> Any:
    """Keys that are made for a run are new ones, and the octets of certificates with them: then only the words are the same."""
    return (row["name"], re.sub(r"[0-9.]+", "#", row["seen"])) if LABS[lab].prepare else row


@pytest.mark.parametrize(("lab", "name"), [(lab, name) for lab in LABS for name in sorted(LABS[lab].sabotage)])
def test_sabotage_turns_its_rows_red(lab: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows, printed = verdict(capsys, lab, backend="memory", sabotage=name)
    assert code == EXIT_RED, printed
    assert not [row for row in LABS[lab].sabotage[name].red if rows[row]], printed


@pytest.mark.parametrize("lab", LABS)
def test_every_row_has_a_sabotage(lab: str) -> None:
    noticed = {row for sabotage in LABS[lab].sabotage.values() for row in sabotage.red}
    assert {check.name for check in LABS[lab].checks} - noticed == set()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
def test_a_lab_on_real_packets(lab: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    require_root()
    code, _, printed = verdict(capsys, lab, backend="netns", capture=tmp_path)
    assert code == 0, printed
    assert {path.name for path in tmp_path.iterdir()} == {"lab.pcapng", "profile"}


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("name", ["clear-packet", "no-lsp"])
def test_sabotage_on_real_packets(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two that cost no waiting; in memory all are tried."""
    require_root()
    code, rows, printed = verdict(capsys, backend="netns", sabotage=name)
    assert code == EXIT_RED, printed
    assert {row for row, ok in rows.items() if not ok} == set(MGRE.sabotage[name].red), printed


def test_what_is_no_scenario_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_lab("nosuch") == EXIT_WRONG
    assert "there are: flexvpn, ipsec, mgre" in capsys.readouterr().err
    assert run_lab("mgre", sabotage="nosuch") == EXIT_WRONG
    assert "wrong-key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("title = \n[node]\n", "line 1"),
        ("title = 'x'\n[node]\n", "'link' is missing"),
        ("title = 'x'\n[node]\n[link]\na = ['p q', 'r s']\n", "no end"),
        ("title = 'x'\n[node]\n[link]\n[host.h]\ncolour = 'red'\n", "colour"),
        ("title = 'x'\n[node]\n[link]\n[sabotage.s]\nnode = 'p'\nred = []\n", "no node called 'p'"),
        ("title = 'x'\n[node]\n[link]\n[sabotage.s]\nred = ['row']\n", "no check called 'row'"),
    ],
)
def test_a_broken_scenario_says_what_is_wrong(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(text)
    with pytest.raises(ScenarioError, match=complaint):
        load(str(tmp_path))
