"""Who is let in, and what makes a packet complete when it leaves.

Every packet that comes is held against the same rules before any other part sees it, whatever type it has; refusals are
counted by reason, and answered with an Error Indication where RFC 2332 5.2.7 allows one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from attrs import define, evolve, field

from nhrp.engine.node import Arrival, Node, afi_of
from nhrp.engine.shares import Limits, Shares
from nhrp.wire import (
    MOST_CIES,
    PASSWORD_LIMIT,
    authentication,
    cie_extension,
    cies_of,
    decode,
    error_of,
    indication,
    is_authentic,
    offset_of,
    sender_of,
)
from nhrp.wire.packet import Cie, ErrorCode, Extension, ExtensionKind, Kind, Packet
from stack.addr import format_address
from stack.events import NhrpReceived
from stack.wire import WireError

__all__ = ["ERROR_RATE", "PEER_RATE", "Gate", "is_unicast"]

ERROR_RATE = 50
"""Error Indications a second, to all, each with its share: what provokes them may come from anywhere."""

PEER_RATE = 1_000
"""Packets a second, and at once, of each peer. More are not even decoded, or a peer could keep the node from all else."""

REPLIES = frozenset((Kind.RESOLUTION_REPLY, Kind.REGISTRATION_REPLY, Kind.PURGE_REPLY))
"""Addressed to Src proto; all other kinds are addressed to Dst proto."""

_KNOWN = frozenset(
    kind for kind in ExtensionKind if kind not in (ExtensionKind.END, ExtensionKind.MOBILE_AUTHENTICATION)
)

_ORDER = (
    ExtensionKind.RESPONDER_ADDRESS,
    ExtensionKind.FORWARD_TRANSIT,
    ExtensionKind.REVERSE_TRANSIT,
    ExtensionKind.AUTHENTICATION,
    ExtensionKind.NAT_ADDRESS,
    ExtensionKind.VENDOR_PRIVATE,
)
"""In which a packet that leaves has them: Cisco's order. Unknown ones come last, in their own."""
_PLACE = {int(kind): place for place, kind in enumerate(_ORDER)}

_DEVICE_CAPABILITIES = 8
"""Octets of RFC 2735's extension, which has the type of Cisco's NAT addresses."""


def is_unicast(address: bytes) -> bool:
    """Whether a node may have that overlay address: not unspecified, loopback, multicast or broadcast."""
    if len(address) == 4:
        return 0 < address[0] < 224 and address[0] != 127
    return len(address) == 16 and address[0] != 0xFF and int.from_bytes(address) > 1


@lru_cache(maxsize=64)
def _password(password: str) -> Extension:
    return authentication(password.encode()[:PASSWORD_LIMIT])


