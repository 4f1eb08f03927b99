"""Time as a toy: it jumps, it starts at 0, and a run that can never end says who waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from stack.clock import Clock
from stack.entropy import Entropy
from stack.testing import SeededEntropy, VirtualClock, VirtualLoop, run
from stack.testing.loop import EPOCH


def test_an_hour_takes_milliseconds() -> None:
    async def hour() -> list[float]:
        loop = asyncio.get_running_loop()
        seen = [loop.time()]
        for _ in range(3600):
            await asyncio.sleep(1.0)
        seen.append(loop.time())
        return seen

    began = time.perf_counter()
    start, end = run(hour())
    assert (start, end) == (0.0, pytest.approx(3600.0, abs=1e-6))
    assert time.perf_counter() - began < 2.0


def test_timers_fire_in_order_and_at_their_time() -> None:
    async def body() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[str, float]] = []
        for name, delay in (("late", 90.0), ("early", 0.5), ("middle", 30.0)):
            loop.call_later(delay, lambda name=name: fired.append((name, loop.time())))
        await asyncio.sleep(100)
        return fired

    assert run(body()) == [("early", 0.5), ("middle", 30.0), ("late", 90.0)]


def test_a_deadlock_names_the_tasks_and_where_they_wait() -> None:
    async def waits_for_ever() -> None:
        await asyncio.Event().wait()

    async def body() -> None:
        await asyncio.sleep(7)
        await asyncio.create_task(waits_for_ever(), name="the waiter")

    with pytest.raises(RuntimeError, match=r"deadlock at 7\.0+ s: .*the waiter in Event\.wait \(locks\.py:\d+\)"):
        run(body())


def test_a_livelock_is_reported() -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_soon(again)

        again()
        await asyncio.sleep(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stack.testing.loop._SPIN_LIMIT", 1000)
        with pytest.raises(RuntimeError, match="livelock at 0"):
            run(body())


@pytest.mark.parametrize(
    "outside",
    [
        lambda loop: asyncio.to_thread(time.sleep, 1),
        lambda loop: loop.run_in_executor(None, time.sleep, 1),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_writer(1, print),
        lambda loop: asyncio.create_subprocess_exec("true"),
        lambda loop: asyncio.create_subprocess_shell("true"),
        lambda loop: loop.getaddrinfo("localhost", 80),
    ],
)
def test_threads_descriptors_and_children_are_refused(outside) -> None:
    async def body() -> None:
        await outside(asyncio.get_running_loop())

    with pytest.raises(RuntimeError, match=r"VirtualLoop has no (threads|file descriptors|child processes)"):
        run(body())


def test_the_limit_is_in_virtual_seconds() -> None:
    with pytest.raises(TimeoutError, match="not done after 30 virtual seconds"):
        run(asyncio.sleep(31), limit=30)
    run(asyncio.sleep(29), limit=30)


def test_the_limit_does_not_hide_the_bodys_own_timeout() -> None:
    async def body() -> None:
        async with asyncio.timeout(1):
            await asyncio.sleep(2)

    with pytest.raises(TimeoutError) as caught:
        run(body(), limit=30)
    assert "virtual seconds" not in str(caught.value)


def test_what_a_callback_raises_fails_the_run_unless_told() -> None:
    async def body() -> None:
        asyncio.get_running_loop().call_soon(lambda: {}["missing"])
        await asyncio.sleep(1)

    with pytest.raises(KeyError, match="missing"):
        run(body())
    run(body(), strict=False)


def test_clock_and_entropy_satisfy_the_floors_protocols() -> None:
    async def body() -> tuple[float, float]:
        clock: Clock = VirtualClock()
        await asyncio.sleep(12.5)
        return clock.now(), clock.wall()

    assert run(body()) == (12.5, EPOCH + 12.5)
    entropy: Entropy = SeededEntropy("pe1")
    octets = entropy(16)
    assert len(octets) == 16
    assert octets == SeededEntropy("pe1")(16)
    assert octets != SeededEntropy("pe2")(16)
    assert octets != entropy(16)


def test_a_clock_of_another_loop() -> None:
    loop = VirtualLoop()
    loop.run_until_complete(asyncio.sleep(3))
    assert VirtualClock(loop, epoch=100.0).wall() == 103.0
    loop.close()
