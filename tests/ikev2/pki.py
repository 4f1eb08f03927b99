"""A certification authority for tests: in memory, the same octets every time, nothing slow.

    leaf = LEAVES["ec256"]            # R3-spoke.cisco.com, of the root's intermediate CA
    leaf.chain                        # DER, the leaf first, without the root
    leaf.key                          # its private key
    leaf.credential()                 # a SignatureCredential
    trust()                           # a Trust of AuthMethod.SIGNATURE, RSA_SIG and ECDSA_SIG, anchored at the root
    world = World(); world.leaf(...)  # for anything else

Everything is valid at `NOW` (seconds since 1970), unless its name says otherwise. NOTHING HERE IS SECRET: the keys
stand in this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ikev2.config import AuthMethod
from ikev2.pki.authority import Authority, KeyKind, Request, create_root, issue, make_crl, make_key
from ikev2.pki.certificate import PrivateKey, parse_certificate, parse_crl
from ikev2.pki.credentials import SignatureCredential, Trust
from ikev2.pki.names import parse_dn
from ikev2.pki.store import Anchor, TrustStore

__all__ = [
    "DAY",
    "HUB",
    "KINDS",
    "LEAVES",
    "NOW",
    "SIGNING",
    "Leaf",
    "World",
    "crl",
    "expired",
    "forge",
    "key",
    "revoked",
    "store",
    "trust",
]

NOW = 1_700_000_000.0
DAY = 86400.0
KINDS = ("rsa2048", "ec256", "ec384", "ed25519")
SIGNING = frozenset({AuthMethod.RSA_SIG, AuthMethod.ECDSA_SIG, AuthMethod.SIGNATURE})

# Primes, hexadecimal. Made once for these tests: RSA keys take too long to be made anew.
_RSA_ROOT = (
    (
        "ea75c91ef4e86df8f60a8d96bd901d529aa7c40fd842a3082738ba97f1bd36754af6f9fefd44f99f367440cd2fd106d2"
        "396dd721cc3b81d9a9a3741cd9f596fe45c125bc97665342cb017f7e0cba76e525f492fb94982f3f0fc507c959065f6e"
        "441ec40ad0c76ddefd24204f6b5734cc6e3249e8f7fa9862ccaada9d4853e26d"
    ),
    (
        "d634b06d16f867cf64f861836e51139c650a8bd79b7b3c4a34ee1a69724089370cced3c6eb2bded22551288e7f353391"
        "00c75cffd41f656f727f3f402d8bc49b7911c76b58c807f65123322bb24f84e96e53474904be35d25ea55a3f573fb25c"
        "12265a00e9ac5ef72e398175ca9560d6c60f9b889f8a545b9984e7095c297b71"
    ),
)
_RSA_LEAF = (
    (
        "f8c810d6806579fc882a2cf664b662f0574cee4d6ada76b47f3d21d4e55227e917784497d01aa10fc67d6f54372f1464"
        "adbb5e70e2b11cef6a052694e46577f4349433fffb73fce5ba47cf735e5c6c81d24b540bf0988e8610a7a0e08974d7a2"
        "c477098a4f5c2b86260d1286e83a5c1a018879649088adfc40906c48b61bbc1f"
    ),
    (
        "c872989095ace661a3f8280ea23985700d2efd88e6a3f89bb9fc40d16836fbf929a86f4a26c3f2c66a4ad0ddb0d551cd"
        "a60ddaa75ee29776717e088c7dcb0cc0753fc6991707be4cd330c940f348a6a2f01ab5ca573bc3458cf87a658737febd"
        "d5812b892a8d2a0077b5bc48632d6d550086734dd1c532b960b95d052c8087db"
    ),
)


def _rsa(primes: tuple[str, str]) -> rsa.RSAPrivateKey:
    p, q = (int(text, 16) for text in primes)
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPublicNumbers(e, p * q)
    private = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), numbers
    )
    return private.private_key()


@cache
def key(kind: str, name: str) -> PrivateKey:
    """A key for `name`, always the same one. There are only two of RSA: `root`'s and everybody else's."""
    if kind == "rsa2048":
        return _rsa(_RSA_ROOT if name == "root" else _RSA_LEAF)
    return make_key(KeyKind(kind), lambda count: hashlib.shake_256(f"{kind}/{name}".encode()).digest(count))


@frozen
class Leaf:
    key: PrivateKey = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)

    @property
    def der(self) -> bytes:
        return self.chain[0]

    @property
    def serial(self) -> int:
        return parse_certificate(self.der).serial

    def credential(self, method: AuthMethod = AuthMethod.SIGNATURE) -> SignatureCredential:
        return SignatureCredential(self.key, self.chain, method)


@define
class World:
    """A root, an intermediate CA below it, and what they issue. Serials count up from 1."""

    kind: str = "ed25519"
    """Of the CAs' keys. Ed25519 and RSA sign the same octets the same way every time, ECDSA does not."""
    name: str = "root"
    constraints: dict[str, Any] = field(factory=dict)
    """Of the intermediate CA: permitted=, excluded=, path_length=."""
    serial: int = 0
    root: Authority = field(init=False)
    intermediate: Authority = field(init=False)

    def __attrs_post_init__(self) -> None:
        subject = parse_dn(f"cn=Test {self.name} CA,o=Cisco")
        self.root = create_root(subject, key(self.kind, self.name), self._next(), NOW, days=3650)
        self.intermediate = self.authority("Intermediate", **self.constraints)

    def _next(self) -> int:
        self.serial += 1
        return self.serial

    def authority(self, name: str, of: Authority | None = None, **extra: Any) -> Authority:
        """A CA below `of` (the root)."""
        above = of or self.root
        private = key(self.kind, f"{self.name}/{name}")
        request = Request(parse_dn(f"cn=Test {name} CA,o=Cisco"), ca=True, days=1825, **extra)
        # Issued without its root; an authority has it.
        chain = issue(above, private.public_key(), request, self._next(), NOW)
        return Authority(private, (*chain, above.chain[-1]))

    def leaf(
        self, dn: str, kind: str = "ec256", *, of: Authority | None = None, when: float = NOW, **extra: Any
    ) -> Leaf:
        """A certificate of the intermediate CA (or of `of`), made at `when`. `extra`: fields of Request."""
        private = key(kind, dn)
        extra = {"subject": parse_dn(dn), **extra}
        return Leaf(private, issue(of or self.intermediate, private.public_key(), Request(**extra), self._next(), when))

    def crls(self, revoked: Iterable[int] = (), *, when: float = NOW, days: float = 30.0) -> tuple[bytes, ...]:
        """DER of a CRL of the root and one of the intermediate, both with these serials."""
        serials = dict.fromkeys(revoked, when)
        return tuple(make_crl(one, serials, 1, when, days=days) for one in (self.root, self.intermediate))

    def store(
        self,
        revoked: Iterable[int] = (),
        *,
        revocation: tuple[str, ...] = ("crl", "none"),
        crls: tuple[bytes, ...] | None = None,
    ) -> TrustStore:
        lists = self.crls(revoked) if crls is None else crls
        anchor = Anchor(parse_certificate(self.root.chain[-1]), "CA", revocation)
        return TrustStore((anchor,), crls=tuple(parse_crl(one) for one in lists))


