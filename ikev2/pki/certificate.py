"""Certificates, CRLs and keys as we take them: read once, within limits, every oddity a `CertificateError`.

The library reads extensions when they are first looked at and raises many kinds of errors; here all is looked at while
reading, so that nothing later can raise.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtensionOID

from ikev2.pki.errors import CertificateError
from ikev2.pki.names import Rdn, dn_text, quietly, rdn_keys, values_of

__all__ = [
    "CURVES",
    "MAX_ALTERNATIVE_NAMES",
    "MAX_CERTIFICATE",
    "MAX_CRL",
    "MAX_PEM_OBJECTS",
    "MAX_RSA",
    "MAX_SUBTREES",
    "MIN_RSA",
    "Constraints",
    "Crl",
    "ParsedCertificate",
    "PrivateKey",
    "PublicKey",
    "Subtrees",
    "key_text",
    "parse_certificate",
    "parse_crl",
    "parse_private_key",
    "pem_objects",
    "public_octets",
]

MAX_CERTIFICATE = 16 * 1024
"""Octets of DER."""
MAX_CRL = 4 * 1024 * 1024
"""Octets of DER: some hundred thousand revoked serials. CRLs are read from files of ours only."""
MAX_ALTERNATIVE_NAMES = 256
MAX_SUBTREES = 128
"""Name constraints of one certificate, permitted and excluded."""
MIN_RSA, MAX_RSA = 2048, 8192
"""Bits. Longer keys cost a responder too much a signature (fault row I10)."""
MAX_RSA_EXPONENT = 33
"""Bits."""
CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
MAX_PEM_OBJECTS = 64
"""Certificates, CRLs and keys of one file."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

_HANDLED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CERTIFICATE_POLICIES,
        # Policies restrict nothing unless somebody asks for one; policyConstraints and inhibitAnyPolicy would, and are
        # refused.
    }
)
_USES = frozenset(
    {
        "2.5.29.37.0",  # any
        "1.3.6.1.5.5.7.3.17",  # IKE (RFC 4945 5.1.3.12)
        "1.3.6.1.5.5.8.2.2",  # "iKEIntermediate", which older peers have
        "1.3.6.1.5.5.7.3.5",  # IPsec end system, tunnel, user: before RFC 4945
        "1.3.6.1.5.5.7.3.6",
        "1.3.6.1.5.5.7.3.7",
        "1.3.6.1.5.5.7.3.1",  # TLS server and client: what many CAs give to a gateway
        "1.3.6.1.5.5.7.3.2",
    }
)


@frozen
class Subtrees:
    """Permitted or excluded names (RFC 5280 4.2.1.10). `other`: dotted OIDs or names of kinds that are not handled
    here."""

    dns: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    names: tuple[tuple[Rdn, ...], ...] = ()
    other: frozenset[str] = frozenset()


@frozen
class Constraints:
    permitted: Subtrees
    excluded: Subtrees
    critical: bool


@frozen
class ParsedCertificate:
    """A certificate, all of it looked at. Not yet trusted: see ikev2.pki.chain.

    Times are seconds since 1970. `dns`, `email`, `networks` (addresses: 4 or 16 octets), `names`: subject alternative
    names; `others`: kinds of those that are not handled. `key_hash`: SHA-1 of SubjectPublicKeyInfo. `digest`: SHA-256
    of `octets`.
    """

    octets: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    cert: x509.Certificate = field(repr=False, eq=False)
    key: PublicKey = field(repr=False, eq=False)
    key_hash: bytes = field(repr=False)
    subject: str
    issuer: str
    serial: int
    not_before: float
    not_after: float
    subject_keys: tuple[Rdn, ...] = field(repr=False)
    issuer_keys: tuple[Rdn, ...] = field(repr=False)
    common_names: tuple[str, ...] = field(repr=False)
    dns: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    addresses: tuple[bytes, ...] = ()
    names: tuple[x509.Name, ...] = field(default=(), repr=False)
    others: tuple[tuple[str, str], ...] = ()
    ca: bool = False
    path_length: int | None = None
    signs: bool = True
    """keyUsage lets it sign IKE messages (or there is no keyUsage)."""
    certifies: bool = True
    """keyUsage lets it sign certificates; `lists`: CRLs."""
    lists: bool = True
    purpose: bool = True
    """extendedKeyUsage lets it be used here (or there is none)."""
    constraints: Constraints | None = None
    unknown: tuple[str, ...] = ()
    """Critical extensions that we do not know."""
    signature_hash: str = ""
    """Empty: a scheme without one (Ed25519)."""

    @property
    def self_issued(self) -> bool:
        return self.subject_keys == self.issuer_keys

    @property
    def host_names(self) -> tuple[str, ...]:
        """What it may be called as a host: its dNSNames; only without any, its common names (RFC 6125 6.4.4, and
        IOS)."""
        return self.dns or tuple(name for name in self.common_names if _HOST.fullmatch(name))

    def fingerprint(self, algorithm: str) -> bytes:
        """`algorithm`: md5, sha1 or sha256."""
        return hashlib.new(algorithm, self.octets, usedforsecurity=False).digest()


