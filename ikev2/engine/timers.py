"""What happens to an IKE SA when nobody does anything: `tick`, and when it is due: `due`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.engine import children as sas
from ikev2.engine.children import Child, ChildState
from ikev2.engine.contract import RemoveInbound, Send
from ikev2.engine.exchange.create import CreateChild
from ikev2.engine.exchange.delete import DeleteChild, DeleteIke
from ikev2.engine.exchange.ike_rekey import RekeyIke, end
from ikev2.engine.exchange.inform import Liveness
from ikev2.engine.sastate import State

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = ["CHECK_EVERY", "SWITCH_POLL", "check_alive", "close", "due", "tick"]

SWITCH_POLL = 0.25
"""Seconds between looks whether a packet has come on a CHILD_SA that the peer has made."""
CHECK_EVERY = 10.0
"""Seconds at least between liveness checks that somebody provokes: unprotected messages may be anybody's."""
KEEPALIVE = b"\xff"
"""RFC 3948 2.3."""


def tick(sa: Core) -> None:
    sa.retransmit()
    now = sa.now
    if sa.state is State.CLOSED:
        return
    if sa.give_up_at and now >= sa.give_up_at:
        sa.give_up_at = 0.0
        _give_up(sa)
    for spi in [spi for spi, until in sa.lingering.items() if now >= until]:
        del sa.lingering[spi]
        sa.say(RemoveInbound(spi))
    if sa.state is not State.ESTABLISHED or not sa.adopted:
        return
    if sa.expires_at and now >= sa.expires_at:
        close(sa, "its lifetime is over")
        return
    for child in list(sa.children.values()):
        _tick_child(sa, child)
    if sa.rekey_at and now >= sa.rekey_at:
        sa.rekey_at = 0.0
        if not sa.waits(RekeyIke):
            sa.submit(RekeyIke())
    if sa.dpd_at and now >= sa.dpd_at:
        _dpd(sa)
    if sa.keepalive_at and now >= sa.keepalive_at:
        _keep_alive(sa)


def _give_up(sa: Core) -> None:
    if sa.state in {State.HALF_OPEN, State.DECIDING}:
        who = "the directory" if sa.state is State.DECIDING else "the peer"
        sa.die(f"half open for too long: waiting for {who}", retry=False)
    elif sa.state is State.REKEYED:
        sa.submit(DeleteIke("replaced", retry=False))
    elif not sa.adopted:
        sa.die("redundant", retry=False)


def close(sa: Core, reason: str, *, retry: bool = True) -> None:
    """Its CHILD_SAs end now; it ends itself when the peer has heard of it, or does not answer."""
    sas.remove_all(sa, reason)
    for task in sa.queue:
        task.dropped(sa)
    sa.queue = []
    task = DeleteIke(reason, retry=retry)
    task.mark(sa)
    sa.submit(task)
    if sa.rival is not None and sa.rival.alive:
        # The peer may be sure already that its rekey stands.
        end(sa, sa.rival.sa, reason)
    sa.rival = None


# --- CHILD_SAs ------------------------------------------------------------------------------------------------------------


def _tick_child(sa: Core, child: Child) -> None:
    now = sa.now
    if child.hard_time and now >= child.hard_time:
        _expire(sa, child)
        return
    if child.waiting and (child.inbound.use.packets or (child.switch_at and now >= child.switch_at)):
        # What the peer sends by, it is sure of.
        sas.carry(sa, child)
    due_now = child.soft_time and (now >= child.soft_time or sas.worn(child))
    if due_now and child.state is ChildState.INSTALLED and child.carries:
        rekey_child(sa, child)


def _expire(sa: Core, child: Child) -> None:
    heir = sa.children.get(child.rival.number if child.rival else child.replaced_by)
    if heir is not None:
        sas.carry(sa, heir)
    sas.expire(sa, child)
    sa.unqueue(CreateChild, child.number)
    # A rekey that is under way may still bring another; else the peer is told.
    if child.state not in {ChildState.DELETING, ChildState.REKEYING} and not sa.waits(DeleteChild, child.number):
        sa.submit(DeleteChild(child.number))


def rekey_child(sa: Core, child: Child) -> None:
    child.soft_time = 0.0
    if child.state is ChildState.INSTALLED and child.held and not sa.waits(CreateChild, child.number):
        sa.submit(CreateChild(child.terms, child))


# --- is the peer there ----------------------------------------------------------------------------------------------------


def check_alive(sa: Core) -> None:
    """RFC 7296 2.4: a hint, protected or not, that the peer may be gone is worth a question, and a rare one."""
    if sa.state is not State.ESTABLISHED or sa.pending or sa.waits(Liveness):
        return
    if sa.checked and sa.now < sa.checked + CHECK_EVERY:
        return
    sa.checked = sa.now
    sa.submit(Liveness(sa))


def _traffic(sa: Core) -> tuple[float, float]:
    """(when the peer was last heard, when it was last sent to), ESP and IKE."""
    heard, said = sa.heard, 0.0
    for child in sa.children.values():
        heard = max(heard, child.inbound.use.last or 0.0)
        said = max(said, child.outbound.use.last or 0.0)
    return heard, said


def _dpd(sa: Core) -> None:
    assert sa.terms is not None
    dpd = sa.terms.dpd
    if dpd is None:
        sa.dpd_at = 0.0
        return
    now, interval = sa.now, float(dpd.interval)
    if dpd.on_demand:
        heard, said = _traffic(sa)
        # Only if something was sent that may want an answer, and none came for the interval.
        ask = said > heard and now >= heard + interval
        poll = max(1.0, min(interval / 4, 10.0))
        sa.dpd_at = now + interval if ask else max(heard + interval, now + poll)
    else:
        ask = now >= sa.heard + interval  # and not `now - heard >= interval`, which rounds otherwise than the deadline
        sa.dpd_at = now + interval if ask else sa.heard + interval
    if ask and not sa.pending and not sa.waits(Liveness):
        sa.submit(Liveness(sa))


def _keep_alive(sa: Core) -> None:
    assert sa.terms is not None
    every = sa.terms.nat_keepalive
    last = max(sa.said, _traffic(sa)[1])
    if sa.now >= last + every:
        sa.say(Send(KEEPALIVE, sa.ends))
        sa.said = last = sa.now
    sa.keepalive_at = last + every


# --- when -----------------------------------------------------------------------------------------------------------------


def due(sa: Core) -> float | None:
    """When `tick` must be called at the latest."""
    if sa.state is State.CLOSED:
        return None
    times = [pending.due for pending in sa.pending.values()]
    if sa.give_up_at:
        times.append(sa.give_up_at)
    times += sa.lingering.values()
    if sa.pending:
        times += [task.not_before for task in sa.queue if task.not_before > sa.now]
    else:
        times += [max(task.not_before, sa.now) for task in sa.queue]
    if sa.state is State.ESTABLISHED and sa.adopted:
        times += [t for t in (sa.expires_at, sa.rekey_at, sa.dpd_at, sa.keepalive_at) if t]
        for child in sa.children.values():
            _due_of_child(sa, child, times)
    return min(times) if times else None


def _due_of_child(sa: Core, child: Child, times: list[float]) -> None:
    if child.hard_time:
        times.append(child.hard_time)
    if child.soft_time and child.state is ChildState.INSTALLED and child.carries:
        times.append(child.soft_time)
    if child.waiting:
        times.append(sa.now + SWITCH_POLL)
