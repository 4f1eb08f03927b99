"""How a peer proves itself: which method is allowed, with which certificate, as which identity (fault rows I08, I09)."""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_address

import pytest
from attrs import evolve
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ikev2.config import AuthMethod
from ikev2.crypto.auth import OUR_HASHES, sign
from ikev2.pki.certificate import parse_certificate
from ikev2.pki.credentials import AuthError, PeerCertificate, PskCredential, SignatureCredential, Trust
from ikev2.pki.names import dn_der, parse_dn
from ikev2.wire.payloads import Auth, Identity
from tests.ikev2 import pki
from tests.ikev2.pki import LEAVES, NOW, SIGNING, World, key, trust

OCTETS = b"the first message, the other's nonce, and a prf of the identity"
R3 = Identity(2, b"R3-spoke.cisco.com")
PSK = b"cisco123"


def psk_auth(secret: bytes) -> bytes:
    """Stands for prf(prf(key, "Key Pad for IKEv2"), octets)."""
    return hmac.digest(secret, OCTETS, hashlib.sha256)


def prove(
    how: Trust,
    auth: Auth,
    certificates: tuple[bytes, ...] = (),
    identity: Identity = R3,
    octets: bytes = OCTETS,
    when: float = NOW,
    hashes: frozenset[int] = OUR_HASHES,
) -> PeerCertificate | None:
    return how.verify(auth, octets, certificates, identity, when, psk_auth=psk_auth, hashes=hashes)


def refused(words: str, *arguments: object, **named: object) -> None:
    with pytest.raises(AuthError, match=words):
        prove(*arguments, **named)  # type: ignore


def signed(kind: str, hashes: frozenset[int] | None = OUR_HASHES) -> Auth:
    return sign(LEAVES[kind].key, OCTETS, peer_hashes=hashes)


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", pki.KINDS)
def test_a_peer_proves_itself_by_each_kind_of_key(kind: str) -> None:
    found = prove(trust(), signed(kind), LEAVES[kind].chain)
    assert found is not None
    assert found.octets == LEAVES[kind].der


@pytest.mark.parametrize(
    ("method", "kind", "hashes", "holds"),
    [
        # RSA method 1 and RFC 7427 both count as rsa-sig, but only the latter as digital-signature; ECDSA likewise.
        (AuthMethod.RSA_SIG, "rsa2048", None, True),
        (AuthMethod.RSA_SIG, "rsa2048", OUR_HASHES, True),
        (AuthMethod.RSA_SIG, "ec256", OUR_HASHES, False),
        (AuthMethod.RSA_SIG, "ed25519", OUR_HASHES, False),
        (AuthMethod.ECDSA_SIG, "ec256", None, True),
        (AuthMethod.ECDSA_SIG, "ec384", OUR_HASHES, True),
        (AuthMethod.ECDSA_SIG, "rsa2048", OUR_HASHES, False),
        (AuthMethod.SIGNATURE, "rsa2048", OUR_HASHES, True),
        (AuthMethod.SIGNATURE, "ed25519", OUR_HASHES, True),
        (AuthMethod.SIGNATURE, "rsa2048", None, False),
        (AuthMethod.SIGNATURE, "ec256", None, False),
    ],
)
def test_only_the_configured_method_counts(
    method: AuthMethod, kind: str, hashes: frozenset[int] | None, holds: bool
) -> None:
    how, auth = trust(frozenset({method})), signed(kind, hashes)
    if holds:
        assert prove(how, auth, LEAVES[kind].chain)
    else:
        refused(f"is not among: {method.value}", how, auth, LEAVES[kind].chain)


@pytest.mark.parametrize("kind", pki.KINDS)
@pytest.mark.parametrize("hashes", [OUR_HASHES, None], ids=["rfc7427", "old"])
def test_I08_a_signature_with_anything_about_it_changed(kind: str, hashes: frozenset[int] | None) -> None:
    if kind == "ed25519" and hashes is None:
        hashes = OUR_HASHES
    auth, chain = signed(kind, hashes), LEAVES[kind].chain
    assert prove(trust(), auth, chain)
    for octets in (
        auth.octets + b"\0",
        auth.octets[:-1],
        b"",
        auth.octets[:1],
        b"\0" + auth.octets[1:],
        b"\xff" + auth.octets[1:],
        auth.octets * 9,
        bytes([*auth.octets[:-1], auth.octets[-1] ^ 1]),
    ):
        refused("the AUTH payload with the certificate", trust(), evolve(auth, octets=octets), chain)
    refused("the AUTH payload", trust(), auth, chain, octets=OCTETS + b"x")


@pytest.mark.parametrize("kind", pki.KINDS)
def test_I08_the_signature_of_another_key(kind: str) -> None:
    auth = sign(pki.key(kind, "root"), OCTETS, peer_hashes=OUR_HASHES)
    refused("the AUTH payload with the certificate", trust(), auth, LEAVES[kind].chain)


