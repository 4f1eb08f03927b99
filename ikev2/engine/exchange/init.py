"""IKE_SA_INIT (RFC 7296 1.2, 2.6, 2.23).

    HDR, [N(COOKIE)], SAi1, KEi, Ni, N(NAT_DETECTION_*), N(...)  -->
                                              <--  HDR, SAr1, KEr, Nr, N(NAT_DETECTION_*), [CERTREQ], N(...)

Nothing here is authenticated. An initiator believes no refusal: it notes it, and waits for a better answer until it has
asked often enough (RFC 7296 2.21.1). COOKIE and INVALID_KE_PAYLOAD make it ask again, at most MAX_ROUNDS times in all. The
key of each group that it has tried is kept until then, so that a forged INVALID_KE_PAYLOAD cannot spoil an answer that is
on its way."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from attrs import define, field

from ikev2.crypto.auth import our_hashes
from ikev2.crypto.dh import DhError, DhKey, new_key
from ikev2.crypto.keys import ike_keys
from ikev2.crypto.sealing import sealers
from ikev2.crypto.suites import IkeSuite, Mismatch, accept_ike, choose_ike, groups_of
from ikev2.engine.contract import ChildTerms, Ends
from ikev2.engine.exchange.common import (
    NONCE,
    all_of,
    critical_in,
    error_in,
    first_of,
    good_nonce,
    notify,
    notify_of,
    said,
)
from ikev2.engine.sastate import Step
from ikev2.engine.sealed import Outgoing, plain
from ikev2.engine.window import Schedule, Task
from ikev2.wire.numbers import CertEncoding, Exchange, NotifyKind
from ikev2.wire.payloads import (
    CertificateRequest,
    KeyExchange,
    Message,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    VendorId,
)

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = ["FLEXVPN", "MAX_ROUNDS", "Init", "InitContext", "request_again", "respond", "start"]

FLEXVPN = b"FLEXVPN-SUPPORTED"
"""Vendor ID: with it Cisco's peers do not narrow the selectors to the address that they assign."""
MAX_ROUNDS = 6
"""IKE_SA_INIT requests that differ, of one IKE SA."""
NAT_PORT, IKE_PORT = 4500, 500


@define(eq=False)
class InitContext:
    """What IKE_AUTH needs of IKE_SA_INIT. `own`, `peer`: the messages that are signed."""

    nonce_i: bytes = b""
    nonce_r: bytes = b""
    own: bytes = field(default=b"", repr=False)
    peer: bytes = field(default=b"", repr=False)
    child: ChildTerms | None = None
    asked: Any = None
    """Of a responder that waits for its directory: exchange.auth.Asked."""


@define(eq=False)
class _Round:
    """A request that we have sent: `key` of its group, `octets` as sent."""

    key: DhKey = field(repr=False)
    octets: bytes


class Init(Task):
    exchange = Exchange.IKE_SA_INIT
    alone = True

    def __init__(self, sa: Core, proposals: tuple[Proposal, ...]) -> None:
        self.proposals = proposals
        self.groups = groups_of(proposals)
        self.keys: dict[int, DhKey] = {}
        self.rounds: list[_Round] = []
        self.cookie = b""
        self.schedule = Schedule(sa.settings.first_tries)

    def build(self, sa: Core) -> list[Payload] | None:  # noqa: ARG002  (there are no keys yet: `_ask` says it unsealed)
        return None

    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:
        """Never: nothing sealed answers it."""

    def lost(self, sa: Core) -> None:
        reason = f"no answer from the peer but {sa.refusal}" if sa.refusal else "no answer from the peer"
        sa.die(reason)


