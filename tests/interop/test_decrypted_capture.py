"""tshark reads a capture with the keys that a key log wrote: what is inside ESP, layer by layer, and inside IKE_AUTH.

The ESP packets are sealed here from the RFCs and `cryptography`, not by our own packet path; the IKE exchange is strongSwan's.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ikev2.crypto.sealing import Sealer, overhead
from ikev2.wire import Encrypted, Message, encode
from stack.esp import Cipher, EspForm, Integrity
from stack.events import SaKey
from stack.keylog import FileKeyLog
from stack.lab.run import run_lab
from stack.pcapng import Pcapng, create
from stack.tables.sad import Sa
from stack.wire import internet_checksum
from tests.conftest import require_root, require_tool
from tests.ikev2 import swan_vectors

pytestmark = pytest.mark.interop

LEFT, RIGHT = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
GRE, UDP, ESP, ICMP = 47, 17, 50, 1
LAYERS = "gre:mpls:ip:icmp:data"
HASHES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}

FORMS = [
    EspForm(cipher, integrity)
    for cipher in Cipher
    for integrity in ([Integrity.NONE] if cipher.aead else [each for each in Integrity if each.key])
]
KNOWN = [form for form in FORMS if form.cipher is not Cipher.CHACHA20_POLY1305]


# --- packets, from the RFCs ----------------------------------------------------------------------------------------------


def ip(protocol: int, payload: bytes, source: bytes = LEFT, destination: bytes = RIGHT) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, source, destination)
    return head[:10] + internet_checksum(head).to_bytes(2) + head[12:] + payload


def udp(ports: tuple[int, int], payload: bytes) -> bytes:
    return struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload


def mpls_in_gre() -> bytes:
    echo = struct.pack(">BBHHH", 8, 0, 0, 1, 1) + bytes(40)
    echo = echo[:2] + internet_checksum(echo).to_bytes(2) + echo[4:]
    return b"\0\0\x88\x47" + struct.pack(">I", 100 << 12 | 1 << 8 | 64) + ip(ICMP, echo, b"\x0a\0\0\1", b"\x0a\0\0\2")


def association(form: EspForm, spi: int, *, esn: bool = False) -> Sa:
    cipher, integrity = form.cipher, form.integrity
    keys = (os.urandom(cipher.key), os.urandom(cipher.salt), os.urandom(integrity.key))
    return Sa(spi, SaKey("Tunnel0", b""), LEFT, RIGHT, form, *keys, esn)


def sealed(sa: Sa, sequence: int = 1) -> bytes:
    """RFC 4303 2, RFC 4106, RFC 7634, RFC 3602: GRE in transport mode, high sequence number 0."""
    cipher, head, inside = sa.form.cipher, struct.pack(">II", sa.spi, sequence), mpls_in_gre()
    padding = -(len(inside) + 2) % cipher.block
    inside += bytes(range(1, padding + 1)) + bytes((padding, GRE))
    if cipher.aead:
        iv = sequence.to_bytes(8)
        aad = struct.pack(">III", sa.spi, 0, sequence) if sa.esn else head
        aead = ChaCha20Poly1305 if cipher is Cipher.CHACHA20_POLY1305 else AESGCM
        return head + iv + aead(sa.encryption).encrypt(sa.salt + iv, inside, aad)
    iv = os.urandom(16)
    encryptor = BlockCipher(algorithms.AES(sa.encryption), modes.CBC(iv)).encryptor()
    packet = head + iv + encryptor.update(inside) + encryptor.finalize()
    mac = hmac.HMAC(sa.integrity, HASHES[sa.form.integrity.digest]())
    mac.update(packet + (bytes(4) if sa.esn else b""))
    return packet + mac.finalize()[: sa.form.icv]


# --- a folder as the lab leaves it ---------------------------------------------------------------------------------------


def captured(folder: Path, packets: Iterable[bytes], *sas: Sa, ike: Sequence[Any] = ()) -> None:
    with create(folder / "lab.pcapng") as file:
        pcapng = Pcapng(file)
        link = pcapng.interface("pe1-core")
        for number, packet in enumerate(packets):
            pcapng.packet(link, 1_700_000_000_000_000_000 + number, b"\2" * 12 + b"\x08\0" + packet)
    log = FileKeyLog(folder / "profile")
    for sa in sas:
        log.esp(sa)
    if ike:
        log.ike(*ike)
    assert log.left_out == 0
    log.close()


def read(folder: Path, *fields: str, options: Iterable[str] = ()) -> list[list[str]]:
    """As the profile's own first line says; tshark has no word to say about the tables."""
    command = [require_tool("tshark"), "-n", "-r", str(folder / "lab.pcapng"), *options, "-T", "fields"]
    command += [word for name in fields for word in ("-e", name)]
    environment = {**os.environ, "WIRESHARK_CONFIG_DIR": str(folder / "profile")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert [line for line in done.stderr.splitlines() if "root" not in line] == []
    return [line.split("\t") for line in done.stdout.splitlines()]


CHECKED = ("-o", "esp.enable_authentication_check:TRUE")


def test_rfc4303_every_cipher_that_tshark_knows_is_opened(tmp_path: Path) -> None:
    sas = [association(form, 0x1000 + number) for number, form in enumerate(KNOWN)]
    captured(tmp_path, (ip(ESP, sealed(sa)) for sa in sas), *sas)
    rows = read(tmp_path, "frame.protocols", "esp.icv_good", "frame.interface_name", options=CHECKED)
    assert rows == [[f"eth:ethertype:ip:esp:{LAYERS}", "1", "pe1-core"]] * len(KNOWN)
    assert len(KNOWN) == 14


def test_rfc3948_esp_in_udp_is_opened_whatever_a_nat_made_of_its_addresses(tmp_path: Path) -> None:
    sa = association(EspForm(Cipher.AES_GCM_256, udp=True), 0x2000)
    before = ip(UDP, udp((4500, 4500), sealed(sa)))
    after = ip(UDP, udp((61_000, 4500), sealed(sa)), bytes((203, 0, 113, 9)))
    captured(tmp_path, (before, after), sa)
    assert read(tmp_path, "frame.protocols") == [[f"eth:ethertype:ip:udp:udpencap:esp:{LAYERS}"]] * 2


def test_rfc4303_2_2_1_extended_sequence_numbers_are_opened(tmp_path: Path) -> None:
    """tshark 4.0 cannot check their ICV, which the profile therefore does not ask of it."""
    sas = [association(form, 0x3000 + number, esn=True) for number, form in enumerate(KNOWN)]
    captured(tmp_path, (ip(ESP, sealed(sa)) for sa in sas), *sas)
    rows = read(tmp_path, "frame.protocols", "esp.icv_bad", "_ws.expert.message")
    assert [row[0] for row in rows] == [f"eth:ethertype:ip:esp:{LAYERS}"] * len(KNOWN)
    assert {row[1] for row in rows} <= {"", "0"}
    assert {row[2] for row in rows} == {""}


def test_what_tshark_has_no_name_for_stays_closed_and_harms_no_other(tmp_path: Path) -> None:
    chacha, gcm = (association(EspForm(c), n) for n, c in ((1, Cipher.CHACHA20_POLY1305), (2, Cipher.AES_GCM_128)))
    captured(tmp_path, (ip(ESP, sealed(sa)) for sa in (chacha, gcm)), chacha, gcm)
    shut, opened = read(tmp_path, "frame.protocols")
    assert (shut, opened) == (["eth:ethertype:ip:esp"], [f"eth:ethertype:ip:esp:{LAYERS}"])
    row = next(
        line for line in (tmp_path / "profile/esp_sa").read_text().splitlines() if chacha.encryption.hex() in line
    )
    assert row.startswith('# "IPv4","*","*","0x00000001","ChaCha20 with Poly1305 [RFC7634]"')


def test_without_its_key_nothing_is_seen(tmp_path: Path) -> None:
    sa, other = (association(EspForm(Cipher.AES_GCM_256), spi) for spi in (0x10, 0x11))
    captured(tmp_path, [ip(ESP, sealed(sa))], other)
    assert read(tmp_path, "frame.protocols") == [["eth:ethertype:ip:esp"]]


# --- IKEv2 ---------------------------------------------------------------------------------------------------------------


def test_rfc7296_an_exchange_of_strongswan_is_read(tmp_path: Path) -> None:
    """IKE_SA_INIT on port 500, the rest on 4500; AES-GCM-256 (RFC 5282)."""
    v, marker = swan_vectors, bytes(4)
    there = [(v.SA_INIT_REQUEST, 500), (marker + v.AUTH_REQUEST, 4500), (marker + v.DELETE_REQUEST, 4500)]
    back = [(v.SA_INIT_RESPONSE, 500), (marker + v.AUTH_RESPONSE, 4500), (marker + v.DELETE_RESPONSE, 4500)]
    packets = []
    for (request, port), (response, _) in zip(there, back, strict=True):
        packets.append(ip(UDP, udp((port, port), request)))
        packets.append(ip(UDP, udp((port, port), response), RIGHT, LEFT))
    spis = v.SA_INIT_RESPONSE[:8], v.SA_INIT_RESPONSE[8:16]
    captured(tmp_path, packets, ike=(*spis, Cipher.AES_GCM_256, v.SK_EI, v.SK_ER))
    fields = ("isakmp.exchangetype", "isakmp.id.data.fqdn", "isakmp.delete.protoid", "isakmp.cfg.attr.unity.banner")
    rows = read(tmp_path, *fields, "_ws.expert.message")
    assert [row[0] for row in rows] == ["34", "34", "35", "35", "37", "37"]
    assert [row[1] for row in rows] == ["", "", "spoke.example", "hub.example", "", ""]
    assert [row[2] for row in rows] == ["", "", "", "", "1", ""]
    assert rows[3][3] == "welcome"
    assert [row[4] for row in rows] == [""] * 6


@pytest.mark.parametrize("form", KNOWN, ids=lambda form: f"{form.cipher.text}-{form.integrity.text}")
def test_rfc7296_3_14_every_ike_cipher_that_tshark_knows_is_opened(form: EspForm, tmp_path: Path) -> None:
    cipher, integrity = form.cipher, form.integrity
    ei, er = (os.urandom(cipher.key + cipher.salt) for _ in range(2))
    ai, ar = (os.urandom(integrity.key) for _ in range(2))
    delete = bytes.fromhex("0000000801000000")
    packets = []
    for initiator, encryption, mac in ((True, ei, ai), (False, er, ar)):
        empty = Encrypted(42, bytes(overhead(cipher, integrity, len(delete))))
        octets = encode(Message(b"\x11" * 8, b"\x22" * 8, 37, 2, initiator, not initiator, (empty,)))
        body = Sealer(cipher, integrity, encryption, mac, os.urandom).seal(octets[:32], delete)
        packets.append(ip(UDP, udp((500, 500), octets[:32] + body)))
    captured(tmp_path, packets, ike=(b"\x11" * 8, b"\x22" * 8, cipher, ei, er, integrity, ai, ar))
    assert read(tmp_path, "isakmp.delete.protoid", "_ws.expert.message") == [["1", ""]] * 2


def test_a_profile_is_also_taken_by_name(tmp_path: Path) -> None:
    """Copied into the folder of profiles, as `tshark -C NAME`."""
    sa = association(EspForm(Cipher.AES_GCM_256), 0x10)
    captured(tmp_path, [ip(ESP, sealed(sa))], sa)
    (tmp_path / "home/profiles").mkdir(parents=True)
    (tmp_path / "profile").rename(tmp_path / "home/profiles/lab")
    (tmp_path / "profile").symlink_to("home")
    assert read(tmp_path, "frame.protocols", options=("-C", "lab")) == [[f"eth:ethertype:ip:esp:{LAYERS}"]]


# --- a lab, end to end ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["memory", pytest.param("netns", marks=pytest.mark.root)])
def test_a_protected_lab_is_read_whole(backend: str, tmp_path: Path) -> None:
    """`labelspan lab ipsec --capture DIR`, rekeys and restarts included: no ESP packet stays shut, and no IKE message."""
    require_tool("tshark")
    if backend == "netns":
        require_root()
    assert run_lab("ipsec", backend=backend, capture=tmp_path) == 0
    frames = read(
        tmp_path,
        "frame.interface_name",
        "frame.protocols",
        "isakmp.exchangetype",
        "isakmp.enc.decrypted",
        "isakmp.typepayload",
    )
    seen = Counter(layers.removeprefix("eth:ethertype:") for _, layers, *_ in frames)
    assert seen[f"ip:esp:{LAYERS}"] > 3000
    assert seen["ip:esp:gre:mpls:ipv6:icmpv6:data"] > 20
    assert {
        layers for layers in seen if layers.startswith("ip:esp") and not layers.startswith("ip:esp:gre:mpls:ip")
    } == set()
    assert {link for link, layers, *_ in frames if ":esp" in layers} == {"pe1-core", "pe2-core", "pe3-core"}
    exchanges = Counter(exchange for _, _, exchange, *_ in frames if exchange)
    assert {"34", "35", "36", "37"} <= set(exchanges)  # IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL
    # Said outside of any IKE SA: IKE_SA_INIT, and a lone Notify INVALID_IKE_SPI (RFC 7296 1.5).
    shut = [(exchange, kinds) for _, _, exchange, opened, kinds in frames if exchange not in ("", "34") and not opened]
    assert set(shut) <= {("37", "41")}
