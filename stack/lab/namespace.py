"""Network namespaces without the `ip` program, as root or without: worlds of nodes and cables for the lab and the
tests.

A `Namespace` is held by a file descriptor and is gone when that and its processes are. What must happen inside one
(making a socket, starting a process) is done on a short-lived thread that moves there: a namespace belongs to a
thread, and a socket or a child keeps the one it was made in. So the caller itself never moves, and no `preexec_fn` is
needed.

`enter_user_namespace` makes an ordinary user root of a world of its own, where all this is allowed.
Sources: namespaces(7), network_namespaces(7), user_namespaces(7), unshare(2), setns(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from stack.addr import Prefix, parse_address
from stack.os.privileges import OPEN_TUN, TUN
from stack.os.rtnetlink import LOOPBACK_DEVICE, RouteNetlink
from stack.os.sysctl import write_sysctl

__all__ = ["Namespace", "UserNamespaceRefused", "World", "enter_user_namespace", "why_not_rootless"]

T = TypeVar("T")

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x1000, 0x4000, 0x40000, 2
_KEPT = Path("/run/netns")
_STOP_SECONDS = 3.0
_PROBE = "from stack.lab.namespace import _enter; _enter()"
_PROBE_SECONDS = 20.0

_libc = ctypes.CDLL(None, use_errno=True)


class UserNamespaceRefused(PermissionError):
    """This user may not have a user namespace. `command` allows it."""

    def __init__(self, why: str, command: str) -> None:
        super().__init__(errno.EPERM, f"{why}. Mend it with: {command}")
        self.why = why
        self.command = command


def _call(name: str, *arguments: object) -> None:
    """A libc call that returns 0. Raises OSError."""
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _on_thread(work: Callable[[], T]) -> T:
    """Do `work` on a thread of its own and give back what it gives, or raise what it raises."""
    outcome: list[T] = []
    trouble: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=body, name="namespace")
    thread.start()
    thread.join()
    if trouble:
        raise trouble[0]
    return outcome[0]


class Namespace:
    """A network namespace. `fd` refers to it. Its loopback is up, it forwards nothing, IPv6 asks nobody."""

    def __init__(self, name: str) -> None:
        """Make one. Raises PermissionError without CAP_SYS_ADMIN over the current user namespace."""
        self.name = name
        self._processes: list[subprocess.Popen[Any]] = []
        self._kept: Path | None = None
        self.fd = _on_thread(_fresh_namespace)
        try:
            self.netlink = self.run(RouteNetlink)
            self.netlink.set_link(LOOPBACK_DEVICE, up=True)
        except BaseException:
            os.close(self.fd)
            raise

    # --- doing things inside ---

    def run(self, work: Callable[[], T]) -> T:
        """Do `work` inside, on a thread that ends with it. What it opens stays in the namespace."""

        def inside() -> T:
            _call("setns", self.fd, _CLONE_NEWNET)
            return work()

        return _on_thread(inside)

    def spawn(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside; `options` as subprocess.Popen. It is stopped by `close`, if it still runs."""
        process = self.run(lambda: subprocess.Popen(command, **options))  # noqa: S603  (the caller's own program)
        self._processes = [each for each in self._processes if each.poll() is None]
        self._processes.append(process)
        return process

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return self.run(lambda: socket.socket(family, kind, protocol))

    def sysctl(self, **switches: str | int) -> None:
        """Set switches of /proc/sys/net, dots written as double underscores: `ipv4__ip_forward=1`."""
        names = {f"net.{name.replace('__', '.')}": str(value) for name, value in switches.items()}
        self.switch(names)

    def switch(self, switches: Mapping[str, str]) -> None:
        """Set sysctls by their full names, `net.ipv4.conf.eth0.rp_filter`. Raises SysctlRefused."""

        def write() -> None:
            for name, value in switches.items():
                write_sysctl(name, value)

        self.run(write)

    # --- addresses and routes, as text ---

    def address(self, device: str, text: str) -> None:
        """`192.0.2.1/24` or `2001:db8::1/64`; usable at once."""
        address, _, length = text.partition("/")
        octets = parse_address(address)
        self.netlink.add_address(device, octets, int(length or len(octets) * 8), dad=False)

    def route(self, prefix: str, *, via: str = "", device: str = "") -> None:
        """`default` stands for 0.0.0.0/0."""
        to = Prefix.parse("0.0.0.0/0" if prefix == "default" else prefix)
        self.netlink.add_route(to, via=parse_address(via) if via else b"", device=device)

    def up(self, device: str, *, mac: bytes | None = None) -> None:
        self.netlink.set_link(device, mac=mac)
        self.netlink.set_link(device, up=True)

    # --- the end ---

    def keep(self) -> Path:
        """Leave it behind under /run/netns, where `ip netns exec NAME` finds it. Raises OSError; only root of the
        host can.

        `release` of this module takes it away again.
        """
        _KEPT.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = _KEPT / self.name
        path.touch(mode=0o444, exist_ok=False)
        try:
            _call("mount", f"/proc/self/fd/{self.fd}".encode(), str(path).encode(), b"none", _MS_BIND, None)
        except BaseException:
            path.unlink()
            raise
        self._kept = path
        return path

    def stop(self) -> None:
        """End the processes that were started inside: SIGTERM, and after a while SIGKILL."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def forget_processes(self) -> None:
        """Let the processes that run inside outlive this object."""
        self._processes.clear()

    def close(self) -> None:
        """Stop its processes and let go of it. Closing twice is allowed."""
        if self.fd < 0:
            return
        self.stop()
        self.netlink.close()
        fd, self.fd = self.fd, -1
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fresh_namespace() -> int:
    _call("unshare", _CLONE_NEWNET)
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    # Addresses that nobody configured and duplicate address detection only cost time in a world that is all ours.
    for name, value in _QUIET.items():
        with contextlib.suppress(OSError):
            write_sysctl(name, value)
    return fd


_QUIET = {
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.default.router_solicitations": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.rp_filter": "0",
}


def release(name: str) -> None:
    """Take a kept namespace out of /run/netns. Raises OSError."""
    path = _KEPT / name
    _call("umount2", str(path).encode(), _MNT_DETACH)
    path.unlink()


class World:
    """Namespaces and the cables between them. Leaving it closes them all, in reverse order.

    ```
    with World() as world:
        pe1, core = world.add("pe1"), world.add("core")
        world.cable(pe1, "eth0", core, "eth1")
    ```
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.namespaces: dict[str, Namespace] = {}
        self._keep = keep

    def add(self, name: str) -> Namespace:
        """A new namespace of that name, unique in this world."""
        if name in self.namespaces:
            raise OSError(errno.EEXIST, f"there is a namespace {name} already")
        namespace = self.namespaces[name] = Namespace(name)
        return namespace

    def cable(self, one: Namespace, device: str, other: Namespace, far: str, *, mtu: int = 1500) -> None:
        """A veth pair, `device` in `one` and `far` in `other`, both up."""
        one.netlink.add_veth(device, far, namespace=other.fd, mtu=mtu)
        for namespace, name in ((one, device), (other, far)):
            namespace.up(name)

    def close(self) -> None:
        """Kept worlds are left under /run/netns, their processes running."""
        for namespace in reversed(list(self.namespaces.values())):
            if self._keep:
                namespace.keep()
                namespace.forget_processes()
            namespace.close()
        self.namespaces.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- without root
