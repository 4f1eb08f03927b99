"""CREATE_CHILD_SA for CHILD_SAs: a new one, or a rekey (RFC 7296 1.3.1, 1.3.3).

    HDR, SK {[N(REKEY_SA)], [N(USE_TRANSPORT_MODE)], SA, Ni, [KEi], TSi, TSr}  -->
                                      <--  HDR, SK {[N(USE_TRANSPORT_MODE)], SA, Nr, [KEr], TSi, TSr}

Two rekeys of one CHILD_SA at once (2.8.1): both are answered, so for a moment there are three pairs. Of the four nonces the
lowest decides: the pair that came of its exchange is deleted by who began that exchange, and the old pair by who began the
other. Each end knows all four nonces when the answer to its own request is here. Until then the peer's new pair is received
by, and sent by only once a packet came on it or the peer deleted the old pair; the peer can do both only if it is sure of
it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.crypto.dh import DhError, DhKey, new_key
from ikev2.crypto.keys import child_keys
from ikev2.crypto.suites import groups_of
from ikev2.engine import children as sas
from ikev2.engine.children import MAX_CHILDREN, SWITCH_AFTER, Child, ChildState, Rival
from ikev2.engine.contract import ChildDown, ChildTerms
from ikev2.engine.exchange.child import (
    TRANSPORT,
    Choice,
    Failure,
    Offer,
    accept,
    choose,
    offer,
    payloads_of,
    selectors_of,
)
from ikev2.engine.exchange.common import NONCE, error_in, first_of, good_nonce, notify, notify_of, said
from ikev2.engine.exchange.delete import DeleteChild
from ikev2.engine.sastate import State
from ikev2.engine.window import Task
from ikev2.wire.numbers import Exchange, NotifyKind, ProtocolId
from ikev2.wire.payloads import KeyExchange, Nonce, Notify, Payload, Proposal, SecurityAssociation
from stack.esp import EspMode

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = ["MAX_GROUP_TRIES", "REFUSED_RETRY", "RETRY", "CreateChild", "delete", "respond"]

RETRY = 3.0
"""Seconds, and up to as many more, until a request is repeated that TEMPORARY_FAILURE was said to (RFC 7296 2.25: not at
once)."""
REFUSED_RETRY = 30.0
"""As above, after a rekey that was refused outright. The old CHILD_SA goes on until its own end."""
MAX_GROUP_TRIES = 3
"""Requests that INVALID_KE_PAYLOAD may cost."""
MAX_CREATE_TRIES = 8
"""Requests for a new CHILD_SA that TEMPORARY_FAILURE may cost."""


class CreateChild(Task):
    """`old`: rekeyed by it. `replaces`: number of one that the peer had lost, whose place it takes."""

    exchange = Exchange.CREATE_CHILD_SA
    makes = True

    def __init__(self, terms: ChildTerms, old: Child | None = None, replaces: int = 0) -> None:
        self.terms, self.old, self.replaces = terms, old, replaces
        self.child = old.number if old else 0
        self.groups = groups_of(terms.proposals)
        self.group = self.groups[0] if self.groups else 0
        self.spi = 0
        self.nonce = b""
        self.key: DhKey | None = None
        self.wanted: Offer | None = None
        self.group_tries = self.tries = 0

    def build(self, sa: Core) -> list[Payload] | None:
        old = self.old
        if sa.state is not State.ESTABLISHED:
            return None
        payloads: list[Payload] = []
        self.spi = self.spi or sa.directory.esp_spi()
        if old is None:
            self.wanted = offer(self.terms, self.spi, auth=False)
        else:
            if old.state is not ChildState.INSTALLED or not old.held or old.number not in sa.children:
                return None
            agreed = old.agreed
            self.wanted = offer(self.terms, self.spi, auth=False, own=agreed.own, far=agreed.far, mode=agreed.mode)
            payloads.append(Notify(NotifyKind.REKEY_SA, b"", ProtocolId.ESP, old.inbound.spi.to_bytes(4)))
            old.state = ChildState.REKEYING
        before, after = payloads_of(self.wanted)
        self.nonce = sa.entropy(NONCE)
        payloads += [*before, Nonce(self.nonce)]
        if self.group:
            self.key = new_key(self.group, sa.entropy)
            payloads.append(KeyExchange(self.group, self.key.public))
        return payloads + after

    def dropped(self, sa: Core) -> None:
        if self.spi:
            sa.release(self.spi)
            self.spi = 0

    # --- the answer ---

    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:
        error = error_in(payloads)
        buried, sa.buried = sa.buried, ()
        if error is not None:
            self._refused(sa, error)
            return
        made = self._complete(sa, payloads)
        if isinstance(made, Child) and made.outbound.spi in buried:
            # The peer's DELETE of it has overtaken its answer.
            self.dropped(sa)
            self._fail(sa, "the peer has deleted it already", soon=True)
        elif isinstance(made, Failure):
            self._broken(sa, made)
        elif self.old is not None:
            self._replace(sa, self.old, made, min(self.nonce, _nonce(payloads)))
        else:
            sas.install(sa, made)
            sas.carry(sa, made)

    def _complete(self, sa: Core, payloads: tuple[Payload, ...]) -> Child | Failure:
        assert self.wanted is not None
        found = accept(sa, self.wanted, payloads, auth=False)
        if isinstance(found, Failure):
            return found
        agreed, peer_spi = found
        nonce = _nonce(payloads)
        if not nonce:
            return Failure(NotifyKind.INVALID_SYNTAX, "no nonce in the answer")
        shared = b""
        if agreed.group:
            ke = first_of(payloads, KeyExchange)
            if ke is None or ke.group != agreed.group or self.key is None or self.key.group != agreed.group:
                return Failure(NotifyKind.INVALID_KE_PAYLOAD, "no key of the group that the answer names")
            try:
                shared = self.key.shared(ke.octets)
            except DhError as error:
                return Failure(NotifyKind.INVALID_SYNTAX, str(error))
        assert sa.suite is not None
        assert sa.keys is not None
        keys = child_keys(sa.suite.prf, sa.keys.d, agreed.suite, self.nonce, nonce, shared)
        replaces = self.old.number if self.old else self.replaces
        return sas.make(sa, self.terms, agreed, keys, self.spi, peer_spi, ours=True, replaces=replaces)

    def _replace(self, sa: Core, old: Child, child: Child, lowest: bytes) -> None:
        rival = old.rival
        if old.doomed or (rival is not None and lowest < rival.lowest):
            # RFC 7296 2.8.1: "the SA created with the lowest of the four nonces SHOULD be closed by the endpoint that
            # created it". It was never put to use.
            child.redundant = True
            sa.children[child.number] = child
            sa.submit(DeleteChild(child.number))
            if old.doomed:
                _delete_both(sa, old)
            elif rival is not None:
                _settle(sa, old, rival)
            return
        other = sa.children.get(rival.number) if rival is not None else None
        if other is not None:
            other.redundant, other.switch_at = True, 0.0
        sas.replaced(old, child)
        sas.install(sa, child)
        sas.carry(sa, child)
        if old.number in sa.children:
            sa.submit(DeleteChild(old.number))

    # --- no CHILD_SA ---

    def _broken(self, sa: Core, failure: Failure) -> None:
        """The peer holds a CHILD_SA that we cannot take: it must go."""
        sa.log("CREATE_CHILD_SA answer refused", "warning", reason=failure.reason)
        sa.submit(DeleteChild(self.spi, unknown=True))
        self.spi = 0
        self._fail(sa, failure.reason)

    def _refused(self, sa: Core, error: Notify) -> None:
        old = self.old
        may_repeat = old is None or not (old.doomed or old.rival)
        if error.kind == NotifyKind.INVALID_KE_PAYLOAD and may_repeat and self._other_group(error):
            if old is not None and old.state is ChildState.REKEYING:
                old.state = ChildState.INSTALLED
            sa.queue.insert(0, self)
            return
        self.dropped(sa)
        if error.kind == NotifyKind.TEMPORARY_FAILURE and old is None and self.tries < MAX_CREATE_TRIES:
            self.tries += 1
            self.not_before = sa.now + RETRY * (1 + sa.jitter())
            sa.submit(self)
            return
        if error.kind == NotifyKind.CHILD_SA_NOT_FOUND and old is not None and self._lost_by_peer(sa, old):
            return
        self._fail(sa, said(error), soon=error.kind == NotifyKind.TEMPORARY_FAILURE)

    def _other_group(self, error: Notify) -> bool:
        """RFC 7296 1.3: try again with the group that the peer wants, if we offered it."""
        group = int.from_bytes(error.octets) if len(error.octets) == 2 else 0
        if group not in self.groups or group == self.group or self.group_tries >= MAX_GROUP_TRIES:
            return False
        self.group, self.group_tries = group, self.group_tries + 1
        return True

    def _lost_by_peer(self, sa: Core, old: Child) -> bool:
        """RFC 7296 2.25.1: a peer that does not find the CHILD_SA: we delete it, without a word, and make another."""
        if old.rival is not None or old.doomed or old.number not in sa.children:
            return False
        sa.log("the peer has lost a CHILD_SA", "warning", child=old.number)
        old.replaced_by = old.number
        sas.gone(sa, old, "")
        sa.submit(CreateChild(self.terms, replaces=old.number))
        return True

    def _fail(self, sa: Core, reason: str, *, soon: bool = False) -> None:
        old = self.old
        if old is None:
            sa.log("CHILD_SA refused", "warning", reason=reason)
            if self.replaces:
                sa.say(ChildDown(self.terms.key, self.replaces, reason, refused=True))
            else:
                sa.child_refused(self.terms.key, reason)
            return
        rival, old.rival = old.rival, None
        if old.doomed:
            old.rival = rival
            _delete_both(sa, old)
        elif rival is not None:
            _settle(sa, old, rival)
        elif old.number in sa.children and old.state is ChildState.REKEYING:
            sa.log("CHILD_SA rekey refused", "info" if soon else "warning", reason=reason, child=old.number)
            old.state = ChildState.INSTALLED
            if not old.held:
                sa.submit(DeleteChild(old.number))  # its lifetime is over
            old.soft_time = sa.now + (RETRY if soon else REFUSED_RETRY) * (1 + sa.jitter())


def _nonce(payloads: tuple[Payload, ...]) -> bytes:
    nonce = first_of(payloads, Nonce)
    return nonce.octets if nonce is not None and good_nonce(nonce.octets) else b""


def _settle(sa: Core, old: Child, rival: Rival) -> None:
    """The peer's rekey of `old` stands, ours does not."""
    new = sa.children.get(rival.number)
    if new is None:
        if old.number in sa.children:
            old.state, old.rival = ChildState.INSTALLED, None
            old.soft_time = sa.now + RETRY * (1 + sa.jitter())
        return
    sas.replaced(old, new)
    if old.number not in sa.children:
        sas.carry(sa, new)
    elif not new.carries:
        new.switch_at = sa.now + SWITCH_AFTER


