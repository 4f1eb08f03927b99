"""One IKE SA and its CHILD_SAs (RFC 7296), sans-IO: messages in, outputs out.

A message is first fitted into the window (who may say what, and what was said before), then opened, and only then acted
upon: what does not carry the peer's seal changes nothing but a counter. Its exchange is in ikev2.engine.exchange: an answer
goes to the task that asked, a request to the module of its kind. Timers are in ikev2.engine.timers.

A rekey of the IKE SA makes another `IkeSa` (outputs `Rekeyed`, `Spawned`), with the number of this one until the speaker
gives it another.

Standards: RFC 7296; 4303 and 3948 (limits, UDP), 6023 (childless), 6989 (keys are tested), 7383 (fragments), 7427
(signatures)."""

from __future__ import annotations

from attrs import define

from ikev2.engine.contract import ChildTerms, Directory, Doubted, Ends, Grant, Output, Refusal, Terms
from ikev2.engine.core import Core, Entropy
from ikev2.engine.exchange import auth, create, ike_rekey, inform, init
from ikev2.engine.exchange.common import critical_in, notify, notify_of
from ikev2.engine.exchange.delete import DeleteIke
from ikev2.engine.fragments import Reassembly
from ikev2.engine.sastate import IkeSaSnapshot, Settings, State
from ikev2.engine.sealed import open_fragment, open_whole
from ikev2.engine.timers import check_alive, close, due, rekey_child, tick
from ikev2.engine.view import view
from ikev2.engine.window import Answered
from ikev2.wire import decode_payloads
from ikev2.wire.numbers import Exchange, NotifyKind, ProtocolId
from ikev2.wire.payloads import Attribute, Delete, Encrypted, EncryptedFragment, Message, Payload
from stack.wire import WireError

__all__ = ["IkeSa", "IkeSaSnapshot", "Settings", "State"]

_FROM_PEERS = {State.ESTABLISHED, State.REKEYED, State.DELETING}