_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")


@frozen
class Crl:
    """A certificate revocation list, all of it looked at. Its signature is not yet verified: see ikev2.pki.chain."""

    octets: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    crl: x509.CertificateRevocationList = field(repr=False, eq=False)
    issuer: str
    issuer_keys: tuple[Rdn, ...] = field(repr=False)
    this_update: float
    next_update: float | None
    revoked: frozenset[int] = field(repr=False)
    number: int | None = None
    unknown: tuple[str, ...] = ()
    signature_hash: str = ""


def parse_certificate(octets: bytes) -> ParsedCertificate:
    """From DER. Raises CertificateError, whatever `octets` are."""
    if len(octets) > MAX_CERTIFICATE:
        raise CertificateError(f"a certificate of {len(octets)} octets, {MAX_CERTIFICATE} at most")
    try:
        with quietly():
            return _certificate(octets)
    except CertificateError:
        raise
    except (
        Exception
    ) as error:  # the library raises ValueError, TypeError, UnsupportedAlgorithm, DuplicateExtension and more
        raise CertificateError(f"no certificate that can be read: {_said(error)}") from None


def _said(error: Exception) -> str:
    """An error's text, short and on one line: it may quote what a peer sent."""
    return f"{type(error).__name__}: {ascii(str(error))[1:-1][:120]}"


def _certificate(octets: bytes) -> ParsedCertificate:
    cert = x509.load_der_x509_certificate(octets)
    if cert.version is not x509.Version.v3:
        raise CertificateError("a certificate that is not X.509 version 3")
    if cert.serial_number <= 0:
        raise CertificateError("a serial number that is not positive")  # RFC 5280 4.1.2.2
    key = _public_key(cert)
    spki = public_octets(key)
    extensions = {one.oid: one for one in cert.extensions}
    alternatives = _alternatives(extensions.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME))
    basic = extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
    usage = extensions.get(ExtensionOID.KEY_USAGE)
    purposes = extensions.get(ExtensionOID.EXTENDED_KEY_USAGE)
    constraints = extensions.get(ExtensionOID.NAME_CONSTRAINTS)
    return ParsedCertificate(
        octets=octets,
        digest=hashlib.sha256(octets).digest(),
        cert=cert,
        key=key,
        key_hash=hashlib.sha1(spki, usedforsecurity=False).digest(),
        subject=dn_text(cert.subject),
        issuer=dn_text(cert.issuer),
        serial=cert.serial_number,
        not_before=cert.not_valid_before_utc.timestamp(),
        not_after=cert.not_valid_after_utc.timestamp(),
        subject_keys=rdn_keys(cert.subject),
        issuer_keys=rdn_keys(cert.issuer),
        common_names=values_of(cert.subject, "cn"),
        dns=tuple(alternatives.dns),
        email=tuple(alternatives.email),
        addresses=tuple(alternatives.addresses),
        names=tuple(alternatives.names),
        others=tuple(alternatives.others),
        ca=basic is not None and basic.value.ca,
        path_length=basic.value.path_length if basic is not None else None,
        signs=usage is None or usage.value.digital_signature or usage.value.content_commitment,
        certifies=usage is None or usage.value.key_cert_sign,
        lists=usage is None or usage.value.crl_sign,
        purpose=purposes is None or any(one.dotted_string in _USES for one in purposes.value),
        constraints=_constraints(constraints) if constraints is not None else None,
        unknown=tuple(oid.dotted_string for oid, one in extensions.items() if one.critical and oid not in _HANDLED),
        signature_hash=_hash_name(cert),
    )


