"""Route maps: which routes pass, and what is changed on them.

Sequences are tried in the order of their numbers. In one sequence all kinds of match must hold, of one kind any value;
no match at all matches every route. The first sequence that matches decides: `deny` refuses the route, `permit` passes
it with the sequence's changes. A route that no sequence matches is refused. A permitted route without
`set ... encapsulate` takes an LSP.

A route map names its lists; `compile` looks them up. A list that does not exist permits all (IOS), and the compiled map
remembers it in `undefined`, for `check` and the log. `match ip address` and `match ipv6 address` are one kind: a route
is tested by the lines of its own family, and fails if there are only lines of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from attrs import evolve, field, frozen

from stack.addr import RT, Afi, LabelStack, Prefix
from stack.policy.lists import AccessList, CommunityList, ExtCommunityList, PrefixList

__all__ = [
    "DEFAULT_ROUTE_MAP",
    "Changes",
    "CompiledMap",
    "ListSource",
    "Lists",
    "Match",
    "MatchAccess",
    "MatchCommunity",
    "MatchExtCommunity",
    "MatchLocalPreference",
    "MatchMetric",
    "MatchNextHop",
    "MatchPrefix",
    "MatchTag",
    "Outcome",
    "RouteMap",
    "RouteView",
    "Sequence",
    "Set",
    "SetAsPathPrepend",
    "SetCommunity",
    "SetEncapsulate",
    "SetLocalPreference",
    "SetMetric",
    "SetNextHop",
    "SetRouteTarget",
    "SetTag",
    "SetWeight",
    "compile",
    "default_route_map",
]


class RouteView(NamedTuple):
    """A route as policy sees it. Communities are 32-bit values, extended ones 8 octets, large ones three numbers."""

    prefix: Prefix
    afi: Afi
    next_hop: bytes = b""
    communities: frozenset[int] = frozenset()
    ext_communities: frozenset[bytes] = frozenset()
    large_communities: frozenset[tuple[int, int, int]] = frozenset()
    as_path: tuple[int, ...] = ()
    tag: int = 0
    metric: int | None = None
    local_preference: int | None = None
    labels: LabelStack = ()


# --- matches ----------------------------------------------------------------------------------------------------------


@frozen
class MatchPrefix:
    """`match {ip|ipv6} address prefix-list NAME...`"""

    afi: Afi
    names: tuple[str, ...]


@frozen
class MatchAccess:
    """`match {ip|ipv6} address NAME...` (access lists)"""

    afi: Afi
    names: tuple[str, ...]


@frozen
class MatchNextHop:
    """`match {ip|ipv6} next-hop prefix-list NAME...`. The next hop's own family must be `afi`."""

    afi: Afi
    names: tuple[str, ...]


@frozen
class MatchTag:
    """`match tag N...`"""

    tags: frozenset[int] = field(converter=frozenset)


@frozen
class MatchMetric:
    """`match metric N...`"""

    metrics: frozenset[int] = field(converter=frozenset)


@frozen
class MatchLocalPreference:
    """`match local-preference N...`"""

    values: frozenset[int] = field(converter=frozenset)


@frozen
class MatchCommunity:
    """`match community NAME... [exact-match]`"""

    names: tuple[str, ...]
    exact: bool = False


@frozen
class MatchExtCommunity:
    """`match extcommunity NAME...`"""

    names: tuple[str, ...]


Match = (
    MatchPrefix
    | MatchAccess
    | MatchNextHop
    | MatchTag
    | MatchMetric
    | MatchLocalPreference
    | MatchCommunity
    | MatchExtCommunity
)

# --- sets -------------------------------------------------------------------------------------------------------------


@frozen
class SetEncapsulate:
    """`set {ip|ipv6} next-hop encapsulate l3vpn PROFILE`: routes of `afi` go by the profile's tunnel."""

    afi: Afi
    profile: str


@frozen
class SetNextHop:
    """`set {ip|ipv6} next-hop ADDRESS`, on routes of `afi`."""

    afi: Afi
    address: bytes


@frozen
class SetLocalPreference:
    value: int


@frozen
class SetMetric:
    """`set metric N`, or relative: `set metric +N`, `set metric -N`. The result stays within 32 bits."""

    value: int
    relative: bool = False


@frozen
class SetTag:
    value: int


@frozen
class SetWeight:
    value: int


@frozen
class SetCommunity:
    """`set community N... [additive]`. No communities and not additive: `set community none`."""

    communities: frozenset[int] = field(converter=frozenset)
    additive: bool = False


@frozen
class SetRouteTarget:
    """`set extcommunity rt RT... [additive]`. Other kinds of extended communities stay."""

    targets: frozenset[RT] = field(converter=frozenset)
    additive: bool = False


@frozen
class SetAsPathPrepend:
    """`set as-path prepend AS...`"""

    asns: tuple[int, ...]


Set = (
    SetEncapsulate
    | SetNextHop
    | SetLocalPreference
    | SetMetric
    | SetTag
    | SetWeight
    | SetCommunity
    | SetRouteTarget
    | SetAsPathPrepend
)


