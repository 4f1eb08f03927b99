"""FRR in a namespace of a test: zebra and bgpd of Debian's `frr`, with a path space of their own."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stack.lab.namespace import Namespace
from tests.conftest import require_tool

DAEMONS = Path("/usr/lib/frr")
READY_WITHIN = 15.0
OPTIONS = "frr version 8.4\nfrr defaults traditional\nhostname frr\nlog stdout warnings\n"


class Frr:
    """`config`: what bgpd is told; zebra needs nothing. Leaving the block ends both."""

    _numbers = itertools.count()

    def __init__(self, namespace: Namespace, config: str) -> None:
        require_tool("vtysh")
        self.space = f"labelspan-{os.getpid()}-{next(self._numbers)}"
        self._namespace = namespace
        self._config = Path("/etc/frr") / self.space
        self._run = Path("/var/run/frr") / self.space
        self._processes: list[subprocess.Popen[bytes]] = []
        for folder in (self._config, self._run):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.chown(folder, "frr", "frr")
        (self._config / "zebra.conf").write_text(OPTIONS)
        (self._config / "bgpd.conf").write_text(OPTIONS + config)

    def __enter__(self) -> Self:
        for daemon in ("zebra", "bgpd"):
            command = [str(DAEMONS / daemon), "-N", self.space, "-A", "127.0.0.1", "-P", "0"]
            command += ["-f", str(self._config / f"{daemon}.conf"), "-i", str(self._run / f"{daemon}.pid")]
            with (self._run / f"{daemon}.log").open("wb") as log:
                self._processes.append(self._namespace.spawn(command, stdout=log, stderr=subprocess.STDOUT))
            self._ready(daemon)
        return self

    def _ready(self, daemon: str) -> None:
        end = time.monotonic() + READY_WITHIN
        while not (self._run / f"{daemon}.vty").exists():
            if self._processes[-1].poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{daemon} did not start: {(self._run / f'{daemon}.log').read_text()[-800:]}")
            time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for folder in (self._config, self._run):
            shutil.rmtree(folder, ignore_errors=True)

    def vtysh(self, *commands: str) -> str:
        arguments = [word for command in commands for word in ("-c", command)]
        done = subprocess.run(
            ["vtysh", "-N", self.space, *arguments], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout

    def json(self, command: str) -> Any:
        return json.loads(self.vtysh(f"{command} json") or "{}")

    def until(self, command: str, holds: Any, *, within: float = 30.0) -> Any:
        """The JSON of `command` once `holds(it)`; its last answer in the error if it never does."""
        end = time.monotonic() + within
        while True:
            answer = self.json(command)
            if holds(answer):
                return answer
            if time.monotonic() > end:
                raise AssertionError(f"{command}: {json.dumps(answer)[:1500]}")
            time.sleep(0.2)


def prefixes(answer: Any) -> set[str]:
    """Every prefix in FRR's JSON, at whatever depth."""
    found: set[str] = set()
    if isinstance(answer, dict):
        found.update(key for key in answer if "/" in key)
        for part in answer.values():
            found |= prefixes(part)
    return found