def _hash_name(signed: x509.Certificate | x509.CertificateRevocationList) -> str:
    algorithm = signed.signature_hash_algorithm
    return algorithm.name if algorithm is not None else ""


def _public_key(cert: x509.Certificate) -> PublicKey:
    key = cert.public_key()
    if isinstance(key, RSAPublicKey):
        # First: OpenSSL itself would read 16,384 bits.
        _check_rsa(key.key_size)
        exponent = key.public_numbers().e
        if exponent.bit_length() > MAX_RSA_EXPONENT:
            raise CertificateError(f"an RSA exponent of {exponent.bit_length()} bits, {MAX_RSA_EXPONENT} at most")
        return key
    if isinstance(key, EllipticCurvePublicKey):
        _check_curve(key.curve.name)
        return key
    if isinstance(key, Ed25519PublicKey):
        return key
    raise CertificateError(f"a key of a kind that is not taken: {type(key).__name__}")


def _check_rsa(bits: int) -> None:
    if not MIN_RSA <= bits <= MAX_RSA:
        raise CertificateError(f"an RSA key of {bits} bits, {MIN_RSA} to {MAX_RSA} are taken")


def _check_curve(name: str) -> None:
    if name not in CURVES:
        raise CertificateError(f"a key on the curve {name}; P-256, P-384 and P-521 are taken")


