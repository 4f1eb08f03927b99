"""`labelspan check FILE`: reads a configuration, says everything that is wrong or doubtful with it, starts nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stack.ios.checks import check, check_files
from stack.ios.faults import ConfigError, Fault, masked
from stack.ios.grammar import Finding
from stack.ios.reader import Reading, read
from stack.ios.syntax import clean
from stack.ios.toml import read_toml

__all__ = ["EXIT_CONFIG", "check_file", "doubts", "read_file", "refusals"]

EXIT_CONFIG = 2
"""It cannot be read, or has errors."""


def read_file(path: Path, specs: Iterable[Any] | None = None) -> Reading:
    """A configuration file, as TOML if its name says so. Raises OSError, ConfigError."""
    take = read_toml if path.suffix == ".toml" else read
    return take(path.read_text(encoding="utf-8", errors="replace"), str(path), specs)


def doubts(path: Path, reading: Reading, specs: Iterable[Any] | None = None) -> list[str]:
    """What `labelspan check` calls an error or a warning, a line each: legal, so a node runs with it, and says so."""
    found = [one for one in check(reading, specs) if one.severity != "note"]
    found += [one for one in check_files(reading, specs) if one.severity == "warning"]
    return [_told(path, one) for one in found]


def refusals(path: Path, reading: Reading, specs: Iterable[Any] | None = None) -> list[str]:
    """Why a node must not run with it, a line each: files are not what the configuration says of them."""
    return [_told(path, one) for one in check_files(reading, specs) if one.severity == "error"]


def _told(path: Path, one: Finding) -> str:
    return clean(f"{path}:{'' if one.number else ' '}{one}")


def check_file(path: Path, *, as_json: bool = False, specs: Iterable[Any] | None = None) -> int:
    """Print findings about the file, as text or as JSON. The exit code: 0 also with warnings and notes."""
    specs = None if specs is None else tuple(specs)
    try:
        reading = read_file(path, specs)
    except OSError as error:
        print(f"labelspan: {path}: {error.strerror}", file=sys.stderr)
        return EXIT_CONFIG
    except ConfigError as error:
        print(_json(path, error.faults, ()) if as_json else error, file=sys.stdout if as_json else sys.stderr)
        return EXIT_CONFIG
    found = (*check_files(reading, specs), *check(reading, specs))
    found = tuple(sorted(found, key=lambda one: one.severity != "error"))
    print(_json(path, (), found) if as_json else _text(path, found))
    return EXIT_CONFIG if any(one.severity == "error" for one in found) else 0


def _text(path: Path, found: tuple[Finding, ...]) -> str:
    counts = {kind: sum(one.severity == kind for one in found) for kind in ("error", "warning", "note")}
    told = ", ".join(f"{n} {kind}{'s' if n != 1 else ''}" for kind, n in counts.items() if n) or "nothing to say"
    return "\n".join([*(_told(path, one) for one in found), f"{path}: {told}"])


def _json(path: Path, faults: Iterable[Fault], found: Iterable[Finding]) -> str:
    value = {
        "file": str(path),
        "faults": [
            {
                "line": one.number,
                "column": one.column + 1,
                "width": one.width,
                "mode": one.mode,
                "path": one.path,
                "text": clean(masked(one.line)),
                "reason": one.why,
                "expected": list(one.expected),
                "suggestion": one.suggestion,
                "also": list(one.also),
            }
            for one in faults
        ],
        "findings": [
            {
                "severity": one.severity,
                "line": one.number,
                "text": one.text,
                "about": one.line,
                "suggestion": one.suggestion,
            }
            for one in found
        ],
    }
    return json.dumps(value, indent=2)
