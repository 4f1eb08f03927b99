"""The floor's own lines of policy: prefix, access and community lists, and route maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve

from stack.addr import RT, Afi
from stack.config import NodeConfig
from stack.ios.grammar import (
    CONFIG,
    RANK,
    Draft,
    Line,
    Place,
    Refusal,
    Sections,
    Values,
    opening,
    refused,
    setting,
    value,
)
from stack.policy.lists import (
    AccessEntry,
    AccessList,
    CommunityEntry,
    CommunityList,
    ExtCommunityEntry,
    ExtCommunityList,
    PrefixEntry,
    PrefixList,
)
from stack.policy.routemap import (
    Match,
    MatchAccess,
    MatchCommunity,
    MatchExtCommunity,
    MatchLocalPreference,
    MatchMetric,
    MatchNextHop,
    MatchPrefix,
    MatchTag,
    RouteMap,
    Sequence,
    Set,
    SetAsPathPrepend,
    SetCommunity,
    SetEncapsulate,
    SetLocalPreference,
    SetMetric,
    SetNextHop,
    SetRouteTarget,
    SetTag,
    SetWeight,
)

__all__ = ["POLICY_LINES", "match_lines", "set_lines"]

_MAP_MODE, _STANDARD, _EXTENDED = "config-route-map", "config-std-nacl", "config-ext-nacl"
_NUMBER = "int:1-4294967295"


def _pile(draft: Draft, shelf: str, name: str, make: Callable[[], Any]) -> dict[int, Any]:
    """The entries of one list (or the sequences of one map) by number, while the text is read.

    The list itself exists at once, so that it can be named; its entries come when the text ends. With the last of them
    it goes.
    """
    held = draft.shelf(NodeConfig, shelf)
    if name not in held:
        held[name] = make()

    def load() -> dict[Any, Any]:
        return {entry.number: entry for entry in _entries(held[name])}

    def store(draft: Draft, pile: dict[Any, Any]) -> None:
        shelves = draft.shelf(NodeConfig, shelf)
        if not pile and shelf != "access_lists" and not getattr(shelves.get(name), "description", ""):
            shelves.pop(name, None)
        elif name in shelves:
            field = "sequences" if shelf == "route_maps" else "entries"
            shelves[name] = evolve(shelves[name], **{field: tuple(pile.values())})

    return draft.pile((shelf, name), load, store)


def _entries(held: Any) -> tuple[Any, ...]:
    entries: tuple[Any, ...] = held.sequences if isinstance(held, RouteMap) else held.entries
    return entries


def _next_number(pile: dict[int, Any], step: int) -> int:
    return (max(pile, default=0) // step + 1) * step


def _permit(values: Values) -> bool:
    return bool(values["action"] == "permit")


def _word(permit: bool) -> str:
    return "permit" if permit else "deny"


def _remove(
    shelf: str, draft: Draft, values: Values, matches: Callable[[Any, Values], bool], make: Callable[[], Any]
) -> None:
    """`no` before an entry: the list if no entry is given, else the entries that `matches` finds."""
    name = str(values["name"])
    if name not in draft.shelf(NodeConfig, shelf):
        raise Refusal(f"there is no list {name!r}", "name")
    pile = _pile(draft, shelf, name, make)
    if "action" not in values and "seq" not in values:
        pile.clear()
        draft.settle()
        draft.shelf(NodeConfig, shelf).pop(name, None)
        return
    gone = [number for number, entry in pile.items() if values.get("seq", number) == number and matches(entry, values)]
    if not gone:
        raise Refusal("there is no such entry")
    for number in gone:
        del pile[number]


# --- prefix lists -----------------------------------------------------------------------------------------------------


def _prefix_list(draft: Draft, values: Values, afi: Afi) -> dict[int, Any]:
    name = values["name"]
    held = draft[NodeConfig].prefix_lists.get(name)
    if held is not None and held.afi is not afi:
        raise Refusal(
            f"prefix list {name!r} is of the other address family; a name can be used for one of them", "name"
        )
    return _pile(draft, "prefix_lists", name, lambda: PrefixList(name, afi))


def _prefix_list_place(afi: Afi) -> Place[PrefixList]:
    """Only for printing, list by list: entries are written by their pile."""
    return Place(
        fetch=lambda sections, values: sections[NodeConfig].prefix_lists.get(values["name"]),
        store=lambda _draft, _values, _held: None,
        make=lambda values: PrefixList(values["name"], afi),
        keys=lambda sections, _values: [
            {"name": name} for name, held in sections[NodeConfig].prefix_lists.items() if held.afi is afi
        ],
    )


def _prefix_list_lines(afi: Afi, word: str, kind: str, bits: int, order: int) -> tuple[Line, ...]:
    def put(draft: Draft, values: Values) -> None:
        pile = _prefix_list(draft, values, afi)
        number = values.get("seq") or _next_number(pile, 5)
        try:
            pile[number] = PrefixEntry(number, _permit(values), values["prefix"], values.get("ge"), values.get("le"))
        except ValueError:
            length = values["prefix"].length
            why = f"the prefix has {length} bits, so {length} <= ge <= le <= {bits} is wanted"
            raise Refusal(why, "ge" if "ge" in values else "le") from None

    def same(entry: PrefixEntry, values: Values) -> bool:
        wanted = values.get("prefix", entry.prefix), values.get("action", _word(entry.permit))
        return wanted == (entry.prefix, _word(entry.permit))

    def remove(draft: Draft, values: Values) -> None:
        _remove("prefix_lists", draft, values, same, lambda: PrefixList(values["name"], afi))

    def describe(draft: Draft, values: Values) -> None:
        _prefix_list(draft, values, afi)
        shelf = draft.shelf(NodeConfig, "prefix_lists")
        shelf[values["name"]] = evolve(shelf[values["name"]], description=values.get("text", ""))

    def show(sections: Sections, values: Values) -> Iterable[Values]:
        for entry in sections[NodeConfig].prefix_lists[values["name"]].entries:
            yield {
                "seq": entry.number,
                "action": _word(entry.permit),
                "prefix": entry.prefix,
                "ge": entry.ge,
                "le": entry.le,
            }

    def show_text(sections: Sections, values: Values) -> Iterable[Values]:
        text = sections[NodeConfig].prefix_lists[values["name"]].description
        return ({"text": text},) if text else ()

    place = _prefix_list_place(afi)
    lengths = f"[ge {{ge:int:0-{bits}}}] [le {{le:int:0-{bits}}}]"
    entry = f"[seq {{seq:{_NUMBER}}}] {{action:permit|deny}} {{prefix:{kind}}} {lengths}"
    return (
        Line(
            (CONFIG,),
            f"{word} prefix-list {{name:word}} description {{text:text}}",
            "a remark",
            edit=describe,
            undo=describe,
            show=show_text,
            place=place,
            order=order,
        ),
        Line(
            (CONFIG,),
            f"{word} prefix-list {{name:word}} {entry}",
            "prefixes: the first entry that matches decides, and what none matches is denied",
            edit=put,
            undo=remove,
            show=show,
            place=place,
            no=f"{word} prefix-list {{name:word}} [seq {{seq:{_NUMBER}}} | {entry}]",
            order=order,
        ),
    )


# --- access lists -----------------------------------------------------------------------------------------------------

_SOURCE = "({any:=any} | host {address:ipv4} | {address:ipv4} [{wildcard:wildcard}])"
_ALL = b"\xff\xff\xff\xff"


def _access_entry(number: int, values: Values) -> AccessEntry:
    everywhere = b"\0\0\0\0"
    address = values.get("address", everywhere)
    extended = "protocol" in values
    return AccessEntry(
        number,
        _permit(values),
        address,
        values.get("wildcard", b"") if "address" in values else _ALL,
        values.get("to", everywhere) if extended else b"",
        (values.get("to_wildcard", b"") if "to" in values else _ALL) if extended else b"",
        values.get("protocol", "ip"),
    )


def _access_values(entry: AccessEntry) -> Values:
    found: dict[str, Any] = {"seq": entry.number, "action": _word(entry.permit)}
    if entry.wildcard == _ALL and not any(entry.address):
        found["any"] = "any"
    else:
        found |= {"address": entry.address, "wildcard": entry.wildcard, "host": not entry.wildcard}
    if entry.destination:
        found["protocol"] = entry.protocol
        if entry.destination_wildcard == _ALL and not any(entry.destination):
            found["to_any"] = "any"
        else:
            found |= {
                "to": entry.destination,
                "to_wildcard": entry.destination_wildcard,
                "to_host": None if entry.destination_wildcard else "host",
            }
    return found


def _access_pile(draft: Draft, values: Values) -> dict[int, Any]:
    extended = values.get("style") == "extended"
    return _pile(draft, "access_lists", str(values["list"]), lambda: AccessList(str(values["list"]), extended))


def _put_access(draft: Draft, values: Values) -> None:
    pile = _access_pile(draft, values)
    number = values.get("seq") or _next_number(pile, 10)
    pile[number] = _access_entry(number, values)


def _remove_access(draft: Draft, values: Values) -> None:
    pile = _access_pile(draft, values)
    number = values.get("seq")
    if "action" in values:
        wanted = evolve(_access_entry(0, values))
        number = next((n for n, e in pile.items() if evolve(e, number=0) == wanted and number in (None, n)), None)
    if number not in pile:
        raise Refusal("there is no such entry")
    del pile[number]


def _show_access(sections: Sections, values: Values) -> Iterable[Values]:
    return [_access_values(entry) for entry in sections[NodeConfig].access_lists[values["list"]].entries]


def _open_access(draft: Draft, values: Values) -> None:
    held = draft[NodeConfig].access_lists.get(values["list"])
    if held is not None and held.extended != (values["style"] == "extended"):
        raise Refusal(f"access list {values['list']!r} is of the other style", "list")
    _access_pile(draft, values)


def _drop_access(draft: Draft, values: Values) -> None:
    _access_pile(draft, values).clear()
    draft.settle()
    draft.shelf(NodeConfig, "access_lists").pop(values["list"], None)


def _access_list_lines() -> Iterable[Line]:
    for style, mode in (("standard", _STANDARD), ("extended", _EXTENDED)):
        yield Line(
            (CONFIG,),
            f"ip access-list {{style:={style}}} {{list:word}}",
            "addresses: the first entry that matches decides, and what none matches is denied",
            edit=_open_access,
            undo=_drop_access,
            show=lambda sections, values, style=style: [  # type: ignore[misc]  # a default argument binds the loop's value
                {"list": name, "style": style}
                for name, held in sections[NodeConfig].access_lists.items()
                if held.extended == (style == "extended") and values.get("list", name) == name
            ],
            enters=mode,
            order=72,
        )
    number = f"[{{seq:{_NUMBER}}}]"
    yield Line(
        (_STANDARD,),
        f"{number} {{action:permit|deny}} {_SOURCE}",
        "an entry",
        edit=_put_access,
        undo=_remove_access,
        show=_show_access,
        no=f"({{seq:{_NUMBER}}} | {number} {{action:permit|deny}} {_SOURCE})",
    )
    destination = "({to_any:=any} | {to_host:=host} {to:ipv4} | {to:ipv4} {to_wildcard:wildcard})"
    source = "({any:=any} | host {address:ipv4} | {address:ipv4} {wildcard:wildcard})"
    protocol = "{protocol:ip|tcp|udp|icmp|gre|esp|ahp}"
    yield Line(
        (_EXTENDED,),
        f"{number} {{action:permit|deny}} {protocol} {source} {destination}",
        "an entry; as a list of routes: network, and netmask as the destination",
        edit=_put_access,
        undo=_remove_access,
        show=_show_access,
        no=f"({{seq:{_NUMBER}}} | {number} {{action:permit|deny}} {protocol} {source} {destination})",
    )
    yield Line(
        (CONFIG,),
        f"access-list {{list:int:1-99}} {{action:permit|deny}} {_SOURCE}",
        "an entry of a numbered list",
        edit=lambda draft, values: _put_access(draft, {**values, "list": str(values["list"])}),
        undo=lambda draft, values: _drop_access(draft, {**values, "list": str(values["list"])}),
        no="access-list {list:int:1-99}",
        order=72,
    )


# --- community lists --------------------------------------------------------------------------------------------------


def _community_lines(
    shelf: str, word: str, tail: str, make: Callable[[str], Any], entry: Callable[[int, bool, Values], Any], order: int
) -> tuple[Line, ...]:
    """`ip community-list` and `ip extcommunity-list`: alike but for what an entry holds."""

    def put(draft: Draft, values: Values) -> None:
        name = str(values["name"])
        pile = _pile(draft, shelf, name, lambda: make(name))
        number = values.get("seq") or _next_number(pile, 5)
        pile[number] = entry(number, _permit(values), values)

    def same(held: Any, values: Values) -> bool:
        return bool(held == entry(held.number, _permit(values), values))

    def remove(draft: Draft, values: Values) -> None:
        name = str(values["name"])
        _remove(shelf, draft, {**values, "name": name}, same, lambda: make(name))

    def show(sections: Sections, _values: Values) -> Iterable[Values]:
        for name, one in getattr(sections[NodeConfig], shelf).items():
            plain = [e.number for e in one.entries] == [5 * (i + 1) for i in range(len(one.entries))]
            for e in one.entries:
                values: dict[str, Any] = {"name": name, "standard": True, "seq": None if plain else e.number}
                held = sorted(e.communities)
                rts = held if shelf == "community_lists" else [RT(c) for c in held if c[1] == 2]
                soos = [] if shelf == "community_lists" else [c for c in held if c[1] == 3]
                yield {**values, "action": _word(e.permit), "values": tuple(rts), "soos": tuple(soos)}

    text = (
        f"ip {word} (standard {{name:word}} | {{name:int:1-99}}) [seq {{seq:{_NUMBER}}}] {{action:permit|deny}} {tail}"
    )
    return (
        Line(
            (CONFIG,),
            text,
            "communities: the first entry whose communities a route all carries decides",
            edit=put,
            undo=remove,
            show=show,
            no=f"ip {word} (standard {{name:word}} | {{name:int:1-99}}) [{text.split('99}) ', 1)[1]}]",
            order=order,
        ),
        refused(
            CONFIG,
            f"ip {word} (expanded {{name:word}} | {{name:int:100-500}}) {{rest:text}}",
            "expanded lists (regular expressions) are not in this release; a standard list does",
        ),
    )


_COMMUNITY_LINES = (
    *_community_lines(
        "community_lists",
        "community-list",
        "{values:community}...",
        CommunityList,
        lambda number, permit, values: CommunityEntry(number, permit, values["values"]),
        73,
    ),
    *_community_lines(
        "extcommunity_lists",
        "extcommunity-list",
        "(rt {values:rt}... [soo {soos:soo}...] | soo {soos:soo}...)",
        ExtCommunityList,
        lambda number, permit, values: ExtCommunityEntry(
            number, permit, (*values.get("values", ()), *values.get("soos", ()))
        ),
        74,
    ),
)

# --- route maps -------------------------------------------------------------------------------------------------------


def _sequences(draft: Draft, values: Values) -> dict[int, Any]:
    return _pile(draft, "route_maps", values["map"], lambda: RouteMap(values["map"]))


def _fetch_sequence(sections: Sections, values: Values) -> Sequence | None:
    number = values.get("sequence", 10)
    if isinstance(sections, Draft):
        return _sequences(sections, values).get(number) if values["map"] in sections[NodeConfig].route_maps else None
    held = sections[NodeConfig].route_maps.get(values["map"])
    return next((s for s in held.sequences if s.number == number), None) if held else None


def _drop_sequence(draft: Draft, values: Values) -> None:
    """`no route-map NAME`: all of it; with a number: that sequence."""
    if values["map"] not in draft[NodeConfig].route_maps:
        raise Refusal(f"there is no route map {values['map']!r}", "map")
    pile = _sequences(draft, values)
    if "sequence" in values:
        pile.pop(values["sequence"], None)
    if "sequence" not in values or not pile:
        pile.clear()
        draft.settle()
        draft.shelf(NodeConfig, "route_maps").pop(values["map"], None)


def _store_sequence(draft: Draft, values: Values, held: Sequence) -> None:
    _sequences(draft, values)[held.number] = held


_SEQUENCE: Place[Sequence] = Place(
    fetch=_fetch_sequence,
    store=_store_sequence,
    make=lambda values: Sequence(values.get("sequence", 10), values.get("action", "permit") == "permit"),
    keys=lambda sections, values: (
        ({},)
        if "map" in values
        else [
            {"map": name, "sequence": s.number}
            for name, held in sections[NodeConfig].route_maps.items()
            for s in held.sequences
        ]
    ),
    drop=_drop_sequence,
)


_Row = tuple[str, str, Callable[[Values], Any], Callable[[Any], Values | None]]
"""syntax, help, the clause that a line's values are, and the values of a clause (None: it is another line's)."""

_IP = {"ip": Afi.IPV4, "ipv6": Afi.IPV6}
_IP_WORD = {afi: word for word, afi in _IP.items()}


def _named(kind: type[Any]) -> Callable[[Any], Values | None]:
    return lambda held: {"ip": _IP_WORD[held.afi], "names": held.names} if isinstance(held, kind) else None


def _numbers(kind: type[Any], field: str, slot: str) -> Callable[[Any], Values | None]:
    return lambda held: {slot: tuple(sorted(getattr(held, field)))} if isinstance(held, kind) else None


def _single(kind: type[Any]) -> Callable[[Any], Values | None]:
    return lambda held: {"value": held.value} if isinstance(held, kind) else None


_MATCHES: tuple[_Row, ...] = (
    (
        "{ip:ip|ipv6} address prefix-list {names:word}...",
        "routes that a prefix list permits",
        lambda v: MatchPrefix(_IP[v["ip"]], v["names"]),
        _named(MatchPrefix),
    ),
    (
        "{ip:ip|ipv6} address {names:word}...",
        "routes that an access list permits",
        lambda v: MatchAccess(_IP[v["ip"]], v["names"]),
        _named(MatchAccess),
    ),
    (
        "{ip:ip|ipv6} next-hop prefix-list {names:word}...",
        "routes whose next hop a prefix list permits",
        lambda v: MatchNextHop(_IP[v["ip"]], v["names"]),
        _named(MatchNextHop),
    ),
    (
        "tag {tags:int:0-4294967295}...",
        "routes with one of these tags",
        lambda v: MatchTag(v["tags"]),
        _numbers(MatchTag, "tags", "tags"),
    ),
    (
        "metric {metrics:int:0-4294967295}...",
        "routes with one of these metrics",
        lambda v: MatchMetric(v["metrics"]),
        _numbers(MatchMetric, "metrics", "metrics"),
    ),
    (
        "local-preference {values:int:0-4294967295}...",
        "routes with one of these local preferences",
        lambda v: MatchLocalPreference(v["values"]),
        _numbers(MatchLocalPreference, "values", "values"),
    ),
    (
        "community {names:word}... [exact-match]",
        "routes that a community list permits",
        lambda v: MatchCommunity(v["names"], bool(v.get("exact-match"))),
        lambda held: {"names": held.names, "exact-match": held.exact} if isinstance(held, MatchCommunity) else None,
    ),
    (
        "extcommunity {names:word}...",
        "routes that an extended community list permits",
        lambda v: MatchExtCommunity(v["names"]),
        lambda held: {"names": held.names} if isinstance(held, MatchExtCommunity) else None,
    ),
)

_SETS: tuple[_Row, ...] = (
    (
        "{ip:ip|ipv6} next-hop encapsulate [l3vpn] {profile:name:profile}",
        "send routes of this family by an L3VPN profile's tunnel",
        lambda v: SetEncapsulate(_IP[v["ip"]], v["profile"]),
        lambda held: (
            {"ip": _IP_WORD[held.afi], "profile": held.profile, "l3vpn": True}
            if isinstance(held, SetEncapsulate)
            else None
        ),
    ),
    (
        "({ip:=ip} next-hop {address:ipv4} | {ip:=ipv6} next-hop {address:ipv6})",
        "the next hop",
        lambda v: SetNextHop(_IP[v["ip"]], v["address"]),
        lambda held: {"ip": _IP_WORD[held.afi], "address": held.address} if isinstance(held, SetNextHop) else None,
    ),
    (
        "local-preference {value:int:0-4294967295}",
        "the local preference",
        lambda v: SetLocalPreference(v["value"]),
        _single(SetLocalPreference),
    ),
    (
        "metric {metric:signed}",
        "the metric (MED); +N and -N change it",
        lambda v: SetMetric(*v["metric"]),
        lambda held: {"metric": (held.value, held.relative)} if isinstance(held, SetMetric) else None,
    ),
    ("tag {value:int:0-4294967295}", "the tag", lambda v: SetTag(v["value"]), _single(SetTag)),
    ("weight {value:int:0-65535}", "the weight", lambda v: SetWeight(v["value"]), _single(SetWeight)),
    (
        "community ({communities:community}... [additive] | none)",
        "communities; additive: beside those that are there",
        lambda v: SetCommunity(v.get("communities", ()), bool(v.get("additive"))),
        lambda held: (
            {
                "communities": tuple(sorted(held.communities)),
                "additive": held.additive and bool(held.communities),
                "none": not held.communities,
            }
            if isinstance(held, SetCommunity)
            else None
        ),
    ),
    (
        "extcommunity rt {targets:rt}... [additive]",
        "route targets; additive: beside those that are there",
        lambda v: SetRouteTarget(v["targets"], bool(v.get("additive"))),
        lambda held: (
            {"targets": tuple(sorted(held.targets)), "additive": held.additive}
            if isinstance(held, SetRouteTarget)
            else None
        ),
    ),
    (
        "as-path prepend {asns:asn}...",
        "AS numbers to put before the path",
        lambda v: SetAsPathPrepend(v["asns"]),
        lambda held: {"asns": held.asns} if isinstance(held, SetAsPathPrepend) else None,
    ),
)


def _map_line(verb: str, field: str, row: _Row, *, many: bool) -> Line:
    """One `match` or `set` line. Matches of one kind stand beside each other; a set replaces the one of its kind."""
    text, help_text, clause, values_of = row

    def put(sequence: Sequence, values: Values) -> Sequence:
        new = clause(values)
        held = getattr(sequence, field)
        if new in held:
            return sequence
        if not many:
            held = tuple(old for old in held if not _replaces(new, old))
        return _with(sequence, field, (*held, new))

    def remove(sequence: Sequence, values: Values) -> Sequence:
        held = getattr(sequence, field)
        named = [values_of(old) for old in held]
        ours = {slot: v for slot, v in values.items() if slot in line.syntax.names}
        kept = tuple(
            old
            for old, had in zip(held, named, strict=True)
            if had is None or any(had.get(slot) != v for slot, v in ours.items() if slot in had)
        )
        if kept == held:
            raise Refusal("there is no such line")
        return _with(sequence, field, kept)

    def show(sequence: Sequence) -> Iterable[Values]:
        return [
            {**values, RANK: index}
            for index, held in enumerate(getattr(sequence, field))
            if (values := values_of(held)) is not None
        ]

    order = 10 if many else 20
    line = setting(_MAP_MODE, f"{verb} {text}", _SEQUENCE, put, show=show, remove=remove, help=help_text, order=order)
    return line


def _with(sequence: Sequence, field: str, clauses: tuple[Any, ...]) -> Sequence:
    return evolve(sequence, matches=clauses) if field == "matches" else evolve(sequence, sets=clauses)


def _replaces(new: Any, old: Any) -> bool:
    return type(new) is type(old) and getattr(new, "afi", None) == getattr(old, "afi", None)


_MATCH_LINES = tuple(_map_line("match", "matches", row, many=True) for row in _MATCHES)
_SET_LINES = tuple(_map_line("set", "sets", row, many=False) for row in _SETS)

_MAP_LINES = (
    opening(
        CONFIG,
        "route-map {map:name:route-map} [{action:permit|deny}] [{sequence:int:0-65535}]",
        _SEQUENCE,
        _MAP_MODE,
        put=lambda sequence, values: evolve(sequence, permit=values.get("action", "permit") == "permit"),
        show=lambda s: ({"action": _word(s.permit), "sequence": s.number},),
        help="a route map: the first sequence that matches decides, and a route that none matches is denied",
        order=80,
    ),
    value(_MAP_MODE, "description {text:text}", _SEQUENCE, "description", "text", help="a remark", order=1),
    *_MATCH_LINES,
    *_SET_LINES,
)


def match_lines(sequence: Sequence) -> list[str]:
    """The `match` lines of a sequence, in the order of its clauses."""
    return _clause_lines(sequence.matches, _MATCH_LINES, _MATCHES)


def set_lines(sequence: Sequence) -> list[str]:
    """The `set` lines of a sequence, in the order of its clauses."""
    return _clause_lines(sequence.sets, _SET_LINES, _SETS)


def _clause_lines(clauses: Iterable[Match | Set], lines: Iterable[Line], rows: Iterable[_Row]) -> list[str]:
    found = []
    for clause in clauses:
        for line, (_, _, _, values_of) in zip(lines, rows, strict=True):
            values = values_of(clause)
            if values is not None:
                found.append(line.written(values))
                break
    return found


POLICY_LINES: tuple[Line, ...] = (
    *_prefix_list_lines(Afi.IPV4, "ip", "prefix4", 32, 75),
    *_prefix_list_lines(Afi.IPV6, "ipv6", "prefix6", 128, 76),
    *_access_list_lines(),
    *_COMMUNITY_LINES,
    *_MAP_LINES,
)
