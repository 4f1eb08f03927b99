"""The world: nodes, the links between them, and what goes over these."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from attrs import define, field

from stack.testing._nic import Nic
from stack.testing.capture import Capture, Frame
from stack.testing.link import Link
from stack.testing.loop import EPOCH, SeededEntropy
from stack.testing.node import MemoryNode

__all__ = ["MemoryNetwork"]

_KEPT = 4096
_QUEUE = 1024

End = tuple[str, str]
"""(node, device)."""


@define(eq=False)
class MemoryNetwork:
    """An in-process network of real packets. The same seed and the same doings give the same octets at the same times.

    `loss`, `reorder` are probabilities a frame, `delay`, `jitter` seconds, `mtu` octets: what links get unless told.
    `kept` frames a link are remembered; `queue` packets wait in a port before its tail is dropped. One world belongs to
    one event loop; it may be built before the loop runs.

        world = MemoryNetwork(seed=7)
        world.link(("a", "eth0"), ("b", "eth0"), loss=0.05)
        world.node("a").address("eth0", "192.0.2.1/24")
    """

    seed: int = 1
    loss: float = 0.0
    delay: float = 0.001
    jitter: float = 0.0
    reorder: float = 0.0
    mtu: int = 1500
    kept: int = _KEPT
    queue: int = _QUEUE
    nodes: dict[str, MemoryNode] = field(factory=dict, init=False)
    links: list[Link] = field(factory=list, init=False)
    _captures: list[Capture] = field(factory=list, init=False)
    _macs: int = field(default=0, init=False)

    def node(self, name: str, *, forwarding: bool | None = None) -> MemoryNode:
        """The node of that name, made when first asked for."""
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = MemoryNode(name, self, SeededEntropy(f"{self.seed}/{name}"))
        if forwarding is not None:
            node.forwarding = forwarding
        return node

    def link(
        self,
        *ends: End,
        loss: float | None = None,
        delay: float | None = None,
        jitter: float | None = None,
        reorder: float | None = None,
        mtu: int | None = None,
    ) -> Link:
        """An Ethernet link between new devices of two nodes; with more ends, a hub."""
        if len(ends) < 2:
            raise ValueError("a link has two ends at least")
        link = self._link(ends, loss, delay, jitter, reorder, mtu, ethernet=True)
        for name, device in ends:
            self._macs += 1
            mac = b"\x02\x4c\x53" + self._macs.to_bytes(3)
            nic = self.node(name).add_nic(device, link.mtu, mac=mac)
            link.attach(nic, f"{name}:{device}", self._dice(link, name, device))
        return link

    def tun_link(
        self,
        near: End,
        far: End,
        *,
        loss: float | None = None,
        delay: float | None = None,
        jitter: float | None = None,
        reorder: float | None = None,
        mtu: int | None = None,
    ) -> Link:
        """A customer behind a TUN attachment: what `near`'s node opens with `tun(device, mtu)` leads to the bare IP
        device `far`, which has no carrier before."""
        link = self._link((near, far), loss, delay, jitter, reorder, mtu, ethernet=False)
        nic = self.node(far[0]).add_nic(far[1], link.mtu)
        nic.carrier = False
        link.attach(nic, ":".join(far), self._dice(link, *far))
        self.node(near[0]).expect_tun(near[1], nic)
        return link

    def join_tun(self, near: End, nic: Nic) -> Link:
        """The near end of a `tun_link` was opened, as `nic`."""
        link = next(link for link in self.links if link.ends[0] == near and not link.ethernet)
        link.attach(nic, ":".join(near), self._dice(link, *near))
        return link

    def _link(
        self,
        ends: tuple[End, ...],
        loss: float | None,
        delay: float | None,
        jitter: float | None,
        reorder: float | None,
        mtu: int | None,
        *,
        ethernet: bool,
    ) -> Link:
        for name, device in ends:
            if any((name, device) in link.ends for link in self.links):
                raise ValueError(f"{name}:{device} has a link already")
        link = Link(
            "--".join(f"{name}:{device}" for name, device in ends),
            tuple(ends),
            self.loss if loss is None else loss,
            self.delay if delay is None else delay,
            self.jitter if jitter is None else jitter,
            self.reorder if reorder is None else reorder,
            mtu or self.mtu,
            ethernet,
            deque(maxlen=self.kept),
            self._tap,
        )
        self.links.append(link)
        return link

    def _dice(self, link: Link, *end: str) -> random.Random:
        """Each direction throws its own, so that one more link changes nothing elsewhere."""
        return random.Random(f"{self.seed}/{link.name}/{':'.join(end)}")  # noqa: S311  (to be repeatable is the point)

    def between(self, one: str, other: str) -> Link:
        """The link that joins two nodes. LookupError if there is none, or more than one."""
        found = [link for link in self.links if {one, other} <= {name for name, _ in link.ends}]
        if len(found) != 1:
            raise LookupError(f"{len(found)} links between {one} and {other}")
        return found[0]

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut every link between nodes of different groups; nodes in no group form one more. `heal` undoes it."""
        sides = {name: number for number, group in enumerate(groups, 1) for name in group}
        for link in self.links:
            if len({sides.get(name, 0) for name, _ in link.ends}) > 1:
                link.cut()

    def heal(self) -> None:
        for link in self.links:
            link.heal()

    # --- capture ---

    def pcap(self, target: str | Path | BinaryIO, *links: Link) -> Capture:
        """Write every frame of every link (or of those `links`) from now on, as pcapng, to a path or a binary file.

        A packet that crosses several links is in it several times, which makes tshark speak of retransmissions.
        """
        capture = Capture(target, EPOCH, frozenset(link.name for link in links))
        self._captures.append(capture)
        return capture

    def frames(self) -> list[Frame]:
        """What all links remember, in order of time."""
        return sorted((frame for link in self.links for frame in link.frames), key=lambda frame: frame.time)

    def close(self) -> None:
        """Close the captures."""
        for capture in self._captures:
            capture.close()
        self._captures.clear()

    def __enter__(self) -> MemoryNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tap(self, frame: Frame, link: Link) -> None:
        for capture in self._captures:
            capture.record(frame, ethernet=link.ethernet)