def test_I08_a_hash_that_we_did_not_ask_for() -> None:
    refused("the AUTH payload", trust(), signed("rsa2048"), LEAVES["rsa2048"].chain, hashes=frozenset({5}))


@given(method=st.integers(0, 255), octets=st.binary(max_size=80), kind=st.sampled_from(pki.KINDS))
def test_I08_any_auth_payload_is_refused_in_one_way(method: int, octets: bytes, kind: str) -> None:
    for how in (trust(), trust(frozenset(AuthMethod), psk=PSK), Trust(frozenset())):
        with pytest.raises(AuthError):
            prove(how, Auth(method, octets), LEAVES[kind].chain)


@given(certificates=st.lists(st.binary(max_size=60), max_size=3), octets=st.binary(max_size=40))
def test_any_certificates_and_identity_are_refused_in_one_way(certificates: list[bytes], octets: bytes) -> None:
    for kind in (1, 2, 3, 5, 9, 11, 200):
        with pytest.raises(AuthError):
            prove(trust(), signed("ed25519"), tuple(certificates), Identity(kind, octets))


def test_a_chain_that_does_not_hold_is_an_auth_error() -> None:
    for leaf, words in ((pki.revoked, "is revoked"), (pki.expired, "has expired")):
        refused(words, trust(), sign(leaf.key, OCTETS, peer_hashes=OUR_HASHES), leaf.chain)
    refused("nobody that is trusted", trust(), signed("ec256"), LEAVES["ec256"].chain[:1])
    refused("has sent no certificate", trust(), signed("ec256"), ())
    refused("no certificate that can be read", trust(), signed("ec256"), (b"0",))


def test_I09_what_a_peer_sends_stays_on_one_line_of_the_log() -> None:
    leaf = World().leaf("cn=R3", fqdns=("x.y",), subject=parse_dn("cn=R3\n\x1b[2JR4,o=a"))
    with pytest.raises(AuthError) as caught:
        prove(trust(), sign(leaf.key, OCTETS, peer_hashes=OUR_HASHES), leaf.chain)
    assert caught.value.reason.isprintable()


# --- pre-shared keys --------------------------------------------------------------------------------------------------

BY_PSK = Trust(frozenset({AuthMethod.PSK}), PSK)


def test_a_peer_proves_itself_by_a_pre_shared_key() -> None:
    assert prove(BY_PSK, Auth(2, psk_auth(PSK))) is None
    refused("the pre-shared keys differ", BY_PSK, Auth(2, psk_auth(b"cisco124")))
    for octets in (b"", psk_auth(PSK)[:-1], psk_auth(PSK) + b"\0"):
        refused("the pre-shared keys differ", BY_PSK, Auth(2, octets))


def test_a_psk_peer_and_a_certificate_peer_are_not_exchangeable() -> None:
    refused("must by a pre-shared key", BY_PSK, signed("ec256"), LEAVES["ec256"].chain)
    refused("must by a signature", trust(psk=PSK), Auth(2, psk_auth(PSK)))
    both = trust(SIGNING | {AuthMethod.PSK}, psk=PSK)
    assert prove(both, Auth(2, psk_auth(PSK))) is None
    assert prove(both, signed("ec256"), LEAVES["ec256"].chain)


@pytest.mark.parametrize("psk", [None, b""])
def test_I09_an_absent_or_empty_key_lets_nobody_in(psk: bytes | None) -> None:
    how = Trust(frozenset({AuthMethod.PSK}), psk)
    for octets in (b"", psk_auth(b""), bytes(32)):
        refused("there is no pre-shared key", how, Auth(2, octets))


# --- identities -------------------------------------------------------------------------------------------------------


def dn(text: str) -> Identity:
    return Identity(9, dn_der(parse_dn(text)))


STANDS = [
    (Identity(2, b"R3-Spoke.cisco.com"), True),
    (Identity(2, b"r3-spoke.CISCO.com"), True),
    (Identity(2, b"R4-spoke.cisco.com"), False),
    (Identity(2, b"cisco.com"), False),
    (Identity(2, b"R3-spoke.cisco.com\0.evil.org"), False),
    (Identity(2, b"R3-spoke.cisco.com "), False),
    (Identity(2, b"*.cisco.com"), False),
    (Identity(2, "r3-\u017fpoke.cisco.com".encode()), False),
    (Identity(3, b"r3@CISCO.com"), True),
    (Identity(3, b"R3@cisco.com"), False),
    (Identity(3, b"R3-Spoke.cisco.com"), False),
    (Identity(1, bytes([10, 0, 0, 3])), True),
    (Identity(1, bytes([10, 0, 0, 4])), False),
    (Identity(5, bytes([10, 0, 0, 3])), True),
    (Identity(5, bytes([*bytes(15), 1])), False),
    (dn("cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco"), True),
    (dn("cn=r3-SPOKE.cisco.com,ou=flex,o=cisco"), True),
    (dn("cn=R3-spoke.cisco.com,ou=FLEX"), False),
    (dn("ou=FLEX,o=Cisco"), False),
    (dn("o=Cisco,ou=FLEX,cn=R3-spoke.cisco.com"), False),
    (Identity(9, dn("cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco").octets + b"\0"), False),
    (Identity(9, b"R3-spoke.cisco.com"), False),
    (Identity(11, b"R3-spoke.cisco.com"), False),
    (Identity(200, b"R3-spoke.cisco.com"), False),
]