# ------------------------------------------------------------------------------------------------------


def why_not_rootless() -> UserNamespaceRefused | None:
    """None if `enter_user_namespace` would work here; else what it would raise. Tried in a process of its own.

    TUN devices count, since every node has one: root of a user namespace opens their node as the user it was.
    """
    if Path(TUN).exists() and not os.access(TUN, os.R_OK | os.W_OK):
        return UserNamespaceRefused(f"{TUN} is for root only on this host", OPEN_TUN)
    search = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (search, os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path}
    try:
        subprocess.run(  # noqa: S603  (our own interpreter and a constant)
            [sys.executable, "-c", _PROBE],
            check=True,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            env=environment,
        )
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode("utf-8", "replace").strip().splitlines()
        return _refusal(words[-1] if words else "the attempt failed")
    except (OSError, subprocess.TimeoutExpired) as error:
        return _refusal(str(error))
    return None


def enter_user_namespace() -> None:
    """Make this process root of a user, network and mount namespace of its own. Call it before any thread is started.

    Raises UserNamespaceRefused with the reason and what mends it; then the process is as it was.
    """
    if threading.active_count() > 1:
        raise OSError(errno.EINVAL, "a process with threads cannot enter a user namespace: enter it first")
    refused = why_not_rootless()
    if refused:
        raise refused
    _enter()


def _enter() -> None:
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWNS)
    # user_namespaces(7): without privileges outside, the group map may be written only after setgroups is denied.
    Path("/proc/self/setgroups").write_text("deny", "ascii")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1", "ascii")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1", "ascii")
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    # AppArmor may allow the namespace and then refuse every capability in it: use one.
    netlink = RouteNetlink()
    try:
        netlink.set_link(LOOPBACK_DEVICE, up=True)
    finally:
        netlink.close()


_SWITCHES = (
    ("kernel.unprivileged_userns_clone", "0", "1", "user namespaces are for root only on this host"),
    ("user.max_user_namespaces", "0", "10000", "the host allows no user namespaces"),
    ("user.max_net_namespaces", "0", "10000", "the host allows no network namespaces"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0", "AppArmor takes all capabilities from user namespaces"),
)


def _refusal(words: str) -> UserNamespaceRefused:
    """Which switch of the host stands in the way."""
    for name, closed, opened, why in _SWITCHES:
        path = Path("/proc/sys") / name.replace(".", "/")
        with contextlib.suppress(OSError):
            if path.read_text("ascii").strip() == closed:
                return UserNamespaceRefused(why, f"sudo sysctl -w {name}={opened}")
    return UserNamespaceRefused(
        f"a user namespace was refused ({words}); a container's seccomp profile does that",
        "run as root, or start the container with --privileged",
    )
