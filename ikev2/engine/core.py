"""What an IKE SA is made of, and what every exchange of it needs: sealing, message ids, retransmission, timers, its end.

The exchanges themselves are in ikev2.engine.exchange, CHILD_SAs in ikev2.engine.children; `ikev2.engine.sa.IkeSa` puts them
together. Nothing here is for the speaker, who knows `IkeSa` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field

from ikev2.crypto.keys import IkeKeys
from ikev2.crypto.sealing import Sealer, sealers
from ikev2.crypto.suites import IkeSuite
from ikev2.engine import children as sas
from ikev2.engine.children import SOFT, SPREAD, Child
from ikev2.engine.contract import (
    ChildDown,
    Closed,
    Denied,
    Directory,
    Ends,
    Keyed,
    Level,
    Log,
    Moved,
    Output,
    Refusal,
    RemoveInbound,
    Send,
    Terms,
)
from ikev2.engine.fragments import Reassembly
from ikev2.engine.sastate import Settings, State, Step, follow
from ikev2.engine.sealed import Outgoing, seal
from ikev2.engine.window import MAX_OWN_WINDOW, MAX_QUEUE, Answered, Pending, Schedule, Task
from ikev2.wire import explain_payloads
from ikev2.wire.numbers import Exchange
from ikev2.wire.payloads import Identity, Payload
from stack.esp import Selector

__all__ = ["Core", "Entropy"]

Entropy = Callable[[int], bytes]

NAT_PORT = 4500
NO_ESP = bytes(4)
"""RFC 3948 2.2: the non-ESP marker."""


@define(eq=False, repr=False)
class Core:
    """Times are on the clock's scale; 0.0 stands for a timer that is not set."""

    number: int
    initiator: bool
    ends: Ends
    directory: Directory
    entropy: Entropy
    settings: Settings
    now: float
    state: State
    spi_i: bytes = bytes(8)
    spi_r: bytes = bytes(8)
    since: float = 0.0
    established: float | None = None

    terms: Terms | None = None
    peer: Identity | None = None
    peer_text: str = ""
    certificate: Any = None
    barred: Refusal | None = None
    """The directory lets the peer in, but to no CHILD_SA."""
    narrower: tuple[Selector, ...] = ()
    """Of the directory's grant: the peer's side of every CHILD_SA goes no further."""
    auth_own: int = 0
    auth_peer: int = 0

    suite: IkeSuite | None = None
    keys: IkeKeys | None = None
    seal_out: Outgoing | None = None
    seal_in: Sealer | None = None

    fragmentation: bool = False
    hashes: frozenset[int] | None = None
    """Of the peer's SIGNATURE_HASH_ALGORITHMS; None: it sent none."""
    childless: bool = False
    nat_own: bool = False
    nat_peer: bool = False
    vendor_ids: tuple[bytes, ...] = ()

    children: dict[int, Child] = field(factory=dict)
    buried: tuple[int, ...] = ()
    """SPIs of the peer that it has deleted before we had its answer: its CHILD_SAs are dead when that comes. Kept only
    while a request of ours waits, and MAX_BURIED at most."""
    lingering: dict[int, float] = field(factory=dict)
    """Inbound SAs of deleted CHILD_SAs -> when they go."""

    queue: list[Task] = field(factory=list)
    pending: dict[int, Pending] = field(factory=dict)
    next_own: int = 0
    peer_window: int = 1
    next_peer: int = 0
    answered: Answered | None = None
    reply_to: Ends | None = None
    requests: Reassembly | None = None
    responses: Reassembly | None = None
    retransmissions: int = 0

    heard: float = 0.0
    said: float = 0.0
    checked: float = 0.0
    rekey_at: float = 0.0
    expires_at: float = 0.0
    dpd_at: float = 0.0
    keepalive_at: float = 0.0
    give_up_at: float = 0.0
    """Of a half-open SA, one that is replaced, or one that nobody adopts: how long the peer is waited for."""

    context: Any = None
    """What IKE_SA_INIT leaves for IKE_AUTH; None once that is over."""
    rival: Any = None
    """The peer's rekey of this IKE SA that met our own: exchange.ike_rekey.Rival."""
    heir: Any = None
    """The IKE SA that replaced this one."""
    elders: int = 0
    """How many predecessors the peer has not let go of yet."""
    adopted: bool = True
    """False: made by a rekey of the peer that met ours; not decided yet."""
    refusal: str = ""
    """Why the peer refused us, as far as an unauthenticated message can be believed."""
    drops: dict[str, int] = field(factory=dict)
    out: list[Output] = field(factory=list)

    def __repr__(self) -> str:
        return f"<IkeSa {self.number} {self.initiator_spi.hex()} {self.state.name}>"

    # --- what it is ---

    @property
    def initiator_spi(self) -> bytes:
        return self.spi_i

    @property
    def spi_own(self) -> bytes:
        return self.spi_i if self.initiator else self.spi_r

    @property
    def spi_peer(self) -> bytes:
        return self.spi_r if self.initiator else self.spi_i

    @property
    def nat(self) -> bool:
        return self.nat_own or self.nat_peer

    def step(self, step: Step) -> None:
        self.state = follow(self.state, step)

    # --- outputs ---

    def say(self, output: Output) -> None:
        self.out.append(output)

    def say_keys(self, suite: IkeSuite, keys: IkeKeys, spi_i: bytes, spi_r: bytes) -> None:
        """For a key log, if there is one."""
        if self.settings.key_log:
            self.say(Keyed(spi_i, spi_r, suite, keys))

    def log(self, event: str, level: Level = "info", **fields: object) -> None:
        self.out.append(Log(event, {"sa": self.number, **fields}, level))

    def trace(self, event: str, exchange: int, message_id: int, payloads: Iterable[Payload], *, response: bool) -> None:
        """What is inside a sealed message."""
        if self.settings.trace.on:
            self.log(event, "debug", message=explain_payloads(exchange, message_id, payloads, response=response))

    def drop(self, reason: str) -> None:
        """A message is not taken. Reasons are few and fixed, so that the table is small."""
        self.drops[reason] = self.drops.get(reason, 0) + 1

    def send(self, datagrams: tuple[bytes, ...], ends: Ends) -> None:
        out = self.out
        if ends.local_port == NAT_PORT:
            for octets in datagrams:
                out.append(Send(NO_ESP + octets, ends))
        else:
            for octets in datagrams:
                out.append(Send(octets, ends))
        self.said = self.now

    def jitter(self) -> float:
        """0 up to 1."""
        return int.from_bytes(self.entropy(2)) / 65536

    # --- our exchanges ---

    def submit(self, task: Task) -> bool:
        """To be begun as soon as the window lets it. False: too many wait already."""
        if self.state is State.CLOSED or len(self.queue) >= MAX_QUEUE:
            self.drop("queue full")
            task.dropped(self)
            return False
        self.queue.append(task)
        return True

    def waits(self, kind: type[Task], child: int = 0) -> bool:
        """Whether such an exchange of ours waits or is under way."""
        return any(type(t) is kind and t.child == child for t in self.queue) or self.under_way(kind, child) is not None

    def under_way(self, kind: type[Task], child: int = 0) -> Task | None:
        for pending in self.pending.values():
            if type(pending.task) is kind and pending.task.child == child:
                return pending.task
        return None

    def unqueue(self, kind: type[Task], child: int = 0) -> None:
        for task in [t for t in self.queue if type(t) is kind and t.child == child]:
            self.queue.remove(task)
            task.dropped(self)

    def pump(self) -> None:
        """Begin what may be begun now."""
        if not self.queue or self.state in {State.CLOSED, State.INIT, State.AUTH, State.HALF_OPEN, State.DECIDING}:
            return
        limit = min(self.peer_window, MAX_OWN_WINDOW)
        at = 0
        while at < len(self.queue) and len(self.pending) < limit:
            task = self.queue[at]
            if task.not_before > self.now or self._conflicts(task):
                if task.alone and task.not_before <= self.now:
                    return  # whatever is behind it would keep it waiting
                at += 1
                continue
            del self.queue[at]
            payloads = task.build(self)
            if payloads is None:
                task.dropped(self)
            else:
                self.request(task, payloads)

    def _conflicts(self, task: Task) -> bool:
        under_way = [pending.task for pending in self.pending.values()]
        if task.alone:
            return bool(under_way)
        return any(other.alone or (task.child and other.child == task.child) for other in under_way)

    def request(self, task: Task, payloads: list[Payload]) -> None:
        message_id = self.next_own
        self.next_own += 1
        datagrams = seal(self, task.exchange, message_id, payloads, response=False)
        self.trace("sealed", task.exchange, message_id, payloads, response=False)
        self.begin(task, message_id, datagrams)

    def begin(self, task: Task, message_id: int, datagrams: tuple[bytes, ...]) -> None:
        schedule = task.schedule or Schedule(self.settings.tries)
        self.pending[message_id] = Pending(
            task, message_id, datagrams, schedule, self.now + schedule.first, schedule.first
        )
        self.send(datagrams, self.ends)

    def retransmit(self) -> None:
        for pending in [p for p in self.pending.values() if p.due <= self.now]:
            if pending.sent >= pending.schedule.tries:
                del self.pending[pending.message_id]
                pending.task.dropped(self)
                pending.task.lost(self)
                if self.state is State.CLOSED:
                    return
                continue
            pending.sent += 1
            pending.interval *= pending.schedule.factor
            pending.due = self.now + pending.interval
            self.retransmissions += 1
            self.send(pending.datagrams, self.ends)

    def reply(self, exchange: int, payloads: list[Payload]) -> None:
        """Answer the peer's request that is being handled; the answer is kept until its next one."""
        assert self.answered is not None
        self.answered.datagrams = seal(self, exchange, self.answered.message_id, payloads, response=True)
        self.trace("sealed", exchange, self.answered.message_id, payloads, response=True)
        self.send(self.answered.datagrams, self.reply_to or self.ends)

    # --- where the peer is ---

    def hear(self, ends: Ends) -> None:
        """A new message that was authenticated came by `ends`."""
        self.heard = self.now
        if self.state is State.HALF_OPEN:
            self.ends = ends  # RFC 7296 2.23: the initiator may have gone to port 4500
        elif self.nat_peer and not self.nat_own:
            # RFC 7296 2.23: a host that is not behind a NAT SHOULD send to the address and port of the last valid
            # authenticated packet; one that is behind a NAT SHOULD NOT do so.
            self.follow_peer(ends.remote, ends.remote_port)

    def follow_peer(self, remote: bytes, port: int) -> None:
        ends = self.ends
        if (remote, port) == (ends.remote, ends.remote_port):
            return
        self.ends = Ends(ends.local, remote, ends.local_port, port, ends.vrf)
        if self.heir is None and self.adopted:
            # Of two IKE SAs with one peer, the one that has the CHILD_SAs says where it is.
            self.say(Moved(self.ends))
            sas.move(self)

    def successor(self, suite: IkeSuite, keys: IkeKeys, spi_i: bytes, spi_r: bytes, *, initiator: bool) -> Core:
        """An IKE SA that a rekey of this one makes: established, with the same peer, and no CHILD_SA yet."""
        terms = self.terms
        assert terms is not None
        ours, theirs = sealers(suite, keys, self.entropy)
        self.say_keys(suite, keys, spi_i, spi_r)
        new = type(self)(
            number=self.number,
            initiator=initiator,
            ends=self.ends,
            directory=self.directory,
            entropy=self.entropy,
            settings=self.settings,
            now=self.now,
            state=State.ESTABLISHED,
            spi_i=spi_i,
            spi_r=spi_r,
            since=self.now,
            established=self.now,
            terms=terms,
            peer=self.peer,
            peer_text=self.peer_text,
            certificate=self.certificate,
            barred=self.barred,
            narrower=self.narrower,
            auth_own=self.auth_own,
            auth_peer=self.auth_peer,
            suite=suite,
            keys=keys,
            seal_out=Outgoing(ours if initiator else theirs),
            seal_in=theirs if initiator else ours,
            fragmentation=self.fragmentation,
            hashes=self.hashes,
            childless=self.childless,
            nat_own=self.nat_own,
            nat_peer=self.nat_peer,
            vendor_ids=self.vendor_ids,
            heard=self.now,
            said=self.now,
        )
        new.begin_life()
        return new

    def begin_life(self) -> None:
        """It is established: its timers run."""
        terms = self.terms
        assert terms is not None
        if terms.lifetime:
            self.rekey_at = self.now + terms.lifetime * (SOFT + SPREAD * self.jitter())
            self.expires_at = self.now + terms.lifetime
        if terms.dpd is not None:
            self.dpd_at = self.now + terms.dpd.interval
        if self.nat_own and terms.nat_keepalive:
            self.keepalive_at = self.now + terms.nat_keepalive

    # --- the end ---

    def die(self, reason: str, *, retry: bool = True, peer: bool = False, silent: bool = False) -> None:
        """At once, and everything of it."""
        if self.state is State.CLOSED:
            return
        sas.remove_all(self, reason)
        for task in [*(pending.task for pending in self.pending.values()), *self.queue]:
            task.dropped(self)
        self.step(Step.END)
        heir = self.heir
        while heir is not None:
            heir.elders -= 1
            heir = heir.heir
        self.pending, self.queue = {}, []
        self.context = self.requests = self.responses = None
        self.keys = None
        self.say(Closed(reason, retry, self.established is not None, peer, silent))

    def refuse(self, reason: str) -> None:
        """We do not take the peer for who it says. RFC 7296 2.21.2: it hears AUTHENTICATION_FAILED, whatever the reason."""
        self.log("authentication refused", "warning", reason=reason)

    def release(self, spi: int) -> None:
        """An SPI that we had reserved for an inbound SA, and do not need."""
        self.say(RemoveInbound(spi))

    def child_refused(self, key: Any, reason: str) -> None:
        self.say(ChildDown(key, 0, reason, refused=True))

    def deny(self, reason: str) -> None:
        """The peer has asked for a CHILD_SA in vain."""
        self.log("CHILD_SA refused", reason=reason)
        self.say(Denied(reason))

    def busy(self) -> bool:
        """RFC 7296 2.25.2: whether a CHILD_SA is being created, rekeyed or closed by us."""
        return any(pending.task.makes for pending in self.pending.values())

    def rekeying(self) -> bool:
        """Whether our own request to rekey this IKE SA is under way."""
        return any(
            pending.task.alone and pending.task.exchange == Exchange.CREATE_CHILD_SA
            for pending in self.pending.values()
        )
