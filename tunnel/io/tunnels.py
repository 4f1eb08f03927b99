"""Tunnel packets in: GRE and MPLS-in-IP, taken only if a Reception says so, and never into a second tunnel.

RFC 2784 and 2890 (GRE), RFC 4023 (MPLS in GRE and in IP; 8.2: the source must be a known endpoint). The host's raw socket
has verified the outer IPv4 header and put fragments together. What came out of ESP enters by the tunnel that its SA is for and
by no other, which must be protected; what did not, never by that one (RFC 4023 8.1, RFC 4301 5.2).
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import define, field

from stack.events import SCOPE_PROTECTED, Ingress, NhrpReceived
from stack.tables.reception import Reception
from stack.tables.sad import Sa
from stack.wire import WireError
from tunnel.io.counters import Drop
from tunnel.io.inlet import Arrival, Inlet
from tunnel.io.labels import Labels
from tunnel.io.path import Path
from tunnel.io.rewrite import GRE, MPLS_IN_IP
from tunnel.wire import gre

__all__ = ["MAX_PEERS", "MAX_SEQUENCES", "Peer", "Tunnels"]

MAX_PEERS = 4096
"""(source, destination) pairs whose reception is remembered. When full, all are matched anew."""

MAX_SEQUENCES, FORGET_SEQUENCE = 4096, 10.0
"""Senders that number their packets, and seconds after which one that was not heard may start over."""

_WHY = {
    "RFC 2784 2.3.1": Drop.GRE_VERSION,
    "RFC 2784 2.3": Drop.GRE_RESERVED,
    "RFC 2784 2.5": Drop.GRE_CHECKSUM,
}


class _Outer(NamedTuple):
    source: bytes
    destination: bytes


@define(eq=False)
class Peer:
    """The inlets of one (outer source, outer destination): of packets without a key, and by key."""

    plain: Inlet | None = None
    keyed: dict[int, Inlet] = field(factory=dict)


@define(eq=False)
class Tunnels:
    path: Path
    labels: Labels
    _peers: dict[str, dict[int, Peer]] = field(factory=dict)
    """Transport VRF -> (source << 32 | destination) -> what the fast path needs; only of packets that were admitted."""
    sealed: dict[int, Peer] = field(factory=dict)
    """The same of what comes out of ESP, by the serial of its SA (tunnel.io.esp)."""
    _sequences: dict[tuple[str, bytes], tuple[int, float]] = field(factory=dict)
    _seen: int = -1
    """The generation of the receptions that the inlets are made of."""

    def rebuild(self) -> None:
        """The receptions, or what else packets are admitted by, changed: so do the inlets, whose caches start empty."""
        for peers in self._peers.values():
            peers.clear()
        self.sealed.clear()
        receptions, inlets = self.path.tables.receptions, self.path.inlets
        changed = receptions.changed_since(self._seen)
        self._seen = receptions.generation
        if changed is None:
            changed = {*receptions.rows, *(name for name, inlet in inlets.items() if inlet.tunnel)}
        for name in changed:
            row, old = receptions.get(name), inlets.get(name)
            if row is None:
                if old is not None and old.tunnel:
                    del inlets[name]
            elif old is None or not _same(old, row):
                tally = self.path.counters.into(name)
                inlets[name] = Inlet(name, name, row.vrf, row.scope, tally, row.mpls, row.ip, tunnel=True)

    def peers(self, vrf: str) -> dict[int, Peer]:
        """Of one transport VRF, to keep: two tunnels may have the same ends in two VRFs."""
        return self._peers.setdefault(vrf, {})

    def gre(self, octets: bytes, vrf: str = "") -> None:
        """An IPv4 packet of protocol 47 that came in transport VRF `vrf`."""
        outer, payload = _outer(octets)
        if outer is None:
            self.path.counters.drop(Drop.MALFORMED, "gre")
            return
        try:
            packet = gre.decode(payload)
        except WireError as error:
            reason = _WHY.get(error.rfc, Drop.GRE_HEADER)
            self.path.counters.drop(reason, self._name(outer, vrf))
            return
        row = self._match(outer, vrf, GRE, packet.key, nhrp=packet.protocol == gre.NHRP)
        if row is None:
            return
        if packet.protocol == gre.NHRP:
            self._nhrp(packet.payload, row, outer)
            return
        if packet.sequence is not None and self._is_old(row.interface, outer.source, packet.sequence):
            self.path.counters.drop(Drop.GRE_SEQUENCE, row.interface)
            return
        self._carry(packet.protocol, packet.payload, row, outer)
        self._remember(self.peers(vrf), int.from_bytes(outer.source + outer.destination), row)

    def opened(self, sa: Sa, source: bytes, serial: int, payload: bytes) -> None:
        """GRE that came out of ESP; the selectors of `sa` admit it from `source`."""
        counters, name = self.path.counters, sa.key.interface
        try:
            packet = gre.decode(payload)
        except WireError as error:
            counters.drop(_WHY.get(error.rfc, Drop.GRE_HEADER), name)
            return
        row = self.path.tables.receptions.get(name)
        endpoint = sa.key.remote or source
        nhrp = packet.protocol == gre.NHRP
        refused = _refused(row, sa.vrf, packet.key, endpoint, anybody=nhrp and self._in_network(name))
        if row is None or refused is not None:
            counters.drop(refused or Drop.NOT_OURS, name)
            return
        interface = self.path.tables.interfaces.get(name)
        if interface is not None and not interface.up:
            counters.drop(Drop.INTERFACE_DOWN, name)
            return
        if nhrp:
            self._nhrp(packet.payload, row, _Outer(endpoint, row.local), sa.child)
            return
        if packet.sequence is not None and self._is_old(name, endpoint, packet.sequence):
            counters.drop(Drop.GRE_SEQUENCE, name)
            return
        self._carry(packet.protocol, packet.payload, row, _Outer(endpoint, row.local), sa.child)
        self._remember(self.sealed, serial, row)

    def mpls_in_ip(self, octets: bytes, vrf: str = "") -> None:
        """An IPv4 packet of protocol 137: labels straight after the header (RFC 4023 3)."""
        outer, payload = _outer(octets)
        if outer is None:
            self.path.counters.drop(Drop.MALFORMED, "mpls-in-ip")
            return
        row = self._match(outer, vrf, MPLS_IN_IP, None)
        if row is not None:
            self._carry(gre.MPLS, payload, row, outer)

    def _match(
        self, outer: _Outer, vrf: str, protocol: int, key: int | None, *, nhrp: bool = False
    ) -> Reception | None:
        """The reception that admits this packet; None if there is none, the nearest miss counted.

        A spoke registers before anybody has heard of it: NHRP, and nothing else, may come to a multipoint interface of an NHRP
        network from an endpoint that is not known.
        """
        found: list[Reception] = []
        reason, name = Drop.NOT_OURS, "gre" if protocol == GRE else "mpls-in-ip"
        ends = (vrf, outer.destination)
        rows = [row for row in self.path.tables.receptions if (row.transport_vrf, row.local) == ends]
        for why, keep in (
            (Drop.TUNNEL_PROTOCOL, lambda row: protocol in row.protocols),
            (Drop.GRE_KEY, lambda row: row.gre_key == key),
            (Drop.UNKNOWN_ENDPOINT, lambda row: self._is_known(row, outer.source, nhrp=nhrp)),
        ):
            found = [row for row in rows if keep(row)]
            if not found and rows:
                reason, name = why, rows[0].interface
            rows = found
        if not found:
            self.path.counters.drop(reason, name)
            return None
        # Point-to-point before multipoint, known sources before any source, fewer before more.
        row = min(found, key=lambda r: (not r.point_to_point, r.sources is None, len(r.sources or ())))
        interface = self.path.tables.interfaces.get(row.interface)
        if interface is not None and not interface.up:
            self.path.counters.drop(Drop.INTERFACE_DOWN, row.interface)
            return None
        if row.protected or row.scope == SCOPE_PROTECTED:
            # RFC 4023 8.1: what is not protected must not come in by a tunnel that must be.
            self.path.counters.drop(Drop.PROTECTED, row.interface)
            return None
        return row

    def _is_known(self, row: Reception, source: bytes, *, nhrp: bool) -> bool:
        if row.sources is None or source in row.sources:
            return True
        return nhrp and not row.point_to_point and self._in_network(row.interface)

    def _in_network(self, name: str) -> bool:
        interface = self.path.tables.interfaces.get(name)
        return interface is not None and interface.row.network_id != 0

    def _nhrp(self, payload: bytes, row: Reception, outer: _Outer, sa: int = 0) -> None:
        """Never remembered: that NHRP may come from there admits no data."""
        path = self.path
        if not self._in_network(row.interface):
            path.counters.drop(Drop.NHRP_OFF, row.interface)
            return
        tally = path.counters.into(row.interface)
        tally[0] += 1
        tally[1] += len(payload)
        path.punt(NhrpReceived(row.interface, row.vrf, outer.source, outer.destination, sa, payload), row.interface)

    def _carry(self, protocol: int, payload: bytes, row: Reception, outer: _Outer, sa: int = 0) -> None:
        """What is inside, by its protocol type. There is no branch back to `gre`: one tunnel is taken off, no more."""
        path = self.path
        inlet = path.inlets.get(row.interface)
        if inlet is None:
            return
        inlet.tally[0] += 1
        inlet.tally[1] += len(payload)
        arrival = Arrival(inlet, Ingress(row.interface, row.vrf, outer.source, sa), row.vrf)
        if protocol == gre.MPLS:
            self.labels.labelled(payload, arrival)
        elif protocol in (gre.IPV4, gre.IPV6):
            if not row.ip:
                path.drop(Drop.NO_IP_HERE, arrival)
            elif not payload or payload[0] >> 4 != (4 if protocol == gre.IPV4 else 6):
                path.drop(Drop.NOT_IP, arrival)
            else:
                path.ip(payload, arrival)
        else:
            path.drop(Drop.LABEL_MULTICAST if protocol == gre.MPLS_MULTICAST else Drop.GRE_PROTOCOL, arrival)

    def _remember(self, peers: dict[int, Peer], key: int, row: Reception) -> None:
        if len(peers) >= MAX_PEERS:
            peers.clear()
        peer = peers.setdefault(key, Peer())
        inlet = self.path.inlets.get(row.interface)
        if row.gre_key is None:
            peer.plain = inlet
        elif inlet is not None:
            peer.keyed[row.gre_key] = inlet

    def _is_old(self, interface: str, source: bytes, sequence: int) -> bool:
        """Whether it is not after the last one taken (RFC 2890 2.2), once this sender has begun to number."""
        key, now = (interface, source), self.path.now()
        last = self._sequences.pop(key, None)
        if last is not None and now - last[1] < FORGET_SEQUENCE:
            ahead = sequence - last[0] & 0xFFFFFFFF
            if ahead == 0 or ahead > 0x7FFFFFFF:
                self._sequences[key] = last
                return True
        if len(self._sequences) >= MAX_SEQUENCES:
            self._sequences.pop(next(iter(self._sequences)))
        self._sequences[key] = (sequence, now)
        return False

    def _name(self, outer: _Outer, vrf: str) -> str:
        """The tunnel to count against: the first whose local end it was sent to."""
        ends = (vrf, outer.destination)
        rows = (row.interface for row in self.path.tables.receptions if (row.transport_vrf, row.local) == ends)
        return next(rows, "gre")


def _outer(octets: bytes) -> tuple[_Outer | None, bytes]:
    """Outer addresses and what follows the header; None if even that is missing."""
    if len(octets) < 20 or octets[0] >> 4 != 4:
        return None, b""
    header = (octets[0] & 15) * 4
    if not 20 <= header <= len(octets):
        return None, b""
    return _Outer(octets[12:16], octets[16:20]), octets[header:]


def _refused(row: Reception | None, vrf: str, key: int | None, endpoint: bytes, *, anybody: bool) -> Drop | None:
    """Why the reception of an SA's tunnel does not take what came out of ESP from `endpoint` (`anybody`: which need not be
    known). A point-to-point tunnel has the peer that the SA has proved, wherever a NAT lets it come from."""
    if row is None or row.transport_vrf != vrf:
        return Drop.NOT_OURS
    if not row.protected:
        return Drop.ESP_UNASKED
    if GRE not in row.protocols:
        return Drop.TUNNEL_PROTOCOL
    if row.gre_key != key:
        return Drop.GRE_KEY
    known = anybody or row.point_to_point or row.sources is None or endpoint in row.sources
    if not known:
        return Drop.UNKNOWN_ENDPOINT
    return None


def _same(inlet: Inlet, row: Reception) -> bool:
    return (inlet.vrf, inlet.scope, inlet.mpls, inlet.ip) == (row.vrf, row.scope, row.mpls, row.ip)
