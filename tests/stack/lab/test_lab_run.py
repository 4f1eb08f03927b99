"""`labelspan lab` around the checks: which backend and why, what is printed, which exit code."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from stack.lab import namespace, run
from stack.lab.conduct import Row
from stack.lab.namespace import UserNamespaceRefused
from stack.lab.run import EXIT_BACKEND, EXIT_RED, EXIT_WRONG, Verdict, choose_backend, run_lab
from stack.lab.testbed import BackendError

REFUSED = UserNamespaceRefused("the host allows no user namespaces", "sudo sysctl -w user.max_user_namespaces=10000")


class FakeNamespace:
    refusal: OSError | None = None

    def __init__(self, _name: str) -> None:
        if self.refusal is not None:
            raise self.refusal

    def close(self) -> None: ...


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`host(user=..., refusal=..., tun=...)`: what this host allows."""

    def be(*, user: int, refusal: OSError | None = None, tun: bool = True, ci: bool = False) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: user)
        monkeypatch.setattr(os, "access", lambda _path, _mode: tun)
        monkeypatch.setattr(namespace, "Namespace", type("N", (FakeNamespace,), {"refusal": refusal}))
        monkeypatch.setattr(namespace, "why_not_rootless", lambda: refusal)
        monkeypatch.delenv("CI", raising=False)
        if ci:
            monkeypatch.setenv("CI", "1")

    return be


def test_what_is_asked_for_is_taken(host: Any) -> None:
    host(user=0, refusal=PermissionError(errno.EPERM, "no"))
    assert choose_backend("memory") == ("memory", "asked for")
    assert choose_backend("netns") == ("netns", "asked for")


@pytest.mark.parametrize("user", [0, 1000])
def test_real_packets_where_they_can_be_had(host: Any, user: int) -> None:
    host(user=user)
    backend, why = choose_backend("auto")
    assert backend == "netns"
    assert "real packets" in why


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        ({"user": 1000, "refusal": REFUSED}, "the host allows no user namespaces; mend it with: sudo sysctl"),
        # A container's root: uid 0, and yet it may not.
        (
            {"user": 0, "refusal": PermissionError(errno.EPERM, "Operation not permitted")},
            "this root may make no network namespace: Operation not permitted; mend it with: start the container with",
        ),
        (
            {"user": 0, "tun": False},
            "/dev/net/tun cannot be opened; mend it with: start the container with --privileged, or",
        ),
    ],
)
def test_memory_where_they_cannot_and_never_in_ci(host: Any, figures: dict[str, Any], why: str) -> None:
    host(**figures)
    backend, said = choose_backend("auto")
    assert backend == "memory"
    assert said.startswith(f"no real packets here ({why}")
    host(**figures, ci=True)
    with pytest.raises(BackendError, match=r"^in CI a lab must run on real packets: ") as caught:
        choose_backend("auto")
    assert "Mend it with: " in str(caught.value)


def verdict(*rows: Row) -> Verdict:
    return Verdict("mgre", "Title [/x]", "memory", "asked for", rows, 1.25)


def conducted(monkeypatch: pytest.MonkeyPatch, outcome: Verdict | Exception) -> None:
    def conduct(*_arguments: Any, **_named: Any) -> Verdict:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(run, "_conduct", conduct)


GOOD, BAD = Row("one", True, "fine", 0.5), Row("two [bold]", False, "keys [/red] ['7'], [link=x]y", 0.25)


def test_what_was_seen_is_printed_as_it_is_and_is_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conducted(monkeypatch, verdict(GOOD, BAD))
    assert run_lab("mgre", backend="memory") == EXIT_RED
    out = capsys.readouterr().out
    assert "two [bold]" in out
    assert "keys [/red] ['7'], [link=x]y" in out
    assert "Title [/x] (memory)" in out
    assert out.endswith("verdict: 1 of 2 rows RED, 1.2 s\n")


def test_green_is_exit_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    conducted(monkeypatch, verdict(GOOD))
    assert run_lab("mgre", backend="memory") == 0
    assert capsys.readouterr().out.endswith("verdict: all green, 1.2 s\n")


def test_json_is_json_and_nothing_else(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    conducted(monkeypatch, verdict(GOOD, BAD))
    assert run_lab("mgre", backend="memory", as_json=True) == EXIT_RED
    value = json.loads(capsys.readouterr().out)
    assert (value["ok"], value["backend"], value["why"], value["seconds"]) == (False, "memory", "asked for", 1.25)
    assert value["rows"][1] == {"name": BAD.name, "ok": False, "seen": BAD.seen, "seconds": 0.25}


def test_a_backend_that_cannot_be_had_is_exit_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conducted(monkeypatch, BackendError("no namespaces; mend it so"))
    assert run_lab("mgre", backend="netns") == EXIT_BACKEND
    assert capsys.readouterr().err == "labelspan: no namespaces; mend it so\n"


def test_a_folder_for_captures_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run_lab("mgre", backend="memory", capture=tmp_path / "file" / "below") == EXIT_WRONG
    assert capsys.readouterr().err.startswith("labelspan: [Errno 20] Not a directory")


def test_sabotage_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_lab("mgre", backend="memory", sabotage="sleep") == EXIT_WRONG
    assert capsys.readouterr().err.startswith("labelspan: there is no sabotage 'sleep'; there are: ")
