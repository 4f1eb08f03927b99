"""ntc-templates reads `show dmvpn` as tests/nhrp/test_show.py holds it."""

from __future__ import annotations

from pathlib import Path

from tests.oracles.test_show_templates import rows

SHOWN = Path(__file__).parents[1] / "nhrp" / "shown"


def test_dmvpn() -> None:
    found = rows("show_dmvpn", (SHOWN / "show_dmvpn.txt").read_text())
    fields = ("PEER_NBMA", "PEER_TUNNEL", "STATE", "UPTIME", "ATTRIBUTE")
    assert [tuple(row[name] for name in fields) for row in found] == [
        ("203.0.113.1", "10.77.0.1", "UP", "10w1d", "S"),
        ("203.0.113.9", "10.77.0.9", "UP", "00:00:31", "D"),
        ("203.0.113.80", "10.77.0.8", "IKE", "00:00:11", "DNX"),
        ("203.0.113.66", "10.88.0.1", "NHRP", "never", "S"),
        ("198.51.100.2", "10.99.0.2", "UP", "03:00:00", "D"),
    ]
