"""strongSwan inside User-mode Linux, so that the ESP it sets up is the Linux kernel's."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conftest import require_tool
from tests.interop.swan import PLUGINS, READY_WITHIN, STRONGSWAN_CONF
from tests.interop.uml import UserModeLinux

__all__ = ["KernelSwan"]

RUN = "/run/swan"
"""Inside: its log, and the socket of vici."""


class KernelSwan:
    """`config`, `files`, `settings` as of `Swan`. What it reads lies in `folder`, which is seen inside too."""

    def __init__(
        self,
        uml: UserModeLinux,
        folder: Path,
        config: str,
        *,
        files: dict[str, bytes] | None = None,
        settings: str = "",
    ) -> None:
        self._daemon, self._control = require_tool("charon-systemd"), require_tool("swanctl")
        self._uml = uml
        self._folder = folder / "swan"
        (self._folder / "swanctl").mkdir(parents=True)
        for name in ("x509", "x509ca", "x509crl", "private", "pkcs8"):
            (self._folder / "swanctl" / name).mkdir()
        for name, octets in (files or {}).items():
            path = self._folder / "swanctl" / name
            path.write_bytes(octets)
            path.chmod(0o600)
        (self._folder / "strongswan.conf").write_text(
            STRONGSWAN_CONF.format(
                plugins=PLUGINS.format(kernel="kernel-netlink"), folder=RUN, kernel="kernel-netlink", settings=settings
            )
        )
        self._file = self._folder / "swanctl" / "swanctl.conf"
        self._file.write_text(config)
        self._where = f"STRONGSWAN_CONF={self._folder}/strongswan.conf SWANCTL_DIR={self._folder}/swanctl"

    def __enter__(self) -> Self:
        self._uml.run(
            f"mkdir -p {RUN} && {{ {self._where} {self._daemon} </dev/null >{RUN}/stderr 2>&1 & charon=$!; }}"
        )
        tries = int(READY_WITHIN / 0.05)
        ready = f"for n in $(seq {tries}); do [ -S {RUN}/vici ] && break; sleep 0.05; done; [ -S {RUN}/vici ]"
        self._uml.run(f"{ready} || {{ cat {RUN}/stderr; false; }}", within=2 * READY_WITHIN)
        self.load()
        return self

    def load(self, config: str | None = None) -> None:
        """What is not in `config` any more is forgotten; what stands is left alone."""
        if config is not None:
            self._file.write_text(config)
        self.swanctl("--load-all", "--file", str(self._file))

    def swanctl(self, *arguments: str, check: bool = True, within: float = 30.0) -> str:
        """What swanctl printed."""
        words = " ".join(arguments)
        return self._uml.run(
            f"{self._where} {self._control} {words} --uri unix://{RUN}/vici </dev/null", check=check, within=within
        )

    def initiate(self, child: str, *, within: float = 20.0) -> str:
        return self.swanctl("--initiate", "--child", child, "--timeout", str(int(within)), within=within + 5)

    def sas(self) -> str:
        return self.swanctl("--list-sas")

    @property
    def log(self) -> str:
        return self._uml.run(f"cat {RUN}/charon.log")

    def mark(self) -> int:
        """How long its log is, for `since`."""
        return int(self._uml.run(f"wc -c <{RUN}/charon.log").split()[-1])  # behind the console's echo

    def since(self, mark: int) -> str:
        """Its log from then on."""
        return self._uml.run(f"tail -c +{mark + 1} {RUN}/charon.log")

    def until(self, text: str, *, since: int = 0, within: float = 20.0) -> str:
        """Its log from `since` on, once `text` is in it."""
        end = time.monotonic() + within
        while text not in (log := self.since(since)):
            assert time.monotonic() < end, f"strongSwan never said {text!r}:\n{log[-3000:]}"
            time.sleep(0.1)
        return log

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(f"--- strongSwan's log\n{self.log[-6000:]}")
        self._uml.run("kill $charon", check=False)