@pytest.mark.parametrize(("identity", "stands"), STANDS)
def test_I09_the_identity_must_stand_in_the_certificate(identity: Identity, stands: bool) -> None:
    if stands:
        assert prove(trust(), signed("ec256"), LEAVES["ec256"].chain, identity)
    else:
        refused("identity", trust(), signed("ec256"), LEAVES["ec256"].chain, identity)
    # Where a certificate map picked the profile, the map is the authority.
    assert prove(trust(bind=False), signed("ec256"), LEAVES["ec256"].chain, identity)


def test_I09_a_common_name_is_a_host_name_only_without_a_dns_name() -> None:
    world = World()
    how = Trust(SIGNING, anchors=world.store())
    bare = world.leaf("cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco")
    auth = sign(bare.key, OCTETS, peer_hashes=OUR_HASHES)
    # The FlexVPN document's spoke 1: identity R3-Spoke.cisco.com, subject cn=R3-spoke.cisco.com.
    assert prove(how, auth, bare.chain, Identity(2, b"R3-Spoke.cisco.com"))
    # Its spoke 2: identity R4.cisco.com, subject cn=R4-Spoke.cisco.com: only by the map.
    refused("does not stand in", how, auth, bare.chain, Identity(2, b"R4.cisco.com"))
    assert prove(evolve(how, bind=False), auth, bare.chain, Identity(2, b"R4.cisco.com"))
    named = world.leaf("cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco", fqdns=("other.cisco.com",))
    refused("does not stand in", how, auth, named.chain, R3)


@pytest.mark.parametrize("octets", [b"", b"\0", b"\0\0\0\0", b"  "])
@pytest.mark.parametrize("kind", [1, 2, 3, 5, 9, 11])
def test_I09_an_empty_identity_is_refused_however_it_is_proved(kind: int, octets: bytes) -> None:
    identity = Identity(kind, octets)
    refused("identity is empty", trust(), signed("ec256"), LEAVES["ec256"].chain, identity)
    refused("identity is empty", trust(bind=False), signed("ec256"), LEAVES["ec256"].chain, identity)
    refused("identity is empty", BY_PSK, Auth(2, psk_auth(PSK)), (), identity)


def test_I09_a_name_without_parts_is_an_empty_identity() -> None:
    refused("identity is empty", BY_PSK, Auth(2, psk_auth(PSK)), (), Identity(9, dn_der(x509.Name([]))))


# --- what is asked for, and what is never said ------------------------------------------------------------------------


def test_rfc7296_3_7_certreq_has_the_hashes_of_the_anchors_keys() -> None:
    root = parse_certificate(World().root.chain[-1])
    assert trust().requests() == root.key_hash
    assert len(root.key_hash) == 20
    assert trust(frozenset({AuthMethod.PSK})).requests() == b""
    assert Trust(SIGNING).requests() == b""


def test_secrets_stand_in_no_repr() -> None:
    private = LEAVES["ec256"].key.private_numbers().private_value  # type: ignore
    for value in (
        PskCredential(PSK),
        BY_PSK,
        trust(psk=PSK),
        LEAVES["ec256"].credential(),
        LEAVES["ec256"],
        SignatureCredential(key("ed25519", "x"), (), AuthMethod.SIGNATURE),
    ):
        text = repr(value)
        assert "cisco123" not in text
        assert str(private) not in text
        assert "PrivateKey" not in text


def test_secrets_stand_in_no_error() -> None:
    for auth in (Auth(2, b"x"), Auth(1, b"x"), Auth(14, b"x")):
        for how in (BY_PSK, trust(psk=PSK)):
            with pytest.raises(AuthError) as caught:
                prove(how, auth, LEAVES["ec256"].chain)
            assert "cisco123" not in str(caught.value) + repr(caught.value)


def test_addresses_of_certificates_are_octets() -> None:
    leaf = World().leaf("cn=x", addresses=(ip_address("2001:db8::1").packed, bytes([192, 0, 2, 1])))
    assert parse_certificate(leaf.der).addresses == (ip_address("2001:db8::1").packed, bytes([192, 0, 2, 1]))
