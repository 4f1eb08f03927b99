"""INFORMATIONAL exchanges that delete (RFC 7296 1.4.1, 2.25.1).

    HDR, SK {D(ESP, our inbound SPI)}  -->
                                       <--  HDR, SK {D(ESP, the peer's)}

A CHILD_SA that both delete at once is gone by both requests; each is answered without its SPI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.engine import children as sas
from ikev2.engine.children import Child, ChildState
from ikev2.engine.contract import ChildUp, PutOutbound
from ikev2.engine.sastate import State, Step
from ikev2.engine.window import Schedule, Task
from ikev2.wire.numbers import Exchange, ProtocolId
from ikev2.wire.payloads import Delete, Payload

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = ["CLOSING", "DeleteChild", "DeleteIke", "deleted"]

CLOSING = Schedule(tries=4)
"""A DELETE of an IKE SA is not repeated for long: we let go of it either way."""


class DeleteChild(Task):
    """`unknown`: the peer alone holds it; `number` is the SPI that we had told it."""

    exchange = Exchange.INFORMATIONAL
    makes = True

    def __init__(self, number: int, *, unknown: bool = False) -> None:
        self.child = number
        self.unknown = unknown

    def build(self, sa: Core) -> list[Payload] | None:
        child = sa.children.get(self.child)
        if child is None:
            if not self.unknown:
                return None
        elif child.state is ChildState.DELETING:
            return None
        else:
            child.state = ChildState.DELETING
        return [Delete(ProtocolId.ESP, (self.child.to_bytes(4),))]

    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:  # noqa: ARG002  (whatever it says)
        child = sa.children.get(self.child)
        if child is not None:
            sas.gone(sa, child, "deleted")
        elif self.unknown:
            self.dropped(sa)

    def dropped(self, sa: Core) -> None:
        if self.unknown:
            self.unknown = False
            sa.release(self.child)


class DeleteIke(Task):
    """`reason`: why it is over; `retry`: whether it is worth trying again."""

    exchange = Exchange.INFORMATIONAL
    schedule = CLOSING

    def __init__(self, reason: str, *, retry: bool = True) -> None:
        self.reason, self.retry = reason, retry

    def mark(self, sa: Core) -> None:
        if sa.state is not State.DELETING:
            sa.step(Step.DELETE)

    def build(self, sa: Core) -> list[Payload] | None:
        self.mark(sa)
        return [Delete(ProtocolId.IKE)]

    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:  # noqa: ARG002  (whatever it says)
        sa.die(self.reason, retry=self.retry)

    def lost(self, sa: Core) -> None:
        sa.die(self.reason, retry=self.retry)


def deleted(sa: Core, child: Child) -> bool:
    """The peer has deleted `child`. True: our answer names our SPI; False: we had said DELETE for it too."""
    if child.state is ChildState.DELETING:
        sas.gone(sa, child, "deleted")
        return False
    if child.redundant:
        sas.gone(sa, child, "")
        return True
    rival = sa.children.get(child.rival.number) if child.rival is not None else None
    heir = rival or sa.children.get(child.replaced_by)
    if heir is not None:
        # Who deletes the old one is sure of the new one. Our own rekey, if one is under way, ends when its answer is here.
        child.replaced_by = heir.number
        sas.carry(sa, heir)
        sas.gone(sa, child, "")
        return True
    prior = _prior(sa, child)
    if prior is not None:
        _back_to(sa, prior, child)
    sas.gone(sa, child, "deleted by the peer")
    return True


def _prior(sa: Core, child: Child) -> Child | None:
    """The CHILD_SA that the peer had rekeyed to `child`, if it still stands: the peer has thought better of it."""
    prior = sa.children.get(child.replaces)
    if prior is None or child.ours or not prior.held:
        return None
    if prior.state is ChildState.REPLACED and prior.replaced_by == child.number:
        return prior
    if prior.rival is not None and prior.rival.number == child.number:
        return prior
    return None


def _back_to(sa: Core, prior: Child, child: Child) -> None:
    if prior.state is ChildState.REPLACED:
        prior.state, prior.replaced_by = ChildState.INSTALLED, 0
    # A rival's nonces are kept: they decide about our own rekey, which is still under way.
    if child.carries:
        child.carries, prior.carries = False, True
        sa.say(PutOutbound(prior.outbound))
        sa.say(ChildUp(prior.terms.key, prior.number, prior.inbound, prior.outbound, child.number))
    child.up = False
