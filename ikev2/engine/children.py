"""CHILD_SAs: made, put to use, replaced, removed.

Make before break, and never a moment in which we send what the peer cannot open. Whoever begins a rekey knows, once the
answer is here, that the peer can: it sends by the new SA at once. Whoever answers does not know whether its answer arrived;
it goes on with the old SA until a packet comes by the new one or the peer deletes the old one, either of which only a peer
that has the answer does. SWITCH_AFTER is for peers that do neither."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

from ikev2.crypto.keys import ChildKeys
from ikev2.crypto.suites import EspSuite
from ikev2.engine.contract import ChildDown, ChildTerms, ChildUp, PutInbound, PutOutbound, RemoveInbound, RemoveOutbound
from stack.esp import EspForm, EspMode, Selector
from stack.tables.sad import Sa

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = [
    "LINGER",
    "MAX_CHILDREN",
    "MAX_LINGERING",
    "SOFT",
    "SPREAD",
    "SWITCH_AFTER",
    "Agreed",
    "Child",
    "ChildState",
    "Rival",
    "by_peer_spi",
    "carry",
    "down",
    "expire",
    "gone",
    "install",
    "make",
    "move",
    "remove_all",
    "replaced",
    "worn",
]

LINGER = 5.0
"""Seconds that the inbound SA of a deleted CHILD_SA stays, for what is on its way."""
SWITCH_AFTER = 30.0
"""Seconds after which a rekey of the peer is taken to have reached it, though nothing shows it. Longer than a peer repeats
a request, so that an answer that was lost has been sent again; the old SA carries until then."""
MAX_CHILDREN = 16
"""Of one IKE SA; the next one is refused with NO_ADDITIONAL_SAS. Each may have a successor beside it: a peer that rekeys and
never deletes is refused, likewise, at twice as many."""
MAX_LINGERING = 16
"""Inbound SAs of one IKE SA that are deleted and still received by; those deleted first go at once."""
MAX_SEQUENCE = 2**32 - 1
"""RFC 4303 3.3.3: without ESN an SA must not send more packets than this; a nonce would come twice."""
SOFT, SPREAD = 0.85, 0.1
"""We rekey at this part of a lifetime, and up to `SPREAD` later, so that two ends seldom begin at once."""


class ChildState(Enum):
    INSTALLED = "installed"
    REKEYING = "our rekey is under way"
    REPLACED = "another has taken its place"
    DELETING = "our DELETE is under way"


@frozen
class Rival:
    """The peer's rekey of a CHILD_SA that we are rekeying too: the SA that came of it, and the lower nonce of that exchange
    (RFC 7296 2.8.1)."""

    number: int
    lowest: bytes = field(repr=False)


@frozen
class Agreed:
    """What two ends have agreed on for a CHILD_SA. `own`, `far`: selectors, ours and the peer's. `group` 0: no exchange of
    keys."""

    suite: EspSuite
    mode: EspMode
    own: tuple[Selector, ...]
    far: tuple[Selector, ...]
    group: int = 0


@define(eq=False)
class Child:
    """`ours`: we began the exchange that made it. `held`: its inbound SA stands in the SAD; `carries`: its outbound SA
    does; `up`: ChildUp was said. `reserved`: our SPI is. `redundant`: it lost against another rekey, and its maker deletes
    it. `doomed`: to be deleted once its rekey is over. `soft_time`, `hard_time`, `switch_at`: 0.0 is never."""

    number: int
    terms: ChildTerms
    inbound: Sa
    outbound: Sa
    agreed: Agreed
    ours: bool
    since: float
    soft_time: float = 0.0
    hard_time: float = 0.0
    state: ChildState = ChildState.INSTALLED
    held: bool = False
    reserved: bool = True
    carries: bool = False
    up: bool = False
    replaces: int = 0
    replaced_by: int = 0
    redundant: bool = False
    doomed: bool = False
    switch_at: float = 0.0
    rival: Rival | None = None

    @property
    def waiting(self) -> bool:
        """A rekey of the peer made it, and we do not send by it yet."""
        return (
            bool(self.replaces)
            and self.held
            and self.state is ChildState.INSTALLED
            and not (self.up or self.redundant or self.doomed)
        )


def make(
    sa: Core,
    terms: ChildTerms,
    agreed: Agreed,
    keys: ChildKeys,
    spi: int,
    peer_spi: int,
    *,
    ours: bool,
    replaces: int = 0,
) -> Child:
    """Not yet in any table. `spi`: of our inbound SA. `ours`: we are the initiator of the exchange."""
    suite = agreed.suite
    sent, got = (keys.initiator, keys.responder) if ours else (keys.responder, keys.initiator)
    part = SOFT + SPREAD * sa.jitter()
    most = terms.packets if suite.esn else min(terms.packets or MAX_SEQUENCE, MAX_SEQUENCE)
    hard_time = sa.now + terms.lifetime if terms.lifetime else 0.0
    ends = sa.ends
    common: dict[str, Any] = {
        "key": terms.key,
        "local": ends.local,
        "remote": ends.remote,
        "vrf": ends.vrf,
        "form": EspForm(suite.cipher, suite.integrity, agreed.mode, sa.nat),
        "esn": suite.esn,
        "window": terms.window,
        "ports": (ends.local_port, ends.remote_port) if sa.nat else (0, 0),
        "own": agreed.own,
        "far": agreed.far,
        "soft_packets": int(most * part),
        "hard_packets": most,
        "soft_octets": int(terms.octets * part),
        "hard_octets": terms.octets,
        "hard_time": hard_time,
        "child": spi,
        "identity": sa.peer_text,
    }
    return Child(
        number=spi,
        terms=terms,
        inbound=Sa(spi=spi, encryption=got.encryption, salt=got.salt, integrity=got.integrity, **common),
        outbound=Sa(spi=peer_spi, encryption=sent.encryption, salt=sent.salt, integrity=sent.integrity, **common),
        agreed=agreed,
        ours=ours,
        since=sa.now,
        soft_time=sa.now + terms.lifetime * part if terms.lifetime else 0.0,
        hard_time=hard_time,
        replaces=replaces,
    )


def install(sa: Core, child: Child) -> None:
    """We can receive by it from now on."""
    sa.children[child.number] = child
    child.held = True
    sa.say(PutInbound(child.inbound))


def carry(sa: Core, child: Child) -> None:
    """We send by it from now on."""
    if child.carries or child.doomed:
        return
    child.switch_at = 0.0
    for other in sa.children.values():
        if other.carries and other.terms.key == child.terms.key:
            other.carries = False
        if other.number == child.replaces:
            other.up = False
    child.carries = child.up = True
    sa.say(PutOutbound(child.outbound))
    sa.say(ChildUp(child.terms.key, child.number, child.inbound, child.outbound, child.replaces))


def replaced(old: Child, new: Child) -> None:
    old.state, old.replaced_by, old.rival = ChildState.REPLACED, new.number, None
    new.replaces = old.number


def down(sa: Core, child: Child, reason: str) -> None:
    """Nothing goes by it any more, and nothing takes its place; but should both ends have made a CHILD_SA for this
    neighbour, the other one carries on."""
    carried, child.carries = child.carries, False
    if carried:
        sa.say(RemoveOutbound(child.terms.key, child.outbound.spi))
    child.switch_at = child.soft_time = 0.0
    if child.up:
        child.up = False
        sa.say(ChildDown(child.terms.key, child.number, reason))
    if carried:
        for other in list(sa.children.values()):
            if other.up and other.held and not other.replaced_by and other.terms.key == child.terms.key:
                carry(sa, other)
                return


def gone(sa: Core, child: Child, reason: str) -> None:
    """Both ends have let go of it. What is on its way is still received for a little while."""
    if child.replaced_by:
        _silent(sa, child)
    else:
        down(sa, child, reason)
    if sa.children.pop(child.number, None) is None:
        return
    if child.held:
        child.held = False
        sa.lingering[child.number] = sa.now + LINGER
        if len(sa.lingering) > MAX_LINGERING:
            first = next(iter(sa.lingering))
            del sa.lingering[first]
            sa.release(first)
    else:
        _release(sa, child)


def _silent(sa: Core, child: Child) -> None:
    """Its place is taken. Should it still carry, because its successor does not yet, nothing may go by it any more."""
    if child.carries:
        child.carries = False
        sa.say(RemoveOutbound(child.terms.key, child.outbound.spi))
    child.up = False


def expire(sa: Core, child: Child) -> None:
    """Its hard lifetime is over: at once, whatever the peer says (RFC 7296 2.8: "SAs MUST NOT outlive their lifetimes")."""
    down(sa, child, "its lifetime is over")
    child.hard_time = 0.0
    _release(sa, child)


def _release(sa: Core, child: Child) -> None:
    child.held = False
    if child.reserved:
        child.reserved = False
        sa.say(RemoveInbound(child.number))


def remove_all(sa: Core, reason: str) -> None:
    children, sa.children = sa.children, {}
    for child in children.values():
        down(sa, child, reason)
        _release(sa, child)
    for spi in sa.lingering:
        sa.release(spi)
    sa.lingering = {}


def by_peer_spi(sa: Core, spi: bytes) -> Child | None:
    """A peer names a CHILD_SA by the SPI that it receives by, which we send with (RFC 7296 3.10, 3.11)."""
    number = int.from_bytes(spi)
    for child in sa.children.values():
        if child.outbound.spi == number:
            return child
    return None


def worn(child: Child) -> bool:
    """Whether it has carried what it should before it is rekeyed."""
    for sa in (child.inbound, child.outbound):
        use = sa.use
        if (sa.soft_packets and use.packets >= sa.soft_packets) or (sa.soft_octets and use.octets >= sa.soft_octets):
            return True
    return False


def move(sa: Core) -> None:
    """The peer is elsewhere: the same SAs, with the counters that they have, to the new address and port."""
    ends = sa.ends
    for child in sa.children.values():
        ports = (ends.local_port, ends.remote_port) if child.inbound.form.udp else (0, 0)
        child.inbound = evolve(child.inbound, remote=ends.remote, ports=ports)
        child.outbound = evolve(child.outbound, remote=ends.remote, ports=ports)
        if child.held:
            sa.say(PutInbound(child.inbound))
        if child.carries:
            sa.say(PutOutbound(child.outbound))
