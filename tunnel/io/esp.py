"""What ESP does to octets, an SA at a time: `Sealer` outwards, `Opener` inwards. RFC 4303, 4106 (AES-GCM), 7634 (ChaCha20),
3602 and 4868 (AES-CBC with HMAC), 3948 (in UDP).

Both work in place, in the slots of an arena. They are made once per SA and kept in its `use`, with the counters: an SA whose
addresses change is another `Sa` with the same `use`, and goes on counting.

AEAD: the IV is the 64-bit sequence number, which no SA uses twice, so no nonce comes twice under a key (RFC 4106 3.1). It is
reserved before anything is encrypted, and outlives the forwarder. CBC: each packet is the continuation of one chain, whose next
block, the number encrypted, is the packet's IV: nobody foresees it (RFC 3602 3), and no context must be made for a packet.
"""

from __future__ import annotations

import hmac
from array import array
from collections.abc import Callable, Sequence
from itertools import count
from struct import Struct
from typing import Any

from attrs import define, field
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as Suite
from cryptography.hazmat.primitives.ciphers import CipherContext
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from stack.esp import Cipher, EspMode
from stack.tables.sad import Sa, SaUse
from tunnel.wire import esp

__all__ = ["FRONT", "MAX_PAIRS", "MAX_WINDOW", "TAIL", "Opener", "Sealer", "opener_of", "sealer_of"]

FRONT, TAIL = 52, 49
"""Octets at most that sealing puts before a packet with its IPv4 header (IPv4, UDP, SPI, sequence number, IV), and behind it
(padding, its length, next header, ICV)."""

MAX_WINDOW = 8192
"""Bits of a replay window."""

MAX_PAIRS = 64
"""(source, destination) of inner packets that a tunnel-mode SA remembers to have admitted. When full, all are forgotten."""

_UDP, _ESP, _GRE = 17, 50, 47
_EVER = 1 << 64
"""More than any counter reaches."""

_ICV = 16
"""Of every AEAD here."""

_NONCE = Struct(">IQ").pack
_AAD = Struct(">II").pack
_HEAD = Struct(">20sIIQ").pack_into
_HEAD_UDP = Struct(">24sHHIIQ").pack_into
_HEAD_CBC = Struct(">20sIIQQ").pack_into
_HEAD_CBC_UDP = Struct(">24sHHIIQQ").pack_into
_WORD = Struct(">I").pack_into
_TRAILER = Struct(">Q").pack_into
_INNER = Struct(">IIIII")

Octets = bytearray

_serials = count(1)
"""Never used twice, so that nobody mistakes an SA for an earlier one."""


def _trailers(next_header: int) -> tuple[list[int], list[int]]:
    """By the payload's size modulo 4: the trailer of an AEAD as 8 octets, zeros behind it, and its length."""
    each = [esp.trailer(size, 4, next_header) for size in range(4)]
    return [int.from_bytes(octets.ljust(8, b"\0")) for octets in each], [len(octets) for octets in each]


def _check(sa: Sa) -> None:
    form = sa.form
    keys = (len(sa.encryption), len(sa.salt), len(sa.integrity))
    if keys != (form.cipher.key, form.cipher.salt, 0 if form.cipher.aead else form.integrity.key) or not form.icv:
        raise ValueError(f"SA {sa.spi:#010x}: keys of another size than {form.cipher.text} takes")


Into = Callable[[bytes, memoryview, bytes, memoryview], int]
"""`(nonce, octets, associated, out)`; `out` may be the same place. Opening raises InvalidTag."""


def _aead(sa: Sa) -> tuple[Into, Into]:
    """What encrypts, and what decrypts. Releases of `cryptography` before 47 have no way without copies."""
    made: Any = (ChaCha20Poly1305 if sa.form.cipher is Cipher.CHACHA20_POLY1305 else AESGCM)(sa.encryption)
    if hasattr(made, "encrypt_into"):
        return made.encrypt_into, made.decrypt_into
    return _copied(made.encrypt), _copied(made.decrypt)


def _copied(work: Callable[[bytes, memoryview, bytes], bytes]) -> Into:
    def into(nonce: bytes, octets: memoryview, associated: bytes, out: memoryview) -> int:
        out[:] = work(nonce, octets, associated)
        return len(out)

    return into


def _seq_end(sa: Sa) -> int:
    """The last sequence number: it never wraps (RFC 4303 3.3.3)."""
    return (1 << 64) - 1 if sa.esn else (1 << 32) - 1


