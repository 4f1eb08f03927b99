"""A configured trust point, loaded. Files are read by whoever calls: `read(path)` gives octets or raises OSError."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from attrs import field, frozen

from ikev2.config import AuthMethod, CertificateChain, Trustpoint
from ikev2.pki.certificate import (
    Crl,
    ParsedCertificate,
    PrivateKey,
    parse_certificate,
    parse_crl,
    parse_private_key,
    pem_objects,
    public_octets,
)
from ikev2.pki.chain import Anchor, check_anchor
from ikev2.pki.credentials import SignatureCredential
from ikev2.pki.errors import CertificateError, FingerprintError, TrustpointError
from ikev2.pki.store import TrustStore

__all__ = ["MAX_FILE", "Material", "TrustpointError", "load_trustpoint", "trust_store"]

MAX_FILE = 8 * 1024 * 1024
"""Octets of a file that is taken (a CRL in PEM is the largest)."""
_FINGERPRINTS = {32: "md5", 40: "sha1", 64: "sha256"}
"""Hash by hexadecimal digits."""


@frozen
class Material:
    """What a trust point has. `own`: our chain, our own certificate first (empty: none). `intermediates`: CAs that are
    known but not trusted."""

    name: str
    anchors: tuple[Anchor, ...] = ()
    own: tuple[ParsedCertificate, ...] = ()
    key: PrivateKey | None = field(default=None, repr=False)
    crls: tuple[Crl, ...] = field(default=(), repr=False)
    intermediates: tuple[ParsedCertificate, ...] = ()

    def credential(self, method: AuthMethod = AuthMethod.SIGNATURE) -> SignatureCredential:
        """Raises TrustpointError if there is no certificate of ours, or no key to it."""
        if not self.own:
            raise TrustpointError(self.name, "", "it has no certificate of ours", "give it a certificate file")
        if self.key is None:
            raise TrustpointError(self.name, "", "there is no private key to its certificate", "give it a key file")
        return SignatureCredential(self.key, tuple(one.octets for one in self.own), method)


def trust_store(materials: Iterable[Material], *, sha1: bool = False) -> TrustStore:
    """One store of several trust points: a peer may prove itself to any."""
    found = tuple(materials)
    return TrustStore(
        anchors=tuple(anchor for one in found for anchor in one.anchors),
        intermediates=tuple(
            dict.fromkeys(cert for one in found for cert in (*one.intermediates, *one.own[1:])),
        ),
        crls=tuple(crl for one in found for crl in one.crls),
        sha1=sha1,
    )


def load_trustpoint(config: Trustpoint, chain: CertificateChain | None, read: Callable[[str], bytes]) -> Material:
    """`chain`: of `crypto pki certificate chain`, used where no file is named. Raises TrustpointError, and nothing
    else."""
    loader = _Loader(config, read)
    own, cas = loader.certificates(config.certificate_file), loader.certificates(config.ca_file)
    pasted = loader.pasted(chain) if chain is not None else ((), ())
    own, cas = own or pasted[0], cas or pasted[1]
    key = loader.key(config.key_file)
    if own and key is not None and public_octets(key.public_key()) != public_octets(own[0].key):
        raise loader.fault(
            config.key_file, "the private key does not belong to the certificate", "give the key of its request"
        )
    anchors, others = loader.anchors(cas)
    return Material(
        name=config.name,
        anchors=tuple(Anchor(one, config.name, config.revocation) for one in anchors),
        own=own,
        key=key,
        crls=loader.crls(config.crl_file),
        intermediates=others,
    )


@frozen
class _Loader:
    config: Trustpoint
    read: Callable[[str], bytes]

    def fault(self, file: str, reason: str, advice: str = "") -> TrustpointError:
        return TrustpointError(self.config.name, file, reason, advice)

    def octets(self, file: str) -> bytes:
        try:
            octets = self.read(file)
        except OSError as error:
            raise self.fault(file, error.strerror or "it cannot be read", "name a file that can be read") from None
        if len(octets) > MAX_FILE:
            raise self.fault(file, f"{len(octets)} octets, {MAX_FILE} at most")
        return octets

    def certificates(self, file: str) -> tuple[ParsedCertificate, ...]:
        """Of a file, in its order; none if no file is named."""
        if not file:
            return ()
        try:
            found = tuple(parse_certificate(one) for one in pem_objects(self.octets(file), "CERTIFICATE"))
        except CertificateError as error:
            raise self.fault(file, error.reason, "PEM or DER of X.509 certificates is expected") from None
        if not found:
            raise self.fault(file, "there is no certificate in it", "PEM or DER of X.509 certificates is expected")
        return found

    def pasted(self, chain: CertificateChain) -> tuple[tuple[ParsedCertificate, ...], tuple[ParsedCertificate, ...]]:
        """Ours and the CAs' of the configuration's hex; what is only named has no data and means nothing."""
        own: list[ParsedCertificate] = []
        cas: list[ParsedCertificate] = []
        for (kind, serial), octets in chain.certificates.items():
            if not octets:
                continue
            words = f"certificate {kind} {serial}".replace("  ", " ")
            try:
                one = parse_certificate(octets)
            except CertificateError as error:
                raise self.fault(words, error.reason, "paste its hex again, from its first to its last line") from None
            (cas if kind == "ca" else own).append(one)
        return tuple(own), tuple(cas)

    def key(self, file: str) -> PrivateKey | None:
        if not file:
            return None
        try:
            return parse_private_key(self.octets(file))
        except CertificateError as error:
            raise self.fault(file, error.reason, "PEM of an unencrypted private key is expected") from None

    def crls(self, file: str) -> tuple[Crl, ...]:
        if not file:
            return ()
        try:
            found = tuple(parse_crl(one) for one in pem_objects(self.octets(file), "X509 CRL"))
        except CertificateError as error:
            raise self.fault(file, error.reason, "PEM or DER of CRLs is expected") from None
        if not found:
            raise self.fault(file, "there is no CRL in it", "PEM or DER of CRLs is expected")
        return found

    def anchors(
        self, cas: tuple[ParsedCertificate, ...]
    ) -> tuple[tuple[ParsedCertificate, ...], tuple[ParsedCertificate, ...]]:
        """Those that are trusted, and those that only may stand between: with a fingerprint all but the one that has
        it."""
        where = self.config.ca_file or "certificate ca"
        for one in cas:
            try:
                check_anchor(one)
            except CertificateError as error:
                raise self.fault(where, error.reason, "only certificates of CAs can be trusted") from None
        digits = re.sub(r"[\s:.]", "", self.config.fingerprint).lower()
        if not digits or not cas:
            return cas, ()
        algorithm = _FINGERPRINTS.get(len(digits))
        if algorithm is None or not re.fullmatch("[0-9a-f]+", digits):
            raise self.fault("", "its fingerprint is none of MD5, SHA-1 or SHA-256", "32, 40 or 64 hexadecimal digits")
        wanted = bytes.fromhex(digits)
        trusted = tuple(one for one in cas if one.fingerprint(algorithm) == wanted)
        if not trusted:
            has = cas[0].fingerprint(algorithm).hex().upper()
            reason = f"the CA certificate {cas[0].subject} has not the fingerprint that is configured"
            advice = f"its own is {has}: configure that only if you know that it is true"
            raise FingerprintError(self.config.name, where, reason, advice)
        return trusted, tuple(one for one in cas if one not in trusted)
