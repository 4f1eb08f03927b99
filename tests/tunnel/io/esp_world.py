"""`World` with its tunnel protected, and the far ends of its SAs: ESP written a second time, from the RFCs and with nothing of
ours, so that both must be right.

    PE1 192.0.2.1 = Tunnel0 ==ESP== PE2 192.0.2.2 (SPIs 0x1002 out, 0x2002 in), PE3 192.0.2.3 (0x1003, 0x2003)
"""

from __future__ import annotations

import hmac
from contextlib import contextmanager

from attrs import define, evolve, field
from cryptography.hazmat.primitives.ciphers import Cipher as Suite
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from stack.esp import Cipher, EspForm, EspMode, Integrity, Selector
from stack.events import SaKey
from stack.tables.sad import Sa
from tests.tunnel.io.world import KEY, PE2, PE3, TUNNEL, US, World
from tunnel.io.forwarder import Forwarder
from tunnel.wire import gre, ipv4, udp

TRANSPORT, TUNNEL_MODE = EspMode.TRANSPORT, EspMode.TUNNEL
GCM = EspForm(Cipher.AES_GCM_256)
CBC_FORM = EspForm(Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128)
FORMS = {
    "gcm-256": GCM,
    "gcm-128 udp": EspForm(Cipher.AES_GCM_128, udp=True),
    "gcm tunnel": EspForm(Cipher.AES_GCM_256, mode=TUNNEL_MODE),
    "gcm tunnel udp": EspForm(Cipher.AES_GCM_256, mode=TUNNEL_MODE, udp=True),
    "chacha": EspForm(Cipher.CHACHA20_POLY1305),
    "cbc-256 sha256": CBC_FORM,
    "cbc-192 sha512 udp": EspForm(Cipher.AES_CBC_192, Integrity.HMAC_SHA2_512_256, udp=True),
    "cbc-128 sha1 tunnel": EspForm(Cipher.AES_CBC_128, Integrity.HMAC_SHA1_96, TUNNEL_MODE),
    "cbc-256 sha384 tunnel udp": EspForm(Cipher.AES_CBC_256, Integrity.HMAC_SHA2_384_192, TUNNEL_MODE, udp=True),
}
PORTS = (4500, 61234)
DIGESTS = {12: "sha1", 16: "sha256", 24: "sha384", 32: "sha512"}


def octets(size: int, seed: int) -> bytes:
    return bytes((n * 7 + seed) & 255 for n in range(size))


def sa(spi: int, pe: bytes, form: EspForm, **more) -> Sa:
    """One direction; every SPI has keys of its own."""
    fields = {
        "key": SaKey(TUNNEL, pe),
        "local": US,
        "remote": pe,
        "form": form,
        "encryption": octets(form.cipher.key, spi),
        "salt": octets(form.cipher.salt, spi + 1),
        "integrity": octets(form.integrity.key, spi + 2),
        "ports": PORTS if form.udp else (0, 0),
        "own": (Selector(US, US, 47),),
        "far": (Selector(pe, pe, 47),),
        "child": spi & 0xFF,
        **more,
    }
    return Sa(spi=spi, **fields)


@define(eq=False)
class Opened:
    """A packet that we sent, opened by its receiver."""

    outer: ipv4.Ipv4
    sequence: int
    next_header: int
    payload: bytes
    nonce: bytes


