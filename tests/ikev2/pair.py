"""Two ends, joined by a network that does what the test says: keep a message back, lose it, bring it twice or late.

Each end has IKE SAs, a SAD, and a directory that says yes. After every step `Pair.check` holds the ends against each other:
whatever one end sends by, the other can receive by.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable

from attrs import define, evolve, field

from ikev2.config import AuthMethod, IkeProposal, TransformSet
from ikev2.crypto.suites import esp_proposals, ike_proposals
from ikev2.engine import contract as c
from ikev2.engine.children import LINGER
from ikev2.engine.sa import IkeSa, Settings, State
from ikev2.pki.credentials import PskCredential, Trust
from ikev2.wire import (
    Auth,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    Encrypted,
    EncryptedFragment,
    Identity,
    IdentityPayload,
    KeyExchange,
    Message,
    Nonce,
    Notify,
    NotifyKind,
    Payload,
    SecurityAssociation,
    TrafficSelectors,
    Unknown,
    VendorId,
    aad_of,
    decode,
    decode_payloads,
    name_of,
)
from stack.esp import Selector
from stack.events import SaKey
from stack.tables.sad import Sa
from tests.ikev2 import pki

A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
PSK = b"a secret that both know"
GRE = 47
KEY_A, KEY_B = SaKey("Tunnel0", b""), SaKey("Tunnel7", b"")


def host(address: bytes, protocol: int = GRE) -> tuple[Selector, ...]:
    return (Selector(address, address, protocol),)


def child_terms(key: SaKey, own: bytes, far: bytes, **more: object) -> c.ChildTerms:
    more.setdefault("proposals", esp_proposals([TransformSet("t")], esn=True))
    return c.ChildTerms(key=key, own=host(own), far=host(far), **more)  # type: ignore[arg-type]


def terms(name: str, other: str, **more: object) -> c.Terms:
    more.setdefault("credential", PskCredential(PSK))
    more.setdefault("trust", Trust(frozenset({AuthMethod.PSK}), PSK))
    return c.Terms(profile="P", local=Identity(2, name.encode()), remote=Identity(2, other.encode()), **more)  # type: ignore[arg-type]


@define(eq=False)
class Directory:
    """Says what the test has put into it."""

    ours: c.Terms
    children: c.ChildTerms
    proposals: tuple = field(factory=lambda: ike_proposals(IkeProposal("p", ("aes-gcm-256",), groups=(31,))))
    answer: object = field(factory=c.Grant)
    refusal: c.Refusal | None = None
    refuse_child: c.Refusal | None = None
    refuse_called: c.Refusal | None = None
    refuse_peer: c.Refusal | None = None
    asked: list = field(factory=list)
    reserved: set[int] = field(factory=set)
    base: int = 0x1000
    count: int = 0
    anchors: bytes = b""
    wall: float = 1.8e9

    def epoch(self) -> float:
        return self.wall

    def ike_proposals(self, ends: c.Ends) -> tuple:
        return self.proposals

    def requests(self, ends: c.Ends) -> bytes:
        return self.anchors

    def terms(self, ends, identity, certificates, hint):
        return self.refusal or self.ours

    def confirm(self, ends, terms, identity, certificate):
        return self.refuse_peer

    def authorise(self, number, request):
        self.asked.append(request)
        return self.answer

    def called(self, number, terms, identity, certificate):
        return self.refuse_called or terms

    def child(self, number, ends, own, far, mode):
        self.asked.append((own, far, mode))
        return self.refuse_child or self.children

    def esp_spi(self) -> int:
        self.count += 1
        self.reserved.add(self.base + self.count)
        return self.base + self.count

    def ike_spi(self) -> bytes:
        self.count += 1
        return (self.base << 32 | self.count).to_bytes(8)


@define(eq=False)
class Flight:
    """A datagram under way. `payloads`: what it says, opened if it was sealed (a fragment is not)."""

    to: Side
    octets: bytes
    ends: c.Ends
    """As the receiver sees them."""
    message: Message
    payloads: tuple[Payload, ...]
    fragment: int = 0

    @property
    def response(self) -> bool:
        return self.message.response

    @property
    def names(self) -> str:
        return " ".join(_name(payload) for payload in self.payloads)

    def __repr__(self) -> str:
        kind = "response" if self.response else "request"
        return f"<to {self.to.name}: {self.message.exchange} {kind} {self.message.message_id}: {self.names}>"


_NAMES = {
    SecurityAssociation: "SA",
    KeyExchange: "KE",
    Nonce: "No",
    Auth: "AUTH",
    Certificate: "CERT",
    CertificateRequest: "CERTREQ",
    VendorId: "V",
    Delete: "D",
}


def _name(payload: Payload) -> str:
    match payload:
        case Notify(kind):
            return f"N({name_of(NotifyKind, kind)})"
        case IdentityPayload():
            return "IDi" if payload.initiator else "IDr"
        case TrafficSelectors(initiator):
            return "TSi" if initiator else "TSr"
        case Configuration(kind):
            return f"CP({kind})"
        case Unknown(kind):
            return f"?{kind}"
    return _NAMES[type(payload)]


@define(eq=False)
class Side:
    name: str
    address: bytes
    directory: Directory
    settings: Settings
    pair: Pair
    seed: int
    key: SaKey
    sas: dict[bytes, IkeSa] = field(factory=dict)
    half: dict[bytes, IkeSa] = field(factory=dict)
    first: IkeSa | None = None
    current: IkeSa | None = None
    """The IKE SA that has the CHILD_SAs."""
    inbound: dict[int, Sa] = field(factory=dict)
    outbound: dict[SaKey, Sa] = field(factory=dict)
    said: list = field(factory=list)
    script: deque = field(factory=deque)
    """What `entropy(32)` gives next; None: whatever."""
    drawn: int = 0
    strangers: int = 0

    @property
    def peer(self) -> Side:
        return self.pair.b if self is self.pair.a else self.pair.a

    def entropy(self, count: int) -> bytes:
        if count == 32 and self.script:
            given = self.script.popleft()
            if given is not None:
                return given
        self.drawn += 1
        return hashlib.shake_256(f"{self.seed} {self.drawn}".encode()).digest(count)

    # --- doing ---

    def do(self, name: str, *arguments: object, sa: IkeSa | None = None, **more: object) -> None:
        """Call a method of the IKE SA that has the CHILD_SAs, and perform what it says."""
        sa = sa or self.current
        assert sa is not None
        self.perform(sa, getattr(sa, name)(*arguments, **more))

    def initiate(self, child: c.ChildTerms | None, ends: c.Ends | None = None) -> None:
        ends = ends or c.Ends(self.address, self.peer.address)
        sa, out = IkeSa.initiate(
            1, ends, self.directory, self.directory.ours, child, self.entropy, self.settings, self.pair.now
        )
        self.first = self.current = sa
        self.sas[sa.spi_own] = sa
        self.perform(sa, out)

    def rekey_child(self) -> None:
        self.do("rekey_child", self.child.number, self.pair.now)

    def perform(self, sa: IkeSa, outputs: Iterable[c.Output]) -> None:
        for output in outputs:
            self._perform(sa, output)
        self.pair.check()

    def _perform(self, sa: IkeSa, output: c.Output) -> None:
        if not isinstance(output, c.Send | c.Log):
            self.said.append(output)
        match output:
            case c.Send(octets, ends):
                self.pair.carry(self, octets, ends)
            case c.PutInbound(row):
                assert row.spi in self.directory.reserved
                self.inbound[row.spi] = row
            case c.RemoveInbound(spi):
                assert spi in self.directory.reserved, "released twice"
                self.inbound.pop(spi, None)
                self.directory.reserved.discard(spi)
            case c.PutOutbound(row):
                self.outbound[row.key] = row
            case c.RemoveOutbound(key, spi):
                if key in self.outbound and self.outbound[key].spi == spi:
                    del self.outbound[key]
            case c.Spawned(new):
                self.sas[new.spi_own] = new
            case c.Rekeyed(new):
                self.sas[new.spi_own] = new
                self.current = new
            case c.Closed():
                self.sas.pop(sa.spi_own, None)
                self.half.pop(sa.spi_i, None)
                assert sa.state is State.CLOSED
                assert not sa.children
            case _:
                pass

    def take(self, octets: bytes, ends: c.Ends) -> None:
        if octets == b"\xff":
            return
        if ends.local_port == 4500:
            assert octets[:4] == bytes(4)
            octets = octets[4:]
        message = decode(octets)
        now = self.pair.now
        if message.responder_spi == bytes(8) and not message.response:
            sa = self.half.get(message.initiator_spi)
            if sa is None:
                new, out = IkeSa.respond(1, ends, self.directory, octets, message, self.entropy, self.settings, now)
                if new is not None:
                    self.first = self.current = self.half[new.spi_i] = self.sas[new.spi_own] = new
                self.perform(new, out)  # type: ignore[arg-type]
                return
        else:
            sa = self.sas.get(message.responder_spi if message.initiator else message.initiator_spi)
        if sa is None:
            self.strangers += 1
            return
        self.perform(sa, sa.receive(octets, message, ends, now))

    # --- looking ---

    @property
    def child(self):
        """The one CHILD_SA that carries."""
        assert self.current is not None
        (found,) = [child for child in self.current.children.values() if child.carries]
        return found

    @property
    def ups(self) -> list[c.ChildUp]:
        return [o for o in self.said if isinstance(o, c.ChildUp)]

    @property
    def downs(self) -> list[c.ChildDown]:
        return [o for o in self.said if isinstance(o, c.ChildDown)]

    @property
    def closed(self) -> list[c.Closed]:
        return [o for o in self.said if isinstance(o, c.Closed)]

    def packet(self) -> bool:
        """An ESP packet to the other end. False: there was nothing to send it by."""
        row = self.outbound.get(self.key)
        if row is None:
            return False
        row.use.packets += 1
        row.use.last = self.pair.now
        there = self.peer.inbound.get(row.spi)
        if there is None:
            assert self.pair._new(self, row.spi)
            return True
        assert there.encryption == row.encryption
        there.use.packets += 1
        there.use.last = self.pair.now
        return True


@define(eq=False)
class Pair:
    """`wire`: what is under way, in order. `checking`: False where the test breaks the ends apart on purpose."""

    now: float = 1000.0
    wire: list[Flight] = field(factory=list)
    log: list[Flight] = field(factory=list)
    """All that was ever sent."""
    checking: bool = True
    nat: Callable[[c.Ends], c.Ends] | None = None
    """How B sees the ends of what A sends: a NAT in front of A."""
    a: Side = field(init=False)
    b: Side = field(init=False)

    @classmethod
    def of(
        cls,
        *,
        settings: Settings | None = None,
        a_terms: dict | None = None,
        b_terms: dict | None = None,
        a_child: dict | None = None,
        b_child: dict | None = None,
        **child: object,
    ) -> Pair:
        """Not joined yet. `child`: of ChildTerms, for both."""
        pair = cls()
        a_dir = Directory(
            terms("a.example", "b.example", **(a_terms or {})),
            child_terms(KEY_A, A, B, **{**child, **(a_child or {})}),
            base=0xA000,
        )
        b_dir = Directory(
            terms("b.example", "a.example", **(b_terms or {})),
            child_terms(KEY_B, B, A, **{**child, **(b_child or {})}),
            base=0xB000,
        )
        pair.a = Side("a", A, a_dir, settings or Settings(), pair, 1, KEY_A)
        pair.b = Side("b", B, b_dir, settings or Settings(), pair, 2, KEY_B)
        return pair

    @classmethod
    def up(cls, **more: object) -> Pair:
        """Joined, with one CHILD_SA that A has begun; all that was said so far is forgotten."""
        pair = cls.of(**more)  # type: ignore[arg-type]
        pair.a.initiate(pair.a.directory.children)
        pair.run()
        assert pair.a.first.state is State.ESTABLISHED, pair.a.said
        assert pair.b.first.state is State.ESTABLISHED
        assert len(pair.a.ups) == len(pair.b.ups) == 1
        pair.forget()
        return pair

    def forget(self) -> None:
        self.a.said.clear()
        self.b.said.clear()
        self.log.clear()

    # --- the network ---

    def carry(self, source: Side, octets: bytes, ends: c.Ends) -> None:
        seen = c.Ends(ends.remote, ends.local, ends.remote_port, ends.local_port)
        if self.nat is not None:
            seen = self.nat(seen) if source is self.a else self._back(seen)
        if octets == b"\xff":
            return
        bare = octets[4:] if ends.local_port == 4500 else octets
        message = decode(bare)
        last = message.payloads[-1] if message.payloads else None
        payloads, number = message.payloads, 0
        if isinstance(last, Encrypted):
            payloads = _opened(source, bare, message, last)
        elif isinstance(last, EncryptedFragment):
            payloads, number = (), last.number
        flight = Flight(source.peer, octets, seen, message, payloads, number)
        self.wire.append(flight)
        self.log.append(flight)

    def _back(self, seen: c.Ends) -> c.Ends:
        """To A, whatever outside address B sent to."""
        return evolve(seen, local=A, local_port=500 if seen.remote_port == 500 else 4500)

    def next(self, to: Side | None = None) -> Flight:
        """Take a message off the wire: the first one, or the first one to `to`."""
        flight = next(f for f in self.wire if to is None or f.to is to)
        self.wire.remove(flight)
        return flight

    def deliver(self, flight: Flight | None = None) -> Flight:
        """Bring a message that was kept back, or the first one that is under way."""
        if flight is None:
            flight = self.wire.pop(0)
        elif flight in self.wire:
            self.wire.remove(flight)
        flight.to.take(flight.octets, flight.ends)
        return flight

    def run(self) -> None:
        """Until nothing is under way."""
        for _ in range(500):
            if not self.wire:
                self._ready()
                if not self.wire:
                    return
            self.deliver()
        raise AssertionError("the two do not come to rest")

    def _ready(self) -> None:
        """What a successor has inherited is begun when its speaker wakes it."""
        for side in (self.a, self.b):
            for sa in list(side.sas.values()):
                due = sa.deadline()
                if due is not None and due <= self.now and sa.queue:
                    side.perform(sa, sa.wake(self.now))

    def advance(self, seconds: float, *, run: bool = True) -> None:
        """Time passes; each end is woken when it wants to be. `run` False: what they send stays on the wire."""
        end = self.now + seconds
        for _ in range(20_000):
            due = [
                (when, side, sa)
                for side in (self.a, self.b)
                for sa in side.sas.values()
                if (when := sa.deadline()) is not None and when <= end
            ]
            if not due:
                self.now = end
                return
            when, side, sa = min(due, key=lambda one: one[0])
            self.now = max(self.now, when)
            side.perform(sa, sa.wake(self.now))
            if run:
                self.run()
        raise AssertionError("woken again and again")

    # --- what must hold ---

    def check(self) -> None:
        """Whatever one end sends by, the other can receive by, with the same key."""
        if not self.checking:
            return
        for side in (self.a, self.b):
            for key, row in side.outbound.items():
                there = side.peer.inbound.get(row.spi)
                if there is None:
                    # A new CHILD_SA, no rekey: its responder cannot know when the initiator has the answer.
                    assert self._new(side, row.spi), (
                        f"{side.name} sends {key} by {row.spi:#x}, which the other end cannot receive"
                    )
                else:
                    assert there.encryption == row.encryption, "the two ends have different keys"
                    assert there.salt == row.salt

    def _new(self, side: Side, spi: int) -> bool:
        made = [child for sa in side.sas.values() for child in sa.children.values() if child.outbound.spi == spi]
        return any(not child.ours and not child.replaces for child in made)

    def one_pair(self) -> None:
        """At rest: each end has one CHILD_SA, the other half of the other's; one IKE SA; nothing is left over."""
        for side in (self.a, self.b):
            assert len(side.sas) == 1, side.sas
            (sa,) = side.sas.values()
            assert sa is side.current
            assert sa.state is State.ESTABLISHED
            assert not sa.pending
            assert not sa.queue
            assert not sa.lingering
            assert len(sa.children) == 1, sa.children
            assert set(side.inbound) == set(sa.children) == side.directory.reserved
            assert set(side.outbound) == {side.key}
            assert side.outbound[side.key] is side.child.outbound
        assert self.a.outbound[KEY_A].spi in self.b.inbound
        assert self.b.outbound[KEY_B].spi in self.a.inbound
        assert self.a.current.spi_i == self.b.current.spi_i
        assert self.a.current.spi_r == self.b.current.spi_r
        assert self.a.packet()
        assert self.b.packet()

    def nothing_left(self) -> None:
        for side in (self.a, self.b):
            assert not side.sas, side.sas
            assert not side.inbound
            assert not side.outbound
            assert not side.directory.reserved


