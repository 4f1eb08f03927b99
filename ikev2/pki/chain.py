"""From a peer's certificate up to one that we trust (RFC 5280 6.1), within limits.

The path is sought by names and proved by signatures; what an issuer may not do is looked at before its signature costs
anything. Nothing is fetched from anywhere: who sends a certificate sends what is between it and the anchor (RFC 7296
3.6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from attrs import define, field, frozen
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import SignatureAlgorithmOID

from ikev2.pki.certificate import Crl, ParsedCertificate, PublicKey
from ikev2.pki.constraints import check_constraints
from ikev2.pki.errors import CertificateError, RevokedError

__all__ = [
    "MAX_DEPTH",
    "MAX_VERIFICATIONS",
    "Anchor",
    "Path",
    "check_anchor",
    "check_leaf",
    "check_revocation",
    "check_validity",
    "crl_signed_by",
    "find_path",
    "signed_by",
]

MAX_DEPTH = 8
"""Certificates of a path, the peer's own and the anchor counted."""
MAX_VERIFICATIONS = 32
"""Signatures that are verified for one chain: a peer that sends many issuers of one name cannot make the search branch
on."""
_STRONG = frozenset({"", "sha224", "sha256", "sha384", "sha512", "sha3-224", "sha3-256", "sha3-384", "sha3-512"})


@frozen
class Anchor:
    """A CA that we trust, by which trust point, and how its certificates are checked for revocation: in order, `crl`
    and `none`."""

    certificate: ParsedCertificate
    trustpoint: str = ""
    revocation: tuple[str, ...] = ("crl",)


@frozen
class Path:
    """`certificates`: the peer's own, then its issuer, ...; the last one is issued by `anchor`, which is not among
    them."""

    certificates: tuple[ParsedCertificate, ...]
    anchor: Anchor

    @property
    def whole(self) -> tuple[ParsedCertificate, ...]:
        return (*self.certificates, self.anchor.certificate)

    @property
    def expires(self) -> float:
        """When the first of them does, seconds since 1970."""
        return min(one.not_after for one in self.whole)


def check_anchor(certificate: ParsedCertificate) -> None:
    """Whether a CA certificate of ours can be an anchor. Raises CertificateError."""
    if fault := _unfit(certificate):
        raise CertificateError(fault)


def check_validity(path: Path, when: float) -> None:
    """Raises CertificateError. The anchor's own validity counts too."""
    for one in path.whole:
        if fault := _out_of_time(one, when):
            raise CertificateError(fault)


def _out_of_time(one: ParsedCertificate, when: float) -> str:
    if when < one.not_before:
        return f"the certificate {one.subject} is not yet valid"
    if when > one.not_after:
        return f"the certificate {one.subject} has expired"
    return ""


def _unfit(issuer: ParsedCertificate) -> str:
    """Why it may not issue certificates."""
    if not issuer.ca:
        return f"{issuer.subject} is no CA (basicConstraints)"  # 4.2.1.9: MUST NOT be used to verify signatures on certificates
    if not issuer.certifies:
        return f"{issuer.subject} may not sign certificates (keyUsage)"
    if issuer.unknown:
        return f"{issuer.subject} has a critical extension that is not known: {issuer.unknown[0]}"  # 4.2: MUST reject
    return ""


def _weak(signed: ParsedCertificate | Crl, *, sha1: bool) -> bool:
    return not (signed.signature_hash in _STRONG or (sha1 and signed.signature_hash == "sha1"))


def check_leaf(leaf: ParsedCertificate, when: float) -> None:
    """What a peer's own certificate must be, whoever issued it. Raises CertificateError."""
    fault = _out_of_time(leaf, when)
    if not fault and leaf.unknown:
        fault = f"{leaf.subject} has a critical extension that is not known: {leaf.unknown[0]}"
    if not fault and not leaf.signs:
        # RFC 4945 5.1.3.2: with a keyUsage, digitalSignature or nonRepudiation must be in it.
        fault = f"{leaf.subject} may not sign (keyUsage)"
    if not fault and not leaf.purpose:
        fault = f"{leaf.subject} is not for IKE (extendedKeyUsage)"
    if fault:
        raise CertificateError(fault)