def _delete_both(sa: Core, old: Child) -> None:
    """The CHILD_SA was to be deleted while it was rekeyed: now it is, with what the peer may have made of it."""
    rival, old.rival = old.rival, None
    if rival is not None and rival.number in sa.children:
        sas.down(sa, sa.children[rival.number], "deleted")
        sa.submit(DeleteChild(rival.number))
    if old.number in sa.children:
        old.state = ChildState.INSTALLED
        sa.submit(DeleteChild(old.number))


def delete(sa: Core, number: int, reason: str) -> None:
    """By our own wish. What has replaced it, or is about to, goes with it."""
    child = sa.children.get(number)
    if child is None or sa.state is not State.ESTABLISHED:
        return
    heir = sa.children.get(child.replaced_by)
    if heir is not None:
        delete(sa, heir.number, reason)
    sa.unqueue(CreateChild, number)
    child.doomed = True
    if child.carries or child.up:
        sas.down(sa, child, reason)
    if child.state not in {ChildState.REKEYING, ChildState.DELETING} and not sa.waits(DeleteChild, number):
        sa.submit(DeleteChild(number))


# --- the responder's side -------------------------------------------------------------------------------------------------


def respond(sa: Core, payloads: tuple[Payload, ...]) -> list[Payload]:
    """The answer to a request that is not about the IKE SA itself."""
    if sa.state is not State.ESTABLISHED or sa.rekeying():
        # RFC 7296 2.25.2.
        return notify(NotifyKind.TEMPORARY_FAILURE)
    nonce = _nonce(payloads)
    if not nonce:
        return notify(NotifyKind.INVALID_SYNTAX)
    rekey = notify_of(payloads, NotifyKind.REKEY_SA)
    old: Child | None = None
    if rekey is not None:
        old = sas.by_peer_spi(sa, rekey.spi)
        if old is None and any(isinstance(pending.task, CreateChild) for pending in sa.pending.values()):
            # It may be the one that we are making, whose answer is late.
            return notify(NotifyKind.TEMPORARY_FAILURE)
        if old is None or rekey.protocol != ProtocolId.ESP:
            return notify(NotifyKind.CHILD_SA_NOT_FOUND, b"", rekey.protocol, rekey.spi)
        if old.state in {ChildState.DELETING, ChildState.REPLACED} or old.redundant or old.rival or not old.held:
            return notify(NotifyKind.TEMPORARY_FAILURE)
        if old.doomed:
            return notify(NotifyKind.TEMPORARY_FAILURE)
    if len(sa.children) >= (MAX_CHILDREN if old is None else 2 * MAX_CHILDREN):
        return notify(NotifyKind.NO_ADDITIONAL_SAS)
    chosen = choose(sa, payloads, auth=False, old=(old.terms, old.agreed) if old else None)
    if isinstance(chosen, Failure):
        sa.deny(chosen.reason)
        return notify(chosen.notify)
    choice, terms = chosen
    key, shared = None, b""
    if choice.agreed.group:
        ke = first_of(payloads, KeyExchange)
        if ke is None or ke.group != choice.agreed.group:
            return notify(NotifyKind.INVALID_KE_PAYLOAD, choice.agreed.group.to_bytes(2))
        try:
            key = new_key(ke.group, sa.entropy)
            shared = key.shared(ke.octets)
        except DhError as error:
            sa.log("CREATE_CHILD_SA refused", "info", reason=str(error))
            return notify(NotifyKind.INVALID_SYNTAX)
    return _create(sa, choice, terms, nonce, key, shared, old)


