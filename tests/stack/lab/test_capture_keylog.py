"""Keys in files: exact rows, only where nobody else can read them, bounded; and without the flag no file and no key."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import structlog

from stack import keylog
from stack.config import Config
from stack.daemon import Daemon
from stack.esp import Cipher, EspForm, Integrity
from stack.events import SaKey
from stack.keylog import ESP_TABLE, IKE_TABLE, PREFERENCES, FileKeyLog, KeyLogError
from stack.lab.run import EXIT_WRONG, run_lab
from stack.router import Router
from stack.service import Context, _incarnated
from stack.tables.sad import Sa, SadWriter
from stack.testing import MemoryNetwork, VirtualClock, run

LEFT, RIGHT = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))


def association(form: EspForm, *, spi: int = 0xC0FFEE, local: bytes = LEFT) -> Sa:
    cipher, integrity = form.cipher, form.integrity
    keys = (b"\xa1" * cipher.key, b"\x5a" * cipher.salt, b"\xb2" * integrity.key)
    return Sa(spi, SaKey("Tunnel0", b""), local, RIGHT, form, *keys)


GCM = association(EspForm(Cipher.AES_GCM_256))


def rows(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


# --- rows ----------------------------------------------------------------------------------------------------------------

ESP_ROWS = [
    (
        EspForm(Cipher.AES_GCM_128),
        f'"IPv4","*","*","0x00c0ffee","AES-GCM with 16 octet ICV [RFC4106]","0x{"a1" * 16}5a5a5a5a","NULL",""',
    ),
    (
        EspForm(Cipher.AES_GCM_256, udp=True),
        f'"IPv4","*","*","0x00c0ffee","AES-GCM with 16 octet ICV [RFC4106]","0x{"a1" * 32}5a5a5a5a","NULL",""',
    ),
    (
        EspForm(Cipher.AES_CBC_192, Integrity.HMAC_SHA2_256_128),
        f'"IPv4","*","*","0x00c0ffee","AES-CBC [RFC3602]","0x{"a1" * 24}","HMAC-SHA-256-128 [RFC4868]","0x{"b2" * 32}"',
    ),
]


@pytest.mark.parametrize(("form", "row"), ESP_ROWS)
def test_an_sa_is_a_row_of_esp_sa(form: EspForm, row: str, folder: Path) -> None:
    log = FileKeyLog(folder)
    log.esp(association(form))
    assert rows(folder / ESP_TABLE) == [row]
    assert rows(folder / IKE_TABLE) == []


def test_an_ike_sa_is_a_row_of_ikev2_decryption_table(folder: Path) -> None:
    log = FileKeyLog(folder)
    log.ike(b"\x11" * 8, b"\x22" * 8, Cipher.AES_GCM_256, b"\x33" * 36, b"\x44" * 36)
    cbc = (Cipher.AES_CBC_128, b"\x33" * 16, b"\x44" * 16, Integrity.HMAC_SHA1_96, b"\x55" * 20, b"\x66" * 20)
    log.ike(b"\x11" * 8, b"\x22" * 8, *cbc)
    spis = f"{'11' * 8},{'22' * 8}"
    assert rows(folder / IKE_TABLE) == [
        f'{spis},{"33" * 36},{"44" * 36},"AES-GCM-256 with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"',
        f'{spis},{"33" * 16},{"44" * 16},"AES-CBC-128 [RFC3602]",{"55" * 20},{"66" * 20},"HMAC_SHA1_96 [RFC2404]"',
    ]


def test_every_cipher_and_integrity_has_a_row(folder: Path) -> None:
    log = FileKeyLog(folder)
    for number, (cipher, integrity) in enumerate((c, i) for c in Cipher for i in Integrity):
        log.esp(association(EspForm(cipher, integrity), spi=number))
        log.ike(number.to_bytes(8), bytes(8), cipher, b"e", b"r", integrity, b"a", b"b")
    forms = len(Cipher) * len(Integrity)
    known = forms - len(Integrity)  # ChaCha20-Poly1305 is a comment
    assert len(rows(folder / ESP_TABLE)) == len(rows(folder / IKE_TABLE)) == known
    assert (folder / ESP_TABLE).read_text().count('"ChaCha20 with Poly1305 [RFC7634]"') == len(Integrity)


def test_what_is_told_twice_is_written_once(folder: Path) -> None:
    log = FileKeyLog(folder)
    log.esp(GCM)
    log.esp(association(GCM.form, local=bytes((198, 51, 100, 7))))  # it moved, behind a NAT
    assert len(rows(folder / ESP_TABLE)) == 1


def test_several_processes_share_a_folder_and_an_earlier_one_is_kept(folder: Path) -> None:
    one, two = FileKeyLog(folder), FileKeyLog(folder)
    one.esp(association(GCM.form, spi=1))
    two.esp(association(GCM.form, spi=2))
    assert [row.split(",")[3] for row in rows(folder / ESP_TABLE)] == ['"0x00000001"', '"0x00000002"']
    (folder / PREFERENCES).write_text("gui.ask_unsaved: FALSE\n")
    FileKeyLog(folder)
    assert len(rows(folder / ESP_TABLE)) == 2
    assert (folder / PREFERENCES).read_text() == "gui.ask_unsaved: FALSE\n"
    FileKeyLog(folder, fresh=True)
    assert rows(folder / ESP_TABLE) == []
    assert "esp.enable_encryption_decode: TRUE" in rows(folder / PREFERENCES)


# --- whose files ---------------------------------------------------------------------------------------------------------


def test_folder_and_files_are_their_owners_alone_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        FileKeyLog(folder / "deep").esp(GCM)
    finally:
        os.umask(before)
    assert (folder / "deep").stat().st_mode & 0o777 == 0o700
    files = sorted((folder / "deep").iterdir())
    assert [file.name for file in files] == [ESP_TABLE, IKE_TABLE, PREFERENCES]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o701, 0o770, 0o755])
def test_a_folder_that_others_may_use_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(KeyLogError, match=rf"others may use .* \(mode {mode:o}\).*chmod 700 "):
        FileKeyLog(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", [ESP_TABLE, IKE_TABLE, PREFERENCES])
def test_a_file_that_others_may_use_is_refused(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700)
    (folder / name).touch()
    (folder / name).chmod(0o640)
    with pytest.raises(KeyLogError, match=r"\(mode 640\).*chmod 600 "):
        FileKeyLog(folder)
    assert (folder / name).read_text() == ""


def test_what_is_not_ours_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(KeyLogError, match="is not ours"):
        FileKeyLog(folder)
    assert list(folder.iterdir()) == []


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    with pytest.raises(KeyLogError, match="a link to one"):
        FileKeyLog(folder)
    folder.unlink()
    folder.mkdir(mode=0o700)
    victim = elsewhere / "victim"
    victim.touch(mode=0o600)
    for make in (os.symlink, os.link):
        make(victim, folder / ESP_TABLE)
        with pytest.raises(KeyLogError, match="no keys are written there"):
            FileKeyLog(folder)
        (folder / ESP_TABLE).unlink()
    os.mkfifo(folder / ESP_TABLE, 0o600)
    with pytest.raises(KeyLogError, match="no keys are written there"):
        FileKeyLog(folder)
    assert victim.read_text() == ""


def test_a_fresh_start_removes_a_link_and_not_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder.mkdir(mode=0o700)
    (folder / ESP_TABLE).symlink_to(victim)
    FileKeyLog(folder, fresh=True).esp(GCM)
    assert victim.read_text() == "mine"
    assert len(rows(folder / ESP_TABLE)) == 1


def test_nothing_stays_open_after_a_refusal(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / IKE_TABLE).mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(KeyLogError):
        FileKeyLog(folder)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- bounds and trouble --------------------------------------------------------------------------------------------------


def test_a_table_is_bounded_and_that_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keylog, "MAX_OCTETS", 1000)
    said: list[str] = []
    log = FileKeyLog(folder, trouble=said.append)
    for spi in range(20):
        log.esp(association(GCM.form, spi=spi))
    assert (folder / ESP_TABLE).stat().st_size <= 1000
    assert log.left_out == 20 - len(rows(folder / ESP_TABLE)) > 10
    assert said == ["esp_sa is full (1000 octets)"]
    log.ike(bytes(8), bytes(8), Cipher.AES_GCM_128, b"e", b"r")
    assert len(rows(folder / IKE_TABLE)) == 1


def test_no_trouble_with_a_file_reaches_who_makes_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    log = FileKeyLog(folder, trouble=said.append)

    def no_space(_file: int, _octets: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", no_space)
        log.esp(GCM)
    assert (said, log.left_out) == (["No space left on device"], 1)
    log.esp(GCM)  # what was not written is not thought to be
    assert len(rows(folder / ESP_TABLE)) == 1
    log.close()
    log.close()
    log.esp(association(GCM.form, spi=7))
    assert log.left_out == 2


# --- nowhere else --------------------------------------------------------------------------------------------------------


def test_keys_are_in_no_repr_and_no_word_about_trouble(folder: Path) -> None:
    said: list[str] = []
    log = FileKeyLog(folder, trouble=said.append)
    log.esp(GCM)
    log.close()
    log.esp(association(GCM.form, spi=9))
    context = Context(bus=None, network=None, key_log=log)  # type: ignore[arg-type]
    assert "FileKeyLog" not in repr(context)
    for text in (repr(log), repr(context), *said):
        assert not re.search("a1a1|5a5a", text)


def test_a_node_has_a_key_log_only_if_it_was_given_one(folder: Path) -> None:
    async def body() -> None:
        plain = Router(Config.from_ios("hostname a"), network=MemoryNetwork().node("a"), clock=VirtualClock())
        assert plain.context.key_log is None
        assert _incarnated(plain.context, 2).key_log is None
        shown = await plain.show("version")
        assert shown.value["key-log"] is False
        assert "KEYS" not in shown.text
        log = FileKeyLog(folder)
        told = Router(
            Config.from_ios("hostname b"), network=MemoryNetwork().node("b"), clock=VirtualClock(), key_log=log
        )
        assert _incarnated(told.context, 2).key_log is log
        shown = await told.show("version")
        assert shown.value["key-log"] is True
        assert "KEYS ARE WRITTEN TO FILES" in shown.text

    run(body())


def test_the_daemon_says_once_and_loudly_that_keys_are_written(folder: Path) -> None:
    def daemon(key_log: Path | None) -> Daemon:
        return Daemon(Path("a.cfg"), Config.from_ios("hostname a"), bindings={}, name="a", key_log=key_log)

    with structlog.testing.capture_logs() as logs:
        assert daemon(None)._key_log(structlog.get_logger()) is None
        assert logs == []
        assert daemon(folder)._key_log(structlog.get_logger()) is not None
    (line,) = logs
    assert line["log_level"] == "warning"
    assert "EVERY KEY" in line["event"]
    assert line["folder"] == str(folder)


# --- the lab -------------------------------------------------------------------------------------------------------------


def lab(capsys: pytest.CaptureFixture[str], scenario: str = "mgre", **named: Any) -> tuple[int, str, str]:
    code = run_lab(scenario, backend="memory", as_json=True, **named)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
@pytest.mark.parametrize("asked", [False, True])
def test_a_lab_writes_keys_into_its_profile_if_asked_and_nowhere_else_ever(
    asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every key that reaches the SAD is a canary."""
    canaries: set[bytes] = set()
    put = SadWriter.put_inbound

    def noted(writer: SadWriter, sa: Sa) -> bool:
        canaries.add(sa.encryption)
        return put(writer, sa)

    monkeypatch.setattr(SadWriter, "put_inbound", noted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code, out, err = lab(capsys, "ipsec", capture=tmp_path / "here" if asked else None)
    assert code == 0, out
    assert len(canaries) >= 6
    texts = {"out": out.encode(), "err": err.encode()}
    texts |= {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert (set(texts) - {"out", "err"} != set()) is asked
    found = {
        name
        for name, text in texts.items()
        for key in canaries
        if key in text or key.hex().encode() in text.lower() or repr(key).encode() in text
    }
    assert found == ({"esp_sa"} if asked else set())


@pytest.mark.slow
def test_with_it_there_are_one_pcapng_and_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = lab(capsys, capture=tmp_path / "a b")
    assert code == 0
    modes = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {
        "a b": 0o700,
        "a b/lab.pcapng": 0o600,
        "a b/profile": 0o700,
        "a b/profile/esp_sa": 0o600,
        "a b/profile/ikev2_decryption_table": 0o600,
        "a b/profile/preferences": 0o600,
    }
    assert f"WIRESHARK_CONFIG_DIR='{tmp_path}/a b/profile' tshark -r '{tmp_path}/a b/lab.pcapng'" in said


def test_a_profile_that_others_may_read_ends_the_lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile").chmod(0o755)
    code, _, said = lab(capsys, capture=tmp_path)
    assert code == EXIT_WRONG
    assert "others may use" in said
