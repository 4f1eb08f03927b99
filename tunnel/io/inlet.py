"""Where packets come in: what an ingress may carry, and the flow caches behind it."""

from __future__ import annotations

from typing import NamedTuple

from attrs import define, field

from stack.events import Ingress
from stack.tables.fib import Fib
from tunnel.io.rewrite import Rewrite
from tunnel.io.usage import Usage

__all__ = ["MAX_FLOWS", "Arrival", "Flows", "Inlet", "LabelFlow"]

MAX_FLOWS = 8192
"""Destinations remembered an ingress, VRF and family. When full, all are looked up anew as packets come."""


@define(eq=False)
class Flows:
    """What one ingress has sent into one VRF: destination -> rewrite. Valid while the FIB's generation stands.

    `fixed`: where everything goes, whatever its destination (a label that is popped and sent on). `usage` is told what is
    forgotten.
    """

    vrf: str
    fib: Fib | None = None
    generation: int = 0
    fixed: Rewrite | None = None
    four: dict[int, Rewrite] = field(factory=dict)
    six: dict[bytes, Rewrite] = field(factory=dict)
    usage: Usage | None = None

    def clear(self) -> None:
        if self.usage is not None:
            self.usage.harvest(self.vrf, self.four, self.six)
        self.four.clear()
        self.six.clear()

    def learn(self, destination: bytes, rewrite: Rewrite) -> None:
        if len(self.four) >= MAX_FLOWS or len(self.six) >= MAX_FLOWS:
            self.clear()
        if len(destination) == 4:
            self.four[int.from_bytes(destination)] = rewrite
        else:
            self.six[destination] = rewrite


@define(eq=False)
class LabelFlow:
    """What a label leads to, its scope already checked against the ingress.

    `rewrite`: a swap, what was under the label goes under its labels. None: pop, and look the destination up in `flows`.
    `version` 4 or 6: what the packet must be; 0: either. `octets`: what came under it by the fast path, not yet in the
    counters.
    """

    version: int
    flows: Flows = field(factory=lambda: Flows(""))
    rewrite: Rewrite | None = None
    octets: int = 0


@define(eq=False)
class Inlet:
    """One ingress. `interface` is '' for the node itself; `name` is what counters call it.

    `scope`: the kind that labels are checked against. `only_vrf`: labels of another VRF do not come in here (None: any).
    `tunnel`: made from a Reception. `outer`: what enters here are tunnels' own packets, in a VRF.
    """

    name: str
    interface: str
    vrf: str
    scope: str
    tally: list[int]
    mpls: bool = False
    ip: bool = True
    only_vrf: str | None = None
    tunnel: bool = False
    outer: bool = False
    labels: dict[int, LabelFlow] = field(factory=dict)
    flows: dict[str, Flows] = field(factory=dict)

    def learn(self, label: int, flow: LabelFlow) -> None:
        """What `label` leads to; what was counted under it so far stays counted."""
        known = self.labels.get(label)
        if known is not None:
            flow.octets = known.octets
        self.labels[label] = flow

    def harvest(self, counts: dict[int, int]) -> None:
        """Add what the fast path has counted by label."""
        for label, flow in self.labels.items():
            if flow.octets:
                counts[label] = counts.get(label, 0) + flow.octets
                flow.octets = 0

    def clear(self) -> None:
        """Forget all that was looked up. What was counted must have been harvested."""
        self.labels.clear()
        for flows in self.flows.values():
            flows.clear()


class Arrival(NamedTuple):
    """A packet's way so far. `vrf`: whose it is now. `cap`: the TTL of the label that was popped. `stack`: the labels it
    came with. `local`: this node sent it, so its TTL stays. `quiet`: no ICMP error is sent about it."""

    inlet: Inlet
    ingress: Ingress
    vrf: str
    cap: int = 255
    stack: bytes = b""
    local: bool = False
    quiet: bool = False
