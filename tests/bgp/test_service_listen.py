"""One listener for neighbours that differ: in the TTL demanded of them (RFC 5082), in their keys (RFC 2385)."""

from __future__ import annotations

import asyncio
from typing import Any

from attrs import evolve

from bgp.config import BgpConfig, ConnectionMode, ListenRange, NeighborConfig
from bgp.engine.session_config import Ear, listeners
from bgp.service import BgpService
from stack.addr import Prefix, parse_address
from stack.bus import Bus
from stack.net import TcpOptions
from stack.testing import MemoryNode, VirtualClock, run
from tests.bgp.test_service import ID_A, A, B, state, two_hosts

C = parse_address("192.0.2.3")


def neighbours(*of: NeighborConfig, **more: Any) -> BgpConfig:
    return BgpConfig(asn=65000, router_id=ID_A, neighbors={(one.vrf, one.address): one for one in of}, **more)


def ebgp(address: bytes, **more: Any) -> NeighborConfig:
    return NeighborConfig(address=address, remote_as=65001, **more)


def test_rfc5082_3_a_listener_knows_who_demands_more_than_the_others() -> None:
    alike = neighbours(ebgp(B, ttl_security=1), ebgp(C, ttl_security=1))
    assert listeners(alike) == {"": Ear((), 255, ())}
    mixed = neighbours(ebgp(B, ttl_security=2), ebgp(C))
    assert listeners(mixed) == {"": Ear((), 0, ((Prefix.host(B), 254),))}
    groups = {"spokes": NeighborConfig(remote_as=65001, ttl_security=1)}
    ranges = (ListenRange(Prefix.parse("192.0.2.0/24"), "spokes"),)
    eased = neighbours(ebgp(B), peer_groups=groups, listen_ranges=ranges)
    assert listeners(eased)[""].hops == ((Prefix.parse("192.0.2.0/24"), 255), (Prefix.host(B), 0))
    many = neighbours(*(ebgp(bytes((10, 0, 0, n))) for n in range(1, 100)), ebgp(B, ttl_security=1))
    assert listeners(many)[""].hops == ((Prefix.host(B), 255),)


class Silent(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard = b""
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


def test_rfc5082_3_a_far_connection_is_not_even_accepted_although_another_neighbour_may_be_far() -> None:
    async def scenario() -> None:
        world = two_hosts()
        secured = ebgp(B, ttl_security=1, mode=ConnectionMode.PASSIVE)
        a = BgpService(
            neighbours(secured, ebgp(C, mode=ConnectionMode.PASSIVE)),
            bus=Bus(),
            network=world.node("a"),
            clock=VirtualClock(),
            entropy=world.node("a").entropy,
        )
        task = asyncio.create_task(a.run())
        await asyncio.sleep(1)
        b = world.node("b")
        far = asyncio.ensure_future(b.connect_tcp(Silent, TcpOptions(local=B, remote=A, ttl=254)))
        await asyncio.sleep(5)
        assert not far.done()
        assert world.node("a").tcp.drops["GTSM"] >= 1
        assert not a._connections
        far.cancel()
        _, near = await b.connect_tcp(Silent, TcpOptions(local=B, remote=A, ttl=255))
        await asyncio.sleep(1)
        assert near.heard  # its OPEN
        await a.stop()
        await task

    run(scenario(), limit=300)


class Keyless:
    """A network whose host takes no key of `victim`."""

    def __init__(self, node: MemoryNode, victim: bytes) -> None:
        self._node, self._victim = node, victim

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def listen_tcp(self, factory: Any, options: TcpOptions) -> Any:
        taken = tuple(one for one in options.keys if not one[0].covers(self._victim))
        listener = await self._node.listen_tcp(factory, evolve(options, keys=taken))
        listener.keyless = {prefix: "no TCP MD5" for prefix, _ in set(options.keys) - set(taken)}
        return listener


def test_B21_a_key_that_the_host_does_not_take_keeps_its_neighbour_out_and_nobody_else() -> None:
    async def scenario() -> None:
        world = two_hosts()
        world.node("b").address("eth0", "192.0.2.3/24")
        passive = {"mode": ConnectionMode.PASSIVE}
        a = BgpService(
            neighbours(ebgp(B, password="secret", **passive), ebgp(C, **passive)),
            bus=Bus(),
            network=Keyless(world.node("a"), B),
            clock=VirtualClock(),
            entropy=world.node("a").entropy,
        )
        task = asyncio.create_task(a.run())
        await asyncio.sleep(1)
        b = world.node("b")
        _, unsigned = await b.connect_tcp(Silent, TcpOptions(local=B, remote=A))
        _, other = await b.connect_tcp(Silent, TcpOptions(local=C, remote=A))
        await asyncio.sleep(1)
        assert unsigned.lost
        assert not unsigned.heard
        assert other.heard
        assert not other.lost
        assert state(a, ("", C)).value == "OpenSent"
        await a.stop()
        await task

    run(scenario(), limit=300)


def test_B21_each_peer_of_one_listener_has_its_own_key() -> None:
    async def scenario() -> None:
        world = two_hosts()
        world.node("b").address("eth0", "192.0.2.3/24")
        keys = ((Prefix.host(B), b"of b"), (Prefix.host(C), b"of c"))
        listener = await world.node("a").listen_tcp(Silent, TcpOptions(keys=keys))
        b = world.node("b")
        for local, key, comes in ((B, b"of b", True), (C, b"of c", True), (B, b"of c", False), (C, b"", False)):
            attempt = asyncio.ensure_future(b.connect_tcp(Silent, TcpOptions(local=local, remote=A, md5=key)))
            await asyncio.sleep(5)
            assert attempt.done() is comes
            attempt.cancel()
        assert "of b" not in repr(listener.options)
        listener.close()

    run(scenario(), limit=300)
