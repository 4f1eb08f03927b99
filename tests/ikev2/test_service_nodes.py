"""Whole nodes from IOS text: a FlexVPN hub, two spokes, real GRE in real ESP on an in-memory Ethernet, counted on the wire."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from stack.addr import Prefix, parse_address
from stack.config import Config
from stack.events import AccessWanted, AddressOffered, BindingOffered, RouteOffered, SaKey, SaState
from stack.router import Router
from stack.testing import MemoryNetwork, SeededEntropy, VirtualClock, run

COMMON = """aaa new-model
aaa authorization network default local
!
crypto ikev2 keyring K
 peer any
  address 0.0.0.0 0.0.0.0
  pre-shared-key a-secret
 !
!
crypto ikev2 authorization policy default
{policy} route set interface
!
crypto ikev2 profile default
 match identity remote fqdn domain example
 identity local fqdn {name}.example
 authentication local pre-share
 authentication remote pre-share
 keyring local K
 dpd 10 2 on-demand
 aaa authorization group psk list default default
{template}!
crypto ipsec profile P
 set security-association lifetime seconds 900
!
"""

HUB = (
    "hostname hub\nip local pool POOL 10.0.0.10 10.0.0.20\n"
    + COMMON.format(name="hub", policy=" pool POOL\n", template=" virtual-template 1\n")
    + """interface Loopback0
 ip address 10.0.0.1 255.255.255.255
!
interface Ethernet0/0
 ip address 192.0.2.1 255.255.255.0
!
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback0
 tunnel source Ethernet0/0
 mpls bgp forwarding
 tunnel protection ipsec profile P
!
end
"""
)


def spoke(number: int) -> str:
    return (
        f"hostname s{number}\n"
        + COMMON.format(name=f"s{number}", policy="", template="")
        + f"""interface Ethernet0/0
 ip address 192.0.2.{number} 255.255.255.0
!
interface Tunnel0
 ip address negotiated
 tunnel source Ethernet0/0
 tunnel destination 192.0.2.1
 mpls bgp forwarding
 tunnel protection ipsec profile P
!
end
"""
    )


class Lab:
    def __init__(self) -> None:
        self.world = MemoryNetwork(seed=5)
        self.core = self.world.link(("hub", "e0"), ("s2", "e0"), ("s3", "e0"))
        self.routers = {
            name: Router(
                Config.from_ios(text, source=name),
                network=self.world.node(name),
                clock=VirtualClock(),
                entropy=SeededEntropy(name),
                bindings={"Ethernet0/0": "e0"},
            )
            for name, text in (("hub", HUB), ("s2", spoke(2)), ("s3", spoke(3)))
        }

    def rows(self, node: str, topic: Any) -> dict[Any, Any]:
        return dict(self.routers[node].bus.rows(topic).get("ikev2", {}))

    def routes(self, node: str) -> dict[Any, Any]:
        """Those that lead somewhere."""
        return {prefix: route for prefix, route in self.rows(node, RouteOffered).items() if route.vias}

    def up(self, node: str, interface: str) -> bool:
        row = self.rows(node, SaState).get(SaKey(interface))
        return row is not None and row.up

    async def ping(self, node: str, to: str, count: int = 1, **named: Any) -> int:
        """How many were not answered."""
        results = await self.world.node(node).ping(to, count=count, **named)
        return sum(not result.ok for result in results)

    def protocols(self) -> Counter[int]:
        """IP protocols of the frames that went over the core."""
        frames = [frame.octets for frame in self.core.frames]
        return Counter(octets[23] for octets in frames if octets[12:14] == b"\x08\x00")


@asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    made = Lab()
    async with AsyncExitStack() as stack:
        for router in made.routers.values():
            await stack.enter_async_context(router)
        for _ in range(200):
            await asyncio.sleep(0.1)
            if len(made.rows("hub", AccessWanted)) == 2 and made.up("s2", "Tunnel0") and made.up("s3", "Tunnel0"):
                break
        await asyncio.sleep(1)
        yield made


ESP, GRE = 50, 47


def test_a_hub_and_two_spokes() -> None:
    async def main() -> None:
        async with lab() as made:
            assert set(made.routes("hub")) == {Prefix.parse(f"10.0.0.{n}/32") for n in (10, 11)}
            assert len(made.rows("hub", BindingOffered)) == 2
            assert set(made.rows("s2", RouteOffered)) == {Prefix.parse("10.0.0.1/32")}
            (address,) = (key[1] for key in made.rows("s2", AddressOffered))
            assert address in (parse_address("10.0.0.10"), parse_address("10.0.0.11"))
            assert await made.ping("s2", "10.0.0.1", 5) == 0
            assert await made.ping("s3", "10.0.0.1", 5) == 0
            seen = made.protocols()
            assert seen[ESP] >= 20
            assert seen[GRE] == 0
            sas = made.routers["hub"].context.tables.sad.inbound.values()
            assert sum(sa.use.packets for sa in sas) >= 10

    run(main())


def test_rekeys_and_a_crash_of_ikev2_lose_no_ping() -> None:
    async def main() -> None:
        async with lab() as made:
            lost = 0
            for second in range(1100):
                if second in (100, 400):
                    service: Any = made.routers["hub"].service("ikev2")
                    service.fail(RuntimeError("a bug"))
                if second == 500:
                    service = made.routers["s2"].service("ikev2")
                    service.fail(RuntimeError("another"))
                lost += await made.ping("s2", "10.0.0.1", timeout=0.9)
                await asyncio.sleep(1)
            assert lost == 0
            assert made.protocols()[GRE] == 0
            assert [p.restarts for p in made.routers["hub"].processes() if p.name == "ikev2"] == [2]
            # s3 had nothing to say, and noticed when it was time to rekey
            sessions = made.routers["hub"].execute("show crypto session").text
            assert sessions.count("UP-ACTIVE") == 2

    run(main())


def test_nothing_is_left_when_a_spoke_goes() -> None:
    async def main() -> None:
        async with lab() as made:
            await made.routers["s3"].stop()
            await asyncio.sleep(10)
            assert len(made.rows("hub", AccessWanted)) == len(made.routes("hub")) == 1
            assert len(made.rows("hub", BindingOffered)) == len(made.rows("hub", SaState)) == 1
            assert len(made.routers["hub"].context.tables.sad.inbound) == 1
            assert await made.ping("s2", "10.0.0.1") == 0

    run(main())


def test_fail_closed_while_there_is_no_sa() -> None:
    async def main() -> None:
        async with lab() as made:
            before = made.protocols()[ESP]
            hub: Any = made.routers["hub"].service("ikev2")
            spoke: Any = made.routers["s2"].service("ikev2")
            spoke.speaker.node.stopping = True  # it will not call again
            assert hub.clear() == 2
            await asyncio.sleep(1)
            assert not made.up("s2", "Tunnel0")
            assert await made.ping("s2", "10.0.0.1", 3, timeout=0.5) == 3
            assert made.protocols()[GRE] == 0
            assert made.protocols()[ESP] - before < 5

    run(main())