def public_octets(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@define
class _Names:
    """Subject alternative names by kind."""

    dns: list[str] = field(factory=list)
    email: list[str] = field(factory=list)
    addresses: list[bytes] = field(factory=list)
    names: list[x509.Name] = field(factory=list)
    others: list[tuple[str, str]] = field(factory=list)


def _alternatives(extension: x509.Extension[x509.ExtensionType] | None) -> _Names:
    found = _Names()
    if extension is None:
        return found
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    names = list(extension.value)
    if len(names) > MAX_ALTERNATIVE_NAMES:
        raise CertificateError(f"{len(names)} subject alternative names, {MAX_ALTERNATIVE_NAMES} at most")
    for name in names:
        if isinstance(name, x509.DNSName):
            found.dns.append(name.value)
        elif isinstance(name, x509.RFC822Name):
            found.email.append(name.value)
        elif isinstance(name, x509.IPAddress) and isinstance(name.value, IPv4Address | IPv6Address):
            found.addresses.append(name.value.packed)
        elif isinstance(name, x509.DirectoryName):
            found.names.append(name.value)
        else:
            found.others.append(_other_kind(name))
    return found


def _other_kind(name: x509.GeneralName) -> tuple[str, str]:
    if isinstance(name, x509.OtherName):
        return f"other {name.type_id.dotted_string}", name.value.hex()
    text = name.value.dotted_string if isinstance(name, x509.RegisteredID) else str(name.value)
    return type(name).__name__, text


def _constraints(extension: x509.Extension[x509.ExtensionType]) -> Constraints:
    value = extension.value
    assert isinstance(value, x509.NameConstraints)
    permitted, excluded = value.permitted_subtrees or [], value.excluded_subtrees or []
    if len(permitted) + len(excluded) > MAX_SUBTREES:
        raise CertificateError(f"{len(permitted) + len(excluded)} name constraints, {MAX_SUBTREES} at most")
    return Constraints(_subtrees(permitted), _subtrees(excluded), extension.critical)


def _subtrees(names: list[x509.GeneralName]) -> Subtrees:
    return Subtrees(
        dns=tuple(one.value for one in names if isinstance(one, x509.DNSName)),
        email=tuple(one.value for one in names if isinstance(one, x509.RFC822Name)),
        networks=tuple(
            one.value
            for one in names
            if isinstance(one, x509.IPAddress) and isinstance(one.value, IPv4Network | IPv6Network)
        ),
        names=tuple(rdn_keys(one.value) for one in names if isinstance(one, x509.DirectoryName)),
        other=frozenset(
            _other_kind(one)[0]
            for one in names
            if not isinstance(one, x509.DNSName | x509.RFC822Name | x509.IPAddress | x509.DirectoryName)
        ),
    )


def parse_crl(octets: bytes) -> Crl:
    """From DER. Raises CertificateError, whatever `octets` are."""
    if len(octets) > MAX_CRL:
        raise CertificateError(f"a CRL of {len(octets)} octets, {MAX_CRL} at most")
    try:
        with quietly():
            return _crl(octets)
    except Exception as error:  # as with certificates
        raise CertificateError(f"no CRL that can be read: {_said(error)}") from None


def _crl(octets: bytes) -> Crl:
    crl = x509.load_der_x509_crl(octets)
    unknown, number = [], None
    for extension in crl.extensions:
        if isinstance(extension.value, x509.CRLNumber):
            number = extension.value.crl_number
        elif extension.critical and extension.oid != ExtensionOID.AUTHORITY_KEY_IDENTIFIER:
            # Delta and indirect CRLs, and those about a part of the certificates only, are marked so.
            unknown.append(extension.oid.dotted_string)
    update = crl.next_update_utc
    return Crl(
        octets=octets,
        digest=hashlib.sha256(octets).digest(),
        crl=crl,
        issuer=dn_text(crl.issuer),
        issuer_keys=rdn_keys(crl.issuer),
        this_update=crl.last_update_utc.timestamp(),
        next_update=update.timestamp() if update is not None else None,
        revoked=frozenset(one.serial_number for one in crl),
        number=number,
        unknown=tuple(unknown),
        signature_hash=_hash_name(crl),
    )


def parse_private_key(octets: bytes) -> PrivateKey:
    """From PEM or DER, without a passphrase. Raises CertificateError, which never quotes what was read."""
    load = load_pem_private_key if b"-----BEGIN" in octets else load_der_private_key
    try:
        key = load(octets, password=None)
    except TypeError:
        raise CertificateError("the private key is encrypted; one without a passphrase is needed") from None
    except Exception:
        raise CertificateError("no private key that can be read") from None
    if isinstance(key, RSAPrivateKey):
        _check_rsa(key.key_size)
    elif isinstance(key, EllipticCurvePrivateKey):
        _check_curve(key.curve.name)
    elif not isinstance(key, Ed25519PrivateKey):
        raise CertificateError(f"a private key of a kind that is not taken: {type(key).__name__}")
    return key


_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----(.*?)-----END \1-----", re.DOTALL)


def pem_objects(octets: bytes, kind: str) -> tuple[bytes, ...]:
    """DER of every object of a kind (`CERTIFICATE`, `X509 CRL`) in a PEM file; a file without PEM is DER itself. Raises
    CertificateError."""
    if b"-----BEGIN" not in octets:
        return (octets,) if octets else ()
    found = [body for label, body in _PEM.findall(octets) if label.decode() == kind]
    if len(found) > MAX_PEM_OBJECTS:
        raise CertificateError(f"{len(found)} of {kind} in one file, {MAX_PEM_OBJECTS} at most")
    try:
        return tuple(b64decode(b"".join(body.split()), validate=True) for body in found)
    except ValueError as error:
        raise CertificateError(f"broken PEM: {error}") from None


def key_text(key: PublicKey | PrivateKey) -> str:
    """A key's kind and size for people: `RSA 2048`, `EC P-256`, `Ed25519`."""
    if isinstance(key, RSAPublicKey | RSAPrivateKey):
        return f"RSA {key.key_size}"
    if isinstance(key, EllipticCurvePublicKey | EllipticCurvePrivateKey):
        return f"EC P-{key.curve.key_size}"
    return "Ed25519"
