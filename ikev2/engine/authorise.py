"""Mode config: what an initiator asks for, and what an authorised peer is told (RFC 7296 3.15, FlexVPN's attributes)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ikev2.config import AuthorizationPolicy
from ikev2.engine.overlay import subnet_attributes
from ikev2.wire.numbers import AttributeKind as Kind
from ikev2.wire.payloads import Attribute
from stack.addr import AddressError, Prefix, parse_address
from stack.policy.lists import AccessEntry, AccessList

__all__ = [
    "VERSION",
    "asked",
    "own_addresses",
    "permitted",
    "reply_attributes",
    "request_attributes",
    "text_of",
    "wish",
]

VERSION = b"labelspan"
"""Our APPLICATION_VERSION: a name and no number, for strangers need not know which faults we have."""

MAX_PERMITTED = 256
"""Prefixes that access lists announce to one peer."""

_ROUTES = (Kind.INTERNAL_IP4_SUBNET, Kind.INTERNAL_IP6_SUBNET)
_ADDRESS = (Kind.INTERNAL_IP4_ADDRESS, Kind.INTERNAL_IP4_NETMASK, Kind.INTERNAL_IP4_DNS)
_ABOUT = (Kind.UNITY_BANNER, Kind.UNITY_DEF_DOMAIN, Kind.APPLICATION_VERSION)
_SUPPORTED = (
    *_ADDRESS,
    Kind.INTERNAL_IP4_NBNS,
    Kind.APPLICATION_VERSION,
    Kind.INTERNAL_IP6_ADDRESS,
    Kind.INTERNAL_IP6_DNS,
    *_ROUTES,
)


def request_attributes(*, negotiated: bool, authorised: bool, before: Iterable[bytes] = ()) -> tuple[Attribute, ...]:
    """CFG_REQUEST: empty attributes, to be filled. `negotiated`: our overlay address too, the one we had `before` if that can
    be (RFC 7296 3.15.1); `authorised`: the profile has an authorization policy, so the peer's routes are of interest."""
    kinds: tuple[Kind, ...] = ()
    if negotiated:
        kinds += _ADDRESS
    if negotiated or authorised:
        kinds += (*_ROUTES, *_ABOUT)
    had = next((address for address in before if len(address) == 4), b"")
    return tuple(Attribute(kind, had if kind == Kind.INTERNAL_IP4_ADDRESS else b"") for kind in kinds)


def asked(attributes: Iterable[Attribute]) -> frozenset[int]:
    return frozenset(attribute.kind for attribute in attributes)


def wish(attributes: Iterable[Attribute], kind: int) -> bytes:
    """The address that a peer would like to have again; empty: none."""
    size = 4 if kind == Kind.INTERNAL_IP4_ADDRESS else 16
    for attribute in attributes:
        if attribute.kind == kind and len(attribute.octets) >= size and any(attribute.octets[:size]):
            return attribute.octets[:size]
    return b""


def own_addresses(attributes: Iterable[Attribute]) -> tuple[bytes, ...]:
    """Overlay addresses in a CFG_REPLY."""
    found = []
    for kind, octets in attributes:
        if kind == Kind.INTERNAL_IP4_ADDRESS and len(octets) == 4 and _usable(octets):
            found.append(octets)
        elif kind == Kind.INTERNAL_IP6_ADDRESS and len(octets) == 17 and octets[0] != 0xFF and any(octets[:16]):
            found.append(octets[:16])
    return tuple(dict.fromkeys(found))[:4]


def _usable(address: bytes) -> bool:
    return address[0] not in (0, 127) and address[0] < 224


def reply_attributes(
    policy: AuthorizationPolicy | None,
    attributes: Iterable[Attribute],
    addresses: Iterable[bytes],
    routes: Iterable[Prefix],
    extra: Iterable[Attribute] = (),
) -> tuple[Attribute, ...]:
    """CFG_REPLY to `attributes`: only what was asked for, in its order; then `extra`, which replaces what is of its kind."""
    attributes, extra = tuple(attributes), tuple(extra)
    kinds, replaced = asked(attributes), asked(extra)
    given = tuple(addresses)
    sources: dict[int, Callable[[], Iterable[bytes]]] = {
        Kind.INTERNAL_IP4_ADDRESS: lambda: [one for one in given if len(one) == 4],
        Kind.INTERNAL_IP6_ADDRESS: lambda: [one + b"\x80" for one in given if len(one) == 16],
        Kind.APPLICATION_VERSION: lambda: [VERSION],
        Kind.SUPPORTED_ATTRIBUTES: lambda: [b"".join(kind.to_bytes(2) for kind in _SUPPORTED)],
    }
    if policy is not None:
        sources.update(_of_policy(policy, any(len(one) == 4 for one in given)))
    reply = [
        Attribute(kind, octets)
        for kind in dict.fromkeys(attribute.kind for attribute in attributes)
        if kind in sources and kind not in replaced
        for octets in sources[kind]()
    ]
    reply += [route for route in subnet_attributes(routes) if route.kind in kinds and route.kind not in replaced]
    return (*reply, *extra)


def _of_policy(policy: AuthorizationPolicy, addressed: bool) -> dict[int, Callable[[], Iterable[bytes]]]:
    return {
        Kind.INTERNAL_IP4_NETMASK: lambda: [policy.netmask] if policy.netmask and addressed else [],
        Kind.INTERNAL_IP4_DNS: lambda: [one for one in policy.dns if len(one) == 4],
        Kind.INTERNAL_IP6_DNS: lambda: [one for one in policy.dns if len(one) == 16],
        Kind.INTERNAL_IP4_NBNS: lambda: [one for one in policy.wins if len(one) == 4],
        Kind.UNITY_BANNER: lambda: [policy.banner.encode()] if policy.banner else [],
        Kind.UNITY_DEF_DOMAIN: lambda: [policy.def_domain.encode()] if policy.def_domain else [],
        Kind.UNITY_BACKUP_SERVERS: lambda: [octets for name in policy.backup_gateways for octets in _gateway(name)],
    }


def _gateway(name: str) -> list[bytes]:
    try:
        return [parse_address(name)]
    except AddressError:
        return []


def permitted(access_list: AccessList | None) -> tuple[Prefix, ...]:
    """What `route set access-list` announces: the permitted networks behind us. Of an extended entry the destination; if that
    is `any`, the source, as split tunnelling writes it. Wildcards that are no prefix are left out."""
    if access_list is None:
        return ()
    found = (_network(entry) for entry in access_list.entries if entry.permit)
    return tuple(dict.fromkeys(prefix for prefix in found if prefix is not None))[:MAX_PERMITTED]


def _network(entry: AccessEntry) -> Prefix | None:
    if entry.destination:
        destination = _prefix(entry.destination, entry.destination_wildcard)
        if destination is None or destination.length:
            return destination
    return _prefix(entry.address, entry.wildcard)


def _prefix(address: bytes, wildcard: bytes) -> Prefix | None:
    bits = len(address) * 8
    value = int.from_bytes(wildcard)
    if value & (value + 1):
        return None
    return Prefix.of(address, bits - value.bit_length())


def text_of(attributes: Iterable[Attribute], kind: int) -> str:
    """A text attribute, printable whatever the peer sent; '' if there is none."""
    for attribute in attributes:
        if attribute.kind == kind:
            text = attribute.octets[:1024].decode("utf-8", "backslashreplace")
            return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return ""
