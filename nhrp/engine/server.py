"""Registrations, as the server (NHS) sees them (RFC 2332 5.2.3, 5.2.4).

client                                   server
  | Registration Request                   |
  |   bare CIE: holding time, U            |  identity, unique, room
  |--------------------------------------->|  overlay -> outer source
  | Registration Reply, same addresses     |
  |<---------------------------------------|  straight back, whatever the packet says of itself
"""

from __future__ import annotations

from attrs import define, evolve, field

from nhrp.engine import nat
from nhrp.engine.bindings import Bindings, Source
from nhrp.engine.gate import Gate, is_unicast
from nhrp.engine.node import Arrival, Node, afi_of
from nhrp.engine.snapshot import BindingKind, BindingSnapshot
from nhrp.engine.ways import elsewhere
from nhrp.wire.packet import Cie, CieCode, ErrorCode, ExtensionKind, Flag, Kind, Packet
from stack.addr import Prefix
from stack.values import value

__all__ = ["MOST_CIES", "MOST_REFUSED", "Server"]

MOST_CIES = 32
"""Entries of one registration; those on top are refused with code 5."""

MOST_REFUSED = 64
"""Refused registrations that `show` remembers: the last ones, of each address once."""

REFUSED_TIME = 300.0
"""Seconds for which it does."""


@value
class _Refused:
    interface: str
    vrf: str
    address: bytes
    nbma: bytes
    claimed: bytes
    reason: str
    since: float


