"""IKE identities: as text, as configured, and whether one matches (RFC 7296 3.5, IOS's `match identity remote`)."""

from __future__ import annotations

from functools import lru_cache

from ikev2.config import IdentityKind, IdentityMatch, IdentitySpec
from ikev2.pki.credentials import PeerCertificate
from ikev2.pki.errors import AuthError, CertificateError
from ikev2.pki.identity import check_identity
from ikev2.pki.names import dn_der, dn_text, parse_dn_der
from ikev2.wire.numbers import IdKind
from ikev2.wire.payloads import Identity
from stack.addr import format_address, parse_address

__all__ = ["address_identity", "holder_of", "identity_matches", "identity_of", "identity_text"]

MAX_TEXT = 256
"""Characters of an identity that are shown."""


@lru_cache(maxsize=4096)
def identity_text(identity: Identity | None) -> str:
    """For people: an address, a name, a distinguished name. What is not printable is escaped, whatever the peer sent."""
    if identity is None:
        return ""
    kind, octets = identity.kind, identity.octets
    if kind in (IdKind.IPV4_ADDR, IdKind.IPV6_ADDR) and len(octets) in (4, 16):
        return format_address(octets)
    if kind == IdKind.DER_ASN1_DN:
        try:
            return dn_text(parse_dn_der(octets))[:MAX_TEXT]
        except CertificateError:
            return f"dn:{octets.hex()}"[:MAX_TEXT]
    text = octets[:MAX_TEXT].decode("utf-8", "backslashreplace")
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)[:MAX_TEXT]
    return printable or f"kind {kind}, empty"


def address_identity(address: bytes) -> Identity:
    return Identity(IdKind.IPV4_ADDR if len(address) == 4 else IdKind.IPV6_ADDR, address)


def identity_of(spec: IdentitySpec | None, address: bytes, subject: bytes = b"") -> Identity | None:
    """What `identity local` means on an IKE SA from `address`; `subject`: of our certificate, DER. Nothing configured: the
    subject if there is a certificate, else the address. None: a DN is asked for and there is no certificate."""
    if spec is None:
        return Identity(IdKind.DER_ASN1_DN, subject) if subject else address_identity(address)
    match spec.kind:
        case IdentityKind.ADDRESS:
            return address_identity(parse_address(spec.value) if spec.value else address)
        case IdentityKind.FQDN:
            return Identity(IdKind.FQDN, spec.value.encode())
        case IdentityKind.EMAIL:
            return Identity(IdKind.RFC822_ADDR, spec.value.encode())
        case IdentityKind.KEY_ID:
            return Identity(IdKind.KEY_ID, spec.value.encode())
        case IdentityKind.DN:
            return Identity(IdKind.DER_ASN1_DN, subject) if subject else None
        case IdentityKind.ANY:
            return None


def identity_matches(match: IdentityMatch, identity: Identity) -> bool:
    """Names in any case. A domain matches itself and what is below it."""
    kind, octets = identity.kind, identity.octets
    match match.kind:
        case IdentityKind.ANY:
            return True
        case IdentityKind.ADDRESS:
            if kind not in (IdKind.IPV4_ADDR, IdKind.IPV6_ADDR):
                return False
            return match.prefix.covers(octets) if match.prefix is not None else False
        case IdentityKind.FQDN:
            return kind == IdKind.FQDN and _named(_folded(octets), match, ".")
        case IdentityKind.EMAIL:
            return kind == IdKind.RFC822_ADDR and _named(_folded(octets), match, "@")
        case IdentityKind.KEY_ID:
            return kind == IdKind.KEY_ID and octets == match.value.encode()
        case IdentityKind.DN:
            return kind == IdKind.DER_ASN1_DN and bool(match.value) and identity_text(identity) == match.value


def _named(name: str, match: IdentityMatch, separator: str) -> bool:
    wanted = match.value.lower()
    if not match.domain:
        return bool(name) and name == wanted
    domain = name.rpartition(separator)[2] if separator == "@" else name.partition(separator)[2]
    return bool(wanted) and (domain == wanted or domain.endswith("." + wanted))


def _folded(octets: bytes) -> str:
    return octets.decode("utf-8", "replace").lower()


def holder_of(profile: str, identity: Identity, certificate: PeerCertificate | None = None) -> tuple[str, bytes]:
    """Whose leases and interfaces: one key for a profile and an identity. Where a certificate map lets in whoever has a
    certificate of some kind, the identity is anybody's word: one that `certificate` does not bear out is no claim to what is
    another peer's, and the certificate's subject is the holder."""
    if certificate is not None:
        try:
            check_identity(identity, certificate.certificate)
        except AuthError:
            identity = Identity(IdKind.DER_ASN1_DN, dn_der(certificate.certificate.cert.subject))
    octets = identity.octets
    if identity.kind in (IdKind.FQDN, IdKind.RFC822_ADDR):
        octets = octets.lower()
    return profile, bytes((identity.kind,)) + octets
