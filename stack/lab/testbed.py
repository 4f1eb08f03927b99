"""What the checks of a lab stand on, whether packets are real or in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from stack.lab.capture_folder import CaptureFolder

__all__ = ["Answer", "BackendError", "Testbed"]


class BackendError(Exception):
    """A backend that cannot be had here; the message says why, and what mends it."""


class Answer(NamedTuple):
    """What one echo came to. `kind`: reply, unreachable, time-exceeded, timeout, ...; `source`: who answered, as text."""

    kind: str
    source: str = ""

    @property
    def ok(self) -> bool:
        return self.kind == "reply"


class Testbed(Protocol):
    """A running topology. Every name is the scenario's."""

    backend: str

    async def start(self, capture: CaptureFolder | None) -> None:
        """Bring everything up; `capture`: where what crosses the links is written, and all keys. Raises BackendError."""

    async def stop(self) -> None: ...

    async def ping(
        self,
        host: str,
        destination: str,
        *,
        count: int,
        size: int,
        ttl: int = 64,
        timeout: float = 1.0,  # noqa: ASYNC109  (a probe's timeout is an answer, no error)
    ) -> Sequence[Answer]:
        """`size`: octets of data in the echo."""

    async def show(self, node: str, command: str) -> Any:
        """The plain value of a show command."""

    async def text(self, node: str, command: str) -> str:
        """What a show command prints."""

    async def configure(self, node: str, text: str) -> None:
        """Run on `text` from now on, as SIGHUP does."""

    async def kill(self, node: str) -> None:
        """End a node without good-bye."""

    async def revive(self, node: str) -> None:
        """Start a killed node again."""

    async def cut(self, link: str, *, whole: bool) -> None:
        """Take a link apart so that nothing crosses it, without a word to its first end's far side; `whole`: mend it."""

    def left_out(self) -> int:
        """Frames for which the capture had no room."""

    def frames(self, link: str) -> Sequence[bytes]:
        """What crossed a link since the last `forget`."""

    def forget(self) -> None: ...

    def inject(self, link: str, frame: bytes) -> None:
        """Put a frame on a link, as if its first end had sent it."""

    def now(self) -> float:
        """Seconds, on the clock that `pause` moves."""

    async def pause(self, seconds: float) -> None:
        """Let time pass between two looks at something that is not there yet."""