def start(sa: Core, child: ChildTerms | None) -> None:
    """Raises nothing: proposals without a group that we can do end in Closed."""
    proposals = tuple(
        Proposal(number, each.protocol, b"", each.transforms)
        for number, each in enumerate(sa.directory.ike_proposals(sa.ends), 1)
    )
    task = Init(sa, proposals)
    if not task.groups:
        sa.die("no IKE proposal is configured", retry=False)
        return
    sa.context = InitContext(nonce_i=sa.entropy(NONCE), child=child)
    _ask(sa, task, task.groups[0])


def _ask(sa: Core, task: Init, group: int) -> None:
    key = task.keys.get(group)
    if key is None:
        key = task.keys[group] = new_key(group, sa.entropy)
    payloads: list[Payload] = [Notify(NotifyKind.COOKIE, task.cookie)] if task.cookie else []
    payloads += [
        SecurityAssociation(task.proposals),
        KeyExchange(group, key.public),
        Nonce(sa.context.nonce_i),
        *_abilities(sa, bytes(8)),
    ]
    octets = plain(sa.spi_i, bytes(8), payloads, initiator=True, response=False)
    task.rounds.append(_Round(key, octets))
    sa.pending.clear()
    sa.next_own = 1
    sa.begin(task, 0, (octets,))


def _abilities(sa: Core, spi_r: bytes) -> list[Payload]:
    """What both ends say alike."""
    ends = sa.ends
    payloads: list[Payload] = [
        Notify(NotifyKind.NAT_DETECTION_SOURCE_IP, _nat_hash(sa.spi_i, spi_r, ends.local, ends.local_port)),
        Notify(NotifyKind.NAT_DETECTION_DESTINATION_IP, _nat_hash(sa.spi_i, spi_r, ends.remote, ends.remote_port)),
    ]
    if sa.settings.fragmentation_mtu is not None:
        payloads.append(Notify(NotifyKind.IKEV2_FRAGMENTATION_SUPPORTED))
    payloads.append(_SHA1_HASHES if sa.settings.sha1 else _HASHES)
    payloads.append(VendorId(FLEXVPN))
    return payloads


def _hash_notify(*, sha1: bool) -> Notify:
    octets = b"".join(number.to_bytes(2) for number in sorted(our_hashes(sha1=sha1)))
    return Notify(NotifyKind.SIGNATURE_HASH_ALGORITHMS, octets)


_HASHES, _SHA1_HASHES = _hash_notify(sha1=False), _hash_notify(sha1=True)


def _nat_hash(spi_i: bytes, spi_r: bytes, address: bytes, port: int) -> bytes:
    """RFC 7296 2.23: SHA-1, which protects nothing here."""
    return hashlib.sha1(spi_i + spi_r + address + port.to_bytes(2), usedforsecurity=False).digest()


# --- the initiator's side -------------------------------------------------------------------------------------------------


def request_again(sa: Core, octets: bytes, message: Message) -> bool:
    """An unprotected IKE_SA_INIT response. True: it was right, and IKE_AUTH may follow."""
    pending = sa.pending.get(0)
    if pending is None or not isinstance(pending.task, Init) or message.message_id or message.initiator_spi != sa.spi_i:
        sa.drop("response without request")
        return False
    task = pending.task
    if first_of(message.payloads, SecurityAssociation) is None:
        _refused(sa, task, message.payloads)
        return False
    reason = _take(sa, task, octets, message)
    if reason:
        _note(sa, reason)
        return False
    return True


def _refused(sa: Core, task: Init, payloads: tuple[Payload, ...]) -> None:
    cookie = notify_of(payloads, NotifyKind.COOKIE)
    wrong_group = notify_of(payloads, NotifyKind.INVALID_KE_PAYLOAD)
    if cookie is not None and 1 <= len(cookie.octets) <= 64 and cookie.octets != task.cookie:
        if _more(sa, task):
            task.cookie = cookie.octets
            _ask(sa, task, task.rounds[-1].key.group)
    elif wrong_group is not None and len(wrong_group.octets) == 2:
        group = int.from_bytes(wrong_group.octets)
        # RFC 7296 1.2: only a group that we offered; one that we have tried already is no news.
        if group not in task.groups or group in task.keys:
            _note(sa, f"INVALID_KE_PAYLOAD for group {group}, which is no choice")
        elif _more(sa, task):
            _ask(sa, task, group)
    else:
        error = error_in(payloads)
        _note(sa, said(error) if error else "an answer without an SA payload")


