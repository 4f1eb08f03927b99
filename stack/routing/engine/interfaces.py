"""The interface table: what several owners offer of an interface, merged, and the connected routes that follow.

An interface is up if it is administratively up and its carrier (LinkState) is; a loopback needs no carrier; a dot1Q
sub-interface also needs its parent; a template never is. An unnumbered interface borrows the addresses of another one in
its VRF: as source addresses only, no route derives from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from attrs import define, field

from stack.addr import Prefix
from stack.events import AddressRow, Interface, InterfaceKind, InterfaceRow, LinkRow

__all__ = ["CONFIGURED", "UNNUMBERED", "Derived", "Interfaces", "derived_routes", "fails_closed", "is_overlay"]

CONFIGURED = "router"
"""The owner whose offers win over others' for the same interface or address."""

UNNUMBERED = "unnumbered"
"""`AddressRow.origin` of a borrowed address."""


LINK_LOCAL = Prefix.parse("fe80::/10")


class Derived(NamedTuple):
    """A route that an interface's address implies. `owner`: 'connected' or 'local'."""

    vrf: str
    prefix: Prefix
    owner: str


def _first(offers: Mapping[str, InterfaceRow | AddressRow]) -> str:
    return CONFIGURED if CONFIGURED in offers else min(offers)


@define(eq=False)
class Interfaces:
    """Bounded by what its owners offer."""

    current: dict[str, Interface] = field(factory=dict)
    _indexes: dict[str, int] = field(factory=dict)
    _offered: dict[str, dict[str, InterfaceRow]] = field(factory=dict)
    _addresses: dict[str, dict[bytes, dict[str, AddressRow]]] = field(factory=dict)
    _links: dict[str, LinkRow] = field(factory=dict)
    _dirty: set[str] = field(factory=set)
    _last_index: int = 0
    _leans: dict[str, tuple[str, ...]] = field(factory=dict)
    _followers: dict[str, set[str]] = field(factory=dict)
    """Interface -> those that it looks at (parent, lender of addresses), and back."""

    def adopt(self, interfaces: Iterable[Interface]) -> None:
        """Keep the indexes that an earlier incarnation gave."""
        self._indexes.update((interface.name, interface.index) for interface in interfaces)
        self._last_index = max(self._indexes.values(), default=0)

    def offer(self, owner: str, rows: Mapping[str, InterfaceRow | None]) -> None:
        for name, row in rows.items():
            offers = self._offered.setdefault(name, {})
            if row is None:
                offers.pop(owner, None)
            else:
                offers[owner] = row
            if not offers:
                del self._offered[name]
            self._dirty.add(name)
            self._lean(name)

    def _lean(self, name: str) -> None:
        """Note whom an interface looks at."""
        row = self._row(name)
        new = tuple({row.parent, row.unnumbered} - {""}) if row is not None else ()
        for other in self._leans.pop(name, ()):
            followers = self._followers[other]
            followers.discard(name)
            if not followers:
                del self._followers[other]
        if new:
            self._leans[name] = new
            for other in new:
                self._followers.setdefault(other, set()).add(name)

    def offer_address(self, owner: str, rows: Mapping[tuple[str, bytes], AddressRow | None]) -> None:
        for (name, address), row in rows.items():
            offers = self._addresses.setdefault(name, {}).setdefault(address, {})
            if row is None:
                offers.pop(owner, None)
                if not offers:
                    del self._addresses[name][address]
                    if not self._addresses[name]:
                        del self._addresses[name]
            else:
                offers[owner] = row
            self._dirty.add(name)

    def link(self, rows: Mapping[str, LinkRow | None]) -> None:
        for name, row in rows.items():
            if row is None:
                self._links.pop(name, None)
            else:
                self._links[name] = row
            self._dirty.add(name)

    def recompute(self) -> dict[str, tuple[Interface | None, Interface | None]]:
        """Name -> (before, now) of every interface that changed."""
        changed: dict[str, tuple[Interface | None, Interface | None]] = {}
        if not self._dirty:
            return changed
        names, self._dirty = self._with_followers(self._dirty), set()
        for name in sorted(names):
            old, new = self.current.get(name), self._merge(name)
            if old == new:
                continue
            changed[name] = (old, new)
            if new is None:
                del self.current[name]
                self._indexes.pop(name, None)
            else:
                self.current[name] = new
        return changed

    def _with_followers(self, names: set[str]) -> set[str]:
        """Also the sub-interfaces, and whoever borrows addresses of one of them."""
        return names.union(*(self._followers.get(name, ()) for name in names))

    def _row(self, name: str) -> InterfaceRow | None:
        offers = self._offered.get(name)
        return offers[_first(offers)] if offers else None

    def _merge(self, name: str) -> Interface | None:
        row = self._row(name)
        if row is None:
            return None
        index = self._indexes.get(name)
        if index is None:
            index = self._indexes[name] = self._last_index = self._last_index + 1
        link = self._links.get(name) or (self._links.get(row.parent) if _is_sub(row) else None)
        reason = self._down_reason(row)
        mtu = min(row.mtu, link.mtu) if link is not None and link.mtu and row.mtu else row.mtu or 1500
        return Interface(row, index, not reason, mtu, link.mac if link else b"", self._own_addresses(row), reason)

    def _down_reason(self, row: InterfaceRow, depth: int = 0) -> str:
        """Why it is down; empty if it is up."""
        if not row.admin_up:
            return "administratively down"
        if row.kind is InterfaceKind.TEMPLATE:
            return "a template carries no packets"
        if row.kind is InterfaceKind.LOOPBACK:
            return ""
        link = self._links.get(row.name)
        if link is not None and not link.up:
            return link.reason or "no carrier"
        if _is_sub(row):
            parent = self._row(row.parent)
            if parent is None or depth:
                return f"its parent {row.parent} is no interface"
            reason = self._down_reason(parent, depth + 1)
            return f"{row.parent} is down: {reason}" if reason else ""
        return "" if link is not None else "its carrier is not known yet"

    def _own_addresses(self, row: InterfaceRow) -> dict[bytes, AddressRow]:
        """Primary before secondary before borrowed, then by value: the same in whatever order they were offered."""
        found = {a: offers[_first(offers)] for a, offers in self._addresses.get(row.name, {}).items()}
        lender = self._row(row.unnumbered) if row.unnumbered and row.unnumbered != row.name else None
        if lender is not None and lender.vrf == row.vrf:
            for address, offers in self._addresses.get(lender.name, {}).items():
                found.setdefault(address, offers[_first(offers)]._replace(origin=UNNUMBERED))
        return dict(sorted(found.items(), key=lambda item: (item[1].secondary, item[1].origin == UNNUMBERED, item[0])))


