"""What an SA puts into routing: our own overlay address, routes to the peer's addresses, implicit null, endpoints.

Rows have claimants: during make-before-break two IKE SAs hold the same row, and it stands until the last lets go. What is
published is the difference, so a row that stays is never withdrawn for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from attrs import define, field

from ikev2.config import RouteAccept
from ikev2.engine.outputs import Publish
from ikev2.engine.snapshot import OverlaySnapshot
from ikev2.wire.numbers import AttributeKind
from ikev2.wire.payloads import Attribute
from stack.addr import Prefix, format_address
from stack.events import (
    AccessWanted,
    AddressOffered,
    AddressRow,
    BindingOffered,
    EndpointOffered,
    EndpointRow,
    Interface,
    Route,
    RouteOffered,
    Topic,
    Via,
)
from stack.values import value

__all__ = [
    "IMPLICIT_NULL",
    "MAX_ROUTES",
    "Announced",
    "Claims",
    "Overlay",
    "Slot",
    "addresses_of",
    "announced",
    "overlay_rows",
    "subnet_attributes",
]

MAX_ROUTES = 256
"""Prefixes taken from one peer."""

IMPLICIT_NULL = (3,)


class Slot(NamedTuple):
    """A row's place on the bus."""

    topic: Topic[Any, Any]
    table: str
    key: Any


@define(eq=False)
class Claims:
    """Rows by claimant. Of the claims on a slot that one owner has, the newest decides what stands there. Another owner's waits
    until the first has none left: who announces what is another's already does not draw its traffic."""

    _claims: dict[Slot, dict[int, Any]] = field(factory=dict)
    _of: dict[int, set[Slot]] = field(factory=dict)
    _owners: dict[int, Hashable] = field(factory=dict)
    """Claimant -> owner."""
    _holds: dict[Slot, Hashable] = field(factory=dict)
    """The owner whose row stands."""
    _changed: dict[Slot, None] = field(factory=dict)
    _standing: dict[Slot, Any] = field(factory=dict)

    def hold(self, claimant: int, rows: Mapping[Slot, Any], owner: Hashable = None) -> None:
        """From now on these rows, and no others, are `claimant`'s, which belongs to `owner`."""
        for slot in self._of.get(claimant, set()) - rows.keys():
            self._let_go(claimant, slot)
        for slot, row in rows.items():
            claims = self._claims.setdefault(slot, {})
            if claims.get(claimant) != row:
                claims.pop(claimant, None)
                claims[claimant] = row
                self._changed[slot] = None
        if rows:
            self._of[claimant] = set(rows)
            self._owners[claimant] = owner
        else:
            self._of.pop(claimant, None)
            self._owners.pop(claimant, None)

    def drop(self, claimant: int) -> None:
        self.hold(claimant, {})

    def _let_go(self, claimant: int, slot: Slot) -> None:
        claims = self._claims[slot]
        del claims[claimant]
        if not claims:
            del self._claims[slot]
        self._changed[slot] = None

    def changes(self) -> list[Publish]:
        """What to publish since the last time."""
        batches: dict[tuple[Topic[Any, Any], str], dict[Any, Any]] = {}
        for slot in self._changed:
            row = self._row(slot)
            if self._standing.get(slot) != row:
                batches.setdefault((slot.topic, slot.table), {})[slot.key] = row
                if row is None:
                    del self._standing[slot]
                else:
                    self._standing[slot] = row
        self._changed.clear()
        return [Publish(topic, rows, table) for (topic, table), rows in batches.items()]

    def _row(self, slot: Slot) -> Any:
        """What is to stand there; None: nothing."""
        claims = self._claims.get(slot)
        if not claims:
            self._holds.pop(slot, None)
            return None
        owners = {claimant: self._owners[claimant] for claimant in claims}
        owner = self._holds.get(slot)
        if owner not in owners.values():
            owner = next(iter(owners.values()))
        self._holds[slot] = owner
        return next(claims[claimant] for claimant in reversed(claims) if owners[claimant] == owner)

    def claimants(self, vrf: str, prefix: Prefix) -> Iterable[int]:
        """Who holds a route to `prefix`."""
        return self._claims.get(Slot(RouteOffered, vrf, prefix), {}).keys()

    def of(self, claimant: int) -> dict[Slot, Any]:
        return {slot: self._claims[slot][claimant] for slot in self._of.get(claimant, ())}

    def __len__(self) -> int:
        return len(self._standing)

    def snapshot(self) -> tuple[OverlaySnapshot, ...]:
        found = []
        for claimant, slots in self._of.items():
            for topic, table, key in slots:
                row = self._claims[Slot(topic, table, key)][claimant]
                if topic is not AccessWanted:
                    found.append(_overlay_snapshot(claimant, topic, table, key, row))
        return tuple(sorted(found, key=lambda one: (one.ike, one.kind, one.prefix)))


def _overlay_snapshot(claimant: int, topic: Topic[Any, Any], table: str, key: Any, row: Any) -> OverlaySnapshot:
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
            rows[Slot(EndpointOffered, "", (name, prefix.network))] = EndpointRow(overlay.transport)
    return rows


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
