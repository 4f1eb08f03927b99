"""Our own nodes as a user runs them: `labelspan run` in a namespace, asked over the control socket."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stack.control import ControlError, request
from stack.lab.namespace import Namespace

READY_WITHIN = 30.0


class Node:
    """`bindings`: interface -> device of the namespace."""

    module = "stack.cli"

    def __init__(self, namespace: Namespace, config: str, bindings: Mapping[str, str], folder: Path) -> None:
        self.namespace = namespace
        self.name = namespace.name
        self.file, self.socket, self.log = (folder / f"{self.name}.{end}" for end in ("cfg", "sock", "log"))
        self.bindings = bindings
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        self.launch()
        self.ready()

    def launch(self) -> None:
        """Without waiting."""
        self.file.write_text(self.config)
        command = [sys.executable, "-m", self.module, "run", str(self.file), "--name", self.name]
        command += ["--control", str(self.socket)]
        for interface, device in self.bindings.items():
            command += ["--bind", f"{interface}={device}"]
        with self.log.open("ab") as log:
            self.process = self.namespace.spawn(command, stdout=log, stderr=subprocess.STDOUT)

    def ready(self) -> None:
        self.until("show version", bool, within=READY_WITHIN)

    def show(self, command: str) -> Any:
        """The plain value of a command. Raises ControlError, AssertionError."""
        (reply,) = asyncio.run(request(self.socket, [command]))
        assert reply["ok"], f"{self.name}: {command}: {reply['error']}"
        return reply["value"]

    def text(self, command: str) -> str:
        (reply,) = asyncio.run(request(self.socket, [command]))
        assert reply["ok"], f"{self.name}: {command}: {reply['error']}"
        return str(reply["text"])

    def until(self, command: str, holds: Callable[[Any], Any], *, within: float = 30.0) -> Any:
        """The value of `command` once `holds(it)`."""
        end = time.monotonic() + within
        answer: Any = None
        while True:
            try:
                answer = self.show(command)
                if holds(answer):
                    return answer
            except ControlError as error:
                answer = str(error)
            if time.monotonic() > end or (self.process is not None and self.process.poll() is not None):
                raise AssertionError(f"{self.name}: {command}: {str(answer)[:1500]}\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def configure(self, config: str) -> None:
        assert self.process is not None
        self.config = config
        self.file.write_text(config)
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is not None:
            print(f"--- log of {self.name}\n{self.log.read_text()[-4000:]}")
