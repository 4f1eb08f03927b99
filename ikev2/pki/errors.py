"""What can be wrong with a proof, a certificate or a trust point. Texts are for our own log and `show`; a peer is never
told them."""

from __future__ import annotations

from attrs import frozen

__all__ = ["AuthError", "CertificateError", "FingerprintError", "RevokedError", "TrustpointError"]


@frozen
class AuthError(Exception):
    """A peer has not proved that it is who it says. To the peer this is AUTHENTICATION_FAILED and no more (RFC 7296
    2.21.2)."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@frozen
class CertificateError(AuthError):
    """Octets that are no certificate, CRL or key that we take, or a chain that does not hold."""


@frozen
class RevokedError(CertificateError):
    """Said by a valid CRL: no other path and no `revocation-check none` can mend it."""


@frozen
class TrustpointError(Exception):
    """A trust point that cannot be loaded. `file`: a path, or what stands for one; `advice`: what to do about it."""

    trustpoint: str
    file: str
    reason: str
    advice: str = ""

    def __str__(self) -> str:
        where = f" {self.file}:" if self.file else ""
        advice = f" ({self.advice})" if self.advice else ""
        return f"trustpoint {self.trustpoint}:{where} {self.reason}{advice}"


@frozen
class FingerprintError(TrustpointError):
    """The authority is another one than the configuration says: a mistake, or a forgery."""
