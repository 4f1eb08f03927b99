"""Writes docs/rfc-coverage.md from the names of the tests: `test_rfc7606_5_3_...` proves a rule of RFC 7606, section 5.3;
`test_B07_...` proves row B07 of the fault matrix. Run by `make docs`; a test keeps the file up to date."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
RFC = re.compile(r"rfc(\d{3,5})((?:_\d+[a-z]?)*)")
FAULT = re.compile(r"(?<![A-Za-z0-9])([BVTSM]\d\d)(?![0-9])")


def tests() -> list[tuple[str, str]]:
    """(file, test name) of every test in the tree."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                found.append((str(path.relative_to(TESTS)), node.name))
    return found


def text() -> str:
    clauses: defaultdict[int, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    faults: defaultdict[str, list[str]] = defaultdict(list)
    for file, name in tests():
        for match in RFC.finditer(name):
            section = match.group(2).strip("_").replace("_", ".") or "whole"
            clauses[int(match.group(1))][section].append(f"{file}: {name}")
        for fault in FAULT.findall(name.replace("_", " ")):
            faults[fault].append(f"{file}: {name}")
    lines = [
        "# What is proven, clause by clause",
        "",
        "Made from the names of the tests by `make docs`; a clause that is not here has no test of its own.",
    ]
    for rfc in sorted(clauses):
        lines += ["", f"## RFC {rfc}", "", "| section | tests |", "|---|---|"]
        for section in sorted(clauses[rfc], key=_by_number):
            proofs = "<br>".join(f"`{proof}`" for proof in sorted(clauses[rfc][section]))
            lines.append(f"| {section} | {proofs} |")
    lines += ["", "## Faults and attacks", "", "| id | tests |", "|---|---|"]
    lines += [f"| {fault} | {'<br>'.join(f'`{proof}`' for proof in sorted(faults[fault]))} |" for fault in sorted(faults)]
    return "\n".join(lines) + "\n"


def _by_number(section: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() else (0, part) for part in section.split("."))


if __name__ == "__main__":
    (HERE / "rfc-coverage.md").write_text(text())
    print(f"wrote {HERE / 'rfc-coverage.md'}", file=sys.stderr)
