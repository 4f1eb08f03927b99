"""The AUTH payload (RFC 7296 2.15 and 3.8, RFC 4754, RFC 7427, RFC 8420): what is signed, by which
algorithm, and whether it holds.

No ASN.1 is read here. The AlgorithmIdentifier of method 14 must be one of a fixed set, octet for octet; what it names decides
how the library verifies the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from hmac import compare_digest

from attrs import frozen
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ikev2.crypto.keys import prf
from ikev2.crypto.suites import Prf
from ikev2.wire.payloads import Auth

__all__ = [
    "IDENTITY",
    "OUR_HASHES",
    "SHA1",
    "SHA2_256",
    "SHA2_384",
    "SHA2_512",
    "AuthError",
    "AuthReason",
    "Method",
    "PrivateKey",
    "PublicKey",
    "algorithm_name",
    "check_public_key",
    "our_hashes",
    "psk_auth",
    "sign",
    "signed_octets",
    "verify",
    "verify_psk",
]

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey

SHA1, SHA2_256, SHA2_384, SHA2_512, IDENTITY = 1, 2, 3, 4, 5
"""As in SIGNATURE_HASH_ALGORITHMS (RFC 7427 4). IDENTITY (RFC 8420): the octets themselves are signed, as Ed25519
does."""

OUR_HASHES: frozenset[int] = frozenset({SHA2_256, SHA2_384, SHA2_512, IDENTITY})

_RSA_BITS = range(2048, 8193)
_RSA_EXPONENT = 2**33
"""Public exponents above it serve nobody, and cost whoever verifies."""


class Method:
    """`Auth.method`."""

    RSA, PSK, ECDSA_256, ECDSA_384, ECDSA_521, SIGNATURE = 1, 2, 9, 10, 11, 14


class AuthReason(Enum):
    METHOD = "the authentication method does not go with the key"
    FORM = "the AUTH payload is malformed"
    ALGORITHM = "the signature algorithm is not accepted"
    HASH = "the signature's hash was not asked for"
    KEY = "the key is of a kind or size that is not accepted"
    NO_METHOD = "the peer announced no hash that our key can sign with"
    NO_PSK = "there is no pre-shared key"
    WRONG = "the signature does not verify"
    OLD_HASH = "the signature is by SHA-1, which is off (crypto ikev2 allow sha1)"
    WRONG_PSK = "the pre-shared keys differ"


@frozen
class AuthError(Exception):
    """For our log; the peer hears AUTHENTICATION_FAILED and no more."""

    reason: AuthReason

    def __str__(self) -> str:
        return self.reason.value


# --- what is signed -------------------------------------------------------------------------------------------------------


def signed_octets(
    message: bytes, nonce: bytes, which: Prf, sk_p: bytes, id_body: bytes, intermediate: bytes = b""
) -> bytes:
    """InitiatorSignedOctets or ResponderSignedOctets of RFC 7296 2.15.

    `message`: the signer's IKE_SA_INIT as it was on the wire, from the SPIs on, without a non-ESP marker. `nonce`: the other
    end's. `sk_p`: SK_pi or SK_pr, the signer's. `id_body`: of its ID payload, after the generic header: kind, three zeros,
    identity.
    `intermediate`: IntAuth of RFC 9242 3.3.2, if there were IKE_INTERMEDIATE exchanges.
    """
    return message + nonce + prf(which, sk_p, id_body) + intermediate


# --- pre-shared keys ------------------------------------------------------------------------------------------------------


def psk_auth(which: Prf, psk: bytes, octets: bytes) -> Auth:
    """RFC 7296 2.15: prf(prf(secret, "Key Pad for IKEv2"), octets). Raises AuthError for an empty key."""
    if not psk:
        raise AuthError(AuthReason.NO_PSK)
    return Auth(Method.PSK, prf(which, prf(which, psk, b"Key Pad for IKEv2"), octets))


def verify_psk(which: Prf, psk: bytes, auth: Auth, octets: bytes) -> None:
    """Raises AuthError."""
    if auth.method != Method.PSK:
        raise AuthError(AuthReason.METHOD)
    if not compare_digest(psk_auth(which, psk, octets).octets, auth.octets):
        raise AuthError(AuthReason.WRONG_PSK)


# --- the algorithms of method 14 ------------------------------------------------------------------------------------------


class _Kind(Enum):
    PKCS1 = "RSASSA-PKCS1-v1_5"
    PSS = "RSASSA-PSS"
    ECDSA = "ECDSA"
    ED25519 = "Ed25519"


_HASHES: Mapping[int, hashes.HashAlgorithm] = {
    SHA1: hashes.SHA1(),  # noqa: S303  (verified or signed with only under the switch for old peers)
    SHA2_256: hashes.SHA256(),
    SHA2_384: hashes.SHA384(),
    SHA2_512: hashes.SHA512(),
}
_HASH_OIDS: Mapping[int, bytes] = {
    SHA2_256: bytes.fromhex("0609608648016503040201"),
    SHA2_384: bytes.fromhex("0609608648016503040202"),
    SHA2_512: bytes.fromhex("0609608648016503040203"),
}
_PKCS1_OIDS: Mapping[int, bytes] = {
    SHA1: bytes.fromhex("06092a864886f70d010105"),
    SHA2_256: bytes.fromhex("06092a864886f70d01010b"),
    SHA2_384: bytes.fromhex("06092a864886f70d01010c"),
    SHA2_512: bytes.fromhex("06092a864886f70d01010d"),
}
_ECDSA_OIDS: Mapping[int, bytes] = {
    SHA2_256: bytes.fromhex("06082a8648ce3d040302"),
    SHA2_384: bytes.fromhex("06082a8648ce3d040303"),
    SHA2_512: bytes.fromhex("06082a8648ce3d040304"),
}
_PSS_OID = bytes.fromhex("06092a864886f70d01010a")
_MGF1_OID = bytes.fromhex("06092a864886f70d010108")
_ED25519 = bytes.fromhex("300506032b6570")
_NULL = bytes.fromhex("0500")


def _tlv(tag: int, *parts: bytes) -> bytes:
    octets = b"".join(parts)
    return bytes((tag, len(octets))) + octets


def _pss(number: int, *, hash_null: bytes = _NULL, mask_null: bytes = _NULL, trailer: bytes = b"") -> bytes:
    """RFC 4055 3.1. The salt is as long as the hash (RFC 7427 and RFC 8247 know no other), the mask's hash the same."""
    oid = _HASH_OIDS[number]
    parameters = _tlv(
        0x30,
        _tlv(0xA0, _tlv(0x30, oid, hash_null)),
        _tlv(0xA1, _tlv(0x30, _MGF1_OID, _tlv(0x30, oid, mask_null))),
        _tlv(0xA2, _tlv(0x02, bytes((_HASHES[number].digest_size,)))),
        trailer,
    )
    return _tlv(0x30, _PSS_OID, parameters)


