"""Services and their supervisor: crash containment, restart with back-off, stop in order. Time is virtual."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stack.bus import Message
from stack.events import Delta, Owners, ServiceDown, ServiceUp, Topic
from stack.service import BACKOFF, STOP_WITHIN, SWEEP_AFTER, Context, ServiceShell, Supervisor
from stack.testing import MemoryNetwork, VirtualClock, run

COLOURS: Topic[str, int] = Topic("Colours", Owners.ONE, "name -> number")


def context() -> Context:
    return Context(bus=_bus(), network=MemoryNetwork().node("n"), clock=VirtualClock())


def _bus() -> Any:
    from stack.bus import Bus

    return Bus()


class Painter(ServiceShell):
    """Publishes a colour an incarnation, and does what the test says."""

    name = "painter"

    def __init__(self, where: Context, log: list[str], *, fails_at: float | None = None) -> None:
        super().__init__(where)
        self.seen = log
        self.fails_at = fails_at
        self.closed = False

    async def begin(self) -> None:
        self.seen.append(f"begin {self.context.incarnation}")
        self.seat.publish(COLOURS, {f"colour {self.context.incarnation}": 1})
        self.seat.synced(COLOURS)
        if self.fails_at is not None:
            self.fails_at += self.now

    def deadline(self) -> float | None:
        return self.fails_at

    def wake(self) -> None:
        raise ValueError("out of paint")

    async def drain(self) -> None:
        self.seen.append("drain")

    def close(self) -> None:
        self.seen.append("close")


class Viewer(ServiceShell):
    name = "viewer"

    def __init__(self, where: Context) -> None:
        super().__init__(where)
        self.rows: dict[str, int] = {}
        self.facts: list[Message] = []

    async def begin(self) -> None:
        self.seat.subscribe(COLOURS, ServiceDown, ServiceUp)

    def receive(self, message: Message) -> None:
        if isinstance(message, Delta):
            self.rows.update(message.rows)
        elif isinstance(message, ServiceDown | ServiceUp):
            self.facts.append(message)


def test_S01_a_service_that_raises_comes_back_and_others_notice_nothing() -> None:
    async def main() -> None:
        where, log = context(), []
        supervisor = Supervisor(where)
        viewers: list[Viewer] = []
        supervisor.start("viewer", lambda c: viewers.append(Viewer(c)) or viewers[-1])
        await asyncio.sleep(0)
        supervisor.start("painter", lambda c: Painter(c, log, fails_at=1.0 if c.incarnation == 1 else None))
        await asyncio.sleep(1.0 + BACKOFF[0] / 2)
        # The rows of the dead incarnation stand until the next one has synced.
        assert viewers[0].rows == {"colour 1": 1}
        assert supervisor.service("painter") is None
        await asyncio.sleep(BACKOFF[0])
        assert viewers[0].rows == {"colour 1": None, "colour 2": 1}
        down = [fact for fact in viewers[0].facts if isinstance(fact, ServiceDown)]
        assert down == [ServiceDown("painter", 1, "ValueError: out of paint")]
        assert len(viewers) == 1
        assert log == ["begin 1", "close", "begin 2"]
        states = {process.name: (process.state, process.restarts) for process in supervisor.processes()}
        assert states == {"viewer": ("running", 0), "painter": ("running", 1)}
        await supervisor.stop()
        assert log[-2:] == ["drain", "close"]

    run(main())


def test_S01_back_off_grows_and_the_rows_of_a_hopeless_service_go() -> None:
    async def main() -> None:
        where, log = context(), []
        supervisor = Supervisor(where)
        supervisor.start("painter", lambda c: Painter(c, log, fails_at=0.0))
        await asyncio.sleep(sum(BACKOFF) + 0.5)
        starts = [line for line in log if line.startswith("begin")]
        assert len(starts) == len(BACKOFF) + 1
        await asyncio.sleep(SWEEP_AFTER)
        assert where.bus.rows(COLOURS)["painter"] == {}
        await supervisor.stop()

    run(main())


def test_S01_what_a_guarded_callback_raises_ends_only_its_service() -> None:
    async def main() -> None:
        where, log = context(), []
        supervisor = Supervisor(where)
        services: list[Painter] = []
        supervisor.start("painter", lambda c: services.append(Painter(c, log)) or services[-1])
        supervisor.start("viewer", Viewer)
        await asyncio.sleep(0.1)

        def broken() -> None:
            raise KeyError("a peer's octets")

        asyncio.get_running_loop().call_soon(services[0].guarded(broken))
        await asyncio.sleep(1.0)
        assert [(p.name, p.incarnation) for p in supervisor.processes()] == [("painter", 2), ("viewer", 1)]
        await supervisor.stop()

    run(main())


def test_stop_goes_in_reverse_order_and_leaves_no_task() -> None:
    async def main() -> None:
        where, log = context(), []

        class Last(Painter):
            name = "last"

            async def begin(self) -> None:
                self.spawn(asyncio.sleep(1_000), "long work")

            async def drain(self) -> None:
                log.append("last drains")

        supervisor = Supervisor(where)
        supervisor.start("painter", lambda c: Painter(c, log))
        supervisor.start("last", lambda c: Last(c, log))
        await asyncio.sleep(0.1)
        await supervisor.stop()
        assert log == ["begin 1", "last drains", "close", "drain", "close"]
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_a_service_that_does_not_stop_is_ended() -> None:
    async def main() -> None:
        where, log = context(), []

        class Stubborn(Painter):
            async def drain(self) -> None:
                await asyncio.sleep(10_000)

        supervisor = Supervisor(where)
        supervisor.start("painter", lambda c: Stubborn(c, log))
        await asyncio.sleep(0.1)
        started = where.clock.now()
        await supervisor.stop()
        assert where.clock.now() - started == pytest.approx(STOP_WITHIN)
        assert log[-1] == "close"

    run(main())