def _more(sa: Core, task: Init) -> bool:
    if len(task.rounds) < MAX_ROUNDS:
        return True
    _note(sa, "being asked anew again and again")
    return False


def _note(sa: Core, reason: str) -> None:
    """RFC 7296 2.21.1: it may be anybody's, so nothing but a note is made of it; repeats are not logged."""
    sa.drop("refused without authentication")
    if sa.refusal != reason:
        sa.refusal = reason
        sa.log("refusal that proves nothing", "info", reason=reason)


def _take(sa: Core, task: Init, octets: bytes, message: Message) -> str:
    """Why the answer is not right; empty: it is."""
    payloads = message.payloads
    answer, ke, nonce = (
        first_of(payloads, SecurityAssociation),
        first_of(payloads, KeyExchange),
        first_of(payloads, Nonce),
    )
    if answer is None or ke is None or nonce is None or not good_nonce(nonce.octets):
        return "an answer that lacks a payload"
    if critical_in(payloads):
        return "an answer with an unknown critical payload"
    if not any(message.responder_spi):
        return "an answer with an SPI of zero"
    suite = accept_ike(task.proposals, answer.proposals)
    if isinstance(suite, Mismatch):
        return f"an answer that we did not offer: {suite.reason}"
    sent = next((r for r in reversed(task.rounds) if r.key.group == ke.group), None)
    if sent is None or ke.group != suite.group:
        return f"an answer with a key of group {ke.group}"
    try:
        shared = sent.key.shared(ke.octets)
    except DhError as error:
        return f"an answer with a bad key: {error}"
    context = sa.context
    context.nonce_r, context.own, context.peer = nonce.octets, sent.octets, octets
    sa.spi_r = message.responder_spi
    _agree(sa, suite, shared)
    _learn(sa, payloads)
    sa.childless = notify_of(payloads, NotifyKind.CHILDLESS_IKEV2_SUPPORTED) is not None
    if sa.nat and sa.ends.local_port != NAT_PORT:
        # RFC 7296 2.23: all further messages go to port 4500.
        ends = sa.ends
        remote_port = NAT_PORT if ends.remote_port == IKE_PORT else ends.remote_port
        sa.ends = Ends(ends.local, ends.remote, NAT_PORT, remote_port, ends.vrf)
    sa.pending.clear()
    sa.heard = sa.now
    sa.refusal = ""
    sa.step(Step.ANSWERED)
    return ""


def _agree(sa: Core, suite: IkeSuite, shared: bytes) -> None:
    context = sa.context
    sa.suite = suite
    sa.keys = ike_keys(suite, shared, context.nonce_i, context.nonce_r, sa.spi_i, sa.spi_r)
    sa.say_keys(suite, sa.keys, sa.spi_i, sa.spi_r)
    ours, theirs = sealers(suite, sa.keys, sa.entropy)
    sa.seal_out = Outgoing(ours if sa.initiator else theirs)
    sa.seal_in = theirs if sa.initiator else ours


