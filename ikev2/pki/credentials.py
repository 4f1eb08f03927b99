"""How we prove who we are (`Credential`), and how a peer must (`Trust`)."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest

from attrs import field
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ikev2.config import AuthMethod
from ikev2.crypto import auth as proofs
from ikev2.crypto.auth import Method
from ikev2.pki.certificate import ParsedCertificate, PrivateKey, PublicKey
from ikev2.pki.errors import AuthError
from ikev2.pki.identity import check_identity, check_present
from ikev2.pki.store import PeerCertificate, TrustStore
from ikev2.wire.payloads import Auth, Identity
from stack.values import value

__all__ = [
    "AuthError",
    "Credential",
    "PeerCertificate",
    "PrivateKey",
    "PskCredential",
    "SignatureCredential",
    "Trust",
    "TrustStore",
]


@value
class PskCredential:
    """A pre-shared key, as octets."""

    key: bytes = field(repr=False)


@value
class SignatureCredential:
    """`chain`: DER, our own certificate first; these go into CERT payloads. `method`: as configured; method 14 is used
    for RSA_SIG and ECDSA_SIG too when the peer has said SIGNATURE_HASH_ALGORITHMS."""

    private_key: PrivateKey = field(repr=False)
    chain: tuple[bytes, ...]
    method: AuthMethod


Credential = PskCredential | SignatureCredential


@value
class Trust:
    """How a peer must prove itself. `methods`: any of these. `psk`: for AuthMethod.PSK. `anchors`: for the others.

    `bind`: the IKE identity must stand in the certificate. False only where a certificate map picked the profile: then
    the map is the authority (IOS's documents send an FQDN that their certificates do not have).
    """

    methods: frozenset[AuthMethod]
    psk: bytes | None = field(default=None, repr=False)
    anchors: TrustStore | None = None
    bind: bool = True

    def verify(
        self,
        auth: Auth,
        octets: bytes,
        certificates: tuple[bytes, ...],
        identity: Identity,
        when: float,
        *,
        psk_auth: Callable[[bytes], bytes],
        hashes: frozenset[int],
    ) -> PeerCertificate | None:
        """The peer's certificate, verified; None if it proved itself by a pre-shared key. Raises AuthError, and nothing
        else.

        `octets`: what the peer signs (RFC 7296 2.15). `certificates`: DER of its CERT payloads, its own first. `when`:
        seconds since 1970. `psk_auth(key)`: the AUTH octets that a peer with this key sends. `hashes`: hash algorithms
        (RFC 7427 7) that we announced, so those that method 14 may use.
        """
        # An empty identity is nobody's, however it is proved (fault row I09).
        check_present(identity)
        if auth.method == Method.PSK:
            self._verify_psk(auth, psk_auth)
            return None
        if self.anchors is None or not self.methods - {AuthMethod.PSK}:
            raise AuthError(f"the peer proves itself by method {auth.method}, and must by a pre-shared key")
        if not certificates:
            raise AuthError("the peer has sent no certificate")
        leaf = self.anchors.parse(certificates[0])
        if not self.methods & _ways(auth.method, leaf.key):
            wanted = ", ".join(sorted(one.value for one in self.methods))
            raise AuthError(f"method {auth.method} with the key of {leaf.subject} is not among: {wanted}")
        _verify_signature(leaf, auth, octets, hashes)
        found = self.anchors.verify(certificates, when)
        if self.bind:
            check_identity(identity, found.certificate)
        return found

    def _verify_psk(self, auth: Auth, psk_auth: Callable[[bytes], bytes]) -> None:
        if AuthMethod.PSK not in self.methods:
            raise AuthError("the peer proves itself by a pre-shared key, and must by a signature")
        if not self.psk:
            raise AuthError("there is no pre-shared key for this peer")
        if not compare_digest(psk_auth(self.psk), auth.octets):
            raise AuthError("the pre-shared keys differ")

    def requests(self) -> bytes:
        """CERTREQ: SHA-1 hashes of the anchors' SubjectPublicKeyInfo, 20 octets each (RFC 7296 3.7); empty if no
        certificate counts."""
        if self.anchors is None or not self.methods - {AuthMethod.PSK}:
            return b""
        return self.anchors.requests()


def _ways(method: int, key: PublicKey) -> frozenset[AuthMethod]:
    """What a signature by `key` in an AUTH payload of `method` counts as: any of these. Whether the two go together is
    seen when it is verified."""
    if isinstance(key, RSAPublicKey):
        named = frozenset({AuthMethod.RSA_SIG})
    elif isinstance(key, EllipticCurvePublicKey):
        named = frozenset({AuthMethod.ECDSA_SIG})
    else:
        named = frozenset()
    return named | {AuthMethod.SIGNATURE} if method == Method.SIGNATURE else named


def _verify_signature(leaf: ParsedCertificate, auth: Auth, octets: bytes, hashes: frozenset[int]) -> None:
    try:
        # SHA-1 is among what we announce only under the switch for old peers.
        proofs.verify(leaf.key, auth, octets, our_hashes=hashes, sha1=proofs.SHA1 in hashes)
    except proofs.AuthError as error:
        raise AuthError(f"the AUTH payload with the certificate {leaf.subject}: {error}") from None
