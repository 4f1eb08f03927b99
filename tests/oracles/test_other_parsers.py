"""Other people's parsers of IOS text read what we print, and find the structure that its indentation shows.

They run in an environment of their own, since nothing of ours needs them: `make oracles`.
"""

from __future__ import annotations

import hier_config
import pytest
from ciscoconfparse2 import CiscoConfParse

from stack.config import Config
from stack.ios.printer import running_config
from stack.lab.scenario import load

SCENARIO = load("mgre")


@pytest.fixture(params=sorted(SCENARIO.node))
def text(request: pytest.FixtureRequest) -> str:
    return running_config(Config.from_ios(SCENARIO.node[request.param]))


def tops(text: str) -> list[str]:
    return [
        line for line in text.splitlines() if line.startswith(("interface", "router", "ip route", "vrf", "route-map"))
    ]


def children(text: str, parent: str) -> list[str]:
    """The lines one blank deep under `parent`."""
    lines = text.splitlines()
    start = lines.index(parent) + 1
    end = next(n for n, line in enumerate(lines[start:], start) if not line.startswith(" "))
    return [line.strip() for line in lines[start:end] if not line.startswith("  ") and line.strip() not in ("!", "")]


def test_ciscoconfparse2(text: str) -> None:
    found = CiscoConfParse(text.splitlines(), syntax="ios")
    for parent in tops(text):
        (line,) = [each for each in found.find_objects("^" + parent.split()[0]) if each.text == parent]
        mine = [child.text.strip() for child in line.children if child.text.strip() != "!"]
        assert mine == children(text, parent), parent


def test_hier_config(text: str) -> None:
    host = hier_config.Host("pe", "ios")
    host.load_running_config(text)
    found = {child.text: child for child in host.running_config.children}
    assert set(found) >= set(tops(text))
    families = {child.text for child in found["router bgp 65000"].children}
    assert families >= {line for line in children(text, "router bgp 65000") if line.startswith("address-family")}