def _create(
    sa: Core, choice: Choice, terms: ChildTerms, nonce: bytes, key: DhKey | None, shared: bytes, old: Child | None
) -> list[Payload]:
    own_nonce = sa.entropy(NONCE)
    agreed = choice.agreed
    assert sa.suite is not None
    assert sa.keys is not None
    keys = child_keys(sa.suite.prf, sa.keys.d, agreed.suite, nonce, own_nonce, shared)
    spi = sa.directory.esp_spi()
    child = sas.make(sa, terms, agreed, keys, spi, choice.peer_spi, ours=False, replaces=old.number if old else 0)
    sas.install(sa, child)
    if old is None:
        sas.carry(sa, child)
    elif old.state is ChildState.REKEYING:
        old.rival = Rival(child.number, min(nonce, own_nonce))
    else:
        sa.unqueue(CreateChild, old.number)
        sas.replaced(old, child)
        child.switch_at = sa.now + SWITCH_AFTER
    answer = choice.answer
    payloads: list[Payload] = [TRANSPORT] if agreed.mode is EspMode.TRANSPORT else []
    payloads += [
        SecurityAssociation((Proposal(answer.number, answer.protocol, spi.to_bytes(4), answer.transforms),)),
        Nonce(own_nonce),
    ]
    if key is not None:
        payloads.append(KeyExchange(key.group, key.public))
    return payloads + selectors_of(agreed.far, agreed.own)
