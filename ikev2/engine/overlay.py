"""What an SA puts into routing: our own overlay address, routes to the peer's addresses, implicit null, endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import field

from ikev2.config import RouteAccept
from ikev2.engine.snapshot import OverlaySnapshot
from ikev2.wire.numbers import AttributeKind
from ikev2.wire.payloads import Attribute
from stack.addr import Prefix, format_address
from stack.claims import Claims, Slot
from stack.events import (
    AccessWanted,
    AddressOffered,
    AddressRow,
    BindingOffered,
    EndpointOffered,
    EndpointRow,
    Interface,
    OverlayRow,
    OverlayState,
    Route,
    RouteOffered,
    Via,
)
from stack.values import value

__all__ = [
    "IMPLICIT_NULL",
    "MAX_ROUTES",
    "Announced",
    "Overlay",
    "addresses_of",
    "announced",
    "identity_rows",
    "overlay_rows",
    "overlay_snapshots",
    "subnet_attributes",
]

MAX_ROUTES = 256
"""Prefixes taken from one peer."""

IMPLICIT_NULL = (3,)


def overlay_snapshots(claims: Claims) -> tuple[OverlaySnapshot, ...]:
    """What stands, for show; interfaces apart."""
    found = [
        _overlay_snapshot(claimant, slot, row)
        for claimant, slot, row in claims.claims()
        if slot.topic not in _NO_OVERLAY
    ]
    return tuple(sorted(found, key=lambda one: (one.ike, one.kind, one.prefix)))


_NO_OVERLAY = (AccessWanted, OverlayState)


def _overlay_snapshot(claimant: int, slot: Slot, row: Any) -> OverlaySnapshot:
    topic, table, key = slot
    if topic is AddressOffered:
        return OverlaySnapshot("address", key[0], "", Prefix.host(key[1]), claimant)
    if topic is EndpointOffered:
        return OverlaySnapshot("endpoint", key[0], "", Prefix.host(key[1]), claimant)
    if topic is BindingOffered:
        return OverlaySnapshot("binding", "", key[0], key[1], claimant)
    return OverlaySnapshot("route", row.vias[0].interface, table, key, claimant)


@value
class Announced:
    """A peer's routes: those that are taken, and those that are not, with the reason."""

    taken: tuple[Prefix, ...] = ()
    refused: Mapping[Prefix, str] = field(factory=dict)


@value
class Overlay:
    """One IKE SA's, as far as it is known. `received`: our own address, from the peer. `assigned`: the peer's, from us.
    `routes`: what it announced and we took. `transport`: where it is."""

    received: tuple[bytes, ...] = ()
    assigned: tuple[bytes, ...] = ()
    routes: tuple[Prefix, ...] = ()
    transport: bytes = b""
    accept: RouteAccept = field(factory=RouteAccept)

    @property
    def far(self) -> tuple[Prefix, ...]:
        return tuple(dict.fromkeys((*(Prefix.host(address) for address in self.assigned), *self.routes)))


def overlay_rows(overlay: Overlay, interface: Interface) -> dict[Slot, Any]:
    """What stands in routing for one SA on `interface`. Table of all: the interface's inside VRF."""
    name, vrf = interface.name, interface.vrf
    rows: dict[Slot, Any] = {}
    for address in overlay.received:
        rows[Slot(AddressOffered, "", (name, address))] = AddressRow(len(address) * 8, origin="negotiated")
    many = not interface.row.point_to_point
    neighbour = next((prefix.network for prefix in overlay.far if prefix.length == len(prefix.network) * 8), b"")
    accept = overlay.accept
    for prefix in overlay.far:
        host = prefix.length == len(prefix.network) * 8
        if many and not host and len(neighbour) == len(prefix.network):
            via = Via(address=neighbour, interface=name)
        else:
            via = Via(interface=name)
        rows[Slot(RouteOffered, vrf, prefix)] = Route(accept.distance, (via,), "static", tag=accept.tag)
        if host and interface.row.mpls:
            # semantics: implicit null is bound to host routes out of an interface that takes labels, and to no other.
            rows[Slot(BindingOffered, "", (vrf, prefix, b""))] = IMPLICIT_NULL
        if host and many:
            rows[Slot(EndpointOffered, "", (name, prefix.network))] = EndpointRow(overlay.transport, wanted=False)
    return rows


