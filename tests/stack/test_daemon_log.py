"""What `labelspan run` logs of a service that raised: where, never the values that were at hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from stack.daemon import _harmless, _without_colors, configure_logging


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
    {"event": "an escape \x1b[2J", "name": "\x9b31m", "number": 1.5, "yes": True, "list": [1, "a"]},
    {"event": "several\nlines", "text": "one\ntwo", "tab": "a\tb"},
    {"event": "", "z": 1, "a": 2},
)


@pytest.mark.parametrize("event", LINES)
@pytest.mark.parametrize("method", ["info", "warning", "warn", "error", "exception", "critical"])
def test_lines_are_those_of_structlog(event: dict[str, object], method: str) -> None:
    """Ours are only made faster."""
    before = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), _harmless]
    theirs = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    wanted: Any = dict(event)
    for processor in (*before, theirs):
        wanted = processor(None, method, wanted)
    made = _without_colors(before, theirs)(None, method, dict(event))
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
    assert stamp.sub("", made, count=1) == stamp.sub("", wanted, count=1)
    assert stamp.match(made)


def test_the_time_of_a_line_is_now() -> None:
    earliest = datetime.now(UTC).replace(tzinfo=None)
    line = _without_colors([], lambda *_: "")(None, "info", {"event": "it is"})
    latest = datetime.now(UTC).replace(tzinfo=None)
    assert earliest <= datetime.fromisoformat(line.partition("Z")[0]) <= latest
