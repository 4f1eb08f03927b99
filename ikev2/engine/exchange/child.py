"""What CHILD_SAs are agreed by, in IKE_AUTH as in CREATE_CHILD_SA: proposals, mode, traffic selectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ikev2.crypto.suites import ESP, EspSuite, Mismatch, accept_esp, choose_esp, without_groups
from ikev2.engine.children import Agreed
from ikev2.engine.contract import ChildTerms, Refusal
from ikev2.engine.exchange.common import all_of, first_of, notify_of
from ikev2.engine.selectors import narrow, substitute, within
from ikev2.wire.numbers import NotifyKind
from ikev2.wire.payloads import Notify, Payload, Proposal, SecurityAssociation, TrafficSelectors
from stack.esp import EspMode, Selector
from stack.values import value

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = [
    "Choice",
    "Failure",
    "Offer",
    "accept",
    "choose",
    "notify_of_refusal",
    "offer",
    "payloads_of",
    "selectors_of",
]

MIN_SPI = 256
"""RFC 4303 2.1: 0 is never sent, 1 to 255 are reserved."""
TRANSPORT = Notify(NotifyKind.USE_TRANSPORT_MODE)


@value
class Offer:
    """What we ask for. `proposals` hold our SPI and are numbered."""

    proposals: tuple[Proposal, ...]
    own: tuple[Selector, ...]
    far: tuple[Selector, ...]
    mode: EspMode


@value
class Choice:
    """What a responder has chosen. `answer`: its proposal, still with the peer's SPI."""

    agreed: Agreed
    answer: Proposal
    peer_spi: int


@value
class Failure:
    """Why there will be no CHILD_SA. `notify`: for the peer."""

    notify: int
    reason: str


def offer(
    terms: ChildTerms,
    spi: int,
    *,
    auth: bool,
    own: tuple[Selector, ...] = (),
    far: tuple[Selector, ...] = (),
    mode: EspMode | None = None,
) -> Offer:
    """`own`, `far`, `mode`: of the CHILD_SA that is rekeyed, else those of `terms`."""
    octets = spi.to_bytes(4)
    proposals = without_groups(terms.proposals) if auth else terms.proposals
    numbered = tuple(Proposal(n, ESP, octets, each.transforms) for n, each in enumerate(proposals, 1))
    return Offer(numbered, own or terms.own, far or terms.far, mode or terms.mode)


def payloads_of(wanted: Offer) -> tuple[list[Payload], list[Payload]]:
    """(what stands before the nonce, what stands after it)."""
    before: list[Payload] = [TRANSPORT] if wanted.mode is EspMode.TRANSPORT else []
    before.append(SecurityAssociation(wanted.proposals))
    return before, selectors_of(wanted.own, wanted.far)


def selectors_of(initiator: tuple[Selector, ...], responder: tuple[Selector, ...]) -> list[Payload]:
    return [TrafficSelectors(True, initiator), TrafficSelectors(False, responder)]


def _spi(octets: bytes) -> int:
    """0: not one."""
    number = int.from_bytes(octets) if len(octets) == 4 else 0
    return number if number >= MIN_SPI else 0


def _selectors(payloads: Iterable[Payload]) -> tuple[tuple[Selector, ...], tuple[Selector, ...]]:
    """(the exchange's initiator's, its responder's); empty if missing."""
    found: dict[bool, tuple[Selector, ...]] = {}
    for payload in all_of(payloads, TrafficSelectors):
        found.setdefault(payload.initiator, payload.selectors)
    return found.get(True, ()), found.get(False, ())


def _behind_nat(
    sa: Core, own: tuple[Selector, ...], far: tuple[Selector, ...]
) -> tuple[tuple[Selector, ...], tuple[Selector, ...]]:
    """RFC 7296 2.23.1: in transport mode the peer's selectors hold addresses as it knows them; ours are those of the IKE
    SA."""
    if sa.nat_own:
        own = substitute(own, sa.ends.local)
    if sa.nat_peer:
        far = substitute(far, sa.ends.remote)
    return own, far