def identity_rows(name: str, assigned: Iterable[bytes], identity: str, transport: bytes) -> dict[Slot, Any]:
    """Whose the addresses are that we have given to a peer on interface `name`. Said before the interface is there, so that
    nothing comes in by it that cannot be held against this."""
    return {Slot(OverlayState, "", (name, address)): OverlayRow(identity, transport) for address in assigned}


def addresses_of(interface: Interface | None) -> tuple[bytes, ...]:
    """What `route set interface` announces of an interface: its own addresses, borrowed ones (unnumbered) included."""
    if interface is None:
        return ()
    return tuple(
        address for address, row in interface.addresses.items() if not row.secondary and _announceable(address)
    )


def _announceable(address: bytes) -> bool:
    return not (len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80)


def subnet_attributes(prefixes: Iterable[Prefix]) -> tuple[Attribute, ...]:
    """INTERNAL_IP4_SUBNET: address and netmask; INTERNAL_IP6_SUBNET: address and prefix length (RFC 7296 3.15.1)."""
    return tuple(
        Attribute(
            AttributeKind.INTERNAL_IP4_SUBNET,
            prefix.network + ((0xFFFFFFFF << (32 - prefix.length)) & 0xFFFFFFFF).to_bytes(4),
        )
        if len(prefix.network) == 4
        else Attribute(AttributeKind.INTERNAL_IP6_SUBNET, prefix.network + bytes((prefix.length,)))
        for prefix in dict.fromkeys(prefixes)
    )


def announced(
    attributes: Iterable[Attribute],
    transport: Iterable[bytes],
    own: Iterable[bytes] = (),
    objection: Callable[[Prefix], str] = lambda _prefix: "",
) -> Announced:
    """What a peer says lies behind it. `transport`: the outer addresses of its tunnel, ours and its; `own`: our addresses on
    it; `objection`: why a prefix is not this peer's ('': it may be)."""
    found: dict[Prefix, None] = {}
    refused: dict[Prefix, str] = {}
    outer, mine = tuple(transport), frozenset(own)
    for attribute in attributes:
        prefix = _prefix(attribute)
        if prefix is None or prefix in found or prefix in refused:
            continue
        reason = _unacceptable(prefix, outer, mine)
        reason = reason or objection(prefix)
        if not reason and len(found) >= MAX_ROUTES:
            reason = f"more than {MAX_ROUTES} routes"
        if not reason:
            found[prefix] = None
        elif len(refused) < MAX_ROUTES:
            refused[prefix] = reason
    return Announced(tuple(found), refused)


def _unacceptable(prefix: Prefix, transport: tuple[bytes, ...], own: frozenset[bytes]) -> str:
    if prefix.length == 0:
        return "a default route"
    for address in transport:
        if prefix.covers(address):
            return f"it covers the tunnel's own end {format_address(address)}"
    first = prefix.network[0]
    if len(prefix.network) == 4 and (first in (0, 127) or first >= 224):
        return "no unicast prefix"
    if len(prefix.network) == 16 and (first == 0xFF or prefix.network[:2] == b"\xfe\x80" or prefix.length < 3):
        return "no global unicast prefix"
    if prefix.length == len(prefix.network) * 8 and prefix.network in own:
        return "it is our own address"
    return ""


def _prefix(attribute: Attribute) -> Prefix | None:
    """Of INTERNAL_IP4_SUBNET, INTERNAL_IP6_SUBNET and, in a CFG_SET, INTERNAL_IP4_ADDRESS and INTERNAL_IP6_ADDRESS."""
    kind, octets = attribute
    if kind == AttributeKind.INTERNAL_IP4_SUBNET and len(octets) == 8:
        mask = int.from_bytes(octets[4:])
        length = mask.bit_count()
        if mask != (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF:
            return None
        return Prefix.of(octets[:4], length)
    if kind == AttributeKind.INTERNAL_IP6_SUBNET and len(octets) == 17 and octets[16] <= 128:
        return Prefix.of(octets[:16], octets[16])
    if kind == AttributeKind.INTERNAL_IP4_ADDRESS and len(octets) == 4:
        return Prefix.host(octets)
    if kind == AttributeKind.INTERNAL_IP6_ADDRESS and len(octets) == 17:
        return Prefix.host(octets[:16])
    return None
