"""Linux's own GRE and MPLS, in a User-mode Linux of Debian's, since the machine's kernel may lack the modules.

It boots over hostfs in about three seconds, runs a shell on its console, and its network devices (one, if no more are
asked for) are taps in the namespace of the test. It sees all files of the machine, and may write under /run, which is its own.
"""

from __future__ import annotations

import itertools
import os
import selectors
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from stack.lab.namespace import Namespace
from tests.conftest import require_tool

MODULES = ("ip_gre", "mpls_router", "mpls_iptunnel", "mpls_gso", "ipip", "vrf", "veth", "tun", "nf_tables")
ESP_MODULES = (
    "esp4", "xfrm_user", "gcm", "ctr", "ghash_generic", "echainiv", "seqiv", "authenc", "authencesn", "cbc", "hmac",
    "sha256_generic", "sha512_generic", "drbg", "chacha20poly1305", "chacha_generic", "poly1305_generic", "aes_generic",
)  # fmt: skip
"""What the kernel's ESP is made of; without drbg every SA fails with ENOENT."""
LOG_MODULES = ("dummy", "nfnetlink_log", "iptable_filter", "xt_NFLOG", "xt_hashlimit")
"""What nhrpd is told of the kernel's hairpins with."""

BOOT_WITHIN = 60.0

INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs none /run
mkdir -p /run/root/lib /run/netns
export TMPDIR=/run HOME=/run PYTHONDONTWRITEBYTECODE=1
ln -s /usr/lib/uml/modules /run/root/lib/modules
for module in {modules}; do modprobe -d /run/root $module || echo "NO MODULE $module"; done
ip link set lo up
echo BOOTED
while read -r line; do
  eval "$line" 2>&1
  echo "STATUS $?"
done
"""


class UserModeLinux:
    """`tap`: name of the tap device that is made in `namespace`; inside it is eth0. `more_taps`: eth1 and so on. `modules`:
    besides the usual ones."""

    _numbers = itertools.count()

    def __init__(
        self,
        namespace: Namespace,
        folder: Path,
        *,
        tap: str = "tap0",
        more_taps: tuple[str, ...] = (),
        modules: tuple[str, ...] = (),
    ) -> None:
        self._linux = require_tool("linux.uml")
        for program in ("modprobe", "ip", "ping", "sysctl"):  # it has the machine's programs
            require_tool(program)
        self._namespace = namespace
        self._taps = (tap, *more_taps)
        self._init = folder / "init"
        self._init.write_text(INIT.format(modules=" ".join((*MODULES, *modules))))
        self._init.chmod(0o755)
        self._name = f"labelspan-{os.getpid()}-{next(self._numbers)}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""

    def __enter__(self) -> Self:
        for tap in self._taps:
            self._make(tap)
        command = [
            self._linux, "mem=384M", "rootfstype=hostfs", "rootflags=/", "ro", f"init={self._init}", "con=null",
            "con0=fd:0,fd:1", "quiet", f"umid={self._name}", f"uml_dir={self._folder}",
        ]  # fmt: skip
        command += [f"eth{number}=tuntap,{tap}" for number, tap in enumerate(self._taps)]
        # Its memory is a file: /dev/shm, where it would be by default, is too small for that in many containers.
        environment = {**os.environ, "TMPDIR": str(self._folder)}
        self._process = self._namespace.spawn(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env=environment,
        )  # fmt: skip
        said = self._until(b"BOOTED", BOOT_WITHIN)
        assert b"NO MODULE" not in said, said.decode(errors="replace")
        return self

    def _make(self, tap: str) -> None:
        self._namespace.run(lambda: subprocess.run(["ip", "tuntap", "add", tap, "mode", "tap"], check=True))
        self._namespace.up(tap)

    def _until(self, wanted: bytes, within: float) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        end = time.monotonic() + within
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while wanted not in self._read:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"User-mode Linux said only: {self._read[-800:].decode(errors='replace')}")
                octets = os.read(process.stdout.fileno(), 65536)
                if not octets:
                    raise AssertionError(f"User-mode Linux ended: {self._read[-800:].decode(errors='replace')}")
                self._read += octets
        said, _, self._read = self._read.partition(wanted)
        return said

    def run(self, command: str, *, within: float = 30.0, check: bool = True) -> str:
        """What a shell command printed inside."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()
        said = self._until(b"STATUS ", within).decode(errors="replace")
        status = self._until(b"\n", within).strip()
        if check:
            assert status == b"0", f"{command}: {status!r}: {said}"
        return said

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
