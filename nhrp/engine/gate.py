"""Who is let in, and what makes a packet complete when it leaves."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define

from nhrp.engine.node import Arrival, Node
from nhrp.wire.packet import Cie, ErrorCode, Extension, Packet
from stack.events import NhrpReceived

__all__ = ["Gate"]


@define(eq=False)
class Gate:
    node: Node

    def admit(self, fact: NhrpReceived) -> Arrival | None:
        """Decoded, authenticated, sane, no loop; None: refused (counted, perhaps answered with an error indication)."""

    def understood(self, arrival: Arrival) -> bool:
        """Call as RESPONDER to a request: False if it has a compulsory extension that we do not know (error 1 is sent)."""

    def speaks_for(self, arrival: Arrival, address: bytes) -> bool:
        """Identity binding (N05): whether the peer behind `arrival.fact.outer_source` may say that it is `address`."""

    def refuse(self, arrival: Arrival, code: ErrorCode, reason: str, offset: int = 0) -> None:
        """Count `reason`; an error indication back to where it came from, if the rules allow one."""

    def count(self, arrival: Arrival, reason: str) -> None:
        """Count and log a refusal, no answer."""

    def transit(self, arrival: Arrival, egress: str, extensions: tuple[Extension, ...] | None = None) -> Packet | None:
        """The packet to pass on by `egress`: hop count less one, our CIE in the forward (requests, indications) or reverse
        (replies) transit record, unknown extensions unchanged, NAT extension filled by nat.py's caller. `extensions`: in place
        of the packet's (a swapped context label). None: it may not go on (hop count: error 15), refused here."""

    def reply_extensions(
        self,
        arrival: Arrival,
        more: Iterable[Extension] = (),
        nat: Iterable[Cie] | None = None,
        responder: Cie | None = None,
    ) -> tuple[Extension, ...]:
        """Of a reply to that request: responder address (if asked for), its forward record, empty reverse record, `more` (our
        vendor extension), NAT address (`nat` None: as in the request; used only if it has one). No authentication: seal adds it."""

    def request_extensions(
        self, more: Iterable[Extension] = (), nat: Iterable[Cie] | None = ()
    ) -> tuple[Extension, ...]:
        """Of a request of our own: 3, 4, 5 empty, `more`, NAT (None: none)."""

    def seal(self, interface: str, packet: Packet) -> Packet:
        """As it leaves `interface`: that interface's authentication in place of any other, extensions in Cisco's order (3, 4,
        5, 7, 9, 8, rest). Error indications have no extensions."""

    def send(self, interface: str, nbma: bytes, packet: Packet) -> None:
        """seal, and node.send."""

    def interface_changed(self, name: str) -> None: ...
    def reconfigured(self) -> None: ...
