"""Whom we trust to say who somebody is: anchors, CRLs, and a bounded memory of chains that held."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from attrs import define, field, frozen

from ikev2.pki.certificate import Crl, ParsedCertificate, parse_certificate
from ikev2.pki.chain import (
    Anchor,
    Path,
    check_leaf,
    check_revocation,
    check_validity,
    crl_signed_by,
    find_path,
    signed_by,
)
from ikev2.pki.errors import CertificateError

__all__ = ["MAX_CACHED", "MAX_PEER_CERTIFICATES", "Anchor", "PeerCertificate", "TrustStore"]

MAX_PEER_CERTIFICATES = 16
"""CERT payloads that are looked at; a peer that sends more is refused."""
MAX_CACHED = 256
"""Chains, certificates and signatures of CAs remembered, of each. What is used longest ago is forgotten first."""

_Value = TypeVar("_Value")


@frozen
class PeerCertificate:
    """A certificate that was verified, and why: `above`: what is over it, the anchor last; `trustpoint`: the anchor's.
    `expires`: when the first of them does, seconds since 1970."""

    certificate: ParsedCertificate
    above: tuple[ParsedCertificate, ...] = field(repr=False)
    trustpoint: str
    expires: float

    @property
    def octets(self) -> bytes:
        """DER."""
        return self.certificate.octets

    @property
    def subject(self) -> str:
        """In IOS's text."""
        return self.certificate.subject


@define
class TrustStore:
    """`intermediates`: CAs that are known but not trusted, for peers that do not send theirs. `crls`: of any issuer;
    which counts is found out by its signature. `sha1`: signatures with SHA-1 are taken."""

    anchors: tuple[Anchor, ...] = ()
    intermediates: tuple[ParsedCertificate, ...] = ()
    crls: tuple[Crl, ...] = field(default=(), repr=False)
    sha1: bool = False
    _certificates: OrderedDict[bytes, ParsedCertificate] = field(factory=OrderedDict, init=False, repr=False, eq=False)
    _paths: OrderedDict[bytes, Path] = field(factory=OrderedDict, init=False, repr=False, eq=False)
    _signed: OrderedDict[tuple[bytes, bytes], bool] = field(factory=OrderedDict, init=False, repr=False, eq=False)

    @property
    def cached(self) -> tuple[int, int, int]:
        """How much is remembered: certificates, chains, signatures of CAs. Each at most MAX_CACHED."""
        return len(self._certificates), len(self._paths), len(self._signed)

    def parse(self, octets: bytes) -> ParsedCertificate:
        """From DER, not yet verified. Raises CertificateError."""
        digest = hashlib.sha256(octets).digest()
        return _remember(self._certificates, digest, lambda: parse_certificate(octets))

    def verify(self, certificates: tuple[bytes, ...], when: float) -> PeerCertificate:
        """`certificates`: DER, the peer's own first; the others in any order. `when`: seconds since 1970. Raises
        CertificateError."""
        if not certificates:
            raise CertificateError("the peer has sent no certificate")
        if len(certificates) > MAX_PEER_CERTIFICATES:
            raise CertificateError(f"{len(certificates)} certificates, {MAX_PEER_CERTIFICATES} at most")
        path = self._path(certificates, when)
        leaf, *above = path.whole
        return PeerCertificate(leaf, tuple(above), path.anchor.trustpoint, path.expires)

    def _path(self, certificates: tuple[bytes, ...], when: float) -> Path:
        leaf = self.parse(certificates[0])
        check_leaf(leaf, when)
        key = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in certificates)).digest()
        known = self._paths.get(key)
        if known is not None:
            try:
                check_validity(known, when)
                self._accept(known, when)
            except CertificateError:
                # Another path may hold where this one no longer does.
                del self._paths[key]
            else:
                self._paths.move_to_end(key)
                return known
        others = (*self._others(certificates[1:]), *self.intermediates)
        found = find_path(
            leaf,
            others,
            self.anchors,
            when,
            sha1=self.sha1,
            accept=lambda path: self._accept(path, when),
            signed=self._cert_signed,
        )
        return _remember(self._paths, key, lambda: found)

    def _others(self, certificates: tuple[bytes, ...]) -> list[ParsedCertificate]:
        """Those that can be read: a peer may send what we need not understand."""
        found: dict[bytes, ParsedCertificate] = {}
        for octets in certificates:
            try:
                one = self.parse(octets)
            except CertificateError:
                continue
            found[one.digest] = one
        return list(found.values())

    def _accept(self, path: Path, when: float) -> None:
        check_revocation(path, self.crls, when, self._crl_signed)

    def _cert_signed(self, one: ParsedCertificate, issuer: ParsedCertificate) -> bool:
        """Of CAs it is remembered: those between a thousand peers and an anchor are always the same few."""
        if not one.ca:
            return signed_by(one, issuer)
        return _remember(self._signed, (one.digest, issuer.digest), lambda: signed_by(one, issuer))

    def _crl_signed(self, crl: Crl, issuer: ParsedCertificate) -> bool:
        key = (crl.digest, issuer.digest)
        return _remember(self._signed, key, lambda: crl_signed_by(crl, issuer, sha1=self.sha1))

    def requests(self) -> bytes:
        """Of every anchor the SHA-1 of its SubjectPublicKeyInfo, 20 octets each, without repetition (RFC 7296 3.7)."""
        return b"".join(dict.fromkeys(one.certificate.key_hash for one in self.anchors))


_Key = TypeVar("_Key")


def _remember(memory: OrderedDict[_Key, _Value], key: _Key, make: Callable[[], _Value]) -> _Value:
    value = memory.get(key)
    if value is None:
        value = memory[key] = make()
        if len(memory) > MAX_CACHED:
            memory.popitem(last=False)
    else:
        memory.move_to_end(key)
    return value
