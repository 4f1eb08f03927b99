"""INFORMATIONAL (RFC 7296 1.4): liveness, configuration pushed, and what a peer may ask here.

HDR, SK {[N,] [D,] [CP,] ...}  -->
                               <--  HDR, SK {[D,] [CP,] ...}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.engine import children as sas
from ikev2.engine.contract import Configured
from ikev2.engine.exchange.common import all_of, first_of, notify_of
from ikev2.engine.exchange.delete import deleted
from ikev2.engine.sastate import State
from ikev2.engine.window import MAX_OWN_WINDOW, Schedule, Task
from ikev2.wire.numbers import ConfigKind, Exchange, NotifyKind, ProtocolId
from ikev2.wire.payloads import Attribute, Configuration, Delete, Payload

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = ["DPD_TRIES", "Liveness", "PushConfig", "respond"]

MAX_BURIED = 16
"""SPIs remembered that the peer has deleted and we do not know yet."""
DPD_TRIES = 5
"""Requests, `Dpd.retry` seconds apart, after which a peer that does not answer is dead."""


class Liveness(Task):
    """An empty request: RFC 7296 2.4."""

    exchange = Exchange.INFORMATIONAL

    def __init__(self, sa: Core) -> None:
        dpd = sa.terms.dpd if sa.terms else None
        if dpd is not None:
            self.schedule = Schedule(DPD_TRIES, float(dpd.retry), 1.0)

    def build(self, sa: Core) -> list[Payload] | None:
        return [] if sa.state in {State.ESTABLISHED, State.REKEYED} else None

    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:
        """It lives: that it was heard is noted for every answer."""

    def lost(self, sa: Core) -> None:
        sa.die("dead peer: no answer to liveness checks", silent=True)


class PushConfig(Task):
    """CFG_SET. A peer that does not know it, or refuses, is left in peace (RFC 7296 3.15 has it for either end to use)."""

    exchange = Exchange.INFORMATIONAL

    def __init__(self, attributes: tuple[Attribute, ...]) -> None:
        self.attributes = attributes

    def build(self, sa: Core) -> list[Payload] | None:  # noqa: ARG002  (it may always be said)
        return [Configuration(ConfigKind.SET, self.attributes)]

    def answered(self, sa: Core, payloads: tuple[Payload, ...]) -> None:
        acknowledgement = first_of(payloads, Configuration)
        taken = acknowledgement is not None and acknowledgement.kind == ConfigKind.ACK
        attributes = len(acknowledgement.attributes) if taken and acknowledgement else 0
        sa.log("configuration pushed", "debug", acknowledged=taken, attributes=attributes)


def respond(sa: Core, payloads: tuple[Payload, ...]) -> list[Payload] | None:
    """The answer; None: given already, or the IKE SA is over."""
    deletes = list(all_of(payloads, Delete))
    if any(each.protocol == ProtocolId.IKE for each in deletes):
        _delete_ike(sa)
        return None
    if notify_of(payloads, NotifyKind.AUTHENTICATION_FAILED) is not None:
        # RFC 7296 2.21.2: an initiator that does not accept us says so here.
        sa.reply(Exchange.INFORMATIONAL, [])
        sa.die("AUTHENTICATION_FAILED", peer=True)
        return None
    window = notify_of(payloads, NotifyKind.SET_WINDOW_SIZE)
    if window is not None and len(window.octets) == 4:
        # RFC 7296 2.3: it may grow; a smaller one would leave requests that are under way outside.
        sa.peer_window = max(sa.peer_window, min(int.from_bytes(window.octets), MAX_OWN_WINDOW))
    answer: list[Payload] = []
    spis: list[bytes] = []
    for each in deletes:
        if each.protocol == ProtocolId.ESP:
            spis += _delete_children(sa, each.spis)
    if spis:
        answer.append(Delete(ProtocolId.ESP, tuple(spis)))
    configuration = first_of(payloads, Configuration)
    if configuration is not None and configuration.kind == ConfigKind.SET:
        answer += _configured(sa, configuration)
    return answer


def _delete_ike(sa: Core) -> None:
    if sa.rival is not None and sa.rival.alive and sa.state is State.ESTABLISHED:
        # RFC 7296 2.25.2: our own rekey is forgotten; the peer's has made this one's successor.
        sa.rival.win(sa)
    sa.reply(Exchange.INFORMATIONAL, [])
    if sa.heir is not None or not sa.adopted:
        sa.die("replaced" if sa.heir is not None else "redundant", retry=False)
    elif sa.state is State.DELETING:
        sa.die("deleted by both")
    else:
        sa.die("deleted by the peer", peer=True)


def _delete_children(sa: Core, spis: tuple[bytes, ...]) -> list[bytes]:
    """Our SPIs of the pairs whose other half the peer names. An SPI that we do not know is left out: it is gone already."""
    own = []
    for spi in spis:
        child = sas.by_peer_spi(sa, spi)
        if child is None:
            if sa.busy():
                sa.buried = (*sa.buried, int.from_bytes(spi))[-MAX_BURIED:]
        elif deleted(sa, child):
            own.append(child.number.to_bytes(4))
    return own


def _configured(sa: Core, configuration: Configuration) -> list[Payload]:
    terms = sa.terms
    if terms is None or not terms.accept_set:
        sa.log("configuration refused", "info", reason="the profile takes none")
        return [Configuration(ConfigKind.ACK)]
    sa.say(Configured(ConfigKind.SET, configuration.attributes))
    # RFC 7296 3.15: CFG_ACK has the attributes that were taken, with a length of zero.
    kinds = dict.fromkeys(attribute.kind for attribute in configuration.attributes)
    return [Configuration(ConfigKind.ACK, tuple(Attribute(kind) for kind in kinds))]
