"""What this router originates: routes of the RIB that `redistribute`, `network` and `default-information` pick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import define, field

from bgp.config import BgpConfig, FamilyConfig, Redistribute
from bgp.engine.paths import ALWAYS, LOCAL_WEIGHT, Path, PathSet, Source, local_source
from bgp.engine.policy import Policies, changed, view_of
from bgp.wire import AsPath, Attributes, Family, Origin, ip_nlri
from stack.addr import Afi, Prefix, Safi
from stack.events import Selected
from stack.policy.routemap import Changes

__all__ = ["OWNER", "Local"]

OWNER = "bgp"
"""Our own name as owner of routes."""


@define(eq=False)
class Local:
    """`selected`: VRF -> prefix -> the route in use, of other owners everywhere, and of ours in VRFs (labels need the next
    hop's id). `placed`: the paths that were made of them. Bounded by the RIB."""

    config: BgpConfig
    policies: Policies
    router_id: bytes
    selected: dict[str, dict[Prefix, Selected]] = field(factory=dict)
    placed: dict[tuple[str, Prefix], Path] = field(factory=dict)
    _sources: dict[str, Source] = field(factory=dict)

    def source(self, vrf: str) -> Source:
        found = self._sources.get(vrf)
        if found is None:
            found = self._sources[vrf] = local_source(vrf, self.router_id)
        return found

    def receive(self, vrf: str, rows: Mapping[Prefix, Selected | None]) -> list[Prefix]:
        """Rows of RouteSelected; returns the prefixes that must be looked at."""
        known = self.selected.setdefault(vrf, {})
        found = []
        for prefix, row in rows.items():
            old = known.get(prefix)
            if row is None or (row.owner == OWNER and not vrf):
                if old is None:
                    continue
                del known[prefix]
            else:
                known[prefix] = row
            found.append(prefix)
        return found

    def next_hop_id(self, vrf: str, prefix: Prefix) -> int:
        """The id that a labelled packet for `prefix` is sent to after the pop; 0: look it up in the VRF instead.

        Connected, local and discard routes are looked up: their packets need a neighbour, or an answer from here.
        """
        selected = self.selected.get(vrf, {}).get(prefix)
        if selected is None or not any(via.address for via in selected.route.vias):
            return 0
        return selected.next_hop

    def originate(self, vrf: str, prefix: Prefix) -> Path | None:
        """The path that this router originates for `prefix`, if any."""
        selected = self.selected.get(vrf, {}).get(prefix)
        config = self.config.families.get((prefix.afi, Safi.UNICAST, vrf))
        if selected is None or selected.owner == OWNER or config is None:
            return None
        for network, route_map in config.networks:
            if network == prefix:
                return self._path(vrf, prefix, selected, Origin.IGP, route_map)
        if prefix.length == 0 and not config.default_information:
            return None  # IOS: the default route is redistributed only with `default-information originate`
        rule = _redistributed(config, selected)
        return None if rule is None else self._path(vrf, prefix, selected, Origin.INCOMPLETE, rule.route_map)

    def _path(self, vrf: str, prefix: Prefix, selected: Selected, origin: Origin, route_map: str) -> Path | None:
        family = Family(prefix.afi, Safi.UNICAST)
        route = selected.route
        next_hop = next((via.address for via in route.vias if via.address), b"")
        attributes = Attributes.of(origin=origin, as_path=AsPath(), med=route.metric)
        changes = Changes()
        if route_map:
            view = view_of(prefix, family, attributes, next_hop, tag=route.tag)
            ruling = self.policies.filter("", route_map).rule(view)
            if not ruling.permitted:
                return None
            changes = ruling.changes
            attributes = changed(attributes, changes)
        one = PathSet(
            source=self.source(vrf),
            family=family,
            received=attributes,
            received_hop=next_hop,
            attributes=attributes,
            next_hop=next_hop,
            hop=ALWAYS,
            peer_hop=next_hop,
            weight=LOCAL_WEIGHT if changes.weight is None else changes.weight,
            tag=route.tag if changes.tag is None else changes.tag,
            selected=selected,
        )
        return Path(one, ip_nlri(prefix))

    def same(self, one: Path | None, other: Path | None) -> bool:
        """Whether two originated paths say the same, so that nothing needs to be told."""
        if one is None or other is None:
            return one is other
        a, b = one.set, other.set
        return (
            a.attributes == b.attributes
            and a.next_hop == b.next_hop
            and (a.weight, a.tag) == (b.weight, b.tag)
            and a.selected is not None
            and b.selected is not None
            and a.selected.route == b.selected.route
            and a.selected.next_hop == b.selected.next_hop
        )

    def prefixes(self, vrf: str, afi: Afi) -> Iterable[Prefix]:
        """All prefixes that may be originated, or were."""
        known = [prefix for prefix in self.selected.get(vrf, {}) if prefix.afi == afi]
        return dict.fromkeys((*known, *(p for (name, p) in self.placed if name == vrf and p.afi == afi)))

    def default(self, vrf: str, afi: Afi) -> Path:
        """What `neighbor ... default-originate` announces: unconditionally, whatever the RIB holds."""
        prefix = Prefix(b"\0" * (4 if afi == Afi.IPV4 else 16), 0)
        attributes = Attributes.of(origin=Origin.IGP, as_path=AsPath(), med=0)
        one = PathSet(
            self.source(vrf), Family(afi, Safi.UNICAST), attributes, b"", attributes, b"", ALWAYS, weight=LOCAL_WEIGHT
        )
        return Path(one, ip_nlri(prefix))


def _redistributed(config: FamilyConfig, selected: Selected) -> Redistribute | None:
    """Static routes of another distance have an owner of their own, named `static N`. A router's own addresses (`local`)
    are not connected networks."""
    if selected.route.kind == "local":
        return None
    for one in config.redistribute:
        if selected.owner == one.source or selected.owner.startswith(one.source + " "):
            return one
    return None
