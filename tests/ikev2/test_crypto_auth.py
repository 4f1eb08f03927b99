"""AUTH: what is signed, each method with each key, and forgeries."""

from __future__ import annotations

import hashlib
import hmac
from functools import cache

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from ikev2.crypto.auth import (
    IDENTITY,
    OUR_HASHES,
    SHA1,
    SHA2_256,
    SHA2_384,
    SHA2_512,
    AuthError,
    AuthReason,
    PrivateKey,
    algorithm_name,
    check_public_key,
    our_hashes,
    psk_auth,
    sign,
    signed_octets,
    verify,
    verify_psk,
)
from ikev2.crypto.suites import Prf
from ikev2.wire.payloads import Auth

OCTETS = b"what the peer signs"
ALL = our_hashes(sha1=True)

RSA_256 = "300d06092a864886f70d01010b0500"
PSS_256 = (  # RFC 7427 A.4.3 without the trailer field
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
)
PSS_256_TRAILER = (  # RFC 7427 A.4.3 as printed
    "304606092a864886f70d01010a3039a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120a303020101"
)
ECDSA_256 = "300a06082a8648ce3d040302"
ED25519 = "300506032b6570"


@cache
def key(name: str) -> PrivateKey:
    curves = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1, "p224": ec.SECP224R1}
    name, _, _ = name.partition("-")
    if name.startswith("rsa"):
        return rsa.generate_private_key(65537, int(name[3:]))
    if name in curves:
        return ec.generate_private_key(curves[name]())
    return Ed25519PrivateKey.generate()


def method14(identifier: str, signature: bytes) -> Auth:
    octets = bytes.fromhex(identifier)
    return Auth(14, bytes([len(octets)]) + octets + signature)


def refuses(reason: AuthReason | None, name: str, auth: Auth, octets: bytes = OCTETS, **options) -> None:
    with pytest.raises(AuthError) as caught:
        verify(key(name).public_key(), auth, octets, **options)
    if reason is not None:
        assert caught.value.reason is reason


# --- what is signed -------------------------------------------------------------------------------------------------------


def test_rfc7296_2_15_signed_octets() -> None:
    sk_p, body = bytes(32), b"\x02\0\0\0spoke1.example.com"
    expected = b"message" + b"nonce" + hmac.new(sk_p, body, hashlib.sha256).digest()
    assert signed_octets(b"message", b"nonce", Prf.HMAC_SHA2_256, sk_p, body) == expected
    assert signed_octets(b"message", b"nonce", Prf.HMAC_SHA2_256, sk_p, body, b"int") == expected + b"int"


def test_rfc7296_2_15_pre_shared_key() -> None:
    pad = hmac.new(b"secret", b"Key Pad for IKEv2", hashlib.sha384).digest()
    auth = psk_auth(Prf.HMAC_SHA2_384, b"secret", OCTETS)
    assert auth == Auth(2, hmac.new(pad, OCTETS, hashlib.sha384).digest())
    verify_psk(Prf.HMAC_SHA2_384, b"secret", auth, OCTETS)


@pytest.mark.parametrize(
    ("psk", "auth", "octets", "reason"),
    [
        (b"secret", psk_auth(Prf.HMAC_SHA2_256, b"other", OCTETS), OCTETS, AuthReason.WRONG_PSK),
        (b"secret", psk_auth(Prf.HMAC_SHA2_256, b"secret", OCTETS), b"other", AuthReason.WRONG_PSK),
        (b"secret", psk_auth(Prf.HMAC_SHA2_384, b"secret", OCTETS), OCTETS, AuthReason.WRONG_PSK),
        (b"secret", Auth(2, b""), OCTETS, AuthReason.WRONG_PSK),
        (b"secret", Auth(2, psk_auth(Prf.HMAC_SHA2_256, b"secret", OCTETS).octets[:-1]), OCTETS, AuthReason.WRONG_PSK),
        (b"secret", Auth(1, psk_auth(Prf.HMAC_SHA2_256, b"secret", OCTETS).octets), OCTETS, AuthReason.METHOD),
        (b"secret", Auth(13, psk_auth(Prf.HMAC_SHA2_256, b"secret", OCTETS).octets), OCTETS, AuthReason.METHOD),
        (b"", Auth(2, bytes(32)), OCTETS, AuthReason.NO_PSK),
    ],
)
def test_I09_pre_shared_key_that_is_wrong(psk: bytes, auth: Auth, octets: bytes, reason: AuthReason) -> None:
    with pytest.raises(AuthError) as caught:
        verify_psk(Prf.HMAC_SHA2_256, psk, auth, octets)
    assert caught.value.reason is reason
    assert "secret" not in str(caught.value)


