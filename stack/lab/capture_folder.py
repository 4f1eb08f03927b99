"""What `labelspan lab --capture DIR` leaves: `lab.pcapng`, every link an interface of it, and in `profile` every key."""

from __future__ import annotations

import shlex
from pathlib import Path

from attrs import field, frozen

from stack.keylog import FileKeyLog

__all__ = ["CaptureFolder"]


@frozen
class CaptureFolder:
    """Made (0700) if it is not there; what an earlier lab left in it is written anew. `key_log` has its folder ready, for
    this process and for others. Raises OSError."""

    folder: Path
    key_log: FileKeyLog = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        object.__setattr__(self, "key_log", FileKeyLog(self.profile, fresh=True))

    @property
    def pcapng(self) -> Path:
        return self.folder / "lab.pcapng"

    @property
    def profile(self) -> Path:
        """A Wireshark configuration, with the keys."""
        return self.folder / "profile"

    def words(self, left_out: int) -> str:
        """How to look at it. `left_out`: frames for which there was no room."""
        command = f"WIRESHARK_CONFIG_DIR={shlex.quote(str(self.profile))} tshark -r {shlex.quote(str(self.pcapng))}"
        full = f"; {left_out} frames had no room in it" if left_out else ""
        return f"captured, with every key: {command}{full}"
