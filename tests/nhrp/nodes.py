"""Plain DMVPN of whole nodes in memory: a hub and spokes with multipoint GRE, no IPsec, no labels.

    host1 - spoke1 192.0.2.11 --\\
                                 internet -- hub 192.0.2.1     overlay 10.0.0.0/24
    host2 - spoke2 192.0.2.12 --/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from stack.addr import parse_address
from stack.router import Router
from tests.scenario.memory import Net

__all__ = ["Cloud", "cloud", "hub_text", "spoke_text"]


def hub_text(spokes: int = 2, more: str = "") -> str:
    sites = "".join(f"ip route 192.168.{n}.0 255.255.255.0 10.0.0.1{n}\n" for n in range(1, spokes + 1))
    return f"""hostname hub
!
interface Ethernet0/0
 ip address 198.51.0.1 255.255.255.0
!
interface Tunnel0
 ip address 10.0.0.1 255.255.255.0
 ip nhrp network-id 1
 ip nhrp redirect
{more} tunnel source Ethernet0/0
 tunnel mode gre multipoint
 tunnel key 7
!
ip route 0.0.0.0 0.0.0.0 198.51.0.2
{sites}end
"""


def spoke_text(number: int, more: str = "") -> str:
    return f"""hostname spoke{number}
!
interface Ethernet0/0
 ip address 198.51.{number}.1 255.255.255.0
!
interface Ethernet0/1
 ip address 192.168.{number}.1 255.255.255.0
!
interface Tunnel0
 ip address 10.0.0.1{number} 255.255.255.0
 ip nhrp network-id 1
 ip nhrp nhs 10.0.0.1 nbma 198.51.0.1
 ip nhrp shortcut
{more} tunnel source Ethernet0/0
 tunnel mode gre multipoint
 tunnel key 7
!
ip route 0.0.0.0 0.0.0.0 198.51.{number}.2
ip route 192.168.0.0 255.255.0.0 10.0.0.1
end
"""


class Cloud(Net):
    """The nodes, and what a test asks of them."""

    def service(self, node: str) -> Any:
        found = self.routers[node].service("nhrp")
        assert found is not None
        return found

    def cache(self, node: str, tail: str = "") -> dict[str, Mapping[str, Any]]:
        """Prefix -> entry of `show ip nhrp`."""
        return {row["prefix"]: row for row in self.show(node, f"show ip nhrp {tail}".strip())}

    def registered(self, *spokes: int) -> bool:
        servers = [self.show(f"spoke{n}", "show ip nhrp nhs") for n in spokes or (1, 2)]
        return all(rows and rows[0]["up"] for rows in servers)

    async def ttl(self, source: str, destination: str) -> int:
        """The TTL with which an echo request comes to `destination`; each router on its way took one."""
        result = await self.ping(source, destination)
        assert result.ok, result
        octets = parse_address(destination)
        sent = (
            frame.octets
            for frame in reversed(self.world.frames())
            if frame.octets[12:14] == b"\x08\x00" and frame.octets[30:34] == octets and frame.octets[34] == 8
        )
        return next(sent)[22]

    async def restart(self, node: str, name: str = "nhrp") -> None:
        """Its service ends because of a fault, and the next incarnation has begun."""
        router: Router = self.routers[node]
        before = router.service(name)
        assert before is not None
        before.fail(RuntimeError("a fault"))
        await self.until(lambda: router.service(name) not in (None, before), what=f"{name} is back")
        await asyncio.sleep(0.01)


async def cloud(texts: Mapping[str, str] = {}, spokes: int = 2, seed: int = 1) -> Cloud:
    """All nodes started, and the spokes registered."""
    net = Cloud(seed)
    internet = net.world.node("internet")
    internet.forwarding = True
    for number in range(spokes + 1):
        name = f"spoke{number}" if number else "hub"
        net.link(f"{name} Ethernet0/0", f"internet eth{number}")
        internet.address(f"eth{number}", f"198.51.{number}.2/24")
        if number:
            net.link(f"{name} Ethernet0/1", f"host{number} eth0")
            net.host(f"host{number}", [f"192.168.{number}.10/24"], f"192.168.{number}.1")
    for number in range(spokes + 1):
        name = f"spoke{number}" if number else "hub"
        net.world.node(
            name
        ).forwarding = True  # the global table is the kernel's, which routes to us what we have routes for
        await net.start(name, texts.get(name) or (spoke_text(number) if number else hub_text(spokes)))
    await net.until(lambda: net.registered(*range(1, spokes + 1)), what="the spokes are registered")
    return net