def test_an_empty_pre_shared_key_proves_nothing() -> None:
    with pytest.raises(AuthError):
        psk_auth(Prf.HMAC_SHA2_256, b"", OCTETS)


# --- each method with each key --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "peer_hashes", "options", "method", "algorithm"),
    [
        ("rsa2048", None, {}, 1, "RSA"),
        ("rsa2048", frozenset(), {}, 1, "RSA"),
        ("rsa2048", frozenset({SHA1}), {}, 1, "RSA"),
        ("rsa2048", OUR_HASHES, {}, 14, "RSASSA-PKCS1-v1_5 with SHA256"),
        ("rsa2048", frozenset({SHA2_384}), {}, 14, "RSASSA-PKCS1-v1_5 with SHA384"),
        ("rsa2048", frozenset({SHA2_512, SHA1}), {}, 14, "RSASSA-PKCS1-v1_5 with SHA512"),
        ("rsa2048", OUR_HASHES, {"pss": True}, 14, "RSASSA-PSS with SHA256"),
        ("rsa2048", frozenset({SHA2_384}), {"pss": True}, 14, "RSASSA-PSS with SHA384"),
        ("rsa2048", frozenset({SHA2_512}), {"pss": True}, 14, "RSASSA-PSS with SHA512"),
        ("rsa4096", OUR_HASHES, {}, 14, "RSASSA-PKCS1-v1_5 with SHA384"),
        ("p256", None, {}, 9, "ECDSA P-256"),
        ("p384", None, {}, 10, "ECDSA P-384"),
        ("p521", None, {}, 11, "ECDSA P-521"),
        ("p256", OUR_HASHES, {}, 14, "ECDSA with SHA256"),
        ("p256", frozenset({SHA2_512, SHA2_384}), {}, 14, "ECDSA with SHA384"),
        ("p384", OUR_HASHES, {}, 14, "ECDSA with SHA384"),
        ("p384", frozenset({SHA2_256}), {}, 14, "ECDSA with SHA256"),
        ("p521", OUR_HASHES, {}, 14, "ECDSA with SHA512"),
        ("ed25519", OUR_HASHES, {}, 14, "Ed25519"),
    ],
)
def test_sign_and_verify(name, peer_hashes, options, method: int, algorithm: str) -> None:
    auth = sign(key(name), OCTETS, peer_hashes=peer_hashes, **options)
    assert (auth.method, algorithm_name(auth)) == (method, algorithm)
    verify(key(name).public_key(), auth, OCTETS)
    refuses(AuthReason.WRONG, name, auth, OCTETS + b"\0")
    refuses(None, name, Auth(auth.method, auth.octets[:-1]))
    refuses(None, name, Auth(auth.method, auth.octets + b"\0"))
    refuses(None, name, Auth(auth.method, b""))
    refuses(AuthReason.WRONG, name + "-other", auth)


@pytest.mark.parametrize(
    ("name", "options", "identifier"),
    [("rsa2048", {}, RSA_256), ("rsa2048", {"pss": True}, PSS_256), ("p256", {}, ECDSA_256), ("ed25519", {}, ED25519)],
)
def test_rfc7427_a_algorithm_identifiers(name: str, options: dict, identifier: str) -> None:
    octets = bytes.fromhex(identifier)
    auth = sign(key(name), OCTETS, peer_hashes=OUR_HASHES, **options)
    assert auth.octets[: 1 + len(octets)] == bytes([len(octets)]) + octets


