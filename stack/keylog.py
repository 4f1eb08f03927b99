"""Keys in files, for Wireshark: written only where an operator asks for it by name (`run --key-log`, `lab --capture`).

`FileKeyLog` keeps a folder that is a Wireshark configuration as it stands:

    WIRESHARK_CONFIG_DIR=FOLDER tshark -r lab.pcapng

The rows are those of Wireshark's tables `esp_sa` and `ikev2_decryption_table`, in the form that 4.0 reads. Whoever reads them
reads all traffic of these SAs, past and present: folder and files are their owner's alone, and nothing is written where others
could look. A node without a key log hands its keys to nobody.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from attrs import define, field

from stack.esp import Cipher, Integrity
from stack.tables.sad import Sa

__all__ = ["ESP_TABLE", "IKE_TABLE", "MAX_OCTETS", "PREFERENCES", "FileKeyLog", "KeyLog", "KeyLogError"]

ESP_TABLE, IKE_TABLE, PREFERENCES = "esp_sa", "ikev2_decryption_table", "preferences"

MAX_OCTETS = 16 << 20
"""Of each table; what would make it larger is left out and counted (`FileKeyLog.left_out`)."""

_PREFERENCES = """\
# Keys of labelspan, as a Wireshark configuration. Use this folder: WIRESHARK_CONFIG_DIR=FOLDER tshark -r lab.pcapng
# or copy it into the folder of your profiles (About Wireshark, Folders) and choose it: tshark -C NAME -r lab.pcapng
esp.enable_encryption_decode: TRUE
# Wireshark 4.0 knows no extended sequence numbers (RFC 4304) and would call the ICV of every such packet wrong.
esp.enable_authentication_check: FALSE
# The same packet crosses several links of a lab.
esp.do_esp_sequence_analysis: FALSE
"""
_ESP_HEADER = (
    "# protocol, source, destination, SPI, encryption, key with salt, integrity, key\n"
    '# Versions after 4.0 take "64-bit","0" after that for extended sequence numbers, and know ChaCha20 (here a comment).\n'
)
_IKE_HEADER = "# SPI of the initiator, of the responder, SK_ei, SK_er, encryption, SK_ai, SK_ar, integrity\n"

# The names of Wireshark 4.0, whole: a row with any other is not read.
_ESP_CIPHERS: Mapping[Cipher, str] = {
    Cipher.AES_GCM_128: "AES-GCM with 16 octet ICV [RFC4106]",
    Cipher.AES_GCM_256: "AES-GCM with 16 octet ICV [RFC4106]",
    Cipher.AES_CBC_128: "AES-CBC [RFC3602]",
    Cipher.AES_CBC_192: "AES-CBC [RFC3602]",
    Cipher.AES_CBC_256: "AES-CBC [RFC3602]",
    Cipher.CHACHA20_POLY1305: "ChaCha20 with Poly1305 [RFC7634]",
}
_ESP_INTEGRITY: Mapping[Integrity, str] = {
    Integrity.NONE: "NULL",
    Integrity.HMAC_SHA1_96: "HMAC-SHA-1-96 [RFC2404]",
    Integrity.HMAC_SHA2_256_128: "HMAC-SHA-256-128 [RFC4868]",
    Integrity.HMAC_SHA2_384_192: "HMAC-SHA-384-192 [RFC4868]",
    Integrity.HMAC_SHA2_512_256: "HMAC-SHA-512-256 [RFC4868]",
}
_IKE_CIPHERS: Mapping[Cipher, str] = {
    Cipher.AES_GCM_128: "AES-GCM-128 with 16 octet ICV [RFC5282]",
    Cipher.AES_GCM_256: "AES-GCM-256 with 16 octet ICV [RFC5282]",
    Cipher.AES_CBC_128: "AES-CBC-128 [RFC3602]",
    Cipher.AES_CBC_192: "AES-CBC-192 [RFC3602]",
    Cipher.AES_CBC_256: "AES-CBC-256 [RFC3602]",
    Cipher.CHACHA20_POLY1305: "ChaCha20 with Poly1305 [RFC7634]",
}
_IKE_INTEGRITY: Mapping[Integrity, str] = {
    Integrity.NONE: "NONE [RFC4306]",
    Integrity.HMAC_SHA1_96: "HMAC_SHA1_96 [RFC2404]",
    Integrity.HMAC_SHA2_256_128: "HMAC_SHA2_256_128 [RFC4868]",
    Integrity.HMAC_SHA2_384_192: "HMAC_SHA2_384_192 [RFC4868]",
    Integrity.HMAC_SHA2_512_256: "HMAC_SHA2_512_256 [RFC4868]",
}
_UNNAMED = frozenset({Cipher.CHACHA20_POLY1305})


class KeyLogError(OSError):
    """A folder that keys must not be written to; the message says why."""


class KeyLog(Protocol):
    """Who is told of keys. Neither call raises or waits."""

    def esp(self, sa: Sa) -> None:
        """Of one direction of a CHILD_SA, when it is written to the SAD."""

    def ike(
        self,
        initiator_spi: bytes,
        responder_spi: bytes,
        cipher: Cipher,
        sk_ei: bytes,
        sk_er: bytes,
        integrity: Integrity = Integrity.NONE,
        sk_ai: bytes = b"",
        sk_ar: bytes = b"",
    ) -> None:
        """Of an IKE SA, when it has keys. SPIs are eight octets each; `sk_ei` and `sk_er` of an AEAD end with their salt
        (RFC 5282 7.1)."""


@define(eq=False)
class FileKeyLog:
    """Rows appended to the tables in `folder`, which is made (0700) if it is not there; several processes may share it.

    `fresh`: the tables begin anew. `trouble` is told once why rows are missing. Raises KeyLogError for a folder or a table
    that others may read or write, that is not ours or that is a link, OSError for what cannot be made.
    """

    folder: Path
    fresh: bool = False
    trouble: Callable[[str], None] = field(default=lambda _why: None, repr=False)
    left_out: int = field(default=0, init=False)
    """Rows that could not be written."""
    _files: dict[str, int] = field(factory=dict, init=False, repr=False)
    _written: set[int] = field(factory=set, init=False, repr=False)
    """Hashes of the rows that are there, to write none twice: an SA that moves is told of again."""

    def __attrs_post_init__(self) -> None:
        folder = _own_folder(self.folder)
        try:
            if self.fresh:
                for name in (ESP_TABLE, IKE_TABLE, PREFERENCES):
                    _remove(name, folder)
            for name, header in ((PREFERENCES, _PREFERENCES), (ESP_TABLE, _ESP_HEADER), (IKE_TABLE, _IKE_HEADER)):
                self._files[name] = _own_file(self.folder / name, folder)
                if os.fstat(self._files[name]).st_size == 0:
                    os.write(self._files[name], header.encode())
        except BaseException:
            self.close()
            raise
        finally:
            os.close(folder)

    def esp(self, sa: Sa) -> None:
        cipher, integrity = sa.form.cipher, sa.form.integrity
        # Any addresses: behind a NAT those on the wire are not those of the SA, and the SPI says which it is.
        family = "IPv4" if len(sa.local) == 4 else "IPv6"
        key = f"0x{(sa.encryption + sa.salt).hex()}"
        mac = f"0x{sa.integrity.hex()}" if integrity is not Integrity.NONE else ""
        words = (family, "*", "*", f"0x{sa.spi:08x}", _ESP_CIPHERS[cipher], key, _ESP_INTEGRITY[integrity], mac)
        self._append(ESP_TABLE, cipher, ",".join(f'"{word}"' for word in words))

    def ike(
        self,
        initiator_spi: bytes,
        responder_spi: bytes,
        cipher: Cipher,
        sk_ei: bytes,
        sk_er: bytes,
        integrity: Integrity = Integrity.NONE,
        sk_ai: bytes = b"",
        sk_ar: bytes = b"",
    ) -> None:
        words = [octets.hex() for octets in (initiator_spi, responder_spi, sk_ei, sk_er)]
        words += [f'"{_IKE_CIPHERS[cipher]}"', sk_ai.hex(), sk_ar.hex(), f'"{_IKE_INTEGRITY[integrity]}"']
        self._append(IKE_TABLE, cipher, ",".join(words))

    def close(self) -> None:
        """What comes later is left out. Twice is allowed."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _append(self, table: str, cipher: Cipher, row: str) -> None:
        if hash(row) in self._written:
            return
        line = f"{'# ' if cipher in _UNNAMED else ''}{row}\n".encode()
        try:
            why = self._wrote(table, line)
        except OSError as error:
            why = error.strerror or type(error).__name__
        if not why:
            self._written.add(hash(row))
            return
        self.left_out += 1
        if self.left_out == 1:
            self.trouble(why)

    def _wrote(self, table: str, line: bytes) -> str:
        """Why not, or nothing. One write a row: those of several processes do not mix. Raises OSError."""
        file = self._files.get(table)
        if file is None:
            return "the key log is closed"
        if os.fstat(file).st_size + len(line) > MAX_OCTETS:
            return f"{table} is full ({MAX_OCTETS} octets)"
        return "" if os.write(file, line) == len(line) else "no space left"


def _own_folder(path: Path) -> int:
    """The folder, open. Raises KeyLogError, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:  # what O_NOFOLLOW says of a link, too
        raise KeyLogError(f"{path} is no folder, or a link to one: no keys are written there") from None
    try:
        _check_own(path, os.fstat(folder))
    except BaseException:
        os.close(folder)
        raise
    return folder


def _own_file(path: Path, folder: int) -> int:
    """A file in `folder`, open to append. Raises KeyLogError, OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(path.name, flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise KeyLogError(f"{path}: {error.strerror}: no keys are written there") from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise KeyLogError(f"{path} is no plain file of one name: no keys are written there")
        _check_own(path, found)
    except BaseException:
        os.close(file)
        raise
    return file


def _check_own(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise KeyLogError(f"{path} is not ours (owner {found.st_uid}): no keys are written there")
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        wanted = f"{stat.S_IMODE(found.st_mode) & ~mode:o}"
        raise KeyLogError(
            f"others may use {path} (mode {stat.S_IMODE(found.st_mode):o}): no keys are written there; "
            f"mend it with: chmod {wanted} {path}"
        )


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
