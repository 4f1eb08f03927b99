"""One run of a scenario: what every check of a lab stands on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from attrs import define, field, frozen

from stack.control import ControlError
from stack.ios.command import CommandError
from stack.ios.faults import ConfigError
from stack.lab.frames import Seen, look
from stack.lab.prepare import filled
from stack.lab.scenario import EVERY_NODE, Check, Sabotage, Scenario, ScenarioError, replaced
from stack.lab.testbed import Answer, BackendError, Testbed

__all__ = ["POLL", "TROUBLE", "Conduct", "Red", "Row", "words_of"]

POLL = 0.1
"""Seconds between two looks at something that is not there yet."""

FIRST_SIZE, NEXT_SIZE = 100, 40
"""Data octets of every customer's pings: a size of its own tells whose an echo is, although the addresses are the same."""


class Red(Exception):
    """A check that failed, with what was seen instead."""


TROUBLE = (CommandError, ControlError, ConfigError, BackendError, ScenarioError, OSError)
"""What a testbed may raise about a node that is away, or half up: that is a red row, and no reason to end the lab."""


@frozen
class Row:
    """One line of the verdict."""

    name: str
    ok: bool
    seen: str
    seconds: float


@define
class Conduct:
    """One run of a scenario on a testbed."""

    scenario: Scenario
    bed: Testbed
    sabotage: Sabotage | None = None
    prepared: Mapping[str, str] = field(factory=dict)
    """What stands for `{name}` in configurations."""

    def text(self, node: str) -> str:
        """A node's configuration, as sabotage left it."""
        text = self.scenario.node[node]
        if self.sabotage is not None and self.sabotage.node in (node, EVERY_NODE):
            text = replaced(text, self.sabotage.replace)
        return filled(text, self.prepared)

    def size(self, customer: str) -> int:
        return FIRST_SIZE + NEXT_SIZE * self.scenario.customers.index(customer)

    async def until(self, check: Check, look_once: Callable[[], Awaitable[str]]) -> str:
        """What `look_once` says when it stops being red; its last complaint when time is up."""
        end = self.bed.now() + check.within
        while True:
            try:
                return await look_once()
            except (Red, *TROUBLE):
                if self.bed.now() >= end:
                    raise
            await self.bed.pause(POLL)

    async def ping(self, host: str, destination: str, ttl: int = 64, within: float = 1.0) -> Answer:
        """One echo of a customer's host."""
        size = self.size(self.scenario.host[host].customer)
        answers = await self.bed.ping(host, destination, count=1, size=size, ttl=ttl, timeout=within)
        return answers[0]

    def seen(self, link: str) -> list[Seen]:
        """What has crossed a link."""
        return [look(frame) for frame in self.bed.frames(link)]


def words_of(answer: Answer) -> str:
    return answer.kind + (f" from {answer.source}" if answer.source else "")
