"""Tunnels to NBMA addresses: what must be wanted for one to stand, which interface it is, and whether it can be sent by.

Three shapes: a multipoint interface (an endpoint is offered; package tunnel asks for the security association itself), the
point-to-point interface whose far end it is, and a virtual-access interface that IKEv2 makes of a template. Routes stand only
while the tunnel can be sent by: a protected one fails closed, and packets must go to the hub instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from attrs import define, field

from nhrp.engine.indexed import Network
from nhrp.engine.node import Node
from stack.addr import Prefix
from stack.claims import Slot
from stack.events import (
    AdjacencyKey,
    BindingOffered,
    EndpointOffered,
    EndpointRow,
    InterfaceKind,
    Route,
    RouteOffered,
    SaKey,
    SaRequest,
    SaWanted,
    Via,
)

__all__ = ["DISTANCE", "IMPLICIT_NULL", "NOWHERE", "Reach", "Reached"]

DISTANCE = 250
"""Of NHRP's routes: a shortcut takes no prefix from anybody by its distance, but by `override`."""

IMPLICIT_NULL = (3,)


class Reached(NamedTuple):
    """`interface`: by which the far end is reached ('' : none yet). `reason`: why it is not usable. `coming`: something is
    being done about that."""

    interface: str
    usable: bool
    reason: str = ""
    coming: bool = False


NOWHERE = Reached("", usable=False, reason="not asked for")


@define(eq=False)
class _Hold:
    """Who wants what. `number` claims what makes the tunnel, `routes` what leads there while it stands."""

    claimant: int
    interface: str
    overlay: bytes
    nbma: bytes
    build: bool
    route: bool
    number: int
    routes: int
    state: Reached = NOWHERE


