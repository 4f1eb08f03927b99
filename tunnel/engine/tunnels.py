"""All tunnels by name: those of the configuration, and the virtual-access interfaces that clone a template. Sans-IO.

Everything else asks here and need not know where a tunnel comes from. Whatever hangs on a tunnel's source, far end or template
is found by an index, so that one clone among thousands costs what one costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from attrs import define, evolve, field, frozen

from stack.addr import DEFAULT_VRF
from stack.events import AccessRow, Interface, InterfaceKind, InterfaceRow
from tunnel.config import TunnelInterface, TunnelMode
from tunnel.engine.profile import primary_v4

__all__ = ["MAX_CLONES", "Clone", "End", "Tunnels", "clone_of", "end_of", "tunnel_source"]

K = TypeVar("K")

End = tuple[str, bytes]
"""(transport VRF, transport address) of the far end of a tunnel."""

MAX_CLONES = 16_384
"""Virtual-access interfaces at once; a peer on top is refused until there is room."""


@frozen
class Clone:
    """What a peer gets: an interface, and the tunnel behind it. `remote`: the peer, whatever the tunnel's mode."""

    interface: InterfaceRow
    tunnel: TunnelInterface
    remote: bytes


def clone_of(name: str, access: AccessRow, template: Interface | None, lines: TunnelInterface | None) -> Clone | str:
    """The clone, or why there can be none. `lines`: the template's tunnel lines, if it has any."""
    if template is None:
        return f"there is no interface {access.template}"
    if template.row.kind is not InterfaceKind.TEMPLATE:
        return f"{access.template} is no virtual template"
    if not access.local or not access.remote:
        return "a virtual-access interface needs both its ends"
    shape = lines or TunnelInterface(access.template)
    point_to_point = shape.mode is TunnelMode.GRE
    tunnel = evolve(
        shape,
        name=name,
        source="",
        source_address=access.local,
        destination=access.remote if point_to_point else b"",
        vrf=access.vrf,
    )
    row = evolve(
        template.row,
        name=name,
        kind=InterfaceKind.TUNNEL,
        parent=access.template,
        description=access.description,
        point_to_point=point_to_point,
        protection=access.profile or template.row.protection,
        negotiated=False,
        device="",
        vlan=None,
    )
    return Clone(row, tunnel, access.remote)


def end_of(tunnel: TunnelInterface) -> End:
    return tunnel.vrf, tunnel.destination


def tunnel_source(tunnel: TunnelInterface, interfaces: Mapping[str, Interface]) -> tuple[str, bytes]:
    """(fault, address) of a tunnel's own end, which is in the VRF that its packets travel in (`tunnel vrf`)."""
    if tunnel.source_address:
        return "", tunnel.source_address
    if not tunnel.source:
        return "no tunnel source", b""
    source = interfaces.get(tunnel.source)
    if source is None:
        return f"tunnel source {tunnel.source} does not exist", b""
    if source.vrf != tunnel.vrf:
        where, there = (f"VRF {vrf}" if vrf else "the default VRF" for vrf in (tunnel.vrf, source.vrf))
        return f"the tunnel's own packets travel in {where}, and its source {tunnel.source} is in {there}", b""
    address = primary_v4(source)
    if not address:
        return f"tunnel source {tunnel.source} has no IPv4 address", b""
    return "" if source.up else f"tunnel source {tunnel.source} is down", address


@define(eq=False)
class Tunnels:
    """`configured` and `clones` are apart; `get` and `in` look at both. `refused`: clones that cannot be, and why."""

    configured: Mapping[str, TunnelInterface] = field(factory=dict)
    clones: dict[str, Clone] = field(factory=dict)
    refused: dict[str, str] = field(factory=dict)
    _crowded: dict[str, None] = field(factory=dict)
    """Those of `refused` that only want for room, longest waiting first."""
    _wanted: dict[str, AccessRow] = field(factory=dict)
    _by_template: dict[str, set[str]] = field(factory=dict)
    _by_destination: dict[End, set[str]] = field(factory=dict)
    _by_source: dict[str, set[str]] = field(factory=dict)

    def get(self, name: str) -> TunnelInterface | None:
        clone = self.clones.get(name)
        return clone.tunnel if clone is not None else self.configured.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self.clones or name in self.configured

    def names(self) -> Iterable[str]:
        return {**self.configured, **self.clones}

    def to(self, end: End) -> frozenset[str]:
        """The tunnels whose far end that is."""
        return frozenset(self._by_destination.get(end, ()))

    def vrf(self, name: str) -> str:
        """The VRF in which a tunnel's own packets travel."""
        tunnel = self.get(name)
        return tunnel.vrf if tunnel is not None else DEFAULT_VRF

    def from_source(self, interface: str) -> frozenset[str]:
        """The tunnels whose own end is an address of `interface`."""
        return frozenset(self._by_source.get(interface, ()))

    def of_template(self, template: str) -> frozenset[str]:
        """The clones of a template that are wanted, be they or not."""
        return frozenset(self._by_template.get(template, ()))

    def wanted(self) -> Iterable[str]:
        return self._wanted

    def configure(self, configured: Mapping[str, TunnelInterface]) -> None:
        for tunnel in self.configured.values():
            self._index(tunnel, None)
        self.configured = configured
        for tunnel in configured.values():
            self._index(None, tunnel)

    def want(self, name: str, row: AccessRow | None) -> None:
        """What ikev2 says of a clone; `make` follows."""
        old = self._wanted.pop(name, None)
        if old is not None and (row is None or row.template != old.template):
            _leave(self._by_template, old.template, name)
        if row is not None:
            self._wanted[name] = row
            self._by_template.setdefault(row.template, set()).add(name)

    def make(self, name: str, interfaces: Mapping[str, Interface], taken: bool) -> Clone | None:
        """Bring a clone into line with what is wanted and what its template is; None: it is not, or cannot be (`refused`).
        `taken`: an interface of that name is configured."""
        old = self.clones.pop(name, None)
        access = self._wanted.get(name)
        found: Clone | str | None = None
        if access is not None:
            if taken or name in self.configured:
                found = f"there is an interface {name} already"
            else:
                template = interfaces.get(access.template)
                found = clone_of(name, access, template, self.configured.get(access.template))
        crowded = isinstance(found, Clone) and old is None and len(self.clones) >= MAX_CLONES
        if not crowded:
            self._crowded.pop(name, None)
        self.refused.pop(name, None)
        if crowded:
            self._crowded[name] = None
            found = f"{MAX_CLONES} virtual-access interfaces are all there can be"
        if isinstance(found, str):
            self.refused[name] = found
            found = None
        if found is not None:
            self.clones[name] = found
        self._index(old.tunnel if old is not None else None, found.tunnel if found is not None else None)
        return found

    def next_waiting(self) -> str:
        """A clone that there is room for by now, or nothing."""
        return next(iter(self._crowded), "") if len(self.clones) < MAX_CLONES else ""

    def _index(self, old: TunnelInterface | None, new: TunnelInterface | None) -> None:
        if old is not None:
            _leave(self._by_destination, end_of(old), old.name)
            _leave(self._by_source, old.source, old.name)
        if new is not None:
            if new.destination:
                self._by_destination.setdefault(end_of(new), set()).add(new.name)
            if new.source:
                self._by_source.setdefault(new.source, set()).add(new.name)


def _leave(index: dict[K, set[str]], key: K, name: str) -> None:
    names = index.get(key)
    if names is not None:
        names.discard(name)
        if not names:
            del index[key]
