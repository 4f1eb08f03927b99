"""Which neighbours are alike: the update groups, who is in which, and moves between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define, evolve, field

from bgp.config import NeighborFamily
from bgp.engine.outputs import PeerView
from bgp.engine.policy import Filter, Policies
from bgp.engine.rib.adj_out import Member, UpdateGroup
from bgp.engine.rib.loc_rib import LocRib
from bgp.engine.rib.local import Local
from bgp.engine.rib.neighbour import Peer, family_config
from bgp.engine.rib.outbound import Outbound, OutKey
from bgp.engine.rib.own import OwnAddresses
from bgp.engine.rib.swaps import Swaps
from bgp.wire import Family
from stack.addr import Afi

__all__ = ["Groups"]


@define(eq=False)
class Groups:
    """`table(vrf, family)` is the Loc-RIB; `warn` is told of every filter that is made. Bounded by the neighbours."""

    own: OwnAddresses
    policies: Policies
    local: Local
    swaps: Swaps
    table: Callable[[str, Family], LocRib]
    warn: Callable[[Filter], None]
    by_key: dict[OutKey, UpdateGroup] = field(factory=dict)
    changes: int = 0
    """Grows with every member that joins or leaves a group."""
    _number: int = 0

    def join(self, peer: Peer, family: Family, known: Iterable[bytes] = (), member: Member | None = None) -> None:
        """`known`: keys that the neighbour was told before, in another group."""
        view, config = peer.view, family_config(peer.view, family)
        key = self.key(view, family, config)
        group = self.by_key.get(key)
        if group is None:
            group = self.by_key[key] = self._make(view, family, config, key.next_hop)
        if member is None:
            member = Member(peer.source)
        adj = peer.adj_in.get(family)
        group.join(member, known, blank=adj is not None and not adj.rows)
        self.changes += 1
        peer.members[family] = (group, member)

    def _make(self, view: PeerView, family: Family, config: NeighborFamily, next_hop: bytes) -> UpdateGroup:
        found = self.policies.filter(config.prefix_list_out, config.route_map_out)
        self.warn(found)
        loc = self.table(view.vrf, family)
        group = UpdateGroup(self._next(), loc, Outbound(view, family, view.vrf, config, found, next_hop), self.swaps)
        if config.default_originate and not family.vpn:
            group.default = self.local.default(view.vrf, Afi(family.afi))
        loc.groups.append(group)
        return group

    def _next(self) -> int:
        self._number += 1
        return self._number

    def leave(self, peer: Peer, family: Family) -> None:
        group, _ = peer.members.pop(family)
        group.leave(peer.source)
        self.changes += 1
        if not group.members:
            group.loc.groups.remove(group)
            for key in [key for key, one in self.by_key.items() if one is group]:
                del self.by_key[key]

    def key(self, view: PeerView, family: Family, config: NeighborFamily) -> OutKey:
        return OutKey(
            view.vrf,
            family,
            view.ibgp,
            0 if view.ibgp else view.asn,
            view.local_asn,
            view.local_id,
            self.own.next_hop(view, family),
            view.session,
            _outbound_only(config),
        )

    def regroup(self, peers: Iterable[Peer]) -> None:
        """Move those that are in the wrong group by now, with what they were told so far."""
        for peer in peers:
            for family in list(peer.members):
                group, member = peer.members[family]
                key = self.key(peer.view, family, family_config(peer.view, family))
                if self.by_key.get(key) is not group and not self._still_right(group, key):
                    known = list(dict.fromkeys((*group.advertised, *(member.catchup or ()))))
                    member.catchup = None
                    self.leave(peer, family)
                    self.join(peer, family, known, member)

    def _still_right(self, group: UpdateGroup, key: OutKey) -> bool:
        """Whether a group that a slow member got for itself still is what `key` asks for."""
        outbound = group.outbound
        alone = group not in self.by_key.values()
        return alone and (_outbound_only(outbound.config), outbound.own_hop) == (key.config, key.next_hop)

    def split_slow(self, group: UpdateGroup, peers: Iterable[Peer]) -> None:
        """Members whose queue is over its bound go on by themselves."""
        for member in group.slow():
            alone = group.split(member, self._next())
            self.changes += 1
            for peer in peers:
                if peer.source is member.source:
                    peer.members[group.loc.family] = (alone, member)


def _outbound_only(config: NeighborFamily) -> NeighborFamily:
    """`config` without what does not matter to what is sent, so that more neighbours are alike."""
    return evolve(
        config,
        activate=True,
        soft_reconfiguration=False,
        route_map_in="",
        prefix_list_in="",
        maximum_prefix=0,
        allowas_in=0,
    )
