"""`labelspan pki ...`: a certification authority in a folder, for labs and small networks. Files, clock and randomness
are here; what a certificate says is in ikev2.pki.authority.

    DIR/ca.pem, ca.key      the root's certificate and key
    DIR/NAME.pem, NAME.key  of each certificate issued: it and the CAs between it and the root; its key
    DIR/ca.crl              the newest CRL of each CA in the folder
    DIR/index.json          what was issued, what was revoked
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from attrs import define, field

from ikev2.pki.authority import (
    Authority,
    KeyKind,
    Request,
    create_root,
    issue,
    key_pem,
    make_crl,
    make_key,
    make_serial,
    pem,
)
from ikev2.pki.certificate import (
    Crl,
    ParsedCertificate,
    key_text,
    parse_certificate,
    parse_crl,
    parse_private_key,
    pem_objects,
)
from ikev2.pki.errors import CertificateError
from ikev2.pki.names import parse_dn
from stack.entropy import OsEntropy
from stack.registry import Word

__all__ = ["WORDS"]

ROOT = "ca"
MAX_READ = 8 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WELL, _FAILED, _USAGE = 0, 1, 2


class _Fault(Exception):
    """What cannot be done, and why."""

    def __init__(self, text: str, code: int = _FAILED) -> None:
        super().__init__(text)
        self.code = code


# --- the folder
# -----------------------------------------------------------------------------------------------------------


@define
class _Index:
    """`issued`: serial, hexadecimal -> name, subject, issuer (a name of ours), ca. `revoked`: serial -> when. `number`:
    of the last CRL."""

    issued: dict[str, dict[str, Any]] = field(factory=dict)
    revoked: dict[str, float] = field(factory=dict)
    number: int = 0


@define
class _Folder:
    path: Path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Two commands in one folder go one after the other."""
        with (self.path / ".lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def file(self, name: str) -> Path:
        return self.path / name

    def read(self, name: str) -> bytes:
        return _read(self.file(name))

    def refuse_to_overwrite(self, *names: str) -> None:
        for name in names:
            if self.file(name).exists():
                raise _Fault(f"{self.file(name)} exists already; --force replaces it")

    def write(self, name: str, octets: bytes, mode: int = 0o644) -> None:
        """All of it or nothing; a key is never readable by others, not even for a moment."""
        with NamedTemporaryFile(dir=self.path, prefix=f".{name}.", delete=False) as new:
            try:
                os.fchmod(new.fileno(), mode)
                new.write(octets)
                new.flush()
                os.fsync(new.fileno())
                Path(new.name).replace(self.file(name))
            except BaseException:
                Path(new.name).unlink(missing_ok=True)
                raise

    def index(self) -> _Index:
        path = self.file("index.json")
        try:
            index = _Index(**json.loads(_read(path)))
            for serial in index.revoked:
                _ = int(serial, 16), index.issued[serial]
            for one in index.issued.values():
                _ = one["name"], one["subject"], one["issuer"], one["ca"]
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise _Fault(f"{path} cannot be read: {error!r}") from None
        return index

    def save(self, index: _Index) -> None:
        kept = {"issued": index.issued, "revoked": index.revoked, "number": index.number}
        self.write("index.json", json.dumps(kept, indent=2, sort_keys=True).encode() + b"\n")

    def authority(self, name: str) -> Authority:
        """A CA of this folder: the root, or one that it has issued."""
        try:
            chain = pem_objects(self.read(f"{name}.pem"), "CERTIFICATE")
            root = pem_objects(self.read(f"{ROOT}.pem"), "CERTIFICATE")
            key = parse_private_key(self.read(f"{name}.key"))
        except CertificateError as error:
            raise _Fault(f"{self.file(name)}.pem or .key: {error}") from None
        if not chain or not root:
            raise _Fault(f"there is no certificate in {self.file(name)}.pem or {self.file(ROOT)}.pem")
        if name != ROOT and not parse_certificate(chain[0]).ca:
            raise _Fault(f"{name} is no CA: it was issued without --ca", _USAGE)
        return Authority(key, chain if name == ROOT else (*chain, root[0]))

    def renew_crls(self, index: _Index, days: float) -> int:
        """One of each CA whose key is here; how many."""
        index.number += 1
        now = time.time()
        cas = [ROOT, *(one["name"] for one in index.issued.values() if one["ca"] and one["name"] != ROOT)]
        lists = []
        for name in dict.fromkeys(cas):
            if not self.file(f"{name}.key").exists():
                continue
            serials = {int(s, 16): when for s, when in index.revoked.items() if index.issued[s]["issuer"] == name}
            lists.append(pem(make_crl(self.authority(name), serials, index.number, now, days=days), "X509 CRL"))
        # Before the list itself: a number is never used twice.
        self.save(index)
        self.write(f"{ROOT}.crl", b"".join(lists))
        return len(lists)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_READ + 1)
    except OSError as error:
        raise _Fault(f"{path}: {error.strerror}") from None
    if len(octets) > MAX_READ:
        raise _Fault(f"{path}: more than {MAX_READ} octets")
    return octets


