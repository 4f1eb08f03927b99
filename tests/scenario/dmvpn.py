"""DMVPN of whole nodes in memory, by whatever configuration a test writes: hubs and spokes, a LAN and a host each.

    host1 - spoke1 198.51.1.1 --\\                            --- hub1 198.51.101.1 - host101      overlay 10.0.0.1
                                 --------- internet ---------
    host2 - spoke2 198.51.2.1 --/                             --- hub2 198.51.102.1 - host102      overlay 10.0.0.2

Spoke N: overlay 10.0.0.1N, LAN 192.168.N.0/24. Hub N: overlay 10.0.0.N, LAN 192.168.10N.0/24.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from attrs import define

from stack.events import RouteOffered
from stack.testing import MemoryNat, run
from stack.testing.node import MemoryNode
from tests.scenario.memory import Net

__all__ = ["Cloud", "Node", "play"]


@define
class Node:
    """A hub or a spoke: `lines` stand in its tunnel, `more` at the end, `vrf` is its LAN's and its tunnel's, `way`: where its
    route to the internet leads."""

    number: int
    hub: bool = False
    lines: str = ""
    more: str = ""
    vrf: str = ""
    tunnel: str = " tunnel mode gre multipoint\n tunnel key 7\n"
    wan: str = ""
    before: str = ""
    way: str = "0.0.0.0 0.0.0.0"

    @property
    def name(self) -> str:
        return f"{'hub' if self.hub else 'spoke'}{self.number}"

    @property
    def net(self) -> int:
        return self.number + 100 * self.hub

    @property
    def overlay(self) -> str:
        return f"10.0.0.{self.number + 10 * (not self.hub)}"

    @property
    def nbma(self) -> str:
        return f"198.51.{self.net}.1"

    def text(self) -> str:
        vrf = f" vrf forwarding {self.vrf}\n" if self.vrf else ""
        made = (
            f"vrf definition {self.vrf}\n rd 1:1\n address-family ipv4\n exit-address-family\n!\n" if self.vrf else ""
        )
        return f"""hostname {self.name}
