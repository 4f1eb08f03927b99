"""Labelled packets in: ILM -> NHLFE (RFC 3031 3.10), reserved labels by name, TTL by RFC 3443, scope by RFC 4023 8.

At a pop the label's TTL caps the packet's (uniform model); at a swap the TTL goes down by one and the TC stays; a label
under a popped one gets the lower of both TTLs. The traffic class of a popped label is not copied into the packet.
"""

from __future__ import annotations

from attrs import define

from stack.addr import DEFAULT_VRF, LabelStack, ReservedLabel
from stack.events import NeighbourUnresolved
from stack.tables.lfib import Nhlfe, Operation
from tunnel.io.counters import Drop
from tunnel.io.errors import may_complain
from tunnel.io.inlet import Arrival, Flows, LabelFlow
from tunnel.io.path import Path
from tunnel.io.resolve import Refusal
from tunnel.io.rewrite import Rewrite
from tunnel.wire.mpls import MAX_DEPTH

__all__ = ["Labels"]

_VERSIONS = {0: 0, 1: 4, 2: 6}
"""Address family number -> IP version; 0 is either."""

_RESERVED = {
    ReservedLabel.ROUTER_ALERT: Drop.LABEL_ROUTER_ALERT,
    ReservedLabel.IMPLICIT_NULL: Drop.LABEL_IMPLICIT_NULL,
    ReservedLabel.ENTROPY_INDICATOR: Drop.LABEL_ENTROPY,
    ReservedLabel.GAL: Drop.LABEL_GAL,
    ReservedLabel.OAM_ALERT: Drop.LABEL_OAM_ALERT,
    ReservedLabel.EXTENSION: Drop.LABEL_EXTENSION,
}
_EXPLICIT_NULL = {ReservedLabel.IPV4_EXPLICIT_NULL: 4, ReservedLabel.IPV6_EXPLICIT_NULL: 6}