@frozen
class Sequence:
    """`route-map NAME {permit|deny} NUMBER` and the lines in it."""

    number: int
    permit: bool = True
    matches: tuple[Match, ...] = ()
    sets: tuple[Set, ...] = ()
    description: str = ""


def _by_number(sequences: tuple[Sequence, ...]) -> tuple[Sequence, ...]:
    return tuple(sequence for _, sequence in sorted({s.number: s for s in sequences}.items()))


@frozen
class RouteMap:
    """Sequences in order of their numbers; of two with one number the later one stands."""

    name: str
    sequences: tuple[Sequence, ...] = field(default=(), converter=_by_number)


# --- what a map says of a route ---------------------------------------------------------------------------------------


@frozen
class Changes:
    """What to change; None (and an empty prepend) leaves things as they are.

    `communities` and `ext_communities` are the whole new sets, additive ones already merged.
    """

    encapsulate: str | None = None
    next_hop: bytes | None = None
    local_preference: int | None = None
    metric: int | None = None
    tag: int | None = None
    weight: int | None = None
    communities: frozenset[int] | None = None
    ext_communities: frozenset[bytes] | None = None
    as_path_prepend: tuple[int, ...] = ()


_NOTHING = Changes()


class Outcome(NamedTuple):
    """`sequence` None: none matched. Refused routes have no changes."""

    permitted: bool
    sequence: int | None
    changes: Changes


_REFUSED = Outcome(permitted=False, sequence=None, changes=_NOTHING)


class ListSource(Protocol):
    """Whoever holds lists by name: NodeConfig does, and `Lists`."""

    @property
    def prefix_lists(self) -> Mapping[str, PrefixList]: ...
    @property
    def access_lists(self) -> Mapping[str, AccessList]: ...
    @property
    def community_lists(self) -> Mapping[str, CommunityList]: ...
    @property
    def extcommunity_lists(self) -> Mapping[str, ExtCommunityList]: ...


@frozen
class Lists:
    prefix_lists: Mapping[str, PrefixList] = field(factory=dict)
    access_lists: Mapping[str, AccessList] = field(factory=dict)
    community_lists: Mapping[str, CommunityList] = field(factory=dict)
    extcommunity_lists: Mapping[str, ExtCommunityList] = field(factory=dict)


Test = Callable[[RouteView], bool]


@frozen
class _Step:
    number: int
    permit: bool
    tests: tuple[Test, ...]
    sets: tuple[Set, ...]
    outcomes: dict[Afi, Outcome] = field(factory=dict, eq=False)
    """By family, the outcome of a sequence whose changes do not depend on the route."""


@frozen
class CompiledMap:
    """A route map with its lists looked up. Equal if the map and the lists it uses are."""

    source: RouteMap
    used: tuple[Any, ...]
    undefined: tuple[tuple[str, str], ...]
    """(kind, name) of the lists that do not exist: they permit all."""
    _steps: tuple[_Step, ...] = field(eq=False, repr=False)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def profiles(self) -> frozenset[str]:
        """The L3VPN profiles that this map may send routes to."""
        return frozenset(
            s.profile for sequence in self.source.sequences for s in sequence.sets if isinstance(s, SetEncapsulate)
        )

    def apply(self, view: RouteView) -> Outcome:
        for step in self._steps:
            for test in step.tests:
                if not test(view):
                    break
            else:
                return step.outcomes.get(view.afi) or Outcome(
                    permitted=True, sequence=step.number, changes=_changes(step.sets, view)
                )
        return _REFUSED


def compile(  # noqa: A001  (read it as routemap.compile, like re.compile)
    route_maps: Mapping[str, RouteMap], lists: ListSource
) -> Mapping[str, CompiledMap]:
    """Every map of `route_maps` with its lists looked up in `lists`, by name."""
    return {name: _compile(route_map, lists) for name, route_map in route_maps.items()}


def _compile(route_map: RouteMap, lists: ListSource) -> CompiledMap:
    book = _Book(lists)
    steps = []
    for sequence in route_map.sequences:
        step = _Step(sequence.number, sequence.permit, _tests(sequence.matches, book), sequence.sets)
        for afi in Afi:
            if not sequence.permit:
                step.outcomes[afi] = Outcome(permitted=False, sequence=sequence.number, changes=_NOTHING)
            elif not any(_depends(s) for s in sequence.sets):
                changes = _changes(sequence.sets, RouteView(Prefix(b"", 0), afi))
                step.outcomes[afi] = Outcome(permitted=True, sequence=sequence.number, changes=changes)
        steps.append(step)
    return CompiledMap(route_map, tuple(book.used), tuple(dict.fromkeys(book.undefined)), tuple(steps))


def _depends(change: Set) -> bool:
    """Whether what a set makes of a route depends on the route (beyond its family)."""
    match change:
        case SetCommunity(additive=additive):
            return additive
        case SetMetric(relative=relative):
            return relative
        case SetRouteTarget():
            return True
        case _:
            return False


