"""What an ordinary user can do: the lab on real packets in a user namespace, where /dev/net/tun may be opened; where not, and
for `labelspan run`, words that say what is missing and what mends it.

The user is `nobody`, in a mount namespace with a /dev/net/tun of the test's own, so that the machine's is left alone.
"""

from __future__ import annotations

import json
import shlex
import site
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.conftest import missing, require_root, require_tool

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
CONFIG = "stack/lab/scenarios/mgre/pe1.cfg"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


CODE, PACKAGES = "/mnt/code", "/mnt/packages"
"""Where nobody finds us and what we need, wherever that stands: it may be in a folder that is not everybody's."""


def enclosed(inner: Sequence[str], *, tun: int = 0o666, capabilities: Sequence[str] = ()) -> list[str]:
    """A command as nobody, in a mount namespace of its own, with these capabilities and no way to others."""
    (packages,) = (path for path in site.getsitepackages() if Path(path, "uvloop").is_dir())
    steps = ["mkdir -p /dev/net /mnt", "mount -t tmpfs tmpfs /dev/net", f"mknod -m {tun:o} /dev/net/tun c 10 200"]
    steps += ["mount -t tmpfs tmpfs /mnt", f"mkdir {CODE} {PACKAGES}", f"mount --bind {shlex.quote(str(ROOT))} {CODE}"]
    steps += [f"mount --bind {shlex.quote(packages)} {PACKAGES}"]
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if capabilities:
        only = ",".join(("-all", *(f"+{name}" for name in capabilities)))
        user += ["--no-new-privs", f"--bounding-set={only}", f"--inh-caps={only}", f"--ambient-caps={only}"]
    user += ["env", "-i", "PATH=/usr/bin:/bin"]
    steps += [f"exec {shlex.join([*user, f'PYTHONPATH={CODE}:{PACKAGES}', *inner])}"]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", " && ".join(steps)]


def interpreter() -> str:
    """A Python that `nobody` may run, with our packages: the one that runs us, or the system's of the same version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/bin/python{version}"):
        command = enclosed([path, "-c", "import stack.cli, uvloop, attrs"])
        if subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0:
            return path
    missing("a Python interpreter that an ordinary user may run")
    raise AssertionError


@pytest.fixture(scope="module")
def python() -> str:
    require_root()
    require_tool("unshare")
    require_tool("setpriv")
    return interpreter()


@pytest.fixture
def as_nobody(python: str) -> Run:
    """Runs `labelspan` words as nobody; `tun`: the mode of /dev/net/tun; `ci`: whether CI is set."""

    def run(words: Sequence[str], *, tun: int = 0o666, ci: bool = False) -> subprocess.CompletedProcess[str]:
        home = ["env", "HOME=/dev/shm", "TMPDIR=/dev/shm", *(["CI=true"] if ci else [])]
        command = enclosed([*home, python, "-m", "stack.cli", *words], tun=tun)
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, cwd="/")

    return run


def test_the_lab_on_real_packets_without_root(as_nobody: Run) -> None:
    done = as_nobody(["lab", "mgre", "--backend", "auto", "--json"], ci=True)
    if "user namespace" in done.stderr:
        missing("user namespaces for ordinary users")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["backend"], verdict["ok"]) == ("netns", True)
    assert "user namespaces are allowed" in verdict["why"]
    assert len(verdict["rows"]) > 15


def test_a_closed_tun_device_is_named_with_its_remedy(as_nobody: Run) -> None:
    for options, ci in ((["--backend", "netns"], False), ([], True)):
        done = as_nobody(["lab", "mgre", *options], tun=0o600, ci=ci)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "/dev/net/tun is for root only" in done.stderr
        assert "sudo chmod 666 /dev/net/tun" in done.stderr


def test_auto_falls_back_to_memory_and_says_why(as_nobody: Run) -> None:
    done = as_nobody(["lab", "mgre"], tun=0o600)
    assert done.returncode == 0, done.stdout + done.stderr
    first = done.stdout.splitlines()[0]
    assert "backend memory" in first
    assert "/dev/net/tun is for root only" in first
    assert "sudo chmod 666 /dev/net/tun" in first


def test_run_without_privileges_names_each_and_its_remedy(as_nobody: Run) -> None:
    done = as_nobody(["run", f"{CODE}/{CONFIG}", "--control", "/dev/shm/pe1.sock"], tun=0o600)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for what in ("CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "/dev/net/tun"):
        assert f"labelspan: {what} is missing" in done.stderr
    assert "sudo setcap cap_net_raw,cap_net_admin,cap_net_bind_service+ep" in done.stderr
    assert "sudo chmod 666 /dev/net/tun" in done.stderr


def test_run_as_root_without_one_capability_names_that_one(tmp_path: Path) -> None:
    """As in a container that was given too little."""
    require_root()
    require_tool("setpriv")
    command = [
        "setpriv",
        "--bounding-set",
        "-net_raw",
        "--inh-caps",
        "-net_raw",
        sys.executable,
        "-m",
        "stack.cli",
        "run",
    ]
    command += [CONFIG, "--control", str(tmp_path / "pe1.sock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("is missing") == 1
    assert "labelspan: CAP_NET_RAW is missing" in done.stderr
    assert "raw IP and packet sockets" in done.stderr
    assert "mend it with: " in done.stderr