def _opened(source: Side, octets: bytes, message: Message, last: Encrypted) -> tuple[Payload, ...]:
    """By the sender's own key: it is the same both ways."""
    for sa in [*source.sas.values(), source.first, source.current]:
        if sa is not None and (sa.spi_i, sa.spi_r) == (message.initiator_spi, message.responder_spi):
            plain = sa.seal_out.seal.__self__.open(aad_of(octets, last), last.octets)
            return decode_payloads(last.first, plain)
    # Said on behalf of a successor that is only being announced.
    return ()


def with_certificates(spoke: pki.Leaf, hub: pki.Leaf) -> Pair:
    """Not joined yet: A is the spoke R3, B the hub R1."""
    trust = pki.trust()
    pair = Pair.of(
        a_terms={"credential": spoke.credential(), "trust": trust},
        b_terms={"credential": hub.credential(), "trust": trust},
    )
    a, b = Identity(2, b"R3-spoke.cisco.com"), Identity(2, b"R1-hub.cisco.com")
    pair.a.directory.ours = evolve(pair.a.directory.ours, local=a, remote=b)
    pair.b.directory.ours = evolve(pair.b.directory.ours, local=b, remote=a)
    pair.b.directory.anchors = trust.requests()
    pair.a.directory.wall = pair.b.directory.wall = pki.NOW - pair.now
    return pair