@frozen
class _Book:
    """Looks lists up and notes which were used and which were not there."""

    lists: ListSource
    used: list[Any] = field(factory=list)
    undefined: list[tuple[str, str]] = field(factory=list)

    def find(self, kind: str, shelf: Mapping[str, Any], name: str) -> Any | None:
        found = shelf.get(name)
        if found is None:
            self.undefined.append((kind, name))
        else:
            self.used.append(found)
        return found

    def prefixes(self, afi: Afi, name: str) -> Callable[[Prefix], bool]:
        kind = "ip prefix-list" if afi == Afi.IPV4 else "ipv6 prefix-list"
        same_family = {n: found for n, found in self.lists.prefix_lists.items() if found.afi == afi and n == name}
        found: PrefixList | None = self.find(kind, same_family, name)
        return (lambda _prefix: True) if found is None else found.matcher()


def _tests(matches: tuple[Match, ...], book: _Book) -> tuple[Test, ...]:
    """One test a kind of match: lines of one kind are alternatives, as if written on one line."""
    kinds: dict[Any, list[Test]] = {}
    for match in matches:
        kind = MatchPrefix if isinstance(match, MatchAccess) else type(match)
        kinds.setdefault(kind, []).append(_test(match, book))
    return tuple(tests[0] if len(tests) == 1 else _any(tuple(tests)) for tests in kinds.values())


def _any(tests: tuple[Test, ...]) -> Test:
    return lambda view: any(test(view) for test in tests)


def _test(match: Match, book: _Book) -> Test:
    match match:
        case MatchPrefix(afi, names):
            prefixes = tuple(book.prefixes(afi, name) for name in names)
            return lambda view: view.afi == afi and any(permits(view.prefix) for permits in prefixes)
        case MatchNextHop(afi, names):
            hops = tuple(book.prefixes(afi, name) for name in names)
            size = 4 if afi == Afi.IPV4 else 16
            return lambda view: (
                len(view.next_hop) == size and any(permits(Prefix.host(view.next_hop)) for permits in hops)
            )
        case MatchAccess(afi, names):
            access = tuple(book.find("access-list", book.lists.access_lists, name) for name in names)
            return lambda view: (
                view.afi == afi and any(found is None or found.permits_route(view.prefix) for found in access)
            )
        case MatchTag(tags):
            return lambda view: view.tag in tags
        case MatchMetric(metrics):
            return lambda view: (view.metric or 0) in metrics
        case MatchLocalPreference(values):
            return lambda view: view.local_preference in values
        case MatchCommunity(names, exact):
            lists = tuple(book.find("community-list", book.lists.community_lists, name) for name in names)
            return lambda view: any(found is None or found.permits(view.communities, exact=exact) for found in lists)
        case MatchExtCommunity(names):
            ext = tuple(book.find("extcommunity-list", book.lists.extcommunity_lists, name) for name in names)
            return lambda view: any(found is None or found.permits(view.ext_communities) for found in ext)


def _changes(sets: tuple[Set, ...], view: RouteView) -> Changes:
    changes = _NOTHING
    for change in sets:
        match change:
            case SetEncapsulate(afi, profile):
                if afi == view.afi:
                    changes = evolve(changes, encapsulate=profile)
            case SetNextHop(afi, address):
                if afi == view.afi:
                    changes = evolve(changes, next_hop=address)
            case SetLocalPreference(value):
                changes = evolve(changes, local_preference=value)
            case SetMetric(value, relative):
                total = (view.metric or 0) + value if relative else value
                changes = evolve(changes, metric=min(max(total, 0), 0xFFFFFFFF))
            case SetTag(value):
                changes = evolve(changes, tag=value)
            case SetWeight(value):
                changes = evolve(changes, weight=value)
            case SetCommunity(communities, additive):
                changes = evolve(changes, communities=view.communities | communities if additive else communities)
            case SetRouteTarget(targets, additive):
                others = (c for c in view.ext_communities if additive or not _is_route_target(c))
                changes = evolve(changes, ext_communities=frozenset((*others, *targets)))
            case SetAsPathPrepend(asns):
                changes = evolve(changes, as_path_prepend=changes.as_path_prepend + asns)
    return changes


def _is_route_target(community: bytes) -> bool:
    """RFC 4360 4, RFC 5668: types 0x00, 0x01 and 0x02, sub-type 2."""
    return community[0] <= 2 and community[1] == 2


# --- the map that the system makes ------------------------------------------------------------------------------------

DEFAULT_ROUTE_MAP = "L3VPN-"
"""The default route map of an L3VPN encapsulation profile is named this, followed by the profile's name."""


def default_route_map(profile: str) -> RouteMap:
    """The map that comes with an L3VPN profile: every route, IPv4 and IPv6, goes by its tunnel. It can be attached like
    any other map, and a map of the same name that the user wrote replaces it."""
    sets: tuple[Set, ...] = (SetEncapsulate(Afi.IPV4, profile), SetEncapsulate(Afi.IPV6, profile))
    return RouteMap(DEFAULT_ROUTE_MAP + profile, (Sequence(10, sets=sets),))
