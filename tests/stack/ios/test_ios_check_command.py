"""`labelspan check`: what it prints, and its exit codes."""

from __future__ import annotations

import json

from attrs import evolve

from stack.config import NodeConfig
from stack.ios.check import EXIT_CONFIG, check_file, doubts, read_file, refusals
from stack.ios.grammar import Finding
from stack.registry import ServiceSpec


def test_clean_file(tmp_path, specs, capsys):
    path = tmp_path / "pe.cfg"
    path.write_text("hostname PE4\nip cef\n")
    assert check_file(path, specs=specs) == 0
    out = capsys.readouterr().out
    assert f"{path}:2: note: has no effect" in out
    assert out.endswith(f"{path}: 1 note\n")


def test_faulty_file_exits_2_with_place_and_caret(tmp_path, specs, capsys):
    path = tmp_path / "pe.cfg"
    path.write_text("hostnme PE4\n")
    assert check_file(path, specs=specs) == EXIT_CONFIG == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"{path}:1: in mode config:\n    hostnme PE4\n    ^^^^^^^\n")


def test_errors_that_can_be_read_exit_2_too(tmp_path, specs, capsys):
    path = tmp_path / "pe.cfg"
    path.write_text(
        "ip vrf somewhere\ninterface Ethernet0/0\n ip vrf forwarding somewere\n"
        "interface Ethernet0/1\n vrf forwarding somewere\n"
    )
    assert check_file(path, specs=specs) == EXIT_CONFIG
    out = capsys.readouterr().out
    for line, interface in ((3, "Ethernet0/0"), (5, "Ethernet0/1")):
        assert (
            f"{path}:{line}: error: there is no VRF called 'somewere': {interface} would be in no table "
            "(`vrf forwarding somewere`); did you mean `somewhere`?\n"
        ) in out


def test_files_that_the_configuration_names(tmp_path, specs, capsys):
    """Errors of files come first, exit 2, and keep a node from running; their warnings are doubts like others."""
    path = tmp_path / "pe.cfg"
    path.write_text("hostname PE4\nip vrf red\n rd 1:1\n")
    finding = Finding("error", "the file is another's", "rd 1:1", under="ip vrf red")

    def looking(*findings):
        return (*specs, ServiceSpec("files", lambda *_: None, config=NodeConfig, files=lambda _config: findings))

    assert check_file(path, specs=looking(finding)) == EXIT_CONFIG
    assert capsys.readouterr().out.startswith(f"{path}:3: error: the file is another's (`rd 1:1`)\n")
    reading = read_file(path, specs)
    assert refusals(path, reading, looking(finding)) == [f"{path}:3: error: the file is another's (`rd 1:1`)"]
    softer = looking(evolve(finding, severity="warning"))
    assert refusals(path, reading, softer) == []
    assert f"{path}:3: warning: the file is another's (`rd 1:1`)" in doubts(path, reading, softer)


def test_json(tmp_path, specs, capsys):
    path = tmp_path / "pe.cfg"
    path.write_text("hostnme PE4\ncrypto ikev2 profile\n match identity remote any\n")
    assert check_file(path, as_json=True, specs=specs) == EXIT_CONFIG
    first, second = json.loads(capsys.readouterr().out)["faults"]
    assert (first["line"], first["column"], first["suggestion"]) == (1, 1, "hostname")
    assert (second["line"], second["also"]) == (2, [3])
    path.write_text("interface Ethernet0/0\n vrf forwarding nowhere\n")
    check_file(path, as_json=True, specs=specs)
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["severity"], finding["line"]) == ("error", 2)


def test_missing_file_and_octets_that_are_no_text(tmp_path, specs, capsys):
    assert check_file(tmp_path / "nothing.cfg", specs=specs) == EXIT_CONFIG
    assert "No such file" in capsys.readouterr().err
    path = tmp_path / "octets.cfg"
    path.write_bytes(bytes(range(256)) * 20)
    assert check_file(path, specs=specs) == EXIT_CONFIG
    assert "\x1b" not in capsys.readouterr().err
