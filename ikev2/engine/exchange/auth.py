"""IKE_AUTH (RFC 7296 1.2, 2.15, 2.16, 2.21.2; RFC 6023 childless; RFC 7427).

    HDR, SK {IDi, [CERT,] [CERTREQ,] [IDr,] AUTH, [CP(REQUEST),] [SAi2, TSi, TSr]}  -->
                                 <--  HDR, SK {IDr, [CERT,] AUTH, [CP(REPLY),] [SAr2, TSi, TSr]}

Whatever is wrong with a proof, the peer hears AUTHENTICATION_FAILED; the reason is in our log. There is no EAP: a request
without AUTH is refused. The CHILD_SA may fail while the IKE SA stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from ikev2.crypto.auth import AuthError as SignError
from ikev2.crypto.auth import our_hashes, psk_auth, sign, signed_octets
from ikev2.crypto.keys import child_keys
from ikev2.engine import children as sas
from ikev2.engine.contract import (
    AccessRequest,
    ChildTerms,
    Configured,
    Established,
    Grant,
    Refusal,
    Terms,
    Wait,
)
from ikev2.engine.exchange.child import TRANSPORT, Failure, accept, choose, offer, payloads_of, selectors_of
from ikev2.engine.exchange.common import all_of, error_in, first_of, notify, notify_of, said
from ikev2.engine.exchange.delete import DeleteChild
from ikev2.engine.exchange.inform import PushConfig
from ikev2.engine.exchange.init import FLEXVPN
from ikev2.engine.identities import identity_text
from ikev2.engine.sastate import Step
from ikev2.engine.window import Schedule, Task
from ikev2.pki.credentials import AuthError, PskCredential
from ikev2.wire.numbers import CertEncoding, ConfigKind, Exchange, NotifyKind
from ikev2.wire.payloads import (
    Auth,
    Certificate,
    CertificateRequest,
    Configuration,
    IdentityPayload,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
)
from ikev2.wire.rows import identity_octets
from stack.esp import EspMode

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = ["MAX_CERTIFICATES", "Asked", "Authenticate", "establish", "granted", "respond"]

MAX_CERTIFICATES = 16
"""CERT payloads of one peer; further ones are not looked at."""


def _prove(sa: Core, terms: Terms, identity: IdentityPayload) -> Auth:
    """Our AUTH. Raises AuthError of ikev2.crypto.auth."""
    context = sa.context
    assert sa.suite is not None
    assert sa.keys is not None
    nonce, sk_p = (context.nonce_r, sa.keys.pi) if sa.initiator else (context.nonce_i, sa.keys.pr)
    octets = signed_octets(context.own, nonce, sa.suite.prf, sk_p, identity_octets(identity))
    credential = terms.credential
    if isinstance(credential, PskCredential):
        return psk_auth(sa.suite.prf, credential.key, octets)
    return sign(credential.private_key, octets, peer_hashes=sa.hashes, legacy=sa.settings.sha1)


def _check(sa: Core, terms: Terms, identity: IdentityPayload, auth: Auth, certificates: tuple[bytes, ...]) -> str:
    """Whether the peer has proved that it is `identity`, and belongs to `terms`. Why not; empty: it has and does."""
    context = sa.context
    assert sa.suite is not None
    assert sa.keys is not None
    prf = sa.suite.prf
    nonce, sk_p = (context.nonce_i, sa.keys.pr) if sa.initiator else (context.nonce_r, sa.keys.pi)
    octets = signed_octets(context.peer, nonce, prf, sk_p, identity_octets(identity))
    try:
        certificate = terms.trust.verify(
            auth,
            octets,
            certificates,
            identity.identity,
            sa.directory.epoch() + sa.now,
            psk_auth=lambda key: psk_auth(prf, key, octets).octets,
            hashes=our_hashes(sha1=sa.settings.sha1),
        )
    except (AuthError, SignError) as error:
        return str(error)
    refusal = sa.directory.confirm(sa.ends, terms, identity.identity, certificate)
    if refusal is not None:
        return refusal.reason
    sa.certificate = certificate
    sa.peer, sa.peer_text = identity.identity, identity_text(identity.identity)
    sa.auth_peer = auth.method
    return ""


def _certificates(terms: Terms) -> list[Payload]:
    credential = terms.credential
    if isinstance(credential, PskCredential):
        return []
    return [Certificate(CertEncoding.X509_SIGNATURE, octets) for octets in credential.chain]


def _received(payloads: tuple[Payload, ...]) -> tuple[bytes, ...]:
    found = [c.octets for c in all_of(payloads, Certificate) if c.encoding == CertEncoding.X509_SIGNATURE]
    return tuple(found[:MAX_CERTIFICATES])


def establish(sa: Core, *, initial_contact: bool) -> None:
    """Both ends have proved themselves."""
    peer = sa.peer
    assert peer is not None
    sa.step(Step.PROVED)
    sa.established = sa.now
    sa.give_up_at = 0.0
    sa.begin_life()
    sa.say(Established(peer, sa.certificate, sa.vendor_ids, initial_contact))


# --- the initiator's side -------------------------------------------------------------------------------------------------


class Authenticate(Task):
    exchange = Exchange.IKE_AUTH

    def __init__(self, sa: Core) -> None:
        self.schedule = Schedule(sa.settings.first_tries)
        self.terms: ChildTerms | None = sa.context.child
        self.spi = sa.directory.esp_spi() if self.terms else 0
        self.wanted = offer(self.terms, self.spi, auth=True) if self.terms else None

    def build(self, sa: Core) -> list[Payload] | None:
        terms = sa.terms
        assert terms is not None
        identity = IdentityPayload(terms.local, True)
        try:
            auth = _prove(sa, terms, identity)
        except SignError as error:
            self.dropped(sa)
            sa.die(f"we cannot prove who we are: {error}", retry=False)
            return None
        sa.auth_own = auth.method
        payloads: list[Payload] = [identity, *_certificates(terms)]
        if not terms.known_contact:
            payloads.append(Notify(NotifyKind.INITIAL_CONTACT))
        anchors = terms.trust.requests()
        if anchors:
            payloads.append(CertificateRequest(CertEncoding.X509_SIGNATURE, anchors))
        if terms.hint is not None:
            payloads.append(IdentityPayload(terms.hint, False))
        payloads.append(auth)
        if terms.request:
            payloads.append(Configuration(ConfigKind.REQUEST, terms.request))
        if self.wanted is not None:
            before, after = payloads_of(self.wanted)
            payloads += before + after
        return payloads

    def dropped(self, sa: Core) -> None:
        if self.spi:
            sa.release(self.spi)
            self.spi = 0

    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:
        terms = sa.terms
        assert terms is not None
        identity, auth = first_of(payloads, IdentityPayload), first_of(payloads, Auth)
        if identity is None or auth is None or identity.initiator:
            error = error_in(payloads)
            self.dropped(sa)
            # The peer has refused, and is sure that we are one that it talked to in IKE_SA_INIT (RFC 7296 2.21.2).
            sa.die(said(error) if error else "the peer has not proved who it is", retry=error is not None)
            return
        reason = ""
        if terms.remote is not None and identity.identity != terms.remote:
            reason = f"the peer says that it is {identity_text(identity.identity)}"
        reason = reason or _check(sa, terms, identity, auth, _received(payloads))
        if reason:
            self.dropped(sa)
            sa.refuse(reason)
            # RFC 7296 2.21.2: the responder believes that all is well; it is told in an exchange of its own, once.
            sa.request(_Refused(), notify(NotifyKind.AUTHENTICATION_FAILED))
            sa.die(f"the peer is not accepted: {reason}")
            return
        establish(sa, initial_contact=notify_of(payloads, NotifyKind.INITIAL_CONTACT) is not None)
        reply = first_of(payloads, Configuration)
        if reply is not None and reply.kind == ConfigKind.REPLY and terms.request:
            sa.say(Configured(ConfigKind.REPLY, reply.attributes))
        self._child(sa, payloads)
        sa.context = None
        if terms.announce:
            sa.submit(PushConfig(terms.announce))

    def _child(self, sa: Core, payloads: tuple[Payload, ...]) -> None:
        if self.terms is None or self.wanted is None:
            return
        answer, error = first_of(payloads, SecurityAssociation), error_in(payloads)
        if answer is None:
            self.dropped(sa)
            reason = said(error) if error else "the peer says nothing of the CHILD_SA"
            sa.log("CHILD_SA refused", "warning", reason=reason)
            sa.child_refused(self.terms.key, reason)
            return
        found = accept(sa, self.wanted, payloads, auth=True)
        if isinstance(found, Failure):
            self._undo(sa, found.reason)
            return
        assert sa.peer is not None
        terms = sa.directory.called(sa.number, self.terms, sa.peer, sa.certificate)
        if isinstance(terms, Refusal):
            self._undo(sa, terms.reason)
            return
        agreed, peer_spi = found
        context = sa.context
        assert sa.suite is not None
        assert sa.keys is not None
        keys = child_keys(sa.suite.prf, sa.keys.d, agreed.suite, context.nonce_i, context.nonce_r)
        child = sas.make(sa, terms, agreed, keys, self.spi, peer_spi, ours=True)
        sas.install(sa, child)
        sas.carry(sa, child)

    def _undo(self, sa: Core, reason: str) -> None:
        """The peer holds a CHILD_SA, and we do not."""
        assert self.terms is not None
        sa.log("CHILD_SA answer refused", "warning", reason=reason)
        sa.submit(DeleteChild(self.spi, unknown=True))
        self.spi = 0
        sa.child_refused(self.terms.key, reason)


_CHILD_ONLY = {NotifyKind.INTERNAL_ADDRESS_FAILURE, NotifyKind.FAILED_CP_REQUIRED}
"""RFC 7296 3.15.4: without an address there is no CHILD_SA, but the IKE SA stands."""


class _Refused(Task):
    """Said once, and not waited for."""

    exchange = Exchange.INFORMATIONAL

    def build(self, sa: Core) -> list[Payload] | None:  # noqa: ARG002  (it never waits in a queue)
        return None

    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:
        """It is over already."""


# --- the responder's side -------------------------------------------------------------------------------------------------


@define(eq=False)
class Asked:
    """An IKE_AUTH request whose sender has proved who it is, until the directory has decided."""

    terms: Terms
    payloads: tuple[Payload, ...]


def respond(sa: Core, payloads: tuple[Payload, ...]) -> None:
    """Answers, or waits for `granted`."""
    found = _identify(sa, payloads)
    if isinstance(found, str):
        _refuse(sa, found)
        return
    sa.terms = found
    asked = Asked(found, payloads)
    configuration = first_of(payloads, Configuration)
    attributes = configuration.attributes if configuration and configuration.kind == ConfigKind.REQUEST else ()
    assert sa.peer is not None
    request = AccessRequest(sa.ends, found.profile, sa.peer, sa.certificate, attributes, sa.initiator)
    answer = sa.directory.authorise(sa.number, request)
    if isinstance(answer, Wait):
        sa.step(Step.ASKED)
        sa.context.asked = asked
        sa.give_up_at = sa.now + sa.settings.half_open
    else:
        _decide(sa, asked, answer)


def granted(sa: Core, answer: Grant | Refusal) -> None:
    asked = sa.context.asked
    assert isinstance(asked, Asked)
    _decide(sa, asked, answer)


def _identify(sa: Core, payloads: tuple[Payload, ...]) -> Terms | str:
    identity, auth, hint = None, None, None
    for payload in payloads:
        if isinstance(payload, IdentityPayload):
            if payload.initiator:
                identity = payload
            else:
                hint = payload
        elif isinstance(payload, Auth):
            auth = payload
    if identity is None:
        return "the peer does not say who it is"
    if auth is None:
        # RFC 7296 2.16: the initiator wants EAP, which we do not do. Nobody gets in without AUTH.
        return "no AUTH payload; EAP is not done"
    certificates = _received(payloads)
    terms = sa.directory.terms(sa.ends, identity.identity, certificates, hint.identity if hint else None)
    if isinstance(terms, Refusal):
        return terms.reason
    return _check(sa, terms, identity, auth, certificates) or terms


def _refuse(sa: Core, reason: str, kind: int = NotifyKind.AUTHENTICATION_FAILED) -> None:
    sa.refuse(reason)
    sa.reply(Exchange.IKE_AUTH, notify(kind))
    sa.die(f"refused: {reason}", retry=False)


def _decide(sa: Core, asked: Asked, answer: Grant | Refusal) -> None:
    terms, payloads = asked.terms, asked.payloads
    if isinstance(answer, Refusal) and answer.notify not in _CHILD_ONLY:
        _refuse(sa, answer.reason, answer.notify)
        return
    identity = IdentityPayload(terms.local, False)
    try:
        auth = _prove(sa, terms, identity)
    except SignError as error:
        _refuse(sa, f"we cannot prove who we are: {error}")
        return
    sa.auth_own = auth.method
    establish(sa, initial_contact=notify_of(payloads, NotifyKind.INITIAL_CONTACT) is not None)
    reply: list[Payload] = [identity, *_certificates(terms), auth]
    if isinstance(answer, Refusal):
        sa.barred = answer
        sa.deny(answer.reason)
        sa.context = None
        sa.reply(Exchange.IKE_AUTH, reply + notify(answer.notify))
        return
    sa.narrower = () if FLEXVPN in sa.vendor_ids else answer.selectors
    if answer.reply:
        reply.append(Configuration(ConfigKind.REPLY, answer.reply))
    if first_of(payloads, SecurityAssociation) is not None:
        reply += _child(sa, payloads)
    sa.context = None
    sa.reply(Exchange.IKE_AUTH, reply)


def _child(sa: Core, payloads: tuple[Payload, ...]) -> list[Payload]:
    chosen = choose(sa, payloads, auth=True)
    if isinstance(chosen, Failure):
        sa.deny(chosen.reason)
        return notify(chosen.notify)
    choice, terms = chosen
    agreed, answer, context = choice.agreed, choice.answer, sa.context
    assert sa.suite is not None
    assert sa.keys is not None
    keys = child_keys(sa.suite.prf, sa.keys.d, agreed.suite, context.nonce_i, context.nonce_r)
    spi = sa.directory.esp_spi()
    child = sas.make(sa, terms, agreed, keys, spi, choice.peer_spi, ours=False)
    sas.install(sa, child)
    sas.carry(sa, child)
    reply: list[Payload] = [TRANSPORT] if agreed.mode is EspMode.TRANSPORT else []
    reply.append(SecurityAssociation((Proposal(answer.number, answer.protocol, spi.to_bytes(4), answer.transforms),)))
    return reply + selectors_of(agreed.far, agreed.own)
