"""A configured trust point, loaded from files or from the hex of `crypto pki certificate chain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from ikev2.config import AuthMethod, CertificateChain, Trustpoint
from ikev2.pki.authority import key_pem, pem
from ikev2.pki.certificate import parse_certificate
from ikev2.pki.errors import CertificateError, TrustpointError
from ikev2.pki.trustpoint import load_trustpoint, trust_store
from tests.ikev2.pki import LEAVES, NOW, World, forge, key

WORLD = World()
LEAF = WORLD.leaf("cn=R3,o=Cisco")
ROOT = WORLD.root.chain[-1]
FILES = {
    "ca.pem": pem(ROOT, "CERTIFICATE"),
    "ca.der": ROOT,
    "r3.pem": b"# R3\n" + b"\n".join(pem(one, "CERTIFICATE") for one in LEAF.chain),
    "r3.key": key_pem(LEAF.key),
    "other.key": key_pem(key("ec256", "other")),
    "ed.key": key_pem(key("ed25519", "other")),
    "r3.sec1": LEAF.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    "locked.key": LEAF.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
    "ca.crl": b"".join(pem(one, "X509 CRL") for one in WORLD.crls()),
    "root.crl": WORLD.crls()[0],
    "empty": b"",
    "noise": b"\x30\x03abc",
    "text.pem": b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    "two.pem": pem(World(name="elder").root.chain[-1], "CERTIFICATE") + pem(ROOT, "CERTIFICATE"),
}  # fmt: skip
POINT = Trustpoint(
    "CA", ca_file="ca.pem", certificate_file="r3.pem", key_file="r3.key", crl_file="ca.crl", revocation=("crl", "none")
)


def reader(files: Mapping[str, bytes] = FILES) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    return read


def fault(config: Trustpoint, chain: CertificateChain | None = None) -> TrustpointError:
    with pytest.raises(TrustpointError) as caught:
        load_trustpoint(config, chain, reader())
    assert caught.value.trustpoint == "CA"
    assert str(caught.value).startswith("trustpoint CA:")
    assert "PRIVATE" not in str(caught.value) + repr(caught.value)
    return caught.value


def test_a_trust_point_of_files() -> None:
    found = load_trustpoint(POINT, None, reader())
    credential = found.credential(AuthMethod.ECDSA_SIG)
    assert (credential.chain, credential.method) == (LEAF.chain, AuthMethod.ECDSA_SIG)
    assert [one.certificate.octets for one in found.anchors] == [ROOT]
    assert found.anchors[0].revocation == ("crl", "none")
    assert len(found.crls) == 2
    assert trust_store([found]).verify(LEAF.chain, NOW).trustpoint == "CA"
    assert "PrivateKey" not in repr(found)


@pytest.mark.parametrize(
    "files",
    [{"ca_file": "ca.der"}, {"crl_file": "root.crl"}, {"key_file": "r3.sec1"}, {"crl_file": ""}],
    ids=["der", "der crl", "sec1", "no crl"],
)
def test_other_forms_of_files(files: dict[str, str]) -> None:
    found = load_trustpoint(evolve(POINT, **files), None, reader())
    assert trust_store([found]).verify(LEAF.chain, NOW)


@pytest.mark.parametrize(
    ("files", "file", "reason"),
    [
        ({"ca_file": "none.pem"}, "none.pem", "No such file or directory"),
        ({"ca_file": "empty"}, "empty", "there is no certificate in it"),
        ({"ca_file": "noise"}, "noise", "no certificate that can be read"),
        ({"ca_file": "text.pem"}, "text.pem", "broken PEM"),
        ({"ca_file": "r3.key"}, "r3.key", "there is no certificate in it"),
        ({"ca_file": "r3.pem"}, "r3.pem", "cn=R3,o=Cisco is no CA"),
        ({"certificate_file": "ca.crl"}, "ca.crl", "there is no certificate in it"),
        ({"key_file": "other.key"}, "other.key", "the private key does not belong to the certificate"),
        ({"key_file": "ed.key"}, "ed.key", "the private key does not belong to the certificate"),
        ({"key_file": "locked.key"}, "locked.key", "the private key is encrypted"),
        ({"key_file": "ca.pem"}, "ca.pem", "no private key that can be read"),
        ({"crl_file": "ca.pem"}, "ca.pem", "there is no CRL in it"),
        ({"crl_file": "noise"}, "noise", "no CRL that can be read"),
    ],
)
def test_what_cannot_be_loaded(files: dict[str, str], file: str, reason: str) -> None:
    error = fault(evolve(POINT, **files))
    assert error.file == file
    assert error.reason.startswith(reason)
    assert error.advice or "CA" in reason


def test_a_trust_point_without_a_certificate_or_key_can_verify_but_not_prove() -> None:
    found = load_trustpoint(evolve(POINT, certificate_file="", key_file=""), None, reader())
    with pytest.raises(TrustpointError, match="no certificate of ours"):
        found.credential()
    found = load_trustpoint(evolve(POINT, key_file=""), None, reader())
    with pytest.raises(TrustpointError, match="no private key"):
        found.credential()
    assert trust_store([found]).verify(LEAF.chain, NOW)


# --- fingerprints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_the_fingerprint_must_be_the_cas(algorithm: str) -> None:
    right = parse_certificate(ROOT).fingerprint(algorithm).hex().upper()
    wrong = "0" * 8 + right[8:]
    blanks = " ".join(right[i : i + 8] for i in range(0, len(right), 8))
    for text in (right, right.lower(), blanks):
        assert load_trustpoint(evolve(POINT, fingerprint=text), None, reader()).anchors
    error = fault(evolve(POINT, fingerprint=wrong))
    assert error.reason == f"the CA certificate {WORLD_ROOT_DN} has not the fingerprint that is configured"
    assert right in error.advice


WORLD_ROOT_DN = "cn=Test root CA,o=Cisco"


@pytest.mark.parametrize("text", ["12", "x" * 32, "0" * 63])
def test_what_is_no_fingerprint(text: str) -> None:
    assert "none of MD5, SHA-1 or SHA-256" in fault(evolve(POINT, fingerprint=text)).reason


def test_of_several_cas_only_the_one_with_the_fingerprint_is_trusted() -> None:
    both = load_trustpoint(evolve(POINT, ca_file="two.pem"), None, reader())
    assert len(both.anchors) == 2
    right = parse_certificate(ROOT).fingerprint("sha256").hex()
    one = load_trustpoint(evolve(POINT, ca_file="two.pem", fingerprint=right), None, reader())
    assert [anchor.certificate.octets for anchor in one.anchors] == [ROOT]
    elder = World(name="elder").leaf("cn=R4")
    assert trust_store([both]).verify(elder.chain, NOW)
    with pytest.raises(CertificateError):
        trust_store([one]).verify(elder.chain, NOW)


# --- crypto pki certificate chain -------------------------------------------------------------------------------------


def test_certificates_of_the_configuration() -> None:
    pasted = CertificateChain("CA", {("", "04"): LEAF.der, ("ca", "01"): ROOT})
    found = load_trustpoint(Trustpoint("CA", key_file="r3.key", revocation=("none",)), pasted, reader())
    assert found.credential().chain == (LEAF.der,)
    assert [one.certificate.octets for one in found.anchors] == [ROOT]


def test_a_certificate_that_is_only_named_means_nothing() -> None:
    pasted = CertificateChain("CA", {("", "03"): b"", ("ca", "01"): b""})
    found = load_trustpoint(Trustpoint("CA"), pasted, reader())
    assert (found.own, found.anchors) == ((), ())
    assert load_trustpoint(POINT, pasted, reader()).own[0].octets == LEAF.der


def test_files_come_before_what_is_pasted() -> None:
    pasted = CertificateChain("CA", {("", "09"): LEAVES["ec256"].der})
    assert load_trustpoint(POINT, pasted, reader()).own[0].octets == LEAF.der


def test_broken_hex_names_its_certificate() -> None:
    assert fault(Trustpoint("CA"), CertificateChain("CA", {("ca", "01"): b"\x30\x00"})).file == "certificate ca 01"
    assert fault(Trustpoint("CA"), CertificateChain("CA", {("", "03"): ROOT[:-1]})).file == "certificate 03"
    leaf = CertificateChain("CA", {("ca", "01"): LEAF.der})
    assert "is no CA" in fault(Trustpoint("CA"), leaf).reason


# --- several, and any octets ------------------------------------------------------------------------------------------


def test_a_store_of_two_trust_points_says_which_it_was() -> None:
    other = World(name="elder")
    files = {**FILES, "elder": other.root.chain[-1]}
    two = [
        load_trustpoint(POINT, None, reader()),
        load_trustpoint(Trustpoint("OLD", ca_file="elder", revocation=("none",)), None, reader(files)),
    ]
    store = trust_store(two)
    assert store.verify(LEAF.chain, NOW).trustpoint == "CA"
    assert store.verify(other.leaf("cn=R4").chain, NOW).trustpoint == "OLD"
    assert len(store.requests()) == 40


def test_what_is_above_our_own_certificate_serves_for_peers_too() -> None:
    # R4 sends no intermediate; ours is the same.
    store = trust_store([load_trustpoint(POINT, None, reader())])
    assert store.verify(WORLD.leaf("cn=R4").chain[:1], NOW)


def test_a_path_may_not_revoke_by_one_trust_point_and_hold_by_another() -> None:
    strict = load_trustpoint(POINT, None, reader({**FILES, "ca.crl": WORLD.crls((LEAF.serial,))[1]}))
    lax = evolve(strict, name="LAX", anchors=tuple(evolve(one, revocation=("none",)) for one in strict.anchors))
    with pytest.raises(CertificateError, match="is revoked"):
        trust_store([strict, lax]).verify(LEAF.chain, NOW)


@given(st.binary(max_size=120), st.sampled_from(["ca_file", "certificate_file", "key_file", "crl_file"]))
def test_any_octets_in_a_file_are_a_typed_error(octets: bytes, which: str) -> None:
    for text in (
        octets,
        b"-----BEGIN X-----" + octets,
        b"-----BEGIN CERTIFICATE-----" + octets + b"-----END CERTIFICATE-----",
    ):
        with pytest.raises(TrustpointError):
            load_trustpoint(evolve(POINT, **{which: "fuzz"}), None, reader({**FILES, "fuzz": text}))


def test_ca_extensions_are_seen_when_loading() -> None:
    plain = forge("cn=CA", key("ed25519", "p"), "cn=CA", key("ed25519", "p"))
    with pytest.raises(TrustpointError, match="cn=CA is no CA"):
        load_trustpoint(Trustpoint("CA", ca_file="x"), None, reader({"x": plain}))
