"""The shell around the NHRP speaker: the bus and one timer. All that is NHRP is in `nhrp.engine`; the packets themselves are
the packet path's, which says what came in (`NhrpReceived`, `Hairpin`) and sends what it is given (`SendNhrp`)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, assert_never

from nhrp.checks import CHECKS
from nhrp.config import NhrpConfig
from nhrp.engine.outputs import AskUsed, Log, Output, Post, Publish, Send, SyncedOut
from nhrp.engine.snapshot import SpeakerSnapshot
from nhrp.engine.speaker import PRODUCED, Kept, Speaker
from nhrp.events import NhsDown, NhsUp, RedirectReceived, RedirectSent, ShortcutDown, ShortcutUp
from nhrp.lines import LINES
from nhrp.show import COMMANDS, explain, samples
from nhrp.wire import WireError, decode
from stack.addr import Afi, Prefix, format_address
from stack.bus import Message, NoServer
from stack.events import (
    AdjacencyState,
    Fact,
    Hairpin,
    InterfaceState,
    LabelBound,
    NhrpReceived,
    OverlayState,
    RouteSelected,
    RoutesUsed,
    SaState,
    SendNhrp,
    Topic,
    TunnelState,
)
from stack.registry import ServiceSpec
from stack.service import Context, ServiceShell

__all__ = ["SERVICE", "NhrpService"]

PRODUCES: frozenset[Any] = frozenset(
    {*PRODUCED, SendNhrp, ShortcutUp, ShortcutDown, NhsUp, NhsDown, RedirectSent, RedirectReceived}
)
READS: tuple[Any, ...] = (
    InterfaceState,
    TunnelState,
    OverlayState,
    SaState,
    AdjacencyState,
    LabelBound,
    RouteSelected,
    NhrpReceived,
    Hairpin,
)
"""In this order: what a packet is judged by is best heard before the packet."""
CONSUMES: frozenset[Any] = frozenset(READS)

TURNS = 3
"""Turns of the loop that the packet path has to send our good-byes."""


class NhrpService(ServiceShell):
    """`nhrp`. `debugging`: what is logged in detail, of `packet` (each packet's content) and `event` (what the speaker
    decides); never a password. `failures`: messages that the speaker could not take, which is a defect of ours; each costs
    that message only."""

    name = "nhrp"
    produces = PRODUCES
    consumes = CONSUMES

    def __init__(self, config: NhrpConfig, context: Context) -> None:
        super().__init__(context)
        tables = context.tables
        self.speaker = Speaker(
            config,
            context.entropy,
            rib=tables.rib,
            nexthops=tables.nexthops,
            lfib=tables.lfib,
            kept=context.kept.setdefault(self.name, Kept()),
        )
        self.debugging: frozenset[str] = frozenset()
        self.failures = 0
        self._synced: list[Topic[Any, Any]] = []
        self._told = False

    # --- the shell ------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        self._perform(self.speaker.start(self.now))
        self.seat.subscribe(*READS)
        if not len(self.seat.mailbox):
            self._heard()

    def receive(self, message: Message) -> None:
        if not isinstance(message, Fact):
            self._perform(self.speaker.receive(message, self.now))
            return
        if self.debugging and isinstance(message, NhrpReceived):
            self._show("received", message.interface, message.outer_source, message.octets)
        # A peer chose what is in a fact. The speaker is total; were it not, one packet must not end all tunnels' NHRP.
        try:
            outputs = self.speaker.receive(message, self.now)
        except Exception as error:
            self._failed(message, error)
        else:
            self._perform(outputs)

    def received(self) -> None:
        if not self._told and not len(self.seat.mailbox):
            self._heard()

    def _heard(self) -> None:
        """All that stands was heard. Only now is what an earlier incarnation said and we did not say again withdrawn, so that a
        hub loses none of its clients for a moment."""
        self._told = True
        self.seat.synced(*self._synced)
        self._synced.clear()

    def wake(self) -> None:
        self._perform(self.speaker.wake(self.now))

    def deadline(self) -> float | None:
        return self.speaker.deadline()

    async def drain(self) -> None:
        """Purge what others were told. Nobody is waited for, but the packet path, which must have its turn."""
        self._perform(self.speaker.stop(self.now))
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def reconfigure(self, config: Any) -> None:
        self._perform(self.speaker.reconfigure(config, self.now))
        self.rearm()

    # --- what commands and monitoring use -------------------------------------------------------------------------------

    def snapshot(self) -> SpeakerSnapshot:
        return self.speaker.snapshot(self.now)

    def clear(
        self,
        *,
        address: bytes | None = None,
        afi: Afi | None = None,
        vrf: str | None = None,
        counters: bool = False,
    ) -> int:
        """Forget what was learned, of an address, a family, a VRF or all; `counters`: only those. How many entries it meant."""
        meant, outputs = self.speaker.clear(self.now, address=address, afi=afi, vrf=vrf, counters=counters)
        if counters:
            self.failures = 0
        self._perform(outputs)
        self.rearm()
        return meant

    # --- outputs --------------------------------------------------------------------------------------------------------

    def _perform(self, outputs: Iterable[Output]) -> None:
        waiting = deque(outputs)
        while waiting:
            output = waiting.popleft()
            match output:
                case Send(interface, nbma, octets):
                    if self.debugging:
                        self._show("sent", interface, nbma, octets)
                    self.seat.post(SendNhrp(interface, nbma, octets))
                case Publish(topic, rows, table):
                    self.seat.publish(topic, rows, table)
                case SyncedOut(topic):
                    if self._told:
                        self.seat.synced(topic)
                    else:
                        self._synced.append(topic)
                case Post(fact):
                    self.seat.post(fact)
                case AskUsed(vrf, prefixes):
                    waiting.extend(self._used(vrf, prefixes))
                case Log(event, fields, level):
                    say = self.log.info if level == "debug" and "event" in self.debugging else getattr(self.log, level)
                    say(event, **fields)
                case _:
                    assert_never(output)

    def _used(self, vrf: str, prefixes: tuple[Prefix, ...]) -> list[Output]:
        """Of a packet path that does not tell, all are taken to be used."""
        try:
            used = self.seat.ask(RoutesUsed(vrf, prefixes))
        except NoServer:
            used = frozenset(prefixes)
        return self.speaker.used(vrf, used, self.now)

    def _failed(self, message: Fact, error: Exception) -> None:
        """A defect of ours, in the log with its traceback: the 1st, 2nd, 4th, 8th ... time, since a peer may repeat it."""
        self.failures += 1
        if not self.failures & (self.failures - 1):
            kind = type(message).__name__
            self.log.error("a message could not be taken", message=kind, in_all=self.failures, exc_info=error)

    def _show(self, what: str, interface: str, far: bytes, octets: bytes) -> None:
        if "packet" not in self.debugging:
            return
        try:
            text = explain(decode(octets))
        except WireError as error:
            text = f"malformed: {error}"
        self.log.info(what, interface=interface, nbma=format_address(far) if far else "", packet=text)


SERVICE = ServiceSpec(
    name="nhrp",
    factory=NhrpService,
    config=NhrpConfig,
    produces=PRODUCES,
    consumes=CONSUMES,
    optional=CONSUMES,
    lines=LINES,
    checks=CHECKS,
    commands=COMMANDS,
    samples=lambda service: samples(service.snapshot(), service.failures),
    rank=50,
)