def test_rfc7427_a_4_3_pss_with_its_trailer_written() -> None:
    signature = key("rsa2048").sign(OCTETS, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    verify(key("rsa2048").public_key(), method14(PSS_256_TRAILER, signature), OCTETS)
    verify(key("rsa2048").public_key(), method14(PSS_256, signature), OCTETS)


def test_rfc4055_parameters_that_are_absent_are_taken() -> None:
    signature = key("rsa2048").sign(OCTETS, padding.PKCS1v15(), hashes.SHA256())
    verify(key("rsa2048").public_key(), method14("300b06092a864886f70d01010b", signature), OCTETS)


@pytest.mark.parametrize(("name", "size"), [("p256", 32), ("p384", 48), ("p521", 66)])
def test_rfc4754_7_r_and_s_have_fixed_lengths(name: str, size: int) -> None:
    for _ in range(20):
        assert len(sign(key(name), OCTETS, peer_hashes=None).octets) == 2 * size
    hash_of = {32: hashes.SHA256(), 48: hashes.SHA384(), 66: hashes.SHA512()}[size]
    r, s = decode_dss_signature(key(name).sign(OCTETS, ec.ECDSA(hash_of)))
    method = {32: 9, 48: 10, 66: 11}[size]
    verify(key(name).public_key(), Auth(method, r.to_bytes(size) + s.to_bytes(size)), OCTETS)
    for zero in (bytes(2 * size), bytes(size) + s.to_bytes(size), r.to_bytes(size) + bytes(size), b"\xff" * 2 * size):
        refuses(AuthReason.WRONG, name, Auth(method, zero))


@pytest.mark.parametrize("number", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_rfc7296_3_8_method_1_with_any_sha2(number: hashes.HashAlgorithm) -> None:
    auth = Auth(1, key("rsa2048").sign(OCTETS, padding.PKCS1v15(), number))
    verify(key("rsa2048").public_key(), auth, OCTETS)


def test_sha1_is_for_the_switch_to_allow() -> None:
    legacy = sign(key("rsa2048"), OCTETS, peer_hashes=None, legacy=True)
    key("rsa2048").public_key().verify(legacy.octets, OCTETS, padding.PKCS1v15(), hashes.SHA1())
    verify(key("rsa2048").public_key(), legacy, OCTETS, sha1=True)
    refuses(AuthReason.OLD_HASH, "rsa2048", legacy)
    refuses(AuthReason.WRONG, "rsa2048", Auth(1, legacy.octets[:-1] + bytes((legacy.octets[-1] ^ 1,))))
    without = sign(key("rsa2048"), OCTETS, peer_hashes=None)
    key("rsa2048").public_key().verify(without.octets, OCTETS, padding.PKCS1v15(), hashes.SHA256())

    by_14 = method14("300d06092a864886f70d0101050500", legacy.octets)
    verify(key("rsa2048").public_key(), by_14, OCTETS, our_hashes=ALL, sha1=True)
    refuses(AuthReason.HASH, "rsa2048", by_14, our_hashes=ALL)
    refuses(AuthReason.HASH, "rsa2048", by_14, our_hashes=OUR_HASHES, sha1=True)
    assert SHA1 not in our_hashes()


def test_rfc7427_4_a_hash_that_we_did_not_announce() -> None:
    auth = sign(key("rsa2048"), OCTETS, peer_hashes=frozenset({SHA2_512}))
    verify(key("rsa2048").public_key(), auth, OCTETS, our_hashes=frozenset({SHA2_512}))
    refuses(AuthReason.HASH, "rsa2048", auth, our_hashes=frozenset({SHA2_256, IDENTITY}))
    refuses(AuthReason.HASH, "rsa2048", auth, our_hashes=frozenset())


def test_rfc8420_ed25519_needs_the_identity_hash() -> None:
    for announced in (None, frozenset(), frozenset({SHA2_256, SHA2_384, SHA2_512})):
        with pytest.raises(AuthError) as caught:
            sign(key("ed25519"), OCTETS, peer_hashes=announced)
        assert caught.value.reason is AuthReason.NO_METHOD


# --- keys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "fits"), [(1024, False), (2047, False), (2048, True), (8192, True), (8193, False), (16384, False)]
)
def test_I10_rsa_sizes(bits: int, fits: bool) -> None:
    public = rsa.RSAPublicNumbers(65537, (1 << bits - 1) + 1).public_key()
    auth = method14(RSA_256, bytes((bits + 7) // 8))
    if fits:
        assert check_public_key(public) is public
    with pytest.raises(AuthError) as caught:
        verify(public, auth, OCTETS)
    assert (caught.value.reason is AuthReason.KEY) is not fits


def test_I10_rsa_exponents() -> None:
    for exponent, fits in ((3, True), (2**32 + 1, True), (2**33 + 1, False), (2**2000 + 1, False)):
        public = rsa.RSAPublicNumbers(exponent, (1 << 2047) + 1).public_key()
        if fits:
            assert check_public_key(public) is public
        else:
            with pytest.raises(AuthError):
                check_public_key(public)


def test_other_kinds_of_key_are_refused() -> None:
    for public in (key("p224").public_key(), ed448.Ed448PrivateKey.generate().public_key(), None, b"key"):
        with pytest.raises(AuthError) as caught:
            check_public_key(public)
        assert caught.value.reason is AuthReason.KEY
    for private in (key("p224"), key("rsa1024"), ed448.Ed448PrivateKey.generate()):
        with pytest.raises(AuthError) as caught:
            sign(private, OCTETS, peer_hashes=OUR_HASHES)
        assert caught.value.reason is AuthReason.KEY


@pytest.mark.parametrize("method", [0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 255])
@pytest.mark.parametrize("name", ["rsa2048", "p256", "p384", "p521", "ed25519"])
def test_a_method_that_does_not_go_with_the_key(name: str, method: int) -> None:
    signatures = {n: sign(key(n), OCTETS, peer_hashes=OUR_HASHES).octets for n in ("rsa2048", "p256", "ed25519")}
    for octets in (*signatures.values(), bytes(64), bytes(256)):
        if method == 14 and octets == signatures.get(name):
            verify(key(name).public_key(), Auth(method, octets), OCTETS)
        else:
            refuses(None, name, Auth(method, octets))


# --- forgeries ------------------------------------------------------------------------------------------------------------

DIGEST = hashlib.sha256(OCTETS).digest()
PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


def raw_rsa(name: str, block: bytes) -> bytes:
    """The private operation on a block of our making: what a careless verifier could be made to take."""
    numbers = key(name).private_numbers()
    n = numbers.public_numbers.n
    return pow(int.from_bytes(block), numbers.d, n).to_bytes((n.bit_length() + 7) // 8)


def padded(content: bytes, size: int = 256) -> bytes:
    return b"\0\x01" + b"\xff" * (size - 3 - len(content)) + b"\0" + content


BLOCKS = {
    "good": padded(PREFIX + DIGEST),
    "garbage after the hash": b"\0\x01" + b"\xff" * 8 + b"\0" + (PREFIX + DIGEST).ljust(256 - 11, b"\xaa"),
    "one octet after the hash": padded(PREFIX + DIGEST + b"\0"),
    # CVE-2018-16151: an OID longer than it should be; CVE-2018-16152: parameters that are not NULL
    "garbage after the hash OID": padded(
        bytes.fromhex("3035301106096086480165030402010500") + b"\xde\xad\xbe\xef" + bytes.fromhex("0420") + DIGEST
    ),
    "parameters that are garbage": padded(
        bytes.fromhex("3035301106096086480165030402010404") + b"\xde\xad\xbe\xef" + bytes.fromhex("0420") + DIGEST
    ),
    "OID with a tail": padded(bytes.fromhex("3032300e060a6086480165030402010105000420") + DIGEST),
    "truncated hash": padded(bytes.fromhex("3030300d06096086480165030402010500041f") + DIGEST[:-1]),
    "oversize hash": padded(bytes.fromhex("3032300d060960864801650304020105000421") + DIGEST + b"\0"),
    "empty hash": padded(bytes.fromhex("3011300d060960864801650304020105000400")),
    "hash alone": padded(DIGEST),
    "another hash's OID": padded(bytes.fromhex("3031300d060960864801650304020205000420") + DIGEST),
    "MD5": padded(bytes.fromhex("3020300c06082a864886f70d020505000410") + hashlib.md5(OCTETS).digest()),
    "short padding": (b"\0\x01" + b"\xff" * 7 + b"\0" + PREFIX + DIGEST).ljust(256, b"\0"),
    "block type 2": padded(PREFIX + DIGEST).replace(b"\0\x01", b"\0\x02", 1),
    "padding that is not FF": padded(PREFIX + DIGEST).replace(b"\xff\xff", b"\xff\xfe", 1),
}


@pytest.mark.parametrize("what", [name for name in BLOCKS if name != "good"])
def test_I08_pkcs1_block(what: str) -> None:
    assert len(BLOCKS[what]) == 256
    signature = raw_rsa("rsa2048", BLOCKS[what])
    refuses(AuthReason.WRONG, "rsa2048", method14(RSA_256, signature), our_hashes=ALL, sha1=True)
    refuses(AuthReason.WRONG, "rsa2048", Auth(1, signature), sha1=True)


def test_I08_the_good_block_is_good() -> None:
    signature = raw_rsa("rsa2048", BLOCKS["good"])
    verify(key("rsa2048").public_key(), method14(RSA_256, signature), OCTETS)
    verify(key("rsa2048").public_key(), Auth(1, signature), OCTETS)


@pytest.mark.parametrize(
    "identifier",
    [
        RSA_256 + "00",  # garbage after it
        "300f06092a864886f70d01010b05000000",  # garbage inside
        "300d06092a864886f70d01010b0501",  # a NULL that is not one
        "300d06092a864886f70d01010b0400",  # not even the tag of one
        "30810d06092a864886f70d01010b0500",  # BER's long length
        "308006092a864886f70d01010b05000000",  # BER's indefinite length
        "300e060a2a864886f70d01010b010500",  # an OID with a tail
        "300d06092a864886f70d0101040500",  # MD5 with RSA
        "300d06092a864886f70d01010e0500",  # SHA-224 with RSA
        "300d06092a864886f70d0101010500",  # bare RSA
        "300c06082a8648ce3d0403020500",  # ECDSA's has no parameters
        "300906072a8648ce3d0401",  # ECDSA with SHA-1
        "300d06092a864886f70d01010a3000",  # RFC 7427 A.4.2: PSS by default is SHA-1
        PSS_256[:-2] + "00",  # no salt
        PSS_256[:-2] + "14",  # SHA-1's salt
        PSS_256[:-2] + "7f",
        "304206092a864886f70d01010a3035" + PSS_256[30:-10] + "a204020200ff",
        "304306092a864886f70d01010a3036" + PSS_256[30:-10] + "a2050203ffffff",  # CVE-2021-41990's huge salt
        "304306092a864886f70d01010a3036" + PSS_256[30:-10] + "a20502037fffff",
        PSS_256.replace("0402010500a2", "0402020500a2"),  # MGF1 with another hash
        PSS_256_TRAILER[:-2] + "02",
        "300506032b6571",  # Ed448
        "30",
        "3000",
        "00",
    ],
)
def test_I08_algorithm_identifiers_that_are_not_in_the_table(identifier: str) -> None:
    pkcs1 = key("rsa2048").sign(OCTETS, padding.PKCS1v15(), hashes.SHA256())
    pss = key("rsa2048").sign(OCTETS, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    for signature in (pkcs1, pss):
        refuses(AuthReason.ALGORITHM, "rsa2048", method14(identifier, signature), our_hashes=ALL, sha1=True)
    refuses(AuthReason.ALGORITHM, "p256", method14(identifier, bytes(70)), our_hashes=ALL, sha1=True)


@pytest.mark.parametrize("salt", [0, 20, 31, 33, 64, padding.PSS.MAX_LENGTH])
def test_I08_pss_salt_of_another_length(salt: int) -> None:
    signature = key("rsa2048").sign(OCTETS, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())
    refuses(AuthReason.WRONG, "rsa2048", method14(PSS_256, signature))


def test_I08_pss_is_not_pkcs1() -> None:
    pkcs1 = key("rsa2048").sign(OCTETS, padding.PKCS1v15(), hashes.SHA256())
    pss = key("rsa2048").sign(OCTETS, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    refuses(AuthReason.WRONG, "rsa2048", method14(PSS_256, pkcs1))
    refuses(AuthReason.WRONG, "rsa2048", method14(RSA_256, pss))


def test_I08_length_octet_of_the_algorithm_identifier() -> None:
    good = sign(key("rsa2048"), OCTETS, peer_hashes=OUR_HASHES).octets
    for length in (0, 1, 14, 16, 255):
        refuses(None, "rsa2048", Auth(14, bytes([length]) + good[1:]))
    for end in range(len(bytes.fromhex(RSA_256)) + 2):
        refuses(AuthReason.FORM, "rsa2048", Auth(14, good[:end]))


def test_I08_rsa_signature_not_below_the_modulus() -> None:
    public = key("rsa2048").public_key()
    n = public.public_numbers().n
    signature = int.from_bytes(key("rsa2048").sign(OCTETS, padding.PKCS1v15(), hashes.SHA256()))
    if signature + n < 1 << 2048:
        refuses(AuthReason.WRONG, "rsa2048", Auth(1, (signature + n).to_bytes(256)))
    for value in (0, 1, n - 1, n):
        refuses(AuthReason.WRONG, "rsa2048", Auth(1, value.to_bytes(256)), sha1=True)
    refuses(AuthReason.FORM, "rsa2048", Auth(1, b"\0" + signature.to_bytes(256)))


def test_I08_ecdsa_der_has_one_form() -> None:
    der = key("p256").sign(OCTETS, ec.ECDSA(hashes.SHA256()))
    verify(key("p256").public_key(), method14(ECDSA_256, der), OCTETS)
    long_form = bytes([0x30, 0x81, der[1]]) + der[2:]
    for bad in (der + b"\0", long_form, der[:-1], b"\x30\0", b"\x31" + der[1:]):
        refuses(AuthReason.WRONG, "p256", method14(ECDSA_256, bad))


def test_I08_a_key_of_the_same_kind_but_not_the_peers() -> None:
    for name in ("rsa2048", "p256", "p384", "p521", "ed25519"):
        for announced in (None, OUR_HASHES):
            if name == "ed25519" and announced is None:
                continue
            refuses(AuthReason.WRONG, name, sign(key(name + "-other"), OCTETS, peer_hashes=announced))


_IDENTIFIERS = [bytes.fromhex(each) for each in (RSA_256, PSS_256, PSS_256_TRAILER, ECDSA_256, ED25519)]


@settings(deadline=None)
@given(
    st.sampled_from(["rsa2048", "p256", "p384", "p521", "ed25519"]),
    st.sampled_from([1, 2, 9, 10, 11, 13, 14, 14, 14]),
    st.one_of(
        st.binary(max_size=300),
        st.binary(min_size=256, max_size=256),
        st.builds(lambda i, s: bytes([len(i)]) + i + s, st.sampled_from(_IDENTIFIERS), st.binary(max_size=256)),
        st.builds(
            lambda i, s: bytes([len(i)]) + i + s, st.sampled_from(_IDENTIFIERS), st.binary(min_size=256, max_size=256)
        ),
    ),
)
def test_I08_any_octets_are_refused_by_one_typed_error(name: str, method: int, octets: bytes) -> None:
    refuses(None, name, Auth(method, octets), our_hashes=ALL, sha1=True)
    assert isinstance(algorithm_name(Auth(method, octets)), str)
