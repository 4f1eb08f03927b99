"""Registrations, as the client (NHC) sees them.

Servers of one interface, family and cluster are in ranks by priority. Those of the best rank are asked; when none of a rank
answers, the next one is asked as well, while the better one goes on being tried; when one of that answers, the lower ranks are
let go.

    client                                        server
      | Registration Request, id 7                  |
      |------------------------------- x            |   1, 2, 4 ... 64 s, then from 1 again
      | Registration Request, id 7                  |
      |-------------------------------------------->|
      | Registration Reply, id 7, code 0            |
      |<--------------------------------------------|   NhsUp
      |        a third of the holding time          |
      | Registration Request, id 8                  |
      |-------------------------------------------->|
      | Purge Request (stop, or the line has gone)  |
      |-------------------------------------------->|
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import define, field

from nhrp.config import NhrpFamily, Nhs
from nhrp.engine import nat
from nhrp.engine.bindings import Bindings
from nhrp.engine.gate import Gate, is_unicast
from nhrp.engine.node import Arrival, Node
from nhrp.engine.snapshot import NhsSnapshot
from nhrp.events import NhsDown, NhsUp
from nhrp.wire import WireError, cies_of
from nhrp.wire.packet import Cie, CieCode, ErrorCode, ExtensionKind, Flag, Kind, Packet
from stack.addr import Afi, Prefix, format_address
from stack.events import Fact

__all__ = ["FAILED_AFTER", "MOST_RETRY", "TIMER", "Client"]

TIMER = "register"
"""First word of the timers' keys: (TIMER, number)."""

MOST_RETRY = 64.0
"""Seconds between two tries, at most; then it begins again at 1."""

HURRY = 0.2
"""Seconds for which the answer to the last request is waited for when the tunnel has come up meanwhile: it may have left."""

FAILED_AFTER = 3
"""Requests without an answer (7 s), after which a server is down."""

_REFUSALS = {
    CieCode.PROHIBITED: "administratively prohibited",
    CieCode.INSUFFICIENT_RESOURCES: "insufficient resources",
    CieCode.NO_BINDING: "no binding",
    CieCode.NOT_UNIQUE: "binding is not unique",
    CieCode.UNIQUE_ALREADY_REGISTERED: "unique address already registered",
}


@define(eq=False)
class _Registration:
    """With one server. `own`, `own_nbma`, `said`: as it was asked, or is registered. `request_id` 0: nothing is waited for.
    `answered`: the id of the last reply; `asked`: when the last request left."""

    number: int
    interface: str
    afi: Afi
    nhs: Nhs
    address: bytes
    nbma: bytes = b""
    active: bool = False
    registered: bool = False
    own: bytes = b""
    own_nbma: bytes = b""
    said: tuple[int, int, bool, str] | None = field(default=None, repr=False)
    public: bytes = b""
    request_id: int = 0
    answered: int = 0
    asked: float = 0.0
    tries: int = 0
    delay: float = 0.0
    requests: int = 0
    replies: int = 0
    last_reply: float | None = None
    next_request: float | None = None
    reason: str = ""

    @property
    def failed(self) -> bool:
        return not self.registered and (self.tries >= FAILED_AFTER or bool(self.reason))


_Line = tuple[str, Afi, Nhs]


