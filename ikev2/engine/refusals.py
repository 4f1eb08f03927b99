"""Why peers were not let in, for whoever asks: the last refusals, like ones counted together, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

__all__ = ["MAX_REFUSALS", "Refusals", "Refused"]

MAX_REFUSALS = 64
"""Kinds of refusals that are remembered; the one that has not been seen for longest goes."""

MAX_TEXT = 256
"""Characters of a reason or an identity, which hold words of peers."""


@frozen
class Refused:
    """`remote`: of the last one, octets. `identity`: '' of a peer that has not come as far as to say one: those are from
    anywhere, and all that failed alike are one row. `ours`: we had asked. `first`, `last`: on the clock's scale."""

    remote: bytes
    identity: str
    profile: str
    reason: str
    ours: bool
    first: float
    last: float
    count: int = 1


class Refusals:
    def __init__(self) -> None:
        self._rows: dict[tuple[bytes, str, str, bool], Refused] = {}

    def note(self, remote: bytes, identity: str, profile: str, reason: str, now: float, *, ours: bool = False) -> None:
        identity, reason = identity[:MAX_TEXT], reason[:MAX_TEXT]
        # A flood of strangers must not drive out what is known of peers.
        key = (remote if identity or ours else b"", identity, reason, ours)
        before = self._rows.pop(key, None)
        if before is None:
            row = Refused(remote, identity, profile, reason, ours, now, now)
        else:
            row = evolve(before, remote=remote, profile=profile, last=now, count=before.count + 1)
        self._rows[key] = row
        if len(self._rows) > MAX_REFUSALS:
            del self._rows[next(iter(self._rows))]

    def __iter__(self) -> Iterator[Refused]:
        """The newest first."""
        return reversed(list(self._rows.values()))
