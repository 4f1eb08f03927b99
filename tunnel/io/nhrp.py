"""NHRP out: GRE protocol type 0x2001, in a packet of its own, to an NBMA address that nobody need know.

A registration that is refused must be answered, so a multipoint interface sends to whatever address it is told, without a
socket of its own for each: who forges registrations must not make the packet path open and close sockets. A protected tunnel
sends by the security association of that neighbour and in no other way (RFC 4301 5.1).
"""

from __future__ import annotations

from attrs import define

from stack.events import SaKey, SendNhrp
from stack.net import Port
from stack.tables.reception import Reception
from stack.tables.sad import Bundle
from tunnel.io.counters import Drop
from tunnel.io.path import Path
from tunnel.io.ports import Unsent
from tunnel.io.rewrite import GRE
from tunnel.wire import gre

__all__ = ["NhrpOut"]

TTL, CONTROL = 255, 0xC0
"""Of the outer header. Precedence 6, internetwork control (RFC 791 3.1), as for any routing protocol."""

LARGEST = 0xFFFF


@define(eq=False)
class NhrpOut:
    """`port`: the raw socket of protocol 47, which sends to any address."""

    path: Path
    port: Port | None = None

    def send(self, fact: SendNhrp) -> None:
        """On the wire, or dropped for a reason that is counted."""
        refused = self._send(fact)
        if refused is not None:
            self.path.counters.drop(refused, fact.interface)

    def _send(self, fact: SendNhrp) -> Drop | None:
        tables, name = self.path.tables, fact.interface
        row, interface = tables.receptions.get(name), tables.interfaces.get(name)
        if interface is None or not interface.row.network_id:
            return Drop.NHRP_OFF
        if row is None or not interface.up or GRE not in row.protocols:
            return Drop.INTERFACE_DOWN
        target = next(iter(row.sources or ()), b"") if row.point_to_point else fact.nbma
        if len(target) != 4:
            return Drop.UNRESOLVED
        if target[0] in (0, 127) or target[0] >= 224 or target == row.local:
            return Drop.MARTIAN
        packet = _packet(row, target, fact.octets)
        if len(packet) > LARGEST:
            return Drop.TOO_BIG
        if not self.path.affords(fact, name):
            return None  # which has counted it
        return self._out(row, target, packet, len(fact.octets))

    def _out(self, row: Reception, target: bytes, packet: bytes, size: int) -> Drop | None:
        counters, vrf = self.path.counters, row.transport_vrf
        port = self.path.outlets.transports.get(vrf) if vrf else self.port
        try:
            if row.protected:
                bundle = self._bundle(row, target)
                if bundle is None:
                    return Drop.PROTECTED
                self.path.resolver.seals.of(bundle, row.transport_vrf).send_one(packet)
            elif port is None:
                return Drop.NO_PORT
            else:
                port.send(packet)
        except Unsent as error:
            return error.reason
        except BlockingIOError:
            return Drop.QUEUE_FULL
        except OSError as error:
            counters.error(port.name if port is not None else "esp", error)
            return Drop.PORT_ERROR
        tally = counters.out_of(row.interface)
        tally[0] += 1
        tally[1] += size
        return None

    def _bundle(self, row: Reception, target: bytes) -> Bundle | None:
        """The neighbour's. A clone of a multipoint template has one peer, by whatever address; of others it knows nothing."""
        sad = self.path.tables.sad
        alone = sad.get(SaKey(row.interface))
        if row.point_to_point:
            return alone
        found = sad.get(SaKey(row.interface, target))
        if found is None and alone is not None and alone.outbound is not None:
            known = target == alone.outbound.remote or target in (row.sources or ())
            found = alone if known else None
        return found


def _packet(row: Reception, target: bytes, octets: bytes) -> bytes:
    """Length, identification and checksum of the outer header are the port's to fill in, as of every rewrite."""
    head = bytes((0x45, CONTROL, 0, 0, 0, 0, 0, 0, TTL, GRE, 0, 0)) + row.local + target
    return head + gre.encode(gre.Gre(gre.NHRP, octets, key=row.gre_key))
