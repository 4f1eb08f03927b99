"""Authorization policies: what an authenticated peer is given and told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve

from ikev2.config import AuthorizationPolicy, Ikev2Config, RouteAccept
from ikev2.lines.shared import listed
from stack.addr import netmask, parse_address
from stack.ios.grammar import (
    CONFIG,
    NO,
    Kind,
    Line,
    Place,
    Values,
    entry,
    no_effect,
    opening,
    refused,
    register,
    setting,
    value,
)
from stack.ios.kinds import Shape

__all__ = ["POLICY_LINES"]

MODE = "config-ikev2-author-policy"

_POLICY: Place[AuthorizationPolicy] = entry(
    Ikev2Config,
    "authorization_policies",
    "authorization",
    lambda values: AuthorizationPolicy(values["authorization"]),
    mode=MODE,
)

# --- banner -----------------------------------------------------------------------------------------------------------

MAX_BANNER = 512
_DELIMITED = re.compile(r"(\^C|[^\sA-Za-z0-9])(.*?)\1", re.DOTALL)


def _read_banner(text: str) -> str:
    """`^C text ^C`: what stands first ends it."""
    found = _DELIMITED.fullmatch(text.strip())
    if found is None:
        raise ValueError("a banner begins and ends with one and the same sign that is not in it, or with ^C")
    banner = found[2].strip()
    if len(banner) > MAX_BANNER:
        raise ValueError(f"a banner has at most {MAX_BANNER} characters; this one has {len(banner)}")
    return banner


def _write_banner(banner: str) -> str:
    sign = next(sign for sign in ("^C", *"#$%&*+=@~|/") if sign not in banner)
    return f"{sign} {banner} {sign}"


register(Kind("banner", "^C text ^C", _read_banner, _write_banner, shape=Shape.TEXT, rank=5))


# --- routes -----------------------------------------------------------------------------------------------------------


def _show_interface(policy: AuthorizationPolicy) -> Iterable[Values]:
    if policy.route_set_interface is not None:
        yield {"interface": policy.route_set_interface}


def _put_accept(policy: AuthorizationPolicy, values: Values) -> AuthorizationPolicy:
    usual = RouteAccept()
    accept = RouteAccept(True, values.get("tag", usual.tag), values.get("distance", usual.distance))
    return evolve(policy, route_accept=accept)


def _show_accept(policy: AuthorizationPolicy) -> Iterable[Values]:
    usual, held = RouteAccept(), policy.route_accept
    if not held.enabled:
        yield {NO: True}
    elif held != usual:
        yield {
            "tag": held.tag or None,
            "distance": None if held.distance == usual.distance else held.distance,
        }


# --- addresses --------------------------------------------------------------------------------------------------------


def _servers(name: str, text: str, what: str) -> Line:
    def put(policy: AuthorizationPolicy, values: Values) -> AuthorizationPolicy:
        changed: dict[str, Any] = {name: tuple(values[one] for one in ("first", "second") if one in values)}
        return evolve(policy, **changed)

    def show(policy: AuthorizationPolicy) -> Iterable[Values]:
        held: tuple[bytes, ...] = getattr(policy, name)
        if held:
            yield {"first": held[0], "second": held[1] if len(held) > 1 else None}

    def remove(policy: AuthorizationPolicy, _values: Values) -> AuthorizationPolicy:
        changed: dict[str, Any] = {name: ()}
        return evolve(policy, **changed)

    text = f"{text} {{first:address}} [{{second:address}}]"
    return setting(MODE, text, _POLICY, put, show=show, remove=remove, help=what, order=3)


def _put_netmask(policy: AuthorizationPolicy, values: Values) -> AuthorizationPolicy:
    return evolve(policy, netmask=parse_address(netmask(values["mask"])))


def _show_netmask(policy: AuthorizationPolicy) -> Iterable[Values]:
    if policy.netmask:
        yield {"mask": int.from_bytes(policy.netmask).bit_count()}


def _named(slot: str) -> Callable[[Values], str]:
    return lambda values: str(values[slot])


_CLIENTS = "only Cisco's client software reads it"
_ACCEPT = "route accept any [tag {tag:int:1-4294967295}] [distance {distance:int:1-255}]"

POLICY_LINES: tuple[Line, ...] = (
    opening(
        CONFIG,
        "crypto ikev2 authorization policy {authorization:name:authorization-policy}",
        _POLICY,
        MODE,
        show=lambda held: ({"authorization": held.name},),
        help="what an authenticated peer gets; the one called `default` exists by itself",
        order=34,
    ),
    value(
        MODE,
        "pool {pool:name:pool}",
        _POLICY,
        "pool",
        "pool",
        help="where its address comes from (`ip local pool`)",
        order=1,
    ),
    value(
        MODE,
        "ipv6 pool {pool:name:pool}",
        _POLICY,
        "ipv6_pool",
        "pool",
        help="where its IPv6 address comes from (`ipv6 local pool`)",
        order=1,
    ),
    setting(
        MODE,
        "netmask {mask:mask}",
        _POLICY,
        _put_netmask,
        show=_show_netmask,
        remove=lambda policy, _values: evolve(policy, netmask=b""),
        help="the mask it is told with its address",
        order=2,
    ),
    _servers("dns", "dns", "name servers"),
    _servers("wins", "wins", "WINS servers"),
    setting(
        MODE,
        "banner {banner:banner}",
        _POLICY,
        lambda policy, values: evolve(policy, banner=_read_banner(values["banner"])),
        show=lambda policy: ({"banner": policy.banner},) if policy.banner else (),
        remove=lambda policy, _values: evolve(policy, banner=""),
        help="a text that the peer may show its user; of several lines, one is made",
        order=4,
    ),
    value(MODE, "def-domain {domain:word}", _POLICY, "def_domain", "domain", help="the peer's DNS domain", order=5),
    listed(
        MODE,
        "backup-gateway {gateway:word}",
        _POLICY,
        "backup_gateways",
        _named("gateway"),
        lambda gateway: {"gateway": gateway},
        help="another gateway, for when we are away",
        order=6,
        most=10,
    ),
    setting(
        MODE,
        "route set interface [{interface:interface}]",
        _POLICY,
        lambda policy, values: evolve(policy, route_set_interface=values.get("interface", "")),
        show=_show_interface,
        remove=lambda policy, _values: evolve(policy, route_set_interface=None),
        help="tell the peer this interface's addresses, as host routes; without a name, the tunnel's own",
        order=7,
    ),
    listed(
        MODE,
        "route set access-list {list:word}",
        _POLICY,
        "route_set_acl",
        _named("list"),
        lambda name: {"list": name},
        help="tell the peer the networks that an access list permits",
        order=8,
    ),
    setting(
        MODE,
        _ACCEPT,
        _POLICY,
        _put_accept,
        show=_show_accept,
        remove=lambda policy, _values: evolve(policy, route_accept=RouteAccept(enabled=False)),
        no="route accept [any [tag {tag:int:1-4294967295}] [distance {distance:int:1-255}]]",
        help="install what the peer tells us: on, unless `no route accept` stands here",
        order=9,
    ),
    refused(MODE, "route set {what:remote|local} {rest:text}", "networks to tell are those of an access list"),
    refused(MODE, "route redistribute {rest:text}", "routes between sites are BGP's matter here"),
    refused(MODE, "subnet-acl {rest:text}", "`route set access-list` says the same in the newer words"),
    refused(MODE, "aaa attribute list {rest:text}", "attribute lists are not in this release"),
    refused(MODE, "dhcp {rest:text}", "addresses come from `ip local pool`; an embedder can give its own"),
    *(
        no_effect(MODE, text, _CLIENTS)
        for text in (
            "include-local-lan",
            "pfs",
            "split-dns {rest:text}",
            "smartcard-removal-disconnect",
            "configuration {rest:text}",
        )
    ),
)