@define(eq=False)
class Far:
    """The peer of a pair of our SAs. `high`: the extended sequence number's upper half, of what it receives."""

    out: Sa
    into: Sa
    sequence: int = 0
    high: int = 0

    def seal(
        self,
        inner: bytes,
        next_header: int | None = None,
        *,
        sequence: int | None = None,
        pad: bytes | None = None,
        pad_length: int | None = None,
        spi: int | None = None,
    ) -> bytes:
        """ESP of `inner` under our inbound SA: SPI to ICV."""
        sa = self.into
        cipher = sa.form.cipher
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        if next_header is None:
            next_header = 4 if sa.form.mode is TUNNEL_MODE else 47
        if pad is None:
            pad = bytes(range(1, 256))[: -(len(inner) + 2) % max(4, cipher.block)]
        clear = inner + pad + bytes((len(pad) if pad_length is None else pad_length, next_header))
        head = (sa.spi if spi is None else spi).to_bytes(4) + (sequence & 0xFFFFFFFF).to_bytes(4)
        if cipher.aead:
            iv = (sequence ^ 0x5A5A).to_bytes(8)  # a receiver takes whatever IV it is given
            number = sequence.to_bytes(8) if sa.esn else sequence.to_bytes(4)
            return head + iv + _aead(sa).encrypt(sa.salt + iv, clear, head[:4] + number)
        iv = hmac.digest(b"iv", sequence.to_bytes(8), "sha256")[:16]
        encryptor = Suite(AES(sa.encryption), CBC(iv)).encryptor()
        packet = head + iv + encryptor.update(clear) + encryptor.finalize()
        return packet + _mac(sa, packet, sequence)

    def packet(self, inner: bytes, *, remote: bytes | None = None, port: int | None = None, **more) -> bytes:
        """The IPv4 packet that our raw socket gets. In tunnel mode `inner` is the whole inner packet."""
        return self.outer(self.seal(inner, **more), remote=remote, port=port)

    def outer(self, esp: bytes, *, remote: bytes | None = None, port: int | None = None, local: bytes = US) -> bytes:
        sa = self.into
        if not sa.form.udp:
            return ipv4.encode(ipv4.Ipv4(remote or sa.remote, local, 50, esp))
        body = udp.encode(udp.Udp(sa.ports[1] if port is None else port, 4500, esp))
        return ipv4.encode(ipv4.Ipv4(remote or sa.remote, local, 17, body))

    def wrap(self, protocol: int, payload: bytes, key: int | None = KEY) -> bytes:
        """What we would send in `payload`'s stead: GRE, in tunnel mode within IPv4."""
        inner = gre.encode(gre.Gre(protocol, payload, key=key))
        if self.into.form.mode is TUNNEL_MODE:
            return ipv4.encode(ipv4.Ipv4(self.into.remote, self.into.local, 47, inner))
        return inner

    def open(self, packet: bytes) -> Opened:
        """Asserts everything that a receiver would mind."""
        sa = self.out
        cipher = sa.form.cipher
        outer = ipv4.decode(packet)
        assert (outer.source, outer.destination, outer.dont_fragment) == (sa.local, sa.remote, False)
        esp = outer.payload
        if sa.form.udp:
            assert outer.protocol == 17
            assert esp[6:8] == b"\0\0", "RFC 3948 2.1: the checksum SHOULD be zero"
            datagram = udp.decode(esp)
            assert (datagram.source_port, datagram.destination_port) == sa.ports
            assert len(datagram.payload) == len(esp) - 8
            esp = datagram.payload
        else:
            assert outer.protocol == 50
        assert int.from_bytes(esp[:4]) == sa.spi
        sequence = self.high << 32 | int.from_bytes(esp[4:8])
        iv, rest = esp[8 : 8 + cipher.iv], esp[8 + cipher.iv :]
        if cipher.aead:
            number = sequence.to_bytes(8) if sa.esn else esp[4:8]
            clear = _aead(sa).decrypt(sa.salt + iv, rest, esp[:4] + number)
        else:
            assert _mac(sa, esp[: -sa.form.icv], sequence) == esp[-sa.form.icv :]
            decryptor = Suite(AES(sa.encryption), CBC(iv)).decryptor()
            clear = decryptor.update(rest[: -sa.form.icv]) + decryptor.finalize()
        assert len(clear) % max(4, cipher.block) == 0
        pad, next_header = clear[-2], clear[-1]
        assert pad < max(4, cipher.block)
        assert clear[len(clear) - 2 - pad : -2] == bytes(range(1, pad + 1))
        return Opened(outer, sequence, next_header, clear[: len(clear) - 2 - pad], iv)

    def carried(self, packet: bytes) -> gre.Gre:
        """The GRE packet inside."""
        opened = self.open(packet)
        if self.out.form.mode is TRANSPORT:
            assert opened.next_header == 47
            return gre.decode(opened.payload)
        assert opened.next_header == 4
        inner = ipv4.decode(opened.payload)  # its checksum and length are right
        assert (inner.source, inner.destination, inner.protocol) == (US, self.out.key.remote or self.out.remote, 47)
        return gre.decode(inner.payload)


