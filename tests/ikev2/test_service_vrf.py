"""Whole nodes with `tunnel vrf` and IPsec: two tunnels with the same ends, in two VRFs, each with IKE and ESP of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from stack.events import SaState
from tests.scenario.memory import Net
from tests.tunnel import test_front_door
from tests.tunnel.test_front_door import play, text

GRE, ESP, UDP = 47, 50, 17

CRYPTO = """crypto ikev2 keyring K
 peer any
  address 0.0.0.0 0.0.0.0
  pre-shared-key a-secret
!
crypto ikev2 profile default
 match fvrf any
 match identity remote address 10.9.0.0 255.255.255.0
 keyring local K
 dpd 10 2 on-demand
!
crypto ipsec profile P
!
"""


def protected(plain: str) -> str:
    whole = plain.replace(" tunnel key 7\n", " tunnel protection ipsec profile P\n")
    return whole.replace("interface Ethernet0/0\n", CRYPTO + "interface Ethernet0/0\n")


def crossed(link: Any) -> Counter[int]:
    """IP protocols of what went over a link so far, which is forgotten then."""
    found = Counter(frame.octets[23] for frame in link.frames if frame.octets[12:14] == b"\x08\0")
    link.frames.clear()
    return found


def up(net: Net, node: str) -> set[str]:
    rows = net.routers[node].bus.rows(SaState).get("ikev2", {})
    return {key.interface for key, row in rows.items() if row.up}


async def settle(net: Net, names: set[str]) -> None:
    for _ in range(300):
        if all(up(net, node) == names for node in ("pe1", "pe2")):
            return
        await asyncio.sleep(0.1)
    raise AssertionError({node: up(net, node) for node in ("pe1", "pe2")})


def test_E04_two_protected_tunnels_with_the_same_ends_in_two_vrfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves in clear, in neither VRF, not even before there are SAs; and no packet takes the other's way."""

    async def story(net: Net, links: dict[str, Any]) -> None:
        await settle(net, {"Tunnel1", "Tunnel2"})
        sad = net.routers["pe1"].tables.sad
        assert {sa.vrf for sa in sad.inbound.values()} == {"BLUE", "RED"}
        assert {key.interface: b.outbound.vrf for key in sad.bundles if (b := sad.bundles[key]).outbound} == {
            "Tunnel1": "RED",
            "Tunnel2": "BLUE",
        }
        for host in ("green1", "yellow1"):
            await net.connected(host, "10.1.2.10")
        for link in links.values():
            assert crossed(link)[GRE] == 0
        for host, outer, idle in (("green1", "RED", "BLUE"), ("yellow1", "BLUE", "RED")):
            for size in (56, 1300, 3000):
                assert await net.reaches(host, "10.1.2.10", size=size)
            assert crossed(links[idle])[ESP] == 0
            found = crossed(links[outer])
            assert (found[ESP] >= 6, found[GRE]) == (True, 0)
        shown = net.text("pe1", "show crypto session detail")
        assert "fvrf: RED ivrf: GREEN" in shown
        assert "fvrf: BLUE ivrf: YELLOW" in shown

    monkeypatch.setattr(test_front_door, "text", lambda number: protected(text(number)))
    play(story)
