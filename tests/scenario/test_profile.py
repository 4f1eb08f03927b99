"""The L3VPN profile's life: removed and added again, then `clear ip bgp soft`; health lines; both encapsulations."""

from __future__ import annotations

import asyncio
from typing import Any

from stack.config import Config
from stack.lab.conduct import Conduct
from stack.lab.frames import look
from stack.lab.memory import MemoryTestbed
from stack.testing import run
from tests.scenario.beds import mgre

PROFILE = """l3vpn encapsulation ip core tunnel
 transport ipv4 source Loopback0
 protocol gre key 1234
!
"""


async def routes(bed: MemoryTestbed, node: str) -> list[Any]:
    found = []
    for vrf in ("Customer Red", "Customer Blue"):
        for family in ("ip", "ipv6"):
            rows = await bed.show(node, f"show {family} cef vrf {vrf}")
            found.append(sorted(str(row) for row in rows))
    return found


def test_a_profile_removed_and_added_again_restores_every_route() -> None:
    async def main() -> None:
        bed = await mgre()
        conduct: Conduct = bed.conduct
        text = conduct.text("pe1")
        assert PROFILE in text
        before = await routes(bed, "pe1")
        assert (await bed.ping("red1", "10.1.3.10", count=1, size=100))[0].ok
        bed.routers["pe1"].apply(Config.from_ios(text.replace(PROFILE, ""), source="pe1"))
        await asyncio.sleep(2)
        assert not (await bed.ping("red1", "10.1.3.10", count=1, size=100))[0].ok
        # The LSP needs no profile: it goes on. (pe2's answer rides in the tunnel that pe1 has no more.)
        bed.forget()
        await bed.ping("red1", "10.7.2.1", count=1, size=100)
        lsp = [frame for frame in map(look, bed.frames("pe1-pe2")) if frame.ethertype == 0x8847]
        assert [(frame.labels[0], frame.echo, frame.inner[1]) for frame in lsp] == [(502, 100, b"\x0a\7\2\1")]
        assert "192.0.2.3" not in str(await bed.show("pe1", "show adjacency"))
        bed.routers["pe1"].apply(Config.from_ios(text, source="pe1"))
        await asyncio.sleep(1)
        bed.routers["pe1"].execute("clear ip bgp soft")
        await asyncio.sleep(3)
        assert await routes(bed, "pe1") == before
        assert (await bed.ping("red1", "10.1.3.10", count=1, size=100))[0].ok
        await bed.stop()

    run(main(), strict=False)


def test_both_encapsulations_at_once_and_show_says_which() -> None:
    async def main() -> None:
        bed = await mgre()
        router = bed.routers["pe1"]
        tunnelled = router.execute("show ip cef vrf Customer Red tunnel 0").text
        assert "10.1.2.0/24" in tunnelled
        assert "10.7.2.0/24" not in tunnelled
        lsp = router.execute("show ip cef vrf Customer Red 10.7.2.0").text
        assert "502" in lsp
        assert "Ethernet0/3" in lsp
        await bed.stop()

    run(main(), strict=False)


def test_the_health_lines() -> None:
    async def main() -> None:
        bed = await mgre()
        router = bed.routers["pe1"]
        text = router.execute("show l3vpn encapsulation ip core tunnel").text
        assert text.splitlines()[1:] == [
            "Profile: core tunnel",
            "transport ipv4 source Loopback0",
            "protocol gre key 1234",
            "Tunnel Tunnel0 Created [OK]",
            "Tunnel Linestate [OK]",
            "Tunnel Transport Source Loopback0 [OK]",
        ]
        assert router.execute("show l3vpn encapsulation core tunnel").text == text
        broken = bed.conduct.text("pe1").replace("transport ipv4 source Loopback0", "transport ipv4 source Loopback9")
        router.apply(Config.from_ios(broken, source="pe1"))
        await asyncio.sleep(1)
        text = router.execute("show l3vpn encapsulation ip core tunnel").text
        assert "Tunnel Linestate [FAIL: interface Loopback9 does not exist]" in text
        await bed.stop()

    run(main(), strict=False)
