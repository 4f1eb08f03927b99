"""strongSwan in a namespace of a test: Debian's charon-systemd, driven by swanctl, with a folder and a socket of its own."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from stack.lab.namespace import Namespace
from tests.conftest import require_tool

READY_WITHIN = 15.0

PLUGINS = (
    "random nonce openssl pem pkcs1 pkcs8 x509 revocation constraints pubkey hmac kdf gcm aes sha1 sha2 chapoly curve25519 "
    "drbg {kernel} socket-default vici updown attr"
)

STRONGSWAN_CONF = """
charon-systemd {{
  load = {plugins}
  filelog {{
    log {{
      path = {folder}/charon.log
      ike_name = yes
      default = 1
      ike = 2
      cfg = 2
      flush_line = yes
    }}
  }}
  plugins {{
    vici {{
      socket = unix://{folder}/vici
    }}
    {kernel} {{
      load = yes
    }}
  }}
{settings}
}}
swanctl {{
  load = pem pkcs1 x509 revocation constraints pubkey openssl random pkcs8 sha1 sha2
}}
"""


class Swan:
    """`config`: text of swanctl.conf; `files`: name under the swanctl folder (x509/peer.pem, private/peer.pem,
    x509ca/ca.pem) -> octets; `settings`: lines of strongswan.conf inside its daemon's section. `kernel`: which ESP:
    `kernel-libipsec` is its userspace ESP (tunnel mode in UDP), `kernel-netlink` the kernel's."""

    def __init__(
        self,
        namespace: Namespace,
        folder: Path,
        config: str,
        *,
        files: dict[str, bytes] | None = None,
        settings: str = "",
        kernel: str = "kernel-libipsec",
    ) -> None:
        require_tool("swanctl")
        self._daemon = require_tool("charon-systemd")
        self.namespace = namespace
        self.folder = folder / f"swan-{namespace.name}"
        (self.folder / "swanctl").mkdir(parents=True)
        for name, octets in (files or {}).items():
            path = self.folder / "swanctl" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(octets)
            path.chmod(0o600)
        for name in ("x509", "x509ca", "x509crl", "private", "pkcs8"):
            (self.folder / "swanctl" / name).mkdir(exist_ok=True)
        plugins = PLUGINS.format(kernel="kernel-libipsec kernel-netlink" if kernel == "kernel-libipsec" else kernel)
        self._conf = self.folder / "strongswan.conf"
        self._conf.write_text(
            STRONGSWAN_CONF.format(plugins=plugins, folder=self.folder, kernel=kernel, settings=settings)
        )
        self._config = self.folder / "swanctl" / "swanctl.conf"
        self._config.write_text(config)
        self._environment = {
            **os.environ,
            "STRONGSWAN_CONF": str(self._conf),
            "SWANCTL_DIR": str(self.folder / "swanctl"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        with (self.folder / "stderr").open("wb") as log:
            self._process = self.namespace.spawn(
                [self._daemon], stdout=log, stderr=subprocess.STDOUT, env=self._environment
            )
        end = time.monotonic() + READY_WITHIN
        while not (self.folder / "vici").exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"charon-systemd did not start: {(self.folder / 'stderr').read_text()[-800:]}")
            time.sleep(0.05)
        self.swanctl("--load-all", "--file", str(self._config))

    def crash(self) -> None:
        """It is gone without a word; `start` has it back, with nothing but its configuration."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        (self.folder / "vici").unlink()

    def swanctl(self, *arguments: str, check: bool = True, within: float = 30.0) -> str:
        """What swanctl printed."""
        command = ["swanctl", *arguments, "--uri", f"unix://{self.folder / 'vici'}"]
        done = self.namespace.run(
            lambda: subprocess.run(
                command, capture_output=True, text=True, timeout=within, check=False, env=self._environment
            )
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout[-1500:]} {done.stderr[-500:]}"
        return str(done.stdout)

    def initiate(self, child: str, *, within: float = 20.0) -> str:
        return self.swanctl("--initiate", "--child", child, "--timeout", str(int(within)), within=within + 5)

    def sas(self) -> str:
        return self.swanctl("--list-sas")

    @property
    def log(self) -> str:
        path = self.folder / "charon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def until(self, text: str, *, within: float = 20.0) -> None:
        """Wait for `text` in its log."""
        end = time.monotonic() + within
        while text not in self.log:
            assert time.monotonic() < end, f"strongSwan never said {text!r}:\n{self.log[-3000:]}"
            time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if kind is not None:
            print(f"--- strongSwan's log\n{self.log[-6000:]}")