!
{made}{self.before}interface Ethernet0/0
{self.wan} ip address {self.nbma} 255.255.255.0
!
interface Ethernet0/1
{vrf} ip address 192.168.{self.net}.1 255.255.255.0
!
interface Tunnel0
{vrf} ip address {self.overlay} 255.255.255.0
 ip nhrp network-id 1
{self.lines} tunnel source Ethernet0/0
{self.tunnel}!
ip route {self.way} 198.51.{self.net}.2
{self.more}end
"""


class Cloud(Net):
    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.wan: dict[str, Any] = {}
        self.nat: MemoryNat | None = None

    async def build(self, nodes: Iterable[Node], private: Iterable[str] = (), **nat: Any) -> None:
        self.wire(nodes, private, **nat)
        for node in nodes:
            await self.start(node.name, node.text())

    def wire(self, nodes: Iterable[Node], private: Iterable[str] = (), **nat: Any) -> None:
        """`private`: these have a NAT between them and the internet, 203.0.113.5 outside. `nat`: of MemoryNat."""
        internet = self.world.node("internet", forwarding=True)
        nets = [node.net for node in nodes if node.name in private]
        inside = self._behind_nat(internet, nets, **nat) if private else internet
        for node in nodes:
            near = inside if node.name in private else internet
            self.wan[node.name] = self.link(f"{node.name} Ethernet0/0", f"{near.name} eth{node.net}")
            near.address(f"eth{node.net}", f"198.51.{node.net}.2/24")
            self.link(f"{node.name} Ethernet0/1", f"host{node.net} eth0")
            self.host(f"host{node.net}", [f"192.168.{node.net}.10/24"], f"192.168.{node.net}.1")
            self.world.node(node.name).forwarding = True  # the default VRF is the kernel's

    def _behind_nat(self, internet: MemoryNode, nets: Iterable[int], **nat: Any) -> MemoryNode:
        gate, inside = self.world.node("gate"), self.world.node("inside", forwarding=True)
        self.link("gate eth1", "internet eth9")
        internet.address("eth9", "203.0.113.1/24")
        gate.address("eth1", "203.0.113.5/24", *(f"{outer}/32" for outer in nat.get("static", {}).values()))
        gate.route("0.0.0.0/0", "203.0.113.1")
        self.link("gate eth0", "inside eth9")
        gate.address("eth0", "10.99.0.1/24")
        inside.address("eth9", "10.99.0.2/24")
        inside.route("0.0.0.0/0", "10.99.0.1")
        gate.route("198.51.0.0/16", "203.0.113.1")
        for net in nets:
            gate.route(f"198.51.{net}.0/24", "10.99.0.2")
        self.nat = MemoryNat(gate, inside="eth0", outside="eth1", **nat)
        return inside

    # --- what is asked of them ------------------------------------------------------------------------------------------

    def cache(self, node: str, tail: str = "", family: str = "ip") -> dict[str, Mapping[str, Any]]:
        """Prefix -> entry of `show ip nhrp`."""
        return {row["prefix"]: row for row in self.show(node, f"show {family} nhrp {tail}".strip())}

    def servers(self, spoke: str, family: str = "ip") -> dict[str, bool]:
        """NBMA address -> whether it is up."""
        return {row["nbma-address"]: row["up"] for row in self.show(spoke, f"show {family} nhrp nhs")}

    async def registered(self, *spokes: str, within: float = 30.0, family: str = "ip") -> None:
        """Each with one server at least."""
        await self.until(
            lambda: all(any(self.servers(name, family).values()) for name in spokes), within=within, what="registered"
        )

    def counters(self, node: str) -> dict[str, int]:
        """Of the speaker: what was refused and why, and what was done."""
        return dict(self.service(node).speaker.node.counters)

    def service(self, node: str, name: str = "nhrp") -> Any:
        found = self.routers[node].service(name)
        assert found is not None
        return found

    def offered(self, node: str, vrf: str = "", topic: Any = RouteOffered) -> dict[Any, Any]:
        """What NHRP offers."""
        return dict(self.routers[node].bus.rows(topic, vrf).get("nhrp", {}))

    async def through(self, host: str, destination: str, **named: Any) -> list[str]:
        """The routers on the way of an echo, by name: whoever says that its TTL has run out; then the host."""
        names = []
        for ttl in range(1, 12):
            result = await self.ping(host, destination, ttl=ttl, **named)
            if result.ok:
                return names
            assert result.reason == "time exceeded", (names, result)
            names.append(self.owner(result.sender))
        raise AssertionError(f"{names} and no end")

    def owner(self, address: bytes) -> str:
        for name, router in self.routers.items():
            for row in router.context.tables.interfaces.rows.values():
                if address in row.addresses:
                    return name
        return ""

    def gre(self, *names: str) -> int:
        """Customers' packets in GRE that have gone over the WAN links of nodes."""
        return sum(1 for name in names for frame in self.wan[name].frames if _is_customer(frame.octets))

    async def kill(self, name: str) -> None:
        """Its host goes down hard."""
        self.world.node(name).kill()
        await self.routers.pop(name).stop()

    async def revive(self, name: str) -> None:
        await self.start(name, self.texts[name])

    async def restart(self, node: str, name: str = "nhrp") -> None:
        """Its service ends because of a fault, and the next incarnation has begun."""
        router = self.routers[node]
        before = router.service(name)
        assert before is not None
        before.fail(RuntimeError("a fault"))
        await self.until(lambda: router.service(name) not in (None, before), what=f"{name} is back")
        await asyncio.sleep(0.01)


def _is_customer(octets: bytes) -> bool:
    """IPv4 in GRE in IPv4, between LANs."""
    if octets[12:14] != b"\x08\0" or octets[23] != 47 or octets[36:38] != b"\x08\0":
        return False
    inner = octets[38 + 4 * (octets[34] >> 5 & 1) :]
    return inner[12:14] == b"\xc0\xa8" and inner[16:18] == b"\xc0\xa8"


def play(
    story: Callable[[Cloud], Awaitable[None]], *nodes: Node, seed: int = 1, private: Iterable[str] = (), **nat: Any
) -> None:
    """Build, tell, take down; no task may be left. `private`, `nat`: see Cloud.wire."""

    async def main() -> None:
        net = Cloud(seed)
        try:
            await net.build(nodes, private, **nat)
            await story(net)
        finally:
            await net.stop()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    run(main(), strict=False)
