"""The label service: feeds the LIB from the bus, tells clients their labels.

After its own restart the labels in the LFIB stand; those that no client has claimed are freed once every client heard has
said that this is all (`Synced`), or RESYNC_WITHIN has passed.
"""

from __future__ import annotations

from typing import Any

from mfi.config import MfiConfig
from mfi.engine import Engine, Publish, fec_text
from mfi.lines import CHECKS, LINES
from mfi.show import COMMANDS
from stack.bus import Message
from stack.events import Delta, LabelBound, LabelWanted, Synced
from stack.registry import ServiceSpec
from stack.service import Context, ServiceShell

__all__ = ["RESYNC_WITHIN", "SERVICE", "MfiService"]

RESYNC_WITHIN = 10.0
"""Seconds that a restarted service waits for its clients before it frees labels that nobody claimed."""


class MfiService(ServiceShell):
    """FEC -> label for one node."""

    name = "mfi"
    produces = frozenset({LabelBound})
    consumes = frozenset({LabelWanted})
    engine: Engine

    def __init__(self, config: MfiConfig, context: Context) -> None:
        super().__init__(context)
        self.config = config
        self._heard: set[str] = set()
        self._synced: set[str] = set()
        self._sweep_at: float | None = None

    async def begin(self) -> None:
        lfib = self.context.tables.lfib
        self.engine = Engine(self.config, lfib.writer(self.name))
        if len(lfib):
            self._sweep_at = self.now + RESYNC_WITHIN
        self.engine.start()
        self.seat.subscribe(LabelWanted)
        if self._sweep_at is None:
            self.seat.synced(LabelBound)
        else:
            self.received()

    def receive(self, message: Message) -> None:
        if isinstance(message, Delta):
            self._heard.add(message.owner)
            self.engine.feed(message.owner, message.rows)
        elif isinstance(message, Synced):
            self._synced.add(message.owner)

    def received(self) -> None:
        self._perform(self.engine.settle(self.now))
        if self._sweep_at is not None and not len(self.seat.mailbox) and self._heard <= self._synced:
            self._sweep()

    def deadline(self) -> float | None:
        times = [when for when in (self.engine.deadline(), self._sweep_at) if when is not None]
        return min(times, default=None)

    def wake(self) -> None:
        if self._sweep_at is not None and self.now >= self._sweep_at:
            self.log.warning("not every client said what it wants", late=sorted(self._heard - self._synced))
            self._sweep()
        self._perform(self.engine.wake(self.now))

    def reconfigure(self, config: Any) -> None:
        self.config = config
        self._perform(self.engine.reconfigure(config, self.now))
        self.rearm()

    def _sweep(self) -> None:
        self._sweep_at = None
        self._perform(self.engine.sweep(self.now))
        self.seat.synced(LabelBound)

    def _perform(self, outputs: list[Publish]) -> None:
        for output in outputs:
            self.seat.publish(output.topic, output.rows)
            refused = [(fec, row.reason) for fec, row in output.rows.items() if row is not None and row.label is None]
            if refused:
                fec, reason = refused[0]
                self.log.warning("no label", fec=fec_text(fec), reason=reason, in_all=len(refused))

    def close(self) -> None:
        self.context.tables.revoke(self.name)


SERVICE = ServiceSpec(
    name="mfi",
    factory=MfiService,
    config=MfiConfig,
    produces=frozenset({LabelBound}),
    consumes=frozenset({LabelWanted}),
    writes=frozenset({"lfib"}),
    lines=LINES,
    checks=CHECKS,
    commands=COMMANDS,
    rank=20,
)
