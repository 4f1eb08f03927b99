"""What one service raises, wherever it raises it, costs the others nothing: starting, running, reconfiguring, stopping."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from attrs import frozen

from stack.addr import Prefix, parse_address
from stack.bus import Bus, Seat, Undeclared
from stack.config import Config, NodeConfig, StaticRoute
from stack.events import Delta, Fact, Owners, RouteOffered, Synced, Topic
from stack.registry import ServiceSpec
from stack.router import Router
from stack.service import BACKOFF, Context, ServiceShell, Supervisor
from stack.testing import MemoryNetwork, VirtualClock, run

COLOURS: Topic[str, int] = Topic("Colours", Owners.ONE, "name -> number")


@frozen
class Rang(Fact):
    number: int


@frozen
class OneConfig:
    number: int = 0


@frozen
class OtherConfig:
    number: int = 0


class Recording(ServiceShell):
    """Notes what it is told in `notes`, shared by all incarnations."""

    name = "one"

    def __init__(self, config: Any, where: Context, notes: list[str]) -> None:
        super().__init__(where)
        self.notes, self.config = notes, config

    async def begin(self) -> None:
        self.notes.append(f"{self.name} begins with {self.config.number}")

    def reconfigure(self, config: Any) -> None:
        self.config = config
        self.notes.append(f"{self.name} is told {config.number}")

    def close(self) -> None:
        self.notes.append(f"{self.name} closes")


class Other(Recording):
    name = "other"


class Unable(Recording):
    """Cannot take a new configuration while it runs."""

    def reconfigure(self, config: Any) -> None:
        raise LookupError("no such thing")


def spec(kind: type[Recording], config: type[Any], notes: list[str]) -> ServiceSpec:
    return ServiceSpec(kind.name, lambda settings, where: kind(settings, where, notes), config=config)


def node(*specs: ServiceSpec, config: Config | None = None) -> Router:
    settings = config or Config({NodeConfig: NodeConfig()})
    return Router(settings, network=MemoryNetwork().node("n"), clock=VirtualClock(), specs=specs)


def context() -> Context:
    return Context(bus=Bus(), network=MemoryNetwork().node("n"), clock=VirtualClock())


# --- apply ----------------------------------------------------------------------------------------------------------------


def test_a_service_that_cannot_take_a_configuration_starts_anew_with_it_and_the_next_one_is_told() -> None:
    async def main() -> None:
        notes: list[str] = []
        router = node(spec(Unable, OneConfig, notes), spec(Other, OtherConfig, notes))
        async with router:
            await asyncio.sleep(0.1)
            router.apply(router.config.replace(OneConfig(7)).replace(OtherConfig(8)))
            await asyncio.sleep(BACKOFF[0] * 2)
            assert notes == [
                "one begins with 0",
                "other begins with 0",
                "other is told 8",
                "one closes",
                "one begins with 7",
            ]
            assert [(p.name, p.incarnation, p.reason) for p in router.processes()] == [
                ("one", 2, "LookupError: no such thing"),
                ("other", 1, ""),
            ]

    run(main())


def test_what_apply_raises_it_raises_before_anything_has_changed() -> None:
    async def main() -> None:
        notes: list[str] = []
        maps = ServiceSpec(
            "maps",
            lambda settings, where: Other(settings, where, notes),
            config=OtherConfig,
            route_maps=lambda settings: [][settings.number :] if settings.number < 2 else 1 / 0,  # type: ignore[return-value]
        )
        router = node(spec(Recording, OneConfig, notes), maps)
        async with router:
            await asyncio.sleep(0.1)
            before, stood = router.config, router.bus.snapshot()
            with pytest.raises(ZeroDivisionError):
                router.apply(before.replace(OneConfig(7)).replace(OtherConfig(2)))
            await asyncio.sleep(1)
            assert router.config is before
            assert router.bus.snapshot() == stood
            assert "one is told 7" not in notes

    run(main())


def test_every_owner_of_configured_rows_says_that_this_is_all() -> None:
    # a floating static route has an owner of its own: whoever waits for all owners after a restart waits for it too
    def static(distance: int) -> StaticRoute:
        return StaticRoute("", Prefix.parse(f"10.{distance}.0.0/16"), parse_address("192.0.2.1"), distance=distance)

    async def main() -> None:
        router = node(config=Config({NodeConfig: NodeConfig(static_routes=(static(1), static(200)))}))
        async with router:
            later = router.config.replace(NodeConfig(static_routes=(static(1), static(200), static(250))))
            router.apply(later)
            seat = router.bus.attach("reader")
            seat.subscribe(RouteOffered)
            heard = seat.mailbox.take()
            owners = {message.owner for message in heard if isinstance(message, Delta)}
            assert owners == {"static", "static 200", "static 250"}
            assert {message.owner for message in heard if isinstance(message, Synced)} == owners

    run(main())


# --- running --------------------------------------------------------------------------------------------------------------


def test_S01_a_service_whose_inner_task_was_cancelled_comes_back() -> None:
    async def main() -> None:
        where, notes = context(), []
        supervisor = Supervisor(where)

        class Waiting(Recording):
            async def begin(self) -> None:
                await super().begin()
                if self.context.incarnation == 1:
                    inner = asyncio.ensure_future(asyncio.sleep(5))
                    asyncio.get_running_loop().call_later(1, inner.cancel)
                    await inner

        supervisor.start("one", lambda c: Waiting(OneConfig(), c, notes))
        await asyncio.sleep(2)
        (process,) = supervisor.processes()
        assert (process.state, process.incarnation) == ("running", 2)
        assert notes == ["one begins with 0", "one closes", "one begins with 0"]
        await supervisor.stop()

    run(main())


def test_a_dead_seat_neither_posts_nor_sweeps_for_the_next_incarnation() -> None:
    bus = Bus()
    old: Seat = bus.attach("owner")
    old.publish(COLOURS, {"red": 1})
    reader = bus.attach("reader")
    reader.subscribe(COLOURS, Rang)
    reader.mailbox.take()
    bus.attach("owner", incarnation=2)
    old.synced(COLOURS)  # a task of the dead incarnation that was a little late
    old.post(Rang(1))
    assert reader.mailbox.take() == []
    assert bus.rows(COLOURS) == {"owner": {"red": 1}}


def test_synced_is_checked_against_the_declaration_too() -> None:
    seat = Bus().attach("strict", produces=())
    with pytest.raises(Undeclared):
        seat.synced(COLOURS)


# --- stopping -------------------------------------------------------------------------------------------------------------


def test_a_service_that_raises_when_asked_to_stop_keeps_nobody_from_stopping() -> None:
    async def main() -> None:
        where, notes = context(), []
        supervisor = Supervisor(where)

        class Refusing(Other):
            async def stop(self) -> None:
                raise RuntimeError("not now")

        supervisor.start("one", lambda c: Recording(OneConfig(), c, notes))
        supervisor.start("other", lambda c: Refusing(OtherConfig(), c, notes))
        await asyncio.sleep(0.1)
        await supervisor.stop()
        assert notes[-2:] == ["other closes", "one closes"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_what_is_kept_is_closed_although_another_thing_cannot_be() -> None:
    async def main() -> None:
        where, closed = context(), []

        class Left:
            def __init__(self, name: str) -> None:
                self.name = name

            def close(self) -> None:
                closed.append(self.name)
                if self.name == "first":
                    raise OSError("the host refused")

        where.kept.update(first=Left("first"), second=Left("second"))
        await Supervisor(where).stop()
        assert closed == ["first", "second"]
        assert where.kept == {}

    run(main())
