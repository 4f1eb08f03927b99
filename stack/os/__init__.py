"""Linux: the operating system's half of `stack.net`. Named `os`, so every module here imports absolutely."""

from __future__ import annotations

from stack.os.host import OsHost
from stack.os.network import OsListener, OsNetwork
from stack.os.privileges import Finding, MissingPrivilege, findings
from stack.os.sysctl import SysctlRefused, read_sysctl, write_sysctl

__all__ = [
    "Finding",
    "MissingPrivilege",
    "OsHost",
    "OsListener",
    "OsNetwork",
    "SysctlRefused",
    "findings",
    "read_sysctl",
    "write_sysctl",
]
