"""Links: what is sent at one end arrives at the others, late, lost, out of order or not at all, as told."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable

from attrs import define, field

from stack.testing._nic import Nic
from stack.testing.capture import Frame

__all__ = ["Link"]

_IN_FLIGHT = 20_000
"""Frames under way in one direction; more are dropped and counted as `queue full`."""
_ENCAPSULATION = 18
"""Octets that a frame may have above the MTU: an Ethernet header with one 802.1Q tag."""


@define(eq=False)
class _Direction:
    """Frames from one end that are under way, ordered by arrival. Never out of order unless `reorder` says so."""

    link: Link = field(repr=False)
    sender: Nic
    label: str
    rng: random.Random
    _flying: list[tuple[float, int, bytes]] = field(factory=list, init=False, repr=False)
    _count: int = field(default=0, init=False)
    _last: float = field(default=0.0, init=False)
    _timer: asyncio.Handle | None = field(default=None, init=False)
    _wakes: float = field(default=0.0, init=False)

    def fate(self, octets: bytes) -> str:
        link = self.link
        if len(octets) > link.mtu + (_ENCAPSULATION if link.ethernet else 0):
            return "too big"
        if link.is_cut:
            return "cut"
        if link.drop_if is not None and link.drop_if(octets):
            return "filtered"
        if link.loss and self.rng.random() < link.loss:
            return "lost"
        if len(self._flying) >= _IN_FLIGHT:
            return "queue full"
        return "carried"

    def send(self, octets: bytes) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        fate = self.fate(octets)
        self.link.record(Frame(now, self.link.name, self.label, octets, fate))
        if fate != "carried":
            return
        when = now + self.link.delay
        if self.link.jitter:
            when += self.link.jitter * self.rng.random()
        if self.link.reorder and self.rng.random() < self.link.reorder:
            when += (self.link.delay + self.link.jitter) * (1 + 2 * self.rng.random())  # later ones overtake it
        else:
            when = self._last = max(when, self._last)
        self._count += 1
        heapq.heappush(self._flying, (when, self._count, octets))
        self._arm(loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._flying:
            return
        when = self._flying[0][0]
        if self._timer is not None:
            if self._wakes <= when:
                return
            self._timer.cancel()
        self._wakes = when
        self._timer = loop.call_at(when, self._due)

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        now = max(loop.time(), self._wakes)
        self._timer = None
        due = []
        while self._flying and self._flying[0][0] <= now:
            due.append(heapq.heappop(self._flying)[2])
        self._arm(loop)
        for octets in due:
            if not self.link.is_cut:
                self.link.deliver(self.sender, octets)


@define(eq=False)
class Link:
    """Two or more devices on one wire (more: a hub). All figures may be changed while it runs; delays in seconds.

    `loss` and `reorder` are probabilities a frame; `jitter` adds up to so many seconds and keeps the order; `mtu` is a
    hard limit of the wire, above which frames vanish silently, whatever the devices' own MTU says. `drop_if(octets)`
    lets a test pick frames to lose. `frames` keeps the last ones that were sent; `fates` counts them all.
    """

    name: str
    ends: tuple[tuple[str, str], ...]
    loss: float
    delay: float
    jitter: float
    reorder: float
    mtu: int
    ethernet: bool
    frames: deque[Frame] = field(repr=False)
    tap: Callable[[Frame, Link], None]
    drop_if: Callable[[bytes], bool] | None = None
    fates: Counter[str] = field(factory=Counter, init=False)
    is_cut: bool = field(default=False, init=False)
    _nics: list[Nic] = field(factory=list, init=False)
    _unplugged: list[Nic] = field(factory=list, init=False)

    def attach(self, nic: Nic, label: str, rng: random.Random) -> None:
        self._nics.append(nic)
        nic.wire = _Direction(self, nic, label, rng).send

    def detach(self, nic: Nic) -> None:
        self._nics.remove(nic)
        nic.wire = None

    def cut(self) -> None:
        """From now on all that is sent, and all that is under way, is lost. Neither end notices (no carrier is lost)."""
        self.is_cut = True

    def unplug(self) -> None:
        """As `cut`, and both devices lose their carrier."""
        self.is_cut = True
        unplugged = [nic for nic in self._nics if nic.carrier]
        self._unplugged += unplugged
        for nic in unplugged:
            nic.set_carrier(up=False)

    def heal(self) -> None:
        """Undo `cut` and `unplug`."""
        self.is_cut = False
        for nic in self._unplugged:
            nic.set_carrier(up=True)
        self._unplugged = []

    def record(self, frame: Frame) -> None:
        self.fates[frame.fate] += 1
        self.frames.append(frame)
        self.tap(frame, self)

    def deliver(self, sender: Nic, octets: bytes) -> None:
        for nic in self._nics:
            if nic is not sender:
                nic.arrived(octets)
