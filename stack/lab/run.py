"""`labelspan lab`: brings a scenario up, conducts its checks, prints the verdict."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve, frozen

from stack.ios.faults import ConfigError
from stack.lab.capture_folder import CaptureFolder
from stack.lab.checks import judge
from stack.lab.conduct import Conduct, Row
from stack.lab.prepare import prepare
from stack.lab.scenario import Sabotage, Scenario, ScenarioError, load
from stack.lab.testbed import BackendError, Testbed

__all__ = ["Verdict", "choose_backend", "run_lab"]

EXIT_RED, EXIT_WRONG, EXIT_BACKEND = 1, 2, 3


@frozen
class Verdict:
    """What a lab came to. `why`: why this backend."""

    scenario: str
    title: str
    backend: str
    why: str
    rows: tuple[Row, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)


def choose_backend(asked: str) -> tuple[str, str]:
    """(backend, why). `auto` takes real packets where they can be had; in CI nothing else counts. Raises BackendError."""
    if asked != "auto":
        return asked, "asked for"
    from stack.lab.namespace import why_not_rootless

    if os.geteuid() == 0:
        why, command = _why_not_as_root()
        fine = "root: real packets in network namespaces"
    else:
        refusal = why_not_rootless()
        why, command = (refusal.why, refusal.command) if refusal else ("", "")
        fine = "user namespaces are allowed: real packets without root"
    if not why:
        return "netns", fine
    if os.environ.get("CI"):
        raise BackendError(f"in CI a lab must run on real packets: {why}. Mend it with: {command}")
    return "memory", f"no real packets here ({why}; mend it with: {command})"


def _why_not_as_root() -> tuple[str, str]:
    """(why, what mends it): a container's root may make no namespace. Empty if this one may."""
    from stack.lab.namespace import Namespace
    from stack.os.privileges import TUN

    privileged = "start the container with --privileged"
    try:
        Namespace("probe").close()
    except OSError as error:
        return f"this root may make no network namespace: {error.strerror or error}", privileged
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"{TUN} cannot be opened", f"{privileged}, or with --device {TUN}"
    return "", ""


def run_lab(
    name: str,
    *,
    backend: str = "auto",
    keep: bool = False,
    capture: Path | None = None,
    as_json: bool = False,
    sabotage: str | None = None,
    variant: str | None = None,
) -> int:
    """Run a lab and print its verdict. 0: all green; 1: a red row; 2: no such scenario; 3: the backend cannot be had."""
    try:
        scenario = _variant(load(name), variant)
        broken = _sabotage(scenario, sabotage)
        chosen, why = choose_backend(backend)
        folder = CaptureFolder(capture) if capture is not None else None
        report = _print_row if not as_json else lambda _row: None
        announce = print if not as_json else lambda _title: None
        if not as_json:
            print(f"{scenario.title}: backend {chosen} ({why})", flush=True)
        verdict = _conduct(scenario, chosen, why, broken, folder, report, announce, keep=keep)
    except (ScenarioError, ConfigError) as error:
        print(f"labelspan: {error}", file=sys.stderr)
        return EXIT_WRONG
    except BackendError as error:
        print(f"labelspan: {error}", file=sys.stderr)
        return EXIT_BACKEND
    except BrokenPipeError:
        raise  # nobody reads on: the caller's to end quietly
    except OSError as error:  # the folder for captures
        print(f"labelspan: {error}", file=sys.stderr)
        return EXIT_WRONG
    if as_json:
        print(json.dumps(_plain(verdict), indent=2))
    else:
        _print_verdict(verdict)
    return 0 if verdict.ok else EXIT_RED


def _sabotage(scenario: Scenario, name: str | None) -> Sabotage | None:
    if name is None:
        return None
    if name not in scenario.sabotage:
        raise ScenarioError(f"there is no sabotage {name!r}; there are: {', '.join(sorted(scenario.sabotage))}")
    return scenario.sabotage[name]


Report = Callable[[Row], None]


def _conduct(
    scenario: Scenario,
    backend: str,
    why: str,
    sabotage: Sabotage | None,
    capture: CaptureFolder | None,
    report: Report,
    announce: Callable[[str], None],
    *,
    keep: bool,
) -> Verdict:
    started = time.monotonic()
    if backend != "memory":
        from stack.lab.netns import be_root

        be_root()
    with TemporaryDirectory(prefix="labelspan-lab-") as folder:
        prepared = prepare(scenario, Path(folder))
        conducts: dict[str, Conduct] = {}
        for name in _chosen(scenario, alone=sabotage is not None or keep or capture is not None):
            chosen = scenario.variant(name) if name else scenario
            if name:
                announce(f"{name}: {chosen.title}")
            conducts[name] = Conduct(chosen, None, sabotage, prepared)  # type: ignore[arg-type]  # its testbed comes next
        rows = _all_rows(conducts, backend, capture, report, keep=keep)
    return Verdict(scenario.name, scenario.title, backend, why, tuple(rows), time.monotonic() - started)