@define(eq=False)
class Sealer:
    """Outwards. `ttl`: of the outer header."""

    sa: Sa
    ttl: int
    seal: Callable[[Octets, memoryview, array[int], int, int, int], None] = field(init=False, repr=False)
    """`seal(octets, view, parts, origin, count, sequence)`: the first `count` packets of `parts` (an iovec each, addresses
    counted from `origin`, where `octets` lie; IPv4 + GRE, as a rewrite lays them) become ESP in place, numbered from
    `sequence` + 1 on, and `parts` say where and how long they are."""
    skip: int = field(init=False)
    """Octets of a packet that are not payload: its IPv4 header, in transport mode."""
    end: int = field(init=False)
    _encrypt: Into = field(init=False, repr=False)
    _chain: CipherContext | None = field(default=None, init=False, repr=False)
    _heads: list[bytes | None] = field(init=False, repr=False)
    """By TOS: the outer IPv4 header, and the ports if there is UDP."""

    def __attrs_post_init__(self) -> None:
        sa = self.sa
        _check(sa)
        self._heads = [None] * 256
        self.skip = 0 if sa.form.mode is EspMode.TUNNEL else 20
        self.end = _seq_end(sa)
        if sa.form.cipher.aead:
            self._encrypt, self.seal = _aead(sa)[0], self._seal_aead
        else:
            self._chain, self.seal = Suite(AES(sa.encryption), CBC(bytes(16))).encryptor(), self._seal_cbc

    def reserve(self, sizes: Sequence[int], now: float) -> tuple[int, int]:
        """(how many of packets of these sizes may go, the sequence number before them), counted as gone.

        "the sender MUST NOT send a packet on an SA if doing so would cause the sequence number to cycle" (RFC 4303 3.3.3).
        """
        sa = self.sa
        use = sa.use
        sequence, many = use.sequence, len(sizes)
        total = sum(sizes) - many * self.skip
        if (
            sequence + many > self.end
            or use.packets + many > (sa.hard_packets or _EVER)
            or use.octets + total > (sa.hard_octets or _EVER)
            or (sa.hard_time and now >= sa.hard_time)
        ):
            many, total = self._fitting(sizes, now)
            use.refused += len(sizes) - many
            if not many:
                return 0, sequence
        use.sequence = sequence + many
        use.packets += many
        use.octets += total
        use.last = now
        return many, sequence

    def _fitting(self, sizes: Sequence[int], now: float) -> tuple[int, int]:
        """How many of the first packets stay within every limit, and their octets."""
        sa = self.sa
        use = sa.use
        total = many = 0
        if sa.hard_time and now >= sa.hard_time:
            return 0, 0
        room = min(self.end - use.sequence, (sa.hard_packets or _EVER) - use.packets)
        octets = (sa.hard_octets or _EVER) - use.octets
        for size in sizes:
            if many >= room or total + size - self.skip > octets:
                break
            many, total = many + 1, total + size - self.skip
        return many, total

    def soft(self) -> bool:
        """Whether it is time to ask for a successor: at the soft limits, and when an eighth of the numbers is left."""
        sa = self.sa
        use = sa.use
        return not use.told and (
            use.packets >= (sa.soft_packets or _EVER)
            or use.octets >= (sa.soft_octets or _EVER)
            or use.sequence >= self.end - (self.end >> 3)
        )

    def _head(self, tos: int) -> bytes:
        """DF clear; length, identification and checksum are the port's to fill in."""
        sa = self.sa
        protocol = _UDP if sa.form.udp else _ESP
        head = bytes((0x45, tos, 0, 0, 0, 0, 0, 0, self.ttl, protocol, 0, 0)) + sa.local + sa.remote
        if sa.form.udp:
            head += b"".join(port.to_bytes(2) for port in sa.ports)
        self._heads[tos] = head
        return head

    def _seal_aead(
        self, octets: Octets, view: memoryview, parts: array[int], origin: int, count: int, sequence: int
    ) -> None:
        sa, heads, skip = self.sa, self._heads, self.skip
        spi, udp, esn, salt = sa.spi, sa.form.udp, sa.esn, int.from_bytes(sa.salt)
        trailers, grow = _TRAILERS_TUNNEL if not skip else _TRAILERS_TRANSPORT
        encrypt = self._encrypt
        for part in range(0, count << 1, 2):
            start, size = parts[part] - origin, parts[part + 1]
            sequence += 1
            head = heads[octets[start + 1]] or self._head(octets[start + 1])
            if not skip:
                _complete(octets, start, size, sequence)
            body, end = start + skip, start + size
            low = size & 3  # 20 octets of header do not change it
            _TRAILER(octets, end, trailers[low])
            end += grow[low]
            if udp:
                start = body - 44
                _HEAD_UDP(octets, start, head, end - body + 40, 0, spi, sequence & 0xFFFFFFFF, sequence)
            else:
                start = body - 36
                _HEAD(octets, start, head, spi, sequence & 0xFFFFFFFF, sequence)
            encrypt(
                _NONCE(salt, sequence),
                view[body:end],
                _NONCE(spi, sequence) if esn else _AAD(spi, sequence),
                view[body : end + _ICV],
            )
            parts[part] = origin + start
            parts[part + 1] = end + _ICV - start

    def _seal_cbc(
        self, octets: Octets, view: memoryview, parts: array[int], origin: int, count: int, sequence: int
    ) -> None:
        sa, form = self.sa, self.sa.form
        next_header = _GRE if self.skip else esp.ANY_IPV4
        icv = form.icv
        assert self._chain is not None
        for part in range(0, count << 1, 2):
            start, size = parts[part] - origin, parts[part + 1]
            sequence += 1
            head = self._heads[octets[start + 1]] or self._head(octets[start + 1])
            if not self.skip:
                _complete(octets, start, size, sequence)
            body, end = start + self.skip, start + size
            trailer = esp.trailer(end - body, 16, next_header)
            octets[end : end + len(trailer)] = trailer
            end += len(trailer)
            low = sequence & 0xFFFFFFFF
            if form.udp:
                start = body - 52
                _HEAD_CBC_UDP(octets, start, head, end - body + 32 + icv, 0, sa.spi, low, 0, sequence)
            else:
                start = body - 44
                _HEAD_CBC(octets, start, head, sa.spi, low, 0, sequence)
            self._chain.update_into(view[body - 16 : end], view[body - 16 : end + 16])
            octets[end : end + icv] = _mac(sa, octets, view, body - 24, end, sequence)
            parts[part] = origin + start
            parts[part + 1] = end + icv - start