@define(eq=False)
class Reach:
    """`changed`: claimants whose state is not what it was, until the speaker clears it."""

    node: Node
    changed: dict[int, None] = field(factory=dict)
    _holds: dict[int, _Hold] = field(factory=dict)
    _by_interface: dict[str, set[int]] = field(factory=dict)
    _by_sa: dict[SaKey, set[int]] = field(factory=dict)
    _watched: dict[int, tuple[frozenset[str], SaKey | None]] = field(factory=dict)
    _overlays: dict[bytes, set[int]] = field(factory=dict)

    def hold(self, claimant: int, interface: str, overlay: bytes, nbma: bytes, *, build: bool, route: bool) -> Reached:
        """`claimant` wants the tunnel to `nbma`, in the NHRP network of `interface`. `build`: IKEv2 may be told to make one.
        `route`: host route and implicit null for `overlay`, once it is usable."""
        hold = self._holds.get(claimant)
        if hold is None:
            number, routes = self.node.claimant(), self.node.claimant()
            hold = self._holds[claimant] = _Hold(claimant, interface, overlay, nbma, build, route, number, routes)
        else:
            _discard(self._overlays, hold.overlay, claimant)
            hold.interface, hold.overlay, hold.nbma = interface, overlay, nbma
            hold.build, hold.route = build, route
        self._overlays.setdefault(overlay, set()).add(claimant)
        self._settle(hold)
        self.changed.pop(claimant, None)
        return hold.state

    def drop(self, claimant: int) -> None:
        hold = self._holds.pop(claimant, None)
        self.changed.pop(claimant, None)
        if hold is not None:
            _discard(self._overlays, hold.overlay, claimant)
            self.node.claims.drop(hold.number)
            self.node.claims.drop(hold.routes)
            self._watch(hold, frozenset(), None)

    def state(self, claimant: int) -> Reached:
        hold = self._holds.get(claimant)
        return hold.state if hold is not None else NOWHERE

    def leads_to(self, network: Network, overlay: bytes) -> frozenset[bytes]:
        """The NBMA addresses to which tunnels are held for that address of a network."""
        holds = (self._holds[claimant] for claimant in self._overlays.get(overlay, ()))
        return frozenset(hold.nbma for hold in holds if self.node.network(hold.interface) == network)

    # --- what changed ---------------------------------------------------------------------------------------------------

    def interface_changed(self, name: str) -> None:
        self._again(self._by_interface.get(name, set()) | self._by_interface.get("", set()))

    def adjacency_changed(self, key: AdjacencyKey) -> None:
        self._again(self._by_interface.get(key.interface, set()))

    def sa_changed(self, key: SaKey) -> None:
        self._again(self._by_sa.get(key, set()))

    def again(self) -> None:
        """Configuration has changed."""
        self._again(set(self._holds))

    def _again(self, claimants: set[int]) -> None:
        for claimant in sorted(claimants):
            hold = self._holds[claimant]
            before = hold.state
            self._settle(hold)
            if hold.state != before:
                self.changed[claimant] = None

    # --- one tunnel -------------------------------------------------------------------------------------------------------

    def _settle(self, hold: _Hold) -> None:
        """What it is now, and what must be claimed for it."""
        node = self.node
        interface = self._interface(hold)
        rows: dict[Slot, Any] = {}
        key: SaKey | None = None
        if interface and not node.tunnels[interface].remote:
            rows[Slot(EndpointOffered, "", (interface, hold.overlay))] = EndpointRow(hold.nbma)
            state = self._adjacency(interface, AdjacencyKey(interface, hold.overlay), hold.nbma)
        elif interface:
            state = self._adjacency(interface, AdjacencyKey(interface), hold.nbma)
        else:
            key, state = self._template(hold, rows)
        node.claims.hold(hold.number, rows)
        hold.state = state
        routes = self._routes(hold) if hold.route and state.usable else {}
        node.claims.hold(hold.routes, routes)
        names = {hold.interface, state.interface}
        if key is None and not interface:
            names.add("")  # any interface that comes may be the one
        self._watch(hold, frozenset(names), key)

    def _interface(self, hold: _Hold) -> str:
        """The interface that exists for it without IKEv2 being asked: the multipoint one, or one whose far end it is."""
        node = self.node
        tunnel = node.tunnels.get(hold.interface)
        if tunnel is not None and not tunnel.remote:
            return hold.interface
        if tunnel is not None and tunnel.remote == hold.nbma and not self.made(hold.interface):
            return hold.interface
        if hold.build and self._template_of(hold):
            return ""
        if tunnel is not None and tunnel.remote == hold.nbma:
            return hold.interface
        network = node.network(hold.interface)
        return next((name for name in node.members(network) if self._ends_at(name, hold.nbma)), "") if network else ""

    def _ends_at(self, name: str, nbma: bytes) -> bool:
        tunnel = self.node.tunnels.get(name)
        return tunnel is not None and tunnel.remote == nbma

    def made(self, name: str) -> bool:
        """Whether IKEv2 has made it; then it goes when nobody wants it."""
        interface = self.node.interfaces.get(name)
        parent = self.node.interfaces.get(interface.row.parent) if interface is not None else None
        return parent is not None and parent.row.kind is InterfaceKind.TEMPLATE

    def _template_of(self, hold: _Hold) -> str:
        families = self.node.nhrp(hold.interface).families
        size = len(hold.overlay)
        for afi, family in families.items():
            if family.virtual_template is not None and (size == 4) == (afi == 1):
                return f"Virtual-Template{family.virtual_template}"
        return ""

    def _template(self, hold: _Hold, rows: dict[Slot, Any]) -> tuple[SaKey | None, Reached]:
        """By a virtual-access interface that IKEv2 makes of a template."""
        node = self.node
        name = self._template_of(hold) if hold.build else ""
        if not name:
            return None, Reached("", usable=False, reason="nothing makes a tunnel to it: no shortcut virtual-template")
        template, tunnel = node.interfaces.get(name), node.tunnels.get(hold.interface)
        if template is None:
            return None, Reached("", usable=False, reason=f"there is no interface {name}")
        if not template.row.protection:
            return None, Reached("", usable=False, reason=f"{name} has no tunnel protection, so nobody can be called")
        if tunnel is None:
            return None, Reached("", usable=False, reason=f"{hold.interface} has no source")
        key = SaKey(name, hold.nbma)
        rows[Slot(SaWanted, "", key)] = SaRequest(template.row.protection, tunnel.local, hold.nbma, tunnel.vrf)
        row = node.sas.get(key)
        if row is None or not row.up or not row.access:
            reason = row.reason if row is not None and row.reason else "a security association is being made"
            return key, Reached(row.access if row is not None else "", usable=False, reason=reason, coming=True)
        return key, self._adjacency(row.access, AdjacencyKey(row.access), hold.nbma)

    def _adjacency(self, name: str, key: AdjacencyKey, nbma: bytes) -> Reached:
        interface, row = self.node.interfaces.get(name), self.node.adjacencies.get(key)
        if interface is None or not interface.up:
            # Not there yet, where IKEv2 has only just named it; whoever waits for it sets a limit of his own.
            return Reached(name, usable=False, reason=f"{name} is down", coming=True)
        if row is None:
            return Reached(name, usable=False, reason="no adjacency yet", coming=True)
        if row.transport and row.transport != nbma:
            return Reached(name, usable=False, reason="the adjacency leads elsewhere", coming=True)
        return Reached(name, row.usable, row.reason, coming=not row.usable)

    def _routes(self, hold: _Hold) -> dict[Slot, Any]:
        """The host route to the overlay address, and implicit null where labels are taken: the far end is the next hop."""
        node, name = self.node, hold.state.interface
        vrf, prefix = node.vrf(name), Prefix.host(hold.overlay)
        if not hold.overlay or node.is_own(vrf, hold.overlay):
            return {}
        via = Via(address=hold.overlay, interface=name, vrf=vrf)
        route = Route(DISTANCE, (via,), "nhrp", override=True)
        rows: dict[Slot, Any] = {Slot(RouteOffered, vrf, prefix): route}
        if node.mpls(name):
            rows[Slot(BindingOffered, "", (vrf, prefix, hold.overlay))] = IMPLICIT_NULL
        return rows

    def _watch(self, hold: _Hold, names: frozenset[str], key: SaKey | None) -> None:
        """Whose changes make it look again."""
        old_names, old_key = self._watched.pop(hold.claimant, (frozenset[str](), None))
        for name in old_names - names:
            _discard(self._by_interface, name, hold.claimant)
        for name in names - old_names:
            self._by_interface.setdefault(name, set()).add(hold.claimant)
        if old_key is not None and old_key != key:
            _discard(self._by_sa, old_key, hold.claimant)
        if key is not None:
            self._by_sa.setdefault(key, set()).add(hold.claimant)
        if names or key is not None:
            self._watched[hold.claimant] = (names, key)

    def __len__(self) -> int:
        return len(self._holds)


def _discard(index: dict[Any, set[int]], key: Any, claimant: int) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(claimant)
        if not members:
            del index[key]
