"""AAA as far as authorization policies need it, and address pools."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import evolve

from ikev2.config import Ikev2Config, IpPool
from ikev2.lines.shared import IKEV2
from stack.addr import Prefix
from stack.ios.grammar import (
    CONFIG,
    Draft,
    Line,
    Place,
    Refusal,
    Sections,
    Values,
    entry,
    flag,
    no_effect,
    refused,
    setting,
)

__all__ = ["AAA_LINES"]

_LIST: Place[str] = entry(Ikev2Config, "aaa_lists", "list", lambda _values: "local")

MAX_POOL = 1 << 20
"""Addresses of one pool."""

# --- pools ------------------------------------------------------------------------------------------------------------


def _fetch(family: int, sections: Sections, values: Values) -> IpPool | None:
    pool = sections[Ikev2Config].pools.get(values["pool"])
    return pool if pool is not None and len(pool.first) == family else None


def _pool_place(family: int) -> Place[IpPool]:
    """IPv4 and IPv6 pools print by different lines; a name is one pool's."""

    def store(draft: Draft, _values: Values, pool: IpPool) -> None:
        held = draft[Ikev2Config].pools.get(pool.name)
        if held is not None and len(held.first) != family:
            raise Refusal(f"there is a pool {pool.name!r} of the other address family", "pool")
        draft.shelf(Ikev2Config, "pools")[pool.name] = pool

    def drop(draft: Draft, values: Values) -> None:
        if _fetch(family, draft, values) is None:
            raise Refusal("there is no such pool", "pool")
        del draft.shelf(Ikev2Config, "pools")[values["pool"]]

    return Place(
        fetch=lambda sections, values: _fetch(family, sections, values),
        store=store,
        make=lambda values: IpPool(values["pool"], bytes(family), bytes(family)),
        keys=lambda sections, _values: [
            {"pool": name} for name, pool in sections[Ikev2Config].pools.items() if len(pool.first) == family
        ],
        drop=drop,
    )


_POOL4, _POOL6 = _pool_place(4), _pool_place(16)


def _put_range(_pool: IpPool, values: Values) -> IpPool:
    first, last = values["first"], values.get("last", values["first"])
    if last < first:
        raise Refusal("the pool ends before it begins", "last")
    if int.from_bytes(last) - int.from_bytes(first) >= MAX_POOL:
        raise Refusal(f"a pool has at most {MAX_POOL} addresses", "last")
    return IpPool(values["pool"], first, last)


def _show_range(pool: IpPool) -> Iterable[Values]:
    yield {"pool": pool.name, "first": pool.first, "last": None if pool.last == pool.first else pool.last}


def _put_prefix(_pool: IpPool, values: Values) -> IpPool:
    prefix: Prefix = values["prefix"]
    if values["length"] != 128:
        raise Refusal("peers are given single addresses: 128", "length")
    if 1 << (128 - prefix.length) > MAX_POOL:
        raise Refusal(f"a pool has at most {MAX_POOL} addresses: a /108 or longer", "prefix")
    last = int.from_bytes(prefix.network) + (1 << (128 - prefix.length)) - 1
    return IpPool(values["pool"], prefix.network, last.to_bytes(16))


def _show_prefix(pool: IpPool) -> Iterable[Values]:
    size = int.from_bytes(pool.last) - int.from_bytes(pool.first) + 1
    yield {"pool": pool.name, "prefix": Prefix.of(pool.first, 129 - size.bit_length()), "length": 128}


def _whole(line: Line, place: Place[Any], no: str) -> Line:
    """`line`, but that `no` takes the object itself away."""
    return evolve(line, undo=place.drop, no=no)


_LOCAL = "the only AAA server here is this node: `local`"
_NO_LOGIN = "whoever may use the control socket may use the shell"

AAA_LINES: tuple[Line, ...] = (
    flag(CONFIG, "aaa new-model", IKEV2, "aaa_new_model", help="taken for IOS's sake; lists work without it", order=5),
    _whole(
        setting(
            CONFIG,
            "aaa authorization network {list:word} local",
            _LIST,
            lambda method, _values: method,
            show=lambda _method: ({},),
            help="a list that `aaa authorization group` names: policies are those of this node",
            order=6,
        ),
        _LIST,
        "aaa authorization network {list:word} [local]",
    ),
    refused(
        CONFIG, "aaa authorization network {list:word} {what:group|none|if-authenticated|cache} [{rest:text}]", _LOCAL
    ),
    refused(CONFIG, "aaa authorization network {list:word} local {rest:text}", _LOCAL),
    refused(CONFIG, "aaa {what:group|server} {rest:text}", _LOCAL),
    no_effect(CONFIG, "aaa session-id {what:common|unique}", "there is no accounting that would need it"),
    no_effect(CONFIG, "aaa authentication {rest:text}", _NO_LOGIN),
    no_effect(CONFIG, "aaa authorization {what:exec|commands|console|config-commands} [{rest:text}]", _NO_LOGIN),
    no_effect(CONFIG, "aaa accounting {rest:text}", "there is no accounting; the bus and the log have every session"),
    _whole(
        setting(
            CONFIG,
            "ip local pool {pool:word} {first:ipv4} [{last:ipv4}]",
            _POOL4,
            _put_range,
            show=_show_range,
            help="IPv4 addresses for peers, from the first to the last one",
            order=67,
        ),
        _POOL4,
        "ip local pool {pool:word} [{first:ipv4} [{last:ipv4}]]",
    ),
    _whole(
        setting(
            CONFIG,
            "ipv6 local pool {pool:word} {prefix:prefix6} {length:int:1-128}",
            _POOL6,
            _put_prefix,
            show=_show_prefix,
            help="IPv6 addresses for peers: all of a prefix; the length is 128",
            order=68,
        ),
        _POOL6,
        "ipv6 local pool {pool:word} [{prefix:prefix6} [{length:int:1-128}]]",
    ),
)
