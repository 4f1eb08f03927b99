"""The console command as a user runs it: in a process of its own, with its exit codes and its exact words."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from stack.addr import Prefix
from stack.control import ControlError, ControlServer, request
from stack.daemon import configure_logging
from stack.ios.command import CommandError, Shown
from stack.lab.namespace import Namespace
from tests.conftest import require_root

ROOT = Path(__file__).resolve().parents[2]
TEXT = "hostname pe9\n!\ninterface Ethernet0/0\n ip address 10.9.0.1 255.255.255.252\n!\ninterface Loopback0\n"


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "stack.cli", *map(str, words)]


def labelspan(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pe9.cfg"
    path.write_text(TEXT)
    return path


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("exec",), "the following arguments are required: COMMAND"),
        (("exec", "show clock"), "one of the arguments --name --control is required"),
        (("exec", "--name", "a", "--control", "b", "show clock"), "not allowed with argument"),
        (("lab", "mgre", "--backend", "cloud"), "invalid choice: 'cloud'"),
        (("run",), "the following arguments are required: file"),
    ],
)
def test_wrong_usage_is_exit_2(words: tuple[str, ...], complaint: str) -> None:
    done = labelspan(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.startswith("usage: labelspan")


def test_help_names_every_command() -> None:
    done = labelspan("--help")
    assert done.returncode == 0
    assert all(f"\n    {word} " in done.stdout for word in ("lab", "run", "exec", "check"))


# --- check, and what run refuses --------------------------------------------------------------------------------------


def test_check_of_a_sound_file(config: Path) -> None:
    done = labelspan("check", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{config}: nothing to say"


@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_file_that_is_not_there(tmp_path: Path, verb: str) -> None:
    for path, words in ((tmp_path / "none.cfg", "No such file or directory"), (tmp_path, "Is a directory")):
        done = labelspan(verb, path)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"labelspan: {path}: {words}\n")


BAD = TEXT.replace("ip address", "ip adress")


@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_configuration_error_is_exit_2_and_nothing_is_started(tmp_path: Path, verb: str) -> None:
    path, socket = tmp_path / "bad.cfg", tmp_path / "n.sock"
    path.write_text(BAD)
    done = labelspan(verb, path, *(["--control", socket, "--state", tmp_path / "state"] if verb == "run" else []))
    assert (done.returncode, done.stdout) == (2, "")
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"{path}:4")
    assert any(line.rstrip().endswith("^") for line in rest)
    assert "address" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.cfg"]


def test_a_file_of_octets_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "octets.cfg"
    path.write_bytes(bytes(range(256)) * 4)
    for verb in ("check", "run"):
        done = labelspan(verb, path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stderr


def test_a_file_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    path = tmp_path / "pe9.cfg"
    path.write_text(TEXT + " description grüße\n", encoding="utf-8")
    done = labelspan("check", path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ("Ethernet0/0", "INTERFACE=DEVICE expected, e.g. Ethernet0/0=eth0"),
        ("=eth0", "INTERFACE=DEVICE expected, e.g. Ethernet0/0=eth0"),
        ("Ethernet0/0=", "INTERFACE=DEVICE expected, e.g. Ethernet0/0=eth0"),
        ("Ethernet0/7=eth0", "there is no Ethernet0/7 that takes a device; there are: Ethernet0/0"),
        ("Loopback0=lo", "there is no Loopback0 that takes a device; there are: Ethernet0/0"),
        ("Etherbet0/0=eth0", "'Etherbet0/0' is no interface; is it Ethernet0/0?"),
    ],
)
def test_a_binding_that_would_bind_nothing(config: Path, binding: str, words: str) -> None:
    done = labelspan("run", config, "--control", config.with_suffix(".sock"), "--bind", binding)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"labelspan: --bind {binding!r}: {words}\n"
    assert not config.with_suffix(".sock").exists()


# --- exec -------------------------------------------------------------------------------------------------------------


class FakeRouter:
    def __init__(self) -> None:
        self.context = self
        self.log = structlog.get_logger()

    def execute(self, line: str) -> Shown:
        match line:
            case "show clock":
                return Shown("12:00", {"hour": 12})
            case "show long":
                return Shown("line\n" * 200_000, list(range(10)))
        raise CommandError(f"there is no command {line!r}")


@contextmanager
def node(path: Path) -> Iterator[Path]:
    """A control server in a thread of its own."""
    loop, up = asyncio.new_event_loop(), threading.Event()
    server = ControlServer(FakeRouter(), path)  # type: ignore[arg-type]

    def body() -> None:
        loop.run_until_complete(server.start())
        loop.call_soon(up.set)
        loop.run_forever()
        loop.run_until_complete(server.stop())
        loop.close()

    thread = threading.Thread(target=body)
    thread.start()
    try:
        assert up.wait(10)
        yield path
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_exec_without_a_node(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    done = labelspan("exec", "--control", path, "show clock")
    words = f"labelspan: no node listens at {path}; is `labelspan run` up, under this --name?\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", words)
    named = labelspan("exec", "--name", "no-such-node", "show clock", XDG_RUNTIME_DIR=str(tmp_path))
    assert named.returncode == 1
    assert "/labelspan/no-such-node.sock; is `labelspan run` up" in named.stderr


def test_exec(tmp_path: Path) -> None:
    with node(tmp_path / "n.sock") as path:
        one = labelspan("exec", "--control", path, "show clock")
        assert (one.returncode, one.stdout, one.stderr) == (0, "12:00\n", "")
        two = labelspan("exec", "--control", path, "show clock", "show clock")
        assert two.stdout == "# show clock\n12:00\n" * 2
        mixed = labelspan("exec", "--control", path, "show nonsense", "show clock")
        assert (mixed.returncode, mixed.stdout) == (1, "# show clock\n12:00\n")
        assert mixed.stderr == "show nonsense: there is no command 'show nonsense'\n"


def test_exec_as_json_has_a_value_for_every_command(tmp_path: Path) -> None:
    with node(tmp_path / "n.sock") as path:

        def plain(*commands: str) -> tuple[int, Any]:
            done = labelspan("exec", "--control", path, "--json", *commands)
            return done.returncode, json.loads(done.stdout)

        assert plain("show clock") == (0, {"hour": 12})
        assert plain("show clock", "show clock") == (0, [{"hour": 12}] * 2)
        assert plain("show nonsense", "show clock") == (1, [None, {"hour": 12}])
        assert plain("show nonsense") == (1, None)


def test_a_reader_that_has_had_enough_is_no_error(tmp_path: Path) -> None:
    with node(tmp_path / "n.sock") as path:
        process = subprocess.Popen(
            command("exec", "--control", path, "show long"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(10) == 0


# --- run --------------------------------------------------------------------------------------------------------------


def test_S09_what_peers_send_does_not_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        configure_logging(as_json=False)
        log = structlog.get_logger()
        log.info(
            "peer\x1b]0;mine\x07said", text="\x1b[2J\x9bowned", value=Prefix.parse("10.0.0.0/8"), number=7, on=True
        )
    finally:
        structlog.configure(**before)
    seen = capsys.readouterr().err
    assert "owned" in seen
    assert "number=7" in seen
    assert not any(character in seen for character in "\x1b\x07\x9b")


@contextmanager
def running(namespace: Namespace, config: Path, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    log = config.with_suffix(".log").open("wb")
    process = namespace.spawn(
        command("run", config, "--control", config.with_suffix(".sock"), *words), cwd=ROOT, stdout=log, stderr=log
    )
    try:
        yield process
    finally:
        log.close()
        if process.poll() is None:
            process.kill()
        process.wait()


def ask(config: Path, line: str, *, within: float = 30.0) -> Any:
    """The reply, once the node answers."""
    end = time.monotonic() + within
    while True:
        try:
            (reply,) = asyncio.run(request(config.with_suffix(".sock"), [line]))
        except ControlError:
            assert time.monotonic() < end, config.with_suffix(".log").read_text()
            time.sleep(0.05)
        else:
            return reply


def until_logged(config: Path, text: str, *, within: float = 10.0) -> str:
    end = time.monotonic() + within
    while text not in (log := config.with_suffix(".log").read_text()):
        assert time.monotonic() < end, log
        time.sleep(0.02)
    return log


@pytest.mark.root
def test_a_node_runs_rereads_its_file_and_stops(config: Path) -> None:
    require_root()
    with Namespace("cli-run") as namespace, running(namespace, config, "--state", config.parent / "s" / "t") as process:
        assert ask(config, "show version")["value"]["hostname"] == "pe9"
        assert "running" in until_logged(config, "running")
        assert (config.parent / "s" / "t").is_dir()
        # A faulty file changes nothing, and says so with the line.
        config.write_text(BAD)
        process.send_signal(signal.SIGHUP)
        until_logged(config, "configuration not applied")
        assert ask(config, "show version")["value"]["hostname"] == "pe9"
        # Neither does one that is gone.
        config.unlink()
        process.send_signal(signal.SIGHUP)
        until_logged(config, "No such file or directory")
        config.write_text(TEXT.replace("pe9", "pe8"))
        process.send_signal(signal.SIGHUP)
        until_logged(config, "configuration applied")
        assert ask(config, "show version")["value"]["hostname"] == "pe8"
        # Another node does not take its socket.
        second = config.with_name("second.cfg")
        second.write_text(TEXT)
        refused = namespace.spawn(
            command("run", second, "--control", config.with_suffix(".sock")), cwd=ROOT, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        assert refused.stderr is not None
        assert f"another node answers at {config.with_suffix('.sock')}" in refused.stderr.read()
        refused.stderr.close()
        assert refused.wait(10) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert "Traceback" not in config.with_suffix(".log").read_text()
        assert not config.with_suffix(".sock").exists()


@pytest.mark.root
def test_a_state_folder_that_cannot_be_made_is_told(config: Path) -> None:
    require_root()
    with Namespace("cli-state") as namespace, running(namespace, config, "--state", config / "below") as process:
        assert process.wait(30) == 1
        assert config.with_suffix(".log").read_text().startswith("labelspan: [Errno 20] Not a directory: ")


@pytest.mark.root
def test_without_privileges_run_is_exit_3_with_the_names(config: Path) -> None:
    require_root()
    # capset(2): no capability at all, whoever the user is.
    program = (
        "import ctypes, struct, sys; from stack.cli import main;"
        "ctypes.CDLL(None).capset(struct.pack('Ii', 0x20080522, 0), bytes(24)); sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", str(config), "--control", str(config.with_suffix(".sock"))],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "CAP_NET_ADMIN is missing" in done.stderr
    assert "mend it with: sudo setcap" in done.stderr
    assert not config.with_suffix(".sock").exists()
