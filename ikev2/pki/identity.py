"""Whether an IKE identity stands in a certificate (RFC 4945 3.1, RFC 7296 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ikev2.pki.certificate import ParsedCertificate
from ikev2.pki.errors import AuthError, CertificateError
from ikev2.pki.names import parse_dn_der, rdn_keys
from ikev2.wire.payloads import Identity

__all__ = ["check_identity", "check_present"]

_NO_NAME = bytes.fromhex("3000")
"""A distinguished name of no parts."""
ID_IPV4, ID_FQDN, ID_EMAIL, ID_IPV6, ID_DN = 1, 2, 3, 5, 9


def check_present(identity: Identity) -> None:
    """An empty identity is nobody's, however a peer proves itself. Raises AuthError."""
    if not identity.octets.strip(b"\0 ") or (identity.kind == ID_DN and identity.octets == _NO_NAME):
        raise AuthError("the peer's identity is empty")


def check_identity(identity: Identity, certificate: ParsedCertificate) -> None:
    """Raises AuthError if the certificate does not bear the identity out. Key ids and other kinds never stand in
    one."""
    check_present(identity)
    stands = _KINDS.get(identity.kind)
    if stands is None:
        raise AuthError(f"an identity of kind {identity.kind} cannot stand in a certificate")
    if not stands(identity.octets, certificate):
        raise AuthError(f"the peer's identity does not stand in its certificate {certificate.subject}")


def _address(octets: bytes, certificate: ParsedCertificate) -> bool:
    return octets in certificate.addresses


def _host(octets: bytes, certificate: ParsedCertificate) -> bool:
    """A dNSName, whole, without wildcards. A common name counts only where there is no dNSName: IOS enrols by
    `subject-name cn=FQDN` alone, so those certificates have nothing else; one that has dNSNames has said all its host
    names (RFC 6125 6.4.4)."""
    name = _ascii(octets)
    return bool(name) and name in {one.lower() for one in certificate.host_names}


def _email(octets: bytes, certificate: ParsedCertificate) -> bool:
    """Host parts in any case; what is before the @ as written."""
    return _mailbox(octets.decode("latin-1")) in {_mailbox(one) for one in certificate.email}


def _mailbox(text: str) -> tuple[str, str]:
    user, _, host = text.rpartition("@")
    return user, host.lower()


def _name(octets: bytes, certificate: ParsedCertificate) -> bool:
    try:
        return rdn_keys(parse_dn_der(octets)) == certificate.subject_keys != ()
    except CertificateError:
        return False


def _ascii(octets: bytes) -> str:
    try:
        return octets.decode("ascii").lower()
    except UnicodeDecodeError:
        return ""


_KINDS: Mapping[int, Callable[[bytes, ParsedCertificate], bool]] = {
    ID_IPV4: _address,
    ID_FQDN: _host,
    ID_EMAIL: _email,
    ID_IPV6: _address,
    ID_DN: _name,
}
