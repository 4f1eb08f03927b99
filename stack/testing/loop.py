"""Virtual time: an asyncio loop that jumps its clock when nothing is runnable, and the clock and entropy that go with it."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Coroutine
from pathlib import PurePath
from typing import Any, NoReturn, TypeVar

from attrs import define, field

__all__ = ["EPOCH", "SeededEntropy", "VirtualClock", "VirtualLoop", "run"]

T = TypeVar("T")

EPOCH = 1_735_689_600.0
"""2025-01-01T00:00:00Z: what the wall clock of a virtual world shows at time 0."""

_SPIN_LIMIT = 2_000_000
"""Turns of the loop without any passing of time, after which it is taken for a livelock."""
_UNHANDLED_KEPT = 64
_TASKS_NAMED = 12


class _JumpSelector(selectors.DefaultSelector):
    """Never waits: it moves the loop's clock instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            self.loop.waited(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An hour of timers in milliseconds, the same every time. Time starts at 0.

    When no callback is runnable and no timer armed, the run ends with a RuntimeError that names the waiting tasks. There
    are no threads, child processes or file descriptors: time would jump past them. `unhandled` keeps what callbacks
    raised and nobody caught.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._spins = 0
        self.unhandled: deque[dict[str, Any]] = deque(maxlen=_UNHANDLED_KEPT)
        selector = _JumpSelector()
        selector.loop = self
        super().__init__(selector)
        self.set_exception_handler(self._keep)

    def time(self) -> float:
        return self._now

    def waited(self, timeout: float | None) -> None:
        """Instead of sleeping: pass `timeout` seconds at once. RuntimeError if nothing can ever happen again."""
        if timeout is None:
            raise RuntimeError(self._deadlock())
        if timeout > 0:
            self._now += timeout
            self._spins = 0
            return
        self._spins += 1
        if self._spins > _SPIN_LIMIT:
            self._spins = 0
            raise RuntimeError(f"livelock at {self._now:.6f} s: {_SPIN_LIMIT} turns and time does not pass")

    def _keep(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unhandled.append(context)
        self.default_exception_handler(context)

    def _deadlock(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        waiting = [f"{task.get_name()} in {_innermost(task)}" for task in tasks[:_TASKS_NAMED]]
        if len(tasks) > _TASKS_NAMED:
            waiting.append(f"and {len(tasks) - _TASKS_NAMED} more")
        return (
            f"deadlock at {self._now:.6f} s: nothing is runnable and no timer is armed; waiting: "
            f"{', '.join(waiting) or 'no task'}"
        )

    # What would run outside virtual time. Every call is refused, whatever its arguments: hence the ignores.

    def run_in_executor(self, *args: Any, **_options: Any) -> NoReturn:  # type: ignore[override]
        _refuse("threads", *args[1:2])

    def add_reader(self, *args: Any, **_options: Any) -> NoReturn:  # type: ignore[override]
        _refuse("file descriptors", *args)

    def add_writer(self, *args: Any, **_options: Any) -> NoReturn:  # type: ignore[override]
        _refuse("file descriptors", *args)

    async def subprocess_exec(self, *args: Any, **_options: Any) -> NoReturn:
        _refuse("child processes", *args[1:])

    async def subprocess_shell(self, *args: Any, **_options: Any) -> NoReturn:
        _refuse("child processes", *args[1:])


def _refuse(what: str, *asked: Any) -> NoReturn:
    raise RuntimeError(f"VirtualLoop has no {what}, because time would jump past them: {', '.join(map(repr, asked))}")


def _innermost(task: asyncio.Task[Any]) -> str:
    """Where a task waits: the last frame of its chain of awaits."""
    inner: Any = task.get_coro()
    place = getattr(inner, "__qualname__", repr(inner))
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        if frame is not None:
            place = f"{frame.f_code.co_qualname} ({PurePath(frame.f_code.co_filename).name}:{frame.f_lineno})"
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return place


def run(coro: Coroutine[Any, Any, T], *, limit: float | None = None, strict: bool = True) -> T:
    """Run `coro` on a fresh VirtualLoop and return its result.

    `limit` in virtual seconds: TimeoutError after it. `strict`: what a callback raised and nobody caught fails the run.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        result = runner.run(_within(coro, limit))
    if strict and loop.unhandled:
        context = loop.unhandled[0]
        error = context.get("exception") or RuntimeError(context["message"])
        error.add_note(f"unhandled in the loop: {context['message']} ({len(loop.unhandled)} in all)")
        raise error
    return result


async def _within(coro: Coroutine[Any, Any, T], limit: float | None) -> T:
    try:
        async with asyncio.timeout(limit) as scope:
            return await coro
    except TimeoutError:
        if scope.expired():
            raise TimeoutError(f"not done after {limit} virtual seconds") from None
        raise


@define
class VirtualClock:
    """`stack.clock.Clock` on a loop's time: `now` is the loop's, `wall` is `epoch` later. Without a loop: the running one."""

    loop: asyncio.AbstractEventLoop | None = None
    epoch: float = EPOCH

    def now(self) -> float:
        return (self.loop or asyncio.get_running_loop()).time()

    def wall(self) -> float:
        return self.epoch + self.now()


@define
class SeededEntropy:
    """`stack.entropy.Entropy` that gives the same octets for the same seed. For tests only: everyone can guess them."""

    seed: int | str | bytes
    _random: random.Random = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  (to be repeatable is the point)

    def __call__(self, count: int) -> bytes:
        return self._random.randbytes(count)
