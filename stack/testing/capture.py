"""What went over the links: bounded records for tests, and pcapng files for tshark."""

from __future__ import annotations

from pathlib import Path
from struct import pack
from types import TracebackType
from typing import BinaryIO, NamedTuple

from attrs import define, field

__all__ = ["Capture", "Frame"]

_ETHERNET, _RAW_IP = 1, 101
"""LINKTYPE_ETHERNET and LINKTYPE_RAW of the pcap registry."""


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

    Close it (or leave its `with` block) before another program reads it. A file object that was given stays open.
    """

    target: str | Path | BinaryIO
    epoch: float
    links: frozenset[str] = frozenset()
    _file: BinaryIO = field(init=False)
    _interfaces: dict[str, int] = field(factory=dict, init=False)
    _open: bool = field(default=True, init=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.target, str | Path):
            self._file = Path(self.target).open("wb")  # noqa: SIM115  (closed by close)
        else:
            self._file = self.target
        # Section header: byte order magic, version 1.0, length of the section unknown.
        self._block(0x0A0D0D0A, pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))

    def record(self, frame: Frame, *, ethernet: bool) -> None:
        if not self._open or (self.links and frame.link not in self.links):
            return
        number = self._interfaces.get(frame.link)
        if number is None:
            number = self._interfaces[frame.link] = len(self._interfaces)
            linktype = _ETHERNET if ethernet else _RAW_IP
            self._block(
                1, pack("<HHI", linktype, 0, 0) + _option(2, frame.link.encode()) + _option(9, b"\x09") + bytes(4)
            )
        stamp = round((self.epoch + frame.time) * 1e6) * 1000  # a float of 2025 has no more than microseconds
        size = len(frame.octets)
        self._block(6, pack("<IIIII", number, stamp >> 32, stamp & 0xFFFFFFFF, size, size) + _padded(frame.octets))

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

    def _block(self, kind: int, body: bytes) -> None:
        size = 12 + len(body)
        self._file.write(pack("<II", kind, size) + body + pack("<I", size))


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _option(code: int, value: bytes) -> bytes:
    return pack("<HH", code, len(value)) + _padded(value)