@define(eq=False)
class Client:
    node: Node
    gate: Gate
    bindings: Bindings
    _lines: dict[_Line, _Registration] = field(factory=dict)
    _numbers: dict[int, _Registration] = field(factory=dict)
    _on: dict[tuple[str, Afi], dict[int, _Registration]] = field(factory=dict)
    _pending: dict[int, _Registration] = field(factory=dict)
    """Request id -> the registration that it belongs to."""

    # --- what changed -----------------------------------------------------------------------------------------------------

    def interface_changed(self, name: str) -> None:
        """InterfaceState or TunnelState of `name`: another address of ours is registered at once, and the old one purged."""
        if self.node.stopping:
            return
        wanted = {(name, afi, nhs): None for afi, nhs in self._wanted(name)}
        for afi in Afi:
            for one in list(self._on.get((name, afi), {}).values()):
                if (name, afi, one.nhs) not in wanted:
                    self._end(one, self._why_not(name))
        for line in wanted:
            if line not in self._lines:
                self._begin(line)
        for afi in Afi:
            self._settle(name, afi)

    def _wanted(self, name: str) -> Iterable[tuple[Afi, Nhs]]:
        """The servers to register with: where we have an interface that is up, its own end, and an address on it."""
        node = self.node
        interface, tunnel = node.interfaces.get(name), node.tunnels.get(name)
        if interface is None or not interface.row.network_id or tunnel is None or not interface.up:
            return
        for afi, family in node.nhrp(name).families.items():
            if family.nhs and node.own(name, afi):
                for nhs in family.nhs:
                    yield afi, nhs

    def _why_not(self, name: str) -> str:
        interface = self.node.interfaces.get(name)
        if interface is None or not interface.up:
            return "interface is down"
        if name not in self.node.tunnels:
            return "tunnel has no source"
        own = any(self.node.own(name, afi) for afi in Afi)
        return "no longer configured" if own and interface.row.network_id else "our own address or network has gone"

    def adjacency_changed(self, name: str) -> None:
        """A neighbour on that interface can be sent to now: who waits tries at once, and does not wait out its time."""
        for afi in Afi:
            for one in list(self._on.get((name, afi), {}).values()):
                if one.active and not one.registered and one.request_id:
                    one.delay = 0.0
                    if self.node.now - one.asked >= HURRY:
                        self._ask(one)
                    else:
                        self._at(one, one.asked + HURRY)

    def reconfigured(self) -> None:
        for name in list(dict.fromkeys((*self.node.interfaces, *(interface for interface, _ in self._on)))):
            self.interface_changed(name)

    def _begin(self, line: _Line) -> None:
        name, afi, nhs = line
        one = _Registration(self.node.claimant(), name, afi, nhs, nhs.address)
        self._lines[line] = self._numbers[one.number] = one
        self._on.setdefault((name, afi), {})[one.number] = one

    def _end(self, one: _Registration, reason: str) -> None:
        self._let_go(one, reason)
        if not one.nhs.address and one.address:
            self.bindings.serve(one.interface, one.address, None)
        del self._lines[one.interface, one.afi, one.nhs]
        del self._numbers[one.number]
        members = self._on[one.interface, one.afi]
        del members[one.number]
        if not members:
            del self._on[one.interface, one.afi]

    # --- ranks --------------------------------------------------------------------------------------------------------------

    def _ranks(self, name: str, afi: Afi) -> list[tuple[int, list[_Registration]]]:
        """(cluster, those of one priority), the best first; each cluster chooses by itself."""
        ranks: dict[tuple[int, int], list[_Registration]] = {}
        for one in self._on.get((name, afi), {}).values():
            ranks.setdefault((one.nhs.priority, one.nhs.cluster), []).append(one)
        return [(cluster, ranks[priority, cluster]) for priority, cluster in sorted(ranks)]

    def _settle(self, name: str, afi: Afi) -> None:
        """Asks those that are to be asked, and lets the others go. A lower rank stands until the better one is registered."""
        served: set[int] = set()
        for cluster, rank in self._ranks(name, afi):
            wanted = cluster not in served
            for one in rank:
                if wanted and not one.active:
                    one.active = True
                elif not wanted and one.active:
                    self._let_go(one, "a better server answers")
                if one.active:
                    self._keep(one)
            if not all(one.failed for one in rank):
                served.add(cluster)

    def _keep(self, one: _Registration) -> None:
        """Registered under what we are called now, or asked for it."""
        node = self.node
        own, own_nbma, nbma = node.own(one.interface, one.afi), node.nbma(one.interface), self._nbma_of(one)
        same = (own, own_nbma, nbma, _said(self._family(one))) == (one.own, one.own_nbma, one.nbma, one.said)
        if same and (one.request_id or one.next_request is not None):
            return
        if one.registered and (own != one.own or nbma != one.nbma):
            self._purge(one)
            self._down(one, "our own address has changed" if own != one.own else "its NBMA address has changed")
        self._forget(one)
        one.tries, one.delay, one.reason = 0, 0.0, ""
        one.nbma = nbma
        if nbma:
            self._ask(one)
        else:
            one.reason = "its NBMA address is not known"

    def _nbma_of(self, one: _Registration) -> bytes:
        tunnel = self.node.tunnels.get(one.interface)
        if tunnel is not None and tunnel.remote:
            return tunnel.remote
        maps = self.node.family(one.interface, one.afi).maps
        return one.nhs.nbma or next((row.nbma for row in maps if row.address == one.nhs.address), b"")

    def _let_go(self, one: _Registration, reason: str) -> None:
        """It is asked no more; if it has us registered, it is told to forget that."""
        if one.registered:
            self._purge(one)
            self._down(one, reason)
        self._forget(one)
        one.active, one.tries, one.delay, one.reason, one.public = False, 0, 0.0, "", b""

    def _forget(self, one: _Registration) -> None:
        self._pending.pop(one.request_id, None)
        one.request_id = 0
        one.next_request = None
        self.node.timers.set((TIMER, one.number), None)

    def _down(self, one: _Registration, reason: str) -> None:
        one.registered = False
        self._post(one, NhsDown(one.interface, one.address, one.nbma, reason))
        self.node.log(
            "nhrp.nhs-down", "warning", interface=one.interface, address=format_address(one.address), reason=reason
        )

    def _post(self, one: _Registration, fact: Fact) -> None:
        if one.address:
            self.node.post(fact)

    # --- requests -----------------------------------------------------------------------------------------------------------

    def _ask(self, one: _Registration) -> None:
        """A request, and the time of the next. RFC 2332 5.2.0.1: what is sent again has the same id."""
        node = self.node
        if not one.request_id:
            one.request_id = node.request_id()
            self._pending[one.request_id] = one
        one.own, one.own_nbma = node.own(one.interface, one.afi), node.nbma(one.interface)
        one.said = _said(self._family(one))
        one.requests += 1
        one.asked = node.now
        one.delay = one.delay * 2 if 0 < one.delay < MOST_RETRY else 1.0
        self._at(one, node.now + one.delay)
        self.gate.send(one.interface, one.nbma, self._request(one))

    def _request(self, one: _Registration) -> Packet:
        family = self._family(one)
        bits = len(one.own) * 8
        # RFC 2332 5.2.3: with U set "the prefix length of the CIE MUST be 0xFF"; alone it says the same.
        cie = Cie(prefix_length=0xFF, holding_time=family.holding_time)
        server = Cie(
            prefix_length=bits, nbma=_fitting(one.nbma, one.own_nbma), protocol=one.address or bytes(bits // 8)
        )
        flags = Flag.NAT | (Flag.UNIQUE_REGISTRATION if family.unique else 0)
        # Who does not know what the server is called asks it by our own address, and reads the answer's Dst proto.
        return Packet(
            Kind.REGISTRATION_REQUEST,
            one.own_nbma,
            one.own,
            one.address or one.own,
            one.request_id,
            flags,
            (cie,),
            self.gate.request_extensions(nat=(server,)),
            hop_count=1,
        )

    def _family(self, one: _Registration) -> NhrpFamily:
        return self.node.family(one.interface, one.afi)

    def _at(self, one: _Registration, when: float) -> None:
        one.next_request = when
        self.node.timers.set((TIMER, one.number), when)

    def due(self, key: tuple[Any, ...]) -> None:
        """The time of a refresh, or of the next try, has come."""
        one = self._numbers.get(key[1])
        if one is None or not one.active:
            return
        if one.request_id:
            one.tries += 1
            if one.tries == FAILED_AFTER:
                if one.registered:
                    self._down(one, "no reply")
                one.reason = one.reason or "no reply"
        elif one.registered:
            one.tries, one.delay = 0, 0.0
        self._ask(one)
        if one.failed:
            self._settle(one.interface, one.afi)

    # --- answers --------------------------------------------------------------------------------------------------------------

    def received(self, arrival: Arrival) -> None:
        """A Registration Reply. It counts if it has the id of a request that waits, and comes from where that was sent."""
        packet = arrival.packet
        one = self._pending.get(packet.request_id)
        if one is None or packet.source != one.own or arrival.name != one.interface or not one.request_id:
            if any(packet.request_id == old.answered for old in self._on.get((arrival.name, arrival.afi), {}).values()):
                self.node.count("registration replies repeated")
                return
            self.gate.count(arrival, "registration reply that was not asked for")
            return
        if not arrival.tunnel.remote and arrival.fact.outer_source != one.nbma:
            self.gate.count(arrival, "registration reply from elsewhere")
            return
        one.replies += 1
        one.last_reply = self.node.now
        one.answered = packet.request_id
        self._forget(one)
        one.tries, one.delay = 0, 0.0
        code = next((cie.code for cie in packet.cies if cie.code), 0) if packet.cies else int(CieCode.NO_BINDING)
        if code:
            self._refused(one, code)
        else:
            self._accepted(one, arrival)
        self._settle(one.interface, one.afi)

    def _accepted(self, one: _Registration, arrival: Arrival) -> None:
        node, family = self.node, self._family(one)
        one.reason, one.public = "", nat.public_of(arrival.packet)
        if not one.nhs.address:
            self._named(one, _name_of(arrival.packet, one.own))
        refresh = family.registration_timeout or family.holding_time / 3
        self._at(one, node.now + max(1.0, refresh))
        if not one.registered:
            one.registered = True
            self._post(one, NhsUp(one.interface, one.address, one.nbma))
            node.log(
                "nhrp.nhs-up",
                interface=one.interface,
                address=format_address(one.address),
                nbma=format_address(one.nbma),
                public=format_address(one.public) if one.public else "",
            )

    def _named(self, one: _Registration, address: bytes) -> None:
        """A server that is asked by our own address has said what its own is."""
        if one.address and one.address != address:
            self.bindings.serve(one.interface, one.address, None)
        one.address = address
        if address:
            self.bindings.serve(one.interface, address, one.nbma)

    def _refused(self, one: _Registration, code: int) -> None:
        """Asked again, but not soon: what the server holds against us ends with a holding time or an operator."""
        known = code in CieCode.__members__.values()
        one.reason = _REFUSALS.get(CieCode(code), f"code {code}") if known else f"code {code}"
        self.node.count(f"registrations refused by a server: {one.reason if known else 'unknown code'}")
        if one.registered:
            self._down(one, one.reason)
        else:
            self.node.log(
                "nhrp.registration-refused",
                "warning",
                interface=one.interface,
                address=format_address(one.address),
                reason=one.reason,
            )
        family = self._family(one)
        self._at(one, self.node.now + min(MOST_RETRY, max(1.0, family.registration_timeout or family.holding_time / 3)))

    def error(self, arrival: Arrival) -> None:
        """An Error Indication for us: if it is about a request of ours that waits, its reason is shown. It ends nothing, since
        it proves nothing."""
        packet = arrival.packet
        body = packet.body
        if len(body) < 28 or body[17] != Kind.REGISTRATION_REQUEST:
            return
        one = self._pending.get(int.from_bytes(body[24:28]))
        if one is not None and one.interface == arrival.name and packet.destination == one.own and not one.registered:
            known = packet.code in ErrorCode.__members__.values()
            one.reason = ErrorCode(packet.code).name.lower().replace("_", " ") if known else f"error {packet.code}"
            self._settle(one.interface, one.afi)

    def purged(self, arrival: Arrival, prefix: Prefix) -> bool:
        """A server of ours forgets an address of ours: it is registered again at once. False: it is not about us."""
        found = False
        for one in list(self._on.get((arrival.name, prefix.afi), {}).values()):
            if one.registered and prefix.covers(one.own) and self._is_from(arrival, one):
                found = True
                if not one.request_id:
                    one.tries, one.delay = 0, 0.0
                    self._ask(one)
        return found

    def _is_from(self, arrival: Arrival, one: _Registration) -> bool:
        return bool(arrival.tunnel.remote) or arrival.fact.outer_source == one.nbma

    # --- leaving ----------------------------------------------------------------------------------------------------------

    def _purge(self, one: _Registration) -> None:
        """RFC 2332 5.2.5: who has registered may purge it. No reply is wanted: we do not wait, and the entry ends by itself."""
        if not one.own or not one.address:
            return
        cie = Cie(prefix_length=len(one.own) * 8, nbma=one.own_nbma, protocol=one.own)
        packet = Packet(
            Kind.PURGE_REQUEST,
            one.own_nbma,
            one.own,
            one.address,
            self.node.request_id(),
            Flag.NO_REPLY,
            (cie,),
            self.gate.request_extensions(nat=None),
        )
        self.gate.send(one.interface, one.nbma, packet)

    def stop(self) -> None:
        for one in list(self._numbers.values()):
            self._let_go(one, "stopped")

    # --- questions ----------------------------------------------------------------------------------------------------------

    def is_server(self, interface: str, nbma: bytes) -> bool:
        """Whether a server of ours is there."""
        return any(one.nbma == nbma for afi in Afi for one in self._on.get((interface, afi), {}).values() if one.active)

    def public_nbma(self, interface: str, afi: Afi) -> bytes:
        """Our own NBMA address as a server sees it; empty: there is no NAT, as far as is known."""
        rows = self._on.get((interface, afi), {}).values()
        return next((one.public for one in rows if one.registered and one.public), b"")

    def servers(self, interface: str, afi: Afi) -> tuple[tuple[bytes, bytes], ...]:
        """(overlay, NBMA address) of those that we are registered with, the best first."""
        return tuple(
            (one.address, one.nbma)
            for _, rank in self._ranks(interface, afi)
            for one in rank
            if one.registered and one.address
        )

    def snapshot(self) -> tuple[NhsSnapshot, ...]:
        return tuple(
            NhsSnapshot(
                one.interface,
                one.address,
                one.nbma or one.nhs.nbma,
                one.nhs.priority,
                "RE" if one.registered else "E" if one.active else "W",
                one.requests,
                one.replies,
                one.last_reply,
                one.next_request,
                one.reason,
                one.nhs.cluster,
            )
            for one in self._lines.values()
        )


def _name_of(reply: Packet, own: bytes) -> bytes:
    """What the server calls itself: Dst proto, or the responder address if it has left that as we sent it."""
    names = [reply.destination]
    responder = reply.extension(ExtensionKind.RESPONDER_ADDRESS)
    if responder is not None:
        try:
            names += [cie.protocol for cie in cies_of(responder, reply)]
        except WireError:
            pass
    return next((name for name in names if name != own and is_unicast(name)), b"")


def _said(family: NhrpFamily) -> tuple[int, int, bool, str]:
    """What of the configuration a registration tells, or is timed by: it is told again when it changes."""
    return family.holding_time, family.registration_timeout, family.unique, family.authentication


def _fitting(nbma: bytes, like: bytes) -> bytes:
    """A CIE has NBMA addresses of the packet's family only."""
    return nbma if len(nbma) == len(like) else b""
