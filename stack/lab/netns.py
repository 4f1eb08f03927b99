"""A lab on real packets: every node, router and host in a network namespace of its own, every node a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field

from stack.addr import parse_address
from stack.control import ControlError, request
from stack.lab.capture_folder import CaptureFolder
from stack.lab.conduct import Conduct, Red
from stack.lab.namespace import Namespace, World, enter_user_namespace
from stack.lab.probe import Prober
from stack.lab.scenario import Scenario, device_of
from stack.lab.testbed import Answer, BackendError
from stack.pcapng import Pcapng, create

__all__ = ["KEPT", "NetnsTestbed", "be_root"]

KEPT = 50_000
"""Frames of a link that are remembered between two `forget`s."""

FRAMES_A_TURN = 256
"""Frames that are taken from one end of a link before any other end has a turn."""

READY_WITHIN = 20.0
LOG_TAIL = 2_000
_TIMESTAMPNS, _TIMESPEC = 35, struct.Struct("=qq")  # SO_TIMESTAMPNS, and what it brings


def be_root() -> None:
    """Be root somewhere: here, or in a user namespace of our own. Call it before any thread runs. Raises BackendError."""
    if os.geteuid() == 0:
        return
    try:
        enter_user_namespace()
    except OSError as error:
        raise BackendError(f"no real packets here: {error.strerror or error}") from None


class _Sniffer:
    """Every frame that arrives at either end of every link, on one thread, so that no event loop is disturbed.

    Both ends are heard, and of each only what it receives: what a packet socket sends past the queues is not shown to
    taps of the sending device.
    """

    def __init__(self, capture: BinaryIO | None) -> None:
        self.frames: dict[str, deque[bytes]] = {}
        self._file = capture
        self._pcapng = Pcapng(capture) if capture else None
        self._interfaces: dict[str, int] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="sniffer", daemon=True)

    def add(self, link: str, namespace: Namespace, device: str) -> None:
        tap = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        tap.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
        try:
            tap.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        except OSError:  # which wants CAP_NET_ADMIN of the host, not of a user namespace
            tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        if self._pcapng is not None:
            tap.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        tap.bind((device, 3))  # ETH_P_ALL
        tap.setblocking(False)
        self._selector.register(tap, selectors.EVENT_READ, link)
        if link not in self.frames:
            self.frames[link] = deque(maxlen=KEPT)
            if self._pcapng is not None:
                self._interfaces[link] = self._pcapng.interface(link)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        os.close(self._waker)
        if self._thread.is_alive():
            self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        os.close(self._wake)
        self._selector.close()
        if self._file is not None:
            self._file.close()

    def _run(self) -> None:
        ending = False
        while not ending:
            ready = self._selector.select()
            ending = any(key.fileobj == self._wake for key, _ in ready)
            taken = [
                frame
                for key, _ in ready
                if isinstance(key.fileobj, socket.socket)
                for frame in _drained(key.fileobj, key.data)
            ]
            for _, link, frame in taken:
                self.frames[link].append(frame)
            if self._pcapng is not None:
                taken.sort()  # one socket after the other was read, but they were heard at once
                for when, link, frame in taken:
                    self._pcapng.packet(self._interfaces[link], when, frame)

    @property
    def left_out(self) -> int:
        return self._pcapng.left_out if self._pcapng else 0


def _drained(tap: socket.socket, link: str) -> Iterator[tuple[int, str, bytes]]:
    """(nanoseconds since 1970, link, frame) of what a socket holds, so many at most."""
    for _ in range(FRAMES_A_TURN):
        try:
            frame, ancillary, _, _ = tap.recvmsg(65536, 64)
        except OSError:
            return
        stamps = [_TIMESPEC.unpack(o) for _, kind, o in ancillary if kind == _TIMESTAMPNS and len(o) == _TIMESPEC.size]
        when = stamps[0][0] * 1_000_000_000 + stamps[0][1] if stamps else time.time_ns()
        yield when, link, frame


@define(eq=False)
class NetnsTestbed:
    conduct: Conduct
    backend: str = "netns"
    world: World = field(factory=World)
    _folder: tempfile.TemporaryDirectory[str] = field(init=False)
    _processes: dict[str, subprocess.Popen[bytes]] = field(factory=dict)
    _sniffer: _Sniffer | None = None
    _capture: CaptureFolder | None = None

    def __attrs_post_init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="labelspan-lab-")

    @property
    def scenario(self) -> Scenario:
        return self.conduct.scenario

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / name

    async def start(self, capture: CaptureFolder | None) -> None:
        self._capture = capture
        file = create(capture.pcapng) if capture else None
        try:
            self._wire(file)
        except OSError as error:
            raise BackendError(
                f"network namespaces: {error.strerror or error} (needs root, or user namespaces)"
            ) from error
        for name in self.scenario.node:
            self._spawn(name)
        for name in self.scenario.node:
            await self._ready(name)

    def _wire(self, capture: BinaryIO | None) -> None:
        scenario, world = self.scenario, self.world
        for name in (*scenario.node, *scenario.router, *scenario.host):
            world.add(name)
        sniffer = self._sniffer = _Sniffer(capture)
        for link, ends in scenario.link.items():
            (one, here), (other, there) = ((owner, scenario.device(owner, i)) for owner, i in ends)
            world.cable(world.namespaces[one], here, world.namespaces[other], there)
            sniffer.add(link, world.namespaces[one], here)
            sniffer.add(link, world.namespaces[other], there)
        for name, router in scenario.router.items():
            namespace = world.namespaces[name]
            namespace.sysctl(ipv4__ip_forward=1)
            for device, prefixes in router.addresses.items():
                for prefix in prefixes:
                    namespace.address(device, prefix)
            for prefix, via in router.routes.items():
                namespace.route(prefix, via=via)
        for name, host in scenario.host.items():
            namespace = world.namespaces[name]
            for prefix in host.addresses:
                namespace.address("eth0", prefix)
            for gateway in host.gateways:
                namespace.route("0.0.0.0/0" if len(parse_address(gateway)) == 4 else "::/0", via=gateway)
        sniffer.start()

    def _spawn(self, node: str) -> None:
        self._path(f"{node}.cfg").write_text(self.conduct.text(node))
        command = [sys.executable, "-m", "stack.cli", "run", str(self._path(f"{node}.cfg")), "--name", node]
        command += ["--control", str(self._path(f"{node}.sock")), "--state", str(self._path(f"{node}.state"))]
        if self._capture is not None:
            command += ["--key-log", str(self._capture.profile.absolute())]
        for ends in self.scenario.link.values():
            for owner, interface in ends:
                if owner == node:
                    command += ["--bind", f"{interface}={device_of(interface)}"]
        with self._path(f"{node}.log").open("ab") as log:
            self._processes[node] = self.world.namespaces[node].spawn(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    async def _ready(self, node: str) -> None:
        end = time.monotonic() + READY_WITHIN
        while True:
            try:
                await self.show(node, "show version")
            except ControlError as error:
                if self._processes[node].poll() is not None or time.monotonic() > end:
                    raise BackendError(f"{node} did not come up ({error}); its log ends:\n{self._log(node)}") from None
            else:
                return
            await asyncio.sleep(0.05)

    def _log(self, node: str) -> str:
        return self._path(f"{node}.log").read_text(errors="replace")[-LOG_TAIL:]

    async def stop(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            try:
                await asyncio.to_thread(process.wait, 8)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._sniffer is not None:
            self._sniffer.stop()
        if self._capture is not None:
            self._capture.key_log.close()
        self.world.close()
        self._folder.cleanup()

    async def ping(
        self,
        host: str,
        destination: str,
        *,
        count: int,
        size: int,
        ttl: int = 64,
        timeout: float = 1.0,  # noqa: ASYNC109
    ) -> Sequence[Answer]:
        namespace = self.world.namespaces[host]
        with Prober(destination, namespace=namespace, ttl=ttl, size=size) as prober:
            replies = [await prober.aonce(timeout) for _ in range(count)]
        return [Answer(reply.kind, reply.source) for reply in replies]

    async def show(self, node: str, command: str) -> Any:
        return (await self._shown(node, command))["value"]

    async def text(self, node: str, command: str) -> str:
        return str((await self._shown(node, command))["text"])

    async def _shown(self, node: str, command: str) -> Any:
        (reply,) = await request(self._path(f"{node}.sock"), [command])
        if not reply["ok"]:
            raise Red(f"{node}: {command}: {reply['error']}")
        return reply

    async def configure(self, node: str, text: str) -> None:
        self._path(f"{node}.cfg").write_text(text)
        self._processes[node].send_signal(signal.SIGHUP)

    async def kill(self, node: str) -> None:
        process = self._processes[node]
        process.kill()
        await asyncio.to_thread(process.wait)

    async def revive(self, node: str) -> None:
        self._spawn(node)
        await self._ready(node)

    async def cut(self, link: str, *, whole: bool) -> None:
        owner, interface = self.scenario.link[link][1]
        namespace, device = self.world.namespaces[owner], self.scenario.device(owner, interface)
        command = ["ip", "link", "set", device, "up" if whole else "down"]
        await asyncio.to_thread(namespace.run, lambda: subprocess.run(command, check=True, capture_output=True))  # noqa: S603
        if whole and owner in self.scenario.router:  # which the kernel forgot with the link
            for prefix, via in self.scenario.router[owner].routes.items():
                with contextlib.suppress(OSError, subprocess.CalledProcessError):
                    namespace.route(prefix, via=via)

    def left_out(self) -> int:
        return self._sniffer.left_out if self._sniffer else 0

    def frames(self, link: str) -> Sequence[bytes]:
        if self._sniffer is None:
            return ()
        return list(self._sniffer.frames[link])

    def forget(self) -> None:
        if self._sniffer is not None:
            for frames in self._sniffer.frames.values():
                frames.clear()

    def inject(self, link: str, frame: bytes) -> None:
        owner, interface = self.scenario.link[link][0]
        with self.world.namespaces[owner].socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
            wire.bind((self.scenario.device(owner, interface), 3))
            wire.send(frame)

    def now(self) -> float:
        return time.monotonic()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