REKEY = "N(REKEY_SA) N(USE_TRANSPORT_MODE) SA No TSi TSr"
REKEYED = "N(USE_TRANSPORT_MODE) SA No TSi TSr"
PFS = "N(REKEY_SA) N(USE_TRANSPORT_MODE) SA No KE TSi TSr"
LOW, HIGH = bytes(32), b"\xff" * 32
MID, MID2 = b"\x55" * 32, b"\xaa" * 32


def step(pair: Pair, names: str | None = None, *, to: Side | None = None) -> Flight:
    """Deliver the first message (to `to`); it must say `names`."""
    flight = pair.next(to)
    if names is not None:
        assert flight.names == names, flight
    return pair.deliver(flight)


def hold(pair: Pair, names: str | None = None, *, to: Side | None = None) -> Flight:
    """Keep the first message (to `to`) back; it must say `names`."""
    flight = pair.next(to)
    if names is not None:
        assert flight.names == names, flight
    return flight


def proposals(*sets: TransformSet, pfs: int | None = None) -> tuple:
    return esp_proposals(sets or (TransformSet("t"),), esn=True, pfs_group=pfs)


def settle(pair: Pair) -> None:
    pair.run()
    pair.advance(LINGER + 1)
    pair.one_pair()


def rows(side: Side) -> tuple[set[int], set[int]]:
    """SPIs: what is received by, what is sent by."""
    return set(side.inbound), {row.spi for row in side.outbound.values()}
