"""CREATE_CHILD_SA for the IKE SA itself (RFC 7296 1.3.2, 2.8.2, 2.18, 2.25.2).

    HDR, SK {SA, Ni, KEi}  -->
                           <--  HDR, SK {SA, Nr, KEr}

The successor takes over the CHILD_SAs; who began deletes the old IKE SA, by the old one. If both begin at once there are
two successors for a moment, and the lowest of the four nonces decides as it does for CHILD_SAs: that one is deleted, by
itself, by who began it. The peer's (our `Rival`) is reachable at once, but has no CHILD_SA and leaves requests about them
unanswered until it is known which of the two stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from ikev2.crypto.dh import DhError, DhKey, new_key
from ikev2.crypto.keys import rekeyed_ike_keys
from ikev2.crypto.suites import IKE, IkeSuite, Mismatch, accept_ike, choose_ike, groups_of
from ikev2.engine.contract import Rekeyed, Spawned
from ikev2.engine.exchange.common import NONCE, error_in, first_of, good_nonce, notify, said
from ikev2.engine.exchange.create import MAX_GROUP_TRIES, REFUSED_RETRY, RETRY
from ikev2.engine.exchange.delete import DeleteIke
from ikev2.engine.sastate import State, Step
from ikev2.engine.window import Task
from ikev2.wire.numbers import Exchange, NotifyKind
from ikev2.wire.payloads import KeyExchange, Nonce, Notify, Payload, Proposal, SecurityAssociation

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = [
    "MAX_ELDERS",
    "UNADOPTED",
    "WAIT_FOR_DELETE",
    "RekeyIke",
    "Rival",
    "end",
    "hand_over",
    "is_ike_offer",
    "respond",
]

WAIT_FOR_DELETE = 30.0
"""Seconds that a replaced IKE SA waits for the DELETE of who began the rekey; then it says it itself. A redundant one waits
as long for its maker's, and is forgotten then."""
MAX_ELDERS = 8
"""Replaced IKE SAs that a peer may leave behind before it may rekey again. Each ends after WAIT_FOR_DELETE, or its DELETE."""
UNADOPTED = 90.0
"""Seconds after which a successor that was not decided about is forgotten. Longer than any request of ours is repeated."""


@define(eq=False)
class Rival:
    """The peer's rekey that met ours: its IKE SA, and the lower nonce of its exchange."""

    sa: Core
    lowest: bytes = field(repr=False)

    def win(self, old: Core) -> None:
        hand_over(old, self.sa)

    @property
    def alive(self) -> bool:
        return self.sa.state is not State.CLOSED


def is_ike_offer(payloads: tuple[Payload, ...]) -> bool:
    offer = first_of(payloads, SecurityAssociation)
    return offer is not None and bool(offer.proposals) and offer.proposals[0].protocol == IKE


def hand_over(old: Core, new: Core) -> None:
    """`new` is `old`'s successor from now on: CHILD_SAs and what waits to be done are its."""
    new.ends = old.ends  # those of the CHILD_SAs; the peer's next message says if they are old
    new.children, old.children = old.children, {}
    new.lingering, old.lingering = old.lingering, {}
    moving = [task for task in old.queue if not isinstance(task, RekeyIke | DeleteIke)]
    old.queue = [task for task in old.queue if isinstance(task, DeleteIke)]
    new.queue += moving
    new.adopted, new.give_up_at = True, 0.0
    old.heir, old.rival = new, None
    new.elders = old.elders + 1
    old.rekey_at = old.expires_at = old.dpd_at = old.keepalive_at = 0.0
    old.give_up_at = old.now + WAIT_FOR_DELETE
    old.step(Step.REPLACED)
    old.say(Rekeyed(new))


def end(old: Core, new: Core, reason: str) -> None:
    """`new`, a successor of `old` that is not wanted, is reachable until the peer has heard of its end."""
    new.adopted = False
    old.say(Spawned(new))
    task = DeleteIke(reason, retry=False)
    task.mark(new)
    new.submit(task)
    new.pump()
    old.out += new.out
    new.out = []