def _accepted() -> dict[bytes, tuple[_Kind, int]]:
    """RFC 7427 appendix A. RFC 4055 2.1 and 5 have NULL parameters of a hash and of PKCS #1 taken also when absent; the
    trailer field is its default, which DER leaves out, but RFC 7427 A.4 writes it."""
    table: dict[bytes, tuple[_Kind, int]] = {_ED25519: (_Kind.ED25519, IDENTITY)}
    for number, oid in _PKCS1_OIDS.items():
        table[_tlv(0x30, oid, _NULL)] = table[_tlv(0x30, oid)] = (_Kind.PKCS1, number)
    for number, oid in _ECDSA_OIDS.items():
        table[_tlv(0x30, oid)] = (_Kind.ECDSA, number)
    for number in _HASH_OIDS:
        for hash_null in (_NULL, b""):
            for mask_null in (_NULL, b""):
                for trailer in (b"", bytes.fromhex("a303020101")):
                    octets = _pss(number, hash_null=hash_null, mask_null=mask_null, trailer=trailer)
                    table[octets] = (_Kind.PSS, number)
    return table


_ACCEPTED = _accepted()
_SENT: Mapping[tuple[_Kind, int], bytes] = {
    **{(_Kind.PKCS1, number): _tlv(0x30, oid, _NULL) for number, oid in _PKCS1_OIDS.items()},
    **{(_Kind.ECDSA, number): _tlv(0x30, oid) for number, oid in _ECDSA_OIDS.items()},
    **{(_Kind.PSS, number): _pss(number) for number in _HASH_OIDS},
    (_Kind.ED25519, IDENTITY): _ED25519,
}
_PSS_PADDING: Mapping[int, padding.PSS] = {
    number: padding.PSS(padding.MGF1(_HASHES[number]), _HASHES[number].digest_size) for number in _HASH_OIDS
}
_PKCS1_PADDING = padding.PKCS1v15()
_ECDSA: Mapping[int, ec.ECDSA] = {number: ec.ECDSA(_HASHES[number]) for number in _ECDSA_OIDS}