@define
class _Search:
    others: Sequence[ParsedCertificate]
    anchors: Sequence[Anchor]
    when: float
    sha1: bool
    accept: Callable[[Path], None]
    signed: Callable[[ParsedCertificate, ParsedCertificate], bool]
    left: int = MAX_VERIFICATIONS
    faults: list[str] = field(factory=list)

    def climb(self, below: tuple[ParsedCertificate, ...]) -> Path | None:
        """A path that begins with `below`, whose last one still wants an issuer."""
        last = below[-1]
        if _weak(last, sha1=self.sha1):
            self.faults.append(f"the certificate {last.subject} is signed with {last.signature_hash}")
            return None
        for anchor in self.anchors:
            if anchor.certificate.digest == last.digest:
                continue
            if anchor.certificate.subject_keys == last.issuer_keys and self._issued(below, anchor.certificate):
                path = Path(below, anchor)
                try:
                    check_constraints(path.whole)
                    self.accept(path)
                except RevokedError:
                    raise
                except CertificateError as error:
                    self.faults.append(error.reason)
                    continue
                return path
        if len(below) + 2 > MAX_DEPTH:
            self.faults.append(f"more than {MAX_DEPTH} certificates, one above the other")
            return None
        for issuer in self.others:
            if issuer.subject_keys != last.issuer_keys or any(issuer.digest == one.digest for one in below):
                continue
            if self._issued(below, issuer) and (found := self.climb((*below, issuer))):
                return found
        return None

    def _issued(self, below: tuple[ParsedCertificate, ...], issuer: ParsedCertificate) -> bool:
        """Whether `issuer` may have issued the last of `below`, and has."""
        fault = _unfit(issuer) or _out_of_time(issuer, self.when)
        # 4.2.1.9: how many that are not self-issued may stand between the issuer and the peer's own certificate.
        between = sum(1 for one in below[1:] if not one.self_issued)
        if not fault and issuer.path_length is not None and between > issuer.path_length:
            fault = f"{issuer.subject} allows {issuer.path_length} CAs below it, and there are {between}"
        if not fault and self.left <= 0:
            fault = f"more than {MAX_VERIFICATIONS} signatures to verify"
        if not fault:
            self.left -= 1
            if not self.signed(below[-1], issuer):
                fault = f"the signature of {below[-1].subject} is not by {issuer.subject}"
        if fault:
            self.faults.append(fault)
        return not fault


def signed_by(certificate: ParsedCertificate, issuer: ParsedCertificate) -> bool:
    cert = certificate.cert
    try:
        if certificate.signature_hash == "sha1":
            _verify_sha1(issuer.key, cert.signature_algorithm_oid, cert.signature, cert.tbs_certificate_bytes)
        else:
            cert.verify_directly_issued_by(issuer.cert)
    except (
        Exception
    ):  # InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm: not verified, whatever the reason
        return False
    return True


def _verify_sha1(key: PublicKey, algorithm: ObjectIdentifier, signature: bytes, octets: bytes) -> None:
    """Only what old peers have: RSA with PKCS #1 v1.5. The library itself no longer verifies a certificate by SHA-1."""
    if not isinstance(key, RSAPublicKey) or algorithm != SignatureAlgorithmOID.RSA_WITH_SHA1:
        raise TypeError
    key.verify(signature, octets, PKCS1v15(), SHA1())  # noqa: S303  (reached only under the switch for old peers)


def find_path(
    leaf: ParsedCertificate,
    others: Iterable[ParsedCertificate],
    anchors: Sequence[Anchor],
    when: float,
    *,
    sha1: bool = False,
    accept: Callable[[Path], None] = lambda _path: None,
    signed: Callable[[ParsedCertificate, ParsedCertificate], bool] = signed_by,
) -> Path:
    """A path from `leaf` to an anchor, valid at `when`. `others`: what may stand between. `accept` may refuse a path by
    CertificateError, and another is sought; RevokedError ends the search. Raises CertificateError."""
    check_leaf(leaf, when)
    search = _Search(tuple(others), anchors, when, sha1, accept, signed)
    if found := search.climb((leaf,)):
        return found
    if search.faults:
        raise CertificateError(search.faults[-1])
    raise CertificateError(f"nobody that is trusted has issued {leaf.subject} (its issuer: {leaf.issuer})")


def check_revocation(
    path: Path, crls: Sequence[Crl], when: float, signed: Callable[[Crl, ParsedCertificate], bool]
) -> None:
    """By the anchor's list of methods, every certificate below the anchor. `signed(crl, issuer)`: see `crl_signed_by`.
    Raises RevokedError, or CertificateError when no method can tell."""
    whole = path.whole
    for one, issuer in pairwise(whole):
        for method in path.anchor.revocation:
            if method == "none" or (method == "crl" and _listed_good(one, issuer, crls, when, signed)):
                break
        else:
            raise CertificateError(f"no valid CRL of {one.issuer} to look {one.subject} up in")


def _listed_good(
    one: ParsedCertificate,
    issuer: ParsedCertificate,
    crls: Sequence[Crl],
    when: float,
    signed: Callable[[Crl, ParsedCertificate], bool],
) -> bool:
    """Whether a CRL in force says nothing against it. Raises RevokedError."""
    ours = [
        crl
        for crl in crls
        if crl.issuer_keys == issuer.subject_keys
        and not crl.unknown
        and crl.this_update <= when
        and signed(crl, issuer)
    ]
    if not ours:
        return False
    newest = max(ours, key=lambda crl: (crl.this_update, crl.number or 0))
    if one.serial in newest.revoked:
        # Also when the list is out of date: then it no longer says who is good, but who was revoked has not become good
        # since.
        raise RevokedError(f"the certificate {one.subject}, serial {one.serial:X}, is revoked")
    # 5.1.2.5: nextUpdate MUST be in a CRL; one without it would count for ever.
    return newest.next_update is not None and when <= newest.next_update


def crl_signed_by(crl: Crl, issuer: ParsedCertificate, *, sha1: bool = False) -> bool:
    if not issuer.lists or _weak(crl, sha1=sha1):
        return False
    listed = crl.crl
    try:
        if crl.signature_hash == "sha1":
            _verify_sha1(issuer.key, listed.signature_algorithm_oid, listed.signature, listed.tbs_certlist_bytes)
            return True
        return listed.is_signature_valid(issuer.key)
    except Exception:  # as with certificates
        return False
