"""Writes docs/rfc-coverage.md from the names of the tests and of their cases: `test_rfc7606_5_3_...` proves a rule of RFC
7606, section 5.3, and so does a case `[rfc7606_5_3_...]`; `test_B07_...` proves row B07 of the fault matrix, and a file
whose docstring says `Fault row I13` proves that with every test. Run by `make docs`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
RFC = re.compile(r"rfc_?(\d{3,5})((?:_\d+[a-z]?(?![a-z0-9]))*)", re.IGNORECASE)
FAULT = re.compile(r"(?<![A-Za-z0-9])([BEIMSTV]\d\d)(?![A-Za-z0-9])")

WHOLE = re.compile(r"Fault row ([BEIMSTV]\d\d)")

Proofs = defaultdict[str, Counter[str]]


def tests() -> list[str]:
    """Node ids of every test and case, as pytest collects them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--no-header", "tests"]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)  # noqa: S603
    return [line for line in done.stdout.splitlines() if "::" in line]


def text(ids: list[str]) -> str:
    clauses: defaultdict[int, Proofs] = defaultdict(lambda: defaultdict(Counter))
    faults: Proofs = defaultdict(Counter)
    for node in ids:
        file, _, case = node.partition("::")
        if whole := row_of(file):
            faults[whole][str(Path(file).relative_to("tests"))] += 1
        proof = f"{Path(file).relative_to('tests')}: {case.partition('[')[0]}"
        for match in RFC.finditer(case):
            section = match.group(2).strip("_").replace("_", ".") or "whole"
            clauses[int(match.group(1))][section][proof] += 1
        for fault in FAULT.findall(case.replace("_", " ")):
            faults[fault][proof] += 1
    lines = [
        "# What is proven, clause by clause",
        "",
        "Made from the names of the tests by `make docs`: the number behind a test is how many cases of it name the clause. A",
        "clause that is not here has no test that names it.",
    ]
    for rfc in sorted(clauses):
        lines += ["", f"## RFC {rfc}", "", "| section | tests |", "|---|---|"]
        lines += [
            f"| {section} | {_listed(clauses[rfc][section])} |" for section in sorted(clauses[rfc], key=_by_number)
        ]
    lines += ["", "## Faults and attacks", "", "| id | tests |", "|---|---|"]
    lines += [f"| {fault} | {_listed(faults[fault])} |" for fault in sorted(faults)]
    return "\n".join(lines) + "\n"


@cache
def row_of(file: str) -> str:
    """The fault row that a whole file is about; '' if there is none."""
    said = ast.get_docstring(ast.parse((HERE.parent / file).read_text())) or ""
    found = WHOLE.search(said)
    return found.group(1) if found else ""


def _listed(proofs: Counter[str]) -> str:
    return "<br>".join(f"`{proof}`" + (f" ({count})" if count > 1 else "") for proof, count in sorted(proofs.items()))


def _by_number(section: str) -> tuple[tuple[int, str], ...]:
    parts = (re.match(r"(\d*)(.*)", part) for part in section.split("."))
    return tuple((int(part.group(1) or 0), part.group(2)) for part in parts if part)


if __name__ == "__main__":
    (HERE / "rfc-coverage.md").write_text(text(tests()))
    print(f"wrote {HERE / 'rfc-coverage.md'}", file=sys.stderr)
