"""What `labelspan run` logs of a service that raised: where, never the values that were at hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from stack.daemon import configure_logging


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
