"""BgpService over the kernel's TCP, in two network namespaces: passwords, TTLs, end and restart of a session."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from attrs import evolve

from bgp.config import BgpConfig, ConnectionMode, ListenRange, NeighborConfig, Timers
from bgp.engine.fsm import State
from bgp.service import BgpService
from stack.addr import Prefix, parse_address
from stack.bus import Bus
from stack.os import OsNetwork
from tests.stack.os.os_world import LOOPS, inside, two_nodes

pytestmark = pytest.mark.root

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")
PROMPT = Timers(keepalive=1, hold=3, connect_retry=2)


def config(own: bytes, other: bytes, **more: Any) -> BgpConfig:
    asn = {A: 65001, B: 65002}
    one = NeighborConfig(address=other, remote_as=asn[other], **more)
    return BgpConfig(asn=asn[own], router_id=own, timers=PROMPT, neighbors={("", other): one})


async def serve(settings: BgpConfig, peer: bytes, seconds: float, want: bool) -> tuple[bool, Any]:
    """Run until the session is as wanted (and a second longer), at most `seconds`. Whether it is up, and the snapshot."""
    network = OsNetwork()
    service = BgpService(settings, bus=Bus(), network=network)
    task = asyncio.create_task(service.run())
    deadline = time.monotonic() + seconds
    up = False
    while time.monotonic() < deadline and not (up and want):
        await asyncio.sleep(0.02)
        peers = [one for one in service.snapshot().peers if one.key[1] == peer]
        up = bool(peers) and peers[0].state is State.ESTABLISHED
    await asyncio.sleep(0.5)
    snapshot = service.snapshot()
    await service.stop()
    await asyncio.wait_for(task, 5)
    assert not service._connections
    assert not service._lingering
    network.close()
    return up, snapshot


def both(a: BgpConfig, b: BgpConfig, *, loop: str = "asyncio", want: bool = True, seconds: float = 8.0) -> Any:
    with two_nodes() as (left, right), ThreadPoolExecutor(2) as threads:
        for node, address in ((left, "192.0.2.1"), (right, "192.0.2.2")):
            node.address("eth0", f"{address}/24")
        results = [
            threads.submit(inside, node, lambda s=settings, p=peer: serve(s, p, seconds, want), loop=loop)
            for node, settings, peer in ((left, a, B), (right, b, A))
        ]
        return [one.result(timeout=30) for one in results]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "more",
    [{}, {"password": "se cret"}, {"ttl_security": 1}, {"ebgp_multihop": 2, "password": "x"}],
    ids=["plain", "B21 password", "B22 ttl-security", "multihop and password"],
)
def test_two_kernels_two_services_one_session(loop: str, more: dict[str, Any]) -> None:
    for up, snapshot in both(config(A, B, **more), config(B, A, **more), loop=loop):
        assert up
        assert snapshot.peers[0].dropped <= 1


@pytest.mark.parametrize("active", [True, False])
def test_rfc5082_3_B22_gtsm_drops_what_was_sent_with_a_lower_ttl(active: bool) -> None:
    """One end asks for 255, the other sends 1 (direct eBGP): no session, whoever connects."""
    mode = ConnectionMode.ACTIVE if active else ConnectionMode.PASSIVE
    other = ConnectionMode.PASSIVE if active else ConnectionMode.ACTIVE
    results = both(config(A, B, ttl_security=1, mode=mode), config(B, A, mode=other), want=False, seconds=3)
    assert [up for up, _ in results] == [False, False]


@pytest.mark.parametrize("wrong", ["", "other"])
def test_rfc2385_B21_a_missing_or_wrong_password_is_no_session(wrong: str) -> None:
    results = both(config(A, B, password="right"), config(B, A, password=wrong), want=False, seconds=3)
    assert [up for up, _ in results] == [False, False]


def test_a_listen_range_with_a_password() -> None:
    group = NeighborConfig(remote_as=65002, mode=ConnectionMode.PASSIVE, password="range")
    hub = evolve(
        config(A, B),
        neighbors={},
        peer_groups={"spokes": group},
        listen_ranges=(ListenRange(Prefix.parse("192.0.2.0/24"), "spokes"),),
    )
    (up, _), (other, _) = both(hub, config(B, A, password="range"))
    assert up
    assert other