@define(eq=False)
class Gate:
    node: Node
    _errors: Shares = field(factory=lambda: Shares(ERROR_RATE))
    _peers: Limits = field(factory=lambda: Limits(PEER_RATE))

    # --- in -------------------------------------------------------------------------------------------------------------

    def admit(self, fact: NhrpReceived) -> Arrival | None:
        """Decoded, authenticated, sane, and no loop; None: refused. An Error Indication that is let in has been logged."""
        node = self.node
        interface = node.interfaces.get(fact.interface)
        if interface is None or not interface.row.network_id:
            self._drop(fact, "interface is in no NHRP network")
            return None
        tunnel = node.tunnels.get(fact.interface)
        if tunnel is None:
            self._drop(fact, "interface is no tunnel with a source")
            return None
        if tunnel.local == fact.outer_source:
            self._drop(fact, "from our own NBMA address")
            return None
        if not self._peers.take((fact.interface, fact.outer_source), node.now):
            self._drop(fact, "more than one peer may send")
            return None
        try:
            packet = decode(fact.octets)
        except WireError as error:
            self._malformed(fact, error)
            return None
        node.note_traffic(fact.interface, "in", packet.kind)
        arrival = Arrival(fact, packet, interface, tunnel)
        if self._authentic(arrival) and self._sane(arrival) and self._no_loop(arrival):
            if packet.kind is Kind.ERROR_INDICATION:
                self._told(arrival)
            return arrival
        return None

    def _drop(self, fact: NhrpReceived, reason: str) -> None:
        self.node.count(f"refused: {reason}")
        self.node.log("nhrp.refused", "debug", interface=fact.interface, reason=reason)

    def _malformed(self, fact: NhrpReceived, error: WireError) -> None:
        """N01: nothing beyond the packet is echoed, and what may be an Error Indication is not answered."""
        code, octets = error_of(error), fact.octets
        part = code.name.lower().replace("_", " ") if code is not None else "header"
        self.node.count(f"refused: malformed ({part})")
        self.node.log(
            "nhrp.malformed",
            "warning",
            interface=fact.interface,
            nbma=format_address(fact.outer_source),
            error=str(error),
        )
        if code is not None and (sender := sender_of(octets)):
            self._indicate(fact, code, error.offset, sender)

    def _authentic(self, arrival: Arrival) -> bool:
        """RFC 2332 5.3.4.4: "if the authentication fails, an Error Indication of type Authentication Failure is returned". Of
        every type of packet; only Error Indications may show no password: they must have no extensions, and change nothing."""
        packet = arrival.packet
        password = self.node.family(arrival.name, afi_of(packet.source)).authentication
        if not password:
            return True
        shown = packet.extension(ExtensionKind.AUTHENTICATION)
        if is_authentic(shown, password.encode()[:PASSWORD_LIMIT], packet.source):
            return True
        if shown is None and packet.kind is Kind.ERROR_INDICATION:
            return True
        offset = offset_of(shown, packet) - 4 if shown is not None else 0
        self.refuse(arrival, ErrorCode.AUTHENTICATION_FAILURE, "authentication failure", offset)
        return False

    def _sane(self, arrival: Arrival) -> bool:
        packet, vrf = arrival.packet, arrival.interface.vrf
        reply = packet.kind in REPLIES
        if not is_unicast(packet.source):
            self.count(arrival, "source is no unicast address")
        elif not is_unicast(packet.destination):
            self.count(arrival, "destination is no unicast address")
        elif not reply and self.node.is_own(vrf, packet.source):
            # It has come round, or somebody says that it is us; an answer would come round as well.
            self.count(arrival, "source is our own address")
        else:
            return True
        return False

    def _no_loop(self, arrival: Arrival) -> bool:
        """RFC 2332 5.3.2, 5.3.3: "if an NHS sees its own address in the record, an Error Indication 'NHRP Loop Detected'": in
        the forward record of what travels to Dst proto, in the reverse record of what travels back."""
        packet, vrf = arrival.packet, arrival.interface.vrf
        kind = _record_of(packet)
        record = packet.extension(kind)
        if record is None or not record.octets:
            return True
        try:
            cies = cies_of(record, packet)
        except WireError as error:
            self.refuse(arrival, ErrorCode.INVALID_EXTENSION, "invalid transit record", error.offset)
            return False
        for cie in cies:
            if self.node.is_own(vrf, cie.protocol) if cie.protocol else cie.nbma == arrival.tunnel.local:
                self.refuse(arrival, ErrorCode.LOOP, "loop", offset_of(record, packet) - 4)
                return False
        return True

    def _told(self, arrival: Arrival) -> None:
        packet = arrival.packet
        known = packet.code in ErrorCode.__members__.values()
        name = ErrorCode(packet.code).name.lower().replace("_", " ") if known else "unknown code"
        self.node.count(f"error indication received: {name}")
        self.node.log(
            "nhrp.error-indication",
            "warning",
            interface=arrival.name,
            observer=format_address(packet.source),
            destination=format_address(packet.destination),
            code=packet.code,
            error=name,
            offset=packet.offset,
        )

    # --- questions of the parts -------------------------------------------------------------------------------------------

    def understood(self, arrival: Arrival) -> bool:
        """To be asked by the responder to a request. RFC 2332 5.3: with C set, an extension that is not recognized makes "the
        request considered to be in error", and it is answered so: then False."""
        unknown = self._unknown(arrival.packet)
        if unknown is None:
            return True
        offset = offset_of(unknown, arrival.packet) - 4
        self.refuse(arrival, ErrorCode.UNRECOGNIZED_EXTENSION, "unrecognized extension", offset)
        return False

    def _unknown(self, packet: Packet) -> Extension | None:
        """The first compulsory extension that we do not know."""
        oui = self.node.config.oui
        for one in packet.extensions:
            if one.compulsory and (
                one.kind not in _KNOWN or (one.kind == ExtensionKind.VENDOR_PRIVATE and not one.octets.startswith(oui))
            ):
                return one
        return None

    def speaks_for(self, arrival: Arrival, address: bytes) -> bool:
        """Identity binding (N05): whether the peer that `arrival` comes from may say that it is `address`: one of those that
        IKEv2 has assigned to it; if none, any that IKEv2 has not assigned to another. Not for what a hub passes on."""
        node = self.node
        assigned = node.assigned(arrival.name, arrival.fact.outer_source)
        if assigned:
            return address in assigned
        network = arrival.network
        return not any(node.network(name) == network for name in node.overlays.at(address))

    def is_bound(self, arrival: Arrival, address: bytes) -> bool:
        """Whether IKEv2 has assigned `address` to the peer that `arrival` comes from: it is that one's, and nobody else's."""
        return address in self.node.assigned(arrival.name, arrival.fact.outer_source)

    # --- refusals -----------------------------------------------------------------------------------------------------------

    def count(self, arrival: Arrival, reason: str) -> None:
        """Counted and logged; not answered. `reason`: one of a fixed set."""
        packet = arrival.packet
        self.node.count(f"refused: {reason}")
        self.node.log(
            "nhrp.refused",
            "warning",
            interface=arrival.name,
            kind=packet.kind.name.lower().replace("_", "-"),
            source=format_address(packet.source),
            nbma=format_address(arrival.fact.outer_source),
            reason=reason,
        )

    def refuse(self, arrival: Arrival, code: ErrorCode, reason: str, offset: int = 0) -> None:
        """`count`, and an Error Indication to who sent it, back where it came from. RFC 2332 5.2.7: never about an Error
        Indication; and none about what came from ourselves, which has come round."""
        self.count(arrival, reason)
        packet = arrival.packet
        sender = packet.destination if packet.kind in REPLIES else packet.source
        if is_unicast(sender):
            self._indicate(arrival.fact, code, offset, sender)

    def _indicate(self, fact: NhrpReceived, code: ErrorCode, offset: int, sender: bytes) -> None:
        node = self.node
        own, nbma = node.own(fact.interface, afi_of(sender)), node.nbma(fact.interface)
        said = indication(code, offset, fact.octets, nbma, own, sender)
        if said is None or node.is_own(node.vrf(fact.interface), sender):
            return
        if not self._errors.take((fact.interface, fact.outer_source), node.now):
            node.count("error indications left out")
            return
        node.count(f"error indication sent: {code.name.lower().replace('_', ' ')}")
        self.send(fact.interface, fact.outer_source, said)

    # --- out ----------------------------------------------------------------------------------------------------------------

    def send(self, interface: str, nbma: bytes, packet: Packet) -> None:
        self.node.send(interface, nbma, self.seal(interface, packet))

    def seal(self, interface: str, packet: Packet) -> Packet:
        """As it leaves `interface`: RFC 2332 5.3.4: authentication is "done pairwise on an NHRP hop-by-hop basis", so that
        interface's stands in place of any other. Error Indications have no extensions (5.2.7)."""
        if packet.kind is Kind.ERROR_INDICATION:
            return evolve(packet, extensions=()) if packet.extensions else packet
        kept = [one for one in packet.extensions if one.kind != ExtensionKind.AUTHENTICATION]
        password = self.node.family(interface, afi_of(packet.source)).authentication
        if password:
            kept.append(_password(password))
        kept.sort(key=_place)
        return evolve(packet, extensions=tuple(kept))

    def request_extensions(
        self, more: Iterable[Extension] = (), nat: Iterable[Cie] | None = ()
    ) -> tuple[Extension, ...]:
        """Of a request of our own: who answers and which way is asked for. `nat`: our public address, if it is known and not
        our own (None: without that extension)."""
        extensions = (*_ASKED, *more)
        return extensions if nat is None else (*extensions, cie_extension(ExtensionKind.NAT_ADDRESS, tuple(nat)))

    def reply_extensions(
        self,
        arrival: Arrival,
        more: Iterable[Extension] = (),
        nat: Iterable[Cie] | None = None,
        responder: Cie | None = None,
    ) -> tuple[Extension, ...]:
        """Of our reply to `arrival`: what it asked for, and nothing that we do not know. RFC 2332 5.3.2: its forward record is
        copied. `nat`: in place of what its NAT extension says, if it has one."""
        extensions: list[Extension] = []
        for one in arrival.packet.extensions:
            if one.kind == ExtensionKind.RESPONDER_ADDRESS:
                extensions.append(cie_extension(one.kind, (responder or self.responder(arrival),)))
            elif one.kind == ExtensionKind.FORWARD_TRANSIT:
                extensions.append(one)
            elif one.kind == ExtensionKind.REVERSE_TRANSIT:
                extensions.append(_REVERSE)
            elif one.kind == ExtensionKind.NAT_ADDRESS and len(one.octets) != _DEVICE_CAPABILITIES:
                extensions.append(one if nat is None else cie_extension(one.kind, tuple(nat)))
        return (*extensions, *more)

    def responder(self, arrival: Arrival) -> Cie:
        """Ourselves, in the responder address extension."""
        return self._self(arrival.name, arrival.packet)

    def _self(self, interface: str, packet: Packet) -> Cie:
        """Ourselves on `interface`, in a list of `packet`. The packet says how long NBMA addresses are."""
        afi, nbma = afi_of(packet.source), self.node.nbma(interface)
        if len(nbma) != len(packet.source_nbma):
            nbma = b""
        holding_time = self.node.family(interface, afi).holding_time
        return Cie(holding_time=holding_time, nbma=nbma, protocol=self.node.own(interface, afi))

    def transit(self, arrival: Arrival, egress: str, extensions: tuple[Extension, ...] | None = None) -> Packet | None:
        """The packet as it goes on by `egress`, still to be sealed: one hop less, and ourselves in the transit record.
        `extensions`: in place of its own. None: it may not go on.

        RFC 2332 5.3: a transit NHS passes on extensions that it does not know, but "MUST NOT add itself to the transit record"
        if one of those is compulsory. N08: a hop count that would become 0 ends here, since others drop such packets unseen.
        """
        packet = arrival.packet
        if packet.hop_count <= 1:
            self.refuse(arrival, ErrorCode.HOP_COUNT_EXCEEDED, "hop count exceeded", 9)
            return None
        kept = packet.extensions if extensions is None else extensions
        if self._unknown(packet) is None:
            kind = _record_of(packet)
            kept = tuple(self._recorded(one, packet, egress) if one.kind == kind else one for one in kept)
        return evolve(packet, hop_count=packet.hop_count - 1, extensions=kept)

    def _recorded(self, record: Extension, packet: Packet, egress: str) -> Extension:
        passed = cies_of(record, packet)
        if len(passed) >= MOST_CIES:
            return record
        return cie_extension(record.kind, (*passed, self._self(egress, packet)), compulsory=record.compulsory)


_REVERSE = Extension(ExtensionKind.REVERSE_TRANSIT)
_ASKED = (Extension(ExtensionKind.RESPONDER_ADDRESS), Extension(ExtensionKind.FORWARD_TRANSIT), _REVERSE)


def _record_of(packet: Packet) -> ExtensionKind:
    return ExtensionKind.REVERSE_TRANSIT if packet.kind in REPLIES else ExtensionKind.FORWARD_TRANSIT


def _place(extension: Extension) -> int:
    return _PLACE.get(extension.kind, len(_PLACE))
