"""A certification authority, for labs and small networks. Pure: keys, serials and times are arguments.

root = create_root(parse_dn("cn=Lab CA"), make_key(KeyKind.EC256, entropy), serial, when, days=3650)
leaf = issue(root, public_key, Request(parse_dn("cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco")), serial, when)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from ikev2.pki.certificate import PrivateKey, PublicKey, parse_certificate
from ikev2.pki.errors import CertificateError

__all__ = [
    "Authority",
    "KeyKind",
    "Request",
    "create_root",
    "issue",
    "key_pem",
    "make_crl",
    "make_key",
    "make_serial",
    "pem",
]

SKEW = 300.0
"""Seconds that a certificate is valid before it is made: the peers' clocks need not agree to the second."""
DAY = 86400.0
MAX_DAYS = 36500


class KeyKind(Enum):
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    EC256 = "ec256"
    EC384 = "ec384"
    ED25519 = "ed25519"


_CURVES: Mapping[KeyKind, tuple[ec.EllipticCurve, int]] = {
    KeyKind.EC256: (ec.SECP256R1(), 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
    KeyKind.EC384: (
        ec.SECP384R1(),
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    ),
}
"""Curve and order of its group."""


def make_key(kind: KeyKind, entropy: Callable[[int], bytes]) -> PrivateKey:
    """A new key. `entropy(n)` gives n octets; RSA primes are found by OpenSSL, with its own randomness."""
    if kind in _CURVES:
        curve, order = _CURVES[kind]
        # Eight octets more than the order has: what the remainder favours is out of reach (FIPS 186-5 A.2.1).
        octets = entropy((order.bit_length() + 7) // 8 + 8)
        return ec.derive_private_key(int.from_bytes(octets) % (order - 1) + 1, curve)
    if kind is KeyKind.ED25519:
        return Ed25519PrivateKey.from_private_bytes(entropy(32))
    return rsa.generate_private_key(65537, 2048 if kind is KeyKind.RSA2048 else 3072)


def make_serial(entropy: Callable[[int], bytes]) -> int:
    """A certificate's serial number: positive, of at most 20 octets (RFC 5280 4.1.2.2), and not to be foreseen."""
    return int.from_bytes(entropy(16)) >> 1 | 1 << 120


@frozen
class Authority:
    """`chain`: DER of this authority's certificate, then of those above it, the root last."""

    key: PrivateKey = field(repr=False)
    chain: tuple[bytes, ...]

    @property
    def cert(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.chain[0])


@frozen
class Request:
    """What a certificate shall say. `addresses`: 4 or 16 octets. `ca`: it may issue in its turn, at most `path_length`
    deep (None: any). `permitted`, `excluded`: name constraints of a CA."""

    subject: x509.Name
    fqdns: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    addresses: tuple[bytes, ...] = ()
    ca: bool = False
    path_length: int | None = None
    days: float = 365.0
    permitted: tuple[x509.GeneralName, ...] = ()
    excluded: tuple[x509.GeneralName, ...] = ()


def create_root(
    subject: x509.Name,
    key: PrivateKey,
    serial: int,
    when: float,
    *,
    days: float = 3650.0,
    path_length: int | None = None,
) -> Authority:
    """A self-signed CA. `when`: seconds since 1970. Raises CertificateError."""
    request = Request(subject, ca=True, path_length=path_length, days=days)
    return Authority(key, (_sign(request, key.public_key(), subject, key, serial, when),))


def issue(authority: Authority, key: PublicKey, request: Request, serial: int, when: float) -> tuple[bytes, ...]:
    """A chain in DER: the new certificate, then what is above it, without the root. Raises CertificateError."""
    made = _sign(request, key, authority.cert.subject, authority.key, serial, when)
    return made, *authority.chain[:-1]


def _sign(request: Request, key: PublicKey, issuer: x509.Name, signer: PrivateKey, serial: int, when: float) -> bytes:
    if not 0 < request.days <= MAX_DAYS:
        raise CertificateError(f"{request.days:g} days: more than 0 and at most {MAX_DAYS} expected")
    try:
        builder = (
            x509.CertificateBuilder(
                issuer_name=issuer, subject_name=request.subject, public_key=key, serial_number=serial
            )
            .not_valid_before(_time(when - SKEW))
            .not_valid_after(_time(when + request.days * DAY))
        )
        for extension, critical in _extensions(request, key, signer):
            builder = builder.add_extension(extension, critical)
        octets = builder.sign(signer, _hash(signer)).public_bytes(Encoding.DER)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"no certificate can say that: {error}") from None
    parse_certificate(octets)  # nothing is issued that we would not take ourselves
    return octets


def _extensions(request: Request, key: PublicKey, signer: PrivateKey) -> list[tuple[x509.ExtensionType, bool]]:
    usage = x509.KeyUsage(
        digital_signature=not request.ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=request.ca,
        crl_sign=request.ca,
        encipher_only=False,
        decipher_only=False,
    )
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=request.ca, path_length=request.path_length if request.ca else None), True),
        (usage, True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ]
    names = _alternatives(request)
    if names:
        # RFC 5280 4.2.1.6: critical if the subject is empty.
        found.append((x509.SubjectAlternativeName(names), not request.subject.rdns))
    if request.permitted or request.excluded:
        found.append((x509.NameConstraints(request.permitted or None, request.excluded or None), True))
    if not request.ca:
        # For peers that ask for one of these (old Windows, macOS); without any of ours nothing is refused.
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.IPSEC_IKE]
        found.append((x509.ExtendedKeyUsage(uses), False))
    return found


def _alternatives(request: Request) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in request.fqdns]
    names += [x509.RFC822Name(name) for name in request.emails]
    for octets in request.addresses:
        names.append(x509.IPAddress(IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets)))
    return names


def make_crl(
    authority: Authority, revoked: Mapping[int, float], number: int, when: float, *, days: float = 30.0
) -> bytes:
    """DER of a CRL. `revoked`: serial -> when, seconds since 1970. `number` must grow. Raises CertificateError."""
    try:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.cert.subject)
            .last_update(_time(when - SKEW))
            .next_update(_time(when + days * DAY))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
            )
        )
        for serial, since in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(since)).build()
            builder = builder.add_revoked_certificate(entry)
        signer = authority.key
        return builder.sign(signer, _hash(signer)).public_bytes(Encoding.DER)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"no CRL can say that: {error}") from None


def _time(when: float) -> datetime:
    try:
        return datetime.fromtimestamp(int(when), UTC)
    except (OverflowError, OSError):
        raise ValueError(f"the time {when:g} is out of reach") from None


def _hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384()
    return hashes.SHA256()


def pem(octets: bytes, kind: str) -> bytes:
    """PEM of DER: `kind` is CERTIFICATE or X509 CRL."""
    if kind == "CERTIFICATE":
        return x509.load_der_x509_certificate(octets).public_bytes(Encoding.PEM)
    return x509.load_der_x509_crl(octets).public_bytes(Encoding.PEM)


def key_pem(key: PrivateKey) -> bytes:
    """PKCS #8, without a passphrase: for a file that only its owner reads."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