_TRAILERS_TRANSPORT, _TRAILERS_TUNNEL = _trailers(_GRE), _trailers(esp.ANY_IPV4)


def _mac(sa: Sa, octets: Octets, view: memoryview, start: int, end: int, sequence: int) -> bytes:
    """The ICV of the packet from `start` on, to stand at `end`, where the high half of the number stands meanwhile: with ESN
    it is not sent, but "included in the ICV computation" (RFC 4303 2.2.1), behind the packet."""
    covered = end
    if sa.esn:
        _WORD(octets, end, sequence >> 32)
        covered += 4
    integrity = sa.form.integrity
    return hmac.digest(sa.integrity, view[start:covered], integrity.digest)[: integrity.icv]


def _complete(octets: Octets, at: int, size: int, sequence: int) -> None:
    """What the host fills in elsewhere, in an inner IPv4 header: length, identification, checksum."""
    first, _, third, source, destination = _INNER.unpack_from(octets, at)
    first, second, third = first & 0xFFFF0000 | size, (sequence & 0xFFFF) << 16, third & 0xFFFF0000
    third |= 0xFFFF - (first + second + third + source + destination) % 0xFFFF
    _INNER.pack_into(octets, at, first, second, third, source, destination)


@define(eq=False)
class Opener:
    """Inwards: what `EspReader` needs of an SA, ready."""

    sa: Sa
    use: SaUse = field(init=False)
    serial: int = field(init=False)
    """Names the SA, and that what was in it has passed its selectors (`pairs` in tunnel mode)."""
    local: int = field(init=False)
    vrf: str = field(init=False)
    """The outer destination, and the VRF that it is in."""
    remote: int = field(init=False)
    port: int = field(init=False)
    """Where packets in UDP come from; 0: anywhere."""
    front: int = field(init=False)
    """Octets of SPI, sequence number and IV."""
    icv: int = field(init=False)
    least: int = field(init=False)
    """Octets of the shortest packet, and `ragged`: bits of the length of what is encrypted that must be zero."""
    ragged: int = field(init=False)
    decrypt: Into | None = field(default=None, init=False, repr=False)
    """Of an AEAD; all others `open`."""
    salt: int = field(init=False, repr=False)
    _chain: CipherContext | None = field(default=None, init=False, repr=False)
    tunnel: bool = field(init=False)
    admitted: bool = field(init=False)
    """In transport mode: GRE between the outer addresses is within the selectors."""
    pairs: dict[int, int] = field(factory=dict, init=False)
    """In tunnel mode: (source << 32 | destination) of GRE that the selectors admit -> a serial of its own."""
    span: int = field(init=False)
    """Bits of the window; `_EVER`: no replay protection. `reach`: what ESN is inferred by."""
    mask: int = field(init=False)
    reach: int = field(init=False)
    packets: int = field(init=False)
    octets: int = field(init=False)
    """From these counts on, `limited` has to look."""
    until: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        sa, form = self.sa, self.sa.form
        _check(sa)
        self.use, self.serial = sa.use, next(_serials)
        self.vrf = sa.vrf
        self.local, self.remote = int.from_bytes(sa.local), int.from_bytes(sa.remote)
        self.port = sa.ports[1] if form.udp else 0
        self.front, self.icv = 8 + form.cipher.iv, form.icv
        self.least = self.front + max(form.cipher.block, 4) + form.icv
        self.ragged = form.cipher.block - 1
        self.salt = int.from_bytes(sa.salt)
        if form.cipher.aead:
            self.decrypt = _aead(sa)[1]
        else:
            self._chain = Suite(AES(sa.encryption), CBC(bytes(16))).decryptor()
        self.tunnel = form.mode is EspMode.TUNNEL
        self.admitted = self.admits(sa.remote, sa.local, _GRE)
        window = max(0, min(sa.window, MAX_WINDOW))
        self.span, self.mask, self.reach = window or _EVER, (1 << window) - 1, window or 1 << 31
        self.watch()
        self.until = sa.hard_time or float("inf")

    def watch(self) -> None:
        """Look out for the soft limits as long as they are not reported, and for the hard ones."""
        sa, told = self.sa, self.use.told
        soft = (_EVER, _EVER) if told else (sa.soft_packets or _EVER, sa.soft_octets or _EVER)
        self.packets = min(soft[0], sa.hard_packets or _EVER)
        self.octets = min(soft[1], sa.hard_octets or _EVER)

    def infer(self, low: int) -> int:
        """The whole extended sequence number of which `low` came (RFC 4303 A2.2); not positive: older than the first."""
        top = self.use.sequence
        bottom = top - self.reach + 1
        sequence = top & ~0xFFFFFFFF | low
        if sequence < bottom:
            return sequence + 0x100000000
        if sequence >= bottom + 0x100000000:
            return sequence - 0x100000000
        return sequence

    def limited(self, now: float) -> tuple[bool, bool]:
        """(expired, time to say so): at a hard limit, and at a soft one that was not reported yet."""
        sa, use = self.sa, self.use
        expired = (
            use.packets >= (sa.hard_packets or _EVER) or use.octets >= (sa.hard_octets or _EVER) or now >= self.until
        )
        soft = use.packets >= (sa.soft_packets or _EVER) or use.octets >= (sa.soft_octets or _EVER)
        return expired, soft and not use.told

    def open(self, octets: Octets, view: memoryview, at: int, end: int, sequence: int) -> None:
        """Decrypt the packet at `at` in place. Raises InvalidTag, having decrypted nothing: of AES-CBC with HMAC."""
        sa, icv = self.sa, self.icv
        stop = end - icv
        came = bytes(view[stop:end])
        if not hmac.compare_digest(_mac(sa, octets, view, at, stop, sequence), came):
            raise InvalidTag
        assert self._chain is not None
        self._chain.update_into(view[at + 8 : stop], view[at + 8 : stop + 16])  # the IV's own block comes out as noise

    def admits(self, source: bytes, destination: bytes, protocol: int) -> bool:
        """RFC 4301 5.2 step 4: "the packet's headers are checked against the selectors of the SA"."""
        sa = self.sa
        return any(far.covers(source, protocol) for far in sa.far) and any(
            own.covers(destination, protocol) for own in sa.own
        )

    def admit(self, pair: int) -> int:
        """The serial of GRE between the inner addresses (source << 32 | destination); 0: the selectors refuse it."""
        octets = pair.to_bytes(8)
        if not self.admits(octets[:4], octets[4:], _GRE):
            return 0
        if len(self.pairs) >= MAX_PAIRS:
            self.pairs.clear()
        serial = self.pairs[pair] = next(_serials)
        return serial


def sealer_of(sa: Sa, ttl: int) -> Sealer | None:
    """The SA's; None if its keys are unusable."""
    made = sa.use.handle
    if isinstance(made, Sealer) and made.sa is sa and made.ttl == ttl:
        return made
    try:
        made = sa.use.handle = Sealer(sa, ttl)
    except ValueError:
        return None
    return made


def opener_of(sa: Sa) -> Opener | None:
    made = sa.use.handle
    if isinstance(made, Opener) and made.sa is sa:
        return made
    try:
        made = sa.use.handle = Opener(sa)
    except ValueError:
        return None
    return made