@frozen
class _Curve:
    """A curve's method of RFC 4754, which fixes its hash, and the octets of r and of s."""

    method: int
    number: int
    size: int


_CURVES: Mapping[str, _Curve] = {
    "secp256r1": _Curve(Method.ECDSA_256, SHA2_256, 32),
    "secp384r1": _Curve(Method.ECDSA_384, SHA2_384, 48),
    "secp521r1": _Curve(Method.ECDSA_521, SHA2_512, 66),
}
_PREFERRED: Mapping[int, tuple[int, ...]] = {
    SHA2_256: (SHA2_256, SHA2_384, SHA2_512),
    SHA2_384: (SHA2_384, SHA2_512, SHA2_256),
    SHA2_512: (SHA2_512, SHA2_384, SHA2_256),
}


def our_hashes(*, sha1: bool = False) -> frozenset[int]:
    """What we announce in SIGNATURE_HASH_ALGORITHMS, and hand to `verify`."""
    return OUR_HASHES | {SHA1} if sha1 else OUR_HASHES


def algorithm_name(auth: Auth) -> str:
    """For people, of an AUTH payload that was verified: `RSASSA-PSS with SHA384`."""
    if auth.method != Method.SIGNATURE:
        names = {
            Method.RSA: "RSA",
            Method.PSK: "pre-shared key",
            9: "ECDSA P-256",
            10: "ECDSA P-384",
            11: "ECDSA P-521",
        }
        return names.get(auth.method, f"method {auth.method}")
    found = _ACCEPTED.get(auth.octets[1 : 1 + auth.octets[0]]) if auth.octets else None
    if found is None:
        return "unknown"
    kind, number = found
    return kind.value if number == IDENTITY else f"{kind.value} with {_HASHES[number].name.upper()}"


# --- signatures -----------------------------------------------------------------------------------------------------------


