"""pcapng files: one section, an interface a link, times in nanoseconds, and a bound. What is in them is their owner's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from struct import pack
from typing import BinaryIO

from attrs import define, field

__all__ = ["ETHERNET", "MAX_OCTETS", "RAW_IP", "Pcapng", "create"]

ETHERNET, RAW_IP = 1, 101
"""LINKTYPE_ETHERNET and LINKTYPE_RAW of the pcap registry."""

MAX_OCTETS = 1 << 30
"""Of a file; packets beyond are counted and not written."""

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_NAME, _RESOLUTION = 2, 9


def create(path: Path) -> BinaryIO:
    """A file anew, mode 0600; what stood there is gone. Raises OSError, also for a link and for a file that is not ours."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    number = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(f"{path} is no plain file")
        os.fchmod(number, 0o600)
        os.ftruncate(number, 0)
    except BaseException:
        os.close(number)
        raise
    return os.fdopen(number, "wb")


@define(eq=False)
class Pcapng:
    """A section on `file`, which stays the caller's to close. `packets` are written, `left_out` would have passed `limit`."""

    file: BinaryIO
    limit: int = MAX_OCTETS
    packets: int = field(default=0, init=False)
    left_out: int = field(default=0, init=False)
    _interfaces: int = field(default=0, init=False)
    _octets: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        # Byte order magic, version 1.0, length of the section unknown.
        self._block(_SECTION, pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))

    def interface(self, name: str, linktype: int = ETHERNET) -> int:
        """The number of one more interface."""
        # Resolution 9: nanoseconds. No snap length.
        options = _option(_NAME, name.encode()) + _option(_RESOLUTION, b"\x09") + bytes(4)
        self._block(_INTERFACE, pack("<HHI", linktype, 0, 0) + options)
        self._interfaces += 1
        return self._interfaces - 1

    def packet(self, interface: int, nanoseconds: int, octets: bytes) -> None:
        """`nanoseconds` since 1970."""
        size = len(octets)
        body = pack("<IIIII", interface, nanoseconds >> 32, nanoseconds & 0xFFFFFFFF, size, size) + _padded(octets)
        if self._octets + 12 + len(body) > self.limit:
            self.left_out += 1
            return
        self.packets += 1
        self._block(_PACKET, body)

    def _block(self, kind: int, body: bytes) -> None:
        size = 12 + len(body)
        self._octets += size
        self.file.write(pack("<II", kind, size) + body + pack("<I", size))


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _option(code: int, value: bytes) -> bytes:
    return pack("<HH", code, len(value)) + _padded(value)
