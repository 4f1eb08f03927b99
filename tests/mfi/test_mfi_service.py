"""The label service on virtual time: labels as state, and what its restart costs its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from mfi.config import MfiConfig
from mfi.service import RESYNC_WITHIN, SERVICE, MfiService
from stack.addr import Prefix, PrefixFec
from stack.bus import Bus
from stack.events import LabelBound, LabelRequest, LabelRow, LabelWanted, Synced
from stack.service import Context, Supervisor
from stack.testing import Recorder, VirtualClock, VirtualLoop, run

MGRE = frozenset({"mgre"})
FECS = [PrefixFec("red", Prefix(bytes((10, n, 0, 0)), 16)) for n in range(9)]


QUIET = structlog.wrap_logger(
    structlog.ReturnLogger(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(50)
)
"""Services are killed here on purpose; their tracebacks are not news."""


class SpyBus(Bus):
    """Notes at each LabelBound whether the LFIB already says so."""

    lfib: Any = None
    written: list[bool] = []  # noqa: RUF012  (one bus a test; the test empties it)

    def publish(self, topic: Any, owner: str, incarnation: int, table: str, rows: Any) -> None:
        if topic is LabelBound:
            self.written.extend(self.lfib.get(row.label) is not None for row in rows.values() if row)
        super().publish(topic, owner, incarnation, table, rows)


class Node:
    def __init__(self) -> None:
        self.bus = SpyBus()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.context = Context(bus=self.bus, network=None, clock=VirtualClock(loop), log=QUIET)  # type: ignore[arg-type]
        self.lfib = SpyBus.lfib = self.context.tables.lfib
        self.recorder = Recorder(self.bus, (LabelBound,))
        self.supervisor = Supervisor(self.context)
        self.config = MfiConfig(quarantine=30.0)
        self.supervisor.start("mfi", lambda context: SERVICE.factory(self.config, context))
        self.bgp, self.nhrp = self.bus.attach("bgp"), self.bus.attach("nhrp")

    @property
    def service(self) -> MfiService:
        service = self.supervisor.service("mfi")
        assert isinstance(service, MfiService)
        return service

    def want(self, seat: Any, *fecs: PrefixFec) -> None:
        seat.publish(LabelWanted, {fec: LabelRequest(MGRE) for fec in fecs})

    def bound(self) -> dict[PrefixFec, LabelRow]:
        return dict(self.bus.rows(LabelBound).get("mfi", {}))


def on_a_node(story: Callable[[Node], Awaitable[None]]) -> None:
    async def tell() -> None:
        node = Node()
        try:
            await story(node)
        finally:
            await node.supervisor.stop()

    run(tell(), limit=1000)


def test_labels_are_bound_after_their_ilm_is_written() -> None:
    SpyBus.written.clear()

    async def story(node: Node) -> None:
        node.want(node.bgp, *FECS[:3])
        node.want(node.nhrp, FECS[0])
        await asyncio.sleep(0.1)
        assert node.bound() == {fec: LabelRow(16 + n) for n, fec in enumerate(FECS[:3])}
        node.bgp.publish(LabelWanted, {FECS[0]: None, FECS[1]: None})
        await asyncio.sleep(0.1)
        assert set(node.bound()) == {FECS[0], FECS[2]}
        assert sorted(node.lfib.rows) == [16, 18]

    on_a_node(story)
    assert SpyBus.written == [True, True, True]


def test_labels_do_not_change_over_a_restart_and_leavers_are_noticed() -> None:
    async def story(node: Node) -> None:
        node.want(node.bgp, *FECS[:3])
        node.want(node.nhrp, FECS[3])
        node.bgp.synced(LabelWanted)
        node.nhrp.synced(LabelWanted)
        await asyncio.sleep(0.1)
        before = node.bound()
        node.service.fail(RuntimeError("killed by a test"))
        await asyncio.sleep(0.05)
        assert sorted(node.lfib.rows) == [16, 17, 18, 19]  # forwarding goes on
        node.bgp.publish(LabelWanted, {FECS[1]: None})
        node.want(node.bgp, FECS[4])
        await asyncio.sleep(1)
        assert node.bound() == {fec: row for fec, row in before.items() if fec != FECS[1]} | {FECS[4]: LabelRow(20)}
        assert sorted(node.lfib.rows) == [16, 18, 19, 20]
        assert Synced(LabelBound, "mfi", 2) in [recorded.message for recorded in node.recorder.messages]

    on_a_node(story)


def test_a_silent_client_delays_the_sweep_only_so_long() -> None:
    async def story(node: Node) -> None:
        node.want(node.bgp, *FECS[:2])
        await asyncio.sleep(0.1)
        node.service.fail(RuntimeError("killed by a test"))
        await asyncio.sleep(0.05)
        node.bgp.publish(LabelWanted, {FECS[1]: None})
        await asyncio.sleep(RESYNC_WITHIN / 2)
        assert sorted(node.lfib.rows) == [16, 17]
        await asyncio.sleep(RESYNC_WITHIN)
        assert sorted(node.lfib.rows) == [16]

    on_a_node(story)


def test_quarantine_is_driven_by_the_deadline() -> None:
    async def story(node: Node) -> None:
        await asyncio.sleep(0.1)
        node.service.reconfigure(MfiConfig(first=16, last=16, quarantine=30.0))
        node.want(node.bgp, FECS[0])
        await asyncio.sleep(0.1)
        node.bgp.publish(LabelWanted, {FECS[0]: None})
        node.want(node.bgp, FECS[1])
        await asyncio.sleep(29.5)
        assert node.bound()[FECS[1]].label is None
        await asyncio.sleep(1.0)
        assert node.bound()[FECS[1]] == LabelRow(16)

    on_a_node(story)
