"""All tables of one speaker, and the order in which they are brought up to date.

    neighbours --> Adj-RIB-In --> Loc-RIB --> update groups (Adj-RIB-Out) --> neighbours
                                   |    ^
    RIB (RouteSelected) --> Local -+    +-- next hops (NextHopState)
                                   v
          VPN tables <--import, export--> VRF tables --> RouteOffered

Inputs only mark what they touch. `wake` decides it, some 10,000 prefixes at a time, and `deadline` asks to be woken at
once while anything is left; so a batch of messages costs one decision a prefix, and keepalives are never late. What the
tables hold is published as state, and `SyncedOut` says when all of it has been learnt again after a start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import evolve

from bgp.config import BgpConfig, NeighborFamily
from bgp.engine.outputs import (
    Log,
    NotifyPeer,
    OutgoingReady,
    PeerKey,
    PeerView,
    Publish,
    RibOutput,
    SyncedOut,
)
from bgp.engine.paths import Hop, Path, PathSet, Source
from bgp.engine.policy import Filter, Policies
from bgp.engine.rib.adj_in import ROUTES_BOUND, AdjRibIn
from bgp.engine.rib.adj_out import UpdateGroup
from bgp.engine.rib.away import Away
from bgp.engine.rib.endpoints import Endpoints
from bgp.engine.rib.given import Given
from bgp.engine.rib.groups import Groups
from bgp.engine.rib.hops import Hops
from bgp.engine.rib.labels import Labels
from bgp.engine.rib.loc_rib import Change, LocRib, Version
from bgp.engine.rib.local import OWNER, Local
from bgp.engine.rib.neighbour import Peer, client_families, family_config
from bgp.engine.rib.own import OwnAddresses
from bgp.engine.rib.scopes import Scopes
from bgp.engine.rib.swaps import Swaps
from bgp.engine.session_config import listen_range, merged
from bgp.engine.vpn import Vpn, route_of, vpn_family
from bgp.wire import CeaseSubcode, ErrorCode, Family, Update, ip_key, prefix_of
from stack.addr import DEFAULT_VRF, Afi, Fec, Prefix, Safi, SwapFec
from stack.events import (
    Delta,
    EndpointOffered,
    Fact,
    InterfaceState,
    LabelBound,
    LabelWanted,
    NextHopState,
    NextHopWanted,
    PolicyState,
    ProfileState,
    RouteOffered,
    RouteSelected,
    Synced,
    Topic,
    VrfState,
)

__all__ = ["BATCH", "INPUTS_WITHIN", "SYNC_WITHIN", "Ribs"]

BATCH = 10_000
"""Prefixes decided, and rows purged, in one `wake`."""

SYNC_WITHIN = 60.0
"""Seconds after the start at which what has not been learnt again counts as gone."""

INPUTS_WITHIN = 5.0
"""Seconds after the start that End-of-RIB waits for VRFs and local routes to be known."""

SWEEP_EVERY = 10.0
"""Seconds after which next hops that nothing uses any more are let go."""

_SYNCED = (RouteOffered, LabelWanted, EndpointOffered, NextHopWanted)
_INPUTS = (VrfState, PolicyState, RouteSelected)


class Ribs:
    """See the module. `resolve` False: without routing, every next hop counts as usable (a reflector on its own).

    `restarted`: an earlier incarnation ran here and its routes still forward, so neighbours that kept ours (RFC 4724) must
    not get End-of-RIB before all is learnt again. `stood`: by what its labels may arrive.
    """

    def __init__(
        self,
        config: BgpConfig,
        entropy: Callable[[int], bytes],
        *,
        resolve: bool = True,
        restarted: bool = False,
        stood: Mapping[Fec, frozenset[str]] = {},
    ) -> None:
        self.config = config
        self.restarted = restarted
        self.away = Away()
        self.entropy = entropy
        self.policies = Policies()
        self.hops = Hops(resolve=resolve)
        self.endpoints = Endpoints()
        self.labels = Labels()
        self.labels.stood.update(stood)
        self.scopes = Scopes(known=not restarted)
        self.swaps = Swaps(self.labels, self.hops)
        self.local = Local(config, self.policies, config.router_id or bytes(4))
        self.vpn = Vpn(config, self.hops, self.labels, self.local)
        self.swaps.vrf_of = self.vpn.vrf_of
        self.own = OwnAddresses(config)
        self.tables: dict[tuple[str, Family], LocRib] = {}
        self.peers: dict[PeerKey, Peer] = {}
        self.groups = Groups(self.own, self.policies, self.local, self.swaps, self.table, self._warn)
        self.given = Given(self.scopes, self.labels, self.vpn, self.swaps, self.groups, self.tables, self.peers)
        self.counters: dict[str, int] = {}
        self._rows: dict[tuple[Topic[Any, Any], str], dict[Any, Any]] = {}
        self._logs: list[RibOutput] = []
        self._purging: list[AdjRibIn] = []
        self._now = 0.0
        self._due: float | None = None
        self._expected = _neighbours(config)
        self._sweep_at: float | None = None
        self._held_until: float | None = None
        self._sync_at: float | None = None
        self._inputs_at: float | None = None
        self._inputs: set[Topic[Any, Any]] = set()
        self._synced = False
        self._told: set[str] = set()
        self._versions: dict[tuple[int, int], Version] = {}

    # --- start, configuration -----------------------------------------------------------------------------------------

    def start(self, now: float) -> list[RibOutput]:
        """Everything that is published is learnt anew from here on; see SYNC_WITHIN."""
        self._sync_at = now + SYNC_WITHIN
        self._inputs_at = now + INPUTS_WITHIN
        if not self._expected and not self.config.listen_ranges:
            self._sync_at = now
        return self._settle(now)

    def reconfigure(self, config: BgpConfig, now: float) -> list[RibOutput]:
        """Sessions are the speaker's; here policies, redistribution, labels and groups follow."""
        old, self.config = self.config, config
        self._expected = _neighbours(config)
        self.local.config = self.vpn.config = self.own.config = config
        if config.router_id:
            self.local.router_id = config.router_id
        for peer in list(self.peers.values()):
            self._reconfigure_peer(peer)
        for key in list(self.away.peers):
            if key not in config.neighbors or not config.graceful_restart:
                self._bury(self.away.forget(key))
        if (old.families, old.label_modes) != (config.families, config.label_modes):
            self._reoriginate(name for name, _ in list(self.tables))
            for name in list(self.vpn.vrfs):
                self._reexport(name)
        if old.next_hop_interface != config.next_hop_interface:
            self.groups.regroup(self.peers.values())
        return self._touched(now)

    def _reconfigure_peer(self, peer: Peer) -> None:
        key = peer.view.key
        found = self.config.neighbors.get(key)
        if found is None:
            ranged = listen_range(self.config, *key)
            if ranged is None:
                return  # the speaker ends it
            neighbor = ranged[1]
        else:
            neighbor = merged(self.config, found)
        if neighbor != peer.view.config:
            self._change_view(peer, evolve(peer.view, config=neighbor))

    def _change_view(self, peer: Peer, view: PeerView) -> None:
        peer.view = peer.source.view = view
        peer.source.clients = client_families(view)
        for adj in peer.adj_in.values():
            adj.config = family_config(view, adj.family)
            adj.filter = self._inbound(adj.config)
            adj.reapply()
        self.groups.regroup([peer])

    # --- neighbours ---------------------------------------------------------------------------------------------------

    def peer_up(self, peer: PeerView, now: float) -> list[RibOutput]:
        """Its session is established: it is owed the tables of its families. Again for a peer that is up: its view
        changed."""
        known = self.peers.get(peer.key)
        if known is not None:
            self._change_view(known, peer)
            return self._touched(now)
        made = self._seat(peer, now)
        source = made.source
        if self.local.router_id == bytes(4):
            self.local.router_id = peer.local_id
        self.own.add_session(peer.vrf, peer.local)
        self._own_changed()
        if peer.vrf == DEFAULT_VRF and any(family.vpn for family in peer.families):
            way = self.hops.plain(DEFAULT_VRF, peer.remote)  # wanted: it tells how its labelled packets come
            self.scopes.join(peer.key, peer.remote, self.hops.answers.get(way.key))
        for family in sorted(peer.families):
            config = family_config(peer, family)
            if family in made.adj_in:
                made.adj_in[family].resume(config, self._inbound(config))
                self.groups.join(made, family)
                continue
            made.adj_in[family] = AdjRibIn(
                source,
                family,
                self.table(peer.vrf, family),
                self.hops,
                self.endpoints,
                config,
                self._inbound(config),
                addpath=False,
            )
            self.groups.join(made, family)
        return self._touched(now)

    def _seat(self, view: PeerView, now: float) -> Peer:
        """A new neighbour, or one that was away for a restart, with the routes that stayed."""
        peer, gone = self.away.returns(view, now)
        self._bury(gone)
        if peer is None:
            peer = Peer(view, Source(view, view.vrf, view.router_id, view.remote, external=not view.ibgp))
        peer.view = peer.source.view = view
        peer.source.router_id, peer.source.address = view.router_id, view.remote
        peer.source.external, peer.source.clients = not view.ibgp, client_families(view)
        peer.since = now
        self.peers[view.key] = peer
        return peer

    def _bury(self, gone: Iterable[AdjRibIn]) -> None:
        for adj in gone:
            adj.bury()
            self._purging.append(adj)

    def peer_lost(self, key: PeerKey, reason: str, now: float) -> list[RibOutput]:
        """Its session broke without a NOTIFICATION. If graceful restart was agreed, its routes stay for a while."""
        peer = self.peers.get(key)
        if peer is None or not peer.view.restartable:
            return self.peer_down(key, reason, now)
        del self.peers[key]
        self._log("info", "neighbor may be restarting", neighbor=key, seconds=peer.view.restart_time)
        for family in list(peer.members):
            self.groups.leave(peer, family)
        self._bury(self.away.leaves(peer, now))
        self.own.remove_session(peer.view.vrf, peer.view.local)
        self._own_changed()
        return self._touched(now)

    def peer_down(self, key: PeerKey, reason: str, now: float) -> list[RibOutput]:
        """Its routes are not used from this moment on; they are taken out some thousand at a time."""
        self._bury(self.away.forget(key))
        peer = self.peers.pop(key, None)
        if peer is None:
            return self._touched(now) if self._purging else []
        self._log("debug", "routes of a neighbour are withdrawn", neighbor=key, reason=reason)
        for family in list(peer.members):
            self.groups.leave(peer, family)
        self._bury(peer.adj_in.values())
        self.own.remove_session(peer.view.vrf, peer.view.local)
        self._own_changed()
        self.scopes.leave(key)
        return self._touched(now)

    def update(self, key: PeerKey, update: Update, now: float) -> list[RibOutput]:
        """An UPDATE as RFC 7606 left it."""
        peer = self.peers.get(key)
        if peer is None:
            self._count("update from a neighbour that is not up")
            return []
        for family in update.disabled if update.errors else ():
            if (adj := peer.adj_in.get(family)) is not None:
                adj.disable()
                self._log("warning", "family disabled until the session ends", neighbor=key, family=str(family))
        for unreach in update.unreach:
            adj = peer.adj_in.get(unreach.family)
            if adj is None:
                self._count("withdrawal of a family that was not negotiated")
            elif unreach.routes:
                adj.withdraw(unreach.routes)
        if not update.reach and (ended := update.end_of_rib) is not None and ended in peer.adj_in:
            peer.adj_in[ended].end_of_rib = True
            self.away.ended(key, ended)
        if update.attributes is not None:
            for reach in update.reach:
                adj = peer.adj_in.get(reach.family)
                if adj is None:
                    self._count("route of a family that was not negotiated")
                    continue
                adj.announce(update.attributes, reach)
                if (bound := adj.config.maximum_prefix or ROUTES_BOUND) < len(adj.rows):
                    return [_too_many(key, reach.family, bound), *self._touched(now)]
        return self._touched(now)

    def refresh(self, key: PeerKey, family: Family, now: float) -> list[RibOutput]:
        """RFC 2918 4: re-advertise the Adj-RIB-Out of the family to that neighbour."""
        peer = self.peers.get(key)
        found = peer.members.get(family) if peer is not None else None
        if found is None:
            return []
        group, member = found
        group.tell_again(member)
        return [OutgoingReady(key), *self._touched(now)]

    def soft(self, key: PeerKey | None, direction: str, now: float) -> list[RibOutput]:
        """`clear ip bgp ... soft`: policy again over what is there, nothing is asked of the peer. None: all peers."""
        outputs: list[RibOutput] = []
        for peer in [self.peers[key]] if key in self.peers else [] if key else list(self.peers.values()):
            if direction in ("in", "both"):
                for adj in peer.adj_in.values():
                    adj.filter = self._inbound(adj.config)
                    adj.reapply()
            if direction in ("out", "both"):
                for group, member in peer.members.values():
                    group.tell_again(member)
                    outputs.append(OutgoingReady(peer.view.key))
        return [*outputs, *self._touched(now)]

    def _inbound(self, config: NeighborFamily) -> Filter:
        found = self.policies.filter(config.prefix_list_in, config.route_map_in)
        self._warn(found)
        return found

    def _warn(self, found: Filter) -> None:
        if found.missing and found.missing not in self._told and PolicyState in self._inputs:
            self._told.add(found.missing)
            self._log("warning", "policy refuses every route", reason=found.missing)

    # --- Adj-RIB-Out ----------------------------------------------------------------------------------------------------

    def outgoing(self, key: PeerKey, limit_octets: int) -> list[bytes]:
        """UPDATEs for the neighbour, about `limit_octets` of them; fewer only if there are no more now."""
        peer = self.peers.get(key)
        found: list[bytes] = []
        if peer is None:
            return found
        for group, member in list(peer.members.values()):
            messages = group.outgoing(member, limit_octets, end_of_rib=self._inputs_ready)
            limit_octets -= sum(map(len, messages))
            found += messages
            if group.suppressed:
                self._log_suppressed(group)
            if group.noted and self.scopes.apart:
                self._due = self._now  # by what its labels may come back is to be told
            self.groups.split_slow(group, self.peers.values())
            if limit_octets <= 0:
                break
        if self.labels.rows or self.hops.rows or self._logs or (self._sync_at is not None and self._may_converge):
            self._due = self._now  # labels to be swapped are wanted while routes go out
        return found

    def has_outgoing(self, key: PeerKey) -> bool:
        peer = self.peers.get(key)
        return peer is not None and any(
            group.waiting(member, end_of_rib=self._inputs_ready) for group, member in peer.members.values()
        )

    def _log_suppressed(self, group: UpdateGroup) -> None:
        fresh = [key for key in group.suppressed if key not in group.told]
        if fresh:
            group.told = set(group.suppressed)
            self._count("route that fits in no message", len(fresh))
            self._log("warning", "routes not advertised", routes=len(fresh), reason=group.suppressed[fresh[0]])

    # --- the bus ------------------------------------------------------------------------------------------------------

    def receive(self, message: Delta | Synced | Fact, now: float) -> list[RibOutput]:
        """Rows of the topics that the tables read; others are ignored."""
        if isinstance(message, Synced):
            if message.topic is InterfaceState and not self.scopes.known:
                self._known()
                return self._touched(now)
            if message.topic in _INPUTS:
                self._inputs.add(message.topic)
                return [*self._touched(now), *self._eor_ready()]
            return []
        if not isinstance(message, Delta):
            return []
        action = {
            NextHopState: self._next_hops,
            RouteSelected: self._selected,
            LabelBound: self._labels_bound,
            VrfState: self._vrfs,
            PolicyState: self._policies,
            ProfileState: self._profiles,
            InterfaceState: self._interfaces,
        }.get(message.topic)
        if action is None:
            return []
        action(message.table, message.rows)
        return self._touched(now)

    def _known(self) -> None:
        self.scopes.known, self.labels.before_only = True, False
        self.labels.look_again()

    def _next_hops(self, _table: str, rows: Mapping[Any, Any]) -> None:
        self.hops.receive(rows)
        self.scopes.hops(rows)

    def _selected(self, vrf: str, rows: Mapping[Any, Any]) -> None:
        for prefix in self.local.receive(vrf, rows):
            row = rows[prefix]
            if row is None or row.owner != OWNER or (vrf, prefix) in self.local.placed:
                self._originate(vrf, prefix)
            if vrf:
                self._reexport_one(vrf, prefix)

    def _labels_bound(self, _table: str, rows: Mapping[Any, Any]) -> None:
        self.labels.receive(rows)

    def _policies(self, _table: str, rows: Mapping[Any, Any]) -> None:
        names = self.policies.receive(rows)
        if not names:
            return
        self._told -= {reason for reason in self._told if any(name in reason for name in names)}
        for peer in self.peers.values():
            for adj in peer.adj_in.values():
                if names & set(adj.filter.names):
                    adj.filter = self._inbound(adj.config)
                    adj.reapply()
        for group in self._all_groups():
            if names & set(group.outbound.filter.names):
                config = group.outbound.config
                group.outbound.filter = self.policies.filter(config.prefix_list_out, config.route_map_out)
                group.rerun()
        self._reoriginate(vrf for (_, _, vrf), one in self.config.families.items() if _maps(one) & names)

    def _profiles(self, _table: str, rows: Mapping[Any, Any]) -> None:
        self.scopes.profiles(rows)
        if self.own.receive_profiles(rows):
            self.groups.regroup(self.peers.values())

    def _interfaces(self, _table: str, rows: Mapping[Any, Any]) -> None:
        self.scopes.interfaces(rows)
        if self.own.receive_interfaces(rows):
            self._own_changed()
            self.groups.regroup(self.peers.values())

    def _own_changed(self) -> None:
        own = self.own.addresses()
        self.hops.own_addresses(own)
        self.endpoints.set_own(own.get(DEFAULT_VRF, frozenset()))

    def _vrfs(self, _table: str, rows: Mapping[Any, Any]) -> None:
        for name, row in rows.items():
            if not name or row == self.vpn.vrfs.get(name):
                continue
            self.vpn.set_vrf(name, row)
            if row is None:
                self._drop_vrf(name)
                continue
            for afi in Afi:
                self.table(name, Family(afi, Safi.UNICAST))
                for prefix in self.local.prefixes(name, afi):
                    self._originate(name, prefix)
            self._reexport(name)
        for afi in Afi:
            if (vpn := self.tables.get((DEFAULT_VRF, vpn_family(afi)))) is not None:
                vpn.touch_all()  # a route target was edited: every VPN route is looked at again
        self.swaps.look_again()

    def _drop_vrf(self, name: str) -> None:
        for afi in Afi:
            family = Family(afi, Safi.UNICAST)
            table = self.tables.get((name, family))
            if table is None:
                continue
            for key, net in list(table.nets.items()):
                for path in net.paths:
                    if path.set.source.local or path.set.original is not None:
                        table.remove(key, path)
                self.vpn.export(table, self.table(DEFAULT_VRF, vpn_family(afi)), key, None)
        for vrf, prefix in [place for place in self.local.placed if place[0] == name]:
            del self.local.placed[vrf, prefix]

    # --- what we originate and export ---------------------------------------------------------------------------------

    def _originate(self, vrf: str, prefix: Prefix) -> None:
        path = self.local.originate(vrf, prefix)
        old = self.local.placed.get((vrf, prefix))
        if self.local.same(path, old):
            return
        key = ip_key(prefix)
        table = self.table(vrf, Family(prefix.afi, Safi.UNICAST))
        if path is not None:
            table.put(key, path, old)
            self.local.placed[vrf, prefix] = path
        elif old is not None:
            table.remove(key, old)
            del self.local.placed[vrf, prefix]

    def _reoriginate(self, vrfs: Iterable[str]) -> None:
        for vrf in set(vrfs):
            for afi in Afi:
                for prefix in self.local.prefixes(vrf, afi):
                    self._originate(vrf, prefix)

    def _reexport(self, name: str) -> None:
        """Labels, RD or route targets of the VRF changed: all its routes go out anew."""
        for afi in Afi:
            table = self.tables.get((name, Family(afi, Safi.UNICAST)))
            if table is not None:
                vpn = self.table(DEFAULT_VRF, vpn_family(afi))
                for key, net in list(table.nets.items()):
                    self.vpn.export(table, vpn, key, net.best)

    def _reexport_one(self, vrf: str, prefix: Prefix) -> None:
        """The next hop behind a label may have changed."""
        table = self.tables.get((vrf, Family(prefix.afi, Safi.UNICAST)))
        key = ip_key(prefix)
        if table is not None and (vrf, table.family, key) in self.vpn.exports:
            self.vpn.export(table, self.table(DEFAULT_VRF, vpn_family(prefix.afi)), key, table.best(key))

    # --- bringing everything up to date -------------------------------------------------------------------------------

    def table(self, vrf: str, family: Family) -> LocRib:
        """The Loc-RIB of one family of one VRF, made when first asked for."""
        found = self.tables.get((vrf, family))
        if found is None:
            vpn = family.afi if vrf or family.vpn else 0
            counter = self._versions.setdefault((vpn, family.afi), Version())
            found = self.tables[vrf, family] = LocRib(vrf, family, counter=counter)
        return found

    def _touched(self, now: float) -> list[RibOutput]:
        """Ask to be woken at once, and some time later to sweep: whatever happened may have left something unused."""
        self._due = self._now = now
        if self._sweep_at is None:
            self._sweep_at = now + SWEEP_EVERY
        found, self._logs = self._logs, []
        return found

    def deadline(self) -> float | None:
        """When `wake` must be called at the latest."""
        due = (self._due, self._sweep_at, self._sync_at, self._inputs_at, self._held_until, self.away.deadline())
        times = [t for t in due if t is not None]
        return min(times, default=None)

    def wake(self, now: float) -> list[RibOutput]:
        """Decide what was touched, at most BATCH prefixes; `deadline` says whether there is more."""
        return self._settle(now)

    def _settle(self, now: float) -> list[RibOutput]:
        self._due, self._now = None, now
        self._bury(self.away.due(now))
        self._apply_hops()
        self._apply_labels()
        self._purge()
        budget = BATCH
        while budget > 0 and (dirty := [one for one in self.tables.values() if one.touched]):
            # the VPN tables first: what they bring into the VRFs is then decided in the same round
            for table in sorted(dirty, key=lambda one: not one.family.vpn):
                keys = table.take(max(budget, 1))
                budget -= len(keys)
                self._decided(table, keys, table.decide(keys))
        if self._purging or any(one.touched for one in self.tables.values()):
            self._due = now
        outputs: list[RibOutput] = [*self._collect(), *self._ready(), *self._timers(now)]
        outputs += self._logs
        self._logs = []
        return outputs

    def _decided(self, table: LocRib, keys: list[bytes], changes: list[Change]) -> None:
        if table.family.vpn:
            if self.vpn.imports_anything or self.vpn.placed:
                self.vpn.bring_in(table, keys, self.tables)
            if self.swaps.using or self.swaps.coming:
                self._forget_swaps(table, changes)
            return
        rows = {prefix_of(table.family, change.key): route_of(change.new, table.vrf) for change in changes}
        for key, path in table.take_held().items():
            rows[prefix_of(table.family, key)] = route_of(path, table.vrf)
        self._publish(RouteOffered, table.vrf, rows)
        if table.vrf:
            self.vpn.send_out(table, self.table(DEFAULT_VRF, vpn_family(table.family.afi)), changes)

    def _forget_swaps(self, table: LocRib, changes: Iterable[Change]) -> None:
        for change in changes:
            new = change.new
            if new is None or new.set.source.local or new.set.exported_from is not None:
                self.swaps.forget(table, change.key)

    def _apply_hops(self) -> None:
        """Next hops that changed: their paths are found by looking at all tables once, whatever number changed."""
        for table, key in self.hops.ready:
            table.touched[key] = None
        self.hops.ready.clear()
        changed, self.hops.changed = self.hops.changed, set()
        for hop in changed:
            for loc, key in self.swaps.moved(hop):
                loc.recheck(key)
        for hop in list(self.hops.fresh):
            for loc, key in self.swaps.moved(hop):
                loc.recheck(key)
        self.hops.fresh.clear()
        if changed and self._any_uses(changed):
            for table in self.tables.values():
                touched = table.touched
                for key, net in table.nets.items():
                    for path in net.paths:
                        if path.set.hop in changed:
                            touched[key] = None
                            break

    def _any_uses(self, changed: set[Hop]) -> bool:
        return any(one.hop in changed for one in self._sets())

    def _sets(self) -> Iterable[PathSet]:
        """Every set of neighbours' paths, and what VRFs imported of them."""
        for adj in (*(a for p in self.peers.values() for a in p.adj_in.values()), *self.away.adj_ribs()):
            for one in adj.sets():
                yield one
                if one.imported is not None:
                    yield one.imported

    def _apply_labels(self) -> None:
        changed, self.labels.changed = self.labels.changed, {}
        for fec in changed:
            place = self.swaps.where.get(fec) if isinstance(fec, SwapFec) else None
            if place is not None:
                place[0].recheck(place[1])
            for vrf, family, key in list(self.vpn.by_fec.get(fec, ())):
                table = self.table(vrf, family)
                self.vpn.export(table, self.table(DEFAULT_VRF, vpn_family(family.afi)), key, table.best(key))

    def _purge(self) -> None:
        budget = BATCH
        while self._purging and budget > 0:
            adj = self._purging[0]
            before = len(adj.rows)
            if not adj.purge(budget):
                self._purging.pop(0)
            budget -= before - len(adj.rows)

    def _publish(self, topic: Topic[Any, Any], table: str, rows: Mapping[Any, Any]) -> None:
        if rows:
            self._rows.setdefault((topic, table), {}).update(rows)

    def _collect(self) -> list[RibOutput]:
        """What is to be published since the last time, one batch a topic and table."""
        self.given.settle()
        self._publish(EndpointOffered, "", self.endpoints.rows())
        self._publish(NextHopWanted, "", self.hops.rows)
        self._publish(LabelWanted, "", self.labels.rows)
        self.hops.rows, self.labels.rows = {}, {}
        found: list[RibOutput] = [Publish(topic, table, rows) for (topic, table), rows in self._rows.items()]
        self._rows = {}
        return found

    def _all_groups(self) -> Iterable[UpdateGroup]:
        return [group for table in self.tables.values() for group in table.groups]

    def _ready(self) -> list[RibOutput]:
        """Say once of each group that turned from nothing to something that its members have messages."""
        keys: dict[PeerKey, None] = {}
        held = []
        for group in self._all_groups():
            keys.update((member.source.view.key, None) for member in group.ready(self._now) if member.source.view)
            if (when := group.deadline()) is not None:
                held.append(when)
        self._held_until = min(held, default=None)
        return [OutgoingReady(key) for key in keys]

    def _all_ready(self) -> list[RibOutput]:
        """End-of-RIB may follow now: whoever waits for anything."""
        members = [member for group in self._all_groups() for member in group.all_ready()]
        return [OutgoingReady(key) for key in dict.fromkeys(m.source.view.key for m in members if m.source.view)]

    def _eor_ready(self) -> list[RibOutput]:
        return self._all_ready() if self._inputs_ready else []

    # --- timers -------------------------------------------------------------------------------------------------------

    @property
    def _inputs_ready(self) -> bool:
        """Whether our own routes are complete, labels included, so that End-of-RIB may follow them."""
        if self.restarted and self._sync_at is not None:
            return False  # what neighbours kept of ours must not go before we have it again (RFC 4724 4.1)
        if self._inputs_at is None or not self.hops.resolve:
            return True
        return self._inputs.issuperset(_INPUTS) and not self.vpn.unlabelled

    def _timers(self, now: float) -> list[RibOutput]:
        outputs: list[RibOutput] = []
        if self._inputs_at is not None and (now >= self._inputs_at or self._inputs_ready):
            self._inputs_at = None
            outputs += self._all_ready()
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep_at = None
            self._sweep()
            outputs += self._collect()
        if self._sync_at is not None and (now >= self._sync_at or self._converged()):
            self._sync_at = None
            self._synced = True
            self._known()
            self.labels.forget_before()
            if self.labels.rows:
                self._due = now
            outputs += [SyncedOut(topic) for topic in _SYNCED]
            outputs += self._all_ready()
        return outputs

    @property
    def _may_converge(self) -> bool:
        """Whether it can be known who is still to come."""
        return not self.config.listen_ranges

    def _converged(self) -> bool:
        """All neighbours are up and have sent all they have, what came is decided (RFC 4724 4.1's restarting side), and what
        follows from it is wanted: next hops were answered, and labels asked for as VPN routes went out."""
        inputs = self._inputs_at is None or not self.hops.resolve or self._inputs.issuperset(_INPUTS)
        if not self._may_converge or not inputs or self._due is not None or self.vpn.unlabelled:
            return False
        if any(not hop.known for hop in self.hops.hops.values()):
            return False
        if any(group.pending for group in self._all_groups() if group.loc.family.vpn):
            return False
        peers = [self.peers.get(key) for key in self._expected]
        return all(
            p is not None and (p.view.restarted or all(adj.end_of_rib for adj in p.adj_in.values())) for p in peers
        )

    def _sweep(self) -> None:
        for key in [key for key in self.scopes.peers if key not in self.peers and key not in self.away.peers]:
            self.scopes.leave(key)
        for table in self.tables.values():
            if table.family.vpn and not any(group.outbound.swaps for group in table.groups):
                self.swaps.forget_all(table)
        for adj in (adj for peer in self.peers.values() for adj in peer.adj_in.values()):
            adj.forget()
        used = {one.hop for one in self._sets()}
        kept = self.swaps.hops_in_use()
        kept |= set(self.scopes.wanted())
        used |= {hop for key, hop in self.hops.hops.items() if key in kept}
        for adj in self._purging:
            used |= {path.set.hop for path in adj.rows.values()}
        self.hops.sweep(used)

    # --- the small ones -----------------------------------------------------------------------------------------------

    def _count(self, what: str, by: int = 1) -> None:
        self.counters[what] = self.counters.get(what, 0) + by

    def _log(self, level: str, event: str, **fields: object) -> None:
        self._logs.append(Log(level, event, fields))

    def path_out(self, group: UpdateGroup, key: bytes) -> Path | None:
        """What the members of `group` were last told of `key`."""
        return group.advertised.get(key)


def _neighbours(config: BgpConfig) -> frozenset[PeerKey]:
    """Those that should come up."""
    return frozenset(key for key, one in config.neighbors.items() if not merged(config, one).shutdown)


def _maps(config: Any) -> frozenset[str]:
    return frozenset(one.route_map for one in config.redistribute) | frozenset(name for _, name in config.networks)


def _too_many(key: PeerKey, family: Family, bound: int) -> NotifyPeer:
    """RFC 4486 4: the data are AFI, SAFI and the bound, in octets."""
    octets = family.afi.to_bytes(2) + family.safi.to_bytes(1) + bound.to_bytes(4)
    reason = f"more than {bound} {family} routes"
    return NotifyPeer(key, ErrorCode.CEASE, CeaseSubcode.MAXIMUM_PREFIXES, octets, reason)