def _aead(sa: Sa):
    return (ChaCha20Poly1305 if sa.form.cipher is Cipher.CHACHA20_POLY1305 else AESGCM)(sa.encryption)


def _mac(sa: Sa, packet: bytes, sequence: int) -> bytes:
    icv = sa.form.icv
    covered = packet + ((sequence >> 32).to_bytes(4) if sa.esn else b"")
    return hmac.new(sa.integrity, covered, DIGESTS[icv]).digest()[:icv]


@define(eq=False, slots=False)
class Protected(World):
    """`more` are further fields of every SA."""

    form: EspForm = GCM
    more: dict = field(factory=dict)
    far: dict[bytes, Far] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.w["sad"] = self.tables.sad.writer("test")
        for pe in (PE2, PE3):
            self.change_adjacency(TUNNEL, pe, protection="ipsec", sa=SaKey(TUNNEL, pe))
            self.far[pe] = self.associate(pe)
        self.reception(evolve(self.tables.receptions.get(TUNNEL), protected=True))
        self.readers["esp"] = self.forwarder.esp(self.port("esp", 0))
        self.readers["esp udp"] = self.forwarder.esp(self.port("esp udp", 0), udp=True)

    def associate(self, pe: bytes, generation: int = 0, **more) -> Far:
        """A CHILD_SA to `pe`: what a rekey does, too."""
        fields = {**self.more, **more}
        out, into = (sa(spi | generation << 8 | pe[3], pe, self.form, **fields) for spi in (0x10000, 0x20000))
        self.w["sad"].put_inbound(into)
        self.w["sad"].put_outbound(out)
        return Far(out, into)

    @property
    def door(self) -> str:
        return "esp udp" if self.form.udp else "esp"

    def restart(self) -> None:
        """The forwarder crashes, and another one is made over the same tables."""
        self.forwarder.close()
        for port in self.ports.values():
            port.close()
        self.ports.clear()
        self.readers.clear()
        self.forwarder = Forwarder(self.tables, self.open_raw, self.facts.append, lambda: self.now)
        for name in ("Ethernet0/0", "Ethernet0/1.20", "TUN0", "Ethernet1/0"):
            self.readers[name] = self.forwarder.add_attachment(self.tables.interfaces.get(name), self.port(name))
        for vrf in ("", "cust1", "cust2"):
            self.readers[f"host {vrf}"] = self.forwarder.add_host_port(vrf, self.port(f"host {vrf}"))
        self.readers["gre"] = self.forwarder.gre(self.port("gre", 0))
        self.readers["mpls-in-ip"] = self.forwarder.mpls_in_ip(self.port("mpls-in-ip", 0))
        self.readers["esp"] = self.forwarder.esp(self.port("esp", 0))
        self.readers["esp udp"] = self.forwarder.esp(self.port("esp udp", 0), udp=True)

    def arrive(self, *packets: bytes) -> dict[str, list[bytes]]:
        """By the port that packets of this form come by."""
        return self.into(self.door, *packets)

    def outer_of(self, pe: bytes) -> str:
        return f"raw {17 if self.form.udp else 50} {pe[-1]}"


@contextmanager
def protected(**fields):
    made = Protected(**fields)
    try:
        yield made
    finally:
        for port in made.ports.values():
            port.close()