@define(eq=False)
class Server:
    node: Node
    gate: Gate
    bindings: Bindings
    _refused: dict[tuple[str, bytes, bytes], _Refused] = field(factory=dict)
    """(interface, overlay, NBMA) -> why; the oldest first."""

    def received(self, arrival: Arrival) -> None:
        """A Registration Request. It is answered or refused; one for another server is never passed on."""
        if not self.gate.understood(arrival) or not self._for_us(arrival):
            return
        packet = arrival.packet
        if not packet.cies:
            self.gate.refuse(arrival, ErrorCode.PROTOCOL_ERROR, "registration without an entry")
            return
        answers = tuple(self._answer(arrival, number, cie) for number, cie in enumerate(packet.cies))
        self._reply(arrival, answers)

    def _for_us(self, arrival: Arrival) -> bool:
        """Sent to an address of ours in that network, or to the sender's own (which asks us for ours), and by nobody else."""
        node, packet = self.node, arrival.packet
        passed = packet.extension(ExtensionKind.FORWARD_TRANSIT)
        if passed is not None and passed.octets:
            self.gate.refuse(arrival, ErrorCode.PROTOCOL_ERROR, "registration passed on by another server")
            return False
        if packet.destination == packet.source:
            return True
        network, vrf = arrival.network, arrival.interface.vrf
        names = node.interfaces.own(vrf, packet.destination)
        if any(node.network(name) == network for name in names):
            return True
        self.gate.refuse(arrival, ErrorCode.UNREACHABLE, "registration for another server", 0)
        return False

    # --- one entry --------------------------------------------------------------------------------------------------------

    def _answer(self, arrival: Arrival, number: int, cie: Cie) -> Cie:
        """The same entry, with what became of it. RFC 2332 5.2.0.1: the holding time of what is refused is 0."""
        code, reason = self._judge(arrival, number, cie)
        if code == CieCode.OK:
            self.node.count("registrations taken")
            return evolve(cie, code=0)
        self._refuse(arrival, cie, reason)
        return evolve(cie, code=int(code), holding_time=0)

    def _judge(self, arrival: Arrival, number: int, cie: Cie) -> tuple[CieCode, str]:
        node, packet, name = self.node, arrival.packet, arrival.name
        address = cie.protocol or packet.source
        unique = bool(packet.flags & Flag.UNIQUE_REGISTRATION)
        if number >= MOST_CIES:
            return CieCode.INSUFFICIENT_RESOURCES, "too many entries in one registration"
        if cie.prefix_length not in (0, 255, len(address) * 8):
            # RFC 2332 5.2.3: with U set "the prefix length MUST be 0xFF"; and nobody registers a network here.
            return (CieCode.PROHIBITED if unique else CieCode.NOT_UNIQUE), "registration of a network"
        if not cie.holding_time:
            return CieCode.PROHIBITED, "registration with holding time 0"
        if not is_unicast(address) or node.is_own(arrival.interface.vrf, address):
            return CieCode.PROHIBITED, "registration of an address of ours"
        if not self.gate.speaks_for(arrival, address):
            return CieCode.PROHIBITED, "registration of an address that is assigned to another"
        if node.tunnels.is_end(arrival.interface.vrf, address):
            return CieCode.PROHIBITED, "registration of an NBMA address"
        if self._elsewhere(arrival, address):
            return CieCode.PROHIBITED, "registration of an address that is elsewhere"
        outer = arrival.fact.outer_source
        code = self.bindings.register(
            name,
            address,
            arrival.tunnel.remote or outer,
            cie.holding_time,
            claimed=cie.nbma or packet.source_nbma,
            unique=unique,
            bound=self.gate.is_bound(arrival, address),
            mtu=cie.mtu,
        )
        return code, _REASONS.get(code, "registration")

    def _elsewhere(self, arrival: Arrival, address: bytes) -> bool:
        """Whether a new address belongs to a network that is elsewhere: a host route would draw its traffic."""
        known = self.bindings.on(arrival.name, address) is not None or self.gate.is_bound(arrival, address)
        return not known and elsewhere(self.node, arrival.interface.vrf, arrival.network, address)

    def _refuse(self, arrival: Arrival, cie: Cie, reason: str) -> None:
        packet = arrival.packet
        self.gate.count(arrival, reason)
        address, nbma = cie.protocol or packet.source, arrival.fact.outer_source
        key = arrival.name, address, nbma
        self._refused.pop(key, None)
        vrf, claimed = arrival.interface.vrf, cie.nbma or packet.source_nbma
        self._refused[key] = _Refused(arrival.name, vrf, address, nbma, claimed, reason, self.node.now)
        if len(self._refused) > MOST_REFUSED:
            del self._refused[next(iter(self._refused))]

    # --- the reply --------------------------------------------------------------------------------------------------------

    def _reply(self, arrival: Arrival, cies: tuple[Cie, ...]) -> None:
        """RFC 2332 5.2.4: the reply has the request's addresses and id; Dst proto is ours, which who asked by its own address
        wants to hear."""
        packet, outer = arrival.packet, arrival.fact.outer_source
        own = packet.destination
        if own == packet.source:
            own = self.node.own(arrival.name, afi_of(packet.source))
            if not own:
                self.gate.count(arrival, "registration where we have no address")
                return
        asked = nat.nat_cies(packet)
        seen = nat.registration_reply(asked, packet, outer) if asked is not None else None
        reply = Packet(
            Kind.REGISTRATION_REPLY,
            packet.source_nbma,
            packet.source,
            own,
            packet.request_id,
            packet.flags,
            cies,
            self.gate.reply_extensions(arrival, nat=seen),
            source_subaddress=packet.source_subaddress,
        )
        self.gate.send(arrival.name, outer, reply)

    # --- for show -----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[BindingSnapshot, ...]:
        """Registrations that were refused, and not taken since."""
        return tuple(self._shown(one) for one in self._refused.values() if self._is_news(one))

    def _is_news(self, one: _Refused) -> bool:
        entry = self.bindings.on(one.interface, one.address)
        taken = entry is not None and entry.source is Source.REGISTERED and entry.is_of(one.nbma, one.claimed)
        return not taken and self.node.now - one.since < REFUSED_TIME

    def _shown(self, one: _Refused) -> BindingSnapshot:
        return BindingSnapshot(
            one.interface,
            one.vrf,
            Prefix.host(one.address),
            BindingKind.NEGATIVE,
            one.address,
            one.nbma,
            one.claimed if one.claimed != one.nbma else b"",
            one.since,
            one.since + REFUSED_TIME,
            reason=one.reason,
        )


_REASONS = {
    CieCode.PROHIBITED: "registration of an address that is mapped elsewhere",
    CieCode.INSUFFICIENT_RESOURCES: "registration, and the table is full",
    CieCode.UNIQUE_ALREADY_REGISTERED: "registration of an address that is unique and registered",
}
