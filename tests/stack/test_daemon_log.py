"""What `labelspan run` logs of a service that raised: where, never the values that were at hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from stack.daemon import _without_colors, configure_logging


@pytest.fixture
def _configured() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def raises(password: str) -> None:
    raise ValueError(len(password))


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.usefixtures("_configured")
def test_S03_a_traceback_shows_no_locals(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(as_json=as_json)
    canary = "canary" + "17"
    try:
        raises(canary)
    except ValueError as error:
        structlog.get_logger().error("service ended", service="bgp", exc_info=error)
    printed = capsys.readouterr().err
    assert "in raises" in printed
    assert "ValueError: 8" in printed
    assert canary not in printed


LINES = (
    {"event": "running"},
    {"event": "IKE SA is up", "number": 7, "initiator": False, "identity": "a spoke", "reason": ""},
    {
        "event": "a longer event than the column is wide, by far",
        "share": 0.5,
        "nothing": None,
        "key": "a=b",
        "quoted": "it's",
    },
    {"event": "several\nlines", "text": "one\ntwo", "tab": "a\tb"},
    {"event": "", "z": 1, "a": 2},
)


@pytest.mark.parametrize("event", LINES)
def test_lines_are_those_of_structlog(event: dict[str, object]) -> None:
    """Ours are only made faster."""
    theirs = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    whole = {"timestamp": "2026-01-02T03:04:05.000006Z", "level": "info", **event}
    assert _without_colors(theirs)(None, "info", dict(whole)) == theirs(None, "info", dict(whole))
