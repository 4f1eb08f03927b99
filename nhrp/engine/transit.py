"""What others ask, on its way: which VRF it is about, who is next, and whether we are the ones to answer.

    request, context label of ours --> LFIB: the VRF --> its RIB: next hop and that node's own label --> request, that label

RFC 2332 has requests follow the routed path (5.2, "forwarded towards the destination"), hop by hop, each server adding itself.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import define, evolve

from nhrp.engine.bindings import Binding, Bindings
from nhrp.engine.gate import Gate
from nhrp.engine.nat import fill, nat_cies
from nhrp.engine.node import Arrival, Node
from nhrp.engine.requester import mpls_said
from nhrp.engine.ways import Way, Ways, Where
from nhrp.wire import cie_extension
from nhrp.wire.mpls import ContextLabel, MplsBinding, Role, mpls_extension, mpls_of
from nhrp.wire.packet import Cie, CieCode, ErrorCode, Extension, ExtensionKind, Flag, Kind, Packet
from stack.addr import Fec
from stack.events import SCOPE_MGRE, SCOPE_PROTECTED
from stack.values import value
from stack.wire import WireError

__all__ = ["Question", "Transit", "scope_of"]


def scope_of(node: Node, interface: str) -> str:
    """By which kind of ingress labels come in by a tunnel."""
    row = node.interfaces.get(interface)
    return SCOPE_PROTECTED if row is not None and row.row.protection else SCOPE_MGRE


@value
class Question:
    """A resolution request that we are to answer: about `vrf`, whose `way` leaves the network. `labelled`: a label is wanted;
    `fec`: what the label that it named stands for."""

    arrival: Arrival
    vrf: str
    way: Way
    labelled: bool
    fec: Fec | None


class _Context(NamedTuple):
    """The VRF that a request is about. `label` None: the interface's own; `way`: the label alone says where its packets go, and
    no VRF of ours is known; `fault`: it cannot be known."""

    vrf: str
    label: ContextLabel | None = None
    fec: Fec | None = None
    fault: str = ""
    way: Way | None = None


@define(eq=False)
class Transit:
    node: Node
    gate: Gate
    ways: Ways
    bindings: Bindings

    # --- requests -----------------------------------------------------------------------------------------------------------

    def request(self, arrival: Arrival) -> Question | None:
        """RESOLUTION_REQUEST: what we are to answer; None: it has been passed on, or refused."""
        if self.node.stopping:
            return None
        if not arrival.packet.cies:
            self.gate.refuse(arrival, ErrorCode.PROTOCOL_ERROR, "request without an entry")
            return None
        if fault := self._first_hop(arrival):
            self.nak(arrival, CieCode.PROHIBITED, fault)
            return None
        context = self._context(arrival)
        if context.fault:
            self.nak(arrival, CieCode.PROHIBITED, context.fault)
            return None
        way = context.way or self.ways.find(context.vrf, arrival.packet.destination)
        if way.where is Where.NONE:
            self.nak(arrival, CieCode.NO_BINDING, "no route")
        elif way.within(self.node.network(arrival.name)):
            self._pass_on(arrival, way, context)
        elif context.way is not None:
            self.nak(arrival, CieCode.PROHIBITED, "context label that leads out of the network")
        elif self.gate.understood(arrival):
            return Question(arrival, context.vrf, way, context.label is not None, context.fec)
        return None

    def _first_hop(self, arrival: Arrival) -> str:
        """Why a request is not believed to be from whom it says (N05). A peer whose addresses IKEv2 has assigned asks for
        itself alone, from where its SA says it is; and nobody asks in its name, be it passed on or not: we would hear it from
        itself."""
        packet, source = arrival.packet, arrival.fact.outer_source
        if not self.gate.speaks_for(arrival, packet.source):
            return "not the address that IKEv2 has assigned"
        if self.node.assigned(arrival.name, source):
            return _astray(packet, packet.source_nbma, source)
        known = self._known(arrival, packet.source)
        if known is None:
            return ""
        listed = [one.nbma for one in nat_cies(packet) or () if one.nbma and one.protocol == packet.source]
        there = packet.source_nbma in (known.nbma, known.claimed) and all(one == known.nbma for one in listed)
        return "" if there else "registered by another NBMA address"

    def _known(self, arrival: Arrival, overlay: bytes) -> Binding | None:
        """Where a station of a multipoint interface has registered from, or is mapped to."""
        return None if arrival.tunnel.remote else self.bindings.known(arrival.interface.vrf, overlay)

    def _speaks_elsewhere(self, arrival: Arrival, overlay: bytes) -> bool:
        """Whether what `overlay` says of itself comes from where it is not, nor from a server of ours, which passes it on."""
        known, source = self._known(arrival, overlay), arrival.fact.outer_source
        return known is not None and known.nbma != source and not self.ways.is_configured(arrival.name, source)

    def _context(self, arrival: Arrival) -> _Context:
        """The VRF that a request is about. A label not ours, or never given to this neighbour, says nothing (V07)."""
        node = self.node
        inside = node.vrf(arrival.name)
        try:
            binding = mpls_said(arrival.packet, node.config.oui, Role.REQUEST)
        except WireError:
            return _Context(inside, fault="malformed label extension")
        label = binding.context if binding is not None else None
        if label is None:
            return _Context(inside)
        if not node.is_own(inside, label.allocator):
            return _Context(inside, label, fault="context label of another node")
        row = node.lfib.get(label.label)
        if row is None:
            return _Context(inside, label, fault="context label that nobody was given")
        if not node.mpls(arrival.name):
            return _Context(inside, label, fault="context label from an interface without MPLS")
        if not row.scope & {arrival.name, scope_of(node, arrival.name)}:
            return _Context(inside, label, fault="context label that this neighbour was not given")
        if row.afi and row.afi != arrival.afi:
            return _Context(inside, label, fault="context label of another family")
        way = self.ways.switched(label.label)
        if way is not None:
            known = way.prefix.covers(arrival.packet.destination)
            fault = "" if known else "context label of another prefix"
            return _Context(row.vrf, label, row.fec, fault, way)
        if not row.vrf and inside:
            return _Context(inside, label, fault="context label of no VRF")
        return _Context(row.vrf, label, row.fec)

    def _pass_on(self, arrival: Arrival, way: Way, context: _Context) -> None:
        if way.interface == arrival.name and way.nbma == arrival.fact.outer_source:
            self.nak(arrival, CieCode.NO_BINDING, "its way leads back to where it comes from")
            return
        if not way.nbma:
            self.nak(arrival, CieCode.NO_BINDING, "the next hop's NBMA address is not known")
            return
        extensions = self._swapped(arrival.packet, way, context)
        if extensions is None:
            self.nak(arrival, CieCode.PROHIBITED, "the next hop has no label for that VRF")
            return
        self._onward(arrival, way, extensions, arrival.packet.source)
        self.node.count("resolution requests passed on")

    def _swapped(self, packet: Packet, way: Way, context: _Context) -> tuple[Extension, ...] | None:
        """Its extensions, with the next hop's own label for the VRF in place of ours; None: it has none."""
        node = self.node
        own: Extension | None = None
        apart = context.way is not None or context.vrf != node.vrf(way.interface)
        if way.labels and way.allocator and apart:
            label = ContextLabel(way.labels[-1], way.allocator)
            own = mpls_extension(MplsBinding(Role.REQUEST, label), node.config.oui)
        elif apart and context.way is None:
            return None
        found = []
        for one in packet.extensions:
            if not _is_context(one, packet, node.config.oui):
                found.append(one)
            elif own is not None:
                found.append(own)
                own = None
        return (*found, own) if own is not None else tuple(found)

    # --- what travels on ----------------------------------------------------------------------------------------------------

    def onward(self, arrival: Arrival) -> None:
        """A packet for somebody else that is no request: along the way to whom it is addressed."""
        packet, node = arrival.packet, self.node
        back = packet.kind in (Kind.RESOLUTION_REPLY, Kind.PURGE_REPLY)
        target = packet.source if back else packet.destination
        if self._false_word(arrival, packet):
            self.gate.count(arrival, "says more than its sender may")
            return
        way = self.ways.find(node.vrf(arrival.name), target)
        if not way.within(node.network(arrival.name)) or not way.nbma:
            if packet.kind is Kind.PURGE_REQUEST:
                self.gate.refuse(arrival, ErrorCode.UNREACHABLE, "nobody to pass it on to")
            else:
                self.gate.count(arrival, "nobody to pass it on to")
            return
        if way.interface == arrival.name and way.nbma == arrival.fact.outer_source:
            self.gate.count(arrival, "its way leads back to where it comes from")
            return
        about = packet.cies[0].protocol if packet.kind is Kind.RESOLUTION_REPLY and packet.cies else b""
        self._onward(arrival, way, None, about)
        node.count(f"{packet.kind.name.lower().replace('_', ' ')}s passed on")

    def _false_word(self, arrival: Arrival, packet: Packet) -> bool:
        """Whether it says something about others than its sender: where they are, or what they have. A peer whose addresses
        IKEv2 has assigned is where its SA is; who has registered is where it has registered from; and nobody else is where we
        are."""
        source, ours = arrival.fact.outer_source, arrival.tunnel.local
        assigned = bool(self.node.assigned(arrival.name, source))
        if packet.kind is Kind.PURGE_REQUEST:
            if assigned:
                return not self.gate.speaks_for(arrival, packet.source)
            return self._speaks_elsewhere(arrival, packet.source)
        if packet.kind is not Kind.RESOLUTION_REPLY:
            return False
        if any(one.nbma == ours for one in (*packet.cies, *(nat_cies(packet) or ()))):
            return True
        for cie in packet.cies:
            if cie.code or not cie.protocol:
                continue
            if assigned and (not self.gate.speaks_for(arrival, cie.protocol) or _astray(packet, cie.nbma, source)):
                return True
            if not assigned and self._speaks_elsewhere(arrival, cie.protocol):
                return True
        return False

    def _onward(self, arrival: Arrival, way: Way, extensions: tuple[Extension, ...] | None, about: bytes) -> None:
        """`about`: whose public NBMA address belongs into an empty NAT extension."""
        packet = self.gate.transit(arrival, way.interface, extensions)
        if packet is None:
            return
        if about:
            packet = self._natted(arrival, fill(packet, about, self.bindings, arrival.name), about)
        self.gate.send(way.interface, way.nbma, packet)

    def _natted(self, arrival: Arrival, packet: Packet, about: bytes) -> Packet:
        """As `fill`, for a peer that has registered nothing, but whose overlay address IKEv2 has assigned: its SA says where it
        is."""
        source = arrival.fact.outer_source
        if about not in self.node.assigned(arrival.name, source):
            return packet
        said = packet.cies[0].nbma if packet.kind is Kind.RESOLUTION_REPLY else packet.source_nbma
        extension = packet.extension(ExtensionKind.NAT_ADDRESS)
        if extension is None or extension.octets or said == source or len(source) != len(packet.source_nbma):
            return packet
        cie = Cie(prefix_length=len(about) * 8, nbma=source, protocol=about)
        filled = cie_extension(ExtensionKind.NAT_ADDRESS, (cie,), compulsory=extension.compulsory)
        return evolve(packet, extensions=tuple(filled if one is extension else one for one in packet.extensions))

    # --- refusals -----------------------------------------------------------------------------------------------------------

    def nak(self, arrival: Arrival, code: CieCode, reason: str) -> None:
        """A negative reply, back where the request came from. Its holding time is 0: nothing is to be kept."""
        self.gate.count(arrival, reason)
        packet = arrival.packet
        if not self.node.is_at(arrival.name, arrival.fact.outer_source):
            return
        cie = Cie(code, packet.cies[0].prefix_length if packet.cies else 0)
        flags = packet.flags & (Flag.ROUTER | Flag.NAT)
        extensions = self.gate.reply_extensions(arrival)
        reply = evolve(
            packet, kind=Kind.RESOLUTION_REPLY, flags=flags, cies=(cie,), extensions=extensions, hop_count=255
        )
        self.gate.send(arrival.name, arrival.fact.outer_source, reply)


def _astray(packet: Packet, said: bytes, source: bytes) -> str:
    """Why a station whose packets come from `source` is not at `said`, or as a NAT shows it."""
    listed = nat_cies(packet)
    if any(one.nbma != source for one in listed or () if one.nbma):
        return "an NBMA address that is not its own"
    if said != source and listed is None:
        return "behind a NAT, and no NAT extension"
    return ""


def _is_context(extension: Extension, packet: Packet, oui: bytes) -> bool:
    """Whether it is the request's label extension, which is for one hop."""
    if extension.kind != ExtensionKind.VENDOR_PRIVATE or not extension.octets.startswith(oui):
        return False
    try:
        binding = mpls_of(evolve(packet, extensions=(extension,)), oui)
    except WireError:
        return False
    return binding is not None and binding.role == Role.REQUEST