def forge(
    subject: str,
    key: PrivateKey,
    issuer: str,
    signer: PrivateKey,
    *extensions: tuple[x509.ExtensionType, bool],
    serial: int = 99,
    start: float = NOW - DAY,
    end: float = NOW + DAY,
    algorithm: hashes.HashAlgorithm | None = None,
) -> bytes:
    """DER of whatever certificate one likes, also one that no authority should issue. `extensions`: with criticality."""
    builder = x509.CertificateBuilder(
        issuer_name=parse_dn(issuer),
        subject_name=parse_dn(subject),
        public_key=key.public_key(),
        serial_number=serial,
        not_valid_before=datetime.fromtimestamp(start, UTC),
        not_valid_after=datetime.fromtimestamp(end, UTC),
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, algorithm).public_bytes(Encoding.DER)


_WORLD = World()
LEAVES = {
    kind: _WORLD.leaf(
        "cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco",
        kind,
        fqdns=("R3-Spoke.cisco.com",),
        emails=("r3@cisco.com",),
        addresses=(bytes([10, 0, 0, 3]),),
    )
    for kind in KINDS
}
"""By kind of key: all are R3-spoke.cisco.com, r3@cisco.com, 10.0.0.3, CN=R3-spoke.cisco.com,OU=FLEX,O=Cisco."""
HUB = {
    kind: _WORLD.leaf(
        "cn=R1-hub.cisco.com,ou=FLEX,o=Cisco", kind, fqdns=("R1-Hub.cisco.com",), addresses=(bytes([10, 0, 0, 1]),)
    )
    for kind in KINDS
}
"""As LEAVES, for another node: R1-hub.cisco.com, 10.0.0.1. Its RSA key is the same."""
revoked = _WORLD.leaf("cn=R9-spoke.cisco.com,ou=FLEX,o=Cisco", fqdns=("R9-spoke.cisco.com",))
expired = _WORLD.leaf(
    "cn=R8-spoke.cisco.com,ou=FLEX,o=Cisco", fqdns=("R8-spoke.cisco.com",), when=NOW - 100 * DAY, days=99.0
)
crl = _WORLD.crls((revoked.serial,))


def store(revocation: tuple[str, ...] = ("crl", "none")) -> TrustStore:
    """Trusts the root of LEAVES; its CRLs revoke `revoked`."""
    return _WORLD.store(revocation=revocation, crls=crl)


def trust(methods: frozenset[AuthMethod] = SIGNING, *, bind: bool = True, psk: bytes | None = None) -> Trust:
    return Trust(methods, psk, store(), bind)
