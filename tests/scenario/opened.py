"""What a wire carries, its ESP opened: an eye of the test's own, which shares nothing with the packet path but the keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nhrp.wire import Packet
from nhrp.wire import decode as decode_nhrp
from stack.addr import format_address
from stack.lab.memory import MemoryTestbed
from stack.tables.sad import Sa

ESP, GRE, NHRP, MPLS = 50, 47, 0x2001, 0x8847


class Opened(NamedTuple):
    """A packet of a protected tunnel: `ends` of its outer header; GRE protocol type; labels, top first; `inner` ends and TTL of
    the IP packet, or the NHRP packet. Addresses as text."""

    ends: tuple[str, str]
    gre: int
    labels: tuple[int, ...] = ()
    inner: tuple[str, str] = ("", "")
    ttl: int = 0
    nhrp: Packet | None = None


class Eye:
    """It remembers keys, since SAs are replaced: `look` now and then."""

    def __init__(self, bed: MemoryTestbed) -> None:
        self.bed = bed
        self.sas: dict[tuple[bytes, int], Sa] = {}
        self.look()

    def look(self) -> None:
        for router in self.bed.routers.values():
            for spi, sa in router.context.tables.sad.inbound.items():
                self.sas[sa.local, spi] = sa

    def on(self, link: str) -> list[Opened]:
        """Everything sealed that has crossed a link since the last `forget`, in order."""
        self.look()
        return [opened for frame in self.bed.frames(link) if (opened := self._open(frame)) is not None]

    def _open(self, frame: bytes) -> Opened | None:
        packet = frame[14:]
        if frame[12:14] != b"\x08\x00" or packet[9] != ESP:
            return None
        source, destination = packet[12:16], packet[16:20]
        esp = packet[20 : int.from_bytes(packet[2:4])]
        sa = self.sas.get((destination, int.from_bytes(esp[:4])))
        assert sa is not None, f"nobody's SPI {esp[:4].hex()} to {format_address(destination)}"
        return _inside((format_address(source), format_address(destination)), _plain(sa, esp))


def _plain(sa: Sa, esp: bytes) -> bytes:
    """GRE, out of AES-GCM (RFC 4106): salt and IV, the header as additional octets, padding and its length at the end."""
    iv, sealed = esp[8:16], esp[16:]
    for high in (b"", bytes(4)):
        try:
            clear = AESGCM(sa.encryption).decrypt(sa.salt + iv, sealed, esp[:4] + high + esp[4:8])
        except InvalidTag:
            continue
        assert clear[-1] == GRE
        return clear[: -2 - clear[-2]]
    raise AssertionError("the ICV is wrong")


def _inside(ends: tuple[str, str], gre: bytes) -> Opened:
    flags, kind = int.from_bytes(gre[:2]), int.from_bytes(gre[2:4])
    rest = gre[4 + 4 * (flags >> 15) + 4 * (flags >> 13 & 1) + 4 * (flags >> 12 & 1) :]
    if kind == NHRP:
        return Opened(ends, kind, nhrp=decode_nhrp(rest))
    labels = []
    while kind == MPLS:
        entry, rest = int.from_bytes(rest[:4]), rest[4:]
        labels.append(entry >> 12)
        if entry >> 8 & 1:
            break
    return Opened(ends, kind, tuple(labels), (format_address(rest[12:16]), format_address(rest[16:20])), rest[8])


def customers(packets: Iterable[Opened]) -> list[Opened]:
    """Those that carry labels: a customer's."""
    return [packet for packet in packets if packet.gre == MPLS]


def resolutions(packets: Iterable[Opened]) -> list[tuple[tuple[str, str], Packet]]:
    """(outer ends, NHRP packet)."""
    return [(packet.ends, packet.nhrp) for packet in packets if packet.nhrp is not None]
