"""One more subscriber of the bus: it remembers what was said, and waits for what a test expects."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from attrs import define, field

from stack.bus import Bus, Mailbox, Message
from stack.events import Delta, Fact, Topic
from stack.tables.owned import OwnedRows

__all__ = ["Recorded", "Recorder"]

K = TypeVar("K")
R = TypeVar("R")
F = TypeVar("F", bound=Fact)

_KEPT = 100_000
_TOLD = 8


class Recorded(NamedTuple):
    """When (the loop's seconds) the recorder took what."""

    time: float
    message: Message


@define(eq=False)
class Recorder:
    """Records every message of the topics and fact types it is given, newest last; the oldest go above `kept`.

    recorder = Recorder(bus, kinds=(RouteSelected, PeerUp))
    fact = await recorder.until_fact(PeerUp, timeout=10)
    await recorder.until(lambda r: prefix in r.rows(RouteSelected, "red"), timeout=10)
    """

    bus: Bus
    kinds: tuple[Topic[Any, Any] | type[Fact], ...]
    name: str = "recorder"
    kept: int = _KEPT
    messages: deque[Recorded] = field(init=False)
    _rows: OwnedRows = field(factory=OwnedRows, init=False)
    _mailbox: Mailbox = field(init=False)
    _news: asyncio.Event = field(factory=asyncio.Event, init=False)
    _loop: asyncio.AbstractEventLoop = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.messages = deque(maxlen=self.kept)
        self._mailbox = Mailbox(self.name, self._ready)
        for kind in self.kinds:
            self.bus.deliver(kind, self._mailbox)

    def rows(self, topic: Topic[K, R], table: str = "", owner: str | None = None) -> Mapping[K, R]:
        """What stands of a topic, as this subscriber was told: all owners' rows merged, or one owner's."""
        if owner is None:
            return self._rows.merged(topic, table)
        return self._rows.by_owner(topic, table).get(owner, {})

    def facts(self, kind: type[F]) -> list[F]:
        return [message for _, message in self.messages if isinstance(message, kind)]

    def deltas(self, topic: Topic[Any, Any]) -> list[Delta]:
        return [message for _, message in self.messages if isinstance(message, Delta) and message.topic is topic]

    async def until(self, predicate: Callable[[Recorder], bool], timeout: float = 60.0) -> None:  # noqa: ASYNC109
        """Wait until `predicate(self)` holds; it is asked now, and again after each batch.

        TimeoutError after `timeout` seconds, with the last few messages.
        """
        try:
            async with asyncio.timeout(timeout):
                while not predicate(self):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            last = "\n  ".join(_line(recorded) for recorded in list(self.messages)[-_TOLD:]) or "nothing"
            raise TimeoutError(
                f"not within {timeout} s; the last of {len(self.messages)} messages:\n  {last}"
            ) from None

    async def until_fact(
        self,
        kind: type[F],
        predicate: Callable[[F], bool] = lambda _: True,
        timeout: float = 60.0,  # noqa: ASYNC109  (as in `until`: it tells what came instead)
    ) -> F:
        """The first fact of that type, recorded already or yet to come, for which `predicate` holds."""
        found: list[F] = []

        def asked(recorder: Recorder) -> bool:
            found[:] = [fact for fact in recorder.facts(kind) if predicate(fact)][:1]
            return bool(found)

        await self.until(asked, timeout)
        return found[0]

    def clear(self) -> None:
        """Forget the messages; the rows that stand stay."""
        self.messages.clear()

    def close(self) -> None:
        self.bus.unsubscribe(self._mailbox)

    def _ready(self) -> None:
        self._loop.call_soon(self._take)

    def _take(self) -> None:
        now = self._loop.time()
        for message in self._mailbox.take():
            self.messages.append(Recorded(now, message))
            if isinstance(message, Delta):
                self._rows.apply(message)
        self._news.set()


def _line(recorded: Recorded) -> str:
    message = recorded.message
    if isinstance(message, Delta):
        what = f"{message.topic} of {message.owner} {message.table!r}: {len(message.rows)} rows"
    else:
        what = repr(message)
    return f"{recorded.time:.6f} {what}"
