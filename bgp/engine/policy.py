"""Route policy as the tables apply it: PolicyState rows in, a Ruling for each route out. Changes become attributes here.

A route map or prefix list that is named but does not exist refuses every route: a typing error must not open a VPN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from attrs import define, field

from bgp.wire import Attributes, AttributeValues, Family, Nlri, prefix_of
from stack.addr import Afi, Prefix
from stack.policy.lists import PrefixList
from stack.policy.routemap import Changes, CompiledMap, MatchAccess, MatchPrefix, RouteView

__all__ = ["PERMITTED", "Filter", "Policies", "Ruling", "changed", "view_of"]

NO_CHANGES = Changes()


class Ruling(NamedTuple):
    """`permitted`, and what to change; `why` it was refused."""

    permitted: bool
    changes: Changes = NO_CHANGES
    why: str = ""


PERMITTED = Ruling(permitted=True)


def view_of(
    prefix: Prefix,
    family: Family,
    attributes: Attributes,
    next_hop: bytes,
    *,
    tag: int = 0,
    labels: tuple[int, ...] = (),
) -> RouteView:
    return RouteView(
        prefix=prefix,
        afi=Afi(family.afi),
        next_hop=next_hop,
        communities=frozenset(attributes.communities),
        ext_communities=frozenset(attributes.ext_communities),
        large_communities=frozenset(tuple(one) for one in attributes.large_communities),  # type: ignore[misc]  # 3 ints
        as_path=tuple(attributes.as_path.asns),
        tag=tag,
        metric=attributes.med,
        local_preference=attributes.local_pref,
        labels=labels,
    )


def changed(attributes: Attributes, changes: Changes) -> Attributes:
    """`attributes` as a route map changed them (next hop, encapsulation, weight and tag are not attributes)."""
    if changes == NO_CHANGES:
        return attributes
    values = AttributeValues()
    if changes.local_preference is not None:
        values["local_pref"] = changes.local_preference
    if changes.metric is not None:
        values["med"] = changes.metric
    if changes.communities is not None:
        values["communities"] = sorted(changes.communities)
    if changes.ext_communities is not None:
        values["ext_communities"] = sorted(changes.ext_communities)
    if changes.as_path_prepend:
        path = attributes.as_path
        for asn in reversed(changes.as_path_prepend):
            path = path.prepend(asn)
        values["as_path"] = path
    return attributes.replace(**values) if values else attributes


@define(eq=False)
class Policies:
    """The compiled route maps and the prefix lists of the node, by name."""

    maps: dict[str, CompiledMap] = field(factory=dict)
    lists: dict[str, PrefixList] = field(factory=dict)

    def receive(self, rows: Mapping[tuple[str, str], Any]) -> frozenset[str]:
        """Rows of PolicyState; returns the names whose content changed."""
        names = set()
        for (kind, name), row in rows.items():
            if kind not in ("route-map", "prefix-list"):
                continue
            shelf: dict[str, Any] = self.maps if kind == "route-map" else self.lists
            if shelf.get(name) == row:
                continue
            names.add(name)
            if row is None:
                shelf.pop(name, None)
            else:
                shelf[name] = row
        return frozenset(names)

    def filter(self, prefix_list: str, route_map: str) -> Filter:
        """What a neighbour's `prefix-list` and `route-map` (names or '') do together, in that order."""
        return Filter(
            tuple(name for name in (prefix_list, route_map) if name),
            self.lists.get(prefix_list) if prefix_list else None,
            self.maps.get(route_map) if route_map else None,
            _missing(("prefix list", prefix_list, self.lists), ("route map", route_map, self.maps)),
        )


def _missing(*wanted: tuple[str, str, Mapping[str, Any]]) -> str:
    for kind, name, shelf in wanted:
        if name and name not in shelf:
            return f"{kind} {name} does not exist"
    return ""


@define(eq=False)
class Filter:
    """A prefix list and a route map, looked up. `names` are those it depends on."""

    names: tuple[str, ...]
    prefixes: PrefixList | None
    route_map: CompiledMap | None
    missing: str
    per_prefix: bool = field(init=False)
    """Whether two routes with the same attributes can be ruled differently."""
    _permits: Any = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.per_prefix = self.prefixes is not None or (self.route_map is not None and _by_prefix(self.route_map))
        if self.prefixes is not None:
            self._permits = self.prefixes.matcher()

    @property
    def empty(self) -> bool:
        return not self.names

    def rule(self, view: RouteView) -> Ruling:
        if self.missing:
            return Ruling(permitted=False, why=self.missing)
        if self._permits is not None and not self._permits(view.prefix):
            return Ruling(permitted=False, why=f"denied by prefix list {self.names[0]}")
        if self.route_map is None:
            return PERMITTED
        outcome = self.route_map.apply(view)
        if not outcome.permitted:
            at = "" if outcome.sequence is None else f" sequence {outcome.sequence}"
            return Ruling(permitted=False, why=f"denied by route map {self.names[-1]}{at}")
        return Ruling(permitted=True, changes=outcome.changes)

    def rule_each(self, base: RouteView, family: Family, routes: Iterable[Nlri]) -> Iterable[tuple[Nlri, Ruling]]:
        """Rulings of routes that differ from `base` in their prefix (and labels) only."""
        for nlri in routes:
            yield nlri, self.rule(base._replace(prefix=prefix_of(family, nlri.key), labels=nlri.labels))


def _by_prefix(route_map: CompiledMap) -> bool:
    return any(
        isinstance(match, MatchPrefix | MatchAccess)
        for sequence in route_map.source.sequences
        for match in sequence.matches
    )