class RekeyIke(Task):
    exchange = Exchange.CREATE_CHILD_SA
    alone = True

    def __init__(self) -> None:
        self.proposals: tuple[Proposal, ...] = ()
        self.groups: tuple[int, ...] = ()
        self.group = 0
        self.group_tries = 0
        self.spi = b""
        self.nonce = b""
        self.key: DhKey | None = None

    def build(self, sa: Core) -> list[Payload] | None:
        if sa.state is not State.ESTABLISHED:
            return None
        self.spi = sa.directory.ike_spi()
        configured = sa.directory.ike_proposals(sa.ends)
        self.proposals = tuple(Proposal(n, IKE, self.spi, each.transforms) for n, each in enumerate(configured, 1))
        self.groups = groups_of(self.proposals)
        if not self.groups:
            return None
        if self.group not in self.groups:
            # The group that this SA has is one that the peer takes.
            now = sa.suite.group if sa.suite else 0
            self.group = now if now in self.groups else self.groups[0]
        self.nonce = sa.entropy(NONCE)
        self.key = new_key(self.group, sa.entropy)
        return [SecurityAssociation(self.proposals), Nonce(self.nonce), KeyExchange(self.group, self.key.public)]

    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:
        error = error_in(payloads)
        if sa.state is State.DELETING:
            # We close; so does what our rekey has made, to which the peer may have moved already.
            made = said(error) if error is not None else self._complete(sa, payloads)
            if not isinstance(made, str):
                end(sa, made[0], "deleted")
            return
        made = said(error) if error is not None else self._complete(sa, payloads)
        rival = sa.rival
        if not isinstance(made, str):
            self._decide(sa, *made)
        elif rival is not None and rival.alive:
            # The peer has not let our rekey through because its own is done.
            rival.win(sa)
        else:
            sa.rival = None
            self._failed(sa, made, error)

    def _complete(self, sa: Core, payloads: tuple[Payload, ...]) -> tuple[Core, bytes] | str:
        answer, nonce = first_of(payloads, SecurityAssociation), first_of(payloads, Nonce)
        ke = first_of(payloads, KeyExchange)
        if answer is None or nonce is None or ke is None or not good_nonce(nonce.octets):
            return "an answer that lacks a payload"
        suite = accept_ike(self.proposals, answer.proposals)
        if isinstance(suite, Mismatch):
            return f"not what was offered: {suite.reason}"
        spi = answer.proposals[0].spi
        if len(spi) != 8 or not any(spi):
            return "a wrong SPI in the answer"
        if self.key is None or ke.group != self.group or suite.group != self.group:
            return "a key of another group"
        try:
            shared = self.key.shared(ke.octets)
        except DhError as error:
            return str(error)
        self.key = None
        new = _successor(sa, suite, shared, self.nonce, nonce.octets, self.spi, spi, initiator=True)
        return new, min(self.nonce, nonce.octets)

    def _decide(self, sa: Core, new: Core, lowest: bytes) -> None:
        rival = sa.rival
        if rival is not None and rival.alive and lowest < rival.lowest:
            # RFC 7296 2.8.2: ours was made with the lowest nonce: we delete it, and the peer the old one.
            end(sa, new, "redundant")
            rival.win(sa)
            return
        if rival is not None:
            # Its maker deletes it; unless it has forgotten it, having heard our DELETE of the old one before our answer.
            rival.sa.give_up_at = sa.now + WAIT_FOR_DELETE
        hand_over(sa, new)
        sa.submit(DeleteIke("replaced", retry=False))

    def _failed(self, sa: Core, reason: str, error: Notify | None) -> None:
        if error is not None and error.kind == NotifyKind.INVALID_KE_PAYLOAD and len(error.octets) == 2:
            group = int.from_bytes(error.octets)
            if group in self.groups and group != self.group and self.group_tries < MAX_GROUP_TRIES:
                self.group, self.group_tries = group, self.group_tries + 1
                sa.queue.insert(0, self)
                return
        soon = error is not None and error.kind == NotifyKind.TEMPORARY_FAILURE
        sa.log("IKE SA rekey refused", "info" if soon else "warning", reason=reason)
        sa.rekey_at = sa.now + (RETRY if soon else REFUSED_RETRY) * (1 + sa.jitter())

    def lost(self, sa: Core) -> None:
        if sa.rival is not None and sa.rival.alive and sa.state is State.ESTABLISHED:
            sa.rival.win(sa)
        sa.die("no answer from the peer", silent=True)


def _successor(
    sa: Core,
    suite: IkeSuite,
    shared: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    spi_i: bytes,
    spi_r: bytes,
    *,
    initiator: bool,
) -> Core:
    assert sa.suite is not None
    assert sa.keys is not None
    keys = rekeyed_ike_keys(suite, sa.suite.prf, sa.keys.d, shared, nonce_i, nonce_r, spi_i, spi_r)
    return sa.successor(suite, keys, spi_i, spi_r, initiator=initiator)


def respond(sa: Core, payloads: tuple[Payload, ...]) -> list[Payload]:
    ours = sa.rekeying()
    if sa.state is not State.ESTABLISHED or sa.busy() or sa.rival is not None or sa.elders >= MAX_ELDERS:
        # RFC 7296 2.25.2: while we create, rekey or close a CHILD_SA, or close or have replaced the IKE SA. And so that a
        # peer which rekeys faster than it deletes costs no more than a few SAs.
        return notify(NotifyKind.TEMPORARY_FAILURE)
    offer, nonce, ke = (
        first_of(payloads, SecurityAssociation),
        first_of(payloads, Nonce),
        first_of(payloads, KeyExchange),
    )
    if offer is None or nonce is None or not good_nonce(nonce.octets):
        return notify(NotifyKind.INVALID_SYNTAX)
    chosen = choose_ike(sa.directory.ike_proposals(sa.ends), offer.proposals)
    if isinstance(chosen, Mismatch):
        sa.log("IKE SA rekey refused", "info", reason=chosen.reason)
        return notify(NotifyKind.NO_PROPOSAL_CHOSEN)
    _, answer, suite = chosen
    if len(answer.spi) != 8 or not any(answer.spi):
        return notify(NotifyKind.NO_PROPOSAL_CHOSEN)
    if ke is None or ke.group != suite.group:
        return notify(NotifyKind.INVALID_KE_PAYLOAD, suite.group.to_bytes(2))
    try:
        key = new_key(suite.group, sa.entropy)
        shared = key.shared(ke.octets)
    except DhError as error:
        sa.log("IKE SA rekey refused", "info", reason=str(error))
        return notify(NotifyKind.INVALID_SYNTAX)
    spi, own_nonce = sa.directory.ike_spi(), sa.entropy(NONCE)
    new = _successor(sa, suite, shared, nonce.octets, own_nonce, answer.spi, spi, initiator=False)
    if ours:
        new.adopted = False
        new.give_up_at = sa.now + UNADOPTED
        sa.rival = Rival(new, min(nonce.octets, own_nonce))
        sa.say(Spawned(new))
    else:
        hand_over(sa, new)
    chosen_proposal = Proposal(answer.number, IKE, spi, answer.transforms)
    return [SecurityAssociation((chosen_proposal,)), Nonce(own_nonce), KeyExchange(key.group, key.public)]