def check_public_key(key: object) -> PublicKey:
    """`key`, if it is of a kind and size that we deal with: RSA of 2048 to 8192 bits with an exponent of at most 33, P-256,
    P-384, P-521, Ed25519. Raises AuthError. What is longer than that would have us work for whoever sends it."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size in _RSA_BITS and key.public_numbers().e < _RSA_EXPONENT:
            return key
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in _CURVES:
            return key
    elif isinstance(key, Ed25519PublicKey):
        return key
    raise AuthError(AuthReason.KEY)


def sign(
    key: PrivateKey,
    octets: bytes,
    *,
    peer_hashes: frozenset[int] | None,
    legacy: bool = False,
    pss: bool = False,
) -> Auth:
    """AUTH by our private key. `peer_hashes`: of the peer's SIGNATURE_HASH_ALGORITHMS, None if it sent none, so that it knows
    nothing of method 14. `legacy`: the switch for SHA-1. `pss`: RSA in method 14 by RSASSA-PSS; PKCS #1 v1.5 is what every peer
    verifies. Raises AuthError."""
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size not in _RSA_BITS:
            raise AuthError(AuthReason.KEY)
        preferred = SHA2_256 if key.key_size <= 3072 else SHA2_384 if key.key_size <= 7680 else SHA2_512
        if number := _common(preferred, peer_hashes):
            if pss:
                return _signature(_Kind.PSS, number, key.sign(octets, _PSS_PADDING[number], _HASHES[number]))
            return _signature(_Kind.PKCS1, number, key.sign(octets, _PKCS1_PADDING, _HASHES[number]))
        # Method 1. RFC 7296 3.8: SHA-1 SHOULD be the hash by default, but others are allowed. A peer without RFC 7427 is an old
        # one, and as a rule verifies SHA-1 alone; yet SHA-1 in signatures is what the switch decides, when we sign as
        # well as when we verify. With the switch off such a peer gets SHA2-256, which some of them verify.
        return Auth(Method.RSA, key.sign(octets, _PKCS1_PADDING, _HASHES[SHA1 if legacy else SHA2_256]))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curve = _CURVES.get(key.curve.name)
        if curve is None:
            raise AuthError(AuthReason.KEY)
        if number := _common(curve.number, peer_hashes):
            return _signature(_Kind.ECDSA, number, key.sign(octets, _ECDSA[number]))
        r, s = decode_dss_signature(key.sign(octets, _ECDSA[curve.number]))
        return Auth(curve.method, r.to_bytes(curve.size) + s.to_bytes(curve.size))
    if isinstance(key, Ed25519PrivateKey):
        if IDENTITY not in (peer_hashes or ()):
            raise AuthError(AuthReason.NO_METHOD)
        return _signature(_Kind.ED25519, IDENTITY, key.sign(octets))
    raise AuthError(AuthReason.KEY)


def _common(preferred: int, peer_hashes: frozenset[int] | None) -> int | None:
    return next((number for number in _PREFERRED[preferred] if number in (peer_hashes or ())), None)


def _signature(kind: _Kind, number: int, signature: bytes) -> Auth:
    """RFC 7427 3: length and AlgorithmIdentifier before the signature."""
    identifier = _SENT[kind, number]
    return Auth(Method.SIGNATURE, bytes((len(identifier),)) + identifier + signature)


def verify(
    key: PublicKey, auth: Auth, octets: bytes, *, our_hashes: frozenset[int] = OUR_HASHES, sha1: bool = False
) -> None:
    """Whether the peer's private key signed `octets`. `our_hashes`: what we announced to this peer. `sha1`: the switch; without
    it SHA-1 is refused even if announced. Raises AuthError."""
    check_public_key(key)
    try:
        if auth.method == Method.SIGNATURE:
            _verify_signature(key, auth.octets, octets, our_hashes if sha1 else our_hashes - {SHA1})
        elif auth.method == Method.RSA and isinstance(key, rsa.RSAPublicKey):
            _verify_rsa(key, auth.octets, octets, sha1=sha1)
        elif isinstance(key, ec.EllipticCurvePublicKey) and auth.method == _CURVES[key.curve.name].method:
            curve = _CURVES[key.curve.name]
            if len(auth.octets) != 2 * curve.size:
                raise AuthError(AuthReason.FORM)
            r, s = int.from_bytes(auth.octets[: curve.size]), int.from_bytes(auth.octets[curve.size :])
            key.verify(encode_dss_signature(r, s), octets, _ECDSA[curve.number])
        else:
            raise AuthError(AuthReason.METHOD)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise AuthError(AuthReason.WRONG) from None


def _verify_rsa(key: rsa.RSAPublicKey, signature: bytes, octets: bytes, *, sha1: bool) -> None:
    """Method 1 does not say its hash (it is in the signed block); it is one of few. SHA-1 is looked at in any case, so that
    our log can say what would help."""
    _check_size(key, signature)
    for number in (SHA2_256, SHA2_384, SHA2_512, SHA1):
        try:
            key.verify(signature, octets, _PKCS1_PADDING, _HASHES[number])
        except InvalidSignature:
            continue
        if number == SHA1 and not sha1:
            raise AuthError(AuthReason.OLD_HASH)
        return
    raise AuthError(AuthReason.WRONG)


def _verify_signature(key: PublicKey, auth: bytes, octets: bytes, allowed: frozenset[int]) -> None:
    end = 1 + auth[0] if auth else 0
    if not 1 < end < len(auth):
        raise AuthError(AuthReason.FORM)
    found = _ACCEPTED.get(auth[1:end])
    if found is None:
        raise AuthError(AuthReason.ALGORITHM)
    (kind, number), signature = found, auth[end:]
    if number not in allowed:
        raise AuthError(AuthReason.HASH)
    if isinstance(key, rsa.RSAPublicKey) and kind in {_Kind.PKCS1, _Kind.PSS}:
        _check_size(key, signature)
        key.verify(signature, octets, _PKCS1_PADDING if kind is _Kind.PKCS1 else _PSS_PADDING[number], _HASHES[number])
    elif isinstance(key, ec.EllipticCurvePublicKey) and kind is _Kind.ECDSA:
        key.verify(signature, octets, _ECDSA[number])
    elif isinstance(key, Ed25519PublicKey) and kind is _Kind.ED25519:
        key.verify(signature, octets)
    else:
        raise AuthError(AuthReason.METHOD)


def _check_size(key: rsa.RSAPublicKey, signature: bytes) -> None:
    """RFC 8017 8.1.2 and 8.2.2: the signature is as long as the modulus."""
    if len(signature) != (key.key_size + 7) // 8:
        raise AuthError(AuthReason.FORM)