# --- what the words do
# ----------------------------------------------------------------------------------------------------


def _init(options: Namespace) -> None:
    folder = _Folder(options.dir)
    subject = parse_dn(options.subject)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _Fault(f"{folder.path}: {error.strerror}") from None
    with folder.lock():
        if not options.force:
            folder.refuse_to_overwrite(f"{ROOT}.pem", f"{ROOT}.key", f"{ROOT}.crl", "index.json")
        key, serial = make_key(KeyKind(options.key), OsEntropy), make_serial(OsEntropy)
        root = create_root(subject, key, serial, time.time(), days=options.days)
        cert = parse_certificate(root.chain[0])
        index = _Index({f"{serial:X}": _entry(ROOT, cert, ROOT)})
        folder.write(f"{ROOT}.key", key_pem(key), 0o600)
        folder.write(f"{ROOT}.pem", pem(root.chain[0], "CERTIFICATE"))
        folder.renew_crls(index, options.crl_days)
    print(f"{folder.file(ROOT)}.pem: {cert.subject}")
    print(f"fingerprint {cert.fingerprint('sha256').hex().upper()}")


def _entry(name: str, cert: ParsedCertificate, issuer: str) -> dict[str, Any]:
    return {"name": name, "subject": cert.subject, "issuer": issuer, "ca": cert.ca, "expires": cert.not_after}


def _issue(options: Namespace) -> None:
    folder, name = _Folder(options.dir), options.name
    if not _NAME.fullmatch(name) or name in {ROOT, "index"}:
        raise _Fault(f"{name!r} cannot name a certificate here: letters, digits, `.`, `_` and `-` can", _USAGE)
    request = Request(
        subject=parse_dn(options.subject),
        fqdns=tuple(options.fqdn),
        emails=tuple(options.email),
        addresses=tuple(_address(text) for text in options.ip),
        ca=options.ca,
        path_length=options.path_length,
        days=options.days,
    )
    _must_be_one(folder)
    with folder.lock():
        if not options.force:
            folder.refuse_to_overwrite(f"{name}.pem", f"{name}.key")
        index, authority = folder.index(), folder.authority(options.by)
        key, serial = make_key(KeyKind(options.key), OsEntropy), make_serial(OsEntropy)
        chain = issue(authority, key.public_key(), request, serial, time.time())
        cert = parse_certificate(chain[0])
        index.issued[f"{serial:X}"] = _entry(name, cert, options.by)
        # The index first: what it does not name could not be revoked.
        folder.save(index)
        folder.write(f"{name}.key", key_pem(key), 0o600)
        folder.write(f"{name}.pem", b"".join(pem(one, "CERTIFICATE") for one in chain))
        if options.ca:
            folder.renew_crls(index, options.crl_days)
    print(f"{folder.file(name)}.pem: {cert.subject}, serial {cert.serial:X}")
    if not options.ca:
        print("for its configuration:", *_trustpoint(folder, name), sep="\n")


