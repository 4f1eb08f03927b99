"""Kernel switches under /proc/sys/net of the network namespace that the caller is in."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SysctlRefused", "read_sysctl", "write_sysctl"]

_ROOT = Path("/proc/sys")


class SysctlRefused(OSError):
    """A switch could not be set. `command` does it from outside; where /proc/sys is read-only (a container) only that
    helps."""

    def __init__(self, number: int, name: str, value: str, why: str) -> None:
        self.name = name
        self.value = value
        self.command = f"sudo sysctl -w {name}={value}"
        super().__init__(number, f"{name} cannot be set to {value}: {why}. Mend it with: {self.command}")


def _path(name: str) -> Path:
    """`net.ipv4.conf.eth0/10.rp_filter`: as sysctl(8), a dot inside a device's name is written as a slash."""
    return _ROOT.joinpath(*(part.replace("/", ".") for part in name.split(".")))


def read_sysctl(name: str) -> str | None:
    """The value, or None where the kernel does not have this switch."""
    try:
        return _path(name).read_text("ascii").strip()
    except OSError:
        return None


def write_sysctl(name: str, value: str) -> None:
    """Set a switch unless it already has that value. Raises SysctlRefused."""
    if read_sysctl(name) == value:
        return
    try:
        _path(name).write_text(value, "ascii")
    except OSError as error:
        why = "/proc/sys is mounted read-only" if error.errno == 30 else (error.strerror or "refused").lower()
        raise SysctlRefused(error.errno or 0, name, value, why) from error