def _is_sub(row: InterfaceRow) -> bool:
    return row.kind is InterfaceKind.ETHERNET and bool(row.parent)


def fails_closed(interface: Interface) -> bool:
    """Whether what belongs into it is dropped while it is down, and goes no other way: a protected tunnel that nobody shut."""
    row = interface.row
    return row.kind is InterfaceKind.TUNNEL and bool(row.protection) and row.admin_up


def is_overlay(interface: Interface) -> bool:
    """Whether its neighbours are there as far as NHRP knows them, and nowhere else: a multipoint interface of an NHRP network
    that is up."""
    row = interface.row
    return row.kind is InterfaceKind.TUNNEL and bool(row.network_id) and not row.point_to_point and interface.up


def derived_routes(interface: Interface | None) -> Iterator[Derived]:
    """Connected prefixes of an interface that is up (or fails closed), and its own addresses as host routes (none for a /32
    or /128, whose connected route is its own address already). A link-local prefix is no route (RFC 4291 2.5.6: routers MUST
    NOT forward such packets to other links); its neighbours are reached by interface and address."""
    if interface is None or not (interface.up or fails_closed(interface)):
        return
    for address, row in interface.addresses.items():
        if row.origin == UNNUMBERED:
            continue
        link_local = LINK_LOCAL.covers(address)
        if not link_local:
            yield Derived(interface.vrf, Prefix.of(address, row.length), "connected")
        if link_local or row.length < len(address) * 8:
            yield Derived(interface.vrf, Prefix.host(address), "local")