@define(eq=False, repr=False)
class IkeSa(Core):
    """Every call returns what is to be done, in that order. `octets` begin with the IKE header, without non-ESP marker."""

    @classmethod
    def initiate(
        cls,
        number: int,
        ends: Ends,
        directory: Directory,
        terms: Terms,
        child: ChildTerms | None,
        entropy: Entropy,
        settings: Settings,
        now: float,
    ) -> tuple[IkeSa, list[Output]]:
        """`child` None: childless (RFC 6023), if the peer can; else the SA is closed. `ends` may begin on port 4500."""
        sa = cls(number, True, ends, directory, entropy, settings, now, State.INIT, directory.ike_spi(), since=now)
        sa.terms = terms
        init.start(sa, child)
        return sa, sa._flush()

    @classmethod
    def respond(
        cls,
        number: int,
        ends: Ends,
        directory: Directory,
        octets: bytes,
        message: Message,
        entropy: Entropy,
        settings: Settings,
        now: float,
    ) -> tuple[IkeSa | None, list[Output]]:
        """To a new IKE_SA_INIT request whose cookie, if any, the speaker has checked. None: refused; the outputs say so to
        the peer."""
        sa = cls(
            number, False, ends, directory, entropy, settings, now, State.HALF_OPEN, message.initiator_spi, since=now
        )
        answer = init.respond(sa, octets, message)
        if answer is None:
            return None, sa._flush()
        sa.next_peer = 1
        sa.answered = Answered(0, hash(octets), (answer,))
        sa.give_up_at = now + settings.half_open
        sa.send(sa.answered.datagrams, ends)
        return sa, sa._flush()

    def snapshot(self) -> IkeSaSnapshot:
        return view(self)

    def deadline(self) -> float | None:
        """When `wake` must be called at the latest; None: never."""
        return due(self)

    def wake(self, now: float) -> list[Output]:
        self.now = now
        if self.state is not State.CLOSED:
            tick(self)
        return self._flush()

    def receive(self, octets: bytes, message: Message, ends: Ends, now: float) -> list[Output]:
        """A datagram with this SA's SPIs, or its IKE_SA_INIT once more. `ends`: where it came by."""
        self.now = now
        if self.state is State.CLOSED:
            return []
        last = message.payloads[-1] if message.payloads else None
        if isinstance(last, Encrypted | EncryptedFragment):
            self._protected(octets, message, last, ends)
        else:
            self._unprotected(octets, message, ends)
        return self._flush()

    def granted(self, answer: Grant | Refusal, now: float) -> list[Output]:
        """The directory's answer after `Wait`. Ignored if nothing waits for it any more."""
        self.now = now
        if self.state is State.DECIDING:
            auth.granted(self, answer)
        return self._flush()

    # --- what the speaker wants of it ---

    def add_child(self, terms: ChildTerms, now: float) -> list[Output]:
        self.now = now
        if self.heir is not None:
            return self.heir.add_child(terms, now)  # type: ignore[no-any-return]  # heir is an IkeSa
        if self.state is not State.ESTABLISHED or not self.submit(create.CreateChild(terms)):
            self.child_refused(terms.key, "the IKE SA takes no CHILD_SA now")
        return self._flush()

    def rekey_child(self, number: int, now: float, reason: str = "") -> list[Output]:
        self.now = now
        child = self.children.get(number)
        if child is not None and self.state is State.ESTABLISHED:
            self.log("CHILD_SA rekey", "debug", child=number, reason=reason)
            rekey_child(self, child)
        return self._flush()

    def rekey(self, now: float) -> list[Output]:
        self.now = now
        if self.state is State.ESTABLISHED and self.adopted and not self.waits(ike_rekey.RekeyIke):
            self.rekey_at = 0.0
            self.submit(ike_rekey.RekeyIke())
        return self._flush()

    def delete_child(self, number: int, now: float, reason: str = "deleted") -> list[Output]:
        """Nothing goes by it from now on; it is gone once the peer has let go of its side."""
        self.now = now
        create.delete(self, number, reason)
        return self._flush()

    def close(self, reason: str, now: float, *, retry: bool = True) -> list[Output]:
        """Its CHILD_SAs end at once. Established, it says DELETE and is closed when that is answered, or not answered for
        long."""
        self.now = now
        if self.state is State.ESTABLISHED:
            close(self, reason, retry=retry)
        elif self.state is State.REKEYED:
            if not self.waits(DeleteIke):
                self.submit(DeleteIke(reason, retry=False))
        elif self.state is not State.DELETING:
            self.die(reason, retry=retry)
        return self._flush()

    def abandon(self, reason: str) -> list[Output]:
        """Closed at once, and the peer hears nothing."""
        self.die(reason)
        return self._flush()

    def check_alive(self, now: float, reason: str = "") -> list[Output]:
        self.now = now
        self.log("liveness check", "debug", reason=reason)
        check_alive(self)
        return self._flush()

    def push(self, attributes: tuple[Attribute, ...], now: float) -> list[Output]:
        """CFG_SET."""
        self.now = now
        if self.heir is not None:
            return self.heir.push(attributes, now)  # type: ignore[no-any-return]  # heir is an IkeSa
        if self.state is State.ESTABLISHED:
            self.submit(inform.PushConfig(attributes))
        return self._flush()

    def moved(self, remote: bytes, port: int, now: float) -> list[Output]:
        """An ESP packet that was authenticated came from there (SaMoved)."""
        self.now = now
        if self.state is State.ESTABLISHED and self.nat_peer and not self.nat_own:
            self.follow_peer(remote, port)
        return self._flush()

    # --- messages ---

    def _flush(self) -> list[Output]:
        self.pump()
        out, self.out = self.out, []
        return out

    def _unprotected(self, octets: bytes, message: Message, ends: Ends) -> None:
        """Anybody's."""
        if message.exchange == Exchange.IKE_SA_INIT:
            if message.response and self.state is State.INIT and not message.initiator:
                if init.request_again(self, octets, message):
                    self._authenticate()
            elif not message.response and not self.initiator and message.message_id == 0:
                self._init_again(octets, ends)
            else:
                self.drop("unprotected")
            return
        self.drop("unprotected")
        if message.exchange == Exchange.INFORMATIONAL and notify_of(message.payloads, NotifyKind.INVALID_IKE_SPI):
            # RFC 7296 2.4: such a message is a hint that the peer has lost the SA, and no more.
            pending = self.pending.get(message.message_id)
            if pending is not None and message.response and self.state is State.ESTABLISHED:
                self.say(Doubted())
            check_alive(self)

    def _init_again(self, octets: bytes, ends: Ends) -> None:
        """The initiator has not got our answer."""
        known = self.answered
        if known is not None and known.message_id == 0 and known.request == hash(octets):
            self.retransmissions += 1
            self.send(known.datagrams, ends)
        else:
            self.drop("unprotected")

    def _authenticate(self) -> None:
        if self.context.child is None and not self.childless:
            self.die("the peer does not know childless initiation (RFC 6023)", retry=False)
            return
        task = auth.Authenticate(self)
        payloads = task.build(self)
        if payloads is not None:
            self.request(task, payloads)

    def _protected(self, octets: bytes, message: Message, payload: Encrypted | EncryptedFragment, ends: Ends) -> None:
        if self.seal_in is None or message.initiator is self.initiator:
            self.drop("direction")
            return
        if message.initiator_spi != self.spi_i or message.responder_spi != self.spi_r:
            self.drop("SPI")
            return
        if not (self._answer_fits(message) if message.response else self._request_fits(octets, message, payload, ends)):
            return
        opened = self._open(octets, message, payload)
        if opened is None:
            return
        if not message.response and not self.adopted and message.exchange == Exchange.CREATE_CHILD_SA:
            # Which successor stands is not known yet; the peer asks again.
            self.drop("not decided yet")
            return
        first, plain = opened
        try:
            payloads = decode_payloads(first, plain)
        except WireError as error:
            self._unreadable(message, octets, ends, error)
            return
        self.trace("opened", message.exchange, message.message_id, payloads, response=message.response)
        if message.response:
            self._answered(message, payloads, ends)
        else:
            self._requested(message, octets, payloads, ends)

    def _answer_fits(self, message: Message) -> bool:
        pending = self.pending.get(message.message_id)
        if pending is None or pending.task.exchange != message.exchange:
            self.drop("response without request")
            return False
        return True

    def _request_fits(
        self, octets: bytes, message: Message, payload: Encrypted | EncryptedFragment, ends: Ends
    ) -> bool:
        """RFC 7296 2.3: our window is one. The request before the next one is answered again, if it is the same octet by
        octet; any other one is ignored."""
        if message.message_id != self.next_peer:
            known = self.answered
            if known is None or message.message_id != known.message_id or not known.datagrams:
                self.drop("message id")
            elif isinstance(payload, EncryptedFragment) and payload.number != 1:
                self.drop("fragment repeated")  # RFC 7383 2.6.1: the first fragment alone is answered
            elif known.request != hash(octets):
                self.drop("message id")
            else:
                self.retransmissions += 1
                self.send(known.datagrams, ends)
            return False
        if self.state is State.HALF_OPEN:
            if (ends.local, ends.remote) != (self.ends.local, self.ends.remote):
                # RFC 7296 2.23 has the initiator change ports, not addresses. The cookie and IKE_SA_INIT have shown that
                # it receives at this one; by a forged source of IKE_AUTH it would stand for whoever is at another.
                self.drop("another address")
                return False
            fits = message.exchange == Exchange.IKE_AUTH
        else:
            fits = self.state in _FROM_PEERS and message.exchange in {Exchange.CREATE_CHILD_SA, Exchange.INFORMATIONAL}
        if not fits:
            self.drop("exchange")
        return fits

    def _open(
        self, octets: bytes, message: Message, payload: Encrypted | EncryptedFragment
    ) -> tuple[int, bytes] | None:
        if isinstance(payload, Encrypted):
            return open_whole(self, octets, payload)
        if not self.fragmentation:
            self.drop("fragment unasked")
            return None
        if message.response:
            parts = self.responses = self.responses or Reassembly()
        else:
            parts = self.requests = self.requests or Reassembly()
        return open_fragment(self, octets, message.message_id, payload, parts)

    def _unreadable(self, message: Message, octets: bytes, ends: Ends, error: WireError) -> None:
        """RFC 7296 2.21.3: INVALID_SYNTAX, which only who has the keys can provoke, ends the IKE SA at both ends."""
        self.log("message cannot be read", "warning", reason=str(error))
        if not message.response:
            self._accept(message, octets, ends)
            self.reply(message.exchange, notify(NotifyKind.INVALID_SYNTAX))
        self.die("a protected message that cannot be read")

    def _accept(self, message: Message, octets: bytes, ends: Ends) -> None:
        """The request is the next one, and the peer's."""
        self.next_peer += 1
        fragmented = self.requests.mark if self.requests is not None else 0
        self.answered = Answered(message.message_id, fragmented or hash(octets))
        self.requests = None
        self.reply_to = ends
        self.hear(ends)

    def _answered(self, message: Message, payloads: tuple[Payload, ...], ends: Ends) -> None:
        pending = self.pending.pop(message.message_id)
        self.hear(ends)
        if self.state is State.DELETING and not isinstance(pending.task, DeleteIke | ike_rekey.RekeyIke):
            pending.task.dropped(self)
            return
        pending.task.answered(self, payloads)

    def _requested(self, message: Message, octets: bytes, payloads: tuple[Payload, ...], ends: Ends) -> None:
        if not self.adopted and any(isinstance(p, Delete) and p.protocol == ProtocolId.ESP for p in payloads):
            self.drop("not decided yet")
            return
        self._accept(message, octets, ends)
        exchange = message.exchange
        strange = critical_in(payloads)
        if strange:
            # RFC 7296 2.5: the whole message is rejected, and the answer says which payload type it was.
            self.reply(exchange, notify(NotifyKind.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((strange,))))
            if exchange == Exchange.IKE_AUTH:
                self.die("refused: an unknown critical payload", retry=False)
            return
        if exchange == Exchange.IKE_AUTH:
            auth.respond(self, payloads)
            return
        if exchange == Exchange.CREATE_CHILD_SA:
            rekey = ike_rekey.is_ike_offer(payloads)
            answer: list[Payload] | None = (ike_rekey if rekey else create).respond(self, payloads)
        else:
            answer = inform.respond(self, payloads)
        if answer is not None:
            self.reply(exchange, answer)
