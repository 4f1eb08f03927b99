"""docs/configuration.md is what the grammar table says, and its example loads."""

from __future__ import annotations

import re
from pathlib import Path

from stack.ios.checks import check
from stack.ios.reference import MARKER, reference

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_reference_part_is_up_to_date(table):
    """`python -m stack.ios.reference docs/configuration.md` writes it anew."""
    _, marker, made = DOCUMENT.read_text().partition(MARKER)
    assert marker + made == reference(table)


def test_example_of_the_document_loads_and_is_right(loads, specs):
    example = re.search(r"```\n(hostname.*?)```", DOCUMENT.read_text(), re.DOTALL)
    reading = loads(example[1])
    assert reading.no_effect == ()
    assert [f.text for f in check(reading, specs) if "on one subnet" not in f.text] == []


def test_reference_names_every_mode_and_refusal(table):
    text = reference(table)
    assert all(f"### `{mode}`" in text for mode in table.modes if mode != "exec")
    assert "`transport {ipv6 \\| mpls \\| l2tpv3} [REST]`" in text
    assert "| `ip cef [distributed]`" not in text
    assert "`[no] ip cef [distributed]`" in text
