"""Purge Requests and Replies (RFC 2332 5.2.5, 5.2.6): what somebody was told is true no longer.

Whoever asks must be the one that the entry came from: the client that registered it, from where it registered it, or a server
that we are registered with. Shortcuts are dropped by whoever keeps them, through `resolutions`.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve, field

from nhrp.engine.bindings import Binding, Bindings, Source
from nhrp.engine.client import Client
from nhrp.engine.gate import Gate
from nhrp.engine.node import Arrival, Node, afi_of
from nhrp.wire.packet import Cie, Flag, Kind, Packet
from stack.addr import Prefix, format_address

__all__ = ["MOST_CIES", "Purges"]

MOST_CIES = 64
"""Entries of one request that are looked at."""


@define(eq=False)
class Purges:
    """`resolutions`: called with each prefix of a request that is for us; they drop what they know from who sent it, and say
    how much that was."""

    node: Node
    gate: Gate
    bindings: Bindings
    client: Client
    resolutions: list[Callable[[Arrival, Prefix], int]] = field(factory=list)

    def received(self, arrival: Arrival) -> bool:
        """A Purge Request or Reply. False: it is for another, to be passed on."""
        packet, vrf = arrival.packet, arrival.interface.vrf
        if packet.kind is Kind.PURGE_REPLY:
            # RFC 2332 5.2.6; whoever asked is Src proto.
            return self.node.is_own(vrf, packet.source)
        if not self.node.is_own(vrf, packet.destination):
            return False
        if not self.gate.understood(arrival):
            return True
        if self._is_direct(arrival) and not self.gate.speaks_for(arrival, packet.source):
            self.gate.count(arrival, "purge by an address that is assigned to another")
            return True
        dropped = sum(self._drop(arrival, cie) for cie in packet.cies[:MOST_CIES])
        self.node.count("entries purged" if dropped else "purges that matched nothing")
        if not packet.flags & Flag.NO_REPLY:
            self._reply(arrival)
        return True

    def forget(self, entry: Binding, reason: str) -> None:
        """An entry goes before its time. Who has registered it hears of that, and does so again now, not when a third of its
        holding time is over."""
        if entry.source is Source.REGISTERED:
            self._tell(entry)
        self.bindings.remove(entry, reason)

    def stop(self) -> None:
        """Clients look for us, or for another server, from now on."""
        for entry in self.bindings:
            if entry.source is Source.REGISTERED:
                self._tell(entry)

    def _tell(self, entry: Binding) -> None:
        node, afi = self.node, afi_of(entry.address)
        own, nbma = node.own(entry.interface, afi), node.nbma(entry.interface)
        if not own or not nbma:
            return
        cie = Cie(prefix_length=len(entry.address) * 8, protocol=entry.address)
        extensions = self.gate.request_extensions(nat=None)
        packet = Packet(
            Kind.PURGE_REQUEST, nbma, own, entry.address, node.request_id(), Flag.NO_REPLY, (cie,), extensions
        )
        node.count("purges sent")
        self.gate.send(entry.interface, entry.nbma, packet)

    def _is_direct(self, arrival: Arrival) -> bool:
        return arrival.packet.source_nbma == arrival.fact.outer_source or not self.client.is_server(
            arrival.name, arrival.fact.outer_source
        )

    def _drop(self, arrival: Arrival, cie: Cie) -> int:
        """RFC 2332 5.2.5: "all cached information that matches" the prefix, as far as the sender may speak for it."""
        prefix = _prefix_of(arrival.packet, cie)
        mine = self._entries(arrival, prefix)
        for entry in mine:
            self.node.log("nhrp.purged", address=format_address(entry.address), interface=entry.interface)
            self.bindings.remove(entry, "purged")
        ours = self.client.purged(arrival, prefix)
        return len(mine) + ours + sum(drop(arrival, prefix) for drop in self.resolutions)

    def _entries(self, arrival: Arrival, prefix: Prefix) -> list[Binding]:
        """Those that the sender has registered."""
        packet = arrival.packet
        return [
            entry
            for entry in self.bindings.at(arrival.name, arrival.tunnel.remote or arrival.fact.outer_source)
            if entry.source is not Source.STATIC and prefix.covers(entry.address) and self._owns(entry, packet)
        ]

    def _owns(self, entry: Binding, packet: Packet) -> bool:
        """Two clients behind one NAT have the same outer address, and may not purge each other's."""
        return entry.address == packet.source or not entry.nat or entry.is_of(entry.nbma, packet.source_nbma)

    def _reply(self, arrival: Arrival) -> None:
        """RFC 2332 5.2.6: the same packet as a reply, also when nothing matched: we have nothing, and that is what it asks."""
        reply = evolve(arrival.packet, kind=Kind.PURGE_REPLY, hop_count=255)
        reply = evolve(reply, extensions=self.gate.reply_extensions(arrival))
        self.gate.send(arrival.name, arrival.fact.outer_source, reply)


def _prefix_of(packet: Packet, cie: Cie) -> Prefix:
    """RFC 2332 5.2.5; 0xFF and 0 say a host, but no host is called 0: that is everything."""
    address = cie.protocol or packet.source
    bits = len(address) * 8
    if not cie.prefix_length and not any(address):
        return Prefix.of(address, 0)
    return Prefix.of(address, cie.prefix_length if 0 < cie.prefix_length <= bits else bits)