def _trustpoint(folder: _Folder, name: str) -> Iterator[str]:
    yield f"crypto pki trustpoint {ROOT}"
    yield f" ca file {folder.file(ROOT)}.pem"
    yield f" crl file {folder.file(ROOT)}.crl"
    yield f" certificate file {folder.file(name)}.pem"
    yield f" key file {folder.file(name)}.key"


def _address(text: str) -> bytes:
    try:
        return ip_address(text).packed
    except ValueError:
        raise _Fault(f"--ip {text!r}: an IPv4 or IPv6 address expected", _USAGE) from None


def _must_be_one(folder: _Folder) -> None:
    if not folder.file("index.json").exists():
        raise _Fault(f"{folder.path} holds no authority: `labelspan pki init {folder.path} --subject ...` makes one")


def _revoke(options: Namespace) -> None:
    folder = _Folder(options.dir)
    _must_be_one(folder)
    with folder.lock():
        index = folder.index()
        found = _find(index, options.which)
        if not found:
            raise _Fault(f"{options.which!r} is neither a name nor a serial number that was issued in {folder.path}")
        fresh = [serial for serial in found if serial not in index.revoked]
        index.revoked.update(dict.fromkeys(fresh, time.time()))
        folder.renew_crls(index, options.crl_days)
    for serial in found:
        said = "revoked" if serial in fresh else "was revoked already"
        print(f"{index.issued[serial]['subject']}, serial {serial}: {said}")
    print(f"{folder.file(ROOT)}.crl is new: its readers must read it again")


def _find(index: _Index, which: str) -> list[str]:
    """Serials: all that were ever issued to a name, or one by itself."""
    named = [serial for serial, one in index.issued.items() if one["name"] == which and which != ROOT]
    if named:
        return named
    serial = which.upper().removeprefix("0X").replace(":", "").lstrip("0")
    return [serial] if serial in index.issued and index.issued[serial]["name"] != ROOT else []


def _crl(options: Namespace) -> None:
    folder = _Folder(options.dir)
    _must_be_one(folder)
    with folder.lock():
        index = folder.index()
        count = folder.renew_crls(index, options.crl_days)
    count_text = f"{count} CA{'s' * (count != 1)}, {len(index.revoked)} revoked"
    print(f"{folder.file(ROOT)}.crl: number {index.number}, {count_text}")


def _show(options: Namespace) -> None:
    for path in options.files:
        octets = _read(path)
        try:
            shown = [*_shown(octets, "CERTIFICATE", _certificate_lines), *_shown(octets, "X509 CRL", _crl_lines)]
        except CertificateError as error:
            raise _Fault(f"{path}: {error}") from None
        if not shown:
            try:
                shown = [f"  private key, {key_text(parse_private_key(octets))}"]
            except CertificateError:
                raise _Fault(f"{path}: neither a certificate, nor a CRL, nor a private key") from None
        print(f"{path}:", *shown, sep="\n")


def _shown(octets: bytes, kind: str, lines: Callable[[bytes], Iterator[str]]) -> list[str]:
    """Of DER, where the kind is not said, what can be read as that kind."""
    if b"-----BEGIN" in octets:
        return [line for one in pem_objects(octets, kind) for line in lines(one)]
    try:
        return list(lines(octets))
    except CertificateError:
        return []


def _certificate_lines(octets: bytes) -> Iterator[str]:
    cert = parse_certificate(octets)
    yield f"  certificate, serial {cert.serial:X}{', CA' * cert.ca}"
    yield f"    subject      {cert.subject}"
    yield f"    issuer       {cert.issuer}"
    names = [*cert.dns, *cert.email, *(str(ip_address(one)) for one in cert.addresses)]
    if names:
        yield f"    names        {_plain(', '.join(names))}"
    yield f"    valid        {_date(cert.not_before)} to {_date(cert.not_after)}"
    yield f"    key          {key_text(cert.key)}"
    for name, algorithm in (("SHA-1", "sha1"), ("SHA-256", "sha256")):
        yield f"    {name:<12} {cert.fingerprint(algorithm).hex().upper()}"


