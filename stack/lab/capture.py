"""Watch a cable: every frame of a device into a pcap file, and counted by what is inside.

A packet socket read on a thread of its own, so that a capture disturbs no event loop. The file is libpcap's classic
format (microseconds, link type Ethernet); 802.1Q tags that the kernel took off are put back.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import Counter
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from stack.lab.namespace import Namespace

__all__ = ["Capture", "Inside", "classify"]

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_AUXDATA = 263, 8
_VLAN_VALID, _TPID_VALID = 0x10, 0x40
_AUXDATA = struct.Struct("=IIIHHHH")
_FILE_HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
_RECORD = struct.Struct("=IIII")
_SNAP = 1 << 18
_DEVICE_SECONDS = 0.2
_KINDS = 256
_GRE, _ESP, _DOT1Q, _IPV4, _IPV6 = 47, 50, 0x8100, 0x0800, 0x86DD


class Inside(NamedTuple):
    """What a frame is: its EtherType, under 802.1Q the inner one; the IP protocol or -1; inside GRE its protocol
    type, or -1; the VLAN, or -1."""

    ethertype: int
    protocol: int = -1
    gre: int = -1
    vlan: int = -1


def classify(frame: bytes) -> Inside:
    """Any octets give an answer; what is cut short is counted by what can be read of it."""
    ethertype, offset, vlan = int.from_bytes(frame[12:14]), 14, -1
    if ethertype == _DOT1Q:
        vlan = int.from_bytes(frame[14:16]) & 0xFFF
        ethertype, offset = int.from_bytes(frame[16:18]), 18
    if ethertype == _IPV4 and len(frame) > offset + 9:
        protocol = frame[offset + 9]
        offset += (frame[offset] & 0x0F) * 4
    elif ethertype == _IPV6 and len(frame) > offset + 6:
        protocol = frame[offset + 6]
        offset += 40
    else:
        return Inside(ethertype, vlan=vlan)
    gre = int.from_bytes(frame[offset + 2 : offset + 4]) if protocol == _GRE and len(frame) >= offset + 4 else -1
    return Inside(ethertype, protocol, gre, vlan)


class Capture:
    """Frames of `device` in `namespace`, both directions, from construction until `stop`.

    `counts` maps Inside to frames; beyond 256 kinds all others are counted as Inside(0). `path` None: count only.
    """

    def __init__(self, namespace: Namespace, device: str, path: Path | None = None) -> None:
        self.counts: Counter[Inside] = Counter()
        self.path = path
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self._socket.bind((device, _ETH_P_ALL))
        self._socket.setblocking(False)
        self._file: BufferedWriter | None = path.open("wb") if path else None
        if self._file:
            self._file.write(_FILE_HEADER)
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"capture {device}", daemon=True)
        self._thread.start()

    def total(self, *, ethertype: int | None = None, gre: int | None = None, protocol: int | None = None) -> int:
        """Frames that are all of what is given."""
        return sum(
            frames
            for kind, frames in list(self.counts.items())
            if (ethertype is None or kind.ethertype == ethertype)
            and (gre is None or kind.gre == gre)
            and (protocol is None or kind.protocol == protocol)
        )

    def stop(self) -> None:
        """Take what has arrived until now and end. Twice is allowed."""
        if self._waker < 0:
            return
        os.close(self._waker)
        self._waker = -1
        self._thread.join()
        os.close(self._wake)
        self._socket.close()
        if self._file:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        going = True
        while going:
            readable, _, _ = select.select([self._socket.fileno(), self._wake], [], [])
            going = self._wake not in readable
            while True:
                try:
                    octets, ancillary, _, _ = self._socket.recvmsg(_SNAP, 128)
                except BlockingIOError:
                    break
                except OSError:
                    going = going and not self._device_gone()
                    break
                self._take(_with_tag(octets, ancillary))

    def _device_gone(self) -> bool:
        """A device that is down may come back; one that is deleted does not."""
        try:
            return not self._socket.getsockname()[0]
        except OSError:
            return True

    def _take(self, frame: bytes) -> None:
        kind = classify(frame)
        if kind not in self.counts and len(self.counts) >= _KINDS:
            kind = Inside(0)
        self.counts[kind] += 1
        if self._file:
            now = time.time_ns()
            seconds, rest = divmod(now, 1_000_000_000)
            self._file.write(_RECORD.pack(seconds, rest // 1000, len(frame), len(frame)) + frame)


def _with_tag(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """The frame with its 802.1Q tag where it was on the wire."""
    for level, kind, octets in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA and len(octets) >= _AUXDATA.size:
            status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(octets)
            if status & _VLAN_VALID:
                tag = struct.pack(">HH", tpid if status & _TPID_VALID else _DOT1Q, tci)
                return frame[:12] + tag + frame[12:]
    return frame