def accept(sa: Core, wanted: Offer, payloads: tuple[Payload, ...], *, auth: bool) -> tuple[Agreed, int] | Failure:
    """As initiator: (what the responder agreed to, its SPI). It may choose and narrow, and nothing else (RFC 7296 2.7,
    2.9)."""
    answer = first_of(payloads, SecurityAssociation)
    if answer is None:
        return Failure(NotifyKind.INVALID_SYNTAX, "no SA payload in the answer")
    suite = accept_esp(wanted.proposals, answer.proposals, groups=not auth)
    if isinstance(suite, Mismatch):
        return Failure(NotifyKind.NO_PROPOSAL_CHOSEN, f"not what was offered: {suite.reason}")
    spi = _spi(answer.proposals[0].spi)
    if not spi:
        return Failure(NotifyKind.INVALID_SYNTAX, "a wrong SPI in the answer")
    own, far = _selectors(payloads)
    mode = EspMode.TUNNEL
    if wanted.mode is EspMode.TRANSPORT and notify_of(payloads, NotifyKind.USE_TRANSPORT_MODE) is not None:
        mode = EspMode.TRANSPORT
        if sa.nat:
            own, far = _behind_nat(sa, own, far)
    if not own or not far or not within(own, wanted.own) or not within(far, wanted.far):
        return Failure(NotifyKind.TS_UNACCEPTABLE, "the answer's selectors are not within ours")
    return Agreed(suite, mode, own, far, suite.group), spi


def choose(
    sa: Core,
    payloads: tuple[Payload, ...],
    *,
    auth: bool,
    old: tuple[ChildTerms, Agreed] | None = None,
) -> tuple[Choice, ChildTerms] | Failure:
    """As responder. `old`: of the CHILD_SA that is rekeyed, which the new one may not be wider than (RFC 7296 2.9.2);
    without it the directory says what is wanted, and its grant how far the peer's side goes."""
    if sa.barred is not None:
        return Failure(sa.barred.notify, sa.barred.reason)
    offered = first_of(payloads, SecurityAssociation)
    far_asked, own_asked = _selectors(payloads)
    if offered is None or not far_asked or not own_asked:
        return Failure(NotifyKind.INVALID_SYNTAX, "SA or selectors are missing")
    mode = EspMode.TUNNEL if notify_of(payloads, NotifyKind.USE_TRANSPORT_MODE) is None else EspMode.TRANSPORT
    own, far = own_asked, far_asked
    if mode is EspMode.TRANSPORT and sa.nat:
        own, far = _behind_nat(sa, own, far)
    terms = old[0] if old else sa.directory.child(sa.number, sa.ends, own, far, mode)
    if isinstance(terms, Refusal):
        return Failure(notify_of_refusal(terms), terms.reason)
    if mode is EspMode.TRANSPORT and terms.mode is EspMode.TUNNEL:
        mode, own, far = EspMode.TUNNEL, own_asked, far_asked
    own = narrow(own, old[1].own if old else terms.own)
    far = narrow(far, old[1].far if old else terms.far)
    if sa.narrower:
        far = narrow(far, sa.narrower)
    if not own or not far:
        return Failure(NotifyKind.TS_UNACCEPTABLE, "nothing is left of the selectors")
    chosen = choose_esp(terms.proposals, offered.proposals, groups=not auth)
    if isinstance(chosen, Mismatch):
        return Failure(NotifyKind.NO_PROPOSAL_CHOSEN, chosen.reason)
    _, answer, suite = chosen
    spi = _spi(answer.spi)
    if not spi:
        return Failure(NotifyKind.NO_PROPOSAL_CHOSEN, "a wrong SPI in the proposal")
    return Choice(Agreed(_for_auth(suite) if auth else suite, mode, own, far, suite.group), answer, spi), terms


def _for_auth(suite: EspSuite) -> EspSuite:
    return suite if not suite.group else EspSuite(suite.cipher, suite.integrity, suite.esn)


def notify_of_refusal(refusal: Refusal) -> int:
    """A CHILD_SA fails without its IKE SA, so AUTHENTICATION_FAILED is not for it."""
    return NotifyKind.TS_UNACCEPTABLE if refusal.notify == NotifyKind.AUTHENTICATION_FAILED else refusal.notify
