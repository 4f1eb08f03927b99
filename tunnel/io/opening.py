"""ESP in: packets of protocol 50, or of UDP port 4500, are opened in place, and what is in them goes on as GRE does.

RFC 4303 3.4, RFC 4301 5.2. In this order, and nothing about a packet is believed before its ICV is right: its length, the SA by
the SPI, the outer destination, the limits, the replay window (looked at), the ICV, the window (moved), padding, next header,
selectors. No packet is ever answered, whatever is wrong with it.

Before the GRE header then stands, instead of the ESP header, what `GreReader` expects of an outer IPv4 header: its first octet,
and for the addresses the SA's serial, by which it finds the inlet. The SPI and the source are there too, for the whole path.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from attrs import define, field
from cryptography.exceptions import InvalidTag

from stack.events import SaMoved, SaSoft, SaUnknown
from stack.tables.sad import Sa, SadTable
from tunnel.io.counters import Budgets, Drop, Slow
from tunnel.io.esp import Opener, opener_of
from tunnel.io.readers import BASES, GreReader
from tunnel.wire import esp

__all__ = ["MOVED_RATE", "UNKNOWN_RATE", "EspReader"]

UNKNOWN_RATE = 50.0
"""`SaUnknown` a second, and at once: anybody can cause them."""

MOVED_RATE = 2.0
"""`SaMoved` a second, and at once, of each SA."""

_RAW = Struct(">B11xIIIIQ").unpack_from
_UDP = Struct(">B11xIIHxxHxxIIQ").unpack_from
_WORDS = Struct(">IIIII").unpack_from
_NONCE = Struct(">IQ").pack
_AAD = Struct(">II").pack
_OUTER = Struct(">B3xIIQ").pack_into
_GRE, _FRAGMENT = 47, 0x3FFF
_PADS = esp.PADS


@define(eq=False)
class EspReader(GreReader):
    """`udp`: the port's packets are datagrams (RFC 3948), all of them to our port."""

    udp: bool
    sad: SadTable = field(init=False)
    _unknown: Budgets = field(init=False)
    _moved: Budgets = field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.peers = self.tunnels.sealed
        self.sad = self.path.tables.sad
        self._unknown = Budgets(UNKNOWN_RATE, UNKNOWN_RATE, self.path.now)
        self._moved = Budgets(MOVED_RATE, MOVED_RATE, self.path.now)

    def drain(self) -> None:
        """As of every reader."""
        self.path.refresh()
        counts = self.fill()
        if counts:
            self.flat(self.open(counts))
            self.flush()

    def open(self, counts: Sequence[int]) -> list[tuple[int, int]]:
        """Decrypt what came; where each GRE packet begins (20 octets before its header), and its length from there.

        Flat, as `flat` is.
        """
        octets, view, inbound, now, udp, vrf = (
            self.arena.octets,
            self.arena.view,
            self.sad.inbound,
            self.path.now(),
            self.udp,
            self.vrf,
        )
        unpack, least, skip = (_UDP, 36, 28) if udp else (_RAW, 28, 20)
        opened: list[tuple[int, int]] = []
        remote = port = size = 0
        for base, count in zip(BASES, counts, strict=False):
            if octets[base] != 0x45:
                count = self.without_options(base, count)  # noqa: PLW2901  (it is the same packet)
            if count < least:
                self.short(base, count)
                continue
            if udp:
                _, remote, local, port, size, spi, low, iv = unpack(octets, base)
            else:
                _, remote, local, spi, low, iv = unpack(octets, base)
                size = count - 20
            sa = inbound.get(spi)
            if sa is None:
                self.unknown(base, spi)
                continue
            use = sa.use
            opener = use.handle
            if opener.__class__ is not Opener or opener.sa is not sa:
                opener = opener_of(sa)
            at, end = base + skip, base + 20 + size
            if opener is None or local != opener.local or vrf != opener.vrf:
                self.refuse(Drop.PROTECTED if opener is None else Drop.ESP_DESTINATION, sa)
                continue
            stop = end - opener.icv
            body = at + opener.front
            if size > count - 20 or end - at < opener.least or stop - body & opener.ragged:
                self.refuse(Drop.ESP_MALFORMED, sa)
                continue
            if (use.packets >= opener.packets or use.octets >= opener.octets or now >= opener.until) and self.limited(
                opener, now
            ):
                self.refuse(Drop.ESP_EXPIRED, sa)
                continue
            sequence = opener.infer(low) if sa.esn else low
            ahead = sequence - use.sequence
            if sequence <= 0 or (ahead <= 0 and (-ahead >= opener.span or use.window >> -ahead & 1)):
                use.replays += 1
                self.counters.drop(Drop.ESP_REPLAY, sa.key.interface)
                continue
            decrypt = opener.decrypt
            try:
                if decrypt is not None:
                    decrypt(
                        _NONCE(opener.salt, iv),
                        view[body:end],
                        _NONCE(spi, sequence) if sa.esn else _AAD(spi, low),
                        view[body:stop],
                    )
                else:
                    opener.open(octets, view, at, end, sequence)
            except InvalidTag:
                use.integrity_failures += 1
                self.counters.drop(Drop.ESP_INTEGRITY, sa.key.interface)
                continue
            # Only now: "the receive window is updated only if the ICV verification succeeds" (RFC 4303 3.4.3).
            if ahead > 0:
                use.window = (use.window << ahead | 1) & opener.mask if ahead < opener.span else opener.mask & 1
                use.sequence = sequence
                if udp and opener.port and (port != opener.port or remote != opener.remote):
                    self.moved(sa, remote, port)
            elif opener.mask:
                use.window |= 1 << -ahead
            pad, kind = octets[stop - 2], octets[stop - 1]
            stop -= 2 + pad
            use.packets += 1
            use.last = now
            if stop < body or (pad and view[stop : stop + pad] != _PADS[pad]):
                self.refuse(Drop.ESP_PADDING, sa)
                continue
            use.octets += stop - body
            if kind == _GRE and opener.admitted and not opener.tunnel:
                _OUTER(octets, body - 20, 0x45, spi, opener.remote, opener.serial)
                opened.append((body - 20, stop - body + 20))
            elif kind == esp.DUMMY:
                self.counters.note(Slow.ESP_DUMMY)
            elif kind != esp.ANY_IPV4 or not opener.tunnel:
                self.refuse(Drop.ESP_SELECTOR, sa)
            else:
                inner = self.inner(opener, body, stop)
                if isinstance(inner, Drop):
                    self.refuse(inner, sa)
                else:
                    opened.append(inner)
        return opened

    def inner(self, opener: Opener, at: int, end: int) -> tuple[int, int] | Drop:
        """The whole IPv4 packet at `at`, of tunnel mode, with what may be behind it (TFC padding, RFC 4303 2.7)."""
        octets = self.arena.octets
        if end - at < 20:
            return Drop.ESP_MALFORMED
        first, second, third, source, destination = _WORDS(octets, at)
        size, header = first & 0xFFFF, (first >> 24 & 15) * 4
        if first >> 28 != 4 or not 20 <= header <= size <= end - at:
            return Drop.ESP_MALFORMED
        total = int.from_bytes(octets[at : at + header])
        if total % 0xFFFF:
            return Drop.CHECKSUM
        if second & _FRAGMENT:
            return Drop.ESP_FRAGMENT
        pair = source << 32 | destination
        serial = opener.pairs.get(pair) or opener.admit(pair)
        if third >> 16 & 0xFF != _GRE or not serial:
            return Drop.ESP_SELECTOR
        _OUTER(octets, at + header - 20, 0x45, opener.sa.spi, source, serial)
        return at + header - 20, size - header + 20

    # --- what is rare -----------------------------------------------------------------------------------------------

    def without_options(self, base: int, count: int) -> int:
        """Close the gap that the outer header's options leave; the packet's length then, or 0 if it is none."""
        octets = self.arena.octets
        header = (octets[base] & 15) * 4
        if octets[base] >> 4 != 4 or not 20 <= header <= count:
            return 0
        octets[base + 20 : base + 20 + count - header] = octets[base + header : base + count]
        octets[base] = 0x45
        return count - header + 20

    def short(self, base: int, count: int) -> None:
        """Too short for ESP: a keepalive, which is "silently ignored" (RFC 3948 2.3), or refuse."""
        octets = self.arena.octets
        if self.udp and count >= 29 and octets[base + 24 : base + 26] == b"\0\x09" and octets[base + 28] == 0xFF:
            self.counters.note(Slow.NAT_KEEPALIVE)
        else:
            self.counters.drop(Drop.ESP_MALFORMED, "esp")

    def unknown(self, base: int, spi: int) -> None:
        """RFC 4303 3.4.2: no SA, so the packet is dropped; ikev2 may tell its sender. SPI 0 in UDP is IKE's."""
        if self.udp and not spi:
            return
        self.counters.drop(Drop.ESP_UNKNOWN, "esp")
        if self._unknown.take(""):
            octets = self.arena.octets
            local, remote = bytes(octets[base + 16 : base + 20]), bytes(octets[base + 12 : base + 16])
            self.path.post(SaUnknown(local, remote, spi, self.vrf))

    def refuse(self, reason: Drop, sa: Sa) -> None:
        sa.use.refused += 1
        self.counters.drop(reason, sa.key.interface)

    def limited(self, opener: Opener, now: float) -> bool:
        """Whether the SA has come to a hard limit; a soft one is reported, once."""
        expired, soft = opener.limited(now)
        if soft:
            opener.use.told = self.path.punt(SaSoft(opener.sa.spi, inbound=True), opener.sa.key.interface)
        opener.watch()
        return expired

    def moved(self, sa: Sa, remote: int, port: int) -> None:
        """A NAT has changed its mind (RFC 7296 2.23): only the newest packet tells where the peer is now."""
        if self._moved.take(sa.spi):
            self.path.post(SaMoved(sa.spi, remote.to_bytes(4), port))

    def whole(self, octets: bytes) -> None:
        spi, source = int.from_bytes(octets[4:8]), octets[8:12]
        sa = self.sad.inbound.get(spi)
        if sa is not None:
            self.tunnels.opened(sa, source, int.from_bytes(octets[12:20]), octets[20:])
