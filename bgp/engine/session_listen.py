"""Where we listen, by VRF: what is wanted, what is asked for, and when it is tried again where the host refused."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field

from bgp.engine.outputs import Listen, Log, Output, Unlisten

__all__ = ["LISTEN_AGAIN", "Listeners"]

LISTEN_AGAIN = 5.0
"""Seconds before the second attempt to listen where the host refused the first."""


@define(eq=False)
class Listeners:
    """Bounded by the VRFs."""

    _asked: dict[str, Listen] = field(factory=dict)
    _again: dict[str, float] = field(factory=dict)

    def settle(self, wanted: Mapping[str, Listen], now: float) -> list[Output]:
        """Listen as `wanted` says, and nowhere else."""
        outputs: list[Output] = []
        # Where nobody is listened to any more nothing is tried again: a time that stays in the past would wake us for ever.
        self._again = {vrf: when for vrf, when in self._again.items() if vrf in wanted}
        for vrf, one in list(self._asked.items()):
            if vrf not in wanted or wanted[vrf].port != one.port:
                del self._asked[vrf]
                outputs.append(Unlisten(vrf, one.address, one.port))
        for vrf, one in wanted.items():
            if self._asked.get(vrf) != one and self._again.get(vrf, now) <= now:
                self._asked[vrf] = one
                self._again.pop(vrf, None)
                outputs.append(one)
        return outputs

    def failed(self, vrf: str, reason: str, now: float) -> list[Output]:
        """The host does not let us listen there; we try again."""
        self._asked.pop(vrf, None)
        self._again[vrf] = now + LISTEN_AGAIN
        return [Log("error", "cannot listen for BGP", {"vrf": vrf or "default", "reason": reason})]

    def stop(self) -> list[Output]:
        outputs: list[Output] = [Unlisten(one.vrf, one.address, one.port) for one in self._asked.values()]
        self._asked.clear()
        self._again.clear()
        return outputs

    def vrfs(self) -> tuple[str, ...]:
        return tuple(sorted(self._asked))

    def deadline(self) -> float | None:
        return min(self._again.values(), default=None)