def _learn(sa: Core, payloads: tuple[Payload, ...]) -> None:
    """The peer's abilities, and whether a NAT is between us."""
    sources, destination, hashes = [], None, None
    for payload in payloads:
        if not isinstance(payload, Notify):
            continue
        if payload.kind == NotifyKind.NAT_DETECTION_SOURCE_IP:
            sources.append(payload.octets)
        elif payload.kind == NotifyKind.NAT_DETECTION_DESTINATION_IP:
            destination = payload.octets
        elif payload.kind == NotifyKind.SIGNATURE_HASH_ALGORITHMS:
            hashes = payload.octets
        elif payload.kind == NotifyKind.IKEV2_FRAGMENTATION_SUPPORTED:
            sa.fragmentation = sa.settings.fragmentation_mtu is not None
    if sources and destination is not None:
        # The peer hashed with the SPIs of its own message: the responder's is zero in a request.
        spi_r = sa.spi_r if sa.initiator else bytes(8)
        ends = sa.ends
        sa.nat_peer = _nat_hash(sa.spi_i, spi_r, ends.remote, ends.remote_port) not in sources
        sa.nat_own = _nat_hash(sa.spi_i, spi_r, ends.local, ends.local_port) != destination
    if hashes is not None:
        sa.hashes = frozenset(int.from_bytes(hashes[at : at + 2]) for at in range(0, len(hashes) - 1, 2))
    sa.vendor_ids = tuple(payload.octets for payload in all_of(payloads, VendorId))[:16]


# --- the responder's side -------------------------------------------------------------------------------------------------


def respond(sa: Core, octets: bytes, message: Message) -> bytes | None:
    """The answer, by which `sa` is half open; None: there will be no such IKE SA (a refusal, if any, is in the outputs)."""
    payloads = message.payloads
    if strange := critical_in(payloads):
        _turn_away(sa, NotifyKind.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((strange,)), f"payload {strange} is critical")
        return None
    offer, ke, nonce = (
        first_of(payloads, SecurityAssociation),
        first_of(payloads, KeyExchange),
        first_of(payloads, Nonce),
    )
    if offer is None or ke is None or nonce is None or not good_nonce(nonce.octets) or not any(message.initiator_spi):
        sa.log("IKE_SA_INIT not taken", "info", reason="a payload is missing or wrong")
        return None
    configured = sa.directory.ike_proposals(sa.ends)
    chosen = choose_ike(configured, offer.proposals)
    if isinstance(chosen, Mismatch):
        _turn_away(sa, NotifyKind.NO_PROPOSAL_CHOSEN, b"", chosen.reason)
        return None
    _, answer, suite = chosen
    if ke.group != suite.group:
        reason = f"a key of group {ke.group} where group {suite.group} is better"
        _turn_away(sa, NotifyKind.INVALID_KE_PAYLOAD, suite.group.to_bytes(2), reason)
        return None
    try:
        key = new_key(suite.group, sa.entropy)
        shared = key.shared(ke.octets)
    except DhError as error:
        # RFC 6989 2.5: a key that fails its test: the message is dropped.
        sa.log("IKE_SA_INIT not taken", "info", reason=str(error))
        return None
    sa.spi_r = sa.directory.ike_spi()
    sa.context = context = InitContext(nonce_i=nonce.octets, nonce_r=sa.entropy(NONCE), peer=octets)
    _learn(sa, payloads)
    _agree(sa, suite, shared)
    reply: list[Payload] = [
        SecurityAssociation((answer,)),
        KeyExchange(suite.group, key.public),
        Nonce(context.nonce_r),
    ]
    anchors = sa.directory.requests(sa.ends)
    if anchors:
        reply.append(CertificateRequest(CertEncoding.X509_SIGNATURE, anchors))
    reply += _abilities(sa, sa.spi_r)
    reply.append(Notify(NotifyKind.CHILDLESS_IKEV2_SUPPORTED))
    context.own = plain(sa.spi_i, sa.spi_r, reply, initiator=False, response=True)
    return context.own


def _turn_away(sa: Core, kind: int, octets: bytes, reason: str) -> None:
    other_group = kind == NotifyKind.INVALID_KE_PAYLOAD
    sa.log("another group asked for" if other_group else "IKE_SA_INIT refused", "info", reason=reason)
    sa.send((plain(sa.spi_i, bytes(8), notify(kind, octets), initiator=False, response=True),), sa.ends)