def _all_rows(
    conducts: Mapping[str, Conduct], backend: str, capture: CaptureFolder | None, report: Report, *, keep: bool
) -> list[Row]:
    """Of every variant. Real ones run beside each other, for they mostly wait; in memory each has a clock of its own."""
    if backend == "memory":
        from stack.lab.memory import MemoryTestbed
        from stack.testing import run

        found = [
            run(_rows(one, MemoryTestbed, capture, partial(_report_of, report, name), keep=False), strict=False)
            for name, one in conducts.items()
        ]
    else:
        found = asyncio.run(_beside(conducts, capture, report, keep=keep))
    return [_of_variant(row, name) for name, rows in zip(conducts, found, strict=True) for row in rows]


async def _beside(
    conducts: Mapping[str, Conduct], capture: CaptureFolder | None, report: Report, *, keep: bool
) -> list[tuple[Row, ...]]:
    from stack.lab.netns import NetnsTestbed

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_rows(one, NetnsTestbed, capture, partial(_report_of, report, name), keep=keep))
                for name, one in conducts.items()
            ]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None  # one says enough of what they all lack
    return [task.result() for task in tasks]


def _variant(scenario: Scenario, name: str | None) -> Scenario:
    """What was asked for: a variant alone, the scenario alone (''), or (None) it and all its variants."""
    if name is None:
        return scenario
    if not name:
        return evolve(scenario, variants={})
    if name not in scenario.variants:
        raise ScenarioError(f"there is no variant {name!r}; there are: {', '.join(scenario.variants) or 'none'}")
    return scenario.variant(name)


def _chosen(scenario: Scenario, *, alone: bool) -> tuple[str, ...]:
    """Which variants run ('' is the scenario itself): all of them. What is broken on purpose is broken once, and there is one
    capture and one lab to be kept: those are of the scenario itself."""
    return ("",) if alone else ("", *scenario.variants)


def _report_of(report: Report, variant: str, row: Row) -> None:
    report(_of_variant(row, variant))


def _of_variant(row: Row, variant: str) -> Row:
    return evolve(row, name=f"{variant}: {row.name}") if variant else row


async def _rows(
    conduct: Conduct, make: Callable[[Conduct], Any], capture: CaptureFolder | None, report: Report, *, keep: bool
) -> tuple[Row, ...]:
    scenario, sabotage = conduct.scenario, conduct.sabotage
    bed: Testbed = make(conduct)
    conduct.bed = bed
    rows = []
    try:
        await bed.start(capture)
        for check in scenario.checks:
            if sabotage is not None and sabotage.inject and check.kind in ("clear", "esp"):
                bed.inject(sabotage.inject, _clear_packet(conduct))
                await bed.pause(0.2)
            row = await judge(conduct, check)
            rows.append(row)
            report(row)
        if keep:
            print("the lab stays up; press Ctrl-C to end it", flush=True, file=sys.stderr)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not keep:
            raise
    finally:
        await bed.stop()
        if capture is not None:
            print(capture.words(bed.left_out()), file=sys.stderr, flush=True)
    return tuple(rows)


def _clear_packet(conduct: Conduct) -> bytes:
    """An echo of the first customer between two of its hosts, in no tunnel: what must never be on the core."""
    import struct

    from stack.addr import parse_address
    from stack.wire import internet_checksum

    hosts = list(conduct.scenario.host.values())
    ends = [parse_address(host.addresses[0].partition("/")[0]) for host in (hosts[0], hosts[1])]
    echo = struct.pack(">BBHHH", 8, 0, 0, 1, 1) + bytes(conduct.size(hosts[0].customer))
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(echo), 0, 0, 64, 1, 0, *ends)
    head = head[:10] + internet_checksum(head).to_bytes(2) + head[12:]
    return b"\x02\0\0\0\0\x99" + b"\x02\0\0\0\0\x98" + b"\x08\0" + head + echo


def _print_row(row: Row) -> None:
    print(f"  {'ok ' if row.ok else 'RED'}  {row.name}: {row.seen}", flush=True)


def _print_verdict(verdict: Verdict) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{verdict.title} ({verdict.backend})"), title_justify="left")
    table.add_column("check")
    table.add_column("")
    table.add_column("seen")
    table.add_column("s", justify="right")
    for row in verdict.rows:
        mark = "[green]ok[/green]" if row.ok else "[bold red]RED[/bold red]"
        table.add_row(Text(row.name), mark, Text(row.seen), f"{row.seconds:.1f}")  # what was seen is no markup
    Console(width=None if sys.stdout.isatty() else 118).print(table)
    red = sum(not row.ok for row in verdict.rows)
    words = "all green" if not red else f"{red} of {len(verdict.rows)} rows RED"
    print(f"verdict: {words}, {verdict.seconds:.1f} s")


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {
        "scenario": verdict.scenario,
        "backend": verdict.backend,
        "why": verdict.why,
        "ok": verdict.ok,
        "seconds": round(verdict.seconds, 3),
        "rows": [
            {"name": row.name, "ok": row.ok, "seen": row.seen, "seconds": round(row.seconds, 3)} for row in verdict.rows
        ],
    }
