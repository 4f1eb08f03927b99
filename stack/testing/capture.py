"""What went over the links: bounded records for tests, and pcapng files for tshark."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from attrs import define, field

from stack.pcapng import ETHERNET, MAX_OCTETS, RAW_IP, Pcapng, create

__all__ = ["Capture", "Frame"]


class Frame(NamedTuple):
    """One frame as its sender put it on a link: `time` in the loop's seconds, `sender` as `node:device`.

    `fate`: `carried`, or why nobody got it (`lost`, `cut`, `filtered`, `too big`, `queue full`).
    """

    time: float
    link: str
    sender: str
    octets: bytes
    fate: str

    @property
    def ethertype(self) -> int:
        """Of an Ethernet frame, the one inside an 802.1Q tag; of no use on bare IP links."""
        at = 16 if self.octets[12:14] == b"\x81\x00" else 12
        return int.from_bytes(self.octets[at : at + 2])


@define(eq=False)
class Capture:
    """A pcapng file with one interface a link; lost frames are in it too, since their senders sent them.

    Close it (or leave its `with` block) before another program reads it. A file object that was given stays open; a file
    that is made is its owner's alone.
    """

    target: str | Path | BinaryIO
    epoch: float
    links: frozenset[str] = frozenset()
    limit: int = MAX_OCTETS
    _file: BinaryIO = field(init=False)
    _pcapng: Pcapng = field(init=False)
    _interfaces: dict[str, int] = field(factory=dict, init=False)
    _open: bool = field(default=True, init=False)

    def __attrs_post_init__(self) -> None:
        self._file = create(Path(self.target)) if isinstance(self.target, str | Path) else self.target
        self._pcapng = Pcapng(self._file, self.limit)

    @property
    def left_out(self) -> int:
        """Frames for which there was no room."""
        return self._pcapng.left_out

    def record(self, frame: Frame, *, ethernet: bool) -> None:
        if not self._open or (self.links and frame.link not in self.links):
            return
        number = self._interfaces.get(frame.link)
        if number is None:
            number = self._pcapng.interface(frame.link, ETHERNET if ethernet else RAW_IP)
            self._interfaces[frame.link] = number
        stamp = round((self.epoch + frame.time) * 1e6) * 1000  # a float of 2025 has no more than microseconds
        self._pcapng.packet(number, stamp, frame.octets)

    def close(self) -> None:
        if self._open:
            self._open = False
            if isinstance(self.target, str | Path):
                self._file.close()
            else:
                self._file.flush()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
