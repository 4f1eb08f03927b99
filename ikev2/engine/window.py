"""Message ids, retransmission and cached answers (RFC 7296 2.1 to 2.3), and what an exchange of ours is.

Our window, which is how many requests the peer may have under way, is one: we never say SET_WINDOW_SIZE. The peer's is one
unless it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from ikev2.wire.numbers import Exchange
from ikev2.wire.payloads import Payload

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = [
    "BACK_OFF",
    "FIRST_INTERVAL",
    "MAX_OWN_WINDOW",
    "MAX_QUEUE",
    "Answered",
    "Pending",
    "Schedule",
    "Task",
]

FIRST_INTERVAL = 0.5
"""Seconds until a request is sent for the second time."""
BACK_OFF = 1.8
"""Each further interval is so much longer (RFC 7296 2.4 wants them to grow)."""
MAX_QUEUE = 128
"""Exchanges of ours that wait, in one IKE SA."""
MAX_OWN_WINDOW = 4
"""Requests of ours under way at once, whatever the peer allows."""


@frozen
class Schedule:
    """How often a request is sent (`tries`), and when again: `first` seconds later, then each time `factor` times
    longer."""

    tries: int
    first: float = FIRST_INTERVAL
    factor: float = BACK_OFF


class Task(ABC):
    """An exchange that we begin. `alone`: nothing else of ours may be under way. `child`: the CHILD_SA it is about (0:
    none); one exchange of ours at a time is about a CHILD_SA. `makes`: it creates, rekeys or closes a CHILD_SA, which RFC
    7296 2.25.2 keeps apart from rekeying the IKE SA. `not_before`: it waits until then."""

    exchange: int = Exchange.INFORMATIONAL
    alone: bool = False
    makes: bool = False
    child: int = 0
    not_before: float = 0.0
    schedule: Schedule | None = None

    @abstractmethod
    def build(self, sa: Core) -> list[Payload] | None:
        """The request's payloads; None: there is no need for it any more."""

    @abstractmethod
    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:
        """The peer's answer, opened and decoded."""

    def lost(self, sa: Core) -> None:
        """No answer came. RFC 7296 2.4: then the IKE SA is dead."""
        sa.die("no answer from the peer", silent=True)

    def dropped(self, sa: Core) -> None:  # noqa: B027  (most have nothing to undo)
        """It will not be carried out, or not be answered: the IKE SA is over."""


@define(eq=False)
class Pending:
    """A request of ours that is not answered yet. `datagrams`: one, or its fragments; without non-ESP marker."""

    task: Task
    message_id: int
    datagrams: tuple[bytes, ...] = field(repr=False)
    schedule: Schedule
    due: float
    interval: float
    sent: int = 1


@define(eq=False)
class Answered:
    """The peer's last request, by the hash of its (first) datagram, and what we answered (empty: not answered yet)."""

    message_id: int
    request: int
    datagrams: tuple[bytes, ...] = field(default=(), repr=False)