def _crl_lines(octets: bytes) -> Iterator[str]:
    crl: Crl = parse_crl(octets)
    yield f"  CRL, number {crl.number if crl.number is not None else 'unknown'}"
    yield f"    issuer       {crl.issuer}"
    until = _date(crl.next_update) if crl.next_update is not None else "nobody knows when"
    yield f"    valid        {_date(crl.this_update)} to {until}"
    yield f"    revoked      {len(crl.revoked)}"
    for serial in sorted(crl.revoked):
        yield f"      {serial:X}"


def _date(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(when))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _fingerprint(options: Namespace) -> None:
    try:
        found = [parse_certificate(one) for one in pem_objects(_read(options.file), "CERTIFICATE")]
    except CertificateError as error:
        raise _Fault(f"{options.file}: {error}") from None
    if not found:
        raise _Fault(f"{options.file}: there is no certificate in it")
    for cert in found:
        print(cert.subject)
        for name, algorithm in (("MD5", "md5"), ("SHA-1", "sha1"), ("SHA-256", "sha256")):
            print(f"  {name:<8} {cert.fingerprint(algorithm).hex().upper()}")


# --- the words themselves
# -------------------------------------------------------------------------------------------------


def _run(options: Namespace) -> int:
    try:
        options.pki(options)
    except _Fault as fault:
        print(f"labelspan: {fault}", file=sys.stderr)
        return fault.code
    except CertificateError as error:
        # What was asked for cannot be said in a certificate, or was no distinguished name.
        print(f"labelspan: {error}", file=sys.stderr)
        return _USAGE
    except OSError as error:
        print(f"labelspan: {error.filename or options.dir}: {error.strerror}", file=sys.stderr)
        return _FAILED
    return _WELL


def _add(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    _add_making(commands)
    revoke = _command(commands, "revoke", "a certificate is no longer to be believed; makes a new CRL", _revoke)
    revoke.add_argument("which", metavar="NAME|SERIAL")
    _add_crl_days(revoke)
    crl = _command(commands, "crl", "a new CRL, before the old one is out of date", _crl)
    _add_crl_days(crl)
    show = commands.add_parser("show", help="what certificates, CRLs and keys say")
    show.add_argument("files", nargs="+", type=Path, metavar="FILE")
    show.set_defaults(pki=_show)
    fingerprint = commands.add_parser("fingerprint", help="for the `fingerprint` line of a trust point")
    fingerprint.add_argument("file", type=Path, metavar="FILE")
    fingerprint.set_defaults(pki=_fingerprint)


def _add_making(commands: Any) -> None:
    init = _command(commands, "init", "a new certification authority in a folder", _init)
    init.add_argument("--subject", required=True, metavar="DN", help="e.g. cn=Lab CA,o=Cisco")
    make = _command(commands, "issue", "a certificate and its key", _issue)
    make.add_argument("name", metavar="NAME", help="of its files: NAME.pem, NAME.key")
    make.add_argument("--subject", required=True, metavar="DN", help="e.g. cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco")
    for option, what in (("--fqdn", "host name"), ("--email", "e-mail address"), ("--ip", "address")):
        make.add_argument(option, action="append", default=[], help=f"{what} that it is good for; may be repeated")
    make.add_argument("--ca", action="store_true", help="it may issue certificates in its turn")
    make.add_argument("--path-length", type=int, metavar="N", help="of --ca: how many CAs may be below it")
    make.add_argument("--by", default=ROOT, metavar="NAME", help="the CA that issues it (default: the root)")
    for parser, days in ((init, 3650), (make, 365)):
        parser.add_argument("--key", choices=[kind.value for kind in KeyKind], default=KeyKind.EC256.value)
        parser.add_argument("--days", type=float, default=days, metavar="N", help=f"how long it is valid ({days})")
        parser.add_argument("--force", action="store_true", help="replace what is there")
        _add_crl_days(parser)


def _add_crl_days(parser: ArgumentParser) -> None:
    parser.add_argument("--crl-days", type=float, default=30, metavar="N", help="how long the CRL counts (30)")


def _command(commands: Any, name: str, text: str, run: Callable[[Namespace], None]) -> ArgumentParser:
    parser: ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.set_defaults(pki=run)
    return parser


WORDS = (Word("pki", "certificates: a small certification authority, and what files say", _add, _run),)