@define(eq=False)
class Labels:
    path: Path

    def labelled(self, octets: bytes, arrival: Arrival) -> None:
        """A label stack and what is under it."""
        path = self.path
        if not arrival.inlet.mpls:
            path.drop(Drop.LABEL_INTERFACE, arrival)
            return
        depth = _depth(octets)
        if isinstance(depth, Drop):
            path.drop(depth, arrival)
            return
        octets = _unpadded(octets, depth)
        word = int.from_bytes(octets[:4])
        label = word >> 12
        if label < 16:
            self._reserved(label, octets, depth, arrival)
            return
        row = path.tables.lfib.get(label)
        if row is None:
            path.drop(Drop.LABEL_UNKNOWN, arrival)
            return
        came = arrival._replace(
            ingress=arrival.ingress._replace(in_label=label),
            vrf=row.vrf,
            cap=word & 0xFF,
            stack=octets[: 4 * depth],
        )
        reason = self._admit(row, octets[4 * depth :], came)
        if reason is not None:
            path.drop(reason, came)
            return
        path.counters.labels[label] = path.counters.labels.get(label, 0) + len(octets) - 4
        if came.cap == 0:
            # "outgoing TTL of the labeled packet is 0 ... MUST NOT be further forwarded" (RFC 3032 2.4.2)
            self._expired(octets[4 * depth :], came)
        elif row.operation is Operation.POP_LOOKUP:
            self._pop_lookup(label, row, octets, depth, came)
        else:
            self._send_on(label, row, octets, depth, came)

    def _admit(self, row: Nhlfe, inner: bytes, arrival: Arrival) -> Drop | None:
        """May this label arrive this way, with this under it?"""
        inlet = arrival.inlet
        if inlet.scope not in row.scope and inlet.interface not in row.scope:
            return Drop.LABEL_SCOPE
        if inlet.only_vrf is not None and row.vrf != inlet.only_vrf:
            return Drop.LABEL_VRF
        if row.afi and (not inner or inner[0] >> 4 != _VERSIONS.get(row.afi)):
            return Drop.LABEL_FAMILY
        return None

    def _reserved(self, label: int, octets: bytes, depth: int, arrival: Arrival) -> None:
        """RFC 3032 2.1, RFC 7274 3: by name."""
        path = self.path
        version = _EXPLICIT_NULL.get(label)  # type: ignore[call-overload]  # an IntEnum is hashed as its int
        if version is None:
            reason = _RESERVED.get(label, Drop.LABEL_RESERVED)  # type: ignore[call-overload]  # as above
            path.drop(reason, arrival)
        elif depth > 1:
            path.drop(Drop.LABEL_NOT_BOTTOM, arrival)
        elif not arrival.inlet.ip:
            path.drop(Drop.NO_IP_HERE, arrival)
        elif len(octets) < 5 or octets[4] >> 4 != version:
            path.drop(Drop.LABEL_FAMILY, arrival)
        else:
            ttl = octets[3]
            came = arrival._replace(cap=ttl, stack=octets[:4], ingress=arrival.ingress._replace(in_label=label))
            if ttl:
                path.ip(octets[4:], came)
            else:
                self._expired(octets[4:], came)

    def _pop_lookup(self, label: int, row: Nhlfe, octets: bytes, depth: int, arrival: Arrival) -> None:
        if depth > 1:
            if row.vrf == DEFAULT_VRF:
                self._popped(octets, arrival)
            else:
                self.path.drop(Drop.LABEL_UNDER_AGGREGATE, arrival)
            return
        flows = self.path.flows(arrival.inlet, row.vrf)
        arrival.inlet.learn(label, LabelFlow(_VERSIONS.get(row.afi, 0), flows))
        self.path.warm.add(arrival.inlet)
        self.path.ip(octets[4:], arrival)

    def _popped(self, octets: bytes, arrival: Arrival) -> None:
        """A transport label that ends here: the next label decides (RFC 3031 3.10), with the lower of both TTLs."""
        under = bytearray(octets[4:])
        under[3] = min(under[3], octets[3])
        self.labelled(bytes(under), arrival)

    def _send_on(self, label: int, row: Nhlfe, octets: bytes, depth: int, arrival: Arrival) -> None:
        """POP_FORWARD and SWAP: to the row's next hop, whatever the packet's destination."""
        path = self.path
        inner = octets[4 * depth :]
        out: LabelStack = ()
        if row.operation is Operation.SWAP:
            out = tuple(each for each in row.out_labels if each != ReservedLabel.IMPLICIT_NULL)
        if arrival.cap <= 1:
            self._expired(inner, arrival)
            return
        way = path.resolver.next_hop(arrival.inlet.interface, row.next_hop, out, stacked=not out and depth > 1)
        if isinstance(way, Refusal):
            self._refused(way, arrival)
            return
        if depth == 1:
            flow = LabelFlow(_VERSIONS.get(row.afi, 0))
            if out:
                flow.rewrite = way
            else:
                flow.flows = Flows(row.vrf, fixed=way)
            arrival.inlet.learn(label, flow)
            path.warm.add(arrival.inlet)
        if depth == 1 and not out:
            self._pop_forward(inner, way, arrival)
        else:
            self._swap(octets, depth, way, arrival, popped=not out)

    def _pop_forward(self, inner: bytes, way: Rewrite, arrival: Arrival) -> None:
        """The IP packet under the last label, without a look-up."""
        path = self.path
        version = inner[0] >> 4 if inner else 0
        packet = path.checked4(inner, arrival) if version == 4 else Drop.NOT_IP
        if version == 6:
            packet = path.checked6(inner, arrival)
        if isinstance(packet, Drop):
            path.drop(packet, arrival)
            return
        aged = path.aged(packet, arrival)
        if aged is not None:
            path.emit(aged, way, packet, arrival)

    def _swap(self, octets: bytes, depth: int, way: Rewrite, arrival: Arrival, *, popped: bool) -> None:
        """Under the rewrite's labels, what stood under the top label; if that was popped, the next one inherits."""
        path = self.path
        under = bytearray(octets[4:])
        stack = 4 * (depth - 1)
        if popped:
            under[3] = min(under[3], octets[3] - 1)
            if under[3] == 0:
                self._expired(octets[4 * depth :], arrival)
                return
        key = int.from_bytes(octets[:4]) & (0xFFF if stack == 0 else 0xEFF)
        original = bytes(octets[4 * depth :])
        version = original[0] >> 4 if original else 0
        whole = len(original) >= {4: 20, 6: 40}.get(version, 1 << 20)
        if whole and way.hairpin:
            path.hairpin(original, way, arrival)
        if whole and way.mss:
            inner = bytearray(original)
            path.clamp(inner, way.mss)
            under[stack:] = inner
        header = way.header(key)
        if len(under) <= way.room:
            path.transmit(header, under, way)
        elif not whole:
            path.drop(Drop.TOO_BIG, arrival)
        else:
            # RFC 3032 3.4: fragment what is under the stack, and put the stack before each part.
            for part in path.fragments(under[stack:], way.room - stack, original, arrival):
                path.transmit(header, under[:stack] + part, way)

    def _expired(self, inner: bytes, arrival: Arrival) -> None:
        """The sender is told by way of the label's VRF (RFC 3032 2.3.2), if what is under the stack is sound IP."""
        version = inner[0] >> 4 if inner else 0
        packet = self.path.checked4(inner, arrival) if version == 4 else Drop.NOT_IP
        if version == 6:
            packet = self.path.checked6(inner, arrival)
        if isinstance(packet, Drop) or not may_complain(packet):
            self.path.drop(Drop.TTL_EXPIRED, arrival)
        else:
            self.path.expired(packet, arrival)

    def _refused(self, refusal: Refusal, arrival: Arrival) -> None:
        """A labelled packet does not wait for its neighbour."""
        path = self.path
        if refusal.neighbour is not None and not refusal.dead:
            path.punt(NeighbourUnresolved(refusal.neighbour.interface, refusal.neighbour.address), refusal.interface)
        path.counters.drop(refusal.reason, refusal.interface or arrival.inlet.name)


def _depth(octets: bytes) -> int | Drop:
    """How many entries the stack has."""
    for depth in range(1, MAX_DEPTH + 1):
        if len(octets) < 4 * depth:
            return Drop.LABEL_NO_BOTTOM
        if octets[4 * depth - 2] & 1:
            return depth
    return Drop.LABEL_DEPTH


def _unpadded(octets: bytes, depth: int) -> bytes:
    """Without what a link added behind the IP packet under the stack."""
    under = octets[4 * depth :]
    version = under[0] >> 4 if under else 0
    size = int.from_bytes(under[2:4]) if version == 4 else int.from_bytes(under[4:6]) + 40
    sound = (20 if version == 4 else 40) <= size < len(under)
    return octets[: 4 * depth + size] if version in (4, 6) and sound else octets
