"""`labelspan pki ...`: what it writes, prints and refuses. Run in this process, through the console command itself."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import stack.registry
from ikev2 import console
from ikev2.config import AuthMethod, Trustpoint
from ikev2.console import WORDS
from ikev2.pki.certificate import parse_certificate, parse_crl, parse_private_key, pem_objects
from ikev2.pki.errors import CertificateError, RevokedError
from ikev2.pki.trustpoint import Material, load_trustpoint, trust_store
from stack.cli import main
from stack.registry import ServiceSpec, Word

NOW = 1_700_000_000.0
SUBJECT = "cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco"


@pytest.fixture(autouse=True)
def _words(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ServiceSpec("ikev2", factory=lambda *_: None, words=WORDS)  # type: ignore
    monkeypatch.setattr(stack.registry, "load_specs", lambda: (spec,))
    clock = SimpleNamespace(time=lambda: NOW, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(console, "time", clock)


@pytest.fixture
def ca(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "ca"
    assert pki("init", folder, "--subject", "cn=Lab CA,o=Cisco") == 0
    capsys.readouterr()
    return folder


def pki(*words: str | Path) -> int:
    try:
        return main(["pki", *map(str, words)])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def issue(folder: Path, name: str, *words: str) -> int:
    return pki("issue", folder, name, "--subject", SUBJECT, *words)


def load(folder: Path, name: str, **options: tuple[str, ...]) -> Material:
    point = Trustpoint("ca", f"{folder}/ca.pem", f"{folder}/{name}.pem", f"{folder}/{name}.key", f"{folder}/ca.crl")
    return load_trustpoint(point, None, lambda path: Path(path).read_bytes())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_issued_can_be_loaded_and_holds(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue(ca, "R3", "--fqdn", "R3.cisco.com", "--email", "r3@cisco.com", "--ip", "10.0.0.3", "--ip", "::3") == 0
    printed = capsys.readouterr().out
    material = load(ca, "R3")
    assert f"{ca}/R3.pem: {SUBJECT}, serial {material.own[0].serial:X}" in printed
    assert f" key file {ca}/R3.key" in printed
    found = trust_store([material]).verify(material.credential(AuthMethod.ECDSA_SIG).chain, NOW)
    assert found.certificate.dns == ("R3.cisco.com",)
    assert found.certificate.email == ("r3@cisco.com",)
    assert found.certificate.addresses == (bytes([10, 0, 0, 3]), bytes([*bytes(15), 3]))
    assert sorted(path.name for path in ca.iterdir()) == [
        ".lock", "R3.key", "R3.pem", "ca.crl", "ca.key", "ca.pem", "index.json",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["rsa2048", "ec256", "ec384", "ed25519"])
def test_every_kind_of_key(tmp_path: Path, kind: str) -> None:
    assert pki("init", tmp_path, "--subject", "cn=CA", "--key", kind) == 0
    assert issue(tmp_path, "R3", "--key", kind) == 0
    material = load(tmp_path, "R3")
    assert trust_store([material]).verify(material.credential().chain, NOW)


def test_keys_are_for_their_owner_alone_whatever_the_umask(ca: Path) -> None:
    issue(ca, "R3")
    assert [mode(ca / name) for name in ("ca.key", "R3.key", "ca.pem", "R3.pem")] == [0o600, 0o600, 0o644, 0o644]


def test_nothing_is_overwritten_without_force(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    issue(ca, "R3")
    before = {path.name: path.read_bytes() for path in ca.iterdir()}
    capsys.readouterr()
    assert pki("init", ca, "--subject", "cn=Other") == 1
    assert capsys.readouterr().err == f"labelspan: {ca}/ca.pem exists already; --force replaces it\n"
    assert issue(ca, "R3") == 1
    assert capsys.readouterr().err == f"labelspan: {ca}/R3.pem exists already; --force replaces it\n"
    assert {path.name: path.read_bytes() for path in ca.iterdir()} == before
    assert issue(ca, "R3", "--force") == 0
    assert (ca / "R3.key").read_bytes() != before["R3.key"]
    # The first one can still be revoked: by its name both are.
    assert pki("revoke", ca, "R3") == 0
    assert len(parse_crl(pem_objects((ca / "ca.crl").read_bytes(), "X509 CRL")[0]).revoked) == 2


def test_a_key_that_was_left_alone_is_not_overwritten_either(ca: Path) -> None:
    issue(ca, "R3")
    (ca / "R3.pem").unlink()
    assert issue(ca, "R3") == 1


def test_revoke_by_name_and_by_serial(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    issue(ca, "R3")
    issue(ca, "R4")
    three, four = load(ca, "R3"), load(ca, "R4")
    capsys.readouterr()
    assert pki("revoke", ca, "R3") == 0
    assert f"serial {three.own[0].serial:X}: revoked" in capsys.readouterr().out
    store = trust_store([load(ca, "R4")])
    with pytest.raises(RevokedError):
        store.verify(three.credential().chain, NOW)
    assert store.verify(four.credential().chain, NOW)
    assert pki("revoke", ca, f"0x{four.own[0].serial:x}") == 0
    with pytest.raises(RevokedError):
        trust_store([load(ca, "R4")]).verify(four.credential().chain, NOW)
    capsys.readouterr()
    assert pki("revoke", ca, "R3") == 0
    assert "was revoked already" in capsys.readouterr().out
    for stranger in ("R9", "DEADBEEF", "ca"):
        assert pki("revoke", ca, stranger) == 1
        assert f"{stranger!r} is neither a name nor a serial number" in capsys.readouterr().err


def test_an_intermediate_ca(ca: Path) -> None:
    assert issue(ca, "sub", "--ca", "--path-length", "0", "--key", "ed25519") == 0
    assert issue(ca, "R3", "--by", "sub") == 0
    material = load(ca, "R3")
    assert [one.ca for one in material.own] == [False, True]
    assert len(material.crls) == 2
    assert trust_store([material]).verify(material.credential().chain, NOW)
    assert pki("revoke", ca, "R3") == 0
    with pytest.raises(RevokedError):
        trust_store([load(ca, "R3")]).verify(material.credential().chain, NOW)
    assert pki("issue", ca, "R4", "--by", "R3", "--subject", SUBJECT) == 2


def test_a_new_crl_counts_for_longer(ca: Path) -> None:
    issue(ca, "R3")
    material = load(ca, "R3")
    late = NOW + 31 * 86400
    with pytest.raises(CertificateError, match="no valid CRL"):
        trust_store([material]).verify(material.credential().chain, late)
    assert pki("crl", ca, "--crl-days", "90") == 0
    assert trust_store([load(ca, "R3")]).verify(material.credential().chain, late)
    crl = parse_crl(pem_objects((ca / "ca.crl").read_bytes(), "X509 CRL")[0])
    assert crl.number == json.loads((ca / "index.json").read_bytes())["number"] == 2


def test_show_and_fingerprint(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    issue(ca, "R3", "--fqdn", "R3.cisco.com")
    issue(ca, "R4")
    pki("revoke", ca, "R4")
    capsys.readouterr()
    assert pki("show", ca / "R3.pem", ca / "R3.key", ca / "ca.crl") == 0
    printed = capsys.readouterr().out
    cert = load(ca, "R3").own[0]
    for text in (
        f"certificate, serial {cert.serial:X}\n    subject      {SUBJECT}\n    issuer       cn=Lab CA,o=Cisco\n",
        "names        R3.cisco.com",
        "valid        2023-11-14 22:08:20 UTC to 2024-11-13 22:13:20 UTC",
        f"R3.key:\n  private key, EC P-256\n{ca}",
        "revoked      1\n",
    ):
        assert text in printed
    private = parse_private_key((ca / "R3.key").read_bytes()).private_numbers().private_value  # type: ignore
    assert f"{private:x}" not in printed.lower()
    assert pki("fingerprint", ca / "ca.pem") == 0
    root = parse_certificate(pem_objects((ca / "ca.pem").read_bytes(), "CERTIFICATE")[0])
    printed = capsys.readouterr().out
    assert all(root.fingerprint(name).hex().upper() in printed for name in ("md5", "sha1", "sha256"))
    # DER is read as well.
    (ca / "ca.der").write_bytes(root.octets)
    assert pki("show", ca / "ca.der") == 0
    assert f"serial {root.serial:X}, CA" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("issue", "CA", "R5", "--subject", "R5"), 2, "no part of a distinguished name"),
        (("issue", "CA", "R5", "--subject", "cn=x", "--fqdn", "ä.de"), 2, "no certificate can say that"),
        (("issue", "CA", "R5", "--subject", "cn=x", "--ip", "1.2"), 2, "--ip '1.2': an IPv4 or IPv6 address expected"),
        (("issue", "CA", "R5", "--subject", "cn=x", "--days", "0"), 2, "0 days"),
        (("issue", "CA", "R5", "--subject", "cn=x", "--days", "nan"), 2, "nan days"),
        (("issue", "CA", "R5", "--subject", "cn=x", "--days", "36500"), 0, ""),
        (("issue", "CA", "../R5", "--subject", "cn=x"), 2, "cannot name a certificate here"),
        (("issue", "CA", "ca", "--subject", "cn=x"), 2, "cannot name a certificate here"),
        (("issue", "CA", "R5", "--subject", "cn=x", "--by", "R9"), 1, "R9.pem: No such file"),
        (("issue", "CA", "R5"), 2, "--subject"),
        (("issue", "CA", "R5", "--subject", "cn=x", "--key", "rsa512"), 2, "invalid choice"),
        (("issue", "CA/none", "R5", "--subject", "cn=x"), 1, "holds no authority"),
        (("crl", "CA", "--crl-days", "-1"), 2, "no CRL can say that"),
        (("crl", "CA/none"), 1, "holds no authority"),
        (("init", "CA/ca.pem", "--subject", "cn=x"), 1, "File exists"),
        (("show", "CA/index.json"), 1, "neither a certificate, nor a CRL, nor a private key"),
        (("show", "CA/none"), 1, "No such file or directory"),
        (("show", "CA"), 1, "Is a directory"),
        (("fingerprint", "CA/ca.key"), 1, "there is no certificate in it"),
        ((), 2, "WHAT"),
    ],
)
def test_what_is_refused(
    ca: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, complaint: str
) -> None:
    assert pki(*(word.replace("CA", str(ca), 1) if word.startswith("CA") else word for word in words)) == code
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "Traceback" not in printed.err
    assert not list(ca.glob("*tmp*")) + list(ca.glob("..*"))
    if code:
        assert not (ca / "R5.pem").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}x", '{"issued": {"x": {}}}', '{"revoked": {"5": 1}}', '{"other": 1}'])
def test_a_broken_index_is_told(ca: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (ca / "index.json").write_text(text)
    assert pki("crl", ca) == 1
    assert f"labelspan: {ca}/index.json cannot be read" in capsys.readouterr().err


def test_a_file_is_whole_or_as_it_was(ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (ca / "ca.crl").read_bytes()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(console.os, "fsync", full)
    assert pki("crl", ca) == 1
    assert (ca / "ca.crl").read_bytes() == before
    assert not [path for path in ca.iterdir() if path.name.startswith(".") and path.name != ".lock"]


# --- words of packages, in general ------------------------------------------------------------------------------------


def test_help_names_the_words_of_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert "\n    pki " in printed
    assert "\n    lab " in printed


def test_our_own_words_load_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never() -> tuple[ServiceSpec, ...]:
        raise AssertionError

    monkeypatch.setattr(stack.registry, "load_specs", never)
    assert main(["exec", "--control", str(tmp_path / "none"), "show clock"]) == 1
    for words in (["--version"], ["exec", "--help"]):
        with pytest.raises(SystemExit) as leaving:
            main(words)
        assert leaving.value.code == 0


def test_a_word_gets_its_arguments_and_gives_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    word = Word("fly", "away", lambda parser: parser.add_argument("speed", type=int) and None, lambda o: o.speed)
    spec = ServiceSpec("x", factory=lambda *_: None, words=(word,))  # type: ignore
    monkeypatch.setattr(stack.registry, "load_specs", lambda: (spec,))
    assert main(["fly", "7"]) == 7
