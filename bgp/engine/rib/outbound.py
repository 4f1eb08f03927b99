"""What a route looks like to a group of alike neighbours: whether they get it at all, attributes and next hop.

One PathSet gives one Out, so this runs once a set of attributes, not once a route. The octets of the attributes are
edited in place of being taken apart: most of a reflector's time would go there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from attrs import define, field

from bgp.config import NeighborFamily
from bgp.engine.outputs import PeerView
from bgp.engine.paths import DEFAULT_LOCAL_PREF, PathSet
from bgp.engine.policy import NO_CHANGES, Filter, changed, view_of
from bgp.wire import AsPath, AttributeCode, Attributes, Family, Nlri, WellKnownCommunity, prefix_of
from stack.addr import Afi, Prefix, mapped_v4
from stack.policy.routemap import Changes

__all__ = ["Out", "OutKey", "Outbound"]


class Out(NamedTuple):
    """Attributes and next hop as sent. `swap`: we are the next hop of somebody else's VPN route, so it goes out with a
    label of ours that is swapped to its own (RFC 4364 10 b)."""

    attributes: Attributes
    next_hop: bytes
    swap: bool = False


class OutKey(NamedTuple):
    """Neighbours with equal keys get equal octets: they share an update group."""

    vrf: str
    family: Family
    ibgp: bool
    asn: int
    local_asn: int
    local_id: bytes
    next_hop: bytes
    session: object
    config: NeighborFamily


_LOCAL_PREF = bytes((0x40, AttributeCode.LOCAL_PREF, 4)) + DEFAULT_LOCAL_PREF.to_bytes(4)


@define(eq=False)
class Outbound:
    """The way out to the members of one update group. `own_hop`: what we put as next hop when it is ourselves; empty if
    there is no address of the right family. `view` is any member's."""

    view: PeerView
    family: Family
    vrf: str
    config: NeighborFamily
    filter: Filter
    own_hop: bytes
    _drop: frozenset[int] = field(init=False)
    _cut: frozenset[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._drop = self._stripped()
        self._cut = self._drop | {AttributeCode.ORIGINATOR_ID, AttributeCode.CLUSTER_LIST}

    @property
    def per_prefix(self) -> bool:
        return self.filter.per_prefix

    @property
    def swaps(self) -> bool:
        """Whether others' VPN routes may go out with ourselves as next hop, so with labels of ours."""
        config = self.config
        return self.family.vpn and (config.next_hop_self if self.view.ibgp else not config.next_hop_unchanged)

    def of(self, one: PathSet, nlri: Nlri) -> Out | None:
        """How `one` is sent, None if it is not. With a per-prefix filter, for the prefix of `nlri` only."""
        if not self._eligible(one):
            return None
        changes = self._changes(one, nlri)
        if changes is None:
            return None
        next_hop, swap = self._next_hop(one, changes)
        if not next_hop:
            return None
        accepted = one.attributes if changes is NO_CHANGES else changed(one.attributes, changes)
        attributes = self._internal(one, accepted) if self.view.ibgp else self._external(one, accepted, changes)
        return Out(attributes, next_hop, swap)

    def _eligible(self, one: PathSet) -> bool:
        octets = one.attributes.octets
        if b"\xff\xff\xff" in octets:  # well-known communities begin so; found or not without reading the attributes
            communities = one.attributes.communities
            if WellKnownCommunity.NO_ADVERTISE in communities:
                return False
            if not self.view.ibgp and (
                WellKnownCommunity.NO_EXPORT in communities or WellKnownCommunity.NO_EXPORT_SUBCONFED in communities
            ):
                return False
        if one.source.local or one.source.external or not self.view.ibgp:
            return True
        # RFC 4456 6: from a client to all, from a non-client to clients; RFC 4271 9.2.1: else never iBGP to iBGP
        return self.config.route_reflector_client or self.family in one.source.clients

    def _changes(self, one: PathSet, nlri: Nlri) -> Changes | None:
        if self.filter.empty:
            return NO_CHANGES
        prefix = prefix_of(self.family, nlri.key)
        view = view_of(prefix, self.family, one.attributes, one.next_hop, tag=one.tag, labels=nlri.labels)
        ruling = self.filter.rule(view)
        return ruling.changes if ruling.permitted else None

    def reflected(self, one: PathSet) -> bool:
        return self.view.ibgp and not one.source.local and not one.source.external

    def _next_hop(self, one: PathSet, changes: Changes) -> tuple[bytes, bool]:
        """RFC 4271 5.1.3. A reflector leaves the next hop alone (RFC 4456 10), a PE is that of what it originates."""
        if changes.next_hop:
            return changes.next_hop, False
        config = self.config
        ours = one.source.local or one.exported_from is not None or (bool(self.vrf) and not self.reflected(one))
        if not ours:
            internal = config.next_hop_self and not self.reflected(one)
            ours = internal if self.view.ibgp else not config.next_hop_unchanged
        if ours:
            return self.own_hop, self.family.vpn and one.exported_from is None and not one.source.local
        return one.received_hop if one.next_hop == one.peer_hop else _as_sent(one.next_hop, self.family), False

    def _internal(self, one: PathSet, attributes: Attributes) -> Attributes:
        if self.reflected(one):  # RFC 4456 8
            cluster = self.view.local_id
            return Attributes(_reflected(attributes.octets, self._cut, one.source.router_id, cluster))
        put: dict[int, bytes] = {} if attributes.local_pref is not None else {AttributeCode.LOCAL_PREF: _LOCAL_PREF}
        return _rewritten(attributes, self._drop, put)

    def _external(self, one: PathSet, attributes: Attributes, changes: Changes) -> Attributes:
        drop = self._drop | {
            AttributeCode.LOCAL_PREF,
            AttributeCode.ORIGINATOR_ID,
            AttributeCode.CLUSTER_LIST,
        }
        # RFC 4271 5.1.4: a MED from a neighbouring AS must not go to another one
        if not (one.source.local or changes.metric is not None):
            drop |= {AttributeCode.MULTI_EXIT_DISC}
        path = attributes.as_path
        if self.config.as_override:
            path = path.replace(self.view.asn, self.view.local_asn)
        path = path.prepend(self.view.local_asn)
        put: dict[int, bytes] = {AttributeCode.AS_PATH: _as_path_octets(path)}
        kept = _without_non_transitive(attributes.ext_communities)
        if kept is not None and AttributeCode.EXTENDED_COMMUNITIES not in drop:
            drop |= {AttributeCode.EXTENDED_COMMUNITIES}
            if kept:
                put[AttributeCode.EXTENDED_COMMUNITIES] = _encoded(
                    0xC0, AttributeCode.EXTENDED_COMMUNITIES, b"".join(kept)
                )
        return _rewritten(attributes, drop, put)

    def _stripped(self) -> frozenset[int]:
        """Attributes that are not sent at all: NEXT_HOP is the encoder's, communities as configured. VPN families send
        extended communities without being told, as IOS activates it with the neighbour."""
        drop = {AttributeCode.NEXT_HOP}
        if not self.config.send_standard:
            drop |= {AttributeCode.COMMUNITIES, AttributeCode.LARGE_COMMUNITIES}
        if not (self.config.send_extended or self.family.vpn):
            drop |= {AttributeCode.EXTENDED_COMMUNITIES}
        return frozenset(drop)


def _as_sent(next_hop: bytes, family: Family) -> bytes:
    return mapped_v4(next_hop) if family.vpn and family.afi == Afi.IPV6 and len(next_hop) == 4 else next_hop


def _without_non_transitive(communities: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    """RFC 4360 6: non-transitive ones stay inside the AS. None: nothing to take out."""
    kept = tuple(one for one in communities if not one[0] & 0x40)
    return None if len(kept) == len(communities) else kept


def _encoded(flags: int, code: int, value: bytes) -> bytes:
    if len(value) > 255:
        return bytes((flags | 0x10, code)) + len(value).to_bytes(2) + value
    return bytes((flags, code, len(value))) + value


def _as_path_octets(path: AsPath) -> bytes:
    return Attributes.of(as_path=path).octets


def _rewritten(attributes: Attributes, drop: frozenset[int], put: Mapping[int, bytes]) -> Attributes:
    """The same set where nothing changes, so that it is encoded once."""
    octets = _edited(attributes.octets, drop, put)
    if octets == attributes.octets:
        return attributes
    return Attributes(octets)


def _reflected(octets: bytes, cut: frozenset[int], originator: bytes, cluster: bytes) -> bytes:
    """`_edited` for a reflector's every set of attributes, in one pass: an ORIGINATOR_ID is created if there is none,
    `cluster` comes first in the CLUSTER_LIST, LOCAL_PREF is put in where a neighbour left it out (RFC 4456 8, RFC 4271
    5.1.5). `cut`: what is not sent, and these two."""
    created, clusters = b"\x80\x09\x04" + originator, cluster
    has_pref = placed = False
    parts: list[bytes] = []
    at = start = 0
    end = len(octets)
    while at < end:
        code = octets[at + 1]
        value = at + 4 if octets[at] & 0x10 else at + 3
        after = value + (octets[at + 2] << 8 | octets[at + 3] if octets[at] & 0x10 else octets[at + 2])
        if code == 5:
            has_pref = True
        elif code > 5 and not has_pref:
            parts += (octets[start:at], _LOCAL_PREF)
            start, has_pref = at, True
        if code > 10 and not placed:
            parts += (octets[start:at], created, _encoded(0x80, 10, clusters))
            start, placed = at, True
        if code in cut:
            parts.append(octets[start:at])
            start = after
            if code == 9:
                created = octets[at:after]
            elif code == 10:
                clusters = cluster + octets[value:after]
        at = after
    parts.append(octets[start:])
    if not has_pref:
        parts.append(_LOCAL_PREF)
    if not placed:
        parts += (created, _encoded(0x80, 10, clusters))
    return b"".join(parts)


def _edited(octets: bytes, drop: frozenset[int], put: Mapping[int, bytes]) -> bytes:
    """The canonical (ascending) attributes in `octets` without those in `drop` and with those in `put` (code -> whole
    attribute), which replace any of the same code."""
    waiting = sorted(put)
    parts: list[bytes] = []
    at, end = 0, len(octets)
    while at < end:
        code = octets[at + 1]
        after = at + 4 + (octets[at + 2] << 8 | octets[at + 3]) if octets[at] & 0x10 else at + 3 + octets[at + 2]
        while waiting and waiting[0] <= code:
            parts.append(put[waiting.pop(0)])
        if code not in drop and code not in put:
            parts.append(octets[at:after])
        at = after
    parts += [put[code] for code in waiting]
    return b"".join(parts)


DEFAULT_ROUTES = {Afi.IPV4: Prefix(b"\0" * 4, 0), Afi.IPV6: Prefix(b"\0" * 16, 0)}
"""What `default-originate` announces."""
