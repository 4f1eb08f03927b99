"""Redirects: a packet left by the NHRP network it came in by, so its sender is told that there is a shorter way."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from nhrp.engine.gate import Gate
from nhrp.engine.node import Node, afi_of
from nhrp.engine.requester import addresses_of
from nhrp.engine.ways import Way, Ways, Where
from nhrp.events import RedirectSent
from nhrp.wire.mpls import ContextLabel, MplsBinding, Role, mpls_extension
from nhrp.wire.packet import Extension, ExtensionKind, Kind, Packet
from stack.events import Hairpin

__all__ = ["PAIRS", "PAIRS_OF_ONE", "Redirects"]

PAIRS = 8_192
"""(vrf, source, destination) that are remembered. Of more, nobody is told: packets take the longer way."""

PAIRS_OF_ONE = PAIRS // 8
"""Of one sender, once half of all are in use."""

_Pair = tuple[str, bytes, bytes]
_Sender = tuple[str, bytes]


@define(eq=False)
class Redirects:
    node: Node
    gate: Gate
    ways: Ways
    _told: dict[_Pair, tuple[float, _Sender]] = field(factory=dict)
    """Until when a pair is not told again; a pair is never told before those in front of it, if all timeouts are alike."""
    _of: Counter[_Sender] = field(factory=Counter)
    """(interface, endpoint) -> its pairs."""

    def hairpin(self, fact: Hairpin) -> None:
        node, name = self.node, fact.ingress.interface
        interface = node.interfaces.get(name)
        headers = addresses_of(fact.header)
        if interface is None or not interface.row.redirect or not interface.row.network_id or headers is None:
            node.count("redirect not sent: none on this interface")
            return
        if node.stopping:
            return
        source, destination = headers
        label = fact.ingress.in_label
        # A label that is swapped for another may belong to no VRF of ours.
        key = (fact.vrf if fact.vrf or label is None else f"label {label}", source, destination)
        if not self._may_tell(key, (name, fact.ingress.endpoint)):
            return
        afi = afi_of(source)
        own, nbma = node.own(name, afi), node.nbma(name)
        if not own or not nbma:
            node.count("redirect not sent: no address of ours")
            return
        way = (self.ways.switched(label) if label is not None else None) or self.ways.find(fact.vrf, destination)
        if _goes_back(way, fact):
            node.count("redirect not sent: it goes back to its sender")
            return
        extensions = self._extensions(fact, own, way.prefix.length if way.where is Where.NETWORK else 0)
        packet = Packet(Kind.TRAFFIC_INDICATION, nbma, own, source, 0, 0, (), extensions, body=fact.header)
        self.gate.send(name, fact.ingress.endpoint, packet)
        node.count("redirects sent")
        node.post(RedirectSent(name, fact.vrf, source, destination))

    def _may_tell(self, key: _Pair, sender: _Sender) -> bool:
        node, name = self.node, sender[0]
        told = self._told.get(key)
        if told is not None and node.now < told[0]:
            node.count("redirect not sent: told a short time ago")
            place = (name, "out", "redirect-suppress")
            node.traffic[place] = node.traffic.get(place, 0) + 1
            return False
        self._drop(key)
        if len(self._told) >= PAIRS // 2:
            self._forget()
            many = len(self._told) >= PAIRS
            if many or (len(self._told) >= PAIRS // 2 and self._of[sender] >= PAIRS_OF_ONE):
                node.count(f"redirect not sent: too many pairs{'' if many else ' of one sender'}")
                return False
        until = node.now + max(node.family(name, afi_of(key[1])).redirect_timeout, 1)
        self._told[key] = (until, sender)
        self._of[sender] += 1
        return True

    def _forget(self) -> None:
        """Those at the front whose time is over; they stand in the order in which they were told."""
        while self._told:
            key, (until, _) = next(iter(self._told.items()))
            if until > self.node.now:
                return
            self._drop(key)

    def _drop(self, key: _Pair) -> None:
        told = self._told.pop(key, None)
        if told is not None:
            self._of[told[1]] -= 1
            if not self._of[told[1]]:
                del self._of[told[1]]

    def _extensions(self, fact: Hairpin, own: bytes, extent: int) -> tuple[Extension, ...]:
        """Cisco's: both transit records, NAT address; and the label that the packet came under, which is how its sender knows
        the VRF, with how far our route goes: a station that answers for more draws no more."""
        found = [Extension(ExtensionKind.FORWARD_TRANSIT), Extension(ExtensionKind.REVERSE_TRANSIT)]
        found.append(Extension(ExtensionKind.NAT_ADDRESS, compulsory=False))
        label = fact.ingress.in_label
        if label is not None:
            context = ContextLabel(label, own)
            found.append(mpls_extension(MplsBinding(Role.INDICATION, context, extent=extent), self.node.config.oui))
        return tuple(found)

    def __len__(self) -> int:
        return len(self._told)


def _goes_back(way: Way, fact: Hairpin) -> bool:
    """On a multipoint interface a packet may leave to the very endpoint it came from: a shortcut would be no shorter."""
    there = (way.interface, way.nbma) == (fact.ingress.interface, fact.ingress.endpoint)
    return way.where is Where.NETWORK and there
