"""What this process may do on this host, and the one command that mends what is missing.

Everything is found by trying it, not by reading documentation: a container may have a capability and still be refused.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen

__all__ = ["CAPABILITIES", "Finding", "MissingPrivilege", "findings", "missing_privilege", "privileged"]

CAPABILITIES = {
    "CAP_NET_BIND_SERVICE": (10, "listening on ports below 1024 (BGP's TCP port 179)"),
    "CAP_NET_ADMIN": (12, "TUN devices, addresses, routes and packet filters"),
    "CAP_NET_RAW": (13, "raw IP and packet sockets: GRE, customer attachments, labelled frames"),
}
"""Capability -> (bit, what needs it). See capabilities(7)."""

_SETCAP = "cap_net_raw,cap_net_admin,cap_net_bind_service+ep"
TUN = "/dev/net/tun"
OPEN_TUN = f"sudo chmod 666 {TUN}"


class MissingPrivilege(PermissionError):
    """The kernel refused `what`; `capability` is the name of what would allow it, `command` gives it."""

    def __init__(self, capability: str, what: str, command: str) -> None:
        super().__init__(errno.EPERM, f"{what}: {capability} is missing. Mend it with: {command}")
        self.capability = capability
        self.what = what
        self.command = command


@frozen
class Finding:
    """One thing this software needs of the host. `command` mends it; empty if `present`, or if nothing can."""

    name: str
    needed_for: str
    present: bool
    detail: str = ""
    command: str = field(default="")


def _grant() -> str:
    """The command that gives this interpreter its capabilities. A file capability follows no symbolic link."""
    return f"sudo setcap {_SETCAP} {Path(sys.executable).resolve()}   (or run as root)"


def closed_tun(what: str) -> MissingPrivilege:
    """The device node itself may not be opened, whatever capabilities there are."""
    return MissingPrivilege(f"access to {TUN}", what, OPEN_TUN)


def missing_privilege(capability: str, what: str) -> MissingPrivilege:
    return MissingPrivilege(capability, what, _grant())


@contextmanager
def privileged(capability: str, what: str) -> Iterator[None]:
    """Inside, a bare PermissionError of the kernel becomes a MissingPrivilege that names `capability`."""
    try:
        yield
    except MissingPrivilege:
        raise
    except PermissionError as error:
        raise missing_privilege(capability, what) from error


def _effective() -> int:
    try:
        for line in Path("/proc/thread-self/status").read_text("ascii").splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    except OSError:
        pass
    return 0


def _try(attempt: Callable[[], socket.socket]) -> OSError | None:
    try:
        attempt().close()
    except OSError as error:
        return error
    return None


def _low_port() -> socket.socket:
    """Binds a low port that is free, whichever it is, and never listens on it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        for port in (179, 177, 1022, 1021):
            try:
                sock.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                break
    except OSError:
        sock.close()
        raise
    return sock


_ATTEMPTS: dict[str, Callable[[], socket.socket]] = {
    "CAP_NET_RAW": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
    "CAP_NET_BIND_SERVICE": _low_port,
}


def _capability(name: str) -> Finding:
    bit, needed_for = CAPABILITIES[name]
    held = bool(_effective() >> bit & 1)
    attempt = _ATTEMPTS.get(name)
    error = _try(attempt) if attempt else None
    if attempt and error is None:
        return Finding(name, needed_for, present=True)  # allowed, by the capability or without it
    if held and error is None:
        return Finding(name, needed_for, present=True)
    detail = f"held, but refused: {error}" if held else "this process does not hold it"
    return Finding(name, needed_for, present=False, detail=detail, command=_grant())


def _tun() -> Finding:
    needed_for = "host ports (BGP inside a VRF or over a tunnel) and TUN attachments"
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        command = f"sudo mkdir -p /dev/net && sudo mknod {TUN} c 10 200 && sudo chmod 666 {TUN}"
        return Finding(TUN, needed_for, present=False, detail="no such device node", command=command)
    except PermissionError:
        return Finding(TUN, needed_for, present=False, detail="for root only (udev makes it 0666)", command=OPEN_TUN)
    except OSError as error:
        return Finding(TUN, needed_for, present=False, detail=str(error), command="sudo modprobe tun")
    return Finding(TUN, needed_for, present=True)


def _ipv6() -> Finding:
    needed_for = "IPv6 customers whose BGP runs in a VRF, and IPv6 peers"
    error = _try(lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
    if error:
        command = "boot without ipv6.disable=1"
        return Finding("IPv6", needed_for, present=False, detail=str(error), command=command)
    switch = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    if switch.exists() and switch.read_text("ascii").strip() == "1":
        command = "sudo sysctl -w net.ipv6.conf.default.disable_ipv6=0"
        return Finding("IPv6", needed_for, present=False, detail="off on new devices", command=command)
    return Finding("IPv6", needed_for, present=True)


def _md5() -> Finding:
    needed_for = "neighbor ... password (TCP MD5 signatures, RFC 2385)"
    from stack.os.tcp import set_md5

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            set_md5(sock, b"\x7f\0\0\1", b"x")
        except OSError as error:
            command = "boot a kernel with CONFIG_TCP_MD5SIG, without fips=1"
            return Finding("TCP_MD5SIG", needed_for, present=False, detail=str(error), command=command)
    return Finding("TCP_MD5SIG", needed_for, present=True)


def findings() -> tuple[Finding, ...]:
    """What the host and the process lack or have, most needed first. Never raises; takes no action that lasts."""
    names = ("CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE")
    return (*(_capability(name) for name in names), _tun(), _ipv6(), _md5())
